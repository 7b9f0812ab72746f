//! Gate 8: a bot moves by the table, and by nothing else.
//!
//! Owns: which step a command asks for, whether the table has it, and the step that an outcome, an alert or a stop
//! takes.
//! Never: holds up a stop, pause or quarantine; lets a mode be inherited; leaves ERROR or QUARANTINED by itself.
//! Holds: equal to spec/lifecycle.toml (a test compares them); live is entered by a confirmed command only.

use serde::Serialize;

use super::{
    Decision, Passed, alert,
    command::{self, ending::Ending, flight::Short},
    state::State,
};
use crate::contract::{
    Said,
    audit::{Action, Actor, Change, Fact, Subject},
    command::Class,
    interlock::{Life, Move, Moved, RunMode},
    reason::{Reason, Refusal},
    routing::{Family, Scope},
    timestamp::Timestamp,
    tree::View,
};

/// How many starts of a bot are remembered, to tell what a late answer answers.
pub(super) const STARTS_MAX: usize = 16;

/// Where a bot is, and the starts that may have brought it there.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Bot {
    pub life: Life,
    /// Since when, in microseconds since the epoch.
    pub since: i64,
    /// The latest starts, the newest last.
    pub starts: Vec<Started>,
    /// The entry of the last quarantine that covered it; 0 where none did.
    pub quarantined: u64,
    /// It ran live last, and has neither come to rest nor to another mode since: paused, stopping, failed or
    /// quarantined out of live, it may still hold what it began.
    pub live: bool,
}

impl Bot {
    /// A bot that nobody has moved.
    pub fn created(at: i64) -> Self {
        Self { life: Life::Created, since: at, starts: Vec::new(), quarantined: 0, live: false }
    }

    /// It comes to another state.
    pub fn comes_to(&mut self, to: Life, at: i64) {
        self.live = match to {
            Life::RunningLive => true,
            Life::Paused | Life::Stopping | Life::Error | Life::Quarantined => self.live,
            Life::Created | Life::Idle | Life::RunningPaper | Life::RunningShadow => false,
        };
        (self.life, self.since) = (to, at);
    }
}

/// A start that was accepted.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Started {
    /// Its type and correlationId.
    pub trace: Short,
    pub leads_to: Life,
    /// Its success has not been seen.
    pub open: bool,
}

/// The types that move a bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Init,
    Start,
    Pause,
    Stop,
    Quarantine,
    Release,
}

impl Step {
    /// The step that a type takes; `None` for a type that moves no bot.
    pub fn of(kind_type: &str) -> Option<Self> {
        Some(match kind_type {
            "bot-init" => Self::Init,
            "bot-start" | "bot-resume" => Self::Start,
            "bot-pause" => Self::Pause,
            "bot-stop" | "stop" | "swarm-stop" => Self::Stop,
            "bot-quarantine" => Self::Quarantine,
            "bot-release" => Self::Release,
            _ => return None,
        })
    }

    /// Whether only one of a kind may be pending for a bot.
    pub const fn is_exclusive(self) -> bool {
        matches!(self, Self::Start | Self::Release)
    }

    /// The table: whether success takes a bot from one state to another.
    pub const fn leads(self, from: Life, to: Life) -> bool {
        use Life::{Created, Error, Idle, Paused, Quarantined, Stopping};
        match self {
            Self::Init => matches!((from, to), (Created, Idle)),
            Self::Start => matches!(from, Idle | Paused | Error) && to.runs(),
            Self::Pause => from.runs() && matches!(to, Paused),
            Self::Stop => (from.runs() || matches!(from, Paused | Error | Stopping)) && matches!(to, Idle),
            Self::Quarantine => matches!(to, Quarantined),
            Self::Release => matches!((from, to), (Quarantined, Idle)),
        }
    }
}

/// The run mode that a start or resume names.
pub(super) fn mode(said: &Said) -> Option<RunMode> {
    said.envelope.data.get("mode").and_then(View::as_str).and_then(RunMode::read)
}

/// The state that a start's success leads to.
pub(super) fn leads_to(said: &Said) -> Option<Life> {
    (Step::of(&said.key.kind_type) == Some(Step::Start)).then(|| mode(said)).flatten().map(RunMode::life)
}

