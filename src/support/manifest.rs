//! `manifest.json`: what is in a bundle.
//!
//! Owns: the manifest's form, which schemas/support-bundle-manifest.schema.json describes.
//! Never: lists itself.
//! Holds: its bytes are canonical, so the same members give the same manifest but for id and time.

use serde::{Deserialize, Serialize};

use super::{BundleStamp, Member};
use crate::contract::{canonical, digest::Digest, timestamp::Timestamp};

/// The manifest's name, and the first member of every bundle.
pub const MANIFEST: &str = "manifest.json";
/// The form that this release writes and reads.
pub const SCHEMA_VERSION: &str = "1";

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// A UUID.
    pub bundle_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Every member but the manifest, in the order of the archive.
    pub files: Vec<Listed>,
    /// The form of the bundle.
    pub schema_version: String,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub path: String,
    /// Places in it that were masked.
    pub redacted: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// How many bytes.
    pub size: u64,
}

impl Manifest {
    pub(super) fn of(stamp: &BundleStamp, members: &[Member]) -> Self {
        let listed = |member: &Member| Listed {
            path: member.path.to_owned(),
            redacted: member.redacted,
            sha256: Digest::of(&member.bytes),
            size: member.bytes.len() as u64,
        };
        Self {
            bundle_id: stamp.bundle_id.clone(),
            created_at: stamp.created_at,
            files: members.iter().map(listed).collect(),
            schema_version: SCHEMA_VERSION.to_owned(),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        canonical::of(self)
    }
}
