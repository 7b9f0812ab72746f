//! The SDK for workers that `swarmgate supervise` runs.
//!
//! Owns: a worker's side of the secure channel: its first key, its session, its heartbeats, what it
//! hears and says.
//! Never: touches the bus: the supervisor carries what is said here to it and back. Starts or ends
//! processes.
//! Holds: a stop overtakes every command that waits; a command that stops something overtakes every
//! other.
//!
//! ```no_run
//! use swarmgate::worker::{Answer, Order, Worker};
//!
//! # async fn run() -> Result<(), swarmgate::worker::WorkerError> {
//! let mut worker = Worker::from_env().await?;
//! // … open what the work needs …
//! worker.ready()?;
//! if worker.begun().await? {
//!     while let Order::Signal(signal) = worker.next().await? {
//!         worker.outcome(&signal, &Answer::new("Applied"))?;
//!     }
//! }
//! worker.leave().await
//! # }
//! ```

mod key;
mod said;

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, json};
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use crate::{
    channel::{self, ChannelSettings, Connection, ControlPlaneChannel, Sender, Sent},
    contract::{
        control::{ControlFault, ControlMessage, Launch, LaunchFault, MessageKind},
        routing::Scope,
    },
};
pub use said::{Answer, Order, Signal, Status, Stop};

/// How many commands wait until the worker asks for the next.
const ORDERS_LEN_MAX: usize = 1_024;
/// Heartbeats that may go unanswered before the connection counts as dead.
const HEARTBEATS_MISSED_MAX: u64 = 20;

/// Why a worker cannot go on. There is nothing to mend from inside: it should end, and its
/// supervisor starts the next.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// Nobody told it who it is.
    #[error(transparent)]
    Launch(#[from] LaunchFault),
    /// The first key cannot be read.
    #[error(
        "the first key cannot be read from the pipe that the supervisor left; start this by `swarmgate supervise`"
    )]
    Key {
        /// The system's words.
        source: io::Error,
    },
    /// The channel failed or has ended.
    #[error("the channel to the supervisor has ended")]
    Channel(#[from] channel::Error),
    /// A message cannot be said.
    #[error(transparent)]
    Message(#[from] ControlFault),
    /// The supervisor said something before the keys.
    #[error("the supervisor said `{kind}` before it handed over keys; use the same release on both sides")]
    Unexpected {
        /// What it said.
        kind: MessageKind,
    },
    /// The worker takes too long over what it hears.
    #[error("more than {ORDERS_LEN_MAX} commands wait; take them faster")]
    Overrun,
}

/// A worker with its keys.
#[derive(Debug)]
pub struct Worker {
    scope: Scope,
    sender: Sender,
    begun: watch::Receiver<Begun>,
    urgent: mpsc::Receiver<Order>,
    orders: mpsc::Receiver<Order>,
    tasks: JoinHandle<WorkerError>,
    told: Mutex<Told>,
}

/// What was said so far.
#[derive(Debug, Default)]
struct Told {
    count: u64,
    status: Option<Status>,
}

/// Whether there is work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Begun {
    /// Not yet.
    #[default]
    Waiting,
    /// It may begin.
    Yes,
    /// It must end.
    Stopped,
}

impl Worker {
    /// Reads who it is and its first key, connects, and takes the keys of its session.
    ///
    /// # Errors
    /// When this process was not started by a supervisor, or the channel fails.
    pub async fn from_env() -> Result<Self, WorkerError> {
        let launch = Launch::read(|name| std::env::var(name).ok())?;
        let key = key::read(launch.key_fd)?;
        let settings = settings(&launch);
        let channel = ControlPlaneChannel::new(key, &settings)?;
        let worker_id = launch.scope.instance.clone();
        let mut connection = Connection::connect(launch.address, &worker_id, &channel, &settings).await?;
        // The first word of a process: whatever was before has ended.
        let begin = json!({ "reason": "begin", "pid": std::process::id() });
        let begin = said::object(begin);
        connection.send(ControlMessage::new(MessageKind::Stop, "begin", Some(worker_id), begin)?)?;
        loop {
            let message = connection.receive().await?;
            match message.kind {
                // The channel has taken its key already.
                MessageKind::BootstrapBundle => {
                    connection.send(message.ack())?;
                    break;
                }
                MessageKind::Ack => {}
                kind => return Err(WorkerError::Unexpected { kind }),
            }
        }
        Ok(Self::over(connection, launch))
    }

