//! `swarmgate supervise` as a process, its log read as it comes.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// A supervisor.
pub struct Supervised {
    child: Child,
    /// Where its config is, as long as it runs.
    _dir: TempDir,
    lines: Arc<Mutex<Vec<Value>>>,
    log: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A row of the test's Python worker.
pub fn python(id: &str, mode: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/python/supervised.py");
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    let python = std::env::var("SWARMGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    format!(
        "    - id: {id}\n      role: generator\n      command: [{python:?}, {:?}, {mode}]\n      env: {{PYTHONPATH: {:?}, PYTHONDONTWRITEBYTECODE: '1'}}\n",
        script.display().to_string(),
        sdk.display().to_string()
    )
}

/// A row of the Rust example.
pub fn rust(id: &str) -> String {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_swarmgate"));
    let built = binary.parent().expect("a directory").join("examples/supervised");
    assert!(built.exists(), "`{}` is not built: cargo build --examples", built.display());
    format!("    - id: {id}\n      role: generator\n      command: [{:?}]\n", built.display().to_string())
}

/// The settings that make tests quick.
pub const QUICK: &str = "  swarm_id: kestrel\n  ready_timeout_ms: 20000\n  heartbeat_ms: 100\n  heartbeat_timeout_ms: 5000\n  stop_graceful_ms: 5000\n  stop_terminate_ms: 2000\n  restart_min_ms: 20\n  restart_max_ms: 50\n";

impl Supervised {
    /// With those settings and rows.
    pub fn start(settings: &str, rows: &[String]) -> Self {
        Self::configured("{secret_mode: generated}", settings, rows, &[])
    }

    /// With that `auth` and those arguments too.
    pub fn configured(auth: &str, settings: &str, rows: &[String], more: &[&str]) -> Self {
        let dir = TempDir::new().expect("a directory");
        let config = dir.path().join("swarmgate.yaml");
        let yaml = format!(
            "runtime:\n  platform:\n    bootstrap: {{mode: process_supervisor}}\n    execution_ipc:\n      transport: tcp_local\n      auth: {auth}\nsupervisor:\n{settings}  workers:\n{}",
            rows.concat()
        );
        std::fs::write(&config, yaml).expect("a config");
        let mut child = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
            .args(["supervise", "--output", "json", "--config"])
            .arg(&config)
            .args(more)
            .env_remove("SWARMGATE_AMQP_URL")
            .env("SWARMGATE_AMQP_RECONNECT_MIN_MS", "50")
            .env("RUST_LOG", "debug,lapin=warn,lapin::channels=off")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the supervisor starts");
        let (lines, log) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(String::new())));
        let (into, all) = (Arc::clone(&lines), Arc::clone(&log));
        let stderr = child.stderr.take().expect("a log");
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                all.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{line}\n"));
                if let Ok(line) = serde_json::from_str(&line) {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        });
        Self { child, _dir: dir, lines, log, reader: Some(reader) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn lines(&self) -> MutexGuard<'_, Vec<Value>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log so far, as text.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line number `count` (from 1) that fits.
    pub fn line(&self, what: &str, count: usize, fits: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(line) = self.lines().iter().filter(|line| fits(line)).nth(count - 1) {
                return line.clone();
            }
            thread::sleep(PAUSE);
        }
        panic!("no line: {what}\n{}", self.log());
    }

    /// Waits until a worker reaches a stage for the `count`th time.
    pub fn reaches(&self, worker: &str, stage: &str, count: usize) {
        self.line(&format!("{worker} {stage}"), count, |line| {
            line["worker"] == worker && line["stage"] == stage
        });
    }

    /// How often a worker has reached a stage so far.
    pub fn count(&self, worker: &str, stage: &str) -> usize {
        self.lines().iter().filter(|line| line["worker"] == worker && line["stage"] == stage).count()
    }

    /// Waits for the `count`th process of a worker; answers its number in the system.
    pub fn pid(&self, worker: &str, count: usize) -> u32 {
        let line = self.line(&format!("{worker} starts"), 1, |line| {
            line["worker"] == worker && line["pid"].is_u64() && line["number"] == count
        });
        u32::try_from(line["pid"].as_u64().expect("a number")).expect("a process")
    }

    /// Waits for what a worker prints.
    pub fn prints(&self, worker: &str, text: &str) -> Value {
        self.line(&format!("{worker} prints {text}"), 1, |line| {
            line["worker"] == worker
                && line["stream"].is_string()
                && line["message"].as_str().is_some_and(|said| said.starts_with(text))
        })
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; its exit code and report.
    pub fn stop(&mut self) -> (Option<i32>, Vec<Value>) {
        signal("TERM", self.child.id());
        self.ended()
    }

    /// Waits for its end; its exit code and report.
    pub fn ended(&mut self) -> (Option<i32>, Vec<Value>) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("an end") {
                if let Some(reader) = self.reader.take() {
                    reader.join().expect("the whole log");
                }
                let mut told = String::new();
                let stdout = self.child.stdout.take().expect("a report");
                std::io::Read::read_to_string(&mut { stdout }, &mut told).expect("a report");
                let report: Value = serde_json::from_str(&told).unwrap_or_default();
                return (status.code(), report["workers"].as_array().cloned().unwrap_or_default());
            }
            assert!(Instant::now() < until, "the supervisor does not end\n{}", self.log());
            thread::sleep(PAUSE);
        }
    }
}

/// Sends a signal.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill");
    assert!(sent.success(), "no process {pid}");
}

/// Waits until a process is gone. One whose new parent has not looked yet shows as a zombie: it
/// runs no more.
pub fn gone(pid: u32) {
    let until = Instant::now() + PATIENCE;
    while let Some(state) = state(pid).filter(|state| *state != 'Z') {
        assert!(Instant::now() < until, "process {pid} lives on ({state})");
        thread::sleep(PAUSE);
    }
}

/// What the system says of a process; `None` when it knows none.
pub fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
