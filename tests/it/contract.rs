//! The contract as a whole: spec, schemas, types and routing say the same thing.
//!
//! Owns: the agreement of spec/, schemas/ and the code, the examples of the contract, and where
//! each fault is pointed at.
//! Never: needs a broker.
//! Holds: every example that the project publishes is accepted by the code that it describes.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use swarmgate::contract::{
    Contract, DeploymentType, Limits, Said, TypeError, Unsaid, canonical,
    command::{Command, Commands},
    digest::Digest,
    message::{Message, Properties},
    reason::Reason,
    routing::{ControlPlaneRouting, Family, Scope},
    schema, strict,
};

fn contract() -> Contract {
    Contract::built_in(Limits::default()).expect("the built-in schemas compile")
}

fn message(key: &str, body: impl Into<Vec<u8>>) -> Message {
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: key.to_owned(),
        properties: Properties::default(),
        body: Bytes::from(body.into()),
    }
}

/// The key that a body asks for.
fn key_of(body: &Value) -> String {
    let family = Family::ALL.into_iter().find(|family| body["kind"] == family.kind()).expect("a kind");
    let scope: Scope = serde_json::from_value(body["scope"].clone()).expect("a scope");
    ControlPlaneRouting::build(family, body["type"].as_str().expect("a type"), &scope).expect("a key")
}

fn read(contract: &Contract, body: &Value) -> Result<Said, Unsaid> {
    contract.read(&message(&key_of(body), body.to_string()))
}

fn signal(kind_type: &str, data: Value) -> Value {
    json!({
        "timestamp": "2025-01-01T00:00:00Z", "version": "1", "kind": "signal", "type": kind_type,
        "origin": "orchestrator-1",
        "scope": { "swarmId": "alpha", "role": "swarm-controller", "instance": "alpha-marshal-1" },
        "correlationId": "c-001", "idempotencyKey": "i-001", "data": data
    })
}

/// One accepted envelope of each family, with every field that its family may have.
fn envelopes() -> [Value; 4] {
    let scope = json!({ "swarmId": "alpha", "role": "worker", "instance": "w1" });
    let runtime =
        json!({ "templateId": "t", "runId": "r", "containerId": null, "image": "i", "stackName": "s" });
    let event = |kind: &str, kind_type: &str, data: Value| {
        json!({
            "timestamp": "2025-01-01T00:00:00.5+01:00", "version": "1", "kind": kind, "type": kind_type,
            "origin": "worker:w1", "scope": scope, "correlationId": "c", "idempotencyKey": "i",
            "runtime": runtime, "data": data
        })
    };
    [
        signal("stop", json!({})),
        event(
            "outcome",
            "stop",
            json!({ "status": "Stopped", "retryable": false, "enabled": true, "context": {} }),
        ),
        event("event", "alert", json!({ "level": "warn", "code": "c", "message": "m", "logRef": null })),
        event(
            "metric",
            "status-full",
            json!({
                "enabled": true, "config": {}, "startedAt": "2025-01-01T00:00:00Z", "tps": 4.0,
                "io": { "work": { "queues": { "in": ["q"] }, "queueStats": { "q": { "depth": 0, "consumers": 1 } } } },
                "ioState": { "work": { "input": "ok", "output": "unknown" }, "filesystem": { "input": "unknown", "output": "ok" } }
            }),
        ),
    ]
}

