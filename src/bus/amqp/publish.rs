//! Publishing: whole batches, whose confirms are awaited before any is believed.
//!
//! Owns: one publishing channel in confirm mode, and telling each message's fate.
//! Never: believes which confirm a return came with: lapin attributes returns to whichever confirm
//! resolves next, so under pipelining an unroutable message can get a clean confirm and a routed
//! one its return.
//! Holds: once every confirm of a batch is in, its returns are matched by message-id; before that,
//! no mandatory message of the batch counts as carried. A channel with confirms outstanding is
//! given up or believed no more, so that a late return of one batch is never taken for another's,
//! and nothing is written while the broker blocks.

use std::{
    collections::BTreeSet,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use async_trait::async_trait;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::time::{Instant, timeout_at};

use super::{connection::Line, properties, short};
use crate::bus::{BusError, Departure, Fate, Publisher};

/// Publishes.
pub(super) struct Speaking {
    line: Arc<Line>,
    lasting: bool,
    /// Held while a channel is opened, so that batches that overlap open one.
    opening: tokio::sync::Mutex<()>,
    place: Mutex<Place>,
}

/// The present channel, opened by the first batch, and what is not known of it.
#[derive(Default)]
struct Place {
    channel: Option<Channel>,
    /// Counts the channels, so that a batch on an earlier one books nothing here.
    number: u64,
    /// Batches under way.
    users: usize,
    /// Whether batches overlapped, or one ended without all its confirms: a return may be anybody's
    /// from then on.
    suspect: bool,
    /// Messages whose fate is not known.
    unresolved: usize,
}

/// A batch's hold on a channel. What it does not resolve stays unresolved, also where it is dropped
/// half way.
struct Hold<'a> {
    place: &'a Mutex<Place>,
    number: u64,
    count: usize,
    resolved: usize,
}

impl Speaking {
    pub fn new(line: Arc<Line>) -> Self {
        let (opening, place) = Default::default();
        Self { line, lasting: false, opening, place }
    }

    /// The channel, as soon as the broker lets us publish, and a hold on it for so many messages.
    async fn ready(&self, count: usize) -> Result<(Channel, Hold<'_>), BusError> {
        // Lapin keeps in memory what it may not write, without a bound: better not to hand it
        // anything.
        self.line.unblocked().await;
        let _opening = self.opening.lock().await;
        if let Some(ready) = self.take(count) {
            return Ok(ready);
        }
        let channel = self.line.connection.create_channel().await.map_err(|fault| self.line.lost(fault))?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|fault| self.line.fault(&fault, "confirm on", "the publishing channel"))?;
        {
            let mut place = locked(&self.place);
            *place = Place { channel: Some(channel), number: place.number + 1, ..Place::default() };
        }
        self.take(count).ok_or_else(|| self.line.lost("the channel was closed at once"))
    }

    /// The present channel, where it may be used.
    fn take(&self, count: usize) -> Option<(Channel, Hold<'_>)> {
        let mut place = locked(&self.place);
        // Everything that was published has its fate: no return is on its way.
        place.suspect &= place.users > 0 || place.unresolved > 0;
        let usable = self.lasting || !place.suspect;
        let channel =
            place.channel.as_ref().filter(|channel| usable && channel.status().connected())?.clone();
        place.suspect |= place.users > 0;
        place.users += 1;
        place.unresolved += count;
        Some((channel, Hold { place: &self.place, number: place.number, count, resolved: 0 }))
    }
}

impl Hold<'_> {
    /// Whether each return that the batch has heard of is known to be its own.
    fn is_alone(&self) -> bool {
        let place = locked(self.place);
        place.number == self.number && !place.suspect
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut place = locked(self.place);
        if place.number == self.number {
            // A channel that was replaced has counters of its own, which this batch is not in.
            place.users -= 1;
            place.unresolved -= self.resolved;
            place.suspect |= self.resolved < self.count;
        }
    }
}

fn locked(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    // Counters and a handle: a panic elsewhere leaves them good enough.
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Publisher for Speaking {
    async fn publish(&self, batch: &[&Departure], deadline: Duration) -> Result<Vec<Fate>, BusError> {
        let until = Instant::now() + deadline;
        let Ok(ready) = timeout_at(until, self.ready(batch.len())).await else {
            // Nothing was written, yet `Unknown` is right: who asked keeps it and tries again.
            return Ok(vec![Fate::Unknown; batch.len()]);
        };
        let (channel, mut hold) = ready?;
        let mut round = Round::new(&channel, batch);
        let confirmed = timeout_at(until, std::future::poll_fn(|task| round.poll(task))).await;
        if let Ok(Err(fault)) = confirmed {
            // Nothing is booked as resolved: on a channel that failed each may have left.
            return Err(self.line.fault(&fault, "publish on", "the publishing channel"));
        }
        // The round waits for its last message: when time is up others may have fates that nobody
        // has looked at.
        if confirmed.is_err() {
            round.take_ready();
        }
        hold.resolved = round.resolved();
        let believed = confirmed.is_ok() && hold.is_alone();
        Ok(round.fates(batch, believed))
    }

    fn set_lasting(&mut self) {
        self.lasting = true;
    }

    fn unresolved(&self) -> usize {
        locked(&self.place).unresolved
    }
}

type Writing<'a> = Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send + 'a>>;

/// One message's way through a round.
enum Flight<'a> {
    Writing(Writing<'a>),
    Written(PublisherConfirm),
    Told(Fate),
}

/// One batch under way.
struct Round<'a> {
    flights: Vec<Flight<'a>>,
    /// The first that has no fate yet; those behind it may have theirs.
    cursor: usize,
    started: bool,
    returned: BTreeSet<String>,
}

