//! What a deployment sets for interlocks.
//!
//! Owns: the thresholds and the window that they are measured in.
//! Never: counts anything; the meters of the state do.
//! Holds: a threshold of `None` is off.

use crate::contract::timestamp::Timestamp;

/// What a deployment sets for interlocks. A threshold of `None` is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interlocks {
    /// How long a window is, in milliseconds.
    pub window_ms: u64,
    /// How many samples a window must have before anything is concluded from it.
    pub samples_min: u64,
    /// Commands of one principal in a window; beyond, its starts are suspended.
    pub commands_max: Option<u64>,
    /// Repeats of one principal in a window; beyond, its starts are suspended.
    pub duplicates_max: Option<u64>,
    /// For how long starts are suspended, in milliseconds.
    pub suspend_ms: u64,
    /// Refusals by gate 3 in a window; beyond, there is an alert.
    pub refused_identities_max: Option<u64>,
    /// Commands of a swarm that ended without their outcome, in percent; beyond, the swarm is SAFE.
    pub missing_outcomes_percent_max: Option<u64>,
    /// Instances of a swarm of which nothing is known, in percent; beyond, the swarm is SAFE.
    pub unknown_percent_max: Option<u64>,
    /// Failed writes of the ledger between two looks; beyond for a window, everything is SAFE.
    pub ledger_failures_max: Option<u64>,
    /// Drift of the wall clock between two looks, in milliseconds; beyond for a window, everything
    /// is SAFE.
    pub clock_drift_ms_max: Option<u64>,
    /// Room on the ledger's disk, in bytes; below for a window, everything is SAFE.
    pub disk_free_bytes_min: Option<u64>,
}

impl Default for Interlocks {
    fn default() -> Self {
        Self {
            window_ms: 60_000,
            samples_min: 10,
            commands_max: None,
            duplicates_max: None,
            suspend_ms: 300_000,
            refused_identities_max: Some(1_000),
            missing_outcomes_percent_max: None,
            unknown_percent_max: None,
            // The setting counts the other way: `ledger_failures_min` (1) is the first number that
            // is a breach.
            ledger_failures_max: Some(0),
            clock_drift_ms_max: Some(30_000),
            disk_free_bytes_min: Some(64 * 1024 * 1024),
        }
    }
}

impl Interlocks {
    /// The window in microseconds.
    pub(in crate::decision) fn window_micros(&self) -> i64 {
        Timestamp::from_micros(0).plus_ms(self.window_ms).micros()
    }
}
