//! The decision tables: (envelopes, times) → (verdicts, facts, effects), one file a rule, no mocks.
//!
//! A file has a `base` and `cases`; each step of a case says in a few words what is sent
//! (`decisions::step`), runs through the corridor at its time, and says what it expects. What a
//! step does not mention is not compared. Before its message a step may let instances appear, lanes
//! resume or the ledger be opened again, and let the broker answer for what has left. How a table
//! is laid out is the business of `decisions::layout`.

mod layout;
mod step;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use serde_json::{Value, json};
use swarmgate::{
    contract::{
        Contract,
        audit::{
            Action, Carried, Change, Fact, Genesis, Mode, Opened, Presence, Resumed, Settings, Standing,
            Stepped, Subject,
        },
        digest::Digest,
        interlock::{KillSwitch, Requires},
        message::Message,
        routing::{ALL, Family, Scope},
        schema::Schema,
        timestamp::Timestamp,
    },
    decision::{
        effect::Effect,
        request::{
            BrokerReport, Bundled, Compared, Done, Latch, Made, Measured, Request, Returned, Unlatched,
        },
        rules::{Rules, consent::StandingApproval},
        state::{Belief, State},
    },
    ledger::{
        Outgoing,
        chain::{Chain, Sealed},
    },
    runtime::corridor::{self, Corridor, Judged, Names},
};

/// The schema of an entry, which each entry of each table is judged by.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::of_entries().expect("the schema"));

#[test]
fn every_table_holds() {
    let (mut cases, mut broken) = (0, 0);
    for file in &tables() {
        let table: Value = serde_json::from_str(&fs::read_to_string(file).expect("a table")).expect("JSON");
        for case in table["cases"].as_array().expect("`cases`") {
            // Every broken case is told, not the first alone.
            broken += u32::from(std::panic::catch_unwind(|| check(file, &table, case)).is_err());
            cases += 1;
        }
    }
    assert_eq!(broken, 0, "cases are broken, see above");
    assert!(cases >= 200, "only {cases} cases were found");
}

fn tables() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decisions");
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("the tables").map(|file| file.expect("a file").path()).collect();
    files.sort();
    files
}

/// Runs one case, and replays its ledger: the fold of the facts must be the state.
fn check(file: &Path, table: &Value, case: &Value) {
    let name = format!("{}: {}", file.file_name().expect("a name").to_string_lossy(), case["name"]);
    let contract = Contract::built_in(Default::default()).expect("the contract");
    let mut settings = rules(&[&table["rules"], &case["rules"]]);
    let mut corridor =
        Corridor::new(State::new(settings.clone()), Chain::new(), Names::with_prefix("swarmgate"));
    let start = Timestamp::parse(table["base"]["start"].as_str().expect("`start`")).expect("a time");
    let genesis = Genesis {
        environment: case["environment"].as_str().unwrap_or("dev").to_owned(),
        initial_mode: swarmgate::contract::interlock::SafetyMode::Normal,
        ledger_id: "0".repeat(32),
        mode: settings.mode,
        version: "0".to_owned(),
    };
    let mut ledger = vec![corridor.record(Fact::new(Action::Genesis, start, Change::Genesis(genesis)))];
    let mut left = Vec::new();
    for (index, step) in case["steps"].as_array().expect("`steps`").iter().enumerate() {
        let name = format!("{name}, step {index}");
        if step.get("begunWith").is_some() {
            settings = rules(&[&table["rules"], &case["rules"], &step["begunWith"]]);
            let parked = corridor.take_parked();
            let chain = Chain::after(ledger.last().expect("the genesis"));
            corridor.resume(folded(&settings, &ledger), chain, parked);
        }
        let answers = run(&contract, &mut corridor, (&mut ledger, &mut left), table, step, start);
        compare(&name, &step["expect"], &answers, corridor.state());
        for collection in corridor.state().collections() {
            assert!(collection.len <= collection.max, "{name}: {collection:?}");
        }
    }
    for entry in &ledger {
        let judged = SCHEMA.check_entry(&entry.bytes);
        assert!(judged.is_ok(), "{name}: {judged:?}: {}", String::from_utf8_lossy(&entry.bytes));
        names_its_command(&name, &entry.entry.fact);
    }
    let replayed = folded(&settings, &ledger);
    assert_eq!(
        replayed.digest(),
        corridor.state().digest(),
        "{name}: the fold of the ledger is another state"
    );
    steps_back(&name, replayed);
}

