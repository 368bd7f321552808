//! The rules that a service must keep whatever the others are.
//!
//! Invariant: a service that keeps them still does without some of its backends, so that backends can always go.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use super::{
    Backend, Forwarder, Fragments, Invalid, Key, MAX_BACKENDS, MAX_VIPS, MssClamp, Prefix, Protocol,
    ServerId, Service, ServicePort,
};

/// Shortest VIP that is a prefix, for IPv4 and IPv6.
const SHORTEST: [u8; 2] = [8, 16];

impl Service {
    /// Brings equal desired state to one form and checks the rules that concern this service alone.
    pub(super) fn normalised(mut self) -> Result<Self, Invalid> {
        self.source = self.source.filter(|source| !source.is_empty());
        for backend in &mut self.backends {
            if backend.port == self.port.exact() {
                backend.port = None;
            }
        }
        self.check_vips()?;
        self.check_forwarder(self.forwarder)?;
        self.check_protocol()?;
        self.check_options()?;
        self.check_slots()?;
        self.check_times()?;
        self.check_check()?;
        self.check_backends()?;
        Ok(self)
    }

    fn check_vips(&self) -> Result<(), Invalid> {
        let vips = Key::Name("vips");
        if self.vips.is_empty() || self.vips.len() > MAX_VIPS {
            let count = self.vips.len();
            return Err(Invalid::new(format!("expected 1 to {MAX_VIPS} addresses, found {count}")).at(vips));
        }
        for (i, vip) in self.vips.iter().enumerate() {
            let here = |e: Invalid| e.at(Key::Index(i)).at(vips.clone());
            check_vip(*vip).map_err(here)?;
            if self.vips[..i].contains(vip) {
                return Err(here(Invalid::new(format!("{vip} is listed twice"))));
            }
        }
        Ok(())
    }

    /// What not every forwarder can do.
    fn check_forwarder(&self, forwarder: Forwarder) -> Result<(), Invalid> {
        match forwarder {
            Forwarder::Nat => self.check_nat(),
            Forwarder::Fullnat if self.protocol == Protocol::Sctp => {
                let message = "fullnat translates ports, and the checksum of sctp covers them: use nat";
                Err(Invalid::new(message).at(Key::Name("forwarder")))
            }
            Forwarder::Fullnat if self.fragments == Fragments::Hash3 => {
                let message = "fullnat knows flows by their ports, which fragments before the first one do not show: \
                               expected \"follow\" or \"drop\"";
                Err(Invalid::new(message).at(Key::Name("fragments")))
            }
            _ => Ok(()),
        }
    }

    /// Answers to `nat` name neither VIP nor port, so there can be one of each only.
    fn check_nat(&self) -> Result<(), Invalid> {
        for (i, vip) in self.vips.iter().enumerate() {
            let twin = self.vips[..i]
                .iter()
                .any(|earlier| earlier.is_ipv4() == vip.is_ipv4());
            let message = if vip.host().is_none() {
                "the nat forwarder takes no prefixes: answers could not tell which address to restore; use fullnat"
            } else if twin {
                "the nat forwarder takes one VIP of each family: answers could not tell which VIP to restore; declare \
                 one service per VIP, with backends on different ports, or use fullnat"
            } else {
                continue;
            };
            return Err(Invalid::new(message).at(Key::Index(i)).at(Key::Name("vips")));
        }
        if matches!(self.port, ServicePort::Range(_)) {
            let message = "the nat forwarder takes one port or any, no range: use fullnat";
            return Err(Invalid::new(message).at(Key::Name("port")));
        }
        Ok(())
    }

