//! Properties of the readers: keys, patterns, canonical form, strict JSON.
//!
//! Owns: the comparison of our readers with a plain definition or with the library that they stand
//! on.
//! Never: fixes a seed; a failing case is kept by proptest and turned into a row of a table.
//! Holds: what is read is what was written, or it is refused.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use swarmgate::contract::{
    Limits, canonical,
    reason::Reason,
    routing::{ControlPlaneRouting, Family, RoutingKey, Scope},
    strict,
    tree::{Judged, View},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn build_and_parse_are_one(family in 0..4_usize, segments in proptest::collection::vec("[A-Za-z0-9][A-Za-z0-9_-]{0,127}", 4)) {
        let family = Family::ALL[family];
        let [kind_type, swarm, role, instance] = <[String; 4]>::try_from(segments).expect("four");
        let scope = Scope::new(swarm, role, instance);
        if let Ok(key) = ControlPlaneRouting::build(family, &kind_type, &scope) {
            prop_assert!(key.len() <= 255);
            prop_assert_eq!(ControlPlaneRouting::parse(&key), Ok(RoutingKey { family, kind_type, scope }));
        }
    }

    #[test]
    fn a_hostile_key_is_never_read_as_another(
        head in prop_oneof![Just("signal"), Just("event.outcome"), Just("event.alert"), Just("event.metric"), Just("event"), Just("")],
        segments in proptest::collection::vec(hostile_segment(), 0..12),
    ) {
        let key = std::iter::once(head.to_owned()).chain(segments).collect::<Vec<_>>().join(".");
        if let Ok(parsed) = ControlPlaneRouting::parse(&key) {
            prop_assert_eq!(ControlPlaneRouting::build(parsed.family, &parsed.kind_type, &parsed.scope), Ok(key));
        }
    }

    #[test]
    fn canonical_is_the_librarys(value in any_value()) {
        let known = serde_json_canonicalizer::to_vec(&value).expect("serialises");
        let text = canonical::raw(&value).expect("a canonical text");
        prop_assert_eq!(text.get().as_bytes(), &known);
        if let Ok(tree) = strict::parse(value.to_string().as_bytes(), &Limits::default()) {
            let text = canonical::read(tree.root()).expect("a canonical text");
            prop_assert_eq!(text.get().as_bytes(), &known);
        }
    }

    #[test]
    fn a_tree_finds_what_its_value_holds(value in any_value(), name in prop_oneof!["[a-c]{0,2}", any::<String>()]) {
        if let Ok(tree) = strict::parse(value.to_string().as_bytes(), &Limits::default()) {
            prop_assert_eq!(tree.get(&name).map(View::to_value), value.get(&name).cloned());
            prop_assert_eq!(serde_json::to_value(&tree).expect("serialises"), value.clone());
            let items: Vec<Value> = tree.root().items().map(View::to_value).collect();
            prop_assert_eq!(items.iter().collect::<Vec<_>>(), value.as_array().into_iter().flatten().collect::<Vec<_>>());
            let members: BTreeMap<&str, Value> = tree.root().members().map(|(key, member)| (key, member.to_value())).collect();
            let known = value.as_object().into_iter().flatten().map(|(key, member)| (key.as_str(), member.clone()));
            prop_assert_eq!(members, known.collect());
        }
    }

    #[test]
    fn a_schema_says_of_a_tree_what_it_says_of_its_value(value in any_value(), schema in any_schema(3)) {
        if let Ok(tree) = strict::parse(value.to_string().as_bytes(), &Limits::default()) {
            let schema = json!({ "$defs": { "d": { "type": "object" } }, "allOf": [schema] });
            let known = jsonschema::options().build(&schema);
            let judged = jsonschema::options_for::<Judged>().build(&schema);
            prop_assert_eq!(known.is_ok(), judged.is_ok());
            // A list that names a value twice is no schema.
            let (Ok(known), Ok(judged)) = (known, judged) else { return Ok(()) };
            prop_assert_eq!(judged.is_valid(tree.root()), known.is_valid(&value), "{}", schema);
            let words = |fault: jsonschema::ValidationError<'_>| format!("{} {fault}", fault.instance_path());
            let mut faults: Vec<String> = judged.iter_errors(tree.root()).map(words).collect();
            let mut known: Vec<String> = known.iter_errors(&value).map(words).collect();
            // The members of a value come in their order, those of a tree in the body's.
            faults.sort();
            known.sort();
            prop_assert_eq!(faults, known);
        }
    }

    #[test]
    fn the_strict_reader_accepts_what_serde_json_accepts_with_equal_values(value in any_value(), cut in any::<prop::sample::Index>(), noise in any::<u8>()) {
        let limits = Limits::default();
        let text = value.to_string();
        let read = strict::parse(text.as_bytes(), &limits).map(Value::from).map_err(|refusal| refusal.reason);
        prop_assert_eq!(&read, &if has_wide_integer(&value) { Err(Reason::NotJson) } else { Ok(value) });
        let mut bytes = text.into_bytes();
        let at = cut.index(bytes.len());
        bytes[at] = noise;
        let known = serde_json::from_slice::<Value>(&bytes);
        match (strict::parse(&bytes, &limits), known) {
            (Ok(read), known) => prop_assert_eq!(Value::from(read), known.expect("serde_json accepts it too")),
            (Err(refusal), Ok(known)) => prop_assert!(
                has_wide_integer(&known) || matches!(refusal.reason, Reason::DuplicateKey | Reason::NotJson), "{refusal:?}"
            ),
            (Err(refusal), Err(_)) => prop_assert!(matches!(refusal.reason, Reason::NotJson | Reason::NotUtf8), "{refusal:?}"),
        }
    }

    #[test]
    fn patterns_agree_with_a_plain_reading(pattern in proptest::collection::vec("[ab*#]", 0..6), key in proptest::collection::vec("[ab]", 0..6)) {
        let plain = plainly_matches(&pattern, &key);
        prop_assert_eq!(ControlPlaneRouting::matches(&pattern.join("."), &key.join(".")), plain);
    }
}

