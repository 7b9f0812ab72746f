//! Where a person goes on reading when the answer is no.
//!
//! Owns: which runbook belongs to which reason code and to which unhappy end.
//! Never: repeats what a runbook says.
//! Holds: every code of a gate that guards live money has a page.

/// The broker cannot be reached or used.
pub const BROKER_DOWN: &str = "docs/operating/runbooks/broker-down.md";
/// A stop that nobody answered.
pub const STOP_STUCK: &str = "docs/operating/runbooks/lifecycle.stop-stuck.md";
/// The kill switch.
pub const KILL_SWITCH: &str = "docs/operating/runbooks/kill-switch.md";
/// Safety modes.
pub const SAFETY: &str = "docs/operating/runbooks/safety.md";
/// Challenges.
pub const CHALLENGE: &str = "docs/operating/runbooks/challenge.md";
/// Readiness gates.
pub const GATES: &str = "docs/operating/runbooks/gate-unknown.md";
/// Quarantine.
pub const QUARANTINE: &str = "docs/operating/runbooks/quarantine.md";

/// The runbook of a reason code, where there is one beside its page.
pub fn of(code: &str) -> Option<&'static str> {
    match code {
        "safety.kill-switch" => Some(KILL_SWITCH),
        "safety.gate-failed" | "safety.gate-unknown" => Some(GATES),
        "lifecycle.quarantined" => Some(QUARANTINE),
        "audit.unavailable" => Some("docs/operating/runbooks/ledger-unwritable.md"),
        _ => match code.split_once('.')?.0 {
            "safety" => Some(SAFETY),
            "consent" => Some(CHALLENGE),
            "session" => Some("docs/operating/runbooks/session-lost.md"),
            _ => None,
        },
    }
}

/// Whether that code says that the sender may not, rather than that the moment is wrong.
pub fn is_want_of_permission(code: &str) -> bool {
    matches!(code.split_once('.'), Some(("identity" | "policy", _))) || code == "consent.self-confirm"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_leads_to_its_page() {
        for (code, page) in [
            ("safety.mode", Some("safety.md")),
            ("safety.kill-switch", Some("kill-switch.md")),
            ("safety.gate-unknown", Some("gate-unknown.md")),
            ("consent.challenge-expired", Some("challenge.md")),
            ("lifecycle.quarantined", Some("quarantine.md")),
            ("audit.unavailable", Some("ledger-unwritable.md")),
            ("session.not-bootstrapped", Some("session-lost.md")),
            ("contract.schema", None),
            ("nonsense", None),
        ] {
            let told = of(code).and_then(|path| path.rsplit('/').next());
            assert_eq!(told, page, "{code}");
        }
    }

    #[test]
    fn want_of_permission_is_told_from_the_wrong_moment() {
        assert!(
            ["policy.denied", "identity.origin-mismatch", "consent.self-confirm"]
                .into_iter()
                .all(is_want_of_permission)
        );
        assert!(
            !["safety.mode", "consent.challenge-expired", "policy"].into_iter().any(is_want_of_permission)
        );
    }
}
