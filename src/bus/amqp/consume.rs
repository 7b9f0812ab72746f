//! Consuming: batches of what is ready.
//!
//! Owns: one consuming channel, taking its deliveries and settling them.
//! Never: waits for company: what is there is handed on at once (`socket` lets more come under
//! load).
//! Holds: tags are the channel's own, so a cumulative acknowledgement means what it says; a call to
//! `next` that is dropped loses nothing: what it had taken is in the next answer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::Fuse};
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions},
    types::ShortString,
};

use super::{CLOSE_TIMEOUT_MS, GOOD_BYE, connection::Line, properties};
use crate::{
    bus::{BusError, Consumer, Delivery, Settler},
    contract::message::Message,
};

/// Takes deliveries off a queue.
pub(super) struct Listening {
    line: Arc<Line>,
    channel: Channel,
    /// Its end may be met behind what is taken, and is asked for again then: without `Fuse` that
    /// never returns, and the queue has nobody who takes from it.
    stream: Fuse<lapin::Consumer>,
    queue: String,
    /// Taken and not yet handed on.
    taken: Vec<Delivery>,
    /// Met behind what was taken: the next call returns it.
    fault: Option<BusError>,
}

impl Listening {
    pub fn new(line: Arc<Line>, channel: Channel, stream: lapin::Consumer, queue: &str) -> Self {
        let (stream, queue, taken) = (stream.fuse(), queue.to_owned(), Vec::new());
        Self { line, channel, stream, queue, taken, fault: None }
    }

    /// Books what the stream said; `false` when it said that there is nothing more.
    fn book(&mut self, said: Option<lapin::Result<lapin::message::Delivery>>) -> bool {
        match said {
            Some(Ok(found)) => self.taken.push(delivery(found)),
            Some(Err(fault)) => self.fault = Some(self.line.fault(&fault, "consume", &self.queue)),
            // The stream ended and the channel did not: the broker has cancelled the consumer.
            None if self.channel.status().connected() => {
                self.fault = Some(BusError::Cancelled { queue: self.queue.clone() });
            }
            None if !self.line.connection.status().connected() => {
                self.fault = Some(self.line.lost("the connection ended"));
            }
            // Our own settler closed the channel.
            None => return false,
        }
        self.fault.is_none()
    }

    /// Takes what is there without waiting.
    fn take_ready(&mut self, count_max: usize) {
        while self.taken.len() < count_max
            && let Some(said) = self.stream.next().now_or_never()
            && self.book(said)
        {}
    }
}

#[async_trait]
impl Consumer for Listening {
    async fn next(&mut self, count_max: usize) -> Result<Vec<Delivery>, BusError> {
        let count_max = count_max.max(1);
        if self.taken.is_empty() {
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            let said = self.stream.next().await;
            if !self.book(said) {
                return self.fault.take().map_or_else(|| Ok(Vec::new()), Err);
            }
        }
        if self.fault.is_none() {
            self.take_ready(count_max);
        }
        let count = self.taken.len().min(count_max);
        self.line.load.count(count);
        Ok(self.taken.drain(..count).collect())
    }

    fn settler(&self) -> Box<dyn Settler> {
        Box::new(Hold::new(Arc::clone(&self.line), self.channel.clone()))
    }
}

/// Settles what a channel delivered.
pub(super) struct Hold {
    line: Arc<Line>,
    channel: Channel,
}

impl Hold {
    pub fn new(line: Arc<Line>, channel: Channel) -> Self {
        Self { line, channel }
    }
}

#[async_trait]
impl Settler for Hold {
    async fn ack(&self, tag: u64, multiple: bool) -> Result<(), BusError> {
        let acked = self.channel.basic_ack(tag, BasicAckOptions { multiple }).await;
        acked.map_err(|fault| self.line.fault(&fault, "acknowledge on", "the consuming channel"))
    }

    async fn requeue(&self, tag: u64, multiple: bool) -> Result<(), BusError> {
        let given = self.channel.basic_nack(tag, BasicNackOptions { multiple, requeue: true }).await;
        given.map_err(|fault| self.line.fault(&fault, "requeue on", "the consuming channel"))
    }

    async fn close(&self) {
        let closing = self.channel.close(GOOD_BYE, ShortString::default());
        // A channel that is gone needs no good-bye, and a frozen broker hears none.
        let _ = tokio::time::timeout(Duration::from_millis(CLOSE_TIMEOUT_MS), closing).await;
    }
}

/// Lapin's delivery as ours.
pub(super) fn delivery(found: lapin::message::Delivery) -> Delivery {
    Delivery {
        tag: found.delivery_tag,
        redelivered: found.redelivered,
        message: Message {
            exchange: found.exchange.into(),
            routing_key: found.routing_key.into(),
            properties: properties::read(&found.properties),
            body: Bytes::from(found.data),
        },
    }
}
