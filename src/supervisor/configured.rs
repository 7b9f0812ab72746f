//! From a config to what a supervisor is started with.
//!
//! Owns: how `runtime.platform` becomes the channel's bounds and the source of its keys.
//! Never: starts or connects anything; reads a static secret once, where the config says it is.
//! Holds: nothing is supervised unless the config says `process_supervisor`; a static secret has no
//! default.

use thiserror::Error;

use super::KeySource;
use crate::{
    channel,
    config::{
        Config,
        bootstrap::{Auth, BootstrapMode, Kdf as ConfiguredKdf, SecretMode},
    },
    contract::control::Kdf,
    keys::{KeyError, SecretRef},
};

/// Why a config supervises nothing.
#[derive(Debug, Error)]
pub enum ConfiguredError {
    /// The mode is another.
    #[error(
        "`runtime.platform.bootstrap.mode` is not `process_supervisor`; set it, with `execution_ipc.transport: tcp_local`"
    )]
    Mode,
    /// There is no static secret.
    #[error(
        "`runtime.platform.execution_ipc.auth.secret_ref` is not set; name `env:NAME` or `file:PATH`, or set `secret_mode` to `generated`"
    )]
    NoSecret,
    /// The static secret cannot be had.
    #[error("the static secret cannot be had")]
    Keys(#[from] KeyError),
}

/// The channel's bounds.
///
/// # Errors
/// [`ConfiguredError::Mode`].
pub fn channel(config: &Config) -> Result<channel::ChannelSettings, ConfiguredError> {
    let platform = &config.runtime.platform;
    if platform.bootstrap.mode != BootstrapMode::ProcessSupervisor {
        return Err(ConfiguredError::Mode);
    }
    let ipc = &platform.execution_ipc;
    Ok(channel::ChannelSettings {
        bind_host: ipc.bind_host.to_string(),
        bind_port: ipc.bind_port,
        ttl_seconds: ipc.auth.ttl_seconds,
        nonce_cache_size: ipc.auth.nonce_cache_size,
        max_payload_bytes: ipc.max_payload_bytes,
        ..channel::ChannelSettings::default()
    })
}

/// Where keys come from.
///
/// # Errors
/// When a static secret is not named or cannot be had.
pub fn keys(config: &Config) -> Result<KeySource, ConfiguredError> {
    let Auth { secret_mode, kdf, secret_ref, .. } = &config.runtime.platform.execution_ipc.auth;
    let kdf = match kdf {
        ConfiguredKdf::None => Kdf::None,
        ConfiguredKdf::HkdfSha256 => Kdf::HkdfSha256,
    };
    match secret_mode {
        SecretMode::Generated => Ok(KeySource::Generated(kdf)),
        SecretMode::Static => {
            let reference: SecretRef = secret_ref.as_deref().ok_or(ConfiguredError::NoSecret)?.parse()?;
            Ok(KeySource::Static(reference.resolve()?, kdf))
        }
    }
}
