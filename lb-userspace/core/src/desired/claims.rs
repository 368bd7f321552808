//! What services hold of what all of them share: VIPs with ports, and the answers of backends reached by `nat`.
//!
//! Invariant: each is held by one service.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    num::NonZeroU16,
};

use super::{
    Backend, Forwarder, Fragments, Invalid, Key, MAX_PREFIX_LENGTHS, PortRange, Prefix, Protocol, Service,
    ServiceName, ServicePort,
};

/// What clients send to: addresses that begin alike, by one protocol.
type ClaimedKey = (Prefix, Protocol);

/// The services of one [`ClaimedKey`], by what each of them holds of it.
#[derive(Default)]
struct Ports<'a> {
    /// By one port, or any (none): each belongs to one service.
    single: HashMap<Option<NonZeroU16>, &'a ServiceName>,
    /// Ranges within one another, or without a port in common: then the narrowest one with a port is the one.
    ranges: Vec<(PortRange, &'a ServiceName)>,
    /// The service whose fragments go by the source address alone: no port tells whose fragments they are.
    hash3: Option<&'a ServiceName>,
}

/// What the services hold; a second holder of the same is refused.
#[derive(Default)]
pub(super) struct Claims<'a> {
    fronts: HashMap<ClaimedKey, Ports<'a>>,
    /// By backend host and protocol, then by the port that the answers come from (none: any port).
    answers: HashMap<(IpAddr, Protocol), BTreeMap<Option<NonZeroU16>, Answer<'a>>>,
}

impl<'a> Ports<'a> {
    fn add(&mut self, service: &'a Service) {
        match service.port {
            ServicePort::Any => drop(self.single.insert(None, &service.name)),
            ServicePort::Exact(port) => drop(self.single.insert(Some(port), &service.name)),
            ServicePort::Range(range) => self.ranges.push((range, &service.name)),
        }
        if service.fragments == Fragments::Hash3 {
            self.hash3 = Some(&service.name);
        }
    }

    /// Why `service` cannot be among them with `vip`.
    fn refusal(&self, service: &Service, vip: Prefix) -> Option<String> {
        let Service {
            name, protocol, port, ..
        } = service;
        let holder = match port {
            ServicePort::Any => self.single.get(&None),
            ServicePort::Exact(port) => self.single.get(&Some(*port)),
            ServicePort::Range(range) => self
                .ranges
                .iter()
                .find(|(r, _)| r == range)
                .map(|(_, holder)| holder),
        };
        if let Some(holder) = holder {
            return Some(format!(
                "services {name} and {holder} both claim {vip} {protocol} port {port}: a VIP, protocol and port belong \
                 to one service"
            ));
        }
        if let ServicePort::Range(range) = port
            && let Some((other, holder)) = self.ranges.iter().find(|(other, _)| range.crosses(*other))
        {
            return Some(format!(
                "services {name} and {holder} claim {vip} {protocol} ports {range} and {other}: of ranges that have \
                 ports in common, one must lie within the other, so that the narrower one goes first"
            ));
        }
        let hash3 = self.hash3.filter(|_| service.fragments == Fragments::Hash3)?;
        Some(format!(
            "services {name} and {hash3} both claim the fragments to {vip} {protocol}: they have no ports to tell whose \
             they are, so only one service can have fragments = \"hash3\""
        ))
    }
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
        for (i, vip) in service.vips.iter().enumerate() {
            let held = self.fronts.get(&(*vip, service.protocol));
            if let Some(message) = held.and_then(|ports| ports.refusal(service, *vip)) {
                return Err(Invalid::new(message).at(Key::Index(i)).at(Key::Name("vips")));
            }
        }
        for (i, backend) in service.backends.iter().enumerate() {
            if let Some(other) = self.holder(service, backend) {
                let message = format!(
                    "services {} and {other} both reach {} with the nat forwarder: its answers could not tell which \
                     VIP to restore; let the backend listen on another port for one of them, or use another forwarder. \
                     (A backend that is leaving still answers: `lb backend remove --now` cuts it.)",
                    service.name,
                    backend.id()
                );
                return Err(Invalid::new(message)
                    .at(Key::Backend(i, backend.id().to_string()))
                    .at(Key::Name("backend")));
            }
        }
        Ok(())
    }

    /// The service whose answers those of `backend` could be taken for.
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
        for vip in &service.vips {
            self.fronts
                .entry((*vip, service.protocol))
                .or_default()
                .add(service);
        }
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

/// The answers of a backend, if they are to be restored, and the host that they come from.
fn answer<'s>(service: &'s Service, backend: &Backend) -> Option<((IpAddr, Protocol), Answer<'s>)> {
    if backend.forwarder_in_use(service) != Forwarder::Nat {
        return None;
    }
    // A service with nat has one VIP, no prefix, of each family that such backends have.
    let family = |vip: &IpAddr| vip.is_ipv4() == backend.address.is_ipv4();
    let vip = service.vips.iter().filter_map(|vip| vip.host()).find(family)?;
    let front = service.port.exact();
    let answer = Answer {
        holder: &service.name,
        vip,
        front,
        back: backend.port.or(front),
    };
    Some(((backend.address, service.protocol), answer))
}

/// The lengths of VIPs that are prefixes, for IPv4 and IPv6: a packet is looked for at each of them.
#[derive(Default)]
pub(super) struct PrefixLengths([BTreeSet<u8>; 2]);

impl PrefixLengths {
    /// Takes those of `service`.
    pub(super) fn admit(&mut self, service: &Service) -> Result<(), Invalid> {
        let prefixes = service
            .vips
            .iter()
            .enumerate()
            .filter(|(_, vip)| vip.host().is_none());
        for (i, vip) in prefixes {
            let lengths = &mut self.0[usize::from(vip.is_ipv6())];
            lengths.insert(vip.length());
            if lengths.len() > MAX_PREFIX_LENGTHS {
                let message = format!(
                    "{vip}: prefixes of one family have at most {MAX_PREFIX_LENGTHS} different lengths over all services"
                );
                return Err(Invalid::new(message).at(Key::Index(i)).at(Key::Name("vips")));
            }
        }
        Ok(())
    }
}
