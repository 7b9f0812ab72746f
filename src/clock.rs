//! The router's time: an anchor on the wall's clock plus monotonic time.
//!
//! Owns: the only reading of time in the router, and how the wall's clock compares with the ledger.
//! Never: goes back by itself, whatever happens to the wall's clock; only a person's word lets it
//! ([`Clock::step`]).
//! Holds: `now` is never below the time of the last entry. A wall that lies no further behind than
//! `behind_max` is waited for; one that is further off, or more than 400 days ahead, is not
//! followed.
//! The rule: spec/rules.md#clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::contract::timestamp::Timestamp;

/// Up to here wall and ledger agree.
const AGREE: Duration = Duration::from_secs(5);
/// A wall further ahead is wrong, or the ledger has lain unused for longer than anybody lets it.
const AHEAD_MAX: Duration = Duration::from_hours(400 * 24);

/// A clock that only goes forward.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Timestamp,
    started: Instant,
    /// No moment before this is told.
    floor: Timestamp,
    behind_max: Duration,
    /// The wall is not followed: it lies too far off.
    apart: bool,
}

/// What a look at the wall's clock has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The wall is followed.
    Agrees,
    /// The wall is ahead: the machine has slept, or its clock was set. It is followed from now on.
    Ahead {
        /// By so much.
        by: Duration,
    },
    /// The wall is not followed, and what is done waits for a person.
    Apart {
        /// What it says.
        wall: Timestamp,
    },
}

impl Clock {
    /// A clock over a ledger whose last entry is of `floor`.
    pub fn start(floor: Timestamp, behind_max: Duration) -> Self {
        Self::at(wall(), floor, behind_max)
    }

    fn at(wall: Timestamp, floor: Timestamp, behind_max: Duration) -> Self {
        let is_new = floor == Timestamp::default();
        let ahead = between(floor, wall);
        let apart = between(wall, floor) > behind_max || (ahead > AHEAD_MAX && !is_new);
        let anchor = if apart { floor } else { wall };
        Self { anchor, started: Instant::now(), floor, behind_max, apart }
    }

    /// This moment.
    pub fn now(&self) -> Timestamp {
        self.after(self.started.elapsed())
    }

    fn after(&self, elapsed: Duration) -> Timestamp {
        let elapsed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.anchor.micros().saturating_add(elapsed)).max(self.floor)
    }

    /// Compares with the wall, and follows it where that may be.
    pub fn look(&mut self) -> Look {
        self.look_at(wall())
    }

    fn look_at(&mut self, wall: Timestamp) -> Look {
        let now = self.now();
        let (behind, ahead) = (between(wall, now), between(now, wall));
        if behind.max(ahead) <= AGREE {
            self.apart = false;
            return Look::Agrees;
        }
        if self.apart || behind > self.behind_max || ahead > AHEAD_MAX {
            self.apart = true;
            return Look::Apart { wall };
        }
        // Behind: it stands until the wall has passed it.
        *self = Self { anchor: wall, started: Instant::now(), floor: now, ..*self };
        if ahead > AGREE { Look::Ahead { by: ahead } } else { Look::Agrees }
    }

    /// Goes on from a moment that a person has accepted.
    pub fn step(&mut self, to: Timestamp) {
        *self = Self { anchor: to, started: Instant::now(), floor: to, apart: false, ..*self };
    }
}

/// How long it is from one moment to a later one; nothing where that is no later.
fn between(one: Timestamp, later: Timestamp) -> Duration {
    let micros = later.micros().saturating_sub(one.micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// The wall's time.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_772_618_400_000_000 + seconds * 1_000_000)
    }

    #[test]
    fn a_wall_a_little_behind_is_waited_for() {
        let clock = Clock::at(at(0), at(50), MINUTE);
        assert_eq!(clock.after(Duration::from_secs(49)), at(50), "it stands");
        assert_eq!(clock.after(Duration::from_secs(51)), at(51), "and goes on with the wall");
    }

    #[test]
    fn a_wall_far_behind_or_ahead_is_not_followed() {
        let year = 366 * 86_400;
        for (wall, ledger) in [(0, 61), (0, year), (2 * year, 0)] {
            let mut clock = Clock::at(at(wall), at(ledger), MINUTE);
            assert_eq!(clock.look_at(at(wall)), Look::Apart { wall: at(wall) });
            assert!(clock.now() >= at(ledger) && clock.now() < at(ledger + 5));
            let mut mended = clock;
            assert_eq!(mended.look_at(at(ledger)), Look::Agrees, "somebody has set the wall");
            clock.step(at(wall));
            assert!(clock.now() >= at(wall) && clock.now() < at(wall + 5));
            assert_eq!(clock.look_at(at(wall)), Look::Agrees);
        }
    }

    #[test]
    fn a_ledger_that_begins_agrees_with_any_wall() {
        assert_eq!(Clock::at(at(0), Timestamp::default(), MINUTE).look_at(at(0)), Look::Agrees);
    }

    #[test]
    fn a_running_clock_follows_a_jump_ahead_and_stands_after_one_back() {
        let mut clock = Clock::at(at(0), at(0), MINUTE);
        assert!(matches!(clock.look_at(at(3600)), Look::Ahead { by } if by.as_secs() >= 3599));
        assert!(clock.now() >= at(3600));
        assert_eq!(clock.look_at(at(3570)), Look::Agrees);
        assert!(clock.now() >= at(3600) && clock.now() < at(3605), "it does not go back");
        assert_eq!(clock.look_at(at(0)), Look::Apart { wall: at(0) }, "an hour back is too far");
        assert!(matches!(clock.look_at(at(3590)), Look::Apart { .. }), "until they agree");
        assert_eq!(clock.look_at(at(3600)), Look::Agrees);
    }
}
