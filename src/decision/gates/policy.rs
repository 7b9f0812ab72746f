//! Gate 5: who may do what is dangerous (least privilege).
//!
//! Owns: the check against `consent.actors`.
//! Never: knows grants by role; the policy engine will, and takes this gate over.
//! Holds: a name that is not on a list that exists may not ask for, confirm or reject anything
//! dangerous.
//! The rule: spec/rules.md#who-may-do-what-is-dangerous.

use crate::{
    contract::{
        Said,
        audit::Actor,
        command::Class,
        reason::{Reason, Refusal},
        routing::Family,
    },
    decision::{gates::consent, state::State},
};

/// Whether a sender may do that.
pub(in crate::decision) fn check(
    state: &State,
    said: &Said,
    class: Option<Class>,
    actor: &Actor,
) -> Result<(), Refusal> {
    let actors = &state.rules().consent.actors;
    if actors.is_empty() || said.key.family != Family::Signal || actors.contains(&actor.principal) {
        return Ok(());
    }
    // `danger` is about commands only: whoever may not ask for what is dangerous may not confirm
    // it.
    if class != Some(Class::Consent) && consent::danger(state, said, class).is_none() {
        return Ok(());
    }
    let detail = "this is a dangerous operation, and `consent.actors` does not name you";
    Err(Refusal::new(Reason::PolicyDenied, detail))
}
