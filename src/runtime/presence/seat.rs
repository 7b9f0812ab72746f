//! One connection's place among the routers of a prefix.
//!
//! Owns: the exclusive queue, the queue that this router hears by, and its two publishing channels.
//! Never: decides whether this router may begin; `claim` does.
//! Holds: every operation has a bound, and none of them touches a lane. What routers tell those
//! that wait goes by another key than what they ask: a queue that a hung node left behind blocks
//! the one and not the other.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tracing::{error, warn};

use super::{
    Patience,
    announcement::{Announcement, State},
};
use crate::{
    bus::{Bus, BusError, Consumer, Departure, Fate, Publisher, Queue, QueueKind, Topology},
    clock,
    contract::message::{Message, Properties},
    runtime::topology,
    telemetry::{Telemetry, health::BrokerFault},
};

/// The key that every router hears.
pub const ALL: &str = "all";
/// The key that those hear who do not run.
pub const WAITING: &str = "waiting";
/// How long the broker may take to declare something.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long an announcement waits for its confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(250);
/// How many announcements may wait for their confirm on one channel; beyond, none is sent until
/// some are told of.
const UNCONFIRMED_MAX: usize = 100;
/// How many announcements are taken at a time.
const HEARD_MAX: u16 = 64;
/// How long an announcement is of use.
const USEFUL_MS: u64 = 10_000;
/// Every so many times that a running router tells those that wait, it tells all.
const TELL_ALL_EVERY: u32 = 5;
/// How often a lock that another connection has is looked at.
const LOOK_AT_LOCK_EVERY: Duration = Duration::from_secs(5);
/// How often the log says that another router asks, or runs.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A place.
pub struct Seat {
    bus: Arc<dyn Bus>,
    telemetry: Arc<Telemetry>,
    prefix: String,
    patience: Patience,
    /// What this router says of itself.
    pub(super) own: Announcement,
    /// Its own queue, new with each connection.
    queue: String,
    ears: Option<Box<dyn Consumer>>,
    /// To all, and to those that wait.
    calls: Option<Box<dyn Publisher>>,
    tells: Option<Box<dyn Publisher>>,
    beats: u32,
    sent: u64,
    looked_at_lock: Option<Instant>,
    logged_asking: Option<Instant>,
    logged_running: Option<Instant>,
}

/// Why a running router's place ended.
#[derive(Debug)]
pub enum Left {
    /// Another router runs that was first.
    Yielded(Box<Announcement>),
    /// The connection is gone.
    Lost,
}

impl Seat {
    pub(super) fn new(
        bus: &Arc<dyn Bus>,
        telemetry: &Arc<Telemetry>,
        prefix: &str,
        patience: Patience,
        own: Announcement,
        claim: u64,
    ) -> Self {
        // A name of its own each time: what a lost connection left may be locked still.
        let queue = format!("{}.{}-{claim}", topology::router_lock(prefix), own.router);
        Self {
            bus: Arc::clone(bus),
            telemetry: Arc::clone(telemetry),
            prefix: prefix.to_owned(),
            patience,
            own,
            queue,
            ears: None,
            calls: None,
            tells: None,
            beats: 0,
            sent: 0,
            looked_at_lock: None,
            logged_asking: None,
            logged_running: None,
        }
    }

    /// Tries to take the exclusive queue; `false` where another connection has it.
    pub(super) async fn lock(&mut self) -> Result<bool, BusError> {
        if !self.own.has_lock {
            let name = topology::router_lock(&self.prefix);
            let queue = Queue { name, kind: QueueKind::Exclusive, bindings: Vec::new() };
            self.own.has_lock = match self.declare(queue).await {
                Ok(()) => true,
                Err(BusError::Locked { .. }) => false,
                Err(fault) => return Err(fault),
            };
            if self.own.has_lock {
                self.telemetry.health.set_topology(&topology::router_lock(&self.prefix), None);
            }
        }
        Ok(self.own.has_lock)
    }

    /// Says where the lock is a queue that anybody may have: somebody made it by mistake, and no
    /// router can get it. Takes long where the node of that queue hangs, so only who waits for
    /// longer than that looks.
    pub(super) async fn look_at_lock(&mut self) {
        let name = topology::router_lock(&self.prefix);
        if self.looked_at_lock.is_some_and(|looked| looked.elapsed() < LOOK_AT_LOCK_EVERY) {
            return;
        }
        self.looked_at_lock = Some(Instant::now());
        // Who asks for another's exclusive queue gets an error.
        let found = bounded("look at the lock", self.bus.counts(&name)).await;
        let why =
            || format!("`{name}` is a queue that is not exclusive, so no router can have it: delete it");
        let fault = matches!(found, Ok(Some(_))).then(|| BrokerFault { why: why(), needed: false });
        self.telemetry.health.set_topology(&name, fault);
    }

