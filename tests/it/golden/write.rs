//! How a golden ledger is written: once a format, by the release that brings it.
//!
//!     SWARMGATE_GOLDEN=tests/data/ledgers/RELEASE cargo nextest run -E 'test(golden::write)' --run-ignored only
//!
//! Owns: one ledger with every change, action and reason there is, and one that a real router
//! wrote.
//! Never: writes over a golden ledger that is there.
//! Holds: a change that is added without being named here does not compile.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json, value::RawValue};
use swarmgate::{
    bus::{Bus, Departure, Queue, QueueKind, Topology},
    clock,
    contract::{
        audit::{
            Accepted, Action, Actor, Asked, Carried, Change, Difference, EmergencyId, Ended, Evidence,
            EvidenceKind, Fact, Genesis, Heard, Mode, Of, Opened, Payload, Presence, Proof, Replay,
            ResultSeen, Resumed, SetBack, Settings, SettingsCompared, Standing, Stepped, Subject, Tallied,
            Verdict,
        },
        digest::Digest,
        interlock::{
            Challenged, Confirmed, GateResult, GateSet, KillSwitch, Life, MonitoringSet, Move, Moved, Phase,
            Requires, Reviewed, Right, SafetyMode, SafetySet, SessionMoved, Share, Suspended,
        },
        message::Message,
        reason::Reason,
        routing::{Family, Scope},
        timestamp::Timestamp,
    },
    ledger::{Batch, FILE, Ledger, chain::Chain},
};
use tempfile::TempDir;

use crate::{
    broker,
    router::{message, process::Process},
};

/// 2026-03-04T10:15:00Z.
const START: i64 = 1_772_619_300_000_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_micros(START).plus_ms(ms)
}

fn place(name: &str) -> PathBuf {
    let golden = env::var("SWARMGATE_GOLDEN").expect("SWARMGATE_GOLDEN names where it is kept");
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(golden).join(name);
    assert!(!place.exists(), "{place:?} is there, and a golden ledger is never edited");
    place
}

/// Keeps a closed ledger, with what this build says of it.
async fn keep(dir: &Path, place: &Path) {
    fs::create_dir_all(place).expect("a directory");
    fs::copy(dir.join(FILE), place.join(FILE)).expect("a copy");
    let (expected, _) = super::observed(dir).await.expect("a ledger");
    let text = serde_json::to_string_pretty(&expected).expect("JSON");
    fs::write(place.join("expected.json"), text + "\n").expect("a file");
}

fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

fn scope(number: u8) -> Scope {
    Scope::new("kestrel", "worker", format!("w-{number}"))
}

fn accepted(number: u8) -> Accepted {
    Accepted {
        always_passes: number.is_multiple_of(2),
        command: Some(digest(number)),
        compared: digest(100 + number),
        counts_for: None,
        forgets_bot: false,
        tries_again: None,
        forgets_patch: false,
        deadline: Some(at(90_000)),
        leads_to: Some(Life::RunningPaper),
        overtakes: Some(at(7)),
        parked: false,
        targets: vec![scope(1), scope(2)],
    }
}

fn seen(answers: Vec<Heard>, ends: Option<Ended>, number: u8) -> ResultSeen {
    ResultSeen { answers, ends, forgets: false, forgets_config: false, identity: digest(number) }
}

fn ended(number: u8) -> Ended {
    Ended { command: digest(number), status: "Ready".to_owned() }
}

