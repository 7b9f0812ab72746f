//! Stderr as the log writes it: by one thread of its own, so that whoever reads it may stop
//! reading.
//!
//! Owns: the queue of lines that wait to be written, its bounds, the thread, and the count of what
//! was dropped.
//! Never: makes a caller wait for the reader of stderr, or for the disk that it is redirected to.
//! Holds: the queue is bounded in bytes and each line too; what finds no room is dropped and
//! counted, and the count is written where the lines are missing, as soon as there is room.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::format::Format;
use crate::contract::{plain::is_steering, timestamp::Timestamp};

/// What a line costs in the queue besides its bytes.
const LINE_COST_BYTES: usize = 64;
/// The pause before a stderr that takes nothing just now (it does not block) is tried again.
const AGAIN_PAUSE: Duration = Duration::from_millis(20);

/// The log of this process, once it is installed.
static INSTALLED: OnceLock<Stderr> = OnceLock::new();

/// Bounds on what waits for the reader of stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StderrBounds {
    /// Bytes of all lines that wait; information may take three quarters of it, warnings and errors
    /// all.
    pub queue_bytes_max: usize,
    /// Bytes of one line.
    pub line_bytes_max: usize,
}

impl Default for StderrBounds {
    fn default() -> Self {
        Self { queue_bytes_max: 1024 * 1024, line_bytes_max: 16 * 1024 }
    }
}

/// The queue in front of stderr; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stderr(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    format: Format,
    queue_bytes_max: AtomicUsize,
    line_bytes_max: AtomicUsize,
    queue: Mutex<Queue>,
    /// Something was queued.
    queued: Condvar,
    /// Everything queued has been written.
    drained: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that were dropped and are not yet told.
    untold: u64,
    /// A line has left the queue and is not yet written.
    writing: bool,
}

impl Stderr {
    /// Starts the thread that writes to `destination`.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub(super) fn start(
        format: Format,
        bounds: StderrBounds,
        destination: impl Destination + Send + 'static,
    ) -> io::Result<Self> {
        let inner = Inner {
            format,
            queue_bytes_max: AtomicUsize::new(bounds.queue_bytes_max),
            line_bytes_max: AtomicUsize::new(bounds.line_bytes_max),
            queue: Mutex::default(),
            queued: Condvar::new(),
            drained: Condvar::new(),
            dropped: AtomicU64::new(0),
        };
        let stderr = Self(Arc::new(inner));
        let writer = stderr.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_on(destination))?;
        Ok(stderr)
    }

    /// Makes this the stderr of the process; a second one changes nothing.
    pub(super) fn install(&self) {
        let _ = INSTALLED.set(self.clone());
    }

    /// Queues a line, or drops it where there is no room.
    fn add(&self, line: &[u8], first_class: bool) {
        let inner = &*self.0;
        let mut line = bounded(inner.format, line, inner.line_bytes_max.load(Relaxed));
        let room = inner.queue_bytes_max.load(Relaxed);
        let room = if first_class { room } else { room - room / 4 };
        let mut queue = self.queue();
        if queue.untold > 0 && queue.bytes < room {
            // The line takes its place behind the gap that it follows.
            let mut with_notice = notice(inner.format, queue.untold);
            with_notice.append(&mut line);
            line = with_notice;
        }
        let cost = line.len() + LINE_COST_BYTES;
        if queue.bytes + cost > room {
            queue.untold += 1;
            inner.dropped.fetch_add(1, Relaxed);
            return;
        }
        queue.untold = 0;
        queue.bytes += cost;
        queue.lines.push_back(line);
        inner.queued.notify_one();
    }

    /// Writes what is queued, for as long as the process lives.
    fn write_on(self, mut destination: impl Destination) {
        let mut queue = self.queue();
        loop {
            let line = match queue.lines.pop_front() {
                Some(line) => {
                    queue.bytes -= line.len() + LINE_COST_BYTES;
                    line
                }
                None if queue.untold > 0 => notice(self.0.format, std::mem::take(&mut queue.untold)),
                None => {
                    self.0.drained.notify_all();
                    queue = self.0.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            queue.writing = true;
            drop(queue);
            if !write_all(&mut destination, &line) {
                self.0.dropped.fetch_add(1, Relaxed);
            }
            queue = self.queue();
            queue.writing = false;
        }
    }

    /// Waits until everything is written, at most that long.
    fn drain(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut queue = self.queue();
        while queue.writing || queue.untold > 0 || !queue.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.0.drained.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes text to stderr: through the log's queue where the log is installed, else at once. Whoever
/// closed stderr does not want to know.
pub fn write(text: &str) {
    match INSTALLED.get() {
        Some(stderr) => stderr.add(text.as_bytes(), true),
        None => drop(io::Write::write_all(&mut io::stderr(), text.as_bytes())),
    }
}

/// Waits until what was told is written, at most that long: a reader that has stopped does not hold
/// the process.
pub fn drain(patience: Duration) {
    if let Some(stderr) = INSTALLED.get() {
        stderr.drain(patience);
    }
}

/// Changes the bounds of this process's log; what waits already keeps its room.
pub(super) fn set_bounds(bounds: StderrBounds) {
    if let Some(Stderr(inner)) = INSTALLED.get() {
        inner.queue_bytes_max.store(bounds.queue_bytes_max, Relaxed);
        inner.line_bytes_max.store(bounds.line_bytes_max, Relaxed);
    }
}

/// How many lines of this process's log were dropped.
pub fn dropped_lines() -> u64 {
    INSTALLED.get().map_or(0, |stderr| stderr.0.dropped.load(Relaxed))
}

/// Where lines go in the end.
pub(super) trait Destination {
    /// Writes some of the bytes; answers how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// The process's own stderr. Not by the standard library's handle: its lock would be held for as
/// long as a write waits, and whoever else writes there would wait with it.
pub(super) struct Own;

impl Destination for Own {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stderr(), bytes)?)
    }
}

/// Whether all of it was written. A stderr that is closed takes nothing, and is tried again with
/// the next line.
fn write_all(destination: &mut impl Destination, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match destination.write(bytes) {
            Ok(0) => return false,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares the pipe with us may have made it one that does not block.
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => thread::sleep(AGAIN_PAUSE),
            Err(_) => return false,
        }
    }
    true
}