    /// Whether the broker says that no router hears. Asked before this one hears itself.
    pub(super) async fn nobody_hears(&mut self) -> Result<bool, BusError> {
        Ok(self.send(ALL, true).await? == Fate::Returned)
    }

    /// Hears what is said to all, and to those that wait.
    pub(super) async fn listen(&mut self, also_waiting: bool) -> Result<(), BusError> {
        let exchange = topology::routers(&self.prefix);
        let keys = if also_waiting { [ALL, WAITING].as_slice() } else { &[ALL] };
        let bindings = keys.iter().map(|key| (exchange.clone(), (*key).to_owned())).collect();
        self.declare(Queue { name: self.queue.clone(), kind: QueueKind::Exclusive, bindings }).await?;
        let consuming = self.bus.consumer(&self.queue, HEARD_MAX);
        self.ears = Some(bounded("hear other routers", consuming).await?);
        Ok(())
    }

    /// Asks every router of the prefix, by the key [`ALL`].
    pub(super) async fn ask(&mut self) -> Result<(), BusError> {
        self.send(ALL, false).await.map(|_| ())
    }

    /// The announcements of others that come within that time.
    pub(super) async fn hear_for(&mut self, how_long: Duration) -> Result<Vec<Announcement>, BusError> {
        let until = Instant::now() + how_long;
        let mut heard = Vec::new();
        while let Ok(more) = tokio::time::timeout_at(until, self.hear()).await {
            heard.extend(more?);
        }
        Ok(heard)
    }

    /// Begins to run: those that wait hear of it, and this router hears no more what is said to
    /// them.
    pub(super) async fn begin(&mut self) {
        (self.own.state, self.own.since) = (State::Running, clock::wall());
        let exchange = topology::routers(&self.prefix);
        let bindings = vec![(exchange, WAITING.to_owned())];
        let queue = Queue { name: self.queue.clone(), kind: QueueKind::Exclusive, bindings };
        if self.ears.is_some() {
            // Where it stays bound it hears a little more than it needs.
            let _ = bounded("unbind", self.bus.unbind(&queue)).await;
        }
        let told = self.tell_all().await;
        self.note(told.err());
    }

