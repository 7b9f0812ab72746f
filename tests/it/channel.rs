//! The secure channel as its two sides use it, over real TCP; and what its tests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value, json};
use swarmgate::{
    channel::{ChannelSettings, Connection, ControlPlaneChannel, Error, KeyRing, Listener, Now, Sent},
    contract::control::{
        BootstrapKeyBundle, ControlFault, ControlMessage, Kdf, MasterSecret, MessageKind, SecretMode,
        SigningKey,
    },
    keys,
};

pub const NOW: i64 = 1_767_225_600;
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn key(text: &str) -> SigningKey {
    SigningKey::new(text.as_bytes().to_vec()).expect("a key")
}

pub fn message(kind: MessageKind, correlation_id: &str, payload: Value) -> ControlMessage {
    let Value::Object(payload) = payload else { panic!("not an object") };
    ControlMessage::new(kind, correlation_id, Some("w-1".to_owned()), payload).expect("a message")
}

/// A clock that is moved by hand.
pub fn clock(from: i64) -> (Arc<AtomicI64>, Now) {
    let second = Arc::new(AtomicI64::new(from));
    let read = Arc::clone(&second);
    (second, Arc::new(move || read.load(Ordering::Relaxed)))
}

/// A channel whose clock stands at [`NOW`].
pub fn channel(secret: &str) -> ControlPlaneChannel {
    ControlPlaneChannel::new(key(secret), &ChannelSettings::default())
        .expect("a channel")
        .with_clock(clock(NOW).1)
}

/// A listener that knows one worker.
pub fn listen(settings: ChannelSettings) -> Listener {
    let ring = KeyRing::new(|worker| (worker == "w-1").then(|| key("first")));
    Listener::bind(settings, ring).expect("a listener")
}

/// Both ends of a connection. The hello that opened it is taken off.
pub async fn pair(settings: ChannelSettings) -> (Listener, Connection, Connection) {
    let mut listener = listen(settings.clone());
    let channel = ControlPlaneChannel::new(key("first"), &settings).expect("a channel");
    let worker =
        Connection::connect(listener.address(), "w-1", &channel, &settings).await.expect("connected");
    worker.send(message(MessageKind::Heartbeat, "hello", json!({}))).expect("sent");
    let mut supervisor = listener.accept().await.expect("accepted");
    assert_eq!(received(&mut supervisor).await.correlation_id, "hello");
    (listener, supervisor, worker)
}

/// The next message, in time.
pub async fn received(connection: &mut Connection) -> ControlMessage {
    tokio::time::timeout(PATIENCE, connection.receive()).await.expect("in time").expect("a message")
}

/// Why a connection ended, in time.
pub async fn end(connection: &mut Connection) -> Error {
    loop {
        if let Err(why) = tokio::time::timeout(PATIENCE, connection.receive()).await.expect("in time") {
            return why;
        }
    }
}

pub fn bundle() -> BootstrapKeyBundle {
    let master = keys::generate().expect("randomness");
    BootstrapKeyBundle::new(NOW, SecretMode::Generated, Kdf::HkdfSha256, master)
}

/// P5PRE-CTRL-01: a bundle goes down, its acknowledgement comes up, and from then on its key signs.
#[tokio::test]
async fn a_bundle_is_acknowledged_and_changes_the_key() {
    let (_listener, mut supervisor, mut worker) = pair(ChannelSettings::default()).await;
    let bundle = bundle();
    // Still under way when the bundle goes down, so signed with the first key.
    worker.send(message(MessageKind::Heartbeat, "before", json!({}))).unwrap();
    supervisor.send(bundle.message("b-1", "w-1").unwrap()).unwrap();
    let came = received(&mut worker).await;
    assert_eq!(BootstrapKeyBundle::from_payload(&came.payload).unwrap(), bundle);
    worker.send(came.ack()).unwrap();
    assert_eq!(received(&mut supervisor).await.correlation_id, "before");
    let ack = received(&mut supervisor).await;
    assert_eq!((ack.kind, ack.correlation_id.as_str()), (MessageKind::Ack, "b-1"));
    assert_eq!(ack.payload["ack_kind"], "control.bootstrap_bundle");
    for round in 0..3 {
        supervisor.send(message(MessageKind::StartWork, &round.to_string(), json!({}))).unwrap();
        worker.send(message(MessageKind::Ready, &round.to_string(), json!({}))).unwrap();
        assert_eq!(received(&mut worker).await.correlation_id, round.to_string());
        assert_eq!(received(&mut supervisor).await.correlation_id, round.to_string());
    }
}

/// P5PRE-CTRL-05: over the channel, byte for byte, whatever the bytes are.
#[test]
fn a_bundle_survives_the_wire() {
    for length in [1, 31, 32, 33, 64, 4096] {
        for (mode, kdf) in [(SecretMode::Static, Kdf::None), (SecretMode::Generated, Kdf::HkdfSha256)] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 101 + 7) as u8).collect();
            let bundle = BootstrapKeyBundle::new(NOW, mode, kdf, MasterSecret::new(bytes.clone()).unwrap());
            let frame = channel("s").encode(&bundle.message("c", "w-1").unwrap()).unwrap();
            let back = channel("s").decode(&frame).unwrap();
            let back = BootstrapKeyBundle::from_payload(&back.payload).unwrap();
            assert_eq!((back.master.expose(), back.signing.expose()), (&bytes[..], bundle.signing.expose()));
            assert_eq!(back, bundle);
        }
    }
}