/// One event's line, on its way into the queue.
#[derive(Debug)]
pub struct Line<'a> {
    stderr: &'a Stderr,
    first_class: bool,
}

impl io::Write for Line<'_> {
    /// The formatter writes each event in one call, its end of line included.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stderr.add(&one_line(self.stderr.0.format, bytes), self.first_class);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { stderr: self, first_class: true }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Line<'a> {
        Line { stderr: self, first_class: *about.level() <= Level::WARN }
    }
}

/// An event as one line, whatever a sender's text in it would make of it. JSON has its own escapes,
/// and the formatter has those for a terminal's colours, which are its own.
fn one_line(format: Format, event: &[u8]) -> Cow<'_, [u8]> {
    let text = match (format, std::str::from_utf8(event)) {
        (Format::Text, Ok(text)) => text.strip_suffix('\n').unwrap_or(text),
        _ => return Cow::Borrowed(event),
    };
    let begins_another = |character| character != '\u{1b}' && is_steering(character);
    if !text.contains(begins_another) {
        return Cow::Borrowed(event);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match begins_another(character) {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line.push('\n');
    Cow::Owned(line.into_bytes())
}

/// A line of at most so many bytes. What was cut says so; a cut line of JSON is JSON still.
fn bounded(format: Format, line: &[u8], bytes_max: usize) -> Vec<u8> {
    if line.len() <= bytes_max {
        return line.to_vec();
    }
    let kept = String::from_utf8_lossy(line.get(..bytes_max).unwrap_or(line));
    let what = format!("a line of {} bytes was cut", line.len());
    match format {
        Format::Text => format!("{} … ({what})\n", kept.trim_end()).into_bytes(),
        Format::Json => json_line(&what, json!({ "begins": kept })),
    }
}

/// What is said in the place of lines that were dropped.
fn notice(format: Format, lines: u64) -> Vec<u8> {
    let what = format!("{lines} lines of the log were dropped here: stderr was not read in time");
    match format {
        Format::Text => format!("{}  WARN {}: {what}\n", now(), module_path!()).into_bytes(),
        Format::Json => json_line(&what, json!({ "dropped": lines })),
    }
}

/// A line as the JSON log has them, at the level of a warning.
fn json_line(what: &str, mut line: serde_json::Value) -> Vec<u8> {
    line["timestamp"] = json!(now());
    line["level"] = json!("WARN");
    line["message"] = json!(what);
    line["target"] = json!(module_path!());
    format!("{line}\n").into_bytes()
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    #[test]
    fn a_senders_text_begins_no_line_of_its_own() {
        let event = "INFO refused: not ready: x\n2026 ERROR forged\u{202e}\0\n".as_bytes();
        let line = one_line(Format::Text, event);
        assert_eq!(&*line, "INFO refused: not ready: x\\n2026 ERROR forged\\u{202e}\\u{0}\n".as_bytes());
        for kept in ["INFO \u{1b}[32mgreen\u{1b}[0m: é\n", "no end"] {
            assert_eq!(&*one_line(Format::Text, kept.as_bytes()), kept.as_bytes());
        }
        let json = b"{\"message\":\"a\\nb\"}\n";
        assert_eq!(&*one_line(Format::Json, json), json);
    }

    const BOUNDS: StderrBounds = StderrBounds { queue_bytes_max: 4 * 1024, line_bytes_max: 200 };

    /// A reader that takes a line only when it is let.
    struct Held {
        let_go: Receiver<()>,
        told: Sender<Vec<u8>>,
    }

    impl Destination for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A reader that is gone is one that has stopped for good.
            self.let_go.recv().map_err(io::Error::other)?;
            let _ = self.told.send(bytes.to_vec());
            Ok(bytes.len())
        }
    }

    struct Test {
        stderr: Stderr,
        let_go: Sender<()>,
        told: Receiver<Vec<u8>>,
    }

    fn test(format: Format) -> Test {
        let ((let_go, held), (tell, told)) = (channel(), channel());
        let stderr = Stderr::start(format, BOUNDS, Held { let_go: held, told: tell }).expect("a thread");
        Test { stderr, let_go, told }
    }

    impl Test {
        /// Everything that is told once the reader reads again.
        fn read(&self) -> String {
            (0..1_000).for_each(|_| self.let_go.send(()).expect("a reader"));
            self.stderr.drain(Duration::from_secs(10));
            self.told.try_iter().map(|line| String::from_utf8(line).expect("text")).collect()
        }
    }

    #[test]
    fn a_reader_that_has_stopped_holds_nobody_and_what_was_dropped_is_told_in_its_place() {
        let test = test(Format::Text);
        for number in 0..1_000 {
            test.stderr.add(format!("line {number}\n").as_bytes(), false);
        }
        let begun = Instant::now();
        test.stderr.drain(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(5), "the end waits for the reader");
        let told = test.read();
        let kept = told.lines().filter(|line| line.starts_with("line ")).count();
        let dropped = 1_000 - kept;
        assert!(kept > 10 && dropped > 10, "{told}");
        assert!(told.ends_with(&format!(
            ": {dropped} lines of the log were dropped here: stderr was not read in time\n"
        )));
        assert_eq!(test.stderr.0.dropped.load(Relaxed), dropped as u64);
        test.stderr.add(b"after\n", false);
        assert_eq!(test.read(), "after\n");
    }

    #[test]
    fn a_line_after_a_gap_stands_behind_the_count() {
        let test = test(Format::Json);
        let line = b"{\"level\":\"INFO\"}\n";
        (0..1_000).for_each(|_| test.stderr.add(line, false));
        (0..30).for_each(|_| test.let_go.send(()).expect("a reader"));
        while test.stderr.queue().bytes + 1_000 > BOUNDS.queue_bytes_max * 3 / 4 {
            thread::sleep(Duration::from_millis(1));
        }
        test.stderr.add(b"{\"level\":\"INFO\",\"after\":true}\n", false);
        let told = test.read();
        let lines: Vec<serde_json::Value> =
            told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [.., count, after] = lines.as_slice() else { panic!("{told}") };
        assert!(count["dropped"].is_u64() && after["after"] == true, "{told}");
    }

    #[test]
    fn warnings_have_room_that_information_has_not() {
        let test = test(Format::Text);
        (0..1_000).for_each(|_| test.stderr.add(b"information\n", false));
        test.stderr.add(b"a warning\n", true);
        assert!(test.read().contains("a warning\n"));
    }

    #[test]
    fn a_long_line_is_cut_and_json_stays_json() {
        let long = "x".repeat(1_000);
        let cut = bounded(Format::Text, format!("{long}\n").as_bytes(), 200);
        assert!(cut.len() < 260 && cut.ends_with("… (a line of 1001 bytes was cut)\n".as_bytes()));
        let json = format!("{{\"message\":\"{long}\"}}\n");
        let cut = bounded(Format::Json, json.as_bytes(), 200);
        let cut: serde_json::Value = serde_json::from_slice(&cut).expect("JSON");
        assert!(cut["begins"].as_str().is_some_and(|begins| begins.len() == 200));
        assert_eq!(bounded(Format::Text, b"short\n", 200), b"short\n");
    }
}
