//! `swarmgate support-bundle`: one file that tells how a router stands, and no secret.
//!
//! Owns: where its sources are (a running router's API, a ledger's directory, the config), and
//! verifying a bundle.
//! Never: writes to the ledger, or asks the router for more than to record the bundle; overwrites a
//! file.
//! Holds: a source that is not there is named in the bundle and at the terminal, and stops nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    CliError, Exit, Globals, Out,
    access::{Access, AccessError, Router, encoded},
    bundle_record,
    client::Connect,
};
use crate::{
    config::Config,
    support::{
        self, BundleLimits, BundlePlace, BundleStamp, Created, Source, Sources,
        gather::{self, Page, Pages},
        verify,
    },
    view::PAGE_MAX,
};

/// The largest bundle that is verified, in bytes of its members: a router's limit may be above the
/// default.
const VERIFIED_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Collect the state of a router into one file, free of secrets.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  From the router and the ledger that the config names:
    swarmgate support-bundle --config swarmgate.yaml
  From a ledger alone, on a machine where nothing runs:
    swarmgate support-bundle --ledger ./copy --out bundle.tar.gz
  From a router elsewhere, through a tunnel:
    swarmgate support-bundle --api http://127.0.0.1:8080
  Is a bundle whole and unaltered? (0 it is, 1 it is not)
    swarmgate support-bundle verify bundle.tar.gz")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// The file to write; a name by time in this directory unless given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The ledger's directory, or its file; by default ledger.dir of the config, where --api is not
    /// given.
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    /// So many of the ledger's last entries.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    last: Option<u64>,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Check a bundle: its list, every hash, the chain of its entries, and that no secret is in it.
    #[command(after_help = "EXAMPLES:
  swarmgate support-bundle verify bundle.tar.gz
  swarmgate support-bundle verify bundle.tar.gz --output json")]
    Verify {
        /// The bundle.
        file: PathBuf,
    },
}

/// Makes or verifies a bundle.
///
/// # Errors
/// When the file cannot be written or read, or the scan found a secret in what was packed.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    if let Some(What::Verify { file }) = &args.what {
        if args.out.is_some() || args.ledger.is_some() || args.last.is_some() {
            return Err(CliError::Usage {
                message: "`verify` takes the bundle's file and nothing of what makes one".to_owned(),
                help: "`swarmgate support-bundle verify --help` shows how it is used".to_owned(),
            });
        }
        return verify(file, globals);
    }
    let mut limits = BundleLimits::default();
    limits.audit_entries_max = args.last.unwrap_or(limits.audit_entries_max);
    let sources = gathered(&args, globals, &limits).await;
    let instance = instance(&sources);
    let stamp = BundleStamp::new();
    let place = BundlePlace::File(args.out.unwrap_or_else(|| support::file_name(&stamp).into()));
    let created = support::create_aside(place, sources, limits, stamp).await?;
    let recorded = match instance {
        Ok(instance) => bundle_record::record(&created, &instance, &args.connect, globals).await,
        Err(why) => Err(why),
    };
    tell(&created, &recorded, globals)?;
    Ok(Exit::Done)
}

/// The router that the bundle tells of, which is the one to record it.
fn instance(sources: &Sources) -> Result<String, String> {
    let health = sources.health.as_ref().map_err(|why| format!("no router answers: {why}"))?;
    let instance = health.pointer("/overview/instance").and_then(Value::as_str).map(str::to_owned);
    instance.ok_or_else(|| "the router does not say who it is".to_owned())
}

/// What the named sources tell; without a name, those of the config.
async fn gathered(args: &Args, globals: &Globals, limits: &BundleLimits) -> Sources {
    let loaded = globals.config_with(Vec::new());
    let config = loaded.as_ref().map(|loaded| &loaded.config);
    let is_named = args.access.is_named() || args.ledger.is_some();
    let router = match (args.access.is_named(), is_named) {
        (false, true) => Err("only a ledger was named; name the router with --api".to_owned()),
        _ => args.access.router(globals).map_err(|fault| fault.to_string()),
    };
    let mut sources = match router {
        Ok(router) => of_api(&router, limits).await,
        Err(why) => Sources::absent(&why),
    };
    let ledger = args.ledger.as_deref().or_else(|| ledger_of(config.ok()).filter(|_| !is_named));
    sources.audit = match ledger {
        Some(dir) => gather::excerpt(dir, limits).await,
        None => Err("no ledger was named; name its directory with --ledger".to_owned()),
    };
    match config {
        Ok(config) => sources.take_config(config),
        Err(fault) => sources.config = Err(format!("the config does not load: {fault}")),
    }
    sources
}

