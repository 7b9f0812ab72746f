//! The histories of a readiness gate: every order of three reports, and what a start and a change are told after each.
//!
//! Owns: who reported what for how long, as the specification has it: what has failed stays failed until its reporter or a
//! confirmed report clears it, no later report shortens that, and what expires is unknown.
//! Never: names anything of the crate.
//! Holds: required or not, with a reporter of its own or without one: 0 differences.

use serde_json::json;

use crate::{
    adapter::{self, Requires},
    oracle::Gate,
    types::running_by,
    world::{World, bot, fleet},
};

const LONG_MS: i64 = 3_600_000;
const SHORT_MS: i64 = 60_000;
/// Beyond the short, within the long.
const PAST_SHORT_MS: u64 = 61_000;
const STEP_MS: i64 = 10;

#[derive(Clone, Copy, Debug)]
struct Report {
    by: &'static str,
    gate: Gate,
    lasts_ms: i64,
    wait: bool,
}

/// What is known of a gate, by the milliseconds since the story began.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    now: i64,
    said: Option<(Gate, i64)>,
    /// Since it failed and was not cleared: until when it says so, and who alone has said it.
    failed: Option<(i64, Option<&'static str>)>,
}

impl Known {
    /// What it says, and whether it stands in the way where nobody requires it.
    fn says(&self) -> Gate {
        match (self.failed, self.said) {
            (Some((until, _)), _) if self.now < until => Gate::Fail,
            (Some(_), _) => Gate::Unknown,
            (None, Some((gate, until))) if self.now < until => gate,
            (None, _) => Gate::Unknown,
        }
    }

    fn expects(&self, required: bool) -> &'static str {
        match self.says() {
            Gate::Fail => "refuse safety.gate-failed",
            Gate::Unknown if required || self.failed.is_some() => "refuse safety.gate-unknown",
            Gate::Pass | Gate::Warn | Gate::Unknown => "forward",
        }
    }

    fn is_cleared_by(&self, report: Report) -> bool {
        self.failed.is_some() && matches!(report.gate, Gate::Pass | Gate::Warn)
    }

    fn take(&mut self, report: Report, from: i64) {
        let until = from + report.lasts_ms;
        self.failed = match (report.gate, self.failed) {
            (Gate::Pass | Gate::Warn, _) => None,
            (Gate::Fail, None) => Some((until, Some(report.by))),
            (Gate::Fail, Some((before, by))) => Some((before.max(until), by.filter(|by| *by == report.by))),
            (Gate::Unknown, Some((before, Some(by)))) if by == report.by => {
                Some((before.min(from), Some(by)))
            }
            (Gate::Unknown, failed) => failed,
        };
        self.said = Some((report.gate, until));
    }
}

/// Whether a gate is required, and who reports it where that is one alone.
#[derive(Clone, Copy, Debug)]
struct Setting {
    required: bool,
    reporter: Option<&'static str>,
}

#[test]
fn every_history_of_three_reports() {
    for required in [true, false] {
        for reporter in [None, Some("probe")] {
            let setting = Setting { required, reporter };
            let mut rules = adapter::rules(Requires::Explicit);
            if !required {
                rules.safety.gates_required.clear();
            }
            if let Some(own) = reporter {
                rules.safety.gate_reporters.insert(adapter::GATE.to_owned(), own.to_owned());
            }
            let world = running_by(rules);
            let mut told = 0;
            // The report by which the instance was made is over before the story begins.
            histories(&world, Known::default(), setting, &mut Vec::new(), &mut told);
            assert!(told > 3_000, "only {told} reports were told");
        }
    }
}

fn histories(world: &World, known: Known, setting: Setting, way: &mut Vec<Report>, told: &mut usize) {
    if way.len() == 3 {
        return;
    }
    for by in ["probe", "other"] {
        for gate in Gate::ALL {
            for (lasts_ms, wait) in [(LONG_MS, false), (SHORT_MS, false), (SHORT_MS, true)] {
                let report = Report { by, gate, lasts_ms, wait };
                *told += 1;
                way.push(report);
                let (mut world, mut known) = (world.fork(), known);
                tell(&mut world, &mut known, report, setting, way);
                // What was refused leaves everything as it was.
                if setting.reporter.is_none_or(|own| own == by) {
                    histories(&world, known, setting, way, told);
                }
                way.pop();
            }
        }
    }
}

fn tell(world: &mut World, known: &mut Known, report: Report, setting: Setting, way: &[Report]) {
    let name = format!("{setting:?} {way:#?}");
    known.now += STEP_MS;
    let expires_at = world.now_plus((STEP_MS + report.lasts_ms) as u64);
    let data = json!({ "gate": adapter::GATE, "result": report.gate.name(), "expiresAt": expires_at });
    let (ticket, heard) = world.signal(report.by, "gate-report", &fleet(), &data);
    let at = known.now;
    match setting.reporter {
        Some(own) if own != report.by => assert_eq!(heard.words(), "refuse policy.denied", "{name}"),
        None if known.is_cleared_by(report) => {
            assert_eq!(heard.words(), "challenge consent.challenge-required", "{name}");
            asked(world, known, setting, way.len(), &name);
            known.now += STEP_MS;
            let id = ticket.challenge.clone().expect("a challenge");
            assert_eq!(world.consent(report.by, "confirm", &ticket, &id).words(), "forward", "{name}");
            known.take(report, at);
        }
        _ => {
            assert_eq!(heard.words(), "forward", "{name}");
            known.take(report, at);
        }
    }
    if report.wait {
        world.wait(PAST_SHORT_MS);
        known.now += PAST_SHORT_MS as i64;
    }
    asked(world, known, setting, way.len() + usize::from(report.wait), &name);
}

/// A start or a change is told the same, on a copy: they are asked in turn.
fn asked(world: &World, known: &Known, setting: Setting, turn: usize, name: &str) {
    let later = Known { now: known.now + STEP_MS, ..*known };
    let expected = later.expects(setting.required);
    let start = json!({ "requestedTransition": "IDLE->RUNNING_PAPER", "mode": "paper" });
    let (kind, data) = if turn.is_multiple_of(2) { ("bot-start", start) } else { ("swarm-plan", json!({})) };
    let got = world.fork().signal("ops-a", kind, &bot(0), &data).1.words();
    assert_eq!(got, expected, "{kind}: {name}");
}
