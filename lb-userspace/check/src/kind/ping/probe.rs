//! Echo requests: ICMP (RFC 792) and ICMPv6 (RFC 4443) over one socket per family for all targets.
//!
//! Invariant: a reply counts only if it carries the random token of a request still waiting, from the address that was
//! asked. The token (64 bits) tells apart what identifier and sequence number cannot: the kernel rewrites the first on
//! datagram sockets, and the second repeats.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::PingCheck;
use super::echo::{ECHO_LENGTH, EchoFamily, skip_ip_header};
use crate::probe::{Attempt, Deadline, Miss, Probe, io_miss, io_words};

/// Room for the replies of thousands of targets that answer at the same moment, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Pause after a failed receive, so that a lasting error does not spin.
const RECEIVE_RETRY: Duration = Duration::from_millis(100);
/// After so many in a row another socket is tried.
const RECEIVE_FAILURES: u32 = 10;

impl Probe for PingCheck {
    type Shared = Pinger;

    async fn probe(&self, pinger: &Pinger, attempt: &Attempt<'_>) -> Result<(), Miss> {
        pinger
            .ask(
                attempt.address.ip(),
                attempt.vrf,
                attempt.sources,
                &attempt.deadline,
            )
            .await
    }
}

/// Sends echo requests to any number of addresses; opens its sockets when they are first needed.
#[derive(Debug, Default)]
pub(crate) struct Pinger {
    /// By family, and the source where that is not the kernel's to choose: there are no more than addresses of this host.
    sockets: Mutex<HashMap<(EchoFamily, Option<IpAddr>), EchoSocket>>,
}

impl Pinger {
    /// Asks `address`, in that VRF and from the first of `sources` that can be had.
    async fn ask(
        &self,
        address: IpAddr,
        vrf: Option<&str>,
        sources: &[IpAddr],
        deadline: &Deadline,
    ) -> Result<(), Miss> {
        let family = EchoFamily::of(address);
        let from = sources
            .iter()
            .find_map(|source| self.socket(family, vrf, Some(*source)).ok());
        let (socket, waiting) = from.map_or_else(|| self.socket(family, vrf, None), Ok)?;
        let (waiter, reply) = Waiter::register(waiting, address);
        let request = family.request(waiter.token);
        deadline
            .bound("no echo reply", async {
                let sent = socket.send_to(&request, SocketAddr::new(address, 0)).await;
                sent.map_err(|e| io_miss("ping", &e))?;
                reply
                    .await
                    .map_err(|_| Miss::Inconclusive("ping: the socket was closed".into()))
            })
            .await
    }

    /// The socket of that family and source. One prober, and so one of these, is for one VRF.
    fn socket(
        &self,
        family: EchoFamily,
        vrf: Option<&str>,
        source: Option<IpAddr>,
    ) -> Result<(Arc<UdpSocket>, Waiting), Miss> {
        let mut sockets = lock(&self.sockets);
        // A reader that has ended is of no use to anybody.
        sockets.retain(|_, open| !open.reader.is_finished());
        let open = match sockets.entry((family, source)) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let open = |kind| EchoSocket::open(family, kind, vrf, source);
                let opened = open(Type::DGRAM).or_else(|_| open(Type::RAW));
                place.insert(opened.map_err(|e| open_miss(&e))?)
            }
        };
        Ok((Arc::clone(&open.socket), Arc::clone(&open.waiting)))
    }
}

fn open_miss(error: &io::Error) -> Miss {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let reason = "ping: not permitted to open an ICMP socket: give lb the capability CAP_NET_RAW, or put its group \
                      into the sysctl net.ipv4.ping_group_range";
        return Miss::Failure(reason.to_owned());
    }
    io_miss("ping", error)
}

/// Requests that wait for a reply, by token.
type Waiting = Arc<Mutex<HashMap<u64, (IpAddr, oneshot::Sender<()>)>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request's place among the waiting, given up when the check ends in whatever way.
struct Waiter {
    token: u64,
    waiting: Waiting,
}

impl Waiter {
    fn register(waiting: Waiting, address: IpAddr) -> (Self, oneshot::Receiver<()>) {
        let (sender, reply) = oneshot::channel();
        let token = rand::random();
        lock(&waiting).insert(token, (address, sender));
        (Self { token, waiting }, reply)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.token);
    }
}

/// The socket of one family and the task that reads it.
#[derive(Debug)]
struct EchoSocket {
    socket: Arc<UdpSocket>,
    waiting: Waiting,
    reader: JoinHandle<()>,
}

