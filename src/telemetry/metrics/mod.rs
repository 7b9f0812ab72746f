//! The metrics, in OpenMetrics.
//!
//! Owns: every metric's name, help and labels.
//! Never: takes a label from a message; labels are words of the code, and types and statuses of the
//! config's command table, so the series are bounded.
//! Holds: all series of a family exist from the start and are found by index, not by a map.

mod commands;
mod fleet;
mod labels;
mod refused;
mod section;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};
use serde::Serialize;

use commands::CommandSeries;
pub use labels::PublishFate;
use labels::{ByFate, ByReason, LaneVerdict, VERDICTS, count, verdict_word};
pub use refused::RefusedCopies;
use refused::RefusedGauges;
use section::{HealthGauges, Section};

use super::health::Health;
use crate::{
    contract::{
        audit::Verdict,
        bound::Bound,
        command::Commands,
        interlock::{KillSwitch, SafetyMode},
        lane::{Lane, Way},
        reason::Reason,
    },
    view::overview::LaneTotals,
};

/// The content type of `encode`'s answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const CLOCK_GAP: &str = "How far the router's time is ahead of the clock, in seconds; negative: behind it";
const COMMANDS: &str = "Commands accepted that have not ended";
const ALERTS_HELD_BACK: &str = "Alerts of the router's own held back by the limits";
const EMERGENCY_ENTRIES: &str = "Entries on the emergency log that wait for the ledger";

/// What an observer has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedTotals {
    /// Messages judged.
    pub judged: u64,
    /// Messages that its queue dropped before.
    pub dropped: u64,
    /// Whether there may be more of those.
    pub is_lower_bound: bool,
}

/// Every series, resolved.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    envelopes: [[Counter; VERDICTS.len()]; 4],
    refusals: Vec<Counter>,
    published: [Counter; PublishFate::ALL.len()],
    waiting: [Gauge; Way::ALL.len()],
    dropped: [Counter; Way::ALL.len()],
    depth: [Gauge; 4],
    in_flight: [Gauge; 4],
    entries: Counter,
    on_emergency_log: Gauge,
    ledger_bytes: Gauge,
    ledger_wal_bytes: Gauge,
    commit_seconds: Histogram,
    round_envelopes: Histogram,
    commands: Gauge,
    /// How they ended, and how long that took.
    steps: CommandSeries,
    instances: Vec<Gauge>,
    /// Unwell, and drifted.
    instances_odd: [Gauge; 2],
    outbox: [Gauge; 2],
    blocked: [Gauge; 4],
    /// The refused copies on the broker.
    pub refused: Arc<RefusedCopies>,
    clock_gap: Gauge,
    safety_mode: Gauge,
    kill_switch: Gauge,
    challenges: Gauge,
    alerts: Counter,
    alerts_held_back: Counter,
    bound_hits: [Counter; Bound::ALL.len()],
    /// Dropped, and dropped beyond what could be counted.
    observed: [Counter; 2],
    /// Questions of other routers, and their words that they run.
    other_routers: [Counter; 2],
}

