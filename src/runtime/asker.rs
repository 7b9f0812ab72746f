//! The way of a question to the router's task, which answers between two rounds.
//!
//! Owns: asking, and looking in the ledger for commands that have ended.
//! Never: changes anything, or waits for a router that has no time.
//! Holds: asking never holds up an envelope.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};
use tracing::warn;

use super::{
    answer,
    ask::{PendingQuestion, Question, Unanswered},
};
use crate::{
    contract::{audit::Change, passage::REPLAY_KEY},
    decision::rules::Rules,
    ledger::{
        LedgerError,
        chain::Sealed,
        query::{Filter, Reader},
    },
    view::Page,
};

/// Entries of one command that are read at most.
const ENTRIES_MAX: usize = 20_000;
/// How many entries are searched at a time; others may ask in between.
const SLICE_ENTRIES: u64 = 4_096;
/// How long one search in the ledger may take.
const SEARCH: Duration = Duration::from_millis(250);
/// How many questions may wait.
const WAITING_MAX: usize = 64;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a router; cheap to clone.
#[derive(Clone)]
pub struct Asker {
    ask: mpsc::Sender<PendingQuestion>,
    /// Where the commands are that have ended.
    ledger: Arc<Reader>,
    /// One search at a time: what nobody knows must not keep a core at work.
    searching: Arc<Semaphore>,
    rules: Rules,
}

impl Asker {
    /// An asker, and the end that the router listens at.
    pub(super) fn new(ledger: Reader, rules: Rules) -> (Self, mpsc::Receiver<PendingQuestion>) {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        (Self { ask, ledger: Arc::new(ledger), searching: Arc::new(Semaphore::new(1)), rules }, asked)
    }

    /// Asks; `None` when what was asked for is not known.
    ///
    /// # Errors
    /// When the router cannot answer now.
    pub async fn ask(&self, question: Question) -> Result<Option<Page>, Unanswered> {
        let id = match &question {
            Question::Command(id) => Some(id.clone()),
            _ => None,
        };
        let (tell, told) = oneshot::channel();
        self.ask.try_send(PendingQuestion { question, tell }).map_err(|fault| match fault {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Gone,
        })?;
        let answer = match timeout(PATIENCE, told).await {
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
    async fn ended(&self, id: &str) -> Result<Option<Page>, Unanswered> {
        let turn = timeout(PATIENCE, self.searching.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Unanswered::Busy) };
        let until = Instant::now() + SEARCH;
        let last = self.ledger.last_seq().await.map_err(unread)?;
        let first = match id.parse() {
            Ok(seq) => self.ledger.entry(seq).await.map_err(unread)?,
            Err(_) if id.starts_with(REPLAY_KEY) => self.replayed(last, id, until).await?,
            Err(_) => return self.back_from(last, id, until).await,
        };
        match first {
            Some(first) => self.from(first, last, until).await,
            // A correlationId may be a number too.
            None => self.back_from(last, id, until).await,
        }
    }

    /// The entry that accepted what was sent again under that key.
    async fn replayed(&self, last: u64, key: &str, until: Instant) -> Result<Option<Sealed>, Unanswered> {
        let mut to = last;
        while to > 0 {
            if Instant::now() >= until {
                return Err(Unanswered::NotAmongTheLast(last - to));
            }
            let from = to.saturating_sub(SLICE_ENTRIES - 1).max(1);
            let filter = Filter {
                from: Some(from),
                to: Some(to),
                idempotency_key: Some(key.to_owned()),
                ..Filter::default()
            };
            let found = self.ledger.select(&filter, ENTRIES_MAX).await.map_err(unread)?;
            if let Some(accepted) = found.into_iter().find(is_accepted) {
                return Ok(Some(accepted));
            }
            to = from - 1;
        }
        Ok(None)
    }

    /// The command that an entry accepted, from there on until it has ended.
    async fn from(&self, first: Sealed, last: u64, until: Instant) -> Result<Option<Page>, Unanswered> {
        let Some(trace) = first.entry.fact.correlation_id.clone().filter(|_| is_accepted(&first)) else {
            return Ok(None);
        };
        let begun = first.entry.seq;
        let (mut entries, mut from) = (vec![first], begun + 1);
        while from <= last && entries.len() < ENTRIES_MAX {
            if Instant::now() >= until {
                return Err(Unanswered::NotAmongTheLast(from - begun));
            }
            let found = self.slice(from, from + SLICE_ENTRIES - 1, &trace).await?;
            if !found.is_empty() {
                entries.extend(found);
                if let Some(ended) = answer::ended(&self.rules, &entries) {
                    return Ok(Some(Page::Command(Box::new(ended))));
                }
            }
            from += SLICE_ENTRIES;
        }
        Ok(None)
    }

    /// The last command of a correlationId, from the ledger's end back to where it was accepted.
    async fn back_from(&self, last: u64, id: &str, until: Instant) -> Result<Option<Page>, Unanswered> {
        let (mut entries, mut to) = (Vec::new(), last);
        while to > 0 && entries.len() < ENTRIES_MAX {
            if Instant::now() >= until {
                return Err(Unanswered::NotAmongTheLast(last - to));
            }
            let from = to.saturating_sub(SLICE_ENTRIES - 1).max(1);
            let mut found = self.slice(from, to, id).await?;
            found.append(&mut entries);
            entries = found;
            // Refused sends of the same correlationId may stand before and behind the one that was
            // accepted.
            if let Some(accepted) = entries.iter().rposition(is_accepted) {
                let ended = answer::ended(&self.rules, entries.get(accepted..).unwrap_or_default());
                return Ok(ended.map(|ended| Page::Command(Box::new(ended))));
            }
            to = from - 1;
        }
        Ok(None)
    }

    /// The entries of a correlationId between two places.
    async fn slice(&self, from: u64, to: u64, trace: &str) -> Result<Vec<Sealed>, Unanswered> {
        let filter = Filter {
            from: Some(from),
            to: Some(to),
            correlation_id: Some(trace.to_owned()),
            ..Filter::default()
        };
        self.ledger.select(&filter, ENTRIES_MAX).await.map_err(unread)
    }
}

fn is_accepted(sealed: &Sealed) -> bool {
    matches!(&sealed.entry.fact.change, Change::Accepted(_) | Change::Challenged(_))
}

fn unread(fault: LedgerError) -> Unanswered {
    warn!(error = %fault, "a question could not be answered from the ledger");
    Unanswered::Ledger
}
