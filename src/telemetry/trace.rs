//! W3C trace context: the `traceparent` that a message carries.
//!
//! Owns: reading one strictly, and starting one where a sender sent none.
//! Never: changes a valid one; the router is a hop, not a span of its own making.
//! Holds: what `start` makes, `parse` takes; ids are never all zeros.

use std::{cell::RefCell, fmt};

/// The header.
pub const HEADER: &str = "traceparent";

/// Random bytes drawn from the system at once, per thread: one call serves 42 traces.
const POOL_BYTES: usize = 1008;
const TRACE_BYTES: usize = 24;

/// A trace context, version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: u128,
    /// The caller's span.
    pub parent_id: u64,
    /// Flags; bit 0: sampled.
    pub flags: u8,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

/// Reads a `traceparent`; `None` for what the recommendation calls invalid. Of a later version, only the part
/// that version 00 knows is read.
pub fn parse(text: &str) -> Option<TraceParent> {
    let mut parts = text.splitn(5, '-');
    let version = hex(parts.next()?, 2)?;
    let trace_id = hex(parts.next()?, 32)?;
    let parent_id = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    let more = parts.next();
    if version == 0xff || (version == 0 && more.is_some()) || trace_id == 0 || parent_id == 0 {
        return None;
    }
    Some(TraceParent {
        trace_id,
        parent_id: u64::try_from(parent_id).ok()?,
        flags: u8::try_from(flags).ok()?,
    })
}

/// Starts a trace; `None` where the system has no random bytes, and then the message goes without.
pub fn start() -> Option<TraceParent> {
    let bytes = random()?;
    let (trace, parent) = bytes.split_at_checked(16)?;
    Some(TraceParent {
        trace_id: u128::from_be_bytes(trace.try_into().ok()?).max(1),
        parent_id: u64::from_be_bytes(parent.try_into().ok()?).max(1),
        flags: 0,
    })
}

/// The header to send on: the sender's own where it is valid, else a new one.
pub fn keep_or_start(inbound: Option<&str>) -> Option<String> {
    match inbound {
        Some(text) if parse(text).is_some() => Some(text.to_owned()),
        _ => start().map(|trace| trace.to_string()),
    }
}

/// Exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower)).then(|| u128::from_str_radix(text, 16).ok())?
}

struct Pool {
    bytes: [u8; POOL_BYTES],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], used: POOL_BYTES }) };
}

fn random() -> Option<[u8; TRACE_BYTES]> {
    POOL.with_borrow_mut(|pool| {
        if pool.used >= POOL_BYTES {
            getrandom::fill(&mut pool.bytes).ok()?;
            pool.used = 0;
        }
        let taken = pool.bytes.get(pool.used..)?.first_chunk().copied();
        pool.used += TRACE_BYTES;
        taken
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_ones_are_kept_and_others_replaced() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parse(valid).map(|trace| trace.to_string()).as_deref(), Some(valid));
        assert_eq!(keep_or_start(Some(valid)).as_deref(), Some(valid));
        assert!(parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-later").is_some());
        for bad in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(bad), None, "`{bad}`");
            assert_ne!(keep_or_start(Some(bad)).as_deref(), Some(bad));
        }
    }

    #[test]
    fn started_ones_are_valid_and_differ() {
        let started: Vec<_> = (0..200).filter_map(|_| start()).collect();
        assert_eq!(started.len(), 200);
        for (at, trace) in started.iter().enumerate() {
            assert_eq!(parse(&trace.to_string()), Some(*trace));
            assert!(!started.iter().skip(at + 1).any(|other| other.trace_id == trace.trace_id));
        }
    }
}
