//! Going round the router on a real RabbitMQ, and coming back, by the very commands that `swarmgate
//! bypass` prints.

use std::{
    process::{Command, Output},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use swarmgate::{bus::Bus, contract::message::Message};

use crate::{
    broker::{Broker, Vhost},
    router::{Inbox, body, process::Process, send, signal},
};

/// The commands of one way.
fn commands(vhost: &Vhost, way: &str) -> Vec<String> {
    let management = vhost.broker.management_url();
    let told = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
        .args(["bypass", "--output", "json", "--amqp", &vhost.options().url, "--management", &management])
        .output()
        .expect("a command");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let steps = told["steps"].as_array().expect("steps").iter().filter(|step| step["way"] == way);
    steps
        .flat_map(|step| step["commands"].as_array().expect("commands").clone())
        .map(|command| command.as_str().expect("text").to_owned())
        .collect()
}

fn go(vhost: &Vhost, way: &str) {
    let all = commands(vhost, way);
    assert!(!all.is_empty());
    for command in all {
        let shell = Command::new("sh").args(["-c", &command]).env("BROKER_ADMIN", "guest:guest").output();
        let Output { status, stdout, stderr } = shell.expect("a shell with curl and grep");
        let said = [stdout, stderr].concat();
        assert!(status.success(), "{command}\n{}", String::from_utf8_lossy(&said));
    }
}

/// The script as it is printed, run one way.
fn script(vhost: &Vhost, management: &str, args: &[&str]) -> (Option<i32>, String) {
    let told = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
        .args(["bypass", "--amqp", &vhost.options().url])
        .env("SWARMGATE_AMQP_MANAGEMENT_URL", management)
        .output()
        .expect("a command");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &told.stdout).expect("a script");
    let shell = Command::new("sh").arg(file.path()).args(args).env("BROKER_ADMIN", "guest:guest").output();
    let Output { status, stderr, .. } = shell.expect("a shell with curl and grep");
    (status.code(), String::from_utf8_lossy(&[told.stdout, stderr].concat()).into_owned())
}

fn bound(vhost: &Vhost) -> Vec<String> {
    let bindings = vhost.broker.http("GET", &format!("/api/bindings/{}", vhost.name), "");
    let bindings: Vec<Value> = serde_json::from_str(&bindings).expect("bindings");
    let ours = bindings.iter().filter(|binding| binding["source"] == "swarmgate.in");
    let mut ours: Vec<String> =
        ours.map(|binding| format!("{} {}", binding["destination"], binding["routing_key"])).collect();
    ours.sort();
    ours
}

