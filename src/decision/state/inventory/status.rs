//! What one status says, taken out of its envelope.
//!
//! Owns: reading a status-full or status-delta into values of bounded size, and the words for
//! health and lifecycle.
//! Never: keeps the body; what a status does to the inventory is the merge's.
//! Holds: the same envelope and arrival give the same status; no text of it is longer than
//! `TEXT_BYTES_MAX`.

use std::sync::Arc;

use serde::Serialize;

use crate::contract::{
    Said, canonical,
    digest::Digest,
    envelope::Runtime,
    routing::{Family, Scope},
    secrets,
    timestamp::Timestamp,
    tree::View,
};

/// The longest text that is kept of a build, in bytes; what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 128;
/// The longest queue name, in bytes: an AMQP short string.
pub const QUEUE_BYTES_MAX: usize = 255;
/// How many queues of one instance are kept.
pub const QUEUES_PER_INSTANCE_MAX: usize = 64;

/// One status, ready to be merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub(super) scope: Scope,
    pub(super) said: Timestamp,
    pub(super) arrived: Timestamp,
    /// Orders statuses of one moment, so that any order of merging gives one state.
    pub(super) tie: Tie,
    pub(super) enabled: bool,
    pub(super) tps: Option<u64>,
    pub(super) work: Option<Plane>,
    pub(super) filesystem: Option<Plane>,
    pub(super) lifecycle: Option<Lifecycle>,
    pub(super) build: Option<Build>,
    pub(super) full: Option<Full>,
}

impl Status {
    /// Whose it is, and when it came.
    pub fn heard(&self) -> (&Scope, Timestamp) {
        (&self.scope, self.arrived)
    }
}

/// The first 64 bits of a body's digest.
pub(super) type Tie = u64;

/// The beginning of a digest as a number.
pub(super) fn tie(digest: Digest) -> Tie {
    digest.0.iter().take(8).fold(0, |value, byte| value << 8 | Tie::from(*byte))
}

/// What only a status-full says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Full {
    pub started_at: Timestamp,
    pub config: Digest,
    /// Whether `io` says anything of queues; where it does not, they are unknown, and not none.
    pub names_queues: bool,
    pub queues: Vec<(QueueUse, String)>,
}

/// How an instance hangs on a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueUse {
    /// It takes work from it.
    WorkIn,
    /// It puts work into it.
    WorkOut,
    /// A name by which work reaches it.
    WorkRoute,
    /// It takes control messages from it.
    ControlIn,
    /// It puts control messages into it.
    ControlOut,
    /// A name by which control messages reach it.
    ControlRoute,
}

impl QueueUse {
    /// Whether messages flow from the instance into the queue.
    pub const fn is_out(self) -> bool {
        matches!(self, QueueUse::WorkOut | QueueUse::ControlOut)
    }

    /// The word in exports.
    pub const fn word(self) -> &'static str {
        match self {
            QueueUse::WorkIn => "work-in",
            QueueUse::WorkOut => "work-out",
            QueueUse::WorkRoute => "work-route",
            QueueUse::ControlIn => "control-in",
            QueueUse::ControlOut => "control-out",
            QueueUse::ControlRoute => "control-route",
        }
    }
}

/// The run and image an instance says it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Build {
    /// The container, where there is one.
    pub container_id: Option<Arc<str>>,
    /// The image, where there is one.
    pub image: Option<Arc<str>>,
    /// The run.
    pub run_id: Arc<str>,
    /// The stack, where there is one.
    pub stack_name: Option<Arc<str>>,
    /// The template the swarm was made from.
    pub template_id: Arc<str>,
}

/// How well something works. Later is worse: what nobody knows is worse than what is known to be
/// well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Ok,
    /// Nobody knows.
    #[default]
    Unknown,
    /// It works, not as it should.
    Degraded,
    /// It does not work.
    Error,
}

impl Health {
    /// All four, the best first.
    pub const ALL: [Health; 4] = [Health::Ok, Health::Unknown, Health::Degraded, Health::Error];

    /// Its word in views and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Unknown => "unknown",
            Health::Degraded => "degraded",
            Health::Error => "error",
        }
    }
}

