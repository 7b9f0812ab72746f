//! The mark while the router runs: written beside the ledger and on the broker, and read before anything is consumed.
//!
//! Owns: what a mark knows more than the ledger holds, the queue that keeps one on the broker, and when both are written.
//! Never: holds up a commit or a stop: a mark that cannot be read or written is said in the log.
//! Holds: while a set-back is not on record, the mark that knew of it stays on the broker.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    link::{Connector, Link},
    topology,
};
use crate::{
    bus::{Bus, BusError, Departure, Fate},
    contract::{
        audit::{Action, SetBack},
        message::{Message, Properties},
    },
    decision::request::Done,
    ledger::{
        LedgerError,
        chain::Sealed,
        mark::{Mark, MarkFile},
        query::{Filter, Reader},
    },
};

/// How often the file is written while the ledger grows.
const FILE_PERIOD: Duration = Duration::from_secs(1);
/// How soon it is looked again whether a set-back is on record.
const SET_BACK_PAUSE: Duration = Duration::from_millis(100);
/// How often the queue is.
const QUEUE_PERIOD: Duration = Duration::from_secs(10);
/// How long reading or writing the queue may take.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a connection after one on which it was read.
const QUEUE_AGAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// A mark that is compared with the entries of a ledger as they are read.
#[derive(Debug)]
pub(super) struct Known {
    mark: Option<Mark>,
    met: bool,
}

impl Known {
    /// Takes note of an entry of the ledger.
    pub fn meet(&mut self, sealed: &Sealed) {
        if let Some(mark) = &self.mark {
            self.met |= mark.seq == sealed.entry.seq && mark.hash == sealed.hash;
        }
    }

    /// What the mark knew more of that ledger than it holds.
    pub fn set_back(&self, ledger_id: &str, ours: u64) -> Option<SetBack> {
        let mark = self.mark.as_ref().filter(|mark| mark.ledger_id == ledger_id && !self.met)?;
        error!(
            known = mark.seq,
            ours, "the ledger was set back: `ledger.mark` knew a later entry than it holds"
        );
        Some(SetBack { known: mark.seq, ours })
    }
}

/// Opens the mark's file. One that cannot be used keeps no router from starting.
pub(super) fn open(dir: &Path) -> (Option<MarkFile>, Known) {
    match MarkFile::open(dir) {
        Ok((file, mark)) => (Some(file), Known { mark, met: false }),
        Err(fault) => {
            warn!(error = %fault, "`ledger.mark` cannot be used; a ledger that is set back is not noticed by it");
            (None, Known { mark: None, met: false })
        }
    }
}

/// What the tasks share about the mark.
pub(super) struct Shared {
    pub ledger_id: String,
    pub reader: Reader,
    /// The entry that the ledger ended at when a set-back was noticed, plus one; 0 where none was, or it is on record.
    pub waits_from: AtomicU64,
    /// The latest entry that a mark was found to know more than the ledger: another mark of no later one is no news.
    pub known: AtomicU64,
}

impl Shared {
    /// The mark of the ledger as it stands.
    async fn now(&self) -> Result<Option<Mark>, LedgerError> {
        let head = self.reader.head().await?;
        Ok(head.map(|(seq, hash)| Mark { hash, ledger_id: self.ledger_id.clone(), seq }))
    }

    /// What a mark knows more than the ledger holds.
    async fn compare(&self, mark: &Mark) -> Result<Option<SetBack>, LedgerError> {
        let Some(ours) = self.now().await?.filter(|ours| ours.ledger_id == mark.ledger_id) else {
            return Ok(None);
        };
        let entry = self.reader.entry(mark.seq).await?;
        let holds = entry.is_some_and(|entry| entry.hash == mark.hash);
        Ok((!holds).then_some(SetBack { known: mark.seq, ours: ours.seq }))
    }

    /// Whether a set-back was noticed and is not on record yet.
    async fn waits(&self) -> Result<bool, LedgerError> {
        let from = self.waits_from.load(Ordering::Acquire);
        if from == 0 {
            return Ok(false);
        }
        let later = Filter { from: Some(from), ..Filter::default() };
        let later = self.reader.select(&later, usize::MAX).await?;
        let on_record = later.iter().any(|sealed| sealed.entry.fact.action == Action::SetBack);
        if on_record {
            self.waits_from.store(0, Ordering::Release);
        }
        Ok(!on_record)
    }
}

/// Connections on which the mark has been read before anybody else has them.
pub(super) struct Marked {
    pub inner: Arc<dyn Connector>,
    pub prefix: String,
    pub shared: Arc<Shared>,
    /// Where a set-back is told: the router takes it before any delivery.
    pub done: mpsc::Sender<Done>,
    /// Whether it has been read since the router started. A ledger is set back between two runs.
    pub has_looked: AtomicBool,
}

#[async_trait]
impl Connector for Marked {
    async fn connect(&self) -> Result<Arc<dyn Bus>, BusError> {
        let bus = self.inner.connect().await?;
        let has_looked = self.has_looked.load(Ordering::Acquire);
        let patience = if has_looked { QUEUE_AGAIN_TIMEOUT } else { QUEUE_TIMEOUT };
        match timeout(patience, self.look(bus.as_ref(), has_looked)).await {
            Ok(Ok(())) => self.has_looked.store(true, Ordering::Release),
            Ok(Err(fault)) => warn!(error = %fault, "the mark on the broker cannot be read"),
            Err(_) => warn!("the mark on the broker cannot be read in time"),
        }
        Ok(bus)
    }

