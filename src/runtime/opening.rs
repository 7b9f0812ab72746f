//! Opening the ledger: what a router begins from, whether it can be written or not.
//!
//! Owns: opening and folding the ledger, taking over what is left on the emergency log, and the
//! first commit of a run.
//! Never: begins from less than the whole ledger, or begins a ledger that cannot be written.
//! Holds: what the first commit could not write is owed to the ledger, under emergency ids of the
//! new epoch.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::{
    ask::PendingQuestion,
    asker::Asker,
    boot_error::BootError,
    corridor::{Corridor, Kept},
    dispatch::Job,
    emergency,
    genesis::{genesis, incarnation},
    host, mark,
    recorder::{self, Failure, Unwritten},
    replay::{self, Sorted},
    setup::Setup,
};
use crate::{clock::Clock, config::settings};
use crate::{
    contract::{
        audit::{Action, Change, EmergencyId, Entry, Fact, Mode, Opened, SetBack},
        interlock::SafetyMode,
        timestamp::Timestamp,
    },
    decision::{request::Done, state::State},
    ledger::{
        Batch, Ledger, LedgerError, Parcel, Recovered,
        chain::{Chain, Sealed},
        emergency::{EmergencyError, Found, Record},
        mark::{Mark, MarkFile},
        query::Reader,
    },
};

/// What a router begins from.
pub(super) struct Begun {
    pub opening: Opening,
    pub corridor: Corridor,
    pub clock: Clock,
    pub log: emergency::Log,
    /// What was written and is not known carried.
    pub jobs: Vec<Job>,
    pub mark: mark::AtBoot,
    /// What is to be judged before anything that arrives.
    pub findings: Vec<Done>,
    pub reader: Reader,
    pub asking: (Asker, mpsc::Receiver<PendingQuestion>),
}

/// What became of the first commit.
pub(super) struct Opening {
    /// None while it is at work still.
    pub ledger: Option<Ledger>,
    /// The end of what it holds, and the state up to there.
    pub chain: Chain,
    pub durable: Box<State>,
    /// What it could not take, where it cannot be written.
    pub refused: Option<(Batch, Unwritten)>,
}

/// The emergency log, what it holds, and what the ledger's mark knows.
struct Beside {
    log: emergency::Log,
    found: Found,
    mark: Option<MarkFile>,
    set_back: Option<SetBack>,
    is_log_missing: bool,
    /// The mark knew more than the log holds.
    is_log_cut: bool,
    /// `ledger.mark` cannot be read, and the broker's may say more.
    is_in_doubt: bool,
    /// The newest emergency entry that ledger and log hold.
    newest: Option<EmergencyId>,
}

/// Opens and folds the ledger, and says in it that this router did.
///
/// # Errors
/// What `boot::start` says.
pub(super) async fn open(setup: &Setup) -> Result<Begun, BootError> {
    let (ledger, fault) = Ledger::open_or_later(&setup.ledger_dir, setup.ledger_size_max_bytes).await;
    let mut ledger = ledger.with_wal_max(setup.ledger_wal_max_bytes);
    let mut fault = may_pass(fault)?;
    let (beside, state, recovered) = fold(setup, &mut ledger, &mut fault).await?;
    let Beside { log, found, mark, set_back, is_log_missing, is_log_cut, is_in_doubt, newest } = beside;
    let readers = Readers { dir: &setup.ledger_dir, can_be_read: fault.is_none() };
    let durable = Box::new(state.replayed());
    let mut corridor = Corridor::new(state, recovered.chain, setup.names.clone());
    // Before this run's own entries: an earlier run decided it, and its stops may have left.
    let left = emergency::take_over(&mut corridor, &found, is_log_cut, &setup.emergency_path);
    let last = recovered.chain.head();
    let clock = Clock::start(corridor.state().last_at(), setup.clock_behind_max);
    let Recovered { chain, entries, mut parcels, barred } = recovered;
    let opening = Opening { ledger: Some(ledger), chain, durable, refused: None };
    let opening = open_epoch(setup, &mut corridor, opening, fault, &left, clock.now()).await?;
    let (log, waiting) = match opening.refused {
        // Only now that the ledger holds it: until then the log was its only record.
        None => (emergency::clear(log, setup.emergency_path.clone()).await?, None),
        Some(_) => (log, found.newest()),
    };
    parcels.extend(left.iter().filter_map(|record| record.parcel.clone()));
    info!(
        entries,
        epoch = corridor.state().epoch(),
        parcels = parcels.len(),
        commands = corridor.state().commands_in_flight(),
        "the ledger is verified and folded"
    );
    let has_failed = !left.is_empty();
    let Sorted { parked, mut jobs, added } =
        replay::sort(parcels, corridor.state(), &barred, &setup.names, has_failed)?;
    let short = is_short(corridor.state(), &jobs, &parked, &readers.open().await?).await;
    // A commit that came through late may have put a stop into the outbox that has an emergency id
    // too. It leaves under that id, by the parcel of its own record.
    let own: Vec<u64> = left.iter().filter_map(|record| Some(record.parcel.as_ref()?.id)).collect();
    let others = jobs.iter_mut().filter(|job| job.parcel.is_none_or(|id| !own.contains(&id)));
    emergency::leave_out(others, &left);
    corridor.park(parked);
    let ledger_id = corridor.state().genesis().map(|genesis| genesis.ledger_id.clone()).unwrap_or_default();
    // Numbers begin at 1 and have no gap, so the count is the last number.
    let last = Mark { emergency: None, hash: last, ledger_id, seq: entries };
    let (set_back_known, log_path) = (set_back.as_ref(), setup.emergency_path.clone());
    let sight = mark::Sight { set_back: set_back_known, is_in_doubt, log: log_path, newest, waiting };
    let shared = mark::SharedMark::new(last, readers.open().await?, sight);
    let mut findings: Vec<Done> = set_back.map(Done::SetBack).into_iter().collect();
    // It may have been thrown while no router ran: nothing of the outbox leaves before it counts.
    findings.extend(host::latched(&setup.ledger_dir).await);
    findings.extend(is_log_missing.then_some(Done::EmergencyMissing));
    findings.extend(short);
    findings
        .extend(added.first().map(|first| Done::OutboxAdded { count: added.len() as u64, first: *first }));
    Ok(Begun {
        opening,
        corridor,
        clock,
        log,
        jobs,
        mark: (mark, Arc::new(shared)),
        findings,
        reader: readers.open().await?,
        asking: Asker::new(readers.open().await?, setup.rules.clone()),
    })
}

