//! The mirror by itself: what leaves, in what order, and what is done with what comes.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    mirror::Mirror,
    words::Speaker,
    worker::{IN_HAND_MAX, Tag},
};
use crate::{
    bus::Delivery,
    contract::{
        Contract, Limits,
        control::MessageKind,
        message::{Message, Properties},
        routing::Scope,
        timestamp::Timestamp,
    },
    supervisor::{
        WorkerOrder,
        event::{End, Event, WorkerEnd},
    },
};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn scope(instance: &str) -> Scope {
    Scope::new("kestrel", "gen", instance)
}

fn contract() -> Contract {
    Contract::built_in(Limits::default()).expect("the built-in schemas compile")
}

fn mirror(workers: &[&str]) -> Mirror {
    mirror_that_asks(workers, None)
}

fn mirror_that_asks(workers: &[&str], again_ms: Option<u64>) -> Mirror {
    let speaker = Speaker::new("swarmgate.in".into(), "gate-1".into(), "run".into());
    let workers = workers.iter().map(|worker| scope(worker));
    Mirror::new(workers, contract().commands.clone(), speaker, again_ms)
}

fn started(number: u64) -> Event {
    Event::Started { at: NOW, pid: 7, number }
}

fn bootstrapped() -> Event {
    Event::Bootstrapped {
        key_id: "k".into(),
        secret_mode: "generated",
        kdf: "hkdf_sha256",
        created_at_epoch: 7,
    }
}

/// The types of what leaves, with their instances.
fn leaving(mirror: &mut Mirror, now: Timestamp) -> Vec<String> {
    let contract = contract();
    let leaving = mirror.departures(100, now);
    for message in &leaving {
        let said = contract.read(message);
        assert!(said.is_ok(), "{} {:?}: {said:?}", message.routing_key, message.body);
    }
    let short = |message: &Message| {
        let parts: Vec<&str> = message.routing_key.rsplit('.').take(4).collect();
        format!("{} {}", parts[3], parts[0])
    };
    leaving.iter().map(short).collect()
}

fn body(kind: &str, kind_type: &str, name: &str) -> Value {
    json!({
        "timestamp": NOW, "version": "1", "kind": kind, "type": kind_type, "origin": "orc-a",
        "scope": scope("a"), "correlationId": name, "idempotencyKey": name, "data": {},
    })
}

fn delivery(tag: u64, family: &str, body: &Value) -> Delivery {
    let kind_type = body["type"].as_str().unwrap_or_default();
    let message_id = Some(format!("m-{}", body["correlationId"].as_str().unwrap_or_default()));
    let message = Message {
        exchange: "swarmgate.out".into(),
        routing_key: format!("{family}.{kind_type}.kestrel.gen.a"),
        properties: Properties { message_id, ..Properties::default() },
        body: Bytes::from(body.to_string()),
    };
    Delivery { tag, redelivered: false, message }
}

/// Brings worker `a` to work, with everything said.
fn at_work() -> Mirror {
    let mut mirror = mirror(&["a"]);
    for event in [started(1), bootstrapped(), Event::Ready, Event::Working { required: vec!["a".into()] }] {
        mirror.happened(&scope("a"), event, NOW);
    }
    leaving(&mut mirror, NOW.plus_ms(10_000));
    mirror
}

#[test]
fn words_wait_for_the_status_that_ends_the_session_before() {
    let mut mirror = mirror(&["a"]);
    mirror.happened(&scope("a"), started(1), NOW);
    mirror.happened(&scope("a"), bootstrapped(), NOW);
    assert_eq!(leaving(&mut mirror, NOW), ["status-full a"]);
    assert!(leaving(&mut mirror, NOW.plus_ms(4_999)).is_empty());
    let mut status = body("metric", "status-full", "s");
    status["data"] = json!({ "startedAt": NOW.plus_ms(1) });
    mirror.delivered("a", 1, delivery(1, "event.metric", &status), NOW);
    assert!(leaving(&mut mirror, NOW).is_empty(), "a status of another start came round");
    status["data"] = json!({ "startedAt": NOW });
    mirror.delivered("a", 1, delivery(2, "event.metric", &status), NOW);
    assert_eq!(leaving(&mut mirror, NOW), ["bootstrap-bundle a"]);
    // And where nothing comes round, they wait no longer than they must.
    mirror.happened(&scope("a"), started(2), NOW);
    mirror.happened(&scope("a"), bootstrapped(), NOW);
    assert_eq!(leaving(&mut mirror, NOW.plus_ms(5_000)), ["bootstrap-bundle a", "status-full a"]);
}

