//! The table of settings: each leaf's path, form, bounds and meaning.
//!
//! Owns: what the loader checks, what the printed defaults explain and what the JSON Schema says.
//! Never: holds a default; those stand once, in the structs.
//! Holds: one row a leaf of `Config` (a test compares them).

use super::form::{Field, Kind};
use crate::{contract::strict::LEXER_DEPTH_MAX, ledger::emergency::SIZE_BYTES_MAX};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const GIB: u64 = 1024 * 1024 * 1024;
const CONFIRMATIONS: &[&str] = &["explicit", "second-person", "quorum"];
const CLASSES: &[&str] = &[
    "stop",
    "tighten",
    "loosen",
    "consent",
    "session",
    "liveness",
    "evidence",
    "change",
    "start",
    "release",
    "destructive",
];

const fn field(path: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { path, kind, doc }
}

const fn deadline(path: &'static str) -> Field {
    field(
        path,
        Whole(100, 7 * DAY_MS),
        "How long a command of this type waits for its outcome before it has timed out.",
    )
}

use Kind::{
    Address, Choice, Flag, Lines, Loopback, ManagementUrl, Name, Path, SecretRef, Segment, Url, Urls, Whole,
    Words, Workers,
};

/// Every setting but `types`, in the order of the printed defaults.
pub const FIELDS: &[Field] = &[
    field(
        "mode",
        Choice(&["observe", "enforce"]),
        "`enforce` judges, records and carries; `observe` judges and records only.",
    ),
    field(
        "environment",
        Choice(&["dev", "stage", "prod"]),
        "What the deployment is for; `prod` asks for proven senders.",
    ),
    field("instance", Segment, "The router's own instance name, unique among the routers on a broker."),
    field("skew_max_ms", Whole(0, DAY_MS), "How far ahead of ours a sender's clock may be."),
    field("drain_timeout_ms", Whole(0, 600_000), "How long a stop waits for what is under way."),
    field(
        "amqp.url",
        Url,
        "The broker, as amqp:// or amqps://. Better given in the environment: it holds a password.",
    ),
    field(
        "amqp.management_url",
        ManagementUrl,
        "The broker's management API, http:// only, for `doctor`; it asks as the broker's user unless the URL names another.",
    ),
    field(
        "amqp.urls",
        Urls,
        "Instead of `amqp.url`: the broker's nodes, for one user and virtual host. The last good one is tried first, then in order.",
    ),
    field(
        "amqp.connect_timeout_ms",
        Whole(100, 600_000),
        "How long a node may take over each step of connecting before it has failed.",
    ),
    field(
        "amqp.connect_next_ms",
        Whole(10, 600_000),
        "How long a node of `amqp.urls` may stay silent before the next one is tried beside it.",
    ),
    field("amqp.prefix", Name, "What the names of the router's exchanges and queues begin with."),
    field(
        "amqp.prefetch_urgent_count",
        Whole(1, 65_535),
        "Unsettled deliveries on the urgent lane: stop and tightening.",
    ),
    field("amqp.prefetch_signals_count", Whole(1, 65_535), "Unsettled deliveries on the signals lane."),
    field(
        "amqp.prefetch_results_count",
        Whole(1, 65_535),
        "Unsettled deliveries on the results lane: outcomes and alerts.",
    ),
    field("amqp.prefetch_metrics_count", Whole(1, 65_535), "Unsettled deliveries on the metrics lane."),
    field(
        "amqp.in_flight_bytes_max",
        Whole(1024 * 1024, 16 * GIB),
        "Bytes of bodies taken and not yet settled, over all lanes.",
    ),
    field(
        "amqp.confirm_timeout_ms",
        Whole(100, 600_000),
        "How long a publish waits for its confirm before its fate is unknown.",
    ),
    field(
        "amqp.confirm_slow_ms",
        Whole(10, 600_000),
        "After how long without a confirm a publish holds up no later one: that goes by a fresh channel.",
    ),
    field(
        "amqp.slow_batches_max",
        Whole(1, 1_000),
        "How many batches may wait for their confirms, for each way out; beyond, the oldest is given up and tried again.",
    ),
    field(
        "amqp.reconnect_min_ms",
        Whole(1, 600_000),
        "The first pause before connecting again; it doubles up to the next.",
    ),
    field("amqp.reconnect_max_ms", Whole(1, 600_000), "The longest pause before connecting again."),
    field(
        "amqp.heartbeat_s",
        Whole(0, 3_600),
        "The AMQP heartbeat in seconds; a node that hangs is noticed within two and a half. 0 is none.",
    ),
    field(
        "clock.ahead_max_ms",
        Whole(0, DAY_MS),
        "How far the ledger's last entry may be ahead of the clock for the router to wait; beyond, everything is SAFE.",
    ),
    field("ledger.dir", Path, "The ledger's directory; made when it is not there."),
    field(
        "ledger.size_max_bytes",
        Whole(16 * 1024 * 1024, 1024 * 1024 * GIB),
        "How large the ledger may grow, its write-ahead log included, before it counts as full.",
    ),
    field(
        "ledger.wal_max_bytes",
        Whole(16 * 1024 * 1024, 1024 * GIB),
        "How large its write-ahead log may grow while somebody reads and does not let go; then only stop passes.",
    ),
    field(
        "ledger.batch_entries_max",
        Whole(1, 512),
        "How many entries one group commit takes; above 512 checkpoints stall it.",
    ),
    field(
        "ledger.commit_timeout_ms",
        Whole(100, 60_000),
        "How long a commit may take before the ledger counts as one that cannot be written.",
    ),
    field(
        "ledger.emergency_path",
        Path,
        "The file of the emergency log, better on another disk. Left out: `emergency.log` in `ledger.dir`.",
    ),
    field(
        "ledger.emergency_size_bytes",
        Whole(64 * 1024, SIZE_BYTES_MAX),
        "The room that the emergency log takes at its making, so that a full disk has it.",
    ),
    field("ledger.emergency_timeout_ms", Whole(1, 10_000), "How long a write to it may hold up a stop."),
    field(
        "http.addr",
        Address,
        "Where /metrics, /healthz, /readyz and /api listen; there is no login, so keep it to trusted networks.",
    ),
    field(
        "http.header_timeout_ms",
        Whole(100, 60_000),
        "How long a client may take to send a request's head, or idle.",
    ),
    field(
        "http.write_timeout_ms",
        Whole(100, 600_000),
        "How long a client may take to read an answer; then its connection is closed.",
    ),
    field(
        "http.connections_max",
        Whole(1, 10_000),
        "How many connections at once; more get /healthz and /readyz only.",
    ),
    field(
        "http.health_connections_max",
        Whole(1, 1_000),
        "How many connections beyond those; one more closes the oldest of them.",
    ),
    field(
        "http.hosts",
        Words,
        "Names by which /metrics and /api may be asked, besides addresses and `localhost`, like a container's.",
    ),
    field(
        "limits.body_bytes_max",
        Whole(1024, 16 * 1024 * 1024),
        "Bytes of one body; more is `contract.too-large`.",
    ),
    field(
        "limits.depth_max",
        Whole(4, LEXER_DEPTH_MAX as u64),
        "Levels of nesting in a body; more is `contract.too-deep`.",
    ),
    field("limits.nodes_max", Whole(100, 1_000_000), "Values in a body; more is `contract.too-deep`."),
    field("idempotency.window_ms", Whole(1_000, 30 * DAY_MS), "How long a command key is remembered."),
    field(
        "idempotency.keys_max",
        Whole(1_000, 100_000_000),
        "How many command keys are remembered (120 bytes each).",
    ),
    field(
        "commands.targets_max",
        Whole(1, 1_000_000),
        "How many targets of one fan-out are recorded; more are carried to all the same.",
    ),
    field(
        "commands.bundles_max",
        Whole(1, 100),
        "How many support bundles that were asked for may be under way; they are made one after another, and more are refused.",
    ),
    field(
        "commands.catch_up_ms",
        Whole(0, 600_000),
        "How long what waited during an outage may take to be judged before anything times out.",
    ),
    field("inventory.instances_max", Whole(1, 10_000_000), "How many instances are known (1 KiB each)."),
    field("inventory.stale_after_ms", Whole(100, DAY_MS), "After how much silence an instance is stale."),
    field("inventory.lost_after_ms", Whole(100, DAY_MS), "After how much silence it is lost."),
    field(
        "inventory.forget_after_ms",
        Whole(1_000, 365 * DAY_MS),
        "After how much silence one that nobody expects is forgotten.",
    ),
    field(
        "inventory.back_after_count",
        Whole(1, 1_000),
        "How many statuses in a row bring a silent instance back, where no full one does.",
    ),
    field(
        "parking.target_max",
        Whole(1, 100_000),
        "How many commands wait for one absent target; beyond, the oldest ends.",
    ),
    field("parking.total_max", Whole(1, 10_000_000), "How many commands wait for absent targets in all."),
    field(
        "parking.bytes_max",
        Whole(1024, GIB),
        "How large the bodies of commands that wait for absent targets may be together, in bytes; beyond, the oldest ends.",
    ),
    field(
        "outbox.target_max",
        Whole(1, 100_000),
        "How many messages that the broker does not take wait for one target; beyond, the oldest counts as taken by no queue.",
    ),
    field(
        "outbox.total_max",
        Whole(1, 1_000_000),
        "How many messages that the broker does not take wait in all, for each way out; beyond, likewise.",
    ),
    field(
        "outbox.bytes_max",
        Whole(1024, GIB),
        "How large the bodies of messages that the broker does not take may be together, in bytes, for each way out.",
    ),
    field(
        "outbox.unrecorded_attempts_max",
        Whole(1, 1_000),
        "How often a message without an entry of its own is published that the broker does not take; then it is dropped and counted.",
    ),
    field(
        "metrics.attempts_max",
        Whole(1, 1_000),
        "How often a status is published that the broker does not take; then it is dropped and counted.",
    ),
    field(
        "observe.queue_bytes_max",
        Whole(1024 * 1024, 16 * GIB),
        "Observe mode: bytes of bodies that wait at the broker to be judged; beyond, the oldest are dropped and counted.",
    ),
    field(
        "observe.dropped_bytes_max",
        Whole(1024 * 1024, 16 * GIB),
        "Observe mode: bytes of what was dropped that the broker keeps until it is counted; beyond, the count is a lower bound.",
    ),
    deadline("deadlines.stop_ms"),
    deadline("deadlines.swarm_stop_ms"),
    deadline("deadlines.bot_stop_ms"),
    deadline("deadlines.bot_pause_ms"),
    deadline("deadlines.swarm_remove_ms"),
    deadline("deadlines.bot_quarantine_ms"),
    deadline("deadlines.bootstrap_bundle_ms"),
    deadline("deadlines.start_work_ms"),
    deadline("deadlines.status_request_ms"),
    deadline("deadlines.swarm_template_ms"),
    deadline("deadlines.swarm_plan_ms"),
    deadline("deadlines.config_update_ms"),
    deadline("deadlines.bot_init_ms"),
    deadline("deadlines.swarm_start_ms"),
    deadline("deadlines.bot_start_ms"),
    deadline("deadlines.bot_resume_ms"),
    deadline("deadlines.bot_release_ms"),
    deadline("deadlines.secret_rotate_ms"),
    deadline("deadlines.data_delete_ms"),
    deadline("deadlines.data_restore_ms"),
    deadline("deadlines.data_compact_ms"),
    field("alerts.dedupe_ms", Whole(0, DAY_MS), "How long the same alert is not raised again."),
    field(
        "alerts.per_second_max",
        Whole(1, 10_000),
        "How many of the router's own alerts leave in a second.",
    ),
    field(
        "refusals.senders_max",
        Whole(1, 1_000_000),
        "How many pairs of sender and code are tallied apart within a second.",
    ),
    field(
        "refusals.entries_per_second_max",
        Whole(1, 1_000_000),
        "How many refusals of dangerous commands and consents have an entry each, of one sender and code in a second.",
    ),
    field(
        "telemetry.log_format",
        Choice(&["text", "json"]),
        "`text` for people, `json` for machines; always on stderr.",
    ),
    field(
        "telemetry.log_level",
        Choice(&["error", "warn", "info", "debug", "trace"]),
        "What is worth a line; RUST_LOG wins over it.",
    ),
    field(
        "telemetry.log_line_bytes_max",
        Whole(256, 1024 * 1024),
        "Bytes of one line of the log; more is cut, and says so.",
    ),
    field(
        "telemetry.log_queue_bytes_max",
        Whole(64 * 1024, GIB),
        "Bytes of lines that wait for the reader of stderr; beyond, lines are dropped and counted.",
    ),
    field(
        "telemetry.refusals_log_ms",
        Whole(100, DAY_MS),
        "How often the log has the number of refusals like one that it has told.",
    ),
    field(
        "identity.mode",
        Choice(&["open"]),
        "How senders are known; this release knows `open` (AMQP user-id, else origin).",
    ),
    field(
        "identity.trust_origin",
        Flag,
        "Whether senders without user-id may confirm, loosen and start live; for demos, in `dev` only.",
    ),
    field(
        "session.lost_after_ms",
        Whole(1_000, DAY_MS),
        "How long nothing may be heard of a worker before its control session is lost.",
    ),
    field(
        "lifecycle.lost_live_after_ms",
        Whole(1_000, DAY_MS),
        "How long nothing may be heard of a bot that runs live before it is quarantined and told to stop.",
    ),
    field(
        "lifecycle.mismatches_max",
        Whole(1, 10_000),
        "How many times in `interlocks.window_ms` others may speak for a bot that runs live; then it is quarantined.",
    ),
    field(
        "safety.gates_required",
        Words,
        "The readiness gates that starts and changes consult; in prod at least one.",
    ),
    field(
        "safety.gate_reporters",
        Lines,
        "Who reports a gate, where that is one principal only, like `risk=risk-bot`.",
    ),
    field(
        "safety.gate_ttl_ms",
        Whole(1_000, DAY_MS),
        "How long a gate's report counts at most; then it is UNKNOWN.",
    ),
    field(
        "safety.disable_ms_max",
        Whole(1_000, 7 * DAY_MS),
        "How long a gate or the router's alerts may be switched off at most.",
    ),
    field("interlocks.window_ms", Whole(1_000, DAY_MS), "How long a window of the interlocks is."),
    field("interlocks.samples_min", Whole(1, 1_000_000), "How many samples a window must have to count."),
    field(
        "interlocks.commands_max",
        Whole(0, 1_000_000_000),
        "Commands of one principal in a window; beyond, its starts are suspended. 0 is off.",
    ),
    field(
        "interlocks.duplicates_max",
        Whole(0, 1_000_000_000),
        "Repeats of one principal in a window; beyond, its starts are suspended. 0 is off.",
    ),
    field("interlocks.suspend_ms", Whole(1_000, 7 * DAY_MS), "For how long starts are suspended."),
    field(
        "interlocks.refused_identities_max",
        Whole(0, 1_000_000_000),
        "Refusals by the identity gate in a window; beyond, there is an alert. 0 is off.",
    ),
    field(
        "interlocks.missing_outcomes_percent_max",
        Whole(0, 99),
        "Commands of a swarm that ended without their outcome, in percent; beyond, the swarm is SAFE. 0 is off.",
    ),
    field(
        "interlocks.unknown_percent_max",
        Whole(0, 99),
        "Instances of a swarm that are lost, in percent; beyond for a window, the swarm is SAFE. 0 is off.",
    ),
    field(
        "interlocks.ledger_failures_min",
        Whole(0, 1_000),
        "Looks at a ledger that cannot be written, from which on for a window everything is SAFE. 0 is off.",
    ),
    field(
        "interlocks.clock_drift_ms_max",
        Whole(0, DAY_MS),
        "Drift of the wall clock between two looks; beyond for a window, everything is SAFE. 0 is off.",
    ),
    field(
        "interlocks.disk_free_bytes_min",
        Whole(0, 1024 * GIB),
        "Room on the ledger's disk; below for a window, everything is SAFE. 0 is off.",
    ),
    field(
        "consent.requires",
        Choice(CONFIRMATIONS),
        "Who confirms what is dangerous: the requester as a separate act, another, or a quorum.",
    ),
    field(
        "consent.live_requires",
        Choice(CONFIRMATIONS),
        "Who confirms what is live. Left out: `second-person` in prod, else as `consent.requires`.",
    ),
    field("consent.window_ms", Whole(1_000, 300_000), "How long a challenge may be confirmed."),
    field("consent.actors", Words, "Who may ask for and confirm what is dangerous; empty is everybody."),
    field("consent.groups", Lines, "The groups of a quorum, like `risk=ann+bob`."),
    field("consent.quorum", Lines, "How many of each group a quorum takes, like `risk=2`."),
    field("consent.break_glass", Words, "Who may break the glass where a second person is required."),
    field(
        "consent.standing",
        Lines,
        "What was approved beforehand: name, SHA-256 of the command, end, uses; never a live start or loosening.",
    ),
    field(
        "consent.support_bundle",
        Choice(&["free", "dangerous"]),
        "Whether a support bundle takes a confirmation.",
    ),
    field(
        "runtime.platform.bootstrap.mode",
        Choice(&["inline", "process_supervisor"]),
        "Who runs the workers: `inline`, somebody else; `process_supervisor`, `swarmgate supervise`.",
    ),
    field(
        "runtime.platform.execution_ipc.transport",
        Choice(&["memory", "tcp_local"]),
        "The channel to the workers: `memory`, there is none; `tcp_local`, signed frames on this machine.",
    ),
    field(
        "runtime.platform.execution_ipc.bind_host",
        Loopback,
        "Where the channel listens: a loopback address, 127.0.0.1 or ::1.",
    ),
    field(
        "runtime.platform.execution_ipc.bind_port",
        Whole(0, 65_535),
        "The port that it listens at; 0 is any that is free.",
    ),
    field(
        "runtime.platform.execution_ipc.max_payload_bytes",
        Whole(1024, 16 * 1024 * 1024),
        "Bytes of one frame's payload; more is refused before it is read.",
    ),
    field("runtime.platform.execution_ipc.auth.mode", Choice(&["hmac"]), "How frames are proven."),
    field(
        "runtime.platform.execution_ipc.auth.secret_mode",
        Choice(&["static", "generated"]),
        "Where the master secret comes from: `static`, from `secret_ref`; `generated`, made at each start.",
    ),
    field(
        "runtime.platform.execution_ipc.auth.kdf",
        Choice(&["none", "hkdf_sha256"]),
        "How the signing key comes from it. Left out: `none` for `static`, `hkdf_sha256` for `generated`.",
    ),
    field(
        "runtime.platform.execution_ipc.auth.ttl_seconds",
        Whole(1, 3_600),
        "How far a frame's time may be from ours, either way.",
    ),
    field(
        "runtime.platform.execution_ipc.auth.nonce_cache_size",
        Whole(1, 10_000_000),
        "How many unexpired nonces are remembered; beyond, frames are refused and none is forgotten.",
    ),
    field(
        "runtime.platform.execution_ipc.auth.secret_ref",
        SecretRef,
        "Where a static secret is, like `env:NAME` or `file:PATH`; no default, and asked for at the start only.",
    ),
    field("supervisor.swarm_id", Segment, "The swarm that the workers of `swarmgate supervise` are of."),
    field(
        "supervisor.ready_timeout_ms",
        Whole(100, 3_600_000),
        "From a worker's start to its `ready`; then it is stopped and started again.",
    ),
    field("supervisor.heartbeat_ms", Whole(10, 600_000), "How often a worker says that it lives."),
    field(
        "supervisor.heartbeat_timeout_ms",
        Whole(20, 3_600_000),
        "How long a worker may be silent; then it is stopped and started again.",
    ),
    field(
        "supervisor.stop_graceful_ms",
        Whole(0, 3_600_000),
        "How long a worker may take to end once it was told to.",
    ),
    field(
        "supervisor.stop_terminate_ms",
        Whole(0, 600_000),
        "How long it may take after SIGTERM; then SIGKILL comes.",
    ),
    field(
        "supervisor.stop_kill_ms",
        Whole(100, 600_000),
        "How long the system may take to end it after SIGKILL.",
    ),
    field(
        "supervisor.restart_min_ms",
        Whole(1, 600_000),
        "The first pause before a worker is started again; it doubles up to the next.",
    ),
    field(
        "supervisor.restart_max_ms",
        Whole(1, 3_600_000),
        "The longest pause before a worker is started again.",
    ),
    field(
        "supervisor.restart_count_max",
        Whole(0, 10_000),
        "How often a worker is started again within the window; then it is given up.",
    ),
    field("supervisor.restart_window_ms", Whole(1_000, DAY_MS), "The window of that count."),
    field(
        "supervisor.log_line_bytes_max",
        Whole(64, 1024 * 1024),
        "How much of a line of a worker's output is kept.",
    ),
    field(
        "supervisor.log_lines_per_second_max",
        Whole(1, 1_000_000),
        "How many lines a second of each stream of a worker are kept; the rest is counted.",
    ),
    field("supervisor.status_delta_ms", Whole(100, 3_600_000), "How often a worker's state goes to the bus."),
    field(
        "supervisor.router",
        Choice(&["required", "none"]),
        "Whether a worker begins its work by the router's yes only; left out: `required` where there is a bus.",
    ),
    field(
        "supervisor.router_retry_ms",
        Whole(100, 600_000),
        "After a no of the router, how long until it is asked again.",
    ),
    field("supervisor.workers", Workers, "The workers: a list of rows with `id`, `role` and `command`."),
];

