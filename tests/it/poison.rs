//! Messages that no client library would send and that RabbitMQ carries all the same: each must
//! arrive at the router as something that it refuses, and the message behind it as itself.

mod on_rabbitmq {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        sync::Arc,
        time::Duration,
    };

    use swarmgate::{
        bus::{Bus, Delivery, Exchange, ExchangeKind, Queue, QueueKind, Topology},
        contract::routing::ControlPlaneRouting,
    };

    use crate::broker::{Broker, Vhost};

    const DEADLINE: Duration = Duration::from_secs(20);
    const GOOD_KEY: &[u8] = b"signal.stop.s.r.i";

    #[tokio::test(flavor = "multi_thread")]
    async fn no_message_ends_the_connection_or_the_process() {
        let vhost = Arc::new(Broker::shared()).vhost("poison");
        let bus = vhost.connect().await;
        let topology = Topology {
            exchanges: vec![Exchange { name: "in".to_owned(), kind: ExchangeKind::Topic, alternate: None }],
            queues: vec![Queue {
                name: "in".to_owned(),
                kind: QueueKind::Quorum,
                bindings: vec![("in".to_owned(), "#".to_owned())],
            }],
        };
        bus.declare(&topology).await.expect("a topology");
        let mut consumer = bus.consumer("in", 100).await.expect("a consumer");
        let mut sender = Sender::connect(&vhost);
        let odd: [(&[u8], Vec<u8>); 6] = [
            (b"signal.\xff\xfe.s.r.i", vec![]),
            (GOOD_KEY, b"\x80\x00\x02\xff\xfe".to_vec()),
            (GOOD_KEY, headers(b"\x02\xff\xfeV")),
            (GOOD_KEY, nested(17)),
            (GOOD_KEY, nested(2_000)),
            (GOOD_KEY, nested(20_000)),
        ];
        for (key, properties) in odd {
            sender.publish(key, &properties);
            sender.publish(GOOD_KEY, b"");
            let mut came: Vec<Delivery> = Vec::new();
            while came.len() < 2 {
                let next =
                    tokio::time::timeout(DEADLINE, consumer.next(10)).await.expect("deliveries in time");
                came.extend(next.expect("the connection stands"));
            }
            let message = &came[0].message;
            let shown = (key, &properties[..properties.len().min(40)]);
            if key == GOOD_KEY {
                assert_eq!(message.properties.content_encoding.as_deref(), Some("unreadable"), "{shown:?}");
            } else {
                assert!(ControlPlaneRouting::parse(&message.routing_key).is_err(), "{shown:?}");
            }
            assert_eq!(&message.body[..], b"{}", "{shown:?}");
            let message = &came[1].message;
            assert_eq!(message.routing_key.as_bytes(), GOOD_KEY, "{shown:?}");
            assert_eq!(message.properties, Default::default(), "{shown:?}");
            consumer.settler().ack(came[1].tag, true).await.expect("an acknowledgement");
        }
        bus.close().await;
    }

    /// Properties that are nothing but that table of headers.
    fn headers(table: &[u8]) -> Vec<u8> {
        [b"\x20\x00", &long(table)[..]].concat()
    }

    /// A header of arrays in arrays.
    fn nested(depth: usize) -> Vec<u8> {
        let value = (0..depth).fold(b"V".to_vec(), |value, _| [b"A", &long(&value)[..]].concat());
        headers(&[b"\x01h", &value[..]].concat())
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("a length").to_be_bytes();
        [&length[..], bytes].concat()
    }

    fn short(bytes: &[u8]) -> Vec<u8> {
        [&[u8::try_from(bytes.len()).expect("a length")][..], bytes].concat()
    }

    /// An AMQP publisher that writes its frames by hand.
    struct Sender(TcpStream);

    impl Sender {
        fn connect(vhost: &Vhost) -> Self {
            let mut stream = TcpStream::connect(vhost.broker.socket_address()).expect("the broker");
            stream.set_read_timeout(Some(DEADLINE)).expect("a time limit");
            stream.write_all(b"AMQP\x00\x00\x09\x01").expect("a greeting");
            let mut sender = Self(stream);
            sender.answer();
            let start_ok = [&long(b"")[..], &short(b"PLAIN"), &long(b"\0guest\0guest"), &short(b"en_US")];
            sender.method(0, (10, 11), &start_ok.concat());
            sender.answer();
            sender.method(0, (10, 31), b"\x07\xff\x00\x02\x00\x00\x00\x00");
            sender.method(0, (10, 40), &[&short(vhost.name.as_bytes())[..], b"\0\0"].concat());
            sender.answer();
            sender.method(1, (20, 10), b"\0");
            sender.answer();
            sender
        }

        fn publish(&mut self, key: &[u8], properties: &[u8]) {
            self.method(1, (60, 40), &[b"\0\0", &short(b"in")[..], &short(key), b"\0"].concat());
            let none = b"\0\0".as_slice();
            let properties = if properties.is_empty() { none } else { properties };
            let header = [b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02", properties].concat();
            self.frame(2, 1, &header);
            self.frame(3, 1, b"{}");
        }

        fn method(&mut self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) {
            let payload = [&u16::to_be_bytes(class)[..], &u16::to_be_bytes(method), arguments].concat();
            self.frame(1, channel, &payload);
        }

        fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
            let frame = [&[kind][..], &channel.to_be_bytes(), &long(payload), b"\xce"].concat();
            self.0.write_all(&frame).expect("a frame");
        }

        /// Reads one frame, whatever it says.
        fn answer(&mut self) {
            let mut header = [0; 7];
            self.0.read_exact(&mut header).expect("an answer");
            let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
            let mut rest = vec![0; usize::try_from(size).expect("a size") + 1];
            self.0.read_exact(&mut rest).expect("an answer");
        }
    }
}
