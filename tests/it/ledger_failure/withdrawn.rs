//! What has ended leaves no more, whatever held it up until then.

use swarmgate::contract::interlock::Phase;

use super::*;

const BLOCK: &str = "BLOCK";

impl Drill {
    /// A router with three starts that are on record, and that the broker has not taken.
    pub(super) async fn holding_starts(&mut self) -> Running {
        let starts: Vec<Message> = (0..3).map(|number| command(number, "swarm-start")).collect();
        self.send(&starts).await;
        self.broker.block(Some("drill"));
        let (running, _) = self.start(None).await;
        until("the starts are on record", async || {
            self.on_record("controlplane.command.requested").await == 3
        })
        .await;
        assert!(self.heard("swarm-start").await.is_empty(), "the broker took one");
        running
    }

    pub(super) async fn on_record(&self, action: &str) -> u64 {
        let entries = self.entries().await;
        entries.iter().filter(|sealed| sealed.entry.fact.action.word() == action).count() as u64
    }

    pub(super) fn throw(&self) {
        let wanted = Latch {
            level: BLOCK.to_owned(),
            scope: ALL.to_owned(),
            reason: "drill".to_owned(),
            by: "orc".to_owned(),
            since: clock::wall(),
        };
        latch::throw(self.dir.path(), wanted).expect("a latch");
    }

