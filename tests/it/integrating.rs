//! The examples of docs/integrating, as their readers would run them: three languages, each with
//! each.
//!
//! Each worker and each commander is a process of its own; all of them and the router meet on a
//! real RabbitMQ.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use swarmgate::contract::routing::{ControlPlaneRouting, Family, Scope};

use crate::{broker::Broker, router::process::Process};

pub(crate) const LANGUAGES: [&str; 3] = ["python", "javascript", "rust"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker that is ended with its test.
pub(crate) struct Worker(pub Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An example's program in one language.
pub(crate) fn example(language: &str, name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(language);
    match language {
        "python" => {
            let python = std::env::var("SWARMGATE_TEST_PYTHON")
                .expect("SWARMGATE_TEST_PYTHON names a Python with pika; `scripts/test` prepares one");
            let mut command = Command::new(python);
            command.arg(root.join(format!("{name}.py")));
            command
        }
        "javascript" => {
            let modules = std::env::var("SWARMGATE_TEST_NODE_MODULES")
                .expect("SWARMGATE_TEST_NODE_MODULES holds amqplib; `scripts/test` prepares it");
            let mut command = Command::new("node");
            command.arg(root.join(format!("{name}.cjs"))).env("NODE_PATH", modules);
            command
        }
        _ => {
            let binary = PathBuf::from(env!("CARGO_BIN_EXE_swarmgate"));
            let built = binary.parent().expect("a directory").join("examples").join(name);
            assert!(built.exists(), "`{}` is not built: cargo build --examples", built.display());
            Command::new(built)
        }
    }
}

/// What each language's one helper makes of every kind, and what it binds.
#[test]
fn every_language_spells_the_keys_of_the_contract() {
    let scope = Scope::new("kestrel", "generator", "gen-1");
    let kinds =
        Family::ALL.map(|family| (family, if family == Family::Alert { "alert" } else { "config-update" }));
    let mut wanted: Vec<String> =
        kinds.iter().map(|(family, kind_type)| ControlPlaneRouting::of(*family, kind_type, &scope)).collect();
    wanted.extend(ControlPlaneRouting::signal_bindings("*", &scope));
    let kinds = json!(kinds.map(|(family, kind_type)| [family.kind(), kind_type])).to_string();
    let python = format!(
        "import json; from swarmgate_worker import *; here = ('kestrel', 'generator', 'gen-1'); \
         print(json.dumps([routing_key(*kind, *here) for kind in {kinds}] + signal_bindings(*here)))"
    );
    let javascript = format!(
        "const {{ routingKey, signalBindings }} = require('./routing.cjs'); \
         const here = ['kestrel', 'generator', 'gen-1']; \
         const keys = {kinds}.map((kind) => routingKey(...kind, ...here)); \
         console.log(JSON.stringify([...keys, ...signalBindings(...here)]))"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let interpreter = std::env::var("SWARMGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    for (language, program, flag, text) in
        [("python", interpreter.as_str(), "-c", python), ("javascript", "node", "-e", javascript)]
    {
        let ran = Command::new(program).args([flag, &text]).current_dir(root.join(language)).output();
        let ran = ran.unwrap_or_else(|fault| panic!("{program}: {fault}"));
        let made: Vec<String> = serde_json::from_slice(&ran.stdout)
            .unwrap_or_else(|_| panic!("{language}: {}", String::from_utf8_lossy(&ran.stderr)));
        assert_eq!(made, wanted, "{language}");
    }
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn every_worker_obeys_every_commander() {
        let vhost = Arc::new(Broker::shared()).vhost("integrating");
        let url = vhost.options().url.clone();
        let router = Process::start(&url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut workers = Vec::new();
        for language in LANGUAGES {
            let mut worker = example(language, "worker");
            worker.args([&url, "kestrel", "generator", language]).stdin(Stdio::null());
            workers.push((language, Worker(worker.spawn().expect("a worker"))));
        }
        for commander in LANGUAGES {
            for worker in LANGUAGES {
                // The first of them may come before its worker: then it waits at the router.
                let outcome = command(commander, &url, worker, "config-update").await;
                assert_eq!(outcome["data"]["status"], "Applied", "{commander} to {worker}: {outcome}");
                assert_eq!(outcome["scope"]["instance"], worker, "{commander}: {outcome}");
            }
        }
        let stopped = command("python", &url, "rust", "swarm-stop").await;
        assert_eq!(stopped["data"]["status"], "Stopped", "{stopped}");
        let unknown = command("rust", &url, "python", "swarm-plan").await;
        assert_eq!(unknown["data"]["status"], "Failed", "{unknown}");
        drop(workers);
        router.stop().await;
    }

    /// Runs a commander to its end; answers the outcome that it printed.
    async fn command(language: &str, url: &str, instance: &str, kind_type: &str) -> Value {
        let mut commander = tokio::process::Command::from(example(language, "commander"));
        commander.args([url, "kestrel", "generator", instance, kind_type]).kill_on_drop(true);
        let ran = tokio::time::timeout(PATIENCE, commander.output()).await.expect("in time").expect(language);
        let (said, told) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{language}: {said}{told}"))
    }
}
