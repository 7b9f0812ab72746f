//! Whether an address leads to the broker that this router runs at, or to another.
//!
//! Owns: the mark of a broker, an exchange whose alternate carries random bits, and what is known
//! of each address.
//! Never: keeps a router with one address away, or one whose addresses all lead elsewhere.
//! Holds: a router that has run and has several addresses goes on to the next where one leads to
//! another broker.

use std::collections::BTreeSet;

use tracing::{debug, error};

use super::{Hindrance, random, seat::bounded};
use crate::{
    bus::{Bus, BusError},
    contract::lane::Lane,
    runtime::topology,
    telemetry::{Telemetry, health::BrokerFault},
};

/// The broker that a router runs at.
pub(super) struct Site {
    prefix: String,
    /// How many addresses the config has.
    addresses: usize,
    mark: Option<String>,
    /// Addresses that lead elsewhere, since one led here.
    strangers: BTreeSet<String>,
}

impl Site {
    pub fn new(prefix: String, addresses: usize) -> Self {
        Self { prefix, addresses, mark: None, strangers: BTreeSet::new() }
    }

    /// Lets a router in at its own broker only.
    ///
    /// # Errors
    /// `AnotherBroker`, as long as another address may lead home.
    pub async fn recognise(&mut self, bus: &dyn Bus, telemetry: &Telemetry) -> Result<(), Hindrance> {
        let address = bus.address().unwrap_or_default().to_owned();
        if self.addresses < 2 || self.is_ours(bus).await? {
            self.strangers.clear();
            telemetry.health.set_topology(&address, None);
            return Ok(());
        }
        let hindrance = Hindrance::AnotherBroker { address: address.clone() };
        telemetry
            .health
            .set_topology(&address, Some(BrokerFault { why: hindrance.to_string(), needed: false }));
        self.strangers.insert(address);
        if self.strangers.len() < self.addresses {
            return Err(hindrance);
        }
        error!("every address leads to another broker than before; this router goes on at this one");
        self.mark = None;
        self.strangers.clear();
        Ok(())
    }

    /// Has the mark, or, where somebody deleted that, the queue that stops come by. What cannot be
    /// known counts as ours.
    async fn is_ours(&self, bus: &dyn Bus) -> Result<bool, BusError> {
        let Some(mark) = &self.mark else { return Ok(true) };
        let known = async {
            if bus.exists(&topology::site(&self.prefix)).await? {
                bus.declare(&topology::at_site(&self.prefix, mark)).await.map(|_| true)
            } else {
                let urgent = topology::lane_queue(&self.prefix, Lane::Urgent);
                Ok(bus.counts(&urgent).await?.is_some())
            }
        };
        match bounded("show its mark", known).await {
            Err(BusError::Mismatch { .. }) => Ok(false),
            Err(fault @ BusError::Unreachable { .. }) => Err(fault),
            Err(fault) => {
                debug!(error = %fault, "it is not known which broker this is");
                Ok(true)
            }
            known => known,
        }
    }

    /// Marks the broker, or takes the mark that it has.
    pub async fn mark(&mut self, bus: &dyn Bus) {
        let mark = self.mark.clone().unwrap_or_else(random);
        let site = topology::at_site(&self.prefix, &mark);
        self.mark = match bounded("mark the broker", bus.declare(&site)).await {
            Ok(_) => Some(mark),
            Err(BusError::Mismatch { reason, .. }) => alternate(&topology::site(&self.prefix), &reason),
            Err(fault) => {
                debug!(error = %fault, "the broker is not marked");
                self.mark.take()
            }
        };
    }
}

/// The last word of an exchange's alternate, in the broker's words about it.
pub(super) fn alternate(name: &str, reason: &str) -> Option<String> {
    let (_, found) = reason.split_once(&format!("{name}."))?;
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    found.split(|letter| !word(letter)).next().map(str::to_owned)
}
