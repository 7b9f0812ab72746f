//! The steps of commands that the metrics measure, over the corridor that the router takes.
//!
//! Owns: from when each step counts, that none counts twice, and what is no measure of anybody.
//! Never: looks at a metric; `telemetry` has the words of those.
//! Holds: time is the test's own.

use std::sync::OnceLock;

use serde_json::json;
use swarmgate::{
    contract::{
        Contract,
        audit::{Action, Carried, Change, Fact, Genesis, Mode},
        command::Class,
        interlock::SafetyMode,
        message::{Message, Properties},
        timestamp::Timestamp,
    },
    decision::{
        request::{BrokerReport, Request, Returned},
        rules::Rules,
        state::{
            State,
            steps::{CommandStep, Reached},
        },
    },
    ledger::{Outgoing, chain::Chain},
    runtime::corridor::{self, Corridor, Judged, Names},
};

/// 2026-03-04T10:15:00Z.
const START: Timestamp = Timestamp::from_micros(1_772_619_300_000_000);

struct World(Corridor);

impl World {
    fn new() -> Self {
        let genesis = Genesis {
            environment: "dev".to_owned(),
            initial_mode: SafetyMode::Normal,
            ledger_id: "0".repeat(32),
            mode: Mode::Enforce,
            version: "0".to_owned(),
        };
        let names = Names::with_prefix("swarmgate");
        let mut corridor = Corridor::new(State::new(Rules::default()), Chain::new(), names);
        corridor.record(Fact::new(Action::Genesis, START, Change::Genesis(genesis)));
        Self(corridor)
    }

    /// Judges an envelope of that family and type, of or to `w-1`, and answers with its entry.
    fn says(&mut self, ms: u64, family: &str, kind_type: &str, data: &serde_json::Value) -> (u64, Judged) {
        static CONTRACT: OnceLock<Contract> = OnceLock::new();
        let contract = CONTRACT.get_or_init(|| Contract::built_in(Default::default()).expect("the contract"));
        let is_signal = family == "signal";
        let kind = family.rsplit('.').next().map(|kind| if kind == "alert" { "event" } else { kind });
        let body = json!({
            "timestamp": START.plus_ms(ms), "version": "1", "kind": kind, "type": kind_type,
            "origin": if is_signal { "orc" } else { "w-1" },
            "scope": { "swarmId": "kestrel", "role": "worker", "instance": "w-1" },
            "correlationId": (!family.ends_with("metric")).then_some("c-1"),
            "idempotencyKey": (!family.ends_with("metric")).then_some("i-1"), "data": data,
        });
        let message = Message {
            exchange: "swarmgate.in".to_owned(),
            routing_key: format!("{family}.{kind_type}.kestrel.worker.w-1"),
            properties: Properties { user_id: is_signal.then(|| "orc".to_owned()), ..Properties::default() },
            body: body.to_string().into(),
        };
        let arrival = corridor::read(contract, &message, false);
        let decision = self.0.decide(&Request::Arrived(Box::new(arrival)), START.plus_ms(ms));
        let judged = self.0.settle(decision, Some(message), None);
        let first = judged.sealed.first().map_or(0, |entry| entry.entry.seq);
        (first, judged)
    }

    /// The broker took these entries; of those that came back none was taken by a queue.
    fn answers(&mut self, ms: u64, span: (u64, u64), back: Vec<Outgoing>) -> Vec<CommandStep> {
        let place = |outgoing: &Outgoing| (outgoing.seq, outgoing.ordinal);
        let returned = |outgoing: &Outgoing| Returned {
            seq: outgoing.seq,
            ordinal: outgoing.ordinal,
            routing_key: outgoing.message.routing_key.clone(),
            body_bytes: outgoing.message.body.len(),
        };
        let answer = BrokerReport {
            carried: Carried {
                spans: vec![span],
                returned: back.iter().map(place).collect(),
                ..Carried::default()
            },
            returned: back.iter().map(returned).collect(),
            not_taken: Vec::new(),
        };
        let decision = self.0.decide(&Request::Answered(answer), START.plus_ms(ms));
        self.0.settle_answer(decision, back).steps
    }

