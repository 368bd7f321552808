//! What a health check does and when: the specification an operator writes.
//!
//! Invariant: whatever passes [`Check::validate`] can be run as it is; the probes check nothing again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::CheckError;
use crate::kind::{Asks, Kind};

/// How a backend is checked.
///
/// In TOML and JSON it is one flat table with a `type` and the keys of its parts:
/// `{ type = "http", path = "/healthz", interval = "1s" }`. Unknown keys, keys of another type and values that cannot
/// be meant are refused when it is read; [`Check::validate`] holds the rest of the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Check {
    /// What is asked of the backend.
    pub kind: Kind,
    /// The port to ask at, in place of the backend's own.
    pub port: Option<u16>,
    /// How its connections end.
    pub close: Close,
    /// How often, for how long, and how many results make a verdict.
    pub timing: Timing,
}

/// How the connections of checks that make some end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Close {
    /// In order, as clients end theirs: what the server has to say is taken, and nobody counts an error. This host keeps
    /// the port in TIME_WAIT for a minute.
    #[default]
    Fin,
    /// By a reset at once, so that neither side keeps anything.
    Reset,
}

/// When checks run, and how many results make a verdict.
///
/// Delays count from the start of one check to the start of the next, each varied by a random ±10 %. A check that
/// takes longer than its delay is followed at once. The first check of a new target starts within 100 ms, its second
/// between the fast interval and the interval later, so that targets added together do not beat together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Time from one check to the next while the verdict stays the same.
    pub interval: Duration,
    /// Longest time for a whole check.
    pub timeout: Duration,
    /// Consecutive successes that bring a backend up.
    pub rise: u8,
    /// Consecutive failures that bring it down.
    pub fall: u8,
    /// From one check to the next while in doubt: after a first failure until the verdict, and while rising.
    pub fast_interval: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            fast_interval: None,
        }
    }
}

impl Timing {
    /// The interval in doubt: as set, or a quarter of the interval but at least 100 ms, and never longer than the
    /// interval. With the defaults a refused connection is a verdict 3 s after the fault at the latest
    /// (2 s + 2 × 0.5 s), and a silent host 5 s after it (2 s + 3 × 1 s of timeout), jitter aside.
    pub fn fast_interval(&self) -> Duration {
        let default = (self.interval / 4).max(Duration::from_millis(100));
        self.fast_interval.unwrap_or(default).min(self.interval)
    }
}

impl Check {
    /// Shortest interval, fast interval and timeout.
    pub const MIN_DURATION: Duration = Duration::from_millis(10);
    /// Longest interval, fast interval and timeout.
    pub const MAX_DURATION: Duration = Duration::from_secs(3600);
    /// Longest text of a kind's key, in bytes.
    pub const MAX_TEXT: usize = 1024;

    /// Whether it asks at a port, so that a backend without one cannot be checked unless `port` is set.
    pub fn needs_port(&self) -> bool {
        self.kind.info().asks == Asks::Port
    }

    /// Checks every value against its limits.
    pub fn validate(&self) -> Result<(), CheckError> {
        let Self {
            kind,
            port,
            close: _,
            timing,
        } = self;
        if *port == Some(0) {
            return Err(CheckError::new(
                "port",
                "expected a port from 1 to 65535, found 0",
            ));
        }
        let info = kind.info();
        if let Asks::Host(why) = info.asks
            && port.is_some()
        {
            let message = format!("does not apply to type = {:?}: {why}", info.word);
            return Err(CheckError::new("port", message));
        }
        kind.validate()?;
        timing.validate()
    }
}

impl Timing {
    fn validate(&self) -> Result<(), CheckError> {
        let Self {
            interval,
            timeout,
            rise,
            fall,
            fast_interval,
        } = self;
        within_limits("interval", *interval)?;
        within_limits("timeout", *timeout)?;
        for (key, count) in [("rise", rise), ("fall", fall)] {
            if *count == 0 {
                return Err(CheckError::new(key, "expected a count from 1 to 255, found 0"));
            }
        }
        let Some(fast) = *fast_interval else { return Ok(()) };
        within_limits("fast_interval", fast)?;
        if fast > *interval {
            let (fast, interval) = (
                humantime::format_duration(fast),
                humantime::format_duration(*interval),
            );
            let message = format!("expected at most the interval of {interval}, found {fast}");
            return Err(CheckError::new("fast_interval", message));
        }
        Ok(())
    }
}

fn within_limits(key: &'static str, value: Duration) -> Result<(), CheckError> {
    if (Check::MIN_DURATION..=Check::MAX_DURATION).contains(&value) {
        return Ok(());
    }
    let value = humantime::format_duration(value);
    Err(CheckError::new(
        key,
        format!("expected a duration from 10ms to 1h, found {value}"),
    ))
}

/// Checks a text of one line.
pub(crate) fn check_text(key: &'static str, text: &str, max: usize) -> Result<(), CheckError> {
    let length = text.len();
    if length == 0 || length > max {
        return Err(CheckError::new(
            key,
            format!("expected 1 to {max} bytes of text, found {length}"),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(CheckError::new(
            key,
            format!("expected text without control characters, found {text:?}"),
        ));
    }
    Ok(())
}
