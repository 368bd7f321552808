//! What of a service matters to its backends.

use std::{collections::BTreeSet, net::IpAddr, num::NonZeroU16};

use lb_api::view::ServiceView;
use lb_core::desired::{Forwarder, Prefix, Service};

/// What of a service matters to one of its backends, or to all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNeed {
    /// The addresses that clients use.
    pub vips: Vec<Prefix>,
    /// How packets come, each way once.
    pub forwarders: Vec<Forwarder>,
    /// The UDP port of tunnels, where the service names one.
    pub tunnel_port: Option<NonZeroU16>,
    /// Whether packets come by IPv4, and by IPv6: the families of the backends' addresses.
    pub outer: Families,
}

/// Which families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Both.
    pub const BOTH: Self = Self { v4: true, v6: true };

    /// The families of some addresses.
    pub fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        addresses.into_iter().fold(Self::default(), |seen, address| Self {
            v4: seen.v4 || address.is_ipv4(),
            v6: seen.v6 || address.is_ipv6(),
        })
    }
}

/// How a backend is reached: its address, and its own forwarder.
type BackendRoute = (IpAddr, Option<Forwarder>);

impl ServiceNeed {
    /// Of a service in a configuration file; of one backend alone, if `only` names it.
    ///
    /// # Errors
    /// When the service has no such backend.
    pub fn of_service(service: &Service, only: Option<IpAddr>) -> Result<Self, String> {
        let ways = service
            .backends
            .iter()
            .map(|backend| (backend.address, backend.forwarder));
        Ok(Self {
            vips: service.vips.clone(),
            tunnel_port: service.tunnel_port,
            ..Self::of_ways(ways, service.forwarder, only)?
        })
    }

    /// The need of a service as an agent shows it; of one backend alone, if `only` names it.
    ///
    /// # Errors
    /// As [`ServiceNeed::of_service`].
    pub fn of_view(service: &ServiceView, only: Option<IpAddr>) -> Result<Self, String> {
        let ways = service
            .backends
            .iter()
            .map(|backend| (backend.address, backend.forwarder));
        Ok(Self {
            vips: service.vips.clone(),
            tunnel_port: service.tunnel_port,
            ..Self::of_ways(ways, service.forwarder, only)?
        })
    }

    fn of_ways(
        ways: impl Iterator<Item = BackendRoute>,
        default: Forwarder,
        only: Option<IpAddr>,
    ) -> Result<Self, String> {
        let ways: Vec<BackendRoute> = ways
            .filter(|(address, _)| only.is_none_or(|only| only == *address))
            .collect();
        if let (Some(only), []) = (only, ways.as_slice()) {
            return Err(format!("the service has no backend {only}"));
        }
        let mut forwarders = Vec::new();
        for forwarder in ways.iter().map(|(_, own)| own.unwrap_or(default)) {
            if !forwarders.contains(&forwarder) {
                forwarders.push(forwarder);
            }
        }
        if forwarders.is_empty() {
            forwarders.push(default);
        }
        let addresses: BTreeSet<IpAddr> = ways.iter().map(|(address, _)| *address).collect();
        Ok(Self {
            vips: Vec::new(),
            forwarders,
            tunnel_port: None,
            outer: if addresses.is_empty() {
                Families::BOTH
            } else {
                Families::of(addresses)
            },
        })
    }

    /// Whether the backend gets packets that are addressed to the VIP, and so must own it.
    pub fn owns_vips(&self) -> bool {
        self.forwarders
            .iter()
            .any(|forwarder| !forwarder.translates() && *forwarder != Forwarder::Local)
    }

    /// The families of the VIPs.
    pub fn inner(&self) -> Families {
        Families::of(self.vips.iter().map(|vip| vip.address()))
    }
}
