//! The support bundle: one file that tells how a router stands, and no secret.
//!
//! Owns: what goes into it, its limits, and the way from sources to a finished file: mask, pack,
//! read back, scan, place.
//! Never: reads a source by itself (`gather` does), changes the router, or overwrites a file.
//! Holds: a file that stands under its own name was read back from its packed bytes and holds no
//! secret that the scan knows; whatever fails before leaves nothing behind.

pub mod gather;
mod manifest;
mod pack;
mod proof;
mod redact;
mod scan;
mod shapes;
pub mod verify;

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

pub use manifest::{Listed, MANIFEST, Manifest, SCHEMA_VERSION};
pub use proof::Excerpt;
pub use shapes::Detector;

use crate::{
    clock,
    contract::{canonical, digest::Digest, timestamp::Timestamp},
};

/// How large a bundle may be, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleLimits {
    /// Bytes of all members before they are packed; what does not fit is left out and said to be
    /// missing.
    pub bundle_bytes_max: u64,
    /// Entries of the audit excerpt, the latest.
    pub audit_entries_max: u64,
    /// Bytes of these entries.
    pub audit_bytes_max: u64,
    /// Instances of the inventory.
    pub instances_max: usize,
    /// Bundles that are kept in a directory; the oldest go.
    pub bundles_max: usize,
}

impl Default for BundleLimits {
    fn default() -> Self {
        Self {
            bundle_bytes_max: 64 * 1024 * 1024,
            audit_entries_max: 10_000,
            audit_bytes_max: 16 * 1024 * 1024,
            instances_max: 20_000,
            bundles_max: 10,
        }
    }
}

/// What tells one bundle from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleStamp {
    /// A UUID.
    pub bundle_id: String,
    /// When.
    pub created_at: Timestamp,
}

impl BundleStamp {
    /// A new one, of this moment.
    pub fn new() -> Self {
        Self { bundle_id: uuid::Uuid::now_v7().to_string(), created_at: clock::wall() }
    }
}

impl Default for BundleStamp {
    fn default() -> Self {
        Self::new()
    }
}

/// Something to be packed, or why it is not there.
pub type Source<T> = Result<T, String>;

/// What is told of a router. Everything is masked before it is packed, the reasons for what is
/// absent too.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The config in force.
    pub config: Source<Value>,
    /// Whether it is ready, what it lacks, and its totals.
    pub health: Source<Value>,
    /// Safety modes and kill switches.
    pub safety: Source<Value>,
    /// Results of the readiness gates.
    pub gates: Source<Value>,
    /// Dangerous operations that wait for their confirmation.
    pub challenges: Source<Value>,
    /// Swarms with their instances.
    pub inventory: Source<Value>,
    /// Commands in flight and parked.
    pub commands: Source<Value>,
    /// The latest entries of the ledger.
    pub audit: Source<Excerpt>,
    /// The metrics as a scraper reads them.
    pub metrics: Source<String>,
    /// Releases of what made this.
    pub versions: Value,
    /// What of a member is left out, as (member, why).
    pub cut: Vec<(String, String)>,
    /// What looks for secrets; it knows those of this process.
    pub detector: Detector,
}

impl Sources {
    /// Nothing but the versions, all else absent for that reason.
    pub fn absent(why: &str) -> Self {
        let none = || Err(why.to_owned());
        Self {
            config: none(),
            health: none(),
            safety: none(),
            gates: none(),
            challenges: none(),
            inventory: none(),
            commands: none(),
            audit: Err(why.to_owned()),
            metrics: Err(why.to_owned()),
            versions: gather::versions(),
            cut: Vec::new(),
            detector: Detector::default(),
        }
    }
}

/// Where a bundle is to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundlePlace {
    /// A directory of bundles, made where there is none: the bundle gets a name by time and id, the
    /// oldest beyond `BundleLimits::bundles_max` go.
    Directory(PathBuf),
    /// This file, which must not be there yet.
    File(PathBuf),
}

/// A bundle that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Created {
    /// Where.
    pub path: PathBuf,
    /// Its id.
    pub bundle_id: String,
    /// SHA-256 of its `manifest.json`: what an audit entry names it by.
    pub manifest_sha256: Digest,
    /// Bytes of the file.
    pub bytes: u64,
    /// Places that were masked.
    pub redacted: u64,
    /// What is missing, as (member, why).
    pub missing: Vec<(String, String)>,
}

/// Why there is no bundle.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The scan found a secret in what was packed.
    #[error(
        "the scan found a secret in `{member}` (rule `{rule}`), so no bundle was kept; report the member and the rule"
    )]
    Secret {
        /// The member.
        member: String,
        /// The rule.
        rule: &'static str,
    },
    /// The archive does not read back.
    #[error("the packed bundle does not read back ({0}), so it was not kept; look at the disk and try again")]
    Torn(String),
    /// There is a file already.
    #[error("`{0}` is there already; name another file")]
    Exists(PathBuf),
    /// A file or directory cannot be used.
    #[error("`{path}` cannot be used: {source}; name a place that can be written")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The task that packs was ended.
    #[error("the packing was ended: {0}; try again")]
    Ended(String),
}

impl BundleError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}

/// A file of the bundle, masked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    path: &'static str,
    bytes: Vec<u8>,
    redacted: u64,
}