    /// What not every protocol can do.
    fn check_protocol(&self) -> Result<(), Invalid> {
        let wrong = if self.protocol == Protocol::Tcp && self.fragments == Fragments::Hash3 {
            Some((
                "fragments",
                "tcp agrees on sizes that need none: expected \"follow\" or \"drop\"",
            ))
        } else if self.protocol != Protocol::Tcp && self.mss_clamp != MssClamp::Off {
            Some(("mss_clamp", "only tcp agrees on a segment size: leave it out"))
        } else if self.protocol != Protocol::Udp && self.quic.is_some() {
            Some(("quic", "QUIC runs over udp: leave it out"))
        } else {
            None
        };
        match wrong {
            Some((key, message)) => Err(Invalid::new(message).at(Key::Name(key))),
            None => Ok(()),
        }
    }

    fn check_options(&self) -> Result<(), Invalid> {
        if let Some(source) = &self.source {
            source.check().map_err(|e| e.at(Key::Name("source")))?;
        }
        if let Some(quic) = &self.quic {
            quic.check().map_err(|e| e.at(Key::Name("quic")))?;
        }
        Ok(())
    }

    fn check_slots(&self) -> Result<(), Invalid> {
        match self.slots {
            Some(n) if !n.is_power_of_two() || !(Self::MIN_SLOTS..=Self::MAX_SLOTS).contains(&n) => {
                let (min, max) = (Self::MIN_SLOTS, Self::MAX_SLOTS);
                Err(
                    Invalid::new(format!("{n}: expected a power of two from {min} to {max}"))
                        .at(Key::Name("slots")),
                )
            }
            _ => Ok(()),
        }
    }

    /// An entry must outlive the window: a flow that began at a slot's new owner would be taken for one of the old.
    /// A deadline shorter than either is fine: to cut what is left is what it is for.
    fn check_times(&self) -> Result<(), Invalid> {
        match (self.window, self.idle) {
            (Some(window), Some(idle)) if idle < window => {
                let message = format!(
                    "{idle} is less than the window of {window}, in which flows are still told apart by their \
                     entries: expected at least {window}"
                );
                Err(Invalid::new(message).at(Key::Name("idle")))
            }
            _ => Ok(()),
        }
    }

    fn check_check(&self) -> Result<(), Invalid> {
        let Some(check) = &self.check else { return Ok(()) };
        let here = Key::Name("check");
        if let Err(error) = check.validate() {
            return Err(Invalid::new(error.message).at(Key::Name(error.key)).at(here));
        }
        if check.needs_port() && check.port.is_none() && self.port.exact().is_none() {
            let message = match self.port {
                ServicePort::Range(_) => {
                    "which of its ports to check is open: expected a `port`, or the type \"ping\""
                }
                _ => "a service with any port has none to check: expected a `port`, or the type \"ping\"",
            };
            return Err(Invalid::new(message).at(Key::Name("port")).at(here));
        }
        Ok(())
    }

    fn check_backends(&self) -> Result<(), Invalid> {
        if self.backends.len() > MAX_BACKENDS {
            let count = self.backends.len();
            return Err(
                Invalid::new(format!("{count} backends, at most {MAX_BACKENDS}")).at(Key::Name("backend"))
            );
        }
        let mut seen = HashSet::new();
        let mut named: HashMap<&ServerId, &Backend> = HashMap::new();
        for (i, backend) in self.backends.iter().enumerate() {
            let here = |e: Invalid| {
                e.at(Key::Backend(i, backend.id().to_string()))
                    .at(Key::Name("backend"))
            };
            self.check_backend(backend).map_err(here)?;
            if !seen.insert(backend.id()) {
                return Err(here(
                    Invalid::new(format!("{} is listed twice", backend.id())).at(Key::Name("address")),
                ));
            }
            let routed = self.quic.is_some() && !backend.leaves();
            let id = backend.server_id.as_ref().filter(|_| routed);
            if let Some(id) = id
                && let Some(other) = named.insert(id, backend)
            {
                let message = format!("{id} names {} already", other.id());
                return Err(here(Invalid::new(message).at(Key::Name("server_id"))));
            }
        }
        Ok(())
    }

