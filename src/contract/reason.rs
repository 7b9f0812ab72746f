//! Why something was refused: the closed list of reason codes.
//!
//! Owns: every code, the gate it belongs to, and the one-line rule and next step that people read.
//! Never: words a value from a body; a refusal names the pointer and the rule (a value may be a secret).
//! Holds: a code is `<gate>.<word>`, stable for ever, with a page in docs/reasons and a test.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

macro_rules! reasons {
    ($($name:ident $code:literal $rule:literal $next:literal)*) => {
        /// A reason code, in the order of the gates and, within a gate, of the table in spec/gates.md.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $rule] $name,)* }

        impl Reason {
            /// Every code, in gate order.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// The code itself, `<gate>.<word>`.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code),* }
            }

            /// The rule that was broken, in one sentence.
            pub const fn rule(self) -> &'static str {
                match self { $(Reason::$name => $rule),* }
            }

            /// What the sender can do about it.
            pub const fn next_step(self) -> &'static str {
                match self { $(Reason::$name => $next),* }
            }
        }
    };
}

reasons! {
    TooLarge "contract.too-large"
        "A body is at most `limits.body_bytes_max` bytes."
        "Send less, or raise `limits.body_bytes_max` in swarmgate.yaml."
    Encoding "contract.encoding"
        "A body is sent as it is: no content-encoding but `identity`."
        "Publish the body uncompressed and drop the content-encoding property."
    NotUtf8 "contract.not-utf8"
        "A body is UTF-8."
        "Encode the JSON as UTF-8 without a byte order mark."
    NotJson "contract.not-json"
        "A body is one JSON value (RFC 8259) whose plain integers a double holds exactly."
        "Check the body with a strict JSON parser; the detail names the byte offset."
    DuplicateKey "contract.duplicate-key"
        "An object names each key once, also after unescaping."
        "Remove the second key; readers disagree on which one counts."
    TooDeep "contract.too-deep"
        "A body nests at most `limits.depth_max` levels and has at most `limits.nodes_max` values."
        "Flatten the body or split it."
    Schema "contract.schema"
        "A body agrees with the JSON Schema of its kind and type."
        "Compare the body with schemas/control-events.schema.json at the pointer given."
    UnknownType "contract.unknown-type"
        "A type is one that the contract or this deployment's config names."
        "Correct the type, or add it with a schema under `types` in swarmgate.yaml."
    MalformedKey "routing.malformed-key"
        "A routing key is `signal.<type>.<swarm>.<role>.<instance>` or `event.<family>.<type>.<swarm>.<role>.<instance>`."
        "Build keys with `ControlPlaneRouting`; `swarmgate explain KEY` shows how a key is read."
    Mismatch "routing.mismatch"
        "The routing key says what the body says: kind, type and scope."
        "Build the key from the body; the pointer names the field that disagrees."
    FanOutNotAllowed "routing.fan-out-not-allowed"
        "Only the types marked so in spec/commands.toml may address `ALL`."
        "Name one swarm, role and instance."
    OriginMismatch "identity.origin-mismatch"
        "Nobody speaks for another: the sender is who the envelope says it is."
        "Publish with the origin, scope and AMQP user-id of the instance that speaks."
    QuotaExceeded "quota.exceeded"
        "At most `idempotency.keys_max` command keys are remembered at a time; stop and tightening pass all the same."
        "Wait until keys leave their window, or raise `idempotency.keys_max`."
    Duplicate "command.duplicate"
        "A command takes effect once per sender, scope, type and idempotencyKey."
        "Nothing: the first send counts. For another effect use a new idempotencyKey."
    Conflict "command.conflict"
        "An idempotencyKey stands for one body."
        "Use a new idempotencyKey for a different command."
    Expired "command.expired"
        "A command is judged while its repeats can still be told from it, and within its own `expiration`."
        "Send it again with a present timestamp and a new idempotencyKey."
    AuditUnavailable "audit.unavailable"
        "Nothing but stop and tightening passes while the ledger cannot be written."
        "Mend the ledger (`swarmgate doctor`), then send again."
}

impl Reason {
    /// The gate that refuses with this code.
    pub fn gate(self) -> &'static str {
        self.code().split_once('.').map_or("", |(gate, _)| gate)
    }

    /// Reads a code; `None` for one that this release does not know.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_code(&code).ok_or_else(|| D::Error::custom(format!("`{code}` is not a reason code")))
    }
}

/// A "no": its code, what exactly was wrong, and where in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// The rule and the place in words; never a value from the body.
    pub detail: Cow<'static, str>,
    /// JSON pointer (RFC 6901) into the body, where one place is at fault.
    pub pointer: Option<String>,
}

impl Refusal {
    /// A refusal without a pointer.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into(), pointer: None }
    }

    /// The same refusal, pointing at a place in the body.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }
}
