//! Every state that a challenge can be in, through the API and the command line.
//!
//! Owns: what befalls a challenged command's target while it waits, and every way in which a
//! challenge ends.
//! Never: asks the state itself; what is compared is what people and programs read.
//! Holds: an open challenge is listed and shown with its operation and effect, whatever became of
//! its target; one that is over is neither, and no state makes a list or a page fail.

use serde_json::{Value, json};

use super::gate::{Gate, envelope};

/// What befalls the target, or the challenge, while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Nothing,
    Paused,
    Stopping,
    Stopped,
    Fatal,
    Restarted,
    Rejected,
    Confirmed,
    /// By a stop, where what waits is a start.
    Overtaken,
}

const FATES: [Fate; 9] = [
    Fate::Nothing,
    Fate::Paused,
    Fate::Stopping,
    Fate::Stopped,
    Fate::Fatal,
    Fate::Restarted,
    Fate::Rejected,
    Fate::Confirmed,
    Fate::Overtaken,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_is_shown_in_every_state() {
    for fate in FATES {
        let mut gate = Gate::start().await;
        for kind_type in ["config-update", "data-delete"] {
            let open = challenged(&mut gate, kind_type, fate).await;
            is_shown(&gate, &open, fate, kind_type).await;
        }
        gate.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_and_a_live_start_are_shown_while_they_wait() {
    let gate = Gate::start().await;
    let quarantine = json!({ "requestedTransition": "ANY->QUARANTINED" });
    signal(&gate, "bot-quarantine", "w-2", "q", &quarantine).await;
    gate.until("commands/c-q", |command| command["state"] != "accepted").await;
    signal(&gate, "bot-release", "w-2", "r", &json!({ "requestedTransition": "QUARANTINED->IDLE" })).await;
    let id = waits(&gate, "r").await;
    is_listed(&gate, &id, "release").await;
    // The quarantine of the swarm ends it: an overtaken release is no open challenge.
    signal(&gate, "bot-quarantine", "w-2", "again", &quarantine).await;
    gate.until("challenges", |page| page["challenges"] == json!([])).await;
    is_gone(&gate, &id, "overtaken").await;
    gate.stop().await;
}

/// A live bot and a dangerous command for it that waits; answers the challenge's id, where it is
/// open still.
async fn challenged(gate: &mut Gate, kind_type: &str, fate: Fate) -> Option<String> {
    let name = |word: &str| format!("{kind_type}-{word}");
    let bot = if kind_type == "data-delete" { "w-1" } else { "w-2" };
    live(gate, bot, kind_type).await;
    signal(gate, kind_type, bot, &name("x"), &json!({ "reason": "a drill" })).await;
    let id = waits(gate, &name("x")).await;
    befall(gate, fate, bot, &name("y"), &id).await;
    let is_over = matches!(fate, Fate::Rejected | Fate::Confirmed);
    (!is_over).then_some(id)
}

/// Walks a bot to live.
pub(super) async fn live(gate: &Gate, bot: &str, name: &str) {
    let done = async |kind_type: &str, status: &str, data: Value| {
        let name = format!("{name}-{kind_type}");
        signal(gate, kind_type, bot, &name, &data).await;
        if data["mode"] == "live" {
            let id = waits(gate, &name).await;
            consent(gate, "confirm", &id, &format!("{name}-yes")).await;
        }
        gate.until(&format!("commands/c-{name}"), |command| command["state"] == "carried").await;
        gate.outcome(kind_type, bot, &name, status).await;
        gate.until(&format!("commands/c-{name}"), |command| command["state"] == "ended").await;
    };
    done("bot-init", "Created", json!({ "requestedTransition": "CREATED->IDLE" })).await;
    done("bot-start", "Running", json!({ "requestedTransition": "IDLE->RUNNING_LIVE", "mode": "live" }))
        .await;
}

async fn befall(gate: &mut Gate, fate: Fate, bot: &str, name: &str, id: &str) {
    let (kind_type, status) = match fate {
        Fate::Nothing => return,
        Fate::Paused => ("bot-pause", Some("Paused")),
        Fate::Stopping | Fate::Overtaken => ("bot-stop", None),
        Fate::Stopped => ("bot-stop", Some("Stopped")),
        Fate::Fatal => {
            let data = json!({
                "level": "error", "code": "bot.broken", "message": "it cannot go on", "context": { "fatal": true },
            });
            return gate.say(envelope("alert", "alert", bot, bot, None, &data)).await;
        }
        Fate::Restarted => {
            gate.go_down().await;
            return gate.go_up().await;
        }
        Fate::Rejected => return consent(gate, "reject", id, name).await,
        Fate::Confirmed => return consent(gate, "confirm", id, name).await,
    };
    signal(gate, kind_type, bot, name, &json!({})).await;
    gate.until(&format!("commands/c-{name}"), |command| command["state"] == "carried").await;
    if let Some(status) = status {
        gate.outcome(kind_type, bot, name, status).await;
        gate.until(&format!("commands/c-{name}"), |command| command["state"] == "ended").await;
    }
}

async fn is_shown(gate: &Gate, open: &Option<String>, fate: Fate, kind_type: &str) {
    match open {
        Some(id) => is_listed(gate, id, &format!("{kind_type} {fate:?}")).await,
        None => {
            gate.until("challenges", |page| page["challenges"] == json!([])).await;
            let (code, said, complained) = gate.run(&["challenge", "list"]).await;
            assert_eq!((code, said.trim()), (0, "nothing waits for a confirmation"), "{complained}");
        }
    }
}

/// In both forms, by list and by page.
async fn is_listed(gate: &Gate, id: &str, name: &str) {
    for args in [&["challenge", "list"][..], &["challenge", "list", "--output", "json"]] {
        let (code, said, complained) = gate.run(args).await;
        assert!(code == 0 && said.contains(id), "{name}: {args:?} ended with {code}: {said}{complained}");
    }
    let page = gate.page(&format!("challenges/{id}")).await;
    for field in ["operation", "effect", "target", "requires", "requestedBy"] {
        let text = page[field].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{name}: no {field}: {page}");
    }
    let (code, said, complained) = gate.run(&["challenge", "show", id]).await;
    let operation = page["operation"].as_str().unwrap_or_default();
    assert!(code == 0 && said.contains(operation), "{name}: show ended with {code}: {said}{complained}");
}

async fn is_gone(gate: &Gate, id: &str, name: &str) {
    assert_eq!(gate.get(&format!("challenges/{id}")).await.0, 404, "{name}");
    let (code, _, complained) = gate.run(&["challenge", "show", id]).await;
    assert!(code != 0 && code != 4 || !complained.contains("no router"), "{name}: {code} {complained}");
}

/// The id of the challenge of a command that waits.
pub(super) async fn waits(gate: &Gate, name: &str) -> String {
    let command = gate.until(&format!("commands/c-{name}"), |command| command["id"].is_string()).await;
    let is_its =
        |challenge: &Value| Some(challenge["command"].to_string().as_str()) == command["id"].as_str();
    let found = |page: &Value| {
        page["challenges"].as_array().and_then(|all| all.iter().find(|one| is_its(one)).cloned())
    };
    let page = gate.until("challenges", |page| found(page).is_some()).await;
    found(&page).expect("it waits")["challengeId"].as_str().expect("an id").to_owned()
}

pub(super) async fn signal(gate: &Gate, kind_type: &str, bot: &str, name: &str, data: &Value) {
    gate.say(envelope("signal", kind_type, "orc", bot, Some(name), data)).await;
}

async fn consent(gate: &Gate, act: &str, id: &str, name: &str) {
    let bot = gate.page(&format!("challenges/{id}")).await["target"].as_str().expect("a target").to_owned();
    let bot = bot.rsplit('/').next().unwrap_or_default().to_owned();
    let data = json!({ "challengeId": id, "reason": "a drill" });
    signal(gate, &format!("challenge-{act}"), &bot, name, &data).await;
    let is_over = |page: &Value| {
        page["challenges"].as_array().is_some_and(|all| all.iter().all(|one| one["challengeId"] != id))
    };
    gate.until("challenges", is_over).await;
}
