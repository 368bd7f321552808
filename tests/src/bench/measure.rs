//! The rounds: every program runs once in each, so that a machine's moods meet all of them.
//!
//! What must hold: time is the thread's CPU time. The kernel's own figure is in whole nanoseconds, and the clock on the
//! wall goes on while the thread sleeps in the system call or others have the CPU.

use std::time::Duration;

use anyhow::Result;

use super::{
    Options,
    cpu::thread_time,
    subject::{Candidate, Subject},
};

/// How often the cost of a system call is taken.
const CALLS: usize = 15;

/// What is done in one bench.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounds {
    pub(super) rounds: u32,
    pub(super) repeat: u32,
}

impl Rounds {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            rounds: options.rounds,
            repeat: options.repeat(),
        }
    }

    /// Measures all subjects. One that fails is left out from then on.
    pub(super) fn run(&self, subjects: &mut [Subject<'_>]) -> Result<()> {
        // The first round fills caches and tables, and is not counted.
        for candidate in candidates(subjects) {
            candidate.measure(self.repeat / 4, Duration::ZERO)?;
            candidate.samples.clear();
        }
        let call = cost_of_call(subjects)?;
        for _ in 0..self.rounds {
            for candidate in candidates(subjects) {
                candidate.measure(self.repeat, call)?;
            }
        }
        Ok(())
    }
}

fn candidates<'s, 'a: 's>(subjects: &'s mut [Subject<'a>]) -> impl Iterator<Item = &'s mut Candidate> {
    subjects
        .iter_mut()
        .flat_map(Subject::candidates)
        .filter(|candidate| candidate.fault.is_none())
}

/// The median of what a run costs apart from its frames.
fn cost_of_call(subjects: &mut [Subject<'_>]) -> Result<Duration> {
    let mut costs = Vec::with_capacity(CALLS);
    for candidate in candidates(subjects).take(1) {
        for _ in 0..CALLS {
            let start = thread_time()?;
            candidate.wrapper.run(1)?;
            costs.push(thread_time()? - start);
        }
    }
    costs.sort_unstable();
    Ok(costs.get(costs.len() / 2).copied().unwrap_or_default())
}

impl Candidate {
    /// Runs `repeat` frames and adds a sample, or else a fault.
    fn measure(&mut self, repeat: u32, call: Duration) -> Result<()> {
        let before = self.before()?;
        let start = thread_time()?;
        let returned = self.wrapper.run(repeat)?;
        let spent = (thread_time()? - start).saturating_sub(call);
        self.fault = self.fault_since(&before, repeat, returned.action, &returned.frame)?;
        if self.fault.is_none() {
            self.samples.push(spent.as_secs_f64() * 1e9 / f64::from(repeat));
        }
        Ok(())
    }
}
