//! Verifying a bundle: is it whole, is it what was packed, does its excerpt chain, does it hold a
//! secret?
//!
//! Owns: reading a bundle that anybody may have made or altered, and what is wrong with it.
//! Never: unpacks to the disk, or holds more than `Limits::bundle_bytes_max` and a little.
//! Holds: a report without faults says that every member is listed, present and has the bytes that
//! the manifest names.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::bufread::GzDecoder;
use serde::Serialize;
use thiserror::Error;

pub use super::proof::Chained;
use super::{BundleError, BundleLimits, Detector, MANIFEST, Manifest, SCHEMA_VERSION, proof, scan};
use crate::contract::digest::Digest;

/// Members of an archive that is read at all.
const MEMBERS_MAX: usize = 64;
/// Bytes of heads and padding, and of the manifest.
const OVERHEAD_BYTES_MAX: u64 = 1024 * 1024;

/// What is wrong with a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BundleFault {
    /// It is no archive, or is torn.
    #[error("it does not unpack: {0}")]
    Torn(String),
    /// A member has no place in a bundle.
    #[error("member {0} is no plain file with a plain name, or is there twice")]
    Strange(usize),
    /// It does not begin with its manifest.
    #[error("its first member is not `manifest.json`")]
    Headless,
    /// The manifest does not read.
    #[error("its manifest cannot be read: {0}")]
    Manifest(String),
    /// A newer release made it.
    #[error("its form is `{0}`, and this release reads `1`; verify it with the release that made it")]
    Newer(String),
    /// A member that the manifest does not list.
    #[error("`{0}` is not listed in the manifest")]
    Unlisted(String),
    /// A listed member is not there.
    #[error("`{0}` is listed and missing")]
    Absent(String),
    /// A member is not what the manifest says.
    #[error("`{0}` was altered: it does not have the size and SHA-256 that are listed")]
    Altered(String),
    /// The excerpt of the ledger does not chain.
    #[error("the audit excerpt is not what was written: {0}")]
    Audit(String),
    /// A secret is in it.
    #[error("`{member}` holds a secret (rule `{rule}`); do not pass it on")]
    Secret {
        /// The member.
        member: String,
        /// The rule.
        rule: &'static str,
    },
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleReport {
    /// Everything that is wrong; nothing when the bundle is good.
    pub faults: Vec<BundleFault>,
    /// The manifest, where it reads.
    pub manifest: Option<Manifest>,
    /// SHA-256 of the manifest.
    pub manifest_sha256: Option<Digest>,
    /// The excerpt of the ledger, where there is one and it is good.
    pub audit: Option<Chained>,
}

impl BundleReport {
    /// The part that programs read.
    pub fn summary(&self) -> impl Serialize {
        serde_json::json!({
            "verdict": if self.faults.is_empty() { "VALID" } else { "INVALID" },
            "faults": self.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "manifest": self.manifest, "manifest_sha256": self.manifest_sha256, "audit": self.audit,
        })
    }
}

/// Verifies the bundle in a file.
///
/// # Errors
/// Only when the file cannot be opened; what is wrong with the bundle is in the report.
pub fn verify(path: &Path, limits: &BundleLimits) -> Result<BundleReport, BundleError> {
    let file = File::open(path).map_err(BundleError::file(path))?;
    Ok(read(file, limits, &Detector::default()))
}

/// Reads a bundle and finds what is wrong with it.
pub(super) fn read(file: File, limits: &BundleLimits, detector: &Detector) -> BundleReport {
    let mut report = BundleReport { faults: Vec::new(), manifest: None, manifest_sha256: None, audit: None };
    match unpack(file, limits.bundle_bytes_max.saturating_add(OVERHEAD_BYTES_MAX)) {
        Ok(members) => report.judge(&members, detector),
        Err(fault) => report.faults.push(fault),
    }
    report
}

