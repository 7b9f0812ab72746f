//! What makes a frame unlike any other of its key.
//!
//! Owns: a nonce and its one spelling, and reading hex.
//! Never: draws a nonce, or remembers one; `window` remembers.
//! Holds: a nonce is 16 bytes, spelt as 32 lower-case hex digits.

use std::fmt;

/// What makes a frame unlike any other of its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub [u8; 16]);

impl Nonce {
    /// Reads 32 hex digits; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text, |digit| digit.is_ascii_hexdigit()).map(Self)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Reads exactly `N` bytes of hex whose digits all pass.
pub(super) fn unhex<const N: usize>(text: &str, passes: fn(&u8) -> bool) -> Option<[u8; N]> {
    if text.len() != N.checked_mul(2)? || !text.as_bytes().iter().all(passes) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
