//! The real corridor in memory, spoken to in envelopes and heard in verdicts and messages.
//!
//! Owns: the wire words of actors and bots, a clock that only the tests move, and copies of the
//! whole world.
//! Never: reaches into the state but to read where an instance is in its life.
//! Holds: every message has a later time than the one before it, so nothing is overtaken by
//! accident.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use serde_json::{Value, json};
use swarmgate::{
    contract::{
        Contract,
        audit::{Action, Change, Fact, Verdict},
        message::{Message, Properties},
        routing::Scope,
        timestamp::Timestamp,
    },
    decision::{
        request::{Done, Measured, Request},
        rules::Rules,
        state::State,
    },
    ledger::chain::Chain,
    runtime::corridor::{self, Corridor, Judged, Kept, Names},
};

use crate::{
    adapter,
    oracle::{Gate, Kill, Life, Safety},
};

/// The swarm that all stories play in.
pub const SWARM: &str = "kestrel";
/// When they begin: 2026-03-04T10:15:00Z.
const START_MICROS: i64 = 1_772_619_300_000_000;
/// How far apart two messages are.
pub const STEP_MS: u64 = 10;

/// One instance of the swarm, by its number.
pub fn bot(number: usize) -> Scope {
    Scope::new(SWARM, "worker", format!("bot-{number}"))
}

/// The swarm's controller.
pub fn controller() -> Scope {
    Scope::new(SWARM, "swarm-controller", "ctl-0")
}

pub fn fleet() -> Scope {
    Scope::new("ALL", "ALL", "ALL")
}

pub fn swarm() -> Scope {
    Scope::new(SWARM, "ALL", "ALL")
}

/// A signal that was sent: what it takes to repeat it, to answer it and to confirm it.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub kind: String,
    pub scope: Scope,
    pub correlation: String,
    pub body: Value,
    pub challenge: Option<String>,
}

/// What came of a message.
#[derive(Clone, Debug)]
pub struct Heard {
    pub verdict: Option<Verdict>,
    pub reason: Option<&'static str>,
    /// Everything that left, in order.
    pub left: Vec<Message>,
    /// The actions that were written.
    pub audit: Vec<Action>,
}

impl Heard {
    /// Whether a signal of that type left for somebody.
    pub fn carried(&self, kind: &str) -> bool {
        !self.bodies(&format!("signal.{kind}.")).is_empty()
    }

    /// The bodies of what was carried under a key that starts so; copies of what was refused are
    /// not carried.
    pub fn bodies(&self, prefix: &str) -> Vec<Value> {
        let named = |message: &&Message| {
            message.exchange == "swarmgate.out" && message.routing_key.starts_with(prefix)
        };
        let named = self.left.iter().filter(named);
        named.filter_map(|message| serde_json::from_slice(&message.body).ok()).collect()
    }

    /// The id of the challenge that was put in what left, if one was.
    pub fn challenge(&self) -> Option<String> {
        let bodies = self.bodies("event.outcome.");
        let asked = bodies.iter().find(|body| body["data"]["status"] == "ChallengeRequired")?;
        asked.pointer("/data/context/challengeId")?.as_str().map(str::to_owned)
    }

    /// The verdict and the code, as people write them.
    pub fn words(&self) -> String {
        let verdict = self.verdict.map_or_else(|| "nothing".to_owned(), |verdict| verdict.to_string());
        self.reason.map_or(verdict.clone(), |reason| format!("{verdict} {reason}"))
    }
}

/// A router's mind with its clock.
pub struct World {
    contract: Arc<Contract>,
    corridor: Corridor,
    kept: BTreeMap<u64, Kept>,
    now: Timestamp,
    sent: u64,
}

impl World {
    pub fn new(rules: Rules) -> Self {
        static CONTRACT: OnceLock<Arc<Contract>> = OnceLock::new();
        let contract = CONTRACT.get_or_init(|| {
            Arc::new(Contract::built_in(swarmgate::contract::Limits::default()).expect("the contract"))
        });
        let now = Timestamp::from_micros(START_MICROS);
        let genesis = adapter::genesis(&rules);
        let mut corridor = Corridor::new(State::new(rules), Chain::new(), Names::with_prefix("swarmgate"));
        corridor.record(Fact::new(Action::Genesis, now, Change::Genesis(genesis)));
        Self { contract: Arc::clone(contract), corridor, kept: BTreeMap::new(), now, sent: 0 }
    }

