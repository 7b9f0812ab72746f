//! The interlock as it is written: lifecycle, safety mode, gates, kill switch and danger, by tables.
//!
//! Owns: a second reading of the control-plane specification, made from its text alone.
//! Never: names anything of the crate; what is compared with it is driven over the wire.
//! Holds: every answer follows from a row below, and spec/lifecycle.toml has the same rows (a test says so).

use std::fmt;

/// A state in the life of an instance.
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

use Life::{Created, Error, Idle, Live, Paper, Paused, Quarantined, Shadow, Stopping};

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
}

impl fmt::Display for Life {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// How much is allowed, the least strict first.
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

/// What is known of the required gates.
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

/// The execution kill switch, the least strict first.
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

/// What a class of command is.
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

/// Every type of the command table and its class. `safety-set` and `kill-switch-set` downward are `Loosen`.
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
    ("start-work", Class::Start),
    ("ready", Class::Liveness),
    ("heartbeat", Class::Liveness),
    ("status-request", Class::Evidence),
    ("support-bundle", Class::Evidence),
    ("gate-report", Class::Evidence),
    ("swarm-template", Class::Change),
    ("swarm-plan", Class::Change),
    ("config-update", Class::Change),
    ("bot-init", Class::Change),
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

/// When a way is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Accepted,
    Outcome,
    AtOnce,
}

/// One row of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub by: &'static str,
    pub mode: Option<&'static str>,
    pub from: &'static [Life],
    pub to: Life,
    pub when: When,
}

const STARTABLE: &[Life] = &[Idle, Paused, Error];
const RUNNING: &[Life] = &[Paper, Shadow, Live];
const STOPPABLE: &[Life] = &[Paper, Shadow, Live, Paused, Error];
const FALLIBLE: &[Life] = &[Paper, Shadow, Live, Stopping, Paused];

const fn way(by: &'static str, from: &'static [Life], to: Life, when: When) -> Way {
    Way { by, mode: None, from, to, when }
}

const fn start(by: &'static str, mode: &'static str, to: Life) -> Way {
    Way { by, mode: Some(mode), from: STARTABLE, to, when: When::Outcome }
}

/// The machine. What no row names does not happen.
pub const WAYS: [Way; 17] = [
    way("bot-init", &[Created], Idle, When::Outcome),
    start("bot-start", "paper", Paper),
    start("bot-resume", "paper", Paper),
    start("bot-start", "shadow", Shadow),
    start("bot-resume", "shadow", Shadow),
    start("bot-start", "live", Live),
    start("bot-resume", "live", Live),
    way("bot-pause", RUNNING, Paused, When::Outcome),
    way("bot-stop", STOPPABLE, Stopping, When::Accepted),
    way("bot-stop", &[Stopping], Idle, When::Outcome),
    way("alert", FALLIBLE, Error, When::AtOnce),
    way("stop-failed", FALLIBLE, Error, When::AtOnce),
    way("session-lost", RUNNING, Error, When::AtOnce),
    way("bot-quarantine", &Life::ALL, Quarantined, When::Accepted),
    way("interlock", &Life::ALL, Quarantined, When::AtOnce),
    way("uncommanded", &Life::ALL, Quarantined, When::AtOnce),
    way("bot-release", &[Quarantined], Idle, When::Outcome),
];

/// Where an instance is after `by` happened to it at that moment: one row further, or where it was.
pub fn moved(life: Life, by: &str, mode: Option<&str>, when: When) -> Life {
    let row = WAYS.iter().find(|way| {
        way.by == by
            && way.when == when
            && way.from.contains(&life)
            && (way.mode.is_none() || way.mode == mode)
    });
    // A stop that was accepted while nothing ran, and overtook a start whose success came late, stops it all the same.
    if row.is_none() && by == "bot-stop" && when == When::Outcome && (life.runs() || life == Paused) {
        return Idle;
    }
    row.map_or(life, |way| way.to)
}

/// What holds when a command is judged. `life` of an instance that nobody has heard of is `None`.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    pub life: Option<Life>,
    pub safety: Safety,
    pub gate: Gate,
    pub kill: Kill,
    /// Whether some instance of the addressed swarm is live: runs so, was taken out of that without coming to rest since,
    /// or was let start so and has not answered.
    pub live: bool,
}

