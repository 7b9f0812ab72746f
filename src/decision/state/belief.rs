//! What is believed until told otherwise, and how that changes.
//!
//! Owns: the closed list of beliefs, and `believe`, the only way that the observed half changes.
//! Never: touches what is recorded, but for what follows from the clock.
//! Holds: a belief is gone with the process; nothing that a replay must repeat hangs on one.

use crate::{
    contract::{
        audit::Actor, bound::Bound, digest::Digest, reason::Reason, routing::Scope, timestamp::Timestamp,
    },
    decision::state::{
        State,
        inventory::{Change as Silence, Lifecycle, Status},
        meters::{Breach, MeasuredPlace},
        tallies::Tally,
    },
};

/// A change of the observed half.
#[derive(Clone, Debug, PartialEq)]
pub enum Belief {
    /// The ledger can, or cannot, be written.
    LedgerWritable(bool),
    /// How far the router's time is ahead of the clock, in microseconds; `None` where they agree.
    ClockApart(Option<i64>),
    /// The first refusal of this sender and code in a second: its entry stands for those that
    /// follow.
    TallyOpened {
        /// Digest of sender and code.
        fingerprint: Digest,
        /// Who was refused.
        actor: Actor,
        /// Why.
        reason: Reason,
        /// The second, since the epoch.
        second: i64,
    },
    /// One more of them.
    Tallied {
        /// Digest of sender and code.
        fingerprint: Digest,
        /// Its body.
        body: Digest,
    },
    /// One more of them, with an entry of its own.
    TallyWritten {
        /// Digest of sender and code.
        fingerprint: Digest,
    },
    /// A sender that is not a live bot said that it is.
    Disagreed {
        /// The bot.
        scope: Scope,
        /// When.
        at: Timestamp,
    },
    /// The second is over, and what it counted is written.
    TallyClosed {
        /// Digest of sender and code.
        fingerprint: Digest,
    },
    /// An alert left.
    Alerted {
        /// Digest of what it was about.
        fingerprint: Digest,
        /// When.
        at: Timestamp,
    },
    /// An alert was held back by the limits.
    AlertHeldBack,
    /// Starts of this scope are overtaken: what of them has not left must not leave any more.
    Overtaken(Scope),
    /// There was no room for something.
    BoundHit(Bound),
    /// A message waits for its target or its confirmation.
    Kept {
        /// Its parcel.
        parcel: u64,
        /// The length of its body.
        body_bytes: usize,
    },
    /// A message that was kept has left, or was dropped.
    LetGo {
        /// Its parcel.
        parcel: u64,
    },
    /// A target with parked commands has shown itself.
    Shown {
        /// The target.
        scope: Scope,
        /// From when on its commands are tried again.
        from: Timestamp,
    },
    /// A status was accepted.
    Status(Box<Status>),
    /// A change that fell due in the inventory was decided on.
    Silence(Silence),
    /// The config that an instance would have if what was last applied were all.
    DesiredConfig {
        /// The instance.
        scope: Scope,
        /// Digest of that config.
        config: Digest,
        /// When.
        at: Timestamp,
    },
    /// An outcome says where an instance is in its life.
    Lifecycle {
        /// The instance.
        scope: Scope,
        /// Where it is.
        lifecycle: Lifecycle,
        /// When.
        at: Timestamp,
    },
    /// Nothing is consumed: no silence counts.
    Away(Timestamp),
    /// Everything that waited is decided: silence counts again.
    Back(Timestamp),
    /// A worker was heard of.
    Heard {
        /// The worker.
        scope: Scope,
        /// When.
        at: Timestamp,
    },
    /// The sessions were looked through, and are again at this time.
    SessionsLooked(Option<Timestamp>),
    /// An interlock's measurement.
    Measured {
        /// What was measured.
        place: MeasuredPlace,
        /// The breach, where there is one.
        breach: Option<Breach>,
    },
    /// Its parked commands were tried again.
    Tried {
        /// The target.
        scope: Scope,
    },
}

impl State {
    /// Changes the observed half.
    pub fn believe(&mut self, belief: &Belief) {
        let dedupe = self.dedupe_micros();
        match belief {
            Belief::LedgerWritable(writable) => self.observed.ledger_unwritable = !writable,
            Belief::ClockApart(gap) => {
                self.observed.clock_gap = *gap;
                // Where the gates look for safety; the digest leaves it out.
                self.recorded.safety.clock_is_apart = gap.is_some();
            }
            Belief::TallyOpened { fingerprint, actor, reason, second } => {
                let (actor, reason, second) = (actor.clone(), *reason, *second);
                let tally = Tally { second, count: 0, written: 1, bodies: Digest::default(), actor, reason };
                self.observed.tally_opened(*fingerprint, tally);
            }
            Belief::Tallied { fingerprint, body } => self.observed.tallied(fingerprint, *body),
            Belief::TallyWritten { fingerprint } => self.observed.tally_written(fingerprint),
            Belief::Disagreed { scope, at } => {
                self.observed.disagreed(scope, at.micros(), self.window_micros());
            }
            Belief::TallyClosed { fingerprint } => self.observed.tally_closed(fingerprint),
            Belief::Alerted { fingerprint, at } => {
                self.observed.alerted(*fingerprint, *at, dedupe, self.rules.memory.alerts_max);
            }
            // Whoever carries hears it; the state knows it by the stop itself.
            Belief::Overtaken(_) => {}
            Belief::BoundHit(bound) => self.observed.bound_hit(*bound),
            Belief::AlertHeldBack => self.observed.alerts_held_back += 1,
            Belief::Status(status) => {
                let (worker, at) = status.heard();
                self.observed.heard(worker, at);
                self.observed.inventory.merge(status);
            }
            Belief::Silence(change) => self.observed.inventory.settle(change),
            Belief::DesiredConfig { scope, config, at } => {
                self.observed.inventory.set_desired_config(scope, *config, *at);
            }
            Belief::Lifecycle { scope, lifecycle, at } => {
                self.observed.inventory.set_lifecycle(scope, *lifecycle, *at);
            }
            Belief::Away(at) => {
                self.observed.session_look = None;
                self.observed.listens_since = None;
                self.observed.inventory.pause(*at);
            }
            Belief::Back(at) => {
                self.observed.listens_since = Some(at.micros());
                self.observed.hear_all(self.recorded.sessions.iter(), *at, self.rules.session_lost_after_ms);
                self.observed.inventory.resume(*at);
            }
            Belief::Heard { scope, at } => self.observed.heard(scope, *at),
            Belief::SessionsLooked(next) => self.observed.session_look = next.map(Timestamp::micros),
            Belief::Measured { place, breach } => self.observed.meters.set(place, *breach),
            Belief::Kept { parcel, body_bytes } => self.observed.kept(*parcel, *body_bytes),
            Belief::LetGo { parcel } => self.observed.release(*parcel),
            Belief::Shown { scope, from } => {
                // The first counts: statuses that come meanwhile do not put the try off.
                self.observed.shown.entry(scope.clone()).or_insert(from.micros());
            }
            Belief::Tried { scope } => {
                self.observed.shown.remove(scope);
            }
        }
    }
}
