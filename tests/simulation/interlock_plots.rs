//! What people do in the worlds of the interlock, and what happens to them meanwhile.
//!
//! Owns: the plots: who asks for what, who confirms, and the races between a challenge and
//! everything else.
//! Never: judges what came of it, or waits for more than it needs to go on.
//! Holds: a plot may fail at any step, as it does for people; the next one begins from where things
//! stand.

use super::*;

impl World {
    // What people do.

    /// A signal with a key of its own; answers its correlationId.
    pub(super) async fn say(&mut self, actor: &str, kind_type: &str, scope: &Scope, data: Value) -> String {
        let (correlation_id, message) = self.signal(actor, kind_type, scope, data);
        self.put(&[message]).await;
        correlation_id
    }

    fn signal(&mut self, actor: &str, kind_type: &str, scope: &Scope, data: Value) -> (String, Message) {
        self.sent += 1;
        let correlation_id = format!("c-{}", self.sent);
        let body = json!({
            "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": actor,
            "scope": scope, "correlationId": correlation_id, "idempotencyKey": format!("i-{}", self.sent),
            "data": data,
        });
        let key = ControlPlaneRouting::of(Family::Signal, kind_type, scope);
        (correlation_id, message(&key, actor, &body))
    }

    pub(super) async fn put(&self, messages: &[Message]) {
        let batch: Vec<Departure> =
            messages.iter().map(|message| Departure { message: message.clone(), mandatory: true }).collect();
        let publisher = self.broker.publisher().await.expect("a publisher");
        publisher.publish(&batch.iter().collect::<Vec<_>>(), PATIENCE).await.expect("fates");
    }

    /// Asks for something dangerous; `None` where no challenge came of it.
    async fn ask(&mut self, kind_type: &str, scope: &Scope, data: Value) -> Option<Ask> {
        let correlation_id = self.say("ann", kind_type, scope, data).await;
        for _ in 0..400 {
            self.pump().await;
            if let Some(ask) = self.asks.get(&correlation_id) {
                return Some(ask.clone());
            }
            if self.is_idle() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.pump().await;
        self.asks.get(&correlation_id).cloned()
    }

    /// Asks for a live start of a bot that is made ready for it.
    async fn ask_live(&mut self, number: u64) -> Option<Ask> {
        self.make_normal().await;
        self.make_idle(number).await;
        let life = self.fold().await.life(&bot(number));
        let kind_type = if life == Life::Paused { "bot-resume" } else { "bot-start" };
        let data = json!({ "mode": "live", "requestedTransition": format!("{life}->RUNNING_LIVE") });
        self.ask(kind_type, &bot(number), data).await
    }

    fn confirmation(&mut self, actor: &str, ask: &Ask) -> Message {
        let data = json!({ "challengeId": ask.id, "reason": "it is wanted" });
        self.signal(actor, "challenge-confirm", &Scope::router("gate-1"), data).1
    }

    /// Those whose confirmations are enough.
    fn enough(&self) -> &'static [&'static str] {
        match self.requires {
            Requires::Explicit => &["ann"],
            Requires::SecondPerson => &["bob"],
            Requires::Quorum(_) => &["bob", "cyd"],
        }
    }

    /// All but the last of the confirmations that it takes, then the last one's message.
    async fn all_but_one(&mut self, ask: &Ask) -> Message {
        let mut messages: Vec<Message> =
            self.enough().iter().map(|actor| self.confirmation(actor, ask)).collect();
        let last = messages.pop().expect("somebody confirms");
        if !messages.is_empty() {
            self.put(&messages).await;
            self.settle(100).await;
        }
        last
    }

    async fn approve(&mut self, ask: &Ask) {
        let last = self.all_but_one(ask).await;
        self.put(&[last]).await;
        self.settle(400).await;
    }

    /// Lowers what holds things up, as people would: each by a confirmed command.
    async fn make_normal(&mut self) {
        for _ in 0..2 {
            let fold = self.fold().await;
            for scope in [everything(), swarm()] {
                if fold.mode_of(&scope) > SafetyMode::Normal {
                    let data = json!({ "mode": "NORMAL", "reason": "all is well" });
                    if let Some(ask) = self.ask("safety-set", &scope, data).await {
                        self.approve(&ask).await;
                    }
                }
                if fold.is_tight(&scope) {
                    let data = json!({ "level": "ALLOW", "reason": "all is well" });
                    if let Some(ask) = self.ask("kill-switch-set", &scope, data).await {
                        self.approve(&ask).await;
                    }
                }
            }
        }
        if !self.gates.is_empty() && self.random.below(4) > 0 {
            let data = json!({ "gate": "ready", "result": "PASS" });
            self.say("ann", "gate-report", &everything(), data).await;
            self.settle(200).await;
        }
    }

