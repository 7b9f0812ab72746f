//! Stories on which the router and the oracle once differed.
//!
//! Owns: each such story, as short as it can be told, and what was read from the text then.
//! Never: goes away when the stories that seeds make change.
//! Holds: the two agree on every word of each.

use crate::{
    oracle::{Kill, Life, Safety},
    player::{Player, play},
    words::{At, CONTROLLER, Word},
};

const BOT: At = At::Bot(0);

fn told(story: &[Word]) {
    if let Some(difference) = play(false, story) {
        panic!("they differ:\n{difference}");
    }
}

const fn ask(kind: &'static str, mode: Option<&'static str>, at: At) -> Word {
    Word::Ask { kind, mode, at, actor: 0, agrees: true }
}

const fn mode(mode: Safety, global: bool) -> Word {
    Word::Mode { mode, global, actor: 0 }
}

const fn confirm(nth: usize) -> Word {
    Word::Confirm { nth, actor: 1 }
}

const DONE: Word = Word::Answer { nth: 0, success: true };
const WAIT: Word = Word::Wait { ms: 200_000 };

/// Seed 51888 of the targets that lie. An answer to a command is no monitoring.
#[test]
fn a_live_bot_that_only_answers_commands_is_silent() {
    let answers = |success| Word::Answer { nth: 0, success };
    told(&[
        ask("bot-init", None, At::Bot(1)),
        DONE,
        ask("bot-resume", Some("live"), At::Bot(1)),
        ask("swarm-plan", None, At::Bot(CONTROLLER)),
        ask("stop", None, At::Bot(CONTROLLER)),
        confirm(0),
        Word::Switch { level: Kill::Flatten, global: true, actor: 0 },
        Word::Answer { nth: 3, success: true },
        WAIT,
        Word::Wait { ms: 61_000 },
        Word::Wait { ms: 61_000 },
        answers(false),
        answers(true),
        Word::Look,
    ]);
}

/// Seed 39195. What was a loosening when it was asked for may tighten when it is confirmed.
#[test]
fn a_confirmed_setting_that_changes_nothing_voids_what_waits_in_its_scope() {
    told(&[
        mode(Safety::EmergencyStop, true),
        mode(Safety::Safe, true),
        mode(Safety::Safe, false),
        mode(Safety::Safe, true),
        confirm(0),
        confirm(2),
        confirm(1),
    ]);
}

/// Of the same kind: SAFE, confirmed when all is NORMAL again, ends a start.
#[test]
fn a_confirmed_setting_that_tightens_ends_what_starts() {
    told(&[
        ask("bot-init", None, BOT),
        DONE,
        mode(Safety::EmergencyStop, true),
        mode(Safety::Safe, true),
        mode(Safety::Normal, true),
        confirm(0),
        ask("bot-start", Some("paper"), BOT),
        confirm(1),
        mode(Safety::Normal, true),
        confirm(0),
        ask("bot-start", Some("paper"), BOT),
    ]);
}

/// What somebody else says to a bot shows nothing of it.
#[test]
fn a_bundle_or_work_for_a_silent_live_bot_does_not_make_it_heard() {
    let start = [ask("bot-start", Some("live"), BOT), confirm(0), DONE, WAIT];
    let bundled = [ask("bootstrap-bundle", None, BOT), WAIT, Word::Look];
    let worked = [ask("start-work", None, BOT), WAIT, Word::Look];
    let init = [ask("bot-init", None, BOT), DONE];
    let ready = [ask("bootstrap-bundle", None, BOT), Word::Worker { kind: "ready", bot: 0 }];
    for story in [[&init[..], &start, &bundled].concat(), [&init[..], &ready, &start, &worked].concat()] {
        told(&story);
        let mut player = Player::new(false);
        story.iter().for_each(|word| drop(player.tell(*word)));
        assert_eq!(player.real()[0], Some(Life::Quarantined), "{story:?}");
    }
}
