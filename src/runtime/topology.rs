//! What stands on the broker (contract.md "Running", rulings §3).
//!
//! Owns: the names and shapes of the router's exchanges and queues, from one prefix.
//! Never: talks to a broker.
//! Holds: each lane has its own queue; every key that `swarmgate.in` gets goes to exactly one of them.

use crate::{
    bus::{Exchange, ExchangeKind, Queue, QueueKind, Topology},
    contract::{
        command::Commands,
        lane::Lane,
        routing::{ControlPlaneRouting, Family},
    },
};

/// Bytes of bodies that the metrics queue and the refused queue keep before they drop their oldest.
pub const DROP_HEAD_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The queue of a lane.
pub fn lane_queue(prefix: &str, lane: Lane) -> String {
    format!("{prefix}.in.{lane}")
}

/// Everything the router declares in `enforce` mode.
pub fn enforce(prefix: &str, commands: &Commands) -> Topology {
    let (into, out) = (format!("{prefix}.in"), format!("{prefix}.out"));
    let (unknown, refused) = (format!("{prefix}.in.unknown"), format!("{prefix}.refused"));
    let topic = |name: &str| Exchange { name: name.to_owned(), kind: ExchangeKind::Topic, alternate: None };
    let exchanges = vec![
        Exchange { name: unknown.clone(), kind: ExchangeKind::Fanout, alternate: None },
        Exchange { alternate: Some(unknown.clone()), ..topic(&into) },
        topic(&out),
        topic(&refused),
    ];
    let mut queues: Vec<Queue> = Lane::ALL
        .into_iter()
        .map(|lane| Queue {
            name: lane_queue(prefix, lane),
            kind: match lane {
                Lane::Metrics => QueueKind::DropHead { bytes_max: DROP_HEAD_BYTES_MAX },
                _ => QueueKind::Quorum,
            },
            bindings: lane_patterns(lane, commands)
                .into_iter()
                .map(|pattern| (into.clone(), pattern))
                .collect(),
        })
        .collect();
    if let Some(results) = queues.iter_mut().find(|queue| queue.name == lane_queue(prefix, Lane::Results)) {
        results.bindings.push((unknown, String::new()));
    }
    queues.push(Queue {
        name: refused.clone(),
        kind: QueueKind::DropHead { bytes_max: DROP_HEAD_BYTES_MAX },
        bindings: vec![(refused, "#".to_owned())],
    });
    Topology { exchanges, queues }
}

/// What observe mode declares: one own queue on an exchange that is there already.
pub fn observe(queue: &str, exchange: &str) -> Topology {
    let bindings = Family::ALL
        .into_iter()
        .map(|family| (exchange.to_owned(), ControlPlaneRouting::family_binding(family)))
        .collect();
    Topology {
        exchanges: Vec::new(),
        queues: vec![Queue { name: queue.to_owned(), kind: QueueKind::Exclusive, bindings }],
    }
}

/// The patterns that a lane's queue is bound with, one a type for signals, so that none is in two lanes.
fn lane_patterns(lane: Lane, commands: &Commands) -> Vec<String> {
    let types_of = |lane| {
        commands
            .iter()
            .filter(move |command| Lane::of(Family::Signal, &command.kind_type, commands) == lane)
            .map(|command| ControlPlaneRouting::type_binding(Family::Signal, &command.kind_type))
            .collect()
    };
    match lane {
        Lane::Urgent | Lane::Signals => types_of(lane),
        Lane::Results => vec![
            ControlPlaneRouting::family_binding(Family::Outcome),
            ControlPlaneRouting::family_binding(Family::Alert),
        ],
        Lane::Metrics => vec![ControlPlaneRouting::family_binding(Family::Metric)],
    }
}
