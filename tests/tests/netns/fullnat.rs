//! `fullnat` with real traffic: in both families, beyond the agent's death, until no port is free, and as ports get free.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use aya::maps::{Array, Map, MapData};
use hyper::{Request, body::Bytes};
use lb_api::view::SourceView;
use lb_common::abi::map;
use lb_lab::{
    Forwarder, Lab, LabOptions, Mtu, Netlink, NextHop, Route,
    traffic::{
        echo::{self, EchoOptions, Echoes},
        http,
        load::Load,
        udp,
    },
};
use socket2::SockRef;

use super::support::{
    HeldConnections, LIMIT, NO_CHECK, PORT, Rig, SILENCE, Service, backend_addresses, get, patient_load,
    requests, shares, wait_until,
};

/// Backends answer to the balancer's own address, so that no route of theirs tells them how large clients take packets.
const MTU: u32 = 1500;
const MEGABYTES: usize = 1 << 20;
const LARGE: usize = 10 * MEGABYTES;

fn lab(backends: usize) -> Lab {
    let mtu = Mtu {
        client: MTU,
        balancer: MTU,
        backend: MTU,
    };
    Lab::new(LabOptions {
        backends,
        mtu,
        ..LabOptions::new(Forwarder::Fullnat)
    })
    .unwrap()
}

/// The dataplane's part of the file: the balancer's own addresses, and these ports.
pub(crate) fn pool(lab: &Lab, ports: &str) -> String {
    let addresses = lab
        .options()
        .vips
        .iter()
        .map(|&vip| lab.balancer.address_like(vip));
    let addresses: Vec<String> = addresses.map(|address| format!("\"{address}\"")).collect();
    format!(
        "[dataplane]\nfullnat_addresses = [{}]\nfullnat_ports = \"{ports}\"\n\n",
        addresses.join(", ")
    )
}

/// A TCP service of both families on the first VIP of each.
fn web(lab: &Lab, ports: &str) -> String {
    let vips = &lab.options().vips;
    let backends: Vec<IpAddr> = vips.iter().flat_map(|&vip| backend_addresses(lab, vip)).collect();
    pool(lab, ports)
        + &Service::new(Forwarder::Fullnat, vips)
            .backends(&backends)
            .to_string()
}

fn source(rig: &Rig, like: IpAddr) -> SourceView {
    let sources = rig.agent.status().unwrap().fullnat_sources;
    let address = rig.lab.balancer.address_like(like);
    sources
        .into_iter()
        .find(|source| source.address == address)
        .unwrap()
}

#[test]
fn fullnat_carries_everything_in_both_families() {
    let lab = lab(2);
    let vips = lab.options().vips.clone();
    let backends: Vec<IpAddr> = vips
        .iter()
        .flat_map(|&vip| backend_addresses(&lab, vip))
        .collect();
    let echo = Service::new(Forwarder::Fullnat, &vips)
        .text("name", "echo")
        .text("protocol", "udp")
        .backends(&backends);
    let config = web(&lab, "1024-32767") + &echo.to_string();
    let rig = Rig::new(lab, &config);
    let client = &rig.client().namespace;
    for &vip in &vips {
        let target = SocketAddr::new(vip, PORT);
        let shares = requests(rig.client(), target, 60);
        assert_eq!(shares.len(), 2, "{target}: {shares:?}");
        let download = get(&format!("/big?bytes={LARGE}"));
        let answer = http::fetch(client, target, download, LIMIT).unwrap();
        assert_eq!(answer.body().len(), LARGE, "{target}");
        let upload = Request::post("/").header("host", "lab");
        let upload = upload.body(Bytes::from(vec![7; LARGE]).into()).unwrap();
        let answer = http::fetch(client, target, upload, LIMIT).unwrap();
        assert_eq!(answer.body(), LARGE.to_string().as_bytes(), "{target}");
        // In one packet, and in fragments.
        for length in [100, 8_000] {
            let data = vec![b'x'; length];
            let answer = udp::ask(client, target, &data, LIMIT).unwrap();
            assert!(answer.ends_with(&data), "{target}: {} bytes", answer.len());
        }
    }
    assert_eq!(rig.drops(), []);
}

