//! What waits to leave by one way: pure, `now` is handed in.
//!
//! Owns: the order of messages to one target, when a message that failed is tried again, and the
//! bounds on what waits.
//! Never: publishes, or drops a message without saying so.
//! Holds: to one target at most one message is under way, where the way keeps order, and none
//! leaves before an earlier one, nor after a later one was given up; a target that is tried again
//! holds up no other target. What gives way at a bound is ranked: nobody's flood takes out what
//! ranks higher.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::Outbound;
use crate::{
    config::Outbox,
    contract::{
        audit::Proof,
        lane::Way,
        routing::{ControlPlaneRouting, Family},
    },
    decision::state::flight::Flight,
};

/// The first pause before a message is tried again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// For how long what comes to a target behind a message that was given up may have been decided
/// before that was known. From then on the decision itself makes it wait.
const BEHIND_FOR: Duration = Duration::from_secs(10);
/// Of how many that is known. Beyond, of none: what was decided before may leave first then.
const GIVEN_UP_MAX: usize = 10_000;
/// So many times less than a bound is what proven stops and the router's own orders have beyond it.
const RESERVE: usize = 10;

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

/// What gives way to what, the lower to the higher, as commands do that wait for their targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::runtime) enum Precedence {
    /// Whatever is no stop.
    Ordinary,
    /// A stop or tightening of somebody who is not proven.
    Unproven,
    /// A stop or tightening of a proven sender.
    Proven,
    /// A stop that the router ordered itself.
    Own,
}

impl Precedence {
    /// That of a command in flight.
    pub fn of(flight: &Flight) -> Self {
        match (flight.always_passes, flight.sender.by) {
            (false, _) => Self::Ordinary,
            (true, Proof::Router) => Self::Own,
            (true, _) if flight.sender.is_proven() => Self::Proven,
            (true, _) => Self::Unproven,
        }
    }