    fn over(connection: Connection, launch: Launch) -> Self {
        let (begin, begun) = watch::channel(Begun::Waiting);
        let (hurry, urgent) = mpsc::channel(ORDERS_LEN_MAX);
        let (order, orders) = mpsc::channel(ORDERS_LEN_MAX);
        let sender = connection.sender();
        let ears = Ears { connection, begin, hurry, order };
        let tasks = tokio::spawn(ears.listen(Duration::from_millis(launch.heartbeat_ms)));
        let told = Mutex::new(Told::default());
        Self { scope: launch.scope, sender, begun, urgent, orders, tasks, told }
    }

    /// Who it is.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Says that it can work, and how it is.
    ///
    /// # Errors
    /// When the channel has ended.
    pub fn ready(&self) -> Result<(), WorkerError> {
        self.say(MessageKind::Ready, Map::new())?;
        let unsaid = self.told().status.is_none();
        if unsaid { self.status(Status::default()).map(|_| ()) } else { Ok(()) }
    }

    /// Waits until there is work: true, or until it must end: false.
    ///
    /// # Errors
    /// When the channel has ended.
    pub async fn begun(&mut self) -> Result<bool, WorkerError> {
        let begun = self.begun.wait_for(|begun| *begun != Begun::Waiting).await.map(|begun| *begun);
        match begun {
            Ok(begun) => Ok(begun == Begun::Yes),
            Err(_) => Err(self.why().await),
        }
    }

    /// The next thing to do; what stops something comes first.
    ///
    /// # Errors
    /// When the channel has ended.
    pub async fn next(&mut self) -> Result<Order, WorkerError> {
        let order = tokio::select! {
            biased;
            Some(order) = self.urgent.recv() => Some(order),
            order = self.orders.recv() => order,
        };
        match order {
            Some(order) => Ok(order),
            None => Err(self.why().await),
        }
    }

    /// Answers a command.
    ///
    /// # Errors
    /// When the channel has ended, or cannot take more.
    pub fn outcome(&self, signal: &Signal, answer: &Answer) -> Result<(), WorkerError> {
        self.say(MessageKind::Outcome, signal.outcome(&self.scope, answer)).map(|_| ())
    }

    /// Warns of something; the level is `info`, `warn` or `error`.
    ///
    /// # Errors
    /// When the channel has ended, or cannot take more.
    pub fn alert(&self, level: &str, code: &str, message: &str) -> Result<(), WorkerError> {
        self.say(MessageKind::Outcome, said::alert(&self.scope, level, code, message)).map(|_| ())
    }

    /// Says how it is; a status that finds no room is dropped, and the next one says more.
    ///
    /// # Errors
    /// When the channel has ended.
    pub fn status(&self, status: Status) -> Result<Sent, WorkerError> {
        let mut told = self.told();
        let same = |last: &Status| (&last.config, &last.io) == (&status.config, &status.io);
        let whole = !told.status.as_ref().is_some_and(same);
        let payload = status.payload(whole);
        // Dropped, it was not told: then the next is whole again.
        told.status = None;
        drop(told);
        let sent = self.say(MessageKind::Status, payload)?;
        if sent == Sent::Queued {
            self.told().status = Some(status);
        }
        Ok(sent)
    }

    /// Says good-bye, and waits until everything said has left.
    ///
    /// # Errors
    /// When the channel had ended before.
    pub async fn leave(mut self) -> Result<(), WorkerError> {
        self.say(MessageKind::Stop, said::object(json!({ "reason": "end" })))?;
        // Without ears the connection is closed in good order.
        self.urgent.close();
        self.orders.close();
        match (&mut self.tasks).await {
            Ok(WorkerError::Channel(channel::Error::Finished | channel::Error::Closed)) => Ok(()),
            Ok(why) => Err(why),
            // It neither panics nor is it aborted but by dropping this.
            Err(_) => Ok(()),
        }
    }

