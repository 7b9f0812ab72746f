//! Questions to a running router, from the windows that only look in.
//!
//! Owns: the closed list of questions and the way to the router's task, which answers between two rounds.
//! Never: changes anything, or hands out more than `PAGE_MAX` rows at once.
//! Holds: a question that the router has no time for is told so; asking never holds up an envelope.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::contract::routing::Scope;

/// Rows in one answer at most.
pub const PAGE_MAX: usize = 1000;
/// How many questions may wait.
const WAITING_MAX: usize = 64;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked. Each answer is JSON in the shape that docs/reference/api.md gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The router itself, its lanes, ledger and broker, and totals of commands and inventory.
    Overview,
    /// Every swarm that is known or expected.
    Swarms,
    /// Instances of one swarm, in order, from behind `after` on.
    Instances {
        /// The swarm.
        swarm: String,
        /// The last one of the page before.
        after: Option<Scope>,
        /// How many, at most `PAGE_MAX`.
        limit: usize,
    },
    /// One instance.
    Instance(Scope),
    /// Commands in flight, the newest first; `parked` asks only for those that wait for their target.
    Commands {
        /// Only those that wait for their target.
        parked: bool,
        /// How many, at most `PAGE_MAX`.
        limit: usize,
    },
    /// One command, by its number (the entry that accepted it) or its correlationId, in flight or ended.
    Command(String),
    /// Who is starved and what backs up if an instance stops.
    ImpactOfInstance(Scope),
    /// Who is starved and what backs up if a queue stops.
    ImpactOfQueue(String),
    /// The whole queue graph: nodes and edges.
    Graph,
}

/// A question, and whom to tell.
pub(super) struct Asked {
    pub question: Question,
    /// Answered with nothing when what was asked for is not known.
    pub tell: oneshot::Sender<Option<Value>>,
}

/// Asks a router; cheap to clone.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::Sender<Asked>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The router is stopping or gone.
    #[error("the router is stopping; ask again when it runs")]
    Gone,
    /// It has no time for questions now.
    #[error("the router is too busy to answer; ask again in a moment")]
    Busy,
}

impl Asker {
    /// An asker, and the end that the router listens at.
    pub(super) fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        (Self(ask), asked)
    }

    /// Asks; `None` when what was asked for is not known.
    ///
    /// # Errors
    /// When the router cannot answer now.
    pub async fn ask(&self, question: Question) -> Result<Option<Value>, Unanswered> {
        let (tell, told) = oneshot::channel();
        self.0.try_send(Asked { question, tell }).map_err(|fault| match fault {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Gone,
        })?;
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Unanswered::Gone),
            Err(_) => Err(Unanswered::Busy),
        }
    }
}
