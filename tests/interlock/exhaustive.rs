//! Every story of a small world: one instance, two actors, twenty-one words, from four beginnings;
//! and of a smaller one, with eleven words, to its end.
//!
//! Owns: a breadth-first walk of the product of the model and the real corridor, with the shortest
//! story to whatever is wrong in it.
//! Never: samples.
//! Holds: two places of the walk are one where the model has them so. That merges nothing which the
//! rules tell apart: the key holds the instance's state, every setting, every command that may
//! still be answered or confirmed with its standing and order, and the challenge that a
//! confirmation would find; ids and times differ, and no rule asks for them but by deadlines, which
//! one word lets pass all at once. What the code would tell apart against the rules shows on the
//! next word, as each word is told to the real corridor at each place: verdict, reason, carriage
//! and state are compared on every edge.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    env,
};

use crate::{
    model::Model,
    oracle::{Class, Gate, Kill, Life, Safety, class},
    player::Player,
    words::{About, At, Command, Standing, Word},
};

/// How many words the ordinary run goes deep from each beginning, and the proof.
const DEPTH: usize = 3;
const DEPTH_PROVE: usize = 8;
/// How many commands may wait for an answer at a place that the walk goes on from.
const WAITING_MAX: usize = 2;

fn alphabet() -> Vec<Word> {
    let ask = |kind, mode| Word::Ask { kind, mode, at: At::Bot(0), actor: 0, agrees: true };
    vec![
        ask("bot-init", None),
        ask("bot-start", Some("paper")),
        ask("bot-start", Some("live")),
        ask("bot-resume", Some("live")),
        ask("bot-pause", None),
        STOP,
        ask("bot-quarantine", None),
        ask("bot-release", None),
        Word::Confirm { nth: 0, actor: 0 },
        Word::Confirm { nth: 0, actor: 1 },
        Word::Reject { nth: 0, actor: 1 },
        Word::Answer { nth: 0, success: true },
        Word::Answer { nth: 0, success: false },
        Word::Answer { nth: 1, success: true },
        Word::Fatal { bot: 0 },
        Word::Mode { mode: Safety::Safe, global: true, actor: 1 },
        Word::Mode { mode: Safety::Normal, global: true, actor: 0 },
        Word::Switch { level: Kill::Flatten, global: true, actor: 1 },
        report(Gate::Fail),
        report(Gate::Pass),
        Word::Wait { ms: 200_000 },
    ]
}

/// By somebody else than the requester, for a time that is over after a wait.
fn report(gate: Gate) -> Word {
    Word::Report { gate, global: true, lasts_ms: 100_000, actor: 1 }
}

const STOP: Word = Word::Ask { kind: "bot-stop", mode: None, at: At::Bot(0), actor: 1, agrees: true };

#[test]
fn requester_may_confirm() {
    walk(false, &alphabet(), depth_max());
}

#[test]
fn somebody_else_must_confirm() {
    walk(true, &alphabet(), depth_max());
}

#[test]
fn a_target_may_lie() {
    let lies = [Word::Lie { nth: 0 }, Word::Uncommanded { bot: 0 }];
    walk(false, &[alphabet().as_slice(), &lies].concat(), depth_max());
}

/// The life alone, with every setting at rest and at most two commands in flight: here the walk
/// ends because there is no new place, and not at a depth.
#[test]
fn a_life_is_walked_to_its_end() {
    let ask = |kind, mode| Word::Ask { kind, mode, at: At::Bot(0), actor: 0, agrees: true };
    let words = [
        ask("bot-init", None),
        ask("bot-start", Some("live")),
        ask("bot-pause", None),
        STOP,
        ask("bot-quarantine", None),
        ask("bot-release", None),
        Word::Confirm { nth: 0, actor: 0 },
        Word::Answer { nth: 0, success: true },
        Word::Answer { nth: 0, success: false },
        Word::Answer { nth: 1, success: true },
        Word::Fatal { bot: 0 },
    ];
    walk(false, &words, usize::MAX);
}

fn depth_max() -> usize {
    if env::var("SWARMGATE_PROVE").is_ok() { DEPTH_PROVE } else { DEPTH }
}

/// The ways to the places that the walk begins at: IDLE, live, PAUSED and quarantine, each but the
/// first far from the others.
fn beginnings(second_person: bool) -> [Vec<Word>; 4] {
    let done = Word::Answer { nth: 0, success: true };
    let ask = |kind, mode| Word::Ask { kind, mode, at: At::Bot(0), actor: 0, agrees: true };
    let confirm = Word::Confirm { nth: 0, actor: usize::from(second_person) };
    let idle = vec![ask("bot-init", None), done];
    let with = |words: &[Word]| [idle.as_slice(), words].concat();
    [
        idle.clone(),
        with(&[ask("bot-start", Some("live")), confirm, done]),
        with(&[ask("bot-start", Some("paper")), done, ask("bot-pause", None), done]),
        with(&[ask("bot-quarantine", None), done]),
    ]
}

