//! `swarmgate kill`: the kill switch, by file and by signal.
//!
//! Owns: the order of the two: first the latch file, which needs nobody, then the signal, which is
//! quicker; and the name of the stop that follows.
//! Never: loosens by the way: a level below what holds is not sent, and a latch file is never
//! removed here.
//! Holds: one of the two is enough; when both fail it says so, with what is left to do.

use std::path::PathBuf;

use serde_json::json;

use super::{
    CliError, Exit, Globals, Out,
    echo::{Echo, whole},
    follow,
    order::{Flags, Manner, Order, Way},
    output::aside,
    runbook, safety,
    situation::Situation,
    stopping::Stop,
};
use crate::{
    clock,
    contract::{interlock::KillSwitch as Level, routing::ALL},
    runtime::latch::{self, Before, Latch, Thrown},
};

/// Throw the kill switch; works when broker, ledger or API do not.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Stop the whole fleet and let nothing start:
    swarmgate kill --reason 'prices look wrong'
  The same, and see who has stopped and who has not:
    swarmgate kill --reason 'prices look wrong' --wait-stopped
  One swarm; let it only reduce what it does:
    swarmgate kill CLOSE_ONLY --swarm kestrel --reason 'margin is thin'
  On the router's host, when nothing else answers:
    swarmgate kill --latch-only --ledger /var/lib/swarmgate --reason 'broker is gone'
  Afterwards: dangerous, so consent and a confirmation are asked for:
    swarmgate kill --lift --reason 'prices are right again' --wait-consent")]
pub struct Args {
    /// CLOSE_ONLY, FLATTEN or BLOCK; FLATTEN when absent. With --lift, the level to come down to:
    /// ALLOW when absent.
    #[arg(value_name = "LEVEL", ignore_case = true)]
    level: Option<Level>,
    /// Why; it is written into the latch and the ledger.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only this swarm; the whole fleet when absent.
    #[arg(long, value_name = "SWARM")]
    swarm: Option<String>,
    /// Write the latch file, and send nothing.
    #[arg(long, conflicts_with = "lift")]
    latch_only: bool,
    /// The directory of the router's ledger, for the latch file; ledger.dir of the config when
    /// absent.
    #[arg(long, value_name = "DIR", conflicts_with = "lift")]
    ledger: Option<PathBuf>,
    /// Wait on until everyone that FLATTEN stops has answered, and show who has stopped and who has
    /// not; asks the router's API. 3 when the stop ends without everyone, 1 when it has not ended.
    #[arg(long, conflicts_with_all = ["lift", "latch_only", "no_wait", "dry_run"])]
    wait_stopped: bool,
    /// Ask to loosen it instead.
    #[arg(long)]
    lift: bool,
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    way: Way,
}

/// Throws or lifts.
///
/// # Errors
/// When neither the latch could be written nor the signal sent; when lifting, as any order.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    if args.lift {
        return lift(&args, globals).await;
    }
    let level = args.level.unwrap_or(Level::Flatten);
    if level == Level::Allow {
        return Err(CliError::Usage {
            message: "ALLOW is no way to throw the switch".to_owned(),
            help: "to loosen it: swarmgate kill --lift --reason WHY".to_owned(),
        });
    }
    let latched = match args.manner.dry_run {
        true => None,
        false => Some(throw(&args, level, globals)),
    };
    if let Some(latched) = &latched {
        tell(latched, globals)?;
    }
    if args.latch_only {
        if let Some(Ok(thrown)) = latched.as_ref().filter(|_| !globals.is_json()) {
            aside(&format!("the router reads it by itself{}", follow_up(&thrown.latch.level)));
        }
        return latched.unwrap_or_else(|| Err(nothing_to_try())).map(|_| Exit::Done);
    }
    let sent = send(&args, level, globals).await;
    let Some(Ok(thrown)) = latched else { return stopped(&args, level, sent?, globals).await };
    match sent {
        Ok(sent @ (Exit::Done, _)) => stopped(&args, level, sent, globals).await,
        Ok(_) => {
            aside(&stands(&thrown));
            Ok(Exit::Fault)
        }
        Err(CliError::ReaderGone) => Err(CliError::ReaderGone),
        Err(fault) => {
            fault.print(globals.is_json());
            if !globals.is_json() {
                aside(&stands(&thrown));
            }
            Ok(Exit::Fault)
        }
    }
}

