//! spec/lifecycle.toml has the rows of the oracle, and the oracle has the rows of
//! spec/lifecycle.toml.

use std::{collections::BTreeSet, fs, path::Path};

use toml::{Table, Value};

use crate::oracle::{
    Answer, Ask, Class, Gate, Kill, Life, Safety, Situation, TYPES, WAYS, When, answer, class, is_dangerous,
};

#[test]
fn the_specification_and_the_oracle_have_the_same_rows() {
    let spec = spec();
    let states: Vec<&str> = rows(&spec, "state").map(|row| text(row, "name")).collect();
    assert_eq!(states, Life::ALL.map(Life::name));
    for (row, life) in rows(&spec, "state").zip(Life::ALL) {
        assert_eq!(row["running"].as_bool(), Some(life.runs()), "{life}");
    }
    let written: BTreeSet<String> =
        rows(&spec, "transition").filter(|row| !names(row, "from").contains("-")).map(written).collect();
    let known: BTreeSet<String> = WAYS
        .iter()
        .map(|way| {
            let from: BTreeSet<&str> = way.from.iter().map(|life| life.name()).collect();
            let when = ["accepted", "outcome", "at once"][way.when as usize];
            format!("{from:?} -> {} by {} {} {when}", way.to, way.by, way.mode.unwrap_or_default())
        })
        .collect();
    assert_eq!(written, known);
}

#[test]
fn the_conditions_and_classes_of_the_specification_are_the_oracles() {
    let spec = spec();
    for row in rows(&spec, "transition").filter(|row| row.contains_key("class")) {
        let (by, mode) = (text(row, "by"), row.get("mode").and_then(Value::as_str));
        assert_eq!(format!("{:?}", class(by)).to_lowercase(), text(row, "class"), "{row:?}");
        let conditions = names(row, "conditions");
        for life in names(row, "from").iter().flat_map(|name| among(name)) {
            // What is unknown becomes CREATED by the command that makes it IDLE.
            let to = if by == "bot-init" { "IDLE" } else { text(row, "to") };
            let requested = format!("{life}->{to}");
            let ask = Ask { kind: by, mode, requested: Some(&requested), loosens: false };
            let good = Situation { live: false, ..Situation::at(life) };
            let holds = |situation: Situation| !matches!(answer(&situation, &ask), Answer::Refuse(_));
            assert!(holds(good), "{row:?} from {life}");
            let asks = [
                ("safety-normal", !holds(Situation { safety: Safety::Safe, ..good })),
                ("gates-pass", !holds(Situation { gate: Gate::Unknown, ..good })),
                ("kill-switch-allow", !holds(Situation { kill: Kill::CloseOnly, ..good })),
                ("confirmed", is_dangerous(false, &ask)),
            ];
            let asked: BTreeSet<String> =
                asks.iter().filter(|(_, asks)| *asks).map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(asked, conditions, "{row:?} from {life}");
        }
    }
}

#[test]
fn what_stays_and_what_is_refused_is_written_too() {
    let spec = spec();
    for row in rows(&spec, "stays") {
        let leaves: BTreeSet<&str> = WAYS
            .iter()
            .filter(|way| way.by == text(row, "by") && (way.when == When::Accepted || way.by == "bot-pause"))
            .flat_map(|way| way.from.iter().map(|life| life.name()))
            .collect();
        let stays: BTreeSet<String> = Life::ALL
            .iter()
            .map(|life| life.name())
            .filter(|name| !leaves.contains(name))
            .map(str::to_owned)
            .collect();
        assert_eq!(names(row, "from"), stays, "{row:?}");
    }
    let written: BTreeSet<String> = rows(&spec, "refusal")
        .flat_map(|row| names(row, "types").into_iter().map(|kind| format!("{} {kind}", text(row, "code"))))
        .collect();
    assert_eq!(written, refusals());
}

#[test]
fn the_oracle_classes_every_type_of_the_command_table_as_it_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/commands.toml");
    let spec: Table = fs::read_to_string(path).expect("the command table").parse().expect("TOML");
    let written: BTreeSet<(String, String)> = rows(&spec, "command")
        .map(|row| (text(row, "type").to_owned(), text(row, "class").to_owned()))
        .collect();
    let lower = |class: Class| format!("{class:?}").to_lowercase();
    let known = TYPES.iter().map(|(kind, class)| ((*kind).to_owned(), lower(*class))).collect();
    assert_eq!(written, known);
}

/// Every code that the oracle's gate 8 says to some command of a type.
fn refusals() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (kind, _) in TYPES {
        for from in Life::ALL {
            for to in Life::ALL {
                for mode in [None, Some("paper"), Some("shadow"), Some("live")] {
                    let requested = format!("{from}->{to}");
                    let ask = Ask { kind, mode, requested: Some(&requested), loosens: false };
                    let situation = Situation { live: false, ..Situation::at(from) };
                    match answer(&situation, &ask) {
                        Answer::Refuse(code) if code.starts_with("lifecycle.") => {
                            found.insert(format!("{code} {kind}"));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

fn spec() -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/lifecycle.toml");
    fs::read_to_string(path).expect("the table").parse().expect("TOML")
}

fn rows<'a>(spec: &'a Table, name: &str) -> impl Iterator<Item = &'a Table> {
    spec[name].as_array().expect("rows").iter().map(|row| row.as_table().expect("a row"))
}

fn text<'a>(row: &'a Table, name: &str) -> &'a str {
    row[name].as_str().expect("a text")
}

fn names(row: &Table, name: &str) -> BTreeSet<String> {
    let texts = row[name].as_array().expect("an array").iter();
    texts.map(|text| text.as_str().expect("a text").to_owned()).collect()
}

/// The states that a name stands for; an instance that nobody has heard of begins where `bot-init`
/// does.
fn among(name: &str) -> Vec<Life> {
    match name {
        "ANY" => Life::ALL.to_vec(),
        "-" => vec![Life::Created],
        name => vec![Life::named(name).expect("a state")],
    }
}

fn written(row: &Table) -> String {
    let from: BTreeSet<&str> =
        names(row, "from").iter().flat_map(|name| among(name)).map(Life::name).collect();
    let mode = row.get("mode").and_then(Value::as_str).unwrap_or_default();
    format!("{from:?} -> {} by {} {mode} {}", text(row, "to"), text(row, "by"), text(row, "when"))
}