/// The state of a start on that ledger.
fn folded(settings: &Rules, ledger: &[Sealed]) -> State {
    let mut state = State::new(settings.clone());
    ledger.iter().for_each(|entry| state.apply(entry.entry.seq, &entry.entry.fact));
    state
}

/// After a step of the router's time nothing in the state lies ahead of the clock by more than it
/// lay ahead before.
fn steps_back(name: &str, mut state: State) {
    const HOUR_MICROS: i64 = 3_600_000_000;
    let from = state.last_at();
    let to = Timestamp::from_micros(from.micros() - 20 * 24 * HOUR_MICROS);
    let ahead_before = moments(&state.recorded()).into_iter().map(|at| at - from.micros()).max();
    let change = Change::Stepped(Stepped { from, to });
    let seq = state.last_seq() + 1;
    state.apply(seq, &Fact::new(Action::ClockStepped, to, change));
    assert_eq!(state.last_at(), to, "{name}");
    let ahead = moments(&state.recorded()).into_iter().map(|at| at - to.micros()).max();
    assert!(ahead <= ahead_before, "{name}: {} h ahead", ahead.unwrap_or_default() / HOUR_MICROS);
}

/// Every moment in a state: numbers of microseconds, and texts, of this century.
fn moments(value: &Value) -> Vec<i64> {
    let century = 946_684_800_000_000..4_102_444_800_000_000;
    let moment = match value {
        Value::Array(items) => return items.iter().flat_map(moments).collect(),
        Value::Object(members) => return members.values().flat_map(moments).collect(),
        Value::Number(number) => number.as_i64(),
        Value::String(text) => Timestamp::parse(text).map(Timestamp::micros),
        _ => None,
    };
    moment.filter(|at| century.contains(at)).into_iter().collect()
}

/// The defaults, and over them what each says.
fn rules(layers: &[&Value]) -> Rules {
    let mut rules = Rules::default();
    for (key, value) in layers.iter().filter_map(|layer| layer.as_object()).flatten() {
        let number = value.as_u64().unwrap_or_default();
        match key.as_str() {
            "mode" => rules.mode = serde_json::from_value::<Mode>(value.clone()).expect("a mode"),
            "idempotencyKeysMax" => rules.idempotency_keys_max = number as usize,
            "idempotencyWindowMs" => rules.idempotency_window_ms = number,
            "alertsPerSecondMax" => rules.alerts_per_second_max = number as u32,
            "targetsMax" => rules.targets_max = number as usize,
            "parkingTargetMax" => rules.parking_target_max = number as usize,
            "parkingBytesMax" => rules.parking_bytes_max = number as usize,
            "parkingTotalMax" => rules.parking_total_max = number as usize,
            "alertsDedupeMs" => rules.alerts_dedupe_ms = number,
            "gatesRequired" => rules.safety.gates_required = names(value),
            "gateReporters" => {
                rules.safety.gate_reporters = serde_json::from_value(value.clone()).expect("reporters");
            }
            "lostLiveAfterMs" => rules.lost_live_after_ms = number,
            "refusalsEntriesPerSecondMax" => rules.refusals_entries_per_second_max = number,
            "sessionLostAfterMs" => rules.session_lost_after_ms = number,
            "requires" => rules.consent.requires = requires(value),
            "liveRequires" => rules.consent.live_requires = requires(value),
            "groups" => rules.consent.groups = serde_json::from_value(value.clone()).expect("groups"),
            "actors" => rules.consent.actors = names(value),
            "breakGlass" => rules.consent.break_glass = names(value),
            "standing" => rules.consent.standing = standing(value),
            "trustOrigin" => rules.trust_origin = value == &json!(true),
            "bundleIsDangerous" => rules.consent.support_bundle = value == &json!(true),
            "commandsMax" => rules.safety.interlocks.commands_max = value.as_u64(),
            "missingOutcomesPercentMax" => {
                rules.safety.interlocks.missing_outcomes_percent_max = value.as_u64();
            }
            "samplesMin" => rules.safety.interlocks.samples_min = number,
            other => panic!("`{other}` is no rule"),
        }
    }
    rules.commands = Arc::new(swarmgate::contract::command::Commands::default());
    rules
}

