//! What a decision wants done outside, and the router's own words.
//!
//! Owns: the closed list of effects and the envelopes that the router itself speaks.
//! Never: does any of it; effects are data until their entry is durable.
//! Holds: the router's envelopes pass its own contract.

use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use crate::{
    contract::{
        Said,
        audit::Payload,
        canonical,
        envelope::{Envelope, VERSION},
        reason::{Reason, Refusal},
        routing::{ControlPlaneRouting, Family, Scope},
        secrets::shapes,
        timestamp::Timestamp,
    },
    decision::{gates::consent::Permit, rules::Rules, state::flight::Flight},
};

/// One thing to do once its entry is durable. The ordinal of an effect within its decision, from 0,
/// is the last part of the message's id.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Publish the arrival to `<prefix>.out`, as it came.
    Forward(Permit),
    /// Publish a copy of the arrival to `<prefix>.refused`, with its reason in headers.
    Refuse(Refusal),
    /// Keep the arrival, as it would be published, in its entry's parcel, until its target shows
    /// itself or its challenge is confirmed.
    Hold,
    /// Keep a message that came back until its target shows itself.
    Keep {
        /// Which fact of the decision parks it: that entry's parcel.
        fact: usize,
        /// The message's entry.
        seq: u64,
        /// Its ordinal there.
        ordinal: u32,
        /// Whether it takes the urgent lane.
        urgent: bool,
    },
    /// Publish what a parcel keeps.
    Release {
        /// The permit of its acceptance or confirmation.
        permit: Permit,
        /// The parcel.
        parcel: u64,
        /// Whether it takes the urgent lane.
        urgent: bool,
    },
    /// Remove what a parcel keeps: its command has ended.
    Drop {
        /// The parcel.
        parcel: u64,
    },
    /// Publish the router's own status-full.
    Report,
    /// Make a support bundle; the command of entry `seq` waits for it, where one does.
    Bundle {
        /// The command's entry; 0 where nobody waits.
        seq: u64,
        /// What it is for.
        why: String,
    },
    /// Take the latch file away; the command of entry `seq` waits for that.
    Unlatch {
        /// The command's entry.
        seq: u64,
        /// The swarm it is for; absent for all.
        swarm: Option<String>,
        /// Up to when it was known what is thrown: a later throw is not meant.
        seen: Timestamp,
    },
    /// Publish an envelope of the router's own to `<prefix>.out`.
    Speak(Speech),
    /// Publish a command of the router's own: its message belongs to that command's entry, by which
    /// it is found again when the broker reports on it.
    Order {
        /// Which fact of the decision accepts the command.
        fact: usize,
        /// The command.
        speech: Speech,
    },
    /// Publish the outcome that the entry `of` holds again, as an answer to whoever repeats.
    Repeat {
        /// The outcome's entry.
        of: u64,
        /// The repeat's own correlationId, by which its sender waits.
        correlation_id: Option<String>,
    },
}

impl Effect {
    /// Whether it needs the arrival; but for a repeat, the arrival's own body leaves by it.
    pub fn needs_arrival(&self) -> bool {
        self.is_of_arrival() || matches!(self, Self::Repeat { .. })
    }

    /// Whether what leaves by it is the arrival's own body.
    pub fn is_of_arrival(&self) -> bool {
        matches!(self, Self::Forward(_) | Self::Refuse(_) | Self::Hold)
    }
}

/// The router's own envelope. Only this file makes one, so that what somebody else said never
/// leaves as the router's.
#[expect(
    clippy::manual_non_exhaustive,
    reason = "no other file of the crate may word what the router says either"
)]
#[derive(Clone, Debug, PartialEq)]
pub struct Speech {
    /// Its key.
    pub routing_key: String,
    /// Its body: canonical JSON (RFC 8785).
    pub body: Bytes,
    made_here: (),
}

impl Speech {
    /// The router's outcome of a signal: the signal's scope, type and correlationId.
    pub(super) fn outcome(
        rules: &Rules,
        said: &Said,
        status: &str,
        reason: Option<Reason>,
        detail: &str,
        now: Timestamp,
    ) -> Self {
        let mut data = json!({ "status": status, "retryable": false, "message": detail });
        if let (Some(reason), Some(data)) = (reason, data.as_object_mut()) {
            data.insert("code".to_owned(), Value::from(reason.code()));
            data.insert(
                "context".to_owned(),
                json!({ "rule": reason.rule(), "nextStep": reason.next_step() }),
            );
        }
        Self::of_signal(rules, said, data, now)
    }

    /// The router's outcome of a command in flight, with what is known of it.
    pub(super) fn ending(
        rules: &Rules,
        flight: &Flight,
        status: &str,
        (detail, reason): (&str, Option<Reason>),
        context: Value,
        now: Timestamp,
    ) -> Self {
        // These two say that an answer is missing, and not that the command failed.
        let retryable = matches!(status, "TimedOut" | "Partial");
        let mut data =
            json!({ "status": status, "retryable": retryable, "message": detail, "context": context });
        if let (Some(reason), Some(data)) = (reason, data.as_object_mut()) {
            data.insert("code".to_owned(), Value::from(reason.code()));
        }
        let envelope = Envelope {
            correlation_id: flight.correlation_id.clone(),
            data,
            idempotency_key: flight.idempotency_key.clone(),
            kind: Family::Outcome.kind().to_owned(),
            origin: origin(rules),
            runtime: None,
            scope: flight.scope.clone(),
            timestamp: now,
            kind_type: flight.kind_type.clone(),
            version: VERSION.to_owned(),
        };
        Self::of(Family::Outcome, &envelope)
    }

