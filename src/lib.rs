//! Swarmgate: a control-plane event router that stands beside RabbitMQ.
//!
//! An envelope walks one corridor, one way:
//!
//! ```text
//! said (contract) → judged (decision) → written (ledger) → carried (bus)
//! ```
//!
//! A room names only rooms of lower rank: contract 0, decision 1, view 2, clock and telemetry 3,
//! channel, keys, ledger and bus 4 (which never name each other), config 5, support 6, runtime 7,
//! supervisor and worker 8, interface 9. The first three are pure: no task, clock, randomness,
//! file, socket or log.

#[cfg(feature = "server")]
pub mod bus;
#[cfg(feature = "server")]
pub mod channel;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
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
pub mod supervisor;
#[cfg(feature = "server")]
pub mod support;
#[cfg(feature = "server")]
pub mod telemetry;
pub mod view;
#[cfg(feature = "server")]
pub mod worker;
