//! The inventory: what the statuses of a fleet together say, in whatever order they come.
//!
//! Owns: the properties of the merge and the totals, and the tables of freshness.
//! Never: looks inside; it asks the doors that the decision asks.
//! Holds: every status is read from an envelope that the contract accepted.

use std::{cmp::Reverse, collections::BTreeSet, sync::OnceLock};

use proptest::prelude::*;
use serde_json::{Value, json};
use swarmgate::{
    contract::{
        Contract, Said,
        digest::Digest,
        message::{Message, Properties},
        routing::Scope,
        timestamp::Timestamp,
    },
    decision::{
        rules::inventory::InventoryLimits,
        state::inventory::{
            Change, Drift, Freshness, Health, InstanceView, Inventory, Lifecycle, Status, SwarmView, Totals,
            What,
        },
    },
    view::graph::Graph,
};

/// 2026-03-04T10:15:00Z.
const START: Timestamp = Timestamp::from_micros(1_772_619_300_000_000);
const SWARMS: [&str; 2] = ["alpha", "beta"];

fn at(ms: i64) -> Timestamp {
    Timestamp::from_micros(START.micros() + ms * 1_000)
}

fn scope(number: u8) -> Scope {
    let swarm = SWARMS[usize::from(number) % SWARMS.len()];
    Scope::new(swarm, "generator", format!("gen-{number}"))
}

/// An envelope as the contract accepts it.
pub fn said(
    kind_type: &str,
    scope: &Scope,
    timestamp: Timestamp,
    data: &Value,
    runtime: Option<Value>,
) -> Said {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    let contract = CONTRACT.get_or_init(|| {
        Contract::built_in(swarmgate::contract::Limits::default()).expect("the built-in contract")
    });
    let mut body = json!({
        "timestamp": timestamp, "version": "1", "kind": "metric", "type": kind_type,
        "origin": scope.instance, "scope": scope, "correlationId": null, "idempotencyKey": null, "data": data,
    });
    if let Some(runtime) = runtime {
        body["runtime"] = runtime;
    }
    let (swarm, role, instance) = (&scope.swarm_id, &scope.role, &scope.instance);
    let message = Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: format!("event.metric.{kind_type}.{swarm}.{role}.{instance}"),
        properties: Properties::default(),
        body: body.to_string().into(),
    };
    contract.read(&message).unwrap_or_else(|unsaid| panic!("{body}: {:?}", unsaid.refusal))
}

/// One status of a random history.
#[derive(Clone, Debug)]
struct Spoken {
    instance: u8,
    full: bool,
    said_ms: i64,
    delay_ms: i64,
    enabled: bool,
    tps: Option<u8>,
    input: Option<&'static str>,
    config: u8,
    lifecycle: Option<&'static str>,
    image: Option<u8>,
}

impl Spoken {
    fn status(&self) -> Status {
        let plane = self.input.map(|input| json!({ "input": input, "output": "ok" }));
        let state = plane.map_or(json!({}), |plane| json!({ "work": plane }));
        let mut data = json!({ "enabled": self.enabled, "ioState": state });
        if let Some(tps) = self.tps {
            data["tps"] = json!(tps);
        }
        if let Some(lifecycle) = self.lifecycle {
            data["context"] = json!({ "lifecycle": lifecycle });
        }
        if self.full {
            data["config"] = json!({ "rate": self.config });
            data["startedAt"] = json!(at(i64::from(self.config)));
            let queue = format!("q-{}", self.config);
            data["io"] = json!({ "work": { "queues": { "in": [queue], "out": ["sink"] } } });
        }
        let image = self.image.map(|number| format!("gen:{number}"));
        let runtime = image.map(|image| json!({ "runId": "r", "templateId": "t", "image": image }));
        let kind_type = if self.full { "status-full" } else { "status-delta" };
        let said = said(kind_type, &scope(self.instance), at(self.said_ms), &data, runtime);
        Status::read(&said, body_of(&said), at(self.said_ms + self.delay_ms)).expect("a status")
    }

