//! What a driver says about an XDP program that it refuses. bpf(2) returns a number alone; rtnetlink carries words.
//!
//! Invariant: no program stays attached by what happens here.

use std::{
    io::{self, Read},
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

/// Length of a netlink message's header.
const HEADER: usize = 16;
/// `NLMSG_ERROR`, which success is, too.
const NLMSG_ERROR: u16 = 2;
const RTM_SETLINK: u16 = 19;
/// `NLM_F_REQUEST`, `NLM_F_ACK`.
const REQUEST: u16 = 1 | 4;
/// `NLMSGERR_ATTR_MSG`.
const MESSAGE: u16 = 1;
/// `IFLA_XDP` with `NLA_F_NESTED`.
const IFLA_XDP: u16 = 43 | 1 << 15;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_EXPECTED_FD: u16 = 8;
const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_FLAGS_REPLACE: u32 = 1 << 4;

/// Why the kernel refuses to run `program` natively on the interface, in its words; `None` where it has none, and on
/// kernels before 5.7.
pub(crate) fn native_refusal(program: BorrowedFd<'_>, interface: u32) -> Option<String> {
    let mut socket = open().ok()?;
    let program = program.as_raw_fd();
    let flags = XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_DRV_MODE;
    let answer = ask(&mut socket, &change(interface, program, flags, None)).ok()?;
    if refused(&answer)? {
        return words(&answer);
    }
    // What kept it off is gone since: leave the interface as it was, unless somebody else was faster.
    let flags = XDP_FLAGS_REPLACE | XDP_FLAGS_DRV_MODE;
    match ask(&mut socket, &change(interface, -1, flags, Some(program))) {
        Ok(answer) if refused(&answer) == Some(false) => {}
        _ => {
            log::error!(
                "interface {interface} has the program now: `ip link set dev … xdp off` takes it off"
            );
        }
    }
    None
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Without a copy of the request, the words are at a fixed place.
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let on: libc::c_int = 1;
        // SAFETY: the value is a whole `c_int` that lives until the call returns, and its length is passed.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(socket)
}

fn ask(socket: &mut Socket, request: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(request)?;
    let mut answer = vec![0; 8192];
    let length = socket.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// A message that sets the interface's XDP program.
fn change(interface: u32, program: RawFd, flags: u32, expected: Option<RawFd>) -> Vec<u8> {
    let mut xdp = attribute(IFLA_XDP_FD, &program.to_ne_bytes());
    xdp.extend(attribute(IFLA_XDP_FLAGS, &flags.to_ne_bytes()));
    if let Some(expected) = expected {
        xdp.extend(attribute(IFLA_XDP_EXPECTED_FD, &expected.to_ne_bytes()));
    }
    // struct ifinfomsg: only the index says something.
    let mut body = vec![0; 16];
    body[4..8].copy_from_slice(&interface.to_ne_bytes());
    body.extend(attribute(IFLA_XDP, &xdp));
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(RTM_SETLINK.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Number and port: one question at a time, of this socket.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// All values here are multiples of four bytes, so nothing is padded.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Whether an answer is a refusal; `None` if it is no answer.
fn refused(answer: &[u8]) -> Option<bool> {
    (u16_at(answer, 4)? == NLMSG_ERROR).then_some(())?;
    Some(answer.get(HEADER..HEADER + 4)?.iter().any(|&byte| byte != 0))
}

/// The words of a refusal.
fn words(answer: &[u8]) -> Option<String> {
    // Behind the error and the header of the request.
    let mut rest = answer.get(HEADER + 4 + HEADER..)?;
    loop {
        let (length, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let value = rest.get(4..length)?;
        if kind == MESSAGE {
            let text = String::from_utf8_lossy(value);
            let text = text.trim_end_matches('\0').trim();
            return (!text.is_empty()).then(|| text.to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: i32, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        bytes.extend(error.to_ne_bytes());
        bytes.extend([0; HEADER]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn the_words_are_found_among_other_attributes() {
        let mut attributes = attribute(2, &[1, 2, 3, 4]);
        attributes.extend(attribute(MESSAGE, b"too large\0"));
        let whole = answer(-22, &attributes);
        assert_eq!(refused(&whole), Some(true));
        assert_eq!(words(&whole).as_deref(), Some("too large"));
        for length in 0..whole.len() {
            assert_eq!(words(&whole[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn answers_without_words_have_none() {
        assert_eq!(refused(&answer(0, &[])), Some(false));
        assert_eq!(words(&answer(-22, &[])), None);
        assert_eq!(words(&answer(-22, &attribute(MESSAGE, b"\0"))), None);
        assert_eq!(
            words(&answer(-22, &[0; 64])),
            None,
            "lengths that are none end it"
        );
    }
}
