//! Where a master secret comes from, and how a signing key follows from it.
//!
//! Owns: the words of both, as configs and bundles spell them, and which goes with which where
//! nothing is said.
//! Never: holds or derives a key; `secret` does.
//! Holds: a word is spelt in one way only.

use serde::{Deserialize, Serialize};

/// Where a master secret comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretMode {
    /// From the config's reference.
    #[default]
    Static,
    /// From the machine's randomness, anew at each start.
    Generated,
}

impl SecretMode {
    /// Both.
    pub const ALL: [SecretMode; 2] = [SecretMode::Static, SecretMode::Generated];

    /// Its word in configs and bundles.
    pub const fn word(self) -> &'static str {
        match self {
            SecretMode::Static => "static",
            SecretMode::Generated => "generated",
        }
    }

    /// The mode of a word; `None` for any other.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

/// How a signing key follows from a master secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kdf {
    /// The master itself signs.
    None,
    /// RFC 5869 with SHA-256, no salt, and an info that names the use.
    HkdfSha256,
}

impl Kdf {
    /// Both.
    pub const ALL: [Kdf; 2] = [Kdf::None, Kdf::HkdfSha256];

    /// What holds where nothing is configured.
    pub const fn default_for(mode: SecretMode) -> Self {
        match mode {
            SecretMode::Static => Kdf::None,
            SecretMode::Generated => Kdf::HkdfSha256,
        }
    }

    /// Its word in configs and bundles.
    pub const fn word(self) -> &'static str {
        match self {
            Kdf::None => "none",
            Kdf::HkdfSha256 => "hkdf_sha256",
        }
    }

    /// The profile of a word; `None` for any other.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kdf| kdf.word() == word)
    }
}
