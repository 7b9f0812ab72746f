//! The storm: what a fleet's statuses do to a command's way through the router.
//!
//! Owns: a simulated fleet that reports, commands that its instances answer, and each command's way
//! in time.
//! Never: asserts a time; it prints the quantiles at rest and in the storm, and their ratio.
//! Holds: the same commands at the same rate in every phase; every one of them arrives, or the run
//! fails.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::quantile;
use crate::{
    bus::{Bus, Consumer, Departure, Publisher, Queue, QueueKind, Settler, Topology},
    clock,
    contract::{
        message::{Message, Properties},
        routing::{ControlPlaneRouting, Family, Scope},
    },
    interface::cli::{CliError, output::aside},
};

/// Commands a second in every phase.
const COMMANDS_PER_SECOND: u64 = 50;
/// How often an instance reports at rest.
const PERIOD_S: u64 = 5;
/// How much more often in the storm.
const STORM_FACTOR: u64 = 10;
/// How long a publish may take.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// Publishes leave together this often.
const PACE: Duration = Duration::from_millis(5);
/// How long the last commands of a phase may take to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A phase's name and the factor of the fleet's resting rate.
const PHASES: [(&str, u64); 3] = [("quiet", 0), ("rest", 1), ("storm", STORM_FACTOR)];

/// A fleet and its commander on one broker.
pub struct Storm<'a> {
    pub bus: &'a dyn Bus,
    pub prefix: &'a str,
    pub instances: u64,
    pub seconds: u64,
}

