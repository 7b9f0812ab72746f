//! What queues and exchanges can do to the router's promises, by how they are set.
//!
//! Owns: which argument, policy or state of a queue is a risk, what it means, and the remedy.
//! Never: asks the broker; it is handed what the management API told.
//! Holds: what can lose or hold an accepted message is a fault; what makes trouble for others is a
//! warning.

use serde_json::Value;

use super::{
    State,
    policies::{AppliesTo, Policies, Rule},
};
use crate::{
    bus::{Exchange, ExchangeKind, Queue, QueueKind},
    contract::lane::Lane,
    runtime::topology,
};

/// From how much of its bound on a queue counts as full.
const FULL_PERCENT: u64 = 80;
/// On how many nodes a replicated queue of ours is, where there are as many.
const REPLICAS: usize = 3;
/// The major release from which on a message is dropped after twenty deliveries unless that is
/// turned off.
const DELIVERY_LIMIT_SINCE_MAJOR: u32 = 4;

const SEE: &str = "docs/operating/broker-permissions.md";

/// Something that is not as it should be.
#[derive(Debug, PartialEq)]
pub struct Finding {
    /// The name of the check that it belongs to.
    pub check: &'static str,
    /// How bad it is.
    pub state: State,
    /// The queue or exchange.
    pub object: String,
    /// What of it.
    pub property: String,
    /// What follows.
    pub means: String,
    /// What to do.
    pub next: String,
}

/// What is known of the broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Site {
    /// How many nodes it has.
    pub nodes: usize,
    /// Its major release.
    pub major: Option<u32>,
}

/// A queue of ours: what is wanted, and what is there.
pub struct Own<'a> {
    /// What the router declares.
    pub wanted: &'a Queue,
    /// The arguments that it declares it with.
    pub arguments: &'a [(String, Value)],
    /// What the management API tells; `None` where it is not there yet.
    pub row: Option<&'a Value>,
    /// What the names of the router's queues begin with.
    pub prefix: &'a str,
}

