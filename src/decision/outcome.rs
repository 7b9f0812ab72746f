//! What comes of a request: the decision, and how its facts and effects are built.
//!
//! Owns: `Decision`, where a message goes (`Carriage`), and the fact of an arrival.
//! Never: takes an effect back: where a message goes is decided before its effects are built, and
//! `Effects` only grows.
//! Holds: a router that only looks has no effects, whatever is decided.

use std::ops::Deref;

use crate::{
    contract::{
        audit::{Change, Fact, Verdict},
        reason::Refusal,
    },
    decision::{
        effect::Effect,
        state::{Belief, State},
    },
};

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The verdict; `None` for what is not an envelope.
    pub verdict: Option<Verdict>,
    /// Why, where it is a no or a suppressed repeat.
    pub refusal: Option<Refusal>,
    /// The sender, as far as it is known.
    pub principal: Option<String>,
    /// What to remember for ever, in order.
    pub facts: Vec<Fact>,
    /// Changes of the observed half of the state: in memory only, without an entry.
    pub beliefs: Vec<Belief>,
    /// What to do, in order, once the entry of the first fact is durable (at once where there is no
    /// fact).
    pub effects: Effects,
}

impl Decision {
    /// A decision of which nothing is known yet.
    pub fn new(state: &State) -> Self {
        Self {
            verdict: None,
            refusal: None,
            principal: None,
            facts: Vec::new(),
            beliefs: Vec::new(),
            effects: Effects { acts: !state.only_looks(), list: Vec::new() },
        }
    }

    /// How many commands are remembered by it.
    pub(super) fn accepted_count(&self) -> usize {
        let binds =
            // Without a key nothing is remembered, so that no room is taken.
            |fact: &&Fact| matches!(&fact.change, Change::Accepted(accepted) if accepted.command.is_some());
        self.facts.iter().filter(binds).count()
    }
}

/// Effects in their order, which numbers the messages that leave by them. There is no way to change
/// or remove one.
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
        // The arrival's own message has ordinal 0: by that a return of a command is told from a
        // return of what is said of it (`Carried::COMMAND_ORDINAL`).
        debug_assert!(self.list.is_empty() || !matches!(effect, Effect::Forward(_) | Effect::Hold));
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
    /// Published to `<prefix>.out`.
    Forwarded,
    /// Kept in the outbox until its target shows itself.
    Parked,
    /// Published nowhere: the router answers it itself.
    Answered,
}

impl Carriage {
    /// The verdict that its entry has.
    pub const fn verdict(self) -> Verdict {
        match self {
            // What is answered passed every gate as well, and no other of the five verdicts says
            // so.
            Self::Forwarded | Self::Answered => Verdict::Forward,
            Self::Parked => Verdict::Park,
        }
    }
}
