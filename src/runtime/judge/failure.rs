//! The router while the ledger cannot be written, and when it can be again.
//!
//! Owns: what passes on the emergency log's record or on none and is kept in memory, and rebuilding
//! from what the ledger holds.
//! Never: lets anything but stop and tightening past a ledger that cannot be written.
//! Holds: what was judged on a state that is gone goes back to its queue and is judged anew.
//! The rules: spec/rules.md#ledger-not-writable and #unaudited.

use tracing::{error, info, warn};

use super::{Outcome, Router, UNWRITTEN_BYTES_MAX, UNWRITTEN_FACTS_MAX};
use crate::{
    contract::{
        audit::{Action, Change},
        lane::Lane,
    },
    decision::state::{Belief, State},
    ledger::{
        Batch, Parcel,
        chain::{Chain, Sealed},
        emergency::Record,
    },
    runtime::{
        corridor::Kept,
        emergency,
        recorder::{Commit, Recovery},
    },
};

impl Router {
    /// The one exception to audit first: stop and tightening are carried all the same. First they
    /// are written to the emergency log; where that fails or takes too long they are said loudly.
    /// In either case they are kept in memory until the ledger has them.
    pub(super) async fn hand_on_unwritten(&mut self, outcome: Outcome) {
        let Outcome { sealed, mut jobs, settlements, parcels, parcels_replaced, parcels_done, .. } = outcome;
        // Before the new ones are kept: what has left makes room for them.
        self.replace_unwritten(parcels_replaced);
        self.forget_carried(parcels_done);
        let first = self.memory.unwritten.as_ref().map_or(0, Vec::len);
        let lost = self.keep_unwritten(emergency::records(sealed, parcels));
        let unwritten = self.memory.unwritten.get_or_insert_default();
        if !lost.is_empty() {
            // Their places in the ledger will be others': no parcel may be booked under them.
            let last = unwritten.last().map_or(0, |record| record.sealed.entry.seq);
            jobs.iter_mut().for_each(|job| job.parcel = job.parcel.filter(|parcel| *parcel <= last));
        }
        let on_log = self.ledger.emergency.write(unwritten).await;
        for (place, record) in (first..).zip(unwritten.iter().skip(first)) {
            tell(record, if place < on_log { Place::Log } else { Place::Memory });
        }
        lost.iter().for_each(|record| tell(record, Place::Nowhere));
        // After the try to write, which has a time limit: a stop does not wait longer than that.
        for job in jobs {
            self.bus.dispatch.send(job).await;
        }
        // No commit will acknowledge these: there is none while the ledger cannot be written.
        for settlement in settlements {
            settlement.settle(&self.bus.link, &self.telemetry).await;
        }
    }

    /// What a stopping router sealed last, and a last try to write what is not on the emergency
    /// log.
    pub(super) async fn close_unwritten(&mut self, sealed: Vec<Sealed>) {
        let lost = self.keep_unwritten(emergency::records(sealed, Vec::new()));
        let unwritten = self.memory.unwritten.get_or_insert_default();
        let on_log = self.ledger.emergency.write(unwritten).await;
        let entries = unwritten.len() + lost.len() - on_log;
        if entries > 0 {
            error!(
                entries,
                "UNAUDITED: stopped before the ledger or the emergency log could be written again"
            );
        }
        if on_log > 0 {
            warn!(entries = on_log, "stopped; the next start appends what is on the emergency log");
        }
    }

    /// Keeps records in memory as far as there is room; returns those that are lost for want of it.
    fn keep_unwritten(&mut self, mut records: Vec<Record>) -> Vec<Record> {
        let unwritten = self.memory.unwritten.get_or_insert_default();
        let bytes = &mut self.memory.unwritten_bytes;
        let lost = records.split_off(fitting(unwritten.len(), bytes, records.iter().map(size)));
        unwritten.extend(records);
        lost
    }

    /// Parcels of which less is to be kept. One that is in the ledger stays whole there: after a
    /// restart all of it leaves again, under the ids that it had.
    fn replace_unwritten(&mut self, parcels: Vec<Parcel>) {
        let unwritten = self.memory.unwritten.get_or_insert_default();
        for parcel in parcels {
            let found = unwritten.binary_search_by_key(&parcel.id, |record| record.sealed.entry.seq);
            if let Some(kept) = found.ok().and_then(|index| unwritten.get_mut(index)?.parcel.as_mut()) {
                *kept = parcel;
            }
        }
    }

