//! What stands on the broker.
//!
//! Owns: the names and shapes of the router's exchanges and queues, from one prefix.
//! Never: talks to a broker.
//! Holds: each lane has its own queue; every key that `<prefix>.in` gets goes to exactly one of
//! them, and so does every key that comes back from what the broker would have dropped. What no
//! binding of a lane takes waits for no ledger where it is of the urgent lane.

use crate::{
    bus::{Exchange, ExchangeKind, Queue, QueueKind, TapBounds, Topology},
    contract::{
        command::Commands,
        lane::Lane,
        routing::{ControlPlaneRouting, Family},
    },
};

/// Bytes of bodies that the metrics queue and the refused queue keep before they drop their oldest.
pub const DROP_HEAD_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The version of the lane queues: with new arguments they get a new name, so that an upgrade never
/// meets a queue that it cannot use. Queues of the version before are emptied and deleted.
const VERSION: &str = "v2";

/// The queue of a lane.
pub fn lane_queue(prefix: &str, lane: Lane) -> String {
    format!("{prefix}.in.{lane}.{VERSION}")
}

/// The queue of refused copies.
pub fn refused_queue(prefix: &str) -> String {
    format!("{prefix}.refused.{VERSION}")
}

/// Where what the broker would drop of a lane goes: an exchange and a queue of the same name.
pub fn dead(prefix: &str) -> String {
    format!("{prefix}.in.dead")
}

/// Where the router puts it back, for its lane: nobody else may write there, so what comes from
/// there has been dropped.
pub fn returned(prefix: &str) -> String {
    format!("{prefix}.in.returned")
}

/// Where what no binding takes is told apart by its key: an exchange, and a queue of the same name
/// for the keys of the urgent lane.
pub fn unbound(prefix: &str) -> String {
    format!("{prefix}.in.unbound")
}

/// Where the router puts that queue's messages, for the urgent lane: nobody else may write there.
pub fn moved(prefix: &str) -> String {
    format!("{prefix}.in.moved")
}

/// Where `<prefix>.in` sends what no binding takes: its alternate, which no router can change where
/// it is there.
fn unknown(prefix: &str) -> String {
    format!("{prefix}.in.unknown")
}

/// Where every other key goes that no binding takes.
fn other(prefix: &str) -> String {
    format!("{prefix}.in.other")
}

/// Where the routers of a prefix ask and answer each other.
pub fn routers(prefix: &str) -> String {
    format!("{prefix}.routers")
}

/// The exclusive queue that one router of a prefix has.
pub fn router_lock(prefix: &str) -> String {
    format!("{prefix}.router")
}

/// The exchange that carries a prefix's environment.
pub fn environment(prefix: &str) -> String {
    format!("{prefix}.environment")
}

/// What a router declares before it asks whether it may begin.
pub fn asking(prefix: &str) -> Topology {
    let exchange = Exchange { name: routers(prefix), kind: ExchangeKind::Topic, alternate: None };
    Topology { exchanges: vec![exchange], queues: Vec::new() }
}

/// What a router declares that may begin, and no other: whose the prefix is. The broker compares an
/// exchange's alternate with what is declared and no other argument: so the environment stands in
/// that. Nothing is ever published there.
pub fn belonging(prefix: &str, word: &str) -> Topology {
    let name = environment(prefix);
    let alternate = Some(format!("{name}.{word}"));
    let exchange = Exchange { name, kind: ExchangeKind::Fanout, alternate };
    Topology { exchanges: vec![exchange], queues: Vec::new() }
}

/// The exchange that tells one broker from another.
pub fn site(prefix: &str) -> String {
    format!("{prefix}.site")
}

/// That exchange, with the mark of a broker as the last word of its alternate. Nothing is ever
/// published there.
pub fn at_site(prefix: &str, mark: &str) -> Topology {
    let name = site(prefix);
    let alternate = Some(format!("{name}.{mark}"));
    Topology { exchanges: vec![Exchange { name, kind: ExchangeKind::Fanout, alternate }], queues: Vec::new() }
}