impl Storm<'_> {
    /// Runs every phase; answers each one's quantiles in microseconds, and the storm's ratio to
    /// rest.
    pub async fn run(&self) -> Result<Value, CliError> {
        let mut inbox = self.inbox().await?;
        self.report_once().await?;
        let (mut phases, mut next) = (serde_json::Map::new(), 0);
        for (name, factor) in PHASES {
            let per_second = self.instances * factor / PERIOD_S;
            let micros = self.phase(per_second, &mut next, &mut inbox).await?;
            let (p50, p99) = (quantile(&micros, 0.5), quantile(&micros, 0.99));
            aside(&format!("{name:<6} {per_second:>6} statuses/s  p50 {p50:>8.0} µs  p99 {p99:>8.0} µs"));
            phases.insert(
                name.to_owned(),
                json!({ "statusesPerSecond": per_second, "p50Micros": p50, "p99Micros": p99, "commands": micros.len() }),
            );
        }
        let p99 =
            |name: &str| phases.get(name).and_then(|phase| phase["p99Micros"].as_f64()).unwrap_or(f64::NAN);
        let ratio = p99("storm") / p99("rest");
        phases.insert("p99StormToRest".to_owned(), json!(ratio));
        Ok(Value::Object(phases))
    }

    /// The instances' queue: every command of theirs, and nothing else.
    async fn inbox(&self) -> Result<Inbox, CliError> {
        let name = format!("{}.fleet", self.prefix);
        let commands = ControlPlaneRouting::type_binding(Family::Signal, "config-update");
        let bindings = vec![(format!("{}.out", self.prefix), commands)];
        let queue = Queue { name: name.clone(), kind: QueueKind::Exclusive, bindings };
        self.bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await?;
        let consumer = self.bus.consumer(&name, 500).await?;
        let settler = consumer.settler();
        Ok(Inbox { consumer, settler, publisher: self.bus.publisher().await? })
    }

    /// Every instance reports in full, so that none is asked to.
    async fn report_once(&self) -> Result<(), CliError> {
        let publisher = self.bus.publisher().await?;
        let fulls: Vec<Departure> =
            (0..self.instances).map(|number| self.status(number, "status-full")).collect();
        for batch in fulls.chunks(256) {
            publisher.publish(&batch.iter().collect::<Vec<_>>(), CONFIRM_TIMEOUT).await?;
        }
        Ok(())
    }

    /// One phase: statuses at a rate, and commands with their answers.
    async fn phase(&self, per_second: u64, next: &mut u64, inbox: &mut Inbox) -> Result<Vec<f64>, CliError> {
        let over = AtomicBool::new(false);
        let sent = Arc::new(Mutex::new(BTreeMap::new()));
        let count = COMMANDS_PER_SECOND * self.seconds;
        let first = *next;
        *next += count;
        let command = async {
            let publisher = self.bus.publisher().await?;
            let started = Instant::now();
            for number in first..first + count {
                let due = Duration::from_micros((number - first) * 1_000_000 / COMMANDS_PER_SECOND);
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
                let departure = self.command(number);
                sent.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Instant::now());
                publisher.publish(&[&departure], CONFIRM_TIMEOUT).await?;
            }
            Ok::<_, CliError>(())
        };
        let hear = async {
            let mut micros = Vec::with_capacity(count as usize);
            while (micros.len() as u64) < count {
                for number in inbox.take_and_answer(self).await? {
                    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
                    micros.extend(sent.map(|sent| sent.elapsed().as_secs_f64() * 1e6));
                }
            }
            over.store(true, Relaxed);
            Ok::<_, CliError>(micros)
        };
        let limit = Duration::from_secs(self.seconds) + ARRIVAL_TIMEOUT;
        let heard = tokio::time::timeout(limit, async {
            let (commanded, heard, reported) = tokio::join!(command, hear, self.report(per_second, &over));
            commanded?;
            reported?;
            heard
        });
        let mut micros = heard.await.map_err(|_| CliError::Usage {
            message: format!("not every command of a phase arrived within {} s", limit.as_secs()),
            help: "try fewer --instances; see whether the broker raised an alarm".to_owned(),
        })??;
        micros.sort_by(f64::total_cmp);
        Ok(micros)
    }

    /// The fleet reports at a rate until the phase is over.
    async fn report(&self, per_second: u64, over: &AtomicBool) -> Result<(), CliError> {
        let publisher = self.bus.publisher().await?;
        let (started, mut told) = (Instant::now(), 0);
        while per_second > 0 && !over.load(Relaxed) {
            let due = started.elapsed().as_micros() as u64 * per_second / 1_000_000;
            let batch: Vec<Departure> = (told..due.min(told + 512))
                .map(|number| self.status(number % self.instances, "status-delta"))
                .collect();
            if !batch.is_empty() {
                told += batch.len() as u64;
                publisher.publish(&batch.iter().collect::<Vec<_>>(), CONFIRM_TIMEOUT).await?;
            }
            tokio::time::sleep(PACE).await;
        }
        Ok(())
    }

    fn scope(&self, number: u64) -> Scope {
        Scope::new("kestrel", "generator", format!("w-{}", number % self.instances))
    }

    fn status(&self, number: u64, kind_type: &str) -> Departure {
        let mut data = json!({
            "enabled": true, "tps": 1200, "ioState": { "work": { "input": "ok", "output": "ok" } },
            "context": { "lag": 17, "errors": 0 },
        });
        if kind_type == "status-full" {
            data["startedAt"] = json!("2026-11-21T00:00:00Z");
            data["config"] = json!({ "rate": 1200 });
            data["io"] =
                json!({ "work": { "queues": { "in": ["orders.in"], "out": ["orders.out"], "routes": [] } } });
        }
        self.departure(Family::Metric, kind_type, &self.scope(number), None, data)
    }

    fn command(&self, number: u64) -> Departure {
        let data = json!({ "rate": 1200 + number });
        self.departure(Family::Signal, "config-update", &self.scope(number), Some(number), data)
    }

    fn outcome(&self, number: u64) -> Departure {
        let data = json!({ "status": "Applied", "retryable": false });
        self.departure(Family::Outcome, "config-update", &self.scope(number), Some(number), data)
    }

    fn departure(
        &self,
        family: Family,
        kind_type: &str,
        scope: &Scope,
        number: Option<u64>,
        data: Value,
    ) -> Departure {
        let origin = if family == Family::Signal { "orchestrator-1" } else { &scope.instance };
        let body = json!({
            "timestamp": clock::wall(), "version": "1", "kind": family.kind(), "type": kind_type,
            "origin": origin, "scope": scope,
            "correlationId": number.map(|number| format!("c-{number}")),
            "idempotencyKey": number.map(|number| format!("i-{number}")),
            "data": data,
        });
        let id = format!(
            "{}-{}",
            family.kind(),
            number.map_or_else(|| clock::wall().to_string(), |n| n.to_string())
        );
        Departure {
            message: Message {
                exchange: format!("{}.in", self.prefix),
                routing_key: ControlPlaneRouting::of(family, kind_type, scope),
                properties: Properties { message_id: Some(id), ..Properties::default() },
                body: body.to_string().into(),
            },
            mandatory: family != Family::Metric,
        }
    }
}

/// The instances' end: what arrives is answered.
struct Inbox {
    consumer: Box<dyn Consumer>,
    settler: Box<dyn Settler>,
    publisher: Box<dyn Publisher>,
}

impl Inbox {
    /// The numbers of the commands that have arrived, each answered by its target.
    async fn take_and_answer(&mut self, storm: &Storm<'_>) -> Result<Vec<u64>, CliError> {
        let deliveries = self.consumer.next(256).await?;
        let Some(last) = deliveries.last() else {
            return Err(CliError::Stream("the fleet's connection is gone".to_owned()));
        };
        self.settler.ack(last.tag, true).await?;
        let numbers: Vec<u64> = deliveries
            .iter()
            .filter_map(|delivery| {
                let body: Value = serde_json::from_slice(&delivery.message.body).ok()?;
                body["correlationId"].as_str()?.strip_prefix("c-")?.parse().ok()
            })
            .collect();
        let answers: Vec<Departure> = numbers.iter().map(|number| storm.outcome(*number)).collect();
        self.publisher.publish(&answers.iter().collect::<Vec<_>>(), CONFIRM_TIMEOUT).await?;
        Ok(numbers)
    }
}
