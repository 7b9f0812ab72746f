//! Dispatch: onto the broker, by six ways that hold nothing of each other.
//!
//! Owns: what leaves together because of one lane's round (a job), which way each message takes,
//! and what the ways report.
//! Never: waits for the broker: a way takes what it is handed at once, whatever the broker does.
//! Holds: stops, other signals, forwarded results, metrics, the router's own words and refused
//! copies have tasks and channels of their own. What is in memory here is bounded: what its
//! delivery waits for by the prefetches, what it no longer waits for by the bounds of `queue`.

mod channels;
pub(super) mod queue;
pub(super) mod tracker;
mod way;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::link::Link;
use crate::{
    bus::Departure,
    contract::{
        command::Commands,
        lane::{Lane, Way},
        routing::{ControlPlaneRouting, Family},
        timestamp::Timestamp,
    },
    decision::state::{State, hold::Act, precedence::Precedence},
    ledger::Outgoing,
    telemetry::Telemetry,
};
pub use queue::Limits;
use way::Sender;

/// How many orders may wait at a way. It takes them at once, so this is only slack for the
/// scheduler.
const ORDERS_WAITING_MAX: usize = 64;

/// What one round of one lane leaves to be published.
#[derive(Debug, Default)]
pub(super) struct Job {
    /// Its number, given by the tracker.
    pub number: u64,
    pub lane: Lane,
    /// Which opening of its consumer the tag belongs to.
    pub opening: u64,
    /// The last delivery it answers; `None` for what no delivery caused.
    pub tag: Option<u64>,
    /// The outbox parcel that keeps its messages.
    pub parcel: Option<u64>,
    pub messages: Vec<Outbound>,
    /// Entries of messages that were taken out of it: they are neither published nor kept.
    pub withdrawn: BTreeSet<u64>,
}

impl Job {
    /// Takes messages out that are to leave no more.
    pub fn withdraw(&mut self, is_over: impl Fn(&Outbound) -> bool) {
        let over = self.messages.iter().filter(|message| is_over(message)).map(|message| message.seq);
        self.withdrawn.extend(over);
        self.messages.retain(|message| !is_over(message));
    }

    /// Asks of each message anew whether something holds it up.
    pub fn hold(&mut self, state: &State, now: Timestamp) {
        self.messages.iter_mut().for_each(|message| message.hold(state, now));
    }
}

/// One message on its way out.
#[derive(Clone, Debug)]
pub(super) struct Outbound {
    /// The job that it belongs to.
    pub job: u64,
    /// Its entry; 0 when it has none.
    pub seq: u64,
    /// Its ordinal there.
    pub ordinal: u32,
    /// Whether it is a command that is published no more once it has ended.
    pub ends: bool,
    /// What it does, where something may hold that up.
    pub act: Option<Box<Act>>,
    /// Whether something holds it up: it is not published, and waits for its target where it can.
    pub held: bool,
    /// What it gives way to, where too much waits.
    pub precedence: Precedence,
    pub departure: Departure,
}

impl Outbound {
    /// Whether it is a command: its return is reported with the message.
    pub fn is_signal(&self) -> bool {
        Family::claimed_by(&self.departure.message.routing_key) == Some(Family::Signal)
    }

    /// Whether its end is waited for, so that it may wait for its target.
    pub fn is_in_flight(&self) -> bool {
        self.ends && self.act.as_ref().is_none_or(|act| act.is_in_flight)
    }

    /// Asks anew whether something holds it up.
    pub fn hold(&mut self, state: &State, now: Timestamp) {
        self.held |= self.act.as_ref().is_some_and(|act| state.holds(act, now));
    }