/// Whether a command may move its bot now, and whether it may reach those that its scope covers.
pub(super) fn check(state: &State, said: &Said, class: Option<Class>) -> Result<(), Refusal> {
    reaches_none_in_quarantine(state, said, class)?;
    let Some(step) = Step::of(&said.key.kind_type).filter(|_| said.key.family == Family::Signal) else {
        return Ok(());
    };
    if !matches!(step, Step::Init | Step::Start | Step::Release) {
        return Ok(());
    }
    let life = state.life(&said.key.scope);
    if life == Life::Error && step != Step::Start {
        let detail = "the bot is in ERROR; only an explicit start or resume leaves that";
        return Err(Refusal::new(Reason::ExplicitStartRequired, detail).at("/type"));
    }
    let illegal =
        |detail: String| Err(Refusal::new(Reason::IllegalTransition, detail).at("/data/requestedTransition"));
    let Some((from, to)) = requested(said) else {
        return illegal("it is two of the nine states, joined by `->`".to_owned());
    };
    if from != Some(life) {
        return illegal(format!("the bot is in {life}"));
    }
    if !step.leads(life, to) {
        return illegal(format!("`{}` does not lead from {life} to {to}", said.key.kind_type));
    }
    if step != Step::Start {
        return Ok(());
    }
    match mode(said) {
        None => {
            let detail = "it is one of `paper`, `shadow` and `live`, and is never inherited";
            Err(Refusal::new(Reason::ModeRequired, detail).at("/data/mode"))
        }
        Some(mode) if mode.life() != to => illegal(format!("mode {mode} leads to {}", mode.life())),
        Some(_) => Ok(()),
    }
}

/// What starts, changes or destroys is carried to nobody in QUARANTINED, by whatever scope: a message that fans out
/// cannot leave one of its targets out. What starts nothing (session, liveness, evidence) and what stops reaches them.
fn reaches_none_in_quarantine(state: &State, said: &Said, class: Option<Class>) -> Result<(), Refusal> {
    if !matches!(class, Some(Class::Start | Class::Change | Class::Destructive)) {
        return Ok(());
    }
    let scope = &said.key.scope;
    let Some(bot) = state.bots(scope).find(|bot| state.life(bot) == Life::Quarantined) else { return Ok(()) };
    let detail = match scope.fans_out() {
        false => "the bot is QUARANTINED; only a confirmed `bot-release` leaves that".to_owned(),
        true => format!("{bot} is QUARANTINED, and this would reach it; address the others one by one"),
    };
    Err(Refusal::new(Reason::Quarantined, detail).at("/scope/instance"))
}

/// The step that a command says it asks for; from `None` is `ANY`.
fn requested(said: &Said) -> Option<(Option<Life>, Life)> {
    let text = said.envelope.data.get("requestedTransition")?.as_str()?;
    let (from, to) = text.split_once("->")?;
    let from = if from == "ANY" { None } else { Some(Life::read(from)?) };
    Some((from, Life::read(to)?))
}

/// What an accepted stop or quarantine does at once: a stop begins, a quarantine holds (docs/decisions/0020).
pub(super) fn accepted(state: &State, passed: &Passed<'_>, now: Timestamp, decision: &mut Decision) {
    let said = passed.said;
    let about = &said.key.scope;
    let cause = Cause { actor: passed.actor.clone(), about, detail: &said.key.kind_type };
    decision.facts.extend(at_once(state, &said.key.kind_type, cause, now));
    if let Some((Some(from), to)) = requested(said)
        && !about.fans_out()
        && matches!(Step::of(&said.key.kind_type), Some(Step::Stop | Step::Pause))
        && let Some(fact) = decision.facts.first_mut()
        && state.life(about) != from
    {
        // Noted, never refused.
        fact.detail = Some(format!("asked for {from}->{to} while the bot was in {}", state.life(about)));
    }
}

/// The step that a stop or quarantine of a scope takes when it is accepted.
pub(super) fn at_once(state: &State, kind_type: &str, cause: Cause<'_>, now: Timestamp) -> Option<Fact> {
    let scope = cause.about;
    let bots = match Step::of(kind_type) {
        Some(Step::Stop) => moves(state, state.bots(scope), |life| {
            (life.runs() || matches!(life, Life::Paused | Life::Error)).then_some(Life::Stopping)
        }),
        Some(Step::Quarantine) => {
            let known: Vec<Scope> = match scope.fans_out() {
                true => state.known(scope).collect(),
                false => vec![scope.clone()],
            };
            moves(state, known.iter(), |_| Some(Life::Quarantined))
        }
        _ => return None,
    };
    fact(bots, cause, now)
}

