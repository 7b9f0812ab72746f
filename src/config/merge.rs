//! The layers laid over each other so far.
//!
//! Owns: which value counts, where each stands, and the faults and warnings in the order in which
//! they were found.
//! Never: reads a layer or checks a value; those who do hand both in.
//! Holds: a later layer wins whole leaves; lists are not merged.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{excerpt::Excerpt, wrong::Wrong};

/// Settings of which one stands for the other: the layer that says either replaces both.
const INSTEAD: &[(&str, &str)] = &[("amqp.url", "amqp.urls"), ("amqp.urls", "amqp.url")];

/// The layers so far.
#[derive(Default)]
pub(super) struct Merge {
    pub(super) value: Map<String, Value>,
    /// Where each path's value stands.
    pub(super) origins: BTreeMap<String, SettingPlace>,
    /// The paths that the present layer has set.
    pub(super) layer: BTreeSet<String>,
    pub(super) faults: Vec<ConfigFault>,
    pub(super) warnings: Vec<String>,
}

impl Merge {
    pub(super) fn fault(&mut self, SettingPlace { at, source }: SettingPlace, path: &str, wrong: Wrong) {
        let Wrong { message, help, code } = wrong;
        self.faults.push(ConfigFault { code, at, path: path.to_owned(), message, help, source });
    }

    /// A fault of a path that has been set; the default where it has not.
    pub(super) fn fault_of(&mut self, path: &str, wrong: Wrong) {
        let place = self.origins.get(path).cloned().unwrap_or_else(|| SettingPlace::named("default"));
        self.fault(place, path, wrong);
    }

    /// Whether a path has been set.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.origins.contains_key(path)
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    pub(super) fn set(&mut self, path: &str, value: Value, place: SettingPlace) {
        if let Some((_, other)) = INSTEAD.iter().find(|(one, _)| *one == path) {
            if self.layer.contains(*other) {
                let message = format!("`{path}` and `{other}` are both set, and each stands for the other");
                self.fault(place.clone(), path, Wrong::new(message, "give one of the two"));
            }
            // What a layer before has said of it counts no more.
            self.origins.remove(*other);
            self.take(other);
        }
        self.layer.insert(path.to_owned());
        self.origins.insert(path.to_owned(), place);
        let (sections, leaf) = path.rsplit_once('.').unwrap_or(("", path));
        let mut into = &mut self.value;
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            let inner = into.entry(section).or_insert_with(|| Value::Object(Map::new()));
            // Leaves and sections are told apart by the table, so a section is never set to a
            // value.
            let Some(inner) = inner.as_object_mut() else { return };
            into = inner;
        }
        into.insert(leaf.to_owned(), value);
    }

    /// Takes a leaf out of what is set.
    fn take(&mut self, path: &str) {
        let (sections, leaf) = path.rsplit_once('.').unwrap_or(("", path));
        let mut from = Some(&mut self.value);
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            from = from.and_then(|from| from.get_mut(section)?.as_object_mut());
        }
        from.and_then(|from| from.remove(leaf));
    }
}

/// Where a value stands.
#[derive(Clone, Default)]
pub(super) struct SettingPlace {
    pub(super) at: String,
    pub(super) source: Option<Excerpt>,
}

impl SettingPlace {
    /// A variable or a flag.
    pub(super) fn named(name: &str) -> Self {
        Self { at: name.to_owned(), source: None }
    }

    pub(super) fn line(file: &str, source: Excerpt) -> Self {
        Self { at: format!("{file}:{}", source.line), source: Some(source) }
    }
}

/// One thing wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigFault {
    /// Its code, where the bootstrap contract gives it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Where it stands: `FILE:LINE`, an environment variable or a flag.
    pub at: String,
    /// The setting's path; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// The line of the file, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Excerpt>,
}

impl ConfigFault {
    /// What people see of it, each line after `margin`: where and what, the line that it stands on,
    /// and what to do.
    pub fn drawn(&self, margin: &str) -> String {
        let code = self.code.map(|code| format!("{code}: ")).unwrap_or_default();
        let inner = format!("{margin}    ");
        let source = self.source.as_ref().map(|source| source.drawn(&inner)).unwrap_or_default();
        format!("{margin}{}: {code}{}\n{source}{inner}{}\n", self.at, self.message, self.help)
    }
}
