//! Random stories, and what no story may ever end in.
//!
//! Owns: stories of actors, targets that lie and time that passes, made from a seed; the model's
//! answer to each word; and, beside the model, the invariants themselves, watched on nothing but
//! what went over the wire.
//! Never: tells a story that its seed does not tell again.
//! Holds: live is entered only by a confirmed command; quarantine is left only by a confirmed
//! release; a stop is always carried; nothing that starts, changes or destroys is carried in SAFE
//! or EMERGENCY_STOP; nothing dangerous is carried but on the word that confirmed it.

use std::{collections::BTreeSet, env, thread};

use serde_json::Value;

use crate::{
    oracle::{Gate, Kill, Life, Safety},
    player::{Difference, Player, shrink},
    words::{At, BOTS, CONTROLLER, Word},
    world::Heard,
};

/// Stories of the ordinary run, and of the proof.
const SEEDS: u64 = 600;
const SEEDS_PROVE: u64 = 100_000;
const WORDS_MAX: u64 = 40;
const THREADS: u64 = 2;

#[test]
fn no_story_differs_and_none_ends_badly() {
    tell_all(false);
}

#[test]
fn no_story_of_targets_that_lie_does_either() {
    tell_all(true);
}

fn tell_all(lies: bool) {
    if let Ok(seed) = env::var("INTERLOCK_SEED") {
        let seed = seed.parse().expect("INTERLOCK_SEED is a number");
        return assert!(told(seed, lies).is_none(), "{}", told(seed, lies).unwrap_or_default());
    }
    let seeds = if env::var("SWARMGATE_PROVE").is_ok() { SEEDS_PROVE } else { SEEDS };
    let tellers = (0..THREADS).map(|first| {
        thread::spawn(move || {
            (first..seeds)
                .step_by(THREADS as usize)
                .filter_map(|seed| told(seed, lies))
                .take(12)
                .collect::<Vec<_>>()
        })
    });
    let tellers: Vec<_> = tellers.collect();
    let found: Vec<String> =
        tellers.into_iter().flat_map(|teller| teller.join().expect("a teller")).collect();
    assert!(found.is_empty(), "{} stories differ:\n{}", found.len(), found.join("\n"));
}

/// Tells the story of a seed; what went wrong in it, if anything did.
fn told(seed: u64, lies: bool) -> Option<String> {
    let second_person = seed % 3 == 2;
    let story = story(seed, lies);
    let wrong = watched(second_person, &story)?;
    Some(format!("seed {seed} (second person: {second_person}):\n{wrong}"))
}

/// Tells a story to both and to the watchers.
fn watched(second_person: bool, story: &[Word]) -> Option<String> {
    let mut player = Player::new(second_person);
    let mut confirmed = BTreeSet::new();
    for (at, word) in story.iter().enumerate() {
        let before = player.real();
        let (heard, difference) = player.tell(*word);
        if let Some((expected, got)) = difference {
            let found = Difference { story: story[..=at].to_vec(), expected, got };
            return Some(shrink(second_person, found).to_string());
        }
        let mode = player.model.safety.applies();
        let after = player.real();
        let wrong =
            unconfirmed(*word, &heard, &mut confirmed).or_else(|| strict(mode, &heard)).or_else(|| {
                (0..BOTS)
                    .find_map(|number| entered(before[number], after[number], *word, &player, &confirmed))
            });
        if let Some(wrong) = wrong {
            return Some(format!("{wrong}\n    {:?}", &story[..=at]));
        }
    }
    None
}

/// What is dangerous by itself is carried on a confirmation's word only.
fn unconfirmed(word: Word, heard: &Heard, confirmed: &mut BTreeSet<String>) -> Option<String> {
    for body in heard.bodies("signal.") {
        let kind = body["type"].as_str().unwrap_or_default();
        let starts_live = matches!(kind, "bot-start" | "bot-resume") && body["data"]["mode"] == "live";
        if !starts_live && !matches!(kind, "bot-release" | "data-delete") {
            continue;
        }
        if !matches!(word, Word::Confirm { .. }) || heard.reason.is_some() {
            return Some(format!("{kind} was carried unconfirmed on {word:?}"));
        }
        confirmed.insert(correlation(&body));
    }
    None
}

/// In SAFE and EMERGENCY_STOP nothing leaves that starts, changes, frees or destroys.
fn strict(mode: Safety, heard: &Heard) -> Option<String> {
    let kinds = [
        "bot-start",
        "bot-resume",
        "swarm-start",
        "start-work",
        "config-update",
        "swarm-plan",
        "swarm-template",
        "bot-init",
        "bot-release",
        "data-delete",
    ];
    let kind = kinds.into_iter().find(|kind| heard.carried(kind))?;
    (mode != Safety::Normal).then(|| format!("{kind} was carried in {}", mode.name()))
}

