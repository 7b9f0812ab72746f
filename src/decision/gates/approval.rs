//! Who may confirm, and when that is enough.
//!
//! Owns: self-confirmation, second person, quorum, standing approvals and break-glass.
//! Never: lets the requester stand for the second person, unless a standing approval or break-glass
//! stands in.
//! Holds: neither excuses any gate; live starts and loosening take no standing approval.
//! The rules: spec/rules.md#second-person, #standing-approval and #break-glass.

use crate::{
    contract::{
        Said,
        audit::Actor,
        bound::Bound,
        command::Class,
        interlock::{Requires, Right, Share},
        reason::{Reason, Refusal},
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        rules::consent::StandingApproval,
        state::{State, challenge::Challenge, flight::Flight},
    },
};

/// That enough have confirmed. Only [`completes`] makes one.
pub(in crate::decision) struct Complete(Right);

impl Complete {
    /// By which right.
    pub fn right(&self) -> &Right {
        &self.0
    }
}

/// Whether an actor's confirmation counts.
pub(in crate::decision) fn may_confirm(
    state: &State,
    flight: &Flight,
    challenge: &Challenge,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), Refusal> {
    if challenge.confirmed_by.contains(&actor.principal) {
        let detail = "you have confirmed it; another must";
        return Err(Refusal::new(Reason::SelfConfirm, detail).at("/origin"));
    }
    let own = actor.principal == flight.sender.principal;
    let asked = asked(state, flight, challenge);
    let alone = asked.iter().all(|requires| **requires == Requires::Explicit)
        || standing(state, flight, challenge, now).is_some()
        || breaks_glass(state, said, actor);
    // Asked apart, so that the refusal names the bound: break-glass would do, if its review had
    // room.
    if own && !alone && wants_to_break_glass(state, said, actor) {
        let detail =
            "as many uses of break-glass wait for their review as `memory.unreviewed_max` allows; review one";
        return Err(Refusal::full(Bound::Unreviewed, detail).at("/data/breakGlass"));
    }
    if own && !alone {
        let detail = "another than its sender must confirm this command";
        return Err(Refusal::new(Reason::SelfConfirm, detail).at("/origin"));
    }
    let is_left_out = |requires: &Requires| match requires {
        Requires::Quorum(shares) => !member(state, shares, &actor.principal),
        Requires::Explicit | Requires::SecondPerson => false,
    };
    if own || !asked.into_iter().any(is_left_out) {
        return Ok(());
    }
    let detail = "you are in none of the groups that must confirm this command";
    Err(Refusal::new(Reason::PolicyDenied, detail).at("/origin"))
}

/// By which right the confirmations are enough with this one; `None` while more must confirm.
pub(in crate::decision) fn completes(
    state: &State,
    flight: &Flight,
    challenge: &Challenge,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
) -> Option<Complete> {
    let own = actor.principal == flight.sender.principal;
    let by: Vec<&str> =
        challenge.confirmed_by.iter().map(String::as_str).chain([actor.principal.as_str()]).collect();
    let is_met = |requires: &Requires| match requires {
        Requires::Explicit => true,
        Requires::SecondPerson => !own,
        Requires::Quorum(shares) => !own && shares.iter().all(|share| has_share(state, share, &by)),
    };
    if asked(state, flight, challenge).into_iter().all(is_met) {
        return Some(Complete(Right::Confirmed));
    }
    // A standing approval or break-glass may still stand in for others, where the requester asks.
    if !own {
        return None;
    }
    standing(state, flight, challenge, now)
        .map(|standing| Right::Standing(standing.name.clone()))
        .or_else(|| breaks_glass(state, said, actor).then_some(Right::BreakGlass))
        .map(Complete)
}

/// Who must confirm: as the requester was told, and as the settings are now, for a tightened rule
/// counts for what waits too.
fn asked<'a>(state: &'a State, flight: &Flight, challenge: &'a Challenge) -> [&'a Requires; 2] {
    let rules = &state.rules().consent;
    let class = state.rules().commands.get(&flight.kind_type).map(|row| row.class);
    // Of starts and changes only what is live is ever challenged.
    let now = match class {
        Some(Class::Start | Class::Change) => &rules.live_requires,
        _ => &rules.requires,
    };
    [&challenge.requires, now]
}

fn has_share(state: &State, share: &Share, by: &[&str]) -> bool {
    let members = group(state, share);
    by.iter().filter(|who| members.iter().any(|member| member == *who)).count() >= share.count
}

/// The standing approval that stands for a challenged command now.
fn standing<'a>(
    state: &'a State,
    flight: &Flight,
    challenge: &Challenge,
    now: Timestamp,
) -> Option<&'a StandingApproval> {
    // Some things are never approved beforehand.
    if takes_no_standing_approval(state, flight) {
        return None;
    }
    state.rules().consent.standing.iter().find(|standing| {
        standing.command == challenge.compared
            && now < standing.expires_at
            && state.standing_uses(&standing.name) < standing.uses_max
            // Uses that cannot be counted would never be used up.
            && state.counts_uses(&standing.name)
    })
}

/// Whether the requester breaks the glass, and may.
fn breaks_glass(state: &State, said: &Said, actor: &Actor) -> bool {
    wants_to_break_glass(state, said, actor) && state.has_room_for_review()
}

fn wants_to_break_glass(state: &State, said: &Said, actor: &Actor) -> bool {
    said.envelope.data.get("breakGlass").and_then(View::as_bool) == Some(true)
        && state.rules().consent.break_glass.contains(&actor.principal)
}

fn member(state: &State, shares: &[Share], principal: &str) -> bool {
    shares.iter().any(|share| group(state, share).iter().any(|member| member == principal))
}

fn group<'a>(state: &'a State, share: &Share) -> &'a [String] {
    state.rules().consent.groups.get(&share.group).map(Vec::as_slice).unwrap_or_default()
}

/// Live starts and loosening are never approved beforehand.
pub(in crate::decision) fn takes_no_standing_approval(state: &State, flight: &Flight) -> bool {
    let class = state.rules().commands.get(&flight.kind_type).map(|row| row.class);
    // The safety types stand in the table with the class of their upward step.
    matches!(class, Some(Class::Start | Class::Loosen | Class::Tighten | Class::Evidence))
}
