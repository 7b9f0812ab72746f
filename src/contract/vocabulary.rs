//! The words of lifecycle, control session, safety mode, kill switch and readiness gate.
//!
//! Owns: these closed vocabularies, and what one word implies in another.
//! Never: decides which step follows which; the gates do.
//! Holds: where one value is stronger than another, `Ord` says so; a word is spelt in one way only.

use std::fmt;

use serde::{Deserialize, Serialize};

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
