//! The first moment of a worker's process, before it becomes the worker.
//!
//! Owns: tying the process to its supervisor's life, entering its control group, then becoming the
//! worker's program.
//! Never: reads the key that waits on standard input: that is the worker's.
//! Holds: a worker never outlives its supervisor, even one that was killed: the system ends it.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::process::{CommandExt, parent_id},
    path::Path,
    process::Command,
};

use rustix::process::{Signal, set_parent_process_death_signal};
use thiserror::Error;

use super::cgroup;

/// Why the process did not become the worker.
#[derive(Debug, Error)]
pub enum ChildError {
    /// The tie was refused.
    #[error("the system does not tie a worker to its supervisor's life; the supervisor needs Linux")]
    Untied(#[source] io::Error),
    /// The supervisor is gone already.
    #[error("the supervisor that started this is gone; `swarmgate supervise` starts workers, nobody else")]
    Orphan,
    /// There is no program.
    #[error("no program is named; `swarmgate supervise` names the one of the worker's `command`")]
    Nothing,
    /// The program cannot be run.
    #[error("`{program}` cannot be run; name a program that is there and may be, by path or in PATH")]
    Program {
        /// Its name.
        program: String,
        /// The system's words.
        source: io::Error,
    },
}

/// Becomes the worker, in that control group where there is one; comes back only when that failed.
pub fn become_worker(supervisor: u32, group: Option<&Path>, command: &[OsString]) -> ChildError {
    if let Err(fault) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return ChildError::Untied(fault.into());
    }
    // Had the supervisor died before the tie was made, it would never be felt.
    if parent_id() != supervisor {
        return ChildError::Orphan;
    }
    if let Some(group) = group
        && let Err(fault) = cgroup::join(group)
    {
        // A line of the worker's log. What it leaves behind is found by its environment then.
        let _ = writeln!(io::stderr(), "warning: not in the control group `{}`: {fault}", group.display());
    }
    let Some((program, arguments)) = command.split_first() else { return ChildError::Nothing };
    let source = Command::new(program).args(arguments).exec();
    ChildError::Program { program: program.to_string_lossy().into_owned(), source }
}
