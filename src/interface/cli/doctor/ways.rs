//! Ways past the router, and from its end back to its beginning; whose the prefix is; and halves of
//! a cluster.
//!
//! Owns: which binding between exchanges is one that nobody should have made, and what follows from
//! it.
//! Never: asks the broker; it is handed what the management API told.
//! Holds: a binding is named once, with the key that it has, so that it can be taken away.

use serde_json::Value;

use super::{State, queues::Finding};
use crate::runtime::topology;

/// A binding from one exchange to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExchangeBinding {
    /// Where it begins.
    pub from: String,
    /// Where it leads.
    pub to: String,
    /// Its pattern.
    pub key: String,
}

/// What is wrong with the ways that begin at one of the router's exchanges, at once or through
/// others.
pub fn findings(prefix: &str, begin: &str, ways: &[ExchangeBinding]) -> Vec<Finding> {
    let [into, out, refused] = ["in", "out", "refused"].map(|name| format!("{prefix}.{name}"));
    let comes_in = begin == into || begin.starts_with(&format!("{into}."));
    let goes_out = begin == out || begin == refused;
    let judge = |way: &ExchangeBinding| {
        let (check, means) = if comes_in && way.to == out {
            let means = "messages reach the subscribers unjudged and off the record, and what the router carries goes twice";
            ("bypass", means)
        } else if goes_out && way.to == into {
            ("loop", "what the router publishes comes back to it, and is judged again")
        } else {
            return None;
        };
        let next = format!(
            "take the binding from `{}` to `{}` with key `{}` away (management, page of the exchange, or `sh FILE back` of `swarmgate bypass`); a router that runs does so by itself only with `#` and the keys of whole families",
            way.from, way.to, way.key
        );
        Some(Finding {
            check,
            state: State::Fail,
            object: way.from.clone(),
            property: format!("bound to `{}` with `{}`", way.to, way.key),
            means: means.to_owned(),
            next,
        })
    };
    ways.iter().filter_map(judge).collect()
}

/// Whether the exchange that says whose the prefix is says another environment.
pub fn environment(prefix: &str, ours: &str, row: &Value) -> Option<Finding> {
    let name = topology::environment(prefix);
    let alternate = row.pointer("/arguments/alternate-exchange").and_then(Value::as_str).unwrap_or_default();
    let theirs = alternate.strip_prefix(&format!("{name}.")).unwrap_or("none");
    (theirs != ours).then(|| Finding {
        check: "environment",
        state: State::Fail,
        object: name,
        property: format!("it says that the prefix is of `{theirs}`"),
        means: format!("a router of `{ours}`, as this config is, is refused at its start"),
        next: "where the prefix is this config's, delete that exchange: the running router declares it again within seconds; else name the other's config with --config".to_owned(),
    })
}

/// Whether a node says that others of its cluster are beyond a partition.
pub fn partition(node: &Value) -> Option<Finding> {
    let beyond: Vec<&str> = node.get("partitions")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let name = node.get("name").and_then(Value::as_str).unwrap_or_default();
    (!beyond.is_empty()).then(|| Finding {
        check: "partition",
        state: State::Fail,
        object: name.to_owned(),
        property: format!("it cannot reach {}", beyond.join(", ")),
        means: "the cluster is in two halves that do not know of each other, and each may have a router"
            .to_owned(),
        next: "docs/operating/deploy.md, `A network partition`, says what to do".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn way(from: &str, to: &str) -> ExchangeBinding {
        ExchangeBinding { from: from.to_owned(), to: to.to_owned(), key: "#".to_owned() }
    }

    #[test]
    fn a_way_past_the_router_and_one_back_into_it_are_told_apart_from_others() {
        let checks = |begin: &str, from: &str, to: &str| -> Vec<&str> {
            findings("p", begin, &[way(from, to)]).iter().map(|found| found.check).collect()
        };
        assert_eq!(checks("p.in", "p.in", "p.out"), ["bypass"]);
        assert_eq!(checks("p.in", "theirs", "p.out"), ["bypass"]);
        assert_eq!(checks("p.in.unknown", "p.in.unknown", "p.out"), ["bypass"]);
        assert_eq!(checks("p.out", "p.out", "p.in"), ["loop"]);
        assert_eq!(checks("p.refused", "theirs", "p.in"), ["loop"]);
        assert!(checks("p.in", "p.in", "theirs").is_empty());
        assert!(checks("p.out", "p.out", "theirs").is_empty());
        assert!(checks("p.infinite", "p.infinite", "p.out").is_empty());
    }

    #[test]
    fn a_prefix_of_another_environment_and_a_partition_are_named() {
        let row = |word: &str| json!({ "arguments": { "alternate-exchange": word } });
        assert_eq!(environment("p", "dev", &row("p.environment.dev")), None);
        let found = environment("p", "dev", &row("p.environment.stage")).expect("a finding");
        assert!(found.property.contains("`stage`"), "{found:?}");
        assert!(environment("p", "dev", &json!({ "arguments": {} })).is_some());
        assert_eq!(partition(&json!({ "name": "a", "partitions": [] })), None);
        assert_eq!(partition(&json!({ "name": "a" })), None);
        let found = partition(&json!({ "name": "a", "partitions": ["b", "c"] })).expect("a finding");
        assert!(found.object == "a" && found.property.contains("b, c"), "{found:?}");
    }
}
