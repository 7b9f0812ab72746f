//! `swarmgate challenge`: what waits for a confirmation, and giving or refusing it.
//!
//! Owns: showing a challenge whole, and the second act that answers it.
//! Never: confirms what was not shown, or decides who may confirm; the router does.
//! Holds: a confirmation names its challenge and why, and is typed out like any consent.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    CliError, Exit, Globals, Out,
    access::{Router, encoded},
    answered::{line, requires},
    echo::{Echo, LIVE, whole},
    order::{Flags, Manner, Order, Way},
    output::aside,
    runbook, signal,
    situation::Situation,
    table::{self, Table, clean, or_nothing, place},
    wait::Wait,
};
use crate::{
    clock,
    contract::{
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    view::{
        challenges::{Challenge, Challenges, Unreviewed},
        lenient::Row,
    },
};

/// How long a command that was just confirmed may be unknown.
const UNKNOWN_MAX: Duration = Duration::from_secs(5);

/// See, confirm or reject dangerous operations that wait.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  What waits for somebody's confirmation, and how long it still does:
    swarmgate challenge list
  One of them whole: what it changes, and what it leaves alone:
    swarmgate challenge show c-4f1a…
  Let it happen; the target's name is asked for:
    swarmgate challenge confirm c-4f1a… --reason 'agreed with risk'
  Let it not happen:
    swarmgate challenge reject c-4f1a… --reason 'not today'")]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    way: Way,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Every challenge that waits.
    #[command(after_help = "EXAMPLES:\n  swarmgate challenge list\n  swarmgate challenge list --output json")]
    List,
    /// One challenge whole.
    #[command(after_help = "EXAMPLES:\n  swarmgate challenge show ID")]
    Show {
        /// Its challengeId.
        id: String,
    },
    /// Let the operation happen.
    #[command(after_help = "EXAMPLES:
  swarmgate challenge confirm ID --reason 'agreed with risk'
  What is live, in a script:
    swarmgate challenge confirm ID --reason 'agreed with risk' --yes --live kestrel/trader/t-1")]
    Confirm {
        #[command(flatten)]
        answer: Answer,
        /// Consent to live by naming the target, with --yes; needed where there is no terminal.
        #[arg(long, value_name = "TARGET", requires = "yes")]
        live: Option<String>,
        /// Consent without being asked for the target's name; needed where there is no terminal.
        #[arg(long)]
        yes: bool,
        /// Go on without the second person; for those who may, told to everybody, and reviewed by
        /// another.
        #[arg(long)]
        break_glass: bool,
        /// Wait on until the confirmed command itself has ended.
        #[arg(long, conflicts_with_all = ["no_wait", "dry_run"])]
        wait: bool,
    },
    /// Write down that a use of break-glass was looked at, by somebody other than its user.
    #[command(
        after_help = "EXAMPLES:\n  swarmgate challenge review ID --reason 'was right, see the minutes'"
    )]
    Review {
        #[command(flatten)]
        answer: Answer,
    },
    /// Let the operation not happen.
    #[command(after_help = "EXAMPLES:\n  swarmgate challenge reject ID --reason 'not today'")]
    Reject {
        #[command(flatten)]
        answer: Answer,
    },
}

#[derive(Debug, clap::Args)]
struct Answer {
    /// Its challengeId.
    id: String,
    /// Why; it is written into the ledger.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    manner: Manner,
}

/// Shows or answers.
///
/// # Errors
/// When the router does not know the challenge, consent was not given, or router or broker cannot
/// be used.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let way = &args.way;
    match args.what {
        What::List => list(way, globals).await,
        What::Show { id } => show(way, &id, globals).await,
        What::Confirm { answer, live, yes, break_glass, wait } => {
            confirm(way, answer, How { live, yes, break_glass, wait }, globals).await
        }
        What::Review { answer } => review(way, answer, globals).await,
        What::Reject { answer } => reject(way, answer, globals).await,
    }
}

async fn list(way: &Way, globals: &Globals) -> Result<Exit, CliError> {
    let router = way.access.router(globals)?;
    let answer = router.get("challenges").await?;
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&answer)?;
        return Ok(Exit::Done);
    }
    let Challenges { challenges, to_review } = router.read(&answer)?;
    if challenges.is_empty() {
        out.line("nothing waits for a confirmation")?;
    } else {
        out.text(&listed(&challenges, clock::wall()))?;
    }
    for used in &to_review {
        out.line(&to_be_reviewed(used))?;
    }
    Ok(Exit::Done)
}

