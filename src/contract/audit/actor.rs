//! Who acted, and how that is known.
//!
//! Owns: an actor, its proof, and whose refused message somebody sends again.
//! Never: finds out who somebody is; the gates do.
//! Holds: the fields stand in alphabetical order of their wire names.

use serde::{Deserialize, Serialize};

/// Who acted, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// How it was authenticated.
    pub by: Proof,
    /// The principal.
    pub principal: String,
}

impl Actor {
    /// The router itself, as the origin of its own words spells it.
    pub fn router(instance: &str) -> Self {
        Self { by: Proof::Router, principal: format!("swarmgate:{instance}") }
    }

    /// Somebody of whom nothing is known.
    pub fn unknown() -> Self {
        Self { by: Proof::Unproven, principal: "unknown".to_owned() }
    }

    /// Whether anything but the envelope's own word says who it is.
    pub fn is_proven(&self) -> bool {
        match self.by {
            Proof::UserId | Proof::Router => true,
            Proof::Origin | Proof::Unproven => false,
        }
    }
}

/// How a principal is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// The broker validated the AMQP user-id.
    UserId,
    /// The envelope says so, and nothing contradicts it (`open` identity only).
    Origin,
    /// The router itself.
    Router,
    /// Nothing is known of the sender.
    Unproven,
}

/// That somebody sends again what was refused when somebody else sent it. It is the replayer's own
/// signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Who sent it first, as the replayer says.
    pub first: Actor,
    /// The message-id of the refused copy.
    pub of: String,
}
