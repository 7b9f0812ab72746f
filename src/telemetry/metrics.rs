//! The metrics, in OpenMetrics.
//!
//! Owns: every metric's name, help and labels.
//! Never: takes a label from a message; labels are lanes, verdicts, reasons and fates, so the series are bounded.
//! Holds: all series of a family exist from the start and are found by index, not by a map.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};
use serde::Serialize;

use super::{health::Health, stderr};
use crate::contract::{
    audit::Verdict,
    interlock::{KillSwitch, SafetyMode},
    lane::{Lane, Way},
    reason::Reason,
};

/// The content type of `encode`'s answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const CLOCK_GAP: &str = "How far the router's time is ahead of the clock, in seconds; negative: behind it";
const COMMANDS: &str = "Commands accepted that have not ended";
const ALERTS_HELD_BACK: &str = "Alerts of the router's own held back by the limits";
const EMERGENCY_ENTRIES: &str = "Entries on the emergency log that wait for the ledger";

const VERDICTS: [Verdict; 5] =
    [Verdict::Forward, Verdict::Park, Verdict::Challenge, Verdict::Suppress, Verdict::Refuse];

/// What became of a published message, as a label. A driver's own type turns into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishFate {
    /// The broker took it.
    Carried,
    /// No queue took it.
    Returned,
    /// The broker said no.
    Rejected,
    /// AMQP has no room for it.
    Unsendable,
    /// Nothing was heard in time.
    Unknown,
}

impl PublishFate {
    const ALL: [PublishFate; 5] = [
        PublishFate::Carried,
        PublishFate::Returned,
        PublishFate::Rejected,
        PublishFate::Unsendable,
        PublishFate::Unknown,
    ];

