//! `swarmgate init`: a config to start from, and the first entry of a ledger.
//!
//! Owns: what is written where, and the question by which a ledger begins in NORMAL.
//! Never: replaces a file unasked, or touches a ledger that has begun.
//! Holds: what it writes passes `check config`; a ledger begins in SAFE unless somebody typed the
//! environment's name.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{CliError, Exit, Globals, Out, typed};
use crate::{
    config::{self, Loaded},
    contract::{audit::Genesis, interlock::SafetyMode},
    runtime::genesis::{self, BeginError},
};

const CONFIG_FILE: &str = "swarmgate.yaml";
const SCHEMA_FILE: &str = "swarmgate.schema.json";

/// Write a commented swarmgate.yaml to start from; with --ledger, begin a ledger too.
///
/// A config that is there is kept, and replaced with --force only. A ledger begins in SAFE, in
/// which nothing starts, unless the environment's name is typed: at the question, or behind
/// --begin-normal.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  A config in this directory, with every default as a comment:
    swarmgate init
  A config and a ledger for staging; asks for the word `stage` before it begins in NORMAL:
    swarmgate init /etc/swarmgate --environment stage --ledger /var/lib/swarmgate
  The same where nobody can answer:
    swarmgate init /etc/swarmgate --environment stage --ledger /var/lib/swarmgate --begin-normal stage")]
pub struct Args {
    /// Where swarmgate.yaml is written; this directory when absent (or the file that --config
    /// names).
    dir: Option<PathBuf>,
    /// Begin a ledger in this directory.
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    /// What the deployment is for; a ledger keeps it for good.
    #[arg(long, value_parser = ["dev", "stage", "prod"])]
    environment: Option<String>,
    /// Begin the ledger in NORMAL without a question; the value is the environment's name.
    #[arg(long, value_name = "ENVIRONMENT", requires = "ledger")]
    begin_normal: Option<String>,
    /// Replace a config that is there.
    #[arg(long)]
    force: bool,
}

/// Writes the config, and begins the ledger where one was asked for.
///
/// # Errors
/// When a file is there or cannot be written, the config in force is faulty, or the ledger has
/// begun already.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let file = args.dir.as_ref().map(|dir| dir.join(CONFIG_FILE)).or_else(|| globals.config.clone());
    let file = file.unwrap_or_else(|| PathBuf::from(CONFIG_FILE));
    let written = write_config(&args, &file)?;
    let begun = match &args.ledger {
        Some(dir) => Some(begin(dir, &file, &args, globals).await?),
        None => None,
    };
    tell(&file, &written, args.ledger.as_deref().zip(begun.as_ref()), globals)?;
    Ok(Exit::Done)
}

/// Writes the config and, beside it, its schema for editors; gives what it wrote.
fn write_config(args: &Args, file: &Path) -> Result<Vec<PathBuf>, CliError> {
    if file.exists() && !args.force {
        if args.ledger.is_some() {
            return Ok(Vec::new());
        }
        return Err(CliError::Usage {
            message: format!("`{}` is there already", file.display()),
            help: "name another directory, or give --force to replace it".to_owned(),
        });
    }
    let ledger = args.ledger.as_ref().map(|dir| dir.to_string_lossy().into_owned());
    let environment = args.environment.as_deref().map(|environment| ("environment", environment));
    let given: Vec<_> =
        environment.into_iter().chain(ledger.as_deref().map(|dir| ("ledger.dir", dir))).collect();
    let text = config::starting_yaml(&format!("./{SCHEMA_FILE}"), &given);
    // It names no schema of a type, so nobody is asked for one.
    config::parse(&file.to_string_lossy(), &text, &|_| Err(io::ErrorKind::NotFound.into()))?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(|fault| CliError::file(dir, &fault))?;
    let schema = serde_json::to_string_pretty(&config::json_schema()).unwrap_or_default() + "\n";
    let beside = file.with_file_name(SCHEMA_FILE);
    // The schema is of this release and nobody's own work, so the one of an older release gives
    // way.
    write(&beside, &schema, true)?;
    write(file, &text, args.force)?;
    Ok(vec![file.to_owned(), beside])
}

fn write(path: &Path, text: &str, replace: bool) -> Result<(), CliError> {
    let mut options = OpenOptions::new();
    if replace {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let written = options.write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|fault| CliError::file(path, &fault))
}

