//! Dispatch: onto the broker, one task a lane, in order.
//!
//! Owns: a lane's publishing channel, the batch of confirms, and trying again what did not leave.
//! Never: believes a publish before the whole batch's confirms are in, or gives up what has an entry.
//! Holds: messages to one key leave in the order of their entries; a message that is tried again holds back later
//! ones to the same key, and nothing else.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use super::link::{Link, Settlement};
use crate::{
    bus::{Bus, Departure, Fate, Publisher},
    contract::{lane::Lane, routing::Family},
    ledger::Outgoing,
    telemetry::Telemetry,
};

/// What one round of one lane leaves to be carried.
#[derive(Debug, Default)]
pub(super) struct Job {
    /// The lane.
    pub lane: Lane,
    /// Which opening of its consumer the tag belongs to.
    pub opening: u64,
    /// The last delivery it answers; `None` for what no delivery caused.
    pub tag: Option<u64>,
    /// The outbox parcel that keeps its messages.
    pub parcel: Option<u64>,
    /// The messages.
    pub flights: Vec<Flight>,
}

/// One message on its way.
#[derive(Debug)]
pub(super) struct Flight {
    /// Its entry; 0 when it has none.
    pub seq: u64,
    /// Its ordinal there.
    pub ordinal: u32,
    /// Whether it is a command: its return is told.
    pub is_signal: bool,
    /// The message.
    pub departure: Departure,
}

impl From<Outgoing> for Flight {
    fn from(leaving: Outgoing) -> Self {
        let is_signal = Family::claimed_by(&leaving.message.routing_key) == Some(Family::Signal);
        let Outgoing { seq, ordinal, mandatory, message } = leaving;
        Self { seq, ordinal, is_signal, departure: Departure { message, mandatory } }
    }
}

impl From<Flight> for Outgoing {
    fn from(flight: Flight) -> Self {
        let Flight { seq, ordinal, departure: Departure { message, mandatory }, .. } = flight;
        Self { seq, ordinal, mandatory, message }
    }
}

/// Jobs that are done.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// How many.
    pub jobs: usize,
    /// Entries whose messages all left.
    pub spans: Vec<(u64, u64)>,
    /// Messages that no queue took.
    pub returned: Vec<(u64, u32)>,
    /// The signals among them.
    pub returned_signals: Vec<Outgoing>,
    /// Parcels that need no longer be kept.
    pub parcels: Vec<u64>,
    /// What may be acknowledged.
    pub settlement: Option<Settlement>,
}

/// The way to the four dispatchers.
#[derive(Clone)]
pub(super) struct Dispatch(pub [mpsc::Sender<Job>; 4]);

impl Dispatch {
    /// Hands a job to its lane's dispatcher.
    pub async fn send(&self, job: Job) {
        if let Some(lane) = self.0.get(job.lane as usize) {
            // A closed dispatcher means shutdown: the job's parcel is carried at the next boot.
            let _ = lane.send(job).await;
        }
    }
}

/// One lane's dispatcher.
pub(super) struct Dispatcher {
    pub lane: Lane,
    pub link: Link,
    pub jobs: mpsc::Receiver<Job>,
    pub reports: mpsc::Sender<Report>,
    pub confirm_timeout: Duration,
    pub batch_count_max: usize,
    pub telemetry: Arc<Telemetry>,
}

/// A job under way: its flights are among `waiting` until they have a fate.
struct Progress {
    job: Job,
    remaining: usize,
    returned: Vec<(u64, u32)>,
    returned_signals: Vec<Outgoing>,
    span: Option<(u64, u64)>,
}

/// A flight, with the number of its job and whether it was tried before.
struct Waiting {
    number: u64,
    flight: Flight,
    tried: bool,
}

/// The publishing channel and whose it is.
struct Channel {
    generation: u64,
    bus: Arc<dyn Bus>,
    publisher: Box<dyn Publisher>,
}

impl Dispatcher {
    /// Carries jobs until there are no more and all are done.
    pub async fn run(mut self) {
        let mut under_way: VecDeque<Progress> = VecDeque::new();
        let mut waiting: Vec<Waiting> = Vec::new();
        let (mut first, mut failures, mut channel) = (0_u64, 0_u32, None);
        loop {
            if waiting.is_empty() {
                let Some(job) = self.jobs.recv().await else { return };
                self.begin(job, first, &mut under_way, &mut waiting);
            } else if failures > 0 {
                tokio::time::sleep(pause(failures)).await;
            }
            while waiting.len() < self.batch_count_max
                && let Ok(job) = self.jobs.try_recv()
            {
                self.begin(job, first, &mut under_way, &mut waiting);
            }
            let failed = self.carry(&mut channel, first, &mut under_way, &mut waiting).await;
            failures = if failed { failures.saturating_add(1) } else { 0 };
            let report = finish(&mut under_way, &mut first, self.lane);
            if report.jobs > 0 && self.reports.send(report).await.is_err() {
                return;
            }
        }
    }

    fn begin(
        &self,
        mut job: Job,
        first: u64,
        under_way: &mut VecDeque<Progress>,
        waiting: &mut Vec<Waiting>,
    ) {
        let number = first + under_way.len() as u64;
        let flights = std::mem::take(&mut job.flights);
        let written = flights.iter().filter(|flight| flight.seq > 0).map(|flight| flight.seq);
        let span = written.clone().min().zip(written.max());
        let (remaining, returned, returned_signals) = (flights.len(), Vec::new(), Vec::new());
        under_way.push_back(Progress { job, remaining, returned, returned_signals, span });
        waiting.extend(flights.into_iter().map(|flight| Waiting { number, flight, tried: false }));
    }

