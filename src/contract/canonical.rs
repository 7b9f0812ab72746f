//! Canonical JSON (RFC 8785).
//!
//! Owns: the one form of a value that is hashed, compared or written into the ledger.
//! Never: judges a value; integers beyond ±(2^53−1) are refused before (`strict`).
//! Holds: the bytes are those of `serde_json_canonicalizer`, whichever way they were made (a property compares).

use serde::{Serialize, Serializer, ser::Error};
use serde_json::{
    Number, Value,
    value::{RawValue, to_raw_value},
};

use super::strict::INTEGER_MAX;

/// The canonical bytes of whatever serialises.
pub fn of(value: &impl Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).unwrap_or_default()
}

/// The canonical text of a value, as JSON that is written on unread; the quick way where only its fractions need care.
/// Every `Value` has one: `None` is a fault of the library.
pub fn raw(value: &Value) -> Option<Box<RawValue>> {
    if is_plain(value) {
        return to_raw_value(&Plain(value)).ok();
    }
    RawValue::from_string(serde_json_canonicalizer::to_string(value).ok()?).ok()
}

/// Whether serde_json's own form is canonical but for fractions: its maps are ordered by bytes, which is RFC 8785's
/// order for ASCII keys, and its integers and escapes are RFC 8785's.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => value <= INTEGER_MAX,
            (None, Some(value)) => value.unsigned_abs() <= INTEGER_MAX,
            (None, None) => true,
        },
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(members) => members.iter().all(|(key, value)| key.is_ascii() && is_plain(value)),
    }
}

/// A plain value, with its fractions as ECMAScript writes them (RFC 8785 §3.2.2.3).
struct Plain<'a>(&'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(number) if number.is_f64() => fraction(number, serializer),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Plain)),
            Value::Object(members) => {
                serializer.collect_map(members.iter().map(|(key, value)| (key, Plain(value))))
            }
            other => other.serialize(serializer),
        }
    }
}

fn fraction<S: Serializer>(number: &Number, serializer: S) -> Result<S::Ok, S::Error> {
    let text = serde_json_canonicalizer::to_string(number).map_err(S::Error::custom)?;
    RawValue::from_string(text).map_err(S::Error::custom)?.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_ways_give_the_same_text() {
        let plain = json!({ "b": [1, -2, null, true], "a": "\u{8}\u{1f}\"\\/é\u{7f}\u{2028}", "": {} });
        let other = json!({ "é": 4.0, "\u{10000}": 1e30, "\u{e000}": 0.002, "a": [-0.0, 1e21] });
        for value in [plain, other] {
            let text = raw(&value).expect("a value has a canonical text");
            assert_eq!(text.get().as_bytes(), of(&value));
        }
    }
}
