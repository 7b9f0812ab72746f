//! What was last seen of a router.
//!
//! Owns: the questions of one look, rates between two looks, and what stays when a look fails.
//! Never: shows old figures as new: with a fault comes since when.
//! Holds: a look asks for at most `COMMANDS_MAX` commands.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{
    clock,
    contract::timestamp::Timestamp,
    interface::cli::{
        access::{AccessError, Router},
        table,
    },
    view::{
        commands::{Command, Commands},
        inventory::{Swarm, Swarms},
        overview::{LaneTotals, Overview},
    },
};

/// Commands on the screen at most.
const COMMANDS_MAX: usize = 200;

/// A router as it was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Where.
    pub url: String,
    /// When.
    pub at: Option<Timestamp>,
    pub overview: Overview,
    pub swarms: Vec<Swarm>,
    pub commands: Vec<Command>,
    /// Envelopes a second that each lane carried between the last two looks.
    pub rates: BTreeMap<String, f64>,
    /// Why the last look saw nothing.
    pub fault: Option<String>,
}

impl Seen {
    /// Before the first look.
    pub fn nothing_yet(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }
}

/// Looks at one router.
#[derive(Debug)]
pub struct Watcher {
    router: Router,
    last: Seen,
    last_look: Option<Instant>,
}

impl Watcher {
    pub fn new(router: Router) -> Self {
        let last = Seen::nothing_yet(router.url());
        Self { router, last, last_look: None }
    }

    pub fn url(&self) -> &str {
        self.router.url()
    }

    /// Looks once.
    pub async fn look(&mut self) -> Seen {
        match self.asked().await {
            Ok((overview, swarms, commands)) => {
                let now = Instant::now();
                let elapsed = self.last_look.map(|last| now - last);
                self.last = Seen {
                    url: self.router.url().to_owned(),
                    at: Some(clock::wall()),
                    rates: rates(&self.last.overview, &overview, elapsed),
                    overview,
                    swarms: swarms.swarms,
                    commands: commands.commands,
                    fault: None,
                };
                self.last_look = Some(now);
            }
            Err(fault) => self.last.fault = Some(self.told(&fault)),
        }
        self.last.clone()
    }

    async fn asked(&self) -> Result<(Overview, Swarms, Commands), AccessError> {
        let commands = format!("commands?limit={COMMANDS_MAX}");
        let router = &self.router;
        Ok((router.page("overview").await?, router.page("inventory").await?, router.page(&commands).await?))
    }

    /// A fault in one line: what, since when, and that it is asked again.
    fn told(&self, fault: &AccessError) -> String {
        let since = match self.last.at {
            Some(_) => format!(" for {}", table::ago(self.last.at, clock::wall())),
            None => String::new(),
        };
        format!("{fault}{since}; asking again")
    }
}

/// What each lane carried a second; nothing after a restart, when its counters began anew.
fn rates(before: &Overview, now: &Overview, elapsed: Option<Duration>) -> BTreeMap<String, f64> {
    let Some(elapsed) = elapsed.filter(|elapsed| !elapsed.is_zero()) else { return BTreeMap::new() };
    let rate = |lane: &LaneTotals| {
        let earlier = before.lanes.iter().find(|earlier| earlier.lane == lane.lane)?;
        let carried = u32::try_from(lane.forwarded.checked_sub(earlier.forwarded)?).ok()?;
        Some((lane.lane.clone(), f64::from(carried) / elapsed.as_secs_f64()))
    };
    now.lanes.iter().filter_map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview(forwarded: u64) -> Overview {
        let lane =
            |lane: &str, forwarded| LaneTotals { lane: lane.to_owned(), forwarded, ..LaneTotals::default() };
        Overview { lanes: vec![lane("urgent", 5), lane("signals", forwarded)], ..Overview::default() }
    }

    #[test]
    fn rates_are_between_two_looks() {
        let two = Some(Duration::from_secs(2));
        let told = rates(&overview(100), &overview(125), two);
        assert_eq!((told.get("urgent"), told.get("signals")), (Some(&0.0), Some(&12.5)));
        assert!(rates(&Overview::default(), &overview(125), None).is_empty());
        let after_a_restart = rates(&overview(100), &overview(1), two);
        assert_eq!((after_a_restart.get("urgent"), after_a_restart.get("signals")), (Some(&0.0), None));
    }
}
