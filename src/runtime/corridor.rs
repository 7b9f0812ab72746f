//! The corridor without its tasks: read, decide, seal, apply, compose.
//!
//! Owns: the one sequence of steps that the router, `route`, the demo and the simulation all take.
//! Never: waits or touches a file or socket; durability and carriage are its callers' business.
//! Holds: what it hands out to be carried names the entry that must be durable first.

mod compose;

use std::collections::BTreeMap;

use bytes::Bytes;
use compose::Place;
use tracing::error;

use super::topology;
use crate::{
    contract::{
        Contract,
        audit::{EmergencyId, Entry, Fact, Written},
        digest::Digest,
        lane::Lane,
        message::Message,
        passage,
        secrets::shapes,
        timestamp::Timestamp,
    },
    decision::{
        Decision, decide,
        effect::Effect,
        follow::refusal,
        request::{Arrival, Request},
        state::{Belief, State, steps::CommandStep},
    },
    ledger::{
        Outgoing,
        chain::{Chain, Sealed},
    },
    telemetry::trace,
};

/// The names that the router publishes to.
#[derive(Clone, Debug)]
pub struct Names {
    /// Where carried messages and the router's own words go.
    pub out: String,
    /// Where refused copies go.
    pub refused: String,
    /// Where everybody publishes.
    pub into: String,
    /// What the broker would have dropped of a lane, and where the router puts it back.
    pub dead: String,
    /// Where that is.
    pub returned: String,
    /// What no binding took and is of the urgent lane, and where the router puts it.
    pub unbound: String,
    /// Where that is.
    pub moved: String,
}

impl Names {
    /// The names under a prefix: `<prefix>.out`, `<prefix>.refused`.
    pub fn with_prefix(prefix: &str) -> Self {
        Self {
            out: format!("{prefix}.out"),
            refused: format!("{prefix}.refused"),
            into: format!("{prefix}.in"),
            dead: topology::dead(prefix),
            returned: topology::returned(prefix),
            unbound: topology::unbound(prefix),
            moved: topology::moved(prefix),
        }
    }
}

/// The state and the chain, what it takes to compose messages, and those that wait for their
/// targets.
#[derive(Debug)]
pub struct Corridor {
    state: State,
    chain: Chain,
    names: Names,
    ledger_id: String,
    /// The random bits of this opening; empty in memory, where ids need no more than their places.
    incarnation: String,
    /// The epoch that it writes in; a state that could not be read does not know it.
    epoch: u64,
    /// How many facts have been sealed in this epoch while the ledger could not be written.
    emergencies: u64,
    /// How many messages without an entry have been composed in this epoch.
    unwritten: u64,
    /// Messages that wait for their targets, by their parcels.
    parked: BTreeMap<u64, Kept>,
    /// Writes facts, and refuses what would not be read back.
    write: fn(Fact) -> Result<Written, Box<Fact>>,
}

/// A message that is kept in a parcel of its own.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The parcel.
    pub parcel: u64,
    /// The lane that it takes when it leaves.
    pub lane: Lane,
    /// The message.
    pub outgoing: Outgoing,
}

/// One request, judged: what to write and what to carry once it is written.
#[derive(Debug)]
pub struct Judged {
    /// The decision.
    pub decision: Decision,
    /// Its entries, in order.
    pub sealed: Vec<Sealed>,
    /// Its messages, in order; those with `seq` must wait for that entry.
    pub outgoing: Vec<Outgoing>,
    /// Messages that wait for their targets from now on: each is to be kept in its parcel.
    pub held: Vec<Kept>,
    /// Messages that waited and leave now; their parcels are there already.
    pub released: Vec<Kept>,
    /// Parcels that need no longer be kept.
    pub dropped: Vec<u64>,
    /// The router's own status was asked for.
    pub reports: bool,
    /// What the host is sent for.
    pub errands: Vec<Effect>,
    /// How far commands came by it.
    pub steps: Vec<CommandStep>,
}

impl Judged {
    /// A decision of which nothing is written or composed yet.
    fn of(decision: Decision) -> Self {
        Self {
            sealed: Vec::new(),
            outgoing: Vec::with_capacity(decision.effects.len()),
            held: Vec::new(),
            released: Vec::new(),
            dropped: Vec::new(),
            reports: false,
            errands: Vec::new(),
            steps: Vec::new(),
            decision,
        }
    }
}

/// What a decision is about, as far as composing needs it.
#[derive(Debug, Default)]
struct Source {
    message: Option<Message>,
    recalled: Option<Bytes>,
    returned: Vec<Outgoing>,
}