impl Own<'_> {
    fn is_lane(&self) -> bool {
        matches!(self.wanted.kind, QueueKind::Lane { .. })
    }

    fn is_urgent(&self) -> bool {
        self.wanted.name == topology::lane_queue(self.prefix, Lane::Urgent)
    }

    /// Whether it is meant to drop its oldest: statuses, refused copies.
    fn may_drop(&self) -> bool {
        matches!(self.wanted.kind, QueueKind::DropHead { .. } | QueueKind::Last)
    }

    /// Whether what the broker drops of it comes back to the router.
    fn comes_back(&self) -> bool {
        let dead = |row: &Value| argument(row, "x-dead-letter-exchange").is_some();
        self.is_lane() && self.row.is_none_or(dead)
    }

    fn finding(&self, state: State, property: String, means: String, next: String) -> Finding {
        Finding { check: "own queue", state, object: self.wanted.name.clone(), property, means, next }
    }

    /// What is wrong with it.
    pub fn findings(&self, policies: &Policies, site: Site) -> Vec<Finding> {
        let rules = match self.row {
            Some(row) => policies.rules_of(row),
            None => policies.rules(&self.wanted.name, AppliesTo::Queue("quorum")),
        };
        let is_wanted = |rule: &Rule| {
            let name = format!("x-{}", rule.key);
            rule.by == "its arguments"
                && self.arguments.iter().any(|(key, value)| *key == name && *value == rule.value)
        };
        let mut findings: Vec<Finding> = rules
            .iter()
            .filter(|rule| !is_wanted(rule))
            .filter_map(|rule| self.judge(rule, &rules))
            .collect();
        if let Some(row) = self.row {
            findings.extend(self.arguments.iter().filter_map(|(key, _)| self.lacking(row, key, site)));
            findings.extend(self.replicas(row, site));
            findings.extend(self.fullness(row, &rules));
        }
        findings
    }

    /// What one rule does to it.
    fn judge(&self, rule: &Rule, rules: &[Rule]) -> Option<Finding> {
        let (number, may_drop) = (rule.number(), self.may_drop());
        let lost = if self.comes_back() || may_drop { State::Warn } else { State::Fail };
        let goes = if self.comes_back() {
            "leaves it, and the router judges it from there: a stop is forwarded, any other command ends `command.expired`"
        } else if may_drop {
            "is gone"
        } else {
            "is gone without a word, stops too"
        };
        let (state, means) = match rule.key.as_str() {
            "message-ttl" => (lost, format!("what waits longer than {} ms {goes}", rule.value)),
            "expires" => {
                let state = if may_drop { State::Warn } else { State::Fail };
                let means =
                    "the queue is deleted with all that is in it when no router has read it for that long";
                (state, means.to_owned())
            }
            "delivery-limit" if number.is_some_and(|limit| limit >= 0) && !may_drop => {
                (lost, format!("what came back more than {} times {goes}", rule.value))
            }
            "max-length" | "max-length-bytes" if may_drop => {
                (State::Warn, "its oldest go at that bound already".to_owned())
            }
            "max-length" | "max-length-bytes" if !rejects(rules) => {
                (lost, format!("beyond that bound the oldest {goes}"))
            }
            "dead-letter-routing-key" if self.is_lane() => {
                let means =
                    "what the broker would drop comes back under that key, and is judged as something else";
                (State::Fail, means.to_owned())
            }
            "dead-letter-exchange" if self.is_lane() && !self.comes_back() => {
                (State::Fail, "what the broker drops goes there, and not to the router".to_owned())
            }
            "single-active-consumer" if rule.value == Value::Bool(true) => {
                let means = "while the node of its consumer hangs, nothing of it is judged";
                (State::Warn, means.to_owned())
            }
            _ => return None,
        };
        let next = if rule.by == "its arguments" {
            "stop the router, let it be empty, and delete the queue: the router declares it as it should be"
                .to_owned()
        } else {
            format!("take `{}` out of that policy, or narrow its pattern ({SEE})", rule.key)
        };
        Some(self.finding(
            state,
            format!("`{}: {}` by {}", rule.key, shown(&rule.value), rule.by),
            means,
            next,
        ))
    }

    /// An argument that it was declared without.
    fn lacking(&self, row: &Value, key: &str, site: Site) -> Option<Finding> {
        if argument(row, key).is_some() {
            return None;
        }
        let lost = if self.comes_back() || !self.is_lane() { State::Warn } else { State::Fail };
        let (state, means) = match key {
            "x-dead-letter-exchange" => (
                State::Fail,
                "what the broker drops of it (expired, redelivered too often) is gone without a word",
            ),
            "x-dead-letter-strategy" => {
                (State::Warn, "what the broker drops of it can be lost on its way to the router")
            }
            "x-overflow" => (State::Warn, "under a bound it drops its oldest instead of telling the sender"),
            "x-delivery-limit" if site.major.is_some_and(|major| major >= DELIVERY_LIMIT_SINCE_MAJOR) => {
                (lost, "after 20 deliveries that were not acknowledged the broker drops a message")
            }
            "x-max-length-bytes" => (State::Warn, "it grows for as long as nobody reads it"),
            _ => return None,
        };
        let next = "stop the router, let the queue be empty, and delete it: the router declares it with all its arguments";
        Some(self.finding(state, format!("`{key}` is missing"), means.to_owned(), next.to_owned()))
    }

    /// Whether it is on enough nodes, and enough of them are there.
    fn replicas(&self, row: &Value, site: Site) -> Option<Finding> {
        if let Some((members, online)) = majority_lost(row) {
            let property = format!("{online} of its {members} nodes are there");
            let means = "it takes nothing and gives nothing until a majority is back";
            let next = "start the nodes that are down; `rabbitmq-diagnostics check_if_node_is_quorum_critical` tells more";
            return Some(self.finding(State::Fail, property, means.to_owned(), next.to_owned()));
        }
        let members = count(row, "members")?;
        let wanted = REPLICAS.min(site.nodes);
        (members < wanted).then(|| {
            let next =
                "rabbitmq-queues grow NODE all --queue-pattern NAME, for each node that it is to be on";
            let means = format!(
                "with {} gone it is gone too",
                if members == 1 { "that node" } else { "one more node" }
            );
            self.finding(
                State::Warn,
                format!("it is on {members} of {} nodes", site.nodes),
                means,
                next.to_owned(),
            )
        })
    }

    fn fullness(&self, row: &Value, rules: &[Rule]) -> Option<Finding> {
        let property = full(row, rules).filter(|_| self.wanted.kind != QueueKind::Last)?;
        if self.may_drop() {
            let means = "its oldest are being dropped, as is meant for it when nobody reads it in time";
            let next = "read it, or purge it";
            return Some(self.finding(State::Warn, property, means.to_owned(), next.to_owned()));
        }
        let stops = if self.is_urgent() { "stops" } else { "what is sent" };
        let means =
            format!("at the bound the broker rejects {stops}, and only a sender with confirms hears of it");
        let next = "see why the router does not read it (`/readyz`), or raise the bound";
        Some(self.finding(State::Fail, property, means, next.to_owned()))
    }
}

