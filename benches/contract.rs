//! What reading a message costs: the strict parse alone, and gates 1 and 2 whole.
//!
//! Owns: the mixed envelope set of the figures: a signal, an outcome, an alert, a full and a delta
//! status.
//! Never: asserts a time; the figures are read by people.
//! Holds: every envelope of the set is accepted before anything is measured.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use swarmgate::contract::{
    Contract, Limits, canonical,
    envelope::Envelope,
    message::{Message, Properties},
    routing::{ControlPlaneRouting, Family},
    secrets::{names, shapes},
    strict,
};

/// The binary's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SIGNAL: &str = r#"{"timestamp":"2026-03-04T10:15:00Z","version":"1","kind":"signal","type":"swarm-start","origin":"orchestrator-1","scope":{"swarmId":"kestrel","role":"swarm-controller","instance":"kestrel-ctl-9c2"},"correlationId":"c-7f0e2d11","idempotencyKey":"i-7f0e2d11","data":{"requiredWorkers":["gen-1","gen-2"]}}"#;
const OUTCOME: &str = r#"{"timestamp":"2026-03-04T10:15:02Z","version":"1","kind":"outcome","type":"swarm-start","origin":"swarm-controller:kestrel-ctl-9c2","scope":{"swarmId":"kestrel","role":"swarm-controller","instance":"kestrel-ctl-9c2"},"correlationId":"c-7f0e2d11","idempotencyKey":"i-7f0e2d11","data":{"status":"Running","retryable":false,"enabled":true,"context":{"workers":2}}}"#;
const ALERT: &str = r#"{"timestamp":"2026-03-04T10:15:03Z","version":"1","kind":"event","type":"alert","origin":"swarm-controller:kestrel-ctl-9c2","scope":{"swarmId":"kestrel","role":"swarm-controller","instance":"kestrel-ctl-9c2"},"correlationId":null,"data":{"level":"error","code":"io.upstream","message":"the upstream closed the connection","errorType":"Io","errorDetail":null,"context":{"attempt":3}}}"#;
const FULL: &str = r#"{"timestamp":"2026-03-04T10:15:04Z","version":"1","kind":"metric","type":"status-full","origin":"generator:gen-1","scope":{"swarmId":"kestrel","role":"generator","instance":"gen-1"},"runtime":{"templateId":"t-1","runId":"r-1","image":"gen:1.4.2"},"data":{"enabled":true,"config":{"rate":50,"path":"/api/v1/orders"},"startedAt":"2026-03-04T10:00:00Z","io":{"work":{"queues":{"in":["kestrel.gen.in"],"out":["kestrel.gen.out"],"routes":[]},"queueStats":{"kestrel.gen.in":{"depth":12,"consumers":1,"oldestAgeSec":0.5}}}},"ioState":{"work":{"input":"ok","output":"ok"}},"tps":50}}"#;
const DELTA: &str = r#"{"timestamp":"2026-03-04T10:15:05Z","version":"1","kind":"metric","type":"status-delta","origin":"generator:gen-1","scope":{"swarmId":"kestrel","role":"generator","instance":"gen-1"},"data":{"enabled":true,"ioState":{"work":{"input":"ok","output":"ok"}},"tps":51}}"#;

const SET: [(&str, Family, &str); 5] = [
    ("signal", Family::Signal, SIGNAL),
    ("outcome", Family::Outcome, OUTCOME),
    ("alert", Family::Alert, ALERT),
    ("status-full", Family::Metric, FULL),
    ("status-delta", Family::Metric, DELTA),
];

fn message(family: Family, body: &'static str) -> Message {
    let said: Envelope = serde_json::from_str(body).expect("an envelope");
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: ControlPlaneRouting::of(family, &said.kind_type, &said.scope),
        properties: Properties::default(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn contract(bench: &mut Criterion) {
    let limits = Limits::default();
    let contract = Contract::built_in(limits).expect("the built-in schemas compile");
    let mut group = bench.benchmark_group("contract");
    for (name, family, body) in SET {
        let message = message(family, body);
        contract.read(&message).unwrap_or_else(|unsaid| panic!("{name}: {:?}", unsaid.refusal));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("strict/{name}"), |bench| {
            bench.iter(|| strict::parse(black_box(body.as_bytes()), &limits));
        });
        let value = strict::parse(body.as_bytes(), &limits).expect("accepted");
        group.bench_function(format!("schema/{name}"), |bench| {
            bench.iter(|| {
                contract
                    .schemas
                    .of(black_box(value.root()))
                    .and_then(|(_, schema)| schema.check(value.root()))
            });
        });
        // None of the set holds a secret's name: the walk is all that it costs.
        assert!(names::masked(value.root()).is_none(), "{name}");
        group.bench_function(format!("names/{name}"), |bench| {
            bench.iter(|| names::masked(black_box(value.root())));
        });
        // Nor anything of a secret's shape: one look at the canonical text is all that it costs.
        let text = canonical::read(value.root()).expect("a canonical text");
        assert!(!shapes::may_hold(text.get()), "{name}");
        group.bench_function(format!("names/shapes/{name}"), |bench| {
            bench.iter(|| shapes::may_hold(black_box(text.get())));
        });
        group.bench_function(format!("read/{name}"), |bench| {
            bench.iter(|| contract.read(black_box(&message)));
        });
    }
    let messages = SET.map(|(_, family, body)| message(family, body));
    group.throughput(Throughput::Elements(SET.len() as u64));
    group.bench_function("read/mixed-five", |bench| {
        bench.iter(|| messages.iter().filter(|message| contract.read(black_box(message)).is_ok()).count());
    });
    group.finish();
    bench.bench_function("contract/built-in", |bench| bench.iter(|| Contract::built_in(limits)));
}

criterion_group!(benches, contract);
criterion_main!(benches);
