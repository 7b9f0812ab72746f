//! Observe mode on a real RabbitMQ: what it did not see is counted, and what it saw is reported.
//!
//! Owns: that every message is either on record or counted as dropped, and that a count that may be
//! too low says so.
//! Never: looks inside the process; what it tells is read from its metrics, its log, its report and
//! its ledger.
//! Holds: an observer that does not read is a real one, frozen by SIGSTOP.

mod report;

use std::{
    collections::BTreeSet,
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use swarmgate::{
    bus::{Bus, Departure, Exchange, ExchangeKind, Fate, Topology},
    contract::{audit::Action, message::Message},
    ledger::{
        FILE,
        query::{Filter, Reader},
    },
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    broker::{Broker, Vhost},
    router::{process::Beside, signal},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(90);

struct Observer {
    child: Beside,
    dir: TempDir,
    address: String,
}

impl Observer {
    /// Looks at `control.topic`, which is declared here, until it has seen a first message.
    async fn start(vhost: &Vhost, bus: &dyn Bus, more: &[&str]) -> Self {
        Self::start_as(&vhost.options().url, bus, more).await
    }

    /// The same as another user.
    async fn start_as(url: &str, bus: &dyn Bus, more: &[&str]) -> Self {
        let theirs =
            Exchange { name: "control.topic".to_owned(), kind: ExchangeKind::Topic, alternate: None };
        bus.declare(&Topology { exchanges: vec![theirs], queues: Vec::new() }).await.expect("an exchange");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let dir = TempDir::new().expect("a directory");
        let file = |name: &str| Stdio::from(File::create(dir.path().join(name)).expect("a file"));
        let child: Child = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
            .args(["observe", "--exchange", "control.topic", "--output", "json", "--http", &address])
            .args(["--amqp", url])
            .arg("--ledger")
            .arg(dir.path().join("ledger"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(file("report"))
            .stderr(file("log"))
            .spawn()
            .expect("it starts");
        let observer = Self { child: Beside(child), dir, address };
        let until = Instant::now() + PATIENCE;
        // Until its queue is bound, nobody takes it.
        while publish(bus, "first", 1, 10).await != [Fate::Carried] {
            assert!(Instant::now() < until, "{}", observer.read("log"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        observer.until(|seen| seen.judged == 1).await;
        observer
    }

    fn signal(&self, name: &str) {
        let pid = self.child.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).expect("a file")
    }

    async fn seen(&self) -> Option<Seen> {
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.ok()?;
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await.ok()?;
        let sum = |name: &str| -> u64 {
            let rows = page.lines().filter(|line| line.starts_with(name));
            rows.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
        };
        Some(Seen {
            judged: sum("swarmgate_envelopes_total"),
            dropped: sum("swarmgate_observed_dropped_total"),
            uncounted: sum("swarmgate_observed_uncounted_total"),
        })
    }

    async fn until(&self, enough: impl Fn(&Seen) -> bool) -> Seen {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = self.seen().await;
            match seen {
                Some(seen) if enough(&seen) => return seen,
                _ if Instant::now() > until => panic!("{seen:?}\n{}", self.read("log")),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Ends it; its totals.
    async fn stop(&mut self) -> Value {
        self.ended().await["observed"].clone()
    }

    /// Ends it; its whole report.
    async fn ended(&mut self) -> Value {
        self.signal("-TERM");
        let until = Instant::now() + PATIENCE;
        while self.child.0.try_wait().expect("a state").is_none() {
            assert!(Instant::now() < until, "it does not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let report = self.read("report");
        serde_json::from_str(&report).unwrap_or_else(|fault| panic!("{fault}: {report}"))
    }
}

#[derive(Debug)]
struct Seen {
    judged: u64,
    dropped: u64,
    uncounted: u64,
}

/// Publishes so many signals of that size, and says what became of each.
async fn publish(bus: &dyn Bus, name: &str, count: usize, bytes: usize) -> Vec<Fate> {
    let publisher = bus.publisher().await.expect("a publisher");
    let mut fates = Vec::new();
    let numbers: Vec<usize> = (0..count).collect();
    for part in numbers.chunks(100) {
        let departures: Vec<Departure> = part
            .iter()
            .map(|number| {
                let id = format!("{name}-{number}");
                let mut message = signal("swarm-plan", "w-1", &id);
                let mut body: Value = serde_json::from_slice(&message.body).expect("a body");
                body["data"] = json!({ "note": "x".repeat(bytes) });
                message.body = body.to_string().into();
                message.properties.message_id = Some(id);
                Departure {
                    message: Message { exchange: "control.topic".to_owned(), ..message },
                    mandatory: true,
                }
            })
            .collect();
        let batch: Vec<&Departure> = departures.iter().collect();
        fates.extend(publisher.publish(&batch, PATIENCE).await.expect("fates"));
    }
    fates
}

/// The correlationIds of what is on record as seen, as often as it is.
async fn recorded(ledger: &Path) -> Vec<String> {
    let reader = Reader::open(ledger).await.expect("a reader");
    let entries = reader.select(&Filter::default(), 10_000).await.expect("entries");
    let seen = entries.into_iter().filter(|entry| entry.entry.fact.action == Action::Seen);
    seen.filter_map(|entry| entry.entry.fact.correlation_id).collect()
}

/// Frozen while more comes than its queue holds: all of it is on record, or counted.
async fn counts(broker: Broker, test: &str) {
    let vhost = Arc::new(broker).vhost(test);
    let bus = vhost.connect().await;
    // The broker is not to take it for gone meanwhile, and a slow disk is another test's.
    let patient = ["--set", "amqp.heartbeat_s=120", "--set", "ledger.commit_timeout_ms=60000"];
    let mut observer = Observer::start(&vhost, bus.as_ref(), &patient).await;
    observer.signal("-STOP");
    let fates = publish(bus.as_ref(), "many", 2_500, 60_000).await;
    observer.signal("-CONT");
    let others: Vec<&Fate> = fates.iter().filter(|fate| **fate != Fate::Carried).collect();
    assert!(others.is_empty(), "{} of {} were not taken: {:?}", others.len(), fates.len(), others.first());
    let seen = observer.until(|seen| seen.judged + seen.dropped >= 2_501).await;
    assert!(seen.dropped > 500, "{seen:?}");
    assert_eq!((seen.judged + seen.dropped, seen.uncounted), (2_501, 0), "{seen:?}");
    let report = observer.stop().await;
    assert_eq!(report, json!({ "judged": seen.judged, "dropped": seen.dropped, "isLowerBound": false }));
    assert_eq!(recorded(&observer.dir.path().join("ledger")).await.len() as u64, seen.judged);
    let log = observer.read("log");
    assert!(log.contains("messages were dropped before they were judged"), "{log}");
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn what_a_frozen_observer_did_not_see_is_counted() {
        counts(Broker::shared(), "observe-counts").await;
    }

    #[tokio::test]
    async fn what_a_frozen_observer_did_not_see_is_counted_on_rabbitmq_4() {
        let Some(broker) = Broker::own_4("observe-4") else { return };
        counts(broker, "observe-4").await;
    }

    /// Its queue waits for the ledger as a router's does: it is not gone with the consumer that is
    /// closed until then.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_came_while_the_ledger_could_not_be_written_is_on_record() {
        let vhost = Arc::new(Broker::shared()).vhost("observe-ledger");
        let bus = vhost.connect().await;
        let hasty = ["--set", "ledger.commit_timeout_ms=400"];
        let mut observer = Observer::start(&vhost, bus.as_ref(), &hasty).await;
        let ledger = observer.dir.path().join("ledger");
        let options = SqliteConnectOptions::new().filename(ledger.join(FILE));
        let mut other = SqliteConnection::connect_with(&options).await.expect("a connection");
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.expect("the lock");
        publish(bus.as_ref(), "before", 50, 10).await;
        let until = Instant::now() + PATIENCE;
        while !observer.read("log").contains("the ledger cannot be written") {
            assert!(Instant::now() < until, "{}", observer.read("log"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let fates = publish(bus.as_ref(), "meanwhile", 50, 10).await;
        assert!(fates.iter().all(|fate| *fate == Fate::Carried), "its queue is there: {fates:?}");
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("a rollback");
        let until = Instant::now() + PATIENCE;
        let on_record = async || recorded(&ledger).await.into_iter().collect::<BTreeSet<_>>().len();
        while on_record().await < 101 {
            assert!(Instant::now() < until, "{} of 101 are on record", on_record().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let report = observer.stop().await;
        assert_eq!((&report["dropped"], &report["isLowerBound"]), (&json!(0), &json!(false)), "{report}");
    }

    #[tokio::test]
    async fn a_count_that_may_be_too_low_says_so() {
        let vhost = Arc::new(Broker::shared()).vhost("observe-least");
        let bus = vhost.connect().await;
        let small = [
            ["--set", "amqp.heartbeat_s=120"],
            ["--set", "amqp.prefetch_results_count=5"],
            ["--set", "observe.queue_bytes_max=1048576"],
            ["--set", "observe.dropped_bytes_max=1048576"],
        ];
        let mut observer = Observer::start(&vhost, bus.as_ref(), &small.concat()).await;
        observer.signal("-STOP");
        publish(bus.as_ref(), "many", 300, 60_000).await;
        observer.signal("-CONT");
        let seen = observer.until(|seen| seen.uncounted > 0 && seen.judged > 10).await;
        assert!(seen.dropped > 10 && seen.dropped < 280, "{seen:?}");
        let report = observer.stop().await;
        assert_eq!(report["isLowerBound"], true, "{report}");
        assert!(observer.read("log").contains("in time: at least "), "{}", observer.read("log"));
    }

    #[tokio::test]
    async fn what_was_lost_with_the_connection_is_said() {
        let vhost = Arc::new(Broker::shared()).vhost("observe-lost");
        let bus = vhost.connect().await;
        let mut observer = Observer::start(&vhost, bus.as_ref(), &["--set", "amqp.heartbeat_s=1"]).await;
        observer.signal("-STOP");
        // The broker takes it for gone, and its queue goes with its connection.
        let until = Instant::now() + PATIENCE;
        while publish(bus.as_ref(), "gone", 1, 10).await == [Fate::Carried] {
            assert!(Instant::now() < until, "the broker keeps the queue");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        observer.signal("-CONT");
        observer.until(|seen| seen.uncounted > 0).await;
        // It looks on.
        while publish(bus.as_ref(), "back", 1, 10).await != [Fate::Carried] {
            assert!(Instant::now() < until, "{}", observer.read("log"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        observer.until(|seen| seen.judged >= 2).await;
        let report = observer.stop().await;
        assert_eq!(report["isLowerBound"], true, "{report}");
        assert!(observer.read("log").contains("the connection was lost"), "{}", observer.read("log"));
    }
}
