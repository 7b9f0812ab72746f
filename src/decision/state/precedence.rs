//! Who gives way to whom, where there is no room for all.
//!
//! Owns: the one order of that, wherever commands wait or take room.
//! Never: says how much room there is.
//! Holds: nobody's flood takes room from what stands higher.

use serde::Serialize;

use crate::contract::audit::{Actor, Proof};

/// What gives way to what, the lower to the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Precedence {
    /// Whatever is no stop or tightening.
    Ordinary,
    /// A stop or tightening of somebody who is not proven.
    Unproven,
    /// A stop or tightening of a proven sender.
    Proven,
    /// A stop that the router ordered itself.
    Own,
}

impl Precedence {
    /// That of a command of an actor.
    pub fn of(always_passes: bool, actor: &Actor) -> Self {
        match (always_passes, actor.by) {
            (false, _) => Self::Ordinary,
            (true, Proof::Router) => Self::Own,
            (true, _) if actor.is_proven() => Self::Proven,
            (true, _) => Self::Unproven,
        }
    }

    /// Whether it is that of a stop or tightening.
    pub const fn always_passes(self) -> bool {
        !matches!(self, Self::Ordinary)
    }
}
