//! The host: the latch file, what is measured of the machine, and what the router sends for.
//!
//! Owns: watching the latch, measuring clock, disk and ledger for the interlocks, taking the latch
//! away after a confirmed loosening, and making support bundles.
//! Never: decides what follows; each finding goes to the router as a request of its own.
//! Holds: the latch is read without broker, ledger or API; what cannot be measured is told as
//! unknown.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Mutex, Notify, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    asker::Asker,
    latch::{self, Before},
};
use crate::{
    config::Config,
    support::{self, BundleLimits, BundlePlace, BundleStamp},
};
use crate::{
    contract::{interlock::KillSwitch, routing::ALL},
    decision::{
        effect::Effect,
        request::{Bundled, Done, Latch, Made, Measured, Unlatched},
    },
    ledger::size::{Size, WAL_AT_REST_BYTES},
    telemetry::Telemetry,
};

/// How often the latch is looked at: what a person throws is noticed before they look up.
const LATCH_LOOK: Duration = Duration::from_millis(5);
/// How often the machine is measured.
const MEASURE_PERIOD: Duration = Duration::from_secs(5);
/// How many findings may wait at the router.
pub(super) const FINDINGS_WAITING_MAX: usize = 64;
/// Where bundles are, below the ledger's directory.
const BUNDLES: &str = "support-bundles";

/// What a look at the ledger's disk found.
struct Weighed {
    size: Size,
    free_bytes: Option<u64>,
}

/// Looks at the ledger's disk aside, one look at a time: a disk that hangs holds that look, and
/// nothing else.
struct Scales {
    look: Arc<dyn Fn() -> Weighed + Send + Sync>,
    under_way: Option<JoinHandle<Weighed>>,
}

impl Scales {
    fn of(dir: PathBuf) -> Self {
        let look = move || Weighed { size: Size::of(&dir), free_bytes: fs4::available_space(&dir).ok() };
        Self { look: Arc::new(look), under_way: None }
    }

    /// Begins a look; whether the last one is over. Where it is not, the disk does not answer.
    fn begin(&mut self) -> bool {
        let is_over = self.under_way.is_none();
        if is_over {
            let look = Arc::clone(&self.look);
            self.under_way = Some(tokio::task::spawn_blocking(move || look()));
        }
        is_over
    }

    /// Waits until a look is over; for ever where there is none.
    async fn weighed(&mut self) -> Weighed {
        let Some(look) = &mut self.under_way else { return std::future::pending().await };
        let weighed = look.await;
        self.under_way = None;
        weighed.unwrap_or(Weighed { size: Size::default(), free_bytes: None })
    }
}

/// The host of a router; cheap to clone.
#[derive(Clone)]
pub(super) struct Host {
    pub ledger_dir: PathBuf,
    pub config: Arc<Config>,
    pub asker: Asker,
    pub done: mpsc::Sender<Done>,
    pub telemetry: Arc<Telemetry>,
    /// What was reported may be forgotten: the latch is reported again.
    pub again: Arc<Notify>,
    /// The bundles that were asked for and are under way.
    pub bundles: Arc<Semaphore>,
    /// Whose turn it is.
    pub bundling: Arc<Mutex<()>>,
    pub stopping: CancellationToken,
}

