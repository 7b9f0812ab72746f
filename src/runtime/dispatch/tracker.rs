//! Jobs under way: which messages each one waits for, and what may be acknowledged.
//!
//! Owns: the count of what is missing of each job, and the messages that were set aside with their
//! parcels.
//! Never: publishes, or lets a delivery be acknowledged whose messages are neither published nor in
//! the outbox.
//! Holds: a lane's jobs are done in order, because acknowledging is cumulative; what was set aside
//! stays in the outbox until it has left, come back or been dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Job, Late, Outbound, Report, Trouble};
use crate::{
    contract::{lane::Lane, routing::Scope, timestamp::Timestamp},
    decision::state::{State, hold::Act},
    ledger::{Outgoing, Parcel},
    runtime::link::Settlement,
};

/// A job that is not done.
#[derive(Debug)]
struct Progress {
    number: u64,
    lane: Lane,
    opening: u64,
    tag: Option<u64>,
    parcel: Option<u64>,
    /// How many of its messages it waits for.
    remaining: usize,
    /// Whether its batch is durable: nothing was handed to a way before.
    durable: bool,
    /// Whether its commit was given up: its deliveries come again.
    given_up: bool,
    span: Option<(u64, u64)>,
    /// Its commands that nothing needs to hear of once they have ended, by their entries.
    commands: Vec<u64>,
    /// Entries of messages that were taken out of it.
    withdrawn: BTreeSet<u64>,
    returned: Vec<Outbound>,
    set_aside: Vec<Outbound>,
}

/// What reports come to.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Done {
    /// Entries whose messages have all left.
    pub spans: Vec<(u64, u64)>,
    /// Messages that no queue took, by entry and ordinal.
    pub returned: Vec<(u64, u32)>,
    /// Messages that are tried no more because too much waited, likewise.
    pub given_up: Vec<(u64, u32)>,
    /// The signals among both.
    pub returned_signals: Vec<Outgoing>,
    /// Parcels that need no longer be kept.
    pub parcels: Vec<u64>,
    /// Parcels of which less is to be kept.
    pub replaced: Vec<Parcel>,
    /// What may be acknowledged.
    pub settlements: Vec<Settlement>,
    /// What the broker does not take.
    pub refused: Vec<Trouble>,
}

/// Every job under way, and what was set aside.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Tracker {
    next: u64,
    lanes: [VecDeque<Progress>; 4],
    /// Messages that were set aside, by entry and ordinal: the parcel that keeps each, where one
    /// does.
    aside: BTreeMap<(u64, u32), Option<u64>>,
    /// How many of those each parcel keeps.
    kept: BTreeMap<u64, usize>,
    /// Commands that are under way or were set aside, by their entries, with what they do where
    /// something may hold that up.
    commands: BTreeMap<u64, Option<Box<Act>>>,
}

impl Tracker {
    /// Whether no job is under way.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// How many records of the outbox are kept for jobs under way and for what was set aside.
    pub fn parcels(&self) -> usize {
        let is_kept = |parcel: u64| self.kept.contains_key(&parcel);
        let jobs = self.lanes.iter().flatten().filter_map(|job| job.parcel);
        jobs.filter(|parcel| !is_kept(*parcel)).count() + self.kept.len()
    }

    /// Takes note of a job before it is handed on, and numbers it.
    pub fn begin(&mut self, job: &mut Job) {
        self.next += 1;
        job.number = self.next;
        let commands = job.messages.iter().filter(|message| message.ends);
        self.commands.extend(commands.map(|message| (message.seq, message.act.clone())));
        let seqs = job.messages.iter().map(|message| message.seq).filter(|seq| *seq > 0);
        let span = seqs.clone().min().zip(seqs.max());
        let progress = Progress {
            number: job.number,
            lane: job.lane,
            opening: job.opening,
            tag: job.tag,
            parcel: job.parcel,
            remaining: job.messages.len(),
            durable: false,
            given_up: false,
            span,
            commands: job.messages.iter().filter(|message| message.ends).map(|message| message.seq).collect(),
            withdrawn: std::mem::take(&mut job.withdrawn),
            returned: Vec::new(),
            set_aside: Vec::new(),
        };
        if let Some(lane) = self.lanes.get_mut(job.lane as usize) {
            lane.push_back(progress);
        }
    }

