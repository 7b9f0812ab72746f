//! Boot and shutdown: how the tasks come to stand, and how they go.
//!
//! Owns: carrying again what is not known carried, starting every task in order, and
//! draining them.
//! Never: consumes before what was written is on its way again, or opens the lanes on a ledger that
//! cannot be written.
//! Holds: at shutdown nothing new is taken, what was taken is finished within `drain_timeout_ms`,
//! and what is not finished by then is carried at the next boot.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    acks::Acks,
    answer::About,
    asker::Asker,
    corridor::Corridor,
    depths::{Depths, KnownDepths},
    dispatch::{Dispatch, Job, Report, tracker::Tracker},
    emergency::{self, Clearer, Emergency},
    host::{self, Host},
    intake::Intake,
    judge::{self, Bounds, BusSide, LaneInboxes, LedgerSide, Memory, Router},
    link::{Connector, Link},
    mark::{self, Marked, Marker},
    mover::{Mover, Moves, UnboundTo},
    opening::{self, Begun, Opening},
    presence::{Hindrance, Presence},
    recorder::{FIRST_ATTEMPT, GivenUp, Recorder, Recovery, Unwritten},
    tally::Tally,
    topology,
};
pub use super::{boot_error::BootError, setup::Setup};
use crate::{
    clock,
    contract::{audit::Mode, lane::Lane, secrets, timestamp::Timestamp},
    decision::{request::Done, state::State},
    ledger::Ledger,
};

/// How many rounds may wait at the recorder: one being committed, one ready.
const ROUNDS_WAITING_MAX: usize = 1;
/// How many batches of a lane may wait at the router.
const BATCHES_WAITING_MAX: usize = 4;
/// How many metrics are read, or published, in one go.
const METRICS_BITE_MAX: usize = 32;
/// How many reports may wait at the router.
const REPORTS_WAITING_MAX: usize = 64;

/// A running router.
pub struct Running {
    asker: Asker,
    stopping: CancellationToken,
    drain_timeout: Duration,
    link: Link,
    keeper: JoinHandle<()>,
    watch: JoinHandle<()>,
    marker: JoinHandle<Marker>,
    intakes: Vec<JoinHandle<()>>,
    router: JoinHandle<Corridor>,
    recorder: JoinHandle<Option<Ledger>>,
    ways: Vec<JoinHandle<()>>,
    /// Comes when the emergency log's file is let go of.
    emergency: oneshot::Receiver<()>,
}

/// The link to the broker and what hangs on it.
struct Linked {
    link: Link,
    /// The task that keeps it up.
    keeper: JoinHandle<()>,
    /// The task that writes the ledger's marks.
    marker: JoinHandle<Marker>,
    /// Where the tasks outside the router say what they find.
    done: mpsc::Sender<Done>,
    findings: mpsc::Receiver<Done>,
}

/// The lanes' intakes, and what the router has of them.
struct Intakes {
    open: watch::Sender<bool>,
    lanes: LaneInboxes,
    tasks: Vec<JoinHandle<()>>,
}

/// The emergency log's two ends, and the word that it is over.
type Keeper = (Emergency, Clearer, oneshot::Receiver<()>);

/// Opens the ledger and starts every task. Where an old ledger can be read and not be written the
/// router starts all the same: only stop and tightening pass until it can.
///
/// # Errors
/// When the ledger or the emergency log is locked by another router, damaged, or cannot be read, a
/// ledger cannot be begun, or it is of another mode or environment.
pub async fn start(setup: Setup) -> Result<Running, BootError> {
    // On the heap: what is on the way here would be copied through the stack of everybody who
    // awaits it.
    let begun = Box::pin(opening::open(&setup)).await?;
    setup.telemetry.health.set_ledger(begun.opening.refused.is_none());
    Box::pin(start_tasks(setup, begun)).await
}

/// Starts the thread that owns the emergency log from now on.
fn keep(setup: &Setup, log: emergency::Log, shared: &Arc<mark::SharedMark>) -> Result<Keeper, BootError> {
    let timeout = Duration::from_millis(setup.emergency_timeout_ms);
    emergency::start(log, timeout, Arc::clone(&setup.telemetry), Arc::clone(shared))
        .map_err(BootError::Thread)
}

/// Takes the jobs out whose commands may end by what was found: they leave once that was judged.
fn held_back(found: &[Done], jobs: &mut Vec<Job>) -> Vec<Job> {
    // A latch that was thrown while no router ran; a set-back ends what the older copy takes for
    // under way.
    if !found.iter().any(|done| matches!(done, Done::Latched(_) | Done::SetBack(_))) {
        return Vec::new();
    }
    let (left, first) =
        std::mem::take(jobs).into_iter().partition(|job| job.messages.iter().any(|message| message.ends));
    *jobs = first;
    left
}