    /// Brings a bot to where it may be started, whatever that takes.
    pub(super) async fn make_idle(&mut self, number: u64) {
        let scope = bot(number);
        for _ in 0..3 {
            match self.fold().await.life(&scope) {
                Life::Idle | Life::Paused | Life::Error => return,
                Life::Created => {
                    self.make_normal().await;
                    let data = json!({ "requestedTransition": "CREATED->IDLE" });
                    self.say("ann", "bot-init", &scope, data).await;
                }
                Life::Quarantined => {
                    self.make_normal().await;
                    let data = json!({ "requestedTransition": "QUARANTINED->IDLE" });
                    if let Some(ask) = self.ask("bot-release", &scope, data).await {
                        self.approve(&ask).await;
                    }
                }
                _ => {
                    self.say("bob", "bot-stop", &scope, json!({ "requestedTransition": "ANY->IDLE" })).await;
                }
            }
            self.settle(400).await;
        }
    }

    // What happens.

    pub(super) async fn plot(&mut self, plot: u64) {
        let number = self.random.below(BOTS);
        match plot {
            12 => self.quarantine_and_release(number).await,
            13 => self.change_what_runs(number).await,
            14 => self.flatten(number).await,
            15 => self.gate(number).await,
            _ => {
                // Whoever wants the ledger to fail before the challenge has it fail here.
                let fails_at = if plot == 10 { 1 + self.random.below(3) } else { 0 };
                if fails_at == 1 {
                    self.make_normal().await;
                    self.make_idle(number).await;
                    self.fail_while(number).await;
                }
                let Some(ask) = self.ask_live(number).await else { return };
                self.race(plot, number, &ask, fails_at).await;
                self.settle(300).await;
            }
        }
    }

    /// The race between a challenge and whatever else happens.
    async fn race(&mut self, plot: u64, number: u64, ask: &Ask, fails_at: u64) {
        let last = self.all_but_one(ask).await;
        let stop = ("bot-stop", json!({ "requestedTransition": "ANY->IDLE" }));
        match plot {
            1 => self.put(&[last.clone(), last.clone(), last]).await,
            2 => {
                let messages: Vec<Message> =
                    PEOPLE.iter().map(|actor| self.confirmation(actor, ask)).collect();
                self.put(&[messages, vec![last]].concat()).await;
            }
            3 => {
                let left = ask.expires_at.ms_since(clock::wall()) + self.random.below(9) as i64 - 4;
                tokio::time::sleep(Duration::from_millis(left.max(0) as u64)).await;
                self.put(&[last]).await;
            }
            4 => {
                self.restart().await;
                self.put(std::slice::from_ref(&last)).await;
                if self.random.below(2) == 0 {
                    self.restart().await;
                    self.put(&[last]).await;
                }
            }
            5 => {
                let (_, stop) = self.signal("bob", stop.0, &bot(number), stop.1);
                let both = if self.random.below(2) == 0 { [stop, last] } else { [last, stop] };
                self.put(&both).await;
            }
            6 => {
                let data = json!({ "challengeId": ask.id, "reason": "it is not wanted" });
                let (_, no) = self.signal("bob", "challenge-reject", &Scope::router("gate-1"), data);
                let both = if self.random.below(3) == 0 { [last, no] } else { [no, last] };
                self.put(&both).await;
            }
            7 => {
                self.settle(WINDOW_MS + 50).await;
                tokio::time::sleep(Duration::from_millis(WINDOW_MS)).await;
                self.put(&[last]).await;
            }
            8..=11 => self.unsettle((plot, fails_at), number, last).await,
            _ => self.put(&[last]).await,
        }
    }

    /// Something takes safety away around the last confirmation: the latch, an interlock, the
    /// ledger, a person.
    async fn unsettle(&mut self, (plot, fails_at): (u64, u64), number: u64, last: Message) {
        match plot {
            8 => {
                self.throw("FLATTEN");
                tokio::time::sleep(Duration::from_millis(self.random.below(50))).await;
                self.put(&[last]).await;
            }
            9 => {
                self.breach = true;
                let confirms_first = self.random.below(2) == 0;
                if confirms_first {
                    self.put(std::slice::from_ref(&last)).await;
                    tokio::time::sleep(Duration::from_millis(self.random.below(12))).await;
                }
                self.restart().await;
                self.put(&[last]).await;
            }
            10 if fails_at == 2 => {
                self.hand(REFUSE).await;
                self.put(&[last]).await;
                self.settle(150).await;
                self.hand(ALLOW).await;
            }
            10 => {
                self.put(&[last]).await;
                tokio::time::sleep(Duration::from_millis(self.random.below(8))).await;
                self.fail_while(number).await;
            }
            11 if !self.gates.is_empty() => {
                let data = json!({ "gate": "ready", "result": "FAIL" });
                let (_, report) = self.signal("cyd", "gate-report", &everything(), data);
                self.put(&[report, last]).await;
            }
            11 => {
                let mode = if self.random.below(2) == 0 { "SAFE" } else { "EMERGENCY_STOP" };
                let scope = if self.random.below(2) == 0 { everything() } else { swarm() };
                let data = json!({ "mode": mode, "reason": "something smells" });
                let (_, flip) = self.signal("cyd", "safety-set", &scope, data);
                let both = if self.random.below(2) == 0 { [flip, last] } else { [last, flip] };
                self.put(&both).await;
            }
            _ => self.put(&[last]).await,
        }
    }

