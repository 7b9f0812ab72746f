//! What comes back to an order, and what a person or a script is told of it.
//!
//! Owns: telling an end from a step on the way, the words of a refusal with its next step, and those of a challenge.
//! Never: takes one target's outcome for the end of a fan-out, or a challenge for a success.
//! Holds: 0 is success, 3 a no or an end without success, 1 no end yet; JSON is one object an answer.

use serde_json::{Map, Value, json};

use super::{
    CliError, Exit, Globals, Out, answers,
    echo::{LIVE, whole},
    order::Order,
    output::aside,
    runbook,
    table::or_nothing,
};
use crate::contract::{
    command::{Class, Commands},
    message::Message,
    reason::Reason,
    routing::{ControlPlaneRouting, Family, Scope},
};

/// The router's word for a command that waits for its confirmation.
const CHALLENGE_REQUIRED: &str = "ChallengeRequired";

/// One answer.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The status of an outcome; a refused copy counts as `Refused`.
    status: String,
    code: Option<String>,
    detail: Option<String>,
    context: Value,
    /// Whose it is: the asked scope itself, or one of its targets.
    scope: Option<Scope>,
}

impl Heard {
    /// Reads a message; `None` for what answers something else.
    pub fn read(message: &Message, kind_type: &str, correlation: &str) -> Option<Self> {
        let key = ControlPlaneRouting::parse(&message.routing_key).ok()?;
        let body: Value = serde_json::from_slice(&message.body).ok()?;
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        if key.kind_type != kind_type || text("/correlationId").as_deref() != Some(correlation) {
            return None;
        }
        let header = |name: &str| message.properties.header_text(name).map(str::to_owned);
        if let Some(code) = header("x-swarmgate-reason") {
            let detail = header("x-swarmgate-detail");
            return Some(Self {
                status: "Refused".to_owned(),
                code: Some(code),
                detail,
                context: Value::Null,
                scope: None,
            });
        }
        (key.family == Family::Outcome).then(|| Self {
            status: text("/data/status").unwrap_or_default(),
            code: text("/data/code"),
            detail: text("/data/message"),
            context: body.pointer("/data/context").cloned().unwrap_or_default(),
            scope: Some(key.scope),
        })
    }
}

/// The answers to one order, as they come.
pub struct Answered<'a> {
    order: &'a Order,
    correlation: String,
    key: String,
    json: bool,
    targets: Vec<Value>,
}

