//! The TCP connections of checks.
//!
//! Invariant: a connection ends as its check says, and a result never waits for the end.

use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{Attempt, Miss, io_miss};
use crate::Close;

/// How long a connection that this side has closed waits for the other side to close it, too.
const LONGEST_CLOSE: Duration = Duration::from_secs(2);
/// Most that is taken of what a server says meanwhile, in bytes.
const MOST_LAST_WORDS: usize = 64 * 1024;

impl Attempt<'_> {
    /// Connects. A connection that is to be reset is, whenever it is dropped.
    pub(crate) async fn connect(&self) -> Result<TcpStream, Miss> {
        let failed = |e: std::io::Error| io_miss("connect", &e);
        let socket = if self.address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }
        .map_err(failed)?;
        if self.close == Close::Reset {
            socket.set_zero_linger().map_err(failed)?;
        }
        self.bind(&SockRef::from(&socket)).map_err(failed)?;
        self.deadline
            .bound("no connection", async {
                socket.connect(self.address).await.map_err(failed)
            })
            .await
    }

    /// Ends a connection that has served its purpose, beside the checks. Where too many are being ended already, it ends
    /// at once, as the kernel does it.
    pub(crate) fn end(&self, stream: TcpStream) {
        if self.close == Close::Fin
            && let Ok(permit) = Arc::clone(self.closing).try_acquire_owned()
        {
            tokio::spawn(async move {
                close(stream).await;
                drop(permit);
            });
        }
    }
}

/// Closes in order: says that nothing more comes, and takes what the server says until it closes, too. If data came that
/// nobody has read, or came later, the kernel would reset the connection.
async fn close(mut stream: TcpStream) {
    let end = async {
        stream.shutdown().await?;
        let mut last_words = (&mut stream).take(MOST_LAST_WORDS as u64);
        tokio::io::copy(&mut last_words, &mut tokio::io::sink()).await
    };
    // Whatever becomes of it, the check has its result.
    let _ = tokio::time::timeout(LONGEST_CLOSE, end).await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{Check, ProbeTarget, Prober, Timing};

    async fn probe(address: SocketAddr, timeout: u64) -> Result<(), Miss> {
        probe_as(&Prober::default(), address, Close::Fin, timeout).await
    }

    async fn probe_as(prober: &Prober, address: SocketAddr, close: Close, timeout: u64) -> Result<(), Miss> {
        let check = Check {
            close,
            timing: Timing {
                timeout: Duration::from_millis(timeout),
                ..Timing::default()
            },
            ..Check::default()
        };
        prober
            .probe(&ProbeTarget::new(address, &check).expect("a target"), &[])
            .await
    }

    /// What a server meets that greets at once, or after a while, and then reads to the end.
    async fn end_at_server(close: Close, greeting: Option<Duration>) -> std::io::Result<usize> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let prober = Prober::default();
        assert_eq!(probe_as(&prober, address, close, 1000).await, Ok(()));
        let (mut stream, _) = listener.accept().await?;
        if let Some(after) = greeting {
            tokio::time::sleep(after).await;
            stream.write_all(b"220 mail ready\r\n").await?;
        }
        let read = stream.read(&mut [0; 16]).await?;
        // What was written last may have been refused after the end was read.
        stream.shutdown().await?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(read),
        }
    }

    #[tokio::test]
    async fn a_listener_is_well_in_both_families() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(local).expect("bind");
            assert_eq!(probe(listener.local_addr().expect("address"), 1000).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_server_sees_an_end_in_order_and_counts_no_error() {
        let mut errors = 0;
        for greeting in [None, Some(Duration::ZERO), Some(Duration::from_millis(50))] {
            for _ in 0..10 {
                let end = end_at_server(Close::Fin, greeting).await;
                errors += usize::from(end.is_err());
            }
        }
        assert_eq!(errors, 0, "of 30 connections");
    }

    #[tokio::test]
    async fn a_reset_is_to_be_had() {
        let end = end_at_server(Close::Reset, None).await.expect_err("a reset");
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    }

    // Paused, the clock goes on to the end of the patience as soon as there is nothing but to wait.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_closes_or_never_ends_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        for flood in [false, true] {
            let stream = TcpStream::connect(address).await.expect("connects");
            let (mut served, _) = listener.accept().await.expect("a connection");
            let flooding = async {
                while flood && served.write_all(&[b'x'; 4096]).await.is_ok() {}
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = close(stream) => {}
                () = flooding => {}
            }
        }
    }

    /// Closing has a share of the descriptors of its own; without one left, a connection ends at once.
    #[tokio::test]
    async fn what_is_being_closed_is_bounded() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let prober = Prober::new(None, 2);
        for _ in 0..5 {
            assert_eq!(probe_as(&prober, address, Close::Fin, 1000).await, Ok(()));
        }
        assert_eq!(prober.closing.available_permits(), 0);
        let mut accepted = Vec::new();
        for _ in 0..5 {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            assert_eq!(stream.read(&mut [0; 1]).await.expect("in order"), 0);
            accepted.push(stream);
        }
        drop(accepted);
        let _ = prober
            .closing
            .acquire_many(2)
            .await
            .expect("given back when the server has closed");
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
