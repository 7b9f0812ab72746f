//! What comes back to an order, and what a person or a script is told of it.
//!
//! Owns: telling an end from a step on the way, the words of a refusal with its next step, and
//! those of a challenge.
//! Never: takes one target's outcome for the end of a fan-out, or a challenge for a success.
//! Holds: 0 is success, 3 a no or an end without success, 1 no end yet; JSON is one object an
//! answer.

use serde_json::{Map, Value, json};

use super::{
    CliError, Exit, Globals, Out,
    echo::{LIVE, whole},
    order::Order,
    output::aside,
    runbook,
    stopping::Stop,
    table::{or_nothing, place},
};
use crate::{
    contract::{
        command::{Class, Commands},
        message::Message,
        reason::Reason,
        routing::{ControlPlaneRouting, Family, Scope},
    },
    view::lenient::words,
};

/// The router's word for a command that waits for its confirmation.
const CHALLENGE_REQUIRED: &str = "ChallengeRequired";

/// One answer.
#[derive(Clone, Debug)]
pub struct HeardOutcome {
    /// The status of an outcome; a refused copy counts as `Refused`.
    status: String,
    code: Option<String>,
    detail: Option<String>,
    context: Value,
    /// Whose it is: the asked scope itself, or one of its targets.
    scope: Option<Scope>,
}

