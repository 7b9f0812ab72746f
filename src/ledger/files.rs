//! The ledger's file by its name, and opening what lies beside it.
//!
//! Owns: the file's name, the one way in which the files beside it are opened, and telling a file
//! from a pipe, a device or a directory.
//! Never: waits for whoever is at the other end of a pipe, or reads what has no end.
//! Holds: what is opened is a regular file; a symbolic link to one is one.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use thiserror::Error;

/// The file of the entries, in the ledger's directory.
pub const FILE: &str = "ledger.sqlite";

/// What stands in a file's place is none.
#[derive(Debug, Error)]
#[error("it is no regular file but a directory, a pipe or a device; move it away and put the file back")]
struct Irregular;

/// Opens a regular file.
///
/// # Errors
/// What the file system said; [`is_irregular`] finds what is no regular file.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Opening a pipe waits for its other end otherwise.
    let opened = options.custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|fault| if path.is_dir() { irregular() } else { fault })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

/// Opens a regular file for reading.
///
/// # Errors
/// As [`open`].
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true), path)
}

/// Looks whether a file that somebody else is to open is a regular one, or not there.
///
/// # Errors
/// As [`open`].
pub fn check(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(irregular()),
        // Whoever opens it says what is wrong with it.
        _ => Ok(()),
    }
}

/// Whether a fault says that something is no regular file: no waiting mends that.
pub fn is_irregular(fault: &io::Error) -> bool {
    fault.get_ref().is_some_and(|inner| inner.is::<Irregular>())
}

fn irregular() -> io::Error {
    io::Error::other(Irregular)
}
