//! The emergency log's form: a header, and frames of records behind it.
//!
//! Owns: the bytes of header, frame and record, and telling a write that was cut off from one that
//! was altered.
//! Never: touches a file.
//! Holds: one flipped byte of a frame is never taken for a write that was cut off.

use std::path::Path;

use super::{EmergencyError, Found, Record};
use crate::{
    contract::{audit::Entry, digest::Digest, lane::Lane},
    ledger::{Parcel, chain::Sealed, outbox},
};

pub(super) const MAGIC: &[u8; 8] = b"SGEMLOG\n";
const FORMAT: u32 = 1;
/// What the header says of the rest: it counts, or it is about to be zeros.
pub(super) const READY: &[u8; 8] = b"ready   ";
pub(super) const CLEARING: &[u8; 8] = b"clearing";
/// Header and frames begin at multiples of this, so that the head of none stands in two of the
/// disk's blocks.
pub(super) const SLOT_BYTES: usize = 64;
/// What a disk writes whole or not at all.
const BLOCK_BYTES: usize = 512;
/// A frame's head: its length, the complement of that, and the SHA-256 of its payload.
const HEAD_BYTES: usize = 40;
/// The byte behind a payload. It is no zero, so that a frame that is all there does not end in one.
const END: u8 = 0xe5;

/// What stands at the end of what could be read.
enum Frame<'a> {
    Payload(&'a [u8]),
    /// Zeros to the end of the file.
    Nothing,
    Torn,
}

/// What a file's bytes hold, and what is wrong behind that.
pub(super) fn parse(bytes: &[u8], path: &Path) -> (Found, Option<EmergencyError>) {
    let touched = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut found = Found { end: SLOT_BYTES, touched: touched.max(SLOT_BYTES), ..Found::default() };
    if touched == 0 {
        return (found, Some(EmergencyError::Emptied(path.to_owned())));
    }
    let fault = fill(&mut found, bytes, touched, path).and_then(|()| vouched(&found, path)).err();
    (found, fault)
}

fn fill(found: &mut Found, bytes: &[u8], touched: usize, path: &Path) -> Result<(), EmergencyError> {
    let head = bytes.get(..SLOT_BYTES);
    found.clearing = match head {
        Some(head) if *head == header(READY) => false,
        Some(head) if *head == header(CLEARING) => true,
        _ => return Err(EmergencyError::Strange(path.to_owned())),
    };
    while !found.clearing {
        let place = || match found.records.last().and_then(Record::id) {
            Some(id) => format!("behind `{id}`"),
            None => "at its first record".to_owned(),
        };
        let damaged = |what: String| EmergencyError::Damaged { path: path.to_owned(), place: place(), what };
        match frame(bytes, found.end, touched).map_err(|what| damaged(what.to_owned()))? {
            Frame::Payload(mut payload) => {
                let length = frame_bytes(payload.len());
                let mut records = Vec::new();
                while !payload.is_empty() {
                    records.push(decode(&mut payload).map_err(damaged)?);
                }
                for record in records {
                    found.take(record, path)?;
                }
                found.end += length;
            }
            Frame::Nothing => break,
            Frame::Torn => {
                found.torn = true;
                break;
            }
        }
    }
    Ok(())
}

/// A frame vouches for its bytes alone, and its digest is anybody's to make: each body is one that
/// its entry let leave.
fn vouched(found: &Found, path: &Path) -> Result<(), EmergencyError> {
    let Some((record, what)) = outbox::stray(&found.records) else { return Ok(()) };
    let place = record.id().map(|id| format!("at `{id}`")).unwrap_or_default();
    Err(EmergencyError::Damaged { path: path.to_owned(), place, what })
}

/// The header with that state, [`READY`] or [`CLEARING`].
pub(super) fn header(state: &[u8; 8]) -> [u8; SLOT_BYTES] {
    let mut header = [0; SLOT_BYTES];
    let parts: [&[u8]; 3] = [MAGIC, &FORMAT.to_le_bytes(), state];
    header.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    header
}

/// What a frame with a payload of that length takes.
pub(super) const fn frame_bytes(payload_bytes: usize) -> usize {
    (HEAD_BYTES + payload_bytes + 1).next_multiple_of(SLOT_BYTES)
}