#[test]
fn the_seed_examples_are_accepted() {
    let contract = contract();
    let signal = r#"{ "timestamp": "2025-01-01T00:00:00Z", "version": "1", "kind": "signal", "type": "swarm-start",
        "origin": "orchestrator-1", "scope": { "swarmId": "alpha", "role": "swarm-controller", "instance": "alpha-marshal-1" },
        "correlationId": "c-001", "idempotencyKey": "i-001", "data": {} }"#;
    let outcome = r#"{ "timestamp": "2025-01-01T00:00:02Z", "version": "1", "kind": "outcome", "type": "swarm-start",
        "origin": "swarm-controller:alpha-marshal-1", "scope": { "swarmId": "alpha", "role": "swarm-controller", "instance": "alpha-marshal-1" },
        "correlationId": "c-001", "idempotencyKey": "i-001", "data": { "status": "Running", "retryable": false } }"#;
    let key = "swarm-start.alpha.swarm-controller.alpha-marshal-1";
    let said = contract.read(&message(&format!("signal.{key}"), signal)).expect("the signal");
    assert_eq!(said.envelope.idempotency_key.as_deref(), Some("i-001"));
    let mut bare: Value = serde_json::from_str(signal).expect("JSON");
    assert_eq!(said.payload.expect("a payload").text().as_bytes(), canonical::of(&bare));
    for made_anew in ["timestamp", "correlationId"] {
        bare.as_object_mut().expect("an object").remove(made_anew);
    }
    assert_eq!(said.compared, Digest::of(&canonical::of(&bare)));
    let said = contract.read(&message(&format!("event.outcome.{key}"), outcome)).expect("the outcome");
    assert_eq!((said.envelope.origin_instance(), said.class), ("alpha-marshal-1", None));
    for body in envelopes() {
        read(&contract, &body).unwrap_or_else(|unsaid| panic!("{body}: {:?}", unsaid.refusal));
    }
}

#[test]
fn the_digest_of_a_signal_leaves_out_what_a_retry_makes_anew_and_nothing_else() {
    let contract = contract();
    let compared = |body: &Value| read(&contract, body).expect("accepted").compared;
    let data = json!({ "timestamp": "2025-01-01T00:00:00Z", "é": "\"timestamp\":\"x\",", "n": 0.5 });
    let first = signal("swarm-plan", data);
    let mut bare = first.clone();
    for made_anew in ["timestamp", "correlationId"] {
        bare.as_object_mut().expect("an object").remove(made_anew);
    }
    assert_eq!(compared(&first), Digest::of(&canonical::of(&bare)));
    for correlation in ["\"", "\\", "\\\"", "a\",\"data\":{}", "é\n"] {
        let mut retry = first.clone();
        retry["correlationId"] = json!(correlation);
        assert_eq!(compared(&first), compared(&retry), "{correlation}");
    }
    let (mut later, mut other) = (first.clone(), first.clone());
    later["timestamp"] = json!("2026-01-01T00:00:00Z");
    other["data"]["timestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(compared(&first), compared(&later));
    assert_ne!(compared(&first), compared(&other));
}

#[derive(Deserialize)]
struct CommandTable {
    command: Vec<Command>,
}

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path)
}

#[test]
fn the_command_table_of_the_spec_is_that_of_the_code() {
    let mut table: CommandTable = toml::from_str(&file("spec/commands.toml")).expect("a command table");
    table.command.sort_by(|left, right| left.kind_type.cmp(&right.kind_type));
    let code: Vec<_> = Commands::default().iter().cloned().collect();
    assert_eq!(table.command, code);
}

