//! Parcels as bytes: what the outbox keeps of messages until they are carried.
//!
//! Owns: the encoding of a parcel's messages, and the comparison of what waits with what the
//! entries say of it.
//! Never: part of the chain; the entries hold the digests of the bodies. It trusts no length that
//! the bytes cannot hold.
//! Holds: `decode(encode(messages)) == messages`; no body is carried that the message's entry does
//! not vouch for.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use lz4_flex::block::{compress_prepend_size, decompress, uncompressed_size};
use serde::{Deserialize, Serialize};

use super::{LedgerError, Outgoing, Parcel, chain::Sealed, emergency::Record};
use crate::contract::{
    audit::{Change, Fact},
    digest::Digest,
    message::Message,
};

/// The encoding's version, its first byte: the messages as one block of LZ4, or, until there was
/// that, as they are.
const PACKED: u8 = 2;
const PLAIN: u8 = 1;

/// No byte of LZ4 stands for more bytes than this.
const GROWTH_MAX: usize = 255;

/// Room for a head of the common size and both lengths.
const HEAD_BYTES: usize = 1024;

/// Everything of a message but its body.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    seq: u64,
    ordinal: u32,
    mandatory: bool,
    message: Cow<'a, Message>,
}

/// What the entries say against commands that wait in the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Barred {
    /// The entries of challenged commands that nobody let go.
    pub unconfirmed: BTreeMap<u64, Unconfirmed>,
    /// Entries that are booked as carried after the parcel was made in which a message of theirs
    /// waits, as (parcel, entry).
    pub carried: BTreeSet<(u64, u64)>,
}

/// A challenged command that nobody let go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unconfirmed {
    command: Option<Digest>,
    /// It ended, and the entry that says so took its parcel out of the outbox.
    pub was_dropped: bool,
}

/// Bodies that wait to be carried and that no entry has vouched for yet: by entry, with the parcel
/// of each.
#[derive(Default)]
pub(super) struct Unvouched {
    bodies: BTreeMap<u64, Vec<(u64, Digest)>>,
    /// The parcels of those that were vouched for, and the commands of their entries.
    heard: BTreeMap<u64, (Vec<u64>, Option<Digest>)>,
    barred: Barred,
}

impl Unvouched {
    /// The bodies of those parcels. A message without an entry has nobody to vouch for it.
    ///
    /// # Errors
    /// `Outbox` for what is no parcel.
    pub fn of(parcels: &[Parcel]) -> Result<Self, LedgerError> {
        let mut bodies: BTreeMap<u64, Vec<(u64, Digest)>> = BTreeMap::new();
        for parcel in parcels {
            for outgoing in parcel.unpack()? {
                if outgoing.seq == 0 {
                    return Err(damaged(
                        parcel.id,
                        "a message waits there in the name of no entry".to_owned(),
                    ));
                }
                bodies.entry(outgoing.seq).or_default().push((parcel.id, Digest::of(&outgoing.message.body)));
            }
        }
        Ok(Self { bodies, ..Self::default() })
    }

    /// Compares an entry with the bodies that wait in its name, and notes what it says against
    /// them.
    ///
    /// # Errors
    /// `Outbox` where a body that waits in its name is none that it let leave.
    pub fn hear(&mut self, sealed: &Sealed) -> Result<(), LedgerError> {
        let (seq, out) = (sealed.entry.seq, &sealed.entry.out);
        if let Some(bodies) = self.bodies.remove(&seq) {
            if let Some((id, _)) = bodies.iter().find(|(_, body)| !out.contains(body)) {
                let what = format!(
                    "a message waits there in the name of entry {seq}, which let no such message leave"
                );
                return Err(damaged(*id, what));
            }
            self.heard.insert(seq, (bodies.iter().map(|(id, _)| *id).collect(), None));
        }
        self.follow(seq, &sealed.entry.fact);
        Ok(())
    }

    /// Notes what a fact says of commands that wait.
    fn follow(&mut self, seq: u64, fact: &Fact) {
        let is_of_ledger = fact.emergency_id.is_none();
        match &fact.change {
            Change::Accepted(accepted) => self.takes(seq, accepted.command),
            Change::Challenged(challenged) => {
                let command = challenged.accepted.command;
                self.takes(seq, command);
                if self.heard.contains_key(&seq) {
                    self.barred.unconfirmed.insert(seq, Unconfirmed { command, was_dropped: false });
                }
            }
            // Without a deadline it is not on its way yet, as where more must confirm: it stays
            // barred.
            Change::Confirmed(confirmed) if confirmed.deadline.is_some() => {
                if let Some(seq) = self.of_command(confirmed.command) {
                    self.barred.unconfirmed.remove(&seq);
                    self.barred.carried.retain(|(_, carried)| *carried != seq);
                }
            }
            Change::Released(of) => {
                // What was booked before was what the router said of it.
                if let Some(seq) = self.of_command(of.command) {
                    self.barred.carried.retain(|(_, carried)| *carried != seq);
                }
            }
            Change::Ended(ended) if is_of_ledger => {
                let mut waiting = self.barred.unconfirmed.values_mut();
                if let Some(over) = waiting.rfind(|waiting| waiting.command == Some(ended.command)) {
                    over.was_dropped = true;
                }
            }
            // What was booked on the emergency log took no parcel out of the outbox.
            Change::Carried(carried) if is_of_ledger => {
                for (first, last) in carried.spans.iter().filter(|(first, last)| first <= last) {
                    for (of, (parcels, _)) in self.heard.range(*first..=*last) {
                        // One that was made by this entry or later waits since.
                        let before = parcels.iter().filter(|id| **id < seq);
                        self.barred.carried.extend(before.map(|id| (*id, *of)));
                    }
                }
            }
            _ => {}
        }
    }

