//! Control sessions: all orders of bootstrap, ready, start, stop and heartbeat for three workers,
//! to length 7.
//!
//! Owns: the session machine as a table, and two walks that compare it with the session that the
//! channel uses and with the corridor's gate.
//! Never: names a row of the code.
//! Holds: the walk over the channel's session is exhaustive. 15 words in 7 places are 170,859,375
//! orders, but what is answered to a word depends on nothing but the session as it stands, and a
//! session that prints alike is alike (its `Debug` shows every field). So orders that lead to one
//! and the same session are walked on as one, at each length, and each of the 15 words is said to
//! each session that any order of six words can lead to. The corridor's state holds entries and
//! times and never repeats, so there the walk merges what the table has as one state, and every
//! order of up to three words (four in the proof) is told apart besides, to find what depends on
//! the way and not on the place.

use std::{collections::BTreeMap, env};

use serde_json::{Map, Value, json};
use swarmgate::{
    contract::{
        control::{BootstrapKeyBundle, ControlMessage, Kdf, MasterSecret, MessageKind, SecretMode},
        timestamp::Timestamp,
    },
    decision::session::{ControlPlaneSession, SessionFault},
};

use crate::{
    adapter::{self, Requires},
    oracle::Gate,
    world::{Heard, World, bot},
};

const WORKERS: usize = 3;
const LENGTH: usize = 7;

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    New,
    Bootstrapped,
    Ready,
    Working,
    Stopped,
}

use Phase::{Bootstrapped, New, Ready, Stopped, Working};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Bootstrap,
    Ready,
    Start,
    Stop,
    Heartbeat,
}

impl Word {
    const ALL: [Self; 5] = [Self::Bootstrap, Self::Ready, Self::Start, Self::Stop, Self::Heartbeat];
}

/// Which workers a start names as required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Required {
    All,
    Itself,
    Nobody,
}

impl Required {
    const ALL: [Self; 3] = [Self::All, Self::Itself, Self::Nobody];

    fn of(self, worker: usize) -> Vec<usize> {
        match self {
            Self::All => (0..WORKERS).collect(),
            Self::Itself => vec![worker],
            Self::Nobody => Vec::new(),
        }
    }
}

type Phases = [Phase; WORKERS];

const DUPLICATE: Result<Phase, &str> = Err("session.duplicate-bootstrap");
const NOT_YET: Result<Phase, &str> = Err("session.not-bootstrapped");

/// The machine: a row a word, a column a phase, in the order New, Bootstrapped, Ready, Working,
/// Stopped. A start is asked of those that it requires, and what it finds where it is let through
/// is in `Word::Start`'s row: an unopened session has nothing that could work.
const TABLE: [(Word, [Result<Phase, &str>; 5]); 5] = [
    (Word::Bootstrap, [Ok(Bootstrapped), DUPLICATE, DUPLICATE, DUPLICATE, Ok(Bootstrapped)]),
    (Word::Ready, [NOT_YET, Ok(Ready), Ok(Ready), Ok(Working), NOT_YET]),
    (Word::Start, [Ok(New), Ok(Bootstrapped), Ok(Working), Ok(Working), Ok(Stopped)]),
    (Word::Stop, [Ok(Stopped), Ok(Stopped), Ok(Stopped), Ok(Stopped), Ok(Stopped)]),
    (Word::Heartbeat, [NOT_YET, Ok(Bootstrapped), Ok(Ready), Ok(Working), NOT_YET]),
];

/// What is answered, and where the workers are then: `Err` holds the code and the missing workers.
fn step(
    phases: &mut Phases,
    worker: usize,
    word: Word,
    required: Required,
) -> Result<(), (&'static str, Vec<usize>)> {
    if word == Word::Start {
        let missing: Vec<usize> =
            required.of(worker).into_iter().filter(|of| !matches!(phases[*of], Ready | Working)).collect();
        if !missing.is_empty() {
            return Err(("session.workers-not-ready", missing));
        }
    }
    let row = TABLE.iter().find(|(of, _)| *of == word).expect("a row a word");
    phases[worker] = row.1[phases[worker] as usize].map_err(|code| (code, Vec::new()))?;
    Ok(())
}

/// Every word to every worker.
fn words() -> impl Iterator<Item = (usize, Word)> {
    (0..WORKERS).flat_map(|worker| Word::ALL.map(|word| (worker, word)))
}

