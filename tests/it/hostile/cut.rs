//! Connections that are cut from outside, again and again, while the broker is well; and how that
//! is told from a broker that says no.

use swarmgate::bus::{Bus, BusError};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::*;
use crate::{
    bus::{DEADLINE, departure},
    hostile_hosts::stop_passes,
    router::Inbox,
};

/// Between a router and its broker: everything that goes through it can be cut at once.
struct Wire {
    address: String,
    cut: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    async fn to(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (cut, cuts) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (broker, mut cuts) = (broker.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = tokio::net::TcpStream::connect(&broker).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, task }
    }
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_that_is_cut_again_and_again_holds_stops_for_no_long_pause() {
        let broker = Arc::new(Broker::shared());
        let vhost = broker.vhost("cut-again");
        let wire = Wire::to(broker.socket_address().to_owned()).await;
        let url = format!("amqp://guest:guest@{}/{}", wire.address, vhost.name);
        let address = free_address();
        let dir = TempDir::new().expect("a directory");
        // As they are unless set.
        let more = ["--set", "amqp.reconnect_min_ms=100", "--set", "amqp.reconnect_max_ms=10000"];
        let router = Process::configured(&url, dir, &[&["--http", address.as_str()], &more[..]].concat());
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        for round in 0..10 {
            says(&address, "/readyz", |page| page.starts_with("HTTP/1.1 200")).await;
            wire.cut.send_modify(|cuts| *cuts += 1);
            let took = stop_passes(bus.as_ref(), &mut inbox, &format!("cut-{round}")).await;
            assert!(took < Duration::from_secs(6), "round {round} took {took:?}");
        }
        router.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_that_the_broker_ends_with_a_no_is_told_from_one_that_is_cut() {
        let broker = Arc::new(Broker::shared());
        let vhost = broker.vhost("cut-told");
        let bus = vhost.connect().await;
        let publisher = bus.publisher().await.expect("a publisher");
        publisher.publish(&[&departure("nowhere", "key", 1)], DEADLINE).await.expect_err("no such exchange");
        assert!(!bus.was_refused(), "a channel's fault ends no connection");
        let url = format!("/api/user-limits/{}/max-channels", limited(&broker, &vhost));
        broker.http("PUT", &url, r#"{"value":3}"#);
        let user = format!("few-{}", vhost.name);
        let few = swarmgate::bus::amqp::Options::new(broker.url(&vhost.name, &user, "p"));
        let few = swarmgate::bus::amqp::connect(&few).await.expect("a connection");
        bus.declare(&swarmgate::bus::Topology {
            exchanges: Vec::new(),
            queues: vec![swarmgate::bus::Queue {
                name: "some".to_owned(),
                kind: swarmgate::bus::QueueKind::Quorum,
                bindings: Vec::new(),
            }],
        })
        .await
        .expect("a queue");
        let mut consumers = Vec::new();
        let fault = loop {
            assert!(consumers.len() < 10, "there is no limit");
            match few.consumer("some", 1).await {
                Ok(consumer) => consumers.push(consumer),
                Err(fault) => break fault,
            }
        };
        assert!(matches!(fault, BusError::Unreachable { .. }), "{fault}");
        few.close().await;
        assert!(few.was_refused(), "{fault}");
        broker.ctl(&["close_all_connections", "--vhost", &vhost.name, "bye"]);
        let lost = async { while bus.counts("some").await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(10), lost).await.expect("the connection is lost");
        bus.close().await;
        assert!(!bus.was_refused(), "an operator's word is no refusal");
        broker.http("DELETE", &format!("/api/users/{user}"), "");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_alarm_is_heard_of_behind_a_fault_of_a_channel() {
        let broker = Arc::new(Broker::own("cut-alarm"));
        let vhost = broker.vhost("cut-alarm");
        let bus = vhost.connect().await;
        let publisher = bus.publisher().await.expect("a publisher");
        publisher.publish(&[&departure("nowhere", "key", 1)], DEADLINE).await.expect_err("no such exchange");
        broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
        // The broker tells nobody of an alarm who does not publish.
        let exchange = swarmgate::bus::Exchange {
            name: "some".to_owned(),
            kind: swarmgate::bus::ExchangeKind::Topic,
            alternate: None,
        };
        let one = swarmgate::bus::Topology { exchanges: vec![exchange], queues: Vec::new() };
        bus.declare(&one).await.expect("an exchange");
        let _ = publisher.publish(&[&departure("some", "key", 2)], Duration::from_secs(1)).await;
        let told = async {
            while bus.blocked().is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.expect("the alarm is known");
        broker.ctl(&["set_vm_memory_high_watermark", "0.6"]);
    }

    /// A user of the virtual host's own.
    fn limited(broker: &Broker, vhost: &Vhost) -> String {
        let user = format!("few-{}", vhost.name);
        broker.http("PUT", &format!("/api/users/{user}"), r#"{"password":"p","tags":""}"#);
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        broker.http("PUT", &format!("/api/permissions/{}/{user}", vhost.name), all);
        user
    }
}
