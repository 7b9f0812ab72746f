//! What every driver owes the corridor, on the embedded bus and on a real RabbitMQ.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use swarmgate::{
    bus::{
        Bus, BusError, Consumer, Counts, Delivery, Departure, Exchange, ExchangeKind, Fate, Queue, QueueKind,
        Topology, embedded::Embedded,
    },
    contract::message::{HeaderValue, Message, Properties},
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_embedded_bus_keeps_its_word() {
    promises(Arc::new(Embedded::new())).await;
}

#[tokio::test]
async fn a_blocked_embedded_bus_tells_no_fate() {
    let bus = Embedded::new();
    bus.declare(&topology()).await.expect("a topology");
    bus.block(Some("low on memory"));
    assert_eq!(bus.blocked().as_deref(), Some("low on memory"));
    let publisher = bus.publisher().await.expect("a publisher");
    let batch = [departure("in", "a.b", 1)];
    let fates = publisher.publish(&lent(&batch), Duration::from_millis(20)).await;
    assert_eq!(fates.expect("fates"), [Fate::Unknown]);
    bus.block(None);
    assert_eq!(publisher.publish(&lent(&batch), DEADLINE).await.expect("fates"), [Fate::Carried]);
}

#[tokio::test]
async fn an_embedded_queue_drops_its_oldest_beyond_its_bound() {
    let bus = Embedded::new();
    let mut topology = topology();
    topology.queues[0].kind = QueueKind::DropHead { bytes_max: 30 };
    bus.declare(&topology).await.expect("a topology");
    let bodies: Vec<String> = (10..20).map(|number| format!("message-{number}")).collect();
    for body in &bodies {
        let mut departure = departure("in", "a.b", 0);
        departure.message.body = body.clone().into();
        publish(&bus, vec![departure]).await;
    }
    let mut consumer = bus.consumer("first", 100).await.expect("a consumer");
    let kept = consumer.next(100).await.expect("deliveries");
    let kept: Vec<_> = kept.iter().map(|delivery| String::from_utf8_lossy(&delivery.message.body)).collect();
    assert_eq!(kept, ["message-17", "message-18", "message-19"]);
}

/// An exchange with an alternate, and a queue behind each.
fn topology() -> Topology {
    let exchange = |name: &str, kind, alternate: Option<&str>| Exchange {
        name: name.to_owned(),
        kind,
        alternate: alternate.map(str::to_owned),
    };
    let queue = |name: &str, kind, exchange: &str, pattern: &str| Queue {
        name: name.to_owned(),
        kind,
        bindings: vec![(exchange.to_owned(), pattern.to_owned())],
    };
    Topology {
        exchanges: vec![
            exchange("rest", ExchangeKind::Fanout, None),
            exchange("in", ExchangeKind::Topic, Some("rest")),
            exchange("out", ExchangeKind::Topic, None),
        ],
        queues: vec![
            queue("first", QueueKind::Quorum, "in", "a.*"),
            queue("second", QueueKind::DropHead { bytes_max: 1_000_000 }, "in", "a.#"),
            queue("last", QueueKind::Quorum, "rest", ""),
            queue("out", QueueKind::Quorum, "out", "ok.#"),
        ],
    }
}

pub(crate) fn departure(exchange: &str, key: &str, number: usize) -> Departure {
    let properties = Properties {
        message_id: Some(format!("id-{number}")),
        delivery_mode: Some(2),
        ..Properties::default()
    };
    let body = format!("{{\"number\":{number}}}");
    let (exchange, routing_key) = (exchange.to_owned(), key.to_owned());
    Departure { message: Message { exchange, routing_key, properties, body: body.into() }, mandatory: true }
}

fn lent(batch: &[Departure]) -> Vec<&Departure> {
    batch.iter().collect()
}

pub(crate) async fn publish(bus: &dyn Bus, batch: Vec<Departure>) -> Vec<Fate> {
    let publisher = bus.publisher().await.expect("a publisher");
    publisher.publish(&lent(&batch), DEADLINE).await.expect("fates")
}

