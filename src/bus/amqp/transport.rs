//! The transport: lapin's socket with the guard in it.
//!
//! Owns: handing the client library a stream whose incoming bytes went through the guard, by TCP or by TLS.
//! Never: holds back what may go on, or touches what is sent.
//! Holds: the stream ends, fails and waits exactly when the socket does.

use std::{
    fmt,
    io::{Error, ErrorKind, Read, Result, Write},
    marker::PhantomData,
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
use futures_util::{AsyncRead, AsyncWrite, Stream};
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    tcp::{AMQPUriTcpExt, OwnedTLSConfig},
    uri::AMQPUri,
};

use super::{
    guard::Guard,
    socket::{Load, Socket},
};

/// A socket, plain or with TLS.
type Secured = AsyncTcpStream<Socket>;

/// Connects through the guard; under that load the sockets are read by the millisecond.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: OwnedTLSConfig,
    load: Arc<Load>,
) -> lapin::Result<Connection> {
    let dialling = Kit::<Socket>::new(Some(Arc::clone(&load)));
    let runtime = Kit::<GuardedSocket>::new(Some(load));
    let dial = async move |uri: AMQPUri, _: Runtime<Kit<GuardedSocket>>| {
        let socket = uri.connect_with_config_async(tls.as_ref(), &dialling).await?;
        // For lapin it is a plain stream of this runtime's kind; TLS, where there is any, is inside.
        Ok(AsyncTcpStream::Plain(GuardedSocket { socket, guard: Guard::default() }))
    };
    Connection::connector(uri, runtime, dial, properties).await
}

/// Dials without the guard and without rests: for what is not handed to the client library.
pub(super) async fn socket(uri: &AMQPUri, tls: &OwnedTLSConfig) -> Result<Secured> {
    uri.connect_with_config_async(tls.as_ref(), &Kit::<Socket>::new(None)).await
}

/// A stream that TCP can be made into.
trait Dialled: From<Socket> + AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl Dialled for Socket {}

impl Dialled for GuardedSocket {}

/// Tokio, but for the kind of its streams.
struct Kit<S> {
    tokio: TokioRuntime,
    load: Option<Arc<Load>>,
    streams: PhantomData<fn() -> S>,
}

impl<S: Dialled> Kit<S> {
    fn new(load: Option<Arc<Load>>) -> Runtime<Self> {
        Runtime::new(Self { tokio: TokioRuntime::tokio_current(), load, streams: PhantomData })
    }
}

impl<S> Clone for Kit<S> {
    fn clone(&self) -> Self {
        Self { tokio: self.tokio.clone(), load: self.load.clone(), streams: PhantomData }
    }
}

impl<S> fmt::Debug for Kit<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Kit").field("load", &self.load).finish_non_exhaustive()
    }
}

impl<S: Dialled> RuntimeKit for Kit<S> {}

impl<S> Executor for Kit<S> {
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

impl<S: Dialled> Reactor for Kit<S> {
    type TcpStream = S;
    type Sleep = <TokioRuntime as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<S, _>(Error::new(ErrorKind::Unsupported, "only TCP is dialled"))
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
        let (dialling, load) = (self.tokio.tcp_connect_addr(address), self.load.clone());
        async move { Ok(S::from(Socket::new(dialling.await?.into_inner(), load)?)) }
    }
}

impl From<Socket> for GuardedSocket {
    fn from(socket: Socket) -> Self {
        Self { socket: AsyncTcpStream::Plain(socket), guard: Guard::default() }
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
        // An empty read says the end of the stream, so the socket is asked until something may go on.
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
        from: &[std::io::IoSlice<'_>],
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
