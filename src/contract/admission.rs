//! Whether a deployment's own type may be loaded.
//!
//! Owns: the bounds on a schema's cost and reach, and the words that say how to mend one.
//! Never: fetches anything, or lets a schema refer to anything outside itself.
//! Holds: an admitted schema is free of recursion, and judging a value by it costs at most
//! `SCHEMA_PARTS_MAX` sub-schemas a place.

use serde_json::Value;

use super::{
    command::{Answerer, Class, Command, FanOut},
    routing::check_segment,
    strict::PointerStep,
};

/// Bytes of a deployment's schema.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Sub-schemas of a schema once every reference is replaced by what it refers to.
pub const SCHEMA_PARTS_MAX: usize = 2_000;
/// Sub-schemas and references within each other.
pub const SCHEMA_DEPTH_MAX: usize = 64;
/// Items of an array that is checked for uniqueness.
pub const UNIQUE_ITEMS_MAX: u64 = 1_000;
/// Bytes of a compiled pattern.
pub const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// The dialect of every schema.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A signal type that a deployment adds.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentType {
    /// The type.
    pub kind_type: String,
    /// Its class; undeclared means `start`, the strictest that is not dangerous.
    pub class: Class,
    /// Statuses that mean success.
    pub success: Vec<String>,
    /// Who answers.
    pub answered_by: Answerer,
    /// Which `ALL` shapes it may address.
    pub fan_out: FanOut,
    /// Milliseconds from acceptance until it has timed out.
    pub deadline_ms: Option<u64>,
    /// JSON Schema (2020-12) of its `data`.
    pub schema: Value,
}

impl DeploymentType {
    /// A type that starts something at one target, which answers.
    pub fn new(kind_type: impl Into<String>, schema: Value) -> Self {
        Self {
            kind_type: kind_type.into(),
            class: Class::Start,
            success: vec!["Applied".to_owned()],
            answered_by: Answerer::Target,
            fan_out: FanOut::None,
            deadline_ms: Some(180_000),
            schema,
        }
    }

    /// A type by its row of the command table.
    pub fn of(command: Command, schema: Value) -> Self {
        let Command { kind_type, class, success, answered_by, fan_out, deadline_ms } = command;
        Self { kind_type, class, success, answered_by, fan_out, deadline_ms, schema }
    }

    /// Its row of the command table.
    pub(super) fn command(&self) -> Command {
        Command {
            kind_type: self.kind_type.clone(),
            class: self.class,
            success: self.success.clone(),
            answered_by: self.answered_by,
            fan_out: self.fan_out,
            deadline_ms: self.deadline_ms,
        }
    }
}

/// Why a type was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum TypeError {
    /// Its name is no segment of a routing key.
    #[error("type `{kind_type}` cannot stand in a routing key: {rule}; rename it")]
    Name {
        /// The type.
        kind_type: String,
        /// What is wrong with it.
        rule: String,
    },
    /// The contract or an earlier type has that name.
    #[error("type `{kind_type}` is there already and cannot be replaced; give yours another name")]
    Taken {
        /// The type.
        kind_type: String,
    },
    /// Its schema has a fault of its own.
    #[error("the schema of type `{kind_type}` is refused at `{place}`: {fault}")]
    Refused {
        /// The type.
        kind_type: String,
        /// JSON pointer into the schema.
        place: String,
        /// What is wrong and what to do.
        fault: SchemaFault,
    },
    /// Its schema does not compile.
    #[error("the schema of type `{kind_type}` does not compile at `{place}`; correct it as the cause says")]
    Uncompiled {
        /// The type.
        kind_type: String,
        /// JSON pointer into the schema.
        place: String,
        /// What the library says.
        #[source]
        source: Box<jsonschema::ValidationError<'static>>,
    },
    /// The schemas that come with this release are broken: a fault of the build.
    #[error("the built-in schema `{name}` is missing or broken; install an unaltered release")]
    BuiltIn {
        /// Its name.
        name: String,
    },
}

