//! "May I", asked of the API and by the command line before anything leaves.
//!
//! Owns: what the answer says of who may and of what is dangerous, and that the tools stop at a no,
//! and at what was not typed out.
//! Never: has a broker that takes what a tool sends: one that goes on ends with 4, and names the
//! broker.
//! Holds: what the answer refuses the router refuses too, by the same code.

use serde_json::{Value, json};

use super::{
    challenges::{live, signal, waits},
    gate::{Gate, envelope},
};

/// Where nobody listens; the tool is that user.
fn broker(user: &str) -> String {
    format!("amqp://{user}@127.0.0.1:1/%2f")
}

async fn gate() -> Gate {
    let settings = [
        ("consent.requires", "second-person"),
        ("consent.live_requires", "explicit"),
        ("consent.actors", "orc,ann"),
        ("safety.gate_reporters", "risk=risk-bot"),
    ];
    Gate::with(&settings).await
}

async fn may(gate: &Gate, sender: &str, user: Option<&str>, kind_type: &str, data: &Value) -> Value {
    let user = user.map(|user| format!("&user={user}")).unwrap_or_default();
    let data: String = data.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let query = format!("may?origin={sender}{user}&type={kind_type}&target=kestrel/worker/w-1&data={data}");
    gate.page(&query).await
}

