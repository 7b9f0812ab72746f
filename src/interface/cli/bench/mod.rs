//! `swarmgate bench`: the router against a plain relay, side by side on one broker.
//!
//! Owns: the order of the runs (A B A B …), the figures and their ratios.
//! Never: judges; it prints what was measured and how.
//! Holds: both contenders are processes of their own, consume the same queues with the same
//! prefetch, and carry the same messages; the relay checks, records and repeats nothing.

mod flatten;
mod load;
mod process;
pub mod relay;
mod storm;

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{CliError, Exit, Globals, Out, client::Addresses, output::aside};
use crate::{
    bus::Bus,
    contract::lane::Lane,
    runtime::{broker::Broker, topology},
};
use load::{Load, Sink};
use process::{Child, broker_cpu_ms};

/// How long one run may take before it counts as failed.
const RUN_TIMEOUT: Duration = Duration::from_secs(180);

/// Measure the router against a plain lapin relay on your broker.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Throughput and CPU, five alternating rounds, then latency at 1,000 messages a second:
    swarmgate bench --amqp amqp://guest:guest@127.0.0.1:5672/%2f
  Only the figures, for a machine:
    swarmgate bench --rounds 5 --output json
  What the router's headers alone cost the broker and its readers:
    swarmgate bench --marked
  What a fleet's statuses do to a command's way through the router:
    swarmgate bench --storm --instances 2000 --seconds 40
  From the latch to the stop of every instance:
    swarmgate bench --kill --instances 1000 --rounds 10
  Use a release build:
    cargo run --profile dist -- bench")]
pub struct Args {
    #[command(flatten)]
    amqp: Addresses,
    /// Messages in one throughput run.
    #[arg(long, default_value_t = 30_000)]
    messages: u64,
    /// Alternating rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages a second in the latency runs; 0 leaves them out.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// Seconds of one latency run.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Prefetch of each lane, for both.
    #[arg(long, default_value_t = 500)]
    prefetch: u16,
    /// Measure against a third contender too: the relay, when it writes the headers that the router
    /// writes.
    #[arg(long, conflicts_with_all = ["storm", "kill"])]
    marked: bool,
    /// Time commands while a simulated fleet reports: nothing, at its resting rate, and ten times
    /// that.
    #[arg(long)]
    storm: bool,
    /// Time the latch: from `swarmgate kill` to the stop of every instance of a fleet that runs.
    #[arg(long, conflicts_with = "storm")]
    kill: bool,
    /// Instances of that fleet.
    #[arg(long, default_value_t = 2_000)]
    instances: u64,
    /// Where the router's ledgers go; its disk is what is measured.
    #[arg(long, value_name = "DIR")]
    ledger: Option<std::path::PathBuf>,
}

/// Who carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Relay,
    Marked,
    Router,
}

impl Contender {
    const fn word(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Marked => "marked",
            Self::Router => "swarmgate",
        }
    }
}

/// One throughput run.
#[derive(Clone, Copy, Debug)]
struct Run {
    per_second: f64,
    cpu_us: f64,
    broker_us: f64,
    memory_kib: f64,
}

/// One latency run, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Latency {
    p50_us: f64,
    p99_us: f64,
}

