//! From results to verdicts: consecutive counting of rise and fall, and when to ask next.
//!
//! Invariant: only *consecutive* results count. One success forgets every failure before it, and the other way round,
//! so a backend that flaps faster than its thresholds keeps its state. No I/O and no clock in here.

use std::fmt;
use std::time::{Duration, SystemTime};

use rand::Rng;

use lb_check::Timing;

/// Longest wait before the first check of a new target.
const FIRST_PHASE: Duration = Duration::from_millis(100);

/// What is believed of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nothing: the first result decides.
    Checking,
    /// It serves.
    Up,
    /// It does not.
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Checking => "checking",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// The judge of one target.
#[derive(Clone, Debug)]
pub struct Judge {
    timing: Timing,
    state: Health,
    since: SystemTime,
    /// Consecutive results against the state.
    against: u8,
    results: u64,
}

impl Judge {
    /// A judge without a verdict, as of `now`.
    pub fn new(timing: Timing, now: SystemTime) -> Self {
        Self {
            timing,
            state: Health::Checking,
            since: now,
            against: 0,
            results: 0,
        }
    }

    /// A judge that believes `state` from the start, as of `now`: it takes a run of results to change that.
    pub fn believing(timing: Timing, state: Health, now: SystemTime) -> Self {
        Self {
            state,
            ..Self::new(timing, now)
        }
    }

    /// A copy of the judge by another timing: results in a row count on, and its first check is due soon.
    pub fn retimed(&self, timing: Timing) -> Self {
        Self {
            timing,
            results: 0,
            ..self.clone()
        }
    }

