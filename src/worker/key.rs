//! The first key, from the pipe that the supervisor left open.
//!
//! Owns: reading the key to the end of its pipe, and closing the pipe.
//! Never: keeps a copy of the key, or looks for one anywhere else.
//! Holds: what a worker starts later inherits neither the key nor the pipe.

use std::{fs::File, io, os::fd::AsFd};

use rustix::stdio::dup2_stdin;
use zeroize::Zeroizing;

use super::WorkerError;
use crate::contract::control::{
    SigningKey,
    secret::{DERIVED_KEY_BYTES, SECRET_BYTES_MAX},
};

/// Reads the key from a descriptor of this process.
pub(super) fn read(key_fd: u32) -> Result<SigningKey, WorkerError> {
    let unreadable = |source| WorkerError::Key { source };
    let bytes = if key_fd == 0 {
        let bytes = read_to_end(io::stdin()).map_err(unreadable)?;
        let nothing = File::open("/dev/null").map_err(unreadable)?;
        dup2_stdin(nothing).map_err(|fault| unreadable(fault.into()))?;
        bytes
    } else {
        // Opened anew by its name; the pipe is empty afterwards, whoever has it open still.
        let pipe = File::open(format!("/proc/self/fd/{key_fd}")).map_err(unreadable)?;
        read_to_end(pipe).map_err(unreadable)?
    };
    if bytes.len() < DERIVED_KEY_BYTES {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before the key did");
        return Err(WorkerError::Key { source });
    }
    Ok(SigningKey::new(bytes)?)
}

/// Reads past every buffer that the standard library would keep a copy in.
fn read_to_end(from: impl AsFd) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES_MAX]);
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(&from, rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
