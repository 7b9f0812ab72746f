//! `swarmgate bot`: init, start, stop, pause, resume, quarantine and release, by hand.
//!
//! Owns: the transition that each asks for, and what is told of it before it leaves.
//! Never: chooses a mode: live is said each time, and never carried over from the last run.
//! Holds: stop, pause and quarantine wait for nobody's consent and for no answer of the API.

use serde_json::{Map, Value};

use super::{
    CliError, Exit, Globals,
    echo::Echo,
    order::{Flags, Manner, Order, Way},
    signal,
    situation::Situation,
};
use crate::contract::{
    interlock::RunMode,
    routing::{ALL, Scope},
};

/// Set up, start, stop, pause, resume, quarantine or release bots.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Make a bot known to the router, once; until then it cannot be started:
    swarmgate bot init kestrel/trader/t-1
  Start on paper; what state it is in now is asked of the router:
    swarmgate bot start kestrel/trader/t-1 --mode paper
  Go live: the target's name is asked for, and the router asks for a confirmation:
    swarmgate bot start kestrel/trader/t-1 --mode live --wait-consent
  Stop one, a role, a swarm, everything; nobody is asked:
    swarmgate bot stop kestrel/trader/t-1
    swarmgate bot stop kestrel/trader/ALL
    swarmgate bot stop kestrel
    swarmgate bot stop ALL
  Stop everything and keep it stopped:
    swarmgate kill --reason 'prices look wrong'")]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    way: Way,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Set up a new bot, so that it can be started later; starts nothing.
    #[command(after_help = "EXAMPLES:\n  swarmgate bot init kestrel/trader/t-1")]
    Init(Ease),
    /// Set an idle, paused or failed bot in motion.
    #[command(after_help = "EXAMPLES:
  swarmgate bot start kestrel/trader/t-1 --mode paper
  Live, in a script:
    swarmgate bot start kestrel/trader/t-1 --mode live --yes --live kestrel/trader/t-1")]
    Start(Start),
    /// Set a paused bot in motion again; its mode is said anew.
    #[command(after_help = "EXAMPLES:\n  swarmgate bot resume kestrel/trader/t-1 --mode shadow")]
    Resume(Start),
    /// Stop; always allowed.
    #[command(after_help = "EXAMPLES:
  swarmgate bot stop kestrel/trader/t-1
  swarmgate bot stop kestrel/trader/ALL --reason 'end of day'
  swarmgate bot stop ALL")]
    Stop(Ease),
    /// Pause; it can be resumed.
    #[command(after_help = "EXAMPLES:\n  swarmgate bot pause kestrel/trader/ALL")]
    Pause(Ease),
    /// Put aside; only a confirmed release brings it back.
    #[command(after_help = "EXAMPLES:
  swarmgate bot quarantine kestrel/trader/t-1 --reason 'books do not agree'")]
    Quarantine(Ease),
    /// End a quarantine; dangerous, and nothing starts by it.
    #[command(after_help = "EXAMPLES:
  swarmgate bot release kestrel/trader/t-1 --reason 'books agree again'")]
    Release(Release),
}

#[derive(Debug, clap::Args)]
struct Start {
    /// The bot, swarm/role/instance.
    #[arg(value_name = "TARGET")]
    target: String,
    /// How it runs; there is no default.
    #[arg(long, value_name = "MODE")]
    mode: RunMode,
    /// Consent to live by naming the target again, with --yes; needed where there is no terminal.
    #[arg(long, value_name = "TARGET", requires = "yes")]
    live: Option<String>,
    /// The run's id.
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The transition to ask for, like `IDLE->RUNNING_PAPER`. Left out: from the state in which the
    /// router has the bot.
    #[arg(long, value_name = "FROM->TO")]
    transition: Option<String>,
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Args)]
struct Ease {
    /// swarm/role/instance with ALL where all are meant, a swarm alone, or ALL.
    #[arg(value_name = "TARGET")]
    target: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The transition to ask for. Left out: the one of this command, from any state that allows it.
    #[arg(long, value_name = "FROM->TO")]
    transition: Option<String>,
    #[command(flatten)]
    manner: Manner,
}

#[derive(Debug, clap::Args)]
struct Release {
    /// The bot, swarm/role/instance.
    #[arg(value_name = "TARGET")]
    target: String,
    /// Why; it is written into the ledger.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The transition to ask for.
    #[arg(long, value_name = "FROM->TO", default_value = "QUARANTINED->IDLE")]
    transition: String,
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    flags: Flags,
}

