//! Connecting: options, the broker's own word about itself, and its alarms.
//!
//! Owns: how one connection is made (TLS, heartbeat, name, time limit) and what is shown of its address.
//! Never: connects again by itself, or lets a password into an error, a log line or a `Debug`.
//! Holds: whatever the broker does, connecting ends within its time limit; an alarm that the broker tells of is known
//! until it tells of its end or the connection is gone.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};
use lapin::{
    Connection, ConnectionProperties, Event,
    tcp::{OwnedIdentity, OwnedTLSConfig},
    types::{AMQPValue, FieldTable, LongString, parsing::parse_field_table},
    uri::AMQPUri,
};
use tokio::sync::watch;

use super::{socket::Load, transport};
use crate::bus::BusError;

/// What an AMQP 0-9-1 client says first.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Frame type, channel and size.
const FRAME_HEADER_BYTES: usize = 7;
/// Class, method and protocol version before the server's properties.
const START_HEADER_BYTES: usize = 6;
/// The longest first frame that is read; RabbitMQ's has some 500 bytes.
const START_FRAME_BYTES_MAX: u32 = 64 * 1024;

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
    /// Which consumers the broker prefers where a queue has several: those of the higher number. 0 says nothing.
    pub consumer_priority: i64,
    /// Certificate authorities to trust beside the system's, as PEM.
    pub ca_pem: Option<String>,
    /// The own certificate and its key (PKCS #8), as PEM, where the broker asks for one.
    pub client_pem: Option<(String, String)>,
}

impl Options {
    /// That broker, with the defaults of everything else.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: "swarmgate".to_owned(),
            heartbeat_s: 5,
            connect_timeout_ms: 5_000,
            consumer_priority: 0,
            ca_pem: None,
            client_pem: None,
        }
    }

    fn tls(&self) -> OwnedTLSConfig {
        let identity = self.client_pem.as_ref().map(|(certificate, key)| OwnedIdentity::PKCS8 {
            pem: certificate.clone().into_bytes(),
            key: key.clone().into_bytes(),
        });
        OwnedTLSConfig { identity, cert_chain: self.ca_pem.clone() }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, name, heartbeat_s, connect_timeout_ms, .. } = self;
        out.debug_struct("Options")
            .field("address", &address(url))
            .field("name", name)
            .field("heartbeat_s", heartbeat_s)
            .field("connect_timeout_ms", connect_timeout_ms)
            .finish_non_exhaustive()
    }
}

/// A URL as it may be shown: without user and password.
pub fn address(url: &str) -> String {
    match url.parse::<AMQPUri>() {
        Ok(AMQPUri { scheme, authority, vhost, .. }) => {
            let vhost = vhost.replace('%', "%25").replace('/', "%2f");
            format!("{scheme}://{}:{}/{vhost}", authority.host, authority.port)
        }
        // What cannot be read may hold a password anywhere.
        Err(_) => "a URL that cannot be read".to_owned(),
    }
}

/// Whom a URL names and in which virtual host, where it can be read.
pub fn user_and_vhost(url: &str) -> Option<(String, String)> {
    let AMQPUri { authority, vhost, .. } = url.parse().ok()?;
    Some((authority.userinfo.username, vhost))
}

/// One connection, and whether its broker lets it publish.
pub(super) struct Line {
    pub connection: Connection,
    pub address: String,
    /// What the two connections to this broker are paced by.
    pub load: Arc<Load>,
    blocked: watch::Receiver<Option<String>>,
}

impl Line {
    /// Why the broker blocks publishers, if it does.
    pub fn blocked(&self) -> Option<String> {
        self.blocked.borrow().clone()
    }

    /// Waits until the broker lets us publish, or the connection is gone.
    pub async fn unblocked(&self) {
        // An error means that nobody tells any more: the connection is gone, and who uses it hears so.
        let _ = self.blocked.clone().wait_for(Option::is_none).await;
    }

    /// Lapin's fault as ours: the connection's, where that is gone, else the operation's.
    pub fn fault(&self, fault: &lapin::Error, what: &str, name: &str) -> BusError {
        if self.connection.status().connected() {
            BusError::Refused { what: format!("{what} `{name}`"), reason: fault.to_string() }
        } else {
            self.lost(fault)
        }
    }

    /// The connection's end.
    pub fn lost(&self, reason: impl ToString) -> BusError {
        BusError::Unreachable { address: self.address.clone(), reason: reason.to_string() }
    }
}

/// What the broker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Its product, `RabbitMQ` for the one this driver is proven with.
    pub product: Option<String>,
    /// Its version.
    pub version: Option<String>,
}

