//! `swarmgate demo`: the corridor at work, with nothing to set up.
//!
//! Owns: the guided run: what is sent, what is expected of each, and how it is told.
//! Never: touches anything but a temporary directory.
//! Holds: the demo fails when Swarmgate does not do what the demo says it does.

mod live;
mod swarm;

use std::{collections::VecDeque, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{CliError, Exit, Globals, Out};
use crate::{
    bus::{Bus, Consumer, Delivery, embedded::Embedded},
    clock,
    config::{self, FlagSetting, Layers, Loaded},
    contract::{
        message::Message,
        routing::{ControlPlaneRouting, Family, Scope},
        timestamp::Timestamp,
    },
    interface::{
        api::Desk,
        http::{self, Window},
    },
    ledger::{Ledger, query::Reader, verify},
    runtime::{
        boot::{self, Running},
        link::SteadyBus,
        setup,
    },
    telemetry::Telemetry,
};
use swarm::{bot, controller, said, signal, worker};

/// How long one step may take before the demo says that it failed.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the demo's absent worker is waited for.
const ABSENT_DEADLINE_MS: u64 = 1_000;
/// When the demo's late worker comes.
const LATE_AFTER: Duration = Duration::from_millis(300);

/// A guided run: no broker, no config, nothing left behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  See Swarmgate work:
    swarmgate demo
  The same for a machine, one JSON object a step:
    swarmgate demo --output json
  Keep the router and its swarm up afterwards, and look at them from another terminal:
    swarmgate demo --keep
    swarmgate inventory")]
pub struct Args {
    /// Stay up after the last step, with the API, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Where the API of a demo that stays up is.
    #[arg(long, value_name = "ADDR", requires = "keep", default_value_t = config::Http::default().addr)]
    http: SocketAddr,
}

/// One thing that is sent, and what must come of it.
struct Step {
    title: &'static str,
    message: Message,
    /// The command whose outcome is waited for, where it is not what is sent.
    answers: Option<Message>,
    expect: Expect,
}

/// What must come of a step.
enum Expect {
    /// The target hears it, and an outcome with this status comes back.
    Outcome(&'static str),
    /// The router itself says how it ended: a sum over many targets, or that nobody answered.
    Word(&'static str),
    /// The worker appears only now, and answers with this status.
    Late(Scope, &'static str),
    /// It lands on `swarmgate.refused` with this reason.
    Refused(&'static str),
}

/// Runs the demo.
///
/// # Errors
/// When a part of it cannot start, or does not do what it says.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let dir =
        tempfile::tempdir().map_err(|fault| CliError::file(Path::new("a temporary directory"), &fault))?;
    let ledger = dir.path().join("ledger");
    let bus: Arc<dyn Bus> = Arc::new(Embedded::new());
    let mut telling = Telling { json: globals.is_json(), out: Out::new() };
    telling.title(
        "Swarmgate's demo: an embedded bus, a temporary ledger, a swarm of a controller, two workers and a bot that trades",
    )?;
    let second_person = FlagSetting {
        flag: "the demo".to_owned(),
        path: "consent.live_requires".to_owned(),
        value: "second-person".to_owned(),
    };
    let mut loaded = config::load(&Layers { flags: vec![second_person], ..Layers::default() })?;
    loaded.config.ledger.dir = ledger.clone();
    // Nobody answers the demo's `bot-init`, and nobody wants to wait two minutes to see that.
    loaded.config.deadlines.0.insert("swarm_plan_ms".to_owned(), ABSENT_DEADLINE_MS);
    let telemetry = Arc::new(Telemetry::default());
    loaded.config.http.addr = args.http;
    let kept = if args.keep { Some(Kept::open(&loaded, &telemetry).await?) } else { None };
    let standing = Arc::new(SteadyBus(Arc::clone(&bus)));
    let running = boot::start(setup::enforce(&loaded, standing, telemetry)).await?;
    running.link().connected(0).await;
    bus.declare(&swarm::topology("demo.heard", "demo.refused")).await?;
    let mut audience = Audience {
        heard: bus.consumer("demo.heard", 256).await?,
        refused: bus.consumer("demo.refused", 256).await?,
    };
    let mut instances = JoinSet::new();
    for scope in [controller(), worker(1), bot()] {
        swarm::appear(bus.as_ref(), &scope).await?;
        instances.spawn(swarm::run(Arc::clone(&bus), scope));
    }
    let mut failed = 0;
    let mut steps: VecDeque<Step> = steps().into();
    while let Some(step) = steps.pop_front() {
        swarm::publish(bus.as_ref(), step.message.clone()).await?;
        if let Expect::Late(scope, _) = &step.expect {
            tokio::time::sleep(LATE_AFTER).await;
            swarm::appear(bus.as_ref(), scope).await?;
            instances.spawn(swarm::run(Arc::clone(&bus), scope.clone()));
        }
        let seen = audience.wait(&step).await?;
        failed += usize::from(!telling.step(&step, seen.as_ref())?);
        if let Some(challenge) = seen.filter(|_| matches!(step.expect, Expect::Word("ChallengeRequired"))) {
            steps.extend(live::confirmed(&challenge, &loaded.config.instance));
        }
    }
    if let Some(kept) = kept {
        kept.stay(&running, &mut telling).await?;
    }
    running.stop().await;
    instances.shutdown().await;
    failed += usize::from(!tamper(&ledger, dir.path(), &mut telling).await?);
    telling.end(failed)?;
    Ok(if failed == 0 { Exit::Done } else { Exit::Fault })
}

/// Everything the demo shows, in order.
fn steps() -> Vec<Step> {
    let key = ControlPlaneRouting::of(Family::Signal, "swarm-start", &controller());
    let again = "the same command again has no second effect; its outcome is published again";
    let mut steps = vec![
        answered(
            "a command is routed, and its outcome comes back",
            said(&key, "orc-a", start("1")),
            "Running",
        ),
        answered(again, said(&key, "orc-a", start("1")), "Running"),
        refused(
            "the same key with another body is a conflict",
            said(&key, "orc-a", changed("1", "/data", json!({ "requiredWorkers": ["w-1"] }))),
            "command.conflict",
        ),
    ];
    steps.extend(unreadable(&key, start("2")));
    steps.extend(disagreeing(&key));
    steps.extend(overtaking());
    steps.extend(ending());
    steps.extend(live::asked());
    steps
}

fn answered(title: &'static str, message: Message, status: &'static str) -> Step {
    Step { title, message, answers: None, expect: Expect::Outcome(status) }
}

fn refused(title: &'static str, message: Message, reason: &'static str) -> Step {
    Step { title, message, answers: None, expect: Expect::Refused(reason) }
}

/// The body of a start of the controller.
fn start(name: &str) -> String {
    changed(name, "/version", json!("1"))
}

/// The same with one value changed.
fn changed(name: &str, pointer: &str, value: Value) -> String {
    let mut body = signal("swarm-start", &controller(), "orc-a", name, clock::wall());
    // A repeat must be the same command to the letter; the timestamp does not count, the rest does.
    if let Some(place) = body.pointer_mut(pointer) {
        *place = value;
    }
    body.to_string()
}

/// Bodies that can be read and say what they must not.
fn disagreeing(key: &str) -> Vec<Step> {
    let key_of = |kind_type: &str| ControlPlaneRouting::of(Family::Signal, kind_type, &controller());
    let two_days_ago = Timestamp::from_micros(clock::wall().micros() - 172_800_000_000);
    vec![
        refused(
            "a body that breaks its schema",
            said(key, "orc-a", changed("3", "/data", json!("now"))),
            "contract.schema",
        ),
        refused(
            "a type that nobody knows",
            said(&key_of("explode"), "orc-a", changed("4", "/type", json!("explode"))),
            "contract.unknown-type",
        ),
        refused(
            "a routing key that is none",
            said(key.rsplitn(3, '.').last().unwrap_or_default(), "orc-a", start("5")),
            "routing.malformed-key",
        ),
        refused(
            "a key that disagrees with its body",
            said(&key_of("swarm-stop"), "orc-a", start("6")),
            "routing.mismatch",
        ),
        fan_out(),
        refused(
            "a sender who says he is another",
            said(key, "mallory", start("8")),
            "identity.origin-mismatch",
        ),
        refused(
            "a command from two days ago",
            said(key, "orc-a", changed("9", "/timestamp", json!(two_days_ago))),
            "command.expired",
        ),
    ]
}

/// What no reader can agree on is refused before anything else is asked.
fn unreadable(key: &str, body: String) -> Vec<Step> {
    let zipped = Message {
        properties: crate::contract::message::Properties {
            content_encoding: Some("gzip".to_owned()),
            user_id: Some("orc-a".to_owned()),
            ..Default::default()
        },
        ..said(key, "orc-a", body.clone())
    };
    let twice = body.replacen("\"data\":{}", "\"data\":{},\"d\\u0061ta\":{\"x\":1}", 1);
    let deep = body.replacen(
        "\"data\":{}",
        &format!("\"data\":{}{}", "{\"x\":".repeat(40), "1".to_owned() + &"}".repeat(40)),
        1,
    );
    vec![
        refused("a body over 256 KiB", said(key, "orc-a", vec![b' '; 300 * 1024]), "contract.too-large"),
        refused("a compressed body", zipped, "contract.encoding"),
        refused("a body that is not UTF-8", said(key, "orc-a", vec![b'"', 0xff, b'"']), "contract.not-utf8"),
        refused("a body that is not JSON", said(key, "orc-a", "{\"kind\": NaN}"), "contract.not-json"),
        refused("a key named twice, once in disguise", said(key, "orc-a", twice), "contract.duplicate-key"),
        refused("a body nested forty deep", said(key, "orc-a", deep), "contract.too-deep"),
    ]
}

fn fan_out() -> Step {
    let everyone = Scope::new("kestrel", "ALL", "ALL");
    let body = signal("swarm-start", &everyone, "orc-a", "7", clock::wall());
    Step {
        title: "a start for everyone at once",
        message: said(
            &ControlPlaneRouting::of(Family::Signal, "swarm-start", &everyone),
            "orc-a",
            body.to_string(),
        ),
        answers: None,
        expect: Expect::Refused("routing.fan-out-not-allowed"),
    }
}

/// A stop, and a start that was said before it and comes after it.
fn overtaking() -> Vec<Step> {
    let (now, target) = (clock::wall(), controller());
    let step = |kind_type: &str, name, title, at, status| Step {
        title,
        message: said(
            &ControlPlaneRouting::of(Family::Signal, kind_type, &target),
            "orc-a",
            signal(kind_type, &target, "orc-a", name, at).to_string(),
        ),
        answers: None,
        expect: Expect::Outcome(status),
    };
    let earlier = Timestamp::from_micros(now.micros() - 1_000_000);
    vec![
        step("swarm-stop", "10", "a stop is carried by its own lane", now, "Stopped"),
        step(
            "swarm-start",
            "11",
            "a start said before that stop comes late and is superseded",
            earlier,
            "Superseded",
        ),
    ]
}

/// Commands to many, to one who comes late, and to nobody: each has an end.
fn ending() -> Vec<Step> {
    let step = |kind_type: &str, target: &Scope, name, title, expect| Step {
        title,
        message: said(
            &ControlPlaneRouting::of(Family::Signal, kind_type, target),
            "orc-a",
            signal(kind_type, target, "orc-a", name, clock::wall()).to_string(),
        ),
        answers: None,
        expect,
    };
    let everyone = Scope::new("kestrel", "ALL", "ALL");
    vec![
        step(
            "config-update",
            &everyone,
            "12",
            "a command for the whole swarm: each answers, and the router sums it up",
            Expect::Word("Applied"),
        ),
        step(
            "config-update",
            &worker(2),
            "13",
            "a command for a worker that is not there yet waits for it",
            Expect::Late(worker(2), "Applied"),
        ),
        step(
            "swarm-plan",
            &worker(3),
            "14",
            "a command for a worker that never comes ends all the same",
            Expect::Word("TimedOut"),
        ),
    ]
}

/// What the demo listens to.
struct Audience {
    heard: Box<dyn Consumer>,
    refused: Box<dyn Consumer>,
}

impl Audience {
    /// The message that answers a step; `None` when none came in time.
    async fn wait(&mut self, step: &Step) -> Result<Option<Message>, CliError> {
        let found = tokio::time::timeout(STEP_TIMEOUT, async {
            loop {
                let deliveries = match step.expect {
                    Expect::Outcome(_) | Expect::Word(_) | Expect::Late(..) => {
                        Self::take(&mut self.heard).await?
                    }
                    Expect::Refused(_) => Self::take(&mut self.refused).await?,
                };
                for delivery in deliveries {
                    if step.is_answered_by(&delivery.message) {
                        return Ok::<_, CliError>(delivery.message);
                    }
                }
            }
        });
        found.await.ok().transpose()
    }

    async fn take(consumer: &mut Box<dyn Consumer>) -> Result<Vec<Delivery>, CliError> {
        let deliveries = consumer.next(16).await?;
        if let Some(last) = deliveries.last() {
            consumer.settler().ack(last.tag, true).await?;
        }
        Ok(deliveries)
    }
}

impl Step {
    fn is_answered_by(&self, message: &Message) -> bool {
        match self.expect {
            Expect::Refused(reason) => message.properties.header_text("x-swarmgate-reason") == Some(reason),
            Expect::Outcome(status) | Expect::Word(status) | Expect::Late(_, status) => {
                let asked = &self.answers.as_ref().unwrap_or(&self.message).body;
                let asked: Option<Value> = serde_json::from_slice(asked).ok();
                let answer: Option<Value> = serde_json::from_slice(&message.body).ok();
                let (Some(asked), Some(answer)) = (asked, answer) else { return false };
                Family::claimed_by(&message.routing_key) == Some(Family::Outcome)
                    && answer.get("correlationId") == asked.get("correlationId")
                    && answer.pointer("/data/status") == Some(&json!(status))
                    && (!matches!(self.expect, Expect::Word(_)) || is_router(&answer))
            }
        }
    }
}

/// Whether the router itself speaks.
fn is_router(body: &Value) -> bool {
    body["origin"].as_str().is_some_and(|origin| origin.starts_with("swarmgate:"))
}

/// What a demo that stays up has besides: the router's window.
struct Kept {
    window: JoinHandle<()>,
    desk: Arc<Desk>,
    closing: CancellationToken,
    address: SocketAddr,
}

impl Kept {
    async fn open(loaded: &Loaded, telemetry: &Arc<Telemetry>) -> Result<Self, CliError> {
        let http = &loaded.config.http;
        let window = Window::open(http.addr, http::ClientBounds::from(http)).await?.named(&http.hosts);
        let (closing, desk, address) =
            (CancellationToken::new(), Arc::new(Desk::default()), window.address());
        let window = tokio::spawn(window.serve(Arc::clone(telemetry), Arc::clone(&desk), closing.clone()));
        Ok(Self { window, desk, closing, address })
    }

    /// Answers questions until somebody says that it is enough.
    async fn stay(self, running: &Running, telling: &mut Telling) -> Result<(), CliError> {
        self.desk.open(running.asker().clone());
        telling.stays(self.address)?;
        super::run::stop_signal().await?;
        self.closing.cancel();
        let _ = self.window.await;
        Ok(())
    }
}

/// Verifies the ledger, flips one byte in a copy, and shows that verifying finds it.
async fn tamper(ledger: &Path, dir: &Path, telling: &mut Telling) -> Result<bool, CliError> {
    let report = verify::verify(ledger).await?;
    let valid = report.fault.is_none();
    telling.line(
        "the ledger is verified",
        &format!("VALID: {} entries, head {}", report.entries, report.head),
        valid,
    )?;
    let last = Reader::open(ledger).await?.tail(3).await?;
    let Some(victim) = last.first() else { return Ok(false) };
    // Opening and closing as a router moves everything from the write-ahead log into the one file
    // that is copied.
    Ledger::open(ledger, None).await?.close().await;
    let copy = dir.join("copy");
    std::fs::create_dir(&copy).map_err(|fault| CliError::file(&copy, &fault))?;
    flip(ledger, &copy, &victim.bytes)?;
    let report = verify::verify(&copy).await?;
    let found = report.fault.as_ref().is_some_and(|fault| fault.seq() == victim.entry.seq);
    let told = report.fault.map_or_else(|| "VALID".to_owned(), |fault| format!("INVALID: {fault}"));
    telling.line("one byte of a copy is flipped, and verifying names the entry", &told, found)?;
    Ok(valid && found)
}

/// Copies the ledger's file and flips a bit of one entry in the copy.
fn flip(ledger: &Path, copy: &Path, entry: &[u8]) -> Result<(), CliError> {
    let (from, to) = (ledger.join(crate::ledger::FILE), copy.join(crate::ledger::FILE));
    let mut bytes = std::fs::read(&from).map_err(|fault| CliError::file(&from, &fault))?;
    // A page holds the beginning of an entry in one piece; the end of a long one may be elsewhere.
    let needle = entry.get(..entry.len().min(200)).unwrap_or_default();
    let at = bytes.windows(needle.len()).position(|window| window == needle);
    if let Some(byte) = at.and_then(|at| bytes.get_mut(at + needle.len() / 2)) {
        *byte ^= 1;
    }
    std::fs::write(&to, bytes).map_err(|fault| CliError::file(&to, &fault))
}

/// How the demo is told.
struct Telling {
    json: bool,
    out: Out,
}

impl Telling {
    fn title(&mut self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { self.out.text(&format!("{text}\n\n")) }
    }

    fn line(&mut self, title: &str, told: &str, passed: bool) -> Result<(), CliError> {
        if self.json {
            return self.out.json(&json!({ "step": title, "passed": passed, "told": told }));
        }
        self.out.line(&format!("{} {title}", if passed { "  ok " } else { "FAIL " }))?;
        self.out.line(&format!("      {told}"))
    }

    /// Tells one step; answers whether it went as it should.
    fn step(&mut self, step: &Step, seen: Option<&Message>) -> Result<bool, CliError> {
        let Some(message) = seen else {
            self.line(step.title, "nothing came in time", false)?;
            return Ok(false);
        };
        let header = |name| message.properties.header_text(name).unwrap_or_default().to_owned();
        let told = match &step.expect {
            Expect::Refused(reason) => {
                let pointer = header("x-swarmgate-pointer");
                let at = if pointer.is_empty() { String::new() } else { format!(" at {pointer}") };
                format!("refuse {reason}{at}: {}", header("x-swarmgate-detail"))
            }
            Expect::Outcome(status) | Expect::Late(_, status) => {
                format!("{}  →  outcome {status}", step.message.routing_key)
            }
            Expect::Word(status) => {
                let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
                let said = body.pointer("/data/message").and_then(Value::as_str).unwrap_or_default();
                format!("{}  →  the router's outcome {status}: {said}", step.message.routing_key)
            }
        };
        self.line(step.title, &told, true)?;
        Ok(true)
    }

    fn stays(&mut self, address: SocketAddr) -> Result<(), CliError> {
        if self.json {
            return self.out.json(&json!({ "api": format!("http://{address}"), "stays": true }));
        }
        self.out.text(&format!(
            "\nThe router stays up at http://{address}; Ctrl-C ends it. From another terminal:\n  \
             swarmgate inventory --api http://{address}\n  swarmgate safety --api http://{address}\n  \
             swarmgate top --api http://{address}\n\n"
        ))
    }

    fn end(&mut self, failed: usize) -> Result<(), CliError> {
        if self.json {
            return self.out.json(&json!({ "failed": failed }));
        }
        if failed > 0 {
            return self.out.text(&format!("\n{failed} steps did not go as they should.\n"));
        }
        self.out.text(
            "\nEverything went as it should. Next: put it beside your own broker, looking only:\n  \
             swarmgate observe --amqp amqp://user:password@host:5672/%2f --exchange YOUR.EXCHANGE\n",
        )
    }
}