/// Names the stop that was ordered, and waits for it where that was asked for.
async fn stopped(
    args: &Args,
    level: Level,
    (exit, stop): (Exit, Option<Stop>),
    globals: &Globals,
) -> Result<Exit, CliError> {
    if let Some(stop) = &stop {
        stop.show(&args.way.access, globals).await?;
    }
    match stop {
        _ if exit != Exit::Done || !args.wait_stopped => Ok(exit),
        Some(stop) => {
            let loaded = args.way.connect.config(globals)?;
            let timeout = follow::patience("bot-stop", &loaded, &args.manner);
            stop.ended(&args.way.access, timeout, globals).await
        }
        None if level == Level::Flatten => Ok(exit),
        None => {
            aside(&format!("{level} stops nothing that runs: there is no stop to wait for"));
            Ok(exit)
        }
    }
}

fn nothing_to_try() -> CliError {
    CliError::Usage {
        message: "a latch alone cannot be tried without writing it".to_owned(),
        help: "leave out --dry-run or --latch-only".to_owned(),
    }
}

fn stands(thrown: &Thrown) -> String {
    let path = thrown.path.display();
    format!(
        "the latch {path} stands all the same: the router reads it by itself{}",
        follow_up(&thrown.latch.level)
    )
}

/// How the stop is found that a router orders when it reads a latch.
fn follow_up(level: &str) -> &'static str {
    match level == Level::Flatten.word() {
        true => "; `swarmgate commands` then lists the bot-stop that it orders",
        false => "",
    }
}

/// Writes the latch. A config that cannot be read does not stand in the way of a directory that was
/// named.
fn throw(args: &Args, level: Level, globals: &Globals) -> Result<Thrown, CliError> {
    let dir = match &args.ledger {
        Some(dir) => dir.clone(),
        None => globals.config_with(Vec::new())?.config.ledger.dir,
    };
    let user = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
    let by = args.manner.origin.clone().or_else(user).filter(|name| !name.is_empty());
    let wanted = Latch {
        level: level.word().to_owned(),
        scope: args.swarm.clone().unwrap_or_else(|| ALL.to_owned()),
        reason: args.reason.clone(),
        by: by.unwrap_or_else(|| "somebody at the router's host".to_owned()),
        since: clock::wall(),
    };
    Ok(latch::throw(&dir, wanted)?)
}

/// Tells what became of the latch; a latch that could not be written is no end yet.
fn tell(latched: &Result<Thrown, CliError>, globals: &Globals) -> Result<(), CliError> {
    let thrown = match latched {
        Ok(thrown) => thrown,
        // Where it is the last word, it is told as the error that it is.
        Err(fault) if !globals.is_json() => {
            aside(&whole(&format!("no latch: {fault}")));
            return Ok(());
        }
        Err(_) => return Ok(()),
    };
    let mut out = Out::new();
    let latch = &thrown.latch;
    if globals.is_json() {
        let changed = thrown.before != Before::Latch(latch.clone());
        return out.json(&json!({
            "latch": latch, "path": thrown.path, "changed": changed, "warnings": thrown.warnings,
        }));
    }
    for warning in &thrown.warnings {
        aside(&format!("warning: {warning}"));
    }
    let before = match &thrown.before {
        Before::Nothing => "new".to_owned(),
        Before::Latch(there) if there == latch => format!("it was there already, by {}", there.by),
        Before::Latch(there) => format!("it was {} for {}", there.level, there.scope),
        Before::Unreadable => "what was there could not be read, and counts as the strongest".to_owned(),
    };
    let line = format!("latch: {} for {} in {} ({before})", latch.level, latch.scope, thrown.path.display());
    out.line(&whole(&line))
}

