//! The observed half: what is believed until told otherwise, gone with the process.
//!
//! Owns: what of the recorded facts is believed too, and what is kept over a step of time.
//! Never: part of the digest, or written anywhere.
//! Holds: nothing here decides what a replay must repeat.

use std::collections::BTreeSet;

use crate::{
    contract::{
        audit::{Change, Fact, Payload, ResultSeen, Standing, Stepped},
        interlock::Phase,
    },
    decision::{
        rules::words::{REMOVED, SWARM_REMOVE, SWARM_TEMPLATE},
        state::{
            Observed,
            inventory::{Inventory, Lifecycle},
            meters::Meters,
        },
    },
};

/// The members that a template asks for: `data.members`, each with a role and an instance.
fn members(payload: &Payload) -> Option<BTreeSet<(String, String)>> {
    let body: serde_json::Value = serde_json::from_str(payload.text()).ok()?;
    let members = body.get("data")?.get("members")?.as_array()?;
    let text = |member: &serde_json::Value, name: &str| Some(member.get(name)?.as_str()?.to_owned());
    Some(
        members
            .iter()
            .filter_map(|member| Some((text(member, "role")?, text(member, "instance")?)))
            .collect(),
    )
}

impl Observed {
    pub fn new(inventory: Inventory, meters: Meters) -> Self {
        Self { inventory, meters, ..Self::default() }
    }

    /// What is recorded of the fleet is believed too.
    pub fn follow(&mut self, fact: &Fact, session_lost_ms: u64) {
        self.meters.follow(fact);
        let Some(subject) = &fact.subject else { return };
        match &fact.change {
            Change::Session(moved) => {
                let stands = matches!(moved.phase, Phase::Bootstrapped | Phase::Ready | Phase::Working);
                for worker in &moved.workers {
                    let at = fact.at.micros();
                    match moved.phase {
                        // To be given work is no sign of life.
                        Phase::Working => drop(self.session_heard.entry(worker.clone()).or_insert(at)),
                        _ if stands => drop(self.session_heard.insert(worker.clone(), at)),
                        _ => drop(self.session_heard.remove(worker)),
                    }
                }
                if stands {
                    self.session_look.get_or_insert(fact.at.plus_ms(session_lost_ms).micros());
                }
            }
            Change::Moved(moved) => {
                for step in &moved.bots {
                    if let Some(lifecycle) = Lifecycle::read(step.to.word()) {
                        self.inventory.set_lifecycle(&step.scope, lifecycle, fact.at);
                    }
                }
            }
            Change::Presence(presence) if presence.now == Standing::Forgotten => {
                self.inventory.forget(&subject.scope);
                self.session_heard.remove(&subject.scope);
            }
            Change::Accepted(_) if subject.kind_type == SWARM_TEMPLATE => {
                if let Some(members) = fact.payload.as_ref().and_then(members) {
                    self.inventory.expect(&subject.scope.swarm_id, &members, fact.at);
                }
            }
            Change::Result(ResultSeen { ends: Some(ended), .. })
                if subject.kind_type == SWARM_REMOVE && ended.status == REMOVED =>
            {
                self.inventory.forget_swarm(&subject.scope.swarm_id);
                self.session_heard.retain(|worker, _| worker.swarm_id != subject.scope.swarm_id);
            }
            _ => {}
        }
    }

    /// Keeps of what was believed before a step of time what is still so.
    pub fn keep(&mut self, before: Self, stepped: &Stepped) {
        let second = stepped.to.micros().div_euclid(1_000_000);
        self.ledger_unwritable = before.ledger_unwritable;
        (self.kept, self.kept_bytes) = (before.kept, before.kept_bytes);
        self.tallies = before.tallies;
        for tally in self.tallies.values_mut() {
            // One of a second that lies ahead now would stay open until then.
            tally.second = tally.second.min(second);
            *self.tally_seconds.entry(tally.second).or_default() += 1;
        }
        self.alerts = before.alerts;
        self.alerts.values_mut().for_each(|at| *at = stepped.past(*at));
        self.alerts_held_back = before.alerts_held_back;
        self.bound_hits = before.bound_hits;
    }
}
