//! Every kind of challenge in every state that it can be in, through the API and the command line's
//! reading of it.
//!
//! Owns: one challenge of every dangerous kind, all open at once, and each way in which challenges
//! go on or end.
//! Never: confirms by the tool: it has no broker, so whoever reads all that it must meets that, and
//! says so.
//! Holds: what waits is listed, shown, and can be confirmed and rejected; what is over is none of
//! it; no state of one challenge hides another.

use serde_json::{Value, json};
use swarmgate::{
    clock,
    contract::{
        message::{Message, Properties},
        routing::{ControlPlaneRouting, Family, Scope},
    },
};

use super::gate::Gate;

/// What becomes of every challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waits,
    Restarted,
    PartlyConfirmed,
    Confirmed,
    BrokeGlass,
    Rejected,
    Expired,
    /// By a stop or a quarantine of its target, where that ends it.
    Overtaken,
}

const FATES: [Fate; 8] = [
    Fate::Waits,
    Fate::Restarted,
    Fate::PartlyConfirmed,
    Fate::Confirmed,
    Fate::BrokeGlass,
    Fate::Rejected,
    Fate::Expired,
    Fate::Overtaken,
];

/// The dangerous kinds, each with what it says; each has a swarm of its own.
fn kinds() -> Vec<(&'static str, Value)> {
    let until = || clock::wall().plus_ms(600_000);
    vec![
        ("bot-start", json!({ "requestedTransition": "IDLE->RUNNING_LIVE", "mode": "live" })),
        ("bot-resume", json!({ "requestedTransition": "PAUSED->RUNNING_LIVE", "mode": "live" })),
        ("config-update", json!({ "rate": 7 })),
        ("bot-release", json!({ "requestedTransition": "QUARANTINED->IDLE", "reason": "a drill" })),
        ("safety-set", json!({ "mode": "NORMAL", "reason": "a drill" })),
        ("kill-switch-set", json!({ "level": "ALLOW", "reason": "a drill" })),
        ("gate-disable", json!({ "gate": "risk", "reason": "a drill", "expiresAt": until() })),
        ("monitoring-disable", json!({ "reason": "a drill", "expiresAt": until() })),
        ("data-delete", json!({ "reason": "a drill" })),
        ("data-restore", json!({ "reason": "a drill" })),
        ("data-compact", json!({ "reason": "a drill" })),
        ("secret-rotate", json!({ "reason": "a drill" })),
        ("support-bundle", json!({ "reason": "a drill" })),
    ]
}

fn scope(kind_type: &str) -> Scope {
    match kind_type {
        "safety-set" | "kill-switch-set" | "gate-disable" | "monitoring-disable" => {
            Scope::new(format!("s-{kind_type}"), "ALL", "ALL")
        }
        "support-bundle" => Scope::router("gate-1"),
        _ => Scope::new(format!("s-{kind_type}"), "worker", "w-1"),
    }
}

fn said(family: Family, kind_type: &str, scope: &Scope, origin: &str, name: &str, data: &Value) -> Message {
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": family.kind(), "type": kind_type, "origin": origin,
        "scope": scope, "correlationId": format!("c-{name}"), "idempotencyKey": format!("i-{name}"), "data": data,
    });
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: ControlPlaneRouting::of(family, kind_type, scope),
        properties: Properties { user_id: Some(origin.to_owned()), ..Properties::default() },
        body: body.to_string().into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_is_read_in_every_state() {
    for fate in FATES {
        let mut settings = vec![
            ("consent.requires", "quorum"),
            ("consent.live_requires", "quorum"),
            ("consent.groups", "ops=ann+bob"),
            ("consent.quorum", "ops=2"),
            ("consent.break_glass", "orc"),
            ("consent.support_bundle", "dangerous"),
        ];
        // Only where it is to expire is the window shorter than a slow machine may take.
        settings.push(("consent.window_ms", if fate == Fate::Expired { "15000" } else { "300000" }));
        let mut gate = Gate::with(&settings).await;
        // Somebody hears everything: nothing is parked for want of a target.
        let _heard = gate.listen("signal.#").await;
        let mut open = Vec::new();
        for (kind_type, data) in kinds() {
            prepare(&gate, kind_type).await;
            gate.say(said(Family::Signal, kind_type, &scope(kind_type), "orc", kind_type, &data)).await;
            open.push((kind_type, waits(&gate, kind_type).await));
        }
        go_on(&mut gate, fate, &open).await;
        are_read(&gate, fate, &open).await;
        gate.stop().await;
    }
}

