//! Every requirement of spec/requirements.toml is shown by a test that is there.
//!
//! Owns: reading the ids and the tests they name, and finding those tests in the text of the tree.
//! Never: judges whether a test shows what it says.
//! Holds: an id without a test, and a test that is not there, are complaints.

use std::collections::{BTreeMap, BTreeSet};

use super::{none, tree};

#[test]
fn every_requirement_is_shown_by_a_test() {
    let tree = tree();
    let list = tree.iter().find(|file| file.path == "spec/requirements.toml").expect("the requirements");
    let wanted = requirements(&list.text);
    assert!(wanted.len() >= 8, "the requirements could not be read: {wanted:?}");
    let texts = tree.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    none(&unshown(&wanted, &texts));
}

/// Each requirement's id and the tests that it names.
fn requirements(text: &str) -> Vec<(String, Vec<String>)> {
    let lines: String =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let value = |table: &str, key: &str| {
        let (_, rest) = table.split_once(&format!("\n{key} = "))?;
        let end = if rest.starts_with('[') { rest.find(']') } else { rest.find('\n') };
        Some(rest[..end?].to_owned())
    };
    let quoted = |text: &str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let row = |table: &str| {
        let id = value(table, "id").map(|id| quoted(&id).concat()).unwrap_or_default();
        (id, value(table, "tests").map(|tests| quoted(&tests)).unwrap_or_default())
    };
    lines.split("[[requirement]]").skip(1).map(row).collect()
}

/// Each requirement has an id of its own and a test, and each test that it names is there.
fn unshown(wanted: &[(String, Vec<String>)], texts: &BTreeMap<&str, &str>) -> Vec<String> {
    let is_test = |text: &str, name: &str| {
        let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
        before.rsplit("\n\n").next().is_some_and(|block| block.contains("test]") || block.contains("test("))
    };
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for (id, tests) in wanted {
        if id.is_empty() || !seen.insert(id) {
            complaints.push(format!("spec/requirements.toml: the id `{id}` is empty or stands twice"));
        }
        if tests.is_empty() {
            complaints.push(format!("spec/requirements.toml: no test shows `{id}`"));
        }
        for test in tests {
            let found = test.split_once("::").and_then(|(path, name)| Some((*texts.get(path)?, name)));
            if !found.is_some_and(|(text, name)| is_test(text, name.rsplit("::").next().unwrap_or(name))) {
                complaints.push(format!("spec/requirements.toml: `{id}` names `{test}`, which is no test"));
            }
        }
    }
    complaints
}

#[test]
fn checks_of_requirements_complain() {
    let text = "# [[requirement]]\n# id = \"C\"\n[[requirement]]\nid = \"A\"\ntests = [\n    \"t.rs::a\",\n    \"t.rs::m::b\",\n]\n[[requirement]]\nid = \"B\"\ntests = []\n";
    let wanted = requirements(text);
    let of =
        |id: &str, tests: &[&str]| (id.to_owned(), tests.iter().map(|test| (*test).to_owned()).collect());
    assert_eq!(wanted, [of("A", &["t.rs::a", "t.rs::m::b"]), of("B", &[])]);
    let texts = BTreeMap::from([(
        "t.rs",
        "#[test]\nfn a() {}\n\n#[tokio::test(flavor = \"x\")]\nasync fn b() {}\n\nfn c() {}\n",
    )]);
    let complaints = |row: (String, Vec<String>)| unshown(&[row], &texts).len();
    assert_eq!(complaints(of("A", &["t.rs::a", "t.rs::m::b"])), 0);
    for (id, tests) in
        [("A", &[][..]), ("", &["t.rs::a"]), ("A", &["t.rs::c"]), ("A", &["u.rs::a"]), ("A", &["a"])]
    {
        assert_eq!(complaints(of(id, tests)), 1, "{id} {tests:?}");
    }
    assert_eq!(unshown(&[of("A", &["t.rs::a"]), of("A", &["t.rs::a"])], &texts).len(), 1);
}