/// A use of break-glass that somebody else has to look at.
fn to_be_reviewed(row: &Row<Unreviewed>) -> String {
    let unknown = Unreviewed::default();
    let used = if let Row::Known(used) = row { used } else { &unknown };
    whole(&format!(
        "break-glass: {} of {} by {}; `swarmgate challenge review {} --reason WHY`",
        or_nothing(used.operation.as_ref()),
        or_nothing(used.target.as_ref()),
        or_nothing(used.requested_by.as_ref()),
        or_nothing(used.challenge_id.as_ref())
    ))
}

fn listed(challenges: &[Row<Challenge>], now: Timestamp) -> String {
    let columns =
        ["challenge", "operation", "target", "environment", "requires", "by", "confirmed by", "left#"];
    let mut table = Table::new(&columns);
    for row in challenges {
        let challenge = match row {
            Row::Known(challenge) => challenge,
            Row::Odd(row) => {
                // One that is not understood is listed all the same: it can be shown, and rejected.
                let id = row.get("challengeId").and_then(Value::as_str).unwrap_or("?").to_owned();
                table.row([id].into_iter().chain((1..columns.len()).map(|_| "?".to_owned())));
                continue;
            }
        };
        let mark = if is_live(challenge) { format!("{LIVE} ") } else { String::new() };
        table.row([
            challenge.challenge_id.clone(),
            format!("{mark}{}", challenge.operation),
            or_nothing(challenge.target.as_deref().map(place)),
            or_nothing(challenge.environment.as_ref()),
            or_nothing(challenge.requires.as_ref()),
            or_nothing(challenge.requested_by.as_ref()),
            or_nothing(Some(challenge.confirmed_by.join(", ")).filter(|names| !names.is_empty())),
            table::until(challenge.expires_at, now),
        ]);
    }
    table.text()
}

async fn show(way: &Way, id: &str, globals: &Globals) -> Result<Exit, CliError> {
    let router = way.access.router(globals)?;
    let answer = router.get(&page(id)).await?;
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&answer)?;
    } else {
        let sender = way.sender(&Manner::default(), globals)?;
        out.text(&told(&router.read(&answer)?, &sender, clock::wall()))?;
    }
    Ok(Exit::Done)
}

fn page(id: &str) -> String {
    format!("challenges/{}", encoded(id))
}

/// A challenge whole, for somebody who may have to answer it.
fn told(challenge: &Challenge, sender: &str, now: Timestamp) -> String {
    let by = or_nothing(challenge.requested_by.as_ref());
    let [confirm, reject] = ["confirm", "reject"].map(|act| line(act, &challenge.challenge_id));
    let own = challenge.requested_by.as_deref() == Some(sender);
    let confirm = match (challenge.requires.as_deref(), own) {
        // What he may not do is not offered to him.
        (Some("second-person"), true) => format!("not by `{sender}`, who asked for it"),
        _ => confirm,
    };
    let mut lines = vec![
        ("challenge", challenge.challenge_id.clone()),
        ("operation", challenge.operation.clone()),
        ("target", or_nothing(challenge.target.as_deref().map(place))),
        ("environment", or_nothing(challenge.environment.as_ref())),
        ("difference", or_nothing(challenge.difference.as_ref())),
        ("effect", or_nothing(challenge.effect.as_ref())),
    ];
    lines.extend(challenge.not_affected.iter().map(|left_alone| ("not affected", left_alone.clone())));
    lines.extend([
        ("asked by", format!("{by} at {}", or_nothing(challenge.requested_at))),
        ("because", or_nothing(challenge.reason.as_ref())),
        ("requires", requires(challenge.requires.as_deref(), &by)),
        (
            "confirmed by",
            or_nothing(Some(challenge.confirmed_by.join(", ")).filter(|names| !names.is_empty())),
        ),
        ("expires in", table::until(challenge.expires_at, now)),
        ("command", or_nothing(challenge.command)),
        ("confirm", confirm),
        ("reject", reject),
        ("runbook", runbook::CHALLENGE.to_owned()),
    ]);
    let mut text = if is_live(challenge) { format!("{LIVE}\n") } else { String::new() };
    for (name, value) in lines {
        text.push_str(format!("{name:<13} {}", whole(&value)).trim_end());
        text.push('\n');
    }
    text
}

/// How a confirmation is given.
struct How {
    live: Option<String>,
    yes: bool,
    break_glass: bool,
    wait: bool,
}