/// One plane of `ioState`, both directions summarised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// What comes in.
    pub input: Health,
    /// What goes out.
    pub output: Health,
}

impl Plane {
    /// The worse of both.
    pub fn worst(self) -> Health {
        self.input.max(self.output)
    }
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Nobody said.
    #[default]
    Unknown,
    /// Known, not initialised.
    Created,
    /// Ready, not working.
    Idle,
    /// Working.
    Running,
    /// Held, to be resumed.
    Paused,
    /// A stop was accepted and has not been answered.
    Stopping,
    /// It ended.
    Stopped,
    /// It failed.
    Error,
    /// Taken out until somebody releases it.
    Quarantined,
}

impl Lifecycle {
    /// The state that a word of a status or an outcome names, in any case; a mode behind `RUNNING`
    /// is left out.
    pub fn read(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Some(match word.as_str() {
            "unknown" => Lifecycle::Unknown,
            "created" => Lifecycle::Created,
            "idle" | "ready" => Lifecycle::Idle,
            "running" | "running_paper" | "running_shadow" | "running_live" => Lifecycle::Running,
            "paused" => Lifecycle::Paused,
            "stopping" => Lifecycle::Stopping,
            "stopped" => Lifecycle::Stopped,
            "error" | "failed" => Lifecycle::Error,
            "quarantined" => Lifecycle::Quarantined,
            _ => return None,
        })
    }
}

impl Status {
    /// What an accepted envelope says as a status; `None` for one that is none. `body` is its
    /// SHA-256.
    pub fn read(said: &Said, body: Digest, arrived: Timestamp) -> Option<Self> {
        let envelope = &said.envelope;
        let is_full = match (said.key.family, said.key.kind_type.as_str()) {
            (Family::Metric, "status-full") => true,
            (Family::Metric, "status-delta") => false,
            _ => return None,
        };
        let data = envelope.data.root();
        let state = data.get("ioState");
        let enabled = data.get("enabled")?.as_bool()?;
        let lifecycle = data.pointer("/context/lifecycle").and_then(View::as_str).and_then(Lifecycle::read);
        Some(Self {
            scope: said.key.scope.clone(),
            said: envelope.timestamp,
            arrived,
            // Which of two wins within a microsecond does not matter, only that it is always the
            // same one.
            tie: tie(body),
            enabled,
            tps: data.get("tps").and_then(count),
            work: state.and_then(|state| plane(state.get("work")?)),
            filesystem: state.and_then(|state| plane(state.get("filesystem")?)),
            lifecycle,
            build: envelope.runtime.as_ref().map(build),
            full: if is_full { Some(full(data)?) } else { None },
        })
    }

    /// Who says it.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// When it arrived.
    pub fn arrived(&self) -> Timestamp {
        self.arrived
    }

    /// The same status, said and arrived at another moment.
    #[must_use]
    pub fn moved(self, at: Timestamp) -> Self {
        Self { said: at, arrived: at, ..self }
    }

    /// Whether it is a whole snapshot.
    pub fn is_full(&self) -> bool {
        self.full.is_some()
    }
}

fn full(data: View<'_>) -> Option<Full> {
    let started_at = Timestamp::parse(data.get("startedAt")?.as_str()?)?;
    // Of what the ledger would keep, so that an applied config compares: that one is known from
    // there.
    let config = data.get("config")?;
    let text = canonical::read(config);
    let masked = secrets::masked(config, text.as_ref().map(|text| text.get()), &[]);
    let written = masked.map_or(text, |masked| canonical::raw(&masked));
    let config = Digest::of(written.as_ref().map_or("", |text| text.get()).as_bytes());
    let io = data.get("io")?;
    Some(Full { started_at, config, names_queues: names_queues(io), queues: queues(io) })
}

fn names_queues(io: View<'_>) -> bool {
    let planes = ["work", "control"].into_iter().filter_map(|plane| io.get(plane)?.get("queues"));
    planes.into_iter().any(|queues| queues.members().next().is_some())
}

