//! Stdout: what was asked for. Stderr: what is told beside it.
//!
//! Owns: the two forms of an answer, and what happens when the reader goes away.
//! Never: writes an error, or uses the printing macros: they panic when a pipe is closed.
//! Holds: a closed pipe ends the command quietly; every other fault of stdout is told.

use std::io::{self, Write};

use serde_json::Value;

use super::CliError;

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

    /// Prints text as it is.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.0
            .write_all(text.as_bytes())
            .and_then(|()| self.0.flush())
            .map_err(|fault| CliError::output(&fault))
    }

    /// Prints a line.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn line(&mut self, line: &str) -> Result<(), CliError> {
        self.text(&format!("{line}\n"))
    }

    /// Prints one JSON value on one line.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn json(&mut self, value: &Value) -> Result<(), CliError> {
        self.line(&value.to_string())
    }
}

/// Tells something beside the answer, on stderr. Whoever closed it does not want to know.
pub fn aside(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

impl Default for Out {
    fn default() -> Self {
        Self::new()
    }
}
