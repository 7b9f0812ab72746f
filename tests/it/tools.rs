//! The command-line tools on a real RabbitMQ, beside the router as a process.
//!
//! Owns: what `send`, `tail`, `refused` and `doctor` do and say, and the codes they end with.
//! Never: lets a tool meet another test's virtual host.
//! Holds: every tool is the real binary, called as a person or a script calls it.

use std::{
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use swarmgate::contract::message::Message;
use tokio::process::{Child, Command};

use crate::{
    broker::{Broker, Vhost},
    router::{Inbox, body, outcome, process::Process, send, signal},
};

/// How long a tool may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn spawn(url: &str, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_swarmgate"))
        .args(args)
        .args(["--amqp", url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the tool starts")
}

/// What a tool said, and its exit code.
pub(crate) struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Stdout, once the code is what it must be.
    fn with(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The JSON objects on stdout, once the code is what it must be.
    fn json(self, code: i32) -> Vec<Value> {
        self.with(code).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

async fn end(child: Child) -> Said {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("the tool ends");
    Said::of(output.expect("an output"))
}

pub(crate) async fn tool(url: &str, args: &[&str]) -> Said {
    end(spawn(url, args)).await
}

/// Waits until so many tools listen to `exchange`.
async fn listeners(vhost: &Vhost, exchange: &str, count: usize) {
    let listens = |binding: &Value| {
        binding["source"] == exchange
            && binding["destination"].as_str().is_some_and(|queue| queue.starts_with("swarmgate.tool."))
    };
    let there = async {
        loop {
            let bindings = vhost.broker.http("GET", &format!("/api/bindings/{}", vhost.name), "");
            let bindings: Vec<Value> = serde_json::from_str(&bindings).expect("bindings");
            if bindings.iter().filter(|binding| listens(binding)).count() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("the tools listen");
}

/// The refused copies as `list` tells them.
async fn refused(url: &str) -> Vec<Value> {
    tool(url, &["refused", "list", "--output", "json"]).await.json(0)
}

/// Waits until so many refused copies are there.
async fn refused_are(url: &str, count: usize) -> Vec<Value> {
    let there = async {
        loop {
            let copies = refused(url).await;
            if copies.len() >= count {
                return copies;
            }
        }
    };
    let copies = tokio::time::timeout(PATIENCE, there).await.expect("the copies come");
    assert_eq!(copies.len(), count, "{copies:?}");
    copies
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_is_carried_answered_and_shown() {
        let vhost = Arc::new(Broker::shared()).vhost("tools-send");
        let url = vhost.options().url;
        let before = tool(&url, &["send", "swarm-start", "kestrel/worker/w-1"]).await;
        assert!(before.stderr.contains("help: "), "{}", before.stderr);
        before.with(4);
        let router = Process::start(&url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        // The router's own status comes between, where this takes ten seconds.
        let of_command = ["tail", "signal.#", "event.outcome.#", "--count", "2", "--output", "json"];
        let tail = spawn(&url, &of_command);
        let outcomes = spawn(&url, &["tail", "event.outcome.*.kestrel.#", "--count", "1"]);
        listeners(&vhost, "swarmgate.out", 2).await;
        let scope = "kestrel/worker/w-1";
        let asked =
            ["send", "swarm-start", scope, "--key", "i-1", "--correlation", "c-1", "--wait-ms", "30000"];
        let asking = spawn(&url, &asked);
        let is_it = |message: &Message| message.routing_key == "signal.swarm-start.kestrel.worker.w-1";
        inbox.hear(bus.as_ref(), |heard| heard.iter().any(is_it)).await;
        let carried = inbox.heard.iter().find(|heard| is_it(heard)).expect("the signal is carried");
        assert_eq!(body(carried)["origin"], "guest", "the sender is the connected user");
        assert_eq!(carried.properties.header_text("x-swarmgate-principal"), Some("guest"));
        send(bus.as_ref(), &[outcome("swarm-start", "w-1", "1", "Running")]).await;
        let told = end(asking).await.with(0);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 3, "{told}");
        assert!(lines[0].contains("signal") && lines[0].contains("from guest"), "{told}");
        assert!(lines[1].ends_with("correlationId c-1, idempotencyKey i-1"), "{told}");
        assert!(lines[2].contains("outcome") && lines[2].ends_with("Running"), "{told}");
        let shown = end(tail).await.json(0);
        assert_eq!(text(&shown[0], "/routingKey"), carried.routing_key);
        assert_eq!(text(&shown[0], "/body/idempotencyKey"), "i-1");
        assert_eq!(text(&shown[0], "/headers/x-swarmgate-verdict"), "forward");
        assert_eq!(text(&shown[1], "/body/data/status"), "Running");
        let filtered = end(outcomes).await.with(0);
        assert!(filtered.contains("outcome") && filtered.contains("Running"), "{filtered}");
        router.stop().await;
    }

    #[tokio::test]
    async fn a_send_that_cannot_pass_says_why() {
        let vhost = Arc::new(Broker::shared()).vhost("tools-send-refused");
        let url = vhost.options().url;
        let router = Process::start(&url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let scope = "kestrel/worker/w-1";
        let unknown = tool(&url, &["send", "swarm-dance", scope]).await.with(3);
        assert!(unknown.contains("not sent: contract.unknown-type"), "{unknown}");
        let tail = spawn(&url, &["tail", "--refused", "--count", "1"]);
        listeners(&vhost, "swarmgate.refused", 1).await;
        // The contract takes it, and the gate does not: the broker says that `guest` sent it.
        let foreign = ["send", "swarm-start", scope, "--origin", "somebody", "--wait-ms", "30000"];
        let foreign = tool(&url, &foreign).await.with(3);
        assert!(foreign.contains("identity.origin-mismatch"), "{foreign}");
        let shown = end(tail).await.with(0);
        assert!(shown.contains("identity.origin-mismatch") && shown.contains("from somebody"), "{shown}");
        let unheard = tool(&url, &["send", "swarm-start", scope, "--wait-ms", "300"]).await.with(1);
        assert!(unheard.contains("no answer within 300 ms"), "{unheard}");
        router.stop().await;
    }

    /// Looks at the copies by every way; that takes nothing, and leaves the order.
    async fn looks(url: &str, (id, schema): (&str, &Value), copies: &[Value]) {
        let one = tool(url, &["refused", "list", "--reason", "contract.schema"]).await.with(0);
        assert_eq!(one.lines().count(), 1, "{one}");
        assert!(one.contains(text(schema, "/id")) && one.contains("/data"), "{one}");
        let (at, sender) = (text(schema, "/timestamp"), text(schema, "/sender"));
        assert!(at.starts_with("20") && one.starts_with(at), "when: {one}");
        assert!(!sender.is_empty() && one.contains(&format!("from {sender}")), "who: {one}");
        let none = tool(url, &["refused", "list", "--reason", "contract.shema"]).await;
        assert!(none.stderr.contains("`contract.shema` is no reason code"), "{}", none.stderr);
        none.with(2);
        let shown = tool(url, &["refused", "show", id]).await.with(0);
        for part in ["contract.unknown-type", "rule: ", "next: ", "\"idempotencyKey\":\"i-2\""] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        tool(url, &["refused", "show", "nobody"]).await.with(2);
        assert_eq!(refused(url).await, copies, "looking takes nothing, and leaves the order");
    }

    #[tokio::test]
    async fn what_was_refused_is_listed_shown_and_replayed_once_it_is_mended() {
        let vhost = Arc::new(Broker::shared()).vhost("tools-refused");
        let url = vhost.options().url;
        let address =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let (http, api) = (format!("http.addr={address}"), format!("http://{address}"));
        let dir = tempfile::TempDir::new().expect("a directory");
        let router = Process::configured(&url, dir, &["--set", &http]);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let broken = Message { body: "{".into(), ..signal("swarm-plan", "w-1", "1") };
        let mut unknown = signal("cache-flush", "w-1", "2");
        unknown.properties.message_id = Some("mine-2".to_owned());
        let mut wrong = signal("swarm-plan", "w-1", "3");
        wrong.body = String::from_utf8_lossy(&wrong.body).replace("\"data\":{}", "\"data\":3").into();
        send(bus.as_ref(), &[broken, unknown.clone(), wrong]).await;
        let copies = refused_are(&url, 3).await;
        // A type that nobody binds comes by another lane, so the three come in any order.
        let of = |reason: &str| {
            copies
                .iter()
                .find(|copy| text(copy, "/reason") == reason)
                .unwrap_or_else(|| panic!("{reason}\n{copies:?}"))
        };
        assert_eq!(text(of("contract.not-json"), "/detail"), "EOF while parsing an object at byte 1");
        let schema = of("contract.schema");
        assert_eq!(text(schema, "/pointer"), "/data");

        let id = text(of("contract.unknown-type"), "/id");
        looks(&url, (id, schema), &copies).await;

        // Replayed before it is mended, it is judged again and refused again: a copy of a new
        // entry.
        let unheard = ["refused", "replay", id, "--api", "http://127.0.0.1:1"];
        tool(&url, &unheard).await.with(4);
        assert_eq!(refused(&url).await, copies, "nothing is sent whose verdict nobody hears");
        let said = tool(&url, &["refused", "replay", id, "--api", &api]).await.with(3);
        assert!(
            said.contains("refused again: contract.unknown-type") && said.ends_with("1 of 1 sent again\n"),
            "{said}"
        );
        let again = refused_are(&url, 3).await;
        assert!(again.iter().all(|copy| text(copy, "/id") != id), "{again:?}");

        let ledger = router.stop().await;
        let config = tempfile::tempdir().expect("a directory");
        std::fs::write(config.path().join("any.json"), r#"{"type":"object"}"#).expect("a schema");
        let file = config.path().join("swarmgate.yaml");
        std::fs::write(&file, "types: [{type: cache-flush, schema: any.json, class: change}]\n")
            .expect("a config");
        let file = file.to_str().expect("UTF-8");
        let router = Process::configured(&url, ledger, &["--config", file, "--set", &http]);
        router.ready(bus.as_ref()).await;
        let replay = ["refused", "replay", "--all", "--reason", "contract.unknown-type", "--api", &api];
        let said = tool(&url, &replay).await.with(0);
        assert!(said.contains("taken: command ") && said.ends_with("1 of 1 sent again\n"), "{said}");
        let is_it = |message: &Message| message.routing_key == unknown.routing_key;
        inbox.hear(bus.as_ref(), |heard| heard.iter().any(is_it)).await;
        let carried = inbox.heard.iter().find(|message| is_it(message));
        let carried = body(carried.expect("the mended signal is carried"));
        let first = body(&unknown);
        assert_eq!((&carried["data"], &carried["correlationId"]), (&first["data"], &first["correlationId"]));
        assert_eq!(carried["origin"], "guest", "it is the replayer's own");
        let carried = inbox.heard.iter().find(|message| is_it(message)).expect("it");
        assert_eq!(carried.properties.header("x-swarmgate-reason"), None);
        let left = refused_are(&url, 2).await;
        assert!(left.iter().all(|copy| text(copy, "/reason") != "contract.unknown-type"), "{left:?}");
        router.stop().await;
    }

    #[tokio::test]
    async fn a_doctor_names_what_is_wrong_and_what_is_right() {
        let vhost = Arc::new(Broker::shared()).vhost("tools-doctor");
        let (url, management) = (vhost.options().url, vhost.broker.management_url());
        let ledger = tempfile::tempdir().expect("a directory");
        let absent = ledger.path().join("absent");
        let absent = absent.to_str().expect("UTF-8");
        let look = ["doctor", "--management", &management, "--output", "json", "--ledger"];
        let doctor = |ledger: &str| {
            let args: Vec<String> =
                look.iter().map(|arg| (*arg).to_owned()).chain([ledger.to_owned()]).collect();
            let url = url.clone();
            async move { tool(&url, &args.iter().map(String::as_str).collect::<Vec<_>>()).await }
        };
        // Before the router was there: nothing is broken, and what is missing is said.
        let findings = doctor(absent).await.json(0);
        assert_eq!(states(&findings, "exchange"), ["warn"; 4]);
        assert_eq!(states(&findings, "queue"), ["warn"; 4]);
        assert_eq!(states(&findings, "ledger"), ["warn"]);

        let router = Process::start(&url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let findings = doctor(router.ledger().to_str().expect("UTF-8")).await.json(0);
        assert_eq!(states(&findings, "exchange"), ["ok"; 4]);
        assert_eq!(states(&findings, "queue"), ["ok"; 4]);
        assert_eq!(states(&findings, "ledger"), ["ok"]);
        assert_eq!(states(&findings, "clock"), ["ok"]);
        assert_eq!(states(&findings, "broker clock"), ["ok"]);
        assert_eq!(states(&findings, "permissions"), ["ok"]);
        let broker = found(&findings, "broker");
        let overview: Value =
            serde_json::from_str(&vhost.broker.http("GET", "/api/overview", "")).expect("JSON");
        assert!(
            broker.contains("RabbitMQ") && broker.contains(text(&overview, "/rabbitmq_version")),
            "{broker}"
        );
        assert_eq!(states(&findings, "guest"), ["warn"]);
        assert!(found(&findings, "guest").contains("default password"));
        assert_eq!(findings.iter().filter(|finding| finding["check"] == "message size").count(), 1);
        for finding in &findings {
            assert!(finding["state"] == "ok" || !text(finding, "/next").is_empty(), "what to do? {finding}");
        }
        router.stop().await;
    }

    #[tokio::test]
    async fn a_doctor_names_each_user_who_could_go_round_the_gate() {
        let vhost = Arc::new(Broker::shared()).vhost("tools-doctor-users");
        let (url, management) = (vhost.options().url, vhost.broker.management_url());
        let user = |name: &str| format!("{name}-{}", std::process::id());
        let rows = [("tools-narrow", r"^swarmgate\\.in$"), ("tools-wide", ".*"), ("tools-silent", "")];
        for (name, write) in rows {
            let name = user(name);
            vhost.broker.http("PUT", &format!("/api/users/{name}"), r#"{"password":"p","tags":""}"#);
            let row = format!(r#"{{"configure":"","write":"{write}","read":".*"}}"#);
            vhost.broker.http("PUT", &format!("/api/permissions/{}/{name}", vhost.name), &row);
        }
        // A queue that somebody declared before the router, in a form that loses confirmed messages
        // with its node.
        let classic = format!("/api/queues/{}/swarmgate.in.signals.v2", vhost.name);
        vhost.broker.http("PUT", &classic, r#"{"durable":true}"#);
        let said = tool(&url, &["doctor", "--management", &management, "--ledger", "/nonexistent"]).await;
        for (name, _) in rows {
            vhost.broker.http("DELETE", &format!("/api/users/{}", user(name)), "");
        }
        let told = said.with(1);
        let line = |start: &str| {
            told.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{told}"))
        };
        let permissions = line("FAIL     permissions:");
        let wide = format!("`{}` may write swarmgate.out, amq.default, amq.topic", user("tools-wide"));
        assert!(permissions.contains(&wide), "{permissions}");
        assert!(!permissions.contains("narrow") && !permissions.contains("silent"), "{permissions}");
        assert!(line("FAIL     queue:").contains("`swarmgate.in.signals.v2` is a classic queue"), "{told}");
        assert!(told.contains("→ narrow their write patterns"), "{told}");
    }

    #[tokio::test]
    async fn a_doctor_says_what_it_could_not_look_at() {
        let vhost = Arc::new(Broker::shared()).vhost("tools-doctor-blind");
        let url = vhost.options().url;
        let blind =
            ["doctor", "--management", "http://127.0.0.1:1", "--output", "json", "--ledger", "/nonexistent"];
        let findings = tool(&url, &blind).await.json(0);
        assert_eq!(states(&findings, "permissions"), ["skipped"]);
        assert_eq!(states(&findings, "broker"), ["ok"]);
        let findings = tool("amqp://guest:canary@127.0.0.1:1/%2f", &blind).await;
        assert!(!findings.stdout.contains("canary") && !findings.stderr.contains("canary"));
        assert_eq!(states(&findings.json(4), "broker"), ["FAIL"]);
    }

    #[tokio::test]
    async fn a_router_whose_log_nobody_reads_goes_on() {
        let vhost = Arc::new(Broker::shared()).vhost("tools-unheard");
        let url = vhost.options().url;
        let router = Process::unheard(&url, &["--set", "telemetry.log_level=debug"]);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let broken = Message { body: json!({}).to_string().into(), ..signal("swarm-plan", "w-1", "1") };
        send(bus.as_ref(), &[broken, signal("swarm-plan", "w-1", "2")]).await;
        inbox
            .hear(bus.as_ref(), |heard| heard.iter().any(|message| body(message)["idempotencyKey"] == "i-2"))
            .await;
        assert!(
            inbox.heard.iter().any(|message| body(message)["idempotencyKey"] == "i-2"),
            "carried all the same"
        );
        refused_are(&url, 1).await;
        router.stop().await;
    }

    #[tokio::test]
    async fn a_bench_that_nobody_reads_ends_quietly() {
        let vhost = Arc::new(Broker::shared()).vhost("tools-bench");
        let url = vhost.options().url;
        let few = ["bench", "--rounds", "1", "--messages", "200", "--rate", "0"];
        let told = tool(&url, &few).await.with(0);
        assert!(told.contains("throughputPerSecond") && !told.contains("marked"), "{told}");
        let marked = [few.as_slice(), &["--marked"]].concat();
        let told = tool(&url, &marked).await.with(0);
        assert!(told.contains("ratioToMarked"), "{told}");
        let mut unread = spawn(&url, &few);
        drop((unread.stdout.take(), unread.stderr.take()));
        assert_eq!(end(unread).await.code, Some(0));
    }

    fn states<'a>(findings: &'a [Value], check: &str) -> Vec<&'a str> {
        let named = findings.iter().filter(|finding| finding["check"] == check);
        named.map(|finding| text(finding, "/state")).collect()
    }

    fn found<'a>(findings: &'a [Value], check: &str) -> &'a str {
        findings
            .iter()
            .find(|finding| finding["check"] == check)
            .map_or("", |finding| text(finding, "/found"))
    }
}
