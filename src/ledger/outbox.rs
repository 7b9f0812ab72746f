//! Parcels as bytes: what the outbox keeps of messages until they are carried.
//!
//! Owns: the encoding of a parcel's messages.
//! Never: part of the chain; the entries hold the digests of the bodies. It trusts no length that the bytes cannot hold.
//! Holds: `decode(encode(messages)) == messages`.

use std::borrow::Cow;

use bytes::Bytes;
use lz4_flex::block::{compress_prepend_size, decompress, uncompressed_size};
use serde::{Deserialize, Serialize};

use super::Outgoing;
use crate::contract::message::Message;

/// The encoding's version, its first byte: the messages as one block of LZ4, or, until there was that, as they are.
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

/// The messages as bytes: for each, its head as JSON and its raw body, both behind their lengths; all of them as one
/// block of LZ4.
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
