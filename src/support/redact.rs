//! Masking before packing: trees by their names, texts by their shapes.
//!
//! Owns: the walk over a value, and over a text line by line.
//! Never: decides what is kept of a typed field; `names` does.
//! Holds: what it leaves passes the scan, which walks the packed bytes in another way.

use serde_json::{Map, Value};

use super::shapes::Detector;
use crate::contract::secrets::{MASKED, names};

/// Members of an object that name what another member holds.
const NAMING: [&str; 5] = ["name", "key", "header", "field", "variable"];
/// Members that hold what is named.
const HOLDING: [&str; 4] = ["value", "val", "data", "content"];

/// Masks every secret of a value, and answers how many places were masked.
pub(super) fn value(detector: &Detector, value: &mut Value) -> u64 {
    Redaction { detector, count: 0 }.whole(value)
}

/// Masks every secret of a text, and answers how many lines were masked.
pub(super) fn text(detector: &Detector, text: &mut String) -> u64 {
    // A block of several lines is seen only where they stand together.
    let mut count = 0;
    if let Some(masked) = detector.masked(text) {
        let lines = text.lines().zip(masked.lines()).filter(|(one, other)| one != other).count();
        count = u64::try_from(lines).unwrap_or(u64::MAX).max(1);
        *text = masked;
    }
    count
}

struct Redaction<'a> {
    detector: &'a Detector,
    count: u64,
}

