//! The corridor without its tasks: read, decide, seal, apply, compose.
//!
//! Owns: the one sequence of steps that the router, `route`, the demo and the simulation all take.
//! Never: waits or touches a file or socket; durability and carriage are its callers' business.
//! Holds: what it hands out to be carried names the entry that must be durable first.

use bytes::Bytes;

use crate::{
    contract::{
        Contract,
        audit::{Entry, Fact, Verdict},
        digest::Digest,
        message::Message,
        passage::{self, Stamp},
        routing::Family,
        timestamp::Timestamp,
    },
    decision::{
        Decision, decide,
        effect::Effect,
        request::{Arrival, Request},
        state::State,
    },
    ledger::{
        Outgoing,
        chain::{Chain, Sealed},
    },
};

/// The names that the router publishes to.
#[derive(Clone, Debug)]
pub struct Names {
    /// Where carried messages and the router's own words go.
    pub out: String,
    /// Where refused copies go.
    pub refused: String,
}

impl Names {
    /// The names under a prefix: `<prefix>.out`, `<prefix>.refused`.
    pub fn with_prefix(prefix: &str) -> Self {
        Self { out: format!("{prefix}.out"), refused: format!("{prefix}.refused") }
    }
}

/// The state and the chain, and what it takes to compose messages.
#[derive(Debug)]
pub struct Corridor {
    state: State,
    chain: Chain,
    names: Names,
    ledger_id: String,
    /// How many messages without an entry have been composed in this epoch.
    unwritten: u64,
}

/// One request, judged: what to write and what to carry once it is written.
#[derive(Debug, Default)]
pub struct Judged {
    /// The decision.
    pub decision: Decision,
    /// Its entries, in order.
    pub sealed: Vec<Sealed>,
    /// Its messages, in order; those with `seq` must wait for that entry.
    pub outgoing: Vec<Outgoing>,
}

/// Reads a message into the arrival that `decide` judges (gates 1 and 2).
pub fn read(contract: &Contract, message: &Message, redelivered: bool) -> Arrival {
    Arrival {
        routing_key: message.routing_key.clone(),
        user_id: message.properties.user_id.clone(),
        redelivered,
        body: Digest::of(&message.body),
        expiration_ms: message.properties.expiration.as_deref().and_then(|text| text.parse().ok()),
        subject: contract.read(message),
    }
}

impl Corridor {
    /// A corridor over a state and the chain it was folded from.
    pub fn new(state: State, chain: Chain, names: Names) -> Self {
        let ledger_id = state.genesis().map(|genesis| genesis.ledger_id.clone()).unwrap_or_default();
        Self { state, chain, names, ledger_id, unwritten: 0 }
    }

    /// The state as it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, for beliefs that no decision yields.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The chain's next place and head.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Writes a fact that no decision yields (genesis, opened).
    pub fn record(&mut self, fact: Fact) -> Sealed {
        let sealed = self.chain.seal(fact, Vec::new());
        self.state.apply(sealed.entry.seq, &sealed.entry.fact);
        if self.ledger_id.is_empty() {
            self.ledger_id =
                self.state.genesis().map(|genesis| genesis.ledger_id.clone()).unwrap_or_default();
        }
        sealed
    }

    /// Writes an entry's fact anew at the end of the chain, with the digests of the messages that left because of it.
    pub fn record_again(&mut self, entry: Entry) -> Sealed {
        let sealed = self.chain.seal(entry.fact, entry.out);
        self.state.apply(sealed.entry.seq, &sealed.entry.fact);
        sealed
    }

    /// Goes on from another state and chain. The count of messages without an entry goes on too: no id is given
    /// twice within an epoch.
    pub fn resume(&mut self, state: State, chain: Chain) {
        (self.state, self.chain) = (state, chain);
    }

    /// Decides, changing nothing.
    pub fn decide(&self, request: &Request, now: Timestamp) -> Decision {
        decide(&self.state, request, now)
    }

