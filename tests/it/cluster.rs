//! RabbitMQ 4: one node, and three joined ones of which one is hung or dead.
//!
//! Owns: that 4.x is served as 3.x is, and what one node of a cluster may do to messages that do
//! not need it.
//! Never: passes without a word where RabbitMQ 4 cannot be had.
//! Holds: each test holds the cluster of the run alone, and leaves it whole.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use lapin::{Consumer, message::Delivery, options::BasicPublishOptions, types::AMQPValue};
use swarmgate::{
    bus::{
        Bus, Fate,
        amqp::{self, Options},
    },
    contract::message::Message,
};
use tempfile::TempDir;

use crate::{
    broker::{Broker, Cluster, Vhost},
    bus::{departure, promises, publish},
    figures::Alternating,
    hostile::{Client, brokers, free_address, get, hear},
    router::{message, process::Process, signal},
};

/// In how long a publish has to be confirmed that no hung node has a part in.
const CONFIRM_MS_MAX: u128 = 2_000;
/// How long a stop may take that no hung node has a part in.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// For how long stops may stay away when a node dies. The queue's own gap, an election, was
/// measured as 0.3 to 0.4 s.
const GAP_DEAD_MAX: Duration = Duration::from_secs(2);
/// The same when a node hangs, which RabbitMQ notices after 5 to 9 s.
const GAP_HUNG_MAX: Duration = Duration::from_secs(12);
/// How long a node's loss is looked at. By then a link that failed would have been tried again more
/// than once.
const WATCH: Duration = Duration::from_secs(20);

mod on_rabbitmq_4 {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn amqp_keeps_its_word_there_too() {
        let Some(broker) = Broker::own_4("promises") else { return };
        let vhost = Arc::new(broker).vhost("promises");
        let bus = vhost.connect().await;
        assert_eq!(bus.server().major(), Some(4), "{:?}", bus.server());
        promises(bus.clone()).await;
        bus.close().await;
    }

