//! How a run ends.
//!
//! Owns: the exit codes, `CliError`, and the one form in which an error is told: what, and what to
//! do.
//! Never: tells an error twice or without a next step, or prints a secret.
//! Holds: the codes are those of docs/reference/exit-codes.md (a test compares them).

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use serde_json::json;
use thiserror::Error;

use super::{
    access_error::AccessError,
    plain_text::{escaped, one_line, steerless},
};
use crate::runtime::latch::LatchError;
use crate::{
    bus::BusError,
    config::ConfigError,
    interface::http::HttpError,
    ledger::{LedgerError, emergency::EmergencyError},
    runtime::{boot::BootError, presence::Hindrance},
    supervisor::{SuperviseError, child::ChildError, configured::ConfiguredError},
    support::BundleError,
    telemetry::{log::LogError, stderr},
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A check found a fault.
    Fault = 1,
    /// Wrong usage or config.
    Usage = 2,
    /// Something was refused, and that was asked to be told.
    Refused = 3,
    /// The broker or the running router cannot be reached, or refused.
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

/// Why a command could not do its work.
#[derive(Debug, Error)]
pub enum CliError {
    /// The config is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The router could not start.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The emergency log cannot be read.
    #[error(transparent)]
    Emergency(#[from] EmergencyError),
    /// The broker cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The broker cannot be used before a person has mended something there.
    #[error(transparent)]
    Hopeless(Arc<Hindrance>),
    /// The broker does not let an observer look.
    #[error("{fault}")]
    Denied {
        /// Why.
        fault: Arc<Hindrance>,
        /// What it lacks.
        help: String,
    },
    /// The running router cannot be asked, or said no.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// An order could not be sent, or its answer not be heard.
    #[error("{source}")]
    Unsent {
        /// Why.
        source: BusError,
        /// What to do.
        help: String,
    },
    /// The latch cannot be written.
    #[error(transparent)]
    Latch(#[from] LatchError),
    /// The HTTP window cannot be opened.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The config supervises nothing.
    #[error(transparent)]
    Configured(#[from] ConfiguredError),
    /// The supervisor could not start.
    #[error(transparent)]
    Supervise(#[from] SuperviseError),
    /// A process did not become a worker.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// There is no support bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// What was asked for makes no sense.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        help: String,
    },
    /// A file cannot be used.
    #[error("`{path}` cannot be used: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system would not start the tasks.
    #[error("the tasks cannot be started")]
    Tasks(#[source] io::Error),
    /// Standard input or output failed.
    #[error("{0}")]
    Stream(String),
    /// Whoever read our output has had enough.
    #[error("the reader of the output is gone")]
    ReaderGone,
}

impl CliError {
    /// A file that cannot be used.
    pub fn file(path: &Path, fault: &io::Error) -> Self {
        Self::File { path: path.to_owned(), reason: fault.to_string() }
    }

    /// Input that cannot be read.
    pub fn input(fault: &io::Error) -> Self {
        Self::Stream(format!("cannot read: {fault}"))
    }

    /// Output that cannot be written.
    pub fn output(fault: &io::Error) -> Self {
        match fault.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Stream(format!("cannot write: {fault}")),
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::ReaderGone => Exit::Done,
            Self::Bundle(BundleError::Secret { .. }) => Exit::Fault,
            Self::Bundle(_) => Exit::Usage,
            Self::Config(_) | Self::Usage { .. } | Self::File { .. } | Self::Stream(_) => Exit::Usage,
            Self::Http(_) | Self::Log(_) | Self::Tasks(_) => Exit::Usage,
            Self::Configured(_) | Self::Supervise(_) | Self::Child(_) => Exit::Usage,
            Self::Boot(BootError::Ledger(_) | BootError::Emergency(_)) => Exit::Ledger,
            Self::Ledger(_) | Self::Emergency(_) => Exit::Ledger,
            Self::Boot(_) => Exit::Usage,
            Self::Latch(_) => Exit::Ledger,
            Self::Bus(fault) | Self::Unsent { source: fault, .. } if is_own(fault) => Exit::Usage,
            Self::Hopeless(fault) if matches!(&**fault, Hindrance::Bus(fault) if is_own(fault)) => {
                Exit::Usage
            }
            Self::Bus(_) | Self::Hopeless(_) | Self::Denied { .. } | Self::Unsent { .. } => Exit::Broker,
            Self::Access(fault) if fault.is_wrong_call() => Exit::Usage,
            Self::Access(_) => Exit::Broker,
        }
    }

    /// What to do next.
    fn help(&self) -> String {
        match self {
            Self::Usage { help, .. } | Self::Unsent { help, .. } | Self::Denied { help, .. } => help.clone(),
            Self::Latch(fault) => fault.help().to_owned(),
            Self::Access(fault) => fault.help(),
            Self::Config(_) => {
                "`swarmgate check config FILE` shows them all; `--print-defaults` every key".to_owned()
            }
            Self::Boot(BootError::Mode { .. }) => {
                "give it a ledger of its own with --ledger, or take an observe ledger over with --adopt"
                    .to_owned()
            }
            Self::Boot(BootError::Environment { .. }) => {
                "environments do not mix: give this one a ledger of its own with --ledger".to_owned()
            }
            Self::Ledger(LedgerError::Foreign { .. }) | Self::Boot(BootError::Ledger(LedgerError::Foreign { .. })) => {
                "a ledger is a directory of its own; docs/operating/ledger.md says what is in it".to_owned()
            }
            Self::Ledger(_) | Self::Boot(BootError::Ledger(_)) => {
                "`swarmgate doctor --ledger DIR` looks at it; docs/operating/ledger.md says how to mend it"
                    .to_owned()
            }
            Self::Emergency(_) | Self::Boot(BootError::Emergency(_)) => {
                "`swarmgate audit emergency FILE` shows what it holds; docs/operating/ledger.md says what it is for"
                    .to_owned()
            }
            Self::Hopeless(fault) if matches!(**fault, Hindrance::Taken { .. }) => {
                "one prefix has one router: stop that one, wait for it with `swarmgate run --wait`, or give this one another `amqp.prefix`"
                    .to_owned()
            }
            Self::Hopeless(fault) if matches!(**fault, Hindrance::Environment { .. }) => {
                "environments do not mix: give this router another `amqp.prefix`; where the prefix itself is to change its environment, stop its router and delete the exchange `PREFIX.environment` on the broker"
                    .to_owned()
            }
            Self::Hopeless(fault) if matches!(**fault, Hindrance::Bus(BusError::Mismatch { .. })) => {
                "delete it on the broker where nothing of value is in it, or give this router other names with `amqp.prefix`; `swarmgate doctor --amqp URL` looks at the rest"
                    .to_owned()
            }
            Self::Bus(fault) if fault.is_forbidden() => {
                "the broker's user lacks a right: docs/operating/broker-permissions.md says what each tool needs".to_owned()
            }
            Self::Bus(fault) if fault.help().is_some() => fault.help().unwrap_or_default().to_owned(),
            Self::Hopeless(fault) if own_help(fault).is_some() => own_help(fault).unwrap_or_default().to_owned(),
            Self::Bus(_) | Self::Hopeless(_) => {
                "`swarmgate doctor --amqp URL` looks at the broker and says what it misses".to_owned()
            }
            Self::Bundle(BundleError::Secret { .. }) => {
                "docs/operating/runbooks/secret-in-bundle.md says what to do; nothing was kept".to_owned()
            }
            Self::Bundle(_) => "name another file with --out, in a directory that can be written".to_owned(),
            Self::Http(_) => "choose another address with --http".to_owned(),
            Self::Configured(_) | Self::Supervise(_) | Self::Child(_) => {
                "docs/operating/supervisor.md shows a whole config and what each part does".to_owned()
            }
            Self::Tasks(_) | Self::Boot(BootError::Thread(_)) => "see the limits of this process (`ulimit -a`)".to_owned(),
            Self::Log(_) | Self::File { .. } | Self::Stream(_) | Self::ReaderGone => {
                "`swarmgate help` shows how the command is used".to_owned()
            }
        }
    }

    /// A wrong call, from the parser's own words.
    pub(super) fn usage(rendered: &str) -> Self {
        let told = rendered.split("\n\nUsage:").next().unwrap_or(rendered);
        let told = told.split("\n\nFor more information").next().unwrap_or(told);
        let (message, tip) = told.split_once("\n\n  tip: ").unwrap_or((told, ""));
        let message = message.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
        let help = if tip.is_empty() { "`swarmgate --help` lists commands and options" } else { tip.trim() };
        Self::Usage { message, help: help.to_owned() }
    }

    /// Prints it on stderr, once, and returns how the run ended.
    pub(super) fn print(&self, json: bool) -> Exit {
        if matches!(self, Self::ReaderGone) {
            return Exit::Done;
        }
        let (message, help) = (one_line(&chain(self)), self.help());
        let faults = match self {
            Self::Config(ConfigError::Faulty { faults }) => faults.as_slice(),
            _ => &[],
        };
        let mut text = String::new();
        if json {
            let told = json!({ "error": message, "help": help, "exit": self.exit() as u8, "faults": faults });
            let _ = writeln!(text, "{}", escaped(&told.to_string()));
        } else {
            let _ = writeln!(text, "error: {message}");
            for fault in faults {
                text.push_str(&fault.drawn("  "));
            }
            let _ = writeln!(text, "help: {help}");
            // What a broker or a router said may be anybody's words.
            text = steerless(&text);
        }
        // Where stderr is gone too, the exit code is all that is left.
        stderr::write(&text);
        self.exit()
    }
}

/// Whether what is wrong between here and the broker is a setting or a file of our own.
fn is_own(fault: &BusError) -> bool {
    matches!(fault, BusError::Tls { fault, .. } if fault.is_own())
}

fn own_help(fault: &Hindrance) -> Option<&'static str> {
    match fault {
        Hindrance::Bus(fault) => fault.help(),
        _ => None,
    }
}

/// Makes a panic say what to do with it.
pub(super) fn explain_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        let what = panic.payload_as_str().unwrap_or("a panic without words");
        let text = format!(
            "error: a bug in swarmgate {}: {what}{}\nhelp: report it with the command that caused it; the ledger is safe\n",
            env!("CARGO_PKG_VERSION"),
            place.unwrap_or_default()
        );
        stderr::write(&text);
    }));
}

/// An error with its sources, in one line, none of them twice.
fn chain(error: &CliError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
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
        assert_eq!(told.to_string(), "unrecognized subcommand 'explan'");
        assert_eq!(told.help(), "a similar subcommand exists: 'explain'");
    }

    #[test]
    fn causes_are_told_once() {
        let cause = LedgerError::File { path: "dir".into(), source: io::Error::other("disk on fire") };
        let told = CliError::from(BootError::Ledger(cause));
        assert_eq!(told.exit(), Exit::Ledger);
        assert_eq!(chain(&told).matches("disk on fire").count(), 1, "{}", chain(&told));
    }
}
