//! UDP echo: the server answers every datagram with its name, a space and the datagram.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{net::UdpSocket, time::timeout};

use crate::{Namespace, patience::patient};

/// The longest datagram that is echoed, in bytes: more than an Ethernet takes at once.
const DATAGRAM_LIMIT: usize = 16 << 10;

/// Opens a UDP socket on `address`.
///
/// # Errors
/// When the address is not the host's or is in use.
pub async fn bind(address: SocketAddr) -> Result<UdpSocket> {
    UdpSocket::bind(address)
        .await
        .with_context(|| format!("cannot listen on UDP {address}"))
}

/// Echoes datagrams until the socket fails.
///
/// # Errors
/// When the socket fails for another reason than an unreachable client.
pub(super) async fn echo(socket: UdpSocket, name: Arc<str>) -> Result<()> {
    let mut buffer = vec![0; DATAGRAM_LIMIT];
    loop {
        let (length, client) = socket
            .recv_from(&mut buffer)
            .await
            .context("cannot receive datagrams")?;
        let answer = [name.as_bytes(), b" ", &buffer[..length]].concat();
        // A datagram may be lost anywhere; a client without a route is one more way.
        let _ = socket.send_to(&answer, client).await;
    }
}

/// Sends one datagram from a new socket inside `namespace` and returns the echo.
///
/// # Errors
/// When no answer comes within `limit`.
pub fn ask(namespace: &Namespace, target: SocketAddr, payload: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let any: IpAddr = if target.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let ask = async || {
        let socket = bind(SocketAddr::new(any, 0)).await?;
        socket.connect(target).await?;
        socket.send(payload).await?;
        let mut buffer = vec![0; 2 * DATAGRAM_LIMIT];
        let length = timeout(patient(limit), socket.recv(&mut buffer))
            .await
            .context("no answer in time")??;
        buffer.truncate(length);
        anyhow::Ok(buffer)
    };
    namespace
        .block_on(ask)?
        .with_context(|| format!("UDP {target} from {}", namespace.name()))
}
