//! Routing keys and binding patterns.
//!
//! Owns: `ControlPlaneRouting`, the only place in the code that spells or reads a key or a pattern.
//! Never: looks at a body; agreement of key and body is judged where both are known.
//! Holds: `parse(build(key)) == key`, and a key that parses is at most 255 bytes of clean segments.
//! The rule: spec/rules.md#routing-keys.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::reason::{Reason, Refusal};

/// The longest routing key, in bytes: an AMQP short string.
pub const KEY_BYTES_MAX: usize = 255;
/// The longest segment, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 128;
/// The same as a regular expression, but for the fan-out word.
pub const SEGMENT_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$";
/// The fan-out word, in this spelling only.
pub const ALL: &str = "ALL";
/// The swarm that is the router's own and nobody else's.
pub const ROUTER_SWARM: &str = "swarmgate";
/// The router's role in its own scope.
pub const ROUTER_ROLE: &str = "router";

/// The four envelope families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// A command.
    Signal,
    /// A command's result.
    Outcome,
    /// A runtime or IO error.
    Alert,
    /// A status snapshot.
    Metric,
}

impl Family {
    /// All four, in the order of the contract.
    pub const ALL: [Family; 4] = [Family::Signal, Family::Outcome, Family::Alert, Family::Metric];

    /// What a key of this family begins with, its last dot included.
    const fn prefix(self) -> &'static str {
        match self {
            Family::Signal => "signal.",
            Family::Outcome => "event.outcome.",
            Family::Alert => "event.alert.",
            Family::Metric => "event.metric.",
        }
    }

    /// The envelope's `kind` in this family.
    pub const fn kind(self) -> &'static str {
        match self {
            Family::Signal => "signal",
            Family::Outcome => "outcome",
            Family::Alert => "event",
            Family::Metric => "metric",
        }
    }

    /// The family's own word in lower case.
    pub const fn word(self) -> &'static str {
        match self {
            Family::Signal => "signal",
            Family::Outcome => "outcome",
            Family::Alert => "alert",
            Family::Metric => "metric",
        }
    }

    /// The family a key claims by its beginning, however broken the rest is.
    pub fn claimed_by(key: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| key.starts_with(family.prefix()))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// Whom an envelope is for (signals) or from (the rest).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// The worker's id within role and swarm; `ALL` in a fan-out.
    pub instance: String,
    /// The role; `ALL` in a fan-out.
    pub role: String,
    /// The swarm; `ALL` in a fan-out over the fleet.
    pub swarm_id: String,
}

impl Scope {
    /// The scope of those three segments, unchecked.
    pub fn new(swarm_id: impl Into<String>, role: impl Into<String>, instance: impl Into<String>) -> Self {
        Self { swarm_id: swarm_id.into(), role: role.into(), instance: instance.into() }
    }

    /// The router's own scope.
    pub fn router(instance: &str) -> Self {
        Self::new(ROUTER_SWARM, ROUTER_ROLE, instance)
    }

    /// Whether any segment is `ALL`.
    pub fn fans_out(&self) -> bool {
        [&self.swarm_id, &self.role, &self.instance].into_iter().any(|segment| segment == ALL)
    }

    /// Whether this scope reaches `other`: each segment equal, or `ALL` here.
    pub fn covers(&self, other: &Scope) -> bool {
        let reaches = |mine: &str, theirs: &str| mine == ALL || mine == theirs;
        reaches(&self.swarm_id, &other.swarm_id)
            && reaches(&self.role, &other.role)
            && reaches(&self.instance, &other.instance)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}/{}", self.swarm_id, self.role, self.instance)
    }
}

/// A routing key taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingKey {
    /// The family.
    pub family: Family,
    /// The type segment.
    pub kind_type: String,
    /// The last three segments.
    pub scope: Scope,
}

/// The only maker and reader of routing keys and binding patterns.
#[derive(Clone, Copy, Debug)]
pub struct ControlPlaneRouting;

