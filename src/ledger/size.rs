//! How large a ledger is on its disk, its write-ahead log included, and who may look into its
//! files.
//!
//! Owns: measuring the files, finding that one was taken away or cut, the bound on the write-ahead
//! log, and the files' modes.
//! Never: deletes anything; a log that somebody's reading keeps is bounded by writing no more.
//! Holds: files of a ledger that is open for writing can be read by their owner only.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tracing::warn;

use super::files::{self, FILE};

/// What a write-ahead log may take without counting: SQLite keeps it and writes it again from its
/// beginning.
pub const WAL_AT_REST_BYTES: u64 = 8 * 1024 * 1024;

/// The version of the index that SQLite has had since it has one.
const INDEX_VERSION: u32 = 3_007_000;

/// Nobody but the owner.
const MODE: u32 = 0o600;

/// Bounds on a ledger's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Bytes that all of them may take.
    pub size_bytes_max: Option<u64>,
    /// Bytes that the write-ahead log may take.
    pub wal_bytes_max: Option<u64>,
}

/// What the files take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The file of the entries.
    pub file_bytes: u64,
    /// The write-ahead log: what is committed and not yet in the file.
    pub wal_bytes: u64,
}

impl Size {
    /// Measures the ledger in `dir`; what is not there takes nothing.
    pub fn of(dir: &Path) -> Self {
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        Self { file_bytes: bytes(&dir.join(FILE)), wal_bytes: bytes(&beside(dir, "-wal")) }
    }

    /// Whether there is room within the bounds.
    pub fn fits(self, bounds: &Bounds) -> bool {
        let all = self.file_bytes + self.wal_bytes.saturating_sub(WAL_AT_REST_BYTES);
        bounds.wal_bytes_max.is_none_or(|max| self.wal_bytes < max)
            && (self.wal_bytes <= WAL_AT_REST_BYTES || bounds.size_bytes_max.is_none_or(|max| all < max))
    }
}

/// Which files are open, and how large that of the entries was when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opened {
    place: (u64, u64),
    file_bytes: u64,
    /// The write-ahead log, once there is one.
    log_place: Option<(u64, u64)>,
}

impl Opened {
    /// The files in `dir`.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let file = fs::metadata(dir.join(FILE))?;
        let log = fs::metadata(beside(dir, "-wal")).ok();
        let log_place = log.map(|log| (log.dev(), log.ino()));
        Ok(Self { place: (file.dev(), file.ino()), file_bytes: file.len(), log_place })
    }

    /// Whether they are there still and have lost nothing. SQLite never makes the file smaller, as
    /// nothing is deleted but what was carried, whose pages are used again; and its index says how
    /// far the write-ahead log is written.
    pub fn is_there(&mut self, dir: &Path) -> bool {
        let Ok(now) = Self::of(dir) else { return false };
        let is_same_log = self.log_place.is_none() || now.log_place == self.log_place;
        let is_same = now.place == self.place && now.file_bytes >= self.file_bytes;
        let is_whole = is_same && is_same_log && !is_log_cut(dir);
        if is_whole {
            *self = now;
        }
        is_whole
    }
}

/// Whether the write-ahead log is shorter than what its index knows of it and the file has not. The
/// log is measured first: whoever empties it in good order says so in the index before.
fn is_log_cut(dir: &Path) -> bool {
    let log_bytes = fs::metadata(beside(dir, "-wal")).map_or(0, |log| log.len());
    indexed(&beside(dir, "-shm")).is_some_and(|needed| log_bytes < needed)
}

/// How long the write-ahead log has to be by its index, whose form is a part of SQLite's: frames
/// that are in the file too are not counted.
fn indexed(index: &Path) -> Option<u64> {
    const HEAD_BYTES: usize = 100;
    let mut head = [0; HEAD_BYTES];
    files::open_to_read(index).ok()?.read_exact_at(&mut head, 0).ok()?;
    let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let page = u16::from_ne_bytes(head.get(14..16)?.try_into().ok()?);
    // 65,536 has no room in it.
    let page_bytes = if page == 1 { 65_536 } else { u64::from(page) };
    let (frames, in_file) = (word(16)?, word(96)?);
    let is_known = word(0)? == INDEX_VERSION && head.get(12) == Some(&1);
    let needed = 32 + u64::from(frames) * (24 + page_bytes);
    (is_known && frames > in_file).then_some(needed)
}

/// Makes the ledger's file where there is none, and lets nobody but its owner look into any of its
/// files.
pub(super) fn keep_private(dir: &Path) -> io::Result<()> {
    // SQLite gives its other files the mode of this one.
    OpenOptions::new().create(true).append(true).mode(MODE).open(dir.join(FILE))?;
    for path in [dir.join(FILE), beside(dir, "-wal"), beside(dir, "-shm"), dir.join("ledger.lock")] {
        let Ok(found) = fs::metadata(&path) else { continue };
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            fs::set_permissions(&path, Permissions::from_mode(MODE))?;
            let mode = format!("{mode:o}");
            warn!(path = %path.display(), mode, "a file of the ledger could be read by others; now it cannot");
        }
    }
    Ok(())
}

fn beside(dir: &Path, ending: &str) -> PathBuf {
    dir.join(format!("{FILE}{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_write_ahead_log_counts_beyond_what_it_takes_at_rest() {
        const MIB: u64 = 1024 * 1024;
        let bounds = Bounds { size_bytes_max: Some(100 * MIB), wal_bytes_max: Some(64 * MIB) };
        for (file_mib, wal_mib, fits) in
            [(0, 0, true), (50, 8, true), (99, 8, true), (50, 57, true), (50, 58, false), (0, 64, false)]
        {
            let size = Size { file_bytes: file_mib * MIB, wal_bytes: wal_mib * MIB };
            assert_eq!(size.fits(&bounds), fits, "{size:?}");
        }
        assert!(Size { file_bytes: u64::MAX / 2, wal_bytes: u64::MAX / 2 }.fits(&Bounds::default()));
    }
}
