//! `swarmgate send`: a signal by hand.
//!
//! Owns: what is asked for by hand, and waiting for its answer.
//! Never: goes round the gate: it publishes to `swarmgate.in` like anybody.
//! Holds: what the contract would refuse is not sent.

use std::time::Duration;

use serde_json::Value;

use super::{
    CliError, Exit, Globals, Out,
    access::{Access, Router},
    client::{self, Connect},
    signal::{self, Draft},
    wait::Wait,
};
use crate::{
    bus::{Bus, Consumer},
    contract::{
        message::Message,
        routing::{ControlPlaneRouting, Family},
    },
};

/// Send a signal, and wait for its answer if asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Ask a controller to start, and wait a minute for its outcome:
    swarmgate send swarm-start kestrel/swarm-controller/ctl-1 --wait-ms 60000
  Stop every worker and wait until each has answered, or its deadline; 0 only if all did:
    swarmgate send swarm-stop kestrel/worker/ALL --wait
  With data, for every worker of a role:
    swarmgate send config-update kestrel/generator/ALL --data '{\"rate\":1200}'
  Only see what would be sent, and whether the contract takes it:
    swarmgate send swarm-start kestrel/swarm-controller/ctl-1 --dry-run")]
pub struct Args {
    /// The signal type.
    #[arg(value_name = "TYPE")]
    kind_type: String,
    /// Its target, swarm/role/instance.
    scope: String,
    /// The `data` object, as JSON or as @FILE.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    data: String,
    /// The sender; the connected user when absent, which is also the AMQP user-id.
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// The correlationId; a new one when absent.
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// The idempotencyKey; a new one when absent. Give it again to repeat a send.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Wait so long for the outcome or the refusal; 0 does not wait.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    wait_ms: u64,
    /// Wait until the router says how the command ended, over its API: 0 succeeded, 3 ended otherwise or refused,
    /// 1 still in flight.
    #[arg(long, conflicts_with_all = ["wait_ms", "dry_run"])]
    wait: bool,
    /// Wait so long at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    #[command(flatten)]
    access: Access,
    /// Check and print, send nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Sends.
///
/// # Errors
/// When the arguments make no signal, or the broker cannot be used.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let loaded = args.connect.config(globals)?;
    let prefix = loaded.config.amqp.prefix.clone();
    let message = message(&args, &prefix, signal::user(loaded.config.amqp.url.expose()))?;
    let mut out = Out::new();
    if let Some(exit) = signal::refused_here(&loaded.contract, &message, globals, &mut out)? {
        return Ok(exit);
    }
    if args.dry_run {
        print(&message, globals, &mut out)?;
        return Ok(Exit::Done);
    }
    let router = match args.wait {
        true => Some(reached(&args, globals).await?),
        false => None,
    };
    let (_, bus) = args.connect.open(globals).await?;
    let mut answers = vec![(format!("{prefix}.refused"), "#".to_owned())];
    if router.is_none() {
        // How it ended is the router's to say where it is asked; an outcome of one target is not the end.
        answers.push((format!("{prefix}.out"), ControlPlaneRouting::family_binding(Family::Outcome)));
    }
    // Bound before the signal leaves, so that a quick answer is heard.
    let listening = match args.wait || args.wait_ms > 0 {
        true => Some(client::listen(bus.as_ref(), &prefix, answers).await?),
        false => None,
    };
    signal::publish(bus.as_ref(), &message, &prefix).await?;
    print(&message, globals, &mut out)?;
    let Some(consumer) = listening else {
        bus.close().await;
        return Ok(Exit::Done);
    };
    if let Some(router) = router {
        drop(out);
        let exit = ended(&router, consumer, &message, args.timeout, globals).await;
        bus.close().await;
        return exit;
    }
    let answered =
        tokio::time::timeout(Duration::from_millis(args.wait_ms), answer(consumer, &message)).await;
    bus.close().await;
    match answered {
        Ok(answer) => {
            let answer = answer?;
            print(&answer, globals, &mut out)?;
            let refused = answer.properties.header("x-swarmgate-reason").is_some();
            Ok(if refused { Exit::Refused } else { Exit::Done })
        }
        Err(_) => {
            out.line(&format!("no answer within {} ms; the command may still be answered", args.wait_ms))?;
            Ok(Exit::Fault)
        }
    }
}

/// The router that will be asked, once it has answered: what cannot be waited for is not sent.
async fn reached(args: &Args, globals: &Globals) -> Result<Router, CliError> {
    let router = args.access.router(globals)?;
    router.get("overview").await?;
    Ok(router)
}

/// Waits for the end of what was sent; what is refused before it is a command has its end in the copy of it.
async fn ended(
    router: &Router,
    consumer: Box<dyn Consumer>,
    sent: &Message,
    timeout_s: u64,
    globals: &Globals,
) -> Result<Exit, CliError> {
    let body: Value = serde_json::from_slice(&sent.body).unwrap_or_default();
    let id = body.get("correlationId").and_then(Value::as_str).unwrap_or_default();
    let timeout = Duration::from_secs(timeout_s);
    let wait = Wait { router, id, timeout, unknown_max: timeout, was_reached: true };
    tokio::select! {
        exit = wait.told(globals) => exit,
        refused = answer(consumer, sent) => {
            print(&refused?, globals, &mut Out::new())?;
            Ok(Exit::Refused)
        }
    }
}

fn message(args: &Args, prefix: &str, user: String) -> Result<Message, CliError> {
    let scope = signal::scope(&args.scope)?;
    let text = match args.data.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(|fault| CliError::file(file.as_ref(), &fault))?,
        None => args.data.clone(),
    };
    let data = serde_json::from_str(&text).map_err(|fault| CliError::Usage {
        message: format!("--data is not JSON: {fault}"),
        help: "quote it for the shell, or use @FILE".to_owned(),
    })?;
    let draft = Draft {
        kind_type: &args.kind_type,
        scope: &scope,
        data,
        origin: args.origin.as_deref(),
        correlation: args.correlation.as_deref(),
        key: args.key.as_deref(),
    };
    draft.message(prefix, user)
}

/// The outcome or refusal that answers the signal.
async fn answer(mut consumer: Box<dyn Consumer>, asked: &Message) -> Result<Message, CliError> {
    let field = |message: &Message, name: &str| {
        serde_json::from_slice::<Value>(&message.body).ok().and_then(|body| body.get(name).cloned())
    };
    let correlation = field(asked, "correlationId");
    let settler = consumer.settler();
    loop {
        let deliveries = consumer.next(64).await?;
        // What answers others must not fill the prefetch.
        if let Some(last) = deliveries.last() {
            settler.ack(last.tag, true).await?;
        }
        for delivery in deliveries {
            let message = delivery.message;
            let reason = message.properties.header("x-swarmgate-reason").is_some();
            let family = Family::claimed_by(&message.routing_key);
            if field(&message, "correlationId") == correlation && (reason || family == Some(Family::Outcome))
            {
                return Ok(message);
            }
        }
    }
}

fn print(message: &Message, globals: &Globals, out: &mut Out) -> Result<(), CliError> {
    if globals.is_json() {
        out.json(&super::tail::shown(message))
    } else {
        out.line(&super::tail::told(message))
    }
}
