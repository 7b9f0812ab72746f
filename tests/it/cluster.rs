//! RabbitMQ 4: one node, and three joined ones of which one is hung or dead.
//!
//! Owns: that 4.x is served as 3.x is, and what one node of a cluster may do to messages that do not need it.
//! Never: passes without a word where RabbitMQ 4 cannot be had.
//! Holds: each test holds the cluster of the run alone, and leaves it whole.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use swarmgate::bus::{Bus, Fate, amqp};

use crate::{
    broker::{Broker, Cluster},
    bus::{departure, promises, publish},
};

/// In how long a publish has to be confirmed that no hung node has a part in.
const CONFIRM_MS_MAX: u128 = 2_000;

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
}

mod on_cluster {
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
}
