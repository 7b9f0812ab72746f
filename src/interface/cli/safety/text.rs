//! What holds where, as `swarmgate safety` shows it.
//!
//! Owns: the tables of modes, kill switches and gates, the lines below them, and which runbook is
//! named.
//! Never: asks the router.
//! Holds: what is not known is shown as UNKNOWN.

use super::super::{
    runbook,
    table::{self, Table, or_nothing, place, yes_or_no},
};
use crate::{
    contract::{routing::ALL, timestamp::Timestamp},
    view::safety::{Gate, Safety},
};

/// What holds where, for people.
pub(super) fn of(safety: &Safety, now: Timestamp) -> String {
    let unknown = |word: &Option<String>| word.clone().unwrap_or_else(|| "UNKNOWN".to_owned());
    let mut settings = Table::new(&["scope", "safety", "kill switch"]);
    settings.row([ALL.to_owned(), unknown(&safety.global.mode), unknown(&safety.global.kill_switch)]);
    for swarm in &safety.swarms {
        settings.row([
            or_nothing(swarm.swarm_id.as_ref()),
            unknown(&swarm.mode),
            unknown(&swarm.kill_switch),
        ]);
    }
    let mut text = settings.text();
    let mut gates =
        Table::new(&["gate", "scope", "result", "required", "left#", "reporter", "disabled for#"]);
    for gate in &safety.gates {
        gates.row([
            gate.gate.clone(),
            or_nothing(gate.scope.as_deref().map(place)),
            match gate.failed {
                // It holds starts up still, which its word alone does not say.
                Some(true) if gate.result.as_deref() != Some("FAIL") => {
                    format!("{}, has failed", unknown(&gate.result))
                }
                _ => unknown(&gate.result),
            },
            yes_or_no(gate.required),
            table::until(gate.expires_at, now),
            or_nothing(gate.reporter.as_ref()),
            table::until(gate.disabled_until, now),
        ]);
    }
    text.push('\n');
    text.push_str(&if gates.is_empty() {
        "no gate is configured or reported\n".to_owned()
    } else {
        gates.text()
    });
    match &safety.latch {
        None => text.push_str("\nlatch file: none\n"),
        Some(latch) => text.push_str(&format!(
            "\nlatch file: {} for {} since {}: {}\n",
            table::clean(&unknown(&latch.level)),
            table::clean(&or_nothing(latch.scope.as_deref().map(place))),
            or_nothing(latch.since),
            table::clean(&or_nothing(latch.reason.as_ref()))
        )),
    }
    if let Some(until) = safety.monitoring.disabled_until {
        text.push_str(&format!("monitoring is disabled until {until}\n"));
    }
    if safety.identity.trust_origin {
        text.push_str(
            "identity.trust_origin is set: any connection may confirm, loosen and start live as anybody\n",
        );
    }
    if let Some(gap) = safety.clock.gap_seconds {
        let side = if gap > 0 { "behind" } else { "ahead of" };
        text.push_str(&format!(
            "the clock is {} s {side} the ledger: everything is SAFE until they agree, or `safety accept-clock`\n",
            gap.unsigned_abs()
        ));
    }
    if let Some(page) = page(safety) {
        text.push_str(&format!("starts and config updates are refused somewhere; runbook: {page}\n"));
    }
    text
}

/// The runbook, where something is not as it is on a good day.
fn page(safety: &Safety) -> Option<&'static str> {
    let settings = || std::iter::once(&safety.global).chain(&safety.swarms);
    if safety.latch.is_some() {
        return Some(runbook::KILL_SWITCH);
    }
    // A mode implies a kill switch, so it is looked at first.
    if settings().any(|setting| setting.mode.as_deref() != Some("NORMAL")) {
        return Some(runbook::SAFETY);
    }
    if settings().any(|setting| setting.kill_switch.as_deref() != Some("ALLOW")) {
        return Some(runbook::KILL_SWITCH);
    }
    let holds_up = |gate: &Gate| {
        let lacks = gate.required == Some(true) && !matches!(gate.result.as_deref(), Some("PASS" | "WARN"));
        gate.disabled_until.is_none() && (lacks || gate.failed == Some(true))
    };
    safety.gates.iter().any(holds_up).then_some(runbook::GATES)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::view::safety::Identity;

    #[test]
    fn what_holds_is_shown_with_its_runbook() {
        let read = |safety| serde_json::from_value::<Safety>(safety).unwrap();
        let now = Timestamp::parse("2026-03-04T10:15:00Z").unwrap();
        let safety = read(json!({
            "global": { "mode": "NORMAL", "killSwitch": "ALLOW" },
            "swarms": [{ "swarmId": "kestrel", "mode": "SAFE", "killSwitch": "CLOSE_ONLY" }],
            "gates": [
                { "gate": "market-data", "scope": "ALL", "result": "PASS", "required": true,
                  "expiresAt": "2026-03-04T10:16:30Z", "reporter": "feed", "disabledUntil": null },
                { "gate": "risk", "scope": { "swarmId": "kestrel", "role": "ALL", "instance": "ALL" }, "required": true },
            ],
            "latch": null, "monitoring": { "disabledUntil": null },
        }));
        assert_eq!(
            of(&safety, now),
            "SCOPE    SAFETY  KILL SWITCH\n\
             ALL      NORMAL  ALLOW\n\
             kestrel  SAFE    CLOSE_ONLY\n\
             \n\
             GATE         SCOPE    RESULT   REQUIRED   LEFT  REPORTER  DISABLED FOR\n\
             market-data  ALL      PASS     yes       1m30s  feed                 -\n\
             risk         kestrel  UNKNOWN  yes           -  -                    -\n\
             \n\
             latch file: none\n\
             starts and config updates are refused somewhere; runbook: docs/operating/runbooks/safety.md\n"
        );
        let trusting = Safety { identity: Identity { trust_origin: true }, ..safety };
        assert!(of(&trusting, now).contains("\nidentity.trust_origin is set: any connection may confirm"));
        let good = json!({ "global": { "mode": "NORMAL", "killSwitch": "ALLOW" } });
        assert_eq!(page(&read(good.clone())), None);
        let unknown = json!({ "gate": "risk", "result": "UNKNOWN", "required": true });
        assert_eq!(
            page(&Safety { gates: vec![serde_json::from_value(unknown).unwrap()], ..read(good) }),
            Some(runbook::GATES)
        );
        let failed = json!({ "gate": "g2", "result": "UNKNOWN", "failed": true, "required": false });
        let good = json!({ "global": { "mode": "NORMAL", "killSwitch": "ALLOW" }, "gates": [failed] });
        assert_eq!(page(&read(good.clone())), Some(runbook::GATES), "it refuses every start");
        assert!(of(&read(good), now).contains("UNKNOWN, has failed"));
        assert_eq!(page(&read(json!({}))), Some(runbook::SAFETY), "what is not said is not well");
        let thrown = json!({ "global": { "mode": "NORMAL", "killSwitch": "FLATTEN" } });
        assert_eq!(page(&read(thrown)), Some(runbook::KILL_SWITCH));
    }

    #[test]
    fn a_latch_cannot_steer_the_terminal() {
        let safety = json!({ "latch": { "level": "BLOCK", "scope": "ALL", "reason": "\u{1b}[2J" } });
        let text = of(&serde_json::from_value(safety).unwrap(), Timestamp::default());
        assert!(text.contains("latch file: BLOCK for ALL") && !text.contains('\u{1b}'), "{text}");
    }
}
