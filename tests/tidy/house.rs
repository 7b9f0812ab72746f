//! The picture of the house is what its text says, and its text has every room.
//!
//! Owns: drawing it anew, and comparing its rooms with those of the tree.
//! Never: looks at what the picture looks like.
//! Holds: a picture that differs, and a room that is missing or has another rank, are complaints.

use std::{collections::BTreeSet, path::Path, process::Command};

use super::{none, rank, room, tree};

const TEXT: &str = "docs/house.txt";
const PICTURE: &str = "docs/house.svg";
const SCRIPT: &str = "scripts/draw-house";

#[test]
fn the_picture_of_the_house_is_what_its_text_says() {
    let tree = tree();
    let text_of = |path: &str| tree.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let rooms: BTreeSet<&str> = tree.iter().filter_map(|file| room(&file.path)).collect();
    let mut complaints = misplaced(text_of(TEXT), &rooms);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let drawn = Command::new("sh").arg(SCRIPT).current_dir(root).output().expect("a shell");
    if !drawn.status.success() || drawn.stdout != text_of(PICTURE).as_bytes() {
        let said = String::from_utf8_lossy(&drawn.stderr);
        complaints
            .push(format!("{PICTURE} is not what {TEXT} says; draw it anew: {SCRIPT} > {PICTURE}\n{said}"));
    }
    none(&complaints);
}

/// Rooms of the text that are not in the tree or have another rank there, and rooms of the tree
/// that the text lacks.
fn misplaced(text: &str, rooms: &BTreeSet<&str>) -> Vec<String> {
    let shown: Vec<(&str, &str)> = text.lines().filter_map(placed).collect();
    let mut complaints = Vec::new();
    for (at, name) in &shown {
        let is_there = rooms.contains(name) && rank(name).is_some_and(|rank| rank.to_string() == *at);
        if !is_there {
            complaints.push(format!("{TEXT}: there is no room `{name}` of rank {at}"));
        }
    }
    for room in rooms {
        if !shown.iter().any(|(_, name)| name == room) {
            complaints.push(format!("{TEXT}: the room `{room}` is missing"));
        }
    }
    complaints
}

/// Rank and name in the line of a room.
fn placed(line: &str) -> Option<(&str, &str)> {
    let mut parts = line.strip_prefix("room | ")?.split(" | ");
    Some((parts.next()?, parts.next()?))
}

#[test]
fn checks_of_the_house_complain() {
    let rooms = BTreeSet::from(["bus", "contract"]);
    let complaints = |text: &str| misplaced(text, &rooms).len();
    let whole = "title | A\nroom | 4 | bus | b\nroom | 0 | contract | c\n";
    assert_eq!(complaints(whole), 0);
    assert_eq!(complaints(&whole.replace("4", "3")), 1, "another rank");
    assert_eq!(complaints("room | 4 | bus | b\n"), 1, "a room is missing");
    assert_eq!(complaints(&format!("{whole}room | 1 | decision | d\n")), 1, "no such room");
}
