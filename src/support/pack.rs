//! Packing and placing: from members to a file that stands whole or not at all.
//!
//! Owns: the archive's form, the temporary file, its reading back, the rename, and how many bundles
//! a directory keeps.
//! Never: overwrites, or leaves a temporary file behind; only a process that was killed can, and
//! the next sweeps up.
//! Holds: the same members give the same bytes; what is renamed was read back from the disk and
//! scanned.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufWriter, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use flate2::{Compression, GzBuilder};
use tempfile::NamedTempFile;

use super::{
    BundleError, BundleLimits, BundlePlace, BundleStamp, Detector, MANIFEST, Manifest, Member, verify,
};

/// How bundles are called in a directory of them.
const PREFIX: &str = "swarmgate-bundle-";
const SUFFIX: &str = ".tar.gz";
/// How temporary files are called.
const TEMPORARY: &str = ".swarmgate-bundle-";
/// After how long a temporary file belongs to nobody any more.
const LEFT_AFTER: Duration = Duration::from_secs(3600);

/// Where it stands, and how large it is.
#[derive(Debug)]
pub(super) struct Placed {
    pub path: PathBuf,
    pub bytes: u64,
}

/// Packs, reads back, scans and places.
pub(super) fn place(
    place: &BundlePlace,
    name: &str,
    manifest: &Manifest,
    members: &[Member],
    limits: &BundleLimits,
    detector: &Detector,
) -> Result<Placed, BundleError> {
    let (dir, path) = match place {
        BundlePlace::Directory(dir) => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(BundleError::file(dir))?;
            sweep(dir);
            (dir.clone(), dir.join(name))
        }
        BundlePlace::File(path) => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (dir.to_owned(), path.clone())
        }
    };
    if fs::symlink_metadata(&path).is_ok() {
        return Err(BundleError::Exists(path));
    }
    // Made with 0600, and gone with the value whatever happens next.
    let temporary = tempfile::Builder::new().prefix(TEMPORARY).suffix(".tmp").tempfile_in(&dir);
    let temporary = temporary.map_err(BundleError::file(&dir))?;
    write(temporary.as_file(), manifest, members).map_err(BundleError::file(&path))?;
    let bytes = read_back(&temporary, &path, limits, detector)?;
    temporary.persist_noclobber(&path).map_err(|fault| match fault.error.kind() {
        io::ErrorKind::AlreadyExists => BundleError::Exists(path.clone()),
        _ => BundleError::File { path: path.clone(), source: fault.error },
    })?;
    // The bundle stands; that its name survives a power cut too is worth a try and no error.
    let _ = File::open(&dir).and_then(|dir| dir.sync_all());
    if matches!(place, BundlePlace::Directory(_)) {
        retain(&dir, &path, limits.bundles_max);
    }
    Ok(Placed { path, bytes })
}

/// A name that sorts by time.
pub(super) fn name(stamp: &BundleStamp) -> String {
    let at = stamp.created_at.to_string();
    let seconds: String = at.chars().take(19).filter(|sign| !matches!(sign, '-' | ':')).collect();
    // The last digits of a UUID are its random ones.
    let id: String = stamp.bundle_id.chars().filter(char::is_ascii_alphanumeric).collect();
    let id = id.get(id.len().saturating_sub(12)..).unwrap_or_default();
    format!("{PREFIX}{seconds}Z-{id}{SUFFIX}")
}

/// Writes the archive: the manifest, then its members in order.
fn write(file: &File, manifest: &Manifest, members: &[Member]) -> io::Result<()> {
    let packer = GzBuilder::new().write(BufWriter::new(file), Compression::default());
    let mut archive = tar::Builder::new(packer);
    let seconds = u64::try_from(manifest.created_at.second()).unwrap_or_default();
    let manifest = manifest.bytes();
    let listed = members.iter().map(|member| (member.path, member.bytes.as_slice()));
    for (path, bytes) in std::iter::once((MANIFEST, manifest.as_slice())).chain(listed) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, path, bytes)?;
    }
    archive.into_inner()?.finish()?.flush()?;
    file.sync_all()
}

/// Reads what was written as its receiver will: every hash, the chain, and the scan. Answers how
/// many bytes it has.
fn read_back(
    temporary: &NamedTempFile,
    path: &Path,
    limits: &BundleLimits,
    detector: &Detector,
) -> Result<u64, BundleError> {
    let file = temporary.reopen().map_err(BundleError::file(path))?;
    let bytes = file.metadata().map_err(BundleError::file(path))?.len();
    let report = verify::read(file, limits, detector);
    for fault in report.faults {
        match fault {
            verify::BundleFault::Secret { member, rule } => return Err(BundleError::Secret { member, rule }),
            // A ledger that is damaged is told as it is: its bundle is wanted most of all.
            verify::BundleFault::Audit(_) => {}
            fault => return Err(BundleError::Torn(fault.to_string())),
        }
    }
    Ok(bytes)
}

/// Removes what a process that was killed has left.
fn sweep(dir: &Path) {
    let old = SystemTime::now().checked_sub(LEFT_AFTER);
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_ours = file.file_name().to_string_lossy().starts_with(TEMPORARY);
        let modified = file.metadata().and_then(|file| file.modified()).ok();
        if is_ours && modified.is_some_and(|modified| Some(modified) < old) {
            // One that cannot be removed is tried again with the next bundle.
            let _ = fs::remove_file(file.path());
        }
    }
}

/// Keeps the latest `bundles_max` by name, the one just made among them.
fn retain(dir: &Path, made: &Path, bundles_max: usize) {
    let is_bundle = |name: &str| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
    let mut bundles: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|file| file.file_type().is_ok_and(|kind| kind.is_file()))
        .filter(|file| file.file_name().to_str().is_some_and(is_bundle))
        .map(|file| file.path())
        .filter(|path| path != made)
        .collect();
    bundles.sort();
    let excess = (bundles.len() + 1).saturating_sub(bundles_max.max(1));
    for bundle in bundles.into_iter().take(excess) {
        // One that cannot be removed is tried again with the next bundle.
        let _ = fs::remove_file(bundle);
    }
}
