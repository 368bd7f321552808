//! Whether native XDP can send out of an interface: its driver may lack `ndo_xdp_xmit`, or the interface what that needs at
//! the moment. The kernel takes such frames and drops them without a word to anybody. It tells since Linux 6.3, by generic
//! netlink (linux/netdev.h).

use std::{
    io::{self, Read},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::words::{attribute, u16_at};

/// Length of a netlink message's header, and with that of generic netlink.
const HEADER: usize = 16;
const HEADERS: usize = HEADER + 4;
/// `GENL_ID_CTRL`, which knows the numbers of the others.
const CONTROL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`.
const NDO_XMIT: u64 = 1 << 2;
const REQUEST: u16 = 1;

/// Whether native XDP can send out of the interface; `None` where the kernel does not tell.
pub(crate) fn takes_redirects(interface: u32) -> Option<bool> {
    let mut socket = open().ok()?;
    // With the byte that ends it, and filled up to a multiple of four.
    let family = ask(
        &mut socket,
        CONTROL,
        CTRL_CMD_GETFAMILY,
        &attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0\0"),
    )?;
    let family = u16_at(find(&family, CTRL_ATTR_FAMILY_ID)?, 0)?;
    let index = attribute(NETDEV_A_DEV_IFINDEX, &interface.to_ne_bytes());
    let device = ask(&mut socket, family, NETDEV_CMD_DEV_GET, &index)?;
    let features = find(&device, NETDEV_A_DEV_XDP_FEATURES)?.try_into().ok()?;
    Some(u64::from_ne_bytes(features) & NDO_XMIT != 0)
}

fn open() -> io::Result<Socket> {
    let (domain, protocol) = (
        Domain::from(libc::AF_NETLINK),
        Protocol::from(libc::NETLINK_GENERIC),
    );
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// The attributes of the answer; `None` for a refusal.
fn ask(socket: &mut Socket, kind: u16, command: u8, attributes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADERS + attributes.len());
    message.extend(((HEADERS + attributes.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Number and port: one question at a time, of this socket.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    socket.send(&message).ok()?;
    let mut answer = vec![0; 8192];
    let length = socket.read(&mut answer).ok()?;
    let is_answer = u16_at(&answer, 4)? == kind;
    is_answer.then(|| answer.get(HEADERS..length).map(<[u8]>::to_vec))?
}

/// The value of an attribute.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(u16_at(attributes, 0)?), u16_at(attributes, 2)?);
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_behind_others_of_any_length() {
        let mut attributes = attribute(2, b"netdev\0\0");
        attributes.extend([5, 0, 9, 0, 7, 0, 0, 0]);
        attributes.extend(attribute(1, &[1, 2, 3, 4]));
        assert_eq!(find(&attributes, 1), Some(&[1, 2, 3, 4][..]));
        assert_eq!(find(&attributes, 9), Some(&[7][..]));
        assert_eq!(find(&attributes, 4), None);
        assert_eq!(find(&[0; 64], 4), None, "lengths that are none end it");
    }

    #[test]
    fn there_is_no_such_interface() {
        assert_eq!(takes_redirects(u32::MAX >> 1), None);
    }
}
