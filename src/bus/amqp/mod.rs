//! The AMQP 0-9-1 driver, on lapin.
//!
//! Owns: two connections (one consumes, one publishes), the topology on the broker, and the errors'
//! words.
//! Never: recovers a connection by itself: after any fault it is dropped whole and the runtime
//! connects anew.
//! Holds: publishing is never slowed by the back-pressure that a broker puts on a consuming
//! connection, nor the other way round; no password is in an error or a log line.

mod connection;
mod consume;
mod declare;
mod guard;
mod properties;
mod publish;
mod socket;
mod tls;
mod transport;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{
    Channel,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicQosOptions, ExchangeDeleteOptions, QueueDeleteOptions,
        QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::Value;

use self::connection::Line;
pub use self::connection::{Options, Server, address, in_url, parsed, user_and_vhost};
use super::{Bus, BusError, Consumer, Counts, Delivery, Publisher, Queue, QueueKind, Settler, Topology};

/// AMQP's reply code for a good-bye.
const GOOD_BYE: u16 = 200;
/// How long the broker may take over an operation that is neither a publish nor a delivery.
/// RabbitMQ 3.10 leaves who consumes from a quorum queue without a leader, as after a restart,
/// waiting for a minute.
const OPERATION_TIMEOUT_MS: u64 = 5_000;
/// In how many arguments a queue may differ and still be used.
const DIFFERENCES_MAX: usize = 10;
/// How long a good-bye may take: a broker that is frozen never answers it.
const CLOSE_TIMEOUT_MS: u64 = 2_000;

/// Two connections to one broker.
pub struct Amqp {
    consuming: Arc<Line>,
    publishing: Arc<Line>,
    server: Server,
    consumer_priority: i64,
}

/// Connects both ways.
///
/// # Errors
/// `Unreachable` or `Tls`, naming the address without its password.
pub async fn connect(options: &Options) -> Result<Arc<Amqp>, BusError> {
    let dial = connection::Dial::new(options).await?;
    // First, because a broker that does not take what the URL asks for closes the connections
    // proper without a word (`fits`).
    let server = dial.greet().await?;
    dial.fits(&server)?;
    let load = Arc::new(socket::Load::new());
    let consuming = Arc::new(dial.open("consuming", &load).await?);
    let publishing = Arc::new(dial.open("publishing", &load).await?);
    let consumer_priority = options.consumer_priority;
    Ok(Arc::new(Amqp { consuming, publishing, server, consumer_priority }))
}

impl Amqp {
    /// What the broker says of itself.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The broker's version, where its greeting has one.
    pub fn broker_version(&self) -> Option<&str> {
        self.server.version.as_deref()
    }

    async fn channel(&self) -> Result<Channel, BusError> {
        self.consuming.connection.create_channel().await.map_err(|fault| self.consuming.lost(fault))
    }

    async fn consuming_channel(
        &self,
        queue: &str,
        prefetch_count: u16,
    ) -> Result<consume::Listening, BusError> {
        let channel = self.channel().await?;
        let fault = |fault| self.consuming.fault(&fault, "consume", queue);
        // Before the consumer is there: RabbitMQ applies it to those that begin after it, and
        // nothing else bounds what is delivered.
        channel.basic_qos(prefetch_count, BasicQosOptions::default()).await.map_err(fault)?;
        let (name, tag) = (short(queue)?, ShortString::default());
        let options = BasicConsumeOptions::default();
        let mut arguments = FieldTable::default();
        if self.consumer_priority != 0 {
            arguments.insert("x-priority".into(), AMQPValue::LongLongInt(self.consumer_priority));
        }
        let stream = channel.basic_consume(name, tag, options, arguments).await.map_err(fault)?;
        Ok(consume::Listening::new(Arc::clone(&self.consuming), channel, stream, queue))
    }

