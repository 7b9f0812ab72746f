//! Health: what the router can and cannot do just now.
//!
//! Owns: three facts that the tasks set and `/readyz` and the gauges read.
//! Never: probes anything itself; whoever holds the ledger or the connection says how it is.
//! Holds: not ready until both the ledger and the broker were said to be well.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What works. Starts with nothing working.
#[derive(Debug, Default)]
pub struct Health {
    ledger: AtomicBool,
    broker: AtomicBool,
    blocked: AtomicBool,
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
}

impl Lack {
    /// Its word in `/readyz`.
    pub const fn word(self) -> &'static str {
        match self {
            Lack::Ledger => "ledger",
            Lack::Broker => "broker",
            Lack::Blocked => "broker-blocked",
        }
    }

    /// What it means and where to look.
    pub const fn meaning(self) -> &'static str {
        match self {
            Lack::Ledger => "the ledger cannot be written; see its disk and the log",
            Lack::Broker => "the broker is not connected; see its address and the log",
            Lack::Blocked => "the broker blocks publishers; see its memory and disk alarms",
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

    /// Says whether the broker blocks publishers.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
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
        [(!self.ledger(), Lack::Ledger), (!self.broker(), Lack::Broker), (blocked, Lack::Blocked)]
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
    }
}