async fn refusals(gate: &Gate, code: &str) -> u64 {
    let overview = gate.page("overview").await;
    let mut all = overview["refusals"].as_array().expect("refusals").iter();
    all.find(|one| one["code"] == code).and_then(|one| one["count"].as_u64()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_of_the_answer_is_a_no_of_the_router() {
    let gate = gate().await;
    signal(&gate, "data-delete", "w-1", "x", &json!({ "reason": "a drill" })).await;
    let id = waits(&gate, "x").await;
    let answer = json!({ "challengeId": id, "reason": "a drill" });
    let unknown = json!({ "challengeId": "c-0", "reason": "a drill" });
    for (sender, user, kind_type, data, code) in [
        ("ann", Some("ann"), "challenge-confirm", &answer, None),
        ("orc", Some("orc"), "challenge-confirm", &answer, Some("consent.self-confirm")),
        ("bob", Some("bob"), "challenge-confirm", &answer, Some("policy.denied")),
        ("bob", Some("bob"), "challenge-reject", &answer, Some("policy.denied")),
        ("ann", Some("bob"), "challenge-confirm", &answer, Some("identity.origin-mismatch")),
        ("ann", None, "challenge-confirm", &answer, Some("identity.unproven")),
        ("ann", Some("ann"), "challenge-confirm", &unknown, Some("consent.unknown-challenge")),
        ("bob", Some("bob"), "data-restore", &json!({ "reason": "a drill" }), Some("policy.denied")),
        ("bob", Some("bob"), "bot-stop", &json!({}), None),
    ] {
        let told = may(&gate, sender, user, kind_type, data).await;
        assert_eq!((&told["allowed"], &told["code"]), (&json!(code.is_none()), &json!(code)), "{told}");
        let dangerous = !matches!(kind_type, "challenge-reject" | "bot-stop")
            && code != Some("consent.unknown-challenge");
        assert_eq!((&told["dangerous"], &told["live"]), (&json!(dangerous), &json!(false)), "{told}");
        let Some(code) = code else { continue };
        let before = refusals(&gate, code).await;
        let name = format!("{sender}-{code}-{kind_type}");
        let mut said = envelope("signal", kind_type, sender, "w-1", Some(&name), data);
        said.properties.user_id = user.map(str::to_owned);
        gate.say(said).await;
        let is_counted = |page: &Value| {
            let all = page["refusals"].as_array().expect("refusals");
            all.iter().any(|one| one["code"] == code && one["count"].as_u64() > Some(before))
        };
        gate.until("overview", is_counted).await;
    }
    let whose = may(&gate, "ann", Some("ann"), "challenge-confirm", &answer).await;
    assert_eq!(
        (&whose["operation"], &whose["target"]),
        (&json!("data-delete"), &json!("kestrel/worker/w-1"))
    );
    for (query, named) in [
        ("may", "origin"),
        ("may?origin=a&type=stop", "target"),
        ("may?origin=a&target=k/b/c", "type"),
        ("may?origin=a&type=stop&target=k", "target"),
        ("may?origin=a&type=stop&target=k/b/c&data=7", "data"),
    ] {
        let (status, problem) = gate.get(query).await;
        assert_eq!((status, &problem["code"]), (400, &json!("api.bad-parameter")), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|told| told.contains(named)), "{problem}");
    }
    let (status, _) = gate.get("may?origin=a&type=swarm-dance&target=k/b/c").await;
    assert_eq!(status, 404);
    gate.stop().await;
}

/// A run of the tool as that user: its code and all that it said.
async fn run(gate: &Gate, user: &str, args: &[&str]) -> (i32, String, String) {
    gate.run(&[args, &["--amqp", &broker(user)]].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_stopped_before_the_echo_and_before_sending() {
    let gate = gate().await;
    signal(&gate, "data-delete", "w-1", "x", &json!({ "reason": "a drill" })).await;
    let id = waits(&gate, "x").await;
    let data = json!({ "challengeId": id, "reason": "a drill" }).to_string();
    let target = "kestrel/worker/w-1";
    let by_send = ["send", "challenge-confirm", target, "--data", &data, "--yes"];
    let rejected_by_send = ["send", "challenge-reject", target, "--data", &data];
    let confirmed = ["challenge", "confirm", &id, "--reason", "a drill", "--yes"];
    let rejected = ["challenge", "reject", &id, "--reason", "a drill"];
    let disabled = ["safety", "monitoring", "disable", "--for", "5m", "--reason", "a drill", "--yes"];
    let restored = ["send", "data-restore", target, "--data", r#"{"reason":"a drill"}"#, "--yes"];
    for (user, args, code) in [
        ("orc", &by_send[..], "consent.self-confirm"),
        ("orc", &confirmed, "consent.self-confirm"),
        ("bob", &by_send, "policy.denied"),
        ("bob", &rejected_by_send, "policy.denied"),
        ("bob", &confirmed, "policy.denied"),
        ("bob", &rejected, "policy.denied"),
        ("bob", &disabled, "policy.denied"),
        ("bob", &restored, "policy.denied"),
        ("bob", &[&restored[..], &["--origin", "ann"]].concat(), "identity.origin-mismatch"),
    ] {
        let (ended, said, complained) = run(&gate, user, args).await;
        assert_eq!(ended, 3, "{args:?} as {user}: {said}{complained}");
        assert!(
            said.starts_with(&format!("not sent: {code}: ")) && said.contains("next: "),
            "{args:?}: {said}"
        );
        assert!(!complained.contains("[DANGEROUS]"), "{args:?}: {complained}");
        let (ended, said, _) = run(&gate, user, &[args, &["--output", "json"]].concat()).await;
        let told: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!((ended, &told["sent"], &told["code"]), (3, &json!(false), &json!(code)), "{told}");
    }
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_of_what_is_dangerous_is_shown_and_typed_out() {
    let gate = gate().await;
    let target = "kestrel/worker/w-1";
    let update = ["send", "config-update", target];
    let unsent = |(ended, said, complained): (i32, String, String), words: &[&str]| {
        assert_eq!(ended, 2, "{said}{complained}");
        for word in words.iter().chain(&["nothing was sent"]) {
            assert!(complained.contains(word), "`{word}` is not in {complained}");
        }
        assert_eq!(said, "");
    };
    // Whoever goes on meets a broker that is not there.
    let sent = |(ended, said, complained): (i32, String, String)| {
        assert_eq!((ended, said.as_str()), (4, ""), "{complained}");
        assert!(complained.contains("127.0.0.1:1"), "{complained}");
    };
    sent(run(&gate, "orc", &update).await);
    live(&gate, "w-1", "walk").await;
    let shown =
        ["[LIVE]  config-update kestrel/worker/w-1", "may change", "other swarms", "as            orc"];
    unsent(run(&gate, "orc", &update).await, &[&shown[..], &["--yes --live kestrel/worker/w-1"]].concat());
    unsent(run(&gate, "orc", &[&update[..], &["--yes"]].concat()).await, &["does not go live"]);
    let other = ["--yes", "--live", "kestrel/worker/w-2"];
    unsent(run(&gate, "orc", &[&update[..], &other].concat()).await, &["names another target"]);
    sent(run(&gate, "orc", &[&update[..], &["--yes", "--live", target]].concat()).await);
    // A confirmation shows what it is for, as `challenge confirm` does.
    signal(&gate, "config-update", "w-1", "x", &json!({ "reason": "a drill" })).await;
    let data = json!({ "challengeId": waits(&gate, "x").await, "reason": "a drill" }).to_string();
    let confirm = ["send", "challenge-confirm", target, "--data", &data];
    let shown = ["[LIVE]  challenge-confirm of live config-update for kestrel/worker/w-1", "may change"];
    unsent(run(&gate, "ann", &confirm).await, &shown);
    unsent(run(&gate, "ann", &[&confirm[..], &["--yes"]].concat()).await, &["does not go live"]);
    sent(run(&gate, "ann", &[&confirm[..], &["--yes", "--live", target]].concat()).await);
    // What is dangerous and not live takes a yes, and what makes things safer takes nothing.
    let delete = ["send", "data-delete", target, "--data", r#"{"reason":"a drill"}"#];
    unsent(run(&gate, "orc", &delete).await, &["[DANGEROUS]  data-delete", "--yes"]);
    sent(run(&gate, "orc", &[&delete[..], &["--yes"]].concat()).await);
    for args in [
        ["send", "bot-stop", target, "--data", "{}"],
        ["send", "bot-quarantine", target, "--data", "{}"],
        ["send", "safety-set", "ALL/ALL/ALL", "--data", r#"{"mode":"SAFE","reason":"late"}"#],
    ] {
        sent(run(&gate, "bob", &args).await);
        let amqp = broker("bob");
        let alone = [&args[..], &["--amqp", &amqp, "--api", "http://127.0.0.1:1"]].concat();
        let output = super::gate::swarmgate(&alone).output().expect("a run");
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(4) && !complained.contains("no router"),
            "{args:?}: {complained}"
        );
    }
    gate.stop().await;
}
