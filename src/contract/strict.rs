//! Raw bytes into one tree, or a refusal (gate 1, before any schema).
//!
//! Owns: the limits of a body and the rules that plain JSON readers leave open: duplicate keys,
//! depth, number of values, integers that a double cannot hold.
//! Never: lexes; serde_json does, in one pass. Looks at what a body means.
//! Holds: what it accepts, serde_json accepts with an equal value; two readers cannot differ on it.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Number, error::Category};

use super::{
    reason::{Reason, Refusal},
    tree::{self, Item, Keys, Span, Tree},
};

/// The largest integer that every reader of JSON holds exactly: 2^53 − 1 (RFC 8259 §6).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Arrays and objects within each other that the lexer reads at all; it has no more stack than that
/// to spend.
pub const LEXER_DEPTH_MAX: usize = 127;

/// How large a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Arrays and objects within each other; a larger number than [`LEXER_DEPTH_MAX`] says no more
    /// than that one.
    pub depth_max: usize,
    /// Values in a body, the outermost included.
    pub nodes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 256 * 1024, depth_max: 32, nodes_max: 10_000 }
    }
}

/// Refuses what is too large to be looked at.
///
/// # Errors
/// `contract.too-large`.
pub fn weigh(body: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let bytes_max = limits.body_bytes_max.min(tree::TEXT_BYTES_MAX);
    if body.len() > bytes_max {
        let detail = format!("the body has {} bytes, more than {bytes_max}", body.len());
        return Err(Refusal::new(Reason::TooLarge, detail));
    }
    Ok(())
}

/// Reads a body.
///
/// # Errors
/// `contract.too-large`, `not-utf8`, `not-json`, `duplicate-key` or `too-deep`: where several hold,
/// the first in this order, and within a code the first in the body. Past a limit the rest is lexed
/// only.
pub fn parse(body: &[u8], limits: &Limits) -> Result<Tree, Refusal> {
    weigh(body, limits)?;
    let text = std::str::from_utf8(body).map_err(|fault| {
        Refusal::new(Reason::NotUtf8, format!("the bytes from {} on are not UTF-8", fault.valid_up_to()))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(Refusal::new(Reason::NotJson, "a byte order mark stands before the value, at byte 0"));
    }
    let mut walk = Walk {
        limits: *limits,
        text,
        tree: Tree::of(text),
        nodes: 1,
        noted: None,
        noted_depth: 0,
        wide: false,
    };
    let mut lexer = Deserializer::from_str(text);
    Place { walk: &mut walk, depth: 0, key: Span::default() }
        .deserialize(&mut lexer)
        .and_then(|_| lexer.end())
        .map_err(|fault| refuse_fault(text, &fault))?;
    if walk.wide
        && let Some(offset) = inexact_integer(text)
    {
        let detail = format!("the integer at byte {offset} is beyond ±(2^53−1), so readers would round it");
        return Err(Refusal::new(Reason::NotJson, detail));
    }
    match walk.noted {
        Some(refusal) => Err(refusal),
        None => Ok(walk.tree),
    }
}

/// What a pass builds, and what else it remembers.
struct Walk<'de> {
    limits: Limits,
    text: &'de str,
    tree: Tree,
    nodes: usize,
    /// The refusal so far; its pointer grows from the inside out while the frames above it return.
    noted: Option<Refusal>,
    /// The frame up to which that pointer has grown.
    noted_depth: usize,
    /// Whether a number was seen that could be an integer beyond ±(2^53−1).
    wide: bool,
}

impl<'de> Walk<'de> {
    /// Where a text without escapes stands.
    fn borrowed(&self, part: &'de str) -> Span {
        Tree::span_of(self.text, part)
    }

    /// Notes a refusal in the frame at `depth`, unless one that comes first is noted already.
    fn note(&mut self, depth: usize, refusal: impl FnOnce() -> Refusal, reason: Reason) {
        if self.noted.as_ref().is_none_or(|noted| reason < noted.reason) {
            self.noted = Some(refusal());
            self.noted_depth = depth;
        }
    }

