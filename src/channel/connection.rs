//! One connection: frames in, frames out, three lanes each way.
//!
//! Owns: the two tasks of a connection, its queues, whose connection it is, and why it ended.
//! Never: waits for whoever takes messages; what it cannot keep it drops with a count, or it ends
//! and says so.
//! Holds: everything said on it is about one worker; after a bundle both sides sign with the
//! bundle's key.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use tokio::{
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::OwnedSemaphorePermit,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    Error, Sent,
    lanes::{Lanes, Unfit},
    plane::{ControlPlaneChannel, key_after},
    settings::{ChannelSettings, loopback},
    wire::{self, Bound, linger, read_body, write_frame},
};
use crate::contract::control::{ControlFault, ControlMessage, Frame, Lane, MessageKind};

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that listened: it hands out bundles.
    Supervisor,
    /// The one that connected: it takes them.
    Worker,
}

/// A connection whose other side has proven its key. Dropped, it ends at once.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<SharedChannel>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// Puts messages on a connection; a clone puts them on the same one.
#[derive(Clone, Debug)]
pub struct Sender {
    shared: Arc<SharedChannel>,
}

/// How much telemetry was dropped on this side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Before it was sent.
    pub outgoing: u64,
    /// After it came.
    pub incoming: u64,
}

#[derive(Debug)]
pub(super) struct SharedChannel {
    worker_id: String,
    side: Side,
    channel: ControlPlaneChannel,
    settings: ChannelSettings,
    incoming: Lanes,
    outgoing: Lanes,
    end: OnceLock<Error>,
    ended: CancellationToken,
}

impl Connection {
    /// Connects a worker to its supervisor, which knows it by the first frame that it sends.
    ///
    /// # Errors
    /// [`Error::Refused`] for an address that is not on this machine, [`Error::Socket`],
    /// [`Error::Slow`].
    pub async fn connect(
        address: SocketAddr,
        worker_id: &str,
        channel: &ControlPlaneChannel,
        settings: &ChannelSettings,
    ) -> Result<Self, Error> {
        settings.check()?;
        loopback(&address.ip().to_string())?;
        let socket = open_socket(address, settings)?;
        let bound = Bound::new("connecting", "handshake_timeout_ms", settings.handshake_timeout_ms);
        let connecting = async { socket.connect(address).await.map_err(Error::socket("connect")) };
        let stream = bound.hold(connecting).await?;
        let shared = SharedChannel::new(worker_id, Side::Worker, channel.clone(), settings.clone());
        Self::start(stream, shared, None)
    }

    /// Starts the two tasks; `place` is held until the first of them ends.
    pub(super) fn start(
        stream: TcpStream,
        shared: SharedChannel,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, Error> {
        stream.set_nodelay(true).map_err(Error::socket("set up a socket"))?;
        let (read, write) = stream.into_split();
        let shared = Arc::new(shared);
        let reader = tokio::spawn(read_on(Arc::clone(&shared), read, place));
        let writer = tokio::spawn(write_on(Arc::clone(&shared), write));
        Ok(Self { shared, reader, writer })
    }

    /// The worker that the connection is of.
    pub fn worker_id(&self) -> &str {
        &self.shared.worker_id
    }

    /// Puts a message in its lane, and answers at once.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send(&self, message: ControlMessage) -> Result<Sent, Error> {
        self.shared.send(message)
    }

    /// Something to send by from elsewhere.
    pub fn sender(&self) -> Sender {
        Sender { shared: Arc::clone(&self.shared) }
    }

    /// The most urgent message that came. What came before the end is still handed out after it.
    ///
    /// # Errors
    /// Why the connection ended, once nothing is left.
    pub async fn receive(&mut self) -> Result<ControlMessage, Error> {
        match self.shared.incoming.pop().await {
            Some(message) => Ok(message),
            None => Err(self.shared.why()),
        }
    }

    /// How much telemetry was dropped.
    pub fn dropped(&self) -> Dropped {
        Dropped { outgoing: self.shared.outgoing.dropped(), incoming: self.shared.incoming.dropped() }
    }

