//! The one form of a JSON value that is signed, and that frames are written in.
//!
//! Owns: keys sorted at every depth, no spaces, and every character outside printable ASCII as `\u`
//! and four hex digits.
//! Never: signs; it only writes. It is not RFC 8785, whose text is UTF-8: the ledger speaks that,
//! the channel this.
//! Holds: a value has one form, which every language with a JSON library can write; so where two
//! writers would print a number differently there is no form at all.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::fault::ControlFault;
use crate::contract::strict::INTEGER_MAX;

/// Arrays and objects within each other.
pub(super) const DEPTH_MAX: usize = 32;
/// Values in one text.
pub(super) const NODES_MAX: usize = 10_000;

/// Whether numbers that are no integers may stand in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fractions {
    /// The reader writes the text again and compares, so both must print alike.
    Refused,
    /// The text itself travels, and is only read.
    Written,
}

/// Writes an object.
///
/// # Errors
/// [`ControlFault::MalformedFrame`] when it holds a number without one form, or is more
/// than a reader reads.
pub(super) fn object(members: &Map<String, Value>, fractions: Fractions) -> Result<String, ControlFault> {
    let mut writer = Writer { out: String::with_capacity(512), nodes: 1, fractions };
    writer.object(members, 1)?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    nodes: usize,
    fractions: Fractions,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), ControlFault> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > NODES_MAX {
            return Err(ControlFault::MalformedFrame { field: "frame", fault: "has more than 10000 values" });
        }
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            Value::Number(number) => {
                let whole = number.as_i128();
                if whole.is_some_and(|whole| whole.unsigned_abs() > u128::from(INTEGER_MAX)) {
                    return Err(ControlFault::MalformedFrame {
                        field: "frame",
                        fault: "has an integer beyond 2^53",
                    });
                }
                if self.fractions == Fractions::Refused && whole.is_none() {
                    return Err(ControlFault::MalformedFrame {
                        field: "frame",
                        fault: "has a number that is no integer",
                    });
                }
                // Writing into a string does not fail.
                let _ = write!(self.out, "{number}");
            }
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.enter(depth)?;
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push(',');
                    }
                    self.value(item, depth + 1)?;
                }
                self.out.push(']');
            }
            Value::Object(members) => self.object(members, depth)?,
        }
        Ok(())
    }

    fn object(&mut self, members: &Map<String, Value>, depth: usize) -> Result<(), ControlFault> {
        self.enter(depth)?;
        // The order of UTF-8 bytes is the order of code points. The map keeps it unless a build of
        // serde_json says else.
        let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        self.out.push('{');
        for (index, (key, value)) in sorted.into_iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.text(key);
            self.out.push(':');
            self.value(value, depth + 1)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn enter(&self, depth: usize) -> Result<(), ControlFault> {
        if depth > DEPTH_MAX {
            return Err(ControlFault::MalformedFrame { field: "frame", fault: "nests over 32 levels" });
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                ' '..='~' => self.out.push(letter),
                _ => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
            }
        }
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(value: &Value, fractions: Fractions) -> Result<String, ControlFault> {
        object(value.as_object().unwrap(), fractions)
    }

    #[test]
    fn the_form_is_the_one_of_the_vectors() {
        let value = json!({
            "b": [true, false, null, -1, 9_007_199_254_740_991_u64], "a": { "z": "Zażółć ☃", "y": {}, "x": [] },
            "é": "\u{7f}\u{0}\u{1f}\"\\/\n\r\t\u{8}\u{c}", "\u{1f600}": "\u{1f600}", "\u{ff01}": "",
        });
        // The last two keys stand in the order of code points, not in that of UTF-16.
        let expected = concat!(
            r#"{"a":{"x":[],"y":{},"z":"Za\u017c\u00f3\u0142\u0107 \u2603"},"b":[true,false,null,-1,9007199254740991],"#,
            r#""\u00e9":"\u007f\u0000\u001f\"\\/\n\r\t\b\f","\uff01":"","\ud83d\ude00":"\ud83d\ude00"}"#,
        );
        assert_eq!(written(&value, Fractions::Refused).unwrap(), expected);
    }

    #[test]
    fn numbers_without_one_form_are_refused() {
        for number in [json!(1.0), json!(-0.0), json!(0.1), json!(1e300)] {
            let value = json!({ "a": [number] });
            assert!(written(&value, Fractions::Refused).is_err(), "{value}");
            assert_eq!(written(&value, Fractions::Written).unwrap(), value.to_string());
        }
    }

    #[test]
    fn what_nobody_reads_is_not_written() {
        for number in [json!(INTEGER_MAX + 1), json!(u64::MAX), json!(i64::MIN)] {
            assert!(written(&json!({ "a": number }), Fractions::Written).is_err());
        }
        assert!(written(&json!({ "a": -(INTEGER_MAX as i64) }), Fractions::Refused).is_ok());
        let nested = |levels: usize| json!({ "a": (2..=levels).fold(json!(1), |inner, _| json!([inner])) });
        assert!(written(&nested(32), Fractions::Refused).is_ok());
        assert!(written(&nested(33), Fractions::Refused).is_err());
        let wide = |items: usize| json!({ "a": vec![0; items] });
        assert!(written(&wide(9_998), Fractions::Refused).is_ok());
        assert!(written(&wide(9_999), Fractions::Refused).is_err());
    }
}
