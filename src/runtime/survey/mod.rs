//! What an observer learns: who sends what, and what would become of it.
//!
//! Owns: the counts by sender and key pattern, an example of each, and the report of them.
//! Never: decides about a message, or shows a body whose secrets are not masked.
//! Holds: memory is bounded, whatever comes; what is told less exactly because of a bound is
//! counted, and said.

mod patterns;
pub mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::warn;

use self::{patterns::Patterns, records::Records};
use crate::{
    config::Observe,
    contract::{
        Contract,
        audit::{Actor, Verdict},
        envelope::origin_instance,
        message::Message,
        reason::Reason,
        routing::{ControlPlaneRouting, Family, SEGMENT_BYTES_MAX},
        secrets::shapes,
        timestamp::Timestamp,
    },
    decision::Decision,
    view::observed::{BoundMet, KnownBy, Observed, SeenExample, SeenRefusals, SeenRow, SeenSender},
};

/// Who all those are that are not told apart.
const OTHERS: &str = "others";
/// The pattern that takes everything.
const EVERYTHING: &str = "#";

/// The keys of the bounds, and what is done at each.
const BOUNDS: [(&str, &str); 3] = [
    ("observe.patterns_max", "told by the first word of their keys, or under `#`"),
    ("observe.senders_max", "told as of `others`"),
    ("observe.rows_max", "told as of `others` under `#`"),
];
const PATTERNS: usize = 0;
const SENDERS: usize = 1;
const ROWS: usize = 2;

/// What an observer learns.
#[derive(Debug)]
pub struct Survey {
    exchange: String,
    bindings: Vec<String>,
    bounds: Observe,
    contract: Arc<Contract>,
    records: Option<Records>,
    learned: Mutex<Learned>,
}

#[derive(Debug)]
struct Learned {
    patterns: Patterns,
    senders: BTreeSet<SeenSender>,
    rows: BTreeMap<(SeenSender, String), Counts>,
    /// Messages beyond each bound.
    beyond: [u64; BOUNDS.len()],
}

/// What is kept of the messages of one sender under one pattern.
#[derive(Debug)]
struct Counts {
    verdicts: BTreeMap<&'static str, u64>,
    refusals: BTreeMap<Reason, Refused>,
    example: Option<SeenExample>,
    first_at: Timestamp,
    last_at: Timestamp,
}

#[derive(Debug)]
struct Refused {
    count: u64,
    detail: String,
    pointer: Option<String>,
}

impl Survey {
    /// One that has learned nothing yet.
    pub fn new(
        (exchange, bindings): (&str, &[String]),
        bounds: Observe,
        contract: Arc<Contract>,
        records: Option<Records>,
    ) -> Self {
        let patterns = Patterns::new(bounds.patterns_max, bounds.siblings_max);
        let learned =
            Learned { patterns, senders: BTreeSet::new(), rows: BTreeMap::new(), beyond: [0; BOUNDS.len()] };
        let (exchange, bindings) = (exchange.to_owned(), bindings.to_vec());
        Self { exchange, bindings, bounds, contract, records, learned: Mutex::new(learned) }
    }

    /// Learns from one message and what was decided of it. Waits where records are written more
    /// slowly than they come: then the broker's queue counts what it drops.
    pub(super) async fn learn(&self, message: &Message, decision: &Decision, now: Timestamp) {
        self.count(message, decision, now);
        if let Some(records) = &self.records {
            records.write(message, now).await;
        }
    }

    fn count(&self, message: &Message, decision: &Decision, now: Timestamp) {
        let Some(verdict) = decision.verdict else { return };
        let learned = &mut *self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let place = learned.place(sender(message, decision), &message.routing_key, &self.bounds);
        let counts = learned.rows.entry(place).or_insert_with(|| Counts {
            verdicts: BTreeMap::new(),
            refusals: BTreeMap::new(),
            example: None,
            first_at: now,
            last_at: now,
        });
        let refusal = decision.refusal.as_ref().filter(|_| verdict == Verdict::Refuse);
        // An example of what would be refused is worth more than one that passes.
        let is_first_refused = refusal.is_some() && counts.refusals.is_empty();
        if counts.example.is_none() || is_first_refused {
            let reason = refusal.map(|refusal| refusal.reason);
            counts.example = Some(self.example(message, reason, now));
        }
        counts.last_at = now;
        *counts.verdicts.entry(verdict.word()).or_default() += 1;
        if let Some(refusal) = refusal {
            let refused = counts.refusals.entry(refusal.reason).or_insert_with(|| Refused {
                count: 0,
                detail: cut(&shapes::written(refusal.detail.to_string()), self.bounds.example_bytes_max).0,
                pointer: refusal.pointer.as_deref().map(|at| cut(at, self.bounds.example_bytes_max).0),
            });
            refused.count += 1;
        }
    }

