//! `swarmgate observe`: looking at traffic that is there already, and the report of it.
//!
//! Owns: the choice between looking and asking for what was seen.
//! Never: publishes anything.
//! Holds: whatever came is in the report, or counted in it.

use super::{
    CliError, Exit, Globals, Out,
    access::Access,
    looks::Looks,
    observed,
    run::{self, Shared, Start},
};

/// Look only: decide and record what passes an exchange that is there already, publish nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Attach to your own exchange, with nothing on the broker but queues of ours that go with the connection:
    swarmgate observe --amqp amqp://user:password@broker:5672/%2f --exchange control.topic
  Only what looks like control messages, and the same as records for `swarmgate route`:
    swarmgate observe --exchange control.topic --bind 'signal.#' --bind 'event.#' --records seen.ndjson
  What was seen until now, by sender and key; the same comes at the end:
    swarmgate observe --report
  Each message, as it would have been answered:
    swarmgate audit show ./swarmgate-data
PERMISSIONS:
  configure and write on `^swarmgate\\.observe\\..*$`, read on `^(swarmgate\\.observe\\..*|YOUR\\.EXCHANGE)$`")]
pub struct Args {
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    looks: Looks,
    /// Ask an observer that runs for its report until now, and look at nothing.
    #[arg(long, conflicts_with_all = ["bind", "records"])]
    report: bool,
    #[command(flatten)]
    access: Access,
}

/// Looks until it is told to stop, or asks one that does.
///
/// # Errors
/// When the config, the ledger, the file of records or the HTTP address cannot be used, or the
/// broker does not let it look.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    if args.report {
        return ask(&args, globals).await;
    }
    let mode = ("observe", "mode", "observe".to_owned());
    let Start { loaded, layers, hang_up, telemetry } = Start::new(&args.shared, mode, globals)?;
    let setup = args.looks.setup(&loaded, &telemetry)?;
    let ended = run::serve(&loaded, setup, telemetry, (layers, hang_up), globals.is_json()).await;
    ended.map_err(|fault| args.looks.advised(fault, &loaded.config))
}

async fn ask(args: &Args, globals: &Globals) -> Result<Exit, CliError> {
    let router = args.access.router(globals)?;
    let answer = router.get("observed").await?;
    if globals.is_json() {
        Out::new().json(&answer)?;
    } else {
        Out::new().text(&observed::text(&router.read(&answer)?))?;
    }
    Ok(Exit::Done)
}
