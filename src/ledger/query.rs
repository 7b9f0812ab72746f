//! Reading: a live ledger, or a copy of one.
//!
//! Owns: looking entries up by place, and filtering them.
//! Never: locks out the writer, or writes.
//! Holds: what it answers was committed.

use std::{
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard};

use super::{LedgerError, append::entry_of, chain::Sealed, sqlite};
use crate::contract::{
    audit::{Change, Ended, Entry, Verdict},
    command::Commands,
    digest::Digest,
    reason::Reason,
    routing::Scope,
    timestamp::Timestamp,
};

/// A ledger open for reading.
#[derive(Debug)]
pub struct Reader {
    place: PathBuf,
    // One reader is asked by one task at a time; the lock is for the type system. None is opened
    // for each question.
    connection: Option<Mutex<SqliteConnection>>,
}

/// Which entries are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// From this place on.
    pub from: Option<u64>,
    /// Up to this place.
    pub to: Option<u64>,
    /// Of this correlationId.
    pub correlation_id: Option<String>,
    /// Of this idempotencyKey.
    pub idempotency_key: Option<String>,
    /// About this scope.
    pub target: Option<Scope>,
    /// Written then or later.
    pub since: Option<Timestamp>,
    /// Written then or earlier.
    pub until: Option<Timestamp>,
    /// By this principal.
    pub actor: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// With this reason.
    pub reason: Option<Reason>,
    /// Only what was refused, or ended otherwise than its type in this table calls a success.
    pub failed: Option<Commands>,
    /// The newest first.
    pub newest_first: bool,
}

/// A connection for one question.
enum Lease<'a> {
    Kept(MutexGuard<'a, SqliteConnection>),
    Once(Box<SqliteConnection>),
}

impl Deref for Lease<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        match self {
            Self::Kept(connection) => connection,
            Self::Once(connection) => connection,
        }
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Kept(connection) => connection,
            Self::Once(connection) => connection,
        }
    }
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        let fact = &entry.fact;
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let scope = fact.subject.as_ref().map(|subject| &subject.scope);
        let actor = || fact.actor.as_ref().map(|actor| actor.principal.clone());
        let seems = self.since.is_none_or(|since| fact.at >= since)
            && self.until.is_none_or(|until| fact.at <= until)
            && (self.actor.is_none() || self.actor == actor())
            && self.action.as_ref().is_none_or(|action| *action == fact.action.word())
            && self.reason.is_none_or(|reason| fact.reason == Some(reason))
            && self.failed.as_ref().is_none_or(|commands| has_failed(entry, commands));
        seems
            && same(&self.correlation_id, &fact.correlation_id)
            && same(&self.idempotency_key, &fact.idempotency_key)
            && self.target.as_ref().is_none_or(|target| scope.is_some_and(|scope| target.covers(scope)))
    }
}

/// Whether something was refused, or a command ended otherwise than its type calls a success.
fn has_failed(entry: &Entry, commands: &Commands) -> bool {
    let fact = &entry.fact;
    let ended = match &fact.change {
        Change::Ended(ended) => Some(ended),
        Change::Result(result) => result.ends.as_ref(),
        _ => None,
    };
    let kind_type = fact.subject.as_ref().map(|subject| subject.kind_type.as_str());
    let is_success = |ended: &Ended| commands.has_succeeded(kind_type.unwrap_or_default(), &ended.status);
    fact.verdict == Some(Verdict::Refuse) || ended.is_some_and(|ended| !is_success(ended))
}

impl Reader {
    /// Opens the ledger in a directory, or a ledger's file.
    ///
    /// # Errors
    /// `Missing` where there is none.
    pub async fn open(place: &Path) -> Result<Self, LedgerError> {
        let connection = Some(Mutex::new(sqlite::open_reader(place).await?));
        Ok(Self { place: place.to_owned(), connection })
    }

    /// A reader of a ledger that may not be readable yet: it opens it for each question, and lets
    /// go of it. SQLite shares within a process what it found that it may not write, for as long as
    /// anybody has the file open.
    pub fn later(dir: &Path) -> Self {
        Self { place: dir.to_owned(), connection: None }
    }

    async fn ready(&self) -> Result<Lease<'_>, LedgerError> {
        match &self.connection {
            Some(connection) => Ok(Lease::Kept(connection.lock().await)),
            None => Ok(Lease::Once(Box::new(sqlite::open_live(&self.place).await?))),
        }
    }

    /// The entry at a place.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn entry(&self, seq: u64) -> Result<Option<Sealed>, LedgerError> {
        let filter = Filter { from: Some(seq), to: Some(seq), ..Filter::default() };
        Ok(self.select(&filter, 1).await?.pop())
    }

    /// The last `count` entries, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn tail(&self, count: u64) -> Result<Vec<Sealed>, LedgerError> {
        let last = self.last_seq().await?;
        let filter = Filter { from: Some(last.saturating_sub(count) + 1), ..Filter::default() };
        self.select(&filter, usize::MAX).await
    }

    /// The place of the last entry; 0 when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn last_seq(&self) -> Result<u64, LedgerError> {
        let mut connection = self.ready().await?;
        let last: Option<i64> =
            sqlx::query_scalar("SELECT max(seq) FROM entries").fetch_one(&mut *connection).await?;
        Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or_default())
    }

    /// The place and the hash of the last entry; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn head(&self) -> Result<Option<(u64, Digest)>, LedgerError> {
        let mut connection = self.ready().await?;
        let last = sqlx::query("SELECT seq, bytes, hash FROM entries ORDER BY seq DESC LIMIT 1");
        let row = last.fetch_optional(&mut *connection).await?;
        row.map(|row| entry_of(&row).map(|(seq, _, hash)| (seq, hash))).transpose()
    }

    /// The first `count_max` entries that the filter takes, oldest first unless it says otherwise.
    /// Their bytes are as stored; only `verify` checks the chain.
    ///
    /// # Errors
    /// When they cannot be read, or are no entries.
    pub async fn select(&self, filter: &Filter, count_max: usize) -> Result<Vec<Sealed>, LedgerError> {
        let mut connection = self.ready().await?;
        let from = filter.from.unwrap_or(0).min(i64::MAX as u64) as i64;
        let to = filter.to.unwrap_or(u64::MAX).min(i64::MAX as u64) as i64;
        let mut select =
            QueryBuilder::<Sqlite>::new("SELECT seq, bytes, hash FROM entries WHERE seq BETWEEN ");
        select.push_bind(from).push(" AND ").push_bind(to);
        for id in [&filter.correlation_id, &filter.idempotency_key].into_iter().flatten() {
            // The database looks for the text first, many times faster than each entry is read.
            select
                .push(" AND instr(bytes, ")
                .push_bind(Value::from(id.as_str()).to_string().into_bytes())
                .push(") > 0");
        }
        select.push(if filter.newest_first { " ORDER BY seq DESC" } else { " ORDER BY seq" });
        let mut rows = select.build().fetch(&mut *connection);
        let mut found = Vec::new();
        while found.len() < count_max
            && let Some(row) = rows.try_next().await?
        {
            let (seq, bytes, hash) = entry_of(&row)?;
            let entry: Entry = serde_json::from_slice(&bytes)
                .map_err(|fault| super::chain::ChainFault::Torn(seq, fault.to_string()))?;
            if filter.takes(&entry) {
                found.push(Sealed { entry, bytes, hash });
            }
        }
        Ok(found)
    }
}
