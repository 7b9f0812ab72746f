//! Publishing: whole batches, whose confirms are awaited before any is believed.
//!
//! Owns: one publishing channel in confirm mode, and telling each message's fate.
//! Never: believes which confirm a return came with: lapin attributes returns to whichever confirm resolves next,
//! so under pipelining an unroutable message can get a clean confirm and a routed one its return.
//! Holds: once every confirm of a batch is in, its returns are matched by message-id; before that, no mandatory
//! message of the batch counts as carried.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt, future::join_all};
use lapin::{
    Channel, Confirmation, PublisherConfirm, message::BasicReturnMessage, options::BasicPublishOptions,
};

use super::{GOOD_BYE, properties, short};
use crate::bus::{BusError, Departure, Fate, Publisher};

/// Publishes.
pub(super) struct Speaking {
    channel: Channel,
}

impl Speaking {
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Writes one message; the confirm comes later.
    async fn send(&self, departure: &Departure) -> Result<PublisherConfirm, BusError> {
        let message = &departure.message;
        let (exchange, key) = (short(&message.exchange)?, short(&message.routing_key)?);
        let options = BasicPublishOptions { mandatory: departure.mandatory, immediate: false };
        let sent = self.channel.basic_publish(
            exchange,
            key,
            options,
            &message.body,
            properties::write(&message.properties)?,
        );
        sent.await.map_err(|fault| super::refused(&fault, "publish to", &message.exchange))
    }
}

#[async_trait]
impl Publisher for Speaking {
    async fn publish(&mut self, batch: &[&Departure], deadline: Duration) -> Result<Vec<Fate>, BusError> {
        let until = tokio::time::Instant::now() + deadline;
        // Polled in order, so written in order; awaited one by one they would cost a wake-up each.
        let sends = join_all(batch.iter().map(|departure| self.send(departure)));
        let Ok(sent) = tokio::time::timeout_at(until, sends).await else {
            return Ok(vec![Fate::Unknown; batch.len()]);
        };
        let mut confirms = sent.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut answers: Vec<Option<Confirmation>> = Vec::with_capacity(confirms.len());
        let mut late = false;
        for confirm in &mut confirms {
            let answer = if late {
                confirm.now_or_never()
            } else {
                tokio::time::timeout_at(until, &mut *confirm).await.ok()
            };
            late |= answer.is_none();
            match answer {
                Some(Ok(confirmation)) => answers.push(Some(confirmation)),
                Some(Err(fault)) => {
                    return Err(super::refused(&fault, "confirm on", "the publishing channel"));
                }
                None => answers.push(None),
            }
        }
        Ok(fates(batch, answers))
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        // Left open, an abandoned channel would hold its unconfirmed messages' bookkeeping for good.
        let channel = self.channel.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = channel.close(GOOD_BYE, "done".into()).await;
            });
        }
    }
}

/// Matches returns to messages by id, once every confirm is in.
fn fates(batch: &[&Departure], answers: Vec<Option<Confirmation>>) -> Vec<Fate> {
    let complete = answers.iter().all(Option::is_some);
    let mut returned = BTreeSet::new();
    let mut own = Vec::with_capacity(answers.len());
    for answer in answers {
        own.push(match answer {
            Some(Confirmation::Ack(back)) => {
                returned.extend(back.as_ref().and_then(id));
                Fate::Carried
            }
            Some(Confirmation::Nack(back)) => {
                returned.extend(back.as_ref().and_then(id));
                Fate::Rejected
            }
            Some(Confirmation::NotRequested) | None => Fate::Unknown,
        });
    }
    batch
        .iter()
        .zip(own)
        .map(|(departure, own)| {
            let named = departure.message.properties.message_id.as_ref();
            match own {
                Fate::Rejected => Fate::Rejected,
                _ if named.is_some_and(|id| returned.contains(id)) => Fate::Returned,
                Fate::Carried if departure.mandatory && !complete => Fate::Unknown,
                fate => fate,
            }
        })
        .collect()
}

fn id(back: &BasicReturnMessage) -> Option<String> {
    back.delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned())
}
