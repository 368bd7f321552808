//! `--wait`: drains are watched until all of them are over.
//!
//! Invariant: watching changes nothing. Whatever ends it, the drains go on in the agent.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::output::{Failure, Output};
use lb_api::{
    client::{Client, ClientError},
    view::{DrainEnd, DrainView, DrainsView},
};
use lb_core::desired::{BackendId, Selection, ServiceName, Zone};

/// How often the agent is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long an agent that does not answer may take to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Exit code when a deadline ended a drain.
const DEADLINE: u8 = 5;
/// Exit code when somebody else ended it.
const CANCELLED: u8 = 1;
/// Exit code of what SIGINT ends.
const INTERRUPTED: u8 = 130;

/// The backends whose drains are waited for.
pub(super) enum Waited {
    /// One backend, by the name that its service has for it.
    One(ServiceName, BackendId),
    /// Several.
    Selection(Selection),
}

impl Waited {
    /// One backend, by whatever name it was asked for.
    pub(super) async fn one(
        client: &Client,
        service: ServiceName,
        backend: BackendId,
    ) -> Result<Self, ClientError> {
        // The agent leaves out a port that is the service's own.
        let own = client.service(&service).await?.port.exact();
        let port = backend.port.filter(|_| backend.port != own);
        Ok(Self::One(service, BackendId { port, ..backend }))
    }

    fn has(&self, service: &ServiceName, backend: BackendId, zone: Option<&Zone>) -> bool {
        match self {
            Self::One(its_service, id) => service == its_service && backend == *id,
            Self::Selection(selection) => selection.reaches(service) && selection.has(backend.address, zone),
        }
    }
}

type Name = (ServiceName, BackendId);

/// What is known of one drain that is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    UnderWay(DrainView),
    Over(DrainEnd, Option<u64>),
    /// It ended in no way that a drain ends by itself.
    Cancelled,
}

/// How the waiting ended, for programs.
#[derive(Serialize)]
struct Report<'a> {
    generation: u64,
    /// `drained`, `deadline` or `cancelled`.
    outcome: &'static str,
    backends: Vec<ReportLine<'a>>,
}

#[derive(Serialize)]
struct ReportLine<'a> {
    service: &'a ServiceName,
    backend: BackendId,
    /// Absent when somebody cancelled the drain.
    end: Option<DrainEnd>,
    flows: Option<u64>,
}

/// Waits until the drains are over that the change left behind which made the generation `begun`.
pub(super) async fn wait(
    client: &Client,
    begun: u64,
    waited: &Waited,
    json: bool,
) -> Result<Output, Failure> {
    let mut drains: BTreeMap<Name, State> = BTreeMap::new();
    let mut progress = Progress::new();
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let view = tokio::select! {
            view = read(client) => view?,
            _ = &mut interrupt => return Err(interrupted(&mut progress)),
        };
        observe(&mut drains, &view, begun, waited);
        if !drains.values().any(|state| matches!(state, State::UnderWay(_))) {
            progress.clear();
            return conclude(view.generation, &drains, json);
        }
        progress.show(&drains);
        tokio::select! {
            () = sleep(EVERY) => {}
            _ = &mut interrupt => return Err(interrupted(&mut progress)),
        }
    }
}

fn interrupted(progress: &mut Progress) -> Failure {
    progress.clear();
    Failure::Ended {
        code: INTERRUPTED,
        output: Output::nothing(),
        message: "no longer waiting; the drain goes on: `lb list` shows it, and `ready` undoes it".into(),
    }
}

/// The drains; an agent that is being started again is waited for.
async fn read(client: &Client) -> Result<DrainsView, ClientError> {
    let begin = Instant::now();
    loop {
        match client.drains().await {
            Err(ClientError::NoAgent(_)) if begin.elapsed() < PATIENCE => sleep(EVERY).await,
            answer => return answer,
        }
    }
}

/// Takes in what the agent says. Drains that are waited for are those that it knows of when it is asked first.
fn observe(drains: &mut BTreeMap<Name, State>, view: &DrainsView, begun: u64, waited: &Waited) {
    let states = states(view, begun);
    if drains.is_empty() {
        let waited = states.filter(|((service, backend), zone, _)| waited.has(service, *backend, *zone));
        *drains = waited.map(|(name, _, state)| (name, state)).collect();
        return;
    }
    let now: BTreeMap<Name, State> = states.map(|(name, _, state)| (name, state)).collect();
    for (name, state) in drains {
        if matches!(state, State::UnderWay(_)) {
            *state = now.get(name).copied().unwrap_or(State::Cancelled);
        }
    }
}

/// What is known of every drain that was not over before the generation `begun`; the last word on each comes last.
fn states(view: &DrainsView, begun: u64) -> impl Iterator<Item = (Name, Option<&Zone>, State)> {
    let ended = view.ended.iter().filter(move |ended| ended.generation > begun);
    let ended = ended.map(|one| {
        let name = (one.service.clone(), one.backend);
        (name, one.zone.as_ref(), State::Over(one.end, one.flows))
    });
    let under_way = view.drains.iter().map(|one| {
        let name = (one.service.clone(), one.backend);
        (name, one.zone.as_ref(), State::UnderWay(one.drain))
    });
    ended.chain(under_way)
}

