//! `swarmgate explain`: how a routing key is read, what a reason code means, or what a schema says.
//!
//! Owns: the words of the answer, and the nearest key that would have been well-formed.
//! Never: spells or takes apart a key itself; `ControlPlaneRouting` does both.
//! Holds: a key that the gates would refuse for its form is told with the same reason they would
//! give.

use serde::Serialize;
use serde_json::json;

use super::{CliError, Exit, Globals, Out, embedded, output::one_line, schemas};
use crate::{
    config,
    contract::{
        command::{Answerer, Commands},
        lane::Lane,
        read::may_address,
        reason::Reason,
        routing::{ALL, ControlPlaneRouting, Family, RoutingKey, Scope, is_everyone},
        schema,
    },
    runtime::topology,
};

/// Explain a routing key or a reason code, or print a schema.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  How is this key read, and who hears it?
    swarmgate explain signal.swarm-start.kestrel.swarm-controller.ctl-1
  Why is this one refused, and what is the nearest that is not?
    swarmgate explain signal.swarm-strt.kestrel.swarm-controller.all
  What does a reason code mean?
    swarmgate explain contract.schema
  What is the form of an entry of the ledger?
    swarmgate explain --schema audit-event

Exits with 1 when the key would be refused for its form.")]
pub struct Args {
    /// A routing key, or a reason code as in `x-swarmgate-reason`.
    #[arg(required_unless_present = "schema", conflicts_with = "schema")]
    what: Option<String>,
    /// Print the JSON Schema of this name; without a name, list them.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    schema: Option<String>,
}

/// Explains.
///
/// # Errors
/// When the config cannot be loaded or stdout cannot be written.
pub fn run(args: &Args, globals: &Globals) -> Result<Exit, CliError> {
    if let Some(name) = &args.schema {
        return schemas::run(name, globals);
    }
    let what = args.what.as_deref().unwrap_or_default().trim();
    match Reason::from_code(what) {
        Some(reason) => explain_reason(reason, globals),
        None => {
            let loaded = globals.config()?;
            let told = explain_key(what, &loaded.contract.commands, &loaded.config.amqp.prefix);
            let mut out = Out::new();
            if globals.is_json() {
                out.json(&serde_json::to_value(&told).unwrap_or_default())?;
            } else {
                out.text(&told.text())?;
            }
            Ok(if told.refused.is_none() { Exit::Done } else { Exit::Fault })
        }
    }
}

fn explain_reason(reason: Reason, globals: &Globals) -> Result<Exit, CliError> {
    let page = embedded::page(reason.code());
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&json!({
            "code": reason.code(), "gate": reason.gate(), "rule": reason.rule(), "next": reason.next_step(),
            "page": page.map(|(path, _)| path),
        }))?;
        return Ok(Exit::Done);
    }
    let mut text = format!(
        "{reason}\n  gate  {}\n  rule  {}\n  next  {}\n",
        reason.gate(),
        reason.rule(),
        reason.next_step()
    );
    if let Some((path, page)) = page {
        text.push_str(&format!("  page  {path}\n\n{page}"));
    }
    out.text(&text)?;
    Ok(Exit::Done)
}

/// What there is to say of a key.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    key: String,
    /// How it is read, where it can be.
    read: Option<Read>,
    /// Why the gates would refuse it for its form.
    refused: Option<Refused>,
    /// The nearest key that is well-formed and of a known type.
    nearest: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    reason: Reason,
    detail: String,
    next: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    family: Family,
    #[serde(rename = "type")]
    kind_type: String,
    scope: Scope,
    lane: Lane,
    queue: String,
    command: Option<crate::contract::command::Command>,
    sender: String,
    hears: Vec<Hears>,
    /// The key of the answer to a signal from one target.
    answer: Option<String>,
}

#[derive(Debug, Serialize)]
struct Hears {
    who: &'static str,
    binding: String,
}