/// Brings the target to where the kind is dangerous.
async fn prepare(gate: &Gate, kind_type: &str) {
    let here = scope(kind_type);
    let signal = async |said_type: &str, data: Value| {
        let name = format!("{kind_type}-{said_type}");
        gate.say(said(Family::Signal, said_type, &here, "orc", &name, &data)).await;
        if data["mode"] == "live" {
            let id = waits(gate, &name).await;
            for who in ["ann", "bob"] {
                consent(gate, "challenge-confirm", &here, &id, who, false).await;
            }
        }
        gate.until(&format!("commands/c-{name}"), |command| {
            ["carried", "ended"].iter().any(|state| command["state"] == *state)
        })
        .await;
        name
    };
    let walked = async |said_type: &str, status: &str, data: Value| {
        let name = signal(said_type, data).await;
        gate.say(said(Family::Outcome, said_type, &here, "w-1", &name, &json!({ "status": status }))).await;
        gate.until(&format!("commands/c-{name}"), |command| command["state"] == "ended").await;
    };
    let init =
        async || walked("bot-init", "Created", json!({ "requestedTransition": "CREATED->IDLE" })).await;
    let start = async |to: &str, mode: &str| {
        let data = json!({ "requestedTransition": format!("IDLE->{to}"), "mode": mode });
        walked("bot-start", "Running", data).await;
    };
    match kind_type {
        "bot-start" => init().await,
        "bot-resume" => {
            init().await;
            start("RUNNING_PAPER", "paper").await;
            walked("bot-pause", "Paused", json!({})).await;
        }
        "config-update" => {
            init().await;
            start("RUNNING_LIVE", "live").await;
        }
        "bot-release" => {
            init().await;
            signal("bot-quarantine", json!({ "requestedTransition": "ANY->QUARANTINED" })).await;
        }
        "safety-set" => drop(signal("safety-set", json!({ "mode": "SAFE", "reason": "a drill" })).await),
        "kill-switch-set" => {
            drop(signal("kill-switch-set", json!({ "level": "CLOSE_ONLY", "reason": "a drill" })).await);
        }
        _ => {}
    }
}

async fn consent(gate: &Gate, act: &str, here: &Scope, id: &str, who: &str, breaks_glass: bool) {
    // A consent names one instance, or the router.
    let here = if here.fans_out() { Scope::router("gate-1") } else { here.clone() };
    let mut data = json!({ "challengeId": id, "reason": "a drill" });
    if breaks_glass {
        data["breakGlass"] = json!(true);
    }
    let name = format!("{act}-{id}-{who}");
    gate.say(said(Family::Signal, act, &here, who, &name, &data)).await;
    let counts = |page: &Value| {
        let mut all = page["challenges"].as_array().expect("challenges").iter();
        let open = all.find(|one| one["challengeId"] == *id);
        open.is_none_or(|open| open["confirmedBy"].as_array().is_some_and(|by| by.contains(&json!(who))))
    };
    gate.until("challenges", counts).await;
}

/// The id of the challenge of a command that waits.
async fn waits(gate: &Gate, name: &str) -> String {
    let command = gate.until(&format!("commands/c-{name}"), |command| command["state"] == "challenged").await;
    let of = |page: &Value| {
        let all = page["challenges"].as_array().expect("challenges");
        let mut its =
            all.iter().filter(|one| Some(one["command"].to_string().as_str()) == command["id"].as_str());
        its.next().cloned()
    };
    let page = gate.until("challenges", |page| of(page).is_some()).await;
    of(&page).expect("it waits")["challengeId"].as_str().expect("an id").to_owned()
}

