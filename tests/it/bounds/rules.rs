//! One below each bound, at it, and one beyond; and a stop at it.

use serde_json::json;
use swarmgate::{
    contract::{
        audit::{Change, Verdict},
        digest::Digest,
        interlock::{KillSwitch, Life, Requires, SafetyMode},
        reason::Reason,
        routing::{ALL, Scope},
    },
    decision::{rules::consent::StandingApproval, state::inventory::Drift},
};

use super::world::{Told, World, message, result, scope};

fn worker(number: usize) -> String {
    format!("kestrel/worker/w-{number}")
}

fn everything() -> Scope {
    Scope::new(ALL, ALL, ALL)
}

fn delete(world: &mut World, number: usize) -> Told {
    world.signal("orc-a", "data-delete", &worker(number), &json!({ "reason": "clean up" }))
}

/// The id of the challenge that a message was answered with.
fn challenge(told: &Told) -> String {
    let bodies = told.judged.outgoing.iter().map(|outgoing| &outgoing.message.body);
    let mut bodies = bodies.filter_map(|body| serde_json::from_slice::<serde_json::Value>(body).ok());
    let id = bodies.find_map(|body| body["data"]["context"]["challengeId"].as_str().map(str::to_owned));
    id.expect("a challenge")
}

fn answer(world: &mut World, who: &str, kind_type: &str, id: &str, glass: bool) -> Told {
    let mut data = json!({ "challengeId": id, "reason": "looked at" });
    if glass {
        data["breakGlass"] = json!(true);
    }
    world.signal(who, kind_type, "swarmgate/router/gate-1", &data)
}

#[test]
fn commands_beyond_the_keys_are_refused_and_a_stop_is_carried_untracked() {
    let mut world = World::new(|rules| rules.idempotency_keys_max = 2);
    assert!(
        (1..3).all(|number| world.signal("orc-a", "config-update", &worker(number), &json!({})).passed())
    );
    let refused = world.signal("orc-a", "config-update", &worker(3), &json!({}));
    assert!(refused.is_full() && refused.alerts("commands"), "{refused:?}");
    let stop = world.stop(&worker(4));
    assert!(stop.passed() && !stop.alerts("commands"), "told once");
    assert_eq!((world.state().keys(), world.state().commands_in_flight(), world.hits("commands")), (2, 2, 2));
    world.holds();
}

#[test]
fn commands_in_flight_are_bounded_also_where_they_outlive_their_keys() {
    let mut world = World::new(|rules| {
        (rules.memory.flights_max, rules.idempotency_window_ms) = (2, 1_000);
    });
    assert!(
        (1..3).all(|number| world.signal("orc-a", "config-update", &worker(number), &json!({})).passed())
    );
    world.pass(5_000);
    let refused = world.signal("orc-a", "config-update", &worker(3), &json!({}));
    assert!(refused.is_full() && refused.alerts("flights"), "{refused:?}");
    assert!(world.stop(&worker(4)).passed());
    // What nobody waits for needs no place among them.
    let report = json!({ "gate": "risk", "result": "PASS" });
    assert!(world.signal("risk", "gate-report", "ALL/ALL/ALL", &report).passed());
    assert_eq!(world.state().commands_in_flight(), 2);
    world.pass(60_000);
    assert!(world.signal("orc-a", "config-update", &worker(3), &json!({})).passed(), "they have ended");
    world.holds();
}

