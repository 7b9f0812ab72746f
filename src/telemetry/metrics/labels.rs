//! The labels of the metrics.
//!
//! Owns: every label, with the words that it may have.
//! Never: takes a word from a message.
//! Holds: the words of a label are a closed list.

use prometheus_client::encoding::EncodeLabelSet;

use crate::contract::audit::Verdict;

pub(super) const VERDICTS: [Verdict; 5] =
    [Verdict::Forward, Verdict::Park, Verdict::Challenge, Verdict::Suppress, Verdict::Refuse];

/// What became of a published message, as a label. A driver's own type turns into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishFate {
    /// The broker took it.
    Carried,
    /// No queue took it.
    Returned,
    /// The broker said no.
    Rejected,
    /// AMQP has no room for it.
    Unsendable,
    /// Nothing was heard in time.
    Unknown,
}

impl PublishFate {
    pub(super) const ALL: [PublishFate; 5] = [
        PublishFate::Carried,
        PublishFate::Returned,
        PublishFate::Rejected,
        PublishFate::Unsendable,
        PublishFate::Unknown,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            PublishFate::Carried => "carried",
            PublishFate::Returned => "returned",
            PublishFate::Rejected => "rejected",
            PublishFate::Unsendable => "unsendable",
            PublishFate::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LaneVerdict {
    pub lane: &'static str,
    pub verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByLane {
    pub lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByWay {
    pub way: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByReason {
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByMap {
    pub map: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByFate {
    pub fate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FreshnessHealth {
    pub freshness: &'static str,
    pub health: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByState {
    pub state: &'static str,
}

/// A number of things as a gauge has it.
pub(super) fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}

pub(super) const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forward => "forward",
        Verdict::Park => "park",
        Verdict::Challenge => "challenge",
        Verdict::Suppress => "suppress",
        Verdict::Refuse => "refuse",
    }
}
