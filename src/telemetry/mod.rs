//! Telemetry: a decision becomes a counter and a line here, and nowhere else.
//!
//! Owns: the metrics, the health that `/readyz` tells, the log's form, and W3C trace context.
//! Never: decides anything, waits, or holds a value from a body; a label comes from a closed list.
//! Holds: what the hot path calls is a few atomic additions without an allocation.

mod format;
pub mod health;
pub mod log;
pub mod metrics;
pub mod repeats;
pub mod stderr;
pub mod trace;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tracing::{debug, info};

use crate::{
    contract::{audit::Verdict, command::Commands, lane::Lane, message::Message, timestamp::Timestamp},
    decision::{Decision, request::Compared, state::Belief},
};
use health::Health;
use metrics::Metrics;
use repeats::{Repeated, Repeats};

/// How long refusals of one kind are counted before the log has their number, where nothing else is
/// set.
pub const REFUSALS_LOG_MS: u64 = 10_000;

/// What the shell's tasks tell, and what the windows read.
#[derive(Debug)]
pub struct Telemetry {
    /// Counters, gauges and histograms.
    pub metrics: Arc<Metrics>,
    /// What works and what does not.
    pub health: Arc<Health>,
    /// Refusals that the log has the first of.
    repeats: Mutex<Repeats>,
    /// Settings that were taken over while the process ran, by their paths.
    reloaded: Mutex<Vec<(&'static str, Value)>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new(REFUSALS_LOG_MS, &Commands::default())
    }
}

impl Telemetry {
    /// The telemetry of one router that knows these commands, whose log has one line of a kind of
    /// refusal and then its number each `refusals_log_ms`.
    pub fn new(refusals_log_ms: u64, commands: &Commands) -> Self {
        let health = Arc::new(Health::default());
        let metrics = Arc::new(Metrics::new(Arc::clone(&health), commands));
        let repeats = Mutex::new(Repeats::new(Duration::from_millis(refusals_log_ms)));
        Self { metrics, health, repeats, reloaded: Mutex::default() }
    }

