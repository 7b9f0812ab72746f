//! The interface: windows to look in through, and the command line.
//!
//! Owns: what people and their tools see: HTTP for machines, subcommands for people.
//! Never: judges, or changes the router's state; who wants something puts an envelope on the bus.
//! Holds: every error is told once, with what to do next.

pub mod api;
pub mod cli;
pub mod http;
