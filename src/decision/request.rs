//! What the corridor is asked.
//!
//! Owns: the form in which a delivery, a broker's answer or a due timer comes before `decide`.
//! Never: holds a channel, a tag or a clock.
//! Holds: a denial of an earlier step is a request too; it takes the same corridor.

use crate::contract::{
    Said, Unsaid,
    audit::{Carried, Replay, SetBack},
    digest::Digest,
    interlock::KillSwitch,
    routing::{ALL, Family, Scope},
    timestamp::Timestamp,
};

/// One request to `decide`.
#[derive(Clone, Debug)]
pub enum Request {
    /// A message arrived.
    Arrived(Box<Arrival>),
    /// The broker reported on messages that were published.
    Answered(BrokerReport),
    /// Something outside that the router watches or was sent for.
    Done(Done),
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
    /// Whose refused message it sends again, as a proven sender says.
    pub replay: Option<Replay>,
    /// Whether the broker says that it was delivered before.
    pub redelivered: bool,
    /// SHA-256 of the raw body.
    pub body: Digest,
    /// The length of the raw body, in bytes.
    pub body_bytes: usize,
    /// The sender's own time to live, in milliseconds.
    pub expiration_ms: Option<u64>,
    /// The trace that its `traceparent` names, 32 hex digits.
    pub trace_id: Option<String>,
    /// Whether the broker would have dropped it: it expired, was redelivered too often, or had no
    /// room.
    pub was_dropped: bool,
    /// The envelope, or the refusal by gate 1 or 2.
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
pub struct BrokerReport {
    /// What left and what came back.
    pub carried: Carried,
    /// The signals among what came back or was given up.
    pub returned: Vec<Returned>,
    /// What the broker rejects or does not confirm, and is tried again.
    pub not_taken: Vec<NotTaken>,
}

/// Messages that the broker does not take: a queue is full and rejects, or nobody confirms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTaken {
    /// Where they are published.
    pub exchange: String,
    /// The pattern of their keys.
    pub pattern: String,
    /// How many publishes failed since this was last said.
    pub count: u64,
}

/// A signal that no queue took, or that was given up for want of room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Its entry.
    pub seq: u64,
    /// Its ordinal there.
    pub ordinal: u32,
    /// Its key, for the alert.
    pub routing_key: String,
    /// The length of its body.
    pub body_bytes: usize,
}

/// What the host has seen or done.
#[derive(Clone, Debug)]
pub enum Done {
    /// The ledger was opened.
    Opened,
    /// The latch file says something.
    Latched(Latch),
    /// The host was measured.
    Measured(Measured),
    /// A support bundle is there, or could not be made.
    Bundled(Bundled),
    /// The latch file is gone, or could not be taken away.
    Unlatched(Unlatched),
    /// The ledger holds less than was known of it.
    SetBack(SetBack),
    /// The emergency log of a ledger that routers wrote before was not there.
    EmergencyMissing,
    /// Commands were accepted that neither left nor wait in the outbox.
    OutboxShort {
        /// How many.
        count: u64,
        /// The entry of the first.
        first: u64,
    },
    /// Commands waited in the outbox that nobody had let go, and were taken out of it.
    OutboxAdded {
        /// How many.
        count: u64,
        /// The entry of the first.
        first: u64,
    },
    /// How the clock and the router's time compare.
    Compared(Compared),
}

/// How the clock and the router's time compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// They agree.
    Agree,
    /// They do not, and no waiting mends it.
    Apart {
        /// The clock's time; the router's own is the time of this request.
        wall: Timestamp,
    },
}

/// What the latch file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latch {
    /// The level; it only tightens.
    pub level: KillSwitch,
    /// The swarm it is for; `None` for all.
    pub swarm: Option<String>,
    /// Who wrote it and why, in words.
    pub reason: String,
}

impl Latch {
    /// The scope that it is for.
    pub fn scope(&self) -> Scope {
        Scope::new(self.swarm.as_deref().unwrap_or(ALL), ALL, ALL)
    }
}

/// What was measured of the host; what could not be measured is unknown, not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// How far the wall clock has moved against the monotonic one since the last look, in
    /// milliseconds.
    pub clock_drift_ms: Option<u64>,
    /// How much room the ledger's disk has.
    pub disk_free_bytes: Option<u64>,
    /// How often the ledger could not be written since the last look.
    pub ledger_failures: Option<u64>,
}

/// A support bundle that was asked for.
#[derive(Clone, Debug)]
pub struct Bundled {
    /// The entry of the command that waits for it; 0 where none does.
    pub seq: u64,
    /// What it is for.
    pub why: String,
    /// What was made, or why nothing was.
    pub made: Result<Made, String>,
}

/// A support bundle.
#[derive(Clone, Debug)]
pub struct Made {
    /// The path of the archive.
    pub path: String,
    /// The size of the archive, in bytes.
    pub bytes: u64,
    /// SHA-256 of its manifest, in hex.
    pub manifest_sha256: String,
}

/// A latch file that was to be taken away.
#[derive(Clone, Debug)]
pub struct Unlatched {
    /// The entry of the command that waits for that.
    pub seq: u64,
    /// Why it is still there, where it is.
    pub fault: Option<String>,
}