/// Sends; the stop is the one that the router says it has ordered.
async fn send(args: &Args, level: Level, globals: &Globals) -> Result<(Exit, Option<Stop>), CliError> {
    let swarm = args.swarm.as_deref();
    let scope = safety::scope(swarm);
    let situation = Situation::glance(&args.way.access, &scope, globals).await;
    let before = situation.level(swarm);
    let mut echo = Echo {
        operation: "kill-switch-set".to_owned(),
        target: swarm.unwrap_or(ALL).to_owned(),
        environment: situation.environment(),
        difference: Some((unknown_or(before), level.word().to_owned())),
        standing: situation.standing(swarm),
        effect: effect(level).to_owned(),
        not_affected: vec!["stop, status, diagnosis and evidence: they always pass".to_owned()],
        sender: args.way.sender(&args.manner, globals)?,
        ..Echo::default()
    };
    let mut order = Order {
        kind_type: "kill-switch-set",
        data: json!({ "level": level, "reason": args.reason }),
        scope,
        echo: Echo::default(),
    };
    if let Some(before) = before.filter(|before| *before > level) {
        // Down to what was asked for would be a loosening; the stops that FLATTEN means are sent
        // all the same.
        aside(&format!("the kill switch stands at {} already, which is stronger", before));
        if level != Level::Flatten {
            return Ok((Exit::Done, None));
        }
        order.kind_type = "bot-stop";
        order.data = json!({ "requestedTransition": "ANY->IDLE", "reason": args.reason });
        echo.operation = "bot-stop".to_owned();
        echo.target = order.scope.to_string();
        echo.difference = Some(("any state".to_owned(), "IDLE".to_owned()));
        echo.effect = "every running instance stops; the kill switch stays as it is".to_owned();
    }
    order.echo = echo;
    order.give_with_stop(&args.way, (&args.manner, &args.flags, None), globals).await
}

async fn lift(args: &Args, globals: &Globals) -> Result<Exit, CliError> {
    let swarm = args.swarm.as_deref();
    let scope = safety::scope(swarm);
    let to = args.level.unwrap_or(Level::Allow);
    let situation = Situation::look(&args.way.access, &scope, globals).await?;
    let before = situation.level(swarm);
    if let Some(before) = before.filter(|before| *before < to) {
        return Err(CliError::Usage {
            message: format!("{} is stronger than {}, which holds", to, before),
            help: format!("to tighten it: swarmgate kill {} --reason WHY", to),
        });
    }
    let mut not_affected = vec!["nothing that was stopped starts again by it".to_owned()];
    not_affected.push("safety mode and gates, which still hold back what they held back".to_owned());
    if swarm.is_some() && situation.level(None).is_some_and(|global| global > to) {
        not_affected.push("the fleet's own kill switch, which is stronger and still applies".to_owned());
    }
    let latched = situation.safety.as_ref().is_some_and(|safety| safety.latch.is_some());
    let echo = Echo {
        operation: "kill-switch-set".to_owned(),
        target: swarm.unwrap_or(ALL).to_owned(),
        dangerous: true,
        environment: situation.environment(),
        difference: Some((unknown_or(before), to.word().to_owned())),
        standing: situation.standing(swarm),
        effect: match latched {
            true => format!("{}; the router removes its latch file", effect(to)),
            false => effect(to).to_owned(),
        },
        not_affected,
        sender: args.way.sender(&args.manner, globals)?,
        ..Echo::default()
    };
    let data = json!({ "level": to, "reason": args.reason });
    let order = Order { kind_type: "kill-switch-set", scope, data, echo };
    let exit = order.give(&args.way, (&args.manner, &args.flags, None), globals).await?;
    if exit == Exit::Refused && !globals.is_json() {
        aside(&format!("the latch file is the router's to remove; runbook: {}", runbook::KILL_SWITCH));
    }
    Ok(exit)
}

fn unknown_or(level: Option<Level>) -> String {
    level.map_or("UNKNOWN", Level::word).to_owned()
}

fn effect(level: Level) -> &'static str {
    match level {
        Level::Allow => "starts, resumes and config updates pass again, where safety mode and gates let them",
        Level::CloseOnly => "only what reduces activity passes; what runs goes on",
        Level::Flatten => "every running instance is told to stop, and only what reduces activity passes",
        Level::Block => "only stop, status, diagnosis, evidence and tightening pass; what runs goes on",
    }
}
