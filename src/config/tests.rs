//! Tables of configs and what is said of them.
//!
//! Owns: the tests of the loader, of the printed defaults and of the JSON Schema.
//! Never: touches a file outside a temporary directory.
//! Holds: each row names the whole of what it expects to see.

use std::collections::BTreeSet;

use super::{own_types::TYPE_FIELDS, *};
use crate::contract::command::{Answerer, Class, FanOut};

struct Case {
    yaml: &'static str,
    env: &'static [(&'static str, &'static str)],
    flags: &'static [(&'static str, &'static str)],
    /// (where, what the message holds, what the help holds)
    faults: &'static [(&'static str, &'static str, &'static str)],
}

fn run(yaml: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("swarmgate.yaml");
    std::fs::write(&file, yaml).unwrap();
    std::fs::write(dir.path().join("good.json"), "{\"type\":\"object\"}").unwrap();
    std::fs::write(dir.path().join("bad.json"), "{").unwrap();
    std::fs::write(dir.path().join("loop.json"), "{\"$ref\":\"#\"}").unwrap();
    load(&Layers {
        file: Some(file),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: flags
            .iter()
            .map(|(path, value)| FlagSetting {
                flag: "--set".into(),
                path: (*path).into(),
                value: (*value).into(),
            })
            .collect(),
    })
}

fn faults(result: Result<Loaded, ConfigError>) -> Vec<ConfigFault> {
    match result {
        Err(ConfigError::Faulty { faults }) => faults,
        other => panic!("expected faults, got {other:?}"),
    }
}

