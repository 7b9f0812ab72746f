//! Peers that are slow, silent, full of garbage or not who they say they are, over real TCP.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use swarmgate::{
    channel::{ChannelSettings, Connection, ControlPlaneChannel, Error, KeyRing, Listener},
    contract::control::MessageKind,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::channel::{PATIENCE, end, key, listen, message, received};

/// The one answer that a refused peer gets.
const REJECTED: &[u8] = b"\x00\x00\x00\x0a\"rejected\"";

/// Settings under which nobody waits long.
fn brief() -> ChannelSettings {
    ChannelSettings {
        handshake_timeout_ms: 1_000,
        frame_timeout_ms: 500,
        idle_timeout_ms: 1_000,
        write_timeout_ms: 500,
        ..ChannelSettings::default()
    }
}

/// The worker's side of a channel, for who writes frames by hand.
fn pen() -> ControlPlaneChannel {
    ControlPlaneChannel::new(key("first"), &ChannelSettings::default()).expect("a channel")
}

fn hello(pen: &ControlPlaneChannel) -> Vec<u8> {
    pen.encode(&message(MessageKind::Heartbeat, "hello", json!({}))).expect("a frame").to_vec()
}

/// All that is heard until the connection ends.
async fn heard(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("in time").expect("an end in good order");
    heard
}

/// What comes back for `bytes` on a connection of their own.
async fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("written");
    heard(&mut stream).await
}

/// A connection that has proven its key, whose worker's side is a bare socket.
async fn proven(settings: ChannelSettings) -> (Listener, Connection, TcpStream, ControlPlaneChannel) {
    let (mut listener, pen) = (listen(settings), pen());
    let mut stream = TcpStream::connect(listener.address()).await.expect("connected");
    stream.write_all(&hello(&pen)).await.expect("written");
    let mut connection = listener.accept().await.expect("accepted");
    assert_eq!(received(&mut connection).await.correlation_id, "hello");
    (listener, connection, stream, pen)
}

