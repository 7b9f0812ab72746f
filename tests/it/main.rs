//! The one integration binary: a module a boundary.

mod contract;
mod decisions;
mod readers;
