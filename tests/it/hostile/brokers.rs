//! Hostile brokers: queues that are not as they must be, rights that are missing, and what the
//! broker drops.

use swarmgate::{
    bus::Bus,
    ledger::query::{Filter, Reader},
};

use super::*;
use crate::router::{Inbox, send};

fn quorum(vhost: &Vhost, name: &str, arguments: Value) {
    let body = json!({ "durable": true, "arguments": arguments }).to_string();
    vhost.broker.http("PUT", &format!("/api/queues/{}/{name}", vhost.name), &body);
}

/// What the release before declared, as far as it was bound otherwise than today.
pub(crate) fn earlier_release(vhost: &Vhost) {
    for lane in ["urgent", "signals", "results"] {
        let arguments = json!({ "x-queue-type": "quorum", "x-overflow": "reject-publish" });
        quorum(vhost, &format!("swarmgate.in.{lane}"), arguments);
    }
    let classic =
        json!({ "x-queue-type": "classic", "x-max-length-bytes": 268_435_456, "x-overflow": "drop-head" });
    for name in ["swarmgate.in.metrics", "swarmgate.refused"] {
        quorum(vhost, name, classic.clone());
    }
    let topic = json!({ "type": "topic", "durable": true, "arguments": { "alternate-exchange": "swarmgate.in.unknown" } });
    let exchange = |name: &str, body: &Value| {
        vhost.broker.http("PUT", &format!("/api/exchanges/{}/{name}", vhost.name), &body.to_string());
    };
    exchange("swarmgate.in.unknown", &json!({ "type": "fanout", "durable": true }));
    exchange("swarmgate.in", &topic);
    for (queue, key) in [("urgent", "signal.swarm-stop.*.*.*"), ("signals", "signal.swarm-plan.*.*.*")] {
        let path = format!("/api/bindings/{}/e/swarmgate.in/q/swarmgate.in.{queue}", vhost.name);
        vhost.broker.http("POST", &path, &json!({ "routing_key": key }).to_string());
    }
}

