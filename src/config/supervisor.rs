//! The rows of `supervisor.workers`: read, checked and described.
//!
//! Owns: what a row may hold, the faults of each of its keys, what has to agree across rows, and
//! their JSON Schema.
//! Never: repeats a word of a command or a value of an environment, for either may hold a secret.
//! Holds: every fault of every row is told at once; rows that pass make workers whose ids differ.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::workers::{COMMAND_WORDS_MAX, COUNT_MAX, OWN_VARIABLES, ROWS_MAX, WORD_BYTES_MAX, WORKERS_MAX};
use super::{
    Config,
    check::check,
    excerpt::Excerpt,
    merge::{Merge, SettingPlace},
    nearest::nearest,
    node::{Content, Node, Pair},
    section::KeyKind,
    wrong::Wrong,
};
use crate::contract::routing::{SEGMENT_BYTES_MAX, SEGMENT_PATTERN};

/// Where the rows stand.
pub(super) const PATH: &str = "supervisor.workers";
/// How many variables a row may set.
const VARIABLES_MAX: usize = 256;

/// What a row may hold, and what it means.
const KEYS: [(&str, &str); 6] = [
    ("id", "The worker's id, its instance on the bus; with a count above one, what its ids begin with."),
    ("role", "The worker's role on the bus."),
    ("command", "The program and its arguments, each a word of its own; no shell reads them."),
    ("env", "What the worker's environment has beside PATH, HOME, LANG and the like."),
    ("count", "How many of it run: `ID-1`, `ID-2` and so on where it is more than one."),
    ("required", "Whether no worker starts to work before this one is ready."),
];
const REQUIRED: [&str; 3] = ["id", "role", "command"];

impl Merge {
    /// Takes the rows of a file.
    pub(super) fn workers(&mut self, file: &str, pair: &Pair, items: &[Node]) {
        let mut rows = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let shown = format!("{PATH}[{index}]");
            let place = SettingPlace::line(file, Excerpt::of_item(item));
            let Content::Map(pairs) = &item.content else {
                let help = "write `id`, `role` and `command` for it";
                self.fault(place, &shown, Wrong::new(format!("`{shown}` wants a mapping"), help));
                continue;
            };
            let mut sound = true;
            for pair in pairs {
                let path = format!("{shown}.{}", pair.key);
                if let Err(wrong) = key(&path, &pair.key, &pair.node.plain()) {
                    sound = false;
                    self.fault(SettingPlace::line(file, Excerpt::of_key(pair)), &path, wrong);
                }
            }
            for required in REQUIRED.iter().filter(|key| !pairs.iter().any(|pair| pair.key == **key)) {
                sound = false;
                let wrong = Wrong::new(
                    format!("`{shown}` has no `{required}`"),
                    format!("add `{required}: …` to it"),
                );
                self.fault(place.clone(), &shown, wrong);
            }
            if sound {
                rows.push(item.plain());
            }
        }
        let place = SettingPlace::line(file, Excerpt::of_key(pair));
        if items.len() > ROWS_MAX {
            let message = format!("`{PATH}` has {} rows, more than {ROWS_MAX}", items.len());
            self.fault(place, PATH, Wrong::new(message, "use `count` for workers that are alike"));
            return;
        }
        self.set(PATH, Value::Array(rows), place);
    }
}

/// Checks one key of a row.
fn key(path: &str, key: &str, value: &Value) -> Result<(), Wrong> {
    let whole = KeyKind::Whole(1, u64::from(COUNT_MAX));
    let checked = |kind| check(kind, path, value);
    match key {
        "id" | "role" => checked(KeyKind::Segment),
        "count" => checked(whole),
        "command" => command(path, value),
        "env" => env(path, value),
        "required" if value.is_boolean() => Ok(()),
        "required" => Err(Wrong::new(format!("`{path}` wants true or false"), "write `true` or `false`")),
        _ => {
            let near = nearest(key, KEYS.iter().map(|(key, _)| *key));
            let help = near.map_or_else(
                || "a row has `id`, `role`, `command`, `env`, `count` and `required`".to_owned(),
                |near| format!("the nearest key is `{PATH}[].{near}`"),
            );
            Err(Wrong::new(format!("`{path}` is not a key"), help))
        }
    }
}