/// Whoever fills that room with what is no stop leaves a stop to an absent bot its place to wait.
#[test]
fn stops_have_room_in_flight_that_nothing_else_takes() {
    let mut world = World::new(|rules| rules.memory.flights_max = 10);
    assert!(
        (1..11).all(|number| world.signal("orc-a", "config-update", &worker(number), &json!({})).passed())
    );
    assert!(world.signal("orc-a", "config-update", &worker(11), &json!({})).is_full());
    let mut unproven = |number, name: &str| {
        let data = json!({ "requestedTransition": "ANY->IDLE" });
        let mut stop = message(world.now, "signal", "bot-stop", "orc-b", &worker(number), Some(name), &data);
        stop.properties.user_id = None;
        assert!(world.tell(&stop, false).passed());
        (world.state().commands_in_flight(), world.hits("flights"))
    };
    assert_eq!(unproven(12, "c-unproven-1"), (11, 1));
    assert_eq!(unproven(13, "c-unproven-2").0, 11, "carried, and not waited for");
    assert!(world.stop(&worker(14)).passed());
    assert_eq!(world.state().commands_in_flight(), 12, "no unproven stop takes a proven one's room");
    assert!(world.stop(&worker(15)).passed(), "carried, and not waited for");
    assert_eq!(world.state().commands_in_flight(), 12);
    world.holds();
}

#[test]
fn outcomes_beyond_the_bound_are_carried_and_not_recognised_again() {
    let mut world = World::new(|rules| rules.idempotency_keys_max = 1);
    let said: Vec<_> = (1..4)
        .map(|number| {
            let data = json!({ "status": "Applied", "retryable": false });
            result(world.now, "outcome", "config-update", &worker(number), "c", &data)
        })
        .collect();
    for message in &said {
        assert!(world.tell(message, false).passed());
    }
    assert_eq!(world.size("results").len, 2, "twice the keys");
    assert_eq!(world.tell(&said[1], true).verdict, Some(Verdict::Suppress));
    let again = world.tell(&said[2], true);
    assert!(again.passed(), "carried, not remembered");
    assert_eq!(world.hits("results"), 2);
    assert!(world.stop(&worker(1)).passed());
    world.holds();
}

#[test]
fn a_stop_beyond_the_stops_counts_for_its_swarm_then_for_all() {
    let mut world = World::new(|rules| rules.memory.stops_max = 10);
    let before = world.now;
    let start = json!({ "requestedTransition": "IDLE->RUNNING_PAPER", "mode": "paper" });
    let is_overtaken = |world: &mut World, bot: &str| {
        let told = world.signal_of(before, "orc-a", "bot-start", bot, &start);
        assert!(told.verdict == Some(Verdict::Suppress) || told.reason == Some(Reason::IllegalTransition));
        told.verdict == Some(Verdict::Suppress)
    };
    for number in 0..10 {
        assert!(world.stop(&worker(number)).passed());
        assert_eq!(world.size("stops").len, number + 1);
    }
    assert!(is_overtaken(&mut world, &worker(9)));
    assert!(!is_overtaken(&mut world, "kestrel/worker/w-99"), "each counts for itself");
    let wide = world.stop("osprey/worker/w-1");
    assert!(wide.passed() && wide.alerts("stops"));
    assert!(is_overtaken(&mut world, "osprey/worker/w-99"), "it counts for its swarm");
    assert!(!is_overtaken(&mut world, "kestrel/worker/w-99"));
    assert!(world.stop("osprey/worker/w-2").passed() && world.stop(&worker(3)).passed());
    assert_eq!(world.size("stops").len, 11, "a tenth more of swarms");
    assert!(world.stop("merlin/worker/w-1").passed());
    assert!(is_overtaken(&mut world, "kestrel/worker/w-99"), "it counts for all");
    assert_eq!((world.size("stops").len, world.hits("stops")), (12, 3));
    world.holds();
    // It leaves with its window, and so does what it stood for.
    world.pass(24 * 60 * 60 * 1000 + 1_000);
    world.status(&worker(1), &json!({}));
    assert_eq!((world.size("stops").len, world.size("leaving").len), (0, 0));
}

#[test]
fn a_stop_that_is_said_again_takes_no_more_room() {
    let mut world = World::new(|rules| rules.idempotency_keys_max = 1);
    for _ in 0..50 {
        assert!(world.stop(&worker(1)).passed());
    }
    assert_eq!((world.size("stops").len, world.size("leaving").len), (1, 2), "the stop and the first key");
    world.holds();
}

