//! `swarmgate init` as the real binary: the config and the ledger that it leaves behind.
//!
//! Owns: what is written, what is kept, and by which words a ledger begins in NORMAL.
//! Never: needs a broker or a terminal.
//! Holds: what `init` leaves behind is what `check config`, `audit` and a router accept.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use serde_json::Value;
use swarmgate::{
    bus::{Bus, embedded::Embedded},
    config::{self, Config, Layers},
    contract::{audit::Change, interlock::SafetyMode},
    ledger::query::Reader,
    runtime::{boot, link::SteadyBus, setup},
    telemetry::Telemetry,
};

/// Runs in `dir`, without a setting of the tests' own environment and with nobody to answer.
fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWARMGATE_"))
    {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } =
        command.args(args).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[track_caller]
fn done(dir: &Path, args: &[&str]) -> String {
    let (code, stdout, stderr) = run(dir, args);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}\n{stdout}");
    stdout
}

#[track_caller]
fn wrong(dir: &Path, args: &[&str], told: &str) {
    let (code, stdout, stderr) = run(dir, args);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}\n{stderr}");
    assert!(stderr.contains(told) && stderr.contains("help: "), "{args:?}\n{stderr}");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// The text with every commented setting in force that has a default: one `#` before a key is taken
/// away.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let rest = line.trim_start();
        let is_setting = |rest: &&str| {
            rest.starts_with(|sign: char| sign.is_ascii_lowercase()) && !rest.ends_with("there is no default")
        };
        let setting = rest.strip_prefix('#').filter(is_setting);
        match setting {
            Some(setting) => format!("{}{setting}\n", &line[..line.len() - rest.len()]),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

fn parse(text: &str) -> Config {
    let nothing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    config::parse("swarmgate.yaml", text, &nothing).unwrap_or_else(|fault| panic!("{text}\n{fault:?}")).config
}

#[test]
fn the_config_is_accepted_and_its_comments_are_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let told = done(dir.path(), &["init"]);
    assert!(
        told.contains("wrote swarmgate.yaml\n") && told.contains("next: swarmgate check config"),
        "{told}"
    );
    assert_eq!(done(dir.path(), &["check", "config", "swarmgate.yaml"]), "ok\n");

    let text = read(&dir.path().join("swarmgate.yaml"));
    assert_eq!(text.lines().next(), Some("# yaml-language-server: $schema=./swarmgate.schema.json"));
    assert_eq!(parse(&text), Config::default());
    let whole = uncommented(&text);
    assert_eq!(parse(&whole), Config::default());
    // Each setting that has a default of its own is there with it, under its section.
    let found: Value = serde_saphyr_value(&whole);
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let mut settings = 0;
    for field in config::FIELDS.iter() {
        assert!(text.contains(field.doc), "{} is not explained", field.path);
        let pointer = format!("/{}", field.path.replace('.', "/"));
        match found.pointer(&pointer) {
            // The password of the broker's own default user is masked in what is serialised.
            Some(value) if field.path == "amqp.url" => assert_eq!(value, config::DEFAULT_URL),
            Some(value) => assert_eq!(Some(value), defaults.pointer(&pointer), "{}", field.path),
            None => {
                // `amqp.url` stands for `amqp.urls`.
                let is_unset = field.default.is_null() || field.path == "amqp.urls";
                assert!(is_unset, "{} is missing", field.path);
                continue;
            }
        }
        settings += 1;
    }
    assert!(settings > 60, "{settings}");
    // The schema that the first line names is there, and takes both.
    let schema: Value = serde_json::from_str(&read(&dir.path().join("swarmgate.schema.json"))).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for text in [&text, &whole] {
        let value = serde_saphyr_value(text);
        let told: Vec<String> = validator.iter_errors(&value).map(|fault| fault.to_string()).collect();
        assert_eq!(told, [""; 0]);
    }
}

fn serde_saphyr_value(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn what_is_there_is_replaced_by_force_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("etc/swarmgate.yaml");
    done(dir.path(), &["init", "etc", "--environment", "stage"]);
    assert!(read(&file).contains("\nenvironment: stage\n"));
    std::fs::write(&file, "instance: mine\n").unwrap();
    wrong(dir.path(), &["init", "etc"], "`etc/swarmgate.yaml` is there already");
    wrong(dir.path(), &["--config", "etc/swarmgate.yaml", "init"], "is there already");
    assert_eq!(read(&file), "instance: mine\n");
    done(dir.path(), &["init", "etc", "--force"]);
    assert_eq!(parse(&read(&file)), Config::default());
}

