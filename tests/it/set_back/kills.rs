//! Twenty kills each around a set-back ledger and around a commit that fails: the real binary on
//! RabbitMQ.
//!
//! Owns: SIGKILL at twenty moments of noticing a set-back, and of a ledger that cannot be written.
//! Never: judges by the router's own words alone; a subscriber that drops repeats says what was
//! carried.
//! Holds: after each kill the next router starts, no stop is lost or carried twice, and nothing
//! else gets past.

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::*;
use crate::router::message;

const KILLS: usize = 20;
/// How long a commit may take here before the ledger counts as failed.
const COMMIT_TIMEOUT_MS: u64 = 300;

/// How long the router of a round lives: spread over the whole of what it does, and never the same
/// twice.
fn life(round: usize, whole: Duration) -> Duration {
    whole * u32::try_from((round * 7) % KILLS + 1).expect("a small number") / KILLS as u32
}

/// The keys of the stops that were heard, each as often as it was.
fn stops_heard(inbox: &Inbox) -> Vec<String> {
    let stops = inbox.heard.iter().filter(|message| message.routing_key.starts_with("signal.bot-stop."));
    let mut keys: Vec<String> =
        stops.map(|stop| body(stop)["idempotencyKey"].as_str().unwrap_or_default().to_owned()).collect();
    keys.sort();
    keys
}

fn names(count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|number| format!("i-s{number}")).collect();
    names.sort();
    names
}

/// Only what the ledger held when it was set back may be there twice: it is no start.
fn starts_heard(inbox: &Inbox) -> usize {
    inbox.heard.iter().filter(|message| message.routing_key.starts_with("signal.config-update.")).count()
}

async fn set_back_entries(dir: &Path) -> usize {
    let reader = Reader::open(dir).await.expect("a ledger");
    let all = reader.select(&Filter::default(), usize::MAX).await.expect("entries");
    all.iter().filter(|entry| entry.entry.fact.action == Action::SetBack).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_around_a_set_back_forget_neither_it_nor_a_stop() {
    let broker = Broker::own("set-back-kills");
    let url = broker.url("/", "guest", "guest");
    let bus = swarmgate::bus::amqp::connect(&swarmgate::bus::amqp::Options::new(&url)).await.expect("a bus");
    let bus: &dyn Bus = bus.as_ref();
    let (router, mut inbox) = with_five_stops(&url, bus).await;
    let kept = TempDir::new().expect("a directory");
    let (code, said) = backup(router.ledger(), &kept.path().join("copy"));
    assert_eq!(code, Some(0), "{said}");
    send(bus, &stops(5, 5)).await;
    inbox.hear(bus, |heard| heard_stops(heard) >= 10).await;
    let mut dir = router.stop().await;
    put_back(dir.path(), &kept.path().join("copy"));
    for round in 0..KILLS {
        send(bus, &stops(10 + round, 1)).await;
        send(bus, &[signal("config-update", "w-1", &format!("late{round}"))]).await;
        let router = Process::start_on(&url, dir);
        // A start takes some 200 ms here; the set-back is on record, and the mark after it, within
        // 500.
        tokio::time::sleep(life(round, Duration::from_millis(700))).await;
        dir = router.killed();
    }
    let router = Process::start_on(&url, dir);
    // Everything may be there from before: it has to be up before it is told to end.
    tokio::time::sleep(Duration::from_secs(2)).await;
    noticed(&router).await;
    inbox.hear(bus, |heard| heard_stops(heard) >= 10 + KILLS).await;
    let dir = router.stop().await;
    assert_eq!(stops_heard(&inbox), names(10 + KILLS), "each stop once, none dropped as a repeat");
    assert_eq!(starts_heard(&inbox), 0, "nothing but stops passes");
    assert_eq!(verify(dir.path()).await.expect("a report").fault, None);
    assert_eq!(folded(dir.path()).await.strongest().0.word(), "SAFE");
    // One that was killed between the entry and the mark says it once more, and never once a mark
    // has followed.
    let entries = set_back_entries(dir.path()).await;
    assert!((1..=KILLS + 1).contains(&entries), "{entries}");
    let router = Process::start_on(&url, dir);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let dir = router.stop().await;
    assert_eq!(set_back_entries(dir.path()).await, entries, "it is noticed again, though it is on record");
}

/// Holds the write lock of a ledger, so that its commits fail.
async fn hold(dir: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(dir.join(FILE)).busy_timeout(Duration::from_secs(10));
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock");
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_around_a_failing_commit_lose_and_double_no_stop() {
    let broker = Broker::own("failing-commit-kills");
    let url = broker.url("/", "guest", "guest");
    let bus = swarmgate::bus::amqp::connect(&swarmgate::bus::amqp::Options::new(&url)).await.expect("a bus");
    let bus: &dyn Bus = bus.as_ref();
    let timeout = ["--set".to_owned(), format!("ledger.commit_timeout_ms={COMMIT_TIMEOUT_MS}")];
    let more = timeout.each_ref().map(String::as_str);
    let start = |dir| Process::configured(&url, dir, &more);
    let mut router = start(TempDir::new().expect("a directory"));
    router.ready(bus).await;
    let mut inbox = Inbox::open(bus, "subscriber.inbox", "swarmgate.out").await;
    // What must not be forgotten.
    send(bus, &[block("osprey")]).await;
    send(bus, &stops(0, 1)).await;
    inbox.hear(bus, |heard| heard.iter().any(is_stop)).await;
    for round in 0..KILLS {
        let held = hold(router.ledger()).await;
        send(bus, &stops(1 + round, 1)).await;
        send(bus, &[signal("config-update", "w-1", &format!("late{round}"))]).await;
        // From before the commit is given up to long after its stop has left by the emergency log.
        tokio::time::sleep(life(round, Duration::from_millis(4 * COMMIT_TIMEOUT_MS))).await;
        let dir = router.killed();
        held.close().await.expect("closed");
        router = start(dir);
        tokio::time::sleep(life(KILLS - round, Duration::from_millis(800))).await;
    }
    inbox
        .hear(bus, |heard| {
            let updates =
                heard.iter().filter(|message| message.routing_key.starts_with("signal.config-update."));
            heard_stops(heard) > KILLS && updates.count() >= KILLS
        })
        .await;
    let dir = router.stop().await;
    assert_eq!(stops_heard(&inbox), names(1 + KILLS), "each stop once");
    assert_eq!(starts_heard(&inbox), KILLS, "each command that waited for the ledger once");
    assert_eq!(verify(dir.path()).await.expect("a report").fault, None);
    let state = folded(dir.path()).await;
    assert_eq!(state.strongest().1.word(), "BLOCK", "the kill switch is forgotten");
    let left = swarmgate::ledger::emergency::read(&dir.path().join(swarmgate::ledger::emergency::FILE));
    assert_eq!(
        left.map(|left| left.records.len()).unwrap_or_default(),
        0,
        "the emergency log is not taken over"
    );
}

/// A kill switch for a swarm.
fn block(swarm: &str) -> swarmgate::contract::message::Message {
    let mut said = body(&signal("kill-switch-set", "ALL", "block"));
    said["scope"] = json!({ "swarmId": swarm, "role": "ALL", "instance": "ALL" });
    said["data"] = json!({ "level": "BLOCK", "reason": "drill" });
    message(&format!("signal.kill-switch-set.{swarm}.ALL.ALL"), &said)
}
