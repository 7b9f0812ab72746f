//! Canonical JSON (RFC 8785).

use serde::Serialize;

/// The canonical bytes of a value.
pub fn of(value: &impl Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).unwrap_or_default()
}
