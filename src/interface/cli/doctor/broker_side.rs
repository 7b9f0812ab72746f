//! What only the broker's management tells: policies, queues of others on our exchanges, nodes.
//!
//! Owns: what is asked, and which queue is judged as whose.
//! Never: judges a queue itself (`queues` does), or asks about more than it says in its bounds.
//! Holds: what could not be asked is said, with how to allow it; nothing unseen counts as sound.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    ALLOW, Findings, State,
    management::{Management, encoded},
    policies::Policies,
    queues::{self, Own, Site},
    ways::{self, ExchangeBinding},
};
use crate::{
    bus::{
        Topology,
        amqp::{Server, wanted_arguments},
    },
    config::Loaded,
    runtime::topology,
};

/// What is asked of each queue.
const COLUMNS: &str = "name,type,arguments,policy,operator_policy,effective_policy_definition,members,online,node,messages_ready,message_bytes_ready";
/// Through how many exchanges the queues of subscribers are looked for.
const EXCHANGES_MAX: usize = 64;

/// Looks at all of it.
pub async fn look(loaded: &Loaded, management: &Management, findings: &mut Findings) {
    let prefix = &loaded.config.amqp.prefix;
    let wanted = topology::enforce(prefix, &loaded.contract.commands);
    let policies = policies(management, findings).await;
    let rows = match management.queues(COLUMNS).await {
        Ok((rows, is_all)) => {
            if !is_all {
                let found = format!("there are more than the {} queues that were looked at", rows.len());
                findings.add(
                    "broker side",
                    State::Skipped,
                    found,
                    "look at the rest with rabbitmqctl list_queues",
                );
            }
            rows
        }
        Err(why) => {
            findings.add("broker side", State::Skipped, format!("queues were not looked at: {why}"), ALLOW);
            return;
        }
    };
    let text = |row: &Value| row.get("name").and_then(Value::as_str).map(str::to_owned);
    let rows: BTreeMap<String, Value> = rows.into_iter().filter_map(|row| Some((text(&row)?, row))).collect();
    let server = Server { version: management.version.clone(), ..Server::default() };
    let site = Site { nodes: nodes(management, &rows, findings).await, major: server.major() };
    let before = findings.0.len();
    for queue in &wanted.queues {
        let arguments = wanted_arguments(&queue.kind, &server);
        let own = Own { wanted: queue, arguments: &arguments, row: rows.get(&queue.name), prefix };
        own.findings(&policies, site).into_iter().for_each(|finding| findings.add_finding(finding));
    }
    if findings.0.len() == before {
        let there = wanted.queues.iter().filter(|queue| rows.contains_key(&queue.name)).count();
        let found = format!(
            "{there} of the router's {} queues are there, and nothing drops, expires or holds what waits in them",
            wanted.queues.len()
        );
        findings.add("own queue", State::Ok, found, "");
    }
    belonging(loaded, management, findings).await;
    exchanges(management, &wanted, &format!("{prefix}.out"), &policies, findings).await;
    subscribers(management, (prefix, &wanted), &rows, (&policies, site), findings).await;
}

async fn policies(management: &Management, findings: &mut Findings) -> Policies {
    let mut lists = Vec::new();
    for kind in ["policies", "operator-policies"] {
        match management.get(&format!("/api/{kind}/{}", management.vhost)).await {
            Ok(list) => lists.push(list),
            Err(why) => {
                let found = format!(
                    "{kind} were not looked at: {why}; those in force on a queue that is there are known all the same"
                );
                findings.add("policy", State::Skipped, found, ALLOW);
                lists.push(Value::Null);
            }
        }
    }
    let [ordinary, of_operators] = [lists.first(), lists.get(1)].map(|list| list.unwrap_or(&Value::Null));
    let (policies, unread) = Policies::read(ordinary, of_operators);
    if !unread.is_empty() {
        let found = format!(
            "the patterns of `{}` can be read by the broker only; what is in force on a queue that is there is known all the same",
            unread.join("`, `")
        );
        findings.add(
            "policy",
            State::Skipped,
            found,
            "see with `rabbitmqctl list_queues name policy` what they apply to",
        );
    }
    policies
}