    fn say(&self, kind: MessageKind, payload: Map<String, serde_json::Value>) -> Result<Sent, WorkerError> {
        let count = {
            let mut told = self.told();
            told.count += 1;
            told.count
        };
        let worker_id = Some(self.scope.instance.clone());
        let message =
            ControlMessage::new(kind, format!("{}-{count}", std::process::id()), worker_id, payload)?;
        Ok(self.sender.send(message)?)
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the task has ended, or is about to.
    async fn why(&mut self) -> WorkerError {
        if self.tasks.is_finished() {
            // Its answer can be taken once; later the connection still knows.
            return self.sender.ended().await.into();
        }
        match (&mut self.tasks).await {
            Ok(why) => why,
            Err(_) => self.sender.ended().await.into(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// The task that hears, and proves life.
struct Ears {
    connection: Connection,
    begin: watch::Sender<Begun>,
    hurry: mpsc::Sender<Order>,
    order: mpsc::Sender<Order>,
}

impl Ears {
    async fn listen(mut self, heartbeat: Duration) -> WorkerError {
        let mut beat = tokio::time::interval(heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = 0_u64;
        loop {
            tokio::select! {
                biased;
                // Nobody listens any more: the worker leaves.
                () = self.hurry.closed() => return self.close().await,
                _ = beat.tick() => {
                    beats += 1;
                    if let Err(why) = self.beat(beats) {
                        return why;
                    }
                }
                heard = self.connection.receive() => {
                    if let Err(why) = heard.map_err(WorkerError::from).and_then(|message| self.hear(&message)) {
                        return why;
                    }
                }
            }
        }
    }

    async fn close(self) -> WorkerError {
        match self.connection.close().await {
            Ok(()) => channel::Error::Finished.into(),
            Err(why) => why.into(),
        }
    }

    fn beat(&self, beats: u64) -> Result<(), WorkerError> {
        let worker_id = Some(self.connection.worker_id().to_owned());
        let message =
            ControlMessage::new(MessageKind::Heartbeat, format!("beat-{beats}"), worker_id, Map::new())?;
        Ok(self.connection.send(message).map(|_| ())?)
    }

    fn hear(&self, message: &ControlMessage) -> Result<(), WorkerError> {
        match message.kind {
            MessageKind::StartWork => {
                self.connection.send(message.ack())?;
                self.begin.send_if_modified(|begun| {
                    let waiting = *begun == Begun::Waiting;
                    if waiting {
                        *begun = Begun::Yes;
                    }
                    waiting
                });
            }
            MessageKind::Stop => {
                self.connection.send(message.ack())?;
                if let Some(order) = Order::of_stop(message) {
                    if matches!(order, Order::Stop(_)) {
                        self.begin.send_replace(Begun::Stopped);
                    }
                    self.hurry.try_send(order).map_err(|_| WorkerError::Overrun)?;
                }
            }
            MessageKind::Signal => {
                if let Some(signal) = Signal::read(message, false) {
                    self.order.try_send(Order::Signal(signal)).map_err(|_| WorkerError::Overrun)?;
                }
            }
            // Acknowledgements need nothing; the rest is not for this side, and harms nobody.
            _ => {}
        }
        Ok(())
    }
}

/// The channel's bounds as the supervisor has them.
fn settings(launch: &Launch) -> ChannelSettings {
    let defaults = ChannelSettings::default();
    let silence_ms = launch.heartbeat_ms.saturating_mul(HEARTBEATS_MISSED_MAX);
    ChannelSettings {
        bind_host: launch.address.ip().to_string(),
        ttl_seconds: launch.ttl_seconds,
        max_payload_bytes: launch.payload_bytes_max,
        idle_timeout_ms: defaults.idle_timeout_ms.max(silence_ms),
        ..defaults
    }
}
