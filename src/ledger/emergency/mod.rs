//! The emergency log: what is sealed while the ledger cannot be written, on a file that has its
//! room already.
//!
//! Owns: the file (below it its form), writing behind what it holds, clearing it, and finding what
//! is wrong with it.
//! Never: grows, asks for room once it is made, or decides what is written; never says that a
//! record is there before it is on the disk.
//! Holds: what was appended since the last clearing is read back, whole and in order, or the fault
//! is named. Only a write that was never answered may be missing.

mod form;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt as _, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use fs4::fs_std::FileExt as _;
use thiserror::Error;
use tracing::warn;

use super::{Parcel, chain::Sealed, files};
use crate::contract::{audit::EmergencyId, digest::Digest};
use form::{CLEARING, MAGIC, READY, SLOT_BYTES, encode, frame_bytes, framed, header, parse};

/// The file's name in the ledger's directory, where no other place is set.
pub const FILE: &str = "emergency.log";
/// The largest file that is read.
pub const SIZE_BYTES_MAX: u64 = 256 * 1024 * 1024;

const ZEROS: &[u8; 64 * 1024] = &[0; 64 * 1024];

/// An entry that the ledger could not take, and what leaves because of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The entry, sealed on the ledger's chain.
    pub sealed: Sealed,
    /// Its messages, with those of entries after it: what would be in the outbox.
    pub parcel: Option<Parcel>,
}

impl Record {
    /// The id of its entry.
    pub fn id(&self) -> Option<EmergencyId> {
        self.sealed.entry.fact.emergency_id
    }
}

/// What goes wrong with an emergency log.
#[derive(Debug, Error)]
pub enum EmergencyError {
    /// Another router has it.
    #[error(
        "the emergency log `{0}` is in use by another router; stop that one, or give this one a place of its own in `ledger.emergency_path`"
    )]
    Locked(PathBuf),
    /// The file is no emergency log, or of a form that this release does not read.
    #[error(
        "`{0}` is no emergency log that this release reads; name another file in `ledger.emergency_path`"
    )]
    Strange(PathBuf),
    /// It has no header, and nothing else.
    #[error(
        "the emergency log `{0}` was emptied: what it held is gone, and may have been stops and a kill switch; put it back as it was, or move it aside, keep it for the auditors, and start again"
    )]
    Emptied(PathBuf),
    /// It is not what was written.
    #[error(
        "the emergency log `{path}` is damaged {place}: {what}; move it aside, keep it for the auditors, and start again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Behind which record.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// It was written beside another ledger, or beside this one before it was set back.
    #[error(
        "the emergency log `{path}` does not follow on this ledger: `{id}` stands on an entry that is not in it; give the ledger that it belongs to, or move the file aside and keep it for the auditors"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The first record that follows on nothing.
        id: EmergencyId,
    },
    /// There is no room.
    #[error(
        "the emergency log is full at `{id}`; it has room again once the ledger can be written, raise `ledger.emergency_size_bytes` then"
    )]
    Full {
        /// The first record that had none.
        id: String,
    },
    /// The file that is open is not the one that is there.
    #[error(
        "the emergency log `{0}` was removed, replaced or cut while it was open; what it held is written anew to what stands there, or to a new one"
    )]
    Gone(PathBuf),
    /// There is none to read.
    #[error("there is no emergency log at `{0}`; name its file, or the ledger's directory that it lies in")]
    Missing(PathBuf),
    /// The file cannot be used.
    #[error(
        "the emergency log `{path}` cannot be used: {source}; make its directory writable, or name another file in `ledger.emergency_path`"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An emergency log open for writing.
