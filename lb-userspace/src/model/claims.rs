//! What services hold of what all of them share: VIPs with ports, and the answers of backends reached by `nat`.
//!
//! Invariant: each is held by one service.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    num::NonZeroU16,
};

use super::{Backend, Forwarder, Invalid, Key, Protocol, Service, ServiceName};

/// What clients send to: it belongs to one service.
type Front = (IpAddr, Protocol, Option<NonZeroU16>);

/// What the services hold; a second holder of the same is refused.
#[derive(Default)]
pub(super) struct Claims<'a> {
    fronts: HashMap<Front, &'a ServiceName>,
    /// By backend host and protocol, then by the port that the answers come from (none: any port).
    answers: HashMap<(IpAddr, Protocol), BTreeMap<Option<NonZeroU16>, Answer<'a>>>,
}

/// The answers of a backend reached by `nat`: its address and port must tell which VIP and port to restore.
#[derive(Clone, Copy)]
struct Answer<'a> {
    holder: &'a ServiceName,
    vip: IpAddr,
    front: Option<NonZeroU16>,
    back: Option<NonZeroU16>,
}

impl Answer<'_> {
    /// Whether both restore the same, where one of them is for any port and the other for one.
    fn agrees(&self, other: &Self) -> bool {
        self.vip == other.vip && self.front == self.back && other.front == other.back
    }
}

impl<'a> Claims<'a> {
    /// Refuses `service` when another one holds what it needs.
    pub(super) fn check(&self, service: &Service) -> Result<(), Invalid> {
        for (i, front) in fronts(service).enumerate() {
            if let Some(holder) = self.fronts.get(&front) {
                let (vip, protocol, _) = front;
                let message = format!(
                    "services {} and {holder} both claim {vip} {protocol} port {}: a VIP, protocol and port belong \
                     to one service",
                    service.name, service.port
                );
                return Err(Invalid::new(message).at(Key::Index(i)).at(Key::Name("vips")));
            }
        }
        for (i, backend) in service.backends.iter().enumerate() {
            if let Some(other) = self.holder(service, backend) {
                let message = format!(
                    "services {} and {other} both reach {} with the nat forwarder: its answers could not tell which \
                     VIP to restore; let the backend listen on another port for one of them, or use l2dsr or ipip. \
                     (A backend that is leaving still answers: `lb backend remove --now` cuts it.)",
                    service.name,
                    backend.id()
                );
                return Err(Invalid::new(message).at(Key::Index(i)).at(Key::Name("backend")));
            }
        }
        Ok(())
    }

    /// Whose answers those of `backend` could be taken for.
    fn holder(&self, service: &Service, backend: &Backend) -> Option<&'a ServiceName> {
        let (host, answer) = answer(service, backend)?;
        ambiguous(self.answers.get(&host)?, &answer).map(|other| other.holder)
    }

    /// Takes what one more backend of `service` needs, if nobody holds it.
    pub(super) fn admit(&mut self, service: &'a Service, backend: &Backend) -> bool {
        if self.holder(service, backend).is_some() {
            return false;
        }
        self.add_answer(service, backend);
        true
    }

    pub(super) fn add(&mut self, service: &'a Service) {
        self.fronts
            .extend(fronts(service).map(|front| (front, &service.name)));
        for backend in &service.backends {
            self.add_answer(service, backend);
        }
    }

    fn add_answer(&mut self, service: &'a Service, backend: &Backend) {
        if let Some((host, answer)) = answer(service, backend) {
            self.answers.entry(host).or_default().insert(answer.back, answer);
        }
    }
}

/// The holder, among those of one host, whose answers could be taken for `new` ones.
fn ambiguous<'h, 'a>(
    held: &'h BTreeMap<Option<NonZeroU16>, Answer<'a>>,
    new: &Answer<'_>,
) -> Option<&'h Answer<'a>> {
    match new.back {
        _ if held.contains_key(&new.back) => held.get(&new.back),
        Some(_) => held.get(&None).filter(|any| !any.agrees(new)),
        None => held.values().find(|one| !one.agrees(new)),
    }
}

fn fronts(service: &Service) -> impl Iterator<Item = Front> {
    service
        .vips
        .iter()
        .map(|vip| (*vip, service.protocol, service.port.exact()))
}

/// The answers of a backend, if they are to be restored, and the host that they come from.
fn answer<'s>(service: &'s Service, backend: &Backend) -> Option<((IpAddr, Protocol), Answer<'s>)> {
    if service.forwarder != Forwarder::Nat {
        return None;
    }
    // A nat service has one VIP of each family that its backends have.
    let family = |vip: &&IpAddr| vip.is_ipv4() == backend.address.is_ipv4();
    let vip = *service.vips.iter().find(family)?;
    let front = service.port.exact();
    let answer = Answer {
        holder: &service.name,
        vip,
        front,
        back: backend.port.or(front),
    };
    Some(((backend.address, service.protocol), answer))
}
