//! Tests of the whole way from sources to a file.

use std::{fs, io::Read, os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;

use super::*;
use crate::{
    contract::{
        audit::{Action, Change, Fact, Genesis, Mode},
        interlock::SafetyMode,
    },
    ledger::chain::{Chain, Sealed},
};

fn stamp(number: u32) -> BundleStamp {
    let created_at = Timestamp::parse("2026-03-04T10:15:00.250Z").unwrap().plus_ms(u64::from(number) * 1000);
    BundleStamp { bundle_id: format!("019a6b1c-0000-7000-8000-{number:012x}"), created_at }
}

fn entries(details: &[&str]) -> Vec<Sealed> {
    let at = Timestamp::parse("2026-03-04T10:15:00Z").unwrap();
    let genesis = Genesis {
        environment: "dev".to_owned(),
        initial_mode: SafetyMode::Normal,
        ledger_id: "00112233445566778899aabbccddeeff".to_owned(),
        mode: Mode::Enforce,
        version: "0.1.0".to_owned(),
    };
    let mut chain = Chain::new();
    let mut entries = vec![chain.seal(Fact::new(Action::Genesis, at, Change::Genesis(genesis)), Vec::new())];
    for detail in details {
        let mut fact = Fact::new(Action::Recorded, at, Change::None);
        fact.detail = Some((*detail).to_owned());
        entries.push(chain.seal(fact, vec![Digest::of(detail.as_bytes())]));
    }
    entries
}

fn sources(details: &[&str]) -> Sources {
    let ledger_id = Some("00112233445566778899aabbccddeeff".to_owned());
    Sources {
        config: Ok(json!({ "amqp": { "url": "amqp://guest:***@127.0.0.1:5672/%2f" } })),
        audit: Ok(Excerpt { ledger_id, entries: entries(details) }),
        metrics: Ok("# TYPE a gauge\na{lane=\"urgent\"} 1\n# EOF\n".to_owned()),
        ..Sources::absent("nobody was asked")
    }
}

fn made(dir: &Path, number: u32, sources: Sources) -> Created {
    create(&BundlePlace::Directory(dir.to_owned()), sources, &BundleLimits::default(), &stamp(number))
        .unwrap()
}

fn verified(path: &Path) -> verify::BundleReport {
    verify::verify(path, &BundleLimits::default()).unwrap()
}

/// The names and bytes of an archive.
fn unpacked(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(path).unwrap()));
    let read = |entry: io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

/// An archive as somebody else might pack it.
fn packed(path: &Path, members: &[(String, Vec<u8>)]) {
    let file = fs::File::create(path).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_bundle_is_whole_listed_and_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let created = made(&dir.path().join("bundles"), 1, sources(&["one", "two"]));
    assert_eq!(fs::metadata(&created.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(created.path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&created.path).unwrap().len(), created.bytes);
    assert_eq!(
        names(created.path.parent().unwrap()),
        ["swarmgate-bundle-20260304T101501Z-000000000001.tar.gz"]
    );
    let report = verified(&created.path);
    assert_eq!(report.faults, []);
    let manifest = report.manifest.unwrap();
    assert_eq!(
        (report.manifest_sha256, manifest.bundle_id),
        (Some(created.manifest_sha256), created.bundle_id)
    );
    let members = unpacked(&created.path);
    let there: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        [MANIFEST, "config.json", "audit.ndjson", "audit-proof.json", "metrics.txt", VERSIONS, MISSING];
    assert_eq!(there, expected);
    for (listed, (name, bytes)) in manifest.files.iter().zip(&members[1..]) {
        let of_file = (name.as_str(), bytes.len() as u64, Digest::of(bytes));
        assert_eq!((listed.path.as_str(), listed.size, listed.sha256), of_file);
    }
    let missing: Vec<&str> = created.missing.iter().map(|(what, _)| what.as_str()).collect();
    let absent =
        ["health.json", "safety.json", "gates.json", "challenges.json", "commands.json", "inventory.json"];
    assert_eq!(missing, absent);
    let audit = report.audit.unwrap();
    assert_eq!((audit.from, audit.entries, audit.redacted), (1, 3, vec![]));
    assert_eq!(audit.ledger_id.as_deref(), Some("00112233445566778899aabbccddeeff"));
}

#[test]
fn the_manifest_agrees_with_its_schema() {
    let dir = tempfile::tempdir().unwrap();
    let members = unpacked(&made(dir.path(), 1, sources(&[])).path);
    let manifest: Value = serde_json::from_slice(&members[0].1).unwrap();
    let schema =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/support-bundle-manifest.schema.json"));
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    assert!(schema.is_valid(&manifest), "{manifest}");
    for pointer in
        ["/bundle_id", "/created_at", "/schema_version", "/files", "/files/0/sha256", "/files/0/path"]
    {
        let mut wrong = manifest.clone();
        *wrong.pointer_mut(pointer).unwrap() = json!("/../x");
        assert!(!schema.is_valid(&wrong), "{pointer}");
    }
    let mut listed_itself = manifest.clone();
    listed_itself["files"][0]["path"] = json!(MANIFEST);
    assert!(!schema.is_valid(&listed_itself));
}

#[test]
fn the_same_sources_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other, later] = [("a", 1), ("b", 1), ("c", 2)]
        .map(|(name, number)| made(&dir.path().join(name), number, sources(&["x", "password=abc"])).path);
    assert_eq!(fs::read(&one).unwrap(), fs::read(&other).unwrap());
    let (one, later) = (unpacked(&one), unpacked(&later));
    assert_ne!(one[0], later[0]);
    assert_eq!(one[1..], later[1..]);
}

