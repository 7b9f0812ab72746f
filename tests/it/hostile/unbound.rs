//! What no binding takes: a stop whose binding or queue is gone passes all the same, also while the
//! ledger cannot be written, and a release that knew no such way gives place without a gap.

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use swarmgate::{
    bus::{Bus, Exchange, ExchangeKind, Queue, QueueKind, Topology, amqp::Amqp},
    contract::message::Message,
    ledger::{
        FILE,
        query::{Filter, Reader},
    },
};

use super::*;
use crate::router::{Inbox, body};

/// How long a stop may take whose queue is made anew first.
const MADE_ANEW: Duration = Duration::from_secs(8);
const URGENT: &str = "swarmgate.in.urgent.v2";
const STOPS: &str = "signal.swarm-stop.*.*.*";

/// A router whose ledger somebody else has locked, and who hears what it forwards.
struct Locked {
    router: Process,
    other: SqliteConnection,
    bus: Arc<Amqp>,
    inbox: Inbox,
    sent: Vec<String>,
}

impl Locked {
    async fn new(vhost: &Vhost) -> Self {
        let address = free_address();
        let dir = TempDir::new().expect("a directory");
        let more = ["--http", &address, "--set", "ledger.commit_timeout_ms=1000"];
        let router = Process::configured(&vhost.options().url, dir, &more);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let options = SqliteConnectOptions::new().filename(router.ledger().join(FILE));
        let mut other = SqliteConnection::connect_with(&options).await.expect("a connection");
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.expect("the lock");
        let mut locked = Self { router, other, bus, inbox, sent: Vec::new() };
        locked.passes("locked", Duration::from_secs(10)).await;
        says(&address, "/readyz", |page| page.contains("\"what\":\"ledger\"")).await;
        locked
    }

    /// Sends a stop, and waits until it is forwarded.
    async fn passes(&mut self, name: &str, within: Duration) {
        let mut stop = signal("swarm-stop", "w-1", name);
        let mut said = body(&stop);
        said["origin"] = json!("guest");
        stop.body = said.to_string().into();
        stop.properties.user_id = Some("guest".to_owned());
        stop.properties.message_id = Some(format!("theirs-{name}"));
        stop.properties.expiration = Some("600000".to_owned());
        stop.properties
            .headers
            .push(("mine".into(), swarmgate::contract::message::HeaderValue::Text("kept".to_owned())));
        let begun = Instant::now();
        send(self.bus.as_ref(), &[stop]).await;
        let key = format!("i-{name}");
        let is_it = |message: &Message| body(message)["idempotencyKey"] == key;
        let bus = self.bus.as_ref();
        self.inbox.hear(bus, |heard| heard.iter().any(is_it)).await;
        let took = begun.elapsed();
        let found: Vec<&Message> = self.inbox.heard.iter().filter(|message| is_it(message)).collect();
        let [stop] = found[..] else { panic!("`{name}` was forwarded {} times", found.len()) };
        assert!(took < within, "`{name}` took {took:?}");
        let header = |name: &str| stop.properties.header_text(name);
        assert_eq!(header("x-swarmgate-user-id"), Some("guest"), "{name}");
        assert_eq!(header("x-swarmgate-message-id"), Some(format!("theirs-{name}").as_str()));
        assert_eq!(header("mine"), Some("kept"), "{name}");
        let ours = |name: &str| name.starts_with("x-swarmgate-moved-") || name == "x-swarmgate-dead-user-id";
        assert!(!stop.properties.headers.iter().any(|(name, _)| ours(name)), "{:?}", stop.properties.headers);
        self.sent.push(key);
    }

    /// Lets the ledger be written again: each stop is on record once.
    async fn ends(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.other).await.expect("the lock is let go of");
        let reader = Reader::open(self.router.ledger()).await.expect("a reader");
        let on_record = async || {
            let entries = reader.select(&Filter::default(), usize::MAX).await.expect("entries");
            let asked = entries.iter().map(|sealed| &sealed.entry.fact);
            let asked = asked.filter(|fact| fact.action.word() == "controlplane.command.requested");
            let mut keys: Vec<String> = asked.filter_map(|fact| fact.idempotency_key.clone()).collect();
            keys.sort();
            keys
        };
        self.sent.sort();
        let until = Instant::now() + Duration::from_secs(30);
        while on_record().await.len() < self.sent.len() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(on_record().await, self.sent);
        self.router.stop().await;
    }
}

fn urgent(bindings: &[(&str, &str)]) -> Queue {
    let bindings = bindings.iter().map(|(exchange, key)| ((*exchange).to_owned(), (*key).to_owned()));
    Queue { name: URGENT.to_owned(), kind: QueueKind::Quorum, bindings: bindings.collect() }
}

