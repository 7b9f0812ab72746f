//! What a readiness gate says, by everything that was reported of it.
//!
//! Owns: the memory of one gate, for everything and for one swarm: what was said last and until
//! when, and what has failed.
//! Never: names anything of the crate.
//! Holds: what has failed stays failed until its reporter, or a confirmed act, clears it; no later
//! report shortens it; and when its time is over it is unknown, never a pass.

use crate::oracle::Gate;

/// A report that counts until its moment, in milliseconds of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Report {
    pub gate: Gate,
    pub until: u64,
}

/// What was said of a gate in one place: for everything, or for a swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The last report.
    said: Option<Report>,
    /// Since it failed and was not cleared: until when it says so, and who alone has said it.
    failed: Option<(u64, Option<Reporter>)>,
}

/// Who reports, by any number of his own.
pub type Reporter = usize;

impl History {
    /// Takes a report of somebody who may give it, confirmed where that is loosening.
    pub fn take(&mut self, report: Report, by: Reporter, now: u64) {
        self.failed = match (report.gate, self.failed) {
            (Gate::Pass | Gate::Warn, _) => None,
            (Gate::Fail, None) => Some((report.until, Some(by))),
            // No later report shortens a FAIL: another FAIL may only make it last longer.
            (Gate::Fail, Some((until, who))) => Some((until.max(report.until), who.filter(|who| *who == by))),
            // Whose FAIL it was may say that he knows nothing any more. It stays failed.
            (Gate::Unknown, Some((until, Some(who)))) if who == by => Some((until.min(now), Some(who))),
            (Gate::Unknown, failed) => failed,
        };
        self.said = Some(report);
    }

    /// What it says at a moment; `None` where nothing was reported. What has expired is unknown,
    /// never a pass.
    fn says(self, now: u64) -> Option<Gate> {
        let counts = |until, gate| if now < until { gate } else { Gate::Unknown };
        match self.failed {
            Some((until, _)) => Some(counts(until, Gate::Fail)),
            None => self.said.map(|said| counts(said.until, said.gate)),
        }
    }

    pub fn has_failed(self) -> bool {
        self.failed.is_some()
    }

    /// All that rules ask of it at that moment and later.
    pub fn at_rest(self, now: u64) -> (Option<Gate>, Option<Option<Reporter>>) {
        (self.says(now), self.failed.map(|(_, who)| who))
    }
}

/// Whether a report would clear what has failed in a scope. By anybody but the gate's own reporter
/// that is loosening, also where it fails elsewhere in the scope: it says that something better is
/// the case.
pub fn is_cleared(histories: &[History], gate: Gate) -> bool {
    matches!(gate, Gate::Pass | Gate::Warn) && histories.iter().any(|history| history.has_failed())
}

/// What is said of a gate to a swarm, of everything and of itself: any FAIL in scope refuses, and
/// UNKNOWN is not healthy. Besides it whether an UNKNOWN refuses.
pub fn says(histories: &[History], required: bool, now: u64) -> (Gate, bool) {
    let said = |gate| histories.iter().any(|history| history.says(now) == Some(gate));
    let gate = [Gate::Fail, Gate::Unknown, Gate::Warn, Gate::Pass].into_iter().find(|gate| said(*gate));
    let failed = histories.iter().any(|history| history.has_failed());
    // A required result that is missing is UNKNOWN.
    (gate.unwrap_or(Gate::Unknown), required || failed)
}
