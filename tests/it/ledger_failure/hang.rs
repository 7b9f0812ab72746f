//! A ledger whose disk does not answer, and answers later after all.
//!
//! Owns: the proof that a commit that hangs holds no stop, and that what it wrote in the end is
//! carried once.
//! Never: mocks the hanging; a second connection holds the write lock, and the commit waits for it
//! inside SQLite.
//! Holds: a stop is carried under one id even where its commit came through afterwards.

use super::*;

/// How long a commit may take here; SQLite itself waits for the lock for five seconds.
const COMMIT_TIMEOUT_MS: u64 = 400;

/// A router that waits shortly for its ledger, and not long for its end.
async fn begin(drill: &Drill) -> (Running, Arc<Telemetry>) {
    let started = drill.try_start(|setup| {
        setup.commit_timeout_ms = COMMIT_TIMEOUT_MS;
        setup.drain_timeout_ms = 2_000;
    });
    started.await.expect("a start")
}

/// Holds the ledger's write lock until it is let go.
struct Hold(SqliteConnection);

impl Hold {
    async fn of(drill: &Drill) -> Self {
        let options = SqliteConnectOptions::new().filename(drill.dir.path().join(FILE));
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock");
        Self(connection)
    }

    async fn let_go(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await.expect("a rollback");
        self.0.close().await.expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_hangs_holds_no_stop_and_what_it_wrote_in_the_end_is_carried_once() {
    let mut drill = Drill::new().await;
    let (running, telemetry) = begin(&drill).await;
    drill.send(&plans(0..3)).await;
    until("the first commands are carried", async || drill.heard("swarm-plan").await.len() == 3).await;
    until("and settled", async || drill.held("signals") == 0).await;
    // Their carriage is an entry too: nothing is to be under way when the lock is taken.
    tokio::time::sleep(Duration::from_millis(100)).await;

    let hold = Hold::of(&drill).await;
    // This stop is in the commit that hangs; what follows waits behind it.
    drill.send(&[command(900, "swarm-stop")]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drill.send(&plans(3..10)).await;
    assert!(telemetry.health.ledger(), "a commit that takes a moment is no failure");
    until("the ledger counts as failed", async || !telemetry.health.ledger()).await;
    drill.send(&[command(901, "swarm-stop")]).await;
    until("the stops are carried", async || {
        let stops: BTreeSet<String> = drill.heard("swarm-stop").await.into_iter().collect();
        stops.len() == 2
    })
    .await;
    assert_eq!(drill.heard("swarm-plan").await.len(), 3, "a command got past a ledger that does not answer");
    assert!(drill.waiting().iter().all(|record| record.id().is_some()));

    hold.let_go().await;
    until("the ledger is well", async || telemetry.health.ledger()).await;
    until("every command is settled", async || drill.held("signals") + drill.held("urgent") == 0).await;
    until("every command is carried", async || {
        let plans: BTreeSet<String> = drill.heard("swarm-plan").await.into_iter().collect();
        plans.len() == 10
    })
    .await;
    let corridor = running.stop().await.expect("it drains");
    drill.check_carried_once("swarm-plan", 10).await;
    drill.check_carried_once("swarm-stop", 2).await;
    let entries = drill.entries().await;
    check_replay(&entries, &corridor);
    assert_eq!(drill.waiting(), [], "what the ledger holds is on the emergency log still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_dies_after_a_late_commit_leaves_each_stop_one_id() {
    let mut drill = Drill::new().await;
    let (running, _) = begin(&drill).await;
    let hold = Hold::of(&drill).await;
    drill.send(&[command(900, "swarm-stop")]).await;
    until("the stop is carried", async || drill.heard("swarm-stop").await == ["i-900"]).await;
    let ids = drill.ids_of("i-900").await;
    assert!(ids.len() == 1 && ids[0].ends_with(".e1.1.0"), "{ids:?}");
    hold.let_go().await;
    // The late commit comes through, and the router dies before it looks again.
    until("the commit came through", async || {
        let entries = drill.entries().await;
        entries.iter().any(|sealed| sealed.entry.fact.idempotency_key.as_deref() == Some("i-900"))
    })
    .await;
    running.kill().await;
    assert_eq!(drill.waiting()[0].id(), Some(EmergencyId { epoch: 1, n: 1 }));
    let (running, _) = drill.start(None).await;
    until("the stop is settled", async || drill.held("urgent") == 0).await;
    let corridor = running.stop().await.expect("it drains");
    assert_eq!(drill.waiting(), []);
    check_replay(&drill.entries().await, &corridor);
    assert_eq!(drill.ids_of("i-900").await, ids, "the stop was carried under a second id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_stops_while_its_ledger_hangs_and_the_next_one_has_it_all() {
    let mut drill = Drill::new().await;
    let (running, telemetry) = begin(&drill).await;
    let hold = Hold::of(&drill).await;
    drill.send(&plans(0..2)).await;
    until("the ledger counts as failed", async || !telemetry.health.ledger()).await;
    drill.send(&[command(900, "swarm-stop")]).await;
    until("the stop is carried", async || drill.heard("swarm-stop").await == ["i-900"]).await;
    let stopped = tokio::time::timeout(PATIENCE, running.stop()).await;
    assert!(stopped.expect("it stops").is_none(), "it says that it finished what it could not");
    assert_eq!(drill.waiting()[0].id(), Some(EmergencyId { epoch: 1, n: 1 }));

    hold.let_go().await;
    let mut next = None;
    until("the ledger is free for the next router", async || {
        next = drill.try_start(|_| {}).await.ok();
        next.is_some()
    })
    .await;
    let (running, _) = next.expect("a router");
    until("every command is settled", async || drill.held("signals") + drill.held("urgent") == 0).await;
    assert!(running.stop().await.is_some());
    assert_eq!(drill.waiting(), []);
    drill.check_carried_once("swarm-plan", 2).await;
    drill.check_carried_once("swarm-stop", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_came_through_after_its_time_is_carried_from_the_outbox() {
    let mut drill = Drill::new().await;
    let (running, telemetry) = begin(&drill).await;
    let hold = Hold::of(&drill).await;
    // The first is in the commit that hangs; the lane gives both back, and both come again.
    drill.send(&plans(0..1)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drill.send(&plans(1..2)).await;
    until("the ledger counts as failed", async || !telemetry.health.ledger()).await;
    assert_eq!(drill.heard("swarm-plan").await, Vec::<String>::new());
    hold.let_go().await;
    until("the ledger is well", async || telemetry.health.ledger()).await;
    until("both are carried", async || {
        let plans: BTreeSet<String> = drill.heard("swarm-plan").await.into_iter().collect();
        plans.len() == 2
    })
    .await;
    until("both are settled", async || drill.held("signals") == 0).await;
    assert!(running.stop().await.is_some());
    drill.check_carried_once("swarm-plan", 2).await;
    let entries = drill.entries().await;
    let of_first = |sealed: &&Sealed| sealed.entry.fact.idempotency_key.as_deref() == Some("i-0");
    let actions: Vec<Action> =
        entries.iter().filter(of_first).map(|sealed| sealed.entry.fact.action).collect();
    assert_eq!(
        actions,
        [Action::Requested, Action::DuplicateSuppressed],
        "the late commit did not come through"
    );
    let mut ledger = swarmgate::ledger::Ledger::open(drill.dir.path(), None).await.expect("a ledger");
    let left = ledger.replay(|_| {}).await.expect("a replay").parcels;
    assert!(left.is_empty(), "parcels that were carried are kept: {}", left.len());
}
