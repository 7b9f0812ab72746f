//! What instances were configured to by the config-updates they applied.
//!
//! Owns: one patch an instance, what they take up, and since when somebody's could not be kept.
//! Never: decides whether there is room; a fact says that there was none.
//! Holds: what was not kept is unknown, and never taken for nothing.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::{
    contract::{
        audit::Stepped, bound::Bound, canonical, digest::Digest, routing::Scope, secrets,
        timestamp::Timestamp, tree::View,
    },
    decision::state::{
        Recorded, State,
        flight::Flight,
        inventory::UNKNOWN,
        key::{Short, pairs},
        patch,
        payload::PATCH_BYTES_MAX,
    },
};

/// The config-updates that each instance applied.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Configs {
    #[serde(serialize_with = "pairs")]
    applied: BTreeMap<Scope, Applied>,
    #[serde(skip)]
    bytes: usize,
    /// Since when there are instances whose patches there was no room for, in microseconds since
    /// the epoch.
    unknown_since: Option<i64>,
}

/// The config-updates that an instance applied.
#[derive(Clone, Debug, Serialize)]
struct Applied {
    /// One patch (canonical JSON); an empty text where it is too large to be remembered.
    patch: String,
    /// When the last of them was, in microseconds since the epoch.
    at: i64,
}

impl Configs {
    pub fn len(&self) -> usize {
        self.applied.len()
    }

    /// Bytes of all patches.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn contains(&self, scope: &Scope) -> bool {
        self.applied.contains_key(scope)
    }

    /// The patch of what an instance applied before a moment, empty where it is unknown; `None`
    /// where it applied nothing.
    pub fn before(&self, scope: &Scope, said: i64) -> Option<&str> {
        match self.applied.get(scope) {
            Some(applied) => (applied.at < said).then_some(applied.patch.as_str()),
            // Whose patch found no room is not kept: it may be that of anybody without one.
            None => self.unknown_since.filter(|since| *since < said).map(|_| ""),
        }
    }

    /// An instance applied a patch; `forgotten`: there was no room to remember that.
    pub fn apply(&mut self, scope: &Scope, patch: &str, forgotten: bool, at: i64) {
        if forgotten && !self.contains(scope) {
            self.unknown_since.get_or_insert(at);
            return;
        }
        let before = self.applied.get(scope).map_or("{}", |before| before.patch.as_str());
        // What was too large to be remembered, what is on top of it, and what no one patch does
        // leave nothing known.
        let values = (serde_json::from_str::<Value>(before), serde_json::from_str::<Value>(patch));
        let both = match values {
            (Ok(before), Ok(patch)) if !forgotten => patch::joined(&before, &patch),
            _ => None,
        };
        let both = both.map_or_else(Vec::new, |both| canonical::of(&both));
        let patch = String::from_utf8(both).ok().filter(|both| both.len() <= PATCH_BYTES_MAX);
        let patch = patch.unwrap_or_default();
        self.bytes += patch.len();
        let before = self.applied.insert(scope.clone(), Applied { patch, at });
        self.bytes -= before.map_or(0, |before| before.patch.len());
    }

    pub fn remove(&mut self, scope: &Scope) {
        self.bytes -= self.applied.remove(scope).map_or(0, |applied| applied.patch.len());
    }

    pub fn remove_swarm(&mut self, swarm_id: &str) {
        self.applied.retain(|scope, _| scope.swarm_id != swarm_id);
        self.bytes = self.applied.values().map(|applied| applied.patch.len()).sum();
    }

    /// The router's time makes a step.
    pub fn step(&mut self, stepped: &Stepped) {
        let times = self.applied.values_mut().map(|applied| &mut applied.at).chain(&mut self.unknown_since);
        times.for_each(|at| *at = stepped.past(*at));
    }
}

impl Recorded {
    /// An instance applied a config-update: what it is patched with from now on.
    pub(super) fn applied_by(&mut self, key: Short, scope: &Scope, forgotten: bool, at: i64) {
        if let Some(patch) = self.flights.get(key).and_then(|flight| flight.patch.as_deref()) {
            self.applied.apply(scope, patch, forgotten, at);
        }
    }
}

impl State {
    /// Digest of the config that an instance would report if the config-updates it applied were all
    /// that had changed it; `None` where it applied none before it said so, `UNKNOWN` where what it
    /// applied was too large to remember.
    pub(in crate::decision) fn desired_config(
        &self,
        scope: &Scope,
        reported: View<'_>,
        said: Timestamp,
    ) -> Option<Digest> {
        let applied = self.recorded.applied.before(scope, said.micros())?;
        let Ok(patch) = serde_json::from_str::<Value>(applied) else { return Some(UNKNOWN) };
        // Masked as the patch in its entry is, or a secret would always differ.
        let reported = secrets::masked(reported, None, &[]).unwrap_or_else(|| reported.to_value());
        Some(Digest::of(&canonical::of(&patch::patched(&reported, &patch))))
    }

    /// Of how many instances what they applied is remembered.
    pub(in crate::decision) fn configs_count(&self) -> usize {
        self.recorded.applied.len()
    }

    pub(in crate::decision) fn configs_bytes(&self) -> usize {
        self.recorded.applied.bytes()
    }

    pub(in crate::decision) fn remembers_config(&self, scope: &Scope) -> bool {
        self.recorded.applied.contains(scope)
    }
}

/// The bound that leaves no room to remember what an instance has applied, if one does.
pub(in crate::decision) fn without_config(
    state: &State,
    scope: &Scope,
    applied: &[&Flight],
) -> Option<Bound> {
    if applied.is_empty() {
        return None;
    }
    let bytes: usize = applied.iter().filter_map(|flight| flight.patch.as_ref()).map(String::len).sum();
    if state.configs_bytes().saturating_add(bytes) > state.rules().memory.applied_bytes_max {
        return Some(Bound::AppliedBytes);
    }
    let full = state.configs_count() >= configs_max(state);
    (full && !state.remembers_config(scope)).then_some(Bound::Applied)
}

/// How many instances' applied configs are remembered.
pub(in crate::decision) fn configs_max(state: &State) -> usize {
    state.rules().inventory.instances_max.saturating_mul(2)
}
