//! The refused copies that nobody has taken: how many there are, and how old the oldest is.
//!
//! Owns: when copies were published, second by second, as far back as the queue may hold them.
//! Never: takes a copy off its queue to look at it: on a quorum queue each look counts as a
//! delivery.
//! Holds: at most `RECORDS_MAX` records, which get coarser instead of more; a copy is never said to
//! be younger than it is, but for those that an earlier process published: they are as old as this
//! one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};

/// How many records are kept, each of a second or of several.
const RECORDS_MAX: usize = 1_024;
/// How long a record is at first.
const GRAIN_MIN: Duration = Duration::from_secs(1);
/// How many copies more than twice what the queue holds are remembered.
const FORGOTTEN_AFTER: u64 = 1_000;

/// What is known of the queue.
#[derive(Debug)]
pub struct RefusedCopies(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// When the process started.
    since: Instant,
    /// When copies were published, the oldest first, and how many then.
    published: VecDeque<(Instant, u64)>,
    /// How long a record is.
    grain: Duration,
    /// How many the queue had when it was last looked at; `None`: nobody knows.
    depth: Option<u64>,
    oldest: Option<Instant>,
}

impl Default for RefusedCopies {
    fn default() -> Self {
        let (since, published) = (Instant::now(), VecDeque::new());
        Self(Mutex::new(Known { since, published, grain: GRAIN_MIN, depth: None, oldest: None }))
    }
}

impl RefusedCopies {
    /// The broker took so many.
    pub fn published(&self, copies: u64, now: Instant) {
        let known = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.add(now, copies);
        while known.published.len() > RECORDS_MAX {
            known.coarsen();
        }
    }

    /// The queue holds so many; `None`: nobody knows.
    pub fn set_depth(&self, depth: Option<u64>) {
        let known = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.depth = depth;
        known.oldest = depth.and_then(|depth| known.oldest_of(depth));
    }

    fn read(&self, now: Instant) -> (Option<u64>, f64) {
        let known = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = known.oldest.map_or(0.0, |oldest| now.saturating_duration_since(oldest).as_secs_f64());
        (known.depth, age)
    }
}

impl Known {
    /// When the oldest of the last `depth` copies was published: readers take the oldest first, and
    /// so does the queue's own bound.
    fn oldest_of(&mut self, depth: u64) -> Option<Instant> {
        let oldest = self.reaches_back(depth).map(|(_, at)| at);
        // What was published while the broker counted is in the records and not in its answer.
        let far = depth.saturating_mul(2).saturating_add(FORGOTTEN_AFTER);
        if let Some((index, _)) = self.reaches_back(far) {
            self.published.drain(..index);
        }
        if self.published.len() < RECORDS_MAX / 4 {
            self.grain = GRAIN_MIN;
        }
        (depth > 0).then(|| oldest.unwrap_or(self.since))
    }

    /// Which record has the first of the last so many copies.
    fn reaches_back(&self, copies: u64) -> Option<(usize, Instant)> {
        let mut left = copies;
        let mut newest_first = self.published.iter().enumerate().rev();
        newest_first.find_map(|(index, (at, copies))| {
            left = left.saturating_sub(*copies);
            (left == 0).then_some((index, *at))
        })
    }

    /// Counts copies as published at the time of the record before, where that is within the grain.
    fn add(&mut self, at: Instant, copies: u64) {
        match self.published.back_mut() {
            Some((before, count)) if at.saturating_duration_since(*before) < self.grain => *count += copies,
            _ => self.published.push_back((at, copies)),
        }
    }

    /// Makes fewer records of twice the grain: everything in one counts as published when its first
    /// was.
    fn coarsen(&mut self) {
        self.grain *= 2;
        for (at, copies) in std::mem::take(&mut self.published) {
            self.add(at, copies);
        }
    }
}

/// The two gauges.
#[derive(Debug)]
pub(super) struct RefusedGauges(pub Arc<RefusedCopies>);

impl Collector for RefusedGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (depth, age) = self.0.read(Instant::now());
        // What nobody knows is no series: an alert on it would be about nothing.
        let Some(depth) = depth else { return Ok(()) };
        let depth = ConstGauge::new(i64::try_from(depth).unwrap_or(i64::MAX));
        let (name, help) =
            ("swarmgate_refused_copies", "Refused copies that nobody has taken off their queue");
        depth.encode(encoder.encode_descriptor(name, help, None, depth.metric_type())?)?;
        let age = ConstGauge::new(age);
        let (name, help) =
            ("swarmgate_refused_oldest_seconds", "Age of the oldest of them; at most the process's own");
        age.encode(encoder.encode_descriptor(name, help, None, age.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start, and the age in whole seconds so many seconds after it.
    fn aged(refused: &RefusedCopies, start: Instant, seconds: u64) -> u64 {
        refused.read(start + Duration::from_secs(seconds)).1 as u64
    }

    #[test]
    fn the_oldest_is_as_old_as_so_many_copies_reach_back() {
        let (refused, start) = (RefusedCopies::default(), Instant::now());
        assert_eq!(refused.read(start), (None, 0.0), "nobody has looked");
        for second in [10, 20, 30] {
            refused.published(5, start + Duration::from_secs(second));
        }
        refused.set_depth(Some(15));
        assert_eq!(aged(&refused, start, 40), 30);
        refused.set_depth(Some(11));
        assert_eq!(aged(&refused, start, 40), 30, "one of the first five is left");
        refused.set_depth(Some(10));
        assert_eq!(aged(&refused, start, 40), 20);
        refused.set_depth(Some(1));
        assert_eq!(aged(&refused, start, 40), 10);
        refused.set_depth(Some(0));
        assert_eq!(refused.read(start + Duration::from_secs(40)), (Some(0), 0.0));
        refused.set_depth(None);
        assert_eq!(refused.read(start).0, None);
    }

    #[test]
    fn what_an_earlier_process_published_is_as_old_as_this_one() {
        let (refused, start) = (RefusedCopies::default(), Instant::now());
        refused.published(5, start + Duration::from_secs(50));
        refused.set_depth(Some(6));
        assert_eq!(aged(&refused, start, 60), 60);
    }

    #[test]
    fn a_long_history_gets_coarser_and_never_younger() {
        let (refused, start) = (RefusedCopies::default(), Instant::now());
        let seconds = 10 * RECORDS_MAX as u64;
        for second in 1..=seconds {
            refused.published(1, start + Duration::from_secs(second));
        }
        let records = refused.0.lock().unwrap().published.len();
        assert!(records <= RECORDS_MAX, "{records}");
        // The copy of second `seconds - 4999` is the oldest of the last five thousand.
        refused.set_depth(Some(5_000));
        let (age, grain) = (aged(&refused, start, seconds), seconds.div_ceil(RECORDS_MAX as u64) * 4);
        assert!((4_999..=4_999 + grain).contains(&age), "{age}");
    }
}