    const fn word(self) -> &'static str {
        match self {
            PublishFate::Carried => "carried",
            PublishFate::Returned => "returned",
            PublishFate::Rejected => "rejected",
            PublishFate::Unsendable => "unsendable",
            PublishFate::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneVerdict {
    lane: &'static str,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLane {
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWay {
    way: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFate {
    fate: &'static str,
}

/// What a lane has done and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneTotals {
    /// Envelopes in its buffer.
    pub depth: i64,
    /// Deliveries taken and not yet settled.
    pub in_flight: i64,
    /// Envelopes carried on.
    pub forwarded: u64,
    /// Commands that had to wait for their target.
    pub parked: u64,
    /// Repeats.
    pub suppressed: u64,
    /// Envelopes refused.
    pub refused: u64,
}

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
    clock_gap: Gauge,
    safety_mode: Gauge,
    kill_switch: Gauge,
    challenges: Gauge,
    alerts: Counter,
    alerts_held_back: Counter,
    /// Dropped, and dropped beyond what could be counted.
    observed: [Counter; 2],
    /// Questions of other routers, and their words that they run.
    other_routers: [Counter; 2],
}

impl Metrics {
    /// The metrics of one router; `health` is read when they are encoded.
    pub fn new(health: Arc<Health>) -> Self {
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
        let mut metrics = Self {
            envelopes: Lane::ALL.map(|lane| {
                VERDICTS.map(|verdict| {
                    let labels = LaneVerdict { lane: lane.word(), verdict: word(verdict) };
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
            safety_mode: registry.one(
                "safety_mode",
                "The strongest safety mode that applies anywhere: 0 NORMAL, 1 SAFE, 2 EMERGENCY_STOP",
                Gauge::default(),
            ),
            kill_switch: registry.one(
                "kill_switch",
                "The strongest kill switch that applies anywhere: 0 ALLOW, 1 CLOSE_ONLY, 2 FLATTEN, 3 BLOCK",
                Gauge::default(),
            ),
            challenges: registry.one("challenges_open", "Commands to be confirmed", Gauge::default()),
            commands: registry.one("commands_in_flight", COMMANDS, Gauge::default()),
            alerts: registry.one("alerts", "Alerts of the router's own raised", Counter::default()),
            alerts_held_back: registry.one("alerts_held_back", ALERTS_HELD_BACK, Counter::default()),
            observed: registry.observing(),
            other_routers: registry.routers(),
            // The sections still borrow the real one.
            registry: Registry::default(),
        };
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.0.register("build", "The release that runs", Info::new(version));
        root.register_collector(Box::new(HealthGauges(health)));
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
            gauge.set(i64::try_from(messages).unwrap_or(i64::MAX));
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
        self.on_emergency_log.set(i64::try_from(entries).unwrap_or(i64::MAX));
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
        let deliveries = i64::try_from(deliveries).unwrap_or(i64::MAX);
        for gauge in [self.depth.get(lane as usize), self.in_flight.get(lane as usize)].into_iter().flatten()
        {
            gauge.inc_by(deliveries);
        }
    }

    /// Envelopes left a lane's buffer to be judged.
    pub fn unbuffered(&self, lane: Lane, envelopes: usize) {
        if let Some(gauge) = self.depth.get(lane as usize) {
            gauge.dec_by(i64::try_from(envelopes).unwrap_or(i64::MAX));
        }
    }

    /// Deliveries of a lane are settled.
    pub fn settled(&self, lane: Lane, deliveries: u64) {
        if let Some(gauge) = self.in_flight.get(lane as usize) {
            gauge.dec_by(i64::try_from(deliveries).unwrap_or(i64::MAX));
        }
    }

    /// Says how many commands wait for their outcome.
    pub fn set_commands(&self, in_flight: usize) {
        self.commands.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }

    /// Says how tight safety is: the strongest mode and kill switch that apply anywhere, as their places in their order
    /// from 0 on, and how many challenges are open.
    pub fn set_interlock(&self, mode: SafetyMode, level: KillSwitch, challenges: usize) {
        self.safety_mode.set(mode as i64);
        self.kill_switch.set(level as i64);
        self.challenges.set(i64::try_from(challenges).unwrap_or(i64::MAX));
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
            in_flight: gauge(&self.in_flight),
            forwarded: count(Verdict::Forward),
            parked: count(Verdict::Park),
            suppressed: count(Verdict::Suppress),
            refused: count(Verdict::Refuse),
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
        // Writing to a string cannot fail; were an encoder to, a cut-off text lacks its `# EOF` and is refused.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

/// A registry while it is being filled.
struct Section<'a>(&'a mut Registry);

impl Section<'_> {
    /// How large the ledger's file and its write-ahead log are.
    fn ledger(&mut self) -> [Gauge; 2] {
        [
            self.one("ledger_bytes", "Bytes of the ledger's file", Gauge::default()),
            self.one("ledger_wal_bytes", "Bytes of the ledger's write-ahead log", Gauge::default()),
        ]
    }

    /// What other routers of the prefix were heard to do.
    fn routers(&mut self) -> [Counter; 2] {
        let asked = "Questions of other routers that want to run on this prefix";
        let runs = "Announcements of other routers that run on this prefix while this one does";
        [
            self.one("other_router_asked", asked, Counter::default()),
            self.one("not_alone", runs, Counter::default()),
        ]
    }

    fn family<L, M>(&mut self, name: &str, help: &str) -> Family<L, M>
    where
        Family<L, M>: prometheus_client::registry::Metric + Clone + Default,
    {
        self.one(name, help, Family::<L, M>::default())
    }

    fn one<M: prometheus_client::registry::Metric + Clone>(
        &mut self,
        name: &str,
        help: &str,
        metric: M,
    ) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    /// What the lanes' buffers hold, and what is not settled of each.
    fn lanes(&mut self) -> ([Gauge; 4], [Gauge; 4]) {
        let depth: Family<ByLane, Gauge> = self.family("lane_depth", "Envelopes in a lane's buffer");
        let in_flight: Family<ByLane, Gauge> =
            self.family("lane_in_flight", "Deliveries of a lane taken and not yet settled");
        let label = |lane: Lane| ByLane { lane: lane.word() };
        (
            Lane::ALL.map(|lane| depth.get_or_create_owned(&label(lane))),
            Lane::ALL.map(|lane| in_flight.get_or_create_owned(&label(lane))),
        )
    }

    /// What an observer's queues dropped.
    fn observing(&mut self) -> [Counter; 2] {
        [
            self.one(
                "observed_dropped",
                "Messages that the queue of observe mode dropped before they were judged",
                Counter::default(),
            ),
            self.one(
                "observed_uncounted",
                "Times that the queue of observe mode dropped more than could be counted",
                Counter::default(),
            ),
        ]
    }

    /// What waits to be published, and what was given up, by way out.
    fn publishing(&mut self) -> ([Gauge; Way::ALL.len()], [Counter; Way::ALL.len()]) {
        let waiting: Family<ByWay, Gauge> = self
            .family("publish_waiting", "Messages that the broker rejected or has not confirmed, by way out");
        let dropped: Family<ByWay, Counter> = self
            .family("publish_dropped", "Messages without an entry given up after their last try, by way out");
        let label = |way: Way| ByWay { way: way.word() };
        (
            Way::ALL.map(|way| waiting.get_or_create_owned(&label(way))),
            Way::ALL.map(|way| dropped.get_or_create_owned(&label(way))),
        )
    }
}

/// The gauges that `Health` is told by, read at the moment of asking.
#[derive(Debug)]
struct HealthGauges(Arc<Health>);

impl Collector for HealthGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, works) in [
            ("swarmgate_ledger_writable", "Whether the ledger can be written", self.0.ledger()),
            ("swarmgate_broker_connected", "Whether the broker is connected both ways", self.0.broker()),
            ("swarmgate_ready", "Whether the router is ready", self.0.lacks().is_empty()),
        ] {
            let gauge = ConstGauge::new(i64::from(works));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let (name, help) =
            ("swarmgate_log_lines_dropped", "Lines of the log that stderr's reader left no room for");
        let dropped = ConstCounter::new(stderr::dropped_lines());
        dropped.encode(encoder.encode_descriptor(name, help, None, dropped.metric_type())?)?;
        Ok(())
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forward => "forward",
        Verdict::Park => "park",
        Verdict::Challenge => "challenge",
        Verdict::Suppress => "suppress",
        Verdict::Refuse => "refuse",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Said {
        Yes,
        Nothing,
    }

    impl From<&Said> for PublishFate {
        fn from(said: &Said) -> Self {
            match said {
                Said::Yes => PublishFate::Carried,
                Said::Nothing => PublishFate::Unknown,
            }
        }
    }

    /// The names are an interface: dashboards and alerts stand on them.
    #[test]
    fn the_names_are_these() {
        let text = Metrics::new(Arc::new(Health::default())).encode();
        let mut names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "process_start_time_seconds gauge",
                "swarmgate_alerts counter",
                "swarmgate_alerts_held_back counter",
                "swarmgate_broker_connected gauge",
                "swarmgate_build info",
                "swarmgate_challenges_open gauge",
                "swarmgate_clock_gap_seconds gauge",
                "swarmgate_commands_in_flight gauge",
                "swarmgate_commit_seconds histogram",
                "swarmgate_emergency_entries gauge",
                "swarmgate_entries counter",
                "swarmgate_envelopes counter",
                "swarmgate_kill_switch gauge",
                "swarmgate_lane_depth gauge",
                "swarmgate_lane_in_flight gauge",
                "swarmgate_ledger_bytes gauge",
                "swarmgate_ledger_wal_bytes gauge",
                "swarmgate_ledger_writable gauge",
                "swarmgate_log_lines_dropped counter",
                "swarmgate_not_alone counter",
                "swarmgate_observed_dropped counter",
                "swarmgate_observed_uncounted counter",
                "swarmgate_other_router_asked counter",
                "swarmgate_publish_dropped counter",
                "swarmgate_publish_waiting gauge",
                "swarmgate_published counter",
                "swarmgate_ready gauge",
                "swarmgate_refusals counter",
                "swarmgate_round_envelopes histogram",
                "swarmgate_safety_mode gauge",
            ]
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn each_index_is_its_own_label() {
        let metrics = Metrics::new(Arc::new(Health::default()));
        let mut expected = Vec::new();
        for (times, lane) in (1..).zip(Lane::ALL) {
            for verdict in VERDICTS {
                (0..times).for_each(|_| metrics.envelope(lane, verdict));
                expected.push(format!(
                    "swarmgate_envelopes_total{{lane=\"{lane}\",verdict=\"{verdict}\"}} {times}"
                ));
            }
            metrics.taken(lane, times + 2);
            metrics.unbuffered(lane, 2);
            metrics.settled(lane, times as u64);
            expected.push(format!("swarmgate_lane_depth{{lane=\"{lane}\"}} {times}"));
            expected.push(format!("swarmgate_lane_in_flight{{lane=\"{lane}\"}} 2"));
        }
        for (times, reason) in (1..).zip(Reason::ALL) {
            (0..times).for_each(|_| metrics.refusal(*reason));
            expected.push(format!("swarmgate_refusals_total{{reason=\"{reason}\"}} {times}"));
        }
        metrics.fates(&[Said::Yes, Said::Nothing, Said::Yes]);
        expected.push("swarmgate_published_total{fate=\"carried\"} 2".to_owned());
        expected.push("swarmgate_published_total{fate=\"unknown\"} 1".to_owned());
        expected.push("swarmgate_published_total{fate=\"rejected\"} 0".to_owned());
        metrics.committed(7, Duration::from_millis(1));
        metrics.round(0);
        metrics.round(4);
        expected.push("swarmgate_entries_total 7".to_owned());
        expected.push("swarmgate_round_envelopes_count 1".to_owned());
        let text = metrics.encode();
        for line in expected {
            assert!(text.lines().any(|told| told == line), "`{line}` is not in\n{text}");
        }
    }

    #[test]
    fn health_is_read_when_asked() {
        let health = Arc::new(Health::default());
        let metrics = Metrics::new(Arc::clone(&health));
        assert!(metrics.encode().contains("swarmgate_ledger_writable 0\n"));
        health.set_ledger(true);
        assert!(metrics.encode().contains("swarmgate_ledger_writable 1\n"));
    }
}
