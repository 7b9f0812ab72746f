//! One value against its row, and one unknown key against all rows.
//!
//! Owns: the words of every fault that a single setting can have.
//! Never: repeats a value that may be a secret.
//! Holds: what passes here deserialises into `Config`.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::{
    fields::{FIELDS, is_section},
    nearest::nearest,
    node,
    own_types::TYPE_FIELDS,
    secret::{self, BrokerUrl},
    section::{Field, KeyKind},
    wrong::Wrong,
};
use crate::contract::routing::SEGMENT_BYTES_MAX;

/// Names of exchanges get at most this long, so that a suffix still fits an AMQP short string.
const NAME_BYTES_MAX: usize = 128;
const PATH_BYTES_MAX: usize = 4096;

/// A text from the environment or a flag in the form the setting has.
pub fn coerce(kind: KeyKind, text: &str) -> Value {
    match kind {
        KeyKind::Whole(..) => text.trim().parse::<u64>().map_or_else(|_| text.into(), Value::from),
        kind if kind.is_list() => list(kind, text.trim()),
        KeyKind::Flag => text.trim().parse::<bool>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}

/// A list as one line: with commas between its items, or in brackets as in the file. No text is no
/// value, not no item, so that a variable that was left empty does not empty a list of who may do
/// what.
fn list(kind: KeyKind, text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    if text.starts_with('[') {
        // What cannot be read stays a text, which is no list and never shown.
        return node::read(text).map_or_else(|_| text.into(), |node| node.plain());
    }
    match kind {
        KeyKind::Urls => secret::split(text).into_iter().collect(),
        _ => text.split(',').map(str::trim).collect(),
    }
}

/// The longest line of a list of lines.
const LINE_BYTES_MAX: usize = 512;

/// Checks a value; `shown` is its path as people write it.
pub fn check(kind: KeyKind, shown: &str, value: &Value) -> Result<(), Wrong> {
    if value.is_null() {
        let help = match kind.is_list() {
            true => "give it items like `one,two`, `[]` for none, or leave it out for the default",
            false => "give it one, or leave the key out for the default",
        };
        return Err(Wrong::new(format!("`{shown}` has no value"), help));
    }
    match kind {
        KeyKind::Whole(min, max) => whole(shown, value, min, max),
        KeyKind::Flag if value.is_boolean() => Ok(()),
        KeyKind::Flag => Err(Wrong::new(
            format!("`{shown}` wants true or false, not {}", form(value)),
            "write `true` or `false`, without quotes",
        )),
        KeyKind::Words => words(shown, value, SEGMENT_BYTES_MAX),
        KeyKind::Lines => words(shown, value, LINE_BYTES_MAX),
        KeyKind::Urls => urls(shown, value),
        KeyKind::Workers => Err(Wrong::new(
            format!("`{shown}` wants a list of rows, in the config file"),
            "write one `- id: …` with `role` and `command` for each",
        )),
        KeyKind::Choice(allowed) => choice(shown, value, allowed),
        kind => match value.as_str() {
            Some(text) => text_form(kind, shown, text),
            None => Err(Wrong::new(
                format!("`{shown}` wants text, not {}", form(value)),
                "put the value in quotes",
            )),
        },
    }
}

fn whole(shown: &str, value: &Value, min: u64, max: u64) -> Result<(), Wrong> {
    let number_of = format!("give a whole number{} from {min} to {max}", unit(shown));
    match value.as_u64() {
        Some(number) if (min..=max).contains(&number) => Ok(()),
        Some(number) => Err(Wrong::new(format!("`{shown}` is `{number}`, out of bounds"), number_of)),
        None => Err(Wrong::new(
            format!("`{shown}` wants a whole number, not {}", form(value)),
            format!("{number_of}, without unit or sign"),
        )),
    }
}

/// What a number counts, by the last words of its name.
pub fn unit(path: &str) -> &'static str {
    let ends = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
    if ends(&["_ms"]) {
        " of milliseconds"
    } else if ends(&["_s", "_seconds"]) {
        " of seconds"
    } else if ends(&["_bytes", "bytes_max"]) {
        " of bytes"
    } else {
        ""
    }
}

fn choice(shown: &str, value: &Value, allowed: &[&str]) -> Result<(), Wrong> {
    let one_of = allowed.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let help = if allowed.len() == 1 { format!("write {one_of}") } else { format!("write one of {one_of}") };
    match value.as_str() {
        Some(word) if allowed.contains(&word) => Ok(()),
        Some(word) => {
            let near = nearest(word, allowed.iter().copied()).map(|near| format!("; `{near}` is nearest"));
            let message = format!("`{shown}` is none of the words it may be{}", near.unwrap_or_default());
            Err(Wrong::new(message, help))
        }
        None => Err(Wrong::new(format!("`{shown}` wants a word, not {}", form(value)), help)),
    }
}

