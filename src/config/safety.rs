//! The sections that safety hangs on: identity, sessions, what runs live, readiness gates,
//! interlocks and consent.
//!
//! Owns: their keys, each with its default, its bounds and its meaning, and turning them into what
//! the gates judge by.
//! Never: knows a principal's grants; it names who may do what is dangerous, no more.
//! Holds: 0 switches a threshold off; a line that cannot be read is a fault of the config, not a
//! rule that is missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Environment,
    section::{
        DAY_MS, GIB,
        KeyKind::{Choice, Flag, Lines, Whole, Words},
        section,
    },
    wrong::Wrong,
};
use crate::{
    contract::{
        digest::Digest,
        interlock::{Requires, Share},
        timestamp::Timestamp,
    },
    decision::rules::{
        Rules, SafetyRules,
        consent::{self, StandingApproval},
        interlocks::Interlocks as InterlockRules,
    },
};

const CONFIRMATIONS: &[&str] = &["explicit", "second-person", "quorum"];

section! {
    /// How senders are known.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Identity at "identity." {
        mode: IdentityMode = IdentityMode::Open, Choice(&["open"]),
            "How senders are known; this release knows `open` (AMQP user-id, else origin).";
        trust_origin: bool = Rules::default().trust_origin, Flag,
            "Whether senders without user-id may confirm, loosen and start live; for demos, in `dev` only.";
    }
}

/// How a sender is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityMode {
    /// By the AMQP user-id, else by what the envelope says.
    #[default]
    Open,
}

section! {
    /// Control sessions.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Session at "session." {
        lost_after_ms: u64 = Rules::default().session_lost_after_ms, Whole(1_000, DAY_MS),
            "How long nothing may be heard of a worker before its control session is lost.";
    }
}

section! {
    /// What runs live.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Lifecycle at "lifecycle." {
        lost_live_after_ms: u64 = Rules::default().lost_live_after_ms, Whole(1_000, DAY_MS),
            "How long nothing may be heard of a bot that runs live before it is quarantined and told to stop.";
        mismatches_max: u64 = Rules::default().mismatches_max, Whole(1, 10_000),
            "How many times in `interlocks.window_ms` others may speak for a bot that runs live; then it is quarantined.";
    }
}

section! {
    /// Readiness gates.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct SafetySettings at "safety." {
        gates_required: Vec<String> = Vec::new(), Words,
            "The readiness gates that starts and changes consult; in prod at least one.";
        gate_reporters: Vec<String> = Vec::new(), Lines,
            "Who reports a gate, where that is one principal only, like `risk=risk-bot`.";
        gate_ttl_ms: u64 = SafetyRules::default().gate_ttl_ms, Whole(1_000, DAY_MS),
            "How long a gate's report counts at most; then it is UNKNOWN.";
        disable_ms_max: u64 = SafetyRules::default().disable_ms_max, Whole(1_000, 7 * DAY_MS),
            "How long a gate or the router's alerts may be switched off at most.";
    }
}

section! {
    /// What raises the safety mode by itself.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Interlocks at "interlocks." {
        window_ms: u64 = InterlockRules::default().window_ms, Whole(1_000, DAY_MS),
            "How long a window of the interlocks is.";
        samples_min: u64 = InterlockRules::default().samples_min, Whole(1, 1_000_000),
            "How many samples a window must have to count.";
        commands_max: u64 = 0, Whole(0, 1_000_000_000),
            "Commands of one principal in a window; beyond, its starts are suspended. 0 is off.";
        duplicates_max: u64 = 0, Whole(0, 1_000_000_000),
            "Repeats of one principal in a window; beyond, its starts are suspended. 0 is off.";
        suspend_ms: u64 = InterlockRules::default().suspend_ms, Whole(1_000, 7 * DAY_MS),
            "For how long starts are suspended.";
        refused_identities_max: u64 = InterlockRules::default().refused_identities_max.unwrap_or(0), Whole(0, 1_000_000_000),
            "Refusals by the identity gate in a window; beyond, there is an alert. 0 is off.";
        missing_outcomes_percent_max: u64 = 0, Whole(0, 99),
            "Commands of a swarm that ended without their outcome, in percent; beyond, the swarm is SAFE. 0 is off.";
        unknown_percent_max: u64 = 0, Whole(0, 99),
            "Instances of a swarm that are lost, in percent; beyond for a window, the swarm is SAFE. 0 is off.";
        ledger_failures_min: u64 = 1, Whole(0, 1_000),
            "Looks at a ledger that cannot be written, from which on for a window everything is SAFE. 0 is off.";
        clock_drift_ms_max: u64 = InterlockRules::default().clock_drift_ms_max.unwrap_or(0), Whole(0, DAY_MS),
            "Drift of the wall clock between two looks; beyond for a window, everything is SAFE. 0 is off.";
        disk_free_bytes_min: u64 = InterlockRules::default().disk_free_bytes_min.unwrap_or(0), Whole(0, 1024 * GIB),
            "Room on the ledger's disk; below for a window, everything is SAFE. 0 is off.";
    }
}

