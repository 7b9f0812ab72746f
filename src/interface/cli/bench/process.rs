//! The contenders as processes, and what /proc says of them.
//!
//! Owns: starting this binary again with other arguments, its CPU time and memory, and the broker's
//! CPU time.
//! Never: ends a process that it did not start.
//! Holds: a child that is dropped is killed.

use std::{fs, path::Path, process::Stdio, time::Duration};

use crate::interface::cli::CliError;

/// Clock ticks a second in /proc/<pid>/stat; 100 on every Linux that runs this.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a child may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A contender.
pub struct Child(tokio::process::Child);

impl Child {
    /// Starts this binary with arguments and variables.
    pub fn start(args: &[&str], variables: &[(&str, &str)]) -> Result<Self, CliError> {
        let own =
            std::env::current_exe().map_err(|fault| CliError::file(Path::new("this binary"), &fault))?;
        let mut command = tokio::process::Command::new(&own);
        command.args(args).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().map(Self).map_err(|fault| CliError::file(&own, &fault))
    }

    /// CPU time so far, user and system, in milliseconds.
    pub fn cpu_ms(&self) -> f64 {
        self.0.id().map_or(f64::NAN, cpu_ms)
    }

    /// The most memory it had resident, in KiB.
    pub fn memory_kib(&self) -> f64 {
        let status = self.0.id().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let line =
            status.as_deref().and_then(|status| status.lines().find(|line| line.starts_with("VmHWM:")));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(f64::NAN)
    }

    /// Ends it; what it had is measured already.
    pub async fn stop(mut self) {
        let _ = self.0.start_kill();
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.0.wait()).await;
    }
}

fn cpu_ms(pid: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return f64::NAN };
    // The name in parentheses may hold anything; the fields after it are numbers.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks =
        |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) * 1000.0 / TICKS_PER_SECOND
}

/// CPU time of the brokers on this machine, in milliseconds; not a number where there is none.
pub fn broker_cpu_ms() -> f64 {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let beams = pids.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "beam.smp").then(|| cpu_ms(pid))
    });
    beams.reduce(|sum, one| sum + one).unwrap_or(f64::NAN)
}
