//! The audit excerpt and its proof.
//!
//! Owns: the latest entries of a ledger as lines, the hashes that chain them, and the check of both
//! together.
//! Never: passes a masked entry off as what was written: the proof names it, and its bytes are not
//! vouched for.
//! Holds: a line that is not named as masked is, byte for byte, what the ledger hashed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Detector, Member, redact};
use crate::{
    contract::{canonical, digest::Digest},
    ledger::chain::{ChainFault, Sealed},
};

/// The entries, one a line.
pub(super) const ENTRIES: &str = "audit.ndjson";
/// Their proof.
pub(super) const PROOF: &str = "audit-proof.json";

/// The latest entries of a ledger, oldest first, none left out between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The ledger's id, from its first entry.
    pub ledger_id: Option<String>,
    /// The entries.
    pub entries: Vec<Sealed>,
}

/// What chains the lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    /// The hash of each entry, in order.
    hashes: Vec<Digest>,
    /// The hash of the last.
    head: Digest,
    /// The ledger's id.
    ledger_id: Option<String>,
    /// The first entry's place.
    from: u64,
    /// The hash before it; zeros where it is the ledger's first.
    prev: Digest,
    /// Entries that are not what was hashed, because something in them was masked.
    redacted: Vec<u64>,
}

/// What is known of a good excerpt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chained {
    /// The ledger's id.
    pub ledger_id: Option<String>,
    /// The first entry's place.
    pub from: u64,
    /// How many entries.
    pub entries: u64,
    /// The hash of the last: the ledger's own at that place is the same.
    pub head: Digest,
    /// Entries whose place in the chain is proven and whose content is not.
    pub redacted: Vec<u64>,
}

/// What is wrong with an excerpt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the proof cannot be read: {0}")]
    Proof(String),
    #[error("the proof chains {hashes} entries, and {lines} are there")]
    Count { hashes: usize, lines: usize },
    #[error("the proof's head is not the hash of its last entry")]
    Head,
    #[error(transparent)]
    Chain(ChainFault),
}

impl Excerpt {
    /// The lines and their proof.
    pub(super) fn members(self, detector: &Detector) -> (Member, Member) {
        let mut lines = Vec::new();
        let (mut redacted, mut count) = (Vec::new(), 0);
        for sealed in &self.entries {
            match masked(detector, &sealed.bytes) {
                Some((bytes, places)) => {
                    redacted.push(sealed.entry.seq);
                    count += places;
                    lines.extend(bytes);
                }
                None => lines.extend_from_slice(&sealed.bytes),
            }
            lines.push(b'\n');
        }
        let prev = self.entries.first().map(|first| first.entry.prev).unwrap_or_default();
        let proof = Proof {
            hashes: self.entries.iter().map(|sealed| sealed.hash).collect(),
            head: self.entries.last().map_or(prev, |last| last.hash),
            ledger_id: self.ledger_id,
            from: self.entries.first().map_or(0, |first| first.entry.seq),
            prev,
            redacted,
        };
        let proof = Member { path: PROOF, bytes: canonical::of(&proof), redacted: 0 };
        (Member { path: ENTRIES, bytes: lines, redacted: count }, proof)
    }
}

/// An entry's masked bytes with how many places were masked; `None` where it may stay as it was
/// hashed.
fn masked(detector: &Detector, bytes: &[u8]) -> Option<(Vec<u8>, u64)> {
    // An entry that is no JSON is told by nothing but its place.
    let mut entry: Value = serde_json::from_slice(bytes).unwrap_or_default();
    if entry.is_null() {
        return Some((b"null".to_vec(), 1));
    }
    let places = redact::value(detector, &mut entry);
    (places > 0).then(|| (canonical::of(&entry), places))
}

/// Checks the lines against their proof, as `audit verify` checks a ledger.
pub(super) fn check(lines: &[u8], proof: &[u8]) -> Result<Chained, Broken> {
    let proof: Proof = serde_json::from_slice(proof)
        .map_err(|fault| Broken::Proof(format!("line {} column {}", fault.line(), fault.column())))?;
    let entries: Vec<&[u8]> = lines.split_inclusive(|byte| *byte == b'\n').collect();
    if entries.len() != proof.hashes.len() {
        return Err(Broken::Count { hashes: proof.hashes.len(), lines: entries.len() });
    }
    let (mut head, mut seq) = (proof.prev, proof.from);
    for (line, hash) in entries.into_iter().zip(&proof.hashes) {
        let bytes = line.strip_suffix(b"\n").unwrap_or(line);
        let is_masked = proof.redacted.contains(&seq);
        follow(seq, head, bytes, *hash, is_masked).map_err(Broken::Chain)?;
        head = *hash;
        seq += 1;
    }
    if head != proof.head {
        return Err(Broken::Head);
    }
    Ok(Chained {
        ledger_id: proof.ledger_id,
        from: proof.from,
        entries: proof.hashes.len() as u64,
        head,
        redacted: proof.redacted,
    })
}

/// Checks that a line is the next entry of the chain.
fn follow(seq: u64, head: Digest, bytes: &[u8], hash: Digest, is_masked: bool) -> Result<(), ChainFault> {
    if !is_masked && Digest::of(bytes) != hash {
        return Err(ChainFault::Altered(seq));
    }
    let entry: Value = serde_json::from_slice(bytes)
        .map_err(|fault| ChainFault::Torn(seq, format!("column {}", fault.column())))?;
    if is_masked && entry.is_null() {
        return Ok(());
    }
    let found = entry.get("seq").and_then(Value::as_u64).unwrap_or_default();
    if found != seq {
        return Err(ChainFault::Gap { expected: seq, found });
    }
    let prev = entry.get("prev").and_then(Value::as_str).and_then(Digest::from_hex);
    if prev == Some(head) { Ok(()) } else { Err(ChainFault::Unchained(seq)) }
}
