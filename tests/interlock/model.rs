//! A router as the documents have it, with its commands and its time: what it says to each word of
//! a story.
//!
//! Owns: what stories remember: where instances are, settings, the gate's history, sessions, and
//! every command with what became of it.
//! Never: names anything of the crate, or asks it.
//! Holds: it was written from the text alone. Each rule stands under the sentence that it restates.

use crate::{
    history::{History, Report, is_cleared, says},
    oracle::{
        Answer, Ask, Class, Gate, Kill, Life, Past, Safety, Situation, When, answer, class, is_exclusive,
        moved,
    },
    words::{About, At, BOTS, CONTROLLER, Command, End, Said, Standing, Void, Word},
};

/// How long a challenge waits for its confirmation.
pub const CHALLENGE_MS: u64 = 60_000;
/// After how much silence a live bot is lost.
pub const LOST_LIVE_MS: u64 = 300_000;
/// How far apart two messages are.
pub const STEP_MS: u64 = 10;
/// The actor of the router's own stops.
pub const ROUTER: usize = usize::MAX;

/// A setting of everything, and of the swarm where it has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    global: T,
    own: Option<T>,
}

impl<T: Copy + Ord> Setting<T> {
    /// The strongest that applies wins.
    pub fn applies(&self) -> T {
        self.own.map_or(self.global, |own| own.max(self.global))
    }

    /// What a new setting is compared with. A swarm without its own inherits the one of everything:
    /// less than that is loosening too.
    fn before(&self, global: bool) -> T {
        self.own.filter(|_| !global).unwrap_or(self.global)
    }

    fn set(&mut self, global: bool, to: T) {
        if global {
            self.global = to;
        } else {
            self.own = Some(to);
        }
    }
}

/// An instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bot {
    pub life: Life,
    pub past: Past,
    /// When its monitoring was last heard of, and when it was last put in quarantine. An answer to
    /// a command is no monitoring: what runs live and is not watched is not well.
    heard_at: u64,
    set_apart_at: u64,
    session: Session,
}

/// How far a worker's control session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    None,
    Bootstrapped,
    Ready,
}

#[derive(Clone, Debug)]
pub struct Model {
    now: u64,
    pub bots: [Bot; BOTS],
    pub safety: Setting<Safety>,
    pub kill: Setting<Kill>,
    /// Of everything, and of the swarm.
    pub gates: [History; 2],
    pub commands: Vec<Command>,
    /// Whether somebody else has to confirm; else the requester may.
    pub second_person: bool,
    /// The command that the last word was about.
    pub chosen: Option<usize>,
}

impl Model {
    /// Everybody is there and new; the gate passes.
    pub fn new(second_person: bool) -> Self {
        let bot = Bot {
            life: Life::Created,
            past: Past::default(),
            heard_at: 0,
            set_apart_at: 0,
            session: Session::None,
        };
        let mut passes = History::default();
        passes.take(Report { gate: Gate::Pass, until: u64::MAX }, 0, 0);
        Self {
            now: 0,
            bots: [bot; BOTS],
            safety: Setting { global: Safety::Normal, own: None },
            kill: Setting { global: Kill::Allow, own: None },
            gates: [passes, History::default()],
            commands: Vec::new(),
            second_person,
            chosen: None,
        }
    }

    pub fn lives(&self) -> [Life; BOTS] {
        self.bots.map(|bot| bot.life)
    }

    pub fn now(&self) -> u64 {
        self.now
    }