    /// What it orders by.
    fn stamp_ms(&self) -> i64 {
        self.said_ms.min(self.said_ms + self.delay_ms + InventoryLimits::default().skew_max_ms as i64)
    }
}

fn spoken(from_ms: i64, to_ms: i64) -> impl Strategy<Value = Spoken> {
    // Mostly whole seconds, so that several statuses fall on one moment.
    let said = prop_oneof![from_ms / 1_000..to_ms / 1_000].prop_map(|seconds| seconds * 1_000);
    let delay = prop_oneof![3 => 0..500_i64, 2 => 0..90_000_i64, 1 => -60_000..0_i64];
    let input =
        prop::option::of(prop::sample::select(vec!["ok", "unknown", "backpressure", "upstream-error"]));
    let lifecycle = prop::option::of(prop::sample::select(vec!["IDLE", "RUNNING_PAPER", "PAUSED"]));
    let what =
        (any::<bool>(), prop::option::of(0..3_u8), input, 0..3_u8, lifecycle, prop::option::of(0..2_u8));
    (0..4_u8, prop::bool::weighted(0.3), said, delay, what).prop_map(
        |(instance, full, said_ms, delay_ms, what)| {
            let (enabled, tps, input, config, lifecycle, image) = what;
            Spoken { instance, full, said_ms, delay_ms, enabled, tps, input, config, lifecycle, image }
        },
    )
}

/// Everything that an inventory answers, in an order of its own.
#[derive(Debug, PartialEq)]
struct Seen {
    instances: Vec<InstanceView>,
    swarms: Vec<SwarmView>,
    edges: Vec<String>,
    due: Vec<Vec<(Scope, What)>>,
}

/// Lets everything fall due that is due by `now`.
fn elapse(inventory: &mut Inventory, now: Timestamp) -> Vec<Change> {
    let mut all = Vec::new();
    while inventory.next_deadline().is_some_and(|deadline| deadline <= now) {
        let due = inventory.due(now);
        assert!(!due.is_empty(), "a deadline that has passed lets something fall due");
        due.iter().for_each(|change| inventory.settle(change));
        all.extend(due);
        assert!(all.len() < 100_000, "the timers come to rest");
    }
    assert!(inventory.due(now).is_empty(), "what is due has a deadline");
    all
}

fn all_instances(inventory: &Inventory) -> Vec<InstanceView> {
    let mut views: Vec<_> = SWARMS.iter().flat_map(|swarm| inventory.instances(swarm)).collect();
    views.sort_by(|one, other| one.scope.cmp(&other.scope));
    views
}

fn look(mut inventory: Inventory) -> Seen {
    let instances = all_instances(&inventory);
    let swarms = inventory.swarms();
    let graph = serde_json::to_value(Graph::new(&inventory, None)).expect("JSON");
    let mut edges: Vec<String> =
        graph["edges"].as_array().expect("edges").iter().map(Value::to_string).collect();
    edges.sort();
    let due = [0, 10_000, 30_000, 70_000, 150_000, 100_000_000].map(|after_ms| {
        let mut due: Vec<_> = elapse(&mut inventory, at(after_ms))
            .into_iter()
            .map(|change| (change.scope, change.what))
            .collect();
        // Of one instance in their order, of several in any.
        due.sort_by(|one, other| one.0.cmp(&other.0));
        due
    });
    Seen { instances, swarms, edges, due: due.to_vec() }
}

