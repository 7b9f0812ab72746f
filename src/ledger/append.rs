//! Writing: one router, one connection, whole batches.
//!
//! Owns: the lock, the group commit, the outbox, and the replay at boot.
//! Never: lets two routers write; never retries a failed transaction by itself.
//! Holds: `append` answers only when the batch is on the disk.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use fs4::fs_std::FileExt;
use futures_util::TryStreamExt;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::{
    Batch, LedgerError, Parcel,
    chain::{Chain, Fault, Sealed},
    size::{self, Bounds, Opened, Size},
    sqlite,
};
use crate::contract::{digest::Digest, lane::Lane};

/// Rows in one INSERT: enough to spread its cost, few enough to stay far below SQLite's bound on variables.
const ROWS_PER_INSERT: usize = 128;

/// Free room that a ledger must have to count as writable again: less, and the next batch would fail it at once.
const ROOM_BYTES: i64 = 1024 * 1024;

/// A ledger open for writing.
#[derive(Debug)]
pub struct Ledger {
    connection: SqliteConnection,
    /// A transaction was begun and is not known to have ended.
    begun: bool,
    _lock: File,
    dir: PathBuf,
    file: Opened,
    bounds: Bounds,
}

/// What a replay found.
#[derive(Debug)]
pub struct Recovered {
    /// The end of the chain.
    pub chain: Chain,
    /// How many entries there are.
    pub entries: u64,
    /// What is written and not known carried, in order.
    pub parcels: Vec<Parcel>,
}

impl Ledger {
    /// Opens the ledger in `dir`, making both where there are none, and locks it against a second router.
    ///
    /// # Errors
    /// `Locked` when another router has it; otherwise what the file system or the database said.
    pub async fn open(dir: &Path, size_max_bytes: Option<u64>) -> Result<Self, LedgerError> {
        make_dir(dir).map_err(|source| LedgerError::File { path: dir.to_owned(), source })?;
        let lock = lock(dir)?;
        size::keep_private(dir).map_err(|source| LedgerError::File { path: dir.to_owned(), source })?;
        let connection = sqlite::open_writer(dir, size_max_bytes).await?;
        let bounds = Bounds { size_bytes_max: size_max_bytes, wal_bytes_max: None };
        let file = Opened::of(dir).map_err(|source| LedgerError::File { path: dir.to_owned(), source })?;
        Ok(Self { connection, begun: false, _lock: lock, dir: dir.to_owned(), file, bounds })
    }

    /// The same, with a bound on its write-ahead log, which grows for as long as somebody reads and does not let go.
    pub fn with_wal_max(mut self, bytes: u64) -> Self {
        self.bounds.wal_bytes_max = Some(bytes);
        self
    }

    /// Whether the files have room within their bounds. Where they have none, what the write-ahead log holds is moved
    /// into the file first, as far as no reader is in the way.
    async fn room(&mut self) -> Result<(), LedgerError> {
        if !self.file.is_there(&self.dir) {
            // What is written into it now, nobody would ever read.
            return Err(LedgerError::Gone { dir: self.dir.clone() });
        }
        if Size::of(&self.dir).fits(&self.bounds) {
            return Ok(());
        }
        self.abandon().await;
        sqlite::shorten_log(&mut self.connection).await?;
        let size = Size::of(&self.dir);
        if size.fits(&self.bounds) {
            return Ok(());
        }
        Err(LedgerError::Held { dir: self.dir.clone(), wal_bytes: size.wal_bytes })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads every entry in order, checking the chain, and then the outbox.
    ///
    /// # Errors
    /// `Damaged` names the first entry that is not what was written.
    pub async fn replay(&mut self, mut each: impl FnMut(&Sealed) + Send) -> Result<Recovered, LedgerError> {
        self.abandon().await;
        let mut chain = Chain::new();
        let mut rows =
            sqlx::query("SELECT seq, bytes, hash FROM entries ORDER BY seq").fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            let (seq, bytes, hash) = entry_of(&row)?;
            each(&chain.follow(seq, bytes, hash)?);
        }
        drop(rows);
        let rows =
            sqlx::query("SELECT id, lane, messages FROM outbox ORDER BY id").fetch_all(&mut self.connection);
        let parcels = rows.await?.iter().map(parcel_of).collect::<Result<_, _>>()?;
        Ok(Recovered { chain, entries: chain.next_seq() - 1, parcels })
    }

    /// Makes a batch durable: entries, parcels and what is carried, in one transaction.
    ///
    /// # Errors
    /// When it could not be written; nothing of the batch is there then (or, where the commit itself failed, the
    /// next replay tells).
    pub async fn append(&mut self, mut batch: Batch) -> Result<(), LedgerError> {
        self.append_from(&mut batch).await
    }

    /// The same for a batch whose facts are needed afterwards: only the bytes of its entries and parcels are taken.
    ///
    /// # Errors
    /// As `append`.
    pub async fn append_from(&mut self, batch: &mut Batch) -> Result<(), LedgerError> {
        self.abandon().await;
        self.room().await?;
        self.begun = true;
        // One text for the whole transaction: the database's thread is woken once a batch, not once a statement.
        let written = transaction(batch).build().persistent(false).execute(&mut self.connection).await;
        match written {
            Ok(_) => self.begun = false,
            Err(_) => self.abandon().await,
        }
        written.map(|_| ()).map_err(LedgerError::from)
    }

