//! Answers to those who look in, and the router's own status.
//!
//! Owns: the JSON of the read-only API (docs/reference/api.md) and of the router's status-full and status-delta.
//! Never: changes anything; it reads the state between two rounds.
//! Holds: an answer has at most `PAGE_MAX` rows, whatever was asked for.

mod interlock;

use serde_json::{Value, json};

use super::ask::{Asked, PAGE_MAX, Question};
use crate::{
    contract::{
        audit::{Change, Mode},
        lane::Lane,
        passage::REPLAY_KEY,
        routing::Scope,
        timestamp::Timestamp,
    },
    decision::{
        command::{
            REPORTED,
            flight::{Answer, Flight},
        },
        inventory::{Affected, Drift, Freshness, Impact, InstanceView, Place, SwarmView},
        rules::Rules,
        state::State,
    },
    ledger::chain::Sealed,
    telemetry::Telemetry,
};

/// The router, as far as it does not change while it runs.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub environment: String,
    pub started_at: Timestamp,
    pub lane_queues: Vec<String>,
}

/// What answering needs.
pub(super) struct View<'a> {
    pub state: &'a State,
    pub telemetry: &'a Telemetry,
    pub about: &'a About,
    pub now: Timestamp,
}

impl View<'_> {
    /// Answers who asked; one who no longer waits is no fault.
    pub fn tell(&self, asked: Asked) {
        let _ = asked.tell.send(self.answer(&asked.question));
    }

    /// Answers; `None` when what was asked for is not known.
    pub fn answer(&self, question: &Question) -> Option<Value> {
        match question {
            Question::Overview => Some(self.overview()),
            Question::Swarms => {
                let swarms = self.state.inventory().swarms();
                Some(json!({ "swarms": swarms.iter().map(swarm).collect::<Vec<_>>() }))
            }
            Question::Instances { swarm, after, limit } => self.instances(swarm, after.as_ref(), *limit),
            Question::Instance(scope) => {
                self.state.inventory().instance(scope).map(|view| self.instance(&view))
            }
            Question::Commands { parked, limit } => Some(self.commands(*parked, *limit)),
            Question::Command(id) => self.command(id),
            Question::ImpactOfInstance(scope) => {
                self.state.inventory().instance(scope)?;
                Some(impact(&scope.to_string(), &self.state.inventory().impact_of_instance(scope)))
            }
            Question::ImpactOfQueue(name) => {
                Some(impact(name, &self.state.inventory().impact_of_queue(name)))
            }
            Question::Safety => Some(self.safety()),
            Question::Challenges => Some(self.challenges()),
            Question::Challenge(id) => self.challenge(id),
            Question::Graph => {
                let inventory = self.state.inventory();
                let mut graph = inventory.to_json(None);
                graph["dot"] = Value::from(inventory.to_dot(None));
                Some(graph)
            }
        }
    }

    fn overview(&self) -> Value {
        let (state, health, metrics) = (self.state, &self.telemetry.health, &self.telemetry.metrics);
        let lanes = Lane::ALL.map(|lane| {
            let mut totals = serde_json::to_value(metrics.lane(lane)).unwrap_or_default();
            totals["lane"] = Value::from(lane.word());
            totals
        });
        let refusals: Vec<Value> = metrics
            .refusals()
            .map(|(reason, count)| json!({ "code": reason.code(), "count": count }))
            .collect();
        let swarms = state.inventory().swarms();
        let sum = |of: fn(&SwarmView) -> usize| swarms.iter().map(of).sum::<usize>();
        let (file_bytes, wal_bytes) = metrics.ledger_bytes();
        let uptime_ms = (self.now.micros() - self.about.started_at.micros()) / 1000;
        json!({
            "instance": state.rules().instance,
            "environment": self.about.environment,
            "mode": state.rules().mode.to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptimeMs": uptime_ms,
            "ledger": { "writable": state.ledger_writable(), "seq": state.last_seq(), "keys": state.keys(),
                "bytes": file_bytes, "walBytes": wal_bytes },
            "broker": {
                "connected": health.broker(), "blocked": health.blocked(), "address": health.broker_address(),
            },
            "lanes": lanes,
            "refusals": refusals,
            "safety": self.safety_totals(),
            "commands": { "inFlight": state.commands_in_flight(), "parked": state.commands_parked() },
            "inventory": {
                "instances": state.inventory().instances_count(),
                "fresh": sum(|swarm| swarm.totals.fresh),
                "stale": sum(|swarm| swarm.totals.stale),
                "lost": sum(|swarm| swarm.totals.lost),
                "swarms": swarms.len(),
                "overflow": state.inventory().overflow_count(),
            },
        })
    }

    /// The router's own status: whether it is full, and its data.
    pub fn own_status(&self, full: bool) -> Value {
        let health = &self.telemetry.health;
        let word = |well: bool| if well { "ok" } else { "error" };
        let overview = self.overview();
        let context = json!({
            "lifecycle": "running",
            "lanes": overview["lanes"],
            "ledger": overview["ledger"],
            "broker": overview["broker"],
            "commands": overview["commands"],
            "inventory": overview["inventory"],
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
            data["config"] = json!({
                "environment": self.about.environment,
                "mode": self.state.rules().mode.to_string(),
                "version": env!("CARGO_PKG_VERSION"),
            });
            data["io"] =
                json!({ "control": { "queues": { "in": self.about.lane_queues, "out": [], "routes": [] } } });
        }
        data
    }

    fn instances(&self, swarm_id: &str, after: Option<&Scope>, limit: usize) -> Option<Value> {
        let inventory = self.state.inventory();
        let view = inventory.swarm(swarm_id)?;
        let (mut page, more) = inventory.page(swarm_id, after, limit.clamp(1, PAGE_MAX));
        let next = page.last().filter(|_| more);
        let next = next.map(|last| format!("{}/{}", last.scope.role, last.scope.instance));
        page.sort_by(|one, other| {
            let name = |view: &InstanceView| (view.scope.role.clone(), view.scope.instance.clone());
            name(one).cmp(&name(other))
        });
        let rows: Vec<Value> = page.iter().map(|view| self.instance(view)).collect();
        Some(json!({ "swarm": swarm(&view), "instances": rows, "next": next }))
    }

    fn instance(&self, view: &InstanceView) -> Value {
        let age_ms = view.last_seen.map(|seen| (self.now.micros() - seen.micros()) / 1000);
        let commands: Vec<String> =
            self.state.flights_for(&view.scope).map(|flight| flight.seq.to_string()).collect();
        let drift = match view.drift {
            Drift::Unknown => None,
            Drift::None => Some(false),
            Drift::Drifted => Some(true),
        };
        json!({
            "scope": view.scope,
            "expected": view.expected,
            "lifecycle": self.lifecycle(view),
            "health": view.health,
            "freshness": view.freshness,
            "asOf": view.as_of,
            "firstSeen": view.first_seen,
            "lastSeen": view.last_seen,
            "ageMs": age_ms,
            "enabled": view.enabled,
            "tps": view.tps,
            "startedAt": view.started_at,
            "image": view.build.as_ref().and_then(|build| build.image.as_deref()),
            "runId": view.build.as_ref().map(|build| &*build.run_id),
            "configDigest": view.config,
            "desiredConfigDigest": view.desired_config,
            "drift": drift,
            "clockSkewMs": view.clock_skew_ms,
            "baseline": view.baseline,
            "session": self.session(&view.scope),
            "queuesIn": view.queues_in,
            "queuesOut": view.queues_out,
            "commands": commands,
        })
    }

    fn commands(&self, parked: bool, limit: usize) -> Value {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut wanted = self.state.flights().filter(|flight| !parked || flight.is_parked());
        let rows: Vec<Value> = wanted
            .by_ref()
            .take(limit)
            .map(|flight| {
                let mut row = command(self.state, flight);
                if let Some(row) = row.as_object_mut() {
                    row.remove("targets");
                }
                row
            })
            .collect();
        json!({ "commands": rows, "more": wanted.next().is_some() })
    }

    /// A command in flight, by its number or its correlationId; what was sent again, by its idempotencyKey, because it
    /// shares the correlationId of the first send.
    fn command(&self, id: &str) -> Option<Value> {
        let by_seq = id.parse().ok().and_then(|seq| self.state.flight(seq));
        let name = |flight: &&Flight| match id.starts_with(REPLAY_KEY) {
            true => flight.idempotency_key.as_deref() == Some(id),
            false => flight.correlation_id.as_deref() == Some(id),
        };
        let by_trace = || self.state.flights().find(name);
        let flight = by_seq.or_else(by_trace)?;
        let mut row = command(self.state, flight);
        // A status is volatile evidence: it is told while it is there, and never written.
        if row["evidence"].is_null()
            && let [target] = flight.targets.as_slice()
            && let Some(seen) = self.state.inventory().instance(&target.scope)
            && seen.freshness != Freshness::Unknown
        {
            row["evidence"] = json!({ "kind": "status", "at": seen.last_seen, "detail": seen.freshness });
        }
        Some(row)
    }
}

