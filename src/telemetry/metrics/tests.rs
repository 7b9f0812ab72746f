//! The metrics' names, labels and numbers.
//!
//! Owns: the list of names, which dashboards and alerts stand on.
//! Never: asks over HTTP.
//! Holds: every label of every family is met once.

use super::*;
use crate::{
    contract::command::{Class, Command},
    decision::state::steps::{CommandStep, Reached},
};

enum Said {
    Yes,
    Nothing,
}

impl From<&Said> for PublishFate {
    fn from(said: &Said) -> Self {
        match said {
            Said::Yes => PublishFate::Carried,
            Said::Nothing => PublishFate::Unknown,
        }
    }
}

fn metrics() -> Metrics {
    Metrics::new(Arc::new(Health::default()), &Commands::default())
}

/// The names are an interface: dashboards and alerts stand on them.
#[test]
fn the_names_are_these() {
    let metrics = metrics();
    metrics.refused.set_depth(Some(0));
    let text = metrics.encode();
    let mut names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "process_start_time_seconds gauge",
            "swarmgate_alerts counter",
            "swarmgate_alerts_held_back counter",
            "swarmgate_bound_hits counter",
            "swarmgate_broker_connected gauge",
            "swarmgate_build info",
            "swarmgate_challenges_open gauge",
            "swarmgate_clock_gap_seconds gauge",
            "swarmgate_command_seconds histogram",
            "swarmgate_commands_ended counter",
            "swarmgate_commands_in_flight gauge",
            "swarmgate_commands_overdue gauge",
            "swarmgate_commit_seconds histogram",
            "swarmgate_emergency_entries gauge",
            "swarmgate_entries counter",
            "swarmgate_envelopes counter",
            "swarmgate_instances gauge",
            "swarmgate_instances_drifted gauge",
            "swarmgate_instances_unwell gauge",
            "swarmgate_kill_switch gauge",
            "swarmgate_lane_blocked gauge",
            "swarmgate_lane_depth gauge",
            "swarmgate_lane_in_flight gauge",
            "swarmgate_ledger_bytes gauge",
            "swarmgate_ledger_wal_bytes gauge",
            "swarmgate_ledger_writable gauge",
            "swarmgate_log_lines_dropped counter",
            "swarmgate_not_alone counter",
            "swarmgate_observed_dropped counter",
            "swarmgate_observed_uncounted counter",
            "swarmgate_other_router_asked counter",
            "swarmgate_outbox_parcels gauge",
            "swarmgate_publish_dropped counter",
            "swarmgate_publish_waiting gauge",
            "swarmgate_published counter",
            "swarmgate_ready gauge",
            "swarmgate_refusals counter",
            "swarmgate_refused_copies gauge",
            "swarmgate_refused_oldest_seconds gauge",
            "swarmgate_round_envelopes histogram",
            "swarmgate_safety_mode gauge",
        ]
    );
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn each_index_is_its_own_label() {
    let metrics = metrics();
    let mut expected = Vec::new();
    for (times, lane) in (1..).zip(Lane::ALL) {
        for verdict in VERDICTS {
            (0..times).for_each(|_| metrics.envelope(lane, verdict));
            expected
                .push(format!("swarmgate_envelopes_total{{lane=\"{lane}\",verdict=\"{verdict}\"}} {times}"));
        }
        metrics.set_lane_blocked(lane, lane == Lane::Signals);
        expected
            .push(format!("swarmgate_lane_blocked{{lane=\"{lane}\"}} {}", i32::from(lane == Lane::Signals)));
        metrics.taken(lane, times + 2);
        metrics.unbuffered(lane, 2);
        metrics.settled(lane, times as u64);
        expected.push(format!("swarmgate_lane_depth{{lane=\"{lane}\"}} {times}"));
        expected.push(format!("swarmgate_lane_in_flight{{lane=\"{lane}\"}} 2"));
    }
    for (times, reason) in (1..).zip(Reason::ALL) {
        (0..times).for_each(|_| metrics.refusal(*reason));
        expected.push(format!("swarmgate_refusals_total{{reason=\"{reason}\"}} {times}"));
    }
    let mut hits = [0; Bound::ALL.len()];
    for (times, bound) in (1..).zip(Bound::ALL) {
        hits[bound as usize] = times;
        expected.push(format!("swarmgate_bound_hits_total{{map=\"{}\"}} {times}", bound.word()));
    }
    metrics.bounds(hits);
    metrics.fates(&[Said::Yes, Said::Nothing, Said::Yes]);
    expected.push("swarmgate_published_total{fate=\"carried\"} 2".to_owned());
    expected.push("swarmgate_published_total{fate=\"unknown\"} 1".to_owned());
    expected.push("swarmgate_published_total{fate=\"rejected\"} 0".to_owned());
    metrics.committed(7, Duration::from_millis(1));
    metrics.round(0);
    metrics.round(4);
    expected.push("swarmgate_entries_total 7".to_owned());
    expected.push("swarmgate_round_envelopes_count 1".to_owned());
    let text = metrics.encode();
    for line in expected {
        assert!(text.lines().any(|told| told == line), "`{line}` is not in\n{text}");
    }
}