/// What stands beside the lanes: no message needs it, and a router looks after it all the same.
#[derive(Clone, Debug, Default)]
pub struct Aside {
    /// What is declared again every few seconds.
    pub kept: Topology,
    /// Two exchanges of which the first must not lead straight to the second.
    pub apart: Option<(String, String)>,
    /// What leads from one exchange to another.
    pub detour: Option<Detour>,
}

/// An exchange that leads to another one, and to a queue only by way of it.
#[derive(Clone, Debug)]
pub struct Detour {
    /// The exchange.
    pub from: String,
    /// The other one. The queue of the same name is bound to it last.
    pub to: String,
    /// The queue, with its binding at the end of the detour.
    pub by_way: Queue,
    /// The same queue, with its binding of an earlier release.
    pub straight: Queue,
}

/// Beside the lanes in `enforce` mode: the prefix's environment, the ledger's mark, no way round
/// the router, and the way of what no binding takes.
pub fn aside(prefix: &str, word: &str) -> Aside {
    let (mut kept, mark) = (belonging(prefix, word), mark(prefix));
    kept.exchanges.extend(mark.exchanges);
    kept.queues.extend(mark.queues);
    let results = |exchange: String| Queue {
        name: lane_queue(prefix, Lane::Results),
        kind: QueueKind::Lane { dead: dead(prefix) },
        bindings: vec![(exchange, String::new())],
    };
    let detour = Detour {
        from: unknown(prefix),
        to: unbound(prefix),
        by_way: results(other(prefix)),
        straight: results(unknown(prefix)),
    };
    Aside { kept, apart: Some((format!("{prefix}.in"), format!("{prefix}.out"))), detour: Some(detour) }
}

/// The patterns that a binding past the router has: that of `swarmgate bypass`, and those of whole
/// families.
pub fn bypasses() -> Vec<String> {
    let families = Family::ALL.into_iter().map(ControlPlaneRouting::family_binding);
    std::iter::once("#".to_owned()).chain(families).collect()
}

/// Everything the router declares in `enforce` mode.
pub fn enforce(prefix: &str, commands: &Commands) -> Topology {
    let (into, out) = (format!("{prefix}.in"), format!("{prefix}.out"));
    let (unknown, refused) = (unknown(prefix), format!("{prefix}.refused"));
    let (dead, returned) = (dead(prefix), returned(prefix));
    let (unbound, moved, other) = (unbound(prefix), moved(prefix), other(prefix));
    let topic = |name: &str| Exchange { name: name.to_owned(), kind: ExchangeKind::Topic, alternate: None };
    let fanout = |name: &str| Exchange { kind: ExchangeKind::Fanout, ..topic(name) };
    let exchanges = vec![
        fanout(&unknown),
        Exchange { alternate: Some(unknown.clone()), ..topic(&into) },
        topic(&out),
        topic(&refused),
        fanout(&dead),
        Exchange { alternate: Some(unknown), ..topic(&returned) },
        fanout(&other),
        Exchange { alternate: Some(other.clone()), ..topic(&unbound) },
        fanout(&moved),
    ];
    // What no binding takes is decided too, and not dropped by the broker in silence.
    let without_binding = |lane| match lane {
        Lane::Urgent => vec![(moved.clone(), String::new())],
        Lane::Results => vec![(other.clone(), String::new())],
        Lane::Signals | Lane::Metrics => Vec::new(),
    };
    // The urgent lane's comes first: without the first queue a router does not begin (`link`).
    let mut queues: Vec<Queue> = Lane::ALL
        .into_iter()
        .map(|lane| {
            let patterns = lane_patterns(lane, commands);
            let from = |exchange: &str| {
                let exchange = exchange.to_owned();
                patterns.iter().map(move |pattern| (exchange.clone(), pattern.clone())).collect::<Vec<_>>()
            };
            Queue {
                name: lane_queue(prefix, lane),
                kind: match lane {
                    Lane::Metrics => QueueKind::DropHead { bytes_max: DROP_HEAD_BYTES_MAX },
                    _ => QueueKind::Lane { dead: dead.clone() },
                },
                bindings: [from(&into), from(&returned), without_binding(lane)].concat(),
            }
        })
        .collect();
    queues.push(Queue {
        name: dead.clone(),
        kind: QueueKind::Quorum,
        bindings: vec![(dead.clone(), String::new())],
    });
    queues.push(Queue {
        name: refused_queue(prefix),
        kind: QueueKind::DropHead { bytes_max: DROP_HEAD_BYTES_MAX },
        bindings: vec![(refused, "#".to_owned())],
    });
    let urgent = lane_patterns(Lane::Urgent, commands).into_iter();
    queues.push(Queue {
        name: unbound.clone(),
        kind: QueueKind::Lane { dead },
        bindings: urgent.map(|pattern| (unbound.clone(), pattern)).collect(),
    });
    Topology { exchanges, queues }
}

