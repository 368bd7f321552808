//! What services hold of what all of them share: VIPs with ports, and the answers of backends reached by `nat`.
//!
//! Invariant: each is held by one service. A change of one service costs what that service holds, however many others
//! there are.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16};

use imbl::OrdMap;

use super::{
    Backend, Forwarder, Fragments, Invalid, Key, MAX_PREFIX_LENGTHS, PortRange, Prefix, Protocol, Service,
    ServiceName, ServicePort,
};

/// What clients send to: addresses that begin alike, by one protocol.
type ClaimedKey = (Prefix, Protocol);

/// The services of one [`ClaimedKey`], by what each of them holds of it.
#[derive(Clone, Debug, Default)]
struct Ports {
    /// By one port, or any (none): each belongs to one service.
    single: OrdMap<Option<NonZeroU16>, ServiceName>,
    /// Ranges within one another, or without a port in common: then the narrowest one with a port is the one.
    ranges: Vec<(PortRange, ServiceName)>,
    /// The service whose fragments go by the source address alone: no port tells whose fragments they are.
    hash3: Option<ServiceName>,
}

/// What the services hold; a second holder of the same is refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    fronts: OrdMap<ClaimedKey, Ports>,
    /// By backend host and protocol, then by the port that the answers come from (none: any port).
    answers: OrdMap<(IpAddr, Protocol), BTreeMap<Option<NonZeroU16>, Answer>>,
    lengths: PrefixLengths,
}

impl Ports {
    fn add(&mut self, service: &Service) {
        let name = || service.name.clone();
        match service.port {
            ServicePort::Any => drop(self.single.insert(None, name())),
            ServicePort::Exact(port) => drop(self.single.insert(Some(port), name())),
            ServicePort::Range(range) => self.ranges.push((range, name())),
        }
        if service.fragments == Fragments::Hash3 {
            self.hash3 = Some(name());
        }
    }

    fn remove(&mut self, service: &Service) {
        match service.port {
            ServicePort::Any => drop(self.single.remove(&None)),
            ServicePort::Exact(port) => drop(self.single.remove(&Some(port))),
            ServicePort::Range(_) => self.ranges.retain(|(_, holder)| *holder != service.name),
        }
        if self.hash3.as_ref() == Some(&service.name) {
            self.hash3 = None;
        }
    }

    fn is_empty(&self) -> bool {
        self.single.is_empty() && self.ranges.is_empty()
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
        let hash3 = self
            .hash3
            .as_ref()
            .filter(|_| service.fragments == Fragments::Hash3)?;
        Some(format!(
            "services {name} and {hash3} both claim the fragments to {vip} {protocol}: they have no ports to tell whose \
             they are, so only one service can have fragments = \"hash3\""
        ))
    }
}

/// The answers of a backend reached by `nat`: its address and port must tell which VIP and port to restore.
#[derive(Clone, Debug)]
struct Answer {
    holder: ServiceName,
    vip: IpAddr,
    front: Option<NonZeroU16>,
    back: Option<NonZeroU16>,
}

impl Answer {
    /// Whether both restore the same, where one of them is for any port and the other for one.
    fn agrees(&self, other: &Self) -> bool {
        self.vip == other.vip && self.front == self.back && other.front == other.back
    }
}

