//! `swarmgate send`: a signal by hand.
//!
//! Owns: what is asked for by hand, and waiting for its answer.
//! Never: goes round the gate: it publishes to `swarmgate.in` like anybody; nor round the echo and
//! the typing that the commands of their own have for what is dangerous.
//! Holds: what the contract would refuse, or the router would not let this sender do, is not sent.

use std::time::Duration;

use serde_json::Value;

use super::{
    CliError, Exit, Globals, Out,
    access::{Access, Router},
    client::{self, Connect},
    echo::Echo,
    may::{self, Asks},
    output::aside,
    sent,
    signal::{self, Draft},
    situation::{BRIEFLY, Situation},
    typed::Consent,
    wait::Wait,
};
use crate::{
    bus::{Bus, Consumer},
    config::Loaded,
    contract::{
        message::Message,
        routing::{ALL, ControlPlaneRouting, Family},
    },
    view::may::May,
};

/// How long a router that is asked may not know what was sent.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Send a signal, and wait for its answer if asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Ask a controller to start, and wait a minute for its outcome:
    swarmgate send swarm-start kestrel/swarm-controller/ctl-1 --wait-ms 60000
  Stop every worker and wait until each has answered, or its deadline; 0 only if all did:
    swarmgate send swarm-stop kestrel/worker/ALL --wait
  With data, for every worker of a role:
    swarmgate send config-update kestrel/generator/ALL --data '{\"rate\":1200}'
  What is dangerous is shown and its target's name is asked for, as by `challenge confirm`; in a script:
    swarmgate send gate-disable kestrel/ALL/ALL --data @disable.json --yes
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
    /// Wait until the router says how the command ended, over its API: 0 succeeded, 3 ended
    /// otherwise or refused, 1 still in flight.
    #[arg(long, conflicts_with_all = ["wait_ms", "dry_run"])]
    wait: bool,
    /// Wait so long at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    #[command(flatten)]
    access: Access,
    /// Consent to what is dangerous without being asked for the target's name; needed where there
    /// is no terminal.
    #[arg(long)]
    yes: bool,
    /// Consent to live by naming the target, with --yes; needed where there is no terminal.
    #[arg(long, value_name = "TARGET", requires = "yes")]
    live: Option<String>,
    /// Check and print, send nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Sends.
///
/// # Errors
/// When the arguments make no signal, consent was not given, or router or broker cannot be used.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let loaded = args.connect.config(globals)?;
    let prefix = loaded.config.amqp.prefix.clone();
    let message = message(&args, &prefix, signal::user(&loaded.config.amqp)?)?;
    let mut out = Out::new();
    if let Some(exit) = signal::refused_here(&loaded.contract, &message, globals, &mut out)? {
        return Ok(exit);
    }
    if args.dry_run {
        print(&message, globals, &mut out)?;
        return Ok(Exit::Done);
    }
    drop(out);
    if let Some(exit) = held_back(&args, &loaded, &message, globals).await? {
        return Ok(exit);
    }
    let mut router = match args.wait {
        true => Some(reached(&args, globals).await?),
        false => None,
    };
    let (_, bus) = args.connect.open(globals).await?;
    // Bound before the signal leaves, so that a quick answer is heard.
    let listening = match args.wait || args.wait_ms > 0 {
        true => listen(bus.as_ref(), &prefix, args.wait).await?,
        false => None,
    };
    if listening.is_none() && args.wait_ms > 0 {
        router = Some(reached(&args, globals).await?);
    }
    signal::publish(bus.as_ref(), &message, &prefix).await?;
    let mut out = Out::new();
    print(&message, globals, &mut out)?;
    sent::print(&args.access, &message, globals, &mut out).await?;
    if let Some(router) = router {
        drop(out);
        let exit = ended(&router, listening, &message, args.patience(), globals).await;
        bus.close().await;
        return exit;
    }
    let Some(consumer) = listening else {
        bus.close().await;
        return Ok(Exit::Done);
    };
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