const CASES: &[Case] = &[
    Case {
        yaml: "amqp:\n  prefx: a\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "`amqp.prefx` is not a key", "`amqp.prefix`")],
    },
    Case {
        yaml: "prefix: a\n",
        env: &[],
        flags: &[],
        faults: &[(":1", "`prefix` is not a key", "`amqp.prefix`")],
    },
    Case {
        yaml: "zzzzzzzzz: 1\n",
        env: &[],
        flags: &[],
        faults: &[(":1", "is not a key", "--print-defaults")],
    },
    Case {
        yaml: "\nmode: enforced\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "`enforce` is nearest", "`observe`, `enforce`")],
    },
    Case {
        yaml: "identity:\n  mode: signed\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "`identity.mode`", "write `open`")],
    },
    Case {
        yaml: "limits:\n  depth_max: 1000\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "`1000`, out of bounds", "from 4 to 127")],
    },
    Case {
        yaml: "limits:\n  depth_max: 128\n",
        env: &[("SWARMGATE_LIMITS_DEPTH_MAX", "128")],
        flags: &[("limits.depth_max", "128")],
        faults: &[
            (":2", "`128`, out of bounds", "from 4 to 127"),
            ("SWARMGATE_LIMITS_DEPTH_MAX", "`128`, out of bounds", "from 4 to 127"),
            ("--set", "`128`, out of bounds", "from 4 to 127"),
        ],
    },
    Case {
        yaml: "limits:\n  depth_max: 10ms\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "wants a whole number, not text", "without unit")],
    },
    Case {
        yaml: "limits:\n  depth_max: -1\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "wants a whole number", "from 4")],
    },
    Case {
        yaml: "instance: 7\n",
        env: &[],
        flags: &[],
        faults: &[(":1", "wants text, not a number", "quotes")],
    },
    Case { yaml: "instance:\n", env: &[], flags: &[], faults: &[(":1", "has no value", "default")] },
    Case {
        yaml: "instance: ALL\n",
        env: &[],
        flags: &[],
        faults: &[(":1", "not a routing-key segment", "1 to 128")],
    },
    Case {
        yaml: "amqp: x\n",
        env: &[],
        flags: &[],
        faults: &[(":1", "`amqp` is a section", "under `amqp:`")],
    },
    Case { yaml: "- a\n", env: &[], flags: &[], faults: &[(":1", "not a mapping", "key: value")] },
    Case {
        yaml: "http:\n  addr: localhost\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "not an address", "127.0.0.1:8080")],
    },
    Case {
        yaml: "mode: observe\nmode: enforce\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "stands twice", "that line")],
    },
    Case {
        yaml: "environment: prod\n",
        env: &[],
        flags: &[],
        faults: &[
            (":1", "`prod` and `identity.mode` is `open`", "`stage` or `dev`"),
            (":1", "`prod` and `safety.gates_required` is empty", "readiness gates"),
        ],
    },
    Case {
        yaml: "environment: stage\nidentity: {trust_origin: true}\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "`identity.trust_origin` is for `environment: dev`", "user-id")],
    },
    Case {
        yaml: "identity: {trust_origin: \"yes\"}\n",
        env: &[("SWARMGATE_IDENTITY_TRUST_ORIGIN", "on")],
        flags: &[],
        faults: &[
            (":1", "wants true or false, not text", "`true` or `false`"),
            ("SWARMGATE_IDENTITY_TRUST_ORIGIN", "wants true or false", "`false`"),
        ],
    },
    Case {
        yaml: "safety: {gates_required: [risk]}\n",
        env: &[("SWARMGATE_ENVIRONMENT", "prod")],
        flags: &[],
        faults: &[("SWARMGATE_ENVIRONMENT", "`prod`", "`stage`")],
    },
    Case {
        yaml: "",
        env: &[("SWARMGATE_LIMITS_DEPTH_MAX", "deep")],
        flags: &[("mode", "x"), ("mod", "observe"), ("types", "[]")],
        faults: &[
            ("SWARMGATE_LIMITS_DEPTH_MAX", "wants a whole number", "from 4"),
            ("--set", "`mode` is none of the words", "`observe`"),
            ("--set", "`mod` is not a key", "`mode`"),
            ("--set", "cannot be set by a flag", "file"),
        ],
    },
    Case {
        yaml: "amqp:\n  url: http://canary:canary@h\n  reconnect_min_ms: 500\n  reconnect_max_ms: 400\nledgr: {}\n",
        env: &[],
        flags: &[],
        faults: &[
            (":2", "does not begin with `amqp://`", "%2f"),
            (":5", "`ledgr` is not a key", "`ledger`"),
            (":3", "above `amqp.reconnect_max_ms`", "lower"),
        ],
    },
    Case {
        yaml: "limits: {body_bytes_max: 2097152}\nparking: {bytes_max: 1048576}\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "the largest command could never wait", "raise")],
    },
    Case {
        yaml: "amqp:\n  url: amqp://canary:canary@h\n  urls: [amqp://canary:canary@h]\n",
        env: &[("SWARMGATE_AMQP_URLS", "amqp://canary@h,amqp://other@h")],
        flags: &[("amqp.urls", "amqp://h, http://canary:canary@h")],
        faults: &[
            (":3", "`amqp.urls` and `amqp.url` are both set", "one of the two"),
            ("--set", "`amqp.urls[1]` does not begin with", "%2f"),
            ("SWARMGATE_AMQP_URLS", "several users or virtual hosts", "the same user"),
        ],
    },
    Case {
        yaml: "amqp: {urls: []}\n",
        env: &[],
        flags: &[("amqp.url", "amqp://canary:canary@one,two/v")],
        faults: &[
            (":1", "wants a list of 1 to 16 URLs", "for each node"),
            ("--set", "`amqp.url` names several hosts", "%2f"),
        ],
    },
    Case {
        yaml: "limits: {body_bytes_max: 2097152}\namqp: {in_flight_bytes_max: 1048576}\n",
        env: &[],
        flags: &[],
        faults: &[(":2", "four times `limits.body_bytes_max`", "raise")],
    },
    Case {
        yaml: "types:\n  - type: stop\n    schema: good.json\n  - type: mine\n    schema: none.json\n  - type: mine\n    schema: bad.json\n    success: [Failed]\n  - {type: twice, schema: good.json}\n\n  - {type: twice, schema: good.json}\n\n  - {type: loop, schema: loop.json}\n",
        env: &[],
        flags: &[],
        faults: &[
            (":4", "`none.json` of type `mine` cannot be read", "JSON Schema"),
            (":6", "names `Failed`", "done"),
            (":6", "`bad.json` of type `mine` is not JSON", "JSON Schema"),
            (":2", "`stop` is there already", "mend"),
            (":11", "`twice` is there already", "mend"),
            (":13", "refers to itself", "mend"),
        ],
    },
    Case {
        yaml: "types:\n  - schema: good.json\n    clas: start\n  - type: a.b\n    schema: good.json\n    class: halt\n",
        env: &[],
        flags: &[],
        faults: &[
            (":3", "`types[].clas` is not a key", "`types[].class`"),
            (":2", "has no `type`", "add"),
            (":4", "`types[1].type` is not a routing-key segment", "1 to 128"),
            (":6", "`types[1].class`", "`stop`"),
        ],
    },
];

