//! The check against real sockets on loopback.

use super::*;
use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;

use tokio::net::TcpListener;

use crate::{Check, Close, Kind, ProbeTarget, Prober, Timing};

/// Serves one connection with hyper, answering by path.
async fn serve(listener: TcpListener) {
    let answer = |request: Request<Incoming>| async move {
        let header = |name| {
            request
                .headers()
                .get(name)
                .map_or(&b""[..], |v| v.as_bytes())
                .to_vec()
        };
        let (code, body) = match request.uri().path() {
            "/ok" => (200, b"all is ok here".to_vec()),
            "/host" => (200, header("host")),
            "/agent" => (200, header("user-agent")),
            "/broken" => (503, Vec::new()),
            "/moved" => (302, Vec::new()),
            "/large" => (200, [vec![b'x'; MAX_BODY], b"ok".to_vec()].concat()),
            "/edge" => (200, [vec![b'x'; MAX_BODY - 2], b"ok".to_vec()].concat()),
            _ => (404, Vec::new()),
        };
        let response = Response::builder()
            .status(code)
            .body(Full::new(Bytes::from(body)));
        Ok::<_, Infallible>(response.expect("valid answer"))
    };
    let (stream, _) = listener.accept().await.expect("a connection");
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    // The probe resets the connection when it has what it wants.
    let _ = connection.await;
}

/// Reads the request, then writes raw bytes, one chunk each 20 ms.
async fn serve_raw(listener: TcpListener, chunks: Vec<Vec<u8>>, hold: bool) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let _ = stream.read(&mut [0; 1024]).await.expect("a request");
    for chunk in chunks {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if stream.write_all(&chunk).await.is_err() {
            return;
        }
    }
    if hold {
        std::future::pending::<()>().await;
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

async fn ask(address: SocketAddr, check: &HttpCheck, timeout: u64) -> Result<(), Miss> {
    let check = Check {
        kind: Kind::Http(check.clone()),
        close: Close::Reset,
        timing: Timing {
            timeout: Duration::from_millis(timeout),
            ..Timing::default()
        },
        ..Check::default()
    };
    let target = ProbeTarget::new(address, &check).expect("a target");
    Prober::default().probe(&target, &[]).await
}

fn check(path: &str, status: &str, body: Option<&str>) -> HttpCheck {
    let status = status.parse().expect("valid");
    HttpCheck {
        path: path.into(),
        status,
        body: body.map(Into::into),
        host: None,
    }
}

#[tokio::test]
async fn answers_are_judged_by_status_and_body() {
    for (check, expected) in [
        (check("/ok", "200-299", None), Ok(())),
        (check("/ok", "200-299", Some("is ok")), Ok(())),
        (check("/edge", "200", Some("ok")), Ok(())),
        (check("/moved", "200,301-302", None), Ok(())),
        (
            check("/broken", "200-299", None),
            Err("http status 503, expected 200-299"),
        ),
        (check("/ok", "200-299", Some("fine")), Err("body lacks \"fine\"")),
        (check("/broken", "503", Some("ok")), Err("body lacks \"ok\"")),
        (
            check("/large", "200", Some("ok")),
            Err("body lacks \"ok\" in its first 64 KiB"),
        ),
    ] {
        let (listener, address) = listen().await;
        let server = tokio::spawn(serve(listener));
        let expected = expected.map_err(|reason: &str| Miss::Failure(reason.into()));
        assert_eq!(ask(address, &check, 2000).await, expected, "{check:?}");
        server.abort();
    }
}

#[tokio::test]
async fn the_request_names_its_host_and_its_sender() {
    for (path, host, port_shown) in [
        ("/host", Some("www.example.org"), false),
        ("/host", None, true),
        ("/agent", None, false),
    ] {
        let (listener, address) = listen().await;
        let server = tokio::spawn(serve(listener));
        let wanted = match (path, host) {
            ("/agent", _) => USER_AGENT.to_owned(),
            (_, Some(host)) => host.to_owned(),
            (_, None) => address.to_string(),
        };
        assert_eq!(port_shown, wanted.contains(':'));
        let check = HttpCheck {
            host: host.map(Into::into),
            ..check(path, "200", Some(&wanted))
        };
        assert_eq!(ask(address, &check, 2000).await, Ok(()));
        server.abort();
    }
}

#[tokio::test]
async fn answers_that_are_none_say_what_was_wrong() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec();
    let drip = || {
        std::iter::once(head.clone())
            .chain(std::iter::repeat_n(b"x".to_vec(), 1000))
            .collect()
    };
    let body = || check("/", "200", Some("ok"));
    let closed = "http: the backend closed the connection before a complete answer";
    for (name, chunks, hold, check, expected) in [
        (
            "silence",
            vec![],
            true,
            check("/", "200", None),
            Err("timeout after 300ms: no complete answer"),
        ),
        (
            "slow loris",
            drip(),
            true,
            body(),
            Err("timeout after 300ms: no complete answer"),
        ),
        (
            "slow loris, body not asked for",
            drip(),
            true,
            check("/", "200", None),
            Ok(()),
        ),
        (
            "text before the end",
            vec![head.clone(), b"o".to_vec(), b"k".to_vec()],
            true,
            body(),
            Ok(()),
        ),
        ("early end", vec![], false, check("/", "200", None), Err(closed)),
        (
            "early end of the body",
            vec![head.clone(), b"x".to_vec()],
            false,
            body(),
            Err("http: the backend closed"),
        ),
        (
            "not HTTP",
            vec![b"220 mail ready\r\n".to_vec()],
            true,
            check("/", "200", None),
            Err("http: the answer is not HTTP/1.1"),
        ),
        (
            "endless head",
            vec![[b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'a'; 200_000]].concat()],
            true,
            check("/", "200", None),
            Err("http: the answer's head exceeds 64 KiB"),
        ),
    ] {
        let (listener, address) = listen().await;
        let server = tokio::spawn(serve_raw(listener, chunks, hold));
        match (ask(address, &check, 300).await, expected) {
            (Ok(()), Ok(())) => {}
            (Err(Miss::Failure(reason)), Err(start)) => {
                assert!(reason.starts_with(start), "{name}: {reason}");
            }
            (found, _) => panic!("{name}: {found:?}"),
        }
        server.abort();
    }
}

#[tokio::test]
async fn a_refused_connection_is_told_as_such() {
    let (listener, address) = listen().await;
    drop(listener);
    let refused = Miss::Failure("connect: connection refused".into());
    assert_eq!(ask(address, &check("/", "200", None), 1000).await, Err(refused));
}
