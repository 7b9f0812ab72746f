//! The guard: what the broker sends, made readable before the client library reads it.
//!
//! Owns: finding, in the byte stream from the broker, names that are no UTF-8 and headers that
//! cannot be read.
//! Never: looks at a body, holds one back, or changes a byte of what can be read.
//! Holds: a publisher cannot end the router with a message. RabbitMQ carries any bytes in a name
//! and any depth in a header; lapin drops the connection at the first and overflows its stack at
//! the second, and gets the same message again after each restart. What is mended here arrives and
//! is refused in good order: a key that was no UTF-8 breaks the grammar of keys, and properties
//! that were unreadable leave nothing but a content-encoding that nobody accepts.

/// The deepest nesting of tables and arrays that passes. Lapin's parser needs some 4 KiB of stack a
/// level unoptimised.
const DEPTH_MAX: usize = 16;
/// The longest method or header frame that is looked into; RabbitMQ's own limit is 128 KiB.
const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is read at once.
const READ_BYTES: usize = 64 * 1024;
/// Type, channel and size before the payload.
const FRAME_HEADER_BYTES: usize = 7;
/// Class, weight and body size before the properties.
const CONTENT_HEADER_BYTES: usize = 12;
const METHOD_FRAME: u8 = 1;
const HEADER_FRAME: u8 = 2;
const FRAME_END: u8 = 0xCE;
/// Only a content-encoding: `unreadable`.
const UNREADABLE: &[u8] = b"\x40\x00\x0aunreadable";

/// A part of a method's arguments.
enum Part {
    Name,
    Bytes(usize),
}

/// Where the methods have names in them that others chose.
const NAMED: [(u16, u16, &[Part]); 3] = [
    // basic.return: code; text, exchange, key
    (60, 50, &[Part::Bytes(2), Part::Name, Part::Name, Part::Name]),
    // basic.deliver: consumer; tag, redelivered; exchange, key
    (60, 60, &[Part::Name, Part::Bytes(9), Part::Name, Part::Name]),
    // basic.get-ok: tag, redelivered; exchange, key
    (60, 71, &[Part::Bytes(9), Part::Name, Part::Name]),
];

/// The frames on their way from the broker.
#[derive(Debug, Default)]
pub(super) struct Guard {
    buffer: Vec<u8>,
    /// Up to here it is handed on.
    taken: usize,
    /// Up to here it may be.
    checked: usize,
    /// Up to here it was read.
    end: usize,
    /// How much of a frame under way passes unseen: bodies, heartbeats.
    passing: usize,
}

impl Guard {
    /// What may be handed on.
    pub fn ready(&self) -> &[u8] {
        self.buffer.get(self.taken..self.checked).unwrap_or_default()
    }

    /// Books that `count` bytes of what was ready were handed on.
    pub fn take(&mut self, count: usize) {
        self.taken = self.checked.min(self.taken + count);
    }

