//! The router: the one narrow task that judges every envelope in turn.
//!
//! Owns: the corridor (state and chain), and the batches that are committed together. What it takes
//! up at a time is in `round`.
//! Never: writes to the ledger or the broker itself; recorder and dispatch do.
//! Holds: within a round the urgent lane is judged first; facts are applied in the order they are
//! sealed.

mod failure;
mod gauges;
mod round;
mod time;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use round::Round;
pub(super) use round::{Bounds, LaneInboxes, ticker};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    answer::{About, AnswerView},
    ask::PendingQuestion,
    corridor::{Corridor, Judged, Kept},
    dispatch::{
        Dispatch, Job, Outbound, Report, Trouble, Withdrawn,
        tracker::{Done as Finished, Tracker},
    },
    emergency::Emergency,
    host::Host,
    intake::{Arrivals, Incoming},
    link::{Connected, Settlement},
    recorder::{Commit, Recovery},
    replay,
};
use crate::clock::Clock;
use crate::{
    contract::{
        audit::{Action, Carried, Change},
        interlock::Life,
        lane::Lane,
        routing::Scope,
        schema::{STATUS_DELTA, STATUS_FULL},
        timestamp::Timestamp,
    },
    decision::{
        effect::Effect,
        request::{BrokerReport, Done, NotTaken, Request, Returned},
        state::Belief,
    },
    ledger::{Batch, Outgoing, Parcel, chain::Sealed, emergency::Record, query::Reader},
    telemetry::Telemetry,
};

/// How long an entry may take to be read again, and how long nothing is read after one that took
/// longer: a disk that hangs must hold no stop.
const RECALL_TIMEOUT: Duration = Duration::from_millis(250);
const RECALL_REST: Duration = Duration::from_secs(10);
/// How many ended commands' outcomes are at hand without asking the ledger, and how large they may
/// be together.
const RECENT_OUTCOMES_MAX: usize = 4096;
const RECENT_OUTCOMES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many facts may wait in memory while the ledger cannot be written, and how large they and
/// their parcels may be together; beyond, the oldest stay and the rest is said in the log only.
const UNWRITTEN_FACTS_MAX: usize = 100_000;
const UNWRITTEN_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many due matters one round takes up; the rest is due in the next.
const DUE_PER_ROUND_MAX: usize = 512;

/// Everything the router works with.
pub(super) struct Router {
    pub corridor: Corridor,
    pub clock: Clock,
    pub ledger: LedgerSide,
    pub bus: BusSide,
    pub host: Host,
    /// What the host has seen or done.
    pub done: mpsc::Receiver<Done>,
    /// What those who look in want to know.
    pub questions: mpsc::Receiver<PendingQuestion>,
    pub about: About,
    /// When the router says its own status.
    pub ticker: tokio::time::Interval,
    pub bounds: Bounds,
    pub telemetry: Arc<Telemetry>,
    pub stopping: CancellationToken,
    pub memory: Memory,
}

/// The ways to the ledger, and from it.
pub(super) struct LedgerSide {
    pub recorder: mpsc::Sender<Commit>,
    pub recoveries: mpsc::Receiver<Recovery>,
    /// Where what the ledger cannot take is written meanwhile.
    pub emergency: Emergency,
    pub reader: Reader,
}

/// The ways to the broker, and from it.
pub(super) struct BusSide {
    pub lanes: LaneInboxes,
    pub dispatch: Dispatch,
    pub reports: mpsc::Receiver<Report>,
    /// Whether the lanes other than urgent may consume.
    pub open: watch::Sender<bool>,
    pub link: super::link::Link,
    /// Wakes the router when the connection stands or is gone.
    pub standing: watch::Receiver<Option<Connected>>,
}

