//! The recorder: makes batches durable, then lets their messages go.
//!
//! Owns: the ledger while the router runs, its group commits, and trying again after it failed or
//! did not answer.
//! Never: lets a job go whose batch is not durable, waits for a disk without hearing what the
//! router hands it, or lets a router go on from anything but the whole ledger.
//! Holds: batches are committed in the order they were sealed; after a failure nothing of the
//! failed attempt is begun, and what of it turns out to be written after all is carried from the
//! outbox. The state of what is durable is at hand at every moment, so that a failure is told at
//! once, however long the ledger is.

use std::{collections::BTreeSet, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tracing::{error, warn};

use super::{
    acks::Acks,
    corridor::{Kept, Names},
    dispatch::{Dispatch, Job, Report, Withdrawn},
    emergency::Clearer,
    link::Settlement,
    replay::{self, Sorted},
};
use crate::{
    decision::{rules::Rules, state::State},
    ledger::{Batch, Ledger, LedgerError, chain::Chain},
    telemetry::{Telemetry, repeats::Recurring},
};

/// How long the recorder waits before it looks again whether the ledger can be written.
const PROBE_PAUSE: Duration = Duration::from_millis(500);
/// The attempt of a router that has just started.
pub(super) const FIRST_ATTEMPT: u64 = 0;

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
    /// Commands that are to leave no more, by their entries; what was carried before may have them.
    pub withdrawn: Withdrawn,
    /// What to acknowledge then.
    pub settlements: Vec<Settlement>,
}

impl Commit {
    /// What to write. Of it stays here what must not be forgotten when that fails.
    fn take_batch(&mut self) -> Batch {
        let batch = std::mem::take(&mut self.batch);
        self.batch.carried.clone_from(&batch.carried);
        if self.unaudited {
            self.batch.entries.clone_from(&batch.entries);
            self.batch.parcels.clone_from(&batch.parcels);
        }
        batch
    }
}

/// What the recorder sends the router when the ledger fails, and when it is well again.
pub(super) enum Recovery {
    /// Nothing after the chain's end is known to be written; this is the state up to there.
    /// What had been carried unaudited and was in the failed commit is still `owed` to it.
    Failed { attempt: u64, state: Box<State>, chain: Chain, owed: Batch },
    /// It can be written again. `booked` are parcels that were carried, and whose commit that says
    /// so was given up. What stands in the outbox by a commit that was given up is to be carried
    /// `again`.
    Writable {
        attempt: u64,
        state: Box<State>,
        chain: Chain,
        parked: Vec<Kept>,
        booked: Vec<u64>,
        again: Vec<Job>,
    },
}

/// The ledger at work; it comes back with the result.
pub(super) type Work<T> = Pin<Box<dyn Future<Output = (Ledger, Result<T, LedgerError>)> + Send>>;

/// A commit that the ledger did not take.
pub(super) enum Failure {
    /// It said so.
    Said(LedgerError),
    /// It has not answered in time, and may yet take it.
    Late(Work<Batch>),
}

/// What a failure means, for the log.
const CONSEQUENCE: &str = "the ledger cannot be written; only stop and tightening pass until it can";

impl Failure {
    /// Logs that the ledger failed; returns the work that it has not come back from.
    pub fn log(self, timeout: Duration) -> Option<Work<Batch>> {
        match self {
            Self::Said(fault) => {
                error!(error = %fault, "{CONSEQUENCE}");
                None
            }
            Self::Late(work) => {
                let timeout_ms = timeout.as_millis() as u64;
                error!(timeout_ms, "the ledger's disk does not answer; {CONSEQUENCE}");
                Some(work)
            }
        }
    }
}

/// A ledger that could not be written when the router started.
pub(super) struct Unwritten {
    /// What it has not come back from.
    pub late: Option<Work<Batch>>,
}

/// What the ledger holds.
struct Folded {
    state: State,
    /// The same once more, for the recorder.
    durable: State,
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
    /// The state up to there, for the router when the ledger fails. It costs the recorded state's
    /// memory once more; the alternative is to fold the ledger before a stop can pass. Empty while
    /// the ledger cannot be written.
    pub durable: Box<State>,
    pub emergency: Clearer,
    pub rules: Rules,
    pub names: Names,
    pub commits: mpsc::Receiver<Commit>,
    pub recoveries: mpsc::Sender<Recovery>,
    pub reports: mpsc::Sender<Report>,
    pub given_up: GivenUp,
    /// What was written before and is not known carried: it goes first.
    pub first: Vec<Job>,
    /// Where the ledger could not be written at the start; the router was told.
    pub unwritten: Option<Unwritten>,
    pub dispatch: Dispatch,
    pub acks: Acks,
    pub telemetry: Arc<Telemetry>,
}

