//! The sections of what the router stands on: the broker, the clock, the ledger's disk, the window
//! for machines, the log.
//!
//! Owns: their keys, each with its default, its bounds and its meaning.
//! Never: connects, opens or listens; the drivers do.
//! Holds: every bound says its unit in its name.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{
    secret::BrokerUrl,
    section::{
        DAY_MS, GIB,
        KeyKind::{Address, Choice, ManagementUrl, Name, Path, SecretRef, Url, Urls, Whole, Words},
        MIB, section,
    },
};
use crate::{
    bus::amqp,
    contract::lane::Lane,
    ledger::emergency,
    telemetry::{
        REFUSALS_LOG_MS,
        log::{Format, Severity},
        stderr,
    },
};

section! {
    /// The broker.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Amqp at "amqp." {
        url: BrokerUrl = BrokerUrl::default(), Url,
            "The broker, as amqp:// or amqps://. Better given in the environment: it holds a password.";
        management_url: Option<BrokerUrl> = None, ManagementUrl,
            "The broker's management API, http:// only, for `doctor`; it asks as the broker's user unless the URL names another.";
        urls: Vec<BrokerUrl> = Vec::new(), Urls,
            "Instead of `amqp.url`: the broker's nodes, for one user and virtual host. The last good one is tried first, then in order.";
        connect_timeout_ms: u64 = 10_000, Whole(100, 600_000),
            "How long a node may take over each step of connecting before it has failed.";
        connect_next_ms: u64 = 500, Whole(10, 600_000),
            "How long a node of `amqp.urls` may stay silent before the next one is tried beside it.";
        prefix: String = "swarmgate".to_owned(), Name,
            "What the names of the router's exchanges and queues begin with.";
        prefetch_urgent_count: u16 = 256, Whole(1, 65_535),
            "Unsettled deliveries on the urgent lane: stop and tightening.";
        prefetch_signals_count: u16 = 1_000, Whole(1, 65_535),
            "Unsettled deliveries on the signals lane.";
        prefetch_results_count: u16 = 1_000, Whole(1, 65_535),
            "Unsettled deliveries on the results lane: outcomes and alerts.";
        prefetch_metrics_count: u16 = 2_000, Whole(1, 65_535),
            "Unsettled deliveries on the metrics lane.";
        in_flight_bytes_max: usize = 128 * 1024 * 1024, Whole(MIB, 16 * GIB),
            "Bytes of bodies taken and not yet settled, over all lanes.";
        confirm_timeout_ms: u64 = 10_000, Whole(100, 600_000),
            "How long a publish waits for its confirm before its fate is unknown.";
        confirm_slow_ms: u64 = 250, Whole(10, 600_000),
            "After how long without a confirm a publish holds up no later one: that goes by a fresh channel.";
        slow_batches_max: usize = 32, Whole(1, 1_000),
            "How many batches may wait for their confirms, for each way out; beyond, the oldest is given up and tried again.";
        reconnect_min_ms: u64 = 100, Whole(1, 600_000),
            "The first pause before connecting again; it doubles up to the next.";
        reconnect_max_ms: u64 = 10_000, Whole(1, 600_000),
            "The longest pause before connecting again; where connections stood and were cut it is at most a second, and where one has lasted 30 s there is none.";
        heartbeat_s: u16 = 4, Whole(0, 3_600),
            "The AMQP heartbeat in seconds; a node that hangs is noticed within two and a half. 0 is none.";
        ..tls: Tls, "What `amqps://` trusts and shows.";
    }
}

section! {
    /// What `amqps://` trusts and shows.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Tls at "amqp.tls." {
        ca_file: Option<PathBuf> = None, Path,
            "The authorities (PEM) that alone may have signed the broker's certificate. Left out: those that this system trusts.";
        cert_file: Option<PathBuf> = None, Path,
            "Our own certificate (PEM), and those between it and its authority, where the broker asks for one. Without a password in the URL it is the login too (EXTERNAL).";
        key_ref: Option<String> = None, SecretRef,
            "Where the key (PEM) of `amqp.tls.cert_file` is, like `file:PATH` or `env:NAME`; a file is its owner's alone.";
    }
}

impl Amqp {
    /// Every address of the broker, in the order in which they are tried at first.
    pub fn addresses(&self) -> &[BrokerUrl] {
        if self.urls.is_empty() { std::slice::from_ref(&self.url) } else { &self.urls }
    }

