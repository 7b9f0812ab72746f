//! What a broker does to others: switches for tests and simulated worlds.
//!
//! Owns: rejecting, confirming never or late, returning late, refusing, cancelling, expiring, and
//! dropping at a limit.
//! Never: does any of it unasked; a broker with no switch set is as good as a broker can be.
//! Holds: a switch acts on what comes after it; what it has done stays done when it is taken back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Embedded, Ended, World};
use crate::bus::{BusError, Departure, Fate, QueueKind};

/// The switches that are set.
#[derive(Default)]
pub(super) struct Faults {
    rejects: BTreeSet<String>,
    unconfirmed: BTreeSet<String>,
    consume: BTreeSet<String>,
    declare: BTreeSet<String>,
    limits: BTreeMap<String, u32>,
    /// Each of three batches in turn is confirmed at once, after this, and after twice this: a
    /// later one before an earlier one.
    pub confirms_after: Duration,
    pub returns_after: Duration,
    batches: u32,
}

impl Faults {
    pub fn rejects(&self, queue: &str) -> bool {
        self.rejects.contains(queue)
    }

    pub fn is_unconfirmed(&self, queue: &str) -> bool {
        self.unconfirmed.contains(queue)
    }

    /// How often a message may come back to a queue before it is dropped.
    pub fn limit(&self, queue: &str) -> Option<u32> {
        self.limits.get(queue).copied()
    }

    /// How long the next batch waits for its confirms.
    pub fn next_confirm(&mut self) -> Duration {
        self.batches = self.batches.wrapping_add(1);
        self.confirms_after * (2 - self.batches % 3)
    }

    pub fn consume(&self, queue: &str) -> Result<(), BusError> {
        refused(&self.consume, queue, "consume")
    }

    pub fn declare(&self, name: &str) -> Result<(), BusError> {
        refused(&self.declare, name, "declare")
    }
}

fn refused(names: &BTreeSet<String>, name: &str, what: &str) -> Result<(), BusError> {
    if !names.contains(name) {
        return Ok(());
    }
    Err(BusError::Refused { what: format!("{what} `{name}`"), reason: "ACCESS_REFUSED".to_owned() })
}

fn set(names: &mut BTreeSet<String>, name: &str, on: bool) {
    if on {
        names.insert(name.to_owned());
    } else {
        names.remove(name);
    }
}

impl Embedded {
    /// A queue rejects whatever comes, as a full one with `reject-publish` does. Others get their
    /// copies.
    pub fn reject(&self, queue: &str, on: bool) {
        set(&mut self.world().faults.rejects, queue, on);
    }

    /// A queue takes and confirms nothing, as a quorum queue without a majority.
    pub fn never_confirm(&self, queue: &str, on: bool) {
        set(&mut self.world().faults.unconfirmed, queue, on);
    }

    /// Confirms come late, and those of a later batch before those of an earlier one.
    pub fn confirm_late(&self, after: Duration) {
        self.world().faults.confirms_after = after;
    }

    /// What no queue takes comes back late.
    pub fn return_late(&self, after: Duration) {
        self.world().faults.returns_after = after;
    }

    /// The broker refuses to let a queue be consumed.
    pub fn refuse_consume(&self, queue: &str, on: bool) {
        set(&mut self.world().faults.consume, queue, on);
    }

    /// The broker refuses to declare a queue or an exchange.
    pub fn refuse_declare(&self, name: &str, on: bool) {
        set(&mut self.world().faults.declare, name, on);
    }

    /// A message that has come back to a queue more than `returns_max` times is dropped; `None`
    /// takes that away.
    pub fn limit_deliveries(&self, queue: &str, returns_max: Option<u32>) {
        let limits = &mut self.world().faults.limits;
        match returns_max {
            Some(returns_max) => limits.insert(queue.to_owned(), returns_max),
            None => limits.remove(queue),
        };
    }

    /// Cancels every consumer of a queue, as the loss of its node does.
    pub fn cancel(&self, queue: &str) {
        self.end_consumers(Ended::Cancelled, |of, _| of == queue);
    }

    /// The time of every ready message with an `expiration` is over.
    pub fn expire(&self, queue: &str) {
        if let Some(kept) = self.world().queues.get_mut(queue) {
            kept.drop_ready(|message| message.properties.expiration.is_some());
        }
    }

    /// Another connection to the same broker. What is exclusive to one is locked for the others.
    pub fn connection(&self) -> Self {
        let mut world = self.world();
        world.connections += 1;
        let connection = world.connections;
        drop(world);
        Self { broker: self.broker.clone(), connection }
    }

    /// Ends this connection as a cut line does: its consumers end, and its exclusive queues are
    /// gone.
    pub fn lose(&self) {
        self.end_consumers(Ended::Lost, |_, connection| connection == self.connection);
        let mut world = self.world();
        let gone: Vec<String> = world.owned_by(self.connection);
        gone.iter().for_each(|name| world.remove_queue(name));
        drop(world);
        self.broker.changed.notify_waiters();
    }

    /// Ends this connection as the loss of its node does: its consumers end, and its exclusive
    /// queues stay as they are, locked.
    pub fn lose_node(&self) {
        self.end_consumers(Ended::LostWithNode, |_, connection| connection == self.connection);
    }

    /// Which connections have a consumer on a queue.
    pub fn consuming(&self, queue: &str) -> Vec<u64> {
        let world = self.world();
        world.consuming.values().filter(|(name, _, _)| name == queue).map(|(_, of, _)| *of).collect()
    }

    /// Ends consumers: what they have not settled is ready again, marked redelivered.
    pub(super) fn end_consumers(&self, how: Ended, which: impl Fn(&str, u64) -> bool) {
        let mut world = self.world();
        let ended: BTreeSet<u64> = world
            .consuming
            .iter()
            .filter(|(_, (queue, connection, _))| which(queue, *connection))
            .map(|(consumer, _)| *consumer)
            .collect();
        for consumer in &ended {
            let read = world.consuming.remove(consumer);
            let queue = read.filter(|(_, _, is_one)| !is_one).map(|(queue, _, _)| queue);
            world.ended.entry(*consumer).or_insert(how);
            // As a broker deletes an exclusive queue with the connection that reads it.
            if let Some(queue) = queue.filter(|_| how == Ended::Lost)
                && world.queues.get(&queue).is_some_and(|kept| kept.queue.kind == QueueKind::Exclusive)
            {
                world.remove_queue(&queue);
            }
        }
        world.give_back(|_, consumer, _| ended.contains(&consumer));
        drop(world);
        self.broker.changed.notify_waiters();
    }
}

impl World {
    /// Routes a batch: the fate of each message, and how long until the publisher learns of it.
    pub(super) fn publish(&mut self, batch: &[&Departure], deadline: Duration) -> (Vec<Fate>, Duration) {
        let fate = |departure: &&Departure| match self.route(&departure.message) {
            // Unasked, a broker drops what no queue takes and confirms it.
            Fate::Returned if !departure.mandatory => Fate::Carried,
            fate => fate,
        };
        let fates: Vec<Fate> = batch.iter().map(fate).collect();
        let mut wait = self.faults.next_confirm();
        if fates.contains(&Fate::Returned) {
            wait = wait.max(self.faults.returns_after);
        }
        if fates.contains(&Fate::Unknown) {
            wait = wait.max(deadline);
        }
        (fates, wait)
    }
}