#[tokio::test]
async fn every_stranger_hears_the_same_word() {
    let listener = listen(brief());
    let stranger = ControlPlaneChannel::new(key("another"), &ChannelSettings::default()).unwrap();
    let mut tampered = hello(&pen());
    let last = tampered.len() - 10;
    tampered[last] ^= 1;
    let unknown = {
        let json = String::from_utf8(hello(&pen())).unwrap().replace("\"w-1\"", "\"w-9\"");
        json.into_bytes()
    };
    let cases: [(&str, Vec<u8>); 8] = [
        ("invalid-signature", hello(&stranger)),
        ("invalid-signature", tampered),
        ("invalid-signature", unknown),
        ("payload-too-large", vec![0, 0x10, 0, 1]),
        ("payload-too-large", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("malformed-frame", vec![0; 4]),
        ("malformed-frame", b"\0\0\0\x03{]}".to_vec()),
        ("missing-signature", b"\0\0\0\x02{}".to_vec()),
    ];
    for (category, bytes) in cases {
        let before = listener.refused().get(category).copied().unwrap_or_default();
        assert_eq!(answer(listener.address(), &bytes).await, REJECTED, "{category}");
        assert_eq!(listener.refused()[category], before + 1);
    }
    // A megabyte of it does not cut the answer off.
    let mut garbage = vec![0xff; 1024 * 1024];
    garbage[0] = 0;
    let mut stream = TcpStream::connect(listener.address()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut back = vec![0; REJECTED.len()];
    let (_, answered) =
        tokio::join!(write.write_all(&garbage), timeout(PATIENCE, read.read_exact(&mut back)));
    answered.unwrap().unwrap();
    assert_eq!(back, REJECTED);
}

/// P5PRE-CTRL-03: a frame that was taken on one connection is refused on the next.
#[tokio::test]
async fn a_replay_on_another_connection_is_refused() {
    let mut listener = listen(brief());
    let frame = hello(&pen());
    let mut first = TcpStream::connect(listener.address()).await.unwrap();
    first.write_all(&frame).await.unwrap();
    drop(listener.accept().await.unwrap());
    for round in 1..=3 {
        assert_eq!(answer(listener.address(), &frame).await, REJECTED);
        assert_eq!(listener.refused()["replayed-nonce"], round);
    }
}

#[tokio::test]
async fn what_the_supervisor_said_cannot_be_said_back_to_it() {
    let (listener, supervisor, mut stream, _) = proven(brief()).await;
    supervisor.send(message(MessageKind::Stop, "stop", json!({}))).unwrap();
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.unwrap();
    let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut frame).await.unwrap();
    let reflected = [&prefix[..], &frame].concat();
    assert_eq!(answer(listener.address(), &reflected).await, REJECTED);
    assert_eq!(listener.refused()["replayed-nonce"], 1);
}

#[tokio::test]
async fn a_fault_after_the_handshake_ends_the_connection_with_the_same_word() {
    let (_listener, mut supervisor, mut stream, pen) = proven(brief()).await;
    let mut bent = hello(&pen);
    let last = bent.len() - 10;
    bent[last] ^= 1;
    stream.write_all(&hello(&pen)).await.unwrap();
    stream.write_all(&bent).await.unwrap();
    stream.write_all(&hello(&pen)).await.unwrap();
    assert_eq!(heard(&mut stream).await, REJECTED);
    assert_eq!(received(&mut supervisor).await.correlation_id, "hello");
    let why = end(&mut supervisor).await;
    assert!(matches!(&why, Error::Refused(fault) if fault.word() == "invalid-signature"), "{why:?}");
}

#[tokio::test]
async fn a_worker_with_another_key_learns_that_it_is_rejected() {
    let listener = listen(brief());
    let stranger = ControlPlaneChannel::new(key("another"), &brief()).unwrap();
    let mut worker = Connection::connect(listener.address(), "w-1", &stranger, &brief()).await.unwrap();
    worker.send(message(MessageKind::Heartbeat, "hello", json!({}))).unwrap();
    assert!(matches!(end(&mut worker).await, Error::Rejected));
}

#[tokio::test]
async fn who_says_nothing_or_half_is_not_waited_for() {
    let listener = listen(brief());
    let whole = hello(&pen());
    for (round, said) in [&b""[..], &whole[..2], &whole[..4], &whole[..100]].into_iter().enumerate() {
        assert_eq!(answer(listener.address(), said).await, REJECTED, "{}", said.len());
        assert_eq!(listener.refused()["slow"], round as u64 + 1);
    }
    // A byte at a time is no progress: the bound is on the whole.
    let mut stream = TcpStream::connect(listener.address()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let drip = async {
        for byte in &whole {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the whole frame was waited for");
    };
    let mut back = vec![0; REJECTED.len()];
    tokio::select! {
        () = drip => {}
        answered = timeout(PATIENCE, read.read_exact(&mut back)) => {
            answered.unwrap().unwrap();
            assert_eq!(back, REJECTED);
        }
    }
    assert_eq!(listener.refused()["slow"], 5);
}

#[tokio::test]
async fn a_proven_peer_is_bounded_in_time_as_well() {
    let ended_by = async |act: &[u8]| {
        let (_listener, mut supervisor, mut stream, _) = proven(brief()).await;
        stream.write_all(act).await.unwrap();
        match end(&mut supervisor).await {
            Error::Slow { setting, .. } => setting,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ended_by(b"").await, "idle_timeout_ms");
    assert_eq!(ended_by(b"\0").await, "frame_timeout_ms");
    assert_eq!(ended_by(b"\0\0\x01\0{\"a").await, "frame_timeout_ms");
}

#[tokio::test]
async fn a_peer_that_does_not_read_ends_its_own_connection_only() {
    let (mut listener, mut supervisor, stream, _) =
        proven(ChannelSettings { idle_timeout_ms: 60_000, ..brief() }).await;
    for number in 0..200 {
        supervisor
            .send(message(MessageKind::Signal, &number.to_string(), json!({ "body": "x".repeat(50_000) })))
            .unwrap();
    }
    // Another worker's connection goes on beside it.
    let beside = ControlPlaneChannel::new(key("first"), &brief()).unwrap();
    let worker = Connection::connect(listener.address(), "w-1", &beside, &brief()).await.unwrap();
    worker.send(message(MessageKind::Ready, "beside", json!({}))).unwrap();
    let mut other = listener.accept().await.unwrap();
    assert_eq!(received(&mut other).await.correlation_id, "beside");
    let why = end(&mut supervisor).await;
    assert!(matches!(why, Error::Slow { setting: "write_timeout_ms", .. }), "{why:?}");
    drop(stream);
}

#[tokio::test]
async fn a_peer_that_goes_away_is_seen_to_be_gone() {
    for said in [&b""[..], b"\0\0", b"\0\0\x01\0{\"a"] {
        let (_listener, mut supervisor, mut stream, _) = proven(brief()).await;
        stream.write_all(said).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(matches!(end(&mut supervisor).await, Error::Closed), "{said:?}");
    }
}

#[tokio::test]
async fn the_silent_make_room_for_who_speaks() {
    let settings =
        ChannelSettings { handshakes_max: 4, handshake_timeout_ms: 60_000, ..ChannelSettings::default() };
    let mut listener = listen(settings);
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(listener.address()).await.unwrap());
    }
    let mut worker = TcpStream::connect(listener.address()).await.unwrap();
    worker.write_all(&hello(&pen())).await.unwrap();
    let mut supervisor = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_eq!(received(&mut supervisor).await.correlation_id, "hello");
    assert_eq!(listener.refused()["evicted"], 61);
}

#[tokio::test]
async fn connections_are_counted_and_given_back() {
    let ring = KeyRing::new(|_| Some(key("first")));
    let mut listener = Listener::bind(ChannelSettings { connections_max: 1, ..brief() }, ring).unwrap();
    for round in 1..=3_u64 {
        let mut worker = TcpStream::connect(listener.address()).await.unwrap();
        worker.write_all(&hello(&pen())).await.unwrap();
        let supervisor = listener.accept().await.unwrap();
        let keeps_no_place = supervisor.sender();
        assert_eq!(answer(listener.address(), &hello(&pen())).await, REJECTED);
        assert_eq!(listener.refused()["connections-full"], round);
        supervisor.close().await.unwrap();
        assert!(matches!(
            keeps_no_place.send(message(MessageKind::Stop, "c", json!({}))),
            Err(Error::Finished)
        ));
    }
}
