//! A corridor that is told things, one after the other.

use serde_json::{Value, json};
use swarmgate::{
    contract::{
        Contract,
        audit::{Action, Change, Fact, Genesis, Mode, Verdict},
        interlock::{Life, SafetyMode},
        message::{Message, Properties},
        reason::Reason,
        routing::Scope,
        timestamp::Timestamp,
    },
    decision::{
        request::Request,
        rules::Rules,
        state::{Collection, State},
    },
    ledger::chain::{Chain, Sealed},
    runtime::corridor::{self, Corridor, Judged, Names},
};

pub(super) struct World {
    contract: Contract,
    pub corridor: Corridor,
    rules: Rules,
    /// What was written; `None` where nobody asks for it.
    written: Option<Vec<Sealed>>,
    pub now: Timestamp,
    said: u64,
}

/// What came of a message.
#[derive(Debug)]
pub(super) struct Told {
    pub verdict: Option<Verdict>,
    pub reason: Option<Reason>,
    pub judged: Judged,
}

impl Told {
    /// Carried or done, and not refused.
    pub fn passed(&self) -> bool {
        self.verdict == Some(Verdict::Forward)
    }

    pub fn is_full(&self) -> bool {
        self.reason == Some(Reason::QuotaExceeded)
    }

    /// Whether an alert leaves that says which bound was met.
    pub fn alerts(&self, bound: &str) -> bool {
        let bodies = self.judged.outgoing.iter().map(|outgoing| &outgoing.message.body);
        let bodies = bodies.filter_map(|body| serde_json::from_slice::<Value>(body).ok());
        let mut data = bodies.map(|body| body["data"].clone());
        data.any(|data| data["code"] == "bound.reached" && data["context"]["about"] == bound)
    }
}

impl World {
    pub fn new(set: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = Rules { alerts_per_second_max: 1_000, ..Rules::default() };
        set(&mut rules);
        let names = Names::with_prefix("swarmgate");
        let now = Timestamp::parse("2026-03-04T10:15:00Z").expect("a time");
        let mut corridor = Corridor::new(State::new(rules.clone()), Chain::new(), names);
        let genesis = Genesis {
            environment: "dev".to_owned(),
            initial_mode: SafetyMode::Normal,
            ledger_id: "0".repeat(32),
            mode: Mode::Enforce,
            version: "0".to_owned(),
        };
        let first = corridor.record(Fact::new(Action::Genesis, now, Change::Genesis(genesis)));
        let contract = Contract::built_in(Default::default()).expect("the contract");
        Self { contract, corridor, rules, written: Some(vec![first]), now, said: 0 }
    }

    /// One that keeps nothing of what is written.
    pub fn flooded(set: impl FnOnce(&mut Rules)) -> Self {
        Self { written: None, ..Self::new(set) }
    }

    pub fn state(&self) -> &State {
        self.corridor.state()
    }

    pub fn life(&self, bot: &str) -> Life {
        self.state().life(&scope(bot))
    }

