//! The file of records: what an observer saw, in the form that `swarmgate route` reads.
//!
//! Owns: the file, its bound, and the form of a record.
//! Never: writes a secret that is known for one, overwrites a file, or holds up anything but the
//! observer.
//! Holds: what is not written is counted, and why is said.

use std::{
    borrow::Cow,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value, json, value::RawValue};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::{
    contract::{
        Contract,
        message::{HeaderValue, Headers, Message, Properties},
        secrets::{MASKED, names, shapes},
        timestamp::Timestamp,
    },
    view::observed,
};

/// The longest record, in bytes: a body of the default bound in base64, and room for the rest.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many messages may wait to be written.
const WAITING_MAX: usize = 64;
/// How long the end waits for what is left to be written.
const PATIENCE: Duration = Duration::from_secs(10);
/// Only its owner reads it.
const OWNER_ONLY: u32 = 0o600;
/// A header that nobody is to keep.
const AUTHORIZATION: &str = "authorization";

/// The file, and who writes it.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    into: Mutex<Option<mpsc::Sender<(Message, Timestamp)>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    written: Arc<Mutex<Written>>,
}

/// What became of the messages.
#[derive(Clone, Debug, Default)]
struct Written {
    bytes: u64,
    fault: Option<String>,
    left_out: u64,
    messages: u64,
}

impl Records {
    /// Begins a new file, which only its owner reads.
    ///
    /// # Errors
    /// When it is there already, or cannot be made.
    pub fn begin(path: &Path, bytes_max: u64, contract: Arc<Contract>) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
        let (into, waiting) = mpsc::channel(WAITING_MAX);
        let (end, ended) = oneshot::channel();
        let written = Arc::<Mutex<Written>>::default();
        let writer =
            Writer { file: BufWriter::new(file), bytes_max, contract, written: Arc::clone(&written) };
        // A thread of its own: a disk that hangs must not keep the end of the process waiting.
        std::thread::Builder::new().name("records".to_owned()).spawn(move || {
            writer.run(waiting);
            // Whoever does not wait any more need not hear it.
            let _ = end.send(());
        })?;
        let (into, ended) = (Mutex::new(Some(into)), Mutex::new(Some(ended)));
        Ok(Self { path: path.to_owned(), into, ended, written })
    }

    /// Hands a message on to be written.
    pub(super) async fn write(&self, message: &Message, now: Timestamp) {
        let into = held(&self.into).clone();
        if let Some(into) = into {
            let _ = into.send((message.clone(), now)).await;
        }
    }

    /// Writes what is left, as far as that does not take too long.
    pub(super) async fn close(&self) {
        held(&self.into).take();
        let ended = held(&self.ended).take();
        if let Some(ended) = ended
            && tokio::time::timeout(PATIENCE, ended).await.is_err()
        {
            held(&self.written).fault.get_or_insert_with(|| "the disk does not answer".to_owned());
        }
    }

    /// What became of the messages until now.
    pub(super) fn report(&self) -> observed::SeenRecords {
        let Written { fault, left_out, messages, .. } = held(&self.written).clone();
        observed::SeenRecords { fault, file: self.path.display().to_string(), left_out, written: messages }
    }
}

fn held<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer {
    file: BufWriter<File>,
    bytes_max: u64,
    contract: Arc<Contract>,
    written: Arc<Mutex<Written>>,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<(Message, Timestamp)>) {
        while let Some((message, at)) = waiting.blocking_recv() {
            self.write(&message, at);
            if waiting.is_empty() {
                let flushed = self.file.flush();
                self.note(flushed);
            }
        }
        let flushed = self.file.flush();
        self.note(flushed);
    }

    fn write(&mut self, message: &Message, at: Timestamp) {
        let Written { bytes, fault, .. } = held(&self.written).clone();
        if fault.is_some() {
            held(&self.written).left_out += 1;
            return;
        }
        let line = line(&self.contract, message, at);
        let size = line.len() as u64;
        if line.len() > RECORD_BYTES_MAX {
            held(&self.written).left_out += 1;
            return;
        }
        if bytes + size > self.bytes_max {
            self.end(format!(
                "the file has no room for more (`observe.records_bytes_max` is {})",
                self.bytes_max
            ));
            held(&self.written).left_out += 1;
            return;
        }
        let wrote = self.file.write_all(line.as_bytes());
        let is_written = wrote.is_ok();
        self.note(wrote);
        let mut written = held(&self.written);
        if is_written {
            written.bytes += size;
            written.messages += 1;
        } else {
            written.left_out += 1;
        }
    }

    fn note(&self, done: io::Result<()>) {
        if let Err(fault) = done {
            self.end(format!("it cannot be written: {fault}"));
        }
    }

    /// No more is written, so that the file ends with a whole record.
    fn end(&self, why: String) {
        let mut written = held(&self.written);
        if written.fault.is_none() {
            warn!("no more records are written: {why}");
            written.fault = Some(why);
        }
    }
}

/// A record in one line.
fn line(contract: &Contract, message: &Message, at: Timestamp) -> String {
    let mut record = Map::new();
    record.insert("timestamp".to_owned(), json!(at));
    record.insert("routingKey".to_owned(), json!(shapes::written(message.routing_key.clone())));
    let mut properties = serde_json::to_value(kept(&message.properties)).unwrap_or_default();
    shapes::mask(&mut properties);
    record.insert("properties".to_owned(), properties);
    let mut text = Value::Object(record).to_string();
    // The object stays open: the body's own text is put in, which a value would not keep.
    text.pop();
    text.push_str(&match contract.shown(&message.body) {
        Some(body) => form(&body),
        // Nobody could say what in it is a secret; `route` refuses what stands in for it by the
        // same gate.
        None => {
            let instead =
                format!("not kept: {} bytes that are no JSON, or too much of it", message.body.len());
            format!(",\"bodyText\":{}", json!(instead))
        }
    });
    text.push_str("}\n");
    text
}

/// A body that `route` takes for the bytes that came.
fn form(body: &str) -> String {
    let is_one_line = !body.contains(['\n', '\r']);
    match serde_json::from_str::<&RawValue>(body) {
        Ok(raw) if is_one_line => format!(",\"body\":{}", raw.get()),
        _ => format!(",\"bodyText\":{}", json!(body)),
    }
}

fn kept(properties: &Properties) -> Properties {
    Properties { headers: masked(&properties.headers), ..properties.clone() }
}

/// Headers without what their names say is a secret.
fn masked(headers: &Headers) -> Headers {
    let is_kept = |name: &str| !name.eq_ignore_ascii_case(AUTHORIZATION);
    let kept = headers.iter().filter(|(name, _)| is_kept(name));
    let masked = kept.map(|(name, value)| {
        let value = match value {
            HeaderValue::Table(fields) => HeaderValue::Table(masked(fields)),
            _ if names::is_secret(name) => HeaderValue::Text(MASKED.to_owned()),
            HeaderValue::Array(values) => HeaderValue::Array(values.iter().map(masked_in).collect()),
            value => value.clone(),
        };
        (Cow::Owned(name.to_string()), value)
    });
    masked.collect()
}

fn masked_in(value: &HeaderValue) -> HeaderValue {
    match value {
        HeaderValue::Table(fields) => HeaderValue::Table(masked(fields)),
        HeaderValue::Array(values) => HeaderValue::Array(values.iter().map(masked_in).collect()),
        value => value.clone(),
    }
}
