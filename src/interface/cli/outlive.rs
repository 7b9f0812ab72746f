//! What the process of a router outlives: signals that mean nothing to it, and a small limit of
//! open files.
//!
//! Owns: which signals are passed over, and how many clients of the window fit a limit.
//! Never: keeps SIGTERM, SIGINT or SIGQUIT from ending the process.
//! Holds: clients of the window never take the descriptors that broker and ledger need.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use super::CliError;
use crate::interface::http::ClientBounds;

/// What ends a process that does not listen for it. A limit on the size of files (SIGXFSZ) makes a
/// write fail, as a full disk does, where the process goes on.
const PASSED_OVER: [i32; 7] =
    [libc::SIGXFSZ, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGVTALRM, libc::SIGIO, libc::SIGPWR];
/// Open files below which no command can do its work.
const FILES_MIN: u64 = 32;
/// Open files that broker, ledger and the process itself need.
const FILES_OWN: u64 = 64;
/// Open files below which a router says that it has few.
const FILES_FEW: u64 = 128;
/// Open files that a router asks for at most.
const FILES_MAX: u64 = 65_536;

/// Passes over signals that would end the process without a word; answers what tells of SIGHUP.
///
/// # Errors
/// When the system takes no handlers.
pub(super) fn signals() -> Result<Signal, CliError> {
    let listen = |kind| signal(kind).map_err(|fault| CliError::input(&fault));
    for number in PASSED_OVER {
        // A handler stays for as long as the process runs, whoever listens.
        listen(SignalKind::from_raw(number)).map(drop)?;
    }
    listen(SignalKind::hangup())
}

/// Whether enough files may be open for any work at all: with fewer the runtime would fail in the
/// middle.
///
/// # Errors
/// `Tasks`, with the number.
pub(super) fn enough_files() -> Result<(), CliError> {
    match getrlimit(Resource::Nofile).current {
        Some(files) if files < FILES_MIN => {
            let why = format!("only {files} files may be open (`ulimit -n`), and {FILES_MIN} are needed");
            Err(CliError::Tasks(io::Error::other(why)))
        }
        _ => Ok(()),
    }
}

/// Takes as many open files as the system lets a router have; how many that is.
pub(super) fn raised_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(FILES_MAX).min(FILES_MAX);
    let has = limit.current.unwrap_or(u64::MAX);
    if has < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).is_ok() {
        return wanted;
    }
    has
}

/// The bounds of a window that fit so many open files: what broker and ledger need is not given to
/// clients.
pub(super) fn fitting(bounds: ClientBounds, files: u64) -> ClientBounds {
    let room = usize::try_from(files.saturating_sub(FILES_OWN)).unwrap_or(usize::MAX);
    let health_connections_max = bounds.health_connections_max.min(room / 4).max(1);
    let connections_max = bounds.connections_max.min(room - room / 4).max(1);
    if files < FILES_FEW {
        warn!(
            files,
            connections_max,
            health_connections_max,
            "few files may be open (`ulimit -n`): fewer clients are served at once, so that broker and ledger have theirs"
        );
    }
    ClientBounds { connections_max, health_connections_max, ..bounds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_broker_and_ledger_leave() {
        let bounds =
            ClientBounds { connections_max: 64, health_connections_max: 16, ..ClientBounds::default() };
        for (files, expected) in [
            (u64::MAX, (64, 16)),
            (1_024, (64, 16)),
            (144, (60, 16)),
            (96, (24, 8)),
            (64, (1, 1)),
            (40, (1, 1)),
        ] {
            let fit = fitting(bounds, files);
            assert_eq!((fit.connections_max, fit.health_connections_max), expected, "{files}");
            let taken = (fit.connections_max + fit.health_connections_max) as u64;
            assert!(files < FILES_OWN + 2 || taken + FILES_OWN <= files, "{files}");
        }
    }
}
