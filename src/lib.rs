//! Swarmgate: a control-plane event router that stands beside RabbitMQ.

#[cfg(feature = "server")]
pub mod bus;
pub mod contract;
pub mod decision;
#[cfg(feature = "server")]
pub mod runtime;
#[cfg(feature = "server")]
pub mod telemetry;
