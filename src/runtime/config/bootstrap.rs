//! The bootstrap contract: how workers come to run, and the local channel that they are spoken to by.
//!
//! Owns: the section `runtime`, its conditional default, and the summary by which a deployment's phase is told.
//! Never: resolves a secret, derives a key or starts a process; those who run read the settings and do.
//! Holds: `kdf` is always set: what the file leaves out follows from `secret_mode`.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::Config;
pub use crate::contract::control::{Kdf, SecretMode};

/// The section `runtime`. It is shared with what else runs there, so a strange key in it is no fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// What the processes stand on.
    pub platform: Platform,
}

/// What the processes stand on; strange keys are no fault here either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// How workers come to run.
    pub bootstrap: Bootstrap,
    /// The channel between the supervisor and its workers.
    pub execution_ipc: ExecutionIpc,
}

/// How workers come to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// The mode.
    pub mode: BootstrapMode,
}

/// How workers come to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapMode {
    /// Somebody else runs them.
    #[default]
    Inline,
    /// `swarmgate supervise` runs them as processes of its own.
    ProcessSupervisor,
}

/// The channel between the supervisor and its workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutionIpc {
    /// What it runs over.
    pub transport: Transport,
    /// The address it listens at; loopback only.
    pub bind_host: IpAddr,
    /// Its port; 0 is any that is free.
    pub bind_port: u16,
    /// Bytes of one frame's payload.
    pub max_payload_bytes: usize,
    /// How frames are proven.
    pub auth: Auth,
}

impl Default for ExecutionIpc {
    fn default() -> Self {
        Self {
            transport: Transport::Memory,
            bind_host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            bind_port: 0,
            max_payload_bytes: 1024 * 1024,
            auth: Auth::default(),
        }
    }
}

/// What the channel runs over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// There is no other process, so there is nothing to open.
    #[default]
    Memory,
    /// Signed frames over TCP on this machine.
    TcpLocal,
}

/// How frames are proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenAuth")]
pub struct Auth {
    /// The mode.
    pub mode: AuthMode,
    /// Where the master secret comes from.
    pub secret_mode: SecretMode,
    /// How the signing key comes from the master secret.
    pub kdf: Kdf,
    /// How far a frame's time may be from ours, in seconds.
    pub ttl_seconds: u64,
    /// How many nonces are remembered.
    pub nonce_cache_size: usize,
    /// Where a static secret is: `env:NAME` or `file:PATH`. Asked for at the start, not before.
    pub secret_ref: Option<String>,
}

impl Default for Auth {
    fn default() -> Self {
        WrittenAuth::default().into()
    }
}

/// `auth` as it is written, before what it leaves out is filled in.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenAuth {
    mode: AuthMode,
    secret_mode: SecretMode,
    kdf: Option<Kdf>,
    ttl_seconds: u64,
    nonce_cache_size: usize,
    secret_ref: Option<String>,
}

impl Default for WrittenAuth {
    fn default() -> Self {
        Self {
            mode: AuthMode::Hmac,
            secret_mode: SecretMode::Static,
            kdf: None,
            ttl_seconds: 30,
            nonce_cache_size: 100_000,
            secret_ref: None,
        }
    }
}

impl From<WrittenAuth> for Auth {
    fn from(written: WrittenAuth) -> Self {
        let WrittenAuth { mode, secret_mode, kdf, ttl_seconds, nonce_cache_size, secret_ref } = written;
        let kdf = kdf.unwrap_or(Kdf::default_for(secret_mode));
        Self { mode, secret_mode, kdf, ttl_seconds, nonce_cache_size, secret_ref }
    }
}

/// How frames are proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// By HMAC-SHA-256 over the frame.
    #[default]
    Hmac,
}

/// What a deployment's phase is told by: diagnostics, gates of a release, tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeContractSummary {
    /// How workers come to run.
    pub bootstrap_mode: BootstrapMode,
    /// The channel's secrets.
    pub execution_ipc: ExecutionIpcSummary,
}

/// The channel's part of the summary; `None` where there is no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExecutionIpcSummary {
    /// Where the master secret comes from.
    pub secret_mode: Option<SecretMode>,
    /// How the signing key comes from it.
    pub kdf: Option<Kdf>,
}

/// The summary of a config, its defaults filled in.
pub fn runtime_contract_summary(config: &Config) -> RuntimeContractSummary {
    let Platform { bootstrap, execution_ipc } = &config.runtime.platform;
    let auth = (execution_ipc.transport == Transport::TcpLocal).then_some(&execution_ipc.auth);
    RuntimeContractSummary {
        bootstrap_mode: bootstrap.mode,
        execution_ipc: ExecutionIpcSummary {
            secret_mode: auth.map(|auth| auth.secret_mode),
            kdf: auth.map(|auth| auth.kdf),
        },
    }
}
