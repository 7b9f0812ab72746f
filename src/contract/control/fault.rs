//! Why a frame, a bundle or a setting of the secure channel is refused.
//!
//! Owns: the closed list of categories and the stable word of each.
//! Never: repeats a value; a fault names the field and the rule, for a value may be a secret.
//! Holds: a peer is told none of this. What it hears is one opaque word, whatever the category.

use thiserror::Error;

use super::Lane;

/// A category, with the rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ControlFault {
    /// Longer than the bound; found on the length alone, before anything is decoded.
    #[error("payload too large: {bytes} bytes, more than the {bytes_max} of `max_payload_bytes`")]
    PayloadTooLarge {
        /// The length that was announced or would have been sent.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// Not a frame, or not one of this protocol.
    #[error("malformed frame: `{field}` {fault}")]
    MalformedFrame {
        /// The part at fault.
        field: &'static str,
        /// The rule.
        fault: &'static str,
    },
    /// No signature at all.
    #[error("missing signature: the frame has no `sig`")]
    MissingSignature,
    /// A signature of another key, or over something else.
    #[error("invalid signature: `sig` is not this key's over this frame")]
    InvalidSignature,
    /// Signed, but of a kind that this version does not know.
    #[error("unsupported kind: `kind` is not one of this version's; update the older side")]
    UnsupportedKind,
    /// Signed too long ago, or too far ahead.
    #[error("timestamp expired: `ts` is {off_seconds} s from this clock; compare the clocks of both sides")]
    TimestampExpired {
        /// The distance in seconds.
        off_seconds: u64,
    },
    /// Signed before the memory of nonces begins, so nobody can tell whether it was seen.
    #[error("timestamp expired: `ts` lies before what is remembered of nonces; sign it anew")]
    TimestampForgotten,
    /// Seen before.
    #[error("replayed nonce: this `nonce` was seen within its time to live")]
    ReplayedNonce,
    /// Every place of the window holds a nonce that may still be replayed.
    #[error("replay window full: the {lane} lane has {nonces_max} nonces alive; raise `nonce_cache_size`")]
    ReplayWindowFull {
        /// The lane of the frame.
        lane: Lane,
        /// Its bound.
        nonces_max: u64,
    },
    /// A setting that would weaken the channel.
    #[error("bind policy: `{field}` {fault}")]
    BindPolicy {
        /// The setting.
        field: &'static str,
        /// The rule.
        fault: &'static str,
    },
}

impl ControlFault {
    /// The stable word of the category, for logs, counts and tests.
    pub const fn word(self) -> &'static str {
        match self {
            ControlFault::PayloadTooLarge { .. } => "payload-too-large",
            ControlFault::MalformedFrame { .. } => "malformed-frame",
            ControlFault::MissingSignature => "missing-signature",
            ControlFault::InvalidSignature => "invalid-signature",
            ControlFault::UnsupportedKind => "unsupported-kind",
            ControlFault::TimestampExpired { .. } | ControlFault::TimestampForgotten => "timestamp-expired",
            ControlFault::ReplayedNonce => "replayed-nonce",
            ControlFault::ReplayWindowFull { .. } => "replay-window-full",
            ControlFault::BindPolicy { .. } => "bind-policy",
        }
    }
}
