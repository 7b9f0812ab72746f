//! Intake: off the queue and read, one task a lane, in order.
//!
//! Owns: a lane's consumer, and reading (gates 1 and 2) before the narrow part of the corridor.
//! Never: drops or settles a delivery; what it does not hand on goes back to its queue with the
//! consumer.
//! Holds: deliveries of a lane reach the router in the order they came; what is unread is bounded
//! by the prefetch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    corridor::{self, Names},
    link::{Connected, Link, WORKED_FOR},
    mover::{self, Moved},
};
use crate::{
    bus::{BusError, Consumer, Delivery, Queue},
    contract::{Contract, lane::Lane, message::Message},
    decision::request::Arrival,
    telemetry::{Telemetry, health::BrokerFault},
};

/// The pause before a lane's consumer is opened again; it doubles.
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(250);
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a retired queue gives nothing before it is looked at whether it is empty, and how often
/// at most.
const EMPTY_LOOK: Duration = Duration::from_millis(200);
const EMPTY_LOOKS_MAX: u32 = 50;

/// A delivery, read.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The message as gates 1 and 2 have read it.
    pub arrival: Box<Arrival>,
    /// As it came.
    pub message: Message,
    /// The delivery tag, to settle it by.
    pub tag: u64,
}

/// Deliveries of one lane, in order.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Their lane.
    pub lane: Lane,
    /// Which opening of the lane's consumer their tags belong to.
    pub opening: u64,
    pub incoming: Vec<Incoming>,
}

/// One lane's intake.
pub(super) struct Intake {
    pub lane: Lane,
    pub queue: String,
    /// The lane's queue of a release before, with the bindings it had: emptied first, and deleted.
    pub retired: Option<Queue>,
    /// Where everybody publishes, and where the router puts what it has moved.
    pub names: Names,
    pub prefetch_count: u16,
    pub batch_count_max: usize,
    pub contract: Arc<Contract>,
    pub link: Link,
    pub telemetry: Arc<Telemetry>,
    pub into: mpsc::Sender<Arrivals>,
    /// Whether this lane may consume: `false` while the ledger cannot be written (never for the
    /// urgent lane).
    pub open: watch::Receiver<bool>,
    /// Whether this is an observer's: a person is at hand who may give it the right that it lacks.
    pub only_looks: bool,
    pub stopping: CancellationToken,
}

/// Why a consumer ended.
enum Ended {
    /// It was closed: the lane is shut, or the router stops.
    Closed,
    /// The queue had nothing more, and was a retired one.
    Empty,
}

