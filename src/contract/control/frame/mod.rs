//! One frame of the secure channel: bytes to message and back.
//!
//! Owns: the length prefix, the fields of a frame, what is signed, and the order in which a frame
//! is tried.
//! Never: reads from a socket or a clock, or tells a peer what was wrong with its frame.
//! Holds: nothing of a frame is believed, and no rule but size and JSON is tried, before its
//! signature verifies. A frame that is accepted is refused with any one bit flipped.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    ControlMessage, MessageKind, Payload,
    fault::ControlFault,
    name,
    nonce::{Nonce, unhex},
    secret::SigningKey,
    signing::{self, DEPTH_MAX, Fractions, NODES_MAX},
    window::Window,
};
use crate::contract::strict::{self, Limits};

/// The length before each body: big-endian.
pub const PREFIX_BYTES: usize = 4;
/// The default bound of a body.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// All fields of a frame.
const FIELDS: [&str; 9] =
    ["headers", "kind", "nonce", "payload_b64", "reply_to", "sig", "target", "trace_id", "ts"];
/// All fields of what `payload_b64` holds.
const INNER_FIELDS: [&str; 3] = ["correlation_id", "payload", "worker_id"];

/// What stands around a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The message.
    pub message: ControlMessage,
    /// The worker that it is for, or from.
    pub target: Option<String>,
    /// When it was signed, in seconds since the Unix epoch.
    pub ts: i64,
    /// What makes it unlike any other.
    pub nonce: Nonce,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// Where an answer is expected.
    pub reply_to: Option<String>,
    /// Whatever else the sender says; never looked at here.
    pub headers: Map<String, Value>,
}

impl Frame {
    /// A frame without trace, reply and headers, whose target is its message's worker.
    pub fn new(message: ControlMessage, ts: i64, nonce: Nonce) -> Self {
        let target = message.worker_id.clone();
        Self { message, target, ts, nonce, trace_id: None, reply_to: None, headers: Map::new() }
    }

    /// The whole frame, signed: length and body.
    ///
    /// # Errors
    /// [`ControlFault::PayloadTooLarge`], and [`ControlFault::MalformedFrame`] for what a
    /// reader would refuse.
    pub fn encode(
        &self,
        key: &SigningKey,
        body_bytes_max: usize,
    ) -> Result<Zeroizing<Vec<u8>>, ControlFault> {
        let mut fields = self.fields()?;
        let sig = key.sign(signing::object(&fields, Fractions::Refused)?.as_bytes());
        fields.insert("sig".to_owned(), sig.into());
        let body = Zeroizing::new(signing::object(&fields, Fractions::Refused)?);
        // The map holds the payload, which may be key material.
        drop(Payload::from(fields));
        let bytes = body.len() as u64;
        let too_large = ControlFault::PayloadTooLarge { bytes, bytes_max: body_bytes_max as u64 };
        let length = u32::try_from(bytes).map_err(|_| too_large)?;
        if body.len() > body_bytes_max {
            return Err(too_large);
        }
        let mut frame = Zeroizing::new(Vec::with_capacity(PREFIX_BYTES.saturating_add(body.len())));
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(body.as_bytes());
        Ok(frame)
    }

    /// The bytes that are signed.
    ///
    /// # Errors
    /// [`ControlFault::MalformedFrame`] for what a reader would refuse.
    pub fn signing_bytes(&self) -> Result<Zeroizing<Vec<u8>>, ControlFault> {
        let fields = Payload::from(self.fields()?);
        signing::object(&fields, Fractions::Refused).map(|text| Zeroizing::new(text.into_bytes()))
    }

    /// All fields but the signature.
    fn fields(&self) -> Result<Map<String, Value>, ControlFault> {
        let Self { message, target, ts, nonce, trace_id, reply_to, headers } = self;
        message.check()?;
        for (field, text) in [("target", target), ("trace_id", trace_id), ("reply_to", reply_to)] {
            text.as_deref().map_or(Ok(()), |text| name(field, text))?;
        }
        agree(target.as_deref(), message.worker_id.as_deref())?;
        if ts.unsigned_abs() > strict::INTEGER_MAX {
            return Err(ControlFault::MalformedFrame { field: "ts", fault: "is beyond 2^53" });
        }
        let mut inner = Map::new();
        inner.insert("correlation_id".to_owned(), message.correlation_id.clone().into());
        inner.insert("payload".to_owned(), Value::Object((*message.payload).clone()));
        inner.insert("worker_id".to_owned(), message.worker_id.clone().into());
        let inner = Payload::from(inner);
        let text = Zeroizing::new(signing::object(&inner, Fractions::Written)?);
        let fields: [(&str, Value); 8] = [
            ("headers", Value::Object(headers.clone())),
            ("kind", message.kind.word().into()),
            ("nonce", nonce.to_string().into()),
            ("payload_b64", BASE64_STANDARD.encode(text.as_bytes()).into()),
            ("reply_to", reply_to.clone().into()),
            ("target", target.clone().into()),
            ("trace_id", trace_id.clone().into()),
            ("ts", (*ts).into()),
        ];
        Ok(fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect())
    }