    /// Whether the command of that entry may still leave.
    pub fn has(&self, seq: u64) -> bool {
        self.commands.contains_key(&seq)
    }

    /// What is to leave no more though it has not ended, by its entry: what `state` holds up, and
    /// starts within the overtaken scopes whose end nobody waits for.
    pub fn held(&self, overtaken: &[Scope], state: &State, now: Timestamp) -> BTreeSet<u64> {
        let is_overtaken =
            |act: &Act| act.starts_unwatched() && overtaken.iter().any(|wide| wide.covers(&act.scope));
        let acts = self.commands.iter().filter_map(|(seq, act)| Some((*seq, act.as_deref()?)));
        acts.filter(|(_, act)| is_overtaken(act) || state.holds(act, now)).map(|(seq, _)| seq).collect()
    }

    /// Books a report.
    pub fn take(&mut self, report: Report, done: &mut Done) {
        let Report { done: fewer, given_up, returned, set_aside, late, refused } = report;
        done.refused.extend(refused);
        for number in given_up {
            if let Some(progress) = self.job(number) {
                progress.given_up = true;
            }
        }
        // Before the counts: a job must know what was set aside when it is done.
        for (number, outbound) in returned {
            if let Some(progress) = self.job(number) {
                progress.returned.push(outbound);
            }
        }
        for outbound in set_aside {
            if let Some(progress) = self.job(outbound.job) {
                progress.remaining = progress.remaining.saturating_sub(1);
                progress.durable = true;
                let parcel = progress.parcel;
                let place = (outbound.seq, outbound.ordinal);
                progress.set_aside.push(outbound);
                self.aside.insert(place, parcel);
                if let Some(parcel) = parcel {
                    *self.kept.entry(parcel).or_default() += 1;
                }
            }
        }
        for (number, count) in fewer {
            if let Some(progress) = self.job(number) {
                progress.remaining = progress.remaining.saturating_sub(count);
                progress.durable = true;
            }
        }
        self.finish(done);
        for late in late {
            self.end(late, done);
        }
    }

    fn job(&mut self, number: u64) -> Option<&mut Progress> {
        self.lanes.iter_mut().find_map(|lane| {
            // Numbers grow, and a lane's jobs stand in the order in which they were numbered.
            let index = lane.binary_search_by_key(&number, |progress| progress.number).ok()?;
            lane.get_mut(index)
        })
    }

    /// Takes the jobs that are done from the front of each lane.
    fn finish(&mut self, done: &mut Done) {
        let is_over =
            |progress: &Progress| progress.given_up || (progress.durable && progress.remaining == 0);
        let mut over = Vec::new();
        for lane in &mut self.lanes {
            while lane.front().is_some_and(is_over) {
                over.extend(lane.pop_front());
            }
        }
        for progress in over {
            for seq in &progress.commands {
                if !self.is_aside(*seq) {
                    self.commands.remove(seq);
                }
            }
            if !progress.given_up {
                self.close(progress, done);
            }
        }
    }

    /// Whether a message of that entry was set aside and is not over.
    fn is_aside(&self, seq: u64) -> bool {
        self.aside.range((seq, 0)..=(seq, u32::MAX)).next().is_some()
    }

    fn close(&mut self, progress: Progress, done: &mut Done) {
        let Progress { lane, opening, tag, parcel, span, mut withdrawn, returned, set_aside, .. } = progress;
        // What was set aside is booked entry by entry, when it has left (`end`).
        withdrawn.extend(set_aside.iter().map(|outbound| outbound.seq));
        if let Some(span) = span {
            without(span, &withdrawn, &mut done.spans);
        }
        for outbound in returned {
            done.returned.extend(come_back(outbound, &mut done.returned_signals));
        }
        // Some of it may be over already.
        let still =
            set_aside.iter().filter(|outbound| self.aside.contains_key(&(outbound.seq, outbound.ordinal)));
        let messages = still.map(|outbound| {
            let Outbound { seq, ordinal, departure, .. } = outbound;
            (*seq, *ordinal, departure.mandatory, &departure.message)
        });
        if let Some(id) = parcel {
            match Parcel::pack(lane, messages) {
                Some(packed) => done.replaced.push(Parcel { id, ..packed }),
                None => done.parcels.push(id),
            }
        }
        if let Some(tag) = tag {
            done.settlements.push(Settlement { lane, opening, tag });
        }
    }

