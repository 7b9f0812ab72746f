//! A ledger that can be written again and cannot be read: nothing may go on from less than all of
//! it.

use super::*;

/// One entry is no longer what was written, as a bad sector would have it; and how it was.
const SPOIL: &str = "CREATE TABLE drill_kept AS SELECT seq, bytes FROM entries WHERE seq = 3;
    DROP TRIGGER entries_are_not_updated; UPDATE entries SET bytes = x'7b7d' WHERE seq = 3";
const MEND: &str = "
    UPDATE entries SET bytes = (SELECT bytes FROM drill_kept WHERE drill_kept.seq = 3) WHERE seq = 3;
    DROP TABLE drill_kept;
    CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END";

fn block() -> Message {
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": "kill-switch-set", "origin": "orc",
        "scope": { "swarmId": ALL, "role": ALL, "instance": ALL },
        "correlationId": "t-block", "idempotencyKey": "i-block", "data": { "level": "BLOCK", "reason": "drill" },
    });
    Message {
        routing_key: "signal.kill-switch-set.ALL.ALL.ALL".to_owned(),
        body: body.to_string().into(),
        ..command(0, "swarm-stop")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_ledger_never_resumes_and_forgets_nothing() {
    let mut drill = Drill::new().await;
    let (running, telemetry) = drill.start(None).await;
    drill.send(&plans(0..3)).await;
    until("the first commands are carried", async || drill.heard("swarm-plan").await.len() == 3).await;
    drill.send(&[command(900, "swarm-stop"), block()]).await;
    until("the stop is carried", async || drill.heard("swarm-stop").await == ["i-900"]).await;
    until("both are settled", async || drill.held("urgent") == 0).await;
    drill.hand(SPOIL).await;
    drill.hand(REFUSE_ALL).await;
    // Its repeat is known for one while the ledger fails: nothing was forgotten, and nothing had to
    // be read.
    drill.send(&plans(3..4)).await;
    drill.send(&[command(901, "swarm-stop")]).await;
    until("the ledger fails", async || !telemetry.health.ledger()).await;
    until("the stop is carried", async || drill.heard("swarm-stop").await.contains(&"i-901".to_owned()))
        .await;
    drill.send(&[command(900, "swarm-stop")]).await;
    until("its repeat is settled", async || drill.held("urgent") == 0).await;
    drill.hand(ALLOW_ALL).await;
    // It can be written, and not be read: for as long as that is so, only stops pass.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!telemetry.health.ledger(), "a router went on from a part of its ledger");
    drill.send(&[command(902, "swarm-stop"), command(900, "swarm-stop")]).await;
    until("the new stop is carried", async || drill.heard("swarm-stop").await.contains(&"i-902".to_owned()))
        .await;
    until("the urgent lane is settled", async || drill.held("urgent") == 0).await;
    assert_eq!(drill.ids_of("i-900").await.len(), 1, "a repeated stop was carried again");
    assert!(drill.held("signals") > 0, "a command passed");
    // A person mends it.
    drill.hand(MEND).await;
    until("the ledger is well", async || telemetry.health.ledger()).await;
    until("every command is settled", async || drill.held("signals") == 0).await;
    let corridor = running.stop().await.expect("it drains");
    assert_eq!(corridor.state().strongest().1, KillSwitch::Block, "the kill switch was forgotten");
    drill.check_stops(&["i-900", "i-901", "i-902"]).await;
}

impl Drill {
    /// Each of those stops was carried under one id, and is written once.
    async fn check_stops(&mut self, keys: &[&str]) {
        let entries = self.entries().await;
        for key in keys {
            let ids: BTreeSet<String> = self.ids_of(key).await.into_iter().collect();
            assert_eq!(ids.len(), 1, "`{key}` was carried under {ids:?}");
            assert!(stop_entry(&entries, key, &self.heard).is_some(), "`{key}` was never written");
        }
    }
}
