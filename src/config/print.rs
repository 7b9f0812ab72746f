//! The settings for people and for editors.
//!
//! Owns: the two printed configs (every default, and one to start from) and the JSON Schema of
//! `swarmgate.yaml`.
//! Never: prints a setting in force; only the defaults, whose one password is the broker's own
//! well-known one.
//! Holds: the printed defaults load into `Config::default()`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    check::unit,
    fields::{FIELDS, SHARED_SECTIONS, variable},
    own_types::{TYPE_FIELDS, TYPE_REQUIRED},
    secret::{DEFAULT_URL, URLS_MAX},
    section::{Field, KeyKind},
    supervisor,
};
use crate::contract::routing::{SEGMENT_BYTES_MAX, SEGMENT_PATTERN};

/// What stands behind a value where a setting has no default.
const AN_EXAMPLE: &str = "  # an example; there is no default";

/// A `swarmgate.yaml` with every default in force, explained.
pub fn defaults_yaml() -> String {
    let mut text = String::from(
        "# swarmgate.yaml: every setting with its default.\n\
         # Each has an environment variable too (SWARMGATE_ and its path in capitals, dots as underscores)\n\
         # and a flag (--set PATH=VALUE). Defaults < this file < environment < flags. A list there is one,two or\n\
         # [one, two], and [] is none; `types` and `supervisor.workers` stand in this file only.\n",
    );
    let mut open = Vec::new();
    for field in FIELDS.iter() {
        let (indent, leaf) = descend(&mut text, &mut open, field.path);
        let _ = writeln!(text, "{indent}# {}{}", field.doc, bounds(field));
        let _ = match default_of(field).is_null() {
            true => writeln!(text, "{indent}#{leaf}: {}{AN_EXAMPLE}", example_of(field)),
            false => writeln!(text, "{indent}{leaf}: {}", example_of(field)),
        };
        text.push_str(&rows_example(field));
    }
    text.push_str("\n# Signal types of your own, each with the JSON Schema of its data.\ntypes: []\n");
    text.push_str(&types_example());
    text
}

/// A `swarmgate.yaml` to start from: what is given is set, every other setting stands as a comment
/// with its default. A setting is commented out by one `#` before its key, and by nothing between.
pub fn starting_yaml(schema: &str, given: &[(&str, &str)]) -> String {
    let mut text = format!(
        "# yaml-language-server: $schema={schema}\n\
         # swarmgate.yaml: what this deployment sets; what stands behind a `#` is the default.\n\
         # Take a `#` away to set a value. Each setting has an environment variable too (SWARMGATE_ and its path in\n\
         # capitals, dots as underscores) and a flag (--set PATH=VALUE). Defaults < this file < environment < flags.\n\
         # A list there is one,two or [one, two], and [] is none; `types` and `supervisor.workers` stand here only.\n\
         # `swarmgate check config FILE` tells every fault at once.\n"
    );
    let mut open = Vec::new();
    for field in FIELDS.iter() {
        let (indent, leaf) = descend(&mut text, &mut open, field.path);
        let _ = writeln!(text, "{indent}# {}{}", field.doc, bounds(field));
        let value =
            given.iter().find(|(path, _)| *path == field.path).map(|(_, value)| yaml(&(*value).into()));
        let _ = match value {
            Some(value) => writeln!(text, "{indent}{leaf}: {value}"),
            None if default_of(field).is_null() => {
                writeln!(text, "{indent}#{leaf}: {}{AN_EXAMPLE}", example_of(field))
            }
            None => writeln!(text, "{indent}#{leaf}: {}", example_of(field)),
        };
        text.push_str(&rows_example(field));
    }
    text.push_str("\n# Signal types of your own, each with the JSON Schema of its data.\n#types: []\n");
    text.push_str(&types_example());
    text
}

