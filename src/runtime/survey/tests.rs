//! What an observer learns, without a broker.
//!
//! Owns: the counts, the bounds and the file of records.
//! Never: judges a message; verdicts are made here.
//! Holds: whatever came is counted.

use serde_json::json;

use super::*;
use crate::{
    contract::{DeploymentType, Limits, message::Properties, reason::Refusal},
    decision::{rules::Rules, state::State},
};

fn survey(bounds: Observe, records: Option<Records>) -> Survey {
    let contract = Arc::new(Contract::built_in(Limits::default()).unwrap());
    Survey::new(("theirs", &["#".to_owned()]), bounds, contract, records)
}

fn message(key: &str, user: Option<&str>, body: &str) -> Message {
    Message {
        exchange: "theirs".to_owned(),
        routing_key: key.to_owned(),
        properties: Properties { user_id: user.map(str::to_owned), ..Properties::default() },
        body: body.to_owned().into(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::parse("2026-03-04T10:15:00Z").unwrap().plus_ms(second as u64 * 1000)
}

fn decided(reason: Option<Reason>) -> Decision {
    let state = State::new(Rules::default());
    Decision {
        verdict: Some(if reason.is_some() { Verdict::Refuse } else { Verdict::Forward }),
        refusal: reason.map(|reason| Refusal::new(reason, "the body names no kind and type")),
        ..Decision::new(&state)
    }
}

#[test]
fn the_report_has_each_sender_and_pattern_with_its_first_refused_example_masked() {
    let survey = survey(Observe::default(), None);
    let key = "signal.swarm-start.kestrel.worker.w-1";
    survey.count(&message(key, Some("orc-a"), "{\"n\":1}"), &decided(None), at(0));
    survey.count(
        &message(key, Some("orc-a"), "{\"password\":\"hunter2\",\"n\":2}"),
        &decided(Some(Reason::Schema)),
        at(1),
    );
    survey.count(&message(key, Some("orc-a"), "{\"n\":3}"), &decided(Some(Reason::Schema)), at(2));
    survey.count(&message("orders.created.eu", None, "<order/>"), &decided(Some(Reason::NotJson)), at(3));
    let report = survey.report();
    let [orc, stranger] = report.rows.as_slice() else { panic!("{report:?}") };
    assert_eq!((orc.sender.by, orc.sender.name.as_str()), (KnownBy::UserId, "orc-a"));
    assert_eq!((orc.pattern.as_str(), orc.count, orc.refused), ("signal.swarm-start.*.*.*", 3, 2));
    assert_eq!((orc.first_at, orc.last_at), (at(0), at(2)));
    assert_eq!(serde_json::to_value(&orc.verdicts).unwrap(), json!({ "forward": 1, "refuse": 2 }));
    let example = orc.example.as_ref().expect("an example");
    assert_eq!((example.at, example.reason), (at(1), Some(Reason::Schema)));
    let body: serde_json::Value = serde_json::from_str(example.body.as_ref().expect("JSON")).unwrap();
    assert_eq!(body, json!({ "password": "***", "n": 2 }));
    assert_eq!(orc.next_step, Reason::Schema.next_step());
    assert_eq!((stranger.sender.by, stranger.pattern.as_str()), (KnownBy::Nothing, "orders.created.eu"));
    let example = stranger.example.as_ref().expect("an example");
    assert_eq!((&example.body, example.body_bytes), (&None, 8), "nobody knows what in it is a secret");
    assert!(stranger.next_step.starts_with("By its key this is no control message"));
    assert!(report.next_step.starts_with("Mend"), "{}", report.next_step);
    assert!(report.bounds.is_empty(), "{:?}", report.bounds);
}

#[test]
fn at_each_bound_all_is_counted_and_the_bound_is_said() {
    let bounds = Observe { patterns_max: 20, senders_max: 3, rows_max: 10, ..Observe::default() };
    let survey = survey(bounds, None);
    for number in 0..5_000 {
        let key = format!("area-{}.x", number % 50);
        let user = format!("user-{}", number % 7);
        survey.count(&message(&key, Some(&user), "{}"), &decided(Some(Reason::Schema)), at(0));
    }
    let report = survey.report();
    assert!(report.rows.len() <= 10, "{}", report.rows.len());
    assert_eq!(report.rows.iter().map(|row| row.count).sum::<u64>(), 5_000);
    assert_eq!(report.rows.iter().map(|row| row.refused).sum::<u64>(), 5_000);
    let met: Vec<&str> = report.bounds.iter().map(|met| met.key.as_str()).collect();
    assert_eq!(met, ["observe.patterns_max", "observe.senders_max", "observe.rows_max"]);
    assert!(report.bounds.iter().all(|met| met.count > 100), "{:?}", report.bounds);
}

#[test]
fn rows_of_words_that_are_made_anew_become_one() {
    let survey = survey(Observe { siblings_max: 4, ..Observe::default() }, None);
    for number in 0..1_000 {
        let reason = (number >= 3).then_some(Reason::Schema);
        let key = format!("orders.{number}.created");
        survey.count(&message(&key, Some("shop"), "{}"), &decided(reason), at(number));
    }
    let report = survey.report();
    let [row] = report.rows.as_slice() else { panic!("{report:?}") };
    assert_eq!((row.pattern.as_str(), row.count, row.refused), ("orders.*.created", 1_000, 997));
    assert_eq!(row.example.as_ref().map(|example| example.at), Some(at(3)), "the first that is refused");
    assert_eq!((row.first_at, row.last_at), (at(0), at(999)));
}

#[test]
fn an_example_is_cut_to_its_bound() {
    let survey = survey(Observe { example_bytes_max: 16, ..Observe::default() }, None);
    let body = json!({ "note": "ü".repeat(100) }).to_string();
    survey.count(&message("a.b", None, &body), &decided(None), at(0));
    let report = survey.report();
    let example = report.rows[0].example.as_ref().expect("an example");
    assert!(example.is_cut && example.body.as_ref().is_some_and(|shown| shown.len() <= 16), "{example:?}");
    assert_eq!(example.body_bytes, body.len());
}

#[tokio::test]
async fn the_file_of_records_ends_at_its_bound_with_a_whole_record_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records");
    let contract = Arc::new(Contract::built_in(Limits::default()).unwrap());
    let records = Records::begin(&path, 2_000, Arc::clone(&contract)).unwrap();
    let survey = survey(Observe::default(), Some(records));
    let mut secret = message("a.b", Some("u"), "{\"password\":\"canary-1\",\"n\":1}");
    let header = |name: &'static str| {
        (name.into(), crate::contract::message::HeaderValue::Text("canary-2".to_owned()))
    };
    secret.properties.headers = vec![
        header("authorization"),
        header("x-api-key"),
        ("plain".into(), crate::contract::message::HeaderValue::I64(7)),
    ];
    survey.learn(&secret, &decided(None), at(0)).await;
    survey.learn(&message("a.b", None, "canary-3, no JSON"), &decided(None), at(1)).await;
    for number in 0..100 {
        survey.learn(&message("a.b", None, "{\n}"), &decided(None), at(2 + number)).await;
    }
    survey.close().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("canary") && text.contains("***"), "{text}");
    assert!(text.len() <= 2_000 && text.ends_with("}\n"), "{text}");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    assert_eq!(lines[0]["body"], json!({ "password": "***", "n": 1 }));
    assert_eq!(lines[0]["properties"]["userId"], "u");
    assert_eq!(lines[2]["bodyText"], "{\n}");
    let told = survey.report().records.expect("records");
    assert_eq!((told.written, told.left_out), (lines.len() as u64, 102 - lines.len() as u64));
    assert!(told.fault.expect("a reason").contains("observe.records_bytes_max"));
    let again = Records::begin(&path, 2_000, contract).expect_err("it is never overwritten");
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn what_a_schema_marks_as_a_secret_is_masked_too() {
    let schema = json!({ "type": "object", "properties": { "pin": { "type": "string", "x-swarmgate-secret": true } } });
    let kind = DeploymentType::new("door-open", schema);
    let contract = Contract::with_types(Limits::default(), vec![kind]).unwrap();
    let survey = Survey::new(("theirs", &[]), Observe::default(), Arc::new(contract), None);
    let body = json!({
        "timestamp": "2026-03-04T10:15:00Z", "version": "1", "kind": "signal", "type": "door-open", "origin": "orc",
        "scope": { "swarmId": "kestrel", "role": "worker", "instance": "w-1" },
        "correlationId": "c", "idempotencyKey": "i", "data": { "pin": "canary" },
    });
    survey.count(&message("door.open", None, &body.to_string()), &decided(Some(Reason::MalformedKey)), at(0));
    let report = survey.report();
    assert_eq!((report.rows[0].sender.by, report.rows[0].sender.name.as_str()), (KnownBy::Origin, "orc"));
    let example = report.rows[0].example.as_ref().expect("an example");
    let shown: serde_json::Value = serde_json::from_str(example.body.as_ref().expect("JSON")).unwrap();
    assert_eq!(shown["data"]["pin"], "***");
}
