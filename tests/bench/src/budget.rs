//! What the balancer may cost (`tests/budget.toml`). Whoever makes it cost more edits that file, and says why.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The least and the most of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Span(pub u32, pub u32);

impl Span {
    /// Whether `count` is neither less nor more.
    pub fn holds(self, count: u32) -> bool {
        (self.0..=self.1).contains(&count)
    }
}

/// The budget file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Instructions that the verifier walks through, by program and by the kernel's series (`6.12`).
    pub verified_instructions: BTreeMap<String, BTreeMap<String, Span>>,
    /// What a measured ratio may exceed its budget by, as a part of it: machines are noisy.
    pub slack: f64,
    /// A case's median against the floor's.
    pub ratio: BTreeMap<String, f64>,
}

impl Budget {
    /// The file as it was when this was compiled.
    ///
    /// # Errors
    /// When it is not valid; the message names the line.
    pub fn load() -> Result<Self> {
        toml::from_str(include_str!("../../budget.toml")).context("tests/budget.toml")
    }

    /// What the verifier of the kernel `release` (`6.12.118+deb13-amd64`) may walk through of a program; of a kernel that was
    /// not tried, what any of those that were may.
    pub fn verified(&self, program: &str, release: &str) -> Option<Span> {
        let spans = self.verified_instructions.get(program)?;
        let series: Vec<&str> = release.split(|c: char| !c.is_ascii_digit()).take(2).collect();
        let any = || {
            Some(Span(
                spans.values().map(|span| span.0).min()?,
                spans.values().map(|span| span.1).max()?,
            ))
        };
        spans.get(&series.join(".")).copied().or_else(any)
    }

    /// What is wrong with that ratio of that case: above the budget, or no budget at all.
    pub(super) fn complaint(&self, case: &str, ratio: f64) -> Option<String> {
        let Some(budget) = self.ratio.get(case) else {
            return Some(format!("{case} has no budget: add one to tests/budget.toml"));
        };
        let most = budget * (1.0 + self.slack);
        (ratio > most).then(|| {
            format!("{case} takes {ratio:.2} times the floor, more than {budget} (and slack: {most:.2})")
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        Options,
        case::{self, Program},
    };

    #[test]
    fn every_case_of_the_balancer_has_a_budget_and_no_budget_lacks_its_case() {
        let cases = case::all(&Options::parse_from(["lb-bench"])).unwrap();
        let of_balancer = cases
            .iter()
            .filter(|case| matches!(case.program, Program::Balancer(_)));
        let mut names: Vec<&str> = of_balancer.map(|case| case.name).collect();
        names.sort_unstable();
        let budget = Budget::load().unwrap();
        assert_eq!(names, budget.ratio.keys().collect::<Vec<_>>());
    }

    #[test]
    fn verified_instructions_are_those_of_the_series_or_of_any() {
        let spans = [("6.1", Span(10, 20)), ("6.12", Span(5, 12))];
        let spans = spans.map(|(series, span)| (series.to_owned(), span));
        let budget = Budget {
            verified_instructions: BTreeMap::from([("lb".to_owned(), BTreeMap::from(spans))]),
            slack: 0.1,
            ratio: BTreeMap::new(),
        };
        assert_eq!(budget.verified("lb", "6.1.0-57-amd64"), Some(Span(10, 20)));
        assert_eq!(budget.verified("lb", "6.12"), Some(Span(5, 12)));
        assert_eq!(budget.verified("lb", "7.3-rc7"), Some(Span(5, 20)));
        assert_eq!(budget.verified("other", "6.1"), None);
        assert!(Span(5, 20).holds(20) && !Span(5, 20).holds(4) && !Span(5, 20).holds(21));
    }

    #[test]
    fn a_ratio_above_budget_and_slack_is_complained_about() {
        let budget = Budget {
            verified_instructions: BTreeMap::new(),
            slack: 0.1,
            ratio: BTreeMap::from([("one".to_owned(), 2.0)]),
        };
        assert_eq!(budget.complaint("one", 2.19), None);
        assert!(budget.complaint("one", 2.21).is_some());
        assert!(budget.complaint("two", 1.0).is_some());
    }
}
