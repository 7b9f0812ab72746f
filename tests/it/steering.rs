//! What a sender wrote, at the terminal of whoever looks at it.
//!
//! Owns: that no command prints what steers a terminal, or a line that a sender made up.
//! Never: asks how a command cleans; only what comes out counts.
//! Holds: each command that shows what others wrote is walked, as text and as JSON.

use serde_json::json;

use crate::api::gate::{Gate, envelope, swarmgate};

/// A name that clears the screen, turns the text around, and makes a line.
const EVIL: &str = "evil\u{1b}[2J\u{9b}31m\u{202e}\r\nFORGED line";

fn steers(text: &str) -> Option<char> {
    text.chars().find(|letter| {
        (letter.is_control() && !matches!(letter, '\n' | '\t'))
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_prints_what_steers_a_terminal() {
    let gate = Gate::start().await;
    gate.status("w-1", true).await;
    gate.until("inventory", |page| page["swarms"][0]["seen"] == 1).await;
    // As sender, in what was said, as correlationId and key, and as an answer.
    gate.say(envelope("signal", "swarm-stop", EVIL, "w-1", Some("by-evil"), &json!({}))).await;
    gate.say(envelope("signal", "swarm-stop", "orc", "w-1", Some(EVIL), &json!({ "reason": EVIL }))).await;
    gate.say(envelope("signal", "config-update", EVIL, "w-2", Some("waits"), &json!({}))).await;
    gate.say(envelope("signal", "swarm-plan", EVIL, "w-1", Some("broken"), &json!({ EVIL: EVIL }))).await;
    gate.say(envelope("outcome", "swarm-stop", "w-1", "w-1", Some(EVIL), &json!({ "status": EVIL }))).await;
    gate.command("config-update", "w-1", "last").await;
    gate.until("commands/c-last", |command| command["state"] == "carried").await;
    let ledger = gate.ledger().display().to_string();
    let walks: &[&[&str]] = &[
        &["audit", "show", &ledger],
        &["audit", "tail", &ledger, "--count", "50"],
        &["audit", "verify", &ledger],
        &["commands"],
        &["commands", "--parked"],
        &["commands", "c-by-evil"],
        &["inventory"],
        &["inventory", "kestrel"],
        &["inventory", "graph"],
        &["safety"],
        &["challenge", "list"],
        &["top", "--once"],
        &["wait", "c-by-evil", "--timeout", "1"],
        &["commands", EVIL],
        &["explain", EVIL],
        &["check", "config", EVIL],
    ];
    let mut shown = 0;
    for walk in walks {
        for json in [false, true] {
            let mut args = walk.to_vec();
            if json {
                args.extend(["--output", "json"]);
            }
            let asks = !matches!(walk[0], "audit" | "explain" | "check");
            let (stdout, stderr) = if asks {
                let (_, stdout, stderr) = gate.run(&args).await;
                (stdout, stderr)
            } else {
                let output = swarmgate(&args).output().expect("a run");
                (
                    String::from_utf8_lossy(&output.stdout).into_owned(),
                    String::from_utf8_lossy(&output.stderr).into_owned(),
                )
            };
            for text in [&stdout, &stderr] {
                assert_eq!(steers(text), None, "{args:?}: {text:?}");
                let forged = text.lines().any(|line| line.trim_start().starts_with("FORGED"));
                assert!(!forged, "{args:?}: {text}");
            }
            shown += usize::from(stdout.contains("FORGED"));
        }
    }
    assert!(shown >= 4, "what was sent is shown nowhere: the walk proves nothing");
    gate.stop().await;
}
