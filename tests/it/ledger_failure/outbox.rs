//! An outbox or emergency log that another hand changed: nothing leaves that no entry let leave,
//! and what is gone is told.

use sqlx::Row;
use swarmgate::{contract::lane::Lane, ledger::LedgerError};

use super::*;

impl Drill {
    /// Three starts wait in the outbox of a router that was killed.
    async fn left_behind(&mut self) -> Vec<Parcel> {
        self.holding_starts().await.kill().await;
        self.broker.drop_consumers();
        self.broker.block(None);
        let mut connection = self.by_hand().await;
        let rows = sqlx::query("SELECT id, lane, messages FROM outbox").fetch_all(&mut connection).await;
        let parcel = |row: &sqlx::sqlite::SqliteRow| Parcel {
            id: row.get::<i64, _>("id") as u64,
            lane: Lane::ALL
                .into_iter()
                .find(|lane| lane.word() == row.get::<&str, _>("lane"))
                .expect("a lane"),
            bytes: row.get("messages"),
        };
        rows.expect("an outbox").iter().map(parcel).collect()
    }

    async fn by_hand(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.dir.path().join(FILE));
        SqliteConnection::connect_with(&options).await.expect("a connection")
    }

    /// Puts other messages in the place of a parcel's.
    async fn exchange(&self, parcel: &Parcel, messages: &[Outgoing]) {
        let packed = packed(parcel, messages);
        let mut connection = self.by_hand().await;
        let update = sqlx::query("UPDATE outbox SET messages = ? WHERE id = ?");
        let done = update.bind(packed.bytes).bind(parcel.id as i64).execute(&mut connection).await;
        assert_eq!(done.expect("an update").rows_affected(), 1);
    }

    /// A dangerous command waits for its confirmation in the outbox of a router that was stopped;
    /// its entry.
    async fn challenged(&mut self) -> u64 {
        let (running, _) = self.start(None).await;
        self.send(&[dangerous()]).await;
        until("it is challenged", async || self.on_record("dangerous_op.challenge").await == 1).await;
        assert!(running.stop().await.is_some());
        let entries = self.entries().await;
        let is_it = |sealed: &&Sealed| matches!(sealed.entry.fact.change, Change::Challenged(_));
        entries.iter().find(is_it).expect("a challenged command").entry.seq
    }

    /// Says what is to become of the challenge.
    async fn say(&self, kind_type: &str) {
        let entries = self.entries().await;
        let id = entries.iter().find_map(|sealed| match &sealed.entry.fact.change {
            Change::Challenged(challenged) => Some(challenged.challenge_id.clone()),
            _ => None,
        });
        let data = json!({ "challengeId": id.expect("a challenge"), "reason": "a drill" });
        self.send(&[said(kind_type, ["swarmgate", "router", "gate-1"], &data)]).await;
    }

    async fn answer_challenge(&self, kind_type: &str) {
        self.say(kind_type).await;
        until("it is answered", async || self.held("signals") + self.held("urgent") == 0).await;
    }

    /// The router says this code.
    async fn is_told(&mut self, code: &str) {
        until(code, async || {
            self.heard("").await;
            self.heard.iter().any(|message| body(message)["data"]["code"] == code)
        })
        .await;
    }

    /// The way is free: a stop passes, and no more of these than did.
    async fn leaves(&mut self, kind_type: &str, times: usize) {
        self.send(&[command(950, "swarm-stop")]).await;
        until("the stop is carried", async || self.heard("swarm-stop").await.contains(&"i-950".to_owned()))
            .await;
        tokio::time::sleep(Duration::from_millis(1000)).await;
        assert_eq!(self.heard(kind_type).await.len(), times, "{kind_type}");
    }

    /// A parcel as it stands in the outbox now.
    async fn row(&self, id: u64) -> Option<Parcel> {
        let mut connection = self.by_hand().await;
        let row = sqlx::query("SELECT messages FROM outbox WHERE id = ?").bind(id as i64);
        let row = row.fetch_optional(&mut connection).await.expect("an outbox")?;
        Some(Parcel { id, lane: Lane::Signals, bytes: row.get("messages") })
    }

    async fn put_in(&self, parcel: &Parcel) {
        let mut connection = self.by_hand().await;
        let insert = sqlx::query("INSERT INTO outbox (id, lane, messages) VALUES (?, ?, ?)");
        let insert = insert.bind(parcel.id as i64).bind(parcel.lane.word()).bind(&parcel.bytes);
        insert.execute(&mut connection).await.expect("an insert");
        connection.close().await.expect("closed");
    }

    /// A stop waits on the emergency log of a router that was killed; the log is written anew with
    /// other messages.
    async fn with_log(&mut self, change: impl Fn(&mut Vec<Outgoing>)) {
        let (running, _) = self.start(None).await;
        assert!(running.stop().await.is_some());
        self.hand(REFUSE_ALL).await;
        self.send(&[command(900, "swarm-stop")]).await;
        self.broker.block(Some("drill"));
        let (running, _) = self.start(None).await;
        until("the stop waits on the log", async || {
            self.waiting().iter().any(|record| record.parcel.is_some())
        })
        .await;
        running.kill().await;
        self.broker.drop_consumers();
        self.broker.block(None);
        self.hand(ALLOW_ALL).await;
        let mut records = self.waiting();
        let parcel = records.iter_mut().find_map(|record| record.parcel.as_mut()).expect("the stop");
        let mut messages = parcel.unpack().expect("a parcel");
        change(&mut messages);
        *parcel = packed(parcel, &messages);
        fs::remove_file(self.emergency_log()).expect("a log");
        let (mut log, _) = EmergencyLog::open(&self.emergency_log(), 1024 * 1024, true).expect("a log");
        log.append(&records).expect("records");
    }

    /// A start that names the damaged parcel, and says what about it.
    async fn is_damaged(&mut self, at: u64, word: &str) {
        match self.try_start(|_| {}).await {
            Err(BootError::Ledger(LedgerError::Outbox { id, what })) => {
                assert!(id as u64 == at && what.contains(word), "parcel {id}: {what}");
            }
            Err(fault) => panic!("another fault: {fault}"),
            Ok(_) => panic!("it starts"),
        }
        assert!(self.heard("swarm-start").await.is_empty(), "something was published");
    }
}

