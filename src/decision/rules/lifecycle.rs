//! The table of a bot's life: which step a type takes, and what the table has.
//!
//! Owns: the steps, what a command says that it asks for, and how that is written.
//! Never: asks where a bot is; gate 8 does.
//! Holds: equal to spec/lifecycle.toml (a test compares them).

use crate::contract::{
    Said,
    interlock::{Life, RunMode},
    tree::View,
};

/// The types that move a bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decision) enum Step {
    Init,
    Start,
    Pause,
    Stop,
    Quarantine,
    Release,
}

impl Step {
    /// The step that a type takes; `None` for a type that moves no bot.
    pub fn of(kind_type: &str) -> Option<Self> {
        Some(match kind_type {
            "bot-init" => Self::Init,
            "bot-start" | "bot-resume" => Self::Start,
            "bot-pause" => Self::Pause,
            // All three: a bot whose swarm was told to stop must not be called running.
            "bot-stop" | "stop" | "swarm-stop" => Self::Stop,
            "bot-quarantine" => Self::Quarantine,
            "bot-release" => Self::Release,
            _ => return None,
        })
    }

    /// Whether only one of a kind may be pending for a bot.
    pub const fn is_exclusive(self) -> bool {
        matches!(self, Self::Start | Self::Release)
    }

    /// The table: whether success takes a bot from one state to another.
    pub const fn leads(self, from: Life, to: Life) -> bool {
        use Life::{Created, Error, Idle, Paused, Quarantined, Stopping};
        match self {
            Self::Init => matches!((from, to), (Created, Idle)),
            Self::Start => matches!(from, Idle | Paused | Error) && to.runs(),
            Self::Pause => from.runs() && matches!(to, Paused),
            Self::Stop => (from.runs() || matches!(from, Paused | Error | Stopping)) && matches!(to, Idle),
            Self::Quarantine => matches!(to, Quarantined),
            Self::Release => matches!((from, to), (Quarantined, Idle)),
        }
    }
}

/// The run mode that a start or resume names.
pub(in crate::decision) fn mode(said: &Said) -> Option<RunMode> {
    said.envelope.data.get("mode").and_then(View::as_str).and_then(RunMode::read)
}

/// The state that a start's success leads to.
pub(in crate::decision) fn leads_to(said: &Said) -> Option<Life> {
    (Step::of(&said.key.kind_type) == Some(Step::Start)).then(|| mode(said)).flatten().map(RunMode::life)
}

/// The step that a command asks for, as it is written: as it says itself, or else as its type has
/// it.
pub(in crate::decision) fn asked_for(said: &Said) -> Option<String> {
    let step = Step::of(&said.key.kind_type)?;
    let written = |from: Option<Life>, to: Life| format!("{}->{to}", from.map_or("ANY", Life::word));
    match requested(said) {
        Some((from, to)) => Some(written(from, to)),
        None if step == Step::Start => mode(said).map(|mode| written(None, mode.life())),
        None => step_of_type(&said.key.kind_type).map(str::to_owned),
    }
}

/// The step that a type takes whoever says it; a start's depends on what it says.
pub(in crate::decision) fn step_of_type(kind_type: &str) -> Option<&'static str> {
    Some(match Step::of(kind_type)? {
        Step::Init => "CREATED->IDLE",
        Step::Start => return None,
        Step::Pause => "ANY->PAUSED",
        Step::Stop => "ANY->IDLE",
        Step::Quarantine => "ANY->QUARANTINED",
        Step::Release => "QUARANTINED->IDLE",
    })
}

/// The step that a command says it asks for; from `None` is `ANY`.
pub(in crate::decision) fn requested(said: &Said) -> Option<(Option<Life>, Life)> {
    let text = said.envelope.data.get("requestedTransition")?.as_str()?;
    let (from, to) = text.split_once("->")?;
    let from = if from == "ANY" { None } else { Some(Life::read(from)?) };
    Some((from, Life::read(to)?))
}
