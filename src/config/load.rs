//! Loading: the layers, laid over each other, with every fault told at once.
//!
//! Owns: the order of the layers, and where each value came from.
//! Never: stops at the first fault where the next can be found too; a faulty value counts as its
//! default meanwhile.
//! Holds: a later layer wins whole leaves; lists are not merged.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;
use thiserror::Error;

use super::{
    Config,
    agree::agree,
    check::{check, coerce, unknown},
    excerpt::Excerpt,
    fields::{FIELDS, SHARED_SECTIONS, code_of, find, is_section, variable},
    merge::{ConfigFault, Merge, SettingPlace},
    nearest::nearest,
    node::{self, Content, Node, Pair},
    own_types::{self, TYPE_FIELDS, TYPE_REQUIRED},
    supervisor,
    wrong::Wrong,
};
use crate::contract::Contract;

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
    pub flags: Vec<FlagSetting>,
}

/// A setting by a flag.
#[derive(Clone, Debug)]
pub struct FlagSetting {
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
        faults: Vec<ConfigFault>,
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

/// Reads a config from its text alone, without environment, flags or files; `name` is what its
/// faults call it, and `schemas` answers for the schema files that it names.
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

impl Merge {
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
                self.fault(SettingPlace::line(name, Excerpt::of_item(&node)), "", wrong);
            }
            Err(unreadable) => {
                let line = unreadable.line.unwrap_or(1);
                let place =
                    SettingPlace { at: format!("{name}:{line}"), source: Excerpt::of_line(text, line) };
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
                let place = SettingPlace::line(file, Excerpt::of_value(pair, field.kind));
                match check(field.kind, &path, &node.plain()) {
                    Ok(()) => self.set(&path, node.plain(), place),
                    Err(wrong) => self.fault(place, &path, wrong.with_code(code_of(&path))),
                }
                continue;
            }
            match &node.content {
                Content::Map(pairs) if is_section(&path) => self.section(file, &path, pairs),
                Content::Scalar(Value::Null) if is_section(&path) || path == "types" => {}
                Content::List(items) if path == "types" => self.types(file, items),
                _ => self.stray(SettingPlace::line(file, Excerpt::of_key(pair)), prefix, &path),
            }
        }
    }

    /// What stands where nothing of its kind belongs.
    fn stray(&mut self, place: SettingPlace, prefix: &str, path: &str) {
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
            let place = SettingPlace::line(file, Excerpt::of_item(item));
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
                    self.fault(SettingPlace::line(file, Excerpt::of_key(pair)), &path, wrong);
                    continue;
                };
                if let Err(wrong) = check(field.kind, &path, &pair.node.plain()) {
                    self.fault(SettingPlace::line(file, Excerpt::of_value(pair, field.kind)), &path, wrong);
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
                list.push(item.plain());
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
            if *name == variable("types") {
                self.types_elsewhere(name, "types");
                continue;
            }
            // Container platforms set variables of this shape themselves, so a stranger is no
            // fault.
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

    fn flags(&mut self, flags: &[FlagSetting]) {
        self.layer.clear();
        for FlagSetting { flag, path, value } in flags {
            match find(path) {
                Some(field) => self.text(field.path, value, flag),
                None if path == "types" || path.starts_with("types[") => self.types_elsewhere(flag, path),
                None => self.fault(SettingPlace::named(flag), path, unknown(path)),
            }
        }
    }

    /// Rows with schemas do not fit in a line.
    fn types_elsewhere(&mut self, name: &str, path: &str) {
        let message = "`types` cannot be set by a flag or a variable";
        self.fault(SettingPlace::named(name), path, Wrong::new(message, "declare types in the config file"));
    }

    fn text(&mut self, path: &str, text: &str, name: &str) {
        let Some(field) = find(path) else { return };
        let value = coerce(field.kind, text);
        match check(field.kind, path, &value) {
            Ok(()) => self.set(path, value, SettingPlace::named(name)),
            Err(wrong) => self.fault(SettingPlace::named(name), path, wrong.with_code(code_of(path))),
        }
    }

    /// The typed config; the checks have let through only what fits, and were they wrong this says
    /// where.
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
