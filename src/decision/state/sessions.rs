//! Workers' control sessions, as they are remembered.
//!
//! Owns: every worker's last session, and when something was heard of it.
//! Never: judges a message; gate 7 does.
//! Holds: nobody is lost in time in which nobody could be heard.

use crate::{
    contract::{interlock::SessionMoved, routing::Scope, timestamp::Timestamp},
    decision::{
        session::Session,
        state::{Observed, Recorded, State, leaving::Leaving},
    },
};

impl Recorded {
    /// Sessions came to a phase.
    pub(super) fn session_moved(&mut self, moved: &SessionMoved, at: i64) {
        for worker in &moved.workers {
            let session = Session::after(self.sessions.get(worker), moved.phase, at);
            if !session.stands() {
                self.leaving.push_back((at, Leaving::Session(Box::new(worker.clone()))));
            }
            self.sessions.insert(worker.clone(), session);
        }
    }
}

impl Observed {
    /// Takes a status, `ready` or `heartbeat` of a worker as a sign of life, where its session
    /// stands.
    pub fn heard(&mut self, worker: &Scope, at: Timestamp) {
        // Only of a session that stands: others take no room here, and are not lost.
        if let Some(heard) = self.session_heard.get_mut(worker) {
            *heard = at.micros().max(*heard);
        }
    }

    /// Nobody could be heard before now: every session that stands counts from here.
    pub fn hear_all<'a>(
        &mut self,
        sessions: impl Iterator<Item = (&'a Scope, &'a Session)>,
        at: Timestamp,
        lost_ms: u64,
    ) {
        for (worker, _) in sessions.filter(|(_, session)| session.stands()) {
            let heard = self.session_heard.entry(worker.clone()).or_default();
            *heard = at.micros().max(*heard);
        }
        self.session_look = (!self.session_heard.is_empty()).then(|| at.plus_ms(lost_ms).micros());
    }
}

impl State {
    /// A worker's control session, the last one it had.
    pub fn session(&self, worker: &Scope) -> Option<&Session> {
        self.recorded.sessions.get(worker)
    }

    /// Every worker's session.
    pub fn sessions(&self) -> impl Iterator<Item = (&Scope, &Session)> {
        self.recorded.sessions.iter()
    }

    /// Whether a swarm has a worker of that instance name whose session is ready.
    pub(in crate::decision) fn worker_is_ready(&self, swarm: &str, instance: &str) -> bool {
        // Scopes are ordered by their instance first.
        let first = Scope::new("", "", instance);
        let of_name =
            self.recorded.sessions.range(first..).take_while(|(scope, _)| scope.instance == instance);
        let mut of_swarm = of_name.filter(|(scope, _)| scope.swarm_id == swarm);
        of_swarm.any(|(_, session)| session.is_ready())
    }

    /// The workers of a scope whose sessions stand.
    pub(in crate::decision) fn sessions_standing<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> impl Iterator<Item = &'a Scope> {
        let covered = self.recorded.sessions.iter().filter(|(worker, _)| scope.covers(worker));
        covered.filter(|(_, session)| session.stands()).map(|(worker, _)| worker)
    }

    /// The workers of whose standing sessions nothing was heard for too long, and when to look
    /// again; `None` when it is not time to look.
    pub(in crate::decision) fn sessions_lost(
        &self,
        now: Timestamp,
    ) -> Option<(Vec<Scope>, Option<Timestamp>)> {
        self.observed.session_look.filter(|look| *look <= now.micros() && self.ledger_writable())?;
        let ends = |heard: i64| Timestamp::from_micros(heard).plus_ms(self.rules.session_lost_after_ms);
        let mut lost = Vec::new();
        let mut next = None;
        for (worker, heard) in &self.observed.session_heard {
            match ends(*heard) {
                end if end <= now => lost.push(worker.clone()),
                end => next = next.into_iter().chain([end]).min(),
            }
        }
        Some((lost, next))
    }

    /// How many workers' sessions are remembered.
    pub(in crate::decision) fn sessions_count(&self) -> usize {
        self.recorded.sessions.len()
    }
}