#[test]
fn targets_beyond_the_bound_are_carried_to_and_not_recorded() {
    let mut world = World::new(|rules| rules.memory.targets_max = 2);
    for number in 1..4 {
        world.status(&worker(number), &json!({}));
    }
    let asked = world.signal("orc-a", "config-update", "kestrel/worker/ALL", &json!({ "a": 1 }));
    assert!(asked.passed() && asked.alerts("targets"));
    let trace = world.trace();
    let targets =
        |world: &World| world.state().flights().map(|flight| flight.targets.len()).collect::<Vec<_>>();
    assert_eq!(targets(&world), [2]);
    let unknown = world.outcome("kestrel/worker/evil", "config-update", &trace, "Applied");
    assert!(unknown.passed());
    assert_eq!(
        (targets(&world), world.hits("targets")),
        (vec![2], 2),
        "its answer is written and not counted"
    );
    assert!(world.stop("kestrel/ALL/ALL").passed());
    assert_eq!(targets(&world), [0, 2]);
    world.holds();
}

#[test]
fn what_there_is_no_room_to_keep_of_a_command_is_unknown_or_refused() {
    let mut world = World::new(|rules| rules.memory.texts_bytes_max = 700);
    let change = |world: &mut World| {
        let told = world.signal("orc-a", "config-update", &worker(1), &json!({ "text": "x".repeat(300) }));
        let patch = world.state().flights().next().and_then(|flight| flight.patch.clone());
        (told, patch.map(|patch| patch.len()))
    };
    let (first, kept) = change(&mut world);
    assert!(first.passed() && kept > Some(300), "{kept:?}");
    let (second, kept) = change(&mut world);
    assert!(second.passed() && second.alerts("texts") && kept == Some(0), "{kept:?}");
    let dangerous = delete(&mut world, 2);
    assert!(dangerous.is_full(), "{:?}", dangerous.reason);
    assert!(world.stop(&worker(1)).passed());
    assert!(world.size("flights.texts_bytes").len <= 700);
    world.holds();
}

#[test]
fn a_dangerous_command_for_which_there_is_no_room_to_wait_is_refused() {
    let mut world = World::new(|rules| rules.parking_bytes_max = 700);
    assert_eq!(delete(&mut world, 1).verdict, Some(Verdict::Challenge));
    assert_eq!(delete(&mut world, 2).verdict, Some(Verdict::Challenge));
    let refused = delete(&mut world, 3);
    assert!(refused.is_full() && refused.alerts("held"), "{refused:?}");
    assert!(world.size("kept_bytes").len <= 700 && world.stop(&worker(3)).passed());
    world.holds();
}

#[test]
fn challenges_beyond_the_bound_are_not_issued() {
    let mut world = World::new(|rules| rules.memory.challenges_max = 2);
    let first = delete(&mut world, 1);
    let id = challenge(&first);
    assert_eq!(delete(&mut world, 2).verdict, Some(Verdict::Challenge));
    let refused = delete(&mut world, 3);
    assert!(refused.is_full() && refused.alerts("challenges"), "{refused:?}");
    assert!(answer(&mut world, "orc-a", "challenge-reject", &id, false).passed());
    assert!(delete(&mut world, 3).is_full(), "one that is over is remembered");
    assert!(world.stop(&worker(1)).passed());
    world.holds();
    world.pass(24 * 60 * 60 * 1000 + 61_000);
    assert!(world.stop(&worker(1)).passed());
    assert_eq!(delete(&mut world, 3).verdict, Some(Verdict::Challenge), "they have left");
}

