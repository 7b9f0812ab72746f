//! A public type name says which: it occurs at most twice in the crate.
//!
//! Owns: how often each name of a public type occurs.
//! Never: looks at methods, fields or what is private to a file.
//! Holds: only the name that every subcommand gives its arguments occurs more than twice.

use std::collections::BTreeMap;

use super::{
    none,
    text::{code, is_word, words},
    tree,
};

const TIMES_MAX: usize = 2;
/// Each subcommand has one, which the subcommand names.
const BY_CONVENTION: &str = "Args";

#[test]
fn a_public_type_name_says_which() {
    let tree = tree();
    let sources = tree.iter().filter(|file| file.path.starts_with("src/") && file.is_rust());
    let sources: Vec<(&str, &str)> = sources.map(|file| (&*file.path, &*file.text)).collect();
    none(&type_names(&sources));
}

fn type_names(sources: &[(&str, &str)]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (path, text) in sources {
        let code = code(text);
        for keyword in ["struct", "enum", "trait", "type", "union"] {
            for at in words(&code, keyword) {
                let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
                let rest = code[at + keyword.len()..].trim_start();
                let name = rest.bytes().take_while(|byte| is_word(*byte)).map(char::from).collect();
                if line == "pub" || line.starts_with("pub(") && line.ends_with(')') {
                    places.entry(name).or_default().push(path);
                }
            }
        }
    }
    let too_often = places.iter().filter(|(name, places)| places.len() > TIMES_MAX && *name != BY_CONVENTION);
    let complaint = |(name, places): (&String, &Vec<&str>)| {
        let times = places.len();
        format!("`{name}` names {times} public types, more than {TIMES_MAX}: {}", places.join(", "))
    };
    too_often.map(complaint).collect()
}

#[test]
fn checks_of_type_names_complain() {
    let source =
        |path| (path, "//! pub struct Place;\npub struct Place;\nstruct Own;\nimpl A { type Place = u8; }");
    let sources = [source("src/a.rs"), source("src/b.rs"), source("src/c.rs")];
    assert_eq!(type_names(&sources[..2]), [""; 0]);
    assert_eq!(type_names(&sources).len(), 1);
    let inner = [("src/a.rs", "pub(super) enum Place {}"), ("src/b.rs", "pub(crate) type Place = u8;")];
    assert_eq!(type_names(&[&inner[..], &sources[..1]].concat()).len(), 1);
}