    /// Declares a queue and its bindings; returns how it differs from what is wanted.
    async fn declare_queue(&self, wanted: &Queue) -> Result<Option<String>, BusError> {
        let mut arguments = declare::arguments(&wanted.kind, &self.server);
        let mut differences = Vec::new();
        loop {
            // A new one for each try: the broker closes the channel on which it says no.
            let channel = self.channel().await?;
            match declare::queue(&self.consuming, &channel, wanted, &mut arguments).await? {
                declare::Declared::AsWanted => {
                    declare::bind(&self.consuming, &channel, wanted).await?;
                    bye(&channel).await;
                    break;
                }
                declare::Declared::NotAllowed(fault) => {
                    // What somebody else has made for us is used as it is.
                    let channel = self.channel().await?;
                    if declare::counts(&self.consuming, &channel, &wanted.name).await?.is_none() {
                        return Err(fault);
                    }
                    bye(&channel).await;
                    differences.push("this user may not declare it".to_owned());
                    break;
                }
                // Each try learns of one difference; a broker that repeats one ends here.
                declare::Declared::Differs(how) if differences.len() < DIFFERENCES_MAX => {
                    differences.push(how)
                }
                declare::Declared::Differs(reason) => {
                    return Err(BusError::Mismatch { name: wanted.name.clone(), reason });
                }
            }
        }
        let used = |how: String| format!("queue `{}` is used as it is: {how}", wanted.name);
        Ok((!differences.is_empty()).then(|| used(differences.join("; "))))
    }

    async fn got(&self, queue: &str) -> Result<Option<(Delivery, Box<dyn Settler>)>, BusError> {
        let channel = self.channel().await?;
        let got = channel.basic_get(short(queue)?, BasicGetOptions { no_ack: false }).await;
        let got = got.map_err(|fault| self.consuming.fault(&fault, "read", queue))?;
        Ok(got.map(|message| {
            let hold = consume::Hold::new(Arc::clone(&self.consuming), channel);
            (consume::delivery(message.delivery), Box::new(hold) as Box<dyn Settler>)
        }))
    }
}

#[async_trait]
impl Bus for Amqp {
    async fn declare(&self, topology: &Topology) -> Result<Vec<String>, BusError> {
        let mut differences = Vec::new();
        // Each has a bound of its own: a broker that does not answer for one may answer for the
        // others.
        for wanted in &topology.exchanges {
            let declaring = async {
                let channel = self.channel().await?;
                let declared = declare::exchange(&self.consuming, &channel, wanted).await;
                let fault = match declared {
                    Err(fault) if declare::is_not_allowed(&fault) => fault,
                    declared => {
                        bye(&channel).await;
                        return declared.map(|()| None);
                    }
                };
                let channel = self.channel().await?;
                let is_there = declare::exists(&self.consuming, &channel, &wanted.name).await?;
                let used =
                    || format!("exchange `{}` is used as it is: this user may not declare it", wanted.name);
                if is_there { Ok(Some(used())) } else { Err(fault) }
            };
            differences.extend(answered(&format!("declare `{}`", wanted.name), declaring).await?);
        }
        for wanted in &topology.queues {
            let declaring = self.declare_queue(wanted);
            differences.extend(answered(&format!("declare `{}`", wanted.name), declaring).await?);
        }
        Ok(differences)
    }

    async fn counts(&self, queue: &str) -> Result<Option<Counts>, BusError> {
        let looking = async {
            let channel = self.channel().await?;
            let found = declare::counts(&self.consuming, &channel, queue).await;
            bye(&channel).await;
            found
        };
        answered(&format!("look at `{queue}`"), looking).await
    }

    async fn purge(&self, queue: &str) -> Result<u64, BusError> {
        // Not `answered`: what is emptied is counted by this answer alone, so the caller says when
        // to give up.
        let channel = self.channel().await?;
        let purged = channel.queue_purge(short(queue)?, QueuePurgeOptions::default()).await;
        let count = purged.map_err(|fault| self.consuming.fault(&fault, "purge", queue))?;
        bye(&channel).await;
        Ok(u64::from(count))
    }

    async fn unbind(&self, queue: &Queue) -> Result<(), BusError> {
        let unbinding = async {
            let channel = self.channel().await?;
            let unbound = declare::unbind(&self.consuming, &channel, queue).await;
            bye(&channel).await;
            unbound
        };
        answered(&format!("unbind `{}`", queue.name), unbinding).await
    }

    async fn bind_exchange(&self, from: &str, to: &str) -> Result<(), BusError> {
        let binding = async {
            let channel = self.channel().await?;
            let bound = declare::bind_exchange(&self.consuming, &channel, from, to).await;
            bye(&channel).await;
            bound
        };
        answered(&format!("bind `{to}` to `{from}`"), binding).await
    }

