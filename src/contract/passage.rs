//! What passes through and what does not.
//!
//! Owns: the rule by which a delivery becomes the message that leaves, and the names of the
//! router's own headers.
//! Never: touches a body.
//! Holds: no inbound `x-swarmgate-*` but the signing headers, no CC, BCC, `authorization` or
//! `user-id` leaves.
//! The rule: spec/rules.md#pass-through.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use super::{
    audit::{Actor, Proof, Replay, Verdict},
    canonical,
    message::{HeaderValue, Headers, Message, Properties},
    reason::Refusal,
    routing::{Family, KEY_BYTES_MAX},
};

/// What the router's own headers and the signing headers begin with.
pub const PREFIX: &str = "x-swarmgate-";
/// The sender's signing headers, which travel with the message.
pub const SIGNING: [&str; 4] =
    ["x-swarmgate-key-id", "x-swarmgate-timestamp", "x-swarmgate-nonce", "x-swarmgate-signature"];
/// The entry that the message left by.
pub const SEQ: &str = "x-swarmgate-seq";
/// The authenticated sender.
pub const PRINCIPAL: &str = "x-swarmgate-principal";
/// The corridor's answer.
pub const VERDICT: &str = "x-swarmgate-verdict";
/// The sender's AMQP user-id, which the broker would not let the router repeat as such.
pub const USER_ID: &str = "x-swarmgate-user-id";
/// The sender's AMQP message-id.
pub const MESSAGE_ID: &str = "x-swarmgate-message-id";
/// Why: the code.
pub const REASON: &str = "x-swarmgate-reason";
/// Why: in words.
pub const DETAIL: &str = "x-swarmgate-detail";
/// Why: where in the body.
pub const POINTER: &str = "x-swarmgate-pointer";

/// What begins the idempotencyKey of a message that is sent again; the refused copy's message-id
/// follows.
pub const REPLAY_KEY: &str = "replay:";
/// The message-id of the refused copy that is sent again.
pub const REPLAY_OF: &str = "x-swarmgate-replay-of";
/// Who sent it first.
pub const REPLAY_SENDER: &str = "x-swarmgate-replay-sender";
/// Whether the broker had proven who that was: `user-id` or `origin`.
pub const REPLAY_PROOF: &str = "x-swarmgate-replay-proof";
/// Bytes of each of these at most.
const REPLAY_BYTES_MAX: usize = 255;

/// Bytes of a header that the router adds; frames have room for all of them.
pub const HEADER_BYTES_MAX: usize = 1024;
/// How many headers the router adds at most, so that their list grows once.
const OWN_COUNT: usize = 8;
/// Headers that the broker would act on, or that carry a secret.
const DROPPED: [&str; 3] = ["authorization", "cc", "bcc"];
/// AMQP's delivery mode for what survives the broker.
const PERSISTENT: u8 = 2;

/// What the router says on a message that leaves.
#[derive(Clone, Debug)]
pub struct Stamp<'a> {
    /// Where it goes.
    pub exchange: &'a str,
    /// The router's message-id.
    pub message_id: Option<String>,
    /// The entry it leaves by.
    pub seq: Option<u64>,
    /// The authenticated sender.
    pub principal: Option<&'a str>,
    /// The corridor's answer.
    pub verdict: Verdict,
}

/// A message as it is carried on. Metrics travel as lightly as they came and keep their own
/// message-id.
pub fn onward(message: Message, family: Family, stamp: &Stamp<'_>) -> Message {
    let Message { routing_key, properties, body, .. } = message;
    let mut properties = kept(properties, family == Family::Metric);
    if family != Family::Metric {
        make_lasting(&mut properties, stamp);
    }
    mark(&mut properties.headers, stamp);
    leave(stamp, routing_key, properties, body)
}

/// The copy of a refused message, with its reason. A key too long for AMQP is cut.
pub fn refused(message: Message, refusal: &Refusal, stamp: &Stamp<'_>) -> Message {
    let Message { mut routing_key, properties, body, .. } = message;
    let mut properties = kept(properties, false);
    make_lasting(&mut properties, stamp);
    mark(&mut properties.headers, stamp);
    add(&mut properties.headers, REASON, refusal.reason.code());
    add(&mut properties.headers, DETAIL, refusal.detail.as_ref());
    if let Some(pointer) = &refusal.pointer {
        add(&mut properties.headers, POINTER, pointer.as_str());
    }
    routing_key.truncate(cut(&routing_key, KEY_BYTES_MAX).len());
    leave(stamp, routing_key, properties, body)
}

