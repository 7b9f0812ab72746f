//! Every type of the command table by every setting: what passes when nothing else does.
//!
//! Owns: 33 types × 3 safety modes × 4 gate results × 4 kill-switch levels, and the settings that
//! the router itself changes: upward, downward, global and of one swarm, FLATTEN's own stops, and a
//! gate that has expired.
//! Never: repeats the table of states; the instances here are where their commands are legal.
//! Holds: 0 differences to the oracle.

use serde_json::{Value, json};
use swarmgate::contract::routing::Scope;

use crate::{
    adapter::{self, Requires},
    oracle::{Answer, Ask, Class, Gate, Kill, Life, Safety, Situation, TYPES, answer, class},
    world::{Heard, Ticket, World, bot, fleet, swarm},
};

const OPERATOR: &str = "ops-a";

#[test]
fn every_type_in_every_setting() {
    let (mut differences, mut cells) = (Vec::new(), 0);
    let mut idle = World::new(adapter::rules(Requires::Explicit));
    idle.status(&bot(0));
    idle.report(OPERATOR, Gate::Pass);
    // A session for the types that need one; IDLE for those that start.
    idle.signal(OPERATOR, "bootstrap-bundle", &bot(0), &bundle());
    let init =
        idle.signal(OPERATOR, "bot-init", &bot(0), &json!({ "requestedTransition": "CREATED->IDLE" })).0;
    idle.outcome("bot-init", &bot(0), &init.correlation, "Created");
    for kill in Kill::ALL {
        for gate in Gate::ALL {
            for safety in Safety::ALL {
                let mut world = idle.fork();
                set(&mut world, kill, gate, safety);
                for (kind, _) in TYPES {
                    cells += 1;
                    let situation = Situation { safety, gate, kill, ..Situation::at(Life::Idle) };
                    let got = ask(&mut world.fork(), kind).1.words();
                    let expected = expected(&situation, kind);
                    if got != expected {
                        let place = format!("{} {} {}", safety.name(), gate.name(), kill.name());
                        differences.push(format!("{kind} in {place}: expected {expected}, got {got}"));
                    }
                }
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    assert_eq!(cells, TYPES.len() * 48);
}

pub fn expected(situation: &Situation, kind: &str) -> String {
    let requested = match kind {
        "bot-start" | "bot-resume" => Some("IDLE->RUNNING_PAPER"),
        // Not from where it is: these two are refused by their transition in every setting.
        "bot-init" | "bot-release" => Some("IDLE->IDLE"),
        _ => None,
    };
    let mode = requested.filter(|to| to.ends_with("PAPER")).map(|_| "paper");
    if kind == "clock-accept" {
        // The clock and the ledger agree here: there is nothing to accept.
        return "refuse policy.denied".to_owned();
    }
    // A bundle goes to a worker that has no session yet.
    let situation = Situation { session: situation.session && kind != "bootstrap-bundle", ..*situation };
    match answer(&situation, &Ask { kind, mode, requested, loosens: false }) {
        // Nothing is open that could be confirmed or rejected.
        Answer::Forward if class(kind) == Class::Consent => "refuse consent.unknown-challenge".to_owned(),
        Answer::Forward => "forward".to_owned(),
        Answer::Challenge => "challenge consent.challenge-required".to_owned(),
        Answer::Refuse(code) => format!("refuse {code}"),
    }
}

pub fn ask(world: &mut World, kind: &str) -> (Ticket, Heard) {
    let reason = json!({ "reason": "a test" });
    let (scope, data) = match kind {
        // Upward, or as they are: the strictest there is.
        "safety-set" => (fleet(), json!({ "mode": "EMERGENCY_STOP", "reason": "a test" })),
        "kill-switch-set" => (fleet(), json!({ "level": "BLOCK", "reason": "a test" })),
        "gate-report" => (fleet(), json!({ "gate": "another", "result": "PASS" })),
        "gate-enable" => (fleet(), json!({ "gate": adapter::GATE, "reason": "a test" })),
        "gate-disable" => (
            fleet(),
            json!({ "gate": adapter::GATE, "reason": "a test", "expiresAt": "2026-03-04T10:45:00Z" }),
        ),
        "monitoring-disable" => (fleet(), json!({ "reason": "a test", "expiresAt": "2026-03-04T10:45:00Z" })),
        "monitoring-enable" => (fleet(), reason),
        "challenge-confirm" | "challenge-reject" => {
            (bot(0), json!({ "challengeId": format!("c-{}", "0".repeat(32)), "reason": "a test" }))
        }
        // It has a session already, so another begins with another worker.
        "bootstrap-bundle" => (bot(1), bundle()),
        "start-work" => (bot(0), json!({ "requiredWorkers": [] })),
        "support-bundle" => (fleet(), json!({})),
        "bot-start" | "bot-resume" => {
            (bot(0), json!({ "requestedTransition": "IDLE->RUNNING_PAPER", "mode": "paper" }))
        }
        "bot-init" | "bot-release" => (bot(0), json!({ "requestedTransition": "IDLE->IDLE" })),
        "bot-stop" | "bot-pause" => (bot(0), json!({ "requestedTransition": "ANY->IDLE" })),
        "bot-quarantine" => (bot(0), json!({ "requestedTransition": "ANY->QUARANTINED" })),
        "clock-accept" => (bot(0), reason),
        _ if class(kind) == Class::Destructive => (bot(0), reason),
        _ => (bot(0), json!({})),
    };
    let actor = if class(kind) == Class::Liveness { scope.instance.clone() } else { OPERATOR.to_owned() };
    world.signal(&actor, kind, &scope, &data)
}

pub fn bundle() -> Value {
    json!({ "keyId": "k-1", "secretMode": "generated", "kdf": "none", "createdAtEpoch": 1_772_619_300 })
}

fn set(world: &mut World, kill: Kill, gate: Gate, safety: Safety) {
    world.report(OPERATOR, gate);
    if kill != Kill::Allow {
        world.set_kill(OPERATOR, &fleet(), kill);
    }
    if safety != Safety::Normal {
        world.set_safety(OPERATOR, &fleet(), safety);
    }
}

/// One setting, from one level to another, of everything or of the swarm alone.
#[test]
fn a_setting_goes_up_freely_and_down_only_with_consent() {
    for scope in [fleet(), swarm()] {
        for from in Safety::ALL {
            for to in Safety::ALL.into_iter().filter(|to| *to != from) {
                let mut world = running(Life::Idle);
                if from != Safety::Normal {
                    world.set_safety(OPERATOR, &scope, from);
                }
                let (ticket, heard) = world.set_safety(OPERATOR, &scope, to);
                let downward = to < from;
                check_setting(&mut world, &ticket, &heard, downward, &format!("{scope:?} {from:?}->{to:?}"));
                let starts = if to == Safety::Normal { "forward" } else { "refuse safety.mode" };
                assert_eq!(start(&mut world), starts, "{scope:?} {from:?}->{to:?}");
            }
        }
        for from in Kill::ALL {
            for to in Kill::ALL.into_iter().filter(|to| *to != from) {
                let mut world = running(Life::Idle);
                if from != Kill::Allow {
                    world.set_kill(OPERATOR, &scope, from);
                }
                let (ticket, heard) = world.set_kill(OPERATOR, &scope, to);
                let downward = to < from;
                check_setting(&mut world, &ticket, &heard, downward, &format!("{scope:?} {from:?}->{to:?}"));
                let starts = if to == Kill::Allow { "forward" } else { "refuse safety.kill-switch" };
                assert_eq!(start(&mut world), starts, "{scope:?} {from:?}->{to:?}");
            }
        }
    }
}

/// Downward it is a challenge that changes nothing until it is confirmed.
fn check_setting(world: &mut World, ticket: &Ticket, heard: &Heard, downward: bool, name: &str) {
    if !downward {
        assert_eq!(heard.words(), "forward", "{name}");
        return;
    }
    assert_eq!(heard.words(), "challenge consent.challenge-required", "{name}");
    assert!(start(&mut world.fork()).starts_with("refuse safety."), "{name}: it was loosened unconfirmed");
    let id = ticket.challenge.clone().unwrap_or_default();
    assert_eq!(world.consent(OPERATOR, "confirm", ticket, &id).words(), "forward", "{name}");
}

#[test]
fn the_strongest_that_applies_wins() {
    for global in Safety::ALL {
        for own in Safety::ALL {
            let mut world = running(Life::Idle);
            let apart = world.fork();
            if own != Safety::Normal {
                world.set_safety(OPERATOR, &swarm(), own);
            }
            if global != Safety::Normal {
                world.set_safety(OPERATOR, &fleet(), global);
            }
            let expected = if global.max(own) == Safety::Normal { "forward" } else { "refuse safety.mode" };
            assert_eq!(start(&mut world), expected, "global {global:?}, own {own:?}");
            assert_eq!(start(&mut apart.fork()), "forward");
        }
    }
    // Another swarm's setting is nobody else's.
    let mut world = running(Life::Idle);
    world.set_safety(OPERATOR, &Scope::new("osprey", "ALL", "ALL"), Safety::EmergencyStop);
    world.set_kill(OPERATOR, &Scope::new("osprey", "ALL", "ALL"), Kill::Block);
    assert_eq!(start(&mut world), "forward");
}

#[test]
fn flatten_stops_what_runs_and_nothing_else() {
    for life in [Life::Created, Life::Idle, Life::Paper, Life::Shadow, Life::Live, Life::Quarantined] {
        let mut world = running(life);
        let (_, heard) = world.set_kill(OPERATOR, &fleet(), Kill::Flatten);
        assert!(heard.carried("bot-stop"), "{life}");
        let expected = if life.runs() { Life::Stopping } else { life };
        assert_eq!(world.life(0), Some(expected), "{life}");
        let stops = heard.bodies("signal.bot-stop.");
        let own =
            |body: &Value| body["origin"].as_str().is_some_and(|origin| origin.starts_with("swarmgate:"));
        assert!(stops.len() == 1 && own(&stops[0]), "{life}: {stops:?}");
        let correlation = stops[0]["correlationId"].as_str().expect("a correlationId").to_owned();
        world.outcome("bot-stop", &bot(0), &correlation, "Stopped");
        let expected = if life.runs() { Life::Idle } else { life };
        assert_eq!(world.life(0), Some(expected), "{life}");
    }
}

#[test]
fn a_gate_that_has_expired_or_was_never_heard_of_is_unknown() {
    let mut world = World::new(adapter::rules(Requires::Explicit));
    world.status(&bot(0));
    let init = json!({ "requestedTransition": "CREATED->IDLE" });
    let heard = world.fork().signal(OPERATOR, "bot-init", &bot(0), &init).1;
    assert_eq!(heard.words(), "refuse safety.gate-unknown");
    let data = json!({ "gate": adapter::GATE, "result": "PASS", "expiresAt": "2026-03-04T10:16:00Z" });
    assert_eq!(world.signal("probe", "gate-report", &fleet(), &data).1.words(), "forward");
    let init = world.signal(OPERATOR, "bot-init", &bot(0), &init).0;
    world.outcome("bot-init", &bot(0), &init.correlation, "Created");
    assert_eq!(start(&mut world.fork()), "forward");
    world.wait(120_000);
    assert_eq!(start(&mut world.fork()), "refuse safety.gate-unknown");
}

#[test]
fn pass_over_fail_is_loosening() {
    let mut world = running(Life::Idle);
    world.report(OPERATOR, Gate::Fail);
    for gate in [Gate::Pass, Gate::Warn] {
        let mut fork = world.fork();
        let (ticket, heard) = fork.report("somebody", gate);
        assert_eq!(heard.words(), "challenge consent.challenge-required", "{gate:?} over FAIL");
        assert_eq!(start(&mut fork.fork()), "refuse safety.gate-failed", "{gate:?} over FAIL, unconfirmed");
        let id = ticket.challenge.clone().unwrap_or_default();
        assert_eq!(fork.consent("somebody", "confirm", &ticket, &id).words(), "forward");
        assert_eq!(start(&mut fork), "forward", "{gate:?} over FAIL, confirmed");
    }
}

/// A world of those rules, with an instance in IDLE, and what made it so forgotten by the gate.
pub fn running_by(rules: swarmgate::decision::rules::Rules) -> World {
    let reporter = rules.safety.gate_reporters.get(adapter::GATE).cloned();
    let mut world = World::new(rules);
    world.status(&bot(0));
    let data =
        json!({ "gate": adapter::GATE, "result": "PASS", "expiresAt": world.now_plus(1_000).to_string() });
    world.signal(reporter.as_deref().unwrap_or(OPERATOR), "gate-report", &fleet(), &data);
    let init =
        world.signal(OPERATOR, "bot-init", &bot(0), &json!({ "requestedTransition": "CREATED->IDLE" })).0;
    world.outcome("bot-init", &bot(0), &init.correlation, "Created");
    world.wait(2_000);
    assert_eq!(world.life(0), Some(Life::Idle), "the way there");
    world
}

/// A world with its instance there.
pub fn running(life: Life) -> World {
    let mut world = World::new(adapter::rules(Requires::Explicit));
    world.status(&bot(0));
    world.report(OPERATOR, Gate::Pass);
    if life == Life::Created {
        return world;
    }
    let mut done = |kind: &str, data: Value, status: &str| {
        let (ticket, _) = world.signal(OPERATOR, kind, &bot(0), &data);
        if let Some(id) = ticket.challenge.clone() {
            world.consent(OPERATOR, "confirm", &ticket, &id);
        }
        world.outcome(kind, &bot(0), &ticket.correlation, status);
    };
    done("bot-init", json!({ "requestedTransition": "CREATED->IDLE" }), "Created");
    if life == Life::Quarantined {
        done("bot-quarantine", json!({ "requestedTransition": "ANY->QUARANTINED" }), "Quarantined");
    }
    if life.runs() {
        let mode = life.name().trim_start_matches("RUNNING_").to_lowercase();
        done("bot-start", json!({ "requestedTransition": format!("IDLE->{life}"), "mode": mode }), "Running");
    }
    assert_eq!(world.life(0), Some(life), "the way there");
    world
}

/// What a paper start is told.
pub fn start(world: &mut World) -> String {
    let data = json!({ "requestedTransition": "IDLE->RUNNING_PAPER", "mode": "paper" });
    world.signal(OPERATOR, "bot-start", &bot(0), &data).1.words()
}
