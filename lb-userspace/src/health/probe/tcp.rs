//! The TCP connect, a check of its own and the first step of others.
//!
//! Invariant: every connection made here is closed by a reset, so neither side keeps it in TIME_WAIT.

use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

use super::{Deadline, Miss, io_miss};

/// Connects, in that VRF.
pub(super) async fn connect(
    address: SocketAddr,
    vrf: Option<&str>,
    deadline: &Deadline,
) -> Result<TcpStream, Miss> {
    let failed = |e: std::io::Error| io_miss("connect", &e);
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .map_err(failed)?;
    socket.set_zero_linger().map_err(failed)?;
    if let Some(vrf) = vrf {
        socket.bind_device(Some(vrf.as_bytes())).map_err(failed)?;
    }
    deadline
        .bound("no connection", async {
            socket.connect(address).await.map_err(failed)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn probe(address: SocketAddr, timeout: u64) -> Result<(), Miss> {
        connect(address, None, &Deadline::new(Duration::from_millis(timeout)))
            .await
            .map(drop)
    }

    #[tokio::test]
    async fn a_listener_is_well_in_both_families() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(local).expect("bind");
            assert_eq!(probe(listener.local_addr().expect("address"), 1000).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn the_connection_is_reset_not_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        assert_eq!(probe(listener.local_addr().expect("address"), 1000).await, Ok(()));
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.readable().await.expect("an event");
        let end = stream.try_read(&mut [0; 1]).expect_err("a reset");
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        drop(listener);
        let refused = Miss::Failure("connect: connection refused".into());
        assert_eq!(probe(address, 1000).await, Err(refused));
    }

    // Paused, the clock goes on to the timeout as soon as there is nothing but to wait.
    #[tokio::test(start_paused = true)]
    async fn a_full_backlog_times_out() {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
        socket
            .bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("address").into())
            .expect("bind");
        socket.listen(0).expect("listen");
        let address = socket.local_addr().expect("address").as_socket().expect("IPv4");
        // A backlog of 0 holds one connection; the SYN of the next is dropped.
        let _held = std::net::TcpStream::connect(address).expect("the backlog's one place");
        let timed_out = Miss::Failure("timeout after 200ms: no connection".into());
        assert_eq!(probe(address, 200).await, Err(timed_out));
    }
}
