//! One process of a worker, from its start until the system has forgotten it.
//!
//! Owns: what is said to it and heard from it, its deadlines, and how it is ended: told, then
//! SIGTERM, then SIGKILL.
//! Never: starts a process; decides whether there will be another.
//! Holds: nothing that a worker says, and no amount of it, delays its end or its deadlines; each
//! step of an end is bounded.

use std::{io, process::ExitStatus, time::Duration};

use serde_json::json;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info, warn};

use super::{
    barrier::required_workers,
    event::{Cause, End, Event, Stage},
    floor::{Worker, WorkerOrder},
    process::Process,
};
use crate::{
    channel::{self, Connection},
    clock,
    contract::control::{ControlFault, ControlMessage, MessageKind},
};

/// How long what a process said before its end may take to be read.
const LAST_WORDS_MS: u64 = 500;

/// How it came to its end.
pub(super) enum Over {
    /// It was told to.
    Stopped(End),
    /// Nobody had asked.
    Fell(Cause),
}

/// A process that runs.
pub(super) struct Running<'a> {
    worker: &'a mut Worker,
    process: Process,
    connection: Option<Connection>,
    stage: Stage,
    released: watch::Receiver<bool>,
    /// Whether the router was asked for its yes.
    has_asked: bool,
    /// When it has been silent for too long.
    deadline: Instant,
    said: u64,
}

enum Happened {
    Ended(io::Result<ExitStatus>),
    Told,
    Order(ControlMessage),
    Allowed,
    Reminded,
    Late,
    Released,
    Knocked(Connection),
    Heard(ControlMessage),
    Lost(channel::Error),
}

impl<'a> Running<'a> {
    pub(super) fn new(worker: &'a mut Worker, process: Process) -> Self {
        let released = worker.floor.barrier.watch();
        let deadline = after(worker.floor.settings.ready_timeout_ms);
        Self {
            worker,
            process,
            connection: None,
            stage: Stage::Started,
            released,
            has_asked: false,
            deadline,
            said: 0,
        }
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self) -> Over {
        loop {
            let cause = match self.next(self.deadline).await {
                Happened::Ended(status) => return self.ended(status).await,
                Happened::Told => return Over::Stopped(self.end("the supervisor was told to").await),
                Happened::Late if self.stage < Stage::Ready => Cause::NeverReady,
                Happened::Late => Cause::Silent,
                other => match self.take(other) {
                    Ok(()) => continue,
                    Err(cause) => cause,
                },
            };
            warn!(worker = self.name(), "the worker is ended: {cause}");
            self.end(&cause.to_string()).await;
            return Over::Fell(cause);
        }
    }

    /// Takes what needs no end.
    fn take(&mut self, happened: Happened) -> Result<(), Cause> {
        let protocol = |fault: &dyn std::fmt::Display| Cause::Protocol(fault.to_string());
        match happened {
            Happened::Released | Happened::Reminded if self.worker.floor.asks_router => self.ask(),
            Happened::Released => self.start_work(),
            Happened::Allowed if self.stage == Stage::Ready => self.start_work(),
            Happened::Knocked(connection) => {
                self.worker.floor.ring.take(connection.worker_id());
                self.connection = Some(connection);
                Ok(())
            }
            Happened::Heard(message) => self.hear(message),
            Happened::Lost(why) => {
                debug!(worker = self.name(), "the worker's connection has ended: {why}");
                self.connection = None;
                // A worker without a connection has nothing left to do; its process is given a
                // moment to say so.
                self.deadline = self.deadline.min(after(self.worker.floor.settings.heartbeat_timeout_ms));
                match why {
                    channel::Error::Refused(fault) => Err(protocol(&fault)),
                    _ => Ok(()),
                }
            }
            Happened::Order(message) => {
                if self.stage >= Stage::Ready {
                    self.say(message)?;
                }
                Ok(())
            }
            Happened::Ended(_) | Happened::Told | Happened::Late => Ok(()),
            // It works already, or ends.
            Happened::Allowed | Happened::Reminded => Ok(()),
        }
    }

