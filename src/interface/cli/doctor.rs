//! `swarmgate doctor`: is everything around the router as it must be?
//!
//! Owns: the list of checks, how each is told, and those of the connection and of other routers.
//! Never: changes anything, on the broker or on the disk.
//! Holds: a check that could not be made says so and why; it never counts as passed.

mod broker_side;
mod guest;
mod host;
mod management;
mod permissions;
mod policies;
mod queues;
mod ways;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;

use super::{CliError, Exit, Globals, Out, access::Access, client::Connect};
use crate::{
    bus::{
        Bus, BusError, Departure,
        amqp::{self, Amqp},
    },
    config::Loaded,
    contract::message::{Message, Properties},
    runtime::{
        broker::Broker,
        presence::{self, announcement::Announcement},
        topology,
    },
    view::overview::Overview,
};
use management::Management;

/// How to let it look at the broker's side.
const ALLOW: &str = "enable rabbitmq_management, give a user of it the tag `administrator` (with `monitoring` it sees neither permissions nor policies), and name it with --management http://USER:PASSWORD@HOST:15672 or `amqp.management_url`";

/// How long it is waited for what the broker says of an alarm.
const ALARM_WAIT: Duration = Duration::from_secs(2);

/// Look at the broker, the ledger and the clock, and say what to mend.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Beside the broker, with its management on port 15672:
    swarmgate doctor --amqp amqp://swarmgate:PASSWORD@broker:5672/%2f
  With the ledger, and management elsewhere:
    swarmgate doctor --ledger /var/lib/swarmgate --management http://broker:8081
  What only an administrator of the broker is told, too: permissions and policies:
    swarmgate doctor --management http://ADMIN:PASSWORD@broker:15672
  From another machine than the router's:
    swarmgate doctor --amqp URL --api http://gate.internal:8080")]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The management API, http only (amqp.management_url); the broker's host on port 15672 when
    /// absent.
    #[arg(long, value_name = "URL")]
    management: Option<String>,
    /// The ledger's directory (ledger.dir).
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
    Skipped,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
        }
    }
}

/// One check.
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do; empty when there is nothing to do.
    next: String,
    /// The queue or exchange that it is about, and what of it.
    about: Option<(String, String)>,
}

/// Everything that was looked at.
#[derive(Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn add(&mut self, name: &'static str, state: State, found: impl Into<String>, next: &str) {
        self.0.push(Check { name, state, found: found.into(), next: next.to_owned(), about: None });
    }

    fn add_finding(&mut self, finding: queues::Finding) {
        let queues::Finding { check, state, object, property, means, next } = finding;
        let found = format!("`{object}`: {property}: {means}");
        self.0.push(Check { name: check, state, found, next, about: Some((object, property)) });
    }
}

/// Looks.
///
/// # Errors
/// When the config is wrong. An unreachable broker is a finding, and the exit code says it.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let loaded = args.connect.config(globals)?;
    let mut findings = Findings::default();
    let known = Broker::new(&loaded.config);
    api(&args.access, globals, &mut findings).await?;
    let mut whom = Whom { users: loaded.config.amqp.user().into_iter().collect(), runs: false };
    let reachable = match known.open().await {
        Ok(bus) => {
            broker(&loaded, &bus, &mut findings).await;
            refused(&loaded, &bus, &mut findings).await;
            let running = router(&loaded, bus.clone(), &mut findings).await;
            whom.learn(&running);
            nodes(&known, &loaded.config.amqp.prefix, &mut findings).await;
            bus.close().await;
            true
        }
        Err(fault) => {
            let next = fault.help().unwrap_or(match fault.denies() {
                true => "correct user, password or virtual host in `amqp.url` or --amqp",
                false => "start it, or correct --amqp",
            });
            let name = if matches!(fault, BusError::Tls { .. }) { "tls" } else { "broker" };
            findings.add(name, State::Fail, fault.to_string(), next);
            false
        }
    };
    let url = known.options().map(|options| options.url.as_str()).unwrap_or_default();
    let named = loaded.config.amqp.management_url.as_ref().map(|url| url.expose());
    match Management::open(args.management.as_deref().or(named), url).await {
        Ok(management) => {
            permissions::look(&loaded, &management, &whom, &mut findings).await;
            broker_side::look(&loaded, &management, &mut findings).await;
        }
        Err(why) => {
            let why = format!("the management API cannot be asked: {why}");
            findings.add("permissions", State::Skipped, why, ALLOW);
            let unseen = "not looked at: policies that can drop what waits, queues of subscribers that reject, and nodes that are missing";
            findings.add("broker side", State::Skipped, unseen, ALLOW);
        }
    }
    let mut place = loaded.config.ledger.clone();
    place.dir = args.ledger.unwrap_or(place.dir);
    host::look(&place, loaded.config.clock.ahead_max_ms, &mut findings).await;
    tell(&findings, globals)?;
    let failed = findings.0.iter().any(|check| check.state == State::Fail);
    Ok(match (reachable, failed) {
        (false, _) => Exit::Broker,
        (true, true) => Exit::Fault,
        (true, false) => Exit::Done,
    })
}

