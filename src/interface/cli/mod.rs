//! The command line: a file a subcommand.
//!
//! Owns: the tree of subcommands, what is global to them, and how a run ends.
//! Never: does a subcommand's work, or prints an error twice.
//! Holds: each subcommand has `Args` and `run(args, &Globals) -> Result<Exit, CliError>`; stdout is
//! only what was asked for.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod access;
mod access_error;
mod answered;
mod audit;
mod bench;
mod bot;
mod bundle_record;
mod bypass;
mod challenge;
mod check;
mod client;
mod commands;
mod completions;
mod demo;
mod doctor;
mod echo;
mod embedded;
mod explain;
mod failure;
mod follow;
mod init;
mod inventory;
mod kill;
mod ledger;
mod levels;
mod looks;
mod man;
mod may;
mod observe;
mod observed;
mod order;
mod outlive;
mod output;
mod plain_text;
mod refused;
mod reload;
mod route;
mod run;
mod runbook;
mod safety;
mod schemas;
mod send;
mod sent;
mod signal;
mod situation;
mod stopping;
mod supervise;
mod support_bundle;
mod table;
mod tail;
mod top;
mod typed;
mod wait;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{self, FlagSetting, Layers, Loaded},
    telemetry::stderr,
};

pub use failure::{CliError, Exit};
pub use output::{Out, OutputFormat};

/// How long a process waits at its end for whoever reads its log.
const LAST_LINES: Duration = Duration::from_secs(1);

const EXIT_CODES: &str = "EXIT CODES:
  0   done
  1   a check found a fault, or a command is still in flight
  2   wrong usage or config
  3   refused (where that was asked for), or a command that ended without success
  4   the broker or the running router cannot be reached, or refused
  5   the ledger cannot be read or written
  70  a bug in swarmgate";

const EXAMPLES: &str = "EXAMPLES:
  See it work, with nothing to set up:
    swarmgate demo
  Look at your own traffic, and publish nothing:
    swarmgate observe --amqp URL --exchange NAME
  A config to start from:
    swarmgate init
  The router beside a broker:
    swarmgate run --amqp URL --ledger DIR
  Learn how a routing key is read, and who hears it:
    swarmgate explain signal.swarm-start.kestrel.swarm-controller.ctl-1
  Learn what a refusal means and what to do:
    swarmgate explain routing.mismatch
  Watch the running router:
    swarmgate top
  Stop the whole fleet, and let nothing start:
    swarmgate kill --reason WHY
  Check a config before it is used:
    swarmgate check config swarmgate.yaml";

/// A control-plane event router that stands beside RabbitMQ.
#[derive(Debug, Parser)]
#[command(name = "swarmgate", version, about, propagate_version = true, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// The heading of the options that every command takes, so that its own stand alone.
const EVERYWHERE: &str = "Options of every command";

/// What every subcommand takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Globals {
    /// How answers and errors look.
    #[arg(long, global = true, value_name = "FORM", help_heading = EVERYWHERE)]
    pub output: Option<OutputFormat>,
    /// The config file.
    #[arg(long, global = true, value_name = "FILE", env = "SWARMGATE_CONFIG", help_heading = EVERYWHERE)]
    pub config: Option<PathBuf>,
    /// One setting of the config, over file and environment; may be repeated. A list is `one,two`
    /// or `[one, two]`, and `[]` is none.
    #[arg(long = "set", global = true, value_name = "PATH=VALUE", value_parser = setting, help_heading = EVERYWHERE)]
    pub settings: Vec<FlagSetting>,
}

impl Globals {
    /// The form asked for, or `otherwise`.
    pub fn output_or(&self, otherwise: OutputFormat) -> OutputFormat {
        self.output.unwrap_or(otherwise)
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.output == Some(OutputFormat::Json)
    }

    /// The config file that was named.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.config.as_deref()
    }

    /// The config in force: defaults < file < environment < flags.
    ///
    /// # Errors
    /// With every fault of every layer.
    pub fn config(&self) -> Result<Loaded, CliError> {
        let loaded = self.config_with(Vec::new())?;
        for warning in &loaded.warnings {
            output::aside(&format!("warning: {warning}"));
        }
        Ok(loaded)
    }

    /// The config in force, with a subcommand's own flags, as (flag, path, value), under `--set`.
    /// Its warnings are the caller's to tell.
    ///
    /// # Errors
    /// With every fault of every layer.
    pub fn config_with(&self, flags: Vec<(&str, &str, String)>) -> Result<Loaded, CliError> {
        Ok(config::load(&self.layers_with(flags))?)
    }

    /// Where that config comes from.
    fn layers_with(&self, flags: Vec<(&str, &str, String)>) -> Layers {
        let setting = |(flag, path, value): (&str, &str, String)| FlagSetting {
            flag: flag.to_owned(),
            path: path.to_owned(),
            value,
        };
        self.layers(self.config.clone(), flags.into_iter().map(setting).collect())
    }

    /// The layers with that file.
    fn layers(&self, file: Option<PathBuf>, mut flags: Vec<FlagSetting>) -> Layers {
        let env = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("SWARMGATE_"))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        flags.extend(self.settings.iter().cloned());
        Layers { file, env: env.collect(), flags }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Init(init::Args),
    Run(run::RunArgs),
    Observe(observe::Args),
    Route(route::Args),
    Supervise(supervise::Args),
    Send(send::Args),
    Tail(tail::Args),
    Inventory(inventory::Args),
    Commands(commands::Args),
    Wait(wait::Args),
    Safety(safety::Args),
    Kill(kill::Args),
    Challenge(challenge::Args),
    Bot(bot::Args),
    Top(top::Args),
    Audit(audit::Args),
    Ledger(ledger::Args),
    Refused(refused::Args),
    Explain(explain::Args),
    Check(check::Args),
    Doctor(doctor::Args),
    Bypass(bypass::Args),
    SupportBundle(support_bundle::Args),
    Bench(bench::Args),
    #[command(hide = true)]
    BenchRelay(bench::relay::Args),
    #[command(hide = true)]
    SuperviseChild(supervise::ChildArgs),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    failure::explain_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let json = cli.globals.is_json();
    let ended = std::panic::catch_unwind(|| dispatch(cli));
    let exit = match ended {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => error.print(json),
        // The hook has told it.
        Err(_) => Exit::Bug,
    };
    stderr::drain(LAST_LINES);
    exit.into()
}

