//! Reading Rust as text.
//!
//! Owns: telling code from comments and strings, words, the braces of a function, and the first
//! segments of paths.
//! Never: parses; what is looked for is told by its words and braces.
//! Holds: what is blanked keeps its place, so that a place in the code is a place in the text.

use std::collections::BTreeSet;

/// The text with comments, strings and characters blanked, so that what is left is code at the same
/// places.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => line_end(bytes, at),
            [b'/', b'*', ..] => comment_end(bytes, at),
            [b'"', ..] => string_end(bytes, at),
            [b'r', b'"' | b'#', ..] if !at.checked_sub(1).is_some_and(|before| is_word(bytes[before])) => {
                raw_end(bytes, at).unwrap_or(at + 1)
            }
            // `'x'` and `'\n'` are characters, `'x` is a lifetime.
            [b'\'', b'\\', ..] => {
                (at + 3..bytes.len()).find(|end| bytes[*end] == b'\'').map_or(at + 1, |end| end + 1)
            }
            [b'\'', first, ..] => {
                let width = match first {
                    0x00..=0x7f => 1,
                    0xc0..=0xdf => 2,
                    0xe0..=0xef => 3,
                    _ => 4,
                };
                if bytes.get(at + 1 + width) == Some(&b'\'') { at + 2 + width } else { at + 1 }
            }
            _ => at + 1,
        };
        let end = end.min(bytes.len());
        if end > at + 1 {
            out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        at = end;
    }
    String::from_utf8(out).expect("only whole characters are blanked")
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    (at..bytes.len()).find(|end| bytes[*end] == b'\n').unwrap_or(bytes.len())
}

fn comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut end) = (0, at);
    while end < bytes.len() {
        match &bytes[end..] {
            [b'/', b'*', ..] => (depth, end) = (depth + 1, end + 2),
            [b'*', b'/', ..] => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
        if depth == 0 {
            break;
        }
    }
    end
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != b'"' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    end + 1
}

/// The end of `r"…"` or `r#"…"#`; `None` where it is a raw identifier.
fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    (open + 1..bytes.len()).find(|end| bytes[*end..].starts_with(&close)).map(|end| end + close.len())
}

pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands by itself.
pub fn words(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let alone = |at: usize| {
        let before = at.checked_sub(1).is_some_and(|before| is_word(bytes[before]));
        let after = word.bytes().last().is_some_and(is_word)
            && bytes.get(at + word.len()).copied().is_some_and(is_word);
        !before && !after
    };
    text.match_indices(word).map(|(at, _)| at).filter(|at| alone(*at)).collect()
}

/// The braces of the function that begins at `start`; `None` for one without a body.
pub fn body(code: &str, start: usize) -> Option<(usize, usize)> {
    let bytes = code.as_bytes();
    let mut nesting = 0_i32;
    let open = (start..bytes.len()).find(|at| {
        match bytes[*at] {
            b'(' | b'[' => nesting += 1,
            b')' | b']' => nesting -= 1,
            _ => {}
        }
        nesting == 0 && matches!(bytes[*at], b'{' | b';') || nesting < 0
    })?;
    if bytes[open] != b'{' {
        return None;
    }
    let mut depth = 0_i32;
    let close = (open..bytes.len()).find(|at| {
        depth += i32::from(bytes[*at] == b'{') - i32::from(bytes[*at] == b'}');
        depth == 0
    })?;
    Some((open, close))
}

/// The first segments behind `root::`, also those in braces.
pub fn members(code: &str, root: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for at in words(code, root) {
        let Some(rest) = code[at + root.len()..].strip_prefix("::") else { continue };
        match rest.strip_prefix('{') {
            None => found.extend(first_word(rest)),
            Some(group) => {
                let (mut depth, mut from) = (0_i32, 0);
                for (place, sign) in group.char_indices() {
                    match sign {
                        '{' => depth += 1,
                        '}' if depth == 0 => {
                            found.extend(first_word(&group[from..place]));
                            break;
                        }
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            found.extend(first_word(&group[from..place]));
                            from = place + 1;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

#[test]
fn code_is_told_from_words() {
    let text = "let a = \"// {\"; // } b\nlet c = r#\"\"{\"#; /* { /* } */ */ let d = '{'; fn e<'f>() {}\n";
    let left = code(text);
    assert_eq!(left.len(), text.len());
    assert_eq!((left.matches('{').count(), left.matches('}').count()), (1, 1));
    assert!(left.contains("fn e<'f>() {}") && left.contains("let d =") && !left.contains('b'));
    assert_eq!(code("let a = '\\''; let r = 1; let é = 'é';"), "let a =     ; let r = 1; let é =     ;");
}
