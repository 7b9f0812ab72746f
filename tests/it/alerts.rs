//! The alerts stand on metrics that are served, with labels that they have.
//!
//! Owns: that the rules of docker/observability/alerts.yml name nothing that is not there.
//! Never: asks whether they fire; promtool does, with alerts_test.yml, where it is
//! (scripts/lint-docker).
//! Holds: every alert has a case in which it fires and one in which it is silent, and a page that
//! is there.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use regex::Regex;
use serde_json::Value;
use swarmgate::{
    contract::command::Commands,
    telemetry::{health::Health, metrics::Metrics},
};

fn file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/observability").join(name);
    serde_saphyr::from_str(&std::fs::read_to_string(path).expect("a file")).expect("YAML")
}

fn rules() -> Vec<Value> {
    let file = file("alerts.yml");
    let groups = file["groups"].as_array().expect("groups").iter();
    groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("`{name}` in {value}"))
}

/// Every series that a router has from the start, with its labels.
fn served() -> String {
    let metrics = Metrics::new(Arc::new(Health::default()), &Commands::default());
    metrics.refused.set_depth(Some(0));
    metrics.encode()
}

#[test]
fn a_rule_asks_for_series_that_are_there() {
    let served = served();
    let selector = Regex::new(r"(swarmgate_[a-z_]+)(?:\{([^}]*)\})?").expect("a pattern");
    let matcher = Regex::new(r#"([a-z]+)(=~?)"([^"]*)""#).expect("a pattern");
    let mut asked = 0;
    for rule in rules() {
        let (alert, expr) = (text(&rule, "alert"), text(&rule, "expr"));
        for found in selector.captures_iter(expr) {
            asked += 1;
            let name = &found[1];
            let series: Vec<&str> = served
                .lines()
                .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
                .collect();
            assert!(!series.is_empty(), "{alert}: `{name}` is not served");
            for found in matcher.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
                // Of alternatives each has to be there, but for the two ways of writing a bucket.
                let words: Vec<&str> =
                    if &found[2] == "=~" { found[3].split('|').collect() } else { vec![&found[3]] };
                let is_there = |word: &&str| {
                    series.iter().any(|line| line.contains(&format!("{}=\"{word}\"", &found[1])))
                };
                let there = words.iter().filter(|word| is_there(word)).count();
                let wanted = if &found[1] == "le" { 1 } else { words.len() };
                assert_eq!(there, wanted, "{alert}: `{name}` has not all of {words:?}");
            }
        }
    }
    assert!(asked > 20, "{asked} selectors were found");
}

#[test]
fn every_rule_is_shown_to_fire_and_to_be_silent_and_names_a_page() {
    let tests = file("alerts_test.yml");
    let tests = tests["tests"].as_array().expect("tests");
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for case in tests.iter().flat_map(|test| test["alert_rule_test"].as_array().expect("cases")) {
        let alert = text(case, "alertname").to_owned();
        let expected = case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
        if expected {
            fires.insert(alert)
        } else {
            silent.insert(alert)
        };
    }
    let alerts: BTreeSet<String> = rules().iter().map(|rule| text(rule, "alert").to_owned()).collect();
    assert_eq!(fires, alerts);
    assert_eq!(silent, alerts);
    for rule in rules() {
        let page = text(&rule["annotations"], "runbook");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(page).is_file(), "`{page}`");
    }
}
