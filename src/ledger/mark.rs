//! The mark: the last entry that was known, kept beside the ledger, so that a ledger or an
//! emergency log that was set back is noticed.
//!
//! Owns: the mark's form, and the file `ledger.mark` with its two slots and their room.
//! Never: part of the chain, or needed to read it; a ledger without a mark is a whole ledger.
//! Holds: a write that is cut off leaves the mark before it; what is not whole is not believed, and
//! is told from a mark that was never written.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::files;
use crate::contract::{audit::EmergencyId, digest::Digest};

/// The file's name in the ledger's directory.
pub const FILE: &str = "ledger.mark";
/// One slot: what a disk writes whole or not at all.
const SLOT_BYTES: usize = 512;
const SLOTS: u64 = 2;
/// 128 bits in hex.
const LEDGER_ID_BYTES: usize = 32;

/// What stands where no mark was written yet.
const BLANK: u8 = b'\n';

/// The last entry of a ledger that was known to be durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// The newest entry that was ever on the emergency log: ledger and log together hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencyId>,
    /// The hash of that entry.
    pub hash: Digest,
    /// The ledger's id, 32 hex digits.
    pub ledger_id: String,
    /// The number of that entry.
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
        serde_json::from_slice(bytes).ok().filter(Self::is_sound)
    }

    /// Whether the ledger's id is one: it is written into the ledger that does not know it.
    fn is_sound(&self) -> bool {
        let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        self.ledger_id.len() == LEDGER_ID_BYTES && self.ledger_id.bytes().all(is_hex)
    }
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// No mark was written yet, or there is no file.
    Nothing,
    /// The newest whole mark.
    Mark(Mark),
    /// There is something, and it is no mark of ours.
    Unreadable,
}

/// The file `ledger.mark`.
#[derive(Debug)]
pub struct MarkFile {
    /// Open for writing; none until it can be.
    file: Option<File>,
    path: PathBuf,
    n: u64,
}

impl MarkFile {
    /// Opens the file in a ledger's directory, making it with all its room where there is none;
    /// with what it says. One that cannot be written, or made, now is written when it can be.
    ///
    /// # Errors
    /// What the file system said of a file that is there.
    pub fn open(dir: &Path) -> io::Result<(Self, Said)> {
        let path = dir.join(FILE);
        let file = match files::open_to_read(&path) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                return Ok((Self { file: make(&path).ok(), path, n: 0 }, Said::Nothing));
            }
            opened => opened?,
        };
        let (n, said) = newest(file)?;
        Ok((Self { file: open_to_write(&path).ok(), path, n }, said))
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a mark over the older of the two, and returns when it is on the disk. It asks the
    /// disk for no room.
    ///
    /// # Errors
    /// What the disk said; the mark before this one is there still.
    pub fn write(&mut self, mark: &Mark) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) if has_name(file, &self.path) => file,
            none => {
                none.insert(if self.path.exists() { open_to_write(&self.path)? } else { make(&self.path)? })
            }
        };
        let n = self.n + 1;
        let text = serde_json::to_string(&Slot { mark: mark.clone(), n }).map_err(io::Error::other)?;
        let mut bytes = format!("{} {text}", Digest::of(text.as_bytes())).into_bytes();
        bytes.resize(SLOT_BYTES, BLANK);
        file.write_all_at(&bytes, (n % SLOTS) * SLOT_BYTES as u64)?;
        file.sync_data()?;
        self.n = n;
        Ok(())
    }
}

/// Whether an open file is still the one of that name: what was removed or exchanged is read by
/// nobody.
fn has_name(file: &File, path: &Path) -> bool {
    let id = |metadata: io::Result<std::fs::Metadata>| metadata.ok().map(|found| (found.dev(), found.ino()));
    id(file.metadata()) == id(std::fs::symlink_metadata(path))
}

/// Makes the file with the room of both slots: it has its name when it has that.
fn make(path: &Path) -> io::Result<File> {
    let part = path.with_added_extension("part");
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(true).read(true).write(true).mode(0o600);
    let file = files::open(options, &part)?;
    let made = file
        .write_all_at(&[BLANK; SLOT_BYTES * SLOTS as usize], 0)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&part, path));
    if let Err(fault) = made {
        let _ = std::fs::remove_file(&part);
        return Err(fault);
    }
    Ok(file)
}

