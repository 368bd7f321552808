//! No connection breaks: not by a planned change, not by the agent's death, not by a new program.
//!
//! Many connections echo all the time, and each is followed from its opening to its end. The service is on the echo
//! port; its check asks the HTTP port, so that what arrives at the echo port is the clients' alone.

mod steady;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use lb_tests::{
    lab::Forwarder,
    traffic::echo::{self, Connection, EchoOptions, Echoes},
};

use super::support::{PORT, Rig, Service, backend_addresses, lab, wait_until};

/// A lab with echo servers, and the service `web` on all of them.
struct Stage {
    rig: Rig,
    target: SocketAddr,
    addresses: Vec<IpAddr>,
    service: Service,
}

impl Stage {
    /// `v6` chooses the VIP and the backends' addresses; `keys` may change the service, which has no backends yet.
    fn new(forwarder: Forwarder, v6: bool, backends: usize, keys: impl FnOnce(Service) -> Service) -> Self {
        let lab = lab(forwarder, backends);
        let vip = lab.options().vips[usize::from(v6)];
        let addresses = backend_addresses(&lab, vip);
        let service = keys(Service::new(forwarder, &[vip]).key("port", echo::PORT));
        let config = service.clone().backends(&addresses);
        let rig = Rig::on_ports(lab, &config, &[PORT, echo::PORT]);
        rig.wait_until_all_up();
        Self {
            rig,
            target: SocketAddr::new(vip, echo::PORT),
            addresses,
            service,
        }
    }

    /// Opens `count` connections that stay, and waits until all echo.
    fn hold(&self, count: u32) -> Echoes {
        let echoes = self.echo(EchoOptions::new(self.target, count));
        wait_until("all connections echo", || {
            let connections = echoes.connections();
            connections.iter().filter(|connection| connection.lives()).count() == count as usize
        });
        echoes
    }

    fn echo(&self, options: EchoOptions) -> Echoes {
        Echoes::start(&self.rig.client().namespace, options).unwrap()
    }
}

/// How many connections have had answers from each server.
fn by_server(connections: &[Connection]) -> BTreeMap<Arc<str>, usize> {
    let mut servers = BTreeMap::new();
    for server in connections
        .iter()
        .filter_map(|connection| connection.server.clone())
    {
        *servers.entry(server).or_default() += 1;
    }
    servers
}

/// No connection has broken, and each that has not ended in good order has gone on.
fn expect_unbroken(connections: &[Connection]) {
    let broken: Vec<String> = connections
        .iter()
        .filter_map(|connection| {
            let (when, how) = connection.broken()?;
            let age = when - connection.opened;
            Some(format!(
                "{:?} from port {:?} after {age:?} and {} echoes: {how}",
                connection.server, connection.port, connection.echoes
            ))
        })
        .collect();
    assert!(
        broken.is_empty(),
        "{} of {} connections broke:\n{}",
        broken.len(),
        connections.len(),
        broken[..broken.len().min(20)].join("\n")
    );
}
