//! What waits to leave by one way: pure, `now` is handed in.
//!
//! Owns: the order of messages to one target, and when a message that failed is tried again.
//! Never: publishes, or drops a message without saying so.
//! Holds: to one target at most one message is under way, where the way keeps order, and none
//! leaves before an earlier one; a target that is tried again holds up no other target.

mod room;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::Outbound;
use crate::{config::Outbox, contract::lane::Way, decision::state::precedence::Precedence};

/// The first pause before a message is tried again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Bounds on what was set aside: only the outbox waits for it, and memory must not grow with it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages to one target.
    pub target_max: usize,
    /// Messages of a way.
    pub total_max: usize,
    /// Bytes of their bodies.
    pub bytes_max: usize,
}

impl From<Outbox> for Limits {
    fn from(outbox: Outbox) -> Self {
        let Outbox { target_max, total_max, bytes_max, .. } = outbox;
        Self { target_max, total_max, bytes_max }
    }
}

/// A message, and what was tried.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Orders it among all of this way.
    number: u64,
    pub outbound: Outbound,
    pub attempts: u32,
    /// Whether its job waits for it; else it was set aside.
    pub tracked: bool,
    /// It goes in a batch of its own: a channel that it was on was closed by the broker.
    pub alone: bool,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.outbound.departure.message.body.len()
    }

    /// Its place among what was set aside: what gives way first comes first.
    fn place(&self) -> (Precedence, u64) {
        (self.outbound.precedence, self.number)
    }
}

/// Whom a message is for: a scope, or nobody else's turn to wait for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Scope(Box<str>),
    Each(u64),
}

/// A target's messages in order.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    under_way: bool,
    /// How often its first message has failed.
    failures: u32,
    /// When it is tried again; `None`: at once.
    retry_at: Option<Instant>,
}

/// The messages of one way.
#[derive(Debug)]
pub(super) struct Queue {
    way: Way,
    limits: Limits,
    next: u64,
    lines: BTreeMap<Target, Line>,
    /// Targets whose first message may leave now, in order of coming.
    ready: VecDeque<Target>,
    retries: BTreeSet<(Instant, Target)>,
    /// What was set aside and is not under way: what gives way first, then by age.
    aside: BTreeMap<(Precedence, u64), Target>,
    aside_bytes: usize,
    /// Entries that were given up, by their targets, and until when something later may come that
    /// was decided before.
    given_up: BTreeMap<(Target, u64), Instant>,
}

impl Queue {
    pub fn new(way: Way, limits: Limits) -> Self {
        let (lines, ready, retries, aside, given_up) = Default::default();
        Self { way, limits, next: 0, lines, ready, retries, aside, aside_bytes: 0, given_up }
    }

    /// How many were set aside and wait for their next try.
    pub fn aside(&self) -> usize {
        self.aside.len()
    }

    /// Whether a first try waits.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next message is to be tried again.
    pub fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// Takes a message in. Returns a copy of it where its target is being tried again: its job need
    /// not wait for it.
    pub fn add(&mut self, outbound: Outbound) -> Option<Outbound> {
        self.next += 1;
        let number = self.next;
        let target = self.target(&outbound, number);
        let line = self.lines.entry(target.clone()).or_default();
        let behind = line.failures > 0;
        let waiting = Waiting { number, outbound, attempts: 0, tracked: !behind, alone: false };
        let set_aside = behind.then(|| waiting.outbound.clone());
        if behind {
            self.aside.insert(waiting.place(), target.clone());
            self.aside_bytes += waiting.bytes();
        }
        line.waiting.push_back(waiting);
        // Where it is tried again later the line comes up by its time, and not by what is added.
        if line.waiting.len() == 1 && !line.under_way && line.retry_at.is_none() {
            self.ready.push_back(target);
        }
        set_aside
    }