/// Where the ledger's mark is kept: a queue, and an exchange of the same name that feeds nothing
/// else.
pub fn mark_queue(prefix: &str) -> String {
    format!("{prefix}.mark")
}

/// What stands on the broker for the mark. It is the router's alone, with an exchange of its own,
/// so that the router needs no right on the default exchange; it is declared before the lanes are,
/// because it is read before they are.
pub fn mark(prefix: &str) -> Topology {
    let name = mark_queue(prefix);
    Topology {
        exchanges: vec![Exchange { name: name.clone(), kind: ExchangeKind::Fanout, alternate: None }],
        queues: vec![Queue {
            name: name.clone(),
            kind: QueueKind::Last,
            bindings: vec![(name, String::new())],
        }],
    }
}

/// A lane's queue of an earlier release, with the bindings it had.
pub fn retired_lane(prefix: &str, lane: Lane, commands: &Commands) -> Queue {
    let into = format!("{prefix}.in");
    let patterns = lane_patterns(lane, commands).into_iter();
    let mut bindings: Vec<_> = patterns.map(|pattern| (into.clone(), pattern)).collect();
    if lane == Lane::Results {
        bindings.push((unknown(prefix), String::new()));
    }
    Queue { name: format!("{prefix}.in.{lane}"), kind: QueueKind::Quorum, bindings }
}

/// The queue of refused copies of an earlier release, with the binding it had.
pub fn retired_refused(prefix: &str) -> Queue {
    let name = format!("{prefix}.refused");
    Queue { bindings: vec![(name.clone(), "#".to_owned())], kind: QueueKind::Quorum, name }
}

/// The names of what observe mode declares.
#[derive(Clone, Debug)]
pub struct ObserveNames {
    /// The queue that is bound to somebody's exchange.
    pub tap: String,
    /// The queue of what the first one dropped, and the exchange between them.
    pub dropped: String,
    /// The queue of what not even that one had room for: the last message only, as a sign.
    pub uncounted: String,
}

impl ObserveNames {
    /// Those of a router.
    pub fn of(prefix: &str, instance: &str) -> Self {
        let tap = format!("{prefix}.observe.{instance}");
        Self { dropped: format!("{tap}.dropped"), uncounted: format!("{tap}.uncounted"), tap }
    }
}

/// What observe mode declares: one own queue on an exchange that is there already, and behind it
/// what that queue drops when it is not read in time, to be counted.
pub fn observe(
    names: &ObserveNames,
    exchange: &str,
    patterns: &[String],
    queue_bytes_max: u64,
    dropped_bytes_max: u64,
) -> Topology {
    let bindings = patterns.iter().map(|pattern| (exchange.to_owned(), pattern.clone())).collect();
    let behind = &names.dropped;
    let queue = |name: &str, bounds, dropped_to: Option<&str>| Queue {
        name: name.to_owned(),
        kind: QueueKind::Tap { bounds, dropped_to: dropped_to.map(|key| (behind.clone(), key.to_owned())) },
        bindings: vec![(behind.clone(), name.to_owned())],
    };
    let tap = queue(&names.tap, TapBounds::Bytes(queue_bytes_max), Some(&names.dropped));
    Topology {
        exchanges: vec![Exchange {
            name: behind.clone(),
            kind: ExchangeKind::TemporaryTopic,
            alternate: None,
        }],
        queues: vec![
            Queue { bindings, ..tap },
            queue(&names.dropped, TapBounds::Bytes(dropped_bytes_max), Some(&names.uncounted)),
            queue(&names.uncounted, TapBounds::Messages(1), None),
        ],
    }
}

/// The patterns that a lane's queue is bound with, one a type for signals, so that none is in two
/// lanes.
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
