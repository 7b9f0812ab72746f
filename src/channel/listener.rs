//! Where workers knock.
//!
//! Owns: the listening socket, the first frame of each connection, whose key it must verify with,
//! and the counts of what was refused.
//! Never: tells a peer more than "rejected"; looks at anything but size, JSON and signature before
//! the key is proven.
//! Holds: a name that nobody has is answered as one whose key is wrong; a worker's nonces are
//! remembered over all of its connections; whoever knocks and says nothing makes room for who comes
//! next.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinHandle, JoinSet},
};

use super::{
    Error,
    connection::{Connection, SharedChannel, Side, open_socket},
    plane::{ControlPlaneChannel, Mint, Now, lock, wall},
    settings::ChannelSettings,
    wire::{Bound, linger, read_body, reject},
};
use crate::contract::control::{ControlFault, Frame, SigningKey, Window, frame::Sealed};

/// The longest first body: until the key is proven little is held for a peer.
pub const FIRST_BODY_BYTES_MAX: usize = 64 * 1024;
/// The pause after the system could not accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The length of the system's own queue of connections.
const BACKLOG_LEN: u32 = 128;

/// From a worker's name to its key, where it has one.
type Find = dyn Fn(&str) -> Option<SigningKey> + Send + Sync;

/// Finds a worker's key by its name.
#[derive(Clone)]
pub struct KeyRing {
    find: Arc<Find>,
    boot: Option<i64>,
}

impl KeyRing {
    /// Keys that were made in this life, so that nothing signed with them is older than it.
    pub fn new(find: impl Fn(&str) -> Option<SigningKey> + Send + Sync + 'static) -> Self {
        Self { find: Arc::new(find), boot: None }
    }

    /// The same keys, some of which are older than this life: frames signed at `boot` or earlier
    /// are refused, for nobody remembers which of them were taken. A peer's clock that runs ahead
    /// dates its frames ahead; who must hold against that as well says `boot` plus the time to
    /// live, and hears nobody for as long.
    #[must_use]
    pub fn since(self, boot: i64) -> Self {
        Self { boot: Some(boot), ..self }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KeyRing").field("boot", &self.boot).finish_non_exhaustive()
    }
}

/// A socket that hands out connections whose key is proven. Dropped, it listens no more; the
/// connections stay.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    accepted: mpsc::Receiver<Connection>,
    door: Arc<Door>,
    task: JoinHandle<()>,
}

/// What the handshakes share.
struct Door {
    settings: ChannelSettings,
    ring: KeyRing,
    /// The key of nobody, which a name that nobody has is tried with.
    nobody: SigningKey,
    windows: Mutex<BTreeMap<String, Arc<Mutex<Window>>>>,
    mint: Arc<Mint>,
    now: Now,
    places: Arc<Semaphore>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// [`Error::Refused`] by the bind policy, [`Error::Socket`], [`Error::Randomness`].
    pub fn bind(settings: ChannelSettings, ring: KeyRing) -> Result<Self, Error> {
        Self::bind_with_clock(settings, ring, wall())
    }

