//! The embedded bus: a broker in this process, for the demo, the simulation and a first look.
//!
//! Owns: topic and fanout exchanges, queues with unacknowledged deliveries and redelivery,
//! mandatory returns.
//! Never: touches a socket or a file; what is in it is gone with the process.
//! Holds: per queue, deliveries come in the order they were published; what is not settled comes
//! again, marked.

mod faults;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    Bus, BusError, Consumer, Counts, Delivery, Departure, Exchange, ExchangeKind, Fate, Publisher, Queue,
    QueueKind, Settler, TapBounds, Topology,
};
use crate::contract::{message::Message, routing::ControlPlaneRouting};

/// Messages that a queue keeps at most; beyond, it drops its oldest or rejects, by its kind.
const QUEUE_MESSAGES_MAX: usize = 100_000;

/// A broker in this process. Clones are the same broker.
#[derive(Clone, Default)]
pub struct Embedded {
    broker: Arc<Broker>,
    /// Whose line to it this is: clones share one.
    connection: u64,
}

#[derive(Default)]
struct Broker {
    world: Mutex<World>,
    changed: Notify,
}

/// Everything that a broker knows.
#[derive(Default)]
struct World {
    exchanges: BTreeMap<String, Exchange>,
    bindings: BTreeMap<String, Vec<(String, String)>>,
    /// Where an exchange leads to besides, whatever the key.
    detours: BTreeMap<String, BTreeSet<String>>,
    queues: BTreeMap<String, Kept>,
    /// How each consumer that is no longer open ended.
    ended: BTreeMap<u64, Ended>,
    consumers: u64,
    /// The queue and connection of each open consumer, and whether it took but one message.
    consuming: BTreeMap<u64, (String, u64, bool)>,
    connections: u64,
    faults: faults::Faults,
    blocked: Option<String>,
}

/// How a consumer ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// By its own settler.
    Closed,
    /// With its connection.
    Lost,
    /// Likewise, with the node that it was to: what was exclusive to it stays.
    LostWithNode,
    /// By the broker, with its queue's node.
    Cancelled,
}

/// A queue and what is in it.
struct Kept {
    queue: Queue,
    /// The connection that declared it.
    owner: u64,
    /// Messages, and how often each came back.
    ready: VecDeque<(Message, u32)>,
    bytes: u64,
    /// Deliveries not settled, by consumer and tag.
    unsettled: BTreeMap<(u64, u64), (Message, u32)>,
}

impl Embedded {
    /// An empty broker.
    pub fn new() -> Self {
        Self::default()
    }

    /// Blocks publishers, as a broker does at a memory alarm, or lets them go on.
    pub fn block(&self, reason: Option<&str>) {
        self.world().blocked = reason.map(str::to_owned);
        self.broker.changed.notify_waiters();
    }

    /// How many messages a queue holds: ready and unsettled. `None` when there is no such queue.
    pub fn depth(&self, queue: &str) -> Option<(usize, usize)> {
        self.world().queues.get(queue).map(|kept| (kept.ready.len(), kept.unsettled.len()))
    }

    /// Ends every consumer as a lost connection does: what is not settled is ready again, marked
    /// redelivered.
    pub fn drop_consumers(&self) {
        self.end_consumers(Ended::Lost, |_, _| true);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.broker.world()
    }
}

impl Broker {
    fn world(&self) -> MutexGuard<'_, World> {
        // The world is plain data; a panic elsewhere leaves it consistent enough to be read.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// Puts a message into every queue that its exchange routes it to.
    fn route(&mut self, message: &Message) -> Fate {
        let mut targets = Vec::new();
        self.targets(&message.exchange, &message.routing_key, &mut targets);
        if targets.is_empty() {
            return Fate::Returned;
        }
        // A queue that several bindings match gets one copy, as from a broker.
        targets.sort_unstable();
        targets.dedup();
        let mut fate = Fate::Carried;
        for name in targets {
            let Some(kept) = self.queues.get_mut(&name) else { continue };
            if self.faults.is_unconfirmed(&name) {
                fate = Fate::Unknown;
            } else if self.faults.rejects(&name) || kept.rejects() {
                // A no is one word for all of them, and the others have their copies.
                fate = if fate == Fate::Unknown { fate } else { Fate::Rejected };
            } else {
                let dropped = kept.push(message.clone(), 0);
                let Some((exchange, key)) = kept.dropped_to() else { continue };
                for message in dropped {
                    // Nobody hears what becomes of it, as with a broker.
                    self.route(&Message { exchange: exchange.clone(), routing_key: key.clone(), ..message });
                }
            }
        }
        fate
    }

