//! Files that are taken away, exchanged, cut or filled with something else, between two starts and
//! under a running router.
//!
//! Owns: the proof that the emergency log, the write-ahead log and the marks are missed.
//! Never: lets a router go on in NORMAL from less than was known.
//! Holds: what only the emergency log held is known by the mark; stops pass meanwhile.

use swarmgate::{contract::interlock::SafetyMode, ledger::mark::Said, runtime::topology};

use super::*;

const EMERGENCY_BYTES: u64 = 4 * 1024 * 1024;

impl Drill {
    /// An emergency log that holds nothing.
    fn empty_log(&self) -> PathBuf {
        let path = self.dir.path().join("empty");
        drop(EmergencyLog::open(&path, EMERGENCY_BYTES, true).expect("a log"));
        path
    }

    async fn alerted(&mut self, code: &str) -> usize {
        self.heard("").await;
        self.heard.iter().filter(|message| body(message)["data"]["code"] == code).count()
    }

    /// Starts once more: SAFE, told once, and a stop passes.
    async fn starts_in_safe(&mut self, what: &str, change: impl Fn(&mut Setup)) {
        self.broker.drop_consumers();
        let (running, _) = self.try_start(&change).await.expect(what);
        until(what, async || self.alerted("ledger.set-back").await == 1).await;
        let before = self.heard("swarm-stop").await.len();
        self.send(&[command(950, "swarm-stop")]).await;
        until("a stop is carried", async || self.heard("swarm-stop").await.len() == before + 1).await;
        let corridor = running.stop().await.expect("it drains");
        assert_eq!(corridor.state().strongest().0, SafetyMode::Safe, "{what}");
        // The marks follow: once is enough.
        let (running, _) = self.try_start(&change).await.expect(what);
        assert_eq!(running.stop().await.expect("it drains").state().strongest().0, SafetyMode::Safe);
        let told =
            self.entries().await.iter().filter(|sealed| sealed.entry.fact.action == Action::SetBack).count();
        assert_eq!(told, 1, "{what}");
    }

    /// What is on the broker's queue for the mark, taken away.
    async fn take_mark(&self) -> Option<Message> {
        let (delivery, settler) =
            self.broker.get(&topology::mark_queue("swarmgate")).await.expect("a queue")?;
        settler.ack(delivery.tag, false).await.expect("an ack");
        Some(delivery.message)
    }

