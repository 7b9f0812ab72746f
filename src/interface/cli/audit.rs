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

use serde_json::{Value, json};

use super::{CliError, Exit, Globals, Out, table::clean};
use crate::{
    contract::{routing::Scope, schema::Schema},
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
    /// Print entries, oldest first.
    #[command(after_help = "EXAMPLES:\n  swarmgate audit show ./swarmgate-data --correlation c-001")]
    Show {
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
        /// Of this correlationId.
        #[arg(long, value_name = "ID")]
        correlation: Option<String>,
        /// Of this idempotencyKey.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// About this scope, `swarm/role/instance`; `ALL` takes any.
        #[arg(long, value_name = "SCOPE")]
        target: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        limit: usize,
    },
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

/// Reads or verifies.
///
/// # Errors
/// When there is no ledger to read.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let json = globals.is_json();
    match args.what {
        What::Verify { dir, emergency, deep } => verify(dir, emergency, deep, json).await,
        What::Show { dir, seq, from, to, correlation, key, target, limit } => {
            let filter = Filter {
                from: seq.or(from),
                to: seq.or(to),
                correlation_id: correlation,
                idempotency_key: key,
                target: target.as_deref().map(scope).transpose()?,
            };
            let found = Reader::open(&dir).await?.select(&filter, limit).await?;
            found.iter().try_for_each(|entry| print(entry, json))?;
            Ok(Exit::Done)
        }
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
