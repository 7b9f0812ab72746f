//! The supervisor's bridge: workers in two languages, the router and a commander on a real
//! RabbitMQ.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use swarmgate::{
    bus::{Bus, Queue, QueueKind, Topology},
    clock,
    contract::{message::Message, routing::Scope},
};

use crate::{
    broker::Broker,
    router::{body, message, process::Process, send},
    supervisor::process::{QUICK, Supervised, python, rust, signal as kill},
};

const PATIENCE: Duration = Duration::from_secs(40);

/// What leaves the router.
struct Ear {
    known: BTreeSet<String>,
    heard: Vec<Value>,
}

impl Ear {
    async fn open(bus: &dyn Bus, pattern: &str) -> Self {
        let bindings = vec![("swarmgate.out".to_owned(), pattern.to_owned())];
        let queue = Queue { name: "test.out".to_owned(), kind: QueueKind::Quorum, bindings };
        bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await.expect("a queue");
        Self { known: BTreeSet::new(), heard: Vec::new() }
    }

    /// Waits for the `count`th envelope that fits, from the beginning.
    async fn hears(
        &mut self,
        bus: &dyn Bus,
        what: &str,
        count: usize,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let heard = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(found) = self.heard.iter().filter(|body| fits(body)).nth(count - 1) {
                    return found.clone();
                }
                self.take(bus).await;
            }
        });
        match heard.await {
            Ok(found) => found,
            Err(_) => {
                let told: Vec<String> = self.heard.iter().map(Value::to_string).collect();
                panic!("not heard: {what}\n{}", told.join("\n"))
            }
        }
    }

    async fn take(&mut self, bus: &dyn Bus) {
        match bus.get("test.out").await.expect("a queue") {
            Some((delivery, settler)) => {
                settler.ack(delivery.tag, false).await.expect("an ack");
                let id = delivery.message.properties.message_id.clone().unwrap_or_default();
                if id.is_empty() || self.known.insert(id) {
                    self.heard.push(body(&delivery.message));
                }
            }
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }

    /// Waits for the outcome of a command from a worker.
    async fn outcome(&mut self, bus: &dyn Bus, command: &str, instance: &str) -> Value {
        let id = format!("c-{command}");
        self.hears(bus, &format!("the outcome of {command} from {instance}"), 1, |body| {
            body["kind"] == "outcome"
                && body["correlationId"] == id.as_str()
                && body["origin"] == format!("generator:{instance}")
        })
        .await
    }
}

fn command(kind_type: &str, instance: &str, name: &str, data: Value) -> Message {
    let scope = match instance {
        "ALL" => Scope::new("kestrel", "generator", "ALL"),
        instance => Scope::new("kestrel", "generator", instance),
    };
    let envelope = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": "orc-a",
        "scope": scope, "correlationId": format!("c-{name}"), "idempotencyKey": format!("i-{name}"), "data": data,
    });
    message(&format!("signal.{kind_type}.kestrel.generator.{instance}"), &envelope)
}

fn is_own(kind_type: &'static str, instance: &'static str, status: &'static str) -> impl Fn(&Value) -> bool {
    move |body| {
        body["kind"] == "outcome"
            && body["type"] == kind_type
            && body["scope"]["instance"] == instance
            && body["data"]["status"] == status
    }
}