    /// The next thing to happen. What a worker says comes last, so that no flood of it holds up the
    /// rest.
    async fn next(&mut self, deadline: Instant) -> Happened {
        let Self { worker, process, connection, stage, released, .. } = self;
        let waits = *stage == Stage::Ready && !self.has_asked;
        let ends = *stage == Stage::Stopping;
        loop {
            return tokio::select! {
                biased;
                status = process.ended() => Happened::Ended(status),
                () = worker.floor.stopping.cancelled(), if !ends => Happened::Told,
                order = worker.orders.recv(), if !worker.orders.is_closed() => match order {
                    Some(WorkerOrder::Hear(message)) => Happened::Order(message),
                    Some(WorkerOrder::Begin(number)) if number == worker.processes => Happened::Allowed,
                    Some(WorkerOrder::Ask(number)) if number == worker.processes => Happened::Reminded,
                    // What was about the process before.
                    Some(WorkerOrder::Begin(_) | WorkerOrder::Ask(_)) => continue,
                    Some(WorkerOrder::Stop) if ends => continue,
                    Some(WorkerOrder::Stop) => Happened::Told,
                    None => continue,
                },
                () = tokio::time::sleep_until(deadline) => Happened::Late,
                // Whoever could release is a part of this supervisor, so it is there.
                _ = released.wait_for(|released| *released), if waits => Happened::Released,
                Some(knocked) = worker.knocks.recv(), if connection.is_none() => Happened::Knocked(knocked),
                heard = receive(connection) => match heard {
                    Ok(message) => Happened::Heard(message),
                    Err(why) => Happened::Lost(why),
                },
            };
        }
    }

    /// Takes a message of the worker.
    fn hear(&mut self, message: ControlMessage) -> Result<(), Cause> {
        if self.stage >= Stage::Ready && self.stage != Stage::Stopping {
            self.deadline = after(self.worker.floor.settings.heartbeat_timeout_ms);
        }
        match message.kind {
            MessageKind::Stop | MessageKind::Ready | MessageKind::Heartbeat => self.step(&message),
            MessageKind::Ack => {
                debug!(worker = self.name(), kind = ?message.payload.get("ack_kind"), "acknowledged");
                Ok(())
            }
            MessageKind::Status => {
                self.tell(Event::Status(message.payload.into_map()));
                Ok(())
            }
            MessageKind::Outcome => {
                let mut said = message.payload.into_map();
                let key = said.remove("routingKey").and_then(|key| key.as_str().map(str::to_owned));
                let (Some(routing_key), Some(body)) = (key, said.remove("body")) else {
                    return Err(Cause::Protocol("`data.outcome` wants `routingKey` and `body`".to_owned()));
                };
                self.tell(Event::Said { routing_key, body });
                Ok(())
            }
            kind @ (MessageKind::BootstrapBundle | MessageKind::StartWork | MessageKind::Signal) => {
                Err(Cause::Protocol(format!("`{kind}` is not the worker's to say")))
            }
        }
    }