/// Begins the ledger by the config in force: its environment is the router's, whatever layer it
/// comes from.
async fn begin(dir: &Path, file: &Path, args: &Args, globals: &Globals) -> Result<Genesis, CliError> {
    let loaded = config::load(&globals.layers(Some(file.to_owned()), Vec::new()))?;
    let environment = loaded.config.environment.word();
    if let Some(asked) = args.environment.as_deref().filter(|asked| *asked != environment) {
        return Err(CliError::Usage {
            message: format!("the config in force says environment `{environment}`, not `{asked}`"),
            help: "leave --environment out, change the config, or replace it with --force".to_owned(),
        });
    }
    let genesis = genesis::genesis(environment, loaded.config.mode, SafetyMode::Safe)?;
    let genesis = Genesis { initial_mode: initial_mode(&loaded, args)?, ..genesis };
    genesis::begin(dir, Some(loaded.config.ledger.size_max_bytes), genesis.clone()).await?;
    Ok(genesis)
}

/// NORMAL where the environment's name was given or is typed now, else SAFE.
fn initial_mode(loaded: &Loaded, args: &Args) -> Result<SafetyMode, CliError> {
    let environment = loaded.config.environment.word();
    let confirmed = match &args.begin_normal {
        Some(word) if word == environment => true,
        Some(_) => {
            return Err(CliError::Usage {
                message: format!(
                    "--begin-normal does not name this deployment's environment, `{environment}`"
                ),
                help: format!("give --begin-normal {environment}, or leave it out to begin in SAFE"),
            });
        }
        None if io::stdin().is_terminal() && io::stderr().is_terminal() => {
            confirm(environment, &mut io::stdin().lock(), &mut io::stderr().lock())?
        }
        None => false,
    };
    Ok(if confirmed { SafetyMode::Normal } else { SafetyMode::Safe })
}

/// Asks for the environment's name.
fn confirm(
    environment: &str,
    answers: &mut impl BufRead,
    questions: &mut impl Write,
) -> Result<bool, CliError> {
    let question = format!(
        "The ledger begins in SAFE, in which nothing starts. To begin in NORMAL, type the environment's name ({environment})"
    );
    typed::asked(&question, environment, answers, questions).map_err(|fault| CliError::input(&fault))
}

fn tell(
    file: &Path,
    written: &[PathBuf],
    begun: Option<(&Path, &Genesis)>,
    globals: &Globals,
) -> Result<(), CliError> {
    let mut out = Out::new();
    if globals.is_json() {
        let ledger = begun.map(|(dir, genesis)| {
            let Genesis { environment, initial_mode, ledger_id, mode, .. } = genesis;
            json!({ "dir": dir, "ledgerId": ledger_id, "environment": environment, "mode": mode, "initialMode": initial_mode })
        });
        return out.json(&json!({ "config": file, "written": written, "ledger": ledger }));
    }
    for path in written {
        out.line(&format!("wrote {}", path.display()))?;
    }
    if written.is_empty() {
        out.line(&format!("kept  {}", file.display()))?;
    }
    if let Some((dir, genesis)) = begun {
        let Genesis { environment, initial_mode, ledger_id, .. } = genesis;
        let dir = dir.display();
        out.line(&format!(
            "began {dir}, ledger {ledger_id}, environment {environment}, safety {initial_mode}"
        ))?;
        if *initial_mode == SafetyMode::Safe {
            out.line("In SAFE nothing starts; leaving it is a `safety-set` that is confirmed.")?;
        }
    }
    out.line(&format!("next: swarmgate check config {}", file.display()))
}

impl From<BeginError> for CliError {
    fn from(fault: BeginError) -> Self {
        match fault {
            BeginError::Ledger(fault) => Self::Ledger(fault),
            begun @ BeginError::Begun { .. } => Self::Usage {
                message: begun.to_string(),
                help: "a ledger is begun once; `swarmgate audit show DIR --seq 1` shows how this one was"
                    .to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_environments_name_confirms() {
        for (answer, confirmed) in [
            ("stage\n", true),
            ("  stage  \r\n", true),
            ("stage", false),
            ("", false),
            ("\n", false),
            ("y\n", false),
            ("yes\n", false),
            ("STAGE\n", false),
            ("prod\n", false),
            ("stage stage\n", false),
            ("no\nstage\n", false),
        ] {
            let mut asked = Vec::new();
            let found = confirm("stage", &mut answer.as_bytes(), &mut asked).unwrap();
            assert_eq!(found, confirmed, "{answer:?}");
            assert!(String::from_utf8(asked).unwrap().contains("(stage)"));
        }
    }
}
