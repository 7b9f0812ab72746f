//! `swarmgate check`: is this config, is this copy of the specification, as it should be?
//!
//! Owns: the two checks and how their findings are told.
//! Never: connects, or changes a file.
//! Holds: exit 0 means that nothing is wrong, 1 that something is, and each finding says what to
//! do.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{CliError, Exit, Globals, Out, embedded};
use crate::config::{self, Config, ConfigError};

/// Check a config, or a copy of the specification.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Is this config good?
    swarmgate check config swarmgate.yaml
  Begin a config from the defaults:
    swarmgate check config --print-defaults > swarmgate.yaml
  Does a checkout say what this release says?
    swarmgate check spec --against .")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Config(ConfigArgs),
    Spec(SpecArgs),
}

/// Check a config file together with this environment: `ok`, or every fault with its line.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  swarmgate check config swarmgate.yaml
  How do workers come to run, with every default filled in?
    swarmgate check config swarmgate.yaml --summary
  swarmgate check config --print-defaults")]
struct ConfigArgs {
    /// The file; `--config` and the environment alone when absent.
    file: Option<PathBuf>,
    /// Print the runtime contract summary too: bootstrap mode, and the channel's secret mode and
    /// kdf.
    #[arg(long, conflicts_with_all = ["print_defaults", "print_schema"])]
    summary: bool,
    /// Print every setting with its default and meaning, and check nothing.
    #[arg(long)]
    print_defaults: bool,
    /// Print the JSON Schema of swarmgate.yaml, and check nothing.
    #[arg(long, conflicts_with = "print_defaults")]
    print_schema: bool,
}

/// List the specification inside this binary, print one of its files, or compare it with a
/// directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  swarmgate check spec
  swarmgate check spec --print schemas/control-events.schema.json
  swarmgate check spec --against .")]
struct SpecArgs {
    /// Print this file of the specification.
    #[arg(long, value_name = "PATH")]
    print: Option<String>,
    /// Compare with the `spec` and `schemas` folders of this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "print")]
    against: Option<PathBuf>,
}

/// Runs the check asked for.
///
/// # Errors
/// When what is to be checked cannot be read at all.
pub fn run(args: &Args, globals: &Globals) -> Result<Exit, CliError> {
    match &args.what {
        What::Config(args) => check_config(args, globals),
        What::Spec(args) => check_spec(args, globals),
    }
}

fn check_config(args: &ConfigArgs, globals: &Globals) -> Result<Exit, CliError> {
    let mut out = Out::new();
    if args.print_defaults {
        out.text(&config::defaults_yaml())?;
        return Ok(Exit::Done);
    }
    if args.print_schema {
        let pretty = serde_json::to_string_pretty(&config::json_schema()).unwrap_or_default();
        out.text(&format!("{pretty}\n"))?;
        return Ok(Exit::Done);
    }
    let file = args.file.clone().or_else(|| globals.config.clone());
    let (loaded, faults) = match config::load(&globals.layers(file, Vec::new())) {
        Ok(loaded) => (Some(loaded), Vec::new()),
        Err(ConfigError::Faulty { faults }) => (None, faults),
        Err(error @ ConfigError::Unreadable { .. }) => return Err(error.into()),
    };
    let warnings = loaded.as_ref().map(|loaded| loaded.warnings.as_slice()).unwrap_or_default();
    let summary = loaded.as_ref().filter(|_| args.summary).map(|loaded| summary(&loaded.config));
    if globals.is_json() {
        let mut told = json!({ "ok": faults.is_empty(), "faults": faults, "warnings": warnings });
        if let (Some(told), Some(summary)) = (told.as_object_mut(), summary) {
            told.insert("summary".to_owned(), summary);
        }
        out.json(&told)?;
    } else {
        for warning in warnings {
            out.line(&format!("warning: {warning}"))?;
        }
        for fault in &faults {
            out.text(&fault.drawn(""))?;
        }
        if faults.is_empty() {
            out.line("ok")?;
        }
        for line in summary.iter().flat_map(|summary| lines_of(summary, "")) {
            out.line(&line)?;
        }
    }
    Ok(if faults.is_empty() { Exit::Done } else { Exit::Fault })
}

fn summary(config: &Config) -> Value {
    serde_json::to_value(config::runtime_contract_summary(config)).unwrap_or_default()
}

/// The leaves of a summary as `path: value`.
fn lines_of(value: &Value, path: &str) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let below = |(key, value): (&String, &Value)| {
                lines_of(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") })
            };
            map.iter().flat_map(below).collect()
        }
        Value::String(word) => vec![format!("{path}: {word}")],
        other => vec![format!("{path}: {other}")],
    }
}

fn check_spec(args: &SpecArgs, globals: &Globals) -> Result<Exit, CliError> {
    let mut out = Out::new();
    if let Some(wanted) = &args.print {
        let Some((_, text)) = embedded::specification().find(|(path, _)| path == wanted) else {
            let message = format!("`{wanted}` is not a file of the specification");
            return Err(CliError::Usage {
                message,
                help: "`swarmgate check spec` lists its files".to_owned(),
            });
        };
        out.text(text)?;
        return Ok(Exit::Done);
    }
    let Some(dir) = &args.against else {
        for (path, text) in embedded::specification() {
            if globals.is_json() {
                out.json(&json!({ "path": path, "bytes": text.len() }))?;
            } else {
                out.line(&format!("{path}  {} bytes", text.len()))?;
            }
        }
        return Ok(Exit::Done);
    };
    let findings = differences(dir)?;
    if globals.is_json() {
        let told: Vec<_> =
            findings.iter().map(|(path, what)| json!({ "path": path, "finding": what })).collect();
        out.json(&json!({ "ok": findings.is_empty(), "findings": told }))?;
    } else if findings.is_empty() {
        out.line("ok")?;
    } else {
        for (path, what) in &findings {
            out.line(&format!("{path}: {what}"))?;
        }
        out.line("help: take the files of the release that runs, or run the release that the files are of")?;
    }
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Fault })
}

/// What is not in `dir` as it is in this binary.
fn differences(dir: &Path) -> Result<Vec<(String, String)>, CliError> {
    let mut findings = Vec::new();
    let mut known = BTreeSet::new();
    for (path, text) in embedded::specification() {
        known.insert(path.to_owned());
        match std::fs::read(dir.join(path)) {
            Ok(bytes) if bytes == text.as_bytes() => {}
            Ok(bytes) => {
                let there = String::from_utf8_lossy(&bytes);
                let same = there.lines().zip(text.lines()).take_while(|(one, other)| one == other).count();
                findings
                    .push((path.to_owned(), format!("differs from this release from line {} on", same + 1)));
            }
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => {
                findings.push((path.to_owned(), "is missing".to_owned()));
            }
            Err(fault) => return Err(CliError::file(&dir.join(path), &fault)),
        }
    }
    for folder in ["spec", "schemas"] {
        let Ok(entries) = std::fs::read_dir(dir.join(folder)) else { continue };
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let path = format!("{folder}/{name}");
            if !known.contains(&path) {
                findings.push((path, "is not of this release".to_owned()));
            }
        }
    }
    Ok(findings)
}
