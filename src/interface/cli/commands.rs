//! `swarmgate commands`: what is in flight, and one command with its matrix.
//!
//! Owns: the table of commands, and a command whole: each step with its time, each target with its
//! answer.
//! Never: ends or changes a command.
//! Holds: a target that has not answered is shown as missing.

use super::{
    CliError, Exit, Globals, Out,
    access::{Access, encoded},
    table::{self, Table, clean, or_nothing},
};
use crate::{
    clock,
    contract::timestamp::Timestamp,
    view::commands::{Command, Commands},
};

/// Show commands in flight, or one with who answered what.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  What is in flight, the newest first:
    swarmgate commands
  What waits for a target that is not there yet:
    swarmgate commands --parked
  One command: each step, who was reached, who answered what, who is missing:
    swarmgate commands 1234
  The same by its correlationId:
    swarmgate commands 0198a6c2-7f3e-7cc1-9d1e-3a2b4c5d6e7f")]
pub struct Args {
    /// A command's number or correlationId.
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Only those that wait for their target.
    #[arg(long, conflicts_with = "id")]
    parked: bool,
    /// Show so many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    access: Access,
}

/// Asks and shows.
///
/// # Errors
/// When the router cannot be asked, or does not know the command.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let router = args.access.router(globals)?;
    let page = match &args.id {
        Some(id) => path(id),
        None => {
            let state = if args.parked { "parked" } else { "in-flight" };
            format!("commands?state={state}&limit={}", args.limit)
        }
    };
    let answer = router.get(&page).await?;
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&answer)?;
    } else if args.id.is_some() {
        out.text(&whole(&router.read(&answer)?))?;
    } else {
        out.text(&list(&router.read(&answer)?, clock::wall()))?;
    }
    Ok(Exit::Done)
}

/// The page of one command.
pub(super) fn path(id: &str) -> String {
    format!("commands/{}", encoded(id))
}

fn list(commands: &Commands, now: Timestamp) -> String {
    if commands.commands.is_empty() {
        return "no command is in flight\n".to_owned();
    }
    let mut table = Table::new(&["id#", "type", "target", "sender", "state", "age#", "left#"]);
    for command in &commands.commands {
        table.row([
            command.id.clone(),
            command.kind_type.clone(),
            or_nothing(command.scope.as_ref()),
            or_nothing(command.sender.as_ref()),
            command.standing(),
            table::ago(command.accepted_at, now),
            table::until(command.deadline, now),
        ]);
    }
    let mut text = table.text();
    if commands.more {
        text.push_str("and more; --limit shows up to 1000\n");
    }
    text
}

/// A command whole.
pub(super) fn whole(command: &Command) -> String {
    let steps = [
        ("carried", command.carried_at),
        ("observed", command.observed_at),
        ("ended", command.ended_at),
        ("deadline", command.deadline),
    ];
    let step = |at: Timestamp| match command.accepted_at {
        Some(accepted) => {
            format!("{at}  (+{})", table::span(u64::try_from(at.ms_since(accepted)).unwrap_or(0)))
        }
        None => at.to_string(),
    };
    let kind_type = match &command.class {
        Some(class) => format!("{} ({class})", command.kind_type),
        None => command.kind_type.clone(),
    };
    let mut lines = vec![
        ("command", command.id.clone()),
        ("type", kind_type),
        ("target", or_nothing(command.scope.as_ref())),
        ("sender", or_nothing(command.sender.as_ref())),
        ("correlationId", or_nothing(command.correlation_id.as_ref())),
        ("idempotencyKey", or_nothing(command.idempotency_key.as_ref())),
        ("state", command.standing()),
        ("accepted", or_nothing(command.accepted_at)),
    ];
    lines.extend(steps.into_iter().filter_map(|(name, at)| Some((name, step(at?)))));
    if let Some(evidence) = &command.evidence {
        let detail = evidence.detail.as_deref().unwrap_or_default();
        lines.push(("evidence", format!("{}  {}  {detail}", or_nothing(evidence.at), evidence.kind)));
    }
    if let Some(detail) = command.detail.iter().flatten().next() {
        lines.push(("detail", detail.clone()));
    }
    let mut text = String::new();
    for (name, value) in lines {
        text.push_str(format!("{name:<15} {}", clean(&value)).trim_end());
        text.push('\n');
    }
    text.push_str(&matrix(command));
    text
}

