//! The cases: which program meets which frames, and what must become of them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
};

use anyhow::{Context, Result, bail};
use lb_common::{
    abi::Reason,
    quic::{ConnectionId, encode},
};
use lb_core::desired::{Forwarder, PortRange, Protocol, QuicConfig, QuicKey, ServicePort, Source};

use super::{
    Options,
    frame::{Frame, Payload},
    scenario::{BACKENDS4, Scenario},
    wire,
    wrapper::Flows,
};

/// XDP actions (linux/bpf.h).
pub(super) const XDP_PASS: u32 = 2;
pub(super) const XDP_TX: u32 = 3;

/// The case that all others are compared with.
pub(super) const FLOOR: &str = "floor";

/// The port of nat backends.
const NAT_PORT: u16 = 8080;
/// Ends of ranges.
const HIGH: NonZeroU16 = NonZeroU16::new(30_000).unwrap();
const HIGHER: NonZeroU16 = NonZeroU16::new(32_767).unwrap();

/// The program under test.
#[derive(Debug, Clone)]
pub(super) enum Program {
    /// A program of the bench's own object.
    Bench(&'static str),
    /// The balancer, with these services.
    Balancer(Scenario),
}

/// What must become of every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) action: u32,
    /// Whether the frame changes its length or its destination MAC address.
    pub(super) rewritten: bool,
    /// Under which reason the balancer counts it.
    pub(super) reason: Reason,
}

/// One row of the bench.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) program: Program,
    pub(super) frame: Frame,
    pub(super) flows: Flows,
    pub(super) expected: Expected,
    /// Whether a peer that serves the same VIP can be fed with the same frames.
    pub(super) for_peer: bool,
}

const MILLION: Flows = flows(20);
pub(super) const FRESH: Flows = Flows {
    bits: 0,
    service_bits: 0,
    fresh: true,
};

/// Two to the power of `bits`.
const fn flows(bits: u32) -> Flows {
    Flows {
        bits,
        service_bits: 0,
        fresh: false,
    }
}

/// Every case, in the order in which they are run and reported.
pub(super) fn all(options: &Options) -> Result<Vec<Case>> {
    let ends = Ends::new(options);
    let mut cases = references(&ends)?;
    cases.extend(established(&ends)?);
    cases.extend(tracked(&ends)?);
    cases.extend(other_traffic(&ends)?);
    cases.extend(other_forwarders(&ends)?);
    cases.extend(new_fronts(&ends)?);
    cases.extend(connection_ids(&ends)?);
    cases.extend(not_balanced(&ends)?);
    Ok(cases)
}

/// What the balancer is compared with.
fn references(ends: &Ends) -> Result<Vec<Case>> {
    let tcp4 = ends.frame(Payload::Tcp, ends.vip4)?;
    let tcp6 = ends.frame(Payload::Tcp, ends.vip6)?;
    let case = |name, program, frame: &Frame| Case {
        for_peer: false,
        ..Case::new(name, Program::Bench(program), frame.clone())
    };
    Ok(vec![
        case("empty", "empty", &tcp4).expecting(XDP_TX, false, Reason::Forwarded),
        case(FLOOR, "floor4", &tcp4),
        case("floor-4k", "floor4", &tcp4).over(flows(12)),
        case("floor-64k", "floor4", &tcp4).over(flows(16)),
        case("floor-256k", "floor4", &tcp4).over(flows(18)),
        case("floor-1m", "floor4", &tcp4).over(MILLION),
        case("floor6", "floor6", &tcp6),
    ])
}

/// TCP connections that are open, through `ipip`.
fn established(ends: &Ends) -> Result<Vec<Case>> {
    let tcp4 = ends.frame(Payload::Tcp, ends.vip4)?;
    let tcp6 = ends.frame(Payload::Tcp, ends.vip6)?;
    let four = |name, scenario: Scenario| Case::new(name, Program::Balancer(scenario), tcp4.clone());
    let six = |name| Case::new(name, Program::Balancer(Scenario::one(ends.vip6)), tcp6.clone());
    let one = Scenario::one(ends.vip4);
    let many = |services, backends| Scenario {
        services,
        backends,
        ..one.clone()
    };
    let divided = |service_bits| Flows {
        service_bits,
        ..MILLION
    };
    Ok(vec![
        four("tcp4-ipip", one.clone()),
        four("tcp4-ipip-4k", one.clone()).over(flows(12)),
        four("tcp4-ipip-64k", one.clone()).over(flows(16)),
        four("tcp4-ipip-256k", one.clone()).over(flows(18)),
        four("tcp4-ipip-1m", one.clone()).over(MILLION),
        four("tcp4-ipip-1000be-1m", many(1, 1000)).over(MILLION),
        four("tcp4-ipip-64svc-1m", many(64, 100)).over(divided(6)),
        four("1024svc", many(1024, 16)).over(divided(10)),
        six("tcp6-ipip"),
        six("tcp6-ipip-4k").over(flows(12)),
        six("tcp6-ipip-64k").over(flows(16)),
        six("tcp6-ipip-256k").over(flows(18)),
        six("tcp6-ipip-1m").over(MILLION),
    ])
}

