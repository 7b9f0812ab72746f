//! The third lock: what neither the compiler nor clippy sees, checked on the text of the tree.
//!
//! Owns: ranks between rooms, headers, sizes, names, pages of reason codes, links, and words that
//! have no place here.
//! Never: needs anything but the standard library, or judges what the compiler judges better.
//! Holds: each check is a function from text to complaints, and is shown to complain about a bad
//! text below.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/comments.rs"]
mod comments;
#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/keys.rs"]
mod keys;
#[path = "tidy/lexicon.rs"]
mod lexicon;
#[path = "tidy/requirements.rs"]
mod requirements;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/type_names.rs"]
mod type_names;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use text::{body, code, members, words};

/// Rooms and their ranks; a room names only rooms of lower rank.
const RANKS: [(&str, u8); 15] = [
    ("contract", 0),
    ("decision", 1),
    ("view", 2),
    ("clock", 3),
    ("telemetry", 3),
    ("ledger", 4),
    ("keys", 4),
    ("bus", 4),
    ("channel", 4),
    ("config", 5),
    ("support", 6),
    ("runtime", 7),
    ("supervisor", 8),
    ("worker", 8),
    ("interface", 9),
];
/// The rank of the drivers, which name only `contract` and `telemetry`.
const DRIVER_RANK: u8 = 4;
/// Rooms without task, clock, randomness, file, socket and log.
const PURE: [&str; 3] = ["contract", "decision", "view"];
/// The rooms that open sockets.
const SOCKET_ROOMS: [&str; 3] = ["bus", "channel", "interface"];
const SOCKETS: [&str; 5] = ["TcpListener", "TcpStream", "UdpSocket", "UnixListener", "UnixStream"];
/// What the pure rooms do not take from the standard library.
const IMPURE_STD: [&str; 7] = ["env", "fs", "io", "net", "process", "thread", "time"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["common", "helper", "helpers", "manager", "misc", "shared", "util", "utils"];
const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
/// Characters of a line of prose; of code rustfmt takes care.
const PROSE_COLUMNS_MAX: usize = 100;
/// Words of unfinished work, in two parts so that this file does not complain about itself.
const UNFINISHED: [&str; 5] = [
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("X", "XX"),
];
/// Places of somebody's machine.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
/// The sign of a section.
const SECTION: char = '\u{a7}';
/// Documents that whoever has the repository does not have.
const OUTSIDE: [&str; 4] = [
    concat!("rul", "ings"),
    concat!("rul", "ing"),
    concat!("the ", "seed is"),
    concat!("the ", "seed leaves"),
];
/// What each page of a reason code has.
const PAGE_SECTIONS: [&str; 5] =
    ["## What it means", "## The rule", "## Example", "## What to do", "## What the operator sees"];

#[test]
fn the_sources_keep_the_house_rules() {
    let mut complaints = Vec::new();
    for Text { path, text } in tree().iter().filter(|file| file.is_rust()) {
        complaints.extend(header(path, text));
        complaints.extend(size(path, text));
        complaints.extend(prose(path, text));
        complaints.extend(functions(path, text));
        complaints.extend(names(path, text));
        complaints.extend(ranks(path, text));
        complaints.extend(purity(path, text));
        complaints.extend(sockets(path, text));
        complaints.extend(appliers(path, text));
        complaints.extend(short_strings(path, text));
        complaints.extend(test_attributes(path, text));
    }
    none(&complaints);
}

#[test]
fn no_text_is_unfinished_or_names_a_machine() {
    let mut complaints = Vec::new();
    for Text { path, text } in &tree() {
        complaints.extend(unfinished(path, text));
        complaints.extend(machine_paths(path, text));
        complaints.extend(outside(path, text));
    }
    none(&complaints);
}

#[test]
fn every_reason_code_has_a_page_a_row_and_a_test() {
    let tree = tree();
    let text_of = |path: &str| tree.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let pages = tree
        .iter()
        .filter_map(|file| {
            let code = file.path.strip_prefix("docs/reasons/")?.strip_suffix(".md")?;
            (code != "README").then_some((code, file.text.as_str()))
        })
        .collect();
    let tests: String = tree.iter().map(|file| tested(&file.path, &file.text)).collect();
    let codes = reason_codes(text_of("src/contract/reason.rs"));
    assert!(codes.len() > 10, "the list of codes could not be read: {codes:?}");
    none(&reasons(&codes, &pages, text_of("spec/gates.md"), &tests));
}

#[test]
fn the_documents_stand_for_themselves() {
    let tree = tree();
    let paths: BTreeSet<&str> = tree.iter().map(|file| file.path.as_str()).collect();
    let mut complaints = decisions(&paths);
    for Text { path, text } in tree.iter().filter(|file| file.path.ends_with(".md")) {
        complaints.extend(citations(path, text));
        complaints.extend(links(path, text, &paths));
    }
    none(&complaints);
}

#[test]
fn every_metric_that_is_named_exists() {
    let tree = tree();
    let of_metrics = |path: &str| path.starts_with("src/telemetry/metrics");
    let made: String = tree.iter().filter(|file| of_metrics(&file.path)).map(|file| &*file.text).collect();
    let named = tree.iter().filter(|file| file.path.ends_with(".md") || file.path.starts_with("docker/"));
    none(&named.flat_map(|file| metrics(&file.path, &file.text, &made)).collect::<Vec<_>>());
}

// --- the tree

/// One text file, by its path from the root.
struct Text {
    path: String,
    text: String,
}

impl Text {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Every text file of the project; what builds and tools leave behind is no part of it.
fn tree() -> Vec<Text> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for file in fs::read_dir(&dir).expect("a directory of the tree").flatten() {
            let path = file.path();
            let name = file.file_name().to_string_lossy().into_owned();
            let left_behind =
                matches!(name.as_str(), "target" | "node_modules" | "swarmgate-data" | ".cache");
            if path.is_dir() {
                if !left_behind && (!name.starts_with('.') || name == ".ci") && name != "__pycache__" {
                    waiting.push(path);
                }
            } else if name != "Cargo.lock"
                && name != ".git"
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(root).expect("a path under the root");
                found.push(Text { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(found.iter().any(|file| file.path == "src/lib.rs"), "the tree could not be read");
    found
}

#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The room of a source file; `None` outside src and for the two files that belong to none.
fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(first, "lib" | "main")).then_some(first)
}

fn rank(room: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank)
}

// --- checks of a source file

/// A file opens with what it owns, never does and always holds.
fn header(path: &str, text: &str) -> Vec<String> {
    if !text.starts_with("//! ") {
        return vec![format!("{path}: does not open with `//!`, saying what it owns, never does and holds")];
    }
    let opening: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
    let tests = path.ends_with("/tests.rs");
    if room(path).is_none() || tests {
        return Vec::new();
    }
    ["Owns:", "Never:", "Holds:"]
        .iter()
        .filter(|word| !opening.contains(**word))
        .map(|word| format!("{path}: its header lacks `{word}`"))
        .collect()
}

fn size(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > FILE_LINES_MAX).then(|| format!("{path}: {lines} lines, more than {FILE_LINES_MAX}; split it"))
}