    /// What is due by `now`, judged; `None` when nothing is.
    pub fn due(&mut self, now: Timestamp) -> Option<Judged> {
        let deadline = self.state.next_deadline()?;
        (deadline <= now).then(|| {
            let decision = self.decide(&Request::Due, now);
            self.settle(decision, None, None)
        })
    }

    /// Seals, applies and composes a decision. `source` is the message it was about; `recalled` is the outcome that
    /// a `Repeat` publishes again.
    pub fn settle(
        &mut self,
        mut decision: Decision,
        source: Option<&Message>,
        recalled: Option<Bytes>,
    ) -> Judged {
        let seq = (!decision.facts.is_empty()).then(|| self.chain.next_seq());
        let mut outgoing = Vec::with_capacity(decision.effects.len());
        for (ordinal, effect) in decision.effects.iter().enumerate() {
            let place = Place { seq, ordinal: ordinal as u32 };
            outgoing.extend(self.compose(&decision, effect, place, source, recalled.as_ref()));
        }
        let mut out: Vec<Digest> = outgoing
            .iter()
            .map(|leaving: &Outgoing| {
                let unchanged =
                    source.is_some_and(|source| source.body.as_ptr() == leaving.message.body.as_ptr());
                match decision.facts.first().and_then(|fact| fact.body).filter(|_| unchanged) {
                    Some(body) => body,
                    None => Digest::of(&leaving.message.body),
                }
            })
            .collect();
        let mut sealed = Vec::with_capacity(decision.facts.len());
        for fact in decision.facts.drain(..) {
            let entry = self.chain.seal(fact, std::mem::take(&mut out));
            self.state.apply(entry.entry.seq, &entry.entry.fact);
            sealed.push(entry);
        }
        for belief in &decision.beliefs {
            self.state.believe(belief);
        }
        Judged { decision, sealed, outgoing }
    }

    /// The message of one effect.
    fn compose(
        &mut self,
        decision: &Decision,
        effect: &Effect,
        place: Place,
        source: Option<&Message>,
        recalled: Option<&Bytes>,
    ) -> Option<Outgoing> {
        let message_id = self.message_id(place);
        let family = source.and_then(|source| Family::claimed_by(&source.routing_key));
        let stamp = Stamp {
            exchange: match effect {
                Effect::Refuse(_) => &self.names.refused,
                _ => &self.names.out,
            },
            message_id: Some(message_id),
            seq: place.seq,
            principal: decision.principal.as_deref(),
            verdict: decision.verdict.unwrap_or(Verdict::Forward),
        };
        let (message, mandatory) = match effect {
            // What has no entry (metrics, heartbeats) travels as lightly as it came.
            Effect::Forward => (passage::onward(source?, family?, &stamp), place.seq.is_some()),
            Effect::Refuse(refusal) => (passage::refused(source?, refusal, &stamp), true),
            Effect::Speak(speech) => (passage::own(&speech.routing_key, speech.body.clone(), &stamp), true),
            Effect::Repeat { .. } => {
                let body = recalled?.clone();
                let key = source?.routing_key.as_str();
                (
                    passage::own(&crate::contract::routing::ControlPlaneRouting::answer(key)?, body, &stamp),
                    true,
                )
            }
        };
        Some(Outgoing { seq: place.seq.unwrap_or_default(), ordinal: place.ordinal, mandatory, message })
    }

    /// `<ledger id>.<seq>.<n>`, or `<ledger id>.r<epoch>.<count>` for what has no entry, or none that is durable before
    /// it is carried: were that entry lost, another would take its place and its ids.
    fn message_id(&mut self, place: Place) -> String {
        match place.seq.filter(|_| self.state.ledger_writable()) {
            Some(seq) => format!("{}.{seq}.{}", self.ledger_id, place.ordinal),
            None => {
                self.unwritten += 1;
                format!("{}.r{}.{}", self.ledger_id, self.state.epoch(), self.unwritten)
            }
        }
    }
}

/// Where in the ledger a message belongs.
#[derive(Clone, Copy)]
struct Place {
    seq: Option<u64>,
    ordinal: u32,
}
