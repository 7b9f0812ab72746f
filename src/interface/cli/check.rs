//! `swarmgate check`: is a config, or a copy of the spec, right?
//!
//! Owns: checking without running.
//! Never: connects or opens a ledger.
//! Holds: every fault is told, not only the first.

use std::{fs, path::PathBuf};

use serde_json::json;

use super::{CliError, Exit, Globals};
use crate::{contract::schema::CONTROL_EVENTS, runtime::config};

/// The normative documents that this binary was built with.
const SPEC: &[(&str, &str)] = &[
    ("spec/asyncapi.yaml", include_str!("../../../spec/asyncapi.yaml")),
    ("spec/commands.toml", include_str!("../../../spec/commands.toml")),
    ("schemas/control-events.schema.json", CONTROL_EVENTS),
    ("schemas/config.schema.json", include_str!("../../../schemas/config.schema.json")),
];

/// Check a config or the spec, without running anything.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  swarmgate check config swarmgate.yaml
  swarmgate check config --print-defaults > swarmgate.yaml
  swarmgate check spec --dir .        does this directory hold what the binary was built with?
  swarmgate check spec --print schemas/control-events.schema.json")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Every fault in a config file, with its line and what to do.
    Config {
        /// The config file; the one of --config when absent.
        file: Option<PathBuf>,
        /// Print every key with its default and what it means.
        #[arg(long)]
        print_defaults: bool,
    },
    /// The spec and schemas that this binary was built with.
    Spec {
        /// Compare with the files below this directory.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Print one of them.
        #[arg(long, value_name = "NAME", conflicts_with = "dir")]
        print: Option<String>,
    },
}

/// Checks.
pub fn run(args: &Args, globals: &Globals) -> Result<Exit, CliError> {
    match &args.what {
        What::Config { print_defaults: true, .. } => {
            print!("{}", config::defaults_yaml());
            Ok(Exit::Done)
        }
        What::Config { file, .. } => check_config(file.clone(), globals),
        What::Spec { print: Some(name), .. } => print_spec(name),
        What::Spec { dir, .. } => check_spec(dir.clone(), globals),
    }
}

fn check_config(file: Option<PathBuf>, globals: &Globals) -> Result<Exit, CliError> {
    let file = file.or_else(|| globals.file().map(PathBuf::from));
    let loaded = Globals::new(file.clone(), None).config()?;
    let name = file.map_or_else(|| "the defaults".to_owned(), |file| file.display().to_string());
    if globals.is_json() {
        println!("{}", json!({ "valid": true, "file": name, "warnings": loaded.warnings }));
    } else {
        for warning in &loaded.warnings {
            println!("warning: {warning}");
        }
        println!("ok: {name}");
    }
    Ok(Exit::Done)
}

fn print_spec(name: &str) -> Result<Exit, CliError> {
    match SPEC.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => {
            print!("{text}");
            Ok(Exit::Done)
        }
        None => Err(CliError::Usage {
            message: format!("`{name}` is none of the documents in this binary"),
            help: format!(
                "name one of: {}",
                SPEC.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
            ),
        }),
    }
}

fn check_spec(dir: Option<PathBuf>, globals: &Globals) -> Result<Exit, CliError> {
    let mut differing = Vec::new();
    for (name, text) in SPEC {
        let state = match &dir {
            None => "built in",
            Some(dir) => match fs::read_to_string(dir.join(name)) {
                Ok(found) if found == *text => "the same",
                Ok(_) => "differs",
                Err(_) => "missing",
            },
        };
        if matches!(state, "differs" | "missing") {
            differing.push(*name);
        }
        if !globals.is_json() {
            println!("{name}: {state} ({} bytes)", text.len());
        }
    }
    if globals.is_json() {
        println!("{}", json!({ "same": differing.is_empty(), "differing": differing }));
    }
    Ok(if differing.is_empty() { Exit::Done } else { Exit::Fault })
}
