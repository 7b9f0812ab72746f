//! Every requirement of spec/requirements.toml is shown by a test that is there, and
//! docs/requirements.md says the same.
//!
//! Owns: reading the sentences, the tests they name and their states, finding those tests in the
//! text of the tree, the page that is made from it all, and the tests of faults that were found.
//! Never: judges whether a test shows what it says.
//! Holds: a sentence without a test or a reason, a test that is not there, and a page that differs
//! are complaints.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use super::{none, tree};

const LIST: &str = "spec/requirements.toml";
const PAGE: &str = "docs/requirements.md";
const TABLES: &str = "tests/decisions/";
/// Every state, as the list spells it; the first where none is written.
const STATES: [&str; 3] = ["holds", "open", "not built"];

#[test]
fn every_requirement_is_shown_by_a_test() {
    let tree = tree();
    let texts: BTreeMap<_, _> = tree.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let wanted = requirements(texts[LIST]);
    assert!(wanted.len() >= 200, "the requirements could not be read: {} of them", wanted.len());
    none(&unshown(&wanted, &texts));
    let page = page(&wanted);
    if env::var_os("SWARMGATE_WRITE").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE), page).expect("the page is written");
    } else {
        none(outdated(&page, texts.get(PAGE)).as_slice());
    }
}

const FAULTS: &str = "docs/testing.md";

#[test]
fn every_fault_names_a_test_that_is_there() {
    let tree = tree();
    let text = tree.iter().find(|file| file.path == FAULTS).map_or("", |file| file.text.as_str());
    let rows = text.lines().filter(|line| line.starts_with("| ")).collect::<Vec<_>>();
    assert!(rows.len() > 100, "the faults could not be read");
    let names: BTreeSet<&str> = tree.iter().flat_map(|file| named(&file.path, &file.text)).collect();
    none(&rows.into_iter().flat_map(|row| nameless(row, &names)).collect::<Vec<_>>());
}

/// What may stand last in the path of a test: a function, or what a room is called.
fn named<'a>(path: &'a str, text: &'a str) -> Vec<&'a str> {
    let word = |part: &'a str| part.split(|c: char| !c.is_alphanumeric() && c != '_').next();
    let declared = ["fn ", "mod "].into_iter().flat_map(|sign| text.split(sign).skip(1)).filter_map(word);
    let rust = path.strip_suffix(".rs").into_iter().flat_map(|path| path.split('/'));
    if path.ends_with(".rs") { declared.chain(rust).collect() } else { Vec::new() }
}

/// The paths of tests in a row that lead nowhere.
fn nameless(row: &str, names: &BTreeSet<&str>) -> Vec<String> {
    let last = row.rsplit(" | ").next().unwrap_or_default();
    let paths = last.split('`').skip(1).step_by(2).filter(|path| path.contains("::") && !path.ends_with('…'));
    let leads = |path: &&str| path.rsplit("::").next().is_some_and(|name| names.contains(name));
    paths.filter(|path| !leads(path)).map(|path| format!("{FAULTS}: there is no test `{path}`")).collect()
}

#[test]
fn checks_of_faults_complain() {
    let names = named("tests/it/a.rs", "mod b {\n    fn c() {}\n}\n").into_iter().collect();
    assert_eq!(nameless("| it failed | `a::c`, `…::b`, `x::y_…` and `it::a` |", &names), [""; 0]);
    assert_eq!(nameless("| `x::y` failed | `a::gone` |", &names).len(), 1);
}

/// One sentence of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Requirement {
    id: String,
    seed: String,
    section: String,
    text: String,
    state: String,
    why: String,
    tests: Vec<String>,
}

fn requirements(text: &str) -> Vec<Requirement> {
    let lines: String =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    lines.split("[[requirement]]").skip(1).map(requirement).collect()
}

