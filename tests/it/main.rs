//! The one integration binary: a module a boundary.

mod broker;
mod bus;
mod cli;
mod contract;
mod decisions;
mod permissions;
mod poison;
mod readers;
mod reason_pages;
mod router;
