//! `swarmgate audit`: reading and verifying a ledger, live or a copy.
//!
//! Owns: verify, show, tail and emergency, for people (a line an entry) and for machines (the entry
//! itself).
//! Never: writes, or needs the router.
//! Holds: verify ends with 0 only when every entry is what was written.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, de::IntoDeserializer};
use serde_json::{Value, json};

use super::{CliError, Exit, Globals, Out, output::aside, table::clean};
use crate::{
    clock,
    contract::{
        audit::Action, command::Commands, reason::Reason, routing::Scope, schema::Schema,
        timestamp::Timestamp,
    },
    ledger::{
        chain::{ChainFault, Sealed},
        emergency,
        query::{Filter, Reader},
        verify,
    },
};

/// How often `tail --follow` looks for new entries.
const FOLLOW_PAUSE: Duration = Duration::from_millis(250);
/// Entries read at a time while following.
const FOLLOW_COUNT_MAX: usize = 1000;

/// Verify and read a ledger, live or a copy.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Is every entry what was written? (0 valid, 1 not)
    swarmgate audit verify ./swarmgate-data
  Everything about one command:
    swarmgate audit show ./swarmgate-data --correlation c-001
  What happens now:
    swarmgate audit tail ./swarmgate-data --follow
  What a router left that could not write its ledger:
    swarmgate audit emergency ./swarmgate-data")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Walk the whole chain and name the first entry that is wrong.
    #[command(after_help = "EXAMPLES:
  swarmgate audit verify ./swarmgate-data
  With the emergency log that `ledger.emergency_path` names:
    swarmgate audit verify ./swarmgate-data --emergency /mnt/second/emergency.log
  Is each entry of the form that `swarmgate explain --schema audit-event` prints?
    swarmgate audit verify ./swarmgate-data --deep")]
    Verify {
        /// The ledger's directory, or its file.
        dir: PathBuf,
        /// Its emergency log's file. Left out: `emergency.log` in the directory, where it is there.
        #[arg(long, value_name = "FILE")]
        emergency: Option<PathBuf>,
        /// Check each entry by schemas/audit-event.schema.json too.
        #[arg(long)]
        deep: bool,
    },
    /// Print entries, newest first.
    #[command(after_help = "EXAMPLES:
  Everything about one command:
    swarmgate audit show ./swarmgate-data --correlation c-001
  What went wrong in the last hour:
    swarmgate audit show ./swarmgate-data --since 1h --failed
  The same where the deployment has types of its own:
    swarmgate audit show ./swarmgate-data --since 1h --failed --config swarmgate.yaml
  What one sender did to one swarm on a day:
    swarmgate audit show ./swarmgate-data --actor orc --target kestrel/ALL/ALL --since 2026-03-04T00:00:00Z --until 2026-03-05T00:00:00Z")]
    Show(Box<Show>),
    /// Print the last entries, and with --follow each new one.
    #[command(after_help = "EXAMPLES:\n  swarmgate audit tail ./swarmgate-data --follow")]
    Tail {
        /// The ledger's directory, or its file.
        dir: PathBuf,
        /// How many to begin with.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
        count: u64,
        /// Go on until interrupted.
        #[arg(short, long)]
        follow: bool,
    },
    /// Print what an emergency log holds: entries that wait for the ledger.
    #[command(after_help = "EXAMPLES:\n  swarmgate audit emergency /mnt/second/emergency.log")]
    Emergency {
        /// The emergency log's file, or a ledger's directory with the log in it.
        place: PathBuf,
    },
}

/// Which entries are printed.
#[derive(Debug, clap::Args)]
struct Show {
    /// The ledger's directory, or its file.
    dir: PathBuf,
    /// This entry only.
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "to"])]
    seq: Option<u64>,
    /// From this entry on.
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// Up to this entry.
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Written then or later: a time like 2026-03-04T10:15:00Z, or so long ago, like 90s, 10m, 2h
    /// or 7d.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<Timestamp>,
    /// Written then or earlier.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<Timestamp>,
    /// By this principal.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// With this action, like `controlplane.command.denied`.
    #[arg(long, value_name = "ACTION", value_parser = action)]
    action: Option<String>,
    /// With this reason code.
    #[arg(long, value_name = "CODE", value_parser = reason)]
    reason: Option<Reason>,
    /// Only what was refused, and commands that ended without success. What is a success of your
    /// own types, the config's `types` say: give --config; of a type that it does not have, Failed,
    /// Partial, Refused, Superseded and TimedOut are none.
    #[arg(long)]
    failed: bool,
    /// Of this correlationId.
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// Of this idempotencyKey.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// About this scope, `swarm/role/instance`; `ALL` takes any.
    #[arg(long, value_name = "SCOPE")]
    target: Option<String>,
    /// The oldest first.
    #[arg(long)]
    oldest_first: bool,
    /// At most so many.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
}

