//! The latch: how long after it is thrown every instance of a fleet has its stop.
//!
//! Owns: a fleet of instances with a queue each, which start, run and stop as they are told, and
//! the time from the latch to each one's `bot-stop`.
//! Never: asserts a time; it prints the quantiles over all instances and rounds.
//! Holds: in every round every instance runs before the latch is thrown, and is told to stop; else
//! the run fails.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::quantile;
use crate::{
    bus::{Bus, Consumer, Departure, Publisher, Queue, QueueKind, Topology},
    clock,
    contract::{
        interlock::KillSwitch,
        message::{Message, Properties},
        routing::{ALL, ControlPlaneRouting, Family, Scope},
    },
    interface::cli::{CliError, output::aside},
    runtime::latch,
};

/// How long one step of a round may take for the whole fleet.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the fleet rests before the latch, so that what was said is judged.
const REST: Duration = Duration::from_secs(2);
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
const SWARM: &str = "kestrel";
const ROLE: &str = "generator";
const OPERATOR: &str = "operator-1";

/// A fleet on one broker.
pub struct Fleet<'a> {
    pub bus: &'a dyn Bus,
    pub prefix: &'a str,
    pub instances: u64,
    pub rounds: usize,
    /// Where the router's ledger is, and so its latch.
    pub ledger: &'a Path,
}

/// What reached somebody of the fleet: the instance, or the operator.
struct Heard {
    at: Instant,
    message: Message,
}

