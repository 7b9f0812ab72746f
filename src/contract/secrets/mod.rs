//! Where secrets stand, as schemas and names say, and their masking.
//!
//! Owns: the reading of `x-swarmgate-secret: true` out of a schema, the mask made of it, and what
//! is written of a body.
//! Never: guesses; names are the matter of [`names`], and what gives itself away of [`shapes`].
//! Holds: where it is unclear which branch of a schema applies, every branch masks: too much rather
//! than too little.

pub mod names;
pub mod shapes;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    admission::{self, Keyword},
    tree::View,
};

/// The annotation that marks a secret.
pub const ANNOTATION: &str = "x-swarmgate-secret";
/// What stands in a secret's place.
pub const MASKED: &str = "***";

/// A value with everything masked that its name or its shape gives away; `None` where there is
/// nothing. `text` is its canonical text, where that is at hand: one look at it tells that there is
/// no such shape. Members of the value itself that are `kept` are not looked at for shapes.
pub fn masked(value: View<'_>, text: Option<&str>, kept: &[&str]) -> Option<Value> {
    let named = names::masked(value);
    if !text.is_none_or(shapes::may_hold) {
        return named;
    }
    let is_named = named.is_some();
    let mut masked = named.unwrap_or_else(|| value.to_value());
    let is_shaped = match &mut masked {
        Value::Object(members) => {
            let looked_at = members.iter_mut().filter(|(name, _)| !kept.contains(&name.as_str()));
            // Every one of them, not only up to the first.
            looked_at.fold(false, |any, (_, member)| shapes::mask(member) | any)
        }
        value => shapes::mask(value),
    };
    (is_named || is_shaped).then_some(masked)
}

/// The places of a value that are secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    whole: bool,
    members: BTreeMap<String, Mask>,
    /// Members by pattern or not named, and every item of an array.
    others: Option<Box<Mask>>,
}

impl Mask {
    /// The mask of a schema within its document, which `admission` has found free of recursion.
    pub fn of(schema: &Value, document: &Value) -> Self {
        let mut mask = Self { whole: schema.get(ANNOTATION) == Some(&Value::Bool(true)), ..Self::default() };
        for (keyword, part) in admission::parts(schema) {
            match keyword {
                Keyword::Member(name) => {
                    mask.members.entry(name.to_owned()).or_default().join(Self::of(part, document))
                }
                Keyword::Others => {
                    mask.others.get_or_insert_default().join(Self::of(part, document));
                }
                Keyword::Same => mask.join(Self::of(part, document)),
                Keyword::Aside => {}
            }
        }
        if let Some(target) = admission::target(schema, document) {
            mask.join(Self::of(target, document));
        }
        mask.members.retain(|_, member| !member.is_empty());
        mask.others = mask.others.filter(|others| !others.is_empty());
        mask
    }

    /// Whether nothing is secret.
    pub fn is_empty(&self) -> bool {
        !self.whole && self.members.is_empty() && self.others.is_none()
    }

    /// This mask under one more step: what is secret in `name` of an object.
    #[must_use]
    pub fn under(self, name: &str) -> Self {
        if self.is_empty() {
            return self;
        }
        Self { members: BTreeMap::from([(name.to_owned(), self)]), ..Self::default() }
    }

    /// Replaces every secret in `value`.
    pub fn apply(&self, value: &mut Value) {
        if self.whole {
            *value = Value::String(MASKED.to_owned());
            return;
        }
        match value {
            Value::Object(object) => {
                for (name, member) in object {
                    if let Some(mask) = self.members.get(name) {
                        mask.apply(member);
                    }
                    if let Some(mask) = &self.others {
                        mask.apply(member);
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    if let Some(mask) = &self.others {
                        mask.apply(item);
                    }
                }
            }
            _ => {}
        }
    }

    /// Both masks in one.
    pub fn join(&mut self, other: Self) {
        self.whole |= other.whole;
        for (name, member) in other.members {
            self.members.entry(name).or_default().join(member);
        }
        if let Some(others) = other.others {
            self.others.get_or_insert_default().join(*others);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_a_schema_marks_is_masked() {
        let schema = json!({
            "properties": { "token": { "$ref": "#/$defs/secret" }, "plain": { "type": "string" } },
            "patternProperties": { "^k-": { "properties": { "v": { "x-swarmgate-secret": true } } } },
            "anyOf": [{ "properties": { "list": { "items": { "$ref": "#/$defs/secret" } } } }, true],
            "$defs": { "secret": { "x-swarmgate-secret": true } }
        });
        let mask = Mask::of(&schema, &schema).under("data");
        let mut value = json!({ "data": {
            "token": { "a": 1 }, "plain": "p", "k-1": { "v": 7, "w": 8 }, "list": ["x", 2]
        }, "token": "kept" });
        mask.apply(&mut value);
        let expected = json!({ "data": {
            "token": "***", "plain": "p", "k-1": { "v": "***", "w": 8 }, "list": ["***", "***"]
        }, "token": "kept" });
        assert_eq!(value, expected);
        assert!(Mask::of(&json!({ "properties": { "a": {} } }), &json!({})).is_empty());
    }
}
