//! Plays a story to the model and to the real corridor, and finds the first word on which they
//! differ.
//!
//! Owns: the telling of each word on the wire, the comparison, and the shortest story that still
//! differs.
//! Never: knows what is right; the model does.
//! Holds: a story is its words, so whoever has the words has the difference.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};
use swarmgate::contract::routing::Scope;

use crate::{
    adapter::{self, Requires},
    model::{Model, ROUTER, STEP_MS},
    oracle::{Class, Gate, Life, class},
    types::bundle,
    words::{About, At, BOTS, CONTROLLER, Said, Standing, Word},
    world::{Heard, Ticket, World, bot, controller, fleet, success_of, swarm},
};

/// The actors of a story; nobody's word weighs more but by the rules.
pub const ACTORS: [&str; 3] = ["ops-a", "ops-b", "ops-c"];

/// Where the two differ.
#[derive(Clone, Debug)]
pub struct Difference {
    pub story: Vec<Word>,
    pub expected: String,
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in &self.story {
            writeln!(out, "    {word:?}")?;
        }
        writeln!(out, "  expected {}\n  got      {}", self.expected, self.got)
    }
}

/// Both worlds, at the same place of a story.
pub struct Player {
    pub model: Model,
    pub world: World,
    tickets: BTreeMap<usize, Ticket>,
}

impl Player {
    /// Two new bots and their controller; the gate passes.
    pub fn new(second_person: bool) -> Self {
        let mut world = World::new(adapter::rules(if second_person {
            Requires::SecondPerson
        } else {
            Requires::Explicit
        }));
        for number in 0..BOTS {
            world.status(&scope(At::Bot(number)));
        }
        world.report(ACTORS[0], Gate::Pass);
        Self { model: Model::new(second_person), world, tickets: BTreeMap::new() }
    }

    /// The same place once more.
    pub fn fork(&self) -> Self {
        Self { model: self.model.clone(), world: self.world.fork(), tickets: self.tickets.clone() }
    }

    /// The signal of a command, by the model's number of it.
    pub fn ticket(&self, at: usize) -> Option<&Ticket> {
        self.tickets.get(&at)
    }

    /// Tells a word to both: what was heard, and where they differ, if they do.
    pub fn tell(&mut self, word: Word) -> (Heard, Option<(String, String)>) {
        let before = self.model.clone();
        let Some(said) = self.model.tell(word) else {
            // There is nothing that it could be about; only time has passed.
            return (self.world.wait(STEP_MS), self.lives());
        };
        let heard = self.say(&before, word);
        self.follow(&before, &heard);
        if !agrees(said, &heard) {
            let words = heard.words();
            return (heard, Some((format!("{said:?}"), words)));
        }
        let difference = self.carriage(&before, &heard).or_else(|| self.lives());
        (heard, difference)
    }

    /// Where the instances are, in both.
    fn lives(&self) -> Option<(String, String)> {
        let expected = self.model.lives().map(Some);
        let real = self.real();
        (real != expected).then(|| (format!("{expected:?}"), format!("{real:?}")))
    }

    /// Where the real corridor has the instances.
    pub fn real(&self) -> [Option<Life>; BOTS] {
        std::array::from_fn(|number| self.world.life_of(&scope(At::Bot(number))))
    }

    /// What left is what was accepted on that word, and nothing else.
    fn carriage(&self, before: &Model, heard: &Heard) -> Option<(String, String)> {
        for (at, command) in self.model.commands.iter().enumerate() {
            let Some(ticket) = self.tickets.get(&at) else { continue };
            let was = before.commands.get(at).map(|command| command.standing);
            let is_new = !matches!(was, Some(Standing::Flying | Standing::Ended(_)));
            let expected = is_new && command.is_carried();
            let own = |body: &Value| body["correlationId"] == json!(ticket.correlation);
            let carried = heard.bodies("signal.").iter().any(own);
            if command.is_targets() && command.actor != ROUTER && carried != expected {
                let name = format!("{:?}", command.about);
                return Some((format!("carried: {expected} {name}"), format!("carried: {carried}")));
            }
        }
        None
    }

    /// Puts a word on the wire, after the model has chosen what its numbers mean.
    fn say(&mut self, before: &Model, word: Word) -> Heard {
        match word {
            Word::Wait { ms } => self.world.wait(ms),
            Word::Look => self.world.measured(),
            Word::Ask { actor, .. }
            | Word::Report { actor, .. }
            | Word::Mode { actor, .. }
            | Word::Switch { actor, .. } => self.send(before.commands.len(), actor),
            Word::Fatal { bot } => self.world.fatal(&scope(At::Bot(bot))),
            Word::Uncommanded { bot } => {
                self.world.outcome("bot-start", &scope(At::Bot(bot)), "c-of-nobody", "Running")
            }
            Word::Worker { kind, bot } => {
                let worker = scope(At::Bot(bot));
                self.world.signal(&worker.instance, kind, &worker, &json!({})).1
            }
            Word::Confirm { actor, .. } => self.consent(self.chosen(), actor, "confirm"),
            Word::Reject { actor, .. } => self.consent(self.chosen(), actor, "reject"),
            Word::Answer { success, .. } => self.answer(before, success),
            Word::Lie { .. } => self.answer(before, true),
            Word::Repeat { .. } => {
                let at = self.chosen();
                let mut ticket = self.tickets.remove(&at).expect("a command that was sent");
                let heard = self.world.repeat(&ticket);
                ticket.challenge = heard.challenge().or_else(|| ticket.challenge.take());
                self.tickets.insert(at, ticket);
                heard
            }
        }
    }