impl Metrics {
    /// The metrics of one router that knows these commands; `health` is read when they are encoded.
    pub fn new(health: Arc<Health>, commands: &Commands) -> Self {
        let mut root = Registry::default();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        root.register("process_start_time_seconds", "When the process started", ConstGauge::new(started));
        let mut registry = Section(root.sub_registry_with_prefix("swarmgate"));
        let envelopes = registry.family("envelopes", "Envelopes judged, by lane and verdict");
        let refusals = registry.family("refusals", "Envelopes refused, by reason code");
        let published = registry.family("published", "Messages published, by what became of them");
        let (waiting, dropped) = registry.publishing();
        let (depth, in_flight) = registry.lanes();
        let [ledger_bytes, ledger_wal_bytes] = registry.ledger();
        let (instances, instances_odd) = registry.instances();
        let [safety_mode, kill_switch, challenges] = registry.safety();
        let mut metrics = Self {
            envelopes: Lane::ALL.map(|lane| {
                VERDICTS.map(|verdict| {
                    let labels = LaneVerdict { lane: lane.word(), verdict: verdict_word(verdict) };
                    envelopes.get_or_create_owned(&labels)
                })
            }),
            refusals: Reason::ALL
                .iter()
                .map(|reason| refusals.get_or_create_owned(&ByReason { reason: reason.code() }))
                .collect(),
            published: PublishFate::ALL
                .map(|fate| published.get_or_create_owned(&ByFate { fate: fate.word() })),
            waiting,
            dropped,
            depth,
            in_flight,
            steps: CommandSeries::new(&mut registry, commands),
            instances,
            instances_odd,
            outbox: registry.outbox(),
            blocked: registry.blocked(),
            refused: Arc::default(),
            entries: registry.one("entries", "Entries written to the ledger", Counter::default()),
            ledger_bytes,
            ledger_wal_bytes,
            on_emergency_log: registry.one("emergency_entries", EMERGENCY_ENTRIES, Gauge::default()),
            commit_seconds: registry.one(
                "commit_seconds",
                "Time a group commit took",
                Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
            ),
            round_envelopes: registry.one(
                "round_envelopes",
                "Envelopes judged in one round",
                Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            ),
            clock_gap: registry.one("clock_gap_seconds", CLOCK_GAP, Gauge::default()),
            safety_mode,
            kill_switch,
            challenges,
            commands: registry.one("commands_in_flight", COMMANDS, Gauge::default()),
            alerts: registry.one("alerts", "Alerts of the router's own raised", Counter::default()),
            alerts_held_back: registry.one("alerts_held_back", ALERTS_HELD_BACK, Counter::default()),
            bound_hits: registry.bounds(),
            observed: registry.observing(),
            other_routers: registry.routers(),
            // The sections still borrow the real one.
            registry: Registry::default(),
        };
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.0.register("build", "The release that runs", Info::new(version));
        root.register_collector(Box::new(HealthGauges(health)));
        root.register_collector(Box::new(RefusedGauges(Arc::clone(&metrics.refused))));
        metrics.registry = root;
        metrics
    }

    /// Counts an envelope.
    pub fn envelope(&self, lane: Lane, verdict: Verdict) {
        let verdicts = self.envelopes.get(lane as usize);
        if let Some(counter) = verdicts.and_then(|verdicts| verdicts.get(verdict as usize)) {
            counter.inc();
        }
    }

    /// Counts a refusal.
    pub fn refusal(&self, reason: Reason) {
        if let Some(counter) = self.refusals.get(reason as usize) {
            counter.inc();
        }
    }

