//! `swarmgate wait`: until a command has ended.
//!
//! Owns: asking again until there is an end, and what that end means for a script.
//! Never: gives up because the router restarts meanwhile: commands survive that, and so does
//! waiting.
//! Holds: 0 is success, 3 an end without success, 1 no end within the time, 2 a command that the
//! router does not know.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{
    CliError, Exit, Globals, Out,
    access::{Access, Router},
    commands,
    table::clean,
};
use crate::view::commands::Command;

/// The first pause between two questions; it doubles up to the next.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a command that was just sent may be unknown.
const UNKNOWN_MAX: Duration = Duration::from_secs(5);

/// Wait until a command has ended, and say how.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  By its number, as `swarmgate commands` shows it:
    swarmgate wait 1234
  By its correlationId, for ten seconds:
    swarmgate wait 0198a6c2-7f3e-7cc1-9d1e-3a2b4c5d6e7f --timeout 10
  In a script: 0 succeeded, 3 ended otherwise, 1 still in flight, 2 not known to the router for 5 s:
    swarmgate wait 1234 --output json || echo \"not done: $?\"")]
pub struct Args {
    /// The command's number or correlationId.
    #[arg(value_name = "ID")]
    id: String,
    /// Wait so long at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    #[command(flatten)]
    access: Access,
}

/// Waits.
///
/// # Errors
/// When the router cannot be asked at first, or does not know the command.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let router = args.access.router(globals)?;
    let wait = Wait {
        router: &router,
        id: &args.id,
        timeout: Duration::from_secs(args.timeout),
        unknown_max: UNKNOWN_MAX,
        was_reached: false,
    };
    wait.shown(globals).await
}

/// A wait for one command.
pub(super) struct Wait<'router> {
    pub router: &'router Router,
    /// Its number or correlationId.
    pub id: &'router str,
    pub timeout: Duration,
    /// How long the router may not know it.
    pub unknown_max: Duration,
    /// The router has answered before; from then on its absence is waited out.
    pub was_reached: bool,
}

impl Wait<'_> {
    /// Waits, prints each state as it comes and the command whole at its end.
    ///
    /// # Errors
    /// When the router cannot be asked at first, or does not know the command.
    pub async fn shown(self, globals: &Globals) -> Result<Exit, CliError> {
        let mut out = Out::new();
        let (id, seconds) = (self.id.to_owned(), self.timeout.as_secs());
        let last = self
            .ended(|command| {
                if globals.is_json() || command.has_ended() {
                    return Ok(());
                }
                out.line(&clean(&format!("command {}: {}{}", command.id, command.standing(), left(command))))
            })
            .await?;
        let Some((answer, command)) = last else {
            if !globals.is_json() {
                out.line(&clean(&format!("no command `{id}` was accepted within {seconds} s")))?;
            }
            return Ok(Exit::Fault);
        };
        if globals.is_json() {
            out.json(&answer)?;
        } else {
            out.text(&commands::whole(&command))?;
        }
        if !command.has_ended() && !globals.is_json() {
            out.line(&format!("still in flight after {seconds} s; the router ends it at its deadline"))?;
        }
        Ok(match (command.has_ended(), command.success) {
            (true, Some(true)) => Exit::Done,
            (true, _) => Exit::Refused,
            (false, _) => Exit::Fault,
        })
    }

    /// Asks until it has ended or the time is over; the last answer, as it came and as it was read,
    /// if there was one. `changed` gets it at each new state, and when one more target has
    /// answered.
    ///
    /// # Errors
    /// When the router cannot be asked at first, or does not know the command, or `changed` fails.
    pub(super) async fn ended(
        mut self,
        mut changed: impl FnMut(&Command) -> Result<(), CliError>,
    ) -> Result<Option<(Value, Command)>, CliError> {
        let started = Instant::now();
        let (mut last, mut shown, mut pause) = (None, None, PAUSE_MIN);
        let mut known_at = started;
        let mut page = commands::path(self.id);
        loop {
            match self.router.get(&page).await {
                Ok(answer) => {
                    self.was_reached = true;
                    known_at = Instant::now();
                    let command: Command = self.router.read(&answer)?;
                    // By its number it is found at once when it has ended; a correlationId is
                    // looked for.
                    page = commands::path(&command.id);
                    let now = Some((command.standing(), command.missing));
                    if now != shown {
                        changed(&command)?;
                        shown = now;
                    }
                    let has_ended = command.has_ended();
                    last = Some((answer, command));
                    if has_ended {
                        return Ok(last);
                    }
                }
                // Not accepted yet, or between its end and the entry that will tell of it.
                Err(fault) if fault.is_unknown() && known_at.elapsed() < self.unknown_max => {
                    self.was_reached = true;
                }
                Err(fault) if fault.is_passing() && self.was_reached => {}
                Err(fault) => return Err(fault.into()),
            }
            let left = self.timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(last);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// How many targets of a fan-out have not answered.
fn left(command: &Command) -> String {
    match command.targets.as_ref().map_or(0, Vec::len) {
        0 | 1 => String::new(),
        all => format!(", {} of {all} missing", command.missing),
    }
}
