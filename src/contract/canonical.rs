//! Canonical JSON (RFC 8785).
//!
//! Owns: the one form of a value that is hashed, compared or written into the ledger.
//! Never: judges a value; integers beyond ±(2^53−1) are refused before (`strict`).
//! Holds: the bytes are those of `serde_json_canonicalizer`, whichever way they were made (a
//! property compares).

use serde::{Serialize, Serializer, ser::Error};
use serde_json::{
    Number, Value,
    value::{RawValue, to_raw_value},
};

use super::tree::{Item, View};

/// The canonical bytes of whatever serialises.
pub fn of(value: &impl Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).unwrap_or_default()
}

/// The canonical text of a value, as JSON that is written on unread. Every `Value` has one: `None`
/// is a fault of the library.
pub fn raw(value: &Value) -> Option<Box<RawValue>> {
    RawValue::from_string(serde_json_canonicalizer::to_string(value).ok()?).ok()
}

/// The canonical text of what was read, the quick way where that is possible.
pub fn read(value: View<'_>) -> Option<Box<RawValue>> {
    if is_plain(value) { to_raw_value(&Plain(value)).ok() } else { raw(&value.to_value()) }
}

/// Whether serde_json's own form is canonical but for order and fractions: RFC 8785 orders by
/// UTF-16, which for ASCII is the order of the bytes, and serde_json's integers and escapes are RFC
/// 8785's.
fn is_plain(value: View<'_>) -> bool {
    value.all().all(|(key, _)| key.is_ascii())
}

/// A plain value, its members in order and its fractions as ECMAScript writes them
/// (RFC 8785 §3.2.2.3, §3.2.3).
struct Plain<'t>(View<'t>);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.item() {
            Item::Number(number) if number.is_f64() => fraction(number, serializer),
            Item::Array(_) => serializer.collect_seq(self.0.items().map(Plain)),
            Item::Object(_) => {
                let plain = |(key, member)| (key, Plain(member));
                if self.0.members().is_sorted_by_key(|(key, _)| key) {
                    return serializer.collect_map(self.0.members().map(plain));
                }
                let mut members: Vec<_> = self.0.members().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                serializer.collect_map(members.into_iter().map(plain))
            }
            Item::Null | Item::Bool(_) | Item::Number(_) | Item::Text(_) => self.0.serialize(serializer),
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
    use crate::contract::strict::{self, Limits};

    #[test]
    fn both_ways_give_the_same_text() {
        let plain = json!({ "b": [1, -2, null, true], "a": "\u{8}\u{1f}\"\\/é\u{7f}\u{2028}", "": {} });
        let other = json!({ "é": 4.0, "\u{10000}": 1e30, "\u{e000}": 0.002, "a": [-0.0, 1e21] });
        for value in [plain, other] {
            let tree = strict::parse(value.to_string().as_bytes(), &Limits::default()).expect("accepted");
            for text in [raw(&value), read(tree.root())] {
                assert_eq!(text.expect("a value has a canonical text").get().as_bytes(), of(&value));
            }
        }
    }
}