/// A time, or how long ago it was.
fn when(text: &str) -> Result<Timestamp, String> {
    if let Some(at) = Timestamp::parse(text) {
        return Ok(at);
    }
    let span = || {
        let unit = text.chars().last()?;
        let count: i64 = text.strip_suffix(unit)?.parse().ok().filter(|count| *count >= 0)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        count.checked_mul(seconds)?.checked_mul(1_000_000)
    };
    let micros = span().ok_or("write a time like 2026-03-04T10:15:00Z, or how long ago, like 10m or 2h")?;
    Ok(Timestamp::from_micros(clock::wall().micros().saturating_sub(micros)))
}

/// A word that no release writes would match nothing, as if nothing had happened.
fn action(word: &str) -> Result<String, String> {
    let known = Action::deserialize(IntoDeserializer::<serde::de::value::Error>::into_deserializer(word));
    known.map(|action| action.word().to_owned()).map_err(|fault| fault.to_string())
}

fn reason(code: &str) -> Result<Reason, String> {
    Reason::from_code(code).ok_or_else(|| "it is no reason code; docs/reasons lists them".to_owned())
}

/// The types whose successes are known: the deployment's own too, as the config has them.
fn commands(globals: &Globals) -> Result<Commands, CliError> {
    Ok(globals.config()?.contract.commands.clone())
}

async fn show(args: Show, globals: &Globals) -> Result<Exit, CliError> {
    let json = globals.is_json();
    let filter = Filter {
        from: args.seq.or(args.from),
        to: args.seq.or(args.to),
        correlation_id: args.correlation,
        idempotency_key: args.key,
        target: args.target.as_deref().map(scope).transpose()?,
        since: args.since,
        until: args.until,
        actor: args.actor,
        action: args.action,
        reason: args.reason,
        failed: args.failed.then(|| commands(globals)).transpose()?,
        newest_first: !args.oldest_first,
    };
    let reader = Reader::open(&args.dir).await?;
    let mut found = reader.select(&filter, args.limit.saturating_add(1)).await?;
    let has_more = found.len() > args.limit;
    found.truncate(args.limit);
    found.iter().try_for_each(|entry| print(entry, json))?;
    if let Some(last) = found.last().filter(|_| has_more) {
        let seq = last.entry.seq;
        let next = if filter.newest_first {
            format!("--to {}", seq.saturating_sub(1))
        } else {
            format!("--from {}", seq + 1)
        };
        aside(&format!("and more: {next} goes on, a larger --limit shows more at once"));
    }
    Ok(Exit::Done)
}

/// Reads or verifies.
///
/// # Errors
/// When there is no ledger to read.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let json = globals.is_json();
    match args.what {
        What::Verify { dir, emergency, deep } => verify(dir, emergency, deep, json).await,
        What::Show(args) => show(*args, globals).await,
        What::Tail { dir, count, follow } => tail(dir, count, follow, json).await,
        What::Emergency { place } => show_emergency(&place, json),
    }
}

async fn verify(dir: PathBuf, log: Option<PathBuf>, deep: bool, json: bool) -> Result<Exit, CliError> {
    let log = log.or_else(|| beside(&dir));
    let report = match deep {
        true => verify::verify_deep(&dir, &schema()?).await?,
        false => verify::verify(&dir).await?,
    };
    let verdict = if report.fault.is_none() { "VALID" } else { "INVALID" };
    let fault = report
        .fault
        .as_ref()
        .map(|fault| json!({ "seq": fault.seq(), "what": fault.to_string(), "pointer": pointer(fault) }));
    let waiting =
        log.map(|log| emergency::read(&log).map(|found| found.newer_than(report.newest_emergency).len()));
    if json {
        let emergency = waiting.map(|waiting| match waiting {
            Ok(waiting) => json!({ "waiting": waiting, "fault": null }),
            Err(fault) => json!({ "waiting": null, "fault": fault.to_string() }),
        });
        let told = json!({
            "verdict": verdict, "entries": report.entries, "head": report.head, "firstAt": report.first_at,
            "lastAt": report.last_at, "fault": fault, "emergency": emergency,
        });
        Out::new().json(&told)?;
    } else {
        let span = match (report.first_at, report.last_at) {
            (Some(first), Some(last)) => format!(", {first} to {last}"),
            _ => String::new(),
        };
        write(&format!("{verdict}: {} good entries{span}, head {}", report.entries, report.head))?;
        if let Some(fault) = &report.fault {
            write(&format!("  first fault: {fault}"))?;
        }
        match waiting {
            None | Some(Ok(0)) => {}
            Some(Ok(waiting)) => write(&format!(
                "  the emergency log holds {waiting} entries that are not in the ledger; the router's next start appends them"
            ))?,
            Some(Err(fault)) => write(&format!("  {fault}"))?,
        }
    }
    Ok(if report.fault.is_none() { Exit::Done } else { Exit::Fault })
}