#[test]
fn break_glass_is_refused_while_too_many_uses_wait_for_their_review() {
    let mut world = World::new(|rules| {
        rules.memory.unreviewed_max = 1;
        rules.consent.requires = Requires::SecondPerson;
        rules.consent.break_glass = vec!["orc-a".to_owned()];
    });
    let (first, second) = (delete(&mut world, 1), delete(&mut world, 2));
    let (first, second) = (challenge(&first), challenge(&second));
    assert!(answer(&mut world, "orc-a", "challenge-confirm", &first, true).passed());
    let refused = answer(&mut world, "orc-a", "challenge-confirm", &second, true);
    assert!(refused.is_full() && refused.alerts("unreviewed"), "{refused:?}");
    assert!(world.stop(&worker(1)).passed());
    // It is reviewed once it is over.
    assert!(world.outcome(&worker(1), "data-delete", "c-1", "Applied").passed());
    assert!(answer(&mut world, "ann", "challenge-confirm", &first, false).passed(), "the review");
    assert!(answer(&mut world, "orc-a", "challenge-confirm", &second, true).passed());
    world.holds();
}

#[test]
fn a_standing_approval_that_cannot_be_counted_stands_for_nobody() {
    let mut plain = World::new(|_| {});
    let asked = [delete(&mut plain, 1), delete(&mut plain, 2)];
    let hashes = asked.iter().map(|told| match &told.judged.sealed[0].entry.fact.change {
        Change::Challenged(challenged) => challenged.accepted.compared,
        other => panic!("{other:?}"),
    });
    let hashes: Vec<Digest> = hashes.collect();
    let mut world = World::new(|rules| {
        rules.memory.approvals_max = 1;
        rules.consent.requires = Requires::SecondPerson;
        let standing = |(name, command): (&str, &Digest)| StandingApproval {
            name: name.to_owned(),
            command: *command,
            expires_at: plain.now.plus_ms(60_000),
            uses_max: 10,
        };
        rules.consent.standing = ["one", "two"].into_iter().zip(&hashes).map(standing).collect();
    });
    let (first, second) = (delete(&mut world, 1), delete(&mut world, 2));
    let (first, second) = (challenge(&first), challenge(&second));
    assert!(answer(&mut world, "orc-a", "challenge-confirm", &first, false).passed());
    let refused = answer(&mut world, "orc-a", "challenge-confirm", &second, false);
    assert_eq!(refused.reason, Some(Reason::SelfConfirm));
    assert_eq!((world.size("standing_uses").len, world.stop(&worker(2)).passed()), (1, true));
    world.holds();
}

#[test]
fn an_instance_beyond_the_bound_is_carried_and_not_known() {
    let mut world = World::new(|rules| rules.inventory.instances_max = 2);
    assert!(world.status(&worker(1), &json!({})).passed() && world.status(&worker(2), &json!({})).passed());
    let further = world.status(&worker(3), &json!({}));
    assert!(further.passed() && further.alerts("known"));
    assert_eq!((world.state().known_count(), world.size("inventory.instances").len), (2, 2));
    assert!(world.stop(&worker(3)).passed());
    world.holds();
}

#[test]
fn the_session_of_a_worker_beyond_the_bound_is_not_begun() {
    let mut world = World::new(|rules| rules.inventory.instances_max = 2);
    let bundle =
        json!({ "keyId": "k-1", "secretMode": "generated", "kdf": "none", "createdAtEpoch": 1_772_619_300 });
    let begin =
        |world: &mut World, number| world.signal("orc-a", "bootstrap-bundle", &worker(number), &bundle);
    assert!(begin(&mut world, 1).passed() && begin(&mut world, 2).passed());
    let refused = begin(&mut world, 3);
    assert!(refused.is_full() && refused.alerts("sessions"), "{refused:?}");
    assert!(world.signal("orc-a", "stop", &worker(1), &json!({})).passed());
    assert!(begin(&mut world, 1).passed(), "one that is remembered begins its next");
    assert!(world.signal("orc-a", "stop", &worker(3), &json!({})).passed());
    world.holds();
}

