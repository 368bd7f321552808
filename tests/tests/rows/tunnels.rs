//! Fronts: every tunnel around either family, over either family; VLAN tags; and backends that need no front.

use std::net::IpAddr;

use lb_core::desired::{Forwarder, Service, Vlan};
use lb_packets::Frame;
use lb_world::{OWN_MAC, backend_mac};

use super::{
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, forwarded, hash, l2dsr, local, nat, too_big},
    service_set::{SMALL, ServiceSet, service},
};

/// A tunnel: by which forwarder, and over which family.
#[derive(Clone, Copy, Debug)]
struct Tunnel {
    forwarder: Forwarder,
    over6: bool,
}

use Forwarder::{Fou, Gre, Gue, Ipip};

const TUNNELS: [Tunnel; 8] = {
    const fn over(forwarder: Forwarder, over6: bool) -> Tunnel {
        Tunnel { forwarder, over6 }
    }
    [
        over(Ipip, false),
        over(Ipip, true),
        over(Gue, false),
        over(Gue, true),
        over(Fou, false),
        over(Fou, true),
        over(Gre, false),
        over(Gre, true),
    ]
};

/// VIPs of tunnels: this and the tunnel's number, and so on for the other kinds of services.
const PLAIN: u8 = 0x20;
const SMALL_MTU: u8 = 0x28;
const TAGGED: u8 = 0x30;
const TAGGED_TWICE: u8 = 0x38;
const L2DSR: u8 = 0x40;
const NAT: u8 = 0x42;
const LOCAL: u8 = 0x44;
const OVERRIDDEN: u8 = 0x45;
const OTHER_PORT: u8 = 0x46;

const ONE_TAG: [u8; 4] = [0x81, 0, 0, 100];
const TWO_TAGS: [u8; 8] = [0x88, 0xa8, 0, 200, 0x81, 0, 0x0f, 0xfe];

fn one() -> Vlan {
    "100".parse().unwrap()
}

fn two() -> Vlan {
    "200.4094".parse().unwrap()
}

impl Tunnel {
    fn backend(self, host: u8) -> String {
        if self.over6 {
            format!("2001:db8:b::{host:x}")
        } else {
            format!("10.0.0.{host}")
        }
    }

    fn name(self) -> String {
        format!("{}{}", self.forwarder, if self.over6 { 6 } else { 4 })
    }

    /// Length of its headers.
    fn overhead(self) -> usize {
        let between = match self.forwarder {
            Gue => 12,
            Fou => 8,
            Gre => 4,
            _ => 0,
        };
        between + if self.over6 { 40 } else { 20 }
    }

    /// `frame` on its way to that backend.
    fn around(self, frame: &Frame, backend: &str, port: u16) -> Frame {
        let hash = hash(frame);
        let inner = frame.clone().ttl(frame.ttl.wrapping_sub(1)).ip_bytes();
        let (protocol, ether_type) = match frame.source {
            IpAddr::V4(_) => (4, [0x08, 0x00]),
            IpAddr::V6(_) => (41, [0x86, 0xdd]),
        };
        let [a, b, c, d] = ((hash >> 8) as u32).to_le_bytes();
        let source = if self.over6 {
            format!("2001:db8:7::{a:02x}{b:02x}:{c:02x}{d:02x}")
        } else {
            format!("172.16.{c}.{d}")
        };
        let label = if self.over6 {
            (hash >> 8) as u32 & 0xf_ffff
        } else {
            0
        };
        let datagram = |header: &[u8]| {
            let from = 0xc000 | (hash >> 8) as u16 & 0x3fff;
            let end = |address: &str, port: u16| match self.over6 {
                true => format!("[{address}]:{port}"),
                false => format!("{address}:{port}"),
            };
            Frame::udp(&end(&source, from), &end(backend, port))
                .unsummed()
                .data(&[header, &inner].concat())
        };
        let outer = match self.forwarder {
            Gue => datagram(&[0, protocol, 0, 0]),
            Fou => datagram(&[]),
            Gre => {
                let header = [0, 0, ether_type[0], ether_type[1]];
                Frame::raw(&source, backend, 47, &[&header[..], &inner].concat())
            }
            _ => Frame::raw(&source, backend, protocol, &inner),
        };
        outer
            .tos(frame.tos)
            .label(label)
            .macs(backend_mac(backend.parse().unwrap()), OWN_MAC)
            .padding(&frame.padding)
    }

    fn usual_port(self) -> u16 {
        self.forwarder.default_tunnel_port().unwrap_or(0)
    }

    /// A packet that it carries.
    fn row(self, name: &str, frame: &Frame, host: u8) -> Row {
        let backend = self.backend(host);
        let output = self.around(frame, &backend, self.usual_port()).bytes();
        let name = format!("{}, {name}", self.name());
        forwarded(&name, frame, output, backend.parse().unwrap()).within(ServiceSet::Tunnels)
    }
}

