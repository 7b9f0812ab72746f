//! What happens to workers, for the log, the bus and whoever asks how it ended.
//!
//! Owns: the events of a worker's life, its stages, why a process fell, and how a worker's life
//! ended.
//! Never: holds key material, or waits: who is told takes an event at once or drops it.
//! Holds: the events of one worker come in their order; a worker that ended has exactly one report.

use std::{fmt, process::ExitStatus, sync::Arc};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::contract::{routing::Scope, timestamp::Timestamp};

/// Takes an event at once.
pub type Tell = Arc<dyn Fn(&Scope, Event) + Send + Sync>;

/// What happened to a worker.
#[derive(Clone, Debug)]
pub enum Event {
    /// Its process runs.
    Started {
        /// When.
        at: Timestamp,
        /// The process's number.
        pid: u32,
        /// Which of its processes this is, from 1.
        number: u64,
    },
    /// It has its keys.
    Bootstrapped {
        /// A name for the keys.
        key_id: String,
        /// Where their master comes from.
        secret_mode: &'static str,
        /// How one follows from the other.
        kdf: &'static str,
        /// When they were made, in seconds since the Unix epoch.
        created_at_epoch: i64,
    },
    /// It can work.
    Ready,
    /// It waits for the router's yes before it is told to begin.
    Asks {
        /// Who is asked to be ready for that.
        required: Vec<String>,
    },
    /// It was told to begin.
    Working {
        /// Who was asked to be ready for that.
        required: Vec<String>,
    },
    /// It said how it is.
    Status(Map<String, Value>),
    /// It said something for the bus.
    Said {
        /// Under this key.
        routing_key: String,
        /// The envelope.
        body: Value,
    },
    /// It was told to end.
    Stopping,
    /// Its process has ended.
    Ended,
    /// It will not run again.
    Over(WorkerEnd),
}

/// How far a worker's process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// There is no process.
    Down,
    /// It runs and has not shown itself.
    Started,
    /// It has its keys.
    Bootstrapped,
    /// It can work.
    Ready,
    /// It works.
    Working,
    /// It was told to end.
    Stopping,
}

impl Stage {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Stage::Down => "down",
            Stage::Started => "started",
            Stage::Bootstrapped => "bootstrapped",
            Stage::Ready => "ready",
            Stage::Working => "working",
            Stage::Stopping => "stopping",
        }
    }
}

/// Why a process that nobody had asked to end is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It could not be started.
    NotStarted(String),
    /// It ended by itself.
    Exited(ExitStatus),
    /// It was not ready in time.
    NeverReady,
    /// It was silent for too long.
    Silent,
    /// It said what it may not say.
    Protocol(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NotStarted(fault) => write!(out, "it could not be started: {fault}"),
            Cause::Exited(status) => write!(out, "it ended by itself: {status}"),
            Cause::NeverReady => out.write_str("it was not ready within `supervisor.ready_timeout_ms`"),
            Cause::Silent => out.write_str("it was silent for `supervisor.heartbeat_timeout_ms`"),
            Cause::Protocol(fault) => write!(out, "it broke the protocol: {fault}"),
        }
    }
}

/// How a worker's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It went when it was told to.
    Graceful,
    /// It went by SIGTERM.
    ForcedTerminate,
    /// It went by SIGKILL.
    ForcedKill,
    /// Not even SIGKILL ended it in time.
    Stuck,
    /// It had no process when it was told to.
    NotRunning,
    /// It fell too often.
    GivenUp,
}

impl End {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            End::Graceful => "graceful",
            End::ForcedTerminate => "forced-terminate",
            End::ForcedKill => "forced-kill",
            End::Stuck => "stuck",
            End::NotRunning => "not-running",
            End::GivenUp => "given-up",
        }
    }

    /// Whether it went without force.
    pub const fn is_graceful(self) -> bool {
        matches!(self, End::Graceful | End::NotRunning)
    }
}

/// The end of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerEnd {
    /// Who.
    pub worker: Scope,
    /// How many processes it had.
    pub processes: u64,
    /// How the last one ended.
    pub end: End,
    /// Why it fell last, where it did.
    pub last_fall: Option<String>,
}