/// What the router keeps at hand besides the corridor.
#[derive(Default)]
pub(super) struct Memory {
    /// Jobs handed on and not yet done, and messages that were set aside.
    tracker: Tracker,
    /// What a router before this one left, and what the first round may end: a latch that was
    /// thrown since, or a set-back.
    left: Vec<Job>,
    /// Which attempt at the ledger is running; a failed one is never added to.
    attempt: u64,
    recent: VecDeque<(u64, Bytes)>,
    recent_bytes: usize,
    /// Entries that could not be written: `Some` while the ledger cannot be.
    unwritten: Option<Vec<Record>>,
    /// How large they are; beyond all bounds once one of them was lost.
    unwritten_bytes: usize,
    /// Parcels of the outbox that were carried meanwhile.
    unbooked: Vec<u64>,
    /// Openings of a lane's consumer up to this one are void.
    void: [u64; 4],
    seen: [u64; 4],
    /// Since when there is no broker, as far as a round has seen it.
    away_since: Option<Timestamp>,
    /// Until when no entry is read again, because the last one took too long.
    recall_rests_until: Option<Instant>,
    /// Until when what waited during an outage may take to be judged.
    catching_up: Option<Timestamp>,
    /// When the router last said its status in full, and whether it knew the depths of its queues
    /// then.
    reported: Option<(Timestamp, bool)>,
    /// The clock was looked at once.
    compared: bool,
    /// When it was last asked whether anything holds up what is on its way.
    asked_at: Timestamp,
}

impl Memory {
    /// The memory of a router that begins with jobs already handed on, and with what is `left`
    /// until the first round.
    pub fn with_jobs(tracker: Tracker, left: Vec<Job>) -> Self {
        Self { tracker, left, ..Self::default() }
    }

    /// Keeps the outcome in entry `seq` at hand, and lets go of the oldest where there are too
    /// many.
    fn remember(&mut self, seq: u64, outcome: &str) {
        self.recent.push_back((seq, Bytes::copy_from_slice(outcome.as_bytes())));
        self.recent_bytes += outcome.len();
        while self.recent.len() > RECENT_OUTCOMES_MAX || self.recent_bytes > RECENT_OUTCOMES_BYTES_MAX {
            let Some((_, oldest)) = self.recent.pop_front() else { return };
            self.recent_bytes -= oldest.len();
        }
    }
}

/// What a round leaves to be written and carried.
#[derive(Default)]
struct Outcome {
    sealed: Vec<Sealed>,
    jobs: Vec<Job>,
    /// Commands that are to leave no more.
    withdrawn: Withdrawn,
    /// Whose starts were overtaken.
    overtaken: Vec<Scope>,
    settlements: Vec<Settlement>,
    parcels: Vec<Parcel>,
    parcels_replaced: Vec<Parcel>,
    parcels_done: Vec<u64>,
}

impl Outcome {
    /// Packs the messages of each job that has no parcel yet.
    fn pack(&mut self) {
        for job in self.jobs.iter_mut().filter(|job| job.parcel.is_none()) {
            let Some(mut parcel) = job.pack() else { continue };
            // A challenge leaves because of the entry whose parcel keeps the challenged command.
            // The entry after that is the same decision's, and is nobody else's parcel.
            while self.parcels.iter().any(|other| other.id == parcel.id) {
                parcel.id += 1;
            }
            job.parcel = Some(parcel.id);
            self.parcels.push(parcel);
        }
    }
}

impl Router {
    /// Judges until every lane is closed and everything handed on is done, or `drained` runs out of
    /// patience.
    pub async fn run(mut self) -> Corridor {
        loop {
            let mut round = self.wait().await;
            if round.idle {
                break;
            }
            if let Some(recovery) = round.recovery.take() {
                self.recover(recovery).await;
            }
            // Room at the recorder first, then as many as are ready by then: rounds grow with the
            // load. While the ledger cannot be written the recorder commits nothing, and no round
            // waits for it.
            let permit = match self.memory.unwritten {
                None => match self.room(&mut round).await {
                    Some(permit) => Some(permit),
                    None => break,
                },
                Some(_) => None,
            };
            self.gather(&mut round);
            let outcome = self.judge(round).await;
            self.hand_on(outcome, permit).await;
        }
        let sealed = self.corridor.close(self.clock.now());
        if self.memory.unwritten.is_some() {
            self.close_unwritten(sealed).await;
        } else if !sealed.is_empty() {
            let batch = Batch { entries: sealed, ..Batch::default() };
            let _ = self.ledger.recorder.send(self.commit(batch, Vec::new(), Vec::new())).await;
        }
        self.corridor
    }

