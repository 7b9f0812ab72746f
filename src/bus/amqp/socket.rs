//! The socket: TCP, read a millisecond at a time where much comes.
//!
//! Owns: reading and writing one connection's bytes, and asking the system to tell when there are
//! more.
//! Never: asks for that while it reads by the millisecond: every segment that came would wake the
//! runtime meanwhile.
//! Holds: below the load a segment is read as soon as it comes, above it after a millisecond at
//! most.

use std::{
    io::{ErrorKind, Read, Result, Write},
    net::{Shutdown, TcpStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    thread,
    time::{Duration, Instant},
};

use futures_util::{AsyncRead, AsyncWrite};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle,
};

/// How long a socket rests between two readings under load.
const REST: Duration = Duration::from_millis(1);
/// How long deliveries are counted before they are load or none: longer than a batch's commit,
/// while nothing comes.
const COUNTED: Duration = Duration::from_millis(20);
/// Deliveries a second that are load.
const LOADED_PER_SECOND: u64 = 4_000;

/// A connected socket that does not block, but for its rests: it belongs to a thread that does
/// nothing else.
pub(super) struct Socket {
    reading: Way,
    /// A descriptor of its own: the system takes each descriptor once only.
    writing: Way,
    runtime: Handle,
    /// The last read returned fewer bytes than the buffer: the socket is drained.
    dry: bool,
    pace: Option<Pace>,
}

impl Socket {
    /// Takes over a stream of the current runtime. Without a load it never holds its thread.
    pub fn new(stream: tokio::net::TcpStream, load: Option<Arc<Load>>) -> Result<Self> {
        let stream = stream.into_std()?;
        let writing = Way::new(stream.try_clone()?);
        let pace = load.map(|load| Pace { load, rested: Instant::now(), resting: false });
        Ok(Self { reading: Way::new(stream), writing, runtime: Handle::current(), dry: false, pace })
    }

    fn poll_writing(
        &mut self,
        task: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> Result<usize>,
    ) -> Poll<Result<usize>> {
        loop {
            ready!(self.writing.poll_told(task))?;
            match write(&self.writing.stream) {
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => {
                    self.writing.ask(&self.runtime, Interest::WRITABLE)?;
                }
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize>> {
        loop {
            ready!(self.reading.poll_told(task))?;
            if let Some(pace) = &mut self.pace {
                // Blocks on purpose: the thread is the client library's own for this connection,
                // and a timer would wake the runtime, which the rest is to spare.
                thread::sleep(pace.rest(Instant::now()));
            }
            if !std::mem::take(&mut self.dry) {
                match (&*self.reading.stream).read(into) {
                    Ok(count) => {
                        // 0 bytes are the end of the stream: that is read again, not waited for.
                        self.dry = 0 < count && count < into.len();
                        return Poll::Ready(Ok(count));
                    }
                    Err(fault) if fault.kind() == ErrorKind::Interrupted => continue,
                    Err(fault) if fault.kind() == ErrorKind::WouldBlock => {}
                    Err(fault) => return Poll::Ready(Err(fault)),
                }
            }
            if self.pace.as_mut().is_some_and(|pace| pace.is_loaded(Instant::now())) {
                // Polled again at once, without the system: the rest comes before the next read.
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Self { reading, runtime, .. } = &mut *self;
            reading.ask(runtime, Interest::READABLE)?;
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, from: &[u8]) -> Poll<Result<usize>> {
        self.poll_writing(task, |mut stream| stream.write(from))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        from: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.poll_writing(task, |mut stream| stream.write_vectored(from))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(match self.writing.stream.shutdown(Shutdown::Write) {
            // The peer was first.
            Err(fault) if fault.kind() == ErrorKind::NotConnected => Ok(()),
            shut => shut,
        })
    }
}

/// One direction, and the system's word that it is free, where that was asked for.
struct Way {
    stream: Arc<TcpStream>,
    asked: Option<AsyncFd<Arc<TcpStream>>>,
}

impl Way {
    fn new(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), asked: None }
    }

    /// Registers with the system for one report: that this direction is free.
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, as the type could close its descriptor meanwhile; this one cannot"
    )]
    fn ask(&mut self, runtime: &Handle, interest: Interest) -> Result<()> {
        // The client library's thread is none of the runtime's, and registering needs one.
        let _within = runtime.enter();
        // Shared, so that the end of a registration does not close the connection.
        self.asked = Some(AsyncFd::with_interest(Arc::clone(&self.stream), interest)?);
        Ok(())
    }

    /// Ready when nothing was registered, or the system has reported.
    fn poll_told(&mut self, task: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(asked) = &self.asked else { return Poll::Ready(Ok(())) };
        // Whichever interest was asked for, the other is never told.
        let told = match asked.poll_read_ready(task) {
            Poll::Pending => asked.poll_write_ready(task),
            told => told,
        };
        drop(ready!(told)?);
        self.asked = None;
        Poll::Ready(Ok(()))
    }
}

/// What is delivered to one consuming connection; the publishing one beside it has its confirms at
/// the same rate.
#[derive(Debug)]
pub(super) struct Load {
    begun: Instant,
    /// Deliveries since the last look.
    deliveries: AtomicU64,
    /// When that was, in microseconds since `begun`.
    looked_micros: AtomicU64,
    is_high: AtomicBool,
}

impl Load {
    /// None so far.
    pub fn new() -> Self {
        let (deliveries, looked_micros) = Default::default();
        Self { begun: Instant::now(), deliveries, looked_micros, is_high: AtomicBool::new(false) }
    }

