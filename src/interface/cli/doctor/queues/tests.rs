//! Tables of queues as the management API tells them, and what is found of each.

use serde_json::json;

use super::*;
use crate::{
    bus::amqp::{Server, wanted_arguments},
    contract::command::Commands,
};

const CLUSTER: Site = Site { nodes: 3, major: Some(4) };
const NODE: Site = Site { nodes: 1, major: Some(3) };

fn server(site: Site) -> Server {
    Server { version: site.major.map(|major| format!("{major}.1.0")), ..Server::default() }
}

/// A row for a queue of ours as the router declares it, patched.
fn row(name: &str, site: Site, patch: Value) -> Value {
    let nodes: Vec<String> = (0..site.nodes.min(3)).map(|node| format!("n{node}")).collect();
    let arguments = wanted(name).1;
    let arguments: serde_json::Map<String, Value> = arguments(site).into_iter().collect();
    let mut row =
        json!({ "name": name, "type": "quorum", "arguments": arguments, "members": nodes, "online": nodes });
    json_patch(&mut row, &patch);
    row
}

/// RFC 7396.
fn json_patch(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        let Some(target) = target.as_object_mut() else { return };
        if value.is_null() {
            target.remove(key);
        } else {
            json_patch(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn wanted(name: &str) -> (Queue, impl Fn(Site) -> Vec<(String, Value)>) {
    let topology = topology::enforce("swarmgate", &Commands::default());
    let queue = topology.queues.into_iter().find(|queue| queue.name == name).expect("a queue of ours");
    let kind = queue.kind.clone();
    (queue, move |site| wanted_arguments(&kind, &server(site)))
}

fn told(findings: Vec<Finding>) -> Vec<String> {
    findings
        .iter()
        .map(|found| format!("{} {}: {}", found.state.word(), found.property, found.means))
        .collect()
}

fn own(name: &str, site: Site, patch: Value, policies: &Policies) -> Vec<String> {
    let row = row(name, site, patch);
    let (queue, arguments) = wanted(name);
    let arguments = arguments(site);
    let own = Own { wanted: &queue, arguments: &arguments, row: Some(&row), prefix: "swarmgate" };
    told(own.findings(policies, site))
}

fn policies(definition: Value) -> Policies {
    let row = json!([{ "name": "p", "pattern": "^swarmgate", "apply-to": "queues", "priority": 0, "definition": definition }]);
    Policies::read(&row, &json!([])).0
}

const LANE: &str = "swarmgate.in.signals.v2";
const DEAD: &str = "swarmgate.in.dead";
const METRICS: &str = "swarmgate.in.metrics.v2";

/// Each is found, with the right weight, and names what does it.
fn expect(told: &[String], expected: &[&[&str]]) {
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, words) in told.iter().zip(expected) {
        for word in *words {
            assert!(told.contains(word), "`{word}` is not in `{told}`");
        }
    }
}

#[test]
fn what_the_router_declares_is_sound() {
    let none = Policies::default();
    for site in [NODE, CLUSTER] {
        for queue in topology::enforce("swarmgate", &Commands::default()).queues {
            assert_eq!(own(&queue.name, site, json!({}), &none), [""; 0], "{}", queue.name);
        }
    }
    // The bound that the shipped definitions set tells the sender, and drops nothing.
    let shipped = policies(json!({ "max-length-bytes": 1_073_741_824 }));
    assert_eq!(own(LANE, NODE, json!({ "message_bytes_ready": 5_000 }), &shipped), [""; 0]);
}

#[test]
fn a_policy_that_drops_is_named_with_what_it_does_to_a_stop() {
    let found = |definition: Value, name: &str| own(name, CLUSTER, json!({}), &policies(definition));
    let ttl = json!({ "message-ttl": 50 });
    expect(&found(ttl.clone(), LANE), &[&["warn `message-ttl: 50` by policy `p`", "a stop is forwarded"]]);
    expect(&found(ttl.clone(), DEAD), &[&["FAIL", "gone without a word"]]);
    expect(&found(ttl, METRICS), &[&["warn"]]);
    expect(
        &found(json!({ "expires": 1000 }), LANE),
        &[&["FAIL `expires: 1000`", "deleted with all that is in it"]],
    );
    expect(&found(json!({ "delivery-limit": 5 }), LANE), &[&["warn `delivery-limit: 5`"]]);
    assert_eq!(found(json!({ "delivery-limit": -1 }), LANE), [""; 0]);
    expect(&found(json!({ "delivery-limit": 5 }), DEAD), &[&["FAIL"]]);
    expect(&found(json!({ "dead-letter-routing-key": "x" }), LANE), &[&["FAIL", "under that key"]]);
    assert_eq!(
        found(json!({ "dead-letter-exchange": "x" }), LANE),
        [""; 0],
        "ours is an argument, and stronger"
    );
    assert_eq!(found(json!({ "overflow": "drop-head" }), LANE), [""; 0], "ours is an argument, and stronger");
    expect(&found(json!({ "max-length": 3 }), METRICS), &[&["warn", "its oldest go"]]);
    // Before the router has declared it, by its name.
    let (queue, arguments) = wanted(LANE);
    let arguments = arguments(NODE);
    let own = Own { wanted: &queue, arguments: &arguments, row: None, prefix: "swarmgate" };
    expect(&told(own.findings(&policies(json!({ "expires": 9 })), NODE)), &[&["FAIL `expires: 9`"]]);
}

#[test]
fn a_queue_of_ours_that_lacks_something_is_named() {
    let none = Policies::default();
    let lacks = |key: &str, site| own(LANE, site, json!({ "arguments": { key: null } }), &none);
    expect(&lacks("x-dead-letter-exchange", NODE), &[&["FAIL `x-dead-letter-exchange` is missing"]]);
    expect(&lacks("x-dead-letter-strategy", NODE), &[&["warn"]]);
    expect(&lacks("x-delivery-limit", CLUSTER), &[&["warn `x-delivery-limit` is missing", "20 deliveries"]]);
    assert_eq!(lacks("x-delivery-limit", NODE), [""; 0], "older brokers have no limit");
    let both = json!({ "arguments": { "x-dead-letter-exchange": null, "x-delivery-limit": null } });
    expect(
        &own(LANE, CLUSTER, both, &none),
        &[&["FAIL `x-dead-letter-exchange`"], &["FAIL `x-delivery-limit`"]],
    );
    // A bound without the word that tells senders drops.
    let bare =
        json!({ "arguments": { "x-overflow": null, "x-dead-letter-exchange": null, "x-max-length": 9 } });
    expect(
        &own(LANE, NODE, bare, &none),
        &[
            &["FAIL `max-length: 9` by its arguments", "gone without a word"],
            &["FAIL `x-dead-letter-exchange`"],
            &["warn `x-overflow`"],
        ],
    );
}

#[test]
fn nodes_and_room_are_counted() {
    let none = Policies::default();
    expect(
        &own(LANE, CLUSTER, json!({ "members": ["n0"], "online": ["n0"] }), &none),
        &[&["warn it is on 1 of 3 nodes"]],
    );
    expect(
        &own(LANE, CLUSTER, json!({ "online": ["n0"] }), &none),
        &[&["FAIL 1 of its 3 nodes are there", "majority"]],
    );
    let bound = policies(json!({ "max-length": 10 }));
    assert_eq!(own(LANE, NODE, json!({ "messages_ready": 7 }), &bound), [""; 0]);
    expect(
        &own(LANE, NODE, json!({ "messages_ready": 8 }), &bound),
        &[&["FAIL it holds 8 of at most 10 messages", "what is sent"]],
    );
    let urgent = own("swarmgate.in.urgent.v2", NODE, json!({ "messages_ready": 8 }), &bound);
    expect(&urgent, &[&["FAIL", "rejects stops"]]);
    let full = json!({ "message_bytes_ready": 268_435_456 });
    expect(&own(METRICS, NODE, full, &none), &[&["warn", "oldest are being dropped"]]);
}

#[test]
fn somebodys_queue_that_makes_trouble_is_named() {
    let found = |row: Value, site| told(subscriber(&row, "swarmgate.out", &Policies::default(), site));
    let rejecting = json!({ "name": "q", "type": "quorum", "arguments": { "x-max-length": 5, "x-overflow": "reject-publish" } });
    expect(
        &found(rejecting.clone(), NODE),
        &[&["warn `overflow: reject-publish` with `max-length: 5` by its arguments", "swarmgate.out"]],
    );
    let mut full = rejecting.clone();
    full["messages_ready"] = json!(5);
    expect(
        &found(full.clone(), NODE),
        &[&["FAIL it rejects", "it holds 5 of at most 5 messages", "sent again"]],
    );
    full["arguments"]["x-overflow"] = json!("reject-publish-dlx");
    expect(&found(full.clone(), NODE), &[&["FAIL it rejects"]]);
    full["arguments"]["x-overflow"] = json!("drop-head");
    expect(&found(full, NODE), &[&["warn it holds 5 of at most 5", "stops too"]]);
    let unbounded = json!({ "name": "q", "type": "quorum", "arguments": { "x-overflow": "reject-publish" } });
    assert_eq!(found(unbounded, NODE), [""; 0]);
    let classic = json!({ "name": "q", "type": "classic", "arguments": {} });
    assert_eq!(found(classic.clone(), NODE), [""; 0]);
    expect(&found(classic, CLUSTER), &[&["warn a classic queue, in a cluster of 3 nodes"]]);
    let halved =
        json!({ "name": "q", "type": "quorum", "arguments": {}, "members": ["a", "b"], "online": ["a"] });
    expect(&found(halved, CLUSTER), &[&["FAIL 1 of its 2 nodes are there"]]);
    // By a policy alone.
    let (policies, _) = Policies::read(
        &json!([{ "name": "tight", "pattern": ".*", "apply-to": "all", "definition": { "max-length": 1, "overflow": "reject-publish" } }]),
        &json!([]),
    );
    let plain = json!({ "name": "q", "type": "quorum", "arguments": {} });
    expect(&told(subscriber(&plain, "swarmgate.out", &policies, NODE)), &[&["warn", "policy `tight`"]]);
}

#[test]
fn an_exchange_that_differs_is_named() {
    let topology = topology::enforce("swarmgate", &Commands::default());
    let of = |name: &str, row: Value, policies: &Policies| {
        let wanted = topology.exchanges.iter().find(|exchange| exchange.name == name).expect("ours");
        told(exchange(wanted, &row, "swarmgate.out", policies))
    };
    let none = Policies::default();
    let good = json!({ "type": "topic", "arguments": { "alternate-exchange": "swarmgate.in.unknown" } });
    assert_eq!(of("swarmgate.in", good, &none), [""; 0]);
    let plain = json!({ "type": "topic", "arguments": {} });
    expect(
        &of("swarmgate.in", plain.clone(), &none),
        &[&["FAIL its alternate exchange is not `swarmgate.in.unknown`"]],
    );
    assert_eq!(of("swarmgate.out", plain.clone(), &none), [""; 0]);
    expect(
        &of("swarmgate.out", json!({ "type": "direct" }), &none),
        &[&["FAIL its type is `direct`, and `topic` is wanted"]],
    );
    let (policies, _) = Policies::read(
        &json!([{ "name": "ae", "pattern": "out$", "apply-to": "exchanges", "definition": { "alternate-exchange": "lost" } }]),
        &json!([]),
    );
    expect(
        &of("swarmgate.out", plain, &policies),
        &[&["FAIL its alternate exchange is `lost`, by policy `ae`", "does not wait"]],
    );
}
