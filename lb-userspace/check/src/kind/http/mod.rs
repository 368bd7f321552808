//! The HTTP check: one GET, and what of its answer counts.
//!
//! Invariant: path and host hold nothing that could end their lines in a request.

#[cfg(feature = "probe")]
mod probe;
mod status;

use http::HeaderValue;
use http::uri::PathAndQuery;
use serde::Serialize;
use serde::de::MapAccess;

pub use status::{ParseStatusError, StatusRange};

use super::spec::not_mine;
use super::{Asks, CheckKey, Spec, take};
use crate::check::check_text;
use crate::{Check, CheckError};

/// An HTTP request and the answer that counts as success. Redirects are answers like any other, not followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HttpCheck {
    /// Path and query of the request.
    pub path: String,
    /// Status codes of a healthy answer.
    pub status: StatusRange,
    /// Text that the first 64 KiB of the answer's body must hold; without it the body is not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// `Host` header, by default the address (and port) asked.
    #[serde(skip_serializing_if = "Option::is_none")]
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

impl Spec for HttpCheck {
    const KEYS: &'static [CheckKey] = &[
        CheckKey {
            name: "path",
            option: "check-path",
            value: "PATH",
            help: "The path that an http check asks for; \"/\" by default",
        },
        CheckKey {
            name: "status",
            option: "check-status",
            value: "CODES",
            help: "The status codes of a good answer, such as \"200,301-302\"; \"200-299\" by default",
        },
        CheckKey {
            name: "body",
            option: "check-body",
            value: "TEXT",
            help: "A text that the answer must hold",
        },
        CheckKey {
            name: "host",
            option: "check-host",
            value: "HOST",
            help: "The Host header that an http check sends; the backend's address by default",
        },
    ];
    const ASKS: Asks = Asks::Port;
    const CONNECTS: bool = true;

    fn read<'de, A: MapAccess<'de>>(&mut self, key: &'static str, values: &mut A) -> Result<bool, A::Error> {
        match key {
            "path" => take(&mut self.path, values),
            "status" => take(&mut self.status, values),
            "body" => take(&mut self.body, values),
            "host" => take(&mut self.host, values),
            _ => Err(not_mine(key)),
        }
    }

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
        check_text("host", host, Self::MAX_HOST)?;
        if !host.bytes().all(|b| b.is_ascii_graphic()) || HeaderValue::from_str(host).is_err() {
            let message = format!("expected a host name such as \"www.example.org\", found {host:?}");
            return Err(CheckError::new("host", message));
        }
        Ok(())
    }
}

impl HttpCheck {
    /// Longest host header, in bytes: a DNS name and a port.
    pub const MAX_HOST: usize = 259;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Kind;
    use crate::table_tests::{assert_reads_back, assert_refused, read};

    #[test]
    fn every_key_is_read() {
        let check = read(
            "path = '/ok?x=1'\nstatus = '200,301-302'\nbody = 'ok'\nhost = 'a.example'\ntype = 'http'\nclose = 'reset'",
        )
        .expect("valid");
        let http = HttpCheck {
            path: "/ok?x=1".into(),
            status: "200,301-302".parse().expect("valid"),
            body: Some("ok".into()),
            host: Some("a.example".into()),
        };
        assert_eq!(check.kind, Kind::Http(http));
        let defaults = read("type = 'http'").expect("valid");
        assert_eq!(defaults.kind, Kind::Http(HttpCheck::default()));
    }

    #[test]
    fn its_keys_are_its_own() {
        let refused = "only applies to type = \"http\"";
        assert_refused(&[
            ("type = 'tcp'\npath = '/'", &format!("`path`: {refused}")),
            ("host = 'x'\ntype = 'ping'", &format!("`host`: {refused}")),
            (
                "type = 'none'\nbody = 'x'\nstatus = 200",
                &format!("`status`: {refused}"),
            ),
        ]);
    }

    #[test]
    fn null_is_as_good_as_nothing() {
        for kind in ["http", "tcp"] {
            let json =
                format!(r#"{{"type": "{kind}", "path": null, "status": null, "body": null, "host": null}}"#);
            let check: Check = serde_json::from_str(&json).expect("nothing is asked for");
            assert_eq!(Ok(check), read(&format!("type = '{kind}'")));
        }
    }

    #[test]
    fn bad_values_are_refused_with_what_was_expected() {
        let path = "`path`: expected a path that starts with \"/\"";
        assert_refused(&[
            ("type = 'http'\npath = 'x'", path),
            ("type = 'http'\npath = '/a b'", path),
            ("type = 'http'\npath = '/a#b'", path),
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
            (
                "type = 'http'\npath = 3",
                "invalid type: integer `3`, expected a string",
            ),
        ]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            path in "/[a-z0-9?=&%]{0,20}",
            body in prop::option::of("[ -~é]{1,20}"),
            host in prop::option::of("[a-z.:]{1,20}"),
        ) {
            let status = "200,404".parse().expect("valid");
            assert_reads_back(&Kind::Http(HttpCheck { path, status, body, host }));
        }
    }
}