/// Entry and parcel, each behind its length; a parcel behind its lane too.
pub(super) fn encode(record: &Record, payload: &mut Vec<u8>) {
    let (lane, messages) = match &record.parcel {
        Some(parcel) => (parcel.lane as u8, parcel.bytes.as_slice()),
        None => (0, [].as_slice()),
    };
    payload.extend_from_slice(&(record.sealed.bytes.len() as u32).to_le_bytes());
    payload.extend_from_slice(&record.sealed.bytes);
    payload.push(lane);
    payload.extend_from_slice(&(messages.len() as u32).to_le_bytes());
    payload.extend_from_slice(messages);
}

fn decode(payload: &mut &[u8]) -> Result<Record, String> {
    let bytes = field(payload)?.to_vec();
    let entry: Entry = serde_json::from_slice(&bytes).map_err(|fault| fault.to_string())?;
    let (&lane, rest) = payload.split_first().ok_or("cut short")?;
    *payload = rest;
    let messages = field(payload)?;
    let parcel = if messages.is_empty() {
        None
    } else {
        let lane = *Lane::ALL.get(usize::from(lane)).ok_or("a lane that there is not")?;
        Some(Parcel { id: entry.seq, lane, bytes: messages.to_vec() })
    };
    let hash = Digest::of(&bytes);
    Ok(Record { sealed: Sealed { entry, bytes, hash }, parcel })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or("cut short")?;
    let split = after.split_at_checked(u32::from_le_bytes(*length) as usize);
    let (field, after) = split.ok_or("cut short")?;
    *rest = after;
    Ok(field)
}

/// The frame at a place; behind `touched` there are zeros.
///
/// A write that was cut off leaves zeros where it did not come to: at its end, or, because a disk
/// keeps no order, in one of its blocks, the first one too. There is never a frame behind it.
/// Anything else that is wrong was never written so.
fn frame(bytes: &[u8], at: usize, touched: usize) -> Result<Frame<'_>, &'static str> {
    if touched <= at {
        return Ok(Frame::Nothing);
    }
    let Some(head) = bytes.get(at..at + HEAD_BYTES) else {
        return Err("there is no room for the head of a record");
    };
    if head.iter().all(|byte| *byte == 0) {
        let mut behind = (at + SLOT_BYTES..touched).step_by(SLOT_BYTES);
        let is_lost = behind.any(|later| whole(bytes, later).is_some());
        return if is_lost { Err("a record is gone") } else { Ok(Frame::Torn) };
    }
    let Some(length) = length(bytes, at) else {
        // Two words that do not agree, and nothing behind them: the write ended within them.
        let torn = touched <= at + 8;
        return if torn { Ok(Frame::Torn) } else { Err("a length is not what was written") };
    };
    let payload_end = at + HEAD_BYTES + length;
    if let Some(payload) = whole(bytes, at) {
        let padding = bytes.get(payload_end + 1..at + frame_bytes(length)).unwrap_or_default();
        let clean = padding.iter().all(|byte| *byte == 0);
        return if clean {
            Ok(Frame::Payload(payload))
        } else {
            Err("there is something between two records")
        };
    }
    match bytes.get(payload_end) {
        None => Err("a length goes beyond the file"),
        Some(0) if touched <= payload_end => Ok(Frame::Torn),
        Some(&END) if touched == payload_end + 1 && has_hole(bytes, at, touched) => Ok(Frame::Torn),
        Some(_) => Err("a record is not what was written"),
    }
}

/// The length of the payload at a place, where it stands there with its complement.
fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let length = word(at)?;
    (length == !word(at + 4)?).then_some(length as usize)
}

/// The payload of the frame at a place, where it is all there and what was written.
fn whole(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let payload_end = at + HEAD_BYTES + length(bytes, at)?;
    let payload = bytes.get(at + HEAD_BYTES..payload_end)?;
    let is_whole = bytes.get(at + 8..at + HEAD_BYTES)? == Digest::of(payload).0.as_slice();
    (is_whole && bytes.get(payload_end) == Some(&END)).then_some(payload)
}

/// Whether a block of the disk between two places is all zeros.
fn has_hole(bytes: &[u8], from: usize, to: usize) -> bool {
    let mut at = from;
    while at < to {
        let next = (at + 1).next_multiple_of(BLOCK_BYTES).min(to);
        if bytes.get(at..next).is_some_and(|block| block.iter().all(|byte| *byte == 0)) {
            return true;
        }
        at = next;
    }
    false
}

/// The frame of a payload.
pub(super) fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; frame_bytes(payload.len())];
    let length = payload.len() as u32;
    let parts: [&[u8]; 5] =
        [&length.to_le_bytes(), &(!length).to_le_bytes(), &Digest::of(payload).0, payload, &[END]];
    frame.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    frame
}
