//! Consuming: batches of what is ready.
//!
//! Owns: one consuming channel, gathering deliveries under load, and settling them.
//! Never: waits for company at a low rate: a lone delivery is handed on at once.
//! Holds: tags are the channel's own, so a cumulative acknowledgement means what it says.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions},
};

use super::{GOOD_BYE, properties, refused};
use crate::{
    bus::{BusError, Consumer, Delivery, Settler},
    contract::message::Message,
};

/// A batch from which on the lane counts as loaded.
const LOADED_COUNT: usize = 8;
/// How often a loaded lane lets other tasks run before it hands a batch on: the cheapest way to let more arrive.
const GATHER_YIELDS: usize = 8;

/// Takes deliveries off a queue.
pub(super) struct Listening {
    channel: Channel,
    stream: lapin::Consumer,
    queue: String,
    last_count: usize,
}

impl Listening {
    pub fn new(channel: Channel, stream: lapin::Consumer, queue: &str) -> Self {
        Self { channel, stream, queue: queue.to_owned(), last_count: 0 }
    }

    /// Takes what is there without waiting.
    fn take_ready(&mut self, batch: &mut Vec<Delivery>, count_max: usize) -> Result<(), BusError> {
        while batch.len() < count_max {
            match self.stream.next().now_or_never() {
                Some(Some(Ok(found))) => batch.push(delivery(found)),
                Some(Some(Err(fault))) if batch.is_empty() => {
                    return Err(refused(&fault, "consume", &self.queue));
                }
                // What was taken goes on first; the end of the stream is met again at the next call.
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer for Listening {
    async fn next(&mut self, count_max: usize) -> Result<Vec<Delivery>, BusError> {
        let first = match self.stream.next().await {
            Some(Ok(found)) => delivery(found),
            Some(Err(fault)) => return Err(refused(&fault, "consume", &self.queue)),
            None if self.channel.status().connected() => {
                return Err(BusError::Cancelled { queue: self.queue.clone() });
            }
            // The settler closed the channel, or it is lost; whoever lost it has said so.
            None => return Ok(Vec::new()),
        };
        let mut batch = vec![first];
        self.take_ready(&mut batch, count_max)?;
        if self.last_count >= LOADED_COUNT {
            for _ in 0..GATHER_YIELDS {
                if batch.len() >= count_max {
                    break;
                }
                tokio::task::yield_now().await;
                self.take_ready(&mut batch, count_max)?;
            }
        }
        self.last_count = batch.len();
        Ok(batch)
    }

    fn settler(&self) -> Box<dyn Settler> {
        Box::new(Hold::new(self.channel.clone()))
    }
}

/// Settles what a channel delivered.
pub(super) struct Hold(Channel);

impl Hold {
    pub fn new(channel: Channel) -> Self {
        Self(channel)
    }
}

#[async_trait]
impl Settler for Hold {
    async fn ack(&self, tag: u64, multiple: bool) -> Result<(), BusError> {
        let acked = self.0.basic_ack(tag, BasicAckOptions { multiple }).await;
        acked.map_err(|fault| refused(&fault, "acknowledge on", "the consuming channel"))
    }

    async fn requeue(&self, tag: u64, multiple: bool) -> Result<(), BusError> {
        let given = self.0.basic_nack(tag, BasicNackOptions { multiple, requeue: true }).await;
        given.map_err(|fault| refused(&fault, "requeue on", "the consuming channel"))
    }

    async fn close(&self) {
        let _ = self.0.close(GOOD_BYE, "lane closed".into()).await;
    }
}

/// Lapin's delivery as ours.
pub(super) fn delivery(found: lapin::message::Delivery) -> Delivery {
    Delivery {
        tag: found.delivery_tag,
        redelivered: found.redelivered,
        message: Message {
            exchange: found.exchange.to_string(),
            routing_key: found.routing_key.to_string(),
            properties: properties::read(&found.properties),
            body: Bytes::from(found.data),
        },
    }
}
