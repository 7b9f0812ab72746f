//! What a fold reads of a payload.
//!
//! Owns: the few words of an envelope that the recorded half keeps.
//! Never: reads a payload whole, where a member will do.
//! Holds: a payload is canonical JSON, so a part of it is too.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    contract::audit::{EvidenceKind, Fact},
    decision::rules::words::CONFIG_UPDATE,
};

/// The largest patch that is remembered. Of an instance that applies a larger one it is unknown
/// what config it should have: a body of the largest size, kept for every command in flight, would
/// be memory without a bound.
pub(super) const PATCH_BYTES_MAX: usize = 8 * 1024;

/// What a fold looks at of a payload; the rest is passed over unread.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a fold looks at of an envelope's `data`.
#[derive(Deserialize)]
struct Words<'a> {
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

/// The `data` of an envelope.
fn data(fact: &Fact) -> Option<&str> {
    let written: Written<'_> = serde_json::from_str(fact.payload.as_ref()?.text()).ok()?;
    Some(written.data.get())
}

/// The status that an outcome says, or the code of an alert.
pub(super) fn word(fact: &Fact, of: EvidenceKind) -> Option<String> {
    let words: Words<'_> = serde_json::from_str(data(fact)?).ok()?;
    let word = if of == EvidenceKind::Alert { words.code } else { words.status };
    serde_json::from_str(word?.get()).ok()
}

/// The `data` of a config-update; an empty text where that is too large.
pub(super) fn patch(fact: &Fact) -> Option<String> {
    fact.subject.as_ref().filter(|subject| subject.kind_type == CONFIG_UPDATE)?;
    data(fact).map(|patch| if patch.len() > PATCH_BYTES_MAX { String::new() } else { patch.to_owned() })
}
