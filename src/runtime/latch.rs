//! The latch file: a kill switch for the day when broker, ledger or API do not answer.
//!
//! Owns: `kill-switch.latch` in the ledger's directory, and how one is laid over another.
//! Never: loosens one; removing it is for a confirmed loosening.
//! Holds: it is whole or not there, for its owner's eyes, and on the disk when `throw` returns.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    contract::{interlock::KillSwitch, routing::ALL, timestamp::Timestamp},
    ledger::files,
};

/// The file, in the ledger's directory.
pub const FILE: &str = "kill-switch.latch";
/// What two who write it at once agree by.
const LOCK: &str = "kill-switch.lock";
/// The largest latch that is read.
const LATCH_BYTES_MAX: u64 = 16 * 1024;
/// How long another writer is waited for; then it is written all the same.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latch {
    /// A word of [`KillSwitch`].
    pub level: String,
    /// A swarm, or `ALL`.
    pub scope: String,
    /// Why it was thrown, in the words of who threw it.
    pub reason: String,
    /// Who threw it.
    pub by: String,
    /// When it was thrown.
    pub since: Timestamp,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Thrown {
    /// The latch file.
    pub path: PathBuf,
    /// What it says now.
    pub latch: Latch,
    /// What it said before.
    pub before: Before,
    /// What a person should know beside it.
    pub warnings: Vec<String>,
}

/// What was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// A latch.
    Latch(Latch),
    /// Something that is no latch, and counts as the strongest.
    Unreadable,
}

/// Why there is no latch.
#[derive(Debug, Error)]
pub enum LatchError {
    /// The ledger's directory is not there.
    #[error("the ledger's directory `{}` is not there, so no latch was written", dir.display())]
    NoDirectory {
        /// The directory that was named.
        dir: PathBuf,
    },
    /// The file cannot be written.
    #[error("the latch `{}` cannot be written", path.display())]
    Write {
        /// The latch file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl LatchError {
    /// What to do next.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NoDirectory { .. } => "run it on the router's host and name its ledger with --ledger DIR",
            Self::Write { .. } => {
                "run it as the user that the router runs as, or as root; else stop the router's process: \
                 what is not running carries nothing"
            }
        }
    }
}

/// Throws the switch in that directory: what is there only gets tighter.
///
/// # Errors
/// When the file cannot be written.
pub fn throw(dir: &Path, wanted: Latch) -> Result<Thrown, LatchError> {
    let directory = fs::metadata(dir).ok().filter(fs::Metadata::is_dir);
    let Some(directory) = directory else { return Err(LatchError::NoDirectory { dir: dir.to_owned() }) };
    let path = dir.join(FILE);
    let fault = |source| LatchError::Write { path: path.clone(), source };
    let mut warnings = Vec::new();
    if !dir.join("ledger.sqlite").exists() {
        warnings.push(format!(
            "there is no ledger in `{}`: only a router that runs with this directory reads the latch",
            dir.display()
        ));
    }
    // Held until the end of this function; a lock that cannot be had does not hold up a kill.
    let _lock = locked(&dir.join(LOCK), &directory);
    let before = read(&path);
    let latch = over(&before, wanted);
    if before != Before::Latch(latch.clone()) {
        write(dir, &path, &latch, &directory, &mut warnings).map_err(fault)?;
    } else {
        // Thrown again: whoever is about to lift it must see that. It holds whether or not this can
        // be done.
        let file = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }
    Ok(Thrown { path, latch, before, warnings })
}

/// What the latch of a ledger's directory says; what cannot be read is not nothing.
pub fn read(path: &Path) -> Before {
    let mut text = String::new();
    match open(path).and_then(|file| file.take(LATCH_BYTES_MAX).read_to_string(&mut text)) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Before::Nothing,
        Err(_) => Before::Unreadable,
        Ok(_) => match serde_json::from_str::<Latch>(&text) {
            // A level that this release does not know may be a stronger one.
            Ok(latch) if KillSwitch::read(&latch.level).is_some() => Before::Latch(latch),
            _ => Before::Unreadable,
        },
    }
}

/// Opens a latch to read it. A pipe or a device in its place is none, and is not waited for.
fn open(path: &Path) -> io::Result<File> {
    files::open_to_read(path)
}

/// Looks at the latch again and again, on a thread of its own: a disk that does not answer holds
/// nothing else.
///
/// # Errors
/// When the system starts no thread.
pub fn watch(path: PathBuf, period: Duration) -> io::Result<watch::Receiver<Before>> {
    let (tell, seen) = watch::channel(Before::Nothing);
    let look = move || {
        while !tell.is_closed() {
            let now = read(&path);
            tell.send_if_modified(|before| {
                let differs = *before != now;
                *before = now;
                differs
            });
            std::thread::sleep(period);
        }
    };
    std::thread::Builder::new().name("latch".to_owned()).spawn(look)?;
    Ok(seen)
}