fn tell(findings: &Findings, globals: &Globals) -> Result<(), CliError> {
    let mut out = Out::new();
    for Check { name, state, found, next, about } in &findings.0 {
        if globals.is_json() {
            let mut row = json!({ "check": name, "state": state.word(), "found": found, "next": next });
            if let Some((object, property)) = about {
                row["object"] = object.as_str().into();
                row["property"] = property.as_str().into();
            }
            out.json(&row)?;
            continue;
        }
        out.line(&format!("{:<8} {name}: {found}", state.word()))?;
        if *state != State::Ok && !next.is_empty() {
            out.line(&format!("         → {next}"))?;
        }
    }
    Ok(())
}

/// Publishes a message to nobody: the broker tells of an alarm whoever publishes, and only him.
async fn provoke(bus: &Amqp) {
    let message = Message {
        exchange: String::new(),
        routing_key: "swarmgate.doctor.nobody".to_owned(),
        properties: Properties::default(),
        body: Bytes::new(),
    };
    let Ok(publisher) = bus.publisher().await else { return };
    // Under an alarm no confirm comes. A user who may not publish that learns nothing of it.
    let _ = publisher.publish(&[&Departure { message, mandatory: false }], ALARM_WAIT).await;
}

async fn broker(loaded: &Loaded, bus: &Amqp, findings: &mut Findings) {
    let server = bus.server();
    let product = server.product.as_deref().unwrap_or("an unknown broker");
    let version = server.version.as_deref().unwrap_or("of an unknown version");
    let address = bus.address().unwrap_or_default();
    findings.add("broker", State::Ok, format!("{product} {version} at {address}"), "");
    if server.major().is_none_or(|major| major < 4) {
        findings.add(
            "broker version",
            State::Warn,
            "before 4.0 CC and BCC headers go round topic permissions",
            "keep write permission on `swarmgate.out` to the router alone (docs/operating/broker-permissions.md)",
        );
    }
    provoke(bus).await;
    match bus.blocked() {
        Some(reason) => {
            findings.add(
                "alarm",
                State::Fail,
                reason,
                "free memory or disk on the broker; nobody can publish now",
            );
        }
        None => findings.add("alarm", State::Ok, "no alarm was told", ""),
    }
    let prefix = &loaded.config.amqp.prefix;
    for name in ["in", "in.unknown", "out", "refused"].map(|name| format!("{prefix}.{name}")) {
        match bus.exists(&name).await {
            Ok(true) => findings.add("exchange", State::Ok, format!("`{name}` is there"), ""),
            Ok(false) => findings.add(
                "exchange",
                State::Warn,
                format!("`{name}` is not there"),
                "`swarmgate run` declares it at its start",
            ),
            Err(fault) => {
                findings.add("exchange", State::Fail, fault.to_string(), "see the user's permissions")
            }
        }
    }
}

/// As whom the router connects to the broker.
struct Whom {
    /// The users of those that run, or else of this config.
    users: Vec<String>,
    /// A running router said so.
    runs: bool,
}

impl Whom {
    /// What running routers say goes before what this config says: it may be another user's.
    fn learn(&mut self, running: &[Announcement]) {
        let users: Vec<String> = running.iter().filter_map(|router| router.user.clone()).collect();
        if !users.is_empty() {
            *self = Self { users, runs: true };
        }
    }

    /// For people.
    fn told(&self) -> String {
        let named = format!("`{}`", self.users.join("`, `"));
        let (who, verb) =
            if self.runs { ("the running router", "is") } else { ("this config", "connects as") };
        format!("{named} ({who} {verb} that user)")
    }
}

/// Who answers at the API.
async fn api(access: &Access, globals: &Globals, findings: &mut Findings) -> Result<(), CliError> {
    let router = access.router(globals)?;
    match router.page::<Overview>("overview").await {
        Ok(seen) => {
            let Overview { instance, version, mode, environment, ledger, broker, .. } = seen;
            let (state, rest) = match (broker.connected, ledger.writable) {
                (true, true) => (State::Ok, "it has its broker and can write its ledger"),
                (false, true) => (State::Fail, "it has no connection to its broker"),
                (true, false) => (State::Fail, "it cannot write its ledger: only stops pass"),
                (false, false) => (State::Fail, "it has neither its broker nor a ledger that can be written"),
            };
            let found = format!(
                "`{instance}` answers at {}: version {version}, mode {mode}, environment {environment}; {rest}",
                router.url()
            );
            findings.add("api", state, found, "`/readyz` beside it says what it lacks");
        }
        Err(fault) => findings.add(
            "api",
            State::Skipped,
            format!("no router was asked at {}: {fault}", router.url()),
            "start it, or name its address with --api or http.addr",
        ),
    }
    Ok(())
}

