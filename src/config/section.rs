//! A section of the config: each key once, with its type, its default, what it may be and what it
//! means.
//!
//! Owns: the form of a row, and the macro that makes of the rows a struct, its `Default` and its
//! part of the table.
//! Never: names a key; the sections do.
//! Holds: what a struct starts from, what the loader checks and what is printed cannot differ: it
//! is one row.

use serde::Serialize;
use serde_json::Value;

/// A day, in milliseconds.
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// A mebibyte, in bytes.
pub(super) const MIB: u64 = 1024 * 1024;
/// A gibibyte, in bytes.
pub(super) const GIB: u64 = 1024 * MIB;

/// One key.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its dotted path; for a deployment's own type, from `types[]`.
    pub path: &'static str,
    /// What it may be.
    pub kind: KeyKind,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// Its default; null where that is nothing, or follows from another key.
    pub default: Value,
}

/// What a key may be.
#[derive(Clone, Copy, Debug)]
pub enum KeyKind {
    /// A URL of the broker; never shown.
    Url,
    /// A URL of the broker's management API; never shown.
    ManagementUrl,
    /// URLs of the broker's nodes; never shown.
    Urls,
    /// One routing-key segment.
    Segment,
    /// A name of exchanges and queues: letters, digits, `_`, `-`, `.`.
    Name,
    /// A path.
    Path,
    /// `ADDRESS:PORT`.
    Address,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A whole number within bounds.
    Whole(u64, u64),
    /// `true` or `false`.
    Flag,
    /// A list of words.
    Words,
    /// A list of short lines, each in a form of its own.
    Lines,
    /// A loopback address of this machine, without a port.
    Loopback,
    /// Where a secret is, never the secret: `env:NAME` or `file:PATH`.
    SecretRef,
    /// The supervisor's rows; a file has them, and neither a variable nor a flag.
    Workers,
}

impl KeyKind {
    /// Whether it is a list that a variable or a flag can say: items with commas between them, or
    /// `[one, two]`.
    pub const fn is_list(self) -> bool {
        matches!(self, KeyKind::Words | KeyKind::Lines | KeyKind::Urls)
    }
}

/// A part of the config that has rows in the table.
pub(super) trait Section {
    /// Its keys, in the order in which they are printed.
    fn fields() -> Vec<Field>;
}

/// A default as the config says it.
pub(super) fn written<T: Serialize>(default: T) -> Value {
    // Defaults are plain data, and none of their forms can fail.
    serde_json::to_value(default).unwrap_or_default()
}

/// A struct of the config. A row is `key: type = default, kind, "meaning";`, and `..name: Section,
/// "meaning";` is a section below it, whose own rows follow.
macro_rules! section {
    (
        $(#[$attribute:meta])*
        $public:vis struct $name:ident at $path:literal {
            $($key:ident: $type:ty = $default:expr, $kind:expr, $meaning:literal;)*
            $(..$section:ident: $section_type:ty, $section_meaning:literal;)*
        }
    ) => {
        $(#[$attribute])*
        $public struct $name {
            $(#[doc = $meaning] pub $key: $type,)*
            $(#[doc = $section_meaning] pub $section: $section_type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* $($section: Default::default(),)* }
            }
        }

        impl $crate::config::section::Section for $name {
            fn fields() -> Vec<$crate::config::section::Field> {
                #[allow(unused_mut, reason = "a section without sections below it is whole at once")]
                let mut fields = vec![$($crate::config::section::Field {
                    path: concat!($path, stringify!($key)),
                    kind: $kind,
                    doc: $meaning,
                    default: $crate::config::section::written::<$type>($default),
                },)*];
                $(fields.extend(<$section_type as $crate::config::section::Section>::fields());)*
                fields
            }
        }
    };
}
pub(super) use section;
