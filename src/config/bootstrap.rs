//! The bootstrap contract: how workers come to run, and the local channel that they are spoken to
//! by.
//!
//! Owns: the section `runtime`, its conditional default, and the summary by which a deployment's
//! phase is told.
//! Never: resolves a secret, derives a key or starts a process; those who run read the settings and
//! do.
//! Holds: `kdf` is always set: what the file leaves out follows from `secret_mode`.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{
    Config,
    section::{
        Field,
        KeyKind::{Choice, Loopback, SecretRef, Whole},
        MIB, Section, section,
    },
};
use crate::channel;
pub use crate::contract::control::{Kdf, SecretMode};

section! {
    /// The section `runtime`. It is shared with what else runs there, so a strange key in it is no
    /// fault.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default)]
    pub struct Runtime at "runtime." {
        ..platform: Platform, "What the processes stand on.";
    }
}

section! {
    /// What the processes stand on; strange keys are no fault here either.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default)]
    pub struct Platform at "runtime.platform." {
        ..bootstrap: Bootstrap, "How workers come to run.";
        ..execution_ipc: ExecutionIpc, "The channel between the supervisor and its workers.";
    }
}

section! {
    /// How workers come to run.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Bootstrap at "runtime.platform.bootstrap." {
        mode: BootstrapMode = BootstrapMode::Inline, Choice(&["inline", "process_supervisor"]),
            "Who runs the workers: `inline`, somebody else; `process_supervisor`, `swarmgate supervise`.";
    }
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

section! {
    /// The channel between the supervisor and its workers.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct ExecutionIpc at "runtime.platform.execution_ipc." {
        transport: Transport = Transport::Memory, Choice(&["memory", "tcp_local"]),
            "The channel to the workers: `memory`, there is none; `tcp_local`, signed frames on this machine.";
        bind_host: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST), Loopback,
            "Where the channel listens: a loopback address, 127.0.0.1 or ::1.";
        bind_port: u16 = 0, Whole(0, 65_535),
            "The port that it listens at; 0 is any that is free.";
        max_payload_bytes: usize = channel::ChannelSettings::default().max_payload_bytes, Whole(1024, 16 * MIB),
            "Bytes of one frame's payload; more is refused before it is read.";
        ..auth: Auth, "How frames are proven.";
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

section! {
    /// `auth` as it is written, before what it leaves out is filled in.
    #[derive(Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct WrittenAuth at "runtime.platform.execution_ipc.auth." {
        mode: AuthMode = AuthMode::Hmac, Choice(&["hmac"]),
            "How frames are proven.";
        secret_mode: SecretMode = SecretMode::Static, Choice(&["static", "generated"]),
            "Where the master secret comes from: `static`, from `secret_ref`; `generated`, made at each start.";
        kdf: Option<Kdf> = None, Choice(&["none", "hkdf_sha256"]),
            "How the signing key comes from it. Left out: `none` for `static`, `hkdf_sha256` for `generated`.";
        ttl_seconds: u64 = channel::ChannelSettings::default().ttl_seconds, Whole(1, 3_600),
            "How far a frame's time may be from ours, either way.";
        nonce_cache_size: usize = channel::ChannelSettings::default().nonce_cache_size, Whole(1, 10_000_000),
            "How many unexpired nonces are remembered; beyond, frames are refused and none is forgotten.";
        secret_ref: Option<String> = None, SecretRef,
            "Where a static secret is, like `env:NAME` or `file:PATH`; no default, and asked for at the start only.";
    }
}

impl Section for Auth {
    fn fields() -> Vec<Field> {
        WrittenAuth::fields()
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
