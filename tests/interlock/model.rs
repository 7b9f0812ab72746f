//! A story, as the rules tell it: what each word of it is answered, and where the instances are afterwards.
//!
//! Owns: time, settings, commands and challenges as the specification has them, over the tables of `oracle`.
//! Never: names anything of the crate.
//! Holds: one word changes the model once; where the texts leave the answer open, `OneOf` says between which.

use std::mem;

use crate::{
    oracle::{Answer, Ask, Gate, Kill, Life, Safety, Situation, When, answer, moved},
    words::{About, Command, End, Said, Standing, Void, Word},
};

/// How long a challenge may be confirmed.
pub const CHALLENGE_MS: u64 = 60_000;
/// How far apart two words are told.
pub const STEP_MS: u64 = 10;
/// Instances of a story.
pub const BOTS: usize = 2;
/// The actor of what the router asks by itself.
pub const ROUTER: usize = usize::MAX;

/// The world as the rules know it.
#[derive(Clone, Debug)]
pub struct Model {
    pub lives: [Option<Life>; BOTS],
    /// What ran live last, and has neither come to rest nor to another mode since.
    pub live: [bool; BOTS],
    /// The global setting and the swarm's own.
    pub safety: (Safety, Option<Safety>),
    pub kill: (Kill, Option<Kill>),
    pub gate: Gate,
    /// It failed, and neither its reporter nor a confirmed report has cleared that.
    pub failed: bool,
    /// Who alone said so.
    pub failed_by: Option<usize>,
    pub commands: Vec<Command>,
    /// Whether the requester may not confirm.
    pub second_person: bool,
    /// The command that the last word chose.
    pub chosen: Option<usize>,
    /// Where an instance may be besides, where the texts leave that open.
    pub open: Option<(usize, Life)>,
    now: u64,
}

/// What is said to a confirmation of what was rejected, overtaken or refused again: the texts name no code of its own.
const GONE: Said = Said::OneOf(&[
    Said::Refuse("consent.unknown-challenge"),
    Said::Refuse("consent.challenge-expired"),
    Said::Refuse("consent.challenge-used"),
]);

impl Model {
    /// Everything is allowed, both instances are new, and the gate passes.
    pub fn new(second_person: bool) -> Self {
        Self {
            lives: [Some(Life::Created); BOTS],
            live: [false; BOTS],
            safety: (Safety::Normal, None),
            kill: (Kill::Allow, None),
            gate: Gate::Pass,
            failed: false,
            failed_by: None,
            commands: Vec::new(),
            second_person,
            chosen: None,
            open: None,
            now: 0,
        }
    }

    /// The n-th command that satisfies, the newest first, going around.
    fn choose(&mut self, nth: usize, which: impl Fn(&Command) -> bool) -> Option<usize> {
        let found: Vec<usize> =
            (0..self.commands.len()).rev().filter(|at| which(&self.commands[*at])).collect();
        self.chosen = (!found.is_empty()).then(|| found[nth % found.len()]);
        self.chosen
    }

    /// Tells one word. `None` where there is nothing that it could be about.
    pub fn tell(&mut self, word: Word) -> Option<Said> {
        let said = self.told(word);
        self.see_who_is_live();
        said
    }

    fn see_who_is_live(&mut self) {
        for (life, live) in self.lives.iter().zip(&mut self.live) {
            match life {
                Some(Life::Live) => *live = true,
                Some(Life::Paused | Life::Stopping | Life::Error | Life::Quarantined) => {}
                None | Some(Life::Created | Life::Idle | Life::Paper | Life::Shadow) => *live = false,
            }
        }
    }

    /// Whether anybody is live, or was let start so and may answer that still.
    fn somebody_is_live(&self) -> bool {
        let may = |command: &Command| {
            command.started() && command.mode() == Some("live") && command.is_answerable()
        };
        self.live.contains(&true) || self.commands.iter().any(may)
    }

