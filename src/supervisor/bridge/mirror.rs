//! The workers as the bus sees them: what is due to be said, ordered and settled.
//!
//! Owns: how events of workers become envelopes, and how signals of the bus become orders.
//! Never: touches the bus, a process or a clock; `now` is handed in.
//! Holds: session words leave before outcomes, outcomes before statuses; statuses are made when
//! they leave, so that however many events there were, one leaves; a worker speaks for itself
//! alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value, json};
use tracing::{debug, warn};

use super::{
    words::{Correlation, Speaker},
    worker::{Asks, Due, Held, InHand, Mirrored, Tag, Word},
};
use crate::{
    bus::Delivery,
    contract::{
        command::{Class, Commands},
        control::{ControlMessage, MessageKind},
        message::Message,
        routing::{ControlPlaneRouting, Family, Scope},
        timestamp::Timestamp,
    },
    supervisor::{
        WorkerOrder,
        event::{End, Event, Stage, WorkerEnd},
    },
};

/// How long a word waits for what must come round through the router before it.
const HELD_MS: u64 = 5_000;
/// How many envelopes wait for the broker; of more, the oldest is lost, with a warning.
const WAITING_MAX: usize = 4_096;

/// All workers.
#[derive(Debug)]
pub struct Mirror {
    workers: BTreeMap<String, Mirrored>,
    commands: Commands,
    speaker: Speaker,
    waiting: VecDeque<Message>,
    orders: VecDeque<(String, WorkerOrder)>,
    settled: Vec<(String, Tag)>,
    /// Where work begins by the router's yes only: after a no, how long until it is asked again.
    asks_again_ms: Option<u64>,
}

impl Mirror {
    /// Workers that have not started.
    pub fn new(
        workers: impl IntoIterator<Item = Scope>,
        commands: Commands,
        speaker: Speaker,
        asks_again_ms: Option<u64>,
    ) -> Self {
        let workers =
            workers.into_iter().map(|scope| (scope.instance.clone(), Mirrored::new(scope))).collect();
        let (waiting, orders) = (VecDeque::new(), VecDeque::new());
        Self { workers, commands, speaker, waiting, orders, settled: Vec::new(), asks_again_ms }
    }

    /// Takes what happened to a worker.
    pub fn happened(&mut self, worker: &Scope, event: Event, now: Timestamp) {
        let Some(mirrored) = self.workers.get_mut(&worker.instance) else { return };
        match event {
            Event::Started { at, pid, number } => {
                (mirrored.stage, mirrored.pid, mirrored.processes) = (Stage::Started, Some(pid), number);
                mirrored.started_at = at;
                mirrored.words.clear();
                (mirrored.bundle, mirrored.asks) = (None, None);
                // What this process says of its start ends the session of the one before, if it
                // ever was ready.
                mirrored.due = Due::Full;
                mirrored.held = Some((Held::Status, now.plus_ms(HELD_MS)));
            }
            Event::Bootstrapped { key_id, secret_mode, kdf, created_at_epoch } => {
                mirrored.stage = Stage::Bootstrapped;
                let created_at_epoch = created_at_epoch.max(0);
                mirrored.words.push_back(Word::Bundle(json!({
                    "keyId": key_id, "secretMode": secret_mode, "kdf": kdf, "createdAtEpoch": created_at_epoch,
                })));
            }
            Event::Ready => {
                mirrored.stage = Stage::Ready;
                mirrored.words.push_back(Word::Ready);
                mirrored.due = Due::Full;
                let urgent = |command: &&InHand| command.kind == MessageKind::Stop;
                let orders = mirrored.in_hand.iter().filter(urgent).filter_map(order);
                self.orders.extend(orders.map(|order| (worker.instance.clone(), order)));
            }
            Event::Asks { required } => {
                let asks = mirrored.asks.get_or_insert_default();
                (asks.id, asks.again) = (None, None);
                mirrored.words.push_back(Word::StartWork(required));
                mirrored.due = mirrored.due.max(Due::Delta);
            }
            Event::Working { required } => {
                mirrored.stage = Stage::Working;
                mirrored.asks = None;
                if self.asks_again_ms.is_none() {
                    mirrored.words.push_back(Word::StartWork(required));
                }
                mirrored.due = Due::Full;
                let waits = |command: &&InHand| command.kind != MessageKind::Stop;
                let orders = mirrored.in_hand.iter().filter(waits).filter_map(order);
                self.orders.extend(orders.map(|order| (worker.instance.clone(), order)));
            }
            Event::Status(said) => mirrored.take_status(said),
            Event::Said { routing_key, body } => self.said(worker, routing_key, &body),
            Event::Stopping => {
                mirrored.stage = Stage::Stopping;
                mirrored.due = mirrored.due.max(Due::Delta);
            }
            Event::Ended => {
                (mirrored.stage, mirrored.pid) = (Stage::Down, None);
                mirrored.forget_status();
                mirrored.due = mirrored.due.max(Due::Delta);
            }
            Event::Over(report) => self.over(worker, report, now),
        }
    }