/// What somebody's queue that is bound to an exchange of ours can do.
pub fn subscriber(row: &Value, exchange: &str, policies: &Policies, site: Site) -> Vec<Finding> {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
    let finding = |state, property: String, means: &str, next: &str| Finding {
        check: "subscriber",
        state,
        object: text("name").to_owned(),
        property,
        means: format!("{means} (it is bound to `{exchange}`)"),
        next: next.to_owned(),
    };
    let mut findings = Vec::new();
    let rules = policies.rules_of(row);
    let bound = rules.iter().find(|rule| matches!(rule.key.as_str(), "max-length" | "max-length-bytes"));
    match (bound, full(row, &rules)) {
        (Some(_), Some(full)) if rejects(&rules) => findings.push(finding(
            State::Fail,
            format!("it rejects what it has no room for, and {full}"),
            "while it is full, every message that it is bound for is sent again and again, to everybody who listens",
            &format!("consume or purge it now, and declare it with `x-overflow: drop-head` or without a bound ({SEE})"),
        )),
        (Some(bound), None) if rejects(&rules) => findings.push(finding(
            State::Warn,
            format!("`overflow: reject-publish` with `{}: {}` by {}", bound.key, shown(&bound.value), bound.by),
            "once it is full, every message that it is bound for is sent again and again, to everybody who listens",
            &format!("declare it with `x-overflow: drop-head`, or without a bound ({SEE})"),
        )),
        (Some(_), Some(full)) => findings.push(finding(
            State::Warn,
            full,
            "its oldest are being dropped, stops too, and nobody hears of it",
            "consume it, or raise the bound",
        )),
        _ => {}
    }
    if text("type") == "classic" && site.nodes > 1 {
        findings.push(finding(
            State::Warn,
            format!("a classic queue, in a cluster of {} nodes", site.nodes),
            "while its node hangs, what is sent to it by a new channel waits, and everything behind it on that channel",
            &format!("use a quorum queue, and set net_ticktime = 10 ({SEE})"),
        ));
    }
    if let Some((members, online)) = majority_lost(row) {
        findings.push(finding(
            State::Fail,
            format!("{online} of its {members} nodes are there"),
            "it confirms nothing until a majority is back, and what it is bound for is sent again and again",
            "start the nodes that are down, or unbind it",
        ));
    }
    findings
}