    /// Counts one more value; `false` once there are too many.
    fn count(&mut self, depth: usize) -> bool {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes <= self.limits.nodes_max {
            return true;
        }
        let nodes_max = self.limits.nodes_max;
        let refuse =
            || Refusal::new(Reason::TooDeep, format!("the body has more than {nodes_max} values")).at("");
        self.note(depth, refuse, Reason::TooDeep);
        false
    }

    /// Whether an array or object may stand at `depth`.
    fn fits(&mut self, depth: usize) -> bool {
        let depth_max = self.limits.depth_max;
        if depth <= depth_max {
            return true;
        }
        let refuse =
            || Refusal::new(Reason::TooDeep, format!("the body nests over {depth_max} levels")).at("");
        self.note(depth, refuse, Reason::TooDeep);
        false
    }

    /// Lengthens the noted pointer by the step from the frame at `depth` to its child.
    fn passed(&mut self, depth: usize, step: impl FnOnce(&Tree) -> String) {
        if let Some(pointer) = self.noted.as_mut().and_then(|refusal| refusal.pointer.as_mut())
            && self.noted_depth == depth + 1
        {
            pointer.insert_str(0, &format!("/{}", step(&self.tree)));
            self.noted_depth = depth;
        }
    }
}

/// A place in the body where a value is due, within `depth` arrays and objects, under that key. It
/// answers where in the tree the value stands.
struct Place<'walk, 'de> {
    walk: &'walk mut Walk<'de>,
    depth: usize,
    key: Span,
}