/// The queues of both planes, in order and once each; what is beyond the bound is left out.
fn queues(io: View<'_>) -> Vec<(QueueUse, String)> {
    const PLACES: [(&str, &str, QueueUse); 6] = [
        ("work", "in", QueueUse::WorkIn),
        ("work", "out", QueueUse::WorkOut),
        ("work", "routes", QueueUse::WorkRoute),
        ("control", "in", QueueUse::ControlIn),
        ("control", "out", QueueUse::ControlOut),
        ("control", "routes", QueueUse::ControlRoute),
    ];
    let named = PLACES.into_iter().flat_map(|(plane, direction, way)| {
        let queues = io.get(plane).and_then(|plane| plane.get("queues")?.get(direction));
        let names = queues.into_iter().flat_map(View::items);
        names.filter_map(View::as_str).map(move |name| (way, name))
    });
    // A name that is no short string is no queue of a broker.
    let mut queues: Vec<(QueueUse, String)> = named
        .filter(|(_, name)| !name.is_empty() && name.len() <= QUEUE_BYTES_MAX)
        // Before repeats are dropped, so that a long list of them is not read to its end.
        .take(QUEUES_PER_INSTANCE_MAX)
        .map(|(way, name)| (way, name.to_owned()))
        .collect();
    queues.sort();
    queues.dedup();
    queues
}

/// A whole number ≥ 0, also where it is written as `4.0`.
fn count(value: View<'_>) -> Option<u64> {
    let number = value.as_number()?;
    number.as_u64().or_else(|| number.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64))
}

fn plane(plane: View<'_>) -> Option<Plane> {
    let health = |direction: &str| match plane.get(direction).and_then(View::as_str) {
        Some("ok") => Health::Ok,
        Some("out-of-data" | "backpressure" | "blocked" | "throttled") => Health::Degraded,
        Some("upstream-error" | "downstream-error") => Health::Error,
        // A word of a later release is no proof of health.
        _ => Health::Unknown,
    };
    plane.is_object().then(|| Plane { input: health("input"), output: health("output") })
}

fn build(runtime: &Runtime) -> Build {
    let optional = |text: &Option<String>| text.as_deref().map(cut);
    Build {
        container_id: optional(&runtime.container_id),
        image: optional(&runtime.image),
        run_id: cut(&runtime.run_id),
        stack_name: optional(&runtime.stack_name),
        template_id: cut(&runtime.template_id),
    }
}

fn cut(text: &str) -> Arc<str> {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    Arc::from(text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::tree::Tree;

    #[test]
    fn unknown_is_worse_than_ok_and_better_than_trouble() {
        let table = [
            (json!({ "input": "ok", "output": "ok" }), Health::Ok),
            (json!({ "input": "unknown", "output": "ok" }), Health::Unknown),
            (json!({ "input": "ok", "output": "unknown" }), Health::Unknown),
            (json!({ "input": "out-of-data", "output": "unknown" }), Health::Degraded),
            (json!({ "input": "backpressure", "output": "ok" }), Health::Degraded),
            (json!({ "input": "ok", "output": "blocked" }), Health::Degraded),
            (json!({ "input": "ok", "output": "throttled" }), Health::Degraded),
            (json!({ "input": "upstream-error", "output": "throttled" }), Health::Error),
            (json!({ "input": "ok", "output": "downstream-error" }), Health::Error),
        ];
        for (said, expected) in table {
            assert_eq!(plane(Tree::said(&said).root()).map(Plane::worst), Some(expected), "{said}");
        }
        assert_eq!(plane(Tree::said(&json!("ok")).root()), None);
    }

    #[test]
    fn texts_and_queues_are_bounded() {
        assert_eq!(cut(&"é".repeat(100)).len(), TEXT_BYTES_MAX);
        let many: Vec<String> = (0..1_000).map(|number| format!("q{number}")).collect();
        let io = json!({ "work": { "queues": { "in": ["", "q".repeat(256), "q", "q"], "out": many } } });
        let queues = queues(Tree::said(&io).root());
        assert_eq!(queues.len(), QUEUES_PER_INSTANCE_MAX - 1, "one was named twice");
        assert_eq!(queues.first(), Some(&(QueueUse::WorkIn, "q".to_owned())));
    }

    #[test]
    fn a_count_may_be_written_with_a_point() {
        let counted = |value| count(Tree::said(&value).root());
        assert_eq!((counted(json!(4)), counted(json!(4.0)), counted(json!(-1))), (Some(4), Some(4), None));
    }
}