/// Opens the sections of a path that are not open yet; gives its leaf and the indentation of that.
fn descend<'a>(text: &mut String, open: &mut Vec<&'a str>, path: &'a str) -> (String, &'a str) {
    let (sections, leaf) = path.rsplit_once('.').unwrap_or(("", path));
    let sections: Vec<&str> = sections.split('.').filter(|section| !section.is_empty()).collect();
    let shared = open.iter().zip(&sections).take_while(|(one, other)| one == other).count();
    for (depth, section) in sections.iter().enumerate().skip(shared) {
        let gap = if depth == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}{}{section}:", "  ".repeat(depth));
    }
    let indent = "  ".repeat(sections.len());
    *open = sections;
    (indent, leaf)
}

/// What stands below a list of rows.
fn rows_example(field: &Field) -> String {
    if field.path == supervisor::PATH { supervisor::example() } else { String::new() }
}

fn types_example() -> String {
    let mut text = String::from("#  - type: cache-flush\n#    schema: schemas/cache-flush.schema.json\n");
    for field in TYPE_FIELDS.iter().filter(|field| !TYPE_REQUIRED.contains(&field.path)) {
        let _ = writeln!(text, "#    {}: …  # {}{}", field.path, field.doc, bounds(field));
    }
    text
}

fn bounds(field: &Field) -> String {
    match field.kind {
        KeyKind::Choice(words) if words.len() > 1 => format!(" One of: {}.", words.join(", ")),
        KeyKind::Whole(min, max) => {
            let unit = unit(field.path).strip_prefix(" of").unwrap_or_default();
            format!(" From {min} to {max}{unit}.")
        }
        _ => String::new(),
    }
}

/// The default as YAML; where there is none, the form that it has.
fn example_of(field: &Field) -> String {
    match (default_of(field), field.kind) {
        (Value::Null, KeyKind::ManagementUrl) => "\"http://broker:15672\"".to_owned(),
        (Value::Null, KeyKind::Path) if field.path.starts_with("amqp.tls.") => {
            format!(
                "\"/etc/swarmgate/{}.pem\"",
                if field.path.ends_with("ca_file") { "ca" } else { "swarmgate" }
            )
        }
        (Value::Null, KeyKind::SecretRef) => "env:NAME".to_owned(),
        (Value::Null, KeyKind::Urls) => format!("[\"{DEFAULT_URL}\"]"),
        (Value::Null, KeyKind::Path) => "\"/mnt/second/emergency.log\"".to_owned(),
        // The first word is as good as any; taken as it stands, null would be a fault.
        (Value::Null, KeyKind::Choice([word, ..])) => (*word).to_owned(),
        (value, _) => yaml(&value),
    }
}

/// The default of a key as a person writes it; null where it is left out.
pub(super) fn default_of(field: &Field) -> Value {
    match field.kind {
        // The broker's own well-known password is the one that is shown.
        KeyKind::Url => DEFAULT_URL.into(),
        // `amqp.url` stands for it.
        KeyKind::Urls => Value::Null,
        _ => field.default.clone(),
    }
}

/// A scalar; what is not a plain word is quoted as JSON is, which YAML reads alike.
pub(super) fn yaml(value: &Value) -> String {
    match value.as_str() {
        Some(word) if word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            word.to_owned()
        }
        _ => value.to_string(),
    }
}

