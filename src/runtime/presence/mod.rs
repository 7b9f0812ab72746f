//! One prefix has one router: who else is there, and who may begin.
//!
//! Owns: asking the other routers of a prefix before anything is consumed, and saying who the first
//! is.
//! Never: waits for the exclusive queue alone: a dead node of a cluster can keep it locked for
//! good. Nor does a router that has run wait for a broker that does not answer about other routers:
//! stops pass before anything else.
//! Holds: of two routers that hear each other at most one runs; every wait has an end or is said in
//! health and log.
//! The rule: spec/rules.md#one-prefix-one-router.

pub mod announcement;
mod look;
mod seat;
mod site;

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::announcement::{Announcement, State, host};
use self::site::Site;
pub use self::{
    look::look,
    seat::{Left, Seat},
};
use super::topology;
use crate::clock;
use crate::{
    bus::{Bus, BusError},
    telemetry::{Telemetry, health::BrokerFault},
};

/// The heartbeat that counts where the config has none.
const HEARTBEAT_S_DEFAULT: u16 = 5;
/// The pauses between the first tries for the exclusive queue: a router that was just killed leaves
/// it in that time.
const LOCK_PAUSES_MS: [u64; 3] = [30, 60, 120];
/// How often the log says for whom this router waits.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How long things are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between one question and the next.
    pub ask_every: Duration,
    /// Between two times that a running router says that it runs, unasked.
    pub tell_every: Duration,
    /// How long nobody may answer before a router with the exclusive queue begins.
    pub quiet: Duration,
    /// Likewise, where the queue is locked by what a lost connection of this router's own left
    /// behind.
    pub own_ghost: Duration,
    /// How long a router at its first start asks one that answers: that one may be ending.
    pub dying: Duration,
    /// How long nobody may answer before a router without the exclusive queue begins: RabbitMQ
    /// drops a connection that is silent after two to three heartbeats, and a router that is frozen
    /// for less comes back with its own.
    pub ghost: Duration,
}

impl Patience {
    /// Where the AMQP heartbeat is so many seconds; 0 is none.
    pub fn of(heartbeat_s: u16) -> Self {
        let heartbeat = if heartbeat_s == 0 { HEARTBEAT_S_DEFAULT } else { heartbeat_s };
        let heartbeat = Duration::from_secs(heartbeat.into());
        Self {
            ask_every: Duration::from_millis(125),
            tell_every: Duration::from_secs(1),
            quiet: Duration::from_millis(250),
            own_ghost: Duration::from_secs(2),
            dying: heartbeat * 2,
            ghost: heartbeat * 3 + Duration::from_secs(1),
        }
    }

    /// How lately another must have been heard to count as there.
    fn fresh(self) -> Duration {
        self.tell_every * 2
    }
}

/// Who this router is.
#[derive(Clone, Debug)]
pub struct PresenceSettings {
    /// What the names of its exchanges and queues begin with.
    pub prefix: String,
    /// Its instance name.
    pub instance: String,
    /// Its environment.
    pub environment: String,
    /// The broker's user as whom it connects, where its config says.
    pub user: Option<String>,
    /// How many addresses its broker has.
    pub addresses: usize,
    /// How long it waits.
    pub patience: Patience,
    /// Whether it waits for its turn also at its first start.
    pub waits: bool,
}

/// Why a router may not begin.
#[derive(Debug, Error)]
pub enum Hindrance {
    /// The broker cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The prefix belongs to another environment.
    #[error("`{prefix}` on this broker belongs to environment `{theirs}`, and this router is of `{ours}`")]
    Environment {
        /// The prefix.
        prefix: String,
        /// Whose it is.
        theirs: String,
        /// This router's.
        ours: String,
    },
    /// The address leads to another broker than the router ran at.
    #[error(
        "`{address}` is another broker: it has neither the mark of the one that this router ran at nor its queues; take it out of `amqp.urls`"
    )]
    AnotherBroker {
        /// The address.
        address: String,
    },
    /// The prefix has a router.
    #[error("`{prefix}` on this broker has a router already: {first}")]
    Taken {
        /// The prefix.
        prefix: String,
        /// Who that is.
        first: Box<Announcement>,
    },
}

impl Hindrance {
    /// Whether a person has to mend something before a router can start for the first time.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Bus(BusError::Mismatch { .. }) | Self::Environment { .. } | Self::Taken { .. } => true,
            Self::Bus(BusError::Refused { reason, .. }) => {
                ["ACCESS_REFUSED", "PRECONDITION_FAILED"].iter().any(|code| reason.contains(code))
            }
            // The broker is waited for; a file of our own that is wrong is no matter of waiting.
            Self::Bus(BusError::Tls { fault, .. }) => fault.is_own(),
            Self::Bus(_) | Self::AnotherBroker { .. } => false,
        }
    }
}