fn ledger_of(config: Option<&Config>) -> Option<&Path> {
    config.map(|config| config.ledger.dir.as_path())
}

async fn of_api(router: &Router, limits: &BundleLimits) -> Sources {
    let mut sources = gather::of_pages(router, limits).await;
    let ready = match router.window("readyz").await {
        Ok((_, page)) => {
            serde_json::from_str(&page).map_err(|_| "what answers at /readyz is no router".to_owned())
        }
        Err(fault) => Err(told(&fault)),
    };
    if sources.health.is_ok() || ready.is_ok() {
        sources.health = Ok(gather::health(sources.health, ready));
    }
    sources.metrics = match router.window("metrics").await {
        Ok((200, page)) => Ok(page),
        Ok((status, _)) => Err(format!("/metrics answered with status {status}")),
        Err(fault) => Err(told(&fault)),
    };
    sources
}

impl Pages for Router {
    async fn page(&self, page: &Page) -> Source<Value> {
        let path = match page {
            Page::Overview => "overview".to_owned(),
            Page::Swarms => "inventory".to_owned(),
            Page::Instances { swarm, after: None } => {
                format!("inventory/{}?limit={PAGE_MAX}", encoded(swarm))
            }
            Page::Instances { swarm, after: Some(after) } => {
                format!("inventory/{}?limit={PAGE_MAX}&after={}", encoded(swarm), encoded(after))
            }
            Page::Commands { parked: false } => format!("commands?limit={PAGE_MAX}"),
            Page::Commands { parked: true } => format!("commands?state=parked&limit={PAGE_MAX}"),
            Page::Safety => "safety".to_owned(),
            Page::Challenges => "challenges".to_owned(),
        };
        self.get(&path).await.map_err(|fault| told(&fault))
    }
}

/// Why a page is missing: the fault, and the system's words for it.
fn told(fault: &AccessError) -> String {
    match std::error::Error::source(fault) {
        Some(cause) => format!("{fault}: {cause}"),
        None => fault.to_string(),
    }
}

fn tell(created: &Created, recorded: &Result<String, String>, globals: &Globals) -> Result<(), CliError> {
    let mut out = Out::new();
    if globals.is_json() {
        let mut told = serde_json::to_value(created).unwrap_or_default();
        told["recorded"] = json!({ "by": recorded.as_ref().ok(), "why_not": recorded.as_ref().err() });
        return out.json(&told);
    }
    out.line(&format!("{}: {} bytes, id {}", created.path.display(), created.bytes, created.bundle_id))?;
    out.line(&format!("  manifest SHA-256 {}", created.manifest_sha256))?;
    if created.redacted > 0 {
        out.line(&format!("  {} places were masked", created.redacted))?;
    }
    out.line(&match recorded {
        Ok(by) => format!("  recorded in the ledger by {by}"),
        Err(why) => format!("  nothing was recorded: {why}"),
    })?;
    for (what, why) in &created.missing {
        out.line(&format!("  missing: {what}: {why}"))?;
    }
    Ok(())
}

fn verify(file: &Path, globals: &Globals) -> Result<Exit, CliError> {
    let limits = BundleLimits { bundle_bytes_max: VERIFIED_BYTES_MAX, ..BundleLimits::default() };
    let report = verify::verify(file, &limits)?;
    let exit = if report.faults.is_empty() { Exit::Done } else { Exit::Fault };
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&serde_json::to_value(report.summary()).unwrap_or_default())?;
        return Ok(exit);
    }
    out.line(if report.faults.is_empty() { "VALID" } else { "INVALID" })?;
    for fault in &report.faults {
        out.line(&format!("  {fault}"))?;
    }
    if let (Some(manifest), Some(digest)) = (&report.manifest, report.manifest_sha256) {
        let files = manifest.files.len();
        out.line(&format!("  bundle {} of {}, {files} files", manifest.bundle_id, manifest.created_at))?;
        out.line(&format!("  manifest SHA-256 {digest}"))?;
    }
    if let Some(audit) = &report.audit {
        let ledger = audit.ledger_id.as_deref().unwrap_or("unknown");
        let to = (audit.from + audit.entries).saturating_sub(1);
        out.line(&format!("  ledger {ledger}: entries {} to {to} chain, head {}", audit.from, audit.head))?;
        if !audit.redacted.is_empty() {
            let count = audit.redacted.len();
            out.line(&format!(
                "  {count} of them were masked: their places are proven, their content is not"
            ))?;
        }
    }
    Ok(exit)
}
