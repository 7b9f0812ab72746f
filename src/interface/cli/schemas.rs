//! `swarmgate explain --schema`: the schemas inside the binary.
//!
//! Owns: their names, and how they are listed and printed.
//! Never: reads a file, or compiles a schema.
//! Holds: every file of schemas/ has a name here, which is the file's without its ending.

use serde_json::{Value, json};

use super::{CliError, Exit, Globals, Out, embedded};

const ENDING: &str = ".schema.json";

/// Every schema: its name and its text.
fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    embedded::specification().filter_map(|(path, text)| {
        let name = path.strip_prefix("schemas/")?.strip_suffix(ENDING)?;
        Some((name, text))
    })
}

/// Lists the schemas, or prints the one of that name.
///
/// # Errors
/// When there is none of that name, or stdout cannot be written.
pub fn run(name: &str, globals: &Globals) -> Result<Exit, CliError> {
    let mut out = Out::new();
    if name.is_empty() {
        for (name, text) in all() {
            let title = serde_json::from_str::<Value>(text).unwrap_or_default()["title"].clone();
            if globals.is_json() {
                out.json(&json!({ "name": name, "title": title }))?;
            } else {
                out.line(&format!("{name:<24} {}", title.as_str().unwrap_or_default()))?;
            }
        }
        return Ok(Exit::Done);
    }
    let Some((_, text)) = all().find(|(known, _)| *known == name.trim_end_matches(ENDING)) else {
        return Err(CliError::Usage {
            message: format!("there is no schema `{name}`"),
            help: "`swarmgate explain --schema` lists them".to_owned(),
        });
    };
    out.text(text)?;
    Ok(Exit::Done)
}
