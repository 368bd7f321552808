//! Servers and clients reach each other, and count what they do.

use std::{collections::BTreeSet, net::SocketAddr};

use hyper::{Request, body::Bytes};
use lb_lab::{
    Forwarder,
    traffic::{
        http,
        load::{Connections, Failure, Load, LoadOptions},
        udp,
    },
};

use super::{PORT, SECOND, get, lab, serve, wait_until};

#[test]
fn hosts_talk_http_and_udp_in_both_families() {
    for forwarder in [Forwarder::L2dsr, Forwarder::Ipip, Forwarder::Nat] {
        let lab = lab(forwarder, 2);
        let servers: Vec<_> = lab.backends.iter().map(|backend| serve(&lab, backend)).collect();
        let client = &lab.clients[0].namespace;
        for backend in &lab.backends {
            for address in [backend.ipv4, backend.ipv6] {
                let target = SocketAddr::new(address, PORT);
                let answer = http::fetch(client, target, get("/"), SECOND).unwrap();
                assert_eq!(
                    http::backend_of(&answer),
                    Some(backend.name.as_str()),
                    "{forwarder:?} {target}"
                );
                let echo = udp::ask(client, target, b"hello", SECOND).unwrap();
                assert_eq!(
                    echo,
                    format!("{} hello", backend.name).into_bytes(),
                    "{forwarder:?} {target}"
                );
            }
        }
        for server in servers {
            assert_eq!(
                server.stats().unwrap().requests,
                2,
                "one over IPv4, one over IPv6"
            );
        }
    }
}

#[test]
fn server_sends_and_counts_bodies() {
    let lab = lab(Forwarder::L2dsr, 1);
    let server = serve(&lab, &lab.backends[0]);
    let client = &lab.clients[0].namespace;
    let target = SocketAddr::new(lab.backends[0].ipv4, PORT);
    let big = http::fetch(client, target, get("/big?bytes=1000001"), 10 * SECOND).unwrap();
    assert_eq!(big.body().len(), 1_000_001);
    let upload = Request::post("/")
        .header("host", "lab")
        .body(Bytes::from(vec![7; 300_000]).into())
        .unwrap();
    let answer = http::fetch(client, target, upload, 10 * SECOND).unwrap();
    assert_eq!(answer.body(), "300000");
    assert_eq!(server.stats().unwrap().uploaded, 300_000);
    assert_eq!(
        http::fetch(client, target, get("/health"), SECOND)
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        http::fetch(client, target, get("/nothing"), SECOND)
            .unwrap()
            .status(),
        404
    );
    assert_eq!(
        http::fetch(client, target, get("/big?bytes=all"), SECOND)
            .unwrap()
            .status(),
        400
    );
}

#[test]
fn load_records_every_request_and_every_failure() {
    let lab = lab(Forwarder::L2dsr, 1);
    let mut server = serve(&lab, &lab.backends[0]);
    let client = &lab.clients[0].namespace;
    let target = SocketAddr::new(lab.backends[0].ipv6, PORT);

    let records = Load::start(client, LoadOptions::new(target, 500, 100))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(records.len(), 100);
    assert!(
        records
            .iter()
            .all(|record| record.outcome == Ok("backend-1".into())),
        "{records:?}"
    );
    let stats = server.stats().unwrap();
    assert_eq!(
        (stats.requests, stats.connections),
        (100, 101),
        "a connection a request, and the one that asks"
    );

    let options = LoadOptions {
        connections: Connections::LongLived(3),
        ..LoadOptions::new(target, 500, 100)
    };
    let records = Load::start(client, options.clone()).unwrap().wait().unwrap();
    let connections: BTreeSet<_> = records.iter().map(|record| record.connection).collect();
    assert_eq!((records.len(), connections.len()), (100, 3));
    let stats = server.stats().unwrap();
    assert_eq!(
        (stats.requests, stats.connections),
        (201, 105),
        "three connections, and the one that asks"
    );

    let endless = LoadOptions {
        requests: u64::MAX,
        ..options
    };
    let load = Load::start(client, endless).unwrap();
    wait_until("the long-lived connections answer", || {
        load.records_from(0).len() >= 6
    });
    assert!(server.process().kill().unwrap());
    let records = load.wait().unwrap();
    let failures: Vec<_> = records
        .iter()
        .filter_map(|record| record.outcome.as_ref().err())
        .collect();
    assert_eq!(
        failures.len(),
        3,
        "each connection breaks once and ends: {failures:?}"
    );

    let records = Load::start(client, LoadOptions::new(target, 500, 5))
        .unwrap()
        .wait()
        .unwrap();
    assert!(
        records
            .iter()
            .all(|record| record.outcome == Err(Failure::Refused)),
        "{records:?}"
    );
}