/// What is wrong with an exchange of ours.
pub fn exchange(wanted: &Exchange, row: &Value, out: &str, policies: &Policies) -> Vec<Finding> {
    let finding = |property: String, means: &str, next: &str| Finding {
        check: "own exchange",
        state: State::Fail,
        object: wanted.name.clone(),
        property,
        means: means.to_owned(),
        next: next.to_owned(),
    };
    let mut findings = Vec::new();
    let kind = if wanted.kind == ExchangeKind::Fanout { "fanout" } else { "topic" };
    match row.get("type").and_then(Value::as_str) {
        Some(found) if found != kind => findings.push(finding(
            format!("its type is `{found}`, and `{kind}` is wanted"),
            "the router cannot use it and does not start",
            "delete it, or give this router other names with `amqp.prefix`",
        )),
        _ => {}
    }
    let mut alternates: Vec<(String, String)> = Vec::new();
    let by_argument =
        argument(row, "alternate-exchange").map(|found| (shown(found), "its arguments".to_owned()));
    alternates.extend(by_argument);
    let by_policy = policies.rules(&wanted.name, AppliesTo::Exchange).into_iter();
    let by_policy = by_policy.filter(|rule| rule.key == "alternate-exchange");
    alternates.extend(by_policy.map(|rule| (shown(&rule.value), rule.by)));
    match (&wanted.alternate, alternates.first()) {
        (Some(alternate), found) if found.is_none_or(|(found, _)| found != alternate) => findings.push(finding(
            format!("its alternate exchange is not `{alternate}`"),
            "a message of a type that nobody knows is gone without a refusal",
            "delete it while the router is stopped; the router declares it as it should be",
        )),
        (None, Some((found, by))) if wanted.name == out => findings.push(finding(
            format!("its alternate exchange is `{found}`, by {by}"),
            "what no queue takes goes there and does not come back: a command to an absent target does not wait for it",
            "take the alternate exchange away",
        )),
        _ => {}
    }
    findings
}

/// Whether a queue with these rules tells senders when it is full. An argument is stronger than a
/// policy.
fn rejects(rules: &[Rule]) -> bool {
    let overflow = rules.iter().find(|rule| rule.key == "overflow");
    overflow.is_some_and(|rule| rule.value.as_str().is_some_and(|word| word.starts_with("reject-publish")))
}

/// How full a bounded queue is, where it is (almost) full. Of several bounds the smallest is in
/// force.
fn full(row: &Value, rules: &[Rule]) -> Option<String> {
    let held = |key: &str| row.get(key).and_then(Value::as_u64);
    let bound = |key: &str| {
        let bounds = rules.iter().filter(|rule| rule.key == key);
        bounds.filter_map(|rule| rule.value.as_u64()).min()
    };
    let is_full = |held: u64, bound: u64| held.saturating_mul(100) >= bound.saturating_mul(FULL_PERCENT);
    let messages = bound("max-length").zip(held("messages_ready"));
    if let Some((bound, held)) = messages.filter(|(bound, held)| *held > 0 && is_full(*held, *bound)) {
        return Some(format!("it holds {held} of at most {bound} messages"));
    }
    let bytes = bound("max-length-bytes").zip(held("message_bytes_ready"));
    let (bound, held) = bytes.filter(|(bound, held)| *held > 0 && is_full(*held, *bound))?;
    Some(format!("it holds {held} of at most {bound} bytes"))
}

/// The nodes of a replicated queue, and those that are there, where they are too few.
fn majority_lost(row: &Value) -> Option<(usize, usize)> {
    let (members, online) = (count(row, "members")?, count(row, "online")?);
    (members > 0 && online * 2 <= members).then_some((members, online))
}

fn count(row: &Value, key: &str) -> Option<usize> {
    row.get(key).and_then(Value::as_array).map(Vec::len)
}

fn argument<'a>(row: &'a Value, key: &str) -> Option<&'a Value> {
    row.get("arguments").and_then(|arguments| arguments.get(key))
}

/// A value without the quotes of its text.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
