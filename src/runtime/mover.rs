//! Moving messages: from a queue of the router's own to an exchange of its own, one after another.
//!
//! Owns: putting back what the broker would have dropped of a lane, bringing to the urgent lane
//! what no binding took there, and emptying the refused copies' queue of an earlier release.
//! Never: judges a message, or takes one off its queue before the broker has it elsewhere.
//! Holds: nothing is lost, and what is moved twice is known for a repeat; nobody waits for a mover.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    corridor::Names,
    link::{Connected, Link, WORKED_FOR},
};
use crate::{
    bus::{Bus, BusError, Delivery, Departure, Fate, Publisher, Queue, Topology},
    contract::message::{HeaderValue, Message},
    telemetry::{Telemetry, health::BrokerFault},
};

/// Where the user-id stands meanwhile: the broker lets nobody publish under another's.
const USER_ID: &str = "x-swarmgate-dead-user-id";
/// Where the message-id stands meanwhile: what no queue takes is known by it, and senders' own may
/// be the same or absent.
const MESSAGE_ID: &str = "x-swarmgate-moved-message-id";
/// Where the expiration stands meanwhile: nothing is to expire on the way.
const EXPIRATION: &str = "x-swarmgate-moved-expiration";
/// That the broker would have dropped it before.
const DROPPED: &str = "x-swarmgate-moved-dropped";
/// A sender's header of such a name is none.
const OWN: [&str; 4] = [USER_ID, MESSAGE_ID, EXPIRATION, DROPPED];
/// Headers by which the broker would send a copy elsewhere too.
const COPIES: [&str; 2] = ["CC", "BCC"];
/// How many messages are moved at a time.
const BATCH_MAX: u16 = 64;
/// How long a batch may wait for its confirms.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The same where stops wait.
const URGENT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long the urgent lane's queue stays away before it is declared anew: where its name is there
/// again before the broker has ended the consumer of the old one, it never ends that consumer.
const ANEW_PAUSE: Duration = Duration::from_millis(500);
/// How long its consumer may take to be opened again before the connection is given up, and how
/// often that is looked at.
const READ_PATIENCE: Duration = Duration::from_secs(3);
const READ_LOOK: Duration = Duration::from_millis(100);
/// How long a retired queue gives nothing before it is looked at whether it is empty.
const EMPTY_LOOK: Duration = Duration::from_millis(500);

/// One queue's mover.
pub(super) struct Mover {
    pub from: Queue,
    pub to: String,
    pub moves: Moves,
    pub link: Link,
    pub telemetry: Arc<Telemetry>,
    pub stopping: CancellationToken,
}

/// What a mover moves.
pub(super) enum Moves {
    /// What the broker would have dropped of a lane.
    Dropped,
    /// What is in a queue of an earlier release: unbound, and deleted when it is empty.
    Retired,
    /// What is of the urgent lane and no binding took, to the lane's queue, which is declared anew
    /// where it is gone.
    Unbound(Box<UnboundTo>),
}

