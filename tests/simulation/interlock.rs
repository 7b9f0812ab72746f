//! Worlds of the interlock: live starts, challenges and their races, safety flips, the latch and
//! interlocks, a ledger that fails, and crashes in between.
//!
//! Owns: a fleet that obeys, the people who ask and confirm, and the plots that a seed puts one
//! behind the other.
//! Never: judges what came of it; `interlock_proof` does, on the ledger and on what was heard.
//! Holds: after enough time nothing is in flight, whatever the plots were and wherever the router
//! was killed.
//!
//! `SIM_SEED=17 cargo nextest run --test simulation interlock` runs one seed; `SIM_SEEDS=5000` runs
//! so many.

#[path = "interlock_plots.rs"]
mod plots;
#[path = "interlock_proof.rs"]
mod proof;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use swarmgate::{
    bus::{Bus, Departure, Queue, QueueKind, embedded::Embedded},
    clock,
    config::{Layers, Loaded, load},
    contract::{
        audit::Mode,
        interlock::{Life, Requires, SafetyMode, Share},
        message::Message,
        routing::{ControlPlaneRouting, Family, Scope},
        timestamp::Timestamp,
    },
    decision::rules::interlocks::Interlocks,
    ledger::FILE,
    runtime::{
        ask::Question,
        boot::{self, Running},
        genesis, latch,
        link::SteadyBus,
        setup, topology,
    },
    telemetry::Telemetry,
    view::Page,
};

use self::proof::Fold;
use super::{Fuse, Fused, Random, message};

/// Worlds in the ordinary run.
const SEEDS: u64 = 80;
/// Worlds side by side: they mostly wait.
const WORLDS_MAX: usize = 20;
/// How long a challenge may be confirmed in these worlds.
const WINDOW_MS: u64 = 500;
/// How long a command waits.
const DEADLINE_MS: u64 = 900;
/// How long a world may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);
/// The bots of a world.
const BOTS: u64 = 2;
/// What a plot may be.
const PLOTS: u64 = 16;
/// Who asks and who confirms.
const PEOPLE: [&str; 3] = ["ann", "bob", "cyd"];

/// Entries are refused as a broken disk would, the probe of the writer included.
const REFUSE: &str = "
    CREATE TRIGGER IF NOT EXISTS drill_entries BEFORE INSERT ON entries BEGIN SELECT RAISE(ROLLBACK, 'drill'); END;
    CREATE TRIGGER IF NOT EXISTS drill_probe BEFORE INSERT ON probe BEGIN SELECT RAISE(ROLLBACK, 'drill'); END";
const ALLOW: &str = "DROP TRIGGER IF EXISTS drill_entries; DROP TRIGGER IF EXISTS drill_probe";

#[test]
fn the_interlock_holds_in_every_world() {
    let seeds: Vec<u64> = match env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => {
            (0..env::var("SIM_SEEDS").map_or(SEEDS, |count| count.parse().expect("a number"))).collect()
        }
    };
    if env::var("RUST_LOG").is_ok() {
        let _ =
            swarmgate::telemetry::log::install(Default::default(), Default::default(), Default::default());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let whole = seeds.len() >= 60;
    let tally = runtime.expect("a runtime").block_on(async {
        let (mut worlds, mut tally) = (tokio::task::JoinSet::new(), Tally::default());
        for seed in seeds {
            if worlds.len() >= WORLDS_MAX {
                tally.add(worlds.join_next().await.expect("a world").expect("a world that holds"));
            }
            worlds.spawn(world(seed));
        }
        while let Some(world) = worlds.join_next().await {
            tally.add(world.expect("a world that holds"));
        }
        tally
    });
    println!("{tally:?}");
    // A world in which nothing happens holds as well; these say that it did happen.
    assert!(!whole || tally.is_rich(), "the worlds are poor: {tally:?}");
}

/// What the worlds saw, all of them together.
#[derive(Debug, Default)]
struct Tally {
    crashes: usize,
    counts: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        self.crashes += other.crashes;
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// Whether everything that the worlds are about happened at all.
    fn is_rich(&self) -> bool {
        const WANTED: [&str; 16] = [
            "live heard",
            "challenge Refused before its confirmation",
            "challenge Superseded before its confirmation",
            "confirmed, and refused by what has changed",
            "confirmation rejected",
            "challenge expired",
            "confirmed by several",
            "duplicate suppressed",
            "loosened",
            "latched",
            "raised by an interlock",
            "left QUARANTINED",
            "refused by safety.mode",
            "refused by safety.kill-switch",
            "refused by safety.gate-unknown",
            "refused by lifecycle.quarantined",
        ];
        self.crashes > 20 && WANTED.iter().all(|what| self.counts.contains_key(what))
    }
}

/// A dangerous command that waits for its confirmation.
#[derive(Clone, Debug)]
struct Ask {
    id: String,
    expires_at: Timestamp,
}