    /// From now on the log has the number of refusals of a kind each `refusals_log_ms`.
    pub fn set_refusals_log(&self, refusals_log_ms: u64) {
        let window = Duration::from_millis(refusals_log_ms);
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner).set_window(window);
    }

    /// Says which settings are others now than at the start.
    pub fn set_reloaded(&self, settings: impl Into<Vec<(&'static str, Value)>>) {
        *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner) = settings.into();
    }

    /// Makes of the config of the start the one in force.
    pub fn reload_into(&self, config: &mut Value) {
        for (path, value) in &*self.reloaded.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Some(leaf) = config.pointer_mut(&format!("/{}", path.replace('.', "/"))) {
                leaf.clone_from(value);
            }
        }
    }

    /// Says how far the router's time is from the clock.
    pub fn clock(&self, now: Timestamp, compared: Compared) {
        let gap = match compared {
            Compared::Agree => 0,
            Compared::Apart { wall } => now.micros().saturating_sub(wall.micros()) / 1_000_000,
        };
        self.metrics.set_clock_gap(gap);
        self.health.set_clock_apart(compared != Compared::Agree);
    }

    /// Counts and tells one decision about `message`, which came by `lane`. Its trace is looked for
    /// only where a line is written.
    pub fn decided(&self, lane: Lane, decision: &Decision, message: &Message) {
        let Some(verdict) = decision.verdict else { return };
        self.metrics.envelope(lane, verdict);
        for belief in &decision.beliefs {
            match belief {
                Belief::Alerted { .. } => self.metrics.alert(false),
                Belief::AlertHeldBack => self.metrics.alert(true),
                _ => {}
            }
        }
        let principal = decision.principal.as_deref().unwrap_or("unproven");
        let Some(refusal) = &decision.refusal else {
            debug!(%lane, %verdict, principal, trace_id = trace::id(message), "judged");
            return;
        };
        if verdict == Verdict::Refuse {
            self.metrics.refusal(refusal.reason);
        }
        let pointer = refusal.pointer.as_deref().unwrap_or("");
        let repeats = &mut *self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        if repeats.is_first(verdict, refusal.reason, principal, Instant::now()) {
            info!(%lane, %verdict, reason = %refusal.reason, principal, pointer, trace_id = trace::id(message), "{}", refusal.detail);
        } else {
            debug!(%lane, %verdict, reason = %refusal.reason, principal, pointer, trace_id = trace::id(message), "{}", refusal.detail);
        }
    }

    /// Logs how many more refusals of each kind there were; of those whose window is over, or of
    /// `all`.
    pub fn log_repeats(&self, all: bool) {
        let due = self.repeats.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now(), all);
        for Repeated { verdict, reason, principal, count } in due {
            info!(%verdict, %reason, principal = &*principal, count, "{count} more like this one");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Mutex, PoisonError},
    };

    use super::*;
    use crate::contract::{
        message::{HeaderValue, Properties},
        reason::{Reason, Refusal},
    };
    use crate::decision::{rules::Rules, state::State};

    fn message(headers: &[(&str, &str)]) -> Message {
        let headers = headers
            .iter()
            .map(|(name, text)| ((*name).to_owned().into(), HeaderValue::Text((*text).to_owned())));
        Message {
            exchange: String::new(),
            routing_key: String::new(),
            properties: Properties { headers: headers.collect(), ..Properties::default() },
            body: bytes::Bytes::new(),
        }
    }

    /// What a log of one test was told.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<u8>>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn undecided() -> Decision {
        Decision::new(&State::new(Rules::default()))
    }

    #[test]
    fn a_line_names_the_trace_of_its_message_and_only_a_valid_one() {
        let told = Told::default();
        let writer = told.clone();
        let log = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        let carried = Decision { verdict: Some(Verdict::Forward), ..undecided() };
        let refused = Decision {
            verdict: Some(Verdict::Refuse),
            refusal: Some(Refusal::new(Reason::Schema, "`/data` is missing")),
            ..undecided()
        };
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let valid = format!("00-{trace}-00f067aa0ba902b7-01");
        let telemetry = Telemetry::default();
        tracing::subscriber::with_default(log, || {
            telemetry.decided(Lane::Signals, &carried, &message(&[("traceparent", &valid)]));
            telemetry.decided(Lane::Signals, &refused, &message(&[("traceparent", &valid)]));
            telemetry.decided(Lane::Signals, &refused, &message(&[("traceparent", "00-canary-1-01")]));
            telemetry.decided(Lane::Signals, &refused, &message(&[]));
        });
        let told = told.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = String::from_utf8_lossy(&told);
        let traces: Vec<_> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"))
            .map(|line| line.pointer("/fields/trace_id").and_then(|id| id.as_str()).map(str::to_owned))
            .collect();
        assert_eq!(traces, [Some(trace.to_owned()), Some(trace.to_owned()), None, None]);
        assert!(!lines.contains("canary"), "{lines}");
    }

    #[test]
    fn refusals_of_one_kind_are_one_line_and_a_count() {
        let told = Told::default();
        let writer = told.clone();
        let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let refused = |principal: &str| Decision {
            verdict: Some(Verdict::Refuse),
            refusal: Some(Refusal::new(Reason::Schema, "`/data` is missing")),
            principal: Some(principal.to_owned()),
            ..undecided()
        };
        let telemetry = Telemetry::default();
        tracing::subscriber::with_default(log, || {
            for number in 0..500 {
                let principal = if number % 5 == 0 { "bob" } else { "ann" };
                telemetry.decided(Lane::Signals, &refused(principal), &message(&[]));
            }
            telemetry.log_repeats(false);
            telemetry.log_repeats(true);
        });
        let told = told.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = String::from_utf8_lossy(&told).into_owned();
        let counts: Vec<u64> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"))
            .map(|line| line.pointer("/fields/count").and_then(serde_json::Value::as_u64).unwrap_or(1))
            .collect();
        assert_eq!(counts, [1, 1, 399, 99], "{lines}");
    }

    #[test]
    fn a_decision_is_counted_once_by_lane_verdict_and_reason() {
        let telemetry = Telemetry::default();
        let refused = Decision {
            verdict: Some(Verdict::Refuse),
            refusal: Some(Refusal::new(Reason::Schema, "`/data` is missing")),
            beliefs: vec![Belief::AlertHeldBack],
            ..undecided()
        };
        telemetry.decided(Lane::Signals, &refused, &message(&[]));
        telemetry.decided(Lane::Signals, &undecided(), &message(&[]));
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
