//! Frames that were changed, come again, or come at another time: P5PRE-CTRL-03 through the
//! channel.

use std::sync::atomic::Ordering;

use serde_json::json;
use swarmgate::{
    channel::{ChannelSettings, ControlPlaneChannel},
    contract::control::{ControlFault, Frame, MessageKind, Nonce, Window, frame::BODY_BYTES_MAX},
};

use crate::channel::{NOW, channel, clock, key, message};

/// Fifty frames, no two alike: every kind, names and headers with escapes, payloads of many
/// lengths.
fn frames() -> Vec<Frame> {
    let texts = ["", "plain", "Zażółć ☃", "\u{1f600}\u{7f}\n\"\\", "ÿÿÿ"];
    (0..50_u8)
        .map(|number| {
            let kind = MessageKind::ALL[usize::from(number) % MessageKind::ALL.len()];
            let text = texts[usize::from(number) % texts.len()];
            let payload =
                json!({ "note": text.repeat(3), "fill": "x".repeat(usize::from(number) * 2), "n": number });
            let mut frame =
                Frame::new(message(kind, &format!("c-{number}"), payload), NOW, Nonce([number; 16]));
            if !text.is_empty() {
                frame.trace_id = Some(format!("t{text}"));
                frame.headers.insert(text.to_owned(), json!({ "é": [1, true, null, text] }));
            }
            frame
        })
        .collect()
}

/// Every single-bit flip of one of the frames is refused; answers how many there were.
fn flips(frames: &[Frame]) -> usize {
    let key = key("signalbox-test-secret");
    let mut flipped = 0;
    for frame in frames {
        let mut bytes = frame.encode(&key, BODY_BYTES_MAX).expect("a frame").to_vec();
        let mut window = Window::new(30, 10);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let decoded = Frame::decode(&bytes, &key, BODY_BYTES_MAX, NOW, &mut window);
            assert!(decoded.is_err(), "bit {bit} of {frame:?}");
            bytes[bit / 8] ^= 1 << (bit % 8);
            flipped += 1;
        }
        assert!(window.is_empty(), "what was refused took a place");
        assert_eq!(Frame::decode(&bytes, &key, BODY_BYTES_MAX, NOW, &mut window).as_ref(), Ok(frame));
    }
    flipped
}

/// P5PRE-CTRL-03: in four parts, so that they run side by side.
mod every_flip_is_refused {
    use super::*;

    const FLIPS_MIN: usize = 200_000;

    fn part(number: usize) {
        let frames = frames();
        assert_eq!(frames.len(), 50);
        let key = key("any");
        let bits: usize =
            frames.iter().map(|frame| frame.encode(&key, BODY_BYTES_MAX).expect("a frame").len() * 8).sum();
        assert!(bits >= FLIPS_MIN, "{bits}");
        let own: Vec<Frame> = frames.into_iter().skip(number).step_by(4).collect();
        assert!(flips(&own) >= FLIPS_MIN / 5);
    }

    #[test]
    fn first() {
        part(0);
    }

    #[test]
    fn second() {
        part(1);
    }

    #[test]
    fn third() {
        part(2);
    }

    #[test]
    fn fourth() {
        part(3);
    }
}

/// A frame whose text a peer wrote in its own way is bent at every bit as well.
#[test]
fn a_frame_in_another_order_is_refused_bent_too() {
    let key = key("signalbox-test-secret");
    let frame = frames().swap_remove(3);
    let written = frame.encode(&key, BODY_BYTES_MAX).unwrap();
    let fields: serde_json::Value = serde_json::from_slice(&written[4..]).unwrap();
    let members = fields.as_object().unwrap().iter().rev();
    // Other spaces, other order, and text as UTF-8 where the channel would escape it.
    let text: Vec<String> = members.map(|(name, value)| format!("\"{name}\" : {value}")).collect();
    let body = format!("{{ {} }}", text.join(", ")).replace('\u{7f}', "\\u007f");
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body.as_bytes());
    let decode = |bytes: &[u8]| Frame::decode(bytes, &key, BODY_BYTES_MAX, NOW, &mut Window::new(30, 10));
    assert_eq!(decode(&bytes), Ok(frame));
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// P5PRE-CTRL-03, time: both edges to the second, at the sender's and at the receiver's clock.
#[test]
fn the_edges_of_the_time_to_live() {
    for (off, fits) in [(-31, false), (-30, true), (-1, true), (0, true), (1, true), (30, true), (31, false)]
    {
        let (_, ahead) = clock(NOW + off);
        let frame =
            channel("s").with_clock(ahead).encode(&message(MessageKind::Ready, "c", json!({}))).unwrap();
        let decoded = channel("s").decode(&frame);
        assert_eq!(decoded.is_ok(), fits, "{off}");
        if !fits {
            assert_eq!(decoded.unwrap_err(), ControlFault::TimestampExpired { off_seconds: 31 });
        }
    }
    let settings = ChannelSettings { ttl_seconds: 1, ..ChannelSettings::default() };
    let short = |now| ControlPlaneChannel::new(key("s"), &settings).unwrap().with_clock(clock(now).1);
    let frame = short(NOW).encode(&message(MessageKind::Ready, "c", json!({}))).unwrap();
    assert!(short(NOW + 1).decode(&frame).is_ok());
    assert_eq!(short(NOW + 2).decode(&frame).unwrap_err().word(), "timestamp-expired");
}

