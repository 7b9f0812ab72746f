//! What deploys a router: the unit of systemd and the manifests of Kubernetes, against what the
//! binary really does.
//!
//! Owns: that their settings, arguments, ports, probes and volumes are the program's own.
//! Never: needs a running systemd or a cluster; what only those can show is not shown.
//! Holds: the real `swarmgate` reads every config here, and runs by the arguments that stand there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use swarmgate::config::{self, Config, Layers};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_swarmgate");
const INSTALLED: &str = "/usr/local/bin/swarmgate";

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(place(name)).expect("a file")
}

/// What the real binary says of a config file, as the exit code, and the config.
fn checked(file: &Path) -> Config {
    let ran = Command::new(BINARY).args(["check", "config"]).arg(file).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    let layers = Layers { file: Some(file.to_owned()), ..Layers::default() };
    config::load(&layers).expect("a config").config
}

/// The settings of a unit, by section and key, in their order.
fn unit() -> BTreeMap<(String, String), Vec<String>> {
    let mut section = String::new();
    let mut settings: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for line in read("systemd/swarmgate.service").lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            settings.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
        } else {
            assert!(line.is_empty(), "`{line}` is no line of a unit");
        }
    }
    settings
}

fn of_service(key: &str) -> String {
    let settings = unit();
    let found = settings.get(&("Service".to_owned(), key.to_owned()));
    found.and_then(|values| values.last()).unwrap_or_else(|| panic!("no `{key}`")).clone()
}

#[test]
fn the_unit_runs_by_the_config_beside_it() {
    let config = checked(&place("systemd/swarmgate.yaml"));
    assert_eq!(config.ledger.dir, format!("/var/lib/{}", of_service("StateDirectory")));
    let file = "/etc/swarmgate/swarmgate.yaml";
    assert_eq!(of_service("ExecStart"), format!("{INSTALLED} run --config {file}"));
    assert_eq!(of_service("ExecStartPre"), format!("{INSTALLED} check config {file}"));
    assert_eq!(of_service("ExecReload"), "/bin/kill -HUP $MAINPID");
    let stop: u64 = of_service("TimeoutStopSec").parse().expect("seconds");
    assert!(stop * 1000 > config.drain_timeout_ms * 2, "a drain is not cut off");
    for line in read("systemd/environment").lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once('=').expect("an assignment");
        let env = vec![(name.to_owned(), value.to_owned())];
        let loaded = config::load(&Layers { env, ..Layers::default() }).expect("a setting");
        assert_ne!(loaded.config.amqp.url, Config::default().amqp.url);
    }
}

/// systemd's own look, where it is installed: every setting is one that it knows, and the exposure
/// is small.
#[test]
fn the_unit_is_one_that_systemd_takes() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("NOT SHOWN: what systemd says of the unit, because systemd-analyze is not here");
        return;
    }
    let dir = TempDir::new().expect("a directory");
    let unit = dir.path().join("swarmgate.service");
    let text = read("systemd/swarmgate.service").replace(INSTALLED, BINARY);
    let analyze = |words: &[&str], text: &str| {
        std::fs::write(&unit, text).expect("a unit");
        let ran = Command::new("systemd-analyze").args(words).arg(&unit).output().expect("it runs");
        (
            ran.status.success(),
            format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)),
        )
    };
    let (taken, told) = analyze(&["verify"], &text);
    assert!(taken && !told.contains("swarmgate.service"), "{told}");
    let wrong = text.replace("ProtectSystem=strict", "ProtectSystem=strikt");
    assert!(analyze(&["verify"], &wrong).1.contains("strikt"), "a wrong word is found");
    // Tenths of its ten points.
    let security = ["security", "--offline=yes", "--threshold=20", "--no-pager"];
    let (safe, told) = analyze(&security, &text);
    assert!(safe, "{told}");
    assert!(!analyze(&security, &text.replace("CapabilityBoundingSet=\n", "")).0, "the threshold binds");
}

