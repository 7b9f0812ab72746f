//! Where key material comes from.
//!
//! Owns: making a secret from the system's randomness, and reading one that an operator has put
//! somewhere.
//! Never: has a secret of its own for where none is configured; prints or keeps what it read.
//! Holds: a secret that came from a file was readable by its owner alone.

mod reference;

use std::{fmt, io, path::PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::contract::control::{ControlFault, MasterSecret};
pub use reference::SecretRef;

/// The length of a generated secret.
pub const GENERATED_BYTES: usize = 32;

/// Makes a secret.
///
/// # Errors
/// [`KeyError::Randomness`].
pub fn generate() -> Result<MasterSecret, KeyError> {
    let mut bytes = Zeroizing::new(vec![0; GENERATED_BYTES]);
    getrandom::fill(&mut bytes).map_err(KeyError::Randomness)?;
    MasterSecret::new(bytes).map_err(|fault| KeyError::Unfit { place: SecretPlace::System, fault })
}

/// Where a secret was looked for: in words that hold no part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// The system's randomness.
    System,
    /// A variable of the environment.
    Variable(String),
    /// A file.
    File(PathBuf),
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretPlace::System => out.write_str("the system's randomness"),
            SecretPlace::Variable(name) => write!(out, "the variable `{name}`"),
            SecretPlace::File(path) => write!(out, "the file `{}`", path.display()),
        }
    }
}

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The reference is none.
    #[error(
        "a reference to a secret begins with neither `env:` nor `file:`; name a variable or a file, never the secret itself"
    )]
    Reference,
    /// The variable is not set.
    #[error("{place} is not set; set it where this process is started")]
    Unset {
        /// Where.
        place: SecretPlace,
    },
    /// The file cannot be read.
    #[error("{place} cannot be read: {source}")]
    Unreadable {
        /// Where.
        place: SecretPlace,
        /// The cause.
        source: io::Error,
    },
    /// Others may read the file, or may have written it.
    #[error("{place} {fault}; run `chmod 600` and `chown` on it for the user of this process")]
    Open {
        /// Where.
        place: SecretPlace,
        /// The rule.
        fault: &'static str,
    },
    /// It is empty or too long.
    #[error("{place} holds no usable secret: {fault}")]
    Unfit {
        /// Where.
        place: SecretPlace,
        /// The rule.
        fault: ControlFault,
    },
    /// It is empty or longer than its use allows.
    #[error("{place} is empty or longer than {bytes_max} bytes")]
    Size {
        /// Where.
        place: SecretPlace,
        /// The bound.
        bytes_max: usize,
    },
    /// The system gave no randomness.
    #[error("the system gave no randomness: {0}; a secret cannot be made without")]
    Randomness(getrandom::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_of_32_bytes_and_never_twice() {
        let made: Vec<MasterSecret> = (0..64).map(|_| generate().unwrap()).collect();
        assert!(made.iter().all(|secret| secret.expose().len() == GENERATED_BYTES));
        for (index, one) in made.iter().enumerate() {
            assert!(made.iter().skip(index + 1).all(|other| one != other));
        }
    }
}
