//! What a health check does and when: the specification an operator writes.
//!
//! Invariant: whatever passes [`Check::validate`] can be run as it is; the probes check nothing again.

use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};

use super::StatusRange;
use super::raw::RawCheck;

/// How a backend is checked.
///
/// In TOML and JSON it is one flat table with a `type` and the keys of its parts:
/// `{ type = "http", path = "/healthz", interval = "1s" }`. Unknown keys, keys of another type and values out of
/// range are refused when it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawCheck", into = "RawCheck")]
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

/// What is asked of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing: the backend always counts as up.
    None,
    /// It accepts a TCP connection.
    #[default]
    Tcp,
    /// It answers an HTTP/1.1 GET as expected.
    Http(HttpCheck),
    /// It answers an ICMP (RFC 792) or ICMPv6 (RFC 4443) echo request.
    Ping,
}

/// How the connections of TCP and HTTP checks end.
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

/// An HTTP request and the answer that counts as success. Redirects are answers like any other, not followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// Path and query of the request.
    pub path: String,
    /// Status codes of a healthy answer.
    pub status: StatusRange,
    /// Text that the first 64 KiB of the answer's body must hold; without it the body is not read.
    pub body: Option<String>,
    /// `Host` header, by default the address (and port) asked.
    pub host: Option<String>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            status: StatusRange::default(),
            body: None,
            host: None,
        }
    }
}

/// When checks run, and how many results make a verdict.
///
/// Delays count from the start of one check to the start of the next, each varied by a random ±10 %. A check that
/// takes longer than its delay is followed at once. The first check of a new target starts within 100 ms, its second
/// between the fast interval and the interval later, so that targets added together do not beat together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// From one check to the next while the verdict stands.
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

/// A check that cannot be run: the key at fault and what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct CheckError {
    /// The key as the operator writes it.
    pub key: &'static str,
    /// What is wrong and what was expected.
    pub message: String,
}

impl CheckError {
    pub(super) fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self {
            key,
            message: message.into(),
        }
    }
}

impl Check {
    /// Shortest interval, fast interval and timeout.
    pub const MIN_DURATION: Duration = Duration::from_millis(10);
    /// Longest interval, fast interval and timeout.
    pub const MAX_DURATION: Duration = Duration::from_secs(3600);
    /// Longest path and body text, in bytes.
    pub const MAX_TEXT: usize = 1024;
    /// Longest host header, in bytes: a DNS name and a port.
    pub const MAX_HOST: usize = 259;

    /// Whether it asks at a port, so that a backend without one cannot be checked unless `port` is set.
    pub fn needs_port(&self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::Http(_))
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
        match kind {
            Kind::Ping if port.is_some() => Err(CheckError::new(
                "port",
                "does not apply to type = \"ping\": echo requests have no port",
            )),
            Kind::Http(http) => http.validate(),
            Kind::None | Kind::Tcp | Kind::Ping => Ok(()),
        }?;
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

impl HttpCheck {
    fn validate(&self) -> Result<(), CheckError> {
        let Self {
            path,
            status: _,
            body,
            host,
        } = self;
        validate_path(path)?;
        if let Some(body) = body {
            check_text("body", body, Check::MAX_TEXT)?;
        }
        let Some(host) = host else { return Ok(()) };
        check_text("host", host, Check::MAX_HOST)?;
        if !host.bytes().all(|b| b.is_ascii_graphic()) || HeaderValue::from_str(host).is_err() {
            let message = format!("expected a host name such as \"www.example.org\", found {host:?}");
            return Err(CheckError::new("host", message));
        }
        Ok(())
    }
}

fn validate_path(path: &str) -> Result<(), CheckError> {
    check_text("path", path, Check::MAX_TEXT)?;
    let plain = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !plain || PathAndQuery::try_from(path).is_err() {
        let message = format!(
            "expected a path that starts with \"/\", in ASCII without spaces or \"#\", found {path:?}"
        );
        return Err(CheckError::new("path", message));
    }
    Ok(())
}

fn check_text(key: &'static str, text: &str, max: usize) -> Result<(), CheckError> {
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
