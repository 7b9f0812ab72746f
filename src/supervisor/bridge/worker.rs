//! One worker as the bus sees it.
//!
//! Owns: how it is, which session words wait to be said, and which commands it has in hand.
//! Never: publishes, consumes or orders; the mirror collects that.
//! Holds: a command is in hand until it is answered, at most as many as the bound; an answered one
//! is not obeyed again.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::words::Correlation;
use crate::{
    contract::{control::MessageKind, message::Message, routing::Scope, timestamp::Timestamp},
    supervisor::event::{Stage, WorkerEnd},
};

/// How many commands one worker has in hand; of more, the oldest is let go unanswered.
pub const IN_HAND_MAX: usize = 128;
/// How many answered commands are remembered by their message-id.
const ANSWERED_MAX: usize = 1_024;

/// A session word that waits.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// The keys, by name.
    Bundle(Value),
    /// The worker can work.
    Ready,
    /// The worker may begin.
    StartWork(Vec<String>),
    /// Whatever session stood before is over.
    Stop,
}

impl Word {
    /// Whether it lets a worker begin.
    pub(super) const fn starts_work(&self) -> bool {
        matches!(self, Word::StartWork(_))
    }

    /// Who must be ready for it.
    pub(super) fn required(&self) -> &[String] {
        match self {
            Word::StartWork(required) => required,
            _ => &[],
        }
    }
}

/// A command that is not answered yet.
#[derive(Clone, Debug)]
pub(super) struct InHand {
    pub message_id: Option<String>,
    pub tag: Tag,
    pub kind: MessageKind,
    pub asked: Correlation,
    pub routing_key: String,
    pub body: Value,
}

/// A delivery, by the opening of its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Which connection's consumer.
    pub opening: u64,
    /// The delivery on it.
    pub tag: u64,
}

/// Which status is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Nothing,
    Delta,
    Full,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Mirrored {
    pub scope: Scope,
    pub stage: Stage,
    pub pid: Option<u32>,
    pub processes: u64,
    pub started_at: Timestamp,
    pub over: Option<WorkerEnd>,
    pub due: Due,
    pub words: VecDeque<Word>,
    /// What must come round before the next word is said, and until when it is waited for.
    pub held: Option<(Held, Timestamp)>,
    /// The bundle that was said last, with its correlation id.
    pub bundle: Option<(String, Value)>,
    /// What was asked of the router before work begins, while that is open.
    pub asks: Option<Asks>,
    pub stops: Vec<Correlation>,
    pub in_hand: VecDeque<InHand>,
    answered: VecDeque<String>,
    status: Map<String, Value>,
}

/// A process that waits for the router's yes.
#[derive(Clone, Debug, Default)]
pub(super) struct Asks {
    /// The correlation id of what was asked last, once it has left.
    pub id: Option<String>,
    /// What the router's no said.
    pub refused: Option<String>,
    /// When it is asked again.
    pub again: Option<Timestamp>,
}

/// What a word waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The status-full of this start.
    Status,
    /// The stop of this correlation id.
    Stop(String),
}

impl Mirrored {
    pub(super) fn new(scope: Scope) -> Self {
        Self {
            scope,
            stage: Stage::Down,
            pid: None,
            processes: 0,
            started_at: Timestamp::default(),
            over: None,
            due: Due::Nothing,
            words: VecDeque::new(),
            held: None,
            bundle: None,
            asks: None,
            stops: Vec::new(),
            in_hand: VecDeque::new(),
            answered: VecDeque::new(),
            status: Map::new(),
        }
    }

    pub(super) fn name(&self) -> String {
        self.scope.instance.clone()
    }

    /// Whether words wait that must have been said before it counts as ready.
    pub(super) fn is_on_the_way(&self) -> bool {
        self.words.iter().any(|word| !word.starts_work())
    }

    /// The next word, where nothing holds it and it fits.
    pub(super) fn next_word(&mut self, fits: impl Fn(&Word) -> bool) -> Option<Word> {
        let free = self.held.is_none();
        self.words.pop_front_if(|word| free && fits(word))
    }

    /// Takes what the worker says of itself: whole, or what has changed.
    pub(super) fn take_status(&mut self, mut said: Map<String, Value>) {
        let full = said.get("type").and_then(Value::as_str) == Some("status-full");
        let Some(Value::Object(data)) = said.remove("data") else { return };
        if full {
            self.status = data;
        } else {
            // A delta has neither of these, whatever it brings.
            let told = data.into_iter().filter(|(field, _)| !matches!(field.as_str(), "config" | "io"));
            self.status.extend(told);
        }
        self.due = self.due.max(if full { Due::Full } else { Due::Delta });
    }

    /// Forgets what a process said that is gone.
    pub(super) fn forget_status(&mut self) {
        for field in ["enabled", "ioState", "tps", "context"] {
            self.status.remove(field);
        }
    }

    /// The data of a status.
    pub(super) fn status(&self, full: bool) -> Map<String, Value> {
        let works = self.stage == Stage::Working;
        let told = |field: &str| self.status.get(field).cloned();
        let enabled = works && told("enabled").is_none_or(|enabled| enabled != Value::Bool(false));
        let unknown = json!({ "work": { "input": "unknown", "output": "unknown" } });
        let mut context =
            told("context").and_then(|context| context.as_object().cloned()).unwrap_or_default();
        let mut supervisor = json!({ "stage": self.stage, "pid": self.pid, "processes": self.processes });
        if let Some(asks) = &self.asks {
            supervisor["waitsFor"] = match &asks.refused {
                Some(code) => format!("the router's yes: {code}").into(),
                None => "the router's yes".into(),
            };
        }
        context.insert("supervisor".to_owned(), supervisor);
        let mut data = Map::new();
        data.insert("enabled".to_owned(), enabled.into());
        data.insert("ioState".to_owned(), told("ioState").unwrap_or(unknown));
        data.insert("context".to_owned(), context.into());
        if let Some(tps) = told("tps") {
            data.insert("tps".to_owned(), tps);
        }
        if full {
            let empty = || Value::Object(Map::new());
            data.insert("config".to_owned(), told("config").unwrap_or_else(empty));
            data.insert("io".to_owned(), told("io").unwrap_or_else(empty));
            data.insert("startedAt".to_owned(), json!(self.started_at));
        }
        data
    }

    /// Whether a command was answered already.
    pub(super) fn has_answered(&self, message: &Message) -> bool {
        let id = message.properties.message_id.as_ref();
        id.is_some_and(|id| self.answered.contains(id))
    }

    /// Takes a command in hand. Answers the delivery of one that came before and is let go for it,
    /// where one is.
    pub(super) fn hold(&mut self, command: InHand) -> Option<InHand> {
        self.in_hand.push_back(command);
        if self.in_hand.len() > IN_HAND_MAX { self.in_hand.pop_front() } else { None }
    }

    /// Lets go of what an outcome answers.
    pub(super) fn answer(&mut self, asked: &Correlation) -> Option<Tag> {
        let answers = |command: &InHand| {
            command.asked.correlation_id == asked.correlation_id && command.asked.kind_type == asked.kind_type
        };
        let at = self.in_hand.iter().position(answers)?;
        let command = self.in_hand.remove(at)?;
        if let Some(id) = command.message_id {
            self.answered.push_back(id);
            if self.answered.len() > ANSWERED_MAX {
                self.answered.pop_front();
            }
        }
        Some(command.tag)
    }
}
