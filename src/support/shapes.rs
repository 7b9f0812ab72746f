//! What a secret looks like in a text: behind a name, by its own shape, or because it is one that
//! we know.
//!
//! Owns: what names, words and encodings give away, and where in a text that stands; shapes are the
//! contract's own.
//! Never: keeps, prints or returns what it found; a rule's name and a place is all that leaves.
//! Holds: what `masked` answers has no secret that `found` would find.

use std::{fmt, ops::Range, sync::LazyLock};

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use regex::Regex;

use crate::contract::secrets::{
    names,
    shapes::{self, is_masked},
};

/// A secret that is shorter is not looked for by itself: it would be found in every second word.
const KNOWN_CHARS_MIN: usize = 6;
/// How often one encoding is looked for within another.
const ENCODINGS_MAX: u8 = 2;

/// The words that make a name sensitive, as they stand in a text.
const WORDS: &str = r"token|api[-_ ]?key|secret|signature|authorization|bearer|cookie|session|private[-_ ]?key|passphrase|password|passwd|credential|access[-_ ]?key|account[-_ ]?key";

/// A name with what joins it to its value.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    let name = name();
    regex(&format!(r#"(?i)(?P<name>{name})(?:\\*["']?\s*(?:=>|[:=]|%3[ad])\s*|(?P<said>\s+(?:is|was)\s+))"#))
});
/// A flag of a command line with its value behind a space.
static FLAG: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"(?i)(?:^|\s)--?(?P<name>{})\s+", name())));
/// Texts that may hide another text.
static ENCODED: LazyLock<Regex> = LazyLock::new(|| regex(r"[A-Za-z0-9+/_-]{12,}={0,2}"));
/// Names whose values have spaces.
static OF_MANY_WORDS: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)authorization|cookie|passphrase|private"));

/// Headers that a word gives away rather than a shape: in a sentence they may be plain words, which
/// the ledger keeps.
const WORDED: [(&str, &str); 2] = [
    ("bearer", r"(?i)\bbearer[ +]+(?P<v>[A-Za-z0-9._~+/-]{6,}=*)"),
    ("basic", r"(?i)\bbasic[ +]+(?P<v>[A-Za-z0-9+/_-]{8,}=*)"),
];
static OF_A_WORD: LazyLock<Vec<(&str, Regex)>> =
    LazyLock::new(|| WORDED.iter().map(|(rule, shape)| (*rule, regex(shape))).collect());
/// What a text has that is worth a closer look; most have nothing of it.
static HINTS: LazyLock<Regex> =
    LazyLock::new(|| regex(&format!("(?i){WORDS}|pwd|pass|jwt|auth|basic|{}", shapes::hints())));

/// Base64 in either alphabet, padded or not, however its last bits are.
static BASE64: LazyLock<[GeneralPurpose; 2]> = LazyLock::new(|| {
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [GeneralPurpose::new(&STANDARD, config), GeneralPurpose::new(&URL_SAFE, config)]
});

/// What looks for secrets in texts: the shapes, and the secrets that this process itself holds.
#[derive(Clone, Default)]
pub struct Detector {
    /// Each known secret as it is, and as it looks in other encodings.
    known: Vec<String>,
}

impl fmt::Debug for Detector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Detector {{ {} forms of known secrets }}", self.known.len())
    }
}

impl Detector {
    /// Looks for these secrets too, wherever they stand and whatever stands around them.
    pub fn knowing<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known: Vec<String> = secrets
            .into_iter()
            .filter(|secret| secret.chars().count() >= KNOWN_CHARS_MIN)
            .flat_map(forms)
            .collect();
        known.sort_unstable();
        known.dedup();
        Self { known }
    }

    /// The rule by which a text holds a secret.
    pub(super) fn found(&self, text: &str) -> Option<&'static str> {
        self.places(text, ENCODINGS_MAX).first().map(|(_, rule)| *rule)
    }

    /// The text with every secret masked; `None` where there is nothing to mask.
    pub(super) fn masked(&self, text: &str) -> Option<String> {
        shapes::masked_with(text, |text| self.places(text, ENCODINGS_MAX))
    }

    /// Where secrets stand.
    fn places(&self, text: &str, encodings: u8) -> Vec<(Range<usize>, &'static str)> {
        let mut places = Vec::new();
        if HINTS.is_match(text) {
            places.extend(named(text));
            places.extend(shaped(text));
        }
        for known in &self.known {
            places.extend(text.match_indices(known).map(|(at, it)| (at..at + it.len(), "known-secret")));
        }
        if encodings > 0 {
            let hidden = ENCODED.find_iter(text).filter(|token| self.hides(token.as_str(), encodings - 1));
            places.extend(hidden.map(|token| (token.range(), "encoded")));
        }
        places
    }

    /// Whether a token is the encoding of a text with a secret.
    fn hides(&self, token: &str, encodings: u8) -> bool {
        BASE64.iter().any(|base64| {
            let Ok(bytes) = base64.decode(token) else { return false };
            let Ok(text) = String::from_utf8(bytes) else { return false };
            let is_text = !text.chars().any(|letter| letter.is_control() && !letter.is_whitespace());
            is_text && !self.places(&text, encodings).is_empty()
        })
    }
}

