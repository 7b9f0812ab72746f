//! The transport: lapin's socket with the guard in it.
//!
//! Owns: handing the client library a stream whose incoming bytes went through the guard, by TCP or
//! by TLS.
//! Never: holds back what may go on, or touches what is sent.
//! Holds: the stream ends, fails and waits exactly when the socket does.

use std::{
    fmt,
    io::{Error, ErrorKind, IoSlice, Read, Result, Write},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{
    Runtime, TokioRuntime,
    traits::{Executor, Reactor, RuntimeKit},
    util::Task,
};
use futures_rustls::client::TlsStream;
use futures_util::{AsyncRead, AsyncWrite, Stream};
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    uri::{AMQPScheme, AMQPUri},
};

use super::{
    guard::Guard,
    socket::{Load, Socket},
    tls::Tls,
};

/// Connects through the guard; under that load the sockets are read by the millisecond.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: Option<Tls>,
    load: Arc<Load>,
) -> lapin::Result<Connection> {
    let runtime = Runtime::new(Kit { tokio: TokioRuntime::tokio_current(), load: Arc::clone(&load) });
    let dial = async move |uri: AMQPUri, _: Runtime<Kit>| {
        let socket = dialled(&uri, tls.as_ref(), Some(Arc::clone(&load))).await?;
        // For lapin it is a plain stream of this runtime's kind; TLS, where there is any, is
        // inside.
        Ok(AsyncTcpStream::Plain(GuardedSocket { socket, guard: Guard::default() }))
    };
    Connection::connector(uri, runtime, dial, properties).await
}

/// Dials without the guard and without rests: for what is not handed to the client library.
pub(super) async fn socket(uri: &AMQPUri, tls: Option<&Tls>) -> Result<Secured> {
    dialled(uri, tls, None).await
}

async fn dialled(uri: &AMQPUri, tls: Option<&Tls>, load: Option<Arc<Load>>) -> Result<Secured> {
    let (host, port) = (uri.authority.host.as_str(), uri.authority.port);
    let socket = Socket::new(tokio::net::TcpStream::connect((host, port)).await?, load)?;
    match (&uri.scheme, tls) {
        (AMQPScheme::AMQP, _) => Ok(Secured::Plain(socket)),
        (AMQPScheme::AMQPS, Some(tls)) => Ok(Secured::Tls(Box::new(tls.secure(host, socket).await?))),
        // Never in clear instead: a password may go over this connection.
        (AMQPScheme::AMQPS, None) => Err(Error::new(ErrorKind::InvalidInput, "nothing says whom to trust")),
    }
}

/// A socket, plain or with TLS.
pub(super) enum Secured {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(task, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(task, into),
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, from: &[u8]) -> Poll<Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(task, from),
            Self::Tls(stream) => Pin::new(stream).poll_write(task, from),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(task, from),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(task, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(task),
            Self::Tls(stream) => Pin::new(stream).poll_flush(task),
        }
    }

    fn poll_close(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_close(task),
            Self::Tls(stream) => Pin::new(stream).poll_close(task),
        }
    }
}

/// Tokio, but for the kind of its streams.
#[derive(Clone)]
struct Kit {
    tokio: TokioRuntime,
    load: Arc<Load>,
}

impl fmt::Debug for Kit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Kit").field("load", &self.load).finish_non_exhaustive()
    }
}

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <TokioRuntime as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.tokio.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.tokio.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.tokio.spawn_blocking(work)
    }
}

impl Reactor for Kit {
    type TcpStream = GuardedSocket;
    type Sleep = <TokioRuntime as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<GuardedSocket, _>(Error::new(ErrorKind::Unsupported, "only TCP is dialled"))
    }

    fn sleep(&self, pause: Duration) -> Self::Sleep {
        self.tokio.sleep(pause)
    }

    fn interval(&self, pause: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(pause)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = Result<Self::TcpStream>> + Send + 'static {
        let load = Arc::clone(&self.load);
        async move {
            let socket = Socket::new(tokio::net::TcpStream::connect(address).await?, Some(load))?;
            Ok(GuardedSocket { socket: Secured::Plain(socket), guard: Guard::default() })
        }
    }
}

/// A socket whose incoming bytes went through the guard.
struct GuardedSocket {
    socket: Secured,
    guard: Guard,
}

impl AsyncRead for GuardedSocket {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize>> {
        let Self { socket, guard } = self.get_mut();
        // An empty read says the end of the stream, so the socket is asked until something may go
        // on.
        while guard.ready().is_empty() {
            let count = ready!(Pin::new(&mut *socket).poll_read(task, guard.room()))?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            if !guard.read(count) {
                return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, "the peer does not speak AMQP")));
            }
        }
        let count = guard.ready().len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), guard.ready().get(..count)) {
            to.copy_from_slice(from);
        }
        guard.take(count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for GuardedSocket {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, from: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.socket).poll_write(task, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(task, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_flush(task)
    }

    fn poll_close(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_close(task)
    }
}
