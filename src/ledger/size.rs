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
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};
use tracing::warn;

use super::files::FILE;

/// What a write-ahead log may take without counting: SQLite keeps it and writes it again from its
/// beginning.
pub const WAL_AT_REST_BYTES: u64 = 8 * 1024 * 1024;

/// Nobody but the owner.
const MODE: u32 = 0o600;

/// Bounds on a ledger's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SizeBounds {
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
    pub fn fits(self, bounds: &SizeBounds) -> bool {
        // SQLite itself bounds the file (`max_page_count`). What is weighed here is a log that has
        // grown beyond its size at rest: it is to fit beside the file.
        let all = self.file_bytes + self.wal_bytes.saturating_sub(WAL_AT_REST_BYTES);
        bounds.wal_bytes_max.is_none_or(|max| self.wal_bytes < max)
            && (self.wal_bytes <= WAL_AT_REST_BYTES || bounds.size_bytes_max.is_none_or(|max| all < max))
    }
}

/// Which files are open, and how large they were when they were last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenFiles {
    place: (u64, u64),
    /// The write-ahead log and its index, once they are there.
    places_beside: [Option<(u64, u64)>; 2],
    size: Size,
}

impl OpenFiles {
    /// The files in `dir`.
    ///
    /// None of them may be opened here: the system's locks of a file are the whole process's, and
    /// whoever closes the file lets go of those that SQLite holds for us.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let file = fs::metadata(dir.join(FILE))?;
        let [log, index] = ["-wal", "-shm"].map(|ending| fs::metadata(beside(dir, ending)).ok());
        let wal_bytes = log.as_ref().map_or(0, fs::Metadata::len);
        let places_beside = [log, index].map(|beside| beside.map(|beside| place(&beside)));
        Ok(Self { place: place(&file), places_beside, size: Size { file_bytes: file.len(), wal_bytes } })
    }

    /// The same files, as they are now; None where one is not there or has become shorter. SQLite
    /// never makes the file smaller, as nothing is deleted but what was carried, whose pages are
    /// used again.
    pub fn again(&self, dir: &Path) -> Option<Self> {
        let now = Self::of(dir).ok()?;
        let mut beside = self.places_beside.iter().zip(&now.places_beside);
        let are_beside = beside.all(|(then, now)| then.is_none() || now == then);
        let is_same = now.place == self.place && are_beside;
        (is_same && now.size.file_bytes >= self.size.file_bytes).then_some(now)
    }

    /// How large they are.
    pub const fn size(&self) -> Size {
        self.size
    }
}

fn place(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Makes the ledger's file where there is none, and lets nobody but its owner look into any of its
/// files.
pub(super) fn keep_private(dir: &Path) -> io::Result<()> {
    // SQLite gives its other files the mode of this one. One that is there is not opened: see
    // `OpenFiles::of`.
    let path = dir.join(FILE);
    match OpenOptions::new().create_new(true).append(true).mode(MODE).open(&path) {
        // SQLite would open one that can only be read, and never ask again.
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => access(&path, Access::WRITE_OK)?,
        made => drop(made?),
    }
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
        let bounds = SizeBounds { size_bytes_max: Some(100 * MIB), wal_bytes_max: Some(64 * MIB) };
        for (file_mib, wal_mib, fits) in
            [(0, 0, true), (50, 8, true), (99, 8, true), (50, 57, true), (50, 58, false), (0, 64, false)]
        {
            let size = Size { file_bytes: file_mib * MIB, wal_bytes: wal_mib * MIB };
            assert_eq!(size.fits(&bounds), fits, "{size:?}");
        }
        assert!(Size { file_bytes: u64::MAX / 2, wal_bytes: u64::MAX / 2 }.fits(&SizeBounds::default()));
    }

    /// The files of a ledger on which this process holds a lock, by the system's list.
    #[cfg(target_os = "linux")]
    fn locked(dir: &Path) -> Vec<&'static str> {
        let list = fs::read_to_string("/proc/locks").unwrap();
        let pid = std::process::id().to_string();
        let is_locked = |ending: &&str| {
            let inode = fs::metadata(beside(dir, ending)).unwrap().ino().to_string();
            list.lines().any(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                words[1] == "POSIX" && words[4] == pid && words[5].rsplit(':').next() == Some(&inode)
            })
        };
        ["", "-shm"].into_iter().filter(is_locked).collect()
    }

    /// Another process would otherwise believe itself alone, and empty what this one has mapped.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn looking_at_the_files_lets_go_of_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = super::super::Ledger::open(dir.path(), None).await.unwrap();
        for _ in 0..3 {
            ledger.probe().await.unwrap();
            assert_eq!(locked(dir.path()), ["", "-shm"]);
        }
        keep_private(dir.path()).unwrap();
        assert_eq!(locked(dir.path()), ["", "-shm"]);
        fs::File::open(beside(dir.path(), "-shm")).unwrap();
        assert_eq!(locked(dir.path()), [""], "this test would see it");
        ledger.close().await;
    }
}
