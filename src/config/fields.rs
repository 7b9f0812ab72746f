//! The table of settings: the rows of all sections, one after another.
//!
//! Owns: finding a row by its path or its variable, and which sections and codes are special.
//! Never: says what a key means or starts from; its row does, in the struct of its section.
//! Holds: one row a leaf of `Config` (a test compares them).

use std::sync::LazyLock;

use super::{
    Config,
    section::{Field, Section},
};

/// Every setting but `types`, in the order of the printed defaults.
pub static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(Config::fields);

/// Sections that others write in too, so that a strange key in them is worth a warning and is no
/// fault. What stands deeper is ours alone.
pub const SHARED_SECTIONS: &[&str] = &["runtime", "runtime.platform"];

/// The code by which the bootstrap contract calls a value that a setting of it cannot have.
pub fn code_of(path: &str) -> Option<&'static str> {
    match path {
        "runtime.platform.bootstrap.mode" => Some("BOOT-CFG-01"),
        "runtime.platform.execution_ipc.auth.secret_mode" => Some("BOOT-CFG-02"),
        "runtime.platform.execution_ipc.auth.kdf" => Some("BOOT-CFG-03"),
        _ => None,
    }
}

/// The row of a path.
pub fn find(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}

/// Whether a path is a section: something stands under it.
pub fn is_section(path: &str) -> bool {
    FIELDS.iter().any(|field| field.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The environment variable of a path.
pub fn variable(path: &str) -> String {
    format!("SWARMGATE_{}", path.to_ascii_uppercase().replace('.', "_"))
}
