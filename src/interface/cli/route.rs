//! `swarmgate route`: the corridor as a filter.
//!
//! Owns: reading records, running each through the corridor and printing what it answers.
//! Never: needs a broker; every target counts as reachable.
//! Holds: one line out for each line in, in order, flushed; the same input gives the same output.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    CliError, Exit, Globals, OutputFormat,
    output::{escaped, one_line},
};
use crate::{
    config::Loaded,
    contract::{
        Contract, Unsaid,
        audit::{Action, Change, Fact, Genesis, Verdict},
        digest::Digest,
        interlock::SafetyMode,
        message::{HeaderValue, Message, Properties},
        reason::{Reason, Refusal},
        strict::{self, Limits},
        timestamp::Timestamp,
    },
    decision::{
        effect::Effect,
        request::{Arrival, Request},
        state::State,
    },
    ledger::{
        Batch, Ledger, Outgoing,
        chain::{Chain, Sealed},
    },
    runtime::{
        corridor::{self, Corridor, Judged, Names},
        replay,
        survey::records::RECORD_BYTES_MAX,
    },
};

/// The longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = RECORD_BYTES_MAX as u64;

/// Decide recorded messages without a broker.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Decide a file of records, one JSON object a line:
    swarmgate route records.ndjson
  In CI: fail when anything would be refused:
    swarmgate route --fail-on refuse --output json < records.ndjson
  A record:
    {\"timestamp\":\"2026-03-04T10:15:00Z\",\"routingKey\":\"signal.swarm-start.kestrel.swarm-controller.ctl-1\",
     \"properties\":{\"userId\":\"orc-a\"},\"body\":{…}}")]
pub struct Args {
    /// Records to read; standard input when absent or `-`.
    file: Option<PathBuf>,
    /// Keep the ledger here instead of in memory; each line is durable before it is printed.
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    /// Exit with 3 when something got this verdict.
    #[arg(long, value_name = "VERDICT")]
    fail_on: Option<FailOn>,
}

/// Verdicts that may fail a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Something was refused.
    Refuse,
}

/// Judges every record of the input.
///
/// # Errors
/// When the config, the input or the ledger cannot be read or written.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let loaded = globals.config()?;
    let mut filter = Filter::begin(&loaded, &args).await?;
    let json = globals.output_or(OutputFormat::Json) == OutputFormat::Json;
    let input: Box<dyn BufRead> = match args.file.as_deref() {
        None => Box::new(BufReader::new(io::stdin())),
        Some(path) if path.as_os_str() == "-" => Box::new(BufReader::new(io::stdin())),
        Some(path) => {
            Box::new(BufReader::new(File::open(path).map_err(|fault| CliError::file(path, &fault))?))
        }
    };
    let refused = filter.all(input, &mut io::stdout().lock(), json).await?;
    filter.end().await?;
    Ok(if refused && args.fail_on == Some(FailOn::Refuse) { Exit::Refused } else { Exit::Done })
}

/// The corridor over one input.
struct Filter {
    contract: Contract,
    corridor: Corridor,
    ledger: Option<Ledger>,
    /// In memory, outcomes to publish again are found here; with a ledger, there.
    outcomes: std::collections::BTreeMap<u64, Bytes>,
    now: Timestamp,
}

/// One line of output.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    line: Option<u64>,
    verdict: Option<Verdict>,
    reason: Option<Reason>,
    detail: Option<String>,
    pointer: Option<String>,
    seq: Option<u64>,
    principal: Option<String>,
    publish: Vec<Value>,
    audit: Vec<&'static str>,
}

impl Filter {
    async fn begin(loaded: &Loaded, args: &Args) -> Result<Self, CliError> {
        let rules = loaded.rules();
        let mut outcomes = std::collections::BTreeMap::new();
        let (ledger, state, chain) = match &args.ledger {
            None => (None, State::new(rules), Chain::new()),
            Some(dir) => {
                let mut ledger = Ledger::open(dir, None).await?;
                let (state, recovered) =
                    replay::fold(&mut ledger, &rules, |sealed| outcomes.extend(outcome_of(sealed))).await?;
                (Some(ledger), state, recovered.chain)
            }
        };
        let now = state.last_at();
        let corridor = Corridor::new(state, chain, Names::with_prefix(&loaded.config.amqp.prefix));
        Ok(Self { contract: loaded.contract.clone(), corridor, ledger, outcomes, now })
    }

