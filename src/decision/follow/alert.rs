//! The router's own alerts: few, and never about each other.
//!
//! Owns: the limits on alerts (one a matter and `alerts.dedupe_ms`, so many a second) and their
//! words.
//! Never: raises an alert because of an alert, its own or another's.
//! Holds: whatever happens, at most `alerts.per_second_max` alerts leave in a second; the next one
//! that leaves
//! says how many were held back.
//! The rules: spec/rules.md#alerts and #monitoring.

use serde_json::{Value, json};

use crate::{
    contract::{digest::Digest, timestamp::Timestamp},
    decision::{
        effect::{Effect, Speech},
        outcome::Decision,
        state::{Belief, State},
    },
};

/// What an alert would say.
pub(in crate::decision) struct Notice<'a> {
    /// A stable word: the reason code where there is one.
    pub code: &'static str,
    /// One sentence for people.
    pub message: &'static str,
    /// Whom or what it is about; alerts of the same code and matter are one.
    pub about: &'a str,
    /// How many it stands for.
    pub count: u64,
    /// The command it belongs to.
    pub correlation_id: Option<&'a str>,
}

/// Adds the alert to a decision, or the belief that it was held back.
pub(in crate::decision) fn raise(
    state: &State,
    notice: &Notice<'_>,
    now: Timestamp,
    decision: &mut Decision,
) {
    let swarm = notice.about.split_once('/').map_or(notice.about, |(swarm, _)| swarm);
    // Nobody switches off what tells that safety was switched.
    let safety = [
        "safety.",
        "settings.",
        "execution.",
        "monitoring.",
        "consent.",
        "ledger.",
        "audit.",
        "clock.",
        "bound.",
    ];
    let always = safety.iter().any(|code| notice.code.starts_with(code));
    if !always && !state.safety().is_monitored(swarm, now) {
        decision.beliefs.push(Belief::AlertHeldBack);
        return;
    }
    let fingerprint = fingerprint(notice);
    // Those of this decision are no belief of the state yet, and count all the same.
    if !state.may_alert(fingerprint, raised(decision), now) {
        decision.beliefs.push(Belief::AlertHeldBack);
        return;
    }
    let mut data = json!({
        "level": "warn",
        "code": notice.code,
        "message": notice.message,
        "context": { "about": notice.about, "count": notice.count, "heldBack": state.alerts_held_back() },
    });
    let context = data.get_mut("context").and_then(Value::as_object_mut);
    if let (Some(runbook), Some(context)) = (runbook(notice.message), context) {
        let page = format!("docs/operating/runbooks/{runbook}.md");
        context.insert("runbook".to_owned(), Value::from(page));
    }
    decision.beliefs.push(Belief::Alerted { fingerprint, at: now });
    decision.effects.push(Effect::Speak(Speech::alert(state.rules(), data, notice.correlation_id, now)));
}

/// Adds the alert to a decision where it may leave now, and nothing where it may not.
pub(in crate::decision) fn raise_once(
    state: &State,
    notice: &Notice<'_>,
    now: Timestamp,
    decision: &mut Decision,
) {
    let about = fingerprint(notice);
    let is_told =
        |belief: &Belief| matches!(belief, Belief::Alerted { fingerprint, .. } if *fingerprint == about);
    // Not counted as held back where it may not leave: every message of a flood meets a bound.
    if state.may_alert(about, raised(decision), now) && !decision.beliefs.iter().any(is_told) {
        raise(state, notice, now, decision);
    }
}

/// How many alerts the decision raises already.
fn raised(decision: &Decision) -> u32 {
    let raised = decision.beliefs.iter().filter(|belief| matches!(belief, Belief::Alerted { .. }));
    u32::try_from(raised.count()).unwrap_or(u32::MAX)
}

fn fingerprint(notice: &Notice<'_>) -> Digest {
    Digest::of_fields(&[notice.code.as_bytes(), notice.about.as_bytes()])
}

/// The page that says what to do, where the message names one.
fn runbook(message: &str) -> Option<&str> {
    let (_, named) = message.split_once("runbook ")?;
    named.split(|c: char| !matches!(c, 'a'..='z' | '-' | '.')).next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_names_the_page_that_its_message_does() {
        assert_eq!(runbook("set; see the runbook kill-switch"), Some("kill-switch"));
        assert_eq!(runbook("waits (runbook bounds)"), Some("bounds"));
        assert_eq!(runbook("see the runbook lifecycle.stop-stuck"), Some("lifecycle.stop-stuck"));
        assert_eq!(runbook("see the runbook bounds for what happens now"), Some("bounds"));
        assert_eq!(runbook("a target answered late"), None);
    }
}
