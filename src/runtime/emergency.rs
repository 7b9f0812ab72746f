//! The emergency log's keeper: a thread that writes, so that a disk that hangs holds no stop.
//!
//! Owns: the log while the router runs, what is under way to it, and what the log is for at boot.
//! Never: waits longer for the disk than it is told to, or lets a record overtake an earlier one.
//! Holds: what counts as written is on the disk; a write that comes late counts when it comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tracing::{error, info, warn};

use super::{corridor::Corridor, dispatch::Job, mark};
use crate::{
    contract::{
        audit::{Action, Change, Verdict},
        digest::Digest,
    },
    ledger::{
        Parcel,
        chain::Sealed,
        emergency::{EmergencyError, EmergencyLog, Found, Record},
    },
    telemetry::{Telemetry, repeats::Recurring},
};

/// How often it is looked whether the file is there still.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How many orders may wait for the thread: one write, and a clearing of each recovery meanwhile.
const ORDERS_WAITING_MAX: usize = 8;
/// How many records one order takes at most, so that what waits is not copied whole again and
/// again.
const RECORDS_PER_ORDER_MAX: usize = 256;

enum Order {
    Write(Vec<Record>, oneshot::Sender<Written>),
    Clear,
    Look,
}

/// What became of a write.
struct Written {
    result: Result<(), EmergencyError>,
    last: Option<Digest>,
}

/// The router's way to the log.
pub(super) struct Emergency {
    orders: mpsc::Sender<Order>,
    /// A write that took longer than it may.
    late: Option<oneshot::Receiver<Written>>,
    /// The last entry on the log, as far as is known. What it follows on is there too.
    last: Option<Digest>,
    timeout: Duration,
    /// The file was found gone, and what it held is to be written anew.
    is_lost: Arc<AtomicBool>,
    recurring: Recurring,
}

/// The recorder's way to the log.
#[derive(Clone)]
pub(super) struct Clearer(mpsc::Sender<Order>);

/// The log, or where it is to be opened: on a file system that cannot be written it is opened by
/// the first write that can.
pub(super) enum Log {
    Open(EmergencyLog),
    Later { path: PathBuf, size_bytes: u64, last: Option<Digest> },
}

impl Log {
    /// The last entry that it holds.
    fn last(&self) -> Option<Digest> {
        match self {
            Self::Open(log) => log.last(),
            Self::Later { last, .. } => *last,
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Open(log) => log.count(),
            Self::Later { .. } => 0,
        }
    }

    /// Lets go of a file that is not there any more, and returns the fault where it does.
    fn let_go(&mut self) -> Option<EmergencyError> {
        let Self::Open(log) = self else { return None };
        let gone = log.look().err().filter(|fault| matches!(fault, EmergencyError::Gone(_)))?;
        let (path, size_bytes) = (log.path().to_owned(), log.size_bytes());
        *self = Self::Later { path, size_bytes, last: None };
        Some(gone)
    }

    fn ready(&mut self) -> Result<&mut EmergencyLog, EmergencyError> {
        if let Self::Later { path, size_bytes, last } = self {
            let (log, _) = EmergencyLog::open(path, *size_bytes, false)?;
            // It was not open in between: somebody else may have written on it.
            if log.last() != *last {
                let source = io::Error::other("another router wrote on it since this one started");
                return Err(EmergencyError::File { path: path.clone(), source });
            }
            *self = Self::Open(log);
        }
        match self {
            Self::Open(log) => Ok(log),
            Self::Later { path, .. } => Err(EmergencyError::Missing(path.clone())),
        }
    }
}

/// Starts the thread that owns the log. The last answer comes when the thread has let go of the
/// file.
///
/// # Errors
/// When the system starts no thread.
pub(super) fn start(
    log: Log,
    timeout: Duration,
    telemetry: Arc<Telemetry>,
    shared: Arc<mark::SharedMark>,
) -> io::Result<(Emergency, Clearer, oneshot::Receiver<()>)> {
    let (orders, taken) = mpsc::channel(ORDERS_WAITING_MAX);
    let (end, ended) = oneshot::channel();
    let last = log.last();
    let is_lost = Arc::new(AtomicBool::new(false));
    let keeper = Keeper { log, telemetry, shared, is_lost: Arc::clone(&is_lost), is_anew: false };
    // Weak: another sender would keep the thread, and with it the file's lock, for ever.
    tokio::spawn(look(orders.downgrade()));
    // A thread of its own: a write that hangs must keep neither the tasks nor the end of the
    // process waiting.
    std::thread::Builder::new().name("emergency-log".to_owned()).spawn(move || {
        keeper.keep(taken);
        // Whoever does not wait any more need not hear it.
        let _ = end.send(());
    })?;
    let clearer = Clearer(orders.clone());
    let (late, recurring) = Default::default();
    Ok((Emergency { orders, late, last, timeout, is_lost, recurring }, clearer, ended))
}

