//! Gate 10: what cannot be written is not done.
//!
//! Owns: the question whether the ledger can be written.
//! Never: holds up a stop or a tightening.
//! Holds: it is asked before a challenge is issued: nobody is asked to confirm what could not be
//! written.

use crate::{
    contract::{
        command::Class,
        reason::{Reason, Refusal},
    },
    decision::state::State,
};

pub(in crate::decision) fn check(state: &State, class: Option<Class>) -> Result<(), Refusal> {
    // By what it does now: a `safety-set` that goes down is a loosening, and does not pass.
    if state.ledger_writable() || class.is_some_and(Class::always_passes) {
        return Ok(());
    }
    Err(Refusal::new(Reason::AuditUnavailable, "the ledger cannot be written"))
}
