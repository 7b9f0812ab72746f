//! The bridge between the workers' channel and the bus.
//!
//! Owns: the connection to the broker, a queue for each worker, and the task that carries both
//! ways.
//! Never: decides what is said or ordered; the mirror does. Holds up a worker when the broker is
//! away.
//! Holds: a signal is acknowledged once its worker has answered it, so that neither a restart of
//! the worker nor a lost connection loses one; what a worker said leaves once the broker is there
//! again.

mod mirror;
#[cfg(test)]
mod tests;
mod words;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Workers, event::Tell};
use crate::{
    bus::{Bus, BusError, Departure, Fate, Publisher, Queue, QueueKind, Settler, Topology},
    clock,
    contract::{
        command::Commands,
        message::Message,
        routing::{ControlPlaneRouting, Family, Scope},
    },
    runtime::link::Connector,
};
use mirror::Mirror;
use words::Speaker;
pub use worker::Tag;

/// How many envelopes leave at once.
const BATCH_LEN_MAX: usize = 64;
/// Unsettled deliveries for one worker: more than it has in hand, so that a stop always comes
/// through.
const PREFETCH_COUNT: u16 = 256;
/// How many deliveries are taken at once.
const TAKE_LEN_MAX: usize = 64;
/// How long the broker may take to confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// How often what waits for time is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long what was said last may take to leave at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What a bridge is made of.
pub struct BridgeSetup {
    /// Connects to the broker.
    pub connector: Arc<dyn Connector>,
    /// What the names of the router's exchanges begin with.
    pub prefix: String,
    /// The supervisor's own instance on the bus.
    pub instance: String,
    /// What tells this run from another.
    pub run: String,
    /// The signal types and their classes.
    pub commands: Commands,
    /// How often a worker's state is told.
    pub status_delta_ms: u64,
    /// Where work begins by the router's yes only: after a no, how long until it is asked again.
    pub asks_again_ms: Option<u64>,
}

/// A bridge that hears of workers and is not connected yet.
pub struct Bridge {
    setup: BridgeSetup,
    shared: Arc<Shared>,
}

struct Shared {
    mirror: Mutex<Mirror>,
    changed: Notify,
}

impl Shared {
    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bridge {
    /// A bridge for those workers.
    pub fn new(setup: BridgeSetup, workers: impl IntoIterator<Item = Scope>) -> Self {
        let speaker = Speaker::new(format!("{}.in", setup.prefix), setup.instance.clone(), setup.run.clone());
        let mirror = Mutex::new(Mirror::new(workers, setup.commands.clone(), speaker, setup.asks_again_ms));
        Self { setup, shared: Arc::new(Shared { mirror, changed: Notify::new() }) }
    }

    /// What the supervisor hands its events to.
    pub fn listener(&self) -> Tell {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |worker, event| {
            shared.mirror().happened(worker, event, clock::wall());
            shared.changed.notify_one();
        })
    }

