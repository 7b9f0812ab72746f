//! Settings that safety hangs on: which there are, and what makes each looser.
//!
//! Owns: the table of them, and the comparison of what was set with what is.
//! Never: reads a config; the runtime writes what it was set to into `ledger.opened`.
//! Holds: where it is not known whether another value is looser, it is.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::contract::audit::Difference;

/// What makes a setting looser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looser {
    /// A larger number.
    More,
    /// A larger number, or 0, which is off.
    MoreOrOff,
    /// A smaller number.
    Less,
    /// Any other value: it is stricter in one respect and looser in another.
    Other,
    /// A later word of these, the strictest first.
    Later(&'static [&'static str]),
    /// A word that is gone from a list.
    WordGone,
    /// A word that is new in a list.
    WordNew,
    /// A word that is new in a list, or a list that is empty, which is everybody.
    WordNewOrNone,
    /// A line `NAME=VALUE` that is gone, or has another value.
    LineGoneOrOther,
    /// A member that is new in a line `NAME=MEMBER+MEMBER` that was there.
    MemberNew,
    /// A smaller number in a line `NAME=NUMBER`, or such a line that is gone.
    LineLess,
    /// A later word in a line `NAME=WORD`, the strictest first; a line that is not there has the
    /// word that is given.
    LineLater(&'static [&'static str], &'static str),
}

/// The classes of a deployment's own types: what is asked most comes first.
const CLASSES: &[&str] = &[
    "destructive",
    "release",
    "loosen",
    "start",
    "change",
    "consent",
    "session",
    "evidence",
    "liveness",
    "tighten",
    "stop",
];

const CONFIRMATIONS: &[&str] = &["quorum", "second-person", "explicit"];

const FAN_OUTS: &[&str] = &["none", "instances", "global-or-swarm"];

/// Every setting that safety hangs on, by its path in the config.
pub const TABLE: &[(&str, Looser)] = &[
    ("environment", Looser::Later(&["prod", "stage", "dev"])),
    ("skew_max_ms", Looser::More),
    ("clock.ahead_max_ms", Looser::More),
    ("idempotency.window_ms", Looser::Less),
    ("inventory.stale_after_ms", Looser::More),
    ("inventory.lost_after_ms", Looser::More),
    ("inventory.forget_after_ms", Looser::Less),
    ("inventory.back_after_count", Looser::Less),
    ("alerts.dedupe_ms", Looser::More),
    ("alerts.per_second_max", Looser::Less),
    ("refusals.senders_max", Looser::Less),
    ("refusals.entries_per_second_max", Looser::Less),
    ("identity.mode", Looser::Later(&["open"])),
    ("identity.trust_origin", Looser::Later(&["false", "true"])),
    ("session.lost_after_ms", Looser::More),
    ("lifecycle.lost_live_after_ms", Looser::More),
    ("lifecycle.mismatches_max", Looser::More),
    ("safety.gates_required", Looser::WordGone),
    ("safety.gate_reporters", Looser::LineGoneOrOther),
    ("safety.gate_ttl_ms", Looser::More),
    ("safety.disable_ms_max", Looser::More),
    ("interlocks.window_ms", Looser::Other),
    ("interlocks.samples_min", Looser::More),
    ("interlocks.commands_max", Looser::MoreOrOff),
    ("interlocks.duplicates_max", Looser::MoreOrOff),
    ("interlocks.suspend_ms", Looser::Less),
    ("interlocks.refused_identities_max", Looser::MoreOrOff),
    ("interlocks.missing_outcomes_percent_max", Looser::MoreOrOff),
    ("interlocks.unknown_percent_max", Looser::MoreOrOff),
    ("interlocks.ledger_failures_min", Looser::MoreOrOff),
    ("interlocks.clock_drift_ms_max", Looser::MoreOrOff),
    ("interlocks.disk_free_bytes_min", Looser::Less),
    ("consent.requires", Looser::Later(CONFIRMATIONS)),
    ("consent.live_requires", Looser::Later(CONFIRMATIONS)),
    ("consent.window_ms", Looser::More),
    ("consent.actors", Looser::WordNewOrNone),
    ("consent.groups", Looser::MemberNew),
    ("consent.quorum", Looser::LineLess),
    ("consent.break_glass", Looser::WordNew),
    ("consent.standing", Looser::WordNew),
    ("consent.support_bundle", Looser::Later(&["dangerous", "free"])),
    ("supervisor.router", Looser::Later(&["required", "none"])),
    ("types.class", Looser::LineLater(CLASSES, "start")),
    ("types.fan_out", Looser::LineLater(FAN_OUTS, "none")),
];

