//! A router that is started with looser settings than before says so, and in `stage` starts nothing
//! until that is confirmed.

use std::sync::Arc;

use serde_json::json;
use swarmgate::{
    bus::Bus,
    clock,
    contract::{
        audit::Change,
        message::{Message, Properties},
    },
    ledger::query::{Filter, Reader},
};
use tempfile::TempDir;

use super::{Inbox, Process, body, message, send};
use crate::broker::Broker;

/// A change of a worker, or of safety, by the broker's user.
fn said(kind_type: &str, scope: [&str; 3], name: &str, data: &serde_json::Value) -> Message {
    let [swarm, role, instance] = scope;
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": "guest",
        "scope": { "swarmId": swarm, "role": role, "instance": instance },
        "correlationId": format!("c-{name}"), "idempotencyKey": format!("i-{name}"), "data": data,
    });
    let message = message(&format!("signal.{kind_type}.{swarm}.{role}.{instance}"), &body);
    let properties = Properties { user_id: Some("guest".to_owned()), ..message.properties };
    Message { properties, ..message }
}

fn update(name: &str) -> Message {
    said("config-update", ["kestrel", "worker", "w-1"], name, &json!({ "size": 1 }))
}

/// The `data` of the router's outcome of a signal.
async fn answer(bus: &dyn Bus, out: &mut Inbox, name: &str, status: &str) -> serde_json::Value {
    let of = |heard: &Message| {
        let body = body(heard);
        let is = body["correlationId"] == format!("c-{name}") && body["data"]["status"] == status;
        is.then(|| body["data"].clone())
    };
    out.hear(bus, |heard| heard.iter().any(|heard| of(heard).is_some())).await;
    out.heard.iter().find_map(of).unwrap_or_else(|| panic!("no {status} of {name}"))
}

/// The settings that each opening found looser or stricter, and whether that made everything SAFE.
async fn compared(dir: &std::path::Path) -> Vec<(String, Vec<String>, bool)> {
    let reader = Reader::open(dir).await.expect("a reader");
    let entries = reader.select(&Filter::default(), usize::MAX).await.expect("entries");
    let compared = entries.iter().filter_map(|entry| match &entry.entry.fact.change {
        Change::Settings(compared) => {
            let names = compared.differences.iter().map(|one| one.setting.clone()).collect();
            Some((entry.entry.fact.action.word().to_owned(), names, compared.safe))
        }
        _ => None,
    });
    compared.collect()
}

const STAGE: [&str; 2] = ["--set", "environment=stage"];
const GATE: [&str; 2] = ["--set", "safety.gates_required=risk"];

#[tokio::test]
async fn looser_settings_are_an_entry_and_safe_until_confirmed() {
    let vhost = Arc::new(Broker::shared()).vhost("router-settings");
    let url = vhost.options().url;
    let bus = vhost.connect().await;
    let dir = TempDir::new().expect("a directory");
    let strict = Process::configured(&url, dir, &[STAGE, GATE].concat());
    strict.ready(bus.as_ref()).await;
    let mut out = Inbox::open(bus.as_ref(), "out", "swarmgate.out").await;
    send(bus.as_ref(), &[update("1")]).await;
    let refused = answer(bus.as_ref(), &mut out, "1", "Refused").await;
    assert_eq!(refused["code"], "safety.gate-unknown");
    let dir = strict.stop().await;
    assert!(compared(dir.path()).await.is_empty(), "the first opening claims nothing");

    // The same ledger with the gate dropped.
    let loose = Process::configured(&url, dir, &STAGE);
    loose.ready(bus.as_ref()).await;
    send(bus.as_ref(), &[update("2"), super::signal("bot-stop", "w-1", "3")]).await;
    let refused = answer(bus.as_ref(), &mut out, "2", "Refused").await;
    assert_eq!(refused["code"], "safety.mode");
    let is_alert = |heard: &Message| body(heard)["data"]["code"] == "settings.loosened";
    let is_stop = |heard: &Message| heard.routing_key == "signal.bot-stop.kestrel.worker.w-1";
    out.hear(bus.as_ref(), |heard| heard.iter().any(is_alert) && heard.iter().any(is_stop)).await;
    assert!(out.heard.iter().any(is_alert) && out.heard.iter().any(is_stop));
    let loosened = ("settings.loosened".to_owned(), vec!["safety.gates_required".to_owned()], true);
    assert_eq!(compared(loose.ledger()).await, std::slice::from_ref(&loosened));

    // It holds over a restart, is told once, and a confirmed NORMAL ends it.
    let loose = Process::configured(&url, loose.stop().await, &STAGE);
    loose.ready(bus.as_ref()).await;
    let everything = ["ALL", "ALL", "ALL"];
    let normal = said("safety-set", everything, "4", &json!({ "mode": "NORMAL", "reason": "looked" }));
    send(bus.as_ref(), &[update("5"), normal]).await;
    assert_eq!(answer(bus.as_ref(), &mut out, "5", "Refused").await["code"], "safety.mode");
    let challenge = answer(bus.as_ref(), &mut out, "4", "ChallengeRequired").await;
    let yes = json!({ "challengeId": challenge["context"]["challengeId"], "reason": "looked" });
    send(bus.as_ref(), &[said("challenge-confirm", ["swarmgate", "router", "gate-1"], "6", &yes)]).await;
    answer(bus.as_ref(), &mut out, "4", "Applied").await;
    send(bus.as_ref(), &[update("7")]).await;
    let is_carried = |heard: &Message| body(heard)["idempotencyKey"] == "i-7";
    out.hear(bus.as_ref(), |heard| heard.iter().any(is_carried)).await;
    assert!(out.heard.iter().any(is_carried));
    assert_eq!(compared(loose.ledger()).await, std::slice::from_ref(&loosened));

    // Stricter again: an entry and no SAFE.
    let strict = Process::configured(&url, loose.stop().await, &[STAGE, GATE].concat());
    strict.ready(bus.as_ref()).await;
    send(bus.as_ref(), &[update("8")]).await;
    assert_eq!(answer(bus.as_ref(), &mut out, "8", "Refused").await["code"], "safety.gate-unknown");
    let tightened = ("settings.tightened".to_owned(), vec!["safety.gates_required".to_owned()], false);
    assert_eq!(compared(strict.ledger()).await, [loosened, tightened]);
}
