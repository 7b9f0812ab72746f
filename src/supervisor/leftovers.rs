//! What a worker started and put out of its process group (`setsid`), found by a mark in its
//! environment: the way where there is no control group.
//!
//! Owns: the mark, and ending all that has it once the worker itself has ended.
//! Never: signals a process by its number alone: it is held before it is looked at, so that it is
//! the one that is ended.
//! Holds: what has the mark and lives on is ended; a process that emptied its environment, or that
//! belongs to another user, is not found.

use std::{fs, path::Path};

use rustix::process::{Pid, PidfdFlags, Signal, getpgid, getpid, pidfd_open, pidfd_send_signal};

/// The variable that a worker and all that it starts have.
pub(super) const MARK: &str = "SWARMGATE_SUPERVISED";
/// How often all processes are looked at: what is being ended can still start others.
const ROUNDS_MAX: usize = 16;

/// A mark that no other worker has.
pub(super) fn mark() -> String {
    let mut bits = [0; 16];
    // Without random bits the number of this process and the time would do; the system has them.
    let _ = getrandom::fill(&mut bits);
    format!("{}-{:032x}", getpid().as_raw_nonzero(), u128::from_ne_bytes(bits))
}

/// Ends all that has that mark and is not of that group, which was ended as a whole; how many those
/// were.
pub(super) fn end(mark: &str, group: Pid) -> usize {
    let wanted = format!("{MARK}={mark}");
    let mut ended = std::collections::BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let found: Vec<Pid> = numbers().filter(|number| kill(*number, &wanted, group)).collect();
        if found.is_empty() {
            break;
        }
        ended.extend(found.iter().map(|number| number.as_raw_nonzero().get()));
    }
    ended.len()
}

/// Every process of this machine that can be seen.
fn numbers() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// Ends a process if it has the mark and still runs.
fn kill(number: Pid, wanted: &str, group: Pid) -> bool {
    // Held first: what is read then is of the process that is signalled, or of none.
    let Ok(held) = pidfd_open(number, PidfdFlags::empty()) else { return false };
    let place = Path::new("/proc").join(number.as_raw_nonzero().to_string()).join("environ");
    // One that has ended and was not waited for has an empty environment.
    let Ok(environment) = fs::read(place) else { return false };
    let is_ours = environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes());
    is_ours && getpgid(Some(number)) != Ok(group) && pidfd_send_signal(held, Signal::KILL).is_ok()
}
