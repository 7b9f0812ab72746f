//! A real RabbitMQ for tests: the node that `SWARMGATE_TEST_BROKER_DIR` names, or one that
//! `scripts/broker` starts.
//!
//! Owns: finding or starting a node or a cluster, virtual hosts of a test's own, and the management
//! interface.
//! Never: touches a broker that this repository did not start, or lets a test pass because there is
//! none, unless it is of RabbitMQ 4, which is not to be had everywhere: then the test says so.
//! Holds: a node started here ends with the test run; a test's virtual host ends with the test.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::parent_id,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use swarmgate::bus::amqp::{self, Amqp, Options};

/// How long the management interface may take to answer.
const HTTP_TIMEOUT: Duration = Duration::from_secs(20);

/// What `scripts/broker` ends with where a RabbitMQ of another series cannot be had.
const SKIPPED: i32 = 77;

/// One node.
pub struct Broker {
    dir: PathBuf,
    addresses: BTreeMap<String, String>,
    keeper: Keeper,
}

/// Who else would feel what is done to a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// All tests of the run.
    Run,
    /// This test, which ends it.
    Test,
    /// This test, for as long as it holds the node's cluster.
    Cluster,
}

impl Broker {
    /// The node that all tests of a run share. Nothing may be done to it that another test would
    /// feel.
    pub fn shared() -> Self {
        if let Ok(dir) = env::var("SWARMGATE_TEST_BROKER_DIR") {
            return Self::at(PathBuf::from(dir), Keeper::Run, None);
        }
        let run = run();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broker-{run}"));
        // Tests of one process start it one after another; the script keeps processes apart.
        static STARTING: Mutex<()> = Mutex::new(());
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        Self::at(dir, Keeper::Run, Some(run))
    }

    /// A node for one test, that may be killed, frozen or alarmed.
    pub fn own(test: &str) -> Self {
        Self::at(own_dir(test), Keeper::Test, Some(std::process::id()))
    }

    /// The same, with further lines of `rabbitmq.conf`.
    pub fn own_with(test: &str, conf: &str) -> Self {
        let (dir, process) = (own_dir(test), std::process::id().to_string());
        let arguments = ["start", &dir.to_string_lossy(), &process].map(str::to_owned);
        script_with(&arguments, conf);
        Self::at(dir, Keeper::Test, None)
    }

    /// The same, of RabbitMQ 4. None, which is said loudly, where that cannot be had.
    pub fn own_4(test: &str) -> Option<Self> {
        Self::own_4_with(test, "")
    }

    /// The same, with further lines of `rabbitmq.conf`.
    pub fn own_4_with(test: &str, conf: &str) -> Option<Self> {
        let dir = own_dir(test);
        let process = std::process::id().to_string();
        start_4(test, &["start", &dir.to_string_lossy(), &process], conf)?;
        Some(Self::at(dir, Keeper::Test, None))
    }

    fn at(dir: PathBuf, keeper: Keeper, while_runs: Option<u32>) -> Self {
        let mut arguments = vec!["start".to_owned(), dir.to_string_lossy().into_owned()];
        arguments.extend(while_runs.map(|process| process.to_string()));
        let said = script(&arguments);
        let addresses = said.lines().filter_map(|line| line.split_once('='));
        let addresses = addresses.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { dir, addresses, keeper }
    }

    fn address(&self, name: &str) -> &str {
        self.addresses.get(name).unwrap_or_else(|| panic!("scripts/broker did not say `{name}`"))
    }

    /// The URL of a virtual host for a user.
    pub fn url(&self, vhost: &str, user: &str, password: &str) -> String {
        format!("amqp://{user}:{password}@{}/{}", self.socket_address(), vhost.replace('/', "%2f"))
    }

    /// Where it listens, without TLS.
    pub fn socket_address(&self) -> &str {
        let url = self.address("SWARMGATE_TEST_AMQP");
        url.split(['@', '/']).find(|part| part.starts_with("127.")).expect("an address")
    }

    /// The URL by TLS, of the default virtual host.
    pub fn tls_url(&self) -> String {
        self.address("SWARMGATE_TEST_AMQPS").to_owned()
    }

    /// The URL of its management interface.
    pub fn management_url(&self) -> String {
        format!("http://{}", self.address("SWARMGATE_TEST_HTTP"))
    }

    /// The file of the certificate authority of its TLS listener.
    pub fn ca_file(&self) -> PathBuf {
        PathBuf::from(self.address("SWARMGATE_TEST_CA"))
    }

    /// Where it has its certificates.
    pub fn tls_dir(&self) -> PathBuf {
        self.dir.join("tls")
    }