    /// Passes on what a worker said, and lets go of what it answers.
    fn said(&mut self, worker: &Scope, routing_key: String, body: &Value) {
        let key = ControlPlaneRouting::parse(&routing_key);
        let own = key
            .is_ok_and(|key| key.scope == *worker && matches!(key.family, Family::Outcome | Family::Alert));
        if !own {
            warn!(worker = worker.instance, "the worker spoke for another; that goes nowhere");
            return;
        }
        if let (Some(asked), Some(mirrored)) = (Correlation::of(body), self.workers.get_mut(&worker.instance))
            && let Some(tag) = mirrored.answer(&asked)
        {
            self.settled.push((worker.instance.clone(), tag));
        }
        let message = self.speaker.passed_on(routing_key, body);
        self.wait(message);
    }

    fn over(&mut self, worker: &Scope, report: WorkerEnd, now: Timestamp) {
        let Some(mirrored) = self.workers.get_mut(&worker.instance) else { return };
        mirrored.due = Due::Delta;
        let (stops, in_hand) = (std::mem::take(&mut mirrored.stops), std::mem::take(&mut mirrored.in_hand));
        mirrored.over = Some(report.clone());
        for asked in stops {
            self.answer(worker, &asked, stopped(&report), now);
        }
        for command in in_hand {
            self.settled.push((worker.instance.clone(), command.tag));
            self.answer_ended(worker, &command.asked, now);
        }
        if matches!(report.end, End::GivenUp | End::Stuck) {
            let fall = report.last_fall.unwrap_or_default();
            let (code, text) = match report.end {
                End::GivenUp => ("supervisor.given-up", format!("the worker is not started again: {fall}")),
                _ => ("supervisor.stuck", "the system does not end the worker's process".to_owned()),
            };
            let alert = self.speaker.alert(worker, code, &text, now);
            self.wait(alert);
        }
    }

    /// Takes a delivery off a worker's queue.
    pub fn delivered(&mut self, worker: &str, opening: u64, delivery: Delivery, now: Timestamp) {
        let tag = Tag { opening, tag: delivery.tag };
        let Some(mirrored) = self.workers.get_mut(worker) else { return };
        if let Some(held) = mirrored.in_hand.iter_mut().find(|held| {
            held.message_id.is_some() && held.message_id == delivery.message.properties.message_id
        }) {
            // The same once more, by a fresh connection: the worker has it already.
            held.tag = tag;
            return;
        }
        if mirrored.has_answered(&delivery.message) {
            self.settled.push((worker.to_owned(), tag));
            return;
        }
        let body: Value = serde_json::from_slice(&delivery.message.body).unwrap_or_default();
        match Family::claimed_by(&delivery.message.routing_key) {
            Some(Family::Signal) => self.signal(worker, tag, &delivery.message, body, now),
            family => {
                self.settled.push((worker.to_owned(), tag));
                self.came_round(worker, family, &body, now);
            }
        }
    }