/// The JSON Schema of `swarmgate.yaml`.
pub fn json_schema() -> Value {
    let mut top = Map::new();
    for field in FIELDS.iter() {
        let mut shape = shape(field);
        if let Some(shape) = shape.as_object_mut() {
            let default = default_of(field);
            if !default.is_null() {
                shape.insert("default".to_owned(), default);
            }
            let variable = variable(field.path);
            shape.insert("description".to_owned(), format!("{} Environment: {variable}.", field.doc).into());
        }
        insert(&mut top, "", field.path, shape);
    }
    let items = TYPE_FIELDS.iter().map(|field| {
        let mut shape = shape(field);
        if let Some(shape) = shape.as_object_mut() {
            shape.insert("description".to_owned(), field.doc.into());
        }
        (field.path.to_owned(), shape)
    });
    let mut item = closed(items.collect());
    if let Some(item) = item.as_object_mut() {
        item.insert("required".to_owned(), json!(TYPE_REQUIRED));
        item.insert("type".to_owned(), "object".into());
    }
    let description = "Signal types of the deployment's own.";
    top.insert("types".to_owned(), json!({ "type": "array", "items": item, "description": description }));
    let mut schema = closed(top);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        schema.insert("title".to_owned(), "swarmgate.yaml".into());
        schema.insert("allOf".to_owned(), json!([supervisor_needs_channel()]));
    }
    schema
}

/// Puts a leaf's shape where its path says, below the section that `properties` belong to.
fn insert(properties: &mut Map<String, Value>, section: &str, path: &str, shape: Value) {
    let Some((first, rest)) = path.split_once('.') else {
        properties.insert(path.to_owned(), shape);
        return;
    };
    let inner = if section.is_empty() { first.to_owned() } else { format!("{section}.{first}") };
    let entry = properties.entry(first).or_insert_with(|| {
        let mut mapping = closed(Map::new());
        if SHARED_SECTIONS.contains(&inner.as_str())
            && let Some(mapping) = mapping.as_object_mut()
        {
            mapping.remove("additionalProperties");
        }
        mapping
    });
    if let Some(below) = entry.get_mut("properties").and_then(Value::as_object_mut) {
        insert(below, &inner, rest, shape);
    }
}

/// The one rule across settings that an editor should know: a supervisor has a channel to its
/// workers.
fn supervisor_needs_channel() -> Value {
    let within = |section: &str, key: &str, word: &str| {
        let leaf = json!({ "type": "object", "required": [key], "properties": { key: { "const": word } } });
        let platform = json!({ "type": "object", "required": [section], "properties": { section: leaf } });
        let runtime =
            json!({ "type": "object", "required": ["platform"], "properties": { "platform": platform } });
        json!({ "required": ["runtime"], "properties": { "runtime": runtime } })
    };
    json!({
        "if": within("bootstrap", "mode", "process_supervisor"),
        "then": within("execution_ipc", "transport", "tcp_local")
    })
}

/// A mapping with those keys and no others; a section may be empty.
fn closed(properties: Map<String, Value>) -> Value {
    json!({ "type": ["object", "null"], "additionalProperties": false, "properties": properties })
}

fn shape(field: &Field) -> Value {
    match field.kind {
        KeyKind::Url => json!({ "type": "string", "pattern": "^amqps?://" }),
        KeyKind::ManagementUrl => json!({ "type": "string", "pattern": "^http://" }),
        KeyKind::Urls => json!({
            "type": "array", "minItems": 1, "maxItems": URLS_MAX,
            "items": { "type": "string", "pattern": "^amqps?://" },
        }),
        KeyKind::Segment => json!({ "type": "string", "pattern": SEGMENT_PATTERN }),
        KeyKind::Name => json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$" }),
        KeyKind::Path => json!({ "type": "string", "minLength": 1 }),
        KeyKind::Address => json!({ "type": "string", "pattern": ":[0-9]{1,5}$" }),
        KeyKind::Choice(words) => json!({ "enum": words }),
        KeyKind::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        KeyKind::Flag => json!({ "type": "boolean" }),
        KeyKind::Loopback => json!({ "type": "string", "pattern": "^(127(\\.[0-9]{1,3}){3}|::1)$" }),
        KeyKind::SecretRef => {
            json!({ "type": "string", "pattern": "^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$" })
        }
        KeyKind::Workers => supervisor::shape(),
        KeyKind::Words => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1, "maxLength": SEGMENT_BYTES_MAX } })
        }
        KeyKind::Lines => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1, "maxLength": 512 } })
        }
    }
}