/// Takes `count` deliveries, and no longer than the deadline.
pub(crate) async fn take(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(DEADLINE, consumer.next(count - taken.len())).await;
        let next = next.unwrap_or_else(|_| panic!("only {} of {count} deliveries came", taken.len()));
        let next = next.expect("deliveries");
        assert!(!next.is_empty(), "the consumer ended after {} of {count}", taken.len());
        taken.extend(next);
    }
    taken
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().filter_map(|delivery| delivery.message.properties.message_id.as_deref()).collect()
}

async fn empty(bus: &dyn Bus, queue: &str) -> bool {
    bus.get(queue).await.expect("an answer").is_none()
}

/// All that both drivers promise.
pub(crate) async fn promises(bus: Arc<dyn Bus>) {
    let bus = bus.as_ref();
    topology_is_checked(bus).await;
    patterns_and_alternates_route(bus).await;
    unsettled_comes_again(bus).await;
    a_consumer_that_is_closed_with_deliveries_ends(bus).await;
    settling_many_and_one(bus).await;
    prefetch_bounds_what_is_unsettled(bus).await;
    queues_are_counted(bus).await;
    an_exclusive_queue_outlives_its_consumer(bus).await;
}

async fn queues_are_counted(bus: &dyn Bus) {
    let are = async |ready, consumers| {
        let wanted = Some(Counts { ready, consumers });
        let counted = async {
            while bus.counts("out").await.expect("an answer") != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let counted = tokio::time::timeout(DEADLINE, counted).await;
        assert!(counted.is_ok(), "not {wanted:?} but {:?}", bus.counts("out").await);
    };
    are(0, 0).await;
    publish(bus, vec![departure("out", "ok", 1), departure("out", "ok", 2)]).await;
    are(2, 0).await;
    let mut consumer = bus.consumer("out", 1).await.expect("a consumer");
    let taken = take(consumer.as_mut(), 1).await;
    are(1, 1).await;
    consumer.settler().ack(taken[0].tag, false).await.expect("an acknowledgement");
    let taken = take(consumer.as_mut(), 1).await;
    consumer.settler().ack(taken[0].tag, false).await.expect("an acknowledgement");
    consumer.settler().close().await;
    are(0, 0).await;
    assert_eq!(bus.counts("nowhere").await.expect("an answer"), None);
}

async fn topology_is_checked(bus: &dyn Bus) {
    assert!(!bus.exists("in").await.expect("an answer"), "nothing is declared yet");
    bus.declare(&topology()).await.expect("a new topology");
    bus.declare(&topology()).await.expect("the same topology again");
    assert!(bus.exists("in").await.expect("an answer"));
    let mut other = topology();
    other.queues[0].kind = QueueKind::Exclusive;
    let fault = bus.declare(&other).await.expect_err("another kind of queue");
    assert!(
        matches!(&fault, BusError::Mismatch { name, .. } | BusError::Locked { name } if name == "first"),
        "{fault}"
    );
    let mut other = topology();
    other.exchanges[2].kind = ExchangeKind::Fanout;
    let fault = bus.declare(&other).await.expect_err("another kind of exchange");
    assert!(matches!(&fault, BusError::Mismatch { name, .. } if name == "out"), "{fault}");
    let fault = bus.consumer("nowhere", 1).await.err().expect("no such queue");
    assert!(matches!(fault, BusError::Refused { .. }), "{fault}");
    bus.declare(&topology()).await.expect("refusals leave the connection usable");
}

async fn patterns_and_alternates_route(bus: &dyn Bus) {
    let batch: Vec<Departure> = [("in", "a.b"), ("in", "a.b.c"), ("in", "z"), ("out", "ok.1"), ("out", "no")]
        .into_iter()
        .enumerate()
        .map(|(number, (exchange, key))| departure(exchange, key, number))
        .collect();
    let fates = publish(bus, batch).await;
    assert_eq!(fates, [Fate::Carried, Fate::Carried, Fate::Carried, Fate::Carried, Fate::Returned]);
    for (queue, wanted) in
        [("first", &["id-0"][..]), ("second", &["id-0", "id-1"]), ("last", &["id-2"]), ("out", &["id-3"])]
    {
        let mut consumer = bus.consumer(queue, 10).await.expect("a consumer");
        let deliveries = take(consumer.as_mut(), wanted.len()).await;
        assert_eq!(ids(&deliveries), wanted, "{queue}");
        let last = deliveries.last().expect("a delivery").tag;
        consumer.settler().ack(last, true).await.expect("an acknowledgement");
        consumer.settler().close().await;
        assert!(empty(bus, queue).await, "{queue} holds more");
    }
    let mut unasked = departure("out", "no", 9);
    unasked.mandatory = false;
    assert_eq!(publish(bus, vec![unasked]).await, [Fate::Carried], "not mandatory: dropped and confirmed");
}

async fn unsettled_comes_again(bus: &dyn Bus) {
    publish(bus, vec![departure("out", "ok", 1), departure("out", "ok", 2)]).await;
    let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
    let deliveries = take(consumer.as_mut(), 2).await;
    assert!(deliveries.iter().all(|delivery| !delivery.redelivered));
    consumer.settler().close().await;
    let next = tokio::time::timeout(DEADLINE, consumer.next(10)).await.expect("an end");
    assert!(next.expect("a good end").is_empty(), "closed in good order");
    let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
    let deliveries = take(consumer.as_mut(), 2).await;
    assert!(deliveries.iter().all(|delivery| delivery.redelivered), "given back by a closed consumer");
    assert_eq!(ids(&deliveries), ["id-1", "id-2"]);
    consumer.settler().requeue(deliveries[1].tag, true).await.expect("a requeue");
    let deliveries = take(consumer.as_mut(), 2).await;
    assert!(deliveries.iter().all(|delivery| delivery.redelivered), "given back by hand");
    consumer.settler().ack(deliveries[1].tag, true).await.expect("an acknowledgement");
    consumer.settler().close().await;
    assert!(empty(bus, "out").await);
}

/// The end comes behind what was delivered and not taken yet.
async fn a_consumer_that_is_closed_with_deliveries_ends(bus: &dyn Bus) {
    publish(bus, (0..4).map(|number| departure("out", "ok", number)).collect()).await;
    let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
    take(consumer.as_mut(), 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    consumer.settler().close().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for asked in 0.. {
        let next = tokio::time::timeout(DEADLINE, consumer.next(10)).await.expect("an end");
        if next.expect("a good end").is_empty() {
            break;
        }
        assert!(asked < 4, "there is no end of it");
    }
    let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
    let deliveries = take(consumer.as_mut(), 4).await;
    consumer.settler().ack(deliveries[3].tag, true).await.expect("an acknowledgement");
    consumer.settler().close().await;
}

/// It is gone with its connection, not before: whoever closes a consumer may open another.
async fn an_exclusive_queue_outlives_its_consumer(bus: &dyn Bus) {
    let own = Queue {
        name: "own".to_owned(),
        kind: QueueKind::Exclusive,
        bindings: vec![("out".to_owned(), "own".to_owned())],
    };
    bus.declare(&Topology { exchanges: Vec::new(), queues: vec![own] }).await.expect("a queue");
    publish(bus, vec![departure("out", "own", 1), departure("out", "own", 2)]).await;
    let mut consumer = bus.consumer("own", 1).await.expect("a consumer");
    take(consumer.as_mut(), 1).await;
    consumer.settler().close().await;
    assert_eq!(publish(bus, vec![departure("out", "own", 3)]).await, [Fate::Carried]);
    let mut consumer = bus.consumer("own", 10).await.expect("another consumer");
    let deliveries = take(consumer.as_mut(), 3).await;
    assert_eq!(ids(&deliveries), ["id-1", "id-2", "id-3"]);
    consumer.settler().ack(deliveries[2].tag, true).await.expect("an acknowledgement");
    consumer.settler().close().await;
}

async fn settling_many_and_one(bus: &dyn Bus) {
    publish(bus, (0..6).map(|number| departure("out", "ok", number)).collect()).await;
    let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
    let settler = consumer.settler();
    let tags: Vec<u64> = take(consumer.as_mut(), 6).await.iter().map(|delivery| delivery.tag).collect();
    assert!(tags.windows(2).all(|pair| pair[0] < pair[1]), "tags rise: {tags:?}");
    settler.ack(tags[2], true).await.expect("three acknowledgements");
    settler.ack(tags[4], false).await.expect("one acknowledgement");
    settler.close().await;
    let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
    let rest = take(consumer.as_mut(), 2).await;
    assert_eq!(ids(&rest).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["id-3", "id-5"]));
    consumer.settler().ack(rest[1].tag, true).await.expect("the rest");
    consumer.settler().close().await;
    assert!(empty(bus, "out").await);
}

async fn prefetch_bounds_what_is_unsettled(bus: &dyn Bus) {
    publish(bus, (0..5).map(|number| departure("out", "ok", number)).collect()).await;
    let mut consumer = bus.consumer("out", 3).await.expect("a consumer");
    let deliveries = take(consumer.as_mut(), 3).await;
    let more = tokio::time::timeout(Duration::from_millis(200), consumer.next(10)).await;
    assert!(more.is_err(), "beyond the prefetch");
    consumer.settler().ack(deliveries[2].tag, true).await.expect("room");
    let deliveries = take(consumer.as_mut(), 2).await;
    assert_eq!(ids(&deliveries), ["id-3", "id-4"], "a dropped `next` loses nothing");
    consumer.settler().ack(deliveries[1].tag, true).await.expect("an acknowledgement");
    consumer.settler().close().await;
    assert!(empty(bus, "out").await);
}

/// What only a real broker can show.
mod on_rabbitmq {
    use std::time::Instant;

    use swarmgate::{
        bus::{
            amqp::{self, Options},
            tls::{TlsFault, Trusted},
        },
        config,
        runtime::certificates::Certificates,
    };

    use super::*;
    use crate::broker::Broker;

    #[tokio::test(flavor = "multi_thread")]
    async fn amqp_keeps_its_word() {
        let vhost = Arc::new(Broker::shared()).vhost("promises");
        let bus = vhost.connect().await;
        assert_eq!(bus.server().product.as_deref(), Some("RabbitMQ"));
        assert!(bus.server().major().is_some_and(|major| major >= 3), "{:?}", bus.server());
        promises(bus.clone()).await;
        bus.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_property_and_header_passes() {
        let vhost = Arc::new(Broker::shared()).vhost("properties");
        let bus = vhost.connect().await;
        bus.declare(&topology()).await.expect("a topology");
        let text = |text: &str| Some(text.to_owned());
        let nested =
            vec![("inner".into(), HeaderValue::Array(vec![HeaderValue::I64(-1), HeaderValue::Void]))];
        let headers = [
            HeaderValue::Bool(true),
            HeaderValue::I8(-8),
            HeaderValue::U8(8),
            HeaderValue::I16(-16),
            HeaderValue::U16(16),
            HeaderValue::I32(-32),
            HeaderValue::U32(32),
            HeaderValue::I64(i64::MIN),
            HeaderValue::F32(1.5),
            HeaderValue::F64(-2.25),
            HeaderValue::Decimal(2, 314),
            HeaderValue::Text("tęxt\u{0}".to_owned()),
            HeaderValue::Binary(vec![0xff, 0]),
            HeaderValue::Bytes(vec![1, 2]),
            HeaderValue::Time(1_800_000_000),
            HeaderValue::Table(nested),
            HeaderValue::Void,
        ];
        let name = |(index, value)| (format!("header-{index:02}").into(), value);
        let mut sent = departure("out", "ok.x", 1);
        sent.message.properties = Properties {
            content_type: text("application/json"),
            content_encoding: text("identity"),
            headers: headers.into_iter().enumerate().map(name).collect(),
            delivery_mode: Some(2),
            priority: Some(7),
            correlation_id: text("correlation"),
            reply_to: text("reply"),
            expiration: text("600000"),
            message_id: text("message"),
            timestamp: Some(1_800_000_001),
            kind: text("kind"),
            user_id: text("guest"),
            app_id: text("app"),
            cluster_id: text("cluster"),
        };
        sent.message.body = vec![0_u8; 300_000].into();
        assert_eq!(publish(bus.as_ref(), vec![sent.clone()]).await, [Fate::Carried]);
        let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
        let came = take(consumer.as_mut(), 1).await.remove(0);
        assert_eq!(came.message, sent.message);
        bus.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_fate_is_wrong_among_unroutable_messages() {
        let vhost = Arc::new(Broker::shared()).vhost("unroutable");
        let bus = vhost.connect().await;
        bus.declare(&topology()).await.expect("a topology");
        let publisher = bus.publisher().await.expect("a publisher");
        for round in 0..5 {
            let unroutable = |number: usize| number % 10 == 3;
            let key = |number| if unroutable(number) { "no" } else { "ok.x" };
            let batch: Vec<Departure> =
                (0..2_000).map(|number| departure("out", key(number), round * 2_000 + number)).collect();
            let fates = publisher.publish(&lent(&batch), DEADLINE).await.expect("fates");
            let wanted = |number| if unroutable(number) { Fate::Returned } else { Fate::Carried };
            let wrong: Vec<_> = (0..2_000).filter(|number| fates[*number] != wanted(*number)).collect();
            assert!(wrong.is_empty(), "round {round}: {} fates are wrong: {wrong:?}", wrong.len());
        }
        let mut consumer = bus.consumer("out", 10_000).await.expect("a consumer");
        let carried = take(consumer.as_mut(), 9_000).await;
        let numbers: Vec<usize> =
            ids(&carried).iter().map(|id| id.trim_start_matches("id-").parse().expect("a number")).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "a batch leaves in its order");
        bus.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_queue_rejects() {
        let vhost = Arc::new(Broker::shared()).vhost("full");
        vhost.bound("^out$", 20);
        let bus = vhost.connect().await;
        bus.declare(&topology()).await.expect("a topology");
        let publisher = bus.publisher().await.expect("a publisher");
        let mut carried = 0;
        let mut rejected = 0;
        for round in 0..20 {
            let batch: Vec<Departure> =
                (0..20).map(|number| departure("out", "ok", round * 20 + number)).collect();
            for fate in publisher.publish(&lent(&batch), DEADLINE).await.expect("fates") {
                match fate {
                    Fate::Carried => carried += 1,
                    Fate::Rejected => rejected += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(rejected > 0 && carried >= 20, "{carried} carried, {rejected} rejected");
        let mut consumer = bus.consumer("out", 1_000).await.expect("a consumer");
        let kept = take(consumer.as_mut(), carried).await;
        let more = tokio::time::timeout(Duration::from_millis(300), consumer.next(1)).await;
        assert!(more.is_err(), "more than the {carried} that were carried");
        consumer.settler().ack(kept[carried - 1].tag, true).await.expect("room");
        bus.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_amqp_cannot_carry_never_leaves_and_harms_no_other() {
        let vhost = Arc::new(Broker::shared()).vhost("toolong");
        let bus = vhost.connect().await;
        bus.declare(&topology()).await.expect("a topology");
        let long = "ok.".repeat(100);
        let mut odd = departure("out", "ok", 2);
        odd.message.properties.correlation_id = Some(long.clone());
        let batch =
            vec![departure("out", "ok", 0), departure("out", &long, 1), odd, departure("out", "ok", 3)];
        let fates = publish(bus.as_ref(), batch).await;
        assert_eq!(fates, [Fate::Carried, Fate::Unsendable, Fate::Unsendable, Fate::Carried]);
        let fault = bus.consumer(&long, 1).await.err().expect("no such name");
        assert!(matches!(fault, BusError::Refused { .. }), "{fault}");
        bus.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_deleted_queue_cancels_its_consumer() {
        let vhost = Arc::new(Broker::shared()).vhost("cancelled");
        let bus = vhost.connect().await;
        bus.declare(&topology()).await.expect("a topology");
        publish(bus.as_ref(), vec![departure("out", "ok", 1)]).await;
        let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
        vhost.delete_queue("out");
        // What was on its way may come first.
        let fault = loop {
            match tokio::time::timeout(DEADLINE, consumer.next(10)).await.expect("an end") {
                Ok(deliveries) => assert!(!deliveries.is_empty(), "this is no end in good order"),
                Err(fault) => break fault,
            }
        };
        assert!(matches!(&fault, BusError::Cancelled { queue } if queue == "out"), "{fault}");
        bus.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unknown_exchange_is_a_fault_and_the_next_batch_goes() {
        let vhost = Arc::new(Broker::shared()).vhost("unknown");
        let bus = vhost.connect().await;
        bus.declare(&topology()).await.expect("a topology");
        let publisher = bus.publisher().await.expect("a publisher");
        let fault =
            publisher.publish(&[&departure("nowhere", "ok", 1)], DEADLINE).await.expect_err("no exchange");
        assert!(matches!(&fault, BusError::Refused { reason, .. } if reason.contains("nowhere")), "{fault}");
        let fates = publisher.publish(&[&departure("out", "ok", 1)], DEADLINE).await.expect("fates");
        assert_eq!(fates, [Fate::Carried], "by a fresh channel");
        bus.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_alarm_tells_no_fate_and_ends() {
        let broker = Arc::new(Broker::own("alarm"));
        let vhost = broker.vhost("alarm");
        let bus = vhost.connect().await;
        bus.declare(&topology()).await.expect("a topology");
        let publisher = bus.publisher().await.expect("a publisher");
        let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
        assert_eq!(bus.blocked(), None);
        assert_eq!(
            publisher.publish(&[&departure("out", "ok", 0)], DEADLINE).await.expect("fates"),
            [Fate::Carried]
        );
        let first = take(consumer.as_mut(), 1).await;
        broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
        for number in 1..4 {
            let began = Instant::now();
            let deadline = Duration::from_millis(700);
            let fates = publisher.publish(&[&departure("out", "ok", number)], deadline).await.expect("fates");
            assert_eq!(fates, [Fate::Unknown], "nobody may say what became of it");
            assert!(began.elapsed() < Duration::from_secs(3), "a deadline is one: {:?}", began.elapsed());
        }
        assert!(bus.blocked().is_some_and(|reason| reason.contains("memory")), "{:?}", bus.blocked());
        consumer.settler().ack(first[0].tag, true).await.expect("consuming goes on");
        broker.ctl(&["set_vm_memory_high_watermark", "0.4"]);
        let fates = publisher.publish(&[&departure("out", "ok", 4)], DEADLINE).await.expect("fates");
        assert_eq!(fates, [Fate::Carried]);
        assert_eq!(bus.blocked(), None);
        // The first had left before the alarm was told; the others were never written.
        let came = take(consumer.as_mut(), 1).await;
        let came = if ids(&came) == ["id-1"] { take(consumer.as_mut(), 1).await } else { came };
        assert_eq!(ids(&came), ["id-4"]);
        bus.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dead_broker_is_noticed_and_what_was_confirmed_is_there_again() {
        let broker = Arc::new(Broker::own("dead"));
        let vhost = broker.vhost("dead");
        let bus = vhost.connect().await;
        bus.declare(&topology()).await.expect("a topology");
        let batch: Vec<Departure> = (0..100).map(|number| departure("out", "ok", number)).collect();
        assert!(publish(bus.as_ref(), batch).await.iter().all(|fate| *fate == Fate::Carried));
        let mut consumer = bus.consumer("out", 10).await.expect("a consumer");
        take(consumer.as_mut(), 10).await;
        let publisher = bus.publisher().await.expect("a publisher");
        broker.kill();
        let fault =
            tokio::time::timeout(DEADLINE, consumer.next(1)).await.expect("an end").expect_err("an end");
        assert!(matches!(fault, BusError::Unreachable { .. }), "{fault}");
        let fates = publisher.publish(&[&departure("out", "ok", 100)], Duration::from_secs(2)).await;
        assert!(matches!(fates, Err(BusError::Unreachable { .. })), "{fates:?}");
        let fault = amqp::connect(&vhost.options()).await.err().expect("nobody listens");
        assert!(matches!(fault, BusError::Unreachable { .. }), "{fault}");
        bus.close().await;
        broker.start();
        let began = Instant::now();
        // A queue without a leader gives no answer for a minute; the driver gives up earlier, and
        // we try again.
        let (bus, mut consumer) = loop {
            let bus = vhost.connect().await;
            match bus.consumer("out", 1_000).await {
                Ok(consumer) => break (bus, consumer),
                Err(fault) => assert!(began.elapsed() < Duration::from_secs(30), "{fault}"),
            }
            bus.close().await;
        };
        let again = take(consumer.as_mut(), 100).await;
        assert_eq!(again.iter().filter(|delivery| delivery.redelivered).count(), 10);
        frozen(&broker, &vhost.options(), bus.as_ref(), consumer.as_mut()).await;
    }

    /// A broker that neither answers nor goes.
    async fn frozen(broker: &Broker, options: &Options, bus: &dyn Bus, consumer: &mut dyn Consumer) {
        let publisher = bus.publisher().await.expect("a publisher");
        assert_eq!(
            publisher.publish(&[&departure("out", "ok", 1)], DEADLINE).await.expect("fates"),
            [Fate::Carried]
        );
        take(consumer, 1).await;
        broker.pause();
        let fates = publisher.publish(&[&departure("out", "ok", 2)], Duration::from_millis(500)).await;
        assert_eq!(fates.expect("fates"), [Fate::Unknown]);
        let options = Options { connect_timeout_ms: 500, ..options.clone() };
        let fault = amqp::connect(&options).await.err().expect("nobody answers");
        assert!(fault.to_string().contains("no answer within 500 ms"), "{fault}");
        let fault =
            tokio::time::timeout(DEADLINE, consumer.next(1)).await.expect("an end").expect_err("an end");
        assert!(matches!(fault, BusError::Unreachable { .. }), "{fault}");
        broker.resume();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tls_trusts_only_whom_it_was_told() {
        let broker = Broker::shared();
        let options = Options::new(broker.tls_url());
        let fault = amqp::connect(&options).await.err().expect("an unknown authority");
        let unknown = TlsFault::UnknownAuthority(Trusted::System);
        assert!(matches!(&fault, BusError::Tls { fault, .. } if *fault == unknown), "{fault}");
        let tls = config::Tls { ca_file: Some(broker.ca_file()), ..config::Tls::default() };
        let options = Options { tls: Certificates::of(&tls), ..options };
        let bus = amqp::connect(&options).await.expect("a trusted authority");
        assert_eq!(bus.server().product.as_deref(), Some("RabbitMQ"));
        assert!(
            bus.address().is_some_and(|address| address.starts_with("amqps://localhost:")),
            "{:?}",
            bus.address()
        );
        bus.close().await;
    }
}
