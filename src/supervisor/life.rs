//! The life of one worker: process after process, until it was told to end or has fallen too often.
//!
//! Owns: when its next process starts, what it gets, and its one report.
//! Never: talks to a process that runs; its running does.
//! Holds: a worker has at most one process; the first key of a process is good for one connection,
//! and for no other process.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{error, info, warn};

use super::{
    event::{Cause, End, Event, Stage, WorkerEnd},
    floor::{Floor, Worker, WorkerOrder},
    output,
    process::{Process, Start},
    restart::Restarts,
    running::{Over, Running},
};
use crate::{
    channel::Connection,
    clock,
    config::workers::Wanted,
    contract::{
        control::{Kdf, Launch},
        routing::Scope,
    },
    keys,
};

/// Where the first key is read: standard input, which a worker of a supervisor has no other use
/// for.
const KEY_FD: u32 = 0;

/// How long what a process printed last may take to be read.
const LAST_LINES_MS: u64 = 500;

/// One worker's life.
pub(super) struct Life {
    pub worker: Worker,
    restarts: Restarts,
    output: JoinSet<()>,
    began: Instant,
    last_fall: Option<Cause>,
}

impl Life {
    pub(super) fn new(
        wanted: Wanted,
        floor: Arc<Floor>,
        orders: mpsc::Receiver<WorkerOrder>,
        knocks: mpsc::Receiver<Connection>,
        seed: u64,
    ) -> Self {
        let restarts = Restarts::new(&floor.settings, seed);
        let stage = watch::Sender::new(Stage::Down);
        Self {
            worker: Worker { wanted, floor, orders, knocks, stage, processes: 0 },
            restarts,
            output: JoinSet::new(),
            began: Instant::now(),
            last_fall: None,
        }
    }

    /// Lives it to its end.
    pub(super) async fn live(mut self) -> WorkerEnd {
        let end = self.processes().await;
        let Scope { instance, .. } = &self.worker.wanted.scope;
        self.worker.floor.ring.take(instance);
        if end == End::GivenUp {
            self.worker.floor.barrier.end(instance, clock::wall());
        } else {
            self.worker.floor.barrier.excuse(instance, clock::wall());
        }
        let report = WorkerEnd {
            worker: self.worker.wanted.scope.clone(),
            processes: self.worker.processes,
            end,
            last_fall: self.last_fall.as_ref().map(ToString::to_string),
        };
        (self.worker.floor.tell)(&self.worker.wanted.scope, Event::Over(report.clone()));
        report
    }

    /// Process after process.
    async fn processes(&mut self) -> End {
        let worker = self.worker.wanted.scope.instance.clone();
        loop {
            let over = match self.start().await {
                Ok(process) => Running::new(&mut self.worker, process).run().await,
                Err(fault) => Over::Fell(Cause::NotStarted(fault)),
            };
            self.worker.floor.ring.take(&worker);
            self.worker.floor.barrier.end(&worker, clock::wall());
            self.read_to_the_end().await;
            self.worker.stage.send_replace(Stage::Down);
            (self.worker.floor.tell)(&self.worker.wanted.scope, Event::Ended);
            let cause = match over {
                Over::Stopped(end) => {
                    info!(worker, end = end.word(), "the worker has ended");
                    return end;
                }
                Over::Fell(cause) => cause,
            };
            let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let pause_ms = self.restarts.after_end(now_ms);
            self.last_fall = Some(cause.clone());
            let Some(pause_ms) = pause_ms else {
                error!(
                    worker,
                    processes = self.worker.processes,
                    "the worker is given up, it has fallen more than `supervisor.restart_count_max` times: {cause}"
                );
                return End::GivenUp;
            };
            warn!(worker, pause_ms, "the worker has fallen and will be started again: {cause}");
            if self.told_to_end_within(pause_ms).await {
                return End::NotRunning;
            }
        }
    }

    /// Waits until what the process printed last is in the log; one that left its group may hold
    /// the streams open.
    async fn read_to_the_end(&mut self) {
        let reading = async { while self.output.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_millis(LAST_LINES_MS), reading).await.is_err() {
            self.output.abort_all();
        }
    }

    /// Whether it was told to end before the pause was over.
    async fn told_to_end_within(&mut self, pause_ms: u64) -> bool {
        let over = tokio::time::sleep(Duration::from_millis(pause_ms));
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = self.worker.floor.stopping.cancelled() => return true,
                order = self.worker.orders.recv() => match order {
                    Some(WorkerOrder::Stop) | None => return true,
                    // Who orders keeps what was not answered, and orders it again; a yes was for
                    // the process before.
                    Some(WorkerOrder::Hear(_) | WorkerOrder::Begin(_) | WorkerOrder::Ask(_)) => {}
                },
                // A connection of a process that is gone.
                Some(stale) = self.worker.knocks.recv() => drop(stale),
                () = &mut over => return false,
            }
        }
    }

    /// Starts the next process.
    async fn start(&mut self) -> Result<Process, String> {
        let (floor, scope) = (Arc::clone(&self.worker.floor), self.worker.wanted.scope.clone());
        self.worker.processes += 1;
        while self.worker.knocks.try_recv().is_ok() {}
        let first = keys::generate().map_err(|fault| fault.to_string())?.derive(Kdf::None);
        let launch = Launch {
            address: floor.address,
            scope: scope.clone(),
            key_fd: KEY_FD,
            heartbeat_ms: floor.settings.heartbeat_ms,
            ttl_seconds: floor.ttl_seconds,
            payload_bytes_max: floor.payload_bytes_max,
        };
        let row = &self.worker.wanted.row;
        let own = launch.variables().map(|(name, value)| (name.to_owned(), value));
        let env = row.env.iter().map(|(name, value)| (name.clone(), value.clone())).chain(own).collect();
        let start = Start { shim: floor.shim.clone(), command: row.command.clone(), env };
        floor.ring.put(&scope.instance, first.clone());
        let mut process = floor.spawner.spawn(start, &first).await.map_err(|fault| fault.to_string())?;
        let (said, complained) = process.streams();
        let bounds = output::OutputBounds {
            line_bytes_max: floor.settings.log_line_bytes_max,
            lines_per_second_max: floor.settings.log_lines_per_second_max,
        };
        // They end with the streams, which end with the process and its group.
        if let Some(said) = said {
            self.output.spawn(output::log_lines(scope.instance.clone(), "stdout", said, bounds));
        }
        if let Some(complained) = complained {
            self.output.spawn(output::log_lines(scope.instance.clone(), "stderr", complained, bounds));
        }
        let (pid, number) = (process.id(), self.worker.processes);
        info!(worker = scope.instance, pid, number, "the worker's process has started");
        self.worker.stage.send_replace(Stage::Started);
        (floor.tell)(&scope, Event::Started { at: clock::wall(), pid, number });
        Ok(process)
    }
}
