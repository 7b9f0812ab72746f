//! Comments that say why, counted by room.
//!
//! Owns: which share of a room's lines is a comment within the code, and how low it may be.
//! Never: reads what a comment says.
//! Holds: what documents an item or a file does not count, nor what a tool is told.

use std::collections::BTreeMap;

use super::{none, room, tree};

/// Comments in ten thousand lines, at least. Code that grows brings its reasons with it: a number
/// here is raised where a room has more, and never lowered.
const LEAST: [(&str, usize); 4] = [("bus", 125), ("decision", 110), ("ledger", 165), ("runtime", 155)];

#[test]
fn a_room_says_why_where_it_surprises() {
    let tree = tree();
    let sources = tree.iter().filter(|file| file.is_rust());
    none(&too_few(sources.filter_map(|file| Some((room(&file.path)?, &*file.text)))));
}

fn too_few<'t>(sources: impl Iterator<Item = (&'t str, &'t str)>) -> Vec<String> {
    let mut rooms: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (room, text) in sources {
        let (reasons, lines) = rooms.entry(room).or_default();
        *reasons += text.lines().filter(|line| is_reason(line)).count();
        *lines += text.lines().count();
    }
    let share = |room: &str| rooms.get(room).map(|(reasons, lines)| reasons * 10_000 / lines);
    let short = LEAST.iter().filter_map(|(room, least)| {
        let share = share(room)?;
        (share < *least)
            .then(|| format!("src/{room}: {share} comments in 10,000 lines say why, fewer than {least}"))
    });
    short.collect()
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
    assert_eq!(too_few([("view", "fn a() {}\n")].into_iter()), [""; 0], "no least is set for it");
}