impl Intake {
    /// Consumes until the router stops. A consumer that is refused or cancelled is opened again,
    /// after a pause that grows unless the last one worked for a while; other lanes and the
    /// connection are not touched.
    pub async fn run(mut self) {
        let (mut opening, mut attempt) = (0, 0);
        self.telemetry.metrics.set_lane_blocked(self.lane, true);
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                opened = self.open.wait_for(|open| *open) => if opened.is_err() { return },
            }
            let connected = tokio::select! {
                () = self.stopping.cancelled() => return,
                connected = self.link.connected(0) => connected,
            };
            let Some(connected) = connected else { return };
            let since = Instant::now();
            let link = self.link.clone();
            let ended = tokio::select! {
                biased;
                ended = self.consume(&connected, &mut opening) => ended,
                // What it had taken and nobody has acknowledged comes again.
                fault = link.outlived(connected.generation) => Err(fault),
            };
            self.telemetry.metrics.set_lane_blocked(self.lane, true);
            if self.stopping.is_cancelled() || self.into.is_closed() {
                return;
            }
            // Closed because the lane was shut: the same connection serves when it opens again.
            let Err(fault) = ended else { continue };
            let mut standing = self.link.watch();
            // Only what changes from now on is news.
            standing.mark_unchanged();
            if matches!(fault, BusError::Unreachable { .. }) {
                warn!(lane = %self.lane, error = %fault, "the lane lost its connection");
                self.link.fail(connected.generation);
                attempt = 0;
                // The next one is another; this one must not be taken once more before it is known
                // to be gone.
                let gone = |now: &Option<Connected>| {
                    now.as_ref().is_none_or(|now| now.generation != connected.generation)
                };
                tokio::select! {
                    () = self.stopping.cancelled() => return,
                    ended = standing.wait_for(gone) => if ended.is_err() { return },
                }
                continue;
            }
            if self.only_looks && opening == 0 && fault.is_forbidden() {
                self.link.abandon(fault);
                return;
            }
            attempt = if since.elapsed() >= WORKED_FOR { 0 } else { attempt + 1 };
            let pause = (REOPEN_PAUSE_MIN * (1 << attempt.min(10))).min(REOPEN_PAUSE_MAX);
            warn!(lane = %self.lane, error = %fault, retry_ms = pause.as_millis() as u64, "the lane has no consumer");
            let fault = BrokerFault { why: fault.to_string(), needed: self.lane != Lane::Metrics };
            self.telemetry.health.set_topology(&self.consumer_name(), Some(fault));
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                ended = standing.changed() => if ended.is_err() { return },
            }
        }
    }

    /// What a fault of the consumer stands under in health, beside those of the queue itself.
    fn consumer_name(&self) -> String {
        format!("{} (consumer)", self.queue)
    }

    async fn consume(&mut self, connected: &Connected, opening: &mut u64) -> Result<(), BusError> {
        if let Some(retired) = self.retired.clone() {
            match self.empty(connected, &retired, opening).await {
                Ok(true) => self.retired = None,
                Ok(false) => {}
                Err(fault @ BusError::Unreachable { .. }) => return Err(fault),
                Err(fault) => {
                    let queue = &retired.name;
                    warn!(queue, error = %fault, "a queue of an earlier release cannot be emptied; it is tried again with the next connection");
                }
            }
        }
        self.drain_queue(connected, &self.queue.clone(), false, opening).await.map(|_| ())
    }

    fn read(&self, delivery: Delivery) -> Incoming {
        let Delivery { tag, redelivered, mut message } = delivery;
        let Moved { was_dropped, expiration_ms } = mover::unpacked(&mut message, &self.names);
        let mut arrival = corridor::read(&self.contract, &message, redelivered);
        arrival.was_dropped = was_dropped;
        arrival.expiration_ms = arrival.expiration_ms.or(expiration_ms);
        Incoming { arrival: Box::new(arrival), message, tag }
    }

    /// Takes what is left in a queue of an earlier release, and deletes it. Whether it is gone.
    async fn empty(
        &mut self,
        connected: &Connected,
        retired: &Queue,
        opening: &mut u64,
    ) -> Result<bool, BusError> {
        let bus = connected.bus.as_ref();
        let Some(left) = bus.counts(&retired.name).await? else { return Ok(true) };
        info!(queue = retired.name, left = left.ready, "a queue of an earlier release is emptied first");
        bus.unbind(retired).await?;
        loop {
            if let Ended::Closed = self.drain_queue(connected, &retired.name, true, opening).await? {
                return Ok(false);
            }
            if bus.counts(&retired.name).await?.is_some_and(|left| left.ready == 0) {
                bus.delete_queue(&retired.name).await?;
                info!(queue = retired.name, "a queue of an earlier release is empty and deleted");
                return Ok(true);
            }
        }
    }

    /// Consumes a queue until it is closed or, where it is `retired`, until it is empty and all of
    /// it is settled.
    async fn drain_queue(
        &mut self,
        connected: &Connected,
        queue: &str,
        retired: bool,
        opening: &mut u64,
    ) -> Result<Ended, BusError> {
        let mut consumer = connected.bus.consumer(queue, self.prefetch_count).await?;
        *opening += 1;
        // Before the first delivery: once it is handed on it may be acknowledged at any moment.
        self.link.set_settler(self.lane, *opening, Arc::from(consumer.settler()));
        self.telemetry.metrics.opened(self.lane);
        self.telemetry.health.set_topology(&self.consumer_name(), None);
        debug!(lane = %self.lane, opening = *opening, queue, "consuming");
        self.telemetry.metrics.set_lane_blocked(self.lane, false);
        let ended = self.drain(consumer.as_mut(), *opening, retired).await;
        // Closing gives back what is not acknowledged, and a router that stops still acknowledges
        // what it has taken.
        if ended.is_ok() && !self.stopping.is_cancelled() {
            consumer.settler().close().await;
        }
        ended
    }

    async fn drain(
        &mut self,
        consumer: &mut dyn Consumer,
        opening: u64,
        retired: bool,
    ) -> Result<Ended, BusError> {
        let mut last = 0;
        let mut idle = 0;
        loop {
            let deliveries = tokio::select! {
                // A lane that is shut takes nothing more, however much is ready.
                biased;
                () = self.stopping.cancelled() => return Ok(Ended::Closed),
                Ok(_) = self.open.wait_for(|open| !*open) => return Ok(Ended::Closed),
                deliveries = consumer.next(self.batch_count_max) => deliveries?,
                () = tokio::time::sleep(EMPTY_LOOK), if retired => {
                    idle += 1;
                    // What is not settled by then comes again by another consumer, and is known for
                    // a repeat.
                    if self.link.settled(self.lane, opening) >= last || idle >= EMPTY_LOOKS_MAX {
                        return Ok(Ended::Empty);
                    }
                    continue;
                }
            };
            if deliveries.is_empty() {
                return Ok(Ended::Closed);
            }
            idle = 0;
            last = deliveries.last().map_or(last, |delivery| delivery.tag);
            self.telemetry.metrics.taken(self.lane, deliveries.len());
            let incoming = deliveries.into_iter().map(|delivery| self.read(delivery)).collect();
            if !self.hand_on(Arrivals { lane: self.lane, opening, incoming }).await {
                return Ok(Ended::Closed);
            }
        }
    }

    /// Puts deliveries into the lane's buffer; `false` once nobody takes them any more. While it
    /// waits for room there, the lane counts as blocked.
    async fn hand_on(&self, arrivals: Arrivals) -> bool {
        let arrivals = match self.into.try_send(arrivals) {
            Ok(()) => return true,
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
            Err(mpsc::error::TrySendError::Full(arrivals)) => arrivals,
        };
        self.telemetry.metrics.set_lane_blocked(self.lane, true);
        let taken = self.into.send(arrivals).await.is_ok();
        self.telemetry.metrics.set_lane_blocked(self.lane, !taken);
        taken
    }
}
