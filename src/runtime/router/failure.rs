//! The router while the ledger cannot be written, and when it can be again (rulings §10, §12).
//!
//! Owns: what passes unaudited and is kept in memory, and rebuilding from what the ledger holds.
//! Never: lets anything but stop and tightening past a ledger that cannot be written.
//! Holds: what was judged on a state that is gone goes back to its queue and is judged anew.

use tracing::{error, info};

use super::{Router, UNWRITTEN_FACTS_MAX};
use crate::{
    contract::{audit::Action, lane::Lane},
    decision::state::{Belief, State},
    ledger::{
        Batch,
        chain::{Chain, Sealed},
    },
    runtime::{
        corridor::Kept,
        dispatch::Job,
        recorder::{Commit, Recovery, Settlement},
    },
};

impl Router {
    /// The one exception to audit first (rulings §10): stop and tightening are carried, kept in memory and said
    /// loudly; nothing else gets past the audit gate.
    pub(super) async fn hand_on_unwritten(
        &mut self,
        sealed: Vec<Sealed>,
        jobs: Vec<Job>,
        settlements: Vec<Settlement>,
    ) {
        for entry in &sealed {
            if matches!(entry.entry.fact.action, Action::Requested) {
                error!(
                    seq = entry.entry.seq,
                    idempotency_key = entry.entry.fact.idempotency_key.as_deref(),
                    "UNAUDITED: carried while the ledger cannot be written; it is kept in memory until it can"
                );
            }
        }
        if let Some(unwritten) = &mut self.memory.unwritten {
            let room = UNWRITTEN_FACTS_MAX.saturating_sub(unwritten.len());
            unwritten.extend(sealed.into_iter().take(room));
        }
        for job in jobs {
            self.dispatch.send(job).await;
        }
        for settlement in settlements {
            settlement.settle(&self.link, &self.telemetry).await;
        }
    }

    /// The recorder says that the ledger failed, or that it can be written again.
    pub(super) async fn recover(&mut self, recovery: Recovery) {
        match recovery {
            Recovery::Failed { attempt, state, chain, parked, owed } => {
                self.memory.attempt = attempt;
                self.telemetry.health.set_ledger(false);
                let _ = self.open.send(false);
                self.void_consumers().await;
                self.rebuild(*state, chain, parked);
                self.corridor.state_mut().believe(&Belief::LedgerWritable(false));
                let owed = owed.into_iter().map(|owed| self.corridor.record_again(owed.entry)).collect();
                self.memory.unwritten = Some(owed);
            }
            Recovery::Writable { attempt, state, chain, parked } => {
                self.memory.attempt = attempt;
                let unwritten = self.memory.unwritten.take().unwrap_or_default();
                info!(
                    entries = unwritten.len(),
                    "the ledger can be written again; what was kept in memory goes first"
                );
                self.rebuild(*state, chain, parked);
                let entries =
                    unwritten.into_iter().map(|kept| self.corridor.record_again(kept.entry)).collect();
                let carried = std::mem::take(&mut self.memory.unbooked);
                let batch = Batch { entries, carried, ..Batch::default() };
                let commit = self.commit(batch, Vec::new(), Vec::new());
                let _ = self.recorder.send(Commit { unaudited: true, ..commit }).await;
                self.telemetry.health.set_ledger(true);
                let _ = self.open.send(true);
            }
        }
    }

    fn rebuild(&mut self, state: State, chain: Chain, parked: Vec<Kept>) {
        self.corridor.resume(state, chain, parked);
        self.memory.recent.clear();
    }

    /// Everything consumed but not settled goes back to its queue: what was judged on a state that is gone must be
    /// judged anew.
    async fn void_consumers(&mut self) {
        for lane in Lane::ALL {
            let inbox = self.lanes.0.get_mut(lane as usize);
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

    /// Gives what an opening of a lane's consumer holds back to its queue; what is still on its way from it is void.
    pub(super) async fn void(&mut self, lane: Lane, opening: u64) {
        if let Some(settler) = self.link.settler(lane, opening) {
            settler.close().await;
        }
        if let Some(void) = self.memory.void.get_mut(lane as usize) {
            *void = opening.max(*void);
        }
    }
}
