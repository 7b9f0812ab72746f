//! Facts and ledger entries: what Swarmgate remembers for ever.
//!
//! Owns: the shape of a fact and of an entry, an entry's canonical bytes, and below it the closed
//! list of actions, what a command asked for, and the ids of the emergency log.
//! Never: carries a secret (payloads are masked by schema annotation before they get here) or
//! decides anything.
//! Holds: every struct lists its fields in alphabetical order of their wire names and holds only
//! integers and text, so plain serialisation *is* RFC 8785's canonical form (a test compares it
//! with the library).

mod action;
mod actor;
mod asked;
mod command;
mod emergency;
mod opening;
mod presence;
mod settings;
mod written;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use action::Action;
pub use actor::{Actor, Proof, Replay};
pub use asked::{Asked, RUN_ID_BYTES_MAX};
pub use command::{Accepted, Ended, Heard, Of, ResultSeen};
pub use emergency::{EmergencyId, EmergencyIdError};
pub use opening::{Genesis, Mode, Opened, Resumed, SetBack, Stepped};
pub use presence::{Evidence, EvidenceKind, Presence, Standing};
pub use settings::{Difference, Settings, SettingsCompared};
pub use written::Written;

use super::{
    digest::Digest,
    interlock::{
        Challenged, Confirmed, GateSet, MonitoringSet, Moved, Reviewed, SafetySet, SessionMoved, Suspended,
    },
    reason::Reason,
    routing::{Family, Scope},
    timestamp::Timestamp,
};

/// What the corridor answers to one envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Carried on.
    Forward,
    /// The target is not there yet: held until it is, or the deadline passes.
    Park,
    /// Dangerous: held until it is confirmed, or the challenge expires.
    Challenge,
    /// Recognised as a repeat or overtaken; no second effect.
    Suppress,
    /// Refused with a reason.
    Refuse,
}

impl Verdict {
    /// Its word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Park => "park",
            Self::Challenge => "challenge",
            Self::Suppress => "suppress",
            Self::Refuse => "refuse",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
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
    /// A target gave its first sign of a command.
    Observed(Of),
    /// A command waits for its target; this entry's parcel keeps it.
    Parked(Of),
    /// A command that waited is on its way again.
    Released(Of),
    /// What is believed of an instance has changed.
    Presence(Presence),
    /// Nothing was consumed for a time, which counts toward no deadline.
    Resumed(Resumed),
    /// Bots moved in their lives.
    Moved(Moved),
    /// Control sessions came to a phase.
    Session(SessionMoved),
    /// The safety mode, the kill switch or the latch was set.
    Safety(SafetySet),
    /// A readiness gate reported, or is asked or not asked from now on.
    Gate(GateSet),
    /// The router's alerts are asked for, or not.
    Monitoring(MonitoringSet),
    /// A dangerous command waits for its confirmation.
    Challenged(Challenged),
    /// Somebody confirmed it.
    Confirmed(Confirmed),
    /// A use of break-glass was reviewed.
    Reviewed(Reviewed),
    /// A principal may start nothing for a time.
    Suspended(Suspended),
    /// The ledger was set back to an older copy.
    SetBack(SetBack),
    /// The router goes on from another moment: what it remembers as later than that counts as then.
    Stepped(Stepped),
    /// The settings that safety hangs on are others than when the ledger was opened before.
    Settings(SettingsCompared),
}

/// What the broker took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Messages that are tried no more because too much waited that the broker does not take, as
    /// (entry, ordinal).
    #[serde(default, rename = "givenUp", skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<(u64, u32)>,
    /// Messages that no queue took, as (entry, ordinal).
    pub returned: Vec<(u64, u32)>,
    /// Entries, first to last inclusive, all of whose messages left.
    pub spans: Vec<(u64, u64)>,
}

impl Carried {
    /// The ordinal of a command's own message in the entry that accepts it; what is said of it
    /// comes behind.
    pub const COMMAND_ORDINAL: u32 = 0;

    /// The entries whose command no queue took.
    pub fn commands_returned(&self) -> impl Iterator<Item = u64> {
        commands(&self.returned)
    }

    /// The entries whose command is tried no more.
    pub fn commands_given_up(&self) -> impl Iterator<Item = u64> {
        commands(&self.given_up)
    }
}

fn commands(places: &[(u64, u32)]) -> impl Iterator<Item = u64> {
    places.iter().filter(|(_, ordinal)| *ordinal == Carried::COMMAND_ORDINAL).map(|(seq, _)| *seq)
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
    /// What the command asked for that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Asked>,
    /// The envelope's correlationId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// What a person should know besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The id under which it was sealed while the ledger could not be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency_id: Option<EmergencyId>,
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
    /// Whose refused message it sends again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
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
            command: None,
            correlation_id: None,
            detail: None,
            emergency_id: None,
            idempotency_key: None,
            payload: None,
            pointer: None,
            reason: None,
            replay: None,
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
