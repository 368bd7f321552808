//! Checks that are lost while the hosts live: connections are there again when the checks are.
//!
//! Each backend answers checks by a server of its own, which is killed and started again; what serves clients goes on
//! all the time.

use std::net::{IpAddr, SocketAddr};

use lb_api::view::BackendState;
use lb_lab::{Forwarder, Host, traffic::server::Server};

use super::support::{HeldConnections, PORT, Rig, Service, backend_addresses, lab};

const CONNECTIONS: usize = 100;
const CHECK_PORT: u16 = 8080;
const CHECK: &str = r#"{ type = "tcp", port = 8080, interval = "200ms", fast_interval = "50ms", timeout = "3s", rise = 2, fall = 2 }"#;

struct Outage {
    rig: Rig,
    target: SocketAddr,
    addresses: Vec<IpAddr>,
    checked: Vec<Option<Server>>,
}

impl Outage {
    fn new(forwarder: Forwarder, v6: bool, backends: usize) -> Self {
        let lab = lab(forwarder, backends);
        let vip = lab.options().vips[usize::from(v6)];
        let addresses = backend_addresses(&lab, vip);
        let service = Service::new(forwarder, &[vip])
            .key("check", CHECK)
            .backends(&addresses);
        let rig = Rig::on_ports(lab, &service, &[PORT]);
        let checked = rig.lab.backends.iter().map(|host| Some(check_server(host, &rig)));
        let checked = checked.collect();
        rig.wait_until_all_up();
        Self {
            rig,
            target: SocketAddr::new(vip, PORT),
            addresses,
            checked,
        }
    }

    fn hold(&self) -> HeldConnections {
        HeldConnections::open(self.rig.client(), self.target, CONNECTIONS)
    }

    fn lose(&mut self, backends: &[usize]) {
        for backend in backends {
            let mut server = self.checked[*backend].take().unwrap();
            assert!(server.process().kill().unwrap(), "the server had ended by itself");
            self.rig
                .wait_for_state("web", self.addresses[*backend], BackendState::Down);
        }
    }

    fn find(&mut self, backends: &[usize]) {
        for backend in backends {
            self.checked[*backend] = Some(check_server(&self.rig.lab.backends[*backend], &self.rig));
            self.rig
                .wait_for_state("web", self.addresses[*backend], BackendState::Up);
        }
    }
}

fn check_server(host: &Host, rig: &Rig) -> Server {
    let listen = rig.lab.listen_addresses(host, CHECK_PORT);
    Server::start(&host.namespace, &host.name, &listen).unwrap()
}

/// How many of the connections are answered by another backend than before, or not at all.
fn broken(held: &mut HeldConnections, before: &[Result<String, String>]) -> usize {
    let now = held.ask();
    now.iter()
        .zip(before)
        .filter(|(now, before)| now != before)
        .count()
}

#[test]
fn all_backends_out_and_back_break_nothing() {
    for (forwarder, v6, backends) in [(Forwarder::L2dsr, false, 3), (Forwarder::Ipip, true, 5)] {
        let mut outage = Outage::new(forwarder, v6, backends);
        let mut held = outage.hold();
        let before = held.ask();
        assert!(before.iter().all(Result::is_ok), "{before:?}");
        let all: Vec<usize> = (0..backends).collect();
        let turned: Vec<usize> = (1..backends).chain([0]).collect();
        for (restart, back) in [(false, &turned), (true, &all)] {
            outage.lose(&all);
            assert_eq!(
                outage.rig.explain_tcp(held.ports()[0], outage.target).reason,
                "no-backend"
            );
            if restart {
                outage.rig.agent.kill().unwrap();
                outage.rig.agent.start_again().unwrap();
            }
            outage.find(back);
            assert_eq!(broken(&mut held, &before), 0, "of {CONNECTIONS}");
        }
    }
}

#[test]
fn one_backend_out_and_back_breaks_nothing() {
    let mut outage = Outage::new(Forwarder::L2dsr, false, 3);
    let mut held = outage.hold();
    let before = held.ask();
    outage.lose(&[1]);
    // Whoever comes meanwhile stays where it is when the backend is back, and those who were silent are back with it.
    let mut newer = outage.hold();
    let newer_before = newer.ask();
    assert!(
        newer_before
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|name| name != "backend-2")),
        "{newer_before:?}"
    );
    outage.find(&[1]);
    assert_eq!(broken(&mut held, &before), 0, "of {CONNECTIONS} from before");
    assert_eq!(
        broken(&mut newer, &newer_before),
        0,
        "of {CONNECTIONS} from meanwhile"
    );
}
