//! The user `guest` that every broker comes with.
//!
//! Owns: whether it is there, and whether its password is still the one that everybody knows.
//! Never: takes a login that failed for a proof: RabbitMQ lets `guest` in on its own machine alone.
//! Holds: what was not found out is said as not found out.

use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Findings, State, Whom, management::Management};

const NAME: &str = "guest";
/// Its name, and the password that it comes with.
const GUEST: &str = "guest";
/// How many bytes of a hash are its salt.
const SALT_BYTES: usize = 4;
const HASHING: &str = "rabbit_password_hashing_sha256";
const NEXT: &str = "delete it or change its password";

/// Looks.
pub(super) async fn look(management: &Management, whom: &Whom, findings: &mut Findings) {
    let is_default = management.guest_can_log_in().await;
    let row = match is_default {
        true => Ok(Value::Null),
        false => management.get("/api/users/guest").await,
    };
    match (is_default, row) {
        (true, _) => said(whom, findings),
        (false, Ok(row)) if comes_with(&row) == Some(true) => said(whom, findings),
        (false, Ok(row)) if comes_with(&row) == Some(false) => {
            findings.add(NAME, State::Ok, "it has another password than the one that it comes with", "");
        }
        (false, Err(why)) if why.ends_with(" 404") => {
            findings.add(NAME, State::Ok, "there is no user `guest`", "");
        }
        (false, _) => findings.add(
            NAME,
            State::Skipped,
            "it was not let in from here, and on the broker's own machine it may be with its default password",
            "ask as a user with the tag `administrator`, who is told whether it is there (--management)",
        ),
    }
}

fn said(whom: &Whom, findings: &mut Findings) {
    let found = match whom.users.iter().any(|user| user == GUEST) {
        true => {
            "the router connects as `guest` with its default password: whoever comes near the broker is the router"
        }
        false => "the user `guest` has its default password",
    };
    let next = match whom.users.iter().any(|user| user == GUEST) {
        true => {
            "give the router a user of its own (docs/operating/broker-permissions.md), then delete `guest`"
        }
        false => NEXT,
    };
    findings.add(NAME, State::Warn, found, next);
}

/// Whether a user's hash is that of the password that `guest` comes with; `None` where that cannot
/// be told.
fn comes_with(row: &Value) -> Option<bool> {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    if text("hashing_algorithm")? != HASHING {
        return None;
    }
    let hash = text("password_hash")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(hash).ok()?;
    // A user without a password has an empty hash and cannot log in by one.
    let (salt, digest) = match bytes.split_at_checked(SALT_BYTES) {
        Some(parts) => parts,
        None => return Some(false),
    };
    let expected = Sha256::new().chain_update(salt).chain_update(GUEST).finalize();
    Some(expected.as_slice() == digest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_password_is_known_by_its_hash() {
        let row = |password: &str| {
            let salt = [7_u8, 1, 2, 3];
            let digest = Sha256::new().chain_update(salt).chain_update(password).finalize();
            let hash = base64::engine::general_purpose::STANDARD.encode([&salt[..], &digest[..]].concat());
            json!({ "hashing_algorithm": HASHING, "password_hash": hash })
        };
        assert_eq!(comes_with(&row("guest")), Some(true));
        assert_eq!(comes_with(&row("another")), Some(false));
        assert_eq!(comes_with(&json!({ "hashing_algorithm": HASHING, "password_hash": "" })), Some(false));
        assert_eq!(comes_with(&json!({ "hashing_algorithm": "md5", "password_hash": "x" })), None);
        assert_eq!(comes_with(&json!({})), None);
    }
}
