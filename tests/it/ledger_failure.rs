//! A ledger that cannot be written while the router runs: full, refusing, and writable again.
//!
//! Owns: the proof about a failed ledger: only stop and tightening pass, nothing is lost, nothing
//! twice.
//! Never: mocks the ledger; a second connection's triggers refuse its writes, as a broken disk
//! would.
//! Holds: after recovery every waiting command is carried under exactly one id, and the chain is
//! valid.

mod begun_anew;
mod hang;
mod held_up;
mod on_rabbitmq;
mod outbox;
mod size;
mod start;
mod taken_away;
mod unreadable;
mod withdrawn;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use swarmgate::{
    bus::{Bus, Departure, Fate, Queue, QueueKind, embedded::Embedded},
    clock,
    config::{Layers, load},
    contract::{
        audit::{Action, Change, EmergencyId, Verdict},
        digest::Digest,
        interlock::KillSwitch,
        message::{Message, Properties},
        routing::{ALL, Scope},
    },
    decision::state::State,
    ledger::{
        FILE, Outgoing, Parcel,
        chain::Sealed,
        emergency::{self, EmergencyError, EmergencyLog, Record},
        mark,
        query::{Filter, Reader},
        verify::verify,
    },
    runtime::{
        boot::{self, BootError, Running, Setup},
        corridor::Corridor,
        latch::{self, Latch},
        link::SteadyBus,
        setup,
    },
    telemetry::Telemetry,
};

/// How long anything may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing more is written: neither entries nor the probe. A rollback of its own is what a full
/// disk does.
const REFUSE_ALL: &str = "
    CREATE TRIGGER drill_entries BEFORE INSERT ON entries BEGIN SELECT RAISE(ROLLBACK, 'drill'); END;
    CREATE TRIGGER drill_outbox BEFORE INSERT ON outbox BEGIN SELECT RAISE(ROLLBACK, 'drill'); END;
    CREATE TRIGGER drill_booked BEFORE DELETE ON outbox BEGIN SELECT RAISE(ROLLBACK, 'drill'); END;
    CREATE TRIGGER drill_probe BEFORE INSERT ON probe BEGIN SELECT RAISE(ROLLBACK, 'drill'); END";
const ALLOW_ALL: &str = "
    DROP TRIGGER drill_entries; DROP TRIGGER drill_outbox; DROP TRIGGER drill_booked; DROP TRIGGER drill_probe";
/// The probe passes and entries do not: the router believes in vain, again and again.
const REFUSE_ENTRIES: &str =
    "CREATE TRIGGER drill_entries BEFORE INSERT ON entries BEGIN SELECT RAISE(ROLLBACK, 'drill'); END";
const ALLOW_ENTRIES: &str = "DROP TRIGGER drill_entries";

/// A router on the embedded bus, and subscribers that hear everything.
struct Drill {
    dir: tempfile::TempDir,
    broker: Embedded,
    heard: Vec<Message>,
}