#[test]
fn what_check_would_refuse_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    wrong(dir.path(), &["init", "--environment", "prod", "--ledger", "data"], "`identity.mode` is `open`");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    wrong(dir.path(), &["init", "--environment", "production"], "invalid value");
    wrong(dir.path(), &["init", "--begin-normal", "dev"], "--ledger");
}

/// The initial mode and the environment that the first entry names.
async fn first_entry(ledger: &Path) -> (SafetyMode, String) {
    let reader = Reader::open(ledger).await.unwrap();
    let first = reader.entry(1).await.unwrap().expect("a first entry");
    let Change::Genesis(genesis) = first.entry.fact.change else { panic!("{:?}", first.entry) };
    (genesis.initial_mode, genesis.environment)
}

#[tokio::test]
async fn a_ledger_begins_in_safe_unless_the_environment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let told = done(dir.path(), &["init", "--environment", "stage", "--ledger", "safe"]);
    assert!(told.contains("safety SAFE") && told.contains("nothing starts"), "{told}");
    assert_eq!(first_entry(&at("safe")).await, (SafetyMode::Safe, "stage".to_owned()));
    assert!(done(dir.path(), &["audit", "verify", "safe"]).contains('1'));

    // The config is kept from here on, and says which environment it is.
    let told =
        done(dir.path(), &["init", "--ledger", "normal", "--begin-normal", "stage", "--output", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["written"], &told["ledger"]["initialMode"]), (&Value::Array(vec![]), &"NORMAL".into()));
    assert_eq!(first_entry(&at("normal")).await, (SafetyMode::Normal, "stage".to_owned()));

    for word in ["dev", "yes", "Stage", ""] {
        wrong(dir.path(), &["init", "--ledger", "third", "--begin-normal", word], "does not name");
    }
    wrong(dir.path(), &["init", "--ledger", "third", "--environment", "dev"], "says environment `stage`");
    assert!(!at("third").exists());

    let before = std::fs::read(at("safe").join(swarmgate::ledger::FILE)).unwrap();
    wrong(dir.path(), &["init", "--ledger", "safe", "--begin-normal", "stage"], "has begun already, with 1");
    assert_eq!(std::fs::read(at("safe").join(swarmgate::ledger::FILE)).unwrap(), before);
    assert_eq!(first_entry(&at("safe")).await.0, SafetyMode::Safe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_goes_on_with_the_ledger_that_was_begun() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), &["init", "--ledger", dir.path().join("data").to_str().unwrap()]);
    let layers = Layers { file: Some(dir.path().join("swarmgate.yaml")), ..Layers::default() };
    let loaded = config::load(&layers).unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Embedded::new());
    let standing = Arc::new(SteadyBus(bus));
    let running =
        boot::start(setup::enforce(&loaded, standing, Arc::new(Telemetry::default()))).await.unwrap();
    let corridor = running.stop().await.expect("a corridor that was drained");
    let genesis = corridor.state().genesis().cloned().expect("a genesis");
    assert_eq!(genesis.initial_mode, SafetyMode::Safe);
    let entries = Reader::open(&loaded.config.ledger.dir).await.unwrap().tail(10).await.unwrap();
    let changes: Vec<_> = entries.iter().map(|entry| &entry.entry.fact.change).collect();
    assert!(matches!(changes.as_slice(), [Change::Genesis(_), Change::Opened(_)]), "{changes:?}");
    assert_eq!(first_entry(&loaded.config.ledger.dir).await.0, SafetyMode::Safe);
}

#[tokio::test]
async fn a_ledger_belongs_to_one_environment() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), &["init", "--ledger", dir.path().join("data").to_str().unwrap()]);
    let layers = Layers {
        file: Some(dir.path().join("swarmgate.yaml")),
        env: vec![("SWARMGATE_ENVIRONMENT".to_owned(), "stage".to_owned())],
        ..Layers::default()
    };
    let loaded = config::load(&layers).unwrap();
    let standing = Arc::new(SteadyBus(Arc::new(Embedded::new()) as Arc<dyn Bus>));
    let setup = setup::enforce(&loaded, standing, Arc::new(Telemetry::default()));
    let refused = boot::start(setup).await.err().map(|fault| fault.to_string()).unwrap_or_default();
    assert!(refused.contains("belongs to environment `dev`, not `stage`"), "{refused}");
    let entries = Reader::open(&loaded.config.ledger.dir).await.unwrap().tail(10).await.unwrap();
    assert_eq!(entries.len(), 1, "nothing was written");
}
