//! Worlds: the real router on the embedded bus, with duplicates, reorder and a crash at every step
//! of the walk.
//!
//! Each seed makes a script of envelopes and a place to crash: before or after the n-th operation
//! on the bus. Between two bus operations lies exactly one step of the walk (deliver → write →
//! publish → confirm → mark carried → ack), so sweeping n crashes the router in each of its
//! windows. After the last crash the router runs until nothing is left, and the invariants of
//! docs/architecture.md are checked on what the ledger and the subscribers hold.
//!
//! `SIM_SEED=17 cargo nextest run --test simulation` runs one seed; `SIM_SEEDS=5000` runs so many.

#[path = "simulation/endings.rs"]
mod endings;
#[path = "simulation/hostile.rs"]
mod hostile;
#[path = "simulation/interlock.rs"]
mod interlock;
#[path = "simulation/routers.rs"]
mod routers;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use swarmgate::{
    bus::{
        Bus, BusError, Consumer, Counts, Delivery, Departure, Exchange, ExchangeKind, Fate, Publisher, Queue,
        QueueKind, Settler, Topology, embedded::Embedded,
    },
    clock,
    config::{Layers, Loaded, load},
    contract::{
        audit::{Action, Change, Verdict},
        digest::Digest,
        message::{Message, Properties},
    },
    decision::{rules::Rules, state::State},
    ledger::{
        chain::Sealed,
        query::{Filter, Reader},
        verify,
    },
    runtime::{boot, link::SteadyBus, setup},
    telemetry::Telemetry,
};
use tokio_util::sync::CancellationToken;

/// Seeds in the ordinary run.
const SEEDS: u64 = 120;
/// How long a world may take before it counts as hung.
const WORLD_TIMEOUT: Duration = Duration::from_secs(30);

/// What a router says that finds less in its outbox than it left there, and more.
const OUTBOX_CHANGED: [&str; 2] = ["ledger.outbox-short", "ledger.outbox-added"];

#[test]
fn every_invariant_holds_in_every_world() {
    let seeds: Vec<u64> = match env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => {
            let count =
                env::var("SIM_SEEDS").map_or(SEEDS, |count| count.parse().expect("SIM_SEEDS is a number"));
            (0..count).collect()
        }
    };
    let mut crashes = 0;
    if env::var("RUST_LOG").is_ok() {
        let _ =
            swarmgate::telemetry::log::install(Default::default(), Default::default(), Default::default());
    }
    for seed in &seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let world = runtime.block_on(async { tokio::time::timeout(WORLD_TIMEOUT, World::run(*seed)).await });
        let world = world.unwrap_or_else(|_| panic!("seed {seed}: the world hangs"));
        crashes += world.crashes;
        world.check();
    }
    assert!(
        seeds.len() < 50 || crashes > seeds.len() / 2,
        "only {crashes} crashes in {} worlds",
        seeds.len()
    );
}

/// A small generator: splitmix64, so that a seed is a world on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a world was and what it left.
struct World {
    seed: u64,
    crashes: usize,
    sent: Vec<Message>,
    heard: Vec<Message>,
    refused: Vec<Message>,
    ledger: PathBuf,
    entries: Vec<Sealed>,
    digest: Digest,
    rules: Rules,
    left_in: usize,
    _dir: tempfile::TempDir,
}