fn explain_key(key: &str, commands: &Commands, prefix: &str) -> Told {
    let parsed = match ControlPlaneRouting::parse(key) {
        Ok(parsed) => parsed,
        Err(refusal) => {
            return Told {
                key: key.to_owned(),
                refused: Some(refused(refusal.reason, refusal.detail.into_owned())),
                nearest: mend(key, commands),
                ..Told::default()
            };
        }
    };
    let refused = judge(&parsed, commands);
    let nearest = refused.as_ref().and_then(|_| mend(key, commands)).filter(|near| near != key);
    Told { key: key.to_owned(), read: Some(read(key, parsed, commands, prefix)), refused, nearest }
}

fn refused(reason: Reason, detail: String) -> Refused {
    Refused { reason, detail, next: reason.next_step() }
}

/// Gates 1 and 2 on what a key alone can be refused for.
fn judge(key: &RoutingKey, commands: &Commands) -> Option<Refused> {
    let RoutingKey { family, kind_type, scope } = key;
    if !types(*family, commands).contains(&kind_type.as_str()) {
        return Some(refused(Reason::UnknownType, format!("no {family} has this type")));
    }
    let fan_out = match family {
        Family::Signal => commands.get(kind_type).map(|row| row.fan_out),
        Family::Outcome | Family::Alert | Family::Metric => None,
    };
    match fan_out {
        None if scope.fans_out() => {
            Some(refused(Reason::FanOutNotAllowed, "its scope names the one sender, not `ALL`".to_owned()))
        }
        Some(fan_out) if !may_address(fan_out, scope) => {
            Some(refused(Reason::FanOutNotAllowed, format!("its fan-out is {}", fan_out_word(fan_out))))
        }
        _ => None,
    }
}

/// Every type of a family.
fn types(family: Family, commands: &Commands) -> Vec<&str> {
    let signals = commands.iter().map(|row| row.kind_type.as_str());
    match family {
        Family::Signal => signals.collect(),
        Family::Outcome => signals.chain([schema::SWARM_CREATE]).collect(),
        Family::Alert => vec![schema::ALERT],
        Family::Metric => vec![schema::STATUS_FULL, schema::STATUS_DELTA],
    }
}

fn read(key: &str, parsed: RoutingKey, commands: &Commands, prefix: &str) -> Read {
    let RoutingKey { family, kind_type, scope } = parsed;
    let lane = Lane::of(family, &kind_type, commands);
    let sender = match family {
        Family::Signal => {
            "anyone the broker lets publish: the AMQP user-id where there is one, else `origin`, \
                           and both must name the same instance"
                .to_owned()
        }
        _ => format!("only the instance `{}` itself", scope.instance),
    };
    Read {
        command: commands.get(&kind_type).filter(|_| family == Family::Signal).cloned(),
        queue: topology::lane_queue(prefix, lane),
        hears: hears(key, family, &kind_type, &scope),
        answer: ControlPlaneRouting::answer(key).filter(|_| !scope.fans_out()),
        family,
        kind_type,
        scope,
        lane,
        sender,
    }
}

/// Which of the standard bindings take the key.
fn hears(key: &str, family: Family, kind_type: &str, scope: &Scope) -> Vec<Hears> {
    // A fan-out is bound by each worker it reaches; any one of them stands for all here.
    let concrete = |segment: &str| if segment == ALL { "any" } else { segment }.to_owned();
    let one = Scope::new(concrete(&scope.swarm_id), concrete(&scope.role), concrete(&scope.instance));
    let controller = Scope::new(one.swarm_id.clone(), "swarm-controller", "any");
    let targets = if scope.fans_out() { "every worker in its scope" } else { "the worker it names" };
    let workers = ControlPlaneRouting::signal_bindings(kind_type, &one).into_iter().map(|it| (targets, it));
    let orchestrators =
        ControlPlaneRouting::orchestrator_bindings().into_iter().map(|it| ("orchestrators", it));
    let controllers = ControlPlaneRouting::swarm_controller_bindings(&controller).into_iter();
    let controllers = controllers.map(|it| ("the swarm's controller", it));
    let all: Vec<_> = match family {
        Family::Signal => workers.collect(),
        _ => orchestrators.chain(controllers).collect(),
    };
    all.into_iter()
        .filter(|(_, binding)| ControlPlaneRouting::matches(binding, key))
        .map(|(who, binding)| Hears { who, binding })
        .collect()
}