struct World {
    seed: u64,
    random: Random,
    broker: Embedded,
    dir: tempfile::TempDir,
    requires: Requires,
    gates: Vec<String>,
    /// The router, and what will kill it.
    running: Option<Running>,
    fuse: Option<Arc<Fuse>>,
    crashes_left: u64,
    crashes: usize,
    /// The next router's host finds its disk full.
    breach: bool,
    heard: Vec<Message>,
    known: BTreeSet<String>,
    asks: BTreeMap<String, Ask>,
    sent: u64,
}

async fn world(seed: u64) -> Tally {
    let mut world = World::begin(seed).await;
    // In a deployment that is still SAFE, or whose gate has not reported, this is refused.
    world.say("ann", "config-update", &bot(0), json!({ "rate": 4 })).await;
    for number in 0..BOTS {
        world.make_idle(number).await;
    }
    world.plot(seed % PLOTS).await;
    for _ in 0..1 + world.random.below(3) {
        let plot = world.random.below(PLOTS);
        world.plot(plot).await;
    }
    world.end().await
}

impl World {
    async fn begin(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(6_364_136_223_846_793_005) ^ 0x1b);
        let place = Path::new("/dev/shm");
        let dir = if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() };
        let requires = match random.below(4) {
            0 => Requires::SecondPerson,
            1 => Requires::Quorum(vec![Share { count: 2, group: "desk".to_owned() }]),
            _ => Requires::Explicit,
        };
        let gates = if seed % 5 == 4 { vec!["ready".to_owned()] } else { Vec::new() };
        let mut world = Self {
            seed,
            requires,
            gates,
            broker: Embedded::new(),
            dir: dir.expect("a directory"),
            running: None,
            fuse: None,
            crashes_left: random.below(4),
            crashes: 0,
            breach: false,
            heard: Vec::new(),
            known: BTreeSet::new(),
            asks: BTreeMap::new(),
            sent: 0,
            random,
        };
        // A first deployment begins SAFE, unless somebody said otherwise.
        if world.random.below(3) == 0 {
            let first = genesis::genesis("dev", Mode::Enforce, SafetyMode::Safe).expect("a genesis");
            genesis::begin(&world.ledger(), None, first).await.expect("a ledger");
        }
        world.listen().await;
        world.start().await;
        world
    }

    fn ledger(&self) -> std::path::PathBuf {
        self.dir.path().join("ledger")
    }

    async fn listen(&self) {
        let mut topology = topology::enforce("swarmgate", &defaults().contract.commands);
        let bindings = vec![("swarmgate.out".to_owned(), "#".to_owned())];
        topology.queues.push(Queue { name: "world.heard".to_owned(), kind: QueueKind::Quorum, bindings });
        self.broker.declare(&topology).await.expect("a topology");
    }

    fn setup(&mut self) -> boot::Setup {
        let mut loaded = defaults();
        loaded.config.ledger.dir = self.ledger();
        loaded.config.commands.catch_up_ms = 20;
        for deadline in loaded.config.deadlines.0.values_mut() {
            *deadline = DEADLINE_MS;
        }
        let bus: Arc<dyn Bus> = match &self.fuse {
            Some(fuse) => Arc::new(Fused { bus: self.broker.clone(), fuse: Arc::clone(fuse) }),
            None => Arc::new(self.broker.clone()),
        };
        let mut setup = setup::enforce(&loaded, Arc::new(SteadyBus(bus)), Arc::new(Telemetry::default()));
        let rules = &mut setup.rules;
        rules.consent.window_ms = WINDOW_MS;
        rules.consent.requires = self.requires.clone();
        rules.consent.live_requires = self.requires.clone();
        rules.consent.groups = BTreeMap::from([("desk".to_owned(), PEOPLE.map(str::to_owned).to_vec())]);
        rules.safety.gates_required.clone_from(&self.gates);
        if std::mem::take(&mut self.breach) {
            rules.safety.interlocks = Interlocks {
                window_ms: 0,
                samples_min: 1,
                disk_free_bytes_min: Some(u64::MAX),
                ..Interlocks::default()
            };
        }
        setup
    }

    /// Starts a router; one that may yet crash has its fuse.
    async fn start(&mut self) {
        self.fuse = (self.crashes_left > 0).then(|| {
            self.crashes_left -= 1;
            Fuse::new(1 + self.random.below(60), self.random.below(2) == 0)
        });
        let setup = self.setup();
        let running = boot::start(setup).await;
        self.running = Some(running.unwrap_or_else(|fault| panic!("seed {}: {fault}", self.seed)));
    }

    /// Kills the router where it stands, and starts the next.
    async fn restart(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill().await;
        }
        self.broker.drop_consumers();
        self.hand(ALLOW).await;
        proof::assert_valid(self.seed, &self.ledger()).await;
        self.start().await;
    }

    async fn hand(&self, statements: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.ledger().join(FILE));
        let options = options.busy_timeout(Duration::from_secs(20));
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
        sqlx::raw_sql(statements).execute(&mut connection).await.expect("a drill");
        connection.close().await.expect("closed");
    }

    /// What the ledger says now.
    async fn fold(&self) -> Fold {
        Fold::of(self.seed, &proof::entries(&self.ledger()).await)
    }

    // What is heard.

    /// Hears what was carried and lets the bots answer; a router whose fuse has blown is followed
    /// by the next.
    async fn pump(&mut self) {
        while let Some((delivery, settler)) = self.broker.get("world.heard").await.expect("a queue") {
            settler.ack(delivery.tag, false).await.expect("an ack");
            let message = delivery.message;
            let id = message.properties.message_id.clone().unwrap_or_default();
            let is_new = self.known.insert(id);
            self.heard.push(message.clone());
            if is_new {
                self.hear(&message).await;
            }
        }
        if self.fuse.as_ref().is_some_and(|fuse| fuse.blown.is_cancelled()) {
            self.crashes += 1;
            self.restart().await;
        }
    }

    async fn hear(&mut self, message: &Message) {
        let body: Value = serde_json::from_slice(&message.body).expect("a body");
        if message.routing_key.starts_with("event.outcome.") && body["data"]["status"] == "ChallengeRequired"
        {
            let context = &body["data"]["context"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let expires_at = Timestamp::parse(&text(&context["expiresAt"])).expect("an expiry");
            let ask = Ask { id: text(&context["challengeId"]), expires_at };
            self.asks.insert(text(&body["correlationId"]), ask);
        }
        if message.routing_key.starts_with("signal.") {
            if proof::is_dangerous(&body) {
                // What a bot hears is in the ledger already, with its confirmation.
                let entries = proof::entries(&self.ledger()).await;
                proof::assert_confirmed(self.seed, &entries, message);
            }
            self.obey(&body).await;
        }
    }

    /// The bots do what they are told; now and then one fails or says nothing.
    async fn obey(&mut self, body: &Value) {
        let Ok(scope) = serde_json::from_value::<Scope>(body["scope"].clone()) else { return };
        let kind_type = body["type"].as_str().unwrap_or_default();
        let Some(good) = proof::success(kind_type) else { return };
        for number in 0..BOTS {
            let status = match self.random.below(16) {
                0 => continue,
                1 => "Failed",
                _ => good,
            };
            if scope.covers(&bot(number)) {
                let by = bot(number);
                let said = json!({
                    "timestamp": clock::wall(), "version": "1", "kind": "outcome", "type": kind_type,
                    "origin": by.instance, "scope": by, "correlationId": body["correlationId"],
                    "idempotencyKey": body["idempotencyKey"], "data": { "status": status },
                });
                let key = ControlPlaneRouting::of(Family::Outcome, kind_type, &by);
                self.put(&[message(&key, &by.instance, &said)]).await;
            }
        }
    }

    fn is_idle(&self) -> bool {
        ["urgent", "signals", "results"].iter().all(|lane| {
            self.broker.depth(&format!("swarmgate.in.{lane}.v2")).is_some_and(|depth| depth == (0, 0))
        })
    }

    /// Lets things happen until nothing is on a lane any more, for so long at most.
    async fn settle(&mut self, ms: u64) {
        let until = tokio::time::Instant::now() + Duration::from_millis(ms);
        let mut quiet = 0;
        while quiet < 3 && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(3)).await;
            self.pump().await;
            quiet = if self.is_idle() { quiet + 1 } else { 0 };
        }
    }

    /// Lets every challenge and command end, and checks what is left.
    async fn end(mut self) -> Tally {
        let seed = self.seed;
        let rested = tokio::time::timeout(PATIENCE, async {
            let mut quiet = 0;
            while quiet < 3 {
                tokio::time::sleep(Duration::from_millis(30)).await;
                self.pump().await;
                let running = self.running.as_ref().expect("a router");
                let overview = running.asker().ask(Question::Overview).await.ok().flatten();
                let idle = self.is_idle()
                    && matches!(overview, Some(Page::Overview(overview)) if overview.commands.in_flight == 0);
                quiet = if idle { quiet + 1 } else { 0 };
            }
        });
        assert!(rested.await.is_ok(), "seed {seed}: the world does not come to rest");
        let running = self.running.take().expect("a router");
        let first = running.stop().await.unwrap_or_else(|| panic!("seed {seed}: it does not drain"));
        proof::assert_folds(seed, &self.ledger(), first.state()).await;
        // The next router knows as much as this one did.
        self.crashes_left = 0;
        self.start().await;
        let running = self.running.take().expect("a router");
        let next = running.stop().await.unwrap_or_else(|| panic!("seed {seed}: it does not drain"));
        proof::assert_folds(seed, &self.ledger(), next.state()).await;
        assert!(next.state().kept_parcels().is_empty(), "seed {seed}: something waits still");
        self.pump().await;
        let entries = proof::entries(&self.ledger()).await;
        let mut tally = proof::check(seed, &entries, &self.heard, &self.gates);
        tally.crashes = self.crashes;
        tally
    }
}

/// Read once: compiling the schemas is most of a start.
fn defaults() -> Loaded {
    static LOADED: LazyLock<Loaded> = LazyLock::new(|| load(&Layers::default()).expect("the defaults"));
    LOADED.clone()
}

fn bot(number: u64) -> Scope {
    Scope::new("sim", "worker", format!("bot-{number}"))
}

fn everything() -> Scope {
    Scope::new("ALL", "ALL", "ALL")
}

fn swarm() -> Scope {
    Scope::new("sim", "ALL", "ALL")
}
