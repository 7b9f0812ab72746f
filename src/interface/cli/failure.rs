//! How a run ends.
//!
//! Owns: the exit codes, and the one form in which an error is told: what, and what to do.
//! Never: tells an error twice, or without a next step.
//! Holds: the codes are those of docs/reference/exit-codes.md (a test compares them).

use std::{error::Error, fmt::Write as _, io, path::Path, process::ExitCode};

use serde_json::json;

use crate::{
    bus::BusError, interface::http::HttpError, ledger::LedgerError, runtime::boot::BootError,
    runtime::config::Fault, telemetry::log::LogError,
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A check found a fault.
    Fault = 1,
    /// Wrong usage or config.
    Usage = 2,
    /// Something was refused, and that was asked to be told.
    Refused = 3,
    /// The broker cannot be reached or refused.
    Broker = 4,
    /// The ledger cannot be read or written.
    Ledger = 5,
    /// A bug in Swarmgate.
    Bug = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a run failed.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    message: String,
    help: String,
    faults: Vec<Fault>,
    /// The reader of stdout has gone away: nothing is told, nothing failed.
    gone: bool,
}

impl CliError {
    /// An error in words.
    pub fn new(exit: Exit, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: help.into(), faults: Vec::new(), gone: false }
    }

    /// An error with its causes.
    pub fn of(exit: Exit, error: &(dyn Error + 'static), help: &str) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(fault) = cause {
            let told = fault.to_string();
            if !message.contains(&told) {
                let _ = write!(message, ": {told}");
            }
            cause = fault.source();
        }
        Self::new(exit, message, help)
    }

    /// A file that cannot be read or written.
    pub fn file(path: &Path, fault: &io::Error) -> Self {
        let message = format!("`{}` cannot be used: {fault}", path.display());
        Self::new(Exit::Usage, message, "name another, or mend its permissions")
    }

    /// Stdin that cannot be read.
    pub fn input(fault: &io::Error) -> Self {
        Self::new(Exit::Usage, format!("the input cannot be read: {fault}"), "see where it comes from")
    }

    /// Stdout that cannot be written; quiet where its reader has gone away.
    pub fn output(fault: &io::Error) -> Self {
        let gone = fault.kind() == io::ErrorKind::BrokenPipe;
        let error =
            Self::new(Exit::Usage, format!("the output cannot be written: {fault}"), "see where it goes");
        Self { gone, ..error }
    }

    /// The system refused something that it never should.
    pub fn system(what: &str, fault: &io::Error) -> Self {
        Self::new(
            Exit::Bug,
            format!("cannot {what}: {fault}"),
            "see the limits of this process (`ulimit -a`)",
        )
    }

    /// A wrong call, from the parser's own words.
    pub(super) fn usage(rendered: &str) -> Self {
        let told = rendered.split("\n\nUsage:").next().unwrap_or(rendered);
        let told = told.split("\n\nFor more information").next().unwrap_or(told);
        let (message, tip) = told.split_once("\n\n  tip: ").unwrap_or((told, ""));
        let message = message.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
        let help = if tip.is_empty() { "`swarmgate --help` lists commands and options" } else { tip.trim() };
        Self::new(Exit::Usage, message, help)
    }

    /// The same error with the faults that make it up.
    #[must_use]
    pub fn with_faults(self, faults: Vec<Fault>) -> Self {
        Self { faults, ..self }
    }

    /// Tells it on stderr, once, and answers how the run ended.
    pub(super) fn tell(&self, json: bool) -> Exit {
        if self.gone {
            return Exit::Done;
        }
        let mut text = String::new();
        if json {
            let told = json!({
                "error": self.message, "help": self.help, "exit": self.exit as u8, "faults": self.faults,
            });
            let _ = writeln!(text, "{told}");
        } else {
            let _ = writeln!(text, "error: {}", self.message);
            for fault in &self.faults {
                let _ = writeln!(text, "  {}: {}\n      {}", fault.at, fault.message, fault.help);
            }
            let _ = writeln!(text, "help: {}", self.help);
        }
        // Where stderr is gone too, the exit code is all that is left.
        let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        self.exit
    }
}

/// Makes a panic tell what to do with it.
pub(super) fn tell_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        let what = panic.payload_as_str().unwrap_or("a panic without words");
        let text = format!(
            "error: a bug in swarmgate {}: {what}{}\nhelp: report it with the command that caused it; the ledger is safe\n",
            env!("CARGO_PKG_VERSION"),
            place.unwrap_or_default()
        );
        let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    }));
}

impl From<LedgerError> for CliError {
    fn from(error: LedgerError) -> Self {
        Self::of(Exit::Ledger, &error, "`swarmgate audit verify` says whether what is written is whole")
    }
}

impl From<BusError> for CliError {
    fn from(error: BusError) -> Self {
        Self::of(
            Exit::Broker,
            &error,
            "see that the broker runs and that `amqp.url` names it and a user it lets in",
        )
    }
}

impl From<BootError> for CliError {
    fn from(error: BootError) -> Self {
        match error {
            BootError::Ledger(error) => error.into(),
            BootError::Mode { .. } => {
                Self::of(Exit::Usage, &error, "name another --ledger, or --adopt this one")
            }
            BootError::Environment { .. } => Self::of(
                Exit::Usage,
                &error,
                "name another --ledger, or set `environment` to the ledger's own",
            ),
        }
    }
}

impl From<HttpError> for CliError {
    fn from(error: HttpError) -> Self {
        Self::of(Exit::Usage, &error, "free the address, or choose another with --http ADDR:PORT")
    }
}

impl From<LogError> for CliError {
    fn from(error: LogError) -> Self {
        Self::of(Exit::Usage, &error, "unset `RUST_LOG`, or write it like `info,swarmgate=debug`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_page() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/exit-codes.md"));
        let help = super::super::EXIT_CODES;
        for exit in
            [Exit::Done, Exit::Fault, Exit::Usage, Exit::Refused, Exit::Broker, Exit::Ledger, Exit::Bug]
        {
            assert!(page.contains(&format!("| {} |", exit as u8)), "{exit:?} is not on the page");
            assert!(
                help.lines().any(|line| line.trim_start().starts_with(&format!("{} ", exit as u8))),
                "{exit:?}"
            );
        }
    }

    #[test]
    fn a_wrong_call_is_one_line_and_a_tip() {
        let told = CliError::usage(
            "error: unrecognized subcommand 'explan'\n\n  tip: a similar subcommand exists: 'explain'\n\nUsage: swarmgate",
        );
        assert_eq!(told.message, "unrecognized subcommand 'explan'");
        assert_eq!(told.help, "a similar subcommand exists: 'explain'");
    }

    #[test]
    fn causes_are_told_once() {
        let cause = LedgerError::File { path: "dir".into(), source: io::Error::other("disk on fire") };
        let told = CliError::from(BootError::Ledger(cause));
        assert_eq!(told.exit, Exit::Ledger);
        assert_eq!(told.message.matches("disk on fire").count(), 1, "{}", told.message);
    }
}