/// Texts that look like secrets.
fn shaped(text: &str) -> Vec<(Range<usize>, &'static str)> {
    let mut places = shapes::places(text);
    for (rule, shape) in OF_A_WORD.iter() {
        let found = shape.captures_iter(text).filter_map(|found| found.name("v"));
        places.extend(found.filter(|found| !is_masked(found.as_str())).map(|found| (found.range(), *rule)));
    }
    places
}

/// Values that stand behind sensitive names.
fn named(text: &str) -> Vec<(Range<usize>, &'static str)> {
    let mut places = Vec::new();
    let (mut from, mut covered) = (0, 0);
    while let Some(found) = text.get(from..).and_then(|rest| NAMED.captures(rest)) {
        let (Some(name), Some(whole)) = (found.name("name"), found.get(0)) else { break };
        let (start, from_before) = (from + whole.end(), from);
        from = start;
        // Within a value that is masked already nothing needs to be looked at; behind it a name may
        // be a value too.
        if start < covered {
            continue;
        }
        let is_said = found.name("said").is_some();
        let place = value(text, start, !is_said && OF_MANY_WORDS.is_match(name.as_str()));
        let told = text.get(place.clone()).unwrap_or_default();
        // Said in a sentence, a value is told from the sentence's next word by not being a word.
        let is_sentence = is_said && (told.len() < 4 || is_plain_word(told));
        let (name_start, name_end) = (from_before + name.start(), from_before + name.end());
        if !is_sentence && !is_code(text, name_start, name_end) && !allows(name.as_str(), told) {
            covered = place.end;
            places.push((place, "sensitive-name"));
        }
    }
    for found in FLAG.captures_iter(text) {
        let (Some(name), Some(whole)) = (found.name("name"), found.get(0)) else { continue };
        let place = value(text, whole.end(), false);
        let told = text.get(place.clone()).unwrap_or_default();
        if !told.starts_with('-') && !allows(name.as_str(), told) {
            places.push((place, "sensitive-flag"));
        }
    }
    places
}

/// The value that begins at `start`, without its quotes.
fn value(text: &str, start: usize, has_spaces: bool) -> Range<usize> {
    let rest = text.get(start..).unwrap_or_default();
    let escapes = rest.bytes().take_while(|byte| *byte == b'\\').count();
    let quote = rest.get(escapes..).and_then(|rest| rest.chars().next());
    match quote {
        Some(quote @ ('"' | '\'')) => {
            let from = start + escapes + 1;
            let inside = text.get(from..).unwrap_or_default();
            from..from + quoted(inside, quote, escapes)
        }
        Some('{' | '[') => start..start + bracketed(rest),
        _ => {
            let ends = |letter: char| match letter {
                '\r' | '\n' => true,
                '"' | '\'' | '<' | '>' => !has_spaces,
                letter => !has_spaces && letter.is_whitespace(),
            };
            start..start + rest.find(ends).unwrap_or(rest.len())
        }
    }
}

/// Up to the quote that closes, or the end: one with as many escapes as the one that opened, or
/// fewer.
fn quoted(inside: &str, quote: char, escapes: usize) -> usize {
    let mut run = 0;
    for (at, letter) in inside.char_indices() {
        if letter == quote && run <= escapes {
            return at - run;
        }
        run = if letter == '\\' { run + 1 } else { 0 };
    }
    inside.len()
}

/// Up to the bracket that closes, or the end.
fn bracketed(rest: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in rest.char_indices() {
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + letter.len_utf8();
        }
    }
    rest.len()
}

fn allows(name: &str, told: &str) -> bool {
    let told = told.trim().trim_end_matches([',', ';', '.', ')', '}', ']', '&', '\\']);
    is_masked(told) || names::allows_text(name, told) || names::allows_number(name, told)
}

fn is_plain_word(told: &str) -> bool {
    told.trim_end_matches([',', ';', '.', ')', ':', '!', '?']).chars().all(|letter| letter.is_lowercase())
}

/// Whether the name is the end of a code of ours, like `identity.bad-signature`.
fn is_code(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).unwrap_or_default();
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    let word = before
        .rfind(|letter| !is_part(letter))
        .map_or(0, |at| at + before.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8));
    text.get(word..end).is_some_and(names::is_code)
}

