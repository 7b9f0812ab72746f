//! The runtime: every task, and the clock.
//!
//! Owns: the tasks that move an envelope along the corridor (intake → router → recorder → dispatch), the
//! connection to the broker, boot and shutdown.
//! Never: decides anything about an envelope; it hands `now` in and carries the effects out.
//! Holds: nothing leaves before its entry is durable, and nothing is acknowledged before that is known.

mod acks;
mod answer;
pub mod ask;
pub mod asker;
pub mod boot;
pub mod broker;
pub mod bundle;
pub mod clock;
pub mod config;
pub mod corridor;
pub mod dispatch;
mod emergency;
pub mod genesis;
mod host;
mod intake;
pub mod latch;
pub mod link;
mod mark;
mod mover;
pub mod presence;
mod recorder;
pub mod replay;
mod router;
pub mod setup;
pub mod supervisor;
mod tally;
pub mod topology;