fn names(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).expect("names")
}

/// `second-person`, or a quorum as a list of `{group, count}`.
fn requires(value: &Value) -> Requires {
    match value.as_str() {
        Some("explicit") => Requires::Explicit,
        Some("second-person") => Requires::SecondPerson,
        _ => Requires::Quorum(serde_json::from_value(value.clone()).expect("shares")),
    }
}

fn standing(value: &Value) -> Vec<StandingApproval> {
    let all = value.as_array().expect("a list").iter();
    all.map(|one| StandingApproval {
        name: one["name"].as_str().expect("a name").to_owned(),
        command: Digest::from_hex(one["command"].as_str().expect("a hash")).expect("a hash"),
        expires_at: Timestamp::parse(one["expiresAt"].as_str().expect("a time")).expect("a time"),
        uses_max: one["usesMax"].as_u64().expect("a number"),
    })
    .collect()
}

/// What a step says the host has seen or done.
fn found(step: &Value) -> Option<Done> {
    if let Some(latch) = step.get("latch") {
        let level = KillSwitch::read(latch["level"].as_str().expect("a level")).expect("a level");
        let swarm = latch["swarm"].as_str().map(str::to_owned);
        let reason = latch["reason"].as_str().unwrap_or("drill").to_owned();
        return Some(Done::Latched(Latch { level, swarm, reason }));
    }
    if step["compares"] == json!(true) {
        return Some(Done::Opened);
    }
    if let Some(unlatched) = step.get("unlatched") {
        let fault = unlatched["fault"].as_str().map(str::to_owned);
        return Some(Done::Unlatched(Unlatched { seq: unlatched["seq"].as_u64().expect("an entry"), fault }));
    }
    if let Some(bundled) = step.get("bundled") {
        let made = Made { path: "b.tar.gz".to_owned(), bytes: 7, manifest_sha256: "0".repeat(64) };
        let made = match bundled["fault"].as_str() {
            Some(fault) => Err(fault.to_owned()),
            None => Ok(made),
        };
        let seq = bundled["seq"].as_u64().expect("an entry");
        return Some(Done::Bundled(Bundled { seq, why: "drill".to_owned(), made }));
    }
    if let Some(clock) = step.get("clock") {
        let wall = clock["wall"].as_str().map(|wall| Timestamp::parse(wall).expect("a time"));
        return Some(Done::Compared(wall.map_or(Compared::Agree, |wall| Compared::Apart { wall })));
    }
    let measured = step.get("measured")?;
    let number = |name: &str| measured[name].as_u64();
    Some(Done::Measured(Measured {
        clock_drift_ms: number("clockDriftMs"),
        disk_free_bytes: number("diskFreeBytes"),
        ledger_failures: number("ledgerFailures"),
    }))
}

fn run(
    contract: &Contract,
    corridor: &mut Corridor,
    (ledger, left): (&mut Vec<Sealed>, &mut Vec<Outgoing>),
    table: &Value,
    step: &Value,
    start: Timestamp,
) -> Vec<Judged> {
    let now = start.plus_ms(step["at"].as_u64().unwrap_or_default());
    if let Some(writable) = step["ledgerWritable"].as_bool() {
        corridor.state_mut().believe(&Belief::LedgerWritable(writable));
    }
    ledger.extend(happened(step, now).into_iter().map(|fact| corridor.record(fact)));
    // What arrives may be judged before what falls due in the same moment.
    let first = if step["beforeDue"].as_bool().unwrap_or_default() { 0 } else { 100 };
    let mut answers: Vec<Judged> = std::iter::from_fn(|| corridor.due(now)).take(first).collect();
    assert!(answers.len() < 100, "what is due is never done: {step}");
    if let Some(answer) = step.get("answer") {
        let (answer, returned) = broker_answer(answer, left);
        let decision = corridor.decide(&Request::Answered(answer), now);
        answers.push(corridor.settle_answer(decision, returned));
    }
    if let Some(done) = found(step) {
        let decision = corridor.decide(&Request::Done(done), now);
        answers.push(corridor.settle(decision, None, None));
    }
    if let Some(message) = step::message(&table["base"], step, start) {
        let mut arrival =
            corridor::read(contract, &message, step["redelivered"].as_bool().unwrap_or_default());
        arrival.was_dropped = step["wasDropped"].as_bool().unwrap_or_default();
        arrival.expiration_ms = arrival.expiration_ms.or(step["expirationMs"].as_u64());
        let decision = corridor.decide(&Request::Arrived(Box::new(arrival)), now);
        let recalled = decision.effects.iter().find_map(|effect| match effect {
            Effect::Repeat { of, .. } => ledger.iter().find(|entry| entry.entry.seq == *of),
            _ => None,
        });
        let recalled = recalled.and_then(|entry| entry.entry.fact.payload.as_ref());
        let recalled = recalled.map(|payload| payload.text().to_owned().into());
        answers.push(corridor.settle(decision, Some(message), recalled));
    }
    for answer in &answers {
        ledger.extend(answer.sealed.iter().cloned());
        let kept = answer.released.iter().map(|kept| &kept.outgoing);
        left.extend(answer.outgoing.iter().chain(kept).cloned());
    }
    answers
}