/// The whole ledger as a state, and what lies beside it. `fault` is why the ledger cannot be
/// written, as far as is known.
async fn fold(
    setup: &Setup,
    ledger: &mut Ledger,
    fault: &mut Option<LedgerError>,
) -> Result<(Beside, State, Recovered), BootError> {
    let (log, mut found, log_fault) =
        emergency::open(setup.emergency_path.clone(), setup.emergency_size_bytes, !ledger.was_there())
            .await?;
    let (mark, mut known) = mark::open(&setup.ledger_dir)?;
    let meet = |sealed: &Sealed| {
        found.meet(sealed);
        known.meet(sealed);
    };
    let folded = replay::fold(ledger, &setup.rules, meet).await;
    let (state, recovered) = folded.map_err(|unread| match unread {
        // There is none yet, and none can be begun.
        LedgerError::Missing(_) => fault.take().unwrap_or(unread),
        _ => unread,
    })?;
    check_genesis(setup, &state)?;
    let ledger_id = state.genesis().map(|genesis| genesis.ledger_id.as_str());
    let mut set_back = known.set_back(ledger_id, recovered.entries);
    let newest = state.newest_emergency().max(found.newest());
    let cut = known.cut(ledger_id, recovered.entries, newest, &setup.emergency_path);
    let is_log_cut = cut.is_some();
    set_back = set_back.or(cut);
    // Without a mark on the broker there is nobody else to ask.
    let is_in_doubt = known.is_unreadable && set_back.is_none() && setup.mark_prefix.is_some();
    if known.is_unreadable {
        error!("`ledger.mark` is there and cannot be read: it may have known more than the ledger holds");
        if !is_in_doubt {
            set_back = set_back.or(Some(mark::unreadable(recovered.entries)));
        }
    }
    let is_log_missing = found.is_missing && state.epoch() > 0;
    if is_log_missing {
        error!(
            path = %setup.emergency_path.display(),
            "the emergency log of this ledger was not there: what it held is forgotten, if it held anything"
        );
    }
    match found.check(&setup.emergency_path) {
        // The ledger was set back behind its own log: what that follows on is forgotten.
        Err(EmergencyError::Foreign { .. }) if set_back.is_some() => {
            found = emergency::set_aside(&setup.emergency_path)?;
        }
        checked => checked?,
    }
    if let Some(log_fault) = log_fault {
        if fault.is_none() {
            // A ledger that can be written wants an emergency log that can be, too.
            *fault = may_pass(ledger.probe().await.err())?;
        }
        if fault.is_none() {
            return Err(log_fault.into());
        }
        warn!(error = %log_fault, "the emergency log cannot be written either: a stop that passes is UNAUDITED until it can");
    }
    let beside = Beside { log, found, mark, set_back, is_log_missing, is_log_cut, is_in_doubt, newest };
    Ok((beside, state, recovered))
}

/// A fault that may pass is no reason not to start.
fn may_pass(fault: Option<LedgerError>) -> Result<Option<LedgerError>, LedgerError> {
    match fault {
        Some(fault) if !fault.may_pass() => Err(fault),
        fault => Ok(fault),
    }
}

/// Makes readers of the ledger; of one that cannot be opened now, such as open it when they are
/// asked.
struct Readers<'a> {
    dir: &'a Path,
    can_be_read: bool,
}

impl Readers<'_> {
    async fn open(&self) -> Result<Reader, LedgerError> {
        if self.can_be_read { Reader::open(self.dir).await } else { Ok(Reader::later(self.dir)) }
    }
}