#[test]
fn a_masked_entry_keeps_its_place_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let created = made(dir.path(), 1, sources(&["one", "login with password=hunter2", "three"]));
    let report = verified(&created.path);
    assert_eq!(report.faults, []);
    assert_eq!((report.audit.unwrap().redacted, created.redacted), (vec![3], 1));
    let members = unpacked(&created.path);
    let lines = String::from_utf8(members.iter().find(|(name, _)| name == "audit.ndjson").unwrap().1.clone())
        .unwrap();
    assert!(lines.contains("password=***") && !lines.contains("hunter2"));
}

#[test]
fn whatever_is_altered_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let created = made(dir.path(), 1, sources(&["one", "two", "three"]));
    let members = unpacked(&created.path);
    let path = dir.path().join("altered.tar.gz");
    let faults = |members: &[(String, Vec<u8>)]| {
        packed(&path, members);
        verified(&path).faults
    };
    assert_eq!(faults(&members), []);
    for (index, (name, _)) in members.iter().enumerate() {
        let mut altered = members.clone();
        altered[index].1[0] ^= 1;
        assert_ne!(faults(&altered), [], "{name}");
        let mut without = members.clone();
        without.remove(index);
        assert_ne!(faults(&without), [], "{name}");
        let mut twice = members.clone();
        twice.push(members[index].clone());
        assert_ne!(faults(&twice), [], "{name}");
    }
    let mut more = members.clone();
    more.push(("more.txt".to_owned(), b"x".to_vec()));
    assert_eq!(faults(&more), [verify::BundleFault::Unlisted("more.txt".to_owned())]);
    more[6].0 = "sub/more.txt".to_owned();
    assert_eq!(faults(&more), [verify::BundleFault::Strange(6)]);
    // A manifest that was made to fit: the chain still tells.
    let at = |name: &str| members.iter().position(|(path, _)| path == name).unwrap();
    let mut forged = members.clone();
    let text = String::from_utf8(forged[at("audit.ndjson")].1.clone()).unwrap().replace("two", "TWO");
    forged[at("audit.ndjson")].1 = text.into_bytes();
    let mut manifest: Manifest = serde_json::from_slice(&forged[0].1).unwrap();
    let altered = Digest::of(&forged[at("audit.ndjson")].1);
    manifest
        .files
        .iter_mut()
        .filter(|file| file.path == "audit.ndjson")
        .for_each(|file| file.sha256 = altered);
    forged[0].1 = manifest.bytes();
    assert!(
        matches!(faults(&forged)[..], [verify::BundleFault::Audit(ref why)] if why.contains("entry 3 was altered"))
    );
    // A newer form is not guessed at.
    let mut newer = members.clone();
    manifest.schema_version = "2".to_owned();
    newer[0].1 = manifest.bytes();
    assert_eq!(faults(&newer), [verify::BundleFault::Newer("2".to_owned())]);
}

#[test]
fn a_torn_archive_is_found_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(made(dir.path(), 1, sources(&["one"])).path).unwrap();
    let path = dir.path().join("torn.tar.gz");
    for end in (0..whole.len()).step_by(37) {
        fs::write(&path, &whole[..end]).unwrap();
        assert_ne!(verified(&path).faults, [], "cut at {end}");
    }
    // The ten bytes of gzip's head say nothing of the content.
    for at in (10..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(&path, &flipped).unwrap();
        assert_ne!(verified(&path).faults, [], "flipped at {at}");
    }
    fs::write(&path, [whole.as_slice(), b"behind"].concat()).unwrap();
    assert_ne!(verified(&path).faults, []);
}

