//! Any bytes as a frame, and any JSON as what a frame carries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use swarmgate::contract::control::{
    BootstrapKeyBundle, ControlMessage, Frame, MessageKind, Nonce, SigningKey, Window, frame::BODY_BYTES_MAX,
};

const NOW: i64 = 1_767_225_600;

fuzz_target!(|data: &[u8]| {
    let key = SigningKey::new(b"the key of this target".to_vec()).expect("a key");
    let decode = |bytes: &[u8]| Frame::decode(bytes, &key, BODY_BYTES_MAX, NOW, &mut Window::new(30, 16));
    // Nobody signs, so nothing may pass: neither as it is nor behind a length that fits.
    assert!(decode(data).is_err());
    let mut framed = (data.len() as u32).to_be_bytes().to_vec();
    framed.extend_from_slice(data);
    assert!(decode(&framed).is_err());

    let Some((first, rest)) = data.split_first() else { return };
    let Ok(Value::Object(payload)) = serde_json::from_slice::<Value>(rest) else { return };
    if let Ok(bundle) = BootstrapKeyBundle::from_payload(&payload) {
        assert_eq!(BootstrapKeyBundle::from_payload(&bundle.to_payload()).as_ref(), Ok(&bundle));
    }
    // Whatever can be said is heard as it was said.
    let text = |name: &str| payload.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind = MessageKind::ALL[usize::from(*first) % MessageKind::ALL.len()];
    let correlation_id = text("correlation_id").unwrap_or_else(|| "c".to_owned());
    let Ok(message) = ControlMessage::new(kind, correlation_id, text("worker_id"), payload.clone()) else {
        return;
    };
    let frame = Frame {
        trace_id: text("trace_id"),
        reply_to: text("reply_to"),
        headers: payload.get("headers").and_then(Value::as_object).cloned().unwrap_or_else(Map::new),
        ..Frame::new(message, NOW, Nonce([*first; 16]))
    };
    if let Ok(mut bytes) = frame.encode(&key, BODY_BYTES_MAX) {
        assert_eq!(decode(&bytes).as_ref(), Ok(&frame));
        let bit = usize::from(*first) * 31 % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&bytes).is_err());
    }
});
