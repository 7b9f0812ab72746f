//! Other routers on the same prefix: who runs, who is told no, and what becomes of the messages.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::{
    broker::Cluster,
    router::{Inbox, body, send},
};

/// The heartbeat of these routers: what they wait for follows from it.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A router as a process, with a window.
pub(crate) struct Gate {
    child: Child,
    pub address: String,
    dir: TempDir,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.signal("-CONT");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gate {
    pub fn start(url: &str, instance: &str, more: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_swarmgate")), url, instance, (more, settings))
    }

    /// Behind a command of the shell, as one that sets a limit.
    fn start_with(before: &str, url: &str, instance: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{before}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_swarmgate")]);
        Self::spawn(shell, url, instance, (&[], &[]))
    }

    /// By those arguments of `swarmgate`, but for where ledger and window are.
    pub fn by(words: &[&str], url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
        command.args(words);
        Self::spawn_as(command, url, "gate-1", (&[], &[]))
    }

    fn spawn(mut command: Command, url: &str, instance: &str, given: (&[&str], &[(&str, &str)])) -> Self {
        command.arg("run");
        Self::spawn_as(command, url, instance, given)
    }

    fn spawn_as(
        mut command: Command,
        url: &str,
        instance: &str,
        (more, settings): (&[&str], &[(&str, &str)]),
    ) -> Self {
        let (dir, address) = (TempDir::new().expect("a directory"), free_address());
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = command
            .args(["--amqp", url, "--http", &address, "--instance", instance, "--ledger"])
            .arg(dir.path().join("ledger"))
            .args(more)
            .env("SWARMGATE_AMQP_HEARTBEAT_S", HEARTBEAT.as_secs().to_string())
            .env("SWARMGATE_AMQP_RECONNECT_MIN_MS", "50")
            .env("SWARMGATE_AMQP_RECONNECT_MAX_MS", "500")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the router starts");
        Self { child, address, dir }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("a log")
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("a child").and_then(|status| status.code())
    }

    pub async fn end(&mut self) -> i32 {
        let within = Instant::now() + PATIENCE;
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(Instant::now() < within, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it says of its readiness, where it says anything.
    async fn page(&self) -> String {
        if tokio::net::TcpStream::connect(&self.address).await.is_err() {
            return String::new();
        }
        get(&self.address, "/readyz").await
    }

    pub async fn is_ready(&self) -> bool {
        self.page().await.starts_with("HTTP/1.1 200 ")
    }

    /// Waits until it is ready; how long that took.
    pub async fn ready(&self) -> Duration {
        self.says("HTTP/1.1 200 ").await
    }

    /// Waits for its second connection.
    async fn comes_back(&self) {
        let began = Instant::now();
        while self.log().matches("found its topology in order").count() < 2 {
            assert!(began.elapsed() < PATIENCE, "it stays away: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn says(&self, word: &str) -> Duration {
        let began = Instant::now();
        loop {
            let page = self.page().await;
            if page.contains(word) {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "`{word}` is not said: {page}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub fn signal(&self, signal: &str) {
        let _ = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
    }

    fn kill(&mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("an end");
    }
}

/// So many commands, each to a target of its own.
const COMMAND: &str = "signal.swarm-stop.";

/// Stops: they pass in SAFE too, in which a router begins that finds another ledger's mark.
fn commands(count: usize) -> Vec<swarmgate::contract::message::Message> {
    (0..count).map(|number| signal("swarm-stop", &format!("p-{number}"), &format!("k-{number}"))).collect()
}

fn commands_of(heard: &[swarmgate::contract::message::Message]) -> usize {
    heard.iter().filter(|message| message.routing_key.starts_with(COMMAND)).count()
}

/// How often each command left, by its key.
fn counts(inbox: &Inbox) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for message in inbox.heard.iter().filter(|message| message.routing_key.starts_with(COMMAND)) {
        let key = body(message)["idempotencyKey"].as_str().unwrap_or_default().to_owned();
        *counts.entry(key).or_default() += 1;
    }
    counts
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn the_second_router_is_told_who_the_first_is_and_every_command_leaves_once() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-two");
        let url = vhost.options().url;
        let first = Gate::start(&url, "gate-1", &[], &[]);
        first.ready().await;
        let mut second = Gate::start(&url, "gate-2", &[], &[]);
        second.says("other-router").await;
        let bus = vhost.connect().await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let commands = commands(41);
        send(bus.as_ref(), &[commands.clone(), commands].concat()).await;
        assert_eq!(second.end().await, 4, "{}", second.log());
        let log = second.log();
        for word in ["`gate-1`", "running since", "environment dev", "ledger ", "--wait"] {
            assert!(log.contains(word), "`{word}` is not said: {log}");
        }
        assert!(!log.contains("not everything was finished"), "it has nothing to finish: {log}");
        inbox.hear(bus.as_ref(), |heard| commands_of(heard) >= 41).await;
        let counts = counts(&inbox);
        assert_eq!(counts.len(), 41);
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        let page = get(&first.address, "/metrics").await;
        let asked = page.lines().find_map(|line| line.strip_prefix("swarmgate_other_router_asked_total "));
        assert!(asked.is_some_and(|count| count != "0"), "{page}");
        assert!(page.contains("swarmgate_not_alone_total 0"), "{page}");
        assert!(first.log().contains("another router asks"), "{}", first.log());
        doctor_names(&url, "`gate-1` on ").await;
    }

    async fn doctor(url: &str, args: &[&str]) -> String {
        let doctor = tokio::process::Command::new(env!("CARGO_BIN_EXE_swarmgate"))
            .args(["doctor", "--amqp", url])
            .args(args)
            .output()
            .await
            .expect("a doctor");
        String::from_utf8_lossy(&doctor.stdout).into_owned()
    }

    async fn doctor_names(url: &str, word: &str) {
        let said = doctor(url, &[]).await;
        let line = said.lines().find(|line| line.contains(" router: ")).unwrap_or_default();
        assert!(line.starts_with("ok") && line.contains(word), "{said}");
    }

    #[tokio::test]
    async fn a_router_that_waits_takes_over_when_the_first_is_killed() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-wait");
        let url = vhost.options().url;
        let mut first = Gate::start(&url, "gate-1", &[], &[]);
        first.ready().await;
        let mut second = Gate::start(&url, "gate-2", &["--wait"], &[]);
        second.says("`gate-1` on ").await;
        tokio::time::sleep(HEARTBEAT * 3).await;
        assert_eq!(second.ended(), None, "it waits: {}", second.log());
        assert!(!second.is_ready().await);
        first.kill();
        let took = second.ready().await;
        assert!(took <= HEARTBEAT * 2 + Duration::from_secs(2), "it took over after {took:?}");
    }

    /// A frozen router holds its connection until the broker misses its heartbeats, and has nothing
    /// when it comes back.
    #[tokio::test]
    async fn a_frozen_router_comes_back_to_wait() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-frozen");
        let url = vhost.options().url;
        let mut first = Gate::start(&url, "gate-1", &[], &[]);
        first.ready().await;
        let second = Gate::start(&url, "gate-2", &["--wait"], &[]);
        second.says("`gate-1` on ").await;
        first.signal("-STOP");
        let took = second.ready().await;
        assert!(took <= HEARTBEAT * 5 + Duration::from_secs(4), "it took over after {took:?}");
        let bus = vhost.connect().await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        first.signal("-CONT");
        send(bus.as_ref(), &commands(41)).await;
        first.says("`gate-2` on ").await;
        assert!(!first.is_ready().await);
        assert_eq!(first.ended(), None, "one that has run tries on: {}", first.log());
        inbox.hear(bus.as_ref(), |heard| commands_of(heard) >= 41).await;
        let counts = counts(&inbox);
        let keys: Vec<_> = inbox.heard.iter().map(|message| message.routing_key.clone()).collect();
        assert_eq!(counts.len(), 41, "{keys:?}");
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        assert!(second.is_ready().await);
        let page = get(&second.address, "/metrics").await;
        assert!(page.contains("swarmgate_not_alone_total 0"), "{page}");
    }

    #[tokio::test]
    async fn of_two_that_start_at_one_moment_exactly_one_runs_in_twenty_rounds() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-race");
        let url = vhost.options().url;
        for round in 0..5 {
            let mut pairs: Vec<[Gate; 2]> = (0..4)
                .map(|prefix| {
                    let prefix = format!("race-{round}-{prefix}");
                    ["gate-1", "gate-2"].map(|instance| {
                        Gate::start(&url, instance, &[], &[("SWARMGATE_AMQP_PREFIX", &prefix)])
                    })
                })
                .collect();
            for [one, other] in &mut pairs {
                let within = Instant::now() + PATIENCE;
                let codes = loop {
                    let codes = [one.ended(), other.ended()];
                    if codes.iter().any(Option::is_some) {
                        break codes;
                    }
                    assert!(Instant::now() < within, "nobody is told no: {}\n{}", one.log(), other.log());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                };
                let (gone, left) = if codes[0].is_some() { (&*one, &*other) } else { (&*other, &*one) };
                assert!(codes == [Some(4), None] || codes == [None, Some(4)], "{codes:?}: {}", gone.log());
                assert!(gone.log().contains("has a router already"), "{}", gone.log());
                left.ready().await;
                assert!(!left.log().contains("another router runs"), "they never both ran: {}", left.log());
            }
        }
    }

    #[tokio::test]
    async fn a_prefix_belongs_to_one_environment() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-environment");
        let url = vhost.options().url;
        let mut first = Gate::start(&url, "gate-1", &[], &[]);
        first.ready().await;
        let stage = [("SWARMGATE_ENVIRONMENT", "stage")];
        let refused = async |when: &str| {
            let mut other = Gate::start(&url, "gate-2", &[], &stage);
            let began = Instant::now();
            assert_eq!(other.end().await, 4, "{when}: {}", other.log());
            // It asks the routers of the prefix first, and whoever is dead does not answer.
            assert!(began.elapsed() < HEARTBEAT * 5, "it is refused within {:?}", began.elapsed());
            let log = other.log();
            for word in ["environment `dev`", "this router is of `stage`", "PREFIX.environment"] {
                assert!(log.contains(word), "`{word}` is not said: {log}");
            }
        };
        refused("while it runs").await;
        first.kill();
        refused("and when it is gone").await;
    }

    fn delete(vhost: &Vhost, kind: &str, name: &str) {
        vhost.broker.http("DELETE", &format!("/api/{kind}/{}/{name}", vhost.name), "");
    }

    /// Names of exchanges or queues, and the alternates of exchanges.
    fn there(vhost: &Vhost, kind: &str) -> BTreeMap<String, String> {
        let rows = vhost.broker.http("GET", &format!("/api/{kind}/{}", vhost.name), "");
        let rows: Vec<Value> = serde_json::from_str(&rows).expect("rows");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rows.iter().map(|row| (text(&row["name"]), text(&row["arguments"]["alternate-exchange"]))).collect()
    }

    async fn comes(vhost: &Vhost, kind: &str, name: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(alternate) = there(vhost, kind).remove(name) {
                return alternate;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "`{name}` is not declared again");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn close_connections(vhost: &Vhost) {
        let connections = vhost.broker.ctl(&["list_connections", "--silent", "vhost", "pid"]);
        for row in connections.lines().filter(|row| row.split_whitespace().next() == Some(&*vhost.name)) {
            let pid = row.split_whitespace().last().expect("a pid");
            vhost.broker.ctl(&["close_connection", pid, "a test"]);
        }
    }

    #[tokio::test]
    async fn a_router_that_is_told_no_leaves_nothing_that_keeps_the_running_one_out() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-no-trace");
        let url = vhost.options().url;
        let first = Gate::start(&url, "gate-1", &[], &[]);
        first.ready().await;
        delete(&vhost, "exchanges", "swarmgate.environment");
        let mut other = Gate::start(&url, "gate-2", &[], &[("SWARMGATE_ENVIRONMENT", "stage")]);
        assert_eq!(other.end().await, 4, "{}", other.log());
        assert!(other.log().contains("environment `dev`"), "{}", other.log());
        // It is the running one's, as soon as that looks again.
        assert_eq!(comes(&vhost, "exchanges", "swarmgate.environment").await, "swarmgate.environment.dev");
        close_connections(&vhost);
        first.comes_back().await;
    }

    #[tokio::test]
    async fn a_prefix_that_somebody_gave_to_another_environment_keeps_no_router_out_that_has_run() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-given-away");
        let url = vhost.options().url;
        let first = Gate::start(&url, "gate-1", &[], &[]);
        first.ready().await;
        delete(&vhost, "exchanges", "swarmgate.environment");
        let stage = json!({ "type": "fanout", "durable": true,
            "arguments": { "alternate-exchange": "swarmgate.environment.stage" } });
        let path = format!("/api/exchanges/{}/swarmgate.environment", vhost.name);
        vhost.broker.http("PUT", &path, &stage.to_string());
        first.says("swarmgate.environment.stage").await;
        let management = vhost.broker.management_url();
        let said = doctor(&url, &["--management", &management]).await;
        let named = |line: &&str| line.starts_with("FAIL") && line.contains("swarmgate.environment");
        assert!(said.lines().any(|line| named(&line) && line.contains("`stage`")), "{said}");
        close_connections(&vhost);
        first.comes_back().await;
        assert!(first.log().contains("this router has run here and goes on"), "{}", first.log());
        delete(&vhost, "exchanges", "swarmgate.environment");
        first.says("\"topology\":{}").await;
        assert_eq!(comes(&vhost, "exchanges", "swarmgate.environment").await, "swarmgate.environment.dev");
    }

