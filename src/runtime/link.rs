//! The link to the broker: one connection after another, and who holds it now.
//!
//! Owns: connecting, declaring, noticing that a connection died, and connecting again with
//! back-off.
//! Never: carries a message over from a dead connection; what was not settled comes again by
//! redelivery.
//! Holds: whoever works with a connection knows its generation; a report about an old one changes
//! nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    presence::{Hindrance, Left, Presence, Seat},
    topology::{self, Aside},
};
use crate::{
    bus::{Bus, BusError, Exchange, Queue, QueueKind, Settler, Topology},
    contract::lane::Lane,
    telemetry::{Telemetry, health::BrokerFault},
};

/// How long a connection or consumer must have lasted for the next one to be tried at once.
pub(super) const WORKED_FOR: Duration = Duration::from_secs(30);
/// The longest pause after connections that stood and were cut: the broker is well.
const CUT_PAUSE_MAX_MS: u64 = 1_000;
/// How long a lost connection's good-bye may hold up the next: a node that hangs answers none.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long bindings that were made before may hold up a connection.
const BIND_PATIENCE: Duration = Duration::from_millis(500);
/// The first pause before something of the topology is declared again; it grows to sixteen times
/// that.
const MEND_PAUSE: Duration = Duration::from_secs(2);
/// How often it is declared although nothing is known to be wrong: somebody may have deleted or
/// unbound something.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// Makes connections; a broker's driver, or the embedded bus that is always there.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Connects once.
    async fn connect(&self) -> Result<Arc<dyn Bus>, BusError>;

    /// Milliseconds to wait before try number `attempt` (from 0).
    fn pause_ms(&self, attempt: u32) -> u64;

    /// Hears that the last connection was of no use, or did not last: where there is another
    /// address it is tried first.
    fn disappointed(&self) {}
}

/// A live connection.
#[derive(Clone)]
pub struct Connected {
    /// Which connection this is, from 1.
    pub generation: u64,
    /// The bus.
    pub bus: Arc<dyn Bus>,
}

/// A lane's settler.
struct Open {
    /// Which opening of the lane's consumer it belongs to.
    opening: u64,
    settler: Arc<dyn Settler>,
    /// The last tag that was settled; a consumer's tags count from 1.
    settled: u64,
}

type SettlerSlot = Mutex<Option<Open>>;

/// What the tasks share about the broker.
#[derive(Clone)]
pub struct Link {
    current: watch::Receiver<Option<Connected>>,
    failed: watch::Sender<u64>,
    give_up: watch::Sender<Option<Arc<Hindrance>>>,
    hopeless: watch::Receiver<Option<Arc<Hindrance>>>,
    settlers: Arc<[SettlerSlot; 4]>,
}

impl Link {
    /// Starts connecting; the link is dead until the first connection stands.
    pub fn start(
        connector: Arc<dyn Connector>,
        (topology, aside): (Topology, Aside),
        presence: Option<Presence>,
        telemetry: Arc<Telemetry>,
        stopping: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (publish, current) = watch::channel(None);
        let (failed, failures) = watch::channel(0);
        let (give_up, hopeless) = watch::channel(None);
        let settlers = Arc::new([const { Mutex::new(None) }; 4]);
        let (told, bound) = (Mutex::default(), AtomicBool::new(false));
        let keeper = Keeper {
            connector,
            topology,
            aside,
            telemetry,
            publish,
            failures,
            give_up: give_up.clone(),
            stopping,
            told,
            bound,
        };
        (Self { current, failed, give_up, hopeless, settlers }, tokio::spawn(keeper.keep(presence)))
    }

    /// Waits for a fault that a person has to mend before this router can begin; for ever once it
    /// has begun.
    pub async fn hopeless(&self) -> Arc<Hindrance> {
        let mut hopeless = self.hopeless.clone();
        let found = hopeless.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        match found {
            Some(fault) => fault,
            None => std::future::pending().await,
        }
    }

    /// Ends the link: a person has to mend something first.
    pub fn abandon(&self, fault: BusError) {
        self.give_up.send_replace(Some(Arc::new(fault.into())));
    }

    /// Waits for a connection newer than `after`; `None` when the router stops.
    pub async fn connected(&self, after: u64) -> Option<Connected> {
        let mut current = self.current.clone();
        let found =
            current.wait_for(|now| now.as_ref().is_some_and(|now| now.generation > after)).await.ok()?;
        found.clone()
    }

