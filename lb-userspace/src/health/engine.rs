//! The set of checks that run, and its changes.
//!
//! Invariant: after [`Engine::set_targets`] exactly the given targets are checked; those that were checked before
//! never notice.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use nix::sys::resource::{Resource, getrlimit};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::asker::Asker;
use super::health_check::{CheckStateCell, HealthCheck, Shared};
use super::turns::{Lateness, Turns};
use super::{Belief, Beliefs, ProbeSources, Status, Verdict};
use crate::supervise::{Supervisor, Vitals};
use lb_check::ProbeTarget;

/// Most checks under way at once. More wait for their turn, without harm to their results.
const MAX_IN_FLIGHT: usize = 16_384;
/// Most verdicts that wait for the receiver.
const MAX_VERDICTS: usize = 1024;

/// Runs checks on the tokio runtime it was spawned on; dropping it stops them all.
#[derive(Debug)]
pub struct Engine {
    runtime: runtime::Handle,
    shared: Arc<Shared>,
    running: Mutex<Running>,
    vitals: Vitals,
}

#[derive(Debug, Default)]
struct Running {
    checks: HashMap<ProbeTarget, RunningCheck>,
    /// By host: what its checks use to hasten each other.
    alarms: HashMap<IpAddr, watch::Sender<()>>,
}

/// A health check's task, aborted when dropped.
#[derive(Debug)]
struct RunningCheck {
    task: JoinHandle<()>,
    status: CheckStateCell,
}

impl Drop for RunningCheck {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Engine {
    /// An engine without targets, and its verdicts. Must be called within a tokio runtime.
    ///
    /// The first result of a target makes a verdict, and so does every change of state. None is lost: while 1,024
    /// verdicts wait to be received, checks with a further one wait too, and start no new checks. Verdicts of
    /// targets that were removed meanwhile may still arrive and are to be ignored. When the receiver is dropped,
    /// checks end with their next verdict.
    pub fn spawn() -> (Self, mpsc::Receiver<Verdict>) {
        Self::spawn_in(None, Vitals::default())
    }

    /// An engine whose backends are reached in that VRF, and its verdicts; [`Engine::spawn`] asks by the host's own
    /// routes. Health checks that fail by themselves are told in `vitals`.
    pub fn spawn_in(vrf: Option<String>, vitals: Vitals) -> (Self, mpsc::Receiver<Verdict>) {
        let max_in_flight = max_in_flight();
        let asker = Asker::new(vrf, max_in_flight / 2);
        let (engine, verdicts) = Self::spawn_as(asker, max_in_flight, MAX_VERDICTS);
        (Self { vitals, ..engine }, verdicts)
    }

    #[cfg(test)]
    pub(super) fn spawn_with(max_in_flight: usize, max_verdicts: usize) -> (Self, mpsc::Receiver<Verdict>) {
        Self::spawn_as(Asker::default(), max_in_flight, max_verdicts)
    }

    #[cfg(test)]
    pub(super) fn let_probes_panic(&self, times: u32) {
        let asker = self.shared.asker.lock().unwrap_or_else(PoisonError::into_inner);
        asker.panics.store(times, std::sync::atomic::Ordering::Relaxed);
    }

    fn spawn_as(asker: Asker, max_in_flight: usize, max_verdicts: usize) -> (Self, mpsc::Receiver<Verdict>) {
        let (verdicts, receiver) = mpsc::channel(max_verdicts);
        let turns = Turns::new(max_in_flight);
        let shared = Arc::new(Shared {
            asker: Mutex::new(Arc::new(asker)),
            turns,
            verdicts,
        });
        let engine = Self {
            runtime: runtime::Handle::current(),
            shared,
            running: Mutex::default(),
            vitals: Vitals::default(),
        };
        (engine, receiver)
    }

    /// Makes these the addresses that checks may come from, from the next one on.
    pub fn set_sources(&self, sources: ProbeSources) {
        self.shared.asker().set_sources(sources);
    }

