//! Looking who has a prefix: for tools.
//!
//! Owns: one question to the routers of a prefix, over a connection of a tool's own.
//! Never: takes the exclusive queue, or counts as a router.
//! Holds: it ends within its bound, and leaves nothing behind.

use std::{sync::Arc, time::Duration};

use super::{
    announcement::{Announcement, State, host},
    random,
    seat::{ALL, WAITING, announcement},
};
use crate::{
    bus::{Bus, BusError, Departure, Queue, QueueKind, Topology},
    clock,
    runtime::topology,
};

/// How long an answer is waited for: a running router tells those that wait each second, asked or
/// not.
const LOOK_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long after the first answer others may come.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(250);
/// How long the question waits for its confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(500);

/// Who runs on a prefix: one router, if all is well.
///
/// # Errors
/// When the broker refuses to be asked.
pub async fn look(bus: &Arc<dyn Bus>, prefix: &str) -> Result<Vec<Announcement>, BusError> {
    let exchange = topology::routers(prefix);
    let name = format!("{prefix}.tool.{}", random());
    let bindings = vec![(exchange, WAITING.to_owned())];
    let queue = Queue { name: name.clone(), kind: QueueKind::Exclusive, bindings };
    bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await?;
    let mut ears = bus.consumer(&name, 64).await?;
    let own = Announcement {
        router: random(),
        instance: "doctor".to_owned(),
        host: host(),
        pid: std::process::id(),
        ledger_id: String::new(),
        environment: String::new(),
        state: State::Looking,
        since: clock::wall(),
        has_lock: false,
        not_alone_since: None,
        user: None,
        version: None,
    };
    let departure = Departure { message: announcement(prefix, &own, ALL, 0), mandatory: false };
    // Not heard is no fault: a running router tells by itself.
    let _ = bus.publisher().await?.publish(&[&departure], CONFIRM_TIMEOUT).await;
    let mut found: Vec<Announcement> = Vec::new();
    let mut until = tokio::time::Instant::now() + LOOK_TIMEOUT;
    while let Ok(heard) = tokio::time::timeout_at(until, ears.next(64)).await {
        for delivery in heard? {
            let Some(other) = Announcement::read(&delivery.message.body) else { continue };
            let known = found.iter().any(|known| known.router == other.router);
            if other.state == State::Running && !known {
                found.push(other);
                until = until.min(tokio::time::Instant::now() + OTHERS_TIMEOUT);
            }
        }
    }
    ears.settler().close().await;
    Ok(found)
}
