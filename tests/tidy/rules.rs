//! Whoever names a rule or a runbook names one that is there.
//!
//! Owns: the anchors of spec/rules.md and the pages of runbooks, and where they are named.
//! Never: judges whether what is named is the right one.
//! Holds: an anchor or a page that leads nowhere, and a heading that stands twice, are complaints.

use std::collections::BTreeSet;

use super::{none, tree};

const RULES: &str = "spec/rules.md";
const RUNBOOKS: &str = "docs/operating/runbooks/";
/// What an anchor follows, in two parts so that this file does not name one itself.
const SIGN: &str = concat!("rules", ".md#");

#[test]
fn every_rule_that_is_named_is_there() {
    let tree = tree();
    let rules = tree.iter().find(|file| file.path == RULES).expect("the rules");
    let (anchors, mut complaints) = anchors(&rules.text);
    assert!(anchors.len() > 50, "the rules could not be read: {anchors:?}");
    for file in &tree {
        complaints.extend(nowhere(&file.path, &file.text, &anchors));
    }
    none(&complaints);
}

/// The anchors of a page's headings, as whoever shows Markdown makes them; a heading that stands
/// twice is a complaint.
fn anchors(text: &str) -> (BTreeSet<String>, Vec<String>) {
    let (mut anchors, mut complaints) = (BTreeSet::new(), Vec::new());
    for heading in text.lines().filter(|line| line.starts_with('#')) {
        let anchor = anchor(heading.trim_start_matches('#').trim());
        if !anchors.insert(anchor.clone()) {
            complaints.push(format!("{RULES}: the heading of `#{anchor}` stands twice"));
        }
    }
    (anchors, complaints)
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(*c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Anchors that are named and not there. A file's header names several in a line, the rules
/// themselves without a path.
fn nowhere(path: &str, text: &str, anchors: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in text.lines() {
        let sign = match path {
            RULES => "](#",
            _ if line.starts_with("//!") && line.contains(SIGN) => "#",
            _ => SIGN,
        };
        for part in line.split(sign).skip(1) {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(part.len());
            let anchor = &part[..end];
            if !anchors.contains(anchor) {
                complaints.push(format!("{path}: there is no rule `#{anchor}`"));
            }
        }
    }
    complaints
}

#[test]
fn every_runbook_that_is_named_is_there() {
    let tree = tree();
    let pages =
        tree.iter().filter_map(|file| file.path.strip_prefix(RUNBOOKS)?.strip_suffix(".md")).collect();
    let sources = tree.iter().filter(|file| file.path.starts_with("src/"));
    none(&sources.flat_map(|file| unwritten(&file.path, &file.text, &pages)).collect::<Vec<_>>());
}

/// Runbooks that messages name and nobody has written.
fn unwritten(path: &str, text: &str, pages: &BTreeSet<&str>) -> Vec<String> {
    let named = ["see the runbook ", "(runbook "].into_iter().flat_map(|sign| text.split(sign).skip(1));
    let named = named.map(|part| {
        let end = part.find(|c: char| !matches!(c, 'a'..='z' | '-' | '.')).unwrap_or(part.len());
        &part[..end]
    });
    let linked = text.split(RUNBOOKS).skip(1).filter_map(|part| part.split_once(".md").map(|(name, _)| name));
    // A name that is put together is none.
    let names = named.chain(linked).filter(|name| !name.is_empty() && !name.contains(['{', '\n']));
    names
        .filter(|name| !pages.contains(name))
        .map(|name| format!("{path}: there is no runbook `{name}`"))
        .collect()
}

#[test]
fn checks_of_runbooks_complain() {
    let pages = BTreeSet::from(["clock", "lifecycle.stop-stuck"]);
    let of = |text: &str| unwritten("src/a.rs", &text.replace('@', RUNBOOKS), &pages).len();
    assert_eq!(of("see the runbook clock; (runbook lifecycle.stop-stuck) and @clock.md, @{name}.md"), 0);
    assert_eq!(of("see the runbook clocks, (runbook gone) and @away.md"), 3);
}

#[test]
fn checks_of_rules_complain() {
    let (anchors, twice) = anchors("# A rule\n\n## Set-back\n\ntext # no heading\n\n# A rule\n");
    assert_eq!(anchors, BTreeSet::from(["a-rule".to_owned(), "set-back".to_owned()]));
    assert_eq!(twice.len(), 1);
    let named = |path: &str, text: &str| nowhere(path, &text.replace('@', SIGN), &anchors).len();
    assert_eq!(named("docs/a.md", "[a](../spec/@a-rule), `spec/@set-back`: [b](b.md#c)"), 0);
    assert_eq!(named("docs/a.md", "[a](../spec/@a-rul)"), 1);
    assert_eq!(named(RULES, "[a](#a-rule), [b](#b) and [c](c.md#c)"), 1);
    assert_eq!(named("src/bus/a.rs", "//! The rules: spec/@a-rule, #set-back and #gone.\n// #a"), 1);
}
