//! One datagram and its answer.
//!
//! Invariant: only what comes from the address and port that were asked, to the port that asked, is an answer: the socket is
//! connected, and each attempt has a port of its own.

use std::io::{self, ErrorKind};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::UdpCheck;
use crate::probe::{Attempt, Miss, Probe, io_miss};

/// Most that is looked at of an answer, in bytes: no datagram is longer.
const MAX_ANSWER: usize = 64 * 1024;
/// Most that is shown of an answer, in bytes.
const MAX_QUOTE: usize = 64;

impl Probe for UdpCheck {
    type Shared = ();

    /// Sends once. A datagram that is lost is one bad result, and `fall` says how many make a verdict.
    async fn probe(&self, (): &(), attempt: &Attempt<'_>) -> Result<(), Miss> {
        let socket = open(attempt).map_err(|error| miss(&error))?;
        let payload = self.payload.as_deref().unwrap_or_default();
        let exchange = async {
            socket.send(payload).await.map_err(|error| miss(&error))?;
            // An ICMP error makes the socket erroneous, but not readable.
            let answered_or_refused = socket.ready(Interest::READABLE | Interest::ERROR).await;
            answered_or_refused.map_err(|error| miss(&error))?;
            if let Some(error) = socket.take_error().map_err(|error| miss(&error))? {
                return Err(miss(&error));
            }
            let mut answer = vec![0; MAX_ANSWER];
            let length = socket.recv(&mut answer).await.map_err(|error| miss(&error))?;
            self.judge(&answer[..length])
        };
        attempt.deadline.bound("no answer", exchange).await
    }
}

impl UdpCheck {
    fn judge(&self, answer: &[u8]) -> Result<(), Miss> {
        let Some(expected) = &self.expect else {
            return Ok(());
        };
        if answer.windows(expected.len()).any(|window| window == expected) {
            return Ok(());
        }
        Err(Miss::Failure(format!(
            "udp: the answer lacks {}: {}",
            quoted(expected),
            quoted(answer)
        )))
    }
}

/// A socket of the attempt's own, connected to its target.
fn open(attempt: &Attempt<'_>) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(attempt.address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    attempt.bind(&socket)?;
    socket.connect(&attempt.address.into())?;
    UdpSocket::from_std(socket.into())
}

fn miss(error: &io::Error) -> Miss {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            Miss::Failure("udp: port unreachable: does a server listen there?".to_owned())
        }
        // What connecting says when all ports are taken.
        ErrorKind::WouldBlock => Miss::Inconclusive("udp: no local port left to ask from".to_owned()),
        _ => io_miss("udp", error),
    }
}

/// The beginning of `bytes`, printable.
fn quoted(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(MAX_QUOTE)].escape_ascii();
    let more = if bytes.len() > MAX_QUOTE { " …" } else { "" };
    format!("\"{shown}\"{more}")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::{Check, Kind, ProbeTarget, Prober, Timing};

    async fn ask(address: SocketAddr, payload: &str, expect: Option<&str>, timeout: u64) -> Result<(), Miss> {
        let check = Check {
            kind: Kind::Udp(UdpCheck {
                payload: (!payload.is_empty()).then(|| payload.into()),
                expect: expect.map(Into::into),
            }),
            timing: Timing {
                timeout: Duration::from_millis(timeout),
                ..Timing::default()
            },
            ..Check::default()
        };
        let target = ProbeTarget::new(address, &check).expect("a target");
        Prober::default().probe(&target, &[]).await
    }

    /// A server that answers each datagram with `prefix` and what came.
    async fn echo(local: &str, prefix: &'static [u8]) -> SocketAddr {
        let socket = UdpSocket::bind(local).await.expect("bind");
        let address = socket.local_addr().expect("address");
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let answer = [prefix, &buffer[..length]].concat();
                socket.send_to(&answer, from).await.expect("loopback takes it");
            }
        });
        address
    }

    #[tokio::test]
    async fn an_answer_is_success_in_both_families() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let address = echo(local, b"").await;
            assert_eq!(
                ask(address, "", None, 2000).await,
                Ok(()),
                "an empty one to an empty one"
            );
            assert_eq!(ask(address, "ping", Some("in"), 2000).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_wrong_answer_is_quoted() {
        let address = echo("127.0.0.1:0", b"\x00\xff\n").await;
        let reason = "udp: the answer lacks \"pong\": \"\\x00\\xff\\nping\"";
        assert_eq!(
            ask(address, "ping", Some("pong"), 2000).await,
            Err(Miss::Failure(reason.into()))
        );
        let long = "x".repeat(1000);
        let reason = format!(
            "udp: the answer lacks \"pong\": \"\\x00\\xff\\n{}\" …",
            "x".repeat(61)
        );
        assert_eq!(
            ask(address, &long, Some("pong"), 2000).await,
            Err(Miss::Failure(reason))
        );
    }

    #[tokio::test]
    async fn a_closed_port_fails_at_once() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(local).await.expect("bind");
            let address = socket.local_addr().expect("address");
            drop(socket);
            let refused = Miss::Failure("udp: port unreachable: does a server listen there?".into());
            assert_eq!(ask(address, "ping", None, 60_000).await, Err(refused));
        }
    }

    // Paused, the clock goes on to the timeout as soon as there is nothing but to wait.
    #[tokio::test(start_paused = true)]
    async fn silence_times_out() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let address = socket.local_addr().expect("address");
        let silent = Miss::Failure("timeout after 200ms: no answer".into());
        assert_eq!(ask(address, "ping", None, 200).await, Err(silent));
    }
}