/// Comments that are too wide; what is shown as it is typed (four spaces in) may be wide.
fn prose(path: &str, text: &str) -> Vec<String> {
    let is_wide = |line: &str| {
        let said = line.trim_start();
        let words = said.trim_start_matches(['/', '!']);
        said.starts_with("//") && !words.starts_with("    ") && line.chars().count() > PROSE_COLUMNS_MAX
    };
    let wide = text.lines().enumerate().filter(|(_, line)| is_wide(line));
    wide.map(|(index, _)| format!("{path}:{}: a comment of more than {PROSE_COLUMNS_MAX} columns", index + 1))
        .collect()
}

/// Functions from `fn` to their closing brace.
fn functions(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut complaints = Vec::new();
    for start in words(&code, "fn") {
        let Some((open, close)) = body(&code, start) else { continue };
        let lines = code[start..close].matches('\n').count() + 1;
        if lines > FUNCTION_LINES_MAX {
            let name: String =
                code[start + 3..open].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            complaints.push(format!("{path}: `{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}"));
        }
    }
    complaints
}

fn names(path: &str, text: &str) -> Vec<String> {
    let in_path = path.split('/').map(|part| part.trim_end_matches(".rs").to_owned());
    let code = code(text);
    let inline = words(&code, "mod").into_iter().map(|at| {
        code[at + 4..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    });
    in_path
        .chain(inline)
        .filter(|name| EMPTY_NAMES.contains(&name.as_str()))
        .map(|name| format!("{path}: `{name}` says nothing about what is inside"))
        .collect()
}

/// A room names only rooms of lower rank, and reaches them by `crate::`.
fn ranks(path: &str, text: &str) -> Vec<String> {
    let Some(own) = room(path) else { return Vec::new() };
    let Some(own_rank) = rank(own) else { return vec![format!("{path}: the room `{own}` has no rank")] };
    let code = code(text);
    let mut complaints = Vec::new();
    for named in members(&code, "crate") {
        let Some(rank) = rank(&named).filter(|_| named != own) else { continue };
        if rank >= own_rank {
            complaints.push(format!("{path}: `{own}` (rank {own_rank}) names `{named}` (rank {rank})"));
        } else if own_rank == DRIVER_RANK && !matches!(named.as_str(), "contract" | "telemetry") {
            complaints
                .push(format!("{path}: `{own}` names `{named}`; drivers name only contract and telemetry"));
        }
    }
    let depth = path.trim_start_matches("src/").trim_end_matches("/mod.rs").split('/').count();
    for (at, _) in code.match_indices("super::super") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let steps = code[at..].split("::").take_while(|step| *step == "super").count();
        let nested = code[..at].matches('{').count() - code[..at].matches('}').count();
        // A test module or function is one step deeper than its file.
        if steps >= depth + usize::from(nested > 0) {
            complaints.push(format!("{path}: `super` reaches out of the room; say `crate::`"));
        }
    }
    complaints
}