/// What makes a schema inadmissible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFault {
    /// Longer than `SCHEMA_BYTES_MAX`.
    #[error("it has more than {SCHEMA_BYTES_MAX} bytes; say less")]
    Bytes,
    /// More than `SCHEMA_PARTS_MAX` sub-schemas.
    #[error("its references expand to more than {SCHEMA_PARTS_MAX} sub-schemas; flatten it")]
    Parts,
    /// Deeper than `SCHEMA_DEPTH_MAX`.
    #[error("it nests over {SCHEMA_DEPTH_MAX} levels; flatten it")]
    Depth,
    /// A reference that leads back to itself.
    #[error("it refers to itself; write the levels out")]
    Recursion,
    /// A reference to another document, by anchor, or to nothing.
    #[error("a `$ref` here is `#` or `#/` with a JSON pointer into this same schema; nothing is fetched")]
    Reference,
    /// A keyword that moves or defers references.
    #[error(
        "`$id` below the top, `$dynamicRef`, `$recursiveRef` and their anchors are not allowed; use a plain `$ref`"
    )]
    Dynamic,
    /// Another dialect.
    #[error("`$schema` is `{DIALECT}` or absent")]
    Dialect,
    /// A keyword that no JSON Schema has, which would say nothing.
    #[error(
        "`{0}` is no keyword of JSON Schema 2020-12 and would be passed over; mend it, or begin it with `x-`"
    )]
    Keyword(String),
    /// Unbounded comparison of items.
    #[error("`uniqueItems` stands beside a `maxItems` of at most {UNIQUE_ITEMS_MAX}")]
    UniqueItems,
}

/// Checks name and schema of a type.
///
/// # Errors
/// The first fault found, and where.
pub(super) fn admit(kind: &DeploymentType) -> Result<(), TypeError> {
    let kind_type = || kind.kind_type.clone();
    check_segment(&kind.kind_type)
        .map_err(|refusal| TypeError::Name { kind_type: kind_type(), rule: refusal.detail.into_owned() })?;
    let refused = |place: String, fault| TypeError::Refused { kind_type: kind_type(), place, fault };
    if kind.schema.to_string().len() > SCHEMA_BYTES_MAX {
        return Err(refused(String::new(), SchemaFault::Bytes));
    }
    let dialect = kind.schema.get("$schema");
    if dialect.is_some_and(|dialect| dialect.as_str() != Some(DIALECT)) {
        return Err(refused("/$schema".to_owned(), SchemaFault::Dialect));
    }
    keywords(&kind.schema, "").map_err(|(place, fault)| refused(place, fault))?;
    let mut survey = Survey { document: &kind.schema, parts: 0, followed: Vec::new() };
    survey.walk(&kind.schema, 0).map_err(|(place, fault)| refused(place, fault))
}

struct Survey<'schema> {
    document: &'schema Value,
    parts: usize,
    /// The references being followed, outermost first.
    followed: Vec<&'schema str>,
}

impl<'schema> Survey<'schema> {
    /// Visits a schema with everything it leads to, as often as it leads there.
    fn walk(&mut self, schema: &'schema Value, depth: usize) -> Result<(), (String, SchemaFault)> {
        let here = |fault| {
            (self.followed.last().map_or("", |place| place.trim_start_matches('#')).to_owned(), fault)
        };
        if self.parts >= SCHEMA_PARTS_MAX {
            return Err(here(SchemaFault::Parts));
        }
        if depth > SCHEMA_DEPTH_MAX {
            return Err(here(SchemaFault::Depth));
        }
        let moves = ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"];
        if moves.iter().any(|keyword| schema.get(keyword).is_some())
            || (depth > 0 && schema.get("$id").is_some() && !std::ptr::eq(schema, self.document))
        {
            return Err(here(SchemaFault::Dynamic));
        }
        let is_unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        let bound = schema.get("maxItems").and_then(Value::as_u64);
        if is_unique && bound.is_none_or(|items| items > UNIQUE_ITEMS_MAX) {
            return Err(here(SchemaFault::UniqueItems));
        }
        self.parts += 1;
        if let Some(reference) = schema.get("$ref") {
            let (Some(reference), Some(target)) = (reference.as_str(), target(schema, self.document)) else {
                return Err(here(SchemaFault::Reference));
            };
            if self.followed.contains(&reference) {
                return Err(here(SchemaFault::Recursion));
            }
            self.followed.push(reference);
            self.walk(target, depth + 1)?;
            self.followed.pop();
        }
        parts(schema).try_for_each(|(_, part)| self.walk(part, depth + 1))
    }
}