    /// Answers every line; tells whether anything was refused.
    async fn all(
        &mut self,
        mut input: Box<dyn BufRead>,
        out: &mut impl Write,
        json: bool,
    ) -> Result<bool, CliError> {
        let mut refused = false;
        for number in 1_u64.. {
            let mut line = Vec::new();
            let read = io::Read::take(&mut input, LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
            if read.map_err(|fault| CliError::input(&fault))? == 0 {
                break;
            }
            let is_whole = line.last() == Some(&b'\n') || line.len() as u64 <= LINE_BYTES_MAX;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if !is_whole {
                // What is left of it is no record of its own.
                input.skip_until(b'\n').map_err(|fault| CliError::input(&fault))?;
            }
            let record = match is_whole {
                true => Record::read(&line),
                false => Record::none(format!("the line has more than {LINE_BYTES_MAX} bytes")),
            };
            for answer in self.line(number, (&line, record)).await? {
                refused |= answer.verdict == Some(Verdict::Refuse);
                print(out, &answer, json).map_err(|fault| CliError::output(&fault))?;
            }
        }
        Ok(refused)
    }

    /// Closes what is open; in memory there is nothing to close.
    async fn end(mut self) -> Result<(), CliError> {
        let sealed = self.corridor.close(self.now);
        self.write(sealed).await?;
        if let Some(ledger) = self.ledger {
            ledger.close().await;
        }
        Ok(())
    }

    /// The answers to one line: what fell due before it, then its own.
    async fn line(&mut self, number: u64, (line, record): (&[u8], Record)) -> Result<Vec<Answer>, CliError> {
        let mut answers = Vec::new();
        self.now = record.timestamp.unwrap_or(self.now).max(self.now);
        self.genesis().await?;
        while let Some(judged) = self.corridor.due(self.now) {
            if !judged.sealed.is_empty() {
                answers.push(self.answer(None, judged).await?);
            }
        }
        let (arrival, message) = match record.message {
            Ok(message) => (corridor::read(&self.contract, &message, false), message),
            Err(lack) => unreadable(line, lack),
        };
        let decision = self.corridor.decide(&Request::Arrived(Box::new(arrival)), self.now);
        let again = decision.effects.iter().find_map(|effect| match effect {
            Effect::Repeat { of, .. } => self.outcomes.get(of).cloned(),
            _ => None,
        });
        let judged = self.corridor.settle(decision, Some(message), again);
        answers.push(self.answer(Some(number), judged).await?);
        Ok(answers)
    }

    /// A fresh ledger begins with the first record's time, so that every answer can be reproduced.
    async fn genesis(&mut self) -> Result<(), CliError> {
        if self.corridor.state().genesis().is_some() {
            return Ok(());
        }
        let genesis = Genesis {
            environment: "dev".to_owned(),
            // Without proof of who speaks there is nothing to be safe from; `init` begins a ledger
            // in SAFE.
            initial_mode: SafetyMode::Normal,
            ledger_id: "0".repeat(32),
            mode: self.corridor.state().rules().mode,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let sealed = self.corridor.record(Fact::new(Action::Genesis, self.now, Change::Genesis(genesis)));
        self.write(vec![sealed]).await
    }

    async fn write(&mut self, entries: Vec<Sealed>) -> Result<(), CliError> {
        self.outcomes.extend(entries.iter().filter_map(outcome_of));
        match &mut self.ledger {
            Some(ledger) => Ok(ledger.append(Batch { entries, ..Batch::default() }).await?),
            None => Ok(()),
        }
    }

    async fn answer(&mut self, line: Option<u64>, judged: Judged) -> Result<Answer, CliError> {
        let Judged { decision, sealed, outgoing, released, .. } = judged;
        // What waited for a confirmation or its target leaves in this step too.
        let leaving = outgoing.iter().chain(released.iter().map(|kept| &kept.outgoing));
        let answer = Answer {
            line,
            verdict: decision.verdict,
            reason: decision.refusal.as_ref().map(|refusal| refusal.reason),
            detail: decision.refusal.as_ref().map(|refusal| refusal.detail.clone().into_owned()),
            pointer: decision.refusal.and_then(|refusal| refusal.pointer),
            seq: sealed.first().map(|first| first.entry.seq),
            principal: decision.principal,
            publish: leaving.map(published).collect(),
            audit: sealed.iter().map(|entry| entry.entry.fact.action.word()).collect(),
        };
        self.write(sealed).await?;
        Ok(answer)
    }
}

/// A record as far as it could be read.
struct Record {
    timestamp: Option<Timestamp>,
    message: Result<Message, String>,
}

impl Record {
    /// No record, because of that.
    fn none(lack: String) -> Self {
        Self { timestamp: None, message: Err(lack) }
    }

    fn read(line: &[u8]) -> Self {
        let record = match serde_json::from_slice(line) {
            Ok(Named(record)) => record,
            Err(fault) if fault.to_string().starts_with(TWICE) => return Self::none(TWICE.to_owned()),
            Err(_) => return Self::none("the line is not a JSON object".to_owned()),
        };
        let timestamp = text(&record, "timestamp").as_deref().and_then(Timestamp::parse);
        Self { timestamp, message: Self::message(&record, timestamp) }
    }

    fn message(record: &Fields, timestamp: Option<Timestamp>) -> Result<Message, String> {
        if timestamp.is_none() {
            return Err("the record has no `timestamp` in RFC 3339 with an offset".to_owned());
        }
        let Some(routing_key) = text(record, "routingKey") else {
            return Err("the record has no `routingKey` text".to_owned());
        };
        let body = body(record)?;
        let properties: Option<Properties> = field(record, "properties")?;
        let headers: Option<Map<String, Value>> = field(record, "headers")?;
        let mut properties = properties.unwrap_or_default();
        let headers =
            headers.unwrap_or_default().into_iter().map(|(name, value)| (name.into(), header(value)));
        properties.headers.extend(headers);
        Ok(Message { exchange: "swarmgate.in".to_owned(), routing_key, properties, body })
    }
}

/// A record's fields, unread: a body must reach the contract as the bytes that were recorded.
type Fields = std::collections::BTreeMap<String, Box<RawValue>>;

/// What is told of a record with two values for a key: readers disagree on which one counts.
const TWICE: &str = "the record names a key twice";

/// Fields whose names differ.
struct Named(Fields);

impl<'de> serde::Deserialize<'de> for Named {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> serde::de::Visitor<'de> for Once {
            type Value = Named;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
                let mut fields = Fields::new();
                while let Some((name, value)) = map.next_entry()? {
                    if fields.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom(TWICE));
                    }
                }
                Ok(Named(fields))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

fn text(record: &Fields, name: &str) -> Option<String> {
    record.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn field<T: serde::de::DeserializeOwned>(record: &Fields, name: &str) -> Result<Option<T>, String> {
    match record.get(name) {
        None => Ok(None),
        Some(raw) => {
            // The body is the contract's to read; what stands beside it is read as strictly.
            let limits = Limits { body_bytes_max: usize::MAX, ..Limits::default() };
            strict::parse(raw.get().as_bytes(), &limits)
                .map_err(|refusal| format!("the record's `{name}`: {}", refusal.detail))?;
            serde_json::from_str(raw.get()).map_err(|fault| format!("the record's `{name}`: {fault}"))
        }
    }
}

/// Exactly one of the three forms of a body.
fn body(record: &Fields) -> Result<Bytes, String> {
    use base64::Engine as _;
    let forms: Vec<&str> =
        ["body", "bodyText", "bodyBase64"].into_iter().filter(|form| record.contains_key(*form)).collect();
    let [form] = forms.as_slice() else {
        return Err("the record has not exactly one of `body`, `bodyText`, `bodyBase64`".to_owned());
    };
    if *form == "body" {
        return Ok(record
            .get("body")
            .map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()))
            .unwrap_or_default());
    }
    let text = text(record, form).ok_or_else(|| format!("the record's `{form}` is not text"))?;
    if *form == "bodyText" {
        return Ok(Bytes::from(text));
    }
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|_| "the record's `bodyBase64` is not base64".to_owned())
}