fn step(class: Option<Class>, reached: Reached, took_micros: Option<i64>) -> CommandStep {
    CommandStep { class, reached, took_micros }
}

fn ended(kind_type: &str, status: &str) -> Reached {
    Reached::Ended { kind_type: kind_type.to_owned(), status: status.to_owned() }
}

/// What a message says is no label: types and statuses are those of the table, or `other`.
#[test]
fn ends_are_counted_by_words_of_the_table_alone() {
    let metrics = metrics();
    let before = metrics.encode().lines().count();
    let start = Some(Class::Start);
    metrics.steps(&[
        step(start, ended("swarm-start", "Running"), Some(2_000_000)),
        step(start, ended("swarm-start", "TimedOut"), Some(400_000_000)),
        step(start, ended("swarm-start", "canary-status"), Some(1)),
        step(None, ended("canary-type", "Running"), Some(1)),
        step(Some(Class::Evidence), ended("status-request", "Reported"), None),
        step(Some(Class::Stop), Reached::Carried, Some(900_000)),
        step(Some(Class::Tighten), Reached::Observed, Some(0)),
    ]);
    let text = metrics.encode();
    for line in [
        "swarmgate_commands_ended_total{status=\"Running\",type=\"swarm-start\"} 1",
        "swarmgate_commands_ended_total{status=\"TimedOut\",type=\"swarm-start\"} 1",
        "swarmgate_commands_ended_total{status=\"other\",type=\"swarm-start\"} 1",
        "swarmgate_commands_ended_total{status=\"other\",type=\"other\"} 1",
        "swarmgate_commands_ended_total{status=\"Reported\",type=\"status-request\"} 1",
        "swarmgate_command_seconds_count{class=\"start\",step=\"ended\"} 3",
        "swarmgate_command_seconds_bucket{le=\"180.0\",class=\"start\",step=\"ended\"} 2",
        "swarmgate_command_seconds_bucket{le=\"1.0\",class=\"stop\",step=\"carried\"} 1",
        "swarmgate_command_seconds_bucket{le=\"0.5\",class=\"stop\",step=\"carried\"} 0",
        "swarmgate_command_seconds_count{class=\"stop\",step=\"observed\"} 1",
        "swarmgate_command_seconds_count{class=\"other\",step=\"ended\"} 1",
    ] {
        assert!(text.lines().any(|told| told == line), "`{line}` is not in\n{text}");
    }
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(text.lines().count(), before, "a series was made");
}

#[test]
fn a_type_of_the_deployment_has_series_of_its_own() {
    let mut commands = Commands::default();
    let flush = Command {
        kind_type: "cache-flush".to_owned(),
        success: vec!["Flushed".to_owned()],
        ..commands.get("config-update").unwrap().clone()
    };
    assert!(commands.add(flush));
    let metrics = Metrics::new(Arc::new(Health::default()), &commands);
    metrics.steps(&[step(Some(Class::Change), ended("cache-flush", "Flushed"), None)]);
    let line = "swarmgate_commands_ended_total{status=\"Flushed\",type=\"cache-flush\"} 1";
    assert!(metrics.encode().contains(line));
}

#[test]
fn health_is_read_when_asked() {
    let health = Arc::new(Health::default());
    let metrics = Metrics::new(Arc::clone(&health), &Commands::default());
    assert!(metrics.encode().contains("swarmgate_ledger_writable 0\n"));
    health.set_ledger(true);
    assert!(metrics.encode().contains("swarmgate_ledger_writable 1\n"));
}