section! {
    /// What takes a confirmation, and whose.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct ConsentSettings at "consent." {
        requires: Confirmation = Confirmation::Explicit, Choice(CONFIRMATIONS),
            "Who confirms what is dangerous: the requester as a separate act, another, or a quorum.";
        live_requires: Option<Confirmation> = None, Choice(CONFIRMATIONS),
            "Who confirms what is live. Left out: `second-person` in prod, else as `consent.requires`.";
        window_ms: u64 = Rules::default().consent.window_ms, Whole(1_000, 300_000),
            "How long a challenge may be confirmed.";
        actors: Vec<String> = Vec::new(), Words,
            "Who may ask for and confirm what is dangerous; empty is everybody.";
        groups: Vec<String> = Vec::new(), Lines,
            "The groups of a quorum, like `risk=ann+bob`.";
        quorum: Vec<String> = Vec::new(), Lines,
            "How many of each group a quorum takes, like `risk=2`.";
        break_glass: Vec<String> = Vec::new(), Words,
            "Who may break the glass where a second person is required.";
        standing: Vec<String> = Vec::new(), Lines,
            "What was approved beforehand: name, SHA-256 of the command, end, uses; never a live start or loosening.";
        support_bundle: Bundle = Bundle::Free, Choice(&["free", "dangerous"]),
            "Whether a support bundle takes a confirmation.";
    }
}

/// Who confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// The requester or another.
    Explicit,
    /// Another than the requester.
    SecondPerson,
    /// So many of each group.
    Quorum,
}

/// Whether a support bundle takes a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bundle {
    /// It does not.
    Free,
    /// It does.
    Dangerous,
}

impl SafetySettings {
    pub(super) fn rules(&self, interlocks: &Interlocks) -> SafetyRules {
        SafetyRules {
            gates_required: self.gates_required.clone(),
            gate_reporters: self.gate_reporters.iter().filter_map(|line| pair(line)).collect(),
            gate_ttl_ms: self.gate_ttl_ms,
            disable_ms_max: self.disable_ms_max,
            interlocks: interlocks.rules(),
        }
    }
}

impl Interlocks {
    fn rules(&self) -> InterlockRules {
        let on = |threshold: u64| (threshold > 0).then_some(threshold);
        InterlockRules {
            window_ms: self.window_ms,
            samples_min: self.samples_min,
            commands_max: on(self.commands_max),
            duplicates_max: on(self.duplicates_max),
            suspend_ms: self.suspend_ms,
            refused_identities_max: on(self.refused_identities_max),
            missing_outcomes_percent_max: on(self.missing_outcomes_percent_max),
            unknown_percent_max: on(self.unknown_percent_max),
            ledger_failures_max: on(self.ledger_failures_min).map(|from| from - 1),
            clock_drift_ms_max: on(self.clock_drift_ms_max),
            disk_free_bytes_min: on(self.disk_free_bytes_min),
        }
    }
}

impl ConsentSettings {
    pub(super) fn rules(&self, environment: Environment) -> consent::Consent {
        consent::Consent {
            environment: environment.word().to_owned(),
            requires: self.of(self.requires),
            live_requires: self.of(self.live(environment)),
            window_ms: self.window_ms,
            actors: self.actors.clone(),
            groups: self.groups.iter().filter_map(|line| group(line)).collect(),
            break_glass: self.break_glass.clone(),
            standing: self.standing.iter().filter_map(|line| standing(line)).collect(),
            support_bundle: self.support_bundle == Bundle::Dangerous,
        }
    }

    /// Who confirms what is live.
    pub(super) fn live(&self, environment: Environment) -> Confirmation {
        self.live_requires.unwrap_or(match environment {
            Environment::Prod => Confirmation::SecondPerson,
            Environment::Dev | Environment::Stage => self.requires,
        })
    }

    fn of(&self, confirmation: Confirmation) -> Requires {
        match confirmation {
            Confirmation::Explicit => Requires::Explicit,
            Confirmation::SecondPerson => Requires::SecondPerson,
            Confirmation::Quorum => {
                Requires::Quorum(self.quorum.iter().filter_map(|line| share(line)).collect())
            }
        }
    }

