//! `swarmgate refused`: what was refused, why, and sending it again once it is mended elsewhere.
//!
//! Owns: reading the refused queue without taking from it, and choosing what is replayed from it.
//! Never: takes a copy off the queue before the broker has its replay.
//! Holds: list and show leave every copy where it was (marked redelivered, as a broker does).

mod replay;

use std::time::Duration;

use serde_json::{Value, json};

use super::{CliError, Exit, Globals, Out, access::Access, client::Connect, output::aside, signal};
use crate::{
    bus::{Bus, Consumer, Delivery},
    contract::{message::Message, reason::Reason},
    runtime::topology,
};

/// How long a read waits for the next copy before it takes the queue for empty.
const EMPTY_AFTER: Duration = Duration::from_millis(500);
/// Look at refused messages, and send them again.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  What was refused, and why:
    swarmgate refused list
  One of them whole, with what to do:
    swarmgate refused show 3f0c….42.0
  After the fault is mended, send them again:
    swarmgate refused replay --all --reason contract.unknown-type")]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    connect: Connect,
    /// Look at no more than this many copies, the oldest; all of them when left out.
    #[arg(long, global = true, default_value_t = usize::from(u16::MAX), hide_default_value = true, value_name = "COUNT")]
    limit: usize,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// One line a copy, newest first: when, which id, why, who sent it.
    #[command(after_help = "EXAMPLES:\n  swarmgate refused list --reason contract.schema")]
    List {
        /// Only this reason code.
        #[arg(long, value_name = "CODE")]
        reason: Option<String>,
    },
    /// One copy whole.
    #[command(after_help = "EXAMPLES:\n  swarmgate refused show ID")]
    Show {
        /// Its message-id, as `list` prints it.
        id: String,
    },
    /// Send signals again as your own, and wait for the router's verdict: 0 it took every one, 3 it
    /// refused one again, 1 one stays or nobody knows.
    #[command(
        after_help = "EXAMPLES:\n  swarmgate refused replay ID\n  swarmgate refused replay --all --reason contract.unknown-type"
    )]
    Replay {
        /// Its message-id.
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// Every copy (of --reason, where given).
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// Only this reason code.
        #[arg(long, value_name = "CODE")]
        reason: Option<String>,
        /// Who is asked what became of it.
        #[command(flatten)]
        access: Access,
    },
}

/// Looks or replays.
///
/// # Errors
/// When the broker cannot be used, or a code is none.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let (loaded, bus) = args.connect.open(globals).await?;
    let prefix = &loaded.config.amqp.prefix;
    let prefetch = u16::try_from(args.limit).unwrap_or(u16::MAX);
    let mut consumer = bus.consumer(&topology::refused_queue(prefix), prefetch).await?;
    let settler = consumer.settler();
    let copies = read(consumer.as_mut(), args.limit).await?;
    let mut out = Out::new();
    let exit = match args.what {
        What::List { reason } => {
            let reason = known(reason)?;
            for copy in copies.iter().rev().filter(|copy| is_of(copy, reason)) {
                list(&copy.message, globals, &mut out)?;
            }
            if copies.len() >= args.limit {
                aside(&format!("the oldest {} were looked at; there may be more (--limit)", copies.len()));
            }
            Exit::Done
        }
        What::Show { id } => show(found(&copies, &id)?, globals, &mut out)?,
        What::Replay { id, reason, access, .. } => {
            let reason = known(reason)?;
            let chosen = match &id {
                Some(id) => vec![found(&copies, id)?],
                None => copies.iter().collect(),
            };
            let way = replay::ReplayRoute {
                bus: bus.as_ref(),
                settler: settler.as_ref(),
                loaded: &loaded,
                user: signal::user(&loaded.config.amqp)?,
                router: access.router(globals)?,
            };
            let chosen = chosen.into_iter().filter(|copy| is_of(copy, reason));
            way.replay(chosen.collect(), globals, &mut out).await?
        }
    };
    // What was not replayed goes back, in its order, with the consumer.
    settler.close().await;
    bus.close().await;
    Ok(exit)
}

fn known(code: Option<String>) -> Result<Option<Reason>, CliError> {
    let Some(code) = code else { return Ok(None) };
    Reason::from_code(&code).map(Some).ok_or_else(|| CliError::Usage {
        message: format!("`{code}` is no reason code"),
        help: "docs/reasons lists them; `swarmgate explain CODE` explains one".to_owned(),
    })
}

fn reason_of(message: &Message) -> &str {
    message.properties.header_text("x-swarmgate-reason").unwrap_or("unknown")
}

fn is_of(copy: &Delivery, reason: Option<Reason>) -> bool {
    reason.is_none_or(|reason| reason_of(&copy.message) == reason.code())
}

/// The copy of that message-id.
fn found<'a>(copies: &'a [Delivery], id: &str) -> Result<&'a Delivery, CliError> {
    let has_id = |copy: &&Delivery| copy.message.properties.message_id.as_deref() == Some(id);
    copies.iter().find(has_id).ok_or_else(|| CliError::Usage {
        message: format!("no refused copy has the id `{id}`"),
        help: "`swarmgate refused list` prints the ids; a larger --limit looks further".to_owned(),
    })
}

async fn read(consumer: &mut dyn Consumer, limit: usize) -> Result<Vec<Delivery>, CliError> {
    let mut copies = Vec::new();
    while copies.len() < limit
        && let Ok(more) = tokio::time::timeout(EMPTY_AFTER, consumer.next(limit - copies.len())).await
    {
        let more = more?;
        if more.is_empty() {
            break;
        }
        copies.extend(more);
    }
    Ok(copies)
}

fn list(message: &Message, globals: &Globals, out: &mut Out) -> Result<(), CliError> {
    let header = |name| message.properties.header_text(name).unwrap_or_default();
    let (id, detail) =
        (message.properties.message_id.as_deref().unwrap_or("-"), header("x-swarmgate-detail"));
    let (reason, pointer) = (reason_of(message), header("x-swarmgate-pointer"));
    let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
    let said = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("-");
    let (at, origin) = (said("timestamp"), said("origin"));
    let sender = Some(header("x-swarmgate-principal")).filter(|name| !name.is_empty()).unwrap_or(origin);
    if globals.is_json() {
        return out.json(&json!({
            "id": id, "timestamp": at, "sender": sender, "reason": reason, "detail": detail, "pointer": pointer, "routingKey": message.routing_key,
            "principal": header("x-swarmgate-principal"), "bytes": message.body.len(),
        }));
    }
    out.line(&format!(
        "{at:<28} {id}  {reason:<26} {}  from {sender}  {pointer} {detail}",
        message.routing_key
    ))
}

fn show(copy: &Delivery, globals: &Globals, out: &mut Out) -> Result<Exit, CliError> {
    let reason = Reason::from_code(reason_of(&copy.message));
    let (rule, next) = reason.map_or(("", ""), |reason| (reason.rule(), reason.next_step()));
    if globals.is_json() {
        out.json(&json!({ "message": super::tail::shown(&copy.message), "rule": rule, "nextStep": next }))?;
    } else {
        out.line(&super::tail::one_line(&copy.message))?;
        out.line(&format!("  rule: {rule}"))?;
        out.line(&format!("  next: {next}"))?;
        for (name, value) in &copy.message.properties.headers {
            out.line(&format!("  {name}: {}", super::route::shown(value)))?;
        }
        // Each line of it is marked as the body's, so that none looks like ours.
        for line in String::from_utf8_lossy(&copy.message.body).lines() {
            out.line(&format!("  | {line}"))?;
        }
    }
    Ok(Exit::Done)
}
