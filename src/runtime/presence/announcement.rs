//! What routers tell each other of themselves.
//!
//! Owns: the form of an announcement, and which of two routers goes first.
//! Never: sends or receives one.
//! Holds: of two announcements of different routers exactly one is before the other, whoever
//! compares them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contract::timestamp::Timestamp;

/// The longest announcement that is read.
const ANNOUNCEMENT_BYTES_MAX: usize = 4096;

/// What a router does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It takes messages.
    Running,
    /// It asks whether it may.
    Asking,
    /// It is a tool, and only wants to know.
    Looking,
}

/// One router's word about itself. Members that a later release adds are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// The process, by random bits: two processes never have the same.
    pub router: String,
    /// Its instance name.
    pub instance: String,
    /// The machine that it runs on.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// The id of its ledger; empty for a tool.
    pub ledger_id: String,
    /// Its environment.
    pub environment: String,
    /// What it does.
    pub state: State,
    /// Since when it does that, by its own clock.
    pub since: Timestamp,
    /// Whether it has the exclusive queue.
    #[serde(default)]
    pub has_lock: bool,
    /// When it last heard another one that runs, where it ever did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_alone_since: Option<Timestamp>,
    /// The broker's user as whom it connects, where its config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Announcement {
    /// Reads one; `None` for what is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        if body.len() > ANNOUNCEMENT_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(body).ok()
    }

    /// The bytes to send.
    pub fn body(&self) -> Vec<u8> {
        // A struct of texts, numbers and flags always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether this router goes before that one: who runs before who asks; of those that run the
    /// one that began earlier; of those that ask the one with the lock; else the lower number.
    pub fn is_before(&self, other: &Self) -> bool {
        self.place() < other.place()
    }

    fn place(&self) -> (State, Timestamp, bool, &str) {
        match self.state {
            // Whether the lock came back later says nothing about who was first.
            State::Running => (self.state, self.since, false, &self.router),
            State::Asking | State::Looking => {
                (self.state, Timestamp::default(), !self.has_lock, &self.router)
            }
        }
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, host, pid, ledger_id, environment, since, .. } = self;
        let state = if self.state == State::Running { "running" } else { "starting" };
        write!(
            out,
            "`{instance}` on {host} (process {pid}), {state} since {since}, environment {environment}, ledger {ledger_id}"
        )?;
        if let Some(version) = &self.version {
            write!(out, ", version {version}")?;
        }
        if let Some(user) = &self.user {
            write!(out, ", as `{user}` of the broker")?;
        }
        Ok(())
    }
}

/// The machine's name, for people.
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "an unnamed host".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(router: &str, state: State, since: i64, has_lock: bool) -> Announcement {
        Announcement {
            router: router.to_owned(),
            instance: "gate-1".to_owned(),
            host: "host".to_owned(),
            pid: 1,
            ledger_id: "l".to_owned(),
            environment: "dev".to_owned(),
            state,
            since: Timestamp::from_micros(since),
            has_lock,
            not_alone_since: None,
            user: Some("swarmgate".to_owned()),
            version: None,
        }
    }

    #[test]
    fn of_two_routers_exactly_one_is_before_the_other() {
        let mut all = Vec::new();
        for router in ["a", "b", "c"] {
            for state in [State::Running, State::Asking] {
                for since in [1, 2] {
                    all.extend([false, true].map(|has_lock| of(router, state, since, has_lock)));
                }
            }
        }
        for one in &all {
            for other in all.iter().filter(|other| other.router != one.router) {
                assert_ne!(one.is_before(other), other.is_before(one), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn who_runs_is_before_who_asks_and_the_lock_before_the_number() {
        let running = of("z", State::Running, 9, false);
        let asking = of("a", State::Asking, 1, true);
        assert!(running.is_before(&asking));
        assert!(of("z", State::Asking, 5, true).is_before(&of("a", State::Asking, 1, false)));
        assert!(of("z", State::Running, 1, false).is_before(&of("a", State::Running, 2, true)));
    }

    #[test]
    fn what_is_read_is_what_was_sent_and_nothing_else_is_read() {
        let said = of("a", State::Running, 1, true);
        assert_eq!(Announcement::read(&said.body()), Some(said.clone()));
        let mut longer: serde_json::Value = serde_json::from_slice(&said.body()).unwrap();
        longer["later"] = true.into();
        assert_eq!(Announcement::read(longer.to_string().as_bytes()), Some(said));
        longer["later"] = "x".repeat(ANNOUNCEMENT_BYTES_MAX).into();
        for bad in [b"{}".to_vec(), b"no".to_vec(), longer.to_string().into_bytes()] {
            assert_eq!(Announcement::read(&bad), None);
        }
    }
}
