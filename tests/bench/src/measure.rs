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

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use lb_common::abi::Reason;

    use super::*;
    use crate::{
        case::{self, Case},
        wire::Wire,
    };

    /// The fault of the case `name`, after a change to what is expected of it.
    fn fault_of(name: &str, change: fn(&mut Case)) -> Option<String> {
        let wire = Wire::new().unwrap();
        let run = || {
            let all = case::all(&Options::parse_from(["lb-bench"])).unwrap();
            let mut case = all.into_iter().find(|case| case.name == name).unwrap();
            change(&mut case);
            let mut subject = Subject::load(&case, None, wire.interface).unwrap();
            subject.own.measure(100, Duration::ZERO).unwrap();
            subject.own.fault
        };
        wire.inside(run).unwrap()
    }

    #[test]
    fn a_case_that_does_what_is_expected_has_no_fault() {
        for name in ["floor", "tcp4-ipip", "nat-back", "echo", "pass"] {
            assert_eq!(fault_of(name, |_| ()), None, "{name}");
        }
    }

    #[test]
    fn a_case_whose_frames_are_not_rewritten_fails() {
        let fault = fault_of("empty", |case| case.expected.rewritten = true);
        assert_eq!(fault.as_deref(), Some("0 frames of 100 were rewritten, not 100"));
    }

    #[test]
    fn a_case_that_the_balancer_counts_otherwise_fails() {
        let fault = fault_of("tcp4-ipip", |case| case.expected.reason = Reason::Returned);
        assert_eq!(
            fault.as_deref(),
            Some("the balancer counted 0 frames of 100 as returned")
        );
    }

    #[test]
    fn a_case_with_another_action_fails() {
        let fault = fault_of("pass", |case| case.expected.action = case::XDP_TX);
        assert_eq!(fault.as_deref(), Some("the XDP action was 2, not 3"));
    }
}
