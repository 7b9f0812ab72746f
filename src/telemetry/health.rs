//! Health: what the router can and cannot do just now.
//!
//! Owns: the facts that the tasks set and `/readyz` and the gauges read.
//! Never: probes anything itself; whoever holds the ledger or the connection says how it is.
//! Holds: not ready until both the ledger and the broker were said to be well.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde::Serialize;

use crate::contract::{lane::Way, timestamp::Timestamp};

/// What works. Starts with nothing working.
#[derive(Debug, Default)]
pub struct Health {
    ledger: AtomicBool,
    broker: AtomicBool,
    blocked: AtomicBool,
    clock_is_apart: AtomicBool,
    emergency_log_is_gone: AtomicBool,
    broker_address: Mutex<Option<String>>,
    ways: Mutex<[Option<Held>; Way::ALL.len()]>,
    /// What of the topology cannot be used, by name, in the broker's words.
    topology: Mutex<BTreeMap<String, BrokerFault>>,
    other_router: Mutex<Option<String>>,
    not_alone: Mutex<Option<NotAlone>>,
}

/// Another router was heard that ran on the same prefix while this one did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotAlone {
    /// Since when that is known.
    pub since: Timestamp,
    /// When it was last so.
    pub last: Timestamp,
    /// The last that was heard.
    pub other: String,
}

/// Something of the router's own on the broker that it cannot use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokerFault {
    /// What was refused, and why.
    pub why: String,
    /// Whether the router is of use without it.
    pub needed: bool,
}

/// Messages that the broker has not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Where the last of them was published.
    pub exchange: String,
    /// The pattern of its key.
    pub keys: String,
    /// How many wait for their next try.
    pub waiting: usize,
    /// How many are published and wait for their confirm for longer than `amqp.confirm_slow_ms`.
    pub unconfirmed: usize,
    /// Whether the broker says anything at all about messages of this way.
    pub hears: bool,
}

/// A reason not to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The ledger cannot be written.
    Ledger,
    /// The broker is not connected, in one direction or both.
    Broker,
    /// The broker is connected and blocks publishers (memory or disk alarm).
    Blocked,
    /// The broker does not confirm commands or results.
    Confirms,
    /// An exchange or a queue of the router's own cannot be used.
    Topology,
    /// The emergency log was taken away or exchanged, and what it held is not written anew yet.
    EmergencyLog,
    /// The clock and the ledger do not agree: everything is SAFE.
    Clock,
    /// Another router has the prefix, or may have it.
    OtherRouter,
}

impl Lack {
    /// Its word in `/readyz`.
    pub const fn word(self) -> &'static str {
        match self {
            Lack::Ledger => "ledger",
            Lack::Broker => "broker",
            Lack::Blocked => "broker-blocked",
            Lack::Confirms => "confirms",
            Lack::Topology => "topology",
            Lack::EmergencyLog => "emergency-log",
            Lack::Clock => "clock",
            Lack::OtherRouter => "other-router",
        }
    }

    /// What it means and where to look.
    pub const fn meaning(self) -> &'static str {
        match self {
            Lack::Ledger => "the ledger cannot be written; see its disk and the log",
            Lack::Broker => "the broker is not connected; see its address and the log",
            Lack::Blocked => "the broker blocks publishers; see its memory and disk alarms",
            Lack::EmergencyLog => {
                "the emergency log was removed, replaced or cut while it was open, and is not written anew yet; see the log"
            }
            Lack::Topology => "an exchange or a queue of the router's own cannot be used; see `topology`",
            Lack::Clock => {
                "the clock is far from the ledger's last entry, so everything is SAFE; set the clock right, or see `clock-accept`"
            }
            Lack::OtherRouter => "another router has this prefix; see `otherRouter`",
            Lack::Confirms => {
                "the broker does not confirm what is published; see `held`, and the queues bound there for one that has lost its node"
            }
        }
    }
}

impl Health {
    /// Says whether the ledger can be written.
    pub fn set_ledger(&self, writable: bool) {
        self.ledger.store(writable, Relaxed);
    }

    /// Says whether the broker is connected in both directions.
    pub fn set_broker(&self, connected: bool) {
        self.broker.store(connected, Relaxed);
    }

    /// Says which of the broker's addresses it is connected at, without user and password.
    pub fn set_broker_address(&self, address: Option<&str>) {
        *self.broker_address.lock().unwrap_or_else(PoisonError::into_inner) = address.map(str::to_owned);
    }

    /// At which of the broker's addresses it is connected.
    pub fn broker_address(&self) -> Option<String> {
        self.broker_address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says whether the broker blocks publishers.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
    }

    /// Says whether the emergency log was taken away or exchanged.
    pub fn set_emergency_log_gone(&self, gone: bool) {
        self.emergency_log_is_gone.store(gone, Relaxed);
    }

    /// Says whether the clock and the ledger agree.
    pub fn set_clock_apart(&self, apart: bool) {
        self.clock_is_apart.store(apart, Relaxed);
    }

