//! What leaves the state when its window is over.
//!
//! Owns: the order of leaving, and what may stay longer.
//! Never: lets anything leave by count.
//! Holds: all windows are equally long, so that the order of sighting is the order of leaving.

use serde::Serialize;

use crate::{
    contract::{routing::Scope, timestamp::Timestamp},
    decision::{
        session::Session,
        state::{Recorded, key::Short},
    },
};

#[derive(Clone, Debug, Serialize)]
pub(super) enum Leaving {
    Command(Short),
    Result(Short),
    Stop(Box<Scope>),
    Challenge(Box<str>),
    Session(Box<Scope>),
}

impl Recorded {
    /// Removes what has been remembered for longer than the window, in milliseconds.
    pub(super) fn forget(&mut self, at: i64, window_ms: u64) {
        self.suspended.forget(at);
        while let Some((first_seen, _)) = self.leaving.front()
            && has_left(*first_seen, at, window_ms)
        {
            match self.leaving.pop_front() {
                Some((_, Leaving::Command(key))) => match self.commands.get(&key) {
                    // It was tried again since.
                    Some(known) if !has_left(known.first_seen, at, window_ms) => {
                        // With the time of now, so that the queue stays in the order of its times.
                        self.leaving.push_back((self.last_at, Leaving::Command(key)));
                    }
                    _ => self.forget_command(key),
                },
                Some((_, Leaving::Result(identity))) => {
                    self.results.remove(&identity);
                }
                Some((_, Leaving::Stop(scope))) => {
                    match self.stops.get(&scope) {
                        // It was said again since, or counts as said later than it came.
                        Some(stop) if !has_left(*stop, at, window_ms) => {
                            self.leaving.push_back((self.last_at, Leaving::Stop(scope)));
                        }
                        _ => drop(self.stops.remove(&scope)),
                    }
                }
                Some((left, Leaving::Session(worker))) => {
                    // It may have been followed by another since.
                    let is_over = |session: &Session| !session.stands() && session.since <= left;
                    if self.sessions.get(&*worker).is_some_and(is_over) {
                        self.sessions.remove(&*worker);
                    }
                }
                Some((_, Leaving::Challenge(id))) => {
                    // A use of break-glass that nobody has looked at is not forgotten.
                    match self.closed.get(&*id) {
                        Some(closed) if closed.unreviewed => {
                            self.leaving.push_back((self.last_at, Leaving::Challenge(id)));
                        }
                        _ => drop(self.closed.remove(&*id)),
                    }
                }
                None => return,
            }
        }
    }
}

pub(super) fn has_left(first_seen: i64, at: i64, window_ms: u64) -> bool {
    Timestamp::from_micros(first_seen).plus_ms(window_ms).micros() < at
}
