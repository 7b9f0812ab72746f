//! A stranger's text where people read it: in a log, on a terminal, in a header.
//!
//! Owns: which characters steer what shows them, turn what is read around, or are not seen at all,
//! and their escapes.
//! Never: changes what is carried or hashed; only what is shown.
//! Holds: what comes out is one line of characters that are seen, and says the same.

use std::borrow::Cow;

/// Whether a character steers a terminal, begins a line, turns what is read around, or is not seen:
/// controls, format characters (Unicode's Cf and the line and paragraph separators), tags and
/// private use.
pub fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}'
        )
}

/// The text with such characters as escapes.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match is_steering(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_or_hides_is_escaped_and_the_rest_stays() {
        assert_eq!(
            escaped("not ready: x\nERROR \u{1b}[31m\0\u{202e}"),
            "not ready: x\\nERROR \\u{1b}[31m\\u{0}\\u{202e}"
        );
        for hidden in
            ['\u{200b}', '\u{feff}', '\u{ad}', '\u{61c}', '\u{e0041}', '\u{e000}', '\u{2028}', '\u{85}']
        {
            assert!(is_steering(hidden), "{hidden:?}");
        }
        for seen in ["żółw", "日本", "a b", "é", "🚀", "`x`", "—"] {
            assert!(matches!(escaped(seen), Cow::Borrowed(_)), "{seen}");
        }
    }
}
