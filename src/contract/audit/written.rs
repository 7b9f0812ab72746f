//! A fact as it is written: its bytes, once they have been read back.
//!
//! Owns: the check that an entry can be read again, before it is sealed.
//! Never: mends a fact that does not read back; nothing of it may be written then.
//! Holds: a `Written` read from its own bytes is equal to what they were made of.

use super::Fact;

/// A fact whose bytes read back equal.
#[derive(Clone, Debug)]
pub struct Written {
    fact: Fact,
    bytes: Vec<u8>,
}

impl Written {
    /// The fact with its canonical bytes.
    ///
    /// # Errors
    /// The fact, where what is read back is another, or nothing. A ledger with such an entry could
    /// not be opened again.
    pub fn of(fact: Fact) -> Result<Self, Box<Fact>> {
        let payload = fact.payload.as_ref().map_or(0, |payload| payload.text().len());
        let mut bytes = Vec::with_capacity(1024 + payload);
        let written = serde_json::to_writer(&mut bytes, &fact).is_ok();
        let back = serde_json::from_slice::<Fact>(&bytes);
        if written && back.is_ok_and(|back| back == fact) {
            Ok(Self { fact, bytes })
        } else {
            Err(Box::new(fact))
        }
    }

    /// The fact.
    pub fn fact(&self) -> &Fact {
        &self.fact
    }

    /// The fact and its bytes.
    pub fn into_parts(self) -> (Fact, Vec<u8>) {
        (self.fact, self.bytes)
    }
}