impl HeardOutcome {
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
    stop: Option<Stop>,
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
            stop: None,
        }
    }

    /// The stop that what ended it has ordered.
    pub fn stop(&mut self) -> Option<Stop> {
        self.stop.take()
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
        let lines = vec![format!("sent; `swarmgate wait {}` waits for its end", self.correlation)];
        self.tell(Telling { exit: Exit::Done, fields: Map::new(), lines })
    }

    /// Nobody waits any longer.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn silent(&self, why: &str) -> Result<Exit, CliError> {
        let stop = class(self.order.kind_type) == Some(Class::Stop);
        let page = if stop { runbook::STOP_STUCK } else { runbook::BROKER_DOWN };
        let id = &self.correlation;
        let next =
            format!("`swarmgate commands {id}` shows who has not answered, `swarmgate wait {id}` waits on");
        let lines = vec![
            format!("{why}; it was sent and may still end"),
            format!("  next: {next}"),
            format!("  runbook: {page}"),
        ];
        let fields = fields([("nextStep", next.into()), ("runbook", page.into())]);
        self.tell(Telling { exit: Exit::Fault, fields, lines })
    }

    /// Takes an answer; the exit once it is the end. With `on`, a challenge is not.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn hear(&mut self, heard: &HeardOutcome, on: bool) -> Result<Option<Exit>, CliError> {
        if heard.scope.as_ref().is_some_and(|scope| *scope != self.order.scope) {
            let target = or_nothing(heard.scope.as_ref());
            if !self.json {
                aside(&whole(&format!("  {target}: {}", heard.status)));
            }
            self.targets.push(json!({ "target": target, "status": heard.status }));
            return Ok(None);
        }
        if heard.status == CHALLENGE_REQUIRED {
            let exit = self.tell(self.challenged(heard))?;
            return Ok((!on).then_some(exit));
        }
        self.stop = Stop::of(&heard.context);
        self.tell(self.ended(heard)).map(Some)
    }

    /// The challenge, and who can do what with it.
    fn challenged(&self, heard: &HeardOutcome) -> Telling {
        let text = |name: &str| heard.context.get(name).and_then(words);
        let id = text("challengeId").unwrap_or_default();
        let [confirm, reject] = ["confirm", "reject"].map(|act| line(act, &id));
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
        let left_alone = left_alone.into_iter().flatten().filter_map(words);
        lines.extend(left_alone.map(|left_alone| format!("  not affected  {left_alone}")));
        lines.push(format!("  confirm       {confirm}"));
        lines.push(format!("  reject        {reject}"));
        lines.push(format!("  runbook       {}", runbook::CHALLENGE));
        let fields = fields([
            ("status", CHALLENGE_REQUIRED.into()),
            ("challenge", heard.context.clone()),
            ("nextStep", confirm.into()),
            ("runbook", runbook::CHALLENGE.into()),
        ]);
        Telling { exit: Exit::Fault, fields, lines }
    }

    /// How it ended, and after a no what to do.
    fn ended(&self, heard: &HeardOutcome) -> Telling {
        let kind_type = self.order.kind_type;
        let commands = Commands::default();
        let row = commands.get(kind_type);
        // A confirmation can be taken, and its command refused by what has changed since.
        let refused_since =
            heard.context.pointer("/command/status").and_then(Value::as_str) == Some("refused");
        let success = row.is_some_and(|row| row.success.contains(&heard.status)) && !refused_since;
        let mut lines = vec![format!("{kind_type} {}: {}", self.order.echo.target, heard.status)];
        let because = [heard.code.clone(), heard.detail.clone()];
        let because: Vec<String> = because.into_iter().flatten().collect();
        if !because.is_empty() {
            lines.push(format!("  {}", because.join(": ")));
        }
        let missing = heard.context.get("missingNames").and_then(Value::as_array).into_iter().flatten();
        lines.extend(missing.filter_map(words).map(|name| format!("  missing: {}", place(&name))));
        let (mut next, mut page) = (None, None);
        if !success {
            (next, page) = self.next(heard);
            lines.extend(next.iter().map(|next| format!("  next: {next}")));
            lines.extend(page.map(|page| format!("  runbook: {page}")));
            let code = heard.code.iter();
            lines.extend(
                code.map(|code| format!("  reason: docs/reasons/{code}.md, or `swarmgate explain {code}`")),
            );
        }
        let fields = fields([
            ("status", heard.status.clone().into()),
            ("success", success.into()),
            ("code", heard.code.clone().into()),
            ("detail", heard.detail.clone().into()),
            ("context", heard.context.clone()),
            ("nextStep", next.into()),
            ("runbook", page.into()),
        ]);
        Telling { exit: if success { Exit::Done } else { Exit::Refused }, fields, lines }
    }

    /// The next step after an end without success, and its page.
    fn next(&self, heard: &HeardOutcome) -> (Option<String>, Option<&'static str>) {
        let Some(code) = &heard.code else {
            let eases = class(self.order.kind_type).is_some_and(Class::always_passes);
            let unanswered = matches!(heard.status.as_str(), "TimedOut" | "Partial" | "Failed");
            let confirmed = heard.context.pointer("/command/seq").map(ToString::to_string);
            let id = confirmed.unwrap_or_else(|| self.correlation.clone());
            let next = format!("`swarmgate commands {id}` shows what was said of it, and by whom");
            return (Some(next), (eases && unanswered).then_some(runbook::STOP_STUCK));
        };
        let told = heard.context.get("nextStep").and_then(words);
        let known = || Reason::from_code(code).map(|reason| reason.next_step().to_owned());
        let mut next = told.or_else(known).unwrap_or_else(|| format!("`swarmgate explain {code}`"));
        if runbook::is_want_of_permission(code) {
            next = format!("`{}` may not do this; ask somebody who may. {next}", self.order.echo.sender);
        }
        (Some(next), runbook::of(code))
    }

    /// The one form of every answer.
    fn tell(&self, telling: Telling) -> Result<Exit, CliError> {
        let mut out = Out::new();
        if !self.json {
            // A stranger's line break must not make a line that looks like ours.
            let lines: Vec<String> = telling.lines.iter().map(|line| whole(line)).collect();
            out.text(&format!("{}\n", lines.join("\n")))?;
            return Ok(telling.exit);
        }
        let mut answer = fields([
            ("sent", true.into()),
            ("type", self.order.kind_type.into()),
            ("order", self.order.echo.to_json()),
            ("correlationId", self.correlation.clone().into()),
            ("idempotencyKey", self.key.clone().into()),
            ("targets", self.targets.clone().into()),
        ]);
        for name in ["status", "success", "code", "detail", "nextStep", "runbook"] {
            answer.insert(name.to_owned(), Value::Null);
        }
        answer.extend(telling.fields);
        out.json(&Value::Object(answer))?;
        Ok(telling.exit)
    }
}

