//! What the lives of all workers stand on, and what one worker is reached by.
//!
//! Owns: the settings, keys and barrier that lives share, what a worker may be ordered to do, and
//! where its orders and connections come in.
//! Never: starts or ends a process; `life` and `running` do.
//! Holds: a first key is found only while its process has not shown itself.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    barrier::Barrier,
    event::{Stage, Tell},
    process::Spawner,
};
use crate::{
    channel::Connection,
    config::workers::{SupervisorSettings, Wanted},
    contract::control::{BootstrapKeyBundle, ControlMessage, Kdf, MasterSecret, SecretMode, SigningKey},
    keys::{self, KeyError},
};

/// What all lives share.
pub(super) struct Floor {
    pub settings: SupervisorSettings,
    pub shim: PathBuf,
    pub spawner: Spawner,
    pub keys: KeySource,
    pub ring: Ring,
    pub barrier: Barrier,
    pub address: SocketAddr,
    pub ttl_seconds: u64,
    pub payload_bytes_max: usize,
    pub tell: Tell,
    pub stopping: CancellationToken,
    /// What the correlation ids of this supervisor begin with.
    pub run: String,
    /// Whether work begins by the router's yes only.
    pub asks_router: bool,
}

/// What a worker is asked to do.
#[derive(Debug)]
pub enum WorkerOrder {
    /// End, and do not come back.
    Stop,
    /// Hear this, if it has come far enough to.
    Hear(ControlMessage),
    /// Begin to work: the router lets this process, by its number.
    Begin(u64),
    /// Ask the router once more whether this process may begin.
    Ask(u64),
}

/// Where the keys of sessions come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// Anew for each process.
    Generated(Kdf),
    /// From one configured master, for all.
    Static(MasterSecret, Kdf),
}

impl KeySource {
    /// The keys of one process.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn bundle(&self, created_at_epoch: i64) -> Result<BootstrapKeyBundle, KeyError> {
        let (mode, kdf, master) = match self {
            KeySource::Generated(kdf) => (SecretMode::Generated, *kdf, keys::generate()?),
            KeySource::Static(master, kdf) => (SecretMode::Static, *kdf, master.clone()),
        };
        Ok(BootstrapKeyBundle::new(created_at_epoch, mode, kdf, master))
    }
}

/// The first keys of processes that have not shown themselves yet.
#[derive(Clone, Debug, Default)]
pub struct Ring(Arc<Mutex<BTreeMap<String, SigningKey>>>);

impl Ring {
    /// The key of a worker, where one is expected to knock.
    pub fn find(&self, worker: &str) -> Option<SigningKey> {
        self.lock().get(worker).cloned()
    }

    pub(super) fn put(&self, worker: &str, key: SigningKey) {
        self.lock().insert(worker.to_owned(), key);
    }

    /// Takes a key that has served.
    pub fn take(&self, worker: &str) {
        self.lock().remove(worker);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, SigningKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker, whichever of its processes runs.
pub(super) struct Worker {
    pub wanted: Wanted,
    pub floor: Arc<Floor>,
    pub orders: mpsc::Receiver<WorkerOrder>,
    pub knocks: mpsc::Receiver<Connection>,
    pub stage: watch::Sender<Stage>,
    /// How many processes it has had.
    pub processes: u64,
}