/// Each change at least once, in each of its forms.
pub fn changes() -> Vec<Change> {
    let heard = Heard { command: digest(1), status: "Stopped".to_owned(), success: true };
    let set = SafetySet::default;
    let gate = |result, disabled_until| GateSet {
        disabled_until,
        expires_at: Some(at(86_400_000)),
        gate: "nightly".to_owned(),
        result,
        swarm: Some("kestrel".to_owned()),
    };
    let presence = |now, since| Change::Presence(Presence { now, since });
    let mut all = vec![
        Change::None,
        Change::Opened(Opened {
            catch_up_ms: 5000,
            epoch: 1,
            incarnation: String::new(),
            instance: "gate-1".to_owned(),
            mode: Mode::Enforce,
            settings: None,
            version: "0".to_owned(),
        }),
        Change::Accepted(accepted(1)),
        Change::Accepted(accepted(2)),
        Change::Accepted(Accepted { compared: digest(2), ..Accepted::default() }),
        Change::Observed(Of { command: digest(1) }),
        Change::Parked(Of { command: digest(1) }),
        Change::Released(Of { command: digest(1) }),
        Change::Result(seen(vec![heard], None, 4)),
        Change::Result(seen(Vec::new(), Some(ended(1)), 3)),
        Change::Ended(ended(2)),
        Change::Carried(Carried {
            returned: vec![(2, 0), (3, 1)],
            spans: vec![(1, 4)],
            ..Carried::default()
        }),
        Change::Tallied(Tallied { bodies: digest(5), count: 17, second: -1 }),
        presence(Standing::Appeared, None),
        presence(Standing::Stale, Some(at(3))),
        presence(Standing::Lost, Some(at(3))),
        presence(Standing::Back, None),
        presence(Standing::Forgotten, Some(at(3))),
        Change::Resumed(Resumed { catch_up_ms: 5000, paused_ms: 1200 }),
        Change::Moved(Moved { bots: vec![Move { from: Life::Created, scope: scope(9), to: Life::Idle }] }),
        Change::Safety(SafetySet { mode: Some(SafetyMode::Safe), ..set() }),
        Change::Safety(SafetySet {
            kill_switch: Some(KillSwitch::Block),
            swarm: Some("osprey".to_owned()),
            ..set()
        }),
        Change::Safety(SafetySet {
            latch: Some(KillSwitch::Flatten),
            reason: Some("storm".to_owned()),
            ..set()
        }),
        Change::Gate(gate(Some(GateResult::Fail), None)),
        Change::Gate(gate(None, Some(at(60_000)))),
        Change::Monitoring(MonitoringSet { disabled_until: at(60_000), swarm: None }),
        Change::Suspended(Suspended { principal: "storm".to_owned(), until: at(90_000) }),
    ];
    for phase in [Phase::Bootstrapped, Phase::Ready, Phase::Working, Phase::Stopped, Phase::Lost] {
        all.push(Change::Session(SessionMoved { phase, workers: vec![scope(phase as u8), scope(20)] }));
    }
    all.extend(dangerous());
    all.extend(own_of_this_format());
    all.iter().for_each(named);
    all
}

/// Those of dangerous operations.
fn dangerous() -> Vec<Change> {
    let quorum = Requires::Quorum(vec![Share { count: 2, group: "desk".to_owned() }]);
    let challenged = |number: u8, requires| {
        let (accepted, held) = (accepted(number), number.is_multiple_of(2));
        Change::Challenged(Challenged {
            accepted,
            challenge_id: format!("c-{number}"),
            effect: format!("starts w-{number}"),
            expires_at: at(600_000),
            held,
            not_affected: vec!["the others".to_owned()],
            operation: "start a bot".to_owned(),
            requires,
        })
    };
    let confirmed = |number: u8, complete: Option<Right>| {
        let deadline = complete.is_some().then(|| at(100_000));
        let targets = vec![scope(number)];
        Change::Confirmed(Confirmed {
            by: "ann".to_owned(),
            command: digest(number),
            complete,
            deadline,
            targets,
        })
    };
    vec![
        challenged(3, Requires::Explicit),
        challenged(4, Requires::SecondPerson),
        challenged(5, quorum),
        challenged(6, Requires::SecondPerson),
        confirmed(3, None),
        confirmed(4, Some(Right::Confirmed)),
        confirmed(5, Some(Right::Standing("night".to_owned()))),
        confirmed(6, Some(Right::BreakGlass)),
        Change::Reviewed(Reviewed { challenge_id: "c-6".to_owned() }),
    ]
}

fn settings() -> Settings {
    let safety = [("environment", json!("dev")), ("safety.gates_required", json!(["risk"]))];
    let safety = safety.map(|(path, value)| (path.to_owned(), value));
    Settings { digest: digest(8), safety: safety.into() }
}

