//! How members are read that may be absent, or in another form than this release writes.
//!
//! Owns: times, texts and lists that may be null or strange, and the word of a value of a closed
//! list.
//! Never: fails on one of them: an answer is shown as far as it can be read.
//! Holds: what is not known is `None`, and never a zero.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::contract::{routing::Scope, timestamp::Timestamp};

/// A row by itself, so that an odd one hides no other.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Row<T> {
    Known(T),
    Odd(Value),
}

/// A member that is null is as one that is absent.
pub(super) fn null_is_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A time, as text; one that cannot be read is not known.
pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.and_then(|text| Timestamp::parse(&text)))
}

/// Anything, in words.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(words(&Value::deserialize(from)?))
}

/// A text as it is, a scope as swarm/role/instance, a step as `from -> to`, anything else as JSON;
/// nothing for null and for what is empty.
pub fn words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Object(fields) => match (fields.get("from"), fields.get("to"), Scope::deserialize(value)) {
            (Some(from), Some(to), _) => Some(format!("{} -> {}", words(from)?, words(to)?)),
            (_, _, Ok(scope)) => Some(scope.to_string()),
            _ => Some(value.to_string()).filter(|_| !fields.is_empty()),
        },
        other => Some(other.to_string()),
    }
}

/// How a value of a closed list is written.
pub(super) fn word(value: impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok().as_ref().and_then(words)
}
