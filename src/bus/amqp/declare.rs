//! Declaring: the topology on the broker, and whether what is there agrees.
//!
//! Owns: the arguments that each kind of queue and exchange has on RabbitMQ.
//! Never: deletes, purges or changes anything that is there.
//! Holds: whatever stands under a declared name afterwards has the declared properties, or the answer names it.

use lapin::{
    Channel, ErrorKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    connection::{Line, Server},
    short,
};
use crate::bus::{BusError, Exchange, ExchangeKind, Queue, QueueKind, Topology};

/// AMQP's reply code for a name that is not there.
const NOT_FOUND: u16 = 404;
/// AMQP's reply code for a declaration that differs from what is there.
const PRECONDITION_FAILED: u16 = 406;
/// From this major version on, quorum queues drop what was redelivered twenty times unless told not to.
const DELIVERY_LIMIT_SINCE_MAJOR: u32 = 4;
/// What an exclusive queue keeps for a reader that does not read.
const EXCLUSIVE_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// Declares a topology on one channel, which the broker closes at the first disagreement.
pub(super) async fn all(
    line: &Line,
    channel: &Channel,
    server: &Server,
    topology: &Topology,
) -> Result<(), BusError> {
    for wanted in &topology.exchanges {
        exchange(channel, wanted).await.map_err(|fault| disagreed(line, &fault, &wanted.name))?;
    }
    for wanted in &topology.queues {
        queue(line, channel, server, wanted).await?;
    }
    Ok(())
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

async fn exchange(channel: &Channel, wanted: &Exchange) -> Result<(), lapin::Error> {
    let mut arguments = FieldTable::default();
    if let Some(alternate) = &wanted.alternate {
        arguments.insert("alternate-exchange".into(), text(alternate));
    }
    let kind = match wanted.kind {
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
    };
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    // A name that AMQP cannot carry is refused by the broker as an empty one is.
    let name = ShortString::try_new(wanted.name.as_str()).unwrap_or_default();
    channel.exchange_declare(name, kind, options, arguments).await
}

async fn queue(line: &Line, channel: &Channel, server: &Server, wanted: &Queue) -> Result<(), BusError> {
    let name = short(&wanted.name)?;
    let exclusive = wanted.kind == QueueKind::Exclusive;
    let options = QueueDeclareOptions {
        durable: !exclusive,
        exclusive,
        auto_delete: exclusive,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(name.clone(), options, arguments(wanted.kind, server)).await;
    declared.map_err(|fault| disagreed(line, &fault, &wanted.name))?;
    for (exchange, pattern) in &wanted.bindings {
        let (exchange, pattern) = (short(exchange)?, short(pattern)?);
        let bound = channel
            .queue_bind(name.clone(), exchange, pattern, QueueBindOptions::default(), FieldTable::default())
            .await;
        bound.map_err(|fault| line.fault(&fault, "bind", &wanted.name))?;
    }
    Ok(())
}

fn arguments(kind: QueueKind, server: &Server) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut bounded = |bytes_max: i64| {
        arguments.insert("x-queue-type".into(), text("classic"));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes_max));
        arguments.insert("x-overflow".into(), text("drop-head"));
    };
    match kind {
        QueueKind::Quorum => {
            arguments.insert("x-queue-type".into(), text("quorum"));
            arguments.insert("x-overflow".into(), text("reject-publish"));
            // Older brokers have no limit by default, and refuse a negative one.
            if server.major().is_some_and(|major| major >= DELIVERY_LIMIT_SINCE_MAJOR) {
                arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
            }
        }
        QueueKind::DropHead { bytes_max } => bounded(i64::try_from(bytes_max).unwrap_or(i64::MAX)),
        QueueKind::Exclusive => bounded(EXCLUSIVE_BYTES_MAX),
    }
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The broker's no to a declaration, in our words.
fn disagreed(line: &Line, fault: &lapin::Error, name: &str) -> BusError {
    if code(fault) == Some(PRECONDITION_FAILED) {
        return BusError::Mismatch { name: name.to_owned(), reason: fault.to_string() };
    }
    line.fault(fault, "declare", name)
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
    fn only_newer_brokers_are_told_of_a_delivery_limit() {
        let told = |version: Option<&str>| {
            let server = Server { version: version.map(str::to_owned), ..Server::default() };
            arguments(QueueKind::Quorum, &server).contains_key("x-delivery-limit")
        };
        assert!(told(Some("4.0.1")) && told(Some("5.0.0")));
        assert!(!told(Some("3.13.7")) && !told(None));
    }
}