    /// Judges a round, lane by lane.
    async fn judge(&mut self, round: Round) -> Outcome {
        let mut outcome = Outcome { sealed: Vec::with_capacity(round.count), ..Outcome::default() };
        let now = self.clock.now();
        self.resume(now, &mut outcome);
        // Before what has arrived: a latch or a set-back counts for that.
        self.take_in(round.done, &mut outcome);
        // The first round has taken in what was found at the start.
        if self.memory.unwritten.is_none() && !self.memory.left.is_empty() {
            let ended = self.corridor.state().ended_seqs();
            for mut job in std::mem::take(&mut self.memory.left) {
                // They waited, for longer than one round where the ledger could not be written.
                job.withdraw(|message| replay::has_ended(message, &ended, self.corridor.state()));
                job.hold(self.corridor.state(), now);
                outcome.jobs.push(job);
            }
        }
        self.due(now, &mut outcome);
        self.answer(round.reports, &mut outcome);
        if round.ticks || !self.memory.compared {
            // Before anything is judged at all, too.
            self.memory.compared = true;
            self.compare_clocks(&mut outcome);
        }
        if round.ticks {
            self.report(STATUS_DELTA, &mut outcome);
        }
        self.telemetry.metrics.round(round.count);
        for arrivals in round.arrivals {
            let lane = arrivals.lane;
            self.telemetry.metrics.unbuffered(lane, arrivals.incoming.len());
            if let Some(opening) = self.memory.seen.get_mut(lane as usize) {
                *opening = arrivals.opening;
            }
            // It went back to its queue while it was on its way here, and comes again.
            if self.memory.void.get(lane as usize).is_some_and(|void| arrivals.opening <= *void) {
                continue;
            }
            if self.memory.unwritten.is_some() && lane != Lane::Urgent {
                // Taken before the lane was shut: it waits in its queue like the rest.
                self.void(lane, arrivals.opening).await;
                continue;
            }
            let job = self.judge_lane(arrivals, &mut outcome).await;
            outcome.jobs.push(job);
        }
        // What the arrivals set free leaves in the same round.
        self.due(self.clock.now(), &mut outcome);
        self.take_back(&mut outcome).await;
        self.gauge(round.ticks);
        outcome
    }

    /// Judges what came by one lane into one job.
    async fn judge_lane(&mut self, arrivals: Arrivals, outcome: &mut Outcome) -> Job {
        let Arrivals { lane, opening, incoming } = arrivals;
        let mut job = Job { lane, opening, ..Job::default() };
        for Incoming { arrival, message, tag } in incoming {
            let now = self.clock.now();
            let decision = self.corridor.decide(&Request::Arrived(arrival), now);
            self.telemetry.decided(lane, &decision, &message);
            if let Some(survey) = &self.about.survey {
                survey.learn(&message, &decision, now).await;
            }
            let again = decision.effects.iter().find_map(|effect| match effect {
                Effect::Repeat { of, .. } => Some(*of),
                _ => None,
            });
            let recalled = match again {
                Some(of) => self.recall(of).await,
                None => None,
            };
            let judged = self.corridor.settle(decision, Some(message), recalled);
            job.tag = Some(tag);
            job.messages.extend(self.keep(judged, outcome).messages);
        }
        job
    }