    /// Makes unsettled deliveries ready again, but for those that came back too often.
    fn give_back(&mut self, which: impl Fn(&str, u64, u64) -> bool) {
        for (name, kept) in &mut self.queues {
            let returns_max = self.faults.limit(name).unwrap_or(u32::MAX);
            kept.give_back(returns_max, |consumer, tag| which(name, consumer, tag));
        }
    }

    /// The exclusive queues of a connection.
    fn owned_by(&self, connection: u64) -> Vec<String> {
        let owned = |kept: &Kept| kept.queue.kind.is_exclusive() && kept.owner == connection;
        self.queues.iter().filter(|(_, kept)| owned(kept)).map(|(name, _)| name.clone()).collect()
    }

    fn remove_queue(&mut self, name: &str) {
        self.queues.remove(name);
        for bindings in self.bindings.values_mut() {
            bindings.retain(|(queue, _)| queue != name);
        }
    }

    fn targets(&self, exchange: &str, key: &str, targets: &mut Vec<String>) {
        if exchange.is_empty() {
            targets.extend(self.queues.contains_key(key).then(|| key.to_owned()));
            return;
        }
        let Some(found) = self.exchanges.get(exchange) else { return };
        let takes = |pattern: &str| match found.kind {
            ExchangeKind::Fanout => true,
            ExchangeKind::Topic | ExchangeKind::TemporaryTopic => ControlPlaneRouting::matches(pattern, key),
        };
        let before = targets.len();
        for (queue, pattern) in self.bindings.get(exchange).into_iter().flatten() {
            if takes(pattern) {
                targets.push(queue.clone());
            }
        }
        let detours = self.detours.get(exchange);
        for to in detours.into_iter().flatten() {
            self.targets(to, key, targets);
        }
        if targets.len() == before
            && detours.is_none_or(BTreeSet::is_empty)
            && let Some(alternate) = &found.alternate
        {
            self.targets(alternate, key, targets);
        }
    }
}

impl Kept {
    fn new(queue: Queue, owner: u64) -> Self {
        Self { queue, owner, ready: VecDeque::new(), bytes: 0, unsettled: BTreeMap::new() }
    }

    fn rejects(&self) -> bool {
        matches!(self.queue.kind, QueueKind::Quorum | QueueKind::Lane { .. })
            && self.ready.len() >= QUEUE_MESSAGES_MAX
    }

    /// Takes a message; returns what had to go for it.
    fn push(&mut self, message: Message, returns: u32) -> Vec<Message> {
        self.bytes += message.body.len() as u64;
        self.ready.push_back((message, returns));
        let (bytes_max, count_max) = match self.queue.kind {
            QueueKind::DropHead { bytes_max: bytes }
            | QueueKind::Tap { bounds: TapBounds::Bytes(bytes), .. } => (bytes, QUEUE_MESSAGES_MAX),
            QueueKind::Tap { bounds: TapBounds::Messages(count), .. } => (u64::MAX, count as usize),
            QueueKind::Last => (u64::MAX, 1),
            _ => (u64::MAX, QUEUE_MESSAGES_MAX),
        };
        let mut dropped = Vec::new();
        while self.bytes > bytes_max || self.ready.len() > count_max {
            let Some((oldest, _)) = self.ready.pop_front() else { break };
            self.bytes -= oldest.body.len() as u64;
            dropped.push(oldest);
        }
        dropped
    }

    /// Where what it drops goes.
    fn dropped_to(&self) -> Option<(String, String)> {
        match &self.queue.kind {
            QueueKind::Tap { dropped_to, .. } => dropped_to.clone(),
            _ => None,
        }
    }

