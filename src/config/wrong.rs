//! What is wrong with a setting, and what to do about it.
//!
//! Owns: the words of one fault, before its place is known.
//! Never: says where it stands; the merged layers know.
//! Holds: there is always something to do.

/// What is wrong with a value, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// Its code, where it has one.
    pub code: Option<&'static str>,
}

impl Wrong {
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into(), code: None }
    }

    /// The same, under a code.
    pub fn with_code(self, code: Option<&'static str>) -> Self {
        Self { code, ..self }
    }
}