#[test]
fn asyncapi_schemas_commands_and_routing_agree() {
    let contract = contract();
    let spec: Value = serde_saphyr::from_str(&file("spec/asyncapi.yaml")).expect("YAML");
    let schemas: Value = serde_json::from_str(schema::CONTROL_EVENTS).expect("JSON");
    let names = |value: &Value| -> Vec<String> {
        let mut names: Vec<_> = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        names.sort();
        names
    };
    let mut types: Vec<_> = contract.commands.iter().map(|command| command.kind_type.clone()).collect();
    assert_eq!(names(&spec["channels"]["signal"]["parameters"]["type"]["enum"]), types);
    let defined: Vec<_> = schemas["$defs"]
        .as_object()
        .expect("definitions")
        .keys()
        .filter_map(|name| name.strip_prefix("signal."))
        .collect();
    assert_eq!(defined, types);
    types.push(schema::SWARM_CREATE.to_owned());
    types.sort();
    assert_eq!(names(&spec["channels"]["outcome"]["parameters"]["type"]["enum"]), types);

    let mut families = Vec::new();
    for (name, channel) in spec["channels"].as_object().expect("channels") {
        let address = channel["address"].as_str().expect("an address");
        let kinds =
            channel["parameters"]["type"]["enum"].as_array().cloned().unwrap_or_else(|| vec![json!("none")]);
        for kind_type in kinds.iter().filter_map(Value::as_str) {
            let key = address
                .replace("{type}", kind_type)
                .replace("{swarmId}", "alpha")
                .replace("{role}", "worker")
                .replace("{instance}", "w1");
            let parsed =
                ControlPlaneRouting::parse(&key).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
            assert_eq!(parsed.scope, Scope::new("alpha", "worker", "w1"), "{name}");
            assert!(
                address.contains("{type}")
                    || ["alert", "status-full", "status-delta"].contains(&parsed.kind_type.as_str())
            );
            families.push(parsed.family);
        }
        for (message, target) in channel["messages"].as_object().expect("messages") {
            assert_eq!(target["$ref"], format!("#/components/messages/{message}"));
        }
    }
    assert!(Family::ALL.iter().all(|family| families.contains(family)));

    let messages = spec["components"]["messages"].as_object().expect("messages");
    assert_eq!(messages.len(), types.len() - 1 + 4);
    for (name, declared) in messages {
        let payload = format!("../schemas/control-events.schema.json#/$defs/{name}");
        assert_eq!(declared["payload"]["$ref"], payload);
        let examples = declared["examples"].as_array().expect("examples");
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            read(&contract, &example["payload"])
                .unwrap_or_else(|unsaid| panic!("{name}: {:?}", unsaid.refusal));
        }
    }
}

#[test]
fn the_schema_document_judges_its_own_examples_alone() {
    let schemas: Value = serde_json::from_str(schema::CONTROL_EVENTS).expect("JSON");
    let whole =
        jsonschema::options().offline().should_validate_formats(true).build(&schemas).expect("compiles");
    for body in envelopes() {
        assert!(whole.is_valid(&body), "{body}");
    }
    assert!(!whole.is_valid(&signal("unheard-of", json!({}))));
}

