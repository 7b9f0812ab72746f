//! The plain relay that the router is measured against: lapin in, lapin out, nothing in between.
//!
//! Owns: carrying every delivery of the four lanes to `<prefix>.out`, with confirms, before it is acknowledged.
//! Never: looks at a message.
//! Holds: what a careful engineer would write in an afternoon: windows of confirms and cumulative acknowledgements.

use futures_util::{FutureExt, StreamExt, future::join_all};
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    },
    types::{FieldTable, ShortString},
};

use crate::{
    contract::lane::Lane,
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
        lanes.push(carry(stream, from, to, name(&format!("{}.out", args.prefix))));
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
            let (key, properties) = (delivery.routing_key.clone(), delivery.properties.clone());
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

/// The benchmark makes its own names, and they are short.
fn name(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}