/// The services of [`ServiceSet::Tunnels`].
pub(crate) fn services() -> Vec<Service> {
    let mut all = Vec::new();
    let with_vlan = |mut service: Service, vlan: Vlan| {
        for backend in &mut service.backends {
            backend.vlan = Some(vlan);
        }
        service
    };
    for (tunnel, i) in TUNNELS.into_iter().zip(0..) {
        let make = |kind: &str, vip: u8, protocol: &str, host: u8| {
            let port = if protocol == "tcp" { "80" } else { "53" };
            let name = format!("{}-{kind}-{protocol}", tunnel.name());
            let backend = tunnel.backend(host);
            service(&name, vip + i, protocol, port, tunnel.forwarder, &[&backend])
        };
        all.push(make("plain", PLAIN, "tcp", 2));
        all.push(make("plain", PLAIN, "udp", 2));
        all.push(make("small", SMALL_MTU, "udp", 0x60));
        all.push(with_vlan(make("tagged", TAGGED, "tcp", 2), one()));
        all.push(with_vlan(make("tagged-twice", TAGGED_TWICE, "tcp", 2), two()));
    }
    for (vlan, i) in [one(), two()].into_iter().zip(0..) {
        let dsr = service(
            &format!("dsr-{i}"),
            L2DSR + i,
            "tcp",
            "80",
            Forwarder::L2dsr,
            &["10.0.0.3"],
        );
        let [nat4, nat6] = nat_backends(i);
        let nat = service(
            &format!("nat-{i}"),
            NAT + i,
            "tcp",
            "80",
            Forwarder::Nat,
            &[&nat4, &nat6],
        );
        all.extend([with_vlan(dsr, vlan), with_vlan(nat, vlan)]);
    }
    all.push(service(
        "local",
        LOCAL,
        "tcp",
        "80",
        Forwarder::Local,
        &["10.0.0.224"],
    ));
    let mut overridden = service(
        "overridden",
        OVERRIDDEN,
        "tcp",
        "80",
        Forwarder::L2dsr,
        &["10.0.0.2"],
    );
    overridden.backends[0].forwarder = Some(Gre);
    all.push(overridden);
    for (forwarder, i) in [Gue, Fou].into_iter().zip(0..) {
        let name = format!("{forwarder}-port");
        let mut other = service(&name, OTHER_PORT + i, "tcp", "80", forwarder, &["10.0.0.2"]);
        other.tunnel_port = 7777.try_into().ok();
        all.push(other);
    }
    all
}

fn nat_backends(i: u8) -> [String; 2] {
    [format!("10.0.0.{}", 4 + i), format!("2001:db8:b::{}", 4 + i)]
}

pub(crate) fn rows() -> Vec<Row> {
    let of_tunnels = TUNNELS.into_iter().zip(0..).flat_map(|(tunnel, i)| {
        [
            basic(tunnel, i),
            header_fields(tunnel, i),
            sizes(tunnel, i),
            tags(tunnel, i),
        ]
        .concat()
    });
    of_tunnels.chain(others()).collect()
}

fn vip4(vip: u8, port: u16) -> String {
    format!("192.0.2.{vip}:{port}")
}

fn vip6(vip: u8, port: u16) -> String {
    format!("[2001:db8::{vip:x}]:{port}")
}

fn basic(tunnel: Tunnel, i: u8) -> Vec<Row> {
    let vip = PLAIN + i;
    vec![
        tunnel.row("TCP over IPv4", &Frame::tcp(C4, &vip4(vip, 80)), 2),
        tunnel.row("UDP over IPv4", &Frame::udp(C4, &vip4(vip, 53)), 2),
        tunnel.row("TCP over IPv6", &Frame::tcp(C6, &vip6(vip, 80)), 2),
        tunnel.row("UDP over IPv6", &Frame::udp(C6, &vip6(vip, 53)), 2),
        tunnel.row("SYN", &Frame::tcp(C4, &vip4(vip, 80)).flags(0x02), 2),
        tunnel.row(
            "another flow",
            &Frame::tcp("198.51.100.51:40001", &vip4(vip, 80)),
            2,
        ),
    ]
}

