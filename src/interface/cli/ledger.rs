//! `swarmgate ledger`: what is done with a ledger as a whole.
//!
//! Owns: the verified copy of a live ledger, and how far it is.
//! Never: writes to the ledger, or needs the router.
//! Holds: it ends with 0 only when the copy verifies.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{CliError, Exit, Globals, Out};
use crate::ledger::backup::{BackedUp, backup};

/// Width of the progress bar.
const BAR_COLUMNS: u64 = 30;
/// How often it is drawn.
const DRAW_PAUSE: Duration = Duration::from_millis(100);

/// Copy a ledger, live or at rest.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  A verified copy of the running router's ledger:
    swarmgate ledger backup /backup/2026-03-04 --ledger /var/lib/swarmgate")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a consistent, verified copy; the router may go on writing.
    #[command(after_help = "EXAMPLES:
  swarmgate ledger backup /backup/2026-03-04
  swarmgate ledger backup /backup/2026-03-04 --ledger /var/lib/swarmgate")]
    Backup {
        /// The directory for the copy; it holds no ledger yet.
        dir: PathBuf,
        /// The ledger's directory. Left out: `ledger.dir` of the config.
        #[arg(long, value_name = "DIR")]
        ledger: Option<PathBuf>,
    },
}

/// Copies.
///
/// # Errors
/// When there is no ledger, or the copy cannot be made or does not verify.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let What::Backup { dir, ledger } = args.what;
    let place = match ledger {
        Some(ledger) => ledger,
        None => globals.config()?.config.ledger.dir,
    };
    let started = Instant::now();
    let mut bar = Bar::new();
    let made = backup(&place, &dir, |done, all| bar.draw(done, all)).await;
    bar.end();
    let BackedUp { path, report, parcels } = made?;
    let (path, seconds) = (path.display().to_string(), started.elapsed().as_secs_f64());
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&json!({
            "path": path, "verdict": "VALID", "entries": report.entries, "head": report.head, "parcels": parcels,
        }))?;
    } else {
        out.line(&format!(
            "VALID: {} entries, {parcels} parcels not known carried, head {}",
            report.entries, report.head
        ))?;
        out.line(&format!("{path}, made in {seconds:.1} s; keep the head somewhere else"))?;
    }
    Ok(Exit::Done)
}

/// How far it is, on a terminal.
struct Bar {
    drawn: Option<Instant>,
    shown: bool,
}

impl Bar {
    fn new() -> Self {
        Self { drawn: None, shown: io::stderr().is_terminal() }
    }

    fn draw(&mut self, done: u64, all: u64) {
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_PAUSE) || done == all;
        if !self.shown || !due {
            return;
        }
        self.drawn = Some(Instant::now());
        let _ = write!(io::stderr(), "\r{}", bar(done, all));
    }

    fn end(&self) {
        if self.drawn.is_some() {
            let _ = writeln!(io::stderr());
        }
    }
}

fn bar(done: u64, all: u64) -> String {
    let full = done.min(all) * BAR_COLUMNS / all.max(1);
    let percent = done.min(all) * 100 / all.max(1);
    let (full, empty) = ("#".repeat(full as usize), ".".repeat((BAR_COLUMNS - full) as usize));
    format!("[{full}{empty}] {percent:>3} %, {done} of {all} entries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_far_it_is() {
        assert_eq!(bar(0, 10), format!("[{}]   0 %, 0 of 10 entries", ".".repeat(30)));
        assert_eq!(bar(5, 10), format!("[{}{}]  50 %, 5 of 10 entries", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(10, 10), format!("[{}] 100 %, 10 of 10 entries", "#".repeat(30)));
        assert!(bar(0, 0).contains("0 of 0"));
    }
}