impl World {
    async fn run(seed: u64) -> Self {
        let mut random = Random(seed);
        let dir = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" })
            .expect("a directory");
        let ledger = dir.path().join("ledger");
        let broker = Embedded::new();
        let rules = defaults().rules();
        listen(&broker, &rules).await;
        let sent = script(&mut random);
        let mut crashes = 0;
        let mut unsent = sent.clone();
        // One to three crashes, each at its own operation, then a router that is left alone.
        for _ in 0..=random.below(3) {
            let fuse = Fuse::new(1 + random.below(24), random.below(2) == 0);
            let running = boot::start(world_setup(&ledger, &broker, Some(&fuse))).await.expect("a start");
            let now: Vec<Message> = unsent.drain(..unsent.len().min(4 + random.below(8) as usize)).collect();
            send(&broker, &now).await;
            tokio::select! {
                () = fuse.blown.cancelled() => crashes += 1,
                () = quiet(&broker) => {}
            }
            running.kill().await;
            broker.drop_consumers();
            assert_valid(seed, &ledger).await;
        }
        let running = boot::start(world_setup(&ledger, &broker, None)).await.expect("the last start");
        send(&broker, &unsent).await;
        quiet(&broker).await;
        let corridor =
            running.stop().await.unwrap_or_else(|| panic!("seed {seed}: the router did not drain"));
        assert_valid(seed, &ledger).await;
        let entries =
            Reader::open(&ledger).await.expect("a reader").select(&Filter::default(), usize::MAX).await;
        Self {
            seed,
            crashes,
            sent,
            heard: drain(&broker, "sim.heard").await,
            refused: drain(&broker, "sim.refused").await,
            ledger,
            entries: entries.expect("entries"),
            digest: corridor.state().digest(),
            rules,
            left_in: lanes()
                .iter()
                .filter_map(|queue| broker.depth(queue))
                .map(|(ready, out)| ready + out)
                .sum(),
            _dir: dir,
        }
    }

    fn check(&self) {
        let seed = self.seed;
        assert_eq!(self.left_in, 0, "seed {seed}: deliveries are left unsettled");
        self.accepted_commands_are_carried_once();
        self.nothing_is_heard_without_its_entry();
        self.every_refusal_is_copied_and_written();
        let says = |message: &Message, code: &str| {
            message.body.windows(code.len()).any(|window| window == code.as_bytes())
        };
        let is_alarm = |message: &Message| OUTBOX_CHANGED.into_iter().any(|code| says(message, code));
        assert!(!self.heard.iter().any(is_alarm), "seed {seed}: an outbox that nobody touched is changed");
        let mut replayed = State::new(self.rules.clone());
        for entry in &self.entries {
            replayed.apply(entry.entry.seq, &entry.entry.fact);
        }
        assert_eq!(
            replayed.digest(),
            self.digest,
            "seed {seed}: I13: the fold of {:?} is another state",
            self.ledger
        );
    }

    /// I1 and I2: what was accepted is heard, and an inbox that drops repeated message-ids hears it
    /// once.
    fn accepted_commands_are_carried_once(&self) {
        let seed = self.seed;
        let mut accepted = BTreeSet::new();
        for entry in &self.entries {
            let fact = &entry.entry.fact;
            let is_accepted = matches!(fact.change, Change::Accepted(_));
            if is_accepted && fact.verdict == Some(Verdict::Forward) {
                let actor = fact.actor.as_ref().expect("an actor");
                let identity = (actor.principal.clone(), fact.idempotency_key.clone());
                assert!(accepted.insert(identity), "seed {seed}: a command was accepted twice");
            }
        }
        let mut inbox = BTreeMap::<_, BTreeSet<String>>::new();
        for message in self.heard.iter().filter(|message| message.routing_key.starts_with("signal.")) {
            let body: Value = serde_json::from_slice(&message.body).expect("a body");
            if body["origin"].as_str().is_some_and(|origin| origin.starts_with("swarmgate:")) {
                // The router asks for a status that it lacks; nobody sent that.
                continue;
            }
            let id = message.properties.message_id.clone().expect("a message-id");
            let principal =
                message.properties.header_text("x-swarmgate-principal").unwrap_or_default().to_owned();
            let key = body["idempotencyKey"].as_str().map(str::to_owned);
            inbox.entry((principal, key)).or_default().insert(id);
        }
        for identity in &accepted {
            let ids = inbox.get(identity).map_or(0, BTreeSet::len);
            assert_eq!(ids, 1, "seed {seed}: I1/I2: {identity:?} was carried under {ids} ids");
        }
        assert_eq!(
            inbox.len(),
            accepted.len(),
            "seed {seed}: I3: something was carried that was not accepted"
        );
    }

