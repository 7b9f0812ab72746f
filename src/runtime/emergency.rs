//! The emergency log's keeper: a thread that writes, so that a disk that hangs holds no stop.
//!
//! Owns: the log while the router runs, what is under way to it, and what the log is for at boot.
//! Never: waits longer for the disk than it is told to, or lets a record overtake an earlier one.
//! Holds: what counts as written is on the disk; a write that comes late counts when it comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tracing::{error, info, warn};

use super::{corridor::Corridor, dispatch::Job};
use crate::{
    contract::{
        audit::{Change, Verdict},
        digest::Digest,
    },
    ledger::{
        Parcel,
        chain::Sealed,
        emergency::{EmergencyError, EmergencyLog, Found, Record},
    },
    telemetry::Telemetry,
};

/// How many orders may wait for the thread: one write, and a clearing of each recovery meanwhile.
const ORDERS_WAITING_MAX: usize = 8;
/// How many records one order takes at most, so that what waits is not copied whole again and again.
const RECORDS_PER_ORDER_MAX: usize = 256;

enum Order {
    Write(Vec<Record>, oneshot::Sender<Written>),
    Clear,
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
}

/// The recorder's way to the log.
#[derive(Clone)]
pub(super) struct Clearer(mpsc::Sender<Order>);

/// Starts the thread that owns the log. The last answer comes when the thread has let go of the file.
///
/// # Errors
/// When the system starts no thread.
pub(super) fn start(
    log: EmergencyLog,
    timeout: Duration,
    telemetry: Arc<Telemetry>,
) -> io::Result<(Emergency, Clearer, oneshot::Receiver<()>)> {
    let (orders, taken) = mpsc::channel(ORDERS_WAITING_MAX);
    let (end, ended) = oneshot::channel();
    // A thread of its own: a write that hangs must keep neither the tasks nor the end of the process waiting.
    std::thread::Builder::new().name("emergency-log".to_owned()).spawn(move || {
        keep(log, taken, &telemetry);
        // Whoever does not wait any more need not hear it.
        let _ = end.send(());
    })?;
    let clearer = Clearer(orders.clone());
    Ok((Emergency { orders, late: None, last: None, timeout }, clearer, ended))
}

fn keep(mut log: EmergencyLog, mut orders: mpsc::Receiver<Order>, telemetry: &Telemetry) {
    while let Some(order) = orders.blocking_recv() {
        match order {
            Order::Write(records, answer) => {
                let result = log.append(&records);
                telemetry.metrics.set_emergency_entries(log.count());
                // A router that is gone has said what it did not know to be written.
                let _ = answer.send(Written { result, last: log.last() });
            }
            Order::Clear => {
                if let Err(fault) = log.clear() {
                    warn!(error = %fault, "the emergency log cannot be cleared yet; the ledger holds what is on it");
                }
                telemetry.metrics.set_emergency_entries(log.count());
            }
        }
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
    /// Writes what is not on the log yet, within the time that a write may take. Answers how many are on it then,
    /// from the first.
    pub async fn write(&mut self, records: &[Record]) -> usize {
        let until = Instant::now() + self.timeout;
        loop {
            let on_log = self.on_log(records);
            let waiting: Vec<Record> =
                records.iter().skip(on_log).take(RECORDS_PER_ORDER_MAX).cloned().collect();
            if waiting.is_empty() || self.late.is_some() {
                return on_log;
            }
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
        result
            .inspect_err(|fault| error!(error = %fault, "the emergency log cannot be written either"))
            .is_ok()
    }

    fn on_log(&self, records: &[Record]) -> usize {
        let last = records.iter().rposition(|record| Some(record.sealed.hash) == self.last);
        last.map_or(0, |index| index + 1)
    }
}

/// Opens the log, off the tasks' threads.
///
/// # Errors
/// What `EmergencyLog::open` says.
pub(super) async fn open(path: PathBuf, size_bytes: u64) -> Result<(EmergencyLog, Found), EmergencyError> {
    let place = path.clone();
    let opened = tokio::task::spawn_blocking(move || EmergencyLog::open(&place, size_bytes)).await;
    opened.unwrap_or_else(|fault| Err(EmergencyError::File { path, source: io::Error::other(fault) }))
}

/// Clears the log, off the tasks' threads.
///
/// # Errors
/// What `EmergencyLog::clear` says.
pub(super) async fn clear(mut log: EmergencyLog) -> Result<EmergencyLog, EmergencyError> {
    let path = log.path().to_owned();
    let cleared = tokio::task::spawn_blocking(move || log.clear().map(|()| log)).await;
    cleared.unwrap_or_else(|fault| Err(EmergencyError::File { path, source: io::Error::other(fault) }))
}

/// Keeps a copy of a log that belongs to what the ledger has forgotten, for those who ask: `emergency.foreign` beside it.
/// Nothing of it is taken over.
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

/// Seals what a router that is gone left on the log at the end of the chain; without the messages that it says are
/// carried.
pub(super) fn take_over(corridor: &mut Corridor, found: &Found, path: &Path) -> Vec<Record> {
    if found.torn {
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

/// Seals records anew at the end of the chain, and takes their messages to the places that their entries have then.
pub(super) fn seal_again(corridor: &mut Corridor, records: Vec<Record>) -> Vec<Record> {
    let mut places = BTreeMap::new();
    let again = |Record { sealed, parcel }: Record| {
        let before = sealed.entry.seq;
        let sealed = corridor.record_again(sealed.entry);
        places.insert(before, sealed.entry.seq);
        Record { sealed, parcel }
    };
    let mut sealed: Vec<Record> = records.into_iter().map(again).collect();
    for record in sealed.iter_mut() {
        record.parcel = record.parcel.take().and_then(|parcel| moved(parcel, &places));
    }
    sealed
}

/// A parcel in the places that its entries have now. A message whose entry is not on record is not among them.
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

/// Leaves out of what is to be carried again what has left on the emergency log's record, or leaves on it now: a stop
/// whose commit was given up came again, was carried under its emergency id, and then the commit came through. What was
/// refused or suppressed when it came again has not left.
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
    fn hanging(log: EmergencyLog, timeout: Duration) -> (Emergency, gate::Sender<()>) {
        let (orders, taken) = mpsc::channel(ORDERS_WAITING_MAX);
        let (open, opened) = gate::channel();
        std::thread::spawn(move || {
            opened.recv().unwrap();
            keep(log, taken, &Telemetry::default());
        });
        (Emergency { orders, late: None, last: None, timeout }, open)
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_nothing_up_and_what_it_writes_late_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(emergency::FILE);
        let (log, _) = open(path.clone(), 64 * 1024).await.unwrap();
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
