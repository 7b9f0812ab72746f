//! A consistent copy of a live ledger.
//!
//! Owns: copying entries in bites while the router writes, the last of them and the outbox at one
//! moment, and verifying the copy before it has its name.
//! Never: writes to the ledger, holds a long read open (the write-ahead log could not be reused),
//! or leaves half a copy under the ledger's name.
//! Holds: what it leaves is the ledger as it stood at one moment, outbox included, and verifies.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use sqlx::{Connection, QueryBuilder, Row, Sqlite, SqliteConnection};

use super::{
    LedgerError,
    append::{entry_of, make_dir},
    files, sqlite,
    verify::{ChainReport, verify},
};

/// Entries copied in one bite.
const BITE_ENTRIES_MAX: i64 = 512;
/// How many entries may be left for the last bite, which reads at one moment.
const LAST_BITE_ENTRIES_MAX: i64 = 2048;
/// A bite is followed by a pause as long as it took, at most so long: half of a core and of the
/// disk stays the router's.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// A copy that was made.
#[derive(Debug)]
pub struct BackedUp {
    /// The file.
    pub path: PathBuf,
    /// What verifying it said.
    pub report: ChainReport,
    /// How many parcels of its outbox were not known carried.
    pub parcels: usize,
}

/// Copies the ledger in `place` into the directory `to`, which holds none yet; `progress` hears how
/// many entries of how many are there.
///
/// # Errors
/// When there is no ledger, one in `to`, or the copy cannot be written or does not verify; no copy
/// is left then.
pub async fn backup(
    place: &Path,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<BackedUp, LedgerError> {
    let path = to.join(files::FILE);
    let fault = |path: &Path, source| LedgerError::File { path: path.to_owned(), source };
    let mut from = sqlite::open_reader(place).await?;
    make_dir(to).map_err(|source| fault(to, source))?;
    if path.exists() {
        let source = io::Error::other("there is a ledger already; name an empty directory for the copy");
        return Err(fault(&path, source));
    }
    let part = to.join("ledger.sqlite.part");
    let _ = std::fs::remove_file(&part);
    let copied = copy(&mut from, &part, &mut progress).await;
    let _ = from.close().await;
    let finished = match copied {
        Ok(parcels) => finish(&part, &path, parcels).await,
        Err(fault) => Err(fault),
    };
    if finished.is_err() {
        // Nothing can be restored from half a copy, and it holds messages as they came.
        let _ = std::fs::remove_file(&part);
    }
    finished
}

/// Copies everything; returns how many parcels.
async fn copy(
    from: &mut SqliteConnection,
    part: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> Result<usize, LedgerError> {
    let mut into = sqlite::create_copy(part, sqlite::format(from).await?).await?;
    let mut last = 0;
    loop {
        let newest = newest(from).await?;
        progress(last as u64, newest as u64);
        if newest - last <= LAST_BITE_ENTRIES_MAX {
            break;
        }
        let started = Instant::now();
        last = bite(from, &mut into, last, BITE_ENTRIES_MAX).await?.max(last);
        tokio::time::sleep(started.elapsed().min(PAUSE_MAX)).await;
    }
    // From here on one moment is read: entries and outbox belong together.
    sqlx::query("BEGIN").execute(&mut *from).await?;
    let end = newest(from).await?;
    while last < end {
        // One further at least: a place without an entry must not hold the copy for ever. `verify`
        // names it afterwards.
        last = bite(from, &mut into, last, BITE_ENTRIES_MAX).await?.max(last + 1);
    }
    let parcels = outbox(from, &mut into).await?;
    sqlx::query("COMMIT").execute(&mut *from).await?;
    progress(end as u64, end as u64);
    into.close().await?;
    Ok(parcels)
}

async fn newest(from: &mut SqliteConnection) -> Result<i64, LedgerError> {
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(seq) FROM entries").fetch_one(from).await?;
    Ok(newest.unwrap_or_default())
}

/// Copies the entries behind `after`, at most so many; returns the number of the last.
async fn bite(
    from: &mut SqliteConnection,
    into: &mut SqliteConnection,
    after: i64,
    count_max: i64,
) -> Result<i64, LedgerError> {
    let mut rows = Vec::new();
    let mut found = sqlx::query("SELECT seq, bytes, hash FROM entries WHERE seq > ? ORDER BY seq LIMIT ?")
        .bind(after)
        .bind(count_max)
        .fetch(from);
    while let Some(row) = found.try_next().await? {
        rows.push(entry_of(&row)?);
    }
    drop(found);
    let last = rows.last().map_or(after, |(seq, ..)| *seq as i64);
    if !rows.is_empty() {
        let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO entries (seq, bytes, hash) ");
        sql.push_values(rows, |mut row, (seq, bytes, hash)| {
            row.push_bind(seq as i64).push_bind(bytes).push_bind(hash.0.to_vec());
        });
        sql.build().persistent(false).execute(into).await?;
    }
    Ok(last)
}

async fn outbox(from: &mut SqliteConnection, into: &mut SqliteConnection) -> Result<usize, LedgerError> {
    let mut count = 0;
    let mut rows = sqlx::query("SELECT id, lane, messages FROM outbox ORDER BY id").fetch(from);
    while let Some(row) = rows.try_next().await? {
        let (id, lane): (i64, String) = (row.try_get("id")?, row.try_get("lane")?);
        let messages: Vec<u8> = row.try_get("messages")?;
        let insert = sqlx::query("INSERT INTO outbox (id, lane, messages) VALUES (?, ?, ?)");
        insert.bind(id).bind(lane).bind(messages).execute(&mut *into).await?;
        count += 1;
    }
    Ok(count)
}

/// Verifies the copy, makes it durable and gives it its name.
async fn finish(part: &Path, path: &Path, parcels: usize) -> Result<BackedUp, LedgerError> {
    let fault = |source| LedgerError::File { path: part.to_owned(), source };
    let report = verify(part).await?;
    if let Some(fault) = report.fault {
        return Err(LedgerError::Damaged(fault));
    }
    File::open(part).and_then(|file| file.sync_all()).map_err(fault)?;
    std::fs::rename(part, path).map_err(fault)?;
    if let Some(dir) = path.parent() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(fault)?;
    }
    Ok(BackedUp { path: path.to_owned(), report, parcels })
}
