//! The answer to "may I": permission, and what would be asked for, before anything is sent.
//!
//! Owns: making of an intent what the gates read.
//! Never: answers for the gates that look at the moment (safety, readiness, lifecycle); those are
//! asked when it is sent.
//! Holds: a type that this router does not know has no answer.

use serde_json::json;

use super::AnswerView;
use crate::{
    contract::{
        Said,
        digest::Digest,
        read,
        routing::{Family, RoutingKey},
        timestamp::Timestamp,
    },
    decision::{may::may, rules::Rules},
    runtime::ask::Intent,
    view::may::May,
};

impl AnswerView<'_> {
    pub(super) fn may(&self, intent: &Intent) -> Option<May> {
        let said = said(self.state.rules(), intent, self.now)?;
        let may = may(self.state, &said, intent.user.as_deref(), self.now);
        let sender = intent.user.as_ref().unwrap_or(&intent.origin);
        Some(May::new(self.state, may, &intent.kind_type, sender))
    }
}

/// The intent as if it had been said now.
fn said(rules: &Rules, intent: &Intent, now: Timestamp) -> Option<Said> {
    let class = rules.commands.get(&intent.kind_type)?.class;
    let text = json!({
        "timestamp": now, "version": "1", "kind": "signal", "type": intent.kind_type, "origin": intent.origin,
        "scope": intent.scope, "data": intent.data,
    });
    let text = text.to_string();
    Some(Said {
        key: RoutingKey {
            family: Family::Signal,
            kind_type: intent.kind_type.clone(),
            scope: intent.scope.clone(),
        },
        envelope: read::accepted(&text)?,
        class: Some(class),
        compared: Digest::of(text.as_bytes()),
        payload: None,
    })
}
