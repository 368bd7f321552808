//! UDP flows while backends are taken out: those that talk on stay where they are, new ones go elsewhere once the short
//! window is over, and a drain ends by itself while new queries come all the time.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Mutex, atomic::AtomicBool, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use lb_api::view::BackendState;
use lb_lab::{Forwarder, patience::patient};

use super::{PORT, Rig, Service, backend_addresses, during, lab, wait_until};

const BACKENDS: usize = 4;
/// From one query to the next, and from one word of a flow that lasts to its next.
const PACE: Duration = Duration::from_millis(5);
/// Flows that last.
const LASTING: usize = 40;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Queries in a row, each of which half of them would not have been answered by others by chance.
const ROW: usize = 100;

/// A client's socket.
fn socket(target: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(patient(LIMIT))).unwrap();
    socket
}

/// Asks once; the name of the server that answers, or nothing if none does.
fn ask(socket: &UdpSocket) -> Option<String> {
    socket.send(b"?").unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    Some(answer.split(' ').next()?.to_owned())
}

/// What came of queries, in their order.
#[derive(Default)]
struct Answers(Mutex<Vec<Option<String>>>);

impl Answers {
    fn add(&self, answer: Option<String>) {
        self.0.lock().unwrap().push(answer);
    }

    fn all(&self) -> Vec<Option<String>> {
        self.0.lock().unwrap().clone()
    }

    /// How many of those after the first `from` were answered by that server.
    fn by(&self, server: &str, from: usize) -> usize {
        let all = self.all();
        all[from..]
            .iter()
            .flatten()
            .filter(|name| *name == server)
            .count()
    }

    /// Waits until a row of them has not been answered by that server.
    fn wait_until_none_is_by(&self, server: &str) {
        wait_until(&format!("no new query reaches {server}"), || {
            let count = self.all().len();
            count > ROW && self.by(server, count - ROW) == 0
        });
    }
}

/// Flows that last, and how often each has been answered, always by the same server.
fn talk_on(target: SocketAddr, flows: &Mutex<Vec<(String, usize)>>, stop: &AtomicBool) {
    let sockets: Vec<UdpSocket> = (0..LASTING).map(|_| socket(target)).collect();
    while !stop.load(Relaxed) {
        for (i, socket) in sockets.iter().enumerate() {
            let server = ask(socket).unwrap();
            let mut flows = flows.lock().unwrap();
            match flows.get_mut(i) {
                Some((before, count)) => {
                    assert_eq!(*before, server, "flow {i} after {count} answers");
                    *count += 1;
                }
                None => flows.push((server, 1)),
            }
        }
        thread::sleep(PACE);
    }
}

fn taken_out(forwarder: Forwarder) {
    let lab = lab(forwarder, BACKENDS);
    let vip = lab.options().vips[0];
    let target = SocketAddr::new(vip, PORT);
    let addresses = backend_addresses(&lab, vip);
    let names: Vec<String> = lab.backends.iter().map(|host| host.name.clone()).collect();
    let service = Service::new(forwarder, &[vip])
        .text("name", "dns")
        .text("protocol", "udp")
        .text("window", "2s")
        .text("idle", "4s")
        .backends(&addresses);
    let rig = Rig::new(lab, &service);
    let client = &rig.client().namespace;
    let answers = Answers::default();
    let queries = |stop: &AtomicBool| {
        let ask = || {
            while !stop.load(Relaxed) {
                // From a new port each.
                answers.add(ask(&socket(target)));
                thread::sleep(PACE);
            }
        };
        client.run(ask).unwrap();
    };
    during(queries, || {
        wait_until("all are asked", || {
            names.iter().all(|name| answers.by(name, 0) > 10)
        });
        drain(&rig, target, addresses[0], &names[0], &answers);
        let [weightless, removed] = [1, 2].map(|backend| addresses[backend].to_string());
        rig.lb(&["backend", "set", "dns", &weightless, "--weight", "0"]);
        answers.wait_until_none_is_by(&names[1]);
        rig.lb(&["backend", "remove", "dns", &removed]);
        answers.wait_until_none_is_by(&names[2]);
        wait_until("the removed one has left", || {
            let view = rig.agent.services().unwrap();
            let mut backends = view.services.iter().flat_map(|service| &service.backends);
            !backends.any(|backend| backend.address == addresses[2])
        });
    });
    let all = answers.all();
    let lost = all.iter().filter(|answer| answer.is_none()).count();
    println!("{lost} of {} queries were not answered", all.len());
    assert_eq!(lost, 0);
}

/// A drain while flows go on, and new ones come.
fn drain(rig: &Rig, target: SocketAddr, address: IpAddr, name: &str, answers: &Answers) {
    let flows = Mutex::new(Vec::new());
    let talking = |stop: &AtomicBool| {
        rig.client()
            .namespace
            .run(|| talk_on(target, &flows, stop))
            .unwrap();
    };
    let words = || -> Vec<usize> {
        let flows = flows.lock().unwrap();
        let theirs = flows.iter().filter(|(server, _)| server == name);
        theirs.map(|(_, count)| *count).collect()
    };
    let address_text = address.to_string();
    during(talking, || {
        wait_until("all flows talk", || flows.lock().unwrap().len() == LASTING);
        assert!(words().len() > 2, "{name} has some");
        rig.lb(&["backend", "drain", "dns", &address_text]);
        answers.wait_until_none_is_by(name);
        let before = words();
        wait_until("its flows go on", || {
            words()
                .iter()
                .zip(&before)
                .all(|(now, before)| *now > before + 20)
        });
        assert_eq!(rig.backend("dns", address).state, BackendState::Drain);
    });
    let said = rig.lb(&[
        "backend",
        "drain",
        "dns",
        &address_text,
        "--deadline",
        "10m",
        "--wait",
    ]);
    assert!(said.contains("is drained"), "{said}");
    assert_eq!(rig.backend("dns", address).state, BackendState::Maint);
}

#[test]
fn new_datagrams_leave_whoever_takes_none() {
    taken_out(Forwarder::L2dsr);
}

#[test]
fn new_datagrams_leave_whoever_takes_none_with_nat() {
    taken_out(Forwarder::Nat);
}
