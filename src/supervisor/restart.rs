//! Whether and when a worker is started again.
//!
//! Owns: the count of starts within the window, and the pause before the next.
//! Never: waits, or reads a clock; whoever starts workers does.
//! Holds: within any window a worker is started again at most as often as the limit says.

use std::collections::VecDeque;

use super::SupervisorSettings;
use crate::bus::backoff::Backoff;

/// The restarts of one worker.
#[derive(Debug)]
pub struct Restarts {
    backoff: Backoff,
    count_max: usize,
    window_ms: u64,
    /// When it was started again within the window, oldest first.
    made_ms: VecDeque<u64>,
}

impl Restarts {
    /// None so far; workers with other seeds do not come back all at once.
    pub fn new(settings: &SupervisorSettings, seed: u64) -> Self {
        Self {
            backoff: Backoff::new(settings.restart_min_ms, settings.restart_max_ms, seed),
            count_max: usize::try_from(settings.restart_count_max).unwrap_or(usize::MAX),
            window_ms: settings.restart_window_ms,
            made_ms: VecDeque::new(),
        }
    }

    /// The pause before the worker that ended just now is started again; `None` when it has been
    /// too often.
    pub fn after_end(&mut self, now_ms: u64) -> Option<u64> {
        let begin = now_ms.saturating_sub(self.window_ms);
        while self.made_ms.front().is_some_and(|made| *made < begin) {
            self.made_ms.pop_front();
        }
        if self.made_ms.len() >= self.count_max {
            return None;
        }
        let attempt = u32::try_from(self.made_ms.len()).unwrap_or(u32::MAX);
        self.made_ms.push_back(now_ms);
        Some(self.backoff.pause_ms(attempt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restarts(restart_count_max: u32) -> Restarts {
        let settings = SupervisorSettings {
            restart_min_ms: 100,
            restart_max_ms: 400,
            restart_count_max,
            restart_window_ms: 1_000,
            ..SupervisorSettings::default()
        };
        Restarts::new(&settings, 7)
    }

    #[test]
    fn a_crash_loop_is_given_up_and_a_rare_end_is_not() {
        let mut quick = restarts(3);
        let pauses: Vec<Option<u64>> = (0..5).map(|now| quick.after_end(now)).collect();
        for (pause, whole) in pauses.iter().zip([100, 200, 400]) {
            assert!(pause.is_some_and(|pause| (whole / 2..=whole).contains(&pause)), "{pauses:?}");
        }
        assert_eq!(pauses[3..], [None, None]);
        let mut rare = restarts(3);
        for round in 0..50 {
            let pause = rare.after_end(round * 1_001);
            assert!(pause.is_some_and(|pause| pause <= 200), "round {round}: {pause:?}");
        }
        assert_eq!(restarts(0).after_end(0), None);
    }
}
