//! What a worker's process is told at its start.
//!
//! Owns: the names and forms of the variables that a supervisor sets and a worker reads.
//! Never: holds key material: it says where the first key is read, never the key. Reads no
//! environment itself.
//! Holds: what `variables` says, `read` reads.

use core::net::SocketAddr;

use thiserror::Error;

use super::NAME_BYTES_MAX;
use crate::contract::routing::Scope;

/// Where the supervisor listens.
pub const ADDRESS: &str = "SWARMGATE_ADDRESS";
/// The worker's id on the channel, its instance on the bus.
pub const WORKER_ID: &str = "SWARMGATE_WORKER_ID";
/// The worker's role.
pub const ROLE: &str = "SWARMGATE_ROLE";
/// The worker's swarm.
pub const SWARM_ID: &str = "SWARMGATE_SWARM_ID";
/// The descriptor from which the first key is read, to its end.
pub const KEY_FD: &str = "SWARMGATE_KEY_FD";
/// How often a heartbeat is due.
pub const HEARTBEAT_MS: &str = "SWARMGATE_HEARTBEAT_MS";
/// How far a frame's time may be from the reader's clock.
pub const TTL_SECONDS: &str = "SWARMGATE_TTL_SECONDS";
/// The longest body of a frame.
pub const PAYLOAD_BYTES_MAX: &str = "SWARMGATE_PAYLOAD_BYTES_MAX";

/// The start of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Where the supervisor listens.
    pub address: SocketAddr,
    /// Who the worker is.
    pub scope: Scope,
    /// The descriptor of the first key.
    pub key_fd: u32,
    /// How often a heartbeat is due.
    pub heartbeat_ms: u64,
    /// How far a frame's time may be from the reader's clock.
    pub ttl_seconds: u64,
    /// The longest body of a frame.
    pub payload_bytes_max: usize,
}

/// Why a process is no worker of a supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LaunchFault {
    /// A variable is missing.
    #[error("`{name}` is not set; start this program by `swarmgate supervise`, which sets it")]
    Missing {
        /// Which.
        name: &'static str,
    },
    /// A variable cannot be read.
    #[error(
        "`{name}` is not {wanted}; it is the supervisor's to set, so set nothing that begins with `SWARMGATE_`"
    )]
    Unreadable {
        /// Which.
        name: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

impl Launch {
    /// The variables.
    pub fn variables(&self) -> [(&'static str, String); 8] {
        [
            (ADDRESS, self.address.to_string()),
            (WORKER_ID, self.scope.instance.clone()),
            (ROLE, self.scope.role.clone()),
            (SWARM_ID, self.scope.swarm_id.clone()),
            (KEY_FD, self.key_fd.to_string()),
            (HEARTBEAT_MS, self.heartbeat_ms.to_string()),
            (TTL_SECONDS, self.ttl_seconds.to_string()),
            (PAYLOAD_BYTES_MAX, self.payload_bytes_max.to_string()),
        ]
    }

    /// Reads the variables; `find` gives the value of a name.
    ///
    /// # Errors
    /// For the first that is missing or cannot be read.
    pub fn read(find: impl Fn(&str) -> Option<String>) -> Result<Self, LaunchFault> {
        let text = |name| find(name).ok_or(LaunchFault::Missing { name });
        let word = |name| {
            let text = text(name)?;
            let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX;
            if fits { Ok(text) } else { Err(LaunchFault::Unreadable { name, wanted: "a name" }) }
        };
        let number = |name| {
            let read = text(name)?.parse::<u64>();
            read.map_err(|_| LaunchFault::Unreadable { name, wanted: "a whole number" })
        };
        let small = |name| {
            let read = usize::try_from(number(name)?);
            read.map_err(|_| LaunchFault::Unreadable { name, wanted: "a number of bytes" })
        };
        let address = text(ADDRESS)?.parse();
        let key_fd = u32::try_from(number(KEY_FD)?);
        Ok(Self {
            address: address
                .map_err(|_| LaunchFault::Unreadable { name: ADDRESS, wanted: "an address with a port" })?,
            scope: Scope::new(word(SWARM_ID)?, word(ROLE)?, word(WORKER_ID)?),
            key_fd: key_fd.map_err(|_| LaunchFault::Unreadable { name: KEY_FD, wanted: "a descriptor" })?,
            heartbeat_ms: number(HEARTBEAT_MS)?.max(1),
            ttl_seconds: number(TTL_SECONDS)?,
            payload_bytes_max: small(PAYLOAD_BYTES_MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read() {
        let launch = Launch {
            address: "127.0.0.1:7".parse().unwrap(),
            scope: Scope::new("kestrel", "gen", "g-1"),
            key_fd: 0,
            heartbeat_ms: 1_000,
            ttl_seconds: 30,
            payload_bytes_max: 1024,
        };
        let said = launch.variables();
        let read = |without: &str, instead: Option<&str>| {
            Launch::read(|name| {
                let said = said.iter().find(|(said, _)| *said == name).map(|(_, value)| value.clone());
                if name == without { instead.map(str::to_owned) } else { said }
            })
        };
        assert_eq!(read("", None), Ok(launch.clone()));
        for (name, _) in &said {
            assert_eq!(read(name, None), Err(LaunchFault::Missing { name }));
            assert!(matches!(read(name, Some("")), Err(LaunchFault::Unreadable { .. })), "{name}");
        }
        assert!(read(KEY_FD, Some("-1")).is_err() && read(ADDRESS, Some("localhost")).is_err());
    }
}
