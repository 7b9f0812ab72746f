//! The AMQP 0-9-1 driver, on lapin.
//!
//! Owns: two connections (one consumes, one publishes), the topology on the broker, and the errors' words.
//! Never: recovers a connection by itself: after any fault it is dropped whole and the runtime connects anew.
//! Holds: publishing is never slowed by the back-pressure that a broker puts on a consuming connection, nor the
//! other way round; no password is in an error or a log line.

mod consume;
mod properties;
mod publish;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
    uri::AMQPUri,
};

use super::{
    Bus, BusError, Consumer, Delivery, Exchange, ExchangeKind, Publisher, Queue, QueueKind, Settler, Topology,
};

/// AMQP's reply code for a declaration that differs from what is there.
const PRECONDITION_FAILED: u16 = 406;
/// AMQP's reply code for a good-bye.
const GOOD_BYE: u16 = 200;

/// How to connect.
#[derive(Clone)]
pub struct Options {
    /// `amqp://` or `amqps://`, with user, password and vhost.
    pub url: String,
    /// What the broker's management shows as the connection's name.
    pub name: String,
    /// The heartbeat; a dead peer is noticed after two of them.
    pub heartbeat_s: u16,
    /// How long connecting may take.
    pub connect_timeout_ms: u64,
}

/// Two connections to one broker.
pub struct Amqp {
    consuming: Connection,
    publishing: Connection,
    /// Declares; whatever it meets, the working channels live on.
    address: String,
}

/// Connects both ways.
///
/// # Errors
/// `Unreachable`, naming the address without its password.
pub async fn connect(options: &Options) -> Result<Arc<Amqp>, BusError> {
    let address = address(&options.url);
    let unreachable = |reason: String| BusError::Unreachable { address: address.clone(), reason };
    let mut uri: AMQPUri =
        options.url.parse().map_err(|_| unreachable("the URL cannot be read".to_owned()))?;
    uri.query.heartbeat = Some(options.heartbeat_s);
    uri.query.connection_timeout = Some(options.connect_timeout_ms);
    // The provider is the process's; a second installation changes nothing and is no fault.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let open = async |way: &str| {
        let name = LongString::from(format!("{} ({way})", options.name));
        let properties = ConnectionProperties::default().with_connection_name(name);
        let connecting = Connection::connect_uri(uri.clone(), properties);
        match tokio::time::timeout(Duration::from_millis(options.connect_timeout_ms), connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(fault)) => Err(unreachable(fault.to_string())),
            Err(_) => Err(unreachable(format!("no answer within {} ms", options.connect_timeout_ms))),
        }
    };
    let consuming = open("consuming").await?;
    let publishing = open("publishing").await?;
    Ok(Arc::new(Amqp { consuming, publishing, address }))
}

/// A URL as it may be shown: without user and password.
pub fn address(url: &str) -> String {
    match url.parse::<AMQPUri>() {
        Ok(uri) => format!("{}://{}:{}/{}", uri.scheme, uri.authority.host, uri.authority.port, uri.vhost),
        Err(_) => "a URL that cannot be read".to_owned(),
    }
}

impl Amqp {
    async fn channel(&self, connection: &Connection) -> Result<Channel, BusError> {
        connection.create_channel().await.map_err(|fault| self.unreachable(&fault))
    }

    fn unreachable(&self, fault: &lapin::Error) -> BusError {
        BusError::Unreachable { address: self.address.clone(), reason: fault.to_string() }
    }

    /// Each declaration has a channel of its own: the broker closes the channel of one that fails.
    async fn declare_exchange(&self, exchange: &Exchange) -> Result<(), BusError> {
        let channel = self.channel(&self.consuming).await?;
        let mut arguments = FieldTable::default();
        if let Some(alternate) = &exchange.alternate {
            arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.as_str().into()));
        }
        let kind = match exchange.kind {
            ExchangeKind::Topic => lapin::ExchangeKind::Topic,
            ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        };
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared = channel.exchange_declare(short(&exchange.name)?, kind, options, arguments).await;
        declared.map_err(|fault| refused(&fault, "declare", &exchange.name))?;
        close(&channel).await;
        Ok(())
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), BusError> {
        // An exclusive queue belongs to the connection that declares it: the one that will consume.
        let channel = self.channel(&self.consuming).await?;
        let name = short(&queue.name)?;
        let mut arguments = FieldTable::default();
        let text = |value: &str| AMQPValue::LongString(value.into());
        match queue.kind {
            QueueKind::Quorum => {
                arguments.insert("x-queue-type".into(), text("quorum"));
                arguments.insert("x-overflow".into(), text("reject-publish"));
            }
            QueueKind::DropHead { bytes_max } => {
                let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
                arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes_max));
                arguments.insert("x-overflow".into(), text("drop-head"));
            }
            QueueKind::Exclusive => {}
        }
        let exclusive = queue.kind == QueueKind::Exclusive;
        let options = QueueDeclareOptions {
            durable: !exclusive,
            exclusive,
            auto_delete: exclusive,
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare(name.clone(), options, arguments).await;
        declared.map_err(|fault| refused(&fault, "declare", &queue.name))?;
        for (exchange, pattern) in &queue.bindings {
            let (exchange, pattern) = (short(exchange)?, short(pattern)?);
            let options = QueueBindOptions::default();
            let bound =
                channel.queue_bind(name.clone(), exchange, pattern, options, FieldTable::default()).await;
            bound.map_err(|fault| refused(&fault, "bind", &queue.name))?;
        }
        close(&channel).await;
        Ok(())
    }
}

