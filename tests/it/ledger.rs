//! The ledger on a real file: its bytes, what it finds out, and what it survives.
//!
//! Owns: the proof that bytes are canonical, no altered entry verifies, and a batch is all or none.
//! Never: mocks the file; what tampers is a second connection, as a person's would be.
//! Holds: each row of the promise "torn, flipped, removed, reordered or inserted is found" is here.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::value::RawValue;
use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use swarmgate::{
    contract::{
        audit::{
            Accepted, Action, Actor, Change, EmergencyId, Fact, Genesis, Mode, Payload, Proof, Subject,
            Verdict,
        },
        digest::Digest,
        lane::Lane,
        message::{HeaderValue, Message, Properties},
        reason::Reason,
        routing::{Family, Scope},
        timestamp::Timestamp,
    },
    ledger::{
        Batch, FILE, Ledger, LedgerError, Outgoing, Parcel,
        backup::backup,
        chain::{Chain, ChainFault, Sealed},
        query::{Filter, Reader},
        verify::{ChainReport, verify},
    },
};

use crate::{figures::Alternating, golden::write::changes};

/// 2026-03-04T10:15:00Z.
const START: i64 = 1_772_619_300_000_000;

fn scratch() -> tempfile::TempDir {
    let place = Path::new("/dev/shm");
    if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() }.expect("a directory")
}

fn at(number: u64) -> Timestamp {
    Timestamp::from_micros(START).plus_ms(number)
}

fn genesis() -> Fact {
    let genesis = Genesis {
        environment: "dev".to_owned(),
        initial_mode: swarmgate::contract::interlock::SafetyMode::Normal,
        ledger_id: "0".repeat(32),
        mode: Mode::Enforce,
        version: "0".to_owned(),
    };
    Fact::new(Action::Genesis, at(0), Change::Genesis(genesis))
}

/// A fact with every field set; `text` stands wherever a stranger's text may.
fn fact(number: u64, text: &str, change: Change) -> Fact {
    let payload = serde_json::json!({ "data": text }).to_string();
    Fact {
        actor: Some(Actor { by: Proof::UserId, principal: text.to_owned() }),
        body: Some(Digest::of(text.as_bytes())),
        correlation_id: Some(format!("c-{number}")),
        detail: Some(text.to_owned()),
        emergency_id: (number % 5 == 4).then_some(EmergencyId { epoch: 1, n: number }),
        idempotency_key: Some(format!("i-{number}")),
        payload: Some(Payload(RawValue::from_string(payload).expect("JSON"))),
        pointer: Some("/data".to_owned()),
        reason: Some(Reason::Duplicate),
        subject: Some(Subject {
            family: Family::Signal,
            scope: Scope::new("kestrel", "generator", format!("gen-{number}")),
            kind_type: "config-update".to_owned(),
        }),
        verdict: Some(Verdict::Suppress),
        ..Fact::new(Action::Requested, at(number), change)
    }
}

/// A genesis and `count` entries, their changes in turn.
fn entries(chain: &mut Chain, count: u64) -> Vec<Sealed> {
    let changes = changes();
    // Each lets the messages of `waiting` leave.
    let out = [vec![Digest([9; 32])], [1, 900].map(|bytes| Digest::of(&body(bytes))).to_vec()].concat();
    let mut sealed = Vec::new();
    if chain.next_seq() == 1 {
        sealed.push(chain.seal(genesis(), Vec::new()));
    }
    for number in 1..=count {
        let change = changes[number as usize % changes.len()].clone();
        sealed.push(chain.seal(fact(number, "plain", change), out.clone()));
    }
    sealed
}

/// A body that no compression makes smaller.
fn body(bytes: usize) -> Vec<u8> {
    let digests = (0..bytes).flat_map(|number| Digest::of(&number.to_be_bytes()).0);
    digests.take(bytes).collect()
}

/// A message that leaves because of an entry.
fn waiting(seq: u64, body_bytes: usize) -> Outgoing {
    let message = Message {
        exchange: "out".to_owned(),
        routing_key: "signal.bot-stop.s.r.a".to_owned(),
        properties: Properties::default(),
        body: body(body_bytes).into(),
    };
    Outgoing { seq, ordinal: 0, mandatory: true, message }
}

fn batch(entries: Vec<Sealed>) -> Batch {
    Batch { entries, ..Batch::default() }
}

/// A closed ledger of twelve entries, written in three batches.
async fn written(dir: &Path) -> Vec<Sealed> {
    let mut ledger = Ledger::open(dir, None).await.expect("a ledger");
    let all = entries(&mut Chain::new(), 11);
    for part in all.chunks(4) {
        ledger.append(batch(part.to_vec())).await.expect("an append");
    }
    ledger.close().await;
    all
}