/// What leaves first is on its way, and what is held back is not.
fn memory_of(found: &[Done], jobs: &mut Vec<Job>) -> Memory {
    let left = held_back(found, jobs);
    let mut tracker = Tracker::default();
    jobs.iter_mut().for_each(|job| tracker.begin(job));
    Memory::with_jobs(tracker, left)
}

/// Where the first commit was refused, the router gets that before anything else.
async fn tell_failed(
    mut opening: Opening,
    setup: &Setup,
    recovery: &mpsc::Sender<Recovery>,
) -> (Opening, Option<Unwritten>) {
    let Some((owed, unwritten)) = opening.refused.take() else { return (opening, None) };
    let state = std::mem::replace(&mut opening.durable, Box::new(State::new(setup.rules.clone())));
    let chain = opening.chain;
    // The attempt that the recorder begins with too, where the ledger could not be written.
    let _ = recovery.send(Recovery::Failed { attempt: FIRST_ATTEMPT + 1, state, chain, owed }).await;
    (opening, Some(unwritten))
}

async fn start_tasks(setup: Setup, begun: Begun) -> Result<Running, BootError> {
    let (asker, questions) = begun.asking;
    let Begun { opening, corridor, clock, log, mut jobs, mark, reader, .. } = begun;
    let (emergency, clearer, emergency_ended) = keep(&setup, log, &mark.1)?;
    let stopping = CancellationToken::new();
    let Linked { link, keeper, marker, done, findings } =
        start_link(&setup, &corridor, &stopping, mark, begun.findings.clone()).await;
    let (report, reports) = mpsc::channel(REPORTS_WAITING_MAX);
    let (dispatch, ways) = start_ways(&setup, &link, &report);
    let (commit, commits) = mpsc::channel(ROUNDS_WAITING_MAX);
    let (recovery, recoveries) = mpsc::channel(2);
    let intakes = start_intakes(&setup, &link, &stopping, opening.refused.is_none());
    let (Opening { ledger, chain, durable, .. }, unwritten) = tell_failed(opening, &setup, &recovery).await;
    let memory = memory_of(&begun.findings, &mut jobs);
    let recorder = Recorder {
        ledger,
        commit_timeout: Duration::from_millis(setup.commit_timeout_ms),
        chain,
        durable,
        emergency: clearer,
        rules: setup.rules.clone(),
        names: setup.names.clone(),
        commits,
        recoveries: recovery,
        reports: report,
        given_up: GivenUp::default(),
        first: jobs,
        unwritten,
        dispatch: dispatch.clone(),
        acks: Acks::new(link.clone(), Arc::clone(&setup.telemetry), &setup.consumers),
        telemetry: Arc::clone(&setup.telemetry),
    };
    let (host, watch) = start_host(&setup, &asker, &stopping, done);
    let router = Router {
        memory,
        done: findings,
        host,
        about: about(&setup, &link, &stopping, clock.now()),
        questions,
        ticker: judge::ticker(),
        corridor,
        clock,
        ledger: LedgerSide { recorder: commit, recoveries, emergency, reader },
        bus: BusSide {
            lanes: intakes.lanes,
            dispatch,
            reports,
            open: intakes.open,
            standing: link.watch(),
            link: link.clone(),
        },
        bounds: Bounds { entries_max: setup.batch_entries_max, bytes_max: setup.batch_bytes_max },
        telemetry: setup.telemetry,
        stopping: stopping.clone(),
    };
    Ok(Running {
        stopping,
        asker,
        drain_timeout: Duration::from_millis(setup.drain_timeout_ms),
        link,
        keeper,
        watch,
        marker,
        intakes: intakes.tasks,
        router: tokio::spawn(router.run()),
        recorder: tokio::spawn(recorder.run()),
        ways,
        emergency: emergency_ended,
    })
}

/// The ways out.
fn start_ways(setup: &Setup, link: &Link, report: &mpsc::Sender<Report>) -> (Dispatch, Vec<JoinHandle<()>>) {
    let (refused, commands) = (&setup.names.refused, &setup.contract.commands);
    Dispatch::start(&setup.publishing, link, report, refused, commands, &setup.telemetry)
}

