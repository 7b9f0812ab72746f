//! What the tests need of the crate by name, in one place.
//!
//! Owns: how rules are set, how a genesis is made, and where the state says an instance is in its life.
//! Never: decides what is expected.
//! Holds: everything else goes over the wire.
