//! What follows: from an accepted, ended, returned or overdue message, and from what the host has
//! seen.
//!
//! Owns: what each of these leaves behind: facts, beliefs and effects.
//! Never: lets anything through that a gate has not; names `decide`.
//! Holds: whatever follows is added to a decision, and nothing is taken back.

pub(super) mod accepted;
mod alert;
mod bound;
pub(super) mod broker;
mod challenge;
pub(super) mod clock;
mod ending;
pub(super) mod interlock;
mod lifecycle;
pub(super) mod live;
mod moves;
mod order;
mod overtake;
pub(super) mod own;
pub(super) mod parking;
pub(super) mod presence;
pub mod refusal;
pub(super) mod safety;
pub(super) mod session;
pub(super) mod set_back;
pub(super) mod settings;
pub(super) mod stopped;
pub(super) mod timeout;
