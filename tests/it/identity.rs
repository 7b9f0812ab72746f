//! Who is who, on a real RabbitMQ: nobody is made to have said what he did not say.
//!
//! Owns: one connection as two people, replay by another, and a forged origin in each type that
//! takes a proof.
//! Never: speaks to the router but over the broker, as the users that the broker knows.
//! Holds: of all of these none passes, and what is proven does.

use std::{
    net::{SocketAddr, TcpListener},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use swarmgate::{
    bus::{
        Bus,
        amqp::{self, Amqp, Options},
    },
    clock,
    contract::{
        audit::{Action, Proof},
        message::Message,
    },
    ledger::query::{Filter, Reader},
};
use tempfile::TempDir;

use crate::{
    broker::{Broker, Vhost},
    router::{Inbox, body, message, process::Process, send},
};

/// A router that asks for a second person, and two inboxes.
struct Post {
    vhost: Vhost,
    router: Process,
    bus: Arc<Amqp>,
    out: Inbox,
    refused: Inbox,
    api: String,
    sent: u32,
}

impl Post {
    async fn open(test: &str) -> Self {
        let vhost = Arc::new(Broker::shared()).vhost(test);
        let address: SocketAddr =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let http = format!("http.addr={address}");
        let more = ["--set", &http, "--set", "consent.requires=second-person"];
        let router = Process::configured(&vhost.options().url, TempDir::new().expect("a directory"), &more);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let out = Inbox::open(bus.as_ref(), "out", "swarmgate.out").await;
        let refused = Inbox::open(bus.as_ref(), "refused", "swarmgate.refused").await;
        Self { vhost, router, bus, out, refused, api: format!("http://{address}"), sent: 0 }
    }

    /// A user of the broker, and its connection.
    async fn user(&self, name: &str) -> (String, Arc<Amqp>) {
        let user = format!("{name}-{}", std::process::id());
        let broker = &self.vhost.broker;
        broker.http("PUT", &format!("/api/users/{user}"), r#"{"password":"p","tags":""}"#);
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        broker.http("PUT", &format!("/api/permissions/{}/{user}", self.vhost.name), all);
        let url = broker.url(&self.vhost.name, &user, "p");
        let bus = amqp::connect(&Options { name: user.clone(), ..Options::new(url) }).await.expect("a user");
        (user, bus)
    }

    /// A signal: `origin` is what it says, `user_id` what the broker is asked to vouch for.
    fn signal(&mut self, kind: &str, at: &str, data: &Value, origin: &str, user_id: Option<&str>) -> Message {
        self.sent += 1;
        let parts: Vec<&str> = at.split('/').collect();
        let said = json!({
            "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind, "origin": origin,
            "scope": { "swarmId": parts[0], "role": parts[1], "instance": parts[2] },
            "correlationId": format!("c-{}", self.sent), "idempotencyKey": format!("i-{}", self.sent),
            "data": data,
        });
        let mut message = message(&format!("signal.{kind}.{}", at.replace('/', ".")), &said);
        message.properties.user_id = user_id.map(str::to_owned);
        message
    }

    /// Sends, and waits for the word of an outcome of it or the code of its refusal.
    async fn judged(&mut self, bus: &Amqp, message: Message) -> String {
        let id = body(&message)["correlationId"].clone();
        send(bus, &[message]).await;
        for _ in 0..50 {
            let (own, router) = (id.clone(), Arc::clone(&self.bus));
            let of = move |heard: &&Message| body(heard)["correlationId"] == own;
            self.hear(router.as_ref()).await;
            if let Some(copy) = self.refused.heard.iter().find(&of) {
                return copy.properties.header_text("x-swarmgate-reason").unwrap_or_default().to_owned();
            }
            let is_outcome = |heard: &&Message| heard.routing_key.starts_with("event.outcome.");
            if let Some(outcome) = self.out.heard.iter().filter(is_outcome).find(&of) {
                // Of a refusal the outcome may come before the copy; it names the reason too.
                let data = &body(outcome)["data"];
                return data["code"].as_str().or(data["status"].as_str()).unwrap_or_default().to_owned();
            }
        }
        panic!("no verdict for {id}");
    }

    async fn hear(&mut self, bus: &dyn Bus) {
        let (out, refused) = (self.out.heard.len(), self.refused.heard.len());
        let patience = Duration::from_millis(150);
        let _ = tokio::time::timeout(patience, self.refused.hear(bus, |heard| heard.len() > refused)).await;
        let _ = tokio::time::timeout(patience, self.out.hear(bus, |heard| heard.len() > out)).await;
    }

    /// The open challenge, as the router's API tells it.
    fn challenge(&self) -> Option<String> {
        let challenged = self.out.heard.iter().rev().find(|heard| {
            heard.routing_key.starts_with("event.outcome.")
                && body(heard)["data"]["status"] == "ChallengeRequired"
        })?;
        Some(body(challenged)["data"]["context"]["challengeId"].as_str()?.to_owned())
    }

    /// `swarmgate refused …` as that user: its exit code and what it said.
    async fn replay(&self, user: &str, args: &[&str]) -> (Option<i32>, String) {
        let url = self.vhost.broker.url(&self.vhost.name, user, if user == "guest" { "guest" } else { "p" });
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_swarmgate"))
            .args(["refused", "replay"])
            .args(args)
            .args(["--amqp", &url, "--api", &self.api])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("the tool runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout) + &text(output.stderr))
    }

    async fn close(self, users: &[&str]) {
        for user in users {
            self.vhost.broker.http("DELETE", &format!("/api/users/{user}"), "");
        }
        self.router.stop().await;
    }
}

const WORKER: &str = "kestrel/worker/w-1";
const ALL: &str = "ALL/ALL/ALL";
const ROUTER: &str = "swarmgate/router/gate-1";

mod on_rabbitmq {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_connection_is_not_two_people() {
        let mut post = Post::open("identity-two").await;
        let guest = Arc::clone(&post.bus);
        let delete = json!({ "reason": "clean up" });
        let asks = post.signal("data-delete", WORKER, &delete, "ann", None);
        assert_eq!(post.judged(&guest, asks).await, "identity.unproven");
        let asks = post.signal("data-delete", WORKER, &delete, "guest", Some("guest"));
        assert_eq!(post.judged(&guest, asks).await, "ChallengeRequired");
        let confirm = json!({ "challengeId": post.challenge().expect("a challenge"), "reason": "agreed" });
        for (who, user_id, word) in [
            ("bob", None, "identity.unproven"),
            ("guest", Some("guest"), "consent.self-confirm"),
            ("bob", Some("guest"), "identity.origin-mismatch"),
        ] {
            for kind in ["challenge-confirm", "challenge-reject"] {
                if (kind, word) == ("challenge-reject", "consent.self-confirm") {
                    continue;
                }
                let says = post.signal(kind, ROUTER, &confirm, who, user_id);
                assert_eq!(post.judged(&guest, says).await, word, "{kind} {who}");
            }
        }
        let carried = |post: &Post| {
            post.out.heard.iter().any(|heard| heard.routing_key.starts_with("signal.data-delete."))
        };
        assert!(!carried(&post), "nobody else has confirmed it");
        let (bob, second) = post.user("bob").await;
        let says = post.signal("challenge-confirm", ROUTER, &confirm, &bob, Some(&bob));
        assert_eq!(post.judged(&second, says).await, "Applied");
        post.hear(guest.as_ref()).await;
        assert!(carried(&post), "another person has");
        post.close(&[&bob]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_forged_origin_passes_in_no_type_that_takes_a_proof() {
        let mut post = Post::open("identity-forged").await;
        let (mallory, forger) = post.user("mallory").await;
        // Anybody closes what the forger then wants open.
        let block = post.signal(
            "kill-switch-set",
            ALL,
            &json!({ "level": "CLOSE_ONLY", "reason": "x" }),
            "ann",
            None,
        );
        assert_eq!(post.judged(&forger, block).await, "Applied");
        let safe = post.signal("safety-set", ALL, &json!({ "mode": "SAFE", "reason": "x" }), "ann", None);
        assert_eq!(post.judged(&forger, safe).await, "Applied");
        let soon = clock::wall().plus_ms(60_000);
        let live = json!({ "requestedTransition": "IDLE->RUNNING_LIVE", "mode": "live" });
        let why = json!({ "reason": "x" });
        let dangerous = [
            ("kill-switch-set", ALL, json!({ "level": "ALLOW", "reason": "x" })),
            ("safety-set", ALL, json!({ "mode": "NORMAL", "reason": "x" })),
            ("gate-disable", ALL, json!({ "gate": "risk", "expiresAt": soon, "reason": "x" })),
            ("monitoring-disable", ALL, json!({ "expiresAt": soon, "reason": "x" })),
            ("challenge-confirm", ROUTER, json!({ "challengeId": "c-1", "reason": "x" })),
            ("challenge-reject", ROUTER, json!({ "challengeId": "c-1", "reason": "x" })),
            ("bot-start", WORKER, live.clone()),
            ("bot-resume", WORKER, live),
            ("bot-release", WORKER, json!({ "requestedTransition": "QUARANTINED->IDLE" })),
            ("secret-rotate", WORKER, why.clone()),
            ("data-delete", WORKER, why.clone()),
            ("data-restore", WORKER, why.clone()),
            ("data-compact", WORKER, why),
        ];
        let mut passed = Vec::new();
        for (kind, at, data) in &dangerous {
            for (origin, user_id, word) in [
                ("ann", None, "identity.unproven"),
                ("operator:ann", None, "identity.unproven"),
                ("ann", Some(mallory.as_str()), "identity.origin-mismatch"),
                ("swarmgate:gate-1", None, "identity.origin-mismatch"),
            ] {
                let said = post.signal(kind, at, data, origin, user_id);
                let verdict = post.judged(&forger, said).await;
                if verdict != word {
                    passed.push(format!("{kind} as {origin}: {verdict}"));
                }
            }
        }
        assert!(passed.is_empty(), "{passed:#?}");
        let stop = post.signal("bot-stop", WORKER, &json!({}), "ann", None);
        send(forger.as_ref(), &[stop]).await;
        for _ in 0..20 {
            post.hear(Arc::clone(&post.bus).as_ref()).await;
            if post.out.heard.iter().any(|heard| heard.routing_key.starts_with("signal.bot-stop.")) {
                return post.close(&[&mallory]).await;
            }
        }
        panic!("a stop passes, whoever says it");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_replay_is_the_replayers_own() {
        let mut post = Post::open("identity-replay").await;
        let (mallory, forger) = post.user("mallory").await;
        let (carol, sender) = post.user("carol").await;
        let template = json!({ "x": 1 });
        // Mallory says that he is alice; carol is who she says, and her key is another's.
        let forged = post.signal("swarm-plan", WORKER, &template, "alice", Some(&mallory));
        assert_eq!(post.judged(&forger, forged).await, "identity.origin-mismatch");
        let mut unknown = post.signal("cache-flush", WORKER, &template, &carol, Some(&carol));
        unknown.properties.message_id = Some("mine".to_owned());
        assert_eq!(post.judged(&sender, unknown).await, "contract.unknown-type");
        let mut wrong_key = post.signal("swarm-plan", WORKER, &template, &carol, Some(&carol));
        wrong_key.properties.content_encoding = Some("gzip".to_owned());
        assert_eq!(post.judged(&sender, wrong_key).await, "contract.encoding");
        let confirm = json!({ "challengeId": "c-1", "reason": "x" });
        let unproven = post.signal("challenge-confirm", ROUTER, &confirm, "carol", None);
        assert_eq!(post.judged(&sender, unproven).await, "identity.unproven");

        let (code, said) = post.replay("guest", &["--all"]).await;
        assert_eq!(code, Some(3), "{said}");
        for part in [
            "stays: its sender is not who its `origin` says",
            "refused again: contract.unknown-type",
            "signal.swarm-plan.kestrel.worker.w-1  taken: command ",
            "stays: a `challenge-confirm` is said by whom it is of",
            "2 of 4 sent again",
        ] {
            assert!(said.contains(part), "{part}\n{said}");
        }
        let (code, said) = post.replay("guest", &["--all", "--reason", "identity.origin-mismatch"]).await;
        assert_eq!(code, Some(1), "it stays for good: {said}");
        let (code, said) = post.replay("guest", &["nobody"]).await;
        assert!(code == Some(2) && said.contains("no refused copy has the id `nobody`"), "{said}");

        let entries = Reader::open(post.router.ledger()).await.unwrap();
        let entries = entries.select(&Filter::default(), usize::MAX).await.unwrap();
        let replays: Vec<_> = entries
            .iter()
            .map(|entry| &entry.entry.fact)
            .filter(|fact| fact.replay.is_some() && fact.action == Action::Requested)
            .collect();
        assert_eq!(replays.len(), 1, "{replays:#?}");
        let replay = replays[0].replay.as_ref().unwrap();
        assert_eq!(replays[0].actor.as_ref().unwrap().principal, "guest");
        assert_eq!((replay.first.principal.as_str(), replay.first.by), (carol.as_str(), Proof::UserId));
        assert_eq!(replays[0].idempotency_key, Some(format!("replay:{}", replay.of)));
        let as_alice = |fact: &&swarmgate::contract::audit::Fact| {
            fact.actor.as_ref().is_some_and(|actor| actor.principal == "alice")
        };
        assert_eq!(entries.iter().map(|entry| &entry.entry.fact).filter(as_alice).count(), 0);
        post.close(&[&mallory, &carol]).await;
    }
}
