//! One way out: publishes what it is handed, and never waits for the broker with anything else to
//! do.
//!
//! Owns: the batches under way and their channels, and what a failure means for a message.
//! Never: believes a publish before its batch's confirms are in, or shares a channel between what
//! is tried first and what is tried again.
//! Holds: a batch whose confirms stay away for `confirm_slow` holds up no later one: that goes by
//! another channel, and no job waits for the slow batch any more. At `batches_max` the oldest is
//! given up and its messages are tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    DispatchSettings, Late, Order, Outbound, Report, Trouble, Withdrawn,
    channels::{Channels, Kind},
    queue::{Queue, Waiting},
};
use crate::{
    bus::{BusError, Departure, Fate},
    contract::{
        lane::Way,
        routing::{ControlPlaneRouting, Family},
    },
    runtime::link::{Connected, Link},
    telemetry::{Telemetry, health::Held},
};

/// How often it is looked whether the broker lets us publish again.
const BLOCKED_LOOK: Duration = Duration::from_millis(50);
/// How often the same trouble is logged and reported.
const TROUBLE_PERIOD: Duration = Duration::from_secs(10);
/// After how long without a word about a batch the broker counts as one that does not confirm.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// How often a message may lose its connection before it is suspected of being the reason.
const LOSSES_MAX: u32 = 3;

/// A batch whose confirms are awaited.
struct Batch {
    kind: Kind,
    generation: u64,
    messages: Arc<Vec<Waiting>>,
    started: Instant,
    /// Whether no job waits for it any more.
    is_slow: bool,
    abandon: CancellationToken,
}

/// How a batch ended.
struct Ended {
    number: u64,
    fates: Result<Vec<Fate>, BusError>,
}

/// What of the broker's trouble was not reported yet.
#[derive(Default)]
struct Troubles {
    count: u64,
    exchange: String,
    pattern: String,
    told_at: Option<Instant>,
}

/// The task of one way.
pub(super) struct Sender {
    way: Way,
    settings: DispatchSettings,
    link: Link,
    standing: watch::Receiver<Option<Connected>>,
    reports: mpsc::Sender<Report>,
    telemetry: Arc<Telemetry>,
    queue: Queue,
    batches: BTreeMap<u64, Batch>,
    next: u64,
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
    channels: Channels,
    /// What was withdrawn while it was under way.
    withdrawn: Withdrawn,
    troubles: Troubles,
    /// Whether the last that is known of the broker is that it confirms, or says no.
    hears: bool,
    /// Whether the broker blocked publishers when it was last looked at.
    was_blocked: bool,
    told: Option<Held>,
    report: Report,
}

impl Sender {
    pub fn new(
        way: Way,
        settings: DispatchSettings,
        link: Link,
        reports: mpsc::Sender<Report>,
        telemetry: &Arc<Telemetry>,
    ) -> Self {
        Self {
            way,
            queue: Queue::new(way, settings.limits),
            settings,
            standing: link.watch(),
            link,
            reports,
            telemetry: Arc::clone(telemetry),
            batches: BTreeMap::new(),
            next: 0,
            running: FuturesUnordered::new(),
            channels: Channels::default(),
            withdrawn: Withdrawn::default(),
            troubles: Troubles::default(),
            hears: true,
            was_blocked: false,
            told: None,
            report: Report::default(),
        }
    }

    /// Publishes until there are no more orders and no job waits for this way. What was set aside
    /// is in the outbox.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut open = true;
        loop {
            self.start();
            self.tell();
            if !self.report.is_empty() && self.reports.send(std::mem::take(&mut self.report)).await.is_err() {
                return;
            }
            if !open && self.batches.values().all(|batch| batch.is_slow) && !self.queue.is_ready() {
                return;
            }
            let wake = self.wake();
            tokio::select! {
                biased;
                order = orders.recv(), if open => match order {
                    Some(order) => {
                        self.take(order);
                        while let Ok(order) = orders.try_recv() {
                            self.take(order);
                        }
                    }
                    None => open = false,
                },
                Some(ended) = self.running.next() => self.end(ended),
                Ok(()) = self.standing.changed() => {}
                () = tokio::time::sleep_until(wake) => self.look(),
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Publish(messages) => {
                let now = Instant::now();
                for outbound in messages {
                    if outbound.held {
                        self.hold(outbound, true);
                    } else if self.queue.comes_behind(&outbound, now) {
                        self.give_up_one(outbound, true);
                    } else if let Some(copy) = self.queue.add(outbound) {
                        let excess = self.queue.take_excess(&copy, now);
                        self.release(copy);
                        self.give_up(excess);
                    }
                }
            }
            Order::Withdraw(Withdrawn { ended, held }) => {
                self.queue.take_entries(&ended).into_iter().for_each(|waiting| self.dropped(waiting));
                for Waiting { outbound, tracked, .. } in self.queue.take_entries(&held) {
                    self.hold(outbound, tracked);
                }
                // What the broker has had no word about may have left; it is not tried once more.
                let under_way = self.batches.values().flat_map(|batch| batch.messages.iter());
                let under_way: BTreeSet<u64> = under_way.map(|waiting| waiting.outbound.seq).collect();
                self.withdrawn.ended.extend(ended.intersection(&under_way));
                self.withdrawn.held.extend(held.intersection(&under_way));
            }
        }
    }

