//! Why a router did not start.
//!
//! Owns: the closed list of such faults, in words.
//! Never: says how to mend one; the command line does.
//! Holds: a fault of the broker is none of them: a router waits for its broker.

use std::path::PathBuf;

use thiserror::Error;

use crate::{
    contract::audit::Mode,
    ledger::{LedgerError, emergency::EmergencyError},
};

/// Why a router did not start.
#[derive(Debug, Error)]
pub enum BootError {
    /// The ledger could not be opened, read or begun.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The emergency log cannot be used, or is not this ledger's.
    #[error(transparent)]
    Emergency(#[from] EmergencyError),
    /// The system starts no thread for the emergency log.
    #[error("no thread can be started for the emergency log")]
    Thread(#[source] std::io::Error),
    /// The ledger belongs to another mode.
    #[error("the ledger at `{dir}` was begun in {begun} mode and cannot be run in {asked} mode")]
    Mode {
        /// The ledger's directory.
        dir: PathBuf,
        /// Its genesis' mode.
        begun: Mode,
        /// The mode asked for.
        asked: Mode,
    },
    /// The ledger belongs to another environment.
    #[error("the ledger at `{dir}` belongs to environment `{begun}`, not `{asked}`")]
    Environment {
        /// The ledger's directory.
        dir: PathBuf,
        /// Its genesis' environment.
        begun: String,
        /// The environment asked for.
        asked: String,
    },
}
