//! Worlds of answers: lost, late, foreign and repeated outcomes, absent targets, and restarts in
//! between.
//!
//! Owns: a small fleet that answers as it likes, and the proof that every command ends exactly once
//! all the same.
//! Never: fixes when a router is killed; the seed does.
//! Holds: after enough time nothing is in flight, nothing waits, and the ledger folds to the
//! running state.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use swarmgate::{
    bus::{Bus, Departure, Queue, QueueKind, Topology, embedded::Embedded},
    clock,
    config::{Layers, load},
    contract::{
        audit::Change,
        digest::Digest,
        message::{Message, Properties},
        routing::{ControlPlaneRouting, Family, Scope},
    },
    decision::state::State,
    ledger::{
        query::{Filter, Reader},
        verify,
    },
    runtime::{
        ask::Question,
        boot::{self, Running},
        link::SteadyBus,
        setup, topology,
    },
    telemetry::Telemetry,
    view::Page,
};

use super::Random;

/// Worlds in the ordinary run; they mostly wait, so they run side by side.
const WORLDS: u64 = 32;
/// How long a command waits in these worlds. On a busy machine an answer takes a while, and worlds
/// in which everything times out show little.
const DEADLINE_MS: u64 = 1_500;
/// How long a commit or an end may take.
const SLOW_MS_MAX: u64 = 60_000;
/// How long a world may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(30);
/// Instances of the fleet; some of them come late or never.
const INSTANCES: u64 = 4;

#[test]
fn every_command_ends_once_in_every_world() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut worlds = tokio::task::JoinSet::new();
        for seed in 0..WORLDS {
            worlds.spawn(world(seed));
        }
        let mut ended = BTreeMap::<String, usize>::new();
        while let Some(world) = worlds.join_next().await {
            for (status, count) in world.expect("a world") {
                *ended.entry(status).or_default() += count;
            }
        }
        for status in ["Applied", "Failed", "TimedOut", "Partial", "Superseded"] {
            assert!(ended.contains_key(status), "no world saw `{status}`: {ended:?}");
        }
    });
}

/// How an instance treats a command.
#[derive(Clone, Copy)]
enum Manner {
    Answers,
    Fails,
    Repeats,
    IsLate,
    IsSilent,
    /// Another instance answers for it.
    IsForged,
}

async fn world(seed: u64) -> BTreeMap<String, usize> {
    let mut random = Random(seed.wrapping_mul(7919));
    let dir = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" });
    let dir = dir.expect("a directory");
    let broker = Embedded::new();
    listen(&broker).await;
    let mut running = start(&broker, dir.path()).await;
    let mut fleet = tokio::task::JoinSet::new();
    for number in 0..INSTANCES {
        // The last one never comes.
        let comes_after = Duration::from_millis(if number < 2 { 0 } else { random.below(900) });
        if number < INSTANCES - 1 {
            fleet.spawn(instance(broker.clone(), number, comes_after, Random(seed ^ (number << 32))));
        }
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    for number in 0..10 {
        send(&broker, command(&mut random, number)).await;
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        if random.below(6) == 0 {
            running.kill().await;
            broker.drop_consumers();
            running = start(&broker, dir.path()).await;
        }
    }
    rest(seed, &running, &broker).await;
    let corridor = running.stop().await.unwrap_or_else(|| panic!("seed {seed}: the router did not drain"));
    fleet.shutdown().await;
    check(seed, dir.path(), &broker, corridor.state()).await
}

async fn start(broker: &Embedded, dir: &Path) -> Running {
    let mut loaded = load(&Layers::default()).expect("the defaults");
    loaded.config.ledger.dir = dir.join("ledger");
    loaded.config.commands.catch_up_ms = 50;
    for deadline in loaded.config.deadlines.0.values_mut() {
        *deadline = DEADLINE_MS;
    }
    let bus: Arc<dyn Bus> = Arc::new(broker.clone());
    // Thirty-two worlds share a machine that may be busy: how a slow disk ends is other tests'.
    loaded.config.drain_timeout_ms = SLOW_MS_MAX;
    loaded.config.ledger.commit_timeout_ms = SLOW_MS_MAX;
    let setup = setup::enforce(&loaded, Arc::new(SteadyBus(bus)), Arc::new(Telemetry::default()));
    boot::start(setup).await.expect("a start")
}

/// An audience for every event and every command, on durable queues of its own.
async fn listen(broker: &Embedded) {
    let rules = load(&Layers::default()).expect("the defaults").rules();
    let mut topology = topology::enforce("swarmgate", &rules.commands);
    for (name, pattern) in [("worlds.events", "event.outcome.#"), ("worlds.alerts", "event.alert.#")] {
        let bindings = vec![("swarmgate.out".to_owned(), pattern.to_owned())];
        topology.queues.push(Queue { name: name.to_owned(), kind: QueueKind::Quorum, bindings });
    }
    broker.declare(&topology).await.expect("a topology");
}

fn scope(number: u64) -> Scope {
    Scope::new("sim", "worker", format!("w-{number}"))
}

fn queue_of(scope: &Scope) -> String {
    format!("worlds.{}", scope.instance)
}

/// One instance: it comes, says so, and treats each command as its manner is.
async fn instance(broker: Embedded, number: u64, comes_after: Duration, mut random: Random) {
    tokio::time::sleep(comes_after).await;
    let scope = scope(number);
    let bindings = ControlPlaneRouting::signal_bindings("*", &scope);
    let queue = Queue {
        name: queue_of(&scope),
        kind: QueueKind::Quorum,
        bindings: bindings.into_iter().map(|pattern| ("swarmgate.out".to_owned(), pattern)).collect(),
    };
    broker.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await.expect("a queue");
    let mut known = BTreeSet::new();
    let mut ticker = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticker.tick().await;
        send(&broker, status(&scope)).await;
        while let Ok(Some((delivery, settler))) = broker.get(&queue_of(&scope)).await {
            let id = delivery.message.properties.message_id.clone();
            settler.ack(delivery.tag, false).await.expect("an ack");
            if id.is_none_or(|id| known.insert(id)) {
                answer(&broker, number, &delivery.message, &mut random).await;
            }
        }
    }
}