/// Measures.
///
/// # Errors
/// When the broker cannot be used, or a run does not finish.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let loaded = globals.config_with(args.amqp.settings())?;
    let broker = Broker::new(&loaded.config);
    let bus: Arc<dyn Bus> = broker.open().await?;
    // Whoever is measured is at the same node.
    let url = broker.options().map(|options| options.url.clone()).unwrap_or_default();
    let bench = Bench { args, url, bus, commands: loaded.contract.commands.clone() };
    if bench.args.storm {
        let report = bench.storm().await?;
        bench.bus.close().await;
        tell_storm(&report, globals.is_json())?;
        return Ok(Exit::Done);
    }
    if bench.args.kill {
        let report = bench.kill().await?;
        bench.bus.close().await;
        tell_kill(&report, globals.is_json())?;
        return Ok(Exit::Done);
    }
    let mut measured: Vec<Measured> = bench.contenders().into_iter().map(Measured::none_yet).collect();
    for round in 0..bench.args.rounds {
        for Measured { contender, runs, .. } in &mut measured {
            let run = bench.throughput(*contender, round).await?;
            aside(&format!(
                "round {} {:<9} {:>8.0} msg/s  {:>6.1} µs CPU/msg  {:>6.1} µs broker CPU/msg  {:>7.0} KiB",
                round + 1,
                contender.word(),
                run.per_second,
                run.cpu_us,
                run.broker_us,
                run.memory_kib
            ));
            runs.push(run);
        }
    }
    for round in 0..if bench.args.rate == 0 { 0 } else { bench.args.rounds } {
        for Measured { contender, latencies, .. } in &mut measured {
            let latency = bench.latency(*contender, round).await?;
            aside(&format!(
                "round {} {:<9} p50 {:>7.0} µs  p99 {:>7.0} µs at {}/s",
                round + 1,
                contender.word(),
                latency.p50_us,
                latency.p99_us,
                bench.args.rate
            ));
            latencies.push(latency);
        }
    }
    bench.bus.close().await;
    tell(&report(&measured), globals.is_json())?;
    Ok(Exit::Done)
}

/// What was measured of a contender, a run a round.
struct Measured {
    contender: Contender,
    runs: Vec<Run>,
    latencies: Vec<Latency>,
}

impl Measured {
    fn none_yet(contender: Contender) -> Self {
        Self { contender, runs: Vec::new(), latencies: Vec::new() }
    }
}

/// What every run uses.
struct Bench {
    args: Args,
    url: String,
    bus: Arc<dyn Bus>,
    commands: crate::contract::command::Commands,
}

impl Bench {
    /// In the order of their runs; each is compared with the router, the last.
    fn contenders(&self) -> Vec<Contender> {
        let marked = self.args.marked.then_some(Contender::Marked);
        [Contender::Relay].into_iter().chain(marked).chain([Contender::Router]).collect()
    }

    /// Fills the lanes first, then lets the contender empty them.
    async fn throughput(&self, contender: Contender, round: usize) -> Result<Run, CliError> {
        let prefix = format!("bench.{}.t{round}.{}", std::process::id(), contender.word());
        let mut sink = self.prepare(&prefix).await?;
        let count = self.args.messages;
        Load::new(&prefix).publish(self.bus.as_ref(), count).await?;
        let ledger = self.ledger_dir()?;
        let child = self.start(contender, &prefix, ledger.path())?;
        let timed = tokio::time::timeout(RUN_TIMEOUT, async {
            sink.take(1).await?;
            let (started, cpu, broker) = (std::time::Instant::now(), child.cpu_ms(), broker_cpu_ms());
            sink.take(count - 1).await?;
            let seconds = started.elapsed().as_secs_f64();
            let messages = (count - 1) as f64;
            Ok::<_, CliError>(Run {
                per_second: messages / seconds,
                cpu_us: (child.cpu_ms() - cpu) * 1000.0 / messages,
                broker_us: (broker_cpu_ms() - broker) * 1000.0 / messages,
                memory_kib: child.memory_kib(),
            })
        });
        let run = timed.await.map_err(|_| unfinished(contender))??;
        child.stop().await;
        self.clean(&prefix).await?;
        Ok(run)
    }

    /// Publishes at a fixed rate and times each message from its publishing to its arrival.
    async fn latency(&self, contender: Contender, round: usize) -> Result<Latency, CliError> {
        let prefix = format!("bench.{}.l{round}.{}", std::process::id(), contender.word());
        let mut sink = self.prepare(&prefix).await?;
        let ledger = self.ledger_dir()?;
        let child = self.start(contender, &prefix, ledger.path())?;
        let load = Load::new(&prefix);
        // The contender connects and warms up on messages that do not count.
        load.publish(self.bus.as_ref(), 500).await?;
        let warm = tokio::time::timeout(RUN_TIMEOUT, sink.take(500)).await;
        warm.map_err(|_| unfinished(contender))??;
        let timed = load.paced(self.bus.as_ref(), self.args.rate, self.args.seconds, &mut sink);
        let timed = tokio::time::timeout(RUN_TIMEOUT, timed).await;
        let mut micros = timed.map_err(|_| unfinished(contender))??;
        micros.sort_by(f64::total_cmp);
        child.stop().await;
        self.clean(&prefix).await?;
        Ok(Latency { p50_us: quantile(&micros, 0.5), p99_us: quantile(&micros, 0.99) })
    }