#[test]
fn the_channels_session_in_every_order_of_seven_words() {
    for required in Required::ALL {
        let begin = (([New; WORKERS], [0; WORKERS]), ControlPlaneSession::new());
        let mut places = BTreeMap::from([(String::new(), begin)]);
        let mut edges = 0;
        for _ in 0..LENGTH {
            let mut next = BTreeMap::new();
            for ((phases, epochs), session) in places.values() {
                for (worker, word) in words() {
                    edges += 1;
                    let (mut phases, mut epochs, mut session) = (*phases, *epochs, session.clone());
                    let before = phases;
                    let expected = step(&mut phases, worker, word, required);
                    if word == Word::Bootstrap && expected.is_ok() {
                        epochs[worker] += 1;
                    }
                    let got = process(&mut session, worker, word, required);
                    let name =
                        format!("{word:?} to {worker} at {before:?} {epochs:?}, required {required:?}");
                    assert_eq!(got, expected, "{name}");
                    is_where(&session, &phases, &epochs, &name);
                    next.insert(format!("{phases:?} {session:?}"), ((phases, epochs), session));
                }
            }
            places = next;
        }
        eprintln!("{required:?}: {} sessions at last, {edges} edges", places.len());
    }
}

/// One word on the channel: its acknowledgement, or the code and the missing workers.
fn process(
    session: &mut ControlPlaneSession,
    worker: usize,
    word: Word,
    required: Required,
) -> Result<(), (&'static str, Vec<usize>)> {
    let named = |worker: usize| bot(worker).instance;
    let (kind, payload) = match word {
        Word::Bootstrap => {
            let master = MasterSecret::new(vec![7; 32]).expect("a secret");
            let bundle =
                BootstrapKeyBundle::new(1_772_619_300, SecretMode::Generated, Kdf::HkdfSha256, master);
            (MessageKind::BootstrapBundle, bundle.to_payload())
        }
        Word::Ready => (MessageKind::Ready, Map::new().into()),
        Word::Heartbeat => (MessageKind::Heartbeat, Map::new().into()),
        Word::Stop => (MessageKind::Stop, Map::new().into()),
        Word::Start => {
            let required: Vec<String> = required.of(worker).into_iter().map(named).collect();
            (
                MessageKind::StartWork,
                Map::from_iter([("required_workers".to_owned(), json!(required))]).into(),
            )
        }
    };
    let message = ControlMessage::new(kind, "c-1", Some(named(worker)), payload).expect("a message");
    match session.process(&message, Timestamp::from_micros(1)) {
        Ok(ack) => {
            let ids = (ack.kind, ack.correlation_id.as_str(), ack.worker_id.clone());
            assert_eq!(ids, (MessageKind::Ack, "c-1", Some(named(worker))));
            assert_eq!(ack.payload.get("ack_kind"), Some(&json!(kind.word())));
            Ok(())
        }
        Err(fault) => {
            let missing = match &fault {
                SessionFault::WorkersNotReady { missing } => missing.clone(),
                _ => Vec::new(),
            };
            let number =
                |name: &String| (0..WORKERS).find(|worker| named(*worker) == *name).expect("a worker");
            Err((fault.reason().expect("a code").code(), missing.iter().map(number).collect()))
        }
    }
}

/// The session says of each worker what the table says; one that was stopped before it was opened
/// leaves no trace.
fn is_where(session: &ControlPlaneSession, phases: &Phases, epochs: &[u64; WORKERS], name: &str) {
    for worker in 0..WORKERS {
        let real = session.session(&bot(worker).instance);
        let phase = real.map_or("new", |session| session.phase.word());
        let expected = match phases[worker] {
            New => "new",
            Bootstrapped => "bootstrapped",
            Ready => "ready",
            Working => "working",
            Stopped if epochs[worker] == 0 => "new",
            Stopped => "stopped",
        };
        assert_eq!(phase, expected, "{name}: worker {worker}");
        assert_eq!(real.map_or(0, |session| session.epoch), epochs[worker], "{name}: worker {worker}");
    }
}

