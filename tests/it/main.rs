//! The one integration binary: a module a boundary.

mod contract;
mod decisions;
mod readers;
mod reason_pages;