    fn pop(&mut self, consumer: u64, tag: u64) -> Option<Delivery> {
        let (message, returns) = self.ready.pop_front()?;
        self.bytes -= message.body.len() as u64;
        self.unsettled.insert((consumer, tag), (message.clone(), returns));
        Some(Delivery { tag, redelivered: returns > 0, message })
    }

    /// Drops ready messages.
    fn drop_ready(&mut self, which: impl Fn(&Message) -> bool) {
        self.ready.retain(|(message, _)| !which(message));
        self.bytes = self.ready.iter().map(|(message, _)| message.body.len() as u64).sum();
    }

    /// Makes unsettled deliveries ready again, at the front and in their order; one that came back
    /// more than `returns_max` times is dropped.
    fn give_back(&mut self, returns_max: u32, mut which: impl FnMut(u64, u64) -> bool) {
        let back: Vec<(u64, u64)> =
            self.unsettled.keys().copied().filter(|(consumer, tag)| which(*consumer, *tag)).collect();
        for place in back.into_iter().rev() {
            if let Some((message, returns)) = self.unsettled.remove(&place)
                && returns < returns_max
            {
                self.bytes += message.body.len() as u64;
                self.ready.push_front((message, returns + 1));
            }
        }
    }
}

#[async_trait]
impl Bus for Embedded {
    async fn declare(&self, topology: &Topology) -> Result<Vec<String>, BusError> {
        let mut world = self.world();
        for exchange in &topology.exchanges {
            world.faults.declare(&exchange.name)?;
            let there = world.exchanges.entry(exchange.name.clone()).or_insert_with(|| exchange.clone());
            // A plain declaration of what others declared with an alternate does not take that
            // away.
            if there.kind != exchange.kind
                || (exchange.alternate.is_some() && there.alternate != exchange.alternate)
            {
                // In the words of the real driver: `presence` reads the environment and the
                // broker's mark out of them.
                let alternate = |of: &Exchange| of.alternate.clone().unwrap_or("none".to_owned());
                let reason = format!(
                    "`alternate-exchange` is '{}', and '{}' is wanted",
                    alternate(there),
                    alternate(exchange)
                );
                return Err(BusError::Mismatch { name: exchange.name.clone(), reason });
            }
        }
        for queue in &topology.queues {
            world.faults.declare(&queue.name)?;
            let new = || Kept::new(queue.clone(), self.connection);
            let there = world.queues.entry(queue.name.clone()).or_insert_with(new);
            if there.queue.kind.is_exclusive() && there.owner != self.connection {
                return Err(BusError::Locked { name: queue.name.clone() });
            }
            if there.queue.kind != queue.kind {
                return Err(BusError::Mismatch {
                    name: queue.name.clone(),
                    reason: "another kind".to_owned(),
                });
            }
            for (exchange, pattern) in &queue.bindings {
                if !world.exchanges.contains_key(exchange) {
                    let (what, reason) =
                        (format!("bind `{}`", queue.name), format!("no exchange `{exchange}`"));
                    return Err(BusError::Refused { what, reason });
                }
                let bindings = world.bindings.entry(exchange.clone()).or_default();
                let binding = (queue.name.clone(), pattern.clone());
                if !bindings.contains(&binding) {
                    bindings.push(binding);
                }
            }
        }
        Ok(Vec::new())
    }

    async fn counts(&self, queue: &str) -> Result<Option<Counts>, BusError> {
        let world = self.world();
        let Some(kept) = world.queues.get(queue) else { return Ok(None) };
        if kept.queue.kind.is_exclusive() && kept.owner != self.connection {
            return Err(BusError::Locked { name: queue.to_owned() });
        }
        // `get` is booked like a consumer; to a broker it is none.
        let listens = |(of, _, takes_one): &&(String, u64, bool)| of == queue && !takes_one;
        let consumers = world.consuming.values().filter(listens).count() as u64;
        Ok(Some(Counts { ready: kept.ready.len() as u64, consumers }))
    }

