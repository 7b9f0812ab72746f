//! The scan of packed bytes: what would leave is read as it would leave.
//!
//! Owns: a lexer over the raw bytes of a member that knows names, values and texts, and nothing of
//! what was masked.
//! Never: changes anything, or tells what it found but by rule.
//! Holds: it shares the names and shapes with the redaction and none of its walk, so that a place
//! that the walk passes over is found here.

use super::shapes::Detector;
use crate::contract::secrets::names;

/// The rule by which a member's name or bytes hold a secret.
pub(super) fn found(detector: &Detector, path: &str, bytes: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    let rule = detector.found(path);
    if rule.is_some() {
        return rule;
    }
    if path.ends_with(".json") || path.ends_with(".ndjson") {
        return Lexer { detector, text: &text, at: 0, frames: Vec::new(), name: None }.found();
    }
    detector.found(&text)
}

/// An object or array that is open.
struct Frame {
    is_object: bool,
    /// Whether it stands below a field that is ours and sounds like a secret.
    is_branch: bool,
    /// The field that it is the value of: items of a list are values of it too.
    field: String,
}

struct Lexer<'a> {
    detector: &'a Detector,
    text: &'a str,
    at: usize,
    frames: Vec<Frame>,
    /// The name whose value comes next.
    name: Option<String>,
}

impl Lexer<'_> {
    fn found(mut self) -> Option<&'static str> {
        while let Some(byte) = self.text.as_bytes().get(self.at).copied() {
            let rule = match byte {
                b'"' => self.string(),
                b'{' | b'[' => self.open(byte == b'{'),
                b'}' | b']' => {
                    self.frames.pop();
                    self.name = None;
                    self.at += 1;
                    None
                }
                b'-' | b'0'..=b'9' => self.number(),
                b',' => {
                    // A value without a secret in it (`null`, `true`) stood before.
                    self.name = None;
                    self.at += 1;
                    None
                }
                _ => {
                    self.at += 1;
                    None
                }
            };
            if rule.is_some() {
                return rule;
            }
        }
        None
    }

    fn is_branch(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.is_branch)
    }

    /// The field that the value at hand belongs to.
    fn field(&mut self) -> String {
        let inherited =
            || self.frames.last().filter(|frame| !frame.is_object).map(|frame| frame.field.clone());
        self.name.take().or_else(inherited).unwrap_or_default()
    }

    fn open(&mut self, is_object: bool) -> Option<&'static str> {
        self.at += 1;
        let is_below = self.is_branch();
        let is_named = self.name.is_some();
        let field = self.field();
        let is_branch = is_below || names::is_branch(&field);
        let is_section = is_object && names::is_section(&field);
        let is_hidden = is_named && !is_branch && !is_section && names::is_sensitive(&field);
        self.frames.push(Frame { is_object, is_branch, field });
        is_hidden.then_some("sensitive-name")
    }

    fn number(&mut self) -> Option<&'static str> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |letter: char| !matches!(letter, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
        let number = rest.get(..rest.find(ends).unwrap_or(rest.len())).unwrap_or_default();
        self.at += number.len().max(1);
        let name = self.name.take()?;
        let is_hidden =
            !self.is_branch() && names::is_sensitive(&name) && !names::allows_number(&name, number);
        is_hidden.then_some("sensitive-name")
    }

    fn string(&mut self) -> Option<&'static str> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        while let Some(byte) = bytes.get(end).copied().filter(|byte| *byte != b'"') {
            end += if byte == b'\\' { 2 } else { 1 };
        }
        self.at = (end + 1).min(bytes.len());
        let raw = self.text.get(start..self.at).unwrap_or_default();
        // A string that does not read is looked at as it stands.
        let text = match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => plain.to_owned(),
            _ => serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned()),
        };
        let behind = self.text.get(self.at..).unwrap_or_default();
        let is_in_object = self.frames.last().is_none_or(|frame| frame.is_object);
        if is_in_object && self.name.is_none() && behind.trim_start().starts_with(':') {
            let rule = self.detector.found(&text);
            self.name = Some(text);
            return rule;
        }
        let (is_below, is_named) = (self.is_branch(), self.name.is_some());
        let field = self.field();
        let is_hidden = if is_below {
            !names::is_allowed_leaf(&field, &text)
        } else {
            is_named && names::is_sensitive(&field) && !names::allows_text(&field, &text)
        };
        if is_hidden {
            return Some("sensitive-name");
        }
        if names::is_typed(&field, &text) { None } else { self.detector.found(&text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, text: &str) -> Option<&'static str> {
        found(&Detector::knowing(["hunter2-known"]), path, text.as_bytes())
    }

    #[test]
    fn what_was_not_masked_is_found() {
        for text in [
            r#"{"a":[{"password":"x"}]}"#,
            r#"{"a":{"apiKey": 12345}}"#,
            r#"{"token":{"v":1}}"#,
            r#"{"token":["a"]}"#,
            r#"{"to\u006ben":"x"}"#,
            r#"{"n":"Bearer abcdef123"}"#,
            "{\"n\":1}\n{\"n\":\"password=x\"}\n",
            r#"{"ghp_0123456789abcdefghij01":1}"#,
            r#"{"session":{"id":"s1"}}"#,
            r#"{"session":"3f0c"}"#,
            r#"{"n":"the hunter2-known one"}"#,
            r#"{"n":"{\"cookie\":\"c\"}"}"#,
            r#"{"n":"aHVudGVyMi1rbm93bg=="}"#,
        ] {
            assert!(told("a.ndjson", text).is_some(), "{text}");
        }
        assert_eq!(told("metrics.txt", "a{token=\"x\"} 1\n"), Some("sensitive-name"));
        assert_eq!(told("password=x.json", "{}"), Some("sensitive-name"));
    }

    #[test]
    fn what_is_masked_typed_or_plain_passes() {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for text in [
            r#"{"password":"***","token":null,"cookie":"","secret":false}"#.to_owned(),
            format!(r#"{{"prev":"{hash}","out":["{hash}"],"seq":1}}"#),
            r#"{"session":7,"sessionEpoch":2,"token_ttl_ms":5}"#.to_owned(),
            r#"{"session":{"state":"ready","count":2,"since":"2026-01-01T00:00:00Z"}}"#.to_owned(),
            r#"{"roles":["password","token"],"fields":[{"name":"n"}],"url":"amqp://guest:***@h/v"}"#
                .to_owned(),
        ] {
            assert_eq!(told("a.json", &text), None, "{text}");
        }
        assert_eq!(
            told("metrics.txt", "swarm_sessions{lane=\"urgent\"} 1\n# HELP x The token of y.\n"),
            None
        );
    }
}
