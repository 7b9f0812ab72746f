//! The line of a file at which a fault is pointed, without what may be a secret in it.
//!
//! Owns: which part of a line is shown, and where its caret stands.
//! Never: shows a value whose key names a secret, which may hold a password, or which is no plain
//! word; that is `***`.
//! Holds: the caret is within the text, and the text keeps the line's indentation.

use serde::Serialize;
use serde_json::Value;

use super::{
    nearest::nearest,
    node::{Content, Node, Pair},
    section::KeyKind,
};
use crate::contract::secrets::{names, shapes};

/// What stands for a value that is not shown.
const MASK: &str = "***";
/// Lines that begin further in than this are shown from here.
const INDENT_MAX: usize = 60;
/// Keys are not shown beyond this.
const KEY_CHARS_MAX: usize = 80;
/// Longer values are not shown.
const VALUE_CHARS_MAX: usize = 64;

/// A line of the file, and what in it is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line, from 1.
    pub line: u64,
    /// What of it may be shown.
    pub text: String,
    /// Where the caret stands in that text, from 1.
    pub column: usize,
    /// How many characters are meant.
    pub width: usize,
}

impl Excerpt {
    /// The line of a key, the caret under the key.
    pub fn of_key(pair: &Pair) -> Self {
        let (text, key_width, _) = shown(pair, None);
        let column = indent(pair.column) + 1;
        Self { line: pair.line, text, column, width: key_width }
    }

    /// The line of a key, the caret under its value where that is shown on the line.
    pub fn of_value(pair: &Pair, kind: KeyKind) -> Self {
        let (text, key_width, value_width) = shown(pair, Some(kind));
        let column = indent(pair.column) + 1;
        match value_width {
            0 => Self { line: pair.line, text, column, width: key_width },
            width => Self { line: pair.line, text, column: column + key_width + 2, width },
        }
    }

    /// The line where an item of a list begins.
    pub fn of_item(item: &Node) -> Self {
        if let Content::Map(pairs) = &item.content
            && let Some(first) = pairs.first()
        {
            return Self::of_key(first);
        }
        let column = indent(item.column);
        Self { line: item.line, text: format!("{}{MASK}", " ".repeat(column)), column: column + 1, width: 3 }
    }

    /// A line that is not YAML, by its place in the file: its key, where it has one, and nothing
    /// else.
    pub fn of_line(text: &str, line: u64) -> Option<Self> {
        let whole = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
        let rest = whole.trim_start_matches([' ', '\t', '-']);
        let indent = (whole.chars().count() - rest.chars().count()).min(INDENT_MAX);
        let is_key = |key: &&str| {
            !key.is_empty()
                && key.len() <= KEY_CHARS_MAX
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        let key = rest.split_once(": ").map(|(key, _)| key).or_else(|| rest.trim_end().strip_suffix(':'));
        let (text, lead) = match key.filter(is_key) {
            Some(key) => (format!("{}{key}: {MASK}", " ".repeat(indent)), key.len() + 2),
            None => (format!("{}{MASK}", " ".repeat(indent)), 0),
        };
        Some(Self { line, text, column: indent + lead + 1, width: MASK.len() })
    }

    /// The two lines that people see.
    pub fn drawn(&self, margin: &str) -> String {
        let Self { line, text, column, width } = self;
        let gutter = line.to_string();
        let (blank, before) = (" ".repeat(gutter.len()), " ".repeat(column.saturating_sub(1)));
        format!("{margin}{gutter} | {text}\n{margin}{blank} | {before}{}\n", "^".repeat((*width).max(1)))
    }
}

fn indent(column: u64) -> usize {
    usize::try_from(column.saturating_sub(1)).unwrap_or(INDENT_MAX).min(INDENT_MAX)
}

/// The text, and how many characters of it are the key and the value.
fn shown(pair: &Pair, kind: Option<KeyKind>) -> (String, usize, usize) {
    let key: String =
        pair.key.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).take(KEY_CHARS_MAX).collect();
    let value = match &pair.node.content {
        Content::Scalar(Value::Null) | Content::Map(_) => String::new(),
        Content::List(_) => MASK.to_owned(),
        Content::Scalar(value) => shown_value(&key, value, kind),
    };
    let gap = if value.is_empty() { "" } else { " " };
    let text = format!("{}{key}:{gap}{value}", " ".repeat(indent(pair.column)));
    (text, key.chars().count(), value.chars().count())
}

