//! Filling the registry, family by family.
//!
//! Owns: the names and helps of the families, and the gauges that are read at the moment of asking.
//! Never: counts; `Metrics` does.
//! Holds: all series of a family exist from the start.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};

use super::labels::{ByLane, ByMap, ByState, ByWay, FreshnessHealth};
use crate::{
    contract::{
        bound::Bound,
        lane::{Lane, Way},
    },
    decision::state::inventory::Fleet,
    telemetry::{health::Health, stderr},
};

/// A registry while it is being filled.
pub(super) struct Section<'a>(pub &'a mut Registry);

impl Section<'_> {
    /// How large the ledger's file and its write-ahead log are.
    pub(super) fn ledger(&mut self) -> [Gauge; 2] {
        [
            self.one("ledger_bytes", "Bytes of the ledger's file", Gauge::default()),
            self.one("ledger_wal_bytes", "Bytes of the ledger's write-ahead log", Gauge::default()),
        ]
    }

    /// How often each bound of what is remembered was met.
    pub(super) fn bounds(&mut self) -> [Counter; Bound::ALL.len()] {
        let help = "Times that there was no room to remember more, by what there was no room for";
        let hits: Family<ByMap, Counter> = self.family("bound_hits", help);
        Bound::ALL.map(|bound| hits.get_or_create_owned(&ByMap { map: bound.word() }))
    }

    /// What other routers of the prefix were heard to do.
    pub(super) fn routers(&mut self) -> [Counter; 2] {
        let asked = "Questions of other routers that want to run on this prefix";
        let runs = "Announcements of other routers that run on this prefix while this one does";
        [
            self.one("other_router_asked", asked, Counter::default()),
            self.one("not_alone", runs, Counter::default()),
        ]
    }

    pub(super) fn family<L, M>(&mut self, name: &str, help: &str) -> Family<L, M>
    where
        Family<L, M>: prometheus_client::registry::Metric + Clone + Default,
    {
        self.one(name, help, Family::<L, M>::default())
    }

    pub(super) fn one<M: prometheus_client::registry::Metric + Clone>(
        &mut self,
        name: &str,
        help: &str,
        metric: M,
    ) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    /// Which instances there are, how many of them are unwell, and how many have drifted.
    pub(super) fn instances(&mut self) -> (Vec<Gauge>, [Gauge; 2]) {
        let help = "Instances that are known, by how recent what is known of them is, and how well they work";
        let instances: Family<FreshnessHealth, Gauge> = self.family("instances", help);
        let nobody = Fleet::default();
        let series = nobody.counts().map(|(freshness, health, _)| {
            let labels = FreshnessHealth { freshness: freshness.word(), health: health.word() };
            instances.get_or_create_owned(&labels)
        });
        let series = series.collect();
        let unwell = "Instances that speak and are degraded or in error";
        let drifted = "Instances configured otherwise than was last applied";
        let [unwell, drifted] = [("instances_unwell", unwell), ("instances_drifted", drifted)]
            .map(|(name, help)| self.one(name, help, Gauge::default()));
        (series, [unwell, drifted])
    }

    /// How tight safety is, and what is to be confirmed.
    pub(super) fn safety(&mut self) -> [Gauge; 3] {
        let mode = "The strongest safety mode that applies anywhere: 0 NORMAL, 1 SAFE, 2 EMERGENCY_STOP";
        let level =
            "The strongest kill switch that applies anywhere: 0 ALLOW, 1 CLOSE_ONLY, 2 FLATTEN, 3 BLOCK";
        [("safety_mode", mode), ("kill_switch", level), ("challenges_open", "Commands to be confirmed")]
            .map(|(name, help)| self.one(name, help, Gauge::default()))
    }

    /// What the outbox holds: on its way, and what waits for its target or a confirmation.
    pub(super) fn outbox(&mut self) -> [Gauge; 2] {
        let help = "Records of the outbox: written and not known to be published";
        let parcels: Family<ByState, Gauge> = self.family("outbox_parcels", help);
        ["leaving", "parked"].map(|state| parcels.get_or_create_owned(&ByState { state }))
    }

    /// Which lanes take nothing from their queues.
    pub(super) fn blocked(&mut self) -> [Gauge; 4] {
        let help =
            "Whether a lane takes nothing from its queue: shut, without a consumer, or with a full buffer";
        let blocked: Family<ByLane, Gauge> = self.family("lane_blocked", help);
        Lane::ALL.map(|lane| blocked.get_or_create_owned(&ByLane { lane: lane.word() }))
    }

    /// What the lanes' buffers hold, and what is not settled of each.
    pub(super) fn lanes(&mut self) -> ([Gauge; 4], [Gauge; 4]) {
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
    pub(super) fn observing(&mut self) -> [Counter; 2] {
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
    pub(super) fn publishing(&mut self) -> ([Gauge; Way::ALL.len()], [Counter; Way::ALL.len()]) {
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
pub(super) struct HealthGauges(pub Arc<Health>);

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