#[test]
fn every_fault_is_told_with_its_place() {
    for Case { yaml, env, flags, faults: expected } in CASES {
        let found = faults(run(yaml, env, flags));
        assert_eq!(found.len(), expected.len(), "{yaml}\n{found:#?}");
        for (fault, (at, message, help)) in found.iter().zip(*expected) {
            let fits = fault.at.ends_with(at) && fault.message.contains(message) && fault.help.contains(help);
            assert!(fits, "{yaml}\n{fault:#?}\nis not {at} {message} {help}");
            assert!(!format!("{fault:?}").contains("canary"));
        }
    }
}

#[test]
fn the_deepest_that_may_be_set_is_what_the_lexer_reads() {
    use crate::contract::strict::LEXER_DEPTH_MAX;
    let field = FIELDS.iter().find(|field| field.path == "limits.depth_max").unwrap();
    assert!(matches!(field.kind, KeyKind::Whole(_, max) if max == LEXER_DEPTH_MAX as u64));
    let loaded = run(&format!("limits: {{depth_max: {LEXER_DEPTH_MAX}}}"), &[], &[]).unwrap();
    assert_eq!(loaded.config.limits.depth_max, LEXER_DEPTH_MAX);
}

#[test]
fn a_flag_is_set_by_every_layer() {
    let trusts = |yaml: &str, env: &[(&str, &str)], flags: &[(&str, &str)]| {
        run(yaml, env, flags).unwrap().rules().trust_origin
    };
    assert!(!trusts("", &[], &[]), "nobody is believed who did not ask for it");
    assert!(trusts("identity: {trust_origin: true}", &[], &[]));
    assert!(trusts("", &[("SWARMGATE_IDENTITY_TRUST_ORIGIN", "true")], &[]));
    assert!(!trusts("identity: {trust_origin: true}", &[], &[("identity.trust_origin", "false")]));
}

/// Every list of the table, with items of its form.
fn lists() -> Vec<(&'static str, [&'static str; 2])> {
    let items = |field: &Field| match field.path {
        "amqp.urls" => ["amqp://u:pw@one/v", "amqp://u:pw@two/v"],
        "safety.gate_reporters" => ["risk=risk-bot", "feed=feed-bot"],
        "consent.groups" => ["risk=ann+bob", "ops=eve"],
        "consent.quorum" => ["risk=2", "ops=1"],
        "consent.standing" => [
            "nightly 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 2027-01-01T00:00:00Z 5",
            "weekly 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 2027-01-01T00:00:00Z 1",
        ],
        _ => ["risk", "market-data"],
    };
    FIELDS.iter().filter(|field| field.kind.is_list()).map(|field| (field.path, items(field))).collect()
}

/// What the others of a layer have to say for that list to stand.
fn beside(path: &str) -> &'static str {
    if path == "consent.quorum" { "consent: {groups: ['risk=ann+bob', 'ops=eve']}\n" } else { "" }
}

fn found(loaded: &Loaded, path: &str) -> serde_json::Value {
    let config = serde_json::to_value(&loaded.config).unwrap();
    config.pointer(&format!("/{}", path.replace('.', "/"))).unwrap().clone()
}

#[test]
fn every_list_is_set_by_a_variable_and_a_flag_in_either_form() {
    let lists = lists();
    assert!(lists.len() >= 9, "{lists:?}");
    for (path, [one, two]) in lists {
        let shown = |item: &str| item.replace(":pw@", ":***@");
        let quoted = serde_json::to_string(&[one, two]).unwrap();
        for text in
            [format!("{one},{two}"), format!(" {one} , {two} "), quoted, format!("['{one}', '{two}']")]
        {
            let by_flag = run(beside(path), &[], &[(path, &text)]).unwrap();
            let by_variable = run(beside(path), &[(&variable(path), &text)], &[]).unwrap();
            for loaded in [by_flag, by_variable] {
                assert_eq!(
                    found(&loaded, path),
                    serde_json::json!([shown(one), shown(two)]),
                    "{path}={text}"
                );
            }
        }
        let single = run(beside(path), &[], &[(path, one)]).unwrap();
        assert_eq!(found(&single, path), serde_json::json!([shown(one)]), "{path}");
        if path != "amqp.urls" {
            let none = run(beside(path), &[(&variable(path), one)], &[(path, "[]")]).unwrap();
            assert_eq!(found(&none, path), serde_json::json!([]), "{path}");
        }
    }
}