    /// Counts deliveries.
    pub fn count(&self, deliveries: usize) {
        self.deliveries.fetch_add(deliveries as u64, Relaxed);
    }

    /// Whether there is much; counted anew whenever the time is over.
    fn is_high(&self, now: Instant) -> bool {
        let looked = self.looked_micros.load(Relaxed);
        let at = u64::try_from(now.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX);
        let span = at.saturating_sub(looked);
        let is_due = u128::from(span) >= COUNTED.as_micros();
        // Two connections look: one counts anew for both, or the other would find nothing.
        if is_due && self.looked_micros.compare_exchange(looked, at, Relaxed, Relaxed).is_ok() {
            let deliveries = self.deliveries.swap(0, Relaxed);
            let is_high = deliveries.saturating_mul(1_000_000) / span >= LOADED_PER_SECOND;
            self.is_high.store(is_high, Relaxed);
        }
        self.is_high.load(Relaxed)
    }
}

/// When to rest.
struct Pace {
    load: Arc<Load>,
    /// When the last reading under load began.
    rested: Instant,
    /// The next reading is after a rest.
    resting: bool,
}

impl Pace {
    /// How long to rest before this reading.
    fn rest(&mut self, now: Instant) -> Duration {
        if !std::mem::take(&mut self.resting) {
            return Duration::ZERO;
        }
        let until = self.rested + REST;
        self.rested = until.max(now);
        until.saturating_duration_since(now)
    }

    /// There is nothing more to read: whether to rest before the next look, or to wait until there
    /// is.
    fn is_loaded(&mut self, now: Instant) -> bool {
        self.resting = self.load.is_high(now);
        self.resting
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(load: Option<Arc<Load>>) -> (Socket, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (taken, _) = listener.accept().await.unwrap();
        (Socket::new(dialled, load.clone()).unwrap(), Socket::new(taken, load).unwrap())
    }

    fn high() -> Arc<Load> {
        let load = Load::new();
        // The next look is due never.
        load.looked_micros.store(u64::MAX, Relaxed);
        load.is_high.store(true, Relaxed);
        Arc::new(load)
    }

    /// More than the buffers of both ends hold, so that both ends wait for each other again and
    /// again.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_is_read_whatever_waits() {
        for load in [None, Some(Arc::new(Load::new())), Some(high())] {
            let (mut from, mut to) = pair(load.clone()).await;
            let sent: Vec<u8> = (0..16_000_000_u32).map(|byte| (byte % 251) as u8).collect();
            let expected = sent.clone();
            let writing = tokio::spawn(async move {
                from.write_all(&sent).await.unwrap();
                from.close().await.unwrap();
                from
            });
            let mut read = Vec::new();
            to.read_to_end(&mut read).await.unwrap();
            assert!(read == expected, "{load:?}");
            // The other way is open still.
            to.write_all(b"heard").await.unwrap();
            drop(to);
            let mut answer = Vec::new();
            writing.await.unwrap().read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"heard");
        }
    }

    #[tokio::test]
    async fn a_lone_segment_is_read_when_it_comes() {
        let (mut from, mut to) = pair(Some(Arc::new(Load::new()))).await;
        for word in [b"one", b"two", b"six"] {
            let mut into = [0; 16];
            let (heard, ()) = tokio::join!(to.read(&mut into), async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                from.write_all(word).await.unwrap();
            });
            assert_eq!(into.get(..heard.unwrap()), Some(&word[..]));
        }
    }

    #[test]
    fn load_is_counted_over_its_span() {
        let load = Load::new();
        let at = |millis| load.begun + Duration::from_millis(millis);
        load.count(79);
        assert!(!load.is_high(at(19)), "it is too early to say");
        assert!(!load.is_high(at(20)), "79 in 20 ms are less than 4,000 a second");
        load.count(80);
        assert!(!load.is_high(at(30)));
        assert!(load.is_high(at(40)));
        load.count(100);
        assert!(load.is_high(at(41)), "it stays so until it is counted again");
        assert!(!load.is_high(at(90)), "100 in 50 ms are not enough");
    }

    #[test]
    fn a_rest_lasts_until_a_millisecond_after_the_last() {
        let begun = Instant::now();
        let at = |micros| begun + Duration::from_micros(micros);
        let mut pace = Pace { load: high(), rested: begun, resting: false };
        assert_eq!(pace.rest(at(300)), Duration::ZERO, "nothing was read dry");
        assert!(pace.is_loaded(at(300)));
        assert_eq!(pace.rest(at(300)), Duration::from_micros(700));
        assert_eq!(pace.rest(at(1_000)), Duration::ZERO, "until the next time");
        assert!(pace.is_loaded(at(1_200)));
        assert_eq!(pace.rest(at(1_250)), Duration::from_micros(750));
        assert!(pace.is_loaded(at(7_000)));
        assert_eq!(pace.rest(at(7_000)), Duration::ZERO, "who was busy for longer rests no more");
        pace.load.is_high.store(false, Relaxed);
        assert!(!pace.is_loaded(at(7_100)));
        assert_eq!(pace.rest(at(7_100)), Duration::ZERO);
    }
}
