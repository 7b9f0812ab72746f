//! Worlds in which the broker or a subscriber does its worst: a stop leaves all the same.
//!
//! Each seed sets one fault of the embedded bus, floods the router, and then says one stop. The
//! invariant is one number: how many operations on the bus the router may do between the stop's
//! arrival and its being heard.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use swarmgate::{
    bus::{Bus, Queue, QueueKind, Topology, embedded::Embedded},
    runtime::boot,
};

use crate::{Fuse, Random, command, defaults, drain, listen, metric, outcome, send, world_setup};

/// Worlds in the ordinary run: each fault with three scripts.
const SEEDS: u64 = 24;
/// The operations on the bus, of all lanes together, within which a stop is heard.
const STEPS_MAX: u64 = 200;
/// And how long that may take; a lost consumer is opened again after the first back-off.
const PATIENCE: Duration = Duration::from_secs(5);
/// A bound that is never reached: the fuse counts and does not blow.
const UNBLOWN: u64 = u64::MAX;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A subscriber of everything rejects for ever.
    Rejects,
    /// A subscriber of statuses and results never confirms.
    NeverConfirmsEvents,
    /// A subscriber of signals never confirms.
    NeverConfirmsSignals,
    /// Confirms come late, and out of order.
    ConfirmsLate,
    /// What comes back comes late.
    ReturnsLate,
    /// The refused copies' queue never confirms.
    RefusedIsAway,
    /// The consumer of signals is cancelled again and again.
    Cancels,
    /// What is not settled at once is dropped.
    DropsAtLimit,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Rejects,
        Self::NeverConfirmsEvents,
        Self::NeverConfirmsSignals,
        Self::ConfirmsLate,
        Self::ReturnsLate,
        Self::RefusedIsAway,
        Self::Cancels,
        Self::DropsAtLimit,
    ];

    /// What the subscriber that does it is bound to.
    const fn pattern(self) -> &'static str {
        match self {
            Self::NeverConfirmsEvents => "event.#",
            Self::NeverConfirmsSignals => "signal.#",
            _ => "#",
        }
    }

    fn set(self, broker: &Embedded) {
        match self {
            Self::Rejects => broker.reject("sim.hostile", true),
            Self::NeverConfirmsEvents | Self::NeverConfirmsSignals => {
                broker.never_confirm("sim.hostile", true)
            }
            Self::ConfirmsLate => broker.confirm_late(Duration::from_millis(100)),
            Self::ReturnsLate => broker.return_late(Duration::from_secs(3)),
            Self::RefusedIsAway => broker.never_confirm("swarmgate.refused", true),
            Self::Cancels => broker.cancel("swarmgate.in.signals.v2"),
            Self::DropsAtLimit => broker.limit_deliveries("swarmgate.in.signals.v2", Some(0)),
        }
    }
}

#[test]
fn a_stop_leaves_within_so_many_steps_whatever_else_happens() {
    let mut most = 0;
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        most = most.max(runtime.block_on(world(seed)));
    }
    assert!(most > 0, "no world did a step: the count is of nothing");
}

/// Plays one world; answers how many steps its stop took.
async fn world(seed: u64) -> u64 {
    let mut random = Random(seed);
    let fault = Fault::ALL[seed as usize % Fault::ALL.len()];
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Embedded::new();
    listen(&broker, &defaults().rules()).await;
    let hostile = Queue {
        name: "sim.hostile".to_owned(),
        kind: QueueKind::Quorum,
        bindings: vec![("swarmgate.out".to_owned(), fault.pattern().to_owned())],
    };
    broker.declare(&Topology { exchanges: Vec::new(), queues: vec![hostile] }).await.expect("a queue");
    let fuse = Fuse::new(UNBLOWN, false);
    let running =
        boot::start(world_setup(&dir.path().join("ledger"), &broker, Some(&fuse))).await.expect("a start");
    fault.set(&broker);
    let mut flood = Vec::new();
    for number in 0..20 + random.below(40) {
        let plan = command(number, "swarm-plan");
        flood.extend([outcome(&plan), plan, metric(number), crate::broken(number)]);
    }
    send(&broker, &flood).await;
    tokio::time::sleep(Duration::from_millis(random.below(100))).await;
    fault.set(&broker);
    let before = fuse.left.load(SeqCst);
    send(&broker, &[command(900, "swarm-stop")]).await;
    let began = Instant::now();
    while !drain(&broker, "sim.heard").await.iter().any(|heard| heard.routing_key.contains("swarm-stop")) {
        assert!(began.elapsed() < PATIENCE, "seed {seed}: {fault:?} holds a stop");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let steps = before - fuse.left.load(SeqCst);
    assert!(steps <= STEPS_MAX, "seed {seed}: with {fault:?} a stop took {steps} steps");
    running.kill().await;
    steps
}
