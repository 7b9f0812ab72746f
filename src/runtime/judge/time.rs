//! What the router does because time has passed: what is due, its own status, and time that does
//! not count.
//!
//! Owns: asking for what has fallen due, noting that the broker is away or back, and saying how the
//! router is.
//! Never: decides what follows; `decide` does.
//! Holds: nothing falls due while there is no broker to carry what follows from it.

use tracing::warn;

use super::{DUE_PER_ROUND_MAX, Outcome, Router, view};
use crate::{
    clock::Look,
    contract::{
        audit::{Action, Change, Fact, Mode, Resumed},
        lane::Lane,
        schema::{STATUS_DELTA, STATUS_FULL},
        timestamp::Timestamp,
    },
    decision::{
        request::{Compared, Done, Request},
        state::Belief,
    },
    runtime::dispatch::Job,
};

impl Router {
    /// Sends the router's own status, as every instance does: a delta every few seconds; in full at
    /// first, once the depths of its queues are known, every `status.full_every_ms`, so that who
    /// listens later learns it, and on request.
    pub(super) fn report(&mut self, kind_type: &'static str, outcome: &mut Outcome) {
        // Without a broker nobody hears it, and what waits to be said only piles up.
        let away = self.memory.away_since.is_some();
        if away || self.corridor.state().rules().mode == Mode::Observe || self.memory.unwritten.is_some() {
            return;
        }
        let now = self.clock.now();
        let knows_depths = !self.about.depths.borrow().is_empty();
        let is_due = self.memory.reported.is_none_or(|(at, knew_depths)| {
            at.plus_ms(self.about.full_every_ms) <= now || knows_depths && !knew_depths
        });
        let full = kind_type == STATUS_FULL || is_due;
        if full {
            self.memory.reported = Some((now, knows_depths));
        }
        let view = view(&self.corridor, &self.telemetry, &self.about, &self.clock);
        let (data, now) = (view.own_status(full), view.now);
        let leaving = self.corridor.report(if full { STATUS_FULL } else { STATUS_DELTA }, data, now);
        outcome.jobs.push(Job { lane: Lane::Metrics, messages: vec![leaving.into()], ..Job::default() });
    }

    /// What the host has seen or done: it goes by the urgent lane, because a latch does.
    pub(super) fn take_in(&mut self, done: Vec<Done>, outcome: &mut Outcome) {
        for done in done {
            let decision = self.corridor.decide(&Request::Done(done), self.clock.now());
            let judged = self.corridor.settle(decision, None, None);
            let job = self.keep(judged, outcome);
            if !job.messages.is_empty() {
                outcome.jobs.push(Job { lane: Lane::Urgent, ..job });
            }
        }
    }

    /// Compares the wall's clock with the router's own, and follows it where that may be.
    pub(super) fn compare_clocks(&mut self, outcome: &mut Outcome) {
        let compared = match self.clock.look() {
            Look::Apart { wall } => Compared::Apart { wall },
            Look::Agrees => Compared::Agree,
            Look::Ahead { by } => {
                warn!(
                    seconds = by.as_secs(),
                    "the clock has jumped ahead: the machine has slept, or it was set"
                );
                self.resumed(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), self.clock.now(), outcome);
                Compared::Agree
            }
        };
        self.telemetry.clock(self.clock.now(), compared);
        self.take_in(vec![Done::Compared(compared)], outcome);
    }

    /// What has fallen due, while there is a broker to carry what follows from it.
    pub(super) fn due(&mut self, now: Timestamp, outcome: &mut Outcome) {
        for _ in 0..DUE_PER_ROUND_MAX {
            if self.memory.away_since.is_some() {
                return;
            }
            let Some(due) = self.corridor.due(now) else { return };
            let job = self.keep(due, outcome);
            if !job.messages.is_empty() {
                // By the way of what it says to signals: there is one order for all its own.
                outcome.jobs.push(Job { lane: Lane::Signals, ..job });
            }
        }
    }

    /// Notes that the broker is away, or back: time without it counts toward no deadline.
    pub(super) fn resume(&mut self, now: Timestamp, outcome: &mut Outcome) {
        if self.memory.catching_up.is_some_and(|until| until <= now) {
            self.memory.catching_up = None;
            self.corridor.state_mut().believe(&Belief::Back(now));
        }
        let connected = self.bus.link.now().is_some();
        let Some(since) = self.memory.away_since else {
            if !connected {
                self.memory.away_since = Some(now);
                self.memory.catching_up = None;
                self.corridor.state_mut().believe(&Belief::Away(now));
            }
            return;
        };
        // How long it was is a fact, and there are none while the ledger cannot be written.
        if !connected || self.memory.unwritten.is_some() {
            return;
        }
        self.memory.away_since = None;
        self.memory.catching_up = Some(now.plus_ms(self.corridor.state().rules().catch_up_ms));
        let paused_ms = now.micros().saturating_sub(since.micros()) / 1000;
        self.resumed(u64::try_from(paused_ms).unwrap_or_default(), now, outcome);
    }

    /// Time in which nothing was consumed counts toward no deadline.
    fn resumed(&mut self, paused_ms: u64, now: Timestamp, outcome: &mut Outcome) {
        if self.corridor.state().commands_in_flight() > 0 {
            let resumed = Resumed { catch_up_ms: self.corridor.state().rules().catch_up_ms, paused_ms };
            let fact = Fact::new(Action::Resumed, now, Change::Resumed(resumed));
            outcome.sealed.push(self.corridor.record(fact));
        }
    }
}
