//! The interlock at the terminal: `bot`, `kill`, `safety` and `challenge`, as a person and as a
//! script use them.
//!
//! Owns: what these commands send, ask, say and end with.
//! Never: speaks for the router; where one answers, it is the real binary on a real RabbitMQ.
//! Holds: no run inherits a setting from the environment of the tests.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::Value;

/// The tool, without a terminal and without anybody's settings.
fn tool(args: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_swarmgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWARMGATE_"))
    {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What it said, and its exit code.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }

    /// The last line of stdout, as JSON.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(self.stdout.lines().last().expect("a line")).expect("JSON")
    }

    /// Everything of it is on stdout or stderr.
    #[track_caller]
    fn says(self, words: &[&str]) -> Self {
        for said in words {
            let there = self.stdout.contains(said) || self.stderr.contains(said);
            assert!(there, "`{said}` is not in\n{}{}", self.stdout, self.stderr);
        }
        self
    }
}

async fn run(args: &[&str]) -> Said {
    Said::of(tool(args).output().await.expect("the tool runs"))
}

fn latch(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("kill-switch.latch")).expect("a latch");
    serde_json::from_str(&text).expect("JSON")
}

/// An address where nobody listens.
const NOBODY: &str = "amqp://127.0.0.1:1/%2f";
const NO_API: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn a_latch_needs_nobody_and_only_gets_tighter() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let kill = |more: &'static [&'static str]| {
        let args = [&["kill", "--latch-only", "--ledger", place, "--reason", "it burns"], more].concat();
        async move { run(&args).await }
    };
    kill(&[]).await.ended(0).says(&["latch: FLATTEN for ALL", "(new)", "there is no ledger in"]);
    let first = latch(dir.path());
    assert_eq!((&first["level"], &first["scope"]), (&"FLATTEN".into(), &"ALL".into()));
    assert_eq!(first["reason"], "it burns");
    assert!(first["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{first}");
    let mode = std::fs::metadata(dir.path().join("kill-switch.latch")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    kill(&["CLOSE_ONLY"]).await.ended(0).says(&["latch: FLATTEN for ALL", "it was there already"]);
    assert_eq!(latch(dir.path()), first, "who was first, and why, stays");
    let json =
        kill(&["block", "--swarm", "kestrel", "--output", "json", "--origin", "ann"]).await.ended(0).json();
    assert_eq!((&json["latch"]["level"], &json["latch"]["scope"]), (&"BLOCK".into(), &"ALL".into()));
    assert_eq!((&json["changed"], &json["latch"]["by"]), (&true.into(), &"ann".into()));
    assert_eq!(latch(dir.path()), json["latch"]);
}

#[tokio::test]
async fn a_kill_says_which_of_its_two_ways_worked() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let far = ["--amqp", NOBODY, "--api", NO_API, "--reason", "it burns"];
    let latched = run(&[&["kill", "--ledger", place][..], &far].concat()).await.ended(1);
    latched.says(&["latch: FLATTEN", "cannot be reached", "stands all the same", "runbooks/broker-down.md"]);
    let gone = dir.path().join("gone");
    let neither = run(&[&["kill", "--ledger", gone.to_str().unwrap()][..], &far].concat()).await.ended(4);
    neither.says(&["no latch: ", "is not there", "error: ", "help: "]);
    assert!(!gone.exists(), "a directory that is not there is not made");
    let alone = run(&["kill", "--latch-only", "--ledger", gone.to_str().unwrap(), "--reason", "x"]).await;
    alone.ended(5).says(&["no latch was written", "--ledger DIR"]);
    // A config that nobody can read does not stand in the way.
    let broken = dir.path().join("broken.yaml");
    std::fs::write(&broken, "mode: neither\n").unwrap();
    let broken = broken.to_str().unwrap();
    let args = ["kill", "BLOCK", "--config", broken, "--ledger", place, "--reason", "x"];
    run(&args).await.ended(1).says(&["latch: BLOCK", "stands all the same"]);
    run(&["kill", "ALLOW", "--reason", "x"]).await.ended(2).says(&["kill --lift"]);
    assert_eq!(latch(dir.path())["level"], "BLOCK");
}

