//! Answers to those who look in, and the router's own status.
//!
//! Owns: which page answers which question, what only a running router knows of itself, and its
//! status-full and status-delta.
//! Never: changes anything; it reads the state between two rounds.
//! Holds: an answer has at most `PAGE_MAX` rows, whatever was asked for.

mod ended;
mod may;

use std::sync::Arc;

pub(super) use ended::ended;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::{
    ask::{PendingQuestion, Question},
    depths::KnownDepths,
    survey::Survey,
};
use crate::{
    contract::{audit::Mode, lane::Lane, timestamp::Timestamp},
    decision::state::State,
    telemetry::Telemetry,
    view::{
        Page,
        challenges::{Challenge, Challenges},
        commands::{Command, Commands},
        graph::{self, Graph, Impact},
        inventory::{Instance, Instances, Swarms},
        overview::{
            BrokerState, CommandTotals, InventoryTotals, LedgerTotals, Overview, Refusals, SafetyTotals,
        },
        safety::Safety,
    },
};

/// The router, as far as it does not change while it runs.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub environment: String,
    pub started_at: Timestamp,
    /// The effective config, its secrets masked.
    pub config: Value,
    /// Where messages reach the router and where it puts them, as a status has it.
    pub queues: Value,
    /// What is known of its queues.
    pub depths: watch::Receiver<KnownDepths>,
    /// How often the status is said in full.
    pub full_every_ms: u64,
    /// What an observer learns.
    pub survey: Option<Arc<Survey>>,
}

impl About {
    /// Topology and queue snapshot. What nobody knows now is left out.
    fn io(&self) -> Value {
        let known = self.depths.borrow();
        let stats = known.iter().map(|(queue, counts)| {
            (queue.clone(), json!({ "depth": counts.ready, "consumers": counts.consumers }))
        });
        let stats: Map<String, Value> = stats.collect();
        json!({ "control": { "queues": self.queues, "queueStats": stats } })
    }
}

/// What answering needs.
pub(super) struct AnswerView<'a> {
    pub state: &'a State,
    pub telemetry: &'a Telemetry,
    pub about: &'a About,
    pub now: Timestamp,
}

impl AnswerView<'_> {
    /// Sends the answer to who asked; one who no longer waits is no fault.
    pub fn send(&self, asked: PendingQuestion) {
        let _ = asked.tell.send(self.answer(&asked.question));
    }

    /// Answers; `None` when what was asked for is not known.
    pub fn answer(&self, question: &Question) -> Option<Page> {
        let (state, inventory, now) = (self.state, self.state.inventory(), self.now);
        Some(match question {
            Question::Observed => Page::Observed(Box::new(self.about.survey.as_ref()?.report())),
            Question::Overview => Page::Overview(Box::new(self.overview())),
            Question::Swarms => Page::Swarms(Swarms::new(state)),
            Question::Instances { swarm, after, limit } => {
                Page::Instances(Instances::new(state, swarm, after.as_ref(), *limit, now)?)
            }
            Question::Instance(scope) => Page::Instance(Box::new(Instance::find(state, scope, now)?)),
            Question::Commands { parked, limit } => Page::Commands(Commands::new(state, *parked, *limit)),
            Question::Command(id) => Page::Command(Box::new(Command::find(state, id)?)),
            Question::ImpactOfInstance(scope) => {
                inventory.instance(scope)?;
                Page::Impact(Impact::new(scope.to_string(), inventory.impact_of_instance(scope)))
            }
            Question::ImpactOfQueue(name) => {
                Page::Impact(Impact::new(name.clone(), inventory.impact_of_queue(name)))
            }
            Question::Safety => Page::Safety(Safety::new(state, now)),
            Question::Challenges => Page::Challenges(Challenges::new(state)),
            Question::Challenge(id) => Page::Challenge(Box::new(Challenge::find(state, id)?)),
            Question::May(intent) => Page::May(Box::new(self.may(intent)?)),
            Question::Graph => Page::Graph(Graph::new(inventory, None)),
            Question::Dot => Page::Dot(graph::dot(inventory, None)),
        })
    }

    fn overview(&self) -> Overview {
        let (state, health, metrics) = (self.state, &self.telemetry.health, &self.telemetry.metrics);
        let (bytes, wal_bytes) = metrics.ledger_bytes();
        let refusals = metrics.refusals();
        Overview {
            broker: BrokerState {
                address: health.broker_address(),
                blocked: health.blocked(),
                connected: health.broker(),
            },
            commands: CommandTotals::new(state),
            environment: self.about.environment.clone(),
            instance: state.rules().instance.clone(),
            inventory: InventoryTotals::new(state),
            lanes: Lane::ALL.map(|lane| metrics.lane(lane)).into(),
            ledger: LedgerTotals {
                bytes,
                keys: state.keys(),
                seq: state.last_seq(),
                wal_bytes,
                writable: state.ledger_writable(),
            },
            mode: state.rules().mode.to_string(),
            refusals: refusals
                .map(|(reason, count)| Refusals { code: reason.code().to_owned(), count })
                .collect(),
            safety: SafetyTotals::new(state, self.now),
            uptime_ms: (self.now.micros() - self.about.started_at.micros()) / 1000,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The router's own status: whether it is full, and its data.
    pub fn own_status(&self, full: bool) -> Value {
        let health = &self.telemetry.health;
        let word = |well: bool| if well { "ok" } else { "error" };
        let overview = self.overview();
        let context = json!({
            "lifecycle": "running",
            "version": overview.version,
            "lanes": overview.lanes,
            "ledger": overview.ledger,
            "broker": overview.broker,
            "commands": overview.commands,
            "inventory": overview.inventory,
        });
        let mut data = json!({
            "enabled": self.state.rules().mode == Mode::Enforce,
            "ioState": {
                "work": { "input": word(health.broker()), "output": word(health.broker() && !health.blocked()) },
                "filesystem": { "input": word(health.ledger()), "output": word(health.ledger()) },
            },
            "context": context,
        });
        if full {
            data["startedAt"] = json!(self.about.started_at);
            data["config"] = self.about.config.clone();
            self.telemetry.reload_into(&mut data["config"]);
            data["io"] = self.about.io();
        }
        data
    }
}
