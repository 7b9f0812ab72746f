//! What an observer reports, on a real RabbitMQ.
//!
//! Owns: that every key and sender is learned, that its records mean to `route` what they meant to
//! it, and that an observer without its rights says which it lacks.
//! Never: looks inside the process.
//! Holds: what is published here is not ours: its keys and bodies are a stranger's.

use std::process::Output;

use swarmgate::contract::message::{HeaderValue, Properties};

use super::*;

/// A stranger's message.
fn theirs(key: &str, app: &str, body: &str) -> Message {
    Message {
        exchange: "control.topic".to_owned(),
        routing_key: key.to_owned(),
        properties: Properties { app_id: Some(app.to_owned()), ..Properties::default() },
        body: body.to_owned().into(),
    }
}

async fn say(bus: &dyn Bus, messages: Vec<Message>) {
    let publisher = bus.publisher().await.expect("a publisher");
    for part in messages.chunks(500) {
        let departures: Vec<Departure> =
            part.iter().map(|message| Departure { message: message.clone(), mandatory: false }).collect();
        let batch: Vec<&Departure> = departures.iter().collect();
        let fates = publisher.publish(&batch, PATIENCE).await.expect("fates");
        assert!(fates.iter().all(|fate| *fate == Fate::Carried));
    }
}

fn swarmgate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_swarmgate")).args(args).output().expect("it runs")
}

fn row<'r>(report: &'r Value, sender: &str, pattern: &str) -> &'r Value {
    let rows = report["rows"].as_array().unwrap_or_else(|| panic!("{report}"));
    let found = rows.iter().find(|row| row["sender"]["name"] == sender && row["pattern"] == pattern);
    found.unwrap_or_else(|| panic!("no {sender} {pattern} in {report}"))
}

