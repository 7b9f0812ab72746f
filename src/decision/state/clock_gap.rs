//! How the clock lies to the router's time.
//!
//! Owns: the gap between them, and how people read it.
//! Never: reads a clock; it is told.
//! Holds: what people say is as old as the clock says.

use crate::{contract::timestamp::Timestamp, decision::state::State};

impl State {
    /// How far the router's time is ahead of the clock, in microseconds, where they do not agree;
    /// negative: behind it.
    pub fn clock_gap(&self) -> Option<i64> {
        self.observed.clock_gap
    }

    /// What the clock says at a moment of the router's time.
    pub(in crate::decision) fn wall(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.micros().saturating_sub(self.observed.clock_gap.unwrap_or_default()))
    }
}

/// The type by which a person accepts the clock.
pub(in crate::decision) const ACCEPT: &str = "clock-accept";

/// How the clock lies to the ledger, in words.
pub(in crate::decision) fn words(gap_micros: i64) -> String {
    let (amount, side) =
        (gap_micros.unsigned_abs() / 1_000_000, if gap_micros > 0 { "behind" } else { "ahead of" });
    format!("the clock is {} {side} the ledger", span(amount))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..=299 => format!("{seconds} s"),
        300..=17_999 => format!("{} min", seconds / 60),
        18_000..=431_999 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
