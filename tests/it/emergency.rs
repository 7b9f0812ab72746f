//! The emergency log on a real file: what it gives back, what it finds out, and what it refuses.
//!
//! Owns: the proof that records come back whole and in order, that no altered byte passes, and that
//! a write that was cut off costs nothing that had been answered.
//! Never: mocks the file; what tampers writes into it, as a bad disk would.
//! Holds: every promise of the room's header is tried here; the router's use of it is in
//! `ledger_failure`.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use proptest::prelude::*;
use serde_json::{Value, json};
use swarmgate::{
    contract::{
        audit::{Action, Change, EmergencyId, Fact, Genesis, Mode},
        digest::Digest,
        interlock::SafetyMode,
        lane::Lane,
        message::{Message, Properties},
        timestamp::Timestamp,
    },
    ledger::{
        Batch, Ledger, Parcel,
        chain::{Chain, Sealed},
        emergency::{EmergencyError, EmergencyLog, FILE, Record, read},
    },
};

const SIZE_BYTES: u64 = 64 * 1024;
/// Where the first frame begins.
const FIRST: u64 = 64;

struct Place {
    dir: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
    let dir = dir.expect("a directory");
    let path = dir.path().join(FILE);
    Place { dir, path }
}

/// A ledger of one entry; `name` tells it from others.
fn ledger(name: &str) -> (Chain, Sealed) {
    let genesis = Genesis {
        environment: "dev".to_owned(),
        initial_mode: SafetyMode::Normal,
        ledger_id: name.to_owned(),
        mode: Mode::Enforce,
        version: "0".to_owned(),
    };
    let mut chain = Chain::new();
    let fact = Fact::new(Action::Genesis, Timestamp::from_micros(0), Change::Genesis(genesis));
    let sealed = chain.seal(fact, Vec::new());
    (chain, sealed)
}

fn id(n: u64) -> EmergencyId {
    EmergencyId { epoch: 1, n }
}

/// The next record of a chain, with a detail of so many bytes, and with a message where `carries`.
fn record(chain: &mut Chain, n: u64, detail_bytes: usize, carries: bool) -> Record {
    let mut fact = Fact::new(Action::Requested, Timestamp::from_micros(n as i64), Change::None);
    fact.emergency_id = Some(id(n));
    fact.detail = Some("d".repeat(detail_bytes));
    let body: bytes::Bytes = format!("{{\"n\":{n}}}").into();
    let out = if carries { vec![Digest::of(&body)] } else { Vec::new() };
    let sealed = chain.seal(fact, out);
    let message = Message {
        exchange: "swarmgate.out".to_owned(),
        routing_key: "signal.swarm-stop.a.b.c".to_owned(),
        properties: Properties::default(),
        body,
    };
    let messages = carries.then_some((sealed.entry.seq, 0, true, &message));
    Record { parcel: Parcel::pack(Lane::Urgent, messages.into_iter()), sealed }
}

fn records(chain: &mut Chain, ns: std::ops::Range<u64>) -> Vec<Record> {
    ns.map(|n| record(chain, n, 100 * n as usize, n % 2 == 0)).collect()
}

fn open(path: &Path) -> (EmergencyLog, Vec<Record>) {
    let (log, found) = EmergencyLog::open(path, SIZE_BYTES, false).expect("a log");
    assert!(!found.torn, "cut off");
    (log, found.records)
}

fn patch(path: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("a file");
    file.write_all_at(bytes, at).expect("written");
}

