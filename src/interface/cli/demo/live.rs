//! The demo's last part: a bot that trades with real money, a second person, and a kill switch.
//!
//! Owns: what is asked for live, who confirms it, and what is refused once the switch is thrown.
//! Never: confirms in the name of who asked.
//! Holds: each step needs the one before it; the challenge's id is the router's own.

use serde_json::{Value, json};

use super::{Expect, Step, swarm};
use crate::{
    clock,
    contract::{
        message::Message,
        routing::{ALL, ControlPlaneRouting, Family, Scope},
    },
};

/// Who asks, and who else confirms.
const ASKS: &str = "orc-a";
const CONFIRMS: &str = "ann";

/// What a bot is before it may trade, and the start that waits for a second person.
pub fn asked() -> Vec<Step> {
    let (ready, live) = (json!({ "requestedTransition": "CREATED->IDLE" }), live_start());
    vec![
        step(
            "a bot is made ready; nothing trades yet",
            said(ASKS, "bot-init", &swarm::bot(), "15", &ready),
            Expect::Outcome("Created"),
        ),
        step(
            "a start for live (real money) waits for a second person",
            said(ASKS, "bot-start", &swarm::bot(), "16", &live),
            Expect::Word("ChallengeRequired"),
        ),
    ]
}

/// What follows once the router has said which challenge it is.
pub fn confirmed(challenge: &Message, instance: &str) -> Vec<Step> {
    let body: Value = serde_json::from_slice(&challenge.body).unwrap_or_default();
    let id = body.pointer("/data/context/challengeId").cloned().unwrap_or_default();
    let yes = json!({ "challengeId": id, "reason": "the books agree" });
    let thrown = json!({ "level": "BLOCK", "reason": "the market is halted" });
    let (router, everyone) = (Scope::router(instance), Scope::new(ALL, ALL, ALL));
    let start = said(ASKS, "bot-start", &swarm::bot(), "16", &live_start());
    vec![
        step(
            "who asked for it cannot confirm it",
            said(ASKS, "challenge-confirm", &router, "17", &yes),
            Expect::Refused("consent.self-confirm"),
        ),
        Step {
            // The outcome that is waited for is the start's.
            answers: Some(start),
            ..step(
                "somebody else can, and the bot runs",
                said(CONFIRMS, "challenge-confirm", &router, "18", &yes),
                Expect::Outcome("Running"),
            )
        },
        step(
            "the kill switch is thrown for everything; that takes nobody's leave",
            said(ASKS, "kill-switch-set", &everyone, "19", &thrown),
            Expect::Word("Applied"),
        ),
        step(
            "now nothing starts",
            said(ASKS, "swarm-start", &swarm::controller(), "20", &json!({})),
            Expect::Refused("safety.kill-switch"),
        ),
        step(
            "and a stop passes, as it always does",
            said(
                ASKS,
                "bot-stop",
                &swarm::bot(),
                "21",
                &json!({ "requestedTransition": "RUNNING_LIVE->IDLE" }),
            ),
            Expect::Outcome("Stopped"),
        ),
    ]
}

fn live_start() -> Value {
    json!({ "requestedTransition": "IDLE->RUNNING_LIVE", "mode": "live" })
}

fn step(title: &'static str, message: Message, expect: Expect) -> Step {
    Step { title, message, answers: None, expect }
}

fn said(who: &str, kind_type: &str, scope: &Scope, name: &str, data: &Value) -> Message {
    let mut body = swarm::signal(kind_type, scope, who, name, clock::wall());
    body["data"] = data.clone();
    swarm::said(&ControlPlaneRouting::of(Family::Signal, kind_type, scope), who, body.to_string())
}