/// A person's own connection to the file, by which the triggers can be dropped.
async fn by_hand(dir: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(dir.join(FILE)).synchronous(SqliteSynchronous::Off);
    SqliteConnection::connect_with(&options).await.expect("a connection")
}

async fn run(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(statement).execute(connection).await.map(|_| ())
}

/// What keeps a ledger append-only, as it is made.
const LOCKS: &str = "
    CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END";

async fn unlocked(dir: &Path) -> SqliteConnection {
    let mut connection = by_hand(dir).await;
    run(&mut connection, "DROP TRIGGER entries_are_not_updated; DROP TRIGGER entries_are_not_deleted")
        .await
        .expect("the triggers are dropped");
    connection
}

async fn checked(dir: &Path) -> ChainReport {
    verify(dir).await.expect("a report")
}

/// A copy of a written ledger, altered by hand, and what verifying it says.
async fn tampered(statement: &'static str) -> Option<ChainFault> {
    let dir = scratch();
    written(dir.path()).await;
    let mut connection = unlocked(dir.path()).await;
    run(&mut connection, statement).await.expect("tampering");
    connection.close().await.expect("closed");
    checked(dir.path()).await.fault
}

/// A trigger that leaves rows out says nothing by itself.
#[tokio::test]
async fn what_a_trigger_leaves_out_is_not_committed_and_what_is_strange_is_named() {
    for leaves_out in ["", "WHEN NEW.seq = 14"] {
        let dir = scratch();
        let all = written(dir.path()).await;
        let mut connection = by_hand(dir.path()).await;
        let trigger = format!(
            "CREATE TRIGGER strange BEFORE INSERT ON entries {leaves_out} BEGIN SELECT RAISE(IGNORE); END"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&mut connection).await.expect("a trigger");
        let mut ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
        let mut chain = Chain::new();
        entries(&mut chain, 11);
        let fault = ledger.append(batch(entries(&mut chain, 4))).await;
        assert!(fault.is_err(), "{leaves_out}");
        assert_eq!(
            checked(dir.path()).await.fault.map(|fault| fault.to_string()).unwrap_or_default(),
            "the database was changed by hand: the trigger `strange`; remove it, or restore a copy"
        );
        run(&mut connection, "DROP TRIGGER strange").await.expect("it goes");
        assert_eq!(checked(dir.path()).await.entries, all.len() as u64);
        assert_eq!(checked(dir.path()).await.fault, None, "nothing of the batch is there");
        ledger.close().await;
    }
    let missing = "DROP TRIGGER IF EXISTS entries_are_not_deleted";
    for statement in ["CREATE TABLE strange (a)", "CREATE VIEW strange AS SELECT 1", missing] {
        let fault = tampered(statement).await;
        assert!(matches!(fault, Some(ChainFault::Foreign(_))), "{statement}: {fault:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_entrys_bytes_are_the_canonical_form(text in "\\PC*|[\\x00-\\x7f]*|.*", number in 0..1_000_000_u64) {
        let mut chain = Chain::new();
        chain.seal(genesis(), Vec::new());
        for change in changes() {
            let sealed = chain.seal(fact(number, &text, change), vec![Digest([7; 32])]);
            // The payload is canonical already (`canonical::raw`); the library need only agree.
            let value: serde_json::Value = serde_json::from_slice(&sealed.bytes).expect("JSON");
            let library = serde_json_canonicalizer::to_vec(&value).expect("serialises");
            prop_assert_eq!(String::from_utf8_lossy(&sealed.bytes), String::from_utf8_lossy(&library));
            prop_assert_eq!(sealed.hash, Digest::of(&library));
        }
    }

    #[test]
    fn what_is_no_parcel_is_told(bytes in any::<Vec<u8>>(), version in 0_u8..4) {
        let bytes = [vec![version], bytes].concat();
        // Whatever it is: it must not end the router.
        let _ = Parcel { id: 1, lane: Lane::Signals, bytes }.unpack();
    }

    #[test]
    fn a_parcel_holds_what_was_packed(messages in proptest::collection::vec(any_message(), 1..4)) {
        let with_place = || messages.iter().enumerate();
        let packed = Parcel::pack(
            Lane::Urgent,
            with_place().map(|(index, message)| (index as u64 + 5, index as u32, index % 2 == 0, message)),
        );
        let packed = packed.expect("a parcel");
        prop_assert_eq!(packed.id, 5);
        let unpacked = packed.unpack().expect("messages");
        prop_assert_eq!(unpacked.len(), messages.len());
        for ((index, message), outgoing) in with_place().zip(unpacked) {
            prop_assert_eq!(&outgoing.message, message);
            let place = (outgoing.seq, outgoing.ordinal, outgoing.mandatory);
            prop_assert_eq!(place, (index as u64 + 5, index as u32, index % 2 == 0));
        }
    }
}

fn any_header() -> impl Strategy<Value = HeaderValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(HeaderValue::Bool),
        any::<i8>().prop_map(HeaderValue::I8),
        any::<u8>().prop_map(HeaderValue::U8),
        any::<i16>().prop_map(HeaderValue::I16),
        any::<u16>().prop_map(HeaderValue::U16),
        any::<i32>().prop_map(HeaderValue::I32),
        any::<u32>().prop_map(HeaderValue::U32),
        any::<i64>().prop_map(HeaderValue::I64),
        any::<f32>().prop_filter("comparable", |value| !value.is_nan()).prop_map(HeaderValue::F32),
        any::<f64>().prop_filter("comparable", |value| !value.is_nan()).prop_map(HeaderValue::F64),
        prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0)].prop_map(HeaderValue::F64),
        any::<(u8, u32)>().prop_map(|(scale, value)| HeaderValue::Decimal(scale, value)),
        any::<String>().prop_map(HeaderValue::ShortText),
        any::<String>().prop_map(HeaderValue::Text),
        any::<Vec<u8>>().prop_map(HeaderValue::Binary),
        any::<Vec<u8>>().prop_map(HeaderValue::Bytes),
        any::<u64>().prop_map(HeaderValue::Time),
        Just(HeaderValue::Void),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(HeaderValue::Array),
            proptest::collection::vec((any_name(), inner), 0..4).prop_map(HeaderValue::Table),
        ]
    })
}