fn command(path: &str, value: &Value) -> Result<(), Wrong> {
    let words = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let fits = |word: &Value| word.as_str().is_some_and(is_word);
    let program = words.first().and_then(Value::as_str).is_some_and(|program| !program.is_empty());
    if program && words.len() <= COMMAND_WORDS_MAX && words.iter().all(fits) {
        return Ok(());
    }
    let help = format!(
        "write it like `[python3, worker.py]`: 1 to {COMMAND_WORDS_MAX} texts, numbers in quotes, none over \
         {WORD_BYTES_MAX} bytes"
    );
    Err(Wrong::new(format!("`{path}` is not a program with its arguments"), help))
}

fn env(path: &str, value: &Value) -> Result<(), Wrong> {
    let wrong = |message: &str, help: &str| Err(Wrong::new(format!("`{path}` {message}"), help));
    let Some(variables) = value.as_object() else {
        return wrong("wants a mapping", "write it as `NAME: value` lines");
    };
    if variables.len() > VARIABLES_MAX {
        return wrong("sets more than 256 variables", "put them into a file that the worker reads");
    }
    if variables.keys().any(|name| name.starts_with(OWN_VARIABLES)) {
        return wrong(
            "sets a variable that begins with `SWARMGATE_`",
            "those are the supervisor's own to set",
        );
    }
    let is_name = |name: &String| {
        !name.is_empty()
            && !name.starts_with(|letter: char| letter.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !variables.keys().all(is_name) {
        return wrong("has a name that no variable has", "use letters, digits and `_`, a letter first");
    }
    if !variables.values().all(|value| value.as_str().is_some_and(is_word)) {
        return wrong("has a value that is no text", "put it in quotes");
    }
    Ok(())
}

/// Whether a text can be handed to a process.
fn is_word(word: &str) -> bool {
    word.len() <= WORD_BYTES_MAX && !word.contains('\0')
}

/// What has to agree across the settings of the supervisor.
pub(super) fn agree(config: &Config, merge: &mut Merge) {
    let settings = &config.supervisor;
    let wanted = settings.wanted();
    if wanted.len() > WORKERS_MAX {
        let message = format!("`{PATH}` stands for {} processes, more than {WORKERS_MAX}", wanted.len());
        merge.fault_of(PATH, Wrong::new(message, "lower a `count`, or run a second supervisor"));
        return;
    }
    let mut seen = BTreeSet::new();
    for instance in wanted.iter().map(|wanted| wanted.scope.instance.as_str()) {
        if instance.len() > SEGMENT_BYTES_MAX {
            let message = format!("`{PATH}` makes an id of more than {SEGMENT_BYTES_MAX} bytes");
            merge.fault_of(PATH, Wrong::new(message, "shorten the `id`: its number is added to it"));
        } else if !seen.insert(instance) {
            let message = format!("`{PATH}` makes two workers with the id `{instance}`");
            let help = "ids are unique in a supervisor, whatever their roles: rename one";
            merge.fault_of(PATH, Wrong::new(message, help));
        }
    }
    if settings.heartbeat_ms >= settings.heartbeat_timeout_ms {
        let wrong = Wrong::new(
            "`supervisor.heartbeat_timeout_ms` is not above `supervisor.heartbeat_ms`, so no worker could live",
            "make it several times as long",
        );
        merge.fault_of("supervisor.heartbeat_timeout_ms", wrong);
    }
    if settings.restart_min_ms > settings.restart_max_ms {
        let wrong = Wrong::new(
            "`supervisor.restart_min_ms` is above `supervisor.restart_max_ms`",
            "lower the first pause or raise the longest",
        );
        merge.fault_of("supervisor.restart_min_ms", wrong);
    }
}

/// Each key of a row: its name, its default, what it may be, what it means.
pub(super) fn keys() -> impl Iterator<Item = (&'static str, &'static str, String, &'static str)> {
    KEYS.iter().map(|(key, doc)| {
        let (default, may_be) = match *key {
            "command" => ("required", "list of texts".to_owned()),
            "env" => ("–", "`NAME: value` lines".to_owned()),
            "count" => ("`1`", format!("1 to {COUNT_MAX}")),
            "required" => ("`true`", "`true`, `false`".to_owned()),
            _ => ("required", "routing-key segment".to_owned()),
        };
        (*key, default, may_be, *doc)
    })
}

/// The shape of the rows.
pub(super) fn shape() -> Value {
    let segment = json!({ "type": "string", "pattern": SEGMENT_PATTERN });
    let shape = |key: &str| match key {
        "id" | "role" => segment.clone(),
        "command" => json!({
            "type": "array",
            "items": { "type": "string" },
            "minItems": 1,
            "maxItems": COMMAND_WORDS_MAX,
        }),
        "env" => json!({
            "type": "object",
            "propertyNames": { "pattern": "^(?!SWARMGATE_)[A-Za-z_][A-Za-z0-9_]*$" },
            "additionalProperties": { "type": "string" },
            "maxProperties": VARIABLES_MAX,
        }),
        "count" => json!({ "type": "integer", "minimum": 1, "maximum": COUNT_MAX, "default": 1 }),
        _ => json!({ "type": "boolean", "default": true }),
    };
    let properties: serde_json::Map<String, Value> = KEYS
        .iter()
        .map(|(key, doc)| {
            let mut shape = shape(key);
            if let Some(shape) = shape.as_object_mut() {
                shape.insert("description".to_owned(), (*doc).into());
            }
            ((*key).to_owned(), shape)
        })
        .collect();
    json!({
        "type": "array",
        "maxItems": ROWS_MAX,
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": REQUIRED,
            "properties": properties,
        },
    })
}

/// What the printed configs show of a row.
pub(super) fn example() -> String {
    let mut text =
        String::from("  #  - id: gen\n  #    role: generator\n  #    command: [python3, worker.py]\n");
    for (key, doc) in KEYS.iter().filter(|(key, _)| !REQUIRED.contains(key)) {
        text.push_str(&format!("  #    {key}: …  # {doc}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::config::{ConfigError, Loaded};

    fn read(yaml: &str) -> Result<Loaded, ConfigError> {
        parse("c.yaml", yaml, &|_| Err(std::io::ErrorKind::NotFound.into()))
    }

    #[test]
    fn rows_become_workers() {
        let yaml = "supervisor:\n  swarm_id: kestrel\n  workers:\n    - {id: gen, role: generator, command: [run, '--x'], count: 2}\n    - id: ctl\n      role: swarm-controller\n      command: [python3, c.py]\n      env: {A: b}\n      required: false\n";
        let settings = read(yaml).unwrap().config.supervisor;
        let names: Vec<String> = settings.wanted().iter().map(|wanted| wanted.scope.to_string()).collect();
        assert_eq!(
            names,
            ["kestrel/generator/gen-1", "kestrel/generator/gen-2", "kestrel/swarm-controller/ctl"]
        );
        assert!(settings.workers[0].required && !settings.workers[1].required);
        assert_eq!(settings.workers[1].env["A"], "b");
    }

    #[test]
    fn every_fault_of_every_row_is_told_and_no_secret() {
        let yaml = "supervisor:\n  heartbeat_ms: 5000\n  restart_min_ms: 20000\n  workers:\n    - {id: a.b, role: gen, command: [canary, 1], count: 0, comand: [canary]}\n    - {role: gen, command: canary, env: {SWARMGATE_X: canary}, required: sure}\n    - canary\n    - {id: x, role: g, command: [a], env: {T: 1}}\n";
        let Err(ConfigError::Faulty { faults }) = read(yaml) else { panic!("it loaded") };
        let told: Vec<String> = faults.iter().map(|fault| fault.drawn("")).collect();
        let at = |path: &str| faults.iter().any(|fault| fault.path == path);
        for path in [
            "supervisor.workers[0].id",
            "supervisor.workers[0].command",
            "supervisor.workers[0].count",
            "supervisor.workers[0].comand",
            "supervisor.workers[1].command",
            "supervisor.workers[1].env",
            "supervisor.workers[1].required",
            "supervisor.workers[1]",
            "supervisor.workers[2]",
            "supervisor.workers[3].env",
            "supervisor.heartbeat_timeout_ms",
            "supervisor.restart_min_ms",
        ] {
            assert!(at(path), "{path} in {told:#?}");
        }
        assert!(!told.concat().contains("canary"), "{told:#?}");
        assert!(told.concat().contains("`supervisor.workers[].command`"), "{told:#?}");
    }

    #[test]
    fn ids_are_unique_over_all_rows() {
        let yaml = "supervisor:\n  workers:\n    - {id: a, role: g, command: [x], count: 2}\n    - {id: a-2, role: h, command: [x]}\n";
        let Err(ConfigError::Faulty { faults }) = read(yaml) else { panic!("it loaded") };
        assert!(faults[0].message.contains("`a-2`"), "{faults:?}");
    }
}
