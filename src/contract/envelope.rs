//! The envelope: one control-plane message with its types.
//!
//! Owns: the typed form of a body that its schema has accepted.
//! Never: validates; `schema` does, before an envelope is made.
//! Holds: an envelope's fields are what the body said, unchanged; `origin` names exactly one
//! instance.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    routing::{Family, Scope},
    timestamp::Timestamp,
};

/// The envelope's version on the wire.
pub const VERSION: &str = "1";

/// One control-plane message. Fields stand in alphabetical order of their wire names, so that
/// serialising gives RFC 8785's order at the top level. What was read has its data as a
/// [`Tree`](super::tree::Tree).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope<Data = Value> {
    /// Traces a signal to its outcomes.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// The body proper, an object typed by kind and type.
    pub data: Data,
    /// The command id.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// `signal`, `outcome`, `event` or `metric`.
    pub kind: String,
    /// Who speaks: `instance` or `role:instance`.
    pub origin: String,
    /// The run this belongs to; never on a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// Whom a signal is for; who the rest is from.
    pub scope: Scope,
    /// When the sender said it.
    pub timestamp: Timestamp,
    /// The type within the kind.
    #[serde(rename = "type")]
    pub kind_type: String,
    /// `"1"`.
    pub version: String,
}

/// What a status or outcome says of its run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Runtime {
    /// The container, where there is one.
    #[serde(default)]
    pub container_id: Option<String>,
    /// The image, where there is one.
    #[serde(default)]
    pub image: Option<String>,
    /// The run.
    pub run_id: String,
    /// The stack, where there is one.
    #[serde(default)]
    pub stack_name: Option<String>,
    /// The template the swarm was made from.
    pub template_id: String,
}

impl<Data> Envelope<Data> {
    /// The family of this envelope's kind.
    pub fn family(&self) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.kind() == self.kind)
    }

    /// The instance that `origin` names, without its role.
    pub fn origin_instance(&self) -> &str {
        origin_instance(&self.origin)
    }

    /// The role that `origin` names, where it names one.
    pub fn origin_role(&self) -> Option<&str> {
        self.origin.split_once(':').map(|(role, _)| role)
    }
}

/// The instance that an `origin` names, without its role.
pub fn origin_instance(origin: &str) -> &str {
    origin.split_once(':').map_or(origin, |(_, instance)| instance)
}
