//! The JSON Schemas of every kind and type, compiled once.
//!
//! Owns: schemas/control-events.schema.json in its compiled form, the schemas that a deployment
//! adds, that of an entry of the ledger, and the choice and wording of the violations that are
//! reported.
//! Never: fetches a reference, runs a pattern that backtracks, or words a value of the body.
//! Holds: the same value gets the same answer; formats are asserted.

use std::{collections::BTreeMap, sync::Arc};

use jsonschema::{
    PatternOptions, Retrieve, ValidationError, ValidationOptions, Validator, error::ValidationErrorKind,
};
use serde_json::Value;

use super::{
    admission::{DeploymentType, PATTERN_BYTES_MAX, TypeError},
    command::Commands,
    passage,
    reason::{Reason, Refusal},
    routing::Family,
    secrets::Mask,
    strict::{self, Limits, PointerStep},
    timestamp::Timestamp,
    tree::{Judged, View},
};

/// The document itself, as schemas/control-events.schema.json has it.
pub const CONTROL_EVENTS: &str = include_str!("../../schemas/control-events.schema.json");
/// The schema of an entry of the ledger, as schemas/audit-event.schema.json has it.
const AUDIT_EVENT: &str = include_str!("../../schemas/audit-event.schema.json");
/// The type that has an outcome without being a signal.
pub const SWARM_CREATE: &str = "swarm-create";
/// The only alert type.
pub const ALERT: &str = "alert";
/// The full snapshot.
pub const STATUS_FULL: &str = "status-full";
/// The delta.
pub const STATUS_DELTA: &str = "status-delta";

/// Violations looked at to choose those that are reported.
const VIOLATIONS_MAX: usize = 1_000;
/// Violations that are reported; more are counted.
const REPORTED_MAX: usize = 8;
/// Bytes of the place, and of the words, of each but the first.
const SHORT_BYTES_MAX: usize = 80;
/// Bytes of a violation's words.
const WORDS_BYTES_MAX: usize = 512;

/// A type's schema, ready to judge.
#[derive(Clone, Debug)]
pub struct Schema {
    envelope: Validator<Judged>,
    /// A deployment's own schema, which judges `data` besides.
    data: Option<Validator<Judged>>,
    /// Where it says that secrets stand, from the envelope down.
    pub secrets: Mask,
}

/// Every schema of the contract and the deployment.
#[derive(Clone, Debug)]
pub struct Schemas {
    /// What every kind shares.
    shared: Schema,
    /// What every signal shares.
    signal: Validator<Judged>,
    signals: BTreeMap<String, Schema>,
    outcome: Schema,
    alert: Schema,
    status_full: Schema,
    status_delta: Schema,
}

impl Schemas {
    /// The built-in schemas, one a built-in command and one each for the rest.
    ///
    /// # Errors
    /// `TypeError::BuiltIn` for a build whose schemas and command table disagree.
    pub fn built_in(commands: &Commands) -> Result<Self, TypeError> {
        let broken = |name: &str| TypeError::BuiltIn { name: name.to_owned() };
        let document: Value = serde_json::from_str(CONTROL_EVENTS).map_err(|_| broken("control-events"))?;
        let compiled = options().build_map(&document).map_err(|_| broken("control-events"))?;
        let schema = |name: &str| {
            let envelope = compiled.get(&format!("#/$defs/{name}")).ok_or_else(|| broken(name))?.clone();
            let definition = document.pointer(&format!("/$defs/{name}")).ok_or_else(|| broken(name))?;
            Ok(Schema { envelope, data: None, secrets: Mask::of(definition, &document) })
        };
        let signals = commands.iter().map(|command| {
            let kind_type = &command.kind_type;
            Ok((kind_type.clone(), schema(&format!("{}.{kind_type}", Family::Signal))?))
        });
        Ok(Self {
            shared: schema("envelope")?,
            signal: schema("signal")?.envelope,
            signals: signals.collect::<Result<_, TypeError>>()?,
            outcome: schema("outcome.reported")?,
            alert: schema("alert")?,
            status_full: schema("metric.status-full")?,
            status_delta: schema("metric.status-delta")?,
        })
    }