    /// Waits until that connection is not the present one any more, and returns that as a fault.
    /// Whoever listens on it may hear nothing of that: of the two connections to a node that hangs
    /// only one may be known as lost.
    pub async fn outlived(&self, generation: u64) -> BusError {
        let other = |now: &Option<Connected>| now.as_ref().is_none_or(|now| now.generation != generation);
        let mut current = self.current.clone();
        let address = self.now().and_then(|now| now.bus.address().map(str::to_owned)).unwrap_or_default();
        if current.wait_for(other).await.is_err() {
            // The router stops: what is under way is drained over the last connection.
            std::future::pending::<()>().await;
        }
        BusError::Unreachable { address, reason: "the connection was given up".to_owned() }
    }

    /// A watch that changes when the connection stands or is gone.
    pub fn watch(&self) -> watch::Receiver<Option<Connected>> {
        self.current.clone()
    }

    /// The connection as it stands.
    pub fn now(&self) -> Option<Connected> {
        self.current.borrow().clone()
    }

    /// Reports that the connection of that generation is of no more use.
    pub fn fail(&self, generation: u64) {
        self.failed.send_if_modified(|failed| {
            let newer = generation > *failed;
            *failed = generation.max(*failed);
            newer
        });
    }

    /// Names the settler of a lane's consumer, and which opening of it this is.
    pub fn set_settler(&self, lane: Lane, opening: u64, settler: Arc<dyn Settler>) {
        if let Ok(mut slot) = self.slot(lane).lock() {
            *slot = Some(Open { opening, settler, settled: 0 });
        }
    }

    /// The settler of a lane, if that opening is still the current one.
    pub fn settler(&self, lane: Lane, opening: u64) -> Option<Arc<dyn Settler>> {
        let slot = self.slot(lane).lock().ok()?;
        slot.as_ref().filter(|open| open.opening == opening).map(|open| Arc::clone(&open.settler))
    }

    /// Up to which tag a lane's deliveries are settled.
    pub fn settled(&self, lane: Lane, opening: u64) -> u64 {
        let Ok(slot) = self.slot(lane).lock() else { return 0 };
        slot.as_ref().filter(|open| open.opening == opening).map_or(0, |open| open.settled)
    }

    /// Books that a lane's deliveries up to a tag are settled; returns how many that were.
    pub fn book_settled(&self, lane: Lane, opening: u64, tag: u64) -> u64 {
        let Ok(mut slot) = self.slot(lane).lock() else { return 0 };
        let Some(open) = slot.as_mut().filter(|open| open.opening == opening) else { return 0 };
        let count = tag.saturating_sub(open.settled);
        open.settled = tag.max(open.settled);
        count
    }

    fn slot(&self, lane: Lane) -> &SettlerSlot {
        let [urgent, signals, results, metrics] = &*self.settlers;
        match lane {
            Lane::Urgent => urgent,
            Lane::Signals => signals,
            Lane::Results => results,
            Lane::Metrics => metrics,
        }
    }
}

/// How fast connections follow one another.
#[derive(Debug, Default)]
struct Pace {
    /// Tries in a row that failed, or ended by the broker's no.
    attempt: u32,
    /// Connections in a row that stood, did not last, and were cut.
    cuts: u32,
}

impl Pace {
    /// Books the end of a connection that stood; returns the milliseconds until the next.
    fn after(&mut self, lasted: bool, was_refused: bool, pause_ms: impl Fn(u32) -> u64) -> u64 {
        if lasted {
            *self = Self::default();
            return 0;
        }
        if was_refused {
            // What the broker does not bear is likely done again: no reason to come back faster.
            let pause_ms = pause_ms(self.attempt);
            self.attempt = self.attempt.saturating_add(1);
            return pause_ms;
        }
        let pause_ms = pause_ms(self.cuts).min(CUT_PAUSE_MAX_MS);
        *self = Self { attempt: 0, cuts: self.cuts.saturating_add(1) };
        pause_ms
    }
}

/// Keeps one connection alive.
struct Keeper {
    connector: Arc<dyn Connector>,
    topology: Topology,
    aside: Aside,
    telemetry: Arc<Telemetry>,
    publish: watch::Sender<Option<Connected>>,
    failures: watch::Receiver<u64>,
    give_up: watch::Sender<Option<Arc<Hindrance>>>,
    stopping: CancellationToken,
    /// What was said of the topology: once is enough.
    told: Mutex<BTreeSet<String>>,
    /// Whether every binding has been made by this process: what was made stays on the broker.
    bound: AtomicBool,
}

