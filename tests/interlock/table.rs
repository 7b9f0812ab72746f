//! The whole table: every state by every state that is asked for, by every setting, by every way of
//! consenting.
//!
//! Owns: 9 states, and the four that live is left for besides, × 3 safety modes × 8 histories of
//! three reports of a gate × 4 kill-switch levels × 3 kinds of consent, each reached by facts (the
//! instance is walked there by its own outcomes, then the settings change), and in each every type,
//! every command of an instance with every state that `requestedTransition` may ask for, and every
//! way to confirm or not to confirm what is challenged.
//! Never: sets a state by hand.
//! Holds: verdict, reason, what is carried, and the state afterwards are the oracle's: 0
//! differences.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    adapter::{self, Requires},
    history::{History, Report, is_cleared, says},
    oracle::{Answer, Ask, Class, Gate, Kill, Life, Safety, Situation, TYPES, When, answer, class, moved},
    types,
    world::{Heard, STEP_MS, Ticket, World, bot, fleet, success_of},
};

/// The commands to an instance, with their modes; what is a swarm's or a session's may be addressed
/// to it as well.
const COMMANDS: [(&str, Option<&str>); 24] = [
    ("bot-init", None),
    ("bot-start", Some("paper")),
    ("bot-start", Some("shadow")),
    ("bot-start", Some("live")),
    ("bot-start", Some("LIVE")),
    ("bot-start", None),
    ("bot-resume", Some("paper")),
    ("bot-resume", Some("shadow")),
    ("bot-resume", Some("live")),
    ("bot-resume", None),
    ("bot-pause", None),
    ("bot-stop", None),
    ("bot-quarantine", None),
    ("bot-release", None),
    ("stop", None),
    ("swarm-stop", None),
    ("swarm-remove", None),
    ("config-update", None),
    ("data-delete", None),
    ("start-work", None),
    ("swarm-start", None),
    ("swarm-plan", None),
    ("swarm-template", None),
    ("status-request", None),
];
/// Those whose `requestedTransition` is asked or noted.
const MOVES: [&str; 7] =
    ["bot-init", "bot-start", "bot-resume", "bot-pause", "bot-stop", "bot-quarantine", "bot-release"];
const OPERATOR: &str = "ops-a";
const WINDOW_MS: u64 = 60_000;

/// The differences of one part of the table, alike ones together.
#[derive(Default)]
struct Differences {
    cells: usize,
    found: BTreeMap<String, (usize, String)>,
}

impl Differences {
    fn compare<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        cell: &str,
        expected: &T,
        got: &T,
    ) -> bool {
        self.cells += 1;
        if expected == got {
            return true;
        }
        let kind = cell.split(" in ").next().unwrap_or_default();
        let key = format!("{kind}: {what}: expected {expected:?}, got {got:?}");
        self.found.entry(key).or_insert_with(|| (0, cell.to_owned())).0 += 1;
        false
    }

    fn none(&self, cells_min: usize) {
        let lines = self
            .found
            .iter()
            .map(|(key, (count, cell))| format!("{count:6} × {key}\n         first: {cell}"));
        let lines: Vec<String> = lines.collect();
        assert!(lines.is_empty(), "{} kinds of difference:\n{}", lines.len(), lines.join("\n"));
        assert!(self.cells >= cells_min, "only {} cells were compared", self.cells);
    }
}

macro_rules! from_each_state {
    ($($name:ident $life:ident $mode:literal)*) => {
        $(#[test]
        fn $name() {
            every_cell_from(Life::$life, $mode);
        })*
    };
}

from_each_state! {
    from_created Created "paper"
    from_idle Idle "paper"
    from_running_paper Paper "paper"
    from_running_shadow Shadow "shadow"
    from_running_live Live "live"
    from_paused Paused "paper"
    from_stopping Stopping "paper"
    from_error Error "paper"
    from_quarantined Quarantined "paper"
    from_paused_out_of_live Paused "live"
    from_stopping_out_of_live Stopping "live"
    from_error_out_of_live Error "live"
    from_quarantined_out_of_live Quarantined "live"
}

/// Every cell of a state that was reached from a run of that mode.
fn every_cell_from(life: Life, mode: &str) {
    let mut differences = Differences::default();
    for requires in Requires::ALL {
        for kill in Kill::ALL {
            // What leads to a state is done once; gates and mode are set on copies of it.
            let walked = walk((life, mode), kill, requires);
            for history in HISTORIES {
                let mut reported = walked.fork();
                let (gate, unknown_refuses) = report(&mut reported, history, kill);
                for safety in Safety::ALL {
                    let mut world = reported.fork();
                    if safety != Safety::Normal {
                        world.set_safety(OPERATOR, &fleet(), safety);
                    }
                    let situation = Situation {
                        safety,
                        gate,
                        kill,
                        live: mode == "live",
                        session: false,
                        unknown_refuses,
                        ..Situation::at(life)
                    };
                    let place = format!(
                        "{life} of {mode} {} {history:?} {} {requires:?}",
                        safety.name(),
                        kill.name()
                    );
                    if differences.compare(
                        "reached",
                        &format!("walk in {place}"),
                        &Some(life),
                        &world.life(0),
                    ) {
                        cell(&world, &situation, requires, &place, &mut differences);
                        if requires == Requires::Explicit {
                            every_type(&world, &situation, &place, &mut differences);
                        }
                    }
                }
            }
        }
    }
    differences.none(20_000);
}

