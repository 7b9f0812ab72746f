//! Reading a message: gates 1 and 2, the only door between raw bytes and an envelope.
//!
//! Owns: the order of the checks of the two gates, and the agreement of key and body.
//! Never: knows who sent the message or what was said before.
//! Holds: key and body of what it returns agree; within a gate the first code in the table's order
//! wins.
//! The rules: spec/rules.md#body, #envelope and #fan-out-scopes.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Said, Unsaid,
    admission::{self, DeploymentType, TypeError},
    audit::Payload,
    canonical,
    command::{Commands, FanOut},
    digest::Digest,
    envelope::{Envelope, Runtime},
    message::Message,
    reason::{Reason, Refusal},
    routing::{ALL, ControlPlaneRouting, Family, RoutingKey, Scope},
    schema::{Schema, Schemas},
    secrets,
    strict::{self, Limits},
    timestamp::Timestamp,
    tree::{Tree, View},
};

/// Content-encodings that say nothing: many clients put the text's charset there.
const AS_IT_IS: [&str; 4] = ["", "identity", "utf-8", "utf8"];

/// How a broker hands on the body of an AMQP 1.0 message that is no data section: a type whose
/// descriptor, short or long, is that of a sequence or a value. No JSON begins so.
const SECTIONS: [&[u8]; 2] = [&[0x00, 0x53], &[0x00, 0x80, 0, 0, 0, 0, 0, 0, 0]];
const SEQUENCE_OR_VALUE: [u8; 2] = [0x76, 0x77];

/// The contract of a deployment: its command types, their schemas and the limits of a body.
#[derive(Clone, Debug)]
pub struct Contract {
    /// Every command type.
    pub commands: Commands,
    /// How large a body may be.
    pub limits: Limits,
    /// Every schema.
    pub schemas: Schemas,
}

fn is_amqp_1_0(body: &[u8]) -> bool {
    let code = |start: &[u8]| body.strip_prefix(start).and_then(|rest| rest.first());
    SECTIONS.iter().filter_map(|start| code(start)).any(|code| SEQUENCE_OR_VALUE.contains(code))
}

impl Contract {
    /// The contract as it comes.
    ///
    /// # Errors
    /// `TypeError::BuiltIn` for a broken build.
    pub fn built_in(limits: Limits) -> Result<Self, TypeError> {
        let commands = Commands::default();
        let schemas = Schemas::built_in(&commands)?;
        Ok(Self { commands, limits, schemas })
    }

