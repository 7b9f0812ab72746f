//! `swarmgate safety`: safety modes, readiness gates and monitoring, seen and set by hand.
//!
//! Owns: the subcommands, and which step is a loosening as far as the terminal can know.
//! Never: loosens without consent; where it takes a step for a tightening by mistake, the router
//! still challenges it.
//! Holds: what is not known is shown as UNKNOWN.

mod accept_clock;
mod text;

use serde_json::json;

use super::{
    CliError, Exit, Globals, Out,
    echo::Echo,
    order::{Flags, Manner, Order, Way},
    situation::Situation,
};
use crate::{
    clock,
    contract::{
        interlock::{GateResult, SafetyMode as Mode},
        routing::{ALL, Scope},
    },
};

/// See and set safety modes and readiness gates.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  What holds now, everywhere:
    swarmgate safety
  No start, resume or config-update from now on, in one swarm or in the fleet; nobody is asked:
    swarmgate safety set SAFE --swarm kestrel --reason 'feed is late'
    swarmgate safety set EMERGENCY_STOP --reason 'books do not agree'
  Back to normal: dangerous, so consent and a confirmation are asked for:
    swarmgate safety set NORMAL --reason 'feed is well again' --wait-consent
  What a readiness gate says:
    swarmgate safety gate report market-data PASS --for 5m
  The clock was wrong and is right now, and `safety` says that it does not agree with the ledger:
    swarmgate safety accept-clock --reason 'the clock was a year ahead'")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    way: Way,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Modes, kill switches, gates and the latch.
    #[command(after_help = "EXAMPLES:\n  swarmgate safety show\n  swarmgate safety show --output json")]
    Show,
    /// Raise a safety mode at once, or ask to lower it.
    #[command(after_help = "EXAMPLES:
  swarmgate safety set SAFE --swarm kestrel --reason 'feed is late'
  In a script, to lower it:
    swarmgate safety set NORMAL --reason 'feed is well again' --yes")]
    Set(Set),
    /// Go on from the clock although it does not agree with the ledger; dangerous.
    #[command(after_help = "EXAMPLES:
  swarmgate safety accept-clock --reason 'the clock was a year ahead, and is right now'")]
    AcceptClock {
        /// Why; it is written into the ledger.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        manner: Manner,
        #[command(flatten)]
        flags: Flags,
    },
    /// Readiness gates.
    #[command(
        subcommand,
        after_help = "EXAMPLES:
  swarmgate safety gate report market-data FAIL --reason 'no ticks for 10 s'
  swarmgate safety gate disable market-data --for 30m --reason 'exchange is closed'
  swarmgate safety gate enable market-data"
    )]
    Gate(GateAct),
    /// Whether the fleet is watched.
    #[command(
        subcommand,
        after_help = "EXAMPLES:
  swarmgate safety monitoring disable --for 30m --reason 'network maintenance'
  swarmgate safety monitoring enable"
    )]
    Monitoring(MonitoringAct),
}

