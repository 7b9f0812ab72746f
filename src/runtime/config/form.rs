//! The form of a row in the table of settings.
//!
//! Owns: what a row says of its setting, and what a setting may be.
//! Never: names a setting; the table does.
//! Holds: a kind is all that the loader, the printed defaults and the JSON Schema need to know of a value.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its dotted path; for a deployment's own type, from `types[]`.
    pub path: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// What a setting may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
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
