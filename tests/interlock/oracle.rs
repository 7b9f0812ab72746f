//! The interlock as the documents have it: what is said to a command, and where an instance is
//! after it.
//!
//! Owns: the vocabulary of the documents, the table of the lifecycle, and the questions of gates 6
//! to 10 in their order.
//! Never: names anything of the crate, or remembers anything; `history` knows of gates, and `model`
//! of commands and time.
//! Holds: it was written from the text alone. Each rule stands under the sentence that it restates.

use std::fmt;

use Life::{Created, Error, Idle, Live, Paper, Paused, Quarantined, Shadow, Stopping};

/// Where an instance is in its life: nine words, and no tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    Created,
    Idle,
    Paper,
    Shadow,
    Live,
    Paused,
    Stopping,
    Error,
    Quarantined,
}

impl Life {
    pub const ALL: [Self; 9] = [Created, Idle, Paper, Shadow, Live, Paused, Stopping, Error, Quarantined];

    pub const fn name(self) -> &'static str {
        match self {
            Created => "CREATED",
            Idle => "IDLE",
            Paper => "RUNNING_PAPER",
            Shadow => "RUNNING_SHADOW",
            Live => "RUNNING_LIVE",
            Paused => "PAUSED",
            Stopping => "STOPPING",
            Error => "ERROR",
            Quarantined => "QUARANTINED",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|life| life.name() == name)
    }

    pub const fn runs(self) -> bool {
        matches!(self, Paper | Shadow | Live)
    }

    /// Where a run in a mode is. Three modes are words; anything else is no mode.
    pub fn running(mode: &str) -> Option<Self> {
        [("paper", Paper), ("shadow", Shadow), ("live", Live)]
            .into_iter()
            .find_map(|(word, life)| (word == mode).then_some(life))
    }
}

impl fmt::Display for Life {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The mode of everything or of a swarm, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Safety {
    Normal,
    Safe,
    EmergencyStop,
}

impl Safety {
    pub const ALL: [Self; 3] = [Self::Normal, Self::Safe, Self::EmergencyStop];

    pub const fn name(self) -> &'static str {
        ["NORMAL", "SAFE", "EMERGENCY_STOP"][self as usize]
    }
}

/// What a readiness gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    Pass,
    Warn,
    Fail,
    Unknown,
}

impl Gate {
    pub const ALL: [Self; 4] = [Self::Pass, Self::Warn, Self::Fail, Self::Unknown];

    pub const fn name(self) -> &'static str {
        ["PASS", "WARN", "FAIL", "UNKNOWN"][self as usize]
    }
}

/// The kill switch, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kill {
    Allow,
    CloseOnly,
    Flatten,
    Block,
}

impl Kill {
    pub const ALL: [Self; 4] = [Self::Allow, Self::CloseOnly, Self::Flatten, Self::Block];

    pub const fn name(self) -> &'static str {
        ["ALLOW", "CLOSE_ONLY", "FLATTEN", "BLOCK"][self as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Stop,
    Tighten,
    Loosen,
    Consent,
    Session,
    Liveness,
    Evidence,
    Change,
    Start,
    Release,
    Destructive,
}

/// Each type with its class. `start-work` makes a worker work: it is a start, and not one of the
/// words of a session.
pub const TYPES: [(&str, Class); 34] = [
    ("stop", Class::Stop),
    ("swarm-stop", Class::Stop),
    ("bot-stop", Class::Stop),
    ("bot-pause", Class::Stop),
    ("swarm-remove", Class::Stop),
    ("bot-quarantine", Class::Tighten),
    ("safety-set", Class::Tighten),
    ("kill-switch-set", Class::Tighten),
    ("gate-enable", Class::Tighten),
    ("monitoring-enable", Class::Tighten),
    ("gate-disable", Class::Loosen),
    ("monitoring-disable", Class::Loosen),
    ("clock-accept", Class::Loosen),
    ("challenge-confirm", Class::Consent),
    ("challenge-reject", Class::Consent),
    ("bootstrap-bundle", Class::Session),
    ("ready", Class::Liveness),
    ("heartbeat", Class::Liveness),
    ("status-request", Class::Evidence),
    ("support-bundle", Class::Evidence),
    ("gate-report", Class::Evidence),
    ("swarm-template", Class::Change),
    ("swarm-plan", Class::Change),
    ("config-update", Class::Change),
    ("bot-init", Class::Change),
    ("start-work", Class::Start),
    ("swarm-start", Class::Start),
    ("bot-start", Class::Start),
    ("bot-resume", Class::Start),
    ("bot-release", Class::Release),
    ("secret-rotate", Class::Destructive),
    ("data-delete", Class::Destructive),
    ("data-restore", Class::Destructive),
    ("data-compact", Class::Destructive),
];

pub fn class(kind: &str) -> Class {
    TYPES.iter().find(|(name, _)| *name == kind).expect("a type of the command table").1
}

/// When a transition happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Accepted,
    Outcome,
    AtOnce,
}

