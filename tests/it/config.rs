//! The bootstrap contract as a table: configs in, faults with their codes or the normalised summary
//! out.
//!
//! Owns: what the section `runtime` may say, how its faults are told, and that no secret is among
//! what is told.
//! Never: starts a worker, or reads a file.
//! Holds: each row names the whole of what it expects.

use std::{io, path::Path};

use serde_json::{Value, json};
use swarmgate::config::{
    self, Config, ConfigError, ConfigFault, Loaded,
    bootstrap::{BootstrapMode, Kdf, SecretMode, Transport},
    runtime_contract_summary,
};

fn no_schemas(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn parse(text: &str) -> Result<Loaded, ConfigError> {
    config::parse("swarmgate.yaml", text, &no_schemas)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|fault| panic!("{text}\n{fault:#?}")).config
}

fn faults(text: &str) -> Vec<ConfigFault> {
    match parse(text) {
        Err(ConfigError::Faulty { faults }) => faults,
        other => panic!("{text}\nexpected faults, got {other:?}"),
    }
}

fn the_fault(text: &str) -> ConfigFault {
    let mut found = faults(text);
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    found.remove(0)
}

/// A config under `runtime.platform`, indented as people write it.
fn platform(below: &str) -> String {
    let lines: String = below.lines().map(|line| format!("    {line}\n")).collect();
    format!("runtime:\n  platform:\n{lines}")
}

fn summary(text: &str) -> Value {
    serde_json::to_value(runtime_contract_summary(&good(text))).unwrap()
}

/// One fault: its code, its line, its path, and what its help names.
#[track_caller]
fn refused(text: &str, code: &str, line: u64, path: &str, named: &[&str]) {
    let fault = the_fault(text);
    assert_eq!((fault.code, fault.path.as_str()), (Some(code), path), "{fault:#?}");
    assert_eq!(fault.at, format!("swarmgate.yaml:{line}"));
    assert!(fault.message.contains(&format!("`{path}`")), "{}", fault.message);
    for word in named {
        assert!(fault.help.contains(&format!("`{word}`")), "{word}: {}", fault.help);
    }
    let drawn = fault.drawn("");
    assert!(drawn.contains(&format!(": {code}: ")) && drawn.contains("^^^"), "{drawn}");
}

const MODE: &str = "runtime.platform.bootstrap.mode";
const TRANSPORT: &str = "runtime.platform.execution_ipc.transport";

#[test]
fn boot_cfg_01_an_unknown_bootstrap_mode_is_refused() {
    let allowed = ["inline", "process_supervisor"];
    refused(&platform("bootstrap:\n  mode: forked\n"), "BOOT-CFG-01", 4, MODE, &allowed);
    refused(&platform("bootstrap:\n  mode: 7\n"), "BOOT-CFG-01", 4, MODE, &allowed);
    let near = the_fault(&platform("bootstrap:\n  mode: proces_supervisor\n"));
    assert!(near.message.contains("`process_supervisor` is nearest"), "{}", near.message);
}

#[test]
fn boot_cfg_02_an_unknown_secret_mode_is_refused() {
    let text = platform("execution_ipc:\n  transport: tcp_local\n  auth:\n    secret_mode: rolled\n");
    let path = "runtime.platform.execution_ipc.auth.secret_mode";
    refused(&text, "BOOT-CFG-02", 6, path, &["static", "generated"]);
}

#[test]
fn boot_cfg_03_an_unknown_kdf_is_refused() {
    let text = platform(
        "execution_ipc:\n  transport: tcp_local\n  auth:\n    mode: hmac\n    secret_mode: generated\n    kdf: bad_kdf\n",
    );
    let path = "runtime.platform.execution_ipc.auth.kdf";
    refused(&text, "BOOT-CFG-03", 8, path, &["none", "hkdf_sha256"]);
}

#[test]
fn boot_cfg_04_the_bootstrap_mode_defaults_to_inline() {
    for text in ["", "runtime:\n", "runtime: {platform: {bootstrap: {}}}\n", &platform("execution_ipc: {}\n")]
    {
        assert_eq!(good(text).runtime.platform.bootstrap.mode, BootstrapMode::Inline, "{text}");
    }
}

