//! Who may say what on a broker with the definitions that are shipped: the gate has no way around
//! it.

mod users;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::broker::Broker;

const DEFINITIONS: &str = include_str!("../../docker/rabbitmq/definitions.json");

/// Each user of the definitions gets its own name for a password.
fn give_passwords(broker: &Broker) {
    let definitions: Value = serde_json::from_str(DEFINITIONS).expect("JSON");
    for user in definitions["users"].as_array().expect("users") {
        let name = user["name"].as_str().expect("a name");
        let body = format!(r#"{{"password_hash":"{}","tags":""}}"#, password_hash(name));
        broker.http("PUT", &format!("/api/users/{name}"), &body);
    }
}

/// RabbitMQ's salted SHA-256, as the definitions file takes it.
fn password_hash(password: &str) -> String {
    let salt = [1_u8, 2, 3, 4];
    let hash = Sha256::new().chain_update(salt).chain_update(password).finalize();
    BASE64_STANDARD.encode([&salt[..], &hash[..]].concat())
}

mod on_rabbitmq {
    use std::sync::Arc;

    use swarmgate::{
        bus::{
            Bus, BusError, Fate, Queue, QueueKind, Topology,
            amqp::{self, Options},
        },
        contract::command::Commands,
        runtime,
    };

    use crate::{
        broker::Broker,
        bus::{DEADLINE, departure, ids, publish, take},
    };

    /// What a router declares before it begins, and a bypass that it ends.
    async fn begins(router: &dyn Bus) {
        for declared in [
            runtime::topology::asking("swarmgate"),
            runtime::topology::belonging("swarmgate", "dev"),
            runtime::topology::at_site("swarmgate", "one"),
        ] {
            router.declare(&declared).await.expect("and what it asks other routers by");
        }
        let bypasses = runtime::topology::bypasses();
        let parted = router.unbind_exchange("swarmgate.in", "swarmgate.out", &bypasses).await;
        parted.expect("and it may end a bypass");
    }

    /// Both ways around the gate are closed to a producer, in the definitions that are shipped.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_gets_around_the_gate() {
        let broker = Arc::new(Broker::own("definitions"));
        broker.http("POST", "/api/definitions", super::DEFINITIONS);
        let shut = Options::new(broker.url("/", "producer", ""));
        assert!(amqp::connect(&shut).await.is_err(), "as shipped, nobody can log in");
        super::give_passwords(&broker);
        let connect = async |user: &str| {
            amqp::connect(&Options::new(broker.url("/", user, user))).await.expect("a connection")
        };
        let router = connect("swarmgate").await;
        let commands = Commands::default();
        let topology = runtime::topology::enforce("swarmgate", &commands);
        router.declare(&topology).await.expect("the definitions are what the router declares");
        let mark = runtime::topology::mark("swarmgate");
        router.declare(&mark).await.expect("and so is the mark's place");
        begins(router.as_ref()).await;
        assert_eq!(
            runtime::presence::look(&(router.clone() as Arc<dyn Bus>), "swarmgate").await.expect("an answer"),
            []
        );
        let producer = connect("producer").await;
        let key = "signal.swarm-start.s.r.i";
        let refused = async |exchange: &str, key: &str| {
            let publisher = producer.publisher().await.expect("a publisher");
            let fault =
                publisher.publish(&[&departure(exchange, key, 1)], DEADLINE).await.expect_err("no way");
            assert!(fault.to_string().contains("ACCESS_REFUSED"), "{exchange} {key}: {fault}");
        };
        assert_eq!(
            publish(producer.as_ref(), vec![departure("swarmgate.in", key, 1)]).await,
            [Fate::Carried]
        );
        refused("swarmgate.out", key).await;
        refused("", "subscriber.kestrel").await;
        refused("", "swarmgate.in.signals.v2").await;
        refused("amq.topic", key).await;
        refused("swarmgate.refused", key).await;
        refused("swarmgate.in.unknown", key).await;
        refused("swarmgate.mark", "").await;
        refused("swarmgate.routers", "all").await;
        refused("swarmgate.in", "other.key").await;
        let own = Queue {
            name: "producer.own".to_owned(),
            kind: QueueKind::Exclusive,
            bindings: vec![("swarmgate.out".to_owned(), "#".to_owned())],
        };
        let fault = producer.declare(&Topology { queues: vec![own], ..Topology::default() }).await;
        assert!(matches!(fault, Err(BusError::Refused { .. })), "{fault:?}");
        for queue in ["swarmgate.in.signals.v2", "swarmgate.mark"] {
            let fault = producer.consumer(queue, 1).await.err().expect("no way");
            assert!(fault.to_string().contains("ACCESS_REFUSED"), "{queue}: {fault}");
        }
        let lock = Queue {
            name: runtime::topology::router_lock("swarmgate"),
            kind: QueueKind::Exclusive,
            bindings: Vec::new(),
        };
        let fault = producer.declare(&Topology { queues: vec![lock], ..Topology::default() }).await;
        assert!(matches!(fault, Err(BusError::Refused { .. })), "nobody keeps a router out: {fault:?}");
        subscriber_hears(connect("subscriber").await.as_ref(), router.as_ref(), key).await;
        operator_asks(connect("operator").await.as_ref(), router.as_ref(), key).await;
    }

    /// An operator's tool sends, and hears the answer and what was refused, on queues of its own
    /// name only.
    async fn operator_asks(operator: &dyn Bus, router: &dyn Bus, key: &str) {
        let queue = |name: &str, exchange: &str| Topology {
            queues: vec![Queue {
                name: name.to_owned(),
                kind: QueueKind::Exclusive,
                bindings: vec![(exchange.to_owned(), "#".to_owned())],
            }],
            ..Topology::default()
        };
        for exchange in ["swarmgate.out", "swarmgate.refused"] {
            let name = format!("swarmgate.tool.{exchange}");
            operator.declare(&queue(&name, exchange)).await.expect("a queue of its own");
            let mut consumer = operator.consumer(&name, 10).await.expect("a consumer");
            assert_eq!(publish(router, vec![departure(exchange, key, 9)]).await, [Fate::Carried]);
            assert_eq!(ids(&take(consumer.as_mut(), 1).await), ["id-9"], "{exchange}");
        }
        assert_eq!(publish(operator, vec![departure("swarmgate.in", key, 9)]).await, [Fate::Carried]);
        for (name, exchange) in [("swarmgate.tool.raw", "swarmgate.in"), ("operator.own", "swarmgate.out")] {
            assert!(operator.declare(&queue(name, exchange)).await.is_err(), "{name} on {exchange}");
        }
        let publisher = operator.publisher().await.expect("a publisher");
        assert!(publisher.publish(&[&departure("swarmgate.out", key, 9)], DEADLINE).await.is_err());
    }

    /// A subscriber hears what the router lets out, and says nothing.
    async fn subscriber_hears(subscriber: &dyn Bus, router: &dyn Bus, key: &str) {
        let queue = |exchange: &str| Topology {
            queues: vec![Queue {
                name: "subscriber.kestrel".to_owned(),
                kind: QueueKind::Exclusive,
                bindings: vec![(exchange.to_owned(), "signal.#".to_owned())],
            }],
            ..Topology::default()
        };
        assert!(
            subscriber.declare(&queue("swarmgate.in")).await.is_err(),
            "it must not hear what is not judged"
        );
        subscriber.declare(&queue("swarmgate.out")).await.expect("its own queue");
        let mut consumer = subscriber.consumer("subscriber.kestrel", 10).await.expect("a consumer");
        assert_eq!(publish(router, vec![departure("swarmgate.out", key, 7)]).await, [Fate::Carried]);
        assert_eq!(ids(&take(consumer.as_mut(), 1).await), ["id-7"]);
        let publisher = subscriber.publisher().await.expect("a publisher");
        for exchange in ["swarmgate.out", "swarmgate.in", ""] {
            let said = publisher.publish(&[&departure(exchange, key, 8)], DEADLINE).await;
            assert!(said.is_err(), "a subscriber spoke on `{exchange}`: {said:?}");
        }
    }
}
