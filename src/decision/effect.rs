//! What a decision wants done outside.
//!
//! Owns: the closed list of effects and the router's own words (rulings §5).
//! Never: does any of it; effects are data until their entry is durable.
//! Holds: an effect never carries more of a refused body than the body itself.

use bytes::Bytes;

use crate::contract::reason::Refusal;

/// One thing to do once its entry is durable. The ordinal of an effect within its decision, from 0, is the last
/// part of the message's id.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Carry the arrival on to `swarmgate.out`, as it came.
    Forward,
    /// Copy the arrival to `swarmgate.refused` with its reason.
    Refuse(Refusal),
    /// Say something of the router's own on `swarmgate.out`.
    Speak(Speech),
    /// Publish the outcome that the entry `of` holds again.
    Repeat {
        /// The outcome's entry.
        of: u64,
    },
}

/// The router's own envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Speech {
    /// Its key.
    pub routing_key: String,
    /// Its body.
    pub body: Bytes,
}