    /// What an operator does who moves from 3.x: the definitions are taken along, and what waits in
    /// the queues.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_queues_of_an_earlier_release_on_3_are_taken_over() {
        let Some(broker) = Broker::own_4("upgrade") else { return };
        let before = Arc::new(Broker::shared()).vhost("upgrade");
        brokers::earlier_release(&before);
        let definitions = before.broker.http("GET", &format!("/api/definitions/{}", before.name), "");
        let vhost = Arc::new(broker).vhost("upgrade");
        vhost.broker.http("POST", &format!("/api/definitions/{}", vhost.name), &definitions);
        brokers::is_taken_over(&vhost).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_definitions_that_are_shipped_are_what_the_router_wants() {
        let Some(broker) = Broker::own_4("definitions-4") else { return };
        broker.http("POST", "/api/definitions", include_str!("../../docker/rabbitmq/definitions.json"));
        broker.http("PUT", "/api/users/swarmgate", r#"{"password":"swarmgate","tags":""}"#);
        let url = broker.url("/", "swarmgate", "swarmgate");
        let (dir, http) = (TempDir::new().expect("a directory"), free_address());
        let router = Process::configured(&url, dir, &["--http", &http]);
        let observer = Options::new(broker.url("/", "guest", "guest"));
        router.ready(amqp::connect(&observer).await.expect("a connection").as_ref()).await;
        let within = Instant::now() + STOP_PATIENCE;
        let mut page = get(&http, "/readyz").await;
        while !page.starts_with("HTTP/1.1 200 ") && Instant::now() < within {
            tokio::time::sleep(Duration::from_millis(100)).await;
            page = get(&http, "/readyz").await;
        }
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains(r#""topology":{}"#), "{page}");
        router.stop().await;
    }
}

mod on_cluster {
    mod addresses;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_frozen_follower_delays_no_confirm_of_a_quorum_queue() {
        let Some(cluster) = Cluster::hold("a frozen follower") else { return };
        let vhost = cluster.nodes[0].vhost("follower");
        let quorum = r#"{"durable":true,"arguments":{"x-queue-type":"quorum"}}"#;
        vhost.broker.http("PUT", &format!("/api/queues/{}/work", vhost.name), quorum);
        let bus = amqp::connect(&vhost.options()).await.expect("a connection");

        cluster.nodes[2].pause();
        let began = Instant::now();
        let fates = publish(&*bus, (0..20).map(|number| departure("", "work", number)).collect()).await;
        let took = began.elapsed();
        cluster.heal();

        assert!(fates.iter().all(|fate| *fate == Fate::Carried), "{fates:?}");
        assert!(took.as_millis() <= CONFIRM_MS_MAX, "confirmed after {took:?}");
        // Whole again: the node that was frozen has every message.
        let within = Instant::now() + Duration::from_secs(30);
        let queue = format!("/api/queues/{}/work", vhost.name);
        while !cluster.nodes[2].http("GET", &queue, "").contains(r#""messages":20"#) {
            assert!(Instant::now() < within, "the node that was frozen lags behind");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn quorum() -> [(&'static str, AMQPValue); 1] {
        [("x-queue-type", AMQPValue::LongString("quorum".into()))]
    }

    fn stops(name: &str, count: usize) -> Vec<Message> {
        let stop = |n: usize| signal("swarm-stop", &format!("{name}-{n}"), &format!("{name}-{n}"));
        (0..count).map(stop).collect()
    }

    fn keys(heard: &[Delivery]) -> BTreeSet<String> {
        heard.iter().map(|delivery| delivery.routing_key.to_string()).collect()
    }

    /// A router at that node, and a client there with a healthy queue that wants every signal.
    async fn router(vhost: &Vhost, dir: TempDir) -> Process {
        let http = free_address();
        let router = Process::configured(&vhost.options().url, dir, &["--http", &http]);
        router.ready(vhost.connect().await.as_ref()).await;
        // A cluster that was healed a moment ago may take seconds to declare a queue.
        let begun = Instant::now();
        while !get(&http, "/readyz").await.contains(" 200 ") {
            assert!(begun.elapsed() < Duration::from_secs(60), "the router is not ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        router
    }

    /// A router at the second node, and a client there that hears every signal by a queue that
    /// outlives a node.
    async fn at_the_second_node(cluster: &Cluster, name: &str) -> (Vhost, Process, Client, Consumer) {
        let vhost = cluster.nodes[1].vhost(name);
        let router = router(&vhost, TempDir::new().expect("a directory")).await;
        let client = Client::at(&vhost.options().url).await;
        client.queue("innocent", "signal.#", &quorum()).await;
        let innocent = client.listen("innocent").await;
        (vhost, router, client, innocent)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refused_queue_on_a_hung_node_holds_no_stop() {
        let Some(cluster) = Cluster::hold("a refused queue on a hung node") else { return };
        let (vhost, router, client, mut innocent) = at_the_second_node(&cluster, "hung-refused").await;
        let elsewhere = Client::at(&cluster.nodes[0].url(&vhost.name, "guest", "guest")).await;
        elsewhere.queue_on("swarmgate.refused", "hung.refused", "#", &[]).await;

        cluster.nodes[0].pause();
        // Each is refused, and its copy goes where nothing is ever confirmed.
        let broken: Vec<_> = (0..300).map(|n| message("signal.swarm-stop", &serde_json::json!(n))).collect();
        client.publish(&broken).await;
        let asked = Instant::now();
        client.publish(&stops("behind", 20)).await;
        let heard = hear(&mut innocent, STOP_PATIENCE, |heard| keys(heard).len() == 20).await;
        let took = asked.elapsed();
        cluster.heal();

        assert_eq!(keys(&heard).len(), 20, "stops behind refused copies, after {took:?}");
        router.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_classic_queue_of_a_subscriber_on_a_hung_node_holds_no_stop() {
        let Some(cluster) = Cluster::hold("a subscriber on a hung node") else { return };
        let (vhost, router, client, mut innocent) = at_the_second_node(&cluster, "hung-tap").await;
        let elsewhere = Client::at(&cluster.nodes[0].url(&vhost.name, "guest", "guest")).await;
        elsewhere.queue("hung.tap", "signal.#", &[]).await;
        // A router that has carried stops before: each of its channels knows the subscriber's node.
        for stop in stops("before", 20) {
            client.publish(&[stop]).await;
            let heard = hear(&mut innocent, STOP_PATIENCE, |heard| !heard.is_empty()).await;
            assert!(!heard.is_empty(), "the cluster is whole");
        }

        cluster.nodes[0].pause();
        let asked = Instant::now();
        client.publish(&stops("behind", 100)).await;
        let behind = |heard: &[Delivery]| keys(heard).iter().filter(|key| key.contains("behind")).count();
        let heard = hear(&mut innocent, STOP_PATIENCE, |heard| behind(heard) == 100).await;
        let took = asked.elapsed();
        cluster.heal();

        assert_eq!(behind(&heard), 100, "stops beside a hung subscriber, after {took:?}");
        router.stop().await;
    }

    /// How long stops stayed away at most, from the time that `harm` is done to the node that leads
    /// all of the router's queues.
    async fn gap(cluster: &Cluster, test: &str, harm: impl FnOnce(&Broker)) -> Duration {
        // What a router declared at the third node is led by it, or lives there alone; the next
        // router is at the second.
        let vhost = cluster.nodes[1].vhost(test);
        let led = cluster.nodes[2].url(&vhost.name, "guest", "guest");
        let first = Process::start_on(&led, TempDir::new().expect("a directory"));
        first
            .ready(amqp::connect(&amqp::Options::new(led.clone())).await.expect("a connection").as_ref())
            .await;
        let dir = first.stop().await;
        let router = router(&vhost, dir).await;
        let client = Client::at(&vhost.options().url).await;
        client.queue("innocent", "signal.#", &quorum()).await;
        let mut innocent = client.listen("innocent").await;
        let sending = tokio::spawn(async move {
            for number in 0.. {
                let stop = signal("swarm-stop", &format!("w-{number}"), &format!("gap-{number}"));
                let (exchange, key) = (stop.exchange.as_str().into(), stop.routing_key.as_str().into());
                let properties = lapin::BasicProperties::default().with_delivery_mode(2);
                let options = BasicPublishOptions::default();
                let _ = client.channel.basic_publish(exchange, key, options, &stop.body, properties).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let first = tokio::time::timeout(STOP_PATIENCE, innocent.next()).await;
        assert!(first.is_ok_and(|delivery| delivery.is_some()), "the cluster is whole");

        harm(&cluster.nodes[2]);
        let began = Instant::now();
        let (mut last, mut longest) = (began, Duration::ZERO);
        while let Some(left) = WATCH.checked_sub(began.elapsed()) {
            if tokio::time::timeout(left, innocent.next()).await.is_ok_and(|delivery| delivery.is_some()) {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
        }
        let longest = longest.max(last.elapsed());
        sending.abort();
        cluster.heal();
        router.stop().await;
        longest
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn stops_go_on_when_the_node_dies_that_had_all_queues_of_the_router() {
        let Some(cluster) = Cluster::hold("a dead node") else { return };
        let longest = gap(&cluster, "dead", Broker::kill_at_once).await;
        eprintln!("the node with the queues died: no stop for {longest:?}");
        assert!(longest <= GAP_DEAD_MAX, "no stop for {longest:?}");
    }

    /// Each of a dozen stops from its publishing to its hearing, one after the other.
    async fn each_stop(client: &Client, innocent: &mut Consumer, name: &str) -> Vec<Duration> {
        let mut took = Vec::new();
        for stop in stops(name, 12) {
            let (key, begun) = (stop.routing_key.clone(), Instant::now());
            client.publish(&[stop]).await;
            let is_it = |heard: &Delivery| heard.routing_key.as_str() == key;
            let heard = hear(innocent, WATCH, |heard| heard.iter().any(is_it)).await;
            assert!(heard.iter().any(is_it), "`{key}` did not pass");
            took.push(begun.elapsed());
        }
        took
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stop_is_no_later_beside_a_dead_node() {
        const RUNS: usize = 3;
        let Some(cluster) = Cluster::hold("stops beside a dead node") else { return };
        let (_vhost, router, client, mut innocent) = at_the_second_node(&cluster, "dead-late").await;
        each_stop(&client, &mut innocent, "warm").await;
        let mut figures = Alternating::default();
        for run in 0..RUNS {
            figures.add(false, each_stop(&client, &mut innocent, &format!("whole-{run}")).await);
            cluster.nodes[2].kill_at_once();
            // What its death itself costs is the gap, which has a test of its own.
            each_stop(&client, &mut innocent, &format!("elected-{run}")).await;
            figures.add(true, each_stop(&client, &mut innocent, &format!("dead-{run}")).await);
            cluster.heal();
            each_stop(&client, &mut innocent, &format!("healed-{run}")).await;
        }
        figures.hold("a dead node");
        router.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn stops_go_on_when_the_node_hangs_that_had_all_queues_of_the_router() {
        let Some(cluster) = Cluster::hold("a hung node") else { return };
        let longest = gap(&cluster, "hung", Broker::pause).await;
        eprintln!("the node with the queues hung: no stop for {longest:?}");
        assert!(longest <= GAP_HUNG_MAX, "no stop for {longest:?}");
    }
}
