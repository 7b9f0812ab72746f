//! `swarmgate doctor` on a real RabbitMQ: what only the broker's management tells.
//!
//! Owns: that policies which can drop and queues which can hold are named, with what they mean and
//! what to do.
//! Never: looks into the process; each finding is read as a script reads it.
//! Holds: each policy, queue and exchange is a real one, in a virtual host of the test's own.

use std::{
    collections::BTreeMap,
    io::Read,
    net::TcpListener,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    broker::{Broker, Vhost},
    hostile::{free_address, get},
    router::process::Process,
};

/// How long the broker may take until it tells what is in force on a queue.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the doctor finds with those arguments, and its exit code.
async fn doctor(vhost: &Vhost, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
        .args(["doctor", "--output", "json", "--ledger", "/nonexistent", "--amqp", &vhost.options().url])
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.expect("in time").expect("it");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    let findings = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (output.status.code(), findings)
}

fn put(vhost: &Vhost, kind: &str, name: &str, body: &Value) {
    vhost.broker.http("PUT", &format!("/api/{kind}/{}/{name}", vhost.name), &body.to_string());
}

fn policy(vhost: &Vhost, kind: &str, name: &str, pattern: &str, definition: Value) {
    let body = json!({ "pattern": pattern, "apply-to": "all", "definition": definition });
    put(vhost, kind, name, &body);
}

fn bind(vhost: &Vhost, exchange: &str, to: &str, kind: &str) {
    let path = format!("/api/bindings/{}/e/{exchange}/{kind}/{to}", vhost.name);
    vhost.broker.http("POST", &path, r##"{"routing_key":"#"}"##);
}

/// The findings about an object: state and property.
fn about<'a>(findings: &'a [Value], object: &str) -> BTreeMap<&'a str, &'a str> {
    let of = |finding: &&Value| finding["object"] == object;
    let row = |finding: &'a Value| Some((finding["property"].as_str()?, finding["state"].as_str()?));
    findings.iter().filter(of).filter_map(row).collect()
}

async fn declared_by_the_router(vhost: &Vhost) {
    let router = Process::start(&vhost.options().url);
    let bus = vhost.connect().await;
    router.ready(bus.as_ref()).await;
    router.stop().await;
}

