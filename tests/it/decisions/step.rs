//! What a step of a decision table sends: a few words, and the message that a sender in good order
//! makes of them.
//!
//! Owns: the members of a step, and how routing key, properties and body follow from them and from
//! the table's `base`.
//! Never: mends what a step makes wrong on purpose: `patch` and `bodyText` have the last word.
//! Holds: a member that nothing reads is an error, as is a message that does not say its type.

use serde_json::{Map, Value, json};
use swarmgate::contract::{
    message::{Message, Properties},
    routing::{ControlPlaneRouting, Family, Scope},
    timestamp::Timestamp,
};

/// The members of a step, in the order in which they stand: when, what happened before, what is
/// sent, what comes of it.
pub const MEMBERS: [&str; 33] = [
    "at",
    "begunWith",
    "ledgerWritable",
    "appeared",
    "forgotten",
    "pausedMs",
    "beforeDue",
    "openedEpoch",
    "settings",
    "answer",
    "latch",
    "compares",
    "unlatched",
    "bundled",
    "clock",
    "measured",
    "send",
    "outcome",
    "alert",
    "metric",
    "to",
    "from",
    "as",
    "user",
    "said",
    "key",
    "trace",
    "data",
    "patch",
    "bodyText",
    "redelivered",
    "wasDropped",
    "expirationMs",
];
/// Families by the member that names a message's type.
const TYPED: [(&str, Family); 4] = [
    ("send", Family::Signal),
    ("outcome", Family::Outcome),
    ("alert", Family::Alert),
    ("metric", Family::Metric),
];
/// Members that mean nothing without a message.
const OF_A_MESSAGE: [&str; 12] = [
    "to",
    "from",
    "as",
    "user",
    "said",
    "key",
    "trace",
    "data",
    "patch",
    "bodyText",
    "redelivered",
    "expirationMs",
];

/// The message of a step, where it has one.
pub fn message(base: &Value, step: &Value, start: Timestamp) -> Option<Message> {
    let members = step.as_object().expect("a step");
    for member in members.keys().filter(|member| *member != "expect") {
        assert!(MEMBERS.contains(&member.as_str()), "`{member}` is no member of a step: {step}");
    }
    let Some((word, family)) = TYPED.into_iter().find(|(word, _)| members.contains_key(*word)) else {
        let stray = OF_A_MESSAGE.iter().find(|member| members.contains_key(**member));
        assert_eq!(stray, None, "a message names its type: {step}");
        return None;
    };
    let mut record = record(base, step, (word, family), start);
    merge(&mut record, &step["patch"]);
    let body = match step["bodyText"].as_str() {
        Some(text) => text.to_owned(),
        None => record["body"].to_string(),
    };
    let properties: Properties = match record.get("properties") {
        Some(properties) => serde_json::from_value(properties.clone()).expect("properties"),
        None => Properties::default(),
    };
    let routing_key = record["routingKey"].as_str().expect("`routingKey`").to_owned();
    Some(Message { exchange: "swarmgate.in".to_owned(), routing_key, properties, body: body.into() })
}

