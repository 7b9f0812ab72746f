//! The router on a real RabbitMQ, as the process that is deployed.
//!
//! Each test has a virtual host of its own, starts the real binary, and talks to it as any AMQP
//! client would. The checks of a crash test are a Jepsen's: what was accepted, what was heard,
//! lost, doubled, and carried without its entry.

pub(crate) mod process;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use swarmgate::{
    bus::{Bus, Departure, Fate, Queue, QueueKind, Topology},
    clock,
    contract::{
        audit::{Action, Verdict},
        digest::Digest,
        message::{HeaderValue, Message, Properties},
    },
    ledger::{
        query::{Filter, Reader},
        verify,
    },
};

use process::Process;

const CONFIRM: Duration = Duration::from_secs(20);

/// A message to `swarmgate.in`.
pub(crate) fn message(key: &str, body: &Value) -> Message {
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: key.to_owned(),
        properties: Properties { delivery_mode: Some(2), ..Properties::default() },
        body: body.to_string().into(),
    }
}

pub(crate) fn signal(kind_type: &str, instance: &str, name: &str) -> Message {
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": "orc",
        "scope": { "swarmId": "kestrel", "role": "worker", "instance": instance },
        "correlationId": format!("c-{name}"), "idempotencyKey": format!("i-{name}"), "data": {},
    });
    message(&format!("signal.{kind_type}.kestrel.worker.{instance}"), &body)
}

pub(crate) fn outcome(kind_type: &str, instance: &str, name: &str, status: &str) -> Message {
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "outcome", "type": kind_type, "origin": instance,
        "scope": { "swarmId": "kestrel", "role": "worker", "instance": instance },
        "correlationId": format!("c-{name}"), "idempotencyKey": format!("i-{name}"), "data": { "status": status },
    });
    message(&format!("event.outcome.{kind_type}.kestrel.worker.{instance}"), &body)
}

pub(crate) async fn send(bus: &dyn Bus, messages: &[Message]) {
    let departures: Vec<Departure> =
        messages.iter().map(|message| Departure { message: message.clone(), mandatory: true }).collect();
    let publisher = bus.publisher().await.expect("a publisher");
    let fates = publisher.publish(&departures.iter().collect::<Vec<_>>(), CONFIRM).await.expect("fates");
    assert!(
        fates.iter().all(|fate| *fate == Fate::Carried),
        "the router's exchange did not take them: {fates:?}"
    );
}

/// A subscriber on a durable queue of its own, that drops repeated message-ids.
pub(crate) struct Inbox {
    queue: String,
    pub(crate) heard: Vec<Message>,
    ids: BTreeSet<String>,
}

impl Inbox {
    pub(crate) async fn open(bus: &dyn Bus, queue: &str, exchange: &str) -> Self {
        let bindings = vec![(exchange.to_owned(), "#".to_owned())];
        let queue = Queue { name: queue.to_owned(), kind: QueueKind::Quorum, bindings };
        let name = queue.name.clone();
        bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await.expect("an inbox");
        Self { queue: name, heard: Vec::new(), ids: BTreeSet::new() }
    }

    /// Hears until `enough` says so, or nothing has come for ten seconds.
    pub(crate) async fn hear(&mut self, bus: &dyn Bus, mut enough: impl FnMut(&[Message]) -> bool) {
        let mut consumer = bus.consumer(&self.queue, 200).await.expect("a consumer");
        let settler = consumer.settler();
        while !enough(&self.heard) {
            let Ok(deliveries) = tokio::time::timeout(Duration::from_secs(10), consumer.next(200)).await
            else {
                break;
            };
            let deliveries = deliveries.expect("deliveries");
            let Some(last) = deliveries.last().map(|delivery| delivery.tag) else { break };
            for delivery in deliveries {
                let id = delivery.message.properties.message_id.clone();
                if id.is_none_or(|id| self.ids.insert(id)) {
                    self.heard.push(delivery.message);
                }
            }
            settler.ack(last, true).await.expect("an ack");
        }
        settler.close().await;
    }
}