/// Takes the latch of a swarm, or of all, away, so that no start of a router finds it again. One
/// that covers more than that swarm stays.
///
/// # Errors
/// When it was thrown again after `seen`, cannot be read as one for that swarm, or cannot be
/// removed.
pub fn lift(dir: &Path, swarm: Option<&str>, seen: Timestamp) -> io::Result<()> {
    let path = dir.join(FILE);
    // Held until the end of this function: nobody throws it between our look and its end.
    let _lock = locked(&dir.join(LOCK), &fs::metadata(dir)?);
    match (read(&path), swarm) {
        (Before::Nothing, _) => return Ok(()),
        (Before::Latch(latch), Some(swarm)) if latch.scope != swarm => return Ok(()),
        (Before::Unreadable, Some(_)) => {
            return Err(io::Error::other("it cannot be read, so it counts for all; set ALL's kill switch"));
        }
        _ => {}
    }
    // The file's time, and not what it says: `throw` renews it also where nothing changes.
    let thrown = chrono::DateTime::<chrono::Utc>::from(fs::metadata(&path)?.modified()?);
    if thrown.timestamp_micros() > seen.micros() {
        return Err(io::Error::other("it was thrown again meanwhile"));
    }
    fs::remove_file(&path)?;
    File::open(dir)?.sync_all()
}

/// One latch laid over another: the stronger level, the wider scope.
fn over(before: &Before, wanted: Latch) -> Latch {
    let there = match before {
        Before::Nothing => return wanted,
        Before::Unreadable => {
            return Latch { level: KillSwitch::Block.word().to_owned(), scope: ALL.to_owned(), ..wanted };
        }
        Before::Latch(there) => there,
    };
    let level = |latch: &Latch| KillSwitch::read(&latch.level).unwrap_or(KillSwitch::Block);
    let covers = there.scope == ALL || there.scope == wanted.scope;
    if covers && level(there) >= level(&wanted) {
        // Who was first, and why, stays.
        return there.clone();
    }
    let scope = if there.scope == wanted.scope { wanted.scope.clone() } else { ALL.to_owned() };
    let strongest = level(there).max(level(&wanted));
    Latch { level: strongest.word().to_owned(), scope, ..wanted }
}

fn write(
    dir: &Path,
    path: &Path,
    latch: &Latch,
    directory: &fs::Metadata,
    warnings: &mut Vec<String>,
) -> io::Result<()> {
    // Made with 0600, and gone again if anything fails before it has its name.
    let mut file = tempfile::Builder::new().prefix(".kill-switch").tempfile_in(dir)?;
    file.write_all(format!("{}\n", serde_json::to_string(latch)?).as_bytes())?;
    let mine = file.as_file().metadata()?.uid();
    // The router runs as whom its ledger belongs to, and must be able to read this.
    if mine != directory.uid()
        && let Err(fault) = fchown(file.as_file(), Some(directory.uid()), Some(directory.gid()))
    {
        warnings.push(format!(
            "the latch belongs to user {mine} and the ledger to user {}: the router may not be able to read it ({fault})",
            directory.uid()
        ));
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|fault| fault.error)?;
    // The name is on the disk when the directory is.
    File::open(dir)?.sync_all()
}

