//! What workers print, a line at a time, into the supervisor's log.
//!
//! Owns: reading a stream into lines of bounded length and number, and saying whose they are.
//! Never: judges what a line says, or lets one steer a terminal.
//! Holds: no more of a line than its bound is in memory; a line that was cut says so; lines beyond
//! their number a second are counted, and the count is told.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::Instant,
};
use tracing::{info, warn};

/// How much is read at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// The span that lines are counted in.
const SECOND: Duration = Duration::from_secs(1);

/// How much of a stream is kept.
#[derive(Clone, Copy, Debug)]
pub struct OutputBounds {
    /// Bytes of a line.
    pub line_bytes_max: usize,
    /// Lines in a second.
    pub lines_per_second_max: u32,
}

/// What there is to log of a stream.
enum Said<'a> {
    Line {
        text: &'a str,
        cut: bool,
    },
    /// So many lines of the second that is over were too many.
    HeldBack(u64),
}

/// Logs the lines of a stream until it ends. The stream is read on whatever becomes of its lines: a
/// worker never waits for the log.
pub async fn log_lines(
    worker: String,
    stream: &'static str,
    from: impl AsyncRead + Unpin,
    bounds: OutputBounds,
) {
    read(from, bounds, |said| match said {
        Said::Line { text, cut } => info!(target: "swarmgate::worker", worker, stream, cut, "{text}"),
        Said::HeldBack(held_back) => {
            warn!(target: "swarmgate::worker", worker, stream, held_back, "{held_back} lines were too many");
        }
    })
    .await;
}

async fn read(mut from: impl AsyncRead + Unpin, bounds: OutputBounds, mut tell: impl FnMut(Said<'_>)) {
    let mut lines = Lines { kept: Vec::new(), cut: false, bytes_max: bounds.line_bytes_max };
    let mut pace = Pace { until: Instant::now() + SECOND, told: 0, held_back: 0, bounds };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = tokio::select! {
            read = from.read(&mut chunk) => read,
            () = tokio::time::sleep_until(pace.until), if pace.held_back > 0 => {
                pace.turn(&mut tell);
                continue;
            }
        };
        // A stream that cannot be read any more has ended for us.
        let Ok(read @ 1..) = read else { break };
        for part in chunk.get(..read).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(rest) => {
                    lines.keep(rest);
                    lines.end(&mut |text, cut| pace.tell(&mut tell, text, cut));
                }
                None => lines.keep(part),
            }
        }
    }
    if !lines.kept.is_empty() {
        lines.end(&mut |text, cut| pace.tell(&mut tell, text, cut));
    }
    pace.turn(&mut tell);
}

/// How many lines were told in the second under way.
struct Pace {
    until: Instant,
    told: u32,
    held_back: u64,
    bounds: OutputBounds,
}

impl Pace {
    fn tell(&mut self, tell: &mut impl FnMut(Said<'_>), text: &str, cut: bool) {
        if Instant::now() >= self.until {
            self.turn(tell);
        }
        if self.told < self.bounds.lines_per_second_max {
            self.told += 1;
            tell(Said::Line { text, cut });
        } else {
            self.held_back += 1;
        }
    }

    /// Begins a new second.
    fn turn(&mut self, tell: &mut impl FnMut(Said<'_>)) {
        if self.held_back > 0 {
            tell(Said::HeldBack(self.held_back));
        }
        (self.until, self.told, self.held_back) = (Instant::now() + SECOND, 0, 0);
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
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn told(bytes: &[u8], line_bytes_max: usize) -> Vec<(String, bool)> {
        let mut told = Vec::new();
        read(bytes, OutputBounds { line_bytes_max, lines_per_second_max: 100 }, |said| match said {
            Said::Line { text, cut } => told.push((text.to_owned(), cut)),
            Said::HeldBack(_) => panic!("so few lines are not too many"),
        })
        .await;
        told
    }

    #[tokio::test]
    async fn lines_beyond_their_number_a_second_are_counted() {
        let (mut worker, from) = tokio::io::duplex(64 * 1024);
        let talks = tokio::spawn(async move {
            for _ in 0..2 {
                worker.write_all(&b"x\n".repeat(1_000)).await.expect("it is read");
                tokio::time::sleep(Duration::from_millis(1_200)).await;
            }
        });
        let mut told = Vec::new();
        read(from, OutputBounds { line_bytes_max: 8, lines_per_second_max: 10 }, |said| match said {
            Said::Line { .. } => told.push(1),
            Said::HeldBack(count) => told.push(count),
        })
        .await;
        talks.await.expect("an end");
        let second = [vec![1; 10], vec![990]].concat();
        assert_eq!(told, second.repeat(2));
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
