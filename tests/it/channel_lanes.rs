//! Control before data before telemetry, both ways, whatever floods the channel: shown by order,
//! not by time.

use serde_json::json;
use swarmgate::{
    channel::{ChannelSettings, Connection, ControlPlaneChannel, Dropped, Error, Sent},
    contract::control::{ControlMessage, MessageKind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::channel::{PATIENCE, end, key, listen, message, received};

/// What the system may hold at the bare side, in bytes; it takes twice that.
const SOCKET_BUFFER_BYTES: u32 = 64 * 1024;

#[derive(Clone, Copy, Debug)]
enum Side {
    Supervisor,
    Worker,
}

const SIDES: [Side; 2] = [Side::Supervisor, Side::Worker];

/// A connection, the bare socket at its other side, and the pen for that side's frames.
struct Ends {
    connection: Connection,
    bare: TcpStream,
    pen: ControlPlaneChannel,
}

impl Ends {
    /// The connection is the one of `side`.
    async fn of(side: Side, settings: &ChannelSettings) -> Self {
        let pen = ControlPlaneChannel::new(key("first"), settings).expect("a channel");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES).expect("set up");
        match side {
            Side::Supervisor => {
                let mut listener = listen(settings.clone());
                let mut bare = socket.connect(listener.address()).await.expect("connected");
                let hello =
                    pen.encode(&message(MessageKind::Heartbeat, "hello", json!({}))).expect("a frame");
                bare.write_all(&hello).await.expect("written");
                let mut connection = listener.accept().await.expect("accepted");
                assert_eq!(received(&mut connection).await.correlation_id, "hello");
                Self { connection, bare, pen }
            }
            Side::Worker => {
                socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
                let listening = socket.listen(1).expect("listening");
                let address = listening.local_addr().expect("an address");
                let own = ControlPlaneChannel::new(key("first"), settings).expect("a channel");
                let connection =
                    Connection::connect(address, "w-1", &own, settings).await.expect("connected");
                Self { connection, bare: listening.accept().await.expect("accepted").0, pen }
            }
        }
    }

    /// Writes a message by hand.
    async fn write(&mut self, message: &ControlMessage) {
        let frame = self.pen.encode(message).expect("a frame");
        timeout(PATIENCE, self.bare.write_all(&frame)).await.expect("in time").expect("written");
    }

    /// Reads a message by hand.
    async fn read(&mut self) -> ControlMessage {
        let mut frame = vec![0; 4];
        timeout(PATIENCE, self.bare.read_exact(&mut frame)).await.expect("in time").expect("a length");
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        frame.resize(4 + length, 0);
        timeout(PATIENCE, self.bare.read_exact(&mut frame[4..])).await.expect("in time").expect("a body");
        self.pen.decode(&frame).expect("a message")
    }
}

fn status(number: usize) -> ControlMessage {
    let data = json!({ "type": "status-delta", "data": { "number": number, "fill": "x".repeat(500) } });
    message(MessageKind::Status, &number.to_string(), data)
}

#[tokio::test]
async fn what_waits_goes_out_by_lane() {
    for side in SIDES {
        let mut ends = Ends::of(side, &ChannelSettings::default()).await;
        // Nothing is awaited in between, so the writer finds all of them waiting.
        for (number, kind) in [
            MessageKind::Status,
            MessageKind::Outcome,
            MessageKind::Stop,
            MessageKind::Status,
            MessageKind::Signal,
            MessageKind::Ready,
        ]
        .into_iter()
        .enumerate()
        {
            let sent = ends.connection.send(message(kind, &number.to_string(), json!({})));
            assert_eq!(sent.unwrap(), Sent::Queued);
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            order.push(ends.read().await.correlation_id);
        }
        assert_eq!(order, ["2", "5", "1", "4", "0", "3"], "{side:?}");
    }
}

/// A flood that nobody takes, and then a stop: it comes out first.
#[tokio::test]
async fn a_flood_that_came_does_not_stand_before_a_stop() {
    const FLOOD: usize = 1_500;
    for side in SIDES {
        let settings = ChannelSettings { telemetry_len_max: 100, ..ChannelSettings::default() };
        let mut ends = Ends::of(side, &settings).await;
        for number in 0..FLOOD {
            ends.write(&status(number)).await;
        }
        ends.write(&message(MessageKind::Signal, "signal", json!({}))).await;
        ends.write(&message(MessageKind::Stop, "stop", json!({}))).await;
        ends.write(&status(FLOOD)).await;
        // Once the last one is counted, the stop before it has come.
        let all = Dropped { outgoing: 0, incoming: FLOOD as u64 + 1 - 100 };
        let counted = async {
            while ends.connection.dropped() != all {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect("all was read");
        assert_eq!(received(&mut ends.connection).await.correlation_id, "stop", "{side:?}");
        assert_eq!(received(&mut ends.connection).await.correlation_id, "signal", "{side:?}");
        for number in 0..100 {
            assert_eq!(received(&mut ends.connection).await.correlation_id, number.to_string());
        }
    }
}

/// A flood that the other side does not take, and then a stop: only what the system holds already
/// is before it.
#[tokio::test]
async fn a_flood_that_goes_out_does_not_stand_before_a_stop() {
    const FLOOD: usize = 3_000;
    for side in SIDES {
        let settings = ChannelSettings { write_timeout_ms: 60_000, ..ChannelSettings::default() };
        let mut ends = Ends::of(side, &settings).await;
        let mut dropped = 0;
        for number in 0..FLOOD {
            dropped += u64::from(ends.connection.send(status(number)).unwrap() == Sent::Dropped);
            if number % 100 == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        assert!(dropped > 500, "{dropped}");
        assert_eq!(ends.connection.dropped(), Dropped { outgoing: dropped, incoming: 0 });
        ends.connection.send(message(MessageKind::Stop, "stop", json!({}))).unwrap();
        let mut ahead = 0;
        while ends.read().await.kind != MessageKind::Stop {
            ahead += 1;
        }
        let frame_bytes = ends.pen.encode(&status(0)).unwrap().len();
        // The system takes twice what is asked for, and counts its own way: neither bound is exact.
        let held_max = 4 * (SOCKET_BUFFER_BYTES + settings.socket_buffer_bytes) as usize / frame_bytes + 2;
        assert!(ahead <= held_max, "{side:?}: {ahead} frames before the stop, the system holds {held_max}");
        // The queue itself was overtaken: it is all behind the stop.
        for _ in 0..settings.telemetry_len_max {
            assert_eq!(ends.read().await.kind, MessageKind::Status);
        }
    }
}

#[tokio::test]
async fn telemetry_beyond_its_share_of_the_window_is_lost_and_nothing_else() {
    let settings = ChannelSettings { nonce_cache_size: 64, ..ChannelSettings::default() };
    for side in SIDES {
        let mut ends = Ends::of(side, &settings).await;
        for number in 0..200 {
            ends.write(&status(number)).await;
        }
        ends.write(&message(MessageKind::Outcome, "outcome", json!({}))).await;
        ends.write(&message(MessageKind::Stop, "stop", json!({}))).await;
        let mut statuses = 0;
        let mut others = Vec::new();
        while others.len() < 2 || statuses + ends.connection.dropped().incoming < 200 {
            match received(&mut ends.connection).await {
                ControlMessage { kind: MessageKind::Status, .. } => statuses += 1,
                other => others.push(other.correlation_id),
            }
        }
        others.sort();
        assert_eq!(others, ["outcome", "stop"], "{side:?}");
        // The hello of a worker has a place as well.
        assert!((31..=32).contains(&statuses), "{side:?}: {statuses}");
    }
}

#[tokio::test]
async fn data_is_never_lost_in_silence() {
    for side in SIDES {
        let settings = ChannelSettings { data_len_max: 4, ..ChannelSettings::default() };
        let mut ends = Ends::of(side, &settings).await;
        let mut sent = Vec::new();
        for number in 0..6 {
            sent.push(
                ends.connection.send(message(MessageKind::Signal, &number.to_string(), json!({}))).is_ok(),
            );
        }
        assert_eq!(sent, [true, true, true, true, false, false], "{side:?}");
        assert!(matches!(
            ends.connection.send(message(MessageKind::Signal, "6", json!({}))),
            Err(Error::Full { .. })
        ));
        for number in 0..6 {
            ends.write(&message(MessageKind::Signal, &number.to_string(), json!({}))).await;
        }
        // Nobody takes: what came first is handed out, then the end is said.
        let sender = ends.connection.sender();
        timeout(PATIENCE, sender.ended()).await.expect("an end");
        for number in 0..4 {
            assert_eq!(received(&mut ends.connection).await.correlation_id, number.to_string(), "{side:?}");
        }
        let why = end(&mut ends.connection).await;
        assert!(matches!(why, Error::Overrun { .. }), "{side:?}: {why:?}");
    }
}