    /// Begins a transaction that may write. Plain SQL: the library's own transactions count their depth, and lose
    /// count when SQLite rolls back by itself; no later one can be begun then.
    async fn begin(&mut self) -> Result<(), LedgerError> {
        self.abandon().await;
        self.begun = true;
        self.run("BEGIN IMMEDIATE").await
    }

    /// Rolls back what was begun and is not known to be committed: a write that failed, or one given up half-way.
    async fn abandon(&mut self) {
        if self.begun {
            // Where SQLite has rolled back by itself (a full disk) there is nothing left to roll back.
            let _ = self.run("ROLLBACK").await;
            self.begun = false;
        }
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), LedgerError> {
        sqlx::query(statement).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Writes something durable that means nothing, to learn whether writing works and a batch will have room.
    ///
    /// # Errors
    /// When it does not, or there is none.
    pub async fn probe(&mut self) -> Result<(), LedgerError> {
        self.room().await?;
        self.begin().await?;
        // A row is overwritten where it stands, so only this asks for pages; it is never committed.
        let room = sqlx::query("INSERT INTO outbox (id, lane, messages) VALUES (-1, '', zeroblob(?))")
            .bind(ROOM_BYTES)
            .execute(&mut self.connection)
            .await;
        self.abandon().await;
        room?;
        sqlx::query("INSERT INTO probe (id, at) VALUES (1, 1) ON CONFLICT DO UPDATE SET at = at + 1")
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Closes in good order.
    pub async fn close(self) {
        sqlite::close(self.connection).await;
    }
}

/// A batch as SQL: all of it or nothing. The first statement that fails ends it and leaves the transaction open. The
/// batch's bytes are handed over, not copied.
fn transaction(batch: &mut Batch) -> QueryBuilder<Sqlite> {
    let Batch { entries, parcels, replaced, carried } = batch;
    let mut sql = QueryBuilder::new("BEGIN IMMEDIATE; ");
    // First what goes: pages that are overwritten and taken again within one transaction are written once.
    for ids in carried.chunks(ROWS_PER_INSERT) {
        sql.push("DELETE FROM outbox WHERE id IN (");
        let mut listed = sql.separated(", ");
        for id in ids {
            listed.push_bind(*id as i64);
        }
        sql.push("); ");
    }
    for rows in entries.chunks_mut(ROWS_PER_INSERT) {
        sql.push("INSERT INTO entries (seq, bytes, hash) ");
        sql.push_values(rows, |mut row, sealed| {
            row.push_bind(sealed.entry.seq as i64).push_bind(std::mem::take(&mut sealed.bytes));
            row.push_bind(sealed.hash.0.to_vec());
        });
        sql.push("; ");
    }
    // A parcel that is done with in the batch that made it never comes in.
    for (parcels, insert) in [(parcels, "INSERT"), (replaced, "INSERT OR REPLACE")] {
        parcels.retain(|parcel| !carried.contains(&parcel.id));
        for rows in parcels.chunks_mut(ROWS_PER_INSERT) {
            sql.push(insert);
            sql.push(" INTO outbox (id, lane, messages) ");
            sql.push_values(rows, |mut row, parcel| {
                row.push_bind(parcel.id as i64).push_bind(parcel.lane.word());
                row.push_bind(std::mem::take(&mut parcel.bytes));
            });
            sql.push("; ");
        }
    }
    sql.push("COMMIT");
    sql
}

/// The columns of an entry's row.
pub(super) fn entry_of(row: &sqlx::sqlite::SqliteRow) -> Result<(u64, Vec<u8>, Digest), LedgerError> {
    let seq: i64 = row.try_get("seq")?;
    let seq = u64::try_from(seq).unwrap_or_default();
    let bytes: Vec<u8> = row.try_get("bytes")?;
    let hash: Vec<u8> = row.try_get("hash")?;
    let hash = hash.try_into().map_err(|_| Fault::Torn(seq, "its hash has not 32 bytes".to_owned()))?;
    Ok((seq, bytes, Digest(hash)))
}

fn parcel_of(row: &sqlx::sqlite::SqliteRow) -> Result<Parcel, LedgerError> {
    let id: i64 = row.try_get("id")?;
    let lane: String = row.try_get("lane")?;
    let bytes: Vec<u8> = row.try_get("messages")?;
    let lane = Lane::ALL
        .into_iter()
        .find(|known| known.word() == lane)
        .ok_or_else(|| LedgerError::Outbox { id, what: format!("`{lane}` is no lane") })?;
    Ok(Parcel { id: id as u64, lane, bytes })
}

/// Only the router's own user may look in.
pub(super) fn make_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Takes the lock that one writer has, and leaves the process id in it for people.
fn lock(dir: &Path) -> Result<File, LedgerError> {
    let path = dir.join("ledger.lock");
    let fault = |source| LedgerError::File { path: path.clone(), source };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(fault)?;
    if !file.try_lock_exclusive().map_err(fault)? {
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        let holder = if holder.trim().is_empty() { "unknown".to_owned() } else { holder.trim().to_owned() };
        return Err(LedgerError::Locked { dir: dir.to_owned(), holder });
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(fault)?;
    Ok(file)
}