#[test]
fn what_was_appended_comes_back_whole_and_in_order() {
    let Place { path, dir: _dir } = place();
    let (mut log, none) = open(&path);
    assert_eq!(none, []);
    let made = fs::metadata(&path).unwrap();
    assert_eq!(made.len(), SIZE_BYTES, "it has its room from the start");
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    let (mut chain, genesis) = ledger("a");
    let all = records(&mut chain, 1..6);
    log.append(&all[..2]).unwrap();
    log.append(&all[2..]).unwrap();
    assert_eq!((log.count(), log.last()), (5, Some(all[4].sealed.hash)));
    assert_eq!(fs::metadata(&path).unwrap().len(), SIZE_BYTES, "it never grows");
    drop(log);
    let (log, mut found) = EmergencyLog::open(&path, SIZE_BYTES, false).unwrap();
    assert_eq!(found.records, all);
    assert_eq!((log.count(), log.last()), (5, Some(all[4].sealed.hash)));
    assert!(found.check(&path).is_err(), "nothing of the ledger was met");
    found.meet(&genesis);
    found.check(&path).unwrap();
    assert_eq!(found.newer_than(None), all);
    assert_eq!(found.newer_than(Some(id(3))), all[3..]);
    assert_eq!(found.newer_than(Some(id(5))), []);
    assert_eq!(found.newer_than(Some(EmergencyId { epoch: 2, n: 1 })), []);
}

#[test]
fn every_flipped_byte_of_a_record_is_found() {
    let Place { path, dir: _dir } = place();
    let (mut log, _) = open(&path);
    let (mut chain, _) = ledger("a");
    let all = records(&mut chain, 1..4);
    for record in &all {
        log.append(std::slice::from_ref(record)).unwrap();
    }
    drop(log);
    let sound = fs::read(&path).unwrap();
    let end = sound.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut named = std::collections::BTreeSet::new();
    for at in 0..end {
        for flip in [0x01, 0x80, 0xff] {
            patch(&path, at as u64, &[sound[at] ^ flip]);
            let fault = read(&path).expect_err(&format!("byte {at} of {end}, flipped by {flip}"));
            let wanted = if at < FIRST as usize {
                // Of the header twelve bytes and the word count; the rest are zeros that must stay
                // so.
                matches!(fault, EmergencyError::Strange(_))
            } else {
                matches!(fault, EmergencyError::Damaged { .. })
            };
            assert!(wanted, "byte {at}: {fault}");
            if let EmergencyError::Damaged { place, .. } = fault {
                named.insert(place);
            }
        }
        patch(&path, at as u64, &sound[at..=at]);
    }
    assert!(read(&path).is_ok());
    let named: Vec<_> = named.iter().map(String::as_str).collect();
    assert_eq!(named, ["at its first record", "behind `e1.1`", "behind `e1.2`"]);
}

#[test]
fn a_write_that_was_cut_off_is_dropped_and_nothing_else() {
    let Place { path, dir: _dir } = place();
    let (mut log, _) = open(&path);
    let (mut chain, _) = ledger("a");
    let all = records(&mut chain, 1..3);
    log.append(&all[..1]).unwrap();
    let before = fs::read(&path).unwrap();
    let begin = before.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let begin = begin.next_multiple_of(64);
    log.append(&[all[1].clone(), record(&mut chain, 3, 1500, true)]).unwrap();
    drop(log);
    let after = fs::read(&path).unwrap();
    let end = after.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(end - begin > 2048, "the second write spans blocks");
    // Cut off at every byte.
    for cut in begin + 1..end {
        let mut torn = after.clone();
        torn[cut..].fill(0);
        let holds_something = torn[begin..].iter().any(|byte| *byte != 0);
        fs::write(&path, &torn).unwrap();
        let (mut log, found) = EmergencyLog::open(&path, SIZE_BYTES, false).unwrap();
        assert_eq!(found.torn, holds_something, "cut at {cut}");
        assert_eq!(found.records, all[..1]);
        // What the next one writes is not mixed with what is left of it.
        log.append(&all[1..]).unwrap();
        drop(log);
        assert_eq!(open(&path).1, all);
    }
    // Any of the disk's blocks did not come.
    let mut at = begin;
    while at < end {
        let next = (at + 1).next_multiple_of(512).min(end);
        let mut torn = after.clone();
        torn[at..next].fill(0);
        fs::write(&path, &torn).unwrap();
        let found = read(&path).unwrap();
        assert!(found.torn, "without {at}..{next}");
        assert_eq!(found.records, all[..1]);
        at = next;
    }
    // What is gone from before a record was no write that was cut off.
    let mut lost = after;
    lost[FIRST as usize..begin].fill(0);
    fs::write(&path, &lost).unwrap();
    assert!(matches!(read(&path), Err(EmergencyError::Damaged { .. })));
}