#[test]
fn a_bomb_is_not_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb.tar.gz");
    packed(&path, &[(MANIFEST.to_owned(), vec![b' '; 4 << 20])]);
    let limits = BundleLimits { bundle_bytes_max: 1 << 20, ..BundleLimits::default() };
    assert!(matches!(verify::verify(&path, &limits).unwrap().faults[..], [verify::BundleFault::Torn(_)]));
}

#[test]
fn a_secret_that_was_not_masked_aborts_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let detector = Detector::knowing(["correct-horse"]);
    for (path, bytes, rule) in [
        ("config.json", &br#"{"amqp":{"password":"hunter2"}}"#[..], "sensitive-name"),
        ("metrics.txt", b"a{b=\"Bearer abcdef123\"} 1\n", "bearer"),
        ("health.json", br#"{"a":["correct-horse"]}"#, "known-secret"),
        ("audit.ndjson", b"{\"a\":1}\n{\"b\":\"ghp_0123456789abcdefghij01\"}\n", "github-token"),
    ] {
        let members = [Member { path, bytes: bytes.to_vec(), redacted: 0 }];
        let manifest = Manifest::of(&stamp(1), &members);
        for place in
            [BundlePlace::Directory(dir.path().to_owned()), BundlePlace::File(dir.path().join("b.tar.gz"))]
        {
            let name = pack::name(&stamp(1));
            let fault = pack::place(&place, &name, &manifest, &members, &BundleLimits::default(), &detector)
                .unwrap_err();
            let told = fault.to_string();
            assert!(told.contains(path) && told.contains(rule), "{told}");
            for value in ["hunter2", "abcdef123", "correct-horse", "0123456789abcdef"] {
                assert!(!told.contains(value) && !format!("{fault:?}").contains(value), "{told}");
            }
            assert_eq!(names(dir.path()), [""; 0]);
        }
    }
}

#[test]
fn a_file_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.tar.gz");
    fs::write(&path, "mine").unwrap();
    let place = BundlePlace::File(path.clone());
    let fault = create(&place, sources(&[]), &BundleLimits::default(), &stamp(1)).unwrap_err();
    assert!(matches!(fault, BundleError::Exists(_)));
    assert_eq!((fs::read(&path).unwrap().as_slice(), names(dir.path()).len()), (&b"mine"[..], 1));
    let fault = create(
        &BundlePlace::File(dir.path().join("no/b")),
        sources(&[]),
        &BundleLimits::default(),
        &stamp(1),
    );
    assert!(matches!(fault, Err(BundleError::File { .. })));
}

#[test]
fn a_directory_keeps_the_latest() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("swarmgate-bundle-notes.txt"), "kept").unwrap();
    let stale = dir.path().join(".swarmgate-bundle-left.tmp");
    let file = fs::File::create(&stale).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200)).unwrap();
    let limits = BundleLimits { bundles_max: 2, ..BundleLimits::default() };
    for number in [3, 1, 4, 2] {
        create(&BundlePlace::Directory(dir.path().to_owned()), sources(&[]), &limits, &stamp(number))
            .unwrap();
    }
    // The last one made is kept whatever its name.
    let kept = [
        "swarmgate-bundle-20260304T101502Z-000000000002.tar.gz",
        "swarmgate-bundle-20260304T101504Z-000000000004.tar.gz",
        "swarmgate-bundle-notes.txt",
    ];
    assert_eq!(names(dir.path()), kept);
}

#[test]
fn what_does_not_fit_is_left_out_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut large = sources(&["one"]);
    large.inventory = Ok(json!({ "swarms": "x".repeat(100_000) }));
    let limits = BundleLimits { bundle_bytes_max: 50_000, ..BundleLimits::default() };
    let created = create(&BundlePlace::File(dir.path().join("b")), large, &limits, &stamp(1)).unwrap();
    assert!(
        created
            .missing
            .iter()
            .any(|(what, why)| what == "inventory.json" && why.contains("bundle_bytes_max"))
    );
    let mut none = sources(&["one"]);
    none.metrics = Err("no".to_owned());
    let limits = BundleLimits { bundle_bytes_max: 0, ..BundleLimits::default() };
    let created = create(&BundlePlace::File(dir.path().join("c")), none, &limits, &stamp(1)).unwrap();
    assert_eq!(verified(&created.path).faults, []);
    assert_eq!(unpacked(&created.path).len(), 2);
}

#[test]
fn a_damaged_ledger_is_told_in_its_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let mut damaged = sources(&["one", "two", "three"]);
    damaged.audit.as_mut().unwrap().entries.remove(2);
    let created = made(dir.path(), 1, damaged);
    assert!(
        created
            .missing
            .iter()
            .any(|(what, why)| what == "audit.ndjson" && why.contains("entry 3 is missing"))
    );
    assert!(matches!(verified(&created.path).faults[..], [verify::BundleFault::Audit(_)]));
}
