//! Properties of the decision: whatever comes, in whatever order.
//!
//! Owns: random walks through the corridor, and what must hold after each of their steps.
//! Never: says which verdict is right; the tables do.
//! Holds: the same walk gives the same ledger, and its fold is the state.

use std::{collections::BTreeMap, sync::OnceLock};

use proptest::prelude::*;
use serde_json::{Value, json};
use swarmgate::{
    contract::{
        Contract,
        audit::{Action, Change, Fact, Genesis, Mode, Verdict},
        digest::Digest,
        message::{Message, Properties},
        timestamp::Timestamp,
    },
    decision::{
        effect::Effect,
        request::{BrokerReport, Request, Returned},
        rules::Rules,
        state::State,
    },
    ledger::chain::Chain,
    runtime::corridor::{self, Corridor, Judged, Names},
};

/// 2026-03-04T10:15:00Z.
const START: i64 = 1_772_619_300_000_000;
const WINDOW_MS: u64 = 4_000;
const KEYS_MAX: usize = 4;
const ALERTS_PER_SECOND_MAX: u32 = 2;

/// One step of a walk.
#[derive(Clone, Debug)]
struct Step {
    after_ms: u64,
    what: What,
    /// Which command, instance and key.
    number: u8,
    /// Which of a few bodies of the same key.
    variant: u8,
    /// How long ago it was said.
    age_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Plan,
    Stop,
    Start,
    Outcome,
    Alert,
    Metric,
    Heartbeat,
    Broken,
    BrokenAlert,
    Forged,
    Returned,
}

const ALL: [What; 11] = [
    What::Plan,
    What::Stop,
    What::Start,
    What::Outcome,
    What::Alert,
    What::Metric,
    What::Heartbeat,
    What::Broken,
    What::BrokenAlert,
    What::Forged,
    What::Returned,
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let after = prop_oneof![4 => Just(0_u64), 4 => 0..400_u64, 1 => 1_000..6_000_u64];
    let age = prop_oneof![3 => Just(0_u64), 2 => 0..1_000_u64, 1 => 3_500..5_000_u64];
    let step = (after, proptest::sample::select(&ALL[..]), 0..7_u8, 0..2_u8, age).prop_map(
        |(after_ms, what, number, variant, age_ms)| Step { after_ms, what, number, variant, age_ms },
    );
    proptest::collection::vec(step, 1..60)
}

fn rules() -> Rules {
    Rules {
        idempotency_window_ms: WINDOW_MS,
        idempotency_keys_max: KEYS_MAX,
        alerts_per_second_max: ALERTS_PER_SECOND_MAX,
        alerts_dedupe_ms: 300,
        refusals_senders_max: 3,
        ..Rules::default()
    }
}

/// Compiling the schemas takes longer than a walk.
fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(|| Contract::built_in(Default::default()).expect("the contract"))
}

fn begun() -> (Corridor, Fact) {
    let genesis = Genesis {
        environment: "dev".to_owned(),
        initial_mode: swarmgate::contract::interlock::SafetyMode::Normal,
        ledger_id: "0".repeat(32),
        mode: Mode::Enforce,
        version: "0".to_owned(),
    };
    let first = Fact::new(Action::Genesis, Timestamp::from_micros(START), Change::Genesis(genesis));
    let mut corridor = Corridor::new(State::new(rules()), Chain::new(), Names::with_prefix("swarmgate"));
    corridor.record(first.clone());
    (corridor, first)
}

/// The message of a step; `None` for what no message brings.
fn message(step: &Step, now: Timestamp) -> Option<Message> {
    let instance = format!("c-{}", step.number);
    let (family, kind_type, data) = match step.what {
        What::Plan | What::Broken | What::Forged => {
            ("signal", "swarm-plan", json!({ "variant": step.variant }))
        }
        What::Stop => ("signal", "swarm-stop", json!({})),
        What::Start => ("signal", "swarm-start", json!({ "variant": step.variant })),
        What::Heartbeat => ("signal", "heartbeat", json!({})),
        What::Outcome => ("event.outcome", "swarm-plan", json!({ "status": "Ready" })),
        What::Alert | What::BrokenAlert => {
            let data = json!({
                "level": "error", "code": "io.upstream", "message": format!("variant {}", step.variant),
            });
            ("event.alert", "alert", data)
        }
        What::Metric => {
            let io = json!({ "input": "ok", "output": "ok" });
            ("event.metric", "status-delta", json!({ "enabled": true, "ioState": { "work": io } }))
        }
        What::Returned => return None,
    };
    let commands = family == "signal" && step.what != What::Heartbeat;
    let origin = if commands { "orc" } else { instance.as_str() };
    let said_at =
        Timestamp::from_micros(now.micros() - i64::try_from(step.age_ms).unwrap_or_default() * 1000);
    let mut body = json!({
        "timestamp": said_at, "version": "1",
        "kind": family.rsplit('.').next().map(|kind| if kind == "alert" { "event" } else { kind }),
        "type": kind_type, "origin": origin,
        "scope": { "swarmId": "sim", "role": "controller", "instance": instance },
        "correlationId": format!("t-{}", step.number), "data": data,
    });
    if !matches!(step.what, What::Alert | What::BrokenAlert | What::Metric) {
        body["idempotencyKey"] = json!(format!("i-{}", step.number));
    }
    if matches!(step.what, What::Broken | What::BrokenAlert) {
        body["data"] = Value::Null;
    }
    let user = if step.what == What::Forged { format!("eve-{}", step.variant) } else { origin.to_owned() };
    Some(Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: format!("{family}.{kind_type}.sim.controller.{instance}"),
        properties: Properties { user_id: Some(user), ..Properties::default() },
        body: body.to_string().into(),
    })
}

