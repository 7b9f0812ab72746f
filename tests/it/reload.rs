//! SIGHUP, as the process that is deployed takes it.
//!
//! Owns: what a running router takes over of a changed file, what it names, and that a faulty file
//! changes nothing.
//! Never: looks into the process; its log and its pages say.
//! Holds: the router carries on through all of it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::hostile::routers::Gate;

const PATIENCE: Duration = Duration::from_secs(30);

struct File {
    path: PathBuf,
    _dir: TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("swarmgate.yaml");
        std::fs::write(&path, text).expect("a config");
        Self { path, _dir: dir }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).expect("a config");
    }
}

/// Sends SIGHUP, and answers what the log says from then on, once it says `word`.
async fn hang_up(router: &Gate, word: &str) -> String {
    let before = router.log().len();
    router.signal("-HUP");
    let within = Instant::now() + PATIENCE;
    loop {
        let log = router.log();
        let told = log.get(before..).unwrap_or_default();
        if told.contains(word) {
            return told.to_owned();
        }
        assert!(Instant::now() < within, "`{word}` is not said: {log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The first line of the answer to whoever asks for the metrics by that name.
async fn asked_by(router: &Gate, host: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(&router.address).await.expect("the router's window");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("a page");
    text.lines().next().unwrap_or_default().to_owned()
}

fn started(file: &Path, url: &str) -> Gate {
    Gate::by(&["run", "--config", file.to_str().expect("a path")], url)
}

mod on_rabbitmq {
    use std::sync::Arc;

    use super::*;
    use crate::{
        broker::Broker,
        router::{send, signal},
    };

    const CHANGED: &str = "telemetry:\n  log_level: debug\n  refusals_log_ms: 500\nhttp:\n  hosts: [gate.example]\n\
                           limits:\n  body_bytes_max: 100000\nidentity:\n  trust_origin: false\n";

    #[tokio::test]
    async fn a_hang_up_takes_over_what_can_change_and_names_the_rest() {
        let vhost = Arc::new(Broker::shared()).vhost("reload");
        let file = File::new("telemetry:\n  log_level: info\n");
        let mut router = started(&file.path, &vhost.options().url);
        router.ready().await;
        assert!(!router.log().contains(" DEBUG "), "{}", router.log());
        assert!(asked_by(&router, "gate.example").await.contains(" 4"), "the name is nobody's yet");

        let told = hang_up(&router, "the config says what this process runs by already").await;
        assert!(!told.contains("reloaded"), "{told}");

        file.write(CHANGED);
        let told = hang_up(&router, "take a restart").await;
        let line = |word: &str| told.lines().find(|line| line.contains(word)).expect("a line").to_owned();
        let (reloaded, waiting) = (line("SIGHUP: reloaded"), line("take a restart"));
        for setting in ["http.hosts", "telemetry.log_level", "telemetry.refusals_log_ms"] {
            assert!(reloaded.contains(setting) && !waiting.contains(setting), "{setting}: {told}");
        }
        assert!(waiting.contains("limits.body_bytes_max"), "{told}");
        assert!(!reloaded.contains("limits.") && !told.contains("identity."), "{told}");
        assert!(asked_by(&router, "gate.example").await.contains(" 200 "));

        // What a line is has changed for good: a setting that waits is told again, and at debug.
        file.write("telemetry:\n  log_level: loud\n  log_lines: 5\n");
        let told = hang_up(&router, "log_lines").await;
        assert!(told.contains("nothing has changed") && told.contains("swarmgate.yaml:2"), "{told}");
        assert!(asked_by(&router, "gate.example").await.contains(" 200 "), "a faulty file changes nothing");
        file.write(CHANGED);
        let told = hang_up(&router, "take a restart").await;
        assert!(!told.contains("SIGHUP: reloaded"), "nothing of it is new: {told}");
        send(vhost.connect().await.as_ref(), &[signal("swarm-stop", "w-1", "reload")]).await;
        let within = Instant::now() + PATIENCE;
        while !router.log().contains(" DEBUG ") {
            assert!(
                Instant::now() < within,
                "the level of the file before the faulty one holds: {}",
                router.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }

        std::fs::remove_file(&file.path).expect("a removal");
        let told = hang_up(&router, "nothing has changed").await;
        assert!(told.contains("cannot be read"), "{told}");

        assert_eq!(router.ended(), None, "{}", router.log());
        assert!(router.is_ready().await);
        router.signal("-TERM");
        assert_eq!(router.end().await, 0, "{}", router.log());
    }

    #[tokio::test]
    async fn a_level_that_rust_log_says_is_no_files() {
        let vhost = Arc::new(Broker::shared()).vhost("reload-rust-log");
        let file = File::new("");
        let config = file.path.to_str().expect("a path");
        let router =
            Gate::start(&vhost.options().url, "gate-1", &["--config", config], &[("RUST_LOG", "info")]);
        router.ready().await;
        file.write("telemetry:\n  log_level: trace\n");
        let told = hang_up(&router, "RUST_LOG is set and wins").await;
        assert!(!told.contains("TRACE") && !router.log().contains("DEBUG"), "{told}");
    }
}
