//! The way of an order: from its echo over consent to the bus, and on until it has an end.
//!
//! Owns: asking for consent, sending, and the wait for the answer.
//! Never: confirms what it asked for: a challenge is shown, and answered by a separate act.
//! Holds: nothing dangerous leaves without consent.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use super::{
    CliError, Exit, Globals, Out,
    answered::{Answered, HeardOutcome},
    client, may,
    order::{Flags, Manner, Order, Way},
    output::aside,
    runbook, signal,
    stopping::Stop,
    tail,
    typed::Consent,
    wait::Wait,
};
use crate::{
    bus::{Bus, BusError, Consumer, amqp::Amqp},
    config::Loaded,
    contract::{
        command::{Answerer, Class, Commands},
        message::Message,
    },
};

/// How long an answer of the router itself may take.
const AT_ONCE: Duration = Duration::from_secs(15);
/// How long after its deadline the router's word may take to arrive.
const AFTER_DEADLINE: Duration = Duration::from_secs(5);
/// The longest a challenge can wait.
const CHALLENGE_MAX: Duration = Duration::from_secs(300);
/// How long the broker may take to let us in, when something has to stop.
const BROKER_WAIT: Duration = Duration::from_secs(20);

impl Order {
    /// Shows, asks where consent is needed, sends, waits, and tells how it ended.
    ///
    /// # Errors
    /// When consent was not given, or the broker cannot be used.
    pub async fn give(
        self,
        way: &Way,
        asked: (&Manner, &Flags, Option<&str>),
        globals: &Globals,
    ) -> Result<Exit, CliError> {
        Ok(self.give_with_stop(way, asked, globals).await?.0)
    }

    /// The same, with the stop that the router says it has ordered.
    ///
    /// # Errors
    /// As `give`.
    pub async fn give_with_stop(
        self,
        way: &Way,
        (manner, flags, live): (&Manner, &Flags, Option<&str>),
        globals: &Globals,
    ) -> Result<(Exit, Option<Stop>), CliError> {
        let loaded = way.connect.config(globals)?;
        let message = self.message(&loaded, manner)?;
        if !manner.dry_run && self.asks_first() {
            // Who may not is not asked for his consent.
            let may = may::ask(&way.access.router(globals)?, &message).await?;
            if !may.allowed {
                return may::no(&may, globals).map(|exit| (exit, None));
            }
        }
        if !globals.is_json() || self.echo.dangerous {
            self.echo.show();
        }
        let mut out = Out::new();
        if let Some(exit) = signal::refused_here(&loaded.contract, &message, globals, &mut out)? {
            return Ok((exit, None));
        }
        if manner.dry_run {
            if globals.is_json() {
                out.json(
                    &json!({ "sent": false, "order": self.echo.to_json(), "message": tail::shown(&message) }),
                )?;
            } else {
                out.line(&tail::one_line(&message))?;
            }
            return Ok((Exit::Done, None));
        }
        drop(out);
        if self.echo.dangerous {
            let consent =
                Consent { word: &self.echo.target, live: self.echo.live, yes: flags.yes, named: live };
            consent.obtain()?;
        }
        let answers = (!manner.no_wait).then(|| self.answers(&message));
        let line = Line::open(way, &loaded.config.amqp.prefix, answers, globals).await;
        let line = line.map_err(|fault| self.unsent(fault))?;
        signal::publish(line.bus.as_ref(), &message, &line.prefix)
            .await
            .map_err(|fault| self.unsent(fault))?;
        self.follow(line, &message, (way, manner, flags), &loaded, globals).await
    }