/// The definition of a topic match, word by word.
fn plainly_matches(pattern: &[String], key: &[String]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        ([hash, rest @ ..], _) if hash == "#" => {
            (0..=key.len()).any(|taken| plainly_matches(rest, &key[taken..]))
        }
        ([word, rest @ ..], [head, tail @ ..]) => {
            (word == "*" || word == head) && plainly_matches(rest, tail)
        }
        _ => false,
    }
}

fn hostile_segment() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        Just(String::new()),
        prop::sample::select(vec![
            "*",
            "#",
            "ALL",
            "all",
            "All",
            "a b",
            "a\0",
            "a\r\nb",
            "-a",
            "_a",
            "а",
            "ａ",
            "\u{200d}",
            "\u{202e}a",
            "signal",
            "event"
        ])
        .prop_map(str::to_owned),
        (60..80_usize).prop_map(|length| "x".repeat(length)),
        (230..260_usize).prop_map(|length| "x".repeat(length)),
        any::<String>(),
    ]
}

/// A schema of the kinds that the contract's and a deployment's schemas are made of.
fn any_schema(depth: u32) -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        prop::sample::subsequence(vec!["null", "boolean", "integer", "number", "string", "array", "object"], 1..7)
            .prop_map(|types| json!({ "type": types })),
        any_value().prop_map(|value| json!({ "const": value })),
        proptest::collection::vec(any_value(), 1..4).prop_map(|values| json!({ "enum": values })),
        (-100_i64..100).prop_map(|bound| json!({ "minimum": bound, "maximum": bound + 50 })),
        (0..6_u32).prop_map(|bound| json!({ "minLength": bound, "maxLength": bound + 2, "minItems": bound, "maxProperties": bound })),
        Just(json!({ "uniqueItems": true, "pattern": "^[a-c]*$", "required": ["a", "b"] })),
        Just(json!({ "propertyNames": { "maxLength": 1 } })),
        Just(json!({ "format": "date-time" })),
    ];
    leaf.prop_recursive(depth, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone(), any::<bool>()).prop_map(|(a, b, closed)| {
                json!({ "properties": { "a": a, "b": b }, "additionalProperties": !closed, "type": ["object", "array", "string"] })
            }),
            (inner.clone(), inner.clone()).prop_map(|(named, others)| {
                json!({ "patternProperties": { "^a": named }, "additionalProperties": others })
            }),
            inner.clone().prop_map(|items| json!({ "items": items })),
            proptest::collection::vec(inner.clone(), 1..3).prop_map(|parts| json!({ "anyOf": parts })),
            proptest::collection::vec(inner.clone(), 1..3).prop_map(|parts| json!({ "oneOf": parts })),
            inner.prop_map(|part| json!({ "allOf": [part], "not": { "$ref": "#/$defs/d" } })),
        ]
    })
    .boxed()
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\\x00-\\x7f]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(prop_oneof!["[a-c]{0,2}", any::<String>()], inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn has_wide_integer(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.as_u64().is_some_and(|value| value > strict::INTEGER_MAX)
                || number.as_i64().is_some_and(|value| value.unsigned_abs() > strict::INTEGER_MAX)
        }
        Value::Array(items) => items.iter().any(has_wide_integer),
        Value::Object(members) => members.values().any(has_wide_integer),
        _ => false,
    }
}
