//! The examples in docs/reasons: each refused record gets the page's code, each mended one is
//! carried.
//!
//! A fenced block `json before` is judged first, `json refused` must get the code, `json mended`
//! must be forwarded after all of them. The few settings that an example needs stand here, beside
//! the code they belong to.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use swarmgate::{
    contract::{
        Contract,
        audit::{Action, Change, Fact, Genesis, Mode, Verdict},
        control::{ControlMessage, MessageKind},
        interlock::{Requires, SafetyMode},
        message::{Message, Properties},
        reason::Reason,
        strict::Limits,
        timestamp::Timestamp,
    },
    decision::{
        request::Request,
        rules::Rules,
        session::ControlPlaneSession,
        state::{Belief, State},
    },
    ledger::chain::Chain,
    runtime::corridor::{self, Corridor, Judged, Names},
};

#[test]
fn every_example_gets_what_its_page_says() {
    for reason in Reason::ALL {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/reasons/{reason}.md"));
        let text = fs::read_to_string(&page).unwrap_or_else(|fault| panic!("{}: {fault}", page.display()));
        Example::of(*reason).check(&text);
    }
}

/// One page's corridor.
struct Example {
    reason: Reason,
    contract: Contract,
    corridor: Corridor,
}

impl Example {
    fn of(reason: Reason) -> Self {
        let (mut limits, mut rules) = (Limits::default(), Rules::default());
        match reason {
            Reason::PolicyDenied => rules.consent.actors = vec!["ann".to_owned()],
            Reason::GateFailed | Reason::GateUnknown => {
                rules.safety.gates_required = vec!["risk".to_owned()];
                rules.safety.gate_reporters.insert("risk".to_owned(), "risk-bot".to_owned());
            }
            Reason::SelfConfirm => rules.consent.requires = Requires::SecondPerson,
            Reason::TooLarge => limits.body_bytes_max = 1024,
            Reason::QuotaExceeded => rules.idempotency_keys_max = 1,
            _ => {}
        }
        let mut corridor = Corridor::new(State::new(rules), Chain::new(), Names::with_prefix("swarmgate"));
        let genesis = Genesis {
            environment: "dev".to_owned(),
            initial_mode: SafetyMode::Normal,
            ledger_id: "0".repeat(32),
            mode: Mode::Enforce,
            version: "0".to_owned(),
        };
        let began = Timestamp::parse("2026-03-04T10:00:00Z").expect("a time");
        corridor.record(Fact::new(Action::Genesis, began, Change::Genesis(genesis)));
        if reason == Reason::AuditUnavailable {
            corridor.state_mut().believe(&Belief::LedgerWritable(false));
        }
        Self { reason, contract: Contract::built_in(limits).expect("the contract"), corridor }
    }

    fn check(mut self, page: &str) {
        let reason = self.reason;
        for before in blocks(page, "json before") {
            let decision = self.judge(&before).decision;
            let passed = matches!(decision.verdict, Some(Verdict::Forward | Verdict::Challenge));
            assert!(passed, "{reason}: before: {:?}", decision.refusal);
        }
        let refused = blocks(page, "json refused");
        assert_eq!(refused.len(), 1, "{reason}: one refused record");
        if reason == Reason::WorkerRequired {
            return on_the_channel(&refused[0], reason);
        }
        let mut pointed = false;
        for record in &refused {
            let decision = self.judge(record).decision;
            let refusal = decision.refusal.unwrap_or_else(|| panic!("{reason}: the refused record passed"));
            assert_eq!(refusal.reason, reason, "{}", refusal.detail);
            pointed |= refusal.pointer.is_some();
        }
        // A page that promises the operator a pointer keeps it, and one that has a pointer says so.
        if reason != Reason::Duplicate {
            assert_eq!(page.contains("x-swarmgate-pointer"), pointed, "{reason}: the pointer");
        }
        for mended in blocks(page, "json mended") {
            let decision = self.judge(&mended).decision;
            assert_eq!(decision.verdict, Some(Verdict::Forward), "{reason}: {:?}", decision.refusal);
        }
    }

    fn judge(&mut self, record: &Value) -> Judged {
        let now = Timestamp::parse(record["timestamp"].as_str().expect("`timestamp`")).expect("a time");
        let message = message(record);
        let arrival = corridor::read(&self.contract, &message, false);
        let decision = self.corridor.decide(&Request::Arrived(Box::new(arrival)), now);
        self.corridor.settle(decision, Some(message), None)
    }
}

/// A message that only the secure channel can be told.
fn on_the_channel(record: &Value, reason: Reason) {
    let text = |name: &str| record[name].as_str().expect("text").to_owned();
    let kind = MessageKind::from_word(&text("kind")).expect("a kind");
    let payload = record["payload"].as_object().cloned().expect("a payload");
    let message = ControlMessage::new(kind, text("correlation_id"), None, payload).expect("a message");
    let fault = ControlPlaneSession::new()
        .process(&message, Timestamp::from_micros(0))
        .expect_err("a protocol error");
    assert_eq!(fault.reason(), Some(reason));
}

fn message(record: &Value) -> Message {
    let body = match (record["bodyText"].as_str(), record["bodyBase64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => STANDARD.decode(text).expect("base64"),
        (None, None) => record["body"].to_string().into_bytes(),
    };
    let properties: Properties = serde_json::from_value(record["properties"].clone()).expect("properties");
    let routing_key = record["routingKey"].as_str().expect("`routingKey`").to_owned();
    Message { exchange: "swarmgate.in".to_owned(), routing_key, properties, body: body.into() }
}

/// The JSON of every fenced block with that info string.
fn blocks(page: &str, info: &str) -> Vec<Value> {
    let open = format!("```{info}\n");
    let text = page.split(open.as_str()).skip(1).filter_map(|rest| rest.split("\n```").next());
    text.map(|text| serde_json::from_str(text).expect("a block of JSON")).collect()
}