/// A row of the lifecycle.
pub struct Way {
    pub by: &'static str,
    pub mode: Option<&'static str>,
    pub from: &'static [Life],
    pub to: Life,
    pub when: When,
}

const fn way(
    by: &'static str,
    mode: Option<&'static str>,
    from: &'static [Life],
    to: Life,
    when: When,
) -> Way {
    Way { by, mode, from, to, when }
}

const RESTING: &[Life] = &[Idle, Paused, Error];
const RUNNING: &[Life] = &[Paper, Shadow, Live];
const FAILING: &[Life] = &[Paper, Shadow, Live, Stopping, Paused];

/// The lifecycle. What no row names does not happen.
pub const WAYS: [Way; 17] = [
    // What was created is idle once it has been initialised.
    way("bot-init", None, &[Created], Idle, When::Outcome),
    // From IDLE, PAUSED and ERROR it runs in the mode that was asked for; nothing else leads out of
    // ERROR to a run.
    way("bot-start", Some("paper"), RESTING, Paper, When::Outcome),
    way("bot-resume", Some("paper"), RESTING, Paper, When::Outcome),
    way("bot-start", Some("shadow"), RESTING, Shadow, When::Outcome),
    way("bot-resume", Some("shadow"), RESTING, Shadow, When::Outcome),
    way("bot-start", Some("live"), RESTING, Live, When::Outcome),
    way("bot-resume", Some("live"), RESTING, Live, When::Outcome),
    // Whatever runs can be paused.
    way("bot-pause", None, RUNNING, Paused, When::Outcome),
    // It stops by way of STOPPING, which begins when the stop is accepted.
    way("bot-stop", None, &[Paper, Shadow, Live, Paused, Error], Stopping, When::Accepted),
    way("bot-stop", None, &[Stopping], Idle, When::Outcome),
    // A fatal alert, a stop that failed, or a session that was lost while it ran.
    way("alert", None, FAILING, Error, When::AtOnce),
    way("stop-failed", None, FAILING, Error, When::AtOnce),
    way("session-lost", None, RUNNING, Error, When::AtOnce),
    // Quarantine is entered from everywhere: by an operator, by the interlock, by a run that nobody
    // asked for.
    way("bot-quarantine", None, &Life::ALL, Quarantined, When::Accepted),
    way("interlock", None, &Life::ALL, Quarantined, When::AtOnce),
    way("uncommanded", None, &Life::ALL, Quarantined, When::AtOnce),
    // It is left by a release, never by itself.
    way("bot-release", None, &[Quarantined], Idle, When::Outcome),
];

/// Where an instance is after that; where it was, if no row leads on.
pub fn moved(life: Life, by: &str, mode: Option<&str>, when: When) -> Life {
    // What is told to stop is not called running, whichever of the three words for it was used.
    let by = if matches!(by, "stop" | "swarm-stop") { "bot-stop" } else { by };
    let leads = |way: &&Way| {
        way.by == by
            && way.when == when
            && way.from.contains(&life)
            && (way.mode.is_none() || way.mode == mode)
    };
    WAYS.iter().find(leads).map_or(life, |way| way.to)
}