impl Host {
    /// Watches and measures until the router stops.
    pub async fn watch(self) {
        let path = self.ledger_dir.join(latch::FILE);
        let mut latch = match latch::watch(path.clone(), LATCH_LOOK) {
            Ok(latch) => latch,
            Err(fault) => {
                error!(error = %fault, "no thread can be started that watches the latch: it counts as thrown");
                tokio::sync::watch::channel(Before::Unreadable).1
            }
        };
        let mut measure = tokio::time::interval(MEASURE_PERIOD);
        let mut scales = Scales::of(self.ledger_dir.clone());
        let mut clocks = (Instant::now(), SystemTime::now());
        let mut held = false;
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = self.again.notified() => {
                    let now = latch.borrow().clone();
                    self.tell_latch(&now).await;
                }
                Ok(()) = latch.changed() => {
                    let now = latch.borrow_and_update().clone();
                    self.tell_latch(&now).await;
                }
                weighed = scales.weighed() => {
                    self.weigh(weighed.size, &mut held);
                    let measured = self.measure(&mut clocks, weighed.free_bytes);
                    self.tell(Done::Measured(measured)).await;
                }
                _ = measure.tick() => {
                    self.telemetry.log_repeats(false);
                    // A disk that does not answer is told as unknown, which counts as a breach.
                    if !scales.begin() {
                        let measured = self.measure(&mut clocks, None);
                        self.tell(Done::Measured(measured)).await;
                    }
                }
            }
        }
    }

    /// Runs an errand of the router's; its end comes back as a finding.
    pub fn send(&self, errand: Effect) {
        let host = self.clone();
        match errand {
            Effect::Bundle { seq, why } => {
                let Ok(place) = Arc::clone(&self.bundles).try_acquire_owned() else {
                    let made =
                        Err("`commands.bundles_max` of them are under way; ask again later".to_owned());
                    tokio::spawn(async move { host.tell(Done::Bundled(Bundled { seq, why, made })).await });
                    return;
                };
                tokio::spawn(async move {
                    // One after another: each is built in memory.
                    let turn = host.bundling.lock().await;
                    let made = host.bundle().await;
                    drop((turn, place));
                    host.tell(Done::Bundled(Bundled { seq, why, made })).await;
                });
            }
            Effect::Unlatch { seq, swarm, seen } => {
                tokio::spawn(async move {
                    let dir = host.ledger_dir.clone();
                    // It may wait for whoever throws the latch just now.
                    let lift = move || latch::lift(&dir, swarm.as_deref(), seen);
                    let lifted = tokio::task::spawn_blocking(lift).await;
                    let fault = lifted.map_err(io::Error::other).flatten().err();
                    let fault = fault.map(|fault| fault.to_string());
                    host.tell(Done::Unlatched(Unlatched { seq, fault })).await;
                });
            }
            _ => {}
        }
    }

    async fn bundle(&self) -> Result<Made, String> {
        let limits = BundleLimits::default();
        let asked =
            support::gather::of_router(&self.asker, &self.telemetry, &self.config, &self.ledger_dir, &limits);
        let sources = asked.await;
        let place = BundlePlace::Directory(self.ledger_dir.join(BUNDLES));
        let created = support::create_aside(place, sources, limits, BundleStamp::new()).await;
        match created {
            Ok(created) => Ok(Made {
                path: created.path.display().to_string(),
                bytes: created.bytes,
                manifest_sha256: created.manifest_sha256.to_string(),
            }),
            Err(fault) => {
                warn!(error = %fault, "no support bundle could be made");
                Err(fault.to_string())
            }
        }
    }

    /// Reports how large the ledger's files are; logs once when somebody keeps its write-ahead log
    /// from being emptied.
    fn weigh(&self, size: Size, held: &mut bool) {
        let Size { file_bytes, wal_bytes } = size;
        self.telemetry.metrics.set_ledger_bytes(file_bytes, wal_bytes);
        let wal_max_bytes = self.config.ledger.wal_max_bytes;
        let grows = wal_bytes > WAL_AT_REST_BYTES.max(wal_max_bytes / 4);
        if grows && !*held {
            warn!(
                wal_bytes,
                wal_max_bytes,
                "somebody reads the ledger and does not let go: its write-ahead log grows; at its bound only stop passes"
            );
        }
        *held = grows;
    }

    /// Measures; the clocks are those of the last time, and the disk's free room comes from the
    /// scales.
    fn measure(&self, clocks: &mut (Instant, SystemTime), disk_free_bytes: Option<u64>) -> Measured {
        let (monotonic, wall) = (Instant::now(), SystemTime::now());
        let passed = monotonic.duration_since(clocks.0);
        let moved = match wall.duration_since(clocks.1) {
            Ok(forward) => forward.abs_diff(passed),
            Err(back) => back.duration() + passed,
        };
        *clocks = (monotonic, wall);
        Measured {
            clock_drift_ms: u64::try_from(moved.as_millis()).ok(),
            disk_free_bytes,
            ledger_failures: Some(u64::from(!self.telemetry.health.ledger())),
        }
    }

    async fn tell_latch(&self, found: &Before) {
        if let Some(latch) = read(found) {
            self.tell(Done::Latched(latch)).await;
        }
    }

    /// A router that is gone needs no finding.
    async fn tell(&self, done: Done) {
        let _ = self.done.send(done).await;
    }
}

/// The latch in a ledger's directory, where one is thrown.
pub(super) async fn latched(ledger_dir: &Path) -> Option<Done> {
    let path = ledger_dir.join(latch::FILE);
    let found = tokio::task::spawn_blocking(move || latch::read(&path)).await;
    // A look that failed is none that found nothing.
    read(&found.unwrap_or(Before::Unreadable)).map(Done::Latched)
}

/// What a latch asks for; one that cannot be read asks for the most.
fn read(found: &Before) -> Option<Latch> {
    match found {
        Before::Nothing => None,
        Before::Unreadable => Some(Latch {
            level: KillSwitch::Block,
            swarm: None,
            reason: "the latch file is there and cannot be read".to_owned(),
        }),
        Before::Latch(latch) => Some(Latch {
            level: KillSwitch::read(&latch.level).unwrap_or(KillSwitch::Block),
            swarm: (latch.scope != ALL).then(|| latch.scope.clone()),
            reason: format!("{} ({})", latch.reason, latch.by),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as gate;

    use super::*;

    /// One thread for all tasks: a look that holds it holds everything.
    #[tokio::test]
    async fn a_look_that_hangs_holds_nothing_and_no_second_one_is_begun() {
        let (open, opened) = gate::channel::<()>();
        let opened = std::sync::Mutex::new(opened);
        let (began, begun) = gate::channel();
        let look = move || {
            let _ = began.send(());
            let _ = opened.lock().map(|opened| opened.recv());
            Weighed { size: Size::default(), free_bytes: Some(7) }
        };
        let mut scales = Scales { look: Arc::new(look), under_way: None };
        assert!(scales.begin());
        for _ in 0..20 {
            assert!(!scales.begin(), "a second look was begun beside one that hangs");
            let weighed = tokio::time::timeout(Duration::from_millis(5), scales.weighed()).await;
            assert!(weighed.is_err(), "it was not over");
        }
        open.send(()).unwrap();
        assert_eq!(scales.weighed().await.free_bytes, Some(7), "what comes late counts");
        assert!(scales.begin());
        open.send(()).unwrap();
        assert_eq!(scales.weighed().await.free_bytes, Some(7));
        assert_eq!(begun.try_iter().count(), 2);
    }
}