    /// Parcels that need no longer be kept: those of what is not written yet are forgotten, the
    /// others are booked when the ledger can be written.
    fn forget_carried(&mut self, parcels: Vec<u64>) {
        let unwritten = self.memory.unwritten.get_or_insert_default();
        for id in parcels {
            let found = unwritten.binary_search_by_key(&id, |record| record.sealed.entry.seq);
            match found.ok().and_then(|index| unwritten.get_mut(index)?.parcel.take()) {
                Some(kept) => {
                    let bytes = &mut self.memory.unwritten_bytes;
                    *bytes = bytes.saturating_sub(kept.bytes.len());
                }
                None => self.memory.unbooked.push(id),
            }
        }
    }

    /// Takes the recorder's word that the ledger failed, or that it can be written again.
    pub(super) async fn recover(&mut self, recovery: Recovery) {
        match recovery {
            Recovery::Failed { attempt, state, chain, owed } => {
                self.memory.attempt = attempt;
                self.telemetry.health.set_ledger(false);
                // The lanes close before they are voided, or they would fill again at once.
                let _ = self.bus.open.send(false);
                self.void_consumers().await;
                // What is kept for commands that wait is in memory: nothing is read before stops
                // pass again.
                let parked = self.corridor.take_parked();
                self.rebuild(*state, chain, parked);
                // Told to the new state: one that is folded believes that the ledger can be
                // written.
                self.corridor.state_mut().believe(&Belief::LedgerWritable(false));
                let owed = self.not_appended(emergency::records(owed.entries, owed.parcels));
                let unwritten = emergency::seal_again(&mut self.corridor, owed);
                self.memory.unwritten_bytes = unwritten.iter().map(size).sum();
                self.memory.unwritten = Some(unwritten);
                // A latch that was judged in what is given up is judged anew.
                self.host.again.notify_one();
            }
            Recovery::Writable { attempt, state, chain, parked, booked, mut again } => {
                self.memory.attempt = attempt;
                // Before `unwritten` is taken: this would put one there, and that alone says that
                // the ledger cannot be written.
                self.forget_carried(booked);
                let unwritten = self.memory.unwritten.take().unwrap_or_default();
                self.memory.unwritten_bytes = 0;
                self.rebuild(*state, chain, parked);
                // What left by the emergency log is in the outbox too where its failed commit
                // happened after all: it must not leave twice.
                emergency::leave_out(again.iter_mut(), &unwritten);
                let now = self.clock.now();
                again.iter_mut().for_each(|job| job.hold(self.corridor.state(), now));
                let unwritten = self.not_appended(unwritten);
                info!(
                    entries = unwritten.len(),
                    "the ledger can be written again; what it could not take goes first"
                );
                let sealed = emergency::seal_again(&mut self.corridor, unwritten);
                let (entries, parcels): (Vec<_>, Vec<_>) =
                    sealed.into_iter().map(|record| (record.sealed, record.parcel)).unzip();
                let parcels = parcels.into_iter().flatten().collect();
                let carried = std::mem::take(&mut self.memory.unbooked);
                let batch = Batch { entries, parcels, carried, ..Batch::default() };
                again.iter_mut().for_each(|job| self.memory.tracker.begin(job));
                let commit = self.commit(batch, again, Vec::new());
                // Handed over before the lanes open: what is owed to the ledger goes first.
                let _ = self.ledger.recorder.send(Commit { unaudited: true, ..commit }).await;
                self.telemetry.health.set_ledger(true);
                let _ = self.bus.open.send(true);
            }
        }
    }

    /// What the ledger does not hold: a commit that failed may have happened all the same.
    fn not_appended(&self, mut records: Vec<Record>) -> Vec<Record> {
        let state = self.corridor.state();
        let newest = state.newest_emergency();
        // This opening itself has an emergency id only where its first commit was given up.
        let is_of_now = |change: &Change| matches!(change, Change::Opened(opened) if opened.incarnation == state.incarnation());
        records.retain(|record| record.id() > newest && !is_of_now(&record.sealed.entry.fact.change));
        records
    }