    /// Counts what became of a batch of messages.
    pub fn fates<'a, F>(&self, fates: &'a [F])
    where
        PublishFate: From<&'a F>,
    {
        let mut counts = [0_u64; PublishFate::ALL.len()];
        for fate in fates {
            if let Some(count) = counts.get_mut(PublishFate::from(fate) as usize) {
                *count += 1;
            }
        }
        for (counter, count) in self.published.iter().zip(counts).filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
    }

    /// Says how many messages of a way the broker has not taken yet.
    pub fn set_waiting(&self, way: Way, messages: usize) {
        if let Some(gauge) = self.waiting.get(way as usize) {
            gauge.set(count(messages));
        }
    }

    /// Counts a message without an entry that was given up.
    pub fn dropped(&self, way: Way) {
        if let Some(counter) = self.dropped.get(way as usize) {
            counter.inc();
        }
    }

    /// Counts what an observer's queue dropped before it was judged.
    pub fn observed_dropped(&self, messages: u64) {
        let [dropped, _] = &self.observed;
        dropped.inc_by(messages);
    }

    /// Says that an observer's queue dropped more than could be counted.
    pub fn observed_uncounted(&self) {
        let [_, uncounted] = &self.observed;
        uncounted.inc();
    }

    /// What an observer has judged, what was dropped before, and whether that is a lower bound.
    pub fn observed(&self) -> ObservedTotals {
        let judged = self.envelopes.iter().flatten().map(Counter::get).sum();
        let [dropped, uncounted] = &self.observed;
        ObservedTotals { judged, dropped: dropped.get(), is_lower_bound: uncounted.get() > 0 }
    }

    /// Counts a group commit of so many entries.
    pub fn committed(&self, entries: usize, took: Duration) {
        self.entries.inc_by(entries as u64);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Says how large the ledger's file and its write-ahead log are.
    pub fn set_ledger_bytes(&self, file: u64, wal: u64) {
        self.ledger_bytes.set(i64::try_from(file).unwrap_or(i64::MAX));
        self.ledger_wal_bytes.set(i64::try_from(wal).unwrap_or(i64::MAX));
    }

    /// The bytes of the ledger's file, and of its write-ahead log.
    pub fn ledger_bytes(&self) -> (i64, i64) {
        (self.ledger_bytes.get(), self.ledger_wal_bytes.get())
    }

    /// Says how many entries wait on the emergency log.
    pub fn set_emergency_entries(&self, entries: usize) {
        self.on_emergency_log.set(count(entries));
    }

    /// Counts a round of so many envelopes; a round of timers and reports alone is none.
    pub fn round(&self, envelopes: usize) {
        if envelopes > 0 {
            self.round_envelopes.observe(envelopes as f64);
        }
    }

    /// Counts an alert, raised or held back.
    pub fn alert(&self, held_back: bool) {
        if held_back {
            self.alerts_held_back.inc()
        } else {
            self.alerts.inc()
        };
    }

    /// Counts how often each bound of what is remembered was met.
    pub fn bounds(&self, hits: [u64; Bound::ALL.len()]) {
        for (counter, hits) in self.bound_hits.iter().zip(hits).filter(|(_, hits)| *hits > 0) {
            counter.inc_by(hits);
        }
    }

    /// Counts a question of another router that wants to run on this prefix.
    pub fn other_router_asked(&self) {
        let [asked, _] = &self.other_routers;
        asked.inc();
    }

    /// Counts a word of another router that runs on this prefix.
    pub fn not_alone(&self) {
        let [_, runs] = &self.other_routers;
        runs.inc();
    }

    /// A lane's consumer is open: what an earlier one had taken is no longer its to settle.
    pub fn opened(&self, lane: Lane) {
        if let Some(gauge) = self.in_flight.get(lane as usize) {
            gauge.set(0);
        }
    }

    /// Deliveries came off a lane's queue into its buffer.
    pub fn taken(&self, lane: Lane, deliveries: usize) {
        let deliveries = count(deliveries);
        for gauge in [self.depth.get(lane as usize), self.in_flight.get(lane as usize)].into_iter().flatten()
        {
            gauge.inc_by(deliveries);
        }
    }

    /// Envelopes left a lane's buffer to be judged.
    pub fn unbuffered(&self, lane: Lane, envelopes: usize) {
        if let Some(gauge) = self.depth.get(lane as usize) {
            gauge.dec_by(count(envelopes));
        }
    }

    /// Deliveries of a lane are settled.
    pub fn settled(&self, lane: Lane, deliveries: u64) {
        if let Some(gauge) = self.in_flight.get(lane as usize) {
            gauge.dec_by(i64::try_from(deliveries).unwrap_or(i64::MAX));
        }
    }

    /// Says how tight safety is: the strongest mode and kill switch that apply anywhere, as their
    /// places in their order from 0 on, and how many challenges are open.
    pub fn set_interlock(&self, mode: SafetyMode, level: KillSwitch, challenges: usize) {
        self.safety_mode.set(mode as i64);
        self.kill_switch.set(level as i64);
        self.challenges.set(count(challenges));
    }

    /// How far the router's time is ahead of the clock.
    pub fn set_clock_gap(&self, seconds: i64) {
        self.clock_gap.set(seconds);
    }

    /// What a lane has done and holds, for people.
    pub fn lane(&self, lane: Lane) -> LaneTotals {
        let gauge = |gauges: &[Gauge; 4]| gauges.get(lane as usize).map_or(0, Gauge::get);
        let count = |verdict: Verdict| {
            let counters = self.envelopes.get(lane as usize);
            counters.and_then(|counters| counters.get(verdict as usize)).map_or(0, Counter::get)
        };
        LaneTotals {
            depth: gauge(&self.depth),
            forwarded: count(Verdict::Forward),
            in_flight: gauge(&self.in_flight),
            lane: lane.word().to_owned(),
            parked: count(Verdict::Park),
            refused: count(Verdict::Refuse),
            suppressed: count(Verdict::Suppress),
        }
    }

    /// How many envelopes were refused for each reason that there was.
    pub fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let counts = Reason::ALL.iter().zip(&self.refusals).map(|(reason, counter)| (*reason, counter.get()));
        counts.filter(|(_, count)| *count > 0)
    }

    /// Everything, as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a string cannot fail; were an encoder to, a cut-off text lacks its `# EOF` and
        // is refused.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}
