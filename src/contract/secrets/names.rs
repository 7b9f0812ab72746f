//! Names that stand for secrets, and the fields of ours that merely sound like one.
//!
//! Owns: the list of words that make a name sensitive, the closed list of what is believed all the
//! same, and the walk that masks a body by them before it is written.
//! Never: looks at a value to find a secret in it; the shapes of the support bundle do that.
//! Holds: an exemption names a field and a type of value; none is given for what a value looks like
//! alone. A walk that finds nothing allocates nothing.

use std::sync::LazyLock;

use serde_json::Value;

use super::MASKED;
use crate::contract::{digest::Digest, interlock::Phase, reason::Reason, timestamp::Timestamp, tree::View};

/// A name that holds one of these, in any case and however its words are joined, is a secret's. By
/// their first letter, so that most letters of a name are passed over at once.
fn secrets_from(letter: char) -> &'static [&'static str] {
    match letter {
        'a' => &["apikey", "authorization", "accesskey", "accountkey"],
        'b' => &["bearer"],
        'c' => &["cookie", "credential"],
        'p' => &["privatekey", "passphrase", "password", "passwd"],
        's' => &["secret", "signature"],
        't' => &["token"],
        _ => &[],
    }
}

/// A name with this in it is sensitive where something leaves; in the ledger it is a word of ours.
const SESSION: [&str; 1] = ["session"];
/// Names that are sensitive only when they are nothing more: they are parts of harmless words.
const SECRET_WHOLE: [&str; 4] = ["pwd", "pass", "jwt", "auth"];
/// Fields whose values are SHA-256 digests, one or a list.
const DIGESTS: [&str; 15] = [
    "bodies",
    "body",
    "command",
    "compared",
    "config",
    "configDigest",
    "desiredConfigDigest",
    "hash",
    "hashes",
    "head",
    "identity",
    "manifest_sha256",
    "out",
    "prev",
    "sha256",
];
/// Fields whose values are ids that Swarmgate or its contract makes.
const IDS: [&str; 7] = ["bundle_id", "challengeId", "command", "id", "keyId", "ledgerId", "ledger_id"];
/// Fields that hold a session's number or state, or what is said of it; never what proves it.
const SESSIONS: [&str; 3] = ["session", "sessionEpoch", "sessions"];
/// Settings with sensitive names, and the words that they may hold.
const SECRET_MODES: (&[&str], &[&str]) = (&["secretMode", "secret_mode"], &["static", "generated"]);
/// Settings that say where a secret is, as `env:NAME` or `file:PATH`.
const REFERENCES: [&str; 1] = ["secret_ref"];
/// Sections of settings: what they hold is judged by its own names.
const SECTIONS: [&str; 1] = ["auth"];
/// Fields of a scope.
const SCOPE: [&str; 3] = ["swarmId", "role", "instance"];
/// How the names of plain numbers end: a limit says its unit.
const UNITS: [&str; 14] = [
    "_ms", "_s", "_max", "_min", "_count", "_bytes", "_epoch", "_percent", "Ms", "Max", "Count", "Bytes",
    "Epoch", "Seconds",
];
/// Words that say that nothing is there.
const NOTHINGS: [&str; 8] = ["", MASKED, "null", "none", "true", "false", "yes", "no"];

/// Masks every member whose name says that a secret follows, at any depth; `None` where there is
/// none.
pub fn masked(value: View<'_>) -> Option<Value> {
    let holds_secret = value.all().any(|(name, member)| is_secret(name) && hides(name, &member.to_value()));
    holds_secret.then(|| {
        let mut masked = value.to_value();
        mask(&mut masked);
        masked
    })
}

