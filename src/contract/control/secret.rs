//! Key material in memory.
//!
//! Owns: the master secret, the signing key, how one follows from the other, and signatures.
//! Never: prints, serialises or compares in a time that depends on the bytes; makes or fetches a
//! secret.
//! Holds: neither is empty, and both are wiped when dropped.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{fault::ControlFault, kdf::Kdf};

/// What ties a derived key to its use.
pub const KDF_INFO: &[u8] = b"stream-kernel/execution-ipc/signing";
/// The length of a derived key.
pub const DERIVED_KEY_BYTES: usize = 32;
/// The longest secret: more than any source of one needs, little enough to hold.
pub const SECRET_BYTES_MAX: usize = 4096;

/// The secret that signing keys are derived from.
#[derive(Clone)]
pub struct MasterSecret(Zeroizing<Vec<u8>>);

/// The key that frames are signed with.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

impl MasterSecret {
    /// Takes a secret.
    ///
    /// # Errors
    /// [`ControlFault::BindPolicy`] when it is empty or too long.
    pub fn new(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Result<Self, ControlFault> {
        bounded("secret", bytes.into()).map(Self)
    }

    /// The signing key that follows from it.
    pub fn derive(&self, kdf: Kdf) -> SigningKey {
        match kdf {
            Kdf::None => SigningKey(self.0.clone()),
            Kdf::HkdfSha256 => {
                let mut derived = Zeroizing::new(vec![0; DERIVED_KEY_BYTES]);
                match Hkdf::<Sha256>::new(None, &self.0).expand(KDF_INFO, &mut derived) {
                    Ok(()) => SigningKey(derived),
                    // An expansion fails only over 255 blocks of the hash, and this is one; were it
                    // otherwise, what signs is still a secret, though not the one that the other
                    // side expects.
                    Err(_) => SigningKey(self.0.clone()),
                }
            }
        }
    }

    /// The bytes, for who writes them into a bundle or a pipe.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl SigningKey {
    /// Takes a key.
    ///
    /// # Errors
    /// [`ControlFault::BindPolicy`] when it is empty or too long.
    pub fn new(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Result<Self, ControlFault> {
        bounded("signing key", bytes.into()).map(Self)
    }

    /// The bytes, for who writes them into a bundle or a pipe.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The signature over `bytes`: HMAC-SHA-256 in lower-case hex.
    pub(super) fn sign(&self, bytes: &[u8]) -> String {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in self.mac(bytes).finalize().into_bytes() {
            // Writing into a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Whether `signature` is this key's over `bytes`, in a time that does not depend on how far it
    /// agrees.
    pub(super) fn verifies(&self, bytes: &[u8], signature: &[u8; 32]) -> bool {
        self.mac(bytes).verify_slice(signature).is_ok()
    }

    /// HMAC takes its key as one block: a longer key by its digest, a shorter one behind it zeros
    /// (RFC 2104).
    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        if self.0.len() > block.len() {
            block.iter_mut().zip(Sha256::digest(&*self.0)).for_each(|(place, byte)| *place = byte);
        } else {
            block.iter_mut().zip(self.0.iter()).for_each(|(place, byte)| *place = *byte);
        }
        let mut mac = Hmac::<Sha256>::new(&block);
        block.as_mut_slice().zeroize();
        mac.update(bytes);
        mac
    }
}

/// Refuses a secret that is none, or more than is held.
fn bounded(field: &'static str, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, ControlFault> {
    match bytes.len() {
        0 => Err(ControlFault::BindPolicy { field, fault: "is empty" }),
        1..=SECRET_BYTES_MAX => Ok(bytes),
        _ => Err(ControlFault::BindPolicy { field, fault: "is longer than 4096 bytes" }),
    }
}

macro_rules! guarded {
    ($($name:ident),*) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("[secret]")
            }
        }

        impl PartialEq for $name {
            /// In a time that depends on the lengths only.
            fn eq(&self, other: &Self) -> bool {
                self.0.as_slice().ct_eq(other.0.as_slice()).into()
            }
        }

        impl Eq for $name {}
    )* };
}

guarded!(MasterSecret, SigningKey);

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().map(|digit| (digit as char).to_digit(16).unwrap() as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// RFC 5869, appendix A.1 to A.3.
    #[test]
    fn the_derivation_is_the_published_one() {
        let run = |from: u8, to: u8| hex(&(from..=to).collect::<Vec<u8>>());
        let cases: [(String, String, String, &str); 3] = [
            (
                "0b".repeat(22),
                run(0x00, 0x0c),
                run(0xf0, 0xf9),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                run(0x00, 0x4f),
                run(0x60, 0xaf),
                run(0xb0, 0xff),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
                 da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (
                "0b".repeat(22),
                String::new(),
                String::new(),
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
        ];
        for (secret, salt, info, expected) in cases {
            let mut derived = vec![0; expected.len() / 2];
            let salt = Some(unhex(&salt)).filter(|salt| !salt.is_empty());
            let extracted = Hkdf::<Sha256>::new(salt.as_deref(), &unhex(&secret));
            extracted.expand(&unhex(&info), &mut derived).unwrap();
            assert_eq!(hex(&derived), expected);
        }
    }

    #[test]
    fn keys_follow_from_the_master() {
        let master = MasterSecret::new(vec![1; 32]).unwrap();
        let expected = "af0d7aa6caecafdbdfcb6e8dfe67ad3b774aa817677a027cd6dad636aedfd0a0";
        assert_eq!(hex(master.derive(Kdf::HkdfSha256).expose()), expected);
        assert_eq!(master.derive(Kdf::None).expose(), master.expose());
    }

    /// RFC 4231, test cases 1, 2 and 6: a short key, a shorter one, and one longer than a block.
    #[test]
    fn the_signature_is_the_published_one() {
        let cases: [(Vec<u8>, &[u8], &str); 3] = [
            (vec![0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                vec![0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, bytes, expected) in cases {
            let key = SigningKey::new(key).unwrap();
            assert_eq!(key.sign(bytes), expected);
            let signature: [u8; 32] = unhex(expected).try_into().unwrap();
            assert!(key.verifies(bytes, &signature) && !key.verifies(b"else", &signature));
        }
    }

    #[test]
    fn secrets_are_bounded_and_unseen() {
        assert!(MasterSecret::new(Vec::new()).is_err() && SigningKey::new(Vec::new()).is_err());
        assert!(MasterSecret::new(vec![1; 4097]).is_err() && MasterSecret::new(vec![1; 4096]).is_ok());
        let key = SigningKey::new(b"canary".to_vec()).unwrap();
        assert_eq!(format!("{key:?} {:?}", MasterSecret::new(b"canary".to_vec())), "[secret] Ok([secret])");
        assert_eq!(key, SigningKey::new(b"canary".to_vec()).unwrap());
        assert_ne!(key, SigningKey::new(b"canarx".to_vec()).unwrap());
        assert_ne!(key, SigningKey::new(b"canary1".to_vec()).unwrap());
    }
}
