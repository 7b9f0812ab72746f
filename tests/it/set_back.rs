//! A ledger that was set back to an older copy, met by the real router on RabbitMQ; and the copy
//! itself.
//!
//! Owns: restoring the file and restoring the whole directory, with a subscriber that keeps an
//! inbox; a torn entry met at boot; and `ledger backup` beside a router that writes.
//! Never: uses `sqlite3` or a copy that was not verified, unless that is the point.
//! Holds: no id is given twice, the router says that it was set back and starts in SAFE, and stops
//! pass.

mod kills;

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use swarmgate::{
    bus::Bus,
    contract::{
        audit::{Action, Change},
        message::Message,
    },
    decision::{rules::Rules, state::State},
    ledger::{
        FILE, Ledger,
        query::{Filter, Reader},
        verify::verify,
    },
    runtime::{latch, replay},
};
use tempfile::TempDir;

use crate::{
    broker::Broker,
    router::{Inbox, body, process::Process, send, signal},
};

fn backup(ledger: &Path, to: &Path) -> (Option<i32>, String) {
    let made = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
        .args(["--output", "json", "ledger", "backup"])
        .arg(to)
        .arg("--ledger")
        .arg(ledger)
        .output()
        .expect("an end");
    let said = [made.stdout, made.stderr].concat();
    (made.status.code(), String::from_utf8_lossy(&said).into_owned())
}

async fn folded(dir: &Path) -> State {
    let mut ledger = Ledger::open(dir, None).await.expect("a ledger");
    let rules = Rules::default();
    let (state, _) = replay::fold(&mut ledger, &rules, |_| {}).await.expect("a fold");
    ledger.close().await;
    state
}

/// The state of a ledger that a router writes, by way of a copy.
async fn folded_copy(ledger: &Path) -> State {
    let kept = TempDir::new().expect("a directory");
    let (code, said) = backup(ledger, &kept.path().join("copy"));
    assert_eq!(code, Some(0), "{said}");
    folded(&kept.path().join("copy")).await
}

