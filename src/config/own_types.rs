//! The deployment's own signal types, with their schemas read and compiled.
//!
//! Owns: the keys of an item of `types`, turning `types` into a `Contract`, and naming the item at
//! fault.
//! Never: bounds a schema's cost itself; the contract does, when it is loaded.
//! Holds: every type in the contract it hands out is admitted; the faulty ones are told, each once.

use std::{
    io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    section::{
        DAY_MS, Field,
        KeyKind::{self, Choice, Segment, Whole, Words},
        Section, written,
    },
    wrong::Wrong,
};
use crate::contract::{
    Contract, DeploymentType, Limits, TypeError,
    command::{Answerer, Class, FanOut},
};

const CLASSES: &[&str] = &[
    "stop",
    "tighten",
    "loosen",
    "consent",
    "session",
    "liveness",
    "evidence",
    "change",
    "start",
    "release",
    "destructive",
];

/// The keys of one item of `types`.
pub static TYPE_FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let field = |path, kind, doc, default| Field { path, kind, doc, default };
    vec![
        field("type", Segment, "The signal type; the built-in ones cannot be replaced.", Value::Null),
        field(
            "schema",
            KeyKind::Path,
            "The JSON Schema of its `data`, a file; relative to the config file.",
            Value::Null,
        ),
        field(
            "class",
            Choice(CLASSES),
            "What it does; undeclared is `start`, the most restricted.",
            written(undeclared_class()),
        ),
        field(
            "success",
            Words,
            "The statuses that mean success; undeclared, those of its class.",
            Value::Null,
        ),
        field(
            "answered_by",
            Choice(&["target", "router", "router-and-target"]),
            "Who answers it.",
            written(undeclared_answerer()),
        ),
        field(
            "fan_out",
            Choice(&["none", "instances", "global-or-swarm"]),
            "Which `ALL` shapes it may address.",
            written(undeclared_fan_out()),
        ),
        field(
            "deadline_ms",
            Whole(1, 7 * DAY_MS),
            "Milliseconds from acceptance until it has timed out.",
            written(undeclared_deadline_ms()),
        ),
    ]
});

/// The keys of an item of `types` that cannot be left out.
pub const TYPE_REQUIRED: &[&str] = &["type", "schema"];

/// A signal type of the deployment's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnType {
    /// The type.
    #[serde(rename = "type")]
    pub kind_type: String,
    /// The JSON Schema of its `data`; a relative path is taken from the config file's directory.
    pub schema: PathBuf,
    /// What it does; undeclared is `start`, the most restricted.
    #[serde(default = "undeclared_class")]
    pub class: Class,
    /// The statuses that mean success; undeclared, those of its class.
    #[serde(default)]
    pub success: Vec<String>,
    /// Who answers.
    #[serde(default = "undeclared_answerer")]
    pub answered_by: Answerer,
    /// Which `ALL` shapes it may address.
    #[serde(default = "undeclared_fan_out")]
    pub fan_out: FanOut,
    /// When it has timed out.
    #[serde(default = "undeclared_deadline_ms")]
    pub deadline_ms: u64,
}

const fn undeclared_class() -> Class {
    Class::Start
}

const fn undeclared_answerer() -> Answerer {
    Answerer::Target
}

const fn undeclared_fan_out() -> FanOut {
    FanOut::None
}

const fn undeclared_deadline_ms() -> u64 {
    120_000
}

impl Section for Vec<OwnType> {
    /// None in the table: an item's keys are its own, and only a file can say them.
    fn fields() -> Vec<Field> {
        Vec::new()
    }
}

/// Statuses that cannot mean success: the target's word for failure, and the router's own words.
const RESERVED: &[&str] =
    &["NotReady", "Failed", "Refused", "ChallengeRequired", "TimedOut", "Partial", "Superseded"];

/// How a schema's text is come by, from its path in the config.
pub(super) type Read<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Builds the contract; `fault` takes the index of an item, where one is to blame, and what is
/// wrong.
pub(super) fn contract(
    limits: Limits,
    types: &[OwnType],
    read_text: Read<'_>,
    fault: &mut dyn FnMut(Option<usize>, Wrong),
) -> Option<Contract> {
    let mut read = Vec::new();
    for (index, own) in types.iter().enumerate() {
        if let Some(status) = own.success.iter().find(|status| RESERVED.contains(&status.as_str())) {
            let message = format!("`types[{index}].success` names `{status}`, which never means success");
            fault(
                Some(index),
                Wrong::new(message, "name the statuses that the target answers when it is done"),
            );
        }
        match schema(read_text, &own.schema) {
            Ok(schema) => read.push((index, deployment_type(own, schema))),
            Err(why) => {
                let message =
                    format!("the schema `{}` of type `{}` {why}", own.schema.display(), own.kind_type);
                fault(
                    Some(index),
                    Wrong::new(message, "name a JSON Schema file, relative to the config file"),
                );
            }
        }
    }
    loop {
        let types = read.iter().map(|(_, kind)| kind.clone()).collect();
        let error = match Contract::with_types(limits, types) {
            Ok(contract) => return Some(contract),
            Err(error) => error,
        };
        // The contract stops at the first faulty type; without it the next one is found. Of two of
        // a name the later is at fault.
        let blamed =
            blamed(&error).and_then(|name| read.iter().rposition(|(_, kind)| kind.kind_type == name));
        let index = blamed.map(|at| read.remove(at).0);
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let help = "mend the type or its schema file; docs/integrating says what a schema may hold";
        fault(index, Wrong::new(format!("{error}{cause}"), help));
        index?;
    }
}

/// The type that an error is about.
fn blamed(error: &TypeError) -> Option<&str> {
    match error {
        TypeError::Name { kind_type, .. }
        | TypeError::Taken { kind_type, .. }
        | TypeError::Refused { kind_type, .. }
        | TypeError::Uncompiled { kind_type, .. } => Some(kind_type),
        TypeError::BuiltIn { .. } => None,
    }
}

fn schema(read_text: Read<'_>, path: &Path) -> Result<Value, String> {
    let text = read_text(path).map_err(|fault| format!("cannot be read: {fault}"))?;
    serde_json::from_str(&text).map_err(|fault| format!("is not JSON: {fault}"))
}

fn deployment_type(own: &OwnType, schema: Value) -> DeploymentType {
    let success =
        if own.success.is_empty() { vec![success_of(own.class).to_owned()] } else { own.success.clone() };
    DeploymentType {
        kind_type: own.kind_type.clone(),
        class: own.class,
        success,
        answered_by: own.answered_by,
        fan_out: own.fan_out,
        deadline_ms: Some(own.deadline_ms),
        schema,
    }
}

/// The status that a class ends with when a type declares none.
const fn success_of(class: Class) -> &'static str {
    match class {
        Class::Stop => "Stopped",
        Class::Start => "Running",
        Class::Release => "Released",
        Class::Session | Class::Liveness => "Ack",
        _ => "Applied",
    }
}
