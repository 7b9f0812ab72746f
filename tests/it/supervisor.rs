//! The supervisor with real processes: starts, falls, ends, and what they leave behind.

pub mod process;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use process::{QUICK, Supervised, gone, python, rust, signal, state};

/// How each worker ended.
fn ends(report: &[Value]) -> BTreeMap<&str, &str> {
    report
        .iter()
        .map(|worker| {
            let instance = worker["worker"]["instance"].as_str().expect("an instance");
            (instance, worker["end"].as_str().expect("an end"))
        })
        .collect()
}

/// P5PRE-CTRL-04, with processes: nobody works before everybody is ready.
#[test]
fn four_workers_begin_together_and_go_when_told() {
    let rows = [rust("r1"), rust("r2"), rust("r3"), python("p1", "normal")];
    let mut supervised = Supervised::start(QUICK, &rows);
    let workers = ["r1", "r2", "r3", "p1"];
    for worker in workers {
        supervised.reaches(worker, "working", 1);
        supervised.prints(worker, if worker == "p1" { "begun True" } else { "working" });
    }
    let pids = workers.map(|worker| supervised.pid(worker, 1));
    {
        let lines = supervised.lines();
        let stages = |stage| {
            let at = move |line: &Value| line["stage"] == stage;
            lines.iter().enumerate().filter(move |(_, line)| at(line)).map(|(at, _)| at)
        };
        let (ready, working) = (stages("ready").max(), stages("working").min());
        assert!(ready < working, "somebody worked before everybody was ready");
        let moment = |line: Option<&Value>| {
            let text = line.and_then(|line| line["timestamp"].as_str()).unwrap_or_default();
            swarmgate::contract::timestamp::Timestamp::parse(text).expect("a moment")
        };
        let begun = moment(working.and_then(|at| lines.get(at)));
        println!("four workers work {} ms after the first line", begun.ms_since(moment(lines.first())));
    }
    let (code, report) = supervised.stop();
    assert_eq!(code, Some(0), "{}", supervised.log());
    assert!(ends(&report).values().all(|end| *end == "graceful"), "{report:?}");
    assert_eq!(report.len(), workers.len());
    // Waited for: not even a zombie is left.
    assert!(pids.iter().all(|pid| state(*pid).is_none()), "{pids:?}");
}

/// Workers that stand still in each stage, by their ids.
fn in_each_stage() -> [String; 4] {
    [
        python("a", "hangs-started"),
        python("b", "hangs-bootstrapped"),
        // Ready, and held there: the two before it are required.
        python("c", "normal"),
        // Those of the list are waited for, unless it says otherwise.
        rust("d"),
    ]
}

const STAGES: [(&str, &str); 4] = [("a", "started"), ("b", "bootstrapped"), ("c", "ready"), ("d", "ready")];

/// Waits until each stands in its stage.
fn stand(supervised: &Supervised) {
    supervised.prints("a", "started");
    for (worker, stage) in STAGES.into_iter().skip(1) {
        supervised.reaches(worker, stage, 1);
    }
}

#[test]
fn a_killed_worker_is_started_again_from_each_stage() {
    let mut supervised = Supervised::start(QUICK, &in_each_stage());
    stand(&supervised);
    for (worker, stage) in STAGES {
        let first = supervised.pid(worker, 1);
        signal("KILL", first);
        let second = supervised.pid(worker, 2);
        assert_ne!(first, second);
        assert_eq!(state(first), None, "{worker} was not waited for");
        if stage != "started" {
            supervised.reaches(worker, stage, 2);
        }
    }
    let (code, report) = supervised.stop();
    assert_eq!((code, report.len()), (Some(0), 4), "{}", supervised.log());
    assert!(report.iter().all(|worker| worker["processes"] == 2), "{report:?}");
}

#[test]
fn a_worker_killed_at_work_works_again_at_once() {
    let mut supervised = Supervised::start(QUICK, &[rust("r"), python("p", "normal")]);
    for worker in ["r", "p"] {
        supervised.reaches(worker, "working", 1);
    }
    for (worker, count) in [("r", 1), ("p", 1), ("r", 2)] {
        signal("KILL", supervised.pid(worker, count));
        // The others go on; nobody waits for them again.
        supervised.reaches(worker, "working", count + 1);
    }
    let (code, report) = supervised.stop();
    assert_eq!(code, Some(0));
    assert!(ends(&report).values().all(|end| *end == "graceful"), "{report:?}");
}

