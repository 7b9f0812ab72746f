//! Loading: the layers, laid over each other, with every fault told at once.
//!
//! Owns: the order of the layers, where each value came from, and what has to agree across settings.
//! Never: stops at the first fault where the next can be found too; a faulty value counts as its default meanwhile.
//! Holds: a later layer wins whole leaves; lists are not merged.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{
    Config, Environment, IdentityMode,
    check::{Wrong, check, coerce, nearest, unknown},
    fields::{FIELDS, TYPE_FIELDS, TYPE_REQUIRED, find, is_section, variable},
    node::{self, Content, Node, Pair},
    own_types,
};
use crate::contract::Contract;

/// The largest config or schema file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

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
    /// Where it stands: `FILE:LINE`, an environment variable or a flag.
    pub at: String,
    /// The setting's path; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
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
        source: std::io::Error,
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
        match node::read(&text) {
            Ok(node) => merge.file(path, &node),
            Err(unreadable) => {
                let line = unreadable.line.unwrap_or(1);
                let help = "see that line; indentation, quotes and colons are the usual causes";
                merge.fault(format!("{}:{line}", path.display()), "", Wrong::new(unreadable.message, help));
            }
        }
    }
    merge.env(&layers.env);
    merge.flags(&layers.flags);
    let Some(config) = merge.config() else { return Err(ConfigError::Faulty { faults: merge.faults }) };
    merge.agree(&config);
    let base = layers.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let contract = own_types::contract(config.limits.into(), &config.types, base, &mut |index, wrong| {
        let path = index.map_or_else(|| "types".to_owned(), |index| format!("types[{index}]"));
        merge.fault_of(&path, wrong);
    });
    match contract {
        Some(contract) if merge.faults.is_empty() => {
            Ok(Loaded { config, contract, warnings: merge.warnings })
        }
        _ => Err(ConfigError::Faulty { faults: merge.faults }),
    }
}

/// Reads a text file of bounded size.
pub(super) fn read_text(path: &Path) -> Result<String, std::io::Error> {
    let mut text = String::new();
    let read = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        let fault = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, fault));
    }
    Ok(text)
}

/// The layers so far.
#[derive(Default)]
struct Merge {
    value: Map<String, Value>,
    /// Where each path's value stands.
    origins: BTreeMap<String, String>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Merge {
    fn fault(&mut self, at: String, path: &str, wrong: Wrong) {
        self.faults.push(Fault { at, path: path.to_owned(), message: wrong.message, help: wrong.help });
    }

    /// A fault of a path that has been set; the default where it has not.
    fn fault_of(&mut self, path: &str, wrong: Wrong) {
        let at = self.origins.get(path).cloned().unwrap_or_else(|| "default".to_owned());
        self.fault(at, path, wrong);
    }

    fn file(&mut self, path: &Path, node: &Node) {
        match &node.content {
            Content::Map(pairs) => self.section(&path.display().to_string(), "", pairs),
            Content::Scalar(Value::Null) => {}
            _ => {
                let wrong = Wrong::new("the file is not a mapping", "write it as `key: value` lines");
                self.fault(format!("{}:{}", path.display(), node.line), "", wrong);
            }
        }
    }

    fn section(&mut self, file: &str, prefix: &str, pairs: &[Pair]) {
        for Pair { key, line, node } in pairs {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let at = format!("{file}:{line}");
            match (&node.content, find(&path)) {
                (_, Some(field)) => match check(field, &path, &plain(node)) {
                    Ok(()) => self.set(&path, plain(node), at),
                    Err(wrong) => self.fault(at, &path, wrong),
                },
                (Content::Map(pairs), None) if is_section(&path) => self.section(file, &path, pairs),
                (Content::Scalar(Value::Null), None) if is_section(&path) || path == "types" => {}
                (Content::List(items), None) if path == "types" => self.types(file, items),
                (_, None) if path == "types" => {
                    self.fault(
                        at,
                        &path,
                        Wrong::new("`types` wants a list", "write one `- type: …` for each"),
                    );
                }
                (_, None) if is_section(&path) => {
                    let help = format!("put its keys under `{path}:`, indented");
                    self.fault(at, &path, Wrong::new(format!("`{path}` is a section"), help));
                }
                (_, None) => self.fault(at, &path, unknown(&path)),
            }
        }
    }

    fn types(&mut self, file: &str, items: &[Node]) {
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let shown = format!("types[{index}]");
            let at = format!("{file}:{}", item.line);
            let before = self.faults.len();
            let Content::Map(pairs) = &item.content else {
                self.fault(
                    at,
                    &shown,
                    Wrong::new(format!("`{shown}` wants a mapping"), "write `type` and `schema` for it"),
                );
                continue;
            };
            for Pair { key, line, node } in pairs {
                let path = format!("{shown}.{key}");
                let wrong = match TYPE_FIELDS.iter().find(|field| field.path == key) {
                    Some(field) => check(field, &path, &plain(node)).err(),
                    None => Some(unknown(&format!("types[].{key}"))),
                };
                if let Some(wrong) = wrong {
                    self.fault(format!("{file}:{line}"), &path, wrong);
                }
            }
            for required in TYPE_REQUIRED {
                if !pairs.iter().any(|pair| pair.key == *required) {
                    let wrong = Wrong::new(
                        format!("`{shown}` has no `{required}`"),
                        format!("add `{required}: …` to it"),
                    );
                    self.fault(at.clone(), &shown, wrong);
                }
            }
            if self.faults.len() == before {
                self.origins.insert(format!("types[{}]", list.len()), at);
                list.push(plain(item));
            }
        }
        self.value.insert("types".to_owned(), Value::Array(list));
    }