/// P5PRE-CTRL-03, replay: before and after the receiver's restart.
#[test]
fn replays_before_and_after_a_restart() {
    let sender = channel("s");
    let frame = sender.encode(&message(MessageKind::Stop, "c", json!({}))).unwrap();
    let (second, now) = clock(NOW);
    let first_life = channel("s").with_clock(now.clone());
    assert!(first_life.decode(&frame).is_ok());
    assert_eq!(first_life.decode(&frame).unwrap_err(), ControlFault::ReplayedNonce);
    // A clone is the same channel, as a connection that comes after another has.
    assert_eq!(first_life.clone().decode(&frame).unwrap_err(), ControlFault::ReplayedNonce);
    for later in 0..=40 {
        second.store(NOW + later, Ordering::Relaxed);
        let next_life = channel("s").with_clock(now.clone()).since(NOW + later);
        assert_eq!(next_life.decode(&frame).unwrap_err().word(), "timestamp-expired", "{later}");
        assert!(first_life.decode(&frame).is_err());
    }
    let next_life = channel("s").with_clock(now).since(NOW + 40);
    let fresh = channel("s").with_clock(clock(NOW + 41).1);
    let frame = fresh.encode(&message(MessageKind::Stop, "c", json!({}))).unwrap();
    assert!(next_life.decode(&frame).is_ok(), "what was said after the restart is taken");
}

/// P5PRE-CTRL-03, clocks: they may jump by any distance in any direction, and a frame still counts
/// once.
#[test]
fn whatever_the_clock_does_a_frame_counts_once() {
    let jumps = [0, 1, -1, 29, 30, 31, -29, -30, -31, 60, -60, 3_600, -3_600, 10_000_000, -10_000_000];
    for there in jumps {
        for back in jumps {
            let (second, now) = clock(NOW);
            let receiver = channel("s").with_clock(now);
            let sender = channel("s");
            let frame = sender.encode(&message(MessageKind::Ready, "c", json!({}))).unwrap();
            assert!(receiver.decode(&frame).is_ok());
            for jump in [there, back, 0] {
                second.store(NOW + jump, Ordering::Relaxed);
                // Something honest comes at each place, so that the window moves along.
                let beside = channel("s").with_clock(clock(NOW + jump).1);
                let _ =
                    receiver.decode(&beside.encode(&message(MessageKind::Ready, "d", json!({}))).unwrap());
                assert!(receiver.decode(&frame).is_err(), "{there} {back} {jump}");
            }
        }
    }
}

#[test]
fn a_channel_does_not_hear_itself() {
    let one = channel("s");
    let frame = one.encode(&message(MessageKind::Stop, "c", json!({}))).unwrap();
    assert_eq!(one.decode(&frame).unwrap_err(), ControlFault::ReplayedNonce);
    assert!(channel("s").decode(&frame).is_ok());
}

#[test]
fn a_full_window_refuses_and_forgets_nothing() {
    let settings = ChannelSettings { nonce_cache_size: 8, ..ChannelSettings::default() };
    let (second, now) = clock(NOW);
    let receiver = ControlPlaneChannel::new(key("s"), &settings).unwrap().with_clock(now.clone());
    let sender = channel("s").with_clock(now);
    let said = || sender.encode(&message(MessageKind::Ready, "c", json!({}))).unwrap();
    let first: Vec<_> = (0..8).map(|_| said()).collect();
    first.iter().for_each(|frame| assert!(receiver.decode(frame).is_ok()));
    for _ in 0..1_000 {
        assert_eq!(receiver.decode(&said()).unwrap_err().word(), "replay-window-full");
    }
    second.store(NOW + 30, Ordering::Relaxed);
    for frame in &first {
        assert_eq!(receiver.decode(frame).unwrap_err(), ControlFault::ReplayedNonce);
    }
    second.store(NOW + 31, Ordering::Relaxed);
    assert!(receiver.decode(&said()).is_ok());
}