    /// The router's answer to a signal: a status, and what goes with it for machines.
    pub(super) fn answer(
        rules: &Rules,
        said: &Said,
        status: &str,
        detail: &str,
        context: Option<Value>,
        now: Timestamp,
    ) -> Self {
        let mut data = json!({ "status": status, "retryable": false, "message": detail });
        if let (Some(context), Some(data)) = (context, data.as_object_mut()) {
            data.insert("context".to_owned(), context);
        }
        Self::of_signal(rules, said, data, now)
    }

    /// An outcome with the signal's scope, type and ids.
    fn of_signal(rules: &Rules, said: &Said, data: Value, now: Timestamp) -> Self {
        let envelope = Envelope {
            correlation_id: said.envelope.correlation_id.clone(),
            data,
            idempotency_key: said.envelope.idempotency_key.clone(),
            kind: Family::Outcome.kind().to_owned(),
            origin: origin(rules),
            runtime: None,
            scope: said.key.scope.clone(),
            timestamp: now,
            kind_type: said.key.kind_type.clone(),
            version: VERSION.to_owned(),
        };
        Self::of(Family::Outcome, &envelope)
    }

    /// A command of the router's own.
    pub(super) fn order(
        rules: &Rules,
        kind_type: &str,
        scope: &Scope,
        data: Value,
        id: &str,
        now: Timestamp,
    ) -> Self {
        let envelope = Envelope {
            correlation_id: Some(id.to_owned()),
            data,
            idempotency_key: Some(id.to_owned()),
            kind: Family::Signal.kind().to_owned(),
            origin: origin(rules),
            runtime: None,
            scope: scope.clone(),
            timestamp: now,
            kind_type: kind_type.to_owned(),
            version: VERSION.to_owned(),
        };
        Self::of(Family::Signal, &envelope)
    }

    /// The router's own request for a status-full: its outcome is the status itself.
    pub(super) fn ask(rules: &Rules, scope: &Scope, now: Timestamp) -> Self {
        Self::order(rules, "status-request", scope, json!({}), &Self::ask_id(rules, now), now)
    }

    /// The key of that request.
    pub(super) fn ask_id(rules: &Rules, now: Timestamp) -> String {
        // Those who are asked at one moment share it: their scopes tell the questions apart.
        format!("ask-{}-{}", rules.instance, now.micros())
    }

    /// The router's own status, full or delta, by the schema of everybody's.
    pub fn status(rules: &Rules, kind_type: &str, data: Value, now: Timestamp) -> Self {
        let envelope = Envelope {
            correlation_id: None,
            data,
            idempotency_key: None,
            kind: Family::Metric.kind().to_owned(),
            origin: origin(rules),
            runtime: None,
            scope: Scope::router(&rules.instance),
            timestamp: now,
            kind_type: kind_type.to_owned(),
            version: VERSION.to_owned(),
        };
        Self::of(Family::Metric, &envelope)
    }

    /// The router's alert, from its own scope.
    pub(super) fn alert(rules: &Rules, data: Value, correlation_id: Option<&str>, now: Timestamp) -> Self {
        let envelope = Envelope {
            correlation_id: correlation_id.map(str::to_owned),
            data,
            idempotency_key: None,
            kind: Family::Alert.kind().to_owned(),
            origin: origin(rules),
            runtime: None,
            scope: Scope::router(&rules.instance),
            timestamp: now,
            kind_type: "alert".to_owned(),
            version: VERSION.to_owned(),
        };
        Self::of(Family::Alert, &envelope)
    }

    /// The body as a ledger payload: words of ours may repeat what somebody said.
    pub fn payload(&self) -> Payload {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        // Asked first, because most bodies hold nothing to mask and need no parsing for it.
        if shapes::may_hold(&text)
            && let Ok(mut body) = serde_json::from_str::<Value>(&text)
            && body.get_mut("data").is_some_and(shapes::mask)
        {
            return Payload(canonical::raw(&body).unwrap_or_default());
        }
        // The body was made by a JSON writer, so it is JSON.
        Payload(RawValue::from_string(text).unwrap_or_default())
    }

    fn of(family: Family, envelope: &Envelope) -> Self {
        Self {
            routing_key: ControlPlaneRouting::of(family, &envelope.kind_type, &envelope.scope),
            // Canonical, so that the entry's payload is: a fold takes parts of one as they stand
            // (`state::payload`).
            body: Bytes::from(canonical::of(envelope)),
            made_here: (),
        }
    }
}

fn origin(rules: &Rules) -> String {
    format!("swarmgate:{}", rules.instance)
}