async fn confirm(way: &Way, answer: Answer, how: How, globals: &Globals) -> Result<Exit, CliError> {
    let router = way.access.router(globals)?;
    let challenge: Challenge = router.page(&page(&answer.id)).await?;
    let mut order = order("challenge-confirm", &challenge, &answer, way, globals).await?;
    if how.break_glass {
        order.data["breakGlass"] = Value::Bool(true);
        order
            .echo
            .effect
            .push_str("; without the second person, which everybody is told and another reviews");
    }
    let flags = Flags { yes: how.yes, wait_consent: false };
    let exit = order.give(way, (&answer.manner, &flags, how.live.as_deref()), globals).await?;
    let (Exit::Done, Some(command), false) = (exit, challenge.command, answer.manner.dry_run) else {
        return Ok(exit);
    };
    if how.wait {
        return awaited(&router, &command.to_string(), globals).await;
    }
    if !globals.is_json() {
        aside(&clean(&format!("its command is {command}: `swarmgate wait {command}` waits for its end")));
    }
    Ok(exit)
}

/// A use of break-glass is over and no challenge any more, so there is nothing to show but its id.
async fn review(way: &Way, answer: Answer, globals: &Globals) -> Result<Exit, CliError> {
    let everywhere = Scope::new(ALL, ALL, ALL);
    let situation = Situation::look(&way.access, &everywhere, globals).await?;
    let echo = Echo {
        operation: "review of break-glass".to_owned(),
        target: answer.id.clone(),
        environment: situation.environment(),
        standing: situation.standing(None),
        effect: "the ledger says that you have looked at it".to_owned(),
        not_affected: vec!["what was done: it stays done".to_owned()],
        sender: way.sender(&answer.manner, globals)?,
        ..Echo::default()
    };
    let data = json!({ "challengeId": answer.id, "reason": answer.reason });
    let scope = Scope::router(situation.router().unwrap_or("router"));
    let order = Order { kind_type: "challenge-confirm", scope, data, echo };
    order.give(way, (&answer.manner, &Flags::default(), None), globals).await
}

async fn awaited(router: &Router, id: &str, globals: &Globals) -> Result<Exit, CliError> {
    // Its deadline begins now and the router ends it then, so this is longer than any that is
    // usual.
    let timeout = Duration::from_secs(300);
    Wait { router, id, timeout, unknown_max: UNKNOWN_MAX, was_reached: true }.shown(globals).await
}

async fn reject(way: &Way, answer: Answer, globals: &Globals) -> Result<Exit, CliError> {
    let router = way.access.router(globals)?;
    let challenge: Challenge = router.page(&page(&answer.id)).await?;
    let mut order = order("challenge-reject", &challenge, &answer, way, globals).await?;
    order.echo.dangerous = false;
    order.echo.effect = "the operation does not happen; its command ends as refused".to_owned();
    order.echo.difference = None;
    order.echo.not_affected = vec!["everything: it stays as it is".to_owned()];
    order.give(way, (&answer.manner, &Flags::default(), None), globals).await
}

async fn order(
    kind_type: &'static str,
    challenge: &Challenge,
    answer: &Answer,
    way: &Way,
    globals: &Globals,
) -> Result<Order, CliError> {
    let target = target(challenge);
    let seen = target.clone().unwrap_or_else(|| Scope::new(ALL, ALL, ALL));
    let situation = Situation::look(&way.access, &seen, globals).await?;
    let swarm = Some(seen.swarm_id.as_str()).filter(|swarm| *swarm != ALL);
    let name = challenge.target.as_deref().map(place).unwrap_or_else(|| challenge.challenge_id.clone());
    let difference = challenge.difference.clone().map(|words| match words.split_once("->") {
        Some((from, to)) => (from.trim().to_owned(), to.trim().to_owned()),
        None => ("as it is".to_owned(), words),
    });
    let echo = Echo {
        operation: format!("{kind_type} of {} for", challenge.operation),
        target: name,
        live: is_live(challenge),
        dangerous: true,
        environment: challenge.environment.clone().or_else(|| situation.environment()),
        difference,
        standing: situation.standing(swarm),
        effect: challenge.effect.clone().unwrap_or_else(|| format!("{} goes on", challenge.operation)),
        not_affected: challenge.not_affected.clone(),
        sender: way.sender(&answer.manner, globals)?,
    };
    let mut data = json!({ "challengeId": challenge.challenge_id, "reason": answer.reason });
    if let Some(seen) = &challenge.command_sha256 {
        // What is answered is what was shown.
        data["commandSha256"] = Value::from(seen.clone());
    }
    // A consent names one instance: the target where it is one, else the router that asked for it.
    let router = || Scope::router(situation.router().unwrap_or("router"));
    let scope = target.filter(|scope| !scope.fans_out()).unwrap_or_else(router);
    Ok(Order { kind_type, scope, data, echo })
}