/// The nearest key that is well-formed and of a known type, if what is there tells enough.
fn mend(key: &str, commands: &Commands) -> Option<String> {
    let words: Vec<&str> = key.trim().split(['.', '/', ' ']).filter(|word| !word.is_empty()).collect();
    let (family, rest) = family_of(&words)?;
    let [kind_type, swarm, role, instance] = rest else { return None };
    let known = types(family, commands);
    let kind_type = if known.contains(kind_type) { kind_type } else { config::nearest(kind_type, known)? };
    let fan_out = commands.get(kind_type).filter(|_| family == Family::Signal).map(|row| row.fan_out);
    let scope = Scope::new(segment(swarm), segment(role), segment(instance));
    let fits = fan_out.map_or(!scope.fans_out(), |fan_out| may_address(fan_out, &scope));
    if !fits {
        return None;
    }
    ControlPlaneRouting::build(family, kind_type, &scope).ok()
}

/// The family that a key's first words mean, and the words after them.
fn family_of<'a, 'b>(words: &'b [&'a str]) -> Option<(Family, &'b [&'a str])> {
    let (first, rest) = words.split_first()?;
    // A family's own word may stand with or without the word before it.
    let families = Family::ALL.map(Family::word);
    let (word, rest) = match config::nearest(first, families.into_iter().chain(["event"]))? {
        "event" => {
            let (second, rest) = rest.split_first()?;
            (config::nearest(second, families)?, rest)
        }
        word => (word, rest),
    };
    let family = Family::ALL.into_iter().find(|family| family.word() == word)?;
    Some((family, rest))
}

/// A segment with what may not stand in one replaced.
fn segment(word: &str) -> String {
    if is_everyone(word) {
        return ALL.to_owned();
    }
    let clean =
        |letter: char| if letter.is_ascii_alphanumeric() || "_-".contains(letter) { letter } else { '-' };
    let word: String = word.chars().map(clean).collect();
    word.trim_start_matches(['_', '-']).to_owned()
}

fn fan_out_word(fan_out: crate::contract::command::FanOut) -> &'static str {
    use crate::contract::command::FanOut::{GlobalOrSwarm, Instances, None};
    match fan_out {
        None => "none: one swarm, role and instance",
        Instances => "`ALL` for the instance, role and instance, swarm and instance, or all three",
        GlobalOrSwarm => "`ALL` for role and instance (that swarm), or all three (global)",
    }
}

const fn answerer_word(answerer: Answerer) -> &'static str {
    match answerer {
        Answerer::Target => "the target",
        Answerer::Router => "the router",
        Answerer::RouterAndTarget => "the router, and it is carried to the target",
    }
}

