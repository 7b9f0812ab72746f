//! Declaring: the topology on the broker, and whether what is there agrees.
//!
//! Owns: the arguments that each kind of queue and exchange has on RabbitMQ.
//! Never: deletes, purges or changes anything that is there.
//! Holds: whatever stands under a declared name afterwards has the declared properties, or the
//! answer names it.

use lapin::{
    Channel, ErrorKind,
    options::{
        ExchangeBindOptions, ExchangeDeclareOptions, ExchangeUnbindOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    connection::{Line, Server},
    short,
};
use crate::bus::{BusError, Counts, Exchange, ExchangeKind, Queue, QueueKind, TapBounds};

/// AMQP's reply code for what the user has no right to.
const ACCESS_REFUSED: u16 = 403;
/// AMQP's reply code for a name that is not there.
const NOT_FOUND: u16 = 404;
/// AMQP's reply code for an exclusive queue of another connection.
const RESOURCE_LOCKED: u16 = 405;
/// AMQP's reply code for a declaration that differs from what is there.
const PRECONDITION_FAILED: u16 = 406;
/// From this major version on, quorum queues drop what was redelivered twenty times unless told not
/// to.
const DELIVERY_LIMIT_SINCE_MAJOR: u32 = 4;
/// On how many nodes of a cluster a queue of ours is, where there are as many.
const REPLICAS: i32 = 3;
/// What an exclusive queue keeps for a reader that does not read.
const EXCLUSIVE_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// What of a queue may differ from what is declared: it is used as it is. Anything else makes it
/// another queue.
const TOLERATED: [&str; 9] = [
    "x-delivery-limit",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-quorum-initial-group-size",
    "x-message-ttl",
];

/// Declares an exchange.
pub(super) async fn exchange(line: &Line, channel: &Channel, wanted: &Exchange) -> Result<(), BusError> {
    declare_exchange(channel, wanted).await.map_err(|fault| disagreed(line, &fault, &wanted.name))
}

/// How a declaration of a queue ended.
pub(super) enum Declared {
    /// The user may not declare it, and the broker has closed the channel: it may be there all the
    /// same.
    NotAllowed(BusError),
    /// It is there as it was declared.
    AsWanted,
    /// It differs in what may differ, and the broker has closed the channel: what it is like is in
    /// the arguments now.
    Differs(String),
}

/// Declares a queue with those arguments.
pub(super) async fn queue(
    line: &Line,
    channel: &Channel,
    wanted: &Queue,
    with: &mut FieldTable,
) -> Result<Declared, BusError> {
    let exclusive = wanted.kind.is_exclusive();
    let options = QueueDeclareOptions { durable: !exclusive, exclusive, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(short(&wanted.name)?, options, with.clone()).await;
    let Err(fault) = declared else { return Ok(Declared::AsWanted) };
    if code(&fault) == Some(ACCESS_REFUSED) {
        return Ok(Declared::NotAllowed(line.fault(&fault, "declare", &wanted.name)));
    }
    let text = fault.to_string();
    match difference(&text).filter(|found| TOLERATED.contains(&found.what)) {
        // The broker names one difference at a time, in no order: a worse one may stand behind it.
        Some(found) if code(&fault) == Some(PRECONDITION_FAILED) => {
            adopt(with, &found);
            Ok(Declared::Differs(found.to_string()))
        }
        _ => Err(disagreed(line, &fault, &wanted.name)),
    }
}

/// Takes what is found for what is wanted.
fn adopt(arguments: &mut FieldTable, found: &Difference<'_>) {
    // Built anew: nothing can be taken out of a `FieldTable`.
    let mut table = FieldTable::default();
    for (name, value) in arguments.inner().iter().filter(|(name, _)| name.as_str() != found.what) {
        table.insert(name.clone(), value.clone());
    }
    let value = found.found.trim_matches('\'');
    match (found.found, value.parse::<i64>()) {
        ("none", _) => {}
        (_, Ok(number)) => {
            table.insert(found.what.into(), AMQPValue::LongLongInt(number));
        }
        (_, Err(_)) => {
            table.insert(found.what.into(), text(value));
        }
    }
    *arguments = table;
}

/// Binds a queue that is there.
pub(super) async fn bind(line: &Line, channel: &Channel, wanted: &Queue) -> Result<(), BusError> {
    let name = short(&wanted.name)?;
    for (exchange, pattern) in &wanted.bindings {
        let (exchange, pattern) = (short(exchange)?, short(pattern)?);
        let bound = channel
            .queue_bind(name.clone(), exchange, pattern, QueueBindOptions::default(), FieldTable::default())
            .await;
        bound.map_err(|fault| line.fault(&fault, "bind", &wanted.name))?;
    }
    Ok(())
}

/// Takes a queue's bindings away; one that is not there is no fault.
pub(super) async fn unbind(line: &Line, channel: &Channel, queue: &Queue) -> Result<(), BusError> {
    let name = short(&queue.name)?;
    for (exchange, pattern) in &queue.bindings {
        let (exchange, pattern) = (short(exchange)?, short(pattern)?);
        let unbound = channel.queue_unbind(name.clone(), exchange, pattern, FieldTable::default()).await;
        unbound.map_err(|fault| line.fault(&fault, "unbind", &queue.name))?;
    }
    Ok(())
}

/// Binds one exchange to another, with an empty key.
pub(super) async fn bind_exchange(
    line: &Line,
    channel: &Channel,
    from: &str,
    to: &str,
) -> Result<(), BusError> {
    let (options, arguments) = (ExchangeBindOptions::default(), FieldTable::default());
    let (destination, source) = (short(to)?, short(from)?);
    let bound = channel.exchange_bind(destination, source, ShortString::default(), options, arguments).await;
    bound.map_err(|fault| line.fault(&fault, "bind", to))
}

/// Takes bindings from one exchange to another away; one that is not there is no fault.
pub(super) async fn unbind_exchange(
    line: &Line,
    channel: &Channel,
    from: &str,
    to: &str,
    patterns: &[String],
) -> Result<(), BusError> {
    let (source, destination) = (short(from)?, short(to)?);
    for pattern in patterns {
        let (source, destination) = (source.clone(), destination.clone());
        let (options, arguments) = (ExchangeUnbindOptions::default(), FieldTable::default());
        let unbound = channel.exchange_unbind(destination, source, short(pattern)?, options, arguments).await;
        unbound.map_err(|fault| line.fault(&fault, "unbind", to))?;
    }
    Ok(())
}

/// How many messages are ready in a queue, and how many listen; `None` where there is none of that
/// name.
pub(super) async fn counts(line: &Line, channel: &Channel, name: &str) -> Result<Option<Counts>, BusError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(short(name)?, options, FieldTable::default()).await {
        Ok(queue) => {
            Ok(Some(Counts { ready: queue.message_count().into(), consumers: queue.consumer_count().into() }))
        }
        Err(fault) if code(&fault) == Some(NOT_FOUND) => Ok(None),
        Err(fault) => Err(line.fault(&fault, "look at", name)),
    }
}

/// Whether the user may not declare an exchange: it may be there all the same.
pub(super) fn is_not_allowed(fault: &BusError) -> bool {
    matches!(fault, BusError::Refused { reason, .. } if reason.contains("ACCESS_REFUSED"))
}

/// Whether an exchange of that name is there, whatever its kind.
pub(super) async fn exists(line: &Line, channel: &Channel, name: &str) -> Result<bool, BusError> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    // A passive declaration ignores the kind.
    let kind = lapin::ExchangeKind::Topic;
    match channel.exchange_declare(short(name)?, kind, options, FieldTable::default()).await {
        Ok(()) => Ok(true),
        Err(fault) if code(&fault) == Some(NOT_FOUND) => Ok(false),
        Err(fault) => Err(line.fault(&fault, "look for exchange", name)),
    }
}