    /// Up to `count_max` messages that may leave now: first tries.
    pub fn take_ready(&mut self, count_max: usize) -> Vec<Waiting> {
        let mut taken = Vec::with_capacity(count_max.min(self.ready.len()));
        while taken.len() < count_max
            && let Some(target) = self.ready.pop_front()
        {
            taken.extend(self.take(&target));
        }
        taken
    }

    /// Up to `count_max` messages whose pause is over; one that has to go alone goes alone.
    pub fn take_due(&mut self, now: Instant, count_max: usize) -> Vec<Waiting> {
        let mut taken: Vec<Waiting> = Vec::new();
        while taken.len() < count_max
            && let Some((at, target)) = self.retries.first().cloned()
            && at <= now
        {
            let alone = self
                .lines
                .get(&target)
                .and_then(|line| line.waiting.front())
                .is_some_and(|first| first.alone);
            if alone && !taken.is_empty() {
                break;
            }
            self.retries.remove(&(at, target.clone()));
            taken.extend(self.take(&target));
            if alone {
                break;
            }
        }
        taken
    }

    fn take(&mut self, target: &Target) -> Option<Waiting> {
        let line = self.lines.get_mut(target)?;
        let waiting = line.waiting.pop_front()?;
        line.under_way = true;
        line.retry_at = None;
        if !waiting.tracked && self.aside.remove(&waiting.place()).is_some() {
            self.aside_bytes -= waiting.bytes();
        }
        Some(waiting)
    }

    /// The broker takes messages again: what waits for its next try need wait no longer.
    pub fn hasten(&mut self, now: Instant) {
        for (_, target) in std::mem::take(&mut self.retries) {
            if let Some(line) = self.lines.get_mut(&target) {
                line.retry_at = Some(now);
                self.retries.insert((now, target));
            }
        }
    }

    /// A message's way is over: the next to its target may leave.
    pub fn done(&mut self, waiting: &Waiting) {
        let target = self.target(&waiting.outbound, waiting.number);
        let Some(line) = self.lines.get_mut(&target) else { return };
        (line.under_way, line.failures, line.retry_at) = (false, 0, None);
        if line.waiting.is_empty() {
            self.lines.remove(&target);
        } else {
            self.ready.push_back(target);
        }
    }

    /// A message is to be tried again at once: nothing was found against it, its connection is
    /// gone.
    pub fn again(&mut self, waiting: Waiting) {
        let target = self.target(&waiting.outbound, waiting.number);
        self.put_back(&target, waiting);
        self.ready.push_front(target);
    }

    /// A message is to be tried again after a pause. Returns copies of what no job need wait for
    /// any more: itself, and what stands behind it.
    pub fn later(&mut self, mut waiting: Waiting, now: Instant) -> Vec<Outbound> {
        let target = self.target(&waiting.outbound, waiting.number);
        let mut set_aside: Vec<Outbound> =
            waiting.tracked.then(|| waiting.outbound.clone()).into_iter().collect();
        waiting.tracked = false;
        self.put_back(&target, waiting);
        set_aside.extend(self.stall(&target));
        let Some(line) = self.lines.get_mut(&target) else { return set_aside };
        line.failures = line.failures.saturating_add(1);
        let at = now + pause(line.failures);
        line.retry_at = Some(at);
        self.retries.insert((at, target));
        set_aside
    }

    /// A message under way hears nothing from the broker. Returns copies of what stands behind it:
    /// no job need wait for that, nor for what is added until it is over.
    pub fn slow(&mut self, waiting: &Waiting) -> Vec<Outbound> {
        let target = self.target(&waiting.outbound, waiting.number);
        if let Some(line) = self.lines.get_mut(&target) {
            // As after a failure: no job waits for what is added behind it (`add`).
            line.failures = line.failures.max(1);
        }
        self.stall(&target)
    }

    fn stall(&mut self, target: &Target) -> Vec<Outbound> {
        let Some(line) = self.lines.get_mut(target) else { return Vec::new() };
        let mut set_aside = Vec::new();
        for behind in line.waiting.iter_mut().filter(|waiting| waiting.tracked) {
            behind.tracked = false;
            self.aside.insert(behind.place(), target.clone());
            self.aside_bytes += behind.bytes();
            set_aside.push(behind.outbound.clone());
        }
        set_aside
    }

