//! How late stops are beside a fault, told from how late they are without it.
//!
//! Owns: the times of alternating runs without and with the fault, and the bound of their ratio.
//! Never: bounds a time by itself; machines differ.
//! Holds: the slowest stop of a run, by the median over the runs, is not twice as late beside the
//! fault.

use std::time::Duration;

/// What is the machine's, whatever the router does.
const NOISE: Duration = Duration::from_millis(20);

/// The times of both kinds of runs, without the fault first.
#[derive(Default)]
pub struct Alternating {
    slowest: [Vec<Duration>; 2],
    typical: [Vec<Duration>; 2],
}

impl Alternating {
    /// Keeps what one run's stops took.
    pub fn add(&mut self, beside_the_fault: bool, mut took: Vec<Duration>) {
        took.sort();
        let kind = usize::from(beside_the_fault);
        self.typical[kind].push(took[took.len() / 2]);
        self.slowest[kind].push(*took.last().expect("a stop"));
    }

    /// Prints the figures, and fails where stops are more than twice as late beside `fault`.
    pub fn hold(mut self, fault: &str) {
        let [free, held] = self.slowest.each_mut().map(|all| median(all));
        let [usual, usual_held] = self.typical.each_mut().map(|all| median(all));
        println!("slowest: {free:?} alone, {held:?} beside {fault}; typical: {usual:?}, {usual_held:?}");
        assert!(held < free * 2 + NOISE, "{free:?} alone, {held:?} beside {fault}");
    }
}

fn median(all: &mut [Duration]) -> Duration {
    all.sort();
    all[all.len() / 2]
}