impl Fleet<'_> {
    /// Runs every round; answers the quantiles in milliseconds.
    pub async fn run(&self) -> Result<Value, CliError> {
        let (hear, mut heard) = mpsc::channel(16_384);
        let mut ears = Vec::new();
        for number in 0..self.instances {
            let scope = self.scope(number);
            let keys = ["bot-init", "bot-start", "bot-stop"].map(|kind| {
                [scope.clone(), Scope::new(ALL, ALL, ALL)]
                    .map(|scope| ControlPlaneRouting::of(Family::Signal, kind, &scope))
            });
            ears.push(self.listen(&scope.instance, keys.into_iter().flatten().collect(), &hear).await?);
        }
        let own = ["kill-switch-set", "challenge-confirm"];
        let own = own.map(|kind| ControlPlaneRouting::type_binding(Family::Outcome, kind));
        ears.push(self.listen(OPERATOR, own.into(), &hear).await?);
        let publisher = self.bus.publisher().await?;
        self.tell_all(publisher.as_ref(), &mut heard, "bot-init", 0, "CREATED->IDLE").await?;
        let mut millis = Vec::new();
        for round in 1..=self.rounds {
            self.tell_all(publisher.as_ref(), &mut heard, "bot-start", round, "IDLE->RUNNING_PAPER").await?;
            tokio::time::sleep(REST).await;
            let reached = self.throw(publisher.as_ref(), &mut heard).await?;
            let sorted = sorted(reached.clone());
            aside(&format!(
                "round {round}  p50 {:>6.1} ms  p99 {:>6.1} ms",
                quantile(&sorted, 0.5),
                quantile(&sorted, 0.99)
            ));
            millis.extend(reached);
            tokio::time::sleep(REST).await;
            self.lift(publisher.as_ref(), &mut heard, round).await?;
        }
        ears.iter().for_each(tokio::task::JoinHandle::abort);
        let millis = sorted(millis);
        Ok(json!({
            "instances": self.instances,
            "rounds": self.rounds,
            "p50Millis": quantile(&millis, 0.5),
            "p99Millis": quantile(&millis, 0.99),
            "maxMillis": millis.last(),
        }))
    }

    /// One queue, and a task that tells what comes.
    async fn listen(
        &self,
        name: &str,
        keys: Vec<String>,
        hear: &mpsc::Sender<Heard>,
    ) -> Result<tokio::task::JoinHandle<()>, CliError> {
        let name = format!("{}.{name}", self.prefix);
        let bindings = keys.into_iter().map(|key| (format!("{}.out", self.prefix), key)).collect();
        let queue = Queue { name: name.clone(), kind: QueueKind::Exclusive, bindings };
        self.bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await?;
        let mut consumer: Box<dyn Consumer> = self.bus.consumer(&name, 16).await?;
        let hear = hear.clone();
        Ok(tokio::spawn(async move {
            let settler = consumer.settler();
            while let Ok(deliveries) = consumer.next(16).await {
                let at = Instant::now();
                let Some(last) = deliveries.last().map(|last| last.tag) else { return };
                for delivery in deliveries {
                    // The bench is over when nobody hears.
                    let _ = hear.send(Heard { at, message: delivery.message }).await;
                }
                let _ = settler.ack(last, true).await;
            }
        }))
    }

    /// Tells every instance to do something, and has each answer that it has.
    async fn tell_all(
        &self,
        publisher: &dyn Publisher,
        heard: &mut mpsc::Receiver<Heard>,
        kind: &str,
        round: usize,
        transition: &str,
    ) -> Result<(), CliError> {
        let data = json!({ "requestedTransition": transition, "mode": "paper" });
        for from in (0..self.instances).step_by(100) {
            let to = (from + 100).min(self.instances);
            let told: Vec<Departure> = (from..to)
                .map(|number| {
                    let id = format!("{kind}-{round}-{number}");
                    self.departure(Family::Signal, kind, &self.scope(number), &id, data.clone())
                })
                .collect();
            publisher.publish(&told.iter().collect::<Vec<_>>(), CONFIRM_TIMEOUT).await?;
            let wanted = usize::try_from(to - from).unwrap_or(usize::MAX);
            self.answered(publisher, heard, kind, wanted).await?;
        }
        Ok(())
    }

    /// Waits until so many instances have heard a command, and has each answer it; answers when
    /// each heard it.
    async fn answered(
        &self,
        publisher: &dyn Publisher,
        heard: &mut mpsc::Receiver<Heard>,
        kind: &str,
        wanted: usize,
    ) -> Result<Vec<Instant>, CliError> {
        let status = match kind {
            "bot-init" => "Created",
            "bot-start" => "Running",
            _ => "Stopped",
        };
        let (mut times, mut answers) = (Vec::new(), Vec::new());
        while times.len() < wanted {
            let next = self.next(heard, kind).await?;
            if !is_of(&next.message, Family::Signal, kind) {
                continue;
            }
            let body: Value = serde_json::from_slice(&next.message.body).unwrap_or_default();
            let number = times.len() as u64;
            times.push(next.at);
            // A stop of all reaches each on its own queue; which is which does not matter for the
            // answer.
            let scope = match body["scope"]["instance"].as_str().filter(|name| *name != ALL) {
                Some(name) => Scope::new(SWARM, ROLE, name),
                None => self.scope(number),
            };
            let id = body["correlationId"].as_str().unwrap_or_default();
            answers.push(self.departure(Family::Outcome, kind, &scope, id, json!({ "status": status })));
        }
        for batch in answers.chunks(256) {
            publisher.publish(&batch.iter().collect::<Vec<_>>(), CONFIRM_TIMEOUT).await?;
        }
        Ok(times)
    }

    /// Throws the latch; answers how long each instance's stop took, in milliseconds.
    async fn throw(
        &self,
        publisher: &dyn Publisher,
        heard: &mut mpsc::Receiver<Heard>,
    ) -> Result<Vec<f64>, CliError> {
        let wanted = latch::Latch {
            level: KillSwitch::Flatten.word().to_owned(),
            scope: ALL.to_owned(),
            reason: "bench".to_owned(),
            by: OPERATOR.to_owned(),
            since: clock::wall(),
        };
        let thrown = Instant::now();
        latch::throw(self.ledger, wanted)?;
        let all = usize::try_from(self.instances).unwrap_or(usize::MAX);
        let times = self.answered(publisher, heard, "bot-stop", all).await?;
        Ok(times.into_iter().map(|at| at.duration_since(thrown).as_secs_f64() * 1e3).collect())
    }

    /// Opens the kill switch again, as an operator does: asked for, and confirmed.
    async fn lift(
        &self,
        publisher: &dyn Publisher,
        heard: &mut mpsc::Receiver<Heard>,
        round: usize,
    ) -> Result<(), CliError> {
        let everything = Scope::new(ALL, ALL, ALL);
        let data = json!({ "level": "ALLOW", "reason": "the next round" });
        let id = format!("lift-{round}");
        let asked = self.departure(Family::Signal, "kill-switch-set", &everything, &id, data);
        publisher.publish(&[&asked], CONFIRM_TIMEOUT).await?;
        let challenge = self.status(heard, "kill-switch-set", "ChallengeRequired").await?;
        let data = json!({ "challengeId": challenge["context"]["challengeId"], "reason": "bench" });
        let scope = Scope::router("gate-1");
        let id = format!("confirm-{round}");
        let confirm = self.departure(Family::Signal, "challenge-confirm", &scope, &id, data);
        publisher.publish(&[&confirm], CONFIRM_TIMEOUT).await?;
        self.status(heard, "kill-switch-set", "Applied").await.map(drop)
    }

    /// The data of the router's next outcome of that type and status.
    async fn status(
        &self,
        heard: &mut mpsc::Receiver<Heard>,
        kind: &str,
        status: &str,
    ) -> Result<Value, CliError> {
        loop {
            let next = self.next(heard, kind).await?;
            let body: Value = serde_json::from_slice(&next.message.body).unwrap_or_default();
            if is_of(&next.message, Family::Outcome, kind) && body["data"]["status"] == status {
                return Ok(body["data"].clone());
            }
        }
    }

    async fn next(&self, heard: &mut mpsc::Receiver<Heard>, what: &str) -> Result<Heard, CliError> {
        match tokio::time::timeout(STEP_TIMEOUT, heard.recv()).await {
            Ok(Some(next)) => Ok(next),
            _ => Err(CliError::Usage {
                message: format!("not everybody heard of `{what}` within {} s", STEP_TIMEOUT.as_secs()),
                help: "try fewer --instances; see whether the broker raised an alarm".to_owned(),
            }),
        }
    }

    fn scope(&self, number: u64) -> Scope {
        Scope::new(SWARM, ROLE, format!("w-{number}"))
    }

    fn departure(&self, family: Family, kind: &str, scope: &Scope, id: &str, data: Value) -> Departure {
        let origin = if family == Family::Signal { OPERATOR } else { &scope.instance };
        let body = json!({
            "timestamp": clock::wall(), "version": "1", "kind": family.kind(), "type": kind,
            "origin": origin, "scope": scope, "correlationId": id, "idempotencyKey": id, "data": data,
        });
        Departure {
            message: Message {
                exchange: format!("{}.in", self.prefix),
                routing_key: ControlPlaneRouting::of(family, kind, scope),
                properties: Properties {
                    message_id: Some(format!("{}-{}-{id}", family.kind(), scope.instance)),
                    ..Properties::default()
                },
                body: body.to_string().into(),
            },
            mandatory: true,
        }
    }
}

fn sorted(mut millis: Vec<f64>) -> Vec<f64> {
    millis.sort_by(f64::total_cmp);
    millis
}

fn is_of(message: &Message, family: Family, kind: &str) -> bool {
    ControlPlaneRouting::parse(&message.routing_key)
        .is_ok_and(|key| key.family == family && key.kind_type == kind)
}
