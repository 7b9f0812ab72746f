//! The log: text for people, JSON for machines, always on stderr.
//!
//! Owns: the subscriber, its form and its level.
//! Never: writes to stdout, which belongs to what a command was asked for, or waits for whoever
//! reads the log.
//! Holds: `RUST_LOG`, where it is set, wins over the configured level.

use std::{io::IsTerminal, sync::OnceLock};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::Level;
use tracing_subscriber::EnvFilter;

pub use super::format::Format;
use super::stderr::{Own, Stderr, StderrBounds};

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

/// What changes the filter of this process's log, once it is installed.
static FILTER: OnceLock<Refilter> = OnceLock::new();

type Refilter = Box<dyn Fn(EnvFilter) -> Result<(), tracing_subscriber::reload::Error> + Send + Sync>;

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
    /// The log has gone.
    #[error("the log takes no other filter")]
    Filtered(#[from] tracing_subscriber::reload::Error),
    /// A log stands already.
    #[error("a log is installed already; install it once, at the start")]
    Installed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Installs the process's log.
///
/// # Errors
/// When `RUST_LOG` is not a filter, a log is installed already, or the system starts no thread.
pub fn install(format: Format, severity: Severity, bounds: StderrBounds) -> Result<(), LogError> {
    let filter = match asked_for() {
        Some(text) => filter(&text)?,
        None => filter(&by_level(severity))?,
    };
    let stderr = Stderr::start(format, bounds, Own).map_err(LogError::Thread)?;
    let builder = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(stderr.clone());
    let refilter: Refilter = match format {
        Format::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(LogError::Installed)?;
            Box::new(move |filter| handle.reload(filter))
        }
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(LogError::Installed)?;
            Box::new(move |filter| handle.reload(filter))
        }
    };
    let _ = FILTER.set(refilter);
    stderr.install();
    Ok(())
}

/// Has another level from now on; `false`, and nothing changed, where `RUST_LOG` says what is a
/// line.
///
/// # Errors
/// When the log has gone.
pub fn set_level(severity: Severity) -> Result<bool, LogError> {
    if asked_for().is_some() {
        return Ok(false);
    }
    if let Some(refilter) = FILTER.get() {
        refilter(filter(&by_level(severity))?)?;
    }
    Ok(true)
}

/// Has other bounds on what waits for the reader of stderr from now on.
pub fn set_bounds(bounds: StderrBounds) {
    super::stderr::set_bounds(bounds);
}

fn asked_for() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty())
}

/// The client library tells each reconnect at its own length, and every good-bye as an error; ours
/// says it once.
fn by_level(severity: Severity) -> String {
    format!("{},lapin=warn,lapin::channel=off", severity.level())
}

/// The client library prints a returned message whole, body and all, and a body may hold a secret.
/// Nothing that is asked for in RUST_LOG brings that back.
fn filter(text: &str) -> Result<EnvFilter, LogError> {
    Ok(EnvFilter::try_new(text)?.add_directive(RETURNS_OFF.parse()?))
}
