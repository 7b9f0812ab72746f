//! Frames on a socket: one in, one out, each in bounded time and space.
//!
//! Owns: the timeouts of reading and writing one frame, and the one answer that a peer without a
//! key gets.
//! Never: looks into a body, except to know that answer.
//! Holds: no more is held for a peer than the bound that it is read with, and half a frame is not
//! waited for for ever.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use zeroize::Zeroizing;

use super::Error;
use crate::contract::control::frame::{PREFIX_BYTES, body_length};

/// The whole answer to what is refused, whatever the reason: a frame that holds a word and no
/// signature.
pub(super) const REJECTED: &[u8] = b"\x00\x00\x00\x0a\"rejected\"";
/// How long, and how much, a refused peer is still listened to, so that its own data does not cut
/// the answer off.
const LINGER: Duration = Duration::from_millis(200);
const LINGER_BYTES_MAX: u64 = 64 * 1024;
/// How long the answer itself may take.
const REJECT_TIMEOUT: Duration = Duration::from_millis(500);

/// A bound in time, by the name of its setting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    what: &'static str,
    setting: &'static str,
    time: Duration,
}

impl Bound {
    pub(super) const fn new(what: &'static str, setting: &'static str, ms: u64) -> Self {
        Self { what, setting, time: Duration::from_millis(ms) }
    }

    /// Runs to the end or to the bound.
    pub(super) async fn hold<T>(self, run: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let slow = Error::Slow { what: self.what, setting: self.setting };
        timeout(self.time, run).await.unwrap_or(Err(slow))
    }
}

/// Reads one body: its first byte within `idle`, from there on all of it within `whole`.
pub(super) async fn read_body(
    reader: &mut (impl AsyncRead + Unpin),
    idle: Bound,
    whole: Bound,
    body_bytes_max: usize,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut prefix = [0; PREFIX_BYTES];
    let begun =
        idle.hold(async { reader.read(&mut prefix).await.map_err(Error::socket("read a frame")) }).await?;
    if begun == 0 {
        return Err(Error::Closed);
    }
    let rest = async {
        if let Some(missing) = prefix.get_mut(begun..) {
            reader.read_exact(missing).await.map_err(cut)?;
        }
        let mut body = Zeroizing::new(vec![0; body_length(prefix, body_bytes_max)?]);
        reader.read_exact(&mut body).await.map_err(cut)?;
        Ok(body)
    };
    let body = whole.hold(rest).await?;
    if REJECTED.get(PREFIX_BYTES..) == Some(body.as_slice()) {
        return Err(Error::Rejected);
    }
    Ok(body)
}

/// A frame that ends before it is whole: the other side is gone.
fn cut(fault: std::io::Error) -> Error {
    match fault.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::Closed,
        _ => Error::socket("read a frame")(fault),
    }
}

/// Writes one frame.
pub(super) async fn write_frame(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    bound: Bound,
) -> Result<(), Error> {
    bound.hold(async { writer.write_all(bytes).await.map_err(Error::socket("write a frame")) }).await
}

/// Tells the other side the one word, and that nothing more will come. It may be gone already; then
/// nobody is told.
pub(super) async fn reject(writer: &mut (impl AsyncWrite + Unpin)) {
    let _ = timeout(REJECT_TIMEOUT, async {
        writer.write_all(REJECTED).await?;
        writer.shutdown().await
    })
    .await;
}

/// Reads on for a moment without looking. A socket that is closed with data unread takes back what
/// was written last.
pub(super) async fn linger(reader: &mut (impl AsyncRead + Unpin)) {
    let _ =
        timeout(LINGER, tokio::io::copy(&mut reader.take(LINGER_BYTES_MAX), &mut tokio::io::sink())).await;
}
