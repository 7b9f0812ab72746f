//! Refusals and faults of one kind, told once and then counted.
//!
//! Owns: which kinds were told in the log of late, and how many have come since; the same for one
//! fault that comes again.
//! Never: counts for the metrics or the ledger, or holds up who refuses.
//! Holds: at most `KINDS_MAX` kinds are told apart; what comes beyond is counted by its reason
//! alone.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::contract::{audit::Verdict, reason::Reason};

/// How many kinds are told apart.
const KINDS_MAX: usize = 1_024;
/// Whose they are, beyond that.
const OTHERS: &str = "others";

/// What makes two refusals alike, besides whose they are.
type Kind = (Verdict, Reason);

/// The kinds of late.
#[derive(Debug)]
pub(super) struct Repeats {
    kinds: BTreeMap<Kind, BTreeMap<Box<str>, Seen>>,
    count: usize,
    window: Duration,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    untold: u64,
}

/// How many more of a kind there were, since when.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    pub verdict: Verdict,
    pub reason: Reason,
    pub principal: Box<str>,
    pub count: u64,
}

impl Repeats {
    pub(super) fn new(window: Duration) -> Self {
        Self { kinds: BTreeMap::new(), count: 0, window }
    }

    /// What is counted already is told when the new window is over.
    pub(super) fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// Whether this one is worth a line of its own.
    pub(super) fn is_first(
        &mut self,
        verdict: Verdict,
        reason: Reason,
        principal: &str,
        now: Instant,
    ) -> bool {
        let kind = (verdict, reason);
        let mut principals = self.kinds.entry(kind).or_default();
        if let Some(seen) = principals.get_mut(principal) {
            seen.untold += 1;
            return false;
        }
        let mut principal = principal;
        if self.count >= KINDS_MAX {
            self.forget(now);
            principals = self.kinds.entry(kind).or_default();
            principal = if self.count < KINDS_MAX { principal } else { OTHERS };
        }
        if let Some(seen) = principals.get_mut(principal) {
            seen.untold += 1;
            return false;
        }
        principals.insert(principal.into(), Seen { since: now, untold: 0 });
        self.count += 1;
        true
    }

    /// What is to be told of the kinds whose window is over, or of `all`.
    pub(super) fn due(&mut self, now: Instant, all: bool) -> Vec<Repeated> {
        let mut due = Vec::new();
        for (&(verdict, reason), principals) in &mut self.kinds {
            for (principal, seen) in principals {
                if seen.untold > 0 && (all || now.duration_since(seen.since) >= self.window) {
                    let count = std::mem::take(&mut seen.untold);
                    seen.since = now;
                    due.push(Repeated { verdict, reason, principal: principal.clone(), count });
                }
            }
        }
        self.forget(now);
        due
    }

    /// Forgets the kinds of which nothing came for a window.
    fn forget(&mut self, now: Instant) {
        for principals in self.kinds.values_mut() {
            principals.retain(|_, seen| seen.untold > 0 || now.duration_since(seen.since) < self.window);
        }
        self.kinds.retain(|_, principals| !principals.is_empty());
        self.count = self.kinds.values().map(BTreeMap::len).sum();
    }
}

/// How long a fault that comes again is counted before the log has it once more.
const FAULT_WINDOW: Duration = Duration::from_secs(60);

/// A fault that comes again and again until it is mended.
#[derive(Debug, Default)]
pub struct Recurring {
    told: Option<(String, Instant)>,
    untold: u64,
}

impl Recurring {
    /// Whether it is worth a line: it is another than before, or its window is over. Returns how
    /// many like the one before were not told.
    pub fn due(&mut self, fault: &impl ToString, now: Instant) -> Option<u64> {
        let fault = fault.to_string();
        let is_fresh =
            |(told, at): &(String, Instant)| *told == fault && now.duration_since(*at) < FAULT_WINDOW;
        if self.told.as_ref().is_some_and(is_fresh) {
            self.untold += 1;
            return None;
        }
        self.told = Some((fault, now));
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn one_of_a_kind_is_told_and_the_others_are_counted() {
        let (mut repeats, begun) = (Repeats::new(WINDOW), Instant::now());
        let hear = |repeats: &mut Repeats, who: &str, after_ms| {
            repeats.is_first(Verdict::Refuse, Reason::Schema, who, begun + Duration::from_millis(after_ms))
        };
        assert!(hear(&mut repeats, "ann", 0));
        for number in 1..1_000 {
            assert!(!hear(&mut repeats, "ann", number));
        }
        assert!(hear(&mut repeats, "bob", 5));
        assert_eq!(repeats.due(begun + Duration::from_secs(9), false), []);
        let due = repeats.due(begun + WINDOW, false);
        let told: Vec<_> = due.iter().map(|repeated| (&*repeated.principal, repeated.count)).collect();
        assert_eq!(told, [("ann", 999)]);
        // A kind that goes on is a count a window; one that ended is forgotten, and is told when it
        // comes again.
        assert!(!hear(&mut repeats, "ann", 11_000));
        assert_eq!(repeats.due(begun + WINDOW * 2, false).len(), 1);
        assert_eq!(repeats.due(begun + WINDOW * 3, false), []);
        assert!(hear(&mut repeats, "ann", 31_000));
    }

    #[test]
    fn a_fault_that_comes_again_is_told_once_a_window_with_its_number() {
        let (mut recurring, begun) = (Recurring::default(), Instant::now());
        assert_eq!(recurring.due(&"full", begun), Some(0));
        for number in 1..120 {
            assert_eq!(recurring.due(&"full", begun + Duration::from_millis(500 * number)), None);
        }
        assert_eq!(recurring.due(&"full", begun + FAULT_WINDOW), Some(119));
        assert_eq!(recurring.due(&"gone", begun + FAULT_WINDOW), Some(0), "another one is told at once");
    }

    #[test]
    fn what_is_untold_is_told_at_the_end() {
        let (mut repeats, now) = (Repeats::new(WINDOW), Instant::now());
        for number in 0..3 {
            assert_eq!(repeats.is_first(Verdict::Refuse, Reason::Schema, "ann", now), number == 0);
        }
        assert_eq!(repeats.due(now, true).first().map(|repeated| repeated.count), Some(2));
    }

    #[test]
    fn kinds_without_end_are_counted_together() {
        let (mut repeats, now) = (Repeats::new(WINDOW), Instant::now());
        let firsts = (0..10 * KINDS_MAX)
            .filter(|number| {
                repeats.is_first(Verdict::Refuse, Reason::Schema, &format!("sender-{number}"), now)
            })
            .count();
        assert_eq!(firsts, KINDS_MAX + 1);
        let due = repeats.due(now + WINDOW, false);
        assert_eq!(due.iter().map(|repeated| repeated.count).sum::<u64>(), (9 * KINDS_MAX - 1) as u64);
        assert_eq!(repeats.count, 1);
    }
}
