//! What nobody confirmed takes no effect, whoever says that it did, and by whatever way around.
//!
//! Owns: every way in which a challenge ends without its confirmation, and after each a target that
//! says it has done what was never carried to it; ways around a confirmation in two steps that are
//! each harmless.
//! Never: expects of a target that it is honest.
//! Holds: live and the way out of quarantine are opened by a confirmation alone.

use serde_json::json;

use crate::{
    oracle::{Gate, Kill, Life, Safety},
    types::{running, start},
    world::{Ticket, World, bot, fleet, swarm},
};

const OPERATOR: &str = "ops-a";

/// How a challenge ends, or has not ended yet.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Open,
    Expired,
    Rejected,
    RefusedAgain,
    OvertakenByStop,
    OvertakenByMode,
    OvertakenBySwitch,
}

impl Fate {
    const ALL: [Self; 7] = [
        Self::Open,
        Self::Expired,
        Self::Rejected,
        Self::RefusedAgain,
        Self::OvertakenByStop,
        Self::OvertakenByMode,
        Self::OvertakenBySwitch,
    ];

    fn befall(self, world: &mut World, ticket: &Ticket) {
        let id = ticket.challenge.clone().expect("a challenge");
        match self {
            Self::Open => {}
            Self::Expired => drop(world.wait(61_000)),
            Self::Rejected => drop(world.consent(OPERATOR, "reject", ticket, &id)),
            Self::RefusedAgain => {
                // A gate that has failed refuses a start; a kill switch would have overtaken it.
                world.report(OPERATOR, Gate::Fail);
                world.consent(OPERATOR, "confirm", ticket, &id);
            }
            Self::OvertakenByStop => {
                let data = json!({ "requestedTransition": "ANY->IDLE" });
                world.signal(OPERATOR, "bot-pause", &bot(0), &data);
            }
            Self::OvertakenByMode => drop(world.set_safety(OPERATOR, &fleet(), Safety::Safe)),
            Self::OvertakenBySwitch => drop(world.set_kill(OPERATOR, &fleet(), Kill::CloseOnly)),
        }
    }
}