#[test]
fn a_killed_supervisor_leaves_nobody_behind_from_any_stage() {
    let mut supervised = Supervised::start(QUICK, &in_each_stage());
    stand(&supervised);
    let pids = STAGES.map(|(worker, _)| supervised.pid(worker, 1));
    supervised.kill();
    pids.into_iter().for_each(gone);

    let mut at_work = Supervised::start(QUICK, &[rust("r"), python("p", "ignores-everything")]);
    for worker in ["r", "p"] {
        at_work.reaches(worker, "working", 1);
    }
    let pids = ["r", "p"].map(|worker| at_work.pid(worker, 1));
    at_work.kill();
    pids.into_iter().for_each(gone);
}

#[test]
fn a_supervisor_killed_while_it_ends_its_workers_leaves_nobody() {
    let mut supervised = Supervised::start(QUICK, &[python("p", "ignores-everything")]);
    supervised.reaches("p", "working", 1);
    let pid = supervised.pid("p", 1);
    signal("TERM", supervised.id());
    supervised.reaches("p", "stopping", 1);
    supervised.prints("p", "ignoring");
    supervised.kill();
    gone(pid);
}

#[test]
fn one_that_is_never_ready_is_started_again_and_then_given_up() {
    let settings = format!(
        "{}  restart_count_max: 2\n",
        QUICK.replace("20000", "2500").replace("stop_graceful_ms: 5000", "stop_graceful_ms: 200")
    );
    let mut supervised = Supervised::start(&settings, &[python("p", "hangs-bootstrapped"), rust("r")]);
    let (code, report) = supervised.ended();
    assert_eq!(code, Some(1), "{}", supervised.log());
    // Work cannot begin without it, so the other is ended too.
    assert_eq!(ends(&report), BTreeMap::from([("p", "given-up"), ("r", "graceful")]), "{report:?}");
    let given_up = report.iter().find(|worker| worker["end"] == "given-up").expect("one");
    assert_eq!(given_up["processes"], 3);
    assert!(given_up["lastFall"].as_str().is_some_and(|fall| fall.contains("ready_timeout_ms")));
    assert!(!supervised.log().contains("\"stage\":\"working\""));
}

#[test]
fn one_that_exits_at_once_is_given_up_and_the_others_work_on_where_it_is_not_required() {
    let settings = format!("{QUICK}  restart_count_max: 3\n");
    let optional = format!("{}      required: false\n", python("p", "exits-at-once"));
    let mut supervised = Supervised::start(&settings, &[rust("r"), optional]);
    supervised.reaches("r", "working", 1);
    supervised.line("p is given up", 1, |line| {
        line["worker"] == "p" && line["level"] == "ERROR" && line["processes"] == 4
    });
    assert!(state(supervised.pid("r", 1)).is_some_and(|state| state != 'Z'));
    let (code, report) = supervised.stop();
    assert_eq!(code, Some(1), "one was given up");
    assert_eq!(ends(&report), BTreeMap::from([("p", "given-up"), ("r", "graceful")]));
    assert!(report[0]["lastFall"].as_str().is_some_and(|fall| fall.contains("exit status: 3")), "{report:?}");
}

#[test]
fn a_program_that_is_not_there_is_said_and_given_up() {
    let row = "    - {id: x, role: generator, command: [/no/such/program]}\n".to_owned();
    let mut supervised = Supervised::start(&format!("{QUICK}  restart_count_max: 0\n"), &[row]);
    let (code, report) = supervised.ended();
    assert_eq!((code, ends(&report)), (Some(1), BTreeMap::from([("x", "given-up")])));
    assert!(supervised.log().contains("cannot be run"), "{}", supervised.log());
}