    /// Tells a word. `None` where there is nothing that it could be about; time has passed all the
    /// same.
    pub fn tell(&mut self, word: Word) -> Option<Said> {
        self.chosen = None;
        let ms = if let Word::Wait { ms } = word { ms } else { STEP_MS };
        self.pass(ms);
        match word {
            Word::Wait { .. } => Some(Said::Nothing),
            Word::Ask { kind, mode, at, actor, agrees } => {
                let requested = self.requested(kind, mode, at, agrees);
                Some(self.send(Command::new(About::To { at, kind, mode, requested }, actor)))
            }
            Word::Mode { mode, global, actor } => {
                Some(self.send(Command::new(About::Mode { mode, global }, actor)))
            }
            Word::Switch { level, global, actor } => {
                Some(self.send(Command::new(About::Switch { level, global }, actor)))
            }
            Word::Report { gate, global, lasts_ms, actor } => {
                let until = self.now + lasts_ms;
                Some(self.send(Command::new(About::Report { gate, global, until }, actor)))
            }
            Word::Confirm { nth, actor } => self.consent(nth, actor, true),
            Word::Reject { nth, actor } => self.consent(nth, actor, false),
            Word::Answer { nth, success } => self.answered(nth, success),
            Word::Lie { nth } => self.lied(nth),
            Word::Fatal { bot } => {
                self.enters(bot, moved(self.bots[bot].life, "alert", None, When::AtOnce));
                Some(Said::Nothing)
            }
            Word::Uncommanded { bot } => {
                self.set_apart(bot);
                Some(Said::Nothing)
            }
            Word::Worker { kind, bot } => Some(self.worker(kind, bot)),
            Word::Repeat { nth } => self.repeat(nth),
            Word::Look => {
                self.look();
                Some(Said::Nothing)
            }
        }
    }

    /// What becomes due on the way: a challenge that nobody confirmed within its window has
    /// expired, and a command that nobody answered by its deadline has timed out.
    fn pass(&mut self, ms: u64) {
        self.now += ms;
        for command in self.commands.iter_mut().filter(|command| command.until < self.now) {
            match command.standing {
                Standing::Challenged => command.standing = Standing::Void(Void::Expired),
                Standing::Flying => command.standing = Standing::Ended(End::TimedOut),
                _ => {}
            }
        }
    }

    /// The n-th command of those, the newest first.
    fn choose(&mut self, nth: usize, of: impl Fn(&Command) -> bool) -> Option<usize> {
        let fits = self.commands.iter().enumerate().rev().filter(|(_, command)| of(command));
        self.chosen = fits.map(|(at, _)| at).nth(nth);
        self.chosen
    }

    fn requested(&self, kind: &str, mode: Option<&str>, at: At, agrees: bool) -> Option<(Life, Life)> {
        let to = match kind {
            "bot-init" | "bot-release" | "bot-stop" => Life::Idle,
            "bot-start" | "bot-resume" => mode.and_then(Life::running).unwrap_or(Life::Paper),
            "bot-pause" => Life::Paused,
            "bot-quarantine" => Life::Quarantined,
            _ => return None,
        };
        let here = at.bots().next().map_or(Life::Created, |bot| self.bots[bot].life);
        let elsewhere = if here == Life::Idle { Life::Paused } else { Life::Idle };
        Some((if agrees { here } else { elsewhere }, to))
    }

    fn send(&mut self, command: Command) -> Said {
        self.commands.push(command);
        self.chosen = Some(self.commands.len() - 1);
        self.judge(self.commands.len() - 1)
    }

    /// The first walk through the gates. A refusal binds no key.
    fn judge(&mut self, number: usize) -> Said {
        match self.asked(number, true) {
            Answer::Refuse(code) => {
                self.commands[number].standing = Standing::Refused;
                Said::Refuse(code)
            }
            Answer::Challenge => {
                let command = &mut self.commands[number];
                command.standing = Standing::Challenged;
                command.challenged_at = Some(self.now);
                command.until = self.now + CHALLENGE_MS;
                Said::Challenge
            }
            Answer::Forward => {
                self.accept(number);
                Said::Forward
            }
        }
    }

    /// What the gates say to a command now; the second walk recognises the command's own record.
    fn asked(&self, number: usize, first: bool) -> Answer {
        let command = &self.commands[number];
        let at = command.at();
        let requested = match command.about {
            About::To { requested, .. } => requested.map(|(from, to)| format!("{from}->{to}")),
            _ => None,
        };
        let ask = Ask {
            kind: command.kind(),
            mode: command.mode(),
            requested: requested.as_deref(),
            loosens: self.loosens(command),
        };
        let addressed = at.bots().next().map(|bot| &self.bots[bot]);
        let crew = ask.mode == Some("crew");
        let (gate, unknown_refuses) = says(&self.gates, true, self.now);
        let situation = Situation {
            life: addressed.map(|bot| bot.life),
            quarantined: at.bots().any(|bot| self.bots[bot].life == Life::Quarantined),
            // A controller hands on what it is told: any bot of the swarm makes a change dangerous.
            live: (0..BOTS).any(|bot| self.past(bot).is_live()),
            pending: first && self.is_pending(at),
            session: addressed.is_some_and(|bot| bot.session != Session::None),
            crew_ready: !crew || (0..CONTROLLER).all(|bot| self.bots[bot].session == Session::Ready),
            safety: self.safety.applies(),
            kill: self.kill.applies(),
            gate,
            unknown_refuses,
        };
        answer(&situation, &ask)
    }

