//! What `scripts/release` makes, made of the binary of this build.
//!
//! Owns: that checksums, tarball and SBOM agree with each other, with the tree and with what the
//! binary says.
//! Never: builds with the profile `dist`, which takes minutes; that is the script's own and says so
//! when it fails.
//! Holds: nothing of the machine that makes a release is in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::Path,
    process::Command,
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const EPOCH: u64 = 1_700_000_000;

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the lock names, each with its checksum; the crate itself has none.
fn locked() -> BTreeMap<String, Option<String>> {
    let lock =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).expect("a lock");
    let lock: toml::Value = toml::from_str(&lock).expect("TOML");
    let text = |package: &toml::Value, name: &str| {
        package.get(name).and_then(|text| text.as_str()).map(str::to_owned)
    };
    let packages = lock["package"].as_array().expect("packages").iter();
    packages
        .map(|package| {
            let (name, version) =
                (text(package, "name").expect("a name"), text(package, "version").expect("one"));
            (format!("pkg:cargo/{name}@{version}"), text(package, "checksum"))
        })
        .collect()
}

/// The whole SBOM against Cargo.lock: nothing that is not locked, and each with its checksum.
fn check_sbom(sbom: &Value) {
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let own = format!("pkg:cargo/swarmgate@{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(sbom["metadata"]["component"]["purl"], own);
    assert_eq!(sbom["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    let locked = locked();
    let mut known = BTreeSet::from([own.clone()]);
    let mut linked = 0;
    for component in sbom["components"].as_array().expect("components") {
        let purl = component["purl"].as_str().expect("a purl");
        assert!(known.insert(purl.to_owned()), "`{purl}` is there twice");
        assert_eq!(component["hashes"][0]["content"].as_str(), locked[purl].as_deref(), "{purl}");
        assert!(component["licenses"][0]["expression"].is_string(), "`{purl}` has no licence");
        linked += usize::from(component.get("scope").is_none());
    }
    let has = |name: &str| known.iter().any(|purl| purl.starts_with(&format!("pkg:cargo/{name}@")));
    for name in ["tokio", "lapin", "sqlx", "rustls", "aws-lc-sys", "tikv-jemalloc-sys", "serde_json"] {
        assert!(has(name), "`{name}` is missing");
    }
    for name in ["proptest", "criterion"] {
        assert!(!has(name), "`{name}` is of the tests");
    }
    assert!(linked > 100 && linked < known.len(), "{linked} of {}", known.len());
    for dependency in sbom["dependencies"].as_array().expect("dependencies") {
        let refs = dependency["dependsOn"].as_array().expect("a list").iter().chain([&dependency["ref"]]);
        for one in refs {
            assert!(known.contains(one.as_str().expect("a ref")), "{one}");
        }
    }
    assert_eq!(sbom["dependencies"].as_array().map(Vec::len), Some(known.len()));
}

#[test]
fn a_release_is_whole_and_says_what_it_is_made_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = TempDir::new().expect("a directory");
    // What a debugger needs is most of a test's binary, and no part of a release.
    let binary = out.path().join("swarmgate");
    let strip = ["--strip-all", "-o", binary.to_str().expect("a path"), env!("CARGO_BIN_EXE_swarmgate")];
    assert!(Command::new("strip").args(strip).status().expect("strip, of binutils").success());
    let ran = Command::new(root.join("scripts/release"))
        .arg("--out")
        .arg(out.path().join("files"))
        .arg("--binary")
        .arg(&binary)
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{told}{}", String::from_utf8_lossy(&ran.stderr));
    let files: Vec<&Path> = told.lines().map(Path::new).collect();
    let [tarball, sbom, sums] = files.as_slice() else { panic!("{told}") };
    assert_eq!(
        std::fs::read_dir(out.path().join("files")).expect("files").count(),
        3,
        "nothing is left behind"
    );

    let sums = std::fs::read_to_string(sums).expect("checksums");
    let expected: Vec<String> = [sbom, tarball]
        .map(|file| {
            let name = file.file_name().expect("a name").to_string_lossy();
            format!("{}  {name}", hex(&std::fs::read(file).expect("a file")))
        })
        .into();
    assert_eq!(sums.lines().collect::<Vec<_>>(), expected);
    let sbom = std::fs::read(sbom).expect("an SBOM");
    check_sbom(&serde_json::from_slice(&sbom).expect("JSON"));

    let tarball = std::fs::read(tarball).expect("a tarball");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(tarball.as_slice()));
    let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut order = Vec::new();
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let header = entry.header();
        let (time, user, group) = (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        assert_eq!((time, user, group), (EPOCH, 0, 0));
        assert_eq!(header.mode().unwrap() & 0o7022, 0, "nobody else writes to it");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("bytes");
        let (_, within) = path.split_once('/').expect("one directory");
        order.push(within.to_owned());
        members.insert(within.to_owned(), bytes);
    }
    let same = |member: &str, file: &str| {
        let wanted = std::fs::read(root.join(file)).expect("a file");
        assert!(members[member] == wanted, "{member} is not {file}");
    };
    same("LICENSE", "LICENSE");
    same("README.md", "README.md");
    same("docs/operating/broker-permissions.md", "docs/operating/broker-permissions.md");
    same("spec/rules.md", "spec/rules.md");
    same("deploy/systemd/swarmgate.service", "docker/systemd/swarmgate.service");
    same("deploy/kubernetes/swarmgate.yaml", "docker/kubernetes/swarmgate.yaml");
    same("deploy/observability/alerts.yml", "docker/observability/alerts.yml");
    same("schemas/config.schema.json", "schemas/config.schema.json");
    assert!(members["swarmgate"] == std::fs::read(&binary).expect("a binary"));
    assert!(members["sbom.cdx.json"] == sbom);
    assert!(members.contains_key("man/swarmgate.1") && members.contains_key("completions/swarmgate.bash"));
}
