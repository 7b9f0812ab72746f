//! Fresh, stale, lost and back: one table of timers.
//!
//! Owns: the timers, the clock they run on, and what falls due for one instance.
//! Never: walks instances; each tells its own next deadline.
//! Holds: time in which the metrics lane was not consuming passes on no timer; an instance is back
//! only after a
//! status-full or `back_after_count` statuses in a row, in whatever order those were merged.

use std::collections::{BTreeSet, VecDeque};

use serde::Serialize;

use crate::{
    contract::{routing::Scope, timestamp::Timestamp},
    decision::{rules::inventory::InventoryLimits, state::inventory::record::SaidAt},
};

/// How recent what is known of an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    /// It has never spoken.
    #[default]
    Unknown,
    /// It speaks.
    Fresh,
    /// It has been silent for `stale_after_ms`.
    Stale,
    /// It has been silent for `lost_after_ms`.
    Lost,
}

impl Freshness {
    /// All four, in the order of their numbers.
    pub const ALL: [Freshness; 4] = [Freshness::Unknown, Freshness::Fresh, Freshness::Stale, Freshness::Lost];

    /// Its word in views and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Freshness::Unknown => "unknown",
            Freshness::Fresh => "fresh",
            Freshness::Stale => "stale",
            Freshness::Lost => "lost",
        }
    }
}

/// Something that fell due. Settling it makes it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The instance.
    pub scope: Scope,
    /// What happened.
    pub what: What,
    /// When it was found due.
    pub at: Timestamp,
    /// How recent what is known of it is; `None` where it never spoke.
    pub as_of: Option<Timestamp>,
    /// When its last status arrived; `None` where it never spoke.
    pub last_seen: Option<Timestamp>,
}

/// What falls due for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It is silent.
    Stale,
    /// It has been silent for long.
    Lost,
    /// It speaks again.
    Back,
    /// Only deltas of it are known: one `status-request` is due.
    Ask,
    /// It leaves the inventory.
    Forgotten,
}

/// The table of timers: what so much silence makes of an instance.
pub(super) const fn after_silence(silence_ms: i64, limits: &InventoryLimits) -> Freshness {
    if silence_ms >= ms(limits.lost_after_ms) {
        Freshness::Lost
    } else if silence_ms >= ms(limits.stale_after_ms) {
        Freshness::Stale
    } else {
        Freshness::Fresh
    }
}

/// What the timers know of one instance. Times are on the lane's clock, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    freshness: Freshness,
    /// Set while it is silent.
    recovery: Option<Box<Recovery>>,
    /// Set while the baseline is missing.
    asks: Option<Box<Asks>>,
}

/// The status-requests for a baseline.
#[derive(Clone, Copy, Debug)]
struct Asks {
    count: u32,
    /// When the next one is due.
    at: i64,
}

/// What was heard since an instance was found silent.
#[derive(Clone, Debug)]
struct Recovery {
    /// When the silence became too long; what was said before proves nothing.
    lapsed: i64,
    full: bool,
    /// The newest statuses, at most `back_after_count`; a set, so that order and repetition change
    /// nothing.
    newest: BTreeSet<(i64, SaidAt)>,
}

/// A status as the timers hear it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeardStatus {
    /// Until when it shows that its instance lived.
    pub at: i64,
    pub stamp: SaidAt,
    /// How long before its arrival that was.
    pub age_ms: i64,
    pub is_full: bool,
}

/// What the timers must know of the rest of the instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vitals {
    /// When it was last heard, or became known where it never spoke.
    pub heard: i64,
    pub has_spoken: bool,
    pub is_expected: bool,
}

impl Timers {
    pub fn new() -> Self {
        Self { freshness: Freshness::Unknown, recovery: None, asks: None }
    }

    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// A status was heard.
    pub fn hear(&mut self, heard: &HeardStatus, limits: &InventoryLimits) {
        if self.freshness == Freshness::Unknown {
            self.freshness = Freshness::Fresh;
        }
        let Some(recovery) = self.recovery.as_deref_mut() else { return };
        // What was stale when it arrived, or was said before the silence, brings nobody back.
        let is_current = after_silence(heard.age_ms, limits) == Freshness::Fresh;
        if !is_current || heard.at < recovery.lapsed {
            return;
        }
        recovery.full |= heard.is_full;
        recovery.newest.insert((heard.at, heard.stamp));
        while recovery.newest.len() > limits.back_after_count.max(1) {
            recovery.newest.pop_first();
        }
    }