/// The members in order, by name.
fn unpack(file: File, bytes_max: u64) -> Result<Vec<(String, Vec<u8>)>, BundleFault> {
    let torn = |fault: io::Error| BundleFault::Torn(fault.to_string());
    let mut unpacker = GzDecoder::new(BufReader::new(file)).take(bytes_max);
    let mut archive = tar::Archive::new(&mut unpacker);
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    for (index, entry) in archive.entries().map_err(torn)?.enumerate() {
        let mut entry = entry.map_err(torn)?;
        let name = entry.path_bytes().into_owned();
        let name = String::from_utf8(name).ok().filter(|name| is_plain(name));
        let is_file = entry.header().entry_type() == tar::EntryType::Regular;
        let Some(name) = name.filter(|_| is_file && index < MEMBERS_MAX) else {
            return Err(BundleFault::Strange(index));
        };
        if members.iter().any(|(known, _)| *known == name) {
            return Err(BundleFault::Strange(index));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(torn)?;
        members.push((name, bytes));
    }
    ended(unpacker).map_err(torn)?;
    Ok(members)
}

/// Sees that nothing hides behind the archive's end, and that the checksum of the whole is right.
fn ended(mut unpacker: io::Take<GzDecoder<BufReader<File>>>) -> io::Result<()> {
    let mut rest = [0_u8; 8192];
    loop {
        let count = unpacker.read(&mut rest)?;
        if count == 0 {
            break;
        }
        if rest.iter().take(count).any(|byte| *byte != 0) {
            return Err(io::Error::other("something follows its last member"));
        }
    }
    if unpacker.limit() == 0 {
        return Err(io::Error::other("it unpacks to more than a bundle may hold"));
    }
    if unpacker.into_inner().into_inner().read(&mut rest)? > 0 {
        return Err(io::Error::other("something follows the archive"));
    }
    Ok(())
}

/// A name of lower-case letters, digits, dashes and dots, that leads nowhere else.
fn is_plain(name: &str) -> bool {
    let is_sign =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(is_sign) && !name.starts_with('.')
}

impl BundleReport {
    fn judge(&mut self, members: &[(String, Vec<u8>)], detector: &Detector) {
        for (name, bytes) in members {
            if let Some(rule) = scan::found(detector, name, bytes) {
                self.faults.push(BundleFault::Secret { member: name.clone(), rule });
            }
        }
        let Some(((first, bytes), rest)) = members.split_first() else {
            return self.faults.push(BundleFault::Headless);
        };
        if first != MANIFEST {
            return self.faults.push(BundleFault::Headless);
        }
        self.manifest_sha256 = Some(Digest::of(bytes));
        let manifest = match manifest(bytes) {
            Ok(manifest) => manifest,
            Err(fault) => return self.faults.push(fault),
        };
        let there: BTreeMap<&str, &[u8]> =
            rest.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.compare(&manifest, &there);
        self.chain(&there);
        self.manifest = Some(manifest);
    }

    fn compare(&mut self, manifest: &Manifest, there: &BTreeMap<&str, &[u8]>) {
        for listed in &manifest.files {
            match there.get(listed.path.as_str()) {
                None => self.faults.push(BundleFault::Absent(listed.path.clone())),
                Some(bytes) if bytes.len() as u64 != listed.size || Digest::of(bytes) != listed.sha256 => {
                    self.faults.push(BundleFault::Altered(listed.path.clone()));
                }
                Some(_) => {}
            }
        }
        let is_listed = |name: &str| manifest.files.iter().any(|listed| listed.path == name);
        let unlisted = there.keys().filter(|name| !is_listed(name));
        self.faults.extend(unlisted.map(|name| BundleFault::Unlisted((*name).to_owned())));
    }

    fn chain(&mut self, there: &BTreeMap<&str, &[u8]>) {
        match (there.get(proof::ENTRIES), there.get(proof::PROOF)) {
            (Some(lines), Some(hashes)) => match proof::check(lines, hashes) {
                Ok(chained) => self.audit = Some(chained),
                Err(broken) => self.faults.push(BundleFault::Audit(broken.to_string())),
            },
            (None, None) => {}
            _ => self.faults.push(BundleFault::Audit("entries and proof are not both there".to_owned())),
        }
    }
}

/// Reads the manifest. What does not read is told by its place: the words of a stranger's file are
/// not repeated.
fn manifest(bytes: &[u8]) -> Result<Manifest, BundleFault> {
    let fault = |fault: serde_json::Error| {
        BundleFault::Manifest(format!("line {} column {}", fault.line(), fault.column()))
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(fault)?;
    match value.get("schema_version").and_then(serde_json::Value::as_str) {
        Some(SCHEMA_VERSION) => serde_json::from_slice(bytes).map_err(fault),
        Some(other) if is_plain(other) => Err(BundleFault::Newer(other.to_owned())),
        _ => Err(BundleFault::Manifest("it names no schema_version".to_owned())),
    }
}