    /// Adds a deployment's signal type, which `admission` has let in.
    ///
    /// # Errors
    /// The schema does not compile.
    pub(super) fn add(&mut self, kind: &DeploymentType) -> Result<(), TypeError> {
        let data = options().build(&kind.schema).map_err(|fault| TypeError::Uncompiled {
            kind_type: kind.kind_type.clone(),
            place: fault.instance_path().to_string(),
            source: Box::new(fault),
        })?;
        let secrets = Mask::of(&kind.schema, &kind.schema).under("data");
        self.signals.insert(
            kind.kind_type.clone(),
            Schema { envelope: self.signal.clone(), data: Some(data), secrets },
        );
        Ok(())
    }

    /// The schema of an envelope by its own kind and type.
    ///
    /// # Errors
    /// `contract.unknown-type`, or `contract.schema` where kind or type cannot be read.
    pub fn of(&self, envelope: View<'_>) -> Result<(Family, &Schema), Refusal> {
        let word = |name: &str| envelope.get(name).and_then(View::as_str);
        let family = |kind: &str| Family::ALL.into_iter().find(|family| family.kind() == kind);
        let (Some(family), Some(kind_type)) = (word("kind").and_then(family), word("type")) else {
            self.shared.check(envelope)?;
            return Err(Refusal::new(Reason::Schema, "the body names no kind and type").at(""));
        };
        let schema = match (family, kind_type) {
            (Family::Signal, _) => self.signals.get(kind_type),
            (Family::Outcome, SWARM_CREATE) => Some(&self.outcome),
            (Family::Outcome, _) => self.signals.contains_key(kind_type).then_some(&self.outcome),
            (Family::Alert, ALERT) => Some(&self.alert),
            (Family::Metric, STATUS_FULL) => Some(&self.status_full),
            (Family::Metric, STATUS_DELTA) => Some(&self.status_delta),
            (Family::Alert | Family::Metric, _) => None,
        };
        let unknown = || {
            let detail = format!("the contract and this deployment name no such {family} type");
            Refusal::new(Reason::UnknownType, detail).at("/type")
        };
        schema.map(|schema| (family, schema)).ok_or_else(unknown)
    }
}

impl Schema {
    /// The schema of an entry of the ledger.
    ///
    /// # Errors
    /// `TypeError::BuiltIn` for a broken build.
    pub fn of_entries() -> Result<Self, TypeError> {
        let broken = || TypeError::BuiltIn { name: "audit-event".to_owned() };
        let document: Value = serde_json::from_str(AUDIT_EVENT).map_err(|_| broken())?;
        let envelope = options().build(&document).map_err(|_| broken())?;
        Ok(Self { envelope, data: None, secrets: Mask::default() })
    }

    /// Judges an entry by its bytes, as they are hashed.
    ///
    /// # Errors
    /// The first violation, as of an envelope.
    pub fn check_entry(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let limits = Limits { body_bytes_max: usize::MAX, depth_max: usize::MAX, nodes_max: usize::MAX };
        self.check(strict::parse(bytes, &limits)?.root())
    }

    /// Judges an envelope.
    ///
    /// # Errors
    /// `contract.schema` at the first violation: what is missing, then the outermost, then the
    /// first by pointer. The detail names the next ones too.
    pub fn check(&self, envelope: View<'_>) -> Result<(), Refusal> {
        if !self.envelope.is_valid(envelope) {
            return Err(violations(&self.envelope, envelope, ""));
        }
        match (&self.data, envelope.get("data")) {
            (Some(validator), Some(data)) if !validator.is_valid(data) => {
                Err(violations(validator, data, "/data"))
            }
            _ => Ok(()),
        }
    }
}

