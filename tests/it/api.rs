//! The API of a running router, and the commands that ask it.
//!
//! Owns: each path against a router that carries, the exit codes of `wait`, and `top` in a real
//! terminal.
//! Never: answers in the router's place; what is read here was said on its bus.
//! Holds: every router has a ledger and an address of its own, and every terminal a server of its
//! own.

mod challenge_walk;
mod challenges;
mod daily;
pub mod gate;
mod may;
mod members;
mod own_status;
mod schemas;
pub(crate) mod terminal;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use gate::{Gate, PATIENCE, envelope, run};
use terminal::Terminal;

#[test]
fn every_field_of_every_answer_is_on_the_page() {
    members::are_those_of_the_page();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_tells_what_it_knows() {
    let gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.status("w-2", false).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 2).await;
    let overview = gate.page("overview").await;
    assert_eq!(
        (&overview["instance"], &overview["environment"], &overview["mode"]),
        (&json!("gate-1"), &json!("dev"), &json!("enforce"))
    );
    assert_eq!(
        (&overview["ledger"]["writable"], &overview["broker"]["connected"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(overview["lanes"].as_array().map(Vec::len), Some(4), "{overview}");
    assert_eq!(
        (&overview["inventory"]["instances"], &overview["inventory"]["swarms"]),
        (&json!(2), &json!(1))
    );
    let swarms = gate.page("inventory").await;
    let swarm = &swarms["swarms"][0];
    assert_eq!(
        (&swarm["swarmId"], &swarm["fresh"], &swarm["enabled"]),
        (&json!("kestrel"), &json!(2), &json!(1))
    );
    let first = gate.page("inventory/kestrel?limit=1").await;
    assert_eq!(
        (first["instances"].as_array().map(Vec::len), &first["next"]),
        (Some(1), &json!("worker/w-1"))
    );
    let second = gate.page("inventory/kestrel?limit=1&after=worker%2Fw-1").await;
    assert_eq!(
        (&second["instances"][0]["scope"]["instance"], &second["next"]),
        (&json!("w-2"), &Value::Null)
    );
    let one = gate.page("inventory/kestrel/worker/w-1").await;
    assert_eq!(
        (&one["scope"]["instance"], &one["tps"], &one["baseline"]),
        (&json!("w-1"), &json!(12), &json!(true))
    );
    let graph = gate.page("graph").await;
    assert!(
        graph["dot"].is_null() && graph["edges"].as_array().is_some_and(|edges| edges.len() == 4),
        "{graph}"
    );
    let (status, dot) = gate.asked("GET", "/api/v1/graph?format=dot", "localhost").await;
    assert!(status == 200 && dot.starts_with("digraph") && dot.contains("made.w-2"), "{dot}");
    let impact = gate.page("impact?instance=kestrel/worker/w-1").await;
    assert_eq!(impact["starved"][0]["queue"], "made.w-1", "{impact}");
    let impact = gate.page("impact?queue=jobs").await;
    assert_eq!(impact["starved"].as_array().map(Vec::len), Some(4), "{impact}");
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_told_from_its_acceptance_to_its_end() {
    let gate = Gate::start().await;
    for instance in ["w-1", "w-2"] {
        gate.status(instance, true).await;
    }
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 2).await;
    gate.command("config-update", "w-1", "one").await;
    let carried = gate.until("commands/c-one", |command| command["state"] == "carried").await;
    assert_eq!((&carried["sender"], &carried["missing"]), (&json!("orc"), &json!(1)), "{carried}");
    let list = gate.page("commands").await;
    let (listed, id) = (&list["commands"][0], carried["id"].as_str().expect("a number"));
    assert_eq!((&listed["id"], &listed["targets"], &list["more"]), (&json!(id), &Value::Null, &json!(false)));
    assert_eq!(gate.page("overview").await["commands"]["inFlight"], 1);
    // Another's outcome ends nothing.
    gate.outcome("config-update", "w-2", "one", "Applied").await;
    gate.outcome("config-update", "w-1", "one", "Applied").await;
    let ended = gate.until(&format!("commands/{id}"), |command| command["state"] == "ended").await;
    assert_eq!((&ended["status"], &ended["success"]), (&json!("Applied"), &json!(true)), "{ended}");
    assert!(ended["endedAt"].is_string(), "{ended}");
    // A fan-out of which one does not answer.
    gate.command("config-update", "ALL", "all").await;
    let all = gate.until("commands/c-all", |command| command["state"] == "carried").await;
    assert_eq!(all["targets"].as_array().map(Vec::len), Some(2), "{all}");
    gate.outcome("config-update", "w-2", "all", "Applied").await;
    let all = gate.until("commands/c-all", |command| command["missing"] == 1).await;
    let told = gate.run(&["commands", "c-all"]).await;
    assert_eq!(told.0, 0, "{}", told.2);
    let row =
        |instance: &str| told.1.lines().find(|line| line.starts_with(&format!("kestrel/worker/{instance} ")));
    assert!(row("w-1").is_some_and(|line| line.contains("missing")), "{all}\n{}", told.1);
    assert!(row("w-2").is_some_and(|line| line.contains("Applied")), "{}", told.1);
    // A target that is not there.
    gate.command("config-update", "w-9", "absent").await;
    gate.until("commands/c-absent", |command| command["state"] == "parked").await;
    let parked = gate.page("commands?state=parked").await;
    assert_eq!(parked["commands"].as_array().map(Vec::len), Some(1), "{parked}");
    gate.stop().await;
}

/// What the router does at once is in flight nowhere, and a status that answers a question has no
/// correlationId.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_at_once_or_by_a_status_is_found() {
    let gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 1).await;
    gate.command("status-request", "w-1", "asked").await;
    gate.until("commands/c-asked", |command| command["state"] == "carried").await;
    gate.status("w-1", true).await;
    let asked = gate.until("commands/c-asked", |command| command["state"] == "ended").await;
    assert_eq!((&asked["status"], &asked["success"]), (&json!("Reported"), &json!(true)), "{asked}");
    let data = json!({ "mode": "SAFE", "reason": "drill" });
    let mut order = envelope("signal", "safety-set", "orc", "ALL", Some("safe"), &data);
    let mut body: Value = serde_json::from_slice(&order.body).expect("JSON");
    body["scope"]["role"] = json!("ALL");
    (order.body, order.routing_key) =
        (body.to_string().into(), "signal.safety-set.kestrel.ALL.ALL".to_owned());
    gate.say(order).await;
    let safe = gate.until("commands/c-safe", |command| command["state"] == "ended").await;
    assert_eq!((&safe["status"], &safe["success"]), (&json!("Applied"), &json!(true)), "{safe}");
    assert!(safe["deadline"].is_null() && safe["endedAt"].is_string(), "{safe}");
    let (code, told, fault) = gate.run(&["wait", "c-safe"]).await;
    assert!(code == 0 && told.contains("Applied"), "{told}{fault}");
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_says_what_to_do() {
    let gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 1).await;
    for (page, status, code, says) in [
        ("inventory/nobody", 404, "api.unknown", "nobody"),
        ("inventory/kestrel/worker/w-7", 404, "api.unknown", "kestrel/worker/w-7"),
        ("commands/999999", 404, "api.unknown", "999999"),
        ("commands/no%20such", 404, "api.unknown", "no such"),
        ("nothing", 404, "api.no-such-path", "/nothing"),
        ("inventory/kestrel?limit=0", 400, "api.bad-parameter", "from 1 to 1000"),
        ("inventory/kestrel?after=w-1", 400, "api.bad-parameter", "role/instance"),
        ("inventory?swarm=kestrel", 400, "api.bad-parameter", "`swarm`"),
        ("commands?state=lost", 400, "api.bad-parameter", "in-flight, parked"),
        ("graph?format=svg", 400, "api.bad-parameter", "json, dot"),
        ("impact", 400, "api.bad-parameter", "neither"),
        ("impact?instance=a/b/c&queue=q", 400, "api.bad-parameter", "both"),
        ("impact?instance=a", 400, "api.bad-parameter", "swarm/role/instance"),
    ] {
        let (got, body) = gate.get(page).await;
        assert_eq!(
            (got, body["status"].as_u64(), body["code"].as_str()),
            (status, Some(u64::from(status)), Some(code))
        );
        assert!(body.to_string().contains(says) && body["nextStep"].is_string(), "{page}: {body}");
    }
    let (status, body) = gate.asked("POST", "/api/v1/commands", "localhost").await;
    assert!(status == 405 && body.contains("api.read-only"), "{body}");
    for path in ["/api/v1/overview", "/api/v1/nothing"] {
        let (status, body) = gate.asked("GET", path, "evil.example").await;
        assert!(status == 421 && body.contains("api.foreign-host"), "{body}");
    }
    // Machines may name the window as they like: it tells no more than counts.
    assert_eq!(gate.asked("GET", "/healthz", "gate-1.example").await.0, 200);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_is_shown_at_the_terminal() {
    let gate = Gate::start().await;
    let (code, told, _) = gate.run(&["inventory"]).await;
    assert_eq!((code, told.contains("no swarm has been seen")), (0, true), "{told}");
    for instance in ["w-1", "w-2"] {
        gate.status(instance, true).await;
    }
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 2).await;
    let (code, told, _) = gate.run(&["inventory"]).await;
    let row: Vec<&str> = told.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!((code, &row[..4]), (0, &["kestrel", "-", "2", "2"][..]), "{told}");
    let (code, told, _) = gate.run(&["inventory", "kestrel"]).await;
    assert!(code == 0 && told.contains("worker/w-1  ") && told.contains("  12  "), "{told}");
    let (code, told, _) = gate.run(&["inventory", "kestrel", "--output", "json"]).await;
    let read: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((code, read["instances"].as_array().map(Vec::len)), (0, Some(2)), "{told}");
    let (code, told, _) = gate.run(&["inventory", "impact", "kestrel/worker/w-2"]).await;
    assert!(code == 0 && told.contains("queue made.w-2"), "{told}");
    let (code, told, _) = gate.run(&["inventory", "graph", "--dot"]).await;
    assert!(code == 0 && told.starts_with("digraph"), "{told}");
    let (code, told, fault) = gate.run(&["inventory", "nobody"]).await;
    assert_eq!((code, told.as_str()), (2, ""));
    assert!(fault.contains("`nobody` is not known") && fault.contains("help: "), "{fault}");
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_with_what_became_of_the_command() {
    let gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 1).await;
    // It is waited for before it is sent, and ends while it is waited for.
    let url = gate.url();
    let waiting = tokio::spawn(async move { run(&url, &["wait", "c-good", "--timeout", "15"]).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    gate.command("config-update", "w-1", "good").await;
    gate.until("commands/c-good", |command| command["state"] == "carried").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    gate.outcome("config-update", "w-1", "good", "Applied").await;
    let (code, told, fault) = waiting.await.expect("a wait");
    assert_eq!(code, 0, "{told}{fault}");
    assert!(told.contains(": carried") && told.contains("ended: Applied"), "{told}");
    // It ended before it is waited for, and not well.
    gate.command("config-update", "w-1", "bad").await;
    gate.until("commands/c-bad", |command| command["state"] == "carried").await;
    gate.outcome("config-update", "w-1", "bad", "Failed").await;
    gate.until("commands/c-bad", |command| command["state"] == "ended").await;
    let (code, told, _) = gate.run(&["wait", "c-bad", "--output", "json"]).await;
    let read: Value = serde_json::from_str(&told).expect("one JSON value");
    assert_eq!((code, &read["status"]), (3, &json!("Failed")));
    // The router ends it at its deadline.
    gate.command("swarm-plan", "w-1", "late").await;
    gate.until("commands/c-late", |command| command["type"] == "swarm-plan").await;
    let (code, told, _) = gate.run(&["wait", "c-late"]).await;
    assert!(code == 3 && told.contains("TimedOut"), "{told}");
    // It does not end.
    gate.command("config-update", "w-1", "slow").await;
    gate.until("commands/c-slow", |command| command["state"] == "carried").await;
    let started = Instant::now();
    let (code, told, _) = gate.run(&["wait", "c-slow", "--timeout", "1"]).await;
    assert!(code == 1 && told.contains("still in flight"), "{told}");
    assert!(started.elapsed() < PATIENCE / 2);
    let (code, _, fault) = gate.run(&["wait", "c-nobody"]).await;
    assert!(code == 2 && fault.contains("`c-nobody` is not known"), "{fault}");
    let url = gate.url();
    gate.stop().await;
    let (code, _, fault) = run(&url, &["wait", "c-slow"]).await;
    assert!(code == 4 && fault.contains("--api") && fault.contains(&url), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_outlasts_a_restart_of_the_router() {
    let mut gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.command("config-update", "w-1", "long").await;
    gate.until("commands/c-long", |command| command["state"] == "carried").await;
    let url = gate.url();
    let waiting = tokio::spawn(async move { run(&url, &["wait", "c-long", "--timeout", "15"]).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    gate.go_down().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!waiting.is_finished(), "it did not wait for the router");
    gate.go_up().await;
    gate.outcome("config-update", "w-1", "long", "Applied").await;
    let (code, told, fault) = waiting.await.expect("a wait");
    assert_eq!((code, fault.as_str()), (0, ""), "{told}");
    assert!(told.contains("ended: Applied"), "{told}");
    gate.stop().await;
}

/// An address that was free a moment ago.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

#[tokio::test]
async fn nothing_is_sent_that_cannot_be_waited_for() {
    let url = format!("http://{}", free());
    let (code, told, fault) =
        run(&url, &["send", "swarm-stop", "kestrel/worker/w-1", "--wait", "--amqp", "amqp://127.0.0.1:1"])
            .await;
    assert_eq!((code, told.as_str()), (4, ""));
    assert!(fault.contains(&url) && fault.contains("--api") && !fault.contains("amqp"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_is_whole_in_a_terminal_and_gives_it_back() {
    let gate = Gate::start().await;
    for instance in ["w-1", "w-2"] {
        gate.status(instance, true).await;
    }
    gate.command("config-update", "w-1", "one").await;
    gate.until("commands/c-one", |command| command["state"] == "carried").await;
    let (code, told, fault) = gate.run(&["top", "--once"]).await;
    assert_eq!((code, fault.as_str(), told.lines().count()), (0, "", 24), "{told}");
    for said in ["swarmgate gate-1  dev  enforce", "ledger writable", "kestrel ", "config-update", "urgent"] {
        assert!(told.contains(said), "{said}\n{told}");
    }
    let mut terminal = Terminal::open();
    terminal.run(&["top", "--api", &gate.url()]);
    let screen =
        terminal.until("the fleet", |screen| screen.contains("kestrel ") && screen.contains("config-update"));
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    for said in ["swarmgate gate-1", "broker connected", "fleet: 2 instances", "1 in flight", "q quit"] {
        assert!(screen.contains(said), "{said}\n{screen}");
    }
    assert_eq!(terminal.modes(), "alternate=1 cursor=0");
    // It follows what happens, and says so when nobody answers any more.
    gate.outcome("config-update", "w-1", "one", "Applied").await;
    terminal.until("the end of the command", |screen| screen.contains("0 in flight"));
    let url = gate.url();
    gate.stop().await;
    let screen = terminal.until("the loss", |screen| screen.contains("no router can be reached at"));
    assert!(screen.contains("kestrel ") && screen.contains("asking again"), "{screen}");
    terminal.keys(&["q"]);
    let screen = terminal.until("the end", |screen| screen.contains("ended with 0"));
    assert!(!screen.contains("fleet:"), "{screen}");
    assert_eq!(terminal.modes(), "alternate=0 cursor=1");
    // A signal gives the terminal back too, and the shell's lines are read as before.
    terminal.run(&["top", "--api", &url]);
    terminal.until("the screen", |screen| screen.contains("nothing seen yet"));
    terminal.signal_swarmgate();
    terminal.until("the end", |screen| screen.contains("ended with 0"));
    terminal.keys(&["echo back-$((40+2))", "Enter"]);
    terminal.until("the shell", |screen| screen.contains("back-42"));
    assert_eq!(terminal.modes(), "alternate=0 cursor=1");
}

mod on_rabbitmq {
    use std::sync::Arc;

    use super::{gate::swarmgate, *};
    use crate::{
        broker::Broker,
        router::{Inbox, body, outcome, process::Beside, send},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_sent_is_waited_for() {
        let vhost = Arc::new(Broker::shared()).vhost("api-send-wait");
        let (amqp, http, dir) =
            (vhost.options().url, free().to_string(), tempfile::tempdir().expect("a directory"));
        let ledger = dir.path().to_str().expect("a path");
        let mut router = swarmgate(&["run", "--amqp", &amqp, "--http", &http, "--ledger", ledger]);
        let _router = Beside(router.spawn().expect("the router starts"));
        let api = format!("http://{http}");
        let started = Instant::now();
        while !run(&api, &["top", "--once"]).await.1.contains("broker connected") {
            assert!(started.elapsed() < PATIENCE, "the router does not become ready");
        }
        let bus = vhost.connect().await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        for (name, status, code) in [("good", "Ready", 0), ("bad", "Failed", 3)] {
            let (api, amqp) = (api.clone(), amqp.clone());
            let sending = tokio::spawn(async move {
                let (key, correlation) = (format!("i-{name}"), format!("c-{name}"));
                let told = ["--key", &key, "--correlation", &correlation, "--amqp", &amqp];
                let what = ["send", "swarm-plan", "kestrel/worker/w-1", "--wait", "--timeout", "30"];
                run(&api, &[&what[..], &told[..]].concat()).await
            });
            let key = json!(format!("i-{name}"));
            inbox.hear(bus.as_ref(), |all| all.iter().any(|one| body(one)["idempotencyKey"] == key)).await;
            send(bus.as_ref(), &[outcome("swarm-plan", "w-1", name, status)]).await;
            let (ended, told, fault) = sending.await.expect("a send");
            assert_eq!(ended, code, "{told}{fault}");
            assert!(told.contains(&format!("ended: {status}")), "{told}");
        }
        // What is refused before it is a command has no end to wait for, and is told at once.
        let (ended, told, fault) = run(
            &api,
            &["send", "swarm-plan", "kestrel/worker/w-1", "--wait", "--origin", "someone", "--amqp", &amqp],
        )
        .await;
        assert!(ended == 3 && told.contains("identity.origin-mismatch"), "{told}{fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_for_a_command_that_nobody_knows_is_bounded() {
    let gate = Gate::start().await;
    gate.command("config-update", "w-1", "again").await;
    gate.until("commands/c-again", |command| command["state"] == "carried").await;
    gate.outcome("config-update", "w-1", "again", "Applied").await;
    let ended = gate.until("commands/c-again", |command| command["state"] == "ended").await;
    let id = ended["id"].as_str().expect("a number").to_owned();
    assert_eq!(gate.page(&format!("commands/{id}")).await["status"], "Applied");
    // Many at once take their turns, and none of them long.
    let begun = Instant::now();
    for number in 0..50 {
        let (status, problem) = gate.get(&format!("commands/unknown-{number}")).await;
        assert_eq!((status, &problem["code"]), (404, &json!("api.unknown")), "{problem}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // The number of an entry that is no command is nobody's command.
    assert_eq!(gate.get("commands/1").await.0, 404);
    gate.stop().await;
}