/// The changes that came with the formats after the first.
fn own_of_this_format() -> Vec<Change> {
    vec![
        Change::Opened(Opened {
            catch_up_ms: 5000,
            epoch: 2,
            incarnation: "00ff00ff00ff00ff".to_owned(),
            instance: "gate-1".to_owned(),
            mode: Mode::Enforce,
            settings: Some(settings()),
            version: "0".to_owned(),
        }),
        Change::Settings(SettingsCompared {
            differences: vec![Difference {
                is: json!([]),
                setting: "safety.gates_required".to_owned(),
                was: json!(["risk"]),
            }],
            safe: true,
        }),
        Change::SetBack(SetBack { known: 900, ledger_id: None, ours: 7 }),
        Change::SetBack(SetBack { known: 901, ledger_id: Some("f".repeat(32)), ours: 7 }),
        // What there was no room to remember, and an attempt after one that never reached its
        // target.
        Change::Accepted(Accepted {
            counts_for: Some(Scope::new("kestrel", "ALL", "ALL")),
            forgets_bot: true,
            forgets_patch: true,
            parked: true,
            tries_again: Some(3),
            ..accepted(8)
        }),
        Change::Result(ResultSeen {
            forgets: true,
            forgets_config: true,
            ..seen(Vec::new(), Some(ended(8)), 9)
        }),
        Change::Moved(Moved {
            bots: vec![Move {
                from: Life::Created,
                scope: Scope::new("osprey", "ALL", "ALL"),
                to: Life::Quarantined,
            }],
        }),
        Change::Stepped(Stepped { from: at(900_000), to: at(50) }),
    ]
}

/// Does not compile where a change is added: name it here, and make one of it above.
fn named(change: &Change) {
    match change {
        Change::None
        | Change::Genesis(_)
        | Change::Opened(_)
        | Change::Accepted(_)
        | Change::Ended(_)
        | Change::Result(_)
        | Change::Carried(_)
        | Change::Tallied(_)
        | Change::Observed(_)
        | Change::Parked(_)
        | Change::Released(_)
        | Change::Presence(_)
        | Change::Resumed(_)
        | Change::Moved(_)
        | Change::Session(_)
        | Change::Safety(_)
        | Change::Gate(_)
        | Change::Monitoring(_)
        | Change::Challenged(_)
        | Change::Confirmed(_)
        | Change::Reviewed(_)
        | Change::Suspended(_)
        | Change::SetBack(_)
        | Change::Stepped(_)
        | Change::Settings(_) => {}
    }
}

const ACTIONS: [Action; 33] = [
    Action::SettingsLoosened,
    Action::SettingsTightened,
    Action::ClockCompared,
    Action::ClockStepped,
    Action::SetBack,
    Action::Opened,
    Action::Carried,
    Action::Requested,
    Action::Denied,
    Action::Applied,
    Action::Ended,
    Action::Observed,
    Action::Parked,
    Action::Released,
    Action::InventoryChanged,
    Action::Resumed,
    Action::Recorded,
    Action::DuplicateSuppressed,
    Action::ContractViolation,
    Action::AccessDenied,
    Action::Seen,
    Action::BotMoved,
    Action::SessionMoved,
    Action::SafetySet,
    Action::KillSwitchSet,
    Action::GateSet,
    Action::MonitoringSet,
    Action::Challenged,
    Action::Confirmed,
    Action::Rejected,
    Action::Review,
    Action::BundleCreated,
    Action::InterlockFired,
];

