//! Composing: what an effect becomes on the broker.
//!
//! Owns: the message of each effect, its exchange and its id.
//! Never: seals or applies; it is handed the place in the ledger that a message belongs to.
//! Holds: what has an entry has an id that is made of that entry's number, so that it is the same
//! whenever it leaves again.

use serde_json::Value;

use super::{Corridor, Source};
use crate::{
    contract::{
        audit::{Carried, EmergencyId, Verdict},
        passage::{self, Stamp},
        routing::{ControlPlaneRouting, Family},
        timestamp::Timestamp,
    },
    decision::{
        Decision,
        effect::{Effect, Speech},
    },
    ledger::Outgoing,
};

impl Corridor {
    /// The router's own status: a metric like any other, with no entry.
    pub fn report(&mut self, kind_type: &str, data: Value, now: Timestamp) -> Outgoing {
        let speech = Speech::status(self.state.rules(), kind_type, data, now);
        let message_id = Some(self.message_id(Place::default()));
        let stamp = Stamp {
            exchange: &self.names.out,
            message_id,
            seq: None,
            principal: None,
            verdict: Verdict::Forward,
        };
        let mut message = passage::own(&speech.routing_key, speech.body, &stamp);
        message.properties.delivery_mode = None;
        Outgoing { seq: 0, ordinal: 0, mandatory: false, message }
    }

    /// The message of one effect.
    pub(super) fn compose(
        &mut self,
        decision: &Decision,
        effect: &Effect,
        mut place: Place,
        source: &mut Source,
        again: bool,
    ) -> Option<Outgoing> {
        let message = source.message.as_ref();
        let family = message.and_then(|message| Family::claimed_by(&message.routing_key));
        // A metric travels as lightly as it came, also where it tells something that is an entry.
        if matches!(effect, Effect::Forward(_)) && family == Some(Family::Metric) {
            place.seq = None;
        }
        let stamp = Stamp {
            message_id: Some(self.message_id(place)),
            exchange: match effect {
                Effect::Refuse(_) => &self.names.refused,
                _ => &self.names.out,
            },
            seq: place.seq,
            principal: decision.principal.as_deref(),
            // What waits now has been carried by the time that anybody reads this.
            verdict: decision.verdict.filter(|_| *effect != Effect::Hold).unwrap_or(Verdict::Forward),
        };
        let (message, mandatory) = match effect {
            // What has no entry (metrics, heartbeats) is worth no return.
            Effect::Forward(_) | Effect::Hold => {
                (passage::onward(source.arrival(again)?, family?, &stamp), place.seq.is_some())
            }
            Effect::Refuse(refusal) => (passage::refused(source.arrival(again)?, refusal, &stamp), true),
            Effect::Speak(speech) | Effect::Order { speech, .. } => {
                // What has no entry (the ack of a heartbeat) is worth no return.
                (passage::own(&speech.routing_key, speech.body.clone(), &stamp), place.seq.is_some())
            }
            Effect::Repeat { correlation_id, .. } => {
                let body = passage::answering(source.recalled.clone()?, correlation_id.as_deref());
                let key = ControlPlaneRouting::answer(source.message.as_ref()?.routing_key.as_str())?;
                (passage::own(&key, body, &stamp), true)
            }
            Effect::Report | Effect::Bundle { .. } | Effect::Unlatch { .. } => return None,
            Effect::Keep { .. } | Effect::Release { .. } | Effect::Drop { .. } => {
                return None;
            }
        };
        Some(Outgoing { seq: place.seq.unwrap_or_default(), ordinal: place.ordinal, mandatory, message })
    }

    /// `<ledger id>.<incarnation>.<seq>.<n>`; with the emergency id for `<seq>` while the ledger
    /// cannot be written, because an entry that were lost then would leave its place to another;
    /// `<ledger id>.<incarnation>.r<count>` for what has no entry. In memory there is no
    /// incarnation, and the epoch stands with the count.
    fn message_id(&mut self, place: Place) -> String {
        let Place { seq, fact, ordinal } = place;
        let opening = match self.incarnation.as_str() {
            "" => self.ledger_id.clone(),
            incarnation => format!("{}.{incarnation}", self.ledger_id),
        };
        match seq {
            Some(seq) if self.state.ledger_writable() => format!("{opening}.{seq}.{ordinal}"),
            // Composed before its facts are sealed: they take these ids, in order.
            Some(_) => format!("{opening}.{}.{ordinal}", self.next_emergency(fact as u64)),
            None => {
                self.unwritten += 1;
                match self.incarnation.as_str() {
                    "" => format!("{opening}.r{}.{}", self.epoch, self.unwritten),
                    _ => format!("{opening}.r{}", self.unwritten),
                }
            }
        }
    }

    pub(super) fn next_emergency(&self, after: u64) -> EmergencyId {
        EmergencyId { epoch: self.epoch, n: self.emergencies + 1 + after }
    }
}

/// Where in the ledger a message belongs.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    pub seq: Option<u64>,
    /// Which fact of its decision that entry holds.
    pub fact: usize,
    pub ordinal: u32,
}

impl Place {
    /// What a decision says belongs to its first entry, and a command of the router's own to the
    /// entry that accepts it.
    pub fn of(effect: &Effect, first: Option<u64>, ordinal: u32) -> Self {
        match effect {
            Effect::Order { fact, .. } => {
                let seq = first.map(|first| first + *fact as u64);
                Self { seq, fact: *fact, ordinal: Carried::COMMAND_ORDINAL }
            }
            _ => Self { seq: first, fact: 0, ordinal },
        }
    }
}