impl Redaction<'_> {
    fn whole(mut self, value: &mut Value) -> u64 {
        self.value("", value);
        self.count
    }

    fn value(&mut self, field: &str, value: &mut Value) {
        match value {
            Value::Object(members) => self.object(members),
            Value::Array(items) => self.array(field, items),
            Value::String(text) => self.text(field, text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn object(&mut self, members: &mut Map<String, Value>) {
        self.rename(members);
        let is_named = NAMING
            .iter()
            .any(|naming| members.get(*naming).and_then(Value::as_str).is_some_and(names::is_sensitive));
        for (name, member) in members {
            if names::is_sensitive(name) {
                self.sensitive(name, member);
            } else if is_named && HOLDING.contains(&name.as_str()) {
                self.mask(member);
            } else {
                self.value(name, member);
            }
        }
    }

    fn array(&mut self, field: &str, items: &mut [Value]) {
        let is_pair = items.len() == 2;
        let mut is_named = false;
        for item in items {
            if is_named && item.is_string() {
                self.mask(item);
                is_named = false;
                continue;
            }
            is_named = item.as_str().is_some_and(|text| {
                let is_flag = text.starts_with('-') && !text.contains(['=', ' ']);
                (is_flag || is_pair && !text.contains(' ')) && names::is_sensitive(text)
            });
            self.value(field, item);
        }
    }

    fn sensitive(&mut self, name: &str, member: &mut Value) {
        let is_allowed = match member {
            Value::Null | Value::Bool(_) => true,
            Value::Number(number) => names::allows_number(name, &number.to_string()),
            Value::String(text) => names::allows_text(name, text),
            Value::Object(_) | Value::Array(_) if names::is_branch(name) => return self.branch(name, member),
            Value::Object(section) if names::is_section(name) => return self.section(section),
            Value::Object(_) | Value::Array(_) => false,
        };
        if !is_allowed {
            self.mask(member);
        }
    }

    /// What stands below a field that is ours and sounds like a secret: numbers, and words that are
    /// known.
    fn branch(&mut self, field: &str, value: &mut Value) {
        match value {
            Value::Object(members) => {
                self.rename(members);
                members.iter_mut().for_each(|(name, member)| self.branch(name, member));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.branch(field, item)),
            Value::String(text) if !names::is_allowed_leaf(field, text) => self.mask(value),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Settings around secrets. What merely holds a value there may be one.
    fn section(&mut self, members: &mut Map<String, Value>) {
        for (name, member) in members.iter_mut() {
            if HOLDING.contains(&name.as_str()) {
                self.mask(member);
            }
        }
        self.object(members);
    }

    fn text(&mut self, field: &str, text: &mut String) {
        if names::is_typed(field, text) {
            return;
        }
        // A text that is itself JSON is walked as such: names and values stand apart there.
        if text.starts_with(['{', '['])
            && let Ok(mut inner) = serde_json::from_str::<Value>(text)
        {
            let before = self.count;
            self.value(field, &mut inner);
            if self.count > before {
                *text = inner.to_string();
            }
        }
        if let Some(masked) = self.detector.masked(text) {
            *text = masked;
            self.count += 1;
        }
    }

    /// Names may hold secrets too, in maps by token for one.
    fn rename(&mut self, members: &mut Map<String, Value>) {
        let renamed: Vec<(String, String)> =
            members.keys().filter_map(|name| Some((name.clone(), self.detector.masked(name)?))).collect();
        for (name, masked) in renamed {
            let Some(member) = members.remove(&name) else { continue };
            let mut free = masked.clone();
            let mut count = 2;
            while members.contains_key(&free) {
                free = format!("{masked} {count}");
                count += 1;
            }
            members.insert(free, member);
            self.count += 1;
        }
    }

    fn mask(&mut self, member: &mut Value) {
        if member.as_str().is_none_or(|text| !names::is_nothing(text)) {
            *member = Value::String(MASKED.to_owned());
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redacted(mut value: Value) -> Value {
        super::value(&Detector::default(), &mut value);
        value
    }

    #[test]
    fn trees_are_masked_by_name_and_by_shape() {
        let told = redacted(json!({
            "a": { "apiKey": "k", "list": [{ "client_secret": { "v": 1 } }, "password: p1"] },
            "env": [{ "name": "DB_PASSWORD", "value": "p" }, { "name": "HOME", "value": "h" }],
            "header": ["Authorization", "Basic abc"], "args": ["run", "--token", "t", "--fast"],
            "inner": "{\"cookie\":\"c\",\"n\":1}", "password": null, "token": 12345, "token_ttl_ms": 5000,
            "session": 7, "sessionEpoch": 3, "sessions": [{ "phase": "ready", "instance": "w-1", "id": "s3", "since": "2026-01-01T00:00:00Z" }],
            "ghp_0123456789abcdefghij01": 1,
            "auth": { "mode": "hmac", "secret_mode": "static", "secret_ref": "env:KEY", "ttl_seconds": 30, "value": "v" },
        }));
        assert_eq!(
            told,
            json!({
                "a": { "apiKey": "***", "list": [{ "client_secret": "***" }, "password: ***"] },
                "env": [{ "name": "DB_PASSWORD", "value": "***" }, { "name": "HOME", "value": "h" }],
                "header": ["Authorization", "***"], "args": ["run", "--token", "***", "--fast"],
                "inner": "{\"cookie\":\"***\",\"n\":1}", "password": null, "token": "***", "token_ttl_ms": 5000,
                "session": 7, "sessionEpoch": 3, "sessions": [{ "phase": "ready", "instance": "w-1", "id": "***", "since": "2026-01-01T00:00:00Z" }],
                "***": 1,
            "auth": { "mode": "hmac", "secret_mode": "static", "secret_ref": "env:KEY", "ttl_seconds": 30, "value": "***" },
            })
        );
        assert_eq!(redacted(told.clone()), told);
    }

    #[test]
    fn what_is_masked_is_counted() {
        let mut value = json!({ "password": "p", "token": "***", "n": "x" });
        assert_eq!(super::value(&Detector::default(), &mut value), 1);
        let mut lines = "a\npassword=x\nb\n".to_owned();
        assert_eq!(
            (super::text(&Detector::default(), &mut lines), lines.as_str()),
            (1, "a\npassword=***\nb\n")
        );
    }
}
