//! Gathering: what a router and its ledger can tell, and what they cannot.
//!
//! Owns: which pages are asked for and how they become members, and reading the latest entries of a
//! ledger.
//! Never: fails as a whole: what cannot be had is told as missing, with the reason. Writes nothing.
//! Holds: at most one page and the excerpt's bytes are read beyond what is kept.

use std::path::Path;

use serde_json::{Value, json};

use super::{BundleLimits, Detector, Excerpt, SCHEMA_VERSION, Source, Sources};
use crate::{
    config::{BrokerUrl, Config},
    contract::audit::Change,
    ledger::{
        LedgerError,
        query::{Filter, Reader},
    },
    telemetry::Telemetry,
    view::PAGE_MAX,
};

/// Entries that are read at a time, from the end on.
const ENTRIES_READ: u64 = 64;

/// What a router is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// The router itself, and totals.
    Overview,
    /// Every swarm.
    Swarms,
    /// Instances of a swarm, from behind `after` (`role/instance`) on.
    Instances {
        /// The swarm.
        swarm: String,
        /// Where the page before ended.
        after: Option<String>,
    },
    /// Commands in flight, or those that wait for their target.
    Commands {
        /// Only those that wait.
        parked: bool,
    },
    /// Safety modes, kill switches and gates.
    Safety,
    /// Challenges that are open.
    Challenges,
}

/// Somebody who answers for a router: itself, or its API.
pub trait Pages: Sync {
    /// The page in the shape of the API, or why it cannot be had.
    fn page(&self, page: &Page) -> impl Future<Output = Source<Value>> + Send;
}

/// All that a running router tells from within, with the excerpt of its ledger.
pub async fn of_router(
    pages: &impl Pages,
    telemetry: &Telemetry,
    config: &Config,
    ledger: &Path,
    limits: &BundleLimits,
) -> Sources {
    let mut sources = of_pages(pages, limits).await;
    let lacks = telemetry.health.lacks();
    let missing: Vec<Value> =
        lacks.iter().map(|lack| json!({ "what": lack.word(), "why": lack.meaning() })).collect();
    let status = if missing.is_empty() { "ready" } else { "not-ready" };
    sources.health = Ok(health(sources.health, Ok(json!({ "status": status, "missing": missing }))));
    sources.metrics = Ok(telemetry.metrics.encode());
    sources.take_config(config);
    if let Ok(config) = &mut sources.config {
        telemetry.reload_into(config);
    }
    sources.audit = excerpt(ledger, limits).await;
    sources
}

/// All that is told page by page; `health` is the overview alone.
pub async fn of_pages(pages: &impl Pages, limits: &BundleLimits) -> Sources {
    let mut sources = Sources::absent("it was not asked for");
    sources.health = pages.page(&Page::Overview).await;
    let mut safety = pages.page(&Page::Safety).await;
    sources.gates = match safety.as_mut().map(|page| page.as_object_mut()) {
        Ok(Some(page)) => match page.remove("gates") {
            Some(gates) => Ok(json!({ "gates": gates })),
            None => Err("the router tells of no gates".to_owned()),
        },
        Ok(None) => Err("the router tells of no gates".to_owned()),
        Err(why) => Err(why.clone()),
    };
    sources.safety = safety;
    sources.challenges = pages.page(&Page::Challenges).await;
    sources.commands = commands(pages, &mut sources.cut).await;
    sources.inventory = inventory(pages, limits, &mut sources.cut).await;
    sources
}

/// The member of that name: what it can do now, and its totals.
pub fn health(overview: Source<Value>, ready: Source<Value>) -> Value {
    let told = |source: Source<Value>| source.unwrap_or_else(|why| json!({ "missing": why }));
    json!({ "ready": told(ready), "overview": told(overview) })
}

/// The releases of what makes a bundle.
pub fn versions() -> Value {
    json!({
        "swarmgate": env!("CARGO_PKG_VERSION"), "bundle": SCHEMA_VERSION,
        "os": std::env::consts::OS, "arch": std::env::consts::ARCH,
    })
}

impl Sources {
    /// Takes the config, and looks everywhere for the secrets that it holds.
    pub fn take_config(&mut self, config: &Config) {
        self.config = serde_json::to_value(config).map_err(|fault| fault.to_string());
        let urls = config.amqp.addresses().iter().chain(&config.amqp.management_url);
        let passwords: Vec<String> = urls.flat_map(passwords).collect();
        self.detector = Detector::knowing(passwords.iter().map(String::as_str));
    }
}

