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
use sqlx::{Connection as _, QueryBuilder, Row, Sqlite, SqliteConnection};

use super::{
    Batch, LedgerError, Parcel,
    chain::{Chain, ChainFault, Sealed},
    emergency, files, mark,
    outbox::{Barred, Unvouched},
    size::{self, OpenFiles, Size, SizeBounds},
    sqlite,
};
use crate::contract::{digest::Digest, lane::Lane};

/// Rows in one INSERT: enough to spread its cost, few enough to stay far below SQLite's bound on
/// variables.
const ROWS_PER_INSERT: usize = 128;

/// Free room that a ledger must have to count as writable again: less, and the next batch would
/// fail it at once.
const ROOM_BYTES: i64 = 1024 * 1024;

/// A ledger for writing.
#[derive(Debug)]
pub struct Ledger {
    /// None for as long as it could not be opened.
    connection: Option<SqliteConnection>,
    /// It is one that was there: where its file is gone none is made.
    is_old: bool,
    /// Its file was there, whatever was in it, when it was opened first.
    was_there: bool,
    /// It was opened by a probe, and has not been written yet.
    is_untried: bool,
    /// A transaction was begun and is not known to have ended.
    begun: bool,
    lock: Option<File>,
    dir: PathBuf,
    file: OpenFiles,
    bounds: SizeBounds,
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
    /// What the entries say against it.
    pub barred: Barred,
}

impl Ledger {
    /// Opens the ledger in `dir`, making both where there are none, and locks it against a second
    /// router.
    ///
    /// # Errors
    /// `Locked` when another router has it; otherwise what the file system or the database said.
    pub async fn open(dir: &Path, size_max_bytes: Option<u64>) -> Result<Self, LedgerError> {
        let (ledger, fault) = Self::open_or_later(dir, size_max_bytes).await;
        fault.map_or(Ok(ledger), Err)
    }

    /// The same. One that cannot be opened now comes with the reason, and is opened by the first
    /// probe that can; its lock is held where that could be had.
    pub async fn open_or_later(dir: &Path, size_max_bytes: Option<u64>) -> (Self, Option<LedgerError>) {
        let bounds = SizeBounds { size_bytes_max: size_max_bytes, wal_bytes_max: None };
        let (connection, lock, file) = Default::default();
        let dir = dir.to_owned();
        let (is_old, is_untried, begun) = Default::default();
        let was_there = dir.join(files::FILE).exists();
        let mut ledger = Self { connection, is_old, was_there, is_untried, begun, lock, dir, file, bounds };
        let fault = ledger.ready().await.err();
        ledger.is_old = true;
        (ledger, fault)
    }

    /// The same, with a bound on its write-ahead log, which grows for as long as somebody reads and
    /// does not let go.
    pub fn with_wal_max(mut self, bytes: u64) -> Self {
        self.bounds.wal_bytes_max = Some(bytes);
        self
    }

    /// The connection; opened now where it could not be before.
    async fn ready(&mut self) -> Result<&mut SqliteConnection, LedgerError> {
        if self.connection.is_none() {
            if !self.is_old {
                sqlite::refuse_foreign(&self.dir).await?;
            }
            let (dir, is_old, lock) = (self.dir.clone(), self.is_old, self.lock.take());
            let (lock, prepared) = aside(move || prepare(&dir, is_old, lock)).await?;
            self.lock = lock;
            prepared?;
            let connection = sqlite::open_writer(&self.dir, self.bounds.size_bytes_max).await?;
            let dir = self.dir.clone();
            self.file = aside(move || OpenFiles::of(&dir).map_err(unusable(&dir))).await??;
            self.connection = Some(connection);
            self.is_untried = self.is_old;
        }
        self.connection.as_mut().ok_or_else(|| LedgerError::Missing(self.dir.clone()))
    }