    /// A command that has ended leaves no more.
    fn dropped(&mut self, waiting: Waiting) {
        let Outbound { seq, ordinal, .. } = waiting.outbound;
        if waiting.tracked {
            // Its job must not count it as published.
            self.report.set_aside.push(waiting.outbound);
        }
        self.report.late.push(Late::Dropped { seq, ordinal });
    }

    /// Its job need not wait for a message any more. One without an entry is nowhere else: it is
    /// tried a few times.
    fn release(&mut self, copy: Outbound) {
        if copy.seq > 0 {
            self.report.set_aside.push(copy);
        } else {
            self.report.one_done(copy.job);
        }
    }

    fn give_up(&mut self, excess: Vec<Waiting>) {
        for Waiting { outbound, tracked, .. } in excess {
            self.give_up_one(outbound, tracked);
        }
    }

    fn give_up_one(&mut self, outbound: Outbound, tracked: bool) {
        let key = &outbound.departure.message.routing_key;
        warn!(
            way = self.way.word(),
            key,
            seq = outbound.seq,
            "too much waits to be published again; this is given up"
        );
        self.report_given_up(outbound, tracked);
    }

    /// A stop, a quarantine or safety holds a command up: it waits for its target where it can, and
    /// what comes behind it with it.
    fn hold(&mut self, outbound: Outbound, tracked: bool) {
        let (key, seq) = (&outbound.departure.message.routing_key, outbound.seq);
        info!(key, seq, "a stop, a quarantine or safety holds a command up that had not left");
        self.queue.gave_up(&outbound, Instant::now());
        self.report_given_up(outbound, tracked);
    }

    fn report_given_up(&mut self, outbound: Outbound, tracked: bool) {
        if tracked {
            // Its job must not count it as published.
            self.release(outbound.clone());
        }
        if outbound.seq > 0 {
            self.report.late.push(Late::GivenUp(Box::new(outbound)));
        } else {
            self.telemetry.metrics.dropped(self.way);
        }
    }

    /// Starts what may leave now: a batch of first tries while none is young, and likewise one of
    /// those that are due.
    fn start(&mut self) {
        let Some(connected) = self.link.now() else { return };
        self.channels.of(connected.generation);
        let blocked = connected.bus.blocked();
        // An alarm is the connection's, and each way sees it: one of them says so.
        if self.way == Way::Urgent {
            self.telemetry.health.set_blocked(blocked.is_some());
        }
        if blocked.is_some() {
            self.was_blocked = true;
            return;
        }
        if std::mem::take(&mut self.was_blocked) {
            self.queue.hasten(Instant::now());
        }
        for kind in [Kind::First, Kind::Again] {
            let is_young = |batch: &Batch| batch.kind == kind && !batch.is_slow;
            if self.batches.values().any(is_young) {
                continue;
            }
            let count_max = self.settings.batch_count_max;
            let messages = match kind {
                Kind::First => self.queue.take_ready(count_max),
                Kind::Again => self.queue.take_due(Instant::now(), count_max),
            };
            if !messages.is_empty() {
                self.publish(kind, messages, &connected);
            }
        }
    }

