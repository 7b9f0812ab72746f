//! What an operator types each day, beside a router that carries.
//!
//! Owns: that what is shown of an instance is what the router judges by, and that nobody who came
//! without a path, or with a wrong id, is left without a word.
//! Never: answers in the router's place.
//! Holds: each command is the real binary.

use std::process::Output;

use serde_json::{Value, json};

use super::gate::{Gate, envelope, swarmgate};

fn offline(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = swarmgate(args).output().expect("a run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("a code"), text(stdout), text(stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_without_a_path_is_told_the_paths() {
    let gate = Gate::start().await;
    for place in ["/", "/api", "/api/v1"] {
        let (status, body) = gate.asked("GET", place, "localhost").await;
        assert_eq!(status, 200, "{place}: {body}");
        let told: Value = serde_json::from_str(&body).expect("JSON");
        let paths = told["paths"].as_array().expect("paths");
        assert!(paths.len() > 8 && told["name"] == "swarmgate", "{told}");
        for path in paths.iter().filter_map(|row| row["path"].as_str()) {
            let (_, answer) = gate.asked("GET", path, "localhost").await;
            assert!(!answer.contains("api.no-such-path"), "{path}: {answer}");
        }
        let (status, _) = gate.asked("GET", place, "evil.example").await;
        assert_eq!(status, 421, "{place}");
    }
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_that_is_shown_is_the_one_that_is_judged_by_before_and_after_a_restart() {
    let mut gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 1).await;
    let page = gate.page("inventory/kestrel/worker/w-1").await;
    assert_eq!((&page["life"], &page["known"]), (&json!("CREATED"), &json!(true)), "{page}");
    let (code, told, fault) = gate.run(&["inventory", "kestrel/worker/w-1"]).await;
    assert!(code == 0 && told.contains("CREATED (says "), "{told}{fault}");
    let (code, told, _) = gate.run(&["inventory", "kestrel/worker/w-9"]).await;
    assert!(code == 2 && told.is_empty(), "{told}");

    // The refusal says what to type.
    let mut refused = gate.listen_refused().await;
    let data = json!({ "requestedTransition": "IDLE->RUNNING_PAPER", "mode": "paper" });
    gate.say(envelope("signal", "bot-start", "orc", "w-1", Some("early"), &data)).await;
    let copy = refused.next(1).await.expect("a copy").remove(0);
    let detail = copy.message.properties.header_text("x-swarmgate-detail").unwrap_or_default().to_owned();
    assert!(detail.contains("`swarmgate bot init kestrel/worker/w-1`"), "{detail}");
    drop(refused);

    gate.go_down().await;
    gate.go_up().await;
    let (code, told, fault) = gate.run(&["inventory", "kestrel"]).await;
    assert!(code == 0 && told.contains("worker/w-1"), "it is forgotten: {told}{fault}");
    assert!(told.contains("not heard since the restart"), "{told}");
    let swarms = gate.page("inventory").await;
    assert_eq!(swarms["swarms"][0]["unheard"], 1, "{swarms}");
    gate.status("w-2", true).await;
    let page = gate.until("inventory/kestrel?limit=1", |page| page["swarm"]["seen"] == 1).await;
    assert_eq!(
        (&page["instances"][0]["scope"]["instance"], &page["next"]),
        (&json!("w-2"), &json!("worker/w-2"))
    );
    let rest = gate.page("inventory/kestrel?limit=1&after=worker/w-2").await;
    assert_eq!((&rest["instances"][0]["scope"]["instance"], &rest["next"]), (&json!("w-1"), &Value::Null));
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_end_says_is_shown_and_an_unknown_id_ends_as_documented() {
    let gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 1).await;
    gate.command("swarm-stop", "w-1", "bad").await;
    gate.until("commands", |page| page["commands"].as_array().is_some_and(|all| !all.is_empty())).await;
    let data = json!({ "status": "Failed", "code": "E-7", "message": "the disk is full" });
    gate.say(envelope("outcome", "swarm-stop", "w-1", "w-1", Some("bad"), &data)).await;
    gate.until("commands/c-bad", |page| page["state"] == "ended").await;
    let (code, told, fault) = gate.run(&["commands", "c-bad"]).await;
    assert!(code == 0 && told.contains("E-7") && told.contains("the disk is full"), "{told}{fault}");
    let (code, told, fault) = gate.run(&["wait", "999999"]).await;
    assert!(code == 2 && told.is_empty() && fault.contains("999999"), "{told}{fault}");
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_read_newest_first_and_by_what_is_asked() {
    let gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 1).await;
    for name in ["one", "two"] {
        gate.command("swarm-start", "w-1", name).await;
        gate.until(&format!("commands/c-{name}"), |page| page["id"].is_string()).await;
    }
    gate.outcome("swarm-start", "w-1", "one", "Failed").await;
    gate.until("commands/c-one", |page| page["state"] == "ended").await;
    let dir = gate.ledger().to_str().expect("UTF-8").to_owned();
    let show = |args: &[&str]| {
        let (code, told, fault) = offline(&[&["audit", "show", &dir, "--output", "json"], args].concat());
        assert_eq!(code, 0, "{args:?}: {fault}");
        let rows: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (rows, fault)
    };
    let seqs = |rows: &[Value]| rows.iter().filter_map(|row| row["seq"].as_u64()).collect::<Vec<_>>();
    let (all, fault) = show(&[]);
    assert!(seqs(&all).is_sorted_by(|one, other| one > other) && fault.is_empty(), "{all:?}{fault}");
    let (oldest, _) = show(&["--oldest-first"]);
    assert!(seqs(&oldest).is_sorted() && oldest.len() == all.len());
    let (two, fault) = show(&["--limit", "2"]);
    assert!(
        seqs(&two) == seqs(&all)[..2] && fault.contains(&format!("--to {}", seqs(&all)[1] - 1)),
        "{fault}"
    );
    let (none, _) = show(&["--until", "2020-01-01T00:00:00Z"]);
    assert!(none.is_empty());
    let (since, _) = show(&["--since", "1h"]);
    assert_eq!(since.len(), all.len());
    let (failed, _) = show(&["--failed"]);
    assert!(!failed.is_empty() && failed.len() < all.len(), "{failed:?}");
    assert!(failed.iter().all(|row| row["fact"]["correlationId"] == "c-one"), "{failed:?}");
    let (orc, _) = show(&["--actor", "orc"]);
    assert!(orc.len() >= 2 && orc.len() < all.len(), "{orc:?}");
    let action = all[0]["fact"]["action"].as_str().expect("an action").to_owned();
    let (acted, _) = show(&["--action", &action]);
    assert!(acted.iter().all(|row| row["fact"]["action"] == action.as_str()) && !acted.is_empty());
    let (code, _, fault) = offline(&["audit", "show", &dir, "--reason", "contract.shema"]);
    assert!(code == 2 && fault.contains("contract.shema"), "{fault}");
    gate.stop().await;
}

#[test]
fn init_asks_for_the_first_step_and_man_takes_a_directory() {
    let args =
        ["bot", "init", "kestrel/trader/t-1", "--dry-run", "--output", "json", "--api", "http://127.0.0.1:1"];
    let (code, told, fault) = offline(&args);
    assert!(code == 0 && told.contains("bot-init") && told.contains("CREATED->IDLE"), "{told}{fault}");
    let dir = tempfile::tempdir().expect("a directory");
    let (code, _, fault) = offline(&["man", dir.path().to_str().expect("UTF-8")]);
    assert!(code == 0 && dir.path().join("swarmgate-bot.1").is_file(), "{fault}");
}
