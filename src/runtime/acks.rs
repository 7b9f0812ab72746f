//! Acknowledging: many deliveries at once.
//!
//! Owns: which deliveries may be acknowledged and are not yet.
//! Never: acknowledges what is not durable and carried, or keeps a lane short of deliveries.
//! Holds: what may be acknowledged is within [`HELD_MAX`], or when it is a quarter of its lane's prefetch: each
//! acknowledgement is a command in the broker's own log, and costs it as much for one delivery as for a hundred.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::link::{Link, Settlement};
use crate::{contract::lane::Lane, telemetry::Telemetry};

/// How long an acknowledgement is held.
const HELD_MAX: Duration = Duration::from_millis(50);
/// The share of a lane's prefetch that is not held any longer.
const PREFETCH_SHARE: u64 = 4;

/// Acknowledgements that are held.
pub(super) struct Acks {
    link: Link,
    telemetry: Arc<Telemetry>,
    /// How many deliveries of a lane are acknowledged at once.
    enough: [u64; 4],
    held: [Option<Settlement>; 4],
    until: Option<Instant>,
}

impl Acks {
    /// None so far, of consumers with their prefetch.
    pub fn new(link: Link, telemetry: Arc<Telemetry>, consumers: &[(Lane, String, u16)]) -> Self {
        let prefetch = |lane| consumers.iter().find(|(of, ..)| *of == lane).map_or(1, |(.., count)| *count);
        let enough = Lane::ALL.map(|lane| u64::from(prefetch(lane)) / PREFETCH_SHARE);
        Self { link, telemetry, enough, held: [const { None }; 4], until: None }
    }

    /// When what is held has to go.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes what may be acknowledged from now on.
    pub async fn take(&mut self, settlements: Vec<Settlement>) {
        for settlement in settlements {
            let lane = settlement.lane as usize;
            let (Some(slot), Some(enough)) = (self.held.get_mut(lane), self.enough.get(lane)) else {
                continue;
            };
            let first = self.link.settled(settlement.lane, settlement.opening);
            let last = slot.insert(settlement).tag;
            if last.saturating_sub(first) < *enough {
                self.until.get_or_insert_with(|| Instant::now() + HELD_MAX);
            } else if let Some(settlement) = slot.take() {
                settlement.settle(&self.link, &self.telemetry).await;
            }
        }
        if self.until.is_some_and(|until| until <= Instant::now()) {
            self.flush().await;
        }
    }

    /// Acknowledges all that is held.
    pub async fn flush(&mut self) {
        self.until = None;
        for slot in &mut self.held {
            if let Some(settlement) = slot.take() {
                settlement.settle(&self.link, &self.telemetry).await;
            }
        }
    }
}