/// Asks for it.
///
/// # Errors
/// When the target makes no sense, consent was not given, or router or broker cannot be used.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let way = &args.way;
    match args.what {
        What::Init(ease) => {
            let transition = ease.transition.or_else(|| Some("CREATED->IDLE".to_owned()));
            ease_off(INIT, Ease { transition, ..ease }, way, globals).await
        }
        What::Start(start) => set_in_motion("bot-start", start, way, globals).await,
        What::Resume(start) => set_in_motion("bot-resume", start, way, globals).await,
        What::Stop(ease) => ease_off(STOP, ease, way, globals).await,
        What::Pause(ease) => ease_off(PAUSE, ease, way, globals).await,
        What::Quarantine(ease) => ease_off(QUARANTINE, ease, way, globals).await,
        What::Release(release) => set_free(release, way, globals).await,
    }
}

async fn set_in_motion(
    kind_type: &'static str,
    start: Start,
    way: &Way,
    globals: &Globals,
) -> Result<Exit, CliError> {
    let scope = signal::scope(&start.target)?;
    let live = start.mode == RunMode::Live;
    let situation = match start.transition.is_some() && !live {
        true => Situation::glance(&way.access, &scope, globals).await,
        false => Situation::look(&way.access, &scope, globals).await?,
    };
    let mode = start.mode.word().to_owned();
    let to = start.mode.life().word();
    let transition = match (&start.transition, situation.lifecycle()) {
        (Some(transition), _) => transition.clone(),
        (None, Some(from)) => format!("{from}->{to}"),
        (None, None) => return Err(stateless(&start.target, to)),
    };
    let effect = match start.mode {
        RunMode::Paper => "the bot runs against no market",
        RunMode::Shadow => "the bot runs on real data and places no orders",
        RunMode::Live => "the bot runs with real orders and real money",
    };
    let echo = Echo {
        operation: kind_type.to_owned(),
        live,
        dangerous: live,
        difference: difference(&transition),
        effect: effect.to_owned(),
        not_affected: not_affected(&[
            "every other instance; the mode of the next start: live is never carried over",
            "safety mode, kill switch and gates, which are asked again when it is confirmed",
        ]),
        ..told(&start.target, &scope, &situation, way, &start.manner, globals)?
    };
    let data = data(&[
        ("requestedTransition", Some(&transition)),
        ("mode", Some(&mode)),
        ("runId", start.run_id.as_ref()),
        ("reason", start.reason.as_ref()),
    ]);
    let order = Order { kind_type, scope, data, echo };
    order.give(way, (&start.manner, &start.flags, start.live.as_deref()), globals).await
}

/// A command that makes things safer.
struct Easing {
    kind_type: &'static str,
    to: &'static str,
    /// Whether the transition names the state that it leaves, where that is known.
    from_known: bool,
    effect: &'static str,
    not_affected: &'static [&'static str],
}

const INIT: Easing = Easing {
    kind_type: "bot-init",
    to: "IDLE",
    from_known: true,
    effect: "the bot is set up, and becomes IDLE when it reports success",
    not_affected: &["every other instance", "nothing starts by it"],
};
const STOP: Easing = Easing {
    kind_type: "bot-stop",
    to: "IDLE",
    from_known: false,
    effect: "it stops in good order; what was still to be started there is superseded",
    not_affected: &[
        "instances outside the target",
        "the kill switch: a start may follow at once (`swarmgate kill` prevents that)",
    ],
};
const PAUSE: Easing = Easing {
    kind_type: "bot-pause",
    to: "PAUSED",
    from_known: true,
    effect: "it pauses, and can be resumed",
    not_affected: &["instances outside the target", "the kill switch: a resume may follow at once"],
};
const QUARANTINE: Easing = Easing {
    kind_type: "bot-quarantine",
    to: "QUARANTINED",
    from_known: false,
    effect: "it is put aside; only a confirmed `swarmgate bot release` brings it back",
    not_affected: &["instances outside the target"],
};

