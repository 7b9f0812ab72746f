//! Questions to a running router, from the windows that only look in.
//!
//! Owns: the closed list of questions and the way to the router's task, which answers between two rounds.
//! Never: changes anything, or hands out more than `PAGE_MAX` rows at once.
//! Holds: a question that the router has no time for is told so; asking never holds up an envelope.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::answer;
use crate::{
    contract::{audit::Change, routing::Scope},
    decision::rules::Rules,
    ledger::{
        chain::Sealed,
        query::{Filter, Reader},
    },
};

/// Rows in one answer at most.
pub const PAGE_MAX: usize = 1000;
/// Entries of one command that are read at most.
const ENTRIES_MAX: usize = 20_000;
/// How many of the last entries are searched for a correlationId.
const SEARCHED_MAX: u64 = 1_000_000;
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
#[derive(Clone)]
pub struct Asker {
    ask: mpsc::Sender<Asked>,
    /// Where the commands are that have ended.
    ledger: Arc<Reader>,
    rules: Rules,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The router is stopping or gone.
    #[error("the router is stopping; ask again when it runs")]
    Gone,
    /// It has no time for questions now.
    #[error("the router is too busy to answer; ask again in a moment")]
    Busy,
    /// The ledger cannot be read.
    #[error("the ledger cannot be read; look at the router's log")]
    Ledger,
}

impl Asker {
    /// An asker, and the end that the router listens at.
    pub(super) fn new(ledger: Reader, rules: Rules) -> (Self, mpsc::Receiver<Asked>) {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        (Self { ask, ledger: Arc::new(ledger), rules }, asked)
    }

    /// Asks; `None` when what was asked for is not known.
    ///
    /// # Errors
    /// When the router cannot answer now.
    pub async fn ask(&self, question: Question) -> Result<Option<Value>, Unanswered> {
        let id = match &question {
            Question::Command(id) => Some(id.clone()),
            _ => None,
        };
        let (tell, told) = oneshot::channel();
        self.ask.try_send(Asked { question, tell }).map_err(|fault| match fault {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Gone,
        })?;
        let answer = match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => return Err(Unanswered::Gone),
            Err(_) => return Err(Unanswered::Busy),
        };
        match (answer, id) {
            (None, Some(id)) => self.ended(&id).await,
            (answer, _) => Ok(answer),
        }
    }

    /// A command that has ended, from its entries.
    async fn ended(&self, id: &str) -> Result<Option<Value>, Unanswered> {
        let fault = |fault| {
            warn!(error = %fault, "a question could not be answered from the ledger");
            Unanswered::Ledger
        };
        let numbered = match id.parse() {
            Ok(seq) => self.ledger.entry(seq).await.map_err(fault)?,
            Err(_) => None,
        };
        let filter = match &numbered {
            Some(first) => Filter {
                from: Some(first.entry.seq),
                correlation_id: first.entry.fact.correlation_id.clone(),
                ..Filter::default()
            },
            None => Filter {
                from: Some(self.ledger.last_seq().await.map_err(fault)?.saturating_sub(SEARCHED_MAX)),
                correlation_id: Some(id.to_owned()),
                ..Filter::default()
            },
        };
        if filter.correlation_id.is_none() {
            return Ok(None);
        }
        let mut entries = self.ledger.select(&filter, ENTRIES_MAX).await.map_err(fault)?;
        // Refused sends of the same correlationId stand before the one that was accepted.
        let accepted = |sealed: &Sealed| matches!(&sealed.entry.fact.change, Change::Accepted(_));
        let first = entries.iter().position(accepted).unwrap_or(entries.len());
        entries.drain(..first);
        Ok(answer::ended(&self.rules, &entries))
    }
}
