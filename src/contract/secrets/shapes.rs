//! Secrets that give themselves away by their shape, wherever they stand: a URL with a password, a
//! private key, a token of a known make.
//!
//! Owns: the shapes, and what of a text is masked by them, in the ledger and in a support bundle
//! alike.
//! Never: knows a name, looks into an encoding, or takes a word of a sentence for a secret.
//! Holds: what is masked here has no such shape any more. A text that has nothing of the sort costs
//! one look.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;
use serde_json::Value;

use super::MASKED;

/// How often a masked text is looked at again before it is given up whole.
const ROUNDS_MAX: usize = 4;

/// The rule, what every such text has, and the shape; the group `v`, where there is one, is the
/// secret.
const SHAPES: [(&str, &str, &str); 14] = [
    ("pem", r"-----BEGIN", r"(?s)-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\z)"),
    ("jwt", r"eyJ", r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)*"),
    (
        "aws-key",
        r"AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|ANPA|ANVA|AIPA",
        r"\b(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|ANPA|ANVA|AIPA)[A-Z0-9]{16}\b",
    ),
    (
        "gcp-key",
        r"AIza|ya29\.|GOCSPX",
        r"\bAIza[0-9A-Za-z_-]{30,}|\bya29\.[0-9A-Za-z_-]+|\bGOCSPX-[0-9A-Za-z_-]{20,}",
    ),
    (
        "azure-key",
        r"(?i:sig=|key=)",
        r"(?i)[?&;](?:sig|accountkey|sharedaccesskey)=(?P<v>[A-Za-z0-9%+/=]{20,})",
    ),
    ("azure-secret", r"Q~", r"\b[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{30,}"),
    (
        "github-token",
        r"gh[pousr]_|github_pat_",
        r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}",
    ),
    ("gitlab-token", r"gl(?:pat|dt|rt|ptt|cbt)-", r"\bgl(?:pat|dt|rt|ptt|cbt)-[A-Za-z0-9_-]{20,}"),
    ("slack-token", r"xox|xapp-", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}"),
    ("slack-hook", r"hooks", r"hooks\.slack\.com/services/(?P<v>[A-Za-z0-9/]+)"),
    (
        "service-key",
        r"[sr]k_(?:live|test)|sk-|npm_",
        r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|\bsk-[A-Za-z0-9_-]{20,}|\bnpm_[A-Za-z0-9]{30,}",
    ),
    ("age-key", r"(?i:AGE-SEC)", r"(?i)\bAGE-SECRET-KEY-1[0-9A-Z]+"),
    ("url-userinfo", r"://", r#"(?i)\b[a-z][a-z0-9+.-]*://(?P<v>[^\s"'<>]*)@"#),
    (
        "url-query",
        r"(?i:pass|pwd|secret|token|key|credential)[a-zA-Z]*=",
        r#"(?i)[?&;](?:[a-z0-9]+[_.-])?(?:pass(?:word|wd|phrase)?|pwd|secret|token|api_?key|credentials?)=(?P<v>[^\s"'<>&#;]+)"#,
    ),
];
static SHAPED: LazyLock<Vec<(&str, Regex)>> =
    LazyLock::new(|| SHAPES.iter().map(|(rule, _, shape)| (*rule, regex(shape))).collect());
static HINTS: LazyLock<Regex> = LazyLock::new(|| regex(&hints()));

/// What a text has that is worth a closer look, as a regular expression.
pub fn hints() -> String {
    SHAPES.map(|(_, hint, _)| hint).join("|")
}

/// Whether a text has something that is worth a closer look; most have nothing of it.
pub fn may_hold(text: &str) -> bool {
    HINTS.is_match(text)
}

/// Where in a text secrets stand, and by which rule.
pub fn places(text: &str) -> Vec<(Range<usize>, &'static str)> {
    let mut places = Vec::new();
    for (rule, shape) in SHAPED.iter() {
        for found in shape.captures_iter(text) {
            let Some(place) = found.name("v").or_else(|| found.get(0)) else { continue };
            if !(is_masked(place.as_str()) || *rule == "url-userinfo" && place.is_empty()) {
                places.push((place.range(), *rule));
            }
        }
    }
    places
}

/// The text with every secret masked; `None` where there is none.
pub fn masked(text: &str) -> Option<String> {
    masked_with(text, places)
}