/// A fact with every field set; each number has other words.
fn fact(number: usize, change: Change) -> Fact {
    let verdicts = [Verdict::Forward, Verdict::Park, Verdict::Challenge, Verdict::Suppress, Verdict::Refuse];
    let proofs = [Proof::UserId, Proof::Origin, Proof::Router, Proof::Unproven];
    let families = [Family::Signal, Family::Outcome, Family::Alert, Family::Metric];
    let kinds = ["bot-start", "config-update", "bot-quarantine", "swarm-remove"];
    let evidence =
        Evidence { at: at(1), detail: "late \u{1f426} \"quoted\"".to_owned(), kind: EvidenceKind::Status };
    let payload = json!({ "data": { "status": "Running", "number": number, "last": evidence } }).to_string();
    Fact {
        actor: Some(Actor { by: proofs[number % 4], principal: format!("né\u{7}e-{number}") }),
        body: Some(digest(number as u8)),
        command: (number % 3 != 2).then(|| Asked {
            requested_transition: number.is_multiple_of(2).then(|| "IDLE->RUNNING_LIVE".to_owned()),
            run_id: number.is_multiple_of(4).then(|| format!("r-{number}")),
            schema_version: "1".to_owned(),
            trace_id: number.is_multiple_of(6).then(|| "4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        }),
        correlation_id: Some(format!("c-{number}")),
        detail: Some("line\nbreak\u{1b}[31m\u{2028}".to_owned()),
        emergency_id: (number % 5 == 4).then_some(EmergencyId { epoch: 1, n: number as u64 }),
        idempotency_key: Some(format!("i-{number}")),
        payload: Some(Payload(RawValue::from_string(payload).expect("JSON"))),
        pointer: Some("/data/~1".to_owned()),
        replay: (number % 7 == 6).then(|| Replay {
            first: Actor { by: proofs[number % 3], principal: "bö".to_owned() },
            of: format!("{}.{number}.0", "0".repeat(32)),
        }),
        reason: Some(Reason::ALL[number % Reason::ALL.len()]),
        subject: Some(Subject {
            family: families[number % 4],
            scope: scope((number % 30) as u8),
            kind_type: kinds[number % kinds.len()].to_owned(),
        }),
        verdict: Some(verdicts[number % 5]),
        ..Fact::new(ACTIONS[number % ACTIONS.len()], at(number as u64), change)
    }
}

#[tokio::test]
#[ignore = "writes a golden ledger, once a format"]
async fn every_change_action_and_reason() {
    let place = place("every");
    let dir = TempDir::new().expect("a directory");
    let mut ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
    let mut chain = Chain::new();
    let genesis = Genesis {
        environment: "dev".to_owned(),
        initial_mode: SafetyMode::Normal,
        ledger_id: "0123456789abcdef0123456789abcdef".to_owned(),
        mode: Mode::Enforce,
        version: "0".to_owned(),
    };
    let mut entries =
        vec![chain.seal(Fact::new(Action::Genesis, at(0), Change::Genesis(genesis)), Vec::new())];
    let changes = changes();
    for number in 0..280 {
        let change = changes[number % changes.len()].clone();
        entries.push(chain.seal(fact(number, change), vec![digest(9); number % 3]));
    }
    ledger.append(Batch { entries, ..Batch::default() }).await.expect("an append");
    ledger.close().await;
    keep(dir.path(), &place).await;
}

fn said(family: &str, kind_type: &str, instance: &str, origin: &str, name: &str, data: &Value) -> Message {
    let role = if instance == "ALL" { "ALL" } else { "worker" };
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": family, "type": kind_type, "origin": origin,
        "scope": { "swarmId": "kestrel", "role": role, "instance": instance },
        "correlationId": format!("c-{name}"), "idempotencyKey": format!("i-{name}"), "data": data,
    });
    let root = if family == "signal" { "signal".to_owned() } else { format!("event.{family}") };
    message(&format!("{root}.{kind_type}.kestrel.{role}.{instance}"), &body)
}

async fn tell(bus: &dyn Bus, messages: Vec<Message>) {
    for message in messages {
        let departure = Departure { message, mandatory: false };
        let publisher = bus.publisher().await.expect("a publisher");
        publisher.publish(&[&departure], Duration::from_secs(20)).await.expect("fates");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

/// What the router of a golden ledger hears: each verdict, a command that waits, one that waits for
/// its confirmation, bots in several places of their lives, and a kill switch that must not be
/// forgotten.
fn story() -> Vec<Message> {
    let signal =
        |kind: &str, who: &str, name: &str, data: Value| said("signal", kind, who, "orc-a", name, &data);
    let outcome = |kind: &str, who: &str, name: &str, status: &str| {
        said("outcome", kind, who, who, name, &json!({ "status": status }))
    };
    let mut broken = signal("config-update", "w-1", "broken", json!({}));
    broken.body = r#"{"kind":"signal","kind":"signal"}"#.into();
    vec![
        signal("config-update", "w-1", "1", json!({ "size": 1 })),
        outcome("config-update", "w-1", "1", "Applied"),
        signal("config-update", "w-1", "1", json!({ "size": 1 })),
        signal("config-update", "w-1", "1", json!({ "size": 2 })),
        signal("bot-init", "w-1", "2", json!({})),
        outcome("bot-init", "w-1", "2", "Ready"),
        signal("bot-start", "w-1", "3", json!({ "mode": "paper" })),
        outcome("bot-start", "w-1", "3", "Running"),
        signal("bot-stop", "w-1", "4", json!({})),
        outcome("bot-stop", "w-1", "4", "Stopped"),
        signal("bot-quarantine", "w-2", "5", json!({ "reason": "odd" })),
        signal("bot-start", "w-2", "6", json!({ "mode": "paper" })),
        signal("explode", "w-2", "7", json!({})),
        broken,
        signal("config-update", "absent", "8", json!({ "size": 3 })),
        signal("bot-init", "w-3", "9", json!({})),
        outcome("bot-init", "w-3", "9", "Ready"),
        signal("bot-start", "w-3", "10", json!({ "mode": "live" })),
        signal("gate-report", "ALL", "11", json!({ "gate": "nightly", "result": "FAIL" })),
        signal("kill-switch-set", "ALL", "12", json!({ "level": "BLOCK", "reason": "drill" })),
        signal("bot-start", "w-1", "13", json!({ "mode": "paper" })),
    ]
}

async fn a_router_wrote(name: &str, more: Vec<Message>) {
    let place = place(name);
    let broker = broker::Broker::own(name);
    let url = broker.url("/", "guest", "guest");
    let bus = swarmgate::bus::amqp::connect(&swarmgate::bus::amqp::Options::new(&url)).await.expect("a bus");
    let router = Process::start(&url);
    router.ready(bus.as_ref()).await;
    let bindings = ["*.*.kestrel.worker.w-*", "#.w-1", "#.w-2", "#.w-3"];
    let bindings = bindings.iter().map(|key| ("swarmgate.out".to_owned(), (*key).to_owned())).collect();
    let queue = Queue { name: "heard".to_owned(), kind: QueueKind::Quorum, bindings };
    bus.declare(&Topology { exchanges: Vec::new(), queues: vec![queue] }).await.expect("a queue");
    tell(bus.as_ref(), story()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The second epoch ends in good order, so that what it wrote is in the file and not in its log.
    let router = router.again();
    tokio::time::sleep(Duration::from_secs(3)).await;
    tell(bus.as_ref(), more).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let dir = router.stop().await;
    if name == "poisoned" {
        // What its release cannot read itself: what is expected of it is written by hand.
        fs::create_dir_all(&place).expect("a directory");
        fs::copy(dir.path().join(FILE), place.join(FILE)).expect("a copy");
        return;
    }
    keep(dir.path(), &place).await;
}

#[tokio::test]
#[ignore = "writes a golden ledger, once a format"]
async fn a_router() {
    a_router_wrote("router", vec![said("signal", "bot-stop", "w-9", "orc-a", "20", &json!({}))]).await;
}

#[tokio::test]
#[ignore = "writes a golden ledger, with the first format only: no later release writes what it cannot read"]
async fn a_poisoned_router() {
    let mut stop = said("signal", "bot-stop", "w-1", "orc-a", "20", &json!({}));
    let mut body: Value = serde_json::from_slice(&stop.body).expect("a body");
    body["timestamp"] = json!("0000-01-01T00:00:00+23:59");
    stop.body = body.to_string().into();
    a_router_wrote("poisoned", vec![stop]).await;
}
