//! What waits to be confirmed, and uses of break-glass that wait for their review:
//! `/api/v1/challenges`.
//!
//! Owns: a challenge, as it is shown to those who confirm it.
//! Never: shows what a challenged command holds; its hash and target say enough.
//! Holds: only what is open is a challenge.

use serde::{Deserialize, Serialize};

use super::lenient::{Row, null_is_none, text, time};
use crate::{
    contract::timestamp::Timestamp,
    decision::state::{State, flight::Flight},
};

/// Every challenge that waits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Challenges {
    pub challenges: Vec<Row<Challenge>>,
    pub to_review: Vec<Row<Unreviewed>>,
}

/// A dangerous operation that waits for its confirmation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Challenge {
    pub challenge_id: String,
    pub command: Option<u64>,
    pub command_sha256: Option<String>,
    #[serde(deserialize_with = "null_is_none")]
    pub confirmed_by: Vec<String>,
    #[serde(deserialize_with = "text")]
    pub difference: Option<String>,
    pub effect: Option<String>,
    pub environment: Option<String>,
    #[serde(deserialize_with = "time")]
    pub expires_at: Option<Timestamp>,
    #[serde(deserialize_with = "null_is_none")]
    pub not_affected: Vec<String>,
    #[serde(deserialize_with = "null_is_none")]
    pub operation: String,
    pub reason: Option<String>,
    #[serde(deserialize_with = "time")]
    pub requested_at: Option<Timestamp>,
    pub requested_by: Option<String>,
    pub requires: Option<String>,
    #[serde(deserialize_with = "text")]
    pub target: Option<String>,
}

/// A use of break-glass that nobody else has looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Unreviewed {
    #[serde(deserialize_with = "text")]
    pub challenge_id: Option<String>,
    #[serde(deserialize_with = "text")]
    pub operation: Option<String>,
    #[serde(deserialize_with = "text")]
    pub requested_by: Option<String>,
    #[serde(deserialize_with = "text")]
    pub target: Option<String>,
}

impl Challenges {
    pub fn new(state: &State) -> Self {
        let unreviewed = state.challenges_closed().filter(|(_, closed)| closed.unreviewed);
        let unreviewed = unreviewed.map(|(id, closed)| Unreviewed {
            challenge_id: Some(id.to_owned()),
            operation: Some(closed.kind_type.clone()),
            requested_by: Some(closed.requester.clone()),
            target: Some(closed.scope.to_string()),
        });
        Self {
            challenges: open(state)
                .filter_map(|flight| Challenge::new(state, flight))
                .map(Row::Known)
                .collect(),
            to_review: unreviewed.map(Row::Known).collect(),
        }
    }
}

impl Challenge {
    /// One of them, by its id.
    pub fn find(state: &State, id: &str) -> Option<Self> {
        let is_named = |flight: &&Flight| flight.challenge.as_ref().is_some_and(|open| open.id == id);
        Self::new(state, open(state).find(is_named)?)
    }

    fn new(state: &State, flight: &Flight) -> Option<Self> {
        let challenge = flight.challenge.as_deref()?;
        let (effect, not_affected) = challenge.effect.clone();
        Some(Self {
            challenge_id: challenge.id.clone(),
            command: Some(flight.seq),
            command_sha256: Some(challenge.compared.to_string()),
            confirmed_by: challenge.confirmed_by.clone(),
            difference: flight.leads_to.map(|to| format!("{} -> {to}", state.life(&flight.scope))),
            effect: Some(effect),
            environment: Some(state.rules().consent.environment.to_string()),
            expires_at: Some(Timestamp::from_micros(challenge.expires_at)),
            not_affected,
            operation: challenge.operation.clone(),
            reason: challenge.reason(),
            requested_at: Some(Timestamp::from_micros(flight.accepted_at)),
            requested_by: Some(flight.sender.principal.clone()),
            requires: Some(challenge.requires.word().to_owned()),
            target: Some(flight.scope.to_string()),
        })
    }
}

fn open(state: &State) -> impl Iterator<Item = &Flight> {
    state.challenged().filter(|flight| flight.awaits_confirmation())
}