    /// I3: each message but a metric names an entry, and that entry holds the digest of its body.
    fn nothing_is_heard_without_its_entry(&self) {
        let seed = self.seed;
        for message in self.heard.iter().filter(|message| !message.routing_key.starts_with("event.metric.")) {
            let id = message.properties.message_id.as_deref().expect("a message-id");
            let mut parts = id.rsplit('.').map(|part| part.parse::<usize>().expect("a number"));
            let (ordinal, seq) = (parts.next().expect("an ordinal"), parts.next().expect("a place"));
            let entry = self
                .entries
                .get(seq - 1)
                .unwrap_or_else(|| panic!("seed {seed}: I3: entry {seq} is missing"));
            let digest = entry.entry.out.get(ordinal);
            assert_eq!(
                digest,
                Some(&Digest::of(&message.body)),
                "seed {seed}: I3: entry {seq} holds another body"
            );
        }
    }

    /// I4: every message that must be refused is on the refused exchange, and written or counted.
    fn every_refusal_is_copied_and_written(&self) {
        let seed = self.seed;
        let copies: BTreeSet<Digest> = self.refused.iter().map(|message| Digest::of(&message.body)).collect();
        let broken =
            self.sent.iter().filter(|message| message.properties.app_id.as_deref() == Some("broken"));
        for message in broken {
            assert!(copies.contains(&Digest::of(&message.body)), "seed {seed}: I4: a refusal was not copied");
        }
        let written: u64 = self.entries.iter().map(refusals).sum();
        // A kill may lose the count of its last second, never a copy; the tables hold the counts to
        // the letter.
        assert!(self.refused.is_empty() || written > 0, "seed {seed}: I4: no refusal is in the ledger");
    }
}

fn refusals(entry: &Sealed) -> u64 {
    match (&entry.entry.fact.change, entry.entry.fact.action) {
        (Change::Tallied(tallied), _) => tallied.count,
        (_, Action::ContractViolation | Action::AccessDenied | Action::Denied) => 1,
        _ => 0,
    }
}

/// I6: the chain verifies after every crash.
async fn assert_valid(seed: u64, ledger: &Path) {
    let report = verify::verify(ledger).await.expect("a ledger");
    assert_eq!(report.fault, None, "seed {seed}: I6: the chain does not verify");
}

fn lanes() -> [String; 4] {
    ["urgent", "signals", "results", "metrics"].map(|lane| format!("swarmgate.in.{lane}.v2"))
}

fn defaults() -> Loaded {
    load(&Layers::default()).expect("the defaults")
}

fn world_setup(ledger: &Path, broker: &Embedded, fuse: Option<&Arc<Fuse>>) -> boot::Setup {
    let bus: Arc<dyn Bus> = match fuse {
        Some(fuse) => Arc::new(Fused { bus: broker.clone(), fuse: Arc::clone(fuse) }),
        None => Arc::new(broker.clone()),
    };
    let mut loaded = defaults();
    loaded.config.ledger.dir = ledger.to_owned();
    setup::enforce(&loaded, Arc::new(SteadyBus(bus)), Arc::new(Telemetry::default()))
}

/// Subscribers that hear everything, there before the router.
async fn listen(broker: &Embedded, rules: &Rules) {
    let mut topology = swarmgate::runtime::topology::enforce("swarmgate", &rules.commands);
    let queue = |name: &str, exchange: &str| Queue {
        name: name.to_owned(),
        kind: QueueKind::Exclusive,
        bindings: vec![(exchange.to_owned(), "#".to_owned())],
    };
    topology.queues.push(queue("sim.heard", "swarmgate.out"));
    topology.queues.push(queue("sim.refused", "swarmgate.refused"));
    // The refused queue of the router itself would only grow.
    assert!(topology.exchanges.contains(&Exchange {
        name: "swarmgate.out".to_owned(),
        kind: ExchangeKind::Topic,
        alternate: None
    }));
    broker.declare(&topology).await.expect("a topology");
}

async fn send(broker: &Embedded, messages: &[Message]) {
    let publisher = broker.publisher().await.expect("a publisher");
    let batch: Vec<Departure> =
        messages.iter().map(|message| Departure { message: message.clone(), mandatory: true }).collect();
    let fates =
        publisher.publish(&batch.iter().collect::<Vec<_>>(), Duration::from_secs(1)).await.expect("fates");
    assert!(fates.iter().all(|fate| *fate == Fate::Carried), "{fates:?}");
}

