//! Writing the marks, beside the ledger and on the broker.
//!
//! Owns: when the file and the queue are written, and a write that hangs.
//! Never: holds up a commit or a stop.
//! Holds: while a set-back is not on record, neither is written.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{QUEUE_TIMEOUT, SharedMark};
use crate::{
    bus::{Departure, Fate},
    contract::message::{Message, Properties},
    ledger::mark::{Mark, MarkFile},
    runtime::{link::Link, topology},
};

/// How often the file is written while the ledger grows.
const FILE_PERIOD: Duration = Duration::from_secs(1);
/// How soon it is looked again whether a set-back is on record.
const SET_BACK_PAUSE: Duration = Duration::from_millis(100);
/// How often the queue is, at most.
const QUEUE_PERIOD: Duration = Duration::from_secs(1);
/// How long reading the ledger or writing the file may hold up the mark on the broker: their disk
/// may hang.
const DISK_TIMEOUT: Duration = Duration::from_millis(250);

/// The file at work; it comes back with what became of it.
pub(super) type Writing = JoinHandle<(MarkFile, std::io::Result<()>)>;

/// Writes the marks.
pub struct Marker {
    pub file: Option<MarkFile>,
    /// A write that takes longer than it may.
    pub writing: Option<Writing>,
    /// That it cannot be written was said.
    pub is_said: bool,
    pub shared: Arc<SharedMark>,
    /// The prefix of the queue; none for a router that publishes nothing.
    pub prefix: Option<String>,
    pub link: Link,
    pub stopping: CancellationToken,
}

impl Marker {
    /// Writes until the router stops; gives itself back for the last mark.
    pub async fn run(mut self) -> Self {
        let (mut written, mut published, mut next) = (None, None, Instant::now());
        let mut waiting = self.shared.waiting.subscribe();
        let mut known = self.shared.last.clone();
        let mut is_said = false;
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return self,
                () = tokio::time::sleep(self.pause()) => {}
                // What the emergency log holds is known at once.
                Ok(()) = waiting.changed() => {}
            }
            let seen = timeout(DISK_TIMEOUT, async {
                if self.shared.waits().await? { Ok(None) } else { self.shared.now().await }
            });
            match seen.await {
                Ok(Ok(Some(mark))) => (known, is_said) = (mark, false),
                Ok(Ok(None)) => continue,
                // What it ended at stays true, where nothing has to be on its record first.
                Ok(Err(_)) | Err(_) if known.seq > 0 && self.is_free() => {
                    known.emergency = *self.shared.waiting.borrow();
                    if !std::mem::replace(&mut is_said, true) {
                        warn!(
                            "the ledger's last entry cannot be read for its mark; its mark keeps the one before"
                        );
                    }
                }
                Ok(Err(_)) | Err(_) => continue,
            }
            let mark = known.clone();
            if written.as_ref() != Some(&mark) && self.write(&mark).await {
                written = Some(mark.clone());
            }
            if published.as_ref() != Some(&mark) && next <= Instant::now() {
                next = Instant::now() + QUEUE_PERIOD;
                if self.publish(&mark).await {
                    published = Some(mark);
                }
            }
        }
    }

    /// Whether no set-back has to be on record before a mark is written.
    fn is_free(&self) -> bool {
        self.shared.waits_from.load(Ordering::Acquire) == 0 || self.shared.is_on_log.load(Ordering::Acquire)
    }

    /// Until the next look: soon, while a set-back is not on record, so that the marks follow it.
    fn pause(&self) -> Duration {
        if self.is_free() { FILE_PERIOD } else { SET_BACK_PAUSE }
    }

    /// The mark of a router that has stopped in good order, while it has its connection still.
    pub async fn last(mut self) {
        if let (Ok(false), Ok(Some(mark))) = (self.shared.waits().await, self.shared.now().await) {
            self.write(&mark).await;
            self.publish(&mark).await;
        }
    }

    /// Whether the file has it. A disk that hangs is waited for a while, and holds nothing else.
    async fn write(&mut self, mark: &Mark) -> bool {
        if let Some(before) = self.writing.take() {
            self.written(before).await;
        }
        // A write that hangs has the file, and a later mark takes the place of this one.
        let Some(mut file) = self.file.take() else { return false };
        let mark = mark.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let written = file.write(&mark);
            (file, written)
        });
        self.written(writing).await
    }

    async fn written(&mut self, mut writing: Writing) -> bool {
        let Ok(done) = timeout(DISK_TIMEOUT, &mut writing).await else {
            self.writing = Some(writing);
            return false;
        };
        let Ok((file, written)) = done else { return false };
        self.file = Some(file);
        match written {
            Ok(()) => {
                self.is_said = false;
                true
            }
            Err(fault) => {
                if !std::mem::replace(&mut self.is_said, true) {
                    warn!(error = %fault, "`ledger.mark` cannot be written: an emergency log that is exchanged is not noticed by it");
                }
                false
            }
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