/// A mutation of an accepted envelope and the pointer it must be refused at.
fn mutations(body: &Value) -> Vec<(Value, String)> {
    let required: &[&str] = match body["kind"].as_str() {
        Some("signal") => {
            &["timestamp", "version", "origin", "scope", "correlationId", "idempotencyKey", "data"]
        }
        Some("outcome") => &["timestamp", "version", "origin", "scope", "correlationId", "data"],
        _ => &["timestamp", "version", "origin", "scope", "data"],
    };
    let mut found = Vec::new();
    let mut with = |pointer: &str, change: &dyn Fn(&mut Map<String, Value>)| {
        let mut changed = body.clone();
        let (parent, _) = pointer.rsplit_once('/').expect("a pointer");
        change(changed.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object"));
        found.push((changed, pointer.to_owned()));
    };
    let wrong = [Value::Null, json!(7), json!(true), json!([]), json!("")];
    for name in required {
        let pointer = format!("/{name}");
        with(&pointer, &|object| drop(object.remove(*name)));
        for value in &wrong {
            with(&pointer, &|object| drop(object.insert((*name).to_owned(), value.clone())));
        }
    }
    for name in ["swarmId", "role", "instance"] {
        let pointer = format!("/scope/{name}");
        with(&pointer, &|object| drop(object.remove(name)));
        with(&pointer, &|object| drop(object.insert(name.to_owned(), Value::Null)));
    }
    with("/extra", &|object| drop(object.insert("extra".to_owned(), json!(1))));
    with("/a~1b", &|object| drop(object.insert("a/b".to_owned(), json!(1))));
    with("/scope/extra", &|object| drop(object.insert("extra".to_owned(), json!(1))));
    for text in ["2025-01-01", "2025-01-01T00:00:00", "2025-13-01T00:00:00Z", "yesterday"] {
        with("/timestamp", &|object| drop(object.insert("timestamp".to_owned(), json!(text))));
    }
    with("/version", &|object| drop(object.insert("version".to_owned(), json!("2"))));
    match body["kind"].as_str() {
        Some("signal") => with("/runtime", &|object| {
            drop(object.insert("runtime".to_owned(), json!({ "templateId": "t", "runId": "r" })))
        }),
        _ => {
            for name in ["templateId", "runId"] {
                with(&format!("/runtime/{name}"), &|object| drop(object.remove(name)));
            }
            with("/runtime/image", &|object| drop(object.insert("image".to_owned(), json!(3))));
            with("/runtime/extra", &|object| drop(object.insert("extra".to_owned(), json!(3))));
        }
    }
    found
}

#[test]
fn every_mutation_of_an_envelope_is_refused_where_it_is() {
    let contract = contract();
    let mut cases: Vec<(Value, String)> = envelopes().iter().flat_map(mutations).collect();
    let [_, outcome, alert, full] = envelopes();
    let mut data = |base: &Value, pointer: &str, value: Option<Value>| {
        let mut changed = base.clone();
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let object = changed.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
        match value {
            Some(value) => object.insert(name.to_owned(), value),
            None => object.remove(name),
        };
        cases.push((changed, pointer.to_owned()));
    };
    for status in ["Refused", "TimedOut", "Partial", "Superseded", "ChallengeRequired", ""] {
        data(&outcome, "/data/status", Some(json!(status)));
    }
    for (pointer, value) in
        [("/data/status", None), ("/data/retryable", Some(json!("no"))), ("/data/context", Some(json!([])))]
    {
        data(&outcome, pointer, value);
    }
    for (pointer, value) in [
        ("/data/level", Some(json!("fatal"))),
        ("/data/code", None),
        ("/data/errorType", Some(json!(1))),
        ("/data/extra", Some(json!(1))),
    ] {
        data(&alert, pointer, value);
    }
    for (pointer, value) in [
        ("/data/enabled", None),
        ("/data/config", None),
        ("/data/startedAt", None),
        ("/data/io", None),
        ("/data/ioState", None),
        ("/data/tps", Some(json!(-1))),
        ("/data/tps", Some(json!(1.5))),
        ("/data/io/work/queueStats/q/depth", Some(json!(-1))),
        ("/data/io/control", Some(json!([]))),
        ("/data/ioState/work/input", Some(json!("blocked"))),
        ("/data/ioState/work/output", None),
        ("/data/ioState/other", Some(json!({}))),
    ] {
        data(&full, pointer, value);
    }
    assert!(cases.len() > 180, "{}", cases.len());
    let mut delta = full.clone();
    delta["type"] = json!("status-delta");
    delta["data"] = json!({ "enabled": true, "ioState": {} });
    assert!(read(&contract, &delta).is_ok());
    for name in ["config", "io", "startedAt"] {
        let mut changed = delta.clone();
        changed["data"][name] = full["data"][name].clone();
        cases.push((changed, format!("/data/{name}")));
    }
    for (body, pointer) in cases {
        // The key is that of the untouched envelope: gate 1 speaks before it is compared.
        let unsaid =
            contract.read(&message("signal.stop.a.b.c", body.to_string())).expect_err(&body.to_string());
        assert_eq!(unsaid.refusal.reason, Reason::Schema, "{body}");
        assert_eq!(
            unsaid.refusal.pointer.as_deref(),
            Some(pointer.as_str()),
            "{body}: {}",
            unsaid.refusal.detail
        );
        assert!(unsaid.envelope.is_none());
    }
}

#[test]
fn what_a_signal_type_requires_is_required() {
    let contract = contract();
    let cases = [
        ("swarm-start", json!({ "requiredWorkers": [1] }), "/data/requiredWorkers/0"),
        ("status-request", json!({ "x": 1 }), "/data"),
        ("bootstrap-bundle", json!({ "keyId": "k", "secretMode": "m", "kdf": "k" }), "/data/createdAtEpoch"),
        (
            "bootstrap-bundle",
            json!({ "keyId": "k", "secretMode": "m", "kdf": "k", "createdAtEpoch": 1, "key": "s" }),
            "/data/key",
        ),
        ("safety-set", json!({ "mode": "SAFE" }), "/data/reason"),
        ("kill-switch-set", json!({ "reason": "r" }), "/data/level"),
        ("gate-report", json!({ "gate": "g" }), "/data/result"),
        ("gate-disable", json!({ "gate": "g", "reason": "r", "expiresAt": "soon" }), "/data/expiresAt"),
        ("challenge-confirm", json!({ "reason": "r" }), "/data/challengeId"),
        ("secret-rotate", json!({}), "/data/reason"),
        ("bot-start", json!({ "mode": ["live"] }), "/data/mode"),
        ("bot-stop", json!({ "requestedTransition": 3 }), "/data/requestedTransition"),
        ("start-work", json!({ "requiredworkers": [] }), "/data/requiredworkers"),
        ("start-work", json!({ "requiredWorkers": [], "required_workers": [] }), "/data"),
    ];
    for (kind_type, data, pointer) in cases {
        let refusal = read(&contract, &signal(kind_type, data)).expect_err(kind_type).refusal;
        assert_eq!(
            (refusal.reason, refusal.pointer.as_deref()),
            (Reason::Schema, Some(pointer)),
            "{kind_type}"
        );
    }
    // Later gates judge these.
    for data in [json!({}), json!({ "mode": "dream", "requestedTransition": "up" })] {
        assert!(read(&contract, &signal("bot-start", data)).is_ok());
    }
}

#[test]
fn several_violations_are_named_and_what_is_missing_first() {
    let contract = contract();
    let refused = |body: Value| {
        contract.read(&message("signal.stop.a.b.c", body.to_string())).expect_err("refused").refusal
    };
    let refusal = refused(json!({ "name": "start", "command": "start" }));
    let detail = refusal.detail.as_ref();
    assert_eq!(refusal.pointer.as_deref(), Some("/data"), "{detail}");
    let required = "this member is required";
    assert!(detail.starts_with(required), "{detail}");
    for name in ["kind", "origin", "scope", "timestamp", "type", "version"] {
        assert!(detail.contains(&format!("`/{name}`: {required}")), "{name}: {detail}");
    }
    // Hostile names and many faults make no long detail.
    let faults: serde_json::Map<String, Value> =
        (0..500).map(|n| (format!("{n:0>3}{}", "x".repeat(300)), json!(1))).collect();
    let mut body = signal("start-work", json!({}));
    body["data"] = json!({ "requiredWorkers": vec![1; 500] });
    for body in [body, json!({ "kind": "signal", "type": "stop", "scope": faults })] {
        let detail = refused(body).detail;
        assert!(detail.len() < 2_000 && detail.matches("; `").count() <= 7, "{detail}");
    }
}

#[test]
fn kind_and_type_are_known_before_anything_else_is_asked() {
    let contract = contract();
    let refused = |body: Value| {
        let refusal =
            contract.read(&message("signal.stop.a.b.c", body.to_string())).expect_err("refused").refusal;
        (refusal.reason, refusal.pointer.unwrap_or_default())
    };
    let unknown = |pointer: &str| (Reason::UnknownType, pointer.to_owned());
    for (kind, kind_type) in [
        ("signal", "unheard-of"),
        ("signal", "swarm-create"),
        ("outcome", "unheard-of"),
        ("event", "stop"),
        ("metric", "alert"),
        ("signal", ""),
    ] {
        assert_eq!(
            refused(json!({ "kind": kind, "type": kind_type })),
            unknown("/type"),
            "{kind} {kind_type}"
        );
    }
    assert_eq!(refused(json!([])), (Reason::Schema, String::new()));
    assert_eq!(refused(json!(null)), (Reason::Schema, String::new()));
    for (pointer, value) in
        [("/kind", json!("command")), ("/kind", json!(1)), ("/kind", Value::Null), ("/type", json!(1))]
    {
        let mut body = signal("stop", json!({}));
        *body.pointer_mut(pointer).expect("a member") = value;
        assert_eq!(refused(body), (Reason::Schema, pointer.to_owned()));
    }
    let mut body = envelopes()[1].clone();
    body["type"] = json!("swarm-create");
    assert!(read(&contract, &body).is_ok());
}

#[test]
fn gate_one_speaks_in_the_order_of_its_codes() {
    let contract = Contract::built_in(Limits { body_bytes_max: 600, ..Limits::default() }).expect("compiles");
    let refused = |body: &[u8], encoding: Option<&str>| {
        let mut message = message("broken", body);
        message.properties.content_encoding = encoding.map(str::to_owned);
        contract.read(&message).expect_err("refused").refusal.reason
    };
    assert_eq!(refused(&[0xff; 601], Some("gzip")), Reason::TooLarge);
    assert_eq!(refused(&[0xff; 600], Some("gzip")), Reason::Encoding);
    assert_eq!(refused(&[0xff; 600], Some("Identity")), Reason::NotUtf8);
    for charset in ["utf-8", "UTF-8", "utf8", "Utf-8", ""] {
        assert_eq!(refused(&[0xff; 600], Some(charset)), Reason::NotUtf8, "{charset} is no encoding");
    }
    for encoded in ["deflate", "gzip:UTF-8", "UTF-16", "utf-8 ", "base64"] {
        assert_eq!(refused(&[0xff; 600], Some(encoded)), Reason::Encoding, "{encoded}");
    }
    assert_eq!(refused(br#"{"a":1,"a":1"#, None), Reason::NotJson);
    assert_eq!(
        refused(format!(r#"{{"b":{}{},"a":1,"a":1}}"#, "[".repeat(40), "]".repeat(40)).as_bytes(), None),
        Reason::DuplicateKey
    );
    assert_eq!(refused(format!("{}{}", "[".repeat(40), "]".repeat(40)).as_bytes(), None), Reason::TooDeep);
    assert_eq!(refused(br#"{"kind":"signal","type":"x"}"#, None), Reason::UnknownType);
    assert_eq!(refused(signal("stop", json!({})).to_string().as_bytes(), None), Reason::MalformedKey);
    let date =
        signal("stop", json!({})).to_string().replace("2025-01-01T00:00:00Z", "2025-01-01T00:00:00+24:00");
    assert_eq!(refused(date.as_bytes(), None), Reason::Schema);
}

#[test]
fn no_refusal_words_a_value() {
    let schema = json!({ "properties": {
        "one": { "oneOf": [{ "const": 1 }, { "const": 2 }] }, "any": { "anyOf": [{ "type": "null" }] },
        "contains": { "contains": { "type": "number" } }, "unique": { "uniqueItems": true, "maxItems": 9 },
        "names": { "propertyNames": { "maxLength": 2 } }, "format": { "format": "ipv4" }, "pattern": { "pattern": "^a$" },
        "none": false, "items": { "prefixItems": [true], "items": false }, "left": { "unevaluatedItems": false },
        "enum": { "enum": ["a"] }, "not": { "not": { "type": "string" } }, "length": { "maxLength": 3 },
        "dependent": { "dependentRequired": { "a": ["b"] } }, "closed": { "unevaluatedProperties": false },
        "minimum": { "minimum": 31_338 }, "multiple": { "multipleOf": 2 }, "const": { "const": { "a": 1 } }
    } });
    let contract = Contract::with_types(Limits::default(), vec![DeploymentType::new("own", schema.clone())])
        .expect("loaded");
    let names = schema["properties"].as_object().expect("members").keys();
    for name in names {
        let refused =
            [json!("Hush"), json!(["Hush", "Hush"]), json!({ "a": "Hush", "Hush": 0 }), json!(31_337)]
                .into_iter()
                .filter_map(|value| read(&contract, &signal("own", json!({ name: value }))).err())
                .inspect(|unsaid| {
                    let detail = &unsaid.refusal.detail;
                    assert!(!detail.contains("Hush") && !detail.contains("31337"), "{name}: {detail}");
                })
                .count();
        assert!(refused > 0, "{name}");
    }
    for pointer in
        ["/timestamp", "/version", "/kind", "/origin", "/data", "/scope", "/scope/role", "/correlationId"]
    {
        for value in [json!({ "Hush": 1 }), json!(["Hush"]), json!(31_337)] {
            let mut body = signal("stop", json!({}));
            *body.pointer_mut(pointer).expect("a member") = value;
            let unsaid = contract.read(&message("signal.stop.a.b.c", body.to_string())).expect_err(pointer);
            assert!(
                !unsaid.refusal.detail.contains("Hush") && !unsaid.refusal.detail.contains("31337"),
                "{pointer}"
            );
        }
    }
}

#[test]
fn structural_bombs_cost_next_to_nothing() {
    let limits = Limits::default();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    for body in
        [nested(33), nested(127), nested(128), nested(10_000), nested(131_072), objects(33), objects(40_000)]
    {
        let refusal = strict::parse(body.as_bytes(), &limits).expect_err("refused");
        assert_eq!(refusal.reason, Reason::TooDeep);
        assert_eq!(refusal.pointer.map(|pointer| pointer.matches('/').count()), Some(32));
    }
    for body in [nested(32), objects(32), format!("[{}1]", "1,".repeat(9_998))] {
        assert!(strict::parse(body.as_bytes(), &limits).is_ok());
    }
    let keys: Vec<_> = (0..20_000).map(|key| format!("\"{key}\":0")).collect();
    for body in [
        format!("[{}1]", "1,".repeat(9_999)),
        format!("[{}1]", "1,".repeat(130_000)),
        format!("{{{}}}", keys.join(",")),
    ] {
        assert_eq!(strict::parse(body.as_bytes(), &limits).expect_err("refused").reason, Reason::TooDeep);
    }
    assert_eq!(
        strict::parse("1".repeat(200_000).as_bytes(), &limits).expect_err("refused").reason,
        Reason::NotJson
    );
    assert_eq!(strict::parse(&vec![b'['; 16 << 20], &limits).expect_err("refused").reason, Reason::TooLarge);
}

#[test]
fn key_and_body_agree_and_only_some_types_fan_out() {
    let contract = contract();
    let body = signal("stop", json!({}));
    let refused = |key: &str, body: &Value| {
        let unsaid = contract.read(&message(key, body.to_string())).expect_err(key);
        assert!(unsaid.envelope.is_some(), "{key}");
        (unsaid.refusal.reason, unsaid.refusal.pointer.unwrap_or_default())
    };
    let scope = "alpha.swarm-controller.alpha-marshal-1";
    for (key, pointer) in [
        (format!("event.outcome.stop.{scope}"), "/kind"),
        (format!("signal.swarm-stop.{scope}"), "/type"),
        ("signal.stop.beta.swarm-controller.alpha-marshal-1".to_owned(), "/scope/swarmId"),
        ("signal.stop.alpha.worker.alpha-marshal-1".to_owned(), "/scope/role"),
        ("signal.stop.alpha.swarm-controller.ALL".to_owned(), "/scope/instance"),
    ] {
        assert_eq!(refused(&key, &body), (Reason::Mismatch, pointer.to_owned()), "{key}");
    }
    assert_eq!(refused(&"x".repeat(300), &body).0, Reason::MalformedKey);
    let at = |kind_type: &str, scope: [&str; 3]| {
        let reason = json!({ "mode": "SAFE", "reason": "r" });
        let mut body = signal(kind_type, if kind_type == "safety-set" { reason } else { json!({}) });
        body["scope"] = json!({ "swarmId": scope[0], "role": scope[1], "instance": scope[2] });
        match read(&contract, &body) {
            Ok(_) => None,
            Err(unsaid) => Some((unsaid.refusal.reason, unsaid.refusal.pointer.unwrap_or_default())),
        }
    };
    let no = |pointer: &str| Some((Reason::FanOutNotAllowed, pointer.to_owned()));
    for scope in [["s", "r", "ALL"], ["s", "ALL", "ALL"], ["ALL", "r", "ALL"], ["ALL", "ALL", "ALL"]] {
        assert_eq!(at("stop", scope), None, "{scope:?}");
        assert_eq!(
            at("swarm-start", scope).map(|(reason, _)| reason),
            Some(Reason::FanOutNotAllowed),
            "{scope:?}"
        );
    }
    assert_eq!(at("stop", ["ALL", "r", "i"]), no("/scope/swarmId"));
    assert_eq!(at("stop", ["s", "ALL", "i"]), no("/scope/role"));
    assert_eq!(at("safety-set", ["ALL", "ALL", "ALL"]), None);
    assert_eq!(at("safety-set", ["s", "ALL", "ALL"]), None);
    assert_eq!(at("safety-set", ["s", "r", "ALL"]), no("/scope/instance"));
    assert_eq!(at("safety-set", ["ALL", "r", "ALL"]), no("/scope/swarmId"));
    for mut body in envelopes().into_iter().skip(1) {
        body["scope"]["instance"] = json!("ALL");
        assert_eq!(refused(&key_of(&body), &body), (Reason::FanOutNotAllowed, "/scope/instance".to_owned()));
    }
}

#[test]
fn a_deployment_adds_types_and_replaces_none() {
    let schema = json!({
        "required": ["venue"], "properties": { "venue": { "type": "string", "pattern": "^[a-z]+$" },
            "token": { "x-swarmgate-secret": true } }
    });
    let limits = Limits::default();
    let own = |name: &str, schema: &Value| {
        Contract::with_types(limits, vec![DeploymentType::new(name, schema.clone())])
    };
    let contract = own("venue-open", &schema).expect("loaded");
    let row = contract.commands.get("venue-open").cloned().expect("a row");
    assert_eq!(DeploymentType::of(row, schema.clone()), DeploymentType::new("venue-open", schema.clone()));
    let said = read(&contract, &signal("venue-open", json!({ "venue": "nyse", "token": "hush" })))
        .expect("accepted");
    let payload = said.payload.expect("a payload");
    assert!(
        payload.text().contains(r#""token":"***""#) && !payload.text().contains("hush"),
        "{}",
        payload.text()
    );
    let refusal =
        read(&contract, &signal("venue-open", json!({ "venue": "HUSH" }))).expect_err("refused").refusal;
    assert_eq!((refusal.reason, refusal.pointer.as_deref()), (Reason::Schema, Some("/data/venue")));
    assert!(!refusal.detail.contains("HUSH"), "{}", refusal.detail);
    let mut unsaid = signal("venue-open", json!({ "venue": "nyse" }));
    unsaid["extra"] = json!(1);
    assert_eq!(read(&contract, &unsaid).expect_err("refused").refusal.pointer.as_deref(), Some("/extra"));

    assert!(matches!(own("stop", &schema), Err(TypeError::Taken { .. })));
    assert!(matches!(own("no.dots", &schema), Err(TypeError::Name { .. })));
    for broken in [
        json!({ "pattern": "(a{1000}){1000}" }),
        json!({ "pattern": "(" }),
        json!({ "pattern": "(?=a)b" }),
        json!({ "type": "text" }),
        json!({ "format": "uuidd" }),
    ] {
        assert!(matches!(own("own", &broken), Err(TypeError::Uncompiled { .. })), "{broken}");
    }
    let wrong_type = json!({ "properties": { "a": { "items": { "type": "strnig" } } } });
    assert!(
        matches!(own("own", &wrong_type), Err(TypeError::Uncompiled { place, .. }) if place.starts_with("/properties/a/items"))
    );
    // What would be passed over in silence is a fault, wherever it stands.
    for (keyword, place) in [
        ("nullable", json!({ "nullable": true })),
        ("requried", json!({ "properties": { "a/b": { "requried": ["c"] } } })),
        ("discriminator", json!({ "$defs": { "d": { "oneOf": [true, { "discriminator": {} }] } } })),
    ] {
        let fault = own("own", &place).expect_err(keyword).to_string();
        assert!(fault.contains(&format!("/{keyword}`")) && fault.contains("no keyword"), "{fault}");
    }
    let annotated =
        json!({ "x-owner": "desk", "properties": { "nullable": { "const": { "requried": 1 } } } });
    assert!(own("own", &annotated).is_ok());
    for unreachable in ["http://localhost:1/s.json", "file:///etc/hostname"] {
        let unreferred = json!({ "$defs": { "a": { "$ref": unreachable } } });
        assert!(own("own", &unreferred).is_err(), "{unreachable}");
    }
}
