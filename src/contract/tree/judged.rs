//! The tree as the schema library reads it.
//!
//! Owns: nothing but the translation.
//! Never: judges; a schema does.
//! Holds: a schema says of a tree what it says of the same value in the library's own form (a
//! property compares).

use std::borrow::Cow;

use jsonschema::{
    JsonType,
    json::{Array, Json, Node, NodeIdentity, Object, cmp},
};
use serde_json::{Number, Value};

use super::{Children, Item, Span, Tree, View};

/// Bodies as [`Tree`]s.
#[derive(Debug)]
pub struct Judged;

impl Json for Judged {
    type Node<'a> = View<'a>;
    type PreparedKey = String;
    type StringBuffer = Tree;

    /// A lookup walks the members, so one walk is better than two lookups.
    const KEYS_PER_LOOKUP: usize = 1 << 16;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Tree, string: &str, judge: impl FnOnce(View<'_>) -> T) -> T {
        *buffer = Tree::of(string);
        let whole = Tree::span_of(string, string);
        buffer.open(Span::default(), Item::Text(whole));
        judge(buffer.root())
    }
}

impl<'a> Node<'a, Judged> for View<'a> {
    type Object = View<'a>;
    type Array = View<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<View<'a>> {
        self.is_object().then_some(*self)
    }

    fn as_array(&self) -> Option<View<'a>> {
        self.is_array().then_some(*self)
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.as_str().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        View::as_number(*self)
    }

    fn as_boolean(&self) -> Option<bool> {
        self.as_bool()
    }

    fn is_null(&self) -> bool {
        matches!(self.item(), Item::Null)
    }

    fn json_type(&self) -> JsonType {
        match self.item() {
            Item::Null => JsonType::Null,
            Item::Bool(_) => JsonType::Boolean,
            Item::Number(_) => JsonType::Number,
            Item::Text(_) => JsonType::String,
            Item::Array(_) => JsonType::Array,
            Item::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        match (self.item(), expected) {
            (Item::Text(_), Value::String(expected)) => self.as_str() == Some(expected),
            (Item::Number(number), Value::Number(expected)) => cmp::equal_numbers(&number, expected),
            (Item::Array(_), Value::Array(_)) | (Item::Object(_), Value::Object(_)) => {
                cmp::equal(&View::to_value(*self), expected)
            }
            (Item::Bool(truth), expected) => expected.as_bool() == Some(*truth),
            (Item::Null, expected) => expected.is_null(),
            _ => false,
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(View::to_value(*self))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::tagged(self.tree.nodes.as_ptr() as usize, self.at))
    }
}

impl<'a> Object<'a, Judged> for View<'a> {
    type Node = View<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.count()
    }

    fn get(&self, key: &String) -> Option<View<'a>> {
        View::get(*self, key)
    }

    fn members(&self) -> Members<'a> {
        Members(self.children(true))
    }
}

impl<'a> Array<'a, Judged> for View<'a> {
    type Node = View<'a>;
    type ElementsIter = Children<'a>;

    fn len(&self) -> usize {
        self.count()
    }

    fn elements(&self) -> Children<'a> {
        self.items()
    }
}

/// An object's members.
pub struct Members<'a>(Children<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, View<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|member| (member.tree.str(member.node().key), member))
    }
}

#[cfg(test)]
mod tests {
    use jsonschema::json::conformance;

    use super::*;
    use crate::contract::strict::{Limits, parse};

    #[test]
    fn the_library_s_own_demands_are_met() {
        let tree = parse(conformance::document().to_string().as_bytes(), &Limits::default()).unwrap();
        conformance::assert_conformance::<Judged>(&tree.root());
    }
}