fn status_full(instance: &'static str, fits: impl Fn(&Value) -> bool) -> impl Fn(&Value) -> bool {
    move |body| body["type"] == "status-full" && body["scope"]["instance"] == instance && fits(&body["data"])
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn two_workers_are_on_the_bus_by_their_supervisor_alone() {
        let vhost = Arc::new(Broker::shared()).vhost("supervisor");
        let url = vhost.options().url.clone();
        let router = Process::start(&url);
        let bus = vhost.connect().await;
        let bus = bus.as_ref();
        router.ready(bus).await;
        let mut ear = Ear::open(bus, "#").await;
        let settings = format!("{QUICK}  status_delta_ms: 300\n");
        let rows = [rust("r"), python("p", "normal")];
        let mut supervised =
            Supervised::configured("{secret_mode: generated}", &settings, &rows, &["--amqp", &url]);
        for worker in ["r", "p"] {
            supervised.reaches(worker, "working", 1);
        }
        sessions_agree(&mut ear, bus).await;
        commands_are_answered(&mut ear, bus).await;
        a_worker_that_fell_opens_its_next_session(&mut ear, bus, &supervised).await;
        a_stop_ends_one_process(&mut ear, bus, &supervised).await;
        let (code, report) = supervised.stop();
        assert_eq!((code, report.len()), (Some(0), 2), "{}", supervised.log());
        assert!(!supervised.log().contains("guest:guest"), "the broker's password is in the log");
        router.stop().await;
    }

    /// The corridor's gate of sessions says of each word what the channel says.
    async fn sessions_agree(ear: &mut Ear, bus: &dyn Bus) {
        for worker in ["r", "p"] {
            for word in ["bootstrap-bundle", "start-work"] {
                ear.hears(bus, &format!("{word} of {worker}"), 1, is_own(word, worker, "Ack")).await;
            }
            let works = status_full(worker, |data| {
                data["enabled"] == true && data["context"]["supervisor"]["stage"] == "working"
            });
            ear.hears(bus, &format!("{worker} works"), 1, works).await;
            ear.hears(bus, &format!("a delta of {worker}"), 2, |body| {
                body["type"] == "status-delta" && body["scope"]["instance"] == worker
            })
            .await;
        }
        let bundle =
            ear.heard.iter().find(|body| body["kind"] == "signal" && body["type"] == "bootstrap-bundle");
        let data = bundle.map(|bundle| bundle["data"].clone()).expect("a bundle by name");
        assert!(data["keyId"].is_string() && data["kdf"] == "hkdf_sha256", "{data}");
        assert!(!data.to_string().contains("secret_b64"));
    }

    async fn commands_are_answered(ear: &mut Ear, bus: &dyn Bus) {
        send(
            bus,
            &[
                command("config-update", "r", "one", json!({ "rate": 5 })),
                command("config-update", "ALL", "all", json!({ "burst": 7 })),
                command("bot-pause", "p", "none", json!({})),
                command("swarm-stop", "r", "halt", json!({})),
            ],
        )
        .await;
        for (name, worker, status) in [
            ("one", "r", "Applied"),
            ("all", "r", "Applied"),
            ("all", "p", "Applied"),
            ("none", "p", "Failed"),
            ("halt", "r", "Stopped"),
        ] {
            let outcome = ear.outcome(bus, name, worker).await;
            assert_eq!(outcome["data"]["status"], status, "{outcome}");
        }
        let configured = status_full("r", |data| data["config"] == json!({ "rate": 5, "burst": 7 }));
        ear.hears(bus, "the config that was set", 1, configured).await;
        let full = |ear: &Ear| ear.heard.iter().filter(|body| status_full("p", |_| true)(body)).count();
        let before = full(ear);
        send(bus, &[command("status-request", "p", "how", json!({}))]).await;
        ear.hears(bus, "a status on request", before + 1, status_full("p", |_| true)).await;
    }

    async fn a_worker_that_fell_opens_its_next_session(
        ear: &mut Ear,
        bus: &dyn Bus,
        supervised: &Supervised,
    ) {
        kill("KILL", supervised.pid("r", 1));
        supervised.reaches("r", "working", 2);
        ear.hears(bus, "the next bundle of r", 2, is_own("bootstrap-bundle", "r", "Ack")).await;
        ear.hears(bus, "the next start of r", 2, is_own("start-work", "r", "Ack")).await;
        let again = status_full("r", |data| {
            data["enabled"] == true && data["context"]["supervisor"]["processes"] == 2
        });
        ear.hears(bus, "r works again", 1, again).await;
        send(bus, &[command("config-update", "r", "again", json!({ "rate": 6 }))]).await;
        assert_eq!(ear.outcome(bus, "again", "r").await["data"]["status"], "Applied");
    }

    async fn a_stop_ends_one_process(ear: &mut Ear, bus: &dyn Bus, supervised: &Supervised) {
        let pid = supervised.pid("p", 1);
        send(bus, &[command("stop", "p", "end", json!({}))]).await;
        let outcome = ear.outcome(bus, "end", "p").await;
        assert_eq!(outcome["data"]["status"], "Stopped", "{outcome}");
        assert_eq!(outcome["data"]["context"]["ended"], "graceful", "{outcome}");
        assert_eq!(crate::supervisor::process::state(pid), None);
        send(bus, &[command("config-update", "p", "late", json!({ "rate": 6 }))]).await;
        assert_eq!(ear.outcome(bus, "late", "p").await["data"]["status"], "Failed");
    }

    #[tokio::test]
    async fn work_begins_by_the_routers_yes_alone() {
        let vhost = Arc::new(Broker::shared()).vhost("supervisor-safe");
        let url = vhost.options().url.clone();
        let router = Process::start(&url);
        let bus = vhost.connect().await;
        let bus = bus.as_ref();
        router.ready(bus).await;
        let mut ear = Ear::open(bus, "#").await;
        mode(&mut ear, bus, "SAFE", "one").await;
        let settings = format!("{QUICK}  router_retry_ms: 100\n  status_delta_ms: 300\n");
        let mut supervised = Supervised::configured(
            "{secret_mode: generated}",
            &settings,
            &[python("p", "normal")],
            &["--amqp", &url],
        );
        let waits = |body: &Value| {
            body["data"]["context"]["supervisor"]["waitsFor"] == "the router's yes: safety.mode"
        };
        ear.hears(bus, "what it waits for", 2, waits).await;
        supervised.reaches("p", "ready", 1);
        assert_eq!(supervised.count("p", "working"), 0, "{}", supervised.log());
        mode(&mut ear, bus, "NORMAL", "two").await;
        supervised.reaches("p", "working", 1);
        ear.hears(bus, "start-work of p", 1, is_own("start-work", "p", "Ack")).await;
        // Its next process begins no sooner than any other.
        mode(&mut ear, bus, "EMERGENCY_STOP", "three").await;
        kill("KILL", supervised.pid("p", 1));
        supervised.reaches("p", "ready", 2);
        let heard = ear.heard.iter().filter(|body| waits(body)).count();
        ear.hears(bus, "that it waits again", heard + 2, waits).await;
        assert_eq!(supervised.count("p", "working"), 1, "{}", supervised.log());
        let (code, _) = supervised.stop();
        assert_eq!(code, Some(0), "{}", supervised.log());
        router.stop().await;
    }

    /// Sets the safety mode, with the confirmation that a lower one takes.
    async fn mode(ear: &mut Ear, bus: &dyn Bus, mode: &str, name: &str) {
        let signal = |kind_type: &str, scope: Scope, name: String, data: Value| {
            let envelope = json!({
                "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": "guest",
                "scope": scope, "correlationId": name, "idempotencyKey": name, "data": data,
            });
            let Scope { swarm_id, role, instance } = &scope;
            let key = format!("signal.{kind_type}.{swarm_id}.{role}.{instance}");
            let mut message = message(&key, &envelope);
            // The broker's word for who this is: a confirmation takes a proof.
            message.properties.user_id = Some("guest".to_owned());
            message
        };
        let set = json!({ "mode": mode, "reason": "a test" });
        send(bus, &[signal("safety-set", Scope::new("ALL", "ALL", "ALL"), format!("mode-{name}"), set)])
            .await;
        let of = |body: &Value, status: &str| {
            body["correlationId"] == format!("mode-{name}") && body["data"]["status"] == status
        };
        if mode == "NORMAL" {
            let asked = ear.hears(bus, "a challenge", 1, |body| of(body, "ChallengeRequired")).await;
            let router =
                asked["origin"].as_str().expect("an origin").trim_start_matches("swarmgate:").to_owned();
            let data = json!({ "challengeId": asked["data"]["context"]["challengeId"], "reason": "a test" });
            let router = Scope::new("swarmgate", "router", router);
            send(bus, &[signal("challenge-confirm", router, format!("yes-{name}"), data)]).await;
        }
        ear.hears(bus, "the mode", 1, |body| of(body, "Applied")).await;
    }

    #[tokio::test]
    async fn a_command_that_its_worker_did_not_survive_reaches_the_next_process() {
        let vhost = Arc::new(Broker::shared()).vhost("supervisor-again");
        let url = vhost.options().url.clone();
        let router = Process::start(&url);
        let bus = vhost.connect().await;
        let bus = bus.as_ref();
        router.ready(bus).await;
        let mut ear = Ear::open(bus, "event.#").await;
        // It comes before its worker, and waits at the router.
        send(bus, &[command("config-update", "p", "first", json!({ "fall": true }))]).await;
        let marks = tempfile::TempDir::new().expect("a directory");
        let mode = format!("falls-once, {:?}", marks.path().join("fell").display().to_string());
        let supervised = Supervised::configured(
            "{secret_mode: generated}",
            QUICK,
            &[python("p", &mode)],
            &["--amqp", &url],
        );
        assert_eq!(ear.outcome(bus, "first", "p").await["data"]["status"], "Applied");
        supervised.reaches("p", "working", 2);
        drop(supervised);
        router.stop().await;
    }
}