    /// Publishes what waits, at most one message to a key that is being tried again. Answers whether anything has to
    /// be tried again.
    async fn carry(
        &mut self,
        channel: &mut Option<Channel>,
        first: u64,
        under_way: &mut VecDeque<Progress>,
        waiting: &mut Vec<Waiting>,
    ) -> bool {
        if waiting.is_empty() {
            return false;
        }
        let Some(open) = self.open(channel).await else { return true };
        let held_back = hold_back(waiting);
        let batch: Vec<&Departure> = waiting.iter().map(|waiting| &waiting.flight.departure).collect();
        let fates = match open.publisher.publish(&batch, self.confirm_timeout).await {
            Ok(fates) => fates,
            Err(fault) => {
                warn!(lane = %self.lane, error = %fault, "publishing failed; what is not confirmed is published again");
                self.link.fail(open.generation);
                *channel = None;
                vec![Fate::Unknown; batch.len()]
            }
        };
        if fates.contains(&Fate::Unknown) {
            // A channel with confirms outstanding must not see their ids again.
            *channel = None;
        }
        self.telemetry.metrics.fates(&fates);
        let failed = self.sort_out(fates, first, under_way, waiting);
        waiting.extend(held_back);
        failed
    }

    /// Books the fates; what has none yet stays waiting.
    fn sort_out(
        &self,
        fates: Vec<Fate>,
        first: u64,
        under_way: &mut VecDeque<Progress>,
        waiting: &mut Vec<Waiting>,
    ) -> bool {
        let mut again = Vec::new();
        for (Waiting { number, flight, .. }, fate) in std::mem::take(waiting).into_iter().zip(fates) {
            let index = usize::try_from(number - first).unwrap_or(usize::MAX);
            let Some(progress) = under_way.get_mut(index) else { continue };
            match fate {
                Fate::Carried => progress.remaining -= 1,
                Fate::Returned | Fate::Unsendable => {
                    let key = &flight.departure.message.routing_key;
                    match fate {
                        Fate::Returned => debug!(key, "no queue took a message"),
                        // Only a message that never came by AMQP can be one; it must not hold the lane for ever.
                        _ => error!(
                            key,
                            seq = flight.seq,
                            "AMQP has no room for a message; it stays undelivered"
                        ),
                    }
                    progress.remaining -= 1;
                    if flight.seq > 0 {
                        progress.returned.push((flight.seq, flight.ordinal));
                    }
                    if flight.is_signal {
                        progress.returned_signals.push(flight.into());
                    }
                }
                Fate::Rejected | Fate::Unknown => again.push(Waiting { number, flight, tried: true }),
            }
        }
        *waiting = again;
        !waiting.is_empty()
    }

    /// The publishing channel, opened where there is none and not before the broker lets us publish.
    async fn open<'a>(&self, channel: &'a mut Option<Channel>) -> Option<&'a mut Channel> {
        let stale = |open: &Channel| self.link.now().is_none_or(|now| now.generation != open.generation);
        if channel.as_ref().is_some_and(stale) {
            *channel = None;
        }
        if channel.is_none() {
            let connected = self.link.connected(0).await?;
            let generation = connected.generation;
            match connected.bus.publisher().await {
                Ok(publisher) => *channel = Some(Channel { generation, bus: connected.bus, publisher }),
                Err(fault) => {
                    warn!(lane = %self.lane, error = %fault, "no publishing channel");
                    self.link.fail(generation);
                    return None;
                }
            }
        }
        let open = channel.as_mut()?;
        if let Some(reason) = open.bus.blocked() {
            warn!(lane = %self.lane, reason, "the broker blocks publishers; waiting until it does not");
            self.telemetry.health.set_blocked(true);
            while open.bus.blocked().is_some()
                && self.link.now().is_some_and(|now| now.generation == open.generation)
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.telemetry.health.set_blocked(false);
        }
        Some(open)
    }
}

/// Takes out what must not leave in this round: behind a message that is tried again, everything to the same key.
fn hold_back(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    if !waiting.iter().any(|waiting| waiting.tried) {
        return Vec::new();
    }
    let mut trying = BTreeSet::new();
    let (now, later) = std::mem::take(waiting).into_iter().partition(|waiting| {
        let key = &waiting.flight.departure.message.routing_key;
        if waiting.tried { trying.insert(key.clone()) } else { !trying.contains(key) }
    });
    *waiting = now;
    later
}

/// Jobs done from the front: acknowledging is cumulative, so a lane's jobs finish in order.
fn finish(under_way: &mut VecDeque<Progress>, first: &mut u64, lane: Lane) -> Report {
    let mut report = Report::default();
    while under_way.front().is_some_and(|progress| progress.remaining == 0) {
        let Some(done) = under_way.pop_front() else { break };
        *first += 1;
        report.jobs += 1;
        report.spans.extend(done.span);
        report.returned.extend(done.returned);
        report.returned_signals.extend(done.returned_signals);
        report.parcels.extend(done.job.parcel);
        if let Some(tag) = done.job.tag {
            report.settlement = Some(Settlement { lane, opening: done.job.opening, tag });
        }
    }
    report
}

/// Exponential from 20 ms to 2 s.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(20 << failures.min(7)).min(Duration::from_secs(2))
}
