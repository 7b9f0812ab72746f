//! The lexicon is true of the code: a path that it names is there, and a word that it replaced has
//! not come back.
//!
//! Owns: paths of `docs/lexicon.md` against `src/`, and the names of public functions.
//! Never: judges what a word means.
//! Holds: a path names a file of `src/` and a word in it.

use super::{
    none,
    text::{code, is_word, words},
    tree,
};

const LEXICON: &str = "docs/lexicon.md";
/// Names for which there is a plain word: `log`, `render`, `print`, `send`, `release`, `abandon`.
const REPLACED: [&str; 7] = ["tell", "tells", "told", "say", "says", "let_go", "give_up"];

#[test]
fn what_the_lexicon_names_is_there() {
    let tree = tree();
    let file = |path: &str| tree.iter().find(|file| file.path == path).map(|file| &*file.text);
    none(&missing(file(LEXICON).expect("the lexicon"), file));
}

#[test]
fn no_public_function_has_a_name_that_was_replaced() {
    let tree = tree();
    let sources = tree.iter().filter(|file| file.path.starts_with("src/") && file.is_rust());
    none(&sources.flat_map(|file| replaced(&file.path, &file.text)).collect::<Vec<_>>());
}

fn missing<'t>(lexicon: &str, file: impl Fn(&str) -> Option<&'t str>) -> Vec<String> {
    let quoted = lexicon.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::"));
    let is_there = |path: &str| {
        let at = |path: &str| {
            let path = path.replace("::", "/");
            file(&format!("src/{path}.rs")).or_else(|| file(&format!("src/{path}/mod.rs")))
        };
        let inside = path.rsplit_once("::").and_then(|(parent, name)| Some((at(parent)?, name)));
        at(path).is_some() || inside.is_some_and(|(text, name)| !words(&code(text), name).is_empty())
    };
    let lost = quoted.filter(|path| !is_there(path));
    lost.map(|path| format!("{LEXICON}: there is no `{path}`")).collect()
}

fn replaced(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let public = words(&code, "fn").into_iter().filter_map(|at| {
        let line = code[..at].rsplit('\n').next()?.trim_start();
        let name: String =
            code[at + 2..].trim_start().bytes().take_while(|byte| is_word(*byte)).map(char::from).collect();
        (line.starts_with("pub") && REPLACED.contains(&&*name)).then_some(name)
    });
    public.map(|name| format!("{path}: a public function `{name}`; the lexicon has a plainer word")).collect()
}

#[test]
fn checks_of_the_lexicon_complain() {
    let file = |path: &str| match path {
        "src/bus/mod.rs" => Some("pub enum Fate {} // Past"),
        _ => None,
    };
    let missing = |lexicon: &str| missing(lexicon, file).len();
    assert_eq!(missing("`bus`, `bus::Fate` and `Class::Stop`, which is no path"), 1);
    assert_eq!(missing("`bus::Fate` and `fate`"), 0);
    assert_eq!(missing("`bus::Past` in a comment only, `bus::amqp`"), 2);
    assert_eq!(replaced("a", "pub fn tell() {}\npub(super) async fn let_go() {}").len(), 2);
    assert_eq!(replaced("a", "fn tell() {}\npub fn teller() {} // pub fn say()"), [""; 0]);
}