/// Starts the link to the broker; what was found at the opening is the first that the router takes.
async fn start_link(
    setup: &Setup,
    corridor: &Corridor,
    stopping: &CancellationToken,
    (file, shared): mark::AtBoot,
    found: Vec<Done>,
) -> Linked {
    let (done, findings) = mpsc::channel(host::FINDINGS_WAITING_MAX);
    // Before everything else: nothing is judged by settings that were not compared.
    let _ = done.send(Done::Opened).await;
    for finding in found {
        // Nothing is judged before it either.
        let _ = done.send(finding).await;
    }
    let (inner, prefix) = (Arc::clone(&setup.connector), setup.mark_prefix.clone());
    let connector: Arc<dyn Connector> = match prefix.clone() {
        Some(prefix) => Arc::new(Marked {
            inner,
            prefix,
            shared: Arc::clone(&shared),
            done: done.clone(),
            has_looked: AtomicBool::new(false),
        }),
        None => inner,
    };
    let ledger_id = corridor.state().genesis().map(|genesis| genesis.ledger_id.clone()).unwrap_or_default();
    let telemetry = Arc::clone(&setup.telemetry);
    let settings = setup.presence.clone();
    let presence = settings.map(|settings| Presence::new(settings, ledger_id, Arc::clone(&telemetry)));
    let topology = setup.topology.clone();
    let (link, keeper) =
        Link::start(connector, (topology, setup.aside.clone()), presence, telemetry, stopping.clone());
    let marker = Marker {
        file,
        writing: None,
        is_said: false,
        shared,
        prefix,
        link: link.clone(),
        stopping: stopping.clone(),
    };
    Linked { link, keeper, marker: tokio::spawn(marker.run()), done, findings }
}

/// What the broker would have dropped comes back, and what an earlier release left is moved. Nobody
/// waits for their end.
fn start_movers(setup: &Setup, link: &Link, stopping: &CancellationToken) {
    let names = &setup.names;
    let of = |name: &str| setup.topology.queues.iter().find(|queue| queue.name == name).cloned();
    let dead = of(&names.dead).map(|queue| (queue, names.returned.clone(), Moves::Dropped));
    let retired = setup.retired_refused.clone();
    let retired = retired.map(|queue| (queue, names.refused.clone(), Moves::Retired));
    // The urgent lane's queue is the first.
    let unbound = of(&names.unbound).zip(setup.topology.queues.first().cloned()).map(|(queue, lane)| {
        let to = UnboundTo { lane, names: names.clone() };
        (queue, names.moved.clone(), Moves::Unbound(Box::new(to)))
    });
    for (from, to, moves) in dead.into_iter().chain(retired).chain(unbound) {
        let (link, stopping) = (link.clone(), stopping.clone());
        let mover = Mover { from, to, moves, link, telemetry: Arc::clone(&setup.telemetry), stopping };
        tokio::spawn(mover.run());
    }
}

/// The host of a router, which tells what it finds, and its watch.
fn start_host(
    setup: &Setup,
    asker: &Asker,
    stopping: &CancellationToken,
    done: mpsc::Sender<Done>,
) -> (Host, JoinHandle<()>) {
    let host = Host {
        ledger_dir: setup.ledger_dir.clone(),
        config: Arc::clone(&setup.config),
        asker: asker.clone(),
        done,
        telemetry: Arc::clone(&setup.telemetry),
        again: Arc::default(),
        bundles: Arc::new(Semaphore::new(setup.config.commands.bundles_max)),
        bundling: Arc::default(),
        stopping: stopping.clone(),
    };
    let watch = tokio::spawn(host.clone().watch());
    (host, watch)
}

/// How many messages of a lane are taken at a time: of each lane there is room for one such batch
/// in a round. One thread does all the work, and metrics come by the thousand: in smaller bites, so
/// that a command never waits behind many of them.
fn batch_count_max(setup: &Setup, lane: Lane) -> usize {
    let share = (setup.batch_entries_max / Lane::ALL.len()).max(1);
    match lane {
        Lane::Metrics => METRICS_BITE_MAX.min(share),
        _ => share,
    }
}

/// What the router's status has of itself, and the task that looks how deep its queues are.
fn about(setup: &Setup, link: &Link, stopping: &CancellationToken, started_at: Timestamp) -> About {
    let (names, full_every_ms) = (&setup.names, setup.config.status.full_every_ms);
    let lanes = setup.consumers.iter().map(|(_, queue, _)| queue.as_str());
    let into: Vec<&str> = lanes.chain([names.dead.as_str(), names.unbound.as_str()]).collect();
    let (known, depths) = watch::channel(KnownDepths::new());
    // Nobody hears of them from a router that only looks.
    if setup.rules.mode == Mode::Enforce {
        let queues = setup.topology.queues.iter().map(|queue| queue.name.clone()).collect();
        // What is said is never older than half of the time between two.
        let every = Duration::from_millis(full_every_ms / 2);
        let looking = Depths {
            queues,
            every,
            link: link.clone(),
            known,
            refused: topology::refused_queue(&setup.config.amqp.prefix),
            telemetry: Arc::clone(&setup.telemetry),
            stopping: stopping.clone(),
        };
        tokio::spawn(looking.run());
    }
    // Settings are plain data, and none of their forms can fail.
    let mut config = serde_json::to_value(&*setup.config).unwrap_or_default();
    secrets::names::mask(&mut config);
    About {
        environment: setup.environment.clone(),
        config,
        queues: json!({ "in": into, "out": [names.out, names.refused, names.returned, names.moved], "routes": [names.into] }),
        depths,
        full_every_ms,
        started_at,
        survey: setup.survey.clone(),
    }
}