#[test]
fn the_corridor_in_every_place_of_seven_words() {
    for required in Required::ALL {
        let mut places = BTreeMap::from([([New; WORKERS], begin())]);
        let mut edges = 0;
        for _ in 0..LENGTH {
            let mut next = BTreeMap::new();
            for (phases, world) in &places {
                for (worker, word) in words() {
                    edges += 1;
                    let (mut phases, mut world) = (*phases, world.fork());
                    tell(&mut phases, &mut world, (worker, word), required, "on the way");
                    next.entry(phases).or_insert(world);
                }
            }
            places.extend(next);
        }
        eprintln!("{required:?}: {} places, {edges} edges", places.len());
        for worker in 0..WORKERS {
            for phase in [New, Bootstrapped, Ready, Working, Stopped] {
                let reached = places.keys().any(|phases| phases[worker] == phase);
                assert!(reached, "{worker} was never {phase:?}");
            }
        }
    }
}

#[test]
fn the_corridor_in_every_order_of_few_words() {
    let length = if env::var("SWARMGATE_PROVE").is_ok() { 4 } else { 3 };
    for required in [Required::All, Required::Itself] {
        let mut told = 0;
        orders(length, &mut Vec::new(), &[New; WORKERS], &begin(), required, &mut told);
        assert_eq!(told, (1..=length as u32).map(|length| 15_usize.pow(length)).sum::<usize>());
    }
}

fn orders(
    left: usize,
    way: &mut Vec<(usize, Word)>,
    phases: &Phases,
    world: &World,
    required: Required,
    told: &mut usize,
) {
    if left == 0 {
        return;
    }
    for (worker, word) in words() {
        *told += 1;
        way.push((worker, word));
        let (mut phases, mut world) = (*phases, world.fork());
        tell(&mut phases, &mut world, (worker, word), required, &format!("{way:?}"));
        orders(left - 1, way, &phases, &world, required, told);
        way.pop();
    }
}

fn begin() -> World {
    let mut world = World::new(adapter::rules(Requires::Explicit));
    // A start of work is a start: the required gate is asked.
    world.report("ops-a", Gate::Pass);
    world
}

/// One word to both.
fn tell(
    phases: &mut Phases,
    world: &mut World,
    (worker, word): (usize, Word),
    required: Required,
    way: &str,
) {
    let before = *phases;
    let expected = step(phases, worker, word, required);
    let heard = say(world, worker, word, required);
    let name = format!("{word:?} to {worker} at {before:?}, required {required:?}, {way}");
    match &expected {
        Ok(()) => assert_eq!(heard.words(), "forward", "{name}"),
        Err((code, _)) => assert_eq!(heard.words(), format!("refuse {code}"), "{name}"),
    }
    if let Err((_, missing)) = expected {
        let detail = detail(&heard);
        let names: Vec<String> = missing.iter().map(|worker| bot(*worker).instance).collect();
        let places: Vec<Option<usize>> = names.iter().map(|name| detail.find(name.as_str())).collect();
        assert!(places.iter().all(Option::is_some), "{name}: `{detail}` does not name {names:?}");
        assert!(places.is_sorted(), "{name}: `{detail}` is not sorted");
    } else if word != Word::Stop {
        // A stop is answered by its target; the others by the router, at once.
        let outcomes = heard.bodies("event.outcome.");
        let acks = outcomes.iter().filter(|body| body["data"]["status"] == "Ack").count();
        assert_eq!(acks, 1, "{name}: {outcomes:?}");
    }
}

fn say(world: &mut World, worker: usize, word: Word, required: Required) -> Heard {
    let scope = bot(worker);
    let (actor, kind, data) = match word {
        Word::Bootstrap => ("ops-a", "bootstrap-bundle", bundle()),
        Word::Ready => (scope.instance.as_str(), "ready", json!({})),
        Word::Heartbeat => (scope.instance.as_str(), "heartbeat", json!({})),
        Word::Stop => ("ops-a", "stop", json!({})),
        Word::Start => {
            let required: Vec<String> =
                required.of(worker).into_iter().map(|worker| bot(worker).instance).collect();
            ("ops-a", "start-work", json!({ "requiredWorkers": required }))
        }
    };
    world.signal(actor, kind, &scope, &data).1
}

fn bundle() -> Value {
    json!({ "keyId": "k-1", "secretMode": "generated", "kdf": "none", "createdAtEpoch": 1_772_619_300 })
}

/// What the sender is told of a refusal.
fn detail(heard: &Heard) -> String {
    let outcomes = heard.bodies("event.outcome.");
    let refused = outcomes.iter().find(|body| body["data"]["status"] == "Refused");
    refused.and_then(|body| body["data"]["message"].as_str()).unwrap_or_default().to_owned()
}
