//! Echo requests, by the kernel's own ICMP sockets (icmp(7)): the kernel fills in identifier and checksum.

use std::{
    io::{ErrorKind, Read},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lb_lab::{Host, Namespace, patience::patient};
use socket2::{Domain, Protocol, Socket, Type};

/// Lets every process of the namespace open such sockets.
pub(crate) fn allow_ping(namespace: &Namespace) {
    namespace
        .set_sysctls(&[("net/ipv4/ping_group_range", "0 2147483647")])
        .unwrap();
}

/// Sends one echo request from `client`; true if the right answer comes within `limit`, from nobody but `target`.
pub(crate) fn ping(client: &Host, target: IpAddr, limit: Duration) -> bool {
    let target = SocketAddr::new(target, 0);
    let (protocol, request, reply) = if target.is_ipv4() {
        (Protocol::ICMPV4, 8, 0)
    } else {
        (Protocol::ICMPV6, 128, 129)
    };
    let open = || Socket::new(Domain::for_address(target), Type::DGRAM, Some(protocol)).unwrap();
    let mut socket = client.namespace.run(open).unwrap();
    socket.set_read_timeout(Some(patient(limit))).unwrap();
    // A connected socket hears nobody else.
    socket.connect(&target.into()).unwrap();
    let mut message = vec![request, 0, 0, 0, 0, 0, 0, 1];
    message.extend(b"how are you?");
    socket.send(&message).unwrap();
    let mut answer = [0; 64];
    match socket.read(&mut answer) {
        Ok(length) => {
            assert_eq!(
                (answer[0], &answer[6..length]),
                (reply, &message[6..]),
                "{target}"
            );
            true
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => panic!("ping {target}: {error}"),
    }
}
