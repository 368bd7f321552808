//! The flat table in which a [`Check`] is written, and its way to and from the typed form.
//!
//! Invariant: every key is known here, so that an unknown key is refused (serde cannot both flatten and refuse), and
//! a key that belongs to another type is refused with its name.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{Check, CheckError, Close, HttpCheck, Kind, Timing};
use super::status::StatusRange;
use crate::duration::Text;

/// The `type` of a check; keepalived's names are understood too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    None,
    #[serde(alias = "TCP_CHECK")]
    Tcp,
    #[serde(alias = "HTTP_GET")]
    Http,
    #[serde(alias = "PING_CHECK")]
    Ping,
}

/// Counts and the port are read wide, so that a value out of range is refused in our words.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCheck {
    #[serde(rename = "type")]
    kind: RawKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<StatusRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    close: Option<Close>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fast_interval: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rise: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fall: Option<i64>,
}

impl TryFrom<RawCheck> for Check {
    type Error = CheckError;

    fn try_from(raw: RawCheck) -> Result<Self, CheckError> {
        let RawCheck {
            kind,
            port,
            path,
            status,
            body,
            host,
            close,
            interval,
            fast_interval,
            timeout,
            rise,
            fall,
        } = raw;
        if kind != RawKind::Http {
            let given = [
                ("path", path.is_some()),
                ("status", status.is_some()),
                ("body", body.is_some()),
                ("host", host.is_some()),
            ];
            if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(CheckError::new(key, "only applies to type = \"http\""));
            }
        }
        if close.is_some() && matches!(kind, RawKind::None | RawKind::Ping) {
            let message =
                "only applies to type = \"tcp\" and type = \"http\": the others make no connections";
            return Err(CheckError::new("close", message));
        }
        let kind = match kind {
            RawKind::None => Kind::None,
            RawKind::Tcp => Kind::Tcp,
            RawKind::Ping => Kind::Ping,
            RawKind::Http => {
                let default = HttpCheck::default();
                let (path, status) = (path.unwrap_or(default.path), status.unwrap_or(default.status));
                Kind::Http(HttpCheck {
                    path,
                    status,
                    body,
                    host,
                })
            }
        };
        let default = Timing::default();
        let or_default =
            |text: Option<Text>, default: Duration| text.map_or(default, |Text(duration)| duration);
        let timing = Timing {
            interval: or_default(interval, default.interval),
            timeout: or_default(timeout, default.timeout),
            rise: count("rise", rise)?.unwrap_or(default.rise),
            fall: count("fall", fall)?.unwrap_or(default.fall),
            fast_interval: fast_interval.map(|Text(duration)| duration),
        };
        let check = Self {
            kind,
            port: narrow("port", port, "a port from 1 to 65535")?,
            close: close.unwrap_or_default(),
            timing,
        };
        check.validate()?;
        Ok(check)
    }
}

fn count(key: &'static str, value: Option<i64>) -> Result<Option<u8>, CheckError> {
    narrow(key, value, "a count from 1 to 255")
}

fn narrow<T: TryFrom<i64>>(
    key: &'static str,
    value: Option<i64>,
    expected: &str,
) -> Result<Option<T>, CheckError> {
    let Some(value) = value else { return Ok(None) };
    T::try_from(value)
        .map(Some)
        .map_err(|_| CheckError::new(key, format!("expected {expected}, found {value}")))
}

