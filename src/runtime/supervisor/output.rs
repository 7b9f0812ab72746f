//! What workers print, a line at a time, into the supervisor's log.
//!
//! Owns: reading a stream into lines of bounded length, and saying whose they are.
//! Never: judges what a line says, or lets one steer a terminal.
//! Holds: no more of a line than its bound is in memory; a line that was cut says so.

use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::info;

/// How much is read at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// Tells each line of a stream until it ends.
pub async fn tell(worker: String, stream: &'static str, from: impl AsyncRead + Unpin, line_bytes_max: usize) {
    read(from, line_bytes_max, |line, cut| {
        info!(target: "swarmgate::worker", worker, stream, cut, "{line}");
    })
    .await;
}

async fn read(mut from: impl AsyncRead + Unpin, line_bytes_max: usize, mut tell: impl FnMut(&str, bool)) {
    let mut lines = Lines { kept: Vec::new(), cut: false, bytes_max: line_bytes_max };
    let mut chunk = vec![0; CHUNK_BYTES];
    // A stream that cannot be read any more has ended for us.
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        for part in chunk.get(..read).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(rest) => {
                    lines.keep(rest);
                    lines.end(&mut tell);
                }
                None => lines.keep(part),
            }
        }
    }
    if !lines.kept.is_empty() {
        lines.end(&mut tell);
    }
}

/// The line under way.
struct Lines {
    kept: Vec<u8>,
    cut: bool,
    bytes_max: usize,
}

impl Lines {
    fn keep(&mut self, part: &[u8]) {
        let room = self.bytes_max.saturating_sub(self.kept.len());
        self.cut |= part.len() > room;
        self.kept.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn end(&mut self, tell: &mut impl FnMut(&str, bool)) {
        let text = String::from_utf8_lossy(self.kept.strip_suffix(b"\r").unwrap_or(&self.kept));
        let shown: String = text
            .chars()
            .map(|sign| if sign.is_control() && sign != '\t' { '\u{fffd}' } else { sign })
            .collect();
        tell(&shown, self.cut);
        self.kept.clear();
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(bytes: &[u8], line_bytes_max: usize) -> Vec<(String, bool)> {
        let mut told = Vec::new();
        read(bytes, line_bytes_max, |line, cut| told.push((line.to_owned(), cut))).await;
        told
    }

    #[tokio::test]
    async fn lines_are_told_whole_or_cut() {
        type Case<'a> = (&'a [u8], &'a [(&'a str, bool)]);
        let cases: [Case<'_>; 6] = [
            (b"a\nbc\r\n\nd", &[("a", false), ("bc", false), ("", false), ("d", false)]),
            (b"12345678\n123456789\nx\n", &[("12345678", false), ("12345678", true), ("x", false)]),
            (b"", &[]),
            (b"\x1b[2J\tx\n", &[("\u{fffd}[2J\tx", false)]),
            (b"\xff\n", &[("\u{fffd}", false)]),
            (b"123456789", &[("12345678", true)]),
        ];
        for (bytes, lines) in cases {
            let lines: Vec<(String, bool)> =
                lines.iter().map(|(line, cut)| ((*line).to_owned(), *cut)).collect();
            assert_eq!(told(bytes, 8).await, lines);
        }
    }

    #[tokio::test]
    async fn a_line_without_end_stays_bounded() {
        let long = vec![b'x'; 10 * CHUNK_BYTES];
        assert_eq!(told(&long, 8).await, [("xxxxxxxx".to_owned(), true)]);
    }
}
