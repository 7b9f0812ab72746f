//! Stdout: what was asked for. Stderr: what is told beside it.
//!
//! Owns: the two forms of an answer, what of it may reach a terminal, and what happens when the
//! reader goes away.
//! Never: writes an error, or uses the printing macros: they panic when a pipe is closed.
//! Holds: a closed pipe ends the command quietly; every other fault of stdout is told.

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use super::CliError;
pub use super::plain_text::{escaped, one_line, steerless};
use crate::telemetry::stderr;

/// How answers and errors look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: JSON.
    Json,
}

/// Stdout, for answers.
#[derive(Debug)]
pub struct Out(io::StdoutLock<'static>);

impl Out {
    /// Takes stdout.
    pub fn new() -> Self {
        Self(io::stdout().lock())
    }

    /// Prints text of several lines. What would steer a terminal is shown as U+FFFD; a stranger's
    /// words in it were put on one line by `one_line`.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.raw(&steerless(text))
    }

    fn raw(&mut self, text: &str) -> Result<(), CliError> {
        self.0
            .write_all(text.as_bytes())
            .and_then(|()| self.0.flush())
            .map_err(|fault| CliError::output(&fault))
    }

    /// Prints one line, whatever is in it: a line break of a stranger's does not make another.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn line(&mut self, line: &str) -> Result<(), CliError> {
        self.raw(&format!("{}\n", one_line(line)))
    }

    /// Prints one JSON value on one line.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn json(&mut self, value: &Value) -> Result<(), CliError> {
        self.raw(&format!("{}\n", escaped(&value.to_string())))
    }
}

/// Prints text, and waits no longer than that for whoever reads it: what a process that serves
/// others prints at its end must not keep it.
///
/// # Errors
/// When stdout is closed or full.
pub fn text_within(text: String, patience: Duration) -> Result<(), CliError> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(Out::new().text(&text)));
    told.recv_timeout(patience).unwrap_or_else(|_| {
        aside("warning: stdout is not read, and what belongs there is lost");
        Ok(())
    })
}

/// Tells something beside the answer, on stderr. Whoever closed it does not want to know.
pub fn aside(line: &str) {
    stderr::write(&format!("{line}\n"));
}

impl Default for Out {
    fn default() -> Self {
        Self::new()
    }
}
