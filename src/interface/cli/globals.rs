//! What every command shares: the config's layers, the form of the output, errors and exit codes.
//!
//! Owns: `CliError`, its words and its next step, and which exit code it ends with.
//! Never: prints a secret: a config error names a path, an address is shown without its password.
//! Holds: exit codes are stable (docs/reference/exit-codes.md).

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;
use thiserror::Error;

use crate::{
    bus::BusError,
    interface::http::HttpError,
    ledger::LedgerError,
    runtime::{
        boot::BootError,
        config::{ConfigError, Layers, Loaded, Setting, load},
    },
    telemetry::log::LogError,
};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done,
    /// A check found a fault.
    Fault,
    /// Bad usage or config.
    Usage,
    /// Something was refused, and that was asked to fail.
    Refused,
    /// The broker is unreachable.
    Broker,
    /// Trouble with the ledger.
    Ledger,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Fault => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Broker => 4,
            Exit::Ledger => 5,
        })
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
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
    /// The broker cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The HTTP window cannot be opened.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
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

    fn exit(&self) -> Exit {
        match self {
            Self::ReaderGone => Exit::Done,
            Self::Config(_) | Self::Usage { .. } | Self::File { .. } | Self::Stream(_) => Exit::Usage,
            Self::Http(_) | Self::Log(_) => Exit::Usage,
            Self::Boot(BootError::Ledger(_)) | Self::Ledger(_) => Exit::Ledger,
            Self::Boot(_) => Exit::Usage,
            Self::Bus(_) => Exit::Broker,
        }
    }

    /// What to do next.
    fn help(&self) -> String {
        match self {
            Self::Usage { help, .. } => help.clone(),
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
            Self::Ledger(_) | Self::Boot(BootError::Ledger(_)) => {
                "`swarmgate doctor --ledger DIR` looks at it; docs/operating/ledger.md says how to mend it"
                    .to_owned()
            }
            Self::Bus(_) => {
                "`swarmgate doctor --amqp URL` looks at the broker and says what it misses".to_owned()
            }
            Self::Http(_) => "choose another address with --http".to_owned(),
            Self::Log(_) | Self::File { .. } | Self::Stream(_) | Self::ReaderGone => {
                "`swarmgate help` shows how the command is used".to_owned()
            }
        }
    }
}

/// What every command is given.
#[derive(Debug)]
pub struct Globals {
    file: Option<PathBuf>,
    output: Option<OutputFormat>,
}

impl Globals {
    /// The flags as they were given.
    pub fn new(file: Option<PathBuf>, output: Option<OutputFormat>) -> Self {
        Self { file, output }
    }

    /// The config of file and environment.
    ///
    /// # Errors
    /// Every fault in it.
    pub fn config(&self) -> Result<Loaded, ConfigError> {
        self.config_with(Vec::new())
    }

    /// The config with a command's own flags, as (flag, path, value), on top.
    ///
    /// # Errors
    /// Every fault in it.
    pub fn config_with(&self, flags: Vec<(&str, &str, String)>) -> Result<Loaded, ConfigError> {
        let setting = |(flag, path, value): (&str, &str, String)| Setting {
            flag: flag.to_owned(),
            path: path.to_owned(),
            value,
        };
        load(&Layers {
            file: self.file.clone(),
            env: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            flags: flags.into_iter().map(setting).collect(),
        })
    }

    /// Whether the output is for machines.
    pub fn is_json(&self) -> bool {
        self.output_or(OutputFormat::Text) == OutputFormat::Json
    }

    /// The form of the output, where a command has its own default.
    pub fn output_or(&self, default: OutputFormat) -> OutputFormat {
        self.output.unwrap_or(default)
    }

    /// The config file that was named.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Tells an error, once, and answers the exit code it ends with.
    pub fn tell(&self, error: &CliError) -> Exit {
        if matches!(error, CliError::ReaderGone) {
            return Exit::Done;
        }
        let (message, help) = (chain(error), error.help());
        let faults = match error {
            CliError::Config(ConfigError::Faulty { faults }) => faults.as_slice(),
            _ => &[],
        };
        if self.is_json() {
            eprintln!("{}", json!({ "error": message, "help": help, "faults": faults }));
            return error.exit();
        }
        for fault in faults {
            eprintln!("error: {}: {}\n  help: {}", fault.at, fault.message, fault.help);
        }
        eprintln!("error: {message}\n  help: {help}");
        error.exit()
    }
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
