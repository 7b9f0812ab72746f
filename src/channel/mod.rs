//! The secure channel: a supervisor and its workers, each frame signed, over TCP on this machine
//! only.
//!
//! Owns: the codec with its memory of nonces, the lanes of a connection, the listener, and their
//! bounds in size and time.
//! Never: names another driver, decides whether a message is due, fetches a key, or logs: it
//! counts, and hands on.
//! Holds: what it hands on was signed by the worker's key, in time, once; whoever cannot sign
//! learns only "rejected"; control overtakes data, data overtakes telemetry, and telemetry is
//! dropped with a count rather than waited for.

mod connection;
mod lanes;
mod listener;
mod plane;
mod settings;
mod wire;

use std::{io, sync::Arc};

use thiserror::Error;

pub use crate::contract::control::ControlFault;
use crate::contract::control::Lane;
pub use connection::{Connection, Dropped, Sender};
pub use lanes::Sent;
pub use listener::{KeyRing, Listener};
pub use plane::{ControlPlaneChannel, Now, wall};
pub use settings::ChannelSettings;

/// Why the channel could not do what was asked, or has ended.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// A frame, a message or a setting was refused on this side.
    #[error(transparent)]
    Refused(#[from] ControlFault),
    /// The other side refused a frame; it does not say why.
    #[error("the other side rejected a frame; its own counts name the category: compare keys and clocks")]
    Rejected,
    /// The other side closed the connection.
    #[error("the connection was closed by the other side")]
    Closed,
    /// This side closed the connection.
    #[error("the connection was closed on this side")]
    Finished,
    /// A queue of the sender is full: the other side does not keep up.
    #[error("the outgoing {lane} lane is full: the other side does not keep up; try again later")]
    Full {
        /// The lane.
        lane: Lane,
    },
    /// A queue of the receiver is full: this side does not keep up, and what came could not be
    /// kept.
    #[error(
        "the incoming {lane} lane is full: this side does not keep up; take messages faster, then connect again"
    )]
    Overrun {
        /// The lane.
        lane: Lane,
    },
    /// Something took longer than it may.
    #[error("{what} took longer than `{setting}`; the connection is ended")]
    Slow {
        /// What.
        what: &'static str,
        /// The bound.
        setting: &'static str,
    },
    /// The socket failed.
    #[error("cannot {what}: {source}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// The machine gave no randomness.
    #[error("the system gave no randomness: {0}; nothing can be signed without")]
    Randomness(getrandom::Error),
}

impl Error {
    fn socket(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Socket { what, source: Arc::new(source) }
    }
}
