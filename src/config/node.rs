//! YAML with its line numbers.
//!
//! Owns: reading a config file into a tree that knows on which line each key stands.
//! Never: knows a setting, or quotes the file in an error (a line may hold a password).
//! Holds: a key stands once in its mapping; aliases and nesting are bounded by the reader's budget.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::Spanned;

/// A value of the file.
#[derive(Clone, Debug)]
pub struct Node {
    /// The line it begins on, from 1.
    pub line: u64,
    /// The column it begins at, from 1.
    pub column: u64,
    /// What it is.
    pub content: Content,
}

impl Node {
    /// The same without its lines.
    pub fn plain(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(list) => Value::Array(list.iter().map(Self::plain).collect()),
            Content::Map(pairs) => {
                Value::Object(pairs.iter().map(|pair| (pair.key.clone(), pair.node.plain())).collect())
            }
        }
    }
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Content {
    /// Null, a truth value, a number or a text.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Pair>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Pair {
    pub key: String,
    /// The line the key stands on.
    pub line: u64,
    /// The column the key begins at.
    pub column: u64,
    pub node: Node,
}

/// What the reader could not take.
#[derive(Debug)]
pub struct Unreadable {
    /// The line, where it is known.
    pub line: Option<u64>,
    /// Why.
    pub message: String,
}

/// Reads a file's text; an empty file is an empty mapping.
pub fn read(text: &str) -> Result<Node, Unreadable> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    match serde_saphyr::from_str_with_options::<Option<Node>>(text, options) {
        Ok(Some(node)) => Ok(node),
        Ok(None) => Ok(Node { line: 1, column: 1, content: Content::Map(Vec::new()) }),
        Err(fault) => {
            let line = fault.location().map(|place| place.line());
            Err(Unreadable { line, message: reason(&fault) })
        }
    }
}

/// The reader's own words without a value of the file.
fn reason(fault: &serde_saphyr::Error) -> String {
    match fault.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("the key `{key}` stands twice"),
            None => "a key stands twice".to_owned(),
        },
        serde_saphyr::Error::MultipleDocuments { .. } => "there is more than one YAML document".to_owned(),
        serde_saphyr::Error::UnknownAnchor { .. } => "an alias names no anchor".to_owned(),
        _ => "this is not YAML".to_owned(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        let (line, column) = (spanned.referenced.line(), spanned.referenced.column());
        Ok(Self { line, column, content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Content;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element()? {
            list.push(node);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let node = access.next_value()?;
            let (line, column) = (key.referenced.line(), key.referenced.column());
            map.push(Pair { key: key.value, line, column, node });
        }
        Ok(Content::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_know_their_lines() {
        let node = read("# first\namqp:\n  url: x\n  list:\n    - 1\n    - a: true\n").unwrap();
        let Content::Map(top) = node.content else { panic!("not a mapping") };
        assert_eq!((top[0].key.as_str(), top[0].line), ("amqp", 2));
        let Content::Map(amqp) = &top[0].node.content else { panic!("not a mapping") };
        assert_eq!((amqp[0].line, amqp[1].line), (3, 4));
        let Content::List(list) = &amqp[1].node.content else { panic!("not a list") };
        assert_eq!((list[0].line, list[1].line), (5, 6));
        assert!(matches!(&list[0].content, Content::Scalar(value) if *value == 1));
    }

    #[test]
    fn what_cannot_be_read_is_not_quoted() {
        for (text, line) in [
            ("a: canary\na: canary\n", 2),
            ("a: [canary\n", 2),
            ("a: *canary\n", 1),
            ("a: 1\n\tb: canary", 2),
        ] {
            let fault = read(text).unwrap_err();
            assert!(!fault.message.contains("canary"), "{}", fault.message);
            assert!(fault.line.is_some_and(|found| found.abs_diff(line) <= 1), "{text:?} {fault:?}");
        }
        assert!(matches!(read("").unwrap().content, Content::Map(map) if map.is_empty()));
    }
}