    fn told(&mut self, word: Word) -> Option<Said> {
        self.now += if let Word::Wait { ms } = word { ms } else { STEP_MS };
        self.expire();
        self.open = None;
        Some(match word {
            Word::Wait { .. } => Said::Nothing,
            Word::Ask { kind, mode, bot, actor, agrees } => {
                let about =
                    About::Bot { bot, kind, mode, requested: self.requested(kind, mode, bot, agrees) };
                self.send(about, actor)
            }
            Word::Mode { mode, global, actor } => {
                (mode != self.mode_at(global)).then(|| self.send(About::Mode { mode, global }, actor))?
            }
            Word::Switch { level, global, actor } => {
                let flattens = level == Kill::Flatten && self.switch_at(global) > level;
                // Whether it loosens to set less than is inherited is asked apart, in `unconfirmed`.
                let inherits = !global && self.kill.1.is_none() && level < self.kill.0;
                let changes = level != self.switch_at(global) && !flattens && !inherits;
                changes.then(|| self.send(About::Switch { level, global }, actor))?
            }
            Word::Report { gate, actor } => self.send(About::Report { gate }, actor),
            Word::Confirm { .. } | Word::Reject { .. } | Word::Answer { .. } | Word::Lie { .. } => {
                self.chose(word)?
            }
            Word::Fatal { bot } => {
                self.lives[bot] = self.lives[bot].map(|life| moved(life, "alert", None, When::AtOnce));
                Said::Forward
            }
            Word::Uncommanded { bot } => {
                let started = |command: &Command| command.bot() == Some(bot) && command.started();
                if self.commands.iter().any(started) {
                    return None;
                }
                self.uncommanded(bot);
                Said::Forward
            }
            Word::Repeat { nth } => {
                let at = self.choose(nth, |command| command.actor != ROUTER)?;
                if self.commands[at].standing != Standing::Refused {
                    return Some(Said::Suppress);
                }
                self.judge(at)
            }
        })
    }

    /// Tells a word about a command that was sent before.
    fn chose(&mut self, word: Word) -> Option<Said> {
        Some(match word {
            Word::Confirm { nth, actor } => {
                let at = self.choose(nth, |command| command.challenged_at.is_some())?;
                self.confirm(at, actor)
            }
            Word::Reject { nth, .. } => {
                let at = self.choose(nth, |command| command.standing == Standing::Challenged)?;
                self.commands[at].standing = Standing::Void(Void::Rejected);
                Said::Forward
            }
            Word::Answer { nth, success } => {
                let newest = self.newest_starts();
                let at = self.choose(nth, |command| {
                    // What comes of an older start that is answered late is asked apart, in `unconfirmed`.
                    let is_old =
                        command.started() && command.until < newest[command.bot().unwrap_or_default()];
                    command.is_answerable() && (success || command.standing == Standing::Flying) && !is_old
                })?;
                self.answered(at, success);
                Said::Forward
            }
            Word::Lie { nth } => {
                let at = self.choose(nth, Command::is_unconfirmed)?;
                let command = &self.commands[at];
                if let (Some(bot), "bot-start" | "bot-resume") = (command.bot(), command.kind()) {
                    self.uncommanded(bot);
                }
                Said::Forward
            }
            _ => return None,
        })
    }

    /// What a true, or else an untrue, `requestedTransition` of that command says.
    fn requested(
        &self,
        kind: &str,
        mode: Option<&str>,
        bot: usize,
        agrees: bool,
    ) -> Option<(Option<Life>, Life)> {
        let to = match (kind, mode) {
            ("bot-init" | "bot-release" | "bot-stop", _) => Life::Idle,
            ("bot-pause", _) => Life::Paused,
            ("bot-quarantine", _) => Life::Quarantined,
            ("bot-start" | "bot-resume", Some("shadow")) => Life::Shadow,
            ("bot-start" | "bot-resume", Some("live")) => Life::Live,
            ("bot-start" | "bot-resume", _) => Life::Paper,
            _ => return None,
        };
        let wrong = if to == Life::Created { Life::Idle } else { Life::Created };
        Some((self.lives[bot], if agrees { to } else { wrong }))
    }

    fn send(&mut self, about: About, actor: usize) -> Said {
        let standing = Standing::Refused;
        self.commands.push(Command { about, actor, standing, challenged_at: None, until: u64::MAX });
        self.judge(self.commands.len() - 1)
    }

    /// The first walk.
    fn judge(&mut self, at: usize) -> Said {
        if self.is_pending(at) {
            return Said::Refuse("command.pending");
        }
        match self.walk(at) {
            Answer::Refuse(code) => Said::Refuse(code),
            Answer::Challenge => {
                let command = &mut self.commands[at];
                command.standing = Standing::Challenged;
                command.challenged_at = Some(self.now);
                command.until = self.now + CHALLENGE_MS;
                Said::Challenge
            }
            Answer::Forward => {
                self.accept(at);
                Said::Forward
            }
        }
    }

    /// The second walk, with the confirmation as its permit.
    fn confirm(&mut self, at: usize, actor: usize) -> Said {
        let command = &self.commands[at];
        let is_past = self.is_past(command);
        match command.standing {
            Standing::Void(Void::Expired) => return Said::Refuse("consent.challenge-expired"),
            Standing::Void(_) => return GONE,
            Standing::Flying | Standing::Ended(_) if is_past => return GONE,
            Standing::Flying | Standing::Ended(_) => return Said::Refuse("consent.challenge-used"),
            Standing::Refused | Standing::Challenged => {}
        }
        if self.second_person && command.actor == actor {
            return Said::Refuse("consent.self-confirm");
        }
        match self.walk(at) {
            // The confirmation was an act of its own; what it confirmed ends.
            Answer::Refuse(_) => {
                self.commands[at].standing = Standing::Void(Void::RefusedAgain);
                Said::Forward
            }
            Answer::Challenge | Answer::Forward => {
                self.accept(at);
                Said::Forward
            }
        }
    }

