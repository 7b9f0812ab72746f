//! The merge: what all statuses of one instance together say.
//!
//! Owns: the record of an instance that has spoken, and the order of what it said.
//! Never: looks at the order in which statuses arrive; each field keeps the newest that was said of
//! it.
//! Holds: merging is commutative, associative and idempotent; a late status changes no field that
//! is newer.

use std::sync::Arc;

use super::status::{Build, Full, Health, Lifecycle, Plane, Status, Tie};
use crate::contract::{digest::Digest, timestamp::Timestamp};

/// The widest clock skew that is told apart, in milliseconds: a day.
const SKEW_KEPT_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// When something was said: min(timestamp, arrival + skew), then the body's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SaidAt {
    pub at: i64,
    pub tie: Tie,
}

impl SaidAt {
    const NEVER: Self = Self { at: i64::MIN, tie: 0 };

    /// The stamp of a status; a clock that runs ahead wins nothing beyond `skew_max_ms`.
    pub fn of(status: &Status, skew_max_ms: u64) -> Self {
        let at = status.said.micros().min(status.arrived.plus_ms(skew_max_ms).micros());
        Self { at, tie: status.tie }
    }
}

/// A value and when it was said; the newest wins.
#[derive(Clone, Debug)]
pub(super) struct Field<T> {
    stamp: SaidAt,
    value: T,
}

impl<T: Default> Default for Field<T> {
    fn default() -> Self {
        Self { stamp: SaidAt::NEVER, value: T::default() }
    }
}

impl<T> Field<T> {
    /// Takes the value if it is newer than what is there.
    pub fn write(&mut self, stamp: SaidAt, value: T) -> bool {
        let newer = stamp > self.stamp;
        if newer {
            *self = Self { stamp, value };
        }
        newer
    }

    pub fn get(&self) -> &T {
        &self.value
    }

    pub fn stamp(&self) -> SaidAt {
        self.stamp
    }
}

/// What an instance that has spoken says of itself.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub first_seen: i64,
    pub last_seen: i64,
    /// Until when it surely lived, on the lane's clock: the latest of min(arrival, stamp + what a
    /// clock may be behind).
    pub heard: i64,
    /// The largest of all: the delay on the way only ever makes it smaller, so this is nearest to
    /// the clock's own.
    skew_best_ms: i32,
    /// What every status says.
    live: Field<Live>,
    tps: Field<Option<u64>>,
    work: Field<Option<Plane>>,
    filesystem: Field<Option<Plane>>,
    build: Field<Option<SharedBuild>>,
    full: Field<Option<Snapshot>>,
}

/// What every status says.
#[derive(Clone, Copy, Debug, Default)]
struct Live {
    enabled: bool,
    /// Timestamp − arrival.
    skew_ms: i32,
}

/// A build, of which all but the container is kept once.
#[derive(Clone, Debug)]
pub(super) struct SharedBuild {
    pub container_id: Option<Arc<str>>,
    pub common: Arc<Build>,
}

/// What the newest status-full said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    pub started_at: Timestamp,
    pub config: Digest,
    /// Whether it said which queues it uses.
    pub names_queues: bool,
}

impl Record {
    /// The record before its first status.
    pub fn new() -> Self {
        Self {
            first_seen: i64::MAX,
            last_seen: i64::MIN,
            heard: i64::MIN,
            skew_best_ms: i32::MIN,
            live: Field::default(),
            tps: Field::default(),
            work: Field::default(),
            filesystem: Field::default(),
            build: Field::default(),
            full: Field::default(),
        }
    }

    /// Takes what is newer in a status; says whether the snapshot is the new one.
    pub fn merge(&mut self, status: &Status, stamp: SaidAt, heard: i64, build: Option<SharedBuild>) -> bool {
        let arrived = status.arrived.micros();
        self.first_seen = self.first_seen.min(arrived);
        self.last_seen = self.last_seen.max(arrived);
        self.heard = self.heard.max(heard);
        let skew = status.said.ms_since(status.arrived).clamp(-SKEW_KEPT_MS_MAX, SKEW_KEPT_MS_MAX) as i32;
        // One body may arrive twice; the way with less delay is the one that tells of the clock.
        if stamp == self.live.stamp {
            self.live.value.skew_ms = skew.max(self.live.value.skew_ms);
        } else {
            self.live.write(stamp, Live { enabled: status.enabled, skew_ms: skew });
        }
        self.skew_best_ms = self.skew_best_ms.max(skew);
        // A full says all there is, so what it leaves out is gone; a delta leaves alone what it
        // does not name.
        let is_full = status.is_full();
        if is_full || status.tps.is_some() {
            self.tps.write(stamp, status.tps);
        }
        if is_full || status.work.is_some() {
            self.work.write(stamp, status.work);
        }
        if is_full || status.filesystem.is_some() {
            self.filesystem.write(stamp, status.filesystem);
        }
        if is_full || build.is_some() {
            self.build.write(stamp, build);
        }
        status.full.as_ref().is_some_and(|full| {
            let Full { started_at, config, names_queues, .. } = *full;
            let snapshot = Snapshot { started_at, config, names_queues };
            self.full.write(stamp, Some(snapshot))
        })
    }

    /// The worst of the planes it reports; `unknown` where it reports none.
    pub fn health(&self) -> Health {
        let planes = [self.work.value, self.filesystem.value];
        planes.into_iter().flatten().map(Plane::worst).max().unwrap_or_default()
    }

    /// Where enabling alone tells of its life: it works or it does not.
    pub fn lifecycle(&self) -> Lifecycle {
        if self.live.value.enabled { Lifecycle::Running } else { Lifecycle::Idle }
    }

    pub fn enabled(&self) -> bool {
        self.live.value.enabled
    }

    pub fn tps(&self) -> Option<u64> {
        self.tps.value
    }

    pub fn planes(&self) -> (Option<Plane>, Option<Plane>) {
        (self.work.value, self.filesystem.value)
    }

    pub fn build(&self) -> Option<Build> {
        let shared = self.build.value.as_ref()?;
        Some(Build { container_id: shared.container_id.clone(), ..Build::clone(&shared.common) })
    }

    pub fn run_id(&self) -> Option<&str> {
        self.build.value.as_ref().map(|shared| &*shared.common.run_id)
    }

    /// How recent it is: the newest stamp of any status.
    pub fn as_of(&self) -> i64 {
        self.live.stamp.at
    }

    /// The newest snapshot and when it was said.
    pub fn snapshot(&self) -> Option<(Snapshot, i64)> {
        self.full.value.map(|snapshot| (snapshot, self.full.stamp.at))
    }

    /// The skew of the newest status, and the best estimate of the clock's own.
    pub fn skew_ms(&self) -> (i32, i32) {
        (self.live.value.skew_ms, self.skew_best_ms)
    }

    /// What it takes up on the heap, without the builds that are shared.
    pub fn bytes(&self) -> usize {
        let container = self.build.value.as_ref().and_then(|shared| shared.container_id.as_ref());
        container.map_or(0, |id| id.len() + 16)
    }
}