/// What is to be told, for programs and for people.
struct Telling {
    exit: Exit,
    fields: Map<String, Value>,
    lines: Vec<String>,
}

fn fields<const COUNT: usize>(named: [(&str, Value); COUNT]) -> Map<String, Value> {
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contract::message::{HeaderValue, Properties},
        interface::cli::echo::Echo,
    };

    fn order(kind_type: &'static str, instance: &str) -> Order {
        let scope = Scope::new("kestrel", "bot", instance);
        let echo =
            Echo { target: scope.to_string(), sender: "ann".to_owned(), live: true, ..Echo::default() };
        Order { kind_type, scope, data: json!({}), echo }
    }

    fn message(key: &str, data: &Value, headers: &[(&str, &str)]) -> Message {
        let text = |value: &&str| HeaderValue::Text((*value).to_owned());
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned().into(), text(value))).collect();
        let body = json!({ "correlationId": "c-1", "idempotencyKey": "i-1", "data": data });
        Message {
            exchange: "swarmgate.out".to_owned(),
            routing_key: key.to_owned(),
            properties: Properties { headers, ..Properties::default() },
            body: body.to_string().into(),
        }
    }

    fn heard(key: &str, data: &Value) -> HeardOutcome {
        HeardOutcome::read(&message(key, data, &[]), "bot-stop", "c-1").unwrap()
    }

    fn answered(order: &Order) -> Answered<'_> {
        Answered::new(order, &message("", &json!({}), &[]), &Globals::default())
    }

    #[test]
    fn only_what_answers_the_order_is_heard() {
        let stopped = json!({ "status": "Stopped" });
        let read = |key: &str, kind_type, correlation| {
            HeardOutcome::read(&message(key, &stopped, &[]), kind_type, correlation).is_some()
        };
        assert!(read("event.outcome.bot-stop.kestrel.bot.b-1", "bot-stop", "c-1"));
        assert!(!read("event.outcome.bot-stop.kestrel.bot.b-1", "bot-stop", "c-2"));
        assert!(!read("event.outcome.bot-pause.kestrel.bot.b-1", "bot-stop", "c-1"));
        assert!(!read("signal.bot-stop.kestrel.bot.b-1", "bot-stop", "c-1"), "the order itself is no answer");
        let headers = [("x-swarmgate-reason", "command.conflict"), ("x-swarmgate-detail", "another body")];
        let copy = message("signal.bot-stop.kestrel.bot.b-1", &json!({}), &headers);
        let copy = HeardOutcome::read(&copy, "bot-stop", "c-1").unwrap();
        assert_eq!((copy.status.as_str(), copy.code.as_deref()), ("Refused", Some("command.conflict")));
    }

    #[test]
    fn one_target_is_not_the_end_of_a_fan_out() {
        let order = order("bot-stop", "ALL");
        let mut answered = answered(&order);
        let one = heard("event.outcome.bot-stop.kestrel.bot.b-1", &json!({ "status": "Stopped" }));
        assert_eq!(answered.hear(&one, false).unwrap(), None);
        assert_eq!(answered.targets, [json!({ "target": "kestrel/bot/b-1", "status": "Stopped" })]);
        let context = json!({ "missingNames": ["kestrel/bot/b-2"] });
        let sum = json!({ "status": "Partial", "message": "one of two", "context": context });
        let told = answered.ended(&heard("event.outcome.bot-stop.kestrel.bot.ALL", &sum));
        assert_eq!(told.exit, Exit::Refused);
        assert_eq!(
            told.lines,
            [
                "bot-stop kestrel/bot/ALL: Partial",
                "  one of two",
                "  missing: kestrel/bot/b-2",
                "  next: `swarmgate commands c-1` shows what was said of it, and by whom",
                "  runbook: docs/operating/runbooks/lifecycle.stop-stuck.md",
            ]
        );
    }

    #[test]
    fn a_challenge_is_no_success_and_says_who_can_confirm() {
        let order = order("bot-start", "b-1");
        let context = json!({
            "challengeId": "c-4f", "requires": "second-person", "expiresAt": "2026-03-04T10:16:00Z",
            "operation": "bot-start", "target": "kestrel/bot/b-1", "effect": "it trades",
            "notAffected": ["b-2"],
        });
        let data = json!({ "status": "ChallengeRequired", "context": context });
        let key = "event.outcome.bot-start.kestrel.bot.b-1";
        let heard = HeardOutcome::read(&message(key, &data, &[]), "bot-start", "c-1").unwrap();
        let mut answered = answered(&order);
        let told = answered.challenged(&heard);
        assert_eq!(told.exit, Exit::Fault);
        assert_eq!(
            told.lines,
            [
                "[LIVE]  nothing has happened yet: challenge c-4f waits for its confirmation",
                "  operation     bot-start kestrel/bot/b-1",
                "  requires      second-person: somebody other than `ann`",
                "  expires       2026-03-04T10:16:00Z",
                "  effect        it trades",
                "  not affected  b-2",
                "  confirm       swarmgate challenge confirm c-4f --reason WHY",
                "  reject        swarmgate challenge reject c-4f --reason WHY",
                "  runbook       docs/operating/runbooks/challenge.md",
            ]
        );
        assert_eq!(answered.hear(&heard, true).unwrap(), None, "who waits on waits on");
        assert_eq!(answered.hear(&heard, false).unwrap(), Some(Exit::Fault));
    }

    #[test]
    fn a_confirmation_of_what_is_refused_since_is_no_success() {
        let order = order("challenge-confirm", "b-1");
        let answered = answered(&order);
        let applied = |status: &str| {
            let context = json!({ "challengeId": "c-4f", "command": { "seq": 7, "status": status } });
            let data = json!({ "status": "Applied", "message": "so it is", "context": context });
            let key = "event.outcome.challenge-confirm.kestrel.bot.b-1";
            answered
                .ended(&HeardOutcome::read(&message(key, &data, &[]), "challenge-confirm", "c-1").unwrap())
        };
        assert_eq!((applied("confirmed").exit, applied("waits").exit), (Exit::Done, Exit::Done));
        let told = applied("refused");
        assert_eq!(told.exit, Exit::Refused);
        assert!(told.lines.iter().any(|line| line.contains("`swarmgate commands 7`")), "{:?}", told.lines);
    }

    #[test]
    fn a_no_names_reason_next_step_and_runbook() {
        let order = order("bot-stop", "b-1");
        let answered = answered(&order);
        let refused = |code: &str, context: Value| {
            let data = json!({ "status": "Refused", "code": code, "message": "no", "context": context });
            answered.ended(&heard("event.outcome.bot-stop.kestrel.bot.b-1", &data))
        };
        let told = refused("audit.unavailable", json!({ "nextStep": "mend it" }));
        assert_eq!(told.exit, Exit::Refused);
        assert_eq!(
            told.lines,
            [
                "bot-stop kestrel/bot/b-1: Refused",
                "  audit.unavailable: no",
                "  next: mend it",
                "  runbook: docs/operating/runbooks/ledger-unwritable.md",
                "  reason: docs/reasons/audit.unavailable.md, or `swarmgate explain audit.unavailable`",
            ]
        );
        let told = refused("policy.denied", json!({}));
        assert!(told.lines.iter().any(|line| line.contains("`ann` may not do this")), "{:?}", told.lines);
        let told =
            answered.ended(&heard("event.outcome.bot-stop.kestrel.bot.b-1", &json!({ "status": "Stopped" })));
        assert_eq!((told.exit, told.lines.len(), &told.fields["success"]), (Exit::Done, 1, &true.into()));
    }
}