/// One intake a lane that has a queue, and what brings messages to their queues; `open` shuts all
/// but the urgent one, from the beginning where they are not `open_first`.
fn start_intakes(setup: &Setup, link: &Link, stopping: &CancellationToken, open_first: bool) -> Intakes {
    start_movers(setup, link, stopping);
    let (opens, open) = watch::channel(open_first);
    // Its sender is gone at once: nobody can shut the lane that stops come by.
    let always = watch::channel(true).1;
    let mut tasks = Vec::new();
    if let Some(names) = setup.observing.clone() {
        let (link, telemetry) = (link.clone(), Arc::clone(&setup.telemetry));
        let tally = Tally { names, link, telemetry, stopping: stopping.clone() };
        tasks.push(tokio::spawn(tally.run()));
    }
    let inboxes = Lane::ALL.map(|lane| {
        let (into, inbox) = mpsc::channel(BATCHES_WAITING_MAX);
        // Without a queue nobody has the other end: the inbox counts as closed, and a router that
        // stops does not wait for it.
        if let Some((_, queue, prefetch_count)) = setup.consumers.iter().find(|(of, _, _)| *of == lane) {
            let intake = Intake {
                lane,
                queue: queue.clone(),
                retired: setup.retired.iter().find(|(of, _)| *of == lane).map(|(_, queue)| queue.clone()),
                names: setup.names.clone(),
                prefetch_count: *prefetch_count,
                batch_count_max: batch_count_max(setup, lane),
                contract: Arc::clone(&setup.contract),
                link: link.clone(),
                telemetry: Arc::clone(&setup.telemetry),
                into,
                open: if lane == Lane::Urgent { always.clone() } else { open.clone() },
                only_looks: setup.observing.is_some(),
                stopping: stopping.clone(),
            };
            tasks.push(tokio::spawn(intake.run()));
        }
        inbox
    });
    Intakes { open: opens, lanes: LaneInboxes(inboxes), tasks }
}

impl Running {
    /// Asks the router's task.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Waits for a fault of the broker's that a person has to mend before this router can begin;
    /// for ever once it has.
    pub async fn hopeless(&self) -> Arc<Hindrance> {
        self.link.hopeless().await
    }

    /// The link to the broker.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Ends every task where it stands, as a crash would: for a router that never began, and for
    /// simulations and drills.
    pub async fn kill(self) {
        let Self { keeper, watch, marker, intakes, router, recorder, ways, emergency, .. } = self;
        watch.abort();
        marker.abort();
        router.abort();
        recorder.abort();
        keeper.abort();
        for task in intakes.iter().chain(&ways) {
            task.abort();
        }
        // Waited for, so that the locks of ledger and emergency log are free when the next router
        // comes.
        let _ = router.await;
        let _ = recorder.await;
        let _ = emergency.await;
        let _ = keeper.await;
        for task in intakes.into_iter().chain(ways) {
            let _ = task.await;
        }
    }

    /// Takes nothing new, finishes what was taken within the drain timeout, and gives back the
    /// corridor as it stood where it could be finished in time.
    pub async fn stop(self) -> Option<Corridor> {
        self.stopping.cancel();
        let last = self.link.now();
        let drained = tokio::time::timeout(self.drain_timeout, async {
            // In this order: each task ends once those before it hand on no more.
            for intake in self.intakes {
                let _ = intake.await;
            }
            let corridor = self.router.await.ok();
            let ledger = self.recorder.await.ok().flatten();
            for way in self.ways {
                let _ = way.await;
            }
            // After the last commit: the mark names its entry.
            if let Ok(marker) = self.marker.await {
                marker.last().await;
            }
            if let Some(ledger) = ledger {
                ledger.close().await;
            }
            let _ = self.emergency.await;
            corridor
        })
        .await;
        if drained.is_err() {
            warn!("not everything was finished in time; what is left is carried at the next boot");
        }
        if let Some(connected) = last {
            let _ = tokio::time::timeout(Duration::from_secs(1), connected.bus.close()).await;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), self.keeper).await;
        info!(at = %clock::wall(), "stopped");
        drained.ok().flatten()
    }
}