    /// The ledger cannot be written while somebody asks for a start, a stop and a tightening.
    async fn fail_while(&mut self, number: u64) {
        self.hand(REFUSE).await;
        let live = json!({ "mode": "live", "requestedTransition": "IDLE->RUNNING_LIVE" });
        self.say("ann", "bot-start", &bot(number), live).await;
        if self.random.below(2) == 0 {
            self.say("bob", "bot-stop", &bot(number), json!({ "requestedTransition": "ANY->IDLE" })).await;
        }
        if self.random.below(2) == 0 {
            let data = json!({ "mode": "SAFE", "reason": "the ledger fails" });
            self.say("cyd", "safety-set", &everything(), data).await;
        }
        self.settle(150).await;
        self.hand(ALLOW).await;
        self.settle(700).await;
    }

    async fn quarantine_and_release(&mut self, number: u64) {
        let scope = bot(number);
        self.say("bob", "bot-quarantine", &scope, json!({ "requestedTransition": "ANY->QUARANTINED" })).await;
        self.settle(300).await;
        // Nothing but a confirmed release leads out.
        for kind_type in ["bot-start", "bot-init", "bot-stop"] {
            let data = json!({ "mode": "paper", "requestedTransition": "QUARANTINED->RUNNING_PAPER" });
            self.say("ann", kind_type, &scope, data).await;
        }
        self.settle(200).await;
        self.make_idle(number).await;
    }

    async fn change_what_runs(&mut self, number: u64) {
        if let Some(ask) = self.ask_live(number).await {
            self.approve(&ask).await;
        }
        let kind_type = if self.random.below(2) == 0 { "config-update" } else { "data-delete" };
        let data = json!({ "reason": "it is old", "rate": 5 });
        if let Some(ask) = self.ask(kind_type, &bot(number), data).await {
            // Nothing supersedes a change: what has changed meanwhile must refuse it.
            let race = if self.random.below(2) == 0 { 11 } else { self.random.below(PLOTS - 4) };
            self.race(race, number, &ask, 2).await;
        }
        let pause = json!({ "requestedTransition": "RUNNING_LIVE->PAUSED" });
        self.say("bob", "bot-pause", &bot(number), pause).await;
        self.settle(300).await;
    }

    async fn flatten(&mut self, number: u64) {
        if let Some(ask) = self.ask_live(number).await {
            self.approve(&ask).await;
        }
        if self.random.below(2) == 0 {
            let level = if self.random.below(2) == 0 { "FLATTEN" } else { "BLOCK" };
            self.throw(level);
        } else {
            let data = json!({ "level": "FLATTEN", "reason": "all out" });
            self.say("bob", "kill-switch-set", &swarm(), data).await;
        }
        let paper = json!({ "mode": "paper", "requestedTransition": "IDLE->RUNNING_PAPER" });
        self.settle(60).await;
        self.say("ann", "bot-start", &bot(number), paper).await;
        self.say("ann", "config-update", &bot(number), json!({ "rate": 6 })).await;
        self.settle(400).await;
        self.make_normal().await;
    }

    async fn gate(&mut self, number: u64) {
        self.make_normal().await;
        self.make_idle(number).await;
        let word = if self.random.below(2) == 0 { "FAIL" } else { "PASS" };
        let soon = clock::wall().plus_ms(60);
        let data = json!({ "gate": "ready", "result": word, "expiresAt": soon });
        self.say("ann", "gate-report", &everything(), data).await;
        tokio::time::sleep(Duration::from_millis(self.random.below(90))).await;
        let life = self.fold().await.life(&bot(number));
        let paper = json!({ "mode": "paper", "requestedTransition": format!("{life}->RUNNING_PAPER") });
        self.say("ann", "bot-start", &bot(number), paper).await;
        self.settle(300).await;
    }

    fn throw(&self, level: &str) {
        let wanted = latch::Latch {
            level: level.to_owned(),
            scope: "ALL".to_owned(),
            reason: "now".to_owned(),
            by: "bob".to_owned(),
            since: clock::wall(),
        };
        latch::throw(&self.ledger(), wanted).expect("a latch");
    }
}