/// The target as a scope, where it is one instance or a fan-out in full.
fn target(challenge: &Challenge) -> Option<Scope> {
    signal::scope(challenge.target.as_deref()?).ok()
}

/// Whether it has to do with real money; in doubt it has.
fn is_live(challenge: &Challenge) -> bool {
    let words = [challenge.difference.clone(), challenge.effect.clone()];
    words.into_iter().flatten().chain([challenge.operation.clone()]).any(|words| {
        let words = words.to_lowercase();
        words.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "live")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Value {
        json!({
            "challengeId": "c-1", "operation": "bot-start", "environment": "prod", "requires": "second-person",
            "target": { "swarmId": "kestrel", "role": "trader", "instance": "t-1" },
            "requestedBy": "ann", "requestedAt": "2026-03-04T10:15:00Z", "expiresAt": "2026-03-04T10:16:00Z",
            "effect": "it trades", "notAffected": ["t-2"], "difference": "IDLE->RUNNING_LIVE",
            "confirmedBy": [], "command": 1234, "reason": "open",
        })
    }

    fn challenge() -> Challenge {
        serde_json::from_value(row()).unwrap()
    }

    #[test]
    fn an_odd_row_hides_no_other() {
        let odd = json!({ "challengeId": "c-0", "operation": 7 });
        let bare =
            json!({ "challengeId": "c-2", "operation": null, "notAffected": null, "confirmedBy": null });
        let rows = [odd, row(), bare].map(|row| serde_json::from_value(row).unwrap());
        let text = listed(&rows, now());
        for id in ["c-0 ", "c-1 ", "c-2 "] {
            assert!(text.lines().any(|line| line.starts_with(id)), "{text}");
        }
    }

    fn now() -> Timestamp {
        Timestamp::parse("2026-03-04T10:15:20Z").unwrap()
    }

    #[test]
    fn what_waits_is_listed_with_its_mark() {
        assert_eq!(
            listed(&[Row::Known(challenge())], now()),
            "CHALLENGE  OPERATION         TARGET              ENVIRONMENT  REQUIRES       BY   CONFIRMED BY  LEFT\n\
             c-1        [LIVE] bot-start  kestrel/trader/t-1  prod         second-person  ann  -              40s\n"
        );
    }

    #[test]
    fn who_may_not_confirm_is_not_told_how() {
        let line = "swarmgate challenge confirm c-1";
        let for_bob = told(&challenge(), "bob", now());
        assert!(for_bob.starts_with("[LIVE]\n") && for_bob.contains(line), "{for_bob}");
        for field in
            ["IDLE->RUNNING_LIVE", "it trades", "t-2", "prod", "1234", "open", "somebody other than `ann`"]
        {
            assert!(for_bob.contains(field), "{field}\n{for_bob}");
        }
        let for_ann = told(&challenge(), "ann", now());
        assert!(!for_ann.contains(line) && for_ann.contains("not by `ann`"), "{for_ann}");
        let explicit = Challenge { requires: Some("explicit".to_owned()), ..challenge() };
        assert!(told(&explicit, "ann", now()).contains(line));
    }

    #[test]
    fn live_is_a_word_and_not_a_part_of_one() {
        assert!(is_live(&challenge()));
        let of = |difference: &str| Challenge { difference: Some(difference.to_owned()), ..challenge() };
        assert!(!is_live(&of("IDLE->RUNNING_PAPER")) && !is_live(&of("delivery")));
        let effect = Challenge { effect: Some("The Live config changes".to_owned()), ..of("x") };
        assert!(is_live(&effect));
        assert!(is_live(&Challenge { operation: "live start".to_owned(), ..of("x") }));
    }

    #[test]
    fn a_target_is_read_in_either_form() {
        let scope = Scope::new("kestrel", "trader", "t-1");
        assert_eq!(target(&challenge()), Some(scope.clone()));
        let of = |written: Value| target(&serde_json::from_value(json!({ "target": written })).unwrap());
        assert_eq!(of(json!("kestrel/trader/t-1")), Some(scope));
        assert_eq!((of(json!("ALL")), of(json!(null))), (None, None));
    }
}