/// The text with everything masked that is found, looked at again until nothing is; `None` where
/// there is nothing.
pub fn masked_with(text: &str, find: impl Fn(&str) -> Vec<(Range<usize>, &'static str)>) -> Option<String> {
    let mut now = std::borrow::Cow::Borrowed(text);
    for _ in 0..ROUNDS_MAX {
        let places = find(&now);
        if places.is_empty() {
            return match now {
                std::borrow::Cow::Borrowed(_) => None,
                std::borrow::Cow::Owned(masked) => Some(masked),
            };
        }
        now = without(&now, places).into();
    }
    Some(MASKED.to_owned())
}

/// A text of ours with words of others in it, as it is written.
pub fn written(text: String) -> String {
    if may_hold(&text) { masked(&text).unwrap_or(text) } else { text }
}

/// Masks every text within a value; whether there was one.
pub fn mask(value: &mut Value) -> bool {
    match value {
        Value::String(text) => match may_hold(text).then(|| masked(text)).flatten() {
            Some(masked) => {
                *text = masked;
                true
            }
            None => false,
        },
        // Every one of them, not only up to the first.
        Value::Array(items) => items.iter_mut().fold(false, |any, item| mask(item) | any),
        Value::Object(members) => members.values_mut().fold(false, |any, member| mask(member) | any),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The mark, alone or as the password behind a plain user name.
pub fn is_masked(text: &str) -> bool {
    let user = text.strip_suffix(MASKED).map(|user| user.strip_suffix(':').unwrap_or(user));
    user.is_some_and(|user| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        user.is_empty() || text.ends_with(":***") && user.bytes().all(is_plain)
    })
}

/// The text with those places masked, overlapping ones as one.
fn without(text: &str, mut places: Vec<(Range<usize>, &'static str)>) -> String {
    places.sort_by_key(|(place, _)| (place.start, place.end));
    let mut masked = String::with_capacity(text.len());
    let mut at = 0;
    for (place, _) in places {
        if place.start >= at {
            masked.push_str(text.get(at..place.start).unwrap_or_default());
            masked.push_str(MASKED);
        }
        at = at.max(place.end);
    }
    masked.push_str(text.get(at..).unwrap_or_default());
    masked
}

/// The shapes are constants; that each is a regular expression is tested by using them.
#[expect(clippy::expect_used, reason = "a constant that the first test compiles")]
fn regex(shape: &str) -> Regex {
    Regex::new(shape).expect("a regular expression")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// One of each shape, made up of parts so that no scanner takes this file for a leak.
    fn samples() -> Vec<(&'static str, String, String)> {
        let long = "A1b2C3d4E5f6G7h8J9k0L1m2N3p4Q5r6S7t8U9v0";
        let whole = |rule, text: String| (rule, format!("see {text} there"), "see *** there".to_owned());
        vec![
            (
                "pem",
                "-----BEGIN EC PRIVATE KEY-----\nMIG\n-----END EC PRIVATE KEY----- x".to_owned(),
                "*** x".to_owned(),
            ),
            whole("jwt", format!("eyJ{long}.eyJ{long}.{long}")),
            whole("aws-key", "AKIAIOSFODNN7EXAMPLE".to_owned()),
            whole("gcp-key", format!("AIza{long}")),
            ("azure-key", format!("h/?a=1&sig={long} x"), "h/?a=1&sig=*** x".to_owned()),
            whole("azure-secret", format!("abc8Q~{long}")),
            whole("github-token", format!("ghp_{long}")),
            whole("gitlab-token", format!("glpat-{long}")),
            whole("slack-token", format!("xoxb-{long}")),
            (
                "slack-hook",
                "hooks.slack.com/services/T0/B0 x".to_owned(),
                "hooks.slack.com/services/*** x".to_owned(),
            ),
            whole("service-key", format!("sk_live_{long}")),
            whole("age-key", format!("AGE-SECRET-KEY-1{}", long.to_uppercase())),
            (
                "url-userinfo",
                "amqp://u:p@ss@h/v and http://h".to_owned(),
                "amqp://***@h/v and http://h".to_owned(),
            ),
            (
                "url-query",
                "postgres://h/db?user=u&password=p4ss&sslmode=x and ?access_token=t0k#f".to_owned(),
                "postgres://h/db?user=u&password=***&sslmode=x and ?access_token=***#f".to_owned(),
            ),
        ]
    }

    #[test]
    fn each_shape_goes_and_the_rest_stays() {
        let samples = samples();
        assert_eq!(samples.iter().map(|(rule, ..)| *rule).collect::<Vec<_>>(), SHAPES.map(|(rule, ..)| rule));
        for (rule, text, expected) in samples {
            assert!(may_hold(&text), "{rule}: the first look passes it over");
            assert_eq!(places(&text).first().map(|(_, rule)| *rule), Some(rule));
            let masked = masked(&text).unwrap_or_default();
            assert_eq!(masked, expected, "{rule}");
            assert!(places(&masked).is_empty(), "{rule}");
        }
    }

    #[test]
    fn plain_texts_stay() {
        for text in [
            "amqp://guest:***@127.0.0.1:5672/%2f",
            "https://swarmgate.example/docs?page=1",
            "a basic restart by the bearer of news",
            "risk-bot-0123456789-abcdefghijklmnop",
            "AKIA is how such a key begins",
            "eyJ",
            "2026-03-04T10:15:00Z",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ] {
            assert_eq!(masked(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_is_masked_wherever_its_texts_are() {
        let mut value = json!({ "url": "amqp://u:p4ss@h/", "list": [1, ["http://a:b@c"], { "n": "plain" }] });
        assert!(mask(&mut value));
        let expected = json!({ "url": "amqp://***@h/", "list": [1, ["http://***@c"], { "n": "plain" }] });
        assert_eq!(value, expected);
        assert!(!mask(&mut value));
    }
}
