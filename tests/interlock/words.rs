//! The vocabulary of stories: what may happen, what becomes of a command, and what is said to it.
//!
//! Owns: the words, whom they reach, and what can be read off a single command.
//! Never: knows of time, of settings or of other commands.
//! Holds: a command is in one standing at a time.

use std::collections::BTreeSet;

use crate::oracle::{Class, Gate, Kill, Life, Safety, class};

/// How many instances a story has: two bots, and the swarm's controller.
pub const BOTS: usize = 3;
/// The number of the controller.
pub const CONTROLLER: usize = 2;

/// Whom a command is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    Bot(usize),
    /// Everybody of the swarm.
    Swarm,
    /// Everybody.
    Fleet,
}

impl At {
    pub fn covers(self, bot: usize) -> bool {
        self == Self::Bot(bot) || self.is_fan_out()
    }

    /// Whether all that the other reaches is reached by this.
    pub fn contains(self, other: Self) -> bool {
        self == Self::Fleet || self == other || (self == Self::Swarm && other != Self::Fleet)
    }

    pub fn is_fan_out(self) -> bool {
        matches!(self, Self::Swarm | Self::Fleet)
    }

    pub fn bots(self) -> impl Iterator<Item = usize> {
        (0..BOTS).filter(move |bot| self.covers(*bot))
    }

    pub fn area(global: bool) -> Self {
        if global { Self::Fleet } else { Self::Swarm }
    }
}

/// Something that happens. Numbers choose among what is there, whatever that is, so any list of
/// words is a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// An actor asks something; `agrees` tells whether `requestedTransition` is true. The mode
    /// `crew` is none: it names both bots as required workers.
    Ask { kind: &'static str, mode: Option<&'static str>, at: At, actor: usize, agrees: bool },
    /// An actor sets the mode, for everything or for the swarm.
    Mode { mode: Safety, global: bool, actor: usize },
    /// An actor sets the kill switch.
    Switch { level: Kill, global: bool, actor: usize },
    /// An actor reports the gate, for everything or for the swarm, for so long.
    Report { gate: Gate, global: bool, lasts_ms: u64, actor: usize },
    /// An actor confirms the n-th challenge, the newest first.
    Confirm { nth: usize, actor: usize },
    /// An actor rejects it.
    Reject { nth: usize, actor: usize },
    /// A target answers the n-th command that it may answer, the newest first.
    Answer { nth: usize, success: bool },
    /// A target says that it has done what nobody carried to it: the n-th that was challenged and
    /// never confirmed.
    Lie { nth: usize },
    /// An instance says that it cannot go on.
    Fatal { bot: usize },
    /// An instance says that it runs, though nobody asked it to.
    Uncommanded { bot: usize },
    /// A worker says that it is ready, or that it lives.
    Worker { kind: &'static str, bot: usize },
    /// The n-th command is sent once more, the newest first.
    Repeat { nth: usize },
    /// Time passes.
    Wait { ms: u64 },
    /// The router looks who has not been heard of.
    Look,
}

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    To { at: At, kind: &'static str, mode: Option<&'static str>, requested: Option<(Life, Life)> },
    Mode { mode: Safety, global: bool },
    Switch { level: Kill, global: bool },
    Report { gate: Gate, global: bool, until: u64 },
}

/// Why a challenged command was never carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Void {
    Expired,
    Rejected,
    Overtaken,
    RefusedAgain,
}

/// How a carried command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// By its target, or at once by the router, whose own it was.
    Answered,
    TimedOut,
    Superseded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// No key is bound.
    Refused,
    Challenged,
    Void(Void),
    Flying,
    Ended(End),
}

#[derive(Clone, Debug)]
pub struct Command {
    pub about: About,
    pub actor: usize,
    pub standing: Standing,
    /// When it was challenged, where it was.
    pub challenged_at: Option<u64>,
    /// When it was accepted, after its confirmation where one was asked for.
    pub accepted_at: u64,
    /// When what it waits for is over.
    pub until: u64,
    /// Who was asked and has not answered.
    pub waiting: BTreeSet<usize>,
    /// Who said that a live start failed, when it was over already.
    pub unsure: BTreeSet<usize>,
}

impl Command {
    pub fn new(about: About, actor: usize) -> Self {
        Self {
            about,
            actor,
            standing: Standing::Refused,
            challenged_at: None,
            accepted_at: 0,
            until: 0,
            waiting: BTreeSet::new(),
            unsure: BTreeSet::new(),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self.about {
            About::To { kind, .. } => kind,
            About::Mode { .. } => "safety-set",
            About::Switch { .. } => "kill-switch-set",
            About::Report { .. } => "gate-report",
        }
    }

    pub fn at(&self) -> At {
        match self.about {
            About::To { at, .. } => at,
            About::Mode { global, .. } | About::Switch { global, .. } | About::Report { global, .. } => {
                At::area(global)
            }
        }
    }

    pub fn mode(&self) -> Option<&'static str> {
        match self.about {
            About::To { mode, .. } => mode,
            _ => None,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.standing, Standing::Challenged | Standing::Flying)
    }

    /// Whether it was let go.
    pub fn is_carried(&self) -> bool {
        matches!(self.standing, Standing::Flying | Standing::Ended(_))
    }

    pub fn starts_live(&self) -> bool {
        matches!(self.kind(), "bot-start" | "bot-resume") && self.mode() == Some("live")
    }

    /// Whether its target, and not the router, does what it asks.
    pub fn is_targets(&self) -> bool {
        !matches!(class(self.kind()), Class::Consent | Class::Liveness)
            && matches!(self.about, About::To { .. })
            && !matches!(
                self.kind(),
                "gate-enable" | "monitoring-enable" | "gate-disable" | "monitoring-disable"
            )
    }

    /// Whether somebody may still answer it.
    pub fn is_answerable(&self) -> bool {
        self.is_carried() && !self.waiting.is_empty()
    }

    /// Whether only a target that lies would answer it.
    pub fn is_unconfirmed(&self) -> bool {
        self.is_targets() && matches!(self.standing, Standing::Challenged | Standing::Void(_))
    }
}

/// What is said to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Nothing,
    Forward,
    Challenge,
    Suppress,
    Refuse(&'static str),
    OneOf(&'static [Said]),
}