/// A command as the API tells it.
fn command(state: &State, flight: &Flight) -> Value {
    let rules = state.rules();
    let time = |micros: i64| Timestamp::from_micros(micros);
    let stage = match flight {
        flight if flight.awaits_confirmation() => "challenged",
        flight if flight.is_parked() => "parked",
        Flight { observed_at: Some(_), .. } => "observed",
        Flight { carried_at: Some(_), .. } => "carried",
        _ => "accepted",
    };
    let targets: Vec<Value> = flight
        .targets
        .iter()
        .map(|target| {
            let answer = target.answer.as_ref();
            json!({
                "scope": target.scope,
                "reached": answer.is_some() || flight.carried_at.is_some(),
                "status": answer.map(|answer| &answer.status),
                "success": answer.map(|answer| answer.success),
                "at": answer.map(|answer| time(answer.at)),
            })
        })
        .collect();
    json!({
        "id": flight.seq.to_string(),
        "type": flight.kind_type,
        "class": rules.commands.get(&flight.kind_type).map(|row| row.class),
        "scope": flight.scope,
        "sender": flight.sender.principal,
        "correlationId": flight.correlation_id,
        "idempotencyKey": flight.idempotency_key,
        "state": stage,
        "status": null,
        "success": null,
        "acceptedAt": time(flight.accepted_at),
        "carriedAt": flight.carried_at.map(time),
        "observedAt": flight.observed_at.map(time),
        "endedAt": null,
        "deadline": time(flight.deadline),
        "evidence": state.evidence(flight).map(|evidence| {
            json!({ "kind": evidence.kind.word(), "at": evidence.at, "detail": evidence.detail })
        }),
        "targets": targets,
        "missing": flight.missing(),
    })
}