impl<'a> Round<'a> {
    fn new(channel: &'a Channel, batch: &[&'a Departure]) -> Self {
        let flights = batch.iter().map(|departure| match Frames::of(departure) {
            Ok(frames) => Flight::Writing(Box::pin(frames.publish(channel, departure))),
            Err(_) => Flight::Told(Fate::Unsendable),
        });
        Self { flights: flights.collect(), cursor: 0, started: false, returned: BTreeSet::new() }
    }

    /// Writes all in order at the first poll, then waits for the fate of the last: by then those of
    /// the others are mostly in. Nobody is woken for each of them as it is written and confirmed.
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<lapin::Result<()>> {
        if !self.started {
            self.started = true;
            // Nobody is woken from here: the last one's poll below has the real waker, and the
            // loop after it asks the others again.
            let mut quiet = Context::from_waker(Waker::noop());
            for index in 0..self.flights.len() {
                if let Poll::Ready(Err(fault)) = self.poll_one(index, &mut quiet) {
                    return Poll::Ready(Err(fault));
                }
            }
        }
        ready!(self.poll_one(self.flights.len().saturating_sub(1), task))?;
        while self.cursor < self.flights.len() {
            ready!(self.poll_one(self.cursor, task))?;
            self.cursor += 1;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the fates that are known by now.
    fn take_ready(&mut self) {
        let mut task = Context::from_waker(Waker::noop());
        for index in self.cursor..self.flights.len() {
            // A fault here is a fate nobody heard of: it stays unknown.
            let _ = self.poll_one(index, &mut task);
        }
    }

    fn poll_one(&mut self, index: usize, task: &mut Context<'_>) -> Poll<lapin::Result<()>> {
        let Some(flight) = self.flights.get_mut(index) else { return Poll::Ready(Ok(())) };
        if let Flight::Writing(writing) = flight {
            *flight = Flight::Written(ready!(writing.as_mut().poll(task))?);
        }
        if let Flight::Written(confirm) = flight {
            let (fate, back) = match ready!(pin!(confirm).poll(task))? {
                Confirmation::Ack(back) => (Fate::Carried, back),
                Confirmation::Nack(back) => (Fate::Rejected, back),
                Confirmation::NotRequested => (Fate::Unknown, None),
            };
            self.returned.extend(back.as_ref().and_then(id));
            *flight = Flight::Told(fate);
        }
        Poll::Ready(Ok(()))
    }

    /// How many have their fate.
    fn resolved(&self) -> usize {
        self.flights.iter().filter(|flight| matches!(flight, Flight::Told(_))).count()
    }

    /// Matches returns to messages by id. What is confirmed is `believed` where no return can have
    /// gone astray.
    fn fates(self, batch: &[&Departure], believed: bool) -> Vec<Fate> {
        let returned = self.returned;
        let told = self.flights.into_iter().map(|flight| match flight {
            Flight::Told(fate) => fate,
            Flight::Writing(_) | Flight::Written(_) => Fate::Unknown,
        });
        told.zip(batch)
            .map(|(fate, departure)| {
                let id = departure.message.properties.message_id.as_ref();
                match fate {
                    Fate::Rejected | Fate::Unsendable => fate,
                    // Its own id came back: that is known, whatever else may have gone astray.
                    _ if departure.mandatory && id.is_some_and(|id| returned.contains(id)) => Fate::Returned,
                    Fate::Carried if departure.mandatory && !believed => Fate::Unknown,
                    fate => fate,
                }
            })
            .collect()
    }
}

/// A message in lapin's terms, but for its body, which is borrowed.
struct Frames {
    exchange: ShortString,
    key: ShortString,
    properties: BasicProperties,
}

impl Frames {
    fn of(departure: &Departure) -> Result<Self, BusError> {
        let message = &departure.message;
        Ok(Self {
            exchange: short(&message.exchange)?,
            key: short(&message.routing_key)?,
            properties: properties::write(&message.properties)?,
        })
    }

    async fn publish(self, channel: &Channel, departure: &Departure) -> lapin::Result<PublisherConfirm> {
        let options = BasicPublishOptions { mandatory: departure.mandatory, immediate: false };
        let Self { exchange, key, properties } = self;
        channel.basic_publish(exchange, key, options, &departure.message.body, properties).await
    }
}

fn id(back: &BasicReturnMessage) -> Option<String> {
    back.properties.message_id().as_ref().map(ToString::to_string)
}