/// How every schema is compiled: formats asserted and known, linear patterns, nothing fetched. A
/// `date-time` is one that this crate can write again, wherever a schema says so.
fn options<'i>() -> ValidationOptions<'i, Arc<dyn Retrieve>, Judged> {
    jsonschema::options_for()
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_format("date-time", |text: &str| Timestamp::parse(text).is_some())
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
}

/// The violations that are reported, and the number of others.
fn violations(validator: &Validator<Judged>, value: View<'_>, above: &str) -> Refusal {
    let mut found: Vec<Violation> = validator
        .iter_errors(value)
        .take(VIOLATIONS_MAX)
        .map(|fault| {
            let pointer = place(&fault, above);
            let is_there = !matches!(fault.kind(), ValidationErrorKind::Required { .. });
            Violation {
                is_there,
                depth: pointer.matches('/').count(),
                // Names that a sender made up are no words of ours.
                named: if is_there {
                    format!("{above}{}", fault.instance_path().as_str())
                } else {
                    pointer.clone()
                },
                pointer,
                words: words(&fault),
            }
        })
        .collect();
    found.sort();
    found.dedup();
    let mut rest = found.into_iter();
    // The validator said no just before, so there is a violation to name.
    let (pointer, mut detail) = rest.next().map_or_else(
        || (above.to_owned(), "the body breaks its schema".to_owned()),
        |first| (first.pointer, first.words),
    );
    for Violation { named, words, .. } in rest.by_ref().take(REPORTED_MAX - 1) {
        let short = |text| passage::cut(text, SHORT_BYTES_MAX);
        detail.push_str(&format!("; `{}`: {}", short(&named), short(&words)));
    }
    match rest.count() {
        0 => {}
        1 => detail.push_str("; and one more violation"),
        more => detail.push_str(&format!("; and {more} more violations")),
    }
    Refusal::new(Reason::Schema, detail).at(pointer)
}

/// One broken rule, in the order of what is reported first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    /// Whether it is about a value that is there; what is missing comes first.
    is_there: bool,
    depth: usize,
    pointer: String,
    /// The place in the detail's words.
    named: String,
    words: String,
}

/// Where a violation is: a missing or forbidden member is pointed at itself, not at its object.
fn place(fault: &ValidationError<'_>, above: &str) -> String {
    let base = format!("{above}{}", fault.instance_path().as_str());
    match fault.kind() {
        ValidationErrorKind::Required { property: Value::String(name) } => {
            format!("{base}/{}", PointerStep(name))
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            unexpected.iter().min().map_or(base.clone(), |name| format!("{base}/{}", PointerStep(name)))
        }
        _ => base,
    }
}

/// The broken rule in words that hold nothing of the body.
fn words(fault: &ValidationError<'_>) -> String {
    let words = match fault.kind() {
        ValidationErrorKind::Required { .. } => "this member is required".to_owned(),
        ValidationErrorKind::AdditionalProperties { .. }
        | ValidationErrorKind::UnevaluatedProperties { .. } => "no such member is allowed here".to_owned(),
        ValidationErrorKind::PropertyNames { .. } => "a member's name is not allowed here".to_owned(),
        ValidationErrorKind::Not { .. } => "the value is one of those that are not allowed here".to_owned(),
        ValidationErrorKind::FalseSchema => "no value is allowed here".to_owned(),
        ValidationErrorKind::Constant { expected_value } => format!("the value is not {expected_value}"),
        ValidationErrorKind::Format { format } => format!("the value is not a valid `{format}`"),
        // These list values of the instance or of what failed within it.
        ValidationErrorKind::UnevaluatedItems { .. } | ValidationErrorKind::AdditionalItems { .. } => {
            "there are more items than allowed".to_owned()
        }
        _ => fault.masked_with("the value").to_string(),
    };
    passage::cut(&words, WORDS_BYTES_MAX).to_owned()
}