/// How many refused copies nobody has looked at.
async fn refused(loaded: &Loaded, bus: &Amqp, findings: &mut Findings) {
    let queue = topology::refused_queue(&loaded.config.amqp.prefix);
    let name = "refused copies";
    match bus.counts(&queue).await {
        Ok(None) => {}
        Ok(Some(counts)) if counts.ready == 0 => findings.add(name, State::Ok, format!("none waits in `{queue}`"), ""),
        Ok(Some(counts)) => findings.add(
            name,
            State::Warn,
            format!("{} wait in `{queue}`; when it is full the oldest go", counts.ready),
            "`swarmgate refused list` shows who was refused what; mend it, then `refused replay` or purge the queue",
        ),
        Err(fault) => findings.add(name, State::Skipped, fault.to_string(), "see the user's permissions"),
    }
}

/// Who runs on the prefix.
async fn router(loaded: &Loaded, bus: Arc<dyn Bus>, findings: &mut Findings) -> Vec<Announcement> {
    let prefix = &loaded.config.amqp.prefix;
    let name = "router";
    let none = Vec::new();
    match bus.exists(&topology::routers(prefix)).await {
        Ok(true) => {}
        Ok(false) => {
            findings.add(name, State::Ok, "none has run here yet", "");
            return none;
        }
        Err(fault) => {
            findings.add(name, State::Skipped, fault.to_string(), "see the user's permissions");
            return none;
        }
    }
    let lock = topology::router_lock(prefix);
    if let Ok(Some(_)) = bus.counts(&lock).await {
        let found = format!("`{lock}` is a queue that is not exclusive: no router can have it");
        let next =
            "delete it: until then each start waits for three heartbeats for other routers, and two may meet";
        findings.add("router lock", State::Fail, found, next);
    }
    let running = match presence::look(&bus, prefix).await {
        Ok(running) => running,
        Err(fault) => {
            let next = "ask as the router's user, who may read `PREFIX.routers`";
            findings.add(name, State::Skipped, fault.to_string(), next);
            return none;
        }
    };
    match running.as_slice() {
        [] => findings.add(name, State::Ok, "none runs on this prefix", ""),
        [one] => findings.add(name, State::Ok, format!("{one} runs on this prefix"), ""),
        several => {
            let named: Vec<String> = several.iter().map(ToString::to_string).collect();
            let next = "stop all but one: one prefix has one router";
            findings.add(name, State::Fail, named.join("; "), next);
        }
    }
    for other in &running {
        if let Some(since) = other.not_alone_since {
            let found = format!("`{}` was not alone on this prefix since {since}", other.instance);
            let next = "see its log for the other; what both forwarded may have had two effects";
            findings.add("router alone", State::Warn, found, next);
        }
        let ours = loaded.config.environment.word();
        if other.environment != ours {
            let found = format!(
                "`{}` is of environment {}, this config of {ours}",
                other.instance, other.environment
            );
            findings.add("environment", State::Warn, found, "name the config of that router with --config");
        }
    }
    running
}

/// Where there are several addresses: whether each is good for anything.
async fn nodes(known: &Broker, prefix: &str, findings: &mut Findings) {
    let addresses = known.addresses();
    if addresses.len() < 2 {
        return;
    }
    let connecting = addresses.iter().map(|options| async {
        let bus = amqp::connect(options).await?;
        let marked = bus.exists(&topology::site(prefix)).await.ok();
        bus.close().await;
        Ok::<_, BusError>(marked)
    });
    let found = join_all(connecting).await;
    let is_marked = found.iter().any(|found| matches!(found, Ok(Some(true))));
    for (options, connected) in addresses.iter().zip(found) {
        match connected {
            Ok(Some(false)) if is_marked => {
                let found = format!(
                    "{} is another broker than one of the others: it has no `{}`",
                    amqp::address(&options.url),
                    topology::site(prefix)
                );
                let next = "take it out of `amqp.urls`, which names the nodes of one cluster: what waits at one is not seen at the other";
                findings.add("another broker", State::Fail, found, next);
            }
            Ok(_) => {
                findings.add("node", State::Ok, format!("{} lets us in", amqp::address(&options.url)), "");
            }
            Err(fault) => findings.add(
                "node",
                State::Warn,
                fault.to_string(),
                fault.help().unwrap_or(
                    "start it, or correct `amqp.urls`: while it is away there is one node less to go to",
                ),
            ),
        }
    }
}
