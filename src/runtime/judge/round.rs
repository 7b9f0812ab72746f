//! A round: what the router takes up at a time.
//!
//! Owns: waiting for the first thing to do, and gathering what else is ready.
//! Never: judges anything.
//! Holds: the urgent lane is taken first, and a round is no larger than its bounds.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Router, view};
use crate::{
    contract::lane::Lane,
    decision::request::Done,
    runtime::{
        dispatch::Report,
        intake::Arrivals,
        recorder::{Commit, Recovery},
    },
};

/// How long an idle router sleeps at most; it is woken by whatever comes.
const IDLE_LOOK: Duration = Duration::from_secs(3600);
/// How many metrics one round takes: commands of the next round wait for no more.
const METRICS_PER_ROUND_MAX: usize = 64;
/// How many questions are answered between two rounds.
const QUESTIONS_PER_ROUND_MAX: usize = 8;
/// How often the router sends its own status.
const STATUS_PERIOD: Duration = Duration::from_secs(5);
/// How often a draining router looks whether everything is done.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// The times at which the router sends its own status.
pub(in crate::runtime) fn ticker() -> tokio::time::Interval {
    let mut ticker = tokio::time::interval(STATUS_PERIOD);
    // A router that was held up says its status once, and not once for each time that it missed.
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticker
}

/// Bounds on one round. Beyond them is at most the last batch of each lane.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Bounds {
    /// Envelopes judged in one round.
    pub entries_max: usize,
    /// Bytes of their bodies.
    pub bytes_max: usize,
}

/// The lanes' bounded buffers.
pub(in crate::runtime) struct LaneInboxes(pub [mpsc::Receiver<Arrivals>; 4]);

/// What is judged together.
#[derive(Default)]
pub(super) struct Round {
    pub arrivals: Vec<Arrivals>,
    pub reports: Vec<Report>,
    pub recovery: Option<Recovery>,
    pub done: Vec<Done>,
    /// It is time for the router's own status.
    pub ticks: bool,
    pub count: usize,
    pub bytes: usize,
    pub idle: bool,
}

impl Round {
    pub fn add(&mut self, arrivals: Arrivals) {
        self.count += arrivals.incoming.len();
        self.bytes += arrivals.incoming.iter().map(|incoming| incoming.message.body.len()).sum::<usize>();
        self.arrivals.push(arrivals);
    }

    fn is_full(&self, bounds: &Bounds) -> bool {
        self.count >= bounds.entries_max || self.bytes >= bounds.bytes_max
    }

    /// Takes what is ready, by lanes.
    fn fill(&mut self, lanes: &mut LaneInboxes, bounds: &Bounds) {
        // One batch of each lane first, also beyond the bounds: where one lane could fill a round
        // alone, and is always ready, the others would never have their turn.
        for (lane, inbox) in Lane::ALL.into_iter().zip(&mut lanes.0) {
            if self.arrivals.iter().all(|arrivals| arrivals.lane != lane)
                && let Ok(arrivals) = inbox.try_recv()
            {
                self.add(arrivals);
            }
        }
        let [urgent, signals, results, metrics] = &mut lanes.0;
        let half = bounds.entries_max / 2;
        for (inbox, share) in
            [(urgent, half), (results, half), (signals, half), (metrics, METRICS_PER_ROUND_MAX)]
        {
            let share = self.count + share;
            while !self.is_full(bounds)
                && self.count < share
                && let Ok(arrivals) = inbox.try_recv()
            {
                self.add(arrivals);
            }
        }
        // Stable: within a lane the order of arrival stays, and the urgent lane is judged first.
        self.arrivals.sort_by_key(|arrivals| arrivals.lane);
    }
}

