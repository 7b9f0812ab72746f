//! The bus: where deliveries come from and messages leave for.
//!
//! Owns: the traits that both drivers keep, and what every driver owes the corridor.
//! Never: judges a message, rewrites one, or retries on its own; the runtime decides what to do
//! with an `Unknown`.
//! Holds: a delivery is acked only when the runtime says so; a publish is `Carried` only when the
//! broker confirmed it and did not return it.

pub mod amqp;
pub mod backoff;
pub mod embedded;
pub mod tls;

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use self::tls::TlsFault;
use crate::{contract::message::Message, telemetry::metrics::PublishFate};

/// A message off a queue, not yet acknowledged.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The driver's tag for it on its consumer; strictly increasing per consumer.
    pub tag: u64,
    /// Whether the broker says it was delivered before.
    pub redelivered: bool,
    /// The message; `exchange` and `routing_key` are those it was published with.
    pub message: Message,
}

/// A message that is to leave, with what the driver needs to tell its fate.
#[derive(Clone, Debug)]
pub struct Departure {
    /// The message; its `message_id` is unique within a batch when `mandatory`.
    pub message: Message,
    /// Whether the broker must return it when no queue takes it.
    pub mandatory: bool,
}

/// What became of one departure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The broker took responsibility for it.
    Carried,
    /// The broker confirmed it, but no queue took it (mandatory only).
    Returned,
    /// The broker said no (nack: a full queue with reject-publish, for one).
    Rejected,
    /// AMQP has no room for it (a property beyond 255 bytes): it never leaves, however often it is
    /// tried.
    Unsendable,
    /// Nothing was heard before the deadline or the channel died: it may or may not have left.
    Unknown,
}

impl From<&Fate> for PublishFate {
    fn from(fate: &Fate) -> Self {
        match fate {
            Fate::Carried => PublishFate::Carried,
            Fate::Returned => PublishFate::Returned,
            Fate::Rejected => PublishFate::Rejected,
            Fate::Unsendable => PublishFate::Unsendable,
            Fate::Unknown => PublishFate::Unknown,
        }
    }
}

/// What goes wrong between here and the broker.
#[derive(Debug, Error)]
pub enum BusError {
    /// The connection could not be made or was lost.
    #[error("the broker at `{address}` {}: {reason}", if denies(.reason) { "refuses the user" } else { "cannot be reached" })]
    Unreachable {
        /// Where, without its password.
        address: String,
        /// The client's words.
        reason: String,
    },
    /// The connection could not be made, because of what TLS asks for.
    #[error("{}", tls_words(.address, .fault))]
    Tls {
        /// Where, without its password.
        address: String,
        /// What is wrong.
        fault: TlsFault,
    },
    /// The broker closed the channel or refused an operation.
    #[error("the broker refused to {what}: {reason}")]
    Refused {
        /// What was tried.
        what: String,
        /// The broker's words.
        reason: String,
    },
    /// The broker said nothing, as where a node of its cluster hangs.
    #[error("the broker did not answer within {timeout_ms} ms when asked to {what}")]
    Unanswered {
        /// What was tried.
        what: String,
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The queue was deleted or the consumer cancelled.
    #[error("the consumer on `{queue}` was cancelled by the broker")]
    Cancelled {
        /// The queue that it took from.
        queue: String,
    },
    /// The topology on the broker is not the one declared.
    #[error("`{name}` exists on the broker with other properties: {reason}")]
    Mismatch {
        /// The exchange or queue.
        name: String,
        /// What is found and what is wanted.
        reason: String,
    },
    /// Another connection has an exclusive queue of that name.
    #[error("`{name}` belongs to another connection")]
    Locked {
        /// The queue.
        name: String,
    },
}

impl BusError {
    /// Whether the broker knows the user, and does not let him do that.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { reason, .. } if reason.contains("ACCESS_REFUSED"))
    }

    /// Whether the broker was reached and did not let the user in: a wrong user, password or
    /// virtual host.
    pub fn denies(&self) -> bool {
        matches!(self, Self::Unreachable { reason, .. } if denies(reason))
    }