    /// Whether the time in which it might be confirmed is over.
    pub fn is_past(&self, command: &Command) -> bool {
        command.challenged_at.is_some_and(|since| self.now > since + CHALLENGE_MS)
    }

    fn walk(&self, at: usize) -> Answer {
        let command = &self.commands[at];
        let life = command.bot().and_then(|bot| self.lives[bot]);
        let (safety, kill, live) = (self.mode(), self.switch(), self.somebody_is_live());
        let situation = Situation { life, safety, gate: self.gate, kill, live };
        let requested = match command.about {
            About::Bot { requested: Some((from, to)), .. } => {
                Some(format!("{}->{}", from.map_or("CREATED", Life::name), to.name()))
            }
            _ => None,
        };
        let loosens = self.loosens(command);
        let (kind, mode) = (command.kind(), command.mode());
        answer(&situation, &Ask { kind, mode, requested: requested.as_deref(), loosens })
    }

    fn loosens(&self, command: &Command) -> bool {
        match command.about {
            About::Bot { .. } => false,
            About::Mode { mode, global } => mode < self.mode_at(global),
            About::Switch { level, global } => level < self.switch_at(global),
            About::Report { gate } => self.failed && matches!(gate, Gate::Pass | Gate::Warn),
        }
    }

    fn is_pending(&self, at: usize) -> bool {
        let command = &self.commands[at];
        let same = |other: &Command| other.bot() == command.bot() && other.is_exclusive() && other.is_open();
        command.is_exclusive() && self.commands.iter().any(same)
    }

    /// It takes effect: a setting at once, an instance's when its target says so, a stop's beginning now.
    fn accept(&mut self, at: usize) {
        let about = self.commands[at].about;
        self.commands[at].standing = Standing::Ended(End::Answered);
        match about {
            About::Bot { bot, kind, mode, .. } => {
                self.commands[at].standing = Standing::Flying;
                self.commands[at].until = self.now + deadline_ms(kind);
                if matches!(kind, "bot-stop" | "bot-pause" | "bot-quarantine") {
                    let quarantines = kind == "bot-quarantine";
                    let end = if quarantines { End::SupersededByQuarantine } else { End::Superseded };
                    self.supersede(bot, end);
                }
                self.lives[bot] = self.lives[bot].map(|life| moved(life, kind, mode, When::Accepted));
            }
            About::Report { gate } => self.report(gate, self.commands[at].actor),
            About::Mode { mode, global } => {
                let tightens = mode > self.mode_at(global);
                if mode >= self.mode_at(global) && mode > Safety::Normal {
                    self.void_loosening(global);
                }
                if global {
                    self.safety.0 = mode
                } else {
                    self.safety.1 = Some(mode)
                }
                if tightens {
                    (0..BOTS).for_each(|bot| self.supersede(bot, End::Superseded));
                }
            }
            About::Switch { level, global } => {
                let tightens = level > self.switch_at(global);
                if level >= self.switch_at(global) && level > Kill::Allow {
                    self.void_loosening(global);
                }
                if global {
                    self.kill.0 = level
                } else {
                    self.kill.1 = Some(level)
                }
                if tightens {
                    (0..BOTS).for_each(|bot| self.supersede(bot, End::Superseded));
                }
                if level == Kill::Flatten {
                    self.flatten();
                }
            }
        }
    }

    /// No other's report shortens a FAIL, but whose own it was may say that it is not known any more.
    fn report(&mut self, gate: Gate, actor: usize) {
        match gate {
            Gate::Pass | Gate::Warn => (self.failed, self.failed_by) = (false, None),
            Gate::Fail => {
                self.failed_by = Some(actor).filter(|_| !self.failed || self.failed_by == Some(actor));
                self.failed = true;
            }
            Gate::Unknown if self.failed && self.failed_by != Some(actor) => return,
            Gate::Unknown => {}
        }
        self.gate = gate;
    }

    /// What tightens, or says again how tight it is, voids the loosening that waits to be confirmed where it reaches.
    fn void_loosening(&mut self, everywhere: bool) {
        for command in self.commands.iter_mut().filter(|command| command.standing == Standing::Challenged) {
            if let About::Mode { global, .. } | About::Switch { global, .. } = command.about
                && (everywhere || !global)
            {
                command.standing = Standing::Void(Void::Overtaken);
            }
        }
    }