impl Recorder {
    /// Commits until the router is gone; gives the ledger back.
    pub async fn run(mut self) -> Option<Ledger> {
        for job in std::mem::take(&mut self.first) {
            self.dispatch.send(job).await;
        }
        let mut attempt = FIRST_ATTEMPT;
        if let Some(Unwritten { late }) = self.unwritten.take() {
            self.given_up.from = Some(self.chain.next_seq());
            match self.restore(attempt + 1, late).await {
                Some(next) => attempt = next,
                None => return self.ledger,
            }
        }
        while let Some(mut commit) = self.next().await {
            // The router sealed it on a state that the recorder has since taken back: its numbers
            // are another chain's.
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
                    let late = failure.log(self.commit_timeout);
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
        if batch.is_empty() {
            return Some(Ok(()));
        }
        let ledger = self.ledger.take()?;
        let (started, entries) = (Instant::now(), batch.entries.len());
        let chain = batch.entries.last().map_or(self.chain, Chain::after);
        let (ledger, written) = commit(ledger, batch, self.commit_timeout).await;
        self.ledger = ledger;
        Some(match written {
            Ok(batch) => {
                self.chain = chain;
                for sealed in &batch.entries {
                    self.durable.apply(sealed.entry.seq, &sealed.entry.fact);
                }
                self.telemetry.metrics.committed(entries, started.elapsed());
                Ok(())
            }
            Err(failure) => Err(failure),
        })
    }

    async fn let_go(&mut self, commit: Commit) {
        if commit.unaudited {
            // Not before: a crash between the two must find the entries in one place at least.
            self.emergency.clear();
            self.given_up.from = None;
        }
        for job in commit.jobs {
            self.dispatch.send(job).await;
        }
        // After the jobs: among them may be one that this commit takes back.
        if !commit.withdrawn.is_empty() {
            self.dispatch.withdraw(commit.withdrawn).await;
        }
        self.acks.take(commit.settlements).await;
    }

    /// Forgets a commit: its deliveries come again, its jobs are over. Returns what must not be
    /// forgotten.
    async fn give_up(&mut self, commit: Commit) -> Batch {
        let Batch { entries, parcels, carried, .. } = commit.batch;
        // Those messages have left, whatever became of the entry that said so: published again
        // after a restart they would be repeats.
        self.given_up.unbooked.extend(carried);
        if !commit.jobs.is_empty() {
            let given_up = commit.jobs.iter().map(|job| job.number).collect();
            let report = Report { given_up, ..Report::default() };
            // A router that is gone waits for no job.
            let _ = self.reports.send(report).await;
        }
        if commit.unaudited { Batch { entries, parcels, ..Batch::default() } } else { Batch::default() }
    }

    /// Lets the ledger come to its end with some work, however long that takes, and gives up what
    /// the router hands on meanwhile, so that it never waits for room. None of that is unaudited:
    /// that one is the first of its attempt. `None` when the router is gone.
    async fn outlast<T>(&mut self, mut work: Work<T>) -> Option<Result<T, LedgerError>> {
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

    /// Whether the ledger can be written; books what is owed to the outbox on the way, and returns
    /// what that was.
    async fn probe(&mut self) -> Option<Result<Vec<u64>, LedgerError>> {
        let ledger = self.ledger.take()?;
        // A copy: a probe that fails must leave them owed.
        let carried = self.given_up.unbooked.clone();
        let probed = self.outlast(probe(ledger, carried)).await?;
        Some(probed.map(|()| std::mem::take(&mut self.given_up.unbooked)))
    }

    /// Sends the router the state of what is durable, tries until the ledger can be written and is
    /// read whole, and sends that. Returns the attempt that counts from then on; `None` when the
    /// router is gone.
    async fn recover(&mut self, attempt: u64, owed: Batch, late: Option<Work<Batch>>) -> Option<u64> {
        // The first of several failures counts: what its commit wrote after all begins there.
        self.given_up.from.get_or_insert(self.chain.next_seq());
        // Nothing is read before this is told: stops wait for it.
        let state = std::mem::replace(&mut self.durable, Box::new(State::new(self.rules.clone())));
        self.recoveries.send(Recovery::Failed { attempt, state, chain: self.chain, owed }).await.ok()?;
        self.restore(attempt, late).await
    }

    /// The same, where the router has the state of what is durable.
    async fn restore(&mut self, attempt: u64, late: Option<Work<Batch>>) -> Option<u64> {
        if let Some(work) = late {
            // Whether it was written after all, the fold tells.
            let _ = self.outlast(work).await?;
        }
        // Kept over all tries: what a probe has booked the next one does not name again.
        let (mut booked, mut recurring) = (Vec::new(), Recurring::default());
        let folded = loop {
            self.outlast_pause().await?;
            match self.probe().await? {
                Ok(newly) => booked.extend(newly),
                Err(fault) => {
                    if let Some(repeated) = recurring.due(&fault, std::time::Instant::now()) {
                        warn!(error = %fault, repeated, "the ledger still cannot be written");
                    }
                    continue;
                }
            }
            match self.fold().await? {
                Ok(folded) => break folded,
                // Going on from less than all of it would forget kill switches and carry stops
                // twice.
                Err(fault) => {
                    if let Some(repeated) = recurring.due(&fault, std::time::Instant::now()) {
                        error!(
                            error = %fault,
                            repeated,
                            "the ledger can be written and cannot be read: only stop and tightening pass until a person mends it (see the runbook ledger-unwritable); it is tried again"
                        );
                    }
                }
            }
        };
        let Folded { state, durable, chain, parked, again } = folded;
        (self.chain, self.durable) = (chain, Box::new(durable));
        let attempt = attempt + 1;
        let writable = Recovery::Writable { attempt, state: Box::new(state), chain, parked, booked, again };
        self.recoveries.send(writable).await.ok()?;
        Some(attempt)
    }

    /// Waits before the next probe, and gives up what is handed on meanwhile; `None` when the
    /// router is gone.
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

    /// What the ledger holds, all of it or a fault. `None` when the router is gone.
    async fn fold(&mut self) -> Option<Result<Folded, LedgerError>> {
        let ledger = self.ledger.take()?;
        let from = self.given_up.from.unwrap_or(u64::MAX);
        self.outlast(fold(ledger, self.rules.clone(), self.names.clone(), from, self.chain)).await
    }
}

/// Makes a batch durable, within the time that a commit may take. A ledger that takes longer comes
/// back with its work.
pub(super) async fn commit(
    ledger: Ledger,
    batch: Batch,
    may_take: Duration,
) -> (Option<Ledger>, Result<Batch, Failure>) {
    let mut work = append(ledger, batch);
    match timeout(may_take, &mut work).await {
        Ok((ledger, written)) => (Some(ledger), written.map_err(Failure::Said)),
        // Not dropped: a commit cannot be taken back, and the ledger comes free when it ends.
        Err(_) => (None, Err(Failure::Late(work))),
    }
}

fn append(mut ledger: Ledger, mut batch: Batch) -> Work<Batch> {
    Box::pin(async move {
        let written = ledger.append_from(&mut batch).await;
        (ledger, written.map(|()| batch))
    })
}

fn probe(mut ledger: Ledger, carried: Vec<u64>) -> Work<()> {
    Box::pin(async move {
        let mut probed = ledger.probe().await;
        if probed.is_ok() && !carried.is_empty() {
            // Before the ledger is folded: what has left must not be found in the outbox as owed.
            probed = ledger.append(Batch { carried, ..Batch::default() }).await;
        }
        (ledger, probed)
    })
}

/// Folds the ledger. `from` is the first entry that a commit which was given up may have written,
/// `known` the end of what it is known to hold.
fn fold(mut ledger: Ledger, rules: Rules, names: Names, from: u64, known: Chain) -> Work<Folded> {
    Box::pin(async move {
        let folded = folded(&mut ledger, &rules, &names, from, known).await;
        (ledger, folded)
    })
}

async fn folded(
    ledger: &mut Ledger,
    rules: &Rules,
    names: &Names,
    from: u64,
    known: Chain,
) -> Result<Folded, LedgerError> {
    // What was first sealed while the ledger could not be written has been carried on another
    // record, or on none.
    let mut carried = BTreeSet::new();
    // A ledger that held nothing has no last entry that could be met.
    let mut is_known = known == Chain::new();
    let (state, recovered) = replay::fold(ledger, rules, |sealed| {
        is_known |= Chain::after(sealed) == known;
        if sealed.entry.seq >= from && sealed.entry.fact.emergency_id.is_some() {
            carried.insert(sealed.entry.seq);
        }
    })
    .await?;
    if !is_known {
        // Another ledger, or an older copy, was put in its place: a start notices that, and goes on
        // from it.
        return Err(LedgerError::Gone { dir: ledger.dir().to_owned() });
    }
    // What another hand added is told by the next start, and leaves neither here nor there.
    let Sorted { parked, jobs: mut again, .. } =
        replay::sort(recovered.parcels, &state, &recovered.barred, names, true)?;
    again.retain(|job| job.parcel.is_some_and(|id| id >= from && !carried.contains(&id)));
    // Off the tasks' thread: a large state takes a while to copy, and stops pass meanwhile.
    let copied = tokio::task::spawn_blocking(move || (state.replayed(), state)).await;
    let (durable, state) = copied.map_err(|fault| LedgerError::Task(fault.to_string()))?;
    Ok(Folded { state, durable, chain: recovered.chain, parked, again })
}
