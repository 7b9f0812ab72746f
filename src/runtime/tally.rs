//! Counting what observe mode did not see: its queue is bounded, and drops its oldest when it is
//! not read in time.
//!
//! Owns: the two queues behind the observer's, and when what is in them is counted.
//! Never: takes a body over the network: emptying a queue tells how much was in it.
//! Holds: what is counted was dropped, and once; where more was dropped than is known, that is
//! said.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    link::{Connected, Link},
    topology::ObserveNames,
};
use crate::{bus::BusError, telemetry::Telemetry};

/// How often is counted.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the broker may take at the end. Before, its answer may wait behind all that the
/// observer has not read.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// The longest pause after the broker refused; it doubles.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Counts for one observer.
pub(super) struct Tally {
    pub names: ObserveNames,
    pub link: Link,
    pub telemetry: Arc<Telemetry>,
    pub stopping: CancellationToken,
}

impl Tally {
    /// Counts until the router stops, and once more then.
    pub async fn run(self) {
        let (mut generation, mut refusals) = (0, 0_u32);
        loop {
            let connected = tokio::select! {
                () = self.stopping.cancelled() => break,
                connected = self.link.connected(0) => connected,
            };
            let Some(connected) = connected else { return };
            self.meet(&mut generation, &connected);
            refusals = match self.count(&connected).await {
                Ok(()) => 0,
                // It is told of by its lane.
                Err(BusError::Unreachable { .. }) => 0,
                Err(fault) => {
                    if refusals == 0 {
                        warn!(error = %fault, "what the observer's queue drops cannot be counted");
                        self.telemetry.metrics.observed_uncounted();
                    }
                    refusals.saturating_add(1)
                }
            };
            let pause = (PAUSE * (1 << refusals.min(5))).min(PAUSE_MAX);
            tokio::select! {
                () = self.stopping.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Some(connected) = self.link.now() {
            let _ = self.count(&connected).await;
        }
    }

    /// Counts; once the router stops, no longer than it may.
    async fn count(&self, connected: &Connected) -> Result<(), BusError> {
        tokio::select! {
            counted = self.count_all(connected) => counted,
            () = async { self.stopping.cancelled().await; tokio::time::sleep(LAST_PATIENCE).await } => {
                self.telemetry.metrics.observed_uncounted();
                Ok(())
            }
        }
    }

    /// The queues are those of one connection: with another one they are new and empty.
    fn meet(&self, generation: &mut u64, connected: &Connected) {
        if *generation != 0 && *generation != connected.generation {
            self.telemetry.metrics.observed_uncounted();
            warn!(
                "the connection was lost, and with it what waited to be judged; how much that was, and what came until now, is not known"
            );
        }
        *generation = connected.generation;
    }

    async fn count_all(&self, connected: &Connected) -> Result<(), BusError> {
        let dropped = connected.bus.purge(&self.names.dropped).await?;
        let beyond = connected.bus.purge(&self.names.uncounted).await?;
        let metrics = &self.telemetry.metrics;
        if beyond > 0 {
            metrics.observed_uncounted();
        }
        if dropped + beyond == 0 {
            return Ok(());
        }
        metrics.observed_dropped(dropped + beyond);
        let totals = metrics.observed();
        let at_least = if totals.is_lower_bound { "at least " } else { "" };
        warn!(
            dropped = dropped + beyond,
            "messages were dropped before they were judged, because they were not read in time: {at_least}{} in all",
            totals.dropped
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bus::{Bus, Departure, Exchange, ExchangeKind, Topology, embedded::Embedded},
        contract::message::{Message, Properties},
        runtime::{
            link::SteadyBus,
            topology::{self, Aside},
        },
    };

    const BODY_BYTES: usize = 1_000;

    async fn publish(bus: &Embedded, count: usize) {
        let message = Message {
            exchange: "theirs".to_owned(),
            routing_key: "signal.swarm-plan.s.r.i".to_owned(),
            properties: Properties::default(),
            body: vec![b'.'; BODY_BYTES].into(),
        };
        let departure = Departure { message, mandatory: false };
        let batch: Vec<&Departure> = (0..count).map(|_| &departure).collect();
        let publisher = bus.publisher().await.expect("a publisher");
        publisher.publish(&batch, Duration::from_secs(1)).await.expect("fates");
    }

    #[tokio::test]
    async fn what_is_dropped_is_counted_and_what_cannot_be_counted_is_said() {
        let bus = Embedded::new();
        let theirs = Exchange { name: "theirs".to_owned(), kind: ExchangeKind::Topic, alternate: None };
        bus.declare(&Topology { exchanges: vec![theirs], queues: Vec::new() }).await.expect("an exchange");
        let names = ObserveNames::of("p", "o");
        let room = |messages: usize| (messages * BODY_BYTES) as u64;
        let topology = topology::observe(&names, "theirs", &["#".to_owned()], room(10), room(5));
        let telemetry = Arc::new(Telemetry::default());
        let stopping = CancellationToken::new();
        let standing = Arc::new(SteadyBus(Arc::new(bus.clone())));
        let (link, _keeper) = Link::start(
            standing,
            (topology, Aside::default()),
            None,
            Arc::clone(&telemetry),
            stopping.clone(),
        );
        link.connected(0).await.expect("a connection");
        publish(&bus, 10).await;
        let tally = Tally { names, link, telemetry: Arc::clone(&telemetry), stopping: stopping.clone() };
        let tally = tokio::spawn(tally.run());
        let told = || {
            let totals = telemetry.metrics.observed();
            (totals.dropped, totals.is_lower_bound)
        };
        tokio::time::sleep(PAUSE * 2).await;
        assert_eq!(told(), (0, false), "nothing was dropped");
        publish(&bus, 5).await;
        tokio::time::sleep(PAUSE * 2).await;
        assert_eq!(told(), (5, false));
        // Five fit and one is the sign that there were more.
        publish(&bus, 9).await;
        stopping.cancel();
        tally.await.expect("it ends");
        assert_eq!(told(), (11, true), "counted once more at the end");
        assert_eq!(bus.depth("p.observe.o"), Some((10, 0)));
    }
}