    fn supersede(&mut self, bot: usize, end: End) {
        let open =
            self.commands.iter_mut().filter(|command| command.bot() == Some(bot) && command.is_exclusive());
        for command in open {
            match command.standing {
                Standing::Challenged => command.standing = Standing::Void(Void::Overtaken),
                Standing::Flying => command.standing = Standing::Ended(end),
                // Its success may come late all the same, and is older than the quarantine then too.
                Standing::Ended(End::TimedOut | End::Superseded) if end == End::SupersededByQuarantine => {
                    command.standing = Standing::Ended(end);
                }
                _ => {}
            }
        }
    }

    /// The router stops everything that it can reach.
    fn flatten(&mut self) {
        (0..BOTS).for_each(|bot| self.stop(bot));
    }

    /// The router stops an instance of its own accord.
    fn stop(&mut self, bot: usize) {
        self.lives[bot] = self.lives[bot].map(|life| moved(life, "bot-stop", None, When::Accepted));
        let about = About::Bot { bot, kind: "bot-stop", mode: None, requested: None };
        let until = self.now + deadline_ms("bot-stop");
        let standing = Standing::Flying;
        self.commands.push(Command { about, actor: ROUTER, standing, challenged_at: None, until });
    }

    /// It runs, and nobody let it: it is set apart and stopped.
    fn uncommanded(&mut self, bot: usize) {
        self.lives[bot] = Some(Life::Quarantined);
        self.supersede(bot, End::SupersededByQuarantine);
        self.stop(bot);
    }

    /// Until when the last start of each instance waits.
    pub fn newest_starts(&self) -> [u64; BOTS] {
        let mut newest = [0; BOTS];
        for command in self.commands.iter().filter(|command| command.started()) {
            let bot = command.bot().unwrap_or_default();
            newest[bot] = newest[bot].max(command.until);
        }
        newest
    }

    fn answered(&mut self, at: usize, success: bool) {
        let command = &mut self.commands[at];
        let by = mem::replace(&mut command.standing, Standing::Ended(End::Answered));
        let (kind, mode) = (command.kind(), command.mode());
        let Some(bot) = command.bot() else { return };
        let Some(life) = self.lives[bot] else { return };
        if success && mode == Some("live") && matches!(kind, "bot-start" | "bot-resume") {
            // Whatever is said of its state, it runs so.
            self.live[bot] = true;
        }
        // Whoever asked it to run, the quarantine came after that.
        if success && life == Life::Quarantined && matches!(kind, "bot-start" | "bot-resume") {
            return self.uncommanded(bot);
        }
        self.lives[bot] = Some(match success {
            // The stop was asked for before the fault; whether its end takes the fault away the texts leave open.
            true if kind == "bot-stop" && life == Life::Error => {
                self.open = Some((bot, Life::Idle));
                life
            }
            // It holds since it was accepted; whether its target's word sets it apart anew after a release the texts leave open.
            true if kind == "bot-quarantine" => {
                self.open = Some((bot, Life::Quarantined));
                life
            }
            // A quarantine came after it, and is what holds.
            true if kind == "bot-release" && by == Standing::Ended(End::SupersededByQuarantine) => {
                // Asked apart, in `unconfirmed`.
                self.open = Some((bot, Life::Idle));
                life
            }
            true => moved(life, kind, mode, When::Outcome),
            false if kind == "bot-stop" => moved(life, "stop-failed", None, When::AtOnce),
            false => life,
        });
    }

    fn expire(&mut self) {
        for command in self.commands.iter_mut().filter(|command| command.until <= self.now) {
            match command.standing {
                Standing::Challenged => command.standing = Standing::Void(Void::Expired),
                Standing::Flying => command.standing = Standing::Ended(End::TimedOut),
                _ => {}
            }
        }
    }

    /// The setting that a scope has, its own or the one it inherits.
    pub fn mode_at(&self, global: bool) -> Safety {
        if global { self.safety.0 } else { self.safety.1.unwrap_or(self.safety.0) }
    }

    pub fn switch_at(&self, global: bool) -> Kill {
        if global { self.kill.0 } else { self.kill.1.unwrap_or(self.kill.0) }
    }

    /// The strongest that applies to the instances.
    pub fn mode(&self) -> Safety {
        self.safety.0.max(self.mode_at(false))
    }

    pub fn switch(&self) -> Kill {
        self.kill.0.max(self.switch_at(false))
    }
}

/// Whether its instance was started once more since.
pub fn is_older(command: &Command, newest: &[u64; BOTS]) -> bool {
    command.started() && command.bot().is_some_and(|bot| command.until < newest[bot])
}

fn deadline_ms(kind: &str) -> u64 {
    match kind {
        "bot-start" | "bot-resume" => 180_000,
        "bot-stop" | "bot-pause" | "bot-quarantine" | "bot-release" => 90_000,
        "config-update" => 60_000,
        _ => 120_000,
    }
}
