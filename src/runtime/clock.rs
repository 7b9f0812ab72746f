//! The corridor's clock: an anchor on the wall plus monotonic time.
//!
//! Owns: the only reading of time in the router.
//! Never: goes back, whatever happens to the wall clock (rulings §9).
//! Holds: `now` is never below the time of the last entry.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::contract::timestamp::Timestamp;

/// A clock that only goes forward.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock anchored at the wall's time, or at `floor` where that is later.
    pub fn start(floor: Timestamp) -> Self {
        Self { anchor: wall().max(floor), started: Instant::now() }
    }

    /// This moment.
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.anchor.micros().saturating_add(elapsed))
    }
}

/// The wall's time.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
