//! The switches by which the embedded bus does what brokers do to others; each is shown by what a
//! client sees.

use std::time::{Duration, Instant};

use swarmgate::{
    bus::{
        Bus, BusError, Departure, Exchange, ExchangeKind, Fate, Queue, QueueKind, Topology,
        embedded::Embedded,
    },
    contract::message::{Message, Properties},
};

const DEADLINE: Duration = Duration::from_secs(5);

/// One exchange, and two queues that hear everything.
async fn broker() -> Embedded {
    let bus = Embedded::new();
    bus.declare(&topology()).await.expect("a topology");
    bus
}

fn topology() -> Topology {
    let queue = |name: &str| Queue {
        name: name.to_owned(),
        kind: QueueKind::Quorum,
        bindings: vec![("out".to_owned(), "signal.#".to_owned())],
    };
    Topology {
        exchanges: vec![Exchange { name: "out".to_owned(), kind: ExchangeKind::Topic, alternate: None }],
        queues: vec![queue("one"), queue("two")],
    }
}

fn departure(key: &str, expiration: Option<&str>) -> Departure {
    let properties = Properties { expiration: expiration.map(str::to_owned), ..Properties::default() };
    let message =
        Message { exchange: "out".to_owned(), routing_key: key.to_owned(), properties, body: "{}".into() };
    Departure { message, mandatory: true }
}

async fn publish(bus: &Embedded, key: &str, deadline: Duration) -> Fate {
    let publisher = bus.publisher().await.expect("a publisher");
    publisher.publish(&[&departure(key, None)], deadline).await.expect("fates")[0].clone()
}

#[tokio::test]
async fn a_queue_that_rejects_keeps_nobody_from_his_copy() {
    let bus = broker().await;
    bus.reject("one", true);
    assert_eq!(publish(&bus, "signal.a", DEADLINE).await, Fate::Rejected);
    assert_eq!((bus.depth("one"), bus.depth("two")), (Some((0, 0)), Some((1, 0))));
    bus.reject("one", false);
    assert_eq!(publish(&bus, "signal.a", DEADLINE).await, Fate::Carried);
}

#[tokio::test]
async fn a_queue_without_a_majority_confirms_never() {
    let bus = broker().await;
    bus.never_confirm("one", true);
    let began = Instant::now();
    assert_eq!(publish(&bus, "signal.a", Duration::from_millis(50)).await, Fate::Unknown);
    assert!(began.elapsed() >= Duration::from_millis(50), "told before the deadline");
    assert_eq!((bus.depth("one"), bus.depth("two")), (Some((0, 0)), Some((1, 0))));
}

#[tokio::test]
async fn confirms_come_late_and_out_of_order() {
    let bus = broker().await;
    bus.confirm_late(Duration::from_millis(40));
    let publisher = bus.publisher().await.expect("a publisher");
    let began = Instant::now();
    let departure = departure("signal.a", None);
    let batch = [&departure];
    let timed = async || {
        let fates = publisher.publish(&batch, DEADLINE).await.expect("fates");
        assert_eq!(fates, [Fate::Carried]);
        began.elapsed()
    };
    let (first, second, third) = tokio::join!(timed(), timed(), timed());
    assert!(first >= Duration::from_millis(40), "{first:?}");
    assert!(second < first && first < third, "{first:?} {second:?} {third:?}");
    // Later than the sender waits: it is not known, and it has left.
    let before = bus.depth("one").expect("a queue").0;
    bus.confirm_late(Duration::from_secs(3600));
    let mut fates = Vec::new();
    for _ in 0..3 {
        fates.push(publish(&bus, "signal.a", Duration::from_millis(10)).await);
    }
    assert!(fates.contains(&Fate::Unknown), "{fates:?}");
    assert_eq!(bus.depth("one").expect("a queue").0, before + 3);
}

#[tokio::test]
async fn returns_come_late() {
    let bus = broker().await;
    bus.return_late(Duration::from_millis(40));
    let began = Instant::now();
    assert_eq!(publish(&bus, "event.a", DEADLINE).await, Fate::Returned);
    assert!(began.elapsed() >= Duration::from_millis(40));
    assert_eq!(publish(&bus, "event.a", Duration::from_millis(10)).await, Fate::Unknown);
    assert_eq!(publish(&bus, "signal.a", Duration::from_millis(10)).await, Fate::Carried);
}

#[tokio::test]
async fn a_consume_and_a_declare_are_refused() {
    let bus = broker().await;
    bus.refuse_consume("one", true);
    let refused = bus.consumer("one", 1).await.err();
    assert!(matches!(&refused, Some(BusError::Refused { what, .. }) if what.contains("one")), "{refused:?}");
    assert!(bus.consumer("two", 1).await.is_ok());
    bus.refuse_declare("two", true);
    let refused = bus.declare(&topology()).await.err();
    assert!(matches!(&refused, Some(BusError::Refused { what, .. }) if what.contains("two")), "{refused:?}");
    bus.refuse_declare("two", false);
    assert!(bus.declare(&topology()).await.is_ok());
}

#[tokio::test]
async fn a_cancelled_consumer_loses_nothing_and_a_limit_drops() {
    let bus = broker().await;
    publish(&bus, "signal.a", DEADLINE).await;
    bus.limit_deliveries("one", Some(1));
    for redelivered in [false, true] {
        let mut consumer = bus.consumer("one", 10).await.expect("a consumer");
        let taken = consumer.next(10).await.expect("deliveries");
        assert_eq!(taken.iter().map(|one| one.redelivered).collect::<Vec<_>>(), [redelivered]);
        bus.cancel("one");
        let ended = consumer.next(10).await.err();
        assert!(matches!(ended, Some(BusError::Cancelled { .. })), "{ended:?}");
    }
    assert_eq!(bus.depth("one"), Some((0, 0)), "beyond the limit it is gone");
    assert_eq!(bus.depth("two"), Some((1, 0)), "the other queue has no limit");
}

#[tokio::test]
async fn what_expires_is_gone() {
    let bus = broker().await;
    let publisher = bus.publisher().await.expect("a publisher");
    let (mortal, lasting) = (departure("signal.a", Some("1000")), departure("signal.b", None));
    publisher.publish(&[&mortal, &lasting], DEADLINE).await.expect("fates");
    bus.expire("one");
    let left = bus.get("one").await.expect("a queue").expect("a message").0.message.routing_key;
    assert_eq!(left, "signal.b");
    assert!(bus.get("one").await.expect("a queue").is_none());
}

#[tokio::test]
async fn what_is_exclusive_is_locked_until_its_connection_ends() {
    let first = broker().await;
    let second = first.connection();
    let lock = Queue { name: "p.router".to_owned(), kind: QueueKind::Exclusive, bindings: Vec::new() };
    let lock = Topology { exchanges: Vec::new(), queues: vec![lock] };
    first.declare(&lock).await.expect("the lock is free");
    first.declare(&lock).await.expect("its own holder may ask again");
    let locked = second.declare(&lock).await.err();
    assert!(matches!(&locked, Some(BusError::Locked { name }) if name == "p.router"), "{locked:?}");
    let mut of_second = second.consumer("one", 1).await.expect("a consumer");
    first.lose();
    second.declare(&lock).await.expect("the lock is free again");
    publish(&second, "signal.a", DEADLINE).await;
    assert_eq!(of_second.next(1).await.expect("deliveries").len(), 1, "the other connection stands");
}