    /// The contract with a deployment's own signal types.
    ///
    /// # Errors
    /// The first type that cannot be loaded, and why.
    pub fn with_types(limits: Limits, types: Vec<DeploymentType>) -> Result<Self, TypeError> {
        let mut contract = Self::built_in(limits)?;
        for kind in types {
            admission::admit(&kind)?;
            if !contract.commands.add(kind.command()) {
                return Err(TypeError::Taken { kind_type: kind.kind_type });
            }
            contract.schemas.add(&kind)?;
        }
        Ok(contract)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// The refusal of gate 1, or of gate 2 together with the envelope that gate 1 accepted.
    pub fn read(&self, message: &Message) -> Result<Said, Unsaid> {
        let unread = |refusal| Unsaid { refusal, envelope: None };
        let body = self.parse(message).map_err(unread)?;
        let said = body.root();
        let (family, schema) = self.schemas.of(said).map_err(unread)?;
        schema.check(said).map_err(unread)?;
        let timestamp = timestamp(said).map_err(unread)?;
        let key = match self.route(&message.routing_key, family, said) {
            Ok(key) => key,
            Err(refusal) => {
                return Err(Unsaid {
                    refusal,
                    envelope: Some(Box::new(envelope(body, timestamp).map_err(unread)?)),
                });
            }
        };
        let (payload, compared) = match family {
            Family::Metric => (None, Digest::default()),
            _ => written(said, schema, family),
        };
        Ok(Said {
            class: self
                .commands
                .get(&key.kind_type)
                .filter(|_| family == Family::Signal)
                .map(|row| row.class),
            key,
            envelope: envelope(body, timestamp).map_err(unread)?,
            compared,
            payload,
        })
    }

    /// A body as it may be shown and kept: as it came or, where its schema, a name or a shape says
    /// that there is a secret, with that masked. `None` where it is no JSON: nobody could tell what
    /// in it is a secret.
    pub fn shown<'b>(&self, body: &'b [u8]) -> Option<Cow<'b, str>> {
        let tree = strict::parse(body, &self.limits).ok()?;
        let said = tree.root();
        let given_away = secrets::masked(said, None, &IDS);
        let schema = self.schemas.of(said).ok().map(|(_, schema)| &schema.secrets);
        let Some(mask) = schema.filter(|mask| !mask.is_empty()) else {
            return match given_away {
                None => std::str::from_utf8(body).ok().map(Cow::Borrowed),
                Some(masked) => Some(Cow::Owned(masked.to_string())),
            };
        };
        let mut masked = given_away.unwrap_or_else(|| said.to_value());
        mask.apply(&mut masked);
        Some(Cow::Owned(masked.to_string()))
    }

    /// Gate 1 up to the schema.
    fn parse(&self, message: &Message) -> Result<Tree, Refusal> {
        strict::weigh(&message.body, &self.limits)?;
        let encoding = message.properties.content_encoding.as_deref().unwrap_or_default();
        if !AS_IT_IS.iter().any(|name| encoding.eq_ignore_ascii_case(name)) {
            let rule = "the content-encoding is another than `identity` or `utf-8`";
            return Err(Refusal::new(Reason::Encoding, rule));
        }
        if is_amqp_1_0(&message.body) {
            let rule = "the body is an AMQP 1.0 value or sequence section; send the JSON as bytes, in a data section";
            return Err(Refusal::new(Reason::Encoding, rule));
        }
        strict::parse(&message.body, &self.limits)
    }

    /// Gate 2: the key is well formed, says what the body says, and addresses what its type may
    /// address.
    fn route(&self, key: &str, family: Family, body: View<'_>) -> Result<RoutingKey, Refusal> {
        let key = ControlPlaneRouting::parse(key)?;
        let RoutingKey { scope, .. } = &key;
        let said = body.get("scope");
        let in_scope = |name| said.map_or("", |scope| text_of(scope, name));
        let agreements = [
            ("/kind", key.family.kind(), family.kind()),
            ("/type", &key.kind_type, text_of(body, "type")),
            ("/scope/swarmId", &scope.swarm_id, in_scope("swarmId")),
            ("/scope/role", &scope.role, in_scope("role")),
            ("/scope/instance", &scope.instance, in_scope("instance")),
        ];
        if let Some((pointer, ..)) = agreements.iter().find(|(_, in_key, in_body)| in_key != in_body) {
            return Err(Refusal::new(Reason::Mismatch, "the routing key says otherwise").at(*pointer));
        }
        let fan_out = match family {
            Family::Signal => self.commands.get(&key.kind_type).map_or(FanOut::None, |row| row.fan_out),
            Family::Outcome | Family::Alert | Family::Metric => FanOut::None,
        };
        if !may_address(fan_out, scope) {
            let detail = match fan_out {
                FanOut::None if family != Family::Signal => "its scope names the one sender, not `ALL`",
                FanOut::None => "this type names one swarm, role and instance, not `ALL`",
                FanOut::Instances => {
                    "`ALL` stands for the instance, for role and instance, for swarm and instance, or for all three"
                }
                FanOut::GlobalOrSwarm => "`ALL` stands for role and instance, or for all three",
            };
            let pointer = [("/scope/swarmId", &scope.swarm_id), ("/scope/role", &scope.role)]
                .into_iter()
                .find(|(_, segment)| *segment == ALL)
                .map_or("/scope/instance", |(pointer, _)| pointer);
            return Err(Refusal::new(Reason::FanOutNotAllowed, detail).at(pointer));
        }
        Ok(key)
    }
}

/// Whether a key says what the body says; only of what passed the gates before.
pub fn agrees(key: &str, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Addressed {
        kind: String,
        scope: Named,
        #[serde(rename = "type")]
        kind_type: String,
    }
    // What else stands in a scope is the gates' business.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        instance: String,
        role: String,
        swarm_id: String,
    }
    let (Ok(key), Ok(body)) = (ControlPlaneRouting::parse(key), serde_json::from_slice::<Addressed>(body))
    else {
        return false;
    };
    let Named { instance, role, swarm_id } = body.scope;
    key.family.kind() == body.kind
        && key.kind_type == body.kind_type
        && key.scope == Scope { instance, role, swarm_id }
}

/// Whether a type with that fan-out may address that scope.
pub fn may_address(fan_out: FanOut, scope: &Scope) -> bool {
    let is_all = |segment: &str| segment == ALL;
    let shape = (is_all(&scope.swarm_id), is_all(&scope.role), is_all(&scope.instance));
    match (fan_out, shape) {
        (_, (false, false, false)) => true,
        (FanOut::None, _) => false,
        (FanOut::Instances, (_, _, instance)) => instance,
        (FanOut::GlobalOrSwarm, (_, role, instance)) => role && instance,
    }
}

fn text_of<'body>(object: View<'body>, name: &str) -> &'body str {
    object.get(name).and_then(View::as_str).unwrap_or_default()
}

/// The envelope's time. The schema's format lets pass what the calendar of this crate does not
/// hold.
fn timestamp(body: View<'_>) -> Result<Timestamp, Refusal> {
    let text = text_of(body, "timestamp");
    Timestamp::parse(text).ok_or_else(|| {
        Refusal::new(Reason::Schema, "the value is no date-time that can be placed on a time line")
            .at("/timestamp")
    })
}