    #[tokio::test]
    async fn what_stands_beside_the_lanes_is_declared_again_too() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-beside");
        let router = Gate::start(&vhost.options().url, "gate-1", &[], &[]);
        router.ready().await;
        for (kind, name) in [
            ("exchanges", "swarmgate.mark"),
            ("queues", "swarmgate.mark"),
            ("queues", "swarmgate.in.dead"),
            ("exchanges", "swarmgate.in.dead"),
        ] {
            delete(&vhost, kind, name);
            comes(&vhost, kind, name).await;
        }
        router.says("\"topology\":{}").await;
    }

    #[tokio::test]
    async fn a_lock_that_somebody_made_for_everybody_is_named_with_its_remedy() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-false-lock");
        let url = vhost.options().url;
        let path = format!("/api/queues/{}/swarmgate.router", vhost.name);
        vhost.broker.http("PUT", &path, r#"{"durable":true}"#);
        let router = Gate::start(&url, "gate-1", &[], &[]);
        router.says("not exclusive").await;
        router.ready().await;
        assert!(router.page().await.contains("delete it"), "{}", router.page().await);
        let said = doctor(&url, &[]).await;
        assert!(said.lines().any(|line| line.starts_with("FAIL") && line.contains("router lock")), "{said}");
        delete(&vhost, "queues", "swarmgate.router");
        router.says("\"topology\":{}").await;
    }

    #[tokio::test]
    async fn a_limit_of_queues_is_told_in_the_brokers_own_words() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-limit");
        let path = format!("/api/vhost-limits/{}/max-queues", vhost.name);
        vhost.broker.http("PUT", &path, r#"{"value":0}"#);
        let mut router = Gate::start(&vhost.options().url, "gate-1", &[], &[]);
        assert_eq!(router.end().await, 4, "{}", router.log());
        let log = router.log();
        assert!(log.contains("limit") && !log.contains("other properties"), "{log}");
    }

    /// A binding of another key is not the router's to guess; the doctor names it.
    #[tokio::test]
    async fn a_way_past_the_router_or_back_into_it_is_named_by_the_doctor() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-past");
        let url = vhost.options().url;
        let router = Gate::start(&url, "gate-1", &[], &[]);
        router.ready().await;
        for (from, to) in [("in", "out"), ("refused", "in")] {
            let path = format!("/api/bindings/{}/e/swarmgate.{from}/e/swarmgate.{to}", vhost.name);
            vhost.broker.http("POST", &path, r#"{"routing_key":"signal.bot-stop.#"}"#);
        }
        let said = doctor(&url, &["--management", &vhost.broker.management_url()]).await;
        for check in ["bypass", "loop"] {
            let named = |line: &str| line.starts_with("FAIL") && line.contains(&format!(" {check}: "));
            assert_eq!(said.lines().filter(|line| named(line)).count(), 1, "{check}: {said}");
        }
    }

    /// Signals that mean nothing to a router end none.
    #[tokio::test]
    async fn no_signal_but_those_that_end_it_ends_a_router() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-signals");
        let mut router = Gate::start(&vhost.options().url, "gate-1", &[], &[]);
        router.ready().await;
        for name in ["-HUP", "-USR1", "-USR2", "-ALRM", "-HUP"] {
            router.signal(name);
        }
        let within = Instant::now() + PATIENCE;
        while !router.log().contains("SIGHUP: the config says what this process runs by already") {
            assert!(Instant::now() < within, "{}", router.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(router.ended(), None, "{}", router.log());
        assert!(router.is_ready().await);
        router.signal("-TERM");
        assert_eq!(router.end().await, 0, "{}", router.log());
    }

    /// Clients of the window take no descriptors that broker and ledger need.
    #[tokio::test]
    async fn clients_keep_no_router_with_few_descriptors_off_its_broker() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-files");
        let router = Gate::start_with("ulimit -n 72", &vhost.options().url, "gate-1");
        router.ready().await;
        assert!(router.log().contains("few files may be open"), "{}", router.log());
        let mut held = Vec::new();
        for _ in 0..80 {
            held.push(tokio::net::TcpStream::connect(&router.address).await.expect("a connection"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        close_connections(&vhost);
        router.comes_back().await;
        drop(held);
        router.ready().await;
    }

    #[tokio::test]
    async fn with_hardly_any_descriptors_the_limit_is_named() {
        let mut router = Gate::start_with("ulimit -n 6", "amqp://127.0.0.1:1/%2f", "gate-1");
        assert_eq!(router.end().await, 2, "{}", router.log());
        let log = router.log();
        assert!(log.contains("only 6 files may be open") && !log.contains("a bug"), "{log}");
    }

    /// `amqp.urls` names two brokers that know nothing of each other.
    #[tokio::test]
    async fn a_router_does_not_go_to_another_broker_when_its_own_is_away() {
        let (home, away) = (Arc::new(Broker::own("routers-home")), Arc::new(Broker::shared()));
        let (vhost, elsewhere) = (home.vhost("routers-site"), away.vhost("routers-site"));
        let both = format!("{},{}", vhost.options().url, elsewhere.options().url);
        let router = Gate::start(&both, "gate-1", &[], &[]);
        router.ready().await;
        home.kill();
        router.says("is another broker").await;
        tokio::time::sleep(HEARTBEAT).await;
        assert!(!router.is_ready().await);
        let lanes = there(&elsewhere, "queues");
        assert!(!lanes.keys().any(|name| name.starts_with("swarmgate.in.")), "{lanes:?}");
        home.start();
        router.ready().await;
        let bus = vhost.connect().await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        send(bus.as_ref(), &commands(1)).await;
        inbox.hear(bus.as_ref(), |heard| !heard.is_empty()).await;
        let said = doctor(&both, &[]).await;
        assert!(
            said.lines().any(|line| line.starts_with("FAIL") && line.contains("another broker")),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_deleted_exchange_makes_no_router_deaf_for_long() {
        let vhost = Arc::new(Broker::shared()).vhost("routers-deleted");
        let url = vhost.options().url;
        let first = Gate::start(&url, "gate-1", &[], &[]);
        first.ready().await;
        vhost.broker.http("DELETE", &format!("/api/exchanges/{}/swarmgate.routers", vhost.name), "");
        first.says("swarmgate.routers").await;
        first.says("\"topology\":{}").await;
        let mut second = Gate::start(&url, "gate-2", &[], &[]);
        assert_eq!(second.end().await, 4, "{}", second.log());
        assert!(second.log().contains("`gate-1`"), "{}", second.log());
        assert!(first.is_ready().await);
    }

    #[tokio::test]
    async fn a_right_that_is_missing_is_named_at_the_first_start() {
        let broker = Arc::new(Broker::shared());
        let vhost = broker.vhost("routers-rights");
        let user = format!("deaf-{}", vhost.name);
        broker.http("PUT", &format!("/api/users/{user}"), r#"{"password":"p","tags":""}"#);
        let rights = json!({ "configure": "^(?!swarmgate\\.routers).*$", "write": ".*", "read": ".*" });
        broker.http("PUT", &format!("/api/permissions/{}/{user}", vhost.name), &rights.to_string());
        let mut router = Gate::start(&broker.url(&vhost.name, &user, "p"), "gate-1", &[], &[]);
        assert_eq!(router.end().await, 4, "{}", router.log());
        let log = router.log();
        assert!(log.contains("ACCESS_REFUSED") && log.contains("swarmgate.routers"), "{log}");
        broker.http("DELETE", &format!("/api/users/{user}"), "");
    }
}

mod on_cluster {
    use super::*;

    /// RabbitMQ 4.3 keeps the exclusive queue of a dead node for as long as that is away.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_dead_node_keeps_no_router_out() {
        let Some(cluster) = Cluster::hold("a ghost of a router") else { return };
        let vhost = cluster.nodes[0].vhost("ghost");
        let first = Gate::start(&vhost.options().url, "gate-1", &[], &[]);
        first.ready().await;
        let elsewhere = cluster.nodes[1].url(&vhost.name, "guest", "guest");
        cluster.nodes[0].kill();
        let second = Gate::start(&elsewhere, "gate-2", &[], &[]);
        let took = second.ready().await;
        cluster.heal();
        assert!(took <= HEARTBEAT * 3 + Duration::from_secs(10), "it began after {took:?}");
        // The first comes back with its node, and is told.
        first.says("`gate-2` on ").await;
        assert!(second.is_ready().await && !first.is_ready().await);
    }

    /// Where a node hangs nothing new can be declared before RabbitMQ 4.3; a router that has run
    /// goes on all the same.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_hung_node_keeps_no_router_out_that_has_run() {
        let Some(cluster) = Cluster::hold("a hung node") else { return };
        let vhost = cluster.nodes[1].vhost("hung");
        let router = Gate::start(&vhost.options().url, "gate-1", &[], &[]);
        router.ready().await;
        cluster.nodes[2].pause();
        let connections = vhost.broker.ctl(&["list_connections", "--silent", "vhost", "pid"]);
        for row in connections.lines().filter(|row| row.starts_with(&vhost.name)) {
            let pid = row.split_whitespace().last().expect("a pid");
            vhost.broker.ctl(&["close_connection", pid, "a test"]);
        }
        router.says("503").await;
        let took = router.ready().await;
        cluster.heal();
        assert!(took <= Duration::from_secs(12), "it ran again after {took:?}");
    }
}