    /// Loosening: a setting below the one that applies, or a better report over a FAIL.
    fn loosens(&self, command: &Command) -> bool {
        match command.about {
            About::Mode { mode, global } => mode < self.safety.before(global),
            About::Switch { level, global } => level < self.kill.before(global),
            About::Report { gate, .. } => is_cleared(&self.gates, gate),
            About::To { .. } => false,
        }
    }

    /// A setting as it was, or downward, tightens nothing. Every stop does.
    fn is_stricter(&self, command: &Command) -> bool {
        match command.about {
            About::Mode { mode, global } => mode > self.safety.before(global),
            About::Switch { level, global } => level > self.kill.before(global),
            About::Report { .. } | About::To { .. } => true,
        }
    }

    fn is_pending(&self, at: At) -> bool {
        let mut open = self.commands.iter().filter(|command| command.is_open());
        open.any(|command| command.at() == at && is_exclusive(command.kind()))
    }

    /// What is remembered of a bot's runs. A confirmed live start that has not been answered may
    /// still succeed.
    pub fn past(&self, bot: usize) -> Past {
        let released = |command: &Command| {
            let may_run = command.waiting.contains(&bot) || command.unsure.contains(&bot);
            command.starts_live() && command.is_carried() && may_run
        };
        Past { start_released: self.commands.iter().any(released), ..self.bots[bot].past }
    }

    /// It is let go. What the router answers itself has ended with that; the rest is in flight
    /// until it is answered.
    fn accept(&mut self, number: usize) {
        let command = self.commands[number].clone();
        let stops = matches!(class(command.kind()), Class::Stop | Class::Tighten);
        if stops && !self.loosens(&command) {
            self.overtake(number);
        }
        let wait_ms = deadline_ms(command.kind()).filter(|_| command.is_targets());
        let accepted = &mut self.commands[number];
        accepted.standing = wait_ms.map_or(Standing::Ended(End::Answered), |_| Standing::Flying);
        accepted.accepted_at = self.now;
        accepted.until = self.now + wait_ms.unwrap_or_default();
        // What is removed is forgotten with everybody of its swarm: no story goes on after that.
        let asked = wait_ms.is_some() && command.kind() != "swarm-remove";
        accepted.waiting = command.at().bots().filter(|_| asked).collect();
        match command.about {
            About::Mode { mode, global } => self.safety.set(global, mode),
            About::Switch { level, global } => {
                self.kill.set(global, level);
                // FLATTEN: the router also tells everybody there to stop.
                if level == Kill::Flatten {
                    self.stop(At::area(global));
                }
            }
            About::Report { gate, global, until } => {
                let report = Report { gate, until };
                self.gates[usize::from(!global)].take(report, command.actor, self.now);
            }
            About::To { at, kind, .. } => at.bots().for_each(|bot| self.takes(bot, kind)),
        }
    }

    /// What begins with the acceptance already.
    fn takes(&mut self, bot: usize, kind: &str) {
        let life = moved(self.bots[bot].life, kind, None, When::Accepted);
        if kind == "bot-quarantine" {
            self.bots[bot].set_apart_at = self.now;
        }
        self.enters(bot, life);
        match kind {
            "bootstrap-bundle" => self.bots[bot].session = Session::Bootstrapped,
            // A stop ends the session; a later bootstrap opens a new one.
            "stop" => self.bots[bot].session = Session::None,
            _ => {}
        }
    }

