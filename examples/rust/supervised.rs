//! A worker that `swarmgate supervise` runs: it takes its keys, says ready, obeys each command and
//! answers it.
//!
//!     supervisor:
//!       workers:
//!         - {id: gen, role: generator, command: [target/debug/examples/supervised]}
//!
//! It needs no broker and no credentials: the supervisor carries what it says.

use std::error::Error;

use serde_json::Value;
use swarmgate::worker::{Answer, Order, Signal, Status, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut worker = Worker::from_env().await?;
    let mut status = Status::default();
    println!("{} has its keys", worker.scope());
    worker.ready()?;
    if worker.begun().await? {
        println!("working");
        while let Order::Signal(signal) = worker.next().await? {
            let answer = obey(&signal, &mut status);
            worker.outcome(&signal, &answer)?;
            // The supervisor tells the bus; where the config has changed, all of it.
            worker.status(status.clone())?;
        }
    }
    println!("ending");
    Ok(worker.leave().await?)
}

/// What success is called, by type: spec/commands.toml.
fn obey(signal: &Signal, status: &mut Status) -> Answer {
    match signal.kind_type.as_str() {
        "config-update" => {
            status.config.extend(signal.data.iter().map(|(name, value)| (name.clone(), value.clone())));
            Answer::new("Applied")
        }
        "bot-start" | "swarm-start" => {
            status.context.insert("lifecycle".to_owned(), Value::from("running"));
            Answer::new("Running")
        }
        "bot-stop" | "swarm-stop" => {
            status.context.insert("lifecycle".to_owned(), Value::from("stopped"));
            Answer::new("Stopped")
        }
        "bot-pause" => Answer::new("Paused"),
        _ => Answer::failed("this worker has no such command"),
    }
}
