//! Where RabbitMQ 3 and 4 differ: what each does is asked of a real node of each.
//!
//! Owns: rights by CC and BCC, forged users, the size of frames, features that are denied, and
//! senders of AMQP 1.0.
//! Never: takes a release's documentation for what it does.
//! Holds: what cannot be had on a machine is skipped loudly.

use std::{process::Stdio, sync::Arc, time::Duration};

use serde_json::json;
use swarmgate::{
    bus::{
        Bus, BusError, Exchange, ExchangeKind, Fate, Queue, QueueKind, Topology,
        amqp::{self, Options},
    },
    clock,
    contract::message::{HeaderValue, Message},
};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{
    broker::{Broker, Vhost},
    bus::{DEADLINE, departure, take},
    router::{Inbox, body, outcome, process::Process, send, signal},
};

/// What 4.x is to drop: each is denied already.
const DENIED: &str = "deprecated_features.permit.global_qos = false\n\
                      deprecated_features.permit.transient_nonexcl_queues = false\n\
                      deprecated_features.permit.amqp_address_v1 = false";

/// A user that may say `ok.#` only; what is published with CC and BCC, and under another's name.
async fn rights(vhost: &Vhost, are_copies_checked: bool) {
    let bus = vhost.connect().await;
    let queue = Queue {
        name: "heard".to_owned(),
        kind: QueueKind::Quorum,
        bindings: vec![("in".to_owned(), "#".to_owned())],
    };
    let exchange = Exchange { name: "in".to_owned(), kind: ExchangeKind::Topic, alternate: None };
    bus.declare(&Topology { exchanges: vec![exchange], queues: vec![queue] }).await.expect("a topology");
    let user = format!("narrow-{}", vhost.name);
    let broker = &vhost.broker;
    broker.http("PUT", &format!("/api/users/{user}"), r#"{"password":"p","tags":""}"#);
    let rights = r#"{"configure":"","write":".*","read":""}"#;
    broker.http("PUT", &format!("/api/permissions/{}/{user}", vhost.name), rights);
    let topics = r#"{"exchange":"in","write":"^ok","read":""}"#;
    broker.http("PUT", &format!("/api/topic-permissions/{}/{user}", vhost.name), topics);
    let narrow =
        amqp::connect(&Options::new(broker.url(&vhost.name, &user, "p"))).await.expect("a connection");
    let fate = async |message: Message| {
        let departure = swarmgate::bus::Departure { message, mandatory: true };
        narrow.publisher().await.expect("a publisher").publish(&[&departure], DEADLINE).await
    };
    let mut said = departure("in", "ok.x", 1).message;
    said.properties.user_id = Some(user.clone());
    assert_eq!(fate(said.clone()).await.expect("fates"), [Fate::Carried], "under its own name");
    let forged =
        fate(Message { properties: said.properties.clone(), ..departure("in", "bad.x", 2).message }).await;
    assert!(
        forged.is_err_and(|fault| fault.to_string().contains("ACCESS_REFUSED")),
        "a key that it may not say"
    );
    for header in ["CC", "BCC"] {
        let mut copied = departure("in", "ok.x", 3).message;
        let keys = HeaderValue::Array(vec![HeaderValue::Text("bad.x".to_owned())]);
        copied.properties.headers.push((header.into(), keys));
        match fate(copied).await {
            Ok(fates) => assert!(!are_copies_checked && fates == [Fate::Carried], "{header}: {fates:?}"),
            Err(fault) => {
                let told = fault.to_string();
                assert!(are_copies_checked && told.contains("ACCESS_REFUSED"), "{header}: {told}");
            }
        }
    }
    said.properties.user_id = Some("guest".to_owned());
    let forged = fate(said).await.expect_err("a forged user").to_string();
    assert!(
        forged.contains("PRECONDITION_FAILED") && forged.contains("user_id property set to 'guest'"),
        "{forged}"
    );
    let mut consumer = bus.consumer("heard", 10).await.expect("a consumer");
    assert!(!take(consumer.as_mut(), 1).await.is_empty());
    narrow.close().await;
    bus.close().await;
    broker.http("DELETE", &format!("/api/users/{user}"), "");
}

/// What a URL that wants small frames gets.
async fn frames(vhost: &Vhost, bytes: u32) -> Result<(), BusError> {
    let mut options = vhost.options();
    options.url = format!("{}?frame_max={bytes}", options.url);
    let bus = amqp::connect(&options).await?;
    bus.declare(&Topology::default()).await?;
    bus.close().await;
    Ok(())
}

/// A Python that speaks AMQP 1.0, where there is one.
fn proton(test: &str) -> Option<String> {
    let python = std::env::var("SWARMGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let looked = std::process::Command::new(&python).args(["-c", "import proton"]).output().expect("python");
    if !looked.status.success() {
        eprintln!("SKIPPED: {test}: {python} has no `proton` (pip install python-qpid-proton)");
        return None;
    }
    Some(python)
}

/// Sends `text` by AMQP 1.0 in that section.
async fn says(python: &str, vhost: &Vhost, key: &str, section: &str, text: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/python/amqp_1_0.py");
    let url = format!("amqp://guest:guest@{}", vhost.broker.socket_address());
    let address = format!("/exchanges/swarmgate.in/{key}");
    let mut command = Command::new(python);
    command.args([script, &url, &vhost.name, &address, section]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ran = command.stderr(Stdio::piped()).spawn().expect("python");
    let mut input = ran.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).await.expect("the body");
    drop(input);
    let ran = tokio::time::timeout(Duration::from_secs(60), ran.wait_with_output()).await;
    let ran = ran.expect("in time").expect("python");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

mod on_rabbitmq {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn copies_go_round_topic_permissions_before_4_and_no_user_can_be_forged() {
        let broker = Arc::new(Broker::shared());
        rights(&broker.vhost("series-rights"), false).await;
        let vhost = broker.vhost("series-frames");
        frames(&vhost, 4096).await.expect("small frames");
    }
}

mod on_rabbitmq_4 {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn copies_and_users_are_checked_and_small_frames_are_told() {
        let Some(broker) = Broker::own_4("series-rights-4") else { return };
        let broker = Arc::new(broker);
        rights(&broker.vhost("series-rights"), true).await;
        let vhost = broker.vhost("series-frames");
        let told = frames(&vhost, 4096).await.expect_err("small frames").to_string();
        assert!(
            told.contains("`frame_max=4096`") && told.contains("write `frame_max=8192` or more"),
            "{told}"
        );
        frames(&vhost, 8192).await.expect("frames of 8 KiB");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_router_uses_nothing_that_rabbitmq_is_to_drop() {
        let Some(broker) = Broker::own_4_with("series-denied", DENIED) else { return };
        let vhost = Arc::new(broker).vhost("series-denied");
        let router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        send(
            bus.as_ref(),
            &[signal("status-request", "w-1", "1"), outcome("status-request", "w-1", "1", "Ready")],
        )
        .await;
        inbox.hear(bus.as_ref(), |heard| heard.len() >= 2).await;
        assert!(inbox.heard.len() >= 2, "{:?}", inbox.heard);
        for tool in [&["refused", "list"][..], &["doctor", "--ledger", "/nonexistent"]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_swarmgate"));
            let ran = command.args(tool).args(["--amqp", &vhost.options().url]).output().await.expect("it");
            assert!(
                ran.status.code().is_some_and(|code| code < 2),
                "{}",
                String::from_utf8_lossy(&ran.stderr)
            );
        }
        let used = vhost.broker.ctl(&["-q", "list_deprecated_features", "--used"]);
        assert!(!used.contains("global_qos") && !used.contains("transient_nonexcl_queues"), "{used}");
        router.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sender_by_amqp_1_0_is_heard_where_its_body_is_data() {
        let Some(python) = proton("a_sender_by_amqp_1_0") else { return };
        let Some(broker) = Broker::own_4("series-amqp-1-0") else { return };
        let vhost = Arc::new(broker).vhost("series-amqp-1-0");
        let router = Process::start(&vhost.options().url);
        let bus = vhost.connect().await;
        router.ready(bus.as_ref()).await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let mut refused = Inbox::open(bus.as_ref(), "copies", "swarmgate.refused").await;
        let key = "signal.status-request.kestrel.worker.w-1";
        let said = json!({
            "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": "status-request",
            "origin": "guest", "scope": { "swarmId": "kestrel", "role": "worker", "instance": "w-1" },
            "correlationId": "c-1", "idempotencyKey": "i-1", "data": {},
        });
        assert_eq!(says(&python, &vhost, key, "data", &said.to_string()).await, "accepted");
        let is_it = |message: &Message| message.routing_key == key;
        inbox.hear(bus.as_ref(), |heard| heard.iter().any(is_it)).await;
        let heard = inbox.heard.iter().find(|message| is_it(message)).expect("the signal");
        assert_eq!(body(heard), said);
        let properties = &heard.properties;
        assert_eq!(properties.correlation_id.as_deref(), Some("c-1"));
        assert_eq!(properties.content_type.as_deref(), Some("application/json"));
        for (name, text) in [
            ("x-swarmgate-user-id", "guest"),
            ("x-swarmgate-message-id", "m-1"),
            ("x-team", "kestrel"),
            ("x-opt-text", "said"),
        ] {
            assert_eq!(properties.header_text(name), Some(text), "{properties:?}");
        }
        assert!(matches!(properties.header("x-count"), Some(HeaderValue::I64(5))), "{properties:?}");
        let trace = vec![("a".into(), HeaderValue::Text("b".to_owned()))];
        assert_eq!(properties.header("x-opt-trace"), Some(&HeaderValue::Table(trace)), "{properties:?}");
        for section in ["text", "value"] {
            let before = refused.heard.len();
            assert_eq!(says(&python, &vhost, key, section, &said.to_string()).await, "accepted");
            refused.hear(bus.as_ref(), |heard| heard.len() > before).await;
            let copy = refused.heard.last().expect("a copy");
            let told = |name: &str| copy.properties.header_text(name).unwrap_or_default().to_owned();
            assert_eq!(told("x-swarmgate-reason"), "contract.encoding", "{section}: {copy:?}");
            let detail = told("x-swarmgate-detail");
            assert!(detail.contains("AMQP 1.0") && detail.contains("data section"), "{section}: {detail}");
            // Refusals after the first in a second are counted.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        router.stop().await;
    }
}