    /// Keeps what a decision leaves for the batch, and ended commands' outcomes at hand. Returns
    /// the messages that leave at once.
    fn keep(&mut self, judged: Judged, outcome: &mut Outcome) -> Job {
        self.telemetry.metrics.steps(&judged.steps);
        let overtaken = judged.decision.beliefs.iter().filter_map(|belief| match belief {
            Belief::Overtaken(scope) => Some(scope.clone()),
            _ => None,
        });
        outcome.overtaken.extend(overtaken);
        for entry in judged.sealed {
            if matches!(
                entry.entry.fact.action,
                Action::Applied | Action::Challenged | Action::Denied | Action::Ended
            ) && let Some(payload) = &entry.entry.fact.payload
            {
                self.memory.remember(entry.entry.seq, payload.text());
            }
            if let Change::Stepped(stepped) = &entry.entry.fact.change {
                self.clock.step(stepped.to);
                self.about.started_at = self.about.started_at.min(stepped.to);
            }
            outcome.sealed.push(entry);
        }
        let kept = judged.held.iter().map(|held| Parcel::keep(held.parcel, held.lane, &held.outgoing));
        outcome.parcels.extend(kept);
        outcome.parcels_done.extend(judged.dropped);
        if judged.reports {
            self.report(STATUS_FULL, outcome);
        }
        judged.errands.into_iter().for_each(|errand| self.host.send(errand));
        // Each leaves under its own parcel, which is there until it is carried.
        let state = self.corridor.state();
        let refused = &self.corridor.names().refused;
        let now = self.clock.now();
        let outbound = |outgoing: Outgoing| Outbound::of(outgoing, state, refused, now);
        outcome.jobs.extend(judged.released.into_iter().map(|Kept { parcel, lane, outgoing }| Job {
            lane,
            parcel: Some(parcel),
            messages: vec![outbound(outgoing)],
            ..Job::default()
        }));
        Job { messages: judged.outgoing.into_iter().map(outbound).collect(), ..Job::default() }
    }

    /// The body of the outcome in entry `of`.
    async fn recall(&mut self, of: u64) -> Option<Bytes> {
        // In the order of their entries; where numbers begin anew `rebuild` has emptied it.
        let at_hand = self.memory.recent.binary_search_by_key(&of, |(seq, _)| *seq);
        if let Some((_, body)) = at_hand.ok().and_then(|index| self.memory.recent.get(index)) {
            return Some(body.clone());
        }
        let rests = self.memory.recall_rests_until.is_some_and(|until| Instant::now() < until);
        if rests || self.memory.unwritten.is_some() {
            return None;
        }
        let Ok(read) = timeout(RECALL_TIMEOUT, self.ledger.reader.entry(of)).await else {
            warn!(seq = of, "the ledger does not answer; its repeat gets no outcome");
            self.memory.recall_rests_until = Some(Instant::now() + RECALL_REST);
            return None;
        };
        match read {
            Ok(Some(found)) => {
                found.entry.fact.payload.map(|payload| Bytes::copy_from_slice(payload.text().as_bytes()))
            }
            Ok(None) => None,
            Err(fault) => {
                warn!(seq = of, error = %fault, "an outcome could not be read again; its repeat gets no answer");
                None
            }
        }
    }

    /// Takes the ways' reports: one fact for all of them.
    fn answer(&mut self, reports: Vec<Report>, outcome: &mut Outcome) {
        let mut finished = Finished::default();
        for report in reports {
            self.memory.tracker.take(report, &mut finished);
        }
        let Finished { spans, returned, given_up, returned_signals, parcels, replaced, settlements, refused } =
            finished;
        outcome.parcels_done.extend(parcels);
        outcome.parcels_replaced.extend(replaced);
        outcome.settlements.extend(settlements);
        if spans.is_empty() && returned.is_empty() && given_up.is_empty() && refused.is_empty() {
            return;
        }
        let answer = BrokerReport {
            carried: Carried { spans, returned, given_up },
            returned: returned_signals.iter().map(back).collect(),
            not_taken: refused.into_iter().map(not_taken).collect(),
        };
        let now = self.clock.now();
        let decision = self.corridor.decide(&Request::Answered(answer), now);
        let judged = self.corridor.settle_answer(decision, returned_signals);
        let job = self.keep(judged, outcome);
        if !job.messages.is_empty() {
            // By the way of what it says to signals: there is one order for all its own.
            outcome.jobs.push(Job { lane: Lane::Signals, ..job });
        }
    }

