//! What the API answers about safety is what its schemas say, in each state that safety can be in.

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};
use swarmgate::{clock, contract::message::Message};

use super::gate::{Gate, envelope, swarmgate};

fn schema(name: &str) -> Value {
    let path = format!("{}/schemas/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{path}: {fault}"));
    serde_json::from_str(&text).expect("a schema")
}

fn holds(validator: &Validator, value: &Value) {
    let faults: Vec<String> =
        validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:?}: {value}");
}

/// Every answer of `/api/v1/safety` that a test gets.
pub fn holds_for_safety(answer: &Value) {
    let gates = schema("gate-results");
    let registry = Registry::new().add("urn:swarmgate:schema:gate-results", gates.clone());
    let registry = registry.expect("a schema").prepare().expect("a registry");
    let options = jsonschema::options().should_validate_formats(true);
    let state = options.with_registry(&registry).build(&schema("safety-state")).expect("a validator");
    holds(&state, answer);
    let gates = jsonschema::options().should_validate_formats(true).build(&gates).expect("a validator");
    holds(&gates, &answer["gates"]);
}

/// A signal for all, or for a swarm.
fn set(kind_type: &str, swarm: &str, name: &str, data: &Value) -> Message {
    let mut message = envelope("signal", kind_type, "risk-bot", "ALL", Some(name), data);
    let mut body: Value = serde_json::from_slice(&message.body).expect("a body");
    body["scope"] = json!({ "swarmId": swarm, "role": "ALL", "instance": "ALL" });
    message.body = body.to_string().into();
    message.routing_key = format!("signal.{kind_type}.{swarm}.ALL.ALL");
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_of_safety_is_what_the_schemas_say() {
    let gate = Gate::with(&[("safety.gates_required", "risk,never")]).await;
    let first = gate.page("safety").await;
    assert_eq!(first["gates"].as_array().map(Vec::len), Some(2), "{first}");
    for (number, result) in ["PASS", "WARN", "UNKNOWN", "FAIL"].into_iter().enumerate() {
        let soon = clock::wall().plus_ms(60_000);
        let data = json!({ "gate": "risk", "result": result, "expiresAt": soon });
        gate.say(set("gate-report", "ALL", &format!("gate-{number}"), &data)).await;
        let shown = |page: &Value| {
            page["gates"].as_array().is_some_and(|gates| {
                gates.iter().any(|gate| gate["gate"] == "risk" && gate["result"] == result)
            })
        };
        gate.until("safety", shown).await;
    }
    gate.say(set("safety-set", "kestrel", "safe", &json!({ "mode": "SAFE", "reason": "drill" }))).await;
    gate.until("safety", |page| page["swarms"][0]["mode"] == "SAFE").await;
    gate.say(set("kill-switch-set", "ALL", "kill", &json!({ "level": "FLATTEN", "reason": "drill" }))).await;
    gate.until("safety", |page| page["global"]["killSwitch"] == "FLATTEN").await;
    let latch =
        json!({ "level": "BLOCK", "scope": "ALL", "reason": "drill", "by": "ann", "since": clock::wall() });
    std::fs::write(gate.ledger().join("kill-switch.latch"), latch.to_string()).expect("a latch");
    gate.until("safety", |page| page["latch"]["level"] == "BLOCK").await;
    gate.say(set("safety-set", "ALL", "stop", &json!({ "mode": "EMERGENCY_STOP", "reason": "drill" }))).await;
    gate.until("safety", |page| page["global"]["mode"] == "EMERGENCY_STOP").await;
    gate.stop().await;
}

#[test]
fn the_schemas_refuse_what_is_not_safety() {
    let good = json!({
        "global": { "mode": "NORMAL", "killSwitch": "ALLOW" }, "swarms": [], "gates": [], "latch": null,
        "clock": { "gapSeconds": null }, "identity": { "trustOrigin": false }, "monitoring": { "disabledUntil": null },
    });
    holds_for_safety(&good);
    for (pointer, wrong) in [
        ("/global/mode", json!("FINE")),
        ("/global/killSwitch", json!("MAYBE")),
        ("/latch", json!("thrown")),
        ("/gates", json!([{ "gate": "risk" }])),
        ("/monitoring/disabledUntil", json!("soon")),
    ] {
        let mut answer = good.clone();
        *answer.pointer_mut(pointer).expect("a member") = wrong;
        assert!(std::panic::catch_unwind(|| holds_for_safety(&answer)).is_err(), "{pointer}");
    }
}

#[test]
fn the_binary_lists_and_prints_its_schemas() {
    let run = |args: &[&str]| {
        let output = swarmgate(&[&["explain", "--schema"], args].concat()).output().expect("a run");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, list) = run(&[]);
    let names: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas")).expect("schemas").count();
    assert_eq!((code, names.len()), (Some(0), files), "{list}");
    for name in ["audit-event", "safety-state", "gate-results"] {
        assert!(names.contains(&name), "{list}");
    }
    for name in names {
        let (code, text) = run(&[name]);
        let printed: Value = serde_json::from_str(&text).expect("a schema");
        assert_eq!((code, printed), (Some(0), schema(name)));
    }
    assert_eq!(run(&["no-such"]).0, Some(2));
}