    /// An accepted stop or tightening ends the starts and releases that it covers, and voids their
    /// challenges; and a loosening that waits for its confirmation, because nobody was asked about
    /// what it would loosen now. A setting that is set as it was tightens nothing, so no start ends
    /// by it; that it is to stay so was said, and is not loosened after that.
    fn overtake(&mut self, by: usize) {
        let at = self.commands[by].at();
        let stricter = self.is_stricter(&self.commands[by]);
        // Who says NORMAL or ALLOW asks for nothing to stay tight, and a quarantine is about an
        // instance, not a setting.
        let tightens = match self.commands[by].about {
            About::Mode { mode, .. } => mode != Safety::Normal,
            About::Switch { level, .. } => level != Kill::Allow,
            About::Report { .. } | About::To { .. } => false,
        };
        for number in (0..self.commands.len()).filter(|number| *number != by) {
            let command = &self.commands[number];
            let starts = stricter && matches!(class(command.kind()), Class::Start | Class::Release);
            let loosens = tightens && matches!(command.about, About::Mode { .. } | About::Switch { .. });
            if !(starts || loosens) || !at.contains(command.at()) {
                continue;
            }
            let command = &mut self.commands[number];
            match command.standing {
                Standing::Challenged => command.standing = Standing::Void(Void::Overtaken),
                Standing::Flying => command.standing = Standing::Ended(End::Superseded),
                _ => {}
            }
        }
    }

    /// The router's own stop.
    fn stop(&mut self, at: At) {
        let about = About::To { at, kind: "bot-stop", mode: None, requested: None };
        self.commands.push(Command::new(about, ROUTER));
        self.accept(self.commands.len() - 1);
    }

    /// A confirmation, or a rejection, by its challenge. Which of its codes an unusable challenge
    /// has is told where the text tells it.
    fn consent(&mut self, nth: usize, actor: usize, confirms: bool) -> Option<Said> {
        const UNUSABLE: Said = Said::OneOf(&[
            Said::Refuse("consent.unknown-challenge"),
            Said::Refuse("consent.challenge-expired"),
            Said::Refuse("consent.challenge-used"),
        ]);
        let number = self.choose(nth, |command| command.challenged_at.is_some())?;
        let command = &self.commands[number];
        Some(match command.standing {
            Standing::Void(Void::Expired) => Said::Refuse("consent.challenge-expired"),
            Standing::Challenged if confirms && self.second_person && command.actor == actor => {
                Said::Refuse("consent.self-confirm")
            }
            Standing::Challenged if !confirms => {
                self.commands[number].standing = Standing::Void(Void::Rejected);
                Said::Forward
            }
            // The stored command walks the whole corridor again: safety may have changed since.
            Standing::Challenged => {
                match self.asked(number, false) {
                    Answer::Refuse(_) => {
                        self.commands[number].standing = Standing::Void(Void::RefusedAgain);
                    }
                    Answer::Challenge | Answer::Forward => self.accept(number),
                }
                Said::Forward
            }
            // Once: a second confirmation within the window finds it used.
            Standing::Flying | Standing::Ended(_) if !self.is_past(number) => {
                Said::Refuse("consent.challenge-used")
            }
            _ => UNUSABLE,
        })
    }

    /// Whether the window of its challenge is over.
    pub fn is_past(&self, number: usize) -> bool {
        self.commands[number].challenged_at.is_some_and(|at| at + CHALLENGE_MS < self.now)
    }

    /// Whether a quarantine of its bot came after it was let go.
    pub fn is_overtaken(&self, number: usize) -> bool {
        let command = &self.commands[number];
        command.at().bots().any(|bot| command.accepted_at <= self.bots[bot].set_apart_at)
    }