fn purity(path: &str, text: &str) -> Vec<String> {
    if !room(path).is_some_and(|room| PURE.contains(&room)) {
        return Vec::new();
    }
    let code = code(text);
    let taken = members(&code, "std").into_iter().filter(|name| IMPURE_STD.contains(&name.as_str()));
    let spoken = ["println!", "eprintln!", "print!", "dbg!"].into_iter().filter(|word| code.contains(word));
    taken
        .map(|name| format!("std::{name}"))
        .chain(spoken.map(str::to_owned))
        .map(|what| format!("{path}: `{what}` in a pure room"))
        .collect()
}

/// There is one way to the broker and one to a worker, so nothing else opens a socket of its own.
fn sockets(path: &str, text: &str) -> Vec<String> {
    if room(path).is_none_or(|room| SOCKET_ROOMS.contains(&room)) {
        return Vec::new();
    }
    let code = code(text);
    let opened = SOCKETS.iter().filter(|name| !words(&code, name).is_empty());
    opened.map(|name| format!("{path}: `{name}` outside {}", SOCKET_ROOMS.join(", "))).collect()
}

/// Recorded state changes in one place. Rooms that rank below the state cannot name it, so theirs
/// is another `apply`.
fn appliers(path: &str, text: &str) -> Option<String> {
    let own = room(path)?;
    let may = own == "runtime" || rank(own).is_some_and(|rank| rank <= 1);
    (!may && code(text).contains(".apply("))
        .then(|| format!("{path}: `.apply(` outside runtime; put an envelope on the bus instead"))
}