impl Looser {
    /// Whether what a setting is now lets through more than what it was.
    pub fn is(self, was: &Value, now: &Value) -> bool {
        let (before, after) = (number(was), number(now));
        match self {
            Self::More => after > before,
            // What was off cannot become looser.
            Self::MoreOrOff => before > 0 && (after > before || after == 0),
            Self::Less => after < before,
            Self::Other => was != now,
            Self::Later(words) => place(words, &text(now)) > place(words, &text(was)),
            Self::WordGone => any_not_in(was, now),
            Self::WordNew => any_not_in(now, was),
            // An empty list was everybody already.
            Self::WordNewOrNone => !words(was).is_empty() && (words(now).is_empty() || any_not_in(now, was)),
            Self::LineGoneOrOther => {
                let now = lines(now);
                lines(was).iter().any(|(name, value)| now.get(name) != Some(value))
            }
            Self::MemberNew => {
                let was = lines(was);
                lines(now).iter().any(|(name, members)| {
                    let before: Option<Vec<&str>> = was.get(name).map(|members| split(members).collect());
                    before.is_some_and(|before| split(members).any(|member| !before.contains(&member)))
                })
            }
            Self::LineLess => {
                let now = lines(now);
                let count = |count: Option<&&str>| count.and_then(|count| count.parse::<u64>().ok());
                // A line that is gone is `None`, which is less than every number.
                lines(was).iter().any(|(name, value)| count(now.get(name)) < count(Some(value)))
            }
            Self::LineLater(order, absent) => {
                let was = lines(was);
                let before = |name: &str| was.get(name).copied().unwrap_or(absent);
                lines(now).iter().any(|(name, word)| place(order, word) > place(order, before(name)))
            }
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A word's place in an order; one that is not of it is the loosest.
fn place(order: &[&str], word: &str) -> usize {
    order.iter().position(|known| *known == word).unwrap_or(order.len())
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn any_not_in(these: &Value, those: &Value) -> bool {
    let those = words(those);
    words(these).iter().any(|word| !those.contains(word))
}

/// The lines `NAME=VALUE` of a list, by name.
fn lines(value: &Value) -> BTreeMap<&str, &str> {
    let pairs = words(value).into_iter().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim())).collect()
}

fn split(members: &str) -> impl Iterator<Item = &str> {
    members.split('+').map(str::trim)
}

/// What is another than it was, the looser apart from the rest.
pub(in crate::decision) fn differences(
    was: &BTreeMap<String, Value>,
    is: &BTreeMap<String, Value>,
) -> (Vec<Difference>, Vec<Difference>) {
    let (mut looser, mut stricter) = (Vec::new(), Vec::new());
    for (path, kind) in TABLE {
        // What was not recorded before is compared from now on.
        let (Some(was), Some(is)) = (was.get(*path), is.get(*path)) else { continue };
        if was == is {
            continue;
        }
        let difference = Difference { is: is.clone(), setting: (*path).to_owned(), was: was.clone() };
        if kind.is(was, is) { looser.push(difference) } else { stricter.push(difference) }
    }
    (looser, stricter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_looser_and_what_is_not() {
        let order = Looser::Later(CONFIRMATIONS);
        let classes = Looser::LineLater(CLASSES, "start");
        for (kind, was, now, looser) in [
            (Looser::More, json!(5), json!(6), true),
            (Looser::More, json!(6), json!(5), false),
            (Looser::Less, json!(6), json!(5), true),
            (Looser::Less, json!(5), json!(6), false),
            (Looser::MoreOrOff, json!(5), json!(0), true),
            (Looser::MoreOrOff, json!(5), json!(6), true),
            (Looser::MoreOrOff, json!(5), json!(4), false),
            (Looser::MoreOrOff, json!(0), json!(9), false),
            (Looser::Other, json!(5), json!(4), true),
            (Looser::Other, json!(4), json!(5), true),
            (Looser::Later(&["false", "true"]), json!(false), json!(true), true),
            (Looser::Later(&["false", "true"]), json!(true), json!(false), false),
            (order, json!("second-person"), json!("explicit"), true),
            (order, json!("explicit"), json!("quorum"), false),
            (order, json!("explicit"), json!("nobody"), true),
            (Looser::WordGone, json!(["risk", "desk"]), json!(["desk"]), true),
            (Looser::WordGone, json!(["risk"]), json!(["desk", "risk"]), false),
            (Looser::WordNew, json!([]), json!(["eve"]), true),
            (Looser::WordNew, json!(["eve"]), json!([]), false),
            (Looser::WordNewOrNone, json!(["ann"]), json!([]), true),
            (Looser::WordNewOrNone, json!(["ann"]), json!(["ann", "eve"]), true),
            (Looser::WordNewOrNone, json!([]), json!(["ann"]), false),
            (Looser::WordNewOrNone, json!(["ann", "eve"]), json!(["ann"]), false),
            (Looser::LineGoneOrOther, json!(["risk=bot"]), json!([]), true),
            (Looser::LineGoneOrOther, json!(["risk=bot"]), json!(["risk=eve"]), true),
            (Looser::LineGoneOrOther, json!(["risk=bot"]), json!(["desk=eve", "risk = bot"]), false),
            (Looser::MemberNew, json!(["risk=ann+bob"]), json!(["risk=ann+bob+eve"]), true),
            (Looser::MemberNew, json!(["risk=ann+bob"]), json!(["risk=bob", "desk=eve"]), false),
            (Looser::LineLess, json!(["risk=2"]), json!(["risk=1"]), true),
            (Looser::LineLess, json!(["risk=2"]), json!([]), true),
            (Looser::LineLess, json!(["risk=1"]), json!(["risk=2", "desk=1"]), false),
            (classes, json!(["t=start"]), json!(["t=evidence"]), true),
            (classes, json!([]), json!(["t=stop"]), true),
            (classes, json!([]), json!(["t=start"]), false),
            (classes, json!(["t=evidence"]), json!([]), false),
        ] {
            assert_eq!(kind.is(&was, &now), looser, "{kind:?}: {was} {now}");
        }
    }

    #[test]
    fn what_is_not_recorded_is_not_compared() {
        let map = |pairs: &[(&str, Value)]| {
            pairs.iter().map(|(path, value)| ((*path).to_owned(), value.clone())).collect()
        };
        let was = map(&[("safety.gates_required", json!(["risk"])), ("gone.in_a_later_release", json!(1))]);
        let is = map(&[("safety.gates_required", json!([])), ("consent.actors", json!([]))]);
        let (looser, stricter) = differences(&was, &is);
        assert_eq!((looser.len(), stricter.len()), (1, 0));
        assert_eq!(looser[0].setting, "safety.gates_required");
    }
}
