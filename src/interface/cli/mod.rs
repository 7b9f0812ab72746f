//! The command line: a file a subcommand.
//!
//! Owns: the tree of commands, what they share (`Globals`), the exit codes and how an error is told.
//! Never: does a command's work.
//! Holds: an error is printed once, on stderr, with what to do next; stdout holds only what was asked for.

mod audit;
mod bench;
mod check;
mod demo;
mod explain;
mod globals;
mod man;
mod route;
mod run;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

pub use globals::{CliError, Exit, Globals, OutputFormat};

/// A control-plane event router that stands beside RabbitMQ: every envelope is validated, judged, written to a
/// hash-chained ledger, and only then carried.
#[derive(Debug, Parser)]
#[command(
    name = "swarmgate",
    version,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "EXIT CODES:
  0   done                         1   a check found a fault
  2   bad usage or config          3   something was refused, as --fail-on asked
  4   the broker is unreachable    5   trouble with the ledger
  70  a bug in swarmgate; please report it

FIRST STEPS:
  swarmgate demo                                   see it work, nothing to set up
  swarmgate observe --amqp URL --exchange NAME     judge your own traffic, carry nothing
  swarmgate run --amqp URL --ledger DIR            the router"
)]
pub struct Cli {
    #[command(flatten)]
    globals: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Debug, clap::Args)]
pub struct GlobalArgs {
    /// The config file; without it only defaults, environment and flags count.
    #[arg(long, global = true, value_name = "FILE", env = "SWARMGATE_CONFIG")]
    config: Option<PathBuf>,
    /// For people or for machines.
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<OutputFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Run(run::RunArgs),
    Observe(run::ObserveArgs),
    Route(route::Args),
    Audit(audit::Args),
    Explain(explain::Args),
    Check(check::Args),
    Bench(bench::Args),
    #[command(hide = true)]
    BenchRelay(bench::relay::Args),
    Completions(man::CompletionsArgs),
    Man(man::ManArgs),
}

/// Parses the command line and runs what it asks for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let globals = Globals::new(cli.globals.config, cli.globals.output);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return globals.tell(&CliError::input(&fault)).into(),
    };
    // Boxed: the future of every command together is large, and main's stack is not the place for it.
    let exit = match runtime.block_on(Box::pin(run(cli.command, &globals))) {
        Ok(exit) => exit,
        Err(fault) => globals.tell(&fault),
    };
    // What a command left running (a reader of standard input, for one) must not hold the process.
    runtime.shutdown_background();
    exit.into()
}

async fn run(command: Command, globals: &Globals) -> Result<Exit, CliError> {
    match command {
        Command::Demo(args) => demo::run(args, globals).await,
        Command::Run(args) => run::run(args, globals).await,
        Command::Observe(args) => run::observe(args, globals).await,
        Command::Route(args) => route::run(args, globals).await,
        Command::Audit(args) => audit::run(args, globals).await,
        Command::Explain(args) => explain::run(&args, globals),
        Command::Bench(args) => bench::run(args, globals).await,
        Command::BenchRelay(args) => bench::relay::run(args, globals).await,
        Command::Check(args) => check::run(&args, globals),
        Command::Completions(args) => man::completions(&args, &mut Cli::command()),
        Command::Man(args) => man::man(&args, Cli::command()),
    }
}