    /// Commands at one rate while a fleet reports at three.
    async fn storm(&self) -> Result<Value, CliError> {
        let prefix = format!("bench.{}.storm", std::process::id());
        self.bus.declare(&topology::enforce(&prefix, &self.commands)).await?;
        let ledger = self.ledger_dir()?;
        let child = self.start(Contender::Router, &prefix, ledger.path())?;
        let storm = storm::Storm {
            bus: self.bus.as_ref(),
            prefix: &prefix,
            instances: self.args.instances.max(1),
            seconds: self.args.seconds,
        };
        let report = storm.run().await;
        child.stop().await;
        self.clean(&prefix).await?;
        report
    }

    async fn kill(&self) -> Result<Value, CliError> {
        let prefix = format!("bench.{}.kill", std::process::id());
        self.bus.declare(&topology::enforce(&prefix, &self.commands)).await?;
        let ledger = self.ledger_dir()?;
        let child = self.start(Contender::Router, &prefix, ledger.path())?;
        let fleet = flatten::Fleet {
            bus: self.bus.as_ref(),
            prefix: &prefix,
            instances: self.args.instances.max(1),
            rounds: self.args.rounds.max(1),
            ledger: ledger.path(),
        };
        let report = fleet.run().await;
        child.stop().await;
        self.clean(&prefix).await?;
        report
    }

    /// Declares what both contenders work on, and a subscriber that hears everything.
    async fn prepare(&self, prefix: &str) -> Result<Sink, CliError> {
        self.bus.declare(&topology::enforce(prefix, &self.commands)).await?;
        Sink::open(self.bus.as_ref(), prefix).await
    }

    async fn clean(&self, prefix: &str) -> Result<(), CliError> {
        for lane in Lane::ALL {
            self.bus.delete_queue(&topology::lane_queue(prefix, lane)).await?;
        }
        self.bus.delete_queue(&topology::refused_queue(prefix)).await?;
        for exchange in ["in", "in.unknown", "out", "refused"] {
            self.bus.delete_exchange(&format!("{prefix}.{exchange}")).await?;
        }
        Ok(())
    }

    fn start(&self, contender: Contender, prefix: &str, ledger: &Path) -> Result<Child, CliError> {
        let prefetch = self.args.prefetch.to_string();
        match contender {
            Contender::Relay | Contender::Marked => {
                let mut args = vec!["bench-relay", "--prefix", prefix, "--prefetch", &prefetch];
                args.extend((contender == Contender::Marked).then_some("--marked"));
                Child::start(&args, &[("SWARMGATE_AMQP_URL", &self.url)])
            }
            Contender::Router => {
                let ledger = ledger.display().to_string();
                // Small bodies leave room for the prefetch within the bound on bytes in flight.
                let settings = [
                    ("SWARMGATE_AMQP_URL", self.url.as_str()),
                    ("SWARMGATE_AMQP_PREFIX", prefix),
                    ("SWARMGATE_AMQP_PREFETCH_URGENT_COUNT", &prefetch),
                    ("SWARMGATE_AMQP_PREFETCH_SIGNALS_COUNT", &prefetch),
                    ("SWARMGATE_AMQP_PREFETCH_RESULTS_COUNT", &prefetch),
                    ("SWARMGATE_AMQP_PREFETCH_METRICS_COUNT", &prefetch),
                    ("SWARMGATE_LIMITS_BODY_BYTES_MAX", "32768"),
                    ("SWARMGATE_TELEMETRY_LOG_LEVEL", "warn"),
                ];
                Child::start(&["run", "--ledger", &ledger, "--http", "127.0.0.1:0"], &settings)
            }
        }
    }