/// Has the thread look after its file for as long as somebody may write to it.
async fn look(orders: mpsc::WeakSender<Order>) {
    loop {
        tokio::time::sleep(LOOK_PERIOD).await;
        let Some(orders) = orders.upgrade() else { return };
        // Where it is busy it looks anyhow.
        let _ = orders.try_send(Order::Look);
    }
}

/// What the thread has.
struct Keeper {
    log: Log,
    telemetry: Arc<Telemetry>,
    shared: Arc<mark::SharedMark>,
    is_lost: Arc<AtomicBool>,
    /// The file was found gone, and no other is open in its place.
    is_anew: bool,
}

impl Keeper {
    fn keep(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.blocking_recv() {
            // Before each order: a file that was removed still takes writes, and nobody would ever
            // read them.
            let gone = self.log.let_go();
            if let Some(fault) = &gone {
                error!(error = %fault, "the emergency log is gone");
                self.is_anew = true;
                self.telemetry.health.set_emergency_log_gone(true);
            }
            match (order, gone) {
                (Order::Write(_, answer), Some(fault)) => {
                    // Whoever asks writes everything anew.
                    let _ = answer.send(Written { result: Err(fault), last: None });
                    continue;
                }
                // These orders have no answer: the router learns of it before its next write.
                (_, Some(_)) => self.is_lost.store(true, Ordering::Release),
                (Order::Write(records, answer), None) => {
                    let result = match records.is_empty() {
                        true => Ok(()),
                        false => self.log.ready().and_then(|log| log.append(&records)),
                    };
                    self.written(&records);
                    // A router that is gone has said what it did not know to be written.
                    let _ = answer.send(Written { result, last: self.log.last() });
                }
                (Order::Clear, None) => match self.log.ready().and_then(EmergencyLog::clear) {
                    Ok(()) => self.shared.waits_on_log(None, false),
                    Err(fault) => {
                        warn!(error = %fault, "the emergency log cannot be cleared yet; the ledger holds what is on it");
                    }
                },
                (Order::Look, None) => {}
            }
            if self.is_anew && self.log.ready().is_ok() {
                self.is_anew = false;
                self.telemetry.health.set_emergency_log_gone(false);
                warn!(
                    "the emergency log was made anew; what was on it is written to it as long as the ledger cannot be"
                );
            }
            self.telemetry.metrics.set_emergency_entries(self.log.count());
        }
    }

    /// The mark knows what is on the log now.
    fn written(&self, records: &[Record]) {
        let last = self.log.last();
        let Some(at) = records.iter().rposition(|record| Some(record.sealed.hash) == last) else { return };
        let written = records.get(..=at).unwrap_or_default();
        let is_told = written.iter().any(|record| record.sealed.entry.fact.action == Action::SetBack);
        self.shared.waits_on_log(written.last().and_then(Record::id), is_told);
    }
}

impl Clearer {
    /// The ledger holds what is on the log: it is forgotten there.
    pub fn clear(&self) {
        if self.0.try_send(Order::Clear).is_err() {
            // What stays is told from what is new by its ids.
            warn!("the emergency log is busy and is not cleared; the ledger holds what is on it");
        }
    }
}