/// What an outcome says of its bot's life.
pub(super) fn outcome(
    state: &State,
    said: &Said,
    ending: &Ending,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) {
    let (Some(step), Some(status)) =
        (Step::of(&said.key.kind_type), said.envelope.data.get("status").and_then(View::as_str))
    else {
        return;
    };
    let scope = &said.key.scope;
    let life = state.life(scope);
    let cause = Cause { actor: actor.clone(), about: scope, detail: status };
    let success = state.rules().is_success(&said.key.kind_type, status);
    if step == Step::Start && status == "Running" {
        return running(state, said, cause, now, decision);
    }
    // A release opens no quarantine that came after it.
    let matched = match step {
        Step::Release => ending.ends_one() || state.is_released_late(said),
        _ => ending.matches(),
    };
    let matched = matched || state.only_looks();
    let to = match step {
        Step::Init => Life::Idle,
        Step::Pause => Life::Paused,
        // A stop that says it failed leaves nobody knowing what runs.
        Step::Stop if !success && status != "NotReady" => Life::Error,
        Step::Stop => Life::Idle,
        Step::Release => Life::Idle,
        Step::Quarantine => Life::Quarantined,
        Step::Start => return,
    };
    let legal = match to {
        Life::Error => life.runs() || matches!(life, Life::Stopping | Life::Paused),
        _ => success && step.leads(life, to),
    };
    if legal && matched && life != to {
        let bots = vec![Move { from: life, scope: scope.clone(), to }];
        decision.facts.extend(fact(bots, cause, now));
    }
}

/// A bot says that it runs.
fn running(state: &State, said: &Said, cause: Cause<'_>, now: Timestamp, decision: &mut Decision) {
    let scope = &said.key.scope;
    let life = state.life(scope);
    let trace =
        command::late(&said.key.kind_type, said.envelope.correlation_id.as_deref().unwrap_or_default());
    match (life, state.start(scope, trace)) {
        // A repeat of an answer that was heard before.
        (_, Some(start)) if !start.open => {}
        // It runs already, or a stop that was accepted since decides.
        (life, Some(_)) if life.runs() || life == Life::Stopping => {}
        (Life::Idle | Life::Paused | Life::Error, Some(start)) => {
            let bots = vec![Move { from: life, scope: scope.clone(), to: start.leads_to }];
            decision.facts.extend(fact(bots, cause, now));
        }
        // Nobody may start what is quarantined, and nobody asked for the rest.
        _ => uncommanded(state, scope, life, now, decision),
    }
}

/// A bot runs without a command: it is taken out, told to stop, and somebody is told.
fn uncommanded(state: &State, scope: &Scope, life: Life, now: Timestamp, decision: &mut Decision) {
    if state.only_looks() {
        return;
    }
    let router = Actor::router(&state.rules().instance);
    let detail = "it says that it runs, and no command asked for that";
    if life != Life::Quarantined {
        let bots = vec![Move { from: life, scope: scope.clone(), to: Life::Quarantined }];
        let cause = Cause { actor: router, about: scope, detail };
        decision.facts.extend(fact(bots, cause, now));
    }
    command::lifetime::supersede(state, scope, "quarantine", now, decision);
    // In QUARANTINED it stays, whatever its stop comes to.
    command::own::order(state, scope, detail, now, decision);
    let notice = alert::Notice {
        code: "lifecycle.uncommanded",
        message: "a bot ran without a command; it is quarantined and told to stop; see the runbook quarantine",
        about: &scope.to_string(),
        count: 1,
        correlation_id: None,
    };
    alert::raise(state, &notice, now, decision);
}

/// A fatal alert of a bot that runs or stops.
pub(super) fn alerted(state: &State, said: &Said, actor: &Actor, now: Timestamp, decision: &mut Decision) {
    let data = said.envelope.data.root();
    let fatal = data.pointer("/context/fatal").and_then(View::as_bool) == Some(true);
    if !fatal || data.get("level").and_then(View::as_str) != Some("error") {
        return;
    }
    let bots = moves(state, std::iter::once(&said.key.scope), |life| {
        (life.runs() || matches!(life, Life::Stopping | Life::Paused)).then_some(Life::Error)
    });
    let cause = Cause { actor: actor.clone(), about: &said.key.scope, detail: "a fatal alert" };
    decision.facts.extend(fact(bots, cause, now));
}

/// Why bots moved.
pub(super) struct Cause<'a> {
    pub actor: Actor,
    pub about: &'a Scope,
    pub detail: &'a str,
}

/// The moves of those bots that go somewhere.
pub(super) fn moves<'a>(
    state: &State,
    bots: impl Iterator<Item = &'a Scope>,
    to: impl Fn(Life) -> Option<Life>,
) -> Vec<Move> {
    bots.filter_map(|scope| {
        let from = state.life(scope);
        let to = to(from).filter(|to| *to != from)?;
        Some(Move { from, scope: scope.clone(), to })
    })
    .collect()
}

/// The entry of moves; `None` where nothing moved.
pub(super) fn fact(bots: Vec<Move>, cause: Cause<'_>, now: Timestamp) -> Option<Fact> {
    (!bots.is_empty()).then(|| Fact {
        actor: Some(cause.actor),
        detail: Some(cause.detail.to_owned()),
        subject: Some(Subject {
            family: Family::Signal,
            kind_type: "lifecycle".to_owned(),
            scope: cause.about.clone(),
        }),
        ..Fact::new(Action::BotMoved, now, Change::Moved(Moved { bots }))
    })
}