    /// A message that leaves; the state knows whether it is a command in flight. A stop goes on all
    /// the same, and so does a copy of what was refused: it reaches no target.
    pub fn of(leaving: Outgoing, state: &State, refused: &str, now: Timestamp) -> Self {
        let mut outbound = Self::from(leaving);
        if !outbound.is_signal() || outbound.departure.message.exchange == refused {
            return outbound;
        }
        let message = &outbound.departure.message;
        let flight = state.flight(outbound.seq);
        let act = Act::of(&message.routing_key, flight, || said_at(&message.body), state.rules());
        outbound.act = act.map(Box::new);
        match flight {
            Some(flight) => {
                outbound.ends = !flight.always_passes;
                outbound.precedence = flight.precedence();
            }
            None => outbound.ends = outbound.act.is_some(),
        }
        outbound.hold(state, now);
        outbound
    }
}

impl From<Outgoing> for Outbound {
    fn from(leaving: Outgoing) -> Self {
        let Outgoing { seq, ordinal, mandatory, message } = leaving;
        let departure = Departure { message, mandatory };
        let precedence = Precedence::Ordinary;
        Self { job: 0, seq, ordinal, ends: false, act: None, held: false, precedence, departure }
    }
}

/// The `timestamp` of an envelope's body; `None` where it has none that can be read.
fn said_at(body: &[u8]) -> Option<Timestamp> {
    #[derive(serde::Deserialize)]
    struct Said {
        timestamp: Timestamp,
    }
    serde_json::from_slice::<Said>(body).ok().map(|said| said.timestamp)
}

impl From<Outbound> for Outgoing {
    fn from(outbound: Outbound) -> Self {
        let Outbound { seq, ordinal, departure: Departure { message, mandatory }, .. } = outbound;
        Self { seq, ordinal, mandatory, message }
    }
}

/// The way that a message of a lane's job takes.
fn way_of(message: &Outbound, lane: Lane, refused: &str, commands: &Commands) -> Way {
    let message = &message.departure.message;
    if message.exchange == refused {
        return Way::Refused;
    }
    match Family::claimed_by(&message.routing_key) {
        Some(Family::Signal) => match ControlPlaneRouting::parse(&message.routing_key) {
            Ok(key) if Lane::of(Family::Signal, &key.kind_type, commands) == Lane::Urgent => Way::Urgent,
            _ => Way::Signals,
        },
        Some(Family::Metric) => Way::Metrics,
        _ if lane == Lane::Results => Way::Results,
        _ => Way::Own,
    }
}

/// What became of messages.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Jobs that are durable and have so many messages fewer to wait for.
    pub done: Vec<(u64, usize)>,
    /// Jobs whose commit was given up.
    pub given_up: Vec<u64>,
    /// Messages of jobs that no queue took, by their jobs.
    pub returned: Vec<(u64, Outbound)>,
    /// Messages that their jobs need not wait for any more: the outbox keeps them, and they are
    /// still tried.
    pub set_aside: Vec<Outbound>,
    /// What became of those, by entry and ordinal.
    pub late: Vec<Late>,
    /// What the broker does not take.
    pub refused: Option<Trouble>,
}

impl Report {
    fn is_empty(&self) -> bool {
        let Self { done, given_up, returned, set_aside, late, refused } = self;
        done.is_empty()
            && given_up.is_empty()
            && returned.is_empty()
            && set_aside.is_empty()
            && late.is_empty()
            && refused.is_none()
    }

    /// One message fewer to wait for.
    fn one_done(&mut self, job: u64) {
        match self.done.last_mut() {
            Some((last, count)) if *last == job => *count += 1,
            _ => self.done.push((job, 1)),
        }
    }
}

/// The end of a message that was set aside.
#[derive(Debug)]
pub(super) enum Late {
    /// The broker took it.
    Carried { seq: u64, ordinal: u32 },
    /// No queue took it.
    Returned(Box<Outbound>),
    /// Too much waited: it is not tried any more.
    GivenUp(Box<Outbound>),
    /// It was taken back: its command has ended.
    Dropped { seq: u64, ordinal: u32 },
}

