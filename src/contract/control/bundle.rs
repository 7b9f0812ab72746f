//! The bundle of keys that a worker's session begins with.
//!
//! Owns: what a bundle says, and its form as a mapping, both ways.
//! Never: checks whether a bundle is due, or that its signing key follows from its master: it says,
//! it does not judge.
//! Holds: the key bytes that go in are the key bytes that come out; base64 that has two readings
//! has none.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    ControlMessage, MasterSecret, MessageKind, Payload, SigningKey,
    fault::ControlFault,
    kdf::{Kdf, SecretMode},
};

/// The keys of one worker's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapKeyBundle {
    /// When it was made, in seconds since the Unix epoch.
    pub created_at_epoch: i64,
    /// Where the master comes from.
    pub secret_mode: SecretMode,
    /// How the signing key follows from it.
    pub kdf: Kdf,
    /// The master secret.
    pub master: MasterSecret,
    /// The signing key.
    pub signing: SigningKey,
}

impl BootstrapKeyBundle {
    /// A bundle whose signing key follows from its master.
    pub fn new(created_at_epoch: i64, secret_mode: SecretMode, kdf: Kdf, master: MasterSecret) -> Self {
        let signing = master.derive(kdf);
        Self { created_at_epoch, secret_mode, kdf, master, signing }
    }

    /// The mapping, as it travels.
    pub fn to_payload(&self) -> Payload {
        let ipc = [
            ("kdf", self.kdf.word().to_owned()),
            ("master_secret_b64", BASE64_STANDARD.encode(self.master.expose())),
            ("secret_mode", self.secret_mode.word().to_owned()),
            ("signing_secret_b64", BASE64_STANDARD.encode(self.signing.expose())),
        ];
        let ipc: Map<String, Value> =
            ipc.into_iter().map(|(field, text)| (field.to_owned(), Value::String(text))).collect();
        let mut mapping = Map::new();
        mapping.insert("created_at_epoch".to_owned(), self.created_at_epoch.into());
        mapping.insert("execution_ipc".to_owned(), ipc.into());
        mapping.into()
    }

    /// Reads a mapping.
    ///
    /// # Errors
    /// [`ControlFault::MalformedFrame`] naming the first field that is missing, of another type, or
    /// unknown.
    pub fn from_payload(mapping: &Map<String, Value>) -> Result<Self, ControlFault> {
        let broken = |field, fault| ControlFault::MalformedFrame { field, fault };
        let created = mapping.get("created_at_epoch").and_then(Value::as_i64);
        let created_at_epoch = created.ok_or(broken("created_at_epoch", "is not an integer"))?;
        let ipc = mapping.get("execution_ipc").and_then(Value::as_object);
        let ipc = ipc.ok_or(broken("execution_ipc", "is not an object"))?;
        if mapping.len() != 2 || ipc.len() > 4 {
            return Err(broken("payload", "has a member that a bundle does not have"));
        }
        let text = |field| ipc.get(field).and_then(Value::as_str).ok_or(broken(field, "is not a text"));
        let secret_mode = SecretMode::from_word(text("secret_mode")?);
        let kdf = Kdf::from_word(text("kdf")?);
        let secret = |field| {
            let bytes = BASE64_STANDARD.decode(text(field)?);
            bytes.map(Zeroizing::new).map_err(|_| broken(field, "is not strict base64"))
        };
        let unusable = |field| move |_| broken(field, "is empty or too long");
        Ok(Self {
            created_at_epoch,
            secret_mode: secret_mode.ok_or(broken("secret_mode", "is not `static` or `generated`"))?,
            kdf: kdf.ok_or(broken("kdf", "is not `none` or `hkdf_sha256`"))?,
            master: MasterSecret::new(secret("master_secret_b64")?).map_err(unusable("master_secret_b64"))?,
            signing: SigningKey::new(secret("signing_secret_b64")?)
                .map_err(unusable("signing_secret_b64"))?,
        })
    }