/// Routing key, properties and body that agree with each other. What the step leaves out is the
/// base's.
fn record(base: &Value, step: &Value, (word, family): (&str, Family), start: Timestamp) -> Value {
    let is_signal = family == Family::Signal;
    let kind_type = step[word].as_str().expect("a type");
    let scope = step.get(if is_signal { "to" } else { "from" }).unwrap_or(&base["to"]);
    let scope = named(scope.as_str().expect("a scope"));
    // A signal is anybody's; everything else is said by the instance that it is about.
    let speaker = if is_signal { base["as"].as_str() } else { Some(scope.instance.as_str()) };
    let origin = step["as"].as_str().or(speaker).expect("`as` says who speaks");
    // The broker knows him by the name without his role.
    let user = origin.rsplit(':').next().unwrap_or(origin);
    let user = step.get("user").or(base.get("user")).cloned().unwrap_or_else(|| json!(user));
    let after = step.get("said").or(step.get("at")).cloned().unwrap_or_else(|| json!(0));
    let said = after.as_u64().map_or(after, |ms| json!(start.plus_ms(ms)));
    let or_base = |name: &str, takes: bool| {
        let inherited = base.get(name).filter(|_| takes);
        step.get(name).or(inherited).cloned().unwrap_or_default()
    };
    let mut body = json!({
        "timestamp": said, "version": "1", "kind": family.kind(), "type": kind_type, "origin": origin,
        "scope": scope, "data": step.get("data").or(base.get("data")).cloned().unwrap_or_else(|| json!({})),
    });
    let key = or_base("key", is_signal);
    let trace = or_base("trace", is_signal || family == Family::Outcome);
    for (name, value) in [("idempotencyKey", key), ("correlationId", trace)] {
        if !value.is_null() {
            body[name] = value;
        }
    }
    let properties = if user.is_null() { json!({}) } else { json!({ "userId": user }) };
    let routing_key = ControlPlaneRouting::of(family, kind_type, &scope);
    json!({ "routingKey": routing_key, "properties": properties, "body": body })
}

/// A scope that is written `swarm/role/instance`.
pub fn named(name: &str) -> Scope {
    let parts: Vec<&str> = name.split('/').collect();
    let [swarm, role, instance] = parts[..] else { panic!("`{name}` is no scope") };
    Scope::new(swarm, role, instance)
}

/// RFC 7396.
pub fn merge(target: &mut Value, patch: &Value) {
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

#[test]
fn a_few_words_are_a_whole_message() {
    let start = Timestamp::parse("2026-03-04T10:15:00Z").expect("a time");
    let base = json!({ "to": "kestrel/worker/w-1", "as": "orc-a", "key": "i-1", "trace": "c-1" });
    let made = |step: Value| {
        let message = message(&base, &step, start).expect("a message");
        let body: Value = serde_json::from_slice(&message.body).expect("JSON");
        (message.routing_key, message.properties.user_id, body)
    };
    let (key, user, body) = made(json!({ "at": 10, "send": "config-update", "data": { "rate": 5 } }));
    assert_eq!(key, "signal.config-update.kestrel.worker.w-1");
    assert_eq!(user.as_deref(), Some("orc-a"));
    let scope = json!({ "swarmId": "kestrel", "role": "worker", "instance": "w-1" });
    let wanted = json!({
        "timestamp": "2026-03-04T10:15:00.010Z", "version": "1", "kind": "signal", "type": "config-update",
        "origin": "orc-a", "scope": scope, "correlationId": "c-1", "idempotencyKey": "i-1", "data": { "rate": 5 },
    });
    assert_eq!(body, wanted);
    let outcome =
        json!({ "at": 20, "outcome": "config-update", "as": "worker:w-1", "said": 0, "trace": null });
    let (key, user, body) = made(outcome);
    assert_eq!(key, "event.outcome.config-update.kestrel.worker.w-1");
    assert_eq!(user.as_deref(), Some("w-1"));
    let wanted = json!({
        "timestamp": "2026-03-04T10:15:00Z", "version": "1", "kind": "outcome", "type": "config-update",
        "origin": "worker:w-1", "scope": scope, "data": {},
    });
    assert_eq!(body, wanted);
    let wrong = json!({ "metric": "status-full", "from": "k/r/i", "user": null, "patch": { "body": { "kind": 7, "scope": { "role": null } } } });
    let (key, user, body) = made(wrong);
    assert_eq!((key.as_str(), user), ("event.metric.status-full.k.r.i", None));
    assert_eq!((&body["kind"], &body["scope"]), (&json!(7), &json!({ "swarmId": "k", "instance": "i" })));
    assert_eq!(message(&base, &json!({ "at": 5, "compares": true }), start), None);
}
