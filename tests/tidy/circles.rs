//! No circle of files: whoever reads one file needs only those below it.
//!
//! Owns: which file names something that another file declares, and the circles of such names.
//! Never: expands a macro, or looks into tests.
//! Holds: a name counts for the file that declares it, through whatever re-exports; a file and what
//! lies below it in the tree of modules are one reading, so an edge to an own ancestor, or from
//! one, does not count.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    none,
    text::{code, is_word},
    tree,
};

/// Segments of a path, from the crate's root.
type Path = Vec<String>;
/// Who names whom, and by which names.
type Edges = BTreeMap<Path, BTreeMap<Path, BTreeSet<String>>>;

#[test]
fn no_files_name_each_other_in_a_circle() {
    let tree = tree();
    let sources = tree.iter().filter(|file| file.path.starts_with("src/") && file.is_rust());
    let sources: Vec<(&str, &str)> = sources.map(|file| (&*file.path, &*file.text)).collect();
    assert!(edges(&sources).len() > 100, "the paths between files could not be read");
    none(&circles(&sources));
}

/// Each circle with the names that make it.
fn circles(sources: &[(&str, &str)]) -> Vec<String> {
    let edges = edges(sources);
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        edges.keys().map(|module| (module, reach(&edges, module))).collect();
    let mut told: BTreeSet<&Path> = BTreeSet::new();
    let mut complaints = Vec::new();
    for (module, below) in &reached {
        if !below.contains(module) || told.contains(module) {
            continue;
        }
        let with = |other: &&&Path| reached.get(**other).is_some_and(|back| back.contains(module));
        let circle: BTreeSet<&Path> = below.iter().filter(with).copied().collect();
        let mut complaint = format!("{} files name each other in a circle:", circle.len());
        for (from, to, names) in
            circle.iter().flat_map(|from| edges[*from].iter().map(move |(to, names)| (from, to, names)))
        {
            if circle.contains(to) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                complaint +=
                    &format!("\n    {} names {}: {}", from.join("::"), to.join("::"), names.join(", "));
            }
        }
        complaints.push(complaint);
        told.extend(circle);
    }
    complaints
}

/// Every file that is named from one, directly or through others.
fn reach<'a>(edges: &'a Edges, from: &'a Path) -> BTreeSet<&'a Path> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(module) = waiting.pop() {
        let named = edges.get(module).into_iter().flat_map(BTreeMap::keys);
        waiting.extend(named.filter(|to| found.insert(*to)));
    }
    found
}

/// What a file says of others.
#[derive(Default)]
struct Module {
    /// What it brings in, by the name that it has here.
    uses: BTreeMap<String, Path>,
    /// What of that others may take from it.
    reexports: BTreeMap<String, Path>,
    /// What it names.
    named: Vec<Path>,
}

fn edges(sources: &[(&str, &str)]) -> Edges {
    let paths: BTreeSet<Path> = sources.iter().filter_map(|(path, _)| module_of(path)).collect();
    let modules: BTreeMap<Path, Module> = sources
        .iter()
        .filter_map(|(path, text)| {
            let own = module_of(path)?;
            let module = read(&own, &untested(&code(text)), &paths);
            Some((own, module))
        })
        .collect();
    let mut edges = Edges::new();
    for (own, module) in &modules {
        let named = edges.entry(own.clone()).or_default();
        for path in &module.named {
            let Some((to, name)) = declared(path, &modules, 0) else { continue };
            if !to.starts_with(own) && !own.starts_with(&to) {
                named.entry(to).or_default().insert(name);
            }
        }
    }
    edges
}

/// The module of a file; `None` for the roots, which everything lies below.
fn module_of(path: &str) -> Option<Path> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    (!matches!(inside, "lib" | "main")).then(|| inside.split('/').map(str::to_owned).collect())
}

/// The code without its test module, which stands last.
fn untested(code: &str) -> String {
    let is_tests =
        |at: &usize| code[*at..].trim_start_matches("#[cfg(test)]").trim_start().starts_with("mod ");
    let end = code.match_indices("#[cfg(test)]").map(|(at, _)| at).find(is_tests);
    code[..end.unwrap_or(code.len())].to_owned()
}

