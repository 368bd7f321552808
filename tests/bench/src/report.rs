//! What was measured, for people and for programs.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Budget, agent,
    case::{FLOOR, Program},
    cpu::Machine,
    live,
    measure::Rounds,
    subject::{Candidate, Subject},
};

/// Least, middle and most of a case's samples, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

impl Spread {
    /// `None` of no samples.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + upper) / 2.0
        } else {
            upper
        };
        Some(Self {
            min: *sorted.first()?,
            median,
            max: *sorted.last()?,
        })
    }
}

/// The bench's result.
#[derive(Debug)]
pub(super) struct Report {
    machine: Machine,
    rounds: Rounds,
    rows: Vec<Row>,
    lanes: Vec<live::Row>,
    agent: Vec<agent::Row>,
}

/// One case's result.
#[derive(Debug)]
struct Row {
    name: &'static str,
    is_balancer: bool,
    own: Result<Spread, String>,
    /// The median against the floor's.
    ratio: Option<f64>,
    peer: Option<Peer>,
}

/// What the peer made of the same frames.
#[derive(Debug)]
struct Peer {
    result: Result<Spread, String>,
    /// The median over the rounds of own cost against the peer's in the same round.
    ratio: Option<f64>,
}

impl Report {
    /// Of cases that were measured.
    pub(super) fn of_cases(machine: Machine, rounds: Rounds, subjects: &[Subject<'_>]) -> Self {
        let floor = subjects.iter().find(|subject| subject.case.name == FLOOR);
        let floor = floor.and_then(|floor| Spread::of(&floor.own.samples));
        let rows = subjects.iter().map(|subject| Row::new(subject, floor)).collect();
        Self {
            rows,
            ..Self::empty(machine, rounds)
        }
    }

    /// Of live frames.
    pub(super) fn of_lanes(machine: Machine, rounds: Rounds, lanes: Vec<live::Row>) -> Self {
        Self {
            lanes,
            ..Self::empty(machine, rounds)
        }
    }

    /// Of the agent.
    pub(super) fn of_agent(machine: Machine, rounds: Rounds, agent: Vec<agent::Row>) -> Self {
        Self {
            agent,
            ..Self::empty(machine, rounds)
        }
    }

    fn empty(machine: Machine, rounds: Rounds) -> Self {
        Self {
            machine,
            rounds,
            rows: Vec::new(),
            lanes: Vec::new(),
            agent: Vec::new(),
        }
    }

    /// The cases of the balancer that cost more than they may.
    pub(super) fn complaints(&self, budget: &Budget) -> Vec<String> {
        let balancer = self.rows.iter().filter(|row| row.is_balancer);
        balancer
            .filter_map(|row| budget.complaint(row.name, row.ratio?))
            .collect()
    }

    /// Whether every case was measured.
    pub(super) fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.own.is_ok())
    }

    /// One object, in nanoseconds.
    pub(super) fn json(&self) -> Value {
        let Rounds { rounds, repeat } = self.rounds;
        json!({
            "machine": self.machine,
            "rounds": rounds,
            "repeat": repeat,
            "cases": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "live": self.lanes,
            "agent": self.agent,
        })
    }
}

impl Row {
    fn new(subject: &Subject<'_>, floor: Option<Spread>) -> Self {
        let own = spread(&subject.own);
        let ratio = own
            .as_ref()
            .ok()
            .zip(floor)
            .map(|(own, floor)| own.median / floor.median);
        let peer = subject.peer.as_ref().map(|peer| {
            let ratios: Vec<f64> = subject
                .own
                .samples
                .iter()
                .zip(&peer.samples)
                .map(|(own, peer)| own / peer)
                .collect();
            let result = spread(peer);
            Peer {
                ratio: result
                    .as_ref()
                    .ok()
                    .and(Spread::of(&ratios))
                    .map(|ratios| ratios.median),
                result,
            }
        });
        Self {
            name: subject.case.name,
            is_balancer: matches!(subject.case.program, Program::Balancer(_)),
            own,
            ratio,
            peer,
        }
    }

    fn json(&self) -> Value {
        let mut row = match &self.own {
            Ok(Spread { min, median, max }) => {
                json!({"name": self.name, "min": rounded(*min), "median": rounded(*median), "max": rounded(*max)})
            }
            Err(fault) => json!({"name": self.name, "error": fault}),
        };
        if let Some(ratio) = self.ratio {
            row["ratio"] = json!(rounded(ratio));
        }
        match &self.peer {
            Some(Peer { result: Ok(peer), .. }) => row["peer"] = json!(rounded(peer.median)),
            Some(Peer {
                result: Err(fault), ..
            }) => row["peer_error"] = json!(fault),
            None => {}
        }
        row
    }
}

fn spread(candidate: &Candidate) -> Result<Spread, String> {
    match &candidate.fault {
        Some(fault) => Err(fault.clone()),
        None => Spread::of(&candidate.samples).ok_or_else(|| "no round was run".to_owned()),
    }
}

/// To three places: the fourth is noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            cpu_model,
            cpus,
            cpu,
            governor,
            kernel,
        } = &self.machine;
        writeln!(
            f,
            "{cpu_model}, {cpus} CPUs, measured on CPU {cpu}, governor {governor}, Linux {kernel}"
        )?;
        if !self.rows.is_empty() {
            self.write_cases(f)?;
        }
        if !self.lanes.is_empty() {
            self.write_lanes(f)?;
        }
        if !self.agent.is_empty() {
            writeln!(f, "{:<48} {:>10} {:>10} {:>10}", "agent", "min", "median", "max")?;
        }
        self.agent.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl Report {
    fn write_cases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_peer = self.rows.iter().any(|row| row.peer.is_some());
        let peer = if has_peer { "     peer own/peer" } else { "" };
        let Rounds { rounds, repeat } = self.rounds;
        writeln!(
            f,
            "Nanoseconds of CPU time a frame, wrapper included; ratio to the floor's median"
        )?;
        writeln!(f, "{rounds} rounds of {repeat} frames a case\n")?;
        writeln!(
            f,
            "{:<20} {:>7} {:>7} {:>7} {:>7}{peer}",
            "case", "min", "median", "max", "/floor"
        )?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }

    fn write_lanes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Millions of live frames a second that arrived, one CPU for all\n"
        )?;
        writeln!(
            f,
            "{:<20} {:>7} {:>7} {:>7} {:>9}",
            "lane", "min", "median", "max", "arrived"
        )?;
        self.lanes.iter().try_for_each(|lane| writeln!(f, "{lane}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<20}", self.name)?;
        match &self.own {
            Ok(Spread { min, median, max }) => write!(f, " {min:>7.2} {median:>7.2} {max:>7.2}")?,
            Err(fault) => return write!(f, " FAILED: {fault}"),
        }
        match self.ratio {
            Some(ratio) => write!(f, " {ratio:>7.2}")?,
            None => write!(f, " {:>7}", "-")?,
        }
        match &self.peer {
            None => Ok(()),
            Some(Peer {
                result: Ok(peer),
                ratio,
            }) => {
                write!(f, " {:>8.2} {:>8.2}", peer.median, ratio.unwrap_or(f64::NAN))
            }
            Some(Peer {
                result: Err(fault), ..
            }) => write!(f, "  peer: {fault}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(
            Spread::of(&[3.0, 1.0, 2.0]),
            Some(Spread {
                min: 1.0,
                median: 2.0,
                max: 3.0
            })
        );
        assert_eq!(
            Spread::of(&[4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median),
            Some(2.5)
        );
    }
}