    /// The same world once more; the two go their own ways from here.
    pub fn fork(&self) -> Self {
        let names = Names::with_prefix("swarmgate");
        let mut corridor = Corridor::new(self.corridor.state().clone(), *self.corridor.chain(), names);
        corridor.park(self.kept.values().cloned().collect());
        Self {
            contract: Arc::clone(&self.contract),
            corridor,
            kept: self.kept.clone(),
            now: self.now,
            sent: self.sent,
        }
    }

    /// What it judges by.
    pub fn rules(&self) -> &Rules {
        self.corridor.state().rules()
    }

    /// Where an instance is in its life; `None` where nobody has heard of it.
    pub fn life(&self, number: usize) -> Option<Life> {
        self.life_of(&bot(number))
    }

    pub fn life_of(&self, bot: &Scope) -> Option<Life> {
        adapter::life(self.corridor.state(), bot)
    }

    /// A moment from now.
    pub fn now_plus(&self, ms: u64) -> Timestamp {
        self.now.plus_ms(ms)
    }

    /// Lets time pass; what falls due is decided on the way.
    pub fn wait(&mut self, ms: u64) -> Heard {
        self.now = self.now.plus_ms(ms);
        let mut heard = Heard { verdict: None, reason: None, left: Vec::new(), audit: Vec::new() };
        let mut rounds = 0;
        while let Some(judged) = self.corridor.due(self.now) {
            self.take(judged, &mut heard);
            rounds += 1;
            assert!(rounds < 1000, "what is due is never done");
        }
        heard
    }

    /// The host has measured itself, and found nothing.
    pub fn measured(&mut self) -> Heard {
        let mut heard = self.wait(STEP_MS);
        let none =
            Measured { clock_drift_ms: Some(0), disk_free_bytes: Some(u64::MAX), ledger_failures: Some(0) };
        let decision = self.corridor.decide(&Request::Done(Done::Measured(none)), self.now);
        let judged = self.corridor.settle(decision, None, None);
        self.take(judged, &mut heard);
        heard
    }

    /// An actor's signal, with a key of its own.
    pub fn signal(&mut self, actor: &str, kind: &str, scope: &Scope, data: &Value) -> (Ticket, Heard) {
        self.sent += 1;
        let correlation = format!("c-{}", self.sent);
        let body = json!({
            "timestamp": self.now, "version": "1", "kind": "signal", "type": kind, "origin": actor, "scope": scope,
            "correlationId": correlation, "idempotencyKey": format!("i-{}", self.sent), "data": data,
        });
        let mut ticket =
            Ticket { kind: kind.to_owned(), scope: scope.clone(), correlation, body, challenge: None };
        let heard = self.repeat(&ticket);
        ticket.challenge = heard.challenge();
        (ticket, heard)
    }

    /// The same signal again, rebuilt with the present time as an honest retry does.
    pub fn repeat(&mut self, ticket: &Ticket) -> Heard {
        let due = self.wait(STEP_MS);
        let mut body = ticket.body.clone();
        body["timestamp"] = json!(self.now);
        let key = key("signal", &ticket.kind, &ticket.scope);
        self.send(&key, &body, due)
    }

    /// The target's answer to a signal.
    pub fn outcome(&mut self, kind: &str, from: &Scope, correlation: &str, status: &str) -> Heard {
        let due = self.wait(STEP_MS);
        let body = json!({
            "timestamp": self.now, "version": "1", "kind": "outcome", "type": kind, "origin": from.instance,
            "scope": from, "correlationId": correlation, "idempotencyKey": null, "data": { "status": status },
        });
        self.send(&key("event.outcome", kind, from), &body, due)
    }

    /// An alert of an instance that says that it cannot go on.
    pub fn fatal(&mut self, from: &Scope) -> Heard {
        let due = self.wait(STEP_MS);
        let body = json!({
            "timestamp": self.now, "version": "1", "kind": "event", "type": "alert", "origin": from.instance,
            "scope": from, "data": {
                "level": "error", "code": "bot.broken", "message": "it cannot go on", "context": { "fatal": true },
            },
        });
        self.send(&key("event.alert", "alert", from), &body, due)
    }

