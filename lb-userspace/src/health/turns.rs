//! Targets take turns to be checked: a check under way holds a file descriptor, and there are only so many.
//!
//! Invariant: targets that are down, which hold theirs for a whole timeout, never take more than half of the turns from
//! those that serve.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Waiting longer than this for a turn delays verdicts noticeably.
const LATE: Duration = Duration::from_millis(500);
/// How long it is told that checks had to wait.
const TOLD: Duration = Duration::from_secs(60);

/// The turns of one engine.
#[derive(Debug)]
pub(super) struct Turns {
    at_once: usize,
    all: Semaphore,
    /// What those that are down must have besides.
    of_the_down: Semaphore,
    /// When a check was late for the last time, and what the longest wait was since checks began to be late.
    late: Mutex<Option<(Instant, Duration)>>,
}

/// A check's turn, until dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _of_all: SemaphorePermit<'a>,
    _of_the_down: Option<SemaphorePermit<'a>>,
}

/// Checks had to wait for their turn of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    /// How long one waited at the most.
    pub longest: Duration,
    /// How many checks may be under way at once.
    pub at_once: usize,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            at_once,
            all: Semaphore::new(at_once),
            of_the_down: Semaphore::new((at_once / 2).max(1)),
            late: Mutex::new(None),
        }
    }

    /// Waits for a turn; `is_down` says whether the target is down.
    pub(super) async fn wait(&self, is_down: bool) -> Result<Turn<'_>, AcquireError> {
        let since = Instant::now();
        let of_the_down = match is_down {
            true => Some(self.of_the_down.acquire().await?),
            false => None,
        };
        let of_all = self.all.acquire().await?;
        self.note(since.elapsed());
        Ok(Turn {
            _of_all: of_all,
            _of_the_down: of_the_down,
        })
    }

    fn note(&self, waited: Duration) {
        if waited < LATE {
            return;
        }
        let before = self.lateness();
        if before.is_none() {
            log::warn!(
                "a check waited {waited:.1?} for its turn, verdicts are late: {} may be under way at once",
                self.at_once
            );
        }
        let longest = before.map_or(waited, |before| before.longest.max(waited));
        *self.late.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), longest));
    }

    /// Whether checks had to wait during the last minute.
    pub(super) fn lateness(&self) -> Option<Lateness> {
        let late = *self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, longest) = late.filter(|(last, _)| last.elapsed() < TOLD)?;
        Some(Lateness {
            longest,
            at_once: self.at_once,
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn long_waits_are_told_for_a_minute() {
        let turns = Turns::new(1);
        let wait = async |held: Duration| {
            let first = turns.wait(false).await.expect("a turn");
            let second = async {
                advance(held).await;
                drop(first);
            };
            let (second, ()) = tokio::join!(turns.wait(false), second);
            drop(second.expect("a turn"));
        };
        wait(LATE / 2).await;
        assert_eq!(turns.lateness(), None);
        for held in [LATE * 3, LATE * 2] {
            wait(held).await;
            let expected = Lateness {
                longest: LATE * 3,
                at_once: 1,
            };
            assert_eq!(turns.lateness(), Some(expected));
        }
        advance(TOLD).await;
        assert_eq!(turns.lateness(), None);
    }
}
