//! By what commands and results are recognised.
//!
//! Owns: the identities of commands and results, and their short forms.
//! Never: keeps a digest whole where its beginning tells records apart.
//! Holds: what joins a command to its outcomes is the same before and after a restart.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::{
    contract::{Said, audit::Actor, digest::Digest, routing::Scope},
    decision::request::Arrival,
};

/// The first 128 bits of a digest: enough to tell records apart, half the memory.
pub(in crate::decision) type Short = u128;

/// Identity of an outcome or alert: who said what where.
pub(in crate::decision) fn result_identity(arrival: &Arrival, actor: &Actor) -> Digest {
    Digest::of_fields(&[actor.principal.as_bytes(), arrival.routing_key.as_bytes(), &arrival.body.0])
}

/// What joins a command in flight to what is said of it: the correlationId.
pub(in crate::decision) fn trace(correlation_id: &str) -> Short {
    short(Digest::of(correlation_id.as_bytes()))
}

/// What tells a late answer to a command that has ended: type and correlationId.
pub(in crate::decision) fn late(kind_type: &str, correlation_id: &str) -> Short {
    short(Digest::of_fields(&[kind_type.as_bytes(), correlation_id.as_bytes()]))
}

/// The beginning of a digest.
pub(in crate::decision) fn short(digest: Digest) -> Short {
    digest.0.iter().take(16).fold(0, |value, byte| value << 8 | Short::from(*byte))
}

pub(in crate::decision) fn identity(said: &Said, actor: &Actor) -> Digest {
    // The sender is a part of it: keys travel in outcomes, and whoever saw one could else use it up
    // before its owner does.
    let scope = &said.key.scope;
    Digest::of_fields(&[
        actor.principal.as_bytes(),
        scope.swarm_id.as_bytes(),
        scope.role.as_bytes(),
        scope.instance.as_bytes(),
        said.key.kind_type.as_bytes(),
        said.envelope.idempotency_key.as_deref().unwrap_or_default().as_bytes(),
    ])
}

/// JSON has no keys but text.
pub(super) fn pairs<V: Serialize, S: Serializer>(
    map: &BTreeMap<Scope, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map)
}