impl Router {
    /// Waits for room at the recorder; `None` when it is gone. Reports are taken meanwhile: a
    /// dispatcher that waits to report takes no jobs, and a recorder that waits for a dispatcher
    /// makes no room.
    pub(super) async fn room(&mut self, round: &mut Round) -> Option<mpsc::OwnedPermit<Commit>> {
        let permit = self.ledger.recorder.clone().reserve_owned();
        tokio::pin!(permit);
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return permit.ok(),
                Some(report) = self.bus.reports.recv() => round.reports.push(report),
            }
        }
    }

    /// Waits for the first thing to do.
    pub(super) async fn wait(&mut self) -> Round {
        let mut round = Round::default();
        // Without a broker nothing falls due.
        let deadline = self.corridor.state().next_deadline().filter(|_| self.memory.away_since.is_none());
        // A gate whose time is over holds up what is on its way, in that moment.
        let gate = self.corridor.state().safety().next_gate_change(self.memory.asked_at);
        let gate = gate.filter(|_| !self.memory.tracker.is_empty());
        let deadline = deadline.into_iter().chain(self.memory.catching_up).chain(gate).min();
        let pause = deadline.map(|deadline| deadline.micros() - self.clock.now().micros());
        let draining = self.stopping.is_cancelled();
        let longest = if draining { DRAIN_LOOK } else { IDLE_LOOK };
        let pause =
            pause.map_or(longest, |micros| Duration::from_micros(micros.max(0).unsigned_abs()).min(longest));
        let [urgent, signals, results, metrics] = &mut self.bus.lanes.0;
        let over = |inbox: &mpsc::Receiver<Arrivals>| inbox.is_closed() && inbox.is_empty();
        if self.memory.tracker.is_empty() && over(urgent) && over(signals) && over(results) && over(metrics) {
            round.idle = true;
            return round;
        }
        tokio::select! {
            // First what decides what may pass at all, then stops. Reports before the other lanes:
            // a way that waits to report takes no messages.
            biased;
            Some(recovery) = self.ledger.recoveries.recv() => round.recovery = Some(recovery),
            Some(done) = self.done.recv() => round.done.push(done),
            () = self.ledger.emergency.late() => {}
            Some(arrivals) = urgent.recv() => round.add(arrivals),
            Some(report) = self.bus.reports.recv() => round.reports.push(report),
            Some(arrivals) = results.recv() => round.add(arrivals),
            Some(arrivals) = signals.recv() => round.add(arrivals),
            Some(arrivals) = metrics.recv() => round.add(arrivals),
            () = self.stopping.cancelled(), if !draining => {}
            Ok(()) = self.bus.standing.changed() => {}
            Some(asked) = self.questions.recv() => view(&self.corridor, &self.telemetry, &self.about, &self.clock).send(asked),
            _ = self.ticker.tick() => round.ticks = true,
            () = tokio::time::sleep(pause) => {}
        }
        round
    }

    /// Takes what else is ready, the urgent lane first, within the bounds.
    pub(super) fn gather(&mut self, round: &mut Round) {
        while let Ok(report) = self.bus.reports.try_recv() {
            round.reports.push(report);
        }
        for _ in 0..QUESTIONS_PER_ROUND_MAX {
            let Ok(asked) = self.questions.try_recv() else { break };
            view(&self.corridor, &self.telemetry, &self.about, &self.clock).send(asked);
        }
        while let Ok(done) = self.done.try_recv() {
            round.done.push(done);
        }
        round.fill(&mut self.bus.lanes, &self.bounds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contract::{
            Contract, Limits,
            message::{Message, Properties},
        },
        runtime::{corridor, intake::Incoming},
    };

    const BOUNDS: Bounds = Bounds { entries_max: 8, bytes_max: 1_000 };

    fn batch(lane: Lane, count: usize, bytes: usize) -> Arrivals {
        let contract = Contract::built_in(Limits::default()).expect("a contract");
        let message = Message {
            exchange: "in".to_owned(),
            routing_key: "signal".to_owned(),
            properties: Properties::default(),
            body: vec![b'.'; bytes].into(),
        };
        let one = |tag| Incoming {
            arrival: Box::new(corridor::read(&contract, &message, false)),
            message: message.clone(),
            tag,
        };
        Arrivals { lane, opening: 1, incoming: (0..count as u64).map(one).collect() }
    }

    fn counts(round: &Round) -> [usize; 4] {
        Lane::ALL.map(|lane| {
            let of_it = round.arrivals.iter().filter(|arrivals| arrivals.lane == lane);
            of_it.map(|arrivals| arrivals.incoming.len()).sum()
        })
    }

    #[tokio::test]
    async fn no_lane_fills_a_round_alone() {
        for bytes in [1, 600] {
            let (sends, inboxes): (Vec<_>, Vec<_>) = Lane::ALL.map(|_| mpsc::channel(64)).into_iter().unzip();
            let mut inboxes = LaneInboxes(inboxes.try_into().expect("four"));
            for (lane, send) in Lane::ALL.into_iter().zip(&sends) {
                for _ in 0..16 {
                    send.send(batch(lane, 2, bytes)).await.expect("room");
                }
            }
            for woken_by in Lane::ALL {
                let mut round = Round::default();
                round.add(batch(woken_by, 2, bytes));
                round.fill(&mut inboxes, &BOUNDS);
                assert_eq!(counts(&round), [2; 4], "woken by {woken_by}, {bytes} bytes each");
            }
        }
    }
}