#[derive(Debug, clap::Args)]
struct Set {
    /// NORMAL, SAFE or EMERGENCY_STOP.
    #[arg(value_name = "MODE", ignore_case = true)]
    mode: Mode,
    #[command(flatten)]
    common: Common,
    /// Why; it is written into the ledger.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// What every order of this page takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// Only this swarm; the whole fleet when absent.
    #[arg(long, value_name = "SWARM")]
    swarm: Option<String>,
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Subcommand)]
enum GateAct {
    /// Say what a gate's result is; taken from its reporter.
    #[command(after_help = "EXAMPLES:\n  swarmgate safety gate report market-data PASS --for 5m")]
    Report {
        /// The gate's name.
        gate: String,
        /// PASS, WARN, FAIL or UNKNOWN.
        #[arg(ignore_case = true)]
        result: GateResult,
        /// How long it holds, like 90s, 5m or 2h; then the gate is UNKNOWN.
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        for_ms: Option<u64>,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Let a gate count again, at once.
    #[command(after_help = "EXAMPLES:\n  swarmgate safety gate enable market-data")]
    Enable {
        /// The gate's name.
        gate: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Let a gate count for nothing, for a time; dangerous.
    #[command(after_help = "EXAMPLES:
  swarmgate safety gate disable market-data --for 30m --reason 'exchange is closed'")]
    Disable {
        /// The gate's name.
        gate: String,
        /// How long, like 90s, 5m or 2h; then it counts again by itself.
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        for_ms: u64,
        /// Why; it is written into the ledger.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Subcommand)]
enum MonitoringAct {
    /// Watch again, at once.
    #[command(after_help = "EXAMPLES:\n  swarmgate safety monitoring enable")]
    Enable {
        #[command(flatten)]
        common: Common,
    },
    /// Look away for a time; dangerous.
    #[command(after_help = "EXAMPLES:
  swarmgate safety monitoring disable --for 30m --reason 'network maintenance'")]
    Disable {
        /// How long, like 90s, 5m or 2h; then it is watched again by itself.
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        for_ms: u64,
        /// Why; it is written into the ledger.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Shows or asks.
///
/// # Errors
/// When consent was not given, or router or broker cannot be used.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let way = &args.way;
    match args.what {
        None | Some(What::Show) => show(way, globals).await,
        Some(What::Set(args)) => set(args, way, globals).await,
        Some(What::AcceptClock { reason, manner, flags }) => {
            accept_clock::run(reason, &manner, &flags, way, globals).await
        }
        Some(What::Gate(act)) => gate(act, way, globals).await,
        Some(What::Monitoring(act)) => monitoring(act, way, globals).await,
    }
}

/// The scope of a swarm, or of the fleet.
pub fn scope(swarm: Option<&str>) -> Scope {
    Scope::new(swarm.unwrap_or(ALL), ALL, ALL)
}

async fn show(way: &Way, globals: &Globals) -> Result<Exit, CliError> {
    let router = way.access.router(globals)?;
    let answer = router.get("safety").await?;
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&answer)?;
    } else {
        out.text(&text::of(&router.read(&answer)?, clock::wall()))?;
    }
    Ok(Exit::Done)
}

async fn set(args: Set, way: &Way, globals: &Globals) -> Result<Exit, CliError> {
    let (common, mode) = (args.common, args.mode);
    let scope = scope(common.swarm.as_deref());
    // NORMAL is never a tightening, so it is not asked for blindly.
    let situation = match mode {
        Mode::Normal => Situation::look(&way.access, &scope, globals).await?,
        Mode::Safe | Mode::EmergencyStop => Situation::glance(&way.access, &scope, globals).await,
    };
    let before = situation.mode(common.swarm.as_deref());
    let loosens = before.map_or(mode == Mode::Normal, |before| mode < before);
    let mut not_affected = vec!["readiness gates, and what runs".to_owned()];
    if loosens {
        not_affected.push("nothing starts by it; a kill switch that was thrown stays thrown".to_owned());
        if common.swarm.is_some() && situation.mode(None).is_some_and(|global| global > mode) {
            not_affected.push("the fleet's own mode, which is stronger and still applies".to_owned());
        }
    }
    let effect = match mode {
        Mode::Normal => "starts, resumes and config updates pass again, where gates and kill switch let them",
        Mode::Safe => {
            "no start, resume, config-update or destructive operation passes; stop and diagnosis do"
        }
        Mode::EmergencyStop => {
            "the same as SAFE, with the kill switch at BLOCK, until it is lowered by consent"
        }
    };
    let echo = Echo {
        operation: "safety-set".to_owned(),
        dangerous: loosens,
        difference: Some((before.map_or("UNKNOWN", Mode::word).to_owned(), mode.word().to_owned())),
        effect: effect.to_owned(),
        not_affected,
        ..told(&common, None, &situation, way, globals)?
    };
    let data = json!({ "mode": mode, "reason": args.reason });
    let order = Order { kind_type: "safety-set", scope, data, echo };
    order.give(way, (&common.manner, &common.flags, None), globals).await
}

async fn gate(act: GateAct, way: &Way, globals: &Globals) -> Result<Exit, CliError> {
    let now = clock::wall();
    let (kind_type, gate, common, to, until, reason) = match act {
        GateAct::Report { gate, result, for_ms, reason, common } => {
            ("gate-report", gate, common, result.word().to_owned(), for_ms.map(|ms| now.plus_ms(ms)), reason)
        }
        GateAct::Enable { gate, reason, common } => {
            ("gate-enable", gate, common, "enabled".to_owned(), None, reason)
        }
        GateAct::Disable { gate, for_ms, reason, common } => {
            ("gate-disable", gate, common, "disabled".to_owned(), Some(now.plus_ms(for_ms)), Some(reason))
        }
    };
    let scope = scope(common.swarm.as_deref());
    let disables = kind_type == "gate-disable";
    let situation = match disables {
        true => Situation::look(&way.access, &scope, globals).await?,
        false => Situation::glance(&way.access, &scope, globals).await,
    };
    let known =
        situation.safety.as_ref().and_then(|safety| safety.gates.iter().find(|known| known.gate == gate));
    let before = known.and_then(|known| known.result.clone());
    // A good word over a FAIL is a loosening where nobody is named as the gate's reporter.
    let eases = kind_type == "gate-report"
        && matches!(to.as_str(), "PASS" | "WARN")
        && before.as_deref() == Some("FAIL")
        && known.is_some_and(|known| known.reporter.is_none());
    let effect = match (kind_type, until) {
        ("gate-report", Some(until)) if to == "FAIL" => {
            format!("the gate says FAIL until {until}, and holds starts up until it is cleared")
        }
        ("gate-report", Some(until)) => format!("the gate says {to} until {until}, then UNKNOWN"),
        ("gate-report", None) => format!("the gate says {to}"),
        ("gate-disable", Some(until)) => {
            format!("the gate holds nothing up until {until}, then counts again")
        }
        _ => "the gate counts again".to_owned(),
    };
    let mut data = json!({ "gate": gate });
    let fields = [
        ("result", (kind_type == "gate-report").then(|| to.clone())),
        ("expiresAt", until.map(|until| until.to_string())),
        ("reason", reason),
    ];
    for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        data[name] = json!(value);
    }
    let echo = Echo {
        operation: kind_type.to_owned(),
        dangerous: disables || eases,
        difference: Some((before.unwrap_or_else(|| "UNKNOWN".to_owned()), to)),
        effect,
        not_affected: vec!["other gates, safety mode and kill switch; what runs".to_owned()],
        ..told(&common, Some(&gate), &situation, way, globals)?
    };
    let order = Order { kind_type, scope, data, echo };
    order.give(way, (&common.manner, &common.flags, None), globals).await
}

async fn monitoring(act: MonitoringAct, way: &Way, globals: &Globals) -> Result<Exit, CliError> {
    let (kind_type, common, data, effect) = match act {
        MonitoringAct::Enable { common } => {
            ("monitoring-enable", common, json!({}), "silence counts again".to_owned())
        }
        MonitoringAct::Disable { for_ms, reason, common } => {
            let until = clock::wall().plus_ms(for_ms);
            let effect = format!("nobody is alerted of silence until {until}; what is not seen is UNKNOWN");
            ("monitoring-disable", common, json!({ "reason": reason, "expiresAt": until }), effect)
        }
    };
    let scope = scope(common.swarm.as_deref());
    let dangerous = kind_type == "monitoring-disable";
    let situation = match dangerous {
        true => Situation::look(&way.access, &scope, globals).await?,
        false => Situation::glance(&way.access, &scope, globals).await,
    };
    let echo = Echo {
        operation: kind_type.to_owned(),
        dangerous,
        effect,
        not_affected: vec!["safety mode, kill switch and gates; what runs".to_owned()],
        ..told(&common, None, &situation, way, globals)?
    };
    let order = Order { kind_type, scope, data, echo };
    order.give(way, (&common.manner, &common.flags, None), globals).await
}

/// What every echo of this page begins with; the target is the gate, where it is one, else the
/// scope in a word.
fn told(
    common: &Common,
    gate: Option<&str>,
    situation: &Situation,
    way: &Way,
    globals: &Globals,
) -> Result<Echo, CliError> {
    let swarm = common.swarm.as_deref();
    Ok(Echo {
        target: gate.or(swarm).unwrap_or(ALL).to_owned(),
        environment: situation.environment(),
        standing: situation.standing(swarm),
        sender: way.sender(&common.manner, globals)?,
        ..Echo::default()
    })
}

/// Reads a time like `90s`, `5m` or `2h`, as milliseconds.
fn span(text: &str) -> Result<u64, String> {
    let fault = || "write it like 90s, 5m or 2h".to_owned();
    let (digits, seconds) = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .ok_or_else(fault)?;
    let count: u64 = digits.parse().map_err(|_| fault())?;
    count.checked_mul(seconds * 1000).filter(|ms| *ms > 0).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!((span("90s"), span("5m"), span("2h")), (Ok(90_000), Ok(300_000), Ok(7_200_000)));
        for bad in ["", "5", "m", "-5m", "0s", "1.5h", "5 m", "99999999999999999999s", "9999999999999999999s"]
        {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