/// TCP connections that are open, in slots that have just changed hands.
fn tracked(ends: &Ends) -> Result<Vec<Case>> {
    let case = |name, vip| {
        let frame = ends.frame(Payload::Tcp, vip)?;
        anyhow::Ok(Case::new(name, Program::Balancer(Scenario::moved(vip)), frame))
    };
    Ok(vec![
        case("unsafe-hit", ends.vip4)?,
        case("unsafe-hit-64k", ends.vip4)?.over(flows(16)),
        case("unsafe-hit6", ends.vip6)?,
        case("unsafe-hit6-64k", ends.vip6)?.over(flows(16)),
    ])
}

/// New connections, UDP, a service for any port, one for many, and one of a VIP that has another for many.
fn other_traffic(ends: &Ends) -> Result<Vec<Case>> {
    let case = |name, payload, scenario: Scenario| {
        let frame = ends.frame(payload, ends.vip4)?;
        anyhow::Ok(Case::new(name, Program::Balancer(scenario), frame))
    };
    let one = Scenario::one(ends.vip4);
    let udp = Scenario {
        protocol: Protocol::Udp,
        ..one.clone()
    };
    let any = Scenario {
        port: ServicePort::Any,
        ..one.clone()
    };
    let range = |first, last| PortRange::new(first, last).context("a range has to begin before its end");
    let high = ServicePort::Range(range(HIGH, HIGHER)?);
    let beside = Scenario {
        beside: Some(high),
        ..one.clone()
    };
    let around = range(NonZeroU16::MIN, HIGH)?;
    let ranged = Scenario {
        port: ServicePort::Range(around),
        ..one.clone()
    };
    Ok(vec![
        case("syn4", Payload::Syn, one.clone())?,
        case("fresh4", Payload::Syn, one)?.over(FRESH),
        case("udp4-ipip", Payload::Udp, udp)?,
        case("any-port", Payload::Tcp, any)?,
        case("tcp4-ipip-beside-range", Payload::Tcp, beside)?,
        case("detour-range", Payload::Tcp, ranged)?,
    ])
}

/// Forwarders but `ipip`.
fn other_forwarders(ends: &Ends) -> Result<Vec<Case>> {
    let scenario = |forwarder, backend_port| {
        Program::Balancer(Scenario {
            forwarder,
            backend_port,
            ..Scenario::one(ends.vip4)
        })
    };
    let nat = scenario(Forwarder::Nat, Some(NAT_PORT));
    let request = ends.frame(Payload::Tcp, ends.vip4)?;
    let backend = SocketAddr::new(Ipv4Addr::from(BACKENDS4).into(), NAT_PORT);
    let client = SocketAddr::new(wire::CLIENT.into(), ends.client4.port());
    let answer = Frame::new(Payload::Tcp, backend, client)?.translated();
    Ok(vec![
        Case::new("tcp4-l2dsr", scenario(Forwarder::L2dsr, None), request.clone()),
        Case::new("nat-forward", nat.clone(), request.clone().translated()),
        Case::new(
            "fullnat-forward",
            scenario(Forwarder::Fullnat, None),
            request.translated(),
        ),
        Case {
            for_peer: false,
            ..Case::new("nat-back", nat, answer).expecting(XDP_TX, true, Reason::Returned)
        },
    ])
}

/// Forwarders and tags that the direct way calls a function for, a backend that is the balancer, and the detour.
fn new_fronts(ends: &Ends) -> Result<Vec<Case>> {
    let case = |name, forwarder, vip, vlan: Option<&str>| {
        let scenario = Scenario {
            forwarder,
            vlan: vlan.map(str::parse).transpose()?,
            ..Scenario::one(vip)
        };
        let frame = ends.frame(Payload::Tcp, vip)?;
        anyhow::Ok(Case::new(name, Program::Balancer(scenario), frame))
    };
    let (vip4, vip6) = (ends.vip4, ends.vip6);
    let detoured = case("detour-nat-vlan", Forwarder::Nat, vip4, Some("100"))?;
    let listed = |name, vip: SocketAddr| {
        let scenario = Scenario {
            source: Some(Source {
                allow: Vec::new(),
                deny: vec!["203.0.113.0/24".parse()?, "2001:db8:bad::/48".parse()?],
            }),
            ..Scenario::one(vip)
        };
        let frame = ends.frame(Payload::Tcp, vip)?;
        anyhow::Ok(Case::new(name, Program::Balancer(scenario), frame))
    };
    Ok(vec![
        case("tcp4-gue", Forwarder::Gue, vip4, None)?,
        case("tcp4-gue-1m", Forwarder::Gue, vip4, None)?.over(MILLION),
        case("tcp6-gue", Forwarder::Gue, vip6, None)?,
        case("tcp4-fou", Forwarder::Fou, vip4, None)?,
        case("tcp4-gre", Forwarder::Gre, vip4, None)?,
        case("tcp4-l2dsr-vlan", Forwarder::L2dsr, vip4, Some("100"))?,
        case("tcp4-ipip-qinq", Forwarder::Ipip, vip4, Some("200.100"))?,
        case("local", Forwarder::Local, vip4, None)?.expecting(XDP_PASS, false, Reason::Local),
        Case {
            frame: detoured.frame.clone().translated(),
            ..detoured
        },
        listed("detour-source4", vip4)?,
        listed("detour-source6", vip6)?,
    ])
}

