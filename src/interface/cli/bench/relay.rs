//! The plain relay that the router is measured against: lapin in, lapin out, nothing in between.
//!
//! Owns: carrying every delivery of the four lanes to `<prefix>.out`, with confirms, before it is
//! acknowledged; marked with as many headers as the router's, where that is asked for.
//! Never: looks at a body.
//! Holds: what a careful engineer would write in an afternoon: windows of confirms and cumulative
//! acknowledgements.

use futures_util::{FutureExt, StreamExt, future::join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use crate::{
    contract::{lane::Lane, passage, routing::Family},
    interface::cli::{CliError, Exit, Globals},
    runtime::topology,
};

/// Deliveries carried in one window.
const WINDOW_COUNT: usize = 256;

/// The benchmark's plain relay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The prefix of the names on the broker.
    #[arg(long)]
    prefix: String,
    /// Prefetch of each lane.
    #[arg(long)]
    prefetch: u16,
    /// Write the headers that the router would write.
    #[arg(long)]
    marked: bool,
}

/// Relays until it is killed.
///
/// # Errors
/// When the broker cannot be used.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let loaded = globals.config()?;
    let url = loaded.config.amqp.url.expose();
    let relayed = relay(url, &args).await;
    relayed.map_err(|fault| CliError::Stream(format!("the relay failed: {fault}")))?;
    Ok(Exit::Done)
}

async fn relay(url: &str, args: &Args) -> lapin::Result<()> {
    let consuming = Connection::connect(url, ConnectionProperties::default()).await?;
    let publishing = Connection::connect(url, ConnectionProperties::default()).await?;
    let mut lanes = Vec::new();
    for lane in Lane::ALL {
        let (from, to) = (consuming.create_channel().await?, publishing.create_channel().await?);
        from.basic_qos(args.prefetch, BasicQosOptions::default()).await?;
        to.confirm_select(ConfirmSelectOptions::default()).await?;
        let queue = name(&topology::lane_queue(&args.prefix, lane));
        let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
        let stream = from.basic_consume(queue, tag, options, FieldTable::default()).await?;
        let properties = if args.marked { marked } else { plain };
        lanes.push(carry(stream, from, to, name(&format!("{}.out", args.prefix)), properties));
    }
    for done in join_all(lanes).await {
        done?;
    }
    Ok(())
}

async fn carry(
    mut stream: lapin::Consumer,
    from: Channel,
    to: Channel,
    out: ShortString,
    properties: fn(Delivered<'_>) -> BasicProperties,
) -> lapin::Result<()> {
    while let Some(first) = stream.next().await {
        let mut window = vec![first?];
        while window.len() < WINDOW_COUNT
            && let Some(Some(next)) = stream.next().now_or_never()
        {
            window.push(next?);
        }
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let sends = join_all(window.iter().map(|delivery| {
            let key = delivery.routing_key.clone();
            let properties = properties((key.as_str(), delivery.delivery_tag, &delivery.properties));
            to.basic_publish(out.clone(), key, options, &delivery.data, properties)
        }));
        for confirm in sends.await {
            confirm?.await?;
        }
        if let Some(last) = window.last() {
            from.basic_ack(last.delivery_tag, BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}

/// Key, tag and properties of what came.
type Delivered<'a> = (&'a str, u64, &'a BasicProperties);

fn plain((.., properties): Delivered<'_>) -> BasicProperties {
    properties.clone()
}

/// As many headers as the router's, as long as they are (`passage::onward`), and a message-id of
/// the router's length.
fn marked((key, tag, properties): Delivered<'_>) -> BasicProperties {
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut properties = properties.clone();
    let mut headers = FieldTable::default();
    if Family::claimed_by(key) != Some(Family::Metric) {
        let sent_as = properties.message_id().as_ref().map_or("", |id| id.as_str()).to_owned();
        headers.insert(passage::MESSAGE_ID.into(), text(&sent_as));
        headers.insert(passage::SEQ.into(), AMQPValue::LongLongInt(tag.cast_signed()));
        properties = properties.with_message_id(name(&format!("{}.{sent_as}.0", "0".repeat(32))));
    }
    headers.insert(passage::PRINCIPAL.into(), text("orchestrator-1"));
    headers.insert(passage::VERDICT.into(), text("forward"));
    properties.with_headers(headers)
}

/// The benchmark makes its own names, and they are short.
fn name(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{
        audit::Verdict,
        message::{Message, Properties},
        passage::Stamp,
    };

    #[test]
    fn the_marked_relay_writes_what_the_router_writes() {
        for (key, family) in [
            ("signal.config-update.a.b.c", Family::Signal),
            ("event.outcome.config-update.a.b.c", Family::Outcome),
            ("event.metric.status-full.a.b.c", Family::Metric),
        ] {
            let sent = BasicProperties::default().with_message_id(name("7"));
            let relayed = marked((key, 7, &sent));
            let stamp = Stamp {
                exchange: "out",
                message_id: Some(format!("{}.7.0", "0".repeat(32))),
                seq: (family != Family::Metric).then_some(7),
                principal: Some("orchestrator-1"),
                verdict: Verdict::Forward,
            };
            let message = Message {
                exchange: String::new(),
                routing_key: key.to_owned(),
                properties: Properties { message_id: Some("7".to_owned()), ..Properties::default() },
                body: bytes::Bytes::new(),
            };
            let carried = passage::onward(message, family, &stamp).properties;
            let headers =
                relayed.headers().as_ref().map(|headers| headers.inner().clone()).unwrap_or_default();
            let mut names: Vec<&str> = carried.headers.iter().map(|(name, _)| &**name).collect();
            names.sort_unstable();
            assert_eq!(headers.keys().map(ShortString::as_str).collect::<Vec<_>>(), names, "{key}");
            assert_eq!(relayed.message_id().as_ref().map(ShortString::as_str), carried.message_id.as_deref());
        }
    }
}