#[async_trait]
impl Bus for Amqp {
    async fn declare(&self, topology: &Topology) -> Result<(), BusError> {
        for exchange in &topology.exchanges {
            self.declare_exchange(exchange).await?;
        }
        for queue in &topology.queues {
            self.declare_queue(queue).await?;
        }
        Ok(())
    }

    async fn consumer(&self, queue: &str, prefetch_count: u16) -> Result<Box<dyn Consumer>, BusError> {
        let channel = self.channel(&self.consuming).await?;
        let fault = |fault| refused(&fault, "consume", queue);
        channel.basic_qos(prefetch_count, BasicQosOptions::default()).await.map_err(fault)?;
        let (name, tag) = (short(queue)?, ShortString::default());
        let options = BasicConsumeOptions::default();
        let fault = |fault| refused(&fault, "consume", queue);
        let stream = channel.basic_consume(name, tag, options, FieldTable::default()).await.map_err(fault)?;
        Ok(Box::new(consume::Listening::new(channel, stream, queue)))
    }

    async fn publisher(&self) -> Result<Box<dyn Publisher>, BusError> {
        let channel = self.channel(&self.publishing).await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|fault| self.unreachable(&fault))?;
        Ok(Box::new(publish::Speaking::new(channel)))
    }

    async fn get(&self, queue: &str) -> Result<Option<(Delivery, Box<dyn Settler>)>, BusError> {
        let channel = self.channel(&self.consuming).await?;
        let got = channel.basic_get(short(queue)?, BasicGetOptions { no_ack: false }).await;
        let got = got.map_err(|fault| refused(&fault, "read", queue))?;
        Ok(got.map(|message| {
            let delivery = consume::delivery(message.delivery);
            (delivery, Box::new(consume::Hold::new(channel)) as Box<dyn Settler>)
        }))
    }

    async fn delete_queue(&self, name: &str) -> Result<(), BusError> {
        let channel = self.channel(&self.consuming).await?;
        let deleted = channel.queue_delete(short(name)?, QueueDeleteOptions::default()).await;
        deleted.map_err(|fault| refused(&fault, "delete", name))?;
        close(&channel).await;
        Ok(())
    }

    async fn delete_exchange(&self, name: &str) -> Result<(), BusError> {
        let channel = self.channel(&self.consuming).await?;
        let deleted = channel.exchange_delete(short(name)?, ExchangeDeleteOptions::default()).await;
        deleted.map_err(|fault| refused(&fault, "delete", name))?;
        close(&channel).await;
        Ok(())
    }

    fn blocked(&self) -> Option<String> {
        self.publishing.status().blocked().then(|| "the broker raised a memory or disk alarm".to_owned())
    }

    async fn close(&self) {
        for connection in [&self.consuming, &self.publishing] {
            // A connection that is gone needs no good-bye.
            let _ = connection.close(GOOD_BYE, "good-bye".into()).await;
        }
    }
}

/// A name as AMQP takes it: at most 255 bytes. Lapin's `From` panics beyond, so it is never used on input.
fn short(text: &str) -> Result<ShortString, BusError> {
    ShortString::try_new(text)
        .map_err(|fault| BusError::Refused { what: "use a name".to_owned(), reason: fault.to_string() })
}

/// The broker's no, in our words.
fn refused(fault: &lapin::Error, what: &str, name: &str) -> BusError {
    let reason = fault.to_string();
    match fault.kind() {
        ErrorKind::ProtocolError(said) if said.get_id() == PRECONDITION_FAILED => {
            BusError::Mismatch { name: name.to_owned(), reason }
        }
        _ => BusError::Refused { what: format!("{what} `{name}`"), reason },
    }
}

async fn close(channel: &Channel) {
    let _ = channel.close(GOOD_BYE, "done".into()).await;
}
