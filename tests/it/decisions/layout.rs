//! The form in which a decision table stands in its file: a step a line where it fits.
//!
//! Owns: the order of members and the breaking of lines, and writing the tables anew when it is
//! told to.
//! Never: changes what a table says.
//! Holds: the form of what is in the form is itself, so that a table has one spelling.

use std::fs;

use serde_json::{Map, Value, json};

use super::step;

/// How many columns a line has, but for one text that is longer by itself.
const WIDTH: usize = 120;

#[test]
fn every_table_is_in_the_form() {
    let mut strange = Vec::new();
    for file in super::tables() {
        let found = fs::read_to_string(&file).expect("a table");
        let wanted = form(&serde_json::from_str(&found).expect("JSON"));
        assert_eq!(form(&serde_json::from_str(&wanted).expect("JSON")), wanted, "{}", file.display());
        if std::env::var_os("SWARMGATE_BLESS").is_some() {
            fs::write(&file, wanted).expect("the table is written");
        } else if found != wanted {
            strange.push(file);
        }
    }
    assert!(strange.is_empty(), "{strange:?} are in another form; run this test with SWARMGATE_BLESS=1");
}

/// A whole table.
fn form(table: &Value) -> String {
    let mut lines = vec!["{".to_owned()];
    for (key, value) in ordered(members(table), "table").filter(|(key, _)| *key != "cases") {
        lines.push(member(1, key, value));
    }
    lines.push(" \"cases\": [".to_owned());
    let cases = table["cases"].as_array().expect("`cases`");
    for (index, case) in cases.iter().enumerate() {
        lines.push("  {".to_owned());
        for (key, value) in ordered(members(case), "case").filter(|(key, _)| *key != "steps") {
            lines.push(member(3, key, value));
        }
        lines.push("   \"steps\": [".to_owned());
        let steps = case["steps"].as_array().expect("`steps`");
        for (index, step) in steps.iter().enumerate() {
            lines.push(format!("    {}{}", filled(step, "step", 4, 1), comma(index, steps.len())));
        }
        lines.push("   ]".to_owned());
        lines.push(format!("  }}{}", comma(index, cases.len())));
    }
    lines.extend([" ]".to_owned(), "}".to_owned(), String::new()]);
    lines.join("\n")
}

fn comma(index: usize, len: usize) -> &'static str {
    if index + 1 < len { "," } else { "" }
}

fn members(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

fn member(indent: usize, key: &str, value: &Value) -> String {
    let head = format!("{}{}: ", " ".repeat(indent), quoted(key));
    format!("{head}{},", filled(value, key, head.len(), 1))
}

/// Members in their order: first those that have one, then the others by name.
fn ordered<'a>(members: &'a Map<String, Value>, what: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let first: &[&str] = match what {
        "table" => &["base", "rules", "cases"],
        "base" => &["start", "to", "as", "user", "key", "trace", "data"],
        "case" => &["name", "environment", "rules", "steps"],
        "step" => &step::MEMBERS,
        "expect" => &["verdict", "reason", "pointer", "principal"],
        _ => &[],
    };
    // What comes of a step stands behind all that it is.
    let last = usize::from(what == "step");
    let place = |key: &str| {
        let place = first.iter().position(|name| *name == key);
        place.unwrap_or(first.len() + last * usize::from(key == "expect"))
    };
    let mut all: Vec<_> = members.iter().collect();
    all.sort_by_key(|(key, _)| (place(key), (*key).clone()));
    all.into_iter()
}

/// A value on one line.
fn flat(value: &Value, what: &str) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Object(all) => {
            let parts =
                ordered(all, what).map(|(key, value)| format!("{}: {}", quoted(key), flat(value, key)));
            format!("{{{}}}", joined(parts.collect()))
        }
        Value::Array(items) => format!("[{}]", joined(items.iter().map(|item| flat(item, "")).collect())),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A value that begins at that column and has `after` columns behind it: as many members a line as
/// fit, below each other.
fn filled(value: &Value, what: &str, column: usize, after: usize) -> String {
    let line = flat(value, what);
    let (open, close, parts): (_, _, Vec<(String, &Value, &str)>) = match value {
        Value::Object(all) => {
            let parts =
                ordered(all, what).map(|(key, value)| (format!("{}: ", quoted(key)), value, key.as_str()));
            ('{', '}', parts.collect())
        }
        Value::Array(items) => ('[', ']', items.iter().map(|item| (String::new(), item, "")).collect()),
        _ => return line,
    };
    if parts.is_empty() || column + line.len() + after <= WIDTH {
        return line;
    }
    let mut out = String::from(open);
    let mut at = column + 1;
    for (index, (head, value, key)) in parts.iter().enumerate() {
        let comma = comma(index, parts.len());
        let after = if comma.is_empty() { after + 1 } else { 1 };
        let mut text = format!("{head}{}", flat(value, key));
        if index > 0 && *key != "expect" && at + 1 + text.len() + after <= WIDTH {
            out.push(' ');
            at += 1;
        } else if index > 0 {
            out.push_str(&format!("\n{}", " ".repeat(column + 1)));
            at = column + 1;
        }
        if at + text.len() + after > WIDTH {
            text = format!("{head}{}", filled(value, key, at + head.len(), after));
        }
        at = text.rsplit_once('\n').map_or(at + text.len(), |(_, last)| last.len()) + comma.len();
        out.push_str(&text);
        out.push_str(comma);
    }
    out.push(close);
    out
}

/// A text in JSON, in ASCII: what is not seen is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for character in json!(text).to_string().chars() {
        if character.is_ascii() && !character.is_ascii_control() {
            out.push(character);
        } else {
            let mut units = [0; 2];
            out.extend(character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

#[test]
fn what_is_long_is_broken_and_nothing_else() {
    let step = |data: &str| json!({ "expect": { "verdict": "forward" }, "data": { "a": data }, "send": "stop", "at": 1 });
    let short = filled(&step("x"), "step", 4, 1);
    assert_eq!(short, r#"{"at": 1, "send": "stop", "data": {"a": "x"}, "expect": {"verdict": "forward"}}"#);
    let long = filled(&step(&"x".repeat(60)), "step", 4, 1);
    let text = "x".repeat(60);
    let wanted = format!(
        "{{\"at\": 1, \"send\": \"stop\", \"data\": {{\"a\": \"{text}\"}},\n     \"expect\": {{\"verdict\": \"forward\"}}}}"
    );
    assert_eq!(long, wanted);
    let list = filled(&json!(["a".repeat(60), "b".repeat(60), "c"]), "", 2, 0);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines.iter().all(|line| line.len() <= WIDTH) && lines[1].ends_with(r#"", "c"]"#), "{list}");
    assert_eq!(quoted("a\u{202e}\u{1f600}\u{7f}\n"), r#""a\u202e\ud83d\ude00\u007f\n""#);
}