#[test]
fn a_list_that_is_wrong_is_told_by_its_name_and_its_form() {
    let long = "canary".repeat(100);
    for (path, [one, _]) in lists() {
        for (text, message, help) in [
            ("", "has no value", "`[]` for none"),
            ("  ", "has no value", "`[]` for none"),
            ("[canary", "wants a list of", "commas between|`one,two`"),
            ("[canary, [canary]]", "wants ", "in quotes|commas between"),
            ("[7]", "wants ", "in quotes|commas between"),
            (&format!("[{{canary: '{one}'}}]"), "wants ", "in quotes|commas between"),
            (&format!("{one},,{one}"), "is empty|", "its comma|"),
            (&format!("{one},"), "is empty|", "its comma|"),
            (&long, "is longer than|`amqp.urls", "shorten|write"),
        ] {
            let name = variable(path);
            for (at, result) in
                [("--set", run("", &[], &[(path, text)])), (&*name, run("", &[(&name, text)], &[]))]
            {
                if path == "amqp.urls" && text.starts_with(one) {
                    // A comma that no URL follows is a part of a password, and that form has faults
                    // of its own.
                    continue;
                }
                let faults = faults(result);
                let fault = faults.first().unwrap();
                let has = |said: &str, words: &str| words.split('|').any(|word| said.contains(word));
                assert!(fault.at == at && fault.path == path, "{path}={text}\n{fault:#?}");
                assert!(fault.message.contains(&format!("`{path}")), "{fault:#?}");
                assert!(has(&fault.message, message) && has(&fault.help, help), "{path}={text}\n{fault:#?}");
                assert!(!format!("{fault:?}").contains("canary"), "{fault:#?}");
            }
        }
    }
    let elsewhere = faults(run("", &[("SWARMGATE_TYPES", "[]")], &[]));
    assert!(elsewhere[0].message.contains("by a flag or a variable"), "{elsewhere:?}");
}

#[test]
fn a_later_layer_wins() {
    let yaml = "instance: file\nhttp: {connections_max: 1}\namqp:\n  prefix: file\n";
    let env = [
        ("SWARMGATE_INSTANCE", "env"),
        ("SWARMGATE_AMQP_PREFIX", "env"),
        ("SWARMGATE_HTTP_CONNECTIONS_MAX", "2"),
    ];
    let loaded = run(yaml, &env, &[("instance", "flag")]).unwrap();
    let config = &loaded.config;
    assert_eq!((config.instance.as_str(), config.amqp.prefix.as_str()), ("flag", "env"));
    assert_eq!((config.http.connections_max, config.http.header_timeout_ms), (2, 5_000));
    assert_eq!(run(yaml, &[], &[]).unwrap().config.instance, "file");
    assert_eq!(run("", &[], &[]).unwrap().config, Config::default());
}

#[test]
fn a_misspelt_variable_is_warned_of_and_a_stranger_is_not() {
    let env = [("SWARMGATE_INSTANC", "x"), ("SWARMGATE_SERVICE_HOST", "10.0.0.1"), ("SWARMGATE_CONFIG", "f")];
    let warnings = run("", &env, &[]).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("`SWARMGATE_INSTANCE`"));
}

#[test]
fn nothing_is_forgotten_before_it_can_have_ended() {
    let said = |yaml: &str| faults(run(yaml, &[], &[])).remove(0).message;
    let (short, long) = ("idempotency:\n  window_ms: 239999\n", "idempotency:\n  window_ms: 300000\n");
    assert!(said(short).contains("`idempotency.window_ms` is below 240000"), "{}", said(short));
    assert!(run("idempotency:\n  window_ms: 240000\n", &[], &[]).is_ok());
    let slow = format!("{long}deadlines:\n  bot_stop_ms: 280000\n");
    assert!(said(&slow).contains("the deadline of `bot-stop`"), "{}", said(&slow));
    let own = format!(
        "{long}types:\n  - {{type: mine, schema: good.json, answered_by: target, success: [Done], deadline_ms: 300000}}\n"
    );
    let messages: Vec<String> = faults(run(&own, &[], &[])).into_iter().map(|fault| fault.message).collect();
    assert!(messages.iter().any(|message| message.contains("the deadline of `mine`")), "{messages:?}");
}