#[tokio::test]
async fn what_is_dangerous_is_not_asked_for_blindly() {
    for args in [
        &["bot", "start", "k/bot/b-1", "--mode", "live", "--transition", "IDLE->RUNNING_LIVE"][..],
        &["bot", "release", "k/bot/b-1", "--reason", "x"],
        &["safety", "set", "NORMAL", "--reason", "x"],
        &["safety", "gate", "disable", "feed", "--for", "5m", "--reason", "x"],
        &["safety", "monitoring", "disable", "--for", "5m", "--reason", "x"],
        &["safety", "accept-clock", "--reason", "x"],
        &["kill", "--lift", "--reason", "x"],
        &["challenge", "confirm", "c-1", "--reason", "x"],
    ] {
        let args = [args, &["--api", NO_API, "--amqp", NOBODY]].concat();
        run(&args).await.ended(4).says(&["no router can be reached at"]);
    }
}

#[tokio::test]
async fn what_is_said_wrongly_is_not_sent() {
    for (args, why) in [
        (&["bot", "start", "k/bot/b-1"][..], "--mode"),
        (&["bot", "start", "k/bot/b-1", "--mode", "real"], "live"),
        (&["bot", "start", "k/bot/b-1", "--mode", "live", "--live", "k/bot/b-1"], "--yes"),
        (&["bot", "stop", "k/bot"], "swarm/role/instance"),
        (&["bot", "stop", "k/b ot/x"], "routing"),
        (&["safety", "set", "CALM", "--reason", "x"], "EMERGENCY_STOP"),
        (&["safety", "set", "SAFE"], "--reason"),
        (&["safety", "gate", "disable", "feed", "--reason", "x"], "--for"),
        (&["safety", "gate", "report", "feed", "PASS", "--for", "5"], "90s, 5m or 2h"),
        (&["kill"], "--reason"),
        (&["challenge", "confirm", "c-1"], "--reason"),
    ] {
        let said = run(&[args, &["--api", NO_API, "--amqp", NOBODY]].concat()).await.ended(2);
        assert!(said.stderr.contains(why) || why == "routing", "{args:?}\n{}", said.stderr);
        assert!(said.stdout.is_empty(), "{args:?}\n{}", said.stdout);
    }
}

mod on_rabbitmq {
    mod clocks;

    use std::{
        collections::BTreeSet,
        net::{SocketAddr, TcpListener},
        sync::Arc,
        time::{Duration, Instant},
    };