fn header_fields(tunnel: Tunnel, i: u8) -> Vec<Row> {
    let tcp4 = || Frame::tcp(C4, &vip4(PLAIN + i, 80));
    let tcp6 = || Frame::tcp(C6, &vip6(PLAIN + i, 80));
    vec![
        tunnel.row("congestion experienced stays so outside", &tcp4().tos(0x03), 2),
        tunnel.row("ECT(0) is copied outward", &tcp6().tos(0x02), 2),
        tunnel.row("type of service is copied outward", &tcp4().tos(0xb9), 2),
        tunnel.row("traffic class is copied outward", &tcp6().tos(0xfd), 2),
        tunnel.row("inner flow label stays", &tcp6().label(0xf_edcb), 2),
        tunnel.row("inner identification stays", &tcp4().label(0xbeef).fragment(0), 2),
        tunnel.row("IPv4 options", &tcp4().ip_options(&[0x94, 4, 0, 0]), 2),
        tunnel.row("TTL 2", &tcp4().ttl(2), 2),
        tunnel.row("hop limit 255", &tcp6().ttl(255), 2),
        tunnel.row("padding", &tcp4().data(&[]).padding(&[0xee; 6]), 2),
        tunnel.row(
            "UDP without checksum",
            &Frame::udp(C4, &vip4(PLAIN + i, 53)).unsummed(),
            2,
        ),
    ]
}

fn sizes(tunnel: Tunnel, i: u8) -> Vec<Row> {
    let most = SMALL - tunnel.overhead();
    let udp4 = |len| Frame::udp(C4, &vip4(SMALL_MTU + i, 53)).ip_len(len);
    let udp6 = |len| Frame::udp(C6, &vip6(SMALL_MTU + i, 53)).ip_len(len);
    let name = tunnel.name();
    vec![
        tunnel.row("IPv4 as long as the MTU", &udp4(most), 0x60),
        tunnel.row("IPv6 as long as the MTU", &udp6(most), 0x60),
        too_big(format!("{name}, IPv4 longer than the MTU"), &udp4(most + 1), most)
            .within(ServiceSet::Tunnels),
        too_big(format!("{name}, IPv6 longer than the MTU"), &udp6(most + 1), most)
            .within(ServiceSet::Tunnels),
    ]
}

fn tags(tunnel: Tunnel, i: u8) -> Vec<Row> {
    let frames = |vip| [Frame::tcp(C4, &vip4(vip, 80)), Frame::tcp(C6, &vip6(vip, 80))];
    let [a, b] = frames(TAGGED + i);
    let [c, d] = frames(TAGGED_TWICE + i);
    vec![
        tunnel.row("IPv4 with a tag", &a, 2).tagged(&ONE_TAG),
        tunnel.row("IPv6 with a tag", &b, 2).tagged(&ONE_TAG),
        tunnel.row("IPv4 with two tags", &c, 2).tagged(&TWO_TAGS),
        tunnel.row("IPv6 with two tags", &d, 2).tagged(&TWO_TAGS),
    ]
}

fn others() -> Vec<Row> {
    let mut rows = Vec::new();
    for (tags, i) in [&ONE_TAG[..], &TWO_TAGS].into_iter().zip(0..) {
        let n = tags.len() / 4;
        let tcp4 = |vip| Frame::tcp(C4, &vip4(vip, 80));
        let tcp6 = |vip| Frame::tcp(C6, &vip6(vip, 80));
        let row = |row: Row| row.within(ServiceSet::Tunnels).tagged(tags);
        let [nat4, nat6] = nat_backends(i);
        rows.extend([
            row(l2dsr(
                &format!("l2dsr over IPv4 with {n} tags"),
                &tcp4(L2DSR + i),
                "10.0.0.3",
            )),
            row(l2dsr(
                &format!("l2dsr over IPv6 with {n} tags"),
                &tcp6(L2DSR + i),
                "10.0.0.3",
            )),
            row(nat(
                &format!("nat over IPv4 with {n} tags"),
                &tcp4(NAT + i),
                &nat4,
            )),
            row(nat(
                &format!("nat over IPv6 with {n} tags"),
                &tcp6(NAT + i),
                &nat6,
            )),
        ]);
    }
    let local4 = local("local, IPv4", &Frame::tcp(C4, &vip4(LOCAL, 80)), "10.0.0.224");
    let local6 = local("local, IPv6", &Frame::tcp(C6, &vip6(LOCAL, 80)), "10.0.0.224");
    rows.extend([local4, local6].map(|row| row.within(ServiceSet::Tunnels)));
    let gre = Tunnel {
        forwarder: Gre,
        over6: false,
    };
    let overridden = Frame::tcp(C4, &vip4(OVERRIDDEN, 80));
    rows.push(gre.row("a backend's own forwarder", &overridden, 2));
    for (forwarder, i) in [Gue, Fou].into_iter().zip(0..) {
        let tunnel = Tunnel {
            forwarder,
            over6: false,
        };
        let frame = Frame::tcp(C6, &vip6(OTHER_PORT + i, 80));
        let output = tunnel.around(&frame, "10.0.0.2", 7777).bytes();
        let name = format!("{forwarder} to another port");
        let row = forwarded(&name, &frame, output, "10.0.0.2".parse().unwrap());
        rows.push(row.within(ServiceSet::Tunnels));
    }
    rows
}