impl Drill {
    async fn new() -> Self {
        let place = Path::new("/dev/shm");
        let dir = if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() };
        let broker = Embedded::new();
        let rules = load(&Layers::default()).expect("the defaults").rules();
        let mut topology = swarmgate::runtime::topology::enforce("swarmgate", &rules.commands);
        for (name, exchange) in [("drill.heard", "swarmgate.out"), ("drill.refused", "swarmgate.refused")] {
            topology.queues.push(Queue {
                name: name.to_owned(),
                kind: QueueKind::Exclusive,
                bindings: vec![(exchange.to_owned(), "#".to_owned())],
            });
        }
        broker.declare(&topology).await.expect("a topology");
        Self { dir: dir.expect("a directory"), broker, heard: Vec::new() }
    }

    async fn start(&self, size_max_bytes: Option<u64>) -> (Running, Arc<Telemetry>) {
        self.try_start(|setup| setup.ledger_size_max_bytes = size_max_bytes).await.expect("a start")
    }

    /// The router that follows one that was killed, with what the broker keeps.
    async fn after_a_crash(&self, running: Running) -> Running {
        running.kill().await;
        self.broker.drop_consumers();
        self.start(None).await.0
    }

    async fn try_start(
        &self,
        change: impl FnOnce(&mut Setup),
    ) -> Result<(Running, Arc<Telemetry>), BootError> {
        let telemetry = Arc::new(Telemetry::default());
        let mut loaded = load(&Layers::default()).expect("the defaults");
        loaded.config.ledger.dir = self.dir.path().to_owned();
        let bus: Arc<dyn Bus> = Arc::new(self.broker.clone());
        let mut setup = setup::enforce(&loaded, Arc::new(SteadyBus(bus)), Arc::clone(&telemetry));
        setup.ledger_size_max_bytes = None;
        change(&mut setup);
        Ok((boot::start(setup).await?, telemetry))
    }

    fn emergency_log(&self) -> PathBuf {
        self.dir.path().join(emergency::FILE)
    }

    /// What waits on the emergency log.
    fn waiting(&self) -> Vec<Record> {
        emergency::read(&self.emergency_log()).expect("an emergency log").records
    }

    /// A ledger that refuses everything, a stop that was carried all the same, and a router that is
    /// killed then.
    async fn die_with_a_stop(&mut self) {
        let (running, telemetry) = self.start(None).await;
        self.send(&plans(0..3)).await;
        until("the first commands are carried", async || self.heard("swarm-plan").await.len() == 3).await;
        self.hand(REFUSE_ALL).await;
        self.send(&plans(3..6)).await;
        until("the ledger fails", async || !telemetry.health.ledger()).await;
        self.send(&[command(900, "swarm-stop")]).await;
        until("the stop is carried", async || self.heard("swarm-stop").await == ["i-900"]).await;
        until("the stop is settled", async || self.held("urgent") == 0).await;
        until("its carriage is written", async || self.waiting().len() == 2).await;
        assert!(telemetry.metrics.encode().contains("swarmgate_emergency_entries 2\n"));
        until("the mark knows of it", async || self.marked() == self.waiting().last().and_then(Record::id))
            .await;
        running.kill().await;
    }

    /// The newest emergency entry that the mark beside the ledger knows.
    fn marked(&self) -> Option<EmergencyId> {
        match mark::kept(self.dir.path()) {
            mark::Said::Mark(mark) => mark.emergency,
            _ => None,
        }
    }

    /// The ids under which a command was heard, each as often as it was.
    async fn ids_of(&mut self, key: &str) -> Vec<String> {
        self.heard("").await;
        let signals = self.heard.iter().filter(|message| message.routing_key.starts_with("signal."));
        let of_key = signals.filter(|message| body(message)["idempotencyKey"] == key);
        of_key.filter_map(|message| message.properties.message_id.clone()).collect()
    }

    async fn send(&self, messages: &[Message]) {
        let publisher = self.broker.publisher().await.expect("a publisher");
        let batch: Vec<Departure> =
            messages.iter().map(|message| Departure { message: message.clone(), mandatory: true }).collect();
        let fates = publisher.publish(&batch.iter().collect::<Vec<_>>(), PATIENCE).await.expect("fates");
        assert!(fates.iter().all(|fate| *fate == Fate::Carried), "{fates:?}");
    }

    async fn hand(&self, statements: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.dir.path().join(FILE));
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
        sqlx::raw_sql(statements).execute(&mut connection).await.expect("a drill");
        connection.close().await.expect("closed");
    }

    /// How many messages wait in a lane's queue or are unsettled.
    fn held(&self, lane: &str) -> usize {
        let depth = self.broker.depth(&format!("swarmgate.in.{lane}.v2")).expect("a queue");
        depth.0 + depth.1
    }

    /// Takes what the subscriber has heard so far, and answers the keys of the commands of that
    /// type.
    async fn heard(&mut self, kind_type: &str) -> Vec<String> {
        while let Some((delivery, settler)) = self.broker.get("drill.heard").await.expect("a queue") {
            settler.ack(delivery.tag, false).await.expect("an ack");
            self.heard.push(delivery.message);
        }
        let start = format!("signal.{kind_type}.");
        let of_type = self.heard.iter().filter(|message| message.routing_key.starts_with(&start));
        of_type.filter_map(|message| Some(body(message)["idempotencyKey"].as_str()?.to_owned())).collect()
    }

    async fn entries(&self) -> Vec<Sealed> {
        let report = verify(self.dir.path()).await.expect("a report");
        assert_eq!(report.fault, None);
        let reader = Reader::open(self.dir.path()).await.expect("a reader");
        reader.select(&Filter::default(), usize::MAX).await.expect("entries")
    }

    /// Each of `sent` was carried under one message-id, no id stands for two bodies, and nothing
    /// was refused.
    async fn check_carried_once(&mut self, kind_type: &str, sent: usize) {
        self.heard(kind_type).await;
        let mut ids = BTreeMap::<String, BTreeSet<String>>::new();
        let mut bodies = BTreeMap::<String, BTreeSet<Digest>>::new();
        for message in &self.heard {
            let id = message.properties.message_id.clone().expect("a message-id");
            bodies.entry(id.clone()).or_default().insert(Digest::of(&message.body));
            if message.routing_key.starts_with(&format!("signal.{kind_type}.")) {
                let key = body(message)["idempotencyKey"].to_string();
                ids.entry(key).or_default().insert(id);
            }
        }
        assert_eq!(ids.len(), sent, "commands are lost");
        assert!(ids.values().all(|ids| ids.len() == 1), "carried under two ids: {ids:?}");
        assert!(bodies.values().all(|bodies| bodies.len() == 1), "an id stands for two bodies");
        assert_eq!(self.broker.depth("drill.refused"), Some((0, 0)), "something was refused");
    }
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "still not: {what}");
}