    /// Runs `rabbitmqctl` against it.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.script("ctl", arguments)
    }

    /// Ends it without a word. What it knows of a quorum queue's term reaches its disk seconds
    /// after the declaration, and a queue that lost it never elects a leader again (3.10.8); so
    /// that is written first.
    pub fn kill(&self) {
        self.ctl(&["eval", "lists:foreach(fun dets:sync/1, dets:all())."]);
        self.script("kill", &[]);
    }

    /// Ends it without a word and without care for its disk: the other nodes of its cluster have
    /// what it had.
    pub fn kill_at_once(&self) {
        self.script("kill", &[]);
    }

    /// Brings it back after `kill`, on the same ports with the same data.
    pub fn start(&self) {
        self.script("start", &[]);
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.script("pause", &[]);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.script("resume", &[]);
    }

    fn script(&self, command: &str, arguments: &[&str]) -> String {
        assert!(self.keeper != Keeper::Run || command == "ctl", "`{command}` would be felt by other tests");
        let mut all = vec![command.to_owned(), self.dir.to_string_lossy().into_owned()];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        script(&all)
    }

    /// Asks the management interface, as the administrator; panics unless the answer is a success.
    pub fn http(&self, method: &str, path: &str, body: &str) -> String {
        let address = self.address("SWARMGATE_TEST_HTTP");
        let mut stream = TcpStream::connect(address).expect("the management interface");
        stream.set_read_timeout(Some(HTTP_TIMEOUT)).expect("a time limit");
        let credentials = BASE64_STANDARD.encode("guest:guest");
        let request = format!(
            "{method} {path} HTTP/1.0\r\nhost: {address}\r\nauthorization: Basic {credentials}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('2'), "{method} {path}: {head}\n{body}");
        body.to_owned()
    }

    /// A virtual host of the test's own.
    pub fn vhost(self: &Arc<Self>, test: &str) -> Vhost {
        let name = format!("{test}-{}", std::process::id());
        self.http("PUT", &format!("/api/vhosts/{name}"), "{}");
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.http("PUT", &format!("/api/permissions/{name}/guest"), all);
        Vhost { broker: Arc::clone(self), name }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.keeper == Keeper::Test {
            // The watcher that `start` left would do it too, a little later.
            let _ = Command::new(SCRIPT).arg("stop").arg(&self.dir).output();
        }
    }
}

/// Three joined nodes of RabbitMQ 4, which one test at a time holds.
pub struct Cluster {
    /// Its nodes.
    pub nodes: Vec<Arc<Broker>>,
    _held: File,
}

impl Cluster {
    /// The cluster of the run, whole. None, which is said loudly, where RabbitMQ 4 cannot be had.
    pub fn hold(test: &str) -> Option<Self> {
        let run = run();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{run}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        let held = File::create(dir.join("held")).expect("a lock");
        held.lock().expect("the lock");
        let pid = run.to_string();
        start_4(test, &["cluster", "start", &dir.to_string_lossy(), "3", &pid], "")?;
        let nodes = (1..=3).map(|number| {
            let node = Broker::at(dir.join(number.to_string()), Keeper::Cluster, None);
            Arc::new(node)
        });
        Some(Self { nodes: nodes.collect(), _held: held })
    }

    /// Lets every frozen node go on and starts every ended one.
    pub fn heal(&self) {
        for node in &self.nodes {
            let _ = Command::new(SCRIPT).arg("resume").arg(&node.dir).output();
        }
        for node in &self.nodes {
            node.start();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.heal();
    }
}

/// Under nextest each test is a process of its own, and the run is their parent.
fn run() -> u32 {
    if env::var_os("NEXTEST").is_some() { parent_id() } else { std::process::id() }
}

fn own_dir(test: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broker-{test}-{}", std::process::id()))
}

/// Starts what `arguments` say, of the series that `SWARMGATE_TEST_RABBITMQ_4` names.
fn start_4(test: &str, arguments: &[&str], conf: &str) -> Option<()> {
    let series = env::var("SWARMGATE_TEST_RABBITMQ_4").unwrap_or_else(|_| "4.0".to_owned());
    let mut start = Command::new(SCRIPT);
    start.args(["--series", &series]).args(arguments).env("SWARMGATE_BROKER_CONF", conf);
    let done = start.output();
    let done = done.expect("scripts/broker");
    if done.status.code() == Some(SKIPPED) {
        eprintln!("SKIPPED: {test}: {}", String::from_utf8_lossy(&done.stderr));
        return None;
    }
    assert!(done.status.success(), "RabbitMQ {series}: {}", String::from_utf8_lossy(&done.stderr));
    Some(())
}

/// A virtual host of one test.
pub struct Vhost {
    /// Its node.
    pub broker: Arc<Broker>,
    /// Its name, which needs no escaping.
    pub name: String,
}

impl Vhost {
    /// How to connect to it.
    pub fn options(&self) -> Options {
        Options { name: self.name.clone(), ..Options::new(self.broker.url(&self.name, "guest", "guest")) }
    }

    /// A connection to it.
    pub async fn connect(&self) -> Arc<Amqp> {
        amqp::connect(&self.options()).await.expect("a connection")
    }

    /// Bounds the queues whose names match, as an operator does.
    pub fn bound(&self, pattern: &str, count_max: u32) {
        let body = format!(
            r#"{{"pattern":"{pattern}","definition":{{"max-length":{count_max}}},"apply-to":"queues"}}"#
        );
        self.broker.http("PUT", &format!("/api/policies/{}/bound", self.name), &body);
    }

    /// Deletes a queue, as an operator does.
    pub fn delete_queue(&self, queue: &str) {
        self.broker.http("DELETE", &format!("/api/queues/{}/{queue}", self.name), "");
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.broker.http("DELETE", &format!("/api/vhosts/{}", self.name), "");
        }
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/broker");

fn script(arguments: &[String]) -> String {
    script_with(arguments, "")
}

fn script_with(arguments: &[String], conf: &str) -> String {
    let done = Command::new(SCRIPT).args(arguments).env("SWARMGATE_BROKER_CONF", conf).output();
    let done = done.expect("scripts/broker");
    assert!(
        done.status.success(),
        "this test needs RabbitMQ: `scripts/broker {}` failed: {}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}
