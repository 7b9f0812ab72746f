//! A ledger that cannot be written while the router runs: full, refusing, and writable again.
//!
//! Owns: the proof of rulings about a failed ledger: only stop and tightening pass, nothing is lost, nothing twice.
//! Never: mocks the ledger; a second connection's triggers refuse its writes, as a broken disk would.
//! Holds: after recovery every waiting command is carried under exactly one id, and the chain is valid.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use swarmgate::{
    bus::{Bus, Departure, Fate, Queue, QueueKind, embedded::Embedded},
    contract::{
        audit::{Action, Verdict},
        digest::Digest,
        message::{Message, Properties},
    },
    ledger::{
        FILE,
        chain::Sealed,
        query::{Filter, Reader},
        verify::verify,
    },
    runtime::{
        boot::{self, Running},
        clock,
        config::{Layers, load},
        link::Standing,
        setup,
    },
    telemetry::Telemetry,
};

/// How long anything may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing more is written: neither entries nor the probe. A rollback of its own is what a full disk does.
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
        let telemetry = Arc::new(Telemetry::default());
        let mut loaded = load(&Layers::default()).expect("the defaults");
        loaded.config.ledger.dir = self.dir.path().to_owned();
        let bus: Arc<dyn Bus> = Arc::new(self.broker.clone());
        let mut setup = setup::enforce(&loaded, Arc::new(Standing(bus)), Arc::clone(&telemetry));
        setup.ledger_size_max_bytes = size_max_bytes;
        (boot::start(setup).await.expect("a start"), telemetry)
    }

    async fn send(&self, messages: &[Message]) {
        let mut publisher = self.broker.publisher().await.expect("a publisher");
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
        let depth = self.broker.depth(&format!("swarmgate.in.{lane}")).expect("a queue");
        depth.0 + depth.1
    }

    /// Takes what the subscriber has heard so far, and answers the keys of the commands of that type.
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

    /// Each of `sent` was carried under one message-id, no id stands for two bodies, and nothing was refused.
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
    let mut replayed = swarmgate::decision::state::State::new(corridor.state().rules().clone());
    for sealed in &entries {
        replayed.apply(sealed.entry.seq, &sealed.entry.fact);
    }
    assert_eq!(replayed.digest(), corridor.state().digest());
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