impl Server {
    /// The number before the version's first dot.
    pub fn major(&self) -> Option<u32> {
        self.version.as_ref()?.split('.').next()?.parse().ok()
    }

    fn of(properties: &FieldTable) -> Self {
        let text = |name| match properties.inner().get(name) {
            Some(AMQPValue::LongString(text)) => Some(text.to_string()),
            _ => None,
        };
        Self { product: text("product"), version: text("version") }
    }
}

/// Reads the URL and sets what is ours in it.
pub(super) fn uri(options: &Options) -> Result<AMQPUri, BusError> {
    let mut uri: AMQPUri = options.url.parse().map_err(|_| BusError::Unreachable {
        address: address(&options.url),
        reason: "the URL cannot be read; give it as amqp://USER:PASSWORD@HOST:PORT/VHOST".to_owned(),
    })?;
    uri.query.heartbeat = Some(options.heartbeat_s);
    Ok(uri)
}

/// Makes one connection; `way` tells it from its sister in the broker's management.
pub(super) async fn open(
    options: &Options,
    uri: &AMQPUri,
    way: &str,
    load: &Arc<Load>,
) -> Result<Line, BusError> {
    let name = LongString::from(format!("{} ({way})", options.name));
    let properties = ConnectionProperties::default().with_connection_name(name);
    let connecting = transport::connect(uri.clone(), properties, options.tls(), Arc::clone(load));
    let connection = limited(options, connecting).await?;
    let (tell, blocked) = watch::channel(None);
    let mut events = Box::pin(connection.events_listener());
    // Ends with the connection, whose senders the stream lives from.
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::ConnectionBlocked(reason) => tell.send_replace(Some(reason)),
                Event::ConnectionUnblocked => tell.send_replace(None),
                Event::Error(_) => return,
                _ => continue,
            };
        }
    });
    Ok(Line { connection, address: address(&options.url), load: Arc::clone(load), blocked })
}

/// Asks the broker who it is. Lapin keeps that to itself, so it is read from a greeting of our own; whatever is odd
/// about it leaves the answer empty, because the connections proper will say what is wrong.
pub(super) async fn greet(options: &Options, uri: &AMQPUri) -> Result<Server, BusError> {
    let greeting = async {
        let mut stream = transport::socket(uri, &options.tls()).await?;
        stream.write_all(PROTOCOL_HEADER).await?;
        stream.flush().await?;
        let mut header = [0; FRAME_HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        let [_, _, _, size @ ..] = header;
        let size = u32::from_be_bytes(size).min(START_FRAME_BYTES_MAX);
        let mut frame = vec![0; usize::try_from(size).unwrap_or_default()];
        stream.read_exact(&mut frame).await?;
        let properties = frame.get(START_HEADER_BYTES..).unwrap_or_default();
        let server = parse_field_table(properties).map(|(_, table)| Server::of(&table)).unwrap_or_default();
        // The broker logs a peer that goes without a word; it has nothing else to lose by it.
        let _ = stream.close().await;
        lapin::Result::Ok(server)
    };
    limited(options, greeting).await
}

async fn limited<T>(
    options: &Options,
    trying: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BusError> {
    let unreachable = |reason| BusError::Unreachable { address: address(&options.url), reason };
    match tokio::time::timeout(Duration::from_millis(options.connect_timeout_ms), trying).await {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(fault)) => Err(unreachable(fault.to_string())),
        Err(_) => Err(unreachable(format!("no answer within {} ms", options.connect_timeout_ms))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_secret() {
        for (url, shown) in [
            ("amqp://u:s3cret@broker:5673/%2f", "amqp://broker:5673/%2f"),
            ("amqps://u:s3cret@broker/a%2fb", "amqps://broker:5671/a%2fb"),
            ("amqp://u:s3cret@broker:x/", "a URL that cannot be read"),
            ("s3cret", "a URL that cannot be read"),
        ] {
            assert_eq!(address(url), shown);
            let options = Options::new(url);
            assert!(!format!("{options:?}").contains("s3cret"), "{options:?}");
            if let Err(fault) = uri(&options) {
                assert!(!fault.to_string().contains("s3cret"), "{fault}");
            }
        }
    }

    #[test]
    fn a_major_version_is_read_or_unknown() {
        let major = |version: &str| {
            let server = Server { version: Some(version.to_owned()), ..Server::default() };
            server.major()
        };
        assert_eq!((major("3.10.8"), major("4.1.0-beta.1"), major("x")), (Some(3), Some(4), None));
    }
}
