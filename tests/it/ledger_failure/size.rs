//! How soon a stop passes beside a ledger that has begun to fail, however long that ledger is.

use swarmgate::{
    contract::audit::{Action as Act, Change, Fact, Mode, Payload},
    contract::interlock::SafetyMode,
    ledger::{Batch, Ledger, chain::Chain},
    runtime::genesis::genesis,
};

use super::*;

/// Rounds of each length, in turn.
const RUNS: usize = 3;

impl Drill {
    /// A ledger with so many entries that mean nothing to the state.
    async fn fill(&self, entries: usize) {
        let mut ledger = Ledger::open(self.dir.path(), None).await.expect("a ledger");
        let genesis = genesis("dev", Mode::Enforce, SafetyMode::Normal).expect("a genesis");
        let (mut chain, now) = (Chain::new(), clock::wall());
        let mut sealed = vec![chain.seal(Fact::new(Act::Genesis, now, Change::Genesis(genesis)), Vec::new())];
        let words = json!({ "text": "x".repeat(200) }).to_string();
        for number in 0..entries {
            let payload = serde_json::value::RawValue::from_string(words.clone()).expect("JSON");
            let mut fact = Fact::new(Act::Recorded, now, Change::None);
            fact.payload = Some(Payload(payload));
            sealed.push(chain.seal(fact, Vec::new()));
            if sealed.len() == 500 || number + 1 == entries {
                let entries = std::mem::take(&mut sealed);
                ledger.append(Batch { entries, ..Batch::default() }).await.expect("they are written");
            }
        }
        ledger.close().await;
    }
}

/// From the first command that the ledger refuses, with a stop right behind it, until the stop is
/// heard.
async fn passes(entries: usize) -> Duration {
    let mut drill = Drill::new().await;
    drill.fill(entries).await;
    let (running, telemetry) = drill.start(None).await;
    drill.send(&plans(0..3)).await;
    until("the first commands are carried", async || drill.heard("swarm-plan").await.len() == 3).await;
    drill.hand(REFUSE_ALL).await;
    let begun = tokio::time::Instant::now();
    drill.send(&plans(3..4)).await;
    drill.send(&[command(900, "swarm-stop")]).await;
    until("the stop is carried", async || drill.heard("swarm-stop").await == ["i-900"]).await;
    let took = begun.elapsed();
    until("the ledger fails", async || !telemetry.health.ledger()).await;
    running.kill().await;
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_beside_a_failing_ledger_is_as_soon_at_any_length() {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (place, entries) in [500, 50_000].into_iter().enumerate() {
            took[place].push(passes(entries).await);
        }
    }
    let [short, long] = took.each_mut().map(|all| {
        all.sort();
        all[RUNS / 2]
    });
    println!("a stop beside a failing ledger: {short:?} at 500 entries, {long:?} at 50,000");
    // Folding that many takes seconds in this build; a few milliseconds are the machine's.
    assert!(long < short * 2 + Duration::from_millis(100), "{short:?} at 500 entries, {long:?} at 50,000");
}