    /// Reads a whole frame, length and body, as one call; who reads from a socket takes the steps
    /// one by one.
    ///
    /// # Errors
    /// The first that holds, in the order of [`ControlFault`].
    pub fn decode(
        bytes: &[u8],
        key: &SigningKey,
        body_bytes_max: usize,
        now: i64,
        window: &mut Window,
    ) -> Result<Self, ControlFault> {
        let short = ControlFault::MalformedFrame { field: "length", fault: "is not that of the body" };
        let (prefix, body) = bytes.split_first_chunk::<PREFIX_BYTES>().ok_or(short)?;
        if body_length(*prefix, body_bytes_max)? != body.len() {
            return Err(short);
        }
        Sealed::read(body, body_bytes_max)?.open(&[key])?.admit(now, window)
    }
}

/// The length that a prefix announces.
///
/// # Errors
/// [`ControlFault::PayloadTooLarge`], and [`ControlFault::MalformedFrame`] for none at all.
pub fn body_length(prefix: [u8; PREFIX_BYTES], body_bytes_max: usize) -> Result<usize, ControlFault> {
    let bytes = u64::from(u32::from_be_bytes(prefix));
    let bytes_max = body_bytes_max as u64;
    match usize::try_from(bytes) {
        Ok(0) => Err(ControlFault::MalformedFrame { field: "length", fault: "is zero" }),
        Ok(length) if bytes <= bytes_max => Ok(length),
        _ => Err(ControlFault::PayloadTooLarge { bytes, bytes_max }),
    }
}

/// A body that is JSON and has a signature; nothing else is known of it.
#[derive(Debug)]
pub struct Sealed {
    fields: Payload,
    sig: Option<[u8; 32]>,
}

impl Sealed {
    /// Reads a body.
    ///
    /// # Errors
    /// [`ControlFault::PayloadTooLarge`], [`ControlFault::MalformedFrame`],
    /// [`ControlFault::MissingSignature`].
    pub fn read(body: &[u8], body_bytes_max: usize) -> Result<Self, ControlFault> {
        if body.len() > body_bytes_max {
            return Err(ControlFault::PayloadTooLarge {
                bytes: body.len() as u64,
                bytes_max: body_bytes_max as u64,
            });
        }
        one_form(body)?;
        let mut fields = json_object("frame", body, body_bytes_max)?;
        let sig = match fields.remove("sig") {
            None | Some(Value::Null) => return Err(ControlFault::MissingSignature),
            Some(Value::String(text)) if text.is_empty() => return Err(ControlFault::MissingSignature),
            Some(Value::String(text)) => unhex(&text, |digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')),
            Some(_) => None,
        };
        Ok(Self { fields, sig })
    }

    /// The worker that the frame claims to be for or from: what a key is looked up by, and nothing
    /// more.
    pub fn claimed_target(&self) -> Option<&str> {
        self.fields.get("target").and_then(Value::as_str)
    }

    /// Verifies the signature with the first of `keys` that fits.
    ///
    /// # Errors
    /// [`ControlFault::InvalidSignature`], or [`ControlFault::MalformedFrame`] when there
    /// is nothing that could be signed.
    pub fn open(self, keys: &[&SigningKey]) -> Result<VerifiedBody, ControlFault> {
        let signed = Zeroizing::new(signing::object(&self.fields, Fractions::Refused)?);
        // A signature that is no signature is compared all the same: it takes as long as a wrong
        // one.
        let sig = self.sig.unwrap_or_default();
        let fits = keys.iter().map(|key| key.verifies(signed.as_bytes(), &sig) && self.sig.is_some());
        let key = fits
            .collect::<Vec<bool>>()
            .into_iter()
            .position(|fits| fits)
            .ok_or(ControlFault::InvalidSignature)?;
        Ok(VerifiedBody { fields: self.fields, key })
    }
}

/// A body whose signature verifies.
#[derive(Debug)]
pub struct VerifiedBody {
    fields: Payload,
    /// Which of the keys it was.
    pub key: usize,
}

impl VerifiedBody {
    /// Its nonce, where it has one.
    pub fn claimed_nonce(&self) -> Option<Nonce> {
        self.text("nonce").ok().and_then(Nonce::from_hex)
    }

