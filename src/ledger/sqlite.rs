//! The ledger's file: SQLite in WAL mode with full synchronisation.
//!
//! Owns: the tables, how they are opened for writing and for reading, and the format number.
//! Never: changes or deletes an entry; triggers refuse even those who open the file by hand.
//! Holds: a committed transaction is on the disk (WAL, `synchronous = FULL`).

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous},
};

use tracing::warn;

use super::{
    LedgerError,
    files::{self, FILE},
    size::WAL_AT_REST_BYTES,
};

/// The format that this release writes. 1: no incarnation in `ledger.opened`, no `ledger.set-back`,
/// and moments that the release that wrote them could not read.
const FORMAT: i64 = 2;
/// The oldest that it reads. One that it opens for writing becomes one of its own format: an older
/// release leaves it alone from then on.
const FORMAT_OLDEST: i64 = 1;
/// A page, in bytes: a batch of many entries writes half as many as with SQLite's own 4,096, a lone
/// entry hardly more.
const PAGE_BYTES: u32 = 8192;

/// How long a statement waits for another's lock.
const BUSY_MS: u64 = 5_000;

/// How long it is waited for connections of our own that failed and are on their way out: the
/// library closes what is dropped on a thread of its own.
const LET_GO_WAIT: Duration = Duration::from_secs(1);

const TABLES: &str = "
    CREATE TABLE entries (
        seq   INTEGER PRIMARY KEY,
        bytes BLOB NOT NULL,
        hash  BLOB NOT NULL
    ) STRICT;
    CREATE TABLE outbox (
        id       INTEGER PRIMARY KEY,
        lane     TEXT NOT NULL,
        messages BLOB NOT NULL
    ) STRICT;
    CREATE TABLE probe (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        at INTEGER NOT NULL
    ) STRICT;
    CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    PRAGMA user_version = 2;
";

/// How many of another program's tables are named.
const NAMED_MAX: usize = 4;

/// Refuses another program's database before anything of it is changed: to open a file for writing
/// turns its journal into a write-ahead log. For the first opening alone: when this lets go of the
/// file, the system drops what locks this process has on it.
///
/// # Errors
/// `Foreign`; whatever else is wrong with a file, its opening tells.
pub async fn refuse_foreign(dir: &Path) -> Result<(), LedgerError> {
    let file = dir.join(FILE);
    check_files(dir)?;
    if !std::fs::metadata(&file).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let options = SqliteConnectOptions::new().filename(&file).immutable(true).read_only(true);
    let Ok((mut connection, format)) = looked_into(&options.disable_statement_logging()).await else {
        return Ok(());
    };
    let found = strange(&mut connection, format).await;
    let _ = connection.close().await;
    refused(&file, found.unwrap_or_default())
}

fn refused(file: &Path, found: Option<String>) -> Result<(), LedgerError> {
    let foreign = |found| LedgerError::Foreign { file: file.to_owned(), found };
    found.map_or(Ok(()), |found| Err(foreign(found)))
}

/// What a database shows of itself that is neither empty nor a ledger of any release.
async fn strange(connection: &mut SqliteConnection, format: i64) -> Result<Option<String>, LedgerError> {
    let ours = "SELECT count(*) FROM sqlite_master AS found, pragma_table_info(found.name) AS held
        WHERE (found.name, held.name) IN (VALUES ('entries', 'hash'), ('outbox', 'messages'))";
    if sqlx::query_scalar::<_, i64>(ours).fetch_one(&mut *connection).await? > 0 {
        return Ok(None);
    }
    let tables =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *connection).await?;
    if tables.is_empty() && format == 0 {
        return Ok(None);
    }
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(connection).await?;
    let named: Vec<_> = tables.iter().take(NAMED_MAX).map(|table| format!("`{table}`")).collect();
    let named = match (tables.len(), tables.len().saturating_sub(NAMED_MAX)) {
        (0, _) => "no table".to_owned(),
        (_, 0) => format!("tables {}", named.join(", ")),
        (_, more) => format!("tables {} and {more} more", named.join(", ")),
    };
    Ok(Some(format!("user_version {format}, application_id {application}, {named}")))
}

