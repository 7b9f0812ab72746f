//! The same protocol written once more from its description, in Python: both ways, and as an
//! attacker.

use std::process::Stdio;

use serde_json::{Value, json};
use swarmgate::{
    channel::{ChannelSettings, Connection, ControlPlaneChannel},
    contract::control::{BootstrapKeyBundle, MessageKind},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::channel::{PATIENCE, bundle, key, listen, message, received};

/// The Python peer as a process.
struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    async fn start(args: &[&str]) -> Self {
        // The peer is of the standard library, so that any Python will do.
        let python = std::env::var("SWARMGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/peer.py");
        let mut command = Command::new(python);
        command.arg(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("a Python; `scripts/install-deps` says what to install");
        let secret: String = b"first".iter().map(|byte| format!("{byte:02x}")).collect();
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(format!("{secret}\n").as_bytes()).await.expect("written");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    /// The next value that it prints; `None` at its end.
    async fn says(&mut self) -> Option<Value> {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("in time").expect("a line")?;
        Some(serde_json::from_str(&line).expect("a JSON value"))
    }

    async fn ends_well(mut self) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("in time").expect("a status");
        assert!(status.success(), "{status}");
    }
}

/// What the peer saw, by kind.
fn kinds(said: &[Value]) -> Vec<&str> {
    said.iter().filter_map(|line| line["kind"].as_str()).collect()
}

/// P5PRE-CTRL-01 between two languages: this side is the supervisor.
#[tokio::test]
async fn a_python_worker_walks_a_session() {
    let mut listener = listen(ChannelSettings::default());
    let mut peer = Peer::start(&["worker", &listener.address().port().to_string(), "w-1"]).await;
    let mut supervisor = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_eq!(received(&mut supervisor).await.kind, MessageKind::Heartbeat);
    let bundle = bundle();
    let carried = bundle.message("b-1", "w-1").unwrap();
    supervisor.send(carried.clone()).unwrap();
    assert_eq!(received(&mut supervisor).await, carried.ack());
    let ready = received(&mut supervisor).await;
    assert_eq!((ready.kind, &ready.payload["note"]), (MessageKind::Ready, &json!("Zażółć ☃ 😀")));
    supervisor.send(ready.ack()).unwrap();
    let start = message(MessageKind::StartWork, "s-1", json!({ "required_workers": ["w-1"] }));
    supervisor.send(start.clone()).unwrap();
    assert_eq!(received(&mut supervisor).await, start.ack());
    let body = json!({ "ż": [1, 2.5, null, { "x": "\u{1f600}" }] });
    supervisor
        .send(message(MessageKind::Signal, "d-1", json!({ "routingKey": "signal.x", "body": body })))
        .unwrap();
    let outcome = received(&mut supervisor).await;
    assert_eq!((outcome.kind, &outcome.payload["body"]), (MessageKind::Outcome, &body));
    assert_eq!(received(&mut supervisor).await.payload["data"], json!({ "load": 0.25 }));
    let stop = message(MessageKind::Stop, "x-1", json!({}));
    supervisor.send(stop.clone()).unwrap();
    assert_eq!(received(&mut supervisor).await, stop.ack());
    let mut said = Vec::new();
    while let Some(line) = peer.says().await {
        said.push(line);
    }
    let walked =
        ["control.bootstrap_bundle", "control.ack", "control.start_work", "data.signal", "control.stop"];
    assert_eq!(kinds(&said), walked);
    peer.ends_well().await;
}

/// P5PRE-CTRL-01 between two languages: this side is the worker.
#[tokio::test]
async fn a_python_supervisor_walks_a_session() {
    let settings = ChannelSettings::default();
    let mut peer = Peer::start(&["supervisor", "w-1"]).await;
    let port = peer.says().await.and_then(|port| port.as_u64()).expect("a port");
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let channel = ControlPlaneChannel::new(key("first"), &settings).unwrap();
    let mut worker = Connection::connect(address, "w-1", &channel, &settings).await.unwrap();
    worker.send(message(MessageKind::Heartbeat, "h-1", json!({}))).unwrap();
    let came = received(&mut worker).await;
    let bundle = BootstrapKeyBundle::from_payload(&came.payload).unwrap();
    assert_eq!(bundle.master.expose(), (0..32).collect::<Vec<u8>>());
    assert_eq!(bundle.signing, bundle.master.derive(bundle.kdf));
    worker.send(came.ack()).unwrap();
    worker.send(message(MessageKind::Ready, "r-1", json!({}))).unwrap();
    assert_eq!(received(&mut worker).await.payload["ack_kind"], "control.ready");
    let start = received(&mut worker).await;
    assert_eq!((start.kind, &start.payload["required_workers"]), (MessageKind::StartWork, &json!(["w-1"])));
    worker.send(start.ack()).unwrap();
    let signal = received(&mut worker).await;
    assert_eq!(signal.payload["body"], json!({ "ż": [1, 2.5, null] }));
    worker
        .send(message(
            MessageKind::Outcome,
            "o-1",
            json!({ "routingKey": "r", "body": signal.payload["body"] }),
        ))
        .unwrap();
    worker.send(message(MessageKind::Status, "t-1", json!({ "type": "status-full", "data": {} }))).unwrap();
    let stop = received(&mut worker).await;
    assert_eq!(stop.kind, MessageKind::Stop);
    worker.send(stop.ack()).unwrap();
    let mut said = Vec::new();
    while let Some(line) = peer.says().await {
        said.push(line);
    }
    let walked = [
        "control.heartbeat",
        "control.ack",
        "control.ready",
        "control.ack",
        "data.outcome",
        "telemetry.status",
        "control.ack",
    ];
    assert_eq!(kinds(&said), walked);
    peer.ends_well().await;
}

/// P5PRE-CTRL-03 by another hand: whatever is wrong, the answer is the same.
#[tokio::test]
async fn a_python_attacker_learns_nothing() {
    let mut listener = listen(ChannelSettings { handshake_timeout_ms: 1_000, ..ChannelSettings::default() });
    let mut peer = Peer::start(&["attacker", &listener.address().port().to_string(), "w-1"]).await;
    let mut tries = Vec::new();
    while let Some(line) = peer.says().await {
        let [name, answer] = [0, 1].map(|at| line[at].as_str().expect("a text").to_owned());
        assert_eq!(answer, "\0\0\0\n\"rejected\"", "{name}");
        tries.push(name);
    }
    assert_eq!(tries.len(), 20, "{tries:?}");
    peer.ends_well().await;
    // The one that was good got in; each other was counted under its category.
    assert_eq!(received(&mut listener.accept().await.unwrap()).await.kind, MessageKind::Heartbeat);
    let counted: Vec<(&str, u64)> = listener.refused().into_iter().collect();
    let expected = [
        ("invalid-signature", 4),
        ("malformed-frame", 9),
        ("missing-signature", 1),
        ("payload-too-large", 2),
        ("replayed-nonce", 1),
        ("timestamp-expired", 2),
        ("unsupported-kind", 1),
    ];
    assert_eq!(counted, expected);
}