#[derive(Debug)]
pub struct EmergencyLog {
    file: File,
    path: PathBuf,
    size: u64,
    /// Where the next frame goes.
    end: u64,
    /// Behind this there are zeros. Beyond `end` where a write failed half-way.
    touched: u64,
    /// It was cleared, and that is not known to be on the disk.
    clearing: bool,
    count: usize,
    last: Option<Digest>,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Found {
    /// The records, in order. After a failed recovery one may stand there twice, under the same id.
    pub records: Vec<Record>,
    /// A last write was cut off: `append` had not returned.
    pub torn: bool,
    /// There was no file.
    pub is_missing: bool,
    /// The entries of the ledger that records follow on.
    bases: Vec<Base>,
    end: usize,
    touched: usize,
    clearing: bool,
}

impl Found {
    /// There is no file.
    pub fn missing() -> Self {
        Self { is_missing: true, ..Self::default() }
    }
}

#[derive(Debug)]
struct Base {
    seq: u64,
    hash: Digest,
    id: EmergencyId,
    met: bool,
}

impl EmergencyLog {
    /// Opens the file, making it where there is none, locks it against a second router and reads
    /// what it holds. One of another size stays as it is while it holds something. `is_first` says
    /// that no ledger was begun yet: an empty file is one that somebody put there for it then.
    ///
    /// # Errors
    /// When it is locked, emptied, damaged, something else, or cannot be made or written.
    pub fn open(path: &Path, size_bytes: u64, is_first: bool) -> Result<(Self, Found), EmergencyError> {
        let fault = |source| EmergencyError::File { path: path.to_owned(), source };
        let opened = files::open(OpenOptions::new().read(true).write(true), path);
        let mut file = match opened {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Self::begin(path, size_bytes),
            opened => opened.map_err(fault)?,
        };
        lock(&file, path)?;
        let bytes = read_whole(&mut file, path)?;
        let found = match parse(&bytes, path) {
            (found, Some(EmergencyError::Emptied(_))) if is_first => found,
            parsed => sound(parsed)?,
        };
        let mut log = Self {
            file,
            path: path.to_owned(),
            size: bytes.len() as u64,
            end: found.end as u64,
            touched: found.touched as u64,
            clearing: found.clearing,
            count: found.records.len(),
            last: found.records.last().map(|record| record.sealed.hash),
        };
        // Only an empty file at a first start gets here without a header: others are refused above.
        if !bytes.starts_with(MAGIC) {
            log.make(size_bytes).map_err(fault)?;
            log.sync_dir().map_err(fault)?;
        } else if found.records.is_empty() && log.size != size_bytes {
            log.resize(size_bytes.max(SLOT_BYTES as u64));
        }
        log.mend().map_err(fault)?;
        Ok((log, found))
    }

    /// Makes the file where there is none. It has its name when it has its room and its header: one
    /// without them is damage.
    fn begin(path: &Path, size_bytes: u64) -> Result<(Self, Found), EmergencyError> {
        let fault = |source| EmergencyError::File { path: path.to_owned(), source };
        let part = path.with_added_extension("part");
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let file = files::open(options, &part).map_err(fault)?;
        // Whoever made it meanwhile has the lock of the same file.
        lock(&file, path)?;
        let (size, end, touched) = Default::default();
        let mut log =
            Self { file, path: path.to_owned(), size, end, touched, clearing: false, count: 0, last: None };
        let made = log.make(size_bytes).and_then(|()| std::fs::rename(&part, path));
        if made.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        made.and_then(|()| log.sync_dir()).map_err(fault)?;
        Ok((log, Found { is_missing: true, ..Found::default() }))
    }

    /// The log's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size in bytes: the room that was taken when it was made.
    pub fn size_bytes(&self) -> u64 {
        self.size
    }

    /// How many records it holds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The hash of the last entry that it holds. By the chain it holds what that one follows on,
    /// too.
    pub fn last(&self) -> Option<Digest> {
        self.last
    }

    /// Whether the file that is open is the one that is there, and whole.
    ///
    /// # Errors
    /// `Gone` where it is not: what is written to it is found by nobody.
    pub fn look(&self) -> Result<(), EmergencyError> {
        let place = |file: &std::fs::Metadata| (file.dev(), file.ino());
        let (open, found) = (self.file.metadata(), std::fs::metadata(&self.path));
        match (open, found) {
            (Ok(open), Ok(found)) if place(&open) == place(&found) && found.len() >= self.size => Ok(()),
            (Err(source), _) => Err(self.fault(source)),
            _ => Err(EmergencyError::Gone(self.path.clone())),
        }
    }