#[test]
fn the_password_is_nowhere_but_where_it_is_exposed() {
    let env = [("SWARMGATE_AMQP_URL", "amqp://router:canary@broker:5672/%2f")];
    let loaded = run("", &env, &[]).unwrap();
    let shown = [
        format!("{loaded:?}"),
        serde_json::to_string(&loaded.config).unwrap(),
        loaded.config.amqp.url.to_string(),
    ];
    for form in shown {
        assert!(form.contains("router:***@broker") && !form.contains("canary"), "{form}");
    }
    assert!(loaded.config.amqp.url.expose().contains("canary"));
    let wrong = run("amqp:\n  url: [canary\n", &[], &[]).unwrap_err();
    assert!(!format!("{wrong:?}").contains("canary"));
}

#[test]
fn one_address_or_several_is_one_setting() {
    let shown = |loaded: &Loaded| -> Vec<String> {
        loaded.config.amqp.addresses().iter().map(ToString::to_string).collect()
    };
    let (one, two) = ("amqp://u:***@one/v", "amqp://u:***@two/v");
    let listed = "amqp:\n  urls:\n    - amqp://u:canary@one/v\n    - amqp://u:canary,too@two/v\n";
    let loaded = run(listed, &[], &[]).unwrap();
    assert_eq!(shown(&loaded), [one, two]);
    assert_eq!(loaded.config.amqp.url.to_string(), one, "who wants any has the first");
    assert!(!format!("{loaded:?}").contains("canary"));
    // A stronger layer replaces it, whichever of the two it names.
    let env = [("SWARMGATE_AMQP_URL", "amqp://u:canary@two/v")];
    assert_eq!(shown(&run(listed, &env, &[]).unwrap()), [two]);
    let flags = [("amqp.urls", "amqp://u:canary@two/v, amqp://u:p,q@one/v")];
    assert_eq!(shown(&run(listed, &env, &flags).unwrap()), [two, one]);
    let env = [("SWARMGATE_AMQP_URLS", "amqp://u:canary@two/v,amqp://u:canary@one/v")];
    assert_eq!(shown(&run("amqp: {url: 'amqp://h'}\n", &env, &[]).unwrap()), [two, one]);
}

#[test]
fn own_types_are_rows_with_schemas() {
    let yaml = "types:\n  - {type: cache-flush, schema: good.json, class: change, fan_out: instances}\n  - type: cache-warm\n    schema: good.json\n";
    let loaded = run(yaml, &[], &[]).unwrap();
    let row = |kind_type| loaded.contract.commands.get(kind_type).unwrap();
    let (flush, warm) = (row("cache-flush"), row("cache-warm"));
    assert_eq!((flush.class, flush.fan_out), (Class::Change, FanOut::Instances));
    assert_eq!(flush.success, ["Applied"]);
    assert_eq!((warm.class, warm.fan_out), (Class::Start, FanOut::None));
    assert_eq!(warm.success, ["Running"]);
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    let text = defaults_yaml();
    let loaded = run(&text, &[], &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    let explained = |field: &&Field| text.contains(field.doc);
    assert_eq!(FIELDS.iter().filter(explained).count(), FIELDS.len());
    // The example of an own type is taken as it stands, once its comment marks and ellipses are
    // gone.
    let example = text.split_once("types: []\n").unwrap().1;
    let kept =
        example.lines().filter(|line| !line.contains('…')).map(|line| line.replacen('#', " ", 1) + "\n");
    let example = format!("types:\n{}", kept.collect::<String>())
        .replace("schemas/cache-flush.schema.json", "good.json");
    assert_eq!(run(&example, &[], &[]).unwrap().config.types.len(), 1, "{example}");
}

fn leaves(value: &serde_json::Value, prefix: &str, into: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(map) => map.iter().for_each(|(key, child)| leaves(child, &format!("{prefix}.{key}"), into)),
        None => {
            into.insert(prefix.trim_start_matches('.').to_owned());
        }
    }
}

