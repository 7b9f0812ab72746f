//! Gate 3 in `open` mode: who speaks, and that nobody speaks for another.
//!
//! Owns: the principal of an envelope and the agreement of AMQP user-id, origin and scope.
//! Never: believes `origin` against the broker's user-id.
//! Holds: an outcome, alert, metric, `ready` or `heartbeat` comes from the instance that its scope
//! names; nobody
//! confirms, loosens, starts live, releases or destroys on the word of `origin` alone.
//! The rules: spec/rules.md#identity and #unproven-senders.

use crate::{
    contract::{
        Said,
        audit::{Actor, Proof},
        command::Class,
        envelope::Envelope,
        reason::{Reason, Refusal},
        routing::{Family, ROUTER_SWARM},
        tree::Tree,
    },
    decision::{
        gates::{Stopped, consent},
        rules::Rules,
        state::State,
    },
};

/// Names the sender, or refuses with `identity.origin-mismatch`.
pub(in crate::decision) fn check(said: &Said, user_id: Option<&str>) -> Result<Actor, Stopped> {
    let (actor, agrees) = named(said, user_id);
    match agrees {
        Ok(()) => Ok(actor),
        Err(refusal) => Err(Stopped::Refused { actor, refusal }),
    }
}

/// The sender, and whether everything that names it agrees.
pub(in crate::decision) fn named(said: &Said, user_id: Option<&str>) -> (Actor, Result<(), Refusal>) {
    let disagrees = disagreement(said, user_id)
        .map(|(detail, pointer)| Refusal::new(Reason::OriginMismatch, detail).at(pointer));
    (open(user_id, &said.envelope), disagrees.map_or(Ok(()), Err))
}

/// What `origin` alone cannot do: it would be one connection's word for two people.
pub(in crate::decision) fn prove(
    state: &State,
    said: &Said,
    class: Option<Class>,
    actor: &Actor,
) -> Result<(), Refusal> {
    let takes_proof = || class == Some(Class::Consent) || consent::danger(state, said, class).is_some();
    if is_trusted(state.rules(), actor) || said.key.family != Family::Signal || !takes_proof() {
        return Ok(());
    }
    let detail =
        "nothing but `origin` says who this is, and that is no proof for a consent or a dangerous operation";
    Err(Refusal::new(Reason::Unproven, detail).at("/origin"))
}

/// Whether a sender is proven, or `identity.trust_origin` takes its word.
pub(in crate::decision) fn is_trusted(rules: &Rules, actor: &Actor) -> bool {
    rules.trust_origin || actor.is_proven()
}

/// The sender of something that gates 1 and 2 refused: the user-id where there is one, else what it
/// claims.
pub(in crate::decision) fn unproven(user_id: Option<&str>, envelope: Option<&Envelope<Tree>>) -> Actor {
    match (user_id, envelope) {
        (_, Some(envelope)) => open(user_id, envelope),
        (Some(user_id), None) => Actor { by: Proof::UserId, principal: user_id.to_owned() },
        (None, None) => Actor::unknown(),
    }
}

/// The sender is the AMQP user-id, else the origin's instance.
fn open(user_id: Option<&str>, envelope: &Envelope<Tree>) -> Actor {
    match user_id {
        Some(user_id) => Actor { by: Proof::UserId, principal: user_id.to_owned() },
        None => Actor { by: Proof::Origin, principal: envelope.origin_instance().to_owned() },
    }
}

fn disagreement(said: &Said, user_id: Option<&str>) -> Option<(&'static str, &'static str)> {
    let envelope = &said.envelope;
    let (role, instance) = (envelope.origin_role(), envelope.origin_instance());
    // Before the user-id is looked at: no account makes its owner the router.
    if role == Some(ROUTER_SWARM) {
        return Some(("only the router itself speaks with the origin `swarmgate:<instance>`", "/origin"));
    }
    if user_id.is_some_and(|user_id| user_id != instance) {
        return Some(("the AMQP user-id names another instance than `origin`", "/origin"));
    }
    // The scope of a command says whom it is for, and that of everything else who sends it.
    let speaks_for_itself = said.key.family != Family::Signal || said.class == Some(Class::Liveness);
    if !speaks_for_itself {
        return None;
    }
    let scope = &said.key.scope;
    // Commands may name this swarm: confirmations and questions to the router are addressed to it.
    if scope.swarm_id == ROUTER_SWARM {
        return Some(("the swarm `swarmgate` is the router's own", "/scope/swarmId"));
    }
    if instance != scope.instance {
        return Some(("`origin` names another instance than `scope`", "/origin"));
    }
    // An origin may leave its role out; then there is none to disagree.
    if role.is_some_and(|role| role != scope.role) {
        return Some(("`origin` names another role than `scope`", "/origin"));
    }
    None
}
