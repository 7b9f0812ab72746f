//! Loading: the layers, laid over each other, with every fault told at once.
//!
//! Owns: the order of the layers, and where each value came from.
//! Never: stops at the first fault where the next can be found too; a faulty value counts as its default meanwhile.
//! Holds: a later layer wins whole leaves; lists are not merged.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{
    Config,
    agree::agree,
    check::{Wrong, check, coerce, nearest, unknown},
    excerpt::Excerpt,
    fields::{FIELDS, SHARED_SECTIONS, TYPE_FIELDS, TYPE_REQUIRED, code_of, find, is_section, variable},
    node::{self, Content, Node, Pair},
    own_types, supervisor,
};
use crate::contract::Contract;

/// Settings of which one stands for the other: the layer that says either replaces both.
const INSTEAD: &[(&str, &str)] = &[("amqp.url", "amqp.urls"), ("amqp.urls", "amqp.url")];
/// The largest config or schema file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where the settings come from, the weakest first.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The config file.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// Flags of the command line.
    pub flags: Vec<Setting>,
}

/// A setting by a flag.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The flag, as people write it.
    pub flag: String,
    /// The setting's path.
    pub path: String,
    /// The value.
    pub value: String,
}

/// A config that stands.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The contract under its limits, with the deployment's own types.
    pub contract: Contract,
    /// What is worth a line at the start, and no fault.
    pub warnings: Vec<String>,
}

/// One thing wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
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

impl Fault {
    /// What people see of it, each line after `margin`: where and what, the line that it stands on, and what to do.
    pub fn drawn(&self, margin: &str) -> String {
        let code = self.code.map(|code| format!("{code}: ")).unwrap_or_default();
        let inner = format!("{margin}    ");
        let source = self.source.as_ref().map(|source| source.drawn(&inner)).unwrap_or_default();
        format!("{margin}{}: {code}{}\n{source}{inner}{}\n", self.at, self.message, self.help)
    }
}

/// Why there is no config.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the config file `{path}` cannot be read; name one that can with --config")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's words.
        source: io::Error,
    },
    /// Something in the layers is wrong.
    #[error("the config has {}; mend each and try again", count(.faults.len()))]
    Faulty {
        /// All of it, in the order of the layers.
        faults: Vec<Fault>,
    },
}

fn count(faults: usize) -> String {
    if faults == 1 { "1 fault".to_owned() } else { format!("{faults} faults") }
}

/// Loads the config.
///
/// # Errors
/// When the file cannot be read, or with every fault that could be found.
pub fn load(layers: &Layers) -> Result<Loaded, ConfigError> {
    let mut merge = Merge::default();
    if let Some(path) = &layers.file {
        let text = read_text(path)
            .map_err(|source| ConfigError::Unreadable { path: path.display().to_string(), source })?;
        merge.file(&path.display().to_string(), &text);
    }
    merge.env(&layers.env);
    merge.flags(&layers.flags);
    let base = layers.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    merge.finish(&|schema| read_text(&base.join(schema)))
}

/// Reads a config from its text alone, without environment, flags or files; `name` is what its faults call it, and
/// `schemas` answers for the schema files that it names.
///
/// # Errors
/// With every fault that could be found.
pub fn parse(
    name: &str,
    text: &str,
    schemas: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Loaded, ConfigError> {
    let mut merge = Merge::default();
    merge.file(name, text);
    merge.finish(schemas)
}

/// Reads a text file of bounded size.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        let fault = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, fault));
    }
    Ok(text)
}

/// Where a value stands.
#[derive(Clone, Default)]
pub(super) struct Place {
    at: String,
    source: Option<Excerpt>,
}

impl Place {
    /// A variable or a flag.
    fn named(name: &str) -> Self {
        Self { at: name.to_owned(), source: None }
    }

    pub(super) fn line(file: &str, source: Excerpt) -> Self {
        Self { at: format!("{file}:{}", source.line), source: Some(source) }
    }
}