/// Members by which a message is known and joined to others: masked, it would be another. They
/// stand in an entry besides.
const IDS: [&str; 4] = ["correlationId", "idempotencyKey", "origin", "scope"];

/// What the ledger keeps of a body, with what its schema marks as secret or a name or a shape gives
/// away masked; and what a repeat of a signal is compared by, of the body as it came.
fn written(body: View<'_>, schema: &Schema, family: Family) -> (Option<Payload>, Digest) {
    let text = canonical::read(body);
    let compared = match (family, &text) {
        (Family::Signal, Some(text)) => compared(text.get()),
        _ => Digest::default(),
    };
    let given_away = secrets::masked(body, text.as_ref().map(|text| text.get()), &IDS);
    if schema.secrets.is_empty() && given_away.is_none() {
        return (text.map(Payload), compared);
    }
    let mut masked = given_away.unwrap_or_else(|| body.to_value());
    schema.secrets.apply(&mut masked);
    (canonical::raw(&masked).map(Payload), compared)
}

/// The digest of a canonical envelope without its timestamp and its correlationId, which a retry
/// makes anew. Behind the timestamp stand only `type` and `version`, which hold no quotation marks
/// of their own, so its last mention is the member itself; the correlationId is the envelope's
/// first member.
fn compared(text: &str) -> Digest {
    const TIMESTAMP: &str = "\"timestamp\":\"";
    let (start, text) = without_correlation(text);
    let (head, tail) = text.rsplit_once(TIMESTAMP).unwrap_or((text, ""));
    let tail = tail.split_once("\",").map_or("", |(_, tail)| tail);
    Digest::of_parts(&[start.as_bytes(), head.as_bytes(), tail.as_bytes()])
}

/// A canonical envelope without its correlationId, in two parts.
fn without_correlation(text: &str) -> (&str, &str) {
    const CORRELATION: &str = "{\"correlationId\":\"";
    let Some(value) = text.strip_prefix(CORRELATION) else { return ("", text) };
    let mut is_escaped = false;
    let end = value.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    let rest = end.and_then(|end| value.get(end..)).and_then(|rest| rest.strip_prefix("\","));
    rest.map_or(("", text), |rest| ("{", rest))
}

/// An envelope that was accepted and kept as text.
pub fn accepted(text: &str) -> Option<Envelope<Tree>> {
    let limits = Limits { body_bytes_max: usize::MAX, depth_max: usize::MAX, nodes_max: usize::MAX };
    let body = strict::parse(text.as_bytes(), &limits).ok()?;
    let timestamp = timestamp(body.root()).ok()?;
    typed(body, timestamp)
}

/// Moves an accepted body into its typed form.
fn envelope(body: Tree, timestamp: Timestamp) -> Result<Envelope<Tree>, Refusal> {
    // The schema has accepted the body, so a lack here is a schema that promises too little.
    typed(body, timestamp)
        .ok_or_else(|| Refusal::new(Reason::Schema, "the body lacks what its schema promises").at(""))
}

fn typed(body: Tree, timestamp: Timestamp) -> Option<Envelope<Tree>> {
    let (mut correlation_id, mut idempotency_key, mut runtime) = (None, None, None);
    let (mut data, mut kind, mut origin, mut scope, mut kind_type, mut version) =
        (None, None, None, None, None, None);
    for (name, value) in body.root().members() {
        match name {
            "correlationId" => correlation_id = text(value),
            "data" => data = Some(value.at()),
            "idempotencyKey" => idempotency_key = text(value),
            "kind" => kind = text(value),
            "origin" => origin = text(value),
            "runtime" => runtime = runtime_of(value)?,
            "scope" => scope = Some(scope_of(value)?),
            "type" => kind_type = text(value),
            "version" => version = text(value),
            _ => {}
        }
    }
    Some(Envelope {
        correlation_id,
        data: body.rooted(data?),
        idempotency_key,
        kind: kind?,
        origin: origin?,
        runtime,
        scope: scope?,
        timestamp,
        kind_type: kind_type?,
        version: version?,
    })
}

fn scope_of(scope: View<'_>) -> Option<Scope> {
    Some(Scope {
        instance: scope.get("instance").and_then(text)?,
        role: scope.get("role").and_then(text)?,
        swarm_id: scope.get("swarmId").and_then(text)?,
    })
}

/// The outer `None` says that it lacks what it must have; it may be null.
fn runtime_of(runtime: View<'_>) -> Option<Option<Runtime>> {
    if !runtime.is_object() {
        return Some(None);
    }
    let text_of = |name| runtime.get(name).and_then(text);
    Some(Some(Runtime {
        container_id: text_of("containerId"),
        image: text_of("image"),
        run_id: text_of("runId")?,
        stack_name: text_of("stackName"),
        template_id: text_of("templateId")?,
    }))
}

/// A text of its own; `None` where it is null.
fn text(value: View<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}