/// QUIC packets whose connection ID names their backend, of each kind: as it is, one block of AES, four passes of which
/// three are needed.
fn connection_ids(ends: &Ends) -> Result<Vec<Case>> {
    const SERVER_ID: [u8; 4] = [0, 0, 0, 42];
    const KEY: &str = "8f95f09245765f80256934e50c66207f";
    let case = |name, nonce_length: u8, key: Option<&str>| {
        let key: Option<QuicKey> = key.map(str::parse).transpose()?;
        let nonce = vec![0x5a; usize::from(nonce_length)];
        let mut cid = [0; ConnectionId::MAX_BYTES];
        encode(0, &SERVER_ID, &nonce, key.as_ref().map(QuicKey::bytes), &mut cid);
        let scenario = Scenario {
            protocol: Protocol::Udp,
            quic: Some(QuicConfig {
                id: 0,
                server_id_length: SERVER_ID.len() as u8,
                nonce_length,
                key,
            }),
            ..Scenario::one(ends.vip4)
        };
        let frame = ends.frame(Payload::Quic(cid), ends.vip4)?;
        anyhow::Ok(Case {
            for_peer: false,
            ..Case::new(name, Program::Balancer(scenario), frame)
        })
    };
    Ok(vec![
        case("quic-plaintext", 12, None)?,
        case("quic-single-pass", 12, Some(KEY))?,
        case("quic-four-pass", 8, Some(KEY))?,
    ])
}

/// What does not go to a backend.
fn not_balanced(ends: &Ends) -> Result<Vec<Case>> {
    let case = |name, frame, vip| Case::new(name, Program::Balancer(Scenario::one(vip)), frame);
    let echo = ends.frame(Payload::Echo, ends.vip4)?;
    let stranger = |vip: SocketAddr| ends.frame(Payload::Tcp, SocketAddr::new(before(vip.ip()), vip.port()));
    Ok(vec![
        case("echo", echo, ends.vip4).expecting(XDP_TX, true, Reason::EchoReply),
        case("pass", stranger(ends.vip4)?, ends.vip4).expecting(XDP_PASS, false, Reason::NoService),
        case("pass6", stranger(ends.vip6)?, ends.vip6).expecting(XDP_PASS, false, Reason::NoService),
    ])
}

impl Case {
    /// One flow, forwarded.
    fn new(name: &'static str, program: Program, frame: Frame) -> Self {
        Self {
            name,
            program,
            frame,
            flows: Flows::default(),
            expected: Expected {
                action: XDP_TX,
                rewritten: true,
                reason: Reason::Forwarded,
            },
            for_peer: true,
        }
    }

    fn over(self, flows: Flows) -> Self {
        Self { flows, ..self }
    }

    fn expecting(self, action: u32, rewritten: bool, reason: Reason) -> Self {
        let expected = Expected {
            action,
            rewritten,
            reason,
        };
        Self { expected, ..self }
    }
}

/// Who talks to whom.
pub(super) struct Ends {
    client4: SocketAddr,
    client6: SocketAddr,
    pub(super) vip4: SocketAddr,
    vip6: SocketAddr,
}

impl Ends {
    pub(super) fn new(options: &Options) -> Self {
        let Options {
            vip,
            vip6,
            port,
            client,
            client6,
            client_port,
            ..
        } = *options;
        Self {
            client4: SocketAddr::new(client.into(), client_port),
            client6: SocketAddr::new(client6.into(), client_port),
            vip4: SocketAddr::new(vip.into(), port),
            vip6: SocketAddr::new(vip6.into(), port),
        }
    }

    /// To the IPv4 VIP, from that many clients further on.
    pub(super) fn frame_from(&self, further: u32, payload: Payload) -> Result<Frame> {
        let IpAddr::V4(first) = self.client4.ip() else {
            bail!("the client has no IPv4 address");
        };
        let client = Ipv4Addr::from(u32::from(first).wrapping_add(further));
        Frame::new(
            payload,
            SocketAddr::new(client.into(), self.client4.port()),
            self.vip4,
        )
    }

    fn frame(&self, payload: Payload, to: SocketAddr) -> Result<Frame> {
        let client = if to.is_ipv6() { self.client6 } else { self.client4 };
        Frame::new(payload, client, to).with_context(|| format!("cannot make a frame from {client} to {to}"))
    }
}

/// The address before that one: of no service, since those have `address` and what follows it.
fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4).wrapping_sub(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6).wrapping_sub(1)).into(),
    }
}