async fn answer(broker: &Embedded, number: u64, command: &Message, random: &mut Random) {
    let manner = match random.below(8) {
        0..=2 => Manner::Answers,
        3 => Manner::Fails,
        4 => Manner::Repeats,
        5 => Manner::IsLate,
        6 => Manner::IsSilent,
        _ => Manner::IsForged,
    };
    let by = |number, status| outcome(&scope(number), command, status);
    match manner {
        Manner::Answers => send(broker, by(number, good(command))).await,
        Manner::Fails => send(broker, by(number, "Failed")).await,
        Manner::Repeats => {
            send(broker, by(number, good(command))).await;
            send(broker, by(number, good(command))).await;
        }
        Manner::IsLate => {
            let (broker, late) = (broker.clone(), by(number, good(command)));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(DEADLINE_MS + 300)).await;
                send(&broker, late).await;
            });
        }
        Manner::IsSilent => {}
        Manner::IsForged => send(broker, by(number + 10, good(command))).await,
    }
}

fn good(command: &Message) -> &'static str {
    if command.routing_key.contains(".swarm-stop.") {
        "Stopped"
    } else if command.routing_key.contains(".swarm-start.") {
        "Running"
    } else {
        "Applied"
    }
}

fn command(random: &mut Random, number: u64) -> Message {
    let kind_type = match random.below(6) {
        0 => "swarm-stop",
        1 | 2 => "swarm-start",
        _ => "config-update",
    };
    let target = match random.below(4) {
        0 if kind_type != "swarm-start" => Scope::new("sim", "worker", "ALL"),
        _ => scope(random.below(INSTANCES)),
    };
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": "orc",
        "scope": target, "correlationId": format!("c-{number}"), "idempotencyKey": format!("i-{number}"),
        "data": {},
    });
    message(&ControlPlaneRouting::of(Family::Signal, kind_type, &target), &body)
}

fn outcome(by: &Scope, command: &Message, status: &str) -> Message {
    let asked: Value = serde_json::from_slice(&command.body).expect("a body");
    let kind_type = asked["type"].as_str().expect("a type");
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "outcome", "type": kind_type, "origin": by.instance,
        "scope": by, "correlationId": asked["correlationId"], "idempotencyKey": asked["idempotencyKey"],
        "data": { "status": status },
    });
    message(&ControlPlaneRouting::of(Family::Outcome, kind_type, by), &body)
}

fn status(of: &Scope) -> Message {
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "metric", "type": "status-full", "origin": of.instance,
        "scope": of,
        "data": { "enabled": true, "config": {}, "startedAt": "2026-01-01T00:00:00Z", "io": {}, "ioState": {} },
    });
    message(&ControlPlaneRouting::of(Family::Metric, "status-full", of), &body)
}

fn message(key: &str, body: &Value) -> Message {
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: key.to_owned(),
        properties: Properties::default(),
        body: body.to_string().into(),
    }
}