impl Place<'_, '_> {
    /// Puts a value there that is no array and no object.
    fn leaf(self, item: Item) -> u32 {
        self.walk.tree.open(self.key, item)
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_, 'de> {
    type Value = u32;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_, 'de> {
    type Value = u32;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<u32, E> {
        Ok(self.leaf(Item::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<u32, E> {
        Ok(self.leaf(Item::Bool(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<u32, E> {
        self.walk.wide |= value > INTEGER_MAX;
        Ok(self.leaf(Item::Number(value.into())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<u32, E> {
        self.walk.wide |= value.unsigned_abs() > INTEGER_MAX;
        Ok(self.leaf(Item::Number(value.into())))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<u32, E> {
        // The lexer hands integers beyond 64 bits over as doubles; the text tells which they were.
        self.walk.wide |= value.abs() > INTEGER_MAX as f64;
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(self.leaf(Item::Number(number)))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<u32, E> {
        let span = self.walk.borrowed(value);
        Ok(self.leaf(Item::Text(span)))
    }

    fn visit_str<E>(self, value: &str) -> Result<u32, E> {
        let span = self.walk.tree.spill(value);
        Ok(self.leaf(Item::Text(span)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u32, A::Error> {
        let Place { walk, depth, key } = self;
        let (depth, at) = (depth + 1, walk.tree.open(key, Item::Array(0)));
        let mut count = 0;
        if walk.fits(depth) {
            while walk.nodes <= walk.limits.nodes_max {
                let place = Place { walk, depth, key: Span::default() };
                if items.next_element_seed(place)?.is_none() {
                    walk.tree.close(at, Item::Array(count));
                    return Ok(at);
                }
                walk.passed(depth, |_| count.to_string());
                count += 1;
                walk.count(depth);
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(at)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<u32, A::Error> {
        let Place { walk, depth, key } = self;
        let (depth, at) = (depth + 1, walk.tree.open(key, Item::Object(0)));
        let (mut count, mut keys) = (0, Keys::default());
        if walk.fits(depth) {
            while walk.nodes <= walk.limits.nodes_max {
                let Some(key) = members.next_key_seed(Key { walk })? else {
                    walk.tree.close(at, Item::Object(count));
                    return Ok(at);
                };
                let member = members.next_value_seed(Place { walk, depth, key })?;
                walk.passed(depth, |tree| PointerStep(tree.str(key)).to_string());
                count += 1;
                walk.count(depth);
                if walk.tree.repeats(at, member, &mut keys, count as usize) {
                    let pointer = format!("/{}", PointerStep(walk.tree.str(key)));
                    let refuse =
                        || Refusal::new(Reason::DuplicateKey, "an object names this key twice").at(pointer);
                    walk.note(depth, refuse, Reason::DuplicateKey);
                }
            }
        }
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(at)
    }
}

/// A place in the body where a key is due.
struct Key<'walk, 'de> {
    walk: &'walk mut Walk<'de>,
}

impl<'de> DeserializeSeed<'de> for Key<'_, 'de> {
    type Value = Span;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Span, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, 'de> {
    type Value = Span;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Span, E> {
        Ok(self.walk.borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Span, E> {
        Ok(self.walk.tree.spill(key))
    }
}

/// A key as a step of a JSON pointer (RFC 6901).
pub(super) struct PointerStep<'key>(pub &'key str);

impl fmt::Display for PointerStep<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.contains(['~', '/']) {
            return out.write_str(self.0);
        }
        out.write_str(&self.0.replace('~', "~0").replace('/', "~1"))
    }
}

/// The lexer's fault in words, with its place as an offset into the whole body: the byte that it
/// stumbled over, or the end where more was due.
fn refuse_fault(text: &str, fault: &serde_json::Error) -> Refusal {
    let line_start: usize =
        text.split_inclusive('\n').take(fault.line().saturating_sub(1)).map(str::len).sum();
    let offset = match fault.classify() {
        Category::Eof => text.len(),
        // Lines and columns count what was read, the stumbling-block included; a line end is column
        // 0 of the next.
        _ => line_start.saturating_add(fault.column()).saturating_sub(1).min(text.len()),
    };
    let words = fault.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    if words == "recursion limit exceeded" {
        return Refusal::new(
            Reason::TooDeep,
            format!("the body nests beyond what is read, at byte {offset}"),
        );
    }
    Refusal::new(Reason::NotJson, format!("{words} at byte {offset}"))
}

/// Where in a valid JSON text the first plain integer literal beyond ±(2^53−1) stands.
fn inexact_integer(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((offset, byte)) = bytes.next() {
        match byte {
            b'"' => {
                while let Some((_, inner)) = bytes.next() {
                    match inner {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'-' | b'0'..=b'9' => {
                let (mut value, mut plain) = (u64::from(byte.wrapping_sub(b'0') % 10), byte != b'-');
                if byte == b'-' {
                    (value, plain) = (0, true);
                }
                while let Some((_, digit)) =
                    bytes.next_if(|(_, next)| matches!(next, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
                {
                    plain &= digit.is_ascii_digit();
                    value = value.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0')));
                }
                if plain && value > INTEGER_MAX {
                    return Some(offset);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
impl Tree {
    /// The tree of a value that a test makes.
    pub(crate) fn said(value: &serde_json::Value) -> Self {
        let read = parse(value.to_string().as_bytes(), &Limits::default());
        read.expect("a test says what can be read")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn refused(body: &[u8]) -> (Reason, Option<String>, String) {
        let limits = Limits { body_bytes_max: 4096, depth_max: 3, nodes_max: 12 };
        let refusal = parse(body, &limits).expect_err("refused");
        (refusal.reason, refusal.pointer, refusal.detail.into_owned())
    }

    #[test]
    fn each_rule_has_its_code_and_place() {
        let pointed: &[(&str, Reason, &str)] = &[
            (r#"{"a":1,"a":2}"#, Reason::DuplicateKey, "/a"),
            (r#"{"x":{"a":1,"\u0061":2},"y":{"b":1}}"#, Reason::DuplicateKey, "/x/a"),
            (r#"{"x":[0,{"a/b":1,"c":[1],"a\/b":{}}],"y":[{}]}"#, Reason::DuplicateKey, "/x/1/a~1b"),
            (r#"{"x":[[[1]]],"y":1}"#, Reason::TooDeep, "/x/0/0"),
            (r#"{"x":[[[1]]],"x":1}"#, Reason::DuplicateKey, "/x"),
            ("[1,2,3,4,5,6,7,8,9,0,1,2,3]", Reason::TooDeep, ""),
        ];
        for (body, reason, pointer) in pointed {
            let (found, at, _) = refused(body.as_bytes());
            assert_eq!((found, at.as_deref()), (*reason, Some(*pointer)), "{body}");
        }
        let placed: &[(&[u8], Reason, &str)] = &[
            (b"\xff", Reason::NotUtf8, "0"),
            (b"\xef\xbb\xbf{}", Reason::NotJson, "byte 0"),
            (b"", Reason::NotJson, "byte 0"),
            (b"{", Reason::NotJson, "EOF while parsing an object at byte 1"),
            (b"{\n \"a\": [1, \n", Reason::NotJson, "EOF while parsing a value at byte 13"),
            (b"\n\"abc", Reason::NotJson, "EOF while parsing a string at byte 5"),
            (b"{} x", Reason::NotJson, "byte 3"),
            (b"[\"a\nb\"]", Reason::NotJson, "byte 3"),
            (b"[tru\ne]", Reason::NotJson, "byte 4"),
            (b"[NaN]", Reason::NotJson, "byte 1"),
            (b"[1,\n\n 2,x]", Reason::NotJson, "byte 8"),
            (b"[9007199254740992]", Reason::NotJson, "byte 1"),
            (b"[\"\\\"1\", -9007199254740992]", Reason::NotJson, "byte 8"),
            (b"[1E22, 99999999999999999999999]", Reason::NotJson, "byte 7"),
            (b"[1e999]", Reason::NotJson, "byte"),
            (b"[\"\\ud800\"]", Reason::NotJson, "byte"),
            (b"{\"a\":1,\"a\":2", Reason::NotJson, "byte"),
        ];
        for (body, reason, words) in placed {
            let (found, _, detail) = refused(body);
            assert_eq!(found, *reason, "{body:?}");
            assert!(detail.contains(words), "{body:?}: {detail}");
        }
        assert_eq!(refused(&[b'['; 5000]).0, Reason::TooLarge);
        assert_eq!(refused(&[b'['; 4000]).0, Reason::NotJson);
    }

    #[test]
    fn numbers_that_a_double_holds_pass() {
        for body in
            ["1E22", "1e300", "-0", "4.0", "9007199254740991", "-9007199254740991", "12345678901234567890.5"]
        {
            let value = parse(body.as_bytes(), &Limits::default()).expect("accepted");
            assert_eq!(Value::from(value), serde_json::from_str::<Value>(body).expect("JSON"), "{body}");
        }
    }

    #[test]
    fn the_lexer_reads_as_deep_as_it_says_and_no_deeper() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for depth_max in [LEXER_DEPTH_MAX, usize::MAX] {
            let limits = Limits { depth_max, ..Limits::default() };
            assert!(parse(nested(LEXER_DEPTH_MAX).as_bytes(), &limits).is_ok());
            let refusal = parse(nested(LEXER_DEPTH_MAX + 1).as_bytes(), &limits).expect_err("too deep");
            assert_eq!(refusal.reason, Reason::TooDeep);
        }
    }

    #[test]
    fn the_limits_themselves_pass() {
        let limits = Limits { depth_max: 3, nodes_max: 4, ..Limits::default() };
        assert!(parse(b"[[[1]]]", &limits).is_ok());
        assert!(parse(b"[1,2,3]", &limits).is_ok());
        assert!(parse(b"[1,2,3,4]", &limits).is_err());
    }
}
