//! The recorded half of the interlock: bots' lives, starts, and challenges.
//!
//! Owns: what the facts of the lifecycle and of dangerous operations do.
//! Never: decides whether a step is legal or a confirmation counts; the gates did.
//! Holds: the first word on a challenge stands; a quarantine is newer than every release that was asked for before it.

use super::{
    payload::word,
    recorded::{Leaving, Recorded},
};
use crate::{
    contract::{
        audit::{Accepted, EvidenceKind, Fact, Subject},
        interlock::{Challenged, Confirmed, Life, Moved, Right},
        reason::Reason,
        routing::Scope,
        timestamp::Timestamp,
    },
    decision::{
        command::{
            self,
            challenge::{Challenge, Closed},
            flight::Short,
            short,
        },
        lifecycle::{self, Bot, Started, Step},
    },
};

impl Recorded {
    /// A dangerous command waits: its key is bound, and its challenge is its deadline.
    pub(super) fn challenged(&mut self, seq: u64, fact: &Fact, challenged: &Challenged) {
        let accepted = Accepted {
            // The instant of expiry is within the window.
            deadline: Some(Timestamp::from_micros(challenged.expires_at.micros() + 1)),
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
        let key = short(confirmed.command);
        let deadline = confirmed.deadline.map(Timestamp::micros);
        let complete = confirmed.complete.is_some();
        self.flights.confirm(key, &confirmed.by, complete, deadline, &confirmed.targets);
        if let Some(Right::Standing(name)) = &confirmed.complete {
            *self.standing_uses.entry(name.clone()).or_default() += 1;
        }
        let Some(flight) = self.flights.get(key) else { return };
        let (scope, leads_to) = (flight.scope.clone(), flight.leads_to);
        let broke_glass = confirmed.complete == Some(Right::BreakGlass);
        // What a gate refused after its confirmation was never carried, and nothing can be its answer.
        if confirmed.deadline.is_some()
            && let Some(known) = self.commands.get(&key)
        {
            let late = known.late;
            self.started(&scope, late, leads_to);
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

    /// A quarantine was accepted: no release that was asked for before opens it.
    pub(super) fn quarantined(&mut self, scope: &Scope, seq: u64) {
        if !scope.fans_out() {
            let at = self.last_at;
            self.bots.entry(scope.clone()).or_insert_with(|| Bot::created(at)).quarantined = seq;
            return;
        }
        self.bots.iter_mut().filter(|(bot, _)| scope.covers(bot)).for_each(|(_, bot)| bot.quarantined = seq);
    }

    /// A start was accepted: what its success will be recognised by.
    pub(super) fn started(&mut self, scope: &Scope, trace: Short, leads_to: Option<Life>) {
        let Some(leads_to) = leads_to else { return };
        let bot = self.bots.entry(scope.clone()).or_insert_with(|| Bot::created(self.last_at));
        bot.starts.push(Started { trace, leads_to, open: true });
        if bot.starts.len() > lifecycle::STARTS_MAX {
            bot.starts.remove(0);
        }
    }

    /// A bot says that it runs: a later word of the same start is a repeat.
    pub(super) fn start_answered(&mut self, fact: &Fact, subject: &Subject) {
        if Step::of(&subject.kind_type) != Some(Step::Start)
            || word(fact, EvidenceKind::Outcome).as_deref() != Some("Running")
        {
            return;
        }
        let Some(bot) = self.bots.get_mut(&subject.scope) else { return };
        let trace = command::late(&subject.kind_type, fact.correlation_id.as_deref().unwrap_or_default());
        for start in bot.starts.iter_mut().filter(|start| start.trace == trace) {
            // Where a stop or a quarantine has the last word on its state, it runs live all the same until it obeys.
            bot.live |= start.open && start.leads_to == Life::RunningLive;
            start.open = false;
        }
    }

    pub(super) fn moved(&mut self, moved: &Moved, at: i64) {
        for step in &moved.bots {
            let bot = self.bots.entry(step.scope.clone()).or_insert_with(|| Bot::created(at));
            bot.comes_to(step.to, at);
        }
    }
}