/// The latest entries of a ledger, live or a copy; only read.
///
/// # Errors
/// In words, when there is no ledger or it cannot be read.
pub async fn excerpt(ledger: &Path, limits: &BundleLimits) -> Source<Excerpt> {
    let read = async {
        let reader = Reader::open(ledger).await?;
        latest(&reader, limits).await
    };
    read.await.map_err(|fault| fault.to_string())
}

async fn latest(reader: &Reader, limits: &BundleLimits) -> Result<Excerpt, LedgerError> {
    let first = reader.entry(1).await?;
    let ledger_id = first.and_then(|first| match first.entry.fact.change {
        Change::Genesis(genesis) => Some(genesis.ledger_id),
        _ => None,
    });
    let mut entries = Vec::new();
    let (mut bytes, mut to) = (0_u64, reader.last_seq().await?);
    'reading: while to > 0 {
        let from = to.saturating_sub(ENTRIES_READ - 1).max(1);
        let filter = Filter { from: Some(from), to: Some(to), ..Filter::default() };
        for entry in reader.select(&filter, usize::MAX).await?.into_iter().rev() {
            bytes = bytes.saturating_add(entry.bytes.len() as u64 + 1);
            if bytes > limits.audit_bytes_max || entries.len() as u64 >= limits.audit_entries_max {
                break 'reading;
            }
            entries.push(entry);
        }
        to = from - 1;
    }
    entries.reverse();
    Ok(Excerpt { ledger_id, entries })
}

async fn commands(pages: &impl Pages, cut: &mut Vec<(String, String)>) -> Source<Value> {
    let in_flight = pages.page(&Page::Commands { parked: false }).await?;
    let parked = pages.page(&Page::Commands { parked: true }).await?;
    let list = |page: &Value| page.get("commands").cloned().unwrap_or_default();
    let has_more = |page: &Value| page.get("more").and_then(Value::as_bool) == Some(true);
    if has_more(&in_flight) || has_more(&parked) {
        cut.push(("commands.json".to_owned(), format!("only the newest {PAGE_MAX} of a kind are told")));
    }
    Ok(json!({ "inFlight": list(&in_flight), "parked": list(&parked) }))
}

async fn inventory(
    pages: &impl Pages,
    limits: &BundleLimits,
    cut: &mut Vec<(String, String)>,
) -> Source<Value> {
    let page = pages.page(&Page::Swarms).await?;
    let mut swarms = page.get("swarms").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut left = limits.instances_max;
    for swarm in &mut swarms {
        let Some(id) = swarm.get("swarmId").and_then(Value::as_str).map(str::to_owned) else { continue };
        let (instances, why) = instances(pages, &id, left).await;
        left -= instances.len();
        if let Some(why) = why {
            cut.push(("inventory.json".to_owned(), why));
        }
        if let Some(swarm) = swarm.as_object_mut() {
            swarm.insert("instances".to_owned(), instances.into());
        }
    }
    Ok(json!({ "swarms": swarms }))
}

/// At most `count_max` instances of a swarm, and why there are no more of them.
async fn instances(pages: &impl Pages, swarm: &str, count_max: usize) -> (Vec<Value>, Option<String>) {
    let mut instances: Vec<Value> = Vec::new();
    let mut after = None;
    loop {
        if instances.len() >= count_max {
            let why = format!("only the first {count_max} instances of a swarm are told: `instances_max`");
            return (instances, Some(why));
        }
        let page = match pages.page(&Page::Instances { swarm: swarm.to_owned(), after }).await {
            Ok(page) => page,
            Err(why) => return (instances, Some(format!("not every instance of a swarm is told: {why}"))),
        };
        let found = page.get("instances").and_then(Value::as_array).cloned().unwrap_or_default();
        let room = count_max - instances.len();
        let is_cut = found.len() > room;
        instances.extend(found.into_iter().take(room));
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() && !is_cut {
            return (instances, None);
        }
    }
}

/// The password within a broker's URL, as it is written and as it is meant.
fn passwords(url: &BrokerUrl) -> Vec<String> {
    let rest = url.expose().split_once("://").map_or("", |(_, rest)| rest);
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    let Some((_, password)) = user.split_once(':') else { return Vec::new() };
    let mut bytes = Vec::new();
    let mut rest = password.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|code| str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    vec![password.to_owned(), String::from_utf8_lossy(&bytes).into_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_as_written_and_as_meant() {
        let of = |url: &str| passwords(&BrokerUrl::new(url));
        assert_eq!(of("amqp://u:p%40ss%2@h/v"), ["p%40ss%2", "p@ss%2"]);
        assert_eq!(of("amqp://u@h/v"), [""; 0]);
        assert_eq!(of("amqp://h:5672/v"), [""; 0]);
    }
}