/// What a step says has happened without a message: instances that appeared, lanes that resumed, a
/// restart.
fn happened(step: &Value, now: Timestamp) -> Vec<Fact> {
    let number = |name: &str| step[name].as_u64();
    let mut facts = Vec::new();
    let named = |member: &str| step[member].as_array().cloned().unwrap_or_default();
    let appeared = named("appeared").into_iter().map(|name| (name, Standing::Appeared));
    let forgotten = named("forgotten").into_iter().map(|name| (name, Standing::Forgotten));
    for (name, standing) in appeared.chain(forgotten) {
        let presence = Change::Presence(Presence { now: standing, since: None });
        let mut fact = Fact::new(Action::InventoryChanged, now, presence);
        fact.subject = Some(Subject {
            family: Family::Metric,
            scope: step::named(name.as_str().expect("a name")),
            kind_type: "status-full".to_owned(),
        });
        facts.push(fact);
    }
    if let Some(paused_ms) = number("pausedMs") {
        let resumed = Resumed { catch_up_ms: 5_000, paused_ms };
        facts.push(Fact::new(Action::Resumed, now, Change::Resumed(resumed)));
    }
    if let Some(epoch) = number("openedEpoch") {
        let opened = Opened {
            incarnation: String::new(),
            catch_up_ms: 5_000,
            epoch,
            instance: "gate-1".to_owned(),
            mode: Mode::Enforce,
            settings: step.get("settings").map(|safety| Settings {
                digest: Digest::of(safety.to_string().as_bytes()),
                safety: serde_json::from_value(safety.clone()).expect("settings"),
            }),
            version: "0".to_owned(),
        };
        facts.push(Fact::new(Action::Opened, now, Change::Opened(opened)));
    }
    facts
}

/// The broker's answer in a step's words, with the messages that came back.
fn broker_answer(answer: &Value, left: &mut Vec<Outgoing>) -> (BrokerReport, Vec<Outgoing>) {
    let read = |name: &str| answer.get(name).cloned().unwrap_or_else(|| json!([]));
    let spans = serde_json::from_value(read("carried")).expect("spans");
    let places: Vec<(u64, u32)> = serde_json::from_value(read("returned")).expect("places");
    let given_up: Vec<(u64, u32)> = serde_json::from_value(read("givenUp")).expect("places");
    let mut messages = Vec::new();
    for place in places.iter().chain(&given_up) {
        let index = left.iter().rposition(|back| (back.seq, back.ordinal) == *place);
        messages.push(left.remove(index.unwrap_or_else(|| panic!("nothing left as {place:?}"))));
    }
    // Of what came back only signals may wait for their targets.
    let signals = messages.iter().filter(|back| back.message.routing_key.starts_with("signal."));
    let returned = signals.map(|back| Returned {
        seq: back.seq,
        ordinal: back.ordinal,
        routing_key: back.message.routing_key.clone(),
        body_bytes: back.message.body.len(),
    });
    (
        BrokerReport {
            returned: returned.collect(),
            carried: Carried { returned: places, given_up, spans },
            not_taken: Vec::new(),
        },
        messages,
    )
}

/// The correlationIds of what leaves.
fn correlations(answers: &[Judged]) -> Value {
    let body = |outgoing: &Outgoing| serde_json::from_slice::<Value>(&outgoing.message.body).expect("JSON");
    let leaving = answers.iter().flat_map(|answer| &answer.outgoing);
    leaving.map(|outgoing| body(outgoing)["correlationId"].clone()).collect()
}

