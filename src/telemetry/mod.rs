//! Telemetry: a decision becomes a counter and a line here, and nowhere else.
//!
//! Owns: the metrics, the health that `/readyz` tells, the log's form, and W3C trace context.
//! Never: decides anything, waits, or holds a value from a body; a label comes from a closed list.
//! Holds: what the hot path calls is a few atomic additions without an allocation.

pub mod health;
pub mod log;
pub mod metrics;
pub mod trace;

use std::sync::Arc;

use tracing::{debug, info};

use crate::{
    contract::{audit::Verdict, lane::Lane},
    decision::{Decision, state::Belief},
};
use health::Health;
use metrics::Metrics;

/// What the shell's tasks tell, and what the windows read.
#[derive(Debug)]
pub struct Telemetry {
    /// Counters, gauges and histograms.
    pub metrics: Arc<Metrics>,
    /// What works and what does not.
    pub health: Arc<Health>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let health = Arc::new(Health::default());
        Self { metrics: Arc::new(Metrics::new(Arc::clone(&health))), health }
    }
}

impl Telemetry {
    /// Counts and tells one decision about what came by `lane`.
    pub fn decided(&self, lane: Lane, decision: &Decision) {
        let Some(verdict) = decision.verdict else { return };
        self.metrics.envelope(lane, verdict);
        for belief in &decision.beliefs {
            match belief {
                Belief::Alerted { .. } => self.metrics.alert(false),
                Belief::AlertHeldBack => self.metrics.alert(true),
                _ => {}
            }
        }
        let Some(refusal) = &decision.refusal else { return };
        if verdict == Verdict::Refuse {
            self.metrics.refusal(refusal.reason);
        }
        let principal = decision.principal.as_deref().unwrap_or("unproven");
        let pointer = refusal.pointer.as_deref().unwrap_or("");
        // A flood of refusals is one entry a sender, code and second; the log keeps to the same measure.
        if decision.facts.is_empty() {
            debug!(%lane, %verdict, reason = %refusal.reason, principal, pointer, "{}", refusal.detail);
        } else {
            info!(%lane, %verdict, reason = %refusal.reason, principal, pointer, "{}", refusal.detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::reason::{Reason, Refusal};

    #[test]
    fn a_decision_is_counted_once_by_lane_verdict_and_reason() {
        let telemetry = Telemetry::default();
        let refused = Decision {
            verdict: Some(Verdict::Refuse),
            refusal: Some(Refusal::new(Reason::Schema, "`/data` is missing")),
            beliefs: vec![Belief::AlertHeldBack],
            ..Decision::default()
        };
        telemetry.decided(Lane::Signals, &refused);
        telemetry.decided(Lane::Signals, &Decision::default());
        let text = telemetry.metrics.encode();
        for line in [
            "swarmgate_envelopes_total{lane=\"signals\",verdict=\"refuse\"} 1",
            "swarmgate_refusals_total{reason=\"contract.schema\"} 1",
            "swarmgate_alerts_held_back_total 1",
            "swarmgate_alerts_total 0",
        ] {
            assert!(text.lines().any(|told| told == line), "`{line}` is not in\n{text}");
        }
    }
}
