//! How a line of the log looks.
//!
//! Owns: the two forms and their words in the config.
//! Never: writes one.
//! Holds: text is for people, JSON for machines.

use serde::{Deserialize, Serialize};

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