/// Makes a bundle. It reads and writes files and takes seconds for a large fleet: call it off the
/// hot path, or call [`create_aside`].
///
/// # Errors
/// When a secret is found in what was packed, or the file cannot be written. Nothing is left behind
/// then.
pub fn create(
    place: &BundlePlace,
    sources: Sources,
    limits: &BundleLimits,
    stamp: &BundleStamp,
) -> Result<Created, BundleError> {
    let detector = sources.detector.clone();
    let (members, missing) = members(sources, limits);
    let redacted = members.iter().map(|member| member.redacted).sum();
    let manifest = Manifest::of(stamp, &members);
    let placed = pack::place(place, &pack::name(stamp), &manifest, &members, limits, &detector)?;
    Ok(Created {
        path: placed.path,
        bundle_id: stamp.bundle_id.clone(),
        manifest_sha256: Digest::of(&manifest.bytes()),
        bytes: placed.bytes,
        redacted,
        missing,
    })
}

/// How a bundle is called where nobody names it: a name that sorts by time.
pub fn file_name(stamp: &BundleStamp) -> String {
    pack::name(stamp)
}

/// Makes a bundle on a thread where waiting holds up nobody.
///
/// # Errors
/// As [`create`].
pub async fn create_aside(
    place: BundlePlace,
    sources: Sources,
    limits: BundleLimits,
    stamp: BundleStamp,
) -> Result<Created, BundleError> {
    let made = tokio::task::spawn_blocking(move || create(&place, sources, &limits, &stamp)).await;
    made.map_err(|fault| BundleError::Ended(fault.to_string()))?
}

/// Masks every source, and leaves out what is absent or does not fit: the members in the order of
/// the archive, and what is missing.
fn members(sources: Sources, limits: &BundleLimits) -> (Vec<Member>, Vec<(String, String)>) {
    let Sources { audit, metrics, detector, .. } = sources;
    let mut bag = Bag { left: limits.bundle_bytes_max, members: Vec::new(), missing: sources.cut };
    // What is small and tells most takes its room first; the archive has the order of `ORDER`.
    bag.tree(VERSIONS, Ok(sources.versions), &detector);
    bag.tree("config.json", sources.config, &detector);
    bag.tree("health.json", sources.health, &detector);
    bag.tree("safety.json", sources.safety, &detector);
    bag.tree("gates.json", sources.gates, &detector);
    bag.tree("challenges.json", sources.challenges, &detector);
    match audit {
        Ok(excerpt) => {
            let (entries, hashes) = excerpt.members(&detector);
            if let Err(broken) = proof::check(&entries.bytes, &hashes.bytes) {
                let why = format!("it is there, and its chain is broken: {broken}");
                bag.missing.push((proof::ENTRIES.to_owned(), why));
            }
            bag.take(vec![entries, hashes]);
        }
        Err(why) => bag.missing.push((proof::ENTRIES.to_owned(), why)),
    }
    bag.tree("commands.json", sources.commands, &detector);
    match metrics {
        Ok(mut text) => {
            let redacted = redact::text(&detector, &mut text);
            bag.take(vec![Member { path: "metrics.txt", bytes: text.into_bytes(), redacted }]);
        }
        Err(why) => bag.missing.push(("metrics.txt".to_owned(), why)),
    }
    bag.tree("inventory.json", sources.inventory, &detector);
    let Bag { mut members, mut missing, .. } = bag;
    // It is told beside the bundle too, and the words of a fault may hold a secret.
    for (_, why) in &mut missing {
        redact::text(&detector, why);
    }
    let told: Vec<Value> = missing.iter().map(|(what, why)| json!({ "what": what, "why": why })).collect();
    members.push(tree(MISSING, json!({ "missing": told }), &detector));
    members.sort_by_key(|member| ORDER.iter().position(|path| *path == member.path));
    (members, missing)
}

const VERSIONS: &str = "versions.json";
const MISSING: &str = "missing.json";
/// The members in the order of the archive, behind the manifest.
const ORDER: [&str; 12] = [
    "config.json",
    "health.json",
    "safety.json",
    "gates.json",
    "challenges.json",
    "inventory.json",
    "commands.json",
    proof::ENTRIES,
    proof::PROOF,
    "metrics.txt",
    VERSIONS,
    MISSING,
];

/// Members with the room that is left for more.
struct Bag {
    left: u64,
    members: Vec<Member>,
    missing: Vec<(String, String)>,
}

impl Bag {
    fn tree(&mut self, path: &'static str, source: Source<Value>, detector: &Detector) {
        match source {
            Ok(value) => self.take(vec![tree(path, value, detector)]),
            Err(why) => self.missing.push((path.to_owned(), why)),
        }
    }

    /// Takes members that are of use only together, or none of them.
    fn take(&mut self, together: Vec<Member>) {
        let bytes: u64 = together.iter().map(|member| member.bytes.len() as u64).sum();
        if bytes <= self.left {
            self.left -= bytes;
            self.members.extend(together);
            return;
        }
        let why = format!("it has {bytes} bytes, and {} are left of `bundle_bytes_max`", self.left);
        self.missing.extend(together.into_iter().map(|member| (member.path.to_owned(), why.clone())));
    }
}

fn tree(path: &'static str, mut value: Value, detector: &Detector) -> Member {
    let redacted = redact::value(detector, &mut value);
    Member { path, bytes: canonical::of(&value), redacted }
}

#[cfg(test)]
mod tests;
