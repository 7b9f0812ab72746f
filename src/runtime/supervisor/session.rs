//! A worker's session on the secure channel (seed 000 §4).
//!
//! Owns: the one table of a session's steps, in the words of the channel.
//! Never: knows who else is ready; the barrier does.
//! Holds: a worker is bootstrapped once in a session; a stop is always taken.

use crate::contract::control::Kind;

/// How far a session has come; absent, it has not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has its keys.
    Bootstrapped,
    /// It can work.
    Ready,
    /// It works.
    Working,
    /// It has ended.
    Stopped,
}

impl Phase {
    /// Whether it may be given work.
    pub const fn is_ready(self) -> bool {
        matches!(self, Phase::Ready | Phase::Working)
    }
}

/// A message of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `control.bootstrap_bundle`
    Bootstrap,
    /// `control.ready`
    Ready,
    /// `control.heartbeat`
    Heartbeat,
    /// `control.start_work`
    StartWork,
    /// `control.stop`
    Stop,
}

impl Word {
    /// The word of a kind; `None` for one that moves no session.
    pub const fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::BootstrapBundle => Some(Self::Bootstrap),
            Kind::Ready => Some(Self::Ready),
            Kind::Heartbeat => Some(Self::Heartbeat),
            Kind::StartWork => Some(Self::StartWork),
            Kind::Stop => Some(Self::Stop),
            _ => None,
        }
    }
}

/// The phase that a message brings a session to; `None` where it leaves it where it is.
///
/// # Errors
/// The reason code for which it is refused.
pub const fn step(session: Option<Phase>, word: Word) -> Result<Option<Phase>, &'static str> {
    match (word, session) {
        (Word::Bootstrap, None | Some(Phase::Stopped)) => Ok(Some(Phase::Bootstrapped)),
        (Word::Bootstrap, Some(_)) => Err("session.duplicate-bootstrap"),
        (Word::Ready | Word::Heartbeat, None | Some(Phase::Stopped)) => Err("session.not-bootstrapped"),
        (Word::Ready, Some(Phase::Bootstrapped)) => Ok(Some(Phase::Ready)),
        (Word::StartWork, Some(Phase::Ready)) => Ok(Some(Phase::Working)),
        (Word::Stop, Some(Phase::Bootstrapped | Phase::Ready | Phase::Working)) => Ok(Some(Phase::Stopped)),
        (Word::Ready | Word::Heartbeat | Word::StartWork | Word::Stop, _) => Ok(None),
    }
}
