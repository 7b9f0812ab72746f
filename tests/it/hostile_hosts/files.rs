//! Files of the router that are not what they must be, and topology that somebody takes away under
//! it.

use std::{fs, os::unix::fs::PermissionsExt};

use swarmgate::bus::{Queue, QueueKind};

use super::*;

/// Whether a page begins with that status.
fn answers(host: &Host, path: &str, status: u16) -> bool {
    host.page(path).is_some_and(|page| page.starts_with(&format!("HTTP/1.1 {status} ")))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_latch_that_is_a_pipe_holds_nothing_and_counts_as_thrown() {
    let vhost = vhost("host-pipe");
    let mut host = Host::start(&vhost.options().url, &["run"], Stdio::null(), Stdio::null());
    let bus = vhost.connect().await;
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    let latch = host.dir.path().join("kill-switch.latch");
    assert!(Command::new("mkfifo").arg(&latch).status().expect("mkfifo").success());
    until("the latch counts", async || host.metric("swarmgate_kill_switch") == Some(3)).await;
    for round in 0..3 {
        let took = stop_passes(bus.as_ref(), &mut inbox, &format!("stop-{round}")).await;
        assert!(took < Duration::from_secs(5), "the stop took {took:?}");
        assert!(answers(&host, "/healthz", 200));
    }
    assert!(host.stop(Duration::from_secs(15)).is_some_and(|ended| ended.success()), "it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_taken_away_is_noticed_and_stops_pass() {
    for cut in [false, true] {
        let vhost = vhost(if cut { "host-cut" } else { "host-gone" });
        let mut host = Host::start(&vhost.options().url, &["run"], Stdio::null(), Stdio::null());
        let bus = vhost.connect().await;
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        stop_passes(bus.as_ref(), &mut inbox, "before").await;
        let file = host.dir.path().join("ledger.sqlite");
        match cut {
            true => {
                fs::File::options().write(true).open(&file).and_then(|file| file.set_len(4096)).expect("cut")
            }
            false => fs::remove_file(&file).expect("gone"),
        }
        stop_passes(bus.as_ref(), &mut inbox, "after").await;
        until("the ledger is missed", async || {
            host.page("/readyz").is_some_and(|page| page.contains("503") && page.contains("ledger"))
        })
        .await;
        let took = stop_passes(bus.as_ref(), &mut inbox, "later").await;
        assert!(took < Duration::from_secs(5), "the stop took {took:?}");
        assert!(host.stop(Duration::from_secs(20)).is_some(), "it ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_files_is_a_full_ledger_and_no_end() {
    let vhost = vhost("host-limit");
    let dir = TempDir::new().expect("a directory");
    let shim = dir.path().join("limited");
    let binary = env!("CARGO_BIN_EXE_swarmgate");
    // 8 MiB in blocks of 512 bytes: room for the emergency log, and soon none for the ledger.
    fs::write(&shim, format!("#!/bin/sh\nulimit -f 16384\nexec {binary} \"$@\"\n")).expect("a shim");
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o700)).expect("it runs");
    let mut host = Host::of(
        shim.to_str().expect("a path"),
        &vhost.options().url,
        &["run"],
        Stdio::null(),
        Stdio::null(),
    );
    let bus = vhost.connect().await;
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    let large: Vec<Message> = (0..60_u64)
        .map(|number| {
            let mut message = signal("config-update", &format!("w-{number}"), &format!("large-{number}"));
            let mut words = body(&message);
            // Of many words, so that nothing packs it away.
            let text: String = (1..25_000_u64).map(|n| format!("{:x}", n * n * 7_919 + number)).collect();
            words["data"] = json!({ "text": text });
            message.body = words.to_string().into();
            message
        })
        .collect();
    send(bus.as_ref(), &large).await;
    until("the ledger is full", async || {
        host.page("/readyz").is_some_and(|page| page.contains("503") && page.contains("ledger"))
    })
    .await;
    let took = stop_passes(bus.as_ref(), &mut inbox, "stop").await;
    assert!(took < Duration::from_secs(10), "the stop took {took:?}");
    assert!(host.stop(Duration::from_secs(20)).is_some(), "it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_deletes_or_unbinds_is_there_again() {
    let vhost = vhost("host-topology");
    let mut host = Host::start(&vhost.options().url, &["run"], Stdio::null(), Stdio::null());
    let bus = vhost.connect().await;
    let urgent = "swarmgate.in.urgent.v2";
    let binding = |key: &str| vec![("swarmgate.in".to_owned(), key.to_owned())];
    let passes = async |name: &str| {
        let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
        let begun = Instant::now();
        // Nobody takes it until the queue is bound again; a sender is told, and tries again.
        until(name, async || {
            let stop = signal("swarm-stop", "w-1", &format!("{name}-{}", begun.elapsed().as_millis()));
            let departure = swarmgate::bus::Departure { message: stop, mandatory: true };
            let publisher = bus.publisher().await.expect("a publisher");
            let fates = publisher.publish(&[&departure], Duration::from_secs(5)).await;
            fates.is_ok_and(|fates| fates == [swarmgate::bus::Fate::Carried])
        })
        .await;
        let key = format!("i-{name}-");
        let is_it = |message: &Message| {
            body(message)["idempotencyKey"].as_str().is_some_and(|is| is.starts_with(&key))
        };
        inbox.hear(bus.as_ref(), |heard| heard.iter().any(is_it)).await;
        assert!(inbox.heard.iter().any(is_it), "{name}: the stop did not pass");
        assert!(begun.elapsed() < Duration::from_secs(25), "{name}: {:?}", begun.elapsed());
    };
    passes("sound").await;
    bus.delete_queue(urgent).await.expect("deleted");
    passes("deleted").await;
    let keys = ["signal.swarm-stop.#", "signal.bot-stop.#", "signal.stop.#"];
    for key in keys {
        let queue = Queue { name: urgent.to_owned(), kind: QueueKind::Quorum, bindings: binding(key) };
        bus.unbind(&queue).await.expect("unbound");
    }
    passes("unbound").await;
    bus.delete_exchange("swarmgate.out").await.expect("deleted");
    until("the exchange is there again", async || bus.exists("swarmgate.out").await.is_ok_and(|there| there))
        .await;
    passes("out").await;
    assert!(host.stop(Duration::from_secs(15)).is_some_and(|ended| ended.success()), "it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_no_longer_declare_uses_what_is_there() {
    let broker = Arc::new(Broker::shared());
    let vhost = broker.vhost("host-declare");
    let user = format!("reads-{}", vhost.name);
    broker.http("PUT", &format!("/api/users/{user}"), r#"{"password":"p","tags":""}"#);
    let may_configure = |pattern: &str| {
        let rights = json!({ "configure": pattern, "write": ".*", "read": ".*" });
        broker.http("PUT", &format!("/api/permissions/{}/{user}", vhost.name), &rights.to_string());
    };
    may_configure(".*");
    let mut host = Host::start(&broker.url(&vhost.name, &user, "p"), &["run"], Stdio::null(), Stdio::null());
    let bus = vhost.connect().await;
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    stop_passes(bus.as_ref(), &mut inbox, "before").await;
    may_configure("^$");
    broker.ctl(&["close_all_user_connections", &user, "drill"]);
    let took = stop_passes(bus.as_ref(), &mut inbox, "after").await;
    assert!(took < Duration::from_secs(15), "the stop took {took:?}");
    assert!(host.stop(Duration::from_secs(15)).is_some_and(|ended| ended.success()), "it ends");
    broker.http("DELETE", &format!("/api/users/{user}"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_bundles_is_made_one_by_one_and_holds_no_stop() {
    let vhost = vhost("host-bundles");
    let mut host = Host::start(&vhost.options().url, &["run"], Stdio::null(), Stdio::null());
    let bus = vhost.connect().await;
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    let asked: Vec<Message> = (0..80)
        .map(|number| {
            let mut message = signal("support-bundle", "w-1", &format!("bundle-{number}"));
            let mut words = body(&message);
            words["scope"] = json!({ "swarmId": "ALL", "role": "ALL", "instance": "ALL" });
            message.routing_key = "signal.support-bundle.ALL.ALL.ALL".to_owned();
            message.body = words.to_string().into();
            message
        })
        .collect();
    send(bus.as_ref(), &asked).await;
    let took = stop_passes(bus.as_ref(), &mut inbox, "stop").await;
    assert!(took < Duration::from_secs(5), "the stop took {took:?}");
    let ends = |heard: &[Message]| {
        let ends =
            heard.iter().filter(|message| message.routing_key.starts_with("event.outcome.support-bundle."));
        ends.map(|message| body(message)["data"]["status"].to_string()).collect::<Vec<_>>()
    };
    inbox.hear(bus.as_ref(), |heard| ends(heard).len() >= asked.len()).await;
    let ends = ends(&inbox.heard);
    let failed = ends.iter().filter(|status| status.contains("Failed")).count();
    assert_eq!(ends.len(), asked.len(), "each is answered");
    assert!(failed > 40 && failed < asked.len(), "{failed} of {} were refused at the bound", ends.len());
    assert!(host.stop(Duration::from_secs(15)).is_some_and(|ended| ended.success()), "it ends");
}