    /// Carries both ways until it is told to stop; then what was said last leaves.
    pub async fn carry(self, workers: Workers, stopping: CancellationToken) {
        let mut opening = 0;
        let mut attempt = 0;
        loop {
            opening += 1;
            let carried = match self.connect(&workers).await {
                Ok(bus) => {
                    attempt = 0;
                    info!("the bridge is connected to the broker");
                    let carried = self.carry_over(bus.as_ref(), &workers, opening, &stopping).await;
                    let _ = tokio::time::timeout(Duration::from_secs(2), bus.close()).await;
                    carried
                }
                Err(fault) => Err(fault),
            };
            let Err(fault) = carried else { return };
            let pause = Duration::from_millis(self.setup.connector.pause_ms(attempt));
            warn!(error = %fault, attempt, retry_ms = pause.as_millis() as u64, "the bridge has no broker");
            attempt = attempt.saturating_add(1);
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn connect(&self, workers: &Workers) -> Result<Arc<dyn Bus>, BusError> {
        let bus = self.setup.connector.connect().await?;
        let out = format!("{}.out", self.setup.prefix);
        let queues = workers.scopes().map(|scope| Queue {
            name: queue(&self.setup.prefix, scope),
            kind: QueueKind::Exclusive,
            bindings: patterns(scope).into_iter().map(|pattern| (out.clone(), pattern)).collect(),
        });
        let topology = Topology { exchanges: Vec::new(), queues: queues.collect() };
        match bus.declare(&topology).await {
            Ok(_) => Ok(bus),
            Err(fault) => {
                bus.close().await;
                Err(fault)
            }
        }
    }

    /// Carries over one connection; comes back in good order only when told to stop.
    async fn carry_over(
        &self,
        bus: &dyn Bus,
        workers: &Workers,
        opening: u64,
        stopping: &CancellationToken,
    ) -> Result<(), BusError> {
        let publisher = bus.publisher().await?;
        let mut settlers: BTreeMap<String, Box<dyn Settler>> = BTreeMap::new();
        let mut consuming = JoinSet::new();
        for scope in workers.scopes() {
            let consumer = bus.consumer(&queue(&self.setup.prefix, scope), PREFETCH_COUNT).await?;
            settlers.insert(scope.instance.clone(), consumer.settler());
            consuming.spawn(take(consumer, Arc::clone(&self.shared), scope.instance.clone(), opening));
        }
        self.shared.mirror().connected();
        let delta = Duration::from_millis(self.setup.status_delta_ms);
        let mut told = Instant::now();
        let mut drain: Option<Instant> = None;
        loop {
            let idle = self.pump(publisher.as_ref(), &settlers, workers, opening).await?;
            if stopping.is_cancelled() {
                let until = *drain.get_or_insert_with(|| Instant::now() + DRAIN_TIMEOUT);
                if idle || Instant::now() >= until {
                    return Ok(());
                }
            }
            if told.elapsed() >= delta {
                told = Instant::now();
                self.shared.mirror().tick();
                continue;
            }
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                Some(ended) = consuming.join_next() => {
                    return Err(ended.unwrap_or_else(|fault| std::panic::resume_unwind(fault.into_panic())));
                }
            }
        }
    }

    /// Does what is due; answers whether nothing is left.
    async fn pump(
        &self,
        publisher: &dyn Publisher,
        settlers: &BTreeMap<String, Box<dyn Settler>>,
        workers: &Workers,
        opening: u64,
    ) -> Result<bool, BusError> {
        let mut orders = self.shared.mirror().orders();
        while let Some((worker, order)) = orders.pop_front() {
            if let Some(order) = workers.order(&worker, order) {
                orders.push_front((worker, order));
                self.shared.mirror().order_later(orders);
                break;
            }
        }
        let settled = self.shared.mirror().settled();
        for (worker, tag) in settled.into_iter().filter(|(_, tag)| tag.opening == opening) {
            if let Some(settler) = settlers.get(&worker) {
                settler.ack(tag.tag, false).await?;
            }
        }
        let leaving = self.shared.mirror().departures(BATCH_LEN_MAX, clock::wall());
        if leaving.is_empty() {
            return Ok(self.shared.mirror().is_idle());
        }
        self.publish(publisher, leaving).await?;
        Ok(false)
    }

    async fn publish(&self, publisher: &dyn Publisher, leaving: Vec<Message>) -> Result<(), BusError> {
        let departures: Vec<Departure> =
            leaving.into_iter().map(|message| Departure { message, mandatory: false }).collect();
        let batch: Vec<&Departure> = departures.iter().collect();
        let fates = match publisher.publish(&batch, CONFIRM_TIMEOUT).await {
            Ok(fates) => fates,
            Err(fault) => {
                self.shared.mirror().put_back(departures.into_iter().map(|left| left.message).collect());
                return Err(fault);
            }
        };
        let mut back = Vec::new();
        for (departure, fate) in departures.into_iter().zip(fates) {
            match fate {
                Fate::Carried => {}
                Fate::Unsendable => warn!(key = departure.message.routing_key, "AMQP cannot carry this"),
                Fate::Returned | Fate::Rejected | Fate::Unknown => back.push(departure.message),
            }
        }
        if !back.is_empty() {
            self.shared.mirror().put_back(back);
            // A full queue or a broker in trouble: asking at once would be no help to it.
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

/// Takes what comes for one worker, until the connection ends; answers why.
async fn take(
    mut consumer: Box<dyn crate::bus::Consumer>,
    shared: Arc<Shared>,
    worker: String,
    opening: u64,
) -> BusError {
    loop {
        match consumer.next(TAKE_LEN_MAX).await {
            Ok(deliveries) if deliveries.is_empty() => return BusError::Cancelled { queue: worker },
            Ok(deliveries) => {
                let mut mirror = shared.mirror();
                for delivery in deliveries {
                    mirror.delivered(&worker, opening, delivery, clock::wall());
                }
                drop(mirror);
                shared.changed.notify_one();
            }
            Err(fault) => return fault,
        }
    }
}

/// The queue of a worker.
fn queue(prefix: &str, worker: &Scope) -> String {
    format!("{prefix}.worker.{}.{}.{}", worker.swarm_id, worker.role, worker.instance)
}

/// What a worker's queue is bound to: its signals, and what tells that its session's words have
/// come through.
fn patterns(worker: &Scope) -> Vec<String> {
    let mut patterns = ControlPlaneRouting::signal_bindings("*", worker);
    patterns.push(ControlPlaneRouting::of(Family::Metric, "status-full", worker));
    for word in ["bootstrap-bundle", "start-work"] {
        patterns.push(ControlPlaneRouting::of(Family::Outcome, word, worker));
    }
    patterns
}
