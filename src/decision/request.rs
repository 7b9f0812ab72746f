//! What the corridor is asked.
//!
//! Owns: the form in which a delivery, a broker's answer or a due timer comes before `decide`.
//! Never: holds a channel, a tag or a clock.
//! Holds: a denial of an earlier step is a request too; it takes the same corridor.

use crate::contract::{Said, Unsaid, audit::Carried, digest::Digest, routing::Family};

/// One question.
#[derive(Clone, Debug)]
pub enum Request {
    /// A message arrived.
    Arrived(Box<Arrival>),
    /// The broker answered for messages that had left.
    Answered(Answer),
    /// A timer is due (`State::next_deadline`).
    Due,
    /// The router stops: what is being counted is written down, and nothing else is hurried.
    Closing,
}

/// A message, read.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The key as it came, however broken.
    pub routing_key: String,
    /// The AMQP user-id, validated by the broker where present.
    pub user_id: Option<String>,
    /// Whether the broker says that it was delivered before.
    pub redelivered: bool,
    /// SHA-256 of the raw body.
    pub body: Digest,
    /// The sender's own time to live, in milliseconds.
    pub expiration_ms: Option<u64>,
    /// What it said, or why that could not be read.
    pub subject: Result<Said, Unsaid>,
}

impl Arrival {
    /// The family its key claims.
    pub fn family(&self) -> Option<Family> {
        Family::claimed_by(&self.routing_key)
    }
}

/// What the broker did with messages of entries.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// What left and what came back.
    pub carried: Carried,
    /// The signals among what came back.
    pub returned: Vec<Returned>,
}

/// A signal that no queue took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Its entry.
    pub seq: u64,
    /// Its ordinal there.
    pub ordinal: u32,
    /// Its key, for the alert.
    pub routing_key: String,
}
