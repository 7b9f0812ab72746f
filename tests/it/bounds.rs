//! What the router remembers is bounded: below, at and beyond each bound, and under a flood.
//!
//! Owns: for each bound what happens one below it, at it and one beyond; that a stop passes at
//! each; and that a flood of what each bounds leaves the process no larger than the bound says.
//! Never: looks at the state but through what it tells of itself, or keeps what a flood leaves
//! behind.
//! Holds: the fold of what was written is the running state, also at every bound.

#[path = "bounds/flood.rs"]
mod flood;
#[path = "bounds/rules.rs"]
mod rules;
#[path = "bounds/world.rs"]
mod world;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use swarmgate::{
    contract::bound::Bound,
    decision::{rules::Rules, state::State},
};

/// Every member of what is recorded that can grow stands in the list, and every bound bounds
/// something.
#[test]
fn every_collection_has_a_bound() {
    let state = State::new(Rules::default());
    let collections = state.collections();
    let names: BTreeSet<&str> = collections.iter().map(|collection| collection.name).collect();
    assert_eq!(names.len(), collections.len(), "a name twice");
    for collection in &collections {
        assert!(collection.len == 0 && collection.max > 0 && collection.max < usize::MAX, "{collection:?}");
    }
    walk(&state.recorded(), "", &names);
    // Uses that wait for their review are a part of the challenges that are over.
    for bound in Bound::ALL.into_iter().filter(|bound| *bound != Bound::Unreviewed) {
        assert!(collections.iter().any(|collection| collection.bound == bound), "{bound:?} bounds nothing");
    }
}

/// Arrays and objects of a new state are collections, or hold them.
fn walk(value: &Value, path: &str, names: &BTreeSet<&str>) {
    // Held under the name of what holds them; of settings there is one a row of their table.
    let inner = ["flights.flights", "known.swarms", "applied.applied", "safety.global", "settings"];
    let Some(members) = value.as_object() else { return };
    for (name, member) in members.iter().filter(|(_, member)| member.is_array() || member.is_object()) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_part = names.iter().any(|known| known.starts_with(&format!("{path}.")));
        assert!(
            names.contains(path.as_str()) || is_part || inner.contains(&path.as_str()),
            "`{path}` has no bound"
        );
        walk(member, &path, names);
    }
}

#[test]
fn every_bound_stands_in_the_runbook_with_its_setting_and_rule() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating/runbooks/bounds.md");
    let page = fs::read_to_string(page).expect("the runbook");
    for bound in Bound::ALL {
        let row = format!("| `{}` | `{}`", bound.word(), bound.setting());
        let row = page.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("no `{row}`"));
        assert!(row.contains(bound.rule()), "{bound:?}: `{row}` does not say `{}`", bound.rule());
    }
}
