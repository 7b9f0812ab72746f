//! The one integration binary: a module a boundary.

mod api;
mod broker;
mod bundle;
mod bus;
mod cli;
mod config;
mod contract;
mod decisions;
mod integrating;
mod interlock_cli;
mod inventory;
mod inventory_graph;
mod json_suite;
mod ledger;
mod ledger_failure;
mod parking;
mod permissions;
mod poison;
mod properties;
mod readers;
mod reason_pages;
mod router;
mod supervisor;
mod supervisor_bus;
mod tools;
