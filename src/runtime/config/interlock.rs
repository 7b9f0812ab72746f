//! The settings of the interlock: sessions, readiness gates, interlocks and consent.
//!
//! Owns: their defaults, and turning them into what the gates judge by.
//! Never: knows a principal's grants; it names who may do what is dangerous, no more.
//! Holds: 0 switches a threshold off; a line that cannot be read is a fault of the config, not a rule that is missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Environment, check::Wrong};
use crate::{
    contract::{
        digest::Digest,
        interlock::{Requires, Share},
        timestamp::Timestamp,
    },
    decision::{command::approval::Standing, consent, rules::SafetyRules, safety::interlock as interlocks},
};

/// Control sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// How long nothing may be heard of a worker before its session is lost.
    pub lost_after_ms: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self { lost_after_ms: 60_000 }
    }
}

/// What runs live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lifecycle {
    /// How long nothing may be heard of a bot that runs live before it is quarantined and told to stop.
    pub lost_live_after_ms: u64,
    /// How many times, within an interlock's window, a sender may disagree with the scope of a bot that runs live.
    pub mismatches_max: u64,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { lost_live_after_ms: 300_000, mismatches_max: 3 }
    }
}

/// Readiness gates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Safety {
    /// The gates that starts and changes consult.
    pub gates_required: Vec<String>,
    /// Who reports a gate, where that is one only: `GATE=PRINCIPAL`.
    pub gate_reporters: Vec<String>,
    /// How long a report counts at most.
    pub gate_ttl_ms: u64,
    /// How long a gate or the router's alerts may be switched off at most.
    pub disable_ms_max: u64,
}

impl Default for Safety {
    fn default() -> Self {
        let rules = SafetyRules::default();
        Self {
            gates_required: Vec::new(),
            gate_reporters: Vec::new(),
            gate_ttl_ms: rules.gate_ttl_ms,
            disable_ms_max: rules.disable_ms_max,
        }
    }
}

/// What raises the safety mode by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interlocks {
    /// How long a window is.
    pub window_ms: u64,
    /// How many samples a window must have.
    pub samples_min: u64,
    /// Commands of one principal in a window.
    pub commands_max: u64,
    /// Repeats of one principal in a window.
    pub duplicates_max: u64,
    /// How long starts are suspended.
    pub suspend_ms: u64,
    /// Refusals by gate 3 in a window.
    pub refused_identities_max: u64,
    /// Commands of a swarm that ended without their outcome, in percent.
    pub missing_outcomes_percent_max: u64,
    /// Instances of a swarm that are lost, in percent.
    pub unknown_percent_max: u64,
    /// Looks at a ledger that cannot be written, from which on it counts as failing.
    pub ledger_failures_min: u64,
    /// Drift of the wall clock between two looks.
    pub clock_drift_ms_max: u64,
    /// Room on the ledger's disk.
    pub disk_free_bytes_min: u64,
}

impl Default for Interlocks {
    fn default() -> Self {
        let rules = interlocks::Interlocks::default();
        Self {
            window_ms: rules.window_ms,
            samples_min: rules.samples_min,
            commands_max: 0,
            duplicates_max: 0,
            suspend_ms: rules.suspend_ms,
            refused_identities_max: rules.refused_identities_max.unwrap_or_default(),
            missing_outcomes_percent_max: 0,
            unknown_percent_max: 0,
            ledger_failures_min: 1,
            clock_drift_ms_max: rules.clock_drift_ms_max.unwrap_or_default(),
            disk_free_bytes_min: rules.disk_free_bytes_min.unwrap_or_default(),
        }
    }
}

