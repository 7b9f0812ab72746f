//! Properties and headers, between lapin's types and the contract's.
//!
//! Owns: the two-way translation.
//! Never: drops or defaults a value.
//! Holds: `read(write(properties)) == properties`, for every header type of AMQP 0-9-1 with RabbitMQ's extensions.

use lapin::{
    BasicProperties,
    types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString},
};

use super::short;
use crate::{
    bus::BusError,
    contract::message::{HeaderValue, Headers, Properties},
};

/// Lapin's properties as ours.
pub(super) fn read(from: &BasicProperties) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(|value| value.as_str().to_owned());
    Properties {
        content_type: text(from.content_type()),
        content_encoding: text(from.content_encoding()),
        headers: from.headers().as_ref().map(table).unwrap_or_default(),
        delivery_mode: *from.delivery_mode(),
        priority: *from.priority(),
        correlation_id: text(from.correlation_id()),
        reply_to: text(from.reply_to()),
        expiration: text(from.expiration()),
        message_id: text(from.message_id()),
        timestamp: *from.timestamp(),
        kind: text(from.kind()),
        user_id: text(from.user_id()),
        app_id: text(from.app_id()),
        cluster_id: text(from.cluster_id()),
    }
}

/// Our properties as lapin's.
pub(super) fn write(from: &Properties) -> Result<BasicProperties, BusError> {
    let mut to = BasicProperties::default();
    macro_rules! set {
        ($($field:ident $with:ident)*) => {
            $(if let Some(value) = &from.$field { to = to.$with(short(value)?); })*
        };
    }
    set! {
        content_type with_content_type
        content_encoding with_content_encoding
        correlation_id with_correlation_id
        reply_to with_reply_to
        expiration with_expiration
        message_id with_message_id
        kind with_type
        user_id with_user_id
        app_id with_app_id
        cluster_id with_cluster_id
    }
    if let Some(mode) = from.delivery_mode {
        to = to.with_delivery_mode(mode);
    }
    if let Some(priority) = from.priority {
        to = to.with_priority(priority);
    }
    if let Some(timestamp) = from.timestamp {
        to = to.with_timestamp(timestamp);
    }
    if !from.headers.is_empty() {
        to = to.with_headers(fields(&from.headers)?);
    }
    Ok(to)
}

fn table(from: &FieldTable) -> Headers {
    from.into_iter().map(|(name, value)| (name.as_str().to_owned(), header(value))).collect()
}

fn header(from: &AMQPValue) -> HeaderValue {
    match from {
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(value) => HeaderValue::I8(*value),
        AMQPValue::ShortShortUInt(value) => HeaderValue::U8(*value),
        AMQPValue::ShortInt(value) => HeaderValue::I16(*value),
        AMQPValue::ShortUInt(value) => HeaderValue::U16(*value),
        AMQPValue::LongInt(value) => HeaderValue::I32(*value),
        AMQPValue::LongUInt(value) => HeaderValue::U32(*value),
        AMQPValue::LongLongInt(value) => HeaderValue::I64(*value),
        AMQPValue::Float(value) => HeaderValue::F32(*value),
        AMQPValue::Double(value) => HeaderValue::F64(*value),
        AMQPValue::DecimalValue(DecimalValue { scale, value }) => HeaderValue::Decimal(*scale, *value),
        AMQPValue::ShortString(value) => HeaderValue::ShortText(value.as_str().to_owned()),
        AMQPValue::LongString(value) => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Binary(value.as_bytes().to_vec()),
        },
        AMQPValue::ByteArray(value) => HeaderValue::Bytes(value.as_slice().to_vec()),
        AMQPValue::Timestamp(value) => HeaderValue::Time(*value),
        AMQPValue::FieldArray(values) => HeaderValue::Array(values.as_slice().iter().map(header).collect()),
        AMQPValue::FieldTable(fields) => HeaderValue::Table(table(fields)),
        AMQPValue::Void => HeaderValue::Void,
    }
}

fn fields(from: &Headers) -> Result<FieldTable, BusError> {
    let mut to = FieldTable::default();
    for (name, value) in from {
        to.insert(short(name)?, field(value)?);
    }
    Ok(to)
}

fn field(from: &HeaderValue) -> Result<AMQPValue, BusError> {
    Ok(match from {
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::I8(value) => AMQPValue::ShortShortInt(*value),
        HeaderValue::U8(value) => AMQPValue::ShortShortUInt(*value),
        HeaderValue::I16(value) => AMQPValue::ShortInt(*value),
        HeaderValue::U16(value) => AMQPValue::ShortUInt(*value),
        HeaderValue::I32(value) => AMQPValue::LongInt(*value),
        HeaderValue::U32(value) => AMQPValue::LongUInt(*value),
        HeaderValue::I64(value) => AMQPValue::LongLongInt(*value),
        HeaderValue::F32(value) => AMQPValue::Float(*value),
        HeaderValue::F64(value) => AMQPValue::Double(*value),
        HeaderValue::Decimal(scale, value) => {
            AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: *value })
        }
        HeaderValue::ShortText(value) => AMQPValue::ShortString(short(value)?),
        HeaderValue::Text(value) => AMQPValue::LongString(LongString::from(value.as_bytes())),
        HeaderValue::Binary(value) => AMQPValue::LongString(LongString::from(value.as_slice())),
        HeaderValue::Bytes(value) => AMQPValue::ByteArray(ByteArray::from(value.as_slice())),
        HeaderValue::Time(value) => AMQPValue::Timestamp(*value),
        HeaderValue::Array(values) => {
            let mut array = FieldArray::default();
            for value in values {
                array.push(field(value)?);
            }
            AMQPValue::FieldArray(array)
        }
        HeaderValue::Table(fields_of) => AMQPValue::FieldTable(fields(fields_of)?),
        HeaderValue::Void => AMQPValue::Void,
    })
}
