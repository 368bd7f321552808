//! Whole Ethernet frames, sent and captured by packet sockets (packet(7)).

use std::{
    io::Read,
    time::{Duration, Instant},
};

use lb_lab::{Host, Namespace, patience::patient};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::LIMIT;

/// Sees every frame on an interface, in both directions.
#[derive(Debug)]
pub(crate) struct Capture(Socket);

impl Capture {
    /// Begins to capture.
    pub(crate) fn start(namespace: &Namespace, interface: &str) -> Self {
        let socket = namespace.run(|| packet_socket(interface)).unwrap();
        socket.set_recv_buffer_size(4 << 20).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self(socket)
    }

    /// Waits for a frame with exactly these bytes; if it does not come, the frames that did.
    pub(crate) fn wait_for(&self, frame: &[u8]) -> Result<(), Vec<Vec<u8>>> {
        let deadline = Instant::now() + patient(LIMIT);
        let mut others = Vec::new();
        let mut buffer = [0; 1 << 12];
        while Instant::now() < deadline {
            let Ok(length) = (&self.0).read(&mut buffer) else {
                continue;
            };
            if buffer[..length] == *frame {
                return Ok(());
            }
            others.push(buffer[..length].to_vec());
        }
        Err(others)
    }
}

/// Sends a frame out of the wire's end of a host's interface. It does not cross the bridge, which may drop what is
/// malformed.
pub(crate) fn send_to(host: &Host, wire: &Namespace, frame: &[u8]) {
    let socket = wire.run(|| packet_socket(&host.port)).unwrap();
    assert_eq!(socket.send(frame).unwrap(), frame.len());
}

/// A packet socket for all protocols on one interface of the calling thread's namespace.
fn packet_socket(interface: &str) -> Socket {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    let socket = Socket::new(
        Domain::PACKET,
        Type::RAW,
        Some(Protocol::from(i32::from(protocol))),
    )
    .unwrap();
    let index = if_nametoindex(interface).unwrap();
    let fill = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol,
            sll_ifindex: index.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `try_init` hands out storage that is large and aligned enough for every kind of socket address, and
        // a valid place for its length.
        unsafe {
            storage.cast::<libc::sockaddr_ll>().write(address);
            length.write(size_of::<libc::sockaddr_ll>() as libc::socklen_t);
        }
        Ok(())
    };
    // SAFETY: `fill` has written a whole `sockaddr_ll` and its length.
    let ((), address) = unsafe { SockAddr::try_init(fill) }.unwrap();
    socket.bind(&address).unwrap();
    socket
}
