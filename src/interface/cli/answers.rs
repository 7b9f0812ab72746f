//! What the API answers, as the command line reads it.
//!
//! Owns: the fields that tables and screens show; the page docs/reference/api.md has them all.
//! Never: fails on a field that is not there: an older router's answer is shown as far as it goes.
//! Holds: what is not known is `None`, and never a zero.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::access::AccessError;
use crate::contract::{
    routing::{ALL, Scope},
    timestamp::Timestamp,
};

/// The router itself, and totals.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Overview {
    pub instance: String,
    pub environment: String,
    pub mode: String,
    pub version: String,
    pub uptime_ms: u64,
    pub ledger: LedgerTotals,
    pub broker: BrokerState,
    pub lanes: Vec<LaneTotals>,
    pub refusals: Vec<Refusals>,
    pub commands: CommandTotals,
    pub inventory: InventoryTotals,
    pub safety: SafetyTotals,
}

/// The interlock in an overview: the strongest that applies anywhere.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SafetyTotals {
    pub mode: String,
    pub kill_switch: String,
    pub challenges: u64,
    pub gates_not_passed: u64,
}

/// The ledger in an overview.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LedgerTotals {
    pub writable: bool,
    pub seq: u64,
    pub keys: u64,
}

/// The broker in an overview.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerState {
    pub connected: bool,
    pub blocked: bool,
}

/// One lane in an overview.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LaneTotals {
    pub lane: String,
    pub depth: u64,
    pub in_flight: u64,
    pub forwarded: u64,
    pub suppressed: u64,
    pub refused: u64,
    pub parked: u64,
}

/// How often a reason was given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Refusals {
    pub code: String,
    pub count: u64,
}

/// Commands in an overview.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommandTotals {
    pub in_flight: u64,
    pub parked: u64,
}

/// The inventory in an overview.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InventoryTotals {
    pub instances: u64,
    pub fresh: u64,
    pub stale: u64,
    pub lost: u64,
    pub swarms: u64,
    pub overflow: u64,
}

/// Every swarm.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Swarms {
    pub swarms: Vec<Swarm>,
}

/// Totals of one swarm.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Swarm {
    pub swarm_id: String,
    pub desired: Option<u64>,
    pub seen: u64,
    pub fresh: u64,
    pub running: u64,
    pub enabled: u64,
    #[serde(deserialize_with = "time")]
    pub watermark: Option<Timestamp>,
}

/// A page of instances.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instances {
    pub swarm: Swarm,
    pub instances: Vec<Instance>,
    pub next: Option<String>,
}

/// One instance.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instance {
    pub scope: Option<Scope>,
    pub lifecycle: Option<String>,
    pub health: Option<String>,
    pub freshness: Option<String>,
    pub age_ms: Option<u64>,
    pub enabled: Option<bool>,
    pub tps: Option<u64>,
    pub image: Option<String>,
    pub drift: Option<bool>,
}

/// Commands, without their matrices.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Commands {
    pub commands: Vec<Command>,
    pub more: bool,
}

/// One command; its matrix is empty in a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Command {
    pub id: String,
    #[serde(rename = "type")]
    pub kind_type: String,
    pub class: Option<String>,
    pub scope: Option<Scope>,
    pub sender: Option<String>,
    pub correlation_id: Option<String>,
    pub idempotency_key: Option<String>,
    pub state: String,
    pub status: Option<String>,
    pub success: Option<bool>,
    #[serde(deserialize_with = "time")]
    pub accepted_at: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub carried_at: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub observed_at: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub ended_at: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub deadline: Option<Timestamp>,
    pub evidence: Option<Evidence>,
    pub targets: Vec<Target>,
    pub missing: u64,
}

impl Command {
    /// Whether nothing will change any more.
    pub fn has_ended(&self) -> bool {
        self.state == "ended"
    }

    /// Its state, and how it ended.
    pub fn standing(&self) -> String {
        match &self.status {
            Some(status) => format!("{}: {status}", self.state),
            None => self.state.clone(),
        }
    }
}

/// The last that was heard of a command.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Evidence {
    pub kind: String,
    #[serde(deserialize_with = "time")]
    pub at: Option<Timestamp>,
    pub detail: Option<String>,
}

/// One target of a command.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Target {
    pub scope: Option<Scope>,
    pub reached: bool,
    pub status: Option<String>,
    #[serde(deserialize_with = "time")]
    pub at: Option<Timestamp>,
}

/// Safety modes, kill switches and readiness gates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Safety {
    pub global: Setting,
    pub swarms: Vec<Setting>,
    pub gates: Vec<Gate>,
    pub latch: Option<Latched>,
    pub monitoring: Monitoring,
    pub identity: Identity,
    pub clock: ClockGap,
}

/// How far the router's time is ahead of the clock, where they do not agree.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClockGap {
    pub gap_seconds: Option<i64>,
}

/// How senders are known.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    pub trust_origin: bool,
}

impl Safety {
    /// What holds for that swarm, or for the fleet; a swarm without its own inherits the global one.
    pub fn of(&self, swarm: Option<&str>) -> &Setting {
        self.swarms
            .iter()
            .find(|own| own.swarm_id.is_some() && own.swarm_id.as_deref() == swarm)
            .unwrap_or(&self.global)
    }
}

