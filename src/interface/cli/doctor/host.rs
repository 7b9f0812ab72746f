//! What lies on the machine of the router: the ledger, what stands beside it, its disk and its
//! clock.
//!
//! Owns: these checks.
//! Never: writes, or waits for a router that has the ledger open.
//! Holds: what lies beside a ledger is read before the ledger.

use std::{os::unix::fs::MetadataExt, path::Path};

use super::{Findings, State};
use crate::{
    clock, config,
    contract::audit::EmergencyId,
    ledger::{
        emergency, mark,
        query::Reader,
        size::{Size, WAL_AT_REST_BYTES},
        verify,
    },
};

/// From this size on a write-ahead log is one that a reader keeps from being emptied.
const WAL_WORTH_A_WARNING_BYTES: u64 = 2 * WAL_AT_REST_BYTES;
/// Free bytes below which a ledger cannot be written for long.
const DISK_FREE_BYTES_LAST: u64 = 16 * 1024 * 1024;
/// Free bytes below which the disk of a ledger is worth a warning.
const DISK_FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;

/// Looks.
pub(super) async fn look(place: &config::Ledger, ahead_max_ms: u64, findings: &mut Findings) {
    let beside = Beside::read(&place.dir, &place.emergency_place());
    let newest = ledger(&place.dir, ahead_max_ms, findings).await;
    mark(beside, newest, findings);
    emergency_log(&place.dir, &place.emergency_place(), findings);
}

/// Whether the clock agrees with the ledger's last entry.
async fn time(dir: &Path, ahead_max_ms: u64, findings: &mut Findings) {
    let Ok(reader) = Reader::open(dir).await else { return };
    let Ok(last) = reader.tail(1).await else { return };
    let Some(last) = last.last() else { return };
    let (last, wall) = (last.entry.fact.at, clock::wall());
    let (state, found) = if last > wall.plus_ms(ahead_max_ms) {
        (
            State::Fail,
            format!("it says {wall}, and the ledger's last entry is of {last}: the router starts in SAFE"),
        )
    } else {
        (State::Ok, "it is not behind the ledger's last entry".to_owned())
    };
    findings.add(
        "clock",
        state,
        found,
        "set the clock right, or accept it (docs/operating/runbooks/clock.md)",
    );
}

/// What lies beside a ledger, read before the ledger: what goes from there into the ledger
/// meanwhile is found there.
struct Beside {
    mark: mark::Said,
    newest: Option<EmergencyId>,
}

impl Beside {
    fn read(dir: &Path, log: &Path) -> Self {
        let mark = mark::kept(dir);
        Self { mark, newest: emergency::read(log).ok().and_then(|found| found.newest()) }
    }
}

/// Whether the mark can be read, and knows no more of the emergency log than log and ledger hold.
fn mark(beside: Beside, in_ledger: Option<EmergencyId>, findings: &mut Findings) {
    const NAME: &str = "mark";
    match beside.mark {
        mark::Said::Nothing => {}
        mark::Said::Unreadable => findings.add(
            NAME,
            State::Fail,
            "`ledger.mark` is there and cannot be read: it may have known more than the ledger holds",
            "see docs/operating/ledger.md; the next start is in SAFE unless the broker's mark knows the last entry",
        ),
        mark::Said::Mark(mark) => match mark.emergency.filter(|known| Some(*known) > in_ledger.max(beside.newest)) {
            None => findings.add(NAME, State::Ok, format!("it knows entry {}", mark.seq), ""),
            Some(known) => findings.add(
                NAME,
                State::Fail,
                format!("the emergency log held `{known}`, and neither it nor the ledger does: it was exchanged, cut or removed"),
                "put the right file back, or name it in `ledger.emergency_path`; the next start is in SAFE otherwise",
            ),
        },
    }
}

/// The newest emergency entry that it holds.
async fn ledger(dir: &Path, ahead_max_ms: u64, findings: &mut Findings) -> Option<EmergencyId> {
    if !dir.exists() {
        findings.add(
            "ledger",
            State::Warn,
            format!("there is none at `{}` yet", dir.display()),
            "`swarmgate run` begins it",
        );
        return None;
    }
    let mut newest = None;
    match verify::verify(dir).await {
        Ok(report) => match report.fault {
            None => {
                newest = report.newest_emergency;
                findings.add("ledger", State::Ok, format!("{} entries, all good", report.entries), "");
                time(dir, ahead_max_ms, findings).await;
            }
            Some(fault) => findings.add(
                "ledger",
                State::Fail,
                fault.to_string(),
                "keep this file, and restore the directory from a copy (docs/operating/ledger.md)",
            ),
        },
        Err(fault) => findings.add("ledger", State::Fail, fault.to_string(), "see docs/operating/ledger.md"),
    }
    let Size { wal_bytes, .. } = Size::of(dir);
    if wal_bytes > WAL_WORTH_A_WARNING_BYTES {
        findings.add(
            "write-ahead log",
            State::Warn,
            format!("{} MiB: somebody reads the ledger and does not let go", wal_bytes / 1024 / 1024),
            "end whoever has `ledger.sqlite` open; at `ledger.wal_max_bytes` only stop passes",
        );
    }
    match fs4::available_space(dir) {
        Ok(free) if free >= DISK_FREE_BYTES_MIN => {
            findings.add("disk", State::Ok, format!("{} MiB free", free / 1024 / 1024), "");
        }
        Ok(free) if free < DISK_FREE_BYTES_LAST => {
            let found = format!("{} MiB free", free / 1024 / 1024);
            let next = "make room: where nothing can be written only stop and tightening pass";
            findings.add("disk", State::Fail, found, next);
        }
        Ok(free) => {
            findings.add("disk", State::Warn, format!("{} MiB free", free / 1024 / 1024), "make room");
        }
        Err(fault) => findings.add("disk", State::Skipped, fault.to_string(), ""),
    }
    newest
}

/// Whether there is a sound place to write what passes while the ledger cannot be written.
fn emergency_log(dir: &Path, path: &Path, findings: &mut Findings) {
    const NAME: &str = "emergency log";
    match emergency::read(path) {
        Err(emergency::EmergencyError::Missing(_)) => {
            let found = format!("there is none at `{}` yet", path.display());
            let next = "a first `swarmgate run` makes it; where one made it before, what it held is gone: put it back";
            findings.add(NAME, State::Warn, found, next);
        }
        Err(fault) => findings.add(NAME, State::Fail, fault.to_string(), "see docs/operating/ledger.md"),
        Ok(found) if found.records.is_empty() => {
            findings.add(NAME, State::Ok, format!("`{}` is empty", path.display()), "");
        }
        Ok(found) => findings.add(
            NAME,
            State::Warn,
            format!("`{}` holds {} entries", path.display(), found.records.len()),
            "mend the ledger; a router that runs, or the next start, appends them",
        ),
    }
    let device = |place: &Path| std::fs::metadata(place).ok().map(|place| place.dev());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (name, next) = ("emergency place", "name a file on another disk in `ledger.emergency_path`");
    match (device(dir), device(parent)) {
        (Some(one), Some(other)) if one != other => {
            findings.add(name, State::Ok, "on another file system than the ledger", "");
        }
        (Some(_), Some(_)) => {
            let found = "on the ledger's own file system: a disk that fails takes both";
            findings.add(name, State::Warn, found, next);
        }
        (_, None) if parent != dir => {
            let found = format!("the directory `{}` cannot be read", parent.display());
            findings.add(name, State::Fail, found, "make it: the router does not start without its place");
        }
        _ => findings.add(name, State::Skipped, "there is no ledger to compare with", ""),
    }
}
