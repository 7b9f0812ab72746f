//! The mark while the router runs: what it knew more than the ledger and the emergency log hold.
//!
//! Owns: comparing a mark with the ledger, and what the tasks share about it.
//! Never: reads or writes a mark while the router runs: `broker` reads, `marker` writes.
//! Holds: while a set-back is not on record, the mark that knew of it stays. A mark that is there
//! and cannot be read counts as one that knew more, unless the broker's knows the ledger's last
//! entry.

mod broker;
mod marker;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

pub(super) use broker::Marked;
pub(super) use marker::Marker;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::{
    contract::audit::{Action, EmergencyId, SetBack},
    ledger::{
        LedgerError,
        chain::Sealed,
        files,
        mark::{FILE, Mark, MarkFile, Said},
        query::{Filter, Reader},
    },
};

/// How long reading or writing the queue may take.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// A mark that is compared with the entries of a ledger as they are read.
#[derive(Debug)]
pub(super) struct ComparedMark {
    mark: Option<Mark>,
    met: bool,
    /// There is one, and nobody can read it.
    pub is_unreadable: bool,
}

impl ComparedMark {
    /// Takes note of an entry of the ledger.
    pub fn meet(&mut self, sealed: &Sealed) {
        if let Some(mark) = &self.mark {
            self.met |= mark.seq == sealed.entry.seq && mark.hash == sealed.hash;
        }
    }

    /// What the mark knew that the ledger with that id does not hold; none: it is about to be
    /// begun.
    pub fn set_back(&self, ledger_id: Option<&str>, ours: u64) -> Option<SetBack> {
        let mark = self.mark.as_ref().filter(|_| !self.met)?;
        let set_back = SetBack::by(mark, ledger_id, ours);
        set_back.say("`ledger.mark`", ledger_id);
        Some(set_back)
    }

    /// What the mark knew of the emergency log that neither ledger nor log holds; `newest` is what
    /// they do.
    pub fn cut(
        &self,
        ledger_id: Option<&str>,
        ours: u64,
        newest: Option<EmergencyId>,
        log: &Path,
    ) -> Option<SetBack> {
        let mark = self.mark.as_ref().filter(|mark| ledger_id == Some(mark.ledger_id.as_str()))?;
        let known = mark.emergency.filter(|known| Some(*known) > newest)?;
        say_cut("`ledger.mark`", known, newest, log);
        Some(SetBack { known: ours + 1, ledger_id: None, ours })
    }
}

fn say_cut(place: &str, known: EmergencyId, newest: Option<EmergencyId>, log: &Path) {
    let newest = newest.map_or_else(|| "none".to_owned(), |newest| newest.to_string());
    error!(
        %known,
        newest,
        path = %log.display(),
        "the emergency log was exchanged, cut or removed: {place} knew a later entry than it and the ledger hold; stops and kill switches after the newest are forgotten. If the right file is elsewhere, stop the router and name it in `ledger.emergency_path`"
    );
}

impl SetBack {
    /// What a mark knew, of a ledger that does not hold it and ends at `ours`.
    fn by(mark: &Mark, ledger_id: Option<&str>, ours: u64) -> Self {
        let other = (ledger_id != Some(mark.ledger_id.as_str())).then(|| mark.ledger_id.clone());
        Self { known: mark.seq, ledger_id: other, ours }
    }

    fn say(&self, place: &str, own: Option<&str>) {
        let Self { known, ledger_id, ours } = self;
        match ledger_id {
            None => {
                error!(known, ours, "the ledger was set back: {place} knew a later entry than it holds");
            }
            Some(other) => error!(
                known,
                ours,
                known_ledger = other,
                ledger = own.unwrap_or("begun anew"),
                "the ledger was set back: {place} knew another ledger in its place"
            ),
        }
    }
}

/// Opens the mark's file. One that cannot be used keeps no router from starting, but for what is no
/// file.
///
/// # Errors
/// `File` where a directory, a pipe or a device stands in its place.
pub(super) fn open(dir: &Path) -> Result<(Option<MarkFile>, ComparedMark), LedgerError> {
    let opened = match MarkFile::open(dir) {
        Ok((file, said)) => {
            let is_unreadable = said == Said::Unreadable;
            let mark = match said {
                Said::Mark(mark) => Some(mark),
                Said::Nothing | Said::Unreadable => None,
            };
            (Some(file), ComparedMark { mark, met: false, is_unreadable })
        }
        Err(source) if files::is_irregular(&source) => {
            return Err(LedgerError::File { path: dir.join(FILE), source });
        }
        Err(fault) => {
            warn!(error = %fault, "`ledger.mark` cannot be used; what it knew nobody can say");
            (None, ComparedMark { mark: None, met: false, is_unreadable: true })
        }
    };
    Ok(opened)
}

/// The mark's file, and what the tasks share of it.
pub(super) type AtBoot = (Option<MarkFile>, Arc<SharedMark>);

/// What the tasks share about the mark.
pub(super) struct SharedMark {
    pub ledger_id: String,
    pub reader: Reader,
    /// The last entry that the ledger held when it was opened.
    pub last: Mark,
    /// Where the emergency log is.
    pub log: PathBuf,
    /// The newest emergency entry that the ledger or the log held then.
    pub newest: Option<EmergencyId>,
    /// The newest on the log, as far as the ledger does not hold it.
    pub waiting: watch::Sender<Option<EmergencyId>>,
    /// The entry that the ledger ended at when a set-back was noticed, plus one; 0 where none was,
    /// or it is on record.
    pub waits_from: AtomicU64,
    /// It is on the emergency log's record.
    pub is_on_log: AtomicBool,
    /// `ledger.mark` cannot be read, and the broker's has not been yet.
    pub is_in_doubt: AtomicBool,
    /// The latest entry that a mark was found to know more than the ledger: another mark of no
    /// later one is no news.
    pub known: AtomicU64,
    /// A mark of another ledger was found: one more is no news.
    pub knows_other: AtomicBool,
}

