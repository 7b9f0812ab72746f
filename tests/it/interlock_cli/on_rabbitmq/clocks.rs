//! A clock that does not agree with the ledger, as operators meet it.

use swarmgate::{
    contract::{
        audit::{Action, Change, Fact, Mode},
        interlock::SafetyMode,
        timestamp::Timestamp,
    },
    ledger::{Batch, Ledger, chain::Chain, verify},
    runtime::genesis::genesis,
};

use super::*;

const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// A ledger whose last entry lies that far ahead, as one has it after a clock that was wrong.
async fn ledger_ahead(by_ms: u64) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let mut ledger = Ledger::open(dir.path(), None).await.expect("a ledger");
    let genesis = genesis("dev", Mode::Enforce, SafetyMode::Normal).expect("a genesis");
    let at = clock::wall().plus_ms(by_ms);
    let entries =
        vec![Chain::new().seal(Fact::new(Action::Genesis, at, Change::Genesis(genesis)), Vec::new())];
    ledger.append(Batch { entries, ..Batch::default() }).await.expect("it is written");
    ledger.close().await;
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_from_the_future_is_safe_until_the_clock_is_accepted() {
    let dir = ledger_ahead(YEAR_MS).await;
    let path = dir.path().to_str().expect("a path").to_owned();
    let doctor = ["doctor", "--ledger", &path, "--amqp", NOBODY];
    run(&doctor).await.says(&["clock", "the router starts in SAFE", "runbooks/clock.md"]);
    let mut post = Post::on("interlock-clock", dir).await;
    let ready = run(&["healthcheck", "--addr", post.api.trim_start_matches("http://")]).await;
    assert_ne!(ready.code, Some(0), "{}{}", ready.stdout, ready.stderr);
    let behind = ["SAFE", "s behind the ledger", "safety accept-clock"];
    post.run(&["safety"]).await.ended(0).says(&behind);
    post.run(&["bot", "stop", "kestrel/worker/w-7", "--no-wait"]).await.ended(0);
    let stop = |all: &[Message]| all.iter().any(|m| m.routing_key.starts_with("signal.bot-stop."));
    post.inbox.hear(post.bus.as_ref(), stop).await;
    assert!(stop(&post.inbox.heard), "a stop passes");
    let accept = ["safety", "accept-clock", "--reason", "it was a year ahead"];
    post.run(&accept).await.ended(2).says(&["[DANGEROUS]", "nothing was sent", "--yes"]);
    post.run(&[&accept[..], &["--yes"]].concat()).await.ended(1).says(&["nothing has happened yet"]);
    let id = post.challenge().await;
    let confirm = ["challenge", "confirm", &id, "--reason", "agreed", "--yes"];
    post.run(&confirm).await.ended(0).says(&["Applied"]);
    let after = post.run(&["safety"]).await.ended(0).says(&["NORMAL"]);
    assert!(!after.stdout.contains("behind the ledger"), "{}", after.stdout);
    post.initialise("w-1").await;
    let start = ["bot", "start", TARGET, "--mode", "paper"];
    let started = tokio::time::timeout(PATIENCE, post.answered(&start, &[("w-1", "Running")])).await;
    started.expect("the start is carried").ended(0).says(&["Running"]);
    post.run(&[&accept[..], &["--yes"]].concat()).await.ended(3).says(&["there is nothing to accept"]);
    let ledger = post.router.stop().await;
    // The step is on record, and the next router reads the same from it.
    let report = verify::verify(ledger.path()).await.expect("a ledger");
    assert_eq!(report.fault, None);
    let again = Post::on("interlock-clock-again", ledger).await;
    again.run(&["safety"]).await.ended(0).says(&["NORMAL"]);
    again.router.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_a_little_ahead_is_waited_for() {
    let dir = ledger_ahead(20_000).await;
    let ahead: Timestamp = clock::wall().plus_ms(20_000);
    let post = Post::on("interlock-clock-near", dir).await;
    post.run(&["safety"]).await.ended(0).says(&["NORMAL"]);
    post.run(&["bot", "stop", TARGET, "--no-wait"]).await.ended(0);
    let ledger = post.router.stop().await;
    let reader = swarmgate::ledger::query::Reader::open(ledger.path()).await.expect("a reader");
    let last = reader.tail(1).await.expect("an entry").remove(0);
    assert!(last.entry.fact.at <= ahead, "the router's time ran away from the clock: {}", last.entry.fact.at);
}