fn any_name() -> impl Strategy<Value = Cow<'static, str>> {
    any::<String>().prop_map(Cow::Owned)
}

fn any_message() -> impl Strategy<Value = Message> {
    let headers = proptest::collection::vec((any_name(), any_header()), 0..6);
    (headers, any::<Vec<u8>>(), any::<String>(), any::<Option<String>>(), any::<Option<u64>>()).prop_map(
        |(headers, body, routing_key, text, number)| Message {
            exchange: "swarmgate.out".to_owned(),
            routing_key,
            properties: Properties {
                headers,
                content_type: text.clone(),
                user_id: text,
                timestamp: number,
                priority: number.map(|number| number as u8),
                ..Properties::default()
            },
            body: Bytes::from(body),
        },
    )
}

#[test]
fn a_float_that_is_no_number_and_deep_headers_are_unpacked() {
    let mut deep = HeaderValue::Array(Vec::new());
    for _ in 0..16 {
        deep = HeaderValue::Table(vec![("in".into(), deep)]);
    }
    let headers = vec![
        ("nan".into(), HeaderValue::F64(f64::NAN)),
        ("nan32".into(), HeaderValue::F32(f32::NAN)),
        ("deep".into(), deep.clone()),
    ];
    let message = Message {
        exchange: String::new(),
        routing_key: String::new(),
        properties: Properties { headers, ..Properties::default() },
        body: Bytes::new(),
    };
    let parcel = Parcel::pack(Lane::Results, std::iter::once((1, 0, true, &message))).expect("a parcel");
    let unpacked = parcel.unpack().expect("it must not keep a router from starting");
    let headers = &unpacked[0].message.properties.headers;
    assert!(matches!(headers[0].1, HeaderValue::F64(value) if value.is_nan()), "{headers:?}");
    assert!(matches!(headers[1].1, HeaderValue::F32(value) if value.is_nan()), "{headers:?}");
    assert_eq!(headers[2].1, deep);
}

#[test]
fn a_parcel_that_was_cut_is_an_error_and_nothing_without_an_entry_is_packed() {
    let message = Message {
        exchange: String::new(),
        routing_key: "k".to_owned(),
        properties: Properties::default(),
        body: Bytes::from_static(b"body"),
    };
    assert_eq!(Parcel::pack(Lane::Metrics, std::iter::once((0, 0, true, &message))), None);
    let whole = Parcel::pack(Lane::Metrics, std::iter::once((3, 0, true, &message))).expect("a parcel");
    for length in 0..whole.bytes.len() {
        let cut = Parcel { bytes: whole.bytes[..length].to_vec(), ..whole.clone() };
        assert!(matches!(cut.unpack(), Err(LedgerError::Outbox { id: 3, .. })), "{length}");
    }
    let mut bytes = whole.bytes.clone();
    bytes[1..5].fill(0xff);
    let Err(LedgerError::Outbox { what, .. }) = (Parcel { bytes, ..whole }).unpack() else { panic!("read") };
    assert!(what.contains("cannot hold 4294967295"), "no room is made for what cannot be there: {what}");
}