    /// The full status of an instance.
    pub fn status(&mut self, from: &Scope) -> Heard {
        let due = self.wait(STEP_MS);
        let flow = json!({ "input": "ok", "output": "ok" });
        let body = json!({
            "timestamp": self.now, "version": "1", "kind": "metric", "type": "status-full", "origin": from.instance,
            "scope": from, "data": {
                "enabled": false, "config": {}, "startedAt": self.now,
                "io": {
                    "work": { "queues": { "in": [], "out": [], "routes": [] }, "queueStats": {} },
                    "control": { "queues": { "in": [], "out": [], "routes": [] } },
                },
                "ioState": { "work": flow, "filesystem": flow },
            },
        });
        self.send(&key("event.metric", "status-full", from), &body, due)
    }

    pub fn set_safety(&mut self, actor: &str, scope: &Scope, mode: Safety) -> (Ticket, Heard) {
        self.signal(actor, "safety-set", scope, &json!({ "mode": mode.name(), "reason": "a test" }))
    }

    pub fn set_kill(&mut self, actor: &str, scope: &Scope, level: Kill) -> (Ticket, Heard) {
        self.signal(actor, "kill-switch-set", scope, &json!({ "level": level.name(), "reason": "a test" }))
    }

    pub fn report(&mut self, actor: &str, gate: Gate) -> (Ticket, Heard) {
        let data = json!({ "gate": adapter::GATE, "result": gate.name() });
        self.signal(actor, "gate-report", &fleet(), &data)
    }

    /// Confirms (or rejects) a challenge.
    pub fn consent(&mut self, actor: &str, word: &str, ticket: &Ticket, challenge: &str) -> Heard {
        let scope = adapter::consent_scope(&ticket.scope);
        let data = json!({ "challengeId": challenge, "reason": "a test" });
        self.signal(actor, &format!("challenge-{word}"), &scope, &data).1
    }

    fn send(&mut self, routing_key: &str, body: &Value, mut heard: Heard) -> Heard {
        // Everybody here is who he says; what `origin` alone may do stands in
        // tests/decisions/identity.json.
        let user_id = body["origin"].as_str().map(str::to_owned);
        let message = Message {
            exchange: "swarmgate.in".to_owned(),
            routing_key: routing_key.to_owned(),
            properties: Properties { user_id, ..Properties::default() },
            body: body.to_string().into(),
        };
        let arrival = corridor::read(&self.contract, &message, false);
        let decision = self.corridor.decide(&Request::Arrived(Box::new(arrival)), self.now);
        let judged = self.corridor.settle(decision, Some(message), None);
        self.take(judged, &mut heard);
        heard
    }

    /// Keeps what is kept, and hears the rest.
    fn take(&mut self, judged: Judged, heard: &mut Heard) {
        let Judged { decision, sealed, outgoing, held, released, dropped, .. } = judged;
        for kept in held {
            self.kept.insert(kept.parcel, kept);
        }
        for parcel in dropped.into_iter().chain(released.iter().map(|kept| kept.parcel)) {
            self.kept.remove(&parcel);
        }
        heard.verdict = decision.verdict;
        heard.reason = decision.refusal.map(|refusal| refusal.reason.code());
        heard.left.extend(
            outgoing
                .into_iter()
                .chain(released.into_iter().map(|kept| kept.outgoing))
                .map(|outgoing| outgoing.message),
        );
        heard.audit.extend(sealed.iter().map(|entry| entry.entry.fact.action));
    }
}

fn key(family: &str, kind: &str, scope: &Scope) -> String {
    format!("{family}.{kind}.{}.{}.{}", scope.swarm_id, scope.role, scope.instance)
}

/// The status by which a type's success is told.
pub fn success_of(kind: &str) -> &'static str {
    match kind {
        "bot-init" => "Created",
        "bot-start" | "bot-resume" | "swarm-start" => "Running",
        "bot-pause" => "Paused",
        "bot-stop" | "swarm-stop" | "stop" => "Stopped",
        "swarm-plan" | "swarm-template" => "Ready",
        "swarm-remove" => "Removed",
        "bot-quarantine" => "Quarantined",
        "bot-release" => "Released",
        _ => "Applied",
    }
}
