//! A router that is started while its ledger cannot be written.

use swarmgate::{contract::audit::Change, ledger::LedgerError};

use super::*;

impl Drill {
    /// A ledger that holds three commands and a stop, and refuses everything from now on.
    async fn refuse(&mut self) {
        let (running, _) = self.start(None).await;
        self.send(&plans(0..3)).await;
        until("the first commands are carried", async || self.heard("swarm-plan").await.len() == 3).await;
        self.send(&[command(900, "swarm-stop")]).await;
        until("the stop is carried", async || self.heard("swarm-stop").await == ["i-900"]).await;
        until("all are settled", async || self.held("urgent") + self.held("signals") == 0).await;
        assert!(running.stop().await.is_some());
        self.hand(REFUSE_ALL).await;
    }

    async fn stop_passes(&mut self, number: u64) {
        self.send(&[command(number, "swarm-stop")]).await;
        let key = format!("i-{number}");
        until("the stop is carried", async || self.heard("swarm-stop").await.contains(&key)).await;
        until("the stop is settled", async || self.held("urgent") == 0).await;
    }
}

/// The openings in a ledger: epoch and emergency id.
fn openings(entries: &[Sealed]) -> Vec<(u64, Option<String>)> {
    let opened = entries.iter().filter_map(|sealed| match &sealed.entry.fact.change {
        Change::Opened(opened) => Some((opened.epoch, sealed.entry.fact.emergency_id)),
        _ => None,
    });
    opened.map(|(epoch, id)| (epoch, id.map(|id| id.to_string()))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_pass_at_every_start_on_a_ledger_that_cannot_be_written() {
    let mut drill = Drill::new().await;
    drill.refuse().await;
    let (running, telemetry) = drill.start(None).await;
    assert!(!telemetry.health.ledger(), "it says that it can write");
    drill.send(&plans(3..6)).await;
    drill.stop_passes(901).await;
    let ids = drill.ids_of("i-901").await;
    assert!(ids.len() == 1 && ids[0].ends_with(".e2.2.0"), "{ids:?}");
    // What the ledger holds is known: a repeat is none the less one.
    drill.send(&[command(900, "swarm-stop")]).await;
    until("the repeat is settled", async || drill.held("urgent") == 0).await;
    until("its carriage is written", async || drill.waiting().len() >= 3).await;
    running.kill().await;
    drill.broker.drop_consumers();

    // Once more, and it is full still: what is on the emergency log is known, and its ids are not
    // given again.
    let (running, telemetry) = drill.start(None).await;
    drill.send(&[command(901, "swarm-stop"), command(900, "swarm-stop")]).await;
    drill.stop_passes(902).await;
    assert!(!telemetry.health.ledger());
    assert_eq!(drill.ids_of("i-900").await.len(), 1, "a repeat of a stop in the ledger was carried");
    assert_eq!(drill.ids_of("i-901").await, ids, "a repeat of a stop on the emergency log was carried");
    let second = drill.ids_of("i-902").await;
    assert!(second.len() == 1 && second[0].contains(".e3."), "{second:?}");
    assert_eq!(drill.heard("swarm-plan").await.len(), 3, "a command passed");
    let waiting: Vec<_> = drill.waiting().iter().filter_map(Record::id).collect();
    assert!(waiting.is_sorted() && waiting.len() >= 5, "each once, in order: {waiting:?}");

    drill.hand(ALLOW_ALL).await;
    until("the ledger is well", async || telemetry.health.ledger()).await;
    until("every command is settled", async || drill.held("signals") == 0).await;
    let corridor = running.stop().await.expect("it drains");
    assert_eq!(drill.waiting(), [], "what the ledger holds is on the emergency log still");
    let entries = drill.entries().await;
    for key in ["i-900", "i-901", "i-902"] {
        assert!(stop_entry(&entries, key, &drill.heard).is_some(), "`{key}` was never written");
    }
    let opened = [(1, None), (2, Some("e2.1".to_owned())), (3, Some("e3.1".to_owned()))];
    assert_eq!(openings(&entries), opened);
    check_replay(&entries, &corridor);
    drill.check_carried_once("swarm-plan", 6).await;
    drill.check_carried_once("swarm-stop", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_commit_that_comes_late_counts_once() {
    let mut drill = Drill::new().await;
    drill.refuse().await;
    drill.hand(ALLOW_ALL).await;
    // Somebody else's transaction, for longer than a commit may take.
    let options = SqliteConnectOptions::new().filename(drill.dir.path().join(FILE));
    let mut other = SqliteConnection::connect_with(&options).await.expect("a connection");
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.expect("begun");
    let started = drill.try_start(|setup| setup.commit_timeout_ms = 300).await;
    let (running, telemetry) = started.expect("a start");
    assert!(!telemetry.health.ledger());
    drill.send(&plans(3..6)).await;
    drill.stop_passes(901).await;
    assert_eq!(drill.heard("swarm-plan").await.len(), 3, "a command passed");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("ended");
    other.close().await.expect("closed");
    until("the ledger is well", async || telemetry.health.ledger()).await;
    until("every command is settled", async || drill.held("signals") == 0).await;
    let corridor = running.stop().await.expect("it drains");
    let entries = drill.entries().await;
    assert_eq!(openings(&entries), [(1, None), (2, None)], "it was open once");
    assert!(stop_entry(&entries, "i-901", &drill.heard).is_some());
    check_replay(&entries, &corridor);
    drill.check_carried_once("swarm-plan", 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_before_is_set_and_what_was_written_leaves() {
    let mut drill = Drill::new().await;
    let (running, _) = drill.start(None).await;
    let mut block = command(910, "kill-switch-set");
    let mut said = body(&block);
    said["scope"] = json!({ "swarmId": ALL, "role": ALL, "instance": ALL });
    said["data"] = json!({ "level": "BLOCK", "reason": "drill" });
    (block.body, block.routing_key) =
        (said.to_string().into(), "signal.kill-switch-set.ALL.ALL.ALL".to_owned());
    drill.send(&[block]).await;
    // A broker that takes nothing more the moment it has a stop; one that was faster is no case.
    let mut stopped = None;
    for number in 920..970 {
        drill.send(&[command(number, "swarm-stop")]).await;
        drill.broker.block(Some("drill"));
        let key = format!("i-{number}");
        let is_its = |sealed: &Sealed| sealed.entry.fact.idempotency_key.as_deref() == Some(&key);
        until("the stop is on record", async || drill.entries().await.iter().any(is_its)).await;
        if drill.ids_of(&key).await.is_empty() {
            stopped = Some(key);
            break;
        }
        drill.broker.block(None);
    }
    let key = stopped.expect("a stop that is on its way");
    running.kill().await;
    drill.broker.drop_consumers();
    drill.hand(REFUSE_ALL).await;
    drill.broker.block(None);
    let (running, telemetry) = drill.start(None).await;
    until("the stop leaves", async || drill.ids_of(&key).await.len() == 1).await;
    assert!(!telemetry.health.ledger());
    drill.hand(ALLOW_ALL).await;
    until("the ledger is well", async || telemetry.health.ledger()).await;
    let corridor = running.stop().await.expect("it drains");
    assert_eq!(corridor.state().strongest().1, KillSwitch::Block, "the kill switch was forgotten");
    check_replay(&drill.entries().await, &corridor);
    let ids: BTreeSet<String> = drill.ids_of(&key).await.into_iter().collect();
    assert_eq!(ids.len(), 1, "carried under two ids: {ids:?}");
    let mut ledger = swarmgate::ledger::Ledger::open(drill.dir.path(), None).await.expect("a ledger");
    assert!(ledger.replay(|_| {}).await.expect("a replay").parcels.is_empty(), "a parcel is kept for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_refused_on_a_ledger_that_is_damaged_anothers_or_not_there() {
    let mut drill = Drill::new().await;
    let file = drill.dir.path().join("file");
    fs::write(&file, "no directory").expect("a file");
    let fault = drill.try_start(|setup| setup.ledger_dir = file.join("ledger")).await.err();
    assert!(matches!(fault, Some(BootError::Ledger(LedgerError::File { .. }))), "a first start: {fault:?}");
    drill.refuse().await;
    let (running, _) = drill.start(None).await;
    let second = drill.try_start(|_| {}).await.err();
    assert!(matches!(second, Some(BootError::Ledger(LedgerError::Locked { .. }))), "{second:?}");
    running.kill().await;
    drill.broker.drop_consumers();
    drill
        .hand("DROP TRIGGER entries_are_not_updated; UPDATE entries SET bytes = x'7b7d' WHERE seq = 3")
        .await;
    let fault = drill.try_start(|_| {}).await.err();
    assert!(matches!(fault, Some(BootError::Ledger(LedgerError::Damaged(_)))), "{fault:?}");
    drill.hand("PRAGMA user_version = 99").await;
    let fault = drill.try_start(|_| {}).await.err();
    assert!(matches!(fault, Some(BootError::Ledger(LedgerError::Newer { .. }))), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_ledger_in_its_place_is_never_gone_on_from() {
    let mut drill = Drill::new().await;
    drill.refuse().await;
    let (running, telemetry) = drill.start(None).await;
    drill.stop_passes(901).await;
    // The entries of a shorter ledger; the file is the same.
    drill.hand("DROP TRIGGER entries_are_not_deleted; DELETE FROM entries WHERE seq > 2").await;
    drill.hand(ALLOW_ALL).await;
    drill.send(&plans(3..4)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!telemetry.health.ledger(), "a router went on from less than it knew");
    drill.stop_passes(902).await;
    assert_eq!(drill.heard("swarm-plan").await.len(), 3, "a command passed");
    running.kill().await;
}