    async fn purge(&self, queue: &str) -> Result<u64, BusError> {
        let mut world = self.world();
        let Some(kept) = world.queues.get_mut(queue) else {
            let (what, reason) = (format!("purge `{queue}`"), "no such queue".to_owned());
            return Err(BusError::Refused { what, reason });
        };
        let count = kept.ready.len() as u64;
        kept.drop_ready(|_| true);
        Ok(count)
    }

    async fn unbind(&self, queue: &Queue) -> Result<(), BusError> {
        let mut world = self.world();
        for (exchange, pattern) in &queue.bindings {
            if let Some(bindings) = world.bindings.get_mut(exchange) {
                bindings.retain(|(bound, to)| *bound != queue.name || to != pattern);
            }
        }
        Ok(())
    }

    async fn bind_exchange(&self, from: &str, to: &str) -> Result<(), BusError> {
        let mut world = self.world();
        if let Some(absent) = [from, to].into_iter().find(|name| !world.exchanges.contains_key(*name)) {
            let (what, reason) = (format!("bind `{to}`"), format!("no exchange `{absent}`"));
            return Err(BusError::Refused { what, reason });
        }
        world.detours.entry(from.to_owned()).or_default().insert(to.to_owned());
        Ok(())
    }

    async fn exists(&self, exchange: &str) -> Result<bool, BusError> {
        Ok(self.world().exchanges.contains_key(exchange))
    }

    async fn consumer(&self, queue: &str, prefetch_count: u16) -> Result<Box<dyn Consumer>, BusError> {
        let mut world = self.world();
        if !world.queues.contains_key(queue) {
            let (what, reason) = (format!("consume `{queue}`"), "no such queue".to_owned());
            return Err(BusError::Refused { what, reason });
        }
        world.faults.consume(queue)?;
        world.consumers += 1;
        let consumer = world.consumers;
        world.consuming.insert(consumer, (queue.to_owned(), self.connection, false));
        let hold = Hold { broker: Arc::clone(&self.broker), queue: queue.to_owned(), consumer };
        Ok(Box::new(Listening { hold, prefetch_count: usize::from(prefetch_count).max(1), tag: 0 }))
    }

    async fn publisher(&self) -> Result<Box<dyn Publisher>, BusError> {
        Ok(Box::new(Speaking(Arc::clone(&self.broker))))
    }

    async fn get(&self, queue: &str) -> Result<Option<(Delivery, Box<dyn Settler>)>, BusError> {
        let mut world = self.world();
        world.consumers += 1;
        let consumer = world.consumers;
        world.consuming.insert(consumer, (queue.to_owned(), self.connection, true));
        let Some(kept) = world.queues.get_mut(queue) else {
            let (what, reason) = (format!("read `{queue}`"), "no such queue".to_owned());
            return Err(BusError::Refused { what, reason });
        };
        let hold = Hold { broker: Arc::clone(&self.broker), queue: queue.to_owned(), consumer };
        Ok(kept.pop(consumer, 1).map(|delivery| (delivery, Box::new(hold) as Box<dyn Settler>)))
    }

    async fn delete_queue(&self, name: &str) -> Result<(), BusError> {
        let mut world = self.world();
        world.remove_queue(name);
        drop(world);
        self.broker.changed.notify_waiters();
        Ok(())
    }

    async fn delete_exchange(&self, name: &str) -> Result<(), BusError> {
        let mut world = self.world();
        world.exchanges.remove(name);
        world.bindings.remove(name);
        world.detours.remove(name);
        for to in world.detours.values_mut() {
            to.remove(name);
        }
        Ok(())
    }

    fn blocked(&self) -> Option<String> {
        self.world().blocked.clone()
    }

    async fn close(&self) {
        match self.connection {
            // The process's own line, which whoever shares the broker may go on using.
            0 => self.drop_consumers(),
            _ => self.lose(),
        }
    }
}

/// A consumer's hold on a queue.
#[derive(Clone)]
struct Hold {
    broker: Arc<Broker>,
    queue: String,
    consumer: u64,
}

impl Hold {
    fn give_back(&self, which: impl Fn(u64, u64) -> bool) {
        self.broker.world().give_back(|queue, consumer, tag| queue == self.queue && which(consumer, tag));
        self.broker.changed.notify_waiters();
    }