/// What holds somewhere: the strongest that applies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Setting {
    pub swarm_id: Option<String>,
    pub mode: Option<String>,
    pub kill_switch: Option<String>,
}

/// One readiness gate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gate {
    pub gate: String,
    pub scope: Value,
    pub result: Option<String>,
    #[serde(deserialize_with = "time")]
    pub expires_at: Option<Timestamp>,
    pub reporter: Option<String>,
    pub required: Option<bool>,
    #[serde(deserialize_with = "time")]
    pub disabled_until: Option<Timestamp>,
}

/// The latch file, as the router read it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Latched {
    pub level: Option<String>,
    pub scope: Value,
    pub reason: Option<String>,
    #[serde(deserialize_with = "time")]
    pub since: Option<Timestamp>,
}

/// Whether the fleet is watched.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Monitoring {
    #[serde(deserialize_with = "time")]
    pub disabled_until: Option<Timestamp>,
}

/// Every challenge that waits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Challenges {
    /// Each by itself, so that an odd one hides no other.
    pub challenges: Vec<Value>,
}

/// A dangerous operation that waits for its confirmation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Challenge {
    pub challenge_id: String,
    #[serde(deserialize_with = "null_is_none")]
    pub operation: String,
    pub target: Value,
    pub environment: Option<String>,
    pub requires: Option<String>,
    pub requested_by: Option<String>,
    #[serde(deserialize_with = "time")]
    pub requested_at: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub expires_at: Option<Timestamp>,
    pub effect: Option<String>,
    #[serde(deserialize_with = "null_is_none")]
    pub not_affected: Vec<String>,
    pub difference: Value,
    #[serde(deserialize_with = "null_is_none")]
    pub confirmed_by: Vec<String>,
    pub command: Value,
    pub command_sha256: Option<String>,
    pub reason: Option<String>,
}

/// A scope in one word or three: a text as it is, an object as swarm/role/instance, the whole fleet as `ALL`.
pub fn place(scope: &Value) -> Option<String> {
    let scope = match scope.as_str() {
        Some(text) => match text.split('/').collect::<Vec<_>>().as_slice() {
            [swarm, role, instance] => Scope::new(*swarm, *role, *instance),
            _ => return Some(text.to_owned()),
        },
        None => Scope::deserialize(scope).ok()?,
    };
    Some(match (scope.role == ALL, scope.instance == ALL) {
        (true, true) => scope.swarm_id,
        _ => scope.to_string(),
    })
}

/// A text as it is, anything else as JSON; nothing for null and for what is empty.
pub fn words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Object(fields) => match (fields.get("from"), fields.get("to")) {
            (Some(from), Some(to)) => Some(format!("{} -> {}", words(from)?, words(to)?)),
            _ => Some(value.to_string()).filter(|_| !fields.is_empty()),
        },
        other => Some(other.to_string()),
    }
}

/// Reads an answer of that shape.
///
/// # Errors
/// When it has another: whatever answered is no router of this release.
pub fn read<T: DeserializeOwned>(answer: &Value, url: &str) -> Result<T, AccessError> {
    T::deserialize(answer).map_err(|_| AccessError::Stranger { url: url.to_owned(), status: 200 })
}

/// A field that is null is as one that is absent.
fn null_is_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A time, as text; one that cannot be read is not known.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.and_then(|text| Timestamp::parse(&text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_swarm_without_its_own_setting_has_the_global_one() {
        let safety: Safety = read(
            &json!({ "global": { "mode": "SAFE", "killSwitch": "CLOSE_ONLY" },
                     "swarms": [{ "swarmId": "kestrel", "mode": "EMERGENCY_STOP", "killSwitch": "BLOCK" }] }),
            "",
        )
        .unwrap();
        assert_eq!(safety.of(Some("kestrel")).mode.as_deref(), Some("EMERGENCY_STOP"));
        assert_eq!(safety.of(Some("owl")).kill_switch.as_deref(), Some("CLOSE_ONLY"));
        assert_eq!(safety.of(None).mode.as_deref(), Some("SAFE"));
    }

    #[test]
    fn a_scope_and_a_difference_are_read_in_either_form() {
        let scope = |swarm, role, instance| json!({ "swarmId": swarm, "role": role, "instance": instance });
        assert_eq!(place(&json!("kestrel")).as_deref(), Some("kestrel"));
        assert_eq!(place(&scope("ALL", "ALL", "ALL")).as_deref(), Some("ALL"));
        assert_eq!(place(&json!("ALL/ALL/ALL")).as_deref(), Some("ALL"));
        assert_eq!(place(&json!("kestrel/bot/ALL")).as_deref(), Some("kestrel/bot/ALL"));
        assert_eq!(place(&scope("kestrel", "ALL", "ALL")).as_deref(), Some("kestrel"));
        assert_eq!(place(&scope("kestrel", "bot", "b-1")).as_deref(), Some("kestrel/bot/b-1"));
        assert_eq!(place(&json!(null)), None);
        assert_eq!(words(&json!({ "from": "IDLE", "to": "PAUSED" })).as_deref(), Some("IDLE -> PAUSED"));
        assert_eq!(words(&json!("IDLE->PAUSED")).as_deref(), Some("IDLE->PAUSED"));
        assert_eq!((words(&json!({})), words(&json!("")), words(&json!(null))), (None, None, None));
        assert_eq!(words(&json!(7)).as_deref(), Some("7"));
    }
}
