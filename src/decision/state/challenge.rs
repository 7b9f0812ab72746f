//! One challenge: open, or over.
//!
//! Owns: what a dangerous command waits for, and what is remembered once that is over.
//! Never: knows the command; a command in flight knows its challenge.
//! Holds: its id is that of its entry, and is the same in every replay.

use serde::Serialize;
use serde_json::Value;

use crate::contract::{
    audit::Subject,
    digest::Digest,
    envelope::Envelope,
    interlock::Requires,
    reason::Reason,
    routing::{Family, Scope},
};

/// A dangerous command that waits for its confirmation.
#[derive(Clone, Debug, Serialize)]
pub struct Challenge {
    /// Its id: `c-` and 32 hex digits.
    pub id: String,
    /// Until when it may be confirmed, in microseconds since the epoch.
    pub expires_at: i64,
    /// What it is, in words.
    pub operation: String,
    /// What it does, and what it leaves as it is.
    pub effect: (String, Vec<String>),
    /// Who must confirm.
    pub requires: Requires,
    /// Who has confirmed, in order.
    pub confirmed_by: Vec<String>,
    /// Whether that is enough: the command is on its way, or done.
    pub complete: bool,
    /// Whether the command was let go: confirmed, and refused by nothing since.
    pub let_go: bool,
    /// The canonical command, its secrets masked.
    #[serde(skip)]
    pub(in crate::decision) text: String,
    /// Digest of the canonical command without its timestamp and correlationId.
    pub compared: Digest,
    /// Whether its entry's parcel keeps the command.
    pub(in crate::decision) held: bool,
}

impl Challenge {
    /// Why the sender wants it, where the command says so.
    pub fn reason(&self) -> Option<String> {
        let envelope: Envelope = serde_json::from_str(&self.text).ok()?;
        envelope.data.get("reason").and_then(Value::as_str).map(str::to_owned)
    }
}

/// A challenge that is over.
#[derive(Clone, Debug, Serialize)]
pub struct Closed {
    /// The refusal of who comes too late.
    pub why: Reason,
    /// Who asked for the command.
    pub requester: String,
    /// Its type.
    pub kind_type: String,
    /// Whom it addressed.
    pub scope: Scope,
    /// Whether break-glass stood in for the second person, and nobody else has looked at it yet.
    pub unreviewed: bool,
}

/// The id of the challenge of an entry.
pub fn id(ledger_id: &str, incarnation: &str, seq: u64) -> String {
    let digest = Digest::of(format!("{ledger_id}{incarnation}{seq}").as_bytes()).to_string();
    format!("c-{}", digest.get(..32).unwrap_or_default())
}

impl Closed {
    pub(in crate::decision) fn subject(&self) -> Subject {
        Subject { family: Family::Signal, scope: self.scope.clone(), kind_type: self.kind_type.clone() }
    }
}
