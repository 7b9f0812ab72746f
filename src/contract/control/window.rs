//! The memory of nonces: what was seen is not taken twice.
//!
//! Owns: which nonces were seen within their time to live, and how much of the memory each lane may
//! fill.
//! Never: reads a clock, or forgets a nonce that could still be replayed: full is full.
//! Holds: a frame is admitted once. A nonce is forgotten only when its frame has expired by the
//! clock that was handed in; should that clock jump on and back again, what was signed up to the
//! forgotten ones is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::{Lane, fault::ControlFault, nonce::Nonce};

/// The nonces that are alive.
#[derive(Clone, Debug)]
pub struct Window {
    ttl_seconds: u64,
    nonces_max: usize,
    /// Frames signed at this second or earlier are refused: what was seen of them is not, or no
    /// longer, known.
    forgotten: Option<i64>,
    seen: BTreeSet<Nonce>,
    /// The same nonces by the second of their frame. A nonce is held once, whatever the second.
    by_second: BTreeMap<i64, Vec<Nonce>>,
}

impl Window {
    /// An empty window, for a key that nothing was signed with before.
    pub fn new(ttl_seconds: u64, nonces_max: usize) -> Self {
        Self { ttl_seconds, nonces_max, forgotten: None, seen: BTreeSet::new(), by_second: BTreeMap::new() }
    }

    /// An empty window for a key that is older than this window: what was signed at `boot` or
    /// earlier is refused.
    #[must_use]
    pub fn since(mut self, boot: i64) -> Self {
        self.forgotten = self.forgotten.max(Some(boot));
        self
    }

    /// Takes note of a frame signed at `ts`, whose lane is `lane`. Data may fill seven eighths of
    /// the places, telemetry half of them, so that neither keeps control out.
    ///
    /// # Errors
    /// [`ControlFault::TimestampExpired`] over `ttl_seconds` in either direction,
    /// [`ControlFault::TimestampForgotten`], [`ControlFault::ReplayedNonce`],
    /// [`ControlFault::ReplayWindowFull`].
    pub fn admit(&mut self, nonce: Nonce, ts: i64, now: i64, lane: Lane) -> Result<(), ControlFault> {
        let off_seconds = now.abs_diff(ts);
        if off_seconds > self.ttl_seconds {
            return Err(ControlFault::TimestampExpired { off_seconds });
        }
        if self.seen.contains(&nonce) {
            return Err(ControlFault::ReplayedNonce);
        }
        if self.forgotten.is_some_and(|forgotten| ts <= forgotten) {
            return Err(ControlFault::TimestampForgotten);
        }
        self.forget(now);
        let nonces_max = self.nonces_max_of(lane);
        if self.seen.len() >= nonces_max {
            return Err(ControlFault::ReplayWindowFull { lane, nonces_max: nonces_max as u64 });
        }
        self.seen.insert(nonce);
        self.by_second.entry(ts).or_default().push(nonce);
        Ok(())
    }

    /// Forgets what has expired at `now`.
    pub fn forget(&mut self, now: i64) {
        let ttl = i64::try_from(self.ttl_seconds).unwrap_or(i64::MAX);
        while let Some(first) = self.by_second.first_entry() {
            // What is exactly as old as the time to live still passes, so it is still remembered.
            if first.key().saturating_add(ttl) >= now {
                return;
            }
            self.forgotten = self.forgotten.max(Some(*first.key()));
            for nonce in first.remove() {
                self.seen.remove(&nonce);
            }
        }
    }