impl Source {
    /// The arrival itself; a copy where it is needed `again`.
    fn arrival(&mut self, again: bool) -> Option<Message> {
        if again { self.message.clone() } else { self.message.take() }
    }
}

/// Reads a message into the arrival that `decide` judges (gates 1 and 2).
pub fn read(contract: &Contract, message: &Message, redelivered: bool) -> Arrival {
    Arrival {
        routing_key: message.routing_key.clone(),
        user_id: message.properties.user_id.clone(),
        replay: passage::replay(&message.properties),
        redelivered,
        body: Digest::of(&message.body),
        body_bytes: message.body.len(),
        expiration_ms: message.properties.expiration.as_deref().and_then(|text| text.parse().ok()),
        trace_id: trace::id(message).map(str::to_owned),
        was_dropped: false,
        subject: contract.read(message),
    }
}

impl Corridor {
    /// A corridor over a state and the chain it was folded from.
    pub fn new(state: State, chain: Chain, names: Names) -> Self {
        let ledger_id = state.genesis().map(|genesis| genesis.ledger_id.clone()).unwrap_or_default();
        let (epoch, incarnation) = (state.epoch(), state.incarnation().to_owned());
        Self {
            state,
            chain,
            names,
            ledger_id,
            incarnation,
            epoch,
            emergencies: 0,
            unwritten: 0,
            parked: BTreeMap::new(),
            write: Written::of,
        }
    }

    /// Where it publishes.
    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// Takes back the messages of parcels that the outbox keeps for commands that wait for their
    /// targets.
    pub fn park(&mut self, kept: Vec<Kept>) {
        kept.into_iter().for_each(|kept| self.keep(kept));
    }

    fn keep(&mut self, kept: Kept) {
        let (parcel, body_bytes) = (kept.parcel, kept.outgoing.message.body.len());
        self.state.believe(&Belief::Kept { parcel, body_bytes });
        self.parked.insert(parcel, kept);
    }

    fn let_go(&mut self, parcel: u64) -> Option<Kept> {
        self.state.believe(&Belief::LetGo { parcel });
        self.parked.remove(&parcel)
    }

    /// How many messages wait for their targets or confirmations.
    pub fn parked_count(&self) -> usize {
        self.parked.len()
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
        self.epoch = self.state.epoch();
        self.state.incarnation().clone_into(&mut self.incarnation);
        if self.ledger_id.is_empty() {
            self.ledger_id =
                self.state.genesis().map(|genesis| genesis.ledger_id.clone()).unwrap_or_default();
        }
        sealed
    }

    /// Gives a fact that was recorded and could not be written its place among those that are
    /// sealed meanwhile.
    pub fn give_emergency_id(&mut self, sealed: &mut Sealed) {
        sealed.entry.fact.emergency_id = Some(self.next_emergency(0));
        self.emergencies += 1;
    }

    /// Writes an entry's fact anew at the end of the chain, with the digests of the messages that
    /// left because of it, and under the emergency id that it has.
    pub fn record_again(&mut self, entry: Entry) -> Sealed {
        let sealed = self.chain.seal(entry.fact, entry.out);
        self.state.apply(sealed.entry.seq, &sealed.entry.fact);
        sealed
    }

    /// Gives up the messages that wait for their targets, for another state to take those that it
    /// knows of.
    pub fn take_parked(&mut self) -> Vec<Kept> {
        std::mem::take(&mut self.parked).into_values().collect()
    }

    /// Goes on from another state and chain. The epoch, and the counts of messages without an entry
    /// and of emergency ids, go on too: no id is given twice within an epoch.
    pub fn resume(&mut self, state: State, chain: Chain, parked: Vec<Kept>) {
        (self.state, self.chain) = (state, chain);
        self.parked.clear();
        // What the other state does not know was decided in what is given up, and comes again.
        let known = self.state.kept_parcels();
        self.park(parked.into_iter().filter(|kept| known.contains(&kept.parcel)).collect());
    }

    /// Decides, changing nothing.
    pub fn decide(&self, request: &Request, now: Timestamp) -> Decision {
        decide(&self.state, request, now)
    }

    /// The first matter that is due by `now`, judged; `None` when nothing is. There may be more.
    pub fn due(&mut self, now: Timestamp) -> Option<Judged> {
        let deadline = self.state.next_deadline()?;
        (deadline <= now).then(|| {
            let decision = self.decide(&Request::Due, now);
            self.settle(decision, None, None)
        })
    }

