//! The words of the interlock.
//!
//! Owns: the closed vocabulary of safety modes.
//! Never: decides which mode follows which; the gates do.
//! Holds: the stronger mode is the greater, and a word is spelt in one way only.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The safety mode; the stronger is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SafetyMode {
    /// Everything that is permitted may happen.
    #[serde(rename = "NORMAL")]
    Normal,
    /// Nothing starts or changes.
    #[serde(rename = "SAFE")]
    Safe,
    /// The same, and the kill switch blocks.
    #[serde(rename = "EMERGENCY_STOP")]
    EmergencyStop,
}

impl SafetyMode {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Safe => "SAFE",
            Self::EmergencyStop => "EMERGENCY_STOP",
        }
    }
}

impl fmt::Display for SafetyMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}