async fn declare_exchange(channel: &Channel, wanted: &Exchange) -> Result<(), lapin::Error> {
    let mut arguments = FieldTable::default();
    if let Some(alternate) = &wanted.alternate {
        arguments.insert("alternate-exchange".into(), text(alternate));
    }
    let kind = match wanted.kind {
        ExchangeKind::Topic | ExchangeKind::TemporaryTopic => lapin::ExchangeKind::Topic,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
    };
    let temporary = wanted.kind == ExchangeKind::TemporaryTopic;
    let options = ExchangeDeclareOptions {
        durable: !temporary,
        auto_delete: temporary,
        ..ExchangeDeclareOptions::default()
    };
    // A name that AMQP cannot carry is refused by the broker as an empty one is.
    let name = ShortString::try_new(wanted.name.as_str()).unwrap_or_default();
    channel.exchange_declare(name, kind, options, arguments).await
}

/// The arguments of a kind of queue on that broker.
pub(super) fn arguments(kind: &QueueKind, server: &Server) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut put = |name: &str, value: AMQPValue| {
        arguments.insert(name.into(), value);
    };
    match kind {
        QueueKind::Quorum | QueueKind::Lane { .. } | QueueKind::Last => {
            put("x-queue-type", text("quorum"));
            let last = *kind == QueueKind::Last;
            put("x-overflow", text(if last { "drop-head" } else { "reject-publish" }));
            if last {
                put("x-quorum-initial-group-size", AMQPValue::LongInt(REPLICAS));
                put("x-max-length", AMQPValue::LongLongInt(1));
            }
            if let QueueKind::Lane { dead } = kind {
                put("x-quorum-initial-group-size", AMQPValue::LongInt(REPLICAS));
                put("x-dead-letter-exchange", text(dead));
                // By default RabbitMQ may lose a dead letter; this one may be a stop.
                put("x-dead-letter-strategy", text("at-least-once"));
            }
            // Older brokers have no limit by default, and refuse a negative one.
            if server.major().is_some_and(|major| major >= DELIVERY_LIMIT_SINCE_MAJOR) {
                put("x-delivery-limit", AMQPValue::LongInt(-1));
            }
        }
        QueueKind::DropHead { bytes_max } => {
            put("x-queue-type", text("quorum"));
            put("x-quorum-initial-group-size", AMQPValue::LongInt(REPLICAS));
            put("x-max-length-bytes", AMQPValue::LongLongInt(i64::try_from(*bytes_max).unwrap_or(i64::MAX)));
            put("x-overflow", text("drop-head"));
        }
        QueueKind::Exclusive => {
            put("x-queue-type", text("classic"));
            put("x-max-length-bytes", AMQPValue::LongLongInt(EXCLUSIVE_BYTES_MAX));
            put("x-overflow", text("drop-head"));
        }
        QueueKind::Tap { bounds, dropped_to } => {
            put("x-queue-type", text("classic"));
            match bounds {
                TapBounds::Bytes(bytes) => {
                    let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
                    put("x-max-length-bytes", AMQPValue::LongLongInt(bytes));
                }
                TapBounds::Messages(count) => {
                    put("x-max-length", AMQPValue::LongLongInt(i64::from(*count)));
                }
            }
            put("x-overflow", text("drop-head"));
            if let Some((exchange, key)) = dropped_to {
                put("x-dead-letter-exchange", text(exchange));
                put("x-dead-letter-routing-key", text(key));
            }
        }
    }
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The broker's no to a declaration, in our words.
fn disagreed(line: &Line, fault: &lapin::Error, name: &str) -> BusError {
    match code(fault) {
        Some(PRECONDITION_FAILED) => {
            // Another reason, as a limit that is reached, is no difference: the broker's own words
            // say it.
            match difference(&fault.to_string()) {
                Some(found) => BusError::Mismatch { name: name.to_owned(), reason: found.to_string() },
                None => line.fault(fault, "declare", name),
            }
        }
        Some(RESOURCE_LOCKED) => BusError::Locked { name: name.to_owned() },
        _ => line.fault(fault, "declare", name),
    }
}

