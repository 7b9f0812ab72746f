//! Hosts that are hostile to the router: whoever reads its output stops reading, whoever asks it
//! does not read the answer, and whoever reads its ledger does not let go of it.
//!
//! Owns: that none of them holds a stop, the health pages or the end of the process.
//! Never: looks inside the process; what is shown is seen from outside.
//! Holds: every reader that has stopped is a real pipe, full, with its reading end held open.

mod files;

use std::{
    io::{Read, Write, pipe},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use swarmgate::{
    bus::Bus,
    contract::message::Message,
    ledger::{size::Size, verify},
};
use tempfile::TempDir;

use crate::{
    broker::{Broker, Vhost},
    figures::Alternating,
    router::{Inbox, body, send, signal},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon a page of health comes.
const HEALTH: Duration = Duration::from_secs(2);

/// A pipe that is full, and that nobody reads for as long as this is there.
struct Stopped {
    reader: std::io::PipeReader,
    writer: std::io::PipeWriter,
}

impl Stopped {
    fn new() -> Self {
        let (reader, writer) = pipe().expect("a pipe");
        let mut fills = writer.try_clone().expect("its end");
        // As much as a pipe holds; where this one holds less the thread waits for good.
        thread::spawn(move || fills.write_all(&[b'.'; 64 * 1024]));
        thread::sleep(Duration::from_millis(500));
        Self { reader, writer }
    }

    fn end(&self) -> Stdio {
        Stdio::from(OwnedFd::from(self.writer.try_clone().expect("its end")))
    }
}

/// The real binary, with its outputs as they are given.
pub(crate) struct Host {
    child: Child,
    address: SocketAddr,
    dir: Arc<TempDir>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Host {
    pub(crate) fn start(url: &str, args: &[&str], stdout: Stdio, stderr: Stdio) -> Self {
        Self::of(env!("CARGO_BIN_EXE_swarmgate"), url, args, stdout, stderr)
    }

    fn of(program: &str, url: &str, args: &[&str], stdout: Stdio, stderr: Stdio) -> Self {
        let dir = Arc::new(TempDir::new().expect("a directory"));
        let host = Self::launch(program, url, args, &dir, (stdout, stderr));
        host.ready();
        host
    }

    /// On that ledger, ready or not.
    pub(crate) fn launch(
        program: &str,
        url: &str,
        args: &[&str],
        dir: &Arc<TempDir>,
        (stdout, stderr): (Stdio, Stdio),
    ) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its number");
        drop(free);
        let child = Command::new(program)
            .args(args)
            .args(["--amqp", url, "--http", &address.to_string(), "--ledger"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("the router starts");
        Self { child, address, dir: Arc::clone(dir) }
    }

    /// Waits until the router is ready.
    pub(crate) fn ready(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.page("/readyz").is_some_and(|page| page.starts_with("HTTP/1.1 200 ")) {
            assert!(Instant::now() < until, "the router is not ready: {:?}", self.page("/readyz"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the router is there, and says that its ledger cannot be written and nothing else
    /// is missing.
    pub(crate) fn lacks_its_ledger(&self) {
        let until = Instant::now() + PATIENCE;
        let is_missing = |page: &str, what: &str| page.contains(&format!("\"what\":\"{what}\""));
        let says = |page: String| is_missing(&page, "ledger") && !is_missing(&page, "broker");
        while !self.page("/readyz").is_some_and(says) {
            assert!(Instant::now() < until, "it does not say so: {:?}", self.page("/readyz"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The end that it comes to by itself; `None` where there is none in time.
    pub(crate) fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        ended(&mut self.child, patience)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A page of the router; `None` where it did not come in time.
    pub(crate) fn page(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, HEALTH).ok()?;
        stream.set_read_timeout(Some(HEALTH)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// A metric.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let page = self.page("/metrics")?;
        let line = page.lines().find(|line| line.split(' ').next() == Some(name))?;
        line.split(' ').nth(1)?.parse().ok()
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    }

    /// SIGTERM, and the end that it comes to; `None` where there is none in time.
    pub(crate) fn stop(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.terminate();
        ended(&mut self.child, patience)
    }
}

fn ended(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().expect("an end") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Messages that are refused, each in a line of the log at level debug.
fn broken(count: usize) -> Vec<Message> {
    (0..count)
        .map(|number| Message {
            body: json!({}).to_string().into(),
            ..signal("swarm-plan", "w-1", &number.to_string())
        })
        .collect()
}

/// Says that a stop leaves, and how soon.
pub(crate) async fn stop_passes(bus: &dyn Bus, inbox: &mut Inbox, name: &str) -> Duration {
    let begun = Instant::now();
    send(bus, &[signal("swarm-stop", "w-1", name)]).await;
    let key = format!("i-{name}");
    inbox.hear(bus, |heard| heard.iter().any(|message| body(message)["idempotencyKey"] == key)).await;
    assert!(
        inbox.heard.iter().any(|message| body(message)["idempotencyKey"] == key),
        "the stop did not pass"
    );
    begun.elapsed()
}

fn vhost(name: &str) -> Vhost {
    Arc::new(Broker::shared()).vhost(name)
}

#[tokio::test]
async fn a_reader_of_the_log_that_has_stopped_holds_no_stop_no_health_and_no_end() {
    let vhost = vhost("host-log");
    let stopped = Stopped::new();
    let small = ["run", "--set", "telemetry.log_level=debug", "--set", "telemetry.log_queue_bytes_max=65536"];
    let mut host = Host::start(&vhost.options().url, &small, stopped.end(), stopped.end());
    let bus = vhost.connect().await;
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    for round in 0..4 {
        send(bus.as_ref(), &broken(500)).await;
        let took = stop_passes(bus.as_ref(), &mut inbox, &format!("stop-{round}")).await;
        assert!(took < Duration::from_secs(5), "the stop took {took:?}");
        assert!(host.page("/healthz").is_some_and(|page| page.starts_with("HTTP/1.1 200 ")));
    }
    let dropped = host.metric("swarmgate_log_lines_dropped_total");
    assert!(dropped.is_some_and(|dropped| dropped > 100), "{dropped:?}");
    let ended = host.stop(Duration::from_secs(15)).expect("it ends");
    assert!(ended.success(), "{ended}");
    drop(stopped.reader);
}

#[tokio::test]
async fn a_reader_that_reads_again_is_told_how_much_it_missed() {
    let vhost = vhost("host-log-again");
    let mut stopped = Stopped::new();
    let small = [
        "run",
        "--set",
        "telemetry.log_level=debug",
        "--set",
        "telemetry.log_format=json",
        "--set",
        "telemetry.log_queue_bytes_max=65536",
    ];
    let mut host = Host::start(&vhost.options().url, &small, Stdio::null(), stopped.end());
    let bus = vhost.connect().await;
    send(bus.as_ref(), &broken(5_000)).await;
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    stop_passes(bus.as_ref(), &mut inbox, "stop").await;
    let told = thread::spawn(move || {
        drop(stopped.writer);
        let mut told = Vec::new();
        let mut some = [0; 4096];
        // The pipe's other ends live in this test: what is wanted is not its end.
        while let Ok(read @ 1..) = stopped.reader.read(&mut some) {
            told.extend_from_slice(&some[..read]);
            let text = String::from_utf8_lossy(&told);
            if text.contains("\"dropped\":") && text.ends_with('\n') {
                return text.trim_start_matches('.').to_owned();
            }
        }
        String::from_utf8_lossy(&told).into_owned()
    });
    let told = told.join().expect("a log");
    let count = told.lines().filter_map(|line| {
        let line = line.get(line.find('{')?..)?;
        serde_json::from_str::<serde_json::Value>(line).ok()?["dropped"].as_u64()
    });
    assert!(count.sum::<u64>() > 100, "{told}");
    assert!(host.stop(Duration::from_secs(15)).is_some_and(|ended| ended.success()));
}

#[tokio::test]
async fn a_reader_of_an_observers_log_that_has_stopped_holds_no_health_and_no_end() {
    let vhost = vhost("host-log-observe");
    let bus = vhost.connect().await;
    let exchange = swarmgate::bus::Exchange {
        name: "swarmgate.in".to_owned(),
        kind: swarmgate::bus::ExchangeKind::Topic,
        alternate: None,
    };
    let topology = swarmgate::bus::Topology { exchanges: vec![exchange], queues: Vec::new() };
    bus.declare(&topology).await.expect("an exchange");
    let stopped = Stopped::new();
    let small =
        ["observe", "--set", "telemetry.log_level=debug", "--set", "telemetry.log_queue_bytes_max=65536"];
    let mut host = Host::start(&vhost.options().url, &small, stopped.end(), stopped.end());
    send(bus.as_ref(), &broken(1_500)).await;
    let until = Instant::now() + PATIENCE;
    while host.metric("swarmgate_log_lines_dropped_total").is_none_or(|dropped| dropped < 100) {
        assert!(Instant::now() < until, "nothing is dropped");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(host.page("/healthz").is_some_and(|page| page.starts_with("HTTP/1.1 200 ")));
    assert!(host.stop(Duration::from_secs(15)).is_some_and(|ended| ended.success()));
    drop(stopped.reader);
}

/// A worker that prints without end, and never says that it is ready.
const TALKER: &str = "
runtime:
  platform:
    bootstrap: {mode: process_supervisor}
    execution_ipc: {transport: tcp_local, auth: {secret_mode: generated}}
supervisor:
  swarm_id: kestrel
  ready_timeout_ms: 60000
  stop_graceful_ms: 200
  stop_terminate_ms: 2000
  workers:
    - id: talker
      role: generator
      command: [sh, -c, 'trap : TERM; while :; do echo $$ talks and talks and talks; echo x >> TOLD; done']
";

#[test]
fn a_reader_of_a_supervisors_log_and_report_that_has_stopped_holds_no_worker_and_no_end() {
    let dir = TempDir::new().expect("a directory");
    let (config, lines) = (dir.path().join("swarmgate.yaml"), dir.path().join("told"));
    std::fs::write(&config, TALKER.replace("TOLD", &lines.display().to_string())).expect("a config");
    let stopped = Stopped::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_swarmgate"))
        .args(["supervise", "--config"])
        .arg(&config)
        .env_remove("SWARMGATE_AMQP_URL")
        .stdin(Stdio::null())
        .stdout(stopped.end())
        .stderr(stopped.end())
        .spawn()
        .expect("the supervisor starts");
    // What a worker prints goes on: its pipe (64 KiB) is read whatever becomes of the log.
    let until = Instant::now() + PATIENCE;
    while std::fs::metadata(&lines).map_or(0, |told| told.len()) < 2 * 10_000 {
        assert!(Instant::now() < until, "the worker waits for the log");
        thread::sleep(Duration::from_millis(50));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    let ended = ended(&mut child, Duration::from_secs(20));
    let _ = child.kill();
    assert!(ended.is_some(), "the supervisor does not end");
    drop(stopped.reader);
}

#[tokio::test]
async fn clients_that_read_no_answer_take_no_health_and_not_for_long_the_metrics() {
    let vhost = vhost("host-http");
    let mut host = Host::start(
        &vhost.options().url,
        &["run", "--set", "http.write_timeout_ms=1000"],
        Stdio::null(),
        Stdio::null(),
    );
    let asked = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000);
    // More than all places (64) and the spare ones (16) together.
    let deaf: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(host.address).expect("a connection");
            stream.set_write_timeout(Some(Duration::from_millis(20))).expect("a limit");
            let _ = stream.write_all(asked.as_bytes());
            stream
        })
        .collect();
    for round in 0..20 {
        for path in ["/healthz", "/readyz"] {
            let (asked, page) = (Instant::now(), host.page(path));
            assert!(
                page.as_ref().is_some_and(|page| page.starts_with("HTTP/1.1 200 ")),
                "round {round}, {path} after {:?}: {page:?}",
                asked.elapsed()
            );
        }
    }
    let until = Instant::now() + Duration::from_secs(20);
    while !host.page("/metrics").is_some_and(|page| page.starts_with("HTTP/1.1 200 ")) {
        assert!(Instant::now() < until, "the metrics stay away");
        thread::sleep(Duration::from_millis(100));
    }
    drop(deaf);
    assert!(host.stop(Duration::from_secs(15)).is_some_and(|ended| ended.success()));
}

#[tokio::test]
async fn a_reader_of_the_ledger_that_does_not_let_go_cannot_fill_the_disk() {
    const WAL_MAX_BYTES: u64 = 16 * 1024 * 1024;
    let vhost = vhost("host-wal");
    let bound = format!("ledger.wal_max_bytes={WAL_MAX_BYTES}");
    let mut host = Host::start(&vhost.options().url, &["run", "--set", &bound], Stdio::null(), Stdio::null());
    let bus = vhost.connect().await;
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    stop_passes(bus.as_ref(), &mut inbox, "before").await;
    let ledger = host.dir.path().to_owned();
    let options = SqliteConnectOptions::new().filename(ledger.join("ledger.sqlite")).read_only(true);
    let mut reader = options.connect().await.expect("a reader");
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM entries").execute(&mut reader).await.expect("a transaction");
    let large = |round: usize| -> Vec<Message> {
        (0..100)
            .map(|number| {
                let mut message = signal("config-update", "w-1", &format!("{round}-{number}"));
                let mut large = body(&message);
                large["data"] = json!({ "patch": { "text": format!("{number}-").repeat(10_000) } });
                message.body = large.to_string().into();
                message
            })
            .collect()
    };
    let mut rounds = 0;
    let until = Instant::now() + PATIENCE;
    while host.page("/readyz").is_some_and(|page| page.starts_with("HTTP/1.1 200 ")) {
        assert!(Instant::now() < until, "the bound is never reached: {:?}", Size::of(&ledger));
        send(bus.as_ref(), &large(rounds)).await;
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for round in 0..3 {
        send(bus.as_ref(), &large(1_000 + round)).await;
        stop_passes(bus.as_ref(), &mut inbox, &format!("held-{round}")).await;
        let Size { wal_bytes, .. } = Size::of(&ledger);
        // One commit may go beyond, and none after it.
        assert!(wal_bytes < 3 * WAL_MAX_BYTES, "{wal_bytes}");
    }
    let until = Instant::now() + PATIENCE;
    while host.metric("swarmgate_ledger_wal_bytes").is_none_or(|bytes| bytes < WAL_MAX_BYTES) {
        assert!(Instant::now() < until, "the metric does not say it");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    reader.close().await.expect("it lets go");
    let until = Instant::now() + PATIENCE;
    while !host.page("/readyz").is_some_and(|page| page.starts_with("HTTP/1.1 200 ")) {
        assert!(Instant::now() < until, "it does not recover");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop_passes(bus.as_ref(), &mut inbox, "after").await;
    assert!(host.stop(Duration::from_secs(30)).is_some_and(|ended| ended.success()));
    let report = verify::verify(&ledger).await.expect("a ledger");
    assert_eq!(report.fault, None);
}

#[tokio::test]
async fn a_stop_is_no_later_for_a_reader_of_the_log_that_has_stopped() {
    const RUNS: usize = 5;
    const STOPS: usize = 30;
    let stopped = Stopped::new();
    let mut figures = Alternating::default();
    for run in 0..RUNS {
        for held in [false, true] {
            let vhost = vhost(&format!("host-late-{run}-{held}"));
            let stderr = if held { stopped.end() } else { Stdio::null() };
            let args = ["run", "--set", "telemetry.log_level=debug"];
            let mut host = Host::start(&vhost.options().url, &args, Stdio::null(), stderr);
            let bus = vhost.connect().await;
            let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
            stop_passes(bus.as_ref(), &mut inbox, "first").await;
            let mut took = Vec::new();
            for number in 0..STOPS {
                send(bus.as_ref(), &broken(20)).await;
                took.push(stop_passes(bus.as_ref(), &mut inbox, &format!("stop-{number}")).await);
            }
            figures.add(held, took);
            assert!(host.stop(Duration::from_secs(15)).is_some_and(|ended| ended.success()));
        }
    }
    figures.hold("a reader of the log that has stopped");
    drop(stopped.reader);
}