/// Every type of the command table, where it belongs, confirmed and not.
fn every_type(world: &World, situation: &Situation, place: &str, differences: &mut Differences) {
    for (kind, _) in TYPES {
        let name = format!("{kind} in {place}");
        let mut world = world.fork();
        // A bundle goes to another worker than the one that was walked; neither has a session.
        let (ticket, heard) = types::ask(&mut world, kind);
        let expected = types::expected(situation, kind);
        if !differences.compare("type", &name, &expected, &heard.words()) {
            continue;
        }
        if let Some(id) = ticket.challenge.clone() {
            differences.compare("carried unconfirmed", &name, &false, &heard.carried(kind));
            let heard = world.consent(OPERATOR, "confirm", &ticket, &id);
            differences.compare("type once confirmed", &name, &"forward".to_owned(), &heard.words());
            let targets = !matches!(class(kind), Class::Loosen);
            differences.compare("type carried", &name, &targets, &heard.carried(kind));
        }
    }
}

/// Every command with every state that it may ask for.
fn cell(
    world: &World,
    situation: &Situation,
    requires: Requires,
    place: &str,
    differences: &mut Differences,
) {
    let here = situation.life.map_or("CREATED", Life::name);
    for (kind, mode) in COMMANDS {
        let asks = MOVES.contains(&kind);
        for to in Life::ALL.into_iter().take(if asks { Life::ALL.len() } else { 1 }) {
            let requested = asks.then(|| format!("{here}->{to}"));
            // Which consent is asked changes nothing for what is not challenged.
            let ask = Ask { kind, mode, requested: requested.as_deref(), loosens: false };
            let expected = answer(situation, &ask);
            if requires != Requires::Explicit && expected != Answer::Challenge {
                continue;
            }
            let name = format!("{kind} {} ->{to} in {place}", mode.unwrap_or("-"));
            let mut fork = world.fork();
            let (ticket, heard) = send(&mut fork, &ask);
            if !differences.compare("answer", &name, &words(expected), &heard.words()) {
                continue;
            }
            follow(&fork, situation, &ask, (&ticket, &heard), requires, &name, differences);
        }
    }
}

/// What comes of a command after its first walk.
fn follow(
    world: &World,
    situation: &Situation,
    ask: &Ask<'_>,
    (ticket, heard): (&Ticket, &Heard),
    requires: Requires,
    name: &str,
    differences: &mut Differences,
) {
    let Some(life) = situation.life else { return };
    let expected = answer(situation, ask);
    let carried = expected == Answer::Forward;
    differences.compare("carried", name, &carried, &heard.carried(ask.kind));
    let accepted = if carried { moved(life, ask.kind, ask.mode, When::Accepted) } else { life };
    differences.compare("state once answered", name, &Some(accepted), &world.life(0));
    match expected {
        Answer::Refuse(_) => {}
        // What is removed is forgotten, which is another table's.
        Answer::Forward if ask.kind == "swarm-remove" => {}
        Answer::Forward => succeed(&mut world.fork(), accepted, ask, ticket, name, differences),
        Answer::Challenge => {
            for consent in Consent::of(requires) {
                let name = format!("{name} {consent:?}");
                confirm(&mut world.fork(), (life, ask), ticket, *consent, &name, differences);
            }
        }
    }
}

/// The target says that it is done.
fn succeed(
    world: &mut World,
    accepted: Life,
    ask: &Ask<'_>,
    ticket: &Ticket,
    name: &str,
    differences: &mut Differences,
) {
    world.outcome(ask.kind, &bot(0), &ticket.correlation, success_of(ask.kind));
    let expected = moved(accepted, ask.kind, ask.mode, When::Outcome);
    differences.compare("state once done", name, &Some(expected), &world.life(0));
}

/// A way to consent, or not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consent {
    None,
    Given,
    Twice,
    Late,
    WrongActor,
    Rejected,
    UnknownChallenge,
}

impl Consent {
    fn of(requires: Requires) -> &'static [Self] {
        match requires {
            Requires::Explicit => {
                &[Self::None, Self::Given, Self::Twice, Self::Late, Self::Rejected, Self::UnknownChallenge]
            }
            Requires::SecondPerson | Requires::Quorum => &[Self::Given, Self::Late, Self::WrongActor],
        }
    }
}

