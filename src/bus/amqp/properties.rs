//! Properties and headers, between lapin's types and the contract's.
//!
//! Owns: the two-way translation.
//! Never: drops or defaults a value.
//! Holds: `read(write(properties)) == properties`, for every header type that RabbitMQ carries. It
//! knows no short string inside a table, so that one leaves as a long one; header names come in
//! alphabetical order, once each.

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
    from.into_iter().map(|(name, value)| (name.as_str().to_owned().into(), header(value))).collect()
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
        // A long string may hold any bytes, and those that came are those that leave.
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
        HeaderValue::Text(value) | HeaderValue::ShortText(value) => {
            AMQPValue::LongString(LongString::from(value.as_bytes()))
        }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection, option, prelude::*};

    use super::*;

    /// Every type of value that RabbitMQ carries, nested as they nest.
    fn value() -> impl Strategy<Value = HeaderValue> {
        // A binary is what a long string is called whose bytes are no text.
        let no_text = |bytes: &Vec<u8>| std::str::from_utf8(bytes).is_err();
        let leaf = prop_oneof![
            any::<bool>().prop_map(HeaderValue::Bool),
            any::<i8>().prop_map(HeaderValue::I8),
            any::<u8>().prop_map(HeaderValue::U8),
            any::<i16>().prop_map(HeaderValue::I16),
            any::<u16>().prop_map(HeaderValue::U16),
            any::<i32>().prop_map(HeaderValue::I32),
            any::<u32>().prop_map(HeaderValue::U32),
            any::<i64>().prop_map(HeaderValue::I64),
            any::<f32>().prop_map(HeaderValue::F32),
            any::<f64>().prop_map(HeaderValue::F64),
            any::<(u8, u32)>().prop_map(|(scale, value)| HeaderValue::Decimal(scale, value)),
            ".{0,40}".prop_map(HeaderValue::Text),
            collection::vec(any::<u8>(), 1..40).prop_filter("text", no_text).prop_map(HeaderValue::Binary),
            collection::vec(any::<u8>(), 0..40).prop_map(HeaderValue::Bytes),
            any::<u64>().prop_map(HeaderValue::Time),
            Just(HeaderValue::Void),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                collection::vec(inner.clone(), 0..6).prop_map(HeaderValue::Array),
                collection::btree_map("[a-z-]{0,20}", inner, 0..6)
                    .prop_map(sorted)
                    .prop_map(HeaderValue::Table),
            ]
        })
    }

    fn sorted(fields: BTreeMap<String, HeaderValue>) -> Headers {
        fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
    }

    fn any_properties() -> impl Strategy<Value = Properties> {
        let texts = collection::vec(option::of(".{0,60}"), 10);
        let headers = collection::btree_map("[a-z-]{0,20}", value(), 0..8).prop_map(sorted);
        let numbers = any::<(Option<u8>, Option<u8>, Option<u64>)>();
        (texts, headers, numbers).prop_map(|(mut texts, headers, (delivery_mode, priority, timestamp))| {
            let mut text = || texts.pop().flatten();
            Properties {
                content_type: text(),
                content_encoding: text(),
                headers,
                delivery_mode,
                priority,
                correlation_id: text(),
                reply_to: text(),
                expiration: text(),
                message_id: text(),
                timestamp,
                kind: text(),
                user_id: text(),
                app_id: text(),
                cluster_id: text(),
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(properties in any_properties()) {
            let written = write(&properties).unwrap();
            prop_assert_eq!(read(&written), properties);
        }

        #[test]
        fn beyond_a_short_string_is_refused_and_never_a_panic(length in 250_usize..300) {
            let text = "x".repeat(length);
            let named = Properties { headers: vec![(text.clone().into(), HeaderValue::Void)], ..Properties::default() };
            let said = Properties { app_id: Some(text), ..Properties::default() };
            for properties in [named, said] {
                prop_assert_eq!(write(&properties).is_ok(), length <= 255);
            }
        }
    }
}
