//! Where bots are in their lives, and the starts that may have brought them there.
//!
//! Owns: bots' recorded lives, quarantines of whole swarms, and the questions about what is live.
//! Never: decides whether a step is legal; gate 8 did.
//! Holds: a quarantine is newer than every release that was asked for before it; what left live
//! without coming to rest is live.

use serde::Serialize;

use crate::{
    contract::{
        audit::{EvidenceKind, Fact, Subject},
        interlock::{Life, Moved, Phase},
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::{
        rules::lifecycle::Step,
        state::{
            Observed, Recorded, State,
            flight::Flight,
            key::{self, Short},
            payload,
        },
    },
};

/// How many starts of a bot are remembered, to tell what a late answer answers.
pub(in crate::decision) const STARTS_MAX: usize = 16;

/// Where a bot is, and the starts that may have brought it there.
#[derive(Clone, Debug, Serialize)]
pub(in crate::decision) struct Bot {
    pub life: Life,
    /// Since when, in microseconds since the epoch.
    pub since: i64,
    /// The latest starts, the newest last.
    pub starts: Vec<Started>,
    /// The entry of the last quarantine that covered it; 0 where none did.
    pub quarantined: u64,
    /// It ran live last, and has neither come to rest nor to another mode since: paused, stopping,
    /// failed or quarantined out of live, it may still hold what it began.
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
pub(in crate::decision) struct Started {
    /// Its type and correlationId.
    pub trace: Short,
    pub leads_to: Life,
    /// Its success has not been seen.
    pub open: bool,
}

impl Recorded {
    /// What is remembered of a bot, from now on where nothing was.
    fn bot(&mut self, scope: &Scope, at: i64) -> &mut Bot {
        let of = |swarm: &str| self.quarantines.get(swarm).copied();
        let wide = of(&scope.swarm_id).max(of(ALL));
        self.bots.entry(scope.clone()).or_insert_with(|| Bot {
            // The quarantine of its swarm was for it too, while there was no room to remember it
            // alone.
            life: if wide.is_some() { Life::Quarantined } else { Life::Created },
            quarantined: wide.unwrap_or_default(),
            ..Bot::created(at)
        })
    }

    /// A quarantine was accepted: no release that was asked for before opens it; `forgotten`: there
    /// was no room for the bot.
    pub(super) fn quarantined(&mut self, scope: &Scope, seq: u64, forgotten: bool) {
        if scope.fans_out() {
            let covered = self.bots.iter_mut().filter(|(bot, _)| scope.covers(bot));
            covered.for_each(|(_, bot)| bot.quarantined = seq);
        } else if !forgotten || self.bots.contains_key(scope) {
            self.bot(scope, self.last_at).quarantined = seq;
            return;
        }
        let covers = |swarm: &str| [scope.swarm_id.as_str(), swarm].contains(&ALL) || swarm == scope.swarm_id;
        let wide = self.quarantines.iter_mut().filter(|(swarm, _)| covers(swarm));
        wide.for_each(|(_, entry)| *entry = seq);
    }

    /// A start was accepted: what its success will be recognised by; `forgotten`: there was no room
    /// for the bot.
    pub(super) fn started(&mut self, scope: &Scope, trace: Short, leads_to: Option<Life>, forgotten: bool) {
        let Some(leads_to) = leads_to else { return };
        if forgotten && !self.bots.contains_key(scope) {
            return;
        }
        let bot = self.bot(scope, self.last_at);
        bot.starts.push(Started { trace, leads_to, open: true });
        if bot.starts.len() > STARTS_MAX {
            bot.starts.remove(0);
        }
    }

    /// A bot says that it runs: a later word of the same start is a repeat.
    pub(super) fn start_answered(&mut self, fact: &Fact, subject: &Subject) {
        if Step::of(&subject.kind_type) != Some(Step::Start)
            || payload::word(fact, EvidenceKind::Outcome).as_deref() != Some("Running")
        {
            return;
        }
        let Some(bot) = self.bots.get_mut(&subject.scope) else { return };
        let trace = key::late(&subject.kind_type, fact.correlation_id.as_deref().unwrap_or_default());
        for start in bot.starts.iter_mut().filter(|start| start.trace == trace) {
            // Where a stop or a quarantine has the last word on its state, it runs live all the
            // same until it obeys.
            bot.live |= start.open && start.leads_to == Life::RunningLive;
            start.open = false;
        }
    }

    pub(super) fn moved(&mut self, seq: u64, moved: &Moved, at: i64) {
        for step in &moved.bots {
            if step.scope.fans_out() {
                // There was no room for each of them.
                self.quarantines.insert(step.scope.swarm_id.clone(), seq);
                continue;
            }
            let bot = self.bot(&step.scope, at);
            bot.comes_to(step.to, at);
            if step.to == Life::Quarantined {
                bot.quarantined = seq;
            }
        }
    }
}

impl Observed {
    /// Counts a sender that disagrees with a live bot's scope; a window that is over begins anew,
    /// and is forgotten where nothing more comes.
    pub fn disagreed(&mut self, scope: &Scope, at: i64, window: i64) {
        self.disagreed.retain(|_, (since, _)| at - *since < window);
        self.disagreed.entry(scope.clone()).or_insert((at, 0)).1 += 1;
    }
}

impl State {
    /// Where a bot is in its life; one that nobody has moved is CREATED.
    pub fn life(&self, bot: &Scope) -> Life {
        match self.recorded.bots.get(bot) {
            Some(bot) => bot.life,
            None if self.quarantine_of(bot).is_some() => Life::Quarantined,
            None => Life::Created,
        }
    }

    /// The entry by which every bot that is not remembered is QUARANTINED, in the swarm of a bot.
    pub(in crate::decision) fn quarantine_of(&self, bot: &Scope) -> Option<u64> {
        let of = |swarm: &str| self.recorded.quarantines.get(swarm).copied();
        of(&bot.swarm_id).max(of(ALL))
    }

    /// A swarm (`ALL`: every one) that a fan-out reaches and of which every bot that is not
    /// remembered is QUARANTINED.
    pub(in crate::decision) fn quarantined_swarm(&self, scope: &Scope) -> Option<&str> {
        let reaches = |swarm: &&str| [&*scope.swarm_id, *swarm].contains(&ALL) || *swarm == scope.swarm_id;
        self.recorded.quarantines.keys().map(String::as_str).find(reaches)
    }

    /// Since when a bot is where it is in its life.
    pub(in crate::decision) fn bot_since(&self, bot: &Scope) -> Option<Timestamp> {
        self.recorded.bots.get(bot).map(|bot| Timestamp::from_micros(bot.since))
    }

    /// Whether a message to a scope would reach somebody in QUARANTINED.
    pub(in crate::decision) fn reaches_quarantine(&self, scope: &Scope) -> bool {
        match scope.fans_out() {
            true => {
                self.bots(scope).any(|bot| self.life(bot) == Life::Quarantined)
                    || self.quarantined_swarm(scope).is_some()
            }
            false => self.life(scope) == Life::Quarantined,
        }
    }

    /// The bots of a scope that somebody has moved.
    pub fn bots<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Scope> + use<'a> {
        let one = (!scope.fans_out()).then(|| self.recorded.bots.get_key_value(scope)).flatten();
        let all = scope.fans_out().then(|| self.recorded.bots.keys().filter(|bot| scope.covers(bot)));
        one.map(|(bot, _)| bot).into_iter().chain(all.into_iter().flatten())
    }

    /// The start of a bot that has a trace.
    pub(in crate::decision) fn start(&self, bot: &Scope, trace: Short) -> Option<&Started> {
        self.recorded.bots.get(bot)?.starts.iter().rev().find(|start| start.trace == trace)
    }

    /// The entry that accepted the latest quarantine of a bot; 0 where there was none.
    pub(in crate::decision) fn quarantined_seq(&self, scope: &Scope) -> u64 {
        let own = self.recorded.bots.get(scope).map(|bot| bot.quarantined);
        own.or_else(|| self.quarantine_of(scope)).unwrap_or_default()
    }

    /// The bots of a swarm (`ALL`: of every swarm) that are live: that run so, left it without
    /// coming to rest, or were let start so and have not answered yet.
    pub(in crate::decision) fn live_bots<'a>(&'a self, swarm: &'a str) -> impl Iterator<Item = &'a Scope> {
        let of_swarm =
            self.recorded.bots.iter().filter(move |(bot, _)| swarm == ALL || bot.swarm_id == swarm);
        of_swarm.filter(|(scope, bot)| bot.live || self.may_start_live(scope, bot)).map(|(scope, _)| scope)
    }

    /// The bots that run live and were not heard of for `lifecycle.lost_live_after_ms`; `None`
    /// while nobody can be heard.
    pub(in crate::decision) fn silent_live_bots(
        &self,
        now: Timestamp,
    ) -> Option<impl Iterator<Item = &Scope>> {
        let listens_since = self.observed.listens_since?;
        let limit_ms = self.rules.lost_live_after_ms;
        let live = self.recorded.bots.iter().filter(|(_, bot)| bot.life == Life::RunningLive);
        Some(live.filter_map(move |(scope, bot)| {
            let status = self.inventory().instance(scope).and_then(|view| view.last_seen);
            let heard = self.observed.session_heard.get(scope).copied();
            // A session counts from its bootstrap, which is somebody else's word.
            let opened = self.session(scope).filter(|session| session.phase == Phase::Bootstrapped);
            let heard = heard.filter(|heard| opened.is_none_or(|session| session.since < *heard));
            let signs =
                heard.into_iter().chain(status.map(Timestamp::micros)).chain([bot.since, listens_since]);
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

    /// Whether that many more bots can be remembered.
    pub(in crate::decision) fn has_room_for_bots(&self, more: usize) -> bool {
        self.recorded.bots.len().saturating_add(more) <= bots_max(self)
    }

    /// Whether a bot is remembered.
    pub(in crate::decision) fn remembers_bot(&self, bot: &Scope) -> bool {
        self.recorded.bots.contains_key(bot)
    }

    /// Whether the quarantine of a whole swarm can be remembered, besides that of so many others.
    pub(in crate::decision) fn has_room_for_quarantine(&self, swarm: &str, more: usize) -> bool {
        let quarantines = &self.recorded.quarantines;
        quarantines.contains_key(swarm) || quarantines.len() + more < self.rules.memory.swarms_max
    }
}

/// How many bots are remembered.
pub(in crate::decision) fn bots_max(state: &State) -> usize {
    state.rules().inventory.instances_max.saturating_mul(2)
}
