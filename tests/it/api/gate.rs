//! A router in this process, with its window, on the embedded bus; and the real binary beside it.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use swarmgate::{
    bus::{Bus, Consumer, Departure, Fate, Queue, QueueKind, Topology, embedded::Embedded},
    clock,
    config::{FlagSetting, Layers, Loaded, load},
    contract::message::{Message, Properties},
    interface::{
        api::Desk,
        http::{ClientBounds, Window},
    },
    runtime::{
        boot::{self, Running},
        link::SteadyBus,
        setup,
    },
    telemetry::Telemetry,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::schemas;

/// How long anything may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A router with its window, two workers' queues, and nobody behind them: the test speaks for the
/// workers.
pub struct Gate {
    settings: Vec<FlagSetting>,
    dir: tempfile::TempDir,
    broker: Embedded,
    address: SocketAddr,
    up: Option<Up>,
}

/// What ends when the router does.
struct Up {
    running: Running,
    window: JoinHandle<()>,
    closing: CancellationToken,
}

impl Gate {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With settings of its own, as (path, value).
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        // One type ends soon by itself.
        let soon = [("deadlines.swarm_plan_ms", "1000")];
        let settings = soon.iter().chain(settings).map(|(path, value)| FlagSetting {
            flag: "--set".to_owned(),
            path: (*path).to_owned(),
            value: (*value).to_owned(),
        });
        let settings = settings.collect();
        let place = Path::new("/dev/shm");
        let dir = if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let dir = dir.expect("a directory");
        let mut gate = Self { dir, broker: Embedded::new(), address, settings, up: None };
        gate.declare().await;
        gate.go_up().await;
        gate
    }

    pub async fn stop(mut self) {
        self.go_down().await;
    }

    fn loaded(&self) -> Loaded {
        let layers = Layers { flags: self.settings.clone(), ..Layers::default() };
        let mut loaded = load(&layers).expect("the settings");
        loaded.config.ledger.dir = self.dir.path().to_owned();
        loaded
    }

    async fn declare(&self) {
        let commands = self.loaded().rules().commands;
        let mut topology = swarmgate::runtime::topology::enforce("swarmgate", &commands);
        for instance in ["w-1", "w-2"] {
            let binding =
                |instance| ("swarmgate.out".to_owned(), format!("signal.*.kestrel.worker.{instance}"));
            topology.queues.push(Queue {
                name: format!("worker.{instance}"),
                kind: QueueKind::Exclusive,
                bindings: vec![binding(instance), binding("ALL")],
            });
        }
        self.broker.declare(&topology).await.expect("a topology");
    }

    /// Opens the window, at the address it had, and then starts the router.
    pub async fn go_up(&mut self) {
        let telemetry = Arc::new(Telemetry::default());
        let bus: Arc<dyn Bus> = Arc::new(self.broker.clone());
        let bounds = ClientBounds { connections_max: 32, ..ClientBounds::default() };
        let window = Window::open(self.address, bounds).await.expect("a window");
        self.address = window.address();
        let (closing, desk) = (CancellationToken::new(), Arc::new(Desk::default()));
        let window = tokio::spawn(window.serve(Arc::clone(&telemetry), Arc::clone(&desk), closing.clone()));
        let early = self.get("overview").await;
        assert_eq!((early.0, early.1["code"].as_str()), (503, Some("api.starting")));
        let setup = setup::enforce(&self.loaded(), Arc::new(SteadyBus(bus)), telemetry);
        let running = boot::start(setup).await.expect("a start");
        desk.open(running.asker().clone());
        self.up = Some(Up { running, window, closing });
    }

    pub async fn go_down(&mut self) {
        let Up { running, window, closing } = self.up.take().expect("it is up");
        assert!(running.stop().await.is_some(), "it does not drain");
        let late = self.get("overview").await;
        assert_eq!((late.0, late.1["code"].as_str()), (503, Some("api.stopping")));
        closing.cancel();
        window.await.expect("the window closes");
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The ledger's directory.
    pub fn ledger(&self) -> &Path {
        self.dir.path()
    }

    /// The router that is up.
    pub fn running(&self) -> &Running {
        &self.up.as_ref().expect("it is up").running
    }

    /// The status and body of a page.
    pub async fn get(&self, page: &str) -> (u16, Value) {
        let (status, text) = self.asked("GET", &format!("/api/v1/{page}"), &self.address.to_string()).await;
        let body = serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{page}: {fault}: {text}"));
        if status == 200 && page == "safety" {
            schemas::holds_for_safety(&body);
        }
        (status, body)
    }

    /// A page that is there.
    pub async fn page(&self, page: &str) -> Value {
        let (status, body) = self.get(page).await;
        assert_eq!(status, 200, "{page}: {body}");
        body
    }

    pub async fn asked(&self, method: &str, path: &str, host: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// Hears what leaves the router by that pattern.
    pub async fn listen(&self, pattern: &str) -> Box<dyn Consumer> {
        let queue = Queue {
            name: format!("listener {pattern}"),
            kind: QueueKind::Exclusive,
            bindings: vec![("swarmgate.out".to_owned(), pattern.to_owned())],
        };
        let topology = Topology { exchanges: Vec::new(), queues: vec![queue.clone()] };
        self.broker.declare(&topology).await.expect("a queue");
        self.broker.consumer(&queue.name, 64).await.expect("a consumer")
    }

    /// Hears the copies of what is refused.
    pub async fn listen_refused(&self) -> Box<dyn Consumer> {
        let bindings = vec![("swarmgate.refused".to_owned(), "#".to_owned())];
        let queue = Queue { name: "refused copies".to_owned(), kind: QueueKind::Exclusive, bindings };
        let topology = Topology { exchanges: Vec::new(), queues: vec![queue.clone()] };
        self.broker.declare(&topology).await.expect("a queue");
        self.broker.consumer(&queue.name, 64).await.expect("a consumer")
    }

    pub async fn say(&self, message: Message) {
        let publisher = self.broker.publisher().await.expect("a publisher");
        let departure = Departure { message, mandatory: true };
        let fates = publisher.publish(&[&departure], PATIENCE).await.expect("fates");
        assert_eq!(fates, [Fate::Carried]);
    }

    /// A worker says all about itself.
    pub async fn status(&self, instance: &str, enabled: bool) {
        let data = json!({
            "enabled": enabled, "tps": 12, "startedAt": clock::wall(), "config": { "rate": 3 },
            "ioState": { "work": { "input": "ok", "output": "ok" } }, "context": { "lifecycle": "RUNNING_PAPER" },
            "io": { "work": { "queues": { "in": ["jobs"], "out": [format!("made.{instance}")] } } },
        });
        self.say(envelope("metric", "status-full", instance, instance, None, &data)).await;
    }

    pub async fn command(&self, kind_type: &str, instance: &str, name: &str) {
        self.say(envelope("signal", kind_type, "orc", instance, Some(name), &json!({}))).await;
    }

    pub async fn outcome(&self, kind_type: &str, instance: &str, name: &str, status: &str) {
        let data = json!({ "status": status });
        self.say(envelope("outcome", kind_type, instance, instance, Some(name), &data)).await;
    }

    /// A page once it says what is waited for.
    pub async fn until(&self, page: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let (status, body) = self.get(page).await;
            if status == 200 && holds(&body) {
                return body;
            }
            assert!(started.elapsed() < PATIENCE, "{page} is still {status}: {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The real binary asks this router.
    pub async fn run(&self, args: &[&str]) -> (i32, String, String) {
        run(&self.url(), args).await
    }
}

pub fn envelope(
    kind: &str,
    kind_type: &str,
    origin: &str,
    instance: &str,
    name: Option<&str>,
    data: &Value,
) -> Message {
    // An alert's kind is `event`.
    let said = if kind == "alert" { "event" } else { kind };
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": said, "type": kind_type, "origin": origin,
        "scope": { "swarmId": "kestrel", "role": "worker", "instance": instance },
        "correlationId": name.map(|name| format!("c-{name}")),
        "idempotencyKey": name.map(|name| format!("i-{name}")), "data": data,
    });
    let family = if kind == "signal" { "signal".to_owned() } else { format!("event.{kind}") };
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: format!("{family}.{kind_type}.kestrel.worker.{instance}"),
        properties: Properties { user_id: Some(origin.to_owned()), ..Properties::default() },
        body: body.to_string().into(),
    }
}

/// The real binary, with nothing from the environment of the tests.
pub fn swarmgate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWARMGATE_"))
    {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the binary beside the router: code, stdout, stderr.
pub async fn run(api: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = swarmgate(args);
    command.args(["--api", api]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("a run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}