    use serde_json::json;
    use swarmgate::{bus::amqp::Amqp, clock, contract::message::Message};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        api::terminal::Terminal,
        broker::{Broker, Vhost},
        router::{Inbox, body, message, outcome, process::Process, send},
    };

    const PATIENCE: Duration = Duration::from_secs(30);
    const TARGET: &str = "kestrel/worker/w-1";

    /// A router as a process, its API, and an inbox that hears what it carries.
    struct Post {
        vhost: Vhost,
        router: Process,
        bus: Arc<Amqp>,
        inbox: Inbox,
        api: String,
    }

    impl Post {
        async fn open(test: &str) -> Self {
            Self::on(test, TempDir::new().expect("a directory")).await
        }

        /// On a ledger that is there.
        async fn on(test: &str, dir: TempDir) -> Self {
            let vhost = Arc::new(Broker::shared()).vhost(test);
            let address: SocketAddr =
                TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
            let http = format!("http.addr={address}");
            let router = Process::configured(&vhost.options().url, dir, &["--set", &http]);
            let bus = vhost.connect().await;
            router.ready(bus.as_ref()).await;
            let inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
            Self { vhost, router, bus, inbox, api: format!("http://{address}") }
        }

        fn args<'a>(&'a self, url: &'a str, args: &[&'a str]) -> Vec<&'a str> {
            [args, &["--amqp", url, "--api", &self.api]].concat()
        }

        async fn run(&self, args: &[&str]) -> Said {
            run(&self.args(&self.vhost.options().url, args)).await
        }

        /// Runs it, while the workers answer what it sends.
        async fn answered(&mut self, args: &[&str], answers: &[(&str, &str)]) -> Said {
            let url = self.vhost.options().url;
            let tool = tool(&self.args(&url, args)).spawn().expect("the tool starts");
            let heard = self.next(args[1]).await;
            for (instance, status) in answers {
                self.answer(&heard, instance, status).await;
            }
            let output = tokio::time::timeout(PATIENCE, tool.wait_with_output()).await.expect("it ends");
            Said::of(output.expect("an output"))
        }

        /// The next signal of that type that a worker hears.
        async fn next(&mut self, act: &str) -> Message {
            let prefix = format!("signal.bot-{act}.");
            let is_signal = |message: &Message| message.routing_key.starts_with(&prefix);
            let before = self.inbox.heard.iter().filter(|message| is_signal(message)).count();
            let more = |all: &[Message]| all.iter().filter(|message| is_signal(message)).count() > before;
            self.inbox.hear(self.bus.as_ref(), more).await;
            let next = self.inbox.heard.iter().filter(|message| is_signal(message)).nth(before);
            next.expect("a signal is carried").clone()
        }

        async fn answer(&self, asked: &Message, instance: &str, status: &str) {
            let asked = body(asked);
            let mut answer = outcome(asked["type"].as_str().expect("a type"), instance, "x", status);
            let mut words = body(&answer);
            words["correlationId"] = asked["correlationId"].clone();
            words["idempotencyKey"] = asked["idempotencyKey"].clone();
            answer.body = words.to_string().into();
            send(self.bus.as_ref(), &[answer]).await;
        }

        /// A worker shows itself, and the router has taken note.
        async fn appear(&self, instance: &str) {
            let status = json!({
                "timestamp": clock::wall(), "version": "1", "kind": "metric", "type": "status-full",
                "origin": instance,
                "scope": { "swarmId": "kestrel", "role": "worker", "instance": instance },
                "data": { "enabled": true, "config": {}, "startedAt": clock::wall(), "io": {}, "ioState": {} },
            });
            let key = format!("event.metric.status-full.kestrel.worker.{instance}");
            send(self.bus.as_ref(), &[message(&key, &status)]).await;
            let started = Instant::now();
            while !run(&["inventory", "kestrel", "--api", &self.api])
                .await
                .stdout
                .contains(&format!("worker/{instance}"))
            {
                assert!(started.elapsed() < PATIENCE, "{instance} is not seen");
            }
        }
    }

    impl Post {
        /// Walks a bot to IDLE.
        async fn initialise(&mut self, instance: &str) {
            self.appear(instance).await;
            let init = json!({
                "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": "bot-init", "origin": "orc",
                "scope": { "swarmId": "kestrel", "role": "worker", "instance": instance },
                "correlationId": "c-init", "idempotencyKey": "i-init",
                "data": { "requestedTransition": "CREATED->IDLE" },
            });
            send(self.bus.as_ref(), &[message(&format!("signal.bot-init.kestrel.worker.{instance}"), &init)])
                .await;
            let asked = self.next("init").await;
            self.answer(&asked, instance, "Created").await;
            let is_end =
                |all: &[Message]| all.iter().any(|m| m.routing_key.starts_with("event.outcome.bot-init."));
            self.inbox.hear(self.bus.as_ref(), is_end).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stop_asks_nobody_and_waits_for_its_end() {
        let mut post = Post::open("interlock-stop").await;
        for instance in ["w-1", "w-2"] {
            post.appear(instance).await;
        }
        let one = post.answered(&["bot", "stop", TARGET, "--reason", "enough"], &[("w-1", "Stopped")]).await;
        let one =
            one.ended(0).says(&["bot-stop kestrel/worker/w-1: Stopped", "not affected", "environment   dev"]);
        assert_eq!(one.stdout, "bot-stop kestrel/worker/w-1: Stopped\n", "stdout is the answer");
        let sent = body(post.inbox.heard.iter().find(|m| m.routing_key.starts_with("signal.")).expect("it"));
        assert_eq!(sent["data"], json!({ "requestedTransition": "ANY->IDLE", "reason": "enough" }));
        assert_eq!(sent["origin"], "guest");
        // All of a role: the end is the sum of it, not the first answer.
        let args = ["bot", "stop", "kestrel/worker/ALL", "--output", "json"];
        let all = post.answered(&args, &[("w-1", "Stopped"), ("w-2", "Failed")]).await.ended(3).json();
        assert_eq!((&all["status"], &all["success"]), (&"Failed".into(), &false.into()), "{all}");
        assert_eq!(all["targets"].as_array().map(Vec::len), Some(2), "{all}");
        assert!(
            all["runbook"].as_str().is_some_and(|page| page.ends_with("lifecycle.stop-stuck.md")),
            "{all}"
        );
        // A swarm by its name alone; nobody answers in time.
        let late = post.answered(&["bot", "pause", "kestrel", "--timeout", "1"], &[]).await.ended(1);
        late.says(&["bot-pause kestrel/ALL/ALL", "no end within 1 s", "swarmgate wait "]);
        post.router.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_no_names_the_next_step() {
        let post = Post::open("interlock-no").await;
        let stop = |more: &[&'static str]| [&["bot", "stop", TARGET, "--key", "k-1"], more].concat();
        post.run(&stop(&["--no-wait", "--reason", "one"])).await.ended(0).says(&["sent; `swarmgate wait "]);
        let conflict = post.run(&stop(&["--reason", "two"])).await.ended(3);
        conflict.says(&["Refused", "command.conflict", "next: ", "docs/reasons/command.conflict.md"]);
        let foreign = post.run(&["bot", "stop", TARGET, "--origin", "somebody"]).await.ended(3);
        foreign.says(&["identity.origin-mismatch", "`somebody` may not do this"]);
        let json = post.run(&["bot", "stop", TARGET, "--origin", "somebody", "--output", "json"]).await;
        let json = json.ended(3).json();
        assert_eq!((&json["code"], &json["success"]), (&"identity.origin-mismatch".into(), &false.into()));
        assert_eq!(json["order"]["target"], TARGET);
        let wide =
            ["bot", "start", "kestrel/worker/ALL", "--mode", "paper", "--transition", "IDLE->RUNNING_PAPER"];
        post.run(&wide).await.ended(3).says(&["not sent: routing.fan-out-not-allowed"]);
        let nobody = post.run(&["bot", "start", "kestrel/worker/w-9", "--mode", "paper"]).await.ended(2);
        nobody.says(&["does not know what state", "--transition 'IDLE->RUNNING_PAPER'"]);
        post.router.stop().await;
    }

    /// The tool as somebody with only what a producer needs: he is not held up by what he may not
    /// hear.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_may_only_send_can_still_stop() {
        let post = Post::open("interlock-sender").await;
        let (user, vhost) = (format!("sender-{}", std::process::id()), &post.vhost);
        let account = r#"{"password":"sender","tags":""}"#;
        vhost.broker.http("PUT", &format!("/api/users/{user}"), account);
        let allowed = |write: &str| {
            let allowed = json!({ "configure": "^$", "write": write, "read": "^$" }).to_string();
            vhost.broker.http("PUT", &format!("/api/permissions/{}/{user}", vhost.name), &allowed);
        };
        allowed("^swarmgate\\.in$");
        let url = vhost.broker.url(&vhost.name, &user, "sender");
        let stop = ["bot", "stop", TARGET, "--correlation", "c-sender"];
        let stopping = tool(&post.args(&url, &stop)).spawn().expect("the tool starts");
        let mut post = post;
        let heard = post.next("stop").await;
        assert_eq!(body(&heard)["origin"], user.as_str());
        post.answer(&heard, "w-1", "Stopped").await;
        let said = tokio::time::timeout(PATIENCE, stopping.wait_with_output()).await.expect("it ends");
        Said::of(said.expect("an output")).ended(0).says(&["may not listen", "Stopped"]);
        // And one who may not even do that is told so, with what he can do about it.
        let allowed = json!({ "configure": "^$", "write": "^$", "read": "^$" }).to_string();
        post.vhost.broker.http("PUT", &format!("/api/permissions/{}/{user}", post.vhost.name), &allowed);
        let shut = run(&post.args(&url, &stop)).await.ended(4);
        shut.says(&["ACCESS_REFUSED", &format!("the broker does not let `{user}` do that")]);
        post.vhost.broker.http("DELETE", &format!("/api/users/{user}"), "");
        post.router.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn live_is_marked_and_typed_out() {
        let mut post = Post::open("interlock-live").await;
        post.initialise("w-1").await;
        let start = ["bot", "start", TARGET, "--mode", "live", "--transition", "IDLE->RUNNING_LIVE"];
        let with = |more: &[&'static str]| [&start[..], more].concat();
        let shown = ["[LIVE]  bot-start kestrel/worker/w-1", "environment   dev", "IDLE -> RUNNING_LIVE"];
        let asked = post.run(&start).await.ended(2).says(&shown);
        assert!(!asked.stderr.contains('\u{1b}'), "no colour without a terminal");
        asked.says(&["not affected", "nothing was sent", "--yes --live kestrel/worker/w-1"]);
        post.run(&with(&["--yes"])).await.ended(2).says(&["does not go live"]);
        let other = with(&["--yes", "--live", "kestrel/worker/w-2"]);
        post.run(&other).await.ended(2).says(&["names another target", "nothing was sent"]);
        let json = post.run(&with(&["--dry-run", "--output", "json"])).await.ended(0).json();
        assert_eq!((&json["sent"], &json["order"]["live"]), (&false.into(), &true.into()));
        assert_eq!(json["message"]["body"]["data"]["mode"], "live");
        let url = post.vhost.options().url;
        let api = post.api.clone();
        let typed =
            ["bot", "start", TARGET, "--mode", "live", "--transition", "'IDLE->RUNNING_LIVE'", "--no-wait"];
        let typed = [&typed[..], &["--amqp", &url, "--api", &api]].concat();
        let mut terminal = Terminal::open();
        // The screen of the run before is cleared first.
        let asks = |screen: &str| {
            screen.contains("Type kestrel/worker/w-1 to go on") && !screen.contains("ended with")
        };
        for wrong in ["y", "kestrel/worker/w-2", ""] {
            terminal.run(&typed);
            terminal.until("the question", asks);
            terminal.keys(&[wrong, "Enter"]);
            let screen = terminal.until("the end", |screen| screen.contains("ended with"));
            assert!(screen.contains("ended with 2") && screen.contains("nothing was sent"), "{screen}");
        }
        terminal.run(&typed);
        terminal.until("the question", asks);
        terminal.keys(&[TARGET, "Enter"]);
        let screen = terminal.until("the end", |screen| screen.contains("ended with"));
        assert!(screen.contains("ended with 0") && screen.contains("LIVE"), "{screen}");
        // What is said of starts on the bus, be it the start or the challenge of it, is of one
        // start.
        let is_start = |message: &Message| message.routing_key.contains(".bot-start.");
        post.inbox.hear(post.bus.as_ref(), |all| all.iter().any(is_start)).await;
        let starts = post.inbox.heard.iter().filter(|message| is_start(message));
        let starts: BTreeSet<String> = starts.map(|start| body(start)["correlationId"].to_string()).collect();
        assert_eq!(starts.len(), 1, "only what was typed out left");
        post.router.stop().await;
    }

    /// What is asked of the router on the way: how it is challenged, confirmed by a second act, and
    /// ends.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn live_waits_for_its_confirmation() {
        let mut post = Post::open("interlock-consent").await;
        post.initialise("w-1").await;
        let start = ["bot", "start", TARGET, "--mode", "live", "--yes", "--live", TARGET];
        let asked = post.run(&start).await.ended(1);
        let asked = asked.says(&["[LIVE]  nothing has happened yet", "IDLE -> RUNNING_LIVE", "explicit"]);
        let confirm = asked.stdout.lines().find_map(|line| line.trim().strip_prefix("confirm "));
        let confirm = confirm.map(str::trim).expect("the line that confirms");
        let id = confirm.split(' ').nth(3).expect("an id").to_owned();
        assert!(confirm.starts_with("swarmgate challenge confirm c-"), "{confirm}");
        let other = post.run(&[&start[..], &["--output", "json"]].concat()).await.ended(3);
        assert_eq!(other.json()["code"], "command.pending", "one start at a time");
        let reject = ["challenge", "reject", &id, "--reason", "not today"];
        post.run(&reject).await.ended(0).says(&["challenge-reject", "Applied"]);
        let over = ["challenge", "confirm", &id, "--reason", "late", "--yes", "--live", TARGET];
        post.run(&over).await.ended(2).says(&["error: "]);
        // Who waits on hears the challenge, and then the end.
        let url = post.vhost.options().url;
        let waits = [&start[..], &["--wait-consent", "--output", "json"]].concat();
        let waiting = tool(&post.args(&url, &waits)).spawn().expect("the tool starts");
        let id = post.challenge().await;
        post.run(&["challenge", "show", &id]).await.ended(0).says(&[
            "[LIVE]",
            "expires in",
            "other instances",
        ]);
        post.run(&["challenge", "confirm", &id, "--reason", "agreed", "--yes"]).await.ended(2);
        let confirm = ["challenge", "confirm", &id, "--reason", "agreed", "--yes", "--live", TARGET];
        post.run(&confirm).await.ended(0).says(&["Applied", "the command is on its way", "swarmgate wait "]);
        let heard = post.next("start").await;
        assert_eq!(body(&heard)["data"]["mode"], "live");
        post.answer(&heard, "w-1", "Running").await;
        let output = tokio::time::timeout(PATIENCE, waiting.wait_with_output()).await.expect("it ends");
        let said = Said::of(output.expect("an output")).ended(0);
        let steps: Vec<Value> =
            said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let words = ["ChallengeRequired", "Running"];
        assert_eq!(steps.iter().map(|step| &step["status"]).collect::<Vec<_>>(), words);
        // A stop of what is live is marked, and asks nobody.
        let stop = post.answered(&["bot", "stop", TARGET], &[("w-1", "Stopped")]).await.ended(0);
        stop.says(&["[LIVE]  bot-stop", "RUNNING_LIVE -> IDLE"]);
        post.router.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tightening_is_free_and_loosening_is_not() {
        let mut post = Post::open("interlock-safety").await;
        post.initialise("w-1").await;
        let start = ["bot", "start", TARGET, "--mode", "paper"];
        post.run(&["safety", "set", "safe", "--reason", "feed is late"]).await.ended(0).says(&["Applied"]);
        let refused = post.run(&start).await.ended(3);
        refused.says(&["safety.mode", "docs/operating/runbooks/safety.md", "swarmgate explain safety.mode"]);
        let lower = ["safety", "set", "NORMAL", "--reason", "it is well again"];
        post.run(&lower).await.ended(2).says(&["[DANGEROUS]", "SAFE -> NORMAL", "nothing was sent", "--yes"]);
        let asked = post.run(&[&lower[..], &["--yes"]].concat()).await.ended(1);
        asked.says(&["nothing has happened yet", "swarmgate challenge confirm c-"]);
        let id = post.challenge().await;
        let confirm = ["challenge", "confirm", &id, "--reason", "agreed", "--yes"];
        post.run(&confirm).await.ended(0).says(&["Applied"]);
        let ledger = post.router.ledger().to_str().expect("a path").to_owned();
        let kill = ["kill", "--reason", "it burns", "--ledger", &ledger];
        let killed = post.run(&kill).await.ended(0);
        let killed = killed.says(&["latch: FLATTEN for ALL", "kill-switch-set ALL: Applied"]);
        killed.says(&[
            "the stop: bot-stop ALL, command ",
            "stopped: 0 of 1",
            "not stopped yet: kestrel/worker/w-1",
        ]);
        let refused = post.run(&start).await.ended(3);
        refused.says(&["safety.kill-switch", "docs/operating/runbooks/kill-switch.md"]);
        post.run(&["safety"]).await.ended(0).says(&[
            "ALL ",
            "latch file: FLATTEN for ALL since 20",
            ": it burns",
        ]);
        let lift = ["kill", "--lift", "--reason", "it is out"];
        post.run(&lift).await.ended(2).says(&["[DANGEROUS]", "FLATTEN -> ALLOW", "nothing that was stopped"]);
        post.run(&[&lift[..], &["--yes"]].concat()).await.ended(1);
        let id = post.challenge().await;
        let confirm = ["challenge", "confirm", &id, "--reason", "agreed", "--yes"];
        post.run(&confirm).await.ended(0).says(&["Applied"]);
        let gone = || !Path::new(&ledger).join("kill-switch.latch").exists();
        let started = Instant::now();
        while !gone() {
            assert!(started.elapsed() < PATIENCE, "the router has not removed its latch");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let started = post.answered(&start, &[("w-1", "Running")]).await.ended(0);
        started.says(&["bot-start kestrel/worker/w-1: Running"]);
        post.router.stop().await;
    }

    /// The stop that a thrown switch orders: named, followed, and waited for.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_kill_names_its_stop_and_who_has_stopped() {
        let mut post = Post::open("interlock-kill").await;
        for instance in ["w-1", "w-2"] {
            post.appear(instance).await;
        }
        let ledger = post.router.ledger().to_str().expect("a path").to_owned();
        let url = post.vhost.options().url;
        let kill = ["kill", "--reason", "drill", "--ledger", &ledger, "--wait-stopped", "--timeout", "20"];
        let killing = tool(&post.args(&url, &kill)).spawn().expect("the tool starts");
        // Two stops leave: the latch's and the signal's. A worker answers each.
        for _ in 0..2 {
            let heard = post.next("stop").await;
            post.answer(&heard, "w-1", "Stopped").await;
            post.answer(&heard, "w-2", "Failed").await;
        }
        let said = tokio::time::timeout(PATIENCE, killing.wait_with_output()).await.expect("it ends");
        let said = Said::of(said.expect("an output")).ended(3);
        let named =
            said.stdout.lines().find_map(|line| line.strip_prefix("the stop: bot-stop ALL, command "));
        let (number, correlation) =
            named.and_then(|named| named.split_once(", correlationId ")).expect("the stop is named");
        let (number, correlation) = (number.to_owned(), correlation.to_owned());
        let follow = format!("swarmgate wait {correlation}");
        let said = said.says(&[&follow, "bot-stop ALL: ended: Failed", "stopped: 1 of 2", "stop-stuck.md"]);
        let said = said.says(&["kestrel/worker/w-1: Stopped", "not stopped yet: kestrel/worker/w-2"]);
        assert!(!said.stdout.contains("not stopped yet: kestrel/worker/w-1, kestrel/worker/w-2\n  runbook"));
        let waited = run(&["wait", &correlation, "--api", &post.api]).await;
        waited.ended(3).says(&["bot-stop", &number]);
        // The same for programs, who are not kept waiting.
        let kill = ["kill", "--reason", "again", "--output", "json", "--swarm", "kestrel"];
        let json = post.run(&kill).await.ended(0).json();
        assert_eq!(json["stop"]["target"], "kestrel/ALL/ALL", "{json}");
        assert_eq!(json["stop"]["notStopped"], json!(["kestrel/worker/w-1", "kestrel/worker/w-2"]), "{json}");
        assert!(json["stop"]["command"].is_string(), "{json}");
        // What stops nothing names no stop.
        let close =
            post.run(&["kill", "BLOCK", "--reason", "x", "--swarm", "kestrel", "--wait-stopped"]).await;
        let close = close.ended(0).says(&["BLOCK stops nothing that runs"]);
        assert!(!close.stdout.contains("the stop:"), "{}", close.stdout);
        post.router.stop().await;
    }

    impl Post {
        /// The one challenge that waits, once there is one.
        async fn challenge(&self) -> String {
            let started = Instant::now();
            loop {
                let args = ["challenge", "list", "--output", "json", "--api", &self.api];
                let all = run(&args).await.ended(0).json();
                let ids = all["challenges"].as_array().expect("challenges");
                if let [one] = ids.as_slice() {
                    return one["challengeId"].as_str().expect("an id").to_owned();
                }
                assert!(started.elapsed() < PATIENCE, "{all}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