    /// What to do, where this fault alone says it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Tls { fault, .. } => Some(fault.help()),
            Self::Refused { reason, .. } if reason.contains("user_id property set") => Some(
                "the broker lets nobody publish under another's name: write the user that logs in into the broker's URL",
            ),
            Self::Unreachable { reason, .. } if denies(reason) && reason.contains("EXTERNAL") => Some(
                "make a user on the broker whose name is the one that it reads from the certificate (its `ssl_cert_login_from`; the whole subject unless set), with rights in the virtual host",
            ),
            _ => None,
        }
    }
}

fn tls_words(address: &str, fault: &TlsFault) -> String {
    // What lies in our own settings is the same at every address.
    if fault.is_own() {
        fault.to_string()
    } else {
        format!("the broker at `{address}` cannot be reached: {fault}")
    }
}

/// Whether the broker's words are a no to whoever connects.
fn denies(reason: &str) -> bool {
    // The fault is kept as the client's words; the broker's code stands within them.
    ["ACCESS_REFUSED", "NOT_ALLOWED"].iter().any(|code| reason.contains(code))
}

/// One consuming channel.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for at least one delivery, then takes what is ready, at most `count_max`, in order. An
    /// empty list means that the consumer was closed in good order. A call that is dropped loses no
    /// delivery.
    async fn next(&mut self, count_max: usize) -> Result<Vec<Delivery>, BusError>;

    /// A handle to settle deliveries with, usable while `next` waits.
    fn settler(&self) -> Box<dyn Settler>;
}

/// Acknowledges deliveries of one consumer.
#[async_trait]
pub trait Settler: Send + Sync {
    /// Acknowledges `tag`, and with `multiple` every earlier one too.
    async fn ack(&self, tag: u64, multiple: bool) -> Result<(), BusError>;

    /// Gives `tag` back to the queue, and with `multiple` every earlier unsettled one too.
    async fn requeue(&self, tag: u64, multiple: bool) -> Result<(), BusError>;

    /// Closes the consumer; what is not settled goes back to the queue.
    async fn close(&self);
}

/// One publishing channel.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes a batch in order and waits until the fate of each is known or `deadline` has
    /// passed. Returns one fate per departure, in order. An error means that the channel is gone;
    /// then every fate is unknown. After fates that are `Unknown` the next batch goes by a fresh
    /// channel, unless the publisher is a lasting one.
    async fn publish(&self, batch: &[&Departure], deadline: Duration) -> Result<Vec<Fate>, BusError>;

    /// Keeps its channel also while confirms are outstanding, and lets batches overlap on it. What
    /// is confirmed then is not believed where a return could belong to it: it is `Unknown`. A
    /// channel that has published before a node of the cluster hung still delivers, where a fresh
    /// one waits for that node.
    fn set_lasting(&mut self) {}

    /// How many messages the present channel has published whose fate is not known.
    fn unresolved(&self) -> usize {
        0
    }
}

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By pattern.
    Topic,
    /// To every queue bound.
    Fanout,
    /// By pattern, and gone with its last binding: for exclusive queues.
    TemporaryTopic,
}

/// An exchange to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Where it sends what no binding takes.
    pub alternate: Option<String>,
}

/// How a queue keeps its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Replicated, fsynced before a confirm; rejects what it has no room for.
    Quorum,
    /// Likewise, and what it would drop (expired, redelivered too often, beyond a policy's bound)
    /// goes to an exchange.
    Lane {
        /// That exchange.
        dead: String,
    },
    /// Replicated; drops its oldest beyond a bound: metrics, refused copies.
    DropHead {
        /// The bound, in bytes of bodies.
        bytes_max: u64,
    },
    /// Replicated; keeps its last message only.
    Last,
    /// Own, exclusive and gone with its connection: tools.
    Exclusive,
    /// Exclusive too, for observe mode. Drops its oldest beyond a bound, and can say where that
    /// goes.
    Tap {
        /// How many bodies it keeps.
        bounds: TapBounds,
        /// The exchange and the key that what it drops goes by.
        dropped_to: Option<(String, String)>,
    },
}