    /// What came round through the router may let the next word go.
    fn came_round(&mut self, worker: &str, family: Option<Family>, body: &Value, now: Timestamp) {
        let Some(mirrored) = self.workers.get_mut(worker) else { return };
        if family == Some(Family::Metric) {
            let started_at = body.pointer("/data/startedAt").and_then(Value::as_str);
            let same = started_at == Some(mirrored.started_at.to_string().as_str());
            if same && matches!(mirrored.held, Some((Held::Status, _))) {
                mirrored.held = None;
            }
            return;
        }
        let refused =
            body.pointer("/data/code").and_then(Value::as_str) == Some("session.duplicate-bootstrap");
        let id = body.get("correlationId").and_then(Value::as_str);
        let status = body.pointer("/data/status").and_then(Value::as_str).unwrap_or_default();
        if let Some(asks) = mirrored.asks.as_mut()
            && asks.id.is_some()
            && asks.id.as_deref() == id
            && let ("Refused" | "Superseded", Some(again_ms)) = (status, self.asks_again_ms)
        {
            let code = body.pointer("/data/code").and_then(Value::as_str).unwrap_or(status);
            if asks.refused.as_deref() != Some(code) {
                warn!(worker, code, "the router does not let the worker begin; it is asked again");
            }
            (asks.id, asks.refused) = (None, Some(code.to_owned()));
            asks.again = Some(now.plus_ms(again_ms));
            mirrored.due = mirrored.due.max(Due::Delta);
            return;
        }
        if let Some((own, bundle)) = &mirrored.bundle
            && refused
            && id == Some(own.as_str())
        {
            // A session that stands and never was ready: nothing but a stop ends it.
            debug!(worker, "the session before this one stands still, and is ended");
            mirrored.words.push_front(Word::Bundle(bundle.clone()));
            mirrored.words.push_front(Word::Stop);
            if mirrored.stage >= Stage::Ready && !mirrored.words.contains(&Word::Ready) {
                mirrored.words.push_back(Word::Ready);
            }
            mirrored.bundle = None;
        }
    }

    fn signal(&mut self, worker: &str, tag: Tag, message: &Message, body: Value, now: Timestamp) {
        let settle = (worker.to_owned(), tag);
        let (Some(asked), Some(mirrored)) = (Correlation::of(&body), self.workers.get_mut(worker)) else {
            // What is no command was carried by no router of ours.
            self.settled.push(settle);
            return;
        };
        let scope = mirrored.scope.clone();
        let class = self.commands.get(&asked.kind_type).map(|row| row.class);
        let own = self.speaker.is_own(&asked.correlation_id);
        match asked.kind_type.as_str() {
            "stop" if own => {
                if mirrored
                    .held
                    .as_ref()
                    .is_some_and(|(held, _)| *held == Held::Stop(asked.correlation_id.clone()))
                {
                    mirrored.held = None;
                }
                self.settled.push(settle);
                self.answer(&scope, &asked, json!({ "status": "Stopped" }), now);
            }
            "bootstrap-bundle" | "start-work" if own => {
                self.settled.push(settle);
                let allows = |asks: &Asks| asks.id.as_deref() == Some(asked.correlation_id.as_str());
                if asked.kind_type == "start-work" && mirrored.asks.as_ref().is_some_and(allows) {
                    self.orders.push_back((worker.to_owned(), WorkerOrder::Begin(mirrored.processes)));
                }
                self.answer(&scope, &asked, json!({ "status": "Ack" }), now);
            }
            "status-request" => {
                mirrored.due = Due::Full;
                self.settled.push(settle);
            }
            "stop" => {
                self.settled.push(settle);
                match &mirrored.over {
                    Some(report) => {
                        let data = stopped(report);
                        self.answer(&scope, &asked, data, now);
                    }
                    None => {
                        mirrored.stops.push(asked);
                        self.orders.push_back((worker.to_owned(), WorkerOrder::Stop));
                    }
                }
            }
            "bootstrap-bundle" | "start-work" => {
                self.settled.push(settle);
                let message = "the supervisor opens this worker's sessions and starts its work";
                self.answer(&scope, &asked, json!({ "status": "Failed", "message": message }), now);
            }
            _ if mirrored.over.is_some() => {
                self.settled.push(settle);
                self.answer_ended(&scope, &asked, now);
            }
            _ => {
                let urgent = matches!(class, Some(Class::Stop | Class::Tighten));
                let kind = if urgent { MessageKind::Stop } else { MessageKind::Signal };
                let (message_id, routing_key) =
                    (message.properties.message_id.clone(), message.routing_key.clone());
                self.hold(worker, InHand { message_id, tag, kind, asked, routing_key, body });
            }
        }
    }