    /// Whether `backend` could be one of this service's, the other backends aside.
    pub(super) fn check_backend(&self, backend: &Backend) -> Result<(), Invalid> {
        check_unicast(backend.address).map_err(|e| e.at(Key::Name("address")))?;
        if backend.deadline.is_some() && !backend.drains() {
            let message = format!(
                "a deadline is that of a drain, and the state is {:?}: expected the state \"drain\", or no deadline",
                backend.state.to_string()
            );
            return Err(Invalid::new(message).at(Key::Name("deadline")));
        }
        if self.vips.iter().any(|vip| vip.contains(backend.address)) {
            let message = format!(
                "{} is a VIP of this service: expected the backend's own address",
                backend.address
            );
            return Err(Invalid::new(message).at(Key::Name("address")));
        }
        if let Some(forwarder) = backend.forwarder {
            let message = |e: Invalid| Invalid::new(e.message).at(Key::Name("forwarder"));
            self.check_forwarder(forwarder).map_err(message)?;
        }
        self.check_translation(backend)?;
        self.check_server_id(backend)?;
        if backend.vlan.is_some() && backend.forwarder_in_use(self) == Forwarder::Local {
            let message = "packets to a backend that is this host are not sent: leave `vlan` out";
            return Err(Invalid::new(message).at(Key::Name("vlan")));
        }
        Ok(())
    }

    fn check_translation(&self, backend: &Backend) -> Result<(), Invalid> {
        let forwarder = backend.forwarder_in_use(self);
        if backend.port.is_some() && (!forwarder.translates() || self.port.exact().is_none()) {
            let message = "only the forwarders nat and fullnat translate ports, and only for a service with one port: \
                           leave `port` out";
            return Err(Invalid::new(message).at(Key::Name("port")));
        }
        if backend.port.is_some() && self.protocol == Protocol::Sctp {
            let message =
                "the checksum of sctp covers the ports, so they are not translated: leave `port` out";
            return Err(Invalid::new(message).at(Key::Name("port")));
        }
        let family = |vip: &Prefix| vip.is_ipv4() == backend.address.is_ipv4();
        if forwarder.translates() && !self.vips.iter().any(family) {
            let message = format!(
                "{}: the {forwarder} forwarder needs a VIP of the same family",
                backend.address
            );
            return Err(Invalid::new(message).at(Key::Name("address")));
        }
        Ok(())
    }

    /// Without routing by connection ID a server ID may wait for it; who leaves may have another one's, or none that
    /// fits any more.
    fn check_server_id(&self, backend: &Backend) -> Result<(), Invalid> {
        let Some(quic) = self.quic.as_ref().filter(|_| !backend.leaves()) else {
            return Ok(());
        };
        let expected = usize::from(quic.server_id_length());
        let wrong = match &backend.server_id {
            Some(id) if id.bytes().len() == expected => return Ok(()),
            Some(id) => format!(
                "{id} has {} bytes: expected {expected} as `quic` says",
                id.bytes().len()
            ),
            None => format!("missing: `quic` needs {expected} bytes that name the backend in connection IDs"),
        };
        Err(Invalid::new(wrong).at(Key::Name("server_id")))
    }
}

/// All addresses of a VIP are such that clients can use them.
pub fn check_vip(vip: Prefix) -> Result<(), Invalid> {
    let shortest = SHORTEST[usize::from(vip.is_ipv6())];
    if vip.length() < shortest {
        return Err(Invalid::new(format!(
            "{vip} is too wide: expected /{shortest} or narrower"
        )));
    }
    check_unicast(vip.address())?;
    check_unicast(vip.last())
}

/// Refuses addresses that no host can have on a routed network.
pub fn check_unicast(address: IpAddr) -> Result<(), Invalid> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || broadcast
        || link_local
        || mapped
    {
        return Err(Invalid::new(format!(
            "{address}: expected a routable unicast address"
        )));
    }
    Ok(())
}