    fn example(&self, message: &Message, reason: Option<Reason>, at: Timestamp) -> SeenExample {
        let shown = self.contract.shown(&message.body);
        let (body, is_cut) = match shown.map(|text| cut(&text, self.bounds.example_bytes_max)) {
            Some((body, is_cut)) => (Some(body), is_cut),
            None => (None, false),
        };
        let routing_key = shapes::written(message.routing_key.clone());
        SeenExample { at, body, body_bytes: message.body.len(), is_cut, reason, routing_key }
    }

    /// What was learned until now.
    pub fn report(&self) -> Observed {
        let learned = &*self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<SeenRow> = learned.rows.iter().map(|(place, counts)| counts.row(place)).collect();
        rows.sort_by(|one, other| {
            let order = |row: &SeenRow| (row.sender.clone(), std::cmp::Reverse((row.refused, row.count)));
            order(one).cmp(&order(other)).then_with(|| one.pattern.cmp(&other.pattern))
        });
        let met = BOUNDS.iter().zip(learned.beyond).filter(|(_, count)| *count > 0);
        Observed {
            bindings: self.bindings.clone(),
            bounds: met
                .map(|((key, what), count)| BoundMet {
                    count,
                    key: (*key).to_owned(),
                    what: (*what).to_owned(),
                })
                .collect(),
            exchange: self.exchange.clone(),
            next_step: next_step(&rows).to_owned(),
            records: self.records.as_ref().map(Records::report),
            rows,
        }
    }

    /// Writes what is left of the records.
    pub async fn close(&self) {
        if let Some(records) = &self.records {
            records.close().await;
        }
    }
}

impl Learned {
    /// Where a message is counted.
    fn place(&mut self, mut sender: SeenSender, key: &str, bounds: &Observe) -> (SeenSender, String) {
        let learned = self.patterns.learn(key);
        if learned.has_merged {
            self.merge();
        }
        if learned.is_folded {
            self.meet(PATTERNS);
        }
        if !self.senders.contains(&sender) {
            if self.senders.len() < bounds.senders_max {
                self.senders.insert(sender.clone());
            } else {
                self.meet(SENDERS);
                sender = others();
            }
        }
        let place = (sender, learned.pattern);
        // One row is kept for all the rest.
        if self.rows.contains_key(&place) || self.rows.len() + 1 < bounds.rows_max {
            return place;
        }
        self.meet(ROWS);
        (others(), EVERYTHING.to_owned())
    }

    fn meet(&mut self, bound: usize) {
        let Some((beyond, (key, what))) = self.beyond.get_mut(bound).zip(BOUNDS.get(bound)) else { return };
        if *beyond == 0 {
            warn!("the bound `{key}` is met: from now on messages beyond it are {what}");
        }
        *beyond += 1;
    }

    /// Joins the rows whose patterns have become one.
    fn merge(&mut self) {
        for ((sender, pattern), counts) in std::mem::take(&mut self.rows) {
            let place = (sender, self.patterns.find(&pattern));
            match self.rows.get_mut(&place) {
                Some(into) => into.absorb(counts),
                None => {
                    self.rows.insert(place, counts);
                }
            }
        }
    }
}

impl Counts {
    fn absorb(&mut self, other: Self) {
        let was_refused = |counts: &Self| !counts.refusals.is_empty();
        let is_better = match (was_refused(self), was_refused(&other)) {
            (one, same) if one == same => other.first_at < self.first_at,
            (_, is_refused) => is_refused,
        };
        if is_better {
            self.example = other.example;
        }
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
        for (reason, refused) in other.refusals {
            self.refusals.entry(reason).and_modify(|known| known.count += refused.count).or_insert(refused);
        }
    }

