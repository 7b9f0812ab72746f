//! Commands whose target is not there, on a real RabbitMQ, with the router as a process.
//!
//! The target's queue appears only after the command was sent, or never.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use swarmgate::{
    bus::{Bus, Queue, QueueKind, Topology},
    clock,
    contract::{
        message::Message,
        routing::{ControlPlaneRouting, Scope},
    },
    ledger::query::{Filter, Reader},
};

use crate::{
    broker::Broker,
    router::{body, message, outcome, process::Process, send, signal},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn scope(instance: &str) -> Scope {
    Scope::new("kestrel", "worker", instance)
}

/// The outcomes' queue, which is there from the start; signals have none until their target comes.
async fn outcomes(bus: &dyn Bus) -> Ear {
    let bindings = vec![("swarmgate.out".to_owned(), "event.outcome.#".to_owned())];
    Ear::open(bus, "outcomes", bindings).await
}

/// The target comes: its queue stands, and its first status says so.
async fn appear(bus: &dyn Bus, instance: &str) -> Ear {
    let bindings = ControlPlaneRouting::signal_bindings("*", &scope(instance));
    let bindings = bindings.into_iter().map(|pattern| ("swarmgate.out".to_owned(), pattern)).collect();
    let ear = Ear::open(bus, instance, bindings).await;
    let status = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "metric", "type": "status-full", "origin": instance,
        "scope": scope(instance),
        "data": { "enabled": true, "config": {}, "startedAt": clock::wall(), "io": {}, "ioState": {} },
    });
    send(bus, &[message(&format!("event.metric.status-full.kestrel.worker.{instance}"), &status)]).await;
    ear
}

/// A subscriber that drops repeated message-ids.
struct Ear {
    queue: String,
    known: BTreeSet<String>,
}

impl Ear {
    async fn open(bus: &dyn Bus, name: &str, bindings: Vec<(String, String)>) -> Self {
        let queue = Queue { name: format!("parking.{name}"), kind: QueueKind::Quorum, bindings };
        let name = queue.name.clone();
        bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await.expect("a queue");
        Self { queue: name, known: BTreeSet::new() }
    }

    /// The next message that was not heard before; `None` where none comes within `patience`.
    async fn hear(&mut self, bus: &dyn Bus, patience: Duration) -> Option<Message> {
        let heard = tokio::time::timeout(patience, async {
            loop {
                if let Some((delivery, settler)) = bus.get(&self.queue).await.expect("a queue") {
                    settler.ack(delivery.tag, false).await.expect("an ack");
                    let id = delivery.message.properties.message_id.clone();
                    if self.known.insert(id.unwrap_or_default()) {
                        return delivery.message;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        heard.await.ok()
    }
}

/// Waits until the ledger says that a command waits.
async fn parked(router: &Process, key: &str) {
    let waiting = tokio::time::timeout(PATIENCE, async {
        loop {
            let filter = Filter { idempotency_key: Some(key.to_owned()), ..Filter::default() };
            let reader = Reader::open(router.ledger()).await.expect("a reader");
            let found = reader.select(&filter, usize::MAX).await.expect("entries");
            if found.iter().any(|sealed| sealed.entry.fact.action.word() == "controlplane.command.parked") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(waiting.await.is_ok(), "`{key}` was never parked");
}

fn status_of(message: &Message) -> String {
    body(message).pointer("/data/status").and_then(Value::as_str).unwrap_or_default().to_owned()
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn a_command_waits_for_its_target_also_through_a_kill_of_the_router() {
        let vhost = Arc::new(Broker::shared()).vhost("parking-late");
        let mut router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut outcomes = outcomes(bus.as_ref()).await;
        send(
            bus.as_ref(),
            &[signal("swarm-plan", "w-1", "first"), signal("swarm-template", "w-1", "second")],
        )
        .await;
        parked(&router, "i-first").await;
        router.kill();
        let router = router.again();
        router.ready(bus.as_ref()).await;
        send(bus.as_ref(), &[signal("swarm-plan", "w-1", "third")]).await;
        let mut target = appear(bus.as_ref(), "w-1").await;
        for name in ["first", "second", "third"] {
            let heard = target.hear(bus.as_ref(), PATIENCE).await.expect(name);
            assert_eq!(body(&heard)["idempotencyKey"], format!("i-{name}"), "in the order they were sent");
        }
        assert_eq!(target.hear(bus.as_ref(), Duration::from_secs(2)).await, None, "nothing comes twice");
        send(bus.as_ref(), &[outcome("swarm-plan", "w-1", "first", "Ready")]).await;
        let ended = outcomes.hear(bus.as_ref(), PATIENCE).await.expect("its outcome");
        assert_eq!(
            (body(&ended)["correlationId"].clone(), status_of(&ended)),
            (json!("c-first"), "Ready".to_owned())
        );
        router.stop().await;
    }

    #[tokio::test]
    async fn a_command_whose_target_never_comes_is_timed_out_and_its_retry_is_a_new_attempt() {
        let vhost = Arc::new(Broker::shared()).vhost("parking-never");
        let dir = tempfile::TempDir::new().expect("a directory");
        let short = ["--set", "deadlines.config_update_ms=1500"];
        let router = Process::configured(&vhost.options().url, dir, &short);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut outcomes = outcomes(bus.as_ref()).await;
        let command = signal("config-update", "w-2", "alone");
        send(bus.as_ref(), std::slice::from_ref(&command)).await;
        let first = outcomes.hear(bus.as_ref(), PATIENCE).await.expect("the router's word");
        assert_eq!(status_of(&first), "TimedOut");
        let said = body(&first)["data"]["message"].to_string();
        assert!(said.contains("the broker gave it back"), "{said}");
        assert!(body(&first)["data"]["context"]["nextStep"].to_string().contains("same idempotencyKey"));
        send(bus.as_ref(), std::slice::from_ref(&command)).await;
        let again = outcomes.hear(bus.as_ref(), PATIENCE).await.expect("the word on the retry");
        assert_eq!(status_of(&again), "TimedOut");
        let number = |ended: &Message| body(ended)["data"]["context"]["command"].clone();
        assert_ne!(number(&again), number(&first), "an attempt of its own");
        // What comes too late finds nothing to be given, and is given what is sent again.
        let mut target = appear(bus.as_ref(), "w-2").await;
        assert_eq!(target.hear(bus.as_ref(), Duration::from_secs(2)).await, None);
        send(bus.as_ref(), &[command]).await;
        let heard = target.hear(bus.as_ref(), PATIENCE).await.expect("the retry");
        assert_eq!(body(&heard)["idempotencyKey"], "i-alone");
        router.stop().await;
    }
}