fn locked(path: &Path, directory: &fs::Metadata) -> Option<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
    // So that whoever comes next, as the router's user, can lock it too; where that fails the lock
    // still holds here.
    let _ = fchown(&file, Some(directory.uid()), Some(directory.gid()));
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_PAUSE),
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn latch(level: &str, scope: &str) -> Latch {
        Latch {
            level: level.to_owned(),
            scope: scope.to_owned(),
            reason: format!("{level} for {scope}"),
            by: "ann".to_owned(),
            since: Timestamp::from_micros(1_000_000),
        }
    }

    #[test]
    fn one_over_another_is_only_ever_tighter() {
        for (there, wanted, becomes) in [
            (("CLOSE_ONLY", "ALL"), ("BLOCK", "ALL"), ("BLOCK", "ALL")),
            (("BLOCK", "ALL"), ("CLOSE_ONLY", "ALL"), ("BLOCK", "ALL")),
            (("BLOCK", "ALL"), ("FLATTEN", "kestrel"), ("BLOCK", "ALL")),
            (("CLOSE_ONLY", "ALL"), ("FLATTEN", "kestrel"), ("FLATTEN", "ALL")),
            (("FLATTEN", "kestrel"), ("CLOSE_ONLY", "owl"), ("FLATTEN", "ALL")),
            (("FLATTEN", "kestrel"), ("BLOCK", "kestrel"), ("BLOCK", "kestrel")),
            (("BLOCK", "kestrel"), ("CLOSE_ONLY", "ALL"), ("BLOCK", "ALL")),
        ] {
            let there = Before::Latch(latch(there.0, there.1));
            let over = over(&there, latch(wanted.0, wanted.1));
            assert_eq!((over.level.as_str(), over.scope.as_str()), becomes, "{there:?} {wanted:?}");
        }
        let torn = over(&Before::Unreadable, latch("CLOSE_ONLY", "kestrel"));
        assert_eq!((torn.level.as_str(), torn.scope.as_str()), ("BLOCK", "ALL"));
    }

    #[test]
    fn lifting_takes_away_what_was_meant_and_nothing_newer() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (Timestamp::from_micros(1_000_000), Timestamp::from_micros(i64::MAX / 2));
        let there = || dir.path().join(FILE).exists();
        lift(dir.path(), None, after).unwrap();
        throw(dir.path(), latch("FLATTEN", "kestrel")).unwrap();
        lift(dir.path(), Some("owl"), after).unwrap();
        assert!(there(), "another swarm's");
        let newer = lift(dir.path(), Some("kestrel"), before).unwrap_err();
        let file = File::options().write(true).open(dir.path().join(FILE)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        throw(dir.path(), latch("FLATTEN", "kestrel")).unwrap();
        assert!(lift(dir.path(), Some("kestrel"), before).is_err(), "thrown again, though nothing changed");
        assert!(there() && newer.to_string().contains("again"), "{newer}");
        lift(dir.path(), Some("kestrel"), after).unwrap();
        assert!(!there());
        // The wider one outlasts the narrower one's end.
        throw(dir.path(), latch("FLATTEN", "kestrel")).unwrap();
        throw(dir.path(), latch("CLOSE_ONLY", "ALL")).unwrap();
        lift(dir.path(), Some("kestrel"), after).unwrap();
        assert!(there());
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(lift(dir.path(), Some("kestrel"), after).is_err() && there());
        lift(dir.path(), None, after).unwrap();
        assert!(!there());
    }

    #[test]
    fn the_file_is_whole_private_and_the_first_reason_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = throw(dir.path(), latch("FLATTEN", "ALL")).unwrap();
        assert_eq!(first.before, Before::Nothing);
        assert!(first.warnings[0].contains("no ledger"), "{:?}", first.warnings);
        let mode = fs::metadata(&first.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = throw(dir.path(), Latch { by: "bob".to_owned(), ..latch("CLOSE_ONLY", "owl") }).unwrap();
        assert_eq!((second.before, second.latch), (Before::Latch(first.latch.clone()), first.latch.clone()));
        let text = fs::read_to_string(&first.path).unwrap();
        assert_eq!(serde_json::from_str::<Latch>(&text).unwrap(), first.latch);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "the latch and its lock: {left:?}");
    }

    #[test]
    fn what_cannot_be_read_counts_as_the_strongest() {
        let dir = tempfile::tempdir().unwrap();
        for torn in
            ["", "{", "{\"level\":\"ALLOWED\",\"scope\":\"ALL\",\"reason\":\"\",\"by\":\"\",\"since\":\"x\"}"]
        {
            fs::write(dir.path().join(FILE), torn).unwrap();
            let thrown = throw(dir.path(), latch("CLOSE_ONLY", "kestrel")).unwrap();
            assert_eq!(thrown.before, Before::Unreadable);
            assert_eq!((thrown.latch.level.as_str(), thrown.latch.scope.as_str()), ("BLOCK", "ALL"));
        }
    }

    #[test]
    fn many_at_once_leave_the_strongest_of_all() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let level = ["CLOSE_ONLY", "FLATTEN", "BLOCK", "CLOSE_ONLY"][number % 4];
                let dir = dir.path();
                scope.spawn(move || throw(dir, latch(level, ["owl", "kestrel"][number % 2])).unwrap());
            }
        });
        let Before::Latch(left) = read(&dir.path().join(FILE)) else { panic!("it is not whole") };
        assert_eq!((left.level.as_str(), left.scope.as_str()), ("BLOCK", "ALL"));
    }

    #[test]
    fn a_directory_that_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap().path().join("gone");
        let fault = throw(&dir, latch("BLOCK", "ALL")).unwrap_err();
        assert!(fault.help().contains("--ledger DIR") && !dir.exists(), "{fault}");
    }
}