/// What takes a confirmation, and whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Consent {
    /// Who confirms what is dangerous.
    pub requires: Confirmation,
    /// Who confirms what is live; left out, by environment.
    pub live_requires: Option<Confirmation>,
    /// How long a challenge may be confirmed.
    pub window_ms: u64,
    /// Who may ask for and confirm what is dangerous; empty is everybody.
    pub actors: Vec<String>,
    /// Groups of a quorum: `GROUP=PRINCIPAL+PRINCIPAL`.
    pub groups: Vec<String>,
    /// How many of each group a quorum takes: `GROUP=COUNT`.
    pub quorum: Vec<String>,
    /// Who may break the glass.
    pub break_glass: Vec<String>,
    /// What was approved beforehand: `NAME SHA256 EXPIRES USES`.
    pub standing: Vec<String>,
    /// Whether a support bundle takes a confirmation.
    pub support_bundle: Bundle,
}

impl Default for Consent {
    fn default() -> Self {
        Self {
            requires: Confirmation::Explicit,
            live_requires: None,
            window_ms: consent::Consent::default().window_ms,
            actors: Vec::new(),
            groups: Vec::new(),
            quorum: Vec::new(),
            break_glass: Vec::new(),
            standing: Vec::new(),
            support_bundle: Bundle::Free,
        }
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

impl Safety {
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
    fn rules(&self) -> interlocks::Interlocks {
        let on = |threshold: u64| (threshold > 0).then_some(threshold);
        interlocks::Interlocks {
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

impl Consent {
    pub(super) fn rules(&self, environment: Environment) -> consent::Consent {
        let live = self.live_requires.unwrap_or(match environment {
            Environment::Prod => Confirmation::SecondPerson,
            Environment::Dev | Environment::Stage => self.requires,
        });
        consent::Consent {
            environment: environment.word().to_owned(),
            requires: self.of(self.requires),
            live_requires: self.of(live),
            window_ms: self.window_ms,
            actors: self.actors.clone(),
            groups: self.groups.iter().filter_map(|line| group(line)).collect(),
            break_glass: self.break_glass.clone(),
            standing: self.standing.iter().filter_map(|line| standing(line)).collect(),
            support_bundle: self.support_bundle == Bundle::Dangerous,
        }
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
pub(super) fn reporter_faults(safety: &Safety) -> Option<Wrong> {
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

fn standing(line: &str) -> Option<Standing> {
    let [name, sha256, expires_at, uses] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        return None;
    };
    Some(Standing {
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
        let consent = Consent {
            requires: Confirmation::Quorum,
            groups: vec!["risk=ann+ bob".to_owned(), "ops=eve".to_owned()],
            quorum: vec!["risk=2".to_owned()],
            standing: vec![format!("nightly {sha} 2027-01-01T00:00:00Z 5")],
            ..Consent::default()
        };
        assert!(consent.faults().is_empty());
        let rules = consent.rules(Environment::Dev);
        assert_eq!(rules.groups["risk"], ["ann", "bob"]);
        assert_eq!(rules.requires, Requires::Quorum(vec![Share { count: 2, group: "risk".to_owned() }]));
        assert_eq!(rules.live_requires, rules.requires);
        assert_eq!((rules.standing[0].uses_max, rules.standing[0].name.as_str()), (5, "nightly"));
        for broken in [
            Consent { groups: vec!["risk".to_owned()], ..Consent::default() },
            Consent { groups: vec!["risk=ann++bob".to_owned()], ..Consent::default() },
            Consent { quorum: vec!["risk=0".to_owned()], ..Consent::default() },
            Consent { quorum: vec!["risk=1".to_owned()], ..Consent::default() },
            Consent { standing: vec!["nightly abc tomorrow many".to_owned()], ..Consent::default() },
            Consent { requires: Confirmation::Quorum, ..Consent::default() },
        ] {
            assert_eq!(broken.faults().len(), 1, "{broken:?}");
        }
        let prod = Consent::default().rules(Environment::Prod);
        assert_eq!((prod.requires, prod.live_requires), (Requires::Explicit, Requires::SecondPerson));
        assert!(
            reporter_faults(&Safety { gate_reporters: vec!["=x".to_owned()], ..Safety::default() }).is_some()
        );
    }
}