    fn rebuild(&mut self, state: State, chain: Chain, parked: Vec<Kept>) {
        self.corridor.resume(state, chain, parked);
        // Kept by numbers of a chain that is gone: a repeat would get another entry's outcome.
        (self.memory.recent, self.memory.recent_bytes) = Default::default();
    }

    /// Everything consumed but not settled goes back to its queue: what was judged on a state that
    /// is gone must be judged anew.
    async fn void_consumers(&mut self) {
        for lane in Lane::ALL {
            let inbox = self.bus.lanes.0.get_mut(lane as usize);
            let mut newest = self.memory.seen.get(lane as usize).copied().unwrap_or_default();
            if let Some(inbox) = inbox {
                while let Ok(arrivals) = inbox.try_recv() {
                    self.telemetry.metrics.unbuffered(lane, arrivals.incoming.len());
                    newest = newest.max(arrivals.opening);
                }
            }
            self.void(lane, newest).await;
        }
    }

    /// Gives what an opening of a lane's consumer holds back to its queue; what is still on its way
    /// from it is void.
    pub(super) async fn void(&mut self, lane: Lane, opening: u64) {
        if let Some(settler) = self.bus.link.settler(lane, opening) {
            settler.close().await;
        }
        if let Some(void) = self.memory.void.get_mut(lane as usize) {
            *void = opening.max(*void);
        }
    }
}

/// The room that a record takes.
fn size(record: &Record) -> usize {
    record.sealed.bytes.len() + record.parcel.as_ref().map_or(0, |parcel| parcel.bytes.len())
}

/// How many of the records of those sizes may still be kept beside `count` others of so many bytes.
/// After one that may not none may, however small: in the ledger it would take the place of the one
/// that is lost.
fn fitting(count: usize, bytes: &mut usize, sizes: impl Iterator<Item = usize>) -> usize {
    let mut fit = 0;
    for size in sizes {
        let more = bytes.saturating_add(size);
        if count + fit >= UNWRITTEN_FACTS_MAX || more > UNWRITTEN_BYTES_MAX {
            *bytes = usize::MAX;
            break;
        }
        *bytes = more;
        fit += 1;
    }
    fit
}

/// Where a record is while the ledger cannot be written.
enum Place {
    Log,
    Memory,
    Nowhere,
}

/// Logs on which record a command was published.
fn tell(record: &Record, place: Place) {
    let fact = &record.sealed.entry.fact;
    if !matches!(fact.action, Action::Requested) {
        return;
    }
    let (seq, idempotency_key) = (record.sealed.entry.seq, fact.idempotency_key.as_deref());
    let emergency_id = record.id().map(tracing::field::display);
    match place {
        Place::Log => warn!(
            seq,
            idempotency_key,
            emergency_id,
            "carried on the emergency log's record: the ledger cannot be written"
        ),
        Place::Memory => error!(
            seq,
            idempotency_key,
            emergency_id,
            "UNAUDITED: carried while neither the ledger nor the emergency log can be written; it is kept in memory until one can"
        ),
        Place::Nowhere => error!(
            seq,
            idempotency_key,
            emergency_id,
            "UNAUDITED: carried while neither the ledger nor the emergency log can be written, and memory has no room for more: this line is all that says so"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_kept_as_there_is_room_for_and_nothing_after_what_is_lost() {
        let half = UNWRITTEN_BYTES_MAX / 2;
        let mut bytes = 0;
        assert_eq!(fitting(0, &mut bytes, [half, half].into_iter()), 2);
        assert_eq!(bytes, UNWRITTEN_BYTES_MAX);
        bytes -= half;
        assert_eq!(fitting(2, &mut bytes, [7].into_iter()), 1, "what was carried has made room");
        assert_eq!(fitting(3, &mut bytes, [half, 1].into_iter()), 0);
        bytes -= half;
        assert_eq!(fitting(3, &mut bytes, [1].into_iter()), 0, "it would take the place of a lost one");
        let mut bytes = 0;
        assert_eq!(fitting(UNWRITTEN_FACTS_MAX - 2, &mut bytes, [1; 5].into_iter()), 2);
        assert_eq!(fitting(0, &mut bytes, [1].into_iter()), 0);
    }
}