fn header(value: Value) -> HeaderValue {
    match value {
        Value::Null => HeaderValue::Void,
        Value::Bool(flag) => HeaderValue::Bool(flag),
        Value::String(text) => HeaderValue::Text(text),
        Value::Array(values) => HeaderValue::Array(values.into_iter().map(header).collect()),
        Value::Object(fields) => {
            HeaderValue::Table(fields.into_iter().map(|(name, value)| (name.into(), header(value))).collect())
        }
        Value::Number(number) => match number.as_i64() {
            Some(whole) => HeaderValue::I64(whole),
            None => HeaderValue::F64(number.as_f64().unwrap_or_default()),
        },
    }
}

/// A header as it is shown.
pub(super) fn shown(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Bool(flag) => json!(flag),
        HeaderValue::I64(whole) => json!(whole),
        HeaderValue::F64(number) => json!(number),
        HeaderValue::Text(text) | HeaderValue::ShortText(text) => json!(text),
        HeaderValue::Array(values) => values.iter().map(shown).collect(),
        HeaderValue::Table(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.to_string(), shown(value))).collect())
        }
        HeaderValue::Void => Value::Null,
        other => json!(other),
    }
}

fn published(outgoing: &Outgoing) -> Value {
    let Message { exchange, routing_key, properties, body } = &outgoing.message;
    let headers: Map<String, Value> =
        properties.headers.iter().map(|(name, value)| (name.to_string(), shown(value))).collect();
    let properties = Properties { headers: Vec::new(), ..properties.clone() };
    let body = match serde_json::from_slice::<Value>(body) {
        Ok(value) => json!({ "body": value }),
        Err(_) => json!({ "bodyText": String::from_utf8_lossy(body) }),
    };
    let mut shown = json!({
        "exchange": exchange, "routingKey": routing_key, "headers": headers, "properties": properties,
    });
    if let (Value::Object(shown), Value::Object(body)) = (&mut shown, body) {
        shown.extend(body);
    }
    shown
}

