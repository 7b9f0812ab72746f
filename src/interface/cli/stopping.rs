//! The stop that a kill switch has ordered: how it is found again, and who has stopped.
//!
//! Owns: its ids, who has stopped and who has not stopped yet, as the router's API knows it.
//! Never: sends or ends anything; a router that does not answer leaves the stop as it is.
//! Holds: who has not answered has not stopped. 0 is everyone or nobody to wait for, 3 an end with
//! somebody missing, 1 no end yet.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{
    CliError, Exit, Globals, Out,
    access::{Access, Router},
    echo::whole,
    output::aside,
    runbook,
    sent::accepted,
    situation::BRIEFLY,
    table::{or_nothing, place},
    wait::Wait,
};
use crate::view::{commands::Command, lenient::words};

/// How many names a line lists.
const NAMED_MAX: usize = 20;
/// How long the router may not know a stop that it has named.
const UNKNOWN_MAX: Duration = Duration::from_secs(5);

/// A stop that the router ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// By what it is followed.
    pub correlation: String,
    /// Whom it tells to stop.
    pub target: String,
}

impl Stop {
    /// The stop that the context of an outcome names.
    pub fn of(context: &Value) -> Option<Self> {
        let text = |name: &str| context.pointer(&format!("/stop/{name}")).and_then(words);
        Some(Self { correlation: text("correlationId")?, target: text("target")? })
    }

    /// Names it, with who has stopped by now; no question to the router holds this up for long.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub async fn show(&self, access: &Access, globals: &Globals) -> Result<(), CliError> {
        let command = match access.router(globals) {
            Ok(router) => self.glance(&router).await,
            Err(_) => None,
        };
        self.print(command.as_ref(), self.lines(command.as_ref()), globals)
    }

    async fn glance(&self, router: &Router) -> Option<Command> {
        tokio::time::timeout(BRIEFLY, accepted(router, &self.correlation)).await.ok().flatten()
    }

    /// Waits until it has ended, and names each that has stopped as it answers.
    ///
    /// # Errors
    /// When the router cannot be asked, or stdout is closed or full.
    pub async fn ended(
        &self,
        access: &Access,
        timeout: Duration,
        globals: &Globals,
    ) -> Result<Exit, CliError> {
        let router = access.router(globals)?;
        let (id, unknown_max) = (self.correlation.as_str(), UNKNOWN_MAX);
        let wait = Wait { router: &router, id, timeout, unknown_max, was_reached: false };
        let (mut heard, is_json) = (BTreeSet::new(), globals.is_json());
        let last = wait.ended(|command| {
            for target in command.targets.iter().flatten().filter(|_| !is_json) {
                let Some(status) = &target.status else { continue };
                let name = or_nothing(target.scope.as_ref());
                if heard.insert(name.clone()) {
                    aside(&whole(&format!("  {name}: {status}")));
                }
            }
            Ok(())
        });
        let command = last.await?.map(|(_, command)| command);
        let exit = match &command {
            Some(command) if command.has_ended() && command.success == Some(true) => Exit::Done,
            Some(command) if command.has_ended() => Exit::Refused,
            _ => Exit::Fault,
        };
        self.print(command.as_ref(), self.end(command.as_ref(), exit, timeout), globals)?;
        Ok(exit)
    }

    fn print(
        &self,
        command: Option<&Command>,
        lines: Vec<String>,
        globals: &Globals,
    ) -> Result<(), CliError> {
        let mut out = Out::new();
        if globals.is_json() {
            return out.json(&self.json(command));
        }
        let lines: Vec<String> = lines.iter().map(|line| whole(line)).collect();
        out.text(&format!("{}\n", lines.join("\n")))
    }

    fn lines(&self, command: Option<&Command>) -> Vec<String> {
        let number = command.map(|command| format!("command {}, ", command.id)).unwrap_or_default();
        let target = place(&self.target);
        let mut lines =
            vec![format!("the stop: bot-stop {target}, {number}correlationId {}", self.correlation)];
        match command {
            Some(command) => lines.extend(standing(command)),
            None => lines.push("  the router's API does not say here who has stopped".to_owned()),
        }
        lines.push(format!("  to follow it: swarmgate wait {}", self.correlation));
        lines.push(format!("  each target:  swarmgate commands {}", self.correlation));
        lines
    }

    fn end(&self, command: Option<&Command>, exit: Exit, timeout: Duration) -> Vec<String> {
        let late = format!("no end within {} s", timeout.as_secs());
        let mut lines = match command {
            Some(command) if command.has_ended() => {
                vec![format!("bot-stop {}: {}", place(&self.target), command.standing())]
            }
            _ => vec![format!("bot-stop {}: {late}; it may still end", place(&self.target))],
        };
        lines.extend(command.into_iter().flat_map(standing));
        if exit == Exit::Fault {
            lines.push(format!("  next: `swarmgate wait {}` waits on", self.correlation));
        }
        if exit != Exit::Done {
            lines.push(format!("  runbook: {}", runbook::STOP_STUCK));
        }
        lines
    }

    fn json(&self, command: Option<&Command>) -> Value {
        let names = |stopped| command.map(|command| names(command, stopped));
        json!({ "stop": {
            "target": self.target,
            "correlationId": self.correlation,
            "command": command.map(|command| &command.id),
            "state": command.map(|command| &command.state),
            "status": command.and_then(|command| command.status.as_ref()),
            "stopped": names(true),
            "notStopped": names(false),
            "nextStep": format!("swarmgate wait {}", self.correlation),
        } })
    }
}