    /// Listens, by another clock than the machine's.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn bind_with_clock(settings: ChannelSettings, ring: KeyRing, now: Now) -> Result<Self, Error> {
        let address = settings.check()?;
        let socket = open_socket(address, &settings)?;
        let listening = socket
            .set_reuseaddr(true)
            .and_then(|()| socket.bind(address))
            .and_then(|()| socket.listen(BACKLOG_LEN))
            .map_err(Error::socket("listen"))?;
        let address = listening.local_addr().map_err(Error::socket("listen"))?;
        let (hand_over, accepted) = mpsc::channel(settings.connections_max);
        let mut nobody = vec![0; 32];
        getrandom::fill(&mut nobody).map_err(Error::Randomness)?;
        let door = Arc::new(Door {
            places: Arc::new(Semaphore::new(settings.connections_max)),
            settings,
            ring,
            nobody: SigningKey::new(nobody)?,
            windows: Mutex::new(BTreeMap::new()),
            mint: Arc::new(Mint::new()?),
            now,
            refused: Mutex::new(BTreeMap::new()),
        });
        let task = tokio::spawn(accept_on(listening, Arc::clone(&door), hand_over));
        Ok(Self { address, accepted, door, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection whose key is proven. Its first message waits in it.
    ///
    /// # Errors
    /// [`Error::Finished`] should the listening task have ended.
    pub async fn accept(&mut self) -> Result<Connection, Error> {
        self.accepted.recv().await.ok_or(Error::Finished)
    }

    /// How many connections were refused before their key was proven or with their first frame: by
    /// the word of a [`ControlFault`], or `slow`, `closed`, `evicted` (silent, and another
    /// knocked), `connections-full`.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.door.refused).clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Door").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Accepts for ever; the handshakes end with it.
async fn accept_on(listening: TcpListener, door: Arc<Door>, hand_over: mpsc::Sender<Connection>) {
    let mut handshakes = JoinSet::new();
    let mut order: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let Ok((stream, _)) = listening.accept().await else {
            // Out of descriptors, most likely; what is closed meanwhile helps.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        order.retain(|handshake| !handshake.is_finished());
        while order.len() >= door.settings.handshakes_max {
            if let Some(oldest) = order.pop_front() {
                oldest.abort();
                door.count("evicted");
            }
        }
        order.push_back(handshakes.spawn(knock(stream, Arc::clone(&door), hand_over.clone())));
    }
}

/// One handshake.
async fn knock(mut stream: TcpStream, door: Arc<Door>, hand_over: mpsc::Sender<Connection>) {
    let proven = door.prove(&mut stream).await.map_err(|why| word(&why));
    let placed = proven.and_then(|shared| match Arc::clone(&door.places).try_acquire_owned() {
        Ok(place) => Ok((shared, place)),
        Err(_) => Err("connections-full"),
    });
    match placed {
        Ok((shared, place)) => {
            if let Ok(connection) = Connection::start(stream, shared, Some(place)) {
                // Nobody takes connections any more: then neither is this one wanted.
                let _ = hand_over.send(connection).await;
            }
        }
        Err(word) => {
            door.count(word);
            reject(&mut stream).await;
            linger(&mut stream).await;
        }
    }
}

/// What a handshake that failed is counted under.
fn word(why: &Error) -> &'static str {
    match why {
        Error::Refused(fault) => fault.word(),
        Error::Slow { .. } => "slow",
        _ => "closed",
    }
}

impl Door {
    /// Reads the first frame and verifies it with the key of the worker that it names.
    async fn prove(&self, stream: &mut TcpStream) -> Result<SharedChannel, Error> {
        let body_bytes_max = self.settings.max_payload_bytes.min(FIRST_BODY_BYTES_MAX);
        let bound = Bound::new("the first frame", "handshake_timeout_ms", self.settings.handshake_timeout_ms);
        let body = bound.hold(read_body(stream, bound, bound, body_bytes_max)).await?;
        let sealed = Sealed::read(&body, body_bytes_max)?;
        let worker_id = sealed.claimed_target().unwrap_or_default().to_owned();
        let known = (self.ring.find)(&worker_id);
        let key = known.as_ref().unwrap_or(&self.nobody);
        let opened = sealed.open(&[key])?;
        // Only the key of nobody could still be in use here, and nobody signs with it.
        let key = known.ok_or(ControlFault::InvalidSignature)?;
        let window = self.window_of(&worker_id);
        let channel = ControlPlaneChannel::assemble(
            key,
            window,
            Arc::clone(&self.mint),
            &self.settings,
            Arc::clone(&self.now),
        );
        let frame: Frame = channel.admit_opened(opened)?;
        let shared = SharedChannel::new(&worker_id, Side::Supervisor, channel, self.settings.clone());
        shared.take(frame, body.len())?;
        Ok(shared)
    }

    /// The memory of a worker's nonces. Those of workers that are not heard of any more empty
    /// themselves, and go.
    fn window_of(&self, worker_id: &str) -> Arc<Mutex<Window>> {
        let mut windows = lock(&self.windows);
        let now = (self.now)();
        windows.retain(|_, window| {
            let mut held = lock(window);
            held.forget(now);
            !held.is_empty() || Arc::strong_count(window) > 1
        });
        let fresh = || {
            let window = Window::new(self.settings.ttl_seconds, self.settings.nonce_cache_size);
            match self.ring.boot {
                Some(boot) => window.since(boot),
                None => window,
            }
        };
        Arc::clone(windows.entry(worker_id.to_owned()).or_insert_with(|| Arc::new(Mutex::new(fresh()))))
    }

    fn count(&self, word: &'static str) {
        let mut refused = lock(&self.refused);
        let count = refused.entry(word).or_default();
        *count = count.saturating_add(1);
    }
}
