//! The recorder: makes batches durable, then lets their messages go.
//!
//! Owns: the ledger while the router runs, its group commits, and trying again after it failed or did not answer.
//! Never: lets a job go whose batch is not durable, or waits for a disk without hearing what the router hands it.
//! Holds: batches are committed in the order they were sealed; after a failure nothing of the failed attempt is begun,
//! and what of it turns out to be written after all is carried from the outbox.

use std::{collections::BTreeSet, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tracing::{error, warn};

use super::{
    acks::Acks,
    corridor::Kept,
    dispatch::{Dispatch, Job, Report},
    emergency::Clearer,
    link::Settlement,
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
    /// Nothing after the ledger's last entry is known to be written; this is the state it holds.
    /// What had been carried unaudited and was in the failed commit is still `owed` to it.
    Failed { attempt: u64, state: Box<State>, chain: Chain, parked: Vec<Kept>, owed: Batch },
    /// It can be written again. `booked` are parcels that were carried, and whose commit that says so was given up.
    /// What stands in the outbox by a commit that was given up is to be carried `again`.
    Writable {
        attempt: u64,
        state: Box<State>,
        chain: Chain,
        parked: Vec<Kept>,
        booked: Vec<u64>,
        again: Vec<Job>,
    },
}

/// The ledger at work; it comes back with the answer.
type Work = Pin<Box<dyn Future<Output = (Ledger, Result<(), LedgerError>)> + Send>>;

/// A commit that the ledger did not take.
enum Failure {
    /// It said so.
    Said(LedgerError),
    /// It has not answered in time, and may yet take it.
    Late(Work),
}

/// What the ledger holds.
struct Folded {
    state: State,
    chain: Chain,
    parked: Vec<Kept>,
    again: Vec<Job>,
}

/// What commits that were given up leave to do.
#[derive(Default)]
pub(super) struct GivenUp {
    /// From which entry on, until the first commit after them is in.
    from: Option<u64>,
    /// Parcels that are carried, without a commit that says so.
    unbooked: Vec<u64>,
}

/// The recorder's part of the runtime.
pub(super) struct Recorder {
    /// `None` while it is at work.
    pub ledger: Option<Ledger>,
    /// How long a commit may take.
    pub commit_timeout: Duration,
    /// The end of what it is known to hold.
    pub chain: Chain,
    pub emergency: Clearer,
    pub rules: Rules,
    pub commits: mpsc::Receiver<Commit>,
    pub recoveries: mpsc::Sender<Recovery>,
    pub reports: mpsc::Sender<Report>,
    pub given_up: GivenUp,
    pub dispatch: Dispatch,
    pub acks: Acks,
    pub telemetry: Arc<Telemetry>,
}

impl Recorder {
    /// Commits until the router is gone; gives the ledger back.
    pub async fn run(mut self) -> Option<Ledger> {
        let mut attempt = 0;
        while let Some(mut commit) = self.next().await {
            if commit.attempt < attempt {
                self.give_up(commit).await;
                continue;
            }
            let batch = commit.take_batch();
            let Some(written) = self.write(batch).await else { break };
            match written {
                Ok(()) => self.let_go(commit).await,
                Err(failure) => {
                    // The lanes are shut next, and what is not acknowledged by then comes again.
                    self.acks.flush().await;
                    let late = self.say(failure);
                    attempt += 1;
                    let owed = self.give_up(commit).await;
                    let Some(next) = self.recover(attempt, owed, late).await else { break };
                    attempt = next;
                }
            }
        }
        self.acks.flush().await;
        self.ledger
    }

    /// The next commit; what is held of acknowledgements goes meanwhile.
    async fn next(&mut self) -> Option<Commit> {
        while let Some(until) = self.acks.until() {
            match timeout_at(until, self.commits.recv()).await {
                Ok(commit) => return commit,
                Err(_) => self.acks.flush().await,
            }
        }
        self.commits.recv().await
    }

    /// `None` when the ledger is gone: nothing is let go then.
    async fn write(&mut self, batch: Batch) -> Option<Result<(), Failure>> {
        if batch.entries.is_empty() && batch.parcels.is_empty() && batch.carried.is_empty() {
            return Some(Ok(()));
        }
        let ledger = self.ledger.take()?;
        let (started, entries) = (Instant::now(), batch.entries.len());
        let chain = batch.entries.last().map_or(self.chain, Chain::after);
        let mut work = append(ledger, batch);
        let Ok((ledger, written)) = timeout(self.commit_timeout, &mut work).await else {
            return Some(Err(Failure::Late(work)));
        };
        self.ledger = Some(ledger);
        if written.is_ok() {
            self.chain = chain;
            self.telemetry.metrics.committed(entries, started.elapsed());
        }
        Some(written.map_err(Failure::Said))
    }

    async fn let_go(&mut self, commit: Commit) {
        if commit.unaudited {
            self.emergency.clear();
            self.given_up.from = None;
        }
        for job in commit.jobs {
            self.dispatch.send(job).await;
        }
        self.acks.take(commit.settlements).await;
    }

    /// Forgets a commit: its deliveries come again, its jobs are over. Answers what must not be forgotten.
    async fn give_up(&mut self, commit: Commit) -> Batch {
        let Batch { entries, parcels, carried } = commit.batch;
        self.given_up.unbooked.extend(carried);
        if !commit.jobs.is_empty() {
            let report = Report { jobs: commit.jobs.len(), ..Report::default() };
            // A router that is gone waits for no job.
            let _ = self.reports.send(report).await;
        }
        if commit.unaudited { Batch { entries, parcels, ..Batch::default() } } else { Batch::default() }
    }

    /// Says that the ledger failed; answers the work that it has not come back from.
    fn say(&self, failure: Failure) -> Option<Work> {
        const CONSEQUENCE: &str = "the ledger cannot be written; only stop and tightening pass until it can";
        match failure {
            Failure::Said(fault) => {
                error!(error = %fault, "{CONSEQUENCE}");
                None
            }
            Failure::Late(work) => {
                let timeout_ms = self.commit_timeout.as_millis() as u64;
                error!(timeout_ms, "the ledger's disk does not answer; {CONSEQUENCE}");
                Some(work)
            }
        }
    }

    /// Lets the ledger come to its end with some work, however long that takes, and gives up what the router hands on
    /// meanwhile, so that it never waits for room. None of that is unaudited: that one is the first of its attempt.
    /// `None` when the router is gone.
    async fn outlast(&mut self, mut work: Work) -> Option<Result<(), LedgerError>> {
        loop {
            tokio::select! {
                biased;
                (ledger, done) = &mut work => {
                    self.ledger = Some(ledger);
                    return Some(done);
                }
                commit = self.commits.recv() => match commit {
                    Some(commit) => drop(self.give_up(commit).await),
                    None => {
                        self.ledger = Some(work.await.0);
                        return None;
                    }
                },
            }
        }
    }

    /// Whether the ledger can be written; books what is owed to the outbox on the way, and answers what that was.
    async fn probe(&mut self) -> Option<Result<Vec<u64>, LedgerError>> {
        let ledger = self.ledger.take()?;
        let carried = self.given_up.unbooked.clone();
        let probed = self.outlast(probe(ledger, carried)).await?;
        Some(probed.map(|()| std::mem::take(&mut self.given_up.unbooked)))
    }

    /// Tells the router what stands, probes until writing works, and tells it again. Answers the attempt that counts
    /// from then on; `None` when the router is gone.
    async fn recover(&mut self, attempt: u64, owed: Batch, late: Option<Work>) -> Option<u64> {
        self.given_up.from.get_or_insert(self.chain.next_seq());
        let Folded { state, chain, parked, .. } = self.fold().await;
        let failed = Recovery::Failed { attempt, state: Box::new(state), chain, parked, owed };
        self.recoveries.send(failed).await.ok()?;
        if let Some(work) = late {
            // Whether it was written after all, the fold tells.
            let _ = self.outlast(work).await?;
        }
        let booked = loop {
            self.outlast_pause().await?;
            match self.probe().await? {
                Ok(booked) => break booked,
                Err(fault) => warn!(error = %fault, "the ledger still cannot be written"),
            }
        };
        let Folded { state, chain, parked, again } = self.fold().await;
        let attempt = attempt + 1;
        let writable = Recovery::Writable { attempt, state: Box::new(state), chain, parked, booked, again };
        self.recoveries.send(writable).await.ok()?;
        Some(attempt)
    }

    /// Waits before the next probe, and gives up what is handed on meanwhile; `None` when the router is gone.
    async fn outlast_pause(&mut self) -> Option<()> {
        let pause = tokio::time::sleep(PROBE_PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return Some(()),
                commit = self.commits.recv() => drop(self.give_up(commit?).await),
            }
        }
    }

    /// What the ledger holds; an empty state when it cannot be read or does not answer, so that a stop is never taken
    /// for a repeat. What is sealed then follows on the last that is known to be written.
    async fn fold(&mut self) -> Folded {
        let from = self.given_up.from.unwrap_or(u64::MAX);
        let nothing = |chain| Folded {
            state: State::new(self.rules.clone()),
            chain,
            parked: Vec::new(),
            again: Vec::new(),
        };
        let Some(ledger) = &mut self.ledger else { return nothing(self.chain) };
        // What was first sealed while the ledger could not be written has been carried on another record, or on none.
        let mut carried = BTreeSet::new();
        let folded = replay::fold(ledger, &self.rules, |sealed| {
            if sealed.entry.seq >= from && sealed.entry.fact.emergency_id.is_some() {
                carried.insert(sealed.entry.seq);
            }
        });
        match folded.await {
            Ok((state, recovered)) => {
                let (parked, mut again) = replay::sort(recovered.parcels, &state).unwrap_or_else(|fault| {
                    error!(error = %fault, "what the outbox keeps cannot be read back");
                    Default::default()
                });
                again.retain(|job| job.parcel.is_some_and(|id| id >= from && !carried.contains(&id)));
                self.chain = recovered.chain;
                Folded { state, chain: recovered.chain, parked, again }
            }
            Err(fault) => {
                error!(error = %fault, "the ledger cannot be read either");
                nothing(self.chain)
            }
        }
    }
}

fn append(mut ledger: Ledger, batch: Batch) -> Work {
    Box::pin(async move {
        let written = ledger.append(batch).await;
        (ledger, written)
    })
}

fn probe(mut ledger: Ledger, carried: Vec<u64>) -> Work {
    Box::pin(async move {
        let mut probed = ledger.probe().await;
        if probed.is_ok() && !carried.is_empty() {
            probed = ledger.append(Batch { carried, ..Batch::default() }).await;
        }
        (ledger, probed)
    })
}