#[test]
fn a_quarantine_beyond_the_bots_is_its_swarms() {
    // Twice as many bots.
    let mut world = World::new(|rules| rules.inventory.instances_max = 1);
    assert!(world.init(&worker(1)).passed() && world.init(&worker(2)).passed());
    assert_eq!(world.size("bots").len, 2);
    let refused = world.init(&worker(3));
    assert!(refused.is_full() && refused.alerts("bots"), "{refused:?}");
    assert!(world.start("orc-a", &worker(1)).passed(), "what is remembered goes on");
    assert_eq!(world.life(&worker(4)), Life::Created);
    let told = world.outcome(&worker(3), "bot-start", "c-none", "Running");
    assert!(told.passed());
    let stops = told.judged.outgoing.iter().map(|outgoing| outgoing.message.routing_key.as_str());
    assert!(stops.into_iter().any(|key| key == "signal.bot-stop.kestrel.worker.w-3"), "it is told to stop");
    let lives = [3, 4, 1].map(|number| world.life(&worker(number)));
    assert_eq!(lives, [Life::Quarantined, Life::Quarantined, Life::Idle]);
    assert_eq!(world.life("osprey/worker/w-1"), Life::Created, "another swarm");
    assert_eq!(world.init(&worker(5)).reason, Some(Reason::Quarantined));
    let all = world.signal("orc-a", "config-update", "kestrel/worker/ALL", &json!({}));
    assert_eq!(all.reason, Some(Reason::Quarantined), "it would reach them");
    let release = json!({ "requestedTransition": "QUARANTINED->IDLE", "reason": "looked at" });
    assert!(world.signal("orc-a", "bot-release", &worker(3), &release).is_full());
    let quarantine = json!({ "reason": "drill" });
    assert!(world.signal("orc-a", "bot-quarantine", "osprey/worker/w-7", &quarantine).passed());
    assert_eq!(world.life("osprey/worker/w-8"), Life::Quarantined);
    assert!(world.stop(&worker(9)).passed());
    assert_eq!((world.size("bots").len, world.size("quarantines").len), (2, 2));
    world.holds();
}

#[test]
fn a_quarantine_beyond_the_swarms_is_everybodys() {
    let mut world = World::new(|rules| {
        (rules.inventory.instances_max, rules.memory.swarms_max) = (1, 1);
    });
    assert!(world.init(&worker(1)).passed() && world.init(&worker(2)).passed());
    world.outcome("osprey/worker/w-1", "bot-start", "c-none", "Running");
    assert_eq!(world.life("merlin/worker/w-1"), Life::Created);
    world.outcome("harrier/worker/w-1", "bot-start", "c-none", "Running");
    assert_eq!((world.life("merlin/worker/w-1"), world.life(&worker(1))), (Life::Quarantined, Life::Idle));
    assert_eq!(world.size("quarantines").len, 2, "one more is for all");
    assert!(world.stop("merlin/worker/w-1").passed());
    world.holds();
}

#[test]
fn what_tightens_a_swarm_beyond_the_settings_tightens_all_and_nothing_loosens_one() {
    let mut world = World::new(|rules| rules.memory.swarms_max = 1);
    let set = |world: &mut World, swarm: &str, level: &str| {
        let data = json!({ "level": level, "reason": "drill" });
        world.signal("orc-a", "kill-switch-set", &format!("{swarm}/ALL/ALL"), &data)
    };
    assert!(set(&mut world, "kestrel", "CLOSE_ONLY").passed());
    assert_eq!(world.state().safety().kill_switch(&Scope::new("osprey", ALL, ALL)), KillSwitch::Allow);
    let wide = set(&mut world, "osprey", "FLATTEN");
    assert!(wide.passed() && wide.alerts("settings"), "{wide:?}");
    assert_eq!(world.state().safety().kill_switch(&Scope::new("merlin", ALL, ALL)), KillSwitch::Flatten);
    let stops = wide.judged.outgoing.iter().map(|outgoing| outgoing.message.routing_key.as_str());
    assert!(stops.into_iter().any(|key| key == "signal.bot-stop.ALL.ALL.ALL"), "all are told to stop");
    assert!(set(&mut world, "osprey", "ALLOW").is_full());
    let mode = json!({ "mode": "SAFE", "reason": "drill" });
    assert!(world.signal("orc-a", "safety-set", "merlin/ALL/ALL", &mode).passed());
    assert_eq!(world.state().safety().mode(&everything()), SafetyMode::Safe);
    assert_eq!(set(&mut world, "kestrel", "ALLOW").verdict, Some(Verdict::Challenge), "its own setting");
    assert_eq!(set(&mut world, ALL, "ALLOW").verdict, Some(Verdict::Challenge), "that of all");
    assert!(world.stop(&worker(1)).passed());
    assert_eq!(world.size("safety.swarms").len, 1);
    world.holds();
}