async fn send(broker: &Embedded, message: Message) {
    let departure = Departure { message, mandatory: true };
    let publisher = broker.publisher().await.expect("a publisher");
    publisher.publish(&[&departure], PATIENCE).await.expect("a fate");
}

/// Waits until nothing is in flight and nothing is left on a lane.
async fn rest(seed: u64, running: &Running, broker: &Embedded) {
    let rested = tokio::time::timeout(PATIENCE, async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let overview = running.asker().ask(Question::Overview).await.ok().flatten();
            let idle = ["urgent", "signals", "results"].iter().all(|lane| {
                broker.depth(&format!("swarmgate.in.{lane}.v2")).is_some_and(|(ready, out)| ready + out == 0)
            });
            if idle && matches!(overview, Some(Page::Overview(overview)) if overview.commands.in_flight == 0)
            {
                // Late answers are still on their way.
                tokio::time::sleep(Duration::from_millis(DEADLINE_MS + 400)).await;
                return;
            }
        }
    });
    assert!(rested.await.is_ok(), "seed {seed}: the world does not come to rest");
}

/// The invariants; answers how the commands ended.
async fn check(seed: u64, dir: &Path, broker: &Embedded, state: &State) -> BTreeMap<String, usize> {
    let ledger = dir.join("ledger");
    let report = verify::verify(&ledger).await.expect("a report");
    assert_eq!(report.fault, None, "seed {seed}");
    let reader = Reader::open(&ledger).await.expect("a reader");
    let entries = reader.select(&Filter::default(), usize::MAX).await.expect("entries");
    let mut replayed = State::new(state.rules().clone());
    let (mut accepted, mut ends) =
        (BTreeMap::<Digest, String>::new(), BTreeMap::<Digest, Vec<String>>::new());
    for sealed in &entries {
        let fact = &sealed.entry.fact;
        replayed.apply(sealed.entry.seq, fact);
        let ended = match &fact.change {
            Change::Accepted(accepts) => {
                if let (Some(command), Some(_)) = (accepts.command, accepts.deadline) {
                    accepted.insert(command, fact.correlation_id.clone().unwrap_or_default());
                }
                None
            }
            Change::Ended(ended) => Some(ended),
            Change::Result(result) => result.ends.as_ref(),
            _ => None,
        };
        if let Some(ended) = ended {
            ends.entry(ended.command).or_default().push(ended.status.clone());
        }
    }
    assert!(
        replayed.digest() == state.digest(),
        "seed {seed}: the fold of {} entries is another state:\n{}\nin {:?}",
        entries.len(),
        differing(&replayed, state),
        std::fs::read_dir(&ledger)
            .map(|files| files.flatten().map(|file| file.file_name()).collect::<Vec<_>>())
    );
    assert!(state.kept_parcels().is_empty(), "seed {seed}: something waits still");
    let heard = outcomes(broker).await;
    let mut statuses = BTreeMap::new();
    for (command, correlation_id) in &accepted {
        let ends = ends.get(command).map(Vec::as_slice).unwrap_or_default();
        let [status] = ends else {
            panic!("seed {seed}: {correlation_id} ended {} times: {ends:?}", ends.len())
        };
        let told = heard.get(correlation_id).is_some_and(|heard| heard.contains(status));
        assert!(told, "seed {seed}: nobody was told that {correlation_id} ended {status}: {heard:?}");
        *statuses.entry(status.clone()).or_default() += 1;
    }
    statuses
}

/// The first lines of what is recorded that the two do not share.
fn differing(fold: &State, running: &State) -> String {
    let lines = |state: &State| -> Vec<String> {
        let text = format!("{state:#?}");
        let recorded = text.lines().skip_while(|line| !line.contains("recorded:"));
        recorded.take_while(|line| !line.contains("observed:")).map(str::to_owned).collect()
    };
    let (fold, running) = (lines(fold), lines(running));
    let apart = fold.iter().zip(&running).filter(|(fold, running)| fold != running);
    let apart = apart.take(12).map(|(fold, running)| format!("folded {fold}\nruns   {running}"));
    apart.collect::<Vec<_>>().join("\n")
}

/// The statuses that were heard for each correlationId.
async fn outcomes(broker: &Embedded) -> BTreeMap<String, BTreeSet<String>> {
    let mut heard = BTreeMap::<String, BTreeSet<String>>::new();
    while let Some((delivery, settler)) = broker.get("worlds.events").await.expect("a queue") {
        settler.ack(delivery.tag, false).await.expect("an ack");
        let body: Value = serde_json::from_slice(&delivery.message.body).expect("a body");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        heard.entry(text(&body["correlationId"])).or_default().insert(text(&body["data"]["status"]));
    }
    heard
}