/// Waits until the ledger says that it was set back.
async fn noticed(router: &Process) -> (u64, u64) {
    for _ in 0..300 {
        if let Ok(reader) = Reader::open(router.ledger()).await
            && let Ok(found) = reader.select(&Filter::default(), usize::MAX).await
            && let Some(entry) = found.iter().find(|entry| entry.entry.fact.action == Action::SetBack)
            && let Change::SetBack(set_back) = &entry.entry.fact.change
        {
            return (set_back.known, set_back.ours);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody noticed")
}

fn stops(from: usize, count: usize) -> Vec<Message> {
    (from..from + count).map(|number| signal("bot-stop", "w-1", &format!("s{number}"))).collect()
}

/// A stop of ours; a latch makes the router stop bots by itself.
fn is_stop(message: &Message) -> bool {
    message.routing_key.starts_with("signal.bot-stop.") && body(message)["origin"] == "orc"
}

fn heard_stops(heard: &[Message]) -> usize {
    heard.iter().filter(|message| is_stop(message)).count()
}

/// A router that has carried five stops, and a subscriber that heard them.
async fn with_five_stops(url: &str, bus: &dyn Bus) -> (Process, Inbox) {
    let router = Process::start(url);
    router.ready(bus).await;
    let mut inbox = Inbox::open(bus, "subscriber.inbox", "swarmgate.out").await;
    send(bus, &stops(0, 5)).await;
    inbox.hear(bus, |heard| heard_stops(heard) >= 5).await;
    (router, inbox)
}

/// Puts the file of a copy in the place of a ledger, as the runbook says.
fn put_back(dir: &Path, copy: &Path) {
    for name in [FILE, "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(dir.join(name));
    }
    fs::copy(copy.join(FILE), dir.join(FILE)).expect("a copy");
}

/// Throws the latch by hand, as somebody does at the host.
fn throw_latch(ledger: &Path) {
    let thrown = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
        .args(["kill", "--latch-only", "--reason", "drill", "--ledger"])
        .arg(ledger)
        .output()
        .expect("an end");
    assert!(ledger.join(latch::FILE).exists(), "{}", String::from_utf8_lossy(&thrown.stderr));
}

/// Restores an older copy: of the file beside its mark, or with the whole directory, where only the
/// broker knows more.
async fn restored(whole_directory: bool) {
    let broker = Broker::own(if whole_directory { "set-back-dir" } else { "set-back-file" });
    let url = broker.url("/", "guest", "guest");
    let bus = swarmgate::bus::amqp::connect(&swarmgate::bus::amqp::Options::new(&url)).await.expect("a bus");
    let bus: &dyn Bus = bus.as_ref();
    let (router, mut inbox) = with_five_stops(&url, bus).await;
    if whole_directory {
        // The copy knows this latch; its file is not in the directory that is restored.
        throw_latch(router.ledger());
        tokio::time::sleep(Duration::from_secs(3)).await;
        let on_record = folded_copy(router.ledger()).await.strongest().1;
        assert_eq!(on_record.word(), "FLATTEN");
    }
    let kept = TempDir::new().expect("a directory");
    let (code, said) = backup(router.ledger(), &kept.path().join("copy"));
    assert_eq!(code, Some(0), "{said}");
    // What the copy does not know: more stops, and a kill switch.
    send(bus, &stops(5, 5)).await;
    let mut block = signal("kill-switch-set", "ALL", "block");
    let mut said: Value = serde_json::from_slice(&block.body).expect("a body");
    said["scope"] = json!({ "swarmId": "kestrel", "role": "ALL", "instance": "ALL" });
    said["data"] = json!({ "level": "BLOCK", "reason": "drill" });
    (block.body, block.routing_key) =
        (said.to_string().into(), "signal.kill-switch-set.kestrel.ALL.ALL".to_owned());
    send(bus, &[block]).await;
    inbox.hear(bus, |heard| heard_stops(heard) >= 10).await;
    // The mark on the broker is written every ten seconds.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let dir = router.stop().await;
    let old = Reader::open(dir.path()).await.expect("a ledger").last_seq().await.expect("a place");
    put_back(dir.path(), &kept.path().join("copy"));
    if whole_directory {
        fs::remove_file(dir.path().join("ledger.mark")).expect("a mark was there");
        fs::remove_file(dir.path().join(latch::FILE)).expect("a latch was there");
    } else {
        // The copy knows nothing of this one; its file stays beside the ledger.
        throw_latch(dir.path());
        // The broker's older mark is read when the set-back is on record: that is no second one.
        broker.pause();
    }
    let router = Process::start_on(&url, dir);
    let (known, ours) = noticed(&router).await;
    if !whole_directory {
        tokio::time::sleep(Duration::from_secs(1)).await;
        broker.resume();
    }
    assert!(known <= old && known > ours, "known {known}, ours {ours}, of {old}");
    // What is new is heard by a subscriber that drops repeats, and a start is not.
    send(bus, &stops(10, 20)).await;
    send(bus, &[signal("config-update", "w-1", "late")]).await;
    inbox.hear(bus, |heard| heard_stops(heard) >= 30).await;
    let heard: BTreeSet<String> = inbox
        .heard
        .iter()
        .filter(|message| is_stop(message))
        .map(|message| body(message)["idempotencyKey"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(heard.len(), 30, "each stop once, none dropped as a repeat: {heard:?}");
    assert!(!inbox.heard.iter().any(|message| message.routing_key.starts_with("signal.config-update.")));
    let alerts =
        inbox.heard.iter().filter(|message| body(message)["data"]["code"] == "ledger.set-back").count();
    assert_eq!(alerts, 1, "the operator is told");
    once_on_record(&url, router).await;
}

/// Once it is on record it is not noticed again.
async fn once_on_record(url: &str, router: Process) {
    let dir = router.stop().await;
    let router = Process::start_on(url, dir);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let dir = router.stop().await;
    let all = Reader::open(dir.path()).await.expect("a ledger");
    let all = all.select(&Filter::default(), usize::MAX).await.expect("entries");
    assert_eq!(all.iter().filter(|entry| entry.entry.fact.action == Action::SetBack).count(), 1);
    assert_eq!(verify(dir.path()).await.expect("a report").fault, None);
    let (mode, kill_switch) = folded(dir.path()).await.strongest();
    assert_eq!((mode.word(), kill_switch.word()), ("SAFE", "FLATTEN"), "SAFE, and the latch holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_file_is_noticed_by_the_mark_beside_it() {
    restored(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_directory_is_noticed_by_the_mark_on_the_broker() {
    restored(true).await;
}

/// The ledger that the first format could not read again starts, twenty times, killed each time.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_its_release_could_not_read_is_met_at_boot() {
    let broker = Broker::own("torn");
    let url = broker.url("/", "guest", "guest");
    let bus = swarmgate::bus::amqp::connect(&swarmgate::bus::amqp::Options::new(&url)).await.expect("a bus");
    let dir = TempDir::new().expect("a directory");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ledgers/0.1.0-format-1/poisoned");
    fs::copy(golden.join(FILE), dir.path().join(FILE)).expect("a copy");
    let mut router = Process::start_on(&url, dir);
    router.ready(bus.as_ref()).await;
    for _ in 0..20 {
        router = router.again();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    send(bus.as_ref(), &stops(0, 1)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let dir = router.stop().await;
    let report = verify(dir.path()).await.expect("a report");
    assert_eq!(report.fault, None);
    assert!(report.entries > 64, "{}", report.entries);
    let state = folded(dir.path()).await;
    assert_eq!(state.strongest().1.word(), "BLOCK", "the kill switch is not forgotten");
}

#[tokio::test]
async fn a_copy_of_a_ledger_at_rest_is_whole_and_never_written_over() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ledgers/0.1.0-format-1/router");
    let dir = TempDir::new().expect("a directory");
    let (source, to) = (dir.path().join("source"), dir.path().join("copy"));
    fs::create_dir(&source).expect("a directory");
    fs::copy(golden.join(FILE), source.join(FILE)).expect("a copy");
    let (code, said) = backup(&source, &to);
    assert_eq!(code, Some(0), "{said}");
    let said: Value = serde_json::from_str(said.trim()).expect("JSON");
    assert_eq!((&said["entries"], &said["parcels"]), (&json!(66), &json!(2)), "{said}");
    let (old, new) = (verify(&source).await.expect("a report"), verify(&to).await.expect("a report"));
    assert_eq!((new.fault, new.head, new.entries), (None, old.head, old.entries));
    let (code, said) = backup(&source, &to);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("there is a ledger already"), "{said}");
    assert_eq!(fs::read_dir(&to).expect("a directory").count(), 1, "nothing else is left");
}