/// What a command meets.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Where the addressed instance is; `None` where nobody has heard of it.
    pub life: Option<Life>,
    /// Whether the scope covers an instance in quarantine.
    pub quarantined: bool,
    /// Whether any bot of the addressed swarm is live, in the sense of `Past::is_live`.
    pub live: bool,
    /// Whether a start, resume or release of the addressed bot has been accepted and has not ended.
    pub pending: bool,
    /// Whether the addressed worker has a control session.
    pub session: bool,
    /// Whether each of the required workers has said that it is ready.
    pub crew_ready: bool,
    pub safety: Safety,
    pub kill: Kill,
    /// What the readiness gates say, the worst of them.
    pub gate: Gate,
    /// Whether an UNKNOWN refuses: of a gate that is required, or that has failed and was not
    /// cleared.
    pub unknown_refuses: bool,
}

impl Situation {
    /// An instance there, with nothing in its way.
    pub fn at(life: Life) -> Self {
        Self {
            life: Some(life),
            quarantined: life == Quarantined,
            live: life == Live,
            pending: false,
            session: true,
            crew_ready: true,
            safety: Safety::Normal,
            kill: Kill::Allow,
            gate: Gate::Pass,
            unknown_refuses: true,
        }
    }
}

/// What makes a bot live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// It ran live last, and has come neither to rest nor to another mode since.
    pub ran_live: bool,
    /// A live start of it was confirmed and has not been answered.
    pub start_released: bool,
}

impl Past {
    /// A change is dangerous where a bot is live, was paused from live, or has a released live
    /// start in flight.
    pub const fn is_live(self) -> bool {
        self.ran_live || self.start_released
    }

    /// What is remembered once it is there.
    pub fn enters(&mut self, life: Life) {
        match life {
            Live => self.ran_live = true,
            Idle | Paper | Shadow => self.ran_live = false,
            Created | Paused | Stopping | Error | Quarantined => {}
        }
    }
}

/// A command, as far as gates 6 to 10 look at it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub kind: &'a str,
    pub mode: Option<&'a str>,
    /// `requestedTransition`, as it was sent.
    pub requested: Option<&'a str>,
    /// A setting downward, or a better report over a FAIL by anybody but the gate's reporter.
    pub loosens: bool,
}