    pub fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        while let Some(judged) = self.corridor.due(self.now) {
            self.keep(&judged);
        }
    }

    /// A signal of `who` to `target`, which is `swarm/role/instance`.
    pub fn signal(&mut self, who: &str, kind_type: &str, target: &str, data: &Value) -> Told {
        self.signal_of(self.now, who, kind_type, target, data)
    }

    pub fn signal_of(
        &mut self,
        at: Timestamp,
        who: &str,
        kind_type: &str,
        target: &str,
        data: &Value,
    ) -> Told {
        self.said += 1;
        let trace = format!("c-{}", self.said);
        self.tell(&message(at, "signal", kind_type, who, target, Some(&trace), data), false)
    }

    /// The trace of the signal that was said last.
    pub fn trace(&self) -> String {
        format!("c-{}", self.said)
    }

    /// An outcome of the instance `who`, which is `swarm/role/instance`.
    pub fn outcome(&mut self, who: &str, kind_type: &str, trace: &str, status: &str) -> Told {
        let data = json!({ "status": status, "retryable": false });
        self.tell(&result(self.now, "outcome", kind_type, who, trace, &data), false)
    }

    pub fn alert(&mut self, who: &str, code: &str) -> Told {
        let data = json!({ "level": "warn", "code": code, "message": "m" });
        let mut message = result(self.now, "event", "alert", who, "a", &data);
        message.routing_key = format!("event.alert.alert.{}", who.replace('/', "."));
        self.tell(&message, false)
    }

    pub fn status(&mut self, who: &str, config: &Value) -> Told {
        let io = json!({ "input": "ok", "output": "ok" });
        let data = json!({
            "enabled": true, "startedAt": "2026-03-04T10:00:00Z", "config": config, "io": {},
            "ioState": { "work": io, "filesystem": io },
        });
        let message = result(self.now, "metric", "status-full", who, "s", &data);
        self.tell(&message, false)
    }

    /// Starts `bot` on paper; it must be IDLE.
    pub fn start(&mut self, who: &str, bot: &str) -> Told {
        let data = json!({ "requestedTransition": "IDLE->RUNNING_PAPER", "mode": "paper" });
        self.signal(who, "bot-start", bot, &data)
    }

    pub fn stop(&mut self, bot: &str) -> Told {
        self.signal("orc-a", "bot-stop", bot, &json!({ "requestedTransition": "ANY->IDLE" }))
    }

    /// Makes `bot` ready.
    pub fn init(&mut self, bot: &str) -> Told {
        let asked = self.signal("orc-a", "bot-init", bot, &json!({ "requestedTransition": "CREATED->IDLE" }));
        if asked.passed() {
            let trace = self.trace();
            self.outcome(bot, "bot-init", &trace, "Created");
        }
        asked
    }

    pub fn tell(&mut self, message: &Message, redelivered: bool) -> Told {
        self.now = self.now.plus_ms(1);
        let arrival = corridor::read(&self.contract, message, redelivered);
        let decision = self.corridor.decide(&Request::Arrived(Box::new(arrival)), self.now);
        let (verdict, reason) = (decision.verdict, decision.refusal.as_ref().map(|refusal| refusal.reason));
        let judged = self.corridor.settle(decision, Some(message.clone()), None);
        self.keep(&judged);
        Told { verdict, reason, judged }
    }

    fn keep(&mut self, judged: &Judged) {
        if let Some(written) = &mut self.written {
            written.extend(judged.sealed.iter().cloned());
        }
    }

    pub fn size(&self, name: &str) -> Collection {
        let found = self.state().collections().into_iter().find(|collection| collection.name == name);
        found.unwrap_or_else(|| panic!("no `{name}`"))
    }

    /// How often each bound was met, by its word.
    pub fn hits(&mut self, bound: &str) -> u64 {
        let hits = self.corridor.state_mut().take_bound_hits();
        let index = swarmgate::contract::bound::Bound::ALL.iter().position(|known| known.word() == bound);
        hits[index.expect("a bound")]
    }

    /// Nothing holds more than its bound, and what was written leads to this state, under any other
    /// bounds too.
    pub fn holds(&self) {
        for collection in self.state().collections() {
            assert!(collection.len <= collection.max, "{collection:?}");
        }
        let Some(written) = &self.written else { return };
        let wide = Rules { idempotency_window_ms: self.rules.idempotency_window_ms, ..Rules::default() };
        for rules in [self.rules.clone(), wide] {
            let mut folded = State::new(rules);
            for sealed in written {
                let entry = serde_json::from_slice(&sealed.bytes);
                assert_eq!(entry.as_ref().ok(), Some(&sealed.entry), "{entry:?}");
                folded.apply(sealed.entry.seq, &sealed.entry.fact);
            }
            assert_eq!(folded.digest(), self.state().digest());
        }
    }
}

pub(super) fn scope(text: &str) -> Scope {
    let [swarm, role, instance] = text.split('/').collect::<Vec<_>>()[..] else { panic!("`{text}`") };
    Scope::new(swarm, role, instance)
}

pub(super) fn message(
    at: Timestamp,
    kind: &str,
    kind_type: &str,
    who: &str,
    about: &str,
    trace: Option<&str>,
    data: &Value,
) -> Message {
    let place = scope(about);
    let mut body = json!({
        "timestamp": at, "version": "1", "kind": kind, "type": kind_type, "origin": who,
        "scope": { "swarmId": place.swarm_id, "role": place.role, "instance": place.instance }, "data": data,
    });
    if let Some(trace) = trace {
        body["correlationId"] = json!(trace);
        if kind == "signal" {
            body["idempotencyKey"] = json!(trace);
        }
    }
    let family = if kind == "signal" { "signal".to_owned() } else { format!("event.{kind}") };
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: format!("{family}.{kind_type}.{}", about.replace('/', ".")),
        properties: Properties { user_id: Some(who.to_owned()), ..Properties::default() },
        body: body.to_string().into(),
    }
}

/// What an instance says of itself.
pub(super) fn result(
    at: Timestamp,
    kind: &str,
    kind_type: &str,
    who: &str,
    trace: &str,
    data: &Value,
) -> Message {
    let instance = who.rsplit('/').next().expect("an instance");
    let trace = (kind != "metric").then_some(trace);
    message(at, kind, kind_type, instance, who, trace, data)
}
