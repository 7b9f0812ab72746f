//! Hostile subscribers: queues that reject what they are sent, and what that must not do to anybody
//! else.
//!
//! Owns: the proof on a real broker that a subscriber can hold neither a stop, nor another lane,
//! nor the order of another target's commands.
//! Never: looks into the router; it publishes, listens, and asks `/readyz` and `/metrics` as
//! anybody may.
//! Holds: each test fails on a router that waits for a broker's answer anywhere but in the way that
//! asked.

pub(crate) mod brokers;
mod cut;
pub(crate) mod routers;
mod unbound;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
        QueueDeclareOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use swarmgate::clock;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    broker::{Broker, Vhost},
    figures::Alternating,
    router::{message, process::Process, send, signal},
};

/// How long a stop may take behind any hostile subscriber; the broker alone takes milliseconds.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A client that declares what it likes.
pub(crate) struct Client {
    pub channel: Channel,
    _connection: Connection,
}

impl Client {
    pub async fn new(vhost: &Vhost) -> Self {
        Self::at(&vhost.options().url).await
    }

    /// At that address, which may be another node's.
    pub async fn at(url: &str) -> Self {
        let connection =
            Connection::connect(url, ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        Self { channel, _connection: connection }
    }

    /// A durable queue with those arguments, bound to the router's exchange.
    pub async fn queue(&self, name: &str, pattern: &str, arguments: &[(&str, AMQPValue)]) {
        self.queue_on("swarmgate.out", name, pattern, arguments).await;
    }

    /// The same, bound to that exchange.
    pub async fn queue_on(&self, exchange: &str, name: &str, pattern: &str, arguments: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(name.into(), options, table).await.expect("a queue");
        let bind = QueueBindOptions::default();
        self.channel
            .queue_bind(name.into(), exchange.into(), pattern.into(), bind, FieldTable::default())
            .await
            .expect("a binding");
    }

    /// A queue that has room for one message and rejects the rest.
    async fn full(&self, name: &str, pattern: &str) {
        let overflow = AMQPValue::LongString("reject-publish".into());
        self.queue(name, pattern, &[("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", overflow)]).await;
    }

    pub async fn publish(&self, messages: &[swarmgate::contract::message::Message]) {
        self.channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let mut confirms = Vec::new();
        for message in messages {
            let (exchange, key) = (message.exchange.as_str().into(), message.routing_key.as_str().into());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let properties = lapin::BasicProperties::default().with_delivery_mode(2);
            let published = self.channel.basic_publish(exchange, key, options, &message.body, properties);
            confirms.push(published.await.expect("a publish"));
        }
        for confirm in confirms {
            assert!(confirm.await.expect("a confirm").is_ack(), "the router's exchange takes it");
        }
    }

    pub async fn listen(&self, queue: &str) -> lapin::Consumer {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        self.channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await
            .expect("a consumer")
    }
}

/// Takes deliveries until `enough` says so, or the time is over; says when each came.
pub(crate) async fn hear(
    consumer: &mut lapin::Consumer,
    patience: Duration,
    mut enough: impl FnMut(&[lapin::message::Delivery]) -> bool,
) -> Vec<lapin::message::Delivery> {
    let until = Instant::now() + patience;
    let mut heard = Vec::new();
    while !enough(&heard) {
        let left = until.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, consumer.next()).await {
            Ok(Some(delivery)) => heard.push(delivery.expect("a delivery")),
            _ => break,
        }
    }
    heard
}

fn status(number: usize) -> swarmgate::contract::message::Message {
    let instance = format!("w-{}", number % 50);
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "metric", "type": "status-delta", "origin": instance,
        "scope": { "swarmId": "kestrel", "role": "worker", "instance": instance },
        "data": { "enabled": true, "tps": number, "ioState": { "work": { "input": "ok", "output": "ok" } } },
    });
    message(&format!("event.metric.status-delta.kestrel.worker.{instance}"), &body)
}

fn update(instance: &str, number: usize) -> swarmgate::contract::message::Message {
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": "config-update", "origin": "orc",
        "scope": { "swarmId": "kestrel", "role": "worker", "instance": instance },
        "correlationId": format!("c-{number}"), "idempotencyKey": format!("u-{instance}-{number}"),
        "data": { "v": number },
    });
    message(&format!("signal.config-update.kestrel.worker.{instance}"), &body)
}