fn merged(first: &[Status], then: &[Status]) -> Inventory {
    let mut inventory = Inventory::new(InventoryLimits::default());
    let members = [0_u8, 2, 6].map(|number| ("generator".to_owned(), format!("gen-{number}")));
    inventory.expect("alpha", &BTreeSet::from(members), at(-200_000));
    for status in first {
        inventory.merge(status);
    }
    elapse(&mut inventory, at(0));
    for status in then {
        inventory.merge(status);
    }
    inventory
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_repetition_of_the_same_statuses_gives_the_same_state(
        first in prop::collection::vec(spoken(-120_000, 0), 0..8),
        (then, shuffled) in prop::collection::vec(spoken(-30_000, 40_000), 0..12).prop_flat_map(|then| {
            let again = prop::sample::subsequence(then.clone(), 0..=then.len());
            let all = again.prop_map({
                let then = then.clone();
                move |again| [then.clone(), again].concat()
            });
            (Just(then), all.prop_shuffle())
        }),
    ) {
        let statuses = |spoken: &[Spoken]| spoken.iter().map(Spoken::status).collect::<Vec<_>>();
        let first = statuses(&first);
        let straight = look(merged(&first, &statuses(&then)));
        let shuffled = look(merged(&first, &statuses(&shuffled)));
        prop_assert_eq!(straight, shuffled);
    }

    #[test]
    fn each_field_is_the_newest_that_was_said_of_it(
        mut history in prop::collection::vec(spoken(-60_000, 60_000), 1..12),
        seed in any::<u64>(),
    ) {
        // One instance, each moment once: then sorting by time is the whole truth.
        history.iter_mut().for_each(|spoken| spoken.instance = 0);
        history.sort_by_key(Spoken::stamp_ms);
        history.dedup_by_key(|spoken| spoken.stamp_ms());
        let mut order: Vec<usize> = (0..history.len()).collect();
        order.sort_by_key(|index| Digest::of(&(seed ^ *index as u64).to_be_bytes()));
        let mut inventory = Inventory::new(InventoryLimits::default());
        for index in order {
            inventory.merge(&history[index].status());
        }
        let view = inventory.instance(&scope(0)).expect("the instance");
        let newest = history.last().expect("one at least");
        prop_assert_eq!(view.enabled, Some(newest.enabled));
        prop_assert_eq!(view.as_of, Some(at(newest.stamp_ms())));
        let tps = history.iter().rev().find(|spoken| spoken.full || spoken.tps.is_some());
        prop_assert_eq!(view.tps, tps.and_then(|spoken| spoken.tps.map(u64::from)));
        let work = history.iter().rev().find(|spoken| spoken.full || spoken.input.is_some());
        let health = match work.and_then(|spoken| spoken.input) {
            Some("ok") => Health::Ok,
            Some("backpressure") => Health::Degraded,
            Some("upstream-error") => Health::Error,
            _ => Health::Unknown,
        };
        prop_assert_eq!(view.health, health);
        let full = history.iter().rev().find(|spoken| spoken.full);
        prop_assert_eq!(view.started_at, full.map(|spoken| at(i64::from(spoken.config))));
        prop_assert_eq!(view.queues_in, full.map(|spoken| vec![format!("q-{}", spoken.config)]));
        let built = history.iter().rev().find(|spoken| spoken.full || spoken.image.is_some());
        let image = built.and_then(|spoken| spoken.image).map(|number| format!("gen:{number}"));
        let built = view.build.and_then(|build| build.image);
        prop_assert_eq!(built.as_deref(), image.as_deref());
        let lifecycle = match history.iter().rev().find_map(|spoken| spoken.lifecycle) {
            Some("IDLE") => Lifecycle::Idle,
            Some("PAUSED") => Lifecycle::Paused,
            Some(_) => Lifecycle::Running,
            None if newest.enabled => Lifecycle::Running,
            None => Lifecycle::Idle,
        };
        prop_assert_eq!(view.lifecycle, lifecycle);
    }

    #[test]
    fn totals_and_watermark_equal_a_recount(steps in prop::collection::vec(step(), 1..40)) {
        let limits = InventoryLimits { instances_max: 5, forget_after_ms: 120_000, ..InventoryLimits::default() };
        let mut inventory = Inventory::new(limits);
        let mut now_ms = 0;
        let mut desired: [BTreeSet<(String, String)>; 2] = Default::default();
        for (after_ms, step) in steps {
            now_ms += after_ms;
            match step {
                Step::Status(mut spoken) => {
                    spoken.said_ms += now_ms;
                    inventory.merge(&spoken.status());
                }
                Step::Expect(swarm, numbers) => {
                    let members = numbers.iter().map(|number| ("generator".to_owned(), scope(*number).instance));
                    desired[usize::from(swarm)] = members.collect();
                    inventory.expect(SWARMS[usize::from(swarm)], &desired[usize::from(swarm)], at(now_ms));
                }
                Step::Desire(number, config) => {
                    let config = Digest::of(format!("{{\"rate\":{config}}}").as_bytes());
                    inventory.set_desired_config(&scope(number), config, at(now_ms));
                }
                Step::Lifecycle(number) => inventory.set_lifecycle(&scope(number), Lifecycle::Paused, at(now_ms)),
                Step::Forget(number) => inventory.forget(&scope(number)),
                Step::ForgetSwarm => {
                    inventory.forget_swarm("beta");
                    desired[1].clear();
                }
                Step::Pause => inventory.pause(at(now_ms)),
                Step::Resume => inventory.resume(at(now_ms)),
                Step::Elapse => {
                    elapse(&mut inventory, at(now_ms));
                }
            }
            prop_assert!(inventory.instances_count() <= 5);
            for (swarm, desired) in SWARMS.iter().zip(&desired) {
                let views: Vec<_> = inventory.instances(swarm).collect();
                let counted = recount(&views, desired);
                prop_assert_eq!(inventory.swarm(swarm).map(|view| (view.totals, view.watermark)), counted);
            }
            let views: Vec<_> = SWARMS.iter().flat_map(|swarm| inventory.instances(swarm)).collect();
            for (freshness, health, count) in inventory.fleet().counts() {
                let counted = views.iter().filter(|view| (view.freshness, view.health) == (freshness, health));
                prop_assert_eq!(count, counted.count(), "{:?} {:?}", freshness, health);
            }
            let drifted = views.iter().filter(|view| view.drift == Drift::Drifted).count();
            prop_assert_eq!(inventory.fleet().drifted, drifted);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Status(Spoken),
    Expect(u8, Vec<u8>),
    Desire(u8, u8),
    Lifecycle(u8),
    Forget(u8),
    ForgetSwarm,
    Pause,
    Resume,
    Elapse,
}

fn step() -> impl Strategy<Value = (i64, Step)> {
    let status = spoken(-10_000, 10_000).prop_flat_map(|spoken| {
        (0..7_u8).prop_map(move |instance| Step::Status(Spoken { instance, ..spoken.clone() }))
    });
    let step = prop_oneof![
        8 => status,
        2 => (0..2_u8, prop::collection::vec(0..4_u8, 0..4)).prop_map(|(swarm, numbers)| {
            Step::Expect(swarm, numbers.iter().map(|number| number * 2 + swarm).collect())
        }),
        1 => (0..7_u8, 0..3_u8).prop_map(|(number, config)| Step::Desire(number, config)),
        1 => (0..7_u8).prop_map(Step::Lifecycle),
        1 => (0..7_u8).prop_map(Step::Forget),
        1 => Just(Step::ForgetSwarm),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        4 => Just(Step::Elapse),
    ];
    (prop_oneof![2 => 0..3_000_i64, 1 => 0..70_000_i64], step)
}

/// The totals and the watermark from nothing but the views; `None` for a swarm that nobody is in or
/// expects.
fn recount(
    views: &[InstanceView],
    desired: &BTreeSet<(String, String)>,
) -> Option<(Totals, Option<Timestamp>)> {
    let count = |counts: fn(&InstanceView) -> bool| views.iter().filter(|view| counts(view)).count();
    let fresh = |view: &InstanceView| view.freshness == Freshness::Fresh;
    let totals = Totals {
        desired: desired.len(),
        seen: count(|view| view.as_of.is_some()),
        fresh: views.iter().filter(|view| fresh(view)).count(),
        stale: count(|view| view.freshness == Freshness::Stale),
        lost: count(|view| view.freshness == Freshness::Lost),
        running: count(|view| view.freshness == Freshness::Fresh && view.lifecycle == Lifecycle::Running),
        enabled: count(|view| view.freshness == Freshness::Fresh && view.enabled == Some(true)),
        unwell: count(|view| {
            view.freshness == Freshness::Fresh && matches!(view.health, Health::Degraded | Health::Error)
        }),
        drifted: count(|view| view.drift == Drift::Drifted),
    };
    let as_ofs: Option<Vec<Timestamp>> = desired
        .iter()
        .map(|(role, instance)| {
            let is_it = |view: &&InstanceView| {
                view.expected && view.scope.role == *role && view.scope.instance == *instance
            };
            views.iter().find(is_it).and_then(|view| view.as_of)
        })
        .collect();
    let watermark = as_ofs.and_then(|as_ofs| as_ofs.into_iter().min());
    (!views.is_empty() || !desired.is_empty()).then_some((totals, watermark))
}

// --- tables

fn delta(number: u8, said_ms: i64, arrived_ms: i64) -> Status {
    let data = json!({ "enabled": true, "ioState": { "work": { "input": "ok", "output": "ok" } } });
    let said = said("status-delta", &scope(number), at(said_ms), &data, None);
    Status::read(&said, body_of(&said), at(arrived_ms)).expect("a delta")
}

fn full(number: u8, said_ms: i64, arrived_ms: i64) -> Status {
    let data = json!({
        "enabled": true, "ioState": { "work": { "input": "ok", "output": "ok" } }, "startedAt": START,
        "config": { "rate": 1 }, "io": {},
    });
    let said = said("status-full", &scope(number), at(said_ms), &data, None);
    Status::read(&said, body_of(&said), at(arrived_ms)).expect("a full")
}

/// What happens to one instance: when (ms), what (`late-N`: a delta said N ms before it arrived),
/// how fresh it is then, and what fell due.
const FRESHNESS: &str = "
# silence
0 silence unknown
0 full fresh
14999 silence fresh
15000 silence stale stale
59999 silence stale
60000 silence lost lost
86399999 silence lost
86400000 silence unknown forgotten
# a long look away says it is lost, once
0 full fresh
70000 silence lost lost
# a full is enough to be back
0 full fresh
20000 silence stale stale
21000 full fresh back
36000 silence stale stale
# deltas are enough when there are three in a row
0 full fresh
61000 silence lost lost
62000 delta lost
67000 delta lost
72000 delta fresh back
# a gap starts the row again
0 full fresh
15000 silence stale stale
16000 delta stale
21000 delta stale
37000 delta stale
42000 delta stale
47000 delta fresh back
# what was said long ago proves no life
0 full fresh
61000 silence lost lost
62000 late-61000 lost
62100 late-60000 lost
62200 late-59000 lost
62300 late-58000 lost
# while the lane stands nothing ages
0 full fresh
5000 pause fresh
500000 silence fresh
500000 resume fresh
509999 silence fresh
510000 silence stale stale
# an instance of which only deltas are known is asked, then again after 5, 10 and 20 s
0 delta fresh ask
4999 delta fresh
5000 delta fresh ask
14999 delta fresh
15000 delta fresh ask
29000 delta fresh
35000 delta fresh ask
40000 full fresh
54000 delta fresh
";

#[test]
fn freshness_by_its_table() {
    let mut inventory = Inventory::new(InventoryLimits::default());
    let mut rows_count = 0;
    for row in FRESHNESS.lines().filter(|row| !row.is_empty()) {
        if row.starts_with('#') {
            inventory = Inventory::new(InventoryLimits::default());
            continue;
        }
        let mut words = row.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let now: i64 = word().parse().expect("milliseconds");
        match word() {
            "full" => assert!(!inventory.merge(&full(0, now, now)).ask),
            "delta" => assert!(!inventory.merge(&delta(0, now, now)).overflowed),
            "pause" => inventory.pause(at(now)),
            "resume" => inventory.resume(at(now)),
            "silence" => {}
            late => {
                let by: i64 = late.strip_prefix("late-").and_then(|by| by.parse().ok()).expect(late);
                assert!(!inventory.merge(&delta(0, now - by, now)).is_first);
            }
        }
        let due = elapse(&mut inventory, at(now)).into_iter();
        let due: Vec<String> = due.map(|change| format!("{:?}", change.what).to_lowercase()).collect();
        let is = inventory.instance(&scope(0)).map_or(Freshness::Unknown, |view| view.freshness);
        assert_eq!(format!("{is:?}").to_lowercase(), word(), "{row}");
        assert_eq!(due.join(","), word(), "{row}");
        rows_count += 1;
    }
    assert_eq!(rows_count, 47, "every row was tried");
}

#[test]
fn what_is_no_longer_due_settles_nothing() {
    let mut inventory = Inventory::new(InventoryLimits::default());
    inventory.merge(&full(0, 0, 0));
    let due = inventory.due(at(20_000));
    assert_eq!(due.iter().map(|change| change.what).collect::<Vec<_>>(), [What::Stale]);
    assert_eq!((due[0].as_of, due[0].last_seen), (Some(at(0)), Some(at(0))));
    inventory.merge(&delta(0, 19_000, 19_000));
    due.iter().for_each(|change| inventory.settle(change));
    assert_eq!(inventory.instance(&scope(0)).expect("it").freshness, Freshness::Fresh);
    assert_eq!(inventory.next_deadline(), Some(at(34_000)));
}

#[test]
fn a_clock_that_runs_ahead_wins_nothing_and_is_seen() {
    let mut inventory = Inventory::new(InventoryLimits::default());
    inventory.merge(&full(0, 3_600_000, 0));
    let view = inventory.instance(&scope(0)).expect("it");
    assert_eq!((view.as_of, view.clock_skew_ms), (Some(at(5_000)), Some(3_600_000)));
    let stopped = json!({ "enabled": false, "ioState": {} });
    let stopped = said("status-delta", &scope(0), at(6_000), &stopped, None);
    inventory.merge(&Status::read(&stopped, body_of(&stopped), at(6_040)).expect("a delta"));
    let view = inventory.instance(&scope(0)).expect("it");
    assert_eq!((view.enabled, view.skew_ms, view.clock_skew_ms), (Some(false), Some(-40), Some(3_600_000)));
}

#[test]
fn drift_is_told_only_by_what_was_said_after() {
    let applied = |config: &str| Digest::of(config.as_bytes());
    let table = [
        ("{\"rate\":1}", -1, Drift::None),
        ("{\"rate\":2}", -1, Drift::Drifted),
        ("{\"rate\":2}", 0, Drift::Unknown),
        ("{\"rate\":1}", 1, Drift::Unknown),
    ];
    for (config, applied_ms, expected) in table {
        let mut inventory = Inventory::new(InventoryLimits::default());
        inventory.merge(&full(0, 0, 0));
        inventory.set_desired_config(&scope(0), applied(config), at(applied_ms));
        assert_eq!(inventory.instance(&scope(0)).expect("it").drift, expected, "{config} at {applied_ms}");
    }
}

#[test]
fn beyond_the_bound_an_instance_is_counted_and_not_taken() {
    let mut inventory = Inventory::new(InventoryLimits { instances_max: 1, ..InventoryLimits::default() });
    assert!(inventory.merge(&full(0, 0, 0)).is_first);
    assert!(inventory.merge(&full(2, 0, 0)).overflowed);
    assert!(!inventory.merge(&full(0, 1, 1)).overflowed, "who is in stays in");
    let members = [0, 2].map(|number| ("generator".to_owned(), scope(number).instance));
    inventory.expect("alpha", &members.into(), at(2));
    let swarm = inventory.swarm("alpha").expect("the swarm");
    assert_eq!((swarm.totals.desired, swarm.totals.seen, swarm.watermark), (2, 1, None));
    assert_eq!((inventory.instances_count(), inventory.overflow_count()), (1, 2));
    inventory.forget(&Scope::new("alpha", "ALL", "ALL"));
    assert!(!inventory.merge(&full(2, 3, 3)).overflowed, "there is room again");
}

#[test]
fn what_is_no_status_and_who_fans_out_is_not_read() {
    let scope = scope(0);
    let data = json!({ "enabled": true, "ioState": {} });
    let mut other = said("status-delta", &scope, at(0), &data, None);
    assert!(Status::read(&other, body_of(&other), at(0)).is_some());
    other.key.kind_type = "status-other".to_owned();
    assert_eq!(Status::read(&other, body_of(&other), at(0)), None);
    let mut inventory = Inventory::new(InventoryLimits::default());
    inventory.set_lifecycle(&Scope::new("alpha", "ALL", "ALL"), Lifecycle::Paused, at(0));
    assert_eq!(inventory.instances_count(), 0);
}

#[test]
fn a_fan_out_covers_whom_the_inventory_knows() {
    let mut inventory = Inventory::new(InventoryLimits::default());
    for number in 0..4 {
        inventory.merge(&full(number, 0, 0));
    }
    let table = [
        (Scope::new("alpha", "generator", "ALL"), 2),
        (Scope::new("alpha", "ALL", "ALL"), 2),
        (Scope::new("ALL", "generator", "ALL"), 4),
        (Scope::new("ALL", "ALL", "ALL"), 4),
        (Scope::new("ALL", "moderator", "ALL"), 0),
        (Scope::new("gamma", "ALL", "ALL"), 0),
    ];
    for (fan_out, expected) in table {
        assert_eq!(inventory.covered(&fan_out).count(), expected, "{fan_out:?}");
    }
}

#[test]
fn an_instance_costs_at_most_a_kibibyte() {
    const COUNT: usize = 10_000;
    let runtime =
        json!({ "runId": "run-1", "templateId": "template-1", "image": "registry/gen:1", "stackName": "s" });
    let mut inventory = Inventory::new(InventoryLimits::default());
    for number in 0..COUNT {
        // Each has a name, a container, a work queue and a control queue of its own.
        let scope =
            Scope::new(format!("swarm-{}", number / 100), "generator", format!("generator-bee-{number}"));
        let queue = format!("hive.swarm-{}.work.generator-bee-{number}", number / 100);
        let work = json!({ "queues": { "in": [queue], "out": ["w-out"] } });
        let control = json!({ "queues": { "in": [queue.replace("work", "control")] } });
        let data = json!({
            "enabled": true, "ioState": { "work": { "input": "ok", "output": "ok" } }, "startedAt": START, "tps": 5,
            "config": { "rate": 1 }, "io": { "work": work, "control": control },
        });
        let mut said = said("status-full", &scope, at(0), &data, Some(runtime.clone()));
        said.envelope.runtime.as_mut().expect("a runtime").container_id = Some(format!("{number:064}"));
        inventory.merge(&Status::read(&said, body_of(&said), at(0)).expect("a full"));
    }
    let each = inventory.bytes() / COUNT;
    assert!((256..=1024).contains(&each), "{each} bytes an instance");
    let due = inventory.due(at(60_000));
    assert_eq!(due.len(), InventoryLimits::default().changes_max, "one look is bounded");
    let most = inventory.swarms().into_iter().max_by_key(|swarm| Reverse(swarm.totals.seen));
    assert_eq!(most.map(|swarm| swarm.totals.fresh), Some(100));
}

/// Stands for the body's digest: what differs has another one.
fn body_of(said: &Said) -> Digest {
    Digest::of(&serde_json::to_vec(&said.envelope).expect("JSON"))
}