    /// A target's answer: the first that was asked, or would have been.
    fn answer(&mut self, before: &Model, success: bool) -> Heard {
        let at = self.chosen();
        let ticket = &self.tickets[&at];
        let status = if success { success_of(&ticket.kind) } else { "Failed" };
        // In the model it has answered already.
        let asked = before.commands[at].waiting.first().copied();
        let from = asked.or_else(|| before.commands[at].at().bots().next()).expect("a target");
        let (kind, correlation) = (ticket.kind.clone(), ticket.correlation.clone());
        self.world.outcome(&kind, &scope(At::Bot(from)), &correlation, status)
    }

    fn chosen(&self) -> usize {
        self.model.chosen.expect("the model has chosen a command")
    }

    /// Sends the model's newest command of an actor.
    fn send(&mut self, at: usize, actor: usize) -> Heard {
        let about = self.model.commands[at].about;
        let actor = ACTORS[actor % ACTORS.len()];
        let (ticket, heard) = match about {
            About::To { at, kind, mode, requested } => {
                self.world.signal(actor, kind, &scope(at), &data(kind, mode, requested))
            }
            About::Mode { mode, global } => self.world.set_safety(actor, &scope(At::area(global)), mode),
            About::Switch { level, global } => self.world.set_kill(actor, &scope(At::area(global)), level),
            About::Report { gate, global, until } => {
                // The world's clock begins a little earlier; what counts is how long it lasts.
                let expires_at = self.world.now_plus(STEP_MS + until - self.model.now());
                let data = json!({ "gate": adapter::GATE, "result": gate.name(), "expiresAt": expires_at });
                self.world.signal(actor, "gate-report", &scope(At::area(global)), &data)
            }
        };
        self.tickets.insert(at, ticket);
        heard
    }

    fn consent(&mut self, at: usize, actor: usize, word: &str) -> Heard {
        let ticket = self.tickets[&at].clone();
        let id = ticket.challenge.clone().unwrap_or_else(|| format!("c-{}", "0".repeat(32)));
        self.world.consent(ACTORS[actor % ACTORS.len()], word, &ticket, &id)
    }

    /// The stops that the router has just sent by itself can be answered too.
    fn follow(&mut self, before: &Model, heard: &Heard) {
        let own = heard.bodies("signal.bot-stop.").into_iter().find(is_own);
        let correlation = own.as_ref().and_then(|body| body["correlationId"].as_str());
        let correlation = correlation.unwrap_or("c-of-no-stop").to_owned();
        for at in before.commands.len()..self.model.commands.len() {
            let command = &self.model.commands[at];
            if command.actor == ROUTER {
                let (kind, scope) = ("bot-stop".to_owned(), scope(command.at()));
                let correlation = correlation.clone();
                let ticket = Ticket { kind, scope, correlation, body: Value::Null, challenge: None };
                self.tickets.insert(at, ticket);
            }
        }
    }
}

/// Whom a command is addressed to, on the wire.
pub fn scope(at: At) -> Scope {
    match at {
        At::Bot(CONTROLLER) => controller(),
        At::Bot(number) => bot(number),
        At::Swarm => swarm(),
        At::Fleet => fleet(),
    }
}

fn data(kind: &str, mode: Option<&str>, requested: Option<(Life, Life)>) -> Value {
    let mut data = Map::new();
    match (kind, mode) {
        (_, Some("crew")) => {
            data.insert("requiredWorkers".to_owned(), json!(["bot-0", "bot-1"]));
        }
        (_, Some(mode)) => {
            data.insert("mode".to_owned(), json!(mode));
        }
        ("bootstrap-bundle", _) => return bundle(),
        _ if class(kind) == Class::Destructive => {
            data.insert("reason".to_owned(), json!("a test"));
        }
        _ => {}
    }
    if let Some((from, to)) = requested {
        data.insert("requestedTransition".to_owned(), json!(format!("{from}->{to}")));
    }
    Value::Object(data)
}

fn is_own(body: &Value) -> bool {
    body["origin"].as_str().is_some_and(|origin| origin.starts_with("swarmgate:"))
}

fn agrees(said: Said, heard: &Heard) -> bool {
    let words = heard.words();
    match said {
        Said::Nothing => true,
        Said::Forward => words == "forward",
        Said::Challenge => {
            words.starts_with("challenge ") && heard.reason == Some("consent.challenge-required")
        }
        Said::Suppress => words.starts_with("suppress"),
        Said::Refuse(code) => words == format!("refuse {code}"),
        Said::OneOf(several) => several.iter().any(|said| agrees(*said, heard)),
    }
}

/// Plays a whole story.
pub fn play(second_person: bool, story: &[Word]) -> Option<Difference> {
    let mut player = Player::new(second_person);
    story.iter().enumerate().find_map(|(at, word)| {
        let (expected, got) = player.tell(*word).1?;
        Some(Difference { story: story[..=at].to_vec(), expected, got })
    })
}

/// The shortest story that still differs, by leaving out a word as long as that is possible.
pub fn shrink(second_person: bool, mut found: Difference) -> Difference {
    let mut at = 0;
    while at < found.story.len() {
        let mut shorter = found.story.clone();
        shorter.remove(at);
        match play(second_person, &shorter) {
            Some(difference) => {
                found = difference;
                at = 0;
            }
            None => at += 1,
        }
    }
    found
}