async fn go_on(gate: &mut Gate, fate: Fate, open: &[(&'static str, String)]) {
    match fate {
        Fate::Waits | Fate::Expired => {}
        Fate::Restarted => {
            gate.go_down().await;
            gate.go_up().await;
        }
        Fate::Overtaken => {
            for (kind_type, _) in open {
                let (here, name) = (scope(kind_type), format!("{kind_type}-over"));
                let over = if here.fans_out() { "swarm-stop" } else { "bot-quarantine" };
                if here != Scope::router("gate-1") {
                    gate.say(said(Family::Signal, over, &here, "orc", &name, &json!({}))).await;
                    gate.until(&format!("commands/c-{name}"), |command| command["id"].is_string()).await;
                }
            }
        }
        _ => {
            for (kind_type, id) in open {
                let here = scope(kind_type);
                let acts: &[(&str, &str, bool)] = match fate {
                    Fate::PartlyConfirmed => &[("challenge-confirm", "ann", false)],
                    Fate::Confirmed => {
                        &[("challenge-confirm", "ann", false), ("challenge-confirm", "bob", false)]
                    }
                    Fate::BrokeGlass => &[("challenge-confirm", "orc", true)],
                    _ => &[("challenge-reject", "ann", false)],
                };
                for (act, who, breaks_glass) in acts {
                    consent(gate, act, &here, id, who, *breaks_glass).await;
                }
            }
        }
    }
}

/// Whether a fate leaves a kind's challenge open.
fn is_open(fate: Fate, kind_type: &str) -> bool {
    match fate {
        Fate::Waits | Fate::Restarted | Fate::PartlyConfirmed => true,
        Fate::Confirmed | Fate::BrokeGlass | Fate::Rejected | Fate::Expired => false,
        // A stop or quarantine supersedes starts and releases.
        Fate::Overtaken => !matches!(kind_type, "bot-start" | "bot-resume" | "bot-release"),
    }
}

async fn are_read(gate: &Gate, fate: Fate, open: &[(&'static str, String)]) {
    let still: Vec<&(&str, String)> = open.iter().filter(|(kind_type, _)| is_open(fate, kind_type)).collect();
    let count = still.len();
    gate.until("challenges", |page| page["challenges"].as_array().map(Vec::len) == Some(count)).await;
    let list = gate.page("challenges").await;
    let (code, text, complained) = gate.run(&["challenge", "list"]).await;
    assert_eq!(code, 0, "{fate:?}: {complained}");
    let (code, said, complained) = gate.run(&["challenge", "list", "--output", "json"]).await;
    assert_eq!(code, 0, "{fate:?}: {complained}");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["challenges"], list["challenges"], "{fate:?}");
    for (kind_type, id) in open {
        let name = format!("{kind_type} {fate:?}");
        match is_open(fate, kind_type) {
            true => {
                assert!(text.contains(id), "{name}: {text}");
                is_whole(gate, &name, id, fate == Fate::PartlyConfirmed).await;
            }
            false => is_over(gate, &name, id).await,
        }
    }
    if fate == Fate::BrokeGlass {
        let waiting = |page: &Value| page["toReview"].as_array().map(Vec::len) == Some(open.len());
        gate.until("challenges", waiting).await;
        let (code, text, _) = gate.run(&["challenge", "list"]).await;
        let reviewed = open.iter().all(|(_, id)| text.contains(&format!("swarmgate challenge review {id}")));
        assert!(code == 0 && reviewed, "{text}");
    }
}

/// It has its own page, is shown, and can be answered.
async fn is_whole(gate: &Gate, name: &str, id: &str, is_confirmed: bool) {
    let page = gate.page(&format!("challenges/{id}")).await;
    for field in ["operation", "effect", "target", "environment", "requires", "requestedBy", "expiresAt"] {
        assert!(page[field].as_str().is_some_and(|text| !text.is_empty()), "{name}: no {field}: {page}");
    }
    let by = if is_confirmed { json!(["ann"]) } else { json!([]) };
    assert_eq!(page["confirmedBy"], by, "{name}: {page}");
    let (code, said, complained) = gate.run(&["challenge", "show", id]).await;
    let (operation, effect) = (page["operation"].as_str().unwrap(), page["effect"].as_str().unwrap());
    assert!(code == 0 && said.contains(operation) && said.contains(effect), "{name}: {said}{complained}");
    let target = page["target"].as_str().unwrap();
    let word = target.strip_suffix("/ALL/ALL").unwrap_or(target);
    let amqp = ["--amqp", "amqp://bob@127.0.0.1:1/%2f"];
    let confirm = ["challenge", "confirm", id, "--reason", "a drill", "--yes", "--live", word];
    for act in [&confirm[..], &["challenge", "reject", id, "--reason", "a drill"]] {
        let (code, said, complained) = gate.run(&[act, &amqp].concat()).await;
        let went_on = code == 4 && complained.contains("127.0.0.1:1") && !complained.contains("no router");
        assert!(went_on, "{name}: {act:?} ended with {code}: {said}{complained}");
    }
}

/// It has no page, and whoever answers it is told so, and not that there is no router.
async fn is_over(gate: &Gate, name: &str, id: &str) {
    assert_eq!(gate.get(&format!("challenges/{id}")).await.0, 404, "{name}");
    for act in [
        &["challenge", "show", id][..],
        &["challenge", "confirm", id, "--reason", "a drill", "--yes"],
        &["challenge", "reject", id, "--reason", "a drill"],
    ] {
        let (code, _, complained) = gate.run(act).await;
        assert!(code == 2 && complained.contains("is not known"), "{name}: {act:?} {code} {complained}");
    }
}