#[test]
fn a_full_log_takes_what_fits_and_names_the_first_that_does_not() {
    let Place { path, dir: _dir } = place();
    let (mut log, _) = open(&path);
    let (mut chain, _) = ledger("a");
    let large: Vec<_> = (1..6).map(|n| record(&mut chain, n, 20_000, false)).collect();
    let fault = log.append(&large).unwrap_err();
    assert!(matches!(&fault, EmergencyError::Full { id } if id == "e1.4"), "{fault}");
    assert_eq!((log.count(), log.last()), (3, Some(large[2].sealed.hash)));
    assert!(log.append(&large[3..]).is_err(), "no room was made");
    log.clear().unwrap();
    log.append(&large[3..]).unwrap();
    drop(log);
    assert_eq!(open(&path).1, large[3..]);
    assert_eq!(fs::metadata(&path).unwrap().len(), SIZE_BYTES);
}

#[test]
fn what_is_cleared_is_gone_from_the_disk_too() {
    let Place { path, dir: _dir } = place();
    let (mut log, _) = open(&path);
    let empty = fs::read(&path).unwrap();
    let (mut chain, _) = ledger("a");
    log.append(&records(&mut chain, 1..9)).unwrap();
    assert_ne!(fs::read(&path).unwrap(), empty);
    log.clear().unwrap();
    assert_eq!((log.count(), log.last()), (0, None));
    assert_eq!(fs::read(&path).unwrap(), empty);
    drop(log);
    assert_eq!(open(&path).1, []);
}

#[test]
fn a_clearing_that_was_cut_off_is_finished_by_the_next_opening() {
    let Place { path, dir: _dir } = place();
    let (mut log, _) = open(&path);
    let empty = fs::read(&path).unwrap();
    let (mut chain, _) = ledger("a");
    let all = records(&mut chain, 1..9);
    log.append(&all).unwrap();
    drop(log);
    // The mark is on the disk, and some of the zeros.
    patch(&path, 12, b"clearing");
    patch(&path, 1024, &[0; 512]);
    let (mut log, none) = open(&path);
    assert_eq!(none, []);
    assert_eq!(fs::read(&path).unwrap(), empty);
    log.append(&all).unwrap();
    drop(log);
    assert_eq!(open(&path).1, all);
}

#[test]
fn a_second_router_is_kept_out_and_a_reader_is_not() {
    let Place { path, dir: _dir } = place();
    let (mut log, _) = open(&path);
    let (mut chain, _) = ledger("a");
    let all = records(&mut chain, 1..3);
    log.append(&all).unwrap();
    let second = EmergencyLog::open(&path, SIZE_BYTES, false).unwrap_err();
    assert!(matches!(second, EmergencyError::Locked(_)), "{second}");
    assert_eq!(read(&path).unwrap().records, all);
    drop(log);
    assert_eq!(open(&path).1, all);
}

#[test]
fn another_ledgers_log_is_refused() {
    let Place { path, dir: _dir } = place();
    let (mut log, _) = open(&path);
    let (mut chain, own) = ledger("a");
    log.append(&records(&mut chain, 1..3)).unwrap();
    drop(log);
    let mut found = read(&path).unwrap();
    found.meet(&ledger("b").1);
    let fault = found.check(&path).unwrap_err();
    assert!(matches!(fault, EmergencyError::Foreign { id, .. } if id == self::id(1)), "{fault}");
    found.meet(&own);
    found.check(&path).unwrap();
}

