//! The log: text for people, JSON for machines, always on stderr.
//!
//! Owns: the subscriber, its form and its level.
//! Never: writes to stdout, which belongs to what a command was asked for, or waits for whoever reads the log.
//! Holds: `RUST_LOG`, where it is set, wins over the configured level.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::Level;
use tracing_subscriber::EnvFilter;

use super::stderr::{Bounds, Own, Stderr};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What is worth a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Only what is broken.
    Error,
    /// And what may break.
    Warn,
    /// And what changes.
    #[default]
    Info,
    /// And each refusal.
    Debug,
    /// And everything.
    Trace,
}

impl Severity {
    const fn level(self) -> Level {
        match self {
            Severity::Error => Level::ERROR,
            Severity::Warn => Level::WARN,
            Severity::Info => Level::INFO,
            Severity::Debug => Level::DEBUG,
            Severity::Trace => Level::TRACE,
        }
    }
}

/// Silences the one place that would print bodies.
const RETURNS_OFF: &str = "lapin::returned_messages=off";

/// Why the log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// `RUST_LOG` cannot be read.
    #[error("`RUST_LOG` is not a log filter; unset it or write it like `info,swarmgate=debug`")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The system starts no thread for it.
    #[error("no thread can be started for the log")]
    Thread(#[source] std::io::Error),
    /// A log stands already.
    #[error("a log is installed already; install it once, at the start")]
    Installed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Installs the process's log.
///
/// # Errors
/// When `RUST_LOG` is not a filter, a log is installed already, or the system starts no thread.
pub fn install(format: Format, severity: Severity, bounds: Bounds) -> Result<(), LogError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.trim().is_empty() => EnvFilter::try_new(text)?,
        // The client library tells each reconnect at its own length, and every good-bye as an error; ours says it once.
        _ => EnvFilter::try_new(format!("{},lapin=warn,lapin::channel=off", severity.level()))?,
    };
    // The client library prints a returned message whole, body and all, and a body may hold a secret. Nothing that
    // is asked for in RUST_LOG brings that back.
    let filter = filter.add_directive(RETURNS_OFF.parse()?);
    let stderr = Stderr::start(format, bounds, Own).map_err(LogError::Thread)?;
    let builder = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(stderr.clone());
    match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    }
    .map_err(LogError::Installed)?;
    stderr.install();
    Ok(())
}