    /// What a stopping router writes last.
    pub fn close(&mut self, now: Timestamp) -> Vec<Sealed> {
        let decision = self.decide(&Request::Closing, now);
        self.settle(decision, None, None).sealed
    }

    /// Seals, applies and composes a decision. `source` is the message it was about; `recalled` is
    /// the outcome that a `Repeat` publishes again.
    pub fn settle(&mut self, decision: Decision, source: Option<Message>, recalled: Option<Bytes>) -> Judged {
        self.settle_from(decision, Source { message: source, recalled, returned: Vec::new() })
    }

    /// Seals, applies and composes the decision about the broker's answer; `returned` are the
    /// messages of the signals that came back.
    pub fn settle_answer(&mut self, decision: Decision, returned: Vec<Outgoing>) -> Judged {
        self.settle_from(decision, Source { returned, ..Source::default() })
    }

    fn settle_from(&mut self, mut decision: Decision, source: Source) -> Judged {
        let facts = match self.written(std::mem::take(&mut decision.facts)) {
            Ok(facts) => facts,
            Err(fact) => {
                error!(action = fact.action.word(), at = %fact.at, "a fact does not read back as it is written; it is refused");
                decision = refusal::unwritable(&self.state, &decision, &fact);
                // Plain words of our own: where even they do not read back, nothing is written and
                // the alert alone leaves.
                self.written(std::mem::take(&mut decision.facts)).unwrap_or_default()
            }
        };
        self.settle_written(decision, facts, source)
    }

    /// The facts with their bytes, and with the ids that they get while the ledger cannot be
    /// written.
    ///
    /// # Errors
    /// The first that does not read back.
    fn written(&self, facts: Vec<Fact>) -> Result<Vec<Written>, Box<Fact>> {
        let writable = self.state.ledger_writable();
        let ids =
            (self.emergencies + 1..).map(|n| (!writable).then_some(EmergencyId { epoch: self.epoch, n }));
        let written = facts.into_iter().zip(ids).map(|(mut fact, id)| {
            fact.emergency_id = id;
            // Words of ours may repeat what somebody said.
            fact.detail = fact.detail.map(shapes::written);
            (self.write)(fact)
        });
        written.collect()
    }

    fn settle_written(&mut self, decision: Decision, facts: Vec<Written>, mut source: Source) -> Judged {
        let seq = (!facts.is_empty()).then(|| self.chain.next_seq());
        let arrived = facts.first().and_then(|written| written.fact().body);
        let mut judged = Judged::of(decision);
        judged.sealed.reserve_exact(facts.len());
        let effects = std::mem::take(&mut judged.decision.effects);
        let mut out: Vec<Vec<Digest>> = vec![Vec::new(); facts.len()];
        // Before the facts are sealed: an entry holds the digests of its messages, and their ids
        // hold its number.
        for (ordinal, effect) in effects.iter().enumerate() {
            let place = Place::of(effect, seq, ordinal as u32);
            match effect {
                Effect::Report => judged.reports = true,
                Effect::Bundle { .. } | Effect::Unlatch { .. } => judged.errands.push(effect.clone()),
                Effect::Keep { .. } | Effect::Release { .. } | Effect::Drop { .. } => {
                    self.move_parked(effect, seq.unwrap_or_default(), &mut source.returned, &mut judged);
                }
                _ => {
                    let rest = effects.get(ordinal + 1..).unwrap_or_default();
                    let again = rest.iter().any(Effect::needs_arrival);
                    let Some(leaving) = self.compose(&judged.decision, effect, place, &mut source, again)
                    else {
                        continue;
                    };
                    if leaving.seq > 0
                        && let Some(out) = out.get_mut(place.fact)
                    {
                        out.push(digest(arrived, effect, &leaving));
                    }
                    if *effect == Effect::Hold {
                        let kept = Kept { parcel: leaving.seq, lane: Lane::Signals, outgoing: leaving };
                        self.keep(kept.clone());
                        judged.held.push(kept);
                    } else {
                        judged.outgoing.push(leaving);
                    }
                }
            }
        }
        for (fact, out) in facts.into_iter().zip(out) {
            self.emergencies += u64::from(fact.fact().emergency_id.is_some());
            // Before it is applied: a command that it ends is in flight no more then, and nobody
            // could say how long it took.
            judged.steps.extend(self.state.steps(fact.fact()));
            let entry = self.chain.seal_written(fact, out);
            self.state.apply(entry.entry.seq, &entry.entry.fact);
            judged.sealed.push(entry);
        }
        for belief in &judged.decision.beliefs {
            self.state.believe(belief);
        }
        judged.decision.effects = effects;
        debug_assert_eq!(
            self.state.kept_bytes(),
            self.parked.values().map(|kept| kept.outgoing.message.body.len()).sum::<usize>()
        );
        judged
    }

