//! Connecting: options, the broker's own word about itself, and its alarms.
//!
//! Owns: how one connection is made (TLS, heartbeat, name, time limit) and what is shown of its
//! address.
//! Never: connects again by itself, or lets a password into an error, a log line or a `Debug`.
//! Holds: whatever the broker does, connecting ends within its time limit; an alarm that the broker
//! tells of is known until it tells of its end or the connection is gone.

use std::{
    fmt,
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};
use lapin::{
    Connection, ConnectionProperties, Event,
    types::{
        AMQPValue, FieldTable, LongString,
        parsing::{parse_field_table, parse_long_string},
    },
    uri::{AMQPScheme, AMQPUri, SASLMechanism},
};
use tokio::sync::watch;

use super::{
    socket::Load,
    tls::{self, Tls},
    transport,
};
use crate::bus::{
    BusError,
    tls::{TlsChoice, TlsFault},
};

/// What an AMQP 0-9-1 client says first.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// AMQP's reply code of a connection that an operator closed, or a broker that stops.
const CONNECTION_FORCED: u16 = 320;
/// Frame type, channel and size.
const FRAME_HEADER_BYTES: usize = 7;
/// Class, method and protocol version before the server's properties.
const START_HEADER_BYTES: usize = 6;
/// How long a broker that broke off may take to say why.
const ALERT_TIMEOUT_MS: u64 = 2_000;
/// How a peer ends that ends at once.
const BROKEN_OFF: [ErrorKind; 4] = [
    ErrorKind::BrokenPipe,
    ErrorKind::ConnectionAborted,
    ErrorKind::ConnectionReset,
    ErrorKind::UnexpectedEof,
];
/// The smallest largest frame that RabbitMQ takes from 4.0 on.
const FRAME_BYTES_MIN_4: u32 = 8192;
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
    /// Which consumers the broker prefers where a queue has several: those of the higher number. 0
    /// says nothing.
    pub consumer_priority: i64,
    /// Whom to trust, and the certificate of our own, where the URL begins with `amqps://`.
    pub tls: TlsChoice,
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
            tls: None,
        }
    }

    fn has_client(&self) -> bool {
        self.tls.as_ref().is_some_and(|source| source.has_client())
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

/// A URL as the client library reads it, but for one thing: of `[::1]` it makes `localhost`, and
/// passwords would go there.
pub fn parsed(url: &str) -> Option<AMQPUri> {
    let mut uri: AMQPUri = url.parse().ok()?;
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    if let Some((host, _)) = place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        host.clone_into(&mut uri.authority.host);
    }
    Some(uri)
}

