//! Swarmgate: a control-plane event router that stands beside RabbitMQ.
//!
//! An envelope walks one corridor, one way:
//!
//! ```text
//! said (contract) → judged (decision) → written (ledger) → carried (bus)
//! ```
//!
//! A room names only rooms of lower rank: contract 0, decision 1, telemetry 3, channel, keys, ledger and bus 4 (which
//! never name each other), runtime 5, interface 6. The first two are pure: no task, clock, randomness, file, socket or log.

#[cfg(feature = "server")]
pub mod bus;
#[cfg(feature = "server")]
pub mod channel;
pub mod contract;
pub mod decision;
#[cfg(feature = "server")]
pub mod interface;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
pub mod ledger;
#[cfg(feature = "server")]
pub mod runtime;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod worker;
