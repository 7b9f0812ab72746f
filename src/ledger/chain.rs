//! The chain: each entry's hash covers its canonical bytes, and these name the hash before.
//!
//! Owns: sealing facts into entries and checking entries that were read.
//! Never: touches a file or a clock.
//! Holds: two chains with the same head hold the same entries.
//! The rule: spec/rules.md#chain.

use thiserror::Error;

use crate::contract::{
    audit::{Entry, Fact, Written},
    digest::Digest,
};

/// Room for an entry of the common size, but for its payload.
const ENTRY_BYTES: usize = 1024;

/// The end of a chain, to seal at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    next_seq: u64,
    head: Digest,
}

/// An entry with its canonical bytes and their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The entry.
    pub entry: Entry,
    /// RFC 8785 of the entry.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`.
    pub hash: Digest,
}

/// What is wrong with an entry that was read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainFault {
    /// An entry is missing, or the order is not the one sealed.
    #[error("entry {expected} is missing: entry {found} stands in its place")]
    Gap {
        /// What should stand here.
        expected: u64,
        /// What does.
        found: u64,
    },
    /// The bytes do not have the hash that is stored with them.
    #[error("entry {0} was altered: its bytes do not have its hash")]
    Altered(u64),
    /// The bytes are no entry.
    #[error("entry {0} is torn: {1}")]
    Torn(u64, String),
    /// The entry does not name the entry before it.
    #[error("entry {0} does not follow the entry before it: one was replaced, inserted or reordered")]
    Unchained(u64),
    /// The chain does not begin as chains do.
    #[error("entry {0} is not a genesis: the beginning was cut off or replaced")]
    Headless(u64),
    /// Every entry is what was written, and the database holds what writes or hides others.
    #[error("the database was changed by hand: {0}; remove it, or restore a copy")]
    Foreign(String),
    /// The bytes are an entry, and not of the form that entries have.
    #[error("entry {seq} is not of the form of an entry at `{pointer}`: {what}")]
    Form {
        /// The entry's number.
        seq: u64,
        /// JSON pointer into it.
        pointer: String,
        /// What is wrong there.
        what: String,
    },
    /// The file underneath is broken.
    #[error("entry {0} cannot be read: {1}")]
    Unreadable(u64, String),
}

impl ChainFault {
    /// The first entry that is wrong.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Foreign(_) => 0,
            Self::Gap { expected, .. } => *expected,
            Self::Altered(seq) | Self::Torn(seq, _) | Self::Unchained(seq) | Self::Headless(seq) => *seq,
            Self::Unreadable(seq, _) | Self::Form { seq, .. } => *seq,
        }
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// The chain before its first entry: place 1, and zeros for the hash before.
    pub const fn new() -> Self {
        Self { next_seq: 1, head: Digest([0; 32]) }
    }

    /// The chain whose last entry is that one.
    pub const fn after(last: &Sealed) -> Self {
        Self { next_seq: last.entry.seq + 1, head: last.hash }
    }

    /// The place of the next entry.
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The hash of the last entry.
    pub const fn head(&self) -> Digest {
        self.head
    }

    /// Seals a fact; `out` are the digests of the messages that leave because of it.
    pub fn seal(&mut self, fact: Fact, out: Vec<Digest>) -> Sealed {
        let entry = Entry { fact, out, prev: self.head, seq: self.next_seq };
        let payload = entry.fact.payload.as_ref().map_or(0, |payload| payload.text().len());
        let mut bytes = Vec::with_capacity(ENTRY_BYTES + payload);
        // An entry is plain data with text keys; it cannot fail to serialise.
        let _ = serde_json::to_writer(&mut bytes, &entry);
        let hash = Digest::of(&bytes);
        self.next_seq += 1;
        self.head = hash;
        Sealed { entry, bytes, hash }
    }

    /// Seals a fact that was read back from its bytes: around them the entry adds only what always
    /// reads back.
    pub fn seal_written(&mut self, written: Written, out: Vec<Digest>) -> Sealed {
        let (fact, of_fact) = written.into_parts();
        let mut bytes = Vec::with_capacity(of_fact.len() + 160 + 67 * out.len());
        // Put together by hand to spare writing the fact a second time. The members stand in
        // alphabetical order, as RFC 8785 wants them: the hash is over these bytes.
        bytes.extend_from_slice(b"{\"fact\":");
        bytes.extend_from_slice(&of_fact);
        bytes.extend_from_slice(b",\"out\":");
        // Digests are plain text; they cannot fail to serialise.
        let _ = serde_json::to_writer(&mut bytes, &out);
        bytes
            .extend_from_slice(format!(",\"prev\":\"{}\",\"seq\":{}}}", self.head, self.next_seq).as_bytes());
        let entry = Entry { fact, out, prev: self.head, seq: self.next_seq };
        debug_assert_eq!(serde_json::to_vec(&entry).ok().as_ref(), Some(&bytes));
        let hash = Digest::of(&bytes);
        self.next_seq += 1;
        self.head = hash;
        Sealed { entry, bytes, hash }
    }

    /// Checks that an entry that was read is the next one, and moves on to it.
    ///
    /// # Errors
    /// The fault that names the entry; the chain has not moved then.
    pub fn follow(&mut self, seq: u64, bytes: Vec<u8>, hash: Digest) -> Result<Sealed, ChainFault> {
        if seq != self.next_seq {
            return Err(ChainFault::Gap { expected: self.next_seq, found: seq });
        }
        if Digest::of(&bytes) != hash {
            return Err(ChainFault::Altered(seq));
        }
        let entry: Entry =
            serde_json::from_slice(&bytes).map_err(|fault| ChainFault::Torn(seq, fault.to_string()))?;
        // The number in the row is outside the hash; the one in the entry is not.
        if entry.prev != self.head || entry.seq != seq {
            return Err(ChainFault::Unchained(seq));
        }
        if seq == 1 && !matches!(entry.fact.change, crate::contract::audit::Change::Genesis(_)) {
            return Err(ChainFault::Headless(seq));
        }
        self.next_seq += 1;
        self.head = hash;
        Ok(Sealed { entry, bytes, hash })
    }
}