pub(crate) fn body(message: &Message) -> Value {
    serde_json::from_slice(&message.body).expect("a body")
}

fn key_of(message: &Message) -> String {
    body(message)["idempotencyKey"].as_str().unwrap_or_default().to_owned()
}

fn status_of(message: &Message) -> String {
    body(message).pointer("/data/status").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What a ledger and an inbox must agree on after any crash.
async fn check(router: &Process, inbox: &Inbox, sent: &BTreeSet<String>) {
    let report = verify::verify(router.ledger()).await.expect("a ledger");
    assert_eq!(report.fault, None, "the chain does not verify");
    let entries =
        Reader::open(router.ledger()).await.expect("a reader").select(&Filter::default(), usize::MAX).await;
    let entries = entries.expect("entries");
    let mut accepted = BTreeSet::new();
    for entry in &entries {
        let fact = &entry.entry.fact;
        if fact.action == Action::Requested && fact.verdict == Some(Verdict::Forward) {
            assert!(
                accepted.insert(fact.idempotency_key.clone().expect("a key")),
                "a command was accepted twice"
            );
        }
    }
    let mut heard = BTreeMap::<String, u32>::new();
    for message in inbox.heard.iter().filter(|message| message.routing_key.starts_with("signal.")) {
        *heard.entry(key_of(message)).or_default() += 1;
        let id = message.properties.message_id.as_deref().expect("a message-id");
        let mut parts = id.rsplit('.').map(|part| part.parse::<usize>().expect("a number"));
        let (ordinal, seq) = (parts.next().expect("an ordinal"), parts.next().expect("a place"));
        let out = &entries.get(seq - 1).expect("carried without its entry").entry.out;
        assert_eq!(out.get(ordinal), Some(&Digest::of(&message.body)), "the entry holds another body");
    }
    let lost: Vec<_> = sent.iter().filter(|key| !heard.contains_key(*key)).collect();
    let doubled: Vec<_> = heard.iter().filter(|(_, count)| **count > 1).collect();
    let unaudited: Vec<_> = heard.keys().filter(|key| !accepted.contains(*key)).collect();
    eprintln!(
        "sent {} accepted {} heard {} lost {} doubled {} unaudited {}",
        sent.len(),
        accepted.len(),
        heard.len(),
        lost.len(),
        doubled.len(),
        unaudited.len()
    );
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    assert!(unaudited.is_empty(), "carried without being accepted: {unaudited:?}");
}

mod on_rabbitmq {
    use super::*;
    use crate::broker::Broker;

    #[tokio::test]
    async fn a_command_an_outcome_and_a_refusal_go_their_ways() {
        let vhost = Arc::new(Broker::shared()).vhost("router-ways");
        let router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut out = Inbox::open(bus.as_ref(), "out", "swarmgate.out").await;
        let mut refused = Inbox::open(bus.as_ref(), "refused", "swarmgate.refused").await;
        let mut conflict = signal("swarm-plan", "w-1", "1");
        conflict.body =
            String::from_utf8_lossy(&conflict.body).replace("\"data\":{}", "\"data\":{\"x\":1}").into();
        let broken = Message { body: "{".into(), ..signal("swarm-plan", "w-1", "9") };
        let nowhere = Message { routing_key: "hello.world".to_owned(), ..signal("swarm-plan", "w-1", "8") };
        send(bus.as_ref(), &[signal("swarm-plan", "w-1", "1")]).await;
        out.hear(bus.as_ref(), |heard| !heard.is_empty()).await;
        send(bus.as_ref(), &[outcome("swarm-plan", "w-1", "1", "Ready"), broken, nowhere, conflict]).await;
        let is_refused = |message: &Message| status_of(message) == "Refused";
        out.hear(bus.as_ref(), |heard| heard.iter().any(is_refused)).await;
        refused.hear(bus.as_ref(), |heard| heard.len() >= 3).await;
        let keys: Vec<_> = out.heard.iter().map(|message| message.routing_key.as_str()).collect();
        assert!(keys.contains(&"signal.swarm-plan.kestrel.worker.w-1"), "{keys:?}");
        assert!(keys.contains(&"event.outcome.swarm-plan.kestrel.worker.w-1"), "{keys:?}");
        let reason =
            |message: &Message| message.properties.header_text("x-swarmgate-reason").unwrap_or("").to_owned();
        let mut reasons: Vec<_> = refused.heard.iter().map(reason).collect();
        reasons.sort();
        assert_eq!(reasons, ["command.conflict", "contract.not-json", "routing.malformed-key"]);
        let conflict = refused.heard.iter().find(|copy| reason(copy) == "command.conflict").expect("a copy");
        assert_eq!(conflict.properties.header_text("x-swarmgate-pointer"), Some("/idempotencyKey"));
        assert!(conflict.properties.header_text("x-swarmgate-detail").is_some());
        router.stop().await;
    }

    #[tokio::test]
    async fn what_must_pass_through_passes_and_nothing_else() {
        let vhost = Arc::new(Broker::shared()).vhost("router-passage");
        let router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut out = Inbox::open(bus.as_ref(), "out", "swarmgate.out").await;
        let text = |value: &str| HeaderValue::Text(value.to_owned());
        let kept = vec![
            ("a-bool".into(), HeaderValue::Bool(true)),
            ("b-long".into(), HeaderValue::I64(-7)),
            ("c-double".into(), HeaderValue::F64(1.5)),
            ("d-table".into(), HeaderValue::Table(vec![("x".into(), HeaderValue::I32(1))])),
            ("e-array".into(), HeaderValue::Array(vec![text("one"), HeaderValue::Void])),
            ("f-bytes".into(), HeaderValue::Bytes(vec![0, 255])),
            ("g-time".into(), HeaderValue::Time(1_700_000_000)),
            ("traceparent".into(), text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
            ("x-swarmgate-nonce".into(), text("n-1")),
        ];
        let dropped = [
            ("CC", "elsewhere"),
            ("BCC", "elsewhere"),
            ("authorization", "Bearer x"),
            ("x-swarmgate-seq", "1"),
        ];
        let mut sent = signal("swarm-plan", "w-1", "p");
        sent.properties = Properties {
            content_type: Some("text/plain".to_owned()),
            priority: Some(3),
            correlation_id: Some("own".to_owned()),
            reply_to: Some("answers".to_owned()),
            expiration: Some("600000".to_owned()),
            message_id: Some("mine-1".to_owned()),
            timestamp: Some(1_700_000_001),
            kind: Some("plan".to_owned()),
            app_id: Some("app".to_owned()),
            headers: kept.clone(),
            ..Properties::default()
        };
        for (name, value) in dropped {
            // CC and BCC are lists of keys to the broker, so they are sent as such.
            let value =
                if name.ends_with("CC") { HeaderValue::Array(vec![text(value)]) } else { text(value) };
            sent.properties.headers.push((name.into(), value));
        }
        send(bus.as_ref(), &[sent.clone()]).await;
        out.hear(bus.as_ref(), |heard| !heard.is_empty()).await;
        let heard = &out.heard.first().expect("a message").properties;
        let expected = Properties {
            delivery_mode: Some(2),
            expiration: None,
            message_id: heard.message_id.clone(),
            headers: heard.headers.clone(),
            ..sent.properties.clone()
        };
        assert_eq!(heard, &expected);
        assert_eq!(
            out.heard.first().expect("a message").body,
            sent.body,
            "the body is carried byte for byte"
        );
        for (name, value) in &kept {
            assert_eq!(heard.header(name), Some(value), "{name}");
        }
        assert_eq!(heard.header_text("x-swarmgate-message-id"), Some("mine-1"));
        for (name, _) in dropped.iter().filter(|(name, _)| *name != "x-swarmgate-seq") {
            assert_eq!(heard.header(name), None, "{name}");
        }
        assert_ne!(heard.header_text("x-swarmgate-seq"), Some("1"), "a forged header is replaced");
        router.stop().await;
    }

    #[tokio::test]
    async fn a_stop_overtakes_a_full_lane_and_supersedes_what_was_said_before_it() {
        let vhost = Arc::new(Broker::shared()).vhost("router-stop");
        let first = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        first.ready(bus.as_ref()).await;
        let mut out = Inbox::open(bus.as_ref(), "out", "swarmgate.out").await;
        let ledger = first.stop().await;
        let mut full: Vec<Message> = (0..3000)
            .map(|number| signal("config-update", &format!("w-{}", number % 50), &format!("f{number}")))
            .collect();
        full.push(signal("bot-start", "w-1", "late"));
        let start = full.last_mut().expect("a start");
        let data = "\"data\":{\"mode\":\"paper\",\"requestedTransition\":\"IDLE->RUNNING_PAPER\"}";
        start.body = String::from_utf8_lossy(&start.body).replace("\"data\":{}", data).into();
        send(bus.as_ref(), &full).await;
        let mut stop = signal("bot-stop", "w-1", "stop");
        let data = "\"data\":{\"requestedTransition\":\"ANY->IDLE\"}";
        stop.body = String::from_utf8_lossy(&stop.body).replace("\"data\":{}", data).into();
        send(bus.as_ref(), &[stop]).await;
        let router = Process::start_on(&vhost.options().url, ledger);
        // The router's own words and the signals go by ways of their own; either may be ahead.
        let carried =
            |heard: &[Message]| heard.iter().filter(|one| one.routing_key.starts_with("signal.")).count();
        let is_over = |heard: &[Message]| heard.iter().any(|message| status_of(message) == "Superseded");
        out.hear(bus.as_ref(), |heard| is_over(heard) && carried(heard) >= 3001).await;
        let at = out.heard.iter().position(|message| message.routing_key.starts_with("signal.bot-stop."));
        let at = at.expect("the stop is heard");
        let signals = carried(&out.heard);
        assert!(at < 1000, "the stop came as number {at} of {signals}");
        assert_eq!(signals, 3001, "every command but the superseded start is carried");
        let ended = out.heard.iter().find(|message| status_of(message) == "Superseded").expect("an outcome");
        assert_eq!(key_of(ended), "i-late");
        router.stop().await;
    }

    #[tokio::test]
    async fn twenty_kills_of_the_router_lose_and_double_nothing() {
        let vhost = Arc::new(Broker::shared()).vhost("router-kills");
        let mut router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let mut sent = BTreeSet::new();
        for round in 0..20 {
            let batch: Vec<Message> = (0..60)
                .map(|number| {
                    signal("swarm-plan", &format!("w-{}", number % 7), &format!("{round}-{number}"))
                })
                .collect();
            sent.extend(batch.iter().map(key_of));
            let (load, ()) = tokio::join!(send(bus.as_ref(), &batch), async {
                // Each round dies at another place of its work.
                tokio::time::sleep(Duration::from_millis(5 + round * 13)).await;
                router.kill();
            });
            let () = load;
            router = router.again();
        }
        inbox.hear(bus.as_ref(), |heard| signals(heard).len() >= sent.len()).await;
        router.halt().await;
        check(&router, &inbox, &sent).await;
    }

    /// Whose commands were heard, each once.
    fn signals(heard: &[Message]) -> BTreeSet<String> {
        heard.iter().filter(|message| message.routing_key.starts_with("signal.")).map(key_of).collect()
    }

    #[tokio::test]
    async fn five_kills_of_the_broker_lose_and_double_nothing() {
        let broker = Arc::new(Broker::own("router-broker-kills"));
        let vhost = broker.vhost("kills");
        let router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let mut sent = BTreeSet::new();
        for round in 0..5 {
            let bus = vhost.connect().await;
            let batch: Vec<Message> = (0..80)
                .map(|number| {
                    signal("swarm-plan", &format!("w-{}", number % 7), &format!("b{round}-{number}"))
                })
                .collect();
            send(bus.as_ref(), &batch).await;
            sent.extend(batch.iter().map(key_of));
            tokio::time::sleep(Duration::from_millis(10 + round * 20)).await;
            broker.kill();
            broker.start();
        }
        let bus = vhost.connect().await;
        inbox.hear(bus.as_ref(), |heard| signals(heard).len() >= sent.len()).await;
        router.halt().await;
        check(&router, &inbox, &sent).await;
    }

    #[tokio::test]
    async fn a_memory_alarm_delays_and_loses_nothing() {
        let broker = Arc::new(Broker::own("router-alarm"));
        let vhost = broker.vhost("alarm");
        let router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let batch: Vec<Message> =
            (0..300).map(|number| signal("swarm-plan", "w-1", &format!("a{number}"))).collect();
        send(bus.as_ref(), &batch).await;
        broker.ctl(&["set_vm_memory_high_watermark", "0.00001"]);
        tokio::time::sleep(Duration::from_secs(4)).await;
        broker.ctl(&["set_vm_memory_high_watermark", "0.4"]);
        // A loaded machine may have cost this client its heartbeat meanwhile; the router's is its
        // own business.
        let bus = vhost.connect().await;
        let sent: BTreeSet<String> = batch.iter().map(key_of).collect();
        inbox.hear(bus.as_ref(), |heard| signals(heard).len() >= sent.len()).await;
        router.halt().await;
        check(&router, &inbox, &sent).await;
    }

    #[tokio::test]
    async fn a_second_router_on_the_ledger_refuses_to_start() {
        let vhost = Arc::new(Broker::shared()).vhost("router-second");
        let router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let (code, said) = router.second();
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains(&router.id().to_string()), "the holder is named: {said}");
        router.stop().await;
    }

    #[tokio::test]
    async fn observing_publishes_nothing_and_its_ledger_is_not_enforced_unasked() {
        let vhost = Arc::new(Broker::shared()).vhost("router-observe");
        let bus = vhost.connect().await;
        let theirs = swarmgate::bus::Exchange {
            name: "control.topic".to_owned(),
            kind: swarmgate::bus::ExchangeKind::Topic,
            alternate: None,
        };
        bus.declare(&Topology { exchanges: vec![theirs], queues: Vec::new() }).await.expect("their exchange");
        let observer = Process::observe(&vhost.options().url, "control.topic");
        let good = Message { exchange: "control.topic".to_owned(), ..signal("swarm-plan", "w-1", "o") };
        let bad = Message { body: "{".into(), ..good.clone() };
        observer.sees(bus.as_ref(), &[good, bad]).await;
        assert!(!bus.exists("swarmgate.out").await.expect("an answer"), "observing declares no exchange");
        let ledger = observer.stop().await;
        let entries =
            Reader::open(ledger.path()).await.expect("a reader").select(&Filter::default(), 100).await;
        let seen: Vec<_> = entries
            .expect("entries")
            .into_iter()
            .filter(|entry| entry.entry.fact.action == Action::Seen)
            .collect();
        let verdicts: BTreeSet<_> = seen.iter().filter_map(|entry| entry.entry.fact.verdict).collect();
        assert_eq!(verdicts, BTreeSet::from([Verdict::Forward, Verdict::Refuse]));
        let (code, said) = Process::fails_on(&vhost.options().url, &ledger);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("--adopt"), "{said}");
    }

    #[tokio::test]
    async fn a_client_in_python_drives_a_signal_and_reads_its_outcome() {
        let python = std::env::var("SWARMGATE_TEST_PYTHON")
            .expect("SWARMGATE_TEST_PYTHON names a Python with pika; `scripts/test` prepares one");
        let vhost = Arc::new(Broker::shared()).vhost("router-python");
        let router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/python/signal_and_outcome.py");
        let ran = tokio::process::Command::new(python).arg(script).arg(&vhost.options().url).output();
        let ran = tokio::time::timeout(Duration::from_secs(60), ran).await.expect("in time").expect("python");
        let (said, told) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{said}{told}");
        assert_eq!(said.trim(), "outcome Ready");
        router.stop().await;
    }
}
