//! What a status costs, in an inventory of ten instances and of a hundred thousand.
//!
//! Owns: the figures of the inventory: reading and merging a status, looking for what is due,
//! memory.
//! Never: asserts a time; the figures are read by people.
//! Holds: every status that is merged is newer than the one before.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use swarmgate::{
    contract::{
        Contract, Limits as ContractLimits, Said,
        message::{Message, Properties},
        routing::{ControlPlaneRouting, Family, Scope},
        timestamp::Timestamp,
    },
    decision::{
        rules::inventory::InventoryLimits,
        state::inventory::{Inventory, Status},
    },
};

/// 2026-03-04T10:15:00Z.
const START: Timestamp = Timestamp::from_micros(1_772_619_300_000_000);
const FLEETS: [usize; 3] = [10, 1_000, 100_000];
const SWARM_COUNT: usize = 100;

fn scope(number: usize) -> Scope {
    Scope::new(format!("swarm-{}", number / SWARM_COUNT), "generator", format!("generator-bee-{number}"))
}

/// A status as the contract accepted it.
fn said(kind_type: &str) -> Said {
    let contract = Contract::built_in(ContractLimits::default()).expect("the built-in contract");
    read(&contract, kind_type, &scope(0), &data(kind_type))
}

/// What it says.
fn data(kind_type: &str) -> Value {
    let mut data =
        json!({ "enabled": true, "tps": 12, "ioState": { "work": { "input": "ok", "output": "ok" } } });
    if kind_type == "status-full" {
        let work = json!({ "queues": { "in": ["in"], "out": ["out"] } });
        data["io"] = json!({ "work": work, "control": { "queues": { "in": ["control"] } } });
        data["config"] = json!({ "rate": 12, "payload": "x".repeat(200) });
        data["startedAt"] = json!(START);
    }
    data
}

fn read(contract: &Contract, kind_type: &str, scope: &Scope, data: &Value) -> Said {
    let body = json!({
        "timestamp": START, "version": "1", "kind": "metric", "type": kind_type, "origin": scope.instance,
        "scope": scope, "data": data,
        "runtime": { "runId": "run-1", "templateId": "template-1", "image": "registry/generator:1.2.3" },
    });
    let message = Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: ControlPlaneRouting::of(Family::Metric, kind_type, scope),
        properties: Properties::default(),
        body: body.to_string().into(),
    };
    contract.read(&message).unwrap_or_else(|unsaid| panic!("{:?}", unsaid.refusal))
}

/// A fleet, each with a container, a work queue and a control queue of its own.
fn fleet(count: usize) -> Inventory {
    let mut inventory = Inventory::new(InventoryLimits::default());
    let contract = Contract::built_in(ContractLimits::default()).expect("the built-in contract");
    let mut data = data("status-full");
    for number in 0..count {
        let queues = &mut data["io"];
        let swarm = number / SWARM_COUNT;
        queues["work"]["queues"]["in"][0] = json!(format!("hive.swarm-{swarm}.generator-bee-{number}"));
        queues["work"]["queues"]["out"][0] = json!(format!("hive.swarm-{swarm}.out"));
        queues["control"]["queues"]["in"][0] =
            json!(format!("hive.control.swarm-{swarm}.generator-bee-{number}"));
        let mut said = read(&contract, "status-full", &scope(number), &data);
        if let Some(runtime) = &mut said.envelope.runtime {
            runtime.container_id = Some(format!("{number:064}"));
        }
        inventory.merge(&Status::read(&said, body_of(&said), START).expect("a status"));
    }
    inventory
}

/// What the process holds in memory, where the system tells; 0 elsewhere.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize =
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}

fn statuses(criterion: &mut Criterion) {
    for kind_type in ["status-delta", "status-full"] {
        let said = said(kind_type);
        criterion.bench_function(&format!("read/{kind_type}"), |bencher| {
            bencher.iter(|| Status::read(black_box(&said), body_of(&said), START));
        });
    }
    // Everyone speaks in turn, so that no instance stays in the cache.
    let mut group = criterion.benchmark_group("merge");
    for count in FLEETS {
        let before = resident_bytes();
        let mut inventory = fleet(count);
        let (resident, told) = (resident_bytes().saturating_sub(before) / count, inventory.bytes() / count);
        println!("{count} instances: {told} bytes each by its own account, {resident} by the system's");
        let mut said = said("status-delta");
        let mut round = 0_u64;
        let statuses: Vec<Status> = (0..count.min(10_000))
            .map(|number| {
                said.key.scope = scope(number * (count / count.min(10_000)));
                Status::read(&said, body_of(&said), START).expect("a status")
            })
            .collect();
        group.bench_function(BenchmarkId::new("status-delta", count), |bencher| {
            bencher.iter(|| {
                let status = &statuses[round as usize % statuses.len()];
                round += 1;
                let at = START.plus_ms(round);
                inventory.merge(&status.clone().moved(at))
            });
        });
        group.bench_function(BenchmarkId::new("due", count), |bencher| {
            bencher.iter(|| inventory.due(black_box(START)));
        });
    }
    group.finish();
}

/// Stands for the body's digest: what differs has another one.
fn body_of(said: &swarmgate::contract::Said) -> swarmgate::contract::digest::Digest {
    swarmgate::contract::digest::Digest::of(&serde_json::to_vec(&said.envelope).expect("JSON"))
}

criterion_group!(benches, statuses);
criterion_main!(benches);
