//! What is live: who runs so, who may, and who is not heard of.
//!
//! Owns: the questions that consent and the watch over live bots ask of the state.
//! Never: changes it.
//! Holds: what left live without coming to rest is live; time in which nobody could be heard is no silence.

use super::State;
use crate::{
    contract::{
        interlock::Life,
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::{
        command::flight::Flight,
        lifecycle::{Bot, Started},
    },
};

impl State {
    /// The bots of a swarm (`ALL`: of every swarm) that are live: that run so, left it without coming to rest, or were
    /// let start so and have not answered yet.
    pub(in crate::decision) fn live_bots<'a>(&'a self, swarm: &'a str) -> impl Iterator<Item = &'a Scope> {
        let of_swarm =
            self.recorded.bots.iter().filter(move |(bot, _)| swarm == ALL || bot.swarm_id == swarm);
        of_swarm.filter(|(scope, bot)| bot.live || self.may_start_live(scope, bot)).map(|(scope, _)| scope)
    }

    /// The bots that run live and were not heard of for `lifecycle.lost_live_after_ms`; `None` while nobody can be heard.
    pub(in crate::decision) fn silent_live_bots(
        &self,
        now: Timestamp,
    ) -> Option<impl Iterator<Item = &Scope>> {
        let listens_since = self.observed.listens_since?;
        let limit_ms = self.rules.lost_live_after_ms;
        let live = self.recorded.bots.iter().filter(|(_, bot)| bot.life == Life::RunningLive);
        Some(live.filter_map(move |(scope, bot)| {
            let status = self.inventory().instance(scope).and_then(|view| view.last_seen);
            let heard = self.observed.session_heard.get(scope).copied().into_iter();
            let signs = heard.chain(status.map(Timestamp::micros)).chain([bot.since, listens_since]);
            let last = Timestamp::from_micros(signs.max().unwrap_or(listens_since));
            (last.plus_ms(limit_ms) <= now).then_some(scope)
        }))
    }

    /// How often senders have disagreed with the scope of a live bot in this window.
    pub(in crate::decision) fn disagreements(&self, scope: &Scope, now: Timestamp) -> u64 {
        let counted = self.observed.disagreed.get(scope);
        counted
            .filter(|(since, _)| now.micros() - since < self.window_micros())
            .map_or(0, |(_, count)| *count)
    }

    pub(super) fn window_micros(&self) -> i64 {
        Timestamp::from_micros(0).plus_ms(self.rules.safety.interlocks.window_ms).micros()
    }

    /// Whether a start into live was let go to a bot, and may be answered still.
    fn may_start_live(&self, scope: &Scope, bot: &Bot) -> bool {
        let is_late = |start: &Started| start.open && self.recorded.late.contains_key(&start.trace);
        let waits =
            |flight: &Flight| flight.leads_to == Some(Life::RunningLive) && !flight.awaits_confirmation();
        bot.starts.iter().any(|start| start.leads_to == Life::RunningLive && is_late(start))
            || self.flights_for(scope).any(waits)
    }
}