fn dispatch(cli: Cli) -> Result<Exit, CliError> {
    let Cli { globals, command } = cli;
    match command {
        Command::Demo(args) => wait(demo::run(args, &globals)),
        Command::Init(args) => wait(init::run(args, &globals)),
        Command::Run(args) => wait(run::run(args, &globals)),
        Command::Observe(args) => wait(observe::run(args, &globals)),
        Command::Route(args) => wait(route::run(args, &globals)),
        Command::Supervise(args) => wait(supervise::run(args, &globals)),
        Command::SuperviseChild(args) => supervise::child(&args),
        Command::Send(args) => wait(send::run(args, &globals)),
        Command::Tail(args) => wait(tail::run(args, &globals)),
        Command::Refused(args) => wait(refused::run(args, &globals)),
        Command::Inventory(args) => wait(inventory::run(args, &globals)),
        Command::Commands(args) => wait(commands::run(args, &globals)),
        Command::Wait(args) => wait(wait::run(args, &globals)),
        Command::Safety(args) => wait(safety::run(args, &globals)),
        Command::Kill(args) => wait(kill::run(args, &globals)),
        Command::Challenge(args) => wait(challenge::run(args, &globals)),
        Command::Bot(args) => wait(bot::run(args, &globals)),
        Command::Top(args) => wait(top::run(args, &globals)),
        Command::Audit(args) => wait(audit::run(args, &globals)),
        Command::Ledger(args) => wait(ledger::run(args, &globals)),
        Command::Doctor(args) => wait(doctor::run(args, &globals)),
        Command::SupportBundle(args) => wait(support_bundle::run(args, &globals)),
        Command::Bench(args) => wait(bench::run(args, &globals)),
        Command::BenchRelay(args) => wait(bench::relay::run(args, &globals)),
        Command::Bypass(args) => bypass::run(&args, &globals),
        Command::Explain(args) => explain::run(&args, &globals),
        Command::Check(args) => check::run(&args, &globals),
        Command::Completions(args) => completions::run(&args, &globals),
        Command::Man(args) => man::run(&args, &globals),
    }
}

/// Runs a subcommand that waits for things.
fn wait(work: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    // One worker: the tasks hand batches to each other, and waking another core for each costs more
    // than the work. The broker's client and the ledger have threads of their own.
    outlive::enough_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(CliError::Tasks)?;
    // Boxed: such a future is large, and main's stack is not the place for it.
    let ended = runtime.block_on(Box::pin(async {
        outlive_file_limit()?;
        work.await
    }));
    // What a command left running (a reader of standard input, for one) must not hold the process.
    runtime.shutdown_background();
    ended
}

/// A limit on the size of files makes a write fail, as a full disk does; by itself it would end the
/// process, and leave half of what it wrote.
fn outlive_file_limit() -> Result<(), CliError> {
    // A handler stays for as long as the process runs, whoever listens.
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop).map_err(|fault| CliError::input(&fault))
}

/// Help and version go to stdout; a wrong call is told as every error is.
fn usage(error: &clap::Error) -> Exit {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion => {
            // A reader that has gone away wants no more of it.
            let _ = error.print();
            Exit::Done
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage
        }
        _ => {
            let mut args = std::env::args();
            let json = args.any(|arg| arg == "--output=json") || asked_for_json();
            CliError::usage(&error.render().to_string()).print(json)
        }
    }
}

fn asked_for_json() -> bool {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    args.array_windows().any(|[flag, form]| flag == "--output" && form == "json")
}

/// The whole tree, for completions and man pages.
fn tree() -> clap::Command {
    Cli::command()
}

/// Reads `PATH=VALUE`; the value is not repeated in a fault, it may be a secret.
fn setting(text: &str) -> Result<FlagSetting, String> {
    let (path, value) = text.split_once('=').ok_or("write it as PATH=VALUE, like `mode=observe`")?;
    Ok(FlagSetting { flag: format!("--set {path}"), path: path.trim().to_owned(), value: value.to_owned() })
}
