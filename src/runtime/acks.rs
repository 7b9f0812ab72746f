//! Acknowledging: many deliveries at once.
//!
//! Owns: which deliveries may be acknowledged and are not yet.
//! Never: acknowledges what is not durable and carried, or keeps a lane short of deliveries.
//! Holds: what may be acknowledged is within [`HELD_MAX`], or when it is a quarter of its lane's
//! prefetch: each acknowledgement is a command in the broker's own log, and costs it as much for
//! one delivery as for a hundred.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::link::{Link, Settlement};
use crate::{contract::lane::Lane, telemetry::Telemetry};

/// How long an acknowledgement is held.
const HELD_MAX: Duration = Duration::from_millis(50);
/// The share of a lane's prefetch that is not held any longer.
const PREFETCH_SHARE: u64 = 4;

/// Acknowledgements that are held.
pub(super) struct Acks {
    link: Link,
    telemetry: Arc<Telemetry>,
    /// How many deliveries of a lane are acknowledged at once.
    enough: [u64; 4],
    held: [Option<Settlement>; 4],
    until: Option<Instant>,
}

impl Acks {
    /// None so far, of consumers with their prefetch.
    pub fn new(link: Link, telemetry: Arc<Telemetry>, consumers: &[(Lane, String, u16)]) -> Self {
        let prefetch = |lane| consumers.iter().find(|(of, ..)| *of == lane).map_or(1, |(.., count)| *count);
        let enough = Lane::ALL.map(|lane| u64::from(prefetch(lane)) / PREFETCH_SHARE);
        Self { link, telemetry, enough, held: [const { None }; 4], until: None }
    }

    /// When what is held has to go.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes what may be acknowledged from now on.
    pub async fn take(&mut self, settlements: Vec<Settlement>) {
        for settlement in settlements {
            let lane = settlement.lane as usize;
            let (Some(slot), Some(enough)) = (self.held.get_mut(lane), self.enough.get(lane)) else {
                continue;
            };
            let first = self.link.settled(settlement.lane, settlement.opening);
            // Acknowledging is cumulative: a later tag takes the earlier one's place.
            let last = slot.insert(settlement).tag;
            if last.saturating_sub(first) < *enough {
                self.until.get_or_insert_with(|| Instant::now() + HELD_MAX);
            } else if let Some(settlement) = slot.take() {
                settlement.settle(&self.link, &self.telemetry).await;
            }
        }
        if self.until.is_some_and(|until| until <= Instant::now()) {
            self.flush().await;
        }
    }

    /// Acknowledges all that is held.
    pub async fn flush(&mut self) {
        self.until = None;
        for slot in &mut self.held {
            if let Some(settlement) = slot.take() {
                settlement.settle(&self.link, &self.telemetry).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        bus::{Bus, Consumer, Departure, Queue, QueueKind, Topology, embedded::Embedded},
        contract::message::{Message, Properties},
        runtime::{link::SteadyBus, topology::Aside},
    };

    const QUEUE: &str = "lane";
    const OPENING: u64 = 1;

    /// A lane with forty deliveries, all taken, and what acknowledges them.
    async fn forty() -> (Embedded, Box<dyn Consumer>, Acks) {
        let bus = Embedded::new();
        let queue = Queue { name: QUEUE.to_owned(), kind: QueueKind::Quorum, bindings: Vec::new() };
        let topology = Topology { exchanges: Vec::new(), queues: vec![queue] };
        bus.declare(&topology).await.unwrap();
        let message = Message {
            exchange: String::new(),
            routing_key: QUEUE.to_owned(),
            properties: Properties::default(),
            body: bytes::Bytes::new(),
        };
        let departures = vec![Departure { message, mandatory: true }; 40];
        let publisher = bus.publisher().await.unwrap();
        publisher.publish(&departures.iter().collect::<Vec<_>>(), Duration::from_secs(5)).await.unwrap();
        let mut consumer = bus.consumer(QUEUE, 40).await.unwrap();
        let mut taken = 0;
        while taken < 40 {
            taken += consumer.next(40).await.unwrap().len();
        }
        let telemetry = Arc::new(Telemetry::default());
        let connector = Arc::new(SteadyBus(Arc::new(bus.clone())));
        let (link, _) = Link::start(
            connector,
            (topology, Aside::default()),
            None,
            Arc::clone(&telemetry),
            CancellationToken::new(),
        );
        link.set_settler(Lane::Results, OPENING, Arc::from(consumer.settler()));
        let acks = Acks::new(link, telemetry, &[(Lane::Results, QUEUE.to_owned(), 40)]);
        (bus, consumer, acks)
    }

    fn up_to(tag: u64) -> Vec<Settlement> {
        vec![Settlement { lane: Lane::Results, opening: OPENING, tag }]
    }

    fn unsettled(bus: &Embedded) -> usize {
        bus.depth(QUEUE).unwrap().1
    }

    #[tokio::test]
    async fn a_quarter_of_the_prefetch_goes_at_once() {
        let (bus, _consumer, mut acks) = forty().await;
        acks.take(up_to(9)).await;
        assert_eq!((unsettled(&bus), acks.until().is_some()), (40, true));
        acks.take(up_to(10)).await;
        assert_eq!(unsettled(&bus), 30);
        acks.take(up_to(19)).await;
        assert_eq!(unsettled(&bus), 30, "it is counted from the last that went");
        acks.flush().await;
        assert_eq!((unsettled(&bus), acks.until()), (21, None));
    }

    #[tokio::test]
    async fn nothing_is_held_for_longer_than_that() {
        let (bus, _consumer, mut acks) = forty().await;
        acks.take(up_to(1)).await;
        tokio::time::sleep_until(acks.until().expect("something is held")).await;
        acks.take(up_to(2)).await;
        assert_eq!((unsettled(&bus), acks.until()), (38, None));
    }
}