    /// The end of a message that was set aside.
    fn end(&mut self, late: Late, done: &mut Done) {
        let place = match &late {
            Late::Carried { seq, ordinal } | Late::Dropped { seq, ordinal } => (*seq, *ordinal),
            Late::Returned(outbound) | Late::GivenUp(outbound) => (outbound.seq, outbound.ordinal),
        };
        let Some(parcel) = self.aside.remove(&place) else { return };
        let (seq, _) = place;
        // Others of the same entry may wait still.
        let is_last = !self.is_aside(seq);
        if is_last && !self.lanes.iter().flatten().any(|progress| progress.commands.contains(&seq)) {
            self.commands.remove(&seq);
        }
        match late {
            Late::Carried { .. } => {
                if is_last {
                    done.spans.push((seq, seq));
                }
            }
            Late::Returned(outbound) => {
                done.returned.extend(come_back(*outbound, &mut done.returned_signals));
            }
            Late::GivenUp(outbound) => {
                done.given_up.extend(come_back(*outbound, &mut done.returned_signals));
            }
            Late::Dropped { .. } => {}
        }
        let Some(id) = parcel else { return };
        let Some(kept) = self.kept.get_mut(&id) else { return };
        *kept -= 1;
        if *kept == 0 {
            self.kept.remove(&id);
            // A job that is under way still finds out by itself.
            let is_under_way =
                self.lanes.iter().flatten().any(|progress| progress.parcel == Some(id) && !progress.given_up);
            if !is_under_way {
                done.parcels.push(id);
            }
        }
    }
}

/// The place of a message that did not leave, where it has an entry. A signal is kept: it may wait
/// for its target.
fn come_back(outbound: Outbound, signals: &mut Vec<Outgoing>) -> Option<(u64, u32)> {
    let place = (outbound.seq > 0).then_some((outbound.seq, outbound.ordinal));
    if outbound.is_signal() {
        signals.push(outbound.into());
    }
    place
}