    /// Moves a message into, out of, or away from those that wait; `first` is the decision's first
    /// entry.
    fn move_parked(
        &mut self,
        effect: &Effect,
        first: u64,
        returned: &mut Vec<Outgoing>,
        judged: &mut Judged,
    ) {
        match effect {
            Effect::Keep { fact, seq, ordinal, urgent } => {
                let came_back = |back: &Outgoing| (back.seq, back.ordinal) == (*seq, *ordinal);
                let Some(index) = returned.iter().position(came_back) else { return };
                let lane = if *urgent { Lane::Urgent } else { Lane::Signals };
                let kept = Kept { parcel: first + *fact as u64, lane, outgoing: returned.swap_remove(index) };
                self.keep(kept.clone());
                judged.held.push(kept);
            }
            Effect::Release { parcel, .. } => match self.let_go(*parcel) {
                Some(kept) => judged.released.push(kept),
                None => error!(
                    parcel,
                    "a command that waited is to leave, and its message is gone: it does not leave, and ends by its deadline"
                ),
            },
            Effect::Drop { parcel } => {
                self.let_go(*parcel);
                judged.dropped.push(*parcel);
            }
            _ => {}
        }
    }
}

/// The digest of a leaving body; the arrival's own is known, and it leaves as it came.
fn digest(arrived: Option<Digest>, effect: &Effect, leaving: &Outgoing) -> Digest {
    arrived.filter(|_| effect.is_of_arrival()).unwrap_or_else(|| Digest::of(&leaving.message.body))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        contract::{audit::Verdict, strict::Limits},
        decision::rules::Rules,
    };

    /// No message makes such a fact any more; one stands in for the next that does.
    fn refuses_the_poisoned(fact: Fact) -> Result<Written, Box<Fact>> {
        if fact.correlation_id.as_deref() == Some("poison") { Err(Box::new(fact)) } else { Written::of(fact) }
    }

    fn stop(name: &str) -> Message {
        let body = json!({
            "timestamp": "2026-03-04T10:15:00Z", "version": "1", "kind": "signal", "type": "bot-stop",
            "origin": "orc", "scope": { "swarmId": "kestrel", "role": "worker", "instance": "w-1" },
            "correlationId": name, "idempotencyKey": name, "data": {},
        });
        Message {
            exchange: "swarmgate.in".to_owned(),
            routing_key: "signal.bot-stop.kestrel.worker.w-1".to_owned(),
            properties: Default::default(),
            body: body.to_string().into(),
        }
    }

    #[test]
    fn what_does_not_read_back_is_refused_with_an_alert_and_never_written() {
        let contract = Contract::built_in(Limits::default()).unwrap();
        let names = Names::with_prefix("swarmgate");
        let mut corridor = Corridor::new(State::new(Rules::default()), Chain::new(), names);
        corridor.write = refuses_the_poisoned;
        let now = Timestamp::parse("2026-03-04T10:15:01Z").unwrap();
        let mut judge = |name: &str| {
            let message = stop(name);
            let arrival = read(&contract, &message, false);
            let decision = corridor.decide(&Request::Arrived(Box::new(arrival)), now);
            corridor.settle(decision, Some(message), None)
        };
        let refused = judge("poison");
        assert_eq!(refused.decision.verdict, Some(Verdict::Refuse));
        let written: String =
            refused.sealed.iter().map(|sealed| String::from_utf8_lossy(&sealed.bytes)).collect();
        assert!(!written.contains("poison"), "{written}");
        let left: Vec<_> = refused.outgoing.iter().map(|left| left.message.exchange.as_str()).collect();
        assert_eq!(left, ["swarmgate.refused", "swarmgate.out"], "the copy, and the alert");
        let alert = String::from_utf8_lossy(&refused.outgoing[1].message.body).into_owned();
        assert!(alert.contains("audit.not-readable"), "{alert}");
        let next = judge("sound");
        assert_eq!(next.decision.verdict, Some(Verdict::Forward));
        assert_eq!(next.sealed[0].entry.seq, 2, "and the chain goes on");
    }
}
