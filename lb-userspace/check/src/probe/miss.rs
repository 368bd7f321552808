//! Why a check does not succeed, and whose fault that is.
//!
//! Invariant: what this host lacks, or slept through, is not held against the backend.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

/// Why a check did not succeed, in the operator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The backend failed it.
    Failure(String),
    /// It proves nothing: something was missing on our side.
    Inconclusive(String),
}

/// How much later than asked a timer may fire before we take ourselves for stalled rather than the backend for slow.
const STALL: Duration = Duration::from_millis(250);

/// The end of a check's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// The end of a check that begins now.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            at: Instant::now() + timeout,
            timeout,
        }
    }

    /// Runs one step of the check; `missing` says what has not come when the time is over.
    pub(crate) async fn bound<T>(
        &self,
        missing: &str,
        step: impl Future<Output = Result<T, Miss>>,
    ) -> Result<T, Miss> {
        match tokio::time::timeout_at(self.at, step).await {
            Ok(result) => result,
            Err(_) => {
                let timeout = humantime::format_duration(self.timeout);
                let reason = format!("timeout after {timeout}: {missing}");
                // A process that was stopped, or a virtual machine that was paused, wakes up to timers long over.
                let stalled = self.at.elapsed() > STALL;
                Err(if stalled {
                    Miss::Inconclusive(reason)
                } else {
                    Miss::Failure(reason)
                })
            }
        }
    }
}

/// What became of an I/O call, with the name of the step that made it.
pub(crate) fn io_miss(step: &str, error: &io::Error) -> Miss {
    let reason = format!("{step}: {}", io_words(error));
    match error.raw_os_error() {
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::EADDRNOTAVAIL
            // The way is missing, not the backend: a route that is withdrawn for a moment, an interface that is down.
            | libc::ENETUNREACH
            | libc::ENETDOWN,
        ) => Miss::Inconclusive(reason),
        _ => Miss::Failure(reason),
    }
}

/// An error in the operator's words.
pub(crate) fn io_words(error: &io::Error) -> String {
    let words = match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "connection refused",
        Some(libc::ECONNRESET) => "connection reset by the backend",
        Some(libc::EPIPE) => "connection closed by the backend",
        Some(libc::ENETUNREACH) => "network unreachable: is there a route?",
        Some(libc::EHOSTUNREACH) => "host unreachable: does it answer ARP or neighbour discovery?",
        Some(libc::ETIMEDOUT) => "no answer to the connection attempts",
        Some(libc::EPERM | libc::EACCES) => "not permitted: does a local firewall rule forbid it?",
        Some(libc::EMFILE | libc::ENFILE) => "out of file descriptors: raise LimitNOFILE",
        Some(libc::EADDRNOTAVAIL) => "no local address or port left to ask from",
        Some(libc::EAFNOSUPPORT) => "this host does not speak the address family: is IPv6 switched off?",
        _ => return error.to_string(),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timeout_is_the_backends_unless_we_slept_through_it() {
        for (late, miss) in [
            (Duration::ZERO, Miss::Failure as fn(String) -> Miss),
            (STALL / 2, Miss::Failure),
            (STALL * 2, Miss::Inconclusive),
        ] {
            let deadline = Deadline::new(Duration::from_millis(10));
            let asleep = async {
                advance(Duration::from_millis(10) + late).await;
                std::future::pending().await
            };
            let missed: Result<(), _> = deadline.bound("no answer", asleep).await;
            assert_eq!(
                missed,
                Err(miss("timeout after 10ms: no answer".into())),
                "{late:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_we_slept_through_counts() {
        let deadline = Deadline::new(Duration::from_millis(10));
        advance(STALL * 2).await;
        assert_eq!(deadline.bound("no answer", async { Ok(()) }).await, Ok(()));
    }

    #[test]
    fn what_we_lack_ourselves_is_not_held_against_the_backend() {
        let miss = |code| io_miss("connect", &io::Error::from_raw_os_error(code));
        for ours in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EADDRNOTAVAIL,
            libc::ENETUNREACH,
            libc::ENETDOWN,
        ] {
            assert!(matches!(miss(ours), Miss::Inconclusive(_)), "{:?}", miss(ours));
        }
        for theirs in [libc::ECONNREFUSED, libc::ECONNRESET, libc::EHOSTUNREACH] {
            assert!(matches!(miss(theirs), Miss::Failure(_)), "{:?}", miss(theirs));
        }
    }
}