/// The layers so far.
#[derive(Default)]
pub(super) struct Merge {
    value: Map<String, Value>,
    /// Where each path's value stands.
    origins: BTreeMap<String, Place>,
    /// The paths that the present layer has set.
    layer: BTreeSet<String>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Merge {
    pub(super) fn fault(&mut self, Place { at, source }: Place, path: &str, wrong: Wrong) {
        let Wrong { message, help, code } = wrong;
        self.faults.push(Fault { code, at, path: path.to_owned(), message, help, source });
    }

    /// A fault of a path that has been set; the default where it has not.
    pub(super) fn fault_of(&mut self, path: &str, wrong: Wrong) {
        let place = self.origins.get(path).cloned().unwrap_or_else(|| Place::named("default"));
        self.fault(place, path, wrong);
    }

    /// Whether a path has been set.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.origins.contains_key(path)
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    fn finish(mut self, schemas: own_types::Read<'_>) -> Result<Loaded, ConfigError> {
        let Some(mut config) = self.config() else { return Err(ConfigError::Faulty { faults: self.faults }) };
        if let Some(first) = config.amqp.urls.first() {
            config.amqp.url = first.clone();
        }
        agree(&config, &mut self);
        if config.types.is_empty() && !self.faults.is_empty() {
            // Compiling the built-in schemas would take its time and find nothing more.
            return Err(ConfigError::Faulty { faults: self.faults });
        }
        let contract =
            own_types::contract(config.limits.into(), &config.types, schemas, &mut |index, wrong| {
                let path = index.map_or_else(|| "types".to_owned(), |index| format!("types[{index}]"));
                self.fault_of(&path, wrong);
            });
        match contract {
            Some(contract) if self.faults.is_empty() => {
                Ok(Loaded { config, contract, warnings: self.warnings })
            }
            _ => Err(ConfigError::Faulty { faults: self.faults }),
        }
    }

    fn file(&mut self, name: &str, text: &str) {
        self.layer.clear();
        match node::read(text) {
            Ok(Node { content: Content::Map(pairs), .. }) => self.section(name, "", &pairs),
            Ok(Node { content: Content::Scalar(Value::Null), .. }) => {}
            Ok(node) => {
                let wrong = Wrong::new("the file is not a mapping", "write it as `key: value` lines");
                self.fault(Place::line(name, Excerpt::of_item(&node)), "", wrong);
            }
            Err(unreadable) => {
                let line = unreadable.line.unwrap_or(1);
                let place = Place { at: format!("{name}:{line}"), source: Excerpt::of_line(text, line) };
                let help = "see that line; indentation, quotes and colons are the usual causes";
                self.fault(place, "", Wrong::new(unreadable.message, help));
            }
        }
    }

    fn section(&mut self, file: &str, prefix: &str, pairs: &[Pair]) {
        for pair in pairs {
            let Pair { key, node, .. } = pair;
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            if let (Content::List(items), supervisor::PATH) = (&node.content, path.as_str()) {
                self.workers(file, pair, items);
                continue;
            }
            if let Some(field) = find(&path) {
                let place = Place::line(file, Excerpt::of_value(pair, field.kind));
                match check(field, &path, &plain(node)) {
                    Ok(()) => self.set(&path, plain(node), place),
                    Err(wrong) => self.fault(place, &path, wrong.with_code(code_of(&path))),
                }
                continue;
            }
            match &node.content {
                Content::Map(pairs) if is_section(&path) => self.section(file, &path, pairs),
                Content::Scalar(Value::Null) if is_section(&path) || path == "types" => {}
                Content::List(items) if path == "types" => self.types(file, items),
                _ => self.stray(Place::line(file, Excerpt::of_key(pair)), prefix, &path),
            }
        }
    }

    /// What stands where nothing of its kind belongs.
    fn stray(&mut self, place: Place, prefix: &str, path: &str) {
        if path == "types" {
            self.fault(place, path, Wrong::new("`types` wants a list", "write one `- type: …` for each"));
        } else if is_section(path) {
            let help = format!("put its keys under `{path}:`, indented");
            self.fault(place, path, Wrong::new(format!("`{path}` is a section"), help));
        } else if SHARED_SECTIONS.contains(&prefix) {
            let Wrong { message, help, .. } = unknown(path);
            self.warnings.push(format!("{}: {message}, so nobody reads it; {help}", place.at));
        } else {
            self.fault(place, path, unknown(path));
        }
    }

    fn types(&mut self, file: &str, items: &[Node]) {
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let shown = format!("types[{index}]");
            let place = Place::line(file, Excerpt::of_item(item));
            let before = self.faults.len();
            let Content::Map(pairs) = &item.content else {
                let wrong =
                    Wrong::new(format!("`{shown}` wants a mapping"), "write `type` and `schema` for it");
                self.fault(place, &shown, wrong);
                continue;
            };
            for pair in pairs {
                let path = format!("{shown}.{}", pair.key);
                let Some(field) = TYPE_FIELDS.iter().find(|field| field.path == pair.key) else {
                    let wrong = unknown(&format!("types[].{}", pair.key));
                    self.fault(Place::line(file, Excerpt::of_key(pair)), &path, wrong);
                    continue;
                };
                if let Err(wrong) = check(field, &path, &plain(&pair.node)) {
                    self.fault(Place::line(file, Excerpt::of_value(pair, field.kind)), &path, wrong);
                }
            }
            for required in TYPE_REQUIRED {
                if !pairs.iter().any(|pair| pair.key == *required) {
                    let wrong = Wrong::new(
                        format!("`{shown}` has no `{required}`"),
                        format!("add `{required}: …` to it"),
                    );
                    self.fault(place.clone(), &shown, wrong);
                }
            }
            if self.faults.len() == before {
                self.origins.insert(format!("types[{}]", list.len()), place);
                list.push(plain(item));
            }
        }
        self.value.insert("types".to_owned(), Value::Array(list));
    }