/// Waits until no lane holds anything.
async fn quiet(broker: &Embedded) {
    loop {
        let busy = lanes().iter().any(|queue| broker.depth(queue).is_none_or(|depth| depth != (0, 0)));
        if !busy {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn drain(broker: &Embedded, queue: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some((delivery, settler)) = broker.get(queue).await.expect("a queue") {
        settler.ack(delivery.tag, false).await.expect("an ack");
        messages.push(delivery.message);
    }
    messages
}

/// Some dozen envelopes: commands, repeats of them, conflicts, their outcomes, metrics and broken
/// bodies, shuffled.
fn script(random: &mut Random) -> Vec<Message> {
    let mut messages = Vec::new();
    for number in 0..6 + random.below(10) {
        let stop = random.below(4) == 0;
        let command = command(number, if stop { "swarm-stop" } else { "swarm-plan" });
        if random.below(2) == 0 {
            messages.push(outcome(&command));
        }
        for _ in 0..random.below(3) {
            messages.push(command.clone());
        }
        if random.below(4) == 0 {
            messages.push(conflicting(&command));
        }
        messages.push(command);
        if random.below(3) == 0 {
            messages.push(broken(number));
        }
        if random.below(3) == 0 {
            messages.push(metric(number));
        }
    }
    for place in (1..messages.len()).rev() {
        // Conflicts and repeats keep their places behind their commands only by chance: that is the
        // point.
        messages.swap(place, random.below(place as u64 + 1) as usize);
    }
    messages
}

fn message(key: &str, user: &str, body: &Value) -> Message {
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: key.to_owned(),
        properties: Properties { user_id: Some(user.to_owned()), ..Properties::default() },
        body: body.to_string().into(),
    }
}

fn command(number: u64, kind_type: &str) -> Message {
    let scope = json!({ "swarmId": "sim", "role": "controller", "instance": format!("c-{number}") });
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": "orc",
        "scope": scope, "correlationId": format!("c-{number}"), "idempotencyKey": format!("i-{number}"), "data": {},
    });
    message(&format!("signal.{kind_type}.sim.controller.c-{number}"), "orc", &body)
}

fn body_of(message: &Message) -> Value {
    serde_json::from_slice(&message.body).expect("a body")
}

fn conflicting(command: &Message) -> Message {
    let mut body = body_of(command);
    body["data"] = json!({ "other": true });
    Message { body: body.to_string().into(), ..command.clone() }
}

fn outcome(command: &Message) -> Message {
    let mut body = body_of(command);
    let instance = body["scope"]["instance"].as_str().expect("an instance").to_owned();
    body["kind"] = json!("outcome");
    body["origin"] = json!(instance);
    body["data"] = json!({ "status": "Ready" });
    let key = command.routing_key.replacen("signal.", "event.outcome.", 1);
    message(&key, &instance, &body)
}

fn metric(number: u64) -> Message {
    let instance = format!("c-{number}");
    let io = json!({ "input": "ok", "output": "ok" });
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "metric", "type": "status-delta", "origin": instance,
        "scope": { "swarmId": "sim", "role": "controller", "instance": instance },
        "data": { "enabled": true, "ioState": { "work": io, "filesystem": io } },
    });
    message(&format!("event.metric.status-delta.sim.controller.{instance}"), &instance, &body)
}

fn broken(number: u64) -> Message {
    let mut broken = command(number + 1000, "swarm-plan");
    broken.body = format!("{{\"number\": {number}, \"kind\": }}").into();
    broken.properties.app_id = Some("broken".to_owned());
    broken
}

/// Blows before or after the n-th operation on the bus, and lets nothing through from then on.
struct Fuse {
    left: AtomicU64,
    before: bool,
    blown: CancellationToken,
}

impl Fuse {
    fn new(operations: u64, before: bool) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(operations), before, blown: CancellationToken::new() })
    }

    /// Runs one operation, or never comes back.
    async fn pass<T>(&self, operation: impl Future<Output = T>) -> T {
        let last =
            self.left.fetch_update(SeqCst, SeqCst, |left| Some(left.saturating_sub(1))).expect("an update");
        if last == 0 || last == 1 && self.before {
            self.blown.cancel();
            std::future::pending::<()>().await;
        }
        let done = operation.await;
        if last == 1 {
            self.blown.cancel();
            std::future::pending::<()>().await;
        }
        done
    }
}