/// Where that goes.
pub(super) struct UnboundTo {
    pub lane: Queue,
    pub names: Names,
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
            let is_lost = matches!(fault, BusError::Unreachable { .. });
            // A connection that is lost is its keeper's to wait for.
            let worked = is_lost || since.elapsed() >= WORKED_FOR;
            attempt = if worked { 0 } else { attempt.saturating_add(1) };
            let pause = (PAUSE_MIN * (1 << attempt.min(10))).min(self.pause_max());
            if !is_lost {
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

    fn pause_max(&self) -> Duration {
        if matches!(self.moves, Moves::Unbound(_)) { URGENT_PAUSE_MAX } else { PAUSE_MAX }
    }

    fn fault_name(&self) -> String {
        format!("{} (consumer)", self.from.name)
    }

    /// `Ok` when a retired queue is gone.
    async fn carry(&self, connected: &Connected) -> Result<(), BusError> {
        let bus = connected.bus.as_ref();
        let is_retired = matches!(self.moves, Moves::Retired);
        if is_retired {
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
                () = tokio::time::sleep(EMPTY_LOOK), if is_retired => {
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
            let departures: Vec<Departure> =
                taken.into_iter().map(|delivery| self.departure(delivery)).collect();
            let fates = self.publish(connected, publisher.as_ref(), &departures).await?;
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

    fn departure(&self, delivery: Delivery) -> Departure {
        match &self.moves {
            Moves::Unbound(to) => Departure {
                message: packed_unbound(delivery.message, &self.to, &to.names, delivery.tag),
                mandatory: true,
            },
            // Both exchanges that these are moved to have a queue for every key: nothing can come
            // back.
            _ => Departure { message: packed(delivery.message, &self.to), mandatory: false },
        }
    }

    /// Publishes; once more where no queue took something, and the queue could be declared.
    async fn publish(
        &self,
        connected: &Connected,
        publisher: &dyn Publisher,
        departures: &[Departure],
    ) -> Result<Vec<Fate>, BusError> {
        let batch: Vec<&Departure> = departures.iter().collect();
        let fates = publisher.publish(&batch, CONFIRM_TIMEOUT).await?;
        match &self.moves {
            Moves::Unbound(to) if fates.contains(&Fate::Returned) => {
                let into = &to.lane;
                warn!(
                    queue = into.name,
                    "the urgent lane's queue was gone or not bound; it is declared anew"
                );
                let one = Topology { exchanges: Vec::new(), queues: vec![into.clone()] };
                tokio::time::sleep(ANEW_PAUSE).await;
                connected.bus.declare(&one).await?;
                let fates = publisher.publish(&batch, CONFIRM_TIMEOUT).await?;
                if !is_read(connected.bus.as_ref(), &into.name).await? {
                    warn!(queue = into.name, "nobody reads it; connecting again");
                    self.link.fail(connected.generation);
                }
                Ok(fates)
            }
            _ => Ok(fates),
        }
    }
}

/// Whether a queue has a consumer, or gets one soon.
async fn is_read(bus: &dyn Bus, queue: &str) -> Result<bool, BusError> {
    let until = Instant::now() + READ_PATIENCE;
    while Instant::now() < until {
        if bus.counts(queue).await?.is_some_and(|counts| counts.consumers > 0) {
            return Ok(true);
        }
        tokio::time::sleep(READ_LOOK).await;
    }
    Ok(false)
}

/// A message as it goes to `exchange`: one copy, under the router's own name.
fn packed(mut message: Message, exchange: &str) -> Message {
    exchange.clone_into(&mut message.exchange);
    let properties = &mut message.properties;
    properties.headers.retain(|(name, _)| !COPIES.contains(&&**name) && !OWN.contains(&&**name));
    if let Some(user_id) = properties.user_id.take() {
        properties.headers.push((Cow::Borrowed(USER_ID), HeaderValue::Text(user_id)));
    }
    // What waited in vain once is to be judged now.
    properties.expiration = None;
    message
}

/// The same, for what no binding took: as its sender made it again, once it is unpacked.
fn packed_unbound(mut message: Message, exchange: &str, names: &Names, tag: u64) -> Message {
    let was_dropped = message.exchange == names.returned;
    if was_dropped {
        unpacked(&mut message, names);
    }
    let properties = &mut message.properties;
    let message_id = properties.message_id.replace(tag.to_string());
    let expiration = properties.expiration.take();
    let dropped = was_dropped.then(String::new);
    let mut message = packed(message, exchange);
    for (name, text) in [(MESSAGE_ID, message_id), (EXPIRATION, expiration), (DROPPED, dropped)] {
        message.properties.headers.extend(text.map(|text| (Cow::Borrowed(name), HeaderValue::Text(text))));
    }
    message
}

/// What is known of a message by the way it came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Whether the broker would have dropped it.
    pub was_dropped: bool,
    /// How long it was meant to live, where the broker took that away.
    pub expiration_ms: Option<u64>,
}

/// Makes a message that came from where only the router publishes (`topology::returned` and
/// `topology::moved`, so that nobody else can claim it) as its sender made it. Any other stays.
pub(super) fn unpacked(message: &mut Message, names: &Names) -> Moved {
    let is_moved = message.exchange == names.moved;
    if !is_moved && message.exchange != names.returned {
        return Moved::default();
    }
    names.into.clone_into(&mut message.exchange);
    let properties = &mut message.properties;
    let was_dropped = !is_moved || properties.header(DROPPED).is_some();
    let text = |name| properties.header_text(name).map(str::to_owned);
    let (user_id, message_id, expiration) = (text(USER_ID), text(MESSAGE_ID), text(EXPIRATION));
    properties.user_id = user_id;
    if is_moved {
        (properties.message_id, properties.expiration) = (message_id, expiration);
    }
    properties.headers.retain(|(name, _)| !OWN.contains(&&**name));
    let expiration_ms = if was_dropped { original_expiration_ms(message) } else { None };
    Moved { was_dropped, expiration_ms }
}

/// The expiration that the broker took away when it dropped the message.
fn original_expiration_ms(message: &Message) -> Option<u64> {
    let Some(HeaderValue::Array(deaths)) = message.properties.header("x-death") else { return None };
    let Some(HeaderValue::Table(first)) = deaths.first() else { return None };
    let expiration = first.iter().find(|(name, _)| name == "original-expiration")?;
    expiration.1.as_text()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::message::Properties;

    fn text(name: &'static str, text: &str) -> (Cow<'static, str>, HeaderValue) {
        (Cow::Borrowed(name), HeaderValue::Text(text.to_owned()))
    }

    fn sent() -> Message {
        let death = HeaderValue::Table(vec![text("reason", "expired"), text("original-expiration", "1000")]);
        let forged = OWN.map(|name| text(name, "forged"));
        let others = [
            text("CC", "signal.kill.s.r.i"),
            text("mine", "kept"),
            (Cow::Borrowed("x-death"), HeaderValue::Array(vec![death])),
        ];
        Message {
            exchange: "swarmgate.in.dead".to_owned(),
            routing_key: "signal.swarm-stop.s.r.i".to_owned(),
            properties: Properties {
                user_id: Some("orc".to_owned()),
                message_id: Some("theirs".to_owned()),
                expiration: Some("7".to_owned()),
                headers: forged.into_iter().chain(others).collect(),
                ..Properties::default()
            },
            body: "{}".into(),
        }
    }

    fn names(message: &Message) -> Vec<&str> {
        message.properties.headers.iter().map(|(name, _)| &**name).collect()
    }

    #[test]
    fn a_message_comes_back_as_it_was_but_for_what_would_copy_or_expire_it() {
        let ours = Names::with_prefix("swarmgate");
        let mut moved = packed(sent(), "swarmgate.in.returned");
        assert_eq!(
            (moved.exchange.as_str(), moved.properties.user_id.as_deref()),
            ("swarmgate.in.returned", None)
        );
        let known = Moved { was_dropped: true, expiration_ms: Some(1000) };
        assert_eq!(unpacked(&mut moved, &ours), known);
        assert_eq!(
            (moved.exchange.as_str(), moved.properties.user_id.as_deref()),
            ("swarmgate.in", Some("orc"))
        );
        assert_eq!(
            (moved.properties.expiration.as_deref(), moved.properties.message_id.as_deref()),
            (None, Some("theirs"))
        );
        assert_eq!(names(&moved), ["mine", "x-death"]);
        let exchange = "swarmgate.in.returned".to_owned();
        let mut unsaid = Message { properties: Properties::default(), exchange, ..sent() };
        assert_eq!(unpacked(&mut unsaid, &ours), Moved { was_dropped: true, expiration_ms: None });
        assert_eq!(unsaid.properties.user_id, None);
    }

    #[test]
    fn what_no_binding_took_comes_to_its_lane_as_it_was() {
        let ours = Names::with_prefix("swarmgate");
        let came = Message { exchange: "swarmgate.in".to_owned(), ..sent() };
        let mut moved = packed_unbound(came.clone(), &ours.moved, &ours, 3);
        let properties = &moved.properties;
        assert_eq!((properties.user_id.as_deref(), properties.expiration.as_deref()), (None, None));
        assert_eq!(
            (moved.exchange.as_str(), properties.message_id.as_deref()),
            ("swarmgate.in.moved", Some("3"))
        );
        assert_eq!(unpacked(&mut moved, &ours), Moved::default());
        let mut expected = came;
        expected.properties.headers.retain(|(name, _)| ["mine", "x-death"].contains(&&**name));
        assert_eq!(moved, expected);
        let bare = Message { properties: Properties::default(), exchange: ours.into.clone(), ..sent() };
        let mut moved = packed_unbound(bare.clone(), &ours.moved, &ours, 4);
        assert_eq!((unpacked(&mut moved, &ours), moved), (Moved::default(), bare));
    }

    #[test]
    fn what_was_dropped_before_is_known_for_that_and_its_sender_too() {
        let ours = Names::with_prefix("swarmgate");
        let mut moved = packed_unbound(packed(sent(), &ours.returned), &ours.moved, &ours, 1);
        let known = Moved { was_dropped: true, expiration_ms: Some(1000) };
        assert_eq!(unpacked(&mut moved, &ours), known);
        let properties = &moved.properties;
        assert_eq!(
            (properties.user_id.as_deref(), properties.message_id.as_deref()),
            (Some("orc"), Some("theirs"))
        );
        assert_eq!((properties.expiration.as_deref(), names(&moved)), (None, vec!["mine", "x-death"]));
    }

    #[test]
    fn a_sender_claims_nothing_by_our_headers() {
        let mut came = Message { exchange: "swarmgate.in".to_owned(), ..sent() };
        let before = came.clone();
        assert_eq!(unpacked(&mut came, &Names::with_prefix("swarmgate")), Moved::default());
        assert_eq!(came, before);
    }
}
