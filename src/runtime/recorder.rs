//! The recorder: makes batches durable, then lets their messages go.
//!
//! Owns: the ledger while the router runs, its group commits, and trying again after it failed.
//! Never: lets a job go whose batch is not durable.
//! Holds: batches are committed in the order they were sealed; after a failure nothing of the failed attempt is.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tracing::{error, warn};

use super::{
    corridor::Kept,
    dispatch::{Dispatch, Job, Report},
    emergency::Clearer,
    link::{Link, Settlement},
    replay,
};
use crate::{
    decision::{rules::Rules, state::State},
    ledger::{Batch, Ledger, LedgerError, chain::Chain},
    telemetry::Telemetry,
};

/// How long the recorder waits before it looks again whether the ledger can be written.
const PROBE_PAUSE: Duration = Duration::from_millis(500);

/// A batch, and what may happen once it is durable.
pub(super) struct Commit {
    /// The attempt it was sealed in.
    pub attempt: u64,
    /// Its entries' messages were carried before it: they must not be forgotten when it fails.
    pub unaudited: bool,
    /// What to write.
    pub batch: Batch,
    /// What to carry then.
    pub jobs: Vec<Job>,
    /// What to acknowledge then.
    pub settlements: Vec<Settlement>,
}

impl Commit {
    /// What to write. Of it stays here what must not be forgotten when that fails.
    fn take_batch(&mut self) -> Batch {
        let Batch { entries, parcels, carried } = std::mem::take(&mut self.batch);
        self.batch.carried.clone_from(&carried);
        if self.unaudited {
            self.batch.entries.clone_from(&entries);
            self.batch.parcels.clone_from(&parcels);
        }
        Batch { entries, parcels, carried }
    }
}

/// What the recorder tells the router when the ledger fails, and when it is well again.
pub(super) enum Recovery {
    /// Nothing after the ledger's last entry was written; this is the state it holds.
    /// What had been carried unaudited and was in the failed commit is still `owed` to it.
    Failed { attempt: u64, state: Box<State>, chain: Chain, parked: Vec<Kept>, owed: Batch },
    /// It can be written again. `booked` are parcels that were carried, and whose commit that says so was given up.
    Writable { attempt: u64, state: Box<State>, chain: Chain, parked: Vec<Kept>, booked: Vec<u64> },
}

/// The recorder's part of the runtime.
pub(super) struct Recorder {
    pub ledger: Ledger,
    /// The end of what it is known to hold.
    pub chain: Chain,
    pub emergency: Clearer,
    pub rules: Rules,
    pub commits: mpsc::Receiver<Commit>,
    pub recoveries: mpsc::Sender<Recovery>,
    pub reports: mpsc::Sender<Report>,
    /// Parcels that are carried, and whose commit that says so was given up.
    pub unbooked: Vec<u64>,
    pub dispatch: Dispatch,
    pub link: Link,
    pub telemetry: Arc<Telemetry>,
}

impl Recorder {
    /// Commits until the router is gone; gives the ledger back.
    pub async fn run(mut self) -> Ledger {
        let mut attempt = 0;
        while let Some(mut commit) = self.commits.recv().await {
            if commit.attempt < attempt {
                self.give_up(commit).await;
                continue;
            }
            let batch = commit.take_batch();
            match self.write(batch).await {
                Ok(()) => self.let_go(commit).await,
                Err(fault) => {
                    error!(error = %fault, "the ledger cannot be written; only stop and tightening pass until it can");
                    attempt += 1;
                    let owed = self.give_up(commit).await;
                    let Some(next) = self.recover(attempt, owed).await else { break };
                    attempt = next;
                }
            }
        }
        self.ledger
    }

    async fn write(&mut self, batch: Batch) -> Result<(), LedgerError> {
        if batch.entries.is_empty() && batch.parcels.is_empty() && batch.carried.is_empty() {
            return Ok(());
        }
        let (started, entries) = (Instant::now(), batch.entries.len());
        let chain = batch.entries.last().map_or(self.chain, Chain::after);
        self.ledger.append(batch).await?;
        self.chain = chain;
        self.telemetry.metrics.committed(entries, started.elapsed());
        Ok(())
    }

    async fn let_go(&mut self, commit: Commit) {
        if commit.unaudited {
            self.emergency.clear();
        }
        for job in commit.jobs {
            self.dispatch.send(job).await;
        }
        for settlement in commit.settlements {
            settlement.settle(&self.link, &self.telemetry).await;
        }
    }

    /// Forgets a commit: its deliveries come again, its jobs are over. Answers what must not be forgotten.
    async fn give_up(&mut self, commit: Commit) -> Batch {
        let Batch { entries, parcels, carried } = commit.batch;
        self.unbooked.extend(carried);
        if !commit.jobs.is_empty() {
            let report = Report { jobs: commit.jobs.len(), ..Report::default() };
            // A router that is gone waits for no job.
            let _ = self.reports.send(report).await;
        }
        if commit.unaudited { Batch { entries, parcels, ..Batch::default() } } else { Batch::default() }
    }

    /// Whether the ledger can be written; books what is owed to the outbox on the way, and answers what that was.
    async fn probe(&mut self) -> Result<Vec<u64>, LedgerError> {
        self.ledger.probe().await?;
        if !self.unbooked.is_empty() {
            let carried = self.unbooked.clone();
            self.ledger.append(Batch { carried, ..Batch::default() }).await?;
        }
        Ok(std::mem::take(&mut self.unbooked))
    }

    /// Tells the router what stands, probes until writing works, and tells it again. Answers the attempt that counts
    /// from then on; `None` when the router is gone.
    async fn recover(&mut self, attempt: u64, owed: Batch) -> Option<u64> {
        let (state, chain, parked) = self.fold().await;
        let failed = Recovery::Failed { attempt, state: Box::new(state), chain, parked, owed };
        self.recoveries.send(failed).await.ok()?;
        let booked = loop {
            // Commits of the failed attempt are given up meanwhile, so that the router never waits for room. None of
            // them is unaudited: that one is the first of its attempt.
            let pause = tokio::time::sleep(PROBE_PAUSE);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    commit = self.commits.recv() => drop(self.give_up(commit?).await),
                }
            }
            match self.probe().await {
                Ok(booked) => break booked,
                Err(fault) => warn!(error = %fault, "the ledger still cannot be written"),
            }
        };
        let (state, chain, parked) = self.fold().await;
        let attempt = attempt + 1;
        let writable = Recovery::Writable { attempt, state: Box::new(state), chain, parked, booked };
        self.recoveries.send(writable).await.ok()?;
        Some(attempt)
    }

    /// The state that the ledger holds; an empty one when it cannot even be read, so that a stop is never taken for
    /// a repeat. What is sealed then follows on the last that is known to be written.
    async fn fold(&mut self) -> (State, Chain, Vec<Kept>) {
        match replay::fold(&mut self.ledger, &self.rules, |_| {}).await {
            Ok((state, recovered)) => {
                let (parked, _) = replay::sort(recovered.parcels, &state).unwrap_or_else(|fault| {
                    error!(error = %fault, "commands that wait for their targets cannot be read back");
                    Default::default()
                });
                self.chain = recovered.chain;
                (state, recovered.chain, parked)
            }
            Err(fault) => {
                error!(error = %fault, "the ledger cannot be read either");
                (State::new(self.rules.clone()), self.chain, Vec::new())
            }
        }
    }
}