struct Place {
    player: Player,
    story: Vec<Word>,
    /// How many words it is away from its beginning.
    depth: usize,
}

fn walk(second_person: bool, words: &[Word], depth_max: usize) {
    let (mut seen, mut waiting) = (BTreeSet::new(), VecDeque::new());
    for story in beginnings(second_person) {
        let mut player = Player::new(second_person);
        for word in &story {
            assert_eq!(player.tell(*word).1, None, "the way there: {story:?}");
        }
        seen.insert(key(&player.model));
        waiting.push_back(Place { player, story, depth: 0 });
    }
    let (mut edges, mut stopped) = (0_usize, BTreeMap::<Option<Life>, usize>::new());
    while let Some(place) = waiting.pop_front() {
        for &word in words {
            edges += 1;
            let mut player = place.player.fork();
            let before = player.world.life(0);
            let story = [place.story.as_slice(), &[word]].concat();
            if let Some((expected, got)) = player.tell(word).1 {
                panic!("after {story:#?}\n  expected {expected}\n  got      {got}");
            }
            doors(before, player.world.life(0), word, &player, &story);
            if word == STOP {
                *stopped.entry(before).or_default() += 1;
            }
            let crowded = player.model.commands.iter().filter(|command| command.is_answerable()).count();
            let depth = place.depth + 1;
            if depth < depth_max && crowded <= WAITING_MAX && seen.insert(key(&player.model)) {
                waiting.push_back(Place { player, story, depth });
                if seen.len() % 1000 == 0 {
                    eprintln!("{} places, {depth} words deep", seen.len());
                }
            }
        }
    }
    eprintln!("{} places, {edges} edges", seen.len());
    let lives: BTreeSet<Option<Life>> = stopped.keys().copied().collect();
    let on_paper = words.iter().any(|word| matches!(word, Word::Ask { mode: Some("paper"), .. }));
    let reached: BTreeSet<Option<Life>> = Life::ALL
        .into_iter()
        .filter(|life| !matches!(life, Life::Created | Life::Shadow) && (on_paper || *life != Life::Paper))
        .map(Some)
        .collect();
    assert_eq!(lives, reached, "a stop was carried from each state that the small world has");
}

/// The doors: what opened them was carried on a confirmation of its own.
fn doors(before: Option<Life>, after: Option<Life>, word: Word, player: &Player, story: &[Word]) {
    let enters_live = before != Some(Life::Live) && after == Some(Life::Live);
    let leaves = before == Some(Life::Quarantined) && after != Some(Life::Quarantined);
    if !enters_live && !leaves {
        return;
    }
    let ticket = player.model.chosen.and_then(|at| player.ticket(at)).map(|ticket| ticket.kind.as_str());
    let fits = if leaves {
        ticket == Some("bot-release")
    } else {
        matches!(ticket, Some("bot-start" | "bot-resume"))
    };
    let answered = matches!(word, Word::Answer { success: true, .. });
    // The command itself was challenged, and let go since.
    let chosen = player.model.chosen.map(|at| &player.model.commands[at]);
    let confirmed = chosen.is_some_and(|command| {
        command.challenged_at.is_some() && matches!(command.standing, Standing::Ended(_))
    });
    assert!(answered && fits && confirmed, "{before:?} became {after:?} after {story:#?}");
}

/// What the rules still know of a place.
fn key(model: &Model) -> String {
    let bot = model.bots[0];
    let newest_unconfirmed = model.commands.iter().rposition(Command::is_unconfirmed);
    let mut open = Vec::new();
    for (at, command) in model.commands.iter().enumerate() {
        let is_challenged = command.is_targets() && command.standing == Standing::Challenged;
        if command.is_answerable() || is_challenged || newest_unconfirmed == Some(at) {
            let opens = class(command.kind()) == Class::Release && !model.is_overtaken(at);
            open.push((command.about, command.standing, opens));
        }
    }
    let challenged = model.commands.iter().rposition(|command| command.challenged_at.is_some());
    let challenged = challenged.map(|at| {
        let command = &model.commands[at];
        (what(command), command.actor, command.standing, model.is_past(at))
    });
    let gates = model.gates.map(|gate| gate.at_rest(model.now()));
    format!(
        "{} {:?} {:?} {:?} {gates:?} {open:?} {challenged:?}",
        bot.life, bot.past, model.safety, model.kill
    )
}

/// What a command is about, without its moment.
fn what(command: &Command) -> String {
    match command.about {
        About::Report { gate, global, .. } => format!("{gate:?} {global}"),
        about => format!("{about:?}"),
    }
}