    /// Writes records behind what there is, in one frame, and returns when they are on the disk.
    ///
    /// # Errors
    /// `Full` names the first record that had no room; those before it are written. With any other
    /// error none is.
    pub fn append(&mut self, records: &[Record]) -> Result<(), EmergencyError> {
        self.mend().map_err(|source| self.fault(source))?;
        let mut payload = Vec::with_capacity(4096);
        let mut taken = 0;
        for record in records {
            let before = payload.len();
            encode(record, &mut payload);
            if self.end + frame_bytes(payload.len()) as u64 > self.size {
                payload.truncate(before);
                break;
            }
            taken += 1;
        }
        if let Some(last) = records.iter().take(taken).next_back() {
            self.write(&payload).map_err(|source| self.fault(source))?;
            self.count += taken;
            self.last = Some(last.sealed.hash);
        }
        match records.get(taken) {
            None => Ok(()),
            Some(record) => {
                let id = record.id().map_or_else(|| "?".to_owned(), |id| id.to_string());
                Err(EmergencyError::Full { id })
            }
        }
    }

    /// Forgets what it holds: the ledger holds it now. Where that fails half-way the next append,
    /// or the next opening, sees to it first.
    ///
    /// # Errors
    /// What the disk said.
    pub fn clear(&mut self) -> Result<(), EmergencyError> {
        self.last = None;
        self.count = 0;
        self.clearing = self.touched > SLOT_BYTES as u64;
        self.mend().map_err(|source| self.fault(source))
    }

    fn fault(&self, source: std::io::Error) -> EmergencyError {
        EmergencyError::File { path: self.path.clone(), source }
    }

    fn write(&mut self, payload: &[u8]) -> std::io::Result<()> {
        let frame = framed(payload);
        let end = self.end + frame.len() as u64;
        // Before the write: what a failed one leaves up to there is cleared by the next `mend`.
        self.touched = self.touched.max(end);
        self.file.write_all_at(&frame, self.end)?;
        self.file.sync_data()?;
        self.end = end;
        Ok(())
    }

    /// Makes an empty file with all its room: zeros first, and the header when they are there.
    fn make(&mut self, size_bytes: u64) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.zero(0, size_bytes.max(SLOT_BYTES as u64))?;
        self.file.sync_all()?;
        self.file.write_all_at(&header(READY), 0)?;
        self.file.sync_all()?;
        self.size = size_bytes.max(SLOT_BYTES as u64);
        (self.end, self.touched, self.clearing) = (SLOT_BYTES as u64, SLOT_BYTES as u64, false);
        Ok(())
    }

    /// Makes the file's name durable.
    fn sync_dir(&self) -> std::io::Result<()> {
        match self.path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Takes another size, where the disk has room for it: what it has it never gives up for that.
    fn resize(&mut self, size_bytes: u64) {
        let resized = if size_bytes > self.size {
            self.zero(self.size, size_bytes).and_then(|()| self.file.sync_all())
        } else {
            self.touched = self.touched.min(size_bytes);
            self.file.set_len(size_bytes)
        };
        match resized {
            Ok(()) => self.size = size_bytes,
            Err(fault) => {
                warn!(path = %self.path.display(), error = %fault, "the emergency log keeps the size that it has");
                // Behind its size there may be zeros now; the next start finds another size and
                // tries again.
                let _ = self.file.set_len(self.size);
            }
        }
    }

    /// Finishes a clearing, or takes away what a write left that was cut off or failed.
    fn mend(&mut self) -> std::io::Result<()> {
        if self.clearing {
            // The mark first: zeros do not come in order, and what is half zeros would look damaged
            // without it.
            self.file.write_all_at(&header(CLEARING), 0)?;
            self.file.sync_data()?;
            self.zero(SLOT_BYTES as u64, self.touched)?;
            self.file.sync_data()?;
            self.file.write_all_at(&header(READY), 0)?;
            self.file.sync_data()?;
            (self.end, self.touched, self.clearing) = (SLOT_BYTES as u64, SLOT_BYTES as u64, false);
        } else if self.touched > self.end {
            self.zero(self.end, self.touched)?;
            self.file.sync_data()?;
            self.touched = self.end;
        }
        Ok(())
    }

    fn zero(&self, from: u64, to: u64) -> std::io::Result<()> {
        let mut at = from;
        while at < to {
            let count = (to - at).min(ZEROS.len() as u64);
            self.file.write_all_at(ZEROS.get(..count as usize).unwrap_or(ZEROS), at)?;
            at += count;
        }
        Ok(())
    }
}

impl Found {
    /// Takes note of an entry of the ledger.
    pub fn meet(&mut self, sealed: &Sealed) {
        for base in self.bases.iter_mut().filter(|base| base.seq == sealed.entry.seq) {
            base.met |= base.hash == sealed.hash;
        }
    }