    /// Tries the rest: the form of the fields, the kind, the time, the nonce, and then what it
    /// carries.
    ///
    /// # Errors
    /// [`ControlFault::MalformedFrame`], [`ControlFault::UnsupportedKind`],
    /// [`ControlFault::TimestampExpired`], [`ControlFault::ReplayedNonce`],
    /// [`ControlFault::ReplayWindowFull`].
    pub fn admit(mut self, now: i64, window: &mut Window) -> Result<Frame, ControlFault> {
        let broken = |field, fault| ControlFault::MalformedFrame { field, fault };
        if self.fields.keys().any(|field| !FIELDS.contains(&field.as_str())) {
            return Err(broken("frame", "has a field that frames do not have"));
        }
        let target = self.name("target")?;
        let trace_id = self.name("trace_id")?;
        let reply_to = self.name("reply_to")?;
        let Some(Value::Object(headers)) = self.fields.remove("headers") else {
            return Err(broken("headers", "is not an object"));
        };
        let ts = self.fields.get("ts").and_then(Value::as_i64).ok_or(broken("ts", "is not an integer"))?;
        let nonce = Nonce::from_hex(self.text("nonce")?).ok_or(broken("nonce", "is not 32 hex digits"))?;
        let inner = self.text("payload_b64")?;
        let kind = MessageKind::from_word(self.text("kind")?).ok_or(ControlFault::UnsupportedKind)?;
        window.admit(nonce, ts, now, kind.lane())?;
        let inner = BASE64_STANDARD.decode(inner).map(Zeroizing::new);
        let message =
            inner_message(kind, &inner.map_err(|_| broken("payload_b64", "is not strict base64"))?)?;
        agree(target.as_deref(), message.worker_id.as_deref())?;
        Ok(Frame { message, target, ts, nonce, trace_id, reply_to, headers })
    }

    /// A field that is a text.
    fn text(&self, field: &'static str) -> Result<&str, ControlFault> {
        let text = self.fields.get(field).and_then(Value::as_str);
        text.ok_or(ControlFault::MalformedFrame { field, fault: "is not a text" })
    }

    /// A field that is a name or null.
    fn name(&self, field: &'static str) -> Result<Option<String>, ControlFault> {
        optional_name(field, self.fields.get(field))
    }
}

/// What `payload_b64` holds.
fn inner_message(kind: MessageKind, inner: &[u8]) -> Result<ControlMessage, ControlFault> {
    let broken = |field, fault| ControlFault::MalformedFrame { field, fault };
    let mut members = json_object("payload_b64", inner, inner.len())?;
    if members.keys().any(|field| !INNER_FIELDS.contains(&field.as_str())) {
        return Err(broken("payload_b64", "has a member that messages do not have"));
    }
    let Some(Value::Object(payload)) = members.remove("payload") else {
        return Err(broken("payload", "is not an object"));
    };
    // From here on it is wiped, whatever is found next.
    let payload = Payload::from(payload);
    let Some(Value::String(correlation_id)) = members.remove("correlation_id") else {
        return Err(broken("correlation_id", "is not a text"));
    };
    let worker_id = optional_name("worker_id", members.get("worker_id"))?;
    ControlMessage::new(kind, correlation_id, worker_id, payload)
}

/// A member that is a name or null; a frame says null, and cannot leave it out.
fn optional_name(field: &'static str, value: Option<&Value>) -> Result<Option<String>, ControlFault> {
    match value {
        Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => name(field, text).map(|()| Some(text.clone())),
        _ => Err(ControlFault::MalformedFrame { field, fault: "is neither a text nor null" }),
    }
}

/// Refuses a frame that is for one worker and speaks of another.
fn agree(target: Option<&str>, worker_id: Option<&str>) -> Result<(), ControlFault> {
    match (target, worker_id) {
        (Some(target), Some(worker_id)) if target != worker_id => {
            Err(ControlFault::MalformedFrame { field: "worker_id", fault: "is not the `target`" })
        }
        _ => Ok(()),
    }
}

/// Refuses the two ways in which a text could change without changing its value by one bit: the
/// case of an escape's hex digits, and a white space that is no space.
fn one_form(body: &[u8]) -> Result<(), ControlFault> {
    if body.iter().any(|byte| *byte < b' ') {
        return Err(ControlFault::MalformedFrame { field: "frame", fault: "has a control character" });
    }
    let mut rest = body.iter();
    while let Some(byte) = rest.next() {
        let escaped = *byte == b'\\' && rest.next() == Some(&b'u');
        if escaped && rest.by_ref().take(4).any(u8::is_ascii_uppercase) {
            return Err(ControlFault::MalformedFrame {
                field: "frame",
                fault: "has an escape in upper case",
            });
        }
    }
    Ok(())
}

/// Reads a JSON object by the strict rules.
fn json_object(field: &'static str, text: &[u8], body_bytes_max: usize) -> Result<Payload, ControlFault> {
    let limits = Limits { body_bytes_max, depth_max: DEPTH_MAX, nodes_max: NODES_MAX };
    match strict::parse(text, &limits).map(Value::from) {
        Ok(Value::Object(members)) => Ok(members.into()),
        Ok(mut other) => {
            super::wipe(&mut other);
            Err(ControlFault::MalformedFrame { field, fault: "is not a JSON object" })
        }
        Err(refusal) => Err(ControlFault::MalformedFrame { field, fault: refusal.reason.code() }),
    }
}

#[cfg(test)]
mod tests;