    async fn put_mark(&self, body: Vec<u8>) {
        let exchange = topology::mark_queue("swarmgate");
        let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
        let message = Message { exchange, routing_key: String::new(), properties, body: body.into() };
        let publisher = self.broker.publisher().await.expect("a publisher");
        let departure = Departure { message, mandatory: false };
        publisher.publish(&[&departure], PATIENCE).await.expect("fates");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_log_that_holds_less_than_the_mark_knows_is_a_set_back() {
    for what in ["an empty copy", "its tail in zeros", "its last record in zeros", "removed"] {
        let mut drill = Drill::new().await;
        drill.die_with_a_stop().await;
        drill.hand(ALLOW_ALL).await;
        let (log, empty) = (drill.emergency_log(), drill.empty_log());
        let mut bytes = fs::read(&log).expect("a log");
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("records") + 1;
        match what {
            "an empty copy" => drop(fs::copy(empty, &log).expect("a copy")),
            "removed" => fs::remove_file(&log).expect("a log was there"),
            cut => {
                let from = if cut.starts_with("its tail") { 128 } else { end - 64 };
                bytes[from..].fill(0);
                fs::write(&log, bytes).expect("a log");
            }
        }
        drill.starts_in_safe(what, |_| {}).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_place_for_the_emergency_log_is_a_set_back_while_the_first_holds_something() {
    let mut drill = Drill::new().await;
    drill.die_with_a_stop().await;
    drill.hand(ALLOW_ALL).await;
    let elsewhere = drill.dir.path().join("elsewhere.log");
    drill.starts_in_safe("another place", move |setup| setup.emergency_path.clone_from(&elsewhere)).await;
    // Named again, what it holds is taken over all the same.
    let (running, _) = drill.start(None).await;
    assert!(running.stop().await.is_some());
    assert!(emergency_ids(&drill.entries().await).contains(&"e1.1".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_back_of_the_emergency_log_is_noticed_while_the_ledger_is_full_too() {
    let mut drill = Drill::new().await;
    drill.die_with_a_stop().await;
    fs::copy(drill.empty_log(), drill.emergency_log()).expect("a copy");
    drill.broker.drop_consumers();
    let (running, _) = drill.start(None).await;
    until("it is told", async || drill.alerted("ledger.set-back").await == 1).await;
    until("it is on the log", async || {
        drill.waiting().iter().any(|record| record.sealed.entry.fact.action == Action::SetBack)
    })
    .await;
    until("the mark follows", async || drill.marked() == drill.waiting().last().and_then(Record::id)).await;
    running.kill().await;
    drill.hand(ALLOW_ALL).await;
    let (running, telemetry) = drill.start(None).await;
    assert!(telemetry.health.ledger());
    assert_eq!(running.stop().await.expect("it drains").state().strongest().0, SafetyMode::Safe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_log_that_is_taken_away_while_it_is_open_is_written_anew() {
    for (what, waits) in
        [("renamed", true), ("exchanged", true), ("cut", true), ("removed", true), ("removed", false)]
    {
        let mut drill = Drill::new().await;
        let (running, telemetry) = drill.start(None).await;
        until("it is ready", async || telemetry.health.broker()).await;
        drill.hand(REFUSE_ALL).await;
        drill.send(&plans(0..1)).await;
        until("the ledger fails", async || !telemetry.health.ledger()).await;
        drill.send(&[command(900, "swarm-stop")]).await;
        until("the stop is carried", async || drill.heard("swarm-stop").await == ["i-900"]).await;
        until("it is written", async || drill.waiting().len() == 2).await;
        let (log, kept) = (drill.emergency_log(), drill.dir.path().join("kept"));
        let empty = drill.empty_log();
        match what {
            "removed" => fs::remove_file(&log).expect("a log was there"),
            "cut" => {
                fs::File::options().write(true).open(&log).and_then(|log| log.set_len(0)).expect("a log")
            }
            _ => fs::rename(&log, &kept).expect("a log was there"),
        }
        if what == "exchanged" {
            fs::copy(empty, &log).expect("a copy");
        }
        if waits && what != "cut" {
            let holds = || emergency::read(&log).is_ok_and(|found| found.records.len() >= 2);
            until("it is written anew", async || holds() && telemetry.health.lacks().len() == 1).await;
        }
        if what == "cut" {
            // Nothing of ours may be written over what stands there: it is said, and told at the
            // end.
            until("it is told", async || telemetry.health.lacks().len() == 2).await;
            running.kill().await;
            continue;
        }
        assert!(running.stop().await.is_some());
        assert!(drill.waiting().len() >= 2, "{what}: what the shutdown said is not so");
        drill.hand(ALLOW_ALL).await;
        let (running, _) = drill.start(None).await;
        let corridor = running.stop().await.expect("it drains");
        assert_eq!(corridor.state().strongest().0, SafetyMode::Normal, "{what}");
        stop_entry(&drill.entries().await, "i-900", &drill.heard).expect("the stop is on record");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_ahead_log_that_is_taken_away_or_cut_lets_only_stops_pass() {
    for what in ["cut", "cut short", "removed"] {
        let mut drill = Drill::new().await;
        let (running, telemetry) = drill.start(None).await;
        drill.send(&plans(0..3)).await;
        until("the commands are carried", async || drill.heard("swarm-plan").await.len() == 3).await;
        until("and settled", async || drill.held("signals") == 0).await;
        let log = drill.dir.path().join("ledger.sqlite-wal");
        let length = fs::metadata(&log).expect("a log").len();
        let cut = |bytes| fs::File::options().write(true).open(&log).and_then(|log| log.set_len(bytes));
        match what {
            "cut" => cut(0).expect("it is cut"),
            "cut short" => cut(length - 1).expect("it is cut"),
            _ => fs::remove_file(&log).expect("it goes"),
        }
        drill.send(&plans(3..4)).await;
        until(what, async || !telemetry.health.ledger()).await;
        drill.send(&[command(900, "swarm-stop")]).await;
        until("the stop is carried", async || drill.heard("swarm-stop").await == ["i-900"]).await;
        assert_eq!(drill.heard("swarm-plan").await.len(), 3, "{what}");
        running.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_that_cannot_be_read_counts_as_a_set_back_unless_the_brokers_knows_the_end() {
    let garbage = [Vec::new(), b"{}".to_vec(), vec![b'x'; 3 * 1024 * 1024]];
    for bytes in &garbage {
        let mut drill = Drill::new().await;
        let (running, _) = drill.start(None).await;
        drill.send(&plans(0..3)).await;
        until("the commands are carried", async || drill.heard("swarm-plan").await.len() == 3).await;
        assert!(running.stop().await.is_some());
        let file = drill.dir.path().join("ledger.mark");
        fs::write(&file, bytes).expect("a mark");
        let (running, _) = drill.start(None).await;
        until("it is written anew", async || matches!(mark::kept(drill.dir.path()), Said::Mark(_))).await;
        let corridor = running.stop().await.expect("it drains");
        assert_eq!(corridor.state().strongest().0, SafetyMode::Normal, "the broker's knows the end");
        fs::write(&file, bytes).expect("a mark");
        drill.take_mark().await.expect("a mark was there");
        drill.starts_in_safe("nobody else knows", |_| {}).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_on_the_broker_that_cannot_be_read_counts_as_a_set_back() {
    for bytes in [b"garbage".to_vec(), b"{}".to_vec(), vec![b'x'; 2_000_000]] {
        let mut drill = Drill::new().await;
        let (running, _) = drill.start(None).await;
        drill.send(&plans(0..3)).await;
        until("the commands are carried", async || drill.heard("swarm-plan").await.len() == 3).await;
        assert!(running.stop().await.is_some());
        drill.take_mark().await.expect("a mark was there");
        drill.put_mark(bytes).await;
        drill.starts_in_safe("what it knew nobody can say", |_| {}).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mark_on_the_broker_follows_within_seconds() {
    let mut drill = Drill::new().await;
    let (running, _) = drill.start(None).await;
    drill.send(&plans(0..1)).await;
    until("the command is carried", async || drill.heard("swarm-plan").await.len() == 1).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    drill.send(&plans(1..2)).await;
    until("the command is carried", async || drill.heard("swarm-plan").await.len() == 2).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (delivery, settler) =
        drill.broker.get(&topology::mark_queue("swarmgate")).await.expect("a queue").expect("a mark");
    settler.requeue(delivery.tag, false).await.expect("it goes back");
    let known = mark::Mark::decode(&delivery.message.body).expect("a mark").seq;
    running.kill().await;
    assert_eq!(known, drill.entries().await.len() as u64);
}