#[test]
fn a_chain_that_was_broken_off_must_follow_on_the_ledger_again() {
    let Place { path, dir: _dir } = place();
    let (mut log, _) = open(&path);
    let (mut chain, genesis) = ledger("a");
    let first = records(&mut chain, 1..3);
    // The ledger went on otherwise than was known when the first were sealed: they are sealed again
    // behind that.
    let (mut other, _) = ledger("a");
    let went_on = other.seal(Fact::new(Action::Seen, Timestamp::from_micros(5), Change::None), Vec::new());
    let again = records(&mut other, 1..4);
    log.append(&first).unwrap();
    log.append(&again).unwrap();
    drop(log);
    let mut found = read(&path).unwrap();
    found.meet(&genesis);
    assert!(found.check(&path).is_err(), "the second begins on an entry that was not met");
    found.meet(&went_on);
    found.check(&path).unwrap();
    let newer = found.newer_than(None);
    let ids: Vec<_> = newer.iter().filter_map(Record::id).collect();
    assert_eq!(ids, [id(1), id(2), id(3)], "each once");
}

#[test]
fn another_size_is_taken_when_there_is_nothing_to_lose() {
    let Place { path, dir: _dir } = place();
    let (mut log, _) = open(&path);
    let (mut chain, _) = ledger("a");
    let all = records(&mut chain, 1..3);
    log.append(&all).unwrap();
    drop(log);
    let larger = 2 * SIZE_BYTES;
    let (mut log, found) = EmergencyLog::open(&path, larger, false).unwrap();
    assert_eq!(found.records, all);
    assert_eq!(fs::metadata(&path).unwrap().len(), SIZE_BYTES);
    log.clear().unwrap();
    drop(log);
    drop(EmergencyLog::open(&path, larger, false).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), larger);
}

#[test]
fn a_making_that_was_cut_off_is_done_again_and_an_emptied_or_strange_file_is_left_alone() {
    let Place { path, dir } = place();
    let part = dir.path().join("emergency.log.part");
    fs::write(&part, vec![0; 1000]).unwrap();
    let (log, found) = EmergencyLog::open(&path, SIZE_BYTES, false).unwrap();
    assert!(found.is_missing && !part.exists());
    assert_eq!(fs::metadata(&path).unwrap().len(), SIZE_BYTES);
    drop(log);
    for length in [0, 1000, SIZE_BYTES as usize] {
        fs::write(&path, vec![0; length]).unwrap();
        let fault = EmergencyLog::open(&path, SIZE_BYTES, false).unwrap_err();
        assert!(matches!(fault, EmergencyError::Emptied(_)), "{fault}");
        assert!(matches!(read(&path), Err(EmergencyError::Emptied(_))));
        assert_eq!(fs::read(&path).unwrap(), vec![0; length]);
    }
    let (log, found) = EmergencyLog::open(&path, SIZE_BYTES, true).unwrap();
    assert!(!found.is_missing, "somebody put it there");
    drop(log);
    drop(open(&path));
    fs::write(&path, "not ours").unwrap();
    let fault = EmergencyLog::open(&path, SIZE_BYTES, false).unwrap_err();
    assert!(matches!(fault, EmergencyError::Strange(_)), "{fault}");
    assert_eq!(fs::read(&path).unwrap(), b"not ours");
    let missing = dir.path().join("missing").join(FILE);
    let fault = EmergencyLog::open(&missing, SIZE_BYTES, false).unwrap_err();
    assert!(fault.to_string().contains("`ledger.emergency_path`"), "{fault}");
    assert!(!missing.exists(), "a place that somebody names is not made up");
}

