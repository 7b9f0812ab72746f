//! Intake: off the queue and read, one task a lane, in order.
//!
//! Owns: a lane's consumer, and reading (gates 1 and 2) before the narrow part of the corridor.
//! Never: drops or settles a delivery; what it does not hand on goes back to its queue with the consumer.
//! Holds: deliveries of a lane reach the router in the order they came; what is unread is bounded by the prefetch.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{corridor, link::Link};
use crate::{
    bus::{BusError, Consumer},
    contract::{Contract, lane::Lane, message::Message},
    decision::request::Arrival,
    telemetry::Telemetry,
};

/// A delivery, read.
#[derive(Debug)]
pub(super) struct Incoming {
    /// What it says.
    pub arrival: Box<Arrival>,
    /// As it came.
    pub message: Message,
    /// To settle it by.
    pub tag: u64,
}

/// Deliveries of one lane, in order.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Their lane.
    pub lane: Lane,
    /// Which opening of the lane's consumer their tags belong to.
    pub opening: u64,
    /// The deliveries.
    pub incoming: Vec<Incoming>,
}

/// One lane's intake.
pub(super) struct Intake {
    pub lane: Lane,
    pub queue: String,
    pub prefetch_count: u16,
    pub batch_count_max: usize,
    pub contract: Arc<Contract>,
    pub link: Link,
    pub telemetry: Arc<Telemetry>,
    pub into: mpsc::Sender<Arrivals>,
    /// Whether this lane may consume: `false` while the ledger cannot be written (never for the urgent lane).
    pub open: watch::Receiver<bool>,
    pub stopping: CancellationToken,
}

impl Intake {
    /// Consumes until the router stops.
    pub async fn run(mut self) {
        let (mut generation, mut opening) = (0, 0);
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                opened = self.open.wait_for(|open| *open) => if opened.is_err() { return },
            }
            let connected = tokio::select! {
                () = self.stopping.cancelled() => return,
                connected = self.link.connected(generation) => connected,
            };
            let Some(connected) = connected else { return };
            opening += 1;
            match self.consume(&connected, opening).await {
                // Closed because the lane was shut: the same connection serves when it opens again.
                Ok(()) => {}
                Err(fault) => {
                    warn!(lane = %self.lane, error = %fault, "the lane lost its consumer");
                    generation = connected.generation;
                    self.link.fail(generation);
                }
            }
            if self.stopping.is_cancelled() || self.into.is_closed() {
                return;
            }
        }
    }

    async fn consume(&mut self, connected: &super::link::Connected, opening: u64) -> Result<(), BusError> {
        let mut consumer = connected.bus.consumer(&self.queue, self.prefetch_count).await?;
        self.link.set_settler(self.lane, opening, Arc::from(consumer.settler()));
        self.telemetry.metrics.opened(self.lane);
        debug!(lane = %self.lane, opening, "consuming");
        let ended = self.drain(consumer.as_mut(), opening).await;
        if ended.is_ok() && !self.stopping.is_cancelled() {
            consumer.settler().close().await;
        }
        ended
    }

    async fn drain(&mut self, consumer: &mut dyn Consumer, opening: u64) -> Result<(), BusError> {
        loop {
            let deliveries = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Ok(()),
                Ok(_) = self.open.wait_for(|open| !*open) => return Ok(()),
                deliveries = consumer.next(self.batch_count_max) => deliveries?,
            };
            if deliveries.is_empty() {
                return Ok(());
            }
            self.telemetry.metrics.taken(self.lane, deliveries.len());
            let incoming = deliveries
                .into_iter()
                .map(|delivery| Incoming {
                    arrival: Box::new(corridor::read(
                        &self.contract,
                        &delivery.message,
                        delivery.redelivered,
                    )),
                    message: delivery.message,
                    tag: delivery.tag,
                })
                .collect();
            if self.into.send(Arrivals { lane: self.lane, opening, incoming }).await.is_err() {
                return Ok(());
            }
        }
    }
}
