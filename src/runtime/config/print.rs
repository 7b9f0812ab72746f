//! The settings for people and for editors.
//!
//! Owns: the commented default config and the JSON Schema of `swarmgate.yaml`.
//! Never: prints a setting in force; only the defaults, whose one password is the broker's own well-known one.
//! Holds: the printed defaults load into `Config::default()`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    Config, DEFAULT_URL,
    fields::{FIELDS, Field, Kind, TYPE_FIELDS, TYPE_REQUIRED, variable},
};

/// A `swarmgate.yaml` with every default, explained.
pub fn defaults_yaml() -> String {
    let mut text = String::from(
        "# swarmgate.yaml: every setting with its default.\n\
         # Each has an environment variable too (SWARMGATE_ and its path in capitals, dots as underscores)\n\
         # and a flag (--set PATH=VALUE). Defaults < this file < environment < flags.\n",
    );
    let mut open = "";
    for field in FIELDS {
        let (section, leaf) = field.path.rsplit_once('.').unwrap_or(("", field.path));
        if section != open {
            let _ = write!(text, "\n{section}:\n");
            open = section;
        }
        let indent = if section.is_empty() { "" } else { "  " };
        let _ = writeln!(text, "{indent}# {}{}", field.doc, bounds(field.kind));
        let _ = writeln!(text, "{indent}{leaf}: {}", yaml(&default_of(field)));
    }
    text.push_str(
        "\n# Signal types of your own, each with the JSON Schema of its data.\ntypes: []\n\
         #  - type: cache-flush\n#    schema: schemas/cache-flush.schema.json\n",
    );
    for field in TYPE_FIELDS.iter().filter(|field| !TYPE_REQUIRED.contains(&field.path)) {
        let _ = writeln!(text, "#    {}: …  # {}{}", field.path, field.doc, bounds(field.kind));
    }
    text
}

fn bounds(kind: Kind) -> String {
    match kind {
        Kind::Choice(words) if words.len() > 1 => format!(" One of: {}.", words.join(", ")),
        Kind::Whole(min, max) => format!(" From {min} to {max}."),
        _ => String::new(),
    }
}

/// The default of a setting, read from the structs.
fn default_of(field: &Field) -> Value {
    if matches!(field.kind, Kind::Url) {
        return DEFAULT_URL.into();
    }
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    defaults.pointer(&format!("/{}", field.path.replace('.', "/"))).cloned().unwrap_or_default()
}

/// A scalar; what is not a plain word is quoted as JSON is, which YAML reads alike.
fn yaml(value: &Value) -> String {
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
    for field in FIELDS {
        let mut shape = shape(field);
        if let Some(shape) = shape.as_object_mut() {
            shape.insert("default".to_owned(), default_of(field));
            let variable = variable(field.path);
            shape.insert("description".to_owned(), format!("{} Environment: {variable}.", field.doc).into());
        }
        match field.path.split_once('.') {
            None => top.insert(field.path.to_owned(), shape),
            Some((section, leaf)) => {
                let section = top.entry(section).or_insert_with(|| closed(Map::new()));
                section
                    .get_mut("properties")
                    .and_then(Value::as_object_mut)
                    .and_then(|it| it.insert(leaf.to_owned(), shape))
            }
        };
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
    }
    schema
}

/// A mapping with those keys and no others; a section may be empty.
fn closed(properties: Map<String, Value>) -> Value {
    json!({ "type": ["object", "null"], "additionalProperties": false, "properties": properties })
}

fn shape(field: &Field) -> Value {
    match field.kind {
        Kind::Url => json!({ "type": "string", "pattern": "^amqps?://" }),
        Kind::Segment => json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$" }),
        Kind::Name => json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$" }),
        Kind::Path => json!({ "type": "string", "minLength": 1 }),
        Kind::Address => json!({ "type": "string", "pattern": ":[0-9]{1,5}$" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Words => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1, "maxLength": 63 } })
        }
    }
}