impl ControlPlaneRouting {
    /// The key of that family, type and scope.
    ///
    /// # Errors
    /// `routing.malformed-key` when a segment breaks the grammar or the key would be too long.
    pub fn build(family: Family, kind_type: &str, scope: &Scope) -> Result<String, Refusal> {
        for segment in [kind_type, &scope.swarm_id, &scope.role, &scope.instance] {
            check_segment(segment)?;
        }
        let key = Self::of(family, kind_type, scope);
        if key.len() > KEY_BYTES_MAX {
            return Err(malformed(format!("the key has {} bytes, more than {KEY_BYTES_MAX}", key.len())));
        }
        Ok(key)
    }

    /// The key of a type and scope that were read from a valid key, are the router's own, or are
    /// wildcards.
    pub fn of(family: Family, kind_type: &str, scope: &Scope) -> String {
        [family.prefix(), kind_type, ".", &scope.swarm_id, ".", &scope.role, ".", &scope.instance].concat()
    }

    /// Takes a key apart.
    ///
    /// # Errors
    /// `routing.malformed-key`, naming what is wrong, for everything that `build` would not make.
    pub fn parse(key: &str) -> Result<RoutingKey, Refusal> {
        if key.len() > KEY_BYTES_MAX {
            return Err(malformed(format!("the key has {} bytes, more than {KEY_BYTES_MAX}", key.len())));
        }
        let Some(family) = Family::claimed_by(key) else {
            return Err(malformed(
                "the key begins with none of `signal.`, `event.outcome.`, `event.alert.`, `event.metric.`",
            ));
        };
        let mut segments = key.get(family.prefix().len()..).unwrap_or_default().split('.');
        let (Some(kind_type), Some(swarm_id), Some(role), Some(instance), None) =
            (segments.next(), segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(malformed("the key has not exactly four segments after its family"));
        };
        for segment in [kind_type, swarm_id, role, instance] {
            check_segment(segment)?;
        }
        Ok(RoutingKey {
            family,
            kind_type: kind_type.to_owned(),
            scope: Scope::new(swarm_id, role, instance),
        })
    }

    /// The key of the outcome that answers a signal; `None` for a key that is no signal's.
    pub fn answer(signal_key: &str) -> Option<String> {
        let target = signal_key.strip_prefix(Family::Signal.prefix())?;
        Some([Family::Outcome.prefix(), target].concat())
    }

    /// The pattern that takes every key of a family.
    pub fn family_binding(family: Family) -> String {
        format!("{}#", family.prefix())
    }

    /// The pattern that takes one type of a family, whatever its scope.
    pub fn type_binding(family: Family, kind_type: &str) -> String {
        format!("{}{kind_type}.*.*.*", family.prefix())
    }

    /// What an orchestrator binds on `swarmgate.out`.
    pub fn orchestrator_bindings() -> Vec<String> {
        let controllers = Scope::new("*", "swarm-controller", "*");
        vec![
            Self::family_binding(Family::Outcome),
            Self::family_binding(Family::Alert),
            Self::of(Family::Metric, "*", &controllers),
        ]
    }

    /// What the controller `scope` of a swarm binds: its own signals, the fan-outs that reach it,
    /// its swarm's metrics and alerts.
    pub fn swarm_controller_bindings(scope: &Scope) -> Vec<String> {
        let swarm = Scope::new(&scope.swarm_id, "*", "*");
        let mut bindings = Self::signal_bindings("*", scope);
        bindings.push(Self::of(Family::Metric, "*", &swarm));
        bindings.push(Self::of(Family::Alert, "*", &swarm));
        bindings
    }

