//! What all kinds of checks have in common when they are read and written, and helpers for the tests of the kinds.

use std::time::Duration;

use proptest::prelude::*;

use crate::kind::Asks;
use crate::{Check, Close, Kind, Timing};

/// The check that `toml` spells out, or why it is refused.
pub(crate) fn read(toml: &str) -> Result<Check, String> {
    let check: Check = toml::from_str(toml).map_err(|e| e.message().to_owned())?;
    check.validate().map_err(|e| e.to_string())?;
    Ok(check)
}

/// Asserts of pairs of a table and a text that the table is refused with that text.
pub(crate) fn assert_refused(tables: &[(&str, &str)]) {
    for (toml, expected) in tables {
        let error = read(toml).expect_err(toml);
        assert!(error.contains(expected), "{toml:?}: {error}");
    }
}

/// Asserts that a check of that kind reads back from TOML, JSON and MessagePack as it was written.
pub(crate) fn assert_reads_back(kind: &Kind) {
    assert_check_reads_back(&Check {
        kind: kind.clone(),
        ..Check::default()
    });
}

fn assert_check_reads_back(check: &Check) {
    let toml = toml::to_string(check).expect("serialises");
    assert_eq!(read(&toml).as_ref(), Ok(check));
    let json = serde_json::to_string(check).expect("serialises");
    assert_eq!(&serde_json::from_str::<Check>(&json).expect("own text"), check);
    let packed = rmp_serde::to_vec_named(check).expect("serialises");
    assert_eq!(
        &rmp_serde::from_slice::<Check>(&packed).expect("own bytes"),
        check
    );
}

#[test]
fn a_type_alone_takes_the_documented_defaults() {
    assert_eq!(read("type = 'tcp'").expect("valid"), Check::default());
    for (kind, info) in Kind::defaults().into_iter().zip(Kind::ALL) {
        let check = read(&format!("type = '{}'", info.word)).expect("valid");
        assert_eq!(
            check,
            Check {
                kind,
                ..Check::default()
            }
        );
    }
    let Timing {
        interval,
        timeout,
        rise,
        fall,
        ..
    } = Check::default().timing;
    assert_eq!(
        (interval, timeout),
        (Duration::from_secs(2), Duration::from_secs(1))
    );
    assert_eq!((rise, fall), (2, 3));
}

#[test]
fn every_key_of_all_checks_is_read() {
    let check = read(
        "type = 'tcp'\nport = 8080\nclose = 'reset'\ninterval = '1m 30s'\nfast_interval = '500ms'\n\
         timeout = '3s'\nrise = 1\nfall = 255",
    );
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
            kind: Kind::default(),
            port: Some(8080),
            close: Close::Reset,
            timing
        })
    );
}

#[test]
fn checks_are_written_as_they_always_were() {
    let http = read("type = 'http'\nport = 8080\nbody = 'ok'\nclose = 'reset'\nfast_interval = '1s'")
        .expect("valid");
    let json = r#"{"type":"http","port":8080,"path":"/","status":"200-299","body":"ok","close":"reset","#
        .to_owned()
        + r#""interval":"2s","fast_interval":"1s","timeout":"1s","rise":2,"fall":3}"#;
    assert_eq!(serde_json::to_string(&http).expect("serialises"), json);
    let json = r#"{"type":"ping","interval":"2s","timeout":"1s","rise":2,"fall":3}"#;
    let ping = read("type = 'ping'").expect("valid");
    assert_eq!(serde_json::to_string(&ping).expect("serialises"), json);
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
fn a_key_that_is_given_twice_is_refused() {
    for key in ["rise", "path"] {
        let json = format!(r#"{{"type": "http", "{key}": null, "{key}": null}}"#);
        let error = serde_json::from_str::<Check>(&json).expect_err(&json);
        assert!(
            error.to_string().contains(&format!("duplicate field `{key}`")),
            "{error}"
        );
    }
}

#[test]
fn bad_values_are_refused_with_what_was_expected() {
    assert_refused(&[
        ("", "missing field `type`"),
        (
            "type = 'icmp'",
            "unknown variant `icmp`, expected one of `none`, `TCP_CHECK`, `tcp`, ",
        ),
        (
            "type = 'tcp'\nintervall = '1s'",
            "unknown field `intervall`, expected one of `type`, `port`, `path`, `status`, `body`, `host`, ",
        ),
        (
            "type = 'tcp'\nclose = 'rst'",
            "unknown variant `rst`, expected `fin` or `reset`",
        ),
        (
            "type = 'tcp'\nport = 0",
            "expected a port from 1 to 65535, found 0",
        ),
        (
            "type = 'tcp'\nport = 65536",
            "expected a port from 1 to 65535, found 65536",
        ),
        (
            "type = 'tcp'\ninterval = 2",
            "expected a time from 10ms to 1h with its unit",
        ),
        (
            "type = 'tcp'\ninterval = '2'",
            "expected a time from 10ms to 1h with its unit",
        ),
        (
            "type = 'tcp'\ninterval = '9ms'",
            "\"9ms\": expected a time from 10ms to 1h",
        ),
        (
            "type = 'tcp'\ninterval = '61m'",
            "\"61m\": expected a time from 10ms to 1h",
        ),
        (
            "type = 'tcp'\ntimeout = '0s'",
            "\"0s\": expected a time from 10ms to 1h",
        ),
        (
            "type = 'tcp'\nfast_interval = '3s'",
            "`fast_interval`: expected at most the interval of 2s, found 3s",
        ),
        (
            "type = 'tcp'\nrise = 0",
            "expected a count from 1 to 255, found 0",
        ),
        (
            "type = 'tcp'\nfall = 256",
            "expected a count from 1 to 255, found 256",
        ),
        (
            "type = 'tcp'\nfall = -1",
            "expected a count from 1 to 255, found -1",
        ),
    ]);
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

proptest! {
    #[test]
    fn what_is_written_reads_back(
        kind in prop::sample::select(Kind::defaults()),
        port in prop::option::of(1u16..),
        reset: bool,
        timing in arb_timing(),
    ) {
        let port = port.filter(|_| !matches!(kind.info().asks, Asks::Host(_)));
        let close = if reset && kind.info().connects { Close::Reset } else { Close::Fin };
        assert_check_reads_back(&Check { kind, port, close, timing });
    }

    #[test]
    fn the_fast_interval_never_exceeds_the_interval(timing in arb_timing()) {
        prop_assert!(timing.fast_interval() <= timing.interval);
        prop_assert!(timing.fast_interval() >= Check::MIN_DURATION);
    }
}
