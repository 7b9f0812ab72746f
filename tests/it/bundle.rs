//! The support bundle: from planted secrets, from a router that runs, and from a ledger alone.
//!
//! Owns: what a person who asks for a bundle gets, and what nobody ever gets with it.
//! Never: looks for a secret with the code that masks it; the raw bytes are searched.
//! Holds: every router has a ledger and an address of its own.

mod planted;
mod recorded;

use std::{
    io::Read,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use swarmgate::{
    config::Config,
    support::{self, BundleLimits, BundlePlace, BundleStamp, gather},
    telemetry::Telemetry,
};

use crate::api::gate::{Gate, PATIENCE, envelope, run, swarmgate};

/// Everything in an archive, as bytes and by member.
struct Unpacked {
    raw: Vec<u8>,
    members: Vec<(String, Vec<u8>)>,
}

impl Unpacked {
    fn of(path: &Path) -> Self {
        let mut raw = Vec::new();
        let file = std::fs::File::open(path).expect("a bundle");
        GzDecoder::new(file).read_to_end(&mut raw).expect("gzip");
        let mut archive = tar::Archive::new(raw.as_slice());
        let member = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.expect("a member");
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its bytes");
            (entry.path().expect("its name").to_string_lossy().into_owned(), bytes)
        };
        let members = archive.entries().expect("members").map(member).collect();
        Self { raw, members }
    }

    fn names(&self) -> Vec<&str> {
        self.members.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn text(&self, name: &str) -> String {
        let found = self.members.iter().find(|(member, _)| member == name);
        let (_, bytes) = found.unwrap_or_else(|| panic!("no {name} in {:?}", self.names()));
        String::from_utf8(bytes.clone()).expect("text")
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).expect("JSON")
    }

    fn holds(&self, text: &str) -> bool {
        self.raw.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

fn ended(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The real binary, away from every config and router.
fn offline(args: &[&str]) -> (Option<i32>, String, String) {
    ended(&swarmgate(&[&["support-bundle"], args].concat()).output().expect("a run"))
}

/// What of `missing.json` is missing.
fn missing(unpacked: &Unpacked) -> Vec<String> {
    let told = unpacked.json("missing.json");
    let rows = told["missing"].as_array().expect("a list").iter();
    rows.map(|row| row["what"].as_str().expect("a name").to_owned()).collect()
}

async fn fleet() -> Gate {
    let gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.status("w-2", false).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 2).await;
    gate.command("config-update", "w-1", "done").await;
    gate.until("commands/c-done", |command| command["state"] == "carried").await;
    gate.outcome("config-update", "w-1", "done", "Applied").await;
    gate.until("commands/c-done", |command| command["state"] == "ended").await;
    gate.command("config-update", "w-2", "open").await;
    gate.until("commands/c-open", |command| command["state"] == "carried").await;
    gate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_told_whole_and_nothing_of_it_is_taken_for_a_secret() {
    let gate = fleet().await;
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("bundle.tar.gz");
    let (out, ledger) = (out.to_str().expect("a path"), gate.ledger().to_str().expect("a path"));
    let made = ["support-bundle", "--ledger", ledger, "--out", out, "--output", "json"];
    let (code, told, fault) = gate.run(&made).await;
    assert_eq!((code, fault.as_str()), (0, ""), "{told}");
    let told: Value = serde_json::from_str(&told).expect("one JSON value");
    assert_eq!(told["redacted"], 0, "{told}");
    let unpacked = Unpacked::of(Path::new(out));
    assert_eq!(unpacked.names()[0], "manifest.json");
    assert_eq!(missing(&unpacked), [""; 0]);
    assert_eq!(unpacked.json("safety.json")["global"]["killSwitch"], "ALLOW");
    assert!(unpacked.json("gates.json")["gates"].is_array());
    assert!(unpacked.json("challenges.json")["challenges"].is_array());
    assert_eq!(unpacked.json("health.json")["ready"]["status"], "ready");
    assert_eq!(unpacked.json("health.json")["overview"]["instance"], "gate-1");
    let inventory = unpacked.json("inventory.json");
    assert_eq!(inventory["swarms"][0]["instances"].as_array().map(Vec::len), Some(2), "{inventory}");
    assert_eq!(unpacked.json("commands.json")["inFlight"][0]["correlationId"], "c-open");
    assert!(unpacked.text("metrics.txt").ends_with("# EOF\n"));
    assert!(unpacked.text("audit.ndjson").contains("c-done"));
    assert_eq!(unpacked.json("config.json")["amqp"]["url"], "amqp://guest:***@127.0.0.1:5672/%2f");
    // Whoever gets it can check it, without anything of the router.
    let (code, told, _) = offline(&["verify", out, "--output", "json"]);
    let report: Value = serde_json::from_str(&told).expect("one JSON value");
    assert_eq!((code, &report["verdict"]), (Some(0), &json!("VALID")), "{told}");
    assert_eq!((&report["audit"]["from"], &report["audit"]["redacted"]), (&json!(1), &json!([])));
    assert_eq!(report["audit"]["head"], swarmgate_head(gate.ledger()).await);
    gate.stop().await;
}

/// The hash of a ledger's last entry, as the ledger itself says it.
async fn swarmgate_head(ledger: &Path) -> Value {
    json!(swarmgate::ledger::verify::verify(ledger).await.expect("a ledger").head)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_makes_its_own() {
    let gate = fleet().await;
    let dir = tempfile::tempdir().expect("a directory");
    let limits = BundleLimits { audit_entries_max: 2, instances_max: 1, ..BundleLimits::default() };
    let (telemetry, config) = (Telemetry::default(), Config::default());
    let asker = gate.running().asker();
    let sources = gather::of_router(asker, &telemetry, &config, gate.ledger(), &limits).await;
    let place = BundlePlace::Directory(dir.path().join("bundles"));
    let created = support::create_aside(place, sources, limits, BundleStamp::new()).await.expect("a bundle");
    let unpacked = Unpacked::of(&created.path);
    assert_eq!(unpacked.text("audit.ndjson").lines().count(), 2);
    let inventory = unpacked.json("inventory.json");
    assert_eq!(inventory["swarms"][0]["instances"].as_array().map(Vec::len), Some(1));
    assert!(missing(&unpacked).contains(&"inventory.json".to_owned()));
    // This telemetry was told of no ledger and no broker.
    assert_eq!(unpacked.json("health.json")["ready"]["status"], "not-ready");
    assert_eq!(unpacked.json("commands.json")["parked"], json!([]));
    gate.stop().await;
}

/// What a careless sender may put into an envelope never leaves in a bundle, though the ledger
/// keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_in_an_envelope_does_not_leave() {
    let gate = fleet().await;
    let canaries: Vec<String> = (0..8).map(|number| format!("c4n4ry{number}Xq7")).collect();
    let data = json!({
        "dbPassword": canaries[0], "nested": { "headers": [{ "name": "Authorization", "value": canaries[1] }] },
        "args": ["run", "--api-key", canaries[2]], "url": format!("https://u:{}@h/v", canaries[3]),
        "note": format!("token={}", canaries[4]), "text": format!("{{\"secret\":\"{}\"}}", canaries[5]),
        "cookies": { "a": canaries[6] },
    });
    gate.say(envelope("signal", "config-update", "orc", "w-1", Some("careless"), &data)).await;
    gate.until("commands/c-careless", |command| command["state"] == "carried").await;
    let text = format!("login failed: Bearer {}", canaries[7]);
    let text = json!({ "code": "io.login", "message": text, "level": "warn" });
    gate.say(envelope("alert", "alert", "w-1", "w-1", Some("alarm"), &text)).await;
    gate.outcome("config-update", "w-1", "careless", "Applied").await;
    gate.until("commands/c-careless", |command| command["state"] == "ended").await;
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("bundle.tar.gz");
    let (out, ledger) = (out.to_str().expect("a path"), gate.ledger().to_str().expect("a path"));
    let (code, told, fault) = gate.run(&["support-bundle", "--ledger", ledger, "--out", out]).await;
    assert_eq!((code, fault.as_str()), (0, ""), "{told}");
    assert!(told.contains("places were masked"), "{told}");
    let unpacked = Unpacked::of(Path::new(out));
    for canary in &canaries {
        assert!(!unpacked.holds(canary), "{canary}");
    }
    let audit = unpacked.text("audit.ndjson");
    assert!(audit.contains("\"dbPassword\":\"***\"") && audit.contains("io.login"), "{audit}");
    let (code, told, _) = offline(&["verify", out]);
    assert!(code == Some(0) && told.contains("were masked: their places are proven"), "{told}");
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_alone_is_enough() {
    let mut gate = fleet().await;
    gate.go_down().await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("a path").to_owned();
    let (out, ledger) = (path("b.tar.gz"), gate.ledger().to_str().expect("a path").to_owned());
    let before = std::fs::read(gate.ledger().join("ledger.sqlite")).expect("a ledger");
    let (code, told, fault) = offline(&["--ledger", &ledger, "--out", &out, "--last", "3"]);
    assert_eq!((code, fault.as_str()), (Some(0), ""), "{told}");
    assert!(told.contains("missing: inventory.json: only a ledger was named"), "{told}");
    assert_eq!(std::fs::read(gate.ledger().join("ledger.sqlite")).expect("a ledger"), before);
    let unpacked = Unpacked::of(Path::new(&out));
    assert_eq!(unpacked.text("audit.ndjson").lines().count(), 3);
    assert_ne!(unpacked.json("audit-proof.json")["from"], 1);
    let (code, told, _) = offline(&["verify", &out]);
    assert!(code == Some(0) && told.starts_with("VALID\n"), "{told}");
    // A file that is there is kept.
    let (code, _, fault) = offline(&["--ledger", &ledger, "--out", &out]);
    assert!(code == Some(2) && fault.contains("is there already") && fault.contains("--out"), "{fault}");
    // One bit is enough.
    let mut bytes = std::fs::read(&out).expect("the bundle");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path("bad.tar.gz"), bytes).expect("a file");
    let (code, told, _) = offline(&["verify", &path("bad.tar.gz")]);
    assert!(code == Some(1) && told.starts_with("INVALID\n"), "{told}");
    assert_eq!(offline(&["verify", &path("none.tar.gz")]).0, Some(2));
    assert_eq!(offline(&["--out", &path("c.tar.gz"), "verify", &out]).0, Some(2));
}

#[test]
fn with_nothing_to_ask_everything_is_missing_and_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("swarmgate.yaml");
    std::fs::write(&config, "amqp:\n  url: amqp://u:sw0rdf1shX@h:1/v\nmode: neither\n").expect("a config");
    let mut command = swarmgate(&["support-bundle", "--api", "http://127.0.0.1:9", "--output", "json"]);
    command.current_dir(dir.path()).args(["--config", config.to_str().expect("a path")]);
    let (code, told, fault) = ended(&command.output().expect("a run"));
    assert_eq!((code, fault.as_str()), (Some(0), ""), "{told}");
    let told: Value = serde_json::from_str(&told).expect("one JSON value");
    let unpacked = Unpacked::of(&dir.path().join(told["path"].as_str().expect("a path")));
    assert_eq!(unpacked.names(), ["manifest.json", "versions.json", "missing.json"]);
    let reasons = unpacked.text("missing.json");
    assert!(reasons.contains("no router can be reached") && reasons.contains("the config does not load"));
    assert!(!unpacked.holds("sw0rdf1shX") && !told.to_string().contains("sw0rdf1shX"));
    assert_eq!(missing(&unpacked).len(), 9, "{reasons}");
}

mod on_rabbitmq {
    use std::sync::Arc;

    use super::*;
    use crate::{broker::Broker, router::process::Beside};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_running_router_tells_all_but_its_password() {
        let vhost = Arc::new(Broker::shared()).vhost("support-bundle");
        let (amqp, dir) = (vhost.options().url, tempfile::tempdir().expect("a directory"));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let http = listener.local_addr().expect("its address").to_string();
        drop(listener);
        let place = |name: &str| dir.path().join(name).to_str().expect("a path").to_owned();
        let config = place("swarmgate.yaml");
        // The password that nobody has: the broker is named by flag, the config is what the bundle
        // tells.
        let text = format!(
            "amqp:\n  url: amqp://gate:c0rrectH0rse@127.0.0.1:1/%2f\nhttp:\n  addr: {http}\nledger:\n  dir: {}\n",
            place("ledger")
        );
        std::fs::write(&config, text).expect("a config");
        let mut router = swarmgate(&["run", "--config", &config, "--amqp", &amqp]);
        let _router = Beside(router.stderr(std::process::Stdio::null()).spawn().expect("the router starts"));
        let (api, started) = (format!("http://{http}"), Instant::now());
        while !run(&api, &["top", "--once"]).await.1.contains("broker connected") {
            assert!(started.elapsed() < PATIENCE, "the router does not become ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let out = place("bundle.tar.gz");
        let args = ["support-bundle", "--config", &config, "--out", &out].map(str::to_owned);
        // Nothing but the config says where the router and its ledger are.
        let made = tokio::task::spawn_blocking(move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            ended(&swarmgate(&args).output().expect("a run"))
        });
        let (code, told, fault) = made.await.expect("a task");
        assert_eq!((code, fault.as_str()), (Some(0), ""), "{told}");
        let unpacked = Unpacked::of(Path::new(&out));
        assert_eq!(missing(&unpacked), [""; 0]);
        assert_eq!(unpacked.json("health.json")["overview"]["broker"]["connected"], true);
        assert_eq!(unpacked.json("config.json")["amqp"]["url"], "amqp://gate:***@127.0.0.1:1/%2f");
        assert!(unpacked.text("audit.ndjson").contains("ledger.genesis"));
        assert!(!unpacked.holds("c0rrectH0rse"));
        assert_eq!(offline(&["verify", &out]).0, Some(0));
    }
}