impl QueueKind {
    /// Whether it is one connection's own, and gone with it.
    pub const fn is_exclusive(&self) -> bool {
        matches!(self, QueueKind::Exclusive | QueueKind::Tap { .. })
    }
}

/// How much a queue of observe mode keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapBounds {
    /// So many bytes of bodies.
    Bytes(u64),
    /// So many messages.
    Messages(u32),
}

/// A queue to be there, with what it is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How it keeps its messages.
    pub kind: QueueKind,
    /// (exchange, pattern) pairs.
    pub bindings: Vec<(String, String)>,
}

/// What has to stand on the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Exchanges, before queues.
    pub exchanges: Vec<Exchange>,
    /// Queues and their bindings.
    pub queues: Vec<Queue>,
}

/// How much is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that nobody has yet.
    pub ready: u64,
    /// Consumers, of whomever.
    pub consumers: u64,
}

/// A broker, or what stands in for one.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Declares the topology and checks that what is there agrees with it. A queue of the right
    /// type that is there without some argument, or with another, is used as it is; returns what
    /// differs, in words.
    async fn declare(&self, topology: &Topology) -> Result<Vec<String>, BusError>;

    /// How many messages are ready in a queue, and how many listen; `None` where there is none of
    /// that name.
    async fn counts(&self, queue: &str) -> Result<Option<Counts>, BusError>;

    /// Empties a queue of what is ready; returns how many messages that were. It is waited for as
    /// long as the connection stands, because what is emptied is counted by nothing else: the
    /// caller bounds it, and then does not know.
    async fn purge(&self, queue: &str) -> Result<u64, BusError>;

    /// Takes a queue's bindings away.
    async fn unbind(&self, queue: &Queue) -> Result<(), BusError>;

    /// Makes everything that an exchange gets go to another one too, whatever its key where the
    /// first is a fanout. Both are there. Done again, it changes nothing.
    async fn bind_exchange(&self, from: &str, to: &str) -> Result<(), BusError>;

    /// Takes bindings between two exchanges away; one that is not there is no fault. A bus without
    /// such bindings does nothing.
    async fn unbind_exchange(&self, from: &str, to: &str, patterns: &[String]) -> Result<(), BusError> {
        let _ = (from, to, patterns);
        Ok(())
    }

    /// Whether an exchange of that name is there, whatever its kind; declares nothing.
    async fn exists(&self, exchange: &str) -> Result<bool, BusError>;

    /// Opens a consuming channel on a queue with a prefetch of `count` unacknowledged deliveries.
    async fn consumer(&self, queue: &str, prefetch_count: u16) -> Result<Box<dyn Consumer>, BusError>;

    /// Opens a publishing channel with confirms.
    async fn publisher(&self) -> Result<Box<dyn Publisher>, BusError>;

    /// Takes one message off a queue, if there is one (tools only): the delivery and its settler.
    async fn get(&self, queue: &str) -> Result<Option<(Delivery, Box<dyn Settler>)>, BusError>;

    /// Deletes a queue with what is in it (tools only).
    async fn delete_queue(&self, name: &str) -> Result<(), BusError>;

    /// Deletes an exchange (tools only).
    async fn delete_exchange(&self, name: &str) -> Result<(), BusError>;

    /// Which of the broker's addresses it is at, without user and password; `None` where there are
    /// none.
    fn address(&self) -> Option<&str> {
        None
    }

    /// Whether the broker has told us that it blocks publishers (memory or disk alarm), and its
    /// reason.
    fn blocked(&self) -> Option<String>;

    /// Whether the broker has ended the connection with a no, as at a limit or for what it cannot
    /// read; not where it was cut, the broker stops or an operator closed it.
    fn was_refused(&self) -> bool {
        false
    }

    /// Closes every connection in good order.
    async fn close(&self);
}
