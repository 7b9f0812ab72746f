//! What the management API tells of the router's own queues, of who may write where, and of the
//! broker's limits.
//!
//! Owns: who could go round the gate, and what a broker should be set to.
//! Never: reads more than the management API's own answers.
//! Holds: what the broker does not tell is not taken for well.

use serde_json::Value;

use super::{Findings, State, Whom, guest, management::Management};
use crate::{config::Loaded, contract::lane::Lane, runtime::topology};

/// Seconds that the broker's clock may differ.
const CLOCK_SKEW_S_MAX: i64 = 5;
/// The largest message a broker should take, beside bodies of 256 KiB.
const MESSAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Looks.
pub(super) async fn look(loaded: &Loaded, management: &Management, whom: &Whom, findings: &mut Findings) {
    let prefix = &loaded.config.amqp.prefix;
    for lane in Lane::ALL {
        let name = topology::lane_queue(prefix, lane);
        let found = management.get(&format!("/api/queues/{}/{name}", management.vhost)).await;
        let kind = found.as_ref().ok().and_then(|queue| queue.get("type")?.as_str().map(str::to_owned));
        match kind.as_deref() {
            Some("quorum") => findings.add("queue", State::Ok, format!("`{name}` is a quorum queue"), ""),
            Some(kind) if lane == Lane::Metrics => {
                findings.add("queue", State::Ok, format!("`{name}` is a {kind} queue"), "");
            }
            Some(kind) => findings.add(
                "queue",
                State::Fail,
                format!("`{name}` is a {kind} queue: a confirm does not mean that it is on the disk"),
                "delete it while the router is stopped; the router declares it as a quorum queue",
            ),
            None => findings.add(
                "queue",
                State::Warn,
                format!("`{name}` is not there"),
                "`swarmgate run` declares it",
            ),
        }
    }
    guest::look(management, whom, findings).await;
    match management.get("/api/permissions").await {
        Ok(Value::Array(rows)) => writers(prefix, &rows, &management.vhost_name, whom, findings),
        Ok(_) => findings.add("permissions", State::Skipped, "the answer cannot be read", ""),
        Err(why) => findings.add(
            "permissions",
            State::Skipped,
            why,
            "only a user with the tag `administrator` is told them: name one with --management",
        ),
    }
    limits(management, findings);
}

/// What the broker tells of its clock and its limits.
fn limits(management: &Management, findings: &mut Findings) {
    match management.clock_skew_s {
        Some(skew) if skew.abs() <= CLOCK_SKEW_S_MAX => {
            findings.add(
                "broker clock",
                State::Ok,
                format!("within {CLOCK_SKEW_S_MAX} s of the broker's"),
                "",
            );
        }
        Some(skew) => findings.add(
            "broker clock",
            State::Warn,
            format!("{skew} s from the broker's"),
            "run NTP on both",
        ),
        None => findings.add("broker clock", State::Skipped, "the broker told no time", ""),
    }
    match management.message_bytes_max {
        Some(bytes) if bytes <= MESSAGE_BYTES_MAX => {
            findings.add("message size", State::Ok, format!("the broker takes at most {bytes} bytes"), "");
        }
        Some(bytes) => findings.add(
            "message size",
            State::Warn,
            format!("the broker takes messages of up to {bytes} bytes"),
            "set max_message_size = 1048576 in rabbitmq.conf",
        ),
        None => findings.add(
            "message size",
            State::Warn,
            "the broker does not tell its limit; by default it is 128 MiB (3.x) or 16 MiB (4.x)",
            "set max_message_size = 1048576 in rabbitmq.conf",
        ),
    }
}

/// Who could go round the gate: write to `<prefix>.out`, to the default exchange, or to `amq.*`.
fn writers(prefix: &str, rows: &[Value], vhost: &str, whom: &Whom, findings: &mut Findings) {
    let out = format!("{prefix}.out");
    let mut others = Vec::new();
    for row in rows.iter().filter(|row| row.get("vhost").and_then(Value::as_str) == Some(vhost)) {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let Ok(write) = regex::Regex::new(text("write")) else { continue };
        let ways: Vec<&str> = [out.as_str(), "amq.default", "amq.topic"]
            .into_iter()
            .filter(|exchange| !text("write").is_empty() && write.is_match(exchange))
            .collect();
        if !whom.users.iter().any(|user| user == text("user")) && !ways.is_empty() {
            others.push(format!("`{}` may write {}", text("user"), ways.join(", ")));
        }
    }
    let told = whom.told();
    match (others.is_empty(), whom.users.is_empty()) {
        (true, _) => {
            findings.add("permissions", State::Ok, format!("nobody but {told} can go round the gate"), "");
        }
        (false, true) => findings.add(
            "permissions",
            State::Warn,
            format!("{}; one of them may be the router, which logs in by certificate", others.join("; ")),
            "name its user in the broker's URL without a password, and look again",
        ),
        (false, false) => findings.add(
            "permissions",
            State::Fail,
            format!("{}; the router is {told}", others.join("; ")),
            "narrow their write patterns to `swarmgate.in` and their own queues (docs/operating/broker-permissions.md)",
        ),
    }
}