/// The schema of entries; a build in which it does not compile is broken.
fn schema() -> Result<Schema, CliError> {
    Schema::of_entries().map_err(|fault| CliError::Usage {
        message: fault.to_string(),
        help: "this build is broken; take the release's own".to_owned(),
    })
}

/// Where in its entry a fault is, where it is in one place.
fn pointer(fault: &ChainFault) -> Option<&str> {
    match fault {
        ChainFault::Form { pointer, .. } => Some(pointer),
        _ => None,
    }
}

/// The emergency log beside a ledger, where there is one.
fn beside(dir: &Path) -> Option<PathBuf> {
    dir.is_dir().then(|| emergency::place_of(dir)).filter(|path| path.exists())
}

fn show_emergency(place: &Path, json: bool) -> Result<Exit, CliError> {
    let (found, fault) = emergency::salvage(&emergency::place_of(place))?;
    found.records.iter().try_for_each(|record| print(&record.sealed, json))?;
    if !json {
        write(&format!("{} good entries", found.records.len()))?;
    }
    if found.torn && !json {
        write(
            "  a last write was cut off: what it was for was carried as UNAUDITED, which the router's log says, or not at all",
        )?;
    }
    let Some(fault) = fault else { return Ok(Exit::Done) };
    write(&if json { json!({ "fault": fault.to_string() }).to_string() } else { fault.to_string() })?;
    Ok(Exit::Fault)
}

async fn tail(dir: PathBuf, count: u64, follow: bool, json: bool) -> Result<Exit, CliError> {
    let reader = Reader::open(&dir).await?;
    let mut last = reader.last_seq().await?.saturating_sub(count);
    loop {
        let filter = Filter { from: Some(last + 1), ..Filter::default() };
        let found = reader.select(&filter, FOLLOW_COUNT_MAX).await?;
        for entry in &found {
            print(entry, json)?;
            last = entry.entry.seq;
        }
        if found.len() == FOLLOW_COUNT_MAX {
            continue;
        }
        if !follow {
            return Ok(Exit::Done);
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_PAUSE) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
    }
}

fn scope(text: &str) -> Result<Scope, CliError> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [swarm, role, instance] => Ok(Scope::new(*swarm, *role, *instance)),
        _ => Err(CliError::Usage {
            message: format!("`{text}` is not a scope"),
            help: "write it as swarm/role/instance; `ALL` takes any".to_owned(),
        }),
    }
}

fn print(sealed: &Sealed, json: bool) -> Result<(), CliError> {
    if json {
        let mut entry: Value = serde_json::from_slice(&sealed.bytes).unwrap_or_default();
        if let Some(fields) = entry.as_object_mut() {
            fields.insert("hash".to_owned(), json!(sealed.hash));
        }
        return Out::new().json(&entry);
    }
    let fact = &sealed.entry.fact;
    let actor = fact.actor.as_ref().map_or("-", |actor| actor.principal.as_str());
    let subject = fact
        .subject
        .as_ref()
        .map_or_else(|| "-".to_owned(), |subject| format!("{} {}", subject.kind_type, subject.scope));
    let verdict = fact.verdict.map_or_else(String::new, |verdict| verdict.to_string());
    let reason = fact.reason.map_or("", |reason| reason.code());
    let detail = fact.detail.as_deref().unwrap_or("");
    let replay = fact.replay.as_ref().map_or_else(String::new, |replay| {
        format!(" [again: {}, first sent by {}]", clean(&replay.of), clean(&replay.first.principal))
    });
    let emergency_id = fact.emergency_id.map_or_else(String::new, |id| format!(" [{id}]"));
    let (seq, at, action) = (sealed.entry.seq, fact.at, fact.action.word());
    write(
        format!(
            "{seq:>8}  {at}  {action:<30} {actor} → {subject}  {verdict} {reason} {detail}{replay}{emergency_id}"
        )
        .trim_end(),
    )
}

fn write(line: &str) -> Result<(), CliError> {
    Out::new().line(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_out_or_so_long_ago() {
        let at = Timestamp::parse("2026-03-04T10:15:00Z");
        assert_eq!(when("2026-03-04T10:15:00Z").ok(), at);
        let ago = |text| {
            let then = when(text).unwrap();
            clock::wall().ms_since(then) / 1000
        };
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7_200), ("7d", 604_800)] {
            assert!((seconds..seconds + 5).contains(&ago(text)), "{text}");
        }
        for bad in ["", "h", "-1h", "1w", "yesterday", "1.5h", "99999999999999999999d", "1\u{e4}"] {
            assert!(when(bad).is_err(), "{bad}");
        }
    }
}