/// The two doors that open only to a confirmed command.
fn entered(
    before: Option<Life>,
    after: Option<Life>,
    word: Word,
    player: &Player,
    confirmed: &BTreeSet<String>,
) -> Option<String> {
    let enters_live = before != Some(Life::Live) && after == Some(Life::Live);
    let leaves_quarantine = before == Some(Life::Quarantined) && after != Some(Life::Quarantined);
    if !enters_live && !leaves_quarantine {
        return None;
    }
    let ticket = player.model.chosen.and_then(|at| player.ticket(at));
    let by = ticket.filter(|ticket| {
        let releases = ticket.kind == "bot-release";
        let starts = matches!(ticket.kind.as_str(), "bot-start" | "bot-resume");
        let fits = if leaves_quarantine { releases && after == Some(Life::Idle) } else { starts };
        matches!(word, Word::Answer { success: true, .. }) && fits && confirmed.contains(&ticket.correlation)
    });
    by.is_none().then(|| format!("{before:?} became {after:?} on {word:?}, and nobody had confirmed that"))
}

fn correlation(body: &Value) -> String {
    body["correlationId"].as_str().unwrap_or_default().to_owned()
}

/// The story of a seed. Instances are brought to life first, most of the time: an unborn one has
/// little to tell.
fn story(seed: u64, lies: bool) -> Vec<Word> {
    let mut random = Random(seed);
    let mut words = Vec::new();
    if random.below(8) > 0 {
        for bot in 0..CONTROLLER {
            let at = At::Bot(bot);
            words.push(Word::Ask { kind: "bot-init", mode: None, at, actor: 0, agrees: true });
            words.push(Word::Answer { nth: 0, success: true });
        }
    }
    let count = 5 + random.below(WORDS_MAX - 5);
    words.extend((0..count).map(|_| word(&mut random, lies)));
    words
}

fn word(random: &mut Random, lies: bool) -> Word {
    let actor = random.below(3) as usize;
    let nth = random.below(3) as usize / 2 * random.below(4) as usize;
    let bot = random.below(CONTROLLER as u64) as usize;
    let global = random.below(2) == 0;
    match random.below(100) {
        0..40 => ask(random, bot, actor),
        40..44 if lies => Word::Lie { nth },
        91..92 if lies => Word::Uncommanded { bot },
        40..57 => Word::Answer { nth, success: random.below(6) > 0 },
        57..70 => Word::Confirm { nth, actor },
        70..72 => Word::Reject { nth, actor },
        72..76 => Word::Mode { mode: *random.of(&Safety::ALL), global, actor },
        76..80 => Word::Switch { level: *random.of(&Kill::ALL), global, actor },
        80..86 => {
            let lasts_ms = *random.of(&[30_000, 100_000, 900_000_000]);
            Word::Report { gate: *random.of(&Gate::ALL), global, lasts_ms, actor }
        }
        86..88 => Word::Fatal { bot },
        88..91 => Word::Worker { kind: random.of::<&str>(&["ready", "ready", "heartbeat"]), bot },
        91..94 => Word::Repeat { nth },
        94..96 => Word::Look,
        _ => Word::Wait { ms: *random.of(&[61_000, 95_000, 200_000]) },
    }
}

fn ask(random: &mut Random, bot: usize, actor: usize) -> Word {
    let one = At::Bot(bot);
    let several = *random.of(&[one, one, At::Bot(CONTROLLER), At::Swarm, At::Fleet]);
    let controller = *random.of(&[At::Bot(CONTROLLER), At::Bot(CONTROLLER), one]);
    let (kind, mode, at) = match random.below(30) {
        0..1 => ("bot-init", None, one),
        1..4 => ("bot-start", Some("paper"), one),
        4..5 => ("bot-start", Some("shadow"), one),
        5..8 => ("bot-start", Some("live"), one),
        8..9 => ("bot-start", None, one),
        9..10 => ("bot-resume", Some("paper"), one),
        10..12 => ("bot-resume", Some("live"), one),
        12..14 => ("bot-stop", None, several),
        14..15 => ("bot-pause", None, several),
        15..16 => ("bot-quarantine", None, several),
        16..18 => ("bot-release", None, one),
        18..20 => ("config-update", None, several),
        20..21 => ("data-delete", None, one),
        21..22 => (*random.of(&["swarm-plan", "swarm-template"]), None, controller),
        22..24 => ("swarm-start", *random.of(&[None, Some("crew")]), controller),
        24..25 => (*random.of(&["swarm-stop", "stop"]), None, several),
        25..26 => ("swarm-remove", None, controller),
        26..28 => ("bootstrap-bundle", None, one),
        _ => ("start-work", *random.of(&[None, Some("crew")]), one),
    };
    Word::Ask { kind, mode, at, actor, agrees: random.below(10) > 0 }
}

/// splitmix64, so that a seed is a story on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn of<'a, T>(&mut self, several: &'a [T]) -> &'a T {
        &several[self.below(several.len() as u64) as usize]
    }
}
