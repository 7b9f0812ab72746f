//! Each example and each tool, as each user of the definitions that are shipped.
//!
//! Owns: what a user can do with the rights that the documents prescribe, and what one who cannot
//! is told.
//! Never: gives anybody a right that is not in the file.
//! Holds: router, examples and tools are the real programs.

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use swarmgate::bus::amqp::{self, Options};
use tempfile::TempDir;

use super::{DEFINITIONS, give_passwords};
use crate::{
    broker::Broker,
    integrating::{LANGUAGES, Worker, example},
    router::process::Process,
    tools::{Said, spawn, tool},
};

const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: &str = "docs/operating/broker-permissions.md";

/// A broker with the definitions, a router on it, and where that answers.
struct Site {
    broker: Arc<Broker>,
    router: Process,
    api: String,
}

impl Site {
    async fn start(test: &str) -> Self {
        let broker = Arc::new(Broker::own(test));
        broker.http("POST", "/api/definitions", DEFINITIONS);
        give_passwords(&broker);
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("a port").to_string();
        let url = broker.url("/", "swarmgate", "swarmgate");
        let dir = TempDir::new().expect("a directory");
        let router = Process::configured(&url, dir, &["--http", &address]);
        let bus = amqp::connect(&Options::new(url)).await.expect("a connection");
        router.ready(bus.as_ref()).await;
        Self { broker, router, api: format!("http://{address}") }
    }

    fn url(&self, user: &str) -> String {
        self.broker.url("/", user, user)
    }

    /// A tool as that user, which may ask the router too.
    async fn asks(&self, user: &str, args: &[&str]) -> Said {
        tool(&self.url(user), &[args, &["--api", &self.api]].concat()).await
    }

    fn worker(&self, language: &str, user: &str) -> std::process::Command {
        let mut worker = example(language, "worker");
        worker.args([&self.url(user), "kestrel", "generator", language]).stdin(Stdio::null());
        worker
    }

    async fn command(&self, language: &str, user: &str, instance: &str) -> Said {
        let mut commander = tokio::process::Command::from(example(language, "commander"));
        commander.args([&self.url(user), "kestrel", "generator", instance]).kill_on_drop(true);
        let ran = tokio::time::timeout(PATIENCE, commander.output()).await.expect("in time").expect(language);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: ran.status.code(), stdout: text(ran.stdout), stderr: text(ran.stderr) }
    }
}