/// Keywords that stand in a schema besides those that hold others.
const KEYWORDS: [&str; 39] = [
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$schema",
    "$vocabulary",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maximum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minContains",
    "minimum",
    "minItems",
    "minLength",
    "minProperties",
    "multipleOf",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
];

/// Looks for keywords that say nothing, in a schema and in those that stand in it, references not
/// followed.
fn keywords(schema: &Value, place: &str) -> Result<(), (String, SchemaFault)> {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        let place = format!("{place}/{}", PointerStep(keyword));
        match holds(keyword) {
            Some(Holds::ByName) => {
                for (name, part) in value.as_object().into_iter().flatten() {
                    keywords(part, &format!("{place}/{}", PointerStep(name)))?;
                }
            }
            Some(Holds::One) => match value {
                Value::Array(parts) => {
                    for (index, part) in parts.iter().enumerate() {
                        keywords(part, &format!("{place}/{index}"))?;
                    }
                }
                part => keywords(part, &place)?,
            },
            None if keyword.starts_with("x-") || KEYWORDS.contains(&keyword.as_str()) => {}
            None => return Err((place, SchemaFault::Keyword(keyword.clone()))),
        }
    }
    Ok(())
}

/// How sub-schemas stand in a keyword's value.
#[derive(Clone, Copy)]
enum Holds {
    /// One a name.
    ByName,
    /// One, or a list of them.
    One,
}

/// How sub-schemas stand below a keyword; `None` where none do.
fn holds(keyword: &str) -> Option<Holds> {
    match keyword {
        "$defs" | "definitions" | "dependencies" | "dependentSchemas" | "patternProperties"
        | "properties" => Some(Holds::ByName),
        "additionalItems"
        | "additionalProperties"
        | "allOf"
        | "anyOf"
        | "contains"
        | "contentSchema"
        | "else"
        | "if"
        | "items"
        | "not"
        | "oneOf"
        | "prefixItems"
        | "propertyNames"
        | "then"
        | "unevaluatedItems"
        | "unevaluatedProperties" => Some(Holds::One),
        _ => None,
    }
}

/// What a schema's `$ref` refers to within its document.
pub(super) fn target<'schema>(schema: &Value, document: &'schema Value) -> Option<&'schema Value> {
    let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    // A percent sign would be read differently by a URI reader and a pointer reader.
    if pointer.contains('%') {
        return None;
    }
    document.pointer(pointer)
}

/// How a sub-schema's values lie to those of the schema it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword<'schema> {
    /// The member of that name.
    Member(&'schema str),
    /// Other members, or items.
    Others,
    /// The same value.
    Same,
    /// No value that is carried (a member's name, a negation).
    Aside,
}