fn body(message: &Message) -> Value {
    serde_json::from_slice(&message.body).expect("a body")
}

fn command(number: u64, kind_type: &str) -> Message {
    let instance = format!("c-{number}");
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": "orc",
        "scope": { "swarmId": "drill", "role": "controller", "instance": instance },
        "correlationId": format!("t-{number}"), "idempotencyKey": format!("i-{number}"),
        "data": {},
    });
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: format!("signal.{kind_type}.drill.controller.{instance}"),
        properties: Properties { user_id: Some("orc".to_owned()), ..Properties::default() },
        body: body.to_string().into(),
    }
}

fn plans(numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers.map(|number| command(number, "swarm-plan")).collect()
}

/// The entry that says a stop was asked for, and that it holds what left.
fn stop_entry(entries: &[Sealed], key: &str, sent: &[Message]) -> Option<u64> {
    let is_stop = |sealed: &&Sealed| {
        let fact = &sealed.entry.fact;
        fact.action == Action::Requested && fact.idempotency_key.as_deref() == Some(key)
    };
    let mut found = entries.iter().filter(is_stop);
    let sealed = found.next()?;
    assert!(found.next().is_none(), "`{key}` is written twice");
    assert_eq!(sealed.entry.fact.verdict, Some(Verdict::Forward));
    let left = sent.iter().find(|message| body(message)["idempotencyKey"] == key).expect("it was heard");
    assert_eq!(sealed.entry.out, [Digest::of(&left.body)], "the entry of a late audit names what left");
    Some(sealed.entry.seq)
}

/// The entries make the state that the router had.
fn check_replay(entries: &[Sealed], corridor: &Corridor) {
    let mut replayed = State::new(corridor.state().rules().clone());
    for sealed in entries {
        replayed.apply(sealed.entry.seq, &sealed.entry.fact);
    }
    assert_eq!(replayed.digest(), corridor.state().digest());
}

