//! One part of the state that grows.
//!
//! Owns: its name, its size and its bound.
//! Never: enforces the bound.
//! Holds: every collection of the state is listed as one.

use crate::contract::bound::Bound;

/// One part of the state that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Its name, behind that of the record that has it, as in `flights.by_seq`.
    pub name: &'static str,
    /// What bounds it.
    pub bound: Bound,
    /// How many it holds; bytes where its name says so.
    pub len: usize,
    /// How many it holds at most, where no more stood in the ledger before the bound was set.
    pub max: usize,
}