#[test]
fn table_structs_and_schema_name_the_same_leaves() {
    let mut of_structs = BTreeSet::new();
    leaves(&serde_json::to_value(Config::default()).unwrap(), "", &mut of_structs);
    let mut of_table: BTreeSet<String> = FIELDS.iter().map(|field| field.path.to_owned()).collect();
    of_table.insert("types".to_owned());
    assert_eq!(of_structs, of_table);

    let own = OwnType {
        kind_type: "a".into(),
        schema: "b".into(),
        class: Class::Start,
        success: Vec::new(),
        answered_by: Answerer::Target,
        fan_out: FanOut::None,
        deadline_ms: 1,
    };
    let mut of_own = BTreeSet::new();
    leaves(&serde_json::to_value(own).unwrap(), "", &mut of_own);
    assert_eq!(of_own, TYPE_FIELDS.iter().map(|field| field.path.to_owned()).collect());
}

/// Compares a file of the repository with what the table makes of it, or writes it where it may.
fn is_made_of_the_table(path: &str, wanted: impl Fn(&str) -> String) {
    let file = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let found = std::fs::read_to_string(&file).unwrap();
    let wanted = wanted(&found);
    if std::env::var_os("SWARMGATE_BLESS").is_some() {
        std::fs::write(file, wanted).unwrap();
    } else {
        assert!(found == wanted, "{path} is stale; run this test with SWARMGATE_BLESS=1");
    }
}

#[test]
fn the_schema_is_made_of_the_table() {
    let schema = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    is_made_of_the_table("schemas/config.schema.json", |_| schema.clone());
}

#[test]
fn the_manual_is_made_of_the_table() {
    const OPEN: &str =
        "<!-- Made of the table of settings by the test `the_manual_is_made_of_the_table`. -->\n";
    const CLOSE: &str = "\n<!-- The end of what is made. -->\n";
    is_made_of_the_table("docs/operating/configuration.md", |page| {
        let (before, rest) = page.split_once(OPEN).unwrap();
        let (_, after) = rest.split_once(CLOSE).unwrap();
        format!("{before}{OPEN}{}{CLOSE}{after}", keys_markdown())
    });
}

#[test]
fn an_empty_config_judges_by_the_gates_own_defaults() {
    let rules = run("", &[], &[]).unwrap().rules();
    assert_eq!(format!("{rules:#?}"), format!("{:#?}", Rules::default()));
}

#[test]
fn every_default_of_the_table_is_in_the_structs() {
    let config = serde_json::to_value(Config::default()).unwrap();
    for field in FIELDS.iter() {
        let found = config.pointer(&format!("/{}", field.path.replace('.', "/"))).unwrap();
        // The one key whose default follows from another.
        let follows = field.path == "runtime.platform.execution_ipc.auth.kdf";
        assert!(follows || *found == field.default, "{}: {found} is not {}", field.path, field.default);
    }
}

#[test]
fn the_schema_takes_what_the_loader_takes() {
    let validator = jsonschema::validator_for(&json_schema()).unwrap();
    let defaults: serde_json::Value = serde_saphyr::from_str(&defaults_yaml()).unwrap();
    assert!(validator.is_valid(&defaults));
    for bad in [
        "mode: x",
        "amqp: {prefx: a}",
        "limits: {depth_max: 3}",
        "limits: {depth_max: 128}",
        "types: [{type: a}]",
    ] {
        let value: serde_json::Value = serde_saphyr::from_str(bad).unwrap();
        assert!(!validator.is_valid(&value), "{bad}");
        assert!(run(bad, &[], &[]).is_err(), "{bad}");
    }
}

#[test]
fn a_missing_or_huge_file_is_an_error_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let none = Layers { file: Some(dir.path().join("none.yaml")), ..Layers::default() };
    assert!(matches!(load(&none), Err(ConfigError::Unreadable { .. })));
    let huge = dir.path().join("huge.yaml");
    std::fs::write(&huge, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    let fault = load(&Layers { file: Some(huge), ..Layers::default() });
    assert!(
        matches!(fault, Err(ConfigError::Unreadable { source, .. }) if source.to_string().contains("larger"))
    );
}