fn swarmgate(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_swarmgate")).args(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn people_and_machines_are_told_what_waits() {
    let Place { path, dir } = place();
    let (mut chain, genesis) = ledger("a");
    let mut written = Ledger::open(dir.path(), None).await.unwrap();
    written.append(Batch { entries: vec![genesis], ..Batch::default() }).await.unwrap();
    let all = records(&mut chain, 1..3);
    let (mut log, _) = open(&path);
    log.append(&all[..1]).unwrap();
    let second = fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
    log.append(&all[1..]).unwrap();
    drop(log);
    let place = dir.path().to_str().unwrap();
    let told = |waiting: u64| {
        let (code, text) = swarmgate(&["--output", "json", "audit", "verify", place]);
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &json["emergency"]), (Some(0), &json!({ "waiting": waiting, "fault": null })));
        let (code, text) = swarmgate(&["audit", "verify", place]);
        assert_eq!(code, Some(0));
        assert_eq!(text.contains("2 entries that are not in the ledger"), waiting == 2, "{text}");
    };
    told(2);
    let copy = dir.path().join("second.log");
    fs::rename(&path, &copy).unwrap();
    let moved = ["audit", "verify", place, "--emergency", copy.to_str().unwrap()];
    let (code, text) = swarmgate(&moved);
    assert!(code == Some(0) && text.contains("holds 2 entries"), "{text}");
    fs::rename(&copy, &path).unwrap();
    let (_, text) = swarmgate(&moved);
    assert!(text.contains("second.log"), "one that is named and not there is said: {text}");
    let (code, text) = swarmgate(&["audit", "emergency", place]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("[e1.1]") && text.contains("[e1.2]") && text.ends_with("2 good entries\n"),
        "{text}"
    );
    let (_, json) = swarmgate(&["--output", "json", "audit", "emergency", path.to_str().unwrap()]);
    let ids: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = ids.iter().filter_map(|entry| entry["fact"]["emergencyId"].as_str()).collect();
    assert_eq!(ids, ["e1.1", "e1.2"]);
    // Once the ledger has them nothing waits, cleared or not.
    let entries = all.into_iter().map(|record| record.sealed).collect();
    written.append(Batch { entries, ..Batch::default() }).await.unwrap();
    written.close().await;
    told(0);
    patch(&path, second.next_multiple_of(64) as u64 + 50, b"#");
    let (code, text) = swarmgate(&["audit", "emergency", place]);
    assert_eq!(code, Some(1));
    assert!(text.contains("[e1.1]") && text.contains("1 good entries"), "what is sound is shown: {text}");
    assert!(text.contains("damaged behind `e1.1`") && text.contains("move it aside"), "{text}");
    fs::remove_file(&path).unwrap();
    assert_eq!(swarmgate(&["audit", "emergency", place]).0, Some(5));
    let (_, text) = swarmgate(&["--output", "json", "audit", "verify", place]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["emergency"], Value::Null);
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(usize, bool)>),
    Clear,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let some = proptest::collection::vec((0..1500_usize, any::<bool>()), 0..5);
    prop_oneof![5 => some.prop_map(Step::Append), 1 => Just(Step::Clear), 2 => Just(Step::Reopen)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done, what was answered as written since the last clearing is there, and nothing
    /// else.
    #[test]
    fn any_sequence_gives_back_what_was_appended(steps in proptest::collection::vec(step(), 1..25)) {
        let Place { path, dir: _dir } = place();
        let (mut log, _) = open(&path);
        let (mut chain, _) = ledger("a");
        let mut wanted: Vec<Record> = Vec::new();
        let mut n = 0;
        for step in steps {
            match step {
                Step::Append(sizes) => {
                    let before = chain;
                    let mut next = |(bytes, carries)| { n += 1; record(&mut chain, n, bytes, carries) };
                    let new: Vec<Record> = sizes.into_iter().map(&mut next).collect();
                    let count = log.count();
                    let result = log.append(&new);
                    let taken = log.count() - count;
                    prop_assert_eq!(result.is_ok(), taken == new.len());
                    wanted.extend(new.into_iter().take(taken));
                    chain = wanted.last().map_or(before, |last| Chain::after(&last.sealed));
                }
                Step::Clear => {
                    log.clear().unwrap();
                    wanted.clear();
                }
                Step::Reopen => {
                    drop(log);
                    let (again, found) = open(&path);
                    prop_assert_eq!(&found, &wanted);
                    log = again;
                }
            }
            prop_assert_eq!(&read(&path).unwrap().records, &wanted);
        }
    }
}