/// What leads on from an exchange, as `exchange NAME` or `queue NAME`.
fn leads_to(vhost: &Vhost, exchange: &str) -> Vec<String> {
    let path = format!("/api/exchanges/{}/{exchange}/bindings/source", vhost.name);
    let rows: Vec<Value> = serde_json::from_str(&vhost.broker.http("GET", &path, "")).expect("a list");
    let text = |row: &Value, of: &str| row[of].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| format!("{} {}", text(row, "destination_type"), text(row, "destination"))).collect()
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stop_that_no_binding_takes_passes_without_a_ledger() {
        let vhost = Arc::new(Broker::shared()).vhost("unbound-stop");
        let mut locked = Locked::new(&vhost).await;
        let bus = Arc::clone(&locked.bus);
        for round in 0..3 {
            bus.unbind(&urgent(&[("swarmgate.in", STOPS)])).await.expect("unbound");
            locked.passes(&format!("unbound-{round}"), Duration::from_secs(2)).await;
            vhost.delete_queue(URGENT);
            locked.passes(&format!("gone-{round}"), MADE_ANEW).await;
            bus.delete_exchange("swarmgate.in").await.expect("deleted");
            let alternate = Some("swarmgate.in.unknown".to_owned());
            let anew = Exchange { name: "swarmgate.in".to_owned(), kind: ExchangeKind::Topic, alternate };
            let one = Topology { exchanges: vec![anew], queues: Vec::new() };
            bus.declare(&one).await.expect("made anew, with no binding");
            locked.passes(&format!("anew-{round}"), Duration::from_secs(2)).await;
        }
        // What came back of what the broker dropped, and has no binding either.
        bus.unbind(&urgent(&[("swarmgate.in.returned", STOPS), ("swarmgate.in", STOPS)]))
            .await
            .expect("unbound");
        let mut dropped = signal("swarm-stop", "w-1", "dropped");
        dropped.exchange = "swarmgate.in.dead".to_owned();
        send(bus.as_ref(), &[dropped]).await;
        locked.sent.push("i-dropped".to_owned());
        let heard = |heard: &[Message]| heard.iter().any(|it| body(it)["idempotencyKey"] == "i-dropped");
        locked.inbox.hear(bus.as_ref(), heard).await;
        assert!(heard(&locked.inbox.heard), "a stop that was dropped and that no binding takes");
        locked.ends().await;
        let left = bus.counts("swarmgate.in.unbound").await.expect("an answer").expect("a queue");
        assert_eq!(left.ready, 0, "nothing is left behind");
    }

    /// Stops flow while the router of this release takes the broker over from the one before.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_binding_of_an_earlier_release_gives_place_without_a_gap() {
        let vhost = Arc::new(Broker::shared()).vhost("unbound-upgrade");
        let bus = vhost.connect().await;
        let exchange = |name: &str, kind, alternate: Option<&str>| Exchange {
            name: name.to_owned(),
            kind,
            alternate: alternate.map(str::to_owned),
        };
        let unknown = "swarmgate.in.unknown";
        let results = Queue {
            name: "swarmgate.in.results.v2".to_owned(),
            kind: QueueKind::Lane { dead: "swarmgate.in.dead".to_owned() },
            bindings: vec![(unknown.to_owned(), String::new())],
        };
        let before = Topology {
            exchanges: vec![
                exchange(unknown, ExchangeKind::Fanout, None),
                exchange("swarmgate.in", ExchangeKind::Topic, Some(unknown)),
                exchange("swarmgate.out", ExchangeKind::Topic, None),
            ],
            queues: vec![results],
        };
        bus.declare(&before).await.expect("the release before");
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let address = free_address();
        let dir = TempDir::new().expect("a directory");
        let router = Process::configured(&vhost.options().url, dir, &["--http", &address]);
        let mut sent = 0;
        let mut settled = None;
        while settled.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(1)) {
            assert!(sent < 20_000, "it never leads the other way: {:?}", leads_to(&vhost, unknown));
            let both = [
                signal("swarm-stop", "w-1", &format!("s{sent}")),
                message("other.key", &json!({ "n": sent })),
            ];
            // Or stops went by their own binding before anything of this is made.
            let _ = bus.unbind(&urgent(&[("swarmgate.in", STOPS)])).await;
            send(bus.as_ref(), &both).await;
            sent += 1;
            if settled.is_none() && leads_to(&vhost, unknown) == ["exchange swarmgate.in.unbound"] {
                settled = Some(Instant::now());
            }
        }
        let is_stop = |message: &&Message| message.routing_key.starts_with("signal.swarm-stop.");
        inbox.hear(bus.as_ref(), |heard| heard.iter().filter(is_stop).count() >= sent).await;
        assert_eq!(inbox.heard.iter().filter(is_stop).count(), sent, "each stop is forwarded once");
        // None was in two lanes, and no other message either: each was received once.
        let received = async || -> usize {
            let page = get(&address, "/metrics").await;
            let rows = page.lines().filter(|row| row.starts_with("swarmgate_envelopes_total{"));
            rows.filter_map(|row| row.rsplit_once(' ')?.1.parse::<usize>().ok()).sum()
        };
        let until = Instant::now() + Duration::from_secs(20);
        while received().await < 2 * sent && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(received().await, 2 * sent);
        router.stop().await;
    }
}
