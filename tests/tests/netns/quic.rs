//! QUIC connections stay with their backend wherever their client moves, because their connection IDs name it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use lb_api::view::ConnectionIdsView;
use lb_core::desired::{QuicConfig, ServerId};
use lb_lab::{
    Forwarder, Lab,
    traffic::quic::{ConnectionIds, Identity, QuicClients, QuicServer},
};

use super::support::{NO_CHECK, Rig, Service, backend_addresses, lab};

const PORT: u16 = 443;
const BACKENDS: usize = 3;
/// Of so many connections some come to another backend by chance when nothing keeps them: all but 1 of 3¹².
const CONNECTIONS: usize = 12;
/// How long anything may take on a busy machine, and how soon a connection notices that it is lost.
const LIMIT: Duration = Duration::from_secs(10);
/// Another address of the client.
const ELSEWHERE: &str = "10.1.0.200";
const KEY: &str = "8f95f09245765f80256934e50c66207f";
const OTHER_KEY: &str = "fdf726a9893ec05c0632d3956680baf0";

/// A configuration with server IDs of four bytes.
fn config(id: u8, nonce_length: u8, key: Option<&str>) -> QuicConfig {
    QuicConfig {
        id,
        server_id_length: 4,
        nonce_length,
        key: key.map(|key| key.parse().unwrap()),
    }
}

fn server_id(backend: usize) -> ServerId {
    format!("{:08x}", 0x00c0_ffee + backend).parse().unwrap()
}

/// `quic` of a service, as TOML.
fn toml(configs: &[QuicConfig]) -> String {
    let config = |config: &QuicConfig| {
        let key = config.key.map(|key| format!(", key = \"{}\"", String::from(key)));
        format!(
            "{{ id = {}, server_id_length = {}, nonce_length = {}{} }}",
            config.id,
            config.server_id_length,
            config.nonce_length,
            key.unwrap_or_default()
        )
    };
    let configs: Vec<String> = configs.iter().map(config).collect();
    format!("{{ configs = [{}] }}", configs.join(", "))
}

/// A lab with a QUIC server on every backend, and a service for them.
struct Stage {
    rig: Rig,
    target: SocketAddr,
    service: Service,
    ids: Vec<ConnectionIds>,
    identity: Identity,
    _servers: Vec<QuicServer>,
}

impl Stage {
    /// Servers make connection IDs by the first of `configs`; the balancer knows `known` of them.
    fn new(
        forwarder: Forwarder,
        configs: &[QuicConfig],
        known: &[QuicConfig],
        lifetime: Option<Duration>,
    ) -> Self {
        let lab = lab(forwarder, BACKENDS);
        let vip = lab.options().vips[0];
        let target = SocketAddr::new(vip, PORT);
        let client = &lab.clients[0].namespace;
        client
            .netlink(async |netlink| netlink.add_address("eth0", ELSEWHERE.parse()?, 24).await)
            .unwrap();
        greet(&lab);
        let identity = Identity::new().unwrap();
        let ids: Vec<ConnectionIds> = (0..BACKENDS)
            .map(|i| ConnectionIds::new(server_id(i), configs[0].clone(), lifetime))
            .collect();
        let servers = lab.backends.iter().zip(&ids).map(|(host, ids)| {
            let listen = if forwarder == Forwarder::Nat {
                host.address_like(vip)
            } else {
                vip
            };
            let listen = SocketAddr::new(listen, PORT);
            QuicServer::start(&host.namespace, &host.name, listen, &identity, Some(ids.clone())).unwrap()
        });
        let servers = servers.collect();
        let addresses = backend_addresses(&lab, vip);
        let service = Service::new(forwarder, &[vip])
            .text("protocol", "udp")
            .key("port", PORT)
            .key("check", NO_CHECK);
        let service = addresses
            .iter()
            .enumerate()
            .fold(service, |service, (i, address)| {
                service.backend_with(*address, &format!(", server_id = \"{}\"", server_id(i)))
            });
        let rig = Rig::on_ports(lab, &Self::knowing(&service, known), &[]);
        rig.wait_until_all_up();
        Self {
            rig,
            target,
            service,
            ids,
            identity,
            _servers: servers,
        }
    }

    fn knowing(service: &Service, configs: &[QuicConfig]) -> Service {
        if configs.is_empty() {
            return service.clone();
        }
        service.clone().key("quic", toml(configs))
    }

    /// Has the balancer know other configurations.
    fn reload(&self, known: &[QuicConfig]) {
        self.rig.write_config(&Self::knowing(&self.service, known));
        self.rig.lb(&["reload"]);
    }

    fn rotate(&self, config: &QuicConfig) {
        self.ids.iter().for_each(|ids| ids.rotate(config.clone()));
    }

    fn open(&self) -> QuicClients {
        let client = self.rig.client();
        let from = client.address_like(self.target.ip());
        let namespace = &client.namespace;
        QuicClients::open(namespace, from, self.target, &self.identity, CONNECTIONS, LIMIT).unwrap()
    }

    /// The client's other address, then its first one, each time with other ports.
    fn moves(&self) -> [IpAddr; 3] {
        let home = self.rig.client().address_like(self.target.ip());
        let elsewhere = ELSEWHERE.parse().unwrap();
        [home, elsewhere, home]
    }

    fn counted(&self) -> ConnectionIdsView {
        self.rig.agent.stats().unwrap().services[0].connection_ids
    }
}

/// Lets the balancer's host learn where the client's addresses are: `nat` sends answers there, and does not ask.
fn greet(lab: &Lab) {
    let client = &lab.clients[0];
    for address in [client.ipv4, ELSEWHERE.parse().unwrap()] {
        let bind = || UdpSocket::bind((address, 0)).unwrap();
        let socket = client.namespace.run(bind).unwrap();
        // Nobody listens there, so that the host answers.
        socket.send_to(b"hello", ("10.1.0.1", 9)).unwrap();
    }
}