impl Emergency {
    /// Writes what is not on the log yet, within the time that a write may take. Returns how many
    /// are on it then, from the first.
    pub async fn write(&mut self, records: &[Record]) -> usize {
        let until = Instant::now() + self.timeout;
        if self.is_lost.swap(false, Ordering::AcqRel) {
            // The file in its place holds nothing: every record is written to it, from the first.
            self.last = None;
        }
        // Also where nothing is to be written it is asked once whether the file is there.
        let mut is_asked = records.is_empty();
        loop {
            let on_log = self.on_log(records);
            let waiting: Vec<Record> =
                records.iter().skip(on_log).take(RECORDS_PER_ORDER_MAX).cloned().collect();
            if (waiting.is_empty() && is_asked) || self.late.is_some() {
                return on_log;
            }
            is_asked = true;
            let (answer, mut written) = oneshot::channel();
            if self.orders.try_send(Order::Write(waiting, answer)).is_err() {
                error!("the emergency log is busy or gone; nothing is written to it now");
                return on_log;
            }
            match timeout_at(until, &mut written).await {
                Ok(written) => {
                    if !self.take(written.ok()) {
                        return self.on_log(records);
                    }
                }
                Err(_) => {
                    error!(
                        timeout_ms = self.timeout.as_millis(),
                        "the emergency log takes too long to write"
                    );
                    // Kept and not dropped: while it is under way nothing else may be written
                    // behind it.
                    self.late = Some(written);
                    return on_log;
                }
            }
        }
    }

    /// Waits until a late write is over; for ever where there is none.
    pub async fn late(&mut self) {
        let Some(late) = &mut self.late else { return std::future::pending().await };
        let written = late.await.ok();
        self.late = None;
        if self.take(written) {
            warn!("the emergency log has been written, late");
        }
    }

    /// Takes an answer; whether there is reason to go on.
    fn take(&mut self, written: Option<Written>) -> bool {
        let Some(Written { result, last }) = written else {
            error!("the emergency log is gone; a restart opens it again");
            return false;
        };
        self.last = last;
        match result {
            // It is said already; another one is opened by the next write.
            Ok(()) | Err(EmergencyError::Gone(_)) => true,
            Err(fault) => {
                if let Some(repeated) = self.recurring.due(&fault, std::time::Instant::now()) {
                    error!(error = %fault, repeated, "the emergency log cannot be written either");
                }
                false
            }
        }
    }

    fn on_log(&self, records: &[Record]) -> usize {
        let last = records.iter().rposition(|record| Some(record.sealed.hash) == self.last);
        last.map_or(0, |index| index + 1)
    }
}

/// Opens the log, off the tasks' threads. One that cannot be written now comes with the reason and
/// with what it holds.
///
/// # Errors
/// What `EmergencyLog::open` says, where what it holds cannot be read either.
pub(super) async fn open(
    path: PathBuf,
    size_bytes: u64,
    is_first: bool,
) -> Result<(Log, Found, Option<EmergencyError>), EmergencyError> {
    let place = path.clone();
    let opened = tokio::task::spawn_blocking(move || open_or_read(place, size_bytes, is_first)).await;
    opened.unwrap_or_else(|fault| Err(EmergencyError::File { path, source: io::Error::other(fault) }))
}

fn open_or_read(
    path: PathBuf,
    size_bytes: u64,
    is_first: bool,
) -> Result<(Log, Found, Option<EmergencyError>), EmergencyError> {
    let fault = match EmergencyLog::open(&path, size_bytes, is_first) {
        Ok((log, found)) => return Ok((Log::Open(log), found, None)),
        Err(fault @ EmergencyError::File { .. }) => fault,
        Err(fault) => return Err(fault),
    };
    let found = match crate::ledger::emergency::read(&path) {
        Ok(found) => found,
        Err(EmergencyError::Missing(_)) => Found::missing(),
        Err(_) => return Err(fault),
    };
    let last = found.records.last().map(|record| record.sealed.hash);
    Ok((Log::Later { path, size_bytes, last }, found, Some(fault)))
}

/// Clears the log, off the tasks' threads.
///
/// # Errors
/// What `EmergencyLog::clear` says.
pub(super) async fn clear(mut log: Log, path: PathBuf) -> Result<Log, EmergencyError> {
    let cleared =
        tokio::task::spawn_blocking(move || log.ready().and_then(EmergencyLog::clear).map(|()| log)).await;
    cleared.unwrap_or_else(|fault| Err(EmergencyError::File { path, source: io::Error::other(fault) }))
}

