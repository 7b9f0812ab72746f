//! What follows.
pub mod effect;
pub mod request;

use crate::contract::{
    audit::{Fact, Verdict},
    digest::Digest,
    reason::Refusal,
    timestamp::Timestamp,
};
use effect::Effect;

/// The answer to one request.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The verdict; `None` for what is not an envelope.
    pub verdict: Option<Verdict>,
    /// Why, where it is a no (or a suppressed repeat).
    pub refusal: Option<Refusal>,
    /// The authenticated sender.
    pub principal: Option<String>,
    /// What to remember for ever, in order.
    pub facts: Vec<Fact>,
    /// What to believe until told otherwise.
    pub beliefs: Vec<Belief>,
    /// What to do, in order, once the first fact's entry is durable (at once where there is no fact).
    pub effects: Vec<Effect>,
}

/// A change of the observed half of the state; volatile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// A refusal of this sender and code fell in this second; `body` is chained into the tally.
    Refused { fingerprint: Digest, second: i64, body: Option<Digest> },
    /// An alert with this fingerprint was raised, or held back.
    Alerted { fingerprint: Digest, at: Timestamp, held_back: bool },
}
