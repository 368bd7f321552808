//! Clients that are done (FIN) while their server takes its time: none is cut off in the midst of its answer.
//!
//! A server greets with its number, waits for the client's end and for the test's word, and answers at length. How much
//! time goes by is told by other connections, reset by their clients: when they are forgotten, more than ten seconds have.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use lb_api::view::BackendState;
use lb_lab::{Forwarder, patience::patient};
use socket2::SockRef;

use super::{FlowTable, Rig, Service, backend_addresses, lab, wait_until};
use crate::fullnat::pool;

const PORT: u16 = 8080;
const BACKENDS: usize = 3;
/// Connections that are to live, and those that are reset.
const ASKING: usize = 48;
const RESET: usize = 24;
/// Longer than any buffer on the way, so that its client has to acknowledge it.
const ANSWER: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(20);
/// The index of the backend whose flows stay while it gets no new ones.
const LEAVING: usize = 0;

/// A connection from a client to a server that has greeted.
struct Client {
    stream: TcpStream,
    server: usize,
}

/// A lab with slow servers.
struct Stage {
    rig: Rig,
    target: SocketAddr,
    addresses: Vec<IpAddr>,
    /// The servers' ends of all connections.
    accepted: Receiver<TcpStream>,
}

impl Stage {
    fn new(forwarder: Forwarder, tracking: &str) -> Self {
        let lab = lab(forwarder, BACKENDS);
        let vip = lab.options().vips[0];
        let addresses = backend_addresses(&lab, vip);
        let (sender, accepted) = channel();
        for (server, host) in lab.backends.iter().enumerate() {
            let addresses = lab.listen_addresses(host, PORT).into_iter();
            for address in addresses.filter(SocketAddr::is_ipv4) {
                let listener = host
                    .namespace
                    .run(|| TcpListener::bind(address))
                    .unwrap()
                    .unwrap();
                let sender = sender.clone();
                thread::spawn(move || {
                    for stream in listener.incoming() {
                        let mut stream = stream.unwrap();
                        // A client that is gone records that itself.
                        let _ = stream.write_all(&[server as u8]);
                        if sender.send(stream).is_err() {
                            return;
                        }
                    }
                });
            }
        }
        let service = Service::new(forwarder, &[vip])
            .key("port", PORT)
            .text("window", "1s")
            .text("tracking", tracking)
            .backends(&addresses);
        let dataplane = match forwarder {
            Forwarder::Fullnat => pool(&lab, "1024-32767"),
            _ => String::new(),
        };
        let rig = Rig::new(lab, &format!("{dataplane}{service}"));
        wait_until("the windows of the start are over", || {
            rig.agent.status().unwrap().slots_unsafe == 0
        });
        Self {
            target: SocketAddr::new(vip, PORT),
            rig,
            addresses,
            accepted,
        }
    }

    fn open(&self, count: usize) -> Vec<Client> {
        let target = self.target;
        let open = || {
            let open = |_| {
                let mut stream = TcpStream::connect(target)?;
                stream.set_read_timeout(Some(patient(LIMIT)))?;
                let mut server = [0];
                stream.read_exact(&mut server)?;
                let server = server[0].into();
                Ok(Client { stream, server })
            };
            (0..count).map(open).collect::<std::io::Result<Vec<Client>>>()
        };
        self.rig.client().namespace.run(open).unwrap().unwrap()
    }

    fn leaving(&self) -> String {
        self.addresses[LEAVING].to_string()
    }

    /// The flows that a drain waits for; none if it is over.
    fn drained_flows(&self) -> u64 {
        let drain = self.rig.backend("web", self.addresses[LEAVING]).drain;
        drain.and_then(|drain| drain.flows).unwrap_or(0)
    }

    fn flow_table(&self) -> FlowTable {
        FlowTable::of(&self.rig.agent.pins().pin_dir())
    }

    /// All servers answer; how many of these clients were not answered in full.
    fn broken(&self, clients: Vec<Client>) -> usize {
        let servers: Vec<TcpStream> = self.accepted.try_iter().collect();
        thread::scope(|scope| {
            for mut stream in servers {
                scope.spawn(move || {
                    // Whoever was reset hears nothing.
                    if stream.read_to_end(&mut Vec::new()).is_ok() {
                        let _ = stream.write_all(&vec![b'x'; ANSWER]);
                    }
                });
            }
            let heard = clients.into_iter().map(|mut client| {
                scope.spawn(move || {
                    let mut answer = Vec::new();
                    client.stream.read_to_end(&mut answer).is_ok() && answer.len() == ANSWER
                })
            });
            let heard: Vec<_> = heard.collect();
            heard
                .into_iter()
                .filter_map(|heard| (!heard.join().unwrap()).then_some(()))
                .count()
        })
    }
}

