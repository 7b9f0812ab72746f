//! Emergency ids: what names an entry that was sealed while the ledger could not be written.
//!
//! Owns: the id and its spelling, `e<epoch>.<n>`.
//! Never: says where such an entry was kept; the emergency log's room does.
//! Holds: ids grow with the order of sealing, within an epoch and over epochs; each has one
//! spelling.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

/// The place of an entry among those that were sealed while the ledger could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmergencyId {
    /// The epoch in which it was sealed.
    pub epoch: u64,
    /// Its place among those of the epoch, from 1.
    pub n: u64,
}

/// A text that is no emergency id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no emergency id; write it like `e3.1`")]
pub struct EmergencyIdError(String);

impl fmt::Display for EmergencyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "e{}.{}", self.epoch, self.n)
    }
}

impl FromStr for EmergencyId {
    type Err = EmergencyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.strip_prefix('e').and_then(|rest| rest.split_once('.'));
        let id = numbers.and_then(|(epoch, n)| Some(Self { epoch: epoch.parse().ok()?, n: n.parse().ok()? }));
        // `e01.1` and `e+1.1` would be second spellings of one id.
        id.filter(|id| id.to_string() == text).ok_or_else(|| EmergencyIdError(text.to_owned()))
    }
}

impl Serialize for EmergencyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EmergencyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = EmergencyId { epoch: 3, n: 12 };
        assert_eq!(id.to_string(), "e3.12");
        assert_eq!("e3.12".parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"e3.12\"");
        assert_eq!(serde_json::from_str::<EmergencyId>("\"e3.12\"").unwrap(), id);
        for wrong in
            ["", "e", "e3", "e3.", "e.1", "3.12", "E3.12", "e03.12", "e3.+1", "e3.12.0", "e3.-1", " e3.12"]
        {
            assert!(wrong.parse::<EmergencyId>().is_err(), "`{wrong}`");
        }
        let too_large = "e3.18446744073709551616";
        assert!(too_large.parse::<EmergencyId>().is_err());
    }

    #[test]
    fn the_order_is_that_of_sealing() {
        let id = |epoch, n| EmergencyId { epoch, n };
        assert!(id(2, 10) > id(2, 9));
        assert!(id(10, 1) > id(9, 500));
    }
}
