//! `swarmgate explain`: what a routing key or a reason code means.
//!
//! Owns: putting the contract's own tables into words.
//! Never: asks a broker or a ledger.
//! Holds: what it says is read from the tables the gates read.

use serde_json::{Value, json};

use super::{CliError, Exit, Globals};
use crate::contract::{
    command::{Answerer, FanOut},
    lane::Lane,
    reason::Reason,
    routing::{ControlPlaneRouting, Family, RoutingKey},
};

/// Explain a routing key or a reason code.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  swarmgate explain signal.swarm-start.kestrel.swarm-controller.ctl-1
  swarmgate explain routing.mismatch")]
pub struct Args {
    /// A routing key, or a reason code such as `contract.schema`.
    #[arg(value_name = "KEY")]
    what: String,
}

/// Explains.
pub fn run(args: &Args, globals: &Globals) -> Result<Exit, CliError> {
    let (explained, exit) = match Reason::from_code(&args.what) {
        Some(reason) => (explain_reason(reason), Exit::Done),
        None => match ControlPlaneRouting::parse(&args.what) {
            Ok(key) => (explain_key(&key, globals)?, Exit::Done),
            Err(refusal) => (
                json!({
                    "key": args.what, "wellFormed": false, "reason": refusal.reason, "detail": refusal.detail,
                    "rule": refusal.reason.rule(), "nextStep": refusal.reason.next_step(),
                }),
                Exit::Fault,
            ),
        },
    };
    if globals.is_json() {
        println!("{explained}");
    } else {
        print_text(&explained);
    }
    Ok(exit)
}

fn explain_reason(reason: Reason) -> Value {
    json!({
        "reason": reason, "gate": reason.gate(), "rule": reason.rule(), "nextStep": reason.next_step(),
        "page": format!("docs/reasons/{reason}.md"),
    })
}

fn explain_key(key: &RoutingKey, globals: &Globals) -> Result<Value, CliError> {
    let loaded = globals.config()?;
    let commands = &loaded.contract.commands;
    let prefix = &loaded.config.amqp.prefix;
    let lane = Lane::of(key.family, &key.kind_type, commands);
    let mut explained = json!({
        "wellFormed": true, "family": key.family, "kind": key.family.kind(), "type": key.kind_type,
        "scope": key.scope, "fansOut": key.scope.fans_out(), "lane": lane,
        "queue": format!("{prefix}.in.{lane}"),
        "saidBy": said_by(key),
        "heardOn": format!("{prefix}.out"),
        "heardBy": heard_by(key),
    });
    if key.family == Family::Signal
        && let Some(fields) = explained.as_object_mut()
    {
        let command = match commands.get(&key.kind_type) {
            Some(command) => json!({
                "class": command.class,
                "success": command.success,
                "answeredBy": match command.answered_by {
                    Answerer::Target => "the target, by its outcome",
                    Answerer::Router => "the router",
                    Answerer::RouterAndTarget => "the router, and it is carried to the target too",
                },
                "fanOut": match command.fan_out {
                    FanOut::None => "one instance only",
                    FanOut::Instances => "s.r.ALL, s.ALL.ALL, ALL.r.ALL, ALL.ALL.ALL",
                    FanOut::GlobalOrSwarm => "ALL.ALL.ALL (global) or s.ALL.ALL (one swarm)",
                },
                "deadlineMs": command.deadline_ms,
            }),
            None => json!({ "reason": Reason::UnknownType, "nextStep": Reason::UnknownType.next_step() }),
        };
        fields.insert("command".to_owned(), command);
    }
    Ok(explained)
}

fn said_by(key: &RoutingKey) -> String {
    match key.family {
        Family::Signal => "whoever `origin` names; the AMQP user-id, where given, must agree".to_owned(),
        _ => format!("only the instance `{}` of role `{}` itself", key.scope.instance, key.scope.role),
    }
}

fn heard_by(key: &RoutingKey) -> Vec<String> {
    match key.family {
        Family::Signal => ControlPlaneRouting::signal_bindings(&key.kind_type, &key.scope),
        family => vec![ControlPlaneRouting::family_binding(family)],
    }
}

/// One `name: value` a line; nested objects are indented.
fn print_text(value: &Value) {
    fn lines(value: &Value, indent: usize) {
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            let pad = " ".repeat(indent);
            match value {
                Value::Object(_) => {
                    println!("{pad}{name}:");
                    lines(value, indent + 2);
                }
                Value::String(text) => println!("{pad}{name}: {text}"),
                Value::Array(values) => {
                    let shown: Vec<String> = values
                        .iter()
                        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                        .collect();
                    println!("{pad}{name}: {}", shown.join("  "));
                }
                other => println!("{pad}{name}: {other}"),
            }
        }
    }
    lines(value, 0);
}