/// What a command asks.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub kind: &'a str,
    pub mode: Option<&'a str>,
    /// `data.requestedTransition`.
    pub requested: Option<&'a str>,
    /// Whether a setting goes downward, or PASS or WARN is said over FAIL.
    pub loosens: bool,
}

/// What the corridor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Forward,
    Challenge,
    Refuse(&'static str),
}

/// Gates 8, 9 and 10, in their order.
pub fn answer(situation: &Situation, ask: &Ask<'_>) -> Answer {
    let refused = lifecycle(situation.life, ask).or_else(|| safety(situation, ask));
    match refused {
        Some(code) => Answer::Refuse(code),
        None if is_dangerous(situation.live, ask) => Answer::Challenge,
        None => Answer::Forward,
    }
}

/// Whether a command is carried to somebody, and starts, changes or destroys something there. An instance in quarantine
/// hears only of evidence, of stopping, and of its release; what opens a session starts nothing.
fn disturbs(kind: &str) -> bool {
    matches!(class(kind), Class::Start | Class::Change | Class::Destructive)
}

/// Gate 8: nothing that disturbs reaches quarantine, and four commands are asked where the instance is.
fn lifecycle(life: Option<Life>, ask: &Ask<'_>) -> Option<&'static str> {
    if disturbs(ask.kind) && life == Some(Quarantined) {
        return Some("lifecycle.quarantined");
    }
    let asks = matches!(ask.kind, "bot-init" | "bot-start" | "bot-resume" | "bot-release");
    if !asks {
        return None;
    }
    let is_start = matches!(ask.kind, "bot-start" | "bot-resume");
    let mode = ask.mode.filter(|mode| matches!(*mode, "paper" | "shadow" | "live"));
    let here = life.or((ask.kind == "bot-init").then_some(Created));
    // Where the command and its mode lead; a start without a mode leads to some running state.
    let leads = |to: Life| match mode {
        _ if !is_start => to == Idle,
        None => to.runs(),
        mode => moved(Idle, ask.kind, mode, When::Outcome) == to,
    };
    let said = ask.requested.and_then(|text| text.split_once("->"));
    let said = said.and_then(|(from, to)| Some((Life::named(from)?, Life::named(to)?)));
    let agrees = said.is_some_and(|(from, to)| Some(from) == here && leads(to));
    let from_error = here == Some(Error) && !is_start;
    let has_row =
        WAYS.iter().any(|way| way.by == ask.kind && here.is_some_and(|here| way.from.contains(&here)));
    if from_error {
        Some("lifecycle.explicit-start-required")
    } else if !agrees || !has_row {
        Some("lifecycle.illegal-transition")
    } else if is_start && mode.is_none() {
        Some("lifecycle.mode-required")
    } else {
        None
    }
}

/// Gate 9.
fn safety(situation: &Situation, ask: &Ask<'_>) -> Option<&'static str> {
    let sets = matches!(ask.kind, "safety-set" | "kill-switch-set");
    let passes = match class(ask.kind) {
        Class::Stop | Class::Tighten | Class::Consent | Class::Session | Class::Liveness => true,
        Class::Evidence => !ask.loosens,
        Class::Loosen | Class::Change | Class::Start | Class::Release | Class::Destructive => false,
    };
    if passes || sets {
        return None;
    }
    // Before a start and before anything is applied.
    let gated = matches!(class(ask.kind), Class::Start | Class::Change);
    if situation.safety != Safety::Normal {
        Some("safety.mode")
    } else if gated && situation.gate == Gate::Fail {
        Some("safety.gate-failed")
    } else if gated && situation.gate == Gate::Unknown {
        Some("safety.gate-unknown")
    } else if situation.kill != Kill::Allow {
        Some("safety.kill-switch")
    } else {
        None
    }
}

/// Gate 10: what is done only after somebody has confirmed it.
pub fn is_dangerous(live: bool, ask: &Ask<'_>) -> bool {
    match class(ask.kind) {
        Class::Loosen | Class::Release | Class::Destructive => true,
        Class::Start => ask.mode == Some("live") && matches!(ask.kind, "bot-start" | "bot-resume"),
        // Making an instance is no change of one that is live.
        Class::Change => live && ask.kind != "bot-init",
        Class::Tighten | Class::Evidence => ask.loosens,
        Class::Stop | Class::Consent | Class::Session | Class::Liveness => false,
    }
}
