//! The recorded half of what the router was set to.
//!
//! Owns: what it was when it was last compared, and what the last opening says.
//! Never: compares; the decision about an opening does, by its table.
//! Holds: an opening that was not compared, because the router ended before, is compared at the
//! next.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::{contract::audit::Settings, decision::state::State};

/// Settings by their paths.
pub type Values = BTreeMap<String, Value>;

/// What the router was set to, by the paths of the settings that safety hangs on.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Set {
    /// What was last compared, or recorded first.
    before: Option<Values>,
    /// What the last opening says, until that is compared.
    now: Option<Values>,
}

impl Set {
    /// A ledger of a release that recorded none has nothing to compare with; nor has a setting that
    /// was not recorded.
    pub fn opened(&mut self, settings: Option<&Settings>) {
        let Some(Settings { safety, .. }) = settings else { return };
        let before = self.before.get_or_insert_default();
        for (path, value) in safety {
            // What was not recorded before is compared from the next opening on.
            before.entry(path.clone()).or_insert_with(|| value.clone());
        }
        self.now = Some(safety.clone());
    }

    pub fn compared(&mut self) {
        self.before = self.now.take().or(self.before.take());
    }

    /// What was, and what is, where that is still to be compared.
    pub fn to_compare(&self) -> Option<(&Values, &Values)> {
        self.before.as_ref().zip(self.now.as_ref())
    }
}

impl State {
    /// What the router was set to before, and what it is set to, where that is still to be
    /// compared.
    pub(in crate::decision) fn settings_to_compare(&self) -> Option<(&Values, &Values)> {
        self.recorded.settings.to_compare()
    }
}
