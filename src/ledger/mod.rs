//! The ledger: hash-chained, durable before anything is carried.
//!
//! Owns: the chain (pure), the one file it is kept in, the outbox beside it, and reading and
//! verifying both.
//! Never: decides what is written, or changes or deletes an entry.
//! Holds: an entry's hash covers its canonical bytes and the hash before it; a batch and its outbox
//! become durable together or not at all.

mod append;
pub mod backup;
pub mod chain;
pub mod emergency;
pub mod files;
pub mod mark;
mod outbox;
pub mod query;
pub mod size;
mod sqlite;
pub mod verify;

use std::path::PathBuf;

use thiserror::Error;

pub use append::{Ledger, Recovered};
use chain::{ChainFault, Sealed};
pub use files::FILE;
pub use outbox::{Barred, Unconfirmed};

use crate::contract::{lane::Lane, message::Message};

/// A message that leaves because of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The entry; 0 for what has none.
    pub seq: u64,
    /// Which of the entry's messages, from 0.
    pub ordinal: u32,
    /// Whether the broker must return it when no queue takes it.
    pub mandatory: bool,
    /// The message.
    pub message: Message,
}

/// The messages of one lane's share of a batch, kept in the outbox until they are known carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The entry of its first message; no two parcels share an entry.
    pub id: u64,
    /// The lane.
    pub lane: Lane,
    /// The messages as `outbox::encode` wrote them.
    pub bytes: Vec<u8>,
}

impl Parcel {
    /// Packs the messages of a lane that have an entry, as (entry, ordinal, mandatory, message);
    /// `None` when there is none. Borrowing spares a copy of every message on its way out.
    pub fn pack<'a>(
        lane: Lane,
        messages: impl Iterator<Item = (u64, u32, bool, &'a Message)> + Clone,
    ) -> Option<Self> {
        let mut messages = messages.filter(|(seq, ..)| *seq > 0).peekable();
        let id = messages.peek().map(|(seq, ..)| *seq)?;
        Some(Self { id, lane, bytes: outbox::encode(messages) })
    }

    /// Packs one message that waits for its target, as the parcel of the entry that says so.
    pub fn keep(id: u64, lane: Lane, outgoing: &Outgoing) -> Self {
        let Outgoing { seq, ordinal, mandatory, message } = outgoing;
        Self { id, lane, bytes: outbox::encode([(*seq, *ordinal, *mandatory, message)].into_iter()) }
    }

    /// The messages, in order.
    ///
    /// # Errors
    /// `Outbox` when the bytes are no parcel.
    pub fn unpack(&self) -> Result<Vec<Outgoing>, LedgerError> {
        outbox::decode(&self.bytes).map_err(|what| self.damaged(what))
    }

    /// The error that names this parcel; `what` is wrong with it.
    pub fn damaged(&self, what: String) -> LedgerError {
        outbox::damaged(self.id, what)
    }
}

/// What becomes durable together.
#[derive(Debug, Default)]
pub struct Batch {
    /// New entries, in order.
    pub entries: Vec<Sealed>,
    /// New parcels.
    pub parcels: Vec<Parcel>,
    /// Parcels of which less is to be kept than before.
    pub replaced: Vec<Parcel>,
    /// Parcels that are carried and need no longer be kept.
    pub carried: Vec<u64>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        let Self { entries, parcels, replaced, carried } = self;
        entries.is_empty() && parcels.is_empty() && replaced.is_empty() && carried.is_empty()
    }
}

/// What goes wrong with a ledger.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// Another router has it.
    #[error("the ledger at `{dir}` is in use by another router (process {holder}); stop that one first")]
    Locked {
        /// The ledger's directory.
        dir: PathBuf,
        /// What the lock file says.
        holder: String,
    },
    /// There is no ledger at that place.
    #[error("there is no ledger at `{0}`; name the directory that `swarmgate run --ledger` was given")]
    Missing(PathBuf),
    /// Another program's database is in its place.
    #[error(
        "`{file}` is no ledger but another program's SQLite database ({found}); nothing in it was changed: name another directory for the ledger (`--ledger DIR`, or `ledger.dir` in the config), or move that file away"
    )]
    Foreign {
        /// Where it is.
        file: PathBuf,
        /// What it shows of itself.
        found: String,
    },
    /// A newer release wrote it.
    #[error("the ledger is of format {found}, this release reads {known}; use a newer release")]
    Newer {
        /// Its format.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// An entry is not what was written.
    #[error("the ledger is damaged: {0}; run `swarmgate audit verify` and restore it from a copy")]
    Damaged(#[from] ChainFault),
    /// A parcel of the outbox cannot be read.
    #[error("the outbox is damaged at parcel {id}: {what}")]
    Outbox {
        /// The parcel.
        id: i64,
        /// What is wrong.
        what: String,
    },
    /// The disk has no room, or `ledger.size_max_bytes` leaves none.
    #[error("the ledger is full: {0}; free disk space or raise `ledger.size_max_bytes`")]
    Full(String),
    /// Somebody reads it and does not let go.
    #[error(
        "the ledger's write-ahead log is {wal_bytes} bytes, because somebody reads the ledger and does not let go; end whoever has `{dir}/ledger.sqlite` open"
    )]
    Held {
        /// The ledger's directory.
        dir: PathBuf,
        /// How large the log is.
        wal_bytes: u64,
    },
    /// The file that is open is not the one that is there.
    #[error(
        "`{dir}/ledger.sqlite` or its write-ahead log was removed, replaced or cut while it was open: put it back as it was, or restore a copy, and start again"
    )]
    Gone {
        /// The ledger's directory.
        dir: PathBuf,
    },
    /// The file is there, and what it held is not.
    #[error(
        "`{dir}/ledger.sqlite` holds no entry, and it did: {trace}; put it back as it was, or restore a copy. To begin anew on purpose, move the whole directory away and keep it"
    )]
    Emptied {
        /// The ledger's directory.
        dir: PathBuf,
        /// What says so.
        trace: &'static str,
    },
    /// The database failed.
    #[error("the ledger's database failed: {0}")]
    Database(#[source] sqlx::Error),
    /// A file could not be made or opened.
    #[error("`{path}` cannot be used: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Work of the ledger's was given up by the runtime.
    #[error("the ledger's work was given up: {0}")]
    Task(String),
    /// The system gave no random bits.
    #[error("the system gave no random bits: {0}")]
    Random(String),
}

impl LedgerError {
    /// Whether room, a right, or whoever holds the file may mend it. What is damaged, another
    /// router's, of a newer release or not there at all stays so until a person comes.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Full(_) | Self::Held { .. } => true,
            Self::File { source, .. } => !files::is_irregular(source),
            Self::Database(fault) => !is_damage(fault),
            _ => false,
        }
    }
}

/// Whether the database says that its file is not what it wrote: SQLITE_CORRUPT or SQLITE_NOTADB.
fn is_damage(fault: &sqlx::Error) -> bool {
    let code = fault.as_database_error().and_then(|database| database.code()?.parse::<u32>().ok());
    matches!(code.map(|code| code & 0xff), Some(11 | 26))
}

impl From<sqlx::Error> for LedgerError {
    fn from(fault: sqlx::Error) -> Self {
        // SQLITE_FULL is the one that a person can mend by making room.
        match fault.as_database_error().and_then(|database| database.code()) {
            Some(code) if code == "13" => Self::Full(fault.to_string()),
            _ => Self::Database(fault),
        }
    }
}