/// A parcel with these messages.
fn packed(parcel: &Parcel, messages: &[Outgoing]) -> Parcel {
    let messages = messages
        .iter()
        .map(|outgoing| (outgoing.seq, outgoing.ordinal, outgoing.mandatory, &outgoing.message));
    Parcel::pack(parcel.lane, messages).expect("a parcel")
}

fn said(kind_type: &str, [swarm_id, role, instance]: [&str; 3], data: &Value) -> Message {
    let body = json!({
        "timestamp": clock::wall(), "version": "1", "kind": "signal", "type": kind_type, "origin": "orc",
        "scope": { "swarmId": swarm_id, "role": role, "instance": instance },
        "correlationId": format!("t-{kind_type}"), "idempotencyKey": format!("i-{kind_type}"), "data": data,
    });
    Message {
        exchange: "swarmgate.in".to_owned(),
        routing_key: format!("signal.{kind_type}.{swarm_id}.{role}.{instance}"),
        properties: Properties { user_id: Some("orc".to_owned()), ..Properties::default() },
        body: body.to_string().into(),
    }
}

/// What a target says of a command of `said`.
fn outcome(kind_type: &str, [swarm_id, role, instance]: [&str; 3], status: &str) -> Message {
    let mut message = said(kind_type, [swarm_id, role, instance], &json!({ "status": status }));
    let mut said = body(&message);
    (said["kind"], said["origin"]) = (json!("outcome"), json!(instance));
    message.body = said.to_string().into();
    message.routing_key = format!("event.outcome.{kind_type}.{swarm_id}.{role}.{instance}");
    message.properties.user_id = Some(instance.to_owned());
    message
}

fn dangerous() -> Message {
    said("data-delete", ["drill", "worker", "w-1"], &json!({ "reason": "a drill" }))
}