impl Claims {
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
        self.lengths.check(service)
    }

    /// The service whose answers those of `backend` could be taken for.
    fn holder(&self, service: &Service, backend: &Backend) -> Option<&ServiceName> {
        let (host, answer) = answer(service, backend)?;
        ambiguous(self.answers.get(&host)?, &answer).map(|other| &other.holder)
    }

    /// Takes what one more backend of `service` needs, if nobody holds it.
    pub(super) fn admit(&mut self, service: &Service, backend: &Backend) -> bool {
        if self.holder(service, backend).is_some() {
            return false;
        }
        self.add_answer(service, backend);
        true
    }

    /// Takes what `service` needs.
    pub(super) fn add(&mut self, service: &Service) {
        for vip in &service.vips {
            self.fronts
                .entry((*vip, service.protocol))
                .or_default()
                .add(service);
        }
        for backend in &service.backends {
            self.add_answer(service, backend);
        }
        self.lengths.add(service);
    }

    /// Gives back what `service` holds.
    pub(super) fn remove(&mut self, service: &Service) {
        for vip in &service.vips {
            let key = (*vip, service.protocol);
            if let Some(ports) = self.fronts.get_mut(&key) {
                ports.remove(service);
                if ports.is_empty() {
                    self.fronts.remove(&key);
                }
            }
        }
        for backend in &service.backends {
            let Some((host, answer)) = answer(service, backend) else {
                continue;
            };
            if let Some(held) = self.answers.get_mut(&host) {
                held.remove(&answer.back);
                if held.is_empty() {
                    self.answers.remove(&host);
                }
            }
        }
        self.lengths.remove(service);
    }

    fn add_answer(&mut self, service: &Service, backend: &Backend) {
        if let Some((host, answer)) = answer(service, backend) {
            self.answers.entry(host).or_default().insert(answer.back, answer);
        }
    }
}

/// The holder, among those of one host, whose answers could be taken for `new` ones.
fn ambiguous<'h>(held: &'h BTreeMap<Option<NonZeroU16>, Answer>, new: &Answer) -> Option<&'h Answer> {
    match new.back {
        _ if held.contains_key(&new.back) => held.get(&new.back),
        Some(_) => held.get(&None).filter(|any| !any.agrees(new)),
        None => held.values().find(|one| !one.agrees(new)),
    }
}

/// The answers of a backend, if they are to be restored, and the host that they come from.
fn answer(service: &Service, backend: &Backend) -> Option<((IpAddr, Protocol), Answer)> {
    if backend.forwarder_in_use(service) != Forwarder::Nat {
        return None;
    }
    // A service with nat has one VIP, no prefix, of each family that such backends have.
    let family = |vip: &IpAddr| vip.is_ipv4() == backend.address.is_ipv4();
    let vip = service.vips.iter().filter_map(|vip| vip.host()).find(family)?;
    let front = service.port.exact();
    let answer = Answer {
        holder: service.name.clone(),
        vip,
        front,
        back: backend.port.or(front),
    };
    Some(((backend.address, service.protocol), answer))
}

/// How many VIPs that are prefixes have each length, for IPv4 and IPv6: a packet is looked for at each length.
#[derive(Clone, Debug, Default)]
struct PrefixLengths([BTreeMap<u8, usize>; 2]);

/// The VIPs of a service that are prefixes, each with its index.
fn prefixes(service: &Service) -> impl Iterator<Item = (usize, &Prefix)> {
    let vips = service.vips.iter().enumerate();
    vips.filter(|(_, vip)| vip.host().is_none())
}

impl PrefixLengths {
    /// Refuses `service` when there are too many lengths with the lengths of its VIPs.
    fn check(&self, service: &Service) -> Result<(), Invalid> {
        let mut lengths = self.clone();
        for (i, vip) in prefixes(service) {
            let lengths = &mut lengths.0[usize::from(vip.is_ipv6())];
            lengths.insert(vip.length(), 1);
            if lengths.len() > MAX_PREFIX_LENGTHS {
                let message = format!(
                    "{vip}: prefixes of one family have at most {MAX_PREFIX_LENGTHS} different lengths over all services"
                );
                return Err(Invalid::new(message).at(Key::Index(i)).at(Key::Name("vips")));
            }
        }
        Ok(())
    }

    fn add(&mut self, service: &Service) {
        for (_, vip) in prefixes(service) {
            *self.0[usize::from(vip.is_ipv6())]
                .entry(vip.length())
                .or_default() += 1;
        }
    }

    fn remove(&mut self, service: &Service) {
        for (_, vip) in prefixes(service) {
            let lengths = &mut self.0[usize::from(vip.is_ipv6())];
            if let Some(count) = lengths.get_mut(&vip.length()) {
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&vip.length());
                }
            }
        }
    }
}