fn compare(name: &str, expect: &Value, answers: &[Judged], state: &State) {
    let Some(expect) = expect.as_object() else { return };
    let last = answers.last();
    let decision = last.map(|last| &last.decision);
    let refusal = decision.and_then(|decision| decision.refusal.as_ref());
    for (what, wanted) in expect {
        if compared_apart(name, what, wanted, answers) {
            continue;
        }
        let found = match what.as_str() {
            "verdict" => json!(decision.and_then(|decision| decision.verdict)),
            "reason" => json!(refusal.map(|refusal| refusal.reason)),
            "pointer" => json!(refusal.and_then(|refusal| refusal.pointer.as_deref())),
            "principal" => json!(decision.and_then(|decision| decision.principal.as_deref())),
            "audit" => answers
                .iter()
                .flat_map(|answer| &answer.sealed)
                .map(|entry| json!(entry.entry.fact.action))
                .collect(),
            "commands" => answers
                .iter()
                .flat_map(|answer| &answer.sealed)
                .filter_map(|entry| asked(&entry.entry.fact))
                .collect(),
            "publish" => answers
                .iter()
                .flat_map(|answer| &answer.outgoing)
                .map(|outgoing| said(&outgoing.message))
                .collect(),
            "correlations" => correlations(answers),
            "flights" => flights(state),
            "parked" => json!(state.commands_parked()),
            "released" => keys(answers.iter().flat_map(|answer| &answer.released)),
            "held" => keys(answers.iter().flat_map(|answer| &answer.held)),
            "life" => named(wanted, |scope| json!(state.life(scope))),
            "session" => named(wanted, |scope| {
                let session = state.session(scope);
                json!(session.map(|session| format!("{} {}", session.epoch, session.phase)))
            }),
            "detail" => {
                let entries = answers.iter().flat_map(|answer| &answer.sealed);
                entries.map(|entry| json!(entry.entry.fact.detail)).collect()
            }
            "mode" => json!(state.safety().mode(&Scope::new("kestrel", ALL, ALL))),
            "killSwitch" => json!(state.safety().kill_switch(&Scope::new("kestrel", ALL, ALL))),
            "challenges" => json!(state.challenged().filter(|flight| flight.awaits_confirmation()).count()),
            "errands" => answers
                .iter()
                .flat_map(|answer| &answer.errands)
                .map(|errand| match errand {
                    Effect::Bundle { seq, .. } => json!(format!("bundle {seq}")),
                    Effect::Unlatch { seq, swarm, .. } => {
                        json!(format!("unlatch {seq} {}", swarm.as_deref().unwrap_or(ALL)))
                    }
                    other => json!(format!("{other:?}")),
                })
                .collect(),
            "suspended" => json!(state.suspended_until("orc-a").is_some()),
            "dropped" => json!(answers.iter().map(|answer| answer.dropped.len()).sum::<usize>()),
            "dueMs" => json!(state.next_deadline().map(|at| (at.micros() - state.last_at().micros()) / 1000)),
            "own" => own(answers),
            other => panic!("`{other}` cannot be expected"),
        };
        assert_eq!(&found, wanted, "{name}: {what}");
    }
}

/// Compares what is not compared whole; whether it was such.
fn compared_apart(name: &str, what: &str, wanted: &Value, answers: &[Judged]) -> bool {
    match what {
        // A text that stands in none of the entries.
        "secret" => {
            let secret = wanted.as_str().expect("a text");
            for entry in answers.iter().flat_map(|answer| &answer.sealed) {
                let text = String::from_utf8_lossy(&entry.bytes);
                assert!(!text.contains(secret), "{name}: {text}");
            }
            true
        }
        // Only the named fields of the router's own last outcome.
        "own" if !wanted.is_null() => {
            let mut found = own(answers);
            let before = found.clone();
            step::merge(&mut found, wanted);
            assert_eq!(before, found, "{name}: own");
            true
        }
        _ => false,
    }
}

/// What is found of each instance that an expectation names as `swarm/role/instance`.
fn named(wanted: &Value, find: impl Fn(&Scope) -> Value) -> Value {
    let names = wanted.as_object().expect("instances").keys();
    let found = names.map(|name| (name.clone(), find(&step::named(name))));
    Value::Object(found.collect())
}