/// A property that is not as it was declared.
#[derive(Debug, PartialEq, Eq)]
struct Difference<'a> {
    what: &'a str,
    wanted: &'a str,
    found: &'a str,
}

impl std::fmt::Display for Difference<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, wanted, found } = self;
        write!(out, "`{what}` is {found}, and {wanted} is wanted")
    }
}

/// Reads RabbitMQ's words: `inequivalent arg 'X' for queue 'Q' in vhost 'V': received W but current
/// is F`.
fn difference<'a>(text: &'a str) -> Option<Difference<'a>> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (what, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("': received ")?;
    let (wanted, rest) = rest.split_once(" but current is ")?;
    let found = rest.split(['\n', '"', ',']).next().unwrap_or(rest);
    let plain = |value: &'a str| {
        value.trim_start_matches("the value ").split(" of type").next().unwrap_or(value).trim_end_matches('.')
    };
    Some(Difference { what, wanted: plain(wanted), found: plain(found) })
}

fn code(fault: &lapin::Error) -> Option<u16> {
    match fault.kind() {
        ErrorKind::ProtocolError(said) => Some(said.get_id()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_read_from_the_brokers_words() {
        let of = |text| difference(text).map(|found| (found.what, found.found, found.wanted));
        let words = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'a.b' in vhost '/': received the value 'quorum' of type 'longstr' but current is the value 'classic' of type 'longstr'";
        assert_eq!(of(words), Some(("x-queue-type", "'classic'", "'quorum'")));
        let words = "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost 'v': received the value '-1' of type 'signedint' but current is none";
        assert_eq!(of(words), Some(("x-delivery-limit", "none", "'-1'")));
        let words = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': received 'topic' but current is 'fanout'";
        assert_eq!(of(words), Some(("type", "'fanout'", "'topic'")));
        assert_eq!(of("PRECONDITION_FAILED - unknown"), None);
    }

    #[test]
    fn only_newer_brokers_are_told_of_a_delivery_limit() {
        let told = |version: Option<&str>| {
            let server = Server { version: version.map(str::to_owned), ..Server::default() };
            arguments(&QueueKind::Quorum, &server).contains_key("x-delivery-limit")
        };
        assert!(told(Some("4.0.1")) && told(Some("5.0.0")));
        assert!(!told(Some("3.13.7")) && !told(None));
    }
}
