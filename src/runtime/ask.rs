//! Questions to a running router, from the windows that only look in.
//!
//! Owns: the closed list of questions, and the words for having no answer.
//! Never: names anything that would change.
//! Holds: no answer has more than `PAGE_MAX` rows.

use serde_json::Value;
use tokio::sync::oneshot;

use crate::{contract::routing::Scope, view::Page};

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What an observer has learned; a router that acts has learned nothing of the kind.
    Observed,
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
    /// Commands in flight, the newest first; `parked` asks only for those that wait for their
    /// target.
    Commands {
        /// Only those that wait for their target.
        parked: bool,
        /// How many, at most `PAGE_MAX`.
        limit: usize,
    },
    /// One command, by its number (the entry that accepted it) or its correlationId, in flight or
    /// ended.
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
    /// Whether a sender may say that, and what it would be.
    May(Intent),
    /// The whole queue graph: nodes and edges.
    Graph,
    /// The same as Graphviz reads it.
    Dot,
}

/// What somebody means to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Who says it.
    pub origin: String,
    /// The AMQP user that it is sent as; without one the origin has no proof.
    pub user: Option<String>,
    /// The signal type.
    pub kind_type: String,
    /// Whom it is for.
    pub scope: Scope,
    /// What of its data the gates of permission read: a JSON object.
    pub data: Value,
}

/// A question, and where its answer goes.
pub(super) struct PendingQuestion {
    pub question: Question,
    /// Answered with nothing when what was asked for is not known.
    pub tell: oneshot::Sender<Option<Page>>,
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