    /// Takes one result; the new state if it makes a verdict.
    pub fn observe(&mut self, success: bool, now: SystemTime) -> Option<Health> {
        self.results += 1;
        let (verdict, needed) = if success {
            (Health::Up, self.timing.rise)
        } else {
            (Health::Down, self.timing.fall)
        };
        if verdict == self.state {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.state != Health::Checking && self.against < needed {
            return None;
        }
        (self.state, self.since, self.against) = (verdict, now, 0);
        Some(verdict)
    }

    /// What is believed.
    pub fn state(&self) -> Health {
        self.state
    }

    /// When the state began.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Results taken so far.
    pub fn results(&self) -> u64 {
        self.results
    }

    /// Whether the target is up beyond doubt: its last result was a success.
    pub fn is_steady_up(&self) -> bool {
        self.state == Health::Up && self.against == 0
    }

    /// How long from the start of the last check to the start of the next (or from now to the first); see [`Timing`].
    pub fn next_delay(&self, rng: &mut impl Rng) -> Duration {
        let Timing { interval, .. } = self.timing;
        match self.results {
            0 => rng.random_range(Duration::ZERO..=interval.min(FIRST_PHASE)),
            1 if self.against == 0 => rng.random_range(self.timing.fast_interval()..=interval),
            _ if self.against > 0 => self.timing.fast_interval().mul_f64(rng.random_range(0.9..=1.1)),
            _ => interval.mul_f64(rng.random_range(0.9..=1.1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn timing(rise: u8, fall: u8) -> Timing {
        Timing {
            rise,
            fall,
            ..Timing::default()
        }
    }

    /// The `i`-th moment.
    fn at(i: usize) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(i as u64)
    }

    /// A judge at moment 0 that has seen one result of that kind.
    fn decided(rise: u8, fall: u8, success: bool) -> Judge {
        let mut judge = Judge::new(timing(rise, fall), at(0));
        judge.observe(success, at(0));
        judge
    }

    #[test]
    fn the_first_result_decides_at_once() {
        for (success, state) in [(true, Health::Up), (false, Health::Down)] {
            let mut judge = Judge::new(timing(9, 9), at(0));
            assert_eq!(judge.observe(success, at(7)), Some(state));
            assert_eq!((judge.state(), judge.since(), judge.results()), (state, at(7), 1));
        }
    }

    #[test]
    fn one_success_forgets_the_failures_before_it() {
        let mut judge = decided(2, 3, true);
        let results = [false, false, true, false, false, true, false, false, false];
        let verdicts: Vec<_> = results
            .iter()
            .enumerate()
            .map(|(i, &r)| judge.observe(r, at(i)))
            .collect();
        assert_eq!(verdicts[..8], [None; 8]);
        assert_eq!(verdicts[8], Some(Health::Down));
        assert_eq!(judge.since(), at(8));
    }

    #[test]
    fn what_is_believed_from_the_start_takes_a_run_to_change() {
        for (state, success) in [(Health::Up, false), (Health::Down, true)] {
            let mut judge = Judge::believing(timing(2, 2), state, at(0));
            assert_eq!(judge.observe(success, at(1)), None);
            assert_eq!((judge.state(), judge.since()), (state, at(0)));
            let doubtful = judge.next_delay(&mut SmallRng::seed_from_u64(1));
            assert!(
                doubtful <= timing(2, 2).fast_interval().mul_f64(1.1),
                "{doubtful:?}"
            );
            assert!(judge.observe(success, at(2)).is_some());
        }
    }

    #[test]
    fn another_timing_forgets_no_results() {
        let mut judge = decided(2, 5, true);
        judge.observe(false, at(1));
        let mut judge = judge.retimed(timing(2, 3));
        assert!(judge.next_delay(&mut SmallRng::seed_from_u64(1)) <= FIRST_PHASE);
        assert_eq!(judge.observe(false, at(2)), None);
        assert_eq!(judge.observe(false, at(3)), Some(Health::Down));
        // One result more than the new timing asks for is enough at once.
        let mut judge = decided(2, 9, true);
        (0..4).for_each(|i| assert_eq!(judge.observe(false, at(i)), None));
        assert_eq!(
            judge.retimed(timing(2, 2)).observe(false, at(5)),
            Some(Health::Down)
        );
    }

    proptest! {
        #[test]
        fn a_verdict_needs_its_run_of_results_and_no_more(
            rise in 1u8..6, fall in 1u8..6, results in prop::collection::vec(any::<bool>(), 1..200),
        ) {
            let mut judge = Judge::new(timing(rise, fall), at(0));
            for (i, &result) in results.iter().enumerate() {
                let before = judge.state();
                let verdict = judge.observe(result, at(i));
                let run = results[..=i].iter().rev().take_while(|&&r| r == result).count();
                let needed = usize::from(if result { rise } else { fall });
                let wanted = if result { Health::Up } else { Health::Down };
                let due = before != wanted && (before == Health::Checking || run >= needed);
                prop_assert_eq!(verdict, due.then_some(wanted));
                prop_assert_eq!(judge.state(), if due { wanted } else { before });
                if due {
                    prop_assert_eq!(judge.since(), at(i));
                }
            }
            prop_assert_eq!(judge.results(), results.len() as u64);
        }

        #[test]
        fn flapping_below_the_thresholds_never_makes_a_verdict(
            rise in 2u8..6, fall in 2u8..6, first: bool, runs in prop::collection::vec(any::<u8>(), 1..100),
        ) {
            let mut judge = decided(rise, fall, first);
            let mut result = !first;
            for run in runs {
                let longest = if result { rise } else { fall } - 1;
                for _ in 0..1 + run % longest {
                    prop_assert_eq!(judge.observe(result, at(1)), None);
                }
                result = !result;
            }
            prop_assert_eq!(judge.since(), at(0));
        }

        /// Turning a success into a failure never brings the first `Down` later.
        #[test]
        fn more_failures_never_delay_the_fall(
            fall in 1u8..6, results in prop::collection::vec(any::<bool>(), 1..60), worse in any::<prop::sample::Index>(),
        ) {
            let first_down = |results: &[bool]| {
                let mut judge = decided(2, fall, true);
                results.iter().position(|&r| judge.observe(r, at(0)) == Some(Health::Down))
            };
            let mut worsened = results.clone();
            worsened[worse.index(results.len())] = false;
            let (before, after) = (first_down(&results), first_down(&worsened));
            prop_assert!(after.unwrap_or(usize::MAX) <= before.unwrap_or(usize::MAX));
        }

        #[test]
        fn delays_stay_within_ten_percent_of_the_interval_that_applies(
            interval in 10u64..3_600_000, results in prop::collection::vec(any::<bool>(), 0..20), seed: u64,
        ) {
            let timing = Timing { interval: Duration::from_millis(interval), ..Timing::default() };
            let mut judge = Judge::new(timing.clone(), at(0));
            results.iter().for_each(|&r| { judge.observe(r, at(0)); });
            let delay = judge.next_delay(&mut SmallRng::seed_from_u64(seed));
            let in_doubt = results.last().is_some_and(|&r| (judge.state() == Health::Up) != r);
            let base = if in_doubt { timing.fast_interval() } else { timing.interval };
            match results.len() {
                0 => prop_assert!(delay <= FIRST_PHASE.min(timing.interval)),
                1 => prop_assert!(delay >= timing.fast_interval() && delay <= timing.interval),
                _ => prop_assert!(delay >= base.mul_f64(0.9) && delay <= base.mul_f64(1.1), "{delay:?} of {base:?}"),
            }
        }
    }
}
