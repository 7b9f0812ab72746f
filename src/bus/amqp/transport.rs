//! The transport: lapin's socket with the guard in it.
//!
//! Owns: handing the client library a stream whose incoming bytes went through the guard, by TCP or by TLS.
//! Never: holds back what may go on, or touches what is sent.
//! Holds: the stream ends, fails and waits exactly when the socket does.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    net::SocketAddr,
    pin::Pin,
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

use super::guard::Guard;

/// A socket as lapin's runtime makes it, plain or TLS.
type Socket = AsyncTcpStream<<TokioRuntime as Reactor>::TcpStream>;

/// Connects through the guard.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: OwnedTLSConfig,
) -> lapin::Result<Connection> {
    let runtime = TokioRuntime::tokio_current();
    let dialling = runtime.clone();
    let dial = async move |uri: AMQPUri, _: Runtime<Guarded>| {
        let socket = uri.connect_with_config_async(tls.as_ref(), &dialling).await?;
        // For lapin it is a plain stream of this runtime's kind; TLS, where there is any, is inside.
        Ok(AsyncTcpStream::Plain(GuardedSocket { socket, guard: Guard::default() }))
    };
    Connection::connector(uri, Runtime::new(Guarded(runtime)), dial, properties).await
}

/// Dials without the guard: for what is not handed to the client library.
pub(super) async fn socket(uri: &AMQPUri, tls: &OwnedTLSConfig) -> Result<Socket> {
    uri.connect_with_config_async(tls.as_ref(), &TokioRuntime::tokio_current()).await
}

/// Tokio, but for the kind of its streams.
#[derive(Clone, Debug)]
struct Guarded(TokioRuntime);

impl RuntimeKit for Guarded {}

impl Executor for Guarded {
    type Task<T: Send + 'static> = <TokioRuntime as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Guarded {
    type TcpStream = GuardedSocket;
    type Sleep = <TokioRuntime as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<GuardedSocket, _>(Error::new(ErrorKind::Unsupported, "only TCP is dialled"))
    }

    fn sleep(&self, pause: Duration) -> Self::Sleep {
        self.0.sleep(pause)
    }

    fn interval(&self, pause: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(pause)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = Result<Self::TcpStream>> + Send + 'static {
        let dialling = self.0.tcp_connect_addr(address);
        async move {
            let socket = AsyncTcpStream::Plain(dialling.await?);
            Ok(GuardedSocket { socket, guard: Guard::default() })
        }
    }
}

/// A socket whose incoming bytes went through the guard.
struct GuardedSocket {
    socket: Socket,
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
