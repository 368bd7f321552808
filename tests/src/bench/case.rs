//! The cases: which program meets which frames, and what must become of them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use lb_common::abi::Reason;
use lb_userspace::model::{Forwarder, Protocol, ServicePort};

use super::{
    Options,
    frame::{Frame, Payload},
    wish::{BACKENDS4, Wish},
    wrapper::Flows,
};

/// XDP actions (linux/bpf.h).
pub(super) const XDP_PASS: u32 = 2;
pub(super) const XDP_TX: u32 = 3;

/// The case that all others are compared with.
pub(super) const FLOOR: &str = "floor";

/// The port of nat backends.
const NAT_PORT: u16 = 8080;

/// The program under test.
#[derive(Debug, Clone)]
pub(super) enum Program {
    /// A program of the bench's own object.
    Bench(&'static str),
    /// The balancer, with these services.
    Balancer(Wish),
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

const FORWARDED: Expected = Expected {
    action: XDP_TX,
    rewritten: true,
    reason: Reason::Forwarded,
};
const UNCHANGED: Expected = Expected {
    action: XDP_TX,
    rewritten: false,
    reason: Reason::Forwarded,
};

/// 64 Ki and 1 Mi flows.
const MANY: Flows = Flows {
    bits: 16,
    service_bits: 0,
    fresh: false,
};
const MILLION: Flows = Flows {
    bits: 20,
    service_bits: 0,
    fresh: false,
};
const ONE: Flows = Flows {
    bits: 0,
    service_bits: 0,
    fresh: false,
};
const FRESH: Flows = Flows {
    bits: 0,
    service_bits: 0,
    fresh: true,
};

/// Every case, in the order in which they are run and reported.
pub(super) fn all(options: &Options) -> Result<Vec<Case>> {
    let ends = Ends::new(options)?;
    let tcp4 = ends.frame(Payload::Tcp, ends.vip4)?;
    let tcp6 = ends.frame(Payload::Tcp, ends.vip6)?;
    let syn4 = ends.frame(Payload::Syn, ends.vip4)?;
    let udp4 = ends.frame(Payload::Udp, ends.vip4)?;
    let stranger = |vip: SocketAddr| {
        let port = if vip.port() == 9 { 10 } else { 9 };
        ends.frame(Payload::Tcp, SocketAddr::new(next_to(vip.ip()), port))
    };
    let backend = SocketAddr::new(IpAddr::from(BACKENDS4.to_be_bytes()), NAT_PORT);
    let answer = Frame::new(Payload::Tcp, backend, ends.client4)?.translated();

    let one4 = Wish::one(ends.vip4);
    let one6 = Wish::one(ends.vip6);
    let with = |forwarder| Wish {
        forwarder,
        ..one4.clone()
    };
    let nat = Wish {
        backend_port: Some(NAT_PORT),
        ..with(Forwarder::Nat)
    };
    let udp = Wish {
        protocol: Protocol::Udp,
        ..one4.clone()
    };
    let any = Wish {
        port: ServicePort::Any,
        ..one4.clone()
    };
    let many = |services: u32, backends: u32| Wish {
        services,
        backends,
        ..one4.clone()
    };
    let divided = |service_bits| Flows {
        service_bits,
        ..MILLION
    };
    let other = |action, rewritten, reason| Expected {
        action,
        rewritten,
        reason,
    };

    use Program::{Balancer, Bench};
    let row = |name, program, frame: &Frame, flows, expected| Case {
        name,
        program,
        frame: frame.clone(),
        flows,
        expected,
        for_peer: true,
    };
    let alone = |case: Case| Case {
        for_peer: false,
        ..case
    };
    let passed = other(XDP_PASS, false, Reason::NoService);
    Ok(vec![
        alone(row("empty", Bench("empty"), &tcp4, ONE, UNCHANGED)),
        alone(row(FLOOR, Bench("floor4"), &tcp4, ONE, FORWARDED)),
        alone(row("floor-1m", Bench("floor4"), &tcp4, MILLION, FORWARDED)),
        alone(row("floor6", Bench("floor6"), &tcp6, ONE, FORWARDED)),
        row("tcp4-ipip", Balancer(one4.clone()), &tcp4, ONE, FORWARDED),
        row("tcp4-ipip-64k", Balancer(one4.clone()), &tcp4, MANY, FORWARDED),
        row("tcp4-ipip-1m", Balancer(one4.clone()), &tcp4, MILLION, FORWARDED),
        row(
            "tcp4-ipip-64svc-1m",
            Balancer(many(64, 100)),
            &tcp4,
            divided(6),
            FORWARDED,
        ),
        row("1024svc", Balancer(many(1024, 16)), &tcp4, divided(10), FORWARDED),
        row("tcp6-ipip", Balancer(one6.clone()), &tcp6, ONE, FORWARDED),
        row("tcp6-ipip-1m", Balancer(one6.clone()), &tcp6, MILLION, FORWARDED),
        row("syn4", Balancer(one4.clone()), &syn4, ONE, FORWARDED),
        row("fresh4", Balancer(one4.clone()), &syn4, FRESH, FORWARDED),
        row("udp4-ipip", Balancer(udp), &udp4, ONE, FORWARDED),
        row("any-port", Balancer(any), &tcp4, ONE, FORWARDED),
        row(
            "tcp4-l2dsr",
            Balancer(with(Forwarder::L2dsr)),
            &tcp4,
            ONE,
            FORWARDED,
        ),
        row(
            "nat-forward",
            Balancer(nat.clone()),
            &tcp4.clone().translated(),
            ONE,
            FORWARDED,
        ),
        alone(row(
            "nat-back",
            Balancer(nat),
            &answer,
            ONE,
            other(XDP_TX, true, Reason::Returned),
        )),
        row(
            "echo",
            Balancer(one4.clone()),
            &ends.frame(Payload::Echo, ends.vip4)?,
            ONE,
            other(XDP_TX, true, Reason::EchoReply),
        ),
        row("pass", Balancer(one4), &stranger(ends.vip4)?, ONE, passed),
        row("pass6", Balancer(one6), &stranger(ends.vip6)?, ONE, passed),
    ])
}

/// Who talks to whom.
struct Ends {
    client4: SocketAddr,
    client6: SocketAddr,
    vip4: SocketAddr,
    vip6: SocketAddr,
}

impl Ends {
    fn new(options: &Options) -> Result<Self> {
        let Options {
            vip,
            vip6,
            port,
            client,
            client6,
            client_port,
            ..
        } = *options;
        Ok(Self {
            client4: SocketAddr::new(client.into(), client_port),
            client6: SocketAddr::new(client6.into(), client_port),
            vip4: SocketAddr::new(vip.into(), port),
            vip6: SocketAddr::new(vip6.into(), port),
        })
    }

    fn frame(&self, payload: Payload, to: SocketAddr) -> Result<Frame> {
        let client = if to.is_ipv6() { self.client6 } else { self.client4 };
        Frame::new(payload, client, to).with_context(|| format!("cannot make a frame from {client} to {to}"))
    }
}

/// The address before that one: of no service, since those have `address` and what follows it.
fn next_to(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::from((u32::from(v4) - 1).to_be_bytes()),
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) - 1).to_be_bytes()),
    }
}
