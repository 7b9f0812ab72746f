//! TLS to a real RabbitMQ: private authorities, logins by certificate, renewal, and what is said
//! when it fails.
//!
//! Owns: certificates made for each test, and a node that each test has to itself.
//! Never: takes an error for right by its kind alone; what a person reads and what to do is looked
//! at.
//! Holds: the same is asked of RabbitMQ 3.10 and, where it can be had, 4.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::broker::Broker;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The node lets nobody in without a certificate.
const CERTIFICATE_WANTED: &str = "ssl_options.fail_if_no_peer_cert = true";

/// An authority of a test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn signs(&self, params: &CertificateParams) -> Signed {
        self.signs_for(params, &KeyPair::generate().expect("a key"))
    }

    fn signs_for(&self, params: &CertificateParams, key: &KeyPair) -> Signed {
        let certificate = params.signed_by(key, &self.0).expect("a certificate").pem();
        Signed { certificate, key: key.serialize_pem() }
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn self_signed(params: &CertificateParams) -> Signed {
    let key = KeyPair::generate().expect("a key");
    Signed { certificate: params.self_signed(&key).expect("a certificate").pem(), key: key.serialize_pem() }
}

/// A node, and the files of whoever connects to it.
struct Place {
    broker: Arc<Broker>,
    dir: TempDir,
    ours: Authority,
}

impl Place {
    fn new(broker: Broker) -> Self {
        let place = Self {
            broker: Arc::new(broker),
            dir: TempDir::new().expect("a directory"),
            ours: Authority::new("ours"),
        };
        place.trusts(&place.ours);
        place.has(&place.ours.signs(&named("localhost", &["localhost"])));
        place.put("ca.pem", &place.ours.0.pem(), 0o644);
        for user in ["ops", "super", "swarmgate"] {
            place.is(user, &place.ours.signs(&named(user, &[])));
        }
        place
    }

    /// Whose certificates the node takes from clients.
    fn trusts(&self, authority: &Authority) {
        fs::write(self.broker.tls_dir().join("ca.pem"), authority.0.pem()).expect("the node's authority");
        self.forget();
    }

    /// The node's own certificate.
    fn has(&self, server: &Signed) {
        let dir = self.broker.tls_dir();
        fs::write(dir.join("server.pem"), &server.certificate).expect("the node's certificate");
        fs::write(dir.join("server-key.pem"), &server.key).expect("the node's key");
        self.forget();
    }

    /// The node keeps certificates for two minutes otherwise.
    fn forget(&self) {
        self.broker.ctl(&["eval", "ssl:clear_pem_cache()."]);
    }

    /// A client's certificate.
    fn is(&self, name: &str, client: &Signed) {
        self.put(&format!("{name}.pem"), &client.certificate, 0o644);
        self.put(&format!("{name}-key.pem"), &client.key, 0o600);
    }

    fn put(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path
    }

    /// Writes a key in the form that OpenSSL had before PKCS #8.
    fn as_of_old(&self, name: &str) {
        let path = self.dir.path().join(format!("{name}-key.pem"));
        let of = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let old = path.with_extension("old");
        let args = ["pkey", "-traditional", "-in", &of(&path), "-out", &of(&old)];
        let ran = std::process::Command::new("openssl").args(args).output().expect("openssl");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let text = fs::read_to_string(&old).expect("a key");
        assert!(text.contains(" PRIVATE KEY-----"), "an old form");
        self.put(&format!("{name}-key.pem"), &text, 0o600);
    }

    /// A user of the broker without a password.
    fn user(&self, name: &str) {
        self.broker.http("PUT", &format!("/api/users/{name}"), r#"{"password_hash":"","tags":""}"#);
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.broker.http("PUT", &format!("/api/permissions/%2f/{name}"), all);
    }

    /// A config that trusts `ca` and is `client`.
    fn config(&self, ca: &str, client: Option<&str>, url: &str) -> PathBuf {
        let dir = self.dir.path().display();
        let client = client.map_or_else(String::new, |name| {
            format!("    cert_file: {dir}/{name}.pem\n    key_ref: file:{dir}/{name}-key.pem\n")
        });
        let text = format!("amqp:\n  url: \"{url}\"\n  tls:\n    ca_file: {dir}/{ca}\n{client}");
        self.put(&format!("{}.yaml", uuid()), &text, 0o600)
    }

    /// The TLS port, without a password.
    fn url(&self, user: &str) -> String {
        let port = self.broker.tls_url().rsplit(':').next().map(str::to_owned).expect("a port");
        let at = if user.is_empty() { "" } else { "@" };
        format!("amqps://{user}{at}localhost:{port}")
    }
}

/// A name that no other file has.
fn uuid() -> String {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("config-{}", NEXT.fetch_add(1, Relaxed))
}

fn swarmgate(args: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
    command.args(args).arg("--config").arg(config).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn ended(mut command: Command) -> Output {
    tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").expect("it")
}

/// What the doctor says of the connection, with its exit code.
async fn doctor(config: &Path) -> (Option<i32>, Value) {
    let args =
        ["doctor", "--output", "json", "--ledger", "/nonexistent", "--management", "http://127.0.0.1:1"];
    let output = ended(swarmgate(&args, config)).await;
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    let mut rows = told.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    // No router runs whose API could be asked.
    let first = rows.find(|row| row["check"] != "api");
    (output.status.code(), first.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

/// A fault of each kind, and what is said of it.
async fn each_fault_is_named(place: &Place) {
    let (ours, theirs) = (&place.ours, Authority::new("theirs"));
    place.put("theirs.pem", &theirs.0.pem(), 0o644);
    let host = || named("localhost", &["localhost"]);
    let (mut expired, mut early, mut authority) = (host(), host(), host());
    expired.not_after = date_time_ymd(2021, 1, 1);
    expired.not_before = date_time_ymd(2020, 1, 1);
    early.not_before = date_time_ymd(2999, 1, 1);
    early.not_after = date_time_ymd(3000, 1, 1);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let good = ours.signs(&host());
    let signed_itself = self_signed(&host());
    place.put("itself.pem", &signed_itself.certificate, 0o644);
    for (server, ca, found, next) in [
        (&good, "theirs.pem", "signed by no authority that `amqp.tls.ca_file` names", "`amqp.tls.ca_file`"),
        (
            &ours.signs(&named("x", &["elsewhere"])),
            "ca.pem",
            "not for `localhost`: it names `elsewhere`",
            "`amqp.url`",
        ),
        (&ours.signs(&expired), "ca.pem", "has expired at 2021-01-01T00:00:00", "renew"),
        (&ours.signs(&early), "ca.pem", "not valid yet: from 2999-01-01T00:00:00", "clock"),
        (&signed_itself, "ca.pem", "has signed itself", "`amqp.tls.ca_file`"),
        (&self_signed(&authority), "ca.pem", "made for an authority", "`ssl_options.certfile`"),
    ] {
        place.has(server);
        told(&place.config(ca, Some("swarmgate"), &place.url("")), "tls", found, next).await;
    }
    // What is named as the authority itself is checked like any other.
    place.has(&signed_itself);
    let (_, row) = doctor(&place.config("itself.pem", Some("swarmgate"), &place.url(""))).await;
    assert_eq!(row["state"], "ok", "{row}");
    place.has(&good);
    let plain = format!("amqps://{}", place.broker.socket_address());
    told(&place.config("ca.pem", None, &plain), "tls", "does not speak TLS", "5671").await;
    let secured = place.put(
        "plain.yaml",
        &format!("amqp: {{url: \"{}\"}}\n", place.url("u:p").replace("amqps", "amqp")),
        0o600,
    );
    told(&secured, "tls", "speaks TLS, and the URL begins with `amqp://`", "`amqps://`").await;
    clients_are_told(place, &theirs).await;
    files_are_told(place).await;
}

/// What is wrong with our own certificate, in the broker's eyes.
async fn clients_are_told(place: &Place, theirs: &Authority) {
    let with = |client: &str| place.config("ca.pem", Some(client), &place.url(""));
    let without = place.config("ca.pem", None, &place.url("u:p"));
    told(&without, "tls", "wants a certificate of ours", "`amqp.tls.cert_file`").await;
    let mut expired = named("swarmgate", &[]);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    place.is("expired", &place.ours.signs(&expired));
    place.is("foreign", &theirs.signs(&named("swarmgate", &[])));
    place.is("nobody", &place.ours.signs(&named("nobody", &[])));
    for client in ["expired", "foreign"] {
        told(&with(client), "tls", "does not accept our certificate", "`ssl_options.cacertfile`").await;
    }
    told(&with("nobody"), "broker", "refuses the user", "`ssl_cert_login_from`").await;
    let (_, row) = doctor(&with("swarmgate")).await;
    assert!(row["check"] == "broker" && row["state"] == "ok", "{row}");
}

/// Files of our own: wrong usage, exit code 2, for every command.
async fn files_are_told(place: &Place) {
    let key = fs::read_to_string(place.dir.path().join("ops-key.pem")).expect("a key");
    place.is("mixed", &place.ours.signs(&named("mixed", &[])));
    place.put("mixed-key.pem", &key, 0o600);
    place.is("open", &place.ours.signs(&named("open", &[])));
    place.put("open-key.pem", &key, 0o644);
    place.is("empty", &place.ours.signs(&named("empty", &[])));
    place.put("empty-key.pem", "nothing", 0o600);
    place.put("none.pem", "nothing", 0o644);
    for (ca, client, found) in [
        ("absent.pem", "swarmgate", "`amqp.tls.ca_file` cannot be used"),
        ("none.pem", "swarmgate", "holds no certificate"),
        ("ca.pem", "absent", "`amqp.tls.cert_file` cannot be used"),
        ("ca.pem", "mixed", "not the key of the certificate"),
        ("ca.pem", "open", "chmod 600"),
        ("ca.pem", "empty", "holds no private key"),
    ] {
        let config = place.config(ca, Some(client), &place.url("swarmgate"));
        let ledger = place.dir.path().join("ledger");
        let ledger = ledger.to_str().expect("UTF-8");
        for args in [&["refused", "list"][..], &["run", "--http", "127.0.0.1:0", "--ledger", ledger]] {
            let output = ended(swarmgate(args, &config)).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{client}: {said}");
            assert!(said.contains(found) && said.contains("help: correct that setting"), "{found}: {said}");
            assert!(!key.lines().any(|line| !line.starts_with('-') && said.contains(line)), "{said}");
        }
    }
}

async fn told(config: &Path, check: &str, found: &str, next: &str) {
    let (code, row) = doctor(config).await;
    let has = |member: &str, words: &str| row[member].as_str().is_some_and(|text| text.contains(words));
    assert!(row["check"] == check && row["state"] == "FAIL", "{found}: {row}");
    assert!(has("found", found) && has("next", next), "{found}: {row}");
    assert_eq!(code, Some(4), "{row}");
    // Every other tool says the same on stderr.
    let output = ended(swarmgate(&["refused", "list"], config)).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains(found), "{said}");
    assert!(check != "tls" || said.contains(next), "{said}");
}

/// Everything that connects does so by its certificate; a renewed one counts from the next
/// connection on.
async fn every_tool_logs_in_by_certificate(place: &Place) {
    for user in ["ops", "super", "swarmgate"] {
        place.user(user);
    }
    let ledger = place.dir.path().join("ledger");
    let router = place.config("ca.pem", Some("swarmgate"), &place.url(""));
    let mut run = swarmgate(&["run", "--http", "127.0.0.1:0"], &router);
    let mut run = run.arg("--ledger").arg(&ledger).stderr(Stdio::null()).spawn().expect("a router");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
    place.is("ops", &place.ours.signs_for(&named("ops", &[]), &rsa));
    for user in ["ops", "super"] {
        place.as_of_old(user);
    }
    let ops = place.config("ca.pem", Some("ops"), &place.url("ops"));
    let send = [
        "send",
        "status-request",
        "kestrel/swarm-controller/ctl-1",
        "--wait-ms",
        "20000",
        "--output",
        "json",
    ];
    let until = Instant::now() + PATIENCE;
    // The router declares what it listens on first.
    while ended(swarmgate(&["refused", "list"], &ops)).await.status.code() != Some(0) {
        assert!(Instant::now() < until, "the router does not begin: {:?}", run.try_wait());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let sent = ended(swarmgate(&send[..3], &ops)).await;
    assert!(
        sent.status.success(),
        "{}{}",
        String::from_utf8_lossy(&sent.stdout),
        String::from_utf8_lossy(&sent.stderr)
    );
    let nameless = place.config("ca.pem", Some("ops"), &place.url(""));
    let output = ended(swarmgate(&send, &nameless)).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("amqps://NAME@"), "{said}");
    let forged = place.config("ca.pem", Some("ops"), &place.url("swarmgate"));
    let output = ended(swarmgate(&send, &forged)).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(4) && said.contains("user_id property set to 'swarmgate'"),
        "{said}"
    );
    observes_and_supervises(place).await;
    renewed(place, &ops).await;
    run.kill().await.expect("its end");
}

/// The two other processes that stay.
async fn observes_and_supervises(place: &Place) {
    let config = place.config("ca.pem", Some("ops"), &place.url("ops"));
    let seen = place.dir.path().join("seen");
    let mut observe = swarmgate(&["observe", "--exchange", "swarmgate.in", "--http", "127.0.0.1:0"], &config);
    let mut observe = observe.arg("--ledger").arg(&seen).stderr(Stdio::null()).spawn().expect("an observer");
    logged_in(place, "ops", None).await;
    observe.kill().await.expect("its end");
    let url = place.url("super");
    let text = fs::read_to_string(place.config("ca.pem", Some("super"), &url)).expect("the config");
    let worker = "supervisor: {workers: [{id: w, role: r, command: [\"sleep\", \"60\"]}]}\n\
                  runtime: {platform: {bootstrap: {mode: process_supervisor}, execution_ipc: {transport: tcp_local, \
                  auth: {secret_mode: generated}}}}\n";
    let config = place.put("supervise.yaml", &format!("{text}{worker}"), 0o600);
    // It has a bus where that is said outside of the file.
    let mut supervise = swarmgate(&["supervise", "--amqp", &url], &config);
    let mut supervise = supervise.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a supervisor");
    logged_in(place, "super", None).await;
    supervise.kill().await.expect("its end");
}

/// Waits until that user has a connection by TLS, whose certificate that authority has signed.
async fn logged_in(place: &Place, user: &str, issuer: Option<&str>) {
    let until = Instant::now() + PATIENCE;
    loop {
        let listed = place.broker.ctl(&["-q", "list_connections", "user", "ssl", "peer_cert_issuer"]);
        let is_it = |line: &str| {
            line.starts_with(&format!("{user}\ttrue")) && issuer.is_none_or(|issuer| line.contains(issuer))
        };
        if listed.lines().any(is_it) {
            return;
        }
        assert!(Instant::now() < until, "{user} by {issuer:?}: {listed}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Authority, server and clients are exchanged under a router that runs.
async fn renewed(place: &Place, ops: &Path) {
    let next = Authority::new("next");
    place.put("ca.pem", &next.0.pem(), 0o644);
    for user in ["ops", "swarmgate"] {
        place.is(user, &next.signs(&named(user, &[])));
    }
    place.has(&next.signs(&named("localhost", &["localhost"])));
    place.trusts(&next);
    let since = Instant::now();
    place.broker.ctl(&["close_all_connections", "renewed"]);
    logged_in(place, "swarmgate", Some("CN=next")).await;
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    let output = ended(swarmgate(&["refused", "list"], ops)).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn each_fault_of_tls_is_named_with_what_to_do() {
        let place = Place::new(Broker::own_with("tls-faults", CERTIFICATE_WANTED));
        place.user("swarmgate");
        each_fault_is_named(&place).await;
    }

    #[tokio::test]
    async fn each_fault_of_tls_is_named_on_rabbitmq_4_too() {
        let Some(broker) = Broker::own_4_with("tls-faults-4", CERTIFICATE_WANTED) else { return };
        let place = Place::new(broker);
        place.user("swarmgate");
        each_fault_is_named(&place).await;
    }

    #[tokio::test]
    async fn every_tool_logs_in_by_a_certificate_that_may_be_renewed() {
        every_tool_logs_in_by_certificate(&Place::new(Broker::own_with("tls-tools", CERTIFICATE_WANTED)))
            .await;
    }

    #[tokio::test]
    async fn every_tool_logs_in_by_a_certificate_on_rabbitmq_4_too() {
        let Some(broker) = Broker::own_4_with("tls-tools-4", CERTIFICATE_WANTED) else { return };
        every_tool_logs_in_by_certificate(&Place::new(broker)).await;
    }
}
