//! The deployment's own signal types, with their schemas read.
//!
//! Owns: turning an item of `types` into a row of the command table and a schema document.
//! Never: compiles a schema; the contract does, and bounds its cost.
//! Holds: a declared type is not built in, stands once, and has a schema that is JSON.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{OwnType, check::Wrong, load::read_text};
use crate::contract::command::{Class, Command, Commands};

/// Statuses that cannot mean success: the target's word for failure, and the router's own words.
const RESERVED: &[&str] =
    &["NotReady", "Failed", "Refused", "ChallengeRequired", "TimedOut", "Partial", "Superseded"];

/// A type of the deployment's own.
#[derive(Clone, Debug)]
pub struct DeclaredType {
    /// Its row in the command table.
    pub command: Command,
    /// Where its schema stands.
    pub path: PathBuf,
    /// The schema of its `data`.
    pub schema: Value,
}

/// Reads every type; `fault` takes the index of an item and what is wrong with it.
pub(super) fn declare(
    types: &[OwnType],
    base: &Path,
    fault: &mut dyn FnMut(usize, Wrong),
) -> Vec<DeclaredType> {
    let mut known = Commands::default();
    let mut declared = Vec::new();
    for (index, own) in types.iter().enumerate() {
        let command = row(own);
        if let Some(status) = command.success.iter().find(|status| RESERVED.contains(&status.as_str())) {
            let message = format!("`types[{index}].success` names `{status}`, which never means success");
            fault(index, Wrong::new(message, "name the statuses that the target answers when it is done"));
        }
        if !known.add(command.clone()) {
            let message = format!("`types[{index}].type`: `{}` is there already", own.kind_type);
            fault(index, Wrong::new(message, "choose another name; built-in types cannot be replaced"));
        }
        match schema(&base.join(&own.schema)) {
            Ok(schema) => declared.push(DeclaredType { command, path: base.join(&own.schema), schema }),
            Err(why) => {
                let message =
                    format!("the schema `{}` of type `{}` {why}", own.schema.display(), own.kind_type);
                fault(index, Wrong::new(message, "name a JSON Schema file, relative to the config file"));
            }
        }
    }
    declared
}

fn schema(path: &Path) -> Result<Value, String> {
    let text = read_text(path).map_err(|fault| format!("cannot be read: {fault}"))?;
    serde_json::from_str(&text).map_err(|fault| format!("is not JSON: {fault}"))
}

fn row(own: &OwnType) -> Command {
    let success =
        if own.success.is_empty() { vec![success_of(own.class).to_owned()] } else { own.success.clone() };
    Command {
        kind_type: own.kind_type.clone(),
        class: own.class,
        success,
        answered_by: own.answered_by,
        fan_out: own.fan_out,
        deadline_ms: Some(own.deadline_ms),
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
