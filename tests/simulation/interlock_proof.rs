//! What must hold of a world of the interlock: I7 and I8, by a fold of its own.
//!
//! Owns: a second, small reading of the ledger (modes, switches, latch, gates, lives, challenges)
//! and the checks.
//! Never: asks the router's own state what it thinks, but for its digest.
//! Holds: every message that a bot heard is judged by the entry that it left by.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::Tally;
use serde_json::Value;
use swarmgate::{
    contract::{
        audit::{Accepted, Action, Change, Fact, Verdict},
        digest::Digest,
        interlock::{Challenged, Confirmed, GateResult, KillSwitch, Life, Requires, SafetyMode, SafetySet},
        message::Message,
        routing::Scope,
        timestamp::Timestamp,
    },
    decision::state::State,
    ledger::{
        chain::Sealed,
        query::{Filter, Reader},
        verify,
    },
};

/// The status by which a bot says that it did what it was told; `None` for what no bot is told.
pub fn success(kind_type: &str) -> Option<&'static str> {
    Some(match kind_type {
        "bot-init" => "Created",
        "bot-start" | "bot-resume" => "Running",
        "bot-stop" => "Stopped",
        "bot-pause" => "Paused",
        "bot-quarantine" => "Quarantined",
        "bot-release" => "Released",
        "config-update" | "data-delete" => "Applied",
        _ => return None,
    })
}

/// Whether safety holds a type up.
fn is_held_up(kind_type: &str) -> bool {
    let always = ["bot-init", "bot-start", "bot-resume", "bot-release", "config-update", "data-delete"];
    always.contains(&kind_type)
}

fn asks_gates(kind_type: &str) -> bool {
    ["bot-start", "bot-resume", "config-update"].contains(&kind_type)
}

/// Whether a signal is dangerous by itself, whatever its bot does.
pub fn is_dangerous(body: &Value) -> bool {
    match body["type"].as_str().unwrap_or_default() {
        "bot-start" | "bot-resume" => body["data"]["mode"] == "live",
        "bot-release" | "data-delete" => true,
        _ => false,
    }
}

pub async fn entries(ledger: &Path) -> Vec<Sealed> {
    let reader = Reader::open(ledger).await.expect("a reader");
    reader.select(&Filter::default(), usize::MAX).await.expect("entries")
}

pub async fn assert_valid(seed: u64, ledger: &Path) {
    let report = verify::verify(ledger).await.expect("a ledger");
    assert_eq!(report.fault, None, "seed {seed}: I6: the chain does not verify");
}

/// I13: the ledger folds to the state that the router had.
pub async fn assert_folds(seed: u64, ledger: &Path, state: &State) {
    assert_valid(seed, ledger).await;
    let mut replayed = State::new(state.rules().clone());
    for sealed in entries(ledger).await {
        replayed.apply(sealed.entry.seq, &sealed.entry.fact);
    }
    assert_eq!(replayed.digest(), state.digest(), "seed {seed}: I13: the fold is another state");
}

/// The entry that a message left by.
fn entry_of(message: &Message) -> u64 {
    let id = message.properties.message_id.as_deref().expect("a message-id");
    id.rsplit('.').nth(1).and_then(|part| part.parse().ok()).expect("a place in the chain")
}

/// I7: whoever hears a dangerous command hears it by an entry that asked for a challenge, and that
/// was confirmed, completely and once, by what is on the disk now.
pub fn assert_confirmed(seed: u64, entries: &[Sealed], message: &Message) {
    let seq = entry_of(message);
    let asked = entries.iter().find(|sealed| sealed.entry.seq == seq).map(|sealed| &sealed.entry.fact);
    let Some(Fact { change: Change::Challenged(challenged), action: Action::Requested, .. }) = asked else {
        panic!("seed {seed}: I7: {} was heard without a challenge: {asked:?}", message.routing_key)
    };
    let command = challenged.accepted.command;
    let complete = entries.iter().filter(|sealed| match &sealed.entry.fact {
        Fact { change: Change::Confirmed(confirmed), action: Action::Confirmed, .. } => {
            Some(confirmed.command) == command && confirmed.complete.is_some() && sealed.entry.seq > seq
        }
        _ => false,
    });
    let complete = complete.count();
    assert_eq!(complete, 1, "seed {seed}: I7: {} was heard, confirmed {complete} times", message.routing_key);
}