    fn publish(&mut self, kind: Kind, messages: Vec<Waiting>, connected: &Connected) {
        if self.batches.len() >= self.settings.batches_max
            && let Some(oldest) = self.batches.values().find(|batch| batch.is_slow)
        {
            // A slow one: no job waits for it any more, and its messages are tried again.
            oldest.abandon.cancel();
        }
        self.next += 1;
        let (number, abandon, messages) = (self.next, CancellationToken::new(), Arc::new(messages));
        let count = messages.len();
        let confirms_arrive = self.hears && !self.batches.values().any(|batch| batch.is_slow);
        let channel = self.channels.pick(kind, count, confirms_arrive);
        let batch = Batch {
            kind,
            generation: connected.generation,
            messages: Arc::clone(&messages),
            started: Instant::now(),
            is_slow: false,
            abandon: abandon.clone(),
        };
        self.batches.insert(number, batch);
        let (bus, deadline) = (Arc::clone(&connected.bus), self.settings.confirm_timeout);
        let publishing = async move {
            let publishing = async {
                let publisher = channel.publisher(bus.as_ref()).await?;
                let departures: Vec<&Departure> =
                    messages.iter().map(|waiting| &waiting.outbound.departure).collect();
                publisher.publish(&departures, deadline).await
            };
            let fates = tokio::select! {
                fates = publishing => fates,
                () = abandon.cancelled() => Ok(vec![Fate::Unknown; count]),
            };
            Ended { number, fates }
        };
        self.running.push(publishing.boxed());
    }

    /// Books the fates of a batch.
    fn end(&mut self, ended: Ended) {
        let Ended { number, fates } = ended;
        let Some(batch) = self.batches.remove(&number) else { return };
        // The task that shared them has ended.
        let Some(messages) = Arc::into_inner(batch.messages) else { return };
        let lost = matches!(fates, Err(BusError::Unreachable { .. }));
        let closed = fates.is_err() && !lost;
        let fates = fates.unwrap_or_else(|fault| {
            warn!(way = self.way.word(), error = %fault, "publishing failed; what is not confirmed is published again");
            if lost {
                self.link.fail(batch.generation);
            }
            vec![Fate::Unknown; messages.len()]
        });
        self.telemetry.metrics.fates(&fates);
        if self.way == Way::Refused {
            let carried = fates.iter().filter(|fate| **fate == Fate::Carried).count() as u64;
            self.telemetry.metrics.refused.published(carried, std::time::Instant::now());
        }
        let single = messages.len() == 1;
        for (mut waiting, fate) in messages.into_iter().zip(fates) {
            // Its job was released when the batch became slow; the messages were shared with the
            // publishing task and could not say so.
            waiting.tracked &= !batch.is_slow;
            self.hears = fate != Fate::Unknown;
            let (seq, may_leave) = (waiting.outbound.seq, matches!(fate, Fate::Rejected | Fate::Unknown));
            let (ended, held) = (self.withdrawn.ended.remove(&seq), self.withdrawn.held.remove(&seq));
            if may_leave && (ended || held) {
                self.queue.done(&waiting);
                match ended {
                    true => self.dropped(waiting),
                    false => self.hold(waiting.outbound, waiting.tracked),
                }
                continue;
            }
            match fate {
                Fate::Carried => self.carried(waiting),
                Fate::Returned => self.returned(waiting, "no queue took a message"),
                Fate::Unsendable => {
                    let key = &waiting.outbound.departure.message.routing_key;
                    // Only a message that never came by AMQP can be one; it must not hold its
                    // target for ever.
                    error!(
                        key,
                        seq = waiting.outbound.seq,
                        "AMQP has no room for a message; it stays undelivered"
                    );
                    self.returned(waiting, "AMQP has no room for a message");
                }
                Fate::Unknown if lost && waiting.attempts < LOSSES_MAX => {
                    waiting.attempts += 1;
                    self.queue.again(waiting);
                }
                Fate::Rejected | Fate::Unknown => {
                    // Whoever shared the channel is not known to be the reason that it was closed.
                    waiting.alone |= closed && !single;
                    self.failed(waiting);
                }
            }
        }
    }

    fn carried(&mut self, waiting: Waiting) {
        self.queue.done(&waiting);
        let Outbound { job, seq, ordinal, .. } = waiting.outbound;
        if waiting.tracked {
            self.report.one_done(job);
        } else if seq > 0 {
            self.report.late.push(Late::Carried { seq, ordinal });
        }
    }

    fn returned(&mut self, waiting: Waiting, why: &str) {
        self.queue.done(&waiting);
        let outbound = waiting.outbound;
        debug!(way = self.way.word(), key = outbound.departure.message.routing_key, "{why}");
        if waiting.tracked {
            self.report.one_done(outbound.job);
            self.report.returned.push((outbound.job, outbound));
        } else if outbound.seq > 0 {
            self.report.late.push(Late::Returned(Box::new(outbound)));
        }
    }

