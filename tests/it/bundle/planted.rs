//! Two hundred secrets in all fields, searched for in the raw bytes.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use serde_json::{Value, json};
use swarmgate::{
    contract::{
        audit::{Action, Change, Fact, Payload},
        timestamp::Timestamp,
    },
    ledger::chain::Chain,
    support::{BundleLimits, BundlePlace, BundleStamp, Excerpt, Sources, create, verify::verify},
};

use super::Unpacked;

/// A secret around a canary of 16 upper-case letters and digits.
type Shape = fn(&str) -> String;

/// The shapes, each with a name for its bundle.
const SHAPES: [(&str, Shape); 10] = [
    ("named", |canary| format!("login failed, password={canary} was refused")),
    ("bearer", |canary| format!("sent Bearer {canary} to the broker")),
    ("jwt", |canary| format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIi{canary}.{canary}")),
    ("pem", |canary| format!("-----BEGIN PRIVATE KEY-----\nMIIE{canary}\n-----END PRIVATE KEY-----\n")),
    ("aws", |canary| format!("key AKIA{canary} of the account")),
    ("gcp", |canary| format!("AIza{canary}{canary}xyz")),
    ("azure", |canary| format!("DefaultEndpointsProtocol=https;AccountKey={canary}{canary}==;x=y")),
    ("github", |canary| format!("cloned with ghp_{canary}{canary}0123")),
    ("slack", |canary| format!("xoxb-1234567890-{canary}")),
    ("url", |canary| format!("connects to amqps://user:{canary}@broker:5671/v")),
];
const FIELDS: usize = 20;

/// A canary that occurs nowhere else.
fn canary(shape: usize, field: usize) -> String {
    format!("CANARY{shape:02}Q{field:02}Z7KXW")
}

/// Sources whose every field holds a secret of that shape.
fn sources(shape: usize) -> Sources {
    let plant = |field: usize| SHAPES[shape].1(&canary(shape, field));
    // The audit trail: a masked payload whose schema marked nothing, and a text.
    let mut chain = Chain::new();
    let mut fact = Fact::new(Action::Recorded, Timestamp::from_micros(1), Change::None);
    let payload = json!({ "data": { "notes": [plant(0)], "apiToken": canary(shape, 1) } });
    fact.payload = Some(Payload(serde_json::value::to_raw_value(&payload).expect("JSON")));
    fact.detail = Some(plant(2));
    fact.correlation_id = Some(plant(3));
    let entries = vec![chain.seal(fact, Vec::new())];
    let label = plant(4).replace('\n', "\\n");
    Sources {
        audit: Ok(Excerpt { ledger_id: None, entries }),
        metrics: Ok(format!(
            "# TYPE a gauge\na{{lane=\"{label}\",token=\"{}\"}} 1\n# EOF\n",
            canary(shape, 5)
        )),
        config: Ok(json!({
            "amqp": { "prefix": plant(6) }, "x-api-key": canary(shape, 7),
            "types": [{ "type": "a", "schema": plant(8) }],
        })),
        health: Ok(json!({ "missing": [{ "what": "broker", "why": plant(9) }] })),
        safety: Ok(json!({ "latch": { "reason": plant(10) } })),
        gates: Ok(
            json!({ "gates": [{ "gate": "g", "detail": format!("{{\"inner\":{}}}", json!(plant(11))) }] }),
        ),
        challenges: Ok(json!({ "challenges": [{ "difference": { plant(12): 1 } }] })),
        inventory: Ok(json!({ "swarms": [{ "swarmId": "k", "instances": [{
            "image": plant(13), "queuesIn": ["jobs", plant(14)],
            "config": { "db": { "userPassword": { "value": canary(shape, 15) } } },
            "context": { "headers": [{ "name": "Cookie", "value": canary(shape, 16) }] },
        }] }] })),
        commands: Ok(
            json!({ "inFlight": [{ "evidence": { "detail": plant(17) }, "idempotencyKey": plant(18) }] }),
        ),
        cut: vec![("inventory.json".to_owned(), plant(19))],
        ..Sources::absent("nobody was asked")
    }
}

/// What a canary looks like in Base64 wherever it begins within the encoded bytes.
fn encodings(canary: &str) -> [String; 3] {
    // Letters that depend on what stands around the canary are cut off.
    [(0, 0), (1, 2), (2, 3)].map(|(before, cut)| {
        let encoded = BASE64_STANDARD_NO_PAD.encode(format!("{}{canary}", "?".repeat(before)));
        encoded[cut..encoded.len() - 2].to_owned()
    })
}

fn assert_clean(unpacked: &Unpacked, canary: &str, what: &str) {
    let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    for form in encodings(canary).into_iter().chain([canary.to_owned(), canary.to_lowercase(), hex]) {
        assert!(!unpacked.holds(&form), "{what}: {form}");
    }
}

#[test]
fn two_hundred_secrets_stay_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut planted = 0;
    for (shape, (name, _)) in SHAPES.iter().enumerate() {
        let place = BundlePlace::File(dir.path().join(name));
        let created =
            create(&place, sources(shape), &BundleLimits::default(), &BundleStamp::new()).expect(name);
        assert!(created.redacted >= 18, "{name}: {}", created.redacted);
        let unpacked = Unpacked::of(&created.path);
        for field in 0..FIELDS {
            assert_clean(&unpacked, &canary(shape, field), &format!("{name} in field {field}"));
            planted += 1;
        }
        assert_eq!(verify(&created.path, &BundleLimits::default()).expect("a bundle").faults, []);
        // What stands around them is still told.
        let words = ["inFlight", "queuesIn", "jobs", "broker", "lane="];
        assert!(words.iter().all(|word| unpacked.holds(word)), "{name}");
        for (told, why) in &created.missing {
            assert!(!why.contains(&canary(shape, 19)), "{name}: {told}");
        }
    }
    assert_eq!(planted, 200);
}