/// The sub-schemas that stand in a schema, references not followed.
pub(super) fn parts(schema: &Value) -> impl Iterator<Item = (Keyword<'_>, &Value)> {
    schema.as_object().into_iter().flatten().flat_map(|(keyword, value)| {
        let (named, relation) = match keyword.as_str() {
            "properties" => (true, Keyword::Same),
            "patternProperties" => (true, Keyword::Others),
            "dependentSchemas" | "dependencies" => (true, Keyword::Same),
            "additionalProperties"
            | "unevaluatedProperties"
            | "items"
            | "additionalItems"
            | "unevaluatedItems"
            | "contains"
            | "prefixItems" => (false, Keyword::Others),
            "allOf" | "anyOf" | "oneOf" | "if" | "then" | "else" => (false, Keyword::Same),
            "not" | "propertyNames" | "contentSchema" => (false, Keyword::Aside),
            _ => return Vec::new(),
        };
        match value {
            Value::Object(members) if named => members
                .iter()
                .map(|(name, part)| match keyword.as_str() {
                    "properties" => (Keyword::Member(name.as_str()), part),
                    _ => (relation, part),
                })
                .collect(),
            Value::Array(items) if !named => items.iter().map(|part| (relation, part)).collect(),
            Value::Object(_) | Value::Bool(_) if !named => vec![(relation, value)],
            _ => Vec::new(),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(schema: Value) -> Option<SchemaFault> {
        match admit(&DeploymentType::new("own", schema)) {
            Ok(()) => None,
            Err(TypeError::Refused { fault, .. }) => Some(fault),
            Err(other) => panic!("{other}"),
        }
    }

    /// `allOf` of two references to the level below, `levels` times.
    fn bomb(levels: usize) -> Value {
        let mut schema = json!({ "$ref": "#/$defs/l0", "$defs": {} });
        for level in 0..levels {
            let below = format!("#/$defs/l{}", level + 1);
            schema["$defs"][format!("l{level}")] = json!({ "allOf": [{ "$ref": below }, { "$ref": below }] });
        }
        schema["$defs"][format!("l{levels}")] = json!({ "type": "string" });
        schema
    }

    #[test]
    fn bombs_are_refused_and_what_is_cheap_is_not() {
        assert_eq!(fault(bomb(6)), None);
        for levels in [10, 20, 30, 31] {
            assert_eq!(fault(bomb(levels)), Some(SchemaFault::Parts), "{levels}");
        }
        let unbounded = json!({ "type": "array", "uniqueItems": true });
        let cases = [
            (json!({ "$ref": "#" }), SchemaFault::Recursion),
            (json!({ "properties": { "a": { "$ref": "#" } } }), SchemaFault::Recursion),
            (
                json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "not": { "$ref": "#/$defs/a" } } } }),
                SchemaFault::Recursion,
            ),
            (json!({ "$ref": "http://example.com/s.json" }), SchemaFault::Reference),
            (json!({ "items": { "$ref": "file:///etc/passwd" } }), SchemaFault::Reference),
            (json!({ "$ref": "#anchor" }), SchemaFault::Reference),
            (json!({ "$ref": "#/$defs/none" }), SchemaFault::Reference),
            (json!({ "$ref": 3 }), SchemaFault::Reference),
            (json!({ "$dynamicAnchor": "a", "items": { "$dynamicRef": "#a" } }), SchemaFault::Dynamic),
            (json!({ "properties": { "a": { "$id": "urn:x" } } }), SchemaFault::Dynamic),
            (json!({ "$schema": "http://json-schema.org/draft-07/schema#" }), SchemaFault::Dialect),
            (unbounded, SchemaFault::UniqueItems),
            (json!({ "uniqueItems": true, "maxItems": 100_000 }), SchemaFault::UniqueItems),
            (json!({ "description": "x".repeat(SCHEMA_BYTES_MAX) }), SchemaFault::Bytes),
        ];
        for (schema, expected) in cases {
            assert_eq!(fault(schema.clone()), Some(expected), "{schema}");
        }
        let mut deep = json!({});
        for _ in 0..70 {
            deep = json!({ "items": deep });
        }
        assert_eq!(fault(deep), Some(SchemaFault::Depth));
        assert_eq!(fault(json!({ "uniqueItems": true, "maxItems": 100, "$id": "urn:own" })), None);
    }
}