/// Who answers each connection; all must be answered.
fn answers(clients: &QuicClients) -> Vec<String> {
    let answers = clients.ask().into_iter().enumerate();
    answers
        .map(|(i, answer)| answer.unwrap_or_else(|error| panic!("connection {i}: {error:#}")))
        .collect()
}

fn connections_keep_their_backend(forwarder: Forwarder, config: &QuicConfig) {
    let configs = std::slice::from_ref(config);
    let stage = Stage::new(forwarder, configs, configs, None);
    let clients = stage.open();
    let first = answers(&clients);
    assert!(
        first.iter().collect::<BTreeSet<_>>().len() > 1,
        "one server has them all: {first:?}"
    );
    for address in stage.moves() {
        let before = stage.counted();
        clients.move_to(address).unwrap();
        assert_eq!(answers(&clients), first, "moved to {address}");
        let ConnectionIdsView { routed, unroutable } = stage.counted();
        assert!(
            routed >= before.routed + CONNECTIONS as u64,
            "{routed} after {before:?}"
        );
        assert_eq!(
            unroutable, before.unroutable,
            "all have connection IDs that name a server"
        );
    }
}

#[test]
fn plaintext_connection_ids_keep_connections_with_their_backend() {
    connections_keep_their_backend(Forwarder::L2dsr, &config(0, 12, None));
}

#[test]
fn single_pass_connection_ids_keep_connections_with_their_backend() {
    connections_keep_their_backend(Forwarder::Ipip, &config(3, 12, Some(KEY)));
}

#[test]
fn four_pass_connection_ids_keep_connections_with_their_backend() {
    connections_keep_their_backend(Forwarder::L2dsr, &config(6, 9, Some(KEY)));
}

#[test]
fn connections_through_nat_keep_their_backend() {
    connections_keep_their_backend(Forwarder::Nat, &config(1, 12, Some(KEY)));
}

#[test]
fn lb_explain_tells_whom_a_connection_id_names() {
    let known = [config(2, 12, None)];
    let stage = Stage::new(Forwarder::L2dsr, &known, &known, None);
    let vip = stage.target.to_string();
    for (i, backend) in backend_addresses(&stage.rig.lab, stage.target.ip())
        .iter()
        .enumerate()
    {
        // The configuration's number in the first three bits, 16 bytes to follow; a nonce of twelve.
        let id = format!("50{}{}", server_id(i), "5a".repeat(12));
        for client in ["198.51.100.7", "203.0.113.9:9"] {
            let arguments = ["explain", "udp", client, &vip, "--connection-id", &id];
            let view = stage
                .rig
                .agent
                .cli_json(&[&arguments[..], &["--json"]].concat())
                .unwrap();
            let found = (
                view["backend"].as_str().unwrap(),
                view["placement"].as_str().unwrap(),
            );
            assert_eq!(found, (backend.to_string().as_str(), "connection-id"), "{view}");
        }
    }
}

#[test]
fn without_routing_by_connection_id_some_do_not() {
    let stage = Stage::new(Forwarder::L2dsr, &[config(0, 12, None)], &[], None);
    let clients = stage.open();
    answers(&clients);
    clients.move_to(ELSEWHERE.parse().unwrap()).unwrap();
    let lost = clients.ask().iter().filter(|answer| answer.is_err()).count();
    assert!(lost > 0, "every connection survived");
    assert_eq!(stage.counted(), ConnectionIdsView::default());
}

#[test]
fn a_draining_backend_keeps_its_connections_wherever_they_go() {
    let known = [config(2, 12, Some(KEY))];
    let stage = Stage::new(Forwarder::L2dsr, &known, &known, None);
    let clients = stage.open();
    let first = answers(&clients);
    let leaving = stage.rig.lab.backends[0]
        .address_like(stage.target.ip())
        .to_string();
    stage.rig.lb(&["backend", "drain", "web", &leaving]);
    for address in stage.moves() {
        clients.move_to(address).unwrap();
        assert_eq!(answers(&clients), first, "moved to {address}");
    }
    let name = &stage.rig.lab.backends[0].name;
    assert!(first.contains(name), "{name} had no connection");
    let new = answers(&stage.open());
    assert!(
        !new.contains(name),
        "{name} is draining and got new ones: {new:?}"
    );
}

/// Three configurations are live; servers go from each to the next while connections live, and what no connection ID
/// was made by any more is taken away.
#[test]
fn configurations_rotate_under_live_connections() {
    let lifetime = Duration::from_secs(1);
    let all = [
        config(0, 12, None),
        config(1, 12, Some(KEY)),
        config(2, 12, Some(OTHER_KEY)),
    ];
    let stage = Stage::new(Forwarder::L2dsr, &all, &all, Some(lifetime));
    let clients = stage.open();
    let first = answers(&clients);
    for config in &all[1..] {
        stage.rotate(config);
        for address in stage.moves() {
            clients.move_to(address).unwrap();
            assert_eq!(answers(&clients), first, "moved to {address} under {}", config.id);
        }
    }
    // Connection IDs are replaced in the order of their age; each is older than its lifetime twice over then.
    clients.rest(5 * lifetime);
    assert_eq!(answers(&clients), first);
    stage.reload(&all[2..]);
    let before = stage.counted();
    for address in stage.moves() {
        clients.move_to(address).unwrap();
        assert_eq!(
            answers(&clients),
            first,
            "moved to {address} with the last one alone"
        );
    }
    let after = stage.counted();
    assert_eq!(
        after.unroutable, before.unroutable,
        "every connection has new connection IDs"
    );
    assert!(after.routed > before.routed);
}