#[test]
fn a_live_start_that_nobody_confirmed_enters_nothing_but_quarantine() {
    let mut wrong = Vec::new();
    for life in [Life::Idle, Life::Paused, Life::Error] {
        for kind in ["bot-start", "bot-resume"] {
            for fate in Fate::ALL {
                let mut world = at(life);
                let data = json!({ "requestedTransition": format!("{life}->RUNNING_LIVE"), "mode": "live" });
                let (ticket, heard) = world.signal(OPERATOR, kind, &bot(0), &data);
                assert_eq!(heard.words(), "challenge consent.challenge-required");
                fate.befall(&mut world, &ticket);
                let heard = world.outcome(kind, &bot(0), &ticket.correlation, "Running");
                let after = world.life(0);
                if after != Some(Life::Quarantined) || !heard.carried("bot-stop") {
                    let stopped = if heard.carried("bot-stop") { "stopped" } else { "not stopped" };
                    wrong.push(format!(
                        "{kind} live from {life}, {fate:?}, then Running: {after:?}, {stopped}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not quarantined and stopped:\n{}", wrong.join("\n"));
}

#[test]
fn a_release_that_nobody_confirmed_opens_nothing() {
    let mut wrong = Vec::new();
    for fate in Fate::ALL.into_iter().filter(|fate| !matches!(fate, Fate::RefusedAgain)) {
        let mut world = running(Life::Quarantined);
        let data = json!({ "requestedTransition": "QUARANTINED->IDLE" });
        let (ticket, heard) = world.signal(OPERATOR, "bot-release", &bot(0), &data);
        assert_eq!(heard.words(), "challenge consent.challenge-required");
        fate.befall(&mut world, &ticket);
        world.outcome("bot-release", &bot(0), &ticket.correlation, "Released");
        if world.life(0) != Some(Life::Quarantined) {
            wrong.push(format!("bot-release, {fate:?}, then Released: {:?}", world.life(0)));
        }
    }
    assert!(wrong.is_empty(), "left quarantine:\n{}", wrong.join("\n"));
}

#[test]
fn a_confirmation_is_for_the_challenged_command_and_no_other() {
    let mut world = running(Life::Idle);
    world.status(&bot(1));
    let data = json!({ "requestedTransition": "IDLE->RUNNING_LIVE", "mode": "live" });
    let (ticket, _) = world.signal(OPERATOR, "bot-start", &bot(0), &data);
    let id = ticket.challenge.clone().expect("a challenge");
    let elsewhere = Ticket { scope: bot(1), ..ticket.clone() };
    let heard = world.consent(OPERATOR, "confirm", &elsewhere, &id);
    assert_eq!((heard.reason, heard.carried("bot-start")), (Some("consent.challenge-mismatch"), false));
    assert!(world.consent(OPERATOR, "confirm", &ticket, &id).carried("bot-start"), "it is open still");
}

#[test]
fn what_runs_in_quarantine_is_stopped_though_it_was_commanded_before() {
    let mut world = running(Life::Idle);
    let start = json!({ "requestedTransition": "IDLE->RUNNING_PAPER", "mode": "paper" });
    let (start, _) = world.signal(OPERATOR, "bot-start", &bot(0), &start);
    world.signal("ops-b", "bot-quarantine", &bot(0), &json!({ "requestedTransition": "ANY->QUARANTINED" }));
    let heard = world.outcome("bot-start", &bot(0), &start.correlation, "Running");
    assert_eq!((world.life(0), heard.carried("bot-stop")), (Some(Life::Quarantined), true));
}

#[test]
fn what_runs_uncommanded_is_set_apart_and_stopped_wherever_it_was() {
    for life in [Life::Created, Life::Idle, Life::Quarantined] {
        let mut world = running(life);
        let heard = world.outcome("bot-start", &bot(0), "c-of-nobody", "Running");
        assert_eq!(world.life(0), Some(Life::Quarantined), "{life}");
        assert!(heard.carried("bot-stop"), "{life}");
    }
}

#[test]
fn a_loosening_that_was_overtaken_by_tightening_is_void() {
    let mut world = running(Life::Idle);
    world.set_safety(OPERATOR, &fleet(), Safety::Safe);
    let (ticket, _) = world.set_safety(OPERATOR, &fleet(), Safety::Normal);
    assert_eq!(world.set_safety("ops-b", &fleet(), Safety::EmergencyStop).1.words(), "forward");
    let id = ticket.challenge.clone().expect("a challenge");
    world.consent(OPERATOR, "confirm", &ticket, &id);
    assert_eq!(
        start(&mut world),
        "refuse safety.mode",
        "from EMERGENCY_STOP to NORMAL, which nobody was asked about"
    );
}

#[test]
fn fail_is_not_washed_to_pass_in_two_steps() {
    let mut world = running(Life::Idle);
    world.report(OPERATOR, Gate::Fail);
    world.report(OPERATOR, Gate::Unknown);
    world.report(OPERATOR, Gate::Pass);
    assert_ne!(start(&mut world), "forward");
}

#[test]
fn a_release_opens_no_quarantine_that_came_after_it() {
    for tightened_between in [false, true] {
        let mut world = running(Life::Quarantined);
        let data = json!({ "requestedTransition": "QUARANTINED->IDLE" });
        let (release, _) = world.signal(OPERATOR, "bot-release", &bot(0), &data);
        let id = release.challenge.clone().expect("a challenge");
        world.consent(OPERATOR, "confirm", &release, &id);
        if tightened_between {
            // It ends the release, whose success may come late all the same.
            world.set_safety("ops-b", &fleet(), Safety::Safe);
        }
        let apart = json!({ "requestedTransition": "ANY->QUARANTINED" });
        world.signal("ops-b", "bot-quarantine", &bot(0), &apart);
        world.outcome("bot-release", &bot(0), &release.correlation, "Released");
        assert_eq!(world.life(0), Some(Life::Quarantined), "tightened between: {tightened_between}");
    }
}

#[test]
fn less_than_is_inherited_is_loosening() {
    let mut world = running(Life::Idle);
    world.set_safety(OPERATOR, &fleet(), Safety::EmergencyStop);
    let mode = world.fork().set_safety(OPERATOR, &swarm(), Safety::Safe).1.words();
    let mut world = running(Life::Idle);
    world.set_kill(OPERATOR, &fleet(), Kill::Block);
    let switch = world.set_kill(OPERATOR, &swarm(), Kill::CloseOnly).1.words();
    assert_eq!([mode, switch], ["challenge consent.challenge-required"; 2]);
}

#[test]
fn what_an_older_start_achieved_late_is_seen() {
    let mut world = running(Life::Idle);
    let start = json!({ "requestedTransition": "IDLE->RUNNING_PAPER", "mode": "paper" });
    let stop = json!({ "requestedTransition": "ANY->IDLE" });
    let older = world.signal(OPERATOR, "bot-start", &bot(0), &start).0;
    let pause = world.signal(OPERATOR, "bot-pause", &bot(0), &stop).0;
    let newer = world.signal(OPERATOR, "bot-start", &bot(0), &start).0;
    world.outcome("bot-start", &bot(0), &newer.correlation, "Running");
    world.outcome("bot-pause", &bot(0), &pause.correlation, "Paused");
    assert_eq!(world.life(0), Some(Life::Paused));
    world.outcome("bot-start", &bot(0), &older.correlation, "Running");
    assert_ne!(world.life(0), Some(Life::Paused), "it says that it runs");
}

#[test]
fn a_stop_ends_no_error_and_no_run_that_came_after_it() {
    let stop = json!({ "requestedTransition": "ANY->IDLE" });
    let mut world = running(Life::Live);
    let ticket = world.signal(OPERATOR, "bot-stop", &bot(0), &stop).0;
    world.fatal(&bot(0));
    world.outcome("bot-stop", &bot(0), &ticket.correlation, "Stopped");
    assert_eq!(world.life(0), Some(Life::Error), "nobody looked at the error");
    let mut world = running(Life::Idle);
    let ticket = world.signal(OPERATOR, "bot-stop", &bot(0), &stop).0;
    let start = json!({ "requestedTransition": "IDLE->RUNNING_PAPER", "mode": "paper" });
    let start = world.signal(OPERATOR, "bot-start", &bot(0), &start).0;
    world.outcome("bot-start", &bot(0), &start.correlation, "Running");
    world.outcome("bot-stop", &bot(0), &ticket.correlation, "Stopped");
    assert_eq!(world.life(0), Some(Life::Paper), "it was told to stop before it ran");
}

#[test]
fn what_runs_live_and_is_not_heard_of_is_set_apart_and_stopped() {
    for (life, mode) in [(Life::Live, Some(Life::Quarantined)), (Life::Paper, Some(Life::Paper))] {
        let mut world = running(life);
        world.wait(299_000);
        world.measured();
        assert_eq!(world.life(0), Some(life), "{life}: five minutes are not over");
        world.status(&bot(0));
        world.wait(299_000);
        world.measured();
        assert_eq!(world.life(0), Some(life), "{life}: it was heard since");
        world.wait(2_000);
        let heard = world.measured();
        assert_eq!((world.life(0), heard.carried("bot-stop")), (mode, life == Life::Live), "{life}");
    }
}

/// IDLE, or where a paper run has left the instance.
fn at(life: Life) -> World {
    if life == Life::Idle {
        return running(life);
    }
    let mut world = running(Life::Paper);
    if life == Life::Error {
        world.fatal(&bot(0));
    } else {
        let data = json!({ "requestedTransition": "RUNNING_PAPER->PAUSED" });
        let (ticket, _) = world.signal(OPERATOR, "bot-pause", &bot(0), &data);
        world.outcome("bot-pause", &bot(0), &ticket.correlation, "Paused");
    }
    assert_eq!(world.life(0), Some(life), "the way there");
    world
}