impl From<Check> for RawCheck {
    fn from(check: Check) -> Self {
        let Check {
            kind,
            port,
            close,
            timing:
                Timing {
                    interval,
                    timeout,
                    rise,
                    fall,
                    fast_interval,
                },
        } = check;
        let (kind, http) = match kind {
            Kind::None => (RawKind::None, None),
            Kind::Tcp => (RawKind::Tcp, None),
            Kind::Ping => (RawKind::Ping, None),
            Kind::Http(http) => (RawKind::Http, Some(http)),
        };
        let (path, status, body, host) = match http {
            Some(HttpCheck {
                path,
                status,
                body,
                host,
            }) => (Some(path), Some(status), body, host),
            None => (None, None, None, None),
        };
        Self {
            kind,
            port: port.map(i64::from),
            path,
            status,
            body,
            host,
            // Earlier versions, which may read a checkpoint of this one, know nothing of it.
            close: (close != Close::default()).then_some(close),
            interval: Some(Text(interval)),
            fast_interval: fast_interval.map(Text),
            timeout: Some(Text(timeout)),
            rise: Some(rise.into()),
            fall: Some(fall.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(toml: &str) -> Result<Check, String> {
        toml::from_str(toml).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_type_alone_takes_the_documented_defaults() {
        let http = read("type = 'http'").expect("valid");
        assert_eq!(
            http,
            Check {
                kind: Kind::Http(HttpCheck::default()),
                ..Check::default()
            }
        );
        assert_eq!(read("type = 'tcp'").expect("valid"), Check::default());
        let Timing {
            interval,
            timeout,
            rise,
            fall,
            ..
        } = http.timing;
        assert_eq!(
            (interval, timeout),
            (Duration::from_secs(2), Duration::from_secs(1))
        );
        assert_eq!((rise, fall), (2, 3));
    }

    #[test]
    fn every_key_is_read() {
        let check = read(
            "type = 'http'\nport = 8080\npath = '/ok?x=1'\nstatus = '200,301-302'\nbody = 'ok'\nhost = 'a.example'\n\
             close = 'reset'\ninterval = '1m 30s'\nfast_interval = '500ms'\ntimeout = '3s'\nrise = 1\nfall = 255",
        );
        let kind = Kind::Http(HttpCheck {
            path: "/ok?x=1".into(),
            status: "200,301-302".parse().expect("valid"),
            body: Some("ok".into()),
            host: Some("a.example".into()),
        });
        let timing = Timing {
            interval: Duration::from_secs(90),
            timeout: Duration::from_secs(3),
            rise: 1,
            fall: 255,
            fast_interval: Some(Duration::from_millis(500)),
        };
        assert_eq!(
            check,
            Ok(Check {
                kind,
                port: Some(8080),
                close: Close::Reset,
                timing
            })
        );
    }

    #[test]
    fn the_names_of_keepalived_are_understood() {
        for (theirs, ours) in [("TCP_CHECK", "tcp"), ("HTTP_GET", "http"), ("PING_CHECK", "ping")] {
            assert_eq!(
                read(&format!("type = '{theirs}'")),
                read(&format!("type = '{ours}'"))
            );
        }
    }

    #[test]
    fn bad_values_are_refused_with_what_was_expected() {
        for (toml, expected) in [
            ("", "missing field `type`"),
            ("type = 'icmp'", "unknown variant `icmp`"),
            ("type = 'tcp'\nintervall = '1s'", "unknown field `intervall`"),
            (
                "type = 'tcp'\npath = '/'",
                "`path`: only applies to type = \"http\"",
            ),
            (
                "type = 'ping'\nhost = 'x'",
                "`host`: only applies to type = \"http\"",
            ),
            (
                "type = 'ping'\nclose = 'fin'",
                "`close`: only applies to type = \"tcp\" and type = \"http\"",
            ),
            (
                "type = 'tcp'\nclose = 'rst'",
                "unknown variant `rst`, expected `fin` or `reset`",
            ),
            (
                "type = 'ping'\nport = 1",
                "`port`: does not apply to type = \"ping\"",
            ),
            (
                "type = 'tcp'\nport = 0",
                "`port`: expected a port from 1 to 65535, found 0",
            ),
            (
                "type = 'tcp'\nport = 65536",
                "`port`: expected a port from 1 to 65535, found 65536",
            ),
            ("type = 'tcp'\ninterval = 2", "expected a duration with its unit"),
            (
                "type = 'tcp'\ninterval = '2'",
                "expected a duration with its unit",
            ),
            (
                "type = 'tcp'\ninterval = '9ms'",
                "`interval`: expected a duration from 10ms to 1h, found 9ms",
            ),
            (
                "type = 'tcp'\ninterval = '61m'",
                "`interval`: expected a duration from 10ms to 1h, found 1h 1m",
            ),
            (
                "type = 'tcp'\ntimeout = '0s'",
                "`timeout`: expected a duration from 10ms to 1h, found 0s",
            ),
            (
                "type = 'tcp'\nfast_interval = '3s'",
                "`fast_interval`: expected at most the interval of 2s, found 3s",
            ),
            (
                "type = 'tcp'\nrise = 0",
                "`rise`: expected a count from 1 to 255, found 0",
            ),
            (
                "type = 'tcp'\nfall = 256",
                "`fall`: expected a count from 1 to 255, found 256",
            ),
            (
                "type = 'tcp'\nfall = -1",
                "`fall`: expected a count from 1 to 255, found -1",
            ),
            (
                "type = 'http'\npath = 'x'",
                "`path`: expected a path that starts with \"/\"",
            ),
            (
                "type = 'http'\npath = '/a b'",
                "`path`: expected a path that starts with \"/\"",
            ),
            (
                "type = 'http'\npath = '/a#b'",
                "`path`: expected a path that starts with \"/\"",
            ),
            (
                "type = 'http'\npath = \"/\\r\\nX: y\"",
                "`path`: expected text without control characters",
            ),
            (
                "type = 'http'\nbody = ''",
                "`body`: expected 1 to 1024 bytes of text, found 0",
            ),
            (
                "type = 'http'\nbody = \"a\\u0000\"",
                "`body`: expected text without control characters",
            ),
            ("type = 'http'\nhost = 'a b'", "`host`: expected a host name"),
            (
                "type = 'http'\nhost = \"a\\nb\"",
                "`host`: expected text without control characters",
            ),
            (
                "type = 'http'\nstatus = '2xx'",
                "expected status codes from 200 to 599",
            ),
        ] {
            let error = read(toml).expect_err(toml);
            assert!(error.contains(expected), "{toml:?}: {error}");
        }
    }

    fn arb_duration() -> impl Strategy<Value = Duration> {
        (10u64..=3_600_000).prop_map(Duration::from_millis)
    }

    prop_compose! {
        fn arb_timing()(
            interval in arb_duration(),
            timeout in arb_duration(),
            rise in 1u8..,
            fall in 1u8..,
            fast in prop::option::of(arb_duration()),
        ) -> Timing {
            Timing { interval, timeout, rise, fall, fast_interval: fast.map(|fast| fast.min(interval)) }
        }
    }

    fn arb_kind() -> impl Strategy<Value = Kind> {
        let http = (
            "/[a-z0-9?=&%]{0,20}",
            prop::option::of("[ -~é]{1,20}"),
            prop::option::of("[a-z.:]{1,20}"),
        );
        prop_oneof![
            Just(Kind::None),
            Just(Kind::Tcp),
            Just(Kind::Ping),
            http.prop_map(|(path, body, host)| {
                let status = "200,404".parse().expect("valid");
                Kind::Http(HttpCheck {
                    path,
                    status,
                    body,
                    host,
                })
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            kind in arb_kind(),
            port in prop::option::of(1u16..),
            reset: bool,
            timing in arb_timing(),
        ) {
            let port = port.filter(|_| kind != Kind::Ping);
            let connects = matches!(kind, Kind::Tcp | Kind::Http(_));
            let close = if reset && connects { Close::Reset } else { Close::Fin };
            let check = Check { kind, port, close, timing };
            let toml = toml::to_string(&check).expect("serialises");
            prop_assert_eq!(read(&toml), Ok(check.clone()));
            let json = serde_json::to_string(&check).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<Check>(&json).expect("own text"), check);
        }

        #[test]
        fn the_fast_interval_never_exceeds_the_interval(timing in arb_timing()) {
            prop_assert!(timing.fast_interval() <= timing.interval);
            prop_assert!(timing.fast_interval() >= Check::MIN_DURATION);
        }
    }
}
