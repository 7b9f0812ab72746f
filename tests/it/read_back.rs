//! What is accepted is written so that it can be read: moments, names and texts from everywhere, in
//! any order.
//!
//! Owns: the property that each entry reads back equal, that the fold of the entries is the running
//! state, and that a second boot gives the same digest; and where a moment that cannot be written
//! is refused.
//! Never: asks for a moment of today: what comes from outside is of any time.
//! Holds: no message, accepted or refused, leaves an entry that the next start cannot read.

use proptest::prelude::*;
use serde_json::{Value, json};
use swarmgate::{
    contract::{Contract, message::Message, reason::Reason, strict::Limits, timestamp::Timestamp},
    decision::{request::Request, rules::Rules, state::State},
    ledger::chain::Chain,
    runtime::corridor::{self, Corridor, Names},
};

/// Moments at which calendars, offsets and number types end.
const MOMENTS: [&str; 16] = [
    "0000-01-01T00:00:00+23:59",
    "0000-01-01T00:00:00Z",
    "0000-01-01T00:00:00-23:59",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59.9999999+00:00",
    "9999-12-31T23:59:60Z",
    "1969-12-31T23:59:59.999Z",
    "2026-03-04T10:15:00Z",
    "2026-03-04T10:15:00.000001+14:00",
    "2026-03-04t10:15:00z",
    "2016-12-31T23:59:60Z",
    "2024-02-29T00:00:00Z",
    "-0001-12-31T00:01:00Z",
    "+10000-01-01T00:00:00Z",
    "2026-03-05T09:00:00Z",
];

fn now(step: usize) -> Timestamp {
    Timestamp::parse("2026-03-04T10:15:00Z").expect("a moment").plus_ms(step as u64 * 700)
}

fn signal(kind_type: &str, who: &str, moment: &str, text: &str, data: &Value) -> Message {
    let (role, instance) = if who == "ALL" { ("ALL", "ALL") } else { ("worker", who) };
    let body = json!({
        "timestamp": moment, "version": "1", "kind": "signal", "type": kind_type, "origin": text,
        "scope": { "swarmId": "kestrel", "role": role, "instance": instance },
        "correlationId": text, "idempotencyKey": text, "data": data,
    });
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: format!("signal.{kind_type}.kestrel.{role}.{instance}"),
        properties: Default::default(),
        body: body.to_string().into(),
    }
}

fn outcome(kind_type: &str, who: &str, moment: &str, text: &str, status: &str) -> Message {
    let mut message = signal(kind_type, who, moment, text, &json!({ "status": status }));
    let mut body: Value = serde_json::from_slice(&message.body).expect("a body");
    (body["kind"], body["origin"]) = (json!("outcome"), json!(who));
    message.body = body.to_string().into();
    message.routing_key = format!("event.outcome.{kind_type}.kestrel.worker.{who}");
    message
}

fn any_message() -> impl Strategy<Value = Message> {
    let moment = prop_oneof![
        3 => prop::sample::select(MOMENTS.to_vec()).prop_map(str::to_owned),
        1 => "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T(0[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-](0[0-9]|2[0-3]):[0-5][0-9])",
    ];
    let text = prop_oneof!["[a-z]{1,3}", "\\PC{1,20}", "[\\x00-\\x7f]{1,20}"];
    let who = prop::sample::select(vec!["w-1", "w-2", "ALL"]);
    (moment.clone(), moment, text, who, 0..12_u8).prop_map(|(moment, until, text, who, kind)| {
        let reason = json!({ "reason": text, "level": "BLOCK", "mode": "SAFE", "gate": "nightly", "expiresAt": until });
        let only = |names: &[&str]| -> Value {
            names.iter().map(|name| ((*name).to_owned(), reason[*name].clone())).collect()
        };
        match kind {
            0 => signal("bot-stop", who, &moment, &text, &json!({})),
            1 => signal("bot-start", "w-1", &moment, &text, &json!({ "mode": "paper" })),
            2 => signal("bot-start", "w-1", &moment, &text, &json!({ "mode": "live" })),
            3 => signal("kill-switch-set", "ALL", &moment, &text, &only(&["level", "reason"])),
            4 => signal("safety-set", "ALL", &moment, &text, &only(&["mode", "reason"])),
            5 => signal("gate-disable", "ALL", &moment, &text, &only(&["gate", "expiresAt", "reason"])),
            6 => signal("monitoring-disable", "ALL", &moment, &text, &only(&["expiresAt", "reason"])),
            7 => signal("config-update", "w-2", &moment, &text, &json!({ "text": text })),
            8 => signal("bot-quarantine", "w-2", &moment, &text, &only(&["reason"])),
            9 => outcome("bot-stop", "w-1", &moment, &text, "Stopped"),
            10 => outcome("config-update", "w-2", &moment, &text, &text),
            _ => {
                let report = json!({ "gate": "nightly", "result": "FAIL", "expiresAt": until });
                signal("gate-report", "ALL", &moment, &text, &report)
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_is_accepted_reads_back_equal(messages in prop::collection::vec(any_message(), 1..24)) {
        let contract = Contract::built_in(Limits::default()).expect("a contract");
        let rules = Rules::default();
        let names = Names::with_prefix("swarmgate");
        let mut corridor = Corridor::new(State::new(rules.clone()), Chain::new(), names);
        let mut sealed = Vec::new();
        for (step, message) in messages.into_iter().enumerate() {
            let arrival = corridor::read(&contract, &message, false);
            let decision = corridor.decide(&Request::Arrived(Box::new(arrival)), now(step));
            sealed.extend(corridor.settle(decision, Some(message), None).sealed);
            while let Some(due) = corridor.due(now(step)) {
                sealed.extend(due.sealed);
            }
        }
        let mut boots = Vec::new();
        for _ in 0..2 {
            let mut state = State::new(rules.clone());
            for entry in &sealed {
                let back = serde_json::from_slice(&entry.bytes);
                prop_assert_eq!(back.as_ref().ok(), Some(&entry.entry), "{:?}", back);
                state.apply(entry.entry.seq, &entry.entry.fact);
            }
            boots.push(state.digest());
        }
        prop_assert_eq!(boots[0], corridor.state().digest());
        prop_assert_eq!(boots[0], boots[1]);
    }
}

#[test]
fn a_moment_outside_the_years_that_can_be_written_is_refused_where_it_stands() {
    let contract = Contract::built_in(Limits::default()).expect("a contract");
    let good = "2026-03-04T10:15:00Z";
    let gate = |until: &str| {
        signal("gate-report", "ALL", good, "x", &json!({ "gate": "g", "result": "PASS", "expiresAt": until }))
    };
    for moment in ["0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59-00:01"] {
        let expires = json!({ "gate": "g", "reason": "r", "expiresAt": moment });
        let quiet = json!({ "reason": "r", "expiresAt": moment });
        for (message, pointer) in [
            (signal("bot-stop", "w-1", moment, "x", &json!({})), "/timestamp"),
            (gate(moment), "/data/expiresAt"),
            (signal("gate-disable", "ALL", good, "x", &expires), "/data/expiresAt"),
            (signal("monitoring-disable", "ALL", good, "x", &quiet), "/data/expiresAt"),
        ] {
            let arrival = corridor::read(&contract, &message, false);
            let refusal = arrival.subject.expect_err("a refusal").refusal;
            assert_eq!(
                (refusal.reason, refusal.pointer.as_deref()),
                (Reason::Schema, Some(pointer)),
                "{moment}"
            );
        }
    }
    assert!(corridor::read(&contract, &gate("9999-12-31T23:59:59Z"), false).subject.is_ok());
}
