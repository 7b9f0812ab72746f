//! Gate 8: a bot moves by the table, and by nothing else.
//!
//! Owns: whether the table has the step that a command asks for, and whether the command reaches a
//! bot in QUARANTINED.
//! Never: holds up a stop, pause or quarantine; lets a mode be inherited.
//! Holds: the table is that of `rules::lifecycle`; live is entered by a confirmed command only.
//! The rules: spec/rules.md#lifecycle and #quarantine.

use crate::{
    contract::{
        Said,
        bound::Bound,
        command::Class,
        interlock::Life,
        reason::{Reason, Refusal},
        routing::{Family, Scope},
    },
    decision::{
        rules::lifecycle::{self, Step},
        state::State,
    },
};

/// Whether a command may move its bot now, and whether it may reach those that its scope covers.
pub(in crate::decision) fn check(state: &State, said: &Said, class: Option<Class>) -> Result<(), Refusal> {
    // Of every type, also of those that move no bot: a config or a deletion reaches it like a
    // start.
    reaches_none_in_quarantine(state, said, class)?;
    let Some(step) = Step::of(&said.key.kind_type).filter(|_| said.key.family == Family::Signal) else {
        return Ok(());
    };
    // Stop, pause and quarantine pass from every state: a step that disagrees is noted in the
    // entry, and never refused (`follow::lifecycle`).
    if !matches!(step, Step::Init | Step::Start | Step::Release) {
        return Ok(());
    }
    let life = state.life(&said.key.scope);
    // Before the table, which has no such step either: this code names the one way out.
    if life == Life::Error && step != Step::Start {
        let detail = "the bot is in ERROR; only an explicit start or resume leaves that";
        return Err(Refusal::new(Reason::ExplicitStartRequired, detail).at("/type"));
    }
    let illegal =
        |detail: String| Err(Refusal::new(Reason::IllegalTransition, detail).at("/data/requestedTransition"));
    let Some((from, to)) = lifecycle::requested(said) else {
        return illegal("it is two of the nine states, joined by `->`".to_owned());
    };
    // `ANY` is `None` here and refused as well: whoever moves a bot must know where it is.
    if from != Some(life) {
        return illegal(format!("the bot is in {life}; {}", way_on(life, &said.key.scope)));
    }
    if !step.leads(life, to) {
        return illegal(format!(
            "`{}` does not lead from {life} to {to}; {}",
            said.key.kind_type,
            way_on(life, &said.key.scope)
        ));
    }
    if !state.remembers_bot(&said.key.scope) && !state.has_room_for_bots(1) {
        let detail = "as many bots are remembered as twice `inventory.instances_max`";
        return Err(Refusal::full(Bound::Bots, detail).at("/scope/instance"));
    }
    if step != Step::Start {
        return Ok(());
    }
    match lifecycle::mode(said) {
        None => {
            let detail = "it is one of `paper`, `shadow` and `live`, and is never inherited";
            Err(Refusal::new(Reason::ModeRequired, detail).at("/data/mode"))
        }
        Some(mode) if mode.life() != to => illegal(format!("mode {mode} leads to {}", mode.life())),
        Some(_) => Ok(()),
    }
}

/// What a person types to bring a bot on from where it is.
fn way_on(life: Life, scope: &Scope) -> String {
    match life {
        Life::Created => format!("`swarmgate bot init {scope}` brings it to IDLE"),
        Life::Idle => format!("`swarmgate bot start {scope} --mode MODE` starts it"),
        Life::Paused => format!("`swarmgate bot resume {scope} --mode MODE` lets it go on"),
        Life::Error => format!("`swarmgate bot start {scope} --mode MODE` starts it anew"),
        Life::Quarantined => format!("`swarmgate bot release {scope} --reason WHY` asks for its release"),
        Life::Stopping => format!("`swarmgate inventory {scope}` shows when it has stopped"),
        Life::RunningPaper | Life::RunningShadow | Life::RunningLive => {
            format!("`swarmgate bot stop {scope}` stops it")
        }
    }
}

/// What starts, changes or destroys is forwarded to nobody in QUARANTINED, by whatever scope: a
/// message that fans out cannot leave one of its targets out. What starts nothing (session,
/// liveness, evidence) and what stops reaches them.
fn reaches_none_in_quarantine(state: &State, said: &Said, class: Option<Class>) -> Result<(), Refusal> {
    if !matches!(class, Some(Class::Start | Class::Change | Class::Destructive)) {
        return Ok(());
    }
    let scope = &said.key.scope;
    let detail = if !scope.fans_out() {
        if state.life(scope) != Life::Quarantined {
            return Ok(());
        }
        "the bot is QUARANTINED; only a confirmed `bot-release` leaves that".to_owned()
    } else if let Some(bot) = state.bots(scope).find(|bot| state.life(bot) == Life::Quarantined) {
        format!("{bot} is QUARANTINED, and this would reach it; address the others one by one")
    } else if let Some(swarm) = state.quarantined_swarm(scope) {
        format!(
            "the bots of swarm {swarm} of which nothing is remembered are QUARANTINED, and this would reach them"
        )
    } else {
        return Ok(());
    };
    Err(Refusal::new(Reason::Quarantined, detail).at("/scope/instance"))
}