/// Keeps a copy of a log that belongs to what the ledger has forgotten, for those who ask:
/// `emergency.foreign` beside it. Nothing of it is taken over.
///
/// # Errors
/// When the copy cannot be made: the log is not cleared then.
pub(super) fn set_aside(path: &Path) -> Result<Found, EmergencyError> {
    let named =
        |n: u32| if n == 0 { "emergency.foreign".to_owned() } else { format!("emergency.foreign.{n}") };
    let places = (0..).map(|n| path.with_file_name(named(n)));
    let place =
        places.into_iter().find(|place| !place.exists()).unwrap_or_else(|| path.with_extension("foreign"));
    let fault = |source| EmergencyError::File { path: place.clone(), source };
    std::fs::copy(path, &place).map_err(fault)?;
    io::Result::and_then(std::fs::File::open(&place), |copy| copy.sync_all()).map_err(fault)?;
    warn!(
        path = %place.display(),
        "the emergency log is of what the ledger has forgotten; it is kept here, and nothing of it is appended"
    );
    Ok(Found::default())
}

/// Seals what a router that is gone left on the log at the end of the chain; without the messages
/// that it says are carried.
pub(super) fn take_over(corridor: &mut Corridor, found: &Found, is_cut: bool, path: &Path) -> Vec<Record> {
    // Where the mark knows more than is there it was no write that was cut off.
    if found.torn && !is_cut {
        warn!(path = %path.display(), "a last write to the emergency log was cut off; what it was for was carried as UNAUDITED, or not at all");
    }
    let mut records = found.newer_than(corridor.state().newest_emergency());
    if records.is_empty() {
        return records;
    }
    let carried: Vec<(u64, u64)> = records.iter().flat_map(spans).collect();
    let is_carried = |seq: u64| carried.iter().any(|(first, last)| (*first..=*last).contains(&seq));
    for record in &mut records {
        record.parcel = record.parcel.take().filter(|parcel| !is_carried(parcel.id));
    }
    info!(
        entries = records.len(),
        path = %path.display(),
        "the emergency log holds what the ledger could not take; it is appended now"
    );
    seal_again(corridor, records)
}

/// The entries that a record says are carried.
fn spans(record: &Record) -> Vec<(u64, u64)> {
    match &record.sealed.entry.fact.change {
        Change::Carried(carried) => carried.spans.clone(),
        _ => Vec::new(),
    }
}

/// Each entry with the parcel that is its own.
pub(super) fn records(entries: Vec<Sealed>, parcels: Vec<Parcel>) -> Vec<Record> {
    let mut parcels: BTreeMap<u64, Parcel> = parcels.into_iter().map(|parcel| (parcel.id, parcel)).collect();
    let of = |sealed: Sealed| Record { parcel: parcels.remove(&sealed.entry.seq), sealed };
    entries.into_iter().map(of).collect()
}

/// Seals records anew at the end of the chain, and takes their messages to the places that their
/// entries have then.
pub(super) fn seal_again(corridor: &mut Corridor, records: Vec<Record>) -> Vec<Record> {
    let mut places = BTreeMap::new();
    let again = |Record { sealed, parcel }: Record| {
        let before = sealed.entry.seq;
        let sealed = corridor.record_again(sealed.entry);
        places.insert(before, sealed.entry.seq);
        Record { sealed, parcel }
    };
    let mut sealed: Vec<Record> = records.into_iter().map(again).collect();
    // In a second pass: a parcel has messages of later entries, whose places are known now.
    for record in sealed.iter_mut() {
        record.parcel = record.parcel.take().and_then(|parcel| moved(parcel, &places));
    }
    sealed
}

/// A parcel in the places that its entries have now. A message whose entry is not on record is not
/// among them.
fn moved(parcel: Parcel, places: &BTreeMap<u64, u64>) -> Option<Parcel> {
    let mut messages = parcel
        .unpack()
        .inspect_err(|fault| error!(error = %fault, "messages of the emergency log cannot be read"))
        .ok()?;
    messages.retain_mut(|outgoing| {
        let now = places.get(&outgoing.seq).copied();
        outgoing.seq = now.unwrap_or_default();
        now.is_some()
    });
    let messages = messages
        .iter()
        .map(|outgoing| (outgoing.seq, outgoing.ordinal, outgoing.mandatory, &outgoing.message));
    Parcel::pack(parcel.lane, messages)
}

