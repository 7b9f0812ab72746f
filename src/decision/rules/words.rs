//! Types and statuses that the router knows by name.
//!
//! Owns: the words of the contract that decisions and the state look for.
//! Never: holds a word that only one file reads.
//! Holds: each is written once.

/// The member of `support-bundle` that names a bundle which is there already: it is recorded, and
/// none is made.
pub(in crate::decision) const MADE: &str = "made";

/// How a command ends that a status answers.
pub use crate::contract::command::REPORTED;

/// The type that a status answers.
pub(in crate::decision) const STATUS_REQUEST: &str = "status-request";

/// How a command ends that nobody answered by its deadline.
pub(in crate::decision) const TIMED_OUT: &str = "TimedOut";

/// The type whose success changes an instance's config.
pub(in crate::decision) const CONFIG_UPDATE: &str = "config-update";

/// The type that says who is expected in a swarm.
pub(in crate::decision) const SWARM_TEMPLATE: &str = "swarm-template";

/// The type whose success takes a swarm out of the inventory.
pub(in crate::decision) const SWARM_REMOVE: &str = "swarm-remove";

/// The status of that success.
pub(in crate::decision) const REMOVED: &str = "Removed";

/// The success of a session message: it was taken.
pub(in crate::decision) const ACK: &str = "Ack";

/// The success that changes an instance's config.
pub(in crate::decision) const APPLIED: &str = "Applied";