/// Whether a router goes on although it could not ask for others. While a node of a cluster hangs
/// the broker answers no declaration of a new queue, and a stop must not wait for that: who comes
/// later steps back as soon as it can ask.
const fn goes_on_after(fault: &BusError, first: bool) -> bool {
    match fault {
        BusError::Unreachable { .. } | BusError::Tls { .. } => false,
        BusError::Unanswered { .. } => true,
        _ => !first,
    }
}

/// What is known of this router's last place.
struct Last {
    had_lock: bool,
    lost_at: Instant,
}

/// A router among the others of its prefix.
pub struct Presence {
    settings: PresenceSettings,
    telemetry: Arc<Telemetry>,
    own: Announcement,
    claims: u64,
    last: Option<Last>,
    site: Site,
}

impl Presence {
    /// A router that has no place yet.
    pub fn new(settings: PresenceSettings, ledger_id: String, telemetry: Arc<Telemetry>) -> Self {
        let own = Announcement {
            router: random(),
            instance: settings.instance.clone(),
            host: host(),
            pid: std::process::id(),
            ledger_id,
            environment: settings.environment.clone(),
            state: State::Asking,
            since: clock::wall(),
            has_lock: false,
            not_alone_since: None,
            user: settings.user.clone(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        };
        let site = Site::new(settings.prefix.clone(), settings.addresses);
        Self { settings, telemetry, own, claims: 0, last: None, site }
    }

    /// Waits until this router may begin, over a connection that is new. `first`: it has never run.
    ///
    /// # Errors
    /// When it may not, or the broker cannot be used. A router that has run is kept out by other
    /// routers alone.
    pub async fn enter(&mut self, bus: &Arc<dyn Bus>, first: bool) -> Result<Seat, Hindrance> {
        self.site.recognise(bus.as_ref(), &self.telemetry).await?;
        let entered = self.claim(bus, first).await;
        self.telemetry.health.set_other_router(None);
        match entered {
            Err(Hindrance::Bus(fault)) if goes_on_after(&fault, first) => {
                warn!(error = %fault, "the broker says nothing of other routers; this one goes on without knowing");
                let mut seat = self.seat(bus);
                let fault = BrokerFault { why: fault.to_string(), needed: false };
                self.telemetry.health.set_topology(&topology::routers(&self.settings.prefix), Some(fault));
                seat.begin().await;
                Ok(seat)
            }
            entered => entered,
        }
    }

    /// Books that a place is lost.
    pub fn leave(&mut self, seat: &Seat) {
        self.own.not_alone_since = seat.own.not_alone_since;
        self.last = Some(Last { had_lock: seat.own.has_lock, lost_at: Instant::now() });
    }

    fn seat(&mut self, bus: &Arc<dyn Bus>) -> Seat {
        self.claims += 1;
        let own = Announcement { since: clock::wall(), ..self.own.clone() };
        let PresenceSettings { prefix, patience, .. } = &self.settings;
        Seat::new(bus, &self.telemetry, prefix, *patience, own, self.claims)
    }

    async fn claim(&mut self, bus: &Arc<dyn Bus>, first: bool) -> Result<Seat, Hindrance> {
        let mut seat = self.seat(bus);
        seat.declare_all(&topology::asking(&self.settings.prefix)).await?;
        for pause_ms in LOCK_PAUSES_MS {
            if seat.lock().await? {
                break;
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        // The exclusive queue is one router's alone, so two that find nobody here are never two.
        if seat.lock().await? && seat.nobody_hears().await? {
            self.belong(&mut seat, first).await?;
            seat.listen(false).await?;
        } else {
            seat.listen(true).await?;
            self.wait(bus.as_ref(), &mut seat, first).await?;
            self.belong(&mut seat, first).await?;
        }
        self.site.mark(bus.as_ref()).await;
        seat.begin().await;
        Ok(seat)
    }

    /// Says whose the prefix is: only a router does that may begin, so that one that is told no
    /// leaves nothing behind. One that has run goes on where somebody says that it is another
    /// environment's: stops pass before anything else.
    async fn belong(&self, seat: &mut Seat, first: bool) -> Result<(), Hindrance> {
        let PresenceSettings { prefix, environment, .. } = &self.settings;
        let declared = seat.declare_all(&topology::belonging(prefix, environment)).await;
        match declared.map_err(|fault| self.of_environment(fault)) {
            Err(hindrance @ Hindrance::Environment { .. }) if !first => {
                error!(%hindrance, "this router has run here and goes on; delete the exchange, and it is declared again");
                let fault = BrokerFault { why: hindrance.to_string(), needed: false };
                self.telemetry.health.set_topology(&topology::environment(prefix), Some(fault));
                Ok(())
            }
            declared => declared,
        }
    }

    /// Asks until nobody that goes before this router has answered for long enough.
    async fn wait(&self, bus: &dyn Bus, seat: &mut Seat, first: bool) -> Result<(), Hindrance> {
        let PresenceSettings { prefix, patience, waits, .. } = &self.settings;
        let began = Instant::now();
        let without_lock = self.without_lock(began);
        let mut quiet_since = began;
        let mut before: Option<(Instant, Announcement)> = None;
        let mut logged: Option<Instant> = None;
        loop {
            if !seat.own.has_lock && seat.lock().await? {
                quiet_since = Instant::now();
            }
            if !seat.own.has_lock && began.elapsed() >= patience.own_ghost {
                seat.look_at_lock().await;
            }
            seat.ask().await?;
            let heard = seat.hear_for(patience.ask_every).await?;
            let now = Instant::now();
            // While the broker lets nobody publish, nobody can answer.
            if bus.blocked().is_some() && !seat.own.has_lock {
                quiet_since = now;
            }
            for other in heard.into_iter().filter(|other| other.state != State::Looking) {
                if other.is_before(&seat.own) {
                    if first && other.environment != seat.own.environment {
                        return Err(self.other_environment(other.environment));
                    }
                    quiet_since = now;
                    let known = before.as_ref().filter(|(at, _)| now - *at < patience.fresh());
                    // Who runs is worth more to tell of than who asks too.
                    if other.state == State::Running
                        || known.is_none_or(|(_, known)| known.state != State::Running)
                    {
                        before = Some((now, other));
                    }
                }
            }
            let fresh = before.as_ref().filter(|(at, _)| now - *at < patience.fresh());
            let runs = before.as_ref().is_some_and(|(_, other)| other.state == State::Running);
            let needed = match seat.own.has_lock {
                // Whoever runs says so by itself.
                true if runs => patience.fresh(),
                true => patience.quiet,
                false => without_lock,
            };
            if now - quiet_since >= needed {
                if !seat.own.has_lock {
                    warn!(
                        "`{}` is locked, and nobody answers: this router begins without it",
                        topology::router_lock(prefix)
                    );
                }
                return Ok(());
            }
            if let Some((_, other)) = fresh
                && first
                && !waits
                && now - began >= patience.dying
            {
                return Err(Hindrance::Taken { prefix: prefix.clone(), first: Box::new(other.clone()) });
            }
            self.say(fresh.map(|(_, other)| other), now, &mut logged);
        }
    }

    /// How long nobody may answer before this router begins without the exclusive queue.
    fn without_lock(&self, now: Instant) -> Duration {
        let patience = self.settings.patience;
        match &self.last {
            // Nobody else can have begun in so short a time but with the queue, and whoever has
            // that answers.
            Some(last) if last.had_lock && now - last.lost_at < patience.dying => patience.own_ghost,
            _ => patience.ghost,
        }
    }

    /// Says for whom this router waits: in health always, in the log now and then.
    fn say(&self, before: Option<&Announcement>, now: Instant, logged: &mut Option<Instant>) {
        let lock = topology::router_lock(&self.settings.prefix);
        let why = match before {
            Some(other) => other.to_string(),
            None => format!("`{lock}` is locked, and nobody answers"),
        };
        if logged.is_none_or(|logged| now - logged >= LOG_EVERY) {
            *logged = Some(now);
            info!(other = why, "waiting for the prefix's other router to go");
        }
        self.telemetry.health.set_other_router(Some(why));
    }

    /// A mismatch of the exchange that carries the environment, in words.
    fn of_environment(&self, fault: BusError) -> Hindrance {
        let PresenceSettings { prefix, .. } = &self.settings;
        if let BusError::Mismatch { name, reason } = &fault
            && *name == topology::environment(prefix)
            && let Some(theirs) = site::alternate(name, reason)
        {
            return self.other_environment(theirs);
        }
        fault.into()
    }

    fn other_environment(&self, theirs: String) -> Hindrance {
        let PresenceSettings { prefix, environment, .. } = &self.settings;
        Hindrance::Environment { prefix: prefix.clone(), theirs, ours: environment.clone() }
    }
}

/// Sixteen hex digits.
pub(super) fn random() -> String {
    let mut bits = [0; 8];
    if getrandom::fill(&mut bits).is_err() {
        // Without random bits the process and the moment tell two routers apart well enough.
        bits = (clock::wall().micros() as u64 ^ u64::from(std::process::id()).rotate_left(40)).to_ne_bytes();
    }
    format!("{:016x}", u64::from_ne_bytes(bits))
}
