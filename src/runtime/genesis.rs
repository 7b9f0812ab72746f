//! The first entry of a ledger.
//!
//! Owns: what a genesis says, and beginning a ledger by hand, before a router runs on it.
//! Never: touches a ledger that has begun, or decides whether NORMAL was confirmed.
//! Holds: a ledger that was begun here opens as one that a router began: chained, durable, with one
//! entry.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::clock;
use crate::{
    contract::{
        audit::{Action, Change, Fact, Genesis, Mode},
        interlock::SafetyMode,
    },
    ledger::{Batch, Ledger, LedgerError},
};

/// Why no ledger was begun.
#[derive(Debug, Error)]
pub enum BeginError {
    /// The directory could not be made or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is one.
    #[error("the ledger at `{dir}` has begun already, with {entries} entries; name another directory")]
    Begun {
        /// The ledger's directory.
        dir: PathBuf,
        /// How many entries it has.
        entries: u64,
    },
}

/// What a genesis says, under a new id.
///
/// # Errors
/// When the system gives no random bits.
pub fn genesis(environment: &str, mode: Mode, initial_mode: SafetyMode) -> Result<Genesis, LedgerError> {
    Ok(Genesis {
        environment: environment.to_owned(),
        initial_mode,
        ledger_id: random_id()?,
        mode,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Begins a ledger where there is none.
///
/// # Errors
/// When there is one, another process has it, or the directory cannot be written.
pub async fn begin(dir: &Path, size_max_bytes: Option<u64>, genesis: Genesis) -> Result<(), BeginError> {
    let mut ledger = Ledger::open(dir, size_max_bytes).await?;
    let mut recovered = ledger.replay(|_| {}).await?;
    if recovered.entries > 0 {
        ledger.close().await;
        return Err(BeginError::Begun { dir: dir.to_owned(), entries: recovered.entries });
    }
    let fact = Fact::new(Action::Genesis, clock::wall(), Change::Genesis(genesis));
    let entries = vec![recovered.chain.seal(fact, Vec::new())];
    ledger.append(Batch { entries, ..Batch::default() }).await?;
    ledger.close().await;
    Ok(())
}

/// 64 random bits in hex, for one opening of a ledger.
///
/// # Errors
/// When the system gives no random bits.
pub(super) fn incarnation() -> Result<String, LedgerError> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).map_err(|fault| LedgerError::Random(fault.to_string()))?;
    Ok(format!("{:016x}", u64::from_be_bytes(bits)))
}

/// 128 random bits in hex.
fn random_id() -> Result<String, LedgerError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|fault| LedgerError::Random(fault.to_string()))?;
    Ok(uuid::Uuid::from_bytes(bits).simple().to_string())
}