    /// Sends what waits, and closes. What the other side does not take within `write_timeout_ms` is
    /// lost.
    ///
    /// # Errors
    /// [`Error::Slow`] then, or why the connection had ended before.
    pub async fn close(mut self) -> Result<(), Error> {
        self.shared.outgoing.close();
        let bound = Bound::new("closing", "write_timeout_ms", self.shared.settings.write_timeout_ms);
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let both = async {
            // Neither panics, and only dropping this connection aborts them.
            let _ = writer.await;
            let _ = reader.await;
            Ok(())
        };
        bound.hold(both).await?;
        match self.shared.end.get() {
            None | Some(Error::Finished) => Ok(()),
            Some(why) => Err(why.clone()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.end(Error::Finished);
        self.reader.abort();
        self.writer.abort();
    }
}

impl Sender {
    /// Puts a message in its lane, and answers at once.
    ///
    /// # Errors
    /// [`Error::Refused`] for a message that cannot be said, [`Error::Full`], or why the connection
    /// ended.
    pub fn send(&self, message: ControlMessage) -> Result<Sent, Error> {
        self.shared.send(message)
    }

    /// The worker that the connection is of.
    pub fn worker_id(&self) -> &str {
        &self.shared.worker_id
    }

    /// Resolves once the connection has ended.
    pub async fn ended(&self) -> Error {
        self.shared.ended.cancelled().await;
        self.shared.why()
    }
}

impl SharedChannel {
    pub(super) fn new(
        worker_id: &str,
        side: Side,
        channel: ControlPlaneChannel,
        settings: ChannelSettings,
    ) -> Self {
        Self {
            worker_id: worker_id.to_owned(),
            side,
            channel,
            incoming: Lanes::new(&settings),
            outgoing: Lanes::new(&settings),
            settings,
            end: OnceLock::new(),
            ended: CancellationToken::new(),
        }
    }

    fn send(&self, message: ControlMessage) -> Result<Sent, Error> {
        let lane = message.kind.lane();
        if message.kind == MessageKind::BootstrapBundle && self.side == Side::Worker {
            return Err(ControlFault::MalformedFrame {
                field: "kind",
                fault: "is not for this side to send",
            }
            .into());
        }
        key_after(&message)?;
        let bytes = self.channel.weigh(&message, Some(&self.worker_id))?;
        self.outgoing.push(message, bytes).map_err(|unfit| match unfit {
            Unfit::Full => Error::Full { lane },
            Unfit::Closed => self.why(),
        })
    }

    /// Takes a frame that verified, of so many bytes.
    pub(super) fn take(&self, frame: Frame, bytes: usize) -> Result<(), Error> {
        let Frame { message, target, .. } = frame;
        let foreign = |name: &Option<String>| name.as_deref().is_some_and(|name| name != self.worker_id);
        if foreign(&target) || foreign(&message.worker_id) {
            return Err(
                ControlFault::MalformedFrame { field: "target", fault: "is not this connection's" }.into()
            );
        }
        if message.kind == MessageKind::BootstrapBundle && self.side == Side::Supervisor {
            return Err(ControlFault::MalformedFrame { field: "kind", fault: "is not for this side" }.into());
        }
        if let Some(key) = key_after(&message)? {
            self.channel.adopt(key);
        }
        let lane = message.kind.lane();
        self.incoming.push(message, bytes).map(|_| ()).map_err(|unfit| match unfit {
            Unfit::Full => Error::Overrun { lane },
            Unfit::Closed => self.why(),
        })
    }

    /// Ends the connection for the first reason that is given.
    fn end(&self, why: Error) {
        // A later reason follows from the first.
        let _ = self.end.set(why);
        self.incoming.close();
        self.outgoing.discard();
        self.ended.cancel();
    }

    fn why(&self) -> Error {
        self.end.get().cloned().unwrap_or(Error::Finished)
    }
}

/// A socket whose buffers are small enough that what is in them delays nothing.
pub(super) fn open_socket(address: SocketAddr, settings: &ChannelSettings) -> Result<TcpSocket, Error> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let set_up = |socket: TcpSocket| {
        socket.set_send_buffer_size(settings.socket_buffer_bytes)?;
        socket.set_recv_buffer_size(settings.socket_buffer_bytes)?;
        Ok(socket)
    };
    socket.and_then(set_up).map_err(Error::socket("set up a socket"))
}

/// Reads until something ends the connection.
async fn read_on(shared: Arc<SharedChannel>, mut read: OwnedReadHalf, _place: Option<OwnedSemaphorePermit>) {
    let ended = shared.ended.clone();
    tokio::select! {
        biased;
        () = ended.cancelled() => {}
        why = read_frames(&shared, &mut read) => shared.end(why),
    }
    // What was written last should arrive, be it the answer to a fault or the last word before
    // closing.
    if matches!(shared.why(), Error::Refused(_) | Error::Finished) {
        linger(&mut read).await;
    }
}

async fn read_frames(shared: &SharedChannel, read: &mut OwnedReadHalf) -> Error {
    let idle = Bound::new("the next frame", "idle_timeout_ms", shared.settings.idle_timeout_ms);
    let whole = Bound::new("a frame under way", "frame_timeout_ms", shared.settings.frame_timeout_ms);
    loop {
        let taken = match read_body(read, idle, whole, shared.channel.body_bytes_max()).await {
            Ok(body) => take_body(shared, &body),
            Err(why) => Err(why),
        };
        if let Err(why) = taken {
            return why;
        }
    }
}

fn take_body(shared: &SharedChannel, body: &Zeroizing<Vec<u8>>) -> Result<(), Error> {
    match shared.channel.open(body) {
        Ok(frame) => shared.take(frame, body.len()),
        // Telemetry beyond its share of the window is lost like any telemetry too many.
        Err(ControlFault::ReplayWindowFull { lane: Lane::Telemetry, .. }) => {
            shared.incoming.count_dropped();
            Ok(())
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Writes until the queues are closed and empty, or something ends the connection.
async fn write_on(shared: Arc<SharedChannel>, mut write: OwnedWriteHalf) {
    let bound = Bound::new("taking a frame", "write_timeout_ms", shared.settings.write_timeout_ms);
    while let Some(message) = shared.outgoing.pop().await {
        if let Err(why) = write_message(&shared, message, &mut write, bound).await {
            shared.end(why);
            break;
        }
    }
    if let Some(Error::Refused(_)) = shared.end.get() {
        wire::reject(&mut write).await;
    }
    shared.end(Error::Finished);
}

async fn write_message(
    shared: &SharedChannel,
    message: ControlMessage,
    write: &mut OwnedWriteHalf,
    bound: Bound,
) -> Result<(), Error> {
    let key = key_after(&message)?;
    let bytes = shared.channel.encode_for(message, Some(&shared.worker_id))?;
    if let Some(key) = key {
        // Before the frame is out, so that whatever answers it finds the key in use.
        shared.channel.adopt(key);
    }
    write_frame(write, &bytes, bound).await
}