/// Opens the file for writing, making it where there is none.
pub async fn open_writer(dir: &Path, size_max_bytes: Option<u64>) -> Result<SqliteConnection, LedgerError> {
    let options = SqliteConnectOptions::new()
        .filename(dir.join(FILE))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_millis(BUSY_MS))
        // Of a new file; one that was begun with other pages keeps them.
        .page_size(PAGE_BYTES)
        // A checkpoint stalls the commit that triggers it; one every 4 MiB of WAL keeps the stall
        // short.
        .pragma("wal_autocheckpoint", "512")
        // A log that a reader had kept is cut again once it is written from its beginning.
        .pragma("journal_size_limit", WAL_AT_REST_BYTES.to_string())
        // What a deleted parcel held is overwritten: it may be a secret on its way.
        .pragma("secure_delete", "ON")
        .disable_statement_logging();
    let mut connection = options.connect().await?;
    let found = format(&mut connection).await?;
    // What only its write-ahead log shows.
    refused(&dir.join(FILE), strange(&mut connection, found).await.unwrap_or_default())?;
    match found {
        0 => {
            // All of them and their format, or nothing: a start that is cut off in between would
            // leave tables that no later one could make.
            let whole = sqlx::AssertSqlSafe(format!("BEGIN IMMEDIATE; {TABLES} COMMIT"));
            sqlx::raw_sql(whole).execute(&mut connection).await?;
        }
        FORMAT => {}
        FORMAT_OLDEST..FORMAT => set_format(&mut connection, FORMAT).await?,
        found => return Err(LedgerError::Newer { found, known: FORMAT }),
    }
    for what in foreign(&mut connection).await? {
        warn!(what, "the ledger's database was changed by hand; `swarmgate audit verify` says what that did");
    }
    if let Some(bytes) = size_max_bytes {
        let page_bytes: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut connection).await?;
        let pages = (bytes / page_bytes.max(1).unsigned_abs()).max(1);
        let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::raw_sql(pragma).execute(&mut connection).await?;
    }
    Ok(connection)
}

/// Opens the file of a ledger that cannot be opened for writing, to read all of it once. Where
/// there is no room for the shared-memory file the write-ahead log is read without it, which takes
/// the file for itself.
pub async fn open_unwritten(dir: &Path) -> Result<SqliteConnection, LedgerError> {
    let fault = match open_reader(dir).await {
        Ok(connection) => return Ok(connection),
        Err(fault @ LedgerError::Foreign { .. }) => return Err(fault),
        Err(fault) if !has_log(&dir.join(FILE)) => return Err(fault),
        Err(fault) => fault,
    };
    let options = SqliteConnectOptions::new()
        .filename(dir.join(FILE))
        .locking_mode(SqliteLockingMode::Exclusive)
        // Connections that were tried before let go of the file a moment after they failed.
        .busy_timeout(LET_GO_WAIT)
        .disable_statement_logging();
    let Ok(mut connection) = options.connect().await else { return Err(fault) };
    match format(&mut connection).await {
        Ok(FORMAT_OLDEST..=FORMAT) => Ok(connection),
        Ok(0) => Err(LedgerError::Missing(dir.to_owned())),
        Ok(found) => Err(LedgerError::Newer { found, known: FORMAT }),
        Err(_) => Err(fault),
    }
}

/// Whether SQLite finds files where it looks for its own: it would wait at a pipe, and read a
/// device without end.
///
/// # Errors
/// `File` names what is no regular file.
pub(super) fn check_files(place: &Path) -> Result<(), LedgerError> {
    let file = if place.is_dir() { place.join(FILE) } else { place.to_owned() };
    let beside = ["", "-wal", "-shm", "-journal"].map(|ending| {
        let mut path = file.as_os_str().to_owned();
        path.push(ending);
        std::path::PathBuf::from(path)
    });
    beside
        .into_iter()
        .try_for_each(|path| files::check(&path).map_err(|source| LedgerError::File { path, source }))
}

/// Opens the file of a running router's ledger for reading.
pub async fn open_live(dir: &Path) -> Result<SqliteConnection, LedgerError> {
    check_files(dir)?;
    // Never `immutable`, as a copy may be opened: this file changes while it is read.
    let options = SqliteConnectOptions::new().filename(dir.join(FILE)).read_only(true);
    let options = options.busy_timeout(Duration::from_millis(BUSY_MS)).disable_statement_logging();
    Ok(options.connect().await?)
}

/// Opens the file for reading, live or a copy.
pub async fn open_reader(dir: &Path) -> Result<SqliteConnection, LedgerError> {
    let file = if dir.is_dir() { dir.join(FILE) } else { dir.to_owned() };
    if !file.exists() {
        return Err(LedgerError::Missing(dir.to_owned()));
    }
    check_files(dir)?;
    let options = SqliteConnectOptions::new().filename(&file).busy_timeout(Duration::from_millis(BUSY_MS));
    let options = options.disable_statement_logging().read_only(true);
    let (mut connection, format) = match looked_into(&options).await {
        Ok(opened) => opened,
        Err(fault) if !fault.may_pass() => return Err(fault),
        // A directory that cannot be written has no room for the shared-memory file: nobody writes
        // there either. But reading without it would pass over what only the write-ahead log holds.
        Err(_) if has_log(&file) => {
            let source = std::io::Error::other(
                "its write-ahead log needs a directory that can be written; copy both there",
            );
            return Err(LedgerError::File { path: file, source });
        }
        Err(_) => looked_into(&options.immutable(true)).await?,
    };
    // What is wrong with our own tables is told by whoever reads them.
    refused(&file, strange(&mut connection, format).await.unwrap_or_default())?;
    match format {
        FORMAT_OLDEST..=FORMAT => Ok(connection),
        0 => Err(LedgerError::Missing(dir.to_owned())),
        found => Err(LedgerError::Newer { found, known: FORMAT }),
    }
}