fn conclude(generation: u64, drains: &BTreeMap<Name, State>, json: bool) -> Result<Output, Failure> {
    let ended_by = |wanted: fn(&State) -> bool| drains.values().filter(move |state| wanted(state)).count();
    let cut = ended_by(|state| matches!(state, State::Over(DrainEnd::Deadline, _)));
    let cancelled = ended_by(|state| *state == State::Cancelled);
    let outcome = match (cut, cancelled) {
        (0, 0) => "drained",
        (_, 0) => "deadline",
        _ => "cancelled",
    };
    let output = if json {
        Output::json_line(&report(generation, outcome, drains))?
    } else {
        Output::text(lines(drains))
    };
    match outcome {
        "drained" => Ok(output),
        "deadline" => Err(Failure::Ended {
            code: DEADLINE,
            output,
            message: format!(
                "the deadline ended the drain of {cut} of {} backends",
                drains.len()
            ),
        }),
        _ => Err(Failure::Ended {
            code: CANCELLED,
            output,
            message: format!(
                "{cancelled} of {} drains were given up by somebody else",
                drains.len()
            ),
        }),
    }
}

fn report<'a>(generation: u64, outcome: &'static str, drains: &'a BTreeMap<Name, State>) -> Report<'a> {
    let line = |((service, backend), state): (&'a Name, &State)| {
        let (end, flows) = match *state {
            State::Over(end, flows) => (Some(end), flows),
            State::UnderWay(_) | State::Cancelled => (None, None),
        };
        ReportLine {
            service,
            backend: *backend,
            end,
            flows,
        }
    };
    Report {
        generation,
        outcome,
        backends: drains.iter().map(line).collect(),
    }
}

fn lines(drains: &BTreeMap<Name, State>) -> String {
    if drains.is_empty() {
        return "nothing drains: all of them are in maintenance or leaving already".into();
    }
    let lines = drains.iter().map(|(name, state)| line(name, state));
    lines.collect::<Vec<_>>().join("\n")
}

fn line((service, backend): &Name, state: &State) -> String {
    match *state {
        State::UnderWay(drain) => format!("{service} {backend}: {}", standing(&drain)),
        State::Over(DrainEnd::Deadline, Some(flows)) => {
            format!(
                "{service} {backend} is out, {} were cut: {}",
                counted(flows),
                DrainEnd::Deadline
            )
        }
        State::Over(DrainEnd::Deadline, None) => {
            format!(
                "{service} {backend} is out, flows left or not: {}",
                DrainEnd::Deadline
            )
        }
        State::Over(end, _) => format!("{service} {backend} is drained: {end}"),
        State::Cancelled => {
            format!("{service} {backend} drains no longer: somebody made it ready or took it out")
        }
    }
}

/// Progress of a drain as text: `leaving, 12 flows left, silent for 3s, over in 1m 57s if it stays so, ends in 9m 57s`.
pub(super) fn standing(drain: &DrainView) -> String {
    let DrainView {
        leaving,
        flows,
        silent_seconds,
        over_in_seconds,
        ends_in_seconds,
    } = *drain;
    let leaving = if leaving { "leaving, " } else { "" };
    let flows = flows.map_or_else(String::new, |flows| format!("{} left, ", counted(flows)));
    format!(
        "{leaving}{flows}silent for {}, over in {} if it stays so, ends in {}",
        seconds(silent_seconds),
        seconds(over_in_seconds),
        seconds(ends_in_seconds)
    )
}

fn counted(flows: u64) -> String {
    match flows {
        1 => "1 flow".into(),
        flows => format!("{flows} flows"),
    }
}

/// Whole seconds; what is no time is none.
fn seconds(seconds: f64) -> humantime::FormattedDuration {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    humantime::format_duration(Duration::from_secs(duration.as_secs()))
}

/// What is shown on standard error meanwhile: on a terminal one line that is written again and again, else a line for
/// each change of what is left.
struct Progress {
    terminal: bool,
    shown: BTreeMap<Name, Option<u64>>,
}

impl Progress {
    fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            shown: BTreeMap::new(),
        }
    }

    fn show(&mut self, drains: &BTreeMap<Name, State>) {
        if self.terminal {
            return print(&format!("\r\x1b[K{}", summary(drains)));
        }
        for (name, state) in drains {
            let State::UnderWay(drain) = state else { continue };
            if self.shown.get(name) != Some(&drain.flows) {
                self.shown.insert(name.clone(), drain.flows);
                print(&format!("{}\n", line(name, state)));
            }
        }
    }

    fn clear(&mut self) {
        if self.terminal {
            print("\r\x1b[K");
        }
    }
}

/// All drains in a line.
fn summary(drains: &BTreeMap<Name, State>) -> String {
    let under_way = |(name, state)| match state {
        &State::UnderWay(drain) => Some((name, drain)),
        State::Over(..) | State::Cancelled => None,
    };
    let left: Vec<(&Name, DrainView)> = drains.iter().filter_map(under_way).collect();
    if let [(name, drain)] = left.as_slice() {
        return line(name, &State::UnderWay(*drain));
    }
    let flows: u64 = left.iter().filter_map(|(_, drain)| drain.flows).sum();
    let last = left
        .iter()
        .map(|(_, drain)| drain.ends_in_seconds)
        .fold(0.0, f64::max);
    format!(
        "{} of {} backends drain, {} left, the last ends in {}",
        left.len(),
        drains.len(),
        counted(flows),
        seconds(last)
    )
}

fn print(text: &str) {
    let mut stderr = io::stderr().lock();
    // Nowhere is left to complain when standard error is closed.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests;