#[test]
fn boot_cfg_05_a_supervisor_needs_the_local_transport() {
    for rest in ["", "execution_ipc:\n", "execution_ipc: {}\n", "execution_ipc: {auth: {mode: hmac}}\n"] {
        let text = platform(&format!("bootstrap:\n  mode: process_supervisor\n{rest}"));
        refused(&text, "BOOT-CFG-05", 4, MODE, &[TRANSPORT, "tcp_local", "inline"]);
        assert!(the_fault(&text).message.contains("is not set"));
    }
    let text = platform("bootstrap:\n  mode: process_supervisor\nexecution_ipc:\n  transport: memory\n");
    refused(&text, "BOOT-CFG-05", 4, MODE, &[TRANSPORT, "tcp_local", "inline"]);
    assert!(the_fault(&text).message.contains("is not `tcp_local`"));
    // A transport that nobody knows is a fault of its own, and no local one.
    let text = platform("bootstrap:\n  mode: process_supervisor\nexecution_ipc:\n  transport: tcp\n");
    let codes: Vec<_> = faults(&text).into_iter().map(|fault| (fault.path, fault.code)).collect();
    assert_eq!(codes, [(TRANSPORT.into(), None), (MODE.into(), Some("BOOT-CFG-05"))]);
}

#[test]
fn boot_ok_a_supervisor_with_a_whole_channel_is_accepted() {
    let text = platform(
        "bootstrap:\n  mode: process_supervisor\nexecution_ipc:\n  transport: tcp_local\n  bind_host: 127.0.0.1\n  bind_port: 0\n  auth:\n    mode: hmac\n    secret_mode: generated\n    kdf: hkdf_sha256\n    ttl_seconds: 30\n    nonce_cache_size: 100000\n  max_payload_bytes: 1048576\n",
    );
    let loaded = parse(&text).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    let platform = loaded.config.runtime.platform;
    let ipc = platform.execution_ipc;
    assert_eq!(platform.bootstrap.mode, BootstrapMode::ProcessSupervisor);
    assert_eq!((ipc.transport, ipc.bind_host.to_string().as_str()), (Transport::TcpLocal, "127.0.0.1"));
    assert_eq!((ipc.bind_port, ipc.max_payload_bytes), (0, 1_048_576));
    assert_eq!((ipc.auth.secret_mode, ipc.auth.kdf), (SecretMode::Generated, Kdf::HkdfSha256));
    assert_eq!((ipc.auth.ttl_seconds, ipc.auth.nonce_cache_size, ipc.auth.secret_ref), (30, 100_000, None));
    // What the text says in full is what its defaults are.
    let short = "runtime: {platform: {bootstrap: {mode: process_supervisor}, execution_ipc: {transport: tcp_local, auth: {secret_mode: generated}}}}";
    assert_eq!(good(short), good(&text));
}

#[test]
fn boot_sum_01_the_summary_of_the_memory_profile_has_no_channel() {
    let expected =
        json!({ "bootstrap_mode": "inline", "execution_ipc": { "secret_mode": null, "kdf": null } });
    for text in ["", &platform("execution_ipc: {}\n"), &platform("execution_ipc: {transport: memory}\n")] {
        assert_eq!(summary(text), expected, "{text}");
    }
}

#[test]
fn boot_sum_02_the_summary_shows_what_was_left_out_too() {
    for (auth, secret_mode, kdf) in [
        ("{mode: hmac}", "static", "none"),
        ("{secret_mode: static}", "static", "none"),
        ("{secret_mode: generated}", "generated", "hkdf_sha256"),
        ("{secret_mode: static, kdf: hkdf_sha256}", "static", "hkdf_sha256"),
        ("{secret_mode: generated, kdf: none}", "generated", "none"),
        ("{kdf: hkdf_sha256}", "static", "hkdf_sha256"),
    ] {
        for (mode, line) in
            [("inline", ""), ("process_supervisor", "bootstrap: {mode: process_supervisor}\n")]
        {
            let text = platform(&format!("{line}execution_ipc:\n  transport: tcp_local\n  auth: {auth}\n"));
            let expected = json!({ "bootstrap_mode": mode, "execution_ipc": { "secret_mode": secret_mode, "kdf": kdf } });
            assert_eq!(summary(&text), expected, "{text}");
        }
    }
}

