//! The runtime: the router's own tasks.
//!
//! Owns: the tasks that move an envelope along the corridor (intake → judge → recorder → dispatch),
//! the connection to the broker, boot and shutdown.
//! Never: decides anything about an envelope; it hands `now` in and carries the effects out.
//! Holds: nothing leaves before its entry is durable, and nothing is acknowledged before that is
//! known.

mod acks;
mod answer;
pub mod ask;
pub mod asker;
pub mod boot;
mod boot_error;
pub mod broker;
pub mod certificates;
pub mod corridor;
mod depths;
pub mod dispatch;
mod emergency;
pub mod genesis;
mod host;
mod intake;
mod judge;
pub mod latch;
pub mod link;
mod mark;
mod mover;
mod opening;
mod pages;
pub mod presence;
mod recorder;
pub mod replay;
pub mod setup;
pub mod survey;
mod tally;
pub mod topology;
