//! What the broker does with a queue or an exchange, whoever said so: its arguments, policies and
//! operator policies.
//!
//! Owns: which policy applies to a name, and which value of which of them is in force.
//! Never: asks the broker, or judges a value.
//! Holds: a rule names who set it, so that a person knows what to change.

use regex::Regex;
use serde_json::{Map, Value};

/// One policy as the management API tells it.
struct Policy {
    name: String,
    /// `None`: a pattern that only the broker can read.
    pattern: Option<Regex>,
    apply_to: String,
    priority: i64,
    definition: Map<String, Value>,
}

/// The policies of a virtual host.
#[derive(Default)]
pub struct Policies {
    ordinary: Vec<Policy>,
    of_operators: Vec<Policy>,
}

/// What a policy may apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AppliesTo<'a> {
    /// A queue of that type.
    Queue(&'a str),
    /// An exchange.
    Exchange,
}

/// One thing that the broker does.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name in a policy, such as `message-ttl`.
    pub key: String,
    /// How much of it.
    pub value: Value,
    /// Who set it.
    pub by: String,
}

impl Rule {
    /// The number that it is.
    pub fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }
}

impl Policies {
    /// Reads the two lists; the answer besides is the names of policies whose patterns only the
    /// broker can read.
    pub fn read(ordinary: &Value, of_operators: &Value) -> (Self, Vec<String>) {
        let read = |list: &Value| -> Vec<Policy> {
            let mut policies: Vec<Policy> = list.as_array().into_iter().flatten().map(policy).collect();
            policies.sort_by_key(|policy| std::cmp::Reverse(policy.priority));
            policies
        };
        let policies = Self { ordinary: read(ordinary), of_operators: read(of_operators) };
        let all = policies.ordinary.iter().chain(&policies.of_operators);
        let unread = all.filter(|policy| policy.pattern.is_none()).map(|policy| policy.name.clone());
        let unread = unread.collect();
        (policies, unread)
    }

    /// What policies do to a name.
    pub fn rules(&self, name: &str, kind: AppliesTo<'_>) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (list, who) in [(&self.ordinary, "policy"), (&self.of_operators, "operator policy")] {
            // Of each list the first that matches applies, alone.
            let Some(policy) = list.iter().find(|policy| policy.applies(name, kind)) else { continue };
            rules.extend(policy.definition.iter().map(|(key, value)| Rule {
                key: key.clone(),
                value: value.clone(),
                by: format!("{who} `{}`", policy.name),
            }));
        }
        rules
    }

    /// What is done to a queue that is there: by its arguments, by policies, and by what the broker
    /// says is in force.
    pub fn rules_of(&self, row: &Value) -> Vec<Rule> {
        let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = AppliesTo::Queue(text("type"));
        let mut rules: Vec<Rule> = arguments(row)
            .map(|(key, value)| Rule {
                key: key.to_owned(),
                value: value.clone(),
                by: "its arguments".to_owned(),
            })
            .collect();
        rules.extend(self.rules(text("name"), kind));
        let told = row.get("effective_policy_definition").and_then(Value::as_object);
        for (key, value) in told.into_iter().flatten() {
            if !rules.iter().any(|rule| rule.key == *key && rule.value == *value) {
                let names = ["policy", "operator_policy"].map(text);
                let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
                let by = format!("policy `{}`", names.join("` or `"));
                rules.push(Rule { key: key.clone(), value: value.clone(), by });
            }
        }
        rules
    }
}

/// The arguments of a queue or exchange by the names that policies have for them.
fn arguments(row: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let arguments = row.get("arguments").and_then(Value::as_object);
    arguments.into_iter().flatten().map(|(key, value)| (key.strip_prefix("x-").unwrap_or(key), value))
}

fn policy(row: &Value) -> Policy {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
    Policy {
        name: text("name").to_owned(),
        pattern: Regex::new(text("pattern")).ok(),
        apply_to: text("apply-to").to_owned(),
        priority: row.get("priority").and_then(Value::as_i64).unwrap_or_default(),
        definition: row.get("definition").and_then(Value::as_object).cloned().unwrap_or_default(),
    }
}

impl Policy {
    fn applies(&self, name: &str, kind: AppliesTo<'_>) -> bool {
        let is_meant = match (self.apply_to.as_str(), kind) {
            ("all", _) | ("queues", AppliesTo::Queue(_)) | ("exchanges", AppliesTo::Exchange) => true,
            ("quorum_queues", AppliesTo::Queue(kind)) => kind == "quorum",
            ("classic_queues", AppliesTo::Queue(kind)) => kind == "classic",
            ("streams", AppliesTo::Queue(kind)) => kind == "stream",
            _ => false,
        };
        is_meant && self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_each_list_the_strongest_that_matches_applies_alone() {
        let row = |name: &str, pattern: &str, apply_to: &str, priority: i64, definition: Value| json!({ "name": name, "pattern": pattern, "apply-to": apply_to, "priority": priority, "definition": definition });
        let ordinary = json!([
            row("weak", "^swarmgate", "queues", 0, json!({ "message-ttl": 1, "expires": 1 })),
            row("strong", "urgent", "quorum_queues", 5, json!({ "max-length": 2 })),
            row("other", ".*", "exchanges", 9, json!({ "alternate-exchange": "a" })),
            row("strange", "(?!x)", "queues", 99, json!({ "max-length": 1 })),
        ]);
        let of_operators = json!([row("ops", ".*", "all", 0, json!({ "delivery-limit": 3 }))]);
        let (policies, unread) = Policies::read(&ordinary, &of_operators);
        assert_eq!(unread, ["strange"]);
        let told = |name: &str, kind| -> Vec<String> {
            let rules = policies.rules(name, kind);
            rules.iter().map(|rule| format!("{} {} {}", rule.key, rule.value, rule.by)).collect()
        };
        let ops = "delivery-limit 3 operator policy `ops`";
        let quorum = AppliesTo::Queue("quorum");
        assert_eq!(told("swarmgate.in.urgent.v2", quorum), ["max-length 2 policy `strong`", ops]);
        let weak = ["expires 1 policy `weak`", "message-ttl 1 policy `weak`", ops];
        assert_eq!(told("swarmgate.in.urgent.v2", AppliesTo::Queue("classic")), weak);
        assert_eq!(
            told("swarmgate.out", AppliesTo::Exchange),
            ["alternate-exchange \"a\" policy `other`", ops]
        );
        let there = json!({
            "name": "theirs", "type": "quorum", "arguments": { "x-overflow": "reject-publish" },
            "effective_policy_definition": { "delivery-limit": 3, "max-length": 1 }, "policy": "strange", "operator_policy": "ops",
        });
        let told: Vec<_> =
            policies.rules_of(&there).iter().map(|rule| format!("{} {}", rule.key, rule.by)).collect();
        assert_eq!(
            told,
            [
                "overflow its arguments",
                "delivery-limit operator policy `ops`",
                "max-length policy `strange` or `ops`"
            ]
        );
    }
}