/// A name longer than AMQP allows is a value to refuse; the conversion that cannot fail panics on
/// it.
fn short_strings(path: &str, text: &str) -> Option<String> {
    let code = code(text);
    let converts = ["ShortString::from(", "ShortString::from)"].iter().any(|call| code.contains(call));
    (room(path).is_some() && converts)
        .then(|| format!("{path}: `ShortString::from` panics over 255 bytes; use `try_new`"))
}

fn test_attributes(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut complaints = Vec::new();
    if code.contains(concat!("#[should", "_panic")) {
        complaints.push(format!("{path}: a test that expects a panic; return the fault and compare it"));
    }
    if code.contains(concat!("#[ig", "nore]")) {
        complaints.push(format!("{path}: an ignored test that does not say why"));
    }
    complaints
}

// --- checks of any text

fn unfinished(path: &str, text: &str) -> Vec<String> {
    UNFINISHED
        .iter()
        .filter(|word| words(text, word).into_iter().next().is_some())
        .map(|word| format!("{path}: `{word}`: finish it or leave it out"))
        .chain(half_merged(path, text))
        .collect()
}

/// The marks that a merge leaves where two changes met.
fn half_merged(path: &str, text: &str) -> Option<String> {
    let is_mark = |line: &str| ["<<<<<<< ", ">>>>>>> "].iter().any(|mark| line.starts_with(mark));
    let at = text.lines().position(is_mark)?;
    Some(format!("{path}:{}: a merge is not finished", at + 1))
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let starts =
        |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-'));
    MACHINE_PATHS
        .iter()
        .filter(|place| text.match_indices(**place).any(|(at, _)| starts(at)))
        .map(|place| format!("{path}: names `{place}…`, a place of one machine"))
        .collect()
}

/// Whoever has the repository has every document that it refers to. A section's sign is for
/// standards, which have a number.
fn outside(path: &str, text: &str) -> Vec<String> {
    let of_a_standard = |at: usize| {
        let before = text[..at].trim_end().rsplit([' ', '(', '\n']).next().unwrap_or_default();
        before.starts_with(|c: char| c.is_ascii_digit()) || text[..at].ends_with(", ")
    };
    let mut complaints = Vec::new();
    if text.match_indices(SECTION).any(|(at, _)| !of_a_standard(at)) {
        complaints.push(format!("{path}: refers to a section of a document that is no standard"));
    }
    for word in OUTSIDE {
        if !words(&text.to_lowercase(), word).is_empty() {
            complaints.push(format!("{path}: refers to `{word}`, which is not in the repository"));
        }
    }
    complaints
}

// --- checks of the documents

/// Documents outlive line numbers and tickets.
fn citations(path: &str, text: &str) -> Vec<String> {
    let digit_follows = |at: usize| text[at..].starts_with(|c: char| c.is_ascii_digit());
    let mut complaints = Vec::new();
    for sign in [".rs:", ".rs#L", ".toml:", ".yaml:"] {
        if text.match_indices(sign).any(|(at, _)| digit_follows(at + sign.len())) {
            complaints.push(format!("{path}: cites a line number; name the item instead"));
        }
    }
    for sign in [" #", "(#", "issue #", "issues/", "pull/"] {
        if text.match_indices(sign).any(|(at, _)| digit_follows(at + sign.len())) {
            complaints.push(format!("{path}: cites a ticket by number; say what it was about"));
        }
    }
    complaints
}

/// Links to files of the tree lead somewhere.
fn links(path: &str, text: &str, paths: &BTreeSet<&str>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, _) in text.match_indices("](") {
        let target = text[at + 2..].split([')', ' ']).next().unwrap_or_default();
        let file = target.split('#').next().unwrap_or_default();
        if file.is_empty() || target.contains("://") {
            continue;
        }
        let found = resolve(path, file);
        let is_dir =
            paths.iter().any(|other| other.starts_with(&format!("{}/", found.trim_end_matches('/'))));
        if !paths.contains(found.as_str()) && !is_dir {
            complaints.push(format!("{path}: the link to `{target}` leads nowhere"));
        }
    }
    complaints
}