    /// Whether the files have room within their bounds. Where they have none, what the write-ahead
    /// log holds is moved into the file first, as far as no reader is in the way.
    async fn room(&mut self) -> Result<(), LedgerError> {
        self.ready().await?;
        if self.size().await?.fits(&self.bounds) {
            return Ok(());
        }
        // A checkpoint is refused while a transaction of our own is open.
        self.abandon().await;
        sqlite::shorten_log(self.ready().await?).await?;
        let size = self.size().await?;
        if size.fits(&self.bounds) {
            return Ok(());
        }
        Err(LedgerError::Held { dir: self.dir.clone(), wal_bytes: size.wal_bytes })
    }

    /// What the files take, where they are the ones that are open and nothing is cut off them.
    async fn size(&mut self) -> Result<Size, LedgerError> {
        let (dir, file) = (self.dir.clone(), self.file);
        let file = aside(move || file.again(&dir)).await?;
        // Asked after the log was measured: whoever empties it in good order says so before.
        let log_bytes = sqlite::log_bytes_needed(self.ready().await?).await?;
        // What is written into another one now, nobody would ever read.
        let file = file.filter(|file| file.size().wal_bytes >= log_bytes);
        self.file = file.ok_or_else(|| LedgerError::Gone { dir: self.dir.clone() })?;
        Ok(self.file.size())
    }

    /// The ledger's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads every entry in order, checking the chain, and then the outbox; of one that is not open
    /// what can be read without writing, all of it or a fault.
    ///
    /// # Errors
    /// `Damaged` names the first entry that is not what was written.
    pub async fn replay(&mut self, each: impl FnMut(&Sealed) + Send) -> Result<Recovered, LedgerError> {
        self.abandon().await;
        let recovered = match &mut self.connection {
            Some(connection) => read_whole(connection, each).await,
            None => {
                let mut connection = sqlite::open_unwritten(&self.dir).await?;
                let recovered = read_whole(&mut connection, each).await;
                let _ = connection.close().await;
                recovered
            }
        }?;
        if recovered.entries == 0 && self.was_there {
            let (dir, has_parcels) = (self.dir.clone(), !recovered.parcels.is_empty());
            aside(move || check_begun(&dir, has_parcels)).await??;
        }
        Ok(recovered)
    }

    /// Whether its file was there when it was opened; one that was not is begun anew.
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// Makes a batch durable: entries, parcels and what is carried, in one transaction.
    ///
    /// # Errors
    /// When it could not be written; nothing of the batch is there then (or, where the commit
    /// itself failed, the next replay finds out).
    pub async fn append(&mut self, mut batch: Batch) -> Result<(), LedgerError> {
        self.append_from(&mut batch).await
    }

    /// The same for a batch whose facts are needed afterwards: only the bytes of its entries and
    /// parcels are taken.
    ///
    /// # Errors
    /// As `append`.
    pub async fn append_from(&mut self, batch: &mut Batch) -> Result<(), LedgerError> {
        self.abandon().await;
        self.room().await?;
        // Noted first: a call that is dropped half-way leaves a transaction open, and the next one
        // has to end it.
        self.begun = true;
        // One text for the whole transaction: the database's thread is woken once a batch, not once
        // a statement.
        let written = transaction(batch).build().persistent(false).execute(self.ready().await?).await;
        match written {
            Ok(_) => self.begun = false,
            Err(_) => self.abandon().await,
        }
        written.map(|_| ()).map_err(LedgerError::from)
    }

    /// Begins a transaction that may write. Plain SQL: the library's own transactions count their
    /// depth, and lose count when SQLite rolls back by itself; no later one can be begun then.
    async fn begin(&mut self) -> Result<(), LedgerError> {
        self.abandon().await;
        self.begun = true;
        self.run("BEGIN IMMEDIATE").await
    }

    /// Rolls back what was begun and is not known to be committed: a write that failed, or one
    /// given up half-way.
    async fn abandon(&mut self) {
        if self.begun {
            // Where SQLite has rolled back by itself (a full disk) there is nothing left to roll
            // back.
            let _ = self.run("ROLLBACK").await;
            self.begun = false;
        }
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), LedgerError> {
        sqlx::query(statement).execute(self.ready().await?).await?;
        Ok(())
    }

