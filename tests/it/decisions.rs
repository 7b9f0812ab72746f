//! The decision tables: (envelopes, times) → (verdicts, facts, effects), one file a rule, no mocks.
//!
//! A file has a `base` record and `cases`; each step of a case patches the base (RFC 7396), runs through the corridor
//! at its time, and says what it expects. What a step does not mention is not compared.

use std::{fs, path::Path, sync::Arc};

use serde_json::{Map, Value, json};
use swarmgate::{
    contract::{
        Contract,
        audit::{Action, Change, Fact, Genesis, Mode},
        message::{Message, Properties},
        timestamp::Timestamp,
    },
    decision::{
        effect::Effect,
        request::Request,
        rules::Rules,
        state::{Belief, State},
    },
    ledger::chain::{Chain, Sealed},
    runtime::corridor::{self, Corridor, Judged, Names},
};

#[test]
fn every_table_holds() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decisions");
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("the tables").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let mut cases = 0;
    for file in &files {
        let table: Value = serde_json::from_str(&fs::read_to_string(file).expect("a table")).expect("JSON");
        for case in table["cases"].as_array().expect("`cases`") {
            check(file, &table, case);
            cases += 1;
        }
    }
    assert!(cases >= 30, "only {cases} cases were found");
}

/// Runs one case, and replays its ledger: the fold of the facts must be the state.
fn check(file: &Path, table: &Value, case: &Value) {
    let name = format!("{}: {}", file.file_name().expect("a name").to_string_lossy(), case["name"]);
    let contract = Contract::built_in(Default::default()).expect("the contract");
    let rules = rules(table, case);
    let mut corridor =
        Corridor::new(State::new(rules.clone()), Chain::new(), Names::with_prefix("swarmgate"));
    let start = Timestamp::parse(table["base"]["timestamp"].as_str().expect("`timestamp`")).expect("a time");
    let genesis = Genesis {
        environment: "dev".to_owned(),
        ledger_id: "0".repeat(32),
        mode: rules.mode,
        version: "0".to_owned(),
    };
    let mut ledger = vec![corridor.record(Fact::new(Action::Genesis, start, Change::Genesis(genesis)))];
    for (index, step) in case["steps"].as_array().expect("`steps`").iter().enumerate() {
        let name = format!("{name}, step {index}");
        let answers = run(&contract, &mut corridor, &mut ledger, table, step, start);
        compare(&name, &step["expect"], &answers);
    }
    let mut replayed = State::new(rules);
    for entry in &ledger {
        replayed.apply(entry.entry.seq, &entry.entry.fact);
    }
    assert_eq!(
        replayed.digest(),
        corridor.state().digest(),
        "{name}: the fold of the ledger is another state"
    );
}

fn rules(table: &Value, case: &Value) -> Rules {
    let mut rules = Rules::default();
    for (key, value) in [&table["rules"], &case["rules"]].into_iter().filter_map(Value::as_object).flatten() {
        let number = value.as_u64().unwrap_or_default();
        match key.as_str() {
            "mode" => rules.mode = serde_json::from_value::<Mode>(value.clone()).expect("a mode"),
            "idempotencyKeysMax" => rules.idempotency_keys_max = number as usize,
            "idempotencyWindowMs" => rules.idempotency_window_ms = number,
            "alertsPerSecondMax" => rules.alerts_per_second_max = number as u32,
            "alertsDedupeMs" => rules.alerts_dedupe_ms = number,
            other => panic!("`{other}` is no rule"),
        }
    }
    rules.commands = Arc::new(swarmgate::contract::command::Commands::default());
    rules
}

fn run(
    contract: &Contract,
    corridor: &mut Corridor,
    ledger: &mut Vec<Sealed>,
    table: &Value,
    step: &Value,
    start: Timestamp,
) -> Vec<Judged> {
    let now = start.plus_ms(step["afterMs"].as_u64().unwrap_or_default());
    if let Some(writable) = step["ledgerWritable"].as_bool() {
        corridor.state_mut().believe(&Belief::LedgerWritable(writable));
    }
    let mut answers: Vec<Judged> = corridor.due(now).into_iter().collect();
    if step.get("patch").is_some() || step.get("bodyText").is_some() {
        let mut record = table["base"].clone();
        merge(&mut record, &step["patch"]);
        let message = message(&record, step);
        let arrival = corridor::read(contract, &message, step["redelivered"].as_bool().unwrap_or_default());
        let decision = corridor.decide(&Request::Arrived(Box::new(arrival)), now);
        let recalled = decision.effects.iter().find_map(|effect| match effect {
            Effect::Repeat { of } => ledger.iter().find(|entry| entry.entry.seq == *of),
            _ => None,
        });
        let recalled = recalled.and_then(|entry| entry.entry.fact.payload.as_ref());
        let recalled = recalled.map(|payload| payload.text().to_owned().into());
        answers.push(corridor.settle(decision, Some(&message), recalled));
    }
    for answer in &answers {
        ledger.extend(answer.sealed.iter().cloned());
    }
    answers
}

fn message(record: &Value, step: &Value) -> Message {
    let body = match step["bodyText"].as_str() {
        Some(text) => text.to_owned(),
        None => record["body"].to_string(),
    };
    let properties: Properties = match record.get("properties") {
        Some(properties) => serde_json::from_value(properties.clone()).expect("properties"),
        None => Properties::default(),
    };
    let routing_key = record["routingKey"].as_str().expect("`routingKey`").to_owned();
    Message { exchange: "swarmgate.in".to_owned(), routing_key, properties, body: body.into() }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        if !patch.is_null() {
            *target = patch.clone();
        }
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let fields = target.as_object_mut().expect("an object");
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn compare(name: &str, expect: &Value, answers: &[Judged]) {
    let Some(expect) = expect.as_object() else { return };
    let last = answers.last();
    let decision = last.map(|last| &last.decision);
    let refusal = decision.and_then(|decision| decision.refusal.as_ref());
    for (what, wanted) in expect {
        let found = match what.as_str() {
            "verdict" => json!(decision.and_then(|decision| decision.verdict)),
            "reason" => json!(refusal.map(|refusal| refusal.reason)),
            "pointer" => json!(refusal.and_then(|refusal| refusal.pointer.as_deref())),
            "principal" => json!(decision.and_then(|decision| decision.principal.as_deref())),
            "audit" => answers
                .iter()
                .flat_map(|answer| &answer.sealed)
                .map(|entry| json!(entry.entry.fact.action))
                .collect(),
            "publish" => answers
                .iter()
                .flat_map(|answer| &answer.outgoing)
                .map(|outgoing| said(&outgoing.message))
                .collect(),
            other => panic!("`{other}` cannot be expected"),
        };
        assert_eq!(&found, wanted, "{name}: {what}");
    }
}

/// A message in few words: where it goes, and what it says where it is the router's own.
fn said(message: &Message) -> Value {
    let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
    let origin = body["origin"].as_str().unwrap_or_default();
    let word = match (origin.starts_with("swarmgate:"), &body["data"]["status"], &body["data"]["code"]) {
        (true, Value::String(status), _) => format!(" {status}"),
        (true, _, Value::String(code)) => format!(" {code}"),
        _ => String::new(),
    };
    json!(format!("{} {}{word}", message.exchange, message.routing_key))
}
