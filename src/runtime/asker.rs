//! The way of a question to the router's task, which answers between two rounds.
//!
//! Owns: asking, and looking in the ledger for commands that have ended.
//! Never: changes anything, or waits for a router that has no time.
//! Holds: asking never holds up an envelope.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::{
    answer,
    ask::{Asked, Question, Unanswered},
};
use crate::{
    contract::{audit::Change, passage::REPLAY_KEY},
    decision::rules::Rules,
    ledger::{
        LedgerError,
        chain::Sealed,
        query::{Filter, Reader},
    },
};

/// Entries of one command that are read at most.
const ENTRIES_MAX: usize = 20_000;
/// How many of the last entries are searched for a correlationId.
const SEARCHED_MAX: u64 = 1_000_000;
/// How many questions may wait.
const WAITING_MAX: usize = 64;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a router; cheap to clone.
#[derive(Clone)]
pub struct Asker {
    ask: mpsc::Sender<Asked>,
    /// Where the commands are that have ended.
    ledger: Arc<Reader>,
    rules: Rules,
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
            Err(_) if id.starts_with(REPLAY_KEY) => self.replayed(id).await.map_err(fault)?,
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
        let first = entries.iter().position(is_accepted).unwrap_or(entries.len());
        entries.drain(..first);
        Ok(answer::ended(&self.rules, &entries))
    }

    /// The entry that accepted what was sent again under that key.
    async fn replayed(&self, key: &str) -> Result<Option<Sealed>, LedgerError> {
        let from = self.ledger.last_seq().await?.saturating_sub(SEARCHED_MAX);
        let filter = Filter { from: Some(from), idempotency_key: Some(key.to_owned()), ..Filter::default() };
        Ok(self.ledger.select(&filter, ENTRIES_MAX).await?.into_iter().find(is_accepted))
    }
}

fn is_accepted(sealed: &Sealed) -> bool {
    matches!(&sealed.entry.fact.change, Change::Accepted(_) | Change::Challenged(_))
}
