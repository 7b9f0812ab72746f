//! How much waits in the router's own queues, and who listens to them: for its own status and the
//! metrics.
//!
//! Owns: asking the broker for each queue, and what it answered last.
//! Never: holds anything up: the router takes what is known when it reports.
//! Holds: what is not known is left out, and is never 0.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::link::{Connected, Link};
use crate::{bus::Counts, telemetry::Telemetry};

/// What is known, by queue.
pub(super) type KnownDepths = BTreeMap<String, Counts>;

/// Looks for one router.
pub(super) struct Depths {
    pub queues: Vec<String>,
    /// The pause between two looks.
    pub every: Duration,
    pub link: Link,
    pub known: watch::Sender<KnownDepths>,
    /// The refused copies' queue, whose depth is a metric.
    pub refused: String,
    pub telemetry: Arc<Telemetry>,
    pub stopping: CancellationToken,
}

impl Depths {
    /// Looks at each new connection, and again and again while it stands.
    pub async fn run(self) {
        loop {
            let connected = tokio::select! {
                () = self.stopping.cancelled() => return,
                connected = self.link.connected(0) => connected,
            };
            let Some(connected) = connected else { return };
            let looked = async {
                self.tell(self.look(&connected).await);
                tokio::time::sleep(self.every).await;
            };
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = looked => {}
                _ = self.link.outlived(connected.generation) => {
                    self.tell(KnownDepths::new());
                }
            }
        }
    }

    fn tell(&self, known: KnownDepths) {
        self.telemetry.metrics.refused.set_depth(known.get(&self.refused).map(|counts| counts.ready));
        self.known.send_replace(known);
    }

    async fn look(&self, connected: &Connected) -> KnownDepths {
        let mut known = KnownDepths::new();
        for queue in &self.queues {
            // A broker that does not answer for one queue may answer for the others; a queue that
            // is not there has its own word in the router's readiness.
            if let Ok(Some(counts)) = connected.bus.counts(queue).await {
                known.insert(queue.clone(), counts);
            }
        }
        known
    }
}
