//! Texts of strangers, as they may reach a terminal.
//!
//! Owns: what stands for a character that would steer a terminal, in a line, in a text and in JSON.
//! Never: prints.
//! Holds: no text steers a terminal, and a stranger's line break makes no line.

use crate::contract::plain::is_steering;

/// A stranger's text as one line that steers no terminal.
pub fn one_line(text: &str) -> String {
    let shown = |letter| if is_steering(letter) && letter != '\t' { '\u{fffd}' } else { letter };
    text.chars().map(shown).collect()
}

/// Text of several lines that steers no terminal.
pub fn steerless(text: &str) -> String {
    let kept = |letter| matches!(letter, '\n' | '\t') || !is_steering(letter);
    text.chars().map(|letter| if kept(letter) { letter } else { '\u{fffd}' }).collect()
}

/// JSON says the same with such characters written as escapes; they stand in its texts only.
pub fn escaped(json: &str) -> String {
    if !json.contains(is_steering) {
        return json.to_owned();
    }
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if is_steering(letter) {
            let units = &mut [0; 2];
            letter.encode_utf16(units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const EVIL: &str = "evil\u{1b}[31m\n\r\u{9b}2J\u{202e}FAKE\tx";

    #[test]
    fn no_text_steers_a_terminal_or_makes_a_line() {
        assert_eq!(one_line(EVIL), "evil\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}2J\u{fffd}FAKE\tx");
        assert_eq!(steerless("a\nb\u{1b}c\r\n"), "a\nb\u{fffd}c\u{fffd}\n");
    }

    #[test]
    fn json_says_the_same_and_steers_nothing() {
        let value = serde_json::json!({ "origin": EVIL });
        let text = escaped(&value.to_string());
        assert!(!text.contains(is_steering), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }
}