    /// What the worker `scope` binds to hear signals of `kind_type` (`*` for all): its own and the
    /// fan-outs that reach it.
    pub fn signal_bindings(kind_type: &str, scope: &Scope) -> Vec<String> {
        let (swarm, role, instance) = (scope.swarm_id.as_str(), scope.role.as_str(), scope.instance.as_str());
        [(swarm, role, instance), (swarm, role, ALL), (swarm, ALL, ALL), (ALL, role, ALL), (ALL, ALL, ALL)]
            .into_iter()
            .map(|(swarm, role, instance)| {
                Self::of(Family::Signal, kind_type, &Scope::new(swarm, role, instance))
            })
            .collect()
    }

    /// Whether the topic `pattern` takes `key`: `*` is one segment, `#` any number (AMQP 0-9-1,
    /// topic exchange).
    pub fn matches(pattern: &str, key: &str) -> bool {
        let (pattern, key) = (words(pattern), words(key));
        let (mut at, mut read) = (0, 0);
        // The last `#` seen and how far it reaches; on a misfit it takes one word more.
        let mut reach: Option<(usize, usize)> = None;
        while let Some(word) = key.get(read) {
            match pattern.get(at) {
                Some(&"#") => {
                    reach = Some((at, read));
                    at += 1;
                }
                Some(wanted) if *wanted == "*" || wanted == word => {
                    at += 1;
                    read += 1;
                }
                _ => {
                    let Some((hash, reached)) = reach else { return false };
                    reach = Some((hash, reached + 1));
                    at = hash + 1;
                    read = reached + 1;
                }
            }
        }
        pattern.iter().skip(at).all(|rest| *rest == "#")
    }
}

/// The words of a key or pattern, as a topic exchange splits them: nothing has no word.
fn words(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split('.').collect() }
}

/// `SEGMENT_PATTERN`, and no spelling of the fan-out word but `ALL`.
pub(super) fn check_segment(segment: &str) -> Result<(), Refusal> {
    let clean = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if is_everyone(segment) && segment != ALL {
        return Err(malformed("everyone is spelt `ALL`; `*` and `#` stand in bindings only"));
    }
    if segment.is_empty() || segment.len() > SEGMENT_BYTES_MAX {
        return Err(malformed(format!(
            "a segment has 1 to {SEGMENT_BYTES_MAX} bytes, not {}",
            segment.len()
        )));
    }
    if !segment.bytes().all(clean) || segment.starts_with(['_', '-']) {
        return Err(malformed("a segment holds only A–Z a–z 0–9 _ - and begins with a letter or digit"));
    }
    Ok(())
}

/// Whether somebody means everyone by it; only `ALL` says so in a key.
pub fn is_everyone(segment: &str) -> bool {
    segment.eq_ignore_ascii_case(ALL) || matches!(segment, "*" | "**" | "#")
}

fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Reason::MalformedKey, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_seed_are_read_and_built_again() {
        let keys = [
            ("signal.swarm-start.alpha.swarm-controller.alpha-marshal-1", Family::Signal, "swarm-start"),
            (
                "event.outcome.swarm-start.alpha.swarm-controller.alpha-marshal-1",
                Family::Outcome,
                "swarm-start",
            ),
            ("event.alert.alert.alpha.worker.w_1", Family::Alert, "alert"),
            ("event.metric.status-full.alpha.worker.w1", Family::Metric, "status-full"),
            ("signal.stop.ALL.ALL.ALL", Family::Signal, "stop"),
        ];
        for (text, family, kind_type) in keys {
            let key = ControlPlaneRouting::parse(text).expect(text);
            assert_eq!((key.family, key.kind_type.as_str()), (family, kind_type));
            assert_eq!(ControlPlaneRouting::build(family, kind_type, &key.scope).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_segment_may_name_its_swarm_and_more() {
        let (long, room) = ("s".repeat(SEGMENT_BYTES_MAX), KEY_BYTES_MAX - "signal.stop.a.".len() - 1);
        for (role, instance) in
            [("b", long.as_str()), (long.as_str(), "c"), (&long[..room - long.len()], long.as_str())]
        {
            let scope = Scope::new("a", role, instance);
            let key = ControlPlaneRouting::build(Family::Signal, "stop", &scope).expect("a key");
            assert_eq!(ControlPlaneRouting::parse(&key).map(|key| key.scope), Ok(scope));
        }
        let scope = Scope::new("a", &long[..=room - long.len()], &long);
        assert!(
            ControlPlaneRouting::build(Family::Signal, "stop", &scope).is_err(),
            "longer than a key may be"
        );
    }

    #[test]
    fn what_build_would_not_make_is_not_read() {
        let long = "s".repeat(129);
        let keys = [
            "",
            ".",
            "signal",
            "signal.",
            "signal.stop.a.b",
            "signal.stop.a.b.c.d",
            "signal.stop.a..c",
            "event.stop.a.b.c",
            "event.outcome.stop.a.b",
            "event.other.stop.a.b.c",
            "Signal.stop.a.b.c",
            "signal.stop.a.*.c",
            "signal.stop.a.#.c",
            "signal.stop.all.b.c",
            "signal.stop.a.b.All",
            "signal.stop.a.b.-c",
            "signal.stop.a.b._c",
            "signal.stop.a.b c.d",
            "signal.stop.a.b.c\0",
            "signal.stop.a.b.c\r\n",
            "signal.stop.а.b.c",
            "signal.stop.a.b.c\u{202e}",
            &format!("signal.stop.a.b.{long}"),
        ];
        for key in keys {
            let refusal = ControlPlaneRouting::parse(key).expect_err(key);
            assert_eq!(refusal.reason, Reason::MalformedKey, "{key}");
        }
    }

    #[test]
    fn patterns_take_what_a_topic_exchange_takes() {
        let cases = [
            ("#", "", true),
            ("#", "a.b", true),
            ("*", "", false),
            ("", "", true),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("a.#.c", "a.c", true),
            ("a.#.c", "a.b.b.c", true),
            ("a.#.c", "a.b.b", false),
            ("#.b.*", "a.b.b.c", true),
            ("#.#", "a", true),
            ("#.a.#.b", "x.a.y.a.b", true),
            ("*.#", "", false),
            ("*.#", "a.b", true),
            ("signal.stop.*.*.*", "signal.stop.a.b.c", true),
            ("signal.stop.*.*.*", "signal.stop.a.b", false),
            ("#.*.#.*", "a", false),
            ("a.b", "a.B", false),
        ];
        for (pattern, key, taken) in cases {
            assert_eq!(ControlPlaneRouting::matches(pattern, key), taken, "{pattern} {key}");
        }
    }

    #[test]
    fn standard_bindings_take_what_reaches_and_nothing_else() {
        let worker = Scope::new("alpha", "gen", "g1");
        let bindings = ControlPlaneRouting::signal_bindings("stop", &worker);
        let heard = |key: &str| bindings.iter().any(|pattern| ControlPlaneRouting::matches(pattern, key));
        for (scope, expected) in [
            ("alpha.gen.g1", true),
            ("alpha.gen.ALL", true),
            ("alpha.ALL.ALL", true),
            ("ALL.gen.ALL", true),
            ("ALL.ALL.ALL", true),
            ("alpha.gen.g2", false),
            ("beta.ALL.ALL", false),
            ("ALL.mod.ALL", false),
        ] {
            assert_eq!(heard(&format!("signal.stop.{scope}")), expected, "{scope}");
        }
        assert!(!heard("signal.swarm-stop.alpha.gen.g1"));
        let orchestrator = ControlPlaneRouting::orchestrator_bindings();
        assert_eq!(orchestrator, ["event.outcome.#", "event.alert.#", "event.metric.*.*.swarm-controller.*"]);
        let controller =
            ControlPlaneRouting::swarm_controller_bindings(&Scope::new("alpha", "swarm-controller", "c"));
        assert!(controller.contains(&"event.metric.*.alpha.*.*".to_owned()));
        assert!(controller.contains(&"event.alert.*.alpha.*.*".to_owned()));
    }
}