    /// The broker said no, or nothing.
    fn failed(&mut self, mut waiting: Waiting) {
        waiting.attempts += 1;
        self.note(&waiting.outbound);
        let attempts_max = match self.way {
            Way::Metrics => self.settings.metrics_attempts_max,
            _ => self.settings.unrecorded_attempts_max,
        };
        if waiting.outbound.seq == 0 && waiting.attempts >= attempts_max {
            self.queue.done(&waiting);
            if waiting.tracked {
                self.report.one_done(waiting.outbound.job);
            }
            self.telemetry.metrics.dropped(self.way);
            return;
        }
        let example = waiting.outbound.clone();
        let now = Instant::now();
        let released = self.queue.later(waiting, now);
        released.into_iter().for_each(|copy| self.release(copy));
        let excess = self.queue.take_excess(&example, now);
        self.give_up(excess);
    }

    fn note(&mut self, outbound: &Outbound) {
        let message = &outbound.departure.message;
        self.troubles.count += 1;
        self.troubles.exchange.clone_from(&message.exchange);
        self.troubles.pattern = Family::claimed_by(&message.routing_key)
            .map_or_else(|| "#".to_owned(), ControlPlaneRouting::family_binding);
    }

    /// What time brings: batches that have become slow.
    fn look(&mut self) {
        let now = Instant::now();
        let slow_since = now.checked_sub(self.settings.confirm_slow);
        let silent_since = now.checked_sub(SILENT_AFTER);
        if self.batches.values().any(|batch| silent_since.is_some_and(|since| batch.started <= since)) {
            self.hears = false;
        }
        let mut became_slow = Vec::new();
        for batch in self.batches.values_mut().filter(|batch| !batch.is_slow) {
            if slow_since.is_some_and(|since| batch.started <= since) {
                batch.is_slow = true;
                became_slow.push(Arc::clone(&batch.messages));
            }
        }
        for messages in became_slow {
            for waiting in messages.iter() {
                self.note(&waiting.outbound);
                if waiting.tracked {
                    self.release(waiting.outbound.clone());
                }
                let behind = self.queue.slow(waiting);
                behind.into_iter().for_each(|copy| self.release(copy));
                let excess = self.queue.take_excess(&waiting.outbound, now);
                self.give_up(excess);
            }
        }
    }

    /// When there is something to do that no event announces.
    fn wake(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let Some(connected) = self.link.now() else { return far };
        if connected.bus.blocked().is_some() {
            // The end of an alarm wakes nobody here, so it is looked for.
            return Instant::now() + BLOCKED_LOOK;
        }
        let young = |kind| self.batches.values().any(move |batch| batch.kind == kind && !batch.is_slow);
        let retry = self.queue.next_retry().filter(|_| !young(Kind::Again));
        let slow = self.batches.values().filter(|batch| !batch.is_slow);
        let slow = slow.map(|batch| batch.started + self.settings.confirm_slow).min();
        let told = self.troubles.told_at.filter(|_| self.troubles.count > 0).map(|at| at + TROUBLE_PERIOD);
        let silent =
            self.batches.values().filter(|_| self.hears).map(|batch| batch.started + SILENT_AFTER).min();
        retry.into_iter().chain(slow).chain(silent).chain(told).min().unwrap_or(far)
    }

    /// Reports how this way is: in health at once, in the log and to the router at most every ten
    /// seconds.
    fn tell(&mut self) {
        let unconfirmed: usize =
            self.batches.values().filter(|batch| batch.is_slow).map(|batch| batch.messages.len()).sum();
        let waiting = self.queue.aside();
        let Troubles { exchange, pattern, .. } = &self.troubles;
        let held = (waiting + unconfirmed > 0).then(|| Held {
            exchange: exchange.clone(),
            keys: pattern.clone(),
            waiting,
            unconfirmed,
            hears: self.hears,
        });
        if held != self.told {
            self.telemetry.metrics.set_waiting(self.way, waiting + unconfirmed);
            self.telemetry.health.set_way(self.way, held.clone());
            self.told = held;
        }
        let due = self.troubles.told_at.is_none_or(|at| at + TROUBLE_PERIOD <= Instant::now());
        if self.troubles.count == 0 || !due {
            return;
        }
        let trouble = Trouble {
            exchange: exchange.clone(),
            pattern: pattern.clone(),
            count: std::mem::take(&mut self.troubles.count),
        };
        self.troubles.told_at = Some(Instant::now());
        warn!(
            way = self.way.word(),
            exchange = trouble.exchange,
            keys = trouble.pattern,
            publishes = trouble.count,
            waiting,
            unconfirmed,
            "the broker rejects or does not confirm messages: see the queues bound there for a full one that rejects, or one that has lost its node"
        );
        self.report.refused = Some(trouble);
    }
}