    /// What of these lines cannot be read or met, as (setting, what is wrong).
    pub(super) fn faults(&self) -> Vec<(&'static str, Wrong)> {
        let mut faults = Vec::new();
        let mut lines =
            |path: &'static str, lines: &[String], reads: &dyn Fn(&str) -> bool, help: &'static str| {
                for line in lines.iter().filter(|line| !reads(line)) {
                    faults.push((
                        path,
                        Wrong::new(format!("`{path}` has a line that cannot be read: `{line}`"), help),
                    ));
                }
            };
        lines("consent.groups", &self.groups, &|line| group(line).is_some(), "write it like `risk=ann+bob`");
        lines("consent.quorum", &self.quorum, &|line| share(line).is_some(), "write it like `risk=2`");
        let help = "write it like `nightly 9f86d0…0a08 2027-01-01T00:00:00Z 5`: name, SHA-256, end, uses";
        lines("consent.standing", &self.standing, &|line| standing(line).is_some(), help);
        let groups: BTreeMap<String, Vec<String>> =
            self.groups.iter().filter_map(|line| group(line)).collect();
        for share in self.quorum.iter().filter_map(|line| share(line)) {
            let members = groups.get(&share.group).map_or(0, Vec::len);
            if members < share.count {
                let message = format!(
                    "`consent.quorum` takes {} of group `{}`, which has {members}",
                    share.count, share.group
                );
                faults.push(("consent.quorum", Wrong::new(message, "name the members in `consent.groups`")));
            }
        }
        let quorum = [Some(self.requires), self.live_requires].contains(&Some(Confirmation::Quorum));
        if quorum && self.quorum.is_empty() {
            let wrong = Wrong::new(
                "a quorum is required, and `consent.quorum` is empty",
                "say how many of which groups",
            );
            faults.push(("consent.quorum", wrong));
        }
        faults
    }
}

/// What of the gates' reporters cannot be read.
pub(super) fn reporter_faults(safety: &SafetySettings) -> Option<Wrong> {
    let line = safety.gate_reporters.iter().find(|line| pair(line).is_none())?;
    let message = format!("`safety.gate_reporters` has a line that cannot be read: `{line}`");
    Some(Wrong::new(message, "write it like `risk=risk-bot`"))
}

fn pair(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    (!name.is_empty() && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
}

fn group(line: &str) -> Option<(String, Vec<String>)> {
    let (name, members) = pair(line)?;
    let members: Vec<String> = members.split('+').map(|member| member.trim().to_owned()).collect();
    members.iter().all(|member| !member.is_empty()).then_some((name, members))
}

fn share(line: &str) -> Option<Share> {
    let (group, count) = pair(line)?;
    let count = count.parse().ok().filter(|count| *count > 0)?;
    Some(Share { count, group })
}

fn standing(line: &str) -> Option<StandingApproval> {
    let [name, sha256, expires_at, uses] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        return None;
    };
    Some(StandingApproval {
        name: name.to_owned(),
        command: Digest::from_hex(sha256)?,
        expires_at: Timestamp::parse(expires_at)?,
        uses_max: uses.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_or_faults() {
        let sha = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let consent = ConsentSettings {
            requires: Confirmation::Quorum,
            groups: vec!["risk=ann+ bob".to_owned(), "ops=eve".to_owned()],
            quorum: vec!["risk=2".to_owned()],
            standing: vec![format!("nightly {sha} 2027-01-01T00:00:00Z 5")],
            ..ConsentSettings::default()
        };
        assert!(consent.faults().is_empty());
        let rules = consent.rules(Environment::Dev);
        assert_eq!(rules.groups["risk"], ["ann", "bob"]);
        assert_eq!(rules.requires, Requires::Quorum(vec![Share { count: 2, group: "risk".to_owned() }]));
        assert_eq!(rules.live_requires, rules.requires);
        assert_eq!((rules.standing[0].uses_max, rules.standing[0].name.as_str()), (5, "nightly"));
        for broken in [
            ConsentSettings { groups: vec!["risk".to_owned()], ..ConsentSettings::default() },
            ConsentSettings { groups: vec!["risk=ann++bob".to_owned()], ..ConsentSettings::default() },
            ConsentSettings { quorum: vec!["risk=0".to_owned()], ..ConsentSettings::default() },
            ConsentSettings { quorum: vec!["risk=1".to_owned()], ..ConsentSettings::default() },
            ConsentSettings {
                standing: vec!["nightly abc tomorrow many".to_owned()],
                ..ConsentSettings::default()
            },
            ConsentSettings { requires: Confirmation::Quorum, ..ConsentSettings::default() },
        ] {
            assert_eq!(broken.faults().len(), 1, "{broken:?}");
        }
        let prod = ConsentSettings::default().rules(Environment::Prod);
        assert_eq!((prod.requires, prod.live_requires), (Requires::Explicit, Requires::SecondPerson));
        assert!(
            reporter_faults(&SafetySettings {
                gate_reporters: vec!["=x".to_owned()],
                ..SafetySettings::default()
            })
            .is_some()
        );
    }
}
