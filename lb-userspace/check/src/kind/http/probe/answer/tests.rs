//! Answers that come whole, in pieces, and not at all as they should.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::HttpCheck;

/// What becomes of an answer that comes whole.
fn verdict(answer: &[u8], text: Option<&str>) -> Result<u16, String> {
    verdict_in(Cursor::new(answer), text)
}

fn verdict_in(stream: impl AsyncRead + Unpin, text: Option<&str>) -> Result<u16, String> {
    let check = HttpCheck {
        status: "200-599".parse().expect("codes"),
        body: text.map(Into::into),
        ..HttpCheck::default()
    };
    let judged = futures_util::FutureExt::now_or_never(async {
        let mut answer = Answer::read(stream).await?;
        super::super::judge(&mut answer, &check).await?;
        Ok(answer.status())
    });
    judged.expect("a cursor never waits").map_err(|miss| match miss {
        Miss::Failure(reason) | Miss::Inconclusive(reason) => reason,
    })
}

const NOT_HTTP: &str = "http: the answer is not HTTP/1.1";
const CUT_SHORT: &str = "http: the backend closed the connection before a complete answer";

#[test]
fn what_a_client_is_to_tolerate_is_tolerated() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\nok",
        "HTTP/1.0 200\r\n\r\nok",
        "HTTP/1.1 200 \r\n\r\nok",
        "\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok",
        "HTTP/1.1 200 OK\nA: b\n\nok",
        "HTTP/1.1 200 OK\r\nA : b\r\nC\t : d\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\td\r\n \r\nE: f\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n x: y\r\nA:\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA: é\x01\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length : \r\n 2\r\n\r\nokay",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: gzip,\r\n chunked\r\n\r\n1;a=b\r\no\r\n 1 \r\nk\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok",
    ] {
        assert_eq!(verdict(answer.as_bytes(), Some("ok")), Ok(200), "{answer:?}");
    }
}

#[test]
fn what_is_no_answer_says_so() {
    for (answer, text, expected) in [
        ("", None, CUT_SHORT),
        ("\x15\x03\x03\x00\x02\x02\x46", None, NOT_HTTP),
        ("HTTP/2 200\r\n\r\n", None, NOT_HTTP),
        ("HTTP/1.1 20\r\n\r\n", None, NOT_HTTP),
        ("HTTP/1.1 2000 OK\r\n\r\n", None, NOT_HTTP),
        ("HTTP/1.1200 OK\r\n\r\n", None, NOT_HTTP),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", None, NOT_HTTP),
        ("HTTP/1.1 200 OK\r\n: no name\r\n\r\n", None, NOT_HTTP),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", None, NOT_HTTP),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", None, NOT_HTTP),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", None, NOT_HTTP),
        ("HTTP/1.1 200 OK\r\nA: b", None, CUT_SHORT),
        ("HTTP/1.1 200 OK\r\nA: b\r\n", None, CUT_SHORT),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno",
            Some("ok"),
            CUT_SHORT,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok",
            Some("ok"),
            "body lacks \"ok\"",
        ),
        ("HTTP/1.1 204 None\r\n\r\nok", Some("ok"), "body lacks \"ok\""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\no",
            Some("ok"),
            NOT_HTTP,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\noops\r\n",
            Some("ok"),
            NOT_HTTP,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no",
            Some("ok"),
            CUT_SHORT,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nok",
            Some("ok"),
            "body lacks \"ok\"",
        ),
    ] {
        assert_eq!(
            verdict(answer.as_bytes(), text),
            Err(expected.into()),
            "{answer:?}"
        );
    }
}

/// An answer whose head has exactly `length` bytes, in lines such as `line`.
fn head(length: usize, line: &str) -> Vec<u8> {
    let (first, last) = ("HTTP/1.1 200 OK\r\n", "\r\n");
    let room = length - first.len() - last.len() - "x:\r\n".len();
    let lines = line.repeat(room / line.len());
    let padding = "y".repeat(room - lines.len());
    format!("{first}{lines}x:{padding}\r\n{last}").into_bytes()
}

#[test]
fn a_head_may_be_as_long_as_is_said_in_whatever_lines() {
    let long = format!("a: {}\r\n", "b".repeat(9000));
    for line in ["a:\r\n", "a: b\r\n", &long] {
        let mut fits = head(MAX_HEAD, line);
        assert_eq!(fits.len(), MAX_HEAD);
        fits.extend_from_slice(b"ok");
        assert_eq!(verdict(&fits, Some("ok")), Ok(200));
        let too_large = head(MAX_HEAD + 1, line);
        let expected = Err("http: the answer's head exceeds 64 KiB".to_owned());
        assert_eq!(verdict(&too_large, None), expected);
    }
    // Interim answers are no way around it.
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD / 20);
    assert!(verdict(&interim, None).is_err_and(|reason| reason.contains("exceeds 64 KiB")));
}

/// A stream that gives so many bytes at a time.
struct Segments<'a> {
    rest: &'a [u8],
    sizes: Vec<usize>,
}

impl AsyncRead for Segments<'_> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let size = self.sizes.pop().unwrap_or(usize::MAX);
        let size = size.min(self.rest.len()).min(buffer.remaining());
        let (now, rest) = self.rest.split_at(size);
        buffer.put_slice(now);
        self.rest = rest;
        std::task::Poll::Ready(Ok(()))
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,3}[ \t]{0,2}: ?[ -~]{0,9}(\r\n|\n)",
        1 => "[ \t][ -~]{0,9}(\r\n|\n)",
        1 => "(Content-Length: [0-9]{1,2}|Transfer-Encoding: chunked)\r\n",
        1 => "(HTTP/1.1 [1-5][0-9]{2} .\r\n|\r\n|[0-9a-f]\r\n|ok|\\PC{0,9})",
        1 => (MAX_HEAD - 300..MAX_HEAD + 300).prop_map(|length| format!("l: {}\r\n", "o".repeat(length))),
    ]
}

proptest! {
    #[test]
    fn the_same_bytes_have_the_same_verdict_however_they_are_cut(
        pieces in prop::collection::vec(piece(), 0..12), sizes in prop::collection::vec(1..3000usize, 0..60),
    ) {
        let answer = format!("HTTP/1.1 200 OK\r\n{}", pieces.concat());
        let whole = verdict(answer.as_bytes(), Some("ok"));
        let cut = Segments { rest: answer.as_bytes(), sizes };
        prop_assert_eq!(verdict_in(cut, Some("ok")), whole);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = verdict(&bytes, Some("ok"));
        let _ = verdict(&[&b"HTTP/1.1 200 OK\r\n"[..], &bytes].concat(), Some("ok"));
    }
}