impl Told {
    fn text(&self) -> String {
        let mut text = format!("{}\n", one_line(&self.key));
        let mut row = |name: &str, what: &str| text.push_str(&format!("  {name:<9} {what}\n"));
        if let Some(refused) = &self.refused {
            row("refused", &format!("{}: {}", refused.reason, refused.detail));
            row("next", refused.next);
        }
        if let Some(nearest) = &self.nearest {
            row("nearest", nearest);
        }
        if let Some(read) = &self.read {
            row("family", read.family.word());
            row("type", &read.kind_type);
            row(
                "scope",
                &format!(
                    "swarm {}, role {}, instance {}",
                    read.scope.swarm_id, read.scope.role, read.scope.instance
                ),
            );
            row("lane", &format!("{} (queue {})", read.lane, read.queue));
            if let Some(command) = &read.command {
                row("class", &class_word(command.class));
                row(
                    "success",
                    &if command.success.is_empty() {
                        "its status-full".into()
                    } else {
                        command.success.join(", ")
                    },
                );
                row("answer", &format!("by {}", answerer_word(command.answered_by)));
                row(
                    "deadline",
                    &command.deadline_ms.map_or("none".to_owned(), |ms| format!("{} s", ms / 1000)),
                );
                row("fan-out", fan_out_word(command.fan_out));
            }
            row("sender", &read.sender);
            for Hears { who, binding } in &read.hears {
                row("hears", &format!("{who}, by {binding}"));
            }
            if let Some(answer) = &read.answer {
                row("outcome", answer);
            }
        }
        text
    }
}

/// The class's word, as in the command table.
fn class_word(class: crate::contract::command::Class) -> String {
    serde_json::to_value(class).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(key: &str) -> Told {
        explain_key(key, &Commands::default(), "swarmgate")
    }

    #[test]
    fn malformed_keys_come_with_the_nearest_good_one() {
        for (key, nearest) in [
            ("signal.swarm-strt.k.r.i", Some("signal.swarm-start.k.r.i")),
            ("signl.swarm-start.k.r.i", Some("signal.swarm-start.k.r.i")),
            ("signal.swarm-stop.k.r.all", Some("signal.swarm-stop.k.r.ALL")),
            ("signal.swarm-start.k.r.a@b", Some("signal.swarm-start.k.r.a-b")),
            ("event.metrics.status-full.k.r.i", Some("event.metric.status-full.k.r.i")),
            ("outcome.swarm-start.k.r.i", Some("event.outcome.swarm-start.k.r.i")),
            ("event.alert.alrt.k.r.i", Some("event.alert.alert.k.r.i")),
            ("signal.swarm-start.k.r.ALL", None),
            ("signal.swarm-start.k.r", None),
            ("", None),
        ] {
            let told = told(key);
            assert!(told.refused.is_some(), "{key}");
            assert_eq!(told.nearest.as_deref(), nearest, "{key}");
        }
    }

    #[test]
    fn each_family_is_heard_by_whom_the_contract_says() {
        for (key, lane, who) in [
            ("signal.swarm-start.k.swarm-controller.i", Lane::Signals, vec!["the worker it names"]),
            ("signal.bot-stop.ALL.ALL.ALL", Lane::Urgent, vec!["every worker in its scope"]),
            ("event.outcome.swarm-start.k.swarm-controller.i", Lane::Results, vec!["orchestrators"]),
            ("event.alert.alert.k.w.i", Lane::Results, vec!["orchestrators", "the swarm's controller"]),
            ("event.metric.status-full.k.w.i", Lane::Metrics, vec!["the swarm's controller"]),
        ] {
            let told = told(key);
            assert!(told.refused.is_none() && told.nearest.is_none(), "{key} {:?}", told.refused);
            let read = told.read.unwrap();
            assert_eq!(read.lane, lane, "{key}");
            assert_eq!(read.hears.iter().map(|it| it.who).collect::<Vec<_>>(), who, "{key}");
            assert_eq!(read.command.is_some(), key.starts_with("signal."));
        }
    }

    #[test]
    fn what_a_key_alone_is_refused_for_is_told() {
        for (key, reason) in [
            ("signal.nonsense.k.r.i", Reason::UnknownType),
            ("event.outcome.swarm-start.k.r.ALL", Reason::FanOutNotAllowed),
            ("signal.safety-set.k.r.ALL", Reason::FanOutNotAllowed),
            ("signal.stop.k.r", Reason::MalformedKey),
        ] {
            assert_eq!(told(key).refused.map(|refused| refused.reason), Some(reason), "{key}");
        }
        assert!(told("event.outcome.swarm-create.k.r.i").refused.is_none());
    }
}
