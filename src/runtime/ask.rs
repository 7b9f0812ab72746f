//! Questions to a running router, from the windows that only look in.
//!
//! Owns: the closed list of questions, and the words for having no answer.
//! Never: names anything that would change.
//! Holds: no answer has more than `PAGE_MAX` rows.

use serde_json::Value;
use tokio::sync::oneshot;

use crate::contract::routing::Scope;

/// Rows in one answer at most.
pub const PAGE_MAX: usize = 1000;

/// What can be asked. Each answer is JSON in the shape that docs/reference/api.md gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The router itself, its lanes, ledger and broker, and totals of commands and inventory.
    Overview,
    /// Every swarm that is known or expected.
    Swarms,
    /// Instances of one swarm, in order, from behind `after` on.
    Instances {
        /// The swarm.
        swarm: String,
        /// The last one of the page before.
        after: Option<Scope>,
        /// How many, at most `PAGE_MAX`.
        limit: usize,
    },
    /// One instance.
    Instance(Scope),
    /// Commands in flight, the newest first; `parked` asks only for those that wait for their target.
    Commands {
        /// Only those that wait for their target.
        parked: bool,
        /// How many, at most `PAGE_MAX`.
        limit: usize,
    },
    /// One command, by its number (the entry that accepted it) or its correlationId, in flight or ended.
    Command(String),
    /// Who is starved and what backs up if an instance stops.
    ImpactOfInstance(Scope),
    /// Who is starved and what backs up if a queue stops.
    ImpactOfQueue(String),
    /// Safety modes, kill switches, readiness gates and the latch.
    Safety,
    /// The challenges that are open, and uses of break-glass that wait for their review.
    Challenges,
    /// One challenge.
    Challenge(String),
    /// The whole queue graph: nodes and edges.
    Graph,
}

/// A question, and whom to tell.
pub(super) struct Asked {
    pub question: Question,
    /// Answered with nothing when what was asked for is not known.
    pub tell: oneshot::Sender<Option<Value>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The router is stopping or gone.
    #[error("the router is stopping; ask again when it runs")]
    Gone,
    /// It has no time for questions now.
    #[error("the router is too busy to answer; ask again in a moment")]
    Busy,
    /// The ledger cannot be read.
    #[error("the ledger cannot be read; look at the router's log")]
    Ledger,
    /// It was looked for among so many of the ledger's entries, and there was no time for more.
    #[error("it is not among {0} entries of the ledger, and there was no time for more")]
    NotAmongTheLast(u64),
}
