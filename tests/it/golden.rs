//! Golden ledgers: what each format wrote is read, word for word, by every later build.
//!
//! Owns: the walk over tests/data/ledgers, and below it how a golden ledger is written once, with
//! the release whose form it keeps.
//! Never: edits a golden ledger, or opens one where it lies: a reader may leave files beside it.
//! Holds: each verifies to the head that is written beside it, each entry read and written again
//! has the same bytes, and the fold says of safety, commands and bots what it said in the release
//! that wrote them.

pub(crate) mod write;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use swarmgate::{
    contract::{interlock::SafetyMode, routing::Scope, schema::Schema},
    decision::{rules::Rules, state::State},
    ledger::{
        Ledger, LedgerError,
        verify::{verify, verify_deep},
    },
    runtime::replay,
};
use tempfile::TempDir;

/// What the first format could write and not read: such an entry is read, as the nearest that can
/// be written.
const UNWRITABLE: [&str; 1] = ["\"-0001-12-31T00:01:00Z\""];

/// What is written beside a golden ledger: what its release said of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    entries: u64,
    head: String,
    parcels: usize,
    epoch: u64,
    keys: usize,
    in_flight: usize,
    waiting: usize,
    challenges_open: usize,
    challenges_closed: usize,
    mode: String,
    kill_switch: String,
    known: usize,
    lives: BTreeMap<String, String>,
}

/// Every golden ledger: `<release>/<name>`.
fn all() -> Vec<PathBuf> {
    let sub = |dir: &Path| -> Vec<PathBuf> {
        let found = fs::read_dir(dir).expect("a directory").map(|found| found.expect("an entry").path());
        let mut found: Vec<PathBuf> = found.filter(|path| path.is_dir()).collect();
        found.sort();
        found
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ledgers");
    let found: Vec<PathBuf> = sub(&root).iter().flat_map(|release| sub(release)).collect();
    assert!(found.len() >= 3, "{found:?}");
    found
}

/// A copy of a golden ledger, to open.
fn copy(golden: &Path) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    for found in fs::read_dir(golden).expect("a directory") {
        let path = found.expect("an entry").path();
        let name = path.file_name().expect("a name");
        fs::copy(&path, dir.path().join(name)).expect("a copy");
    }
    dir
}

/// What this build says of the ledger in a directory.
async fn observed(dir: &Path) -> Result<(Expected, State), LedgerError> {
    let mut ledger = Ledger::open(dir, None).await?;
    let rules = Rules::default();
    let folded = replay::fold(&mut ledger, &rules, |sealed| {
        let again = serde_json::to_vec(&sealed.entry).expect("an entry");
        if UNWRITABLE.iter().any(|text| String::from_utf8_lossy(&sealed.bytes).contains(text)) {
            return;
        }
        assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&sealed.bytes));
    });
    let (state, recovered) = folded.await?;
    ledger.close().await;
    let (mode, level) = state.strongest();
    let everything = Scope::new("ALL", "ALL", "ALL");
    let lives = state.bots(&everything).map(|bot| (bot.to_string(), state.life(bot).word().to_owned()));
    let expected = Expected {
        entries: recovered.entries,
        head: recovered.chain.head().to_string(),
        parcels: recovered.parcels.len(),
        epoch: state.epoch(),
        keys: state.keys(),
        in_flight: state.commands_in_flight(),
        waiting: state.commands_parked(),
        challenges_open: state.challenges_open(),
        challenges_closed: state.challenges_closed().count(),
        mode: mode.word().to_owned(),
        kill_switch: level.word().to_owned(),
        known: state.known_count(),
        lives: lives.collect(),
    };
    Ok((expected, state))
}

#[tokio::test]
async fn every_golden_ledger_is_read_word_for_word() {
    let schema = Schema::of_entries().expect("the schema of entries");
    for golden in all() {
        let dir = copy(&golden);
        let report = verify(dir.path()).await.expect("a report");
        assert_eq!(report.fault, None, "{golden:?}");
        let deep = verify_deep(dir.path(), &schema).await.expect("a report");
        assert_eq!(deep, report, "{golden:?}");
        let wanted = fs::read_to_string(golden.join("expected.json")).expect("what is expected");
        let wanted: Expected = serde_json::from_str(&wanted).expect("what is expected");
        assert_eq!(report.head.to_string(), wanted.head, "{golden:?}");
        let (found, state) = observed(dir.path()).await.unwrap_or_else(|fault| panic!("{golden:?}: {fault}"));
        assert_eq!(found, wanted, "{golden:?}");
        assert_ne!(state.genesis().map(|genesis| genesis.initial_mode), Some(SafetyMode::EmergencyStop));
    }
}
