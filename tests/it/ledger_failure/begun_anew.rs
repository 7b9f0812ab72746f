//! What a ledger held is gone: emptied, cut, taken away or exchanged while no router ran, or no
//! file at all.

use std::{
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use swarmgate::{
    contract::{
        audit::{Change, SetBack},
        interlock::SafetyMode,
    },
    ledger::{Ledger, LedgerError},
};
use tempfile::TempDir;

use super::*;

const EMPTY: &str = "
    DROP TRIGGER entries_are_not_deleted; DELETE FROM entries;
    CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END";

impl Drill {
    /// A ledger with three commands, whose router stopped in good order; answers its id.
    async fn written() -> (Self, String) {
        let mut drill = Self::new().await;
        let (running, _) = drill.start(None).await;
        drill.send(&plans(0..3)).await;
        until("the commands are carried", async || drill.heard("swarm-plan").await.len() == 3).await;
        assert!(running.stop().await.is_some());
        let id = drill.id().await;
        (drill, id)
    }

    async fn id(&self) -> String {
        match &self.entries().await[0].entry.fact.change {
            Change::Genesis(genesis) => genesis.ledger_id.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn refused(&self) -> BootError {
        match tokio::time::timeout(PATIENCE, self.try_start(|_| {})).await.expect("an end") {
            Ok(_) => panic!("it started"),
            Err(fault) => fault,
        }
    }

    async fn set_backs(&self) -> Vec<SetBack> {
        let changes = self.entries().await.into_iter().map(|sealed| sealed.entry.fact.change);
        let set_backs = changes.filter_map(|change| match change {
            Change::SetBack(set_back) => Some(set_back),
            _ => None,
        });
        set_backs.collect()
    }

    async fn alerts(&mut self, code: &str) -> usize {
        self.heard("").await;
        self.heard.iter().filter(|message| body(message)["data"]["code"] == code).count()
    }

    /// Starts on what there is: it must know that it was ledger `id`, once.
    async fn noticed(&mut self, id: &str) {
        let (running, _) = self.start(None).await;
        until("the set-back is told", async || self.alerts("ledger.set-back").await == 1).await;
        // A stop passes in SAFE.
        self.send(&[command(900, "swarm-stop")]).await;
        until("the stop is carried", async || self.heard("swarm-stop").await.len() == 1).await;
        let corridor = running.stop().await.expect("it drains");
        assert_eq!(corridor.state().strongest().0, SafetyMode::Safe);
        // Both marks follow: the next start says nothing.
        let (running, _) = self.start(None).await;
        assert_eq!(running.stop().await.expect("it drains").state().strongest().0, SafetyMode::Safe);
        let set_backs = self.set_backs().await;
        assert_eq!(set_backs.len(), 1, "{set_backs:?}");
        assert!(set_backs[0].known >= 5, "{set_backs:?}");
        assert_eq!(set_backs[0].ledger_id.as_deref(), Some(id));
        assert_ne!(self.id().await, id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_was_emptied_or_cut_is_not_begun_anew() {
    let (drill, _) = Drill::written().await;
    drill.hand(EMPTY).await;
    let fault = drill.refused().await;
    assert!(matches!(fault, BootError::Ledger(LedgerError::Emptied { .. })), "{fault}");
    // By what lies beside it each: its mark, its emergency log, its write-ahead log.
    for beside in ["ledger.mark", "emergency.log", "ledger.sqlite-wal"] {
        let (drill, _) = Drill::written().await;
        let dir = drill.dir.path();
        for name in ["ledger.sqlite", "ledger.mark", "emergency.log", "ledger.sqlite-wal"] {
            if name != beside {
                let _ = fs::remove_file(dir.join(name));
            }
        }
        fs::write(dir.join("ledger.sqlite"), "").expect("a file");
        if beside.ends_with("wal") {
            fs::write(dir.join(beside), "what was written last").expect("a file");
        }
        let fault = drill.refused().await;
        assert!(matches!(fault, BootError::Ledger(LedgerError::Emptied { .. })), "{beside}: {fault}");
        assert_eq!(fs::metadata(dir.join("ledger.sqlite")).expect("a file").len(), 0, "{beside}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_cut_off_is_none_that_was_emptied() {
    let drill = Drill::new().await;
    // Killed before its tables, and before its genesis.
    fs::write(drill.place("ledger.sqlite"), "").expect("a file");
    Ledger::open(drill.dir.path(), None).await.expect("a ledger").close().await;
    let (running, _) = drill.start(None).await;
    assert_eq!(running.stop().await.expect("it drains").state().strongest().0, SafetyMode::Normal);
    assert_eq!(drill.set_backs().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_is_killed_at_its_tables_is_begun_again() {
    for round in 0..10 {
        let dir = TempDir::new().expect("a directory");
        let place = |name: &str| dir.path().join(name).into_os_string();
        let mut init = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
        init.arg("init").arg(place("config.yaml")).arg("--ledger").arg(dir.path());
        let mut init = init.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        // Each table and trigger is a page or two of the write-ahead log, where it is alone.
        let grown = 8_192 * (round % 5);
        let has_begun = || fs::metadata(place("ledger.sqlite-wal")).is_ok_and(|log| log.len() > grown);
        while init.try_wait().expect("a state").is_none() && !has_begun() {}
        init.kill().expect("the end");
        init.wait().expect("the end");
        let opened = Ledger::open(dir.path(), None).await;
        opened.unwrap_or_else(|fault| panic!("round {round}: {fault}")).close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_was_taken_away_is_known_by_the_mark_beside_it() {
    let (mut drill, id) = Drill::written().await;
    fs::remove_file(drill.place("ledger.sqlite")).expect("a ledger was there");
    drill.noticed(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_was_exchanged_is_known_by_the_mark_beside_it() {
    let (mut drill, id) = Drill::written().await;
    let (other, _) = Drill::written().await;
    fs::copy(other.place("ledger.sqlite"), drill.place("ledger.sqlite")).expect("a copy");
    drill.noticed(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_taken_away_is_known_by_the_mark_on_the_broker() {
    let (mut drill, id) = Drill::written().await;
    for found in fs::read_dir(drill.dir.path()).expect("a directory") {
        fs::remove_file(found.expect("a file").path()).expect("it goes");
    }
    drill.noticed(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_is_refused_and_not_waited_for() {
    let (drill, _) = Drill::written().await;
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.lock", "ledger.mark", "emergency.log"] {
        let (path, kept) = (drill.place(name), drill.place("kept"));
        let was_there = fs::rename(&path, &kept).is_ok();
        for kind in ["pipe", "device", "directory"] {
            match kind {
                "pipe" => assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success()),
                "device" => symlink("/dev/zero", &path).expect("a link"),
                _ => fs::create_dir(&path).expect("a directory"),
            }
            let fault = drill.refused().await.to_string();
            assert!(fault.contains("no regular file"), "{name}, {kind}: {fault}");
            if name.starts_with("ledger.sqlite") {
                let verified = tokio::time::timeout(PATIENCE, verify(drill.dir.path())).await;
                assert!(
                    matches!(verified, Ok(Err(LedgerError::File { .. }))),
                    "{name}, {kind}: {verified:?}"
                );
            }
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
        if was_there {
            fs::rename(&kept, &path).expect("it goes back");
        }
    }
    // A link to a file is one.
    fs::rename(drill.place("ledger.mark"), drill.place("elsewhere")).expect("a mark was there");
    symlink("elsewhere", drill.place("ledger.mark")).expect("a link");
    let (running, _) = drill.start(None).await;
    assert!(running.stop().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_log_that_was_emptied_is_damage_and_one_that_is_gone_is_told() {
    let mut drill = Drill::new().await;
    drill.die_with_a_stop().await;
    drill.hand(ALLOW_ALL).await;
    let log = drill.emergency_log();
    for zeros in [0, 1000, 4 * 1024 * 1024] {
        fs::write(&log, vec![0; zeros]).expect("a file");
        let fault = drill.refused().await;
        assert!(matches!(fault, BootError::Emergency(EmergencyError::Emptied(_))), "{fault}");
    }
    fs::remove_file(&log).expect("a log was there");
    drill.broker.drop_consumers();
    let (running, _) = drill.start(None).await;
    until("it is told", async || drill.alerts("ledger.emergency-missing").await == 1).await;
    assert!(running.stop().await.is_some());
    // It is there again: once is enough.
    let (running, _) = drill.start(None).await;
    assert!(running.stop().await.is_some());
    assert_eq!(drill.alerts("ledger.emergency-missing").await, 1);
    // A first start makes its own, and says nothing.
    let mut drill = Drill::new().await;
    let (running, _) = drill.start(None).await;
    assert!(running.stop().await.is_some());
    assert_eq!(drill.alerts("ledger.emergency-missing").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_meets_a_limit_on_files_ends_in_words_and_leaves_nothing() {
    let (drill, _) = Drill::written().await;
    let to = drill.place("copy");
    let swarmgate = env!("CARGO_BIN_EXE_swarmgate");
    let made = Command::new("sh")
        .args(["-c", "ulimit -f 8; exec \"$@\"", "sh", swarmgate, "ledger", "backup"])
        .arg(&to)
        .arg("--ledger")
        .arg(drill.dir.path())
        .output()
        .expect("an end");
    let said = String::from_utf8_lossy(&made.stderr);
    assert_eq!(made.status.code(), Some(5), "{said}");
    assert!(said.contains("error: "), "{said}");
    assert_eq!(fs::read_dir(&to).expect("a directory").count(), 0, "half a copy is left");
}