fn body(delivery: &lapin::message::Delivery) -> Value {
    serde_json::from_slice(&delivery.data).expect("an envelope")
}

fn key(delivery: &lapin::message::Delivery) -> String {
    delivery.routing_key.to_string()
}

/// An address that is free now.
pub(crate) fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// What the router shows on a page.
pub(crate) async fn get(address: &str, page: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the router's window");
    let request = format!("GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("a page");
    text
}

/// Waits for a page to say something.
async fn says(address: &str, page: &str, holds: impl Fn(&str) -> bool) {
    let asked = Instant::now();
    loop {
        let text = get(address, page).await;
        if holds(&text) {
            return;
        }
        assert!(asked.elapsed() < STOP_PATIENCE, "{page}: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

mod on_rabbitmq {
    use super::*;

    async fn router(vhost: &Vhost, more: &[&str]) -> (Process, String) {
        let address = free_address();
        let dir = TempDir::new().expect("a directory");
        let router = Process::configured(&vhost.options().url, dir, &[&["--http", &address], more].concat());
        router.ready(vhost.connect().await.as_ref()).await;
        (router, address)
    }

    #[tokio::test]
    async fn a_full_subscriber_of_statuses_holds_no_stop() {
        let vhost = Arc::new(Broker::shared()).vhost("hostile-metrics");
        let (router, address) = router(&vhost, &[]).await;
        let client = Client::new(&vhost).await;
        client.full("hostile.metrics", "event.metric.#").await;
        client.queue("innocent", "signal.#", &[]).await;
        let mut innocent = client.listen("innocent").await;
        // More than every buffer on the way takes.
        let flood: Vec<_> = (0..6_000).map(status).collect();
        client.publish(&flood).await;
        let stops: Vec<_> =
            (0..20).map(|n| signal("swarm-stop", &format!("w-{n}"), &format!("stop-{n}"))).collect();
        let asked = Instant::now();
        client.publish(&stops).await;
        let heard = hear(&mut innocent, STOP_PATIENCE, |heard| heard.len() == stops.len()).await;
        assert_eq!(heard.len(), stops.len(), "stops behind a full subscriber, after {:?}", asked.elapsed());
        // The stops may be there before anything of the flood is given up.
        says(&address, "/readyz", |page| {
            page.contains("\"event.metric.#\"") && page.contains("swarmgate.out")
        })
        .await;
        says(&address, "/metrics", |page| {
            let mut lines = page.lines();
            let dropped =
                lines.find(|line| line.starts_with("swarmgate_publish_dropped_total{way=\"metrics\"}"));
            dropped.is_some_and(|line| !line.ends_with(" 0"))
        })
        .await;
        router.stop().await;
    }

    #[tokio::test]
    async fn a_stop_is_no_later_beside_a_full_subscriber() {
        const RUNS: usize = 5;
        const STOPS: usize = 40;
        let mut figures = Alternating::default();
        for run in 0..RUNS {
            for full in [false, true] {
                let vhost = Arc::new(Broker::shared()).vhost(&format!("hostile-late-{run}-{full}"));
                let (router, _) = router(&vhost, &[]).await;
                let client = Client::new(&vhost).await;
                if full {
                    client.full("hostile.tap", "#").await;
                }
                client.queue("innocent", "signal.swarm-stop.#", &[]).await;
                let mut innocent = client.listen("innocent").await;
                let mut took = Vec::new();
                for number in 0..STOPS {
                    let others: Vec<_> = (0..10).map(|n| status(number * 10 + n)).collect();
                    client.publish(&others).await;
                    client.publish(&[update(&format!("w-{number}"), number)]).await;
                    let begun = Instant::now();
                    let stop = signal("swarm-stop", &format!("s-{number}"), &format!("stop-{number}"));
                    client.publish(&[stop]).await;
                    let target = format!("s-{number}");
                    let is_it = |heard: &lapin::message::Delivery| key(heard).ends_with(&target);
                    let heard = hear(&mut innocent, STOP_PATIENCE, |heard| heard.iter().any(is_it)).await;
                    assert!(heard.iter().any(is_it), "the stop did not pass");
                    took.push(begun.elapsed());
                }
                figures.add(full, took);
                router.stop().await;
            }
        }
        figures.hold("a full subscriber");
    }

    /// Set aside, it is tried again and again; the stop's word is that it is over.
    #[tokio::test]
    async fn a_start_that_was_set_aside_leaves_no_more_once_a_stop_has_ended_it() {
        let vhost = Arc::new(Broker::shared()).vhost("hostile-withdrawn");
        let (router, _) = router(&vhost, &[]).await;
        let client = Client::new(&vhost).await;
        client.full("hostile.starts", "signal.swarm-start.#").await;
        client.queue("ends", "event.outcome.swarm-start.#", &[]).await;
        let mut ends = client.listen("ends").await;
        let filler = client.channel.basic_publish(
            "".into(),
            "hostile.starts".into(),
            BasicPublishOptions::default(),
            b"filler",
            lapin::BasicProperties::default(),
        );
        filler.await.expect("a publish").await.expect("a confirm");
        client
            .publish(&[signal("swarm-start", "ended", "ended"), signal("swarm-start", "goes", "goes")])
            .await;
        // Tried, and refused, at least once.
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.publish(&[signal("swarm-stop", "ended", "stop")]).await;
        let is_over =
            |heard: &[lapin::message::Delivery]| heard.iter().any(|heard| key(heard).ends_with(".ended"));
        let over = hear(&mut ends, STOP_PATIENCE, is_over).await;
        assert!(is_over(&over), "the start is superseded");
        let mut starts = client.listen("hostile.starts").await;
        let came = hear(&mut starts, Duration::from_secs(8), |_| false).await;
        let came: Vec<String> = came.iter().map(key).filter(|key| key.starts_with("signal.")).collect();
        assert!(came.len() == 1 && came[0].ends_with(".goes"), "{came:?}");
        router.stop().await;
    }

    #[tokio::test]
    async fn a_full_tap_on_signals_holds_no_stop_and_floods_nobody_with_copies() {
        let vhost = Arc::new(Broker::shared()).vhost("hostile-signals");
        let (router, _) = router(&vhost, &[]).await;
        let client = Client::new(&vhost).await;
        client.full("hostile.tap", "signal.#").await;
        client.queue("innocent", "signal.#", &[]).await;
        let mut innocent = client.listen("innocent").await;
        let stops: Vec<_> =
            (0..300).map(|n| signal("swarm-stop", &format!("w-{n}"), &format!("stop-{n}"))).collect();
        let asked = Instant::now();
        client.publish(&stops).await;
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        let first = hear(&mut innocent, STOP_PATIENCE, |heard| {
            let ids: std::collections::BTreeSet<String> = heard.iter().map(key).collect();
            ids.len() == stops.len()
        })
        .await;
        let took = asked.elapsed();
        let rest = hear(&mut innocent, Duration::from_secs(25).saturating_sub(took), |_| false).await;
        for delivery in first.iter().chain(&rest) {
            let id = delivery.properties.message_id().as_ref().expect("an id").to_string();
            *copies.entry(id).or_default() += 1;
        }
        assert_eq!(copies.len(), stops.len(), "every stop left, after {took:?}");
        assert!(took < STOP_PATIENCE, "at once: {took:?}");
        let most = copies.values().max().copied().unwrap_or_default();
        assert!((2..=6).contains(&most), "{most} copies of one message within 25 s");
        router.stop().await;
    }

    #[tokio::test]
    async fn commands_to_one_target_leave_in_order_behind_a_queue_that_rejects_now_and_then() {
        let vhost = Arc::new(Broker::shared()).vhost("hostile-order");
        let (router, _) = router(&vhost, &[]).await;
        let client = Client::new(&vhost).await;
        client.full("hostile.flapping", "signal.config-update.#").await;
        client.queue("innocent", "signal.#", &[]).await;
        let mut innocent = client.listen("innocent").await;
        let flapping = tokio::spawn({
            let client = Client::new(&vhost).await;
            async move {
                loop {
                    let purged =
                        client.channel.queue_purge("hostile.flapping".into(), QueuePurgeOptions::default());
                    purged.await.expect("a purge");
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            }
        });
        let updates: Vec<_> = (0..120).map(|number| update("w-1", number)).collect();
        client.publish(&updates).await;
        // Its other target is not held up, and a stop overtakes.
        client.publish(&[signal("swarm-plan", "w-2", "other"), signal("bot-stop", "w-1", "stop")]).await;
        let mut carried: Vec<u64> = Vec::new();
        let mut others = Vec::new();
        let heard = hear(&mut innocent, Duration::from_secs(60), |heard| {
            let last = heard.last().map(body);
            last.is_some_and(|last| last.pointer("/data/v") == Some(&json!(119)))
        })
        .await;
        flapping.abort();
        for delivery in &heard {
            match body(delivery).pointer("/data/v").and_then(Value::as_u64) {
                // A rejected message has reached the other subscribers: its copies are the same
                // message.
                Some(number) if carried.last() != Some(&number) => carried.push(number),
                Some(_) => {}
                None => others.push(key(delivery)),
            }
        }
        let expected: Vec<u64> = (0..120).collect();
        assert_eq!(carried, expected, "in the order of their entries");
        assert!(others.iter().any(|key| key.contains("w-2")), "another target waits for nobody: {others:?}");
        router.stop().await;
    }

    /// A subscriber that takes nothing and somebody who is not proven must not end a proven
    /// sender's stop together.
    #[tokio::test]
    async fn a_flood_of_stops_by_somebody_unproven_takes_out_no_proven_stop_and_no_order_of_the_routers() {
        let vhost = Arc::new(Broker::shared()).vhost("hostile-rank");
        let bounds = ["--set", "outbox.total_max=20", "--set", "alerts.dedupe_ms=1000"];
        let (router, address) = router(&vhost, &bounds).await;
        let (client, bus) = (Client::new(&vhost).await, vhost.connect().await);
        client.full("hostile.tap", "signal.#").await;
        client.queue("alerts", "event.alert.#", &[]).await;
        let mut alerts = client.listen("alerts").await;
        let proven = |kind_type: &str, swarm: &str, data: Value| {
            let key = format!("signal.{kind_type}.{swarm}.ALL.ALL");
            let body = json!({
                "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": "guest",
                "scope": { "swarmId": swarm, "role": "ALL", "instance": "ALL" },
                "correlationId": format!("c-{swarm}"), "idempotencyKey": format!("i-{swarm}"), "data": data,
            });
            let mut message = message(&key, &body);
            message.properties.user_id = Some("guest".to_owned());
            message
        };
        let filler = client.channel.basic_publish(
            "".into(),
            "hostile.tap".into(),
            BasicPublishOptions::default(),
            b"filler",
            lapin::BasicProperties::default(),
        );
        filler.await.expect("a publish").await.expect("a confirm");
        send(
            bus.as_ref(),
            &[proven("kill-switch-set", "osprey", json!({ "level": "FLATTEN", "reason": "drill" }))],
        )
        .await;
        send(bus.as_ref(), &[proven("bot-stop", "merlin", json!({}))]).await;
        says(&address, "/readyz", |page| page.contains("\"urgent\":{")).await;
        let flood: Vec<_> =
            (0..120).map(|n| signal("swarm-stop", &format!("w-{n}"), &format!("stop-{n}"))).collect();
        client.publish(&flood).await;
        let code = |delivery: &lapin::message::Delivery| body(delivery)["data"]["code"].clone();
        let is_told = |heard: &[lapin::message::Delivery]| {
            heard.last().is_some_and(|last| code(last) == "carriage.given-up")
        };
        let told = hear(&mut alerts, Duration::from_secs(20), is_told).await;
        assert!(is_told(&told), "what is given up is told");
        assert!(!told.iter().any(|told| code(told) == "carriage.returned"), "the broker returned nothing");
        // The full one goes, and another stands in its place.
        client.queue("innocent", "signal.#", &[]).await;
        vhost.delete_queue("hostile.tap");
        let mut innocent = client.listen("innocent").await;
        let wanted = ["signal.bot-stop.osprey.ALL.ALL", "signal.bot-stop.merlin.ALL.ALL"];
        let all = |heard: &[lapin::message::Delivery]| {
            wanted.iter().all(|wanted| heard.iter().any(|heard| key(heard) == *wanted))
        };
        let heard = hear(&mut innocent, Duration::from_secs(45), all).await;
        assert!(all(&heard), "{:?}", heard.iter().map(key).collect::<Vec<_>>());
        router.stop().await;
    }
}
