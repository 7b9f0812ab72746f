//! The members of every answer, as its type has them.
//!
//! Owns: walking a type from what it asks of a deserializer, and comparing what is found with
//! docs/reference/api.md.
//! Never: asks a router, so that no member is missed because nothing set it.
//! Holds: a member that is on the page and in no type, or in a type and not on the page, fails the
//! test by its name.

use std::{cell::RefCell, collections::BTreeSet};

use serde::{
    Deserialize,
    de::{Deserializer, Visitor, value::Error, value::MapDeserializer, value::SeqDeserializer},
    forward_to_deserialize_any,
};
use swarmgate::view::{
    challenges::{Challenge, Challenges, Unreviewed},
    commands::{Command, Commands},
    graph::{Graph, Impact},
    inventory::{Instance, Instances, Swarms},
    may::May,
    overview::Overview,
    problem::ProblemDetails,
    safety::Safety,
};

const SCOPE: [&str; 3] = ["instance", "role", "swarmId"];
const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/api.md"));

/// Every struct that was met, with the names of its members as they are declared.
type Met = RefCell<Vec<(&'static str, &'static [&'static str])>>;

/// Answers whatever a type asks for, each member once, and remembers what was asked.
#[derive(Clone, Copy)]
struct Walk<'a>(&'a Met);

impl<'de> serde::de::IntoDeserializer<'de, Error> for Walk<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.borrow_mut().push((name, fields));
        visitor.visit_map(MapDeserializer::new(fields.iter().map(|field| (*field, self))))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new([self].into_iter()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("")
    }

    /// Numbers, and what takes any value.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(0)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map enum identifier ignored_any
    }
}

/// The structs that a type is made of.
fn met<T: for<'de> Deserialize<'de>>() -> Vec<(&'static str, &'static [&'static str])> {
    let met = Met::default();
    if let Err(fault) = T::deserialize(Walk(&met)) {
        panic!("{}: {fault}", std::any::type_name::<T>());
    }
    met.into_inner()
}

/// The names that a section has in what it shows of an answer; what stands behind a colon or a bar
/// is a value.
fn shown(section: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for line in section.lines().filter(|line| line.starts_with("    ")) {
        let parts: Vec<&str> = line.split('"').collect();
        for pair in parts.windows(2).step_by(2) {
            if let [before, name] = pair
                && !before.trim_end().ends_with([':', '|'])
            {
                names.insert(*name);
            }
        }
    }
    names
}

/// Where a page and the types differ: in the names of members, in either direction, or in their
/// order.
fn differences(page: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (title, types) in [
        ("Overview", met::<Overview>()),
        (
            "Safety and challenges",
            [met::<Safety>(), met::<Challenges>(), met::<Challenge>(), met::<Unreviewed>()].concat(),
        ),
        ("May I", met::<May>()),
        ("Inventory", [met::<Swarms>(), met::<Instances>(), met::<Instance>()].concat()),
        ("Commands", [met::<Commands>(), met::<Command>()].concat()),
        ("Graph and impact", [met::<Graph>(), met::<Impact>()].concat()),
        ("When the answer is no", met::<ProblemDetails>()),
    ] {
        let section = page.split("\n## ").find(|text| text.starts_with(title)).unwrap_or_default();
        let unordered = types.iter().filter(|(_, members)| !members.is_sorted());
        complaints.extend(unordered.map(|(name, _)| format!("`{name}` is not in the order of JSON")));
        let members: BTreeSet<&str> = types.iter().flat_map(|(_, members)| members.iter().copied()).collect();
        let strange = shown(section).into_iter().filter(|name| !members.contains(name));
        complaints.extend(strange.map(|name| format!("{title} shows `{name}`, which no answer has")));
        // What a scope has is said once, at the head of the page.
        let lacks = members.into_iter().filter(|name| {
            let quoted = format!("\"{name}\"");
            !(section.contains(&quoted) || SCOPE.contains(name) && page.contains(&quoted))
        });
        complaints.extend(lacks.map(|name| format!("{title} lacks `{name}`")));
    }
    complaints
}

/// The page has the members of every type, and no others.
pub fn are_those_of_the_page() {
    assert_eq!(differences(PAGE), [""; 0]);
}

#[test]
fn a_member_that_is_on_one_side_alone_is_named() {
    for (name, title) in [
        ("walBytes", "Overview"),
        ("expiresAt", "Safety and challenges"),
        ("notAffected", "May I"),
        ("watermark", "Inventory"),
        ("epoch", "Inventory"),
        ("reached", "Commands"),
        ("relieved", "Graph and impact"),
        ("nextStep", "When the answer is no"),
        ("swarmId", "Inventory"),
    ] {
        let page = PAGE.replace(&format!("\"{name}\""), "\"misspelt\"");
        let complaints = differences(&page);
        assert!(complaints.contains(&format!("{title} lacks `{name}`")), "{name}: {complaints:?}");
    }
    let page = PAGE.replace("\"watermark\"", "\"watermark\", \"depth\"");
    assert_eq!(differences(&page), ["Inventory shows `depth`, which no answer has"]);
}