fn requirement(table: &str) -> Requirement {
    let quoted = |key: &str| {
        let (_, rest) = table.split_once(&format!("\n{key} = ")).unwrap_or_default();
        let end = if rest.starts_with('[') { rest.find("]\n") } else { rest.find('\n') };
        let value = &rest[..end.unwrap_or_default()];
        value.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let text = |key: &str| quoted(key).concat();
    let state = Some(text("state")).filter(|state| !state.is_empty());
    Requirement {
        id: text("id"),
        seed: text("seed"),
        section: text("section"),
        text: text("text"),
        state: state.unwrap_or_else(|| STATES[0].to_owned()),
        why: text("why"),
        tests: quoted("tests"),
    }
}

/// Each requirement has an id of its own, says what and where, and has what its state asks for;
/// each test is there.
fn unshown(wanted: &[Requirement], texts: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for one in wanted {
        let id = &one.id;
        let mut complain = |what: String| complaints.push(format!("{LIST}: {what}"));
        if id.is_empty() || !seen.insert(id) {
            complain(format!("the id `{id}` is empty or stands twice"));
        }
        if [&one.seed, &one.section, &one.text].iter().any(|text| text.is_empty()) {
            complain(format!("`{id}` lacks its seed, section or text"));
        }
        let (shown, excused) = (!one.tests.is_empty(), !one.why.is_empty());
        match one.state.as_str() {
            "holds" if !shown => complain(format!("no test shows `{id}`")),
            "holds" if excused => complain(format!("`{id}` holds, and says why it does not")),
            "open" | "not built" if !excused => {
                complain(format!("`{id}` is {}, and does not say why", one.state))
            }
            "not built" if shown => complain(format!("`{id}` is not built, and names a test")),
            state if !STATES.contains(&state) => {
                complain(format!("`{id}` is in no state that is known: `{state}`"))
            }
            _ => {}
        }
        for test in one.tests.iter().filter(|test| !is_there(test, texts)) {
            complain(format!("`{id}` names `{test}`, which is no test"));
        }
    }
    complaints
}

/// Whether `file::function`, or `file::case` of a decision table, is in the tree.
fn is_there(test: &str, texts: &BTreeMap<&str, &str>) -> bool {
    let Some((path, name)) = test.split_once("::") else { return false };
    let Some(text) = texts.get(path) else { return false };
    if path.starts_with(TABLES) {
        let named = |at: usize| text[..at].trim_end().ends_with("\"name\":");
        return text.match_indices(&format!("\"{name}\"")).any(|(at, _)| named(at));
    }
    let name = name.rsplit("::").next().unwrap_or(name);
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
    before.rsplit("\n\n").next().is_some_and(|block| block.contains("test]") || block.contains("test("))
}

fn outdated(page: &str, found: Option<&&str>) -> Option<String> {
    let how = "SWARMGATE_WRITE=1 cargo nextest run --test tidy -E 'test(every_requirement)'";
    (found != Some(&page)).then(|| format!("{PAGE} is not what {LIST} says; write it anew: {how}"))
}

// --- the page

const OPENING: &str = "\
# Requirements

Every sentence of the five documents that Swarmgate was asked to keep to: what it asks for, whether it holds, and the tests
that show it. The names of documents and sections are the documents' own.

- **holds**: the tests named below it would fail if it did not.
- **open**: it does not hold, or not whole; why stands beside it, and tests that are named show the part that does.
- **not built**: it is about a part that does not exist yet.

`tests/decisions/FILE.json::NAME` is a case of a [decision table](testing.md#a-decision-table); any other test is a function.

This page is made from [spec/requirements.toml](../spec/requirements.toml), and a test compares them. To write it anew:

    SWARMGATE_WRITE=1 cargo nextest run --test tidy -E 'test(every_requirement)'

";

fn page(wanted: &[Requirement]) -> String {
    let mut page =
        format!("{OPENING}| document | sentences | hold | open | not built |\n|---|---:|---:|---:|---:|\n");
    let seeds = groups(wanted.iter(), |one| &one.seed);
    for (seed, all) in &seeds {
        page += &counts(seed, all);
    }
    page += &counts("all", &wanted.iter().collect::<Vec<_>>());
    for (seed, all) in seeds {
        page += &format!("\n## {seed}\n");
        for (section, all) in groups(all.into_iter(), |one| &one.section) {
            page += &format!("\n### {section}\n\n");
            page.extend(all.into_iter().map(item));
        }
    }
    page
}

/// Requirements by what `key` says of them, in the order of their first.
fn groups<'a>(
    all: impl Iterator<Item = &'a Requirement>,
    key: impl Fn(&'a Requirement) -> &'a str,
) -> Vec<(&'a str, Vec<&'a Requirement>)> {
    let mut groups: Vec<(&str, Vec<&Requirement>)> = Vec::new();
    for one in all {
        match groups.iter_mut().find(|(name, _)| *name == key(one)) {
            Some((_, group)) => group.push(one),
            None => groups.push((key(one), vec![one])),
        }
    }
    groups
}

fn counts(name: &str, all: &[&Requirement]) -> String {
    let [hold, open, unbuilt] = STATES.map(|state| all.iter().filter(|one| one.state == state).count());
    format!("| {name} | {} | {hold} | {open} | {unbuilt} |\n", all.len())
}

fn item(one: &Requirement) -> String {
    let Requirement { id, text, state, why, tests, .. } = one;
    let why = if why.is_empty() { String::new() } else { format!("\n  Why: {why}") };
    let code = |test: &String| if test.contains('`') { format!("`` {test} ``") } else { format!("`{test}`") };
    let tests: String = tests.iter().map(|test| format!("  - {}\n", code(test))).collect();
    format!("- `{id}` **{state}**: {text}{why}\n{tests}")
}

// --- each check can fail

#[test]
fn checks_of_requirements_complain() {
    let text = "# [[requirement]]\n# id = \"C\"\n[[requirement]]\nid = \"A\"\nseed = \"D\"\nsection = \"1\"\ntext = \"It [is].\"\ntests = [\n    \"t.rs::a\",\n    \"t.rs::m::b\",\n    \"tests/decisions/t.json::a [b]\",\n]\n[[requirement]]\nid = \"B\"\nstate = \"open\"\nwhy = \"Late.\"\ntests = []\n";
    let [a, b] = &requirements(text)[..] else { panic!("{:?}", requirements(text)) };
    let names = ["t.rs::a", "t.rs::m::b", "tests/decisions/t.json::a [b]"].map(str::to_owned).to_vec();
    let of = |text: &str| text.to_owned();
    let whole = Requirement {
        id: of("A"),
        seed: of("D"),
        section: of("1"),
        text: of("It [is]."),
        state: of("holds"),
        why: String::new(),
        tests: names,
    };
    assert_eq!((a, &b.id, &b.state, &b.why, b.tests.len()), (&whole, &of("B"), &of("open"), &of("Late."), 0));
    let texts = BTreeMap::from([
        ("t.rs", "#[test]\nfn a() {}\n\n#[tokio::test(flavor = \"x\")]\nasync fn b() {}\n\nfn c() {}\n"),
        ("tests/decisions/t.json", "{\"cases\": [{\"name\":  \"a [b]\", \"c\": \"other\"}]}"),
    ]);
    assert_eq!(unshown(std::slice::from_ref(a), &texts), [""; 0]);
    let changed = |change: &dyn Fn(&mut Requirement)| {
        let mut one = a.clone();
        change(&mut one);
        unshown(&[one], &texts).len()
    };
    for tests in [&[][..], &["t.rs::c"], &["u.rs::a"], &["a"], &["tests/decisions/t.json::other"]] {
        let tests: Vec<_> = tests.iter().map(|test| (*test).to_owned()).collect();
        assert_eq!(changed(&|one| one.tests.clone_from(&tests)), 1, "{tests:?}");
    }
    assert_eq!(changed(&|one| one.id.clear()), 1);
    assert_eq!(changed(&|one| one.text.clear()), 1);
    assert_eq!(changed(&|one| one.state = of("done")), 1);
    assert_eq!(changed(&|one| one.why = of("Late.")), 1, "it holds");
    assert_eq!(changed(&|one| one.state = of("open")), 1, "no reason");
    let excused = |state: &str, tests: bool| {
        changed(&|one| {
            (one.state, one.why) = (of(state), of("Late."));
            one.tests.truncate(if tests { 9 } else { 0 });
        })
    };
    assert_eq!((excused("open", true), excused("open", false)), (0, 0));
    assert_eq!((excused("not built", true), excused("not built", false)), (1, 0));
    assert_eq!(unshown(&[a.clone(), a.clone()], &texts).len(), 1);
}

#[test]
fn the_page_has_every_sentence_with_its_state_and_tests() {
    let one = |id: &str, section: &str, state: &str, why: &str, tests: &[&str]| Requirement {
        id: id.to_owned(),
        seed: "D".to_owned(),
        section: section.to_owned(),
        text: format!("{id} is so."),
        state: state.to_owned(),
        why: why.to_owned(),
        tests: tests.iter().map(|test| (*test).to_owned()).collect(),
    };
    let all = [
        one("A", "1", "holds", "", &["t::a", "t::a `b`"]),
        one("B", "2", "open", "Late.", &[]),
        one("C", "1", "holds", "", &["t::c"]),
    ];
    let expected = "| D | 3 | 2 | 1 | 0 |\n| all | 3 | 2 | 1 | 0 |\n\n## D\n\n### 1\n\n- `A` **holds**: A is so.\n  - `t::a`\n  - `` t::a `b` ``\n- `C` **holds**: C is so.\n  - `t::c`\n\n### 2\n\n- `B` **open**: B is so.\n  Why: Late.\n";
    let made = page(&all);
    assert!(made.starts_with("# Requirements\n") && made.ends_with(expected), "{made}");
    assert!(outdated(&made, Some(&made.as_str())).is_none());
    assert!(outdated(&made, Some(&"older")).is_some() && outdated(&made, None).is_some());
}
