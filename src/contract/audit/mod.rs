//! Facts and ledger entries: what Swarmgate remembers for ever.
//!
//! Owns: the shape of a fact and of an entry, an entry's canonical bytes, and below it the closed list of actions and
//! the ids of the emergency log.
//! Never: carries a secret (payloads are masked by schema annotation before they get here) or decides anything.
//! Holds: every struct lists its fields in alphabetical order of their wire names and holds only integers and
//! text, so plain serialisation *is* RFC 8785's canonical form (a test compares it with the library).

mod action;
mod emergency;
mod written;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use action::Action;
pub use emergency::{EmergencyId, EmergencyIdError};
pub use written::Written;

use super::{
    digest::Digest,
    interlock::{
        Challenged, Confirmed, GateSet, Life, MonitoringSet, Moved, Reviewed, SafetyMode, SafetySet,
        SessionMoved, Suspended,
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

/// That somebody sends again what was refused when somebody else sent it. It is the replayer's own signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Who sent it first, as the replayer says.
    pub first: Actor,
    /// The message-id of the refused copy.
    pub of: String,
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
}

/// Which command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    /// Its identity.
    pub command: Digest,
}

/// What has changed about an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// What it is from now on.
    pub now: Standing,
    /// Whose status was last seen when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What is believed of an instance's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Its first status came.
    Appeared,
    /// Nothing for longer than `inventory.stale_after_ms`.
    Stale,
    /// Nothing for longer than `inventory.lost_after_ms`.
    Lost,
    /// It speaks again.
    Back,
    /// It was removed, or not heard of for `inventory.forget_after_ms`.
    Forgotten,
}

impl Standing {
    /// The word in the ledger.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Stale => "stale",
            Self::Lost => "lost",
            Self::Back => "back",
            Self::Forgotten => "forgotten",
        }
    }
}

/// A router that consumes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resumed {
    /// How long what waited may take to be judged before anything times out.
    pub catch_up_ms: u64,
    /// How long nothing was consumed.
    pub paused_ms: u64,
}

/// A step of the router's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stepped {
    /// The router's time before it.
    pub from: Timestamp,
    /// The clock's, from which it goes on.
    pub to: Timestamp,
}

impl Stepped {
    /// Where a moment that has been comes to lie: none lies ahead.
    pub fn past(&self, at: i64) -> i64 {
        at.min(self.to.micros())
    }

    /// Where a moment that is still to come comes to lie: what remained until it remains.
    pub fn ahead(&self, at: i64) -> i64 {
        let remains = at.saturating_sub(self.from.micros());
        match at {
            i64::MAX => at,
            _ if remains > 0 => self.to.micros().saturating_add(remains),
            _ => self.past(at),
        }
    }
}

/// The last that was heard of a command or its target before it timed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When.
    pub at: Timestamp,
    /// In words.
    pub detail: String,
    /// Of which kind.
    pub kind: EvidenceKind,
}

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceKind {
    /// An alert of the target's.
    Alert,
    /// An outcome of a target's that ended nothing.
    Outcome,
    /// A status of the target's.
    Status,
    /// The broker gave the command back.
    Return,
}

impl EvidenceKind {
    /// The word people read.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Outcome => "outcome",
            Self::Status => "status",
            Self::Return => "return",
        }
    }
}

/// The first fact of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Genesis {
    /// The deployment's environment: `dev`, `stage` or `prod`.
    pub environment: String,
    /// The safety mode that it began in; unknown is `SAFE`.
    #[serde(default = "unknown_is_safe")]
    pub initial_mode: SafetyMode,
    /// 128 random bits in hex; zeros for a ledger in memory.
    pub ledger_id: String,
    /// The mode the ledger was begun in.
    pub mode: Mode,
    /// The release that began it.
    pub version: String,
}

fn unknown_is_safe() -> SafetyMode {
    SafetyMode::Safe
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
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// How long what waited may take to be judged before anything times out.
    #[serde(default)]
    pub catch_up_ms: u64,
    /// How many routers have opened it, this one included.
    pub epoch: u64,
    /// 64 random bits in hex, new at each opening: part of every id that is given from then on, so that none is given
    /// twice, not even by a ledger that was set back. Empty before format 2.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub incarnation: String,
    /// The router's instance name.
    pub instance: String,
    /// The mode it runs in.
    pub mode: Mode,
    /// Its release.
    pub version: String,
}

/// The ledger was set back to an older copy, and somebody noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBack {
    /// The last entry that was known of it.
    pub known: u64,
    /// The last entry that it held when it was opened.
    pub ours: u64,
}

/// A command and what tells it from its repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Whether nothing may hold it up (stop and tightening): it stands before everything else of its target.
    #[serde(default, skip_serializing_if = "is_false")]
    pub always_passes: bool,
    /// Identity: digest of sender, scope, type and idempotencyKey. `None`: no key is bound.
    pub command: Option<Digest>,
    /// Digest of the canonical envelope without its timestamp.
    pub compared: Digest,
    /// When it times out; `None`: it is answered at once or never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The state that its success leads a bot to, where that depends on what it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_to: Option<Life>,
    /// For stop-class commands: the moment from which earlier starts of the scope are overtaken.
    pub overtakes: Option<Timestamp>,
    /// Whether it waits for its target from the start: this entry's parcel keeps it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub parked: bool,
    /// In a fan-out, the instances that were known, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Scope>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
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
    /// The commands that it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Heard>,
    /// The command it ends, where it ends one.
    pub ends: Option<Ended>,
    /// Digest of sender, routing key and body.
    pub identity: Digest,
}

/// A target's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Which command.
    pub command: Digest,
    /// The target's word.
    pub status: String,
    /// Whether the sender wanted that.
    pub success: bool,
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
