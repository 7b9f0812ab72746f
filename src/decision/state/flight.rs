//! One command in flight: what it waits for, and what has been heard of it.
//!
//! Owns: the recorded life of a command from its acceptance to its end.
//! Never: decides when a command ends; facts do.
//! Holds: its targets are those known when it was accepted, and those of its scope that answered
//! nevertheless.

use serde::Serialize;

use crate::{
    contract::{
        audit::{Actor, Asked, Evidence, Heard},
        digest::Digest,
        interlock::Life,
        routing::Scope,
    },
    decision::state::{challenge::Challenge, key::Short, precedence::Precedence},
};

/// A command that was accepted and has not ended.
#[derive(Clone, Debug, Serialize)]
pub struct Flight {
    /// The entry that accepted it: its number for people.
    pub seq: u64,
    /// Its identity: digest of sender, scope, type and idempotencyKey.
    pub command: Digest,
    /// Its type.
    pub kind_type: String,
    /// Whom it addresses; `ALL` in a fan-out.
    pub scope: Scope,
    /// Who sent it, and how that is known.
    pub sender: Actor,
    /// Joins it to its outcomes.
    pub correlation_id: Option<String>,
    /// The sender's key.
    pub idempotency_key: Option<String>,
    /// What it asked for, for its entries.
    pub asked: Asked,
    /// Stop and tightening stand before everything else of their target.
    pub always_passes: bool,
    /// When it was accepted, in microseconds since the epoch.
    pub accepted_at: i64,
    /// When it times out, in microseconds since the epoch.
    pub deadline: i64,
    /// When the broker confirmed it, in microseconds since the epoch.
    pub carried_at: Option<i64>,
    /// When a target of it first gave a sign of it, in microseconds since the epoch.
    pub observed_at: Option<i64>,
    /// The last that the broker said of it; what its target said stands with the target.
    pub evidence: Option<Evidence>,
    /// Its targets, by scope.
    pub targets: Vec<Target>,
    /// Where it waits for its target.
    pub parked: Option<Parked>,
    /// What a config-update changes (JSON); an empty text where that is too large to be remembered.
    pub patch: Option<String>,
    /// The state that its success leads a bot to, where that depends on what it said.
    pub leads_to: Option<Life>,
    /// Its challenge, where it is dangerous.
    pub challenge: Option<Box<Challenge>>,
    /// What joins it to its outcomes, as an index key.
    #[serde(skip)]
    pub(in crate::decision) trace: Short,
}

/// One target of a command.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// The instance.
    pub scope: Scope,
    /// Its first answer; `None` while there is none.
    pub answer: Option<TargetReply>,
}

/// What a target answered.
#[derive(Clone, Debug, Serialize)]
pub struct TargetReply {
    /// The status of its outcome.
    pub status: String,
    /// Whether that is what the sender wanted.
    pub success: bool,
    /// When, in microseconds since the epoch.
    pub at: i64,
}

/// A command that waits for its target.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parked {
    /// Since when, in microseconds since the epoch.
    pub at: i64,
    /// How often it has waited.
    pub tries: u32,
    /// The entry that parked it: its parcel in the outbox.
    pub parcel: u64,
    /// Whether it waits still; else it is on its way once more.
    pub waits: bool,
}

/// Who makes room for whom where many wait for their targets: the lower for the higher, and among
/// equals the older.
pub(in crate::decision) type Rank = (Precedence, u64);

/// The rank of an ordinary command that is accepted now.
pub(in crate::decision) const NEWEST: Rank = (Precedence::Ordinary, u64::MAX);

impl Flight {
    /// What it gives way to.
    pub fn precedence(&self) -> Precedence {
        Precedence::of(self.always_passes, &self.sender)
    }

    pub(in crate::decision) fn rank(&self) -> Rank {
        (self.precedence(), self.seq)
    }

    /// Targets that have not answered.
    pub fn missing(&self) -> usize {
        self.targets.iter().filter(|target| target.answer.is_none()).count()
    }

    /// Whether it addresses more than one instance.
    pub fn fans_out(&self) -> bool {
        self.scope.fans_out()
    }

    /// Whether an instance is one that it addresses.
    pub fn is_target(&self, scope: &Scope) -> bool {
        self.scope.covers(scope)
    }

    /// Whether it waits to be confirmed.
    pub fn awaits_confirmation(&self) -> bool {
        self.challenge.as_ref().is_some_and(|challenge| !challenge.complete)
    }

    /// Whether it was ever let go: a dangerous command is when it is confirmed and nothing refuses
    /// it.
    pub fn was_let_go(&self) -> bool {
        self.challenge.as_ref().is_none_or(|challenge| challenge.let_go)
    }

    /// Whether it has not reached its target for certain: it waits for its confirmation, or for a
    /// queue that takes it.
    pub fn never_left(&self) -> bool {
        !self.was_let_go() || self.is_parked()
    }

    /// The parcel that keeps it while it waits, for its target or its confirmation.
    pub fn kept(&self) -> Option<u64> {
        let parked = self.parked.filter(|parked| parked.waits).map(|parked| parked.parcel);
        let held = self.challenge.as_ref().filter(|challenge| challenge.held && !challenge.complete);
        // Held in its own entry's parcel; a parked one in that of the entry that parked it.
        parked.or(held.map(|_| self.seq))
    }

    /// Whether it waits for its target to show itself.
    pub fn is_parked(&self) -> bool {
        self.parked.is_some_and(|parked| parked.waits)
    }

    /// Writes a target's answer into the matrix; its first one counts.
    pub(in crate::decision) fn answer(&mut self, scope: &Scope, heard: &Heard, at: i64) {
        let answer = TargetReply { status: heard.status.clone(), success: heard.success, at };
        match self.find(scope) {
            Ok(index) => {
                if let Some(target) = self.targets.get_mut(index) {
                    target.answer.get_or_insert(answer);
                }
            }
            Err(index) => self.targets.insert(index, Target { scope: scope.clone(), answer: Some(answer) }),
        }
    }

    /// Whether an instance stands among its targets; one that nobody knew comes in with its answer.
    pub(in crate::decision) fn records(&self, scope: &Scope) -> bool {
        self.find(scope).is_ok()
    }

    fn find(&self, scope: &Scope) -> Result<usize, usize> {
        // In the order of scopes: `known::targets` and `Flights::confirm` see to that.
        self.targets.binary_search_by(|target| target.scope.cmp(scope))
    }

    /// Bytes of what it said that is kept.
    pub(super) fn texts_bytes(&self) -> usize {
        let challenge = self.challenge.as_ref().map_or(0, |challenge| challenge.text.len());
        self.patch.as_ref().map_or(0, String::len) + challenge
    }
}