    /// The baseline is missing since the first status, or is there.
    pub fn ask(&mut self, first_seen: i64, has_baseline: bool) {
        if has_baseline {
            self.asks = None;
            return;
        }
        let asks = self.asks.get_or_insert_with(|| Box::new(Asks { count: 0, at: first_seen }));
        // Statuses are merged in any order: until a request has left, the earliest of them counts.
        if asks.count == 0 {
            asks.at = first_seen;
        }
    }

    /// Whether a status-request for the baseline is due.
    pub fn wants_baseline(&self, now: i64) -> bool {
        self.asks.as_ref().is_some_and(|asks| asks.at <= now)
    }

    /// What comes next, and when.
    pub fn next(&self, vitals: Vitals, limits: &InventoryLimits) -> Option<(i64, What)> {
        let after = |ms: u64| plus_ms(vitals.heard, ms);
        let stale = (after(limits.stale_after_ms), What::Stale);
        let lost = (after(limits.lost_after_ms), What::Lost);
        // Whatever is set, nobody is forgotten before being lost.
        let forgotten = (after(limits.forget_after_ms.max(limits.lost_after_ms)), What::Forgotten);
        if !vitals.has_spoken {
            return (!vitals.is_expected).then_some(forgotten);
        }
        // An instance that came back is due at once.
        let back = self.recovery.as_deref().is_some_and(|recovery| recovery.is_over(limits));
        match self.freshness {
            Freshness::Stale | Freshness::Lost if back => Some((vitals.heard, What::Back)),
            Freshness::Unknown | Freshness::Fresh => {
                let ask = self.asks.as_ref().map(|asks| (asks.at, What::Ask));
                [Some(stale), Some(lost), ask].into_iter().flatten().min()
            }
            Freshness::Stale => Some(lost),
            Freshness::Lost => (!vitals.is_expected).then_some(forgotten),
        }
    }

    /// What is due by `now`: of two timers that have both run out, the later one.
    pub fn due(&self, vitals: Vitals, now: i64, limits: &InventoryLimits) -> Option<What> {
        let (_, what) = self.next(vitals, limits).filter(|(at, _)| *at <= now)?;
        let silence_ms = now.saturating_sub(vitals.heard) / 1000;
        Some(match (what, after_silence(silence_ms, limits)) {
            (What::Stale | What::Ask, Freshness::Lost) => What::Lost,
            (What::Ask, Freshness::Stale) => What::Stale,
            _ => what,
        })
    }

    /// Takes a change that was due as having happened.
    pub fn settle(&mut self, what: What, vitals: Vitals, now: i64, limits: &InventoryLimits) {
        match what {
            What::Stale | What::Lost => {
                self.freshness = if what == What::Lost { Freshness::Lost } else { Freshness::Stale };
                // What was heard between stale and lost may still bring it back.
                self.recovery.get_or_insert_with(|| {
                    let lapsed = plus_ms(vitals.heard, limits.stale_after_ms);
                    Box::new(Recovery { lapsed, full: false, newest: BTreeSet::new() })
                });
            }
            What::Back => (self.freshness, self.recovery) = (Freshness::Fresh, None),
            What::Ask => {
                if let Some(asks) = self.asks.as_deref_mut() {
                    let doubled = limits.request_backoff_ms_min.saturating_mul(1 << asks.count.min(32));
                    asks.at = plus_ms(now, doubled.min(limits.request_backoff_ms_max));
                    asks.count = asks.count.saturating_add(1);
                }
            }
            What::Forgotten => {}
        }
    }

    pub fn bytes(&self) -> usize {
        let recovery = |recovery: &Recovery| size_of::<Recovery>() + recovery.newest.len() * 48 + 64;
        let asks = self.asks.as_ref().map_or(0, |_| size_of::<Asks>());
        asks + self.recovery.as_deref().map_or(0, recovery)
    }
}