/// With messages in those queues: a router judges each once, carries what has to be, and the queues
/// are gone.
pub(crate) async fn is_taken_over(vhost: &Vhost) {
    let bus = vhost.connect().await;
    let mut left = vec![signal("swarm-stop", "w-1", "stop")];
    left.extend(
        (0..40).map(|number| signal("swarm-plan", &format!("p-{number}"), &format!("plan-{number}"))),
    );
    send(bus.as_ref(), &left).await;
    let router = Process::start(&vhost.options().url);
    router.ready(bus.as_ref()).await;
    let lanes = ["urgent", "signals", "results", "metrics"].map(|lane| format!("swarmgate.in.{lane}"));
    let gone = async {
        for name in lanes.iter().map(String::as_str).chain(["swarmgate.refused"]) {
            while bus.counts(name).await.expect("an answer").is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(40), gone).await.expect("the old queues are deleted");
    let reader = Reader::open(router.ledger()).await.expect("a reader");
    let entries = reader.select(&Filter::default(), usize::MAX).await.expect("entries");
    let requested =
        entries.iter().filter(|sealed| sealed.entry.fact.action.word() == "controlplane.command.requested");
    assert_eq!(requested.count(), left.len(), "each message of the old queues is judged once");
    router.stop().await;
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn a_queue_of_another_type_is_named_at_the_first_start() {
        let vhost = Arc::new(Broker::shared()).vhost("hostile-mismatch");
        quorum(&vhost, "swarmgate.in.signals.v2", json!({ "x-queue-type": "classic" }));
        let dir = TempDir::new().expect("a directory");
        let (code, told) = Process::fails_on(&vhost.options().url, &dir);
        assert_eq!(code, Some(4), "{told}");
        for word in ["swarmgate.in.signals.v2", "x-queue-type", "'classic'", "'quorum'", "help: delete it"] {
            assert!(told.contains(word), "`{word}` is not said: {told}");
        }
    }

    #[tokio::test]
    async fn a_queue_that_lacks_an_argument_is_used_as_it_is() {
        let vhost = Arc::new(Broker::shared()).vhost("hostile-lacks");
        quorum(&vhost, "swarmgate.in.urgent.v2", json!({ "x-queue-type": "quorum" }));
        let router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        send(bus.as_ref(), &[signal("swarm-stop", "w-1", "stop")]).await;
        inbox.hear(bus.as_ref(), |heard| !heard.is_empty()).await;
        assert!(!inbox.heard.is_empty(), "the stop is carried");
        router.stop().await;
    }

    #[tokio::test]
    async fn a_lane_that_may_not_be_read_reconnects_nobody_and_is_named() {
        let broker = Arc::new(Broker::shared());
        let vhost = broker.vhost("hostile-rights");
        let bus = vhost.connect().await;
        // Everything is there before; then the router's user may not read one lane's queue.
        let router = Process::start(&vhost.options().url);
        router.ready(bus.as_ref()).await;
        router.stop().await;
        let user = format!("half-{}", vhost.name);
        broker.http("PUT", &format!("/api/users/{user}"), r#"{"password":"p","tags":""}"#);
        let rights =
            json!({ "configure": ".*", "write": ".*", "read": "^(?!swarmgate\\.in\\.signals\\.v2).*$" });
        broker.http("PUT", &format!("/api/permissions/{}/{user}", vhost.name), &rights.to_string());
        let address = free_address();
        let dir = TempDir::new().expect("a directory");
        let url = broker.url(&vhost.name, &user, "p");
        let router = Process::configured(&url, dir, &["--http", &address]);
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        send(bus.as_ref(), &[signal("swarm-stop", "w-1", "stop")]).await;
        inbox.hear(bus.as_ref(), |heard| !heard.is_empty()).await;
        assert!(!inbox.heard.is_empty(), "the stop is carried while another lane has no consumer");
        let connections = || {
            let rows = broker.ctl(&["list_connections", "--silent", "user", "pid"]);
            let mut mine: Vec<String> =
                rows.lines().filter(|row| row.starts_with(&user)).map(str::to_owned).collect();
            mine.sort();
            mine
        };
        let before = connections();
        assert!(!before.is_empty());
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(connections(), before, "the connections stand");
        let page = get(&address, "/readyz").await;
        assert!(
            page.contains("\"topology\"") && page.contains("swarmgate.in.signals.v2 (consumer)"),
            "{page}"
        );
        assert!(page.contains("ACCESS_REFUSED"), "{page}");
        router.stop().await;
        broker.http("DELETE", &format!("/api/users/{user}"), "");
    }

    #[tokio::test]
    async fn what_the_broker_drops_is_judged_all_the_same() {
        let vhost = Arc::new(Broker::shared()).vhost("hostile-dropped");
        let bus = vhost.connect().await;
        let router = Process::start(&vhost.options().url);
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        router.halt().await;
        let mut stop = signal("swarm-stop", "w-1", "stop");
        let mut start = signal("swarm-start", "w-2", "start");
        for message in [&mut stop, &mut start] {
            message.properties.expiration = Some("500".to_owned());
            message.properties.user_id = Some("guest".to_owned());
        }
        for message in [&mut stop, &mut start] {
            let mut body: Value = serde_json::from_slice(&message.body).expect("a body");
            body["origin"] = json!("guest");
            message.body = body.to_string().into();
        }
        send(bus.as_ref(), &[stop, start]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let router = router.again();
        inbox
            .hear(bus.as_ref(), |heard| {
                let keys: Vec<&str> = heard.iter().map(|message| message.routing_key.as_str()).collect();
                keys.iter().any(|key| key.starts_with("signal.swarm-stop."))
                    && keys.iter().any(|key| key.starts_with("event.outcome.swarm-start."))
            })
            .await;
        let said = |start: &str| {
            let found = inbox.heard.iter().find(|message| message.routing_key.starts_with(start));
            found.map(|message| serde_json::from_slice::<Value>(&message.body).expect("a body"))
        };
        assert!(said("signal.swarm-stop.").is_some(), "the stop is carried");
        assert!(said("signal.swarm-start.").is_none(), "the start is not");
        let outcome = said("event.outcome.swarm-start.").expect("its sender hears of its end");
        assert_eq!(outcome["data"]["code"], "command.expired", "{outcome}");
        let reader = Reader::open(router.ledger()).await.expect("a reader");
        let filter = Filter { idempotency_key: Some("i-start".to_owned()), ..Filter::default() };
        let entries = reader.select(&filter, usize::MAX).await.expect("entries");
        let actor = entries.first().and_then(|sealed| sealed.entry.fact.actor.as_ref());
        assert_eq!(actor.map(|actor| actor.principal.as_str()), Some("guest"), "who sent it is known still");
        router.stop().await;
    }

    #[tokio::test]
    async fn the_queues_of_an_earlier_release_are_emptied_and_deleted() {
        let vhost = Arc::new(Broker::shared()).vhost("hostile-upgrade");
        earlier_release(&vhost);
        is_taken_over(&vhost).await;
    }
}
