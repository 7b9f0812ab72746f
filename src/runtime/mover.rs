//! Moving messages: from a queue of the router's own to an exchange of its own, one after another.
//!
//! Owns: putting back what the broker would have dropped of a lane, and emptying the refused
//! copies' queue of an earlier release.
//! Never: judges a message, or takes one off its queue before the broker has it elsewhere.
//! Holds: nothing is lost, and what is moved twice is known for a repeat; nobody waits for a mover.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::link::{Connected, Link, WORKED_FOR};
use crate::{
    bus::{BusError, Departure, Fate, Queue},
    contract::message::{HeaderValue, Message},
    telemetry::{Telemetry, health::BrokerFault},
};

/// Where the user-id stands meanwhile: the broker lets nobody publish under another's.
const USER_ID: &str = "x-swarmgate-dead-user-id";
/// Headers by which the broker would send a copy elsewhere too.
const COPIES: [&str; 2] = ["CC", "BCC"];
/// How many messages are moved at a time.
const BATCH_MAX: u16 = 64;
/// How long a batch may wait for its confirms.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a retired queue gives nothing before it is looked at whether it is empty.
const EMPTY_LOOK: Duration = Duration::from_millis(500);

/// One queue's mover.
pub(super) struct Mover {
    pub from: Queue,
    pub to: String,
    /// Of an earlier release: unbound, and deleted when it is empty.
    pub retired: bool,
    pub link: Link,
    pub telemetry: Arc<Telemetry>,
    pub stopping: CancellationToken,
}