#[test]
fn alerts_are_switched_off_for_so_many_swarms_only() {
    let mut world = World::new(|rules| rules.memory.swarms_max = 1);
    let disable = |world: &mut World, swarm: &str| {
        let data = json!({ "reason": "drill", "expiresAt": world.now.plus_ms(60_000) });
        let told = world.signal("orc-a", "monitoring-disable", &format!("{swarm}/ALL/ALL"), &data);
        if told.verdict == Some(Verdict::Challenge) {
            let id = challenge(&told);
            assert!(answer(world, "orc-a", "challenge-confirm", &id, false).passed());
        }
        told
    };
    disable(&mut world, "kestrel");
    assert_eq!(world.size("safety.unmonitored").len, 1);
    assert!(disable(&mut world, "osprey").is_full());
    disable(&mut world, ALL);
    assert_eq!(world.size("safety.unmonitored").len, 2, "for all there is always room");
    world.pass(61_000);
    disable(&mut world, "osprey");
    assert_eq!(world.size("safety.unmonitored").len, 1, "those that are over have left");
    assert!(world.stop(&worker(1)).passed());
    world.holds();
}

#[test]
fn a_gate_beyond_the_bound_is_unknown() {
    let mut world = World::new(|rules| {
        rules.memory.gates_max = 2;
        rules.safety.gates_required = vec!["g-3".to_owned()];
    });
    let report = |world: &mut World, gate: &str, result: &str| {
        world.signal("risk", "gate-report", "ALL/ALL/ALL", &json!({ "gate": gate, "result": result }))
    };
    assert!(report(&mut world, "g-1", "PASS").passed() && report(&mut world, "g-2", "PASS").passed());
    let refused = report(&mut world, "g-3", "PASS");
    assert!(refused.is_full() && refused.alerts("gates"), "{refused:?}");
    let enable = json!({ "gate": "g-4", "reason": "drill" });
    assert!(world.signal("orc-a", "gate-enable", "ALL/ALL/ALL", &enable).passed());
    assert_eq!(world.size("safety.gates").len, 2);
    let started = world.signal("orc-a", "swarm-start", "kestrel/controller/c-1", &json!({}));
    assert_eq!(started.reason, Some(Reason::GateUnknown));
    assert!(report(&mut world, "g-1", "FAIL").passed() && world.stop(&worker(1)).passed());
    world.holds();
}

#[test]
fn nobody_starts_while_too_many_senders_are_suspended() {
    let mut world = World::new(|rules| {
        rules.memory.suspended_max = 1;
        rules.safety.interlocks.commands_max = Some(1);
    });
    let ask = |world: &mut World, who: &str| {
        assert!(world.signal(who, "status-request", &worker(1), &json!({})).passed());
    };
    assert!(world.init(&worker(1)).passed());
    ask(&mut world, "storm-1");
    let calm = world.start("orc-c", &worker(1));
    assert!(calm.passed(), "{calm:?}");
    world.pass(200_000);
    ask(&mut world, "storm-1");
    ask(&mut world, "storm-1");
    assert!(world.state().suspended_until("storm-1").is_some());
    ask(&mut world, "storm-2");
    ask(&mut world, "storm-2");
    assert!(world.state().suspended_until("storm-2").is_none(), "there is no room");
    let refused = world.start("orc-c", &worker(1));
    assert!(refused.is_full() && world.hits("suspended") > 1, "{refused:?}");
    assert!(world.stop(&worker(1)).passed());
    world.holds();
    world.pass(301_000);
    assert!(world.start("orc-d", &worker(1)).passed(), "it is over");
    world.holds();
}

