//! `swarmgate doctor`: is everything around the router as it must be?
//!
//! Owns: the list of checks, each with what to do when it fails.
//! Never: changes anything, on the broker or on the disk.
//! Holds: a check that could not be made says so and why; it never counts as passed.

mod broker_side;
mod management;
mod policies;
mod queues;

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{CliError, Exit, Globals, Out, client::Connect};
use crate::{
    bus::{
        Bus, BusError,
        amqp::{self, Amqp},
    },
    contract::lane::Lane,
    ledger::{
        emergency,
        query::Reader,
        size::{Size, WAL_AT_REST_BYTES},
        verify,
    },
    runtime::{broker::Broker, clock, config::Loaded, presence, topology},
};
use management::Management;

/// From this size on a write-ahead log is one that a reader keeps from being emptied.
const WAL_WORTH_A_WARNING_BYTES: u64 = 2 * WAL_AT_REST_BYTES;
/// Free bytes below which the disk of a ledger is worth a warning.
const DISK_FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// Seconds that the broker's clock may differ.
const CLOCK_SKEW_S_MAX: i64 = 5;
/// The largest message a broker should take, beside bodies of 256 KiB.
const MESSAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How to let it look at the broker's side.
const ALLOW: &str = "enable rabbitmq_management, give a user of it the tag `monitoring`, and name it with --management http://USER:PASSWORD@HOST:15672 or `amqp.management_url`";

