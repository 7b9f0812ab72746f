//! Facts and ledger entries: what Swarmgate remembers for ever.
//!
//! Owns: the closed list of actions, the shape of a fact and of an entry, and an entry's canonical bytes.
//! Never: carries a secret (payloads are masked by schema annotation before they get here) or decides anything.
//! Holds: every struct lists its fields in alphabetical order of their wire names and holds only integers and
//! text, so plain serialisation *is* RFC 8785's canonical form (a test compares it with the library).

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    digest::Digest,
    reason::Reason,
    routing::{Family, Scope},
    timestamp::Timestamp,
};

/// What was done, in the words of rules §7 (and the few that decisions add).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// The first entry of a ledger.
    #[serde(rename = "ledger.genesis")]
    Genesis,
    /// A router opened the ledger for writing: a new epoch.
    #[serde(rename = "ledger.opened")]
    Opened,
    /// What was written has been carried.
    #[serde(rename = "controlplane.carried")]
    Carried,
    /// A signal asks for something.
    #[serde(rename = "controlplane.command.requested")]
    Requested,
    /// A signal was refused.
    #[serde(rename = "controlplane.command.denied")]
    Denied,
    /// An outcome ended a command.
    #[serde(rename = "controlplane.command.applied")]
    Applied,
    /// An outcome or alert that ends nothing was carried.
    #[serde(rename = "controlplane.event.recorded")]
    Recorded,
    /// A repeat was recognised; it has no second effect.
    #[serde(rename = "duplicate_suppressed")]
    DuplicateSuppressed,
    /// Gates 1 and 2 refused.
    #[serde(rename = "contract.violation")]
    ContractViolation,
    /// Gate 3 refused, or a later gate refused what is not a signal.
    #[serde(rename = "access.denied")]
    AccessDenied,
    /// Observe mode: judged and recorded, nothing else.
    #[serde(rename = "seen")]
    Seen,
}

impl Action {
    /// The word in the ledger.
    pub fn word(self) -> &'static str {
        match self {
            Self::Genesis => "ledger.genesis",
            Self::Opened => "ledger.opened",
            Self::Carried => "controlplane.carried",
            Self::Requested => "controlplane.command.requested",
            Self::Denied => "controlplane.command.denied",
            Self::Applied => "controlplane.command.applied",
            Self::Recorded => "controlplane.event.recorded",
            Self::DuplicateSuppressed => "duplicate_suppressed",
            Self::ContractViolation => "contract.violation",
            Self::AccessDenied => "access.denied",
            Self::Seen => "seen",
        }
    }
}

/// What the corridor answers to one envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Carried on.
    Forward,
    /// Recognised as a repeat or overtaken; no second effect.
    Suppress,
    /// Refused with a reason.
    Refuse,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Forward => "forward",
            Self::Suppress => "suppress",
            Self::Refuse => "refuse",
        })
    }
}

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

/// What an envelope was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The family.
    pub family: Family,
    /// The scope.
    pub scope: Scope,
    /// The type.
    #[serde(rename = "type")]
    pub kind_type: String,
}

/// An envelope in canonical form with its secrets masked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(pub Box<RawValue>);

impl Payload {
    /// The canonical JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Payload {}

/// What a fact does to the recorded state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Nothing: the fact is evidence only.
    #[default]
    None,
    /// The ledger begins.
    Genesis(Genesis),
    /// A router began to write.
    Opened(Opened),
    /// A command was accepted: its key is bound from now on.
    Accepted(Accepted),
    /// A command ended by the router's own word, before or instead of its target's.
    Ended(Ended),
    /// An outcome or alert was taken in; a redelivery of it is recognised by `identity`.
    Result(ResultSeen),
    /// These outgoing messages are known carried (or returned) by the broker.
    Carried(Carried),
    /// More refusals like an earlier entry's, counted.
    Tallied(Tallied),
}

/// The first fact of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Genesis {
    /// The deployment's environment: `dev`, `stage` or `prod`.
    pub environment: String,
    /// 128 random bits in hex; zeros for a ledger in memory.
    pub ledger_id: String,
    /// The mode the ledger was begun in.
    pub mode: Mode,
    /// The release that began it.
    pub version: String,
}

/// Whether the router acts or only looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Judges and records, publishes nothing.
    Observe,
    /// Judges, records and carries.
    #[default]
    Enforce,
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        })
    }
}

/// A router opened the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// How many routers have opened it, this one included.
    pub epoch: u64,
    /// The router's instance name.
    pub instance: String,
    /// The mode it runs in.
    pub mode: Mode,
    /// Its release.
    pub version: String,
}

/// A command and what tells it from its repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Identity: digest of sender, scope, type and idempotencyKey. `None`: no key is bound.
    pub command: Option<Digest>,
    /// Digest of the canonical envelope without its timestamp.
    pub compared: Digest,
    /// For stop-class commands: the moment from which earlier starts of the scope are overtaken.
    pub overtakes: Option<Timestamp>,
}

/// A command ended by the router's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which command.
    pub command: Digest,
    /// The status that ended it.
    pub status: String,
}

/// An outcome or alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultSeen {
    /// The command it ends, where it ends one.
    pub ends: Option<Ended>,
    /// Digest of sender, routing key and body.
    pub identity: Digest,
}

/// What the broker took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Messages that no queue took, as (entry, ordinal).
    pub returned: Vec<(u64, u32)>,
    /// Entries, first to last inclusive, all of whose messages left.
    pub spans: Vec<(u64, u64)>,
}

/// Refusals that were counted instead of written one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallied {
    /// Digest chained over the body digests, in order.
    pub bodies: Digest,
    /// How many.
    pub count: u64,
    /// The second they fell in, since the epoch.
    pub second: i64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fact {
    /// What was done.
    pub action: Action,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// When, by the corridor's clock.
    pub at: Timestamp,
    /// SHA-256 of the raw body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Digest>,
    /// What it does to the recorded state.
    pub change: Change,
    /// The envelope's correlationId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// What a person should know besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The envelope's idempotencyKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The envelope, canonical, secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// JSON pointer of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Why it was refused or suppressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// The corridor's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

impl Fact {
    /// A fact with nothing but its action, time and change.
    pub fn new(action: Action, at: Timestamp, change: Change) -> Self {
        Self {
            action,
            actor: None,
            at,
            body: None,
            change,
            correlation_id: None,
            detail: None,
            idempotency_key: None,
            payload: None,
            pointer: None,
            reason: None,
            subject: None,
            verdict: None,
        }
    }
}

/// A fact in its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The fact.
    pub fact: Fact,
    /// SHA-256 of each message body that leaves because of this entry, in order of their ordinals.
    pub out: Vec<Digest>,
    /// Hash of the entry before; zeros for the first.
    pub prev: Digest,
    /// Place in the chain, from 1.
    pub seq: u64,
}
