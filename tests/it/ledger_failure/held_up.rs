//! What was accepted and waits to leave is asked again: a quarantine or a kill switch that has come
//! since holds it up.

use super::*;

impl Drill {
    /// A router with three changes that are on record, set aside because a subscriber rejects.
    async fn holding_changes(&mut self) -> Running {
        let (running, _) = self.start(None).await;
        self.broker.reject("drill.heard", true);
        self.send(&plans(0..3)).await;
        until("the changes are on record", async || {
            self.on_record("controlplane.command.requested").await == 3
        })
        .await;
        // Tried, and refused, at least once.
        tokio::time::sleep(Duration::from_millis(300)).await;
        running
    }

    /// Lets everything leave, and answers which changes did.
    async fn left(&mut self) -> Vec<String> {
        self.broker.reject("drill.heard", false);
        self.send(&[command(900, "swarm-stop")]).await;
        until("the stop is carried", async || self.heard("swarm-stop").await == ["i-900"]).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let mut left = self.heard("swarm-plan").await;
        left.sort();
        left.dedup();
        left
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_set_aside_reaches_no_bot_that_is_quarantined_since() {
    for crashes in [false, true] {
        let mut drill = Drill::new().await;
        let mut running = drill.holding_changes().await;
        let mut quarantine = command(0, "bot-quarantine");
        let mut said = body(&quarantine);
        said["idempotencyKey"] = json!("quarantine");
        said["data"] = json!({ "requestedTransition": "ANY->QUARANTINED" });
        quarantine.body = said.to_string().into();
        drill.send(&[quarantine]).await;
        until("it is quarantined", async || drill.on_record("bot.state.transition").await == 1).await;
        if crashes {
            running = drill.after_a_crash(running).await;
        }
        assert_eq!(drill.left().await, ["i-1", "i-2"], "crashes: {crashes}");
        until("it waits", async || drill.on_record("controlplane.command.parked").await == 1).await;
        assert!(running.stop().await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_set_aside_leaves_no_more_under_a_kill_switch() {
    for crashes in [false, true] {
        let mut drill = Drill::new().await;
        let mut running = drill.holding_changes().await;
        drill.throw();
        until("the latch is read", async || drill.on_record("execution.killswitch.set").await == 1).await;
        if crashes {
            running = drill.after_a_crash(running).await;
        }
        assert!(drill.left().await.is_empty(), "crashes: {crashes}");
        until("they wait", async || drill.on_record("controlplane.command.parked").await == 3).await;
        assert!(running.stop().await.is_some());
    }
}

/// A report of the gate `risk`, about everything.
fn report(number: u64, result: &str, valid: Duration) -> Message {
    let mut report = command(number, "gate-report");
    let mut said = body(&report);
    let until = clock::wall().plus_ms(u64::try_from(valid.as_millis()).expect("a short time"));
    said["scope"] = json!({ "swarmId": ALL, "role": ALL, "instance": ALL });
    said["data"] = json!({ "gate": "risk", "result": result, "expiresAt": until });
    report.routing_key = "signal.gate-report.ALL.ALL.ALL".to_owned();
    report.body = said.to_string().into();
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_set_aside_leaves_no_more_once_a_gate_has_failed() {
    for crashes in [false, true] {
        let mut drill = Drill::new().await;
        let mut running = drill.holding_changes().await;
        drill.send(&[report(800, "FAIL", Duration::from_secs(3_600))]).await;
        until("the report is accepted", async || {
            drill.on_record("controlplane.command.requested").await == 4
        })
        .await;
        if crashes {
            running = drill.after_a_crash(running).await;
        }
        assert!(drill.left().await.is_empty(), "crashes: {crashes}");
        until("they wait", async || drill.on_record("controlplane.command.parked").await == 3).await;
        assert!(running.stop().await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_set_aside_leaves_no_more_once_a_gates_time_is_over() {
    let mut drill = Drill::new().await;
    let started = drill.try_start(|setup| setup.rules.safety.gates_required = vec!["risk".to_owned()]).await;
    let (running, _) = started.expect("a start");
    let valid = Duration::from_secs(4);
    drill.send(&[report(800, "PASS", valid)]).await;
    until("the report is accepted", async || drill.on_record("controlplane.command.requested").await == 1)
        .await;
    drill.broker.reject("drill.heard", true);
    drill.send(&plans(0..3)).await;
    until("the changes are on record", async || drill.on_record("controlplane.command.requested").await == 4)
        .await;
    tokio::time::sleep(valid).await;
    assert!(drill.left().await.is_empty());
    assert!(running.stop().await.is_some());
}

/// Or the tests above would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_set_aside_and_that_nothing_holds_up_leaves() {
    let mut drill = Drill::new().await;
    let running = drill.holding_changes().await;
    assert_eq!(drill.left().await, ["i-0", "i-1", "i-2"]);
    assert!(running.stop().await.is_some());
}