/// Every field of a report that the API's page does not name.
fn undocumented(report: &Value) -> Vec<String> {
    const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/api.md"));
    match report {
        Value::Array(all) => all.iter().flat_map(undocumented).collect(),
        Value::Object(fields) => {
            let strange = fields.keys().filter(|name| !PAGE.contains(&format!("\"{name}\""))).cloned();
            let below = fields.iter().filter(|(name, _)| *name != "verdicts");
            strange.chain(below.flat_map(|(_, value)| undocumented(value))).collect()
        }
        _ => Vec::new(),
    }
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test]
    async fn every_key_and_sender_is_reported_and_the_records_route_alike() {
        let vhost = Arc::new(Broker::shared()).vhost("observe-report");
        let bus = vhost.connect().await;
        let files = TempDir::new().expect("a directory");
        let records = files.path().join("seen.ndjson");
        let records = records.to_str().expect("UTF-8");
        let mut observer = Observer::start(&vhost, bus.as_ref(), &["--records", records]).await;
        let mut secret = theirs("orders.created.eu", "shop", r#"{"order":7,"password":"canary-1"}"#);
        secret.properties.headers = vec![("x-api-key".into(), HeaderValue::Text("canary-2".to_owned()))];
        let mut known = signal("swarm-plan", "w-2", "known");
        known.exchange = "control.topic".to_owned();
        let mut unknown = signal("cache-flush", "w-2", "unknown");
        unknown.exchange = "control.topic".to_owned();
        let mut said = vec![secret, known, unknown, theirs("stock.moved", "depot", "no JSON canary-3")];
        said.extend((0..40).map(|number| theirs(&format!("parcels.{number}.sent"), "depot", "{}")));
        say(bus.as_ref(), said).await;
        observer.until(|seen| seen.judged == 45).await;

        let api = format!("http://{}", observer.address);
        let asked = swarmgate(&["observe", "--report", "--api", &api, "--output", "json"]);
        let now: Value = serde_json::from_slice(&asked.stdout).expect("a report");
        let told = swarmgate(&["observe", "--report", "--api", &api]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        for part in
            ["orders.created.eu", "shop", "parcels.*.sent", "contract.schema", "next: ", "bound with #"]
        {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
        let ended = observer.ended().await;
        assert_eq!(ended["observed"], json!({ "judged": 45, "dropped": 0, "isLowerBound": false }));
        let report = &ended["report"];
        assert_eq!(undocumented(report), Vec::<String>::new(), "{report}");
        for field in ["rows", "bindings", "bounds", "exchange"] {
            assert_eq!(report[field], now[field], "{field}");
        }
        assert!(!format!("{ended}{told}{}", observer.read("log")).contains("canary"));

        let foreign = row(report, "shop", "orders.created.eu");
        assert_eq!((&foreign["count"], &foreign["refused"]), (&json!(1), &json!(1)), "{foreign}");
        assert_eq!(foreign["refusals"][0]["code"], "contract.schema");
        assert_eq!(foreign["example"]["body"], r#"{"order":7,"password":"***"}"#);
        assert_eq!(row(report, "depot", "parcels.*.sent")["count"], 40);
        assert_eq!(row(report, "depot", "stock.moved")["example"]["body"], Value::Null);
        let mine = row(report, "orc", "signal.swarm-plan.*.*.*");
        assert_eq!((&mine["count"], &mine["refused"]), (&json!(2), &json!(0)), "{mine}");
        assert_eq!(row(report, "orc", "signal.cache-flush.*.*.*")["refused"], 1);

        routes_alike(records, report);
        // A refused one is on record with its key.
        let shown =
            swarmgate(&["audit", "show", observer.dir.path().join("ledger").to_str().expect("UTF-8")]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("`orders.created.eu`"), "{shown}");
    }

    /// As many records as messages, without a secret, and `route` answers each as the observer did.
    fn routes_alike(records: &str, report: &Value) {
        let written = std::fs::read_to_string(records).expect("records");
        assert!(!written.contains("canary"), "{written}");
        assert_eq!(report["records"]["written"], 45, "{report}");
        let routed = swarmgate(&["route", records, "--output", "json"]);
        let routed: Vec<Value> = String::from_utf8(routed.stdout)
            .expect("UTF-8")
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .filter(|answer: &Value| answer["line"].is_u64())
            .collect();
        assert_eq!(routed.len(), 45);
        let refused = |reason: &str| routed.iter().filter(|answer| answer["reason"] == reason).count() as u64;
        let reported = |reason: &str| -> u64 {
            let rows = report["rows"].as_array().expect("rows").iter();
            let refusals = rows.flat_map(|row| row["refusals"].as_array().expect("refusals"));
            refusals.filter(|one| one["code"] == reason).filter_map(|one| one["count"].as_u64()).sum()
        };
        for reason in ["contract.schema", "contract.unknown-type", "contract.not-json"] {
            assert!(refused(reason) > 0, "{reason}: {routed:?}");
            assert_eq!(refused(reason), reported(reason), "{reason}");
        }
    }

    #[tokio::test]
    async fn what_is_bound_is_what_is_asked_for_and_a_flood_meets_the_bounds() {
        let vhost = Arc::new(Broker::shared()).vhost("observe-flood");
        let bus = vhost.connect().await;
        let few = [
            ["--bind", "signal.#"],
            ["--bind", "flood.#"],
            ["--set", "observe.patterns_max=20"],
            ["--set", "observe.senders_max=5"],
            ["--set", "observe.rows_max=50"],
        ];
        let mut observer = Observer::start(&vhost, bus.as_ref(), &few.concat()).await;
        let flood = (0..20_000).map(|number| {
            let key = format!("flood.{}.{}", "x.".repeat(number % 40), number % 10);
            theirs(&key, &format!("app-{}", number % 100), "{}")
        });
        say(bus.as_ref(), vec![theirs("elsewhere.a", "app", "{}")]).await;
        say(bus.as_ref(), flood.collect()).await;
        observer.until(|seen| seen.judged + seen.dropped >= 20_001).await;
        let ended = observer.ended().await;
        let (report, judged) = (&ended["report"], ended["observed"]["judged"].as_u64().expect("a number"));
        assert_eq!(judged + ended["observed"]["dropped"].as_u64().expect("a number"), 20_001, "{ended}");
        let rows = report["rows"].as_array().expect("rows");
        assert!(rows.len() <= 50, "{}", rows.len());
        let counted: u64 = rows.iter().filter_map(|row| row["count"].as_u64()).sum();
        assert_eq!(counted, judged, "nothing is left out");
        let met: Vec<&str> = report["bounds"]
            .as_array()
            .expect("bounds")
            .iter()
            .filter_map(|met| met["key"].as_str())
            .collect();
        assert!(met.contains(&"observe.patterns_max") && met.contains(&"observe.senders_max"), "{met:?}");
        assert!(observer.read("log").contains("the bound `observe.senders_max` is met"));
        assert!(!report.to_string().contains("elsewhere"), "that was not bound");
    }

    /// A user with those rights on the test's virtual host.
    fn user(vhost: &Vhost, name: &str, [configure, write, read]: [&str; 3]) -> String {
        vhost.broker.http("PUT", &format!("/api/users/{name}"), r#"{"password":"p","tags":""}"#);
        let rights = json!({ "configure": configure, "write": write, "read": read }).to_string();
        vhost.broker.http("PUT", &format!("/api/permissions/{}/{name}", vhost.name), &rights);
        vhost.broker.url(&vhost.name, name, "p")
    }

    /// An observer that must not look: its exit code and what it said.
    fn denied(url: &str) -> String {
        let dir = TempDir::new().expect("a directory");
        let ledger = dir.path().to_str().expect("UTF-8");
        let observe = ["observe", "--exchange", "control.topic", "--http", "127.0.0.1:0", "--ledger", ledger];
        let ended = swarmgate(&[observe.as_slice(), &["--amqp", url]].concat());
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(4), "{told}");
        told
    }

    #[tokio::test]
    async fn an_observer_that_lacks_a_right_ends_and_says_which() {
        let vhost = Arc::new(Broker::shared()).vhost("observe-denied");
        let bus = vhost.connect().await;
        let exchange =
            Exchange { name: "control.topic".to_owned(), kind: ExchangeKind::Topic, alternate: None };
        bus.declare(&Topology { exchanges: vec![exchange], queues: Vec::new() }).await.expect("an exchange");
        let name = format!("watcher-{}", std::process::id());
        let own = r"^swarmgate\.observe\..*$";
        let read = r"^(swarmgate\.observe\..*|control\.topic)$";
        for rights in [["", "", ""], [own, own, "^control\\.topic$"], [own, own, own], [own, "", read]] {
            let told = denied(&user(&vhost, &name, rights));
            let wanted = format!("set_permissions -p '{}' '{name}' '{own}' '{own}' '{read}'", vhost.name);
            assert!(told.contains("ACCESS_REFUSED") && told.contains(&wanted), "{rights:?}\n{told}");
        }
        // With the rights that it asked for it may look, but for keys that topic permissions keep
        // from it.
        let url = user(&vhost, &name, [own, own, read]);
        let topics = format!("/api/topic-permissions/{}/{name}", vhost.name);
        let only = json!({ "exchange": "control.topic", "write": "", "read": "^signal\\..*$" }).to_string();
        vhost.broker.http("PUT", &topics, &only);
        let told = denied(&url);
        assert!(told.contains("--bind") && told.contains("set_topic_permissions"), "{told}");
        vhost.broker.http("DELETE", &topics, "");
        let wrong = url.replace(&format!("{name}:p@"), &format!("{name}:wrong@"));
        let told = denied(&wrong);
        assert!(told.contains(&format!("no user `{name}`")), "{told}");
        // The first connection has been kept waiting for longer than the broker may have liked.
        let bus = vhost.connect().await;
        let allowed = Observer::start_as(&url, bus.as_ref(), &[]).await;
        drop(allowed);
        vhost.broker.http("DELETE", &format!("/api/users/{name}"), "");
    }
}