impl Recovery {
    /// A full, or enough statuses with no stale gap between them.
    fn is_over(&self, limits: &InventoryLimits) -> bool {
        let heard = self.newest.iter().map(|(heard, _)| *heard);
        let in_a_row = heard
            .clone()
            .zip(heard.skip(1))
            .all(|(one, next)| after_silence(next.saturating_sub(one) / 1000, limits) == Freshness::Fresh);
        self.full || (in_a_row && self.newest.len() >= limits.back_after_count.max(1))
    }
}

/// The clock of the timers: it stands while the metrics lane does not consume.
#[derive(Clone, Debug, Default)]
pub(super) struct LaneClock {
    pauses: VecDeque<Pause>,
    stands_since: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    start: i64,
    end: i64,
    /// How long it had stood before, in all.
    before: i64,
}

impl Pause {
    fn after(&self) -> i64 {
        self.before.saturating_add(self.end.saturating_sub(self.start))
    }
}

impl LaneClock {
    /// How many pauses are kept; what was heard before the first of them ages by all before it.
    const PAUSES_COUNT_MAX: usize = 16;

    /// The lane's time at a moment.
    pub fn at(&self, moment: i64) -> i64 {
        let moment = self.stands_since.map_or(moment, |since| moment.min(since));
        for pause in self.pauses.iter().rev() {
            if moment >= pause.end {
                return moment.saturating_sub(pause.after());
            }
            if moment >= pause.start {
                return pause.start.saturating_sub(pause.before);
            }
        }
        moment.saturating_sub(self.pauses.front().map_or(0, |pause| pause.before))
    }

    /// The moment at which the lane's time will be so; `None` while it stands.
    pub fn moment(&self, lane: i64) -> Option<Timestamp> {
        let stood = self.pauses.back().map_or(0, Pause::after);
        self.stands_since.is_none().then(|| Timestamp::from_micros(lane.saturating_add(stood)))
    }

    /// Whether the lane does not consume.
    pub fn stands(&self) -> bool {
        self.stands_since.is_some()
    }

    pub fn pause(&mut self, at: Timestamp) {
        // Two pauses never overlap.
        let earliest = self.pauses.back().map_or(i64::MIN, |pause| pause.end);
        self.stands_since.get_or_insert(at.micros().max(earliest));
    }

    pub fn resume(&mut self, at: Timestamp) {
        let Some(start) = self.stands_since.take() else { return };
        let before = self.pauses.back().map_or(0, Pause::after);
        self.pauses.push_back(Pause { start, end: at.micros().max(start), before });
        if self.pauses.len() > Self::PAUSES_COUNT_MAX {
            self.pauses.pop_front();
        }
    }
}

const fn ms(ms: u64) -> i64 {
    if ms > i64::MAX as u64 { i64::MAX } else { ms as i64 }
}

fn plus_ms(micros: i64, ms: u64) -> i64 {
    Timestamp::from_micros(micros).plus_ms(ms).micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_timers() {
        let limits = InventoryLimits::default();
        let table = [
            (i64::MIN, Freshness::Fresh),
            (0, Freshness::Fresh),
            (14_999, Freshness::Fresh),
            (15_000, Freshness::Stale),
            (59_999, Freshness::Stale),
            (60_000, Freshness::Lost),
            (i64::MAX, Freshness::Lost),
        ];
        for (silence_ms, expected) in table {
            assert_eq!(after_silence(silence_ms, &limits), expected, "{silence_ms}");
        }
    }

    #[test]
    fn the_clock_stands_while_nothing_is_consumed() {
        let mut clock = LaneClock::default();
        let moment = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let lane = |clock: &LaneClock, seconds: i64| clock.at(seconds * 1_000_000) / 1_000_000;
        clock.pause(moment(10));
        clock.pause(moment(15));
        assert_eq!((lane(&clock, 5), lane(&clock, 50), clock.moment(0)), (5, 10, None));
        clock.resume(moment(30));
        assert_eq!([5, 10, 20, 30, 31].map(|at| lane(&clock, at)), [5, 10, 10, 10, 11]);
        assert_eq!(clock.moment(11_000_000), Some(moment(31)));
        for start in (40..100).step_by(2) {
            clock.pause(moment(start));
            clock.resume(moment(start + 1));
        }
        assert_eq!(clock.pauses.len(), LaneClock::PAUSES_COUNT_MAX);
        assert_eq!(lane(&clock, 100), 100 - 20 - 30, "what is no longer kept still counts");
    }
}