#[test]
fn ends_are_bounded_and_told_as_what_they_were() {
    let settings = QUICK
        .replace("stop_graceful_ms: 5000", "stop_graceful_ms: 600")
        .replace("stop_terminate_ms: 2000", "stop_terminate_ms: 600");
    let rows = [
        python("late", "leaves-late"),
        python("stop", "ignores-stop"),
        python("term", "ignores-terminate"),
        python("both", "ignores-everything"),
        python("deaf", "deaf"),
    ];
    let mut supervised = Supervised::start(&settings, &rows);
    for worker in ["late", "stop", "term", "both", "deaf"] {
        supervised.reaches(worker, "working", 1);
    }
    let (code, report) = supervised.stop();
    assert_eq!(code, Some(0), "{}", supervised.log());
    let expected = BTreeMap::from([
        ("late", "graceful"),
        ("stop", "forced-terminate"),
        ("term", "graceful"),
        ("both", "forced-kill"),
        ("deaf", "graceful"),
    ]);
    assert_eq!(ends(&report), expected);
}

#[test]
fn one_that_falls_silent_is_ended_and_started_again() {
    let settings = QUICK
        .replace("heartbeat_timeout_ms: 5000", "heartbeat_timeout_ms: 700")
        .replace("stop_graceful_ms: 5000", "stop_graceful_ms: 100")
        .replace("stop_terminate_ms: 2000", "stop_terminate_ms: 100");
    let supervised = Supervised::start(&settings, &[python("p", "falls-silent")]);
    let first = supervised.pid("p", 1);
    supervised.line("p is silent", 1, |line| {
        line["message"].as_str().is_some_and(|text| text.contains("heartbeat_timeout_ms"))
    });
    supervised.reaches("p", "working", 2);
    assert_eq!(state(first), None, "a process that was stopped is killed and waited for");
}

#[test]
fn a_flood_of_statuses_delays_no_stop() {
    let mut supervised = Supervised::start(QUICK, &[python("p", "floods"), rust("r")]);
    supervised.reaches("p", "working", 1);
    // Heartbeats pass it too: it lives on well beyond their timeout.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let (code, report) = supervised.stop();
    assert_eq!(code, Some(0), "{}", supervised.log());
    assert!(ends(&report).values().all(|end| *end == "graceful"), "{report:?}");
    assert!(report.iter().all(|worker| worker["processes"] == 1), "{report:?}");
}

#[test]
fn what_a_worker_started_goes_with_it() {
    goes_with_it("has-child");
}

#[test]
fn what_a_worker_put_into_a_session_of_its_own_goes_with_it_too() {
    goes_with_it("has-daemon");
}

/// Only a control group knows it; where there is none, the supervisor says why.
#[test]
fn what_emptied_its_environment_goes_with_its_control_group() {
    let by_group = "is ended by its control group";
    let mut supervised = Supervised::start(QUICK, &[rust("r")]);
    let way = supervised.line("the way", 1, |line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.contains(by_group)
            || text.contains("SWARMGATE_SUPERVISED in its environment, and by no control group")
    });
    let test = "what_emptied_its_environment_goes_with_its_control_group";
    if !way["message"].as_str().is_some_and(|text| text.contains(by_group)) {
        eprintln!("SKIPPED: {test}: {}", way["message"]);
        return;
    }
    supervised.reaches("r", "working", 1);
    assert_eq!(groups_of(supervised.id()).len(), 1, "a worker is in a group of its own");
    assert_eq!(supervised.stop().0, Some(0));
    assert_eq!(groups_of(supervised.id()), Vec::<PathBuf>::new(), "its group goes with it");
    goes_with_it("has-stranger");
}

/// The control groups that a supervisor has made and not removed.
fn groups_of(supervisor: u32) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2");
    let own = fs::read_to_string("/proc/self/cgroup").expect("the own groups");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a group");
    let own = Path::new(mount.split(' ').nth(4).expect("where it is mounted")).join(own);
    let groups = fs::read_dir(own).expect("groups").map(|group| group.expect("a group").path());
    let (worker, tried) = (format!("swarmgate-{supervisor}-"), format!("swarmgate-try-{supervisor}"));
    let is_ours = |group: &PathBuf| {
        let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(&worker) || name == tried
    };
    groups.filter(is_ours).collect()
}

fn goes_with_it(mode: &str) {
    let mut supervised = Supervised::start(QUICK, &[python("p", mode)]);
    let child = |supervised: &Supervised, count| {
        let line = supervised.line("a child", count, |line| {
            line["message"].as_str().is_some_and(|text| text.starts_with("child "))
        });
        let number = line["message"].as_str().and_then(|text| text.strip_prefix("child "));
        number.and_then(|number| number.parse::<u32>().ok()).expect("a number")
    };
    let first = child(&supervised, 1);
    supervised.reaches("p", "working", 1);
    signal("KILL", supervised.pid("p", 1));
    gone(first);
    let second = child(&supervised, 2);
    supervised.reaches("p", "working", 2);
    assert_eq!(supervised.stop().0, Some(0));
    gone(second);
}