#[test]
fn work_starts_on_the_bus_when_everybody_has_said_ready_there() {
    let mut mirror = mirror(&["a", "b"]);
    let required = vec!["a".to_owned(), "b".to_owned()];
    for worker in ["a", "b"] {
        for event in [started(1), bootstrapped(), Event::Ready] {
            mirror.happened(&scope(worker), event, NOW);
        }
    }
    mirror.happened(&scope("a"), Event::Working { required: required.clone() }, NOW);
    let later = NOW.plus_ms(5_000);
    assert_eq!(
        leaving(&mut mirror, later),
        [
            "bootstrap-bundle a",
            "ready a",
            "bootstrap-bundle b",
            "ready b",
            "start-work a",
            "status-full a",
            "status-full b"
        ]
    );
    mirror.happened(&scope("b"), started(2), NOW);
    mirror.happened(&scope("b"), bootstrapped(), NOW);
    mirror.happened(&scope("a"), Event::Working { required }, NOW);
    assert!(!leaving(&mut mirror, NOW).contains(&"start-work a".to_owned()), "b is on its way still");
}

#[test]
fn a_session_that_stands_is_ended_by_a_stop_of_our_own() {
    let mut mirror = mirror(&["a"]);
    mirror.happened(&scope("a"), started(1), NOW);
    mirror.happened(&scope("a"), bootstrapped(), NOW);
    let later = NOW.plus_ms(5_000);
    let sent = mirror.departures(1, later);
    let sent: Value = serde_json::from_slice(&sent[0].body).unwrap();
    let mut refused = body("outcome", "bootstrap-bundle", sent["correlationId"].as_str().unwrap());
    refused["data"] = json!({ "status": "Refused", "code": "session.duplicate-bootstrap" });
    mirror.delivered("a", 1, delivery(1, "event.outcome", &refused), later);
    let stop = mirror.departures(1, later);
    assert_eq!(stop[0].routing_key, "signal.stop.kestrel.gen.a");
    assert_eq!(leaving(&mut mirror, later), ["status-full a"]);
    // It comes round: it ends no process, and the bundle is said again.
    let stop: Value = serde_json::from_slice(&stop[0].body).unwrap();
    mirror.delivered("a", 1, delivery(2, "signal", &stop), later);
    assert!(mirror.orders().is_empty());
    assert_eq!(leaving(&mut mirror, later), ["bootstrap-bundle a", "stop a"]);
}

#[test]
fn work_begins_by_the_routers_yes_and_is_asked_for_again_after_a_no() {
    let mut mirror = mirror_that_asks(&["a"], Some(2_000));
    let asks = || Event::Asks { required: vec!["a".into()] };
    for event in [started(3), bootstrapped(), Event::Ready, asks()] {
        mirror.happened(&scope("a"), event, NOW);
    }
    let later = NOW.plus_ms(5_000);
    let asked = |mirror: &mut Mirror, now| {
        let sent = mirror.departures(100, now);
        let bodies = sent.iter().map(|sent| serde_json::from_slice::<Value>(&sent.body).unwrap());
        bodies.filter(|body| body["type"] == "start-work" && body["kind"] == "signal").last()
    };
    let first = asked(&mut mirror, later).expect("the router is asked");
    let mut refused = body("outcome", "start-work", first["correlationId"].as_str().unwrap());
    refused["data"] = json!({ "status": "Refused", "code": "safety.mode" });
    mirror.delivered("a", 1, delivery(1, "event.outcome", &refused), later);
    let status = mirror.departures(100, later);
    let status: Value = serde_json::from_slice(&status[0].body).unwrap();
    assert_eq!(status["data"]["context"]["supervisor"]["waitsFor"], "the router's yes: safety.mode");
    assert!(mirror.orders().is_empty());
    assert_eq!(asked(&mut mirror, later.plus_ms(2_000)), None);
    assert!(matches!(mirror.orders().make_contiguous(), [(worker, WorkerOrder::Ask(3))] if worker == "a"));
    mirror.happened(&scope("a"), asks(), later);
    let second = asked(&mut mirror, later.plus_ms(2_000)).expect("it is asked again");
    // A yes to what was refused long since is none; the one to what is open begins the work.
    mirror.delivered("a", 1, delivery(2, "signal", &first), later);
    assert!(mirror.orders().is_empty());
    mirror.delivered("a", 1, delivery(3, "signal", &second), later);
    assert!(matches!(mirror.orders().make_contiguous(), [(worker, WorkerOrder::Begin(3))] if worker == "a"));
    mirror.happened(&scope("a"), Event::Working { required: vec!["a".into()] }, later);
    assert_eq!(asked(&mut mirror, later.plus_ms(9_000)), None, "nobody is told of it twice");
    // The next process asks for itself.
    mirror.happened(&scope("a"), started(4), later);
    mirror.delivered("a", 1, delivery(4, "signal", &second), later);
    assert!(mirror.orders().is_empty());
}