/// The same, in place.
pub fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match hides(name, member) {
                    true => *member = Value::String(MASKED.to_owned()),
                    false => mask(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a member of that name hides its value: all but what is nobody's secret.
fn hides(name: &str, member: &Value) -> bool {
    match member {
        Value::Null | Value::Bool(_) => false,
        Value::String(text) => is_secret(name) && !allows_text(name, text),
        Value::Number(number) => is_secret(name) && !is_count(name, number),
        Value::Object(_) => is_secret(name) && !is_section(name),
        Value::Array(_) => is_secret(name),
    }
}

/// Whether such a field holds a plain number with its unit.
fn is_count(name: &str, number: &serde_json::Number) -> bool {
    number.is_u64() && has_unit(name)
}

/// Whether a name says that a secret follows, or a session.
pub fn is_sensitive(name: &str) -> bool {
    is_secret(name) || holds_one(name, |letter| if letter == 's' { &SESSION } else { &[] })
}

/// Whether a name says that a secret follows.
pub fn is_secret(name: &str) -> bool {
    may_be_secret(name) && is_one(name)
}

/// Whether two letters that stand together in a name begin one of the words. Every name of every
/// envelope comes by here, and nearly all of them end here.
fn may_be_secret(name: &str) -> bool {
    if !name.is_ascii() {
        return true;
    }
    let mut seconds = 0;
    name.bytes().filter(u8::is_ascii_alphanumeric).any(|byte| {
        let letter = byte.to_ascii_lowercase();
        let begins = seconds & bit(letter) != 0;
        seconds = SECONDS.get(usize::from(letter.wrapping_sub(b'a'))).copied().unwrap_or_default();
        begins
    })
}

/// By first letter: the second letters of the words, a bit each.
static SECONDS: LazyLock<[u32; 26]> = LazyLock::new(|| {
    std::array::from_fn(|index| {
        let first = char::from(b'a' + index as u8);
        let whole = SECRET_WHOLE.iter().filter(|word| word.starts_with(first));
        let seconds =
            secrets_from(first).iter().chain(whole).filter_map(|word| word.as_bytes().get(1).copied());
        seconds.fold(0, |bits, second| bits | bit(second))
    })
});

/// The bit of a small letter; a digit has none.
fn bit(letter: u8) -> u32 {
    if letter.is_ascii_lowercase() { 1 << (letter - b'a') } else { 0 }
}

fn is_one(name: &str) -> bool {
    let is_whole = |word: &&str| begins(name, word) && letters(name).count() == word.len();
    holds_one(name, secrets_from) || SECRET_WHOLE.iter().any(is_whole)
}

/// Whether one of the words begins anywhere in a name.
fn holds_one(name: &str, words_from: impl Fn(char) -> &'static [&'static str]) -> bool {
    let mut rest = name.chars();
    loop {
        let here = rest.as_str();
        let Some(first) = rest.next() else { return false };
        if words_from(lower(first)).iter().any(|word| begins(here, word)) {
            return true;
        }
    }
}

/// Whether the letters of a name begin with a word.
fn begins(name: &str, word: &str) -> bool {
    if !name.is_ascii() {
        let mut found = letters(name);
        return word.chars().all(|letter| found.next() == Some(letter));
    }
    // Every name of every envelope comes by here.
    let mut found = name.bytes().filter(u8::is_ascii_alphanumeric);
    word.bytes().all(|letter| found.next().is_some_and(|byte| byte.to_ascii_lowercase() == letter))
}

/// What of a name counts: its letters and digits, whatever joins them.
fn letters(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase)
}

fn lower(letter: char) -> char {
    if letter.is_ascii() {
        letter.to_ascii_lowercase()
    } else {
        letter.to_lowercase().next().unwrap_or(letter)
    }
}

/// Whether such a field may hold an object or a list, to be judged leaf by leaf with
/// [`is_allowed_leaf`].
pub fn is_branch(name: &str) -> bool {
    SESSIONS.contains(&name)
}

/// Whether such a field may hold an object whose members are judged as everywhere else.
pub fn is_section(name: &str) -> bool {
    SECTIONS.contains(&name)
}

/// Whether this text may stand in `field` below a field that [`is_branch`].
pub fn is_allowed_leaf(field: &str, text: &str) -> bool {
    Phase::read(text).is_some()
        || is_nothing(text)
        || Timestamp::parse(text).is_some()
        || SCOPE.contains(&field) && is_segment(text)
}

/// Whether a field with a sensitive name may hold this text.
pub fn allows_text(name: &str, text: &str) -> bool {
    let (modes, words) = SECRET_MODES;
    is_nothing(text)
        || SESSIONS.contains(&name) && is_allowed_leaf(name, text)
        || modes.contains(&name) && words.contains(&text)
        || REFERENCES.contains(&name) && is_reference(text)
}

/// Whether a field with a sensitive name may hold this number, given as it is written.
pub fn allows_number(name: &str, number: &str) -> bool {
    let is_whole = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    is_whole && (SESSIONS.contains(&name) || has_unit(name))
}

fn has_unit(name: &str) -> bool {
    UNITS.iter().any(|unit| name.ends_with(unit))
}

/// Whether this is a typed hash or id of ours in a field that holds such: no shape is looked for in
/// it.
pub fn is_typed(field: &str, text: &str) -> bool {
    DIGESTS.contains(&field) && Digest::from_hex(text).is_some() || IDS.contains(&field) && is_id(text)
}

/// Whether a word of a text, with dots, is a name of ours rather than a name of a secret.
pub fn is_code(word: &str) -> bool {
    Reason::from_code(word).is_some()
}

/// Whether a text says that there is nothing, or was masked.
pub fn is_nothing(text: &str) -> bool {
    NOTHINGS.contains(&text)
}

/// Hex digits in groups, perhaps behind one letter and a dash (`c-…`): UUIDs, ledger ids, challenge
/// ids; and numbers.
fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("c-").unwrap_or(text);
    let is_number = digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let groups: Vec<usize> = digits.split('-').map(str::len).collect();
    let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    !digits.is_empty() && (is_number || is_hex && matches!(*groups, [32] | [64] | [8, 4, 4, 4, 12]))
}

/// A segment of a scope, as routing keys have them.
fn is_segment(text: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=63).contains(&text.len()) && text.bytes().all(is_sign)
}