    fn env(&mut self, env: &[(String, String)]) {
        for (name, text) in env.iter().filter(|(name, _)| name.starts_with("SWARMGATE_")) {
            if let Some(field) = FIELDS.iter().find(|field| variable(field.path) == *name) {
                self.text(field.path, text, name.clone());
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
        for Setting { flag, path, value } in flags {
            match find(path) {
                Some(field) => self.text(field.path, value, flag.clone()),
                None if path == "types" || path.starts_with("types[") => {
                    let wrong =
                        Wrong::new("`types` cannot be set by a flag", "declare types in the config file");
                    self.fault(flag.clone(), path, wrong);
                }
                None => self.fault(flag.clone(), path, unknown(path)),
            }
        }
    }

    fn text(&mut self, path: &str, text: &str, at: String) {
        let Some(field) = find(path) else { return };
        let value = coerce(field.kind, text);
        match check(field, path, &value) {
            Ok(()) => self.set(path, value, at),
            Err(wrong) => self.fault(at, path, wrong),
        }
    }

    fn set(&mut self, path: &str, value: Value, at: String) {
        self.origins.insert(path.to_owned(), at);
        match path.split_once('.') {
            None => {
                self.value.insert(path.to_owned(), value);
            }
            Some((section, leaf)) => {
                let section = self.value.entry(section).or_insert_with(|| Value::Object(Map::new()));
                if let Some(section) = section.as_object_mut() {
                    section.insert(leaf.to_owned(), value);
                }
            }
        }
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

    /// What has to agree across settings.
    fn agree(&mut self, config: &Config) {
        if config.environment == Environment::Prod && config.identity.mode == IdentityMode::Open {
            let wrong = Wrong::new(
                "`environment` is `prod` and `identity.mode` is `open`: whoever can publish could command, unproven",
                "this release proves no sender, so run it as `stage` or `dev`, on a broker that only trusted users reach",
            );
            self.fault_of("environment", wrong);
        }
        if config.amqp.reconnect_min_ms > config.amqp.reconnect_max_ms {
            let wrong = Wrong::new(
                "`amqp.reconnect_min_ms` is above `amqp.reconnect_max_ms`",
                "lower the first pause or raise the longest",
            );
            self.fault_of("amqp.reconnect_min_ms", wrong);
        }
        if config.amqp.in_flight_bytes_max < config.limits.body_bytes_max {
            let wrong = Wrong::new(
                "`amqp.in_flight_bytes_max` is below `limits.body_bytes_max`, so the largest body could never be taken",
                "raise the first or lower the second",
            );
            self.fault_of("amqp.in_flight_bytes_max", wrong);
        }
    }
}

/// A node without its lines.
fn plain(node: &Node) -> Value {
    match &node.content {
        Content::Scalar(value) => value.clone(),
        Content::List(list) => Value::Array(list.iter().map(plain).collect()),
        Content::Map(pairs) => {
            Value::Object(pairs.iter().map(|pair| (pair.key.clone(), plain(&pair.node))).collect())
        }
    }
}