    fn ledger_dir(&self) -> Result<tempfile::TempDir, CliError> {
        let made = match &self.args.ledger {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        };
        made.map_err(|fault| CliError::file(Path::new("a temporary directory"), &fault))
    }
}

fn unfinished(contender: Contender) -> CliError {
    CliError::Usage {
        message: format!("the run of {} did not finish within {} s", contender.word(), RUN_TIMEOUT.as_secs()),
        help: "try fewer --messages; see whether the broker raised an alarm".to_owned(),
    }
}

/// The value below which that share of sorted values lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// The medians of each figure, and for each relay the median of the rounds' own ratios.
fn report(measured: &[Measured]) -> Value {
    let Some((router, relays)) = measured.split_last() else { return Value::Null };
    json!({
        "throughputPerSecond": figure(router, relays, |of| values(&of.runs, |run| run.per_second)),
        "cpuMicrosPerMessage": figure(router, relays, |of| values(&of.runs, |run| run.cpu_us)),
        "brokerCpuMicrosPerMessage": figure(router, relays, |of| values(&of.runs, |run| run.broker_us)),
        "memoryKib": figure(router, relays, |of| values(&of.runs, |run| run.memory_kib)),
        "latencyP50Micros": figure(router, relays, |of| values(&of.latencies, |latency| latency.p50_us)),
        "latencyP99Micros": figure(router, relays, |of| values(&of.latencies, |latency| latency.p99_us)),
    })
}

fn values<T>(rounds: &[T], of: fn(&T) -> f64) -> Vec<f64> {
    rounds.iter().map(of).collect()
}

fn figure(router: &Measured, relays: &[Measured], of: impl Fn(&Measured) -> Vec<f64>) -> Value {
    let own = of(router);
    let mut figure = serde_json::Map::new();
    for relay in relays {
        let (word, theirs) = (relay.contender.word(), of(relay));
        let ratio = median(own.iter().zip(&theirs).map(|(own, theirs)| own / theirs));
        figure.insert(word.to_owned(), json!(median(theirs.into_iter())));
        let name = if relay.contender == Contender::Marked { "ratioToMarked" } else { "ratio" };
        figure.insert(name.to_owned(), json!(ratio));
    }
    figure.insert(router.contender.word().to_owned(), json!(median(own.into_iter())));
    figure.into()
}

fn tell_storm(report: &Value, json: bool) -> Result<(), CliError> {
    let mut out = Out::new();
    if json {
        return out.json(report);
    }
    let ratio = report["p99StormToRest"].as_f64().unwrap_or(f64::NAN);
    out.line(&format!("a command's p99 in the storm is {ratio:.2} times its p99 at rest"))
}

fn tell_kill(report: &Value, json: bool) -> Result<(), CliError> {
    let mut out = Out::new();
    if json {
        return out.json(report);
    }
    let figure = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    let (p50, p99, max) = (figure("p50Millis"), figure("p99Millis"), figure("maxMillis"));
    out.line(&format!(
        "from the latch to an instance's stop: p50 {p50:.1} ms, p99 {p99:.1} ms, at most {max:.1} ms"
    ))
}

fn tell(report: &Value, json: bool) -> Result<(), CliError> {
    let mut out = Out::new();
    if json {
        return out.json(report);
    }
    let marked = report.pointer("/throughputPerSecond/marked").is_some();
    let columns = [("relay", 12), ("swarmgate", 12), ("ratio", 8), ("marked", 12), ("ratioToMarked", 14)];
    let columns = columns.get(..if marked { 5 } else { 3 }).unwrap_or_default();
    let heads: String = columns.iter().map(|(word, width)| format!(" {word:>width$}")).collect();
    out.line(&format!("{:<28}{heads}", "median"))?;
    for (name, figure) in report.as_object().into_iter().flatten() {
        let value = |key: &str| figure.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let places = |key: &str| if key.starts_with("ratio") { 2 } else { 1 };
        let cells: String =
            columns.iter().map(|(key, width)| format!(" {:>width$.*}", places(key), value(key))).collect();
        out.line(&format!("{name:<28}{cells}"))?;
    }
    Ok(())
}
