//! `swarmgate check config` as the real binary: what it prints, and the code it ends with.
//!
//! Owns: the two forms of its answer, the summary, and where its layers meet.
//! Never: needs a broker.
//! Holds: no run inherits a setting from the environment of the tests.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// Checks a config of that text with those variables; gives the exit code and what was printed.
fn check(yaml: &str, env: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("swarmgate.yaml"), yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWARMGATE_"))
    {
        command.env_remove(name);
    }
    command.current_dir(dir.path()).stdin(Stdio::null()).args(["check", "config", "swarmgate.yaml"]);
    let Output { status, stdout, stderr } = command.args(args).envs(env.iter().copied()).output().unwrap();
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    (status.code(), String::from_utf8(stdout).unwrap())
}

fn check_json(yaml: &str, env: &[(&str, &str)], args: &[&str]) -> (Option<i32>, Value) {
    let (code, told) = check(yaml, env, &[args, &["--output", "json"]].concat());
    (code, serde_json::from_str(&told).unwrap_or_else(|fault| panic!("{fault}: {told}")))
}

const SUPERVISED: &str = "runtime:\n  platform:\n    bootstrap:\n      mode: process_supervisor\n    execution_ipc:\n      transport: tcp_local\n      auth:\n        secret_mode: generated\n";

#[test]
fn the_summary_is_printed_for_people_and_for_programs() {
    for (yaml, text, summary) in [
        (
            "",
            "ok\nbootstrap_mode: inline\nexecution_ipc.kdf: null\nexecution_ipc.secret_mode: null\n",
            json!({ "bootstrap_mode": "inline", "execution_ipc": { "secret_mode": null, "kdf": null } }),
        ),
        (
            SUPERVISED,
            "ok\nbootstrap_mode: process_supervisor\nexecution_ipc.kdf: hkdf_sha256\nexecution_ipc.secret_mode: generated\n",
            json!({
                "bootstrap_mode": "process_supervisor",
                "execution_ipc": { "secret_mode": "generated", "kdf": "hkdf_sha256" }
            }),
        ),
    ] {
        assert_eq!(check(yaml, &[], &["--summary"]), (Some(0), text.to_owned()));
        let (code, told) = check_json(yaml, &[], &["--summary"]);
        assert_eq!((code, &told["ok"], &told["summary"]), (Some(0), &true.into(), &summary));
        assert_eq!(check_json(yaml, &[], &[]).1.get("summary"), None);
    }
}

#[test]
fn a_fault_is_told_with_its_code_and_its_line() {
    let yaml = SUPERVISED.replace("tcp_local", "memory").replace("generated", "generatd");
    let (code, told) = check(&yaml, &[], &["--summary"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        told,
        "swarmgate.yaml:8: BOOT-CFG-02: `runtime.platform.execution_ipc.auth.secret_mode` is none of the words it may be; `generated` is nearest\n    8 |         secret_mode: generatd\n      |                      ^^^^^^^^\n    write one of `static`, `generated`\nswarmgate.yaml:4: BOOT-CFG-05: `runtime.platform.bootstrap.mode` is `process_supervisor`, and `runtime.platform.execution_ipc.transport` is not `tcp_local`\n    4 |       mode: process_supervisor\n      |             ^^^^^^^^^^^^^^^^^^\n    set `runtime.platform.execution_ipc.transport` to `tcp_local`, or the mode to `inline`\n"
    );
    let (code, told) = check_json(&yaml, &[], &["--summary"]);
    assert_eq!((code, &told["ok"], told.get("summary")), (Some(1), &false.into(), None));
    assert_eq!(told["faults"][1]["code"], "BOOT-CFG-05");
    assert_eq!(told["faults"][1]["path"], "runtime.platform.bootstrap.mode");
    assert_eq!(
        told["faults"][1]["source"],
        json!({ "line": 4, "text": "      mode: process_supervisor", "column": 13, "width": 18 })
    );
}

#[test]
fn environment_and_flags_reach_the_deepest_setting() {
    let kdf = ("SWARMGATE_RUNTIME_PLATFORM_EXECUTION_IPC_AUTH_KDF", "none");
    let (_, told) = check_json(SUPERVISED, &[kdf], &["--summary"]);
    assert_eq!(told["summary"]["execution_ipc"]["kdf"], "none");
    let flag = "--set=runtime.platform.execution_ipc.auth.kdf=hkdf_sha256";
    let (_, told) = check_json(SUPERVISED, &[kdf], &["--summary", flag]);
    assert_eq!(told["summary"]["execution_ipc"]["kdf"], "hkdf_sha256");
    let wrong = ("SWARMGATE_RUNTIME_PLATFORM_BOOTSTRAP_MODE", "canary");
    let (code, told) = check(SUPERVISED, &[wrong], &[]);
    assert_eq!(code, Some(1));
    assert!(told.starts_with("SWARMGATE_RUNTIME_PLATFORM_BOOTSTRAP_MODE: BOOT-CFG-01: "), "{told}");
    assert!(!told.contains("canary") && !told.contains('^'), "{told}");
    // The dependency is found across layers, and blamed on the layer that asks for it.
    let supervised = ("SWARMGATE_RUNTIME_PLATFORM_BOOTSTRAP_MODE", "process_supervisor");
    let (code, told) = check("", &[supervised], &[]);
    assert_eq!(code, Some(1));
    assert!(told.starts_with("SWARMGATE_RUNTIME_PLATFORM_BOOTSTRAP_MODE: BOOT-CFG-05: "), "{told}");
}

#[test]
fn a_warning_is_no_fault() {
    let (code, told) = check("runtime:\n  platform:\n    kv: {}\n", &[], &[]);
    assert_eq!(code, Some(0));
    assert!(told.starts_with("warning: swarmgate.yaml:3: `runtime.platform.kv` is not a key"), "{told}");
    assert!(told.ends_with("\nok\n"), "{told}");
}