#[tokio::test]
async fn only_the_supervisor_hands_out_keys_and_nobody_speaks_for_another() {
    let (_listener, mut supervisor, worker) = pair(ChannelSettings::default()).await;
    let refused = |sent: Result<Sent, Error>| match sent {
        Err(Error::Refused(fault)) => fault.word(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(worker.send(bundle().message("b", "w-1").unwrap())), "malformed-frame");
    let broken = message(MessageKind::BootstrapBundle, "b", json!({ "created_at_epoch": 1 }));
    assert_eq!(refused(supervisor.send(broken)), "malformed-frame");
    let foreign = ControlMessage::new(MessageKind::Ready, "c", Some("w-2".into()), Map::new()).unwrap();
    assert_eq!(refused(worker.send(foreign)), "malformed-frame");
    let large = message(MessageKind::Outcome, "c", json!({ "body": "x".repeat(1024 * 1024) }));
    assert_eq!(refused(worker.send(large)), "payload-too-large");
    // None of that went out, and the connection lives.
    worker.send(message(MessageKind::Ready, "last", json!({}))).unwrap();
    assert_eq!(received(&mut supervisor).await.correlation_id, "last");
}

#[tokio::test]
async fn what_waits_is_sent_before_closing_and_both_sides_know_the_end() {
    let (_listener, mut supervisor, worker) = pair(ChannelSettings::default()).await;
    let sender = worker.sender();
    for number in 0..500 {
        worker
            .send(message(MessageKind::Outcome, &number.to_string(), json!({ "body": "x".repeat(2_000) })))
            .unwrap();
    }
    worker.close().await.expect("closed in good order");
    for number in 0..500 {
        assert_eq!(received(&mut supervisor).await.correlation_id, number.to_string());
    }
    assert!(matches!(end(&mut supervisor).await, Error::Closed));
    assert!(matches!(sender.send(message(MessageKind::Ready, "late", json!({}))), Err(Error::Finished)));
    assert!(matches!(sender.ended().await, Error::Finished));
    assert!(matches!(supervisor.send(message(MessageKind::Stop, "late", json!({}))), Err(Error::Closed)));
}

#[tokio::test]
async fn a_worker_connects_again_with_the_key_that_its_supervisor_knows() {
    let (mut listener, supervisor, worker) = pair(ChannelSettings::default()).await;
    drop((supervisor, worker));
    let channel = ControlPlaneChannel::new(key("first"), &ChannelSettings::default()).unwrap();
    for round in 0..3 {
        let worker = Connection::connect(listener.address(), "w-1", &channel, &ChannelSettings::default())
            .await
            .unwrap();
        worker.send(message(MessageKind::Heartbeat, &round.to_string(), json!({}))).unwrap();
        let mut supervisor = listener.accept().await.unwrap();
        assert_eq!(supervisor.worker_id(), "w-1");
        assert_eq!(received(&mut supervisor).await.correlation_id, round.to_string());
    }
}

#[tokio::test]
async fn nothing_leaves_this_machine() {
    let channel = ControlPlaneChannel::new(key("s"), &ChannelSettings::default()).unwrap();
    let elsewhere = "192.0.2.1:1".parse().unwrap();
    let refused = Connection::connect(elsewhere, "w-1", &channel, &ChannelSettings::default()).await;
    assert!(matches!(refused, Err(Error::Refused(ControlFault::BindPolicy { .. }))));
    let settings = ChannelSettings { bind_host: "0.0.0.0".into(), ..ChannelSettings::default() };
    let refused = Listener::bind(settings.clone(), KeyRing::new(|_| None));
    assert!(matches!(refused, Err(Error::Refused(ControlFault::BindPolicy { .. }))));
    assert!(ControlPlaneChannel::new(key("s"), &settings).is_err());
}

/// The canary is in every place that holds a secret; it is looked for in every form that could be
/// printed.
#[tokio::test]
async fn no_secret_is_ever_printed() {
    let canary = "canary-7f3a";
    let master = MasterSecret::new(canary.as_bytes().to_vec()).unwrap();
    let bundle = BootstrapKeyBundle::new(NOW, SecretMode::Static, Kdf::None, master.clone());
    let carried = bundle.message("c", "w-1").unwrap();
    let sender = channel(canary);
    let frame = sender.encode(&carried).unwrap();
    let ring = KeyRing::new(|_| Some(key("canary-7f3a")));
    let mut listener = Listener::bind(ChannelSettings::default(), ring.clone()).unwrap();
    let own = ControlPlaneChannel::new(key(canary), &ChannelSettings::default()).unwrap();
    let worker =
        Connection::connect(listener.address(), "w-1", &own, &ChannelSettings::default()).await.unwrap();
    worker.send(message(MessageKind::Heartbeat, "hello", json!({ "x": canary }))).unwrap();
    let supervisor = listener.accept().await.unwrap();
    supervisor.send(carried.clone()).unwrap();
    let mut printed = vec![
        format!("{master:?} {bundle:?} {carried:?} {:?}", bundle.signing),
        format!("{sender:?} {own:?} {ring:?} {listener:?} {supervisor:?} {worker:?} {:?}", worker.sender()),
    ];
    // Every fault that a frame with the canary in it can have.
    for at in 0..frame.len() {
        let mut bent = frame.to_vec();
        bent[at] ^= 1;
        let fault = channel(canary).decode(&bent).unwrap_err();
        printed.push(format!("{fault} {fault:?} {:?}", Error::from(fault)));
    }
    let mut bad = carried.payload.clone();
    bad.insert(canary.to_owned(), json!(canary));
    let fault = BootstrapKeyBundle::from_payload(&bad).unwrap_err();
    printed.push(format!("{fault} {fault:?}"));
    // The same in the base64 that it travels in, whatever the offset within a group of three.
    let forms = [canary, "Y2FuYXJ5LTdmM2", "NhbmFyeS03ZjNh", "jYW5hcnktN2YzY"];
    for text in &printed {
        assert!(!forms.iter().any(|form| text.contains(form)), "{text}");
    }
}