    /// The message that carries it.
    ///
    /// # Errors
    /// [`ControlFault::MalformedFrame`] when an id is empty or too long.
    pub fn message(
        &self,
        correlation_id: impl Into<String>,
        worker_id: impl Into<String>,
    ) -> Result<ControlMessage, ControlFault> {
        ControlMessage::new(
            MessageKind::BootstrapBundle,
            correlation_id,
            Some(worker_id.into()),
            self.to_payload(),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("not an object") };
        map
    }

    /// P5PRE-CTRL-05, as a mapping; over the wire it is shown in the integration tests.
    #[test]
    fn key_material_survives_byte_for_byte() {
        for length in [1, 2, 3, 31, 32, 33, 255, 4096] {
            for (mode, kdf) in [(SecretMode::Static, Kdf::None), (SecretMode::Generated, Kdf::HkdfSha256)] {
                let bytes: Vec<u8> = (0..length).map(|at: usize| (at * 37 + length) as u8).collect();
                let master = MasterSecret::new(bytes.clone()).unwrap();
                let bundle = BootstrapKeyBundle::new(1_767_225_600, mode, kdf, master);
                let back = BootstrapKeyBundle::from_payload(&bundle.to_payload()).unwrap();
                assert_eq!(back, bundle);
                assert_eq!(back.master.expose(), bytes);
                assert_eq!(back.signing.expose(), bundle.signing.expose());
            }
        }
    }

    #[test]
    fn the_mapping_is_the_seeds() {
        let master = MasterSecret::new(vec![1; 32]).unwrap();
        let bundle = BootstrapKeyBundle::new(7, SecretMode::Generated, Kdf::HkdfSha256, master);
        let expected = json!({
            "created_at_epoch": 7,
            "execution_ipc": {
                "secret_mode": "generated",
                "kdf": "hkdf_sha256",
                "master_secret_b64": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
                "signing_secret_b64": "rw16psrsr9vfy26N/metO3dKqBdnegJ81trWNq7f0KA=",
            }
        });
        assert_eq!(bundle.to_payload(), mapping(expected).into());
        assert!(!format!("{bundle:?}").contains("AQEB"));
    }

    #[test]
    fn what_is_no_bundle_is_refused_by_its_field() {
        let good = || {
            json!({ "created_at_epoch": 7, "execution_ipc": {
                "secret_mode": "static", "kdf": "none", "master_secret_b64": "AQ==", "signing_secret_b64": "AQ==",
            } })
        };
        assert!(BootstrapKeyBundle::from_payload(&mapping(good())).is_ok());
        let cases = [
            ("/created_at_epoch", json!("7"), "created_at_epoch"),
            ("/created_at_epoch", json!(7.0), "created_at_epoch"),
            ("/created_at_epoch", json!(true), "created_at_epoch"),
            ("/execution_ipc", json!([]), "execution_ipc"),
            ("/execution_ipc/secret_mode", json!("Static"), "secret_mode"),
            ("/execution_ipc/kdf", json!(null), "kdf"),
            ("/execution_ipc/kdf", json!("bad_kdf"), "kdf"),
            ("/execution_ipc/master_secret_b64", json!(""), "master_secret_b64"),
            ("/execution_ipc/master_secret_b64", json!("AR=="), "master_secret_b64"),
            ("/execution_ipc/master_secret_b64", json!("AQ"), "master_secret_b64"),
            ("/execution_ipc/master_secret_b64", json!("AQ==\n"), "master_secret_b64"),
            ("/execution_ipc/signing_secret_b64", json!("-_-_"), "signing_secret_b64"),
            ("/execution_ipc/signing_secret_b64", json!(1), "signing_secret_b64"),
        ];
        for (pointer, value, field) in cases {
            let mut bundle = good();
            *bundle.pointer_mut(pointer).unwrap() = value;
            let fault = BootstrapKeyBundle::from_payload(&mapping(bundle)).unwrap_err();
            assert!(
                matches!(fault, ControlFault::MalformedFrame { field: at, .. } if at == field),
                "{pointer}: {fault}"
            );
        }
        for pointer in ["", "/execution_ipc"] {
            let mut bundle = good();
            bundle.pointer_mut(pointer).unwrap()["more"] = json!(1);
            assert!(BootstrapKeyBundle::from_payload(&mapping(bundle)).is_err(), "{pointer}");
        }
    }
}