#[test]
fn every_fault_of_the_section_is_told_at_once() {
    let text = platform(
        "bootstrap:\n  mode: forked\n  mod: inline\nexecution_ipc:\n  transport: tcp_local\n  bind_host: 0.0.0.0\n  bind_port: 65536\n  secret_mode: static\n  auth:\n    mode: none\n    secret_mode: rolled\n    kdf: bad_kdf\n    ttl_seconds: 0\n    nonce_cache_size: -1\n    secret_ref: canary\n    ttl_second: 3\n  max_payload_bytes: 1MiB\n",
    );
    let found = faults(&text);
    let told: Vec<_> =
        found.iter().map(|fault| (fault.path.replace("runtime.platform.", ""), fault.code)).collect();
    let plain = |path: &str| (path.to_owned(), None);
    let coded = |path: &str, code| (path.to_owned(), Some(code));
    assert_eq!(
        told,
        [
            coded("bootstrap.mode", "BOOT-CFG-01"),
            plain("bootstrap.mod"),
            plain("execution_ipc.bind_host"),
            plain("execution_ipc.bind_port"),
            plain("execution_ipc.secret_mode"),
            plain("execution_ipc.auth.mode"),
            coded("execution_ipc.auth.secret_mode", "BOOT-CFG-02"),
            coded("execution_ipc.auth.kdf", "BOOT-CFG-03"),
            plain("execution_ipc.auth.ttl_seconds"),
            plain("execution_ipc.auth.nonce_cache_size"),
            plain("execution_ipc.auth.secret_ref"),
            plain("execution_ipc.auth.ttl_second"),
            plain("execution_ipc.max_payload_bytes"),
        ]
    );
    let help_of = |path: &str| {
        let path = format!("runtime.platform.{path}");
        found.iter().find(|fault| fault.path == path).map(|fault| fault.help.clone()).unwrap()
    };
    for (path, help) in [
        ("bootstrap.mod", "`runtime.platform.bootstrap.mode`"),
        ("execution_ipc.bind_host", "`127.0.0.1`"),
        ("execution_ipc.bind_port", "from 0 to 65535"),
        ("execution_ipc.secret_mode", "`runtime.platform.execution_ipc.auth.secret_mode`"),
        ("execution_ipc.auth.ttl_seconds", "of seconds from 1 to 3600"),
        ("execution_ipc.auth.ttl_second", "`runtime.platform.execution_ipc.auth.ttl_seconds`"),
        ("execution_ipc.auth.secret_ref", "`env:NAME`"),
        ("execution_ipc.max_payload_bytes", "of bytes from 1024 to 16777216"),
    ] {
        assert!(help_of(path).contains(help), "{path}: {}", help_of(path));
    }
    assert!(!format!("{found:?}").contains("canary"));
}

#[test]
fn a_strange_key_beside_the_contract_is_a_warning_and_inside_a_fault() {
    let loaded = parse(&platform("kv: {x: 1}\nbootstrp: {mode: inline}\n")).unwrap();
    let [kv, near] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    assert!(kv.starts_with("swarmgate.yaml:3: `runtime.platform.kv` is not a key"), "{kv}");
    assert!(near.contains(":4: ") && near.contains("`runtime.platform.bootstrap`"), "{near}");
    let loaded = parse("runtime:\n  strategy: sync\n  platform:\n").unwrap();
    assert!(loaded.warnings[0].contains("`runtime.strategy`"), "{:?}", loaded.warnings);
    for (below, path) in [
        ("bootstrap: {strategy: x}", "runtime.platform.bootstrap.strategy"),
        ("execution_ipc: {transprt: x}", "runtime.platform.execution_ipc.transprt"),
        ("execution_ipc: {auth: {kdff: x}}", "runtime.platform.execution_ipc.auth.kdff"),
    ] {
        assert_eq!(the_fault(&platform(&format!("{below}\n"))).path, path);
    }
    for (text, path) in [("runtime: x\n", "runtime"), ("runtime: {platform: []}\n", "runtime.platform")] {
        let fault = the_fault(text);
        assert!(fault.path == path && fault.message.contains("is a section"), "{fault:?}");
    }
}

#[test]
fn the_channel_is_bound_to_this_machine() {
    for host in ["127.0.0.1", "127.8.9.10", "::1"] {
        good(&platform(&format!("execution_ipc: {{transport: tcp_local, bind_host: '{host}'}}\n")));
    }
    for host in ["0.0.0.0", "::", "10.0.0.1", "localhost", "127.0.0.1:80", "", "::ffff:127.0.0.1"] {
        let fault =
            the_fault(&platform(&format!("execution_ipc: {{transport: tcp_local, bind_host: '{host}'}}\n")));
        assert!(fault.message.contains("is not a loopback address"), "{host}: {fault:?}");
    }
}