#[test]
fn the_search_would_find_each_of_them() {
    // The same fields as they are, without masking: the assertion of the test above fails for every
    // one.
    let places = |shape: usize| {
        let Sources {
            config,
            health,
            safety,
            gates,
            challenges,
            inventory,
            commands,
            audit,
            metrics,
            cut,
            ..
        } = sources(shape);
        let mut raw: Vec<u8> = Vec::new();
        for source in [config, health, safety, gates, challenges, inventory, commands] {
            raw.extend(source.unwrap_or(Value::Null).to_string().into_bytes());
        }
        raw.extend(audit.expect("entries").entries.iter().flat_map(|entry| entry.bytes.clone()));
        raw.extend(metrics.expect("metrics").into_bytes());
        raw.extend(cut.iter().flat_map(|(_, why)| why.clone().into_bytes()));
        Unpacked { raw, members: Vec::new() }
    };
    for (shape, (name, _)) in SHAPES.iter().enumerate() {
        let unpacked = places(shape);
        assert!((0..FIELDS).all(|field| unpacked.holds(&canary(shape, field))), "{name}");
    }
    for (before, form) in ["", "a", "ab"].iter().zip(encodings("CANARY00Q00Z7KXW")) {
        let encoded = BASE64_STANDARD_NO_PAD.encode(format!("{before}CANARY00Q00Z7KXW, and more"));
        assert!(encoded.contains(&form), "{encoded} {form}");
    }
}

#[test]
fn an_encoded_secret_stays_behind_too() {
    let dir = tempfile::tempdir().expect("a directory");
    for (shape, (name, plant)) in SHAPES.iter().enumerate() {
        let canary = canary(shape, 0);
        let encoded = BASE64_STANDARD_NO_PAD.encode(plant(&canary));
        let sources = Sources {
            config: Ok(json!({ "blob": encoded, "note": format!("got {encoded} back") })),
            ..Sources::absent("nobody was asked")
        };
        let place = BundlePlace::File(dir.path().join(name));
        let created = create(&place, sources, &BundleLimits::default(), &BundleStamp::new()).expect(name);
        assert_clean(&Unpacked::of(&created.path), &canary, name);
    }
}