    /// Writes something durable that means nothing, to learn whether writing works and a batch will
    /// have room.
    ///
    /// # Errors
    /// When it does not, or there is none.
    pub async fn probe(&mut self) -> Result<(), LedgerError> {
        let probed = self.try_write().await;
        if probed.is_ok() {
            self.is_untried = false;
        } else if self.is_untried {
            // What it may not do was settled when it was opened: the next probe opens it anew.
            self.abandon().await;
            if let Some(connection) = self.connection.take() {
                let _ = connection.close().await;
            }
        }
        probed
    }

    async fn try_write(&mut self) -> Result<(), LedgerError> {
        self.room().await?;
        self.begin().await?;
        // A row is overwritten where it stands, so only this asks for pages; it is never committed.
        let room = sqlx::query("INSERT INTO outbox (id, lane, messages) VALUES (-1, '', zeroblob(?))")
            .bind(ROOM_BYTES)
            .execute(self.ready().await?)
            .await;
        self.abandon().await;
        room?;
        // This one is committed: whether the disk takes a sync is seen by a commit alone.
        sqlx::query("INSERT INTO probe (id, at) VALUES (1, 1) ON CONFLICT DO UPDATE SET at = at + 1")
            .execute(self.ready().await?)
            .await?;
        Ok(())
    }

    /// Closes the database, and empties its write-ahead log where no reader is in the way.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            sqlite::close(connection).await;
        }
    }
}

async fn read_whole(
    connection: &mut SqliteConnection,
    mut each: impl FnMut(&Sealed) + Send,
) -> Result<Recovered, LedgerError> {
    // The outbox first: the entries are read once, and each is compared with what waits in its
    // name.
    let rows = sqlx::query("SELECT id, lane, messages FROM outbox ORDER BY id").fetch_all(&mut *connection);
    let parcels = rows.await?.iter().map(parcel_of).collect::<Result<Vec<_>, _>>()?;
    let mut unvouched = Unvouched::of(&parcels)?;
    let mut chain = Chain::new();
    let mut rows = sqlx::query("SELECT seq, bytes, hash FROM entries ORDER BY seq").fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let (seq, bytes, hash) = entry_of(&row)?;
        let sealed = chain.follow(seq, bytes, hash)?;
        unvouched.hear(&sealed)?;
        each(&sealed);
    }
    drop(rows);
    let barred = unvouched.end()?;
    Ok(Recovered { chain, entries: chain.next_seq() - 1, parcels, barred })
}

/// A batch as SQL: all of it or nothing. The first statement that fails ends it and leaves the
/// transaction open. The batch's bytes are handed over, not copied.
fn transaction(batch: &mut Batch) -> QueryBuilder<Sqlite> {
    let Batch { entries, parcels, replaced, carried } = batch;
    let mut sql = QueryBuilder::new("BEGIN IMMEDIATE; ");
    // First what goes: pages that are overwritten and taken again within one transaction are
    // written once.
    for ids in carried.chunks(ROWS_PER_INSERT) {
        sql.push("DELETE FROM outbox WHERE id IN (");
        let mut listed = sql.separated(", ");
        for id in ids {
            listed.push_bind(*id as i64);
        }
        sql.push("); ");
    }
    for rows in entries.chunks_mut(ROWS_PER_INSERT) {
        let count = rows.len() as i64;
        sql.push("INSERT INTO entries (seq, bytes, hash) ");
        sql.push_values(rows, |mut row, sealed| {
            row.push_bind(sealed.entry.seq as i64).push_bind(std::mem::take(&mut sealed.bytes));
            row.push_bind(sealed.hash.0.to_vec());
        });
        // A trigger that somebody made may leave rows out without a fault. The row that is asked
        // for here breaks its table's rule, so that nothing is committed.
        sql.push("; INSERT INTO probe (id, at) SELECT 2, 0 WHERE changes() <> ");
        sql.push_bind(count);
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
    // No entry has a negative number: as 0 the chain reports it as a gap.
    let seq = u64::try_from(seq).unwrap_or_default();
    let bytes: Vec<u8> = row.try_get("bytes")?;
    let hash: Vec<u8> = row.try_get("hash")?;
    let hash = hash.try_into().map_err(|_| ChainFault::Torn(seq, "its hash has not 32 bytes".to_owned()))?;
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

/// Does something with files off the tasks' threads: a disk that hangs holds whoever asked, and
/// nobody else.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LedgerError> {
    tokio::task::spawn_blocking(work).await.map_err(|fault| LedgerError::Task(fault.to_string()))
}

fn unusable(path: &Path) -> impl Fn(std::io::Error) -> LedgerError + '_ {
    |source| LedgerError::File { path: path.to_owned(), source }
}