impl Mover {
    /// Moves until the router stops, or a retired queue is gone.
    pub async fn run(self) {
        let mut attempt = 0_u32;
        loop {
            let connected = tokio::select! {
                () = self.stopping.cancelled() => return,
                connected = self.link.connected(0) => connected,
            };
            let Some(connected) = connected else { return };
            let since = Instant::now();
            let moved = tokio::select! {
                () = self.stopping.cancelled() => return,
                moved = self.carry(&connected) => moved,
                fault = self.link.outlived(connected.generation) => Err(fault),
            };
            let Err(fault) = moved else { return };
            attempt = if since.elapsed() >= WORKED_FOR { 0 } else { attempt.saturating_add(1) };
            let pause = (PAUSE_MIN * (1 << attempt.min(10))).min(PAUSE_MAX);
            if !matches!(fault, BusError::Unreachable { .. }) {
                warn!(queue = self.from.name, error = %fault, retry_ms = pause.as_millis() as u64, "messages cannot be moved");
                let fault = BrokerFault { why: fault.to_string(), needed: false };
                self.telemetry.health.set_topology(&self.fault_name(), Some(fault));
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn fault_name(&self) -> String {
        format!("{} (consumer)", self.from.name)
    }

    /// `Ok` when a retired queue is gone.
    async fn carry(&self, connected: &Connected) -> Result<(), BusError> {
        let bus = connected.bus.as_ref();
        if self.retired {
            let Some(left) = bus.counts(&self.from.name).await? else { return Ok(()) };
            info!(
                queue = self.from.name,
                left = left.ready,
                "a queue of an earlier release is emptied and deleted"
            );
            bus.unbind(&self.from).await?;
        }
        let mut consumer = bus.consumer(&self.from.name, BATCH_MAX).await?;
        let settler = consumer.settler();
        let publisher = bus.publisher().await?;
        self.telemetry.health.set_topology(&self.fault_name(), None);
        loop {
            let taken = tokio::select! {
                taken = consumer.next(BATCH_MAX.into()) => taken?,
                () = tokio::time::sleep(EMPTY_LOOK), if self.retired => {
                    if bus.counts(&self.from.name).await?.is_some_and(|left| left.ready == 0) {
                        settler.close().await;
                        return bus.delete_queue(&self.from.name).await;
                    }
                    continue;
                }
            };
            let Some(last) = taken.last().map(|delivery| delivery.tag) else {
                return Err(BusError::Cancelled { queue: self.from.name.clone() });
            };
            let departures: Vec<Departure> = taken
                .into_iter()
                // Both exchanges that are moved to have a queue for every key: nothing can come
                // back.
                .map(|delivery| Departure { message: packed(delivery.message, &self.to), mandatory: false })
                .collect();
            let batch: Vec<&Departure> = departures.iter().collect();
            let fates = publisher.publish(&batch, CONFIRM_TIMEOUT).await?;
            // What AMQP has no room for would never move, and must not hold up the rest.
            if fates.iter().all(|fate| matches!(fate, Fate::Carried | Fate::Unsendable)) {
                settler.ack(last, true).await?;
            } else {
                // All of it comes again with the next consumer; what has left is known for a
                // repeat.
                settler.close().await;
                return Err(BusError::Refused {
                    what: format!("move what is in `{}` to `{}`", self.from.name, self.to),
                    reason: "not all of it was confirmed".to_owned(),
                });
            }
        }
    }
}

/// A message as it goes to `exchange`: one copy, under the router's own name.
fn packed(mut message: Message, exchange: &str) -> Message {
    exchange.clone_into(&mut message.exchange);
    let properties = &mut message.properties;
    properties.headers.retain(|(name, _)| !COPIES.contains(&&**name) && name != USER_ID);
    if let Some(user_id) = properties.user_id.take() {
        properties.headers.push((Cow::Borrowed(USER_ID), HeaderValue::Text(user_id)));
    }
    // What waited in vain once is to be judged now.
    properties.expiration = None;
    message
}

/// A message that came back from where the router puts what the broker would have dropped: as its
/// sender made it, and how long it was meant to live, where that was said.
pub(super) fn unpacked(message: &mut Message, into: &str) -> Option<u64> {
    into.clone_into(&mut message.exchange);
    let properties = &mut message.properties;
    properties.user_id = properties.header_text(USER_ID).map(str::to_owned);
    properties.headers.retain(|(name, _)| name != USER_ID);
    let Some(HeaderValue::Array(deaths)) = properties.header("x-death") else { return None };
    let Some(HeaderValue::Table(first)) = deaths.first() else { return None };
    let expiration = first.iter().find(|(name, _)| name == "original-expiration")?;
    expiration.1.as_text()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::message::Properties;

    #[test]
    fn a_message_comes_back_as_it_was_but_for_what_would_copy_or_expire_it() {
        let text = |name: &'static str, text: &str| (Cow::Borrowed(name), HeaderValue::Text(text.to_owned()));
        let death = HeaderValue::Table(vec![text("reason", "expired"), text("original-expiration", "1000")]);
        let sent = Message {
            exchange: "swarmgate.in.dead".to_owned(),
            routing_key: "signal.swarm-stop.s.r.i".to_owned(),
            properties: Properties {
                user_id: Some("orc".to_owned()),
                expiration: Some("7".to_owned()),
                headers: vec![
                    text("CC", "signal.kill.s.r.i"),
                    text(USER_ID, "forged"),
                    text("mine", "kept"),
                    (Cow::Borrowed("x-death"), HeaderValue::Array(vec![death])),
                ],
                ..Properties::default()
            },
            body: "{}".into(),
        };
        let mut moved = packed(sent.clone(), "swarmgate.in.returned");
        assert_eq!(
            (moved.exchange.as_str(), moved.properties.user_id.as_deref()),
            ("swarmgate.in.returned", None)
        );
        assert_eq!(unpacked(&mut moved, "swarmgate.in"), Some(1000));
        assert_eq!(
            (moved.exchange.as_str(), moved.properties.user_id.as_deref()),
            ("swarmgate.in", Some("orc"))
        );
        assert_eq!(moved.properties.expiration, None);
        let names: Vec<&str> = moved.properties.headers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["mine", "x-death"]);
        let mut unsaid = Message { properties: Properties::default(), ..sent };
        assert_eq!(unpacked(&mut unsaid, "swarmgate.in"), None);
        assert_eq!(unsaid.properties.user_id, None);
    }
}