#[test]
fn backends_that_there_is_no_address_for_are_refused() {
    const KEY: &str = "`fullnat_addresses` of [dataplane]";
    let lab = lab(2);
    let vip = lab.options().vips[0];
    let [first, second] = backend_addresses(&lab, vip)[..] else {
        panic!("two backends")
    };
    let (first, second) = (first.to_string(), second.to_string());
    let vip = vip.to_string();
    let with_pool = pool(&lab, "1024-32767");
    let mut rig = Rig::on_ports(lab, &"", &[PORT]);
    let add = |forwarder| {
        let to = [
            "--vip",
            &vip,
            "--protocol",
            "tcp",
            "--port",
            "80",
            "--forwarder",
            forwarder,
        ];
        [&["service", "add", "web"], &to[..], &["--backend", &first]].concat()
    };
    let refused = |rig: &Rig, arguments: &[&str]| {
        let planned = [&["plan"], arguments].concat();
        for arguments in [arguments, &planned] {
            let error = rig.lb_refuses(2, arguments);
            assert!(
                error.contains(KEY) && error.contains("backend 10.0.0.1"),
                "{error}"
            );
        }
    };
    refused(&rig, &add("fullnat"));
    rig.lb(&add("l2dsr"));
    refused(&rig, &["service", "set", "web", "--forwarder", "fullnat"]);
    refused(
        &rig,
        &["backend", "add", "web", &second, "--forwarder", "fullnat"],
    );
    refused(&rig, &["backend", "set", "web", &first, "--forwarder", "fullnat"]);
    rig.lb(&["service", "remove", "web"]);
    // With addresses it can be, and it stays when they are gone: it can be mended by the next start.
    rig.write_config(&with_pool);
    rig.agent.kill().unwrap();
    rig.agent.start_again().unwrap();
    rig.lb(&add("fullnat"));
    rig.wait_until_all_up();
    rig.agent.options().config = None;
    rig.agent.kill().unwrap();
    rig.agent.start_again().unwrap();
    let warnings = rig.agent.status().unwrap().warnings;
    assert!(
        warnings.iter().any(|warning| warning.contains(KEY)),
        "{warnings:?}"
    );
    rig.lb(&["backend", "set", "web", &first, "--weight", "3"]);
}

#[test]
fn flows_outlive_the_agent() {
    const FLOWS: u32 = 200;
    let lab = lab(3);
    let vip = lab.options().vips[0];
    let service = Service::new(Forwarder::Fullnat, &[vip])
        .key("port", echo::PORT)
        .backends(&backend_addresses(&lab, vip));
    let config = pool(&lab, "1024-32767") + &service.to_string();
    let mut rig = Rig::on_ports(lab, &config, &[PORT, echo::PORT]);
    rig.wait_until_all_up();
    let target = SocketAddr::new(vip, echo::PORT);
    let echoes = Echoes::start(&rig.client().namespace, EchoOptions::new(target, FLOWS)).unwrap();
    let all_live = || {
        let connections = echoes.connections();
        connections.iter().filter(|connection| connection.lives()).count() == FLOWS as usize
    };
    wait_until("all connections echo", all_live);
    for _ in 0..3 {
        rig.agent.kill().unwrap();
        rig.agent.start_again().unwrap();
        wait_until("the flows are counted", || {
            source(&rig, vip).flows == u64::from(FLOWS)
        });
    }
    let answers = |echoes: &Echoes| -> Vec<u64> {
        echoes
            .connections()
            .iter()
            .map(|connection| connection.echoes)
            .collect()
    };
    let before = answers(&echoes);
    wait_until("all connections go on", || {
        answers(&echoes).iter().zip(&before).all(|(now, then)| now > then)
    });
    let broken = echoes
        .connections()
        .into_iter()
        .find(|connection| connection.broken().is_some());
    assert!(broken.is_none(), "{broken:?}");
    echoes.stop().unwrap();
}

/// Looks at the pools of a dataplane until told to stop: how many looks, and how many that found one without addresses.
fn watch_pools(pins: &Path, stop: &AtomicBool) -> (u64, u64) {
    let map = MapData::from_pin(pins.join("maps").join(map::SOURCE_POOLS)).unwrap();
    let pools: Array<MapData, [u32; 4]> = Map::Array(map).try_into().unwrap();
    let (mut looks, mut empty) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        for index in 0..2 {
            let [_, addresses, _, ports] = pools.get(&index, 0).unwrap();
            looks += 1;
            empty += u64::from(addresses == 0 || ports == 0);
        }
    }
    (looks, empty)
}

