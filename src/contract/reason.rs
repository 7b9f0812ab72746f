//! Why something was refused: the closed list of reason codes.
//!
//! Owns: every code, the gate it belongs to, and the one-line rule and next step that people read.
//! Never: words a value from a body; a refusal names the pointer and the rule (a value may be a
//! secret).
//! Holds: a code is `<gate>.<word>`, stable for ever, with a page in docs/reasons and a test.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{bound::Bound, plain};

macro_rules! reasons {
    ($($name:ident $code:literal $rule:literal $next:literal)*) => {
        /// A reason code, in the order of the gates and, within a gate, of the table in
        /// spec/gates.md.
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
        "A body is sent as it is: no content-encoding but `identity` and `utf-8`."
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
    Unproven "identity.unproven"
        "Who is known by `origin` alone may stop and tighten, and never confirm, loosen, start live, release or destroy."
        "Set the AMQP user-id to the connected user, with the same name as `origin`; the broker then proves it."
    QuotaExceeded "quota.exceeded"
        "What is remembered is bounded (command keys by `idempotency.keys_max`), and a principal that storms starts nothing for a while; stop and tightening pass all the same."
        "Wait until keys leave their window (or the suspension is over), or raise the setting that the detail names."
    PolicyDenied "policy.denied"
        "Dangerous operations are for those whom `consent.actors` names."
        "Ask somebody whom `consent.actors` names, or have yourself added there."
    Duplicate "command.duplicate"
        "A command takes effect once per sender, scope, type and idempotencyKey."
        "Nothing: the first send counts. For another effect use a new idempotencyKey."
    Conflict "command.conflict"
        "An idempotencyKey stands for one body."
        "Use a new idempotencyKey for a different command."
    Pending "command.pending"
        "While a start, resume or release of a bot is pending, no second one is taken for it."
        "Wait for its outcome, or stop the bot: a stop supersedes what is pending."
    Expired "command.expired"
        "A command is decided while its repeats can still be told from it, and within its own `expiration`."
        "Send it again with a present timestamp and a new idempotencyKey."
    WorkerRequired "session.worker-required"
        "A control session belongs to one worker, and its messages name it."
        "Name the worker: `worker_id` on the channel, a concrete instance on the bus."
    DuplicateBootstrap "session.duplicate-bootstrap"
        "A worker is bootstrapped once in a session."
        "Stop the worker first: `stop` ends its session, and the next bootstrap opens a new one."
    NotBootstrapped "session.not-bootstrapped"
        "`ready` and `heartbeat` belong to a session that a bootstrap bundle has opened."
        "Send `bootstrap-bundle` for the worker, then let it say `ready`."
    WorkersNotReady "session.workers-not-ready"
        "Work starts when every required worker has said `ready`."
        "Wait for the workers that the detail names, or take them out of `requiredWorkers`."
    IllegalTransition "lifecycle.illegal-transition"
        "A bot moves by the table in spec/lifecycle.toml, and `requestedTransition` says from where to where."
        "Look where the bot is (`swarmgate inventory`), and ask for a step that the table has."
    ExplicitStartRequired "lifecycle.explicit-start-required"
        "A bot leaves ERROR by an explicit start or resume only."
        "Mend the cause, then send `bot-start` or `bot-resume` with its mode."
    ModeRequired "lifecycle.mode-required"
        "A start or resume says its mode: `paper`, `shadow` or `live`; none is inherited."
        "Send it again with `data.mode`."
    Quarantined "lifecycle.quarantined"
        "A quarantined bot is released before it is started."
        "Find out why it was quarantined, then send `bot-release` and confirm it."
    SafetyMode "safety.mode"
        "In SAFE and EMERGENCY_STOP nothing starts or changes."
        "See why (`swarmgate safety`); lowering the mode is a dangerous operation that is confirmed."
    GateFailed "safety.gate-failed"
        "A readiness gate says FAIL, or failed and was not cleared."
        "Mend what the gate watches; its reporter then says PASS."
    GateUnknown "safety.gate-unknown"
        "A required readiness gate is missing or expired, and what is not known is not well."
        "Have the gate's reporter send `gate-report`, or look why it is silent."
    KillSwitch "safety.kill-switch"
        "The kill switch lets through what reduces activity only."
        "See who closed it (`swarmgate safety`); opening it is a dangerous operation that is confirmed."
    ChallengeRequired "consent.challenge-required"
        "A dangerous operation has no effect before it is confirmed."
        "Confirm it within its window: `swarmgate challenge confirm ID --reason TEXT`."
    UnknownChallenge "consent.unknown-challenge"
        "A confirmation names a challenge that is open."
        "List what is open: `swarmgate challenge list`."
    ChallengeExpired "consent.challenge-expired"
        "A challenge is confirmed within its window."
        "Send the command again with a new idempotencyKey, and confirm it in time."
    ChallengeMismatch "consent.challenge-mismatch"
        "A confirmation is for the command that was challenged, and for no other."
        "Look at the challenge (`swarmgate challenge show ID`) and confirm what it says."
    ChallengeUsed "consent.challenge-used"
        "A challenge is confirmed once."
        "Nothing: it was confirmed. For another effect send a new command."
    SelfConfirm "consent.self-confirm"
        "Where a second person is required, the requester's own confirmation does not count."
        "Ask somebody else to confirm."
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
    /// The bound of what is remembered, where that is why.
    pub bound: Option<Bound>,
}

impl Refusal {
    /// A refusal without a pointer.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        // It may name what a sender named: a gate, a worker.
        let detail = match detail.into() {
            Cow::Owned(words) => Cow::Owned(plain::escaped(&words).into_owned()),
            words => words,
        };
        Self { reason, detail, pointer: None, bound: None }
    }

    /// There is no room for what would have to be remembered.
    pub fn full(bound: Bound, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { bound: Some(bound), ..Self::new(Reason::QuotaExceeded, detail) }
    }

    /// The same refusal, pointing at a place in the body.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }
}