impl Ask<'_> {
    /// Downward a setting is loosened, and a better report over a FAIL loosens a gate, whatever the
    /// class of the type.
    pub fn class(&self) -> Class {
        if self.loosens { Class::Loosen } else { class(self.kind) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Forward,
    Challenge,
    Refuse(&'static str),
}

/// What is said to a new command of a sender who may send it. The first gate that says no has the
/// last word, and nobody is asked to confirm what would be refused.
pub fn answer(situation: &Situation, ask: &Ask<'_>) -> Answer {
    let first = [command, session, lifecycle, safety].iter().find_map(|gate| gate(situation, ask));
    match first {
        Some(code) => Answer::Refuse(code),
        None if is_dangerous(situation.live, ask) => Answer::Challenge,
        None => Answer::Forward,
    }
}

/// Gate 6: while a start, resume or release of a bot is pending, no second one is taken for it.
fn command(situation: &Situation, ask: &Ask<'_>) -> Option<&'static str> {
    (situation.pending && is_exclusive(ask.kind)).then_some("command.pending")
}

pub fn is_exclusive(kind: &str) -> bool {
    matches!(kind, "bot-start" | "bot-resume" | "bot-release")
}

/// Gate 7: a worker is bootstrapped once; what belongs to a session needs one; work is blocked
/// until the required workers are ready.
fn session(situation: &Situation, ask: &Ask<'_>) -> Option<&'static str> {
    match ask.kind {
        "bootstrap-bundle" if situation.session => Some("session.duplicate-bootstrap"),
        "ready" | "heartbeat" if !situation.session => Some("session.not-bootstrapped"),
        "start-work" | "swarm-start" if !situation.crew_ready => Some("session.workers-not-ready"),
        _ => None,
    }
}

/// Gate 8, the special cases first.
fn lifecycle(situation: &Situation, ask: &Ask<'_>) -> Option<&'static str> {
    let class = ask.class();
    // Quarantine is left by an explicit release alone: every start, change and destruction whose
    // scope covers it waits.
    if situation.quarantined && matches!(class, Class::Start | Class::Change | Class::Destructive) {
        return Some("lifecycle.quarantined");
    }
    // A bot leaves ERROR by an explicit start or resume, not by what would tidy it away.
    if situation.life == Some(Error) && matches!(ask.kind, "bot-init" | "bot-release") {
        return Some("lifecycle.explicit-start-required");
    }
    let starts = matches!(ask.kind, "bot-start" | "bot-resume");
    if !starts && !matches!(ask.kind, "bot-init" | "bot-release") {
        return None;
    }
    // Live is never inherited: without a mode there is none, and a word that is no mode is none.
    let mode = ask.mode.filter(|mode| Life::running(mode).is_some());
    let here = situation.life.unwrap_or(Created);
    let step = ask.requested.and_then(states).filter(|(from, to)| {
        let leads = |way: &Way| {
            way.by == ask.kind
                && way.from.contains(from)
                && way.to == *to
                && (mode.is_none() || way.mode == mode)
        };
        *from == here && WAYS.iter().any(leads)
    });
    match step {
        // `requestedTransition` has to agree with the table, with where it is and with the mode.
        None => Some("lifecycle.illegal-transition"),
        Some(_) if starts && mode.is_none() => Some("lifecycle.mode-required"),
        Some(_) => None,
    }
}

/// Two states joined by an arrow.
fn states(requested: &str) -> Option<(Life, Life)> {
    let (from, to) = requested.split_once("->")?;
    Some((Life::named(from)?, Life::named(to)?))
}

/// Gate 9: the mode, then the readiness gates, then the kill switch.
fn safety(situation: &Situation, ask: &Ask<'_>) -> Option<&'static str> {
    let class = ask.class();
    let passes = match class {
        // In SAFE and EMERGENCY_STOP only evidence, stopping and diagnosis are allowed, and what
        // tightens always is. A session's words start nothing.
        Class::Stop | Class::Tighten | Class::Consent => true,
        Class::Session | Class::Liveness | Class::Evidence => true,
        // And the confirmed way out: mode and kill switch themselves; accepting the clock ends the
        // SAFE that it caused.
        Class::Loosen => matches!(ask.kind, "safety-set" | "kill-switch-set" | "clock-accept"),
        Class::Change | Class::Start | Class::Release | Class::Destructive => false,
    };
    if !passes && situation.safety != Safety::Normal {
        return Some("safety.mode");
    }
    // Before a start, a resume and a change the gates are asked; FAIL and UNKNOWN refuse. Not
    // observed is not healthy.
    if matches!(class, Class::Start | Class::Change) {
        match situation.gate {
            Gate::Fail => return Some("safety.gate-failed"),
            Gate::Unknown if situation.unknown_refuses => return Some("safety.gate-unknown"),
            Gate::Pass | Gate::Warn | Gate::Unknown => {}
        }
    }
    // From CLOSE_ONLY on only what reduces activity passes.
    (!passes && situation.kill != Kill::Allow).then_some("safety.kill-switch")
}

/// Whether gate 11 asks for a confirmation: a live start or resume; a change of what is live;
/// whatever loosens the mode, the kill switch, a gate or the watch; secrets; destruction; the
/// release from quarantine.
pub fn is_dangerous(live: bool, ask: &Ask<'_>) -> bool {
    match ask.class() {
        Class::Loosen | Class::Release | Class::Destructive => true,
        Class::Start => matches!(ask.kind, "bot-start" | "bot-resume") && ask.mode == Some("live"),
        // A new bot runs nothing that could be changed.
        Class::Change => live && ask.kind != "bot-init",
        Class::Stop | Class::Tighten | Class::Consent => false,
        Class::Session | Class::Liveness | Class::Evidence => false,
    }
}