/// Every object of the manifests, by its kind; each kind is there once.
fn manifests() -> BTreeMap<String, Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&read("kubernetes/swarmgate.yaml")).expect("YAML");
    let by_kind = |object: Value| (object["kind"].as_str().expect("a kind").to_owned(), object);
    let count = objects.len();
    let objects: BTreeMap<String, Value> = objects.into_iter().map(by_kind).collect();
    assert_eq!(objects.len(), count);
    objects
}

fn config_of(manifests: &BTreeMap<String, Value>) -> (TempDir, Config) {
    let text = manifests["ConfigMap"]["data"]["swarmgate.yaml"].as_str().expect("a config");
    let dir = TempDir::new().expect("a directory");
    std::fs::write(dir.path().join("swarmgate.yaml"), text).expect("a config");
    let config = checked(&dir.path().join("swarmgate.yaml"));
    (dir, config)
}

#[test]
fn the_manifests_are_of_one_router_with_its_own_disk() {
    let manifests = manifests();
    let kinds: Vec<&str> = manifests.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"]);
    let versions: Vec<&Value> = manifests.values().map(|object| &object["apiVersion"]).collect();
    assert_eq!(versions, ["v1", "apps/v1", "v1", "v1"]);
    let spec = &manifests["Deployment"]["spec"];
    assert_eq!((&spec["replicas"], &spec["strategy"]), (&json!(1), &json!({ "type": "Recreate" })));
    let labels = &spec["template"]["metadata"]["labels"];
    assert_eq!(&spec["selector"]["matchLabels"], labels);
    assert_eq!(&manifests["Service"]["spec"]["selector"], labels);
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    let (_dir, config) = config_of(&manifests);
    let volume = |name: &str| {
        let volumes = pod["volumes"].as_array().expect("volumes");
        volumes.iter().find(|volume| volume["name"] == *name).unwrap_or_else(|| panic!("no `{name}`")).clone()
    };
    let name = |kind: &str| manifests[kind]["metadata"]["name"].clone();
    assert_eq!(volume("config")["configMap"]["name"], name("ConfigMap"));
    assert_eq!(volume("ledger")["persistentVolumeClaim"]["claimName"], name("PersistentVolumeClaim"));
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let mounted: BTreeMap<&str, &str> = mounts
        .iter()
        .map(|mount| (mount["name"].as_str().expect("a name"), mount["mountPath"].as_str().expect("a path")))
        .collect();
    assert_eq!(
        mounted,
        [("config", "/etc/swarmgate"), ("ledger", config.ledger.dir.to_str().expect("a path"))].into()
    );
    let claim = &manifests["PersistentVolumeClaim"]["spec"];
    assert_eq!(claim["accessModes"], json!(["ReadWriteOnce"]));
    let room = claim["resources"]["requests"]["storage"].as_str().and_then(|text| text.strip_suffix("Gi"));
    let room = room.expect("a size").parse::<u64>().expect("a number") << 30;
    assert!(config.ledger.size_max_bytes < room, "the ledger's bound is within its volume");
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    assert!(grace * 1000 > config.drain_timeout_ms * 2, "a drain is not cut off");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(container["image"], format!("swarmgate:{version}"));
}

#[test]
fn the_container_is_confined_as_the_image_allows() {
    let manifests = manifests();
    let pod = &manifests["Deployment"]["spec"]["template"]["spec"];
    let dockerfile = read("Dockerfile");
    let user = &pod["securityContext"];
    let ids = format!("{}:{}", user["runAsUser"], user["runAsGroup"]);
    assert!(dockerfile.contains(&format!("USER {ids}")), "the image's user is not {ids}");
    assert_eq!(user["fsGroup"], user["runAsGroup"], "the ledger's volume is the router's");
    assert_eq!(
        (&user["runAsNonRoot"], &user["seccompProfile"]["type"]),
        (&json!(true), &json!("RuntimeDefault"))
    );
    let confined = &pod["containers"][0]["securityContext"];
    let expected = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
    });
    assert_eq!(*confined, expected);
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
}

