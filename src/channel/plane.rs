//! One side's view of a channel: messages to signed frames and back.
//!
//! Owns: the keys in use, the memory of nonces, the nonces that this side makes, and the clock.
//! Never: touches a socket.
//! Holds: a frame is taken once; never one that this side signed itself; nonces of one side never
//! repeat in its life.
//!
//! The clock is the machine's wall clock, for it is what both sides share, whenever each was
//! started. It may jump: the window remembers up to where it has forgotten.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use zeroize::Zeroizing;

use super::{Error, settings::ChannelSettings};
use crate::contract::control::{
    BootstrapKeyBundle, ControlFault, ControlMessage, Frame, MessageKind, Nonce, SigningKey, Window,
    frame::{self, PREFIX_BYTES, Sealed, VerifiedBody},
};

/// A clock: seconds since the Unix epoch.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's wall clock.
pub fn wall() -> Now {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Signs, verifies and remembers; a clone is the same channel.
#[derive(Clone)]
pub struct ControlPlaneChannel {
    keys: Arc<Mutex<Keys>>,
    window: Arc<Mutex<Window>>,
    mint: Arc<Mint>,
    body_bytes_max: usize,
    now: Now,
}

/// The keys in use. Around a bundle there are two of them for a moment.
struct Keys {
    current: SigningKey,
    /// The other side may have signed with it what is still under way.
    previous: Option<SigningKey>,
}

impl ControlPlaneChannel {
    /// A channel for a key that was made in this life, so that nothing signed with it is older than
    /// the channel.
    ///
    /// # Errors
    /// [`Error::Refused`] for settings that do not pass, [`Error::Randomness`].
    pub fn new(key: SigningKey, settings: &ChannelSettings) -> Result<Self, Error> {
        settings.check()?;
        let window = Window::new(settings.ttl_seconds, settings.nonce_cache_size);
        Ok(Self::assemble(key, Arc::new(Mutex::new(window)), Arc::new(Mint::new()?), settings, wall()))
    }

    /// The same channel, for a key that is older than it: frames signed at `boot` or earlier are
    /// refused, for nobody remembers which of them were taken; see
    /// [`KeyRing::since`](super::KeyRing::since).
    #[must_use]
    pub fn since(self, boot: i64) -> Self {
        let mut window = lock(&self.window);
        *window = window.clone().since(boot);
        drop(window);
        self
    }

    /// The same channel by another clock.
    #[must_use]
    pub fn with_clock(self, now: Now) -> Self {
        Self { now, ..self }
    }

    pub(super) fn assemble(
        key: SigningKey,
        window: Arc<Mutex<Window>>,
        mint: Arc<Mint>,
        settings: &ChannelSettings,
        now: Now,
    ) -> Self {
        let keys = Arc::new(Mutex::new(Keys { current: key, previous: None }));
        Self { keys, window, mint, body_bytes_max: settings.max_payload_bytes, now }
    }

    /// The signed frame of a message.
    ///
    /// # Errors
    /// [`ControlFault::PayloadTooLarge`], [`ControlFault::MalformedFrame`].
    pub fn encode(&self, message: &ControlMessage) -> Result<Zeroizing<Vec<u8>>, ControlFault> {
        self.encode_for(message.clone(), message.worker_id.as_deref())
    }

    /// The signed frame of a message, for or from `target`.
    pub(super) fn encode_for(
        &self,
        message: ControlMessage,
        target: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, ControlFault> {
        let frame = Frame {
            target: target.map(str::to_owned),
            ..Frame::new(message, (self.now)(), self.mint.next())
        };
        let bytes = frame.encode(&lock(&self.keys).current, self.body_bytes_max)?;
        Ok(bytes)
    }

    /// The bytes of a message's frame, which is not signed.
    pub(super) fn weigh(
        &self,
        message: &ControlMessage,
        target: Option<&str>,
    ) -> Result<usize, ControlFault> {
        const SIGNATURE_BYTES: usize = r#","sig":"""#.len() + 64;
        let frame = Frame::new(message.clone(), (self.now)(), Nonce([0; 16]));
        let frame = Frame { target: target.map(str::to_owned), ..frame };
        let bytes = frame.signing_bytes()?.len().saturating_add(SIGNATURE_BYTES);
        let bytes_max = self.body_bytes_max;
        if bytes > bytes_max {
            return Err(ControlFault::PayloadTooLarge { bytes: bytes as u64, bytes_max: bytes_max as u64 });
        }
        Ok(bytes)
    }

    /// The message of a whole frame, length and body.
    ///
    /// # Errors
    /// The category, in the order of [`ControlFault`].
    pub fn decode(&self, bytes: &[u8]) -> Result<ControlMessage, ControlFault> {
        let short = ControlFault::MalformedFrame { field: "length", fault: "is not that of the body" };
        let (prefix, body) = bytes.split_first_chunk::<PREFIX_BYTES>().ok_or(short)?;
        if frame::body_length(*prefix, self.body_bytes_max)? != body.len() {
            return Err(short);
        }
        self.open(body).map(|frame| frame.message)
    }

    /// The frame of a body.
    pub(super) fn open(&self, body: &[u8]) -> Result<Frame, ControlFault> {
        self.admit(Sealed::read(body, self.body_bytes_max)?)
    }

    /// Verifies and admits.
    pub(super) fn admit(&self, sealed: Sealed) -> Result<Frame, ControlFault> {
        let opened = {
            let mut keys = lock(&self.keys);
            let opened = match &keys.previous {
                Some(previous) => sealed.open(&[&keys.current, previous])?,
                None => sealed.open(&[&keys.current])?,
            };
            if opened.key == 0 {
                // The other side signs with the new key; it will not go back to the old one.
                keys.previous = None;
            }
            opened
        };
        self.admit_opened(opened)
    }

    /// Admits what has verified.
    pub(super) fn admit_opened(&self, opened: VerifiedBody) -> Result<Frame, ControlFault> {
        // Both sides sign with one key, so what this side said could be said back to it.
        if opened.claimed_nonce().is_some_and(|nonce| self.mint.made(nonce)) {
            return Err(ControlFault::ReplayedNonce);
        }
        opened.admit((self.now)(), &mut lock(&self.window))
    }

    /// Signs with `key` from here on. What the other side signed before it knew is still taken,
    /// until its first frame under the new key.
    pub fn adopt(&self, key: SigningKey) {
        let mut keys = lock(&self.keys);
        if keys.current != key {
            keys.previous = Some(std::mem::replace(&mut keys.current, key));
        }
    }

    /// The longest body.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }
}

impl std::fmt::Debug for ControlPlaneChannel {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nonces = lock(&self.window).len();
        out.debug_struct("ControlPlaneChannel").field("nonces", &nonces).finish_non_exhaustive()
    }
}

/// The key that what follows a message is signed with, where it is a bundle.
pub(super) fn key_after(message: &ControlMessage) -> Result<Option<SigningKey>, ControlFault> {
    if message.kind != MessageKind::BootstrapBundle {
        return Ok(None);
    }
    BootstrapKeyBundle::from_payload(&message.payload).map(|bundle| Some(bundle.signing))
}

/// Makes nonces: which life of which side, then a count.
#[derive(Debug)]
pub(super) struct Mint {
    life: [u8; 8],
    count: AtomicU64,
}

impl Mint {
    pub(super) fn new() -> Result<Self, Error> {
        let mut life = [0; 8];
        getrandom::fill(&mut life).map_err(Error::Randomness)?;
        Ok(Self { life, count: AtomicU64::new(0) })
    }

    fn next(&self) -> Nonce {
        let count = self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut nonce = [0; 16];
        nonce.iter_mut().zip(self.life.iter().chain(&count)).for_each(|(place, byte)| *place = *byte);
        Nonce(nonce)
    }

    /// Whether a nonce is one of this side's.
    fn made(&self, nonce: Nonce) -> bool {
        nonce.0.starts_with(&self.life)
    }
}

/// A lock whose holder never leaves anything half done, so that one that panicked has not either.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