/// The end where it is not to be sent: the router would not let this sender, or consent is lacking.
async fn held_back(
    args: &Args,
    loaded: &Loaded,
    message: &Message,
    globals: &Globals,
) -> Result<Option<Exit>, CliError> {
    let said: Value = serde_json::from_slice(&message.body).unwrap_or_default();
    let data = said.get("data").unwrap_or(&Value::Null);
    let may = match may::asks(&loaded.contract.commands, &args.kind_type, data) {
        Asks::Never => return Ok(None),
        Asks::First => may::ask(&args.access.router(globals)?, message).await?,
        Asks::Briefly => {
            let router = args.access.router(globals)?;
            match tokio::time::timeout(BRIEFLY, may::ask(&router, message)).await {
                Ok(Ok(may)) => may,
                // What mostly makes things safer does not wait; the router asks for a confirmation
                // where it does not.
                Ok(Err(_)) | Err(_) => return Ok(None),
            }
        }
    };
    if !may.allowed {
        return may::no(&may, globals).map(Some);
    }
    if may.dangerous {
        let echo = echo(args, &may, globals).await?;
        echo.show();
        let consent =
            Consent { word: &echo.target, live: echo.live, yes: args.yes, named: args.live.as_deref() };
        consent.obtain()?;
    }
    Ok(None)
}

/// The same in words as the command of its own has it.
async fn echo(args: &Args, may: &May, globals: &Globals) -> Result<Echo, CliError> {
    let scope = signal::scope(&may.target)?;
    let situation = Situation::look(&args.access, &scope, globals).await?;
    let operation = may.operation.clone().unwrap_or_default();
    let difference = may.difference.as_deref().and_then(|difference| difference.split_once("->"));
    Ok(Echo {
        operation: match args.kind_type.starts_with("challenge-") {
            true => format!("{} of {operation} for", args.kind_type),
            false => args.kind_type.clone(),
        },
        target: may.target.clone(),
        live: may.live,
        dangerous: true,
        environment: situation.environment(),
        difference: difference.map(|(from, to)| (from.trim().to_owned(), to.trim().to_owned())),
        standing: situation.standing(Some(scope.swarm_id.as_str()).filter(|swarm| *swarm != ALL)),
        effect: may.effect.clone().unwrap_or(operation),
        not_affected: may.not_affected.clone().unwrap_or_default(),
        sender: may.sender.clone(),
    })
}

/// The router that will be asked, once it has answered: what cannot be waited for is not sent.
async fn reached(args: &Args, globals: &Globals) -> Result<Router, CliError> {
    let router = args.access.router(globals)?;
    router.get("overview").await?;
    Ok(router)
}

impl Args {
    /// How long is waited.
    fn patience(&self) -> Duration {
        match self.wait {
            true => Duration::from_secs(self.timeout),
            false => Duration::from_millis(self.wait_ms),
        }
    }
}

/// Listens for answers: to a router that is asked how it ended only for the copy of what is refused
/// before it is a command, because an outcome of one target is not the end. Who may not listen on
/// the broker hears nothing, and may send.
async fn listen(
    bus: &dyn Bus,
    prefix: &str,
    asks_router: bool,
) -> Result<Option<Box<dyn Consumer>>, CliError> {
    let mut answers = vec![(format!("{prefix}.refused"), "#".to_owned())];
    if !asks_router {
        answers.push((format!("{prefix}.out"), ControlPlaneRouting::family_binding(Family::Outcome)));
    }
    match client::listen(bus, prefix, answers).await {
        Ok(consumer) => Ok(Some(consumer)),
        Err(fault) if fault.is_forbidden() => {
            aside("this user may not listen on the broker, so the router is asked how it ends");
            Ok(None)
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Waits for the end of what was sent; what is refused before it is a command has its end in the
/// copy of it.
async fn ended(
    router: &Router,
    consumer: Option<Box<dyn Consumer>>,
    sent: &Message,
    timeout: Duration,
    globals: &Globals,
) -> Result<Exit, CliError> {
    let body: Value = serde_json::from_slice(&sent.body).unwrap_or_default();
    let id = body.get("correlationId").and_then(Value::as_str).unwrap_or_default();
    let Some(consumer) = consumer else {
        // What was refused is never known there.
        let wait = Wait { router, id, timeout, unknown_max: timeout.min(AT_ONCE), was_reached: true };
        return match wait.shown(globals).await {
            Err(CliError::Access(fault)) if fault.is_unknown() => {
                let seconds = timeout.min(AT_ONCE).as_secs();
                aside(&format!(
                    "no command `{id}` was accepted within {seconds} s: it was refused, or the router has not read it yet; \
                     `swarmgate refused list` says which, to a user who may read there"
                ));
                Ok(Exit::Fault)
            }
            told => told,
        };
    };
    let wait = Wait { router, id, timeout, unknown_max: timeout, was_reached: true };
    tokio::select! {
        exit = wait.shown(globals) => exit,
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
        out.line(&super::tail::one_line(message))
    }
}
