//! What gives way where too much waits to leave by one way.
//!
//! Owns: who gives way at a bound, and what comes to a target behind that.
//! Never: publishes, or drops a message without saying so.
//! Holds: nobody's flood takes out what ranks higher, and to a target nothing leaves after a later
//! one was given up.

use std::time::Duration;

use tokio::time::Instant;

use super::{Queue, Target, Waiting};
use crate::{
    contract::routing::{ControlPlaneRouting, Family},
    decision::state::precedence::Precedence,
    runtime::dispatch::Outbound,
};

/// For how long what comes to a target behind a message that was given up may have been decided
/// before that was known. From then on the decision itself makes it wait.
const BEHIND_FOR: Duration = Duration::from_secs(10);
/// Of how many that is known. Beyond, of none: what was decided before may leave first then.
const GIVEN_UP_MAX: usize = 10_000;
/// So many times less than a bound is what proven stops and the router's own orders have beyond it.
const RESERVE: usize = 10;

/// A bound, with what is kept free beyond it for those that only give way to their like.
const fn bound_of(precedence: Precedence, max: usize) -> usize {
    match precedence {
        Precedence::Ordinary | Precedence::Unproven => max,
        Precedence::Proven | Precedence::Own => max.saturating_add(max.div_ceil(RESERVE)),
    }
}

impl Queue {
    /// Takes out what there is no room for: of what ranks lowest the oldest, and of its target the
    /// newest first, because what is given up comes back behind what stays.
    pub fn take_excess(&mut self, added: &Outbound, now: Instant) -> Vec<Waiting> {
        let mut excess = Vec::new();
        // First at the target: what goes there makes room, and nobody else gives way for it.
        if self.way.keeps_order() {
            let target = self.target(added, 0);
            while let Some(lowest) = self.too_many_at(&target) {
                excess.extend(self.take_newest(&target, lowest, now));
            }
        }
        while let Some((&(lowest, _), target)) = self.aside.first_key_value()
            && (self.aside.len() > bound_of(lowest, self.limits.total_max)
                || self.aside_bytes > bound_of(lowest, self.limits.bytes_max))
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
        (aside.count() > bound_of(lowest, self.limits.target_max)).then_some(lowest)
    }

    /// Takes the newest of that rank out of a target's line, and notes that what comes behind it is
    /// to come back too.
    fn take_newest(&mut self, target: &Target, rank: Precedence, now: Instant) -> Option<Waiting> {
        let line = self.lines.get(target)?;
        let newest = line.waiting.iter().rev().find(|waiting| waiting.outbound.precedence == rank)?;
        let number = newest.number;
        let waiting = self.take_from(target.clone(), number)?;
        self.gave_up(&waiting.outbound, now);
        Some(waiting)
    }

    /// A message is given up: where it waits for its target in the state, what comes to that behind
    /// it is to wait there too.
    pub fn gave_up(&mut self, outbound: &Outbound, now: Instant) {
        if self.way.keeps_order() && waits_in_the_state(outbound) {
            let target = self.target(outbound, 0);
            self.note_given_up((target, outbound.seq), now + BEHIND_FOR, now);
        }
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
}

/// Whether it waits for its target where it is given up: an ordinary command to one instance.
fn waits_in_the_state(outbound: &Outbound) -> bool {
    let key = || ControlPlaneRouting::parse(&outbound.departure.message.routing_key);
    outbound.is_in_flight() && key().is_ok_and(|key| key.family == Family::Signal && !key.scope.fans_out())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use bytes::Bytes;
    use proptest::{collection::vec, prelude::*};

    use super::{
        super::{
            Limits,
            tests::{LIMITS, outbound, seqs},
        },
        *,
    };
    use crate::contract::lane::Way;

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
}