    /// Says what of a way the broker has not taken; `None`: nothing is held.
    pub fn set_way(&self, way: Way, held: Option<Held>) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = ways.get_mut(way as usize) {
            *place = held;
        }
    }

    /// What the broker has not taken, by way.
    pub fn held(&self) -> Vec<(Way, Held)> {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        Way::ALL.into_iter().zip(ways.iter()).filter_map(|(way, held)| Some((way, held.clone()?))).collect()
    }

    /// Says that an exchange or a queue of the router's own cannot be used, or that it can.
    pub fn set_topology(&self, name: &str, fault: Option<BrokerFault>) {
        let mut topology = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => topology.insert(name.to_owned(), fault),
            None => topology.remove(name),
        };
    }

    /// What of the topology cannot be used.
    pub fn topology(&self) -> BTreeMap<String, BrokerFault> {
        self.topology.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says for which other router this one waits; `None`: for none.
    pub fn set_other_router(&self, other: Option<String>) {
        *self.other_router.lock().unwrap_or_else(PoisonError::into_inner) = other;
    }

    /// For which other router this one waits.
    pub fn other_router(&self) -> Option<String> {
        self.other_router.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says that another router runs on the same prefix.
    pub fn set_not_alone(&self, other: &str, now: Timestamp) {
        let mut place = self.not_alone.lock().unwrap_or_else(PoisonError::into_inner);
        let since = place.as_ref().map_or(now, |known| known.since);
        *place = Some(NotAlone { since, last: now, other: other.to_owned() });
    }

    /// Whether another router ever ran on the same prefix while this one did.
    pub fn not_alone(&self) -> Option<NotAlone> {
        self.not_alone.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the ledger can be written.
    pub fn ledger(&self) -> bool {
        self.ledger.load(Relaxed)
    }

    /// Whether the broker is connected in both directions.
    pub fn broker(&self) -> bool {
        self.broker.load(Relaxed)
    }

    /// Everything that keeps the router from being ready; nothing when it is.
    pub fn blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// What is missing.
    pub fn lacks(&self) -> Vec<Lack> {
        let blocked = self.broker() && self.blocked.load(Relaxed);
        // Who waits for another router is connected, and uses it for nothing else.
        let waits = self.other_router().is_some();
        // A status or a refused copy that nobody confirms keeps no command waiting.
        let silent = |(way, held): &(Way, Held)| !held.hears && !matches!(way, Way::Metrics | Way::Refused);
        let silent = self.broker() && self.held().iter().any(silent);
        [
            (!self.ledger(), Lack::Ledger),
            (!self.broker() && !waits, Lack::Broker),
            (waits, Lack::OtherRouter),
            (blocked, Lack::Blocked),
            (silent, Lack::Confirms),
            (self.topology().values().any(|fault| fault.needed), Lack::Topology),
            (self.emergency_log_is_gone.load(Relaxed), Lack::EmergencyLog),
            (self.clock_is_apart.load(Relaxed), Lack::Clock),
        ]
        .into_iter()
        .filter_map(|(lacking, lack)| lacking.then_some(lack))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_ledger_and_broker_and_not_blocked() {
        let health = Health::default();
        assert_eq!(health.lacks(), [Lack::Ledger, Lack::Broker]);
        health.set_ledger(true);
        assert_eq!(health.lacks(), [Lack::Broker]);
        health.set_broker(true);
        assert_eq!(health.lacks(), []);
        health.set_blocked(true);
        assert_eq!(health.lacks(), [Lack::Blocked]);
        health.set_blocked(false);
        let held = |hears| Held {
            exchange: "swarmgate.out".to_owned(),
            keys: "signal.#".to_owned(),
            waiting: 3,
            unconfirmed: 0,
            hears,
        };
        health.set_way(Way::Signals, Some(held(true)));
        assert_eq!(
            (health.lacks(), health.held().len()),
            (vec![], 1),
            "a full subscriber is named, and no more"
        );
        health.set_way(Way::Metrics, Some(held(false)));
        assert_eq!(health.lacks(), []);
        health.set_way(Way::Signals, Some(held(false)));
        assert_eq!(health.lacks(), [Lack::Confirms]);
        let fault = |needed| Some(BrokerFault { why: "no".to_owned(), needed });
        health.set_topology("refused", fault(false));
        assert_eq!(health.lacks(), [Lack::Confirms], "what can be missing is named, and no more");
        health.set_topology("urgent", fault(true));
        assert_eq!(health.lacks(), [Lack::Confirms, Lack::Topology]);
        health.set_topology("urgent", None);
        health.set_broker(false);
        health.set_other_router(Some("gate-1".to_owned()));
        assert_eq!(health.lacks(), [Lack::OtherRouter], "it is connected, and waits");
        health.set_broker(true);
        health.set_other_router(None);
        health.set_way(Way::Signals, None);
        health.set_way(Way::Metrics, None);
        assert_eq!((health.lacks(), health.held().len()), (vec![], 0));
    }
}
