//! Three bounded queues of which the most urgent message is taken first.
//!
//! Owns: what waits on one side of a connection, in its order, and the count of what was dropped.
//! Never: waits with what comes in; who puts in is told at once.
//! Holds: no lane holds more messages or bytes than its bound, unless one message alone does; a
//! lane's own order is kept.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::{plane::lock, settings::ChannelSettings};
use crate::contract::control::{ControlMessage, Lane};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It waits for its turn.
    Queued,
    /// It is telemetry that found no place: dropped, and counted.
    Dropped,
}

/// Why a message could not be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The lane is full.
    Full,
    /// The queues are closed.
    Closed,
}

/// The queues of one direction.
#[derive(Debug)]
pub(super) struct Lanes {
    queues: Mutex<Queues>,
    changed: Notify,
    dropped: AtomicU64,
    bytes_max: usize,
}

#[derive(Debug)]
struct Queues {
    control: Queue,
    data: Queue,
    telemetry: Queue,
    closed: bool,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<(usize, ControlMessage)>,
    bytes: usize,
    len_max: usize,
}

impl Lanes {
    pub(super) fn new(settings: &ChannelSettings) -> Self {
        let queue = |len_max| Queue { waiting: VecDeque::new(), bytes: 0, len_max };
        let queues = Queues {
            control: queue(settings.control_len_max),
            data: queue(settings.data_len_max),
            telemetry: queue(settings.telemetry_len_max),
            closed: false,
        };
        let (queues, bytes_max) = (Mutex::new(queues), settings.lane_bytes_max);
        Self { queues, changed: Notify::new(), dropped: AtomicU64::new(0), bytes_max }
    }

    /// Puts a message of so many bytes in its lane.
    pub(super) fn push(&self, message: ControlMessage, bytes: usize) -> Result<Sent, Unfit> {
        let lane = message.kind.lane();
        let mut queues = lock(&self.queues);
        if queues.closed {
            return Err(Unfit::Closed);
        }
        let queue = queues.lane(lane);
        let crowded = !queue.waiting.is_empty() && queue.bytes.saturating_add(bytes) > self.bytes_max;
        if crowded || queue.waiting.len() >= queue.len_max {
            if lane != Lane::Telemetry {
                return Err(Unfit::Full);
            }
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(Sent::Dropped);
        }
        queue.bytes = queue.bytes.saturating_add(bytes);
        queue.waiting.push_back((bytes, message));
        drop(queues);
        self.changed.notify_one();
        Ok(Sent::Queued)
    }

    /// The most urgent message, as soon as there is one; `None` once closed and empty. Only one
    /// task may ask.
    pub(super) async fn pop(&self) -> Option<ControlMessage> {
        loop {
            // Asked for before looking, so that what changes in between wakes it.
            let changed = self.changed.notified();
            {
                let mut queues = lock(&self.queues);
                if let Some(message) = Lane::ALL.into_iter().find_map(|lane| queues.lane(lane).take()) {
                    return Some(message);
                }
                if queues.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Takes nothing more in; what waits can still be taken out.
    pub(super) fn close(&self) {
        lock(&self.queues).closed = true;
        self.changed.notify_one();
    }

    /// Takes nothing more in, and forgets what waits.
    pub(super) fn discard(&self) {
        let mut queues = lock(&self.queues);
        queues.closed = true;
        Lane::ALL.into_iter().for_each(|lane| queues.lane(lane).clear());
        drop(queues);
        self.changed.notify_one();
    }

    /// Counts one more that was dropped before it could be put in.
    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Queues {
    fn lane(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Control => &mut self.control,
            Lane::Data => &mut self.data,
            Lane::Telemetry => &mut self.telemetry,
        }
    }
}

impl Queue {
    fn take(&mut self) -> Option<ControlMessage> {
        let (bytes, message) = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(message)
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::contract::control::MessageKind;

    fn message(kind: MessageKind, number: usize) -> ControlMessage {
        ControlMessage::new(kind, number.to_string(), None, Map::new()).unwrap()
    }

    fn lanes(len_max: usize, lane_bytes_max: usize) -> Lanes {
        let (control_len_max, data_len_max, telemetry_len_max) = (len_max, len_max, len_max);
        let settings = ChannelSettings {
            control_len_max,
            data_len_max,
            telemetry_len_max,
            lane_bytes_max,
            ..ChannelSettings::default()
        };
        Lanes::new(&settings)
    }

    #[tokio::test]
    async fn the_most_urgent_comes_first_and_each_lane_in_its_order() {
        let lanes = lanes(10, 1000);
        let kinds = [
            MessageKind::Status,
            MessageKind::Signal,
            MessageKind::Status,
            MessageKind::Ready,
            MessageKind::Outcome,
            MessageKind::Stop,
        ];
        for (number, kind) in kinds.into_iter().enumerate() {
            assert_eq!(lanes.push(message(kind, number), 1), Ok(Sent::Queued));
        }
        lanes.close();
        let mut order = Vec::new();
        while let Some(message) = lanes.pop().await {
            order.push(message.correlation_id);
        }
        assert_eq!(order, ["3", "5", "1", "4", "0", "2"]);
        assert_eq!(lanes.push(message(MessageKind::Stop, 0), 1), Err(Unfit::Closed));
    }

    #[tokio::test]
    async fn a_full_lane_says_so_and_telemetry_is_counted() {
        let lanes = lanes(2, 100);
        for number in 0..5 {
            let expected = if number < 2 { Sent::Queued } else { Sent::Dropped };
            assert_eq!(lanes.push(message(MessageKind::Status, number), 1), Ok(expected));
            let expected = if number < 2 { Ok(Sent::Queued) } else { Err(Unfit::Full) };
            assert_eq!(lanes.push(message(MessageKind::Signal, number), 1), expected);
        }
        assert_eq!(lanes.dropped(), 3);
        assert_eq!(lanes.push(message(MessageKind::Stop, 0), 101), Ok(Sent::Queued), "one alone may be more");
        assert_eq!(lanes.push(message(MessageKind::Stop, 1), 1), Err(Unfit::Full), "over it nothing fits");
        assert_eq!(lanes.pop().await.map(|message| message.kind), Some(MessageKind::Stop));
        assert_eq!(lanes.push(message(MessageKind::Stop, 2), 100), Ok(Sent::Queued));
        lanes.discard();
        assert_eq!(lanes.pop().await, None);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let lanes = std::sync::Arc::new(lanes(10, 1000));
        let waiting = tokio::spawn({
            let lanes = std::sync::Arc::clone(&lanes);
            async move { (lanes.pop().await.map(|message| message.kind), lanes.pop().await) }
        });
        tokio::task::yield_now().await;
        lanes.push(message(MessageKind::Ready, 0), 1).unwrap();
        tokio::task::yield_now().await;
        lanes.close();
        assert_eq!(waiting.await.unwrap(), (Some(MessageKind::Ready), None));
    }
}