    /// The broker's user as whom this config connects; `None` where only the broker knows, because
    /// the login is a certificate.
    pub fn user(&self) -> Option<String> {
        let url = self.addresses().first()?;
        if self.tls.cert_file.is_some() && !url.has_user() {
            return None;
        }
        let known = amqp::user_and_vhost(url.expose()).map(|(user, _)| user);
        Some(known.unwrap_or_else(|| "guest".to_owned()))
    }

    /// The prefetch of a lane.
    pub const fn prefetch_count(&self, lane: Lane) -> u16 {
        match lane {
            Lane::Urgent => self.prefetch_urgent_count,
            Lane::Signals => self.prefetch_signals_count,
            Lane::Results => self.prefetch_results_count,
            Lane::Metrics => self.prefetch_metrics_count,
        }
    }
}

section! {
    /// The clock, beside the ledger.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Clock at "clock." {
        ahead_max_ms: u64 = 60_000, Whole(0, DAY_MS),
            "How far the ledger's last entry may be ahead of the clock for the router to wait; beyond, everything is SAFE.";
    }
}

section! {
    /// The ledger.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Ledger at "ledger." {
        dir: PathBuf = PathBuf::from("swarmgate-data"), Path,
            "The ledger's directory; made when it is not there.";
        size_max_bytes: u64 = 64 * GIB, Whole(16 * MIB, 1024 * 1024 * GIB),
            "How large the ledger may grow, its write-ahead log included, before it counts as full.";
        wal_max_bytes: u64 = 256 * MIB, Whole(16 * MIB, 1024 * GIB),
            "How large its write-ahead log may grow while somebody reads and does not let go; then only stop passes.";
        batch_entries_max: usize = 256, Whole(1, 512),
            "How many entries one group commit takes; above 512 checkpoints stall it.";
        commit_timeout_ms: u64 = 5_000, Whole(100, 60_000),
            "How long a commit may take before the ledger counts as one that cannot be written.";
        emergency_path: Option<PathBuf> = None, Path,
            "The file of the emergency log, better on another disk. Left out: `emergency.log` in `ledger.dir`.";
        emergency_size_bytes: u64 = 4 * MIB, Whole(64 * 1024, emergency::SIZE_BYTES_MAX),
            "The room that the emergency log takes at its making, so that a full disk has it.";
        emergency_timeout_ms: u64 = 250, Whole(1, 10_000),
            "How long a write to it may hold up a stop.";
    }
}

impl Ledger {
    /// The file of the emergency log.
    pub fn emergency_place(&self) -> PathBuf {
        self.emergency_path.clone().unwrap_or_else(|| self.dir.join(emergency::FILE))
    }
}

section! {
    /// The window for machines.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Http at "http." {
        addr: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), Address,
            "Where /metrics, /healthz, /readyz and /api listen; there is no login, so keep it to trusted networks.";
        header_timeout_ms: u64 = 5_000, Whole(100, 60_000),
            "How long a client may take to send a request's head, or idle.";
        write_timeout_ms: u64 = 10_000, Whole(100, 600_000),
            "How long a client may take to read an answer; then its connection is closed.";
        connections_max: usize = 64, Whole(1, 10_000),
            "How many connections at once; more get /healthz and /readyz only.";
        health_connections_max: usize = 16, Whole(1, 1_000),
            "How many connections beyond those; one more closes the oldest of them.";
        hosts: Vec<String> = Vec::new(), Words,
            "Names by which /metrics and /api may be asked, besides addresses and `localhost`, like a container's.";
    }
}

section! {
    /// The log.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Log at "telemetry." {
        log_format: Format = Format::default(), Choice(&["text", "json"]),
            "`text` for people, `json` for machines; always on stderr.";
        log_level: Severity = Severity::default(), Choice(&["error", "warn", "info", "debug", "trace"]),
            "What is worth a line; RUST_LOG wins over it.";
        log_line_bytes_max: usize = stderr::StderrBounds::default().line_bytes_max, Whole(256, MIB),
            "Bytes of one line of the log; more is cut, and says so.";
        log_queue_bytes_max: usize = stderr::StderrBounds::default().queue_bytes_max, Whole(64 * 1024, GIB),
            "Bytes of lines that wait for the reader of stderr; beyond, lines are dropped and counted.";
        refusals_log_ms: u64 = REFUSALS_LOG_MS, Whole(100, DAY_MS),
            "How often the log has the number of refusals like one that it has told.";
    }
}

impl Log {
    /// The bounds on what waits for the reader of stderr.
    pub fn bounds(&self) -> stderr::StderrBounds {
        stderr::StderrBounds {
            queue_bytes_max: self.log_queue_bytes_max,
            line_bytes_max: self.log_line_bytes_max,
        }
    }
}