fn ask(clients: &mut [Client]) {
    for client in clients {
        client.stream.write_all(b"how are you?").unwrap();
    }
}

/// The clients have said all that they will.
fn close_half(clients: &[Client]) {
    for client in clients {
        client.stream.shutdown(Shutdown::Write).unwrap();
    }
}

fn reset(clients: Vec<Client>) {
    for client in clients {
        SockRef::from(&client.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

fn of_leaving(clients: &[Client]) -> u64 {
    let count = clients.iter().filter(|client| client.server == LEAVING).count() as u64;
    assert!(count > 2, "it has {count} of {} connections", clients.len());
    count
}

/// A change, after which half of the clients ask and all are done, so that of half of them the FIN is the first packet of
/// the window. `flows` counts the flows that are remembered.
fn outlive(stage: &Stage, change: &[&str], flows: impl Fn() -> u64) {
    let (mut asking, mut doomed) = (stage.open(ASKING), stage.open(RESET));
    let (kept, cut) = (of_leaving(&asking), of_leaving(&doomed));
    // Long enough for all to be heard in it, and over by the time that those which were reset are forgotten.
    stage.rig.lb(&["service", "set", "web", "--window", "10s"]);
    ask(&mut asking[ASKING / 2..]);
    stage.rig.lb(change);
    ask(&mut asking[..ASKING / 2]);
    close_half(&asking);
    ask(&mut doomed);
    wait_until("all flows are written down", || flows() == kept + cut);
    reset(doomed);
    wait_until("those that were reset are forgotten", || flows() <= kept);
    let remembered = flows();
    assert_eq!(stage.broken(asking), 0, "of {ASKING} connections");
    assert_eq!(remembered, kept, "the others are not");
}

fn outlive_a_drain(forwarder: Forwarder) {
    let stage = Stage::new(forwarder, "changes");
    let leaving = stage.leaving();
    let drain = ["backend", "drain", "web", &leaving];
    outlive(&stage, &drain, || stage.drained_flows());
    let address = stage.addresses[LEAVING];
    assert_eq!(stage.rig.backend("web", address).state, BackendState::Drain);
    // Nobody is left, and so the drain ends as soon as they are forgotten.
    stage
        .rig
        .lb(&["service", "set", "web", "--window", "1s", "--idle", "1s"]);
    stage.rig.wait_for_state("web", address, BackendState::Maint);
}

#[test]
fn half_closed_connections_outlive_a_drain() {
    outlive_a_drain(Forwarder::L2dsr);
}

#[test]
fn half_closed_connections_outlive_a_drain_with_nat() {
    outlive_a_drain(Forwarder::Nat);
}

#[test]
fn half_closed_connections_outlive_a_drain_with_fullnat() {
    outlive_a_drain(Forwarder::Fullnat);
}

/// The window is over by then, too: it was opened before the resets.
#[test]
fn half_closed_connections_outlive_a_change_of_weight() {
    let stage = Stage::new(Forwarder::L2dsr, "changes");
    let table = stage.flow_table();
    let leaving = stage.leaving();
    let change = ["backend", "set", "web", &leaving, "--weight", "0"];
    outlive(&stage, &change, || table.in_use() as u64);
}

/// Where all flows are written down, those that were half closed long before the change are remembered.
#[test]
fn half_closed_connections_are_remembered_until_a_change_comes() {
    let stage = Stage::new(Forwarder::L2dsr, "always");
    let table = stage.flow_table();
    let (mut asking, doomed) = (stage.open(ASKING), stage.open(RESET));
    ask(&mut asking);
    close_half(&asking);
    wait_until("all flows are written down", || table.in_use() == ASKING + RESET);
    reset(doomed);
    wait_until("those that were reset are forgotten", || table.in_use() <= ASKING);
    let remembered = table.in_use();
    of_leaving(&asking);
    stage
        .rig
        .lb(&["backend", "set", "web", &stage.leaving(), "--weight", "0"]);
    // Ports that no client uses: below those of connections.
    wait_until("the window is over", || {
        let backends = (1..64).map(|port| stage.rig.explain_tcp(port, stage.target).backend);
        backends.flatten().all(|backend| backend != stage.leaving())
    });
    assert_eq!(stage.broken(asking), 0, "of {ASKING} connections");
    assert_eq!(remembered, ASKING, "the others are not");
}
