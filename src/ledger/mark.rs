//! The mark: the last entry that was known, kept beside the ledger, so that a ledger that was set back is noticed.
//!
//! Owns: the mark's form, and the file `ledger.mark` with its two slots.
//! Never: part of the chain, or needed to read it; a ledger without a mark is a whole ledger.
//! Holds: a write that is cut off leaves the mark before it; what is not whole is not believed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::contract::digest::Digest;

/// The file's name in the ledger's directory.
pub const FILE: &str = "ledger.mark";
/// One slot: what a disk writes whole or not at all.
const SLOT_BYTES: usize = 512;
const SLOTS: u64 = 2;

/// The last entry of a ledger that was known to be durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Its hash.
    pub hash: Digest,
    /// The ledger.
    pub ledger_id: String,
    /// Its place.
    pub seq: u64,
}

/// A mark with its place among those that were written.
#[derive(Serialize, Deserialize)]
struct Slot {
    mark: Mark,
    n: u64,
}

impl Mark {
    /// The mark as bytes: one line of JSON.
    pub fn encode(&self) -> Vec<u8> {
        // Plain data; it cannot fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what `encode` wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The file `ledger.mark`.
#[derive(Debug)]
pub struct MarkFile {
    file: File,
    path: PathBuf,
    n: u64,
}

impl MarkFile {
    /// Opens the file in a ledger's directory, making it where there is none; with the mark that it holds.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(dir: &Path) -> io::Result<(Self, Option<Mark>)> {
        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&path)?;
        let mut bytes = Vec::new();
        (&mut file).take(SLOTS * SLOT_BYTES as u64).read_to_end(&mut bytes)?;
        let newest = bytes.chunks(SLOT_BYTES).filter_map(read).max_by_key(|slot| slot.n);
        let (n, mark) = newest.map_or((0, None), |slot| (slot.n, Some(slot.mark)));
        Ok((Self { file, path, n }, mark))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a mark over the older of the two, and answers when it is on the disk.
    ///
    /// # Errors
    /// What the disk said; the mark before this one is there still.
    pub fn write(&mut self, mark: &Mark) -> io::Result<()> {
        let n = self.n + 1;
        let text = serde_json::to_string(&Slot { mark: mark.clone(), n }).map_err(io::Error::other)?;
        let mut bytes = format!("{} {text}", Digest::of(text.as_bytes())).into_bytes();
        bytes.resize(SLOT_BYTES, b'\n');
        self.file.write_all_at(&bytes, (n % SLOTS) * SLOT_BYTES as u64)?;
        self.file.sync_data()?;
        self.n = n;
        Ok(())
    }
}

fn read(slot: &[u8]) -> Option<Slot> {
    let (digest, text) = std::str::from_utf8(slot).ok()?.trim_end().split_once(' ')?;
    let whole = Digest::of(text.as_bytes()).to_string() == digest;
    serde_json::from_str(text).ok().filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: u64) -> Mark {
        Mark { hash: Digest([seq as u8; 32]), ledger_id: "0".repeat(32), seq }
    }

    #[test]
    fn the_newest_whole_mark_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, found) = MarkFile::open(dir.path()).unwrap();
        assert_eq!(found, None);
        for seq in 1..=5 {
            file.write(&mark(seq)).unwrap();
            assert_eq!(MarkFile::open(dir.path()).unwrap().1, Some(mark(seq)));
        }
        let whole = std::fs::read(file.path()).unwrap();
        // The fifth stands in the second slot; each cut or flip within it leaves the fourth.
        for at in SLOT_BYTES..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(file.path(), &flipped).unwrap();
            let found = MarkFile::open(dir.path()).unwrap().1;
            assert!(found == Some(mark(4)) || found == Some(mark(5)), "{at}: {found:?}");
        }
        std::fs::write(file.path(), &whole[..SLOT_BYTES + 100]).unwrap();
        let (mut file, found) = MarkFile::open(dir.path()).unwrap();
        assert_eq!(found, Some(mark(4)));
        file.write(&mark(6)).unwrap();
        assert_eq!(MarkFile::open(dir.path()).unwrap().1, Some(mark(6)));
        std::fs::write(file.path(), b"no mark at all").unwrap();
        assert_eq!(MarkFile::open(dir.path()).unwrap().1, None);
        assert_eq!(Mark::decode(&mark(7).encode()), Some(mark(7)));
        assert_eq!(Mark::decode(b"{}"), None);
    }
}