/// A message of the router's own words. It names no principal: the router itself speaks.
pub fn own(routing_key: &str, body: Bytes, stamp: &Stamp<'_>) -> Message {
    let mut properties =
        Properties { content_type: Some("application/json".to_owned()), ..Properties::default() };
    make_lasting(&mut properties, stamp);
    mark(&mut properties.headers, &Stamp { principal: None, verdict: Verdict::Forward, ..stamp.clone() });
    leave(stamp, routing_key.to_owned(), properties, body)
}

/// The body of an answer that was given before, under the correlationId of whoever asks again.
pub fn answering(body: Bytes, correlation_id: Option<&str>) -> Bytes {
    let Some(correlation_id) = correlation_id else { return body };
    let Ok(mut said) = serde_json::from_slice::<Value>(&body) else { return body };
    match said.get_mut("correlationId") {
        Some(Value::String(before)) if before != correlation_id => *before = correlation_id.to_owned(),
        _ => return body,
    }
    canonical::raw(&said).map_or(body, |text| Bytes::copy_from_slice(text.get().as_bytes()))
}

/// Whose refused message a message sends again. Only who is proven is asked: the word goes into the
/// ledger.
pub fn replay(properties: &Properties) -> Option<Replay> {
    properties.user_id.as_ref()?;
    let text = |name| properties.header_text(name).filter(|text| text.len() <= REPLAY_BYTES_MAX);
    let by = match text(REPLAY_PROOF)? {
        "user-id" => Proof::UserId,
        "origin" => Proof::Origin,
        _ => return None,
    };
    let (principal, of) = (text(REPLAY_SENDER)?.to_owned(), text(REPLAY_OF)?.to_owned());
    Some(Replay { first: Actor { by, principal }, of })
}

/// The headers by which a message says that it sends a refused copy again.
pub fn replaying(copy: &Properties, of: &str) -> Headers {
    let user_id = copy.header_text(USER_ID);
    let sender = user_id.or_else(|| copy.header_text(PRINCIPAL)).unwrap_or("unknown");
    let proof = if user_id.is_some() { "user-id" } else { "origin" };
    [(REPLAY_OF, of), (REPLAY_SENDER, sender), (REPLAY_PROOF, proof)]
        .map(|(name, text)| (Cow::Borrowed(name), HeaderValue::Text(cut(text, REPLAY_BYTES_MAX).to_owned())))
        .into()
}

/// The longest beginning of a text that has at most that many bytes.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

fn leave(stamp: &Stamp<'_>, routing_key: String, properties: Properties, body: Bytes) -> Message {
    Message { exchange: stamp.exchange.to_owned(), routing_key, properties, body }
}

/// The sender's properties without what does not pass.
fn kept(mut properties: Properties, keeps_message_id: bool) -> Properties {
    properties.headers.retain(|(name, _)| passes(name));
    properties.headers.reserve(OWN_COUNT);
    if let Some(user_id) = properties.user_id.take() {
        add(&mut properties.headers, USER_ID, user_id);
    }
    if !keeps_message_id && let Some(message_id) = properties.message_id.take() {
        add(&mut properties.headers, MESSAGE_ID, message_id);
    }
    properties
}

/// Whether a header passes, whatever its spelling in capitals: brokers and readers do not agree on
/// it.
fn passes(name: &str) -> bool {
    let is_ours = name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    !DROPPED.iter().any(|other| name.eq_ignore_ascii_case(other))
        && (!is_ours || SIGNING.iter().any(|other| name.eq_ignore_ascii_case(other)))
}

fn make_lasting(properties: &mut Properties, stamp: &Stamp<'_>) {
    properties.delivery_mode = Some(PERSISTENT);
    properties.expiration = None;
    properties.message_id = stamp.message_id.clone();
}

fn mark(headers: &mut Headers, stamp: &Stamp<'_>) {
    if let Some(seq) = stamp.seq {
        headers.push((Cow::Borrowed(SEQ), HeaderValue::I64(i64::try_from(seq).unwrap_or(i64::MAX))));
    }
    if let Some(principal) = stamp.principal {
        add(headers, PRINCIPAL, principal);
    }
    add(headers, VERDICT, stamp.verdict.word());
}

