//! JSONTestSuite's parsing cases (tests/data/json_test_suite) before the strict reader.
//!
//! Owns: what the reader does with each case, and the list of those where the contract is narrower
//! than JSON.
//! Never: needs a broker.
//! Holds: what JSON forbids is refused, what it demands is accepted with the library's value or
//! listed here with why.

use std::collections::BTreeMap;

use serde_json::Value;
use swarmgate::contract::{Limits, reason::Reason, strict};

const MUST_ACCEPT: &str = include_str!("../data/json_test_suite/y.tsv");
const MUST_REFUSE: &str = include_str!("../data/json_test_suite/n.tsv");
const MAY_DO_EITHER: &str = include_str!("../data/json_test_suite/i.tsv");

/// Cases that JSON allows and the contract does not.
const NARROWER: [(&str, Reason); 2] = [
    // Readers differ in which of the two they take, so a gate and a worker could see different
    // commands.
    ("y_object_duplicated_key", Reason::DuplicateKey),
    // The same two values today; a rule that looks at values first would be one more thing for
    // readers to differ on.
    ("y_object_duplicated_key_and_value", Reason::DuplicateKey),
];

/// What is done where JSON leaves it open; everything that is not here is no UTF-8.
const DONE: [(&str, Result<(), Reason>); 22] = [
    // Nearest double: 0. It is not an integer, so no reader holds more of it.
    ("i_number_double_huge_neg_exp", Ok(())),
    ("i_number_real_underflow", Ok(())),
    // No double is as large.
    ("i_number_huge_exp", Err(Reason::NotJson)),
    ("i_number_neg_int_huge_exp", Err(Reason::NotJson)),
    ("i_number_pos_double_huge_exp", Err(Reason::NotJson)),
    ("i_number_real_neg_overflow", Err(Reason::NotJson)),
    ("i_number_real_pos_overflow", Err(Reason::NotJson)),
    // Integers that a double would round.
    ("i_number_too_big_neg_int", Err(Reason::NotJson)),
    ("i_number_too_big_pos_int", Err(Reason::NotJson)),
    ("i_number_very_big_negative_int", Err(Reason::NotJson)),
    // Half a surrogate pair is no character.
    ("i_object_key_lone_2nd_surrogate", Err(Reason::NotJson)),
    ("i_string_1st_surrogate_but_2nd_missing", Err(Reason::NotJson)),
    ("i_string_1st_valid_surrogate_2nd_invalid", Err(Reason::NotJson)),
    ("i_string_incomplete_surrogate_and_escape_valid", Err(Reason::NotJson)),
    ("i_string_incomplete_surrogate_pair", Err(Reason::NotJson)),
    ("i_string_incomplete_surrogates_escape_valid", Err(Reason::NotJson)),
    ("i_string_invalid_lonely_surrogate", Err(Reason::NotJson)),
    ("i_string_invalid_surrogate", Err(Reason::NotJson)),
    ("i_string_inverted_surrogates_U+1D11E", Err(Reason::NotJson)),
    ("i_string_lone_second_surrogate", Err(Reason::NotJson)),
    ("i_structure_500_nested_arrays", Err(Reason::TooDeep)),
    ("i_structure_UTF-8_BOM_empty_object", Err(Reason::NotJson)),
];

/// The cases of a file, by name.
fn cases(file: &str) -> BTreeMap<&str, Vec<u8>> {
    file.lines()
        .map(|line| line.split_once('\t').expect("a name and a case"))
        .map(|(name, case)| (name, bytes(case)))
        .collect()
}

/// A case without its escapes.
fn bytes(case: &str) -> Vec<u8> {
    let mut rest = case.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().expect("an escape") {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'x' => {
                    let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                    u8::from_str_radix(str::from_utf8(&digits).expect("ASCII"), 16).expect("a byte")
                }
                other => other,
            },
            byte => byte,
        });
    }
    bytes
}

fn read(body: &[u8]) -> Result<Value, Reason> {
    strict::parse(body, &Limits::default()).map(Value::from).map_err(|refusal| refusal.reason)
}

#[test]
fn what_json_demands_is_accepted_with_the_librarys_value() {
    let cases = cases(MUST_ACCEPT);
    assert_eq!(cases.len(), 95);
    for (name, body) in cases {
        let known = serde_json::from_slice::<Value>(&body).expect("JSON");
        let wanted = match NARROWER.iter().find(|(narrower, _)| *narrower == name) {
            Some((_, reason)) => Err(*reason),
            None => Ok(known),
        };
        assert_eq!(read(&body), wanted, "{name}");
    }
}

#[test]
fn what_json_forbids_is_refused() {
    let mut cases = cases(MUST_REFUSE);
    cases.insert("n_structure_100000_opening_arrays", vec![b'['; 100_000]);
    cases.insert("n_structure_open_array_object", ["[{\"\":".repeat(50_000).as_bytes(), b"\n"].concat());
    assert_eq!(cases.len(), 188);
    for (name, body) in cases {
        let reason = read(&body).expect_err(name);
        let wanted = if str::from_utf8(&body).is_ok() { Reason::NotJson } else { Reason::NotUtf8 };
        assert_eq!(reason, wanted, "{name}");
    }
}

#[test]
fn the_deepest_limit_keeps_the_stack_too() {
    let limits = Limits { depth_max: usize::MAX, ..Limits::default() };
    for body in ["[".repeat(100_000), "[{\"\":".repeat(50_000)] {
        let refusal = strict::parse(body.as_bytes(), &limits).expect_err("refused");
        assert_eq!(refusal.reason, Reason::TooDeep);
    }
}

#[test]
fn what_json_leaves_open_is_decided() {
    let cases = cases(MAY_DO_EITHER);
    assert_eq!(cases.len(), 35);
    for (name, body) in &cases {
        let done = DONE.iter().find(|(known, _)| known == name);
        let wanted = done.map_or(Err(Reason::NotUtf8), |(_, done)| *done);
        assert_eq!(read(body).map(drop), wanted, "{name}");
    }
    assert!(DONE.iter().all(|(name, _)| cases.contains_key(name)), "a case is listed that is not there");
}