    /// Takes back what may still leave and is to leave no more: what has ended, and what a stop, a
    /// quarantine or safety holds up from this round on. What is on its way from the recorder is
    /// taken back behind its commit.
    async fn take_back(&mut self, outcome: &mut Outcome) {
        let state = self.corridor.state();
        let ended = outcome.sealed.iter().filter_map(|entry| match &entry.entry.fact.change {
            Change::Ended(ended) => state.ended_seq(ended.command),
            _ => None,
        });
        let ended: BTreeSet<u64> = ended.collect();
        let overtaken = std::mem::take(&mut outcome.overtaken);
        let now = self.clock.now();
        let asked_at = std::mem::replace(&mut self.memory.asked_at, now);
        let changed = state.safety().next_gate_change(asked_at).is_some_and(|at| at <= now);
        let tightens = changed || !overtaken.is_empty() || outcome.sealed.iter().any(may_hold);
        // Only then, because it asks about every command under way.
        let held = if tightens { self.memory.tracker.held(&overtaken, state, now) } else { BTreeSet::new() };
        for job in &mut outcome.jobs {
            job.withdraw(|message| message.ends && ended.contains(&message.seq));
            if tightens {
                job.hold(state, now);
            }
        }
        let ended = ended.into_iter().filter(|seq| self.memory.tracker.has(*seq)).collect();
        outcome.withdrawn = Withdrawn { ended, held };
        if !outcome.withdrawn.is_empty() {
            self.bus.dispatch.withdraw(outcome.withdrawn.clone()).await;
        }
    }

    /// Hands a round to the recorder, or straight on while the ledger cannot be written.
    async fn hand_on(&mut self, mut outcome: Outcome, permit: Option<mpsc::OwnedPermit<Commit>>) {
        // Before the tracker takes note: it has to know which parcel keeps a job's messages.
        outcome.pack();
        outcome.jobs.iter_mut().for_each(|job| self.memory.tracker.begin(job));
        self.gauge_outbox();
        let Some(permit) = permit else { return self.hand_on_unwritten(outcome).await };
        let Outcome {
            sealed,
            jobs,
            withdrawn,
            overtaken: _,
            settlements,
            parcels,
            parcels_replaced: replaced,
            parcels_done,
        } = outcome;
        let batch = Batch { entries: sealed, parcels, replaced, carried: parcels_done };
        if batch.is_empty() && jobs.is_empty() && settlements.is_empty() {
            return;
        }
        permit.send(Commit { withdrawn, ..self.commit(batch, jobs, settlements) });
    }

    fn commit(&self, batch: Batch, jobs: Vec<Job>, settlements: Vec<Settlement>) -> Commit {
        let attempt = self.memory.attempt;
        Commit { attempt, unaudited: false, batch, jobs, withdrawn: Withdrawn::default(), settlements }
    }
}

/// Whether from an entry on something may be held up that was not before.
fn may_hold(sealed: &Sealed) -> bool {
    match &sealed.entry.fact.change {
        Change::Safety(_) | Change::SetBack(_) | Change::Settings(_) | Change::Gate(_) => true,
        // A live start that was let go: whoever changes its swarm must be confirmed from now on.
        Change::Confirmed(_) => true,
        Change::Moved(moved) => {
            moved.bots.iter().any(|step| matches!(step.to, Life::Quarantined | Life::RunningLive))
        }
        _ => false,
    }
}

/// What the decision needs to know of messages that the broker does not take.
fn not_taken(trouble: Trouble) -> NotTaken {
    let Trouble { exchange, pattern, count } = trouble;
    NotTaken { exchange, pattern, count }
}

fn view<'a>(
    corridor: &'a Corridor,
    telemetry: &'a Telemetry,
    about: &'a About,
    clock: &Clock,
) -> AnswerView<'a> {
    AnswerView { state: corridor.state(), telemetry, about, now: clock.now() }
}

/// What the decision about the broker's answer needs to know of a message that came back.
fn back(outgoing: &Outgoing) -> Returned {
    let Outgoing { seq, ordinal, message, .. } = outgoing;
    let (routing_key, body_bytes) = (message.routing_key.clone(), message.body.len());
    Returned { seq: *seq, ordinal: *ordinal, routing_key, body_bytes }
}

impl Job {
    /// The parcel that keeps this job's messages until they are carried; `None` when none of them
    /// has an entry.
    fn pack(&mut self) -> Option<Parcel> {
        let messages = self.messages.iter().map(|outbound| {
            (outbound.seq, outbound.ordinal, outbound.departure.mandatory, &outbound.departure.message)
        });
        let parcel = Parcel::pack(self.lane, messages);
        self.parcel = parcel.as_ref().map(|parcel| parcel.id);
        parcel
    }
}