    fn takes(&mut self, seq: u64, command: Option<Digest>) {
        if let Some((_, known)) = self.heard.get_mut(&seq) {
            *known = command;
        }
    }

    /// The newest entry of a command that waits.
    fn of_command(&self, command: Digest) -> Option<u64> {
        self.heard.iter().rfind(|(_, (_, known))| *known == Some(command)).map(|(seq, _)| *seq)
    }

    /// Every entry was compared: returns what they say against what waits.
    ///
    /// # Errors
    /// `Outbox` for a body of an entry that is not there.
    pub fn end(self) -> Result<Barred, LedgerError> {
        let left = self.bodies.iter().find_map(|(seq, bodies)| Some((seq, bodies.first()?.0)));
        left.map_or(Ok(self.barred), |(seq, id)| {
            let what =
                format!("a message waits there in the name of entry {seq}, and there is no such entry");
            Err(damaged(id, what))
        })
    }
}

/// What an emergency log holds that its own entries did not let leave: the record, and what is
/// wrong. A message whose entry it does not hold is carried by nobody.
pub(super) fn stray(records: &[Record]) -> Option<(&Record, String)> {
    // A failed recovery seals anew what is on it, and places come twice.
    records.chunk_by(|one, next| one.sealed.entry.seq < next.sealed.entry.seq).find_map(|run| {
        let out: BTreeMap<u64, &[Digest]> =
            run.iter().map(|record| (record.sealed.entry.seq, record.sealed.entry.out.as_slice())).collect();
        run.iter().find_map(|record| {
            let messages = record.parcel.as_ref()?.unpack().ok()?;
            let stray = messages.iter().find(|outgoing| {
                let out = out.get(&outgoing.seq);
                outgoing.seq == 0 || out.is_some_and(|out| !out.contains(&Digest::of(&outgoing.message.body)))
            })?;
            let what = format!(
                "a message stands there in the name of entry {}, which let no such message leave",
                stray.seq
            );
            Some((record, what))
        })
    })
}

pub(super) fn damaged(parcel: u64, what: String) -> LedgerError {
    LedgerError::Outbox { id: i64::try_from(parcel).unwrap_or(i64::MAX), what }
}

/// The messages as bytes: for each, its head as JSON and its raw body, both behind their lengths;
/// all of them as one block of LZ4.
pub fn encode<'a>(messages: impl Iterator<Item = (u64, u32, bool, &'a Message)> + Clone) -> Vec<u8> {
    let room = messages.clone().map(|(.., message)| HEAD_BYTES + message.body.len()).sum();
    let mut bytes = Vec::with_capacity(room);
    for (seq, ordinal, mandatory, message) in messages {
        let head = Head { seq, ordinal, mandatory, message: Cow::Borrowed(message) };
        let at = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        // Writing plain data to memory cannot fail.
        let _ = serde_json::to_writer(&mut bytes, &head);
        let head_len = (bytes.len() - at - 4) as u32;
        if let Some(length) = bytes.get_mut(at..at + 4) {
            length.copy_from_slice(&head_len.to_be_bytes());
        }
        bytes.extend_from_slice(&(message.body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&message.body);
    }
    [&[PACKED], compress_prepend_size(&bytes).as_slice()].concat()
}

/// Reads the messages back; the error says what is wrong.
pub fn decode(bytes: &[u8]) -> Result<Vec<Outgoing>, String> {
    let plain = match bytes.split_first() {
        Some((&PACKED, packed)) => Cow::Owned(unpack(packed)?),
        Some((&PLAIN, plain)) => Cow::Borrowed(plain),
        _ => return Err("not a parcel of a version that this release reads".to_owned()),
    };
    let mut rest = plain.as_ref();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let head = take(&mut rest)?;
        let body = take(&mut rest)?;
        let head: Head<'_> = serde_json::from_slice(head).map_err(|fault| fault.to_string())?;
        let mut message = head.message.into_owned();
        message.body = Bytes::copy_from_slice(body);
        messages.push(Outgoing { seq: head.seq, ordinal: head.ordinal, mandatory: head.mandatory, message });
    }
    Ok(messages)
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let (length, block) = uncompressed_size(packed).map_err(|fault| fault.to_string())?;
    if length > block.len().saturating_mul(GROWTH_MAX) {
        return Err(format!("{} bytes cannot hold {length}", block.len()));
    }
    let plain = decompress(block, length).map_err(|fault| fault.to_string())?;
    if plain.len() == length { Ok(plain) } else { Err("cut short".to_owned()) }
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let short = || "cut short".to_owned();
    let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (field, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(short)?;
    *rest = after;
    Ok(field)
}
