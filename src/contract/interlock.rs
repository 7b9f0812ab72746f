//! The words of the interlock: lifecycle, control session, safety mode, kill switch, readiness gate, challenge.
//!
//! Owns: the closed vocabularies of the interlock and of sessions, and the facts that are written of them.
//! Never: decides which step follows which; the gates do.
//! Holds: where one value is stronger than another, `Ord` says so; a word is spelt in one way only.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{audit::Accepted, digest::Digest, routing::Scope, timestamp::Timestamp};

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $word:literal)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// Its word.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }

            /// The one of that word, in this spelling only.
            pub fn read(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.word() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.word())
            }
        }
    };
}

words! {
    /// Where a bot is in its life.
    Life {
        /// Made, not initialised.
        Created "CREATED"
        /// Stopped, and safely so.
        Idle "IDLE"
        /// Runs on paper.
        RunningPaper "RUNNING_PAPER"
        /// Runs in the shadow: real data, no orders.
        RunningShadow "RUNNING_SHADOW"
        /// Runs for real.
        RunningLive "RUNNING_LIVE"
        /// Held; may be resumed.
        Paused "PAUSED"
        /// A stop was accepted and has not been answered.
        Stopping "STOPPING"
        /// Ended by a fault.
        Error "ERROR"
        /// Taken out for safety; leaves by a confirmed release only.
        Quarantined "QUARANTINED"
    }
}

impl Life {
    /// Whether it is one of the three running states.
    pub const fn runs(self) -> bool {
        matches!(self, Self::RunningPaper | Self::RunningShadow | Self::RunningLive)
    }
}

words! {
    /// What a run is for; explicit in every start and resume, never inherited.
    RunMode {
        /// On paper.
        Paper "paper"
        /// In the shadow.
        Shadow "shadow"
        /// For real.
        Live "live"
    }
}

impl RunMode {
    /// The state that a run of this mode is in.
    pub const fn life(self) -> Life {
        match self {
            Self::Paper => Life::RunningPaper,
            Self::Shadow => Life::RunningShadow,
            Self::Live => Life::RunningLive,
        }
    }
}

words! {
    /// How far a control session has come.
    Phase {
        /// It has its bundle.
        Bootstrapped "bootstrapped"
        /// It may be given work.
        Ready "ready"
        /// It was given work.
        Working "working"
        /// It was stopped; a bootstrap opens the next session.
        Stopped "stopped"
        /// Nothing was heard of it for `session.lost_after_ms`.
        Lost "lost"
    }
}

words! {
    /// The safety mode; the stronger is the greater.
    SafetyMode {
        /// Everything that is permitted may happen.
        Normal "NORMAL"
        /// Nothing starts or changes.
        Safe "SAFE"
        /// The same, and the kill switch blocks.
        EmergencyStop "EMERGENCY_STOP"
    }
}

impl SafetyMode {
    /// The kill switch that a mode implies.
    pub const fn implies(self) -> KillSwitch {
        match self {
            Self::Normal => KillSwitch::Allow,
            Self::Safe => KillSwitch::CloseOnly,
            Self::EmergencyStop => KillSwitch::Block,
        }
    }
}

words! {
    /// The kill switch; the stronger is the greater.
    KillSwitch {
        /// Open.
        Allow "ALLOW"
        /// Only what reduces activity.
        CloseOnly "CLOSE_ONLY"
        /// The same, and every running instance is told to stop.
        Flatten "FLATTEN"
        /// Stop, status, diagnosis, evidence and tightening only.
        Block "BLOCK"
    }
}

words! {
    /// A readiness gate's result; the worse is the greater.
    GateResult {
        /// Well.
        Pass "PASS"
        /// Well enough.
        Warn "WARN"
        /// Not known, which is not well.
        Unknown "UNKNOWN"
        /// Not well.
        Fail "FAIL"
    }
}

/// Bots that moved in their lives, by one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Each with where it came from and where it is.
    pub bots: Vec<Move>,
}

/// One bot's step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Where it was.
    pub from: Life,
    /// Which bot.
    pub scope: Scope,
    /// Where it is.
    pub to: Life,
}

/// Control sessions that came to a phase, by one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMoved {
    /// The phase.
    pub phase: Phase,
    /// Whose.
    pub workers: Vec<Scope>,
}

/// A safety mode or kill switch that was set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SafetySet {
    /// The kill switch from now on, where it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_switch: Option<KillSwitch>,
    /// The level that the latch file holds, where that is what changed; `ALLOW` where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latch: Option<KillSwitch>,
    /// The mode from now on, where it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SafetyMode>,
    /// Why, where the latch file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The swarm it is for; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<String>,
}

/// What is known of a readiness gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateSet {
    /// Until when it is not asked; absent where that was not set, in the past where it is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_until: Option<Timestamp>,
    /// Until when its result counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Its name.
    pub gate: String,
    /// Its result, where one was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<GateResult>,
    /// The swarm it is for; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<String>,
}

/// Whether the router's own alerts of a swarm are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringSet {
    /// Until when they are not; in the past where they are again.
    pub disabled_until: Timestamp,
    /// The swarm it is for; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<String>,
}

/// A dangerous command waits for its confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenged {
    /// The command, as it would be accepted.
    pub accepted: Accepted,
    /// Its challenge's id.
    pub challenge_id: String,
    /// What it does, in words, as it was when it was challenged: those who confirm it are shown that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub effect: String,
    /// Until when it may be confirmed.
    pub expires_at: Timestamp,
    /// Whether this entry's parcel keeps the command.
    pub held: bool,
    /// What it leaves as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_affected: Vec<String>,
    /// What it is, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// Who must confirm.
    pub requires: Requires,
}

/// Who must confirm a dangerous command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requires {
    /// The requester or another, as a separate act.
    #[default]
    Explicit,
    /// Somebody else than the requester.
    SecondPerson,
    /// So many of each group, none of them the requester.
    Quorum(Vec<Share>),
}

impl Requires {
    /// Its word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::SecondPerson => "second-person",
            Self::Quorum(_) => "quorum",
        }
    }
}

/// How many of a group must confirm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// How many.
    pub count: usize,
    /// The group's name.
    pub group: String,
}

/// Somebody confirmed a dangerous command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confirmed {
    /// Who.
    pub by: String,
    /// Which command.
    pub command: Digest,
    /// By which right it is enough; absent while more must confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<Right>,
    /// When the command times out, where it is on its way now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// In a fan-out, the instances that are known now, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Scope>,
}

/// By which right a confirmation was enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Those confirmed who must.
    Confirmed,
    /// A standing approval stood in for the second person: its name.
    Standing(String),
    /// Break-glass stood in for the second person; the use waits for its review.
    BreakGlass,
}

/// Somebody looked at a use of break-glass afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reviewed {
    /// The challenge whose confirmation it was.
    pub challenge_id: String,
}

/// A principal may start nothing for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Who.
    pub principal: String,
    /// Until when.
    pub until: Timestamp,
}