    fn env(&mut self, env: &[(String, String)]) {
        self.layer.clear();
        for (name, text) in env.iter().filter(|(name, _)| name.starts_with("SWARMGATE_")) {
            if let Some(field) = FIELDS.iter().find(|field| variable(field.path) == *name) {
                self.text(field.path, text, name);
                continue;
            }
            // Container platforms set variables of this shape themselves, so a stranger is no fault.
            let names: Vec<String> = FIELDS.iter().map(|field| variable(field.path)).collect();
            if name != "SWARMGATE_CONFIG"
                && let Some(near) = nearest(name, names.iter().map(String::as_str))
                && strsim::damerau_levenshtein(name, near) <= 2
            {
                self.warnings.push(format!(
                    "the environment variable `{name}` is read by nobody; did you mean `{near}`?"
                ));
            }
        }
    }

    fn flags(&mut self, flags: &[Setting]) {
        self.layer.clear();
        for Setting { flag, path, value } in flags {
            match find(path) {
                Some(field) => self.text(field.path, value, flag),
                None if path == "types" || path.starts_with("types[") => {
                    let wrong =
                        Wrong::new("`types` cannot be set by a flag", "declare types in the config file");
                    self.fault(Place::named(flag), path, wrong);
                }
                None => self.fault(Place::named(flag), path, unknown(path)),
            }
        }
    }

    fn text(&mut self, path: &str, text: &str, name: &str) {
        let Some(field) = find(path) else { return };
        let value = coerce(field.kind, text);
        match check(field, path, &value) {
            Ok(()) => self.set(path, value, Place::named(name)),
            Err(wrong) => self.fault(Place::named(name), path, wrong.with_code(code_of(path))),
        }
    }

    pub(super) fn set(&mut self, path: &str, value: Value, place: Place) {
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
            // Leaves and sections are told apart by the table, so a section is never set to a value.
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

    /// The typed config; the checks have let through only what fits, and were they wrong this says where.
    fn config(&mut self) -> Option<Config> {
        match serde_path_to_error::deserialize(Value::Object(self.value.clone())) {
            Ok(config) => Some(config),
            Err(fault) => {
                let path = fault.path().to_string();
                let wrong = Wrong::new(
                    format!("`{path}` does not fit"),
                    "`swarmgate check config --print-defaults` shows the form of every key",
                );
                self.fault_of(&path, wrong);
                None
            }
        }
    }
}

/// A node without its lines.
pub(super) fn plain(node: &Node) -> Value {
    match &node.content {
        Content::Scalar(value) => value.clone(),
        Content::List(list) => Value::Array(list.iter().map(plain).collect()),
        Content::Map(pairs) => {
            Value::Object(pairs.iter().map(|pair| (pair.key.clone(), plain(&pair.node))).collect())
        }
    }
}