/// Whose answer says that it has stopped, or all others.
fn names(command: &Command, stopped: bool) -> Vec<String> {
    let targets = command.targets.iter().flatten();
    let theirs = targets.filter(|target| (target.success == Some(true)) == stopped);
    theirs.map(|target| or_nothing(target.scope.as_ref())).collect()
}

/// How many have stopped, and who has not.
fn standing(command: &Command) -> Vec<String> {
    let [stopped, left] = [true, false].map(|stopped| names(command, stopped));
    let all = stopped.len() + left.len();
    if all == 0 {
        return vec!["  the router knows nobody there who could answer".to_owned()];
    }
    let mut lines = vec![format!("  stopped: {} of {all}", stopped.len())];
    if !left.is_empty() {
        let more = left.len().checked_sub(NAMED_MAX).filter(|more| *more > 0);
        let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
        let named: Vec<_> = left.into_iter().take(NAMED_MAX).collect();
        lines.push(format!("  not stopped yet: {}{more}", named.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop() -> Stop {
        Stop { correlation: "stop-1".to_owned(), target: "kestrel/ALL/ALL".to_owned() }
    }

    fn command(state: &str, status: Option<&str>, answers: &[Option<&str>]) -> Command {
        let targets = answers.iter().enumerate().map(|(n, status)| {
            json!({ "scope": { "swarmId": "kestrel", "role": "worker", "instance": format!("w-{n}") },
                    "reached": true, "status": status, "success": status.map(|status| status == "Stopped") })
        });
        let targets: Vec<Value> = targets.collect();
        let success = (state == "ended").then_some(status == Some("Stopped"));
        let command = json!({
            "id": "57", "state": state, "status": status, "success": success, "targets": targets,
        });
        serde_json::from_value(command).unwrap()
    }

    #[test]
    fn an_outcome_names_its_stop_or_none() {
        let named = json!({ "stop": { "correlationId": "stop-1", "target": "kestrel/ALL/ALL" } });
        assert_eq!(Stop::of(&named), Some(stop()));
        for nothing in [Value::Null, json!({}), json!({ "stop": null }), json!({ "stop": { "target": "k" } })]
        {
            assert_eq!(Stop::of(&nothing), None, "{nothing}");
        }
    }

    #[test]
    fn who_has_not_stopped_is_named() {
        let command = command("carried", None, &[Some("Stopped"), None, Some("Failed")]);
        let lines = stop().lines(Some(&command));
        assert_eq!(
            lines,
            [
                "the stop: bot-stop kestrel, command 57, correlationId stop-1",
                "  stopped: 1 of 3",
                "  not stopped yet: kestrel/worker/w-1, kestrel/worker/w-2",
                "  to follow it: swarmgate wait stop-1",
                "  each target:  swarmgate commands stop-1",
            ]
        );
        let json = stop().json(Some(&command));
        assert_eq!(json["stop"]["stopped"], json!(["kestrel/worker/w-0"]));
        assert_eq!(json["stop"]["notStopped"], json!(["kestrel/worker/w-1", "kestrel/worker/w-2"]));
    }

    #[test]
    fn who_is_not_known_has_not_stopped() {
        let lines = stop().lines(None);
        assert!(lines.iter().any(|line| line.contains("does not say")), "{lines:?}");
        assert_eq!(stop().json(None)["stop"]["stopped"], Value::Null);
        assert_eq!(standing(&command("carried", None, &[])).len(), 1);
        let many = command("carried", None, &[None; NAMED_MAX + 1]);
        assert!(standing(&many)[1].ends_with("w-19 and 1 more"), "{:?}", standing(&many));
        let full = command("carried", None, &[None; NAMED_MAX]);
        assert!(standing(&full)[1].ends_with("w-19"), "{:?}", standing(&full));
    }

    #[test]
    fn an_end_with_somebody_missing_names_runbook_and_next_step() {
        let partial = command("ended", Some("Partial"), &[Some("Stopped"), None]);
        let lines = stop().end(Some(&partial), Exit::Refused, Duration::from_secs(90));
        assert_eq!(
            lines,
            [
                "bot-stop kestrel: ended: Partial",
                "  stopped: 1 of 2",
                "  not stopped yet: kestrel/worker/w-1",
                "  runbook: docs/operating/runbooks/lifecycle.stop-stuck.md",
            ]
        );
        let waits = command("carried", None, &[None]);
        let lines = stop().end(Some(&waits), Exit::Fault, Duration::from_secs(2));
        assert_eq!(lines[0], "bot-stop kestrel: no end within 2 s; it may still end");
        assert!(lines.contains(&"  next: `swarmgate wait stop-1` waits on".to_owned()), "{lines:?}");
    }
}
