//! Frames against the published vectors, and one by one what is refused.

use serde_json::json;

use super::*;
use crate::contract::{control::Lane, digest::Digest};

const NOW: i64 = 1_767_225_600;

fn key() -> SigningKey {
    SigningKey::new(b"signalbox-test-secret".to_vec()).unwrap()
}

fn window() -> Window {
    Window::new(30, 100)
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("not an object") };
    map
}

/// The frame of the vectors.
fn frame() -> Frame {
    let payload = object(json!({ "note": "Zażółć ☃" }));
    let message = ControlMessage::new(MessageKind::Ready, "c-1", Some("w-1".into()), payload).unwrap();
    let nonce = Nonce::from_hex("00112233445566778899aabbccddeeff").unwrap();
    Frame::new(message, NOW, nonce)
}

/// A whole frame of `fields`, whose signature is made here where `signed`.
fn raw(mut fields: Map<String, Value>, signed: bool) -> Vec<u8> {
    if signed {
        fields.remove("sig");
        let sig = key().sign(signing::object(&fields, Fractions::Written).unwrap().as_bytes());
        fields.insert("sig".to_owned(), sig.into());
    }
    with_length(Value::Object(fields).to_string().as_bytes())
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Frame, ControlFault> {
    Frame::decode(bytes, &key(), BODY_BYTES_MAX, NOW, &mut window())
}

/// The fields of the vector's frame, to be bent.
fn fields() -> Map<String, Value> {
    let bytes = frame().encode(&key(), BODY_BYTES_MAX).unwrap();
    serde_json::from_slice(&bytes[PREFIX_BYTES..]).unwrap()
}

#[test]
fn the_vectors_hold_byte_for_byte() {
    let bytes = frame().encode(&key(), BODY_BYTES_MAX).unwrap();
    let fields = fields();
    let inner = BASE64_STANDARD.decode(fields["payload_b64"].as_str().unwrap()).unwrap();
    let expected = r#"{"correlation_id":"c-1","payload":{"note":"Za\u017c\u00f3\u0142\u0107 \u2603"},"worker_id":"w-1"}"#;
    assert_eq!(String::from_utf8(inner).unwrap(), expected);
    assert_eq!(fields["sig"], "2e7b98092249275adb2d1116956b31d67cdfda14718257fffb805848a445f11c");
    assert_eq!((&bytes[..4], bytes.len()), (&[0, 0, 1, 109][..], 4 + 365));
    let whole = "56530947f4ae76fbb96f913350983e60d29f18b51f3d9e3b09638b03772e8c49";
    assert_eq!(Digest::of(&bytes).to_string(), whole);

    let with_headers = Frame { headers: object(json!({ "team": "żubr" })), ..frame() };
    let bytes = with_headers.encode(&key(), BODY_BYTES_MAX).unwrap();
    let fields: Value = serde_json::from_slice(&bytes[PREFIX_BYTES..]).unwrap();
    assert_eq!(fields["sig"], "1bd7284c826af7648a2b167807d47089c0ef5702cfbea4ef63e265739f57c54f");
    assert_eq!(decode(&bytes).unwrap(), with_headers);
}

/// P5PRE-CTRL-01, the codec's part: every kind comes back as it went, its acknowledgement too.
#[test]
fn every_kind_comes_back_as_it_went() {
    for kind in MessageKind::ALL {
        let payload = object(json!({ "a": [1.5, null, { "b": "\u{1f600}" }], "n": -1 }));
        for worker_id in [None, Some("w-1".to_owned())] {
            let message = ControlMessage::new(kind, "c-1", worker_id, payload.clone()).unwrap();
            for message in [message.ack(), message] {
                let sent = Frame {
                    trace_id: Some("t".into()),
                    reply_to: Some("r".into()),
                    headers: object(json!({ "h": { "z": 1, "a": [true] } })),
                    ..Frame::new(message, NOW, Nonce([7; 16]))
                };
                let bytes = sent.encode(&key(), BODY_BYTES_MAX).unwrap();
                assert_eq!(decode(&bytes).unwrap(), sent);
            }
        }
    }
}

/// P5PRE-CTRL-03: each category by name, and in its order.
#[test]
fn each_lack_has_its_category() {
    let with = |field: &str, value: Value| {
        let mut fields = fields();
        fields.insert(field.to_owned(), value);
        fields
    };
    let without = |field: &str| {
        let mut fields = fields();
        fields.remove(field);
        fields
    };
    let inner = |value: Value| json!(BASE64_STANDARD.encode(value.to_string()));
    let message = |extra: Value| {
        let mut message = json!({ "correlation_id": "c", "payload": {}, "worker_id": "w-1" });
        message.as_object_mut().unwrap().append(extra.as_object().cloned().as_mut().unwrap());
        inner(message)
    };
    // Signed throughout, so that the signature is not what is at fault.
    let signed = [
        (with("kind", json!("control.reboot")), "unsupported-kind"),
        (with("kind", json!(1)), "malformed-frame"),
        (with("ts", json!(true)), "malformed-frame"),
        (with("ts", json!(1_767_225_600.0)), "malformed-frame"),
        (with("ts", json!("1767225600")), "malformed-frame"),
        (with("ts", json!(NOW - 31)), "timestamp-expired"),
        (with("ts", json!(NOW + 31)), "timestamp-expired"),
        (with("nonce", json!("00112233445566778899aabbccddeef")), "malformed-frame"),
        (with("nonce", json!("00112233445566778899aabbccddeefg")), "malformed-frame"),
        (with("nonce", json!("+0112233445566778899aabbccddeeff")), "malformed-frame"),
        (with("target", json!("w-2")), "malformed-frame"),
        (with("target", json!("")), "malformed-frame"),
        (with("target", json!(["w-1"])), "malformed-frame"),
        (without("target"), "malformed-frame"),
        (with("headers", json!(null)), "malformed-frame"),
        (with("headers", json!({ "x": 1.5 })), "malformed-frame"),
        (with("trace_id", json!(1)), "malformed-frame"),
        (without("reply_to"), "malformed-frame"),
        (with("more", json!(1)), "malformed-frame"),
        (with("payload_b64", json!("e30")), "malformed-frame"),
        (with("payload_b64", inner(json!([]))), "malformed-frame"),
        (with("payload_b64", message(json!({ "correlation_id": "" }))), "malformed-frame"),
        (with("payload_b64", message(json!({ "correlation_id": null }))), "malformed-frame"),
        (with("payload_b64", message(json!({ "payload": [] }))), "malformed-frame"),
        (with("payload_b64", message(json!({ "worker_id": "w-2" }))), "malformed-frame"),
        (with("payload_b64", message(json!({ "more": 1 }))), "malformed-frame"),
        (
            with("payload_b64", json!(BASE64_STANDARD.encode(r#"{"payload":{},"payload":{}}"#))),
            "malformed-frame",
        ),
    ];
    for (fields, word) in signed {
        let bytes = raw(fields.clone(), true);
        assert_eq!(decode(&bytes).unwrap_err().word(), word, "{fields:?}");
        // Without a signature of this key, all of that is unheard of.
        if fields.get("ts").is_none_or(|ts| !ts.is_f64()) && fields["headers"].get("x").is_none() {
            assert_eq!(decode(&raw(fields, false)).unwrap_err(), ControlFault::InvalidSignature);
        }
    }
}

/// P5PRE-CTRL-03: what is no signature is missing or invalid.
#[test]
fn a_signature_is_missing_or_invalid() {
    let with = |value: Value| {
        let mut fields = fields();
        fields.insert("sig".to_owned(), value);
        fields
    };
    let mut without = fields();
    without.remove("sig");
    let unsigned = [
        (without, ControlFault::MissingSignature),
        (with(json!(null)), ControlFault::MissingSignature),
        (with(json!("")), ControlFault::MissingSignature),
        (with(json!(1)), ControlFault::InvalidSignature),
        (with(json!("00".repeat(32))), ControlFault::InvalidSignature),
        (with(json!(fields()["sig"].as_str().unwrap().to_uppercase())), ControlFault::InvalidSignature),
        (with(json!(&fields()["sig"].as_str().unwrap()[..62])), ControlFault::InvalidSignature),
    ];
    for (fields, fault) in unsigned {
        assert_eq!(decode(&raw(fields.clone(), false)).unwrap_err(), fault, "{fields:?}");
    }
}

#[test]
fn what_is_no_frame_is_malformed() {
    let good = frame().encode(&key(), BODY_BYTES_MAX).unwrap();
    let body = String::from_utf8(good[PREFIX_BYTES..].to_vec()).unwrap();
    let bodies: [&[u8]; 9] = [
        b"{}x",
        b"[]",
        b"null",
        b"\xff\xff",
        b"{\"sig\":\"a\",\"sig\":\"b\"}",
        b"{\"a\":\"\x01\"}",
        &[b'['; 400],
        &good[PREFIX_BYTES..good.len() - 1],
        b"{\t}",
    ];
    for body in bodies {
        assert_eq!(decode(&with_length(body)).unwrap_err().word(), "malformed-frame", "{body:?}");
    }
    assert_eq!(decode(&with_length(b"{}")).unwrap_err(), ControlFault::MissingSignature);
    for bytes in
        [&good[..3], &good[..4], &good[..good.len() - 1], b"", b"\0\0\0\0", &[&good[..], b"x"].concat()]
    {
        assert_eq!(decode(bytes).unwrap_err().word(), "malformed-frame", "{}", bytes.len());
    }
    // Another order and spaces are the same fields; an escape in upper case has a twin one bit
    // away.
    let mut turned = body.replacen("\"headers\":{},", "", 1).replacen('}', ", \"headers\": {}}", 1);
    assert!(decode(&with_length(turned.as_bytes())).is_ok(), "{turned}");
    turned.push('\n');
    assert!(decode(&with_length(turned.as_bytes())).is_err());
    let accented =
        Frame { trace_id: Some("ż\\u017C".into()), ..frame() }.encode(&key(), BODY_BYTES_MAX).unwrap();
    assert!(decode(&accented).is_ok(), "a backslash that is text is no escape");
    let text = String::from_utf8(accented[PREFIX_BYTES..].to_vec()).unwrap();
    let upper = text.replacen("\\u017c", "\\u017C", 1);
    assert_ne!(upper, text);
    assert_eq!(decode(&with_length(upper.as_bytes())).unwrap_err().word(), "malformed-frame");
}

#[test]
fn size_is_found_before_anything_is_read() {
    let good = frame().encode(&key(), 365).unwrap();
    let too_large = ControlFault::PayloadTooLarge { bytes: 365, bytes_max: 364 };
    assert_eq!(frame().encode(&key(), 364).unwrap_err(), too_large);
    assert!(Frame::decode(&good, &key(), 365, NOW, &mut window()).is_ok());
    // The prefix alone is enough, and what follows it may be anything.
    assert_eq!(Frame::decode(&good[..4], &key(), 364, NOW, &mut window()).unwrap_err(), too_large);
    assert_eq!(body_length([0xff; 4], usize::MAX).ok(), Some(0xffff_ffff));
    assert_eq!(body_length([0xff; 4], 1024).unwrap_err().word(), "payload-too-large");
}

/// P5PRE-CTRL-03: a frame counts once, however it comes again.
#[test]
fn a_frame_is_admitted_once() {
    let bytes = frame().encode(&key(), BODY_BYTES_MAX).unwrap();
    let mut window = window();
    let mut again =
        |now| Frame::decode(&bytes, &key(), BODY_BYTES_MAX, now, &mut window).map(|frame| frame.nonce);
    assert_eq!(again(NOW - 30), Ok(frame().nonce));
    for now in NOW - 30..=NOW + 30 {
        assert_eq!(again(now), Err(ControlFault::ReplayedNonce), "{now}");
    }
    assert_eq!(again(NOW + 31), Err(ControlFault::TimestampExpired { off_seconds: 31 }));
    // What does not verify takes no place.
    let mut forged = bytes.to_vec();
    *forged.last_mut().unwrap() = b' ';
    assert!(Frame::decode(&forged, &key(), BODY_BYTES_MAX, NOW, &mut window).is_err());
    let mut small = Window::new(30, 1);
    let other = SigningKey::new(b"another".to_vec()).unwrap();
    assert!(Frame::decode(&bytes, &other, BODY_BYTES_MAX, NOW, &mut small).is_err());
    assert!(small.is_empty() && small.admit(Nonce([0; 16]), NOW, NOW, Lane::Control).is_ok());
}

#[test]
fn one_of_several_keys_fits() {
    let bytes = frame().encode(&key(), BODY_BYTES_MAX).unwrap();
    let other = SigningKey::new(b"another".to_vec()).unwrap();
    let open = |keys: &[&SigningKey]| {
        Sealed::read(&bytes[PREFIX_BYTES..], BODY_BYTES_MAX).unwrap().open(keys).map(|opened| opened.key)
    };
    assert_eq!(open(&[&other, &key()]), Ok(1));
    assert_eq!(open(&[&key(), &other]), Ok(0));
    assert_eq!(open(&[&other]), Err(ControlFault::InvalidSignature));
    assert_eq!(open(&[]), Err(ControlFault::InvalidSignature));
}

#[test]
fn what_a_reader_would_refuse_is_not_written() {
    let bent = [
        Frame { target: Some("w-2".into()), ..frame() },
        Frame { target: Some(String::new()), ..frame() },
        Frame { trace_id: Some("t".repeat(256)), ..frame() },
        Frame { headers: object(json!({ "x": 0.5 })), ..frame() },
        Frame { ts: i64::MIN, ..frame() },
        Frame { message: ControlMessage { correlation_id: String::new(), ..frame().message }, ..frame() },
    ];
    for frame in bent {
        assert_eq!(frame.encode(&key(), BODY_BYTES_MAX).unwrap_err().word(), "malformed-frame", "{frame:?}");
        assert!(frame.signing_bytes().is_err());
    }
    assert!(Frame { ts: i64::from(u32::MAX), ..frame() }.encode(&key(), BODY_BYTES_MAX).is_ok());
}