#[test]
fn the_ports_are_those_of_the_config_and_the_variables_are_settings() {
    let manifests = manifests();
    let (_dir, config) = config_of(&manifests);
    let container = &manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0];
    let port = &container["ports"][0];
    assert_eq!((&port["name"], &port["containerPort"]), (&json!("http"), &json!(config.http.addr.port())));
    assert!(config.http.addr.ip().is_unspecified(), "probes come from elsewhere");
    let service = &manifests["Service"]["spec"]["ports"][0];
    assert_eq!((&service["targetPort"], &service["port"]), (&port["name"], &port["containerPort"]));
    assert!(
        config
            .http
            .hosts
            .contains(&manifests["Service"]["metadata"]["name"].as_str().expect("a name").to_owned())
    );
    let annotations = &manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], config.http.addr.port().to_string());
    for variable in container["env"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name");
        let known = config::FIELDS.iter().any(|field| config::variable(field.path) == name);
        assert!(known, "`{name}` is no setting");
        let secret = &variable["valueFrom"]["secretKeyRef"];
        assert_eq!(secret, &json!({ "name": "swarmgate-broker", "key": "url" }));
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], port["name"], "{probe}");
    }
}

mod on_rabbitmq {
    use std::sync::Arc;

    use super::*;
    use crate::{
        broker::Broker,
        hostile::{get, routers::Gate},
    };

    /// The words behind the program, with the file in the place of the one that they name.
    fn by(words: &[&str], file: &Path, url: &str) -> Gate {
        let file = file.to_str().expect("a path");
        let named = "/etc/swarmgate/swarmgate.yaml";
        assert!(words.contains(&named), "{words:?}");
        let words: Vec<&str> = words.iter().map(|word| if *word == named { file } else { word }).collect();
        Gate::by(&words, url)
    }

    #[tokio::test]
    async fn a_pod_is_probed_and_scraped_where_it_answers() {
        let vhost = Arc::new(Broker::shared()).vhost("deployment-pod");
        let manifests = manifests();
        let (dir, _) = config_of(&manifests);
        let container = &manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0];
        let args = container["args"].as_array().expect("arguments").iter();
        let args: Vec<&str> = args.map(|word| word.as_str().expect("a word")).collect();
        let mut router = by(&args, &dir.path().join("swarmgate.yaml"), &vhost.options().url);
        router.ready().await;
        let annotations = &manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"];
        let probes = ["startupProbe", "livenessProbe", "readinessProbe"];
        let paths = probes.iter().map(|probe| &container[probe]["httpGet"]["path"]);
        for path in paths.chain([&annotations["prometheus.io/path"]]) {
            let path = path.as_str().expect("a path");
            let page = get(&router.address, path).await;
            assert!(page.starts_with("HTTP/1.1 200 "), "{path}: {page}");
        }
        assert!(get(&router.address, "/health").await.starts_with("HTTP/1.1 404 "), "any path would do");
        router.signal("-TERM");
        assert_eq!(router.end().await, 0, "{}", router.log());
    }

    #[tokio::test]
    async fn the_units_command_runs_reloads_and_stops() {
        let vhost = Arc::new(Broker::shared()).vhost("deployment-unit");
        let start = of_service("ExecStart");
        let words: Vec<&str> = start.split(' ').skip(1).collect();
        let mut router = by(&words, &place("systemd/swarmgate.yaml"), &vhost.options().url);
        router.ready().await;
        let reload = of_service("ExecReload");
        router.signal(reload.split(' ').find(|word| word.starts_with('-')).expect("a signal"));
        let within = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !router.log().contains("SIGHUP: the config says what this process runs by already") {
            assert!(std::time::Instant::now() < within, "{}", router.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        router.signal("-TERM");
        assert_eq!(router.end().await, 0, "{}", router.log());
    }
}