impl<'a> Answered<'a> {
    /// Nothing yet.
    pub fn new(order: &'a Order, message: &Message, globals: &Globals) -> Self {
        let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            order,
            correlation: text("correlationId"),
            key: text("idempotencyKey"),
            json: globals.is_json(),
            targets: Vec::new(),
        }
    }

    /// By what it is recognised.
    pub fn correlation(&self) -> &str {
        &self.correlation
    }

    /// Nothing more was wanted.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn sent(&self) -> Result<Exit, CliError> {
        self.tell(&Map::new(), &format!("sent; `swarmgate wait {}` waits for its end", self.correlation))?;
        Ok(Exit::Done)
    }

    /// Nobody waits any longer.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn silent(&self, why: &str) -> Result<Exit, CliError> {
        let stop = class(self.order.kind_type) == Some(Class::Stop);
        let page = if stop { runbook::STOP_STUCK } else { runbook::BROKER_DOWN };
        let next = format!("`swarmgate wait {}` waits on; runbook: {page}", self.correlation);
        let mut fields = Map::new();
        fields.insert("nextStep".to_owned(), Value::from(next.clone()));
        fields.insert("runbook".to_owned(), Value::from(page));
        self.tell(&fields, &format!("{why}; it was sent and may still end\n  next: {next}"))?;
        Ok(Exit::Fault)
    }

    /// Takes an answer; the exit once it is the end.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn hear(&mut self, heard: Heard, on: bool) -> Result<Option<Exit>, CliError> {
        if heard.scope.as_ref().is_some_and(|scope| *scope != self.order.scope) {
            let target = or_nothing(heard.scope.as_ref());
            if !self.json {
                aside(&whole(&format!("  {target}: {}", heard.status)));
            }
            self.targets.push(json!({ "target": target, "status": heard.status }));
            return Ok(None);
        }
        if heard.status == CHALLENGE_REQUIRED {
            self.challenged(&heard)?;
            return Ok((!on).then_some(Exit::Fault));
        }
        self.ended(&heard).map(Some)
    }

    /// Shows the challenge, and who can do what with it.
    fn challenged(&self, heard: &Heard) -> Result<(), CliError> {
        let text = |name: &str| heard.context.get(name).and_then(answers::words);
        let id = text("challengeId").unwrap_or_default();
        let [confirm, reject] = ["confirm", "reject"].map(|act| line(act, &id));
        let mut fields = Map::new();
        fields.insert("status".to_owned(), Value::from(CHALLENGE_REQUIRED));
        fields.insert("challenge".to_owned(), heard.context.clone());
        fields.insert("nextStep".to_owned(), Value::from(confirm.clone()));
        fields.insert("runbook".to_owned(), Value::from(runbook::CHALLENGE));
        let echo = &self.order.echo;
        let mark = if echo.live { format!("{LIVE}  ") } else { String::new() };
        let mut lines = vec![
            format!("{mark}nothing has happened yet: challenge {id} waits for its confirmation"),
            format!("  operation     {} {}", self.order.kind_type, echo.target),
            format!("  requires      {}", requires(text("requires").as_deref(), &echo.sender)),
            format!("  expires       {}", or_nothing(text("expiresAt"))),
            format!("  effect        {}", text("effect").unwrap_or_else(|| echo.effect.clone())),
        ];
        let left_alone = heard.context.get("notAffected").and_then(Value::as_array);
        let left_alone = left_alone.into_iter().flatten().filter_map(answers::words);
        lines.extend(left_alone.map(|left_alone| format!("  not affected  {left_alone}")));
        lines.push(format!("  confirm       {confirm}"));
        lines.push(format!("  reject        {reject}"));
        lines.push(format!("  runbook       {}", runbook::CHALLENGE));
        self.tell(&fields, &lines.join("\n"))
    }

    /// Tells how it ended, and after a no what to do.
    fn ended(&self, heard: &Heard) -> Result<Exit, CliError> {
        let kind_type = self.order.kind_type;
        let commands = Commands::default();
        let row = commands.get(kind_type);
        let success = row.is_some_and(|row| row.success.contains(&heard.status));
        let mut fields = Map::new();
        fields.insert("status".to_owned(), Value::from(heard.status.clone()));
        fields.insert("success".to_owned(), Value::from(success));
        fields.insert("code".to_owned(), Value::from(heard.code.clone()));
        fields.insert("detail".to_owned(), Value::from(heard.detail.clone()));
        fields.insert("context".to_owned(), heard.context.clone());
        let mut lines = vec![format!("{kind_type} {}: {}", self.order.echo.target, heard.status)];
        let because = [heard.code.clone(), heard.detail.clone()];
        let because: Vec<String> = because.into_iter().flatten().collect();
        if !because.is_empty() {
            lines.push(format!("  {}", because.join(": ")));
        }
        let missing = heard.context.get("missingNames").and_then(Value::as_array).into_iter().flatten();
        lines.extend(missing.filter_map(answers::place).map(|name| format!("  missing: {name}")));
        if !success {
            let (next, page) = self.next(heard);
            fields.insert("nextStep".to_owned(), Value::from(next.clone()));
            fields.insert("runbook".to_owned(), Value::from(page));
            lines.push(format!("  next: {next}"));
            lines.extend(page.map(|page| format!("  runbook: {page}")));
            if let Some(code) = &heard.code {
                lines.push(format!("  reason: docs/reasons/{code}.md, or `swarmgate explain {code}`"));
            }
        }
        self.tell(&fields, &lines.join("\n"))?;
        Ok(if success { Exit::Done } else { Exit::Refused })
    }

    /// The next step after an end without success, and its page.
    fn next(&self, heard: &Heard) -> (String, Option<&'static str>) {
        let stop = class(self.order.kind_type).is_some_and(Class::always_passes);
        let Some(code) = &heard.code else {
            let page = match heard.status.as_str() {
                "TimedOut" | "Partial" | "Failed" if stop => Some(runbook::STOP_STUCK),
                _ => None,
            };
            let next =
                format!("`swarmgate commands {}` shows each target and what it said", self.correlation);
            return (next, page);
        };
        let told = heard.context.get("nextStep").and_then(answers::words);
        let known = || Reason::from_code(code).map(|reason| reason.next_step().to_owned());
        let mut next = told.or_else(known).unwrap_or_else(|| format!("`swarmgate explain {code}`"));
        if runbook::is_want_of_permission(code) {
            next = format!("`{}` may not do this; ask somebody who may. {next}", self.order.echo.sender);
        }
        (next, runbook::of(code))
    }

    /// The one form of every answer.
    fn tell(&self, fields: &Map<String, Value>, text: &str) -> Result<(), CliError> {
        let mut out = Out::new();
        if !self.json {
            let lines: Vec<String> = text.split('\n').map(whole).collect();
            return out.line(&lines.join("\n"));
        }
        let mut answer = json!({
            "sent": true, "type": self.order.kind_type, "order": self.order.echo.to_json(),
            "correlationId": self.correlation, "idempotencyKey": self.key, "targets": self.targets,
            "status": null, "success": null, "code": null, "detail": null, "nextStep": null, "runbook": null,
        });
        for (name, value) in fields {
            answer[name] = value.clone();
        }
        out.json(&answer)
    }
}

/// Who has to confirm, told to whoever asked.
pub fn requires(word: Option<&str>, sender: &str) -> String {
    match word {
        Some("explicit") => format!("explicit: a confirmation as a separate act, also by `{sender}`"),
        Some("second-person") => format!("second-person: somebody other than `{sender}`"),
        Some("quorum") => "quorum: several people, as its policy says".to_owned(),
        Some(other) => other.to_owned(),
        None => "a confirmation".to_owned(),
    }
}

/// The line that answers a challenge.
pub fn line(act: &str, id: &str) -> String {
    format!("swarmgate challenge {act} {id} --reason WHY")
}

fn class(kind_type: &str) -> Option<Class> {
    Commands::default().get(kind_type).map(|row| row.class)
}
