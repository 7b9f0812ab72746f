//! Commands in flight, and one command with its matrix: `/api/v1/commands` and what is below it.
//!
//! Owns: a command from its acceptance to its end, as it is shown.
//! Never: looks for one that has ended; whoever reads the ledger says how it ended.
//! Holds: a target that has not answered is missing.

use serde::{Deserialize, Serialize};

use super::{
    PAGE_MAX,
    lenient::{time, word},
};
use crate::{
    contract::{audit, passage::REPLAY_KEY, routing::Scope, timestamp::Timestamp},
    decision::state::{State, flight, inventory::Freshness},
};

/// The state of a command of which nothing will change any more.
pub const ENDED: &str = "ended";

/// Commands, without their matrices.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Commands {
    pub commands: Vec<Command>,
    pub more: bool,
}

/// One command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Command {
    #[serde(deserialize_with = "time")]
    pub accepted_at: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub carried_at: Option<Timestamp>,
    pub class: Option<String>,
    pub correlation_id: Option<String>,
    #[serde(deserialize_with = "time")]
    pub deadline: Option<Timestamp>,
    /// Of one that has ended, null where there is nothing to say; absent of one in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Option<String>>,
    #[serde(deserialize_with = "time")]
    pub ended_at: Option<Timestamp>,
    pub evidence: Option<Evidence>,
    pub id: String,
    pub idempotency_key: Option<String>,
    pub missing: usize,
    #[serde(deserialize_with = "time")]
    pub observed_at: Option<Timestamp>,
    pub scope: Option<Scope>,
    pub sender: Option<String>,
    pub state: String,
    pub status: Option<String>,
    pub success: Option<bool>,
    /// Absent in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<Target>>,
    #[serde(rename = "type")]
    pub kind_type: String,
}

/// The last that was heard of a command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    #[serde(deserialize_with = "time")]
    pub at: Option<Timestamp>,
    pub detail: Option<String>,
    pub kind: String,
}

/// One target of a command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    #[serde(deserialize_with = "time")]
    pub at: Option<Timestamp>,
    /// The code that its answer gave; of a command that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What its answer said in words; of a command that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub reached: bool,
    pub scope: Option<Scope>,
    pub status: Option<String>,
    pub success: Option<bool>,
}

impl Commands {
    /// Up to `limit` commands in flight, the newest first; `parked` shows only those that wait for
    /// their target.
    pub fn new(state: &State, parked: bool, limit: usize) -> Self {
        let mut wanted = state.flights().filter(|flight| !parked || flight.is_parked());
        let rows = wanted.by_ref().take(limit.clamp(1, PAGE_MAX));
        let commands = rows.map(|flight| Command { targets: None, ..Command::new(state, flight) }).collect();
        Self { commands, more: wanted.next().is_some() }
    }
}

impl Command {
    /// A command in flight, by its number or its correlationId; what was sent again, by its
    /// idempotencyKey, because it shares the correlationId of the first send.
    pub fn find(state: &State, id: &str) -> Option<Self> {
        let by_seq = id.parse().ok().and_then(|seq| state.flight(seq));
        let name = |flight: &&flight::Flight| match id.starts_with(REPLAY_KEY) {
            true => flight.idempotency_key.as_deref() == Some(id),
            false => flight.correlation_id.as_deref() == Some(id),
        };
        let flight = by_seq.or_else(|| state.flights().find(name))?;
        let mut command = Self::new(state, flight);
        // A status is volatile evidence: it is shown while it is there, and never written.
        if command.evidence.is_none()
            && let [target] = flight.targets.as_slice()
            && let Some(seen) = state.inventory().instance(&target.scope)
            && seen.freshness != Freshness::Unknown
        {
            let (at, detail) = (seen.last_seen, word(seen.freshness));
            command.evidence = Some(Evidence { at, detail, kind: "status".to_owned() });
        }
        Some(command)
    }

    /// A command in flight.
    pub fn new(state: &State, flight: &flight::Flight) -> Self {
        let stage = match flight {
            flight if flight.awaits_confirmation() => "challenged",
            flight if flight.is_parked() => "parked",
            flight::Flight { observed_at: Some(_), .. } => "observed",
            flight::Flight { carried_at: Some(_), .. } => "carried",
            _ => "accepted",
        };
        let target = |target: &flight::Target| {
            let answer = target.answer.as_ref();
            Target {
                at: answer.map(|answer| Timestamp::from_micros(answer.at)),
                code: None,
                message: None,
                reached: answer.is_some() || flight.carried_at.is_some(),
                scope: Some(target.scope.clone()),
                status: answer.map(|answer| answer.status.clone()),
                success: answer.map(|answer| answer.success),
            }
        };
        Self {
            accepted_at: Some(Timestamp::from_micros(flight.accepted_at)),
            carried_at: flight.carried_at.map(Timestamp::from_micros),
            class: state.rules().commands.get(&flight.kind_type).and_then(|row| word(row.class)),
            correlation_id: flight.correlation_id.clone(),
            deadline: Some(Timestamp::from_micros(flight.deadline)),
            evidence: state.evidence(flight).map(Evidence::from),
            id: flight.seq.to_string(),
            idempotency_key: flight.idempotency_key.clone(),
            kind_type: flight.kind_type.clone(),
            missing: flight.missing(),
            observed_at: flight.observed_at.map(Timestamp::from_micros),
            scope: Some(flight.scope.clone()),
            sender: Some(flight.sender.principal.clone()),
            state: stage.to_owned(),
            targets: Some(flight.targets.iter().map(target).collect()),
            ..Self::default()
        }
    }

    /// Whether nothing will change any more.
    pub fn has_ended(&self) -> bool {
        self.state == ENDED
    }

    /// Its state, and how it ended.
    pub fn standing(&self) -> String {
        match &self.status {
            Some(status) => format!("{}: {status}", self.state),
            None => self.state.clone(),
        }
    }
}

impl From<&audit::Evidence> for Evidence {
    fn from(heard: &audit::Evidence) -> Self {
        let detail = Some(heard.detail.clone());
        Self { at: Some(heard.at), detail, kind: heard.kind.word().to_owned() }
    }
}