/// Leaves out of what is to be carried again what has left on the emergency log's record, or leaves
/// on it now: a stop whose commit was given up came again, was carried under its emergency id, and
/// then the commit came through. What was refused or suppressed when it came again has not left.
pub(super) fn leave_out<'a>(jobs: impl Iterator<Item = &'a mut Job>, records: &[Record]) {
    let facts = records.iter().map(|record| &record.sealed.entry.fact);
    let carried = facts.filter(|fact| fact.verdict == Some(Verdict::Forward));
    let bodies: BTreeSet<Digest> = carried.filter_map(|fact| fact.body).collect();
    for job in jobs {
        job.messages.retain(|outbound| !bodies.contains(&Digest::of(&outbound.departure.message.body)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as gate;

    use super::*;
    use crate::{
        contract::{
            audit::{Action, EmergencyId, Fact},
            message::{Message, Properties},
            timestamp::Timestamp,
        },
        ledger::{Outgoing, chain::Chain, emergency},
        runtime::dispatch::Outbound,
    };

    fn record(chain: &mut Chain, n: u64) -> Record {
        let fact = Fact::new(Action::Requested, Timestamp::from_micros(0), Change::None);
        let fact = Fact { emergency_id: Some(EmergencyId { epoch: 1, n }), ..fact };
        Record { sealed: chain.seal(fact, Vec::new()), parcel: None }
    }

    #[test]
    fn only_what_was_carried_meanwhile_is_left_out() {
        let message = Message {
            exchange: "swarmgate.out".to_owned(),
            routing_key: "signal.bot-stop.a.b.c".to_owned(),
            properties: Properties::default(),
            body: "{}".into(),
        };
        let outgoing = Outgoing { seq: 7, ordinal: 0, mandatory: true, message };
        for (verdict, left) in [(Verdict::Forward, 0), (Verdict::Refuse, 1), (Verdict::Suppress, 1)] {
            let mut record = record(&mut Chain::new(), 1);
            let fact = &mut record.sealed.entry.fact;
            (fact.verdict, fact.body) = (Some(verdict), Some(Digest::of(b"{}")));
            let mut job = Job { messages: vec![Outbound::from(outgoing.clone())], ..Job::default() };
            leave_out([&mut job].into_iter(), &[record]);
            assert_eq!(job.messages.len(), left, "{verdict}");
        }
    }

    /// A keeper whose disk hangs until the gate says a word.
    fn hanging(log: Log, timeout: Duration) -> (Emergency, gate::Sender<()>) {
        let (orders, taken) = mpsc::channel(ORDERS_WAITING_MAX);
        let (open, opened) = gate::channel();
        std::thread::spawn(move || {
            opened.recv().unwrap();
            let (telemetry, shared) = (Arc::default(), Arc::new(mark::SharedMark::of_nothing()));
            Keeper { log, telemetry, shared, is_lost: Arc::default(), is_anew: false }.keep(taken);
        });
        let (late, last, is_lost, recurring) = Default::default();
        (Emergency { orders, late, last, timeout, is_lost, recurring }, open)
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_nothing_up_and_what_it_writes_late_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(emergency::FILE);
        let (log, ..) = open(path.clone(), 64 * 1024, true).await.unwrap();
        let (mut emergency, open) = hanging(log, Duration::from_millis(100));
        let mut chain = Chain::new();
        let mut records = vec![record(&mut chain, 1)];
        let started = Instant::now();
        assert_eq!(emergency.write(&records).await, 0);
        records.push(record(&mut chain, 2));
        for _ in 0..50 {
            assert_eq!(emergency.write(&records).await, 0, "a second write was waited for");
        }
        let took = started.elapsed();
        assert!((100..2000).contains(&took.as_millis()), "{took:?}");
        open.send(()).unwrap();
        emergency.late().await;
        assert_eq!(emergency.write(&records).await, 2);
        assert_eq!(emergency::read(&path).unwrap().records, records, "each once, in order");
        let cleared = Clearer(emergency.orders.clone());
        cleared.clear();
        let next = vec![record(&mut chain, 3)];
        assert_eq!(emergency.write(&next).await, 1);
        assert_eq!(emergency::read(&path).unwrap().records, next, "written behind the clearing");
    }
}