/// Everything that can drop or hold, on one broker; the same is found on every release.
async fn names_all(broker: Broker, test: &str) {
    let vhost = Arc::new(broker).vhost(test);
    let management = vhost.broker.management_url();
    declared_by_the_router(&vhost).await;
    let look = ["--management", &management];
    let (code, findings) = doctor(&vhost, &look).await;
    assert_eq!(code, Some(0), "{findings:#?}");
    for check in ["own queue", "subscriber"] {
        let states: Vec<_> = findings.iter().filter(|found| found["check"] == check).collect();
        assert!(states.len() == 1 && states[0]["state"] == "ok", "{states:?}");
    }

    policy(&vhost, "policies", "ttl", "^swarmgate.in.signals", json!({ "message-ttl": 60000 }));
    policy(&vhost, "policies", "alternate", "^swarmgate.out$", json!({ "alternate-exchange": "amq.fanout" }));
    let ops = json!({ "expires": 3_600_000 });
    let body = json!({ "pattern": "^swarmgate.in.urgent", "apply-to": "queues", "definition": ops });
    put(&vhost, "operator-policies", "ops", &body);
    let arguments = json!({ "x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish" });
    put(&vhost, "queues", "evil%1b%5b31mq", &json!({ "durable": true, "arguments": arguments }));
    bind(&vhost, "swarmgate.out", "evil%1b%5b31mq", "q");
    // Behind an exchange of somebody's; full, so that it drops.
    put(&vhost, "exchanges", "theirs", &json!({ "type": "fanout", "durable": true }));
    bind(&vhost, "swarmgate.out", "theirs", "e");
    put(&vhost, "queues", "full", &json!({ "durable": true, "arguments": { "x-max-length": 1 } }));
    bind(&vhost, "theirs", "full", "q");
    let publish =
        json!({ "properties": {}, "routing_key": "full", "payload": "x", "payload_encoding": "string" });
    let path = format!("/api/exchanges/{}/amq.default/publish", vhost.name);
    vhost.broker.http("POST", &path, &publish.to_string());

    // The broker tells how full a queue is some seconds later.
    let until = Instant::now() + PATIENCE;
    let findings = loop {
        let (code, findings) = doctor(&vhost, &look).await;
        assert_eq!(code, Some(1), "{findings:#?}");
        if !about(&findings, "full").is_empty() || Instant::now() > until {
            break findings;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let of = |object: &str| about(&findings, object);
    let expect = |object: &str, property: &str, state: &str| {
        assert_eq!(of(object), BTreeMap::from([(property, state)]), "{object}: {findings:#?}");
    };
    expect("swarmgate.in.signals.v2", "`message-ttl: 60000` by policy `ttl`", "warn");
    expect("swarmgate.in.urgent.v2", "`expires: 3600000` by operator policy `ops`", "FAIL");
    expect("swarmgate.out", "its alternate exchange is `amq.fanout`, by policy `alternate`", "FAIL");
    let rejecting = "`overflow: reject-publish` with `max-length: 1` by its arguments";
    expect("evil\u{1b}[31mq", rejecting, "warn");
    expect("full", "it holds 1 of at most 1 messages", "warn");
    for finding in findings.iter().filter(|finding| finding["object"].is_string()) {
        assert!(finding["next"].as_str().is_some_and(|next| !next.is_empty()), "what to do? {finding}");
    }
    // For people: no name of somebody's steers a terminal.
    let shown = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
        .args(["doctor", "--ledger", "/nonexistent", "--management", &management])
        .args(["--amqp", &vhost.options().url])
        .output()
        .await
        .expect("it");
    let shown = String::from_utf8(shown.stdout).expect("UTF-8");
    assert!(shown.contains("`evil\u{fffd}[31mq`") && !shown.contains('\u{1b}'), "{shown}");
}

/// An alarm is told where nothing but the router's own status is published: by the router, by the
/// doctor, and to whoever sends.
async fn tells_of_an_alarm(broker: Broker, test: &str) {
    let vhost = Arc::new(broker).vhost(test);
    let http = free_address();
    let dir = TempDir::new().expect("a directory");
    let router = Process::configured(&vhost.options().url, dir, &["--http", &http]);
    router.ready(vhost.connect().await.as_ref()).await;
    let says = async |word: &str| {
        let until = Instant::now() + PATIENCE;
        while !get(&http, "/readyz").await.contains(word) {
            assert!(Instant::now() < until, "{}", get(&http, "/readyz").await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    says("HTTP/1.1 200").await;
    vhost.broker.ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    says("broker-blocked").await;
    let (code, findings) = doctor(&vhost, &[]).await;
    let alarm = findings.iter().find(|found| found["check"] == "alarm").expect("it looks");
    assert!(code == Some(1) && alarm["state"] == "FAIL", "{alarm}");
    let mut send = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
    send.args(["send", "status-request", "s/r/i", "--amqp", &vhost.options().url]).kill_on_drop(true);
    let sent =
        tokio::time::timeout(Duration::from_secs(60), send.output()).await.expect("in time").expect("it");
    let said = String::from_utf8_lossy(&sent.stderr);
    assert_eq!(sent.status.code(), Some(4), "{said}");
    assert!(said.contains("did not answer") && said.contains("list_alarms"), "{said}");
    vhost.broker.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    says("HTTP/1.1 200").await;
    router.stop().await;
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn an_alarm_is_told_by_the_router_the_doctor_and_who_sends() {
        tells_of_an_alarm(Broker::own("alarm"), "alarm").await;
    }

    #[tokio::test]
    async fn an_alarm_is_told_on_rabbitmq_4_too() {
        let Some(broker) = Broker::own_4("alarm-4") else { return };
        tells_of_an_alarm(broker, "alarm").await;
    }

    #[tokio::test]
    async fn a_doctor_names_what_can_drop_or_hold_messages() {
        names_all(Broker::shared(), "doctor-names").await;
    }

    #[tokio::test]
    async fn a_doctor_names_the_same_on_rabbitmq_4() {
        let Some(broker) = Broker::own_4("doctor-4") else { return };
        names_all(broker, "doctor-4").await;
    }

    /// A queue of ours that somebody declared before, without what keeps its messages.
    #[tokio::test]
    async fn a_doctor_names_what_a_queue_of_ours_lacks() {
        let vhost = Arc::new(Broker::shared()).vhost("doctor-lacks");
        let bare = json!({ "x-queue-type": "quorum", "x-message-ttl": 1000 });
        put(&vhost, "queues", "swarmgate.in.signals.v2", &json!({ "durable": true, "arguments": bare }));
        put(&vhost, "exchanges", "swarmgate.in", &json!({ "type": "direct", "durable": true }));
        let (code, findings) = doctor(&vhost, &["--management", &vhost.broker.management_url()]).await;
        assert_eq!(code, Some(1));
        let queue = about(&findings, "swarmgate.in.signals.v2");
        assert_eq!(queue.get("`x-dead-letter-exchange` is missing"), Some(&"FAIL"), "{findings:#?}");
        assert_eq!(queue.get("`message-ttl: 1000` by its arguments"), Some(&"FAIL"));
        assert_eq!(queue.get("`x-overflow` is missing"), Some(&"warn"));
        let exchange = about(&findings, "swarmgate.in");
        assert_eq!(exchange.get("its type is `direct`, and `topic` is wanted"), Some(&"FAIL"));
    }

    /// The user of the management need not be the broker's; its password is in no answer.
    #[tokio::test]
    async fn the_management_api_may_have_a_user_of_its_own_and_a_setting() {
        let vhost = Arc::new(Broker::shared()).vhost("doctor-user");
        let user = format!("watch-{}", vhost.name);
        let body = r#"{"password":"can@ry","tags":"monitoring"}"#;
        vhost.broker.http("PUT", &format!("/api/users/{user}"), body);
        let rights = r#"{"configure":"","write":"","read":""}"#;
        vhost.broker.http("PUT", &format!("/api/permissions/{}/{user}", vhost.name), rights);
        let place = vhost.broker.management_url().replace("http://", "");
        let dir = TempDir::new().expect("a directory");
        let file = dir.path().join("swarmgate.yaml");
        let config = format!("amqp: {{management_url: \"http://{user}:can%40ry@{place}\"}}\n");
        std::fs::write(&file, config).expect("a config");
        let (code, findings) = doctor(&vhost, &["--config", file.to_str().expect("UTF-8")]).await;
        vhost.broker.http("DELETE", &format!("/api/users/{user}"), "");
        assert_eq!(code, Some(0), "{findings:#?}");
        assert!(findings.iter().any(|found| found["check"] == "own queue" && found["state"] == "ok"));
        assert!(!findings.iter().any(|found| found.to_string().contains("ry@")), "{findings:#?}");
    }

    /// The doctor's user is not the router's: what the router may do is no way round the gate. And
    /// what a user with the tag `monitoring` is not told is said so.
    #[tokio::test]
    async fn permissions_are_judged_by_the_user_that_the_running_router_says_it_has() {
        let vhost = Arc::new(Broker::shared()).vhost("doctor-whom");
        let user = format!("gate-{}", vhost.name);
        let rights = r#"{"configure":".*","write":".*","read":".*"}"#;
        let make = |tags: &str| {
            let body = format!(r#"{{"password":"secret","tags":"{tags}"}}"#);
            vhost.broker.http("PUT", &format!("/api/users/{user}"), &body);
            vhost.broker.http("PUT", &format!("/api/permissions/{}/{user}", vhost.name), rights);
        };
        make("monitoring");
        let router = Process::start(&vhost.broker.url(&vhost.name, &user, "secret"));
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let place = vhost.broker.management_url().replace("http://", "");
        let watcher = format!("http://{user}:secret@{place}");
        let (_, untold) = doctor(&vhost, &["--management", &watcher]).await;
        make("administrator");
        let (_, told) = doctor(&vhost, &["--management", &watcher]).await;
        router.stop().await;
        vhost.broker.http("DELETE", &format!("/api/users/{user}"), "");
        let named = |findings: &[Value], check: &str| {
            findings.iter().find(|found| found["check"] == check).cloned().unwrap_or_default()
        };
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let skipped = named(&untold, "permissions");
        assert_eq!(skipped["state"], "skipped", "{untold:#?}");
        assert!(text(&skipped, "next").contains("`administrator`"), "{skipped}");
        assert!(text(&named(&told, "router"), "found").contains(&format!("as `{user}`")), "{told:#?}");
        let found = text(&named(&told, "permissions"), "found");
        assert!(!found.contains(&format!("`{user}` may write")), "the router is no way round: {found}");
        assert!(found.contains("the running router is that user"), "{found}");
        // It is as it came, and the router is somebody else.
        let guest = named(&told, "guest");
        assert!(guest["state"] == "warn" && !text(&guest, "found").contains("the router"), "{guest}");
        let refused = named(&told, "refused copies");
        assert!(text(&refused, "found").contains("swarmgate.refused.v2"), "{told:#?}");
    }

    #[tokio::test]
    async fn a_management_api_that_hangs_is_given_up_and_said() {
        let vhost = Arc::new(Broker::shared()).vhost("doctor-hangs");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // Takes every question and answers none.
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming().flatten() {
                let _ = (&stream).read(&mut [0; 64]);
                open.push(stream);
            }
        });
        let since = Instant::now();
        let (code, findings) = doctor(&vhost, &["--management", &format!("http://{address}")]).await;
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
        assert_eq!(code, Some(0));
        let skipped = findings.iter().find(|found| found["check"] == "broker side").expect("a finding");
        assert_eq!(skipped["state"], "skipped");
        assert!(skipped["found"].as_str().is_some_and(|found| found.contains("not looked at")), "{skipped}");
        assert!(skipped["next"].as_str().is_some_and(|next| next.contains("`administrator`")), "{skipped}");
    }
}