    /// Whether the records follow on the ledger that was met.
    ///
    /// # Errors
    /// `Foreign` names the first that does not.
    pub fn check(&self, path: &Path) -> Result<(), EmergencyError> {
        match self.bases.iter().find(|base| !base.met) {
            None => Ok(()),
            Some(base) => Err(EmergencyError::Foreign { path: path.to_owned(), id: base.id }),
        }
    }

    /// The newest record's id.
    pub fn newest(&self) -> Option<EmergencyId> {
        self.records.iter().filter_map(Record::id).max()
    }

    /// The records that the ledger does not hold yet; `newest` is the newest emergency id that it
    /// holds.
    pub fn newer_than(&self, newest: Option<EmergencyId>) -> Vec<Record> {
        // A later record has a higher id, unless it stands there a second time.
        let mut newest = newest;
        let mut is_newer = |record: &&Record| {
            let newer = record.id() > newest;
            newest = newest.max(record.id());
            newer
        };
        self.records.iter().filter(|record| is_newer(record)).cloned().collect()
    }
}

/// Where the emergency log of a ledger lies unless another place is set; a file is its own place.
pub fn place_of(place: &Path) -> PathBuf {
    if place.is_dir() { place.join(FILE) } else { place.to_owned() }
}

/// Reads a file, live or a copy, changing nothing.
///
/// # Errors
/// When it is damaged, something else, or cannot be read.
pub fn read(path: &Path) -> Result<Found, EmergencyError> {
    sound(salvage(path)?)
}

/// Reads a file as far as it is what was written, and says what is wrong behind that.
///
/// # Errors
/// When it cannot be read at all.
pub fn salvage(path: &Path) -> Result<(Found, Option<EmergencyError>), EmergencyError> {
    let mut file = files::open_to_read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => EmergencyError::Missing(path.to_owned()),
        _ => EmergencyError::File { path: path.to_owned(), source },
    })?;
    let bytes = read_whole(&mut file, path)?;
    Ok(parse(&bytes, path))
}

fn sound((found, fault): (Found, Option<EmergencyError>)) -> Result<Found, EmergencyError> {
    fault.map_or(Ok(found), Err)
}

fn read_whole(file: &mut File, path: &Path) -> Result<Vec<u8>, EmergencyError> {
    let fault = |source| EmergencyError::File { path: path.to_owned(), source };
    if file.metadata().map_err(fault)?.len() > SIZE_BYTES_MAX {
        return Err(EmergencyError::Strange(path.to_owned()));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(SIZE_BYTES_MAX).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

fn lock(file: &File, path: &Path) -> Result<(), EmergencyError> {
    match file.try_lock_exclusive() {
        Ok(true) => Ok(()),
        Ok(false) => Err(EmergencyError::Locked(path.to_owned())),
        Err(source) => Err(EmergencyError::File { path: path.to_owned(), source }),
    }
}

impl Found {
    /// Takes the next record, where it follows on the one before or may follow on the ledger.
    fn take(&mut self, record: Record, path: &Path) -> Result<(), EmergencyError> {
        let entry = &record.sealed.entry;
        let last = self.records.last();
        let Some(id) = record.id() else {
            let place = last
                .and_then(Record::id)
                .map_or("at its first record".to_owned(), |id| format!("behind `{id}`"));
            return Err(EmergencyError::Damaged {
                path: path.to_owned(),
                place,
                what: "an entry without its id".to_owned(),
            });
        };
        let follows = last.is_some_and(|last| {
            last.sealed.hash == entry.prev && last.sealed.entry.seq + 1 == entry.seq && last.id() < Some(id)
        });
        // A failed recovery seals the records anew: the first of them follows on the ledger again,
        // and `check` asks whether it does.
        if !follows {
            let base = Base { seq: entry.seq.saturating_sub(1), hash: entry.prev, id, met: false };
            self.bases.push(base);
        }
        self.records.push(record);
        Ok(())
    }
}
