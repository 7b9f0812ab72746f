//! What judging, sealing and writing cost: decide, the corridor's settle, the chain, the ledger's
//! commits and reads.
//!
//! Owns: the figures of the core, from one decision to a ledger of 100 000 entries.
//! Never: asserts a time; the figures are read by people.
//! Holds: every message that is measured is forwarded; the ledger is on a real disk (`TMPDIR`),
//! synced each commit.

use std::{cell::Cell, hint::black_box, path::Path};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use swarmgate::{
    contract::{
        Contract,
        audit::{Action, Change, Fact, Genesis, Mode, Verdict},
        lane::Lane,
        message::{Message, Properties},
        routing::{ControlPlaneRouting, Family, Scope},
        timestamp::Timestamp,
    },
    decision::{decide, request::Request, rules::Rules, state::State},
    ledger::{
        Batch, Ledger, Parcel,
        chain::{Chain, Sealed},
        verify::verify,
    },
    runtime::corridor::{self, Corridor, Names},
};
use tokio::runtime::Runtime;

/// The binary's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// 2026-03-04T10:15:00Z.
const START: Timestamp = Timestamp::from_micros(1_772_619_300_000_000);
/// Entries of the ledger that is replayed and verified.
const LONG_COUNT: usize = 100_000;

/// A message of a family, unlike any other of that number.
fn message(family: Family, number: u64) -> Message {
    let commands = family == Family::Signal;
    let (kind, kind_type, data) = match family {
        Family::Signal => ("signal", "config-update", json!({ "enabled": true, "rate": number })),
        Family::Outcome => ("outcome", "config-update", json!({ "status": "Applied", "rate": number })),
        Family::Alert => {
            let data =
                json!({ "level": "error", "code": "io.upstream", "message": format!("closed {number}") });
            ("event", "alert", data)
        }
        Family::Metric => {
            let io = json!({ "input": "ok", "output": "ok" });
            ("metric", "status-delta", json!({ "enabled": true, "ioState": { "work": io }, "tps": number }))
        }
    };
    let origin = if commands { "orchestrator-1" } else { "gen-1" };
    let mut body = json!({
        "timestamp": START, "version": "1", "kind": kind, "type": kind_type, "origin": origin,
        "scope": { "swarmId": "kestrel", "role": "generator", "instance": "gen-1" },
        "correlationId": format!("c-{number}"), "data": data,
    });
    if kind == "signal" || kind == "outcome" {
        body["idempotencyKey"] = json!(format!("i-{number}"));
    }
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: ControlPlaneRouting::of(family, kind_type, &Scope::new("kestrel", "generator", "gen-1")),
        properties: Properties { user_id: Some(origin.to_owned()), ..Properties::default() },
        body: body.to_string().into(),
    }
}

fn corridor() -> (Corridor, Sealed) {
    let rules = Rules { idempotency_keys_max: usize::MAX, ..Rules::default() };
    let mut corridor = Corridor::new(State::new(rules), Chain::new(), Names::with_prefix("swarmgate"));
    let genesis = Genesis {
        environment: "dev".to_owned(),
        initial_mode: swarmgate::contract::interlock::SafetyMode::Normal,
        ledger_id: "0".repeat(32),
        mode: Mode::Enforce,
        version: "0".to_owned(),
    };
    let first = corridor.record(Fact::new(Action::Genesis, START, Change::Genesis(genesis)));
    (corridor, first)
}

fn contract() -> Contract {
    Contract::built_in(Default::default()).expect("the built-in schemas compile")
}

fn request(contract: &Contract, message: &Message) -> Request {
    Request::Arrived(Box::new(corridor::read(contract, message, false)))
}