    fn put_back(&mut self, target: &Target, waiting: Waiting) {
        if !waiting.tracked {
            self.aside.insert(waiting.place(), target.clone());
            self.aside_bytes += waiting.bytes();
        }
        let line = self.lines.entry(target.clone()).or_default();
        line.under_way = false;
        line.waiting.push_front(waiting);
    }

    /// Takes out what belongs to one of those entries and is not under way.
    pub fn take_entries(&mut self, seqs: &BTreeSet<u64>) -> Vec<Waiting> {
        let waiting =
            self.lines.iter().flat_map(|(target, line)| line.waiting.iter().map(move |one| (target, one)));
        let found = waiting.filter(|(_, waiting)| seqs.contains(&waiting.outbound.seq));
        let found: Vec<(Target, u64)> =
            found.map(|(target, waiting)| (target.clone(), waiting.number)).collect();
        found.into_iter().filter_map(|(target, number)| self.take_from(target, number)).collect()
    }

    fn take_from(&mut self, target: Target, number: u64) -> Option<Waiting> {
        let line = self.lines.get_mut(&target)?;
        let index = line.waiting.iter().position(|waiting| waiting.number == number)?;
        let waiting = line.waiting.remove(index)?;
        if self.aside.remove(&waiting.place()).is_some() {
            self.aside_bytes -= waiting.bytes();
        }
        if line.waiting.is_empty() && !line.under_way {
            if let Some(at) = line.retry_at {
                self.retries.remove(&(at, target.clone()));
            }
            self.ready.retain(|ready| *ready != target);
            self.lines.remove(&target);
        }
        Some(waiting)
    }

    fn target(&self, outbound: &Outbound, number: u64) -> Target {
        if !self.way.keeps_order() {
            return Target::Each(number);
        }
        let key = outbound.departure.message.routing_key.as_str();
        // The scope is the last three segments, whatever stands before them.
        let from = key.rmatch_indices('.').nth(2).map_or(0, |(index, _)| index + 1);
        Target::Scope(key.get(from..).unwrap_or_default().into())
    }
}