/// A secret as it looks in the encodings that are common.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), secret.bytes().map(|byte| format!("{byte:02x}")).collect()];
    let percent = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    forms.push(secret.bytes().map(percent).collect());
    for base64 in BASE64.iter() {
        let mut form = base64.encode(secret);
        // What follows a secret within a longer text shows in its last letter.
        if !secret.len().is_multiple_of(3) {
            form.pop();
        }
        forms.push(form);
    }
    forms
}

/// A sensitive name as it stands in a text.
fn name() -> String {
    format!(r"(?:[A-Za-z0-9_-]*(?:{WORDS})[A-Za-z0-9_-]*|\b(?:pwd|pass|jwt|auth))")
}

/// The shapes are constants; that each is a regular expression is tested by using them.
#[expect(clippy::expect_used, reason = "a constant that the first test compiles")]
fn regex(shape: &str) -> Regex {
    Regex::new(shape).expect("a regular expression")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::secrets::MASKED;

    const JWT: &str =
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let detector = Detector::default();
        for (text, masked) in [
            ("login failed: password=hunter2 for bob", "login failed: password=*** for bob"),
            (r#"got {"apiKey":"a\"b c","n":1}"#, r#"got {"apiKey":"***","n":1}"#),
            (r#"got {\"token\":\"abc\",\"n\":1}"#, r#"got {\"token\":\"***\",\"n\":1}"#),
            (r#"got {"secret":{"v":["abc"]},"n":1}"#, r#"got {"secret":***,"n":1}"#),
            ("Authorization: Digest a=\"b\", c=d\nHost: h", "Authorization: ***\nHost: h"),
            ("Cookie: a=b; c=d\nHost: h", "Cookie: ***\nHost: h"),
            ("token = password = abc", "token = *** = ***"),
            ("run --db-password hunter2 --fast", "run --db-password *** --fast"),
            ("the password is hunter2", "the password is ***"),
            ("X-Api-Key => k1", "X-Api-Key => ***"),
            ("GET /x?access_token=abc&y=1 HTTP", "GET /x?access_token=*** HTTP"),
            ("amqp://u:p@ss@h/v and http://h", "amqp://***@h/v and http://h"),
            ("sent Bearer abcdef123 to h", "sent Bearer *** to h"),
            ("-----BEGIN EC PRIVATE KEY-----\nMIG\n-----END EC PRIVATE KEY----- x", "*** x"),
            ("key AKIAIOSFODNN7EXAMPLE.", "key ***."),
            ("cGFzc3dvcmQ9aHVudGVyMg== is told", "*** is told"),
        ] {
            let told = detector.masked(text).unwrap_or_default();
            assert_eq!(told, masked, "{text}");
            assert_eq!(detector.found(&told), None, "{told}");
            assert!(detector.found(text).is_some());
        }
        assert_eq!(detector.masked(JWT).as_deref(), Some(MASKED));
    }

    #[test]
    fn plain_words_stay() {
        let detector = Detector::default();
        for text in [
            "the signature is wrong",
            "a token is missing",
            "session: ready",
            "session is lost",
            "identity.origin-mismatch: origin and user-id differ",
            "amqp://guest:***@127.0.0.1:5672/%2f",
            "password=***, next",
            r#"{"password":"***"}"#,
            "https://swarmgate.example/docs",
            "keyId: k-1",
            "token_ttl_ms: 5000",
            "worker-controller-abcdef-0123456789",
            "2026-03-04T10:15:00Z",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ] {
            assert_eq!(detector.masked(text), None, "{text}");
        }
    }

    #[test]
    fn a_known_secret_is_found_in_every_form() {
        let detector = Detector::knowing(["correct horse/42", "short"]);
        for text in [
            "x correct horse/42 y",
            "correct%20horse%2F42",
            "Y29ycmVjdCBob3JzZS80Mg",
            "636f727265637420686f7273652f3432",
            "bm90ZTogY29ycmVjdCBob3JzZS80MiE=",
        ] {
            assert!(detector.found(text).is_some(), "{text}");
        }
        assert_eq!(detector.found("short"), None);
        assert!(!format!("{detector:?}").contains("horse"));
    }
    #[test]
    fn a_hostile_text_takes_no_more_than_its_share() {
        let detector = Detector::default();
        let started = std::time::Instant::now();
        for part in [
            "token=",
            "token:{",
            "token=\"",
            "a.token: ",
            "eyJ",
            "eyJabcde.",
            "https://a@",
            "x://",
            "--token ",
            "QUJD",
            "-----BEGIN A-----",
            "secret is ",
        ] {
            let text = part.repeat(128 * 1024 / part.len());
            let masked = detector.masked(&text).unwrap_or(text);
            assert_eq!(detector.found(&masked), None, "{part}");
        }
        // Quadratic time would take far longer, whatever the machine.
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }
}