    /// A target's answer ends a command in flight. A late success changes nothing of the command,
    /// and moves the instance.
    fn answered(&mut self, nth: usize, success: bool) -> Option<Said> {
        let number = self.choose(nth, Command::is_answerable)?;
        let command = &mut self.commands[number];
        let in_time = command.standing == Standing::Flying;
        let bot = command.waiting.pop_first()?;
        if command.waiting.is_empty() && command.standing == Standing::Flying {
            command.standing = Standing::Ended(End::Answered);
        }
        // A failure that comes when the start is over says nothing of whether it runs.
        if command.starts_live() && !success && !in_time {
            command.unsure.insert(bot);
        }
        let runs_live = command.starts_live() && success;
        let (kind, mode) = (command.kind(), command.mode());
        let life = self.bots[bot].life;
        match (kind, success) {
            // What runs in quarantine is stopped, though it was commanded before.
            ("bot-start" | "bot-resume", true) if life == Life::Quarantined => self.set_apart(bot),
            // A release opens no quarantine that came after it.
            ("bot-release", true) if self.is_overtaken(number) => {}
            (kind, true) => self.enters(bot, moved(life, kind, mode, When::Outcome)),
            // A late failure moves nothing: what did not stop in time stays STOPPING.
            ("stop" | "swarm-stop" | "bot-stop", false) if in_time => {
                self.enters(bot, moved(life, "stop-failed", None, When::AtOnce));
            }
            (_, false) => {}
        }
        // Whatever its state is by a stop or a quarantine, it runs live until it obeys.
        self.bots[bot].past.ran_live |= runs_live;
        Some(Said::Nothing)
    }

    /// What nobody confirmed takes no effect, whoever says that it did. A run is set apart and told
    /// to stop.
    fn lied(&mut self, nth: usize) -> Option<Said> {
        let number = self.choose(nth, Command::is_unconfirmed)?;
        let bot = self.commands[number].at().bots().next()?;
        if matches!(self.commands[number].kind(), "bot-start" | "bot-resume") {
            self.set_apart(bot);
        }
        Some(Said::Nothing)
    }

    /// A run that no accepted and carried start explains, or a live bot that is lost: QUARANTINED,
    /// and told to stop.
    fn set_apart(&mut self, bot: usize) {
        self.bots[bot].set_apart_at = self.now;
        self.enters(bot, moved(self.bots[bot].life, "uncommanded", None, When::AtOnce));
        self.stop(At::Bot(bot));
    }

    /// A live bot that nothing was heard of for too long is set apart, and told to stop.
    fn look(&mut self) {
        for bot in 0..BOTS {
            let Bot { life, heard_at, .. } = self.bots[bot];
            if life == Life::Live && self.now - heard_at >= LOST_LIVE_MS {
                self.set_apart(bot);
            }
        }
    }

    /// What is refused shows nobody.
    fn worker(&mut self, kind: &str, bot: usize) -> Said {
        let situation = Situation {
            session: self.bots[bot].session != Session::None,
            ..Situation::at(self.bots[bot].life)
        };
        let ask = Ask { kind, mode: None, requested: None, loosens: false };
        match answer(&situation, &ask) {
            Answer::Refuse(code) => return Said::Refuse(code),
            _ if kind == "ready" => self.bots[bot].session = Session::Ready,
            _ => {}
        }
        self.bots[bot].heard_at = self.now;
        Said::Forward
    }

    /// A repeat has no second effect. What was refused bound no key. What was overtaken, rejected,
    /// refused by the second walk or not confirmed in time has ended under its key: a retry undoes
    /// no stop.
    fn repeat(&mut self, nth: usize) -> Option<Said> {
        let number = self.choose(nth, |command| command.actor != ROUTER)?;
        Some(match self.commands[number].standing {
            Standing::Refused => self.judge(number),
            _ => Said::Suppress,
        })
    }

    /// How long it is silent counts from when it came to live.
    fn enters(&mut self, bot: usize, life: Life) {
        let bot = &mut self.bots[bot];
        if bot.life != life {
            (bot.life, bot.heard_at) = (life, self.now);
            bot.past.enters(life);
        }
    }
}

/// How long a target has, from the acceptance; `None` where it is answered at once.
fn deadline_ms(kind: &str) -> Option<u64> {
    Some(match kind {
        "swarm-start" | "bot-start" | "bot-resume" => 180_000,
        "stop" | "swarm-stop" | "bot-stop" | "bot-pause" | "swarm-remove" => 90_000,
        "bot-quarantine" | "bot-release" => 90_000,
        "config-update" => 60_000,
        "status-request" => 10_000,
        "start-work" | "bootstrap-bundle" => return None,
        _ => 120_000,
    })
}