fn is_reference(text: &str) -> bool {
    let is_variable = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let is_file = |path: &str| path.starts_with(['/', '.']) && !path.contains(char::is_whitespace);
    text.strip_prefix("env:").is_some_and(|name| !name.is_empty() && name.bytes().all(is_variable))
        || text.strip_prefix("file:").is_some_and(is_file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::contract::tree::Tree;

    #[test]
    fn a_name_is_known_however_it_is_written() {
        for name in [
            "token",
            "apiKey",
            "API_KEY",
            "x-api-key",
            "client_secret",
            "masterSecretB64",
            "Authorization",
            "Set-Cookie",
            "private key",
            "PrivateKeyPem",
            "passPhrase",
            "dbPassword",
            "sessionId",
            "x.bearer",
            "AWS_SECRET_ACCESS_KEY",
            "AccountKey",
            "signature",
            "pwd",
            "to\u{200b}ken",
            "TOKENS",
        ] {
            assert!(is_sensitive(name), "{name}");
        }
        for name in
            ["keyId", "idempotencyKey", "correlationId", "kdf", "origin", "passed", "author", "pointer", ""]
        {
            assert!(!is_sensitive(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_short_look_passes_over_no_secret(
            before in "[a-zA-Z0-9_-]{0,4}", index in 0_usize..18, after in "[A-Z-]?.{0,3}", cut in any::<bool>(),
        ) {
            let words: Vec<&str> =
                ('a'..='z').flat_map(secrets_from).chain(&SECRET_WHOLE).copied().collect();
            let word = words[index % words.len()];
            let word = if cut { &word[..word.len() - 1] } else { word };
            for name in [format!("{before}{word}{after}"), word.to_uppercase(), format!("{word}{after}")] {
                prop_assert_eq!(is_secret(&name), is_one(&name), "{}", name);
            }
        }
    }

    #[test]
    fn a_session_is_a_word_of_ours_in_the_ledger() {
        assert!(!is_secret("session") && !is_secret("sessionEpoch") && is_secret("sessionToken"));
        assert!(is_secret("auth") && !is_secret("author") && !is_secret("authMode"));
    }

    #[test]
    fn what_is_written_hides_what_names_give_away_and_nothing_else() {
        let body = json!({
            "origin": "orc", "data": {
                "apiKey": "k", "list": [{ "client-secret": { "v": 1 } }, "token"], "PRIVATE_KEY": ["a", "b"],
                "password": null, "token": 12345, "tokenTtlSeconds": 60, "isTokenSet": true, "set-cookie": "***",
                "keyId": "k-1", "commandSha256": "0f", "challengeId": "c-1", "secretMode": "static", "session": "s",
                "auth": { "mode": "hmac", "secret_ref": "env:KEY", "pass": "p" }, "bearer": "none",
            }
        });
        let expected = json!({
            "origin": "orc", "data": {
                "apiKey": "***", "list": [{ "client-secret": "***" }, "token"], "PRIVATE_KEY": "***",
                "password": null, "token": "***", "tokenTtlSeconds": 60, "isTokenSet": true, "set-cookie": "***",
                "keyId": "k-1", "commandSha256": "0f", "challengeId": "c-1", "secretMode": "static", "session": "s",
                "auth": { "mode": "hmac", "secret_ref": "env:KEY", "pass": "***" }, "bearer": "none",
            }
        });
        assert_eq!(masked(Tree::said(&body).root()).as_ref(), Some(&expected));
        assert_eq!(masked(Tree::said(&expected).root()), None);
    }

    #[test]
    fn an_exemption_is_of_a_field_and_a_type() {
        assert!(allows_text("session", "ready") && allows_number("session", "7"));
        assert!(!allows_text("session", "3f0c") && !allows_text("token", "ready"));
        assert!(allows_number("token_ttl_ms", "5000") && !allows_number("token", "5000"));
        assert!(!allows_number("token_ttl_ms", "5e3") && !allows_number("password", "123456"));
        assert!(allows_text("secretMode", "static") && !allows_text("secretMode", "hunter2"));
        assert!(
            allows_text("secret_ref", "env:MASTER_KEY") && allows_text("secret_ref", "file:./master.key")
        );
        assert!(!allows_text("secret_ref", "env:hunter2") && !allows_text("secret_ref", "hunter2"));
        assert!(is_allowed_leaf("instance", "w-1") && !is_allowed_leaf("id", "w-1"));
        let hash = "0".repeat(64);
        assert!(is_typed("prev", &hash) && !is_typed("note", &hash) && !is_typed("prev", "0"));
        assert!(is_typed("bundle_id", "019a6b1c-0000-7000-8000-000000000001"));
        assert!(is_typed("challengeId", "c-00112233445566778899aabbccddeeff"));
        assert!(is_typed("id", "42") && !is_typed("id", "hunter2"));
        assert!(is_code("identity.origin-mismatch") && !is_code("my.token"));
    }
}
