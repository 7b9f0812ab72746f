//! The benchmark's messages and the subscriber that counts them.
//!
//! Owns: the mixed set (signals, outcomes, alerts, both kinds of status, about 570 bytes each),
//! publishing it in bulk or at a rate, and hearing it arrive.
//! Never: sends the same command twice: repeats would be suppressed and nothing would arrive.
//! Holds: message n is the same in every run.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    bus::{Bus, Consumer, Departure, Queue, QueueKind, Settler, Topology},
    clock,
    contract::{
        message::{Message, Properties},
        routing::{ControlPlaneRouting, Family, Scope},
    },
    interface::cli::CliError,
};

/// Messages published together.
const BATCH_COUNT: u64 = 256;
/// How long a publish may take.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// Publishes the mixed set under a prefix.
pub struct Load {
    exchange: String,
}

impl Load {
    /// The load for the exchange `<prefix>.in`.
    pub fn new(prefix: &str) -> Self {
        Self { exchange: format!("{prefix}.in") }
    }

    /// Publishes `count` messages as fast as the broker confirms them.
    pub async fn publish(&self, bus: &dyn Bus, count: u64) -> Result<(), CliError> {
        let publisher = bus.publisher().await?;
        for first in (0..count).step_by(BATCH_COUNT as usize) {
            let batch: Vec<Departure> =
                (first..count.min(first + BATCH_COUNT)).map(|number| self.departure(number)).collect();
            publisher.publish(&batch.iter().collect::<Vec<_>>(), CONFIRM_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Publishes at a rate for a time; answers each message's way in microseconds.
    pub async fn paced(
        &self,
        bus: &dyn Bus,
        per_second: u64,
        seconds: u64,
        sink: &mut Sink,
    ) -> Result<Vec<f64>, CliError> {
        let (count, first) = (per_second * seconds, 1_000_000);
        let sent = Arc::new(Mutex::new(BTreeMap::new()));
        let publisher = bus.publisher().await?;
        let started = Instant::now();
        let speak = async {
            let mut next = 0;
            while next < count {
                // Whatever is due by now leaves together; at 1,000 a second that is one or two.
                let due = (started.elapsed().as_micros() as u64 * per_second / 1_000_000 + 1).min(count);
                let batch: Vec<Departure> =
                    (next..due).map(|number| self.departure(first + number)).collect();
                if !batch.is_empty() {
                    let leaving = (next..due).map(|number| (first + number, Instant::now()));
                    sent.lock().unwrap_or_else(PoisonError::into_inner).extend(leaving);
                    publisher.publish(&batch.iter().collect::<Vec<_>>(), CONFIRM_TIMEOUT).await?;
                    next = due;
                }
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
            Ok::<_, CliError>(())
        };
        let listen = async {
            let mut micros = Vec::with_capacity(count as usize);
            while (micros.len() as u64) < count {
                for number in sink.numbers().await? {
                    let arrived = Instant::now();
                    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
                    micros.extend(sent.map(|sent| arrived.duration_since(sent).as_secs_f64() * 1e6));
                }
            }
            Ok::<_, CliError>(micros)
        };
        let (spoken, heard) = tokio::join!(speak, listen);
        spoken?;
        heard
    }

    fn departure(&self, number: u64) -> Departure {
        let (family, kind_type, scope, body) = envelope(number);
        let message = Message {
            exchange: self.exchange.clone(),
            routing_key: ControlPlaneRouting::of(family, kind_type, &scope),
            properties: Properties {
                content_type: Some("application/json".to_owned()),
                delivery_mode: Some(2),
                message_id: Some(number.to_string()),
                app_id: Some(number.to_string()),
                ..Properties::default()
            },
            body: body.to_string().into(),
        };
        Departure { message, mandatory: true }
    }
}

/// Message `number`: of ten, three signals, three outcomes, an alert, a full status and two deltas.
fn envelope(number: u64) -> (Family, &'static str, Scope, Value) {
    let scope = Scope::new("kestrel", "generator", format!("w-{}", number % 97));
    let (family, kind_type) = match number % 10 {
        0..=2 => (Family::Signal, "config-update"),
        3..=5 => (Family::Outcome, "config-update"),
        6 => (Family::Alert, "alert"),
        7 => (Family::Metric, "status-full"),
        _ => (Family::Metric, "status-delta"),
    };
    let origin = if family == Family::Signal { "orchestrator-1" } else { &scope.instance };
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": family.kind(), "type": kind_type, "origin": origin,
        "scope": scope, "correlationId": format!("c-{number}"), "idempotencyKey": format!("i-{number}"),
        "data": data(family, kind_type),
    });
    (family, kind_type, scope, body)
}

fn data(family: Family, kind_type: &str) -> Value {
    let io = json!({ "input": "ok", "output": "ok" });
    let state = json!({ "work": io, "filesystem": io });
    let note = "the quick brown fox jumps over the lazy dog while the router counts every letter of it";
    match (family, kind_type) {
        (Family::Signal, _) => json!({
            "rate": 1200, "burst": 40, "note": note, "labels": ["blue", "canary", "eu-west"], "enabled": true,
            "target": { "host": "10.1.2.3", "port": 9092, "topic": "orders" },
        }),
        (Family::Outcome, _) => json!({
            "status": "Applied", "retryable": false, "message": note,
            "context": { "tookMs": 41, "revision": "r-2", "previous": "r-1", "changed": ["rate", "burst"] },
        }),
        (Family::Alert, _) => json!({
            "level": "warn", "code": "io.backpressure", "message": note,
            "context": { "queue": "orders.in", "depth": 1234, "oldestAgeSec": 12.5 },
        }),
        (Family::Metric, "status-full") => json!({
            "enabled": true, "startedAt": "2026-11-21T00:00:00Z", "tps": 1200, "ioState": state,
            "config": { "rate": 1200, "burst": 40, "note": note },
            "io": { "work": { "queues": { "in": ["orders.in"], "out": ["orders.out"], "routes": [] },
                "queueStats": { "orders.in": { "depth": 12, "consumers": 3 } } } },
        }),
        (Family::Metric, _) => json!({
            "enabled": true, "tps": 1200, "ioState": state, "context": { "note": note, "lag": 17, "errors": 0 },
        }),
    }
}

/// Hears everything on `<prefix>.out`.
pub struct Sink {
    consumer: Box<dyn Consumer>,
    settler: Box<dyn Settler>,
}

impl Sink {
    /// Binds an own queue to everything.
    pub async fn open(bus: &dyn Bus, prefix: &str) -> Result<Self, CliError> {
        let name = format!("{prefix}.sink");
        let bindings = vec![(format!("{prefix}.out"), "#".to_owned())];
        let queue = Queue { name: name.clone(), kind: QueueKind::Exclusive, bindings };
        bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await?;
        let consumer = bus.consumer(&name, 2000).await?;
        let settler = consumer.settler();
        Ok(Self { consumer, settler })
    }

    /// Waits until `count` more messages have arrived.
    pub async fn take(&mut self, count: u64) -> Result<(), CliError> {
        let mut left = count;
        while left > 0 {
            let taken = self.batch(usize::try_from(left).unwrap_or(usize::MAX).min(512)).await?;
            left = left.saturating_sub(taken.len() as u64);
        }
        Ok(())
    }

    /// The numbers of the next messages.
    async fn numbers(&mut self) -> Result<Vec<u64>, CliError> {
        let taken = self.batch(512).await?;
        Ok(taken.into_iter().filter_map(|message| message.properties.app_id?.parse().ok()).collect())
    }

    async fn batch(&mut self, count_max: usize) -> Result<Vec<Message>, CliError> {
        let deliveries = self.consumer.next(count_max).await?;
        let Some(last) = deliveries.last() else {
            return Err(CliError::Stream("the subscriber's connection is gone".to_owned()));
        };
        self.settler.ack(last.tag, true).await?;
        Ok(deliveries.into_iter().map(|delivery| delivery.message).collect())
    }
}
