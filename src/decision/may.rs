//! "May I": what the gates of permission would say to a sender, asked before anything is said.
//!
//! Owns: which gates are gates of permission, and the danger that whoever asks has to be shown.
//! Never: decides; nothing here is written, and what is sent is judged again, by every gate.
//! Holds: a no here is a no there, as long as nothing changes in between.

use crate::{
    contract::{Said, interlock::Life, reason::Refusal, routing::Scope, timestamp::Timestamp},
    decision::{
        gates::{
            confirmation,
            consent::{self, Danger},
            identity, policy, setting,
        },
        rules::lifecycle,
        state::State,
    },
};

/// What the gates of permission would decide of one signal.
#[derive(Clone, Debug)]
pub struct May {
    /// What it is for: of a confirmation, the challenged command's target.
    pub target: Scope,
    /// Why it is dangerous, where it is; of a confirmation, why the challenged command is.
    pub danger: Option<Danger>,
    /// The state that it leads the target to, where it leads it anywhere.
    pub leads_to: Option<Life>,
    /// The refusal, where there is one.
    pub refusal: Option<Refusal>,
}

impl May {
    /// Whether it has to do with what is live.
    pub fn is_live(&self) -> bool {
        // By the words that `consent::danger` gives it (`live start`, `live <type>`): a challenge
        // keeps no more than these of its command.
        self.danger.as_ref().is_some_and(|danger| danger.operation.split(' ').any(|word| word == "live"))
    }
}

/// What identity, policy, the safety types' own words and the rules of confirming would say;
/// `user_id` is the name that the broker vouches for.
pub fn may(state: &State, said: &Said, user_id: Option<&str>, now: Timestamp) -> May {
    let (actor, agrees) = identity::named(said, user_id);
    let class = setting::class(state, said, &actor);
    let permitted = agrees
        .and_then(|()| identity::prove(state, said, class, &actor))
        .and_then(|()| policy::check(state, said, class, &actor))
        .and_then(|()| setting::check(state, said, &actor, now))
        .and_then(|()| confirmation::check(state, said, &actor, now));
    let refusal = permitted.err();
    // Whoever confirms answers for the challenged command: its target and danger are shown, and not
    // the confirmation's.
    match confirmation::confirmed_by(state, said) {
        Some((flight, danger)) => {
            May { target: flight.scope.clone(), danger: Some(danger), leads_to: flight.leads_to, refusal }
        }
        None => May {
            target: said.key.scope.clone(),
            danger: consent::danger(state, said, class),
            leads_to: lifecycle::leads_to(said),
            refusal,
        },
    }
}
