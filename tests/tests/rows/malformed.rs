//! Headers that contradict themselves, and frames that end too early: dropped when they are for a service, passed
//! when they are not, never out of bounds.

use lb_common::abi::Reason::{self, BadHeader, NoService, NotIp, Truncated};
use lb_packets::Frame;

use super::row::{CLIENT4 as C4, CLIENT6 as C6, Row, l2dsr, passed, unsent};

pub(crate) fn rows() -> Vec<Row> {
    [headers4(), headers6(), tolerated(), cuts(), short_headers()].concat()
}

const IP: usize = 14;
const TRANSPORT4: usize = IP + 20;
const TRANSPORT6: usize = IP + 40;

fn patched(frame: &Frame, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.bytes();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Makes one mistake in a frame to a service, and in a frame to a host whose business it is.
fn both(name: &str, frames: [Frame; 2], at: usize, bytes: &[u8], reason: Reason) -> [Row; 2] {
    let [service, host] = frames;
    [
        unsent(name, patched(&service, at, bytes), reason),
        passed(format!("{name}, to a host"), patched(&host, at, bytes)),
    ]
}

fn headers4() -> Vec<Row> {
    let tcp = || [Frame::tcp(C4, "192.0.2.1:80"), Frame::tcp(C4, "192.0.2.200:80")];
    let udp = || [Frame::udp(C4, "192.0.2.1:53"), Frame::udp(C4, "192.0.2.200:53")];
    let len = |n: u16| n.to_be_bytes();
    [
        both("IPv4 of version 0", tcp(), IP, &[0x05], BadHeader),
        both("IPv4 of version 5", tcp(), IP, &[0x55], BadHeader),
        both("IPv4 of version 6", udp(), IP, &[0x65], BadHeader),
        both("a header of 0 words", tcp(), IP, &[0x40], BadHeader),
        both("a header of 4 words", tcp(), IP, &[0x44], BadHeader),
        both("a header longer than the packet", tcp(), IP, &[0x4f], BadHeader),
        both("a total length of 0", tcp(), IP + 2, &len(0), BadHeader),
        both("a total length of 19", tcp(), IP + 2, &len(19), BadHeader),
        both(
            "a total length of the IP header",
            tcp(),
            IP + 2,
            &len(20),
            BadHeader,
        ),
        both(
            "a total length that cuts TCP's header",
            tcp(),
            IP + 2,
            &len(39),
            BadHeader,
        ),
        both(
            "a total length that cuts UDP's header",
            udp(),
            IP + 2,
            &len(27),
            BadHeader,
        ),
        both(
            "a total length beyond the frame",
            tcp(),
            IP + 2,
            &len(51),
            Truncated,
        ),
        both("a total length of 65,535", udp(), IP + 2, &len(65_535), Truncated),
        both(
            "a TCP header of 0 words",
            tcp(),
            TRANSPORT4 + 12,
            &[0x00],
            BadHeader,
        ),
        both(
            "a TCP header of 4 words",
            tcp(),
            TRANSPORT4 + 12,
            &[0x40],
            BadHeader,
        ),
        both(
            "a TCP header longer than the packet",
            tcp(),
            TRANSPORT4 + 12,
            &[0x80],
            BadHeader,
        ),
        both("a UDP length of 0", udp(), TRANSPORT4 + 4, &len(0), BadHeader),
        both("a UDP length of 7", udp(), TRANSPORT4 + 4, &len(7), BadHeader),
        both(
            "a UDP length beyond the packet",
            udp(),
            TRANSPORT4 + 4,
            &len(20),
            BadHeader,
        ),
        both(
            "a UDP length of 65,535",
            udp(),
            TRANSPORT4 + 4,
            &len(65_535),
            BadHeader,
        ),
    ]
    .concat()
}

fn headers6() -> Vec<Row> {
    let tcp = || {
        [
            Frame::tcp(C6, "[2001:db8::1]:80"),
            Frame::tcp(C6, "[2001:db8::200]:80"),
        ]
    };
    let udp = || {
        [
            Frame::udp(C6, "[2001:db8::1]:53"),
            Frame::udp(C6, "[2001:db8::200]:53"),
        ]
    };
    let len = |n: u16| n.to_be_bytes();
    [
        both("IPv6 of version 0", tcp(), IP, &[0x00], BadHeader),
        both("IPv6 of version 4", tcp(), IP, &[0x45], BadHeader),
        both("IPv6 of version 15", udp(), IP, &[0xf0], BadHeader),
        both("a payload length of 0, TCP", tcp(), IP + 4, &len(0), BadHeader),
        both("a payload length of 0, UDP", udp(), IP + 4, &len(0), BadHeader),
        both(
            "a payload length that cuts TCP's header",
            tcp(),
            IP + 4,
            &len(19),
            BadHeader,
        ),
        both(
            "a payload length that cuts UDP's header",
            udp(),
            IP + 4,
            &len(7),
            BadHeader,
        ),
        both(
            "a payload length beyond the frame",
            tcp(),
            IP + 4,
            &len(31),
            Truncated,
        ),
        both(
            "a payload length of 65,495",
            tcp(),
            IP + 4,
            &len(65_495),
            Truncated,
        ),
        both(
            "a payload length of 65,496",
            tcp(),
            IP + 4,
            &len(65_496),
            BadHeader,
        ),
        both(
            "a payload length of 65,535",
            udp(),
            IP + 4,
            &len(65_535),
            BadHeader,
        ),
        both(
            "a TCP header of 4 words, IPv6",
            tcp(),
            TRANSPORT6 + 12,
            &[0x40],
            BadHeader,
        ),
        both(
            "a TCP header longer than the packet, IPv6",
            tcp(),
            TRANSPORT6 + 12,
            &[0x80],
            BadHeader,
        ),
        both(
            "a UDP length of 7, IPv6",
            udp(),
            TRANSPORT6 + 4,
            &len(7),
            BadHeader,
        ),
        both(
            "a UDP length beyond the packet, IPv6",
            udp(),
            TRANSPORT6 + 4,
            &len(20),
            BadHeader,
        ),
    ]
    .concat()
}

/// What looks odd but is for the backend to judge.
fn tolerated() -> Vec<Row> {
    let changed = |row: Row, at: usize, byte: u8| {
        let (mut input, mut output) = (row.input.clone(), row.output.clone());
        (input[at], output[at]) = (byte, byte);
        Row { input, output, ..row }
    };
    let tcp = Frame::tcp(C4, "192.0.2.1:80");
    let udp = Frame::udp(C4, "192.0.2.1:53");
    vec![
        changed(
            l2dsr("TCP's header takes up all data", &tcp, "10.0.0.1"),
            TRANSPORT4 + 12,
            0x70,
        ),
        changed(
            l2dsr("a UDP length short of the packet", &udp, "10.0.0.1"),
            TRANSPORT4 + 5,
            18,
        ),
        changed(
            l2dsr("a UDP length of its header", &udp, "10.0.0.1"),
            TRANSPORT4 + 5,
            8,
        ),
        changed(
            l2dsr("a wrong TCP checksum", &tcp, "10.0.0.1"),
            TRANSPORT4 + 16,
            0,
        ),
        l2dsr(
            "from port 0",
            &Frame::udp("198.51.100.50:0", "192.0.2.1:53"),
            "10.0.0.1",
        ),
        l2dsr(
            "from the VIP itself",
            &Frame::tcp("192.0.2.1:80", "192.0.2.1:80"),
            "10.0.0.1",
        ),
    ]
}

/// Frames cut at every byte, up to the last.
fn cuts() -> Vec<Row> {
    let (echo4, echo6) = (
        Frame::echo("198.51.100.50", "192.0.2.1"),
        Frame::echo("2001:db8:c::50", "2001:db8::1"),
    );
    let options = |to: &str| Frame::tcp(C4, to).ip_options(&[1; 8]).tcp_options(&[1; 8]);
    let for_services = [
        ("TCP over IPv4", Frame::tcp(C4, "192.0.2.1:80")),
        ("UDP over IPv4", Frame::udp(C4, "192.0.2.1:53")),
        ("TCP over IPv6", Frame::tcp(C6, "[2001:db8::1]:80")),
        ("UDP over IPv6", Frame::udp(C6, "[2001:db8::1]:53")),
        ("TCP and IPv4 options", options("192.0.2.1:80")),
        ("nat, TCP over IPv4", Frame::tcp(C4, "192.0.2.5:80")),
        ("nat, UDP over IPv6", Frame::udp(C6, "[2001:db8::5]:53")),
        ("echo over IPv4", echo4),
        ("echo over IPv6", echo6),
    ];
    let for_hosts = [
        ("TCP to an IPv4 host", Frame::tcp(C4, "192.0.2.200:80")),
        ("UDP to an IPv6 host", Frame::udp(C6, "[2001:db8::200]:53")),
        ("TCP from a nat backend", Frame::tcp("10.0.0.4:80", C4)),
    ];
    let services = for_services
        .iter()
        .flat_map(|(name, frame)| cut(name, frame, Truncated));
    let hosts = for_hosts
        .iter()
        .flat_map(|(name, frame)| cut(name, frame, NoService));
    services.chain(hosts).collect()
}

/// A frame cut at every byte. `later` is what becomes of it once its addresses are complete.
fn cut(name: &str, frame: &Frame, later: Reason) -> Vec<Row> {
    let bytes = frame.bytes();
    let addresses_end = if frame.source.is_ipv4() {
        TRANSPORT4
    } else {
        TRANSPORT6
    };
    let row = |len: usize| {
        let reason = match len {
            0..IP => NotIp,
            len if len < addresses_end => NoService,
            _ => later,
        };
        unsent(format!("{name}, cut after {len} bytes"), &bytes[..len], reason)
    };
    (0..bytes.len()).map(row).collect()
}

/// Transport headers cut at every byte by an IP packet whose length says so.
fn short_headers() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, header, frame) in [
        ("TCP over IPv4", 20, Frame::tcp(C4, "192.0.2.1:80")),
        ("UDP over IPv4", 8, Frame::udp(C4, "192.0.2.1:53")),
        ("TCP over IPv6", 20, Frame::tcp(C6, "[2001:db8::1]:80")),
        ("UDP over IPv6", 8, Frame::udp(C6, "[2001:db8::1]:53")),
    ] {
        let ip = if frame.source.is_ipv4() { 20 } else { 40 };
        let protocol = if header == 20 { 6 } else { 17 };
        let (source, destination) = (frame.source.to_string(), frame.destination.to_string());
        for len in 0..header {
            let transport = &frame.ip_bytes()[ip..ip + len];
            let short = Frame::raw(&source, &destination, protocol, transport);
            let padded = short.clone().padding(&[0; 40]);
            rows.push(unsent(
                format!("{name}, {len} bytes of its header"),
                short,
                Truncated,
            ));
            rows.push(unsent(
                format!("{name}, {len} bytes of its header, padding"),
                padded,
                BadHeader,
            ));
        }
    }
    rows
}