impl EchoSocket {
    fn open(family: EchoFamily, kind: Type, vrf: Option<&str>, source: Option<IpAddr>) -> io::Result<Self> {
        let (domain, protocol) = match family {
            EchoFamily::V4 => (Domain::IPV4, Protocol::ICMPV4),
            EchoFamily::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        if let Some(vrf) = vrf {
            socket.bind_device(Some(vrf.as_bytes()))?;
        }
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            // Without CAP_NET_ADMIN: as much as the host allows.
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        // Datagram and raw ICMP sockets take the same calls and addresses as UDP ones.
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let waiting = Waiting::default();
        let with_ip_header = family == EchoFamily::V4 && kind == Type::RAW;
        let reader = tokio::spawn(read_replies(
            Arc::clone(&socket),
            Arc::clone(&waiting),
            family,
            with_ip_header,
        ));
        Ok(Self {
            socket,
            waiting,
            reader,
        })
    }
}

impl Drop for EchoSocket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_replies(socket: Arc<UdpSocket>, waiting: Waiting, family: EchoFamily, with_ip_header: bool) {
    // The longest IPv4 header and our echo; what is longer is cut, and is not ours.
    let mut buffer = [0; 60 + ECHO_LENGTH];
    let mut failures = 0;
    while failures < RECEIVE_FAILURES {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                failures += 1;
                log::debug!("receiving echo replies: {}", io_words(&error));
                tokio::time::sleep(RECEIVE_RETRY).await;
                continue;
            }
        };
        failures = 0;
        let packet = &buffer[..length];
        let message = if with_ip_header {
            skip_ip_header(packet)
        } else {
            Some(packet)
        };
        if let Some(token) = message.and_then(|message| family.reply_token(message)) {
            let mut waiting = lock(&waiting);
            if waiting.get(&token).is_some_and(|(asked, _)| *asked == from.ip())
                && let Some((_, sender)) = waiting.remove(&token)
            {
                // The check may have ended at this very moment.
                let _ = sender.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    use nix::sched::{CloneFlags, unshare};

    async fn ping(pinger: &Pinger, address: &str, timeout: u64) -> Result<(), Miss> {
        let address = address.parse().expect("address");
        pinger
            .ask(address, None, &[], &Deadline::new(Duration::from_millis(timeout)))
            .await
    }

    /// Runs `test` in a network namespace of its own (needs root), with loopback up and datagram ICMP sockets for
    /// everybody or nobody.
    fn in_namespace(datagram_allowed: bool, test: impl AsyncFnOnce() + Send) {
        std::thread::scope(|scope| {
            let run = || {
                unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this test needs root");
                let groups = if datagram_allowed { "0 0" } else { "1 0" };
                std::fs::write("/proc/sys/net/ipv4/ping_group_range", groups)
                    .expect("the namespace's own sysctl");
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("runtime");
                runtime.block_on(async {
                    set_loopback_up().await;
                    test().await;
                });
            };
            scope.spawn(run).join().expect("the test passes");
        });
    }

    /// A new namespace's loopback is down. Interface 1 is always `lo`.
    async fn set_loopback_up() {
        let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
        tokio::spawn(connection);
        let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
        handle.link().set(up).execute().await.expect("lo goes up");
    }

    #[test]
    fn loopback_answers_over_datagram_and_raw_sockets() {
        for datagram_allowed in [true, false] {
            in_namespace(datagram_allowed, async || {
                assert_eq!(
                    EchoSocket::open(EchoFamily::V4, Type::DGRAM, None, None).is_ok(),
                    datagram_allowed
                );
                let pinger = Pinger::default();
                assert_eq!(ping(&pinger, "127.0.0.1", 1000).await, Ok(()));
                assert_eq!(ping(&pinger, "::1", 1000).await, Ok(()));
            });
        }
    }

    #[test]
    fn thousands_share_a_socket_and_silence_is_told_apart_from_answers() {
        in_namespace(true, async || {
            let pinger = Pinger::default();
            // An address on the loopback's network answers; one beyond it has no route here.
            let answers = (0..3000u16).map(|i| {
                let [high, low] = i.to_be_bytes();
                let address = Ipv4Addr::new(127, 2, high, low).into();
                let pinger = &pinger;
                async move {
                    pinger
                        .ask(address, None, &[], &Deadline::new(Duration::from_secs(5)))
                        .await
                }
            });
            let (answers, unreachable) = tokio::join!(
                futures_util::future::join_all(answers),
                ping(&pinger, "192.0.2.1", 1000),
            );
            assert!(
                answers.iter().all(Result::is_ok),
                "{:?}",
                answers.iter().find(|a| a.is_err())
            );
            let reason = "ping: network unreachable: is there a route?";
            assert_eq!(unreachable, Err(Miss::Inconclusive(reason.into())));
            let (_, waiting) = pinger.socket(EchoFamily::V4, None, None).expect("open");
            assert!(lock(&waiting).is_empty(), "every request gives its place up");
        });
    }

    #[test]
    fn silence_times_out_and_gives_its_place_up() {
        in_namespace(true, async || {
            std::fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1")
                .expect("the namespace's own sysctl");
            let pinger = Pinger::default();
            let timed_out = Miss::Failure("timeout after 100ms: no echo reply".into());
            assert_eq!(ping(&pinger, "127.0.0.1", 100).await, Err(timed_out));
            let (_, waiting) = pinger.socket(EchoFamily::V4, None, None).expect("open");
            assert!(lock(&waiting).is_empty());
        });
    }

    #[test]
    fn a_reader_that_has_ended_is_replaced() {
        in_namespace(true, async || {
            let pinger = Pinger::default();
            assert_eq!(ping(&pinger, "127.0.0.1", 1000).await, Ok(()));
            lock(&pinger.sockets)
                .values()
                .for_each(|open| open.reader.abort());
            tokio::task::yield_now().await;
            assert_eq!(ping(&pinger, "127.0.0.1", 1000).await, Ok(()));
        });
    }

    #[test]
    fn a_refused_socket_says_what_to_do() {
        let Miss::Failure(reason) = open_miss(&io::Error::from_raw_os_error(libc::EPERM)) else {
            panic!("the operator has to act, so it is a failure");
        };
        assert!(
            reason.contains("CAP_NET_RAW") && reason.contains("ping_group_range"),
            "{reason}"
        );
    }
}