    /// Room to read into.
    pub fn room(&mut self) -> &mut [u8] {
        if self.taken > 0 {
            self.buffer.copy_within(self.taken..self.end, 0);
            self.checked -= self.taken;
            self.end -= self.taken;
            self.taken = 0;
        }
        if self.buffer.len() < self.end + READ_BYTES {
            self.buffer.resize(self.end + READ_BYTES, 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Looks at `count` bytes that were read into the room. `false` when they are no AMQP.
    pub fn read(&mut self, count: usize) -> bool {
        self.end = self.buffer.len().min(self.end + count);
        loop {
            let passed = self.passing.min(self.end - self.checked);
            self.checked += passed;
            self.passing -= passed;
            let Some((kind, size)) = self.frame_begun() else { return true };
            let length = FRAME_HEADER_BYTES + size + 1;
            // Bodies pass as they come: none is kept until it is whole.
            if kind != METHOD_FRAME && kind != HEADER_FRAME {
                self.passing = length;
                continue;
            }
            // These are kept until they are whole, and the peer says how long they are.
            if size > FRAME_BYTES_MAX {
                return false;
            }
            if self.end - self.checked < length {
                return true;
            }
            let start = self.checked + FRAME_HEADER_BYTES;
            self.checked += length;
            let Some(payload) = self.buffer.get_mut(start..start + size) else { return false };
            if kind == METHOD_FRAME {
                mend_names(payload);
            } else if !header_is_readable(payload) {
                self.replace_properties(start, size);
            }
        }
    }

    /// Type and size of the frame that begins at `checked`.
    fn frame_begun(&self) -> Option<(u8, usize)> {
        if self.passing > 0 {
            return None;
        }
        let begun = self.buffer.get(self.checked..self.end)?;
        let [kind, _, _, size @ ..] = begun.first_chunk::<FRAME_HEADER_BYTES>()?;
        Some((*kind, usize::try_from(u32::from_be_bytes(*size)).ok()?))
    }

    /// Puts other properties into the header frame just checked, whose payload has `size` bytes
    /// from `start`.
    fn replace_properties(&mut self, start: usize, size: usize) {
        // Class and body size stay: the body's frames follow, and the client counts their bytes.
        let kept = size.min(CONTENT_HEADER_BYTES);
        let length = kept + UNREADABLE.len();
        let rest = self.buffer.get(self.checked..self.end).unwrap_or_default().to_vec();
        self.buffer.truncate(start + kept);
        self.buffer.extend_from_slice(UNREADABLE);
        self.buffer.push(FRAME_END);
        self.checked = self.buffer.len();
        self.buffer.extend_from_slice(&rest);
        self.end = self.buffer.len();
        let length = u32::try_from(length).unwrap_or_default().to_be_bytes();
        if let Some(place) = self.buffer.get_mut(start - length.len()..start) {
            place.copy_from_slice(&length);
        }
    }
}

/// Puts question marks where the names that a method brings are no UTF-8.
fn mend_names(payload: &mut [u8]) {
    let Some(([class @ .., _, _], _)) = payload.split_first_chunk::<4>() else { return };
    let class = u16::from_be_bytes(*class);
    let Some(([_, _, method @ ..], mut rest)) = payload.split_first_chunk_mut::<4>() else { return };
    let method = u16::from_be_bytes(*method);
    let Some((_, _, parts)) = NAMED.iter().find(|named| (named.0, named.1) == (class, method)) else {
        return;
    };
    for part in *parts {
        let (skipped, length) = match part {
            Part::Bytes(length) => (0, *length),
            Part::Name => (1, rest.first().copied().map_or(0, usize::from)),
        };
        let Some((part_bytes, behind)) = rest.split_at_mut_checked(skipped + length) else { return };
        let name = part_bytes.get_mut(skipped..).unwrap_or_default();
        // A byte for a byte: the lengths of the name and of the frame stay true.
        if matches!(part, Part::Name) && std::str::from_utf8(name).is_err() {
            name.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
        }
        rest = behind;
    }
}

/// Whether the client library can read a content header.
fn header_is_readable(payload: &[u8]) -> bool {
    let Some((_, rest)) = payload.split_first_chunk::<CONTENT_HEADER_BYTES>() else { return false };
    properties(rest) == Some(())
}

/// Walks the basic properties in the order of their flags.
fn properties(bytes: &[u8]) -> Option<()> {
    let (flags, mut rest) = bytes.split_first_chunk::<2>()?;
    let flags = u16::from_be_bytes(*flags);
    // The last two bits are none of the basic properties, and say that more flags follow.
    if flags & 0b11 != 0 {
        return None;
    }
    for bit in (2..16).rev() {
        if flags & (1 << bit) == 0 {
            continue;
        }
        // By AMQP 0-9-1: 13 are the headers, 12 and 11 an octet each (delivery mode and priority),
        // 6 is the timestamp, and all others are short strings.
        match bit {
            13 => table(&mut rest, 0)?,
            12 | 11 => skip(&mut rest, 1)?,
            6 => skip(&mut rest, 8)?,
            _ => name(&mut rest)?,
        }
    }
    rest.is_empty().then_some(())
}

fn table(bytes: &mut &[u8], depth: usize) -> Option<()> {
    let mut fields = long(bytes)?;
    while !fields.is_empty() {
        name(&mut fields)?;
        value(&mut fields, depth)?;
    }
    Some(())
}

fn array(bytes: &mut &[u8], depth: usize) -> Option<()> {
    let mut values = long(bytes)?;
    while !values.is_empty() {
        value(&mut values, depth)?;
    }
    Some(())
}

/// One value of the types that RabbitMQ's grammar has.
fn value(bytes: &mut &[u8], depth: usize) -> Option<()> {
    if depth >= DEPTH_MAX {
        return None;
    }
    let (kind, rest) = bytes.split_first()?;
    *bytes = rest;
    match kind {
        b'V' => Some(()),
        b't' | b'b' | b'B' => skip(bytes, 1),
        b's' | b'U' | b'u' => skip(bytes, 2),
        b'I' | b'i' | b'f' => skip(bytes, 4),
        b'D' => skip(bytes, 5),
        b'l' | b'L' | b'd' | b'T' => skip(bytes, 8),
        b'S' | b'x' => long(bytes).map(|_| ()),
        b'A' => array(bytes, depth + 1),
        b'F' => table(bytes, depth + 1),
        _ => None,
    }
}

/// A short string, which has to be UTF-8.
fn name(bytes: &mut &[u8]) -> Option<()> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    *bytes = rest;
    std::str::from_utf8(name).is_ok().then_some(())
}

/// Bytes behind their length of four bytes.
fn long<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (found, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(found)
}

fn skip(bytes: &mut &[u8], count: usize) -> Option<()> {
    *bytes = bytes.split_at_checked(count)?.1;
    Some(())
}

#[cfg(test)]
mod tests {
    use lapin::protocol::basic::parse_properties;
    use proptest::{collection, prelude::*};

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1][..], &size, payload, &[FRAME_END]].concat()
    }

    fn header(properties: &[u8]) -> Vec<u8> {
        frame(HEADER_FRAME, &[&b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"[..], properties].concat())
    }

    fn deliver(key: &[u8]) -> Vec<u8> {
        let length = [u8::try_from(key.len()).unwrap()];
        let tag = b"\x00\x3c\x00\x3c\x03tag\x00\x00\x00\x00\x00\x00\x00\x01\x00\x02in";
        frame(METHOD_FRAME, &[&tag[..], &length, key].concat())
    }

    fn nested(depth: usize) -> Vec<u8> {
        let mut value = b"V".to_vec();
        for _ in 0..depth {
            value = [&b"A"[..], &u32::try_from(value.len()).unwrap().to_be_bytes(), &value].concat();
        }
        let table = [&b"\x01h"[..], &value].concat();
        [&b"\x20\x00"[..], &u32::try_from(table.len()).unwrap().to_be_bytes(), &table].concat()
    }

    /// Sends `bytes` through a guard, `step` at a time in and out.
    fn pass(bytes: &[u8], step: usize) -> Vec<u8> {
        let (mut guard, mut out) = (Guard::default(), Vec::new());
        for part in bytes.chunks(step) {
            guard.room()[..part.len()].copy_from_slice(part);
            assert!(guard.read(part.len()));
            while !guard.ready().is_empty() {
                let count = guard.ready().len().min(step);
                out.extend_from_slice(&guard.ready()[..count]);
                guard.take(count);
            }
        }
        out
    }

    #[test]
    fn what_can_be_read_passes_byte_for_byte() {
        let good = [
            deliver("tęxt.ok".as_bytes()),
            header(b"\x90\x00\x04text\x02"),
            frame(3, &[0xff; 700]),
            header(&nested(DEPTH_MAX - 1)),
            frame(8, b""),
            frame(METHOD_FRAME, b"\x00\x0a\x00\x0a\xff\xff"),
            frame(METHOD_FRAME, b""),
        ]
        .concat();
        for step in [1, 3, 64, good.len()] {
            assert_eq!(pass(&good, step), good, "in steps of {step}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_replaced_and_nothing_else_is() {
        let unreadable = header(UNREADABLE);
        let bad = [
            header(b"\x80\x00\x01\xff"),
            header(b"\x80\x00\x09short"),
            header(b"\x00\x01"),
            header(b"\x20\x00\x00\x00\x00\x02\x01\xffV"),
            header(b"\x20\x00\x00\x00\x00\x03\x01aZ"),
            header(b"\x00\x00behind"),
            header(&nested(DEPTH_MAX)),
            header(&nested(20_000)),
        ];
        for bad in bad {
            let stream = [deliver(b"a\xff.b\xc3"), bad, frame(3, b"{}"), deliver(b"ok")].concat();
            let wanted = [deliver(b"a?.b?"), unreadable.clone(), frame(3, b"{}"), deliver(b"ok")].concat();
            for step in [1, 7, 60_000] {
                assert_eq!(pass(&stream, step), wanted, "in steps of {step}");
            }
        }
    }

    #[test]
    fn an_endless_header_is_no_amqp() {
        let mut guard = Guard::default();
        let begun = b"\x02\x00\x01\xff\xff\xff\xff";
        guard.room()[..begun.len()].copy_from_slice(begun);
        assert!(!guard.read(begun.len()));
    }

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        // Mostly the letters that mean something, so that much of it is nearly right.
        let telling =
            prop::sample::select(b"\x00\x00\x00\x01\x02\x03\x08VtbBsUuIiflLdTDSxAFa\xff\x20\x80".to_vec());
        collection::vec(telling, 0..60)
    }

    proptest! {
        #[test]
        fn what_passes_unchanged_can_be_read(flags in any::<u16>(), bytes in any_bytes()) {
            let bytes = [&flags.to_be_bytes()[..], &bytes].concat();
            if properties(&bytes).is_some() {
                let read = parse_properties(&bytes[..]);
                prop_assert!(matches!(read, Ok((b"", _))), "{read:?}");
            }
        }

        #[test]
        fn a_table_that_passes_can_be_read(bytes in any_bytes()) {
            let size = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            let bytes = [&b"\x20\x00"[..], &size, &bytes].concat();
            if properties(&bytes).is_some() {
                prop_assert!(parse_properties(&bytes[..]).is_ok());
            }
        }

        #[test]
        fn any_stream_in_any_pieces_gives_the_same(
            frames in collection::vec((0_u8..4, any_bytes()), 0..8),
            step in 1_usize..90,
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            prop_assert_eq!(pass(&stream, step), pass(&stream, stream.len().max(1)));
        }
    }
}