/// A host as it stands in a URL, where colons are for ports.
pub fn in_url(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// A URL as it may be shown: without user and password.
pub fn address(url: &str) -> String {
    match parsed(url) {
        Some(AMQPUri { scheme, authority, vhost, .. }) => {
            let vhost = vhost.replace('%', "%25").replace('/', "%2f");
            format!("{scheme}://{}:{}/{vhost}", in_url(&authority.host), authority.port)
        }
        // What cannot be read may hold a password anywhere.
        None => "a URL that cannot be read".to_owned(),
    }
}

/// Whom a URL names and in which virtual host, where it can be read.
pub fn user_and_vhost(url: &str) -> Option<(String, String)> {
    let AMQPUri { authority, vhost, .. } = parsed(url)?;
    Some((authority.userinfo.username, vhost))
}

/// One connection, and whether its broker lets it publish.
pub(super) struct Line {
    pub connection: Connection,
    pub address: String,
    /// What the two connections to this broker are paced by.
    pub load: Arc<Load>,
    blocked: watch::Receiver<Option<String>>,
    refused: Arc<AtomicBool>,
}

impl Line {
    /// Whether the broker ended it with a no.
    pub fn was_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// Why the broker blocks publishers, if it does.
    pub fn blocked(&self) -> Option<String> {
        self.blocked.borrow().clone()
    }

    /// Waits until the broker lets us publish, or the connection is gone.
    pub async fn unblocked(&self) {
        // An error means that nobody tells any more: the connection is gone, and who uses it hears
        // so.
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

/// Whether a connection ended by the broker's no.
fn is_refusal(fault: &lapin::Error) -> bool {
    matches!(fault.kind(), lapin::ErrorKind::ProtocolError(said) if said.get_id() != CONNECTION_FORCED)
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

/// How to reach one address, read and checked.
pub(super) struct Dial<'a> {
    options: &'a Options,
    uri: AMQPUri,
    tls: Option<Tls>,
}

impl<'a> Dial<'a> {
    /// Reads the URL, sets what is ours in it, and reads the certificates.
    pub async fn new(options: &'a Options) -> Result<Self, BusError> {
        let mut uri = parsed(&options.url).ok_or_else(|| BusError::Unreachable {
            address: address(&options.url),
            reason: "the URL cannot be read; give it as amqp://USER:PASSWORD@HOST:PORT/VHOST".to_owned(),
        })?;
        uri.query.heartbeat = Some(options.heartbeat_s);
        let has_client = options.has_client() && uri.scheme == AMQPScheme::AMQPS;
        if has_client && !has_password(&options.url) {
            // A certificate without a password is the login, unless the URL itself says how.
            uri.query.auth_mechanism.get_or_insert(SASLMechanism::External);
        }
        let mut dial = Self { options, uri, tls: None };
        if dial.uri.scheme == AMQPScheme::AMQPS {
            dial.tls =
                Some(dial.limited(Tls::read(&options.tls)).await?.map_err(|fault| dial.tls_fault(fault))?);
        }
        Ok(dial)
    }

    /// Makes one connection; `which` is the part of its name by which the broker's management shows
    /// the two apart.
    pub async fn open(&self, which: &str, load: &Arc<Load>) -> Result<Line, BusError> {
        let name = LongString::from(format!("{} ({which})", self.options.name));
        let properties = ConnectionProperties::default().with_connection_name(name);
        let connecting = transport::connect(self.uri.clone(), properties, self.tls.clone(), Arc::clone(load));
        let connection = self.limited(connecting).await?.map_err(|fault| match fault.kind() {
            lapin::ErrorKind::IOError(fault) => self.io_fault(fault),
            _ => self.unreachable(fault.to_string()),
        })?;
        let (tell, blocked) = watch::channel(None);
        let refused = Arc::new(AtomicBool::new(false));
        let (status, is_refused) = (connection.status().clone(), Arc::clone(&refused));
        let mut events = Box::pin(connection.events_listener());
        // Ends with the connection, whose senders the stream lives from.
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => tell.send_replace(Some(reason)),
                    Event::ConnectionUnblocked => tell.send_replace(None),
                    // A channel's fault comes here too, and ends no connection.
                    Event::Error(_) if status.connected() => continue,
                    Event::Error(fault) => {
                        is_refused.store(is_refusal(&fault), Relaxed);
                        return;
                    }
                    _ => continue,
                };
            }
        });
        Ok(Line { connection, address: address(&self.options.url), load: Arc::clone(load), blocked, refused })
    }

    /// Asks the broker who it is. Lapin keeps that to itself, so it is read from a greeting of our
    /// own; whatever is odd about it leaves the answer empty, because the connections proper will
    /// say what is wrong.
    pub async fn greet(&self) -> Result<Server, BusError> {
        let greeting = async {
            let mut stream = transport::socket(&self.uri, self.tls.as_ref()).await?;
            stream.write_all(PROTOCOL_HEADER).await?;
            stream.flush().await?;
            let mut header = [0; FRAME_HEADER_BYTES];
            stream.read_exact(&mut header).await?;
            // A port for TLS answers our plain header with a record of its own.
            if tls::is_record(&header) {
                return Ok(Err(TlsFault::Secured));
            }
            let [_, _, _, size @ ..] = header;
            // Whoever listens there may be anything, and say any size.
            let size = u32::from_be_bytes(size).min(START_FRAME_BYTES_MAX);
            let mut frame = vec![0; usize::try_from(size).unwrap_or_default()];
            stream.read_exact(&mut frame).await?;
            // The broker logs a peer that goes without a word; it has nothing else to lose by it.
            let _ = stream.close().await;
            std::io::Result::Ok(self.understood(frame.get(START_HEADER_BYTES..).unwrap_or_default()))
        };
        match self.limited(greeting).await? {
            Ok(greeted) => greeted.map_err(|fault| self.tls_fault(fault)),
            Err(fault) => {
                let alert = if BROKEN_OFF.contains(&fault.kind()) { self.alert().await } else { None };
                Err(alert.map_or_else(|| self.io_fault(&fault), |fault| self.tls_fault(fault)))
            }
        }
    }

    /// Why the broker broke off after the handshake. By TLS 1.3 it looks at our certificate only
    /// then; and where it leaves something unread that we sent, the system takes its alert back. So
    /// it is listened to without a word.
    async fn alert(&self) -> Option<TlsFault> {
        let tls = self.tls.as_ref()?;
        let listening = async {
            let mut stream = transport::socket(&self.uri, Some(tls)).await?;
            stream.read(&mut [0]).await
        };
        let heard = tokio::time::timeout(Duration::from_millis(ALERT_TIMEOUT_MS), listening).await.ok()?;
        heard.err().and_then(|fault| tls.fault(&fault))
    }

    /// What the broker says of itself and of its logins.
    fn understood(&self, greeting: &[u8]) -> Result<Server, TlsFault> {
        let Ok((rest, table)) = parse_field_table(greeting) else { return Ok(Server::default()) };
        let offered = parse_long_string(rest).map(|(_, offered)| offered.to_string()).unwrap_or_default();
        let external = SASLMechanism::External;
        let wants_external = self.uri.query.auth_mechanism == Some(external);
        if wants_external && !offered.is_empty() && offered.split(' ').all(|one| one != external.name()) {
            return Err(TlsFault::NoExternal(offered));
        }
        Ok(Server::of(&table))
    }

    /// Whether the broker takes what the URL asks for: RabbitMQ 4 closes a connection of smaller
    /// frames without a word.
    pub fn fits(&self, server: &Server) -> Result<(), BusError> {
        // 0, as no `frame_max` at all, leaves the size to the broker.
        let asked = self.uri.query.frame_max.unwrap_or_default();
        if server.major().is_some_and(|major| major >= 4) && (1..FRAME_BYTES_MIN_4).contains(&asked) {
            let version = server.version.as_deref().unwrap_or("4");
            return Err(self.unreachable(format!(
                "RabbitMQ {version} takes no frames below {FRAME_BYTES_MIN_4} bytes, and the URL says `frame_max={asked}`; leave it out, or write `frame_max={FRAME_BYTES_MIN_4}` or more"
            )));
        }
        Ok(())
    }

    fn unreachable(&self, reason: String) -> BusError {
        BusError::Unreachable { address: address(&self.options.url), reason }
    }

    fn tls_fault(&self, fault: TlsFault) -> BusError {
        BusError::Tls { address: address(&self.options.url), fault }
    }

    fn io_fault(&self, fault: &std::io::Error) -> BusError {
        match self.tls.as_ref().and_then(|tls| tls.fault(fault)) {
            Some(fault) => self.tls_fault(fault),
            None => self.unreachable(fault.to_string()),
        }
    }

    async fn limited<T>(&self, trying: impl Future<Output = T>) -> Result<T, BusError> {
        let timeout_ms = self.options.connect_timeout_ms;
        tokio::time::timeout(Duration::from_millis(timeout_ms), trying)
            .await
            .map_err(|_| self.unreachable(format!("no answer within {timeout_ms} ms")))
    }
}

/// Whether a URL says a password, be it an empty one.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_shows_no_secret() {
        for (url, shown) in [
            ("amqp://u:s3cret@broker:5673/%2f", "amqp://broker:5673/%2f"),
            ("amqps://u:s3cret@broker/a%2fb", "amqps://broker:5671/a%2fb"),
            ("amqps://u:s3cret@[2001:db8::1]/v", "amqps://[2001:db8::1]:5671/v"),
            ("amqp://[::1]:1/v", "amqp://[::1]:1/v"),
            ("amqp://u:s3cret@broker:x/", "a URL that cannot be read"),
            ("s3cret", "a URL that cannot be read"),
        ] {
            assert_eq!(address(url), shown);
            let options = Options::new(url);
            assert!(!format!("{options:?}").contains("s3cret"), "{options:?}");
            if let Err(fault) = Dial::new(&options).await {
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
