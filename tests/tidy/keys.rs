//! Routing keys are spelt in one place of each language.
//!
//! Owns: who spells them, and what a literal is that was spelt by hand.
//! Never: looks into tests, documents or lists of bindings.
//! Holds: the check is shown to complain about a bad text below.

use super::{none, room, tree};

/// Who spells routing keys, one of each language.
const KEY_MAKERS: [&str; 3] =
    ["src/contract/routing.rs", "examples/javascript/routing.cjs", "examples/python/swarmgate_worker.py"];
/// What a routing key or a pattern begins with.
const KEY_BEGINNINGS: [&str; 4] = ["signal.", "event.outcome", "event.alert", "event.metric"];

#[test]
fn one_place_of_each_language_spells_routing_keys() {
    let tree = tree();
    let sources =
        tree.iter().filter(|file| !KEY_MAKERS.contains(&file.path.as_str()) && is_source(&file.path));
    none(&sources.flat_map(|file| keys(&file.path, untested(&file.path, &file.text))).collect::<Vec<_>>());
    for maker in KEY_MAKERS {
        assert!(tree.iter().any(|file| file.path == maker), "{maker} is gone");
    }
}

/// A program of ours: no test, no document, no list of bindings.
fn is_source(path: &str) -> bool {
    let program = [".rs", ".py", ".cjs", ".js"].iter().any(|end| path.ends_with(end));
    program && !path.starts_with("tests/") && !path.ends_with("/tests.rs")
}

/// A text that begins as a key does was written by hand: the beginning of every literal is looked
/// at. What a help text shows stands within one.
fn keys(path: &str, text: &str) -> Vec<String> {
    let quotes: &[char] = match path.rsplit_once('.') {
        Some((_, "rs")) => &['"'],
        Some((_, "py")) => &['"', '\''],
        _ => &['"', '\'', '`'],
    };
    let is_spelt = |line: &str| {
        let mut beginnings = KEY_BEGINNINGS.iter().flat_map(|beginning| line.match_indices(beginning));
        let is_literal = |before: &str| before.ends_with(quotes) && !before.ends_with("\\\"");
        !line.trim_start().starts_with("//") && beginnings.any(|(at, _)| is_literal(&line[..at]))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| is_spelt(line));
    let made = "a routing key spelt by hand; make it with the one helper of its language";
    lines.map(|(number, _)| format!("{path}:{}: {made}", number + 1)).collect()
}

/// What of a file is no test, by the same rule.
fn untested<'a>(path: &str, text: &'a str) -> &'a str {
    let at = text.find("#[cfg(test)]").filter(|_| room(path).is_some());
    &text[..at.unwrap_or(text.len())]
}

#[test]
fn checks_of_keys_complain() {
    let complains = |path: &str, text: &str| !keys(path, untested(path, text)).is_empty();
    for (path, text) in [
        ("src/interface/cli/x.rs", "publish(\"signal.stop.a.b.c\")"),
        ("src/interface/cli/x.rs", "format!(\"event.outcome.{kind}.\")"),
        ("examples/python/x.py", "bind(f'event.metric.{kind}.#')"),
        ("examples/python/x.py", "say(channel, \"event.alert\", data)"),
        ("examples/javascript/x.cjs", "publish(`signal.${type}.${here}`)"),
    ] {
        assert!(complains(path, text), "{text}");
    }
    for (path, text) in [
        ("src/interface/cli/x.rs", "    // \"signal.stop.a.b.c\""),
        ("src/interface/cli/x.rs", "let help = \"swarmgate tail 'signal.stop.#'\";"),
        ("src/interface/cli/x.rs", "let rule = \"A key is `signal.<type>`\";"),
        ("src/interface/cli/x.rs", "let text = \"{\\\"routingKey\\\":\\\"signal.stop.a.b.c\\\"}\";"),
        (
            "src/interface/cli/x.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { const KEY: &str = \"signal.stop.a.b.c\"; }",
        ),
        ("examples/python/x.py", "signal.signal(signal.SIGTERM, end)"),
        ("examples/python/x.py", "{ \"kind\": \"signal\" }"),
    ] {
        assert!(!complains(path, text), "{text}");
    }
    assert!(is_source("examples/python/worker.py") && is_source("benches/core.rs"));
    assert!(!is_source("tests/it/router.rs") && !is_source("docker/rabbitmq/definitions.json"));
}