fn confirm(
    world: &mut World,
    (life, ask): (Life, &Ask<'_>),
    ticket: &Ticket,
    consent: Consent,
    name: &str,
    differences: &mut Differences,
) {
    let Some(id) = ticket.challenge.clone() else {
        differences.compare("challenge", name, &"an id", &"none");
        return;
    };
    let last = adapter::confirmers(world.rules());
    let mut heard = world.wait(STEP_MS);
    if consent == Consent::Late {
        world.wait(WINDOW_MS);
    }
    if consent == Consent::Rejected {
        let said = world.consent(OPERATOR, "reject", ticket, &id).words();
        differences.compare("rejection", name, &"forward".to_owned(), &said);
    }
    let by: &[&str] = match consent {
        Consent::None => &[],
        // The requester, where it takes others.
        Consent::WrongActor => &[OPERATOR],
        _ => last,
    };
    for actor in by {
        let id =
            if consent == Consent::UnknownChallenge { format!("c-{}", "0".repeat(32)) } else { id.clone() };
        heard = world.consent(actor, "confirm", ticket, &id);
    }
    let refused: Option<&[&str]> = match consent {
        Consent::None | Consent::Given | Consent::Twice => None,
        Consent::Late => Some(&["consent.challenge-expired"]),
        Consent::UnknownChallenge => Some(&["consent.unknown-challenge"]),
        // The texts name no code of its own for what was rejected.
        Consent::Rejected => Some(&["consent.unknown-challenge", "consent.challenge-used"]),
        Consent::WrongActor => Some(&["consent.self-confirm"]),
    };
    let carried = matches!(consent, Consent::Given | Consent::Twice);
    differences.compare("carried once confirmed", name, &carried, &heard.carried(ask.kind));
    if let Some(codes) = refused {
        let said = heard.reason.is_some_and(|code| codes.contains(&code));
        let got = if said { codes.join(" or ") } else { heard.words() };
        differences.compare("confirmation", name, &codes.join(" or "), &got);
    } else if carried {
        differences.compare("confirmation", name, &"forward".to_owned(), &heard.words());
    }
    differences.compare("state once confirmed", name, &Some(life), &world.life(0));
    if consent == Consent::Twice {
        let again = world.consent(last[0], "confirm", ticket, &id);
        differences.compare("second use", name, &"refuse consent.challenge-used".to_owned(), &again.words());
        differences.compare("carried twice", name, &false, &again.carried(ask.kind));
    }
    if carried {
        succeed(world, life, ask, ticket, name, differences);
    }
}

/// Walks the instance to a state out of a run of that mode, under a kill switch, by what it and its
/// operators say.
fn walk((life, mode): (Life, &str), kill: Kill, requires: Requires) -> World {
    let mut world = World::new(adapter::rules(requires));
    world.status(&bot(0));
    world.report(OPERATOR, Gate::Pass);
    let tighten = |world: &mut World| {
        if kill != Kill::Allow {
            world.set_kill(OPERATOR, &fleet(), kill);
        }
    };
    if life == Life::Created {
        tighten(&mut world);
        return world;
    }
    done(&mut world, "bot-init", None, "CREATED->IDLE");
    if life == Life::Idle {
        tighten(&mut world);
        return world;
    }
    if life == Life::Quarantined && mode == "paper" {
        done(&mut world, "bot-quarantine", None, "ANY->QUARANTINED");
        tighten(&mut world);
        return world;
    }
    let to = match mode {
        "shadow" => Life::Shadow,
        "live" => Life::Live,
        _ => Life::Paper,
    };
    let start =
        Ask { kind: "bot-start", mode: Some(mode), requested: Some(&format!("IDLE->{to}")), loosens: false };
    let (ticket, _) = send(&mut world, &start);
    if let Some(id) = ticket.challenge.clone() {
        for actor in adapter::confirmers(world.rules()) {
            world.consent(actor, "confirm", &ticket, &id);
        }
    }
    // FLATTEN stops what runs, so what runs under it said so late.
    if kill == Kill::Flatten {
        tighten(&mut world);
    }
    world.outcome("bot-start", &bot(0), &ticket.correlation, "Running");
    match life {
        Life::Paused => done(&mut world, "bot-pause", None, &format!("{to}->PAUSED")),
        Life::Error => drop(world.fatal(&bot(0))),
        Life::Quarantined => done(&mut world, "bot-quarantine", None, "ANY->QUARANTINED"),
        Life::Stopping => {
            let stop = Ask { kind: "bot-stop", mode: None, requested: Some("ANY->IDLE"), loosens: false };
            send(&mut world, &stop);
        }
        _ => {}
    }
    if kill != Kill::Flatten {
        tighten(&mut world);
    }
    world
}

/// A report: by whom, what, for how long, and how long it is until the next word.
type Said = (&'static str, Gate, u64, u64);

const LONG_MS: u64 = 3_600_000;
const SHORT_MS: u64 = 10_000;
const PAST_SHORT_MS: u64 = 11_000;

/// Three reports by two reporters. Whatever would clear a FAIL is confirmed, but the last word of a
/// history.
const HISTORIES: [[Said; 3]; 8] = [
    [("a", Gate::Warn, LONG_MS, 0), ("b", Gate::Unknown, LONG_MS, 0), ("a", Gate::Pass, LONG_MS, 0)],
    [("a", Gate::Pass, LONG_MS, 0), ("b", Gate::Pass, LONG_MS, 0), ("a", Gate::Warn, LONG_MS, 0)],
    [("a", Gate::Pass, LONG_MS, 0), ("b", Gate::Warn, LONG_MS, 0), ("a", Gate::Unknown, LONG_MS, 0)],
    // What has expired is unknown.
    [
        ("a", Gate::Pass, LONG_MS, 0),
        ("b", Gate::Warn, LONG_MS, 0),
        ("a", Gate::Pass, SHORT_MS, PAST_SHORT_MS),
    ],
    // Nothing shortens a FAIL: no shorter one, no UNKNOWN, no PASS that nobody has confirmed.
    [
        ("a", Gate::Fail, LONG_MS, 0),
        ("b", Gate::Fail, SHORT_MS, PAST_SHORT_MS),
        ("b", Gate::Pass, LONG_MS, 0),
    ],
    [
        ("a", Gate::Fail, LONG_MS, 0),
        ("b", Gate::Fail, SHORT_MS, 0),
        ("b", Gate::Unknown, SHORT_MS, PAST_SHORT_MS),
    ],
    // When its time is over it is unknown.
    [
        ("a", Gate::Fail, SHORT_MS, 0),
        ("b", Gate::Fail, SHORT_MS, PAST_SHORT_MS),
        ("b", Gate::Pass, LONG_MS, 0),
    ],
    // It is cleared by a confirmed act.
    [("a", Gate::Fail, LONG_MS, 0), ("b", Gate::Pass, LONG_MS, 0), ("a", Gate::Pass, LONG_MS, 0)],
];

/// Tells a history under a kill switch; what the gate says then, and whether an UNKNOWN refuses.
fn report(world: &mut World, history: [Said; 3], kill: Kill) -> (Gate, bool) {
    let (mut known, mut now) = (History::default(), 0);
    for (turn, (by, gate, lasts_ms, wait_ms)) in history.into_iter().enumerate() {
        now += STEP_MS;
        let expires_at = world.now_plus(STEP_MS + lasts_ms);
        let data = json!({ "gate": adapter::GATE, "result": gate.name(), "expiresAt": expires_at });
        let (ticket, _) = world.signal(by, "gate-report", &fleet(), &data);
        let report = (Report { gate, until: now + lasts_ms }, usize::from(by == "b"), now);
        let clears = is_cleared(&[known], gate);
        // Loosening, and no way out of what the kill switch holds up.
        assert_eq!(ticket.challenge.is_some(), clears && kill == Kill::Allow, "{history:?} {kill:?}");
        if clears && kill == Kill::Allow && turn < 2 {
            let id = ticket.challenge.clone().unwrap_or_default();
            for actor in adapter::confirmers(world.rules()) {
                world.consent(actor, "confirm", &ticket, &id);
                now += STEP_MS;
            }
        }
        if !clears || (kill == Kill::Allow && turn < 2) {
            known.take(report.0, report.1, report.2);
        }
        world.wait(wait_ms);
        now += wait_ms;
    }
    says(&[known], true, now + STEP_MS)
}

/// Sends a command and lets its target succeed.
fn done(world: &mut World, kind: &str, mode: Option<&str>, requested: &str) {
    let (ticket, _) = send(world, &Ask { kind, mode, requested: Some(requested), loosens: false });
    world.outcome(kind, &bot(0), &ticket.correlation, success_of(kind));
}

fn send(world: &mut World, ask: &Ask<'_>) -> (Ticket, Heard) {
    let mut data = Map::new();
    for (name, value) in [("requestedTransition", ask.requested), ("mode", ask.mode)] {
        data.extend(value.map(|value| (name.to_owned(), json!(value))));
    }
    if ask.kind == "data-delete" {
        data.insert("reason".to_owned(), json!("a test"));
    }
    world.signal(OPERATOR, ask.kind, &bot(0), &Value::Object(data))
}

fn words(answer: Answer) -> String {
    match answer {
        Answer::Forward => "forward".to_owned(),
        Answer::Challenge => "challenge consent.challenge-required".to_owned(),
        Answer::Refuse(code) => format!("refuse {code}"),
    }
}