    async fn unbind_exchange(&self, from: &str, to: &str, patterns: &[String]) -> Result<(), BusError> {
        let unbinding = async {
            let channel = self.channel().await?;
            let unbound = declare::unbind_exchange(&self.consuming, &channel, from, to, patterns).await;
            bye(&channel).await;
            unbound
        };
        answered(&format!("unbind `{to}` from `{from}`"), unbinding).await
    }

    async fn exists(&self, exchange: &str) -> Result<bool, BusError> {
        let looking = async {
            let channel = self.channel().await?;
            declare::exists(&self.consuming, &channel, exchange).await
        };
        answered(&format!("look for exchange `{exchange}`"), looking).await
    }

    async fn consumer(&self, queue: &str, prefetch_count: u16) -> Result<Box<dyn Consumer>, BusError> {
        let opening = self.consuming_channel(queue, prefetch_count);
        let listening = answered(&format!("consume `{queue}`"), opening).await?;
        Ok(Box::new(listening))
    }

    async fn publisher(&self) -> Result<Box<dyn Publisher>, BusError> {
        Ok(Box::new(publish::Speaking::new(Arc::clone(&self.publishing))))
    }

    async fn get(&self, queue: &str) -> Result<Option<(Delivery, Box<dyn Settler>)>, BusError> {
        answered(&format!("read `{queue}`"), self.got(queue)).await
    }

    async fn delete_queue(&self, name: &str) -> Result<(), BusError> {
        let deleting = async {
            let deleted =
                self.channel().await?.queue_delete(short(name)?, QueueDeleteOptions::default()).await;
            deleted.map(|_| ()).map_err(|fault| self.consuming.fault(&fault, "delete", name))
        };
        answered(&format!("delete `{name}`"), deleting).await
    }

    async fn delete_exchange(&self, name: &str) -> Result<(), BusError> {
        let deleting = async {
            let deleted =
                self.channel().await?.exchange_delete(short(name)?, ExchangeDeleteOptions::default()).await;
            deleted.map_err(|fault| self.consuming.fault(&fault, "delete", name))
        };
        answered(&format!("delete `{name}`"), deleting).await
    }

    fn address(&self) -> Option<&str> {
        Some(&self.consuming.address)
    }

    fn blocked(&self) -> Option<String> {
        // The broker tells a connection once it publishes: commands may be rare, and the router's
        // own status leaves by the other one every few seconds.
        self.publishing.blocked().or_else(|| self.consuming.blocked())
    }

    fn was_refused(&self) -> bool {
        self.consuming.was_refused() || self.publishing.was_refused()
    }

    async fn close(&self) {
        let bye = |line: Arc<Line>| async move {
            let closing = line.connection.close(GOOD_BYE, ShortString::default());
            // A connection that is gone needs no good-bye, and one that is frozen hears none.
            let _ = tokio::time::timeout(Duration::from_millis(CLOSE_TIMEOUT_MS), closing).await;
        };
        // Both at once: two that are frozen take no longer than one.
        futures_util::join!(bye(Arc::clone(&self.consuming)), bye(Arc::clone(&self.publishing)));
    }
}

/// The arguments that a kind of queue is declared with on a broker, as its management API tells
/// them.
pub fn wanted_arguments(kind: &QueueKind, server: &Server) -> Vec<(String, Value)> {
    let arguments = declare::arguments(kind, server);
    let shown = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        _ => Value::Null,
    };
    arguments.inner().iter().map(|(name, value)| (name.to_string(), shown(value))).collect()
}

/// Closes a channel that served one operation; one that is gone needs no good-bye.
async fn bye(channel: &Channel) {
    let _ = channel.close(GOOD_BYE, ShortString::default()).await;
}

/// Gives up on an operation that the broker does not answer.
async fn answered<T>(what: &str, asking: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    let answer = tokio::time::timeout(Duration::from_millis(OPERATION_TIMEOUT_MS), asking).await;
    answer.unwrap_or_else(|_| {
        Err(BusError::Unanswered { what: what.to_owned(), timeout_ms: OPERATION_TIMEOUT_MS })
    })
}

/// A name as AMQP takes it: at most 255 bytes. Lapin's `From` panics beyond, so it is never used on
/// input.
fn short(text: &str) -> Result<ShortString, BusError> {
    ShortString::try_new(text)
        .map_err(|fault| BusError::Refused { what: "use a name".to_owned(), reason: fault.to_string() })
}