fn is(said: &Said, code: i32, words: &[&str]) {
    let told = format!("{:?}: {}{}", said.code, said.stdout, said.stderr);
    assert_eq!(said.code, Some(code), "{told}");
    for word in words {
        assert!(told.contains(word), "`{word}` is not in\n{told}");
    }
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn each_example_runs_as_the_service_that_the_documents_prescribe() {
        let site = Site::start("users-examples").await;
        let workers: Vec<Worker> = LANGUAGES
            .iter()
            .map(|language| Worker(site.worker(language, "service").spawn().expect("a worker")))
            .collect();
        for commander in LANGUAGES {
            for worker in LANGUAGES {
                let said = site.command(commander, "service", worker).await;
                is(&said, 0, &[]);
                let outcome: Value = serde_json::from_str(&said.stdout).expect("an outcome");
                assert_eq!(outcome["data"]["status"], "Applied", "{commander} to {worker}: {outcome}");
            }
        }
        drop(workers);
        // Who may not is told so, in a line: by JavaScript too.
        let said = site.command("javascript", "producer", "python").await;
        is(&said, 1, &["the broker ended it: ", "ACCESS_REFUSED"]);
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
        let mut worker = tokio::process::Command::from(site.worker("javascript", "subscriber"));
        worker.stderr(Stdio::piped()).kill_on_drop(true);
        let ended =
            tokio::time::timeout(PATIENCE, worker.output()).await.expect("in time").expect("a worker");
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(told.starts_with("the broker ended it: ") && told.contains("ACCESS_REFUSED"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        site.router.stop().await;
    }

    #[tokio::test]
    async fn each_tool_does_for_each_user_what_the_page_says() {
        let site = Site::start("users-tools").await;
        let _worker = Worker(site.worker("python", "service").spawn().expect("a worker"));
        let target = "kestrel/generator/python";
        // Who sends and listens hears the answer on the broker; who only sends asks the router.
        for (user, asks) in [("operator", false), ("producer", true), ("service", true)] {
            for wait in [["--wait", "--timeout=50"], ["--wait-ms", "50000"]] {
                let said =
                    site.asks(user, &[&["send", "swarm-stop", target], wait.as_slice()].concat()).await;
                is(&said, 0, &["Stopped"]);
                assert_eq!(said.stderr.contains("may not listen"), asks, "{user}: {}", said.stderr);
            }
            let said = site.asks(user, &["bot", "stop", target]).await;
            is(&said, 0, &["Stopped"]);
            assert_eq!(said.stderr.contains("may not listen"), asks, "{user}: {}", said.stderr);
            let said = tool(&site.url(user), &["send", "swarm-stop", target]).await;
            is(&said, 0, &[]);
        }
        // What is refused is no command, and the router that is asked knows of none.
        let foreign = ["send", "swarm-stop", target, "--origin", "somebody", "--wait", "--timeout", "2"];
        is(&site.asks("producer", &foreign).await, 1, &["no command", "was accepted within 2 s"]);
        is(&site.asks("operator", &foreign).await, 3, &["identity.origin-mismatch"]);
        let unheard = ["send", "swarm-stop", target, "--wait-ms", "2000", "--api", "http://127.0.0.1:1"];
        let said = tool(&site.url("producer"), &unheard).await;
        is(&said, 4, &["no router can be reached"]);
        assert!(said.stdout.is_empty(), "what cannot be waited for is not sent: {}", said.stdout);

        let status = ["tail", "event.metric.*.kestrel.#", "--count", "1"];
        is(&tool(&site.url("operator"), &status).await, 0, &["python"]);
        is(&tool(&site.url("operator"), &["refused", "list"]).await, 0, &["identity.origin-mismatch"]);
        for user in ["producer", "subscriber", "service", "observer"] {
            is(&tool(&site.url(user), &["tail", "--count", "1"]).await, 4, &["ACCESS_REFUSED", PAGE]);
            is(&tool(&site.url(user), &["refused", "list"]).await, 4, &["ACCESS_REFUSED", PAGE]);
        }
        for user in ["subscriber", "observer"] {
            is(&tool(&site.url(user), &["send", "swarm-stop", target]).await, 4, &["ACCESS_REFUSED", PAGE]);
            is(&site.asks(user, &["bot", "stop", target]).await, 4, &["ACCESS_REFUSED", PAGE]);
        }
        observes(&site, target).await;
        for user in ["producer", "subscriber", "service", "operator"] {
            let dir = TempDir::new().expect("a directory");
            let ledger = dir.path().to_str().expect("UTF-8");
            let observe = ["observe", "--ledger", ledger, "--http", "127.0.0.1:0"];
            is(&tool(&site.url(user), &observe).await, 4, &["ACCESS_REFUSED", "set_permissions"]);
        }
        site.router.stop().await;
    }

    /// The observer looks at what goes to the router, and nothing else is asked of the broker.
    async fn observes(site: &Site, target: &str) {
        let dir = TempDir::new().expect("a directory");
        let ledger = dir.path().to_str().expect("UTF-8");
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("a port").to_string();
        let looks = ["observe", "--ledger", ledger, "--http", &address, "--output", "json"];
        let observer = spawn(&site.url("observer"), &looks);
        let api = format!("http://{address}");
        let until = Instant::now() + PATIENCE;
        loop {
            is(&tool(&site.url("operator"), &["send", "swarm-stop", target]).await, 0, &[]);
            let told = tool(&site.url("observer"), &["observe", "--report", "--api", &api]).await;
            if told.code == Some(0) && told.stdout.contains("signal.swarm-stop.*.*.*") {
                assert!(told.stdout.contains("operator"), "{}", told.stdout);
                break;
            }
            assert!(Instant::now() < until, "{}{}", told.stdout, told.stderr);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        drop(observer);
    }
}