    /// A bound, with what is kept free beyond it for those that only give way to their like.
    const fn bound(self, max: usize) -> usize {
        match self {
            Self::Ordinary | Self::Unproven => max,
            Self::Proven | Self::Own => max.saturating_add(max.div_ceil(RESERVE)),
        }
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

    /// Takes out what there is no room for: of what ranks lowest the oldest, and of its target the
    /// newest first, because what is given up comes back behind what stays.
    pub fn take_excess(&mut self, added: &Outbound, now: Instant) -> Vec<Waiting> {
        let mut excess = Vec::new();
        if self.way.keeps_order() {
            let target = self.target(added, 0);
            while let Some(lowest) = self.too_many_at(&target) {
                excess.extend(self.take_newest(&target, lowest, now));
            }
        }
        while let Some((&(lowest, _), target)) = self.aside.first_key_value()
            && (self.aside.len() > lowest.bound(self.limits.total_max)
                || self.aside_bytes > lowest.bound(self.limits.bytes_max))
        {
            let target = target.clone();
            excess.extend(self.take_newest(&target, lowest, now));
        }
        excess
    }

    /// What gives way at a target, where too much waits there.
    fn too_many_at(&self, target: &Target) -> Option<Precedence> {
        let line = self.lines.get(target)?;
        let aside = line.waiting.iter().filter(|waiting| !waiting.tracked);
        let lowest = aside.clone().map(|waiting| waiting.outbound.precedence).min()?;
        (aside.count() > lowest.bound(self.limits.target_max)).then_some(lowest)
    }

    /// Takes the newest of that rank out of a target's line, and notes that what comes behind it is
    /// to come back too.
    fn take_newest(&mut self, target: &Target, rank: Precedence, now: Instant) -> Option<Waiting> {
        let line = self.lines.get(target)?;
        let newest = line.waiting.iter().rev().find(|waiting| waiting.outbound.precedence == rank)?;
        let number = newest.number;
        let waiting = self.take_from(target.clone(), number)?;
        if self.way.keeps_order() && waits_in_the_state(&waiting.outbound) {
            self.note_given_up((target.clone(), waiting.outbound.seq), now + BEHIND_FOR, now);
        }
        Some(waiting)
    }

    fn note_given_up(&mut self, place: (Target, u64), until: Instant, now: Instant) {
        if self.given_up.len() >= GIVEN_UP_MAX {
            self.given_up.retain(|_, until| *until > now);
        }
        if self.given_up.len() >= GIVEN_UP_MAX {
            self.given_up.clear();
        }
        self.given_up.insert(place, until);
    }

    /// Whether a message comes to a target behind one that was given up and has not come again: it
    /// was decided before that was known, and goes the same way, or it would leave first.
    pub fn comes_behind(&mut self, outbound: &Outbound, now: Instant) -> bool {
        if self.given_up.is_empty() || !waits_in_the_state(outbound) {
            return false;
        }
        let (target, seq) = (self.target(outbound, 0), outbound.seq);
        self.given_up.remove(&(target.clone(), seq));
        // What ended meanwhile never comes again.
        let earlier = self.given_up.range((target.clone(), 0)..(target.clone(), seq));
        let Some(until) = earlier.map(|(_, until)| *until).filter(|until| *until > now).max() else {
            return false;
        };
        self.note_given_up((target, seq), until, now);
        true
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

/// Whether it waits for its target where it is given up: an ordinary command to one instance.
fn waits_in_the_state(outbound: &Outbound) -> bool {
    let key = || ControlPlaneRouting::parse(&outbound.departure.message.routing_key);
    outbound.ends
        && outbound.starts.is_none()
        && key().is_ok_and(|key| key.family == Family::Signal && !key.scope.fans_out())
}

/// 0.5 s, 1 s, 2 s … 30 s: six tries in 25 seconds.
fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        bus::Departure,
        contract::message::{Message, Properties},
    };

    const LIMITS: Limits = Limits { target_max: 3, total_max: 5, bytes_max: 1_000 };

    fn outbound(seq: u64, instance: &str) -> Outbound {
        let message = Message {
            exchange: "out".to_owned(),
            routing_key: format!("signal.config-update.s.r.{instance}"),
            properties: Properties::default(),
            body: Bytes::from_static(b"0123456789"),
        };
        let departure = Departure { message, mandatory: true };
        Outbound {
            job: seq,
            seq,
            ordinal: 0,
            ends: true,
            starts: None,
            precedence: Precedence::Ordinary,
            departure,
        }
    }

    /// A stop to an instance of its own.
    fn stop(seq: u64, precedence: Precedence) -> Outbound {
        Outbound { ends: false, precedence, ..outbound(seq, &format!("i-{seq}")) }
    }

    /// Adds it to a way whose subscriber is full; answers what is given up for it.
    fn refused(queue: &mut Queue, outbound: Outbound, now: Instant) -> Vec<u64> {
        queue.add(outbound.clone());
        for waiting in queue.take_ready(9) {
            queue.later(waiting, now);
        }
        seqs(&queue.take_excess(&outbound, now))
    }

    fn seqs(waiting: &[Waiting]) -> Vec<u64> {
        waiting.iter().map(|waiting| waiting.outbound.seq).collect()
    }

    fn one(mut taken: Vec<Waiting>) -> Waiting {
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
    fn at_the_bounds_the_newest_of_a_target_is_taken_out_and_the_oldest_target_first() {
        let (mut queue, now) = (Queue::new(Way::Signals, LIMITS), Instant::now());
        for seq in 1..=3 {
            assert!(refused(&mut queue, outbound(seq, "a"), now).is_empty(), "as many as may wait for one");
        }
        assert_eq!(refused(&mut queue, outbound(4, "a"), now), [4]);
        for (seq, instance) in [(10, "b"), (11, "c")] {
            assert!(refused(&mut queue, outbound(seq, instance), now).is_empty());
        }
        assert_eq!(refused(&mut queue, outbound(12, "d"), now), [3], "of the target that waits longest");
        assert_eq!((queue.aside(), queue.aside_bytes), (5, 50));
        queue.limits.bytes_max = 30;
        assert_eq!(seqs(&queue.take_excess(&outbound(12, "d"), now)), [2, 1]);
        assert_eq!((queue.aside(), queue.aside_bytes), (3, 30));
        assert!(
            !queue.lines.contains_key(&Target::Scope("s.r.a".into())),
            "nothing is left of a target without messages"
        );
        assert_eq!(queue.retries.len(), 3);
    }

    #[test]
    fn a_flood_takes_out_nothing_that_ranks_higher() {
        let (mut queue, now) = (Queue::new(Way::Urgent, LIMITS), Instant::now());
        let add = |queue: &mut Queue, seq, rank| refused(queue, stop(seq, rank), now);
        assert!(add(&mut queue, 1, Precedence::Own).is_empty());
        assert!(add(&mut queue, 2, Precedence::Proven).is_empty());
        assert!(add(&mut queue, 3, Precedence::Ordinary).is_empty());
        for seq in 4..=5 {
            assert!(add(&mut queue, seq, Precedence::Unproven).is_empty());
        }
        let given_up = |queue: &mut Queue, seqs: std::ops::Range<u64>, rank| {
            seqs.flat_map(|seq| add(queue, seq, rank)).collect::<Vec<u64>>()
        };
        assert_eq!(given_up(&mut queue, 6..10, Precedence::Unproven), [3, 4, 5, 6]);
        assert_eq!(given_up(&mut queue, 10..13, Precedence::Proven), [7, 8, 9]);
        // A tenth of the bound is theirs beyond it; then the oldest of them, and never an order of
        // the router's own.
        assert_eq!(given_up(&mut queue, 13..16, Precedence::Proven), [2, 10]);
        assert_eq!(given_up(&mut queue, 16..17, Precedence::Unproven), [16], "and nobody else has room");
        assert_eq!(given_up(&mut queue, 20..25, Precedence::Own), [11, 12, 13, 14, 15]);
        assert_eq!(given_up(&mut queue, 25..26, Precedence::Own), [1], "they give way to their like alone");
    }

    #[test]
    fn a_flood_of_bytes_takes_out_nothing_that_ranks_higher() {
        let limits = Limits { target_max: 100, total_max: 100, bytes_max: 100 };
        let (mut queue, now) = (Queue::new(Way::Urgent, limits), Instant::now());
        assert!(refused(&mut queue, stop(1, Precedence::Own), now).is_empty());
        assert!(refused(&mut queue, stop(2, Precedence::Proven), now).is_empty());
        let mut big = stop(3, Precedence::Unproven);
        big.departure.message.body = Bytes::from_static(&[b'x'; 90]);
        assert_eq!(refused(&mut queue, big, now), [3]);
        assert_eq!((queue.aside(), queue.aside_bytes), (2, 20));
    }

    #[test]
    fn what_comes_behind_one_that_was_given_up_goes_the_same_way() {
        let (mut queue, now) = (Queue::new(Way::Signals, LIMITS), Instant::now());
        for seq in 1..=4 {
            refused(&mut queue, outbound(seq, "a"), now);
        }
        assert!(queue.comes_behind(&outbound(5, "a"), now), "decided before 4 was known to be given up");
        assert!(!queue.comes_behind(&outbound(6, "b"), now), "another target");
        assert!(!queue.comes_behind(&outbound(7, "ALL"), now), "a fan-out waits for nobody");
        assert!(!queue.comes_behind(&outbound(4, "a"), now), "it comes again");
        assert!(!queue.comes_behind(&outbound(5, "a"), now), "and this behind it");
        assert!(!queue.comes_behind(&outbound(8, "a"), now));
        refused(&mut queue, outbound(9, "a"), now);
        assert!(queue.comes_behind(&outbound(10, "a"), now));
        assert!(
            !queue.comes_behind(&outbound(10, "a"), now + BEHIND_FOR),
            "what never comes again has ended"
        );
    }

    #[test]
    fn what_is_known_of_what_was_given_up_is_bounded() {
        let (mut queue, now) = (Queue::new(Way::Signals, LIMITS), Instant::now());
        for seq in 0..=GIVEN_UP_MAX as u64 {
            queue.note_given_up((Target::Each(seq), seq), now + BEHIND_FOR, now);
        }
        assert_eq!(queue.given_up.len(), 1);
        for seq in 0..GIVEN_UP_MAX as u64 {
            queue.note_given_up((Target::Each(seq), seq), now + BEHIND_FOR, now + BEHIND_FOR);
        }
        assert!(queue.given_up.len() <= GIVEN_UP_MAX);
    }

    /// What happens around a way: commands are decided, handed over, tried, given up, known to be,
    /// and let go again.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Decide(u8),
        HandOver,
        Try(bool),
        Book,
        Show(u8),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..3u8).prop_map(Event::Decide),
            4 => Just(Event::HandOver),
            3 => any::<bool>().prop_map(Event::Try),
            2 => Just(Event::Book),
            1 => (0..3u8).prop_map(Event::Show),
        ]
    }

    proptest! {
        #[test]
        fn to_each_target_messages_leave_in_the_order_of_their_entries(events in vec(event(), 1..200)) {
            let limits = Limits { target_max: 2, total_max: 4, bytes_max: 1_000 };
            let (mut queue, mut now) = (Queue::new(Way::Signals, limits), Instant::now());
            let (mut pipe, mut reported) = (VecDeque::new(), Vec::new());
            let mut parked: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
            let mut left: BTreeMap<u64, u64> = BTreeMap::new();
            let mut seq = 0;
            let instance = |target: u8| format!("i-{target}");
            for event in events {
                match event {
                    Event::Decide(target) => {
                        // The low digit says whom it is for.
                        seq += 10;
                        let waits = parked.entry(target).or_default();
                        let number = seq + u64::from(target);
                        if waits.is_empty() { pipe.push_back(number) } else { waits.extend([number]) }
                    }
                    Event::HandOver => {
                        let Some(number) = pipe.pop_front() else { continue };
                        let message = outbound(number, &instance((number % 10) as u8));
                        if queue.comes_behind(&message, now) {
                            reported.push(number);
                        } else {
                            queue.add(message.clone());
                            reported.extend(seqs(&queue.take_excess(&message, now)));
                        }
                    }
                    Event::Try(carried) => {
                        now += Duration::from_millis(1);
                        queue.hasten(now);
                        for waiting in queue.take_ready(9).into_iter().chain(queue.take_due(now, 9)) {
                            let message = waiting.outbound.clone();
                            if carried {
                                let last = left.insert(message.seq % 10, message.seq);
                                prop_assert!(last < Some(message.seq), "{last:?} left before {}", message.seq);
                                queue.done(&waiting);
                            } else {
                                queue.later(waiting, now);
                                reported.extend(seqs(&queue.take_excess(&message, now)));
                            }
                        }
                    }
                    Event::Book => for number in reported.drain(..) {
                        parked.entry((number % 10) as u8).or_default().insert(number);
                    },
                    Event::Show(target) => pipe.extend(parked.remove(&target).unwrap_or_default()),
                }
            }
        }
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