#[test]
fn a_static_secret_is_named_and_asked_for_later() {
    let with =
        |auth: &str| platform(&format!("execution_ipc:\n  transport: tcp_local\n  auth: {{{auth}}}\n"));
    for auth in ["", "secret_mode: static", "secret_ref: 'env:KEY'", "secret_ref: 'file:/no/such/file'"] {
        assert_eq!(parse(&with(auth)).unwrap().warnings, [""; 0], "{auth}");
    }
    for secret_ref in ["canary", "env:", "env:1A", "env:A-B", "file:", "vault:canary", "ENV:KEY"] {
        let fault = the_fault(&with(&format!("secret_ref: '{secret_ref}'")));
        assert!(fault.message.contains("does not say where the secret is"), "{secret_ref}");
        assert!(!format!("{fault:?}{}", fault.drawn("")).contains("canary"));
    }
    let idle = parse(&with("secret_mode: generated, secret_ref: 'env:KEY'")).unwrap();
    assert!(idle.warnings[0].contains("only where `secret_mode` is `static`"), "{:?}", idle.warnings);
    let idle = parse(&platform("execution_ipc: {auth: {secret_ref: 'env:KEY'}}\n")).unwrap();
    assert!(idle.warnings[0].contains(TRANSPORT), "{:?}", idle.warnings);
}

#[test]
fn the_line_is_shown_with_a_caret_and_without_what_may_be_a_secret() {
    for (text, drawn) in [
        (
            "amqp:\n  prefx: canary\n",
            "swarmgate.yaml:2: `amqp.prefx` is not a key\n    2 |   prefx: ***\n      |   ^^^^^\n    the nearest key is `amqp.prefix`\n",
        ),
        (
            "mode: enforced\n",
            "swarmgate.yaml:1: `mode` is none of the words it may be; `enforce` is nearest\n    1 | mode: enforced\n      |       ^^^^^^^^\n    write one of `observe`, `enforce`\n",
        ),
        (
            "mode: forked\n",
            "swarmgate.yaml:1: `mode` is none of the words it may be\n    1 | mode: forked\n      |       ^^^^^^\n    write one of `observe`, `enforce`\n",
        ),
        (
            "mode: 'canary canary'\n",
            "swarmgate.yaml:1: `mode` is none of the words it may be\n    1 | mode: ***\n      |       ^^^\n    write one of `observe`, `enforce`\n",
        ),
        (
            "limits: {depth_max: 1000}\n",
            "swarmgate.yaml:1: `limits.depth_max` is `1000`, out of bounds\n    1 |          depth_max: 1000\n      |                     ^^^^\n    give a whole number from 4 to 127\n",
        ),
        (
            "runtime: {platform: {bootstrap: {mode: process_supervisor}}}\n",
            "swarmgate.yaml:1: BOOT-CFG-05: `runtime.platform.bootstrap.mode` is `process_supervisor`, and `runtime.platform.execution_ipc.transport` is not set\n    1 |                                  mode: process_supervisor\n      |                                        ^^^^^^^^^^^^^^^^^^\n    set `runtime.platform.execution_ipc.transport` to `tcp_local`, or the mode to `inline`\n",
        ),
        (
            "mode: observe\namqp:\n  url: [canary\n",
            "swarmgate.yaml:3: this is not YAML\n    3 |   url: ***\n      |        ^^^\n    see that line; indentation, quotes and colons are the usual causes\n",
        ),
        (
            "mode: observe\nmode: canary\n",
            "swarmgate.yaml:2: the key `mode` stands twice\n    2 | mode: ***\n      |       ^^^\n    see that line; indentation, quotes and colons are the usual causes\n",
        ),
    ] {
        assert_eq!(the_fault(text).drawn(""), drawn, "{text}");
    }
}

#[test]
fn any_text_is_a_config_or_has_faults() {
    // Cut and doubled anywhere, a whole config never makes the reader fail otherwise.
    let whole = config::defaults_yaml();
    let step = (whole.len() / 30).max(1);
    for at in (0..whole.len()).step_by(step).filter(|at| whole.is_char_boundary(*at)) {
        for text in
            [whole[..at].to_owned(), whole[at..].to_owned(), format!("{}{}", &whole[at..], &whole[..at])]
        {
            if let Err(ConfigError::Faulty { faults }) = parse(&text) {
                assert!(!faults.is_empty());
                assert!(faults.iter().all(|fault| fault.drawn("").lines().count() >= 2));
            }
        }
    }
}

#[test]
fn a_file_may_be_mostly_comments() {
    let comments = "# a word about it\n".repeat(5_000);
    let text = format!("{comments}amqp:\n{}mode: observe\n{comments}", comments.replace('#', "  #"));
    assert_eq!(good(&text).mode, swarmgate::contract::audit::Mode::Observe);
}