/// Opens one that is there, and gives it the room that it may lack.
fn open_to_write(path: &Path) -> io::Result<File> {
    let file = files::open(OpenOptions::new().read(true).write(true), path)?;
    let (has, wants) = (file.metadata()?.len(), SLOTS * SLOT_BYTES as u64);
    if has < wants {
        file.write_all_at(&vec![BLANK; (wants - has) as usize], has)?;
    }
    Ok(file)
}

/// What the mark in a ledger's directory says; nothing is made. One that cannot be opened says
/// nothing.
pub fn kept(dir: &Path) -> Said {
    let said = files::open_to_read(&dir.join(FILE)).and_then(newest);
    said.map_or(Said::Nothing, |(_, said)| said)
}

fn newest(file: File) -> io::Result<(u64, Said)> {
    let mut bytes = Vec::new();
    file.take(SLOTS * SLOT_BYTES as u64).read_to_end(&mut bytes)?;
    // A file of 0 bytes is not blank: ours has its room before it has its name.
    let is_blank = !bytes.is_empty() && bytes.iter().all(|byte| *byte == BLANK);
    let newest = bytes.chunks(SLOT_BYTES).filter_map(read).max_by_key(|slot| slot.n);
    Ok(match newest {
        Some(slot) => (slot.n, Said::Mark(slot.mark)),
        None if is_blank => (0, Said::Nothing),
        None => (0, Said::Unreadable),
    })
}

fn read(slot: &[u8]) -> Option<Slot> {
    let (digest, text) = std::str::from_utf8(slot).ok()?.trim_end().split_once(' ')?;
    let whole = Digest::of(text.as_bytes()).to_string() == digest;
    serde_json::from_str(text).ok().filter(|slot: &Slot| whole && slot.mark.is_sound())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: u64) -> Mark {
        let emergency = seq.is_multiple_of(2).then_some(EmergencyId { epoch: u64::MAX, n: u64::MAX });
        Mark { emergency, hash: Digest([seq as u8; 32]), ledger_id: "0".repeat(32), seq }
    }

    #[test]
    fn the_newest_whole_mark_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, found) = MarkFile::open(dir.path()).unwrap();
        assert_eq!(found, Said::Nothing);
        assert_eq!(std::fs::metadata(file.path()).unwrap().len(), 1024, "it has its room");
        assert_eq!(MarkFile::open(dir.path()).unwrap().1, Said::Nothing, "none was written yet");
        for seq in 1..=5 {
            file.write(&mark(seq)).unwrap();
            assert_eq!(MarkFile::open(dir.path()).unwrap().1, Said::Mark(mark(seq)));
        }
        let whole = std::fs::read(file.path()).unwrap();
        // The fifth stands in the second slot; each cut or flip within it leaves the fourth.
        for at in SLOT_BYTES..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(file.path(), &flipped).unwrap();
            let found = MarkFile::open(dir.path()).unwrap().1;
            assert!(found == Said::Mark(mark(4)) || found == Said::Mark(mark(5)), "{at}: {found:?}");
        }
        std::fs::write(file.path(), &whole[..SLOT_BYTES + 100]).unwrap();
        let (mut file, found) = MarkFile::open(dir.path()).unwrap();
        assert_eq!(found, Said::Mark(mark(4)));
        file.write(&mark(6)).unwrap();
        assert_eq!(MarkFile::open(dir.path()).unwrap().1, Said::Mark(mark(6)));
        for none in [b"no mark at all".as_slice(), b"", &[0; 1024], &[b'x'; 4096]] {
            std::fs::write(file.path(), none).unwrap();
            assert_eq!(kept(dir.path()), Said::Unreadable);
            let (mut file, found) = MarkFile::open(dir.path()).unwrap();
            assert_eq!(found, Said::Unreadable);
            file.write(&mark(u64::MAX)).unwrap();
            assert_eq!(kept(dir.path()), Said::Mark(mark(u64::MAX)));
        }
        // Removed or exchanged while it is open: what is written has its name again.
        let (mut file, _) = MarkFile::open(dir.path()).unwrap();
        for (n, is_exchanged) in [(8, false), (9, true)] {
            std::fs::remove_file(file.path()).unwrap();
            if is_exchanged {
                std::fs::write(file.path(), b"no mark at all").unwrap();
            }
            file.write(&mark(n)).unwrap();
            assert_eq!(kept(dir.path()), Said::Mark(mark(n)));
        }
        assert_eq!(Mark::decode(&mark(7).encode()), Some(mark(7)));
        assert_eq!(Mark::decode(b"{}"), None);
    }
}