#[test]
fn the_interlocks_count_so_many_senders_apart() {
    let mut world = World::new(|rules| {
        rules.memory.counted_max = 1;
        rules.safety.interlocks.commands_max = Some(1);
        rules.safety.interlocks.missing_outcomes_percent_max = Some(50);
    });
    for (number, who) in [(1, "orc-a"), (2, "orc-b"), (3, "orc-b")] {
        assert!(world.signal(who, "config-update", &format!("s-{number}/worker/w-1"), &json!({})).passed());
    }
    assert!(world.state().suspended_until("orc-b").is_none());
    world.pass(61_000);
    assert_eq!((world.size("meters.principals").len, world.size("meters.swarms").len), (1, 1));
    assert!(world.stop(&worker(1)).passed() && world.hits("counted") >= 2);
    world.holds();
}

#[test]
fn the_oldest_of_too_many_alerts_is_forgotten() {
    let mut world = World::new(|rules| rules.memory.alerts_max = 2);
    for who in ["ann", "bob", "cyd", "dan"] {
        let refused = world.start(who, &worker(1));
        assert_eq!(refused.reason, Some(Reason::IllegalTransition));
        assert!(world.size("alerts").len <= 2);
    }
    assert_eq!(world.hits("alerts"), 2);
    let again = world.start("ann", &worker(1));
    assert!(again.judged.outgoing.iter().any(|sent| sent.message.routing_key.starts_with("event.alert.")));
    assert!(world.stop(&worker(1)).passed());
    world.holds();
}

#[test]
fn refusals_of_too_many_senders_share_a_tally() {
    let mut world = World::new(|rules| rules.refusals_senders_max = 2);
    for number in 0..10 {
        let mut forged = message(world.now, "signal", "bot-start", "x", &worker(1), Some("c"), &json!({}));
        forged.properties.user_id = Some(format!("sender-{number}"));
        assert_eq!(world.tell(&forged, false).reason, Some(Reason::OriginMismatch));
    }
    assert!(world.size("tallies").len <= 3 && world.hits("refusals") > 0);
    assert!(world.stop(&worker(1)).passed());
    world.holds();
}

#[test]
fn what_a_further_instance_applied_is_unknown_and_never_nothing() {
    let mut number = World::new(|rules| rules.inventory.instances_max = 3);
    let mut bytes = World::new(|rules| rules.memory.applied_bytes_max = 500);
    for (world, bound) in [(&mut number, "applied"), (&mut bytes, "applied-bytes")] {
        for number in 1..10 {
            let data = json!({ "text": "x".repeat(200) });
            assert!(world.signal("orc-a", "config-update", &worker(number), &data).passed());
            let trace = world.trace();
            assert!(world.outcome(&worker(number), "config-update", &trace, "Applied").passed());
        }
        assert!(world.hits(bound) > 0, "{bound}");
        let applied = (world.size("applied").len, world.size("applied_bytes").len);
        assert!(applied.0 <= 6 && applied.1 <= 2_000, "{applied:?}");
        // The first is remembered, and has drifted; of the last nobody knows.
        let other = json!({ "text": "y" });
        for (worker, drift) in [(worker(1), Drift::Drifted), (worker(9), Drift::Unknown)] {
            world.pass(10);
            world.status(&worker, &other);
            let view = world.state().inventory().instance(&scope(&worker));
            assert_eq!(view.map(|view| view.drift), Some(drift).filter(|_| view_is_there(world, &worker)));
        }
        assert!(world.stop(&worker(9)).passed());
        world.holds();
    }
}

fn view_is_there(world: &World, worker: &str) -> bool {
    world.state().inventory().instance(&scope(worker)).is_some()
}
