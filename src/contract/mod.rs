//! What can be said: the contract on the wire.
//!
//! Owns: reading raw bytes and a routing key into an envelope, and the value types every other room
//! speaks.
//! Never: knows a task, clock, socket, file or log; nor who may do what.
//! Holds: what `Contract::read` returns has passed gates 1 and 2.

#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

pub mod admission;
pub mod audit;
pub mod bound;
pub mod canonical;
pub mod command;
pub mod control;
pub mod digest;
pub mod envelope;
pub mod interlock;
pub mod lane;
pub mod message;
pub mod passage;
pub mod plain;
pub mod read;
pub mod reason;
pub mod routing;
pub mod schema;
pub mod secrets;
pub mod strict;
pub mod timestamp;
pub mod tree;
mod vocabulary;

pub use admission::{DeploymentType, TypeError};
use audit::Payload;
use command::Class;
use digest::Digest;
use envelope::Envelope;
pub use read::Contract;
use reason::Refusal;
use routing::RoutingKey;
pub use strict::Limits;
use tree::Tree;

/// What a body and its key said, having passed gates 1 and 2.
#[derive(Clone, Debug)]
pub struct Said {
    /// The key, taken apart; it agrees with the envelope.
    pub key: RoutingKey,
    /// The envelope.
    pub envelope: Envelope<Tree>,
    /// The class of a signal's type; `None` for the other families.
    pub class: Option<Class>,
    /// Digest of RFC 8785 of the envelope without its timestamp and correlationId, for signals:
    /// what a repeat is compared by.
    pub compared: Digest,
    /// The envelope, canonical, its secrets masked. Metrics have none: they are never entries.
    pub payload: Option<Payload>,
}

/// What could not be said: the refusal of gate 1 or 2, with as much as could be read.
#[derive(Clone, Debug)]
pub struct Unsaid {
    /// Why.
    pub refusal: Refusal,
    /// The envelope, where gate 1 passed and gate 2 refused.
    pub envelope: Option<Box<Envelope<Tree>>>,
}