/// Makes ready what a connection needs; returns the lock as far as it could be had.
fn prepare(dir: &Path, is_old: bool, lock: Option<File>) -> (Option<File>, Result<(), LedgerError>) {
    if is_old && !dir.join(files::FILE).exists() {
        return (lock, Err(LedgerError::Gone { dir: dir.to_owned() }));
    }
    let locked = make_dir(dir).map_err(unusable(dir)).and_then(|()| lock.map_or_else(|| take_lock(dir), Ok));
    match locked {
        Ok(lock) => {
            let checked = sqlite::check_files(dir).and_then(|()| check_not_cut(dir));
            (Some(lock), checked.and_then(|()| size::keep_private(dir).map_err(unusable(dir))))
        }
        Err(fault) => (None, Err(fault)),
    }
}

/// An empty file is a new ledger, unless something beside it says that it held more: SQLite would
/// begin it anew, and throw its write-ahead log away.
fn check_not_cut(dir: &Path) -> Result<(), LedgerError> {
    let is_empty = std::fs::metadata(dir.join(files::FILE)).is_ok_and(|file| file.len() == 0);
    let log = std::fs::metadata(dir.join(emergency::FILE)).map_or(0, |log| log.len());
    let trace = match is_empty {
        false => return Ok(()),
        true if sqlite::has_log(&dir.join(files::FILE)) => "its write-ahead log is beside it",
        true if log > 0 => "its emergency log is beside it",
        true => return check_begun(dir, false),
    };
    Err(LedgerError::Emptied { dir: dir.to_owned(), trace })
}

/// A ledger without an entry is one whose first start was cut off, unless something says that it
/// had one.
fn check_begun(dir: &Path, has_parcels: bool) -> Result<(), LedgerError> {
    let trace = match mark::kept(dir) {
        mark::Said::Mark(_) => "`ledger.mark` beside it knows its last entry",
        mark::Said::Unreadable => "`ledger.mark` beside it cannot be read",
        mark::Said::Nothing if has_parcels => "its outbox holds what is to be carried",
        mark::Said::Nothing => return Ok(()),
    };
    Err(LedgerError::Emptied { dir: dir.to_owned(), trace })
}

/// Makes a directory where there is none; only its owner may look in.
pub(super) fn make_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Takes the lock that one writer has, and leaves the process id in it for people.
fn take_lock(dir: &Path) -> Result<File, LedgerError> {
    let path = dir.join("ledger.lock");
    let fault = unusable(&path);
    let mut options = OpenOptions::new();
    // Not emptied by opening: whoever holds the lock has its process id there, for `Locked`.
    let options = options.create(true).truncate(false).read(true).write(true).mode(0o600);
    let opened = files::open(options, &path);
    // One that can only be read can be locked all the same.
    let mut file = opened.or_else(|fault| files::open_to_read(&path).map_err(|_| fault)).map_err(&fault)?;
    if !file.try_lock_exclusive().map_err(&fault)? {
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
    // A disk that has no room for it has none for entries either, and says so then.
    let _ = write(&mut file);
    Ok(file)
}
