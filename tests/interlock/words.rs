//! The vocabulary of stories: what may happen, what becomes of a command, and what is said to it.
//!
//! Owns: the words, and what can be read off a single command.
//! Never: knows of time, of settings or of other commands.
//! Holds: a command is in one standing at a time.

use crate::oracle::{Gate, Kill, Life, Safety};

/// Something that happens. Numbers choose among what is there, whatever that is, so any list of words is a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// An actor asks something of an instance; `agrees` tells whether `requestedTransition` is true.
    Ask { kind: &'static str, mode: Option<&'static str>, bot: usize, actor: usize, agrees: bool },
    /// An actor sets the mode, for everything or for the swarm.
    Mode { mode: Safety, global: bool, actor: usize },
    /// An actor sets the kill switch.
    Switch { level: Kill, global: bool, actor: usize },
    /// An actor reports the required gate.
    Report { gate: Gate, actor: usize },
    /// An actor confirms the n-th challenge, the newest first.
    Confirm { nth: usize, actor: usize },
    /// An actor rejects it.
    Reject { nth: usize, actor: usize },
    /// A target answers the n-th command that it may answer, the newest first.
    Answer { nth: usize, success: bool },
    /// A target says that it has done what nobody carried to it: the n-th that was challenged and never confirmed.
    Lie { nth: usize },
    /// An instance says that it cannot go on.
    Fatal { bot: usize },
    /// An instance says that it runs, though nobody asked it to.
    Uncommanded { bot: usize },
    /// The n-th command is sent once more, the newest first.
    Repeat { nth: usize },
    /// Time passes.
    Wait { ms: u64 },
}

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    Bot {
        bot: usize,
        kind: &'static str,
        mode: Option<&'static str>,
        requested: Option<(Option<Life>, Life)>,
    },
    Mode {
        mode: Safety,
        global: bool,
    },
    Switch {
        level: Kill,
        global: bool,
    },
    Report {
        gate: Gate,
    },
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
    /// By a quarantine: a late `Released` opens nothing that was closed since.
    SupersededByQuarantine,
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
    /// When what it waits for is over.
    pub until: u64,
}

impl Command {
    pub fn kind(&self) -> &'static str {
        match self.about {
            About::Bot { kind, .. } => kind,
            About::Mode { .. } => "safety-set",
            About::Switch { .. } => "kill-switch-set",
            About::Report { .. } => "gate-report",
        }
    }

    pub fn bot(&self) -> Option<usize> {
        match self.about {
            About::Bot { bot, .. } => Some(bot),
            _ => None,
        }
    }

    pub fn mode(&self) -> Option<&'static str> {
        match self.about {
            About::Bot { mode, .. } => mode,
            _ => None,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.standing, Standing::Challenged | Standing::Flying)
    }

    /// Whether a second one like it waits for its end.
    pub fn is_exclusive(&self) -> bool {
        matches!(self.kind(), "bot-start" | "bot-resume" | "bot-release")
    }

    /// Whether it let its instance run, once.
    pub fn started(&self) -> bool {
        let carried = matches!(self.standing, Standing::Flying | Standing::Ended(_));
        carried && matches!(self.kind(), "bot-start" | "bot-resume")
    }

    /// Whether its target may still answer it.
    pub fn is_answerable(&self) -> bool {
        let late = [End::TimedOut, End::Superseded, End::SupersededByQuarantine];
        let flies = |standing| standing == Standing::Flying || late.map(Standing::Ended).contains(&standing);
        self.bot().is_some() && flies(self.standing)
    }

    /// Whether only a target that lies would answer it.
    pub fn is_unconfirmed(&self) -> bool {
        self.bot().is_some() && matches!(self.standing, Standing::Challenged | Standing::Void(_))
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