/// Who was reached, who answered what, who is missing.
fn matrix(command: &Command) -> String {
    let targets = command.targets.as_deref().unwrap_or_default();
    if targets.is_empty() {
        return "\nno target is known\n".to_owned();
    }
    let has_words = targets.iter().any(|target| target.code.is_some() || target.message.is_some());
    let columns = ["target", "reached", "answer", "at", "code", "message"];
    let mut table = Table::new(if has_words { &columns } else { &columns[..4] });
    for target in targets {
        let answer = match &target.status {
            Some(status) => status.clone(),
            None => "missing".to_owned(),
        };
        let words = [or_nothing(target.code.as_ref()), or_nothing(target.message.as_ref())];
        let row = [
            or_nothing(target.scope.as_ref()),
            if target.reached { "yes" } else { "no" }.to_owned(),
            answer,
            or_nothing(target.at),
        ];
        table.row(row.into_iter().chain(words.into_iter().filter(|_| has_words)));
    }
    let (all, reached) = (targets.len(), targets.iter().filter(|target| target.reached).count());
    format!("\n{}\n{reached} of {all} reached, {} missing\n", table.text(), command.missing)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stopped() -> serde_json::Value {
        json!({
            "id": "1234", "type": "swarm-stop", "class": "stop", "sender": "orc", "correlationId": "c-1",
            "scope": { "swarmId": "kestrel", "role": "worker", "instance": "ALL" },
            "idempotencyKey": "i-1", "state": "ended", "status": "Partial", "success": false,
            "acceptedAt": "2026-03-04T10:15:00Z", "carriedAt": "2026-03-04T10:15:00.012Z", "observedAt": null,
            "endedAt": "2026-03-04T10:16:00Z", "deadline": "2026-03-04T10:16:00Z",
            "evidence": { "kind": "alert", "at": "2026-03-04T10:15:30Z", "detail": "disk\u{1b}[2J full" },
            "targets": [
                { "scope": { "swarmId": "kestrel", "role": "worker", "instance": "w-1" }, "reached": true,
                  "status": "Stopped", "at": "2026-03-04T10:15:02Z" },
                { "scope": { "swarmId": "kestrel", "role": "worker", "instance": "w-2" }, "reached": false,
                  "status": null, "at": null },
            ],
            "missing": 1,
        })
    }

    #[test]
    fn a_command_is_told_with_its_matrix() {
        let command: Command = serde_json::from_value(stopped()).unwrap();
        assert!(command.has_ended() && command.success == Some(false));
        assert_eq!(
            whole(&command),
            "command         1234\n\
             type            swarm-stop (stop)\n\
             target          kestrel/worker/ALL\n\
             sender          orc\n\
             correlationId   c-1\n\
             idempotencyKey  i-1\n\
             state           ended: Partial\n\
             accepted        2026-03-04T10:15:00Z\n\
             carried         2026-03-04T10:15:00.012Z  (+12ms)\n\
             ended           2026-03-04T10:16:00Z  (+1m00s)\n\
             deadline        2026-03-04T10:16:00Z  (+1m00s)\n\
             evidence        2026-03-04T10:15:30Z  alert  disk\u{fffd}[2J full\n\
             \n\
             TARGET              REACHED  ANSWER   AT\n\
             kestrel/worker/w-1  yes      Stopped  2026-03-04T10:15:02Z\n\
             kestrel/worker/w-2  no       missing  -\n\
             \n\
             1 of 2 reached, 1 missing\n"
        );
    }

    #[test]
    fn commands_are_told_in_a_table() {
        let commands: Commands =
            serde_json::from_value(json!({ "commands": [stopped()], "more": true })).unwrap();
        let now = Timestamp::parse("2026-03-04T10:15:45Z").unwrap();
        assert_eq!(
            list(&commands, now),
            "  ID  TYPE        TARGET              SENDER  STATE           AGE  LEFT\n\
             1234  swarm-stop  kestrel/worker/ALL  orc     ended: Partial  45s   15s\n\
             and more; --limit shows up to 1000\n"
        );
        assert_eq!(list(&Commands::default(), now), "no command is in flight\n");
    }
}
