//! "May I": the router is asked before a dangerous order or a consent leaves.
//!
//! Owns: which orders ask first, the question, and what is told where the answer is no.
//! Never: holds up what makes things safer, or takes silence for a yes where something dangerous is
//! meant.
//! Holds: after a no nothing is shown to be consented to, and nothing is sent.

use serde_json::{Map, Value, json};

use super::{
    CliError, Exit, Globals, Out,
    access::{Router, encoded},
    echo::whole,
    runbook,
};
use crate::{
    contract::{
        command::{Class, Commands},
        envelope::Envelope,
        message::Message,
    },
    view::may::May,
};

/// What the gates of permission read of a command's data; the rest of it stays here.
const READ: [&str; 9] = [
    "breakGlass",
    "challengeId",
    "commandSha256",
    "expiresAt",
    "gate",
    "level",
    "mode",
    "requestedTransition",
    "result",
];

/// Whether the router is asked before something is sent by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// It makes things safer, or starts nothing that is live.
    Never,
    /// Mostly it makes things safer: the router is asked briefly, and its silence holds nothing up.
    Briefly,
    /// It is dangerous, or may be: it is not said blindly.
    First,
}

/// Whether the router is asked before that is sent; what is not known to be harmless asks first.
pub fn asks(commands: &Commands, kind_type: &str, data: &Value) -> Asks {
    let says = |name: &str, word: &str| data.get(name).and_then(Value::as_str) == Some(word);
    match commands.get(kind_type).map(|row| row.class) {
        Some(Class::Stop | Class::Session | Class::Liveness) => Asks::Never,
        Some(Class::Tighten) => match kind_type {
            "safety-set" if says("mode", "NORMAL") => Asks::First,
            "kill-switch-set" if says("level", "ALLOW") => Asks::First,
            "safety-set" | "kill-switch-set" => Asks::Briefly,
            _ => Asks::Never,
        },
        Some(Class::Evidence) => match kind_type {
            "status-request" => Asks::Never,
            "gate-report" if says("result", "FAIL") || says("result", "UNKNOWN") => Asks::Never,
            _ => Asks::Briefly,
        },
        Some(Class::Start) if !says("mode", "live") => Asks::Never,
        Some(Class::Change) if kind_type == "bot-init" => Asks::Never,
        _ => Asks::First,
    }
}

/// Asks whether whoever sends this message may.
///
/// # Errors
/// When the router cannot be asked, or the message is none of ours.
pub async fn ask(router: &Router, message: &Message) -> Result<May, CliError> {
    let said: Envelope<Value> = serde_json::from_slice(&message.body).map_err(|fault| CliError::Usage {
        message: format!("the signal cannot be read back: {fault}"),
        help: "this is a fault of this tool; see that it is of the router's release".to_owned(),
    })?;
    let read = said.data.as_object().into_iter().flatten().filter(|(name, _)| READ.contains(&name.as_str()));
    let read: Map<String, Value> = read.map(|(name, value)| (name.clone(), value.clone())).collect();
    let user = message.properties.user_id.as_deref().unwrap_or(&said.origin);
    let named = [
        ("origin", said.origin.clone()),
        ("user", user.to_owned()),
        ("type", said.kind_type.clone()),
        ("target", said.scope.to_string()),
        ("data", Value::Object(read).to_string()),
    ];
    let query: Vec<String> = named.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    Ok(router.page(&format!("may?{}", query.join("&"))).await?)
}

/// Tells a no.
///
/// # Errors
/// When stdout is closed or full.
pub fn no(may: &May, globals: &Globals) -> Result<Exit, CliError> {
    let (code, detail) =
        (may.code.as_deref().unwrap_or("policy.denied"), may.detail.as_deref().unwrap_or_default());
    let page = runbook::of(code);
    let mut next = may.next_step.clone().unwrap_or_else(|| format!("`swarmgate explain {code}`"));
    if runbook::is_want_of_permission(code) {
        next = format!("`{}` may not do this; ask somebody who may. {next}", may.sender);
    }
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&json!({
            "sent": false, "type": may.kind_type, "target": may.target, "code": code, "reason": code,
            "detail": detail, "nextStep": next, "runbook": page,
        }))?;
        return Ok(Exit::Refused);
    }
    out.line(&whole(&format!("not sent: {code}: {detail}")))?;
    out.line(&whole(&format!("  next: {next}")))?;
    if let Some(page) = page {
        out.line(&format!("  runbook: {page}"))?;
    }
    out.line(&whole(&format!("  reason: docs/reasons/{code}.md, or `swarmgate explain {code}`")))?;
    Ok(Exit::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_things_safer_waits_for_nobody_and_what_may_be_dangerous_does() {
        let commands = Commands::default();
        for (kind_type, data, expected) in [
            ("stop", json!({}), Asks::Never),
            ("bot-stop", json!({}), Asks::Never),
            ("bot-quarantine", json!({}), Asks::Never),
            ("gate-enable", json!({}), Asks::Never),
            ("gate-report", json!({ "result": "FAIL" }), Asks::Never),
            ("gate-report", json!({ "result": "PASS" }), Asks::Briefly),
            ("safety-set", json!({ "mode": "SAFE" }), Asks::Briefly),
            ("safety-set", json!({ "mode": "NORMAL" }), Asks::First),
            ("kill-switch-set", json!({ "level": "FLATTEN" }), Asks::Briefly),
            ("kill-switch-set", json!({ "level": "ALLOW" }), Asks::First),
            ("status-request", json!({}), Asks::Never),
            ("support-bundle", json!({}), Asks::Briefly),
            ("bot-start", json!({ "mode": "paper" }), Asks::Never),
            ("bot-start", json!({ "mode": "live" }), Asks::First),
            ("bot-resume", json!({ "mode": "live" }), Asks::First),
            ("bot-init", json!({}), Asks::Never),
            ("config-update", json!({}), Asks::First),
            ("challenge-confirm", json!({}), Asks::First),
            ("challenge-reject", json!({}), Asks::First),
            ("gate-disable", json!({}), Asks::First),
            ("bot-release", json!({}), Asks::First),
            ("data-delete", json!({}), Asks::First),
            ("nobody-knows", json!({}), Asks::First),
        ] {
            assert_eq!(asks(&commands, kind_type, &data), expected, "{kind_type} {data}");
        }
        for row in commands.iter().filter(|row| row.class.always_passes() && row.class == Class::Stop) {
            assert_eq!(asks(&commands, &row.kind_type, &json!({})), Asks::Never, "{}", row.kind_type);
        }
    }
}
