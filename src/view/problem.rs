//! How the API says no: problem details (RFC 9457) with a code and a next step.
//!
//! Owns: its shape.
//! Never: decides what is refused; the API has the closed list of codes.
//! Holds: one without a code, a detail or a next step is not read: it is no router's.

use serde::{Deserialize, Serialize};

/// A no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemDetails {
    pub code: String,
    pub detail: String,
    pub next_step: String,
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub title: String,
    #[serde(default, rename = "type")]
    pub kind: String,
}
