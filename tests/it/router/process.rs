//! The real binary as a process, on a ledger of its own.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use swarmgate::{
    bus::{Bus, Departure, Fate},
    contract::message::Message,
    ledger::query::Reader,
};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A router.
pub struct Process {
    child: Child,
    url: String,
    dir: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process that ends with its test, whichever way that goes.
pub(crate) struct Beside(pub Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub fn start(url: &str) -> Self {
        Self::start_on(url, TempDir::new().expect("a directory"))
    }

    pub fn start_on(url: &str, dir: TempDir) -> Self {
        Self { child: spawn(&["run"], url, dir.path(), Stdio::inherit()), url: url.to_owned(), dir }
    }

    /// On that ledger, with more arguments.
    pub fn configured(url: &str, dir: TempDir, more: &[&str]) -> Self {
        let child = spawn(&[&["run"], more].concat(), url, dir.path(), Stdio::inherit());
        Self { child, url: url.to_owned(), dir }
    }

    /// A router whose log nobody reads any more.
    pub fn unheard(url: &str, more: &[&str]) -> Self {
        let dir = TempDir::new().expect("a directory");
        let mut child = spawn(&[&["run"], more].concat(), url, dir.path(), Stdio::piped());
        drop(child.stderr.take());
        Self { child, url: url.to_owned(), dir }
    }

    pub fn observe(url: &str, exchange: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let child = spawn(&["observe", "--exchange", exchange], url, dir.path(), Stdio::null());
        Self { child, url: url.to_owned(), dir }
    }

    /// Where its ledger is.
    pub fn ledger(&self) -> &Path {
        self.dir.path()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the router's exchange takes messages.
    pub async fn ready(&self, bus: &dyn Bus) {
        let ready = async {
            while !bus.exists("swarmgate.out").await.is_ok_and(|there| there)
                || !bus.exists("swarmgate.refused").await.is_ok_and(|there| there)
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // Queues come after exchanges, and their bindings after them.
            for lane in ["urgent", "signals", "results", "metrics"] {
                let queue = format!("swarmgate.in.{lane}.v2");
                while !bus.counts(&queue).await.is_ok_and(|counts| counts.is_some()) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the router becomes ready");
    }

    /// Publishes until what is published has been seen.
    pub async fn sees(&self, bus: &dyn Bus, messages: &[Message]) {
        let seen = async {
            loop {
                // Returns are told apart by message-id.
                let mut departures: Vec<Departure> = messages
                    .iter()
                    .map(|message| Departure { message: message.clone(), mandatory: true })
                    .collect();
                for (number, departure) in departures.iter_mut().enumerate() {
                    departure.message.properties.message_id = Some(number.to_string());
                }
                let publisher = bus.publisher().await.expect("a publisher");
                let fates =
                    publisher.publish(&departures.iter().collect::<Vec<_>>(), PATIENCE).await.expect("fates");
                if fates.iter().all(|fate| *fate == Fate::Carried) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            loop {
                if let Ok(reader) = Reader::open(self.ledger()).await
                    && reader.last_seq().await.expect("a place") >= 2 + messages.len() as u64
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("everything is seen");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGKILL, and the ledger for the next.
    pub fn killed(mut self) -> TempDir {
        self.kill();
        std::mem::replace(&mut self.dir, TempDir::new().expect("a directory"))
    }

    /// The next router on the same ledger.
    pub fn again(mut self) -> Self {
        self.kill();
        self.child = spawn(&["run"], &self.url, self.dir.path(), Stdio::null());
        self
    }

    /// SIGTERM; the router drains and ends with 0. Its ledger stays.
    pub async fn halt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let gone = async {
            // A process that is waited for elsewhere shows as a zombie; both mean that it has
            // ended.
            while std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the router drains in time");
    }

    /// SIGTERM, and the ledger for the next.
    pub async fn stop(mut self) -> TempDir {
        self.halt().await;
        let status = self.child.wait().expect("an end");
        assert!(status.success(), "the router ended with {status}");
        std::mem::replace(&mut self.dir, TempDir::new().expect("a directory"))
    }

    /// A second router on the same ledger: its exit code and what it said.
    pub fn second(&self) -> (Option<i32>, String) {
        Self::fails_on(&self.url, &self.dir)
    }

    /// A router that is expected to refuse to start.
    pub fn fails_on(url: &str, dir: &TempDir) -> (Option<i32>, String) {
        let child = spawn(&["run"], url, dir.path(), Stdio::piped());
        let ended = child.wait_with_output().expect("an end");
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    }
}

fn spawn(command: &[&str], url: &str, ledger: &Path, stderr: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_swarmgate"))
        .args(command)
        .args(["--amqp", url])
        .args(if command.contains(&"--http") { [].as_slice() } else { &["--http", "127.0.0.1:0"] })
        .arg("--ledger")
        .arg(ledger)
        .env("SWARMGATE_AMQP_RECONNECT_MIN_MS", "50")
        .env("SWARMGATE_AMQP_RECONNECT_MAX_MS", "500")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("the router starts")
}
