//! How large a ledger is on its disk, its write-ahead log included, and who may look into its files.
//!
//! Owns: measuring the files, the bound on the write-ahead log, and the files' modes.
//! Never: deletes anything; a log that somebody's reading keeps is bounded by writing no more.
//! Holds: files of a ledger that is open for writing can be read by their owner only.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tracing::warn;

use super::sqlite::FILE;

/// What a write-ahead log may take without counting: SQLite keeps it and writes it again from its beginning.
pub const WAL_AT_REST_BYTES: u64 = 8 * 1024 * 1024;

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

/// Which file of entries is open, and how large it was when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opened {
    place: (u64, u64),
    file_bytes: u64,
}

impl Opened {
    /// The file in `dir`.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let file = fs::metadata(dir.join(FILE))?;
        Ok(Self { place: (file.dev(), file.ino()), file_bytes: file.len() })
    }

    /// Whether it is there still and has lost nothing: SQLite never makes it smaller, as nothing is deleted but what was
    /// carried, whose pages are used again.
    pub fn is_there(&mut self, dir: &Path) -> bool {
        let Ok(now) = Self::of(dir) else { return false };
        let is_same = now.place == self.place && now.file_bytes >= self.file_bytes;
        if is_same {
            *self = now;
        }
        is_same
    }
}

/// Makes the ledger's file where there is none, and lets nobody but its owner look into any of its files.
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