/// Whose the prefix is, where that is said.
async fn belonging(loaded: &Loaded, management: &Management, findings: &mut Findings) {
    let prefix = &loaded.config.amqp.prefix;
    let path = format!("/api/exchanges/{}/{}", management.vhost, encoded(&topology::environment(prefix)));
    // It is not there before a router has run.
    let Ok(row) = management.get(&path).await else { return };
    let found = ways::environment(prefix, loaded.config.environment.word(), &row);
    found.into_iter().for_each(|finding| findings.add_finding(finding));
}

/// How many nodes there are, as the broker says or as the queues show; says which of them are
/// beyond a partition.
async fn nodes(management: &Management, rows: &BTreeMap<String, Value>, findings: &mut Findings) -> usize {
    if let Ok(Value::Array(nodes)) = management.get("/api/nodes?columns=name,partitions").await {
        nodes.iter().filter_map(ways::partition).for_each(|finding| findings.add_finding(finding));
        return nodes.len();
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for row in rows.values() {
        seen.extend(row.get("node").and_then(Value::as_str));
        let members = row.get("members").and_then(Value::as_array);
        seen.extend(members.into_iter().flatten().filter_map(Value::as_str));
    }
    seen.len().max(1)
}

async fn exchanges(
    management: &Management,
    wanted: &Topology,
    out: &str,
    policies: &Policies,
    findings: &mut Findings,
) {
    for exchange in &wanted.exchanges {
        let path = format!("/api/exchanges/{}/{}", management.vhost, encoded(&exchange.name));
        // One that is not there is told of by its own check.
        let Ok(row) = management.get(&path).await else { continue };
        queues::exchange(exchange, &row, out, policies)
            .into_iter()
            .for_each(|found| findings.add_finding(found));
    }
}

/// Queues of others that get what the router or its senders publish, straight or through other
/// exchanges.
async fn subscribers(
    management: &Management,
    (prefix, wanted): (&str, &Topology),
    rows: &BTreeMap<String, Value>,
    (policies, site): (&Policies, Site),
    findings: &mut Findings,
) {
    let own: BTreeSet<&str> = wanted.queues.iter().map(|queue| queue.name.as_str()).collect();
    let (mut seen, mut ways) = (BTreeSet::new(), BTreeSet::new());
    let mut judged = 0;
    let before = findings.0.len();
    for exchange in &wanted.exchanges {
        let (bound, led) = match reach(management, &exchange.name).await {
            Ok(reached) => reached,
            // It is not there yet.
            Err(why) if why.ends_with(" 404") => continue,
            Err(why) => {
                let found = format!("the queues on `{}` were not looked at: {why}", exchange.name);
                findings.add("subscriber", State::Skipped, found, ALLOW);
                continue;
            }
        };
        let led: Vec<ExchangeBinding> = led.into_iter().filter(|way| !ways.contains(way)).collect();
        for finding in ways::findings(prefix, &exchange.name, &led) {
            ways.extend(led.iter().filter(|way| way.from == finding.object).cloned());
            findings.add_finding(finding);
        }
        for name in bound {
            if own.contains(name.as_str()) || !seen.insert(name.clone()) {
                continue;
            }
            let Some(row) = rows.get(&name) else { continue };
            judged += 1;
            let found = queues::subscriber(row, &exchange.name, policies, site);
            found.into_iter().for_each(|finding| findings.add_finding(finding));
        }
    }
    if findings.0.len() == before {
        let found =
            format!("{judged} queues of others are bound, and none can make trouble for its neighbours");
        findings.add("subscriber", State::Ok, found, "");
    }
}

/// The queues that an exchange leads to, and the ways between exchanges on which it does.
async fn reach(
    management: &Management,
    exchange: &str,
) -> Result<(BTreeSet<String>, Vec<ExchangeBinding>), String> {
    let (mut queues, mut ways) = (BTreeSet::new(), Vec::new());
    let mut exchanges = vec![exchange.to_owned()];
    let mut met = 0;
    while let Some(name) = exchanges.get(met).cloned() {
        met += 1;
        let path = format!("/api/exchanges/{}/{}/bindings/source", management.vhost, encoded(&name));
        let bindings = management.get(&path).await?;
        for binding in bindings.as_array().into_iter().flatten() {
            let text = |key: &str| binding.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let to = text("destination");
            if text("destination_type") == "queue" {
                queues.insert(to);
                continue;
            }
            ways.push(ExchangeBinding { from: name.clone(), to: to.clone(), key: text("routing_key") });
            if !exchanges.contains(&to) && exchanges.len() < EXCHANGES_MAX {
                exchanges.push(to);
            }
        }
    }
    Ok((queues, ways))
}