#[test]
fn a_parcel_from_before_they_were_compressed_is_read() {
    let head = br#"{"seq":3,"ordinal":1,"mandatory":true,"message":{"exchange":"x","routingKey":"k","properties":{}}}"#;
    let length = |part: &[u8]| (part.len() as u32).to_be_bytes().to_vec();
    let bytes = [vec![1], length(head), head.to_vec(), length(b"body"), b"body".to_vec()].concat();
    let unpacked = Parcel { id: 3, lane: Lane::Signals, bytes }.unpack().expect("messages");
    let [only] = unpacked.as_slice() else { panic!("{unpacked:?}") };
    assert_eq!((only.seq, only.ordinal, only.mandatory), (3, 1, true));
    assert_eq!((only.message.routing_key.as_str(), only.message.body.as_ref()), ("k", b"body".as_slice()));
}

#[test]
fn messages_that_are_alike_take_little_room() {
    let message = |number: u32| Message {
        exchange: "swarmgate.out".to_owned(),
        routing_key: format!("signal.config-update.kestrel.worker.w-{number}"),
        properties: Properties { message_id: Some(format!("led.{number}.0")), ..Properties::default() },
        body: format!(r#"{{"kind":"signal","type":"config-update","idempotencyKey":"i-{number}"}}"#).into(),
    };
    let messages: Vec<Message> = (0..100).map(message).collect();
    let plain: usize = messages.iter().map(|message| message.routing_key.len() + message.body.len()).sum();
    let packed = Parcel::pack(Lane::Signals, messages.iter().map(|message| (1, 0, true, message)));
    let packed = packed.expect("a parcel").bytes.len();
    assert!(packed * 2 < plain, "{packed} bytes for keys and bodies of {plain}");
}

#[test]
fn a_fixed_chain_has_fixed_bytes_and_hashes() {
    let mut chain = Chain::new();
    let text = "\u{1}\u{1f}\"\\/\u{7f}\u{e9}\u{2028}\u{1f41d}\n";
    // As it was when the bytes were fixed.
    let accepted = Accepted {
        always_passes: true,
        command: Some(Digest([1; 32])),
        compared: Digest([2; 32]),
        deadline: Some(at(90_000)),
        overtakes: Some(at(7)),
        parked: true,
        targets: vec![Scope::new("kestrel", "generator", "gen-1")],
        ..Accepted::default()
    };
    let fact = fact(1, text, Change::Accepted(accepted));
    let sealed = [chain.seal(genesis(), Vec::new()), chain.seal(fact, vec![])];
    let found: String = sealed
        .iter()
        .map(|sealed| format!("{} {}\n", sealed.hash, String::from_utf8_lossy(&sealed.bytes)))
        .collect();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chain.golden");
    if std::env::var_os("SWARMGATE_BLESS").is_some() {
        fs::write(&golden, &found).expect("the golden file");
    }
    assert_eq!(found, fs::read_to_string(golden).expect("the golden file"));
}

#[tokio::test]
async fn every_flipped_byte_names_its_entry() {
    let dir = scratch();
    let all = written(dir.path()).await;
    assert_eq!(checked(dir.path()).await.entries, 12);
    let mut connection = unlocked(dir.path()).await;
    for sealed in &all {
        let seq = sealed.entry.seq;
        for (column, bytes) in [("bytes", &sealed.bytes[..]), ("hash", &sealed.hash.0[..])] {
            let update = format!("UPDATE entries SET {column} = ? WHERE seq = ?");
            // On the file every seventh byte, another in each entry; the chain with each, below.
            for index in (seq as usize % 7..bytes.len()).step_by(7) {
                let mut flipped = bytes.to_vec();
                flipped[index] ^= 1 << (index % 8);
                set(&mut connection, &update, &flipped, seq).await;
                let fault = checked(dir.path()).await.fault;
                assert_eq!(fault, Some(ChainFault::Altered(seq)), "{column} byte {index}");
            }
            set(&mut connection, &update, bytes, seq).await;
        }
    }
    run(&mut connection, LOCKS).await.expect("the triggers are put back");
    assert_eq!(checked(dir.path()).await.fault, None, "what was put back is good again");
}

#[test]
fn every_flipped_bit_breaks_the_chain() {
    let all = entries(&mut Chain::new(), 11);
    let mut chain = Chain::new();
    for sealed in &all {
        let seq = sealed.entry.seq;
        for bit in 0..sealed.bytes.len() * 8 {
            let mut bytes = sealed.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(chain.follow(seq, bytes, sealed.hash), Err(ChainFault::Altered(seq)), "bit {bit}");
        }
        for bit in 0..256 {
            let mut hash = sealed.hash;
            hash.0[bit / 8] ^= 1 << (bit % 8);
            let followed = chain.follow(seq, sealed.bytes.clone(), hash);
            assert_eq!(followed, Err(ChainFault::Altered(seq)), "hash bit {bit}");
        }
        chain.follow(seq, sealed.bytes.clone(), sealed.hash).expect("as it was written");
    }
}

async fn set(connection: &mut SqliteConnection, update: &str, bytes: &[u8], seq: u64) {
    let query = sqlx::query(sqlx::AssertSqlSafe(update.to_owned())).bind(bytes).bind(seq as i64);
    assert_eq!(query.execute(connection).await.expect("an update").rows_affected(), 1);
}

#[tokio::test]
async fn removed_swapped_inserted_and_torn_entries_are_named() {
    assert_eq!(
        tampered("DELETE FROM entries WHERE seq = 5").await,
        Some(ChainFault::Gap { expected: 5, found: 6 })
    );
    assert_eq!(
        tampered("DELETE FROM entries WHERE seq = 1").await,
        Some(ChainFault::Gap { expected: 1, found: 2 })
    );
    let swap = "UPDATE entries SET seq = -4 WHERE seq = 4; UPDATE entries SET seq = 4 WHERE seq = 7;
        UPDATE entries SET seq = 7 WHERE seq = -4";
    assert_eq!(tampered(swap).await, Some(ChainFault::Unchained(4)));
    let insert =
        "UPDATE entries SET seq = -seq - 1 WHERE seq > 6; UPDATE entries SET seq = -seq WHERE seq < 0;
        INSERT INTO entries SELECT 7, bytes, hash FROM entries WHERE seq = 6";
    assert_eq!(tampered(insert).await, Some(ChainFault::Unchained(7)));
    let append = "INSERT INTO entries SELECT 13, bytes, hash FROM entries WHERE seq = 12";
    assert_eq!(tampered(append).await, Some(ChainFault::Unchained(13)));
    let torn = "UPDATE entries SET bytes = substr(bytes, 1, length(bytes) / 2) WHERE seq = 8";
    assert_eq!(tampered(torn).await, Some(ChainFault::Altered(8)));
    let short = tampered("UPDATE entries SET hash = substr(hash, 1, 31) WHERE seq = 8").await;
    assert!(matches!(short, Some(ChainFault::Torn(8, _))), "{short:?}");
    let cut = "DELETE FROM entries WHERE seq < 3; UPDATE entries SET seq = seq - 2";
    let headless = tampered(cut).await;
    assert_eq!(headless.map(|fault| fault.seq()), Some(1));
    assert_eq!(tampered("DELETE FROM entries").await, Some(ChainFault::Headless(1)));
}

#[tokio::test]
async fn an_entry_with_a_hash_made_anew_breaks_at_the_next() {
    let dir = scratch();
    let all = written(dir.path()).await;
    let mut connection = unlocked(dir.path()).await;
    let altered = String::from_utf8_lossy(&all[4].bytes).replace("plain", "other").into_bytes();
    set(&mut connection, "UPDATE entries SET bytes = ? WHERE seq = ?", &altered, 5).await;
    let hash = Digest::of(&altered);
    set(&mut connection, "UPDATE entries SET hash = ? WHERE seq = ?", &hash.0, 5).await;
    assert_eq!(checked(dir.path()).await.fault, Some(ChainFault::Unchained(6)));
    // No bytes of an entry: torn, however good the hash.
    let torn = b"{\"fact\":".to_vec();
    set(&mut connection, "UPDATE entries SET bytes = ? WHERE seq = ?", &torn, 5).await;
    set(&mut connection, "UPDATE entries SET hash = ? WHERE seq = ?", &Digest::of(&torn).0, 5).await;
    let fault = checked(dir.path()).await.fault;
    assert!(matches!(fault, Some(ChainFault::Torn(5, _))), "{fault:?}");
    // And a router does not start on it.
    connection.close().await.expect("closed");
    let mut ledger = Ledger::open(dir.path(), None).await.expect("it opens");
    let replayed = ledger.replay(|_| {}).await;
    assert!(matches!(replayed, Err(LedgerError::Damaged(ChainFault::Torn(5, _)))), "{replayed:?}");
}

#[tokio::test]
async fn a_file_cut_anywhere_is_never_valid() {
    let dir = scratch();
    written(dir.path()).await;
    let whole = fs::read(dir.path().join(FILE)).expect("the file");
    assert!(!dir.path().join(format!("{FILE}-wal")).exists(), "closing leaves one file");
    for length in (0..whole.len()).step_by(509) {
        let copy = scratch();
        fs::write(copy.path().join(FILE), &whole[..length]).expect("a copy");
        match verify(copy.path()).await {
            Ok(report) => assert!(report.fault.is_some(), "cut at {length}: {report:?}"),
            Err(LedgerError::Missing(_)) if length == 0 => {}
            Err(fault) => panic!("cut at {length}: {fault}"),
        }
    }
}

#[tokio::test]
async fn entries_can_be_neither_updated_nor_deleted() {
    let dir = scratch();
    written(dir.path()).await;
    let mut connection = by_hand(dir.path()).await;
    for statement in ["UPDATE entries SET bytes = x'00' WHERE seq = 3", "DELETE FROM entries WHERE seq = 3"] {
        let refused = run(&mut connection, statement).await.expect_err("a trigger refuses");
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
    assert_eq!(checked(dir.path()).await.entries, 12);
}

#[tokio::test]
async fn a_copy_of_a_live_ledger_verifies() {
    let dir = scratch();
    let mut ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
    ledger.append(batch(entries(&mut Chain::new(), 30))).await.expect("an append");
    let live = checked(dir.path()).await;
    let copy = scratch();
    for file in [FILE.to_owned(), format!("{FILE}-wal")] {
        fs::copy(dir.path().join(&file), copy.path().join(&file)).expect("a copy");
    }
    assert_eq!(live.entries, 31);
    assert_eq!(checked(copy.path()).await, live);
    assert_eq!(checked(&copy.path().join(FILE)).await, live);
    ledger.close().await;
}

#[tokio::test]
async fn a_second_router_is_told_who_has_the_ledger() {
    let dir = scratch();
    let first = Ledger::open(dir.path(), None).await.expect("a ledger");
    match Ledger::open(dir.path(), None).await {
        Err(LedgerError::Locked { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
        other => panic!("{other:?}"),
    }
    first.close().await;
    Ledger::open(dir.path(), None).await.expect("the lock goes with its holder").close().await;
}

#[tokio::test]
async fn a_full_ledger_takes_nothing_of_a_batch_and_goes_on_with_more_room() {
    let dir = scratch();
    let mut ledger = Ledger::open(dir.path(), Some(96 * 1024)).await.expect("a ledger");
    let (mut chain, mut kept, mut parcels) = (Chain::new(), 0, 0);
    let full = loop {
        let before = chain;
        let more = entries(&mut chain, 3);
        let count = more.len() as u64;
        let id = more[0].entry.seq;
        // Behind the genesis, which lets nothing leave.
        let parcel = Parcel::keep(id, Lane::Signals, &waiting(id + 1, 900));
        match ledger.append(Batch { entries: more, parcels: vec![parcel], ..Batch::default() }).await {
            Ok(()) => (kept, parcels) = (kept + count, parcels + 1),
            Err(fault) => {
                chain = before;
                break fault;
            }
        }
        assert!(kept < 1000, "the bound does not bind");
    };
    assert!(matches!(full, LedgerError::Full(_)), "{full}");
    // SQLite rolls back by itself where it finds no page: the next attempts must say the same.
    for _ in 0..3 {
        let big = Parcel { id: 1_000_000, lane: Lane::Signals, bytes: vec![1; 200_000] };
        let again = ledger.append(Batch { parcels: vec![big], ..Batch::default() }).await;
        assert!(matches!(again, Err(LedgerError::Full(_))), "{again:?}");
        let probed = ledger.probe().await;
        assert!(matches!(probed, Err(LedgerError::Full(_))), "{probed:?}");
    }
    let report = checked(dir.path()).await;
    assert_eq!((report.fault, report.entries), (None, kept));
    // Booking what is carried needs no room.
    ledger.append(Batch { carried: vec![1], ..Batch::default() }).await.expect("room is made, not taken");
    ledger.close().await;

    let mut ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
    let recovered = ledger.replay(|_| {}).await.expect("a replay");
    assert_eq!((recovered.chain, recovered.entries), (chain, kept));
    assert_eq!(recovered.parcels.len(), parcels - 1);
    ledger.probe().await.expect("room");
    ledger.append(batch(entries(&mut chain, 200))).await.expect("an append");
    let report = checked(dir.path()).await;
    assert_eq!((report.fault, report.entries), (None, kept + 200));
}

#[tokio::test]
async fn parcels_come_and_go_with_their_batches() {
    let dir = scratch();
    let mut ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
    let mut chain = Chain::new();
    let parcel = |id| Parcel { id, lane: Lane::Results, bytes: vec![1] };
    let first =
        Batch { entries: entries(&mut chain, 4), parcels: vec![parcel(2), parcel(4)], ..Batch::default() };
    ledger.append(first).await.expect("an append");
    assert_eq!(ledger.replay(|_| {}).await.expect("a replay").parcels, [parcel(2), parcel(4)]);
    // A batch whose last statement fails takes its entries and bookings with it.
    let broken = Batch {
        entries: entries(&mut chain.clone(), 2),
        parcels: vec![parcel(6), parcel(6)],
        carried: vec![2],
        ..Batch::default()
    };
    assert!(matches!(ledger.append(broken).await, Err(LedgerError::Database(_))));
    let recovered = ledger.replay(|_| {}).await.expect("a replay");
    assert_eq!((recovered.entries, recovered.parcels), (5, vec![parcel(2), parcel(4)]));
    let other = Parcel::keep(4, Lane::Results, &waiting(4, 1));
    let replaced = Batch { replaced: vec![other.clone()], ..Batch::default() };
    ledger.append(replaced).await.expect("an append");
    assert_eq!(ledger.replay(|_| {}).await.expect("a replay").parcels, [parcel(2), other.clone()]);
    let done = Batch { replaced: vec![parcel(4)], carried: vec![4], ..Batch::default() };
    ledger.append(done).await.expect("an append");
    assert_eq!(
        ledger.replay(|_| {}).await.expect("a replay").parcels,
        [parcel(2)],
        "done with in the same batch"
    );
    let kept = Batch { parcels: vec![parcel(4)], ..Batch::default() };
    ledger.append(kept).await.expect("an append");
    let booked = Batch {
        entries: entries(&mut chain, 2),
        parcels: vec![parcel(6)],
        carried: vec![2],
        ..Batch::default()
    };
    ledger.append(booked).await.expect("an append");
    let recovered = ledger.replay(|_| {}).await.expect("a replay");
    assert_eq!((recovered.entries, recovered.parcels), (7, vec![parcel(4), parcel(6)]));
}

#[tokio::test]
async fn an_append_that_is_given_up_leaves_a_whole_prefix() {
    let mut given_up = 0;
    for micros in (0..40).map(|step| step * 150) {
        let dir = scratch();
        let mut ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
        let mut chain = Chain::new();
        ledger.append(batch(entries(&mut chain, 4))).await.expect("an append");
        let before = chain;
        let more = batch(entries(&mut chain, 300));
        let append = ledger.append(more);
        let is_over = match micros {
            // Handed to the database's thread and left there, however fast that is.
            0 => append.now_or_never().is_some(),
            _ => tokio::time::timeout(Duration::from_micros(micros), append).await.is_ok(),
        };
        given_up += u32::from(!is_over);
        // The same ledger can still be written: an open transaction is rolled back first.
        let mut end = ledger.replay(|_| {}).await.expect("a replay").chain;
        if micros % 300 == 0 {
            let _ = ledger.append(batch(entries(&mut end, 1))).await;
        }
        drop(ledger);
        let report = settled(dir.path()).await;
        assert_eq!(report.fault, None);
        // What was handed to the database may still be done: all or nothing, and one more.
        let is_prefix = matches!(report.entries, 5 | 6 | 305 | 306);
        assert!(is_prefix, "{} entries after {micros} µs; the chain ended at {before:?}", report.entries);
    }
    assert!(given_up > 0, "no append was given up");
}

/// The report once what was begun has ended: a dropped connection's thread finishes by itself.
async fn settled(dir: &Path) -> ChainReport {
    loop {
        let report = checked(dir).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        if report == checked(dir).await {
            return report;
        }
    }
}

#[tokio::test]
async fn a_reader_filters_by_place_trace_key_and_target() {
    let dir = scratch();
    let all = written(dir.path()).await;
    let reader = Reader::open(dir.path()).await.expect("a reader");
    let seqs = async |filter: Filter| -> Vec<u64> {
        let found = reader.select(&filter, usize::MAX).await.expect("entries");
        found.iter().map(|sealed| sealed.entry.seq).collect()
    };
    assert_eq!(seqs(Filter { from: Some(4), to: Some(6), ..Filter::default() }).await, [4, 5, 6]);
    assert_eq!(seqs(Filter { from: Some(u64::MAX), ..Filter::default() }).await, [0_u64; 0]);
    assert_eq!(seqs(Filter { correlation_id: Some("c-3".to_owned()), ..Filter::default() }).await, [4]);
    assert_eq!(seqs(Filter { idempotency_key: Some("i-11".to_owned()), ..Filter::default() }).await, [12]);
    let target = |instance: &str| Filter {
        target: Some(Scope::new("kestrel", "generator", instance)),
        ..Filter::default()
    };
    assert_eq!(seqs(target("gen-2")).await, [3]);
    assert_eq!(seqs(target("ALL")).await, (2..=12).collect::<Vec<_>>());
    let everyone = Filter { target: Some(Scope::new("ALL", "ALL", "ALL")), ..Filter::default() };
    assert_eq!(seqs(everyone).await.len(), 11, "the genesis is about nobody");
    let stranger = Filter { target: Some(Scope::new("merlin", "ALL", "ALL")), ..Filter::default() };
    assert_eq!(seqs(stranger).await, [0_u64; 0]);
    assert_eq!(reader.select(&Filter::default(), 2).await.expect("entries"), all[..2]);
    assert_eq!(reader.tail(3).await.expect("entries"), all[9..]);
    assert_eq!(reader.entry(7).await.expect("an entry"), Some(all[6].clone()));
    assert_eq!(reader.entry(13).await.expect("an answer"), None);
    assert_eq!(reader.last_seq().await.expect("a place"), 12);
}

#[tokio::test]
async fn a_newer_format_is_left_alone() {
    let dir = scratch();
    written(dir.path()).await;
    let mut connection = by_hand(dir.path()).await;
    run(&mut connection, "PRAGMA user_version = 3").await.expect("a pragma");
    connection.close().await.expect("closed");
    let newer = |fault: LedgerError| matches!(fault, LedgerError::Newer { found: 3, known: 2 });
    assert!(newer(Ledger::open(dir.path(), None).await.expect_err("refused")));
    assert!(newer(Reader::open(dir.path()).await.expect_err("refused")));
    assert!(newer(verify(dir.path()).await.expect_err("refused")));
    let nowhere: PathBuf = dir.path().join("nowhere");
    assert!(matches!(verify(&nowhere).await, Err(LedgerError::Missing(_))));
}

#[tokio::test]
async fn the_files_of_a_ledger_are_their_owners_alone() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let dir = scratch();
    let modes = || {
        let files = fs::read_dir(dir.path()).expect("a directory").map(|file| file.expect("a file"));
        let modes = files.map(|file| {
            let mode = file.metadata().expect("its mode").permissions().mode() & 0o777;
            (file.file_name().to_string_lossy().into_owned(), mode)
        });
        modes.collect::<Vec<_>>()
    };
    let all_private = || modes().iter().all(|(_, mode)| mode & 0o077 == 0);
    let ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
    assert!(modes().len() >= 3 && all_private(), "{:?}", modes());
    ledger.close().await;
    for (name, _) in modes() {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o644)).expect("a mode");
    }
    assert!(!all_private());
    let ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
    assert!(all_private(), "{:?}", modes());
    ledger.close().await;
}

/// A copy of a ledger that is being written takes half of what it could, and holds no commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_no_later_beside_a_backup() {
    const RUNS: usize = 5;
    const COMMITS: usize = 100;
    let dir = tempfile::tempdir().expect("a directory");
    let mut ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
    let mut chain = Chain::new();
    for _ in 0..60 {
        ledger.append(batch(entries(&mut chain, 500))).await.expect("an append");
    }
    let mut figures = Alternating::default();
    for run in 0..RUNS {
        for copies in [false, true] {
            let (place, to) = (dir.path().to_owned(), dir.path().join(format!("copy-{run}")));
            let copy = copies.then(|| tokio::spawn(async move { backup(&place, &to, |_, _| ()).await }));
            let mut took = Vec::new();
            while took.len() < COMMITS && copy.as_ref().is_none_or(|copy| !copy.is_finished()) {
                let round = batch(entries(&mut chain, 5));
                let begun = Instant::now();
                ledger.append(round).await.expect("an append");
                took.push(begun.elapsed());
            }
            assert!(took.len() > 20, "the copy was made beside {} commits", took.len());
            if let Some(copy) = copy {
                copy.await.expect("a thread").expect("a copy");
            }
            figures.add(copies, took);
        }
    }
    figures.hold("a backup");
    ledger.close().await;
}