/// What is set of safety, for all or for the swarm.
#[derive(Clone, Copy, Debug, Default)]
struct Setting {
    mode: Option<SafetyMode>,
    level: Option<KillSwitch>,
    latch: Option<KillSwitch>,
}

impl Setting {
    fn strongest(self) -> KillSwitch {
        let implied = match self.mode {
            Some(SafetyMode::EmergencyStop) => KillSwitch::Block,
            Some(SafetyMode::Safe) => KillSwitch::CloseOnly,
            Some(SafetyMode::Normal) | None => KillSwitch::Allow,
        };
        [Some(implied), self.level, self.latch].into_iter().flatten().max().unwrap_or(implied)
    }
}

/// A gate: its result, until when that counts, and until when it is not asked.
type Gate = (GateResult, Timestamp);

/// What the ledger says up to an entry.
#[derive(Debug, Default)]
pub struct Fold {
    seed: u64,
    all: Setting,
    swarm: Setting,
    lives: BTreeMap<Scope, Life>,
    gates: BTreeMap<String, Gate>,
    challenges: BTreeMap<Digest, Challenge>,
    accepted: BTreeMap<Digest, (String, bool)>,
    ends: BTreeMap<Digest, Vec<String>>,
    /// Entries by which a held-up command may be heard.
    may_leave: BTreeSet<u64>,
    /// Confirmed leaves that have not been used: for a release, a live start, a loosening.
    leaves: Vec<(&'static str, Scope)>,
    tally: Tally,
}

/// A challenge, as its entries tell.
#[derive(Debug)]
struct Challenge {
    seq: u64,
    sender: String,
    kind_type: String,
    scope: Scope,
    said: Challenged,
    by: Vec<String>,
    is_complete: bool,
    is_over: bool,
}

impl Fold {
    pub fn of(seed: u64, entries: &[Sealed]) -> Self {
        Self::with_gates(seed, entries, &[])
    }

    fn with_gates(seed: u64, entries: &[Sealed], required: &[String]) -> Self {
        let mut fold = Self { seed, ..Self::default() };
        for sealed in entries {
            fold.follow(sealed.entry.seq, &sealed.entry.fact, required);
        }
        fold
    }

    pub fn life(&self, bot: &Scope) -> Life {
        self.lives.get(bot).copied().unwrap_or(Life::Created)
    }

    /// The mode that is set for exactly that scope.
    pub fn mode_of(&self, scope: &Scope) -> SafetyMode {
        let setting = if scope.swarm_id == "ALL" { self.all } else { self.swarm };
        setting.mode.unwrap_or(SafetyMode::Normal)
    }

    /// Whether a switch or latch is set for exactly that scope.
    pub fn is_tight(&self, scope: &Scope) -> bool {
        let setting = if scope.swarm_id == "ALL" { self.all } else { self.swarm };
        [setting.level, setting.latch].into_iter().flatten().any(|level| level > KillSwitch::Allow)
    }

    /// What holds things up now; `None` where nothing does. The mode for all is never unknown to
    /// mean well.
    fn held_up_by(&self) -> Option<String> {
        let mode =
            self.all.mode.unwrap_or(SafetyMode::Safe).max(self.swarm.mode.unwrap_or(SafetyMode::Normal));
        let level = self.all.strongest().max(self.swarm.strongest());
        let is_open = mode == SafetyMode::Normal && level == KillSwitch::Allow;
        (!is_open).then(|| format!("the mode is {mode} and the switch at {level}"))
    }