fn add(headers: &mut Headers, name: &'static str, text: impl Into<String>) {
    let mut text = text.into();
    text.truncate(cut(&text, HEADER_BYTES_MAX).len());
    headers.push((Cow::Borrowed(name), HeaderValue::Text(text)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::reason::Reason;

    fn sent() -> Message {
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        let headers = [
            ("authorization", text("Bearer secret")),
            ("Authorization", text("Bearer secret")),
            ("CC", HeaderValue::Array(vec![text("signal.kill")])),
            ("bcc", HeaderValue::Array(vec![text("signal.kill")])),
            ("x-swarmgate-seq", HeaderValue::I64(7)),
            ("X-Swarmgate-Verdict", text("forward")),
            ("x-swarmgate-", text("empty")),
            ("x-swarmgate-signature", text("s")),
            ("X-SwarmGate-Nonce", text("n")),
            ("traceparent", text("00-1-2-01")),
            ("x-death", HeaderValue::I32(1)),
        ];
        Message {
            exchange: "swarmgate.in".to_owned(),
            routing_key: "signal.stop.a.b.c".to_owned(),
            properties: Properties {
                content_type: Some("text/plain".to_owned()),
                headers: headers.map(|(name, value)| (name.into(), value)).to_vec(),
                delivery_mode: Some(1),
                priority: Some(3),
                correlation_id: Some("app".to_owned()),
                reply_to: Some("me".to_owned()),
                expiration: Some("5000".to_owned()),
                message_id: Some("mine".to_owned()),
                timestamp: Some(9),
                kind: Some("t".to_owned()),
                user_id: Some("orc-a".to_owned()),
                app_id: Some("app".to_owned()),
                ..Properties::default()
            },
            body: Bytes::from_static(b"{}"),
        }
    }

    fn stamp() -> Stamp<'static> {
        Stamp {
            exchange: "swarmgate.out",
            message_id: Some("led.12.0".to_owned()),
            seq: Some(12),
            principal: Some("orc-a"),
            verdict: Verdict::Forward,
        }
    }

    fn names(message: &Message) -> Vec<&str> {
        message.properties.headers.iter().map(|(name, _)| &**name).collect()
    }

    #[test]
    fn a_signal_leaves_lasting_and_marked_and_otherwise_as_it_came() {
        let left = onward(sent(), Family::Signal, &stamp());
        let kept = ["x-swarmgate-signature", "X-SwarmGate-Nonce", "traceparent", "x-death"];
        let added = [USER_ID, MESSAGE_ID, SEQ, PRINCIPAL, VERDICT];
        assert_eq!(names(&left), [kept.as_slice(), added.as_slice()].concat());
        assert_eq!(left.properties.header_text(USER_ID), Some("orc-a"));
        assert_eq!(left.properties.header_text(MESSAGE_ID), Some("mine"));
        assert_eq!(left.properties.header(SEQ), Some(&HeaderValue::I64(12)));
        let expected = Properties {
            headers: left.properties.headers.clone(),
            delivery_mode: Some(2),
            expiration: None,
            message_id: Some("led.12.0".to_owned()),
            user_id: None,
            ..sent().properties
        };
        assert_eq!(left.properties, expected);
        assert_eq!(
            (left.exchange.as_str(), left.routing_key.as_str()),
            ("swarmgate.out", "signal.stop.a.b.c")
        );
        assert_eq!(left.body, sent().body);
    }

    #[test]
    fn a_metric_keeps_its_weight_and_its_own_id() {
        let left = onward(sent(), Family::Metric, &stamp()).properties;
        assert_eq!(left.delivery_mode, Some(1));
        assert_eq!(left.expiration.as_deref(), Some("5000"));
        assert_eq!(left.message_id.as_deref(), Some("mine"));
        assert_eq!((left.user_id.clone(), left.header(MESSAGE_ID)), (None, None));
    }

    #[test]
    fn a_refused_copy_says_why_within_bounds() {
        let mut long = sent();
        long.routing_key = "ä".repeat(200);
        let refusal = Refusal::new(Reason::Schema, "é".repeat(2000)).at("/data".repeat(1000));
        let stamp = Stamp { exchange: "swarmgate.refused", verdict: Verdict::Refuse, seq: None, ..stamp() };
        let left = refused(long, &refusal, &stamp);
        assert_eq!(left.routing_key.len(), 254);
        assert_eq!(left.properties.header_text(REASON), Some("contract.schema"));
        assert_eq!(left.properties.header_text(VERDICT), Some("refuse"));
        assert_eq!(left.properties.header_text(DETAIL).map(str::len), Some(1024));
        assert_eq!(left.properties.header_text(POINTER).map(str::len), Some(1024));
        assert!(!names(&left).iter().any(|name| name.eq_ignore_ascii_case("authorization")));
        assert_eq!((left.properties.header(SEQ), left.properties.expiration.clone()), (None, None));
    }

    #[test]
    fn own_words_name_no_other_sender() {
        let left = own("event.alert.alert.swarmgate.router.r", Bytes::from_static(b"{}"), &stamp());
        assert_eq!(names(&left), [SEQ, VERDICT]);
        assert_eq!(left.properties.content_type.as_deref(), Some("application/json"));
        assert_eq!(left.properties.delivery_mode, Some(2));
        assert_eq!(left.properties.message_id.as_deref(), Some("led.12.0"));
    }
}