#[test]
fn what_was_asked_on_a_connection_that_is_gone_is_asked_again() {
    let mut mirror = mirror_that_asks(&["a"], Some(2_000));
    for event in [started(1), bootstrapped(), Event::Ready, Event::Asks { required: vec!["a".into()] }] {
        mirror.happened(&scope("a"), event, NOW);
    }
    mirror.connected();
    assert!(mirror.orders().is_empty(), "what has not left will");
    leaving(&mut mirror, NOW.plus_ms(5_000));
    mirror.connected();
    assert!(matches!(mirror.orders().make_contiguous(), [(_, WorkerOrder::Ask(1))]));
}

#[test]
fn a_command_is_in_hand_until_it_is_answered() {
    let mut mirror = at_work();
    let command = body("signal", "config-update", "one");
    mirror.delivered("a", 1, delivery(1, "signal", &command), NOW);
    let orders = mirror.orders();
    assert!(
        matches!(&orders[0], (worker, WorkerOrder::Hear(message)) if worker == "a" && message.kind == MessageKind::Signal)
    );
    assert!(mirror.settled().is_empty());
    // By the next connection the same comes again; the worker has it.
    mirror.delivered("a", 2, delivery(1, "signal", &command), NOW);
    assert!(mirror.orders().is_empty());
    // The next process gets it again.
    mirror.happened(&scope("a"), Event::Ended, NOW);
    for event in [started(2), bootstrapped(), Event::Ready, Event::Working { required: vec!["a".into()] }] {
        mirror.happened(&scope("a"), event, NOW);
    }
    assert_eq!(mirror.orders().len(), 1);
    let said =
        |key: &str| Event::Said { routing_key: key.into(), body: body("outcome", "config-update", "one") };
    mirror.happened(&scope("a"), said("event.outcome.config-update.kestrel.gen.b"), NOW);
    assert!(mirror.settled().is_empty(), "nobody answers for another");
    mirror.happened(&scope("a"), said("event.outcome.config-update.kestrel.gen.a"), NOW);
    assert_eq!(mirror.settled(), [("a".to_owned(), Tag { opening: 2, tag: 1 })]);
    // And once more after its answer: it is settled, and not obeyed again.
    mirror.delivered("a", 3, delivery(4, "signal", &command), NOW);
    assert_eq!(mirror.settled(), [("a".to_owned(), Tag { opening: 3, tag: 4 })]);
    assert!(mirror.orders().is_empty());
}

#[test]
fn what_stops_overtakes_and_a_slow_worker_bounds_nobody() {
    let mut mirror = at_work();
    for number in 0..=IN_HAND_MAX {
        let command = body("signal", "config-update", &number.to_string());
        mirror.delivered("a", 1, delivery(number as u64, "signal", &command), NOW);
    }
    assert_eq!(mirror.settled(), [("a".to_owned(), Tag { opening: 1, tag: 0 })], "the oldest is let go");
    mirror.orders();
    mirror.delivered("a", 1, delivery(900, "signal", &body("signal", "bot-pause", "p")), NOW);
    assert!(matches!(&mirror.orders()[0].1, WorkerOrder::Hear(message) if message.kind == MessageKind::Stop));
    mirror.delivered("a", 1, delivery(901, "signal", &body("signal", "stop", "s")), NOW);
    assert!(matches!(mirror.orders()[0].1, WorkerOrder::Stop));
    let report = WorkerEnd { worker: scope("a"), processes: 1, end: End::ForcedKill, last_fall: None };
    mirror.happened(&scope("a"), Event::Over(report), NOW);
    let outcomes: Vec<Value> = mirror
        .departures(1_000, NOW)
        .iter()
        .map(|left| serde_json::from_slice(&left.body).unwrap())
        .collect();
    assert_eq!(outcomes[0]["correlationId"], "s");
    assert_eq!(outcomes[0]["data"]["context"]["ended"], "forced");
    let failed = outcomes.iter().filter(|outcome| outcome["data"]["status"] == "Failed").count();
    assert_eq!(failed, IN_HAND_MAX, "whatever it had in hand has an end");
}

#[test]
fn however_often_a_worker_says_how_it_is_one_status_leaves() {
    let mut mirror = at_work();
    let said = |tps: u64| {
        let data = json!({ "enabled": true, "ioState": {}, "tps": tps, "config": { "never": 1 } });
        let said = json!({ "type": "status-delta", "data": data });
        Event::Status(said.as_object().cloned().unwrap())
    };
    (0..1_000).for_each(|tps| mirror.happened(&scope("a"), said(tps), NOW));
    let sent = mirror.departures(100, NOW);
    assert_eq!(sent.len(), 1);
    let status: Value = serde_json::from_slice(&sent[0].body).unwrap();
    assert_eq!((&status["data"]["tps"], &status["data"]["config"]), (&json!(999), &Value::Null));
    // What could not leave is due again, whole.
    mirror.put_back(sent);
    assert_eq!(leaving(&mut mirror, NOW), ["status-full a"]);
}