/// Every command in flight, the oldest first: its entry, type, instance, and what has become of it.
fn flights(state: &State) -> Value {
    let mut lines: Vec<String> = state
        .flights()
        .map(|flight| {
            let mut line = format!("{} {} {}", flight.seq, flight.kind_type, flight.scope.instance);
            for (is, word) in [
                (flight.is_parked(), " parked"),
                (flight.carried_at.is_some(), " carried"),
                (flight.observed_at.is_some(), " observed"),
            ] {
                line.push_str(if is { word } else { "" });
            }
            if let Some(evidence) = state.evidence(flight) {
                line.push_str(&format!(": {} {}", evidence.kind.word(), evidence.detail));
            }
            line
        })
        .collect();
    lines.reverse();
    json!(lines)
}

/// The keys of messages that wait or have waited, in order.
fn keys<'a>(kept: impl Iterator<Item = &'a corridor::Kept>) -> Value {
    kept.map(|kept| kept.outgoing.message.routing_key.clone()).collect()
}

/// What an entry says of its command, in the order of the specification: action, command_id, actor,
/// target, requested_transition, trace_id, run_id and schema_version.
fn asked(fact: &Fact) -> Option<Value> {
    let asked = fact.command.as_ref()?;
    let or_null = |text: Option<&String>| text.map_or("null", String::as_str).to_owned();
    let scope = fact.subject.as_ref().map(|subject| subject.scope.to_string()).unwrap_or_default();
    let who = fact.actor.as_ref().map(|actor| actor.principal.clone()).unwrap_or_default();
    let words = [
        fact.action.word().to_owned(),
        or_null(fact.idempotency_key.as_ref()),
        who,
        scope,
        or_null(asked.requested_transition.as_ref()),
        or_null(asked.trace_id.as_ref()),
        or_null(asked.run_id.as_ref()),
        asked.schema_version.clone(),
    ];
    Some(json!(words.join(" ")))
}

/// Whatever is written of a command names it whole.
fn names_its_command(name: &str, fact: &Fact) {
    use Action::{
        Applied, Challenged, Confirmed, Denied, DuplicateSuppressed, Ended, Observed, Parked, Rejected,
        Released, Requested,
    };
    let is_of_command = matches!(
        fact.action,
        Requested | Denied | Applied | Ended | Observed | Parked | Released | DuplicateSuppressed
    ) || matches!(fact.action, Challenged | Confirmed | Rejected);
    // A redelivered outcome is a repeat of no command, and a confirmation that could not be read
    // says nothing.
    let is_signal = fact.subject.as_ref().is_some_and(|subject| subject.family == Family::Signal);
    let is_unread = fact.reason.is_some_and(|reason| reason.gate() == "contract");
    let is_repeat_of_result = fact.action == DuplicateSuppressed && !is_signal;
    if !is_of_command || is_unread || is_repeat_of_result {
        return;
    }
    let whole = fact.command.is_some() && fact.actor.is_some() && fact.subject.is_some();
    assert!(whole && fact.idempotency_key.is_some(), "{name}: {fact:?}");
}

/// The `data` of the last outcome of the router's own.
fn own(answers: &[Judged]) -> Value {
    let outgoing = answers.iter().flat_map(|answer| &answer.outgoing);
    let outcomes = outgoing.filter(|outgoing| outgoing.message.routing_key.starts_with("event.outcome."));
    let bodies = outcomes.filter_map(|outgoing| serde_json::from_slice::<Value>(&outgoing.message.body).ok());
    let own = bodies.filter(|body| body["origin"].as_str().is_some_and(|who| who.starts_with("swarmgate:")));
    own.last().map(|body| body["data"].clone()).unwrap_or_default()
}

/// A message in few words: where it goes, and what it says where it is the router's own.
fn said(message: &Message) -> Value {
    let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
    let origin = body["origin"].as_str().unwrap_or_default();
    let word = match (origin.starts_with("swarmgate:"), &body["data"]["status"], &body["data"]["code"]) {
        (true, Value::String(status), _) => format!(" {status}"),
        (true, _, Value::String(code)) => format!(" {code}"),
        _ => String::new(),
    };
    json!(format!("{} {}{word}", message.exchange, message.routing_key))
}