/// Decides, and settles, one fresh message of each family.
fn judging(bench: &mut Criterion) {
    let contract = contract();
    let mut group = bench.benchmark_group("core");
    group.throughput(Throughput::Elements(1));
    for family in Family::ALL {
        let (mut corridor, _) = corridor();
        let one = request(&contract, &message(family, 0));
        let decision = corridor.decide(&one, START);
        assert_eq!(decision.verdict, Some(Verdict::Forward), "{family}: {:?}", decision.refusal);
        group.bench_function(format!("decide/{family}"), |bench| {
            bench.iter(|| decide(corridor.state(), black_box(&one), START));
        });
        let number = Cell::new(0);
        group.bench_function(format!("settle/{family}"), |bench| {
            let fresh = || {
                number.set(number.get() + 1);
                let message = message(family, number.get());
                (request(&contract, &message), message)
            };
            bench.iter_batched(
                fresh,
                |(request, message)| {
                    let decision = corridor.decide(&request, START);
                    corridor.settle(decision, Some(message), None)
                },
                BatchSize::SmallInput,
            );
        });
    }
    let mixed = Family::ALL.map(|family| message(family, 0));
    let (corridor, _) = corridor();
    group.throughput(Throughput::Elements(mixed.len() as u64));
    group.bench_function("read-and-decide/mixed-four", |bench| {
        bench.iter(|| mixed.each_ref().map(|one| corridor.decide(&request(&contract, one), START)));
    });
    group.throughput(Throughput::Elements(1));
    let fact = entries(1).remove(1).entry.fact;
    group.bench_function("seal", |bench| {
        let mut chain = Chain::new();
        bench.iter_batched(|| fact.clone(), |fact| chain.seal(fact, Vec::new()), BatchSize::SmallInput);
    });
    group.finish();
}

/// A genesis and that many entries of signals, as the corridor writes them.
fn entries(count: usize) -> Vec<Sealed> {
    let contract = contract();
    let (mut corridor, first) = corridor();
    let mut sealed = vec![first];
    for number in 0..count as u64 {
        let message = message(Family::Signal, number);
        let decision = corridor.decide(&request(&contract, &message), START);
        sealed.extend(corridor.settle(decision, Some(message), None).sealed);
    }
    sealed
}

/// One durable commit of a batch with its parcel, and of the booking of the one before.
fn appending(bench: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let fact = entries(1).remove(1).entry.fact;
    let mut group = bench.benchmark_group("ledger");
    for count in [1_usize, 32, 128] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ledger = runtime.block_on(Ledger::open(dir.path(), None)).expect("a ledger");
        let mut chain = Chain::new();
        let messages: Vec<Message> =
            (0..count as u64).map(|number| message(Family::Signal, number)).collect();
        let mut last = None;
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("append", count), |bench| {
            bench.iter_batched(
                || {
                    let entries: Vec<Sealed> =
                        (0..count).map(|_| chain.seal(fact.clone(), Vec::new())).collect();
                    let packed = entries
                        .iter()
                        .zip(&messages)
                        .map(|(sealed, message)| (sealed.entry.seq, 0, true, message));
                    let parcel = Parcel::pack(Lane::Signals, packed);
                    let carried = std::mem::replace(&mut last, parcel.as_ref().map(|parcel| parcel.id));
                    let (parcels, carried) = (parcel.into_iter().collect(), carried.into_iter().collect());
                    Batch { entries, parcels, carried, ..Batch::default() }
                },
                |batch| runtime.block_on(ledger.append(batch)).expect("an append"),
                BatchSize::PerIteration,
            );
        });
        runtime.block_on(ledger.close());
    }
    group.finish();
}

/// A long ledger, folded into a state and verified.
fn reading(bench: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    runtime.block_on(write_long(dir.path()));
    let mut group = bench.benchmark_group("ledger");
    group.sample_size(10).throughput(Throughput::Elements(LONG_COUNT as u64 + 1));
    group.bench_function("replay/100k", |bench| {
        let mut ledger = runtime.block_on(Ledger::open(dir.path(), None)).expect("a ledger");
        bench.iter(|| {
            let rules = Rules { idempotency_keys_max: usize::MAX, ..Rules::default() };
            let mut state = State::new(rules);
            let fold = ledger.replay(|sealed| state.apply(sealed.entry.seq, &sealed.entry.fact));
            let recovered = runtime.block_on(fold).expect("a replay");
            (state, recovered.entries)
        });
        runtime.block_on(ledger.close());
    });
    group.bench_function("verify/100k", |bench| {
        bench.iter(|| {
            let report = runtime.block_on(verify(dir.path())).expect("a report");
            assert_eq!(report.fault, None);
        });
    });
    group.finish();
}

async fn write_long(dir: &Path) {
    let mut ledger = Ledger::open(dir, None).await.expect("a ledger");
    for part in entries(LONG_COUNT).chunks(4096) {
        ledger.append(Batch { entries: part.to_vec(), ..Batch::default() }).await.expect("an append");
    }
    ledger.close().await;
}

criterion_group!(benches, judging, appending, reading);
criterion_main!(benches);