fn with_starts(parcels: &[Parcel]) -> (&Parcel, Vec<Outgoing>) {
    let parcels = parcels.iter().map(|parcel| (parcel, parcel.unpack().expect("a parcel")));
    let is_start = |outgoing: &Outgoing| outgoing.message.routing_key.starts_with("signal.swarm-start.");
    parcels.into_iter().find(|(_, messages)| messages.iter().any(is_start)).expect("starts that wait")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_body_is_not_carried() {
    let mut drill = Drill::new().await;
    let parcels = drill.left_behind().await;
    let (parcel, mut messages) = with_starts(&parcels);
    let body = String::from_utf8(messages[0].message.body.to_vec()).expect("text");
    messages[0].message.body = body.replace("\"orc\"", "\"ann\"").into();
    drill.exchange(parcel, &messages).await;
    drill.is_damaged(parcel.id, "let no such message leave").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_an_entry_that_is_not_there_is_not_carried() {
    let mut drill = Drill::new().await;
    let parcels = drill.left_behind().await;
    let (parcel, mut messages) = with_starts(&parcels);
    messages[0].seq += 1_000;
    drill.exchange(parcel, &messages).await;
    drill.is_damaged(parcel.id, "there is no such entry").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_told() {
    let mut drill = Drill::new().await;
    drill.left_behind().await;
    let mut connection = drill.by_hand().await;
    sqlx::raw_sql("DELETE FROM outbox").execute(&mut connection).await.expect("a drill");
    connection.close().await.expect("closed");
    let (running, _) = drill.start(None).await;
    until("it is told", async || {
        drill.heard("").await;
        drill.heard.iter().any(|message| body(message)["data"]["code"] == "ledger.outbox-short")
    })
    .await;
    assert!(running.stop().await.is_some());
}

/// Or the test above would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_that_nobody_touched_is_whole() {
    let mut drill = Drill::new().await;
    drill.left_behind().await;
    let (running, _) = drill.start(None).await;
    until("they leave", async || drill.heard("swarm-start").await.len() == 3).await;
    assert!(running.stop().await.is_some());
    assert!(!drill.heard.iter().any(|message| body(message)["data"]["code"] == "ledger.outbox-short"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_no_entry_is_not_carried() {
    let mut drill = Drill::new().await;
    let parcels = drill.left_behind().await;
    let (parcel, mut messages) = with_starts(&parcels);
    messages[0].seq = 0;
    drill.put_in(&Parcel::keep(parcel.id + 500, parcel.lane, &messages[0])).await;
    drill.is_damaged(parcel.id + 500, "in the name of no entry").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_for_somebody_elses_exchange_is_not_carried() {
    let mut drill = Drill::new().await;
    let parcels = drill.left_behind().await;
    let (parcel, mut messages) = with_starts(&parcels);
    messages[0].message.exchange = String::new();
    drill.exchange(parcel, &messages).await;
    drill.is_damaged(parcel.id, "none of this router's").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_for_another_key_is_not_carried() {
    let mut drill = Drill::new().await;
    let parcels = drill.left_behind().await;
    let (parcel, mut messages) = with_starts(&parcels);
    messages[0].message.routing_key = messages[0].message.routing_key.replace("controller", "worker");
    drill.exchange(parcel, &messages).await;
    drill.is_damaged(parcel.id, "its body says otherwise").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_command_that_waits_for_its_confirmation_does_not_leave() {
    let mut drill = Drill::new().await;
    drill.challenged().await;
    drill.hand("INSERT INTO outbox SELECT id + 100, lane, messages FROM outbox").await;
    let (running, _) = drill.start(None).await;
    drill.is_told("ledger.outbox-added").await;
    drill.leaves("data-delete", 0).await;
    drill.answer_challenge("challenge-confirm").await;
    until("it leaves", async || drill.heard("data-delete").await.len() == 1).await;
    assert!(running.stop().await.is_some());
    assert!(!drill.heard.iter().any(|message| body(message)["data"]["code"] == "ledger.outbox-short"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parcel_of_a_command_that_waits_for_its_confirmation_has_no_other_id() {
    let mut drill = Drill::new().await;
    drill.challenged().await;
    drill.hand("UPDATE outbox SET id = id + 100").await;
    let (running, _) = drill.start(None).await;
    drill.is_told("ledger.outbox-added").await;
    drill.is_told("ledger.outbox-short").await;
    drill.leaves("data-delete", 0).await;
    assert!(running.stop().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_command_that_is_put_back_does_not_leave() {
    let mut drill = Drill::new().await;
    let seq = drill.challenged().await;
    let parcel = drill.row(seq).await.expect("it is kept");
    let (running, _) = drill.start(None).await;
    drill.answer_challenge("challenge-reject").await;
    until("it is out of the outbox", async || drill.row(seq).await.is_none()).await;
    assert!(running.stop().await.is_some());
    drill.put_in(&parcel).await;
    let (running, _) = drill.start(None).await;
    drill.is_told("ledger.outbox-added").await;
    drill.leaves("data-delete", 0).await;
    assert!(running.stop().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_command_that_was_carried_and_is_put_back_does_not_leave_again() {
    let mut drill = Drill::new().await;
    let seq = drill.challenged().await;
    let parcel = drill.row(seq).await.expect("it is kept");
    let (running, _) = drill.start(None).await;
    drill.answer_challenge("challenge-confirm").await;
    until("it leaves", async || drill.heard("data-delete").await.len() == 1).await;
    until("that is booked", async || drill.row(seq).await.is_none()).await;
    assert!(running.stop().await.is_some());
    drill.put_in(&parcel).await;
    let (running, _) = drill.start(None).await;
    drill.leaves("data-delete", 1).await;
    assert!(running.stop().await.is_some());
}

/// Or the tests above would show nothing: one that was let go and not booked as carried leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_command_that_was_not_carried_leaves_after_a_crash() {
    let mut drill = Drill::new().await;
    drill.challenged().await;
    drill.say("challenge-confirm").await;
    drill.broker.block(Some("drill"));
    let (running, _) = drill.start(None).await;
    until("it is on record", async || drill.on_record("dangerous_op.confirm").await == 1).await;
    assert!(drill.heard("data-delete").await.is_empty(), "the broker took it");
    running.kill().await;
    drill.broker.drop_consumers();
    drill.broker.block(None);
    let (running, _) = drill.start(None).await;
    drill.leaves("data-delete", 1).await;
    assert!(running.stop().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_waits_for_its_confirmation_and_is_gone_is_told() {
    let mut drill = Drill::new().await;
    drill.challenged().await;
    drill.hand("DELETE FROM outbox").await;
    let (running, _) = drill.start(None).await;
    drill.is_told("ledger.outbox-short").await;
    drill.answer_challenge("challenge-confirm").await;
    drill.leaves("data-delete", 0).await;
    assert!(running.stop().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_message_on_the_emergency_log_is_not_carried() {
    let mut drill = Drill::new().await;
    drill.with_log(|messages| messages[0].message.body = dangerous().body).await;
    match drill.try_start(|_| {}).await {
        Err(BootError::Emergency(EmergencyError::Damaged { what, .. })) => {
            assert!(what.contains("let no such message leave"), "{what}");
        }
        Err(fault) => panic!("another fault: {fault}"),
        Ok(_) => panic!("it starts"),
    }
}

/// Or the test above would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_on_the_emergency_log_that_nobody_changed_is_carried() {
    let mut drill = Drill::new().await;
    drill.with_log(|_| {}).await;
    let before = drill.heard("swarm-stop").await.len();
    let (running, _) = drill.start(None).await;
    until("it is carried", async || drill.heard("swarm-stop").await.len() > before).await;
    assert!(running.stop().await.is_some());
}

/// The parcel of a start that a stop ended while the ledger could not be written stays in the
/// outbox, and nobody put it there by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unconfirmed_start_that_a_stop_ended_in_an_outage_does_not_leave_after_a_crash() {
    let mut drill = Drill::new().await;
    let (running, telemetry) = drill.start(None).await;
    let bot = ["drill", "worker", "w-1"];
    drill.send(&[said("bot-init", bot, &json!({ "requestedTransition": "CREATED->IDLE" }))]).await;
    until("it is asked to be", async || drill.heard("bot-init").await.len() == 1).await;
    drill.send(&[outcome("bot-init", bot, "Created")]).await;
    until("it is", async || {
        drill.held("results") == 0 && drill.on_record("controlplane.command.applied").await == 1
    })
    .await;
    let live = json!({ "mode": "live", "requestedTransition": "IDLE->RUNNING_LIVE" });
    drill.send(&[said("bot-start", bot, &live)]).await;
    until("it is challenged", async || drill.on_record("dangerous_op.challenge").await == 1).await;
    drill.hand(REFUSE_ALL).await;
    drill.send(&plans(3..6)).await;
    until("the ledger fails", async || !telemetry.health.ledger()).await;
    drill.send(&[said("bot-stop", bot, &json!({}))]).await;
    until("the stop is carried", async || drill.heard("bot-stop").await.len() == 1).await;
    until("the stop is settled", async || drill.held("urgent") == 0).await;
    until("the start's end is written", async || {
        drill.waiting().iter().any(|record| matches!(record.sealed.entry.fact.change, Change::Ended(_)))
    })
    .await;
    running.kill().await;
    drill.broker.drop_consumers();
    drill.hand(ALLOW_ALL).await;
    let (running, _) = drill.start(None).await;
    drill.leaves("bot-start", 0).await;
    assert!(running.stop().await.is_some());
    assert!(!drill.heard.iter().any(|message| body(message)["data"]["code"] == "ledger.outbox-added"));
}
