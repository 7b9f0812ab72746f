//! Comments that say why, counted by room.
//!
//! Owns: which share of a room's code is a comment within it, and how low it may be.
//! Never: reads what a comment says.
//! Holds: what documents an item or a file does not count, nor what a tool is told, nor tests.

use std::collections::BTreeMap;

use super::{none, room, tree};

/// Of ten thousand lines of code, at least so many say why, in the rooms where it surprises.
const LEAST: usize = 300;
const ROOMS: [&str; 4] = ["bus", "decision", "ledger", "runtime"];

#[test]
fn a_room_says_why_where_it_surprises() {
    let tree = tree();
    let sources = tree.iter().filter(|file| file.is_rust() && !file.path.ends_with("tests.rs"));
    none(&too_few(sources.filter_map(|file| Some((room(&file.path)?, &*file.text)))));
}

fn too_few<'t>(sources: impl Iterator<Item = (&'t str, &'t str)>) -> Vec<String> {
    let mut rooms: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (room, text) in sources {
        let (reasons, lines) = rooms.entry(room).or_default();
        // A file's tests stand at its end.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        *reasons += code.lines().filter(|line| is_reason(line)).count();
        *lines += code.lines().filter(|line| is_reason(line) || is_code(line)).count();
    }
    let short = ROOMS.iter().filter_map(|room| {
        let (reasons, lines) = rooms.get(room)?;
        let share = reasons * 10_000 / lines.max(&1);
        (share < LEAST).then(|| {
            format!("src/{room}: {share} of 10,000 lines of code say why, fewer than {LEAST}: where would a reader be surprised?")
        })
    });
    short.collect()
}

fn is_code(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("//")
}

fn is_reason(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("// ") && !line.starts_with("// ---")
}

#[test]
fn checks_of_comments_complain() {
    let of = |text: &str| too_few([("bus", text)].into_iter()).len();
    assert_eq!(of("//! What it owns.\n/// What it is.\nfn a() {}\n// --- tests\n"), 1);
    assert_eq!(of("fn a() {\n    // The broker does not say.\n}\n"), 0);
    assert_eq!(of("fn a() {}\n#[cfg(test)]\nmod tests {\n    // A reason.\n}\n"), 1);
    assert_eq!(too_few([("view", "fn a() {}\n")].into_iter()), [""; 0], "no least is set for it");
}