/// Messages that the broker does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Where they were published.
    pub exchange: String,
    /// The pattern of their keys.
    pub pattern: String,
    /// How many publishes of them failed since the last report.
    pub count: u64,
}

/// Commands that are to leave no more, by their entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Withdrawn {
    /// They have ended: nobody is to hear of them.
    pub ended: BTreeSet<u64>,
    /// Something holds them up: those to one instance wait for that, the rest is given up.
    pub held: BTreeSet<u64>,
}

impl Withdrawn {
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.held.is_empty()
    }
}

/// An order to a way; it is taken at once, whatever the broker does.
enum Order {
    /// To be published.
    Publish(Vec<Outbound>),
    /// To be published no more.
    Withdraw(Withdrawn),
}

/// The settings of the ways.
#[derive(Clone, Debug)]
pub struct DispatchSettings {
    /// How long a batch waits for its confirms.
    pub confirm_timeout: Duration,
    /// From when on a batch whose confirms stay away holds up no other.
    pub confirm_slow: Duration,
    /// How many batches of a way may wait for their confirms.
    pub batches_max: usize,
    /// How many messages one batch has. Fewer than the 400 that RabbitMQ takes for a channel that
    /// is stuck before it stops reading the whole connection.
    pub batch_count_max: usize,
    /// Bounds on what waits to be tried again.
    pub limits: Limits,
    /// How often a status is tried.
    pub metrics_attempts_max: u32,
    /// How often another message without an entry is tried.
    pub unrecorded_attempts_max: u32,
}

/// The ways out.
#[derive(Clone)]
pub(super) struct Dispatch {
    ways: [mpsc::Sender<Order>; 6],
    reports: mpsc::Sender<Report>,
    refused: Arc<str>,
    commands: Arc<Commands>,
}

impl Dispatch {
    /// Starts the tasks of all ways.
    pub fn start(
        settings: &DispatchSettings,
        link: &Link,
        reports: &mpsc::Sender<Report>,
        refused: &str,
        commands: &Commands,
        telemetry: &Arc<Telemetry>,
    ) -> (Self, Vec<tokio::task::JoinHandle<()>>) {
        let mut tasks = Vec::new();
        let ways = Way::ALL.map(|way| {
            let (send, orders) = mpsc::channel(ORDERS_WAITING_MAX);
            let sender = Sender::new(way, settings.clone(), link.clone(), reports.clone(), telemetry);
            tasks.push(tokio::spawn(sender.run(orders)));
            send
        });
        let (refused, commands) = (Arc::from(refused), Arc::new(commands.clone()));
        (Self { ways, reports: reports.clone(), refused, commands }, tasks)
    }

    /// Hands a job's messages to their ways. Waits for no broker: a way always takes what it is
    /// handed.
    pub async fn send(&self, job: Job) {
        let Job { number, lane, messages, .. } = job;
        if messages.is_empty() {
            // Told all the same: a lane's jobs are done in order, and later ones wait for this one.
            let report = Report { done: vec![(number, 0)], ..Report::default() };
            // A router that is gone waits for no job.
            let _ = self.reports.send(report).await;
            return;
        }
        let mut orders: [Vec<Outbound>; 6] = Default::default();
        for mut message in messages {
            message.job = number;
            let way = way_of(&message, lane, &self.refused, &self.commands);
            if let Some(order) = orders.get_mut(way as usize) {
                order.push(message);
            }
        }
        for (way, order) in self.ways.iter().zip(orders) {
            if !order.is_empty() {
                // A way that is gone means shutdown: the parcel is carried at the next boot.
                let _ = way.send(Order::Publish(order)).await;
            }
        }
    }

    /// Takes back what is to leave no more, wherever it waits.
    pub async fn withdraw(&self, withdrawn: Withdrawn) {
        // Only ordinary commands are ever taken back, and they leave by this way alone.
        if let Some(signals) = self.ways.get(Way::Signals as usize) {
            let _ = signals.send(Order::Withdraw(withdrawn)).await;
        }
    }
}
