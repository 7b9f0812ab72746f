//! A flood of what each bound is for: at a twentieth of the default bounds (a fortieth, where that
//! takes too long) the process grows by no more than that part of 256 MiB, and no further once the
//! bound is met.

use std::fs;

use serde_json::json;
use swarmgate::{contract::interlock::KillSwitch, decision::rules::Rules};

use super::world::{World, message};

const GROWTH_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What an allocator may take on the way without keeping more of ours.
const NOISE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A part of every default.
fn part(rules: &mut Rules, part: usize) {
    let memory = &mut rules.memory;
    for bound in [
        &mut rules.idempotency_keys_max,
        &mut rules.inventory.instances_max,
        &mut rules.parking_total_max,
        &mut rules.parking_bytes_max,
        &mut rules.refusals_senders_max,
        &mut rules.targets_max,
        &mut memory.flights_max,
        &mut memory.stops_max,
        &mut memory.texts_bytes_max,
        &mut memory.targets_max,
        &mut memory.applied_bytes_max,
        &mut memory.challenges_max,
        &mut memory.unreviewed_max,
        &mut memory.gates_max,
        &mut memory.swarms_max,
        &mut memory.approvals_max,
        &mut memory.suspended_max,
        &mut memory.counted_max,
        &mut memory.alerts_max,
    ] {
        *bound /= part;
    }
}

/// What the process has of the machine's memory, in bytes.
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("the process' own status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("KiB");
    kib * 1024
}

/// Floods until `bound` was met long ago; a stop passes still.
fn flood(bound: &str, count: usize, set: impl FnOnce(&mut Rules), say: impl FnMut(&mut World, usize)) {
    flood_of(20, bound, count, set, say);
}

fn flood_of(
    share: usize,
    bound: &str,
    count: usize,
    set: impl FnOnce(&mut Rules),
    mut say: impl FnMut(&mut World, usize),
) {
    let mut world = World::flooded(|rules| {
        part(rules, share);
        set(rules);
    });
    world.stop("kestrel/worker/w-0");
    let before = resident_bytes();
    for number in 1..=count {
        say(&mut world, number);
    }
    let full = resident_bytes();
    assert!(world.hits(bound) > 0, "`{bound}` was not met by {count}");
    for number in count + 1..=count + count / 2 {
        say(&mut world, number);
    }
    assert!(world.stop("kestrel/worker/w-1").passed());
    world.holds();
    let (filled, further) = (full.saturating_sub(before), resident_bytes().saturating_sub(full));
    println!("{bound}: {} KiB, and {} KiB further", filled / 1024, further / 1024);
    assert!(filled <= GROWTH_BYTES_MAX / share, "{bound}: {filled} bytes");
    assert!(further <= NOISE_BYTES_MAX, "{bound}: {further} bytes more at the bound");
}

fn invented(number: usize) -> String {
    format!("swarm-{}/worker/invented-{number}", number % 50)
}

#[test]
fn of_outcomes_and_alerts() {
    flood_of(
        40,
        "results",
        51_000,
        |_| {},
        |world, number| {
            let who = invented(number % 4_000);
            let told = match number % 2 {
                0 => world.alert(&who, "disk.full"),
                _ => world.outcome(&who, "config-update", &format!("c-{number}"), "Applied"),
            };
            assert!(told.passed());
        },
    );
}

#[test]
fn of_bots_that_run_unasked() {
    flood(
        "bots",
        11_000,
        |_| {},
        |world, number| {
            assert!(world.outcome(&invented(number), "bot-start", "c-none", "Running").passed());
        },
    );
}

#[test]
fn of_statuses() {
    flood(
        "known",
        5_500,
        |_| {},
        |world, number| {
            assert!(world.status(&invented(number), &json!({ "number": number })).passed());
        },
    );
}

#[test]
fn of_stops() {
    flood("stops", 6_000, |_| {}, |world, number| assert!(world.stop(&invented(number)).passed()));
}

#[test]
fn of_commands() {
    flood(
        "flights",
        5_500,
        |_| {},
        |world, number| {
            let data = json!({ "text": "x".repeat(200) });
            world.signal("orc-a", "config-update", &invented(number), &data);
        },
    );
}