    /// Takes a command in hand, and orders it where the worker has come far enough.
    fn hold(&mut self, worker: &str, command: InHand) {
        let Some(mirrored) = self.workers.get_mut(worker) else { return };
        let far_enough = match command.kind {
            MessageKind::Stop => matches!(mirrored.stage, Stage::Ready | Stage::Working),
            _ => mirrored.stage == Stage::Working,
        };
        if far_enough {
            self.orders.extend(order(&command).map(|order| (worker.to_owned(), order)));
        }
        if let Some(let_go) = mirrored.hold(command) {
            warn!(
                worker,
                command = let_go.asked.kind_type,
                "the worker answers too slowly; a command is let go"
            );
            self.settled.push((worker.to_owned(), let_go.tag));
        }
    }

    /// The answer for a worker that will not run again.
    fn answer_ended(&mut self, worker: &Scope, asked: &Correlation, now: Timestamp) {
        let row = self.commands.get(&asked.kind_type);
        let stops = row.is_some_and(|row| row.success.iter().any(|status| status == "Stopped"));
        let data = if stops {
            json!({ "status": "Stopped", "message": "the worker's process has ended" })
        } else {
            json!({ "status": "Failed", "retryable": false, "message": "the worker's process has ended" })
        };
        self.answer(worker, asked, data, now);
    }

    fn answer(&mut self, worker: &Scope, asked: &Correlation, data: Value, now: Timestamp) {
        let message = self.speaker.outcome(worker, asked, data, now);
        self.wait(message);
    }

    fn wait(&mut self, message: Message) {
        if self.waiting.len() >= WAITING_MAX {
            warn!("more than {WAITING_MAX} envelopes wait for the broker; the oldest is lost");
            self.waiting.pop_front();
        }
        self.waiting.push_back(message);
    }

    /// What is to leave next, at most so many: session words, then outcomes and alerts, then
    /// statuses.
    pub fn departures(&mut self, count_max: usize, now: Timestamp) -> Vec<Message> {
        let mut leaving = Vec::new();
        let Self { workers, speaker, waiting, orders, .. } = self;
        for mirrored in workers.values_mut() {
            let again = mirrored.asks.as_mut().and_then(|asks| asks.again.take_if(|again| *again <= now));
            if again.is_some() {
                orders.push_back((mirrored.name(), WorkerOrder::Ask(mirrored.processes)));
            }
            mirrored.held.take_if(|(_, until)| *until <= now);
            while leaving.len() < count_max
                && let Some(word) = mirrored.next_word(|word| !word.starts_work())
            {
                leaving.push(said(mirrored, speaker, word, now));
            }
        }
        // What starts work names workers whose own words must be there before it, or the gate
        // refuses it.
        let on_the_way: BTreeSet<String> =
            workers.values().filter(|mirrored| mirrored.is_on_the_way()).map(Mirrored::name).collect();
        for mirrored in workers.values_mut() {
            let ready = |word: &Word| !word.required().iter().any(|worker| on_the_way.contains(worker));
            while leaving.len() < count_max
                && let Some(word) = mirrored.next_word(ready)
            {
                leaving.push(said(mirrored, speaker, word, now));
            }
        }
        let room = count_max.saturating_sub(leaving.len()).min(waiting.len());
        leaving.extend(waiting.drain(..room));
        for mirrored in workers.values_mut().filter(|mirrored| mirrored.due != Due::Nothing) {
            if leaving.len() >= count_max {
                break;
            }
            let full = std::mem::replace(&mut mirrored.due, Due::Nothing) == Due::Full;
            leaving.push(speaker.status(full, &mirrored.scope, mirrored.status(full), now));
        }
        leaving
    }

