//! The real binary, started on a disk that is full, cannot be written, or ends at a limit.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;
use crate::{
    broker::{Broker, Vhost},
    hostile_hosts::{Host, stop_passes},
    router::{Inbox, send, signal},
};

fn ran(program: &str, arguments: &[&str]) -> bool {
    let ended = Command::new(program).args(arguments).stderr(Stdio::null()).status();
    ended.is_ok_and(|ended| ended.success())
}

/// A file system of its own, in memory; gone with the test.
struct Disk {
    dir: Arc<TempDir>,
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

impl Disk {
    /// `None`, loudly, where this user may not mount.
    fn new(test: &str) -> Option<Self> {
        let dir = Arc::new(TempDir::new().expect("a directory"));
        let place = dir.path().to_str().expect("a path");
        if !ran("mount", &["-t", "tmpfs", "-o", "size=16m", "tmpfs", place]) {
            eprintln!("SKIPPED {test}: it needs the right to mount a file system");
            return None;
        }
        Some(Self { dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Takes the last byte.
    fn fill(&self) {
        let of = format!("of={}", self.file("filling").display());
        let ended = ran("dd", &["if=/dev/zero", "bs=4096", "conv=notrunc", "oflag=append", &of]);
        assert!(!ended, "there was no end of the disk");
    }

    fn mount_again(&self, how: &str) {
        let place = self.dir.path().to_str().expect("a path");
        assert!(ran("mount", &["-o", &format!("remount,{how}"), place]));
    }

    fn launch(&self, vhost: &Vhost) -> Host {
        self.launch_with(vhost, &["run"])
    }

    fn launch_with(&self, vhost: &Vhost, arguments: &[&str]) -> Host {
        let (program, output) = (env!("CARGO_BIN_EXE_swarmgate"), (Stdio::null(), Stdio::inherit()));
        Host::launch(program, &vhost.options().url, arguments, &self.dir, output)
    }
}

/// The keys of the commands of that type that were heard, each id once.
fn keys(inbox: &Inbox, kind_type: &str) -> Vec<String> {
    let start = format!("signal.{kind_type}.");
    let of_type = inbox.heard.iter().filter(|message| message.routing_key.starts_with(&start));
    of_type.filter_map(|message| Some(body(message)["idempotencyKey"].as_str()?.to_owned())).collect()
}

/// The ledger is whole, and holds each stop once.
async fn check(dir: &Path, inbox: &Inbox, stops: &[&str]) {
    assert_eq!(verify(dir).await.expect("a report").fault, None);
    let reader = Reader::open(dir).await.expect("a reader");
    let entries = reader.select(&Filter::default(), usize::MAX).await.expect("entries");
    for name in stops {
        assert!(
            stop_entry(&entries, &format!("i-{name}"), &inbox.heard).is_some(),
            "`{name}` is not written"
        );
    }
    let mut heard = keys(inbox, "swarm-stop");
    heard.sort();
    let mut sent: Vec<String> = stops.iter().map(|name| format!("i-{name}")).collect();
    sent.sort();
    assert_eq!(heard, sent, "each stop under one id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_pass_at_every_start_on_a_full_disk() {
    let Some(disk) = Disk::new("full-disk") else { return };
    let vhost = Arc::new(Broker::shared()).vhost("start-full");
    let mut host = disk.launch(&vhost);
    host.ready();
    let bus = vhost.connect().await;
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    stop_passes(bus.as_ref(), &mut inbox, "before").await;
    host.kill();
    // The write-ahead log holds all there is, and there is no room for what is needed to share it.
    assert!(fs::metadata(disk.file("ledger.sqlite-wal")).is_ok_and(|log| log.len() > 0));
    fs::remove_file(disk.file("ledger.sqlite-shm")).expect("it was there");
    disk.fill();
    for round in 0..2 {
        // More room than there is for the emergency log: it keeps what it has.
        let larger = ["run", "--set", "ledger.emergency_size_bytes=12582912"];
        let mut host = disk.launch_with(&vhost, &larger);
        host.lacks_its_ledger();
        send(bus.as_ref(), &[signal("config-update", "w-2", &format!("later-{round}"))]).await;
        let took = stop_passes(bus.as_ref(), &mut inbox, &format!("full-{round}")).await;
        assert!(took < Duration::from_secs(10), "the stop took {took:?}");
        // A repeat of what the ledger holds is known for one.
        send(bus.as_ref(), &[signal("swarm-stop", "w-1", "before"), signal("swarm-stop", "w-1", "full-0")])
            .await;
        stop_passes(bus.as_ref(), &mut inbox, &format!("behind-{round}")).await;
        host.lacks_its_ledger();
        host.kill();
        disk.fill();
    }
    let mut host = disk.launch(&vhost);
    host.lacks_its_ledger();
    stop_passes(bus.as_ref(), &mut inbox, "last").await;
    assert_eq!(keys(&inbox, "config-update"), [""; 0], "a command passed");
    fs::remove_file(disk.file("filling")).expect("room");
    host.ready();
    inbox
        .hear(bus.as_ref(), |heard| {
            heard.iter().filter(|it| it.routing_key.contains("config-update")).count() >= 2
        })
        .await;
    assert_eq!(keys(&inbox, "config-update"), ["i-later-0", "i-later-1"]);
    assert!(host.stop(Duration::from_secs(20)).is_some_and(|ended| ended.success()), "it ends");
    check(disk.dir.path(), &inbox, &["before", "full-0", "behind-0", "full-1", "behind-1", "last"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mark_knows_a_stop_that_a_full_disk_took() {
    let Some(disk) = Disk::new("full-mark") else { return };
    let vhost = Arc::new(Broker::shared()).vhost("mark-full");
    let mut host = disk.launch(&vhost);
    host.ready();
    let bus = vhost.connect().await;
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    stop_passes(bus.as_ref(), &mut inbox, "before").await;
    fs::copy(disk.file("emergency.log"), disk.dir.path().join("older")).expect("a copy");
    disk.fill();
    // More than the pages that SQLite has left over can take.
    let fills: Vec<_> =
        (0..200).map(|number| signal("config-update", "w-2", &format!("f{number}"))).collect();
    send(bus.as_ref(), &fills).await;
    host.lacks_its_ledger();
    stop_passes(bus.as_ref(), &mut inbox, "full").await;
    until("the mark follows", async || {
        let newest =
            emergency::read(&disk.file("emergency.log")).expect("a log").records.last().and_then(Record::id);
        newest.is_some()
            && matches!(mark::kept(disk.dir.path()), mark::Said::Mark(mark) if mark.emergency == newest)
    })
    .await;
    host.kill();
    // The older log forgets the stop: the mark beside it, written on a full disk, does not.
    fs::rename(disk.file("older"), disk.file("emergency.log")).expect("a copy");
    fs::remove_file(disk.file("filling")).expect("room");
    let mut host = disk.launch(&vhost);
    host.ready();
    inbox
        .hear(bus.as_ref(), |heard| heard.iter().any(|it| body(it)["data"]["code"] == "ledger.set-back"))
        .await;
    assert!(host.stop(Duration::from_secs(20)).is_some_and(|ended| ended.success()), "it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_pass_at_a_start_on_a_disk_that_can_only_be_read() {
    let Some(disk) = Disk::new("read-only-disk") else { return };
    let vhost = Arc::new(Broker::shared()).vhost("start-read-only");
    let bus = vhost.connect().await;
    let mut host = disk.launch(&vhost);
    host.ready();
    let mut inbox = Inbox::open(bus.as_ref(), "inbox", "swarmgate.out").await;
    stop_passes(bus.as_ref(), &mut inbox, "before").await;
    let mut sent = vec!["before".to_owned()];
    for killed in [true, false] {
        // Killed it leaves its write-ahead log, ended it leaves none.
        match killed {
            true => host.kill(),
            false => assert!(host.stop(Duration::from_secs(20)).is_some_and(|ended| ended.success())),
        }
        disk.mount_again("ro");
        host = disk.launch(&vhost);
        host.lacks_its_ledger();
        let name = format!("killed-{killed}");
        let took = stop_passes(bus.as_ref(), &mut inbox, &name).await;
        assert!(took < Duration::from_secs(10), "the stop took {took:?}");
        send(bus.as_ref(), &[signal("swarm-stop", "w-1", "before")]).await;
        host.lacks_its_ledger();
        disk.mount_again("rw");
        host.ready();
        sent.push(name);
        let behind = format!("behind-{killed}");
        stop_passes(bus.as_ref(), &mut inbox, &behind).await;
        sent.push(behind);
    }
    assert!(host.stop(Duration::from_secs(20)).is_some_and(|ended| ended.success()), "it ends");
    let sent: Vec<&str> = sent.iter().map(String::as_str).collect();
    check(disk.dir.path(), &inbox, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_on_a_disk_that_cannot_be_written_ends_with_5() {
    let Some(disk) = Disk::new("first-start") else { return };
    let vhost = Arc::new(Broker::shared()).vhost("start-first");
    disk.mount_again("ro");
    let ended = disk.launch(&vhost).ended(Duration::from_secs(20)).expect("an end");
    assert_eq!(ended.code(), Some(5));
    disk.mount_again("rw");
    disk.fill();
    let ended = disk.launch(&vhost).ended(Duration::from_secs(20)).expect("an end");
    assert_eq!(ended.code(), Some(5));
}
