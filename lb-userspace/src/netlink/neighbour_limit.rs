//! How many neighbours the kernel keeps at most (`gc_thresh3`), over all network namespaces. /proc/sys shows that in the
//! first of these alone; rtnetlink tells everywhere.

use std::{io::Read, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};

use super::{sysctl::SysctlFamily, words::u16_at};

/// Length of a netlink message's header, and with that of `struct ndtmsg`.
const HEADER: usize = 16;
const HEADERS: usize = HEADER + 4;
const RTM_NEWNEIGHTBL: u16 = 64;
const RTM_GETNEIGHTBL: u16 = 66;
/// `NDTA_THRESH3`.
const THRESH3: u16 = 4;
/// `NLM_F_REQUEST`, `NLM_F_DUMP`.
const DUMP: u16 = 1 | 0x300;

/// How many neighbours of `family` the kernel keeps at most; `None` where it does not tell.
pub fn most_neighbours(family: SysctlFamily) -> Option<u32> {
    let (domain, protocol) = (
        Domain::from(libc::AF_NETLINK),
        Protocol::from(libc::NETLINK_ROUTE),
    );
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let family = match family {
        SysctlFamily::V4 => libc::AF_INET,
        SysctlFamily::V6 => libc::AF_INET6,
    } as u8;
    let mut message = Vec::with_capacity(HEADERS);
    message.extend((HEADERS as u32).to_ne_bytes());
    message.extend(RTM_GETNEIGHTBL.to_ne_bytes());
    message.extend(DUMP.to_ne_bytes());
    // Number and port: one question at a time, of this socket.
    message.extend([0; 8]);
    message.extend([family, 0, 0, 0]);
    socket.send(&message).ok()?;
    // The table itself comes before what it has for each interface.
    let mut answer = vec![0; 32_768];
    let length = socket.read(&mut answer).ok()?;
    limit(answer.get(..length)?, family)
}

/// The limit in the first message that tells it.
fn limit(mut messages: &[u8], family: u8) -> Option<u32> {
    loop {
        let length = u32::from_ne_bytes(messages.get(..4)?.try_into().ok()?) as usize;
        let message = messages
            .get(..length)
            .filter(|message| message.len() >= HEADERS)?;
        if u16_at(message, 4)? == RTM_NEWNEIGHTBL && message[HEADER] == family {
            let mut attributes = &message[HEADERS..];
            while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
                let value = attributes.get(4..usize::from(length))?;
                if kind == THRESH3 {
                    return Some(u32::from_ne_bytes(value.try_into().ok()?));
                }
                attributes = attributes.get(usize::from(length).next_multiple_of(4)..)?;
            }
        }
        messages = messages.get(length.next_multiple_of(4)..)?;
    }
}