    fn with<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        let answer = self.broker.world().queues.get_mut(&self.queue).map(act);
        self.broker.changed.notify_waiters();
        answer
    }
}

#[async_trait]
impl Settler for Hold {
    async fn ack(&self, tag: u64, multiple: bool) -> Result<(), BusError> {
        let consumer = self.consumer;
        self.with(|kept| {
            if multiple {
                kept.unsettled.retain(|(of, settled), _| *of != consumer || *settled > tag);
            } else {
                kept.unsettled.remove(&(consumer, tag));
            }
        });
        Ok(())
    }

    async fn requeue(&self, tag: u64, multiple: bool) -> Result<(), BusError> {
        let consumer = self.consumer;
        self.give_back(|of, unsettled| of == consumer && (unsettled == tag || multiple && unsettled < tag));
        Ok(())
    }

    async fn close(&self) {
        let consumer = self.consumer;
        let mut world = self.broker.world();
        world.ended.entry(consumer).or_insert(Ended::Closed);
        world.consuming.remove(&consumer);
        drop(world);
        self.give_back(|of, _| of == consumer);
    }
}

/// Takes deliveries off a queue.
struct Listening {
    hold: Hold,
    prefetch_count: usize,
    tag: u64,
}

#[async_trait]
impl Consumer for Listening {
    async fn next(&mut self, count_max: usize) -> Result<Vec<Delivery>, BusError> {
        let broker = Arc::clone(&self.hold.broker);
        loop {
            // Before the look: a change between the look and the wait would wake nobody.
            let changed = broker.changed.notified();
            if let Some(deliveries) = self.take(count_max)? {
                return Ok(deliveries);
            }
            changed.await;
        }
    }

    fn settler(&self) -> Box<dyn Settler> {
        Box::new(self.hold.clone())
    }
}

impl Listening {
    /// What is ready within the prefetch; an empty list when the consumer is closed, `None` when it
    /// has to wait.
    fn take(&mut self, count_max: usize) -> Result<Option<Vec<Delivery>>, BusError> {
        let mut world = self.hold.broker.world();
        match world.ended.get(&self.hold.consumer) {
            Some(Ended::Closed) => return Ok(Some(Vec::new())),
            Some(Ended::Lost | Ended::LostWithNode) => {
                let (address, reason) = ("embedded".to_owned(), "the connection ended".to_owned());
                return Err(BusError::Unreachable { address, reason });
            }
            Some(Ended::Cancelled) => {
                return Err(BusError::Cancelled { queue: self.hold.queue.clone() });
            }
            None => {}
        }
        let consumer = self.hold.consumer;
        let Some(kept) = world.queues.get_mut(&self.hold.queue) else {
            return Err(BusError::Cancelled { queue: self.hold.queue.clone() });
        };
        let unsettled = kept.unsettled.range((consumer, 0)..=(consumer, u64::MAX)).count();
        let room = self.prefetch_count.saturating_sub(unsettled).min(count_max);
        let mut deliveries = Vec::new();
        while deliveries.len() < room
            && let Some(delivery) = kept.pop(consumer, self.tag + 1)
        {
            self.tag += 1;
            deliveries.push(delivery);
        }
        Ok((!deliveries.is_empty()).then_some(deliveries))
    }
}

/// Publishes.
struct Speaking(Arc<Broker>);

#[async_trait]
impl Publisher for Speaking {
    async fn publish(&self, batch: &[&Departure], deadline: Duration) -> Result<Vec<Fate>, BusError> {
        let unblocked = async {
            loop {
                let changed = self.0.changed.notified();
                if self.0.world().blocked.is_none() {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(deadline, unblocked).await.is_err() {
            return Ok(vec![Fate::Unknown; batch.len()]);
        }
        let (fates, wait) = self.0.world().publish(batch, deadline);
        self.0.changed.notify_waiters();
        // What is told after the deadline is not heard, though the queues have it.
        if !wait.is_zero() {
            tokio::time::sleep(wait.min(deadline)).await;
        }
        Ok(if wait > deadline { vec![Fate::Unknown; batch.len()] } else { fates })
    }
}