    /// How many nonces are held.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn nonces_max_of(&self, lane: Lane) -> usize {
        match lane {
            Lane::Control => self.nonces_max,
            Lane::Data => self.nonces_max.saturating_sub(self.nonces_max / 8),
            Lane::Telemetry => self.nonces_max.saturating_sub(self.nonces_max / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600;

    fn nonce(number: u64) -> Nonce {
        Nonce(u128::from(number).to_be_bytes())
    }

    #[test]
    fn the_edges_lie_on_the_second() {
        for (ts, fits) in
            [(NOW - 31, false), (NOW - 30, true), (NOW, true), (NOW + 30, true), (NOW + 31, false)]
        {
            let admitted = Window::new(30, 10).admit(nonce(1), ts, NOW, Lane::Control);
            assert_eq!(admitted.is_ok(), fits, "{}", ts - NOW);
        }
        let far = Window::new(30, 10).admit(nonce(1), i64::MIN, i64::MAX, Lane::Control);
        assert_eq!(far, Err(ControlFault::TimestampExpired { off_seconds: u64::MAX }));
    }

    #[test]
    fn a_nonce_is_known_for_as_long_as_its_frame_could_come_again() {
        for (ahead, until) in [(0, 30), (30, 60), (-30, 0)] {
            let mut window = Window::new(30, 10);
            let ts = NOW + ahead;
            window.admit(nonce(1), ts, NOW, Lane::Control).unwrap();
            for later in 0..=until {
                let again = window.admit(nonce(1), ts, NOW + later, Lane::Control);
                assert_eq!(again, Err(ControlFault::ReplayedNonce), "{ahead} {later}");
            }
            let over = window.admit(nonce(1), ts, NOW + until + 1, Lane::Control);
            assert!(matches!(over, Err(ControlFault::TimestampExpired { .. })));
            window.forget(NOW + until);
            assert_eq!(window.len(), 1);
            window.forget(NOW + until + 1);
            assert!(window.is_empty());
        }
    }

    #[test]
    fn a_nonce_under_another_time_is_still_a_replay() {
        let mut window = Window::new(30, 10);
        window.admit(nonce(1), NOW, NOW, Lane::Control).unwrap();
        assert_eq!(window.admit(nonce(1), NOW + 1, NOW, Lane::Control), Err(ControlFault::ReplayedNonce));
    }

    #[test]
    fn a_clock_that_jumps_on_and_back_opens_nothing() {
        let mut window = Window::new(30, 10);
        window.admit(nonce(1), NOW, NOW, Lane::Control).unwrap();
        window.admit(nonce(2), NOW + 3600, NOW + 3600, Lane::Control).unwrap();
        assert_eq!(window.len(), 1, "the first has expired by this clock");
        assert_eq!(
            window.admit(nonce(1), NOW, NOW + 1, Lane::Control),
            Err(ControlFault::TimestampForgotten)
        );
        assert_eq!(
            window.admit(nonce(3), NOW, NOW + 1, Lane::Control),
            Err(ControlFault::TimestampForgotten)
        );
        window.admit(nonce(4), NOW + 1, NOW + 1, Lane::Control).unwrap();
        assert_eq!(
            window.admit(nonce(2), NOW + 3600, NOW + 3600, Lane::Control),
            Err(ControlFault::ReplayedNonce)
        );
    }

    #[test]
    fn full_is_full_and_control_has_room_left() {
        let mut window = Window::new(30, 16);
        let mut fill = |from: u64, to: u64, lane| {
            (from..to).try_for_each(|number| window.admit(nonce(number), NOW, NOW, lane))
        };
        assert_eq!(fill(0, 8, Lane::Telemetry), Ok(()));
        assert_eq!(
            fill(8, 9, Lane::Telemetry),
            Err(ControlFault::ReplayWindowFull { lane: Lane::Telemetry, nonces_max: 8 })
        );
        assert_eq!(fill(9, 15, Lane::Data), Ok(()));
        assert_eq!(
            fill(15, 16, Lane::Data),
            Err(ControlFault::ReplayWindowFull { lane: Lane::Data, nonces_max: 14 })
        );
        assert_eq!(fill(16, 18, Lane::Control), Ok(()));
        assert_eq!(
            fill(18, 19, Lane::Control),
            Err(ControlFault::ReplayWindowFull { lane: Lane::Control, nonces_max: 16 })
        );
        assert_eq!(window.admit(nonce(0), NOW, NOW + 30, Lane::Control), Err(ControlFault::ReplayedNonce));
        assert_eq!(window.admit(nonce(20), NOW + 31, NOW + 31, Lane::Telemetry), Ok(()));
    }

    #[test]
    fn a_new_window_for_an_old_key_takes_nothing_from_before() {
        let mut window = Window::new(30, 10).since(NOW);
        assert_eq!(
            window.admit(nonce(1), NOW - 1, NOW, Lane::Control),
            Err(ControlFault::TimestampForgotten)
        );
        assert_eq!(
            window.admit(nonce(1), NOW, NOW + 5, Lane::Control),
            Err(ControlFault::TimestampForgotten)
        );
        assert_eq!(window.admit(nonce(1), NOW + 1, NOW + 1, Lane::Control), Ok(()));
    }
}
