//! The bounds of a channel.
//!
//! Owns: the settings, their defaults, and the bind policy.
//! Never: reads a config or opens a socket; whoever does hands them in.
//! Holds: settings that passed `check` name a loopback address and have no bound of zero.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::contract::control::{ControlFault, frame};

/// Where a channel listens, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSettings {
    /// A loopback address, or `localhost`.
    pub bind_host: String,
    /// A port; 0 lets the system choose.
    pub bind_port: u16,
    /// How far a frame's time may be from this clock, in either direction.
    pub ttl_seconds: u64,
    /// How many nonces are remembered for a worker.
    pub nonce_cache_size: usize,
    /// The longest body of a frame.
    pub max_payload_bytes: usize,
    /// From the connection to the first frame that verifies.
    pub handshake_timeout_ms: u64,
    /// From a frame's first byte to its last.
    pub frame_timeout_ms: u64,
    /// From one frame to the next; heartbeats and their answers keep a connection alive.
    pub idle_timeout_ms: u64,
    /// How long the other side may take to take a frame.
    pub write_timeout_ms: u64,
    /// Connections that have verified.
    pub connections_max: usize,
    /// Connections that have not; one more ends the oldest of them.
    pub handshakes_max: usize,
    /// Control messages that wait, each way.
    pub control_len_max: usize,
    /// Data messages that wait, each way.
    pub data_len_max: usize,
    /// Telemetry messages that wait, each way; one more is dropped and counted.
    pub telemetry_len_max: usize,
    /// What waits in one lane, in bytes.
    pub lane_bytes_max: usize,
    /// What the system may hold of a connection, each way: it is in no lane, so it should be
    /// little.
    pub socket_buffer_bytes: u32,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            bind_host: Ipv4Addr::LOCALHOST.to_string(),
            bind_port: 0,
            ttl_seconds: 30,
            nonce_cache_size: 100_000,
            max_payload_bytes: frame::BODY_BYTES_MAX,
            handshake_timeout_ms: 5_000,
            frame_timeout_ms: 5_000,
            idle_timeout_ms: 60_000,
            write_timeout_ms: 5_000,
            connections_max: 256,
            handshakes_max: 64,
            control_len_max: 1_024,
            data_len_max: 1_024,
            telemetry_len_max: 1_024,
            lane_bytes_max: 16 * 1024 * 1024,
            socket_buffer_bytes: 64 * 1024,
        }
    }
}

impl ChannelSettings {
    /// Where to listen.
    ///
    /// # Errors
    /// [`ControlFault::BindPolicy`] naming the first setting that would weaken the channel.
    pub fn check(&self) -> Result<SocketAddr, ControlFault> {
        let address = loopback(&self.bind_host)?;
        let bounds = [
            ("ttl_seconds", self.ttl_seconds),
            ("nonce_cache_size", self.nonce_cache_size as u64),
            ("max_payload_bytes", self.max_payload_bytes as u64),
            ("handshake_timeout_ms", self.handshake_timeout_ms),
            ("frame_timeout_ms", self.frame_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            ("connections_max", self.connections_max as u64),
            ("handshakes_max", self.handshakes_max as u64),
            ("control_len_max", self.control_len_max as u64),
            ("data_len_max", self.data_len_max as u64),
            ("telemetry_len_max", self.telemetry_len_max as u64),
            ("lane_bytes_max", self.lane_bytes_max as u64),
            ("socket_buffer_bytes", u64::from(self.socket_buffer_bytes)),
        ];
        match bounds.into_iter().find(|(_, bound)| *bound == 0) {
            Some((field, _)) => Err(ControlFault::BindPolicy { field, fault: "is not positive" }),
            None => Ok(SocketAddr::new(address, self.bind_port)),
        }
    }
}

/// The address of a host that is this machine and nothing else; no name is looked up.
pub(super) fn loopback(host: &str) -> Result<IpAddr, ControlFault> {
    let fault = ControlFault::BindPolicy {
        field: "bind_host",
        fault: "is not a loopback address; say `127.0.0.1`, `::1` or `localhost`",
    };
    if host == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let address: IpAddr = host.parse().map_err(|_| fault)?;
    if address.is_loopback() { Ok(address) } else { Err(fault) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_bound() {
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:7"),
            ("127.9.9.9", "127.9.9.9:7"),
            ("::1", "[::1]:7"),
            ("localhost", "127.0.0.1:7"),
        ] {
            let settings =
                ChannelSettings { bind_host: host.into(), bind_port: 7, ..ChannelSettings::default() };
            assert_eq!(settings.check(), Ok(address.parse().unwrap()), "{host}");
        }
        for host in [
            "0.0.0.0",
            "::",
            "10.0.0.1",
            "::ffff:127.0.0.1",
            "example.org",
            "LOCALHOST",
            "127.1",
            "",
            "*",
            " ::1",
        ] {
            let fault =
                ChannelSettings { bind_host: host.into(), ..ChannelSettings::default() }.check().unwrap_err();
            assert!(matches!(fault, ControlFault::BindPolicy { field: "bind_host", .. }), "{host}");
            assert_eq!(fault.word(), "bind-policy");
        }
    }

    #[test]
    fn no_bound_is_zero() {
        type Spoil = fn(&mut ChannelSettings);
        let zeros: [(&str, Spoil); 14] = [
            ("ttl_seconds", |settings| settings.ttl_seconds = 0),
            ("nonce_cache_size", |settings| settings.nonce_cache_size = 0),
            ("max_payload_bytes", |settings| settings.max_payload_bytes = 0),
            ("handshake_timeout_ms", |settings| settings.handshake_timeout_ms = 0),
            ("frame_timeout_ms", |settings| settings.frame_timeout_ms = 0),
            ("idle_timeout_ms", |settings| settings.idle_timeout_ms = 0),
            ("write_timeout_ms", |settings| settings.write_timeout_ms = 0),
            ("connections_max", |settings| settings.connections_max = 0),
            ("handshakes_max", |settings| settings.handshakes_max = 0),
            ("control_len_max", |settings| settings.control_len_max = 0),
            ("data_len_max", |settings| settings.data_len_max = 0),
            ("telemetry_len_max", |settings| settings.telemetry_len_max = 0),
            ("lane_bytes_max", |settings| settings.lane_bytes_max = 0),
            ("socket_buffer_bytes", |settings| settings.socket_buffer_bytes = 0),
        ];
        for (named, zero) in zeros {
            let mut settings = ChannelSettings::default();
            assert!(settings.check().is_ok());
            zero(&mut settings);
            let fault = settings.check().unwrap_err();
            assert!(matches!(fault, ControlFault::BindPolicy { field, .. } if field == named), "{fault}");
        }
    }
}