    fn due(&mut self, ms: u64) -> Vec<CommandStep> {
        std::iter::from_fn(|| self.0.due(START.plus_ms(ms))).flat_map(|judged| judged.steps).collect()
    }
}

fn step(class: Class, reached: Reached, took_ms: impl Into<Option<i64>>) -> CommandStep {
    CommandStep { class: Some(class), reached, took_micros: took_ms.into().map(|ms| ms * 1_000) }
}

fn ended(kind_type: &str, status: &str) -> Reached {
    Reached::Ended { kind_type: kind_type.to_owned(), status: status.to_owned() }
}

#[test]
fn each_step_counts_once_from_the_acceptance() {
    let mut world = World::new();
    let (seq, judged) = world.says(0, "signal", "swarm-stop", &json!({}));
    assert_eq!(judged.steps, []);
    assert_eq!(world.answers(10, (seq, seq), Vec::new()), [step(Class::Stop, Reached::Carried, 10)]);
    assert_eq!(world.answers(20, (seq, seq), Vec::new()), []);
    let (_, judged) = world.says(50, "event.outcome", "swarm-stop", &json!({ "status": "Stopped" }));
    let expected =
        [step(Class::Stop, Reached::Observed, 50), step(Class::Stop, ended("swarm-stop", "Stopped"), 50)];
    assert_eq!(judged.steps, expected);
    let (_, judged) = world.says(60, "event.outcome", "swarm-stop", &json!({ "status": "Failed" }));
    assert_eq!(judged.steps, [], "it has ended already");
}

#[test]
fn an_alert_under_its_correlation_id_is_the_first_sign() {
    let mut world = World::new();
    world.says(0, "signal", "swarm-stop", &json!({}));
    let alert = json!({ "level": "warn", "code": "x.y", "message": "it takes a while" });
    let (_, judged) = world.says(30, "event.alert", "alert", &alert);
    assert_eq!(judged.steps, [step(Class::Stop, Reached::Observed, 30)]);
    let (_, judged) = world.says(90, "event.outcome", "swarm-stop", &json!({ "status": "Stopped" }));
    assert_eq!(judged.steps, [step(Class::Stop, ended("swarm-stop", "Stopped"), 90)]);
}

#[test]
fn a_deadline_ends_it_and_until_then_it_is_overdue() {
    let mut world = World::new();
    world.says(0, "signal", "swarm-stop", &json!({}));
    let overdue = |world: &World, ms| world.0.state().commands_overdue(START.plus_ms(ms), 10);
    assert_eq!((overdue(&world, 89_999), overdue(&world, 90_000)), (0, 1));
    assert_eq!(world.due(90_000), [step(Class::Stop, ended("swarm-stop", "TimedOut"), 90_000)]);
    assert_eq!(overdue(&world, 90_000), 0);
}

#[test]
fn what_waited_for_its_target_or_a_person_is_counted_and_not_measured() {
    let mut world = World::new();
    let (seq, judged) = world.says(0, "signal", "swarm-plan", &json!({}));
    assert_eq!(world.answers(10, (seq, seq), judged.outgoing), [], "it came back");
    assert_eq!(world.0.parked_count(), 1);
    let (_, judged) = world.says(50, "event.outcome", "swarm-plan", &json!({ "status": "Ready" }));
    assert_eq!(judged.steps, [step(Class::Change, ended("swarm-plan", "Ready"), None)]);
    let mut world = World::new();
    let (seq, _) = world.says(0, "signal", "data-delete", &json!({ "reason": "clean up" }));
    assert_eq!(world.answers(10, (seq, seq + 1), Vec::new()), [], "a challenge is no command");
    let steps = world.due(86_400_000);
    assert_eq!(steps, [step(Class::Destructive, ended("data-delete", "Refused"), None)]);
}