/// The entry that ended a command, as the body that a repeat publishes again.
fn outcome_of(sealed: &Sealed) -> Option<(u64, Bytes)> {
    let fact = &sealed.entry.fact;
    let ends = matches!(fact.action, Action::Applied | Action::Denied | Action::Ended);
    let payload = fact.payload.as_ref().filter(|_| ends)?;
    Some((sealed.entry.seq, Bytes::copy_from_slice(payload.text().as_bytes())))
}

/// A line that is no record is refused like any message that cannot be read.
fn unreadable(line: &[u8], lack: String) -> (Arrival, Message) {
    let message = Message {
        exchange: String::new(),
        routing_key: String::new(),
        properties: Properties::default(),
        body: Bytes::copy_from_slice(line),
    };
    let arrival = Arrival {
        routing_key: String::new(),
        user_id: None,
        replay: None,
        redelivered: false,
        body: Digest::of(line),
        body_bytes: line.len(),
        expiration_ms: None,
        trace_id: None,
        was_dropped: false,
        subject: Err(Unsaid { refusal: Refusal::new(Reason::NotJson, lack), envelope: None }),
    };
    (arrival, message)
}

fn print(out: &mut impl Write, answer: &Answer, json: bool) -> io::Result<()> {
    if json {
        writeln!(out, "{}", escaped(&serde_json::to_string(answer)?))?;
    } else {
        let line = answer.line.map_or_else(|| "due".to_owned(), |line| line.to_string());
        let verdict = answer.verdict.map_or_else(|| "-".to_owned(), |verdict| verdict.to_string());
        let reason = answer.reason.map_or("", Reason::code);
        let (detail, pointer) =
            (answer.detail.as_deref().unwrap_or(""), answer.pointer.as_deref().unwrap_or(""));
        let line = format!("{line:>6}  {verdict:<8} {reason:<26} {pointer} {detail}");
        writeln!(out, "{}", one_line(&line))?;
    }
    out.flush()
}