    /// The way is free: a stop passes, and none of the starts.
    async fn nothing_starts(&mut self) {
        self.broker.block(None);
        self.send(&[command(900, "swarm-stop")]).await;
        until("the stop is carried", async || self.heard("swarm-stop").await == ["i-900"]).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(self.heard("swarm-start").await.is_empty(), "what has ended was published");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_a_latch_has_ended_leaves_no_more() {
    let mut drill = Drill::new().await;
    let running = drill.holding_starts().await;
    drill.throw();
    until("they have ended", async || drill.on_record("controlplane.command.ended").await == 3).await;
    drill.nothing_starts().await;
    assert!(running.stop().await.is_some());
    let carried = drill.entries().await.into_iter().filter_map(|sealed| match sealed.entry.fact.change {
        Change::Carried(carried) => Some(carried.spans),
        _ => None,
    });
    let starts = drill.entries().await.into_iter().filter(|sealed| {
        sealed.entry.fact.subject.as_ref().is_some_and(|subject| subject.kind_type == "swarm-start")
            && sealed.entry.fact.action.word() == "controlplane.command.requested"
    });
    let starts: Vec<u64> = starts.map(|sealed| sealed.entry.seq).collect();
    let is_in = |(first, last): &(u64, u64)| starts.iter().any(|seq| (*first..=*last).contains(seq));
    assert!(!carried.flatten().any(|span| is_in(&span)), "it is on record as published");
}

/// Or the tests above would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_ended_leaves_when_the_way_is_free() {
    let mut drill = Drill::new().await;
    let running = drill.holding_starts().await;
    drill.broker.block(None);
    until("they leave", async || drill.heard("swarm-start").await.len() == 3).await;
    assert!(running.stop().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_before_a_crash_leaves_no_more_after_it() {
    let mut drill = Drill::new().await;
    let running = drill.holding_starts().await;
    drill.throw();
    until("they have ended", async || drill.on_record("controlplane.command.ended").await == 3).await;
    running.kill().await;
    drill.broker.drop_consumers();
    drill.broker.block(None);
    let (running, _) = drill.start(None).await;
    drill.nothing_starts().await;
    assert!(running.stop().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_latch_that_was_thrown_while_no_router_ran_is_read_before_a_start_leaves() {
    let mut drill = Drill::new().await;
    let running = drill.holding_starts().await;
    running.kill().await;
    drill.broker.drop_consumers();
    drill.throw();
    drill.broker.block(None);
    let (running, _) = drill.start(None).await;
    drill.nothing_starts().await;
    assert!(running.stop().await.is_some());
}

/// The target's answer to a start.
fn runs(number: u64) -> Message {
    let mut answer = command(number, "swarm-start");
    let instance = format!("c-{number}");
    let mut said = body(&answer);
    (said["kind"], said["origin"]) = (json!("outcome"), json!(instance));
    said["data"] = json!({ "status": "Running" });
    answer.body = said.to_string().into();
    answer.routing_key = format!("event.outcome.swarm-start.drill.controller.{instance}");
    answer.properties.user_id = Some(instance);
    answer
}

/// Its target has it, and another subscriber does not yet: after a stop nobody gets it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_its_target_answered_is_published_to_nobody_after_a_stop() {
    for stops in [false, true] {
        let mut drill = Drill::new().await;
        let (running, _) = drill.start(None).await;
        drill.broker.reject("drill.heard", true);
        drill.send(&[command(0, "swarm-start")]).await;
        until("it is on record", async || drill.on_record("controlplane.command.requested").await == 1).await;
        drill.send(&[runs(0)]).await;
        until("it is answered", async || drill.on_record("controlplane.command.applied").await == 1).await;
        if stops {
            // To the same target, under a key of its own.
            let mut stop = command(0, "swarm-stop");
            let mut said = body(&stop);
            said["idempotencyKey"] = json!("stop");
            stop.body = said.to_string().into();
            drill.send(&[stop]).await;
            until("the stop is on record", async || {
                drill.on_record("controlplane.command.requested").await == 2
            })
            .await;
        }
        drill.broker.reject("drill.heard", false);
        if stops {
            until("the stop is carried", async || drill.heard("swarm-stop").await == ["stop"]).await;
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(drill.heard("swarm-start").await.is_empty(), "a start after its stop");
        } else {
            // Or the other round would show nothing.
            until("the start leaves", async || drill.heard("swarm-start").await == ["i-0"]).await;
        }
        assert!(running.stop().await.is_some());
    }
}

/// A message with another correlationId.
fn correlated(mut message: Message, correlation_id: &str) -> Message {
    let mut said = body(&message);
    said["correlationId"] = json!(correlation_id);
    message.body = said.to_string().into();
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_share_a_correlation_id_are_each_taken_back() {
    for crashes in [false, true] {
        let mut drill = Drill::new().await;
        let starts: Vec<Message> =
            (0..5).map(|number| correlated(command(number, "swarm-start"), "the same")).collect();
        drill.send(&starts).await;
        drill.broker.block(Some("drill"));
        let (mut running, _) = drill.start(None).await;
        until("the starts are on record", async || {
            drill.on_record("controlplane.command.requested").await == 5
        })
        .await;
        drill.throw();
        until("they have ended", async || drill.on_record("controlplane.command.ended").await == 5).await;
        if crashes {
            running = drill.after_a_crash(running).await;
        }
        drill.nothing_starts().await;
        assert!(running.stop().await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_while_the_ledger_cannot_be_written_leaves_no_more_when_it_can() {
    let mut drill = Drill::new().await;
    let running = drill.holding_starts().await;
    running.kill().await;
    drill.broker.drop_consumers();
    drill.throw();
    drill.hand(REFUSE_ALL).await;
    let (running, telemetry) = drill.start(None).await;
    // The latch is read, and ends the starts on the emergency log.
    until("they have ended", async || {
        let ended =
            drill.waiting().into_iter().filter(|record| record.sealed.entry.fact.action == Action::Ended);
        ended.count() == 3
    })
    .await;
    drill.hand(ALLOW_ALL).await;
    until("the ledger is well", async || telemetry.health.ledger()).await;
    drill.nothing_starts().await;
    // What waited for the latch is let go with the router's next own status at the latest.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(drill.heard("swarm-start").await.is_empty(), "what has ended was published");
    assert!(running.stop().await.is_some());
}

/// One word of a worker's session.
fn session(number: u64, kind_type: &str, by: &str, data: &Value) -> Message {
    let mut message = command(number, kind_type);
    let mut said = body(&message);
    said["scope"] = json!({ "swarmId": "drill", "role": "worker", "instance": "w-1" });
    said["origin"] = json!(by);
    said["data"] = data.clone();
    message.body = said.to_string().into();
    message.routing_key = format!("signal.{kind_type}.drill.worker.w-1");
    message.properties.user_id = Some(by.to_owned());
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_of_a_session_leaves_no_more_after_a_stop() {
    let bundle = json!({
        "createdAtEpoch": 1_772_619_300, "kdf": "hkdf_sha256", "keyId": "k-1", "secretMode": "generated",
    });
    for crashes in [false, true] {
        let mut drill = Drill::new().await;
        let (mut running, _) = drill.start(None).await;
        drill.send(&[session(0, "bootstrap-bundle", "orc", &bundle)]).await;
        until("the bundle left", async || drill.heard("bootstrap-bundle").await.len() == 1).await;
        drill.send(&[session(1, "ready", "w-1", &json!({}))]).await;
        until("it is ready", async || drill.on_record("session.transition").await == 2).await;
        drill.broker.reject("drill.heard", true);
        let before = drill.on_record("controlplane.command.applied").await;
        drill.send(&[session(2, "start-work", "orc", &json!({ "requiredWorkers": ["w-1"] }))]).await;
        until("it is accepted", async || drill.on_record("controlplane.command.applied").await > before)
            .await;
        drill.throw();
        until("the latch is read", async || drill.on_record("execution.killswitch.set").await == 1).await;
        if crashes {
            running = drill.after_a_crash(running).await;
        }
        drill.broker.reject("drill.heard", false);
        drill.send(&[command(900, "swarm-stop")]).await;
        until("the stop is carried", async || drill.heard("swarm-stop").await == ["i-900"]).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(drill.heard("start-work").await.is_empty(), "it was published (crashes: {crashes})");
        let mut phases =
            drill.entries().await.into_iter().filter_map(|sealed| match sealed.entry.fact.change {
                Change::Session(moved) => Some(moved.phase),
                _ => None,
            });
        assert_eq!(phases.next_back(), Some(Phase::Ready), "it is on record as working (crashes: {crashes})");
        assert!(running.stop().await.is_some());
    }
}
