//! W3C trace context: the `traceparent` that a message carries.
//!
//! Owns: reading one strictly, for the line that tells of a decision.
//! Never: starts, changes or drops one; the router is a hop, not a span of its own making.
//! Holds: what is told is 32 lower-case hexadecimal digits, whatever a sender wrote.

use crate::contract::message::Message;

const HEADER: &str = "traceparent";

/// The trace that a message belongs to, where its sender said so in a valid form.
pub fn id(message: &Message) -> Option<&str> {
    message.properties.header_text(HEADER).and_then(parse)
}

/// The trace-id of a `traceparent`; `None` for what the recommendation calls invalid. Of a later
/// version, only the part that this one knows is read.
fn parse(text: &str) -> Option<&str> {
    let mut parts = text.splitn(5, '-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let later = parts.next().is_some();
    let is_valid = is_hex(version, 2)
        && is_hex(trace, 32)
        && is_hex(parent, 16)
        && is_hex(flags, 2)
        && version != "ff"
        && (version != "00" || !later)
        && [trace, parent].iter().all(|id| id.bytes().any(|digit| digit != b'0'));
    is_valid.then_some(trace)
}

/// Whether a text is exactly so many lower-case hexadecimal digits.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_ones_are_read() {
        let trace = Some("4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), trace);
        assert_eq!(parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-later"), trace);
        for bad in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6\n3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(bad), None, "`{bad}`");
        }
    }
}
