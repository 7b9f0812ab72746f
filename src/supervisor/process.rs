//! One worker's process, from its start to its last word from the system.
//!
//! Owns: starting it in a group of its own, handing it its first key, ending it and all that it
//! started, and waiting for it, so that it is never a zombie.
//! Never: decides when a process must go, or shows a key.
//! Holds: a process is signalled only while it has not been waited for, so never another one with
//! its number; the key travels by the pipe alone; what a worker left running goes with it, in
//! its group or out of it.
//!
//! The system kills a worker when the *thread* that started it ends. So one thread starts them all,
//! and lives as long as the supervisor.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::mpsc,
    thread,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use tracing::warn;

use super::{
    cgroup::{Group, OwnGroup},
    leftovers,
};
use crate::contract::control::SigningKey;

/// What a worker gets of the supervisor's own environment: enough to run, and nothing that may be a
/// secret.
const PASSED_ON: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "LD_LIBRARY_PATH",
];
/// The subcommand that ties a process to its supervisor's life before it becomes the worker.
pub const SHIM: &str = "supervise-child";

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Start {
    /// The binary that has the subcommand.
    pub shim: PathBuf,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment beside what every worker gets.
    pub env: Vec<(String, String)>,
}

/// Starts processes, on a thread of its own.
#[derive(Debug)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
    /// Below which each process gets a control group, where it may.
    own_group: Option<OwnGroup>,
}

struct Request {
    start: Start,
    mark: String,
    group: Option<PathBuf>,
    answer: oneshot::Sender<io::Result<Child>>,
}

impl Spawner {
    /// Starts the thread. It ends when this is dropped, and with it every process that it started
    /// and that still runs.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(own_group: Option<OwnGroup>) -> io::Result<Self> {
        let (requests, taken) = mpsc::channel::<Request>();
        let runtime = Handle::current();
        thread::Builder::new().name("supervisor-spawner".to_owned()).spawn(move || {
            let _inside = runtime.enter();
            for Request { start, mark, group, answer } in taken {
                // Whoever asked and went away gets none: the process is killed as its handle is
                // dropped.
                let _ = answer.send(start.spawn(&mark, group));
            }
        })?;
        Ok(Self { requests, own_group })
    }

    /// Starts a process and hands it its first key.
    ///
    /// # Errors
    /// The system's.
    pub async fn spawn(&self, start: Start, key: &SigningKey) -> io::Result<Process> {
        let (answer, started) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts workers has ended");
        let mark = leftovers::mark();
        let control = self.own_group.as_ref().and_then(|own| {
            let made = own.make(&mark);
            made.inspect_err(|fault| warn!("a worker gets no control group: {fault}")).ok()
        });
        let group = control.as_ref().map(|group| group.path().to_owned());
        self.requests.send(Request { start, mark: mark.clone(), group, answer }).map_err(|_| gone())?;
        let mut process = Process::new(started.await.map_err(|_| gone())??, mark, control)?;
        if let Some(pipe) = process.child.stdin.take() {
            hand_over(pipe, key).await?;
        }
        Ok(process)
    }
}

impl Start {
    fn spawn(&self, mark: &str, group: Option<PathBuf>) -> io::Result<Child> {
        let passed_on = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        Command::new(&self.shim)
            .arg(SHIM)
            .args(["--parent", &std::process::id().to_string()])
            .args(group.into_iter().flat_map(|group| [OsString::from("--cgroup"), group.into()]))
            .arg("--")
            .args(&self.command)
            .env_clear()
            .envs(passed_on)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env(leftovers::MARK, mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Writes the key and closes the pipe. A process that ended before it read is told by its end, not
/// by this.
async fn hand_over(mut pipe: ChildStdin, key: &SigningKey) -> io::Result<()> {
    match pipe.write_all(key.expose()).await {
        Err(fault) if fault.kind() != io::ErrorKind::BrokenPipe => Err(fault),
        _ => Ok(()),
    }
}

/// A process that was started and not yet waited for.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Pid,
    /// What it and all that it starts have in their environment.
    mark: String,
    /// What holds all that it starts, until it has ended.
    control: Option<Group>,
    /// Rings whenever a process of ours has ended, whichever.
    bell: tokio::signal::unix::Signal,
    waited_for: bool,
}

impl Process {
    fn new(child: Child, mark: String, control: Option<Group>) -> io::Result<Self> {
        let number = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = number.ok_or_else(|| io::Error::other("the process has no number"))?;
        Ok(Self { child, group, mark, control, bell: signal(SignalKind::child())?, waited_for: false })
    }

    pub fn id(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// What it says, once.
    pub fn streams(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits for its end, takes along what it left running, in its group or out of it, and lets the
    /// system forget it. A call that is dropped changes nothing.
    ///
    /// # Errors
    /// The system's.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        while !self.waited_for && !self.is_over()? {
            // A bell that has rung in between is heard at once.
            self.bell.recv().await;
        }
        // Until it is waited for its number is nobody else's, and neither is its group's.
        self.signal(Signal::KILL);
        let (mark, group, control) = (self.mark.clone(), self.group, self.control.take());
        // The mark is looked for all the same: a process that may can leave its control group.
        let end = move || control.map_or(0, |control| control.end(group)) + leftovers::end(&mark, group);
        let ended = tokio::task::spawn_blocking(end).await.unwrap_or_default();
        if ended > 0 {
            warn!(
                process = self.id(),
                "the worker had left {ended} processes outside its group; they were ended"
            );
        }
        let status = self.child.wait().await?;
        self.waited_for = true;
        Ok(status)
    }

    /// Whether it has ended, with the system still remembering it.
    fn is_over(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.group), options)?.is_some())
    }

    /// Asks it and its group to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it and its group.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if !self.waited_for {
            // A group that is gone already is what was wanted.
            let _ = kill_process_group(self.group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