    fn row(&self, (sender, pattern): &(SeenSender, String)) -> SeenRow {
        let mut refusals: Vec<SeenRefusals> = self
            .refusals
            .iter()
            .map(|(code, refused)| SeenRefusals {
                code: *code,
                count: refused.count,
                detail: refused.detail.clone(),
                next_step: code.next_step().to_owned(),
                pointer: refused.pointer.clone(),
            })
            .collect();
        refusals.sort_by_key(|refusals| std::cmp::Reverse(refusals.count));
        let next_step = match refusals.first() {
            _ if is_foreign(pattern) => FOREIGN,
            Some(most) => most.code.next_step(),
            None => PASSES,
        };
        SeenRow {
            count: self.verdicts.values().sum(),
            example: self.example.clone(),
            first_at: self.first_at,
            last_at: self.last_at,
            next_step: next_step.to_owned(),
            pattern: shapes::written(pattern.clone()),
            refused: refusals.iter().map(|refusals| refusals.count).sum(),
            refusals,
            sender: SeenSender { name: shapes::written(sender.name.clone()), ..sender.clone() },
            verdicts: self.verdicts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect(),
        }
    }
}

/// What to do about a key that is no envelope's.
const FOREIGN: &str = "By its key this is no control message: leave it on its exchange (`--bind` looks past it), or make \
it a type of your own under `signal.<type>.<swarm>.<role>.<instance>`: docs/integrating/schemas.md.";
/// What to do where nothing is wrong.
const PASSES: &str = "Nothing: `swarmgate run` would take it.";

/// Whether no key under a pattern is an envelope's.
fn is_foreign(pattern: &str) -> bool {
    let first = |pattern: &str| pattern.split('.').next().map(str::to_owned);
    let is_ours = |family| first(&ControlPlaneRouting::family_binding(family)) == first(pattern);
    // What was folded may be an envelope's.
    let may_be_ours = pattern.ends_with(".#") && Family::ALL.into_iter().any(is_ours);
    pattern != EVERYTHING && Family::claimed_by(pattern).is_none() && !may_be_ours
}

fn next_step(rows: &[SeenRow]) -> &'static str {
    let is_refused = |row: &SeenRow| row.refused > 0 && !is_foreign(&row.pattern);
    match rows {
        [] => {
            "Nothing came. Does anybody publish to this exchange? A direct exchange gives only what is bound by its whole \
             key: name each key with --bind."
        }
        rows if rows.iter().any(is_refused) => {
            "Mend what would be refused (`swarmgate explain CODE` says more), and look again."
        }
        rows if rows.iter().all(|row| is_foreign(&row.pattern)) => {
            "No control messages came. Look at the exchange that they go to."
        }
        _ => {
            "Every control message that came would pass. Put the router in the way: docs/operating/quickstart.md."
        }
    }
}

/// Who sent a message: whom the broker vouches for, else who it says that it is.
fn sender(message: &Message, decision: &Decision) -> SeenSender {
    let Message { properties, .. } = message;
    let named =
        |by: KnownBy, name: &Option<String>| Some((by, name.clone().filter(|name| !name.is_empty())?));
    let unknown = Actor::unknown().principal;
    let origin = decision.principal.clone().filter(|principal| *principal != unknown);
    let (by, name) = named(KnownBy::UserId, &properties.user_id)
        .or_else(|| named(KnownBy::Origin, &origin))
        .or_else(|| named(KnownBy::Origin, &claimed(&message.body)))
        .or_else(|| named(KnownBy::AppId, &properties.app_id))
        .unwrap_or((KnownBy::Nothing, unknown));
    SeenSender { by, name }
}

/// The instance that a body of which the contract read no envelope says it is from: what is nearly
/// an envelope has a sender, too, and it is he who is to mend it.
fn claimed(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Says {
        origin: String,
    }
    let Says { origin } = serde_json::from_slice(body).ok()?;
    let instance = origin_instance(&origin);
    (!instance.is_empty() && instance.len() <= SEGMENT_BYTES_MAX).then(|| instance.to_owned())
}

fn others() -> SeenSender {
    SeenSender { by: KnownBy::Bound, name: OTHERS.to_owned() }
}

/// The beginning of a text, and whether that is not all.
fn cut(text: &str, bytes_max: usize) -> (String, bool) {
    let end = text.floor_char_boundary(bytes_max);
    (text.get(..end).unwrap_or_default().to_owned(), end < text.len())
}

#[cfg(test)]
mod tests;