#[test]
fn of_keys() {
    flood_of(
        40,
        "commands",
        26_000,
        |_| {},
        |world, number| {
            // It is answered at once, so that its key alone is kept.
            let report = json!({ "gate": "risk", "result": "PASS" });
            let told = world.signal("risk", "gate-report", "ALL/ALL/ALL", &report);
            assert!(told.passed() || told.is_full(), "{number}: {told:?}");
        },
    );
}

#[test]
fn of_config_updates_that_are_applied() {
    flood(
        "applied-bytes",
        5_500,
        |_| {},
        |world, number| {
            let data = json!({ "text": "x".repeat(1_000) });
            assert!(world.signal("orc-a", "config-update", &invented(number), &data).passed());
            let trace = world.trace();
            assert!(world.outcome(&invented(number), "config-update", &trace, "Applied").passed());
        },
    );
}

#[test]
fn of_large_config_updates_that_nobody_answers() {
    flood(
        "texts",
        1_000,
        |_| {},
        |world, number| {
            let data = json!({ "text": "x".repeat(7_000) });
            assert!(world.signal("orc-a", "config-update", &invented(number), &data).passed());
        },
    );
}

#[test]
fn of_dangerous_commands() {
    flood(
        "held",
        6_000,
        // What waits is met before what is in flight.
        |rules| rules.memory.flights_max = 10_000,
        |world, number| {
            world.signal("orc-a", "data-delete", &invented(number), &json!({ "reason": "x".repeat(500) }));
        },
    );
}

#[test]
fn of_challenges() {
    flood(
        "challenges",
        5_500,
        |rules| rules.consent.window_ms = 1,
        |world, number| {
            world.signal("orc-a", "data-delete", &invented(number), &json!({ "reason": "x" }));
            world.pass(2);
        },
    );
}

#[test]
fn of_answers_to_a_fan_out() {
    flood(
        "targets",
        600,
        |_| {},
        |world, number| {
            // Its deadline has not passed within the flood.
            if number == 1 {
                assert!(world.signal("orc-a", "config-update", "ALL/ALL/ALL", &json!({})).passed());
            }
            assert!(world.outcome(&invented(number), "config-update", "c-2", "Applied").passed());
        },
    );
}

#[test]
fn of_sessions() {
    let bundle =
        json!({ "keyId": "k-1", "secretMode": "generated", "kdf": "none", "createdAtEpoch": 1_772_619_300 });
    flood(
        "sessions",
        5_500,
        |rules| rules.memory.flights_max = 10_000,
        move |world, number| {
            world.signal("orc-a", "bootstrap-bundle", &invented(number), &bundle);
        },
    );
}

#[test]
fn of_settings() {
    flood(
        "settings",
        600,
        |_| {},
        |world, number| {
            let data = json!({ "level": KillSwitch::CloseOnly, "reason": "x" });
            assert!(world.signal("ann", "kill-switch-set", &format!("s-{number}/ALL/ALL"), &data).passed());
        },
    );
}

#[test]
fn of_gates() {
    flood(
        "gates",
        300,
        |_| {},
        |world, number| {
            let report = json!({ "gate": format!("gate-{number}"), "result": "FAIL" });
            world.signal("risk", "gate-report", "ALL/ALL/ALL", &report);
        },
    );
}

#[test]
fn of_forged_senders() {
    flood(
        "refusals",
        2_000,
        |_| {},
        |world, number| {
            let mut forged = message(world.now, "signal", "bot-start", "x", "a/b/c", Some("c"), &json!({}));
            forged.properties.user_id = Some(format!("sender-{number}"));
            world.tell(&forged, false);
            // A second has more than a thousand of them.
            world.pass(0);
        },
    );
}

#[test]
fn of_alerts() {
    flood(
        "alerts",
        1_000,
        |_| {},
        |world, number| {
            world.start(&format!("sender-{number}"), "kestrel/worker/w-1");
        },
    );
}

#[test]
fn of_storms() {
    let set = |rules: &mut Rules| {
        rules.safety.interlocks.commands_max = Some(1);
        rules.safety.interlocks.suspend_ms = 6 * 24 * 60 * 60 * 1000;
        // The keys have a flood of their own.
        rules.idempotency_window_ms = 60_000;
    };
    flood("suspended", 5_500, set, |world, number| {
        for _ in 0..2 {
            world.signal(&format!("storm-{number}"), "status-request", "kestrel/worker/w-1", &json!({}));
        }
        // Within a window no more are counted apart.
        if number % 450 == 0 {
            world.pass(61_000);
        }
    });
}