/// Settings whose default is nothing, or follows from another setting: the printed defaults leave them out.
pub const UNSET: &[&str] = &[
    "amqp.management_url",
    "amqp.urls",
    "ledger.emergency_path",
    "consent.live_requires",
    "supervisor.router",
    "runtime.platform.execution_ipc.auth.kdf",
    "runtime.platform.execution_ipc.auth.secret_ref",
];

/// Sections that others write in too, so that a strange key in them is worth a warning and is no fault. What stands
/// deeper is ours alone.
pub const SHARED_SECTIONS: &[&str] = &["runtime", "runtime.platform"];

/// The code by which the bootstrap contract calls a value that a setting of it cannot have.
pub fn code_of(path: &str) -> Option<&'static str> {
    match path {
        "runtime.platform.bootstrap.mode" => Some("BOOT-CFG-01"),
        "runtime.platform.execution_ipc.auth.secret_mode" => Some("BOOT-CFG-02"),
        "runtime.platform.execution_ipc.auth.kdf" => Some("BOOT-CFG-03"),
        _ => None,
    }
}

/// The settings of one item of `types`.
pub const TYPE_FIELDS: &[Field] = &[
    field("type", Segment, "The signal type; the built-in ones cannot be replaced."),
    field("schema", Path, "The JSON Schema of its `data`, a file; relative to the config file."),
    field("class", Choice(CLASSES), "What it does; undeclared is `start`, the most restricted."),
    field("success", Words, "The statuses that mean success; undeclared, those of its class."),
    field("answered_by", Choice(&["target", "router", "router-and-target"]), "Who answers it."),
    field("fan_out", Choice(&["none", "instances", "global-or-swarm"]), "Which `ALL` shapes it may address."),
    field("deadline_ms", Whole(1, 7 * DAY_MS), "Milliseconds from acceptance until it has timed out."),
];

/// The settings of an item of `types` that cannot be left out.
pub const TYPE_REQUIRED: &[&str] = &["type", "schema"];

/// The row of a path.
pub fn find(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}

/// Whether a path is a section: something stands under it.
pub fn is_section(path: &str) -> bool {
    FIELDS.iter().any(|field| field.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The environment variable of a path.
pub fn variable(path: &str) -> String {
    format!("SWARMGATE_{}", path.to_ascii_uppercase().replace('.', "_"))
}