/// The emergency ids in a ledger, in its order.
fn emergency_ids(entries: &[Sealed]) -> Vec<String> {
    let ids = entries.iter().filter_map(|sealed| sealed.entry.fact.emergency_id);
    ids.map(|id| id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ledger_stops_all_but_stops_and_a_larger_one_carries_the_rest_once() {
    let mut drill = Drill::new().await;
    let (running, telemetry) = drill.start(Some(128 * 1024)).await;
    assert!(telemetry.health.ledger());
    drill.send(&plans(0..5)).await;
    until("the first commands are carried", async || drill.heard("swarm-plan").await.len() == 5).await;
    drill.send(&plans(5..205)).await;
    until("the ledger is full", async || !telemetry.health.ledger()).await;
    drill.send(&[command(900, "swarm-stop")]).await;
    until("the stop is carried", async || drill.heard("swarm-stop").await == ["i-900"]).await;
    until("the stop is settled", async || drill.held("urgent") == 0).await;
    let waiting = drill.held("signals");
    let carried: BTreeSet<String> = drill.heard("swarm-plan").await.into_iter().collect();
    assert!(waiting > 0 && waiting + carried.len() >= 205, "{waiting} wait, {} are carried", carried.len());
    // It stays so: nothing passes by itself.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(!telemetry.health.ledger(), "a full ledger is said to be writable");
    let later: BTreeSet<String> = drill.heard("swarm-plan").await.into_iter().collect();
    assert_eq!(later, carried, "a command got past a ledger that is full");
    assert!(running.stop().await.is_some(), "a router with a failed ledger drains all the same");
    let written = drill.entries().await;

    let (running, telemetry) = drill.start(None).await;
    until("every command is settled", async || drill.held("signals") == 0).await;
    assert!(telemetry.health.ledger());
    assert!(running.stop().await.is_some());
    assert!(drill.entries().await.len() > written.len());
    drill.check_carried_once("swarm-plan", 205).await;
    drill.check_carried_once("swarm-stop", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_can_be_written_again_takes_what_passed_and_carries_what_waited() {
    let mut drill = Drill::new().await;
    let (running, telemetry) = drill.start(None).await;
    drill.send(&plans(0..20)).await;
    until("the first commands are carried", async || drill.heard("swarm-plan").await.len() == 20).await;
    until("and settled", async || drill.held("signals") == 0).await;
    drill.hand(REFUSE_ALL).await;
    drill.send(&plans(20..60)).await;
    until("the ledger fails", async || !telemetry.health.ledger()).await;
    drill.send(&[command(900, "swarm-stop"), command(901, "swarm-stop"), command(900, "swarm-stop")]).await;
    until("the stops are carried", async || {
        let stops: BTreeSet<String> = drill.heard("swarm-stop").await.into_iter().collect();
        stops.len() == 2
    })
    .await;
    until("the stops are settled", async || drill.held("urgent") == 0).await;
    assert_eq!(drill.held("signals"), 40, "commands wait in their queue");
    assert_eq!(drill.heard("swarm-plan").await.len(), 20);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(!telemetry.health.ledger());
    drill.hand(ALLOW_ALL).await;
    until("the ledger is well", async || telemetry.health.ledger()).await;
    until("every command is settled", async || drill.held("signals") == 0).await;
    // A repeat of a stop that was carried unaudited is known for what it is.
    drill.send(&[command(901, "swarm-stop")]).await;
    until("the repeat is settled", async || drill.held("urgent") == 0).await;
    let corridor = running.stop().await.expect("it drains");
    drill.check_carried_once("swarm-plan", 60).await;
    drill.check_carried_once("swarm-stop", 2).await;
    let entries = drill.entries().await;
    for key in ["i-900", "i-901"] {
        assert!(stop_entry(&entries, key, &drill.heard).is_some(), "`{key}` was never written");
    }
    check_replay(&entries, &corridor);
    assert_eq!(drill.waiting(), [], "what the ledger holds is on the emergency log still");
    let mut ledger = swarmgate::ledger::Ledger::open(drill.dir.path(), None).await.expect("a ledger");
    let left = ledger.replay(|_| {}).await.expect("a replay").parcels;
    assert!(left.is_empty(), "parcels that were carried are kept: {}", left.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_fails_again_and_again_forgets_nothing() {
    let mut drill = Drill::new().await;
    let (running, telemetry) = drill.start(None).await;
    drill.send(&plans(0..3)).await;
    until("the first commands are carried", async || drill.heard("swarm-plan").await.len() == 3).await;
    drill.hand(REFUSE_ENTRIES).await;
    drill.send(&plans(3..10)).await;
    until("the ledger fails", async || !telemetry.health.ledger()).await;
    drill.send(&[command(900, "swarm-stop")]).await;
    until("the stop is carried", async || !drill.heard("swarm-stop").await.is_empty()).await;
    // Long enough for the probe to succeed twice and for what is owed to fail twice.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    drill.hand(ALLOW_ENTRIES).await;
    until("every command is settled", async || drill.held("signals") + drill.held("urgent") == 0).await;
    until("the ledger is well", async || telemetry.health.ledger()).await;
    assert!(running.stop().await.is_some());
    drill.check_carried_once("swarm-plan", 10).await;
    let entries = drill.entries().await;
    assert!(stop_entry(&entries, "i-900", &drill.heard).is_some(), "a stop was never written");
    let stops = drill.heard("swarm-stop").await;
    assert_eq!(stops, ["i-900"], "a stop was carried again by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_dies_leaves_its_stops_to_the_next_one() {
    let mut drill = Drill::new().await;
    drill.die_with_a_stop().await;
    let left = drill.waiting();
    assert_eq!(left[0].id(), Some(EmergencyId { epoch: 1, n: 1 }));
    let seq = left[0].sealed.entry.seq;
    let sealed: Vec<Sealed> = left.into_iter().map(|record| record.sealed).collect();
    assert_eq!(stop_entry(&sealed, "i-900", &drill.heard), Some(seq));
    let ids = drill.ids_of("i-900").await;
    assert!(ids.len() == 1 && ids[0].ends_with(".e1.1.0"), "{ids:?}");
    let saved = fs::read(drill.emergency_log()).expect("a copy");

    drill.hand(ALLOW_ALL).await;
    let (running, _) = drill.start(None).await;
    until("every command is settled", async || drill.held("signals") == 0).await;
    drill.send(&[command(900, "swarm-stop")]).await;
    until("the repeat is settled", async || drill.held("urgent") == 0).await;
    let corridor = running.stop().await.expect("it drains");
    assert_eq!(drill.waiting(), []);
    let entries = drill.entries().await;
    assert_eq!(stop_entry(&entries, "i-900", &drill.heard), Some(seq));
    assert_eq!(emergency_ids(&entries), ["e1.1", "e1.2"]);
    check_replay(&entries, &corridor);
    assert_eq!(drill.ids_of("i-900").await, ids, "a repeat of a stop on record was carried");
    drill.check_carried_once("swarm-plan", 6).await;

    // As though the next router had died between its commit and the clearing.
    fs::write(drill.emergency_log(), saved).expect("the copy is back");
    let (running, _) = drill.start(None).await;
    let corridor = running.stop().await.expect("it drains");
    assert_eq!(drill.waiting(), []);
    let again = drill.entries().await;
    assert_eq!(emergency_ids(&again), ["e1.1", "e1.2"], "something was appended twice");
    check_replay(&again, &corridor);
    assert_eq!(drill.ids_of("i-900").await, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_on_record_that_nobody_knows_carried_leaves_at_the_next_start() {
    let mut drill = Drill::new().await;
    drill.die_with_a_stop().await;
    // As though it had died before the broker took the stop: its carriage is not on record.
    let stop = drill.waiting().remove(0);
    let path = drill.emergency_log();
    fs::remove_file(&path).expect("removed");
    let (mut log, _) = EmergencyLog::open(&path, 64 * 1024, false).expect("a log");
    log.append(&[stop]).expect("written");
    drop(log);
    drill.hand(ALLOW_ALL).await;
    let (running, _) = drill.start(None).await;
    until("the stop is carried again", async || drill.ids_of("i-900").await.len() == 2).await;
    until("every command is settled", async || drill.held("signals") == 0).await;
    assert!(running.stop().await.is_some());
    let ids: BTreeSet<String> = drill.ids_of("i-900").await.into_iter().collect();
    assert_eq!(ids.len(), 1, "carried under two ids: {ids:?}");
    assert!(stop_entry(&drill.entries().await, "i-900", &drill.heard).is_some());
    let mut ledger = swarmgate::ledger::Ledger::open(drill.dir.path(), None).await.expect("a ledger");
    assert!(ledger.replay(|_| {}).await.expect("a replay").parcels.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_is_on_its_way_when_the_ledger_recovers_survives_a_crash() {
    let mut drill = Drill::new().await;
    let (running, telemetry) = drill.start(None).await;
    drill.hand(REFUSE_ALL).await;
    drill.send(&plans(0..3)).await;
    until("the ledger fails", async || !telemetry.health.ledger()).await;
    // A broker that takes nothing more the moment it has a stop; one that was faster is no case.
    let mut stopped = None;
    for number in 900..950 {
        drill.send(&[command(number, "swarm-stop")]).await;
        drill.broker.block(Some("drill"));
        let key = format!("i-{number}");
        let is_its = |record: &Record| record.sealed.entry.fact.idempotency_key.as_deref() == Some(&key);
        until("the stop is on record", async || drill.waiting().iter().any(is_its)).await;
        if drill.ids_of(&key).await.is_empty() {
            stopped = Some(key);
            break;
        }
        drill.broker.block(None);
    }
    let key = stopped.expect("a stop that is on its way");
    drill.hand(ALLOW_ALL).await;
    until("the ledger has what waited", async || drill.waiting().is_empty()).await;
    assert!(drill.ids_of(&key).await.is_empty(), "the broker took it all the same");
    running.kill().await;
    drill.broker.drop_consumers();
    drill.broker.block(None);
    let (running, _) = drill.start(None).await;
    until("the stop is carried", async || !drill.ids_of(&key).await.is_empty()).await;
    until("every command is settled", async || drill.held("signals") + drill.held("urgent") == 0).await;
    assert!(running.stop().await.is_some());
    let ids: BTreeSet<String> = drill.ids_of(&key).await.into_iter().collect();
    assert!(ids.len() == 1 && ids.iter().all(|id| id.contains(".e1.")), "{ids:?}");
    assert!(stop_entry(&drill.entries().await, &key, &drill.heard).is_some());
    let mut ledger = swarmgate::ledger::Ledger::open(drill.dir.path(), None).await.expect("a ledger");
    assert!(ledger.replay(|_| {}).await.expect("a replay").parcels.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_passes_where_the_emergency_log_has_no_room_either() {
    let mut drill = Drill::new().await;
    let started = drill.try_start(|setup| setup.emergency_size_bytes = 64).await;
    let (running, telemetry) = started.expect("a start");
    drill.hand(REFUSE_ALL).await;
    drill.send(&plans(0..3)).await;
    until("the ledger fails", async || !telemetry.health.ledger()).await;
    drill.send(&[command(900, "swarm-stop")]).await;
    until("the stop is carried", async || drill.heard("swarm-stop").await == ["i-900"]).await;
    until("the stop is settled", async || drill.held("urgent") == 0).await;
    assert_eq!(drill.waiting(), []);
    drill.hand(ALLOW_ALL).await;
    until("the ledger is well", async || telemetry.health.ledger()).await;
    until("every command is settled", async || drill.held("signals") == 0).await;
    let corridor = running.stop().await.expect("it drains");
    let entries = drill.entries().await;
    assert!(stop_entry(&entries, "i-900", &drill.heard).is_some(), "it was never written");
    assert_eq!(emergency_ids(&entries), ["e1.1", "e1.2"]);
    check_replay(&entries, &corridor);
    drill.check_carried_once("swarm-plan", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_tightened_by_latch_and_by_signal_is_tight_after_a_crash() {
    let drill = Drill::new().await;
    let (running, telemetry) = drill.start(None).await;
    drill.hand(REFUSE_ALL).await;
    let set = |drill: &Drill| {
        drill.waiting().iter().filter(|it| it.sealed.entry.fact.action == Action::KillSwitchSet).count()
    };
    // The latch is the first that the ledger refuses: what it did is given up with that commit, and
    // done again.
    let wanted = Latch {
        level: KillSwitch::CloseOnly.word().to_owned(),
        scope: ALL.to_owned(),
        reason: "drill".to_owned(),
        by: "orc".to_owned(),
        since: clock::wall(),
    };
    latch::throw(drill.dir.path(), wanted).expect("a latch");
    until("the ledger fails", async || !telemetry.health.ledger()).await;
    until("the latch is on record", async || set(&drill) == 1).await;
    let mut tighten = command(901, "kill-switch-set");
    let mut said = body(&tighten);
    said["scope"] = json!({ "swarmId": ALL, "role": ALL, "instance": ALL });
    said["data"] = json!({ "level": "BLOCK", "reason": "drill" });
    (tighten.body, tighten.routing_key) =
        (said.to_string().into(), "signal.kill-switch-set.ALL.ALL.ALL".to_owned());
    drill.send(&[tighten]).await;
    until("the kill switch is on record", async || set(&drill) == 2).await;
    running.kill().await;
    let first = drill.waiting().remove(0).sealed.entry.fact;
    assert_eq!(first.emergency_id.map(|id| id.to_string()).as_deref(), Some("e1.1"));

    fs::remove_file(drill.dir.path().join(latch::FILE)).expect("the latch is gone, what it did stays");
    drill.hand(ALLOW_ALL).await;
    let (running, _) = drill.start(None).await;
    let corridor = running.stop().await.expect("it drains");
    let everything = Scope::new(ALL, ALL, ALL);
    assert_eq!(corridor.state().safety().kill_switch(&everything), KillSwitch::Block);
    check_replay(&drill.entries().await, &corridor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_refused_where_the_emergency_log_is_anothers_or_has_no_place() {
    let mut drill = Drill::new().await;
    drill.die_with_a_stop().await;
    let mut other = Drill::new().await;
    let (running, _) = other.start(None).await;
    assert!(running.stop().await.is_some());
    fs::copy(drill.emergency_log(), other.emergency_log()).expect("a copy");
    let fault = other.try_start(|_| {}).await.err().expect("a refusal");
    assert!(matches!(fault, BootError::Emergency(EmergencyError::Foreign { .. })), "{fault}");
    assert_eq!(other.waiting().len(), 2, "nothing is taken from it");
    let missing = other.dir.path().join("missing").join("emergency.log");
    let fault = other.try_start(|setup| setup.emergency_path = missing).await.err().expect("a refusal");
    assert!(matches!(fault, BootError::Emergency(EmergencyError::File { .. })), "{fault}");
    // At a place of its own it starts, and what was beside it stays.
    let second = tempfile::tempdir().expect("a second place");
    let path = second.path().join("emergency.log");
    let started = other.try_start(|setup| setup.emergency_path = path.clone()).await;
    let (running, _) = started.expect("a start");
    let locked = EmergencyLog::open(&path, 64 * 1024, false).expect_err("a refusal");
    assert!(matches!(locked, EmergencyError::Locked(_)), "{locked}");
    // What it has to say leaves before it is told to stop.
    running.link().connected(0).await;
    assert!(running.stop().await.is_some());
    assert!(EmergencyLog::open(&path, 64 * 1024, false).is_ok(), "a router that stopped lets go of it");
    assert!(other.heard("swarm-stop").await.is_empty());
}