/// A plain word of a setting that is there, so that a person sees what is wrong with it. What
/// stands behind an unknown key may be anything.
fn shown_value(key: &str, value: &Value, kind: Option<KeyKind>) -> String {
    match (value, kind) {
        (Value::String(word), Some(kind)) if is_open(kind) && !names::is_sensitive(key) && is_plain(word) => {
            word.clone()
        }
        (Value::Bool(value), _) => value.to_string(),
        (Value::Number(number), Some(KeyKind::Whole(..))) => number.to_string(),
        (Value::String(word), Some(KeyKind::Choice(words)))
            if words.contains(&word.as_str()) || nearest(word, words.iter().copied()).is_some() =>
        {
            word.escape_debug().to_string()
        }
        _ => MASK.to_owned(),
    }
}

/// Whether values of that kind hold no password.
const fn is_open(kind: KeyKind) -> bool {
    matches!(
        kind,
        KeyKind::Choice(_)
            | KeyKind::Whole(..)
            | KeyKind::Flag
            | KeyKind::Address
            | KeyKind::Loopback
            | KeyKind::Name
            | KeyKind::Segment
            | KeyKind::Path
    )
}

/// A short text of letters, digits and a few signs that does not look like a secret.
fn is_plain(word: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/[]".contains(&byte);
    (1..=VALUE_CHARS_MAX).contains(&word.len())
        && word.bytes().all(is_plain)
        && !word.contains("://")
        && shapes::masked(word).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_yaml_shows_its_key_only() {
        for (text, shown, column) in [
            ("a: [canary", "a: ***", 4),
            ("  - url: amqp://canary", "    url: ***", 10),
            ("\t\tcanary", "  ***", 3),
            ("amqp://u:canary@h", "***", 1),
            ("some canary: x", "***", 1),
            ("key:", "key: ***", 6),
            ("é: canary", "***", 1),
        ] {
            let excerpt = Excerpt::of_line(text, 1).unwrap();
            assert_eq!((excerpt.text.as_str(), excerpt.column, excerpt.width), (shown, column, 3), "{text}");
        }
        assert_eq!(Excerpt::of_line("a", 2), None);
        assert_eq!(Excerpt::of_line("a", 0), None);
    }

    #[test]
    fn a_value_is_shown_unless_its_key_or_its_looks_say_that_it_is_secret() {
        let word = KeyKind::Choice(&["none"]);
        let shown = |key: &str, text: &str, kind| shown_value(key, &Value::from(text), kind);
        assert_eq!(shown("kdf", "bad_kdf", Some(word)), "bad_kdf");
        assert_eq!(shown("addr", "0.0.0.0:http", Some(KeyKind::Address)), "0.0.0.0:http");
        assert_eq!(shown("dir", "/var/lib/x", Some(KeyKind::Path)), "/var/lib/x");
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl";
        for (key, text, kind) in [
            ("password", "bad_kdf", Some(word)),
            ("api_token", "bad_kdf", Some(word)),
            ("url", "amqp://u:p@h", Some(KeyKind::Url)),
            ("mode", "amqp://u:p@h", Some(word)),
            ("mode", "a b", Some(word)),
            ("mode", jwt, Some(word)),
            ("mode", &"x".repeat(65), Some(word)),
            ("secret_ref", "canary", Some(KeyKind::SecretRef)),
            ("unheard", "canary", None),
        ] {
            assert_eq!(shown(key, text, kind), MASK, "{key}: {text}");
        }
    }

    #[test]
    fn the_caret_stands_under_what_is_meant() {
        let excerpt = Excerpt { line: 12, text: "  mode: enforced".into(), column: 9, width: 8 };
        assert_eq!(excerpt.drawn("    "), "    12 |   mode: enforced\n       |         ^^^^^^^^\n");
    }
}
