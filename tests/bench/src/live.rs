//! Live frames: the whole way from the program under test over a veth pair, counted where they arrive.
//!
//! What must hold: only frames that arrived count. The kernel reports success for frames that nobody takes.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::{
    case::{Case, FLOOR},
    measure::Rounds,
    report::Spread,
    subject::{Candidate, Subject},
    wire::Wire,
};

/// One program over one number of flows.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Millions of frames a second.
    pub(super) mpps: Spread,
    /// What arrived of what was sent.
    pub(super) arrived: f64,
}

/// The cases whose frames are sent, and the names under which they and their peers are listed.
const LANES: [(&str, &str, &str); 5] = [
    ("empty", "bounce", ""),
    (FLOOR, FLOOR, ""),
    ("floor-1m", "floor-1m", ""),
    ("tcp4-ipip", "tcp4-ipip", "peer"),
    ("tcp4-ipip-1m", "tcp4-ipip-1m", "peer-1m"),
];

/// Sends frames of those of `cases` that are meant for it.
pub(super) fn run(cases: &[Case], peer: Option<&Path>, rounds: &Rounds, wire: &Wire) -> Result<Vec<Row>> {
    let mut lanes = Vec::new();
    for (case, name, peer_name) in LANES {
        let case = cases
            .iter()
            .find(|known| known.name == case)
            .context("a lane has no case")?;
        let Subject { own, peer, .. } = Subject::load(case, peer, wire.interface)?;
        lanes.push(Lane::new(name, own));
        lanes.extend(peer.map(|peer| Lane::new(peer_name, peer)));
    }
    for lane in &mut lanes {
        lane.send(rounds.repeat / 4, wire)?;
        lane.forget();
    }
    for _ in 0..rounds.rounds {
        for lane in &mut lanes {
            lane.send(rounds.repeat, wire)?;
        }
    }
    lanes.iter().map(Lane::row).collect()
}

/// A program, and how fast its frames arrived.
struct Lane {
    name: &'static str,
    candidate: Candidate,
    mpps: Vec<f64>,
    sent: u64,
    arrived: u64,
}

impl Lane {
    fn new(name: &'static str, candidate: Candidate) -> Self {
        Self {
            name,
            candidate,
            mpps: Vec::new(),
            sent: 0,
            arrived: 0,
        }
    }

    fn send(&mut self, frames: u32, wire: &Wire) -> Result<()> {
        // Setting up and tearing down takes milliseconds.
        let idle = self.timed(1)?;
        let before = wire.received()?;
        let spent = self.timed(frames)?.saturating_sub(idle);
        let arrived = wire.received()? - before;
        self.sent += u64::from(frames);
        self.arrived += arrived;
        self.mpps.push(arrived as f64 / spent.as_secs_f64() / 1e6);
        Ok(())
    }

    fn timed(&self, frames: u32) -> Result<Duration> {
        let start = Instant::now();
        self.candidate.wrapper.run_live(frames)?;
        Ok(start.elapsed())
    }

    fn forget(&mut self) {
        self.mpps.clear();
        (self.sent, self.arrived) = (0, 0);
    }

    fn row(&self) -> Result<Row> {
        let Self {
            name,
            sent,
            arrived,
            mpps,
            ..
        } = self;
        ensure!(*arrived > 0, "{name}: none of {sent} live frames arrived");
        Ok(Row {
            name,
            mpps: Spread::of(mpps).context("no round was run")?,
            arrived: *arrived as f64 / *sent as f64,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            mpps: Spread { min, median, max },
            arrived,
        } = self;
        let arrived = arrived * 100.0;
        write!(
            f,
            "{name:<20} {min:>7.2} {median:>7.2} {max:>7.2} {arrived:>8.2}%"
        )
    }
}