    /// Keeps the place of a router that runs: answers, tells, and takes the lock when it is free
    /// again.
    pub async fn keep(&mut self) -> Left {
        let mut beat = tokio::time::interval(self.patience.tell_every);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heard = self.hear() => match heard {
                    Ok(others) => if let Some(first) = self.meet(others).await {
                        return Left::Yielded(first);
                    },
                    Err(BusError::Unreachable { .. }) => return Left::Lost,
                    Err(fault) => self.deafen(fault).await,
                },
                _ = beat.tick() => {
                    match self.beat().await {
                        Ok(()) => self.note(None),
                        Err(fault) => self.deafen(fault).await,
                    }
                }
            }
        }
    }

    /// What cannot be told may not be heard either, as when the exchange was deleted: all of it is
    /// made again.
    async fn deafen(&mut self, fault: BusError) {
        if let Some(ears) = self.ears.take() {
            ears.settler().close().await;
        }
        self.note(Some(fault));
    }

    async fn beat(&mut self) -> Result<(), BusError> {
        self.beats = self.beats.wrapping_add(1);
        if self.ears.is_none() {
            self.declare_all(&topology::asking(&self.prefix)).await?;
            self.listen(false).await?;
            self.ask().await?;
        }
        self.send(WAITING, false).await?;
        if self.beats.is_multiple_of(TELL_ALL_EVERY) {
            self.ask().await?;
        }
        self.lock().await.map(|_| ())
    }

    /// What a router that runs does about others: answers who asks or looks, and steps back where
    /// another that runs was first.
    async fn meet(&mut self, others: Vec<Announcement>) -> Option<Box<Announcement>> {
        let (mut asked, mut runs) = (false, false);
        for other in others {
            match other.state {
                State::Looking => {}
                State::Asking => {
                    self.telemetry.metrics.other_router_asked();
                    if due(&mut self.logged_asking) {
                        warn!(%other, "another router asks to run on this prefix; it is told that this one does");
                    }
                }
                State::Running => {
                    runs = true;
                    let now = clock::wall();
                    self.own.not_alone_since.get_or_insert(now);
                    self.telemetry.metrics.not_alone();
                    self.telemetry.health.set_not_alone(&other.to_string(), now);
                    if other.is_before(&self.own) {
                        return Some(Box::new(other));
                    }
                    if due(&mut self.logged_running) {
                        error!(%other, "another router runs on this prefix; it began later and is told to step back");
                    }
                }
            }
            asked |= other.state != State::Running;
        }
        if asked {
            let told = self.send(WAITING, false).await;
            self.note(told.err());
        }
        if runs {
            let told = self.ask().await;
            self.note(told.err());
        }
        None
    }

    async fn tell_all(&mut self) -> Result<(), BusError> {
        self.send(WAITING, false).await?;
        self.ask().await
    }

    /// What others say, as soon as there is something; for ever where nothing can be heard.
    async fn hear(&mut self) -> Result<Vec<Announcement>, BusError> {
        let Some(ears) = self.ears.as_mut() else { return std::future::pending().await };
        let heard = ears.next(usize::from(HEARD_MAX)).await?;
        let Some(last) = heard.last() else { return Err(BusError::Cancelled { queue: self.queue.clone() }) };
        // At once: nothing is lost with a word that who runs says again each second.
        ears.settler().ack(last.tag, true).await?;
        let others = heard.iter().filter_map(|delivery| Announcement::read(&delivery.message.body));
        Ok(others.filter(|other| other.router != self.own.router).collect())
    }

    async fn send(&mut self, key: &str, mandatory: bool) -> Result<Fate, BusError> {
        self.sent += 1;
        let message = announcement(&self.prefix, &self.own, key, self.sent);
        let place = if key == ALL { &mut self.calls } else { &mut self.tells };
        let publisher = match place {
            Some(publisher) => publisher,
            None => {
                let mut publisher = bounded("publish", self.bus.publisher()).await?;
                publisher.set_lasting();
                place.insert(publisher)
            }
        };
        if publisher.unresolved() >= UNCONFIRMED_MAX {
            return Ok(Fate::Unknown);
        }
        let departure = Departure { message, mandatory };
        let fates = publisher.publish(&[&departure], CONFIRM_TIMEOUT).await?;
        Ok(fates.into_iter().next().unwrap_or(Fate::Unknown))
    }

    /// Declares exchanges.
    pub(super) async fn declare_all(&mut self, exchanges: &Topology) -> Result<(), BusError> {
        bounded("declare the routers' exchanges", self.bus.declare(exchanges)).await.map(|_| ())
    }

    async fn declare(&mut self, queue: Queue) -> Result<(), BusError> {
        let name = queue.name.clone();
        let one = Topology { exchanges: Vec::new(), queues: vec![queue] };
        bounded(&format!("declare `{name}`"), self.bus.declare(&one)).await.map(|_| ())
    }

    /// Says in health whether other routers can be heard and told.
    pub(super) fn note(&self, fault: Option<BusError>) {
        let fault = match fault {
            // Whoever holds the connection says that it is gone.
            Some(BusError::Unreachable { .. }) => return,
            Some(fault) => Some(BrokerFault { why: fault.to_string(), needed: false }),
            None if self.ears.is_none() => return,
            None => None,
        };
        self.telemetry.health.set_topology(&topology::routers(&self.prefix), fault);
    }
}

/// An announcement as a message.
pub(super) fn announcement(prefix: &str, said: &Announcement, key: &str, number: u64) -> Message {
    Message {
        exchange: topology::routers(prefix),
        routing_key: key.to_owned(),
        properties: Properties {
            content_type: Some("application/json".to_owned()),
            expiration: Some(USEFUL_MS.to_string()),
            message_id: Some(format!("{}.{number}", said.router)),
            ..Properties::default()
        },
        body: said.body().into(),
    }
}

/// Whether it is time to say it again, and books that it is said.
fn due(logged: &mut Option<Instant>) -> bool {
    let due = logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY);
    if due {
        *logged = Some(Instant::now());
    }
    due
}

/// Gives up on an operation that the broker does not answer.
pub(super) async fn bounded<T>(
    what: &str,
    asking: impl Future<Output = Result<T, BusError>>,
) -> Result<T, BusError> {
    timeout(OPERATION_TIMEOUT, asking).await.unwrap_or_else(|_| {
        let timeout_ms = u64::try_from(OPERATION_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        Err(BusError::Unanswered { what: what.to_owned(), timeout_ms })
    })
}