    fn pause_ms(&self, attempt: u32) -> u64 {
        self.inner.pause_ms(attempt)
    }

    fn disappointed(&self) {
        self.inner.disappointed();
    }
}

impl Marked {
    async fn look(&self, bus: &dyn Bus, has_looked: bool) -> Result<(), BusError> {
        let name = topology::mark_queue(&self.prefix);
        // Before 4.3 the broker answers no binding while a node of its cluster hangs.
        let found = if has_looked { bus.get(&name).await.ok() } else { None };
        let found = match found {
            Some(found) => found,
            None => {
                bus.declare(&topology::mark(&self.prefix)).await?;
                bus.get(&name).await?
            }
        };
        let Some((delivery, settler)) = found else { return Ok(()) };
        // It stays until a later one takes its place.
        settler.requeue(delivery.tag, false).await?;
        settler.close().await;
        let Some(mark) = Mark::decode(&delivery.message.body) else { return Ok(()) };
        let is_news = mark.seq > self.shared.known.load(Ordering::Acquire);
        match self.shared.compare(&mark).await {
            Ok(Some(set_back)) if is_news => {
                let SetBack { known, ours } = set_back;
                error!(
                    known,
                    ours, "the ledger was set back: the broker's mark knew a later entry than it holds"
                );
                self.shared.known.store(known, Ordering::Release);
                self.shared.waits_from.store(ours + 1, Ordering::Release);
                // A router that is gone needs not know.
                let _ = self.done.send(Done::SetBack(set_back)).await;
            }
            Ok(_) => {}
            Err(fault) => warn!(error = %fault, "the mark on the broker cannot be compared with the ledger"),
        }
        Ok(())
    }
}

/// Writes the marks.
pub(super) struct Marker {
    pub file: Option<MarkFile>,
    pub shared: Arc<Shared>,
    /// The prefix of the queue; none for a router that publishes nothing.
    pub prefix: Option<String>,
    pub link: Link,
    pub stopping: CancellationToken,
}

impl Marker {
    /// Writes until the router stops; gives itself back for the last mark.
    pub async fn run(mut self) -> Self {
        let (mut written, mut published, mut next) = (None, None, Instant::now());
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return self,
                () = tokio::time::sleep(self.pause()) => {}
            }
            let mark = match (self.shared.waits().await, self.shared.now().await) {
                (Ok(false), Ok(Some(mark))) => mark,
                (Err(fault), _) | (_, Err(fault)) => {
                    warn!(error = %fault, "the ledger's last entry cannot be read for its mark");
                    continue;
                }
                _ => continue,
            };
            if written.as_ref() != Some(&mark) {
                self.write(&mark).await;
                written = Some(mark.clone());
            }
            if published.as_ref() != Some(&mark) && next <= Instant::now() && self.publish(&mark).await {
                published = Some(mark);
                next = Instant::now() + QUEUE_PERIOD;
            }
        }
    }

    /// Until the next look: soon, while a set-back is not on record, so that the marks follow it.
    fn pause(&self) -> Duration {
        if self.shared.waits_from.load(Ordering::Acquire) > 0 { SET_BACK_PAUSE } else { FILE_PERIOD }
    }

    /// The mark of a router that has stopped in good order, while it has its connection still.
    pub async fn last(mut self) {
        if let (Ok(false), Ok(Some(mark))) = (self.shared.waits().await, self.shared.now().await) {
            self.write(&mark).await;
            self.publish(&mark).await;
        }
    }

    async fn write(&mut self, mark: &Mark) {
        let Some(mut file) = self.file.take() else { return };
        let mark = mark.clone();
        // A disk that hangs here holds this task only.
        let writing = tokio::task::spawn_blocking(move || {
            let written = file.write(&mark);
            (file, written)
        });
        let Ok((file, written)) = writing.await else { return };
        self.file = Some(file);
        if let Err(fault) = written {
            warn!(error = %fault, "`ledger.mark` cannot be written");
        }
    }

    /// Whether the broker has it.
    async fn publish(&self, mark: &Mark) -> bool {
        let (Some(prefix), Some(connected)) = (&self.prefix, self.link.now()) else { return false };
        let message = Message {
            exchange: topology::mark_queue(prefix),
            routing_key: String::new(),
            properties: Properties { delivery_mode: Some(2), ..Properties::default() },
            body: mark.encode().into(),
        };
        let departure = Departure { message, mandatory: false };
        let publishing = async {
            let publisher = connected.bus.publisher().await?;
            publisher.publish(&[&departure], QUEUE_TIMEOUT).await
        };
        match timeout(QUEUE_TIMEOUT, publishing).await {
            Ok(Ok(fates)) if fates.iter().all(|fate| *fate == Fate::Carried) => true,
            Ok(Err(fault)) => {
                warn!(error = %fault, "the mark cannot be kept on the broker");
                false
            }
            Ok(Ok(_)) | Err(_) => false,
        }
    }
}