async fn ease_off(easing: Easing, ease: Ease, way: &Way, globals: &Globals) -> Result<Exit, CliError> {
    let scope = wide(&ease.target)?;
    let situation = Situation::glance(&way.access, &scope, globals).await;
    let from = situation.lifecycle().filter(|_| easing.from_known).unwrap_or("ANY");
    let transition = ease.transition.clone().unwrap_or_else(|| format!("{from}->{}", easing.to));
    let live = situation.lifecycle() == Some("RUNNING_LIVE");
    let target = scope.to_string();
    let echo = Echo {
        operation: easing.kind_type.to_owned(),
        live,
        difference: Some((situation.lifecycle().unwrap_or("any state").to_owned(), easing.to.to_owned())),
        effect: match scope.fans_out() {
            true => format!("each of them: {}; live ones too", easing.effect),
            false => easing.effect.to_owned(),
        },
        not_affected: not_affected(easing.not_affected),
        ..told(&target, &scope, &situation, way, &ease.manner, globals)?
    };
    let data = data(&[("requestedTransition", Some(&transition)), ("reason", ease.reason.as_ref())]);
    let order = Order { kind_type: easing.kind_type, scope, data, echo };
    order.give(way, (&ease.manner, &Flags::default(), None), globals).await
}

async fn set_free(release: Release, way: &Way, globals: &Globals) -> Result<Exit, CliError> {
    let scope = signal::scope(&release.target)?;
    let situation = Situation::look(&way.access, &scope, globals).await?;
    let to = difference(&release.transition).map_or_else(|| "IDLE".to_owned(), |(_, to)| to);
    let from = situation.lifecycle().unwrap_or("a state that the router does not know").to_owned();
    let echo = Echo {
        operation: "bot-release".to_owned(),
        dangerous: true,
        difference: Some((from, to)),
        effect: "the quarantine ends: the bot may be started again".to_owned(),
        not_affected: not_affected(&[
            "nothing starts by it: the bot becomes IDLE",
            "every other instance; safety mode, kill switch and gates",
        ]),
        ..told(&release.target, &scope, &situation, way, &release.manner, globals)?
    };
    let data = data(&[("requestedTransition", Some(&release.transition)), ("reason", Some(&release.reason))]);
    let order = Order { kind_type: "bot-release", scope, data, echo };
    order.give(way, (&release.manner, &release.flags, None), globals).await
}

/// What every echo of a bot begins with.
fn told(
    target: &str,
    scope: &Scope,
    situation: &Situation,
    way: &Way,
    manner: &Manner,
    globals: &Globals,
) -> Result<Echo, CliError> {
    let swarm = (scope.swarm_id != ALL).then_some(scope.swarm_id.as_str());
    Ok(Echo {
        target: target.to_owned(),
        environment: situation.environment(),
        standing: situation.standing(swarm),
        sender: way.sender(manner, globals)?,
        ..Echo::default()
    })
}

/// A target that may be all of a swarm or of the fleet.
fn wide(text: &str) -> Result<Scope, CliError> {
    match text.contains('/') {
        true => signal::scope(text),
        false => Ok(Scope::new(text, ALL, ALL)),
    }
}

fn stateless(target: &str, to: &str) -> CliError {
    CliError::Usage {
        message: format!("the router does not know what state `{target}` is in"),
        help: format!(
            "is the name right, and was it initialised (`bot-init`)? `swarmgate inventory` shows who is known; \
             or say it yourself: --transition 'IDLE->{to}'"
        ),
    }
}

fn difference(transition: &str) -> Option<(String, String)> {
    let (from, to) = transition.split_once("->")?;
    Some((from.trim().to_owned(), to.trim().to_owned()))
}

fn not_affected(sentences: &[&str]) -> Vec<String> {
    sentences.iter().map(|sentence| (*sentence).to_owned()).collect()
}

/// The fields that have a value.
fn data(fields: &[(&str, Option<&String>)]) -> Value {
    let given =
        fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), Value::from((*value)?.clone()))));
    Value::Object(given.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swarm_alone_and_all_alone_mean_everyone_in_it() {
        assert_eq!(wide("kestrel").unwrap(), Scope::new("kestrel", ALL, ALL));
        assert_eq!(wide("ALL").unwrap(), Scope::new(ALL, ALL, ALL));
        assert_eq!(wide("kestrel/trader/ALL").unwrap(), Scope::new("kestrel", "trader", ALL));
        assert!(wide("kestrel/trader").is_err());
    }

    #[test]
    fn a_transition_is_two_states() {
        let read = |text| difference(text).map(|(from, to)| format!("{from} {to}"));
        assert_eq!(read("IDLE->RUNNING_LIVE").as_deref(), Some("IDLE RUNNING_LIVE"));
        assert_eq!(read("IDLE"), None);
    }

    #[test]
    fn only_what_was_said_is_sent() {
        let (mode, none) = ("paper".to_owned(), None);
        assert_eq!(data(&[("mode", Some(&mode)), ("runId", none)]), serde_json::json!({ "mode": "paper" }));
    }
}