/// What is found beside a ledger when it is opened.
pub(super) struct Sight<'a> {
    pub set_back: Option<&'a SetBack>,
    pub is_in_doubt: bool,
    pub log: PathBuf,
    pub newest: Option<EmergencyId>,
    /// The newest that stays on the log.
    pub waiting: Option<EmergencyId>,
}

impl SharedMark {
    pub fn new(last: Mark, reader: Reader, sight: Sight<'_>) -> Self {
        let Sight { set_back, is_in_doubt, log, newest, waiting } = sight;
        let waits_from = if is_in_doubt { last.seq + 1 } else { 0 };
        let shared = Self {
            ledger_id: last.ledger_id.clone(),
            reader,
            last,
            log,
            newest,
            waiting: watch::Sender::new(waiting),
            waits_from: AtomicU64::new(waits_from),
            is_on_log: AtomicBool::new(false),
            is_in_doubt: AtomicBool::new(is_in_doubt),
            known: AtomicU64::new(0),
            knows_other: AtomicBool::new(false),
        };
        if let Some(set_back) = set_back {
            shared.note(set_back);
        }
        shared
    }

    /// Of a ledger that nobody looks at.
    #[cfg(test)]
    pub fn of_nothing() -> Self {
        let last = Mark {
            emergency: None,
            hash: crate::contract::digest::Digest::default(),
            ledger_id: String::new(),
            seq: 0,
        };
        let (set_back, log, newest, waiting) = Default::default();
        let sight = Sight { set_back, is_in_doubt: false, log, newest, waiting };
        Self::new(last, Reader::later(Path::new("/nowhere")), sight)
    }

    /// Notes which entry is the newest on the emergency log, or that the ledger holds them all;
    /// `is_told`: a set-back is among them.
    pub fn waits_on_log(&self, newest: Option<EmergencyId>, is_told: bool) {
        self.is_on_log.fetch_or(is_told, Ordering::AcqRel);
        self.waiting.send_if_modified(|waiting| std::mem::replace(waiting, newest) != newest);
    }

    /// Takes note of a set-back that is about to be told.
    fn note(&self, set_back: &SetBack) {
        match set_back.ledger_id {
            None => self.known.store(set_back.known, Ordering::Release),
            Some(_) => self.knows_other.store(true, Ordering::Release),
        }
        self.is_on_log.store(false, Ordering::Release);
        self.waits_from.store(set_back.ours + 1, Ordering::Release);
    }

    fn is_news(&self, set_back: &SetBack) -> bool {
        match set_back.ledger_id {
            None => set_back.known > self.known.load(Ordering::Acquire),
            Some(_) => !self.knows_other.load(Ordering::Acquire),
        }
    }

    /// The mark of the ledger as it stands.
    async fn now(&self) -> Result<Option<Mark>, LedgerError> {
        let head = self.reader.head().await?;
        let (emergency, ledger_id) = (*self.waiting.borrow(), self.ledger_id.clone());
        Ok(head.map(|(seq, hash)| Mark { emergency, hash, ledger_id, seq }))
    }

    /// What a mark knows that the ledger does not hold; of the emergency log only where `is_first`:
    /// this router has written no mark yet.
    async fn compare(&self, mark: &Mark, is_first: bool) -> Result<Option<SetBack>, LedgerError> {
        let set_back = |ours| Some(SetBack::by(mark, Some(&self.ledger_id), ours));
        let is_other = mark.ledger_id != self.ledger_id;
        let opened_at = self.last.seq;
        if is_other || mark.seq > opened_at {
            let ours = self.reader.last_seq().await.unwrap_or(opened_at);
            if is_other || mark.seq > ours {
                // Nothing needs to be read for that, where nothing can be.
                return Ok(set_back(ours));
            }
        }
        if is_first && let Some(known) = mark.emergency.filter(|known| Some(*known) > self.newest) {
            say_cut("the broker's mark", known, self.newest, &self.log);
            return Ok(Some(SetBack { known: opened_at + 1, ledger_id: None, ours: opened_at }));
        }
        // It names the entry that this run began from: no disk, which may hang, need be asked.
        if *mark == (Mark { emergency: mark.emergency, ..self.last.clone() }) {
            return Ok(None);
        }
        let Some(ours) = self.now().await? else { return Ok(None) };
        let entry = self.reader.entry(mark.seq).await?;
        let holds = entry.is_some_and(|entry| entry.hash == mark.hash);
        Ok(if holds { None } else { set_back(ours.seq) })
    }

    /// A set-back by a mark that nobody can read.
    pub fn unreadable(&self) -> SetBack {
        unreadable(self.last.seq)
    }

    /// Whether a set-back was noticed and is not on record yet.
    async fn waits(&self) -> Result<bool, LedgerError> {
        let from = self.waits_from.load(Ordering::Acquire);
        if from == 0 || self.is_on_log.load(Ordering::Acquire) {
            return Ok(false);
        }
        let later = Filter { from: Some(from), ..Filter::default() };
        let later = self.reader.select(&later, usize::MAX).await?;
        let on_record = later.iter().any(|sealed| sealed.entry.fact.action == Action::SetBack);
        if on_record {
            self.waits_from.store(0, Ordering::Release);
        }
        Ok(!on_record)
    }
}

/// What is told of a mark that is there and that nobody can read: it may have known more.
pub(super) fn unreadable(ours: u64) -> SetBack {
    SetBack { known: ours.max(1), ledger_id: None, ours }
}