#[test]
fn new_flows_find_places_while_agents_start() {
    const RESTARTS: usize = 10;
    let lab = lab(2);
    let target = SocketAddr::new(lab.options().vips[0], PORT);
    let (config, other) = (web(&lab, "1024-32767"), web(&lab, "2000-40000"));
    let mut rig = Rig::new(lab, &config);
    let load = Load::start(&rig.client().namespace, patient_load(target)).unwrap();
    wait_until("the load runs", || load.records_from(0).len() > 50);
    let (stop, pins) = (AtomicBool::new(false), rig.agent.pins().pin_dir());
    let (looks, empty) = thread::scope(|scope| {
        let watched = scope.spawn(|| watch_pools(&pins, &stop));
        for restart in 0..RESTARTS {
            // Once, with other ports.
            if restart == RESTARTS / 2 {
                rig.write_config(&other);
            }
            rig.agent.kill().unwrap();
            rig.agent.start_again().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        watched.join().unwrap()
    });
    let requests = shares(&load.stop().unwrap());
    println!("{requests:?}, {looks} looks at the pools, {empty} empty ones");
    assert!(looks > 1000, "{looks} looks");
    assert_eq!(empty, 0, "of {looks} looks");
    assert_eq!(rig.count("no-source-port"), 0);
}

/// So many addresses that writing them anew takes far longer than a look.
#[test]
fn large_pools_are_never_empty_while_agents_start() {
    const RESTARTS: usize = 5;
    let list = (0..120_u8).flat_map(|host| [format!("\"10.7.0.{host}\""), format!("\"fd07::{host}\"")]);
    let config = |ports: &str| {
        let addresses: Vec<String> = list.clone().collect();
        format!(
            "[dataplane]\nfullnat_addresses = [{}]\nfullnat_ports = \"{ports}\"\n",
            addresses.join(", ")
        )
    };
    let mut rig = Rig::on_ports(lab(1), &config("1024-32767"), &[]);
    let (stop, pins) = (AtomicBool::new(false), rig.agent.pins().pin_dir());
    let (looks, empty) = thread::scope(|scope| {
        let watched = scope.spawn(|| watch_pools(&pins, &stop));
        for restart in 0..RESTARTS {
            rig.write_config(&config(&format!("{}-32767", 1024 + restart)));
            rig.agent.kill().unwrap();
            rig.agent.start_again().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        watched.join().unwrap()
    });
    assert!(looks > 1000, "{looks} looks");
    assert_eq!(empty, 0, "of {looks} looks");
}

/// Whether a connection is answered within [`SILENCE`].
fn connects(rig: &Rig, target: SocketAddr) -> bool {
    let connect = || TcpStream::connect_timeout(&target, SILENCE).is_ok();
    rig.client().namespace.run(connect).unwrap()
}

#[test]
fn ports_run_out_and_get_free_again() {
    const PORTS: usize = 8;
    let lab = lab(1);
    let config = web(&lab, "5001-5008");
    let rig = Rig::new(lab, &config);
    for &vip in &rig.lab.options().vips {
        let target = SocketAddr::new(vip, PORT);
        let before = rig.count("no-source-port-answered");
        let connect =
            || -> Vec<TcpStream> { (0..PORTS).map(|_| TcpStream::connect(target).unwrap()).collect() };
        let held = rig.client().namespace.run(connect).unwrap();
        wait_until("all ports are in use", || {
            let source = source(&rig, vip);
            (source.used, source.total, source.flows) == (8, 8, 8)
        });
        let connect = || TcpStream::connect_timeout(&target, LIMIT).map_err(|error| error.kind());
        let refused = rig.client().namespace.run(connect).unwrap().err();
        assert_eq!(
            refused,
            Some(ErrorKind::ConnectionRefused),
            "{target}: all ports are in use"
        );
        assert!(rig.count("no-source-port-answered") > before);
        let warnings = rig.agent.status().unwrap().warnings;
        assert!(
            warnings.iter().any(|warning| warning.contains("8 of 8 ports")),
            "{warnings:?}"
        );
        let status = rig.lb(&["status"]);
        assert!(status.contains("8 of 8 ports in use"), "{status}");
        // Reset: the ports of connections that were closed are kept from others for a minute.
        for stream in &held {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(held);
        wait_until("the ports are free", || source(&rig, vip).flows == 0);
        assert!(connects(&rig, target), "{target}: ports are free again");
    }
}

/// Of a pool of 31,744 ports, 2,540 are free: a packet finds none of them with 32 looks in 7 of 100 tries, and each further
/// try of a client looks elsewhere.
#[test]
fn clients_find_the_last_free_ports_of_a_large_pool() {
    const USED: u16 = 29_204;
    const NEW: u16 = 500;
    const TRIES: usize = 7;
    let lab = lab(1);
    let vip = lab.options().vips[0];
    let service = Service::new(Forwarder::Fullnat, &[vip])
        .text("protocol", "udp")
        .text("idle", "1h")
        .key("check", NO_CHECK)
        .backends(&backend_addresses(&lab, vip));
    let config = pool(&lab, "1024-32767") + &service.to_string();
    let rig = Rig::new(lab, &config);
    let (client, target) = (rig.client(), SocketAddr::new(vip, PORT));
    // The tries that it takes until an answer comes; `None` without one.
    let ask = |port: u16, patience: Duration| {
        let socket = UdpSocket::bind(SocketAddr::new(client.address_like(vip), port)).unwrap();
        socket.connect(target).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        (1..=TRIES).find(|_| {
            socket.send(b"anybody?").unwrap();
            socket.recv(&mut [0; 64]).is_ok()
        })
    };
    let first = 2_000;
    let (used, tries) = client
        .namespace
        .run(|| {
            let quick = Duration::from_millis(100);
            let used = (first..first + USED)
                .filter(|&port| ask(port, quick).is_some())
                .count();
            let new = first + USED..first + USED + NEW;
            (used, new.map(|port| ask(port, quick)).collect::<Vec<_>>())
        })
        .unwrap();
    assert_eq!(used, usize::from(USED));
    let count = |wanted: Option<usize>| tries.iter().filter(|tries| **tries == wanted).count();
    assert_eq!(count(None), 0, "{tries:?}");
    assert!(count(Some(1)) < tries.len(), "the pool is as good as empty");
}

#[test]
fn a_backend_that_is_removed_leaves_its_ports_free() {
    let lab = lab(2);
    let vip = lab.options().vips[0];
    let config = web(&lab, "1024-32767");
    let rig = Rig::new(lab, &config);
    let target = SocketAddr::new(vip, PORT);
    let mut held = HeldConnections::open(rig.client(), target, 40);
    wait_until("the flows are counted", || source(&rig, vip).flows == 40);
    let gone = rig.lab.backends[1].address_like(vip);
    rig.lb(&["backend", "remove", "web", &gone.to_string(), "--now"]);
    let left = held.ask().iter().filter(|answer| answer.is_ok()).count() as u64;
    assert!(
        (1..40).contains(&left),
        "{left} connections are the other backend's"
    );
    wait_until("its flows are released", || source(&rig, vip).flows == left);
}

/// A way to a backend that carries less than before, beside the one that was there.
fn narrow_way(rig: &Rig, backend: IpAddr) {
    let balancer = &rig.lab.balancer;
    let route = Route {
        destination: backend,
        prefix: if backend.is_ipv4() { 32 } else { 128 },
        next: NextHop::On(balancer.interface()),
        mtu: Some(MTU - 100),
    };
    let add = async |netlink: &Netlink| netlink.add_route(&route).await;
    balancer.namespace.netlink(add).unwrap();
}

#[test]
fn flows_outlive_another_way_to_their_backend() {
    const FLOWS: usize = 40;
    const ROUNDS: usize = 3;
    // So many that there is room in the tables beside those that are used.
    let lab = lab(4);
    let config = web(&lab, "1024-32767");
    let rig = Rig::new(lab, &config);
    for &vip in &rig.lab.options().vips {
        let target = SocketAddr::new(vip, PORT);
        let mut held = HeldConnections::open(rig.client(), target, FLOWS);
        let before = held.ask();
        assert!(before.iter().all(Result::is_ok), "{before:?}");
        for backend in 0..2 {
            let name = &rig.lab.backends[backend].name;
            let its = before
                .iter()
                .position(|answer| answer.as_ref() == Ok(name))
                .unwrap();
            let port = held.ports()[its];
            narrow_way(&rig, rig.lab.backends[backend].address_like(vip));
            wait_until("packets of a flow take the new way", || {
                let largest = rig.explain_tcp_of(port, target, Some(MTU as u16));
                largest.reason == "too-big-answered"
            });
            for _ in 0..ROUNDS {
                assert_eq!(held.ask(), before, "{target}: same connections, same backends");
                // Beyond the next sweeps, which give the old place away.
                thread::sleep(Duration::from_millis(1100));
            }
        }
        wait_until("the flows are counted", || {
            source(&rig, vip).flows == FLOWS as u64
        });
    }
}