    /// A held-up command takes effect by this entry: nothing that was written before stands against
    /// it (I7, I8).
    fn assert_open(&self, seq: u64, kind_type: &str, at: Timestamp, required: &[String]) {
        let seed = self.seed;
        if let Some(why) = self.held_up_by() {
            panic!("seed {seed}: I7: `{kind_type}` passed by entry {seq} while {why}");
        }
        for name in required.iter().filter(|_| asks_gates(kind_type)) {
            let known = self.gates.get(name).filter(|(_, until)| at < *until).map(|(result, _)| *result);
            let passes = matches!(known, Some(GateResult::Pass | GateResult::Warn));
            assert!(
                passes,
                "seed {seed}: I8: `{kind_type}` passed by entry {seq} while gate {name} is {known:?}"
            );
        }
    }

    fn follow(&mut self, seq: u64, fact: &Fact, required: &[String]) {
        self.note(fact);
        let subject = fact.subject.as_ref();
        let kind_type = subject.map(|subject| subject.kind_type.clone()).unwrap_or_default();
        match &fact.change {
            Change::Genesis(genesis) => self.all.mode = Some(genesis.initial_mode),
            Change::Accepted(accepted) => self.accept(seq, fact, &kind_type, accepted, required),
            Change::Challenged(challenged) => {
                let command = challenged.accepted.command.expect("a challenged command has an identity");
                let challenge = Challenge {
                    seq,
                    sender: fact.actor.as_ref().map(|actor| actor.principal.clone()).unwrap_or_default(),
                    kind_type,
                    scope: subject.expect("a subject").scope.clone(),
                    said: challenged.clone(),
                    by: Vec::new(),
                    is_complete: false,
                    is_over: false,
                };
                let before = self.challenges.insert(command, challenge);
                assert!(before.is_none(), "seed {}: one command was challenged twice", self.seed);
            }
            Change::Confirmed(confirmed) => self.confirm(seq, fact, confirmed, required),
            Change::Ended(ended) => self.end(seq, fact, ended.command, &ended.status),
            Change::Result(result) => {
                if let Some(ended) = &result.ends {
                    self.end(seq, fact, ended.command, &ended.status);
                }
            }
            Change::Safety(set) => self.set(seq, fact, set),
            Change::Gate(set) => {
                if let (Some(result), Some(until)) = (set.result, set.expires_at) {
                    self.gates.insert(set.gate.clone(), (result, until));
                }
            }
            Change::Moved(moved) => {
                for step in &moved.bots {
                    self.go(seq, &step.scope, step.from, step.to);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, fact: &Fact) {
        match (fact.action, fact.reason.map(|reason| reason.code())) {
            (Action::DuplicateSuppressed, _) => self.tally.count("duplicate suppressed"),
            (Action::Rejected, Some("consent.challenge-expired")) => self.tally.count("challenge expired"),
            (Action::Rejected, Some(_)) => self.tally.count("confirmation rejected"),
            (Action::Denied, Some("safety.mode")) => self.tally.count("refused by safety.mode"),
            (Action::Denied, Some("safety.kill-switch")) => self.tally.count("refused by safety.kill-switch"),
            (Action::Denied, Some("safety.gate-unknown")) => {
                self.tally.count("refused by safety.gate-unknown")
            }
            (Action::Denied, Some("lifecycle.quarantined")) => {
                self.tally.count("refused by lifecycle.quarantined");
            }
            _ => {}
        }
    }

    /// A command that no challenge held back.
    fn accept(&mut self, seq: u64, fact: &Fact, kind_type: &str, accepted: &Accepted, required: &[String]) {
        let seed = self.seed;
        // What a stop has overtaken is accepted and ended in one, and nobody hears it.
        if is_held_up(kind_type) && fact.verdict != Some(Verdict::Suppress) {
            let body: Value =
                serde_json::from_str(fact.payload.as_ref().expect("a payload").text()).expect("JSON");
            assert!(
                !is_dangerous(&body),
                "seed {seed}: I7: `{kind_type}` passed by entry {seq} unchallenged"
            );
            let bot = &fact.subject.as_ref().expect("a subject").scope;
            let is_live = self.life(bot) == Life::RunningLive;
            assert!(
                kind_type != "config-update" || !is_live,
                "seed {seed}: I7: a live config-update by {seq}"
            );
            self.assert_open(seq, kind_type, fact.at, required);
            self.may_leave.insert(seq);
        }
        if let Some(command) = accepted.command {
            let name = fact.correlation_id.clone().unwrap_or_default();
            let before = self.accepted.insert(command, (name, accepted.deadline.is_some()));
            assert!(before.is_none(), "seed {seed}: I2: a command was accepted twice, by entry {seq} too");
        }
    }

    fn confirm(&mut self, seq: u64, fact: &Fact, confirmed: &Confirmed, required: &[String]) {
        let seed = self.seed;
        let challenge = self.challenges.get_mut(&confirmed.command);
        let challenge = challenge.unwrap_or_else(|| panic!("seed {seed}: entry {seq} confirms nothing"));
        assert!(
            !challenge.is_over && !challenge.is_complete,
            "seed {seed}: I7: entry {seq} confirms what is over: {challenge:?}"
        );
        assert!(
            fact.at <= challenge.said.expires_at,
            "seed {seed}: I7: entry {seq} confirms after the window: {challenge:?}"
        );
        assert!(!challenge.by.contains(&confirmed.by), "seed {seed}: one person stands for two by {seq}");
        challenge.by.push(confirmed.by.clone());
        if confirmed.complete.is_none() {
            return;
        }
        challenge.is_complete = true;
        let others = challenge.by.iter().filter(|by| **by != challenge.sender).count();
        let (enough, several) = match &challenge.said.requires {
            Requires::Explicit => (true, false),
            Requires::SecondPerson => (others >= 1, true),
            Requires::Quorum(shares) => (others >= shares[0].count, true),
        };
        assert!(enough, "seed {seed}: I7: entry {seq} is not enough: {challenge:?}");
        if several {
            self.tally.count("confirmed by several");
        }
        let (kind_type, scope) = (challenge.kind_type.clone(), challenge.scope.clone());
        let (from, leads_to) = (challenge.seq, challenge.said.accepted.leads_to);
        let loosens = ["safety-set", "kill-switch-set"].contains(&kind_type.as_str());
        if loosens {
            self.leaves.push(("loosening", scope));
            return;
        }
        if confirmed.deadline.is_none() {
            self.tally.count("confirmed, and refused by what has changed");
            return;
        }
        self.assert_open(seq, &kind_type, fact.at, required);
        self.may_leave.insert(from);
        match (kind_type.as_str(), leads_to) {
            ("bot-release", _) => self.leaves.push(("release", scope)),
            (_, Some(Life::RunningLive)) => self.leaves.push(("live start", scope)),
            _ => {}
        }
    }

    fn end(&mut self, seq: u64, fact: &Fact, command: Digest, status: &str) {
        self.ends.entry(command).or_default().push(status.to_owned());
        let Some(challenge) = self.challenges.get_mut(&command) else { return };
        challenge.is_over = true;
        if challenge.is_complete {
            return;
        }
        match status {
            "Refused" => self.tally.count("challenge Refused before its confirmation"),
            "Superseded" => self.tally.count("challenge Superseded before its confirmation"),
            _ => panic!(
                "seed {}: entry {seq} ends as {status} what nobody confirmed: {challenge:?}",
                self.seed
            ),
        }
        let expired = fact.reason.is_some_and(|reason| reason.code() == "consent.challenge-expired");
        assert!(
            !expired || challenge.said.expires_at < fact.at,
            "seed {}: entry {seq} ends a challenge within its window: {challenge:?}",
            self.seed
        );
    }

    /// A setting: what lowers it was confirmed.
    fn set(&mut self, seq: u64, fact: &Fact, set: &SafetySet) {
        let before = if set.swarm.is_none() { self.all } else { self.swarm };
        let mode = before.mode.or(self.all.mode).unwrap_or(SafetyMode::Safe);
        let lowers = set.mode.is_some_and(|to| to < mode)
            || set.kill_switch.is_some_and(|to| to < before.level.unwrap_or(KillSwitch::Allow))
            || set.latch.is_some_and(|to| to < before.latch.unwrap_or(KillSwitch::Allow));
        if lowers {
            let scope = Scope::new(set.swarm.as_deref().unwrap_or("ALL"), "ALL", "ALL");
            self.spend(seq, "loosening", &scope);
            self.tally.count("loosened");
        }
        if set.latch.is_some_and(|level| level > KillSwitch::Allow) {
            self.tally.count("latched");
        }
        if fact.detail.as_deref().is_some_and(|detail| detail.starts_with("interlock")) {
            self.tally.count("raised by an interlock");
        }
        let setting = if set.swarm.is_none() { &mut self.all } else { &mut self.swarm };
        setting.mode = set.mode.or(setting.mode);
        setting.level = set.kill_switch.or(setting.level);
        setting.latch = set.latch.or(setting.latch);
    }

    /// A bot moves: it enters live and leaves quarantine by a confirmed command only.
    fn go(&mut self, seq: u64, bot: &Scope, from: Life, to: Life) {
        assert_eq!(self.life(bot), from, "seed {}: entry {seq} moves {bot} from elsewhere", self.seed);
        // A bot that runs in its quarantine is set apart anew, which leaves it there.
        if from == Life::Quarantined && to != from {
            assert_eq!(to, Life::Idle, "seed {}: I7: entry {seq}", self.seed);
            self.spend(seq, "release", bot);
            self.tally.count("left QUARANTINED");
        }
        if to == Life::RunningLive {
            self.spend(seq, "live start", bot);
        }
        self.lives.insert(bot.clone(), to);
    }

    /// Uses up one confirmed leave.
    fn spend(&mut self, seq: u64, what: &str, scope: &Scope) {
        let found = self.leaves.iter().position(|(leave, of)| *leave == what && of == scope);
        let found = found.unwrap_or_else(|| {
            panic!("seed {}: I7: entry {seq} is a {what} of {scope} nobody confirmed", self.seed)
        });
        self.leaves.remove(found);
    }
}

/// Everything that must hold of a world that is over.
pub fn check(seed: u64, entries: &[Sealed], heard: &[Message], required: &[String]) -> Tally {
    let mut fold = Fold::with_gates(seed, entries, required);
    let mut ids = BTreeMap::<(String, String), BTreeSet<String>>::new();
    let mut told = BTreeSet::new();
    for message in heard {
        let body: Value = serde_json::from_slice(&message.body).expect("a body");
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        if message.routing_key.starts_with("event.outcome.") {
            told.insert((
                text("correlationId"),
                body["data"]["status"].as_str().unwrap_or_default().to_owned(),
            ));
        }
        if !message.routing_key.starts_with("signal.") {
            continue;
        }
        let id = message.properties.message_id.clone().expect("a message-id");
        ids.entry((text("origin"), text("idempotencyKey"))).or_default().insert(id);
        let kind_type = text("type");
        if is_held_up(&kind_type) {
            let seq = entry_of(message);
            assert!(
                fold.may_leave.contains(&seq),
                "seed {seed}: I7: `{kind_type}` was heard by entry {seq}, which does not let it"
            );
        }
        if is_dangerous(&body) {
            assert_confirmed(seed, entries, message);
            if kind_type != "data-delete" && kind_type != "bot-release" {
                fold.tally.count("live heard");
            }
        }
    }
    for (whose, ids) in &ids {
        assert_eq!(ids.len(), 1, "seed {seed}: I2: {whose:?} was carried under {ids:?}");
    }
    for challenge in fold.challenges.values() {
        assert!(challenge.is_over, "seed {seed}: a challenge never ends: {challenge:?}");
    }
    let waiting = fold.accepted.iter().filter(|(_, (_, has_deadline))| *has_deadline);
    let ending: BTreeSet<&Digest> =
        waiting.map(|(command, _)| command).chain(fold.challenges.keys()).collect();
    for command in ending {
        let ends = fold.ends.get(command).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(ends.len(), 1, "seed {seed}: a command ended {ends:?}: {:?}", fold.accepted.get(command));
        if let Some((name, _)) = fold.accepted.get(command) {
            let heard = told.contains(&(name.clone(), ends[0].clone()));
            assert!(heard, "seed {seed}: nobody was told that {name} ended {}", ends[0]);
        }
    }
    fold.tally
}
