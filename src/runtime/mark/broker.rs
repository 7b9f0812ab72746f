//! The mark on the broker, read on each connection before anybody else has it.
//!
//! Owns: reading the queue that keeps the mark, and what comes of what it says.
//! Never: keeps a connection waiting for a queue or a disk that hangs.
//! Holds: a set-back that the broker's mark shows reaches the router before any delivery.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::mpsc, time::timeout};
use tracing::{error, warn};

use super::{QUEUE_TIMEOUT, SharedMark};
use crate::{
    bus::{Bus, BusError},
    contract::audit::SetBack,
    decision::request::Done,
    ledger::mark::Mark,
    runtime::{link::Connector, topology},
};

/// The timeout for a connection after one on which it was read.
const QUEUE_AGAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// Connections on which the mark has been read before anybody else has them.
pub struct Marked {
    pub inner: Arc<dyn Connector>,
    pub prefix: String,
    pub shared: Arc<SharedMark>,
    /// Where a set-back is sent: the router takes it before any delivery.
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
        let vouches = match timeout(patience, self.look(bus.as_ref(), has_looked)).await {
            Ok(Ok(vouches)) => {
                self.has_looked.store(true, Ordering::Release);
                vouches
            }
            Ok(Err(fault)) => {
                warn!(error = %fault, "the mark on the broker cannot be read");
                false
            }
            Err(_) => {
                warn!("the mark on the broker cannot be read in time");
                false
            }
        };
        if self.shared.is_in_doubt.swap(false, Ordering::AcqRel) {
            self.settle_doubt(vouches).await;
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
    /// Reads the mark; whether it knows the last entry of the ledger as it was opened.
    async fn look(&self, bus: &dyn Bus, has_looked: bool) -> Result<bool, BusError> {
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
        let Some((delivery, settler)) = found else { return Ok(false) };
        // It stays until a later one takes its place.
        settler.requeue(delivery.tag, false).await?;
        settler.close().await;
        let Some(mark) = Mark::decode(&delivery.message.body) else {
            let bytes = delivery.message.body.len();
            error!(
                bytes,
                "the mark on the broker cannot be read: it may have known more than the ledger holds"
            );
            if !has_looked {
                self.tell(self.shared.unreadable()).await;
            }
            return Ok(false);
        };
        match self.shared.compare(&mark, !has_looked).await {
            Ok(Some(set_back)) => {
                if self.shared.is_news(&set_back) {
                    set_back.say("the broker's mark", Some(&self.shared.ledger_id));
                }
                self.tell(set_back).await;
                Ok(false)
            }
            Ok(None) => Ok(mark.seq >= self.shared.last.seq),
            Err(fault) => {
                warn!(error = %fault, "the mark on the broker cannot be compared with the ledger");
                Ok(false)
            }
        }
    }

    /// Sends a set-back that is news to the router.
    async fn tell(&self, set_back: SetBack) {
        if self.shared.is_news(&set_back) {
            self.shared.note(&set_back);
            // A router that is gone needs not know.
            let _ = self.done.send(Done::SetBack(set_back)).await;
        }
    }

    /// What follows from a `ledger.mark` that nobody can read.
    async fn settle_doubt(&self, vouches: bool) {
        if vouches {
            warn!(
                "`ledger.mark` cannot be read; the broker's mark knows the ledger's last entry, and it is written anew"
            );
            self.shared.waits_from.store(0, Ordering::Release);
        } else {
            error!(
                "`ledger.mark` cannot be read, and no mark on the broker knows the ledger's last entry: it counts as set back"
            );
            self.tell(self.shared.unreadable()).await;
        }
    }
}