/// Look at the broker, the ledger and the clock, and say what to mend.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Beside the broker, with its management on port 15672:
    swarmgate doctor --amqp amqp://swarmgate:PASSWORD@broker:5672/%2f
  With the ledger, and management elsewhere:
    swarmgate doctor --ledger /var/lib/swarmgate --management http://broker:8081")]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The management API, http only (amqp.management_url); the broker's host on port 15672 when absent.
    #[arg(long, value_name = "URL")]
    management: Option<String>,
    /// The ledger's directory (ledger.dir).
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
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
    let reachable = match known.open().await {
        Ok(bus) => {
            broker(&loaded, &bus, &mut findings).await;
            router(&loaded, bus.clone(), &mut findings).await;
            nodes(&known, &mut findings).await;
            bus.close().await;
            true
        }
        Err(fault) => {
            findings.add("broker", State::Fail, fault.to_string(), "start it, or correct --amqp");
            false
        }
    };
    let url = known.options().map(|options| options.url.as_str()).unwrap_or_default();
    let named = loaded.config.amqp.management_url.as_ref().map(|url| url.expose());
    match Management::open(args.management.as_deref().or(named), url).await {
        Ok(management) => {
            permissions(&loaded, &management, &mut findings).await;
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
    ledger(&place.dir, loaded.config.clock.ahead_max_ms, &mut findings).await;
    emergency_log(&place.dir, &place.emergency_place(), &mut findings);
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

/// Who runs on the prefix.
async fn router(loaded: &Loaded, bus: Arc<dyn Bus>, findings: &mut Findings) {
    let prefix = &loaded.config.amqp.prefix;
    let name = "router";
    match bus.exists(&topology::routers(prefix)).await {
        Ok(true) => {}
        Ok(false) => return findings.add(name, State::Ok, "none has run here yet", ""),
        Err(fault) => {
            return findings.add(name, State::Skipped, fault.to_string(), "see the user's permissions");
        }
    }
    let running = match presence::look(&bus, prefix).await {
        Ok(running) => running,
        Err(fault) => {
            return findings.add(
                name,
                State::Skipped,
                fault.to_string(),
                "ask as the router's user, who may read `PREFIX.routers`",
            );
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
}

/// Where there are several addresses: whether each is good for anything.
async fn nodes(known: &Broker, findings: &mut Findings) {
    let addresses = known.addresses();
    if addresses.len() < 2 {
        return;
    }
    let connecting = addresses.iter().map(|options| async {
        let bus = amqp::connect(options).await?;
        bus.close().await;
        Ok::<(), BusError>(())
    });
    for (options, connected) in addresses.iter().zip(join_all(connecting).await) {
        match connected {
            Ok(()) => {
                findings.add("node", State::Ok, format!("{} lets us in", amqp::address(&options.url)), "");
            }
            Err(fault) => findings.add(
                "node",
                State::Warn,
                fault.to_string(),
                "start it, or correct `amqp.urls`: while it is away there is one node less to go to",
            ),
        }
    }
}

async fn permissions(loaded: &Loaded, management: &Management, findings: &mut Findings) {
    let prefix = &loaded.config.amqp.prefix;
    for lane in Lane::ALL {
        let name = topology::lane_queue(prefix, lane);
        let found = management.get(&format!("/api/queues/{}/{name}", management.vhost)).await;
        let kind = found.as_ref().ok().and_then(|queue| queue.get("type")?.as_str().map(str::to_owned));
        match kind.as_deref() {
            Some("quorum") => findings.add("queue", State::Ok, format!("`{name}` is a quorum queue"), ""),
            Some(kind) if lane == Lane::Metrics => {
                findings.add("queue", State::Ok, format!("`{name}` is a {kind} queue"), "");
            }
            Some(kind) => findings.add(
                "queue",
                State::Fail,
                format!("`{name}` is a {kind} queue: a confirm does not mean that it is on the disk"),
                "delete it while the router is stopped; the router declares it as a quorum queue",
            ),
            None => findings.add(
                "queue",
                State::Warn,
                format!("`{name}` is not there"),
                "`swarmgate run` declares it",
            ),
        }
    }
    if management.guest_can_log_in().await {
        findings.add(
            "guest",
            State::Warn,
            "the user `guest` has its default password",
            "delete it or change its password",
        );
    } else {
        findings.add("guest", State::Ok, "the default user has no default password", "");
    }
    match management.get("/api/permissions").await {
        Ok(Value::Array(rows)) => writers(prefix, &rows, management, findings),
        Ok(_) => findings.add("permissions", State::Skipped, "the answer cannot be read", ""),
        Err(why) => findings.add(
            "permissions",
            State::Skipped,
            why,
            "give the asking user the `monitoring` tag, or name another with --management",
        ),
    }
    limits(management, findings);
}

/// What the broker tells of its clock and its limits.
fn limits(management: &Management, findings: &mut Findings) {
    match management.clock_skew_s {
        Some(skew) if skew.abs() <= CLOCK_SKEW_S_MAX => {
            findings.add(
                "broker clock",
                State::Ok,
                format!("within {CLOCK_SKEW_S_MAX} s of the broker's"),
                "",
            );
        }
        Some(skew) => findings.add(
            "broker clock",
            State::Warn,
            format!("{skew} s from the broker's"),
            "run NTP on both",
        ),
        None => findings.add("broker clock", State::Skipped, "the broker told no time", ""),
    }
    match management.message_bytes_max {
        Some(bytes) if bytes <= MESSAGE_BYTES_MAX => {
            findings.add("message size", State::Ok, format!("the broker takes at most {bytes} bytes"), "");
        }
        Some(bytes) => findings.add(
            "message size",
            State::Warn,
            format!("the broker takes messages of up to {bytes} bytes"),
            "set max_message_size = 1048576 in rabbitmq.conf",
        ),
        None => findings.add(
            "message size",
            State::Warn,
            "the broker does not tell its limit; by default it is 128 MiB (3.x) or 16 MiB (4.x)",
            "set max_message_size = 1048576 in rabbitmq.conf",
        ),
    }
}

/// Who could go round the gate: write to `<prefix>.out`, to the default exchange, or to `amq.*`.
fn writers(prefix: &str, rows: &[Value], management: &Management, findings: &mut Findings) {
    let out = format!("{prefix}.out");
    let mut others = Vec::new();
    for row in
        rows.iter().filter(|row| row.get("vhost").and_then(Value::as_str) == Some(&management.vhost_name))
    {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let Ok(write) = regex::Regex::new(text("write")) else { continue };
        let ways: Vec<&str> = [out.as_str(), "amq.default", "amq.topic"]
            .into_iter()
            .filter(|exchange| !text("write").is_empty() && write.is_match(exchange))
            .collect();
        if text("user") != management.user && !ways.is_empty() {
            others.push(format!("`{}` may write {}", text("user"), ways.join(", ")));
        }
    }
    if others.is_empty() {
        findings.add(
            "permissions",
            State::Ok,
            format!("nobody but `{}` can go round the gate", management.user),
            "",
        );
    } else {
        findings.add(
            "permissions",
            State::Fail,
            others.join("; "),
            "narrow their write patterns to `swarmgate.in` and their own queues (docs/operating/broker-permissions.md)",
        );
    }
}

/// Whether the clock agrees with the ledger's last entry.
async fn time(dir: &Path, ahead_max_ms: u64, findings: &mut Findings) {
    let Ok(reader) = Reader::open(dir).await else { return };
    let Ok(last) = reader.tail(1).await else { return };
    let Some(last) = last.last() else { return };
    let (last, wall) = (last.entry.fact.at, clock::wall());
    let (state, found) = if last > wall.plus_ms(ahead_max_ms) {
        (
            State::Fail,
            format!("it says {wall}, and the ledger's last entry is of {last}: the router starts in SAFE"),
        )
    } else {
        (State::Ok, "it is not behind the ledger's last entry".to_owned())
    };
    findings.add(
        "clock",
        state,
        found,
        "set the clock right, or accept it (docs/operating/runbooks/clock.md)",
    );
}

async fn ledger(dir: &Path, ahead_max_ms: u64, findings: &mut Findings) {
    if !dir.exists() {
        findings.add(
            "ledger",
            State::Warn,
            format!("there is none at `{}` yet", dir.display()),
            "`swarmgate run` begins it",
        );
        return;
    }
    match verify::verify(dir).await {
        Ok(report) => match report.fault {
            None => {
                findings.add("ledger", State::Ok, format!("{} entries, all good", report.entries), "");
                time(dir, ahead_max_ms, findings).await;
            }
            Some(fault) => findings.add(
                "ledger",
                State::Fail,
                fault.to_string(),
                "keep this file, and restore the directory from a copy (docs/operating/ledger.md)",
            ),
        },
        Err(fault) => findings.add("ledger", State::Fail, fault.to_string(), "see docs/operating/ledger.md"),
    }
    let Size { wal_bytes, .. } = Size::of(dir);
    if wal_bytes > WAL_WORTH_A_WARNING_BYTES {
        findings.add(
            "write-ahead log",
            State::Warn,
            format!("{} MiB: somebody reads the ledger and does not let go", wal_bytes / 1024 / 1024),
            "end whoever has `ledger.sqlite` open; at `ledger.wal_max_bytes` only stop passes",
        );
    }
    match fs4::available_space(dir) {
        Ok(free) if free >= DISK_FREE_BYTES_MIN => {
            findings.add("disk", State::Ok, format!("{} MiB free", free / 1024 / 1024), "");
        }
        Ok(free) => {
            findings.add("disk", State::Warn, format!("{} MiB free", free / 1024 / 1024), "make room")
        }
        Err(fault) => findings.add("disk", State::Skipped, fault.to_string(), ""),
    }
}

/// Whether there is a sound place to write what passes while the ledger cannot be written.
fn emergency_log(dir: &Path, path: &Path, findings: &mut Findings) {
    const NAME: &str = "emergency log";
    match emergency::read(path) {
        Err(emergency::EmergencyError::Missing(_)) => {
            let found = format!("there is none at `{}` yet", path.display());
            findings.add(NAME, State::Warn, found, "`swarmgate run` makes it");
        }
        Err(fault) => findings.add(NAME, State::Fail, fault.to_string(), "see docs/operating/ledger.md"),
        Ok(found) if found.records.is_empty() => {
            findings.add(NAME, State::Ok, format!("`{}` is empty", path.display()), "");
        }
        Ok(found) => findings.add(
            NAME,
            State::Warn,
            format!("`{}` holds {} entries", path.display(), found.records.len()),
            "mend the ledger; a router that runs, or the next start, appends them",
        ),
    }
    let device = |place: &Path| std::fs::metadata(place).ok().map(|place| place.dev());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (name, next) = ("emergency place", "name a file on another disk in `ledger.emergency_path`");
    match (device(dir), device(parent)) {
        (Some(one), Some(other)) if one != other => {
            findings.add(name, State::Ok, "on another file system than the ledger", "");
        }
        (Some(_), Some(_)) => {
            let found = "on the ledger's own file system: a disk that fails takes both";
            findings.add(name, State::Warn, found, next);
        }
        (_, None) if parent != dir => {
            let found = format!("the directory `{}` cannot be read", parent.display());
            findings.add(name, State::Fail, found, "make it: the router does not start without its place");
        }
        _ => findings.add(name, State::Skipped, "there is no ledger to compare with", ""),
    }
}