impl Keeper {
    async fn keep(self, mut presence: Option<Presence>) {
        let (mut generation, mut pace) = (0, Pace::default());
        while !self.stopping.is_cancelled() {
            let connected = tokio::select! {
                () = self.stopping.cancelled() => None,
                connected = self.connect(&mut pace.attempt, generation == 0, presence.as_mut()) => connected,
            };
            let Some((bus, is_bound, mut seat)) = connected else { break };
            self.bound.fetch_or(is_bound, Relaxed);
            generation += 1;
            let address = bus.address();
            info!(generation, address, "connected to the broker and found its topology in order");
            self.telemetry.health.set_broker(true);
            self.telemetry.health.set_broker_address(address);
            self.publish.send_replace(Some(Connected { generation, bus: Arc::clone(&bus) }));
            let since = Instant::now();
            let mut failures = self.failures.clone();
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = self.mend(bus.as_ref(), is_bound) => {}
                () = hold(seat.as_mut()) => {}
                _ = failures.wait_for(|failed| *failed >= generation) => {
                    warn!(generation, address, "the connection to the broker is lost; connecting again");
                }
            }
            if self.stopping.is_cancelled() {
                // The tasks still drain over this connection, and who asks hears so; boot closes it
                // after them.
                drop(self.publish);
                if seat.is_some() {
                    hold(seat.as_mut()).await;
                }
                return;
            }
            let lasted = since.elapsed() >= WORKED_FOR;
            if !lasted {
                self.connector.disappointed();
            }
            self.telemetry.health.set_broker(false);
            self.telemetry.health.set_broker_address(None);
            self.publish.send_replace(None);
            // After the others were told: nobody takes up a bus that is being closed.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, bus.close()).await;
            // Only now: the word about it comes beside the loss.
            let pause_ms = pace.after(lasted, bus.was_refused(), |attempt| self.connector.pause_ms(attempt));
            if let (Some(presence), Some(seat)) = (presence.as_mut(), &seat) {
                presence.leave(seat);
            }
            if !self.pause(pause_ms).await {
                break;
            }
        }
    }

    /// Tries until it stands; `None` when the router stops first.
    async fn connect(
        &self,
        attempt: &mut u32,
        first: bool,
        mut presence: Option<&mut Presence>,
    ) -> Option<(Arc<dyn Bus>, bool, Option<Seat>)> {
        loop {
            let fault = match self.connector.connect().await {
                Ok(bus) => match self.enter(&bus, first, presence.as_deref_mut()).await {
                    Ok((is_bound, seat)) => return Some((bus, is_bound, seat)),
                    Err(fault) => {
                        bus.close().await;
                        self.connector.disappointed();
                        fault
                    }
                },
                Err(fault) => fault.into(),
            };
            let retry_ms = self.connector.pause_ms(*attempt);
            warn!(error = %fault, attempt = *attempt, retry_ms, "no connection to the broker");
            // Who only looks, of which none is among the routers of a prefix, was just called by a
            // person.
            let is_denied = presence.is_none() && matches!(&fault, Hindrance::Bus(fault) if fault.denies());
            if first && (fault.is_lasting() || is_denied) {
                self.give_up.send_replace(Some(Arc::new(fault)));
            }
            if !self.pause(retry_ms).await {
                return None;
            }
            *attempt = attempt.saturating_add(1);
        }
    }

    /// Makes sure that no other router is there, and then declares. Returns whether everything is
    /// bound.
    async fn enter(
        &self,
        bus: &Arc<dyn Bus>,
        first: bool,
        presence: Option<&mut Presence>,
    ) -> Result<(bool, Option<Seat>), Hindrance> {
        let mut seat = match presence {
            Some(presence) => Some(presence.enter(bus, first).await?),
            None => None,
        };
        // Who asks meanwhile is answered: declaring may take long.
        let is_bound = tokio::select! {
            declared = self.declare(bus.as_ref(), first) => declared?,
            () = hold(seat.as_mut()) => {
                let (what, reason) = ("begin".to_owned(), "the place among the routers is lost".to_owned());
                return Err(BusError::Refused { what, reason }.into());
            }
        };
        Ok((is_bound, seat))
    }

    /// Waits; `false` when the router stops first.
    async fn pause(&self, pause_ms: u64) -> bool {
        let pause = Duration::from_millis(pause_ms);
        tokio::select! {
            () = self.stopping.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// Declares what nothing works without: the exchanges, and the queue that stops come by. The
    /// rest is declared too, and what of it cannot be is mended aside: a queue of statuses whose
    /// node is away keeps no stop waiting. Nor does a binding: before 4.3 the broker answers none
    /// while a node of its cluster hangs, whether it is there or not. Returns whether everything is
    /// bound.
    async fn declare(&self, bus: &dyn Bus, first: bool) -> Result<bool, BusError> {
        for exchange in &self.topology.exchanges {
            let one = Topology { exchanges: vec![exchange.clone()], queues: Vec::new() };
            self.note(&self.told_as(exchange), true, bus.declare(&one).await)?;
        }
        if self.bound.load(Relaxed) {
            return self.declare_again(bus).await;
        }
        // Before its queues are bound again: from then on everything would go twice.
        let _ = tokio::time::timeout(BIND_PATIENCE, self.part(bus)).await;
        let mut is_bound = true;
        for queue in &self.topology.queues {
            let mut declared = match is_bound {
                true => self.declare_queue(bus, queue).await,
                false => Err(BusError::Unanswered { what: format!("bind `{}`", queue.name), timeout_ms: 0 }),
            };
            if matches!(declared, Err(BusError::Unanswered { .. })) && !queue.bindings.is_empty() {
                // What it lacks stays named until it is bound; what comes by what was bound before
                // is taken meanwhile.
                is_bound = false;
                declared = bus.declare(&alone(unbound(queue))).await.map(drop);
            }
            is_bound &= declared.is_ok();
            self.weigh(queue, declared, first)?;
        }
        Ok(is_bound)
    }

    /// The same where everything was bound before. Each queue is asked for at once, so that one
    /// without its leader takes no time of another, and bindings that do not come soon are made
    /// aside.
    async fn declare_again(&self, bus: &dyn Bus) -> Result<bool, BusError> {
        let bare: Vec<Queue> = self.topology.queues.iter().map(unbound).collect();
        let declared = join_all(bare.iter().map(|queue| self.declare_queue(bus, queue))).await;
        for (queue, declared) in bare.iter().zip(declared) {
            self.weigh(queue, declared, false)?;
        }
        let binding = join_all(self.topology.queues.iter().map(|queue| self.declare_queue(bus, queue)));
        let bound = tokio::time::timeout(BIND_PATIENCE, binding).await;
        Ok(bound.is_ok_and(|bound| bound.iter().all(Result::is_ok)))
    }

    /// Whether the router is of no use without that queue.
    fn weigh(&self, queue: &Queue, declared: Result<(), BusError>, first: bool) -> Result<(), BusError> {
        let is_first = self.topology.queues.first().is_some_and(|first| first.name == queue.name);
        match declared {
            Err(fault @ BusError::Unreachable { .. }) => Err(fault),
            // A person is at hand when a router starts for the first time; later it goes on with
            // what it has.
            Err(fault @ BusError::Mismatch { .. }) if first => Err(fault),
            Err(fault) if is_first => Err(fault),
            _ => Ok(()),
        }
    }

    async fn declare_queue(&self, bus: &dyn Bus, queue: &Queue) -> Result<(), BusError> {
        let declared = match self.lead(bus, queue).await {
            Ok(()) => bus.declare(&alone(queue.clone())).await,
            Err(fault) => Err(fault),
        };
        // It was bound before, and is consumed or not: its consumer says so.
        let is_known = self.bound.load(Relaxed) && matches!(declared, Err(BusError::Unanswered { .. }));
        let needed = matches!(queue.kind, QueueKind::Lane { .. }) && !is_known;
        self.note(&queue.name, needed, declared)
    }

    /// An exchange's name in health: a queue may have the same, and faults of its own.
    fn told_as(&self, exchange: &Exchange) -> String {
        let mut queues = self.topology.queues.iter().chain(&self.aside.kept.queues);
        let is_shared = queues.any(|queue| queue.name == exchange.name);
        if is_shared { format!("{} (exchange)", exchange.name) } else { exchange.name.clone() }
    }

    /// Before the queue at the other end is bound: makes an exchange lead to another one instead of
    /// straight to a queue. In this order each message is in one queue meanwhile: what goes to the
    /// same queue by two ways is there once.
    async fn lead(&self, bus: &dyn Bus, queue: &Queue) -> Result<(), BusError> {
        let Some(detour) = self.aside.detour.as_ref().filter(|detour| detour.to == queue.name) else {
            return Ok(());
        };
        if queue.bindings.is_empty() {
            return Ok(());
        }
        bus.declare(&alone(detour.by_way.clone())).await?;
        bus.bind_exchange(&detour.from, &detour.to).await?;
        bus.unbind(&detour.straight).await
    }

    /// Ends what leads past the router, as when somebody forgot to end a bypass.
    async fn part(&self, bus: &dyn Bus) {
        let Some((from, to)) = &self.aside.apart else { return };
        let parted = bus.unbind_exchange(from, to, &topology::bypasses()).await;
        let said = match parted {
            Ok(()) => format!(
                "`{from}` leads nowhere but to this router: a binding straight to `{to}` is taken away where there was one (the broker does not say; `swarmgate doctor` finds those that are there)"
            ),
            Err(BusError::Unreachable { .. }) => return,
            Err(fault) => format!("it is not known whether `{from}` leads straight to `{to}`: {fault}"),
        };
        if self.told.lock().is_ok_and(|mut told| told.insert(said.clone())) {
            info!("{said}");
        }
    }

    /// Reports how a declaration ended, in health and log.
    fn note(
        &self,
        name: &str,
        needed: bool,
        declared: Result<Vec<String>, BusError>,
    ) -> Result<(), BusError> {
        let health = &self.telemetry.health;
        match declared {
            Ok(differences) => {
                for difference in differences {
                    if self.told.lock().is_ok_and(|mut told| told.insert(difference.clone())) {
                        warn!("{difference}");
                    }
                }
                health.set_topology(name, None);
                Ok(())
            }
            // Nothing is known of it without a connection.
            Err(fault @ BusError::Unreachable { .. }) => Err(fault),
            Err(fault) => {
                warn!(name, error = %fault, "an exchange or a queue of the router's own cannot be used");
                health.set_topology(name, Some(BrokerFault { why: fault.to_string(), needed }));
                Err(fault)
            }
        }
    }

    /// Binds what was found, declares again what could not be declared, with growing pauses, and
    /// the rest every few seconds. Ends never: there may be more to mend later.
    async fn mend(&self, bus: &dyn Bus, is_bound: bool) {
        let mut attempts = BTreeMap::<Thing<'_>, (u32, Instant)>::new();
        let names = self.topology.queues.iter().map(|queue| queue.name.as_str());
        let mut unsure: BTreeSet<&str> = names.filter(|_| !is_bound).collect();
        let exchanges = || {
            let needed = self.topology.exchanges.iter().map(|exchange| (exchange, true));
            needed.chain(self.aside.kept.exchanges.iter().map(|exchange| (exchange, false)))
        };
        loop {
            tokio::time::sleep(MEND_PAUSE).await;
            let broken = self.telemetry.health.topology();
            let now = Instant::now();
            for (exchange, needed) in exchanges() {
                let told_as = self.told_as(exchange);
                let is_broken = broken.contains_key(&told_as);
                if due(&mut attempts, Thing::Exchange(&exchange.name), is_broken, now) {
                    let one = Topology { exchanges: vec![exchange.clone()], queues: Vec::new() };
                    let _ = self.note(&told_as, needed, bus.declare(&one).await);
                }
            }
            if due(&mut attempts, Thing::WayPast, false, now) {
                self.part(bus).await;
            }
            let mut asked: Vec<&Queue> = self.topology.queues.iter().chain(&self.aside.kept.queues).collect();
            asked.retain(|queue| {
                let is_broken = broken.contains_key(&queue.name) || unsure.contains(queue.name.as_str());
                due(&mut attempts, Thing::Queue(&queue.name), is_broken, now)
            });
            // All at once: one without its leader takes no time of another.
            let mended = join_all(asked.iter().map(|queue| self.declare_queue(bus, queue))).await;
            for (queue, mended) in asked.into_iter().zip(mended) {
                if mended.is_ok() {
                    unsure.remove(queue.name.as_str());
                }
            }
            if unsure.is_empty() {
                self.bound.store(true, Relaxed);
            }
        }
    }
}

/// What is looked at again and again. An exchange and a queue may have the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing<'n> {
    Exchange(&'n str),
    Queue(&'n str),
    WayPast,
}

/// Whether it is time to declare something again; books the try.
fn due<'n>(
    attempts: &mut BTreeMap<Thing<'n>, (u32, Instant)>,
    thing: Thing<'n>,
    broken: bool,
    now: Instant,
) -> bool {
    let (attempt, since) = attempts.get(&thing).copied().unwrap_or((0, now));
    let pause = if broken { MEND_PAUSE * (1 << attempt.min(4)) } else { LOOK_PERIOD };
    let is_first = !attempts.contains_key(&thing);
    // To the nearest look: they come every `MEND_PAUSE`, and `LOOK_PERIOD` ends between two.
    if !(broken && is_first) && now.duration_since(since) + MEND_PAUSE / 2 < pause {
        attempts.entry(thing).or_insert((0, now));
        return false;
    }
    attempts.insert(thing, (if broken { attempt + 1 } else { 0 }, now));
    true
}

/// Keeps a router's place until it is lost; for ever where it has none.
async fn hold(seat: Option<&mut Seat>) {
    let Some(seat) = seat else { return std::future::pending().await };
    if let Left::Yielded(other) = seat.keep().await {
        error!(%other, "another router runs on this prefix and was first; this one steps back");
    }
}

fn alone(queue: Queue) -> Topology {
    Topology { exchanges: Vec::new(), queues: vec![queue] }
}

/// The same queue, without its bindings.
fn unbound(queue: &Queue) -> Queue {
    Queue { bindings: Vec::new(), ..queue.clone() }
}

/// A bus that is always there: the embedded one.
pub struct SteadyBus(pub Arc<dyn Bus>);

#[async_trait]
impl Connector for SteadyBus {
    async fn connect(&self) -> Result<Arc<dyn Bus>, BusError> {
        Ok(Arc::clone(&self.0))
    }

    fn pause_ms(&self, _attempt: u32) -> u64 {
        50
    }
}

/// Deliveries that may be acknowledged: of one lane's opening, up to a tag.
#[derive(Debug)]
pub(super) struct Settlement {
    pub lane: Lane,
    /// Which opening of its consumer.
    pub opening: u64,
    /// The last tag.
    pub tag: u64,
}

impl Settlement {
    /// Acknowledges, unless the consumer is gone: then its deliveries come again.
    pub async fn settle(self, link: &Link, telemetry: &Telemetry) {
        let Self { lane, opening, tag } = self;
        let Some(settler) = link.settler(lane, opening) else { return };
        match settler.ack(tag, true).await {
            Ok(()) => telemetry.metrics.settled(lane, link.book_settled(lane, opening, tag)),
            Err(fault) => {
                warn!(%lane, error = %fault, "deliveries could not be acknowledged; they will come again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::backoff::Backoff;

    /// The pauses after so many connections that ended one like the other.
    fn pauses(count: usize, lasted: bool, was_refused: bool) -> Vec<u64> {
        let backoff = Backoff::new(100, 10_000, 3);
        let mut pace = Pace::default();
        (0..count).map(|_| pace.after(lasted, was_refused, |attempt| backoff.pause_ms(attempt))).collect()
    }

    #[test]
    fn a_connection_that_is_cut_earns_no_long_pause_and_is_no_storm() {
        let pauses = pauses(20, false, false);
        assert!(pauses.iter().all(|pause| (50..=CUT_PAUSE_MAX_MS).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().skip(5).all(|pause| *pause == CUT_PAUSE_MAX_MS), "{pauses:?}");
    }

    #[test]
    fn a_connection_that_the_broker_refuses_earns_one() {
        assert!(pauses(12, false, true).last().is_some_and(|pause| *pause >= 5_000));
        assert_eq!(pauses(3, true, true), [0; 3]);
    }

    #[test]
    fn a_cut_takes_back_what_refusals_earned() {
        let backoff = Backoff::new(100, 10_000, 3);
        let mut pace = Pace { attempt: 9, cuts: 0 };
        pace.after(false, false, |attempt| backoff.pause_ms(attempt));
        assert_eq!((pace.attempt, pace.cuts), (0, 1));
    }
}