#[test]
fn what_workers_print_is_in_the_log_with_their_names() {
    let settings = format!("{QUICK}  log_line_bytes_max: 1000\n");
    let mut supervised = Supervised::start(&settings, &[python("p", "talks")]);
    let long = supervised.prints("p", "xxx");
    assert_eq!((long["cut"].clone(), long["message"].as_str().map(str::len)), (true.into(), Some(1000)));
    let complaint = supervised.prints("p", "complaint");
    assert_eq!((complaint["stream"].as_str(), complaint["cut"].as_bool()), (Some("stderr"), Some(false)));
    // The line that had no end when it was printed ends with the worker's next word.
    supervised.prints("p", "a line without endbegun True");
    assert_eq!(supervised.stop().0, Some(0));
    assert!(supervised.log().contains("\"ending\""), "its last word is in the log: {}", supervised.log());
}

/// Every secret's form that could be found: as it is, and as base64 and hex of it.
fn forms(secret: &str) -> Vec<String> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let encoded = BASE64_STANDARD.encode(secret);
    // The padding may be joined to something else.
    vec![secret.to_owned(), encoded.trim_end_matches('=').to_owned(), hex]
}

#[test]
fn no_secret_is_in_an_argument_an_environment_or_the_log() {
    let canary = "canary-of-the-master-secret-0123456789";
    let secrets = tempfile::TempDir::new().expect("a directory");
    let file = secrets.path().join("master");
    fs::write(&file, canary).expect("a secret");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
    let auth = format!("{{secret_mode: static, secret_ref: 'file:{}'}}", file.display());
    let rows = [rust("r"), python("p", "normal"), python("s", "hangs-started")];
    let rows =
        rows.map(|row| if row.contains("id: s") { format!("{row}      required: false\n") } else { row });
    let mut supervised = Supervised::configured(&auth, QUICK, &rows, &[]);
    for worker in ["r", "p"] {
        supervised.reaches(worker, "working", 1);
    }
    supervised.prints("s", "started");
    let mut seen = String::new();
    let workers = ["r", "p", "s"].map(|worker| supervised.pid(worker, 1));
    for pid in workers.into_iter().chain([supervised.id()]) {
        for place in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{place}")).expect("a process");
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    assert!(seen.contains("SWARMGATE_KEY_FD=0") && seen.contains("SWARMGATE_WORKER_ID=p"));
    // What the supervisor has for itself does not reach its workers.
    assert_eq!(seen.matches("SWARMGATE_AMQP_RECONNECT_MIN_MS").count(), 1);
    // A worker leaves its pipe when it has its key.
    let inherited = |pid: u32| fs::read_link(format!("/proc/{pid}/fd/0")).expect("a descriptor");
    for pid in [workers[0], workers[1]] {
        assert_eq!(inherited(pid), std::path::Path::new("/dev/null"));
    }
    let (code, _) = supervised.stop();
    assert_eq!(code, Some(0));
    seen.push_str(&supervised.log());
    for form in forms(canary) {
        assert!(!seen.contains(&form), "`{form}` was found");
    }
}

#[test]
fn a_config_that_supervises_nothing_is_said() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = dir.path().join("c.yaml");
    let platform = "runtime:\n  platform:\n    bootstrap: {mode: process_supervisor}\n    execution_ipc: {transport: tcp_local}\n";
    let workers = "supervisor:\n  workers:\n    - {id: x, role: g, command: [x]}\n";
    let generated = platform.replace("tcp_local}", "tcp_local, auth: {secret_mode: generated}}");
    for (yaml, told) in [
        (String::new(), "is not `process_supervisor`"),
        (generated, "`supervisor.workers` is empty"),
        (format!("{platform}{workers}"), "secret_ref` is not set"),
    ] {
        fs::write(&config, yaml).expect("a config");
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_swarmgate"))
            .args(["supervise", "--config"])
            .arg(&config)
            .env_remove("SWARMGATE_AMQP_URL")
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{text}");
        assert!(text.contains(told), "{told}: {text}");
    }
}