fn resolve(from: &str, to: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Decisions are numbered without a gap.
fn decisions(paths: &BTreeSet<&str>) -> Vec<String> {
    let files = paths.iter().filter_map(|path| path.strip_prefix("docs/decisions/"));
    let numbered: Vec<&str> = files.filter(|name| *name != "README.md").collect();
    let out_of_order = |(index, name): (usize, &&str)| {
        let expected = format!("{:04}-", index + 1);
        (!name.starts_with(&expected)).then(|| format!("docs/decisions/{name}: `{expected}…` is due"))
    };
    numbered.iter().enumerate().filter_map(out_of_order).collect()
}

/// Alerts and documents name metrics that exist; the list in the metrics' own test is the
/// interface.
fn metrics(path: &str, text: &str, made: &str) -> Vec<String> {
    let prefix = concat!("swarm", "gate_");
    let names = text.match_indices(prefix).map(|(at, _)| {
        let name = text[at..].split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or_default();
        ["_total", "_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
    });
    let names: BTreeSet<&str> = names.collect();
    // The Python SDK's module is called like a metric.
    let module = concat!("swarm", "gate_worker");
    let unknown = names.into_iter().filter(|name| *name != module && !made.contains(&format!("\"{name} ")));
    unknown.map(|name| format!("{path}: there is no metric `{name}`")).collect()
}

/// The codes of the closed list, with their variants.
fn reason_codes(text: &str) -> Vec<(String, String)> {
    let row = |line: &str| {
        let (variant, rest) = line.trim().split_once(" \"")?;
        let code = rest.strip_suffix('"')?;
        let is_code = code.split_once('.').is_some_and(|(gate, word)| !gate.is_empty() && !word.is_empty());
        (is_code && !code.contains(' ')).then(|| (variant.to_owned(), code.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// What of a file is test: all of it outside src, what follows the first test module inside.
fn tested(path: &str, text: &str) -> String {
    if path == "tests/tidy.rs" {
        return String::new();
    }
    if path.starts_with("tests/") {
        return text.to_owned();
    }
    let Some(at) = text.find("#[cfg(test)]").filter(|_| room(path).is_some()) else { return String::new() };
    text[at..].to_owned()
}

fn reasons(
    codes: &[(String, String)],
    pages: &BTreeMap<&str, &str>,
    gates: &str,
    tests: &str,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for (variant, code) in codes {
        match pages.get(code.as_str()) {
            None => complaints.push(format!("docs/reasons/{code}.md is missing")),
            Some(page) => complaints.extend(
                PAGE_SECTIONS
                    .iter()
                    .filter(|section| !page.contains(**section))
                    .map(|section| format!("docs/reasons/{code}.md lacks `{section}`")),
            ),
        }
        if !gates.contains(&format!("`{code}`")) {
            complaints.push(format!("spec/gates.md does not list `{code}`"));
        }
        let by_name = format!("Reason::{variant}");
        if !tests.contains(&format!("\"{code}\"")) && words(tests, &by_name).is_empty() {
            complaints.push(format!("no test names `{code}`"));
        }
    }
    for page in pages.keys().filter(|page| !codes.iter().any(|(_, code)| code == *page)) {
        complaints.push(format!("docs/reasons/{page}.md is the page of no code"));
    }
    complaints
}

// --- each check can fail

#[test]
fn checks_of_sources_complain() {
    let good = "//! What it owns. Owns: a. Never: b. Holds: c.\nfn short() {}\n";
    let at = "src/ledger/x.rs";
    assert_eq!(header(at, good), [""; 0]);
    assert_eq!(header(at, "// no\n").len(), 1);
    assert_eq!(header(at, "//! Owns: a. Never: b.\n").len(), 1);
    assert!(size(at, good).is_none());
    assert!(size(at, &"\n".repeat(FILE_LINES_MAX + 1)).is_some());
    let wide = format!("// {}", "word ".repeat(PROSE_COLUMNS_MAX / 5));
    assert_eq!(prose(at, &wide[..PROSE_COLUMNS_MAX]), [""; 0]);
    assert_eq!(prose(at, &wide).len(), 1);
    assert_eq!(prose(at, &format!("    let a = \"{wide}\";")), [""; 0]);
    let long =
        |lines| format!("fn long(a: [u8; 4]) -> u8 {{\n{}}}\nfn after() {{}}\n", "x();\n".repeat(lines));
    assert_eq!(functions(at, &long(FUNCTION_LINES_MAX - 2)), [""; 0]);
    assert_eq!(functions(at, &long(FUNCTION_LINES_MAX - 1)).len(), 1);
    assert_eq!(names(at, "mod chain { mod fine {} }"), [""; 0]);
    assert_eq!(names("src/runtime/utils.rs", "mod helpers {}").len(), 2);
    assert!(appliers("src/runtime/a.rs", "state.apply(1, &fact)").is_none());
    assert!(appliers("src/interface/a.rs", "state.apply(1, &fact)").is_some());
    assert!(appliers("src/interface/a.rs", "// state.apply(1)\nlet a = \".apply(\";").is_none());
    assert!(short_strings("src/bus/a.rs", "let a = ShortString::from(b);").is_some());
    assert!(short_strings("src/bus/a.rs", "let a = names.map(ShortString::from);").is_some());
    assert!(short_strings("src/bus/a.rs", "let a = ShortString::try_new(b)?;").is_none());
    assert_eq!(
        sockets("src/runtime/a.rs", "use tokio::net::{TcpListener, TcpStream}; // UdpSocket").len(),
        2
    );
    assert_eq!(sockets("src/channel/a.rs", "use tokio::net::TcpStream;"), [""; 0]);
    assert_eq!(test_attributes(at, concat!("#[ig", "nore] #[should", "_panic(expected = \"a\")]")).len(), 2);
    assert_eq!(test_attributes(at, concat!("#[ig", "nore = \"needs an hour\"]")), [""; 0]);
}

#[test]
fn checks_of_ranks_complain() {
    let complains = |path: &str, text: &str| !ranks(path, text).is_empty();
    assert!(!complains("src/decision/a.rs", "use crate::contract::{audit, reason};"));
    assert!(complains("src/decision/a.rs", "use crate::clock;"));
    assert!(complains(
        "src/contract/a.rs",
        "use crate::{\n    contract::b,\n    decision::{state, rules},\n};"
    ));
    assert!(complains("src/bus/a.rs", "fn a() { crate::ledger::verify() }"));
    assert!(complains("src/bus/a.rs", "use crate::decision::State;"));
    assert!(!complains(
        "src/bus/a.rs",
        "// crate::ledger is named in a comment only\nuse crate::telemetry::Metrics;"
    ));
    assert!(!complains(
        "src/interface/cli/a.rs",
        "use crate::{bus::Bus, runtime::boot}; use super::super::http;"
    ));
    assert!(complains("src/interface/cli/a.rs", "use super::super::super::bus;"));
    assert!(complains("src/bus/a.rs", "use super::super::ledger;"));
    assert!(!complains("src/bus/a.rs", "mod tests { use super::super::Fate; }"));
    assert!(complains("src/attic/a.rs", ""));
    let pure = |text: &str| purity("src/contract/a.rs", text).is_empty();
    assert!(pure("use std::{fmt, collections::BTreeMap}; // std::fs"));
    assert!(!pure("use std::{fmt, fs};"));
    assert!(!pure("fn a() { std::thread::sleep(b) }"));
    assert!(!pure("fn a() { println!(\"b\") }"));
    assert!(purity("src/runtime/a.rs", "use std::fs;").is_empty());
}

#[test]
fn checks_of_texts_complain() {
    assert_eq!(unfinished("a", "a\n<<<<<<< HEAD\nb\n").len(), 1, "a half of a merge");
    for word in UNFINISHED {
        assert_eq!(unfinished("a", &format!("let a = {word};")).len(), 1, "{word}");
        assert_eq!(unfinished("a", &format!("let a = b{word};")), [""; 0], "{word} within a word");
    }
    for place in MACHINE_PATHS {
        assert_eq!(machine_paths("a", &format!("see `{place}b`")).len(), 1, "{place}");
    }
    assert_eq!(machine_paths("a", "https://a.example/b, net/root/b"), [""; 0]);
    for word in OUTSIDE {
        assert_eq!(outside("a", &format!("As {word} 6 it waits.")).len(), 1, "{word}");
        assert_eq!(outside("a", &format!("As over{word}s it waits.")), [""; 0], "{word} within a word");
    }
    let of = |before: &str| outside("a", &format!("By {before} {SECTION}6")).len();
    assert_eq!((of("RFC 8259"), of("RFC 8785 {SECTION}3,"), of("the rules")), (0, 0, 1));
    assert_eq!(citations("a.md", "see src/a.rs, `state.rs` and section 3 # 4 things"), [""; 0]);
    assert_eq!(citations("a.md", "see src/a.rs:12 and (#7)").len(), 2);
    let paths = BTreeSet::from(["docs/a.md", "docs/b/c.md", "README.md"]);
    let fine = "[x](b/c.md) [y](../README.md#top) [z](https://a.example) [d](b) [t](#top)";
    assert_eq!(links("docs/a.md", fine, &paths), [""; 0]);
    assert_eq!(links("docs/b/c.md", "[x](a.md)", &paths).len(), 1);
    assert_eq!(decisions(&BTreeSet::from(["docs/decisions/0001-a.md", "docs/decisions/0002-b.md"])), [""; 0]);
    assert_eq!(decisions(&BTreeSet::from(["docs/decisions/0001-a.md", "docs/decisions/0003-b.md"])).len(), 1);
}

#[test]
fn checks_of_metrics_complain() {
    let made = "\"swarmgate_refusals counter\"";
    assert_eq!(metrics("a", "rate(swarmgate_refusals_total{reason=\"a\"}[5m])", made), [""; 0]);
    assert_eq!(metrics("a", "swarmgate_refusal_total", made).len(), 1);
}

#[test]
fn checks_of_reasons_complain() {
    let codes = reason_codes("    TooLarge \"contract.too-large\"\n        \"A rule. It has words.\"\n");
    assert_eq!(codes, [("TooLarge".to_owned(), "contract.too-large".to_owned())]);
    let page = PAGE_SECTIONS.join("\n");
    let pages = BTreeMap::from([("contract.too-large", page.as_str())]);
    let gates = "`contract.too-large`";
    assert_eq!(reasons(&codes, &pages, gates, "is(Reason::TooLarge)"), [""; 0]);
    assert_eq!(reasons(&codes, &pages, gates, "\"contract.too-large\""), [""; 0]);
    assert_eq!(reasons(&codes, &pages, gates, "Reason::TooLargest").len(), 1);
    assert_eq!(reasons(&codes, &pages, "", "Reason::TooLarge").len(), 1);
    assert_eq!(reasons(&codes, &BTreeMap::new(), gates, "Reason::TooLarge").len(), 1);
    let thin = BTreeMap::from([("contract.too-large", "## The rule"), ("a.b", page.as_str())]);
    assert_eq!(reasons(&codes, &thin, gates, "Reason::TooLarge").len(), PAGE_SECTIONS.len());
    assert_eq!(tested("src/bus/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {}"), "#[cfg(test)]\nmod tests {}");
}
