//! The publishing channels of one way, used in turn.
//!
//! Owns: which channel the next batch takes.
//! Never: publishes.
//! Holds: while confirms arrive, each batch has a channel to itself. Where they stay away a batch
//! goes by a channel that has published before, up to [`UNRESOLVED_MAX`] messages: when a node of a
//! cluster hangs, RabbitMQ holds what a *fresh* channel publishes to a classic queue there, for
//! everybody, until it counts the node as down, and lets a channel go on that had published to a
//! queue of another node before. Hence they are used in turn, and not opened when needed.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::OnceCell;

use crate::bus::{Bus, BusError, Publisher};

/// Channels for first tries. Each costs the broker a process, and lets so many more messages out
/// while a node hangs.
const CHANNELS_MAX: usize = 8;
/// Messages on one channel whose fate is unknown: RabbitMQ stops reading the whole connection when
/// some 400 wait for a channel that is stuck.
const UNRESOLVED_MAX: usize = 200;

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// First tries.
    First,
    /// What is tried again.
    Again,
}

/// A channel, opened by its first batch.
#[derive(Clone, Default)]
pub(super) struct Channel(Arc<OnceCell<Box<dyn Publisher>>>);

impl Channel {
    /// The channel, opened where it is not.
    ///
    /// # Errors
    /// When it cannot be.
    pub async fn publisher(&self, bus: &dyn Bus) -> Result<&dyn Publisher, BusError> {
        let opening = async || {
            let mut publisher = bus.publisher().await?;
            publisher.set_lasting();
            Ok(publisher)
        };
        self.0.get_or_try_init(opening).await.map(AsRef::as_ref)
    }

    /// Whether no batch uses it: a batch under way has a clone of it.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn unresolved(&self) -> usize {
        self.0.get().map_or(0, |publisher| publisher.unresolved())
    }
}

/// The channels of the present connection, the one that was used longest ago first.
#[derive(Default)]
pub(super) struct Channels {
    generation: u64,
    first: VecDeque<Channel>,
    again: Channel,
}

impl Channels {
    /// Forgets channels of another connection.
    pub fn of(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
    }

    /// The channel for a batch of so many messages. `confirms_arrive`: those that had none are not
    /// needed any more.
    pub fn pick(&mut self, kind: Kind, count: usize, confirms_arrive: bool) -> Channel {
        if kind == Kind::Again {
            // What failed once has no claim on a channel that works.
            if !self.again.is_idle() || self.again.unresolved() > 0 {
                self.again = Channel::default();
            }
            return self.again.clone();
        }
        if confirms_arrive {
            self.first.retain(|channel| !channel.is_idle() || channel.unresolved() == 0);
        }
        if self.first.len() < CHANNELS_MAX {
            self.first.push_front(Channel::default());
        }
        let clean = |channel: &Channel| channel.is_idle() && channel.unresolved() == 0;
        let roomy = |channel: &Channel| {
            let unresolved = channel.unresolved();
            unresolved > 0 && unresolved + count <= UNRESOLVED_MAX
        };
        let index = self.first.iter().position(clean).or_else(|| self.first.iter().position(roomy));
        // None has room, and a further batch on any could stop the whole connection
        // (`UNRESOLVED_MAX`): the oldest goes for a fresh one.
        let channel = match index {
            Some(index) => self.first.remove(index).unwrap_or_default(),
            None => {
                self.first.pop_front();
                Channel::default()
            }
        };
        self.first.push_back(channel.clone());
        channel
    }
}
