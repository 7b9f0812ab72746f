//! An AMQP message as the corridor sees it: properties, headers and raw body.
//!
//! Owns: the value that drivers make from a frame and back, so that no pure room knows a client
//! library.
//! Never: decides what passes through (`passage` does).
//! Holds: a message that nobody changed leaves with every property and header it came with.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A header value, as AMQP 0-9-1 with RabbitMQ's extensions types them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "v", rename_all = "kebab-case")]
pub enum HeaderValue {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`
    I64(i64),
    /// `f`; kept as its bits, because JSON has no word for what is not a number
    F32(#[serde(with = "bits32")] f32),
    /// `d`; kept as its bits
    F64(#[serde(with = "bits64")] f64),
    /// `D`: scale and value
    Decimal(u8, u32),
    /// A short string (not sent by RabbitMQ, but in the grammar).
    ShortText(String),
    /// `S` with UTF-8 in it
    Text(String),
    /// `S` with bytes that are not UTF-8
    Binary(Vec<u8>),
    /// `x`
    Bytes(Vec<u8>),
    /// `T`: seconds since the epoch
    Time(u64),
    /// `A`
    Array(Vec<HeaderValue>),
    /// `F`
    Table(Headers),
    /// `V`
    Void,
}

macro_rules! bits {
    ($module:ident $float:ty, $integer:ty) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub fn serialize<S: Serializer>(value: &$float, serializer: S) -> Result<S::Ok, S::Error> {
                value.to_bits().serialize(serializer)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$float, D::Error> {
                <$integer>::deserialize(deserializer).map(<$float>::from_bits)
            }
        }
    };
}

bits!(bits32 f32, u32);
bits!(bits64 f64, u64);

impl HeaderValue {
    /// The text in it, where it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::ShortText(text) => Some(text),
            _ => None,
        }
    }
}

/// Headers in the order they came; the router's own have names that need no copy.
pub type Headers = Vec<(Cow<'static, str>, HeaderValue)>;

/// The AMQP 0-9-1 basic properties. Absent is `None`; nothing is defaulted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Properties {
    /// MIME type; not required (real clients send `text/plain`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Anything but `identity` is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// Application headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Headers,
    /// 1 transient, 2 persistent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_mode: Option<u8>,
    /// 0–255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The application's correlation id (the envelope's `correlationId` is another thing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Where to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Milliseconds to live, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
    /// The sender's message id on the way in, the router's on the way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// The application's own type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The authenticated user, validated by the broker where present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The publishing application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// Deprecated by AMQP, passed on all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
}

impl Properties {
    /// The first header of that exact name.
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The first header of that exact name, where it is text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header(name).and_then(HeaderValue::as_text)
    }
}

/// A message as it came off a queue, or as it is about to leave for an exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The exchange it was published to, or is to be.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its properties.
    pub properties: Properties,
    /// Its raw bytes.
    #[serde(skip)]
    pub body: Bytes,
}
