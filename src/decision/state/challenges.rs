//! Challenges: open ones, and those that are over.
//!
//! Owns: what is remembered of a dangerous command that waits to be confirmed, and of how that
//! ended.
//! Never: decides whether a confirmation counts; gate 11 did.
//! Holds: the first word on a challenge stands.

use crate::{
    contract::{
        Said,
        audit::{Accepted, Fact},
        interlock::{Challenged, Confirmed, Reviewed, Right},
        read,
        reason::Reason,
        routing::{Family, RoutingKey},
        timestamp::Timestamp,
    },
    decision::state::{
        Recorded, State,
        challenge::{Challenge, Closed},
        flight::Flight,
        key::{self, Short},
        leaving::Leaving,
    },
};

impl Recorded {
    /// Somebody else has looked at a use of break-glass.
    pub(super) fn reviewed(&mut self, reviewed: &Reviewed) {
        if let Some(closed) = self.closed.get_mut(&reviewed.challenge_id) {
            closed.unreviewed = false;
        }
    }

    /// A dangerous command waits: its key is bound, and its challenge is its deadline.
    pub(super) fn challenged(&mut self, seq: u64, fact: &Fact, challenged: &Challenged) {
        let accepted = Accepted {
            // The instant of expiry is within the window.
            deadline: Some(Timestamp::from_micros(challenged.expires_at.micros() + 1)),
            // An earlier release wrote of some that they were parked: they would leave unconfirmed.
            parked: false,
            ..challenged.accepted.clone()
        };
        let challenge = Challenge {
            id: challenged.challenge_id.clone(),
            expires_at: challenged.expires_at.micros(),
            // An entry of an older release has no words of its own.
            operation: match challenged.operation.as_str() {
                "" => fact.subject.as_ref().map(|subject| subject.kind_type.clone()).unwrap_or_default(),
                operation => operation.to_owned(),
            },
            effect: (challenged.effect.clone(), challenged.not_affected.clone()),
            requires: challenged.requires.clone(),
            confirmed_by: Vec::new(),
            complete: false,
            let_go: false,
            text: fact.payload.as_ref().map(|payload| payload.text().to_owned()).unwrap_or_default(),
            compared: accepted.compared,
            held: challenged.held,
        };
        self.accept(seq, fact, &accepted, Some(Box::new(challenge)));
    }

    pub(super) fn confirmed(&mut self, confirmed: &Confirmed) {
        let key = key::short(confirmed.command);
        let deadline = confirmed.deadline.map(Timestamp::micros);
        let complete = confirmed.complete.is_some();
        self.flights.confirm(key, &confirmed.by, complete, deadline, &confirmed.targets);
        if let Some(Right::Standing(name)) = &confirmed.complete {
            *self.standing_uses.entry(name.clone()).or_default() += 1;
        }
        let Some(flight) = self.flights.get(key) else { return };
        let (scope, leads_to) = (flight.scope.clone(), flight.leads_to);
        let broke_glass = confirmed.complete == Some(Right::BreakGlass);
        // What a gate refused after its confirmation was never carried, and nothing can be its
        // answer.
        if confirmed.deadline.is_some()
            && let Some(known) = self.commands.get(&key)
        {
            let late = known.late;
            self.started(&scope, late, leads_to, false);
        }
        self.close(key, Reason::ChallengeUsed, broke_glass, complete);
    }

    /// Remembers how a challenge ended, for who comes too late.
    pub(super) fn close(&mut self, key: Short, why: Reason, unreviewed: bool, is_over: bool) {
        let Some(flight) = self.flights.get(key).filter(|_| is_over) else { return };
        let Some(challenge) = &flight.challenge else { return };
        let (requester, kind_type) = (flight.sender.principal.clone(), flight.kind_type.clone());
        let closed = Closed { why, requester, kind_type, scope: flight.scope.clone(), unreviewed };
        let id = challenge.id.clone();
        // The first word on a challenge stands.
        if !self.closed.contains_key(&id) {
            self.leaving.push_back((self.last_at, Leaving::Challenge(id.as_str().into())));
            self.closed.insert(id, closed);
        }
    }
}

impl State {
    /// The commands with open challenges, and those confirmed that are in flight still, by their
    /// challenges' ids.
    pub fn challenged(&self) -> impl Iterator<Item = &Flight> {
        self.recorded.flights.challenged()
    }

    /// A challenge that is over.
    pub fn challenge_closed(&self, id: &str) -> Option<&Closed> {
        self.recorded.closed.get(id)
    }

    /// The challenges that are over, by id.
    pub fn challenges_closed(&self) -> impl Iterator<Item = (&str, &Closed)> {
        self.recorded.closed.iter().map(|(id, closed)| (id.as_str(), closed))
    }

    /// How many commands wait for their confirmation.
    pub fn challenges_open(&self) -> usize {
        self.challenged().filter(|flight| flight.awaits_confirmation()).count()
    }

    pub(in crate::decision) fn standing_uses(&self, name: &str) -> u64 {
        self.recorded.standing_uses.get(name).copied().unwrap_or_default()
    }

    /// How many challenges are remembered, open or over.
    pub(in crate::decision) fn challenges_count(&self) -> usize {
        self.recorded.closed.len() + self.recorded.flights.challenges_count()
    }

    /// Whether one more use of break-glass can wait for its review.
    pub(in crate::decision) fn has_room_for_review(&self) -> bool {
        let unreviewed = self.recorded.closed.values().filter(|closed| closed.unreviewed);
        unreviewed.count() < self.rules.memory.unreviewed_max
    }

    /// Whether the uses of a standing approval can be counted.
    pub(in crate::decision) fn counts_uses(&self, name: &str) -> bool {
        let uses = &self.recorded.standing_uses;
        uses.contains_key(name) || uses.len() < self.rules.memory.approvals_max
    }
}

/// The challenged command as it was said.
pub(in crate::decision) fn stored(state: &State, flight: &Flight) -> Option<Said> {
    let challenge = flight.challenge.as_ref()?;
    let envelope = read::accepted(&challenge.text)?;
    let class = state.rules().commands.get(&flight.kind_type)?.class;
    Some(Said {
        key: routing_key(flight),
        envelope,
        class: Some(class),
        compared: challenge.compared,
        payload: None,
    })
}

pub(in crate::decision) fn routing_key(flight: &Flight) -> RoutingKey {
    RoutingKey { family: Family::Signal, kind_type: flight.kind_type.clone(), scope: flight.scope.clone() }
}
