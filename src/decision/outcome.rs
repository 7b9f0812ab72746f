//! What comes of a request: the decision, and how its facts and effects are built.
//!
//! Owns: `Decision`, where a message goes (`Carriage`), and the fact of an arrival.
//! Never: takes an effect back: where a message goes is decided before its effects are built, and `Effects` only grows.
//! Holds: a router that only looks has no effects, whatever is decided.

use std::ops::Deref;

use super::{
    effect::Effect,
    request::Arrival,
    state::{Belief, State},
};
use crate::contract::{
    Said,
    audit::{Action, Actor, Change, Fact, Subject, Verdict},
    reason::Refusal,
    timestamp::Timestamp,
};

/// The answer to one request. The default has no effects and gets none.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The verdict; `None` for what is not an envelope.
    pub verdict: Option<Verdict>,
    /// Why, where it is a no or a suppressed repeat.
    pub refusal: Option<Refusal>,
    /// The sender, as far as it is known.
    pub principal: Option<String>,
    /// What to remember for ever, in order.
    pub facts: Vec<Fact>,
    /// What to believe until told otherwise.
    pub beliefs: Vec<Belief>,
    /// What to do, in order, once the entry of the first fact is durable (at once where there is no fact).
    pub effects: Effects,
}

impl Decision {
    /// A decision of which nothing is known yet.
    pub fn new(state: &State) -> Self {
        Self { effects: Effects { acts: !state.only_looks(), list: Vec::new() }, ..Self::default() }
    }
}

/// Effects in their order, which numbers the messages that leave by them. There is no way to change or remove one.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Who only looks says nothing, whatever it sees.
    acts: bool,
    list: Vec<Effect>,
}

impl Effects {
    /// Adds one more.
    pub(super) fn push(&mut self, effect: Effect) {
        if !self.acts {
            return;
        }
        if self.list.is_empty() {
            // Nearly always one and no more; a vector that grows by itself makes room for four.
            self.list.reserve_exact(1);
        }
        self.list.push(effect);
    }
}

impl Extend<Effect> for Effects {
    fn extend<T: IntoIterator<Item = Effect>>(&mut self, effects: T) {
        effects.into_iter().for_each(|effect| self.push(effect));
    }
}

impl Deref for Effects {
    type Target = [Effect];

    fn deref(&self) -> &[Effect] {
        &self.list
    }
}

/// Where a message goes that has passed every gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carriage {
    /// To its subscribers.
    Forwarded,
    /// Nowhere until its target shows itself.
    Parked,
    /// No further: the router answers it itself.
    Answered,
}

impl Carriage {
    /// The verdict that says so.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Forwarded | Self::Answered => Verdict::Forward,
            Self::Parked => Verdict::Park,
        }
    }
}

/// The fact of an arrival: who, what and which body; the caller adds the verdict.
pub(super) fn fact(
    arrival: &Arrival,
    said: Option<&Said>,
    actor: Actor,
    action: Action,
    change: Change,
    now: Timestamp,
) -> Fact {
    let mut fact = Fact::new(action, now, change);
    fact.actor = Some(actor);
    fact.body = Some(arrival.body);
    fact.replay.clone_from(&arrival.replay);
    if let Some(said) = said {
        fact.subject = Some(Subject {
            family: said.key.family,
            scope: said.key.scope.clone(),
            kind_type: said.key.kind_type.clone(),
        });
        fact.correlation_id.clone_from(&said.envelope.correlation_id);
        fact.idempotency_key.clone_from(&said.envelope.idempotency_key);
        fact.payload.clone_from(&said.payload);
    }
    fact
}
