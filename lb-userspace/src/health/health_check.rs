//! The life of one health check: wait, check, judge, report; until its task is aborted.
//!
//! Invariant: checks of one target never overlap, and never start closer together than its fast interval (less its
//! jitter), whoever asks for haste.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::asker::Asker;
use super::turns::Turns;
use super::{FailureReport, Health, Judge, Status, Verdict};
use crate::supervise::{Supervisor, guarded};
use lb_check::{Miss, ProbeTarget, Timing};

/// How many checks in a row may prove nothing before the last of them counts as a failure after all.
const MAX_INCONCLUSIVE: u8 = 3;

/// What all health checks of an engine share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) asker: Mutex<Arc<Asker>>,
    /// One for each check under way.
    pub(super) turns: Turns,
    pub(super) verdicts: mpsc::Sender<Verdict>,
}

impl Shared {
    pub(super) fn asker(&self) -> Arc<Asker> {
        Arc::clone(&self.asker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The status of a health check: the check writes it, snapshots read it, and a check that replaces this one begins with it.
#[derive(Clone, Debug)]
pub(super) struct CheckStateCell(Arc<Mutex<CheckState>>);

#[derive(Clone, Debug)]
struct CheckState {
    judge: Judge,
    last_failure: Option<FailureReport>,
    latency: Option<Duration>,
}

impl CheckStateCell {
    /// Nothing is believed.
    pub(super) fn new(timing: Timing, now: SystemTime) -> Self {
        Self::of(Judge::new(timing, now))
    }

    /// `state` is believed.
    pub(super) fn believing(timing: Timing, state: Health, now: SystemTime) -> Self {
        Self::of(Judge::believing(timing, state, now))
    }

    fn of(judge: Judge) -> Self {
        Self(Arc::new(Mutex::new(CheckState {
            judge,
            last_failure: None,
            latency: None,
        })))
    }

    /// What the next health check begins with, which asks the same by another timing. Where `state` is believed, and not
    /// what this one says, its results do not count.
    pub(super) fn retimed(&self, timing: Timing, state: Health, now: SystemTime) -> Self {
        let standing = self.lock().clone();
        let judge = if standing.judge.state() == state {
            standing.judge.retimed(timing)
        } else {
            Judge::believing(timing, state, now)
        };
        Self(Arc::new(Mutex::new(CheckState { judge, ..standing })))
    }

    /// Has it believe `state`, unless it knows better.
    pub(super) fn believe(&self, timing: Timing, state: Health, now: SystemTime) {
        let judge = &mut self.lock().judge;
        if judge.state() == Health::Checking {
            *judge = Judge::believing(timing, state, now);
        }
    }

    pub(super) fn read(&self) -> Status {
        let CheckState {
            judge,
            last_failure,
            latency,
        } = self.lock().clone();
        Status {
            state: judge.state(),
            since: judge.since(),
            last_failure,
            latency,
            checks: judge.results(),
        }
    }

    fn next_delay(&self) -> Duration {
        self.lock().judge.next_delay(&mut rand::rng())
    }

    fn is_steady_up(&self) -> bool {
        self.lock().judge.is_steady_up()
    }

    fn is_down(&self) -> bool {
        self.lock().judge.state() == Health::Down
    }

    /// Takes one result; the new state if it makes a verdict.
    fn observe(&self, reason: Option<&str>, took: Duration, at: SystemTime) -> Option<Health> {
        let mut standing = self.lock();
        if let Some(reason) = reason {
            standing.last_failure = Some(FailureReport {
                reason: reason.to_owned(),
                at,
            });
        } else {
            standing.latency = Some(took);
        }
        standing.judge.observe(reason.is_none(), at)
    }

    fn lock(&self) -> MutexGuard<'_, CheckState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One health check.
#[derive(Debug)]
pub(super) struct HealthCheck {
    target: ProbeTarget,
    shared: Arc<Shared>,
    status: CheckStateCell,
    /// Rings when a health check of the same host begins to doubt it.
    alarm: watch::Sender<()>,
    alarmed: watch::Receiver<()>,
    inconclusive: u8,
}

/// The verdicts are no longer wanted.
struct Unwanted;

impl HealthCheck {
    /// A health check of `target`; `alarm` is shared by all health checks of its host.
    pub(super) fn new(
        target: ProbeTarget,
        shared: Arc<Shared>,
        status: CheckStateCell,
        alarm: watch::Sender<()>,
    ) -> Self {
        let alarmed = alarm.subscribe();
        Self {
            target,
            shared,
            status,
            alarm,
            alarmed,
            inconclusive: 0,
        }
    }

    /// Checks until the verdicts are no longer wanted, also if it stumbles.
    pub(super) async fn run_supervised(mut self, mut supervisor: Supervisor) {
        let address = self.target.address();
        let run = async |check: &mut Self| -> Result<(), Infallible> {
            check.run().await;
            Ok(())
        };
        while let Err(why) = guarded(run(&mut self)).await {
            supervisor.again_after(&format!("that of {address}: {why}")).await;
        }
    }

    /// Checks until the verdicts are no longer wanted.
    pub(super) async fn run(&mut self) {
        let mut from = Instant::now();
        loop {
            let due = from + self.status.next_delay();
            let hastened = self.wait(from, due).await;
            let Ok(turn) = self.shared.turns.wait(self.status.is_down()).await else {
                return;
            };
            // From here on the clock of the check runs, not while it waited for its turn.
            from = Instant::now();
            let result = self.shared.asker().ask(&self.target).await;
            let latency = from.elapsed();
            drop(turn);
            let Some(result) = self.conclude(result) else {
                continue;
            };
            if self.digest(result, latency, hastened).await.is_err() {
                return;
            }
        }
    }

    /// Waits until `due`, or less where the host is doubted; true if it was. `from` is the start of the last check.
    async fn wait(&mut self, from: Instant, due: Instant) -> bool {
        let earliest = from + self.target.check().timing.fast_interval();
        let mut hastened = false;
        let mut due = due;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return hastened,
                Ok(()) = self.alarmed.changed(), if !hastened => {
                    // Whoever is in doubt already, or down, beats fast enough or has nothing to tell.
                    if self.status.is_steady_up() {
                        due = due.min(earliest);
                        hastened = true;
                    }
                }
            }
        }
    }

    /// The result, unless it proves nothing.
    fn conclude(&mut self, result: Result<(), Miss>) -> Option<Result<(), String>> {
        let result = match result {
            Err(Miss::Inconclusive(reason)) => {
                log::debug!("{}: check proves nothing: {reason}", self.target.address());
                self.inconclusive += 1;
                if self.inconclusive < MAX_INCONCLUSIVE {
                    return None;
                }
                Err(reason)
            }
            Err(Miss::Failure(reason)) => Err(reason),
            Ok(()) => Ok(()),
        };
        self.inconclusive = 0;
        Some(result)
    }

    async fn digest(
        &mut self,
        result: Result<(), String>,
        latency: Duration,
        hastened: bool,
    ) -> Result<(), Unwanted> {
        let at = SystemTime::now();
        let was_steady = self.status.is_steady_up();
        let reason = result.err();
        let verdict = self.status.observe(reason.as_deref(), latency, at);
        // A check that was hastened found what the host's other health checks are being asked already.
        if was_steady && reason.is_some() && !hastened {
            self.alarm.send_replace(());
            self.alarmed.mark_unchanged();
        }
        let Some(state) = verdict else { return Ok(()) };
        let verdict = Verdict {
            target: self.target.clone(),
            state,
            reason,
            at,
            latency,
        };
        self.shared.verdicts.send(verdict).await.map_err(|_| Unwanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_check::Check;

    #[test]
    fn checks_that_prove_nothing_are_repeated_but_not_for_ever() {
        let (verdicts, _receiver) = mpsc::channel(1);
        let shared = Shared {
            asker: Mutex::default(),
            turns: Turns::new(1),
            verdicts,
        };
        let address = "127.0.0.1:80".parse().expect("an address");
        let target = ProbeTarget::new(address, &Check::default()).expect("a target");
        let status = CheckStateCell::new(target.check().timing.clone(), SystemTime::now());
        let mut check = HealthCheck::new(target, Arc::new(shared), status, watch::Sender::new(()));

        let nothing = || Err(Miss::Inconclusive("out of file descriptors".into()));
        let failed = Some(Err("out of file descriptors".to_owned()));
        assert_eq!(check.conclude(nothing()), None);
        assert_eq!(check.conclude(nothing()), None);
        assert_eq!(check.conclude(nothing()), failed);
        assert_eq!(check.conclude(nothing()), None, "the count begins anew");
        assert_eq!(check.conclude(Ok(())), Some(Ok(())));
        assert_eq!(check.conclude(nothing()), None);
        assert_eq!(check.conclude(nothing()), None);
        assert_eq!(check.conclude(nothing()), failed);
    }
}
