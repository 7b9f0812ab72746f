//! The real binary as a process: its exit codes, its help and what it says.
//!
//! Owns: what a script can rely on.
//! Never: needs a broker.
//! Holds: no run inherits a setting from the environment of the tests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWARMGATE_"))
    {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The names of the subcommands under `path`, from its help.
fn subcommands(path: &[&str]) -> Vec<String> {
    let mut args = path.to_vec();
    args.push("--help");
    let help = stdout(&run(&args));
    let list = help.split_once("Commands:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap_or_default());
    let names = list.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("  "));
    names
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_subcommand_teaches_by_example() {
    let top = subcommands(&[]);
    for expected in ["audit", "check", "completions", "demo", "explain", "man", "observe", "route", "run"] {
        assert!(top.iter().any(|name| name == expected), "{expected} is not in {top:?}");
    }
    let mut seen = 0;
    let mut paths: Vec<Vec<String>> = top.into_iter().map(|name| vec![name]).collect();
    while let Some(path) = paths.pop() {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let mut args = path.clone();
        args.push("--help");
        let output = run(&args);
        let help = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{path:?}");
        assert!(
            help.contains("EXAMPLES:") && help.contains(&format!("swarmgate {}", path[0])),
            "{path:?}\n{help}"
        );
        assert!(!help.starts_with("Usage"), "{path:?} does not say what it is about\n{help}");
        for name in subcommands(&path) {
            paths.push(path.iter().map(|name| (*name).to_owned()).chain([name]).collect());
        }
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
    let top = stdout(&run(&["--help"]));
    assert!(top.contains("EXIT CODES:") && top.contains("EXAMPLES:"));
}

#[test]
fn runs_end_with_the_code_that_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.yaml");
    std::fs::write(&bad, "mode: neither\n").unwrap();
    let bad = bad.to_str().unwrap();
    for (args, code) in [
        (&["--version"][..], 0),
        (&["explain", "signal.bot-stop.k.r.ALL"], 0),
        (&["explain", "signal.bot-stop.k.r"], 1),
        (&["check", "config"], 0),
        (&["check", "config", bad], 1),
        (&["check", "config", "no-such-file.yaml"], 2),
        (&["explain", "contract.schema"], 0),
        (&["--config", bad, "explain", "signal.bot-stop.k.r.ALL"], 2),
        (&["--set", "mode", "check", "config"], 2),
        (&["no-such-command"], 2),
        (&["explain"], 2),
        (&[], 2),
        (&["check", "spec", "--print", "no-such-file"], 2),
        (&["completions", "no-such-shell"], 2),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{}{}", stdout(&output), stderr(&output));
        let told = stderr(&output);
        if code == 2 && !args.is_empty() {
            assert_eq!(told.matches("error: ").count(), 1, "{args:?}\n{told}");
            assert_eq!(told.matches("help: ").count(), 1, "{args:?}\n{told}");
            assert!(output.stdout.is_empty(), "{args:?}");
        } else if code != 2 {
            assert!(told.is_empty(), "{args:?}\n{told}");
        }
    }
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    for args in [
        &["--output", "json", "no-such-command"][..],
        &["explain", "--output=json"],
        &["--output", "json", "--set", "limits.depth_max=deep", "explain", "signal.stop.k.r.i"],
        &["--output", "json", "check", "config", "no-such-file.yaml"],
    ] {
        let output = run(args);
        let told: Value =
            serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{args:?} {}", stderr(&output)));
        assert_eq!(told["exit"], 2, "{args:?}");
        assert!(told["error"].as_str().is_some_and(|text| !text.is_empty() && !text.starts_with("error")));
        assert!(told["help"].as_str().is_some_and(|text| !text.is_empty()));
    }
    let output = run(&["--output", "json", "check", "config", "--set", "amqp.prefx=a"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["ok"], &told["faults"][0]["at"]), (&false.into(), &"--set amqp.prefx".into()));
}

#[test]
fn each_family_is_explained() {
    for (key, family, lane) in [
        ("signal.swarm-start.kestrel.swarm-controller.ctl-1", "signal", "signals"),
        ("signal.swarm-stop.kestrel.ALL.ALL", "signal", "urgent"),
        ("event.outcome.swarm-start.kestrel.swarm-controller.ctl-1", "outcome", "results"),
        ("event.alert.alert.kestrel.worker.w-1", "alert", "results"),
        ("event.metric.status-delta.kestrel.worker.w-1", "metric", "metrics"),
    ] {
        let output = run(&["explain", key, "--output", "json"]);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["read"]["family"], family, "{key}");
        assert_eq!(told["read"]["lane"], lane, "{key}");
        assert_eq!(told["read"]["queue"], format!("swarmgate.in.{lane}.v2"), "{key}");
        assert_eq!(told["refused"], Value::Null, "{key}");
        let text = stdout(&run(&["explain", key]));
        assert!(text.contains("hears") && text.contains("sender") && text.contains(lane), "{text}");
    }
    let told = stdout(&run(&["explain", "signal.swarm-strt.kestrel.swarm-controller.ctl-1"]));
    assert!(told.contains("contract.unknown-type") && told.contains("signal.swarm-start.kestrel"), "{told}");
    for everyone in ["*", "**", "#", "all"] {
        let told = stdout(&run(&["explain", &format!("signal.bot-stop.kestrel.worker.{everyone}")]));
        assert!(
            told.contains("signal.bot-stop.kestrel.worker.ALL") && told.contains("spelt `ALL`"),
            "{told}"
        );
    }
    // Nothing is offered that is another name than the one that was meant.
    let told = stdout(&run(&["explain", &format!("signal.bot-stop.kestrel.worker.{}", "w".repeat(129))]));
    assert!(told.contains("routing.malformed-key") && !told.contains("nearest"), "{told}");
}

#[test]
fn every_reason_code_is_explained() {
    for reason in swarmgate::contract::reason::Reason::ALL {
        let output = run(&["explain", reason.code()]);
        let told = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{reason}");
        assert!(told.contains(reason.rule()) && told.contains(reason.next_step()), "{told}");
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("swarmgate.yaml");
    std::fs::write(&file, "amqp:\n  prefix: file\n").unwrap();
    let key = "signal.bot-start.k.r.i";
    let queue = |env: Option<&str>, flag: Option<&str>| {
        let mut command = command(&["--output", "json", "explain", key, "--config", file.to_str().unwrap()]);
        command.envs(env.map(|value| ("SWARMGATE_AMQP_PREFIX", value)));
        command.args(flag.map(|value| format!("--set=amqp.prefix={value}")));
        let told: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        told["read"]["queue"].as_str().unwrap().to_owned()
    };
    assert_eq!(queue(None, None), "file.in.signals.v2");
    assert_eq!(queue(Some("env"), None), "env.in.signals.v2");
    assert_eq!(queue(Some("env"), Some("flag")), "flag.in.signals.v2");
}

#[test]
fn a_password_is_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    for (yaml, env) in [
        ("amqp:\n  url: http://user:canary@h\n", None),
        ("amqp:\n  url: amqp://user:canary@\n", None),
        ("amqp:\n  url: [amqp://user:canary@h\n", None),
        ("amqp: amqp://user:canary@h\n", None),
        ("amqp:\n  url: amqp://user:canary@h\n  url: amqp://user:canary@h\n", None),
        ("mode: 'amqp://user:canary@h'\nenvironment: prod\n", Some("canary@nothing")),
        ("http:\n  addr: user:canary@h\n", None),
        ("environment: prod\n", Some("amqp://user:canary@h")),
    ] {
        let file = dir.path().join("swarmgate.yaml");
        std::fs::write(&file, yaml).unwrap();
        for form in ["text", "json"] {
            for args in [["check", "config"], ["explain", "signal.stop.k.r.i"]] {
                let mut command = command(&args);
                command.args(["--output", form, "--config"]).arg(&file);
                command.envs(env.map(|url| ("SWARMGATE_AMQP_URL", url)));
                let output = command.output().unwrap();
                assert!(!output.status.success(), "{yaml}");
                let told = stdout(&output) + &stderr(&output);
                assert!(!told.is_empty() && !told.contains("canary"), "{yaml}\n{told}");
            }
        }
    }
}

#[test]
fn the_specification_is_compared_with_a_directory() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let good = run(&["check", "spec", "--against", root.to_str().unwrap()]);
    assert_eq!((good.status.code(), stdout(&good).as_str()), (Some(0), "ok\n"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("schemas")).unwrap();
    let schema = stdout(&run(&["check", "spec", "--print", "schemas/config.schema.json"]));
    let altered = schema.replacen("\"title\"", "\"titel\"", 1);
    assert_ne!(schema, altered);
    std::fs::write(dir.path().join("schemas/config.schema.json"), altered).unwrap();
    std::fs::write(dir.path().join("schemas/strange.json"), "{}").unwrap();
    let output = run(&["check", "spec", "--against", dir.path().to_str().unwrap()]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    for finding in [
        "schemas/config.schema.json: differs from this release from line",
        "schemas/control-events.schema.json: is missing",
        "schemas/strange.json: is not of this release",
        "help: ",
    ] {
        assert!(told.contains(finding), "{finding}\n{told}");
    }
}

#[test]
fn completions_and_man_pages_name_every_subcommand() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run(&["man", "--dir", dir.path().to_str().unwrap()]).status.success());
    for name in subcommands(&[]) {
        for shell in ["bash", "fish", "zsh"] {
            let script = stdout(&run(&["completions", shell]));
            assert!(script.contains(&name), "{shell} does not complete {name}");
        }
        assert!(dir.path().join(format!("swarmgate-{name}.1")).is_file(), "no page for {name}");
    }
    assert!(stdout(&run(&["man"])).contains(".TH swarmgate 1"));
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    for args in [
        ["completions", "bash"].as_slice(),
        &["man"],
        &["--help"],
        &["check", "spec"],
        &["check", "spec", "--print", "schemas/config.schema.json"],
        &["check", "config", "--print-defaults"],
        &["explain", "signal.swarm-start.kestrel.worker.w-1"],
        &["explain", "contract.schema", "--output", "json"],
        &["demo"],
        &["demo", "--output", "json"],
    ] {
        let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let status = child.wait().unwrap();
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!((status.code(), told.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn the_demo_shows_what_it_promises() {
    let output = run(&["demo"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}\n{}", stderr(&output));
    assert!(told.contains("Everything went as it should") && !told.contains("FAIL"), "{told}");
    let readme = include_str!("../../README.md");
    let shown: Vec<&str> = readme.lines().filter(|line| line.starts_with("  ok ")).collect();
    assert!(
        shown.len() > 5 && shown.iter().all(|line| told.contains(line)),
        "the README shows {shown:?}: {told}"
    );
}

#[test]
fn a_demo_that_is_kept_answers_questions_until_it_is_told_to_end() {
    let mut demo =
        command(&["demo", "--keep", "--http", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let api = told.find_map(|line| {
        let rest = line.split_once("stays up at ")?.1;
        Some(rest.split_once(';')?.0.to_owned())
    });
    let api = api.expect("an address");
    let list = run(&["inventory", "kestrel", "--api", &api]);
    assert_eq!(list.status.code(), Some(0), "{}", stderr(&list));
    assert!(stdout(&list).contains("bot-1") && stdout(&list).contains("gen-2"), "{}", stdout(&list));
    let safety = run(&["safety", "--api", &api]);
    assert!(stdout(&safety).contains("BLOCK"), "{}", stdout(&safety));
    assert!(Command::new("kill").args(["-TERM", &demo.id().to_string()]).status().unwrap().success());
    assert!(told.any(|line| line.contains("Everything went as it should")));
    assert!(demo.wait().unwrap().success());
}

#[test]
fn a_warning_that_nobody_hears_ends_nothing() {
    let misspelt = |args: &[&str]| {
        let mut command = command(args);
        command.env("SWARMGATE_INSTANC", "x").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let heard = misspelt(&["route"]).output().unwrap();
    assert!(stderr(&heard).starts_with("warning: "), "{}", stderr(&heard));
    let mut child = misspelt(&["route"]).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), heard.status.code());
    assert_eq!(heard.status.code(), Some(0));
}

#[test]
fn route_says_what_falls_due_before_a_record() {
    let scope = json!({ "swarmId": "kestrel", "role": "worker", "instance": "w-1" });
    let record = |timestamp: &str, key: &str, rest: Value| {
        let mut body = json!({ "timestamp": timestamp, "version": "1", "scope": scope });
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        json!({ "timestamp": timestamp, "routingKey": key, "body": body }).to_string()
    };
    let ids = |name: &str| {
        json!({ "kind": "signal", "type": "config-update", "origin": "orc", "data": {},
        "correlationId": format!("c-{name}"), "idempotencyKey": format!("i-{name}") })
    };
    let key = "signal.config-update.kestrel.worker.w-1";
    let lines = [
        record("2026-03-04T10:15:00Z", key, ids("1")),
        record("2026-03-04T10:15:01Z", key, ids("2")),
        record("2026-03-04T10:17:00Z", key, ids("3")),
    ];
    let mut child =
        command(&["route", "--output", "json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answers: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = answers
        .iter()
        .map(|answer| (answer["line"].as_u64(), answer["publish"][0]["body"]["data"]["status"].as_str()))
        .collect();
    let due = (None, Some("TimedOut"));
    assert_eq!(told, [(Some(1), None), (Some(2), None), due, due, (Some(3), None)], "{answers:#?}");
}

/// What `route` answers to these lines.
fn routed(lines: &[u8]) -> Vec<Value> {
    let mut child =
        command(&["route", "--output", "json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, lines) = (child.stdin.take().unwrap(), lines.to_vec());
    let writes = std::thread::spawn(move || stdin.write_all(&lines));
    let output = child.wait_with_output().unwrap();
    writes.join().unwrap().unwrap();
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A record of a signal that `ann` sends.
fn said(kind: &str, scope: [&str; 3], name: &str, data: &Value) -> Value {
    let at = "2026-03-04T10:15:00Z";
    json!({
        "timestamp": at, "routingKey": format!("signal.{kind}.{}", scope.join(".")), "properties": { "userId": "ann" },
        "body": {
            "timestamp": at, "version": "1", "kind": "signal", "type": kind, "origin": "ann",
            "scope": { "swarmId": scope[0], "role": scope[1], "instance": scope[2] },
            "correlationId": name, "idempotencyKey": name, "data": data,
        },
    })
}

#[test]
fn route_publishes_what_a_confirmation_lets_go() {
    let asks = said("data-delete", ["kestrel", "worker", "w-1"], "1", &json!({ "reason": "x" }));
    let challenged = routed(asks.to_string().as_bytes());
    let context = &challenged[0]["publish"][0]["body"]["data"]["context"];
    let data = json!({ "challengeId": context["challengeId"], "reason": "agreed" });
    let confirms = said("challenge-confirm", ["swarmgate", "router", "gate-1"], "2", &data);
    let answers = routed(format!("{asks}\n{confirms}\n").as_bytes());
    let keys: Vec<_> =
        answers[1]["publish"].as_array().unwrap().iter().map(|left| &left["routingKey"]).collect();
    assert!(keys.contains(&&json!("signal.data-delete.kestrel.worker.w-1")), "{answers:#?}");
    assert_eq!(keys.len(), 2, "and the outcome of the confirmation: {answers:#?}");
}

#[test]
fn route_refuses_a_record_that_readers_could_read_otherwise_once() {
    let good = said("bot-stop", ["kestrel", "worker", "w-1"], "1", &json!({})).to_string();
    let again = |field: &str| format!("{},{field}}}", good.strip_suffix('}').unwrap());
    let long = 16 * 1024 * 1024;
    let fits = format!("{good}{}", " ".repeat(long - good.len()));
    let mut lines = vec![
        again("\"routingKey\":\"signal.bot-start.kestrel.worker.w-1\""),
        again("\"headers\":{\"a\":1,\"a\":2}"),
        again("\"headers\":{\"a\":{\"b\":1,\"b\":2}}"),
    ];
    // The tail of a line that is too long would be a good record by itself.
    lines.push(format!("{}{good}", " ".repeat(long + 1)));
    lines.push(fits);
    let answers = routed(lines.join("\n").as_bytes());
    let told: Vec<_> =
        answers.iter().map(|answer| (answer["line"].as_u64(), answer["reason"].as_str())).collect();
    let no = |line| (Some(line), Some("contract.not-json"));
    assert_eq!(told, [no(1), no(2), no(3), no(4), (Some(5), None)], "{answers:#?}");
}

/// Whether an own type has failed, its declaration says; without it, the words that the router ends
/// by.
#[test]
fn failed_knows_the_types_of_the_deployment() {
    let kept = tempfile::tempdir().unwrap();
    let path = |name: &str| kept.path().join(name).to_str().unwrap().to_owned();
    let (config, records, ledger) = (path("swarmgate.yaml"), path("records.ndjson"), path("ledger"));
    std::fs::write(path("any.json"), r#"{"type":"object"}"#).unwrap();
    let types = "types: [{type: cache-flush, schema: any.json, class: change, success: [Flushed]}]\n";
    std::fs::write(&config, types).unwrap();
    let record = |second: u32, key: &str, kind: &str, origin: &str, data: Value| {
        let at = format!("2026-03-04T10:15:{second:02}Z");
        let scope = json!({ "swarmId": "kestrel", "role": "worker", "instance": "w-1" });
        let command = second / 2;
        let body = json!({
            "timestamp": at, "version": "1", "kind": kind, "type": "cache-flush", "origin": origin, "scope": scope,
            "correlationId": format!("c-{command}"), "idempotencyKey": format!("i-{command}"), "data": data,
        });
        let user = origin.rsplit(':').next();
        json!({ "timestamp": at, "routingKey": key, "properties": { "userId": user }, "body": body })
            .to_string()
    };
    let mut lines = Vec::new();
    for (second, status) in [(2, "Flushed"), (4, "Clogged"), (6, "Failed")] {
        lines.push(record(second, "signal.cache-flush.kestrel.worker.w-1", "signal", "orc", json!({})));
        let key = "event.outcome.cache-flush.kestrel.worker.w-1";
        let data = json!({ "status": status, "retryable": false });
        lines.push(record(second + 1, key, "outcome", "worker:w-1", data));
    }
    std::fs::write(&records, lines.join("\n")).unwrap();
    let output = run(&["route", &records, "--ledger", &ledger, "--config", &config, "--fail-on", "refuse"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let failed = |more: &[&str]| {
        let show = ["audit", "show", &ledger, "--failed", "--oldest-first", "--output", "json"];
        let output = run(&[&show[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let rows = stdout(&output).lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        let rows: Vec<Value> = rows;
        rows.iter().map(|row| row["fact"]["correlationId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(failed(&["--config", &config]), ["c-2", "c-3"]);
    assert_eq!(failed(&[]), ["c-3"], "a status that nobody has declared is no failure by itself");
    let wrong = run(&["audit", "show", &ledger, "--action", "lifecycle.start"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("controlplane.command.denied"), "{}", stderr(&wrong));
}