/// A bus behind a fuse.
struct Fused {
    bus: Embedded,
    fuse: Arc<Fuse>,
}

#[async_trait]
impl Bus for Fused {
    async fn declare(&self, topology: &Topology) -> Result<Vec<String>, BusError> {
        self.bus.declare(topology).await
    }

    async fn counts(&self, queue: &str) -> Result<Option<Counts>, BusError> {
        self.bus.counts(queue).await
    }

    async fn purge(&self, queue: &str) -> Result<u64, BusError> {
        self.bus.purge(queue).await
    }

    async fn unbind(&self, queue: &Queue) -> Result<(), BusError> {
        self.bus.unbind(queue).await
    }

    async fn bind_exchange(&self, from: &str, to: &str) -> Result<(), BusError> {
        self.bus.bind_exchange(from, to).await
    }

    async fn exists(&self, exchange: &str) -> Result<bool, BusError> {
        self.bus.exists(exchange).await
    }

    async fn consumer(&self, queue: &str, prefetch_count: u16) -> Result<Box<dyn Consumer>, BusError> {
        let inner = self.bus.consumer(queue, prefetch_count).await?;
        if queue.starts_with("swarmgate.router.") {
            // What routers tell each other is no step of the walk.
            return Ok(inner);
        }
        Ok(Box::new(FusedConsumer { inner, fuse: Arc::clone(&self.fuse) }))
    }

    async fn publisher(&self) -> Result<Box<dyn Publisher>, BusError> {
        let inner = self.bus.publisher().await?;
        Ok(Box::new(FusedPublisher { inner, fuse: Arc::clone(&self.fuse) }))
    }

    async fn get(&self, queue: &str) -> Result<Option<(Delivery, Box<dyn Settler>)>, BusError> {
        self.bus.get(queue).await
    }

    async fn delete_queue(&self, name: &str) -> Result<(), BusError> {
        self.bus.delete_queue(name).await
    }

    async fn delete_exchange(&self, name: &str) -> Result<(), BusError> {
        self.bus.delete_exchange(name).await
    }

    fn blocked(&self) -> Option<String> {
        self.bus.blocked()
    }

    async fn close(&self) {
        self.bus.close().await;
    }
}

struct FusedConsumer {
    inner: Box<dyn Consumer>,
    fuse: Arc<Fuse>,
}

#[async_trait]
impl Consumer for FusedConsumer {
    async fn next(&mut self, count_max: usize) -> Result<Vec<Delivery>, BusError> {
        let deliveries = self.inner.next(count_max).await?;
        self.fuse.pass(async { Ok(deliveries) }).await
    }

    fn settler(&self) -> Box<dyn Settler> {
        Box::new(FusedSettler { inner: self.inner.settler(), fuse: Arc::clone(&self.fuse) })
    }
}

struct FusedSettler {
    inner: Box<dyn Settler>,
    fuse: Arc<Fuse>,
}

#[async_trait]
impl Settler for FusedSettler {
    async fn ack(&self, tag: u64, multiple: bool) -> Result<(), BusError> {
        self.fuse.pass(self.inner.ack(tag, multiple)).await
    }

    async fn requeue(&self, tag: u64, multiple: bool) -> Result<(), BusError> {
        self.fuse.pass(self.inner.requeue(tag, multiple)).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct FusedPublisher {
    inner: Box<dyn Publisher>,
    fuse: Arc<Fuse>,
}

#[async_trait]
impl Publisher for FusedPublisher {
    async fn publish(&self, batch: &[&Departure], deadline: Duration) -> Result<Vec<Fate>, BusError> {
        if batch.iter().all(|departure| departure.message.exchange == "swarmgate.routers") {
            return self.inner.publish(batch, deadline).await;
        }
        self.fuse.pass(self.inner.publish(batch, deadline)).await
    }
}