fn request(contract: &Contract, step: &Step, message: Option<&Message>) -> Request {
    match message {
        Some(message) => Request::Arrived(Box::new(corridor::read(contract, message, step.variant == 1))),
        None => {
            let mut answer = BrokerReport::default();
            // Some of these are commands in flight: they are parked.
            let seq = 2 + u64::from(step.number);
            let routing_key = format!("signal.swarm-plan.sim.controller.c-{}", step.number);
            answer.carried.returned.push((seq, 0));
            answer.returned.push(Returned { seq, ordinal: 0, routing_key, body_bytes: 2 });
            Request::Answered(answer)
        }
    }
}

fn alerts(judged: &Judged) -> u32 {
    let is_alert = |effect: &&Effect| matches!(effect, Effect::Speak(speech) if speech.routing_key.starts_with("event.alert."));
    judged.decision.effects.iter().filter(is_alert).count() as u32
}

/// What is watched along a walk.
#[derive(Default)]
struct Watch {
    accepted: BTreeMap<Digest, i64>,
    alerts: BTreeMap<i64, u32>,
}

impl Watch {
    fn judged(&mut self, judged: &Judged, now: Timestamp) -> Result<(), TestCaseError> {
        let leaving = self.alerts.entry(now.second()).or_default();
        *leaving += alerts(judged);
        prop_assert!(*leaving <= ALERTS_PER_SECOND_MAX, "{leaving} alerts in a second");
        for sealed in &judged.sealed {
            let fact = &sealed.entry.fact;
            let Change::Accepted(accepted) = &fact.change else { continue };
            let Some(identity) = accepted.command else { continue };
            let before = self.accepted.insert(identity, now.micros());
            let again = before.map(|before| now.micros() - before);
            prop_assert!(
                again.is_none_or(|micros| micros > WINDOW_MS as i64 * 1000),
                "an identity was accepted again after {again:?} µs"
            );
        }
        Ok(())
    }
}

#[test]
fn the_walks_reach_every_verdict() {
    let contract = contract();
    let now = Timestamp::from_micros(START);
    for what in ALL {
        let (mut corridor, _) = begun();
        let step = Step { after_ms: 0, what, number: 1, variant: 0, age_ms: 0 };
        let message = message(&step, now);
        let decision = corridor.decide(&request(contract, &step, message.as_ref()), now);
        let verdict = match what {
            // Nobody has bootstrapped the worker whose heartbeat that is.
            What::Broken | What::BrokenAlert | What::Forged | What::Heartbeat => Some(Verdict::Refuse),
            What::Returned => None,
            _ => Some(Verdict::Forward),
        };
        assert_eq!(decision.verdict, verdict, "{what:?}: {:?}", decision.refusal);
        let told = alerts(&corridor.settle(decision, message.clone(), None));
        let tells = matches!(what, What::Broken | What::Forged | What::Heartbeat | What::Returned);
        assert_eq!(told, u32::from(tells), "{what:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_comes(steps in steps()) {
        let contract = contract();
        let (mut corridor, genesis) = begun();
        let mut fold = State::new(rules());
        fold.apply(1, &genesis);
        let mut watch = Watch::default();
        let mut now = Timestamp::from_micros(START);
        for step in &steps {
            now = now.plus_ms(step.after_ms);
            let due = corridor.due(now);
            let message = message(step, now);
            let request = request(contract, step, message.as_ref());
            let decision = corridor.decide(&request, now);
            let again = corridor.decide(&request.clone(), now);
            prop_assert_eq!(format!("{decision:?}"), format!("{again:?}"), "two decisions of the same");
            let refused = decision.verdict == Some(Verdict::Refuse);
            let judged = corridor.settle(decision, message.clone(), None);
            if refused && matches!(step.what, What::Alert | What::BrokenAlert) {
                prop_assert_eq!(alerts(&judged), 0, "an alert about an alert");
            }
            for judged in due.iter().chain([&judged]) {
                watch.judged(judged, now)?;
                for sealed in &judged.sealed {
                    fold.apply(sealed.entry.seq, &sealed.entry.fact);
                }
            }
            prop_assert_eq!(fold.digest(), corridor.state().digest(), "the fold of the prefix is another state");
            prop_assert!(corridor.state().keys() <= KEYS_MAX, "{} keys", corridor.state().keys());
            // A command in flight has its key until the window is over; it ends all the same.
            let state = corridor.state();
            let remembered = |accepted_at: i64| {
                Timestamp::from_micros(accepted_at).plus_ms(state.rules().idempotency_window_ms) >= now
            };
            let young = state.flights().filter(|flight| remembered(flight.accepted_at)).count();
            prop_assert!(young <= state.keys(), "{} young flights, {} keys", young, state.keys());
        }
    }
}