fn words(shown: &str, value: &Value, bytes_max: usize) -> Result<(), Wrong> {
    let Some(list) = value.as_array() else {
        let message = format!("`{shown}` wants a list of words, not {}", form(value));
        return Err(Wrong::new(message, "write `[one, two]`; in a variable or a flag also `one,two`"));
    };
    for (index, item) in list.iter().enumerate() {
        let wrong = |message: String, help: &str| {
            Err(Wrong::new(format!("`{shown}[{index}]`, counted from 0, {message}"), help))
        };
        match item.as_str() {
            None => wrong(format!("wants text, not {}", form(item)), "put the item in quotes")?,
            Some("") => wrong("is empty".to_owned(), "write it, or take its comma out; `[]` is no item")?,
            Some(word) if word.len() > bytes_max => {
                wrong(format!("is longer than {bytes_max} bytes"), "shorten it; commas stand between items")?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn urls(shown: &str, value: &Value) -> Result<(), Wrong> {
    let list: Option<Vec<&str>> = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let Some(list) = list.filter(|list| (1..=secret::URLS_MAX).contains(&list.len())) else {
        let message = format!("`{shown}` wants a list of 1 to {} URLs", secret::URLS_MAX);
        return Err(Wrong::new(
            message,
            "write one `- amqp://user:password@host:5672/%2f` for each node, or commas between them",
        ));
    };
    let mut each = list.iter().enumerate();
    each.try_for_each(|(index, url)| text_form(KeyKind::Url, &format!("{shown}[{index}]"), url))
}

fn text_form(kind: KeyKind, shown: &str, text: &str) -> Result<(), Wrong> {
    let wrong = |message: &str, help: &str| Err(Wrong::new(format!("`{shown}` {message}"), help));
    let name = |extra: &[u8], bytes_max: usize| {
        let clean = |byte: u8| byte.is_ascii_alphanumeric() || extra.contains(&byte);
        !text.is_empty()
            && text.len() <= bytes_max
            && text.bytes().all(clean)
            && text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
    };
    match kind {
        KeyKind::Url => match BrokerUrl::new(text).fault() {
            Some(fault) => wrong(
                fault,
                "write it like `amqp://user:password@host:5672/%2f`, `%2f` being the default vhost",
            ),
            None => Ok(()),
        },
        KeyKind::ManagementUrl => match BrokerUrl::new(text).management_fault() {
            Some(fault) => {
                wrong(fault, "write it like `http://host:15672`, or `http://user:password@host:15672`")
            }
            None => Ok(()),
        },
        KeyKind::Segment if !name(b"_-", SEGMENT_BYTES_MAX) || text.eq_ignore_ascii_case("all") => wrong(
            "is not a routing-key segment",
            "use 1 to 128 of A–Z a–z 0–9 _ -, beginning with a letter or digit, and not `ALL`",
        ),
        KeyKind::Name if !name(b"_-.", NAME_BYTES_MAX) || text.starts_with("amq.") => wrong(
            "is not a name for exchanges",
            "use 1 to 128 of A–Z a–z 0–9 _ - ., beginning with a letter or digit, and not `amq.`",
        ),
        KeyKind::Path if text.is_empty() || text.len() > PATH_BYTES_MAX || text.contains('\0') => {
            wrong("is not a path", "name a file or directory")
        }
        KeyKind::Address if text.parse::<SocketAddr>().is_err() => {
            wrong("is not an address with a port", "write it like `127.0.0.1:8080` or `[::1]:8080`")
        }
        KeyKind::Loopback if !text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) => wrong(
            "is not a loopback address; the channel to the workers never leaves this machine",
            "write `127.0.0.1` or `::1`",
        ),
        KeyKind::SecretRef if !is_secret_ref(text) => wrong(
            "does not say where the secret is",
            "write `env:NAME` or `file:PATH`; were it the secret itself, make a new one, this one has been in a file",
        ),
        _ => Ok(()),
    }
}

/// Whether a text names a variable or a file.
fn is_secret_ref(text: &str) -> bool {
    let is_variable = |name: &str| {
        name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let is_path = |path: &str| !path.is_empty() && path.len() <= PATH_BYTES_MAX && !path.contains('\0');
    text.strip_prefix("env:").is_some_and(is_variable) || text.strip_prefix("file:").is_some_and(is_path)
}

/// What a value is, without the value.
fn form(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// The fault of a key that nobody reads.
pub fn unknown(path: &str) -> Wrong {
    let near = path.strip_prefix("types[].").map_or_else(|| nearest_path(path), nearest_type_key);
    let help = match near {
        Some(near) => format!("the nearest key is `{near}`"),
        None => "`swarmgate check config --print-defaults` lists every key".to_owned(),
    };
    Wrong::new(format!("`{path}` is not a key"), help)
}

fn nearest_type_key(key: &str) -> Option<String> {
    nearest(key, TYPE_FIELDS.iter().map(|field| field.path)).map(|near| format!("types[].{near}"))
}

/// The nearest path: among its siblings first, then a leaf of that name elsewhere, then any path.
fn nearest_path(path: &str) -> Option<String> {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let tops = FIELDS.iter().map(|field| field.path.split('.').next().unwrap_or(field.path)).chain(["types"]);
    let siblings: Vec<&str> = if is_section(parent) {
        let below = |field: &Field| field.path.strip_prefix(parent)?.strip_prefix('.')?.split('.').next();
        FIELDS.iter().filter_map(below).collect()
    } else {
        tops.collect()
    };
    if let Some(near) = nearest(name, siblings) {
        return Some(if parent.is_empty() { near.to_owned() } else { format!("{parent}.{near}") });
    }
    let leaf = |field: &Field| field.path.rsplit('.').next() == Some(name);
    if let Some(field) = FIELDS.iter().find(|field| leaf(field)) {
        return Some(field.path.to_owned());
    }
    nearest(path, FIELDS.iter().map(|field| field.path)).map(str::to_owned)
}
