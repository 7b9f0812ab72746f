//! Another program's SQLite file where a ledger should be.
//!
//! Owns: that every command which opens a ledger says what the file is and what to do, and leaves
//! it as it is.
//! Never: needs a broker.
//! Holds: a ledger of a newer release and a file that is empty are other matters, and stay so.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use swarmgate::ledger::{FILE, Ledger, LedgerError, query::Reader};

/// Makes a database as some other program would.
async fn database(dir: &Path, statements: &'static str) {
    let options = SqliteConnectOptions::new().filename(dir.join(FILE)).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
    sqlx::raw_sql(statements).execute(&mut connection).await.expect("its statements");
    connection.close().await.expect("closed");
}

/// What is in the directory: names, rights and bytes.
fn all(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let files = fs::read_dir(dir).expect("a directory").map(|file| file.expect("a file").path());
    let file = |path: std::path::PathBuf| {
        let mode = fs::metadata(&path).expect("its rights").permissions().mode();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, (mode, fs::read(&path).expect("its bytes")))
    };
    files.map(file).collect()
}

fn swarmgate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWARMGATE_"))
    {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).output().expect("it runs")
}

const BROWSER: &str = "CREATE TABLE moz_places (id INTEGER PRIMARY KEY, url TEXT);
    CREATE TABLE moz_hosts (id INTEGER); CREATE TABLE a (b); CREATE TABLE c (d); CREATE TABLE entries (url TEXT);
    INSERT INTO moz_places (url) VALUES ('https://example.org');";

#[tokio::test]
async fn every_command_says_what_it_is_and_changes_nothing() {
    let kept = tempfile::tempdir().expect("a directory");
    let dir = kept.path();
    database(dir, BROWSER).await;
    fs::set_permissions(dir.join(FILE), fs::Permissions::from_mode(0o644)).expect("rights");
    let before = all(dir);
    let (place, copy) = (dir.to_str().expect("a path"), dir.join("copy"));
    let copy = copy.to_str().expect("a path");
    let words = [
        "is no ledger but another program's SQLite database",
        "(user_version 0, application_id 0, tables `a`, `c`, `entries`, `moz_hosts` and 1 more)",
        "nothing in it was changed",
        "move that file away",
    ];
    let nobody = "amqp://127.0.0.1:1/%2f";
    for (args, code) in [
        (&["run", "--amqp", nobody, "--http", "127.0.0.1:0", "--ledger", place][..], 5),
        (&["audit", "show", place], 5),
        (&["audit", "verify", place], 5),
        (&["audit", "tail", place], 5),
        (&["ledger", "backup", copy, "--ledger", place], 5),
        // No broker is there either, which is what it ends by.
        (&["doctor", "--amqp", nobody, "--ledger", place], 4),
    ] {
        let output = swarmgate(args);
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let shown = told.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(shown.contains(word), "{args:?}: `{word}` is not in\n{told}");
        }
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{told}");
        assert_eq!(all(dir), before, "{args:?}");
    }
}

#[tokio::test]
async fn it_is_known_whatever_its_format_and_journal() {
    for statements in [
        "CREATE TABLE notes (text); PRAGMA user_version = 2",
        "CREATE TABLE notes (text); PRAGMA user_version = 78",
        "PRAGMA user_version = 1",
        "PRAGMA journal_mode = WAL; CREATE TABLE notes (text)",
        "PRAGMA journal_mode = WAL; CREATE TABLE notes (text); PRAGMA application_id = 252006675",
    ] {
        let kept = tempfile::tempdir().expect("a directory");
        let dir = kept.path();
        database(dir, statements).await;
        let before = all(dir);
        let fault = Ledger::open(dir, None).await.expect_err("it is none");
        assert!(matches!(&fault, LedgerError::Foreign { .. }), "{statements}: {fault}");
        assert!(!fault.may_pass(), "a router does not wait for it to become one");
        assert_eq!(all(dir), before, "{statements}");
        let fault = Reader::open(dir).await.map(|_| ()).expect_err("it is none");
        assert!(matches!(&fault, LedgerError::Foreign { .. }), "{statements}: {fault}");
        assert_eq!(all(dir)[FILE], before[FILE], "{statements}");
    }
}

#[tokio::test]
async fn a_database_that_nobody_has_used_becomes_a_ledger() {
    let kept = tempfile::tempdir().expect("a directory");
    database(kept.path(), "VACUUM").await;
    Ledger::open(kept.path(), None).await.expect("a ledger").close().await;
    let again = Ledger::open(kept.path(), None).await;
    again.expect("the same ledger").close().await;
}