/// A span without some entries of it.
fn without((first, last): (u64, u64), except: &BTreeSet<u64>, spans: &mut Vec<(u64, u64)>) {
    let mut from = first;
    for seq in except.range(first..=last) {
        if from < *seq {
            spans.push((from, seq - 1));
        }
        from = seq + 1;
    }
    if from <= last {
        spans.push((from, last));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        contract::message::{Message, Properties},
        ledger::Outgoing,
    };

    fn outbound(seq: u64) -> Outbound {
        let message = Message {
            exchange: "out".to_owned(),
            routing_key: "signal.bot-stop.s.r.a".to_owned(),
            properties: Properties::default(),
            body: Bytes::new(),
        };
        let leaving = Outgoing { seq, ordinal: 0, mandatory: true, message };
        Outbound { ends: true, ..Outbound::from(leaving) }
    }

    /// A tracker with a job of the entries 1 to 3, and one behind it.
    fn two_jobs() -> (Tracker, Vec<Outbound>) {
        let mut tracker = Tracker::default();
        let mut job = Job {
            parcel: Some(1),
            tag: Some(3),
            messages: (1..=3).map(outbound).collect(),
            ..Job::default()
        };
        tracker.begin(&mut job);
        let mut behind = Job { parcel: Some(4), tag: Some(4), messages: vec![outbound(4)], ..Job::default() };
        tracker.begin(&mut behind);
        let messages = job.messages.into_iter().map(|message| Outbound { job: job.number, ..message });
        (tracker, messages.collect())
    }

    fn take(tracker: &mut Tracker, report: Report) -> Done {
        let mut done = Done::default();
        tracker.take(report, &mut done);
        done
    }

    #[test]
    fn jobs_of_a_lane_are_done_in_order() {
        let (mut tracker, _) = two_jobs();
        let done = take(&mut tracker, Report { done: vec![(2, 1)], ..Report::default() });
        assert!(done.settlements.is_empty() && done.spans.is_empty());
        let done = take(&mut tracker, Report { done: vec![(1, 3)], ..Report::default() });
        assert_eq!(done.spans, [(1, 3), (4, 4)]);
        assert_eq!(done.parcels, [1, 4]);
        assert_eq!(done.settlements.iter().map(|settled| settled.tag).collect::<Vec<_>>(), [3, 4]);
        assert!(tracker.is_empty());
    }

    #[test]
    fn what_is_set_aside_stays_in_its_parcel_and_holds_up_no_acknowledgement() {
        let (mut tracker, messages) = two_jobs();
        let report = Report { set_aside: vec![messages[1].clone()], done: vec![(1, 2)], ..Report::default() };
        let done = take(&mut tracker, report);
        assert_eq!(done.spans, [(1, 1), (3, 3)]);
        assert_eq!((done.settlements.len(), done.parcels.len()), (1, 0));
        let kept = done.replaced.first().expect("a parcel with less");
        let entries: Vec<u64> = kept.unpack().unwrap().iter().map(|outgoing| outgoing.seq).collect();
        assert_eq!((kept.id, entries), (1, vec![2]));
        let done = take(
            &mut tracker,
            Report { late: vec![Late::Carried { seq: 2, ordinal: 0 }], ..Report::default() },
        );
        assert_eq!((done.spans, done.parcels), (vec![(2, 2)], vec![1]));
    }

    #[test]
    fn what_is_set_aside_and_over_before_its_job_is_not_kept() {
        let (mut tracker, messages) = two_jobs();
        let done = take(&mut tracker, Report { set_aside: vec![messages[0].clone()], ..Report::default() });
        assert!(done.settlements.is_empty());
        let late = vec![Late::Returned(Box::new(messages[0].clone()))];
        let done = take(&mut tracker, Report { late, ..Report::default() });
        assert_eq!((done.returned, done.returned_signals.len(), done.parcels.len()), (vec![(1, 0)], 1, 0));
        let done = take(&mut tracker, Report { done: vec![(1, 2)], ..Report::default() });
        assert_eq!((done.spans, done.parcels, done.replaced.len()), (vec![(2, 3)], vec![1], 0));
    }

    #[test]
    fn what_was_given_up_is_not_told_as_come_back() {
        let (mut tracker, messages) = two_jobs();
        let report = Report { set_aside: vec![messages[1].clone()], done: vec![(1, 2)], ..Report::default() };
        take(&mut tracker, report);
        let late = vec![Late::GivenUp(Box::new(messages[1].clone()))];
        let done = take(&mut tracker, Report { late, ..Report::default() });
        assert_eq!((done.given_up, done.returned, done.spans), (vec![(2, 0)], vec![], vec![]));
        assert_eq!(done.returned_signals.len(), 1, "it may wait for its target");
        assert_eq!(done.parcels, [1]);
    }

    #[test]
    fn a_job_whose_commit_was_given_up_settles_nothing() {
        let (mut tracker, _) = two_jobs();
        let done = take(&mut tracker, Report { given_up: vec![1], done: vec![(2, 1)], ..Report::default() });
        assert_eq!((done.spans, done.settlements.len()), (vec![(4, 4)], 1));
        assert!(tracker.is_empty());
    }

    #[test]
    fn an_empty_job_is_done_when_it_is_durable() {
        let mut tracker = Tracker::default();
        tracker.begin(&mut Job { tag: Some(1), ..Job::default() });
        assert!(take(&mut tracker, Report::default()).settlements.is_empty());
        let done = take(&mut tracker, Report { done: vec![(1, 0)], ..Report::default() });
        assert_eq!(done.settlements.len(), 1);
    }
}
