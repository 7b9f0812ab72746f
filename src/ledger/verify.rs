//! Verifying: every entry, from the first, on a live ledger or a copy.
//!
//! Owns: the walk over the whole chain, and naming the first entry that is wrong.
//! Never: writes, or needs anything but the file.
//! Holds: an entry that was torn, flipped, removed, reordered or inserted is found. What a chain
//! alone cannot see is a tail cut off or a chain made anew from its first entry; signed checkpoints
//! will (docs/operating/ledger.md).

use std::path::Path;

use futures_util::TryStreamExt;

use super::{
    LedgerError,
    append::entry_of,
    chain::{Chain, ChainFault, Sealed},
    sqlite,
};
use crate::contract::{
    audit::{EmergencyId, Fact},
    digest::Digest,
    schema::Schema,
    timestamp::Timestamp,
};

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// `None`: every entry is what was written.
    pub fault: Option<ChainFault>,
    /// How many entries are good, from the first.
    pub entries: u64,
    /// The hash of the last good one.
    pub head: Digest,
    /// Time of the first entry.
    pub first_at: Option<Timestamp>,
    /// Time of the last good one.
    pub last_at: Option<Timestamp>,
    /// The newest entry that came over the emergency log.
    pub newest_emergency: Option<EmergencyId>,
}

/// Walks the chain in `place`, a ledger's directory or file.
///
/// # Errors
/// Only when there is no ledger to read; what is wrong with its entries is in the report.
pub async fn verify(place: &Path) -> Result<ChainReport, LedgerError> {
    walk(place, |_| Ok(())).await
}

/// Walks the chain, and judges each entry by its schema besides: what a chain cannot see is an
/// entry with members that no release writes.
///
/// # Errors
/// Only when there is no ledger to read.
pub async fn verify_deep(place: &Path, schema: &Schema) -> Result<ChainReport, LedgerError> {
    walk(place, |sealed| {
        schema.check_entry(&sealed.bytes).map_err(|refusal| ChainFault::Form {
            seq: sealed.entry.seq,
            pointer: refusal.pointer.unwrap_or_default(),
            what: refusal.detail.into_owned(),
        })
    })
    .await
}

async fn walk(
    place: &Path,
    judge: impl Fn(&Sealed) -> Result<(), ChainFault>,
) -> Result<ChainReport, LedgerError> {
    let mut connection = match sqlite::open_reader(place).await {
        Ok(connection) => connection,
        // A file that SQLite cannot read is a finding about the ledger, and no lack of one.
        Err(LedgerError::Database(fault)) => return Ok(unreadable(ChainReport::new(), &fault)),
        Err(fault) => return Err(fault),
    };
    let mut report = ChainReport::new();
    let mut chain = Chain::new();
    let mut rows = sqlx::query("SELECT seq, bytes, hash FROM entries ORDER BY seq").fetch(&mut connection);
    loop {
        let row = match rows.try_next().await {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(fault) => return Ok(unreadable(report, &fault)),
        };
        let followed = match entry_of(&row) {
            Ok((seq, bytes, hash)) => chain.follow(seq, bytes, hash),
            Err(LedgerError::Damaged(fault)) => Err(fault),
            Err(fault) => Err(ChainFault::Unreadable(chain.next_seq(), fault.to_string())),
        };
        match followed.and_then(|sealed| judge(&sealed).map(|()| sealed)) {
            Ok(sealed) => report.take(&sealed.entry.fact, chain.head()),
            Err(fault) => {
                report.fault = Some(fault);
                return Ok(report);
            }
        }
    }
    drop(rows);
    // After the entries: a fault with a number says more than what else is in the database.
    let strange = sqlite::foreign(&mut connection).await?;
    if report.entries == 0 {
        report.fault = Some(ChainFault::Headless(1));
    } else if !strange.is_empty() {
        report.fault = Some(ChainFault::Foreign(strange.join(", ")));
    }
    Ok(report)
}

impl ChainReport {
    fn new() -> Self {
        let (first_at, last_at, newest_emergency) = (None, None, None);
        Self { fault: None, entries: 0, head: Digest::default(), first_at, last_at, newest_emergency }
    }

    fn take(&mut self, fact: &Fact, head: Digest) {
        let at = fact.at;
        self.entries += 1;
        self.head = head;
        self.first_at.get_or_insert(at);
        self.last_at = Some(at);
        self.newest_emergency = self.newest_emergency.max(fact.emergency_id);
    }
}

fn unreadable(mut report: ChainReport, fault: &sqlx::Error) -> ChainReport {
    report.fault = Some(ChainFault::Unreadable(report.entries + 1, fault.to_string()));
    report
}
