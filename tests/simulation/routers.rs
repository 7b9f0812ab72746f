//! Worlds of several routers on one prefix: never do two run, and somebody always does in the end.
//!
//! The routers are as real as their presence: each asks for its place, consumes a lane when it has
//! one, and keeps it. Each seed ends connections, leaves locks behind as dead nodes do, and crashes
//! and starts routers. The broker itself is asked who consumes.

use std::{sync::Arc, time::Duration};

use swarmgate::{
    bus::{Bus, Queue, QueueKind, Topology, embedded::Embedded},
    runtime::presence::{Patience, Presence, PresenceSettings},
    telemetry::Telemetry,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::Random;

/// Worlds in the ordinary run, side by side.
const SEEDS: u64 = 12;
/// Disturbances in each.
const DISTURBANCES: u64 = 8;
const ROUTERS: usize = 3;
const LANE: &str = "swarmgate.in.urgent.v2";

/// A tenth of what a router takes with a heartbeat of four seconds.
fn patience() -> Patience {
    Patience {
        ask_every: Duration::from_millis(25),
        tell_every: Duration::from_millis(100),
        quiet: Duration::from_millis(100),
        own_ghost: Duration::from_millis(300),
        dying: Duration::from_millis(800),
        ghost: Duration::from_millis(1_300),
    }
}

#[test]
fn two_routers_never_both_run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let worlds: Vec<_> = (0..SEEDS).map(|seed| tokio::spawn(world(seed))).collect();
        for world in worlds {
            world.await.expect("a world in which its invariant holds");
        }
    });
}

/// One router: a task, and its present connection.
struct Router {
    task: JoinHandle<()>,
    line: watch::Receiver<Option<Embedded>>,
    frozen: watch::Sender<bool>,
}

impl Router {
    fn start(broker: &Embedded, number: usize) -> Self {
        let (tell, line) = watch::channel(None);
        let (frozen, mut thaw) = watch::channel(false);
        let broker = broker.clone();
        let settings = PresenceSettings {
            prefix: "swarmgate".to_owned(),
            instance: format!("gate-{number}"),
            environment: "dev".to_owned(),
            user: None,
            addresses: 1,
            patience: patience(),
            waits: true,
        };
        let mut presence = Presence::new(settings, "ledger".to_owned(), Arc::new(Telemetry::default()));
        let task = tokio::spawn(async move {
            let mut first = true;
            loop {
                let line = broker.connection();
                tell.send_replace(Some(line.clone()));
                let bus: Arc<dyn Bus> = Arc::new(line);
                if let Ok(mut seat) = presence.enter(&bus, first).await {
                    first = false;
                    let lane = bus.consumer(LANE, 1).await.expect("a lane");
                    let mut keeping = Box::pin(seat.keep());
                    loop {
                        tokio::select! {
                            _ = &mut keeping => break,
                            _ = thaw.wait_for(|frozen| *frozen) => {}
                        }
                        // Frozen: nothing of it goes on, and the broker knows nothing of that.
                        let _ = thaw.wait_for(|frozen| !*frozen).await;
                    }
                    drop(keeping);
                    drop(lane);
                    bus.close().await;
                    presence.leave(&seat);
                }
                bus.close().await;
                sleep(Duration::from_millis(10)).await;
            }
        });
        Self { task, line, frozen }
    }

    fn line(&self) -> Option<Embedded> {
        self.line.borrow().clone()
    }
}

async fn broker() -> Embedded {
    let broker = Embedded::new();
    let lane = Queue { name: LANE.to_owned(), kind: QueueKind::Quorum, bindings: Vec::new() };
    broker.declare(&Topology { exchanges: Vec::new(), queues: vec![lane] }).await.expect("a lane");
    broker
}

async fn world(seed: u64) {
    let mut random = Random(seed);
    let broker = broker().await;
    let mut routers: Vec<Router> = (0..ROUTERS).map(|number| Router::start(&broker, number)).collect();
    for disturbance in 0..DISTURBANCES {
        watch(&broker, Duration::from_millis(random.below(900)), seed).await;
        let number = random.below(ROUTERS as u64) as usize;
        let router = &mut routers[number];
        let line = router.line();
        match (random.below(4), line) {
            (0 | 1, Some(line)) => line.lose(),
            (2, Some(line)) => line.lose_node(),
            (_, line) => {
                router.task.abort();
                let _ = (&mut router.task).await;
                line.inspect(Embedded::lose);
                *router = Router::start(&broker, number + ROUTERS * (disturbance as usize + 1));
            }
        }
    }
    let within = Instant::now() + patience().ghost * 3;
    while broker.consuming(LANE).len() != 1 {
        assert!(Instant::now() < within, "seed {seed}: nobody runs");
        watch(&broker, Duration::from_millis(20), seed).await;
    }
    watch(&broker, patience().ghost * 2, seed).await;
    assert_eq!(broker.consuming(LANE).len(), 1, "seed {seed}: who runs stays");
    routers.iter().for_each(|router| router.task.abort());
}

/// Looks for so long who runs.
async fn watch(broker: &Embedded, how_long: Duration, seed: u64) {
    let until = Instant::now() + how_long;
    while Instant::now() < until {
        let running = broker.consuming(LANE);
        assert!(running.len() <= 1, "seed {seed}: the connections {running:?} run at once");
        sleep(Duration::from_millis(1)).await;
    }
}

/// A broker that does not notice a frozen router lets a second begin. When the first comes back it
/// stays, and the second, which began later, steps back: they agree on that without a lock.
#[test]
fn a_frozen_router_that_nobody_missed_stays_and_the_later_one_steps_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let broker = broker().await;
        let first = Router::start(&broker, 1);
        while broker.consuming(LANE).len() != 1 {
            sleep(Duration::from_millis(5)).await;
        }
        let runs = broker.consuming(LANE);
        let second = Router::start(&broker, 2);
        watch(&broker, patience().ghost * 2, 0).await;
        assert_eq!(broker.consuming(LANE), runs, "the second waits");
        first.frozen.send_replace(true);
        let within = Instant::now() + patience().ghost * 2;
        while broker.consuming(LANE).len() != 2 {
            assert!(Instant::now() < within, "nobody takes over");
            sleep(Duration::from_millis(5)).await;
        }
        first.frozen.send_replace(false);
        let within = Instant::now() + patience().tell_every * 5;
        while broker.consuming(LANE).len() != 1 {
            assert!(Instant::now() < within, "they both run");
            sleep(Duration::from_millis(5)).await;
        }
        watch(&broker, patience().ghost * 2, 0).await;
        assert_eq!(broker.consuming(LANE), runs, "the first stays");
        first.task.abort();
        second.task.abort();
    });
}
