//! `audit verify --deep`: entries that the chain takes for good, and that no release writes.

use serde_json::{Value, json};
use swarmgate::{
    contract::{
        audit::{Action, Change, Fact, Genesis, Mode},
        digest::Digest,
        interlock::SafetyMode,
        schema::Schema,
        timestamp::Timestamp,
    },
    ledger::{
        Batch, Ledger,
        chain::{Chain, ChainFault},
        verify::{verify, verify_deep},
    },
};
use tempfile::TempDir;

use crate::api::gate::swarmgate;

/// A chain of a genesis and one entry, with a value of the second set otherwise before it is
/// hashed.
async fn with(pointer: &str, name: &str, value: Value) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let at = Timestamp::from_micros(1_772_619_300_000_000);
    let genesis = Genesis {
        environment: "dev".to_owned(),
        initial_mode: SafetyMode::Normal,
        ledger_id: "0".repeat(32),
        mode: Mode::Enforce,
        version: "0".to_owned(),
    };
    let mut chain = Chain::new();
    let first = chain.seal(Fact::new(Action::Genesis, at, Change::Genesis(genesis)), Vec::new());
    let mut second = chain.seal(Fact::new(Action::Seen, at, Change::None), Vec::new());
    let mut entry: Value = serde_json::from_slice(&second.bytes).expect("an entry");
    entry
        .pointer_mut(pointer)
        .and_then(Value::as_object_mut)
        .expect("an object")
        .insert(name.to_owned(), value);
    second.bytes = entry.to_string().into_bytes();
    second.hash = Digest::of(&second.bytes);
    let mut ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
    ledger.append(Batch { entries: vec![first, second], ..Batch::default() }).await.expect("an append");
    ledger.close().await;
    dir
}

#[tokio::test]
async fn what_a_chain_does_not_see_is_named_with_its_place() {
    let schema = Schema::of_entries().expect("the schema");
    for (pointer, name, value, place) in [
        ("/fact", "mood", json!("good"), "/fact/mood"),
        ("", "signature", json!("x"), "/signature"),
        (
            "/fact",
            "command",
            json!({ "requestedTransition": "up", "runId": null, "schemaVersion": "1", "traceId": null }),
            "/fact/command/requestedTransition",
        ),
        (
            "/fact",
            "change",
            json!({ "observed": { "command": "0".repeat(64), "by": "me" } }),
            "/fact/change/observed/by",
        ),
        (
            "/fact",
            "actor",
            json!({ "by": "user-id", "principal": "ann", "admin": true }),
            "/fact/actor/admin",
        ),
    ] {
        let dir = with(pointer, name, value).await;
        let shallow = verify(dir.path()).await.expect("a report");
        assert_eq!((shallow.fault, shallow.entries), (None, 2), "{place}");
        let deep = verify_deep(dir.path(), &schema).await.expect("a report");
        let found = deep.fault.map(|fault| match fault {
            ChainFault::Form { seq, pointer, .. } => (seq, pointer),
            other => panic!("{other}"),
        });
        assert_eq!((found, deep.entries), (Some((2, place.to_owned())), 1));
    }
}

#[tokio::test]
async fn the_binary_ends_with_1_and_says_where() {
    let run = |dir: &TempDir, args: &[&str]| {
        let place = dir.path().display().to_string();
        let args = [&["audit", "verify", place.as_str()], args].concat();
        let output = swarmgate(&args).output().expect("a run");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let good = with("/fact", "detail", json!("plain")).await;
    assert_eq!(run(&good, &["--deep"]).0, Some(0));
    let odd = with("/fact", "mood", json!("good")).await;
    assert_eq!(run(&odd, &[]).0, Some(0), "without --deep it is as it was");
    let (code, text) = run(&odd, &["--deep"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("INVALID: 1 good entries") && text.contains("entry 2"), "{text}");
    assert!(text.contains("`/fact/mood`"), "{text}");
    let (code, text) = run(&odd, &["--deep", "--output", "json"]);
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, Some(1));
    assert_eq!((&told["fault"]["seq"], &told["fault"]["pointer"]), (&json!(2), &json!("/fact/mood")));
}