/// An observe ledger is not enforced unasked, and environments do not mix.
fn check_genesis(setup: &Setup, state: &State) -> Result<(), BootError> {
    let Some(genesis) = state.genesis() else { return Ok(()) };
    let dir = setup.ledger_dir.clone();
    let (begun, asked) = (genesis.mode, setup.rules.mode);
    if begun != asked && !(begun == Mode::Observe && setup.adopt) {
        return Err(BootError::Mode { dir, begun, asked });
    }
    if genesis.environment != setup.environment {
        let (begun, asked) = (genesis.environment.clone(), setup.environment.clone());
        return Err(BootError::Environment { dir, begun, asked });
    }
    Ok(())
}

/// Writes the genesis where there is none, what is `left` on the emergency log, and that this
/// router opened the ledger. Where an old ledger does not take it, or could not be opened for that
/// `fault`, it is owed to the ledger.
async fn open_epoch(
    setup: &Setup,
    corridor: &mut Corridor,
    mut opening: Opening,
    fault: Option<LedgerError>,
    left: &[Record],
    now: Timestamp,
) -> Result<Opening, LedgerError> {
    let mut entries: Vec<Sealed> = left.iter().map(|record| record.sealed.clone()).collect();
    let parcels: Vec<Parcel> = left.iter().filter_map(|record| record.parcel.clone()).collect();
    let is_new = corridor.state().genesis().is_none();
    if is_new {
        // Without proof of who speaks there is nothing to be safe from; `init` begins a ledger in
        // SAFE.
        let genesis = genesis(&setup.environment, setup.rules.mode, SafetyMode::Normal)?;
        entries.push(corridor.record(Fact::new(Action::Genesis, now, Change::Genesis(genesis))));
    }
    let opened = Opened {
        catch_up_ms: setup.rules.catch_up_ms,
        epoch: corridor.state().epoch() + 1,
        incarnation: incarnation()?,
        instance: setup.rules.instance.clone(),
        mode: setup.rules.mode,
        settings: Some(settings::of(&setup.config)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    entries.push(corridor.record(Fact::new(Action::Opened, now, Change::Opened(opened))));
    // Without a ledger there is nothing to go on from, and no stop to let pass: it is waited for.
    let may_take = if is_new { Duration::MAX } else { Duration::from_millis(setup.commit_timeout_ms) };
    let (ledger, written) = match (fault, opening.ledger.take()) {
        (None, Some(ledger)) => {
            let (entries, parcels) = (entries.clone(), parcels.clone());
            recorder::commit(ledger, Batch { entries, parcels, ..Batch::default() }, may_take).await
        }
        (Some(fault), ledger) => (ledger, Err(Failure::Said(fault))),
        (None, None) => (None, Err(Failure::Said(LedgerError::Missing(setup.ledger_dir.clone())))),
    };
    opening.ledger = ledger;
    match written {
        Ok(_) => {
            opening.chain = *corridor.chain();
            entries.iter().for_each(|sealed| opening.durable.apply(sealed.entry.seq, &sealed.entry.fact));
        }
        // There is nothing to protect yet.
        Err(Failure::Said(fault)) if is_new || !fault.may_pass() => return Err(fault),
        Err(failure) => {
            let late = failure.log(may_take);
            // It goes on the emergency log with the first stop or before, so that the next start
            // knows this epoch and gives none of its ids again.
            if let Some(opened) = entries.last_mut() {
                corridor.give_emergency_id(opened);
            }
            let owed = Batch { entries, parcels, ..Batch::default() };
            opening.refused = Some((owed, Unwritten { late }));
        }
    }
    Ok(opening)
}

/// Commands that the ledger says are to leave, or wait, and the outbox does not have. That is asked
/// at a start alone: nobody but a router takes anything out of it.
async fn is_short(state: &State, jobs: &[Job], parked: &[Kept], reader: &Reader) -> Option<Done> {
    let waiting: BTreeSet<u64> =
        jobs.iter().flat_map(|job| &job.messages).map(|message| message.seq).collect();
    let kept: BTreeSet<u64> = parked.iter().map(|kept| kept.parcel).collect();
    let leaving = state.leaving_seqs().filter(|seq| !waiting.contains(seq)).map(|seq| (seq, seq));
    let keeping = state.flights().filter_map(|flight| Some((flight.seq, flight.kept()?)));
    let mut lost = BTreeSet::new();
    for (seq, by) in leaving.chain(keeping.filter(|(_, parcel)| !kept.contains(parcel))) {
        // What was answered here, or only looked at, was never to leave; of what came over the
        // emergency log that says what has left.
        let entry = async |seq| reader.entry(seq).await.ok().flatten().map(|sealed| sealed.entry);
        let of_ledger = |entry: &Entry| entry.fact.emergency_id.is_none();
        if entry(seq).await.is_some_and(|entry| !entry.out.is_empty() && of_ledger(&entry))
            && entry(by).await.is_some_and(|entry| of_ledger(&entry))
        {
            lost.insert(seq);
        }
    }
    let first = *lost.first()?;
    let count = lost.len() as u64;
    error!(
        count,
        first, "accepted commands neither left nor wait in the outbox: somebody changed the ledger's file"
    );
    Some(Done::OutboxShort { count, first })
}