    /// Makes `targets` the set that is checked. Targets that stay keep their state and their timing, new ones are
    /// first checked within 100 ms, removed ones are forgotten.
    ///
    /// Of targets in `beliefs` that nothing is known of yet, that is believed: it takes a run of results to change it,
    /// and there is no verdict that confirms it.
    pub fn set_targets(&self, targets: HashSet<ProbeTarget>, beliefs: &Beliefs) {
        let now = SystemTime::now();
        let mut running = self.lock();
        let Running { checks, alarms } = &mut *running;
        let mut believed: HashMap<&ProbeTarget, CheckStateCell> = beliefs
            .iter()
            .map(|(target, belief)| (target, first_status(target, belief, checks, now)))
            .collect();
        checks.retain(|target, _| targets.contains(target));
        let hosts: HashSet<IpAddr> = targets.iter().map(|target| target.address().ip()).collect();
        alarms.retain(|host, _| hosts.contains(host));
        for target in targets {
            let status = believed.remove(&target);
            match checks.entry(target) {
                Entry::Occupied(place) => {
                    if let Some(Belief { state, .. }) = beliefs.get(place.key()) {
                        let timing = place.key().check().timing.clone();
                        place.get().status.believe(timing, *state, now);
                    }
                }
                Entry::Vacant(place) => {
                    let target = place.key().clone();
                    let alarm = alarms
                        .entry(target.address().ip())
                        .or_insert_with(|| watch::Sender::new(()));
                    let status =
                        status.unwrap_or_else(|| CheckStateCell::new(target.check().timing.clone(), now));
                    place.insert(self.start(target, status, alarm.clone()));
                }
            }
        }
    }

    /// Reaches backends in that VRF from the next checks on.
    pub fn set_vrf(&self, vrf: Option<String>) {
        let mut asker = self.shared.asker.lock().unwrap_or_else(PoisonError::into_inner);
        if !asker.is_in(vrf.as_deref()) {
            *asker = Arc::new(asker.moved_to(vrf));
        }
    }

    /// Whether checks had to wait for their turn of late, which delays their verdicts.
    pub fn lateness(&self) -> Option<Lateness> {
        self.shared.turns.lateness()
    }

    /// The status of one target; `None` if it is not checked.
    pub fn status(&self, target: &ProbeTarget) -> Option<Status> {
        self.lock().checks.get(target).map(|check| check.status.read())
    }

    /// The status of every target.
    pub fn snapshot(&self) -> HashMap<ProbeTarget, Status> {
        let running = self.lock();
        running
            .checks
            .iter()
            .map(|(target, check)| (target.clone(), check.status.read()))
            .collect()
    }

    fn start(&self, target: ProbeTarget, status: CheckStateCell, alarm: watch::Sender<()>) -> RunningCheck {
        let supervisor = Supervisor::of_one("a check of backends", &self.vitals);
        let check = HealthCheck::new(target, Arc::clone(&self.shared), status.clone(), alarm);
        RunningCheck {
            task: self.runtime.spawn(check.run_supervised(supervisor)),
            status,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first status of a health check that begins with a belief.
fn first_status(
    target: &ProbeTarget,
    belief: &Belief,
    checks: &HashMap<ProbeTarget, RunningCheck>,
    now: SystemTime,
) -> CheckStateCell {
    let timing = target.check().timing.clone();
    let before = belief.after.as_ref().and_then(|after| checks.get(after));
    match before {
        Some(before) => before.status.retimed(timing, belief.state, now),
        None => CheckStateCell::believing(timing, belief.state, now),
    }
}

/// A check holds one file descriptor at most, and half as many are being closed: with these, half of what the process may
/// have is left to its other parts.
fn max_in_flight() -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(descriptors / 3)
        .unwrap_or(MAX_IN_FLIGHT)
        .clamp(1, MAX_IN_FLIGHT)
}
