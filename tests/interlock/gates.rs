//! The histories of a readiness gate: every order of three reports, and what a start and a change
//! are told after each.
//!
//! Owns: the telling of each history on the wire, by two reporters, with expiries, for everything
//! or for the swarm.
//! Never: knows what is right; `history` and the oracle do.
//! Holds: required or not, with a reporter of its own or without one: 0 differences.

use serde_json::json;

use crate::{
    adapter::{self, Requires},
    history::{History, Report, is_cleared, says},
    oracle::{Answer, Ask, Gate, Life, Situation, answer},
    types::running_by,
    words::At,
    world::{World, bot},
};

const LONG_MS: u64 = 3_600_000;
const SHORT_MS: u64 = 60_000;
/// Beyond the short, within the long.
const PAST_SHORT_MS: u64 = 61_000;
const STEP_MS: u64 = 10;

/// What is asked after a report, in turn: what starts, what changes, and what asks no gate.
const ASKED: [(&str, Option<&str>); 7] = [
    ("bot-start", Some("paper")),
    ("swarm-plan", None),
    ("start-work", None),
    ("config-update", None),
    ("bot-start", Some("live")),
    ("swarm-start", None),
    ("status-request", None),
];

#[derive(Clone, Copy, Debug)]
struct Said {
    by: &'static str,
    gate: Gate,
    lasts_ms: u64,
    wait: bool,
    place: At,
}

/// Whether a gate is required, and who reports it where that is one alone.
#[derive(Clone, Copy, Debug)]
struct Setting {
    required: bool,
    reporter: Option<&'static str>,
    places: &'static [At],
    reports: usize,
}

#[derive(Clone, Copy)]
struct Known {
    now: u64,
    gates: [History; 2],
}

#[test]
fn every_history_of_three_reports() {
    for_each_setting(&[At::Fleet], 3, 3_000);
}

#[test]
fn every_history_of_two_reports_for_everything_or_for_the_swarm() {
    for_each_setting(&[At::Fleet, At::Swarm], 2, 1_000);
}

fn for_each_setting(places: &'static [At], reports: usize, told_min: usize) {
    for required in [true, false] {
        for reporter in [None, Some("probe")] {
            let setting = Setting { required, reporter, places, reports };
            let mut rules = adapter::rules(Requires::Explicit);
            if !required {
                rules.safety.gates_required.clear();
            }
            if let Some(own) = reporter {
                rules.safety.gate_reporters.insert(adapter::GATE.to_owned(), own.to_owned());
            }
            let world = running_by(rules);
            let mut told = 0;
            // The report by which the instance was made, of everything, is over before the story
            // begins.
            let mut over = History::default();
            over.take(Report { gate: Gate::Pass, until: 0 }, 0, 0);
            let known = Known { now: 0, gates: [over, History::default()] };
            histories(&world, known, setting, &mut Vec::new(), &mut told);
            assert!(told > told_min, "only {told} reports were told");
        }
    }
}

fn histories(world: &World, known: Known, setting: Setting, way: &mut Vec<Said>, told: &mut usize) {
    if way.len() == setting.reports {
        return;
    }
    for by in ["probe", "other"] {
        for gate in Gate::ALL {
            for (lasts_ms, wait) in [(LONG_MS, false), (SHORT_MS, false), (SHORT_MS, true)] {
                for place in setting.places {
                    let said = Said { by, gate, lasts_ms, wait, place: *place };
                    *told += 1;
                    way.push(said);
                    let (mut world, mut known) = (world.fork(), known);
                    tell(&mut world, &mut known, said, setting, way, told);
                    // What was refused leaves everything as it was.
                    if setting.reporter.is_none_or(|own| own == by) {
                        histories(&world, known, setting, way, told);
                    }
                    way.pop();
                }
            }
        }
    }
}

fn tell(world: &mut World, known: &mut Known, said: Said, setting: Setting, way: &[Said], told: &mut usize) {
    let name = format!("{setting:?} {way:#?}");
    known.now += STEP_MS;
    let expires_at = world.now_plus(STEP_MS + said.lasts_ms);
    let data = json!({ "gate": adapter::GATE, "result": said.gate.name(), "expiresAt": expires_at });
    let (ticket, heard) = world.signal(said.by, "gate-report", &crate::player::scope(said.place), &data);
    let at = known.now;
    let report = Report { gate: said.gate, until: known.now + said.lasts_ms };
    let place = usize::from(said.place == At::Swarm);
    let by = usize::from(said.by == "other");
    match setting.reporter {
        Some(own) if own != said.by => assert_eq!(heard.words(), "refuse policy.denied", "{name}"),
        None if is_cleared(&known.gates, said.gate) => {
            assert_eq!(heard.words(), "challenge consent.challenge-required", "{name}");
            asked(world, *known, setting, told, &name);
            known.now += STEP_MS;
            let id = ticket.challenge.clone().expect("a challenge");
            assert_eq!(world.consent(said.by, "confirm", &ticket, &id).words(), "forward", "{name}");
            known.gates[place].take(report, by, at);
        }
        _ => {
            assert_eq!(heard.words(), "forward", "{name}");
            known.gates[place].take(report, by, at);
        }
    }
    asked(world, *known, setting, told, &name);
    if said.wait {
        world.wait(PAST_SHORT_MS);
        known.now += PAST_SHORT_MS;
        asked(world, *known, setting, told, &name);
    }
}

/// What is asked in turn, of a copy.
fn asked(world: &World, known: Known, setting: Setting, told: &mut usize, name: &str) {
    *told += 1;
    let (kind, mode) = ASKED[*told % ASKED.len()];
    let (gate, unknown_refuses) = says(&known.gates, setting.required, known.now + STEP_MS);
    let requested = mode.and_then(Life::running).map(|to| format!("IDLE->{to}"));
    let ask = Ask { kind, mode, requested: requested.as_deref(), loosens: false };
    let expected = match answer(&Situation { gate, unknown_refuses, ..Situation::at(Life::Idle) }, &ask) {
        Answer::Forward => "forward".to_owned(),
        Answer::Challenge => "challenge consent.challenge-required".to_owned(),
        Answer::Refuse(code) => format!("refuse {code}"),
    };
    let mut data = json!({});
    if let (Some(requested), Some(mode)) = (requested, mode) {
        data = json!({ "requestedTransition": requested, "mode": mode });
    }
    let got = world.fork().signal("ops-a", kind, &bot(0), &data).1.words();
    assert_eq!(got, expected, "{kind}: {name}");
}
