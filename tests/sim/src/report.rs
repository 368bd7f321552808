//! What is printed: a table with a line for each run, and JSON.
//!
//! What must hold: nothing is left out of the sums, and the share of the flow table is that of an ordinary day, with one
//! change a minute. Under a thousand changes on top of one another almost every slot is migrating almost always.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{run::Scenario, tally::Tally};

/// One run, done.
pub(super) struct Row {
    pub(super) scenario: Scenario,
    pub(super) tally: Tally,
    pub(super) took: Duration,
}

/// All runs in one line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Sums {
    pub(super) flows: u64,
    pub(super) changes: u64,
    pub(super) seed: u64,
    pub(super) breaks: u64,
    pub(super) peak_share: f64,
    pub(super) stateless_breaks: u64,
    pub(super) syn_rule_breaks: u64,
}

impl Sums {
    pub(super) fn of(rows: &[Row], seed: u64) -> Self {
        let sum = |count: fn(&Tally) -> u64| rows.iter().map(|row| count(&row.tally)).sum();
        let ordinary = rows.iter().filter(|row| row.scenario.name == Scenario::ORDINARY);
        let peak = ordinary.map(|row| row.tally.peak_share).fold(0.0, f64::max);
        Self {
            flows: sum(|tally| tally.flows),
            changes: sum(Tally::all_changes),
            seed,
            breaks: sum(|tally| tally.breaks),
            peak_share: (peak * 1e4).round() / 1e4,
            stateless_breaks: sum(|tally| tally.stateless_breaks),
            syn_rule_breaks: sum(|tally| tally.syn_rule_breaks),
        }
    }
}

/// The table.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<12} {:>5} {:>9} {:>10} {:>8} {:>8} {:>7} {:>9} {:>9} {:>7} {:>7} {:>8} {:>9} {:>6} {:>7} {:>6}\n",
        "run",
        "seed",
        "flows",
        "packets",
        "most",
        "changes",
        "breaks",
        "stateless",
        "syn rule",
        "mean",
        "peak",
        "cut",
        "silent",
        "strays",
        "refused",
        "s"
    );
    for Row {
        scenario,
        tally,
        took,
    } in rows
    {
        let silent = format!("{}/{}", tally.silent_breaks, tally.silent);
        let _ = writeln!(
            text,
            "{:<12} {:>5} {:>9} {:>10} {:>8} {:>8} {:>7} {:>9} {:>9} {:>6.2}% {:>6.2}% {:>8} {:>9} {:>6} {:>7} {:>6.1}",
            scenario.name,
            scenario.seed,
            tally.flows,
            tally.packets,
            tally.most_live,
            tally.all_changes(),
            tally.breaks,
            tally.stateless_breaks,
            tally.syn_rule_breaks,
            tally.mean_share() * 100.0,
            tally.peak_share * 100.0,
            tally.cut,
            silent,
            tally.strays,
            tally.refused,
            took.as_secs_f64(),
        );
    }
    for row in rows {
        let changes = row
            .tally
            .changes
            .iter()
            .map(|(kind, count)| format!("{kind:?} {count}"));
        let _ = writeln!(
            text,
            "changes of {} {}: {}",
            row.scenario.name,
            row.scenario.seed,
            Vec::from_iter(changes).join(", ")
        );
    }
    text.push_str(LEGEND);
    text
}

const LEGEND: &str = "\
most: flows alive at a time. breaks: flows of which a packet met another backend than their own, though that lived and\n\
they were never silent for longer than a window. stateless: the same by the slot tables alone; syn rule: SYNs to the\n\
current owner, all else to the previous one. mean, peak: entries in the flow table, of the flows alive. cut: flows\n\
backend_ref backend failed or was cut off. silent: broken of those that were silent for longer than a window. strays: new\n\
flows at backends that take none (of UDP once the window is over). refused: flows that found no room in the flow table. s: seconds that it took.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_json_has_exactly_these_keys() {
        let sums = serde_json::to_value(Sums::of(&[], 7)).unwrap();
        let keys: Vec<&String> = sums.as_object().unwrap().keys().collect();
        let expected = [
            "breaks",
            "changes",
            "flows",
            "peak_share",
            "seed",
            "stateless_breaks",
            "syn_rule_breaks",
        ];
        assert_eq!(keys, expected);
    }
}