/// Which module declares what a path names, and its name there; `None` for a path that names a
/// module itself.
fn declared(path: &Path, modules: &BTreeMap<Path, Module>, depth: usize) -> Option<(Path, String)> {
    let length = (1..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
    let (module, rest) = path.split_at(length);
    let name = rest.first()?;
    // Re-exports of re-exports end; were they a circle themselves, the compiler would have said so.
    match modules[module].reexports.get(name).filter(|_| depth < 8) {
        Some(from) => declared(&[from, &rest[1..]].concat(), modules, depth + 1),
        None => Some((module.to_vec(), name.clone())),
    }
}

/// Reads the paths of one file.
fn read(own: &Path, code: &str, modules: &BTreeSet<Path>) -> Module {
    let mut module = Module::default();
    let mut body = String::new();
    let mut rest = code;
    let mut brought = Vec::new();
    while let Some(at) = use_at(rest) {
        let (before, from) = rest.split_at(at);
        let Some((tree, after)) = from["use".len()..].split_once(';') else { break };
        let line = before.rsplit(['\n', ';', '}']).next().unwrap_or_default().trim();
        let is_public = line.starts_with("pub");
        let mut found = Vec::new();
        expand(tree, &Path::new(), &mut found);
        brought.extend(found.into_iter().map(|(path, name)| (path, name, is_public)));
        body.push_str(before);
        rest = after;
    }
    body.push_str(rest);
    // A `use` may begin with what another brings in, so those with a full path come first.
    brought.sort_by_key(|(path, ..)| {
        !matches!(path.first().map(String::as_str), Some("crate" | "super" | "self"))
    });
    for (path, name, is_public) in brought {
        let Some(path) = absolute(own, &path, &module.uses, modules) else { continue };
        module.named.push(path.clone());
        if is_public {
            module.reexports.insert(name.clone(), path.clone());
        }
        module.uses.insert(name, path);
    }
    let named = paths(&body);
    module.named.extend(named.iter().filter_map(|path| absolute(own, path, &module.uses, modules)));
    module
}

/// Where the next `use` stands by itself.
fn use_at(code: &str) -> Option<usize> {
    let bytes = code.as_bytes();
    let is_use = |at: &usize| {
        let before = at.checked_sub(1).is_none_or(|before| bytes[before].is_ascii_whitespace());
        before && bytes.get(at + 3).is_some_and(u8::is_ascii_whitespace)
    };
    code.match_indices("use").map(|(at, _)| at).find(is_use)
}

/// Every path of a tree of uses, with the name that it brings in.
fn expand(tree: &str, prefix: &Path, found: &mut Vec<(Path, String)>) {
    let tree = tree.trim();
    if let Some((before, group)) = tree.split_once('{') {
        let mut prefix = prefix.clone();
        prefix.extend(before.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned));
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        let (mut depth, mut from) = (0_i32, 0);
        for (at, sign) in group.char_indices().chain([(group.len(), ',')]) {
            match sign {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&group[from..at], &prefix, found);
                    from = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) =
        tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut whole = prefix.clone();
    whole.extend(path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned));
    if whole.len() > prefix.len() && whole.last().is_some_and(|last| last == "self") {
        whole.pop();
    }
    let name = alias.map(str::to_owned).or_else(|| whole.last().cloned());
    if let Some(name) = name.filter(|_| !whole.is_empty() && !path.is_empty()) {
        found.push((whole, name));
    }
}

/// Every path of two segments or more.
fn paths(body: &str) -> Vec<Path> {
    let is_part = |sign: char| sign == ':' || u8::try_from(sign).is_ok_and(is_word);
    let runs = body.split(|sign| !is_part(sign)).filter(|run| run.contains("::"));
    let path =
        |run: &str| -> Path { run.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect() };
    runs.filter(|run| !run.starts_with(':')).map(|run| path(run.trim_end_matches(':'))).collect()
}

/// A path from the crate's root; `None` for one that leads out of the crate, or that begins with a
/// type.
fn absolute(
    own: &Path,
    path: &Path,
    uses: &BTreeMap<String, Path>,
    modules: &BTreeSet<Path>,
) -> Option<Path> {
    let first = path.first()?;
    let below = [own.as_slice(), &path[..1]].concat();
    match first.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([own.as_slice(), &path[1..]].concat()),
        "super" => {
            let steps = path.iter().take_while(|step| *step == "super").count();
            let up = own.get(..own.len().checked_sub(steps)?)?;
            Some([up, &path[steps..]].concat())
        }
        _ if modules.contains(&below) => Some([below.as_slice(), &path[1..]].concat()),
        _ => uses.get(first).map(|brought| [brought.as_slice(), &path[1..]].concat()),
    }
}

#[test]
fn checks_of_circles_complain() {
    let is_circle = |sources: &[(&str, &str)]| circles(sources).len();
    let a = ("src/bus/a.rs", "use super::b::B;\npub struct A;");
    assert_eq!(is_circle(&[a, ("src/bus/b.rs", "pub struct B;")]), 0);
    assert_eq!(is_circle(&[a, ("src/bus/b.rs", "fn b(a: super::a::A) {}")]), 1);
    assert_eq!(is_circle(&[a, ("src/bus/b.rs", "// super::a::A\nfn b() { say(\"super::a::A\") }")]), 0);
    assert_eq!(is_circle(&[a, ("src/bus/b.rs", "#[cfg(test)]\nmod tests { use super::super::a::A; }")]), 0);
    assert_eq!(is_circle(&[a, ("src/bus/b.rs", "use crate::bus::{c, a::{self}};\nfn b() { a::A }")]), 1);
    // Through a third, and through a re-export.
    let c = ("src/bus/c.rs", "use crate::bus::a::A;");
    assert_eq!(is_circle(&[a, ("src/bus/b.rs", "use super::c::C as D;"), c]), 1);
    let door = ("src/bus/mod.rs", "mod a;\nmod b;\npub use a::A;\nuse b::B;");
    assert_eq!(is_circle(&[a, door, ("src/bus/b.rs", "use super::A;")]), 1);
    assert_eq!(is_circle(&[a, door, ("src/bus/b.rs", "use super::Other;")]), 0);
    // An ancestor is no other reading, and a module by itself is nothing that was taken from it.
    let parent = ("src/bus/mod.rs", "mod a;\npub struct P;\nfn p() { a::A }");
    assert_eq!(is_circle(&[parent, ("src/bus/a.rs", "use super::P;\npub struct A;")]), 0);
    assert_eq!(is_circle(&[a, ("src/bus/b.rs", "use super::a;")]), 0);
}