async fn becomes(vhost: &Vhost, wanted: &[String]) {
    let within = Instant::now() + Duration::from_secs(30);
    while bound(vhost) != wanted {
        assert!(Instant::now() < within, "{:?}", bound(vhost));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn heard(inbox: &Inbox, name: &str) -> usize {
    let key = format!("i-{name}");
    inbox.heard.iter().filter(|message| body(message)["idempotencyKey"] == *key).count()
}

async fn hears(bus: &dyn Bus, inbox: &mut Inbox, name: &str) {
    let key = format!("i-{name}");
    let there = |heard: &[Message]| heard.iter().any(|message| body(message)["idempotencyKey"] == *key);
    inbox.hear(bus, there).await;
    assert_eq!(heard(inbox, name), 1, "{name}");
}

#[tokio::test]
async fn what_is_sent_while_the_router_is_gone_round_arrives_and_nothing_is_lost_on_the_way_back() {
    let vhost = Arc::new(Broker::shared()).vhost("bypass");
    let bus = vhost.connect().await;
    let bus = bus.as_ref();
    let router = Process::start(&vhost.options().url);
    router.ready(bus).await;
    let mut inbox = Inbox::open(bus, "inbox", "swarmgate.out").await;
    let stop = |name: &str| signal("swarm-stop", "w-1", name);
    send(bus, &[stop("before")]).await;
    hears(bus, &mut inbox, "before").await;
    let as_the_router_binds = bound(&vhost);
    let ledger = router.stop().await;
    // It waits in the router's queue for as long as the router is away.
    send(bus, &[stop("waiting")]).await;

    go(&vhost, "round");
    assert_eq!(bound(&vhost), ["\"swarmgate.out\" \"#\""]);
    send(bus, &[stop("round")]).await;
    hears(bus, &mut inbox, "round").await;
    assert_eq!(heard(&inbox, "waiting"), 0);
    // Done twice it is done once.
    go(&vhost, "round");
    send(bus, &[stop("round-again")]).await;
    hears(bus, &mut inbox, "round-again").await;

    go(&vhost, "back");
    go(&vhost, "back");
    send(bus, &[stop("between")]).await;
    let router = Process::start_on(&vhost.options().url, ledger);
    for name in ["waiting", "between"] {
        hears(bus, &mut inbox, name).await;
    }
    assert_eq!(bound(&vhost), as_the_router_binds);
    send(bus, &[stop("after")]).await;
    hears(bus, &mut inbox, "after").await;
    // By the router go those that it has on record, and nothing goes twice.
    for (name, by_router) in [
        ("before", true),
        ("waiting", true),
        ("round", false),
        ("round-again", false),
        ("between", true),
        ("after", true),
    ] {
        assert_eq!(heard(&inbox, name), 1, "{name}");
        let audit = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
            .args(["audit", "show", "--output", "json", "--key", &format!("i-{name}")])
            .arg(router.ledger())
            .output()
            .expect("a command");
        assert_eq!(!audit.stdout.is_empty(), by_router, "{name}: {}", String::from_utf8_lossy(&audit.stdout));
    }
    router.stop().await;
}

#[tokio::test]
async fn the_script_goes_one_way_at_a_time_and_says_when_it_failed() {
    let vhost = Arc::new(Broker::shared()).vhost("bypass-script");
    let bus = vhost.connect().await;
    let router = Process::start(&vhost.options().url);
    router.ready(bus.as_ref()).await;
    router.stop().await;
    let management = vhost.broker.management_url().replace("http://", "http://watcher:canary@");
    let as_the_router_binds = bound(&vhost);
    let (code, said) = script(&vhost, &management, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(!said.contains("canary") && said.contains("sh FILE round"), "{said}");
    assert_eq!(bound(&vhost), as_the_router_binds, "nothing is done where no way is named");
    let (code, said) = script(&vhost, &management, &["round"]);
    assert_eq!((code, bound(&vhost)), (Some(0), vec!["\"swarmgate.out\" \"#\"".to_owned()]), "{said}");
    let (code, said) = script(&vhost, &management, &["back"]);
    assert_eq!((code, bound(&vhost)), (Some(0), Vec::new()), "{said}");
    // Nobody listens there: the first line fails, and the script with it.
    let (code, said) = script(&vhost, "http://127.0.0.1:1", &["round"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("this did not work"), "{said}");
}

/// Step 3 was forgotten, or somebody bound it by hand, beside a router that runs.
#[tokio::test]
async fn a_bypass_that_was_left_ends_with_the_router_and_does_not_come_back() {
    let vhost = Arc::new(Broker::shared()).vhost("bypass-left");
    let bus = vhost.connect().await;
    let bus = bus.as_ref();
    let router = Process::start(&vhost.options().url);
    router.ready(bus).await;
    let as_the_router_binds = bound(&vhost);
    let ledger = router.stop().await;
    go(&vhost, "round");
    let router = Process::start_on(&vhost.options().url, ledger);
    router.ready(bus).await;
    // A router that starts ends it.
    becomes(&vhost, &as_the_router_binds).await;
    let mut inbox = Inbox::open(bus, "inbox", "swarmgate.out").await;
    send(bus, &[signal("swarm-stop", "w-1", "once")]).await;
    hears(bus, &mut inbox, "once").await;
    let path = format!("/api/bindings/{}/e/swarmgate.in/e/swarmgate.out", vhost.name);
    vhost.broker.http("POST", &path, r##"{"routing_key":"#"}"##);
    becomes(&vhost, &as_the_router_binds).await;
    router.stop().await;
}