    /// Waits as long as was asked, and tells what came.
    async fn follow(
        &self,
        line: Line,
        message: &Message,
        (way, manner, flags): (&Way, &Manner, &Flags),
        loaded: &Loaded,
        globals: &Globals,
    ) -> Result<(Exit, Option<Stop>), CliError> {
        let mut answered = Answered::new(self, message, globals);
        let timeout = self.patience(loaded, manner, flags);
        let Line { bus, consumer, .. } = line;
        let Some(mut consumer) = consumer else {
            bus.close().await;
            if manner.no_wait {
                return answered.sent().map(|exit| (exit, None));
            }
            let exit = self.asked(way, answered.correlation(), timeout, globals).await?;
            return Ok((exit, None));
        };
        if !globals.is_json() {
            let seconds = timeout.as_secs();
            aside(&format!(
                "sent with correlationId {id}; waiting up to {seconds} s for its end (`swarmgate commands {id}` shows \
                 who has answered)",
                id = answered.correlation()
            ));
        }
        let (until, settler) = (Instant::now() + timeout, consumer.settler());
        let exit = 'end: loop {
            let deliveries = tokio::select! {
                deliveries = consumer.next(64) => deliveries,
                () = tokio::time::sleep_until(until) => {
                    break answered.silent(&format!("no end within {} s", timeout.as_secs()));
                }
                _ = tokio::signal::ctrl_c() => break answered.silent("interrupted"),
            };
            let deliveries = match deliveries {
                Ok(deliveries) => deliveries,
                Err(fault) => break Err(unheard(fault, answered.correlation())),
            };
            let Some(last) = deliveries.last().map(|delivery| delivery.tag) else {
                break answered.silent("the broker sends no more");
            };
            for delivery in deliveries {
                let heard = HeardOutcome::read(&delivery.message, self.kind_type, answered.correlation());
                let Some(heard) = heard else { continue };
                if let Some(exit) = answered.hear(&heard, flags.wait_consent).transpose() {
                    break 'end exit;
                }
            }
            if let Err(fault) = settler.ack(last, true).await {
                break Err(unheard(fault, answered.correlation()));
            }
        };
        bus.close().await;
        Ok((exit?, answered.stop()))
    }

    /// Who may not listen on the broker asks the router how it ended.
    async fn asked(
        &self,
        way: &Way,
        id: &str,
        timeout: Duration,
        globals: &Globals,
    ) -> Result<Exit, CliError> {
        aside("sent; this user may not listen on the broker, so the router is asked how it ends");
        let router = way.access.router(globals)?;
        let wait = Wait { router: &router, id, timeout, unknown_max: AT_ONCE, was_reached: false };
        wait.shown(globals).await
    }

    fn patience(&self, loaded: &Loaded, manner: &Manner, flags: &Flags) -> Duration {
        let end = patience(self.kind_type, loaded, manner);
        if flags.wait_consent && manner.timeout.is_none() { end + CHALLENGE_MAX } else { end }
    }

    /// A fault of the broker, with what stops a fleet all the same.
    fn unsent(&self, fault: CliError) -> CliError {
        let CliError::Bus(source) = fault else { return fault };
        let class = Commands::default().get(self.kind_type).map(|row| row.class);
        let eases = matches!(class, Some(Class::Stop | Class::Tighten)) && !self.echo.dangerous;
        let help = match (source.is_forbidden(), eases) {
            (true, _) => format!(
                "the broker does not let `{}` do that: ask for write on the router's exchange \
                 (docs/operating/broker-permissions.md), or have somebody do it who may",
                self.echo.sender
            ),
            (false, true) => format!(
                "on the router's host `swarmgate kill --latch-only --ledger DIR --reason WHY` works without a broker; \
                 runbook: {}",
                runbook::BROKER_DOWN
            ),
            (false, false) => {
                format!("`swarmgate doctor --amqp URL` looks; runbook: {}", runbook::BROKER_DOWN)
            }
        };
        let help = source.help().map_or_else(|| help.clone(), |next| format!("{next}; {help}"));
        CliError::Unsent { source, help }
    }
}

/// How long the end of a command of that type is waited for.
pub(super) fn patience(kind_type: &str, loaded: &Loaded, manner: &Manner) -> Duration {
    if let Some(seconds) = manner.timeout {
        return Duration::from_secs(seconds);
    }
    let rules = loaded.rules();
    let row = rules.commands.get(kind_type);
    let deadline = row.filter(|row| row.answered_by == Answerer::Target).and_then(|row| row.deadline_ms);
    deadline.map_or(AT_ONCE, |ms| Duration::from_millis(ms) + AFTER_DEADLINE)
}

/// A connection, and what can be heard over it.
struct Line {
    bus: Arc<Amqp>,
    prefix: String,
    consumer: Option<Box<dyn Consumer>>,
}

impl Line {
    /// Connects, and listens before anything is sent. Who may not listen may still send.
    async fn open(
        way: &Way,
        prefix: &str,
        answers: Option<[String; 2]>,
        globals: &Globals,
    ) -> Result<Self, CliError> {
        let opened = tokio::time::timeout(BROKER_WAIT, way.connect.open(globals)).await;
        let (_, bus) = opened.map_err(|_| BusError::Unreachable {
            address: way.connect.shown(globals),
            reason: format!("no answer within {} s", BROKER_WAIT.as_secs()),
        })??;
        let mut line = Self { bus, prefix: prefix.to_owned(), consumer: None };
        let Some([outcomes, refused]) = answers else { return Ok(line) };
        let (outcomes, refused) =
            ((format!("{prefix}.out"), outcomes), (format!("{prefix}.refused"), refused));
        for bindings in [vec![outcomes.clone(), refused], vec![outcomes]] {
            match client::listen(line.bus.as_ref(), prefix, bindings).await {
                Ok(consumer) => {
                    line.consumer = Some(consumer);
                    break;
                }
                Err(fault) if fault.is_forbidden() => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(line)
    }
}

/// The answer cannot be heard any more; the order stands.
fn unheard(source: BusError, correlation: &str) -> CliError {
    let help = format!(
        "the order was sent and stands: `swarmgate wait {correlation}`; runbook: {}",
        runbook::BROKER_DOWN
    );
    CliError::Unsent { source, help }
}