/// What is in the database and not of this release's making, or not there any more: somebody had it
/// open by hand.
pub(super) async fn foreign(connection: &mut SqliteConnection) -> Result<Vec<String>, LedgerError> {
    // SQLite keeps the text of a statement as it was run: a release that sets its lines otherwise
    // would take every older file for one that was changed.
    let words = |sql: &str| sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows =
        sqlx::query_as::<_, (String, String, Option<String>)>("SELECT type, name, sql FROM sqlite_master");
    let found: Vec<_> = rows.fetch_all(connection).await?;
    let ours = words(TABLES);
    let count = ours.matches("CREATE ").count();
    let is_ours =
        |sql: &Option<String>| sql.as_deref().is_some_and(|sql| ours.contains(&format!("{};", words(sql))));
    let strange = found.iter().filter(|(.., sql)| !is_ours(sql));
    let mut strange: Vec<String> = strange.map(|(kind, name, _)| format!("the {kind} `{name}`")).collect();
    if found.len() - strange.len() < count {
        strange.push("a table or trigger of ours is missing".to_owned());
    }
    Ok(strange)
}

/// A connection that has read the format: opening alone reads nothing, and tells nothing of what is
/// missing for that.
async fn looked_into(options: &SqliteConnectOptions) -> Result<(SqliteConnection, i64), LedgerError> {
    let mut connection = options.connect().await?;
    match format(&mut connection).await {
        Ok(format) => Ok((connection, format)),
        Err(fault) => {
            // Before the next try: what is merely dropped holds its locks for a while.
            let _ = connection.close().await;
            Err(fault)
        }
    }
}

/// Whether a write-ahead log with something in it lies beside the file.
pub(super) fn has_log(file: &Path) -> bool {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Makes the file of a copy, with the tables and the format of what is copied. Nothing of it counts
/// before it is whole, so it is made durable once, at the end.
pub(super) async fn create_copy(path: &Path, format: i64) -> Result<SqliteConnection, LedgerError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let made = options.create_new(true).write(true).mode(0o600).open(path);
    made.map_err(|source| LedgerError::File { path: path.to_owned(), source })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off)
        .page_size(PAGE_BYTES)
        .disable_statement_logging();
    let mut connection = options.connect().await?;
    sqlx::raw_sql(TABLES).execute(&mut connection).await?;
    set_format(&mut connection, format).await?;
    Ok(connection)
}

async fn set_format(connection: &mut SqliteConnection, format: i64) -> Result<(), LedgerError> {
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {format}"));
    sqlx::raw_sql(pragma).execute(connection).await?;
    Ok(())
}

pub(super) async fn format(connection: &mut SqliteConnection) -> Result<i64, LedgerError> {
    Ok(sqlx::query_scalar("PRAGMA user_version").fetch_one(connection).await?)
}

/// Moves what the write-ahead log holds into the file and empties it, where no reader is in the
/// way; waits for none.
pub async fn shorten_log(connection: &mut SqliteConnection) -> Result<(), LedgerError> {
    sqlx::raw_sql("PRAGMA busy_timeout = 0").execute(&mut *connection).await?;
    // It says by a row, or by a fault, that somebody is in the way; the log's size tells the same.
    let _ = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *connection).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {BUSY_MS}")))
        .execute(connection)
        .await?;
    Ok(())
}

/// How long the write-ahead log has to be by SQLite's index of it; frames that are in the file too
/// are not counted.
pub async fn log_bytes_needed(connection: &mut SqliteConnection) -> Result<u64, LedgerError> {
    const HEAD_BYTES: u64 = 32;
    const FRAME_HEAD_BYTES: u64 = 24;
    // This mode moves nothing and takes no lock. Of a file without such a log it answers -1.
    let sql = "PRAGMA wal_checkpoint(NOOP); PRAGMA page_size";
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await?;
    let [index, page] = rows.as_slice() else { return Ok(0) };
    let (frames, in_file): (i64, i64) = (index.try_get(1)?, index.try_get(2)?);
    let page_bytes: i64 = page.try_get(0)?;
    let frame_bytes = FRAME_HEAD_BYTES + page_bytes.unsigned_abs();
    Ok(if frames > in_file { HEAD_BYTES + frames.unsigned_abs() * frame_bytes } else { 0 })
}

/// Closes in good order; what is lost with a failed close is nothing that was committed.
pub async fn close(mut connection: SqliteConnection) {
    // The log holds what the outbox held, as it was sent: a ledger that is at rest keeps none of
    // it. Readers that are still open would otherwise leave it behind.
    let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
    let _ = connection.close().await;
}
