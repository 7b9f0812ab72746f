//! Two hundred planted secrets, end to end: sent through a router, and searched for in every byte
//! that it leaves.
//!
//! Owns: the places of a message that may hold a secret under its name, and where a router could
//! leave one.
//! Never: looks for a secret with the code that masks it; raw bytes are searched.
//! Holds: each secret is a text that occurs nowhere else, and a search that is shown to find it.

use std::{
    io::{self, Read, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use swarmgate::contract::message::{HeaderValue, Message};

use crate::api::gate::{Gate, PATIENCE, envelope, swarmgate};

/// The names that a secret stands behind.
const NAMES: [&str; 10] = [
    "token",
    "apiKey",
    "client_secret",
    "X-Signature",
    "Authorization",
    "bearer",
    "sessionCookie",
    "PRIVATE KEY",
    "passPhrase",
    "db-password",
];
/// The places of a message, see [`sent`].
const PLACES: usize = 20;
/// What a log may not hold either, at its wordiest.
const FILTER: &str = "trace";

/// A secret that occurs nowhere else.
fn secret(place: usize, shape: usize) -> String {
    format!("CANARY{shape:02}Q{place:02}Z7KXW")
}

/// The message that holds the secret of a place under a name. Those of two places need a
/// challenge's id.
fn sent(place: usize, shape: usize, challenge: &str) -> Message {
    let (name, value) = (NAMES[shape], secret(place, shape));
    let own = format!("{place}-{shape}");
    let held = json!({ name: value });
    let signal = |kind_type: &str, more: Value| {
        let mut data = held.clone();
        for (name, value) in more.as_object().cloned().unwrap_or_default() {
            data[name] = value;
        }
        envelope("signal", kind_type, "orc", "w-1", Some(&own), &data)
    };
    let update = |data: &Value| envelope("signal", "config-update", "orc", "w-1", Some(&own), data);
    // An outcome answers the command of the place by that number.
    let outcome = |of: usize, data: Value| {
        envelope("outcome", "config-update", "w-1", "w-1", Some(&format!("{of}-{shape}")), &data)
    };
    let full = |config: &Value, context: &Value| {
        let data = json!({
            "enabled": true, "startedAt": "2026-01-01T00:00:00Z", "config": config, "context": context, "io": {},
            "ioState": { "work": { "input": "ok", "output": "ok" } },
        });
        envelope("metric", "status-full", "w-1", "w-1", None, &data)
    };
    match place {
        0 => signal("config-update", json!({ "rate": 3 })),
        1 => update(&json!({ "sinks": [{ "inner": { "list": [held] } }] })),
        2 => update(&json!({ name: { "value": value, "version": 1 } })),
        3 => update(&json!({ name: ["first", value] })),
        4 => signal("swarm-plan", json!({})),
        5 => signal("bot-init", json!({ "requestedTransition": "CREATED->IDLE" })),
        6 => signal("bot-start", json!({ "mode": "live", "requestedTransition": "PAUSED->RUNNING_LIVE" })),
        7 => signal("secret-rotate", json!({ "reason": "it is time" })),
        8 => signal("data-delete", json!({ "reason": "it is old" })),
        9 => signal("challenge-reject", json!({ "challengeId": challenge, "reason": "not today" })),
        10 => signal("challenge-confirm", json!({ "challengeId": challenge, "reason": "agreed" })),
        11 => signal("safety-set", json!({ "mode": "NORMAL", "reason": "as it is" })),
        12 => signal("support-bundle", json!({})),
        13 => outcome(0, json!({ "status": "Applied", name: value })),
        14 => outcome(1, json!({ "status": "Applied", "context": { "headers": held } })),
        15 => {
            let data = json!({ "level": "warn", "code": "io.refused", "message": "no", "context": held });
            let mut message = envelope("event", "alert", "w-1", "w-1", Some(&own), &data);
            message.routing_key = "event.alert.alert.kestrel.worker.w-1".to_owned();
            message
        }
        16 => full(&json!({ "sink": held }), &json!({})),
        17 => full(&json!({}), &json!({ "client": held })),
        18 => {
            let mut message = update(&json!({ "rate": shape }));
            message.properties.headers = vec![
                (name.to_owned().into(), HeaderValue::Text(value.clone())),
                ("authorization".to_owned().into(), HeaderValue::Text(format!("Bearer {value}"))),
            ];
            message
        }
        _ => refused(shape, update(&held)),
    }
}

/// A message that is refused, each by another gate or at another place.
fn refused(shape: usize, mut message: Message) -> Message {
    let text = String::from_utf8(message.body.to_vec()).expect("text");
    match shape % 5 {
        // Broken behind the secret, and before it.
        0 => message.body = format!("{}, \"n\": }}", text.trim_end_matches('}')).into(),
        1 => message.body = text.replacen('{', "{\"n\": ,", 1).into(),
        // A key twice.
        2 => message.body = text.replacen('{', "{\"kind\":\"signal\",", 1).into(),
        // No such member.
        3 => message.body = text.replacen('{', "{\"extra\":1,", 1).into(),
        // The key says otherwise.
        _ => message.routing_key = message.routing_key.replace("w-1", "w-2"),
    }
    message
}

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was left somewhere, with the name of that place.
struct Left(Vec<(String, Vec<u8>)>);

impl Left {
    fn add(&mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((what.into(), bytes.into()));
    }

    /// A directory's files; archives as they are and unpacked.
    fn add_files(&mut self, directory: &Path) {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.display().to_string();
            if path.is_dir() {
                self.add_files(&path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            if name.ends_with(".tar.gz") {
                let mut raw = Vec::new();
                GzDecoder::new(bytes.as_slice()).read_to_end(&mut raw).expect("gzip");
                self.add(format!("{name} unpacked"), raw);
            }
            self.add(name, bytes);
        }
    }

    /// Which of the secrets stand where.
    fn found(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (what, bytes) in &self.0 {
            // All of them begin alike, so one pass over the bytes is enough.
            let text = String::from_utf8_lossy(bytes);
            for (at, begin) in text.match_indices("CANARY") {
                let rest = text.get(at + begin.len()..).unwrap_or_default();
                found.push((what.clone(), rest.chars().take(5).collect()));
            }
        }
        found
    }
}

/// The ids of the open challenges of a type.
async fn challenges(gate: &Gate, kind_type: &str) -> Vec<String> {
    let page = gate
        .until("challenges", |page| {
            page["challenges"].as_array().is_some_and(|open| {
                open.iter().filter(|open| open["operation"] == kind_type).count() == NAMES.len()
            })
        })
        .await;
    let open = page["challenges"].as_array().expect("a list").iter();
    let open = open.filter(|open| open["operation"] == kind_type);
    open.map(|open| open["challengeId"].as_str().expect("an id").to_owned()).collect()
}

/// Sends all of them; asks the router's pages while the challenges are open, and when everything is
/// done.
async fn send_all(gate: &Gate, left: &mut Left) -> usize {
    let mut planted = 0;
    let mut open = Vec::new();
    for place in 0..PLACES {
        let ids = match place {
            9 => challenges(gate, "secret-rotate").await,
            10 => challenges(gate, "data-delete").await,
            _ => vec![String::new(); NAMES.len()],
        };
        if place == 9 {
            open.clone_from(&ids);
            look(gate, &ids, left).await;
        }
        if matches!(place, 13 | 14) {
            let asked = format!("commands/c-{}-9", place - 13);
            gate.until(&asked, |command| command["state"] == "carried").await;
        }
        for (shape, id) in ids.iter().enumerate() {
            gate.say(sent(place, shape, id)).await;
            planted += 1;
        }
    }
    // Ten bundles at once take their time on a busy machine.
    let mut asked = 0;
    while gate.get("commands/c-12-9").await.1["state"] != "ended" {
        asked += 1;
        assert!(asked < 1200, "the support bundles are not made");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gate.until("commands/c-0-9", |command| command["state"] == "ended").await;
    gate.until("commands/c-18-9", |command| command["state"] == "carried").await;
    look(gate, &open, left).await;
    planted
}

/// What the window, the terminal and a bundle tell.
async fn look(gate: &Gate, open: &[String], left: &mut Left) {
    let mut pages: Vec<String> =
        ["overview", "inventory", "inventory/kestrel", "inventory/kestrel/worker/w-1", "safety", "graph"]
            .into_iter()
            .chain(["challenges", "commands", "impact?instance=kestrel/worker/w-1"])
            .map(str::to_owned)
            .collect();
    pages.extend(
        (0..PLACES).flat_map(|place| (0..10).map(move |shape| format!("commands/c-{place}-{shape}"))),
    );
    pages.extend(open.iter().map(|id| format!("challenges/{id}")));
    for page in pages {
        left.add(page.clone(), gate.get(&page).await.1.to_string());
    }
    left.add("/metrics", gate.asked("GET", "/metrics", "localhost").await.1);
    let id = open.first().map_or("none", String::as_str);
    for args in [
        &["commands"][..],
        &["inventory"],
        &["challenge", "list"],
        &["challenge", "show", id],
        &["challenge", "show", "c-none"],
        &["safety"],
    ] {
        let (_, told, fault) = gate.run(args).await;
        left.add(args.join(" "), told + &fault);
    }
}

/// What the tools tell of the ledger, and of a config with a secret in it that does not load.
fn tell(ledger: &Path, left: &mut Left) {
    let ledger = ledger.to_str().expect("a path");
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("swarmgate.yaml");
    let text =
        format!("amqp:\n  url: amqp://u:{}@h:1/v\n  passwrd: {}\nmode: no\n", secret(99, 0), secret(99, 1));
    std::fs::write(&config, text).expect("a config");
    let config = config.to_str().expect("a path");
    let bundle = dir.path().join("bundle.tar.gz");
    let bundle = bundle.to_str().expect("a path");
    for args in [
        &["audit", "tail", ledger][..],
        &["audit", "tail", ledger, "--output", "json"],
        &["audit", "verify", ledger],
        &["audit", "verify", config],
        &["check", "config", config],
        &["run", "--config", config],
        &["support-bundle", "--ledger", ledger, "--out", bundle],
    ] {
        let output = swarmgate(args).output().expect("a run");
        left.add(args.join(" "), [output.stdout, output.stderr].concat());
    }
    std::fs::remove_file(config).expect("the config is ours");
    left.add_files(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_secrets_leave_nothing_behind() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_env_filter(FILTER).with_writer(move || writer.clone()).init();
    let mut gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 1).await;
    let mut left = Left(Vec::new());
    assert_eq!(send_all(&gate, &mut left).await, 200);
    gate.go_down().await;
    tell(gate.ledger(), &mut left);
    bundles_are_written(gate.ledger()).await;
    left.add_files(gate.ledger());
    left.add("the log", log.0.lock().expect("a log").clone());
    let mut empty = left.0.iter().filter(|(what, bytes)| bytes.is_empty() && !what.ends_with("-wal"));
    assert_eq!(empty.next().map(|(what, _)| what), None, "it is empty");
    assert_eq!(left.found(), [], "secrets were left behind");
    // What stands around them is still there, so that they would have been too.
    let whole = |what: &str| {
        let found = left.0.iter().find(|(name, _)| name.ends_with(what));
        String::from_utf8_lossy(&found.unwrap_or_else(|| panic!("no {what}")).1).into_owned()
    };
    let written = whole("ledger.sqlite");
    for (place, mark) in [(0, "c-0-9"), (8, "c-8-3"), (10, "c-10-3"), (15, "c-15-0"), (13, "***")] {
        assert!(written.contains(mark), "nothing of place {place} is in the ledger");
    }
    assert!(whole("the log").contains("the ledger is verified"));
}

/// A bundle that was asked for last may be under way still when the router has stopped.
async fn bundles_are_written(dir: &Path) {
    let under_way = || {
        let files = std::fs::read_dir(dir.join("support-bundles")).into_iter().flatten().flatten();
        files.into_iter().any(|file| file.file_name().to_string_lossy().ends_with(".tmp"))
    };
    let since = Instant::now();
    while under_way() {
        assert!(since.elapsed() < PATIENCE, "a bundle is not finished");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A config with a secret in it compares although the ledger knows only its mask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_masked_config_is_no_drift() {
    let gate = Gate::start().await;
    let full = |config: &Value| {
        let data = json!({
            "enabled": true, "startedAt": "2026-01-01T00:00:00Z", "config": config, "io": {},
            "ioState": { "work": { "input": "ok", "output": "ok" } },
        });
        envelope("metric", "status-full", "w-1", "w-1", None, &data)
    };
    let config = json!({ "rate": 3, "sink": { "dbPassword": "hunter2" } });
    gate.say(full(&json!({}))).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 1).await;
    gate.say(envelope("signal", "config-update", "orc", "w-1", Some("one"), &config)).await;
    gate.until("commands/c-one", |command| command["state"] == "carried").await;
    gate.outcome("config-update", "w-1", "one", "Applied").await;
    gate.until("commands/c-one", |command| command["state"] == "ended").await;
    let page = "inventory/kestrel/worker/w-1";
    gate.say(full(&json!({ "rate": 4, "sink": { "dbPassword": "hunter2" } }))).await;
    let digests = |view: &Value| (view["configDigest"].clone(), view["desiredConfigDigest"].clone());
    let told = gate.until(page, |view| !view["desiredConfigDigest"].is_null()).await;
    assert_ne!(digests(&told).0, digests(&told).1);
    assert_eq!(told["drift"], true, "{told}");
    gate.say(full(&config)).await;
    let mut told = gate.until(page, |view| view["configDigest"] != told["configDigest"]).await;
    assert_eq!(digests(&told).0, digests(&told).1);
    assert_eq!(told["drift"], false, "{told}");
    // What is too large to be remembered leaves unknown what the instance should have, also under
    // what is on top of it.
    for (id, patch) in [("two", json!({ "pad": "x".repeat(9_000) })), ("three", json!({ "rate": 5 }))] {
        gate.say(envelope("signal", "config-update", "orc", "w-1", Some(id), &patch)).await;
        gate.until(&format!("commands/c-{id}"), |command| command["state"] == "carried").await;
        gate.outcome("config-update", "w-1", id, "Applied").await;
        gate.until(&format!("commands/c-{id}"), |command| command["state"] == "ended").await;
        gate.say(full(&json!({ "snapshot": id }))).await;
        told = gate.until(page, |view| view["configDigest"] != told["configDigest"]).await;
        assert_eq!((&told["drift"], &told["desiredConfigDigest"]), (&Value::Null, &Value::Null), "{told}");
    }
    gate.stop().await;
}

#[test]
fn the_search_would_find_each_of_them() {
    let mut left = Left(Vec::new());
    for place in 0..PLACES {
        for shape in 0..NAMES.len() {
            let message = sent(place, shape, "c-1");
            let headers = format!("{:?}", message.properties);
            left.add(format!("{place}"), [message.body.to_vec(), headers.into_bytes()].concat());
        }
    }
    let mut found: Vec<String> = left.found().into_iter().map(|(_, which)| which).collect();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 200, "{found:?}");
}
