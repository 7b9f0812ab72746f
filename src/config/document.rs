//! The keys as the operator's manual lists them.
//!
//! Owns: the tables under "Every key" in docs/operating/configuration.md.
//! Never: says more of a key than its row does.
//! Holds: every key stands there once, with its default and what it may be (a test compares the
//! page with this).

use std::fmt::Write as _;

use super::{
    check::unit,
    fields::FIELDS,
    own_types::{TYPE_FIELDS, TYPE_REQUIRED},
    print::{default_of, yaml},
    secret::URLS_MAX,
    section::{Field, KeyKind},
    supervisor,
};

/// Every key, a table for each section.
pub fn keys_markdown() -> String {
    let mut text = String::new();
    let mut open = None;
    for field in FIELDS.iter() {
        let section = field.path.split_once('.').map(|(section, _)| section);
        if open != Some(section) {
            let title = section.map_or_else(|| "outside a section".to_owned(), |name| format!("`{name}`"));
            heading(&mut text, &title);
            open = Some(section);
        }
        row(&mut text, field.path, &shown(&default_of(field)), &may_be(field), field.doc);
    }
    heading(&mut text, "an item of `supervisor.workers`");
    for (key, default, may_be, doc) in supervisor::keys() {
        row(&mut text, key, default, &may_be, doc);
    }
    heading(&mut text, "an item of `types`");
    for field in TYPE_FIELDS.iter() {
        let default = match TYPE_REQUIRED.contains(&field.path) {
            true => "required".to_owned(),
            false => shown(&field.default),
        };
        row(&mut text, field.path, &default, &may_be(field), field.doc);
    }
    text
}

fn heading(text: &mut String, title: &str) {
    let _ = write!(text, "\n### {title}\n\n| key | default | may be | what it does |\n|---|---|---|---|\n");
}

fn row(text: &mut String, key: &str, default: &str, may_be: &str, doc: &str) {
    let _ = writeln!(text, "| `{key}` | {default} | {may_be} | {} |", doc.replace('|', "\\|"));
}

fn shown(default: &serde_json::Value) -> String {
    if default.is_null() { "–".to_owned() } else { format!("`{}`", yaml(default)) }
}

fn may_be(field: &Field) -> String {
    match field.kind {
        KeyKind::Whole(min, max) => {
            let unit = unit(field.path).strip_prefix(" of").unwrap_or_default();
            format!("{min} to {max}{unit}")
        }
        KeyKind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        KeyKind::Flag => "`true`, `false`".to_owned(),
        KeyKind::Url => "`amqp://` or `amqps://` URL".to_owned(),
        KeyKind::ManagementUrl => "`http://` URL".to_owned(),
        KeyKind::Urls => format!("1 to {URLS_MAX} such URLs"),
        KeyKind::Segment => "routing-key segment".to_owned(),
        KeyKind::Name => "name for exchanges".to_owned(),
        KeyKind::Path => "path".to_owned(),
        KeyKind::Address => "`ADDRESS:PORT`".to_owned(),
        KeyKind::Words => "list of words".to_owned(),
        KeyKind::Lines => "list of lines".to_owned(),
        KeyKind::Loopback => "loopback address".to_owned(),
        KeyKind::SecretRef => "`env:NAME`, `file:PATH`".to_owned(),
        KeyKind::Workers => "list of rows".to_owned(),
    }
}