    /// Takes a message that moves the session, and answers it.
    fn step(&mut self, message: &ControlMessage) -> Result<(), Cause> {
        let heard = self.worker.floor.barrier.hear(message, clock::wall());
        let ack = heard.map_err(|fault| Cause::Protocol(fault.to_string()))?;
        self.say(ack)?;
        match message.kind {
            // Its first word: whatever was before has ended, and it waits for its keys.
            MessageKind::Stop if self.stage == Stage::Started => self.bootstrap(),
            MessageKind::Stop => {
                info!(worker = self.name(), "the worker says that it ends");
                Ok(())
            }
            MessageKind::Ready if self.stage == Stage::Bootstrapped => {
                self.deadline = after(self.worker.floor.settings.heartbeat_timeout_ms);
                self.reach(Stage::Ready);
                self.tell(Event::Ready);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Hands the worker its keys; from then on both sides sign with them.
    fn bootstrap(&mut self) -> Result<(), Cause> {
        let created_at_epoch = clock::wall().second();
        let bundle = self.worker.floor.keys.bundle(created_at_epoch);
        let bundle = bundle.map_err(|fault| Cause::NotStarted(fault.to_string()))?;
        let id = self.correlation_id("bundle");
        let message = bundle.message(id.clone(), self.name()).map_err(unsayable)?;
        let heard = self.worker.floor.barrier.hear(&message, clock::wall());
        heard.map_err(|fault| Cause::Protocol(fault.to_string()))?;
        self.say(message)?;
        self.reach(Stage::Bootstrapped);
        self.tell(Event::Bootstrapped {
            key_id: id,
            secret_mode: bundle.secret_mode.word(),
            kdf: bundle.kdf.word(),
            created_at_epoch,
        });
        Ok(())
    }

    /// Asks the router whether it may begin, which is judged as every start is.
    fn ask(&mut self) -> Result<(), Cause> {
        if self.stage != Stage::Ready {
            return Ok(());
        }
        let barrier = &self.worker.floor.barrier;
        let message = barrier.start_work(&self.worker.wanted.scope.instance, String::from("ask"));
        let message = message.map_err(|fault| Cause::Protocol(fault.to_string()))?;
        let required = required_workers(&message).into_iter().map(str::to_owned).collect();
        self.has_asked = true;
        info!(worker = self.name(), "the worker is ready and waits for the router's yes");
        self.tell(Event::Asks { required });
        Ok(())
    }

    fn start_work(&mut self) -> Result<(), Cause> {
        let id = self.correlation_id("start");
        let barrier = &self.worker.floor.barrier;
        let message = barrier.start_work(&self.worker.wanted.scope.instance, id);
        let message = message.map_err(|fault| Cause::Protocol(fault.to_string()))?;
        barrier.hear(&message, clock::wall()).map_err(|fault| Cause::Protocol(fault.to_string()))?;
        let required = required_workers(&message).into_iter().map(str::to_owned).collect();
        self.say(message)?;
        self.reach(Stage::Working);
        self.tell(Event::Working { required });
        Ok(())
    }

    /// Ends it: told, then SIGTERM, then SIGKILL.
    async fn end(&mut self, why: &str) -> End {
        let settings = &self.worker.floor.settings;
        let steps = [
            (End::Graceful, settings.stop_graceful_ms),
            (End::ForcedTerminate, settings.stop_terminate_ms),
            (End::ForcedKill, settings.stop_kill_ms),
        ];
        let grace_ms = settings.stop_graceful_ms;
        self.reach(Stage::Stopping);
        self.tell(Event::Stopping);
        let payload = json!({ "reason": why, "grace_ms": grace_ms }).as_object().cloned().unwrap_or_default();
        let id = self.correlation_id("stop");
        let stop = ControlMessage::new(MessageKind::Stop, id, Some(self.name().to_owned()), payload);
        // One that cannot be told is asked by a signal at once.
        let told = self.connection.is_some() && stop.is_ok_and(|stop| self.say(stop).is_ok());
        for (end, limit_ms) in steps.into_iter().skip(usize::from(!told)) {
            match end {
                End::ForcedTerminate => self.process.terminate(),
                End::ForcedKill => self.process.kill(),
                _ => {}
            }
            if end != End::Graceful {
                warn!(worker = self.name(), step = end.word(), "the worker does not end by itself");
            }
            if self.has_ended_within(limit_ms).await {
                return end;
            }
        }
        warn!(worker = self.name(), pid = self.process.id(), "the system does not end the worker");
        End::Stuck
    }

    /// Whether it ended in time; what it says meanwhile is still passed on.
    async fn has_ended_within(&mut self, limit_ms: u64) -> bool {
        let deadline = after(limit_ms);
        loop {
            match self.next(deadline).await {
                Happened::Ended(_) => {
                    self.hear_last_words().await;
                    return true;
                }
                Happened::Late => return false,
                // A fault has no consequence any more.
                other => drop(self.take(other)),
            }
        }
    }

    async fn ended(&mut self, status: io::Result<ExitStatus>) -> Over {
        self.hear_last_words().await;
        Over::Fell(match status {
            Ok(status) => Cause::Exited(status),
            Err(fault) => Cause::Protocol(format!("its end could not be waited for: {fault}")),
        })
    }

    /// Reads what it said before its end.
    async fn hear_last_words(&mut self) {
        let deadline = after(LAST_WORDS_MS);
        while self.connection.is_some() {
            let heard = tokio::time::timeout_at(deadline, receive(&mut self.connection)).await;
            let Ok(Ok(message)) = heard else { break };
            if matches!(message.kind, MessageKind::Outcome | MessageKind::Status) {
                // As before: a fault has no consequence any more.
                let _ = self.hear(message);
            }
        }
        self.connection = None;
    }

    fn say(&self, message: ControlMessage) -> Result<(), Cause> {
        let Some(connection) = &self.connection else { return Ok(()) };
        match connection.send(message) {
            Ok(_) => Ok(()),
            Err(channel::Error::Refused(fault)) => {
                warn!(worker = self.name(), "a message cannot be sent to the worker: {fault}");
                Ok(())
            }
            Err(why @ channel::Error::Full { .. }) => Err(Cause::Protocol(why.to_string())),
            // The connection's end is heard by who receives on it.
            Err(_) => Ok(()),
        }
    }

    fn reach(&mut self, stage: Stage) {
        self.stage = stage;
        info!(worker = self.name(), stage = stage.word(), "the worker has come further");
        self.worker.stage.send_replace(stage);
    }

    fn tell(&self, event: Event) {
        (self.worker.floor.tell)(&self.worker.wanted.scope, event);
    }

    fn name(&self) -> &str {
        &self.worker.wanted.scope.instance
    }

    fn correlation_id(&mut self, word: &str) -> String {
        self.said += 1;
        format!("{word}-{}-{}-{}", self.worker.floor.run, self.process.id(), self.said)
    }
}

/// The next message; never, where there is no connection.
async fn receive(connection: &mut Option<Connection>) -> Result<ControlMessage, channel::Error> {
    match connection {
        Some(connection) => connection.receive().await,
        None => std::future::pending().await,
    }
}

fn after(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

fn unsayable(fault: ControlFault) -> Cause {
    Cause::Protocol(fault.to_string())
}