/// A command that has ended, from its own entries: the one that accepted it first, and those with its correlationId.
/// `None` where they tell of no command that has ended.
pub(super) fn ended(rules: &Rules, entries: &[Sealed]) -> Option<Value> {
    let first = entries.first()?;
    let identity = match &first.entry.fact.change {
        Change::Accepted(accepted) => accepted.command?,
        Change::Challenged(challenged) => challenged.accepted.command?,
        _ => return None,
    };
    let mut state = State::new(rules.clone());
    for sealed in entries {
        let fact = &sealed.entry.fact;
        let ended = match &fact.change {
            Change::Ended(ended) => Some(ended),
            Change::Result(result) => result.ends.as_ref(),
            _ => None,
        };
        if let Some(ended) = ended.filter(|ended| ended.command == identity) {
            let mut flight = state.flight(first.entry.seq)?.clone();
            let success = rules.is_success(&flight.kind_type, &ended.status) || ended.status == REPORTED;
            // A command to one instance is ended by that instance's own answer, or by the router.
            if let ([target], Change::Result(_)) = (flight.targets.as_mut_slice(), &fact.change) {
                let (status, at) = (ended.status.clone(), fact.at.micros());
                target.answer = Some(Answer { status, success, at });
            }
            let mut row = command(&state, &flight);
            row["state"] = Value::from("ended");
            row["status"] = Value::from(ended.status.clone());
            row["success"] = Value::from(success);
            row["endedAt"] = json!(fact.at);
            row["detail"] = json!(fact.detail);
            return Some(row);
        }
        state.apply(sealed.entry.seq, fact);
    }
    None
}

fn swarm(view: &SwarmView) -> Value {
    let totals = &view.totals;
    json!({
        "swarmId": view.swarm_id,
        "desired": (totals.desired > 0).then_some(totals.desired),
        "seen": totals.seen,
        "fresh": totals.fresh,
        "stale": totals.stale,
        "lost": totals.lost,
        "running": totals.running,
        "enabled": totals.enabled,
        "unwell": totals.unwell,
        "drifted": totals.drifted,
        "watermark": view.watermark,
    })
}

fn impact(of: &str, impact: &Impact) -> Value {
    let rows = |affected: &[Affected]| -> Vec<Value> {
        affected
            .iter()
            .map(|affected| {
                let (kind, name) = match &affected.place {
                    Place::Instance(scope) => ("instance", scope.to_string()),
                    Place::Queue(queue) => ("queue", queue.clone()),
                };
                json!({ kind: name, "steps": affected.steps_count, "relieved": affected.relieved })
            })
            .collect()
    };
    json!({
        "of": of,
        "starved": rows(&impact.starved),
        "backsUp": rows(&impact.backs_up),
        "truncated": impact.truncated,
    })
}