/// 0.5 s, 1 s, 2 s … 30 s: six tries in 25 seconds.
fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        contract::message::{Message, Properties},
        ledger::Outgoing,
    };

    pub const LIMITS: Limits = Limits { target_max: 3, total_max: 5, bytes_max: 1_000 };

    pub fn outbound(seq: u64, instance: &str) -> Outbound {
        let message = Message {
            exchange: "out".to_owned(),
            routing_key: format!("signal.config-update.s.r.{instance}"),
            properties: Properties::default(),
            body: Bytes::from_static(b"0123456789"),
        };
        let leaving = Outgoing { seq, ordinal: 0, mandatory: true, message };
        Outbound { job: seq, ends: true, ..Outbound::from(leaving) }
    }

    pub fn seqs(waiting: &[Waiting]) -> Vec<u64> {
        waiting.iter().map(|waiting| waiting.outbound.seq).collect()
    }

    pub fn one(mut taken: Vec<Waiting>) -> Waiting {
        assert_eq!(taken.len(), 1);
        taken.remove(0)
    }

    #[test]
    fn one_message_to_a_target_is_under_way_and_the_next_follows_it() {
        let mut queue = Queue::new(Way::Signals, LIMITS);
        for (seq, instance) in [(1, "a"), (2, "a"), (3, "b")] {
            assert!(queue.add(outbound(seq, instance)).is_none(), "its job waits for it");
        }
        let taken = queue.take_ready(9);
        assert_eq!(seqs(&taken), [1, 3]);
        assert!(queue.take_ready(9).is_empty());
        queue.done(&taken[0]);
        assert_eq!(seqs(&queue.take_ready(9)), [2]);
    }

    #[test]
    fn a_way_without_order_lets_all_leave_at_once() {
        let mut queue = Queue::new(Way::Urgent, LIMITS);
        for seq in 1..=3 {
            queue.add(outbound(seq, "a"));
        }
        assert_eq!(seqs(&queue.take_ready(9)), [1, 2, 3]);
    }

    #[test]
    fn behind_a_message_that_failed_all_of_its_target_is_set_aside_and_nothing_else() {
        let mut queue = Queue::new(Way::Signals, LIMITS);
        for (seq, instance) in [(1, "a"), (2, "a"), (3, "b")] {
            queue.add(outbound(seq, instance));
        }
        let now = Instant::now();
        let mut taken = queue.take_ready(9);
        let other = taken.pop().unwrap();
        let set_aside = queue.later(one(taken), now);
        assert_eq!(set_aside.iter().map(|copy| copy.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(queue.add(outbound(4, "a")).map(|copy| copy.seq), Some(4), "a later one too");
        queue.done(&other);
        assert!(queue.add(outbound(5, "b")).is_none());
        assert_eq!(seqs(&queue.take_ready(9)), [5]);
        assert!(queue.take_due(now, 9).is_empty());
        let again = one(queue.take_due(now + PAUSE_MIN, 9));
        assert_eq!((again.outbound.seq, again.tracked), (1, false));
        queue.done(&again);
        assert_eq!(seqs(&queue.take_ready(9)), [2], "in order, at once");
    }

    #[test]
    fn pauses_grow_so_that_there_are_six_tries_in_25_seconds() {
        let mut queue = Queue::new(Way::Urgent, LIMITS);
        queue.add(outbound(1, "a"));
        let start = Instant::now();
        let (mut now, mut tries) = (start, 1);
        let mut waiting = one(queue.take_ready(1));
        loop {
            queue.later(waiting, now);
            now = queue.next_retry().unwrap();
            if now > start + Duration::from_secs(25) {
                break;
            }
            tries += 1;
            waiting = one(queue.take_due(now, 1));
        }
        assert_eq!(tries, 6);
        assert_eq!(pause(40), PAUSE_MAX);
    }

    #[test]
    fn what_may_have_closed_its_channel_goes_alone() {
        let mut queue = Queue::new(Way::Signals, LIMITS);
        for (seq, instance) in [(1, "a"), (2, "b"), (3, "c")] {
            queue.add(outbound(seq, instance));
        }
        let now = Instant::now();
        for mut waiting in queue.take_ready(9) {
            waiting.alone = waiting.outbound.seq != 3;
            queue.later(waiting, now);
        }
        let mut rounds = Vec::new();
        loop {
            let taken = queue.take_due(now + PAUSE_MIN, 9);
            if taken.is_empty() {
                break;
            }
            rounds.push(seqs(&taken));
        }
        assert_eq!(rounds, [vec![1], vec![2], vec![3]]);
    }

    #[test]
    fn what_belongs_to_an_ended_command_is_taken_back() {
        let mut queue = Queue::new(Way::Signals, LIMITS);
        queue.add(outbound(1, "a"));
        let failed = one(queue.take_ready(1));
        queue.later(failed, Instant::now());
        queue.add(outbound(2, "a"));
        assert_eq!(seqs(&queue.take_entries(&BTreeSet::from([1, 7]))), [1]);
        let due = Instant::now() + PAUSE_MAX;
        assert_eq!(seqs(&queue.take_due(due, 9)), [2]);
    }

    #[test]
    fn what_stands_behind_a_slow_one_is_set_aside() {
        let mut queue = Queue::new(Way::Signals, LIMITS);
        queue.add(outbound(1, "a"));
        queue.add(outbound(2, "a"));
        let slow = one(queue.take_ready(1));
        assert_eq!(queue.slow(&slow).len(), 1);
        assert_eq!(queue.add(outbound(3, "a")).map(|copy| copy.seq), Some(3));
        queue.done(&slow);
        let next = one(queue.take_ready(9));
        assert_eq!((next.outbound.seq, next.tracked), (2, false));
    }
}