    /// Puts back what did not leave, before everything else.
    pub fn put_back(&mut self, messages: Vec<Message>) {
        for message in messages.into_iter().rev() {
            match ControlPlaneRouting::parse(&message.routing_key) {
                // A status is made anew when it leaves.
                Ok(key) if key.family == Family::Metric => {
                    if let Some(mirrored) = self.workers.get_mut(&key.scope.instance) {
                        mirrored.due = Due::Full;
                    }
                }
                _ => self.waiting.push_front(message),
            }
        }
    }

    /// Every worker that can be heard is due to be told of.
    pub fn tick(&mut self) {
        for mirrored in self.workers.values_mut().filter(|mirrored| mirrored.over.is_none()) {
            mirrored.due = mirrored.due.max(Due::Delta);
        }
    }

    /// A fresh connection: whoever listens now may have missed how the workers are.
    pub fn connected(&mut self) {
        for mirrored in self.workers.values_mut().filter(|mirrored| mirrored.processes > 0) {
            mirrored.due = Due::Full;
            // The queue that the router's answer would have come by is gone with the connection.
            if let Some(asks) = mirrored.asks.as_mut().filter(|asks| asks.id.is_some()) {
                asks.id = None;
                self.orders
                    .push_back((mirrored.scope.instance.clone(), WorkerOrder::Ask(mirrored.processes)));
            }
        }
    }

    /// The orders for workers, in their order.
    pub fn orders(&mut self) -> VecDeque<(String, WorkerOrder)> {
        std::mem::take(&mut self.orders)
    }

    /// Puts back orders that found no room.
    pub fn order_later(&mut self, mut orders: VecDeque<(String, WorkerOrder)>) {
        orders.append(&mut self.orders);
        self.orders = orders;
    }

    /// The deliveries that are done with.
    pub fn settled(&mut self) -> Vec<(String, Tag)> {
        std::mem::take(&mut self.settled)
    }

    /// Whether nothing waits to leave.
    pub fn is_idle(&self) -> bool {
        let due = |mirrored: &Mirrored| mirrored.due != Due::Nothing;
        self.waiting.is_empty() && !self.workers.values().any(due)
    }
}

/// A session word as it leaves.
fn said(mirrored: &mut Mirrored, speaker: &mut Speaker, word: Word, now: Timestamp) -> Message {
    let (kind_type, data) = match &word {
        Word::Bundle(bundle) => ("bootstrap-bundle", bundle.clone()),
        Word::Ready => ("ready", json!({})),
        Word::StartWork(required) => ("start-work", json!({ "requiredWorkers": required })),
        Word::Stop => ("stop", json!({})),
    };
    let (id, message) = speaker.session(kind_type, &mirrored.scope, data, now);
    match word {
        Word::Bundle(bundle) => mirrored.bundle = Some((id, bundle)),
        Word::Stop => mirrored.held = Some((Held::Stop(id), now.plus_ms(HELD_MS))),
        Word::StartWork(_) => {
            if let Some(asks) = &mut mirrored.asks {
                asks.id = Some(id);
            }
        }
        Word::Ready => {}
    }
    message
}

/// The outcome of a stop.
fn stopped(report: &WorkerEnd) -> Value {
    let status = if report.end == End::Stuck { "Failed" } else { "Stopped" };
    let ended = if report.end.is_graceful() { "graceful" } else { "forced" };
    json!({ "status": status, "context": { "ended": ended, "end": report.end, "processes": report.processes } })
}

/// A command as it goes down the channel.
fn order(command: &InHand) -> Option<WorkerOrder> {
    let mut payload = Map::new();
    payload.insert("routingKey".to_owned(), command.routing_key.as_str().into());
    payload.insert("body".to_owned(), command.body.clone());
    let id = command.asked.correlation_id.clone();
    // An id that the channel cannot carry stays unanswered here and times out at the router.
    ControlMessage::new(command.kind, id, None, payload).ok().map(WorkerOrder::Hear)
}
