//! The recorded half: the fold of facts.
//!
//! Owns: which record each fact changes.
//! Never: reads anything but the fact it is given: what a later decision must repeat is in the
//! ledger.
//! Holds: fold(ledger) gives the same digest on every machine, whatever the bounds are now: a fact
//! says what there was no room for.

use crate::{
    contract::{
        audit::{Change, Fact, Stepped},
        timestamp::Timestamp,
    },
    decision::state::{Recorded, key},
};

impl Recorded {
    /// Folds a fact in. `window_ms` is how long commands, results and stops are remembered.
    pub fn apply(&mut self, seq: u64, fact: &Fact, window_ms: u64) {
        let (at, before) = (fact.at.micros(), self.last_at);
        self.last_seq = seq;
        // A fact that is dated earlier does not turn time back; only `Stepped` does.
        self.last_at = before.max(at);
        self.newest_emergency = self.newest_emergency.max(fact.emergency_id);
        self.forget(at, window_ms);
        match &fact.change {
            Change::None | Change::Tallied(_) => {}
            Change::Carried(carried) => self.carried(carried, fact.at),
            Change::Genesis(genesis) => {
                self.safety.global.mode = Some(genesis.initial_mode);
                self.genesis = Some(genesis.clone());
            }
            Change::Opened(opened) => {
                self.epoch = opened.epoch;
                self.incarnation.clone_from(&opened.incarnation);
                self.settings.opened(opened.settings.as_ref());
                let not_before = fact.at.plus_ms(opened.catch_up_ms).micros();
                self.flights.put_off(at.saturating_sub(before).max(0), not_before);
            }
            Change::Resumed(resumed) => {
                let paused = Timestamp::from_micros(0).plus_ms(resumed.paused_ms).micros();
                self.flights.put_off(paused, fact.at.plus_ms(resumed.catch_up_ms).micros());
            }
            Change::Stepped(stepped) => self.step(stepped),
            Change::Accepted(accepted) => self.accept(seq, fact, accepted, None),
            Change::Ended(ended) => self.end(seq, fact, ended),
            Change::Result(result) => self.result(seq, fact, result),
            Change::Observed(of) => self.flights.observe(key::short(of.command), at),
            Change::Parked(of) => self.flights.park(key::short(of.command), seq, at),
            Change::Released(of) => self.flights.unpark(key::short(of.command)),
            Change::Presence(presence) => self.presence(fact, presence.now),
            Change::Moved(moved) => self.moved(seq, moved, at),
            Change::Session(moved) => self.session_moved(moved, at),
            Change::Safety(set) => self.safety.set(set, fact.at),
            Change::Gate(set) => {
                let reporter = fact.actor.as_ref().map(|actor| actor.principal.as_str());
                self.safety.set_gate(set, reporter.unwrap_or_default(), fact.at);
            }
            Change::Monitoring(set) => self.safety.set_monitoring(set, at),
            Change::Challenged(challenged) => self.challenged(seq, fact, challenged),
            Change::Confirmed(confirmed) => self.confirmed(confirmed),
            Change::Reviewed(reviewed) => self.reviewed(reviewed),
            Change::SetBack(_) => self.safety.make_safe(),
            Change::Settings(compared) => {
                self.settings.compared();
                if compared.safe {
                    self.safety.make_safe();
                }
            }
            Change::Suspended(suspended) => {
                self.suspended.insert(&suspended.principal, suspended.until.micros());
            }
        }
    }

    /// The router's time makes a step: what was is past, and what remained until what is to come
    /// remains.
    pub(super) fn step(&mut self, stepped: &Stepped) {
        let past = |at: &mut i64| *at = stepped.past(*at);
        self.last_at = stepped.to.micros();
        self.commands.values_mut().for_each(|command| past(&mut command.first_seen));
        self.stops.values_mut().for_each(past);
        self.applied.step(stepped);
        self.bots.values_mut().for_each(|bot| past(&mut bot.since));
        for session in self.sessions.values_mut() {
            past(&mut session.since);
            session.ready_at.iter_mut().for_each(past);
        }
        self.leaving.iter_mut().for_each(|(at, _)| past(at));
        self.suspended.step(stepped);
        self.known.step(stepped);
        self.flights.step(stepped);
        self.safety.step(stepped);
    }

    /// What must hold after every fact; checked in debug builds.
    pub fn invariants_hold(&self) -> bool {
        let sizes_agree = self.leaving.len() >= self.commands.len() + self.results.len();
        // The indexes are walked only while they are small: debug builds must stay usable.
        sizes_agree && (self.flights.len() > 64 || self.flights.indexes_hold())
    }
}
