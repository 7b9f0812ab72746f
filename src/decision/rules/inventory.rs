//! The bounds and timers of the inventory.
//!
//! Owns: how many instances are taken, and after how much silence each is what.
//! Never: reads a clock.
//! Holds: the defaults fit a status-delta every 5 s.

/// The bounds and timers of the inventory. A status-delta is expected every 5 s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryLimits {
    /// How many instances are taken.
    pub instances_max: usize,
    /// After how much silence an instance is stale: three deltas missed.
    pub stale_after_ms: u64,
    /// After how much silence it is lost.
    pub lost_after_ms: u64,
    /// After how much silence one that nobody expects leaves the inventory.
    pub forget_after_ms: u64,
    /// How many statuses in a row bring a silent instance back, where no full does.
    pub back_after_count: usize,
    /// How far ahead of ours a sender's clock may be.
    pub skew_max_ms: u64,
    /// How far behind ours it may be before its statuses are taken for old ones.
    pub behind_max_ms: u64,
    /// How long after the first status-request for a baseline the second is due.
    pub request_backoff_ms_min: u64,
    /// How far the wait between two of them grows.
    pub request_backoff_ms_max: u64,
    /// How many changes one look for what is due returns.
    pub changes_max: usize,
    /// How many places an impact names in each direction.
    pub impact_nodes_max: usize,
}

impl Default for InventoryLimits {
    fn default() -> Self {
        Self {
            instances_max: 100_000,
            stale_after_ms: 15_000,
            lost_after_ms: 60_000,
            forget_after_ms: 24 * 60 * 60 * 1000,
            back_after_count: 3,
            skew_max_ms: 5_000,
            behind_max_ms: 30_000,
            request_backoff_ms_min: 5_000,
            request_backoff_ms_max: 5 * 60 * 1000,
            changes_max: 1_000,
            impact_nodes_max: 10_000,
        }
    }
}
